"""What a month cost whom: nothing is lost, what is not tagged is a line of its own, and a project's people see their own."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from catalog.models import Project
from costs import showback_selectors, tasks
from costs.models import UsageDay, UsageHour
from costs.services import required_tags, showback
from governance.models import AlertChannel, Delivery, Notice, Tenant, User
from governance.roles import Role
from governance.schema import enter_tenant
from governance.services import alerts, people
from tests.conftest import ClientFor, api_client
from tests.factories import costs as make

OCTOBER = date(2026, 10, 1)
PAGE = "/o/acme/operate/costs/showback/"
LATER = datetime(2026, 11, 3, 9, tzinfo=UTC)


@pytest.fixture
def october(acme: Tenant, alice: User, bob: User) -> None:
    """Two projects with a cost centre, one without, calls of nobody, a refused and an unpriced one; a little in September."""
    make.prices(alice)
    make.key(bob)
    Project.objects.create(slug="search", name="Search", owner=alice, cost_centre="CC-9")
    Project.objects.create(slug="lab", name="Lab", owner=alice)
    at = datetime(2026, 10, 12, 8, tzinfo=UTC)
    make.record(
        acme,
        *(make.call(acme, started_at=at + timedelta(seconds=n)) for n in range(3)),
        make.call(acme, started_at=at, agent="mailer"),
        make.call(acme, started_at=at, project="search", agent="indexer", output_tokens=5_000),
        make.call(acme, started_at=at, project="lab"),
        make.call(acme, started_at=at, project=None, key_id=None, agent=None),
        make.call(acme, started_at=at, model="nameless"),
        make.call(acme, started_at=at, **make.REFUSED),
        make.call(acme, started_at=datetime(2026, 9, 30, 23, 59, tzinfo=UTC)),
    )


def test_every_cent_is_somebodys_or_visibly_nobodys(october: None) -> None:
    found = showback_selectors.showback(OCTOBER)

    known = sum(hour.cost for hour in UsageHour.objects.filter(hour__month=10))
    assert found.total.cost == sum(agent.cost for _, _, agent in found.lines) == known
    assert sum(centre.share or 0 for centre in found.total.children) == 100
    assert [centre.label for centre in found.total.children] == ["CC-9", "CC-7", "No cost centre"]
    assert [project.label for project in found.total.children[-1].children] == ["Lab", "No project"]
    assert [agent.label for agent in found.total.children[1].children[0].children] == ["basket-helper", "mailer"]
    assert (found.total.untagged_calls, found.total.untagged_cost) == (1, Decimal("0.0018"))
    assert (found.total.calls, found.total.unpriced_calls) == (8, 1)
    # The same from the hours, while days lack calls.
    UsageDay.objects.filter(dimension="region").delete()
    assert showback_selectors.showback(OCTOBER).total == found.total


@pytest.mark.parametrize(
    ("asked", "levels"),
    [
        (("tag:team", ""), ("tag:team", "project", "agent")),
        (("tag:team", "model"), ("tag:team", "model", "agent")),
        (("cost_centre", "tag:team"), ("cost_centre", "tag:team", "agent")),
        (("environment", "agent"), ("environment", "agent")),
        (("project", ""), ("project", "agent")),
        (("", "cost_centre"), ("project", "cost_centre", "agent")),
    ],
)
def test_any_level_adds_up_to_the_month(asked: tuple[str, str], levels: tuple[str, ...], october: None, acme: Tenant, fay: User) -> None:
    """By a tag, too: of calls since it was declared; the others are a line of their own."""
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    at = datetime(2026, 10, 13, 8, tzinfo=UTC)
    make.record(acme, make.call(acme, started_at=at, tags={"team": "payments"}), make.call(acme, started_at=at, output_tokens=300))

    found = showback_selectors.showback(OCTOBER, showback_selectors.levels_of(*asked))

    leaves = [nodes[-1] for nodes in found.lines]
    assert found.levels == levels
    assert found.total.cost == sum(hour.cost for hour in UsageHour.objects.filter(hour__month=10)) == sum(leaf.cost for leaf in leaves)
    assert found.total.calls == sum(leaf.calls for leaf in leaves) == 10
    of_tag = any(level == "tag:team" for level in levels)
    assert [(node.calls, node.before) for node in found.total.children if node.is_uncounted] == ([(8, None)] if of_tag else [])
    if levels[0] == "tag:team":
        assert [node.label for node in found.total.children] == ["payments", "No team", "Not counted by it"]
    assert found.total.before == Decimal("0.0018")


@pytest.mark.parametrize(
    ("by", "then"), [("tag:colour", ""), ("agent", ""), ("project", "project"), ("tag:team", "tag:costCenter"), ("model", "project")]
)
def test_levels_that_are_not_counted_are_refused(
    by: str, then: str, october: None, acme: Tenant, client_for: ClientFor, api_for: ClientFor, fay: User
) -> None:
    for name in ("team", "costCenter"):
        required_tags.create_required_tag(name=name, rule=required_tags.Rule(), actor=fay)

    answer = api_for(fay).get("/api/v1/showback/", {"month": "2026-10", "by": by, "then": then} if then else {"by": by})
    page = client_for(fay).get(PAGE, {"month": "2026-10", "by": by, "then": then})

    assert (answer.status_code, answer.json()["code"]) == (400, "spend_not_counted")
    assert page.context["by"] in ("cost_centre", by)
    assert page.context["found"].total.calls == 8


def test_showback_by_a_tag_leaves_by_every_door(october: None, acme: Tenant, client_for: ClientFor, api_for: ClientFor, fay: User) -> None:
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    make.record(acme, make.call(acme, started_at=datetime(2026, 10, 13, 8, tzinfo=UTC), tags={"team": "payments"}))
    asked = {"month": "2026-10", "by": "tag:team", "then": "cost_centre"}

    html = client_for(fay).get(PAGE, asked).content.decode()
    rows = list(csv.DictReader(io.StringIO(client_for(fay).get(f"{PAGE}csv/", asked).getvalue().decode())))
    answer = api_for(fay).get("/api/v1/showback/", asked).json()

    assert "<th>Tag team, cost centre, agent</th>" in html
    assert "Not counted by it" in html
    assert [(row["tag:team"], row["cost_centre"], row["agent"]) for row in rows] == [
        ("payments", "CC-7", "basket-helper"),
        ("(not counted)", "", ""),
    ]
    assert answer["levels"] == ["tag:team", "cost_centre", "agent"]
    assert [line["values"].get("tag:team") for line in answer["lines"]] == ["payments", "(not counted)"]
    assert [line["project"] for line in answer["lines"]] == [None, None]
    assert sum(Decimal(row["cost_usd"]) for row in rows) == Decimal(answer["total"]["cost_usd"])


def test_call_that_comes_in_between_is_not_uncounted(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    at = datetime(2026, 10, 13, 8, tzinfo=UTC)
    make.record(acme, make.call(acme, started_at=at, tags={"team": "payments"}))
    waiting = [make.call(acme, started_at=at, tags={"team": "payments"})]

    def meanwhile(execute: Any, sql: str, *rest: Any) -> Any:
        answer = execute(sql, *rest)
        if waiting and sql.startswith("SELECT") and "attribute_day" in sql:
            make.record(acme, waiting.pop())
        return answer

    with connection.execute_wrapper(meanwhile):
        found = showback_selectors.showback(OCTOBER, showback_selectors.levels_of("tag:team"))

    assert waiting == []
    assert [(node.label, node.calls) for node in found.total.children] == [("payments", 1)]
    assert showback_selectors.showback(OCTOBER, found.levels).total.calls == 2


def test_nobody_is_called_what_pages_call_other_things(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    make.key(alice)
    make.record(
        acme, *(make.call(acme, started_at=datetime(2026, 10, 13, 8, tzinfo=UTC), agent=agent) for agent in ("(not counted)", "(other)"))
    )

    [project] = showback_selectors.showback(OCTOBER, ("project", "agent")).total.children

    assert {node.label for node in project.children} == {"(not counted)", "(other)"}
    assert not any(node.is_uncounted for node in project.children)


def test_month_before_is_beside_it(october: None) -> None:
    found = showback_selectors.showback(OCTOBER)

    checkout, new = found.total.children[1].children[0], found.total.children[0]
    assert (checkout.before, checkout.change) == (Decimal("0.0018"), Decimal("0.0054"))
    assert (new.before, new.change) == (None, None)


@pytest.mark.parametrize(
    ("text", "month"), [("2026-10", OCTOBER), ("", OCTOBER), ("soon", OCTOBER), ("2026-13", OCTOBER), ("2026-09", date(2026, 9, 1))]
)
def test_month_of_the_url_defaults_to_the_newest_whole_one(text: str, month: date) -> None:
    assert showback_selectors.month_of(text, date(2026, 11, 21)) == month


def test_page_and_csv(october: None, acme: Tenant, client_for: ClientFor, audra: User) -> None:
    client = client_for(audra)

    html = client.get(f"{PAGE}?month=2026-10").content.decode()
    empty = client.get(f"{PAGE}?month=2025-01").content.decode()
    rows = list(csv.DictReader(io.StringIO(client.get(f"{PAGE}csv/?month=2026-10").getvalue().decode())))

    assert html.count("gh-chip is-warn") == 3
    assert "No alert channel takes" in html
    assert "No call in this month" in empty
    assert sum(Decimal(row["cost_usd"]) for row in rows) == showback_selectors.showback(OCTOBER).total.cost
    assert {row["agent"] for row in rows if not row["project"]} == {""}


def test_project_is_shown_to_its_people_only(
    october: None, acme: Tenant, client_for: ClientFor, bob: User, rita: User, audra: User
) -> None:
    page = client_for(bob).get("/o/acme/projects/checkout/costs/?month=2026-10")
    table = client_for(bob).get("/o/acme/projects/checkout/costs/csv/?month=2026-10").getvalue().decode().splitlines()

    links = [b"/projects/checkout/costs/" in client_for(person).get("/o/acme/projects/checkout/").content for person in (bob, rita, audra)]
    found = page.context["found"]
    assert links == [True, False, True]
    assert found.agents.cost == found.models.cost == Decimal("0.0072")
    assert [(first.month, calls) for first, _, calls, _ in found.history] == [(10, 5), (9, 1)]
    assert len(table) == 1 + 2 + 2
    assert [client_for(person).get("/o/acme/projects/checkout/costs/").status_code for person in (rita, audra)] == [404, 200]
    assert client_for(bob).get("/o/acme/projects/search/costs/").status_code == 404
    assert client_for(bob).get(PAGE).status_code == 403


def test_showback_for_programs(october: None, acme: Tenant, api_for: ClientFor, fay: User, bob: User) -> None:
    whole = api_for(fay).get("/api/v1/showback/?month=2026-10").json()
    own = api_for(bob).get("/api/v1/showback/checkout/?month=2026-10").json()
    codes = [api_for(bob).get(f"/api/v1/showback/{path}").status_code for path in ("", "search/", "checkout/?month=October")]

    assert sum(Decimal(line["figures"]["cost_usd"]) for line in whole["lines"]) == Decimal(whole["total"]["cost_usd"])
    assert (whole["month"], whole["is_over"], whole["total"]["untagged_cost_usd"]) == ("2026-10", True, "0.0018")
    assert {row["name"]: row["cost_usd"] for row in own["agents"]} == {"basket-helper": "0.0054", "mailer": "0.0018"}
    assert codes == [403, 404, 400]


def test_token_narrowed_to_other_roles_sees_no_project(october: None, acme: Tenant, fay: User) -> None:
    people.change_roles(membership=fay.memberships.get(tenant=acme), roles=[Role.FINANCE, Role.DEVELOPER], actor=None)

    answer = api_client(fay, acme, roles=[Role.DEVELOPER]).get("/api/v1/showback/checkout/?month=2026-10")

    assert answer.status_code == 404


def test_month_is_told_once_when_it_is_complete(october: None, acme: Tenant, alice: User) -> None:
    alerts.create_channel(name="Finance", kind=AlertChannel.Kind.EMAIL, target="cfo@example.com", topics=["cost.showback"], actor=alice)

    early = showback.tell_month(at=datetime(2026, 11, 1, 5, tzinfo=UTC))
    first, again = showback.tell_month(at=LATER), showback.tell_month(at=LATER + timedelta(days=9))

    assert early is not None
    assert early.key == "showback:2026-09"  # of August nothing is known, so September went out late
    assert first == again == Notice.objects.get(key="showback:2026-10")
    assert first.title == "October 2026 cost $0.03"
    assert first.text.splitlines() == [
        "$0.03 (1666.7%) more than the month before.",
        "CC-9: $0.02 (66.0%)",
        "CC-7: $0.0072 (22.6%)",
        "No cost centre: $0.0036 (11.3%)",
        "Untagged: $0.0018 in 1 call.",
        "Without a price, and in no sum: 1 call.",
    ]
    assert Delivery.objects.filter(channel__name="Finance").count() == 2


def test_month_waits_for_calls_in_the_inbox(october: None, acme: Tenant) -> None:
    make.deliver(make.call(acme, started_at=datetime(2026, 10, 30, tzinfo=UTC)))

    assert showback.tell_month(at=LATER) is None


def test_month_without_a_call_is_not_told(acme: Tenant) -> None:
    tasks.tell_showback(schema_name=acme.schema_name)

    enter_tenant(acme)
    assert not Notice.objects.exists()
