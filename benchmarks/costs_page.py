"""How long the server takes for the cost page of an organisation with 10 million, 100 million and a billion calls a month; kept under `costs.`.

The hourly rollup is written directly, 86 days of it: the ingest of so many calls is what `costs` measures. An hour has 500 rows, of 250 keys
with two agents and models each, as 40 projects would have them. The page goes through Django whole, middleware, session and template included.

PAGE_CALLS sets other numbers of calls a month, for example `1000000`. How many rows the rollup has depends on how many
different keys, agents and models call in an hour and not on how often they do, so the figures should be alike: that is what it shows.
"""

from __future__ import annotations

import os

from benchmarks import _server

AREA = "costs"
CALLS = "10000000,100000000,1000000000"


def measure() -> dict[str, float]:
    """P95 in milliseconds of the slowest of its views, for each number of calls."""
    return _server.figures_of("benchmarks._costs_page", *os.environ.get("PAGE_CALLS", CALLS).split(","))
