"""How long the server takes for the cost page of an organisation with 10 million calls a month; kept under `costs.`.

The hourly rollup is written directly, 86 days of it: the ingest of so many calls is what `costs` measures. An hour has 500 rows, of 250 keys
with two agents and models each, as 40 projects would have them. The page goes through Django whole, middleware, session and template included.
"""

from __future__ import annotations

from benchmarks import _server

AREA = "costs"


def measure() -> dict[str, float]:
    """P95 in milliseconds of the slowest of its views."""
    return _server.figures_of("benchmarks._costs_page")
