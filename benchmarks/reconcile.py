"""How long a month takes to be compared with its bill, and how long a call takes to be in the figures.

On a throw-away embedded server: ten million calls against a bill of one million rows, each of which sums up ten calls of a model, day and
token class. Reconciliation reads what the calls come to by day (`token_day`, written here by SQL as ingest leaves it), so it is the rows of
the bill that cost: RECONCILE_ROWS sets how many there are; 10000000 takes a quarter of an hour and 8 GB of disk. They are written by SQL; a
smaller file goes the whole way through the importer.

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
