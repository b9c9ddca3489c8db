"""Calls from before `prompt_day` was kept: once one of the same day stood in it, a price found later for them went into its row without them.

Counted anew from the calls, for the days that it holds and the 30 that are shown; not for months that left the database. With attribution
and pricing held off (`costs.services.ingest.lock_events`).
"""

from django.db import migrations

FILL = """
SELECT pg_advisory_xact_lock(27262, hashtext(current_schema()));
CREATE TEMPORARY TABLE prompt_day_since ON COMMIT DROP AS
    SELECT least(min(day), (now() AT TIME ZONE 'UTC')::date - 31) AS day FROM prompt_day;
DELETE FROM prompt_day d WHERE NOT EXISTS (
    SELECT 1 FROM archived_month a WHERE a.events > 0 AND a.month = date_trunc('month', d.day)::date
);
INSERT INTO prompt_day (day, prompt, version, model, calls, errors, refused, input_tokens, output_tokens, cost, unpriced_calls)
SELECT (f.started_at AT TIME ZONE 'UTC')::date, split_part(f.tags ->> 'prompt', '@', 1), split_part(f.tags ->> 'prompt', '@', 2)::int, f.model,
    count(*), count(*) FILTER (WHERE f.status NOT IN ('ok', 'refused')), count(*) FILTER (WHERE f.status = 'refused'),
    coalesce(sum(coalesce(f.uncached_input_tokens, 0) + coalesce(f.cached_input_tokens, 0) + coalesce(f.cache_write_tokens, 0)), 0),
    coalesce(sum(f.output_tokens), 0), coalesce(sum(f.cost), 0), count(*) FILTER (WHERE f.pricing = 'unpriced')
FROM event f
WHERE f.started_at >= (SELECT day::timestamp AT TIME ZONE 'UTC' FROM prompt_day_since)
    AND f.tags ->> 'prompt' ~ '^[^@]+@[0-9]{1,9}$' AND NOT f.tags ?| ARRAY['gatehouse.cause', 'shadow_of']
GROUP BY 1, 2, 3, 4;
DROP TABLE prompt_day_since
"""


class Migration(migrations.Migration):

    dependencies = [
        ('costs', '0023_cost_review'),
    ]

    operations = [
        migrations.RunSQL(FILL, migrations.RunSQL.noop, hints={"placement": "tenant"}),
    ]
