"""The halves of `benchmarks.rollback` that need Django, in processes of their own with the settings of the throw-away server."""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import django

RULES = 1_000
CALLS_PER_MINUTE = 10
"""Of each variant of each flag: 20,000 calls a minute over all."""
MINUTES = 70
TICKS = 3
TEXTS = (
    "error_rate_5m > 5% for 3 of 5 min 40",
    "latency_p95_5m > control*1.3 min 40",
    "cost_per_call_1h > $1 or error_rate_5m > control + 10% min 40",
    "error_rate_1m > control + 50% min 10",
)


def main() -> None:
    django.setup()
    figures = prepare(*sys.argv[2:]) if sys.argv[1] == "prepare" else tick()
    print(json.dumps(figures))


def _tenant() -> tuple[Any, Any, Any]:
    """The tenant, entered, and two people of it."""
    from governance.models import User
    from governance.schema import enter_tenant
    from governance.services import people, tenants

    one = User.objects.create_user("one@example.com", None, name="One")
    tenant = tenants.create_tenant(slug="bench", name="Bench", owner_email=one.email, actor=None)
    enter_tenant(tenant)
    other = people.add_member(
        tenant=tenant, email="other@example.com", name="Other", roles=["admin"], actor=None, password="rolled back by rule"
    ).user
    return tenant, one, other


def prepare(upstream: str, hook: str) -> dict[str, str]:
    """A flag of two models, half of everybody on `new`, a rule that watches it, and channels to both receivers."""
    from decimal import Decimal

    from catalog.hooks import Price
    from catalog.services import keys, model_lifecycle, models, projects, providers
    from governance.services import alerts
    from rollouts import exposure
    from rollouts.services import flag_changes, flags, rollback_rules

    _, one, other = _tenant()
    provider = providers.create_provider(slug="flip", name="Flip", base_url=f"{upstream}/v1", actor=one, region="local")
    for name in ("old", "new"):
        facts = models.ModelFacts(
            name=name, capabilities=("chat",), feature_class="assistants", context_window=8_000, max_output_tokens=100
        )
        price = Price(Decimal(1), Decimal(4))
        model = models.register_model(
            slug=f"chat-{name}", provider=provider, upstream_model=name, owner=one, actor=one, price=price, facts=facts
        )
        models.check_model(model=model, actor=one)
        model_lifecycle.submit_model(model=model, actor=one)
        model_lifecycle.approve_model(model=model, actor=other, comment="Passed its live check.")
    project = projects.create_project(slug="bench", name="Bench", cost_centre="CC-1", environment="production", owner=one, actor=one)
    _, key = keys.create_key(name="bench", project=project, owner=one, actor=one)
    flag = flags.create_flag(
        key="ai.bench.next-model", title="Next model", kind="string", variants={"old": "chat-old", "new": "chat-new"}, control="old",
        feature_class="assistants", sticky="user", model="chat", actor=one,
    )  # fmt: skip
    change = flag_changes.propose_change(
        flag=flag, exposure=exposure.changed(flag.exposure, on=True, percentage=50_000), reason="Half", actor=one
    )
    flag_changes.approve_change(change=change, actor=other)
    alerts.create_channel(name="Mail", kind="email", target="oncall@example.com", actor=one)
    alerts.create_channel(name="Hook", kind="webhook", target=hook, actor=one)
    rollback_rules.create_rule(flag=flag, text="error_rate_30s > control + 50% min 50", actor=one)
    return {"key": key}


def tick() -> dict[str, float]:
    """Seconds of the slowest of three looks in a row at 1,000 rules of as many flags, each with an hour of minutes and fresh calls."""
    from rollouts.models import Flag, FlagVersion, Incident, RollbackRule
    from rollouts.services import rollback

    _, one, _ = _tenant()
    now = datetime.now(UTC).replace(second=10, microsecond=0)
    on = {"on": True, "percentage": 50_000, "ranges": [["new", 0, 100_000]]}
    flags = Flag.objects.bulk_create(
        Flag(
            key=f"ai.bench.flag-{number}", title="Bench", kind="string", variants={"old": "a", "new": "b"}, control="old", sticky="user",
            feature_class="assistants", model=f"chat-{number}", owner=one, created_at=now,
        )
        for number in range(RULES)
    )  # fmt: skip
    for flag, version in zip(
        flags, FlagVersion.objects.bulk_create(FlagVersion(flag=flag, number=2, exposure=on, at=now) for flag in flags), strict=True
    ):
        flag.current = version
    Flag.objects.bulk_update(flags, ["current"])
    RollbackRule.objects.bulk_create(
        RollbackRule(
            flag=flag,
            text=TEXTS[number % len(TEXTS)],
            state="armed",
            state_at=now,
            armed_at=now,
            armed_by=one,
            created_by=one,
            created_at=now,
        )
        for number, flag in enumerate(flags)
    )
    _calls(now)
    rollback.count_minutes(flags, since=rollback.first_minute(now, MINUTES * 60), until=now)
    took = []
    for turn in range(TICKS):
        began = time.perf_counter()
        done = rollback.tick(at=now + timedelta(minutes=turn))
        took.append(time.perf_counter() - began)
        if done.rules != RULES or done.frozen or Incident.objects.exists():
            raise RuntimeError(f"tick {turn} judged {done.rules} rules, {done.frozen} frozen")
    outcomes = set(RollbackRule.objects.values_list("outcome", flat=True))
    if outcomes != {"fine"}:
        raise RuntimeError(f"the rules were not all judged with data: {outcomes}")
    return {"rule_tick_1000_s": round(max(took), 2)}


def _calls(now: datetime) -> None:
    """Priced calls of both variants of every flag, evenly over the last minutes and the ones to come; one in a hundred failed."""
    from django.db import connection

    from costs.services import ingest

    for months in {now - timedelta(minutes=MINUTES), now + timedelta(minutes=TICKS)}:
        ingest.ensure_partition(months)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO event (event_id, kind, started_at, received_at, attributed_at, duration_us, overhead_us, ttft_us, request_id, project, cost_centre,
                key_id, agent, model, provider, deployment, upstream_model, region, status, http_status, error_code, stream, uncached_input_tokens,
                cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, usage_source, snapshot_version, tags, steps, pricing, cost, price_ids)
            SELECT gen_random_uuid(), 'chat', at, at, at, 400000 + (n * 7919 %% 400000), 900, NULL, 'r', 'p', '', 'k', '', 'm', 'p', '1', 'u', 'eu',
                CASE WHEN n %% 100 = 7 THEN 'upstream_error' ELSE 'ok' END, 200, '', false, 100, NULL, NULL, 50, NULL, 'provider', 1,
                jsonb_build_object('flag.ai.bench.flag-' || f, v), '[]', 'priced', 0.002, '{}'
            FROM generate_series(0, %(flags)s - 1) f, unnest(ARRAY['old', 'new']) v, generate_series(0, %(calls)s - 1) n,
                LATERAL (SELECT %(first)s::timestamptz + n * %(apart)s * interval '1 second' AS at) t
            """,
            {
                "flags": RULES, "calls": (MINUTES + TICKS) * CALLS_PER_MINUTE, "first": now - timedelta(minutes=MINUTES),
                "apart": 60 / CALLS_PER_MINUTE,
            },
        )  # fmt: skip
        cursor.execute("ANALYZE event")


if __name__ == "__main__":
    main()
