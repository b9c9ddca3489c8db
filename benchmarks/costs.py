"""How fast calls become priced events and rollups, against the plain COPY that brought them.

On a throw-away embedded server: one tenant, four priced models, 40,000 calls over three hours in batches of the usual size. The copy
figure is the same rows into the indexed inbox; the ratio says what attribution costs on top, whatever the machine.
"""

from __future__ import annotations

from benchmarks import _server

CALLS = 40_000


def measure() -> dict[str, float]:
    """Attributed events per second, copied rows per second, and the ratio of the two."""
    return _server.figures_of("benchmarks._costs")
