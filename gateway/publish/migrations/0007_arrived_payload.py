"""Payloads on their way from the planes to their organisation."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0006_circuit_index'),
    ]

    operations = [
        migrations.CreateModel(
            name='ArrivedPayload',
            fields=[
                ('event_id', models.UUIDField(primary_key=True, serialize=False)),
                ('tenant', models.TextField(help_text='public id of the tenant')),
                ('at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('project', models.TextField()),
                ('key_id', models.TextField()),
                ('model', models.TextField()),
                ('mode', models.TextField()),
                ('subject', models.TextField()),
                ('sealed', models.TextField()),
            ],
            options={
                'db_table': 'gateway_payload',
                'indexes': [models.Index(fields=['tenant'], name='gateway_payload_tenant')],
            },
        ),
    ]
