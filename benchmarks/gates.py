"""How long one worker takes to evaluate 1,000 and 10,000 open gates with ten measured criteria each; kept under `rollouts.`."""

from __future__ import annotations

from benchmarks._server import figures_of

AREA = "rollouts"


def measure() -> dict[str, float]:
    """Seconds for all of them as the schedule does it, metrics, evidence and commits included."""
    return figures_of("benchmarks._gates")
