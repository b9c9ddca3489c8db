"""A small plan, metrics under the test's control, and the people who sign."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from governance.models import Tenant, User
from rollouts.models import Flag, Gate, Rollout
from rollouts.plans import Plan
from tests.conftest import LayOut
from tests.factories import rollouts as make


@pytest.fixture
def readings() -> Iterator[make.Board]:
    with make.readings() as board:
        yield board


@pytest.fixture
def plan() -> Iterator[Plan]:
    with make.shipped_plan() as plan:
        yield plan


@pytest.fixture
def rollout(acme: Tenant, rita: User, plan: Plan, readings: make.Board) -> Rollout:
    return make.make_rollout(owner=rita)


@pytest.fixture
def gate(rollout: Rollout) -> Gate:
    return make.gate_of(rollout)


@pytest.fixture
def people(acme: Tenant, alice: User, adam: User, rita: User, sam: User, audra: User, bob: User) -> Any:
    """Memberships by name: people.rita, people.adam, …"""
    users = {"alice": alice, "adam": adam, "rita": rita, "sam": sam, "audra": audra, "bob": bob}
    return SimpleNamespace(**{name: make.membership(user, acme) for name, user in users.items()})


@pytest.fixture
def ready_gate(gate: Gate, people: Any) -> Gate:
    """Every criterion holds; nobody has signed."""
    make.attest_all(gate, people.rita, people.sam)
    return make.gate_of(gate.rollout)


def laid_out_flag(build: Callable[[], Flag]) -> Any:
    """The fixture `laid_out` of a file whose tests all begin with one flag; each gets it fresh as `flag`."""

    @pytest.fixture(scope="module", autouse=True, name="laid_out")
    def fixture(lay_out: LayOut) -> Any:
        return lay_out(build)

    return fixture


@pytest.fixture
def flag(acme: Tenant, laid_out: Flag) -> Flag:
    return Flag.objects.get(pk=laid_out.pk)
