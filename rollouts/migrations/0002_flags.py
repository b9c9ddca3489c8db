"""Flags, the versions of their exposure, and the changes that people propose."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import rollouts.models.flag
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('rollouts', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Flag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=120, unique=True, validators=[django.core.validators.RegexValidator('^ai\\.[a-z0-9]+(?:-[a-z0-9]+)*\\.[a-z0-9]+(?:-[a-z0-9]+)*$', 'Write ai.<feature>.<change-id> in lower-case letters, digits and hyphens.')])),
                ('title', models.CharField(max_length=160)),
                ('description', models.TextField(blank=True)),
                ('feature_class', models.CharField(choices=[('assistants', 'Assistants and chat'), ('search', 'Search and embeddings'), ('tools', 'Tools that read data'), ('agents', 'Agents that act'), ('training', 'Use of data for training')], max_length=32)),
                ('kind', models.CharField(choices=[('boolean', 'Boolean'), ('string', 'String'), ('integer', 'Integer'), ('number', 'Number'), ('object', 'Object')], max_length=16)),
                ('variants', models.JSONField()),
                ('control', models.CharField(max_length=60)),
                ('sticky', models.CharField(max_length=60)),
                ('rollout_salt', models.CharField(default=rollouts.models.flag.new_salt, max_length=32)),
                ('variant_salt', models.CharField(default=rollouts.models.flag.new_salt, max_length=32)),
                ('policy', models.CharField(choices=[('raising', 'Changes that may raise exposure'), ('every', 'Every change')], default='raising', max_length=16)),
                ('model', models.CharField(blank=True, max_length=80)),
                ('created_at', models.DateTimeField()),
                ('archived_at', models.DateTimeField(null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('rollout', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='flags', to='rollouts.rollout')),
            ],
            options={
                'ordering': ['key'],
                'constraints': [
                    models.UniqueConstraint(condition=models.Q(('archived_at', None), models.Q(('model', ''), _negated=True)), fields=('model',), name='flag_once_per_model'),
                ],
            },
        ),
        migrations.CreateModel(
            name='FlagVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('exposure', models.JSONField()),
                ('at', models.DateTimeField()),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='rollouts.flag')),
            ],
            options={
                'ordering': ['-number'],
                'constraints': [
                    models.UniqueConstraint(fields=('flag', 'number'), name='flag_version_in_order'),
                ],
            },
        ),
        migrations.CreateModel(
            name='FlagChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('exposure', models.JSONField()),
                ('raises', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=200), default=list, size=None)),
                ('needs_approval', models.BooleanField()),
                ('is_emergency', models.BooleanField(default=False)),
                ('reason', models.CharField(max_length=500)),
                ('status', models.CharField(choices=[('proposed', 'Waits for approval'), ('applied', 'Applied'), ('rejected', 'Rejected'), ('overtaken', 'Overtaken')], max_length=16)),
                ('proposed_at', models.DateTimeField()),
                ('decided_at', models.DateTimeField(null=True)),
                ('comment', models.CharField(blank=True, max_length=500)),
                ('review_due_at', models.DateTimeField(null=True)),
                ('reviewed_at', models.DateTimeField(null=True)),
                ('review_comment', models.CharField(blank=True, max_length=500)),
                ('decided_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('flag', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='changes', to='rollouts.flag')),
                ('phase', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.phase')),
                ('proposed_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('reviewed_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('base', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.flagversion')),
                ('version', models.OneToOneField(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='change', to='rollouts.flagversion')),
            ],
            options={
                'ordering': ['-number'],
                'constraints': [
                    models.UniqueConstraint(fields=('flag', 'number'), name='flag_change_in_order'),
                    models.UniqueConstraint(condition=models.Q(('status', 'proposed')), fields=('flag',), name='flag_one_change_proposed'),
                    models.CheckConstraint(condition=models.Q(models.Q(('status', 'applied'), _negated=True), ('needs_approval', False), models.Q(('decided_by__isnull', False), models.Q(('decided_by', models.F('proposed_by')), _negated=True)), _connector='OR'), name='flag_change_four_eyes'),
                    models.CheckConstraint(condition=models.Q(('reviewed_by', None), models.Q(('reviewed_by', models.F('proposed_by')), _negated=True), _connector='OR'), name='flag_review_by_another'),
                    models.CheckConstraint(condition=models.Q(('is_emergency', False), ('raises', []), _connector='OR'), name='flag_emergency_only_lowers'),
                ],
            },
        ),
        migrations.AddField(
            model_name='flag',
            name='current',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='rollouts.flagversion'),
        ),
    ]
