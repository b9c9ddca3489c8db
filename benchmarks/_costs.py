"""The measured half of `benchmarks.costs`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import TYPE_CHECKING

import django
import msgspec

from benchmarks.costs import CALLS, LINES_PER_BATCH, ROAD_MOST_S, SHUFFLED_CALLS, WARM_UP
from gateway.contract import copying

if TYPE_CHECKING:
    from costs.generator import Offer
    from gateway.contract.events import CallEvent
    from governance.models import Tenant, User

TENANTS = ("bench", "other")
HOURS = 3


def main() -> None:
    django.setup()
    from governance.models import User
    from governance.services import tenants

    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    for slug in TENANTS:
        _set_prices(tenants.create_tenant(slug=slug, name=slug, owner_email=owner.email, actor=None), owner)
    copied, attributed, stored = _measured(TENANTS, CALLS // len(TENANTS))
    copied_one, attributed_one, _ = _measured(TENANTS[:1], CALLS)
    copied_shuffled, attributed_shuffled, _ = _measured(TENANTS[1:], SHUFFLED_CALLS, is_shuffled=True)
    shipped, road = _measured_road(TENANTS, CALLS // len(TENANTS))
    figures = {
        "ingest_events_per_s": round(attributed.per_s),
        "copied_rows_per_s": round(copied.per_s),
        "stored_rows_per_s": round(stored.per_s),
        "ingest_copy_ratio": round(attributed.per_s / copied.per_s, 3),
        "ingest_cpu_us": round(attributed.cpu_us, 1),
        "copied_cpu_us": round(copied.cpu_us, 1),
        "ingest_one_tenant_events_per_s": round(attributed_one.per_s),
        "ingest_one_tenant_copy_ratio": round(attributed_one.per_s / copied_one.per_s, 3),
        "ingest_shuffled_events_per_s": round(attributed_shuffled.per_s),
        "ingest_shuffled_copy_ratio": round(attributed_shuffled.per_s / copied_shuffled.per_s, 3),
        "spool_to_rollup_per_s": round(road.per_s),
        "spool_to_rollup_copy_ratio": round(road.per_s / copied.per_s, 3),
        "spool_to_rollup_store_ratio": round(road.per_s / stored.per_s, 3),
        "spool_to_rollup_cpu_us": round(road.cpu_us, 1),
        "shipped_cpu_us": round(shipped.cpu_us, 1),
    }
    print(json.dumps(figures))


def _offers() -> list[Offer]:
    from costs import generator

    prices = ({"input": Decimal(n), "cached_input": Decimal(n) / 4, "output": Decimal(4 * n)} for n in range(1, 5))
    return [generator.Offer(f"model-{n}", f"model-{n}", each) for n, each in enumerate(prices)]


def _set_prices(tenant: Tenant, owner: User) -> None:
    from costs.models import PriceEntry
    from governance.schema import enter_tenant

    enter_tenant(tenant)
    since = datetime(2020, 1, 1, tzinfo=UTC)
    for offer in _offers():
        for token_class, price in offer.prices.items():
            PriceEntry.objects.create(
                provider="bench", model=offer.slug, token_class=token_class, price=price, valid_from=since, approved_by=owner
            )


def _calls(tenant: Tenant, count: int, *, seed: int, is_shuffled: bool) -> list[CallEvent]:
    """Calls over HOURS until now, as they end, with ids that say when they began as a plane's do, which are their request ids.

    Or in no order, with random ids, and request ids of their callers.
    """
    from costs import generator

    month = datetime.now(UTC).date().replace(day=1)
    made = generator.generate(
        tenant=tenant.public_id,
        provider="bench",
        provider_name="Bench",
        account="bench",
        month=month,
        offers=_offers(),
        seed=seed,
        calls_per_day=count,
        days=1,
    ).calls
    end, chance = datetime.now(UTC).timestamp() - 3600, random.Random(seed)
    for call in made:
        call.started_at = end - (call.started_at % 86_400) / 24 * HOURS
        if not is_shuffled:
            begun = int(call.started_at * 1000) << 80
            call.event_id = str(uuid.UUID(int=begun | 7 << 76 | chance.getrandbits(12) << 64 | 2 << 62 | chance.getrandbits(62)))
            call.request_id = call.event_id
    if not is_shuffled:
        made.sort(key=lambda call: call.started_at + call.duration_us / 1e6)
    return made


@dataclass(frozen=True)
class _Span:
    """When something began and ended, on the clock that all processes share, and the processor time that it took here and in the server."""

    began: float
    ended: float
    cpu_s: float


@dataclass(frozen=True)
class _Rate:
    per_s: float
    cpu_us: float
    """Processor time of each, whatever else the machine was doing."""


def _measured(slugs: Sequence[str], count: int, *, is_shuffled: bool = False) -> tuple[_Rate, ...]:
    """Rows copied, calls attributed, and their events copied over all of `slugs`, a process for each, all at once; `count` calls of each."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(slugs), _join, (context.Barrier(len(slugs)),)) as pool:
        spans = pool.starmap(_copy_and_attribute, [(slug, count, is_shuffled) for slug in slugs], chunksize=1)
    return tuple(_rate(of_all, count) for of_all in zip(*spans, strict=True))


def _rate(spans: Sequence[_Span], count: int) -> _Rate:
    took = max(span.ended for span in spans) - min(span.began for span in spans)
    return _Rate(count * len(spans) / took, sum(span.cpu_s for span in spans) / (count * len(spans)) * 1e6)


_barrier: Barrier


def _join(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603  # a barrier reaches a process only when it is made
    _barrier = barrier
    django.setup()


def _copy_and_attribute(slug: str, count: int, is_shuffled: bool) -> tuple[_Span, ...]:
    """Of copying into the inbox, of attributing, and of copying what became of it once more into the emptied table of events."""
    from costs.models import UsageHour
    from costs.services import ingest
    from governance.models import Tenant
    from governance.schema import enter_tenant

    tenant = Tenant.objects.get(slug=slug)
    enter_tenant(tenant)
    seed = count + is_shuffled
    ingest.deliver(_calls(tenant, WARM_UP, seed=seed + 7, is_shuffled=is_shuffled))
    ingest.ingest(tenant=tenant)
    before = sum(UsageHour.objects.values_list("calls", flat=True))
    calls = _calls(tenant, count, seed=seed, is_shuffled=is_shuffled)

    def timed(act: Callable[[], object]) -> _Span:
        _barrier.wait()
        began, before = time.monotonic(), _processor_s()
        act()
        return _Span(began, time.monotonic(), _processor_s() - before)

    pieces = [copying.rows(lines)[0] for lines in _lines(calls)]
    copied = timed(lambda: _copy(pieces, copying.COPY_ROWS))
    attributed = timed(lambda: ingest.ingest(tenant=tenant))
    if sum(UsageHour.objects.values_list("calls", flat=True)) - before != count:
        raise RuntimeError(f"not every call of {slug} was attributed")
    events = _taken_out()
    return copied, attributed, timed(lambda: _copy(events, "COPY event FROM STDIN"))


def _lines(calls: Sequence[CallEvent]) -> list[list[bytes]]:
    """As the spool has them, in pieces as large as a shipper's."""
    lines = [msgspec.json.encode(call) for call in calls]
    return [lines[start : start + LINES_PER_BATCH] for start in range(0, len(lines), LINES_PER_BATCH)]


def _taken_out() -> list[bytes]:
    """All events of the tenant that is entered, in pieces as large as a shipper's; the table is empty then."""
    from django.db import connection

    with connection.cursor() as cursor:
        with cursor.copy("COPY (SELECT * FROM event ORDER BY started_at) TO STDOUT") as copy:
            rows = [bytes(row) for row in copy]
        cursor.execute("TRUNCATE event")
    return [b"".join(rows[start : start + LINES_PER_BATCH]) for start in range(0, len(rows), LINES_PER_BATCH)]


def _copy(pieces: Sequence[bytes], statement: str) -> None:
    """Rows into a table, and nothing else: what ratios compare with."""
    from django.db import connection

    for rows in pieces:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(rows)


def _measured_road(slugs: Sequence[str], count: int) -> tuple[_Rate, _Rate]:
    """Of shipping, and of the whole way from spool files to rollups: for each of `slugs` a plane's shipper and a worker, all at once."""
    context = multiprocessing.get_context("spawn")
    parts = [(slug, count, is_worker) for slug in slugs for is_worker in (False, True)]
    with context.Pool(len(parts), _join, (context.Barrier(len(parts)),)) as pool:
        spans = pool.starmap(_go, parts, chunksize=1)
    shippers, workers = spans[::2], spans[1::2]
    took = max(span.ended for span in spans) - min(span.began for span in spans)
    both = sum(span.cpu_s for span in spans)
    return _rate(shippers, count), _Rate(count * len(slugs) / took, both / (count * len(workers)) * 1e6)


def _go(slug: str, count: int, is_worker: bool) -> _Span:
    from governance.models import Tenant
    from governance.schema import enter_tenant

    tenant = Tenant.objects.get(slug=slug)
    enter_tenant(tenant)
    return _attribute_all(tenant, count) if is_worker else asyncio.run(_ship_all(tenant, count))


def _attribute_all(tenant: Tenant, count: int) -> _Span:
    from costs.services import ingest

    _barrier.wait()
    began, before, new = time.monotonic(), _processor_s(), 0
    while new < count:
        done = ingest.ingest(tenant=tenant)
        new += done.new
        if done.taken < ingest.BATCH_SIZE:
            time.sleep(0.25)  # until more of it has been shipped
        if time.monotonic() > began + ROAD_MOST_S:
            raise RuntimeError(f"only {new} of {count} calls of {tenant.slug} arrived")
    return _Span(began, time.monotonic(), _processor_s() - before)


async def _ship_all(tenant: Tenant, count: int) -> _Span:
    """By the plane's own shipper, from segments of the usual size."""
    from gateway.plane.database import Link
    from gateway.plane.shipper import Shipper
    from gateway.plane.spool import SEGMENT_BYTES, Spool

    root = Path(os.environ["DATA_DIR"]) / f"spool-{tenant.slug}"
    spool = Spool(root)
    spool.start()
    data = b"".join(line + b"\n" for lines in _lines(_calls(tenant, count, seed=count + 3, is_shuffled=False)) for line in lines)
    start = number = 0
    while start < len(data):
        end = data.find(b"\n", start + SEGMENT_BYTES) + 1 or len(data)
        (spool.directory / f"{number:09}.jsonl").write_bytes(data[start:end])
        start, number = end, number + 1
    link = Link(os.environ["DATABASE_URL"], "bench")
    async with link.use() as connection:
        server = connection.info.backend_pid
    _barrier.wait()
    began, before = time.monotonic(), time.process_time() + _server_s(server)
    shipper = Shipper(spool, link)
    shipper.start()
    while shipper.shipped < count:
        await asyncio.sleep(0.05)
    span = _Span(began, time.monotonic(), time.process_time() + _server_s(server) - before)
    await shipper.close()
    await spool.close()
    spool.release()
    return span


def _server_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _processor_s() -> float:
    """Of this process and of the server's that works for it."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    return time.process_time() + _server_s(pid)


if __name__ == "__main__":
    main()
