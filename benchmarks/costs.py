"""How fast calls become priced events and rollups, against the plain COPY that brought them.

On a throw-away embedded server, with four priced models, in batches of the usual size, once two tenants by two workers and once one tenant:
calls of three hours in the order in which planes send them, after a warm-up. The copy figure is the same rows, made before, into the indexed inbox
by as many writers; the ratio says what attribution costs on top, whatever the machine. At last the whole road: two planes' shippers empty their
spools while two workers attribute what has arrived.
"""

from __future__ import annotations

from benchmarks import _server

CALLS = 200_000
"""In all, however many tenants make them."""
SHUFFLED_CALLS = 40_000
WARM_UP = 10_000
"""Calls of each tenant: partitions, plans and caches."""
LINES_PER_BATCH = 2_800
"""About what a shipper reads at once."""
ROAD_MOST_S = 120
"""After this the run fails: something was lost on the way."""


def measure() -> dict[str, float]:
    """Attributed events per second, copied rows per second, and the ratio of the two."""
    return _server.figures_of("benchmarks._costs")
