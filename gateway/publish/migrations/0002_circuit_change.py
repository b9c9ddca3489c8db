from django.db import migrations, models


class Migration(migrations.Migration):
    """Where planes deliver what they think of deployments."""

    dependencies = [
        ('gateway', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='CircuitChange',
            fields=[
                ('event_id', models.UUIDField(primary_key=True, serialize=False)),
                ('tenant', models.TextField(help_text='public id of the tenant')),
                ('at', models.DateTimeField()),
                ('circuit', models.TextField(help_text='closed, open or half_open')),
                ('model', models.TextField(help_text='slug of the model whose call noticed')),
                ('provider', models.TextField()),
                ('deployment', models.TextField()),
                ('calls', models.IntegerField(help_text='in the window')),
                ('errors', models.IntegerField()),
                ('cooldown_s', models.FloatField()),
                ('reason', models.TextField()),
                ('is_told', models.BooleanField(db_default=False)),
            ],
            options={
                'db_table': 'gateway_circuit_change',
                'indexes': [models.Index(fields=['at'], name='gateway_circuit_change_at')],
            },
        ),
    ]
