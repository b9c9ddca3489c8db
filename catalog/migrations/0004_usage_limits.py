"""Limits on requests, tokens and calls at once."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0003_provider_dialect'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='UsageLimit',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('scope', models.CharField(choices=[('tenant', 'Whole organisation'), ('project', 'Project'), ('agent', 'Agent'), ('model', 'Model'), ('key', 'Key')], max_length=8)),
                ('ref', models.CharField(blank=True, max_length=128)),
                ('resource', models.CharField(choices=[('requests', 'Requests'), ('input_tokens', 'Input tokens'), ('output_tokens', 'Output tokens'), ('concurrent', 'Calls at once')], max_length=16)),
                ('window', models.CharField(blank=True, choices=[('minute', 'Minute'), ('hour', 'Hour'), ('day', 'Day'), ('month', 'Month')], max_length=8)),
                ('amount', models.PositiveBigIntegerField()),
                ('fail_open', models.BooleanField(default=True)),
                ('is_enabled', models.BooleanField(default=True)),
                ('note', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['scope', 'ref', 'resource', 'window', 'pk'],
                'constraints': [models.UniqueConstraint(fields=('scope', 'ref', 'resource', 'window'), name='usage_limit_once')],
            },
        ),
    ]
