"""The event table, partitioned by month, and the rule that prices of one series never overlap."""

from django.db import migrations

CREATE_EVENT = """
CREATE TABLE event (
    event_id uuid NOT NULL, kind text NOT NULL, started_at timestamptz NOT NULL, received_at timestamptz NOT NULL, attributed_at timestamptz NOT NULL,
    duration_us bigint NOT NULL, overhead_us bigint, ttft_us bigint, request_id text NOT NULL, project text NOT NULL, cost_centre text NOT NULL,
    key_id text NOT NULL, agent text NOT NULL, model text NOT NULL, provider text NOT NULL, deployment text NOT NULL, upstream_model text NOT NULL,
    region text NOT NULL, status text NOT NULL, http_status integer NOT NULL, error_code text NOT NULL, stream boolean NOT NULL,
    uncached_input_tokens bigint, cached_input_tokens bigint, cache_write_tokens bigint, output_tokens bigint, reasoning_tokens bigint,
    usage_source text NOT NULL, snapshot_version bigint NOT NULL, tags jsonb NOT NULL, steps jsonb NOT NULL, pricing text NOT NULL,
    cost numeric(30, 14), price_ids bigint[] NOT NULL,
    CONSTRAINT event_once UNIQUE (event_id, started_at),
    CONSTRAINT event_cost_when_priced CHECK ((cost IS NOT NULL) = (pricing IN ('priced', 'free')))
) PARTITION BY RANGE (started_at);
CREATE INDEX event_time ON event (started_at, event_id);
CREATE INDEX event_key ON event (key_id, started_at);
CREATE INDEX event_request ON event (request_id);
CREATE INDEX event_unpriced ON event (provider, model, started_at) WHERE pricing = 'unpriced';
"""

# The embedded PostgreSQL has no btree_gist, so equality of the series is overlap of one-element ranges over its hash.
NO_OVERLAP = """
ALTER TABLE price_entry ADD CONSTRAINT price_no_overlap EXCLUDE USING gist (
    int8range(hashtextextended(provider || chr(31) || model || chr(31) || token_class, 0),
              hashtextextended(provider || chr(31) || model || chr(31) || token_class, 0), '[]') WITH &&,
    tstzrange(valid_from, valid_to) WITH &&
)
"""


class Migration(migrations.Migration):
    dependencies = [("costs", "0001_initial")]

    operations = [
        migrations.RunSQL(CREATE_EVENT, "DROP TABLE event", hints={"placement": "tenant"}),
        migrations.RunSQL(NO_OVERLAP, "ALTER TABLE price_entry DROP CONSTRAINT price_no_overlap", hints={"placement": "tenant"}),
    ]
