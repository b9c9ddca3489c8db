"""Spend against an earlier period, towards the end of the month, drilled into, and what could be cheaper."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from catalog.hooks import Price
from catalog.models import Model
from costs import cheaper, periods, spend_selectors
from costs.forecast import Coming, Forecast, TooLittle, forecast
from costs.models import UsageDay
from costs.periods import Period
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
        by_hours = spend_selectors.spend(period, group, everything, earlier=period.previous())
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
