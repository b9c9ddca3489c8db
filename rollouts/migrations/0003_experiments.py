"""Experiments on flags, and their readings."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rollouts', '0002_flags'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Experiment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60, unique=True)),
                ('name', models.CharField(max_length=160)),
                ('hypothesis', models.TextField()),
                ('champion', models.CharField(max_length=60)),
                ('metric', models.CharField(choices=[('error_rate', 'Error rate'), ('latency', 'Mean latency'), ('ttft', 'Mean time to first token'), ('cost', 'Cost per call'), ('output_tokens', 'Output tokens per call')], max_length=16)),
                ('better', models.CharField(choices=[('lower', 'Lower is better'), ('higher', 'Higher is better')], max_length=8)),
                ('effect', models.FloatField()),
                ('guardrails', models.JSONField(default=list)),
                ('expected_latency_delta', models.FloatField(null=True)),
                ('expected_quality_gain', models.FloatField(null=True)),
                ('minimum_units', models.PositiveIntegerField()),
                ('max_days', models.PositiveSmallIntegerField()),
                ('method', models.CharField(choices=[('sequential', 'Sequential: look at any time'), ('fixed', 'Fixed horizon: one look, at the minimum'), ('sprt', 'SPRT: an effect of this size, or none')], max_length=16)),
                ('auto_promote', models.BooleanField(default=False)),
                ('status', models.CharField(choices=[('draft', 'Draft'), ('running', 'Running'), ('stopped', 'Waits for a decision'), ('decided', 'Decided')], default='draft', max_length=16)),
                ('created_at', models.DateTimeField()),
                ('shares', models.JSONField(default=dict)),
                ('started_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('end_reason', models.CharField(blank=True, max_length=200)),
                ('decision', models.CharField(blank=True, choices=[('promote', 'Promote'), ('hold', 'Hold'), ('rollback', 'Roll back')], max_length=16)),
                ('winner', models.CharField(blank=True, max_length=60)),
                ('decided_at', models.DateTimeField(null=True)),
                ('note', models.CharField(blank=True, max_length=500)),
                ('change', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.flagchange')),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='experiments', to='rollouts.flag')),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('started_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.flagversion')),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('status', 'running')), fields=('flag',), name='experiment_one_per_flag'),
                    models.CheckConstraint(condition=models.Q(('status', 'draft'), models.Q(('started_at__isnull', False), ('version__isnull', False)), _connector='OR'), name='experiment_started_with_a_split'),
                    models.CheckConstraint(condition=models.Q(models.Q(('decided_at__isnull', False), ('status', 'decided'), models.Q(('decision', ''), _negated=True)), models.Q(models.Q(('status', 'decided'), _negated=True), ('decision', '')), _connector='OR'), name='experiment_decided_once'),
                    models.CheckConstraint(condition=models.Q(('effect__gt', 0)), name='experiment_looks_for_something'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ExperimentReading',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.PositiveIntegerField()),
                ('at', models.DateTimeField()),
                ('advice', models.CharField(choices=[('promote', 'Promote'), ('hold', 'Hold'), ('rollback', 'Roll back')], max_length=16)),
                ('assignment_p', models.FloatField()),
                ('evidence', models.TextField()),
                ('evidence_hash', models.CharField(max_length=64, unique=True)),
                ('previous_hash', models.CharField(max_length=64)),
                ('experiment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='readings', to='rollouts.experiment')),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-sequence'],
                'constraints': [
                    models.UniqueConstraint(fields=('experiment', 'sequence'), name='reading_in_order'),
                ],
            },
        ),
        migrations.AddField(
            model_name='experiment',
            name='latest',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.experimentreading'),
        ),
    ]
