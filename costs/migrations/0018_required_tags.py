"""Required tags with their versions, and their rollup by day. Constraints stand in CreateModel where they can: a new tenant runs fewer statements."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0017_token_units'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='RequiredTag',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40, unique=True)),
                ('description', models.CharField(blank=True, max_length=300)),
                ('mode', models.CharField(choices=[('off', 'Off'), ('monitor', 'Counted only'), ('enforce', 'Enforced')], default='off', max_length=8)),
                ('enforce_on', models.DateField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name'],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('enforce_on__isnull', False), ('mode', 'enforce')), models.Q(models.Q(('mode', 'enforce'), _negated=True), ('enforce_on', None)), _connector='OR'), name='required_tag_grace')],
            },
        ),
        migrations.CreateModel(
            name='RequiredTagVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('values', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=120), default=list, size=None)),
                ('projects', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=48), default=list, size=None)),
                ('environments', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=16), default=list, size=None)),
                ('fact', models.CharField(blank=True, choices=[('', 'Nothing'), ('environment', "The project's environment"), ('cost_centre', "The project's cost centre"), ('project', 'The project'), ('owner', "The key's owner"), ('agent', 'The agent, as it names itself')], max_length=16)),
                ('note', models.CharField(blank=True, max_length=300)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('preview', models.JSONField(null=True)),
                ('previewed_at', models.DateTimeField(null=True)),
                ('author', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('required_tag', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='costs.requiredtag')),
            ],
            options={
                'ordering': ['-number'],
                'constraints': [models.UniqueConstraint(fields=('required_tag', 'number'), name='required_tag_version_once')],
            },
        ),
        migrations.AddField(
            model_name='requiredtag',
            name='active',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='costs.requiredtagversion'),
        ),
        migrations.CreateModel(
            name='TagDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('tag', models.TextField()),
                ('project', models.TextField()),
                ('key_id', models.TextField()),
                ('agent', models.TextField()),
                ('found', models.CharField(choices=[('ok', 'Tagged'), ('missing', 'Missing'), ('not_allowed', 'Not an allowed value')], max_length=12)),
                ('calls', models.BigIntegerField()),
                ('refused', models.BigIntegerField()),
                ('denied', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=14, max_digits=34)),
                ('unpriced_calls', models.BigIntegerField()),
            ],
            options={
                'db_table': 'tag_day',
                'constraints': [models.UniqueConstraint(fields=('tag', 'day', 'project', 'key_id', 'agent', 'found'), name='tag_day_once')],
            },
        ),
        migrations.AddConstraint(
            model_name='requiredtag',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('active', None), ('mode', 'off')), models.Q(models.Q(('mode', 'off'), _negated=True), ('active__isnull', False)), _connector='OR'), name='required_tag_active'),
        ),
    ]
