"""Policies with their versions, and guardrails. Constraints stand in CreateModel: a new tenant runs fewer statements."""

import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0003_alerts'),
    ]

    operations = [
        migrations.CreateModel(
            name='Guardrail',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=60, unique=True, validators=[django.core.validators.RegexValidator('^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$', 'Use lower-case letters, digits and hyphens.')])),
                ('kind', models.CharField(choices=[('pii', 'Personal data'), ('secrets', 'Keys and secrets'), ('injection', 'Prompt injection'), ('topics', 'Blocked topics'), ('size', 'Size')], max_length=12)),
                ('mode', models.CharField(choices=[('off', 'Off'), ('monitor', 'Monitor'), ('enforce', 'Enforced')], default='monitor', max_length=8)),
                ('action', models.CharField(choices=[('redact', 'Replace what is found'), ('block', 'Refuse the call')], default='block', max_length=8)),
                ('scope', models.CharField(choices=[('tenant', 'Whole organisation'), ('project', 'Project'), ('model', 'Model'), ('agent', 'Agent')], default='tenant', max_length=8)),
                ('ref', models.CharField(blank=True, max_length=128)),
                ('on_input', models.BooleanField(default=True)),
                ('on_output', models.BooleanField(default=False)),
                ('entities', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=24), blank=True, default=list, size=None)),
                ('terms', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=80), blank=True, default=list, size=None)),
                ('threshold', models.FloatField(default=0.5)),
                ('max_characters', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Policy',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=40, validators=[django.core.validators.RegexValidator('^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$', 'Use lower-case letters, digits and hyphens.')])),
                ('name', models.CharField(max_length=60, validators=[django.core.validators.RegexValidator('^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$', 'Use lower-case letters, digits and hyphens.')])),
                ('description', models.CharField(blank=True, max_length=300)),
                ('is_critical', models.BooleanField(default=False)),
                ('mode', models.CharField(choices=[('off', 'Off'), ('dry_run', 'Dry run'), ('enforce', 'Enforced')], default='off', max_length=8)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['namespace', 'name'],
                'constraints': [models.UniqueConstraint(fields=('namespace', 'name'), name='policy_name_once')],
            },
        ),
        migrations.CreateModel(
            name='PolicyVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('when', models.TextField()),
                ('require', models.TextField()),
                ('reason', models.CharField(blank=True, max_length=300)),
                ('note', models.CharField(blank=True, max_length=300)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('replay', models.JSONField(null=True)),
                ('replayed_at', models.DateTimeField(null=True)),
                ('author', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('policy', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='governance.policy')),
            ],
            options={
                'ordering': ['-number'],
                'constraints': [models.UniqueConstraint(fields=('policy', 'number'), name='policy_version_once')],
            },
        ),
        migrations.AddField(
            model_name='policy',
            name='active',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='governance.policyversion'),
        ),
    ]
