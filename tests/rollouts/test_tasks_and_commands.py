from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from governance.models import Tenant, User
from rollouts import tasks
from rollouts.models import Evaluation, Gate, Rollout
from rollouts.services import gates, shifts
from tests.factories import rollouts as make

Queue = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    """What was queued: the broker is the edge that is faked here."""
    queued: Queue = []
    for task in (
        tasks.evaluate_tenant,
        tasks.evaluate,
        tasks.begin,
        tasks.read_experiments,
        tasks.read_experiment,
        tasks.look_at_shifts,
        tasks.look_at_shift,
    ):
        monkeypatch.setattr(task, "apply_async", lambda args=(), kwargs=None, _name=task.name, **_: queued.append((_name, args, kwargs)))
    return queued


def test_dispatcher_queues_one_task_for_each_organisation_that_is_open(acme: Tenant, globex: Tenant, queue: Queue) -> None:
    Tenant.objects.filter(pk=globex.pk).update(suspended_at=timezone.now())

    tasks.dispatch_evaluation()

    assert queue == [("rollouts.tasks.evaluate_tenant", (), {"schema_name": acme.schema_name})]


def test_organisation_queues_what_is_due(gate: Gate, rita: User, acme: Tenant, queue: Queue) -> None:
    planned = make.make_rollout(owner=rita, slug="later", starts_on=timezone.now().date() + timedelta(days=1))
    Rollout.objects.filter(pk=planned.pk).update(starts_on=timezone.now().date())

    tasks.evaluate_tenant(schema_name=acme.schema_name)

    assert queue == [
        ("rollouts.tasks.begin", (planned.pk,), {"schema_name": acme.schema_name}),
        ("rollouts.tasks.evaluate", (gate.pk,), {"schema_name": acme.schema_name}),
    ]


def test_experiments_are_read_one_by_one(acme: Tenant, globex: Tenant, rita: User, adam: User, queue: Queue) -> None:
    Tenant.objects.filter(pk=globex.pk).update(suspended_at=timezone.now())
    running = make.make_experiment(make.make_split_flag(rita, adam), rita, at=timezone.now() - timedelta(hours=2))

    tasks.dispatch_experiments()
    tasks.read_experiments(schema_name=acme.schema_name)

    assert queue == [
        ("rollouts.tasks.read_experiments", (), {"schema_name": acme.schema_name}),
        ("rollouts.tasks.read_experiment", (running.pk,), {"schema_name": acme.schema_name}),
    ]
    for pk in (running.pk, running.pk, 0):
        tasks.read_experiment(pk, schema_name=acme.schema_name)
    assert running.readings.count() == 1


def test_shifts_are_looked_at_one_by_one(acme: Tenant, globex: Tenant, rita: User, adam: User, queue: Queue) -> None:
    Tenant.objects.filter(pk=globex.pk).update(suspended_at=timezone.now())
    shift = shifts.start_shift(slug="one", name="One", flag=make.make_split_flag(rita, adam), challenger="new", actor=rita)

    tasks.dispatch_shifts()
    tasks.look_at_shifts(schema_name=acme.schema_name)

    assert queue == [
        ("rollouts.tasks.look_at_shifts", (), {"schema_name": acme.schema_name}),
        ("rollouts.tasks.look_at_shift", (shift.pk,), {"schema_name": acme.schema_name}),
    ]
    for pk in (shift.pk, shift.pk, 0):
        tasks.look_at_shift(pk, schema_name=acme.schema_name)
    shift.refresh_from_db()
    assert (shift.status, shift.is_in_force) == ("running", False)


def test_evaluating_twice_does_no_harm(gate: Gate, acme: Tenant) -> None:
    tasks.evaluate(gate.pk, schema_name=acme.schema_name)
    tasks.evaluate(gate.pk, schema_name=acme.schema_name)
    tasks.evaluate(0, schema_name=acme.schema_name)

    assert Evaluation.objects.get().trigger == Evaluation.Trigger.SCHEDULE


def test_beginning_twice_does_no_harm(acme: Tenant, rita: User, plan: Any, readings: make.Board) -> None:
    planned = make.make_rollout(owner=rita, starts_on=timezone.now().date() + timedelta(days=1))

    for pk in (planned.pk, planned.pk, 0):
        tasks.begin(pk, schema_name=acme.schema_name)

    assert Rollout.objects.get().status == Rollout.Status.RUNNING


def run(*args: str) -> str:
    out = StringIO()
    call_command(*args, stdout=out)
    return out.getvalue()


def test_metrics_command_lists_values_and_what_is_missing(rollout: Rollout, readings: make.Board) -> None:
    readings.readings["test.coverage"] = ZeroDivisionError()

    text = run("metrics", "--tenant", "acme")

    assert text.startswith("Of the organisation acme, over the 168 h up to ")
    assert "12 ms" in text
    assert "(11 to 13)" in text
    assert "test.coverage could not be read: ZeroDivisionError" in text
    with pytest.raises(CommandError, match="no organisation nowhere"):
        run("metrics", "--tenant", "nowhere")


def test_gates_command_evaluates_and_replays(ready_gate: Gate, readings: make.Board) -> None:
    evaluated = run("gates", "evaluate", "--tenant", "acme", "--rollout", "small")
    replayed = run("gates", "replay", "--tenant", "acme", "--rollout", "small", "--gate", "1")

    assert "Gate 1 of Small: Ready: all 4 criteria hold" in evaluated
    assert replayed.endswith("3 recomputed, 0 differ.\n")


def test_replay_answers_for_a_past_moment(gate: Gate) -> None:
    start = timezone.now() - timedelta(days=2)
    make.evaluate(gate, at=start)
    make.evaluate(gate, at=start + timedelta(days=1))

    then = run("gates", "replay", "--tenant", "acme", "--rollout", "small", "--at", (start + timedelta(hours=5)).isoformat())
    before = run(
        "gates",
        "replay",
        "--tenant",
        "acme",
        "--rollout",
        "small",
        "--gate",
        "1",
        "--at",
        (start - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M"),
    )

    assert f"{start:%Y-%m-%d %H:%M:%S} UTC" in then
    assert "1 recomputed, 0 differ." in then
    assert "so not ready" in before


def test_replay_names_what_was_changed_and_what_is_missing(gate: Gate) -> None:
    first, second, third = (make.evaluate(gate) for _ in range(3))
    Evaluation.objects.filter(pk=first.pk).update(verdict="pass")
    gate.latest = third
    Evaluation.objects.filter(pk=second.pk).delete()
    out = StringIO()

    with pytest.raises(CommandError, match="does not give the stored verdicts"):
        call_command("gates", "replay", "--tenant", "acme", "--rollout", "small", "--gate", "1", stdout=out)

    assert "gate: stored pass, recomputed no_data" in out.getvalue()
    assert "the evaluation before it is missing or was changed" in out.getvalue()


@pytest.mark.parametrize(
    "args",
    [
        ("--rollout", "none"),
        ("--rollout", "small", "--gate", "9"),
        ("--rollout", "small", "--gate", "2"),
        ("--rollout", "small", "--at", "yesterday"),
    ],
)
def test_gates_command_says_what_is_wrong(args: tuple[str, ...], rollout: Rollout) -> None:
    act = "replay" if "--at" in args else "evaluate"
    with pytest.raises(CommandError):
        run("gates", act, "--tenant", "acme", *args)


def test_schedule_is_slower_than_a_tick_and_bounded() -> None:
    assert timedelta(seconds=30) < gates.EVALUATE_EVERY <= timedelta(minutes=15)
