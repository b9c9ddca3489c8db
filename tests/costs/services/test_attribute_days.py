"""Deployments, regions and declared tags: every call once in each, whatever comes first, and never more values than are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import Sum

from costs import attribute_days, tasks
from costs.models import AttributeDay, Budget, Event, UsageDay
from costs.services import budgets, prices, required_tags, rollups
from costs.services.required_tags import Rule
from governance.models import Tenant, User
from tests.factories import costs as make

NOON = datetime(2026, 11, 20, 12, 20, tzinfo=UTC)


def kept() -> list[set[tuple[Any, ...]]]:
    return [
        set(rows.values_list(*(field.name for field in rows.model._meta.fields if field.name != "id")))
        for rows in (AttributeDay.objects.all(), UsageDay.objects.filter(dimension__regex="^(deployment|region|tag:)"))
    ]


def values(attribute: str) -> dict[str, tuple[int, Decimal]]:
    rows = AttributeDay.objects.filter(attribute=attribute).values_list("value").annotate(n=Sum("calls"), money=Sum("cost"))
    return {value: (calls, cost) for value, calls, cost in rows}


@pytest.fixture
def team(acme: Tenant, fay: User) -> Any:
    return required_tags.create_required_tag(name="team", rule=Rule(), actor=fay)


def test_each_call_counts_once_by_each_attribute_and_prices_follow(acme: Tenant, alice: User, fay: User, team: Any) -> None:
    make.prices(alice)  # a call of 1,000 and 200 tokens costs 0.0018 USD
    calls = [
        make.call(acme, started_at=NOON, tags={"team": "search"}),
        make.call(acme, started_at=NOON, tags={"team": "search"}, deployment="2", region="us"),
        make.call(acme, started_at=NOON + timedelta(days=1), agent=None),
        make.call(acme, started_at=NOON, tags={"team": "ads"}, model="new-model", region=None),
        make.call(acme, started_at=NOON, tags={"team": "ads"}, **make.REFUSED),
    ]
    make.record(acme, *calls, calls[0])
    make.prices(alice, model="new-model")
    prices.price_unpriced(provider="openai", model="new-model")
    series: dict[str, Any] = {
        "provider": "openai",
        "model": "small-chat",
        "token_class": "input",
        "valid_from": datetime(2025, 1, 1, tzinfo=UTC),
    }
    prices.reprice(entry=prices.correct_price(price=Decimal(2), actor=alice, source="Invoice", **series))

    assert values("tag:team") == {
        "search": (2, Decimal("0.0056")), "ads": (2, Decimal("0.0018")), "": (1, Decimal("0.0028"))
    }  # fmt: skip
    assert values("deployment") == {"1": (3, Decimal("0.0074")), "2": (1, Decimal("0.0028")), "": (1, Decimal(0))}
    assert values("region") == {"eu": (3, Decimal("0.0056")), "us": (1, Decimal("0.0028")), "": (1, Decimal("0.0018"))}
    whole = UsageDay.objects.filter(dimension="all").order_by("day")
    names = ("day", "calls", "refused", "errors", "tokens", "cost", "unpriced_calls", "untagged_calls", "untagged_cost", "estimated_calls")
    for dimension in ("deployment", "region", "tag:team"):
        rows = UsageDay.objects.filter(dimension=dimension).values_list("day").order_by("day")
        assert list(rows.annotate(**{f"n_{name}": Sum(name) for name in names[1:]})) == list(whole.values_list(*names))

    # What was kept call by call is what the calls together say.
    before = kept()
    assert rollups.count_attributes(at=NOON + timedelta(days=2)) == 0
    UsageDay.objects.filter(dimension="region").delete()
    assert (rollups.count_attributes(at=NOON + timedelta(days=2)), kept()) == (2, before)


def test_tag_declared_late_is_counted_back_and_forgotten_when_removed(
    acme: Tenant, alice: User, fay: User, django_capture_on_commit_callbacks: Any
) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme, started_at=NOON, tags={"team": "search"}), make.call(acme, started_at=NOON))
    declared = required_tags.create_required_tag(name="team", rule=Rule(), actor=fay)
    make.record(acme, make.call(acme, started_at=NOON, tags={"team": "search"}))

    AttributeDay.objects.filter(attribute="region").update(model="as it was")  # what lacks nothing is left as it is
    assert rollups.count_attributes(at=NOON + timedelta(days=1)) == 1
    assert set(AttributeDay.objects.filter(model="as it was").values_list("attribute", flat=True)) == {"region"}
    assert values("tag:team") == {"search": (2, Decimal("0.0036")), "": (1, Decimal("0.0018"))}

    with django_capture_on_commit_callbacks() as queued:
        required_tags.delete_required_tag(required=declared, actor=fay)
    # The person does not wait for it, nor for the lock of those who attribute calls.
    assert (len(queued), values("tag:team")["search"][0]) == (1, 2)
    assert (rollups.forget_tags(), rollups.forget_tags()) == (1, 0)
    assert (values("tag:team"), UsageDay.objects.filter(dimension="tag:team").count()) == ({}, 0)
    assert values("region") == {"eu": (3, Decimal("0.0054"))}


def test_values_beyond_those_that_are_kept_are_others_and_stay_so(
    acme: Tenant, alice: User, team: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_days, "_BEYOND", attribute_days._BEYOND.replace(f"> {attribute_days.KEPT} -", "> 2 -"))
    make.prices(alice, model="small-chat")

    def calls(*teams: str, **fields: Any) -> list[dict[str, Any]]:
        return [make.call(acme, started_at=NOON, tags={"team": team}, **fields) for team in teams]

    make.record(acme, *calls("a", "b", "b", "c", "c", "c"))
    make.record(acme, *calls("a", "c", "d"), *calls("a", "b", model="new-model"), make.call(acme, started_at=NOON))

    counted = {value: count for value, (count, _) in values("tag:team").items()}
    assert counted == {"b": 3, "c": 4, attribute_days.OTHER: 4, "": 1}
    make.prices(alice, model="new-model")
    prices.price_unpriced(provider="openai", model="new-model")
    assert {value: money / Decimal("0.0018") for value, (_, money) in values("tag:team").items()} == counted


def test_value_that_a_budget_names_is_never_among_others(
    acme: Tenant, alice: User, team: Any, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    """Nor what it cost before, once it is counted again; whatever waits for a price finds its row."""
    monkeypatch.setattr(attribute_days, "_BEYOND", attribute_days._BEYOND.replace(f"> {attribute_days.KEPT} -", "> 2 -"))
    make.prices(alice, model="small-chat")

    def record(*teams: str, day: int = 0, **fields: Any) -> None:
        make.record(acme, *(make.call(acme, started_at=NOON + timedelta(days=day), tags={"team": team}, **fields) for team in teams))

    record("a", "b", day=-1)
    record("a", "b")
    record("search", "ads")
    record("search", model="new-model")
    before = kept()
    with django_capture_on_commit_callbacks() as queued:
        made = budgets.create_budget(actor=alice, name="Search", scope="tag", ref="team=search", amount=Decimal(1), action="alert")
    assert (len(queued), kept()) == (1, before)  # the person does not wait for it

    # The task that was queued got lost: the hourly one finds what is to do, also when it was cut off at the first try.
    later = NOON + timedelta(days=2)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE attribute_day ADD CONSTRAINT cut_off CHECK (value <> 'search')")
        with pytest.raises(IntegrityError), transaction.atomic():
            rollups.count_budget_tags(at=later)
        cursor.execute("ALTER TABLE attribute_day DROP CONSTRAINT cut_off")
    tasks.compact_rollups.run()
    assert rollups.count_budget_tags(at=later) == 0  # once is enough
    record("search", "more", "c", "d", day=1)
    record("e", "search", day=1)
    make.prices(alice, model="new-model")
    prices.price_unpriced(provider="openai", model="new-model")

    of_search = UsageDay.objects.filter(dimension="tag:team", value="search").order_by("day")
    assert list(of_search.values_list("calls", "unpriced_calls", "cost")) == [(2, 0, Decimal("0.0036")), (2, 0, Decimal("0.0036"))]
    assert Event.objects.count() == sum(calls for calls, _ in values("tag:team").values()) == 13
    days = kept()
    Budget.objects.update(counted_at=None)
    assert (rollups.count_budget_tags(at=later), kept()) == (0, days)  # each has its row already
    with django_capture_on_commit_callbacks() as queued:
        budgets.change_budget(budget=made, actor=alice, amount=Decimal(2))
    assert (len(queued), rollups.count_budget_tags(at=later)) == (1, 0)  # the gateway's
    with django_capture_on_commit_callbacks() as queued:
        budgets.change_budget(budget=made, actor=alice, ref="team=ads")
    assert (len(queued), rollups.count_budget_tags(at=later)) == (2, 1)


def test_only_days_with_calls_of_a_budget_among_others_are_counted_again_and_by_one_run_at_a_time(
    acme: Tenant, alice: User, team: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attribute_days, "_BEYOND", attribute_days._BEYOND.replace(f"> {attribute_days.KEPT} -", "> 2 -"))

    def record(*teams: str, day: int = 0) -> None:
        make.record(acme, *(make.call(acme, started_at=NOON + timedelta(days=day), tags={"team": team}) for team in teams))

    for day in (-1, 0):
        record("a", "b", day=day)
        record("c", day=day)
    record("search")
    budgets.create_budget(actor=alice, name="Search", scope="tag", ref="team=search", amount=Decimal(1), action="alert")
    record("search")
    assert values("tag:team")["search"][0] == 1  # a row of its own, and it has not all

    def count() -> tuple[int, int]:
        return rollups.count_budget_tags(at=NOON), Budget.objects.filter(counted_at=None).count()

    Budget.objects.update(state="off")
    assert count() == (0, 1)
    Budget.objects.update(state="draft")
    lock = [f"count_budget_tags:{acme.schema_name}"]
    other_run = connection.copy()
    try:
        with other_run.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", lock)
            assert count() == (0, 1)
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", lock)
    finally:
        other_run.close()
    assert (count(), values("tag:team")["search"][0]) == ((1, 0), 2)
    Budget.objects.update(counted_at=None)
    assert (count(), count()) == ((0, 0), (0, 0))


def test_words_of_pages_are_no_values_of_callers(acme: Tenant, alice: User, team: Any) -> None:
    make.prices(alice)

    make.record(
        acme, *(make.call(acme, started_at=NOON, tags={"team": word}) for word in ("(none)", "(not counted)", "(other)", "(others)"))
    )
    make.record(acme, make.call(acme, started_at=NOON, tags={"team": "(none)"}, model="new-model"))
    make.prices(alice, model="new-model")
    prices.price_unpriced(provider="openai", model="new-model")

    assert values("tag:team") == {attribute_days.OTHER: (4, Decimal("0.0072")), "(others)": (1, Decimal("0.0018"))}


def test_words_that_were_values_before_they_were_reserved_join_the_others(
    acme: Tenant, alice: User, team: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.prices(alice, model="small-chat")
    calls = [
        make.call(acme, started_at=NOON + timedelta(days=day), tags={"team": word}, model=model)
        for day, word, model in (
            (0, "(none)", "small-chat"), (0, "(none)", "new-model"), (0, "(not counted)", "small-chat"), (0, "(other)", "small-chat"),
            (0, "search", "small-chat"), (1, "(none)", "small-chat"),
        )
    ]  # fmt: skip
    with monkeypatch.context() as before:
        before.setattr(attribute_days, "RESERVED", ("no such word",))
        make.record(acme, *calls)
    assert values("tag:team").keys() == {"(none)", "(not counted)", "(other)", "search"}

    with connection.cursor() as cursor:
        cursor.execute(import_module("costs.migrations.0039_reserved_tag_values").FILL)

    make.prices(alice, model="new-model")
    prices.price_unpriced(provider="openai", model="new-model")
    counted = kept()
    UsageDay.objects.filter(dimension="tag:team").delete()
    assert (rollups.count_attributes(at=NOON + timedelta(days=2)), kept()) == (2, counted)  # as the calls are counted today
