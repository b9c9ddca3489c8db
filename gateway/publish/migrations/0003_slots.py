"""How many calls at once each plane has booked."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0002_circuit_change'),
    ]

    operations = [
        migrations.CreateModel(
            name='Slot',
            fields=[
                ('pk', models.CompositePrimaryKey('tenant', 'limit_id', 'plane', blank=True, editable=False, primary_key=True, serialize=False)),
                ('tenant', models.TextField(help_text='public id of the tenant')),
                ('limit_id', models.TextField()),
                ('plane', models.TextField(help_text='one process')),
                ('slots', models.IntegerField()),
                ('expires_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'gateway_slot',
                'indexes': [models.Index(fields=['expires_at'], name='gateway_slot_expires_at')],
            },
        ),
    ]
