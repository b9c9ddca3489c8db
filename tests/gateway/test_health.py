"""Circuits and retry budgets, on a clock of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.plane.health import COOLDOWN_S, MAX_COOLDOWN_S, MIN_CALLS, MIN_RETRIES, PROBES, RETRY_SHARE, WINDOW_S, Circuit, RetryBudget


def _calls(circuit: Circuit, *, well: int, ill: int, at: float = 1000.0) -> None:
    for is_error in [False] * well + [True] * ill:
        circuit.ended(at, is_error)


def _probe(circuit: Circuit, at: float, *, is_error: bool) -> None:
    assert circuit.is_ready(at)
    circuit.began(at, 60)
    circuit.ended(at, is_error, is_probe=True)


@pytest.mark.parametrize(
    ("well", "ill", "state"),
    [(0, MIN_CALLS - 1, "closed"), (0, MIN_CALLS, "open"), (19, 1, "closed"), (18, 2, "open"), (95, 5, "closed"), (94, 6, "open")],
)
def test_opens_above_the_share_of_errors_once_there_are_enough_calls(well: int, ill: int, state: str) -> None:
    circuit = Circuit()

    _calls(circuit, well=well, ill=ill)

    assert circuit.state == state
    assert circuit.is_ready(1000.0) is (state == "closed")


def test_old_errors_fall_out_of_the_window() -> None:
    circuit = Circuit()
    _calls(circuit, well=0, ill=MIN_CALLS - 1)

    _calls(circuit, well=40, ill=1, at=1000 + WINDOW_S)

    assert circuit.state == "closed"


def test_dead_and_ailing_are_told_apart() -> None:
    ailing, dead = Circuit(), Circuit()

    _calls(ailing, well=30, ill=3)
    _calls(dead, well=5, ill=15)

    assert (ailing.state, dead.state) == ("open", "open")
    assert (ailing.is_dead, dead.is_dead) == (False, True)


def test_probes_go_one_at_a_time_and_close_the_circuit() -> None:
    circuit = Circuit()
    _calls(circuit, well=0, ill=MIN_CALLS)
    later = 1000 + COOLDOWN_S

    assert not circuit.is_ready(later - 0.1)
    is_probe, opened = circuit.began(later, 60)
    second = circuit.began(later, 60)
    circuit.ended(later, False, is_probe=True)
    for _ in range(PROBES - 1):
        _probe(circuit, later, is_error=False)

    assert opened is not None
    assert opened.state == "half_open"
    assert (is_probe, second) == (True, (False, None))
    assert (circuit.state, circuit.is_dead, circuit.is_ready(later)) == ("closed", False, True)


def test_probe_that_never_ends_does_not_close_the_door_for_ever() -> None:
    circuit = Circuit()
    _calls(circuit, well=0, ill=MIN_CALLS)
    circuit.began(1000 + COOLDOWN_S, 30)

    assert not circuit.is_ready(1000 + COOLDOWN_S + 29)
    assert circuit.is_ready(1000 + COOLDOWN_S + 30)


def test_cooldown_grows_with_each_failed_probe_up_to_its_limit_and_is_forgotten_when_well() -> None:
    circuit = Circuit()
    _calls(circuit, well=0, ill=MIN_CALLS)
    now, cooldowns = 1000.0, []

    for _ in range(8):
        cooldowns.append(circuit.cooldown_s)
        now += circuit.cooldown_s
        _probe(circuit, now, is_error=True)
    now += circuit.cooldown_s
    for _ in range(PROBES):
        _probe(circuit, now, is_error=False)

    assert cooldowns == [5, 10, 20, 40, 80, 160, 300, 300]
    assert (circuit.cooldown_s, MAX_COOLDOWN_S) == (COOLDOWN_S, 300)


def test_call_that_began_before_the_circuit_opened_changes_nothing() -> None:
    circuit = Circuit()
    _calls(circuit, well=0, ill=MIN_CALLS)

    while_open = circuit.ended(1001, True)
    circuit.began(1000 + COOLDOWN_S, 60)
    while_probing = circuit.ended(1000 + COOLDOWN_S, True)

    assert (while_open, while_probing) == (None, None)
    assert (circuit.state, circuit.cooldown_s) == ("half_open", COOLDOWN_S)


@given(st.lists(st.booleans(), max_size=400))
def test_second_tries_stay_within_their_share(wants: list[bool]) -> None:
    budget, retries = RetryBudget(), 0
    for want in wants:
        budget.earn()
        retries += want and budget.spend()

    assert retries <= MIN_RETRIES + RETRY_SHARE * len(wants)
