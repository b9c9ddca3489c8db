"""How often experiments alarm for nothing and find what is there, on made-up arms with published seeds, and what one reading costs.

The simulation asks `rollouts.advice.report`, which pages and readings ask: units with a speed of their own make several calls each, whose
latency is compared; the assignment and a guardrail on errors are judged at every look too. No database, except for the reading's cost.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cryptography.fernet import Fernet
from numpy.typing import NDArray

from rollouts import advice, statistics
from rollouts.advice import Arm, Guardrail, Report, Terms
from rollouts.statistics import Moments

AREA = "rollouts"
ROOT = Path(__file__).resolve().parent.parent
SEEDS = (7, 11, 23)
RUNS = 200
"""Per seed."""
LOOKS = 20
EFFECT = 5.0
"""Percent: what is looked for, and what the treatment has where it has one."""
MARGIN = 1.0
"""Percentage points of errors."""
MEAN_CALLS, SPREAD_OF_UNITS, SHAPE_OF_CALLS, ERRORS = 3, 0.4, 4.0, 0.01
EVENTS = 500_000
"""Calls in the window of the reading that is timed."""
Sums = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """What the treatment does."""

    faster: float = 0.0
    """Percent less latency."""
    failing: float = 0.0
    """More errors, as a share of calls."""
    lost: float = 0.0
    """Share of its units that nobody recorded."""


def measure() -> dict[str, float]:
    """Shares of runs, 0 to 1, over all seeds; seconds of a reading."""
    spread = _spread(np.random.default_rng(1))
    plan = statistics.plan_means(spread=spread, effect=EFFECT / 100)
    print(f"unit spread {spread:.3f} of the mean; units per arm: fixed {plan.fixed:,}, sequential {plan.sequential:,}, SPRT {plan.sprt:,}")
    print(f"{RUNS} runs of {LOOKS} looks for each of the seeds {', '.join(map(str, SEEDS))}; by seed:")
    none, there = World(), World(faster=EFFECT)
    looking, once = plan.sequential, round(1.05 * plan.fixed)  # chance makes one arm the smaller one
    figures = {
        "experiment_false_alarm": _share("no effect: sequential promotes or rolls back, ever", none, looking, "sequential", _acts),
        "experiment_peeking_false_alarm": _share("no effect: a fixed test at every look, ever", none, looking, "fixed", _acts, minimum=50),
        "experiment_fixed_false_alarm": _share(
            "no effect: a fixed horizon, at its look", none, once, "fixed", _acts, looks=1, minimum=plan.fixed
        ),
        "experiment_sprt_false_alarm": _share("no effect: SPRT promotes or rolls back, ever", none, looking, "sprt", _acts),
        "experiment_power": _share("the effect: sequential promotes by its size", there, looking, "sequential", _promotes),
        "experiment_fixed_power": _share(
            "the effect: a fixed horizon promotes", there, once, "fixed", _promotes, looks=1, minimum=plan.fixed
        ),
        "experiment_sprt_power": _share("the effect: SPRT promotes by the sequential size", there, looking, "sprt", _promotes),
        "experiment_assignment_false_alarm": _share("nothing lost: broken, ever", none, looking, "sequential", _broken),
        "experiment_assignment_power": _share("a tenth of an arm lost: broken by then", World(lost=0.1), looking, "sequential", _broken),
        "experiment_guardrail_false_alarm": _share(
            "errors at the margin: breached, ever", World(failing=MARGIN / 100), looking, "sequential", _breaches
        ),
        "experiment_guardrail_power": _share("errors at three times it: breached", World(failing=0.03), looking, "sequential", _breaches),
    }
    return {**figures, "experiment_read_500k_s": _reading_s()}


def _share(
    title: str, world: World, units: int, method: str, counts: Callable[[Report], bool], *, looks: int = LOOKS, minimum: int | None = None
) -> float:
    """Share of the runs in which a look counts. `units` per arm at the last look."""
    least = minimum or max(50, units // looks)
    terms = Terms(
        champion="old", shares={"old": 0.5, "new": 0.5}, rooms={"old": 50_000, "new": 50_000}, metric="latency", better="lower",
        effect=EFFECT, guardrails=[Guardrail("error_rate", MARGIN)], minimum_units=least, method=method,
    )  # fmt: skip
    by_seed = []
    for seed in SEEDS:
        dice = np.random.default_rng(seed)
        by_seed.append(sum(_counted(terms, _run(dice, world, units, looks), counts) for _ in range(RUNS)) / RUNS)
    print(f"  {title:<58}" + " ".join(f"{share:6.1%}" for share in by_seed))
    return round(sum(by_seed) / len(by_seed), 4)


def _counted(terms: Terms, looks: list[dict[str, Arm]], counts: Callable[[Report], bool]) -> bool:
    """The assignment's smallest p-value is handed on from look to look, as readings do."""
    smallest = 1.0
    for arms in looks:
        found = advice.report(terms, arms, earlier_p=smallest)
        if counts(found):
            return True
        smallest = found.assignment_p
    return False


def _acts(found: Report) -> bool:
    """By the primary metric; the guardrail has rows of its own."""
    return found.sound and found.reached and found.contenders[0].primary.standing in ("better", "worse")


def _promotes(found: Report) -> bool:
    return found.advice == "promote"


def _broken(found: Report) -> bool:
    return not found.sound


def _breaches(found: Report) -> bool:
    return bool(found.contenders[0].breached)


def _run(dice: np.random.Generator, world: World, units: int, looks: int) -> list[dict[str, Arm]]:
    """The arms at each look; which arm a unit comes to is chance."""
    sides = dice.random(2 * units) < 0.5
    kept = ~sides | (dice.random(2 * units) >= world.lost)
    old, new = _units(dice, 2 * units, 0.0, 0.0), _units(dice, 2 * units, world.faster, world.failing)
    sums = {"old": _cumulated(old, ~sides), "new": _cumulated(new, sides & kept)}
    places = [2 * units * (look + 1) // looks - 1 for look in range(looks)]
    return [{name: _arm(all_sums[:, place]) for name, all_sums in sums.items()} for place in places]


def _units(dice: np.random.Generator, number: int, faster: float, failing: float) -> tuple[Sums, Sums, Sums]:
    """Calls, their latencies' sum in ms, and failures, per unit."""
    calls = dice.geometric(1 / MEAN_CALLS, number).astype(float)
    speed = dice.lognormal(6.5, SPREAD_OF_UNITS, number) * (1 - faster / 100)
    latency = speed * dice.gamma(SHAPE_OF_CALLS * calls) / SHAPE_OF_CALLS
    failed = dice.binomial(calls.astype(int), ERRORS + failing).astype(float)
    return calls, latency, failed


def _cumulated(units: tuple[Sums, Sums, Sums], mine: NDArray[np.bool_]) -> Sums:
    calls, latency, failed = (values * mine for values in units)
    rows = [mine.astype(float), calls, calls**2, latency, latency**2, calls * latency, failed, failed**2, calls * failed]
    return np.cumsum(rows, axis=1)


def _arm(sums: Sums) -> Arm:
    units, calls, squares, latency, latency_squares, latency_product, failed, failed_squares, failed_product = (
        float(each) for each in sums
    )
    moments = {
        "latency": Moments(int(units), calls, latency, squares, latency_squares, latency_product),
        "error_rate": Moments(int(units), calls, failed, squares, failed_squares, failed_product),
    }
    return Arm(int(units), int(calls), moments)


def _spread(dice: np.random.Generator) -> float:
    """Of one unit, relative to the mean."""
    everybody = np.ones(200_000, dtype=bool)
    moments = _arm(_cumulated(_units(dice, len(everybody), 0.0, 0.0), everybody)[:, -1]).moments["latency"]
    assert moments.spread is not None
    assert moments.mean is not None
    return moments.spread / moments.mean


def _reading_s() -> float:
    """Seconds for the sums of one reading over EVENTS calls, in a process of its own on a throw-away server."""
    from governance.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch:
        server = EmbeddedPostgres(Path(scratch) / "postgres")
        environment = {
            **os.environ, "DATABASE_URL": server.start(), "DATA_DIR": scratch, "SECRET_KEY": secrets.token_urlsafe(48),
            "KEY_PEPPER": secrets.token_urlsafe(48), "SEALING_KEYS": Fernet.generate_key().decode(), "DATABASE_POOL": "0",
            "DJANGO_SETTINGS_MODULE": "governance.settings",
        }  # fmt: skip
        try:
            subprocess.run([sys.executable, "manage.py", "prepare"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks._experiments"], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
        finally:
            server.stop()
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])
