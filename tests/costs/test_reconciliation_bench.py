"""What `make bench NAME=reconcile` writes by SQL is a month that can be compared: it follows the tables."""

from __future__ import annotations

from benchmarks import _reconcile as bench
from costs.services import reconciliation
from governance.models import Tenant, User


def test_month_of_the_benchmark_is_compared_whole(acme: Tenant, alice: User) -> None:
    bench.write_month(alice, 620)

    revision, _ = reconciliation.reconcile(provider="bench", month=bench.MONTH)

    assert revision.bill_rows == 620
    assert [cause["cause"] for cause in revision.causes] == ["bill_only"]
