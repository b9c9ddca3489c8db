from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0035_quoted_commitment'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='billerror',
            options={'ordering': ['part', 'line']},
        ),
        migrations.AddField(
            model_name='billerror',
            name='part',
            field=models.SmallIntegerField(db_default=1, default=1),
        ),
        migrations.AddField(
            model_name='billfile',
            name='parts',
            field=models.JSONField(db_default=[], default=list),
        ),
        migrations.AddField(
            model_name='billrow',
            name='part',
            field=models.SmallIntegerField(db_default=1, default=1),
        ),
    ]
