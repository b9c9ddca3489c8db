"""Switching a pillar off at once, of an organisation or of the platform."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('governance', '0004_policies_and_guardrails'),
    ]

    operations = [
        migrations.CreateModel(
            name='Switch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('pillar', models.CharField(choices=[('models', 'Models'), ('tools', 'Tools')], max_length=8, unique=True)),
                ('is_off', models.BooleanField(default=False)),
                ('reason', models.CharField(blank=True, max_length=200)),
                ('set_at', models.DateTimeField()),
                ('actor', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
        ),
    ]
