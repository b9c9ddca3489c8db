"""Rollback rules with what their watcher counts, incidents, and changes of flags that nobody proposed."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rollouts', '0003_experiments'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RollbackWatch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('ticked_at', models.DateTimeField()),
                ('took_ms', models.IntegerField()),
                ('rules', models.IntegerField()),
            ],
        ),
        migrations.AlterField(
            model_name='flagchange',
            name='proposed_by',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.CreateModel(
            name='RollbackRule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('text', models.CharField(max_length=500)),
                ('is_dry_run', models.BooleanField(default=False)),
                ('clear_percent', models.PositiveSmallIntegerField(default=10)),
                ('cooldown_minutes', models.PositiveIntegerField(default=30)),
                ('state', models.CharField(choices=[('armed', 'Armed'), ('frozen', 'Frozen: no data'), ('paused', 'Paused'), ('tripped', 'Tripped')], default='paused', max_length=8)),
                ('state_at', models.DateTimeField()),
                ('created_at', models.DateTimeField()),
                ('armed_at', models.DateTimeField(null=True)),
                ('removed_at', models.DateTimeField(null=True)),
                ('baselines', models.JSONField(default=dict)),
                ('memory', models.JSONField(default=list)),
                ('step_end', models.DateTimeField(null=True)),
                ('outcome', models.CharField(blank=True, max_length=8)),
                ('reading', models.JSONField(default=list)),
                ('unknown_since', models.DateTimeField(null=True)),
                ('is_firing', models.BooleanField(default=False)),
                ('fired_at', models.DateTimeField(null=True)),
                ('fired_count', models.PositiveIntegerField(default=0)),
                ('armed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rollback_rules', to='rollouts.flag')),
            ],
            options={
                'ordering': ['pk'],
                'indexes': [models.Index(condition=models.Q(('removed_at', None)), fields=['state'], name='rollback_rule_live')],
            },
        ),
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField(unique=True)),
                ('title', models.CharField(max_length=160)),
                ('failure_class', models.CharField(choices=[('error', 'Errors'), ('latency', 'Latency'), ('cost', 'Cost'), ('quality', 'Quality'), ('data', 'Data and safety')], max_length=8)),
                ('status', models.CharField(choices=[('open', 'Open'), ('acknowledged', 'Acknowledged'), ('resolved', 'Resolved')], default='open', max_length=12)),
                ('variant', models.CharField(max_length=60)),
                ('evidence', models.TextField()),
                ('evidence_sha256', models.CharField(max_length=64)),
                ('began_at', models.DateTimeField()),
                ('opened_at', models.DateTimeField()),
                ('acknowledged_at', models.DateTimeField(null=True)),
                ('resolved_at', models.DateTimeField(null=True)),
                ('resolution', models.CharField(blank=True, max_length=1000)),
                ('acknowledged_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('change', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name='incident', to='rollouts.flagchange')),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='incidents', to='rollouts.flag')),
                ('resolved_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='incidents', to='rollouts.rollbackrule')),
            ],
            options={
                'ordering': ['-number'],
                'indexes': [models.Index(condition=models.Q(('status', 'resolved'), _negated=True), fields=['-number'], name='incident_unresolved')],
                'constraints': [
                    models.CheckConstraint(condition=models.Q(('acknowledged_by', None), ('acknowledged_at__isnull', False), _connector='OR'), name='incident_acknowledged_at'),
                    models.CheckConstraint(condition=models.Q(models.Q(('status', 'resolved'), _negated=True), models.Q(('resolved_at__isnull', False), ('resolved_by__isnull', False)), _connector='OR'), name='incident_resolved_by'),
                ],
            },
        ),
        migrations.CreateModel(
            name='RollbackMinute',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('variant', models.CharField(max_length=60)),
                ('minute', models.DateTimeField()),
                ('calls', models.IntegerField()),
                ('failed', models.IntegerField()),
                ('blocked', models.IntegerField()),
                ('priced', models.IntegerField()),
                ('cost', models.FloatField()),
                ('cost_squared', models.FloatField()),
                ('latency', models.JSONField()),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='rollouts.flag')),
            ],
            options={
                'indexes': [models.Index(fields=['minute'], name='rollback_minute_age')],
                'constraints': [models.UniqueConstraint(fields=('flag', 'variant', 'minute'), name='rollback_minute_once')],
            },
        ),
    ]
