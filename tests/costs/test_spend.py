"""Spend against an earlier period, towards the end of the month, drilled into, and what could be cheaper."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from catalog.hooks import Price
from catalog.models import Model, Project
from costs import anomaly_selectors, attribute_days, charts, cheaper, dimensions, periods, selectors, spend_selectors
from costs.forecast import Coming, Forecast, TooLittle, forecast
from costs.models import Anomaly, Budget, UsageDay
from costs.periods import Period
from costs.services import budgets, required_tags
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

PAGE = "/o/acme/operate/costs/"
NOVEMBER = Period(date(2026, 11, 1), date(2026, 11, 21))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_periods_are_compared_as_asked() -> None:
    week = Period(date(2026, 3, 25), date(2026, 3, 31))

    assert periods.compared(NOVEMBER, "") == Period(date(2026, 10, 1), date(2026, 10, 21))
    assert periods.compared(NOVEMBER, "before") == Period(date(2026, 10, 11), date(2026, 10, 31))
    assert periods.compared(week, "") == Period(date(2026, 3, 18), date(2026, 3, 24))
    assert periods.compared(week, "month") == Period(date(2026, 2, 25), date(2026, 2, 28))
    assert periods.compared(Period(date(2028, 2, 29), date(2028, 2, 29)), "year") == Period(date(2027, 2, 28), date(2027, 2, 28))
    assert periods.compared(week, "none") is None
    assert (NOVEMBER.month_end, Period(date(2026, 12, 1), date(2026, 12, 2)).month_end) == (date(2026, 11, 30), date(2026, 12, 31))


def test_named_periods_move_with_the_day_and_days_make_their_own() -> None:
    today = date(2026, 3, 31)

    assert periods.named_from_query({"period": "last-month"}, today) == ("last-month", Period(date(2026, 2, 1), date(2026, 2, 28)))
    assert periods.named_from_query({"period": "7d", "from": "2020-01-01"}, today) == ("7d", Period(date(2026, 3, 25), today))
    assert periods.named_from_query({"from": "2026-03-02", "to": "2026-03-03"}, today)[0] == "custom"
    assert periods.named_from_query({"period": "nonsense"}, today) == ("this-month", Period(date(2026, 3, 1), today))


def test_comparison_shows_differences_vanished_values_and_the_earlier_days(
    acme: Tenant, client_for: ClientFor, api_for: ClientFor, alice: User, fay: User
) -> None:
    make.prices(alice, input="1", output="0")
    make.prices(alice, input="1", output="0", model="old-chat")
    make.record(
        acme,
        make.call(acme, started_at=at("2026-02-10"), input_tokens=2_000_000),
        make.call(acme, started_at=at("2026-02-11"), input_tokens=500_000, model="old-chat"),
        make.call(acme, started_at=at("2026-03-10"), input_tokens=3_000_000),
    )
    query = "from=2026-03-10&to=2026-03-12&compare=month"

    page = client_for(fay).get(f"{PAGE}?{query}")
    table = client_for(fay).get(f"{PAGE}?{query}&view=table")
    alone = client_for(fay).get(f"{PAGE}?from=2026-03-10&to=2026-03-12&compare=none")
    answer = api_for(fay).get(f"/api/v1/spend/?{query}").json()

    found = page.context["spend"]
    assert [(line.label, line.cost, line.difference) for line in found.lines] == [
        ("small-chat", Decimal(3), Decimal(1)),
        ("old-chat", Decimal(0), Decimal("-0.5")),
    ]
    assert (found.total.before, found.total.difference) == (Decimal("2.5"), Decimal("0.5"))
    [earlier] = [trace for trace in page.context["figure"]["data"] if trace["name"] == "Earlier"]
    assert earlier["y"] == [2.0, 0.5, 0.0]
    assert table.context["day_rows"] == [(date(2026, 3, 10), [Decimal(3)], Decimal(3), Decimal(2))]
    assert alone.context["spend"].total.before is None
    assert "Earlier" not in {trace["name"] for trace in alone.context["figure"]["data"]}
    assert (answer["earlier_first_day"], answer["total"]["earlier_cost_usd"], answer["forecast"]) == ("2026-02-10", "2.5", None)


def test_days_and_hours_give_the_same_page(acme: Tenant, alice: User, fay: User) -> None:
    make.prices(alice)
    make.record(
        acme, *[make.call(acme, agent=f"a{n % 3}" if n else None, input_tokens=1000 * n) for n in range(7)], make.call(acme, **make.REFUSED)
    )
    period = periods.this_month(timezone.now().date())
    everything = {"project": "checkout"}

    for group in ("agent", "model", "key"):
        by_days = spend_selectors.spend(period, group, {}, earlier=period.previous())
        of_days = spend_selectors.spend(period, group, everything, earlier=period.previous())
        UsageDay.objects.filter(dimension="region").update(calls=7)  # they lack a call, so only the hours have all
        by_hours = spend_selectors.spend(period, group, everything, earlier=period.previous())
        UsageDay.objects.filter(dimension="region").update(calls=8)
        assert replace(of_days, complete_through=by_hours.complete_through) == by_hours
        assert by_days.by_day == by_hours.by_day
        assert by_days.earlier_days == by_hours.earlier_days
        assert [line.cost for line in by_days.lines] == [line.cost for line in by_hours.lines]
        assert by_days.total.cost == by_hours.total.cost
        assert (by_days.total.calls, by_days.total.refused, by_hours.total.calls) == (8, 1, 8)
        assert (by_days.untagged_calls, by_days.untagged_cost) == (by_hours.untagged_calls, by_hours.untagged_cost)


def test_page_lists_the_costly_ones_and_sums_the_rest(
    acme: Tenant, client_for: ClientFor, alice: User, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spend_selectors, "SHOWN", 2)
    make.prices(alice)
    make.record(acme, *[make.call(acme, agent=f"a{n}", input_tokens=1000 * n) for n in range(1, 5)])

    page = client_for(fay).get(f"{PAGE}?group=agent")

    found = page.context["spend"]
    assert [line.value for line in found.shown] == ["a4", "a3"]
    assert (found.rest.label, found.rest.calls, found.rest.cost) == ("2 more", 2, sum(line.cost for line in found.lines[2:]))
    assert "2 more" in page.content.decode()


def test_chart_leads_to_the_calls_behind_it_with_the_same_filter(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme), make.call(acme, agent=None))

    page = client_for(fay).get(f"{PAGE}?group=agent&project=checkout&model=small-chat")

    drill = page.context["figure"]["drill"]
    assert drill == {
        "url": "/o/acme/operate/costs/requests/?project=checkout&model=small-chat",
        "parameter": "agent",
        "values": [line.value for line in page.context["spend"].lines],
    }
    day = timezone.now().date().isoformat()
    calls = client_for(fay).get(f"{drill['url']}&agent=(none)&from={day}&to={day}").context["page"].rows
    assert [call.agent for call in calls] == [""]

    # More filters on demand; a period of the requests is in the form, and so in the address.
    more = client_for(fay).get(f"{PAGE}?more=1&agent=(none)")
    assert [name for name, *_ in page.context["selects"]] == ["project", "model"]
    assert {"agent", "key", "provider"} <= {name for name, *_ in more.context["selects"]}
    assert [(name, text) for name, _, text, *_ in more.context["chips"]] == [("agent", "Untagged")]
    listed = client_for(fay).get(f"/o/acme/operate/costs/requests/?from={day}").content.decode()
    assert f'name="from" value="{day}"' in listed


def days(first: date, count: int, **fields: Any) -> list[UsageDay]:
    zeros = dict.fromkeys(("refused", "errors", "tokens", "unpriced_calls", "untagged_calls", "untagged_cost", "estimated_calls"), 0)
    row = {**zeros, "dimension": "all", "value": "", "calls": 10, "cost": Decimal(10), **fields}
    return [UsageDay(day=first + timedelta(days=n), **row) for n in range(count)]


def test_month_is_forecast_with_two_weeks_of_history_and_says_why_not_with_less(acme: Tenant) -> None:
    now = at("2026-11-21T12:00")
    UsageDay.objects.bulk_create(days(date(2026, 11, 8), 13) + days(date(2026, 11, 21), 1, cost=Decimal(5)))
    early = spend_selectors.outlook(NOVEMBER, {}, at=now)
    UsageDay.objects.bulk_create(days(date(2026, 10, 1), 38))

    found = spend_selectors.outlook(NOVEMBER, {}, at=now)

    assert early == TooLittle(13)
    assert isinstance(found, Forecast)
    assert found.expected == Decimal("300.00")
    assert [one.day.day for one in found.coming] == list(range(22, 31))
    assert found.coming[0] == Coming(date(2026, 11, 22), Decimal("10.00"), Decimal("10.00"), Decimal("10.00"))


def test_band_of_a_day_holds_about_four_of_five_days() -> None:
    """Spend with a weekday profile and noise; each day's band is made up to a week ahead."""
    noise, inside, seen = random.Random(7), 0, 0
    spent = {
        date(2026, 1, 1) + timedelta(days=n): Decimal(str(round((60 if n % 7 < 5 else 25) + noise.gauss(0, 8), 2))) for n in range(200)
    }
    for back in range(60, 190, 7):
        today = date(2026, 1, 1) + timedelta(days=back)
        found = forecast(spent=Decimal(), days=spent, today=today, last_day=today + timedelta(days=7), rest_of_today=0.5)
        assert isinstance(found, Forecast)
        seen += len(found.coming)
        inside += sum(one.low <= spent[one.day] <= one.high for one in found.coming)

    assert 0.70 <= inside / seen <= 0.93


def test_own_page_hints_at_an_equal_model_for_less(acme: Tenant, client_for: ClientFor, bob: User, alice: User) -> None:
    key = make.key(bob)
    make.deployment(alice)
    make.deployment(alice, model="tiny-chat", upstream="tiny")
    make.prices(alice, input="1", output="4")
    make.prices(alice, input="0.5", output="2", model="tiny-chat")
    make.record(acme, make.call(acme, key_id=key.public_id, input_tokens=1_000_000, output_tokens=0))

    page = client_for(bob).get("/o/acme/build/usage/?group=agent")

    assert page.context["hints"] == [cheaper.Hint("small-chat", "tiny-chat", Decimal(1), Decimal("0.5"))]
    assert "50% less" in page.content.decode()
    assert "says nothing about quality" in page.content.decode()
    assert [line.label for line in page.context["spend"].lines] == ["basket-helper"]


@pytest.mark.parametrize(
    ("page", "query", "table"),
    [
        ("operate/costs/", "period=this-month&group=provider", "operate/costs/csv/?period=this-month&amp;group=provider"),
        ("operate/costs/review/", "month=2026-09", "operate/costs/review/csv/?month=2026-09"),
        ("operate/costs/showback/", "month=2026-09", "operate/costs/showback/csv/?month=2026-09&amp;by=cost_centre&amp;then=project"),
    ],
)
def test_filter_takes_the_csv_with_it(page: str, query: str, table: str, acme: Tenant, client_for: ClientFor, fay: User) -> None:
    """What a filter swaps has the link, which otherwise would go on naming the filters of before."""
    fragment = client_for(fay).get(f"/o/acme/{page}?{query}", headers={"HX-Request": "true"}).content.decode()

    assert "<html" not in fragment
    assert f'href="/o/acme/{table}"' in fragment


@pytest.mark.parametrize(
    "change",
    [
        {"status": "deprecated"},
        {"capabilities": ["embeddings"]},
        {"max_output_tokens": 100},
        {"context_window": 4000},
        {"data_sensitivity": "public"},
        {"environment": "test"},
    ],
)
def test_lesser_model_is_not_equal(change: dict[str, Any]) -> None:
    own = Model(slug="a", status="approved", capabilities=["chat"], context_window=8000)
    equal = Model(slug="b", status="approved", capabilities=["chat", "tools"], context_window=8000)
    assert cheaper.is_equal(own, equal)

    for name, value in change.items():
        setattr(equal, name, value)

    assert not cheaper.is_equal(own, equal)
    assert cheaper.hints({"a": cheaper.Used(1, 1)}, [], {("p", "a"): Price(Decimal(1), Decimal(1))}) == []


def test_every_dimension_adds_up_is_narrowed_and_leads_to_its_calls(
    acme: Tenant, client_for: ClientFor, api_for: ClientFor, alice: User, fay: User
) -> None:
    Project.objects.create(slug="checkout", name="Checkout", owner=alice, environment="production")
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    make.prices(alice)
    make.record(
        acme,
        *[
            make.call(acme, tags={"team": f"t{n % 3}"} if n else {}, region="us" if n % 2 else "eu", input_tokens=1000 * n)
            for n in range(6)
        ],
        make.call(acme, project="elsewhere", deployment=None, agent=None),
        make.call(acme, **make.REFUSED),
    )
    period = periods.this_month(timezone.now().date())
    calls_of = {"environment": "production", "deployment": "1", "region": "us", "tag:team": "t1"}

    for group in dimensions.groups():
        found = spend_selectors.spend(period, group, {}, earlier=period.previous())
        assert sum(line.cost for line in found.lines) == found.total.cost
        assert sum(sum(day.values()) for day in found.by_day.values()) == found.total.cost
        assert (found.total.calls, found.total.refused, attribute_days.UNCOUNTED in {line.value for line in found.lines}) == (8, 1, False)
        assert sum(row[-1] for row in spend_selectors.spend_by_day(period, group, {})) == found.total.cost
        if group in calls_of:
            narrowed = spend_selectors.spend(period, "project", {group: calls_of[group]})
            [own] = [line for line in found.lines if line.value == calls_of[group]]
            listed = client_for(fay).get("/o/acme/operate/costs/requests/", {group: calls_of[group]}).context["page"].rows
            answer = api_for(fay).get("/api/v1/requests/", {group: calls_of[group]}).json()["results"]
            assert (narrowed.total.calls, narrowed.total.cost) == (own.calls, own.cost)
            assert len(listed) == len(answer) == own.calls > 0
    assert spend_selectors.spend(period, "region", {"project": "checkout", "environment": "production"}).total.calls == 7
    assert spend_selectors.spend(period, "region", {"environment": selectors.NONE}).total.calls == 1
    assert {line.label for line in spend_selectors.spend(period, "tag:team", {}).lines} == {"t0", "t1", "t2", "No team"}
    assert spend_selectors.spend(period, "tag:team", {}, keys=["k2345678"]).total.calls == 8

    page = client_for(fay).get(f"{PAGE}?group=tag:team&tag:team=t1&project=checkout")
    assert page.context["requests_query"].startswith("tag%3Ateam=t1&project=checkout&from=")
    assert "group=project" in page.context["rows"][0][1]
    classes = api_for(fay).get("/api/v1/spend/", {"group": "token_class", "model": "small-chat"}).json()
    assert [(line["value"], line["refused"], line["unpriced_tokens"]) for line in classes["lines"]] == [
        ("input", None, 0),
        ("output", None, 0),
    ]
    assert (classes["total"]["calls"], api_for(fay).get("/api/v1/spend/?tag:team=t1").json()["total"]["calls"]) == (8, 2)


def test_what_is_not_counted_together_is_said_and_what_is_missing_has_a_line(
    acme: Tenant, client_for: ClientFor, api_for: ClientFor, alice: User, fay: User
) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme, tags={"team": "search"}))
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=fay)
    make.record(acme, make.call(acme, tags={"team": "search"}), make.call(acme, tags={"team": "search"}, model="new-model"))
    month = periods.this_month(timezone.now().date())

    [own, missing] = spend_selectors.spend(month, "tag:team", {}).lines
    assert (own.value, own.calls, missing.label, missing.calls, missing.cost) == ("search", 2, "Not counted by it", 1, Decimal("0.0018"))

    for query in ("group=region&deployment=1", "group=tag:team&region=eu", "group=token_class&project=checkout", "group=tag:nobody"):
        page = client_for(fay).get(f"{PAGE}?{query}")
        assert (page.status_code, "Not counted together" in page.content.decode()) == (200, True)
        assert client_for(fay).get(f"{PAGE}csv/?{query}").status_code == 400
        assert api_for(fay).get(f"/api/v1/spend/?{query}").json()["code"] == "spend_not_counted"
    assert api_for(fay).get("/api/v1/spend/?group=colour").status_code == 400
    assert "token_class" not in client_for(alice).get("/o/acme/build/usage/?period=this-month").context["groups"]


def test_requests_have_open_periods(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    now = timezone.now()
    make.record(acme, make.call(acme, started_at=now - timedelta(days=70)), make.call(acme))
    url = "/o/acme/operate/costs/requests/"

    def listed(query: str) -> tuple[int, str]:
        page = client_for(fay).get(f"{url}?{query}")
        return len(page.context["page"].rows), page.context["period"].label if page.context["period"] else ""

    day = now.date() - timedelta(days=30)
    assert listed(f"to={day}") == (1, f"up to {Period(day, day).label}")
    assert listed(f"from={day}") == (1, f"from {Period(day, day).label} on")
    assert [listed(query) for query in (f"from={now.date()}&to={day}", "to=nonsense")] == [(2, ""), (2, "")]


def stands_out(ref: str, **fields: Any) -> Anomaly:
    """An anomaly of the day of `factories.costs.call`."""
    day = datetime.combine((timezone.now() - timedelta(minutes=1)).date(), datetime.min.time(), UTC)
    given: dict[str, Any] = {"dimension": "agent", "kind": "spike", "first_at": day} | fields
    given = {"expected": Decimal(1), "actual": Decimal(9), "excess": Decimal(8)} | given
    given = {"points": [{"at": day.isoformat(), "expected": str(given["expected"]), "actual": str(given["actual"])}]} | given
    return Anomaly.objects.create(ref=ref, period="day", last_at=day + timedelta(days=1), score=9, created_at=day, **given)


def test_page_names_what_stands_out_of_what_is_shown(acme: Tenant, client_for: ClientFor, alice: User, fay: User, audra: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme), make.call(acme, model="other-chat"))
    make.price(alice, model="other-chat")
    stands_out("search", also=[["model", "small-chat"]])
    stands_out("dull", feedback="false", feedback_by=fay, feedback_at=timezone.now(), status="closed")
    stands_out("looked-after", status="acknowledged", expected=Decimal(1), actual=Decimal(3), excess=Decimal(2))

    whole, of_model, of_other, own = (
        client_for(who).get(url).content.decode()
        for who, url in (
            (fay, PAGE),
            (audra, f"{PAGE}?model=small-chat"),
            (fay, f"{PAGE}?model=other-chat"),
            (alice, "/o/acme/build/usage/"),
        )
    )

    assert ("was expected" in whole, "Say if it is real" in whole, ">search</a>" in whole) == (True, True, True)
    assert (">dull</a>" in whole, ">looked-after</a>" in whole) == (False, False)
    assert ('"text": "+$8.00"' in whole, '"text": "+$8.00"' in of_model, '"text": "+$8.00"' in of_other) == (True, True, False)
    assert "1 marked as not expected" in whole
    assert ("See why" in of_model, "was expected" in of_other, "was expected" in own) == (True, False, False)


def test_agent_by_the_name_of_a_dimension_does_not_show_what_stands_out_of_others(acme: Tenant) -> None:
    whole = stands_out("", dimension="tenant", also=[["project", "shop"], ["agent", "search"]])
    days = Period(whole.first_at.date(), whole.first_at.date())

    found = [anomaly_selectors.largest_within(days, {"agent": name}).count() for name in ("search", "agent")]

    assert found == [1, 0]


def test_open_anomalies_are_named_though_larger_ones_were_looked_at(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme))
    for n in range(3):
        stands_out(f"seen-{n}", status="acknowledged")
    stands_out("open", actual=Decimal(3), excess=Decimal(2))
    assert [one.ref for one, _, _ in client_for(fay).get(PAGE).context["needs"]["anomalies"]] == ["open"]


def test_chart_marks_the_worst_day_shown_of_an_anomaly_by_its_own_excess(
    acme: Tenant, client_for: ClientFor, alice: User, fay: User
) -> None:
    make.prices(alice)
    day = datetime.combine((timezone.now() - timedelta(minutes=1)).date(), datetime.min.time(), UTC)
    make.record(acme, *(make.call(acme, started_at=day - timedelta(days=n)) for n in range(2)))
    points = [
        {"at": (day - timedelta(days=n)).isoformat(), "expected": "1", "actual": actual} for n, actual in ((2, "90"), (1, "6"), (0, "3"))
    ]
    of_days = {"first_at": day - timedelta(days=2), "expected": Decimal(3), "actual": Decimal(99), "excess": Decimal(96)}
    stands_out("level", kind="shift", points=points, **of_days)

    def marked(first: datetime, last: datetime) -> tuple[list[str], bool]:
        found = client_for(fay).get(f"{PAGE}?from={first.date()}&to={last.date()}").context
        return [one["text"] for one in found["figure"]["layout"]["annotations"] if one["text"] != "so far"], found["marked"]

    yesterday = day - timedelta(days=1)
    assert [marked(yesterday, day), marked(day, day)] == [(["+$5.00"], True), (["+$2.00"], True)]
    Anomaly.objects.update(points=points[:1])
    assert marked(yesterday, day) == ([], False)


def test_mark_stands_above_the_bars_beside_its_day() -> None:
    days = [datetime(2026, 11, n, tzinfo=UTC).date() for n in (1, 2, 3)]
    bars = [charts.Series("small-chat", "c1", [Decimal(9), Decimal(2), Decimal(4)])]

    figure = charts.stacked_bars(days, bars, days[2], marks={days[1]: "+$5.00"})

    said = {one["text"]: one["y"] for one in figure["layout"]["annotations"]}
    assert said == {"+$5.00": 9, "so far": 4}


def test_page_names_budgets_that_are_nearly_spent(acme: Tenant, client_for: ClientFor, alice: User, fay: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme, input_tokens=900_000, output_tokens=0))
    for name, amount in (("tight", "1"), ("raised", "1"), ("wide", "1.50")):
        made = budgets.create_budget(actor=fay, name=name, scope="tenant", amount=Decimal(amount))
        budgets.enforce_budget(budget=made, actor=fay)
    budgets.write_notices()
    raised = Budget.objects.get(name="raised")
    budgets.raise_temporarily(budget=raised, actor=fay, extra=Decimal(5), reason="Sale", until=timezone.now() + timedelta(days=1))

    whole, filtered = (client_for(fay).get(f"{PAGE}{query}").content.decode() for query in ("", "?model=small-chat"))

    assert (">tight</a> has used 90.0%" in whole, "80% reached" in whole) == (True, True)
    assert ("raised</a> has" in whole, "wide</a> has" in whole, "tight</a> has" in filtered) == (False, False, False)
