"""The measured half of `benchmarks.reconcile`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import io
import json
import sys
import threading
import time
import uuid
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import django

MONTH = date(2026, 10, 1)
MODELS = 20
IMPORTED = 20_000
CALLS_IN_A_ROW = 10
MALFORMED = 100_000
PER_SECOND, SECONDS = 1_000, 12
PRICES = {"input": Decimal(2), "output": Decimal(8)}

_BILL = """
INSERT INTO bill_row (file_id, line, fingerprint, occurrence, provider, provider_name, account, kind, charge_category, charge_class, description,
    month, day, charge_start, charge_end, model, token_class, tokens, billed_cost, effective_cost, currency, listed_cost, pricing_currency, invoice_id, sku_id,
    meter)
SELECT %(file)s, n, md5(n::text), 1, 'bench', 'Bench', 'bench', 'usage', 'Usage', '', 'Tokens of a call',
    %(month)s, %(month)s::date + (n %% 31), %(month)s::date + (n %% 31), %(month)s::date + (n %% 31) + 1, 'model-' || (n / 62) %% %(models)s,
    c.name, 10000, 10000 * c.price * 0.000001, 10000 * c.price * 0.000001, 'USD', 10000 * c.price * 0.000001, '', '', c.name, ''
FROM generate_series(1, %(rows)s) n JOIN (VALUES (0, 'input', 2.0), (1, 'output', 8.0)) c(parity, name, price) ON c.parity = (n / 31) %% 2
"""
_OURS = """
INSERT INTO token_day (day, provider, model, token_class, calls, tokens, unpriced_tokens, cost)
SELECT day, provider, model, token_class, %(calls)s * count(*), sum(tokens)::bigint, 0, sum(billed_cost) FROM bill_row WHERE file_id = %(file)s GROUP BY 1, 2, 3, 4
"""


def main() -> None:
    rows = int(sys.argv[1])
    django.setup()
    from governance.models import User
    from governance.schema import enter_tenant
    from governance.services import tenants

    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    tenant = tenants.create_tenant(slug="bench", name="Bench", owner_email=owner.email, actor=None)
    enter_tenant(tenant)
    lag = attribution_lag(tenant, owner)
    seconds, megabytes = reconcile_s(owner, rows)
    calls = rows * CALLS_IN_A_ROW
    name = f"{calls // 1_000_000}m" if calls % 1_000_000 == 0 else str(calls)
    print(
        json.dumps(
            {
                f"reconcile_{name}_s": round(seconds, 2),
                f"reconcile_{name}_mb": megabytes,
                "bill_rows_per_s": import_rows(owner),
                "bill_malformed_rows_per_s": import_malformed(owner),
                "attribution_lag_p95_s": round(lag, 2),
            }
        )
    )


def write_month(owner: Any, rows: int) -> None:
    """A bill of `rows` rows, which agree with telemetry but for one day, and the prices of both."""
    from django.db import connection

    from costs.models import BillFile, PriceEntry, TokenDay

    zeros = {f"{what}_{kind}": 0 for what in ("rows", "billed") for kind in ("in", "accepted", "duplicate", "rejected")}
    file = BillFile.objects.create(
        sha256="0" * 64, name="bench.csv", size_bytes=1, focus_version="1.4", uploaded_by=owner, uploaded_at=datetime.now(UTC), **zeros
    )
    with connection.cursor() as cursor:
        cursor.execute(_BILL, {"file": file.pk, "month": MONTH, "rows": rows, "models": MODELS})
        cursor.execute(_OURS, {"file": file.pk, "calls": CALLS_IN_A_ROW})
    TokenDay.objects.filter(day=MONTH, provider="bench").delete()
    for model in range(MODELS):
        for token_class, price in PRICES.items():
            PriceEntry.objects.create(
                provider="bench",
                model=f"model-{model}",
                token_class=token_class,
                price=price,
                valid_from=datetime(2020, 1, 1, tzinfo=UTC),
                approved_by=owner,
            )


def reconcile_s(owner: Any, rows: int) -> tuple[float, int]:
    """Seconds and private megabytes at most for a comparison of them."""
    from django.db import connection

    from costs.services import reconciliation

    write_month(owner, rows)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE bill_row")
    connection.close()  # what writing the rows took is not measured
    with Memory() as memory:
        began = time.perf_counter()
        revision, _ = reconciliation.reconcile(provider="bench", month=MONTH)
        seconds = time.perf_counter() - began
    if revision.bill_rows != rows or revision.unexplained:
        raise RuntimeError("not every row was compared")
    return seconds, memory.megabytes


class Memory:
    """The most private memory that this process and all processes of the database server have at one time, looked at 20 times a second."""

    def __init__(self) -> None:
        self.megabytes = 0
        self._stop = threading.Event()

    def __enter__(self) -> Memory:
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            server = _parent(Path(f"/proc/{cursor.fetchone()[0]}"))
        self._thread = threading.Thread(target=self._watch, args=(server,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self, server: str) -> None:
        while not self._stop.wait(0.05):
            watched = [Path("/proc/self"), *(one for one in Path("/proc").glob("[0-9]*") if _parent(one) == server)]
            self.megabytes = max(self.megabytes, sum(_private_kb(one) for one in watched) // 1024)


def _parent(process: Path) -> str:
    return _status(process).get("PPid", "")


def _private_kb(process: Path) -> int:
    return int(_status(process).get("RssAnon", "0 kB").split()[0])


def _status(process: Path) -> dict[str, str]:
    try:
        lines = (process / "status").read_text().splitlines()
    except OSError:  # it ended
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _row() -> dict[str, str]:
    """One row of a bill that is taken."""
    from costs import generator

    details = '{"ModelId": "model-1", "TokenDirection": "Input"}'
    return dict.fromkeys(generator.COLUMNS, "") | {
        "BilledCost": "0.002", "EffectiveCost": "0.002", "BillingCurrency": "USD", "BillingAccountId": "other", "ChargeCategory": "Usage",
        "BillingPeriodStart": "2026-09-01T00:00:00Z", "BillingPeriodEnd": "2026-10-01T00:00:00Z", "ChargePeriodStart": "2026-09-03T00:00:00Z",
        "ChargePeriodEnd": "2026-09-04T00:00:00Z", "ConsumedQuantity": "1000", "ConsumedUnit": "Tokens", "PricingUnit": "1000000 Tokens",
        "PricingQuantity": "0.001", "ListUnitPrice": "2", "ServiceProviderName": "Bench", "SkuPriceDetails": details,
    }  # fmt: skip


def import_malformed(owner: Any) -> int:
    """Rows of a FOCUS file refused per second: half are no rows of a bill, half cannot be placed."""
    from costs import generator
    from costs.services import bills

    wrong = ({"BilledCost": "much"}, {"BillingCurrency": "CREDITS"}, {"ChargePeriodEnd": "soon"}, {"ServiceProviderName": ""})
    row = _row()
    file = io.BytesIO(generator.to_csv([row | {"SkuId": f"malformed-{n}"} | wrong[n % 4] for n in range(MALFORMED)]))
    began = time.perf_counter()
    done = bills.import_bill(file=file, name="malformed.csv", actor=owner).file
    seconds = time.perf_counter() - began
    if (done.rows_rejected, done.rows_quarantined, done.errors.count()) != (MALFORMED // 2, MALFORMED // 2, MALFORMED):
        raise RuntimeError("not every row was told")
    return round(MALFORMED / seconds)


def import_rows(owner: Any) -> int:
    """Rows of a FOCUS file taken over per second."""
    from costs import generator
    from costs.services import bills

    row = _row()
    file = io.BytesIO(generator.to_csv([row | {"SkuId": f"request-{n}"} for n in range(IMPORTED)]))
    began = time.perf_counter()
    done = bills.import_bill(file=file, name="file.csv", actor=owner)
    seconds = time.perf_counter() - began
    if done.file.rows_accepted != IMPORTED:
        raise RuntimeError("not every row was accepted")
    return round(IMPORTED / seconds)


def attribution_lag(tenant: Any, owner: Any) -> float:
    """Seconds from the end of a call until the rollups count it, 95th percentile."""
    from costs.models import Event, PriceEntry
    from costs.services import ingest
    from gateway.contract.events import CallEvent
    from governance.schema import enter_tenant

    for token_class, price in PRICES.items():
        PriceEntry.objects.create(
            provider="stream",
            model="m",
            token_class=token_class,
            price=price,
            valid_from=datetime(2020, 1, 1, tzinfo=UTC),
            approved_by=owner,
        )
    stop = threading.Event()

    def stream() -> None:
        enter_tenant(tenant)  # a connection of its own
        tick, began = 0, time.perf_counter()
        while not stop.is_set():
            now = time.time()
            ingest.deliver(
                CallEvent(
                    event_id=str(uuid.uuid4()), tenant=tenant.public_id, kind="chat", request_id="r", started_at=now - 0.5, duration_us=500_000,
                    project="p", key_id="k", agent=f"agent-{n % 20}", model="m", provider="stream", status="ok", http_status=200,
                    input_tokens=500, output_tokens=100, usage_source="provider", overhead_us=1_000, ttft_us=None, deployment=None, upstream_model=None,
                    region=None, error_code=None, stream=False, cached_input_tokens=None, cache_write_tokens=None, reasoning_tokens=None,
                    snapshot_version=1, tags={}, steps=[],
                )
                for n in range(PER_SECOND // 10)
            )  # fmt: skip
            tick += 1
            stop.wait(max(0.0, began + tick / 10 - time.perf_counter()))

    sender = threading.Thread(target=stream, daemon=True)
    sender.start()
    lags: list[float] = []
    for _ in range(SECONDS):
        time.sleep(1)
        known = datetime.now(UTC)
        ingest.ingest(tenant=tenant)
        committed = time.time()
        ends = Event.objects.filter(attributed_at__gte=known).values_list("started_at", flat=True)
        lags += [committed - 0.5 - at.timestamp() for at in ends]
    stop.set()
    sender.join()
    if len(lags) < PER_SECOND * SECONDS / 2:
        raise RuntimeError("the stream was not delivered at its pace")
    lags.sort()
    return lags[int(len(lags) * 0.95)]


if __name__ == "__main__":
    main()
