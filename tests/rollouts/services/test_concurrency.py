"""Two people and the scheduler at once, on real connections whose work is really committed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from governance.errors import DomainError
from governance.models import Notice, Tenant, User
from governance.schema import enter_tenant
from rollouts import gate_selectors
from rollouts.errors import AlreadySignedError, GateNotOpenError
from rollouts.models import Evaluation, FlagChange, Gate, Incident, Phase, Rollout, SignOff
from rollouts.services import gates, rollback, signatures
from tests import cast
from tests.factories import rollouts as make
from tests.factories.rollbacks import NOW, calls, make_rule


@pytest.fixture
def planned(committed: Tenant) -> Iterator[Tenant]:
    """The same with a small plan, whose metrics are good."""
    with make.readings(), make.shipped_plan():
        yield committed


def at_once(tenant: Tenant, *acts: Callable[[], object]) -> list[Exception | None]:
    """Each act in a thread with its own connection, released together."""
    barrier = threading.Barrier(len(acts))
    outcomes: list[Exception | None] = [None] * len(acts)

    def run(place: int, act: Callable[[], object]) -> None:
        try:
            enter_tenant(tenant)
            barrier.wait(timeout=10)
            act()
        except DomainError as error:
            outcomes[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(place, act)) for place, act in enumerate(acts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    return outcomes


def person(tenant: Tenant, name: str) -> Any:
    return make.membership(User.objects.get(email=cast.email(name)), tenant)


def ready(tenant: Tenant) -> Gate:
    rollout = make.make_rollout(owner=person(tenant, "rita").user)
    make.attest_all(make.gate_of(rollout), person(tenant, "rita"), person(tenant, "sam"))
    return make.gate_of(rollout)


def test_two_people_and_the_scheduler_give_one_history(planned: Tenant) -> None:
    gate = ready(planned)
    digest = gate.latest.digest  # type: ignore[union-attr]
    rita, adam, alice = (person(planned, name) for name in ("rita", "adam", "alice"))

    def sign(role: str, who: Any) -> Callable[[], object]:
        return lambda: signatures.sign(gate=make.gate_of(gate.rollout), role=role, decision="go", digest=digest, person=who)

    def evaluate() -> object:
        return [gates.evaluate_gate(gate=make.gate_of(gate.rollout), trigger=Evaluation.Trigger.SCHEDULE) for _ in range(3)]

    outcomes = at_once(planned, sign("product", rita), sign("engineering", adam), sign("product", alice), evaluate, evaluate)

    refused = [error for error in outcomes if error is not None]
    assert all(isinstance(error, AlreadySignedError | GateNotOpenError) for error in refused)
    assert {signoff.role for signoff in SignOff.objects.filter(voided_at=None)} == {"product", "engineering"}
    assert SignOff.objects.count() == 2
    assert list(Phase.objects.order_by("position").values_list("status", flat=True)) == ["done", "current"]
    log = list(gate.rollout.log.order_by("sequence"))
    assert [entry.sequence for entry in log] == list(range(1, len(log) + 1))
    assert sum(entry.text == "Everybody begins" for entry in log) == 1
    found = list(Evaluation.objects.filter(gate=gate).order_by("sequence"))
    assert [evaluation.sequence for evaluation in found] == list(range(1, len(found) + 1))
    assert all(later.previous_hash == earlier.evidence_hash for earlier, later in itertools.pairwise(found))
    assert all(gate_selectors.replay(evaluation).differences == [] for evaluation in found)


def test_go_and_no_go_at_once_never_both_count(planned: Tenant) -> None:
    gate = ready(planned)
    digest = gate.latest.digest  # type: ignore[union-attr]
    rita, adam, alice = (person(planned, name) for name in ("rita", "adam", "alice"))
    signatures.sign(gate=gate, role="engineering", decision="go", digest=digest, person=adam)

    at_once(
        planned,
        lambda: signatures.sign(gate=make.gate_of(gate.rollout), role="product", decision="go", digest=digest, person=rita),
        lambda: signatures.sign(
            gate=make.gate_of(gate.rollout), role="product", decision="no_go", digest="", person=alice, comment="Stop."
        ),
    )

    rejected = make.gate_of(gate.rollout).status == Gate.Status.REJECTED
    assert Phase.objects.get(status="current").title == ("Pilot" if rejected else "Everybody")
    assert SignOff.objects.filter(role="product", voided_at=None).count() == 1


def test_same_address_twice_at_once_makes_one_rollout(planned: Tenant) -> None:
    rita = person(planned, "rita").user

    outcomes = at_once(planned, *[lambda: make.make_rollout(owner=rita, slug="twin") for _ in range(3)])

    assert Rollout.objects.filter(slug="twin").count() == 1
    assert sorted(getattr(error, "code", "") for error in outcomes) == ["", "slug_taken", "slug_taken"]


def test_scheduler_twice_at_once_evaluates_once(planned: Tenant) -> None:
    gate = make.gate_of(make.make_rollout(owner=person(planned, "rita").user))

    at_once(
        planned,
        *[
            lambda: gates.evaluate_gate(gate=make.gate_of(gate.rollout), trigger=Evaluation.Trigger.SCHEDULE, only_when_due=True)
            for _ in range(3)
        ],
    )

    assert Evaluation.objects.filter(gate=gate).count() == 1


def test_two_workers_at_once_roll_back_once(committed: Tenant) -> None:
    rita, adam = person(committed, "rita").user, person(committed, "adam").user
    flag = make.make_split_flag(rita, adam)
    calls(committed, flag, new=10)
    make_rule(flag, rita)

    outcomes = at_once(committed, *[lambda: rollback.tick(at=NOW)] * 3)

    assert outcomes == [None] * 3
    assert Incident.objects.count() == FlagChange.objects.filter(is_emergency=True).count() == 1
    assert Notice.objects.filter(topic="incident.opened").count() == 1
