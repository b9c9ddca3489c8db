import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('governance', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='Rollout',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.CharField(max_length=60, unique=True, validators=[django.core.validators.RegexValidator('^[a-z0-9]+(?:-[a-z0-9]+)*$', 'Use lower-case letters, digits and single hyphens.')])),
                ('name', models.CharField(max_length=100)),
                ('plan_key', models.CharField(max_length=60)),
                ('plan_version', models.PositiveIntegerField()),
                ('plan', models.JSONField()),
                ('status', models.CharField(choices=[('planned', 'Planned'), ('running', 'Under way'), ('finished', 'Finished'), ('stopped', 'Stopped')], default='planned', max_length=16)),
                ('starts_on', models.DateField()),
                ('paused_at', models.DateTimeField(null=True)),
                ('pause_reason', models.CharField(blank=True, max_length=300)),
                ('created_at', models.DateTimeField()),
                ('closed_at', models.DateTimeField(null=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'indexes': [models.Index(fields=['status', '-created_at'], name='rollouts_ro_status_f0c8ec_idx')],
            },
        ),
        migrations.CreateModel(
            name='Phase',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('key', models.CharField(max_length=60)),
                ('title', models.CharField(max_length=120)),
                ('lane', models.CharField(choices=[('internal', 'Internal'), ('pilot', 'Pilot'), ('limited', 'Limited'), ('ramp', 'Ramp'), ('general', 'General')], max_length=16)),
                ('status', models.CharField(choices=[('waiting', 'Not begun'), ('current', 'Current'), ('done', 'Done'), ('rolled_back', 'Rolled back')], default='waiting', max_length=16)),
                ('planned_start', models.DateField()),
                ('planned_end', models.DateField()),
                ('entered_at', models.DateTimeField(null=True)),
                ('left_at', models.DateTimeField(null=True)),
                ('rollout', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='phases', to='rollouts.rollout')),
            ],
            options={
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('rollout', 'position'), name='phase_once_per_position'), models.UniqueConstraint(condition=models.Q(('status', 'current')), fields=('rollout',), name='phase_one_current')],
            },
        ),
        migrations.CreateModel(
            name='Rollback',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('reason', models.CharField(max_length=500)),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
                ('rto_minutes', models.PositiveIntegerField(null=True)),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('finished_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('from_phase', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='rollouts.phase')),
                ('to_phase', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='rollouts.phase')),
                ('rollout', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rollbacks', to='rollouts.rollout')),
            ],
            options={
                'ordering': ['-started_at', '-pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('finished_at', None)), fields=('rollout',), name='rollback_one_under_way')],
            },
        ),
        migrations.CreateModel(
            name='Gate',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveSmallIntegerField()),
                ('title', models.CharField(max_length=160)),
                ('roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('product', 'Product'), ('engineering', 'Engineering'), ('security', 'Security'), ('compliance', 'Compliance')], max_length=16), size=None)),
                ('status', models.CharField(choices=[('closed', 'Not reached'), ('open', 'Open'), ('rejected', 'No-go'), ('passed', 'Passed')], default='closed', max_length=16)),
                ('planned_on', models.DateField()),
                ('opened_at', models.DateTimeField(null=True)),
                ('decided_at', models.DateTimeField(null=True)),
                ('phase', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, related_name='gate', to='rollouts.phase')),
                ('rollout', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gates', to='rollouts.rollout')),
            ],
            options={
                'ordering': ['number'],
                'constraints': [models.UniqueConstraint(fields=('rollout', 'number'), name='gate_once_per_number')],
            },
        ),
        migrations.CreateModel(
            name='Criterion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField()),
                ('key', models.CharField(max_length=60)),
                ('title', models.CharField(max_length=160)),
                ('quote', models.TextField()),
                ('origin', models.CharField(max_length=16)),
                ('group', models.CharField(blank=True, max_length=80)),
                ('owner', models.CharField(blank=True, max_length=60)),
                ('role', models.CharField(choices=[('product', 'Product'), ('engineering', 'Engineering'), ('security', 'Security'), ('compliance', 'Compliance')], max_length=16)),
                ('kind', models.CharField(choices=[('metric', 'Measured'), ('attestation', 'Attested')], max_length=16)),
                ('severity', models.CharField(choices=[('hard', 'Must hold'), ('security', "Must hold, can't be waived"), ('observe', 'Only observed')], default='hard', max_length=16)),
                ('evidence', models.TextField(blank=True)),
                ('metric', models.CharField(blank=True, max_length=80)),
                ('operator', models.CharField(blank=True, max_length=2)),
                ('threshold', models.FloatField(null=True)),
                ('unit', models.CharField(blank=True, max_length=8)),
                ('window_hours', models.PositiveIntegerField(null=True)),
                ('minimum_sample', models.PositiveIntegerField(null=True)),
                ('sustain_hours', models.PositiveIntegerField(default=0)),
                ('gate', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='criteria', to='rollouts.gate')),
            ],
            options={
                'ordering': ['position'],
                'constraints': [models.UniqueConstraint(fields=('gate', 'key'), name='criterion_once_per_gate'), models.CheckConstraint(condition=models.Q(models.Q(('kind', 'attestation'), ('metric', '')), models.Q(('kind', 'metric'), ('threshold__isnull', False), ('window_hours__isnull', False), models.Q(('metric', ''), _negated=True)), _connector='OR'), name='criterion_is_measured_or_attested')],
            },
        ),
        migrations.CreateModel(
            name='Evaluation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.PositiveIntegerField()),
                ('at', models.DateTimeField()),
                ('trigger', models.CharField(choices=[('schedule', 'On schedule'), ('person', 'By a person'), ('act', 'After an act')], max_length=16)),
                ('rules_version', models.PositiveSmallIntegerField()),
                ('verdict', models.CharField(choices=[('pass', 'pass'), ('waived', 'waived'), ('inconclusive', 'inconclusive'), ('no_data', 'no_data'), ('error', 'error'), ('fail', 'fail')], max_length=16)),
                ('is_ready', models.BooleanField()),
                ('digest', models.CharField(max_length=64)),
                ('evidence', models.TextField()),
                ('evidence_hash', models.CharField(max_length=64, unique=True)),
                ('previous_hash', models.CharField(max_length=64)),
                ('took_ms', models.PositiveIntegerField(default=0)),
                ('requested_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('gate', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='evaluations', to='rollouts.gate')),
            ],
            options={
                'ordering': ['-sequence'],
                'indexes': [models.Index(fields=['gate', 'digest', '-sequence'], name='rollouts_ev_gate_id_066499_idx')],
                'constraints': [models.UniqueConstraint(fields=('gate', 'sequence'), name='evaluation_in_order')],
            },
        ),
        migrations.CreateModel(
            name='ReleaseLogEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.PositiveIntegerField()),
                ('at', models.DateTimeField()),
                ('actor_name', models.CharField(max_length=120)),
                ('kind', models.CharField(choices=[('started', 'Started'), ('phase', 'Phase'), ('verdict', 'Verdict'), ('signature', 'Signature'), ('voided', 'Signature voided'), ('attestation', 'Attestation'), ('waiver', 'Waiver'), ('paused', 'Paused'), ('resumed', 'Resumed'), ('rollback', 'Rollback'), ('reopened', 'Reopened'), ('finished', 'Finished')], max_length=16)),
                ('glyph', models.CharField(blank=True, max_length=16)),
                ('text', models.TextField()),
                ('actor', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('gate', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='log', to='rollouts.gate')),
                ('rollout', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='log', to='rollouts.rollout')),
            ],
            options={
                'ordering': ['-sequence'],
                'indexes': [models.Index(fields=['gate', '-sequence'], name='rollouts_re_gate_id_ce9511_idx')],
                'constraints': [models.UniqueConstraint(fields=('rollout', 'sequence'), name='release_log_in_order')],
            },
        ),
        migrations.CreateModel(
            name='Attestation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('met', models.BooleanField()),
                ('summary', models.CharField(blank=True, max_length=40)),
                ('note', models.TextField()),
                ('link', models.URLField(blank=True, max_length=500)),
                ('file', models.FileField(blank=True, max_length=300, upload_to='')),
                ('file_name', models.CharField(blank=True, max_length=200)),
                ('file_sha256', models.CharField(blank=True, max_length=64)),
                ('at', models.DateTimeField()),
                ('by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('criterion', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='attestations', to='rollouts.criterion')),
            ],
            options={
                'ordering': ['-at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='SignOff',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('role', models.CharField(choices=[('product', 'Product'), ('engineering', 'Engineering'), ('security', 'Security'), ('compliance', 'Compliance')], max_length=16)),
                ('decision', models.CharField(choices=[('go', 'Go'), ('no_go', 'No-go')], max_length=8)),
                ('comment', models.TextField(blank=True)),
                ('digest', models.CharField(max_length=64)),
                ('at', models.DateTimeField()),
                ('voided_at', models.DateTimeField(null=True)),
                ('void_reason', models.CharField(blank=True, max_length=300)),
                ('evaluation', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.evaluation')),
                ('gate', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='signoffs', to='rollouts.gate')),
                ('person', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-at', '-pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('voided_at', None)), fields=('gate', 'role'), name='signoff_once_per_role'), models.UniqueConstraint(condition=models.Q(('voided_at', None)), fields=('gate', 'person'), name='signoff_once_per_person')],
            },
        ),
        migrations.CreateModel(
            name='Waiver',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('covers', models.CharField(max_length=16)),
                ('reason', models.TextField()),
                ('until', models.DateTimeField()),
                ('requested_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(null=True)),
                ('approved', models.BooleanField(null=True)),
                ('criterion', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='waivers', to='rollouts.criterion')),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('requested_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-requested_at', '-pk'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('decided_by', models.F('requested_by')), _negated=True), ('approved', False), _connector='OR'), name='waiver_four_eyes'), models.UniqueConstraint(condition=models.Q(('decided_at', None)), fields=('criterion',), name='waiver_one_asked')],
            },
        ),
        migrations.AddField(
            model_name='gate',
            name='latest',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='rollouts.evaluation'),
        ),
    ]
