"""How calls went, by hour and by all that a model's usage can be narrowed to."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0005_anomaly'),
    ]

    operations = [
        migrations.CreateModel(
            name='CallHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('project', models.TextField()),
                ('agent', models.TextField()),
                ('model', models.TextField()),
                ('provider', models.TextField()),
                ('deployment', models.TextField()),
                ('key_id', models.TextField()),
                ('status', models.CharField(max_length=16)),
                ('calls', models.BigIntegerField()),
                ('cache_hits', models.BigIntegerField()),
                ('cache_misses', models.BigIntegerField()),
                ('durations', models.JSONField()),
                ('ttfts', models.JSONField()),
                ('error_codes', models.JSONField()),
            ],
            options={
                'db_table': 'call_hour',
                'constraints': [models.UniqueConstraint(fields=('model', 'hour', 'project', 'agent', 'provider', 'deployment', 'key_id', 'status'), name='call_hour_once')],
            },
        ),
    ]
