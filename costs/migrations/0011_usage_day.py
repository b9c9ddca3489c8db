"""What a UTC day's calls were by each dimension, from the hours that are there."""

from django.db import migrations, models

# Frozen here: what the code adds by today may count otherwise tomorrow.
FILL = """
INSERT INTO usage_day (day, dimension, value, calls, refused, errors, tokens, cost, unpriced_calls, untagged_calls, untagged_cost, estimated_calls)
SELECT (c.hour AT TIME ZONE 'UTC')::date, d.dimension, d.ref, sum(c.calls),
    coalesce(sum(c.calls) FILTER (WHERE c.outcome = 'refused'), 0), coalesce(sum(c.calls) FILTER (WHERE c.outcome = 'error'), 0),
    sum(c.uncached_input_tokens + c.cached_input_tokens + c.cache_write_tokens + c.output_tokens), sum(c.cost), sum(c.unpriced_calls),
    coalesce(sum(c.untagged_calls) FILTER (WHERE c.outcome <> 'refused'), 0), coalesce(sum(c.cost) FILTER (WHERE c.untagged_calls > 0), 0),
    sum(c.estimated_calls)
FROM usage_hour c CROSS JOIN LATERAL (VALUES ('all', ''), ('hour', to_char(c.hour AT TIME ZONE 'UTC', 'HH24')), ('project', c.project),
    ('cost_centre', c.cost_centre), ('agent', c.agent), ('model', c.model), ('provider', c.provider), ('key', c.key_id)) d(dimension, ref)
GROUP BY 1, 2, 3
"""


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0010_call_hour_time'),
    ]

    operations = [
        migrations.CreateModel(
            name='UsageDay',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('day', models.DateField()),
                ('dimension', models.CharField(choices=[('all', 'All calls'), ('hour', 'Hour of the day'), ('project', 'Project'), ('cost_centre', 'Cost centre'), ('agent', 'Agent'), ('model', 'Model'), ('provider', 'Provider'), ('key', 'Key')], max_length=12)),
                ('value', models.TextField()),
                ('calls', models.BigIntegerField()),
                ('refused', models.BigIntegerField()),
                ('errors', models.BigIntegerField()),
                ('tokens', models.BigIntegerField()),
                ('cost', models.DecimalField(decimal_places=14, max_digits=34)),
                ('unpriced_calls', models.BigIntegerField()),
                ('untagged_calls', models.BigIntegerField()),
                ('untagged_cost', models.DecimalField(decimal_places=14, max_digits=34)),
                ('estimated_calls', models.BigIntegerField()),
            ],
            options={
                'db_table': 'usage_day',
                'constraints': [models.UniqueConstraint(fields=('dimension', 'day', 'value'), name='usage_day_once')],
            },
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop, hints={"placement": "tenant"}),
    ]
