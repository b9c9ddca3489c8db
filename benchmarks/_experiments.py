"""The timed half of `benchmarks.experiments`: one reading's sums, with the settings of the throw-away server."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import django

from benchmarks.experiments import EVENTS

UNITS = 40_000
DAYS = 14
KEY = "ai.bench.one"

# Two arms of a flag, half of the units each; nine of ten calls were decided by the percentage.
FILL = """
INSERT INTO event (event_id, kind, started_at, received_at, attributed_at, duration_us, ttft_us, request_id, project, cost_centre, key_id, agent,
    model, provider, deployment, upstream_model, region, status, http_status, error_code, stream, output_tokens, usage_source,
    snapshot_version, tags, steps, pricing, cost, price_ids)
SELECT gen_random_uuid(), 'chat', moment, moment, moment, 600000 + unit %% 400000, 200000, 'req-' || n, 'checkout', '', 'k2345678', '',
    'bench-' || arm, 'bench', '1', 'bench', 'eu', CASE WHEN n %% 100 = 0 THEN 'upstream_error' ELSE 'ok' END, 200, '', n %% 2 = 0, 200, 'provider',
    1, jsonb_build_object('flag.' || %(key)s, arm),
    jsonb_build_array(
        jsonb_build_array('identify', 'pass', 4, ''), jsonb_build_array('consent', 'pass', 1, ''),
        jsonb_build_array('flags', 'pass', 9, %(key)s || ' 2: ' || arm || CASE WHEN n %% 10 = 0 THEN ' by cohort. In none.'
            ELSE ' by percentage. Bucket ' || unit || ' is within the first 50%%.' END),
        jsonb_build_array('call_upstream', 'pass', 500000, '')),
    'priced', 0.001, '{}'
FROM (
    SELECT n, n * 7919 %% %(units)s AS unit, CASE WHEN n * 7919 %% %(units)s < %(units)s / 2 THEN 'new' ELSE 'old' END AS arm,
        %(since)s::timestamptz + n * (%(until)s::timestamptz - %(since)s::timestamptz) / %(events)s AS moment
    FROM generate_series(1::bigint, %(events)s - 1) n
) made
"""


def main() -> None:
    django.setup()
    from django.db import connection

    from costs.services.ingest import ensure_partition
    from governance.models import User
    from governance.schema import enter_tenant
    from governance.services import tenants
    from rollouts import experiment_selectors
    from rollouts.models import Flag

    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    enter_tenant(tenants.create_tenant(slug="bench", name="Bench", owner_email=owner.email, actor=None))
    until = datetime.now(UTC)
    since = until - timedelta(days=DAYS)
    for month in {moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0) for moment in (since, until)}:
        ensure_partition(month)
    with connection.cursor() as cursor:
        cursor.execute(FILL, {"key": KEY, "units": UNITS, "events": EVENTS, "since": since, "until": until})
        cursor.execute("ANALYZE event")
    times = []
    for _ in range(3):
        began = time.perf_counter()
        counted = experiment_selectors.count_arms(Flag(key=KEY), since=since, until=until, versions=[2])
        times.append(time.perf_counter() - began)
    if sum(arm.calls for arm in counted.arms.values()) + counted.excluded != EVENTS - 1 or len(counted.arms) != 2:
        raise RuntimeError("not every call was counted")
    print(json.dumps({"seconds": round(sorted(times)[1], 2)}))


if __name__ == "__main__":
    main()
