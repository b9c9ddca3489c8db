"""How long a month takes to be compared with its bill, and how long a call takes to be in the figures.

On a throw-away embedded server. The bill has the finest grain that a provider delivers: a row per call and token class. RECONCILE_ROWS
sets how many there are: one million by default (under a minute with everything around it), 10000000 for the full month, which takes a
quarter of an hour and 8 GB of disk. The rows are written by SQL; a smaller file goes the whole way through the importer.

The lag is that of a stream of 1,000 calls a second through the inbox, attributed each second as beat does it: from the end of a call to
the commit after which the pages count it. The plane's spool and Celery's own delay are not in it.
"""

from __future__ import annotations

import os

from benchmarks import _server

AREA = "costs"
"""Figures are kept under this name."""
ROWS = 1_000_000


def measure() -> dict[str, float]:
    """Seconds per reconciliation, rows imported per second, and the 95th percentile of the lag."""
    return _server.figures_of("benchmarks._reconcile", os.environ.get("RECONCILE_ROWS", str(ROWS)))
