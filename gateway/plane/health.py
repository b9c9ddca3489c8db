"""How well each deployment does, as this process sees it: a circuit that opens on errors, its pace, and a budget for second tries.

Pure but for the clock, which callers pass in (seconds, monotonic). Every process judges for itself: what fails for one may be well for
another, and a shared verdict would need a store on the hot path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

WINDOW_S = 60.0
"""Errors are counted over this long, in SLICES parts that fall out one by one."""
SLICES = 6
MIN_CALLS = 20
"""Fewer calls in the window say nothing."""
MAX_ERROR_SHARE = 0.05
DEAD_ERROR_SHARE = 0.5
"""From here on a deployment is not asked even if it is the only one; below, a call is more likely to succeed than to fail."""
COOLDOWN_S = 5.0
MAX_COOLDOWN_S = 300.0
"""Each opening that follows a failed probe doubles the time until the next one."""
PROBES = 3
"""That many probes in a row, one at a time, must succeed to close the circuit."""
RETRY_SHARE = 0.2
"""Second tries per call, in the long run: retries must not multiply the load on upstreams that are ill."""
MIN_RETRIES = 10.0
"""So many are free, or else a model with few calls would never be tried elsewhere."""

PACE_SHARE = 0.1
"""Of the newest answer in the averages of a pace."""
PACE_FORGET_S = 600.0
"""After this long without an answer it is not known how fast a deployment is."""

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class Change:
    """A circuit went from one state to another."""

    state: State
    calls: int
    """In the window."""
    errors: int
    cooldown_s: float
    """Until the next probe; 0 unless open."""


class Circuit:
    """One deployment's."""

    def __init__(self) -> None:
        self.state: State = "closed"
        self.cooldown_s = COOLDOWN_S
        self.opened_at = 0.0
        self.is_dead = False
        self._slices: list[list[int]] = [[0, 0] for _ in range(SLICES)]
        """Calls and errors, by part of the window."""
        self._newest = 0
        """Number of the newest part since the clock's beginning."""
        self._probes = 0
        """Successes in a row while half open."""
        self._probe_until = 0.0
        """A probe is under way until then, or until it is noted."""

    def is_ready(self, now: float) -> bool:
        """Whether a call should come here. While half open it lets one call through at a time."""
        if self.state == "closed":
            return True
        if self.state == "open" and now < self.opened_at + self.cooldown_s:
            return False
        return now >= self._probe_until

    def began(self, now: float, timeout_s: float) -> tuple[bool, Change | None]:
        """A call goes out: whether it is a probe, and what that changes. (A call that is the last resort may go out without being one.)"""
        if self.state == "closed" or not self.is_ready(now):
            return False, None
        self._probe_until = now + timeout_s
        if self.state == "half_open":
            return True, None
        self.state, self._probes = "half_open", 0
        return True, self._change(0.0)

    def ended(self, now: float, is_error: bool, *, is_probe: bool = False) -> Change | None:
        """What came of a call. Only a probe may close the circuit or open it again: other calls that end now began in other times."""
        current = self._slice(now)
        current[0] += 1
        current[1] += is_error
        if self.state == "half_open" and is_probe:
            return self._judge_probe(now, is_error)
        if self.state == "closed" and is_error:
            calls, errors = self._sums()
            if calls >= MIN_CALLS and errors > MAX_ERROR_SHARE * calls:
                return self._open(now, COOLDOWN_S)
        return None

    def let_go(self) -> None:
        """A probe ended without a verdict: the next call is one."""
        self._probe_until = 0.0

    def wait_s(self, now: float) -> float:
        """How long until a probe may go out."""
        return max(0.0, self.opened_at + self.cooldown_s - now, self._probe_until - now)

    def _judge_probe(self, now: float, is_error: bool) -> Change | None:
        self._probe_until = 0.0
        if is_error:
            return self._open(now, min(MAX_COOLDOWN_S, self.cooldown_s * 2))
        self._probes += 1
        if self._probes < PROBES:
            return None
        self.state, self.is_dead, self.cooldown_s = "closed", False, COOLDOWN_S
        self._slices = [[0, 0] for _ in range(SLICES)]  # what was before the illness says nothing about now
        return self._change(0.0)

    def _open(self, now: float, cooldown_s: float) -> Change:
        calls, errors = self._sums()
        # While it is open few calls come here, so the share of those that opened it stands until it closes.
        self.is_dead = self.is_dead or errors >= DEAD_ERROR_SHARE * calls
        self.state, self.opened_at, self.cooldown_s = "open", now, cooldown_s
        return self._change(cooldown_s)

    def _change(self, cooldown_s: float) -> Change:
        return Change(self.state, *self._sums(), cooldown_s)

    def _sums(self) -> tuple[int, int]:
        return sum(each[0] for each in self._slices), sum(each[1] for each in self._slices)

    def _slice(self, now: float) -> list[int]:
        number = int(now / (WINDOW_S / SLICES))
        if number == self._newest:
            return self._slices[number % SLICES]
        for missed in range(max(self._newest + 1, number - SLICES + 1), number + 1):
            self._slices[missed % SLICES] = [0, 0]
        self._newest = max(self._newest, number)
        return self._slices[number % SLICES]


class RetryBudget:
    """One model's: each call earns a share of a second try."""

    def __init__(self) -> None:
        self._balance = MIN_RETRIES

    def earn(self) -> None:
        self._balance = min(MIN_RETRIES, self._balance + RETRY_SHARE)

    def spend(self) -> bool:
        """Take one second try; false when there is none left."""
        if self._balance < 1:
            return False
        self._balance -= 1
        return True


class Pace:
    """How fast one deployment answers, whole answers apart from streams, and with how many tokens: exponentially weighted averages."""

    __slots__ = ("_stream", "_whole", "output_tokens")

    def __init__(self) -> None:
        self._whole = self._stream = (0.0, -math.inf)
        """Microseconds until the whole answer, or a stream's first byte, and when that was last seen."""
        self.output_tokens: float | None = None

    def latency_us(self, stream: bool, now: float) -> float | None:
        """None while it is not known."""
        us, at = self._stream if stream else self._whole
        return us if now - at < PACE_FORGET_S else None

    def answered(self, now: float, stream: bool, latency_us: float, output_tokens: int | None) -> None:
        """Take in one answer; None is a number of tokens that is not known."""
        known = self.latency_us(stream, now)
        seen = (latency_us if known is None else known + PACE_SHARE * (latency_us - known), now)
        if stream:
            self._stream = seen
        else:
            self._whole = seen
        if output_tokens is not None:
            mean = self.output_tokens
            self.output_tokens = output_tokens if mean is None else mean + PACE_SHARE * (output_tokens - mean)


class Health:
    """Of everything that this process calls. Small and kept: one entry per deployment and per model."""

    def __init__(self) -> None:
        self._circuits: dict[tuple[str, str], Circuit] = {}
        self._budgets: dict[tuple[str, str], RetryBudget] = {}
        self._paces: dict[tuple[str, str], Pace] = {}

    def circuit(self, tenant: str, deployment: str) -> Circuit:
        return self._circuits.get((tenant, deployment)) or self._circuits.setdefault((tenant, deployment), Circuit())

    def budget(self, tenant: str, model: str) -> RetryBudget:
        return self._budgets.get((tenant, model)) or self._budgets.setdefault((tenant, model), RetryBudget())

    def pace(self, tenant: str, deployment: str) -> Pace:
        return self._paces.get((tenant, deployment)) or self._paces.setdefault((tenant, deployment), Pace())

    @property
    def open_circuits(self) -> int:
        return sum(circuit.state != "closed" for circuit in self._circuits.values())
