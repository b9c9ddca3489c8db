"""Payload rules, the decisions about them, and what is kept of calls."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0007_schema_recipe'),
    ]

    operations = [
        migrations.CreateModel(
            name='CallPayload',
            fields=[
                ('event_id', models.UUIDField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('expires_at', models.DateTimeField()),
                ('project', models.TextField()),
                ('key_id', models.TextField()),
                ('model', models.TextField()),
                ('mode', models.CharField(choices=[('none', 'Nothing'), ('metadata', 'Figures only'), ('redacted', 'Redacted texts'), ('full', 'Full texts')], max_length=8)),
                ('subject', models.TextField(blank=True)),
                ('sealed', models.TextField()),
                ('stored_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                'db_table': 'call_payload',
                'indexes': [models.Index(fields=['-at', '-event_id'], name='call_payload_newest'), models.Index(fields=['expires_at'], name='call_payload_expiry'), models.Index(condition=models.Q(('subject', ''), _negated=True), fields=['subject'], name='call_payload_subject')],
            },
        ),
        migrations.CreateModel(
            name='PayloadRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ref', models.CharField(blank=True, max_length=48)),
                ('mode', models.CharField(blank=True, choices=[('none', 'Nothing'), ('metadata', 'Figures only'), ('redacted', 'Redacted texts'), ('full', 'Full texts')], max_length=8)),
                ('days', models.PositiveSmallIntegerField()),
                ('reason', models.CharField(max_length=300)),
                ('status', models.CharField(choices=[('waiting', 'Waiting'), ('applied', 'In force'), ('rejected', 'Rejected'), ('withdrawn', 'Withdrawn')], default='waiting', max_length=10)),
                ('asked_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(null=True)),
                ('note', models.CharField(blank=True, max_length=300)),
                ('asked_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('status', 'waiting')), fields=('ref',), name='payload_request_one_waiting')],
            },
        ),
        migrations.CreateModel(
            name='PayloadSetting',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ref', models.CharField(blank=True, max_length=48, unique=True)),
                ('mode', models.CharField(choices=[('none', 'Nothing'), ('metadata', 'Figures only'), ('redacted', 'Redacted texts'), ('full', 'Full texts')], max_length=8)),
                ('days', models.PositiveSmallIntegerField()),
                ('set_at', models.DateTimeField()),
                ('set_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['ref'],
                'constraints': [models.CheckConstraint(condition=models.Q(('days__gte', 1), ('days__lte', 90)), name='payload_days_in_range')],
            },
        ),
    ]
