import django.contrib.postgres.fields
import django.core.validators
import django.db.models.deletion
import django_tenants.postgresql_backend.base
import gateway.contract.keys
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='User',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('password', models.CharField(max_length=128, verbose_name='password')),
                ('last_login', models.DateTimeField(blank=True, null=True, verbose_name='last login')),
                ('email', models.EmailField(max_length=254, unique=True)),
                ('name', models.CharField(max_length=80)),
                ('theme', models.CharField(choices=[('system', 'Like the system'), ('light', 'Light'), ('dark', 'Dark')], default='system', max_length=8)),
                ('is_active', models.BooleanField(default=True)),
                ('is_operator', models.BooleanField(default=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('name', models.CharField(max_length=64, primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('took_ms', models.IntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name='Tenant',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('schema_name', models.CharField(db_index=True, max_length=63, unique=True, validators=[django_tenants.postgresql_backend.base._check_schema_name])),
                ('slug', models.CharField(max_length=32, unique=True, validators=[django.core.validators.RegexValidator('^[a-z][a-z0-9-]{1,30}[a-z0-9]$', 'Use 3 to 32 lower-case letters, digits and hyphens, beginning with a letter.')])),
                ('public_id', models.CharField(default=gateway.contract.keys.new_id, editable=False, max_length=16, unique=True)),
                ('name', models.CharField(max_length=80)),
                ('kind', models.CharField(choices=[('internal', 'Internal'), ('staff', 'Staff'), ('partner', 'Design partner'), ('customer', 'Customer')], default='customer', max_length=16)),
                ('tier', models.CharField(choices=[('free', 'Free'), ('starter', 'Starter'), ('pro', 'Pro'), ('business', 'Business'), ('enterprise', 'Enterprise')], default='free', max_length=16)),
                ('region', models.CharField(blank=True, max_length=32)),
                ('time_zone', models.CharField(default='UTC', max_length=64)),
                ('suspended_at', models.DateTimeField(blank=True, null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('config_version', models.BigIntegerField(default=1)),
                ('published_version', models.BigIntegerField(default=0)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Consent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('feature_class', models.CharField(choices=[('assistants', 'Assistants and chat'), ('search', 'Search and embeddings'), ('tools', 'Tools that read data'), ('agents', 'Agents that act'), ('training', 'Use of data for training')], max_length=32, unique=True)),
                ('state', models.CharField(choices=[('granted', 'Allowed'), ('withdrawn', 'Switched off')], max_length=16)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('set_at', models.DateTimeField()),
                ('actor', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
        migrations.CreateModel(
            name='ConsentChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('feature_class', models.CharField(choices=[('assistants', 'Assistants and chat'), ('search', 'Search and embeddings'), ('tools', 'Tools that read data'), ('agents', 'Agents that act'), ('training', 'Use of data for training')], max_length=32)),
                ('state', models.CharField(choices=[('granted', 'Allowed'), ('withdrawn', 'Switched off')], max_length=16)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('set_at', models.DateTimeField()),
                ('actor', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-set_at', '-id'],
            },
        ),
        migrations.CreateModel(
            name='Domain',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('domain', models.CharField(db_index=True, max_length=253, unique=True)),
                ('is_primary', models.BooleanField(db_index=True, default=True)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='domains', to='governance.tenant')),
            ],
            options={
                'abstract': False,
            },
        ),
        migrations.CreateModel(
            name='ApiToken',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('public_id', models.CharField(default=gateway.contract.keys.new_id, editable=False, max_length=16, unique=True)),
                ('name', models.CharField(max_length=60)),
                ('digest', models.CharField(max_length=64)),
                ('roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=24), default=list, size=None)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('expires_at', models.DateTimeField()),
                ('revoked_at', models.DateTimeField(null=True)),
                ('last_used_at', models.DateTimeField(null=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tokens', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='governance.tenant')),
            ],
            options={
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='AuditEntry',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('sequence', models.BigIntegerField(unique=True)),
                ('at', models.DateTimeField()),
                ('actor_name', models.CharField(max_length=120)),
                ('via', models.CharField(default='web', max_length=16)),
                ('event', models.CharField(max_length=64)),
                ('target_type', models.CharField(blank=True, max_length=64)),
                ('target_id', models.CharField(blank=True, max_length=64)),
                ('target_name', models.CharField(blank=True, max_length=160)),
                ('details', models.JSONField(default=dict)),
                ('previous_hash', models.CharField(max_length=64)),
                ('hash', models.CharField(max_length=64)),
                ('actor', models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['-sequence'],
                'indexes': [models.Index(fields=['event', '-sequence'], name='governance__event_c1d93d_idx'), models.Index(fields=['target_type', 'target_id', '-sequence'], name='governance__target__52f760_idx')],
            },
        ),
        migrations.CreateModel(
            name='Membership',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('roles', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(choices=[('owner', 'Owner'), ('admin', 'Admin'), ('developer', 'Developer'), ('release_manager', 'Release manager'), ('finance', 'Finance'), ('security', 'Security'), ('auditor', 'Auditor')], max_length=24), size=None)),
                ('last_area', models.CharField(blank=True, max_length=16)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('user', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='memberships', to='governance.tenant')),
            ],
            options={
                'ordering': ['user__name'],
                'constraints': [models.UniqueConstraint(fields=('user', 'tenant'), name='membership_once_per_tenant')],
            },
        ),
    ]
