import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    """Shadows, and the pairs of a call with what its candidate would have answered."""

    dependencies = [
        ('rollouts', '0008_surveys'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Shadow',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=60, unique=True)),
                ('name', models.CharField(max_length=160)),
                ('source', models.CharField(max_length=80)),
                ('candidate', models.CharField(max_length=80)),
                ('judge', models.CharField(blank=True, max_length=80)),
                ('project', models.CharField(max_length=48)),
                ('share_percent', models.FloatField()),
                ('cap_usd', models.DecimalField(decimal_places=2, max_digits=14)),
                ('latency_tolerance', models.FloatField()),
                ('cost_tolerance', models.FloatField()),
                ('length_tolerance', models.FloatField()),
                ('status', models.CharField(choices=[('draft', 'Waits for a second person'), ('running', 'Under way'), ('paused', 'Paused'), ('done', 'Done')], default='draft', max_length=16)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('key_id', models.CharField(blank=True, max_length=16)),
                ('collected_at', models.DateTimeField(null=True)),
                ('judge_note', models.CharField(blank=True, max_length=300)),
                ('created_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(null=True)),
                ('ended_at', models.DateTimeField(null=True)),
                ('proposer', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('starter', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('status__in', ['running', 'paused'])), fields=('source',), name='shadow_one_per_model'),
                    models.CheckConstraint(condition=models.Q(('share_percent__gt', 0), ('share_percent__lte', 100)), name='shadow_share_percent'),
                    models.CheckConstraint(condition=models.Q(('cap_usd__gt', 0)), name='shadow_cap_positive'),
                ],
            },
        ),
        migrations.CreateModel(
            name='ShadowPair',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('call', models.UUIDField()),
                ('answer', models.UUIDField()),
                ('at', models.DateTimeField()),
                ('is_ok', models.BooleanField()),
                ('call_ms', models.FloatField()),
                ('answer_ms', models.FloatField()),
                ('call_tokens', models.PositiveIntegerField(null=True)),
                ('answer_tokens', models.PositiveIntegerField(null=True)),
                ('call_usd', models.DecimalField(decimal_places=14, max_digits=34, null=True)),
                ('answer_usd', models.DecimalField(decimal_places=14, max_digits=34, null=True)),
                ('verdict', models.CharField(blank=True, choices=[('', 'Not judged'), ('preferred', 'Candidate preferred'), ('baseline', 'Present one preferred'), ('tie', 'Tie'), ('inconsistent', 'Judged by order'), ('not_kept', 'Nothing kept to judge'), ('withheld', 'Personal data left')], max_length=16)),
                ('judged_at', models.DateTimeField(null=True)),
                ('shadow', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='pairs', to='rollouts.shadow')),
            ],
            options={
                'ordering': ['-at', '-pk'],
                'constraints': [models.UniqueConstraint(fields=('shadow', 'answer'), name='shadow_pair_once')],
                'indexes': [models.Index(fields=['shadow', '-at', '-id'], name='shadow_pair_newest')],
            },
        ),
    ]
