"""The measured half of `benchmarks.costs_page`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import json
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import django

DAYS, HISTORY_DAYS = 30, 86
KEYS, ROWS_PER_KEY, PROJECTS, AGENTS, MODELS = 250, 2, 40, 100, 20
ROUNDS = 20

_FILL = """
INSERT INTO usage_hour (
    hour, project, cost_centre, agent, model, provider, key_id, kind, outcome, calls, uncached_input_tokens, cached_input_tokens, cache_write_tokens,
    output_tokens, cost, unpriced_calls, untagged_calls, estimated_calls, duration_us, last_event_at
)
SELECT %(first)s + h * interval '1 hour', 'project-' || k %% %(projects)s, 'CC-' || k %% %(projects)s / 4, 'agent-' || (k * 2 + n) %% %(agents)s,
    'model-' || (k + n * 7 + h %% 2) %% %(models)s, 'provider-' || (k + n * 7 + h %% 2) %% %(models)s %% 3, 'key' || k, 'chat',
    CASE WHEN (k + h) %% 17 = 0 THEN 'error' ELSE 'ok' END, %(calls)s, %(calls)s::bigint * 900, %(calls)s::bigint * 100, 0, %(calls)s::bigint * 200,
    %(calls)s::bigint * (0.0009 + k %% 13 * 0.0001), 0, 0, 0, %(calls)s::bigint * 800000, %(first)s + h * interval '1 hour'
FROM generate_series(0, %(hours)s - 1) h, generate_series(1, %(keys)s) k, generate_series(0, %(per_key)s - 1) n
"""

_FILL_ATTRIBUTES = """
WITH added AS (
    INSERT INTO attribute_day (day, attribute, value, project, cost_centre, agent, model, provider, key_id, calls, refused, errors, tokens, cost,
        unpriced_calls, untagged_calls, untagged_cost, estimated_calls)
    SELECT (hour AT TIME ZONE 'UTC')::date, a.name, a.value, project, cost_centre, agent, model,
        provider, key_id, sum(calls), 0, 0, sum(uncached_input_tokens + cached_input_tokens + output_tokens), sum(cost), 0, 0, 0, 0
    FROM usage_hour CROSS JOIN LATERAL (VALUES
        ('region', CASE WHEN substr(key_id, 4)::int % 3 = 0 THEN 'us' ELSE 'eu' END), ('tag:team', 'team-' || substr(key_id, 4)::int % 60)
    ) a(name, value)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    RETURNING *
)
INSERT INTO usage_day (day, dimension, value, calls, refused, errors, tokens, cost, unpriced_calls, untagged_calls, untagged_cost, estimated_calls)
SELECT day, attribute, value, sum(calls), 0, 0, sum(tokens), sum(cost), 0, 0, 0, 0 FROM added GROUP BY 1, 2, 3
"""

_FILL_CLASSES = """
INSERT INTO token_day (day, provider, model, token_class, calls, tokens, unpriced_tokens, cost)
SELECT day, provider, model, c.name, sum(calls), sum(tokens) / 4, 0, sum(cost) / 4
FROM attribute_day CROSS JOIN unnest(ARRAY['input', 'cached_input', 'output', 'cache_write']) c(name)
WHERE attribute = 'region' GROUP BY 1, 2, 3, 4
"""


def main() -> None:
    django.setup()
    from django.conf import settings
    from django.test import Client

    from costs.services import required_tags
    from governance.models import User
    from governance.schema import enter_tenant
    from governance.services import tenants

    settings.ALLOWED_HOSTS = ["testserver"]
    settings.STORAGES = settings.STORAGES | {"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    tenant = tenants.create_tenant(slug="bench", name="Bench", owner_email=owner.email, actor=None)
    enter_tenant(tenant)
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=owner)
    client = Client()
    client.force_login(owner)
    figures = {}
    for calls in map(int, sys.argv[1:]):
        enter_tenant(tenant)  # the requests of the last one have left it
        figures[f"page_{calls // 1_000_000}m_ms"] = round(slowest_view_ms(client, calls))
    print(json.dumps(figures))


def slowest_view_ms(client: Any, calls_a_month: int) -> float:
    """P95 of the slowest view, in milliseconds, after the rollup was written anew."""
    from django.db import connection

    from costs.services import rollups

    now = datetime.now(UTC)
    first = (now - timedelta(days=HISTORY_DAYS)).replace(minute=0, second=0, microsecond=0)
    hours = HISTORY_DAYS * 24
    calls = calls_a_month // (DAYS * 24 * KEYS * ROWS_PER_KEY)
    counts = {"hours": hours, "keys": KEYS, "per_key": ROWS_PER_KEY, "projects": PROJECTS, "agents": AGENTS, "models": MODELS}
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_hour, usage_day, attribute_day, token_day")
        cursor.execute(_FILL, {"first": first, "calls": calls + 1, **counts})
        rollups.count_days_again(first.date(), now.date())
        cursor.execute(_FILL_ATTRIBUTES)
        cursor.execute(_FILL_CLASSES)
        for table in ("usage_hour", "usage_day", "attribute_day", "token_day"):
            cursor.execute(f"VACUUM ANALYZE {table}")
    month = f"from={now - timedelta(days=DAYS):%Y-%m-%d}&to={now:%Y-%m-%d}"
    views = {
        "plain": "",
        "month": f"?{month}",
        "by_key": f"?{month}&group=key",
        "filtered": f"?{month}&group=agent&project=project-7",
        "by_environment": f"?{month}&group=environment",
        "in_region": f"?{month}&group=project&region=eu",
        "by_tag": f"?{month}&group=tag:team",
        "of_a_team": f"?{month}&group=agent&tag:team=team-7",
        "by_token_class": f"?{month}&group=token_class&provider=provider-1",
        "showback": "showback/",
        "showback_by_tag": "showback/?by=tag:team&then=cost_centre",
    }
    figures = {}
    for name, query in views.items():
        url, took = f"/o/bench/operate/costs/{query}", []
        for _ in range(ROUNDS + 1):
            began = time.perf_counter()
            answer = client.get(url)
            took.append(1000 * (time.perf_counter() - began))
            if answer.status_code != 200 or "gh-num" not in answer.content.decode():
                raise RuntimeError(f"{url} answered {answer.status_code}")
        figures[name] = statistics.quantiles(took[1:], n=20)[-1]
        print(calls_a_month, name, [round(one) for one in took], file=sys.stderr)
    return max(figures.values())


if __name__ == "__main__":
    main()
