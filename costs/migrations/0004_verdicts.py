"""What policies and guardrails said, by hour."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0003_budget'),
    ]

    operations = [
        migrations.CreateModel(
            name='VerdictHour',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('hour', models.DateTimeField()),
                ('step', models.TextField()),
                ('verdict', models.TextField()),
                ('found', models.TextField()),
                ('calls', models.BigIntegerField()),
                ('hits', models.BigIntegerField()),
            ],
            options={
                'db_table': 'verdict_hour',
                'constraints': [models.UniqueConstraint(fields=('hour', 'step', 'verdict', 'found'), name='verdict_hour_once')],
            },
        ),
    ]
