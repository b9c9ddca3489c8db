"""Traffic shifts, and the windows they are judged by."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rollouts', '0004_rollback_rules'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Shift',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60, unique=True)),
                ('name', models.CharField(max_length=160)),
                ('challenger', models.CharField(max_length=60)),
                ('steps', models.JSONField()),
                ('window_calls', models.PositiveIntegerField()),
                ('latency_margin', models.FloatField()),
                ('error_margin', models.FloatField()),
                ('savings_floor', models.FloatField()),
                ('status', models.CharField(choices=[('running', 'Under way'), ('paused', 'Paused'), ('finished', 'Finished'), ('ended', 'Ended')], default='running', max_length=16)),
                ('step', models.PositiveSmallIntegerField()),
                ('entered_at', models.DateTimeField(null=True)),
                ('seen_calls', models.PositiveBigIntegerField(default=0)),
                ('looked_at', models.DateTimeField(null=True)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('created_at', models.DateTimeField()),
                ('ended_at', models.DateTimeField(null=True)),
                ('change', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.flagchange')),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='shifts', to='rollouts.flag')),
                ('proposer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.flagversion')),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('status__in', ['running', 'paused'])), fields=('flag',), name='shift_one_per_flag'),
                    models.CheckConstraint(condition=models.Q(('window_calls__gt', 0)), name='shift_looks_at_calls'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ShiftWindow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.PositiveIntegerField()),
                ('percentage', models.PositiveSmallIntegerField()),
                ('at', models.DateTimeField()),
                ('verdict', models.CharField(choices=[('go', 'Go on'), ('wait', 'Wait'), ('pause', 'Pause')], max_length=8)),
                ('evidence', models.TextField()),
                ('evidence_hash', models.CharField(max_length=64, unique=True)),
                ('previous_hash', models.CharField(max_length=64)),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('shift', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='windows', to='rollouts.shift')),
            ],
            options={
                'ordering': ['-sequence'],
                'constraints': [
                    models.UniqueConstraint(fields=('shift', 'sequence'), name='shift_window_in_order'),
                ],
            },
        ),
    ]
