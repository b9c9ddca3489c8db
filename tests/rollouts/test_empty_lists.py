"""Experiments and shifts where nobody has made one: the lists say what to do."""

from __future__ import annotations

from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.factories.rollouts import make_split_flag

EXPERIMENTS, SHIFTS = "/o/acme/release/experiments/", "/o/acme/release/shifts/"


def test_lists_without_any_say_what_to_do(acme: Tenant, client_for: ClientFor, rita: User, bob: User, adam: User) -> None:
    manager, developer = client_for(rita), client_for(bob)

    assert "There is no such flag yet" in manager.get(EXPERIMENTS).text
    assert "No flag binds a model" in manager.get(f"{EXPERIMENTS}new/").text
    assert "New shift" in manager.get(SHIFTS).text
    assert "A release manager starts one" in developer.get(SHIFTS).text
    assert "No flag binds a model" in manager.get(f"{SHIFTS}new/").text
    make_split_flag(rita, adam)
    assert "No experiment is under way" in manager.get(EXPERIMENTS).text
    assert "A release manager starts one" in developer.get(EXPERIMENTS).text
