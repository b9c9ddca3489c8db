"""Answers to questions that mean the same, and the settings of a model about them."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('catalog', '0011_shadow_keys'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='cache_embedding',
            field=models.CharField(blank=True, max_length=100),
        ),
        migrations.AddField(
            model_name='model',
            name='cache_sample_percent',
            field=models.PositiveSmallIntegerField(default=5),
        ),
        migrations.AddField(
            model_name='model',
            name='cache_threshold',
            field=models.FloatField(default=0.95),
        ),
        migrations.CreateModel(
            name='SemanticAnswer',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('partition', models.TextField()),
                ('model', models.TextField()),
                ('project', models.TextField()),
                ('embedding', django.contrib.postgres.fields.ArrayField(base_field=models.FloatField(), size=None)),
                ('sealed', models.TextField()),
                ('kept_at', models.DateTimeField()),
                ('until', models.DateTimeField()),
            ],
            options={
                'db_table': 'semantic_answer',
                'indexes': [models.Index(fields=['partition', '-kept_at'], name='semantic_answer_newest'), models.Index(fields=['until'], name='semantic_answer_until')],
            },
        ),
    ]
