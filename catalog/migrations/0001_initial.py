import catalog.models.fields
import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import gateway.contract.keys
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('governance', '__first__'),
    ]

    operations = [
        migrations.CreateModel(
            name='Provider',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=48, unique=True)),
                ('name', models.CharField(max_length=80)),
                ('kind', models.CharField(choices=[('openai', 'OpenAI'), ('openai_compatible', 'OpenAI-compatible server')], default='openai_compatible', max_length=24)),
                ('base_url', models.URLField(max_length=300)),
                ('sealed_secret', models.TextField(blank=True, editable=False)),
                ('secret_set_at', models.DateTimeField(editable=False, null=True)),
                ('region', models.CharField(blank=True, max_length=32)),
                ('checked_at', models.DateTimeField(editable=False, null=True)),
                ('check_ok', models.BooleanField(editable=False, null=True)),
                ('check_ms', models.IntegerField(editable=False, null=True)),
                ('check_detail', models.CharField(blank=True, editable=False, max_length=300)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Model',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.CharField(max_length=80, unique=True, validators=[django.core.validators.RegexValidator('^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$', 'Use lower-case letters, digits, dots, hyphens and underscores; begin and end with a letter or digit.')])),
                ('name', models.CharField(max_length=80)),
                ('description', models.TextField(blank=True)),
                ('status', models.CharField(choices=[('draft', 'Draft'), ('submitted', 'Submitted'), ('approved', 'Approved'), ('deprecated', 'Deprecated'), ('retired', 'Retired')], default='draft', max_length=16)),
                ('capabilities', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=24), default=list, size=None)),
                ('context_window', models.PositiveIntegerField(blank=True, null=True)),
                ('max_output_tokens', models.PositiveIntegerField(default=4096)),
                ('feature_class', models.CharField(choices=[('assistants', 'Assistants and chat'), ('search', 'Search and embeddings'), ('tools', 'Tools that read data'), ('agents', 'Agents that act'), ('training', 'Use of data for training')], default='assistants', max_length=32)),
                ('data_sensitivity', models.CharField(choices=[('public', 'Public'), ('internal', 'Internal'), ('confidential', 'Confidential'), ('restricted', 'Restricted')], default='internal', max_length=16)),
                ('environment', models.CharField(default='production', max_length=16)),
                ('tags', models.JSONField(blank=True, default=dict)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['slug'],
            },
        ),
        migrations.CreateModel(
            name='Project',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('slug', models.SlugField(max_length=48, unique=True)),
                ('name', models.CharField(max_length=80)),
                ('description', models.TextField(blank=True)),
                ('cost_centre', models.CharField(blank=True, max_length=48)),
                ('environment', models.CharField(default='development', max_length=16)),
                ('is_enabled', models.BooleanField(default=True)),
                ('requests_per_minute', models.PositiveIntegerField(blank=True, null=True)),
                ('monthly_budget_usd', models.DecimalField(blank=True, decimal_places=2, max_digits=14, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(('monthly_budget_usd', None), ('monthly_budget_usd__gte', 0), _connector='OR'), name='project_budget_not_negative')],
            },
        ),
        migrations.CreateModel(
            name='Deployment',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('upstream_model', models.CharField(max_length=120)),
                ('weight', models.PositiveIntegerField(default=1)),
                ('priority', models.PositiveIntegerField(default=0)),
                ('is_enabled', models.BooleanField(default=True)),
                ('checked_at', models.DateTimeField(editable=False, null=True)),
                ('check_ok', models.BooleanField(editable=False, null=True)),
                ('check_trace', models.JSONField(editable=False, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('model', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deployments', to='catalog.model')),
                ('provider', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='deployments', to='catalog.provider')),
            ],
            options={
                'ordering': ['priority', 'pk'],
                'constraints': [models.UniqueConstraint(fields=('model', 'provider', 'upstream_model'), name='deployment_once_per_model')],
            },
        ),
        migrations.CreateModel(
            name='ToolServer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('namespace', models.CharField(max_length=32, unique=True, validators=[django.core.validators.RegexValidator('^[a-z][a-z0-9-]{0,30}[a-z0-9]$', 'Use 2 to 32 lower-case letters, digits and hyphens, beginning with a letter.')])),
                ('name', models.CharField(max_length=80)),
                ('description', models.TextField(blank=True)),
                ('url', models.URLField(max_length=300)),
                ('sealed_secret', models.TextField(blank=True, editable=False)),
                ('feature_class', models.CharField(choices=[('assistants', 'Assistants and chat'), ('search', 'Search and embeddings'), ('tools', 'Tools that read data'), ('agents', 'Agents that act'), ('training', 'Use of data for training')], default='tools', max_length=32)),
                ('is_enabled', models.BooleanField(default=True)),
                ('protocol_version', models.CharField(blank=True, editable=False, max_length=24)),
                ('server_info', models.CharField(blank=True, editable=False, max_length=160)),
                ('discovered_at', models.DateTimeField(editable=False, null=True)),
                ('discovery_error', models.CharField(blank=True, editable=False, max_length=300)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['namespace'],
            },
        ),
        migrations.CreateModel(
            name='Tool',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=120)),
                ('title', models.CharField(blank=True, max_length=160)),
                ('description', models.TextField(blank=True)),
                ('input_schema', catalog.models.fields.OrderedJSONField(default=dict)),
                ('output_schema', catalog.models.fields.OrderedJSONField(null=True)),
                ('annotations', models.JSONField(null=True)),
                ('digest', models.CharField(max_length=64)),
                ('status', models.CharField(choices=[('active', 'Active'), ('suspended', 'Suspended'), ('removed', 'No longer offered')], default='active', max_length=16)),
                ('pending_definition', catalog.models.fields.OrderedJSONField(null=True)),
                ('first_seen_at', models.DateTimeField(auto_now_add=True)),
                ('server', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tools', to='catalog.toolserver')),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.UniqueConstraint(fields=('server', 'name'), name='tool_name_once_per_server')],
            },
        ),
        migrations.CreateModel(
            name='VirtualKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=gateway.contract.keys.new_id, editable=False, max_length=16, unique=True)),
                ('name', models.CharField(max_length=60)),
                ('purpose', models.CharField(choices=[('standard', 'Program'), ('playground', 'Playground')], default='standard', max_length=16)),
                ('digest', models.CharField(max_length=64)),
                ('models', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=80), blank=True, null=True, size=None)),
                ('tools', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=48), blank=True, null=True, size=None)),
                ('requests_per_minute', models.PositiveIntegerField(blank=True, null=True)),
                ('monthly_budget_usd', models.DecimalField(blank=True, decimal_places=2, max_digits=14, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('project', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='keys', to='catalog.project')),
            ],
            options={
                'ordering': ['-created_at', '-pk'],
                'constraints': [models.UniqueConstraint(condition=models.Q(('purpose', 'playground'), ('revoked_at', None)), fields=('owner', 'project'), name='key_one_playground_per_person'), models.CheckConstraint(condition=models.Q(('monthly_budget_usd', None), ('monthly_budget_usd__gte', 0), _connector='OR'), name='key_budget_not_negative')],
            },
        ),
    ]
