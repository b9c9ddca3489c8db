"""A traffic shift from its first step to its last, on events as the plane records them."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.contract.flags import BUCKETS
from governance.models import AuditEntry, Membership, Notice, Tenant, User
from rollouts import advice, errors, experiment_wording, shift_rules, shift_selectors
from rollouts.advice import Arm
from rollouts.models import Flag, Shift
from rollouts.services import flag_changes, shifts
from rollouts.shift_rules import Margins
from rollouts.statistics import Moments
from tests.factories import catalog, costs
from tests.factories.rollouts import change_exposure, flagged_call, make_flag

DICE = random.Random(5)
LENIENT = Margins(latency=20.0, errors=10.0, savings=10.0)


@pytest.fixture
def flag(acme: Tenant, rita: User) -> Flag:
    """Off, between a model at 2 USD per million tokens and one at 1."""
    for name, price in (("old", "2"), ("new", "1")):
        catalog.make_model(owner=rita, slug=f"chat-{name}")
        costs.prices(rita, input=price, output=price, model=f"chat-{name}")
    flag = make_flag(
        rita, key="ai.chat.next-model", kind="string", variants={"old": "chat-old", "new": "chat-new"}, control="old", model="chat"
    )
    Flag.objects.filter(pk=flag.pk).update(rollout_salt="rollout", variant_salt="variant")
    return flag


def start(flag: Flag, actor: User, **fields: Any) -> Shift:
    facts: dict[str, Any] = {"slug": "next-model", "name": "Next model", "challenger": "new", "steps": (40, 70, 100), "window_calls": 100}
    return shifts.start_shift(**{**facts, "margins": LENIENT, **fields}, flag=flag, actor=actor)


def approve(shift: Shift, approver: User) -> None:
    shift.refresh_from_db()
    assert shift.change is not None
    flag_changes.approve_change(change=shift.change, actor=approver)


def arrive(tenant: Tenant, shift: Shift, users: int = 400, **fields: Any) -> None:
    """One call of each user, just after the step came into force."""
    shift.flag.refresh_from_db()
    moment = timezone.now()
    costs.record(
        tenant,
        *(flagged_call(tenant, shift.flag, f"user-{n}", started_at=moment, **{"duration_us": 700_000 + 500 * (n % 100), **fields}) for n in range(users)),
    )  # fmt: skip


def look(shift: Shift) -> Shift:
    shifts.look(shift=shift, at=timezone.now() + timedelta(seconds=1))
    shift.refresh_from_db()
    return shift


def arm(calls: int, cost: float, latency: float, failed: int) -> Arm:
    def of(mean: float) -> Moments:
        return Moments(calls, calls, calls * mean, calls, calls * mean**2 * 1.04, calls * mean)

    return Arm(calls, calls, {"cost": of(cost), "latency": of(latency), "error_rate": Moments(calls, calls, failed, calls, failed, failed)})


@pytest.mark.parametrize(
    ("challenger", "verdict", "said"),
    [
        (arm(2_000, 0.8, 800, 20), "wait", "2,000 of 10,000 calls"),
        (arm(10_000, 0.8, 800, 100), "go", "every guardrail is kept"),
        (arm(10_000, 0.8, 900, 100), "pause", "mean latency"),
        (arm(10_000, 0.8, 800, 400), "pause", "error rate"),
        (arm(10_000, 1.0, 800, 100), "pause", "cost per call"),
        (arm(10_000, 0.9, 800, 100), "wait", "can't tell cost per call: it goes on to 30,000"),
        (arm(30_000, 0.9, 800, 300), "pause", "still can't be told: cost per call"),
        (arm(2_000, 0.8, 1200, 20), "pause", "mean latency"),
    ],
)
def test_window_goes_on_waits_or_pauses(challenger: Arm, verdict: str, said: str) -> None:
    terms = shift_rules.terms_of("old", "new", 50, Margins(), 10_000)

    judgement = shift_rules.judge(
        terms, {"old": arm(challenger.units, 1.0, 800, challenger.units // 100), "new": challenger}, window_calls=10_000
    )

    assert (judgement.verdict, said in judgement.sentence) == (verdict, True), judgement.sentence


def test_window_without_a_price_or_without_calls_is_no_pass() -> None:
    terms = shift_rules.terms_of("old", "new", 50, Margins(), 1_000)
    unpriced = arm(1_000, 0.8, 800, 10)
    unpriced = Arm(unpriced.units, unpriced.calls, {**unpriced.moments, "cost": Moments(0, 0, 0)})

    assert shift_rules.judge(terms, {}, window_calls=1_000).verdict == "wait"
    assert shift_rules.judge(terms, {"old": unpriced, "new": unpriced}, window_calls=1_000).verdict == "wait"
    assert shift_rules.judge(terms, {"old": arm(9_000, 1, 800, 90), "new": unpriced}, window_calls=1_000).verdict == "pause"  # assignment


def test_each_step_is_earned_and_agreed_to_by_a_second_person(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    shift = start(flag, rita)
    assert shift.change is not None
    assert (shift.change.is_open, shift.change.proposed_by, shift.is_in_force) == (True, rita, False)
    with pytest.raises(errors.SelfApprovalError):
        flag_changes.approve_change(change=shift.change, actor=rita)
    assert look(shift).entered_at is None

    approve(shift, adam)
    assert look(shift).reason == "0 of 100 calls by new."
    flag.refresh_from_db()
    assert (flag.exposure.on, flag.exposure.percentage) == (True, 40_000)

    arrive(acme, shift)
    look(shift)
    assert shift.change is not None
    assert (shift.percentage, shift.change.exposed.percentage, shift.is_in_force) == (70, 70_000, False)
    [window] = shift.windows.all()
    assert (window.verdict, window.percentage, shift_selectors.is_as_written(window)) == ("go", 40, True)
    assert experiment_wording.unseen(window.judgement.guards).startswith("mean latency ±")

    approve(shift, adam)
    look(shift)
    arrive(acme, shift)
    look(shift)
    approve(shift, adam)
    assert (look(shift).status, shift.reason) == ("finished", "new serves everybody.")
    flag.refresh_from_db()
    assert flag.exposure.percentage == BUCKETS
    assert Notice.objects.filter(topic="shift.finished").exists()
    assert list(AuditEntry.objects.filter(event__startswith="shift.").order_by("pk").values_list("event", flat=True)) == [
        "shift.started", "shift.step_entered", "shift.window_judged", "shift.step_entered", "shift.window_judged", "shift.step_entered",
        "shift.finished",
    ]  # fmt: skip


def under_way(flag: Flag, rita: User, adam: User, **fields: Any) -> Shift:
    shift = start(flag, rita, **fields)
    approve(shift, adam)
    return look(shift)


@pytest.mark.parametrize(
    ("fields", "broken"),
    [
        ({"duration_us": lambda variant: DICE.randint(900, 1100) * (1_100 if variant == "new" else 700)}, "mean latency"),
        ({"status": lambda variant: "upstream_error" if variant == "new" else "ok"}, "error rate"),
        ({"output_tokens": lambda variant: 4_000 if variant == "new" else 200}, "cost per call"),
    ],
)
def test_breach_pauses_and_is_told(acme: Tenant, flag: Flag, rita: User, adam: User, fields: dict[str, Any], broken: str) -> None:
    shift = under_way(flag, rita, adam)
    arrive(acme, shift, **fields)

    look(shift)

    assert (shift.status, broken in shift.reason) == ("paused", True)
    assert Notice.objects.get(topic="shift.paused").severity == "critical"
    flag.refresh_from_db()
    assert flag.exposure.percentage == 40_000  # a pause moves nobody
    with pytest.raises(errors.ShiftStateError):
        shifts.look(shift=shift)
    shifts.look_when_due(shift=shift)


def test_paused_shift_is_resumed_with_a_new_window_or_ended(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    shift = under_way(flag, rita, adam)
    arrive(acme, shift, status=lambda variant: "upstream_error" if variant == "new" else "ok")
    look(shift)
    with pytest.raises(errors.EvidenceMissingError):
        shifts.resume_shift(shift=shift, reason=" ", actor=adam)

    shifts.resume_shift(shift=shift, reason="The provider is well again", actor=adam, at=timezone.now() + timedelta(seconds=2))
    shift.refresh_from_db()
    assert (shift.status, shift.proposer, shift.change, shift.is_in_force) == ("running", adam, None, True)
    shifts.look(shift=shift, at=timezone.now() + timedelta(seconds=3))
    shift.refresh_from_db()
    assert (shift.status, shift.seen_calls) == ("running", 0)

    ended = shifts.end_shift(shift=shift, reason="Another model comes", actor=rita)
    assert (ended.status, ended.ended_at is not None) == ("ended", True)


def test_old_window_is_looked_at_less_often(flag: Flag, rita: User, adam: User) -> None:
    shift = under_way(flag, rita, adam)
    assert shift.entered_at is not None
    first = shift.entered_at + timedelta(hours=10)

    shifts.look_when_due(shift=shift, at=first)
    shift.refresh_from_db()
    shifts.look_when_due(shift=shift, at=first + timedelta(minutes=5))
    shift.refresh_from_db()
    assert shift.looked_at == first
    shifts.look_when_due(shift=shift, at=first + timedelta(minutes=7))
    shift.refresh_from_db()
    assert shift.looked_at == first + timedelta(minutes=7)


def test_looking_on_schedule_waits_for_nobody(acme: Tenant, flag: Flag, rita: User) -> None:
    shift = start(flag, rita)
    with CaptureQueriesContext(connection) as seen:
        shifts.look_when_due(shift=shift)

    [first, *_] = [query["sql"] for query in seen if "FOR UPDATE" in query["sql"]]
    assert "SKIP LOCKED" in first


def test_declined_step_pauses_and_a_waiting_one_is_taken_back(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    shift = start(flag, rita)
    assert shift.change is not None
    flag_changes.reject_change(change=shift.change, actor=adam, comment="Not on a Friday")
    assert (look(shift).status, shift.reason) == ("paused", "Step 40% was rejected: Not on a Friday")

    shifts.resume_shift(shift=shift, reason="It is Monday", actor=rita)
    shift.refresh_from_db()
    shifts.end_shift(shift=shift, reason="Never mind", actor=rita)
    assert not flag.changes.filter(status="proposed").exists()


def test_change_beside_the_shift_pauses_it(flag: Flag, rita: User, adam: User) -> None:
    shift = under_way(flag, rita, adam)
    change_exposure(flag, rita, adam, percentage=10_000)

    assert (look(shift).status, shift.reason) == ("paused", "The flag was changed outside of the shift.")


def test_last_step_that_was_taken_back_meanwhile_is_no_finish(flag: Flag, rita: User, adam: User) -> None:
    change_exposure(flag, rita, adam, on=True, percentage=90_000)
    shift = start(flag, rita)
    approve(shift, adam)
    assert shift.percentage == 100
    change_exposure(flag, rita, adam, percentage=10_000)

    assert (look(shift).status, shift.reason) == ("paused", "The flag was changed outside of the shift.")


def test_step_waits_for_another_change_and_for_somebody_who_may_propose(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    shift = under_way(flag, rita, adam)
    arrive(acme, shift)
    flag.refresh_from_db()
    from rollouts import exposure

    other = flag_changes.propose_change(flag=flag, exposure=exposure.changed(flag.exposure, percentage=90_000), reason="All", actor=rita)
    look(shift)
    assert (shift.status, shift.percentage, shift.windows.count()) == ("running", 40, 0)
    assert "can't be proposed yet" in shift.reason

    flag_changes.reject_change(change=other, actor=rita, comment="")
    Membership.objects.filter(user=rita, tenant=acme).update(roles=["developer"])
    assert look(shift).status == "paused"
    assert "may no longer propose" in shift.reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slug", "new"), ("challenger", "old"), ("steps", (5, 5, 100)), ("steps", (5, 20)), ("steps", ()), ("window_calls", 99),
        ("margins", Margins(latency=0)), ("margins", Margins(savings=100)),
    ],
)  # fmt: skip
def test_terms_that_can_not_be_used_are_refused(flag: Flag, rita: User, field: str, value: Any) -> None:
    with pytest.raises(errors.ShiftInvalidError):
        start(flag, rita, **{field: value})


def test_shift_begins_above_what_the_flag_exposes_and_only_once(flag: Flag, rita: User, adam: User) -> None:
    change_exposure(flag, rita, adam, on=True, percentage=50_000)

    assert start(flag, rita).percentage == 70
    with pytest.raises(errors.ShiftRunningError):
        start(flag, rita, slug="second")


def test_metrics_of_a_shift_are_those_of_experiments() -> None:
    terms = shift_rules.terms_of("old", "new", 5, Margins(), 10_000)

    assert (terms.rooms, terms.shares["new"]) == ({"old": 95_000, "new": 5_000}, 0.05)
    assert {each.metric for each in terms.guardrails} <= advice.MEASURES.keys()
