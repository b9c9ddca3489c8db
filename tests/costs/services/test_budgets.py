"""Budgets: what may be done when, what is written, what the figures say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Project
from costs import budget_selectors, forecast, tasks
from costs.errors import BudgetNameTakenError, BudgetStateError, BudgetValueError, RequiredTagStateError
from costs.models import Budget, BudgetIncident, BudgetNotice, RequiredTag, UsageDay, UsageHour
from costs.services import budgets, required_tags
from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import AuditEntry, Notice, Tenant, User
from tests.factories import costs as make

NOW = datetime(2026, 11, 18, 12, 30, tzinfo=UTC)


def hour(at: datetime, cost: str, *, calls: int = 10, unpriced: int = 0, **fields: Any) -> UsageHour:
    """An hour of the rollup, as ingest would have left it."""
    given: dict[str, Any] = {
        "project": "checkout", "cost_centre": "", "agent": "basket-helper", "model": "small-chat", "provider": "openai",
        "key_id": "k2345678", "kind": "chat", "outcome": "ok", "uncached_input_tokens": 0, "cached_input_tokens": 0,
        "cache_write_tokens": 0, "output_tokens": 0, "untagged_calls": 0, "estimated_calls": 0, "duration_us": 0,
    }  # fmt: skip
    start = at.replace(minute=0, second=0, microsecond=0)
    return UsageHour.objects.create(
        hour=start, cost=Decimal(cost), calls=calls, unpriced_calls=unpriced, last_event_at=start, **(given | fields)
    )


def draft(actor: User, **fields: Any) -> Budget:
    given: dict[str, Any] = {"name": "House", "scope": "tenant", "amount": Decimal(100), "action": "block"}
    return budgets.create_budget(actor=actor, **(given | fields))


def enforced(actor: User, **fields: Any) -> Budget:
    made = draft(actor, **fields)
    budgets.simulate_budget(budget=made, actor=actor, at=NOW)
    return budgets.enforce_budget(budget=made, actor=actor, at=NOW)


def events() -> list[str]:
    return list(AuditEntry.objects.filter(event__startswith="budget.").order_by("sequence").values_list("event", flat=True))


def state(found: Budget, at: datetime = NOW) -> budget_selectors.State:
    [one] = budget_selectors.states(budget_selectors.budgets(at).filter(pk=found.pk), at)
    return one


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"name": " "}, "name"),
        ({"scope": "planet"}, "scope"),
        ({"scope": "project"}, "ref"),
        ({"scope": "project", "ref": "no-such"}, "ref"),
        ({"ref": "checkout"}, "ref"),
        ({"amount": Decimal(0)}, "amount"),
        ({"amount": Decimal("NaN")}, "amount"),
        ({"amount": Decimal("1.001")}, "amount"),
        ({"thresholds": []}, "thresholds"),
        ({"thresholds": [0]}, "thresholds"),
        ({"throttle_from": 100}, "throttle_from"),
        ({"period": "year"}, "period"),
        ({"scope": "environment", "ref": "moon"}, "ref"),
        ({"scope": "tag", "ref": "colour=red"}, "ref"),
        ({"scope": "tag", "ref": "team"}, "ref"),
        ({"scope": "tag", "ref": "team= search"}, "ref"),
        ({"scope": "tag", "ref": "team=(other)"}, "ref"),
        ({"scope": "tag", "ref": "team=(none)"}, "ref"),
        ({"scope": "tag", "ref": "team=search", "period": "day"}, "period"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_field(fields: dict[str, Any], named: str, acme: Tenant, alice: User) -> None:
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)

    with pytest.raises(BudgetValueError) as refused:
        draft(alice, **fields)

    assert refused.value.field == named
    assert not Budget.objects.exists()


def test_name_is_taken_once(acme: Tenant, alice: User) -> None:
    draft(alice)

    with pytest.raises(BudgetNameTakenError):
        draft(alice, amount=Decimal(7))


def test_nothing_that_refuses_is_put_in_force_unseen(acme: Tenant, alice: User) -> None:
    made = draft(alice)
    with pytest.raises(BudgetStateError):
        budgets.enforce_budget(budget=made, actor=alice)

    budgets.simulate_budget(budget=made, actor=alice)
    changed = budgets.change_budget(budget=made, actor=alice, amount=Decimal(50))
    assert (changed.state, changed.simulation) == ("draft", None)
    with pytest.raises(BudgetStateError):
        budgets.enforce_budget(budget=made, actor=alice)

    budgets.simulate_budget(budget=made, actor=alice)
    assert budgets.enforce_budget(budget=made, actor=alice).acts_on_gateway
    assert events() == ["budget.created", "budget.simulated", "budget.changed", "budget.simulated", "budget.enforced"]


def test_alerts_need_no_simulation(acme: Tenant, alice: User) -> None:
    made = budgets.enforce_budget(budget=draft(alice, action="alert"), actor=alice)

    assert made.is_enforced
    assert not made.acts_on_gateway


def test_in_force_only_what_softens_or_sizes_it_changes(acme: Tenant, alice: User) -> None:
    made = enforced(alice, action="throttle")
    version = Tenant.objects.get(pk=acme.pk).config_version

    for changes in ({"action": "block"}, {"scope": "agent", "ref": "x"}, {"name": "Other"}, {"period": "day"}):
        with pytest.raises(BudgetStateError):
            budgets.change_budget(budget=made, actor=alice, **changes)
    made = budgets.change_budget(budget=made, actor=alice, amount=Decimal("100.00"))
    assert Tenant.objects.get(pk=acme.pk).config_version == version  # the same amount in other digits
    made = budgets.change_budget(budget=made, actor=alice, amount=Decimal(200), action="alert")

    assert (made.amount, made.action, made.state) == (Decimal(200), "alert", "enforced")
    assert Tenant.objects.get(pk=acme.pk).config_version == version + 1


def test_raise_counts_until_its_end_and_then_ends_by_itself(acme: Tenant, alice: User) -> None:
    made = enforced(alice)
    until = NOW + timedelta(days=2)
    budgets.raise_temporarily(budget=made, actor=alice, extra=Decimal(40), reason="Launch week", until=until, at=NOW)

    assert state(made).amount == 140
    assert state(made, until).amount == 100  # even before the schedule has looked
    assert budgets.end_raises(at=until - timedelta(seconds=1)) == 0
    version = Tenant.objects.get(pk=acme.pk).config_version
    assert budgets.end_raises(at=until) == 1
    assert budgets.end_raises(at=until) == 0

    assert [state(made, at).amount for at in (NOW, until)] == [140, 100]  # as it was then
    assert Tenant.objects.get(pk=acme.pk).config_version == version + 1
    assert events()[-2:] == ["budget.raised", "budget.raise_ended"]


def test_raise_is_ended_before_its_day_once(acme: Tenant, alice: User, fay: User) -> None:
    made = enforced(alice)
    raised = budgets.raise_temporarily(
        budget=made, actor=alice, extra=Decimal(40), reason="Launch week", until=NOW + timedelta(days=2), at=NOW
    )
    version = Tenant.objects.get(pk=acme.pk).config_version

    budgets.end_raise(found=raised, actor=fay, at=NOW + timedelta(hours=1))

    moments = [NOW - timedelta(seconds=1), NOW, NOW + timedelta(minutes=59), NOW + timedelta(hours=1)]
    assert [state(made, at).amount for at in moments] == [100, 140, 140, 100]
    assert Tenant.objects.get(pk=acme.pk).config_version == version + 1
    assert AuditEntry.objects.get(event="budget.raise_ended").actor == fay
    with pytest.raises(BudgetStateError, match="over already"):
        budgets.end_raise(found=raised, actor=fay, at=NOW + timedelta(hours=2))
    assert budgets.end_raises(at=NOW + timedelta(days=3)) == 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra": Decimal(0)}, "extra"),
        ({"reason": " "}, "reason"),
        ({"until": NOW}, "until"),
        ({"until": NOW + timedelta(days=93)}, "until"),
    ],
)
def test_raise_without_sense_is_refused(fields: dict[str, Any], named: str, acme: Tenant, alice: User) -> None:
    given: dict[str, Any] = {"extra": Decimal(1), "reason": "why", "until": NOW + timedelta(days=1)}

    with pytest.raises(BudgetValueError) as refused:
        budgets.raise_temporarily(budget=enforced(alice), actor=alice, at=NOW, **(given | fields))

    assert refused.value.field == named


def test_false_throttle_is_taken_back_in_one_act(acme: Tenant, alice: User, fay: User) -> None:
    made = enforced(alice)

    incident = budgets.report_false_throttle(budget=made, actor=fay, reason="Checkout is down", at=NOW)

    made.refresh_from_db()
    assert (made.action, made.is_enforced, made.acts_on_gateway) == ("alert", True, False)
    assert (incident.priority, incident.opened_by, incident.action_before, incident.reason) == ("P0", fay, "block", "Checkout is down")
    assert state(made).incident == incident
    with pytest.raises(BudgetStateError):
        budgets.report_false_throttle(budget=made, actor=fay)
    with pytest.raises(BudgetValueError):
        budgets.resolve_incident(incident=incident, actor=alice, resolution="")
    budgets.resolve_incident(incident=incident, actor=alice, resolution="The price was wrong by a factor of ten.")
    assert state(made).incident is None
    assert BudgetIncident.objects.get().resolved_by == alice
    assert events()[-2:] == ["budget.false_throttle_reported", "budget.incident_resolved"]


def test_thresholds_are_noticed_once_per_period(acme: Tenant, alice: User) -> None:
    made = enforced(alice, action="alert")
    draft(alice, name="Only a draft")
    hour(NOW, "79")
    first = budgets.write_notices(at=NOW)
    hour(NOW + timedelta(hours=1), "25")

    later = budgets.write_notices(at=NOW + timedelta(hours=1))
    again = budgets.write_notices(at=NOW + timedelta(hours=2))

    assert [(notice.budget, notice.threshold, notice.spent) for notice in first] == [(made, 50, Decimal(79))]
    assert [notice.threshold for notice in later] == [80, 100]
    assert again == []
    hour(datetime(2026, 12, 1, 0, tzinfo=UTC), "50")
    assert [notice.threshold for notice in budgets.write_notices(at=datetime(2026, 12, 1, 1, tzinfo=UTC))] == [50]
    assert BudgetNotice.objects.count() == 4


@pytest.mark.parametrize(
    ("scope", "ref", "spent"),
    [("tenant", "", "111"), ("agent", "basket-helper", "1"), ("model", "small-chat", "101"), ("key", "K", "10")],
)
def test_spent_is_what_the_scope_cost_in_the_period(scope: str, ref: str, spent: str, acme: Tenant, alice: User) -> None:
    make.deployment(alice)
    key = make.key(alice).public_id
    hour(NOW, "1")
    hour(NOW, "10", agent="", key_id=key, model="other")
    hour(datetime(2026, 11, 1, tzinfo=UTC), "100", agent="other", unpriced=3)
    hour(datetime(2026, 10, 31, 23, tzinfo=UTC), "1000")

    found = state(draft(alice, scope=scope, ref=key if ref == "K" else ref))

    assert found.spent == Decimal(spent)
    assert found.unpriced_calls == (3 if scope in ("tenant", "model") else 0)
    assert found.days_left == 13


def test_environment_is_that_of_its_projects(acme: Tenant, alice: User) -> None:
    make.key(alice)
    Project.objects.create(slug="search", name="Search", owner=alice, environment="development")
    Project.objects.create(slug="shop", name="Shop", owner=alice, environment="production")
    for project, cost in (("checkout", "1"), ("search", "10"), ("shop", "100"), ("", "1000")):
        hour(NOW, cost, project=project)
        hour(NOW - timedelta(days=30), cost, project=project)

    made = draft(alice, scope="environment", ref="development")

    assert state(made).spent == 11
    assert budgets.simulate_budget(budget=made, actor=alice, at=NOW).cost == 11


@pytest.mark.parametrize(("zone", "spent", "before"), [("UTC", "111", 2), ("America/New_York", "11", 102), ("Asia/Tokyo", "111", 2)])
def test_tag_counts_the_utc_days_that_begin_in_the_month(zone: str, spent: str, before: int, acme: Tenant, alice: User) -> None:
    """Never what was before the month, wherever the organisation is: or the gateway would refuse calls for it."""
    Tenant.objects.filter(pk=acme.pk).update(time_zone=zone)
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    days = {date(2026, 10, 31): 2, date(2026, 11, 1): 100, date(2026, 11, 2): 10, date(2026, 11, 18): 1}
    zero = dict.fromkeys(("refused", "errors", "tokens", "unpriced_calls", "untagged_calls", "untagged_cost", "estimated_calls"), 0)
    for day, cost in days.items():
        for value, times in (("search", 1), ("care", 1000)):
            UsageDay.objects.create(day=day, dimension="tag:team", value=value, calls=cost, cost=cost * times, **zero)
    made = draft(alice, scope="tag", ref="team=search")

    found = budget_selectors.outcome_of(
        scope="tag", ref="team=search", period="month", amount=Decimal(100), action="block", thresholds=[50], throttle_from=80, at=NOW
    )

    assert state(made).spent == Decimal(spent)
    assert (found.cost, found.calls) == (Decimal(before), before)
    assert budget_selectors.refs("tag") == ["team=care", "team=search"]


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC", {1: 8, 17: 4, 18: 2}),
        ("America/New_York", {17: 4, 18: 2}),  # the 1st begins in October there
        ("America/Los_Angeles", {17: 4, 18: 2}),
        ("Asia/Tokyo", {1: 8, 17: 4, 18: 2}),
        ("Pacific/Auckland", {2: 8, 18: 4, 19: 2}),
    ],
)
def test_days_of_a_tag_stand_where_most_of_them_is(zone: str, shown: dict[int, int], acme: Tenant, alice: User) -> None:
    Tenant.objects.filter(pk=acme.pk).update(time_zone=zone)
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    zero = dict.fromkeys(("refused", "errors", "tokens", "unpriced_calls", "untagged_calls", "untagged_cost", "estimated_calls"), 0)
    for day, cost in ((1, 8), (17, 4), (18, 2)):
        UsageDay.objects.create(day=date(2026, 11, day), dimension="tag:team", value="search", calls=1, cost=cost, **zero)

    found = state(draft(alice, scope="tag", ref="team=search"))

    assert {day.day: int(cost) for day, cost in found.days if cost} == shown
    assert found.spent == sum(shown.values())


def test_declaration_that_a_budget_in_force_needs_stays(acme: Tenant, alice: User) -> None:
    declared = required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    made = enforced(alice, scope="tag", ref="team=search")

    with pytest.raises(RequiredTagStateError, match="House"):
        required_tags.delete_required_tag(required=declared, actor=alice)
    budgets.switch_off_budget(budget=made, actor=alice)
    required_tags.delete_required_tag(required=declared, actor=alice)

    assert not RequiredTag.objects.exists()


def test_what_is_gone_is_not_put_in_force(acme: Tenant, alice: User) -> None:
    declared = required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    on_tag = draft(alice, scope="tag", ref="team=search")
    budgets.simulate_budget(budget=on_tag, actor=alice)
    required_tags.delete_required_tag(required=declared, actor=alice)

    with pytest.raises(BudgetValueError, match="team is not declared"):
        budgets.enforce_budget(budget=on_tag, actor=alice)

    assert Budget.objects.get().state == "simulated"
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    with CaptureQueriesContext(connection) as asked:
        budgets.enforce_budget(budget=on_tag, actor=alice)
    # Held until it is in force, as by who removes the declaration: the two cannot pass each other.
    assert any(RequiredTag._meta.db_table in one["sql"] and "FOR UPDATE" in one["sql"] for one in asked.captured_queries)


def test_budget_in_force_is_sized_though_what_it_is_for_is_gone(acme: Tenant, alice: User) -> None:
    make.key(alice)
    made = enforced(alice, scope="environment", ref="development")
    Project.objects.update(environment="production")

    changed = budgets.change_budget(budget=made, actor=alice, amount=Decimal(7))

    assert (changed.amount, changed.state) == (Decimal(7), "enforced")
    budgets.switch_off_budget(budget=made, actor=alice)
    budgets.simulate_budget(budget=made, actor=alice)
    with pytest.raises(BudgetValueError, match="no environment development"):
        budgets.enforce_budget(budget=made, actor=alice)


def test_pressed_budgets_stand_at_what_is_spent_and_raised_by_now(acme: Tenant, alice: User) -> None:
    made = enforced(alice)
    hour(NOW, "85")
    budgets.write_notices(at=NOW)
    budgets.raise_temporarily(budget=made, actor=alice, extra=Decimal(20), reason="launch", until=NOW + timedelta(days=2), at=NOW)
    assert budget_selectors.pressed(NOW) == []
    hour(NOW - timedelta(hours=1), "30")
    assert budgets.write_notices(at=NOW) == []
    [one] = budget_selectors.pressed(NOW)
    assert (one.budget.pk, float(one.spent), float(one.amount), one.notice) == (
        made.pk,
        115.0,
        120.0,
        BudgetNotice.objects.get(threshold=80),
    )


def test_budget_is_pressed_from_80_percent_whatever_its_thresholds(acme: Tenant, alice: User) -> None:
    late = enforced(alice, name="Late", thresholds=[95, 100])
    enforced(alice, name="Wide", thresholds=[95], amount=Decimal(200))
    draft(alice, name="Draft", thresholds=[95])
    hour(NOW, "85")
    budgets.write_notices(at=NOW)
    [one] = budget_selectors.pressed(NOW)
    assert (one.budget, one.notice, one.share) == (late, None, Decimal(85))


def test_what_a_budget_noticed_of_another_target_is_forgotten(acme: Tenant, alice: User) -> None:
    now = timezone.now()
    made = enforced(alice, action="alert")
    hour(now, "95")
    budgets.write_notices(at=now)
    budgets.switch_off_budget(budget=made, actor=alice)
    made = budgets.change_budget(budget=made, actor=alice, scope="agent", ref="nobody")
    budgets.enforce_budget(budget=made, actor=alice)
    assert (budgets.write_notices(at=now), budget_selectors.pressed(now)) == ([], [])
    hour(now, "90", agent="nobody")
    assert [one.threshold for one in budgets.write_notices(at=now)] == [50, 80]
    assert [one.spent for one in budget_selectors.pressed(now)] == [90]
    assert Notice.objects.filter(topic="budget.threshold", title__endswith="80%").count() == 2


def test_period_begins_at_midnight_of_the_organisation(acme: Tenant, alice: User) -> None:
    Tenant.objects.filter(pk=acme.pk).update(time_zone="America/New_York")
    hour(datetime(2026, 11, 1, 3, tzinfo=UTC), "7")  # still October there
    hour(datetime(2026, 11, 1, 4, tzinfo=UTC), "9")

    assert state(draft(alice)).spent == 9


def test_forecast_waits_for_two_weeks(acme: Tenant, alice: User) -> None:
    for day in range(1, 14):
        hour(NOW - timedelta(days=day), "2")
    made = draft(alice, amount=Decimal(60))
    assert state(made).forecast == forecast.TooLittle(13)
    assert state(made).verdict == "idle"

    hour(NOW - timedelta(days=14), "2")

    assert state(made).expected is not None
    assert state(made).expected.expected == pytest.approx(Decimal(52), abs=Decimal(1))  # type: ignore[union-attr]  # just asserted


def test_simulation_plays_the_month_before(acme: Tenant, alice: User) -> None:
    hour(datetime(2026, 10, 5, 8, tzinfo=UTC), "80", calls=80)
    hour(datetime(2026, 10, 6, 8, tzinfo=UTC), "40", calls=41, unpriced=1)
    hour(datetime(2026, 10, 6, 9, tzinfo=UTC), "0", outcome="refused")
    made = draft(alice)

    outcome = budgets.simulate_budget(budget=made, actor=alice, at=NOW)

    assert (outcome.calls, outcome.cost, outcome.unpriced_calls) == (120, Decimal(120), 1)
    assert (outcome.blocked_calls, outcome.blocked_cost) == (20, Decimal(20))
    assert outcome.blocked_from == datetime(2026, 10, 6, 8, 30, tzinfo=UTC)
    made.refresh_from_db()
    assert made.state == "simulated"
    assert made.simulation is not None
    assert made.simulation["blocked_cost_usd"] == "20.00"


def test_refusals_are_counted_by_the_budget_that_refused(acme: Tenant, alice: User) -> None:
    made = enforced(alice)
    refused = {**make.REFUSED, "http_status": 402, "error_code": "budget_exceeded"}
    steps = [["identify", "pass", 4, ""], ["reserve", "budget_exceeded", 9, "budget:House"]]
    other = [["identify", "pass", 4, ""], ["reserve", "budget_exceeded", 9, "project:checkout"]]
    make.record(acme, *[make.call(acme, **{**refused, "steps": each}) for each in (steps, steps, other)])

    assert state(made, timezone.now()).refused == {"budget_exceeded": 2}


def test_list_of_budgets_asks_as_often_for_ten_as_for_one(acme: Tenant, alice: User, django_assert_num_queries: Any) -> None:
    for number in range(10):
        draft(alice, name=f"Agent {number}", scope="agent", ref=f"agent-{number}")
    hour(NOW, "1")

    with django_assert_num_queries(9):
        assert len(budget_selectors.states(budget_selectors.budgets(NOW), NOW)) == 10


def test_people_are_told_of_thresholds_and_reports(acme: Tenant, alice: User) -> None:
    made = enforced(alice)
    hour(NOW, "85")

    reached = budgets.write_notices(at=NOW)
    budgets.report_false_throttle(budget=made, actor=alice, reason="Checkout is down.", at=NOW)

    assert [notice.threshold for notice in reached] == [50, 80]
    told = {notice.title: notice for notice in Notice.objects.all()}
    assert {title: notice.severity for title, notice in told.items()} == {
        "Budget House has reached 80%": "warning",
        "P0: budget House held up calls": "critical",
    }
    notice = told["Budget House has reached 80%"]
    assert (notice.topic, notice.permission, notice.path) == ("budget.threshold", "view_costs", f"operate/costs/budgets/{made.pk}/")
    assert "85.00 of 100.00 USD are spent in November 2026" in notice.text


def test_schedule_ends_raises_writes_notices_and_books_spend(acme: Tenant, alice: User) -> None:
    now = timezone.now()
    made = budgets.enforce_budget(budget=budgets.create_budget(actor=alice, name="A", scope="tenant", amount=Decimal(1)), actor=alice)
    raised = budgets.raise_temporarily(
        budget=made, actor=alice, extra=Decimal(1), reason="x", until=now - timedelta(hours=1), at=now - timedelta(hours=2)
    )
    hour(now, "3")

    for _ in range(2):
        tasks.watch_budgets(schema_name=acme.schema_name)

    raised.refresh_from_db()
    assert raised.ended_at is not None
    assert list(BudgetNotice.objects.order_by("threshold").values_list("threshold", "amount")) == [
        (mark, Decimal(1)) for mark in (50, 80, 100)
    ]


def test_metrics_read_budgets_in_force(acme: Tenant, alice: User) -> None:
    window = Window(NOW - timedelta(days=1), NOW)
    overrun, false = metrics.get("costs.budget_overrun_share"), metrics.get("costs.false_throttles")
    draft(alice, name="Draft")
    assert (overrun.read(window), false.read(window)) == (NO_DATA, NO_DATA)

    made = enforced(alice)
    enforced(alice, name="Large", amount=Decimal(1000))
    hour(NOW - timedelta(hours=2), "101")

    assert (overrun.read(window).value, overrun.read(window).sample) == (50.0, 2)
    assert (false.read(window).value, false.read(window).sample) == (0.0, 2)
    budgets.report_false_throttle(budget=made, actor=alice, at=NOW - timedelta(minutes=1))
    assert false.read(window).value == 1.0
