"""Pages of the costs floor: what they show, to whom, and how many queries that takes."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from costs import periods, selectors, spend_selectors
from costs.models import Event, Inbox
from costs.services import ingest
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model, make_provider

PAGES = ["operate/costs/", "operate/costs/requests/", "operate/costs/price-book/", "operate/costs/reconciliation/"]
OWN = ["build/usage/", "build/requests/"]


@pytest.mark.parametrize("path", PAGES)
def test_pages_of_the_organisation_are_for_who_may_see_costs(
    path: str, acme: Tenant, client_for: ClientFor, fay: User, bob: User, audra: User, charlie: User
) -> None:
    answers = {
        name: client_for(user).get(f"/o/acme/{path}").status_code
        for name, user in {"fay": fay, "audra": audra, "bob": bob, "charlie": charlie, "nobody": None}.items()
    }

    assert answers == {"fay": 200, "audra": 200, "bob": 403, "charlie": 404, "nobody": 302}


@pytest.mark.parametrize("path", OWN)
def test_own_pages_are_for_who_may_use_the_gateway(
    path: str, acme: Tenant, client_for: ClientFor, bob: User, fay: User, charlie: User
) -> None:
    answers = [client_for(user).get(f"/o/acme/{path}").status_code for user in (bob, fay, charlie)]

    assert answers == [200, 403, 404]


def test_spend_shows_money_unpriced_and_untagged_as_lines_of_their_own(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice, input="10", output="10")
    make.record(
        acme,
        make.call(acme, input_tokens=100_000, output_tokens=0),
        make.call(acme, agent=None, input_tokens=50_000, output_tokens=0),
        make.call(acme, model="new-model"),
        make.call(acme, **make.REFUSED),
    )

    page = client_for(fay).get("/o/acme/operate/costs/?group=agent")

    spend = page.context["spend"]
    assert spend.total.cost == Decimal("1.5")
    assert (spend.total.calls, spend.total.unpriced_calls, spend.total.refused, spend.untagged_calls) == (4, 1, 1, 1)
    assert spend.untagged_cost == Decimal("0.5")
    assert round(spend.coverage_calls, 2) == Decimal("66.67")
    assert {line.label for line in spend.lines} == {"basket-helper", "Untagged"}
    html = page.content.decode()
    assert "Untagged" in html
    assert "1 call has no price" in html
    assert "new-model" in html


def test_spend_by_every_grouping_and_filter_adds_up(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    make.record(acme, *[make.call(acme, project=f"p{n % 3}", agent=f"a{n % 2}", input_tokens=1000 * n) for n in range(12)])
    period = periods.this_month(timezone.now().date())

    for group in selectors.GROUPS:
        spend = spend_selectors.spend(period, group, {})
        assert sum(line.cost for line in spend.lines) == spend.total.cost
        assert sum(sum(day.values()) for day in spend.by_day.values()) == spend.total.cost
        assert round(sum(line.share or 0 for line in spend.lines), 6) == 100
    assert spend_selectors.spend(period, "agent", {"project": "p1"}).total.calls == 4
    assert spend_selectors.spend(period, "agent", {"agent": selectors.NONE}).total.calls == 0


def test_period_in_the_url_and_the_period_before(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice, input="1", output="0")
    make.record(
        acme,
        make.call(acme, started_at=datetime(2026, 2, 10, tzinfo=UTC), input_tokens=2_000_000),
        make.call(acme, started_at=datetime(2026, 3, 10, tzinfo=UTC), input_tokens=3_000_000),
    )

    spend = client_for(fay).get("/o/acme/operate/costs/?from=2026-03-01&to=2026-03-31").context["spend"]

    assert (spend.total.cost, spend.total.before, spend.total.change) == (Decimal(3), Decimal(2), Decimal(50))


@pytest.mark.parametrize(
    "query",
    ["from=2026-99-01", "from=x&to=y", "from=2026-03-05&to=2026-03-01", "group=nothing", "from=0001-01-01", "to=9999-12-31", "view=table"],
)
def test_nonsense_in_the_url_falls_back(query: str, acme: Tenant, client_for: ClientFor, fay: User) -> None:
    make.record(acme, make.call(acme))

    assert client_for(fay).get(f"/o/acme/operate/costs/?{query}").status_code == 200


def test_csv_is_the_current_filter_exact_and_harmless(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice, input="0.15", output="0")
    make.record(acme, make.call(acme, agent="=HYPERLINK(1)", input_tokens=1), make.call(acme, project="other", agent="x"))

    answer = client_for(fay).get("/o/acme/operate/costs/csv/?group=agent&project=checkout")

    lines = answer.getvalue().decode().splitlines()
    assert lines[0] == "day_utc,agent,calls,refused,failed,unpriced_calls,tokens,cost_usd"
    assert len(lines) == 2
    assert ",'=HYPERLINK(1),1," in lines[1]
    assert lines[1].endswith(",0.00000015")


def test_spend_takes_the_same_number_of_queries_whatever_there_is(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice)
    client = client_for(fay)
    make.record(acme, make.call(acme), make.call(acme, model="m0"))  # one has no price: that is looked up only when there is one
    client.get("/o/acme/operate/costs/")
    with CaptureQueriesContext(
        connection,
    ) as few:
        client.get("/o/acme/operate/costs/")
    make.record(acme, *[make.call(acme, project=f"p{n}", model=f"m{n}", agent=f"a{n}") for n in range(40)])

    with CaptureQueriesContext(connection) as many:
        client.get("/o/acme/operate/costs/")

    assert len(many) <= len(few) + 1
    assert not any('FROM "event"' in query["sql"] for query in many.captured_queries)


def test_spend_as_fragment_for_htmx(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    make.record(acme, make.call(acme))

    answer = client_for(fay).get("/o/acme/operate/costs/", headers={"HX-Request": "true"})

    assert answer.content.decode().lstrip().startswith('<div class="gh-stack" id="spend">')
    assert "HX-Request" in answer["Vary"]


def test_usage_counts_only_own_keys(acme: Tenant, client_for: ClientFor, bob: User, alice: User) -> None:
    mine = make.key(bob)
    make.record(
        acme,
        make.call(acme, key_id=mine.public_id),
        make.call(acme, key_id=mine.public_id),
        make.call(acme, key_id=make.key(alice).public_id),
    )

    usage = client_for(bob).get("/o/acme/build/usage/").context["spend"]
    requests = client_for(bob).get("/o/acme/build/requests/").context["page"].rows

    assert usage.total.calls == 2
    assert {event.key_id for event in requests} == {mine.public_id}


def test_road_of_a_call_names_its_deployments(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    first, second = (make_model(owner=alice, provider=make_provider(slug=slug)).deployments.get().pk for slug in ("east", "west"))
    steps = [
        ["route", "pass", 1, f"{first},{second},999999"],
        ["route:chat", "best", 1, f"regret_ppm={first} chosen:{first} {first}:0.500(cost:0.50) {second}:0.400(cost:?)"],
        ["failover", "pass", 0, f"{first}:503 → {second}"],
        ["circuit", "pass", 0, f"{first} open, {second} of 30 failed"],
        ["call_upstream", "pass", 9, f"{first}:503 {second}:200"],
        ["policy:a.b", "pass", 0, f"{first}"],
    ]
    make.record(acme, make.call(acme, steps=steps))

    page = client_for(fay).get(f"/o/acme/requests/{Event.objects.get().event_id}/")

    assert [step.detail for step in page.context["steps"]] == [
        "east/small,west/small,999999",
        f"regret_ppm={first} chosen:east/small east/small:0.500(cost:0.50) west/small:0.400(cost:?)",
        "east/small:503 → west/small",
        f"east/small open, {second} of 30 failed",
        "east/small:503 west/small:200",
        f"{first}",
    ]
    assert "Went on" in page.content.decode()


def test_requests_are_paged_by_key_and_filtered(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    start = timezone.now() - timedelta(hours=1)
    make.record(
        acme,
        *[make.call(acme, started_at=start + timedelta(seconds=n // 2), project="shop" if n % 2 else "blog") for n in range(120)],
        make.call(acme, **make.REFUSED),
    )
    client = client_for(fay)

    seen, url = [], "/o/acme/operate/costs/requests/?project=shop"
    while url:
        page = client.get(url).context["page"]
        seen += [event.event_id for event in page.rows]
        url = f"/o/acme/operate/costs/requests/?project=shop&cursor={page.next_cursor}" if page.next_cursor else ""

    assert len(seen) == len(set(seen)) == 60
    assert [event.status for event in client.get("/o/acme/operate/costs/requests/?status=failed").context["page"].rows] == ["refused"]


def test_call_made_elsewhere_says_so_and_has_its_price(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice)
    steps = [["otlp", "pass", 0, "made without the gateway"]]
    make.record(acme, make.call(acme, deployment=None, overhead_us=None, ttft_us=None, steps=steps, tags={"claimed_cost_usd": "99"}))

    page = client_for(fay).get(f"/o/acme/requests/{Event.objects.get().event_id}/").content.decode()

    assert "Reported by OpenTelemetry" in page
    assert "made without the gateway" in page
    assert "$0.0018" in page


def test_request_shows_its_road(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme, **make.REFUSED), make.call(acme))
    refused, ok = Event.objects.get(status="refused"), Event.objects.get(status="ok")

    page = client_for(fay).get(f"/o/acme/requests/{refused.event_id}/").content.decode()
    served = client_for(fay).get(f"/o/acme/requests/{ok.event_id}/").content.decode()

    assert "consent_withdrawn" in page
    assert "Alice switched off assistants" in page
    assert "allow it again under Consent" in page
    assert "$0.0018" in served
    assert "basket-helper" in served


def test_road_tells_what_a_guardrail_noted_from_what_it_stopped(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    verdicts = {"noted": "flagged", "replaced": "redacted", "stopped": "guardrail_blocked"}
    make.record(acme, make.call(acme, steps=[[f"guardrail:{name}", verdict, 1, "input email=1"] for name, verdict in verdicts.items()]))

    page = client_for(fay).get(f"/o/acme/requests/{Event.objects.get().event_id}/")

    assert [(step.glyph, step.label) for step in page.context["steps"]] == [
        ("inconclusive", "Noted"),
        ("inconclusive", "Replaced"),
        ("fail", "Guardrail blocked"),
    ]
    assert "Noted" in page.content.decode()


def test_request_of_somebody_else_answers_like_a_missing_one(
    acme: Tenant, client_for: ClientFor, bob: User, alice: User, charlie: User
) -> None:
    mine, other = make.key(bob), make.key(alice)
    make.record(acme, make.call(acme, key_id=mine.public_id), make.call(acme, key_id=other.public_id))
    ids = {event.key_id: event.event_id for event in Event.objects.all()}
    bobs = client_for(bob)

    assert bobs.get(f"/o/acme/requests/{ids[mine.public_id]}/").status_code == 200
    assert bobs.get(f"/o/acme/requests/{ids[other.public_id]}/").status_code == 404
    assert bobs.get(f"/o/acme/requests/{uuid.uuid4()}/").status_code == 404
    assert client_for(charlie).get(f"/o/acme/requests/{ids[mine.public_id]}/").status_code == 404


def test_search_finds_a_request_by_its_id_for_who_may_see_it(acme: Tenant, client_for: ClientFor, fay: User, bob: User) -> None:
    make.record(acme, make.call(acme, request_id="req-7f3a9c"))

    found = client_for(fay).get("/o/acme/search/?q=req-7f3a9c").content.decode()
    hidden = client_for(bob).get("/o/acme/search/?q=req-7f3a9c").content.decode()

    event = Event.objects.get()
    assert str(event.event_id) in found
    assert str(event.event_id) not in hidden


def test_freshness_stops_at_the_oldest_call_that_waits(acme: Tenant) -> None:
    waiting = make.call(acme, started_at=timezone.now() - timedelta(minutes=9))
    make.deliver(waiting)

    assert selectors.complete_through() == waiting["started_at"]


NEXT_STEPS = {
    "operate/costs/": ("No call yet", "/o/acme/build/first-call/"),
    "operate/costs/requests/": ("No request yet", "/o/acme/build/first-call/"),
    "build/usage/": ("You have no key yet", "/o/acme/build/keys/new/"),
    "operate/costs/price-book/": ("The book is empty", "/o/acme/operate/costs/price-book/proposals/#feed"),
    "operate/costs/price-book/#add": ("No provider yet", "/o/acme/operate/models/new/"),
    "operate/costs/price-book/proposals/": ("No provider yet", "/o/acme/operate/models/new/"),
    "operate/costs/commitments/": ("No provider yet", "/o/acme/operate/models/new/"),
    "operate/costs/reconciliation/sources/": ("No provider yet", "/o/acme/operate/models/new/"),
}
"""What a page of a new organisation says, and where it sends its owner."""


@pytest.mark.parametrize(("path", "step"), NEXT_STEPS.items(), ids=NEXT_STEPS)
def test_empty_page_leads_on_whoever_may_fill_it(
    acme: Tenant, alice: User, client_for: ClientFor, path: str, step: tuple[str, str]
) -> None:
    page = client_for(alice).get(f"/o/acme/{path.partition('#')[0]}").content.decode()

    assert step[0] in page
    assert f'class="btn" href="{step[1]}"' in page


def test_spend_without_calls_leads_nobody_to_a_page_that_is_not_theirs(acme: Tenant, fay: User, client_for: ClientFor) -> None:
    page = client_for(fay).get("/o/acme/operate/costs/").content.decode()

    assert "No call yet" in page
    assert "first-call" not in page


def test_empty_period_leads_to_the_calls_of_others(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make.record(acme, make.call(acme))

    page, widest = (
        client_for(alice).get(f"/o/acme/operate/costs/?period={period}&from=2021-01-01&to=2021-01-02").content.decode()
        for period in ("custom", "90d")
    )

    assert "There are calls at other times." in page
    assert 'class="btn" href="/o/acme/operate/costs/?period=90d"' in page
    assert "No call" not in widest


@pytest.mark.parametrize("path", ["operate/costs/", "operate/costs/requests/", "build/usage/", "build/requests/"])
def test_page_says_when_nobody_counts(path: str, acme: Tenant, alice: User, client_for: ClientFor) -> None:
    client = client_for(alice)
    make.deliver(make.call(acme))
    fresh = client.get(f"/o/acme/{path}").content.decode()
    Inbox.objects.update(received_at=timezone.now() - timedelta(minutes=2))

    late = client.get(f"/o/acme/{path}").content.decode()
    ingest.ingest(tenant=acme)
    counted = client.get(f"/o/acme/{path}").content.decode()

    assert ["Calls wait to be counted" in page for page in (fresh, late, counted)] == [False, True, False]


@pytest.mark.parametrize("path", ["price-book/proposals/", "exchange-rates/"])
def test_labels_of_two_forms_on_one_page_lead_to_their_own_fields(path: str, acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_provider(slug="openai")

    page = client_for(alice).get(f"/o/acme/operate/costs/{path}").content.decode()

    ids = re.findall(r' id="([^"]+)"', page)
    assert sorted(ids) == sorted(set(ids))
