"""The keys page of an organisation with 10,000 keys and 600,000 hours of their use; kept under `catalog.`."""

from __future__ import annotations

from benchmarks._server import figures_of

AREA = "catalog"


def measure() -> dict[str, float]:
    """Milliseconds of the slowest order, search and page, and seconds of noting figures and of ending every key."""
    return figures_of("benchmarks._keys")
