"""Cost APIs that bills are fetched from."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0015_savings_baseline'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='BillSource',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(max_length=48, unique=True)),
                ('kind', models.CharField(choices=[('openai', 'OpenAI costs'), ('anthropic', 'Anthropic cost report')], max_length=16)),
                ('base_url', models.URLField(max_length=300)),
                ('sealed_key', models.TextField(editable=False)),
                ('key_set_at', models.DateTimeField()),
                ('begins_on', models.DateField()),
                ('fetched_through', models.DateField(null=True)),
                ('fetched_at', models.DateTimeField(null=True)),
                ('tried_at', models.DateTimeField(null=True)),
                ('last_error', models.CharField(blank=True, max_length=300)),
                ('set_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'bill_source',
                'ordering': ['provider'],
            },
        ),
    ]
