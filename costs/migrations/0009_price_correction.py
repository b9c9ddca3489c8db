"""Prices that were wrong, and what calls were valued at before they were corrected."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0008_price_proposal'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='priceproposal',
            name='corrects',
            field=models.BooleanField(default=False),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='repriced_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='repriced_by',
            field=models.DecimalField(decimal_places=14, max_digits=34, null=True),
        ),
        migrations.AddField(
            model_name='priceproposal',
            name='repriced_calls',
            field=models.BigIntegerField(null=True),
        ),
        migrations.CreateModel(
            name='SupersededPrice',
            fields=[
                ('id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('provider', models.CharField(max_length=48)),
                ('model', models.CharField(max_length=80)),
                ('token_class', models.CharField(choices=[('input', 'Input'), ('cached_input', 'Cached input'), ('cache_write', 'Cache write'), ('output', 'Output')], max_length=16)),
                ('price', models.DecimalField(decimal_places=8, max_digits=18)),
                ('valid_from', models.DateTimeField()),
                ('valid_to', models.DateTimeField(null=True)),
                ('source', models.CharField(blank=True, max_length=200)),
                ('created_at', models.DateTimeField()),
                ('superseded_at', models.DateTimeField()),
                ('approved_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('superseded_by', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'superseded_price',
                'ordering': ['-superseded_at', '-pk'],
            },
        ),
        migrations.CreateModel(
            name='Valuation',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_id', models.UUIDField()),
                ('started_at', models.DateTimeField()),
                ('cost', models.DecimalField(decimal_places=14, max_digits=30)),
                ('price_ids', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(null=True), size=None)),
                ('replaced_at', models.DateTimeField()),
            ],
            options={
                'db_table': 'valuation',
                'ordering': ['replaced_at', 'pk'],
                'indexes': [models.Index(fields=['event_id'], name='valuation_event')],
            },
        ),
    ]
