"""Budgets, raises, notices and reported false throttles. Constraints stand in CreateModel: a new tenant runs fewer statements."""

import costs.models.budget
import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


# Refusals by budgets are few among the calls: the index that counts them stays small.
EVENT_BUDGET = "CREATE INDEX event_budget ON event (started_at) WHERE error_code IN ('budget_exceeded', 'budget_throttled')"


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0002_event_partitions'),
        ('governance', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='Budget',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=80)),
                ('scope', models.CharField(choices=[('tenant', 'Whole organisation'), ('project', 'Project'), ('agent', 'Agent'), ('model', 'Model'), ('key', 'Key')], max_length=8)),
                ('ref', models.CharField(blank=True, max_length=128)),
                ('period', models.CharField(choices=[('day', 'Day'), ('month', 'Month')], default='month', max_length=8)),
                ('amount', models.DecimalField(decimal_places=2, max_digits=14)),
                ('action', models.CharField(choices=[('alert', 'Alert only'), ('throttle', 'Slow down, then block'), ('block', 'Block')], default='alert', max_length=8)),
                ('thresholds', django.contrib.postgres.fields.ArrayField(base_field=models.SmallIntegerField(), default=costs.models.budget.default_thresholds, size=None)),
                ('throttle_from', models.SmallIntegerField(default=80)),
                ('environment', models.CharField(blank=True, max_length=40)),
                ('state', models.CharField(choices=[('draft', 'Draft'), ('simulated', 'Simulated'), ('enforced', 'In force'), ('off', 'Off')], default='draft', max_length=12)),
                ('simulation', models.JSONField(null=True)),
                ('simulated_at', models.DateTimeField(null=True)),
                ('enforced_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'budget',
                'ordering': ['name'],
                'constraints': [
                    models.UniqueConstraint(fields=('name',), name='budget_name_once'),
                    models.CheckConstraint(condition=models.Q(('amount__gt', 0)), name='budget_amount_positive'),
                    models.CheckConstraint(condition=models.Q(('throttle_from__gte', 1), ('throttle_from__lte', 99)), name='budget_throttle_from_percent'),
                    models.CheckConstraint(condition=models.Q(models.Q(('ref', ''), ('scope', 'tenant')), models.Q(models.Q(('scope', 'tenant'), _negated=True), models.Q(('ref', ''), _negated=True)), _connector='OR'), name='budget_ref_by_scope'),
                ],
            },
        ),
        migrations.CreateModel(
            name='BudgetIncident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('priority', models.CharField(default='P0', max_length=2)),
                ('reason', models.CharField(max_length=400)),
                ('action_before', models.CharField(choices=[('alert', 'Alert only'), ('throttle', 'Slow down, then block'), ('block', 'Block')], max_length=8)),
                ('opened_at', models.DateTimeField()),
                ('resolved_at', models.DateTimeField(null=True)),
                ('resolution', models.CharField(blank=True, max_length=400)),
                ('budget', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='incidents', to='costs.budget')),
                ('opened_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('resolved_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'budget_incident',
                'ordering': ['-opened_at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('resolved_at', None)), fields=('budget',), name='budget_incident_one_open'),
                    models.CheckConstraint(condition=models.Q(models.Q(('resolved_at', None), ('resolved_by', None)), models.Q(('resolved_at__isnull', False), ('resolved_by__isnull', False)), _connector='OR'), name='budget_incident_resolved_by_somebody'),
                ],
            },
        ),
        migrations.CreateModel(
            name='BudgetNotice',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('period_start', models.DateTimeField()),
                ('threshold', models.SmallIntegerField()),
                ('spent', models.DecimalField(decimal_places=14, max_digits=34)),
                ('amount', models.DecimalField(decimal_places=2, max_digits=14)),
                ('at', models.DateTimeField()),
                ('budget', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='costs.budget')),
            ],
            options={
                'db_table': 'budget_notice',
                'ordering': ['-at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(fields=('budget', 'period_start', 'threshold'), name='budget_notice_once'),
                ],
            },
        ),
        migrations.CreateModel(
            name='BudgetRaise',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('extra', models.DecimalField(decimal_places=2, max_digits=14)),
                ('reason', models.CharField(max_length=400)),
                ('until', models.DateTimeField()),
                ('created_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('budget', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='raises', to='costs.budget')),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'budget_raise',
                'ordering': ['-created_at', '-pk'],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('extra__gt', 0)), name='budget_raise_positive'),
                    models.CheckConstraint(condition=models.Q(('until__gt', models.F('created_at'))), name='budget_raise_not_empty'),
                ],
            },
        ),
        migrations.RunSQL(EVENT_BUDGET, "DROP INDEX event_budget", hints={"placement": "tenant"}),
    ]
