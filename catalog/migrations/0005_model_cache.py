"""How long answers of a model are given again, and among whom."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0004_usage_limits'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='cache_scope',
            field=models.CharField(choices=[('tenant', 'The whole organisation'), ('project', 'Each project by itself'), ('key', 'Each key by itself')], default='tenant', max_length=8),
        ),
        migrations.AddField(
            model_name='model',
            name='cache_ttl_s',
            field=models.PositiveIntegerField(default=0),
        ),
    ]
