"""A model's usage: figures by all that it can be narrowed to, to whom they are shown, and how many queries that takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Model
from costs import model_usage, periods, selectors, spend_selectors
from costs.api.model_usage import ModelUsageQuery
from costs.model_usage import ModelUsage
from costs.periods import Period
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model

PAGE = "/o/acme/models/small-chat/usage/"
API = "/api/v1/models/small-chat/usage/"
NOW = datetime(2026, 11, 21, 9, 40, tzinfo=UTC)


@pytest.fixture
def model(acme: Tenant, alice: User) -> Model:
    make.prices(alice, input="1.00", output="4.00")
    return make_model(owner=alice, slug="small-chat")


def usage(group: str = "project", *, period: str = "30d", measure: str = "calls", **chosen: str) -> ModelUsage:
    return model_usage.model_usage("small-chat", periods.span(period, timezone.now()), group, chosen, measure=measure)


def cached(verdict: str) -> dict[str, Any]:
    answered = {"usage_source": "cache", "provider": None, "deployment": None} if verdict == "hit" else {}
    return {"steps": [["cache:small-chat", verdict, 0, ""]], **answered}


@pytest.mark.parametrize(
    ("query", "name", "first", "last", "buckets"),
    [
        ({}, "30d", "2026-10-23T00", "2026-11-22T00", 30),
        ({"period": "7d"}, "7d", "2026-11-15T00", "2026-11-22T00", 7),
        ({"period": "24h"}, "24h", "2026-11-20T10", "2026-11-21T10", 24),
        ({"period": "24h", "from": "2026-11-01"}, "24h", "2026-11-20T10", "2026-11-21T10", 24),
        ({"from": "2026-11-01", "to": "2026-11-02"}, "custom", "2026-11-01T00", "2026-11-03T00", 2),
        ({"period": "custom"}, "custom", "2026-10-23T00", "2026-11-22T00", 30),
        ({"period": "custom", "from": "x", "to": "2026-11-02"}, "custom", "2026-11-01T00", "2026-11-03T00", 2),
        ({"from": "2026-11-03", "to": "2026-11-02"}, "custom", "2026-11-01T00", "2026-11-22T00", 21),
        ({"period": "nonsense"}, "30d", "2026-10-23T00", "2026-11-22T00", 30),
    ],
)
def test_span_comes_from_the_url(query: dict[str, str], name: str, first: str, last: str, buckets: int) -> None:
    span = periods.span_from_query(query, NOW)

    assert (span.name, span.start, span.end) == (
        name,
        datetime.fromisoformat(f"{first}:00+00:00"),
        datetime.fromisoformat(f"{last}:00+00:00"),
    )
    assert len(span.buckets) == buckets
    assert span.buckets[0] == span.start


def test_figures_of_a_model_add_up_by_every_grouping(acme: Tenant, model: Model) -> None:
    make.record(
        acme,
        make.call(acme, input_tokens=1_000_000, cached_input_tokens=400_000, output_tokens=250_000, **cached("miss")),
        make.call(acme, project="other", agent=None, key_id="k9", input_tokens=0, output_tokens=0, **cached("hit")),
        make.call(acme, status="upstream_error", error_code="upstream_timeout", input_tokens=None, output_tokens=None, usage_source="none"),
        make.call(acme, **{**make.REFUSED, "model": "small-chat"}),
        make.call(acme, model="another"),
        make.call(acme, kind="tool", model="small-chat"),
        make.call(acme, started_at=timezone.now() - timedelta(days=31)),
    )

    for group in model_usage.GROUPS:
        total = usage(group).total
        assert (total.calls, total.refused, total.failed, total.input_tokens, total.output_tokens) == (4, 1, 1, 1_000_000, 250_000)
        assert (total.cost_usd, total.unpriced_calls, total.cost_per_call) == (Decimal(2), 0, Decimal(2) / 3)
        assert (round(total.error_percent or 0, 2), total.cache_percent) == (33.33, 50.0)
    by_agent = {line.label: line.figures for line in usage("agent").lines}
    assert {label: figures.calls for label, figures in by_agent.items()} == {"basket-helper": 3, "Untagged": 1}
    assert (by_agent["Untagged"].cache_percent, by_agent["basket-helper"].cache_percent) == (100, 0)
    assert [line.value for line in usage("provider").lines] == ["openai", "(none)"]


def test_percentiles_are_those_of_the_calls_that_are_left(acme: Tenant, model: Model) -> None:
    slow = [make.call(acme, agent="slow", duration_us=4_000_000, ttft_us=2_000_000) for _ in range(3)]
    quick = [make.call(acme, agent="quick", key_id="k9", duration_us=100_000, ttft_us=None) for _ in range(5)]
    failed = make.call(acme, agent="quick", status="upstream_error", duration_us=60_000_000)
    make.record(acme, *slow, *quick, failed)

    by_agent = {line.value: line.figures for line in usage("agent").lines}
    together = usage().total

    assert by_agent["slow"].p50_ms == pytest.approx(4000, rel=0.02)
    assert by_agent["slow"].ttft_ms == pytest.approx(2000, rel=0.02)
    assert by_agent["quick"].p95_ms == pytest.approx(100, rel=0.02)
    assert by_agent["quick"].ttft_ms is None
    assert [together.p50_ms, together.p95_ms] == pytest.approx([100, 4000], rel=0.02)
    assert usage(agent="slow").total.p50_ms == by_agent["slow"].p50_ms
    assert usage(key="k9").total.p50_ms == by_agent["quick"].p50_ms
    assert usage(outcome="error").total.p50_ms is None


@pytest.mark.parametrize(
    ("chosen", "calls"),
    [
        ({"project": "checkout"}, 4),
        ({"project": "checkout", "agent": "(none)"}, 1),
        ({"key": "k9"}, 1),
        ({"provider": "(none)"}, 1),
        ({"outcome": "ok"}, 3),
        ({"outcome": "refused"}, 1),
        ({"outcome": "error", "project": "other"}, 1),
        ({"project": "none such"}, 0),
    ],
)
def test_filters_narrow_figures_and_errors_alike(acme: Tenant, model: Model, chosen: dict[str, str], calls: int) -> None:
    make.record(
        acme,
        make.call(acme),
        make.call(acme),
        make.call(acme, agent=None, key_id="k9"),
        make.call(acme, project="other", status="client_gone"),
        make.call(acme, **{**make.REFUSED, "model": "small-chat"}),
    )

    found = model_usage.model_usage("small-chat", periods.span("30d", timezone.now()), "project", chosen)

    assert found.total.calls == calls
    not_ok = found.total.failed + found.total.left + found.total.refused
    assert sum(error.calls for error in found.errors) == not_ok
    assert sum(found.total.durations.values()) == calls - not_ok


def test_errors_are_told_by_code_frequent_ones_first(acme: Tenant, model: Model) -> None:
    failed = {"status": "upstream_error", "input_tokens": None, "output_tokens": None, "usage_source": "none"}
    make.record(
        acme,
        *[make.call(acme, **failed, error_code="upstream_timeout") for _ in range(3)],
        *[make.call(acme, **{**make.REFUSED, "model": "small-chat"}) for _ in range(2)],
        make.call(acme, status="client_gone", http_status=499),
    )

    assert [(error.label, error.code, error.calls) for error in usage().errors] == [
        ("Upstream failed", "upstream_timeout", 3),
        ("Refused", "consent_withdrawn", 2),
        ("Caller left", "", 1),
    ]


@pytest.mark.parametrize("period", ["24h", "30d"])
def test_callers_who_left_are_no_failure_of_the_model(acme: Tenant, model: Model, period: str) -> None:
    make.record(
        acme,
        make.call(acme),
        make.call(acme, status="client_gone"),
        make.call(acme, status="client_gone", project="other"),
        make.call(acme, status="upstream_error", error_code="upstream_timeout"),
    )

    found = usage(period=period, measure="failed")

    assert (found.total.failed, found.total.left, found.total.error_percent) == (1, 2, 25.0)
    assert {line.value: (line.figures.failed, line.figures.left) for line in found.lines} == {"checkout": (1, 1), "other": (0, 1)}
    assert sum(sum(values.values()) for values in found.by_bucket.values()) == 1
    assert usage(period=period, outcome="error").total.left == 2
    assert usage(period=period, outcome="ok").total.left == 0


def test_money_that_is_not_known_is_not_zero(acme: Tenant, model: Model) -> None:
    make.record(acme, make.call(acme, provider="elsewhere"), make.call(acme, **{**make.REFUSED, "model": "small-chat"}))

    found = {line.value: line.figures for line in usage("provider").lines}

    assert (found["elsewhere"].cost_usd, found["elsewhere"].cost_per_call, found["elsewhere"].unpriced_calls) == (None, None, 1)
    assert (found["(none)"].cost_usd, found["(none)"].cost_per_call, found["(none)"].error_percent) == (Decimal(0), None, None)
    assert usage(project="none such").total == model_usage.Figures()


def test_money_that_is_not_known_is_so_wherever_calls_are_counted(acme: Tenant) -> None:
    """Of two calls one could have cost something and has no price, the other failed before anything was used."""
    failed = make.REFUSED | {"status": "upstream_error", "error_code": "upstream_unavailable"}
    make.record(acme, *(make.call(acme, **more, model="small-chat", tags={"prompt": "greeting@1"}) for more in ({}, failed)))
    make.record(acme, make.call(acme, **make.REFUSED, tags={"prompt": "greeting@2"}))

    [by_key], [by_model] = selectors.usage_by_key(["k2345678"]).values(), selectors.usage_by_model(["small-chat"]).values()
    refused, unknown = selectors.usage_by_prompt_version("greeting")
    spent = spend_selectors.spend(Period(timezone.now().date() - timedelta(days=1), timezone.now().date()), "project", {})

    assert [found.cost_usd for found in (by_key, by_model, unknown, usage().total)] == [None] * 4
    assert (refused.cost_usd, spent.total.is_unpriced) == (Decimal(0), True)


def test_hours_of_the_last_day_and_the_measure_of_the_chart(acme: Tenant, model: Model) -> None:
    now = timezone.now()
    make.record(acme, make.call(acme, started_at=now), make.call(acme, started_at=now - timedelta(hours=25)))

    by_hour, by_day = usage(period="24h"), usage(measure="tokens")

    assert by_hour.by_bucket == {now.replace(minute=0, second=0, microsecond=0): {"checkout": 1}}
    assert sum(sum(values.values()) for values in by_day.by_bucket.values()) == 2400


def test_page_shows_everything_to_who_sees_costs_and_own_keys_to_everybody_else(
    acme: Tenant, model: Model, client_for: ClientFor, fay: User, bob: User, rita: User
) -> None:
    keyless = client_for(bob).get(PAGE)
    mine = make.key(bob)
    make.record(
        acme,
        make.call(acme, key_id=mine.public_id, agent="<b>mine</b>"),
        make.call(acme, agent="theirs", status="upstream_error", error_code="upstream_timeout"),
    )

    everything = client_for(fay).get(f"{PAGE}?group=agent&outcome=&measure=failed")
    own = client_for(bob).get(f"{PAGE}?group=agent")
    nothing = client_for(rita).get(PAGE)

    html = everything.content.decode()
    assert everything.context["usage"].total.calls == 2
    assert "&lt;b&gt;mine&lt;/b&gt;" in html
    assert "upstream_timeout" in html
    assert "/o/acme/operate/costs/requests/?model=small-chat" in html
    assert "status=upstream_error&amp;code=upstream_timeout" in html
    assert own.context["usage"].total.calls == 1
    assert "theirs" not in own.content.decode()
    assert "/o/acme/build/requests/?model=small-chat" in own.content.decode()
    assert ("You have no key" in nothing.content.decode(), "/keys/new/" in nothing.content.decode()) == (True, False)
    assert "/keys/new/" in keyless.content.decode()
    assert 'aria-current="page">Usage' in html


@pytest.mark.parametrize(
    "query",
    ["period=24h&view=table", "view=table&measure=cost", "period=nonsense&group=nothing&measure=x&outcome=y", "project=gone&agent=(none)", "from=2026-99-01", "period=custom&from=2026-01-01&to=2026-01-02"],
)  # fmt: skip
def test_page_opens_with_every_query(query: str, acme: Tenant, model: Model, client_for: ClientFor, fay: User) -> None:
    make.record(acme, make.call(acme), make.call(acme, agent=None))

    assert client_for(fay).get(f"{PAGE}?{query}").status_code == 200


def test_page_of_a_draft_is_for_who_manages_models_and_none_is_404(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="idea", status=Model.Status.DRAFT)

    answers = [
        client_for(user).get(f"/o/acme/models/{slug}/usage/").status_code for user, slug in ((alice, "idea"), (bob, "idea"), (bob, "no"))
    ]

    assert answers == [200, 404, 404]


def test_fragment_for_htmx(acme: Tenant, model: Model, client_for: ClientFor, fay: User) -> None:
    answer = client_for(fay).get(PAGE, headers={"HX-Request": "true"})

    assert answer.content.decode().lstrip().startswith('<div class="gh-stack" id="model-usage">')


def test_csv_is_the_current_filter(acme: Tenant, model: Model, client_for: ClientFor, fay: User) -> None:
    at = datetime(2026, 3, 5, 12, 20, tzinfo=UTC)
    make.record(
        acme,
        make.call(acme, started_at=at, agent="=1+1", input_tokens=1_000_000, output_tokens=0),
        make.call(acme, started_at=at, agent="x", project="other"),
    )

    answer = client_for(fay).get(f"{PAGE}csv/?group=agent&project=checkout&from=2026-03-01&to=2026-03-31")

    assert answer.getvalue().decode().splitlines() == [
        "day_utc,agent,calls,refused,failed,unpriced_calls,input_tokens,output_tokens,cost_usd,left",
        "2026-03-05,'=1+1,1,0,0,0,1000000,0,1,0",
    ]
    assert client_for(fay).get(f"{PAGE}csv/?period=24h").getvalue().decode().startswith("hour_utc,project,")


def test_page_takes_as_many_queries_however_much_there_is_and_reads_no_events(
    acme: Tenant, model: Model, client_for: ClientFor, fay: User
) -> None:
    client = client_for(fay)
    make.record(acme, make.call(acme))
    client.get(PAGE)
    with CaptureQueriesContext(connection) as few:
        client.get(f"{PAGE}?group=key")
    make.record(acme, *[make.call(acme, project=f"p{n}", key_id=f"k{n}", agent=f"a{n}", duration_us=1000 * n + 1) for n in range(40)])

    with CaptureQueriesContext(connection) as many:
        client.get(f"{PAGE}?group=key")

    assert len(many) == len(few) <= 22
    assert not any('FROM "event"' in query["sql"] for query in many.captured_queries)


def test_requests_know_the_code_and_errors_without_refusals(acme: Tenant, model: Model, client_for: ClientFor, fay: User) -> None:
    make.record(
        acme,
        make.call(acme),
        make.call(acme, status="client_gone"),
        make.call(acme, status="upstream_error", error_code="upstream_timeout"),
        make.call(acme, **make.REFUSED),
    )

    def listed(query: str) -> list[str]:
        page = client_for(fay).get(f"/o/acme/operate/costs/requests/?{query}")
        return sorted(event.status for event in page.context["page"].rows)

    assert listed("status=errors") == ["client_gone", "upstream_error"]
    assert listed("code=upstream_timeout") == ["upstream_error"]
    assert listed("code=nothing") == []


def test_api_tells_the_same(acme: Tenant, model: Model, api_for: ClientFor, fay: User, bob: User) -> None:
    make.record(
        acme,
        make.call(acme, input_tokens=1_000_000, output_tokens=0),
        make.call(acme, status="upstream_error", error_code="upstream_timeout"),
    )

    body = api_for(fay).get(f"{API}?group=agent&period=24h").json()
    own = api_for(bob).get(API).json()

    assert (body["bucket"], body["scope"], body["total"]["calls"], body["total"]["failed"]) == ("hour", "organisation", 2, 1)
    (line,) = body["lines"]
    assert (line["value"], line["figures"]["p50_ms"]) == ("basket-helper", pytest.approx(800, rel=0.02))
    assert body["errors"] == [{"status": "upstream_error", "code": "upstream_timeout", "calls": 1}]
    assert sum(row["calls"] for row in body["buckets"]) == 2
    assert (own["scope"], own["total"]["calls"], own["total"]["p50_ms"], own["total"]["cost_per_call_usd"]) == ("own_keys", 0, None, None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"group": "colour"}, "group"),
        ({"period": "1y"}, "period"),
        ({"from": "2026-03-02"}, "from"),
        ({"from": "2026-03-02", "to": "2026-03-01"}, "from"),
        ({"from": "2026-03-01", "to": "2026-03-02", "period": "7d"}, "period"),
        ({"modle": "x"}, "modle"),
    ],
)
def test_api_refuses_what_it_does_not_understand(query: dict[str, str], field: str) -> None:
    asked = ModelUsageQuery(data=query)

    assert not asked.is_valid()
    assert field in asked.errors


def test_api_knows_models_and_says_what_is_wrong(acme: Tenant, model: Model, api_for: ClientFor, fay: User) -> None:
    api = api_for(fay)

    missing, wrong = api.get("/api/v1/models/none/usage/"), api.get(f"{API}?group=colour")

    assert (missing.status_code, wrong.status_code, list(wrong.json()["fields"])) == (404, 400, ["group"])
