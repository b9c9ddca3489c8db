"""How long each change is waited for: a drill as long as its own RTO."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0010_drills'),
    ]

    operations = [
        migrations.AddField(
            model_name='effect',
            name='patience_s',
            field=models.PositiveIntegerField(default=1800),
        ),
    ]
