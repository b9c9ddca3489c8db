"""Anomalies, the passes that look for them, and how much an organisation wants to be told. Constraints stand in CreateModel."""

import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
from decimal import Decimal
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0004_verdicts'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='AnomalyRun',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('period', models.CharField(choices=[('day', 'Day'), ('hour', 'Hour')], max_length=4)),
                ('start', models.DateTimeField()),
                ('series', models.IntegerField()),
                ('flagged', models.IntegerField()),
                ('told', models.IntegerField()),
                ('finished_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'anomaly_run',
                'constraints': [models.UniqueConstraint(fields=('period', 'start'), name='anomaly_run_once')],
            },
        ),
        migrations.CreateModel(
            name='AnomalySettings',
            fields=[
                ('id', models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ('sensitivity', models.CharField(choices=[('low', 'Low'), ('medium', 'Medium'), ('high', 'High')], default='medium', max_length=8)),
                ('floor', models.DecimalField(decimal_places=2, default=Decimal('5'), max_digits=12)),
                ('floor_percent', models.DecimalField(decimal_places=2, default=Decimal('1'), max_digits=5)),
                ('muted', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=210), default=list, size=None)),
            ],
            options={
                'db_table': 'anomaly_settings',
                'constraints': [models.CheckConstraint(condition=models.Q(('id', 1)), name='anomaly_settings_one_row'), models.CheckConstraint(condition=models.Q(('floor__gte', 0), ('floor_percent__gte', 0), ('floor_percent__lte', 100)), name='anomaly_settings_floor')],
            },
        ),
        migrations.CreateModel(
            name='Anomaly',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('dimension', models.CharField(choices=[('tenant', 'Whole organisation'), ('project', 'Project'), ('model', 'Model'), ('key', 'Key'), ('agent', 'Agent')], max_length=8)),
                ('ref', models.CharField(blank=True, max_length=200)),
                ('period', models.CharField(choices=[('day', 'Day'), ('hour', 'Hour')], max_length=4)),
                ('kind', models.CharField(choices=[('spike', 'Spike'), ('shift', 'New level'), ('ramp', 'Ramp'), ('drop', 'Drop'), ('unit_cost', 'Dearer calls'), ('runaway', 'Runaway'), ('reported', 'Reported as missed')], max_length=10)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('expected', models.DecimalField(decimal_places=6, max_digits=20)),
                ('actual', models.DecimalField(decimal_places=6, max_digits=20)),
                ('excess', models.DecimalField(decimal_places=6, max_digits=20)),
                ('score', models.FloatField()),
                ('points', models.JSONField(default=list)),
                ('band', models.JSONField(default=list)),
                ('drivers', models.JSONField(default=list)),
                ('contributors', models.JSONField(default=list)),
                ('also', models.JSONField(default=list)),
                ('status', models.CharField(choices=[('open', 'Open'), ('acknowledged', 'Acknowledged'), ('closed', 'Closed')], default='open', max_length=12)),
                ('feedback', models.CharField(blank=True, choices=[('', 'None yet'), ('true', 'Real'), ('planned', 'Planned'), ('false', 'False alert')], default='', max_length=8)),
                ('feedback_note', models.CharField(blank=True, max_length=400)),
                ('feedback_at', models.DateTimeField(null=True)),
                ('planned_until', models.DateField(null=True)),
                ('created_at', models.DateTimeField()),
                ('feedback_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'anomaly',
                'ordering': ['-first_at', '-pk'],
                'indexes': [models.Index(fields=['-last_at'], name='anomaly_newest')],
                'constraints': [models.UniqueConstraint(fields=('dimension', 'ref', 'period', 'kind', 'first_at'), name='anomaly_once'), models.CheckConstraint(condition=models.Q(('excess', django.db.models.expressions.CombinedExpression(models.F('actual'), '-', models.F('expected')))), name='anomaly_adds_up'), models.CheckConstraint(condition=models.Q(('last_at__gt', models.F('first_at'))), name='anomaly_not_empty'), models.CheckConstraint(condition=models.Q(models.Q(('feedback', ''), ('feedback_at', None), ('feedback_by', None)), models.Q(models.Q(('feedback', ''), _negated=True), ('feedback_at__isnull', False), ('feedback_by__isnull', False)), _connector='OR'), name='anomaly_feedback_by_somebody'), models.CheckConstraint(condition=models.Q(('planned_until', None), ('feedback', 'planned'), _connector='OR'), name='anomaly_planned_until')],
            },
        ),
    ]
