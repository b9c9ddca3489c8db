"""What planes tell of themselves: that they live, and what they serve since when."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('gateway', '0003_slots'),
    ]

    operations = [
        migrations.CreateModel(
            name='Plane',
            fields=[
                ('plane', models.TextField(help_text='one process', primary_key=True, serialize=False)),
                ('host', models.TextField()),
                ('started_at', models.DateTimeField()),
                ('seen_at', models.DateTimeField()),
                ('is_listening', models.BooleanField(help_text='told of changes at once; otherwise it asks every other second')),
                ('open_streams', models.IntegerField()),
                ('spool_bytes', models.BigIntegerField(help_text='events that are not in the database yet')),
            ],
            options={
                'db_table': 'gateway_plane',
            },
        ),
        migrations.CreateModel(
            name='Taken',
            fields=[
                ('pk', models.CompositePrimaryKey('tenant', 'plane', blank=True, editable=False, primary_key=True, serialize=False)),
                ('tenant', models.TextField(help_text='public id of the tenant')),
                ('plane', models.TextField()),
                ('version', models.BigIntegerField()),
                ('taken_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'gateway_taken',
            },
        ),
    ]
