"""One plane process: its parts, and how they start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from pathlib import Path

import aiohttp

from gateway.contract.events import CircuitEvent
from gateway.contract.sealing import Sealer
from gateway.plane.cache import AnswerCache
from gateway.plane.call import Call, uuid7
from gateway.plane.client import open_client
from gateway.plane.counters import PostgresCounters
from gateway.plane.database import Link
from gateway.plane.errors import DatabaseAwayError
from gateway.plane.health import Change, Health
from gateway.plane.leases import RECORD_BYTES as LEASE_RECORD_BYTES
from gateway.plane.leases import Ledger
from gateway.plane.metrics import Metrics
from gateway.plane.payloads import Payloads
from gateway.plane.presidio import PresidioWorker
from gateway.plane.proofs import Proofs
from gateway.plane.records import Records, left_in, read
from gateway.plane.reports import Reports
from gateway.plane.semantic import SemanticCache, SemanticStore
from gateway.plane.served import Served
from gateway.plane.settings import PlaneSettings
from gateway.plane.shadow import Shadows
from gateway.plane.shipper import Shipper
from gateway.plane.slots import PostgresSlots, Slots
from gateway.plane.snapshots import SnapshotStore
from gateway.plane.spool import Spool
from gateway.plane.under_way import UnderWay
from gateway.plane.upstream.tokens import Tokens
from gateway.plane.upstream.tools import ToolSessions
from gateway.plane.upstream.wire import Wire

logger = logging.getLogger(__name__)

SWEEP_S = 1.0
FORGET_S = 3600.0


class Plane:
    def __init__(self, settings: PlaneSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.proofs = Proofs(settings.key_pepper)
        sealer = Sealer(settings.sealing_keys)
        home = settings.data_dir / "plane"
        self.snapshots = SnapshotStore(settings.database_url, home / "snapshots", sealer, settings.outbound_allow, self._swapped)
        self.under_way = UnderWay(self.snapshots)
        self._lease_link = Link(settings.database_url, "leases")
        self._counters = PostgresCounters(self._lease_link)
        self.ledger = Ledger(self._counters)
        self._slot_store = PostgresSlots(self._lease_link)
        self.slots = Slots(self._slot_store)
        self.spool = Spool(home / "spool", on_taken_over=self._taken_over)
        self.payloads = Payloads(self.spool, sealer, settings.key_pepper)
        self.shipper = Shipper(self.spool, Link(settings.database_url, "shipper"))
        self.reports = Reports(Link(settings.database_url, "reports"), self._facts, lambda: self.snapshots.versions)
        self.health = Health()
        self.answers = AnswerCache()
        self.presidio = PresidioWorker()
        self.shadows = Shadows(self)
        self.semantic = SemanticCache(
            SemanticStore(Link(settings.database_url, "semantic"), Link(settings.database_url, "semantic-keep"), sealer)
        )
        self.tools = ToolSessions(settings.outbound_allow)
        self.wire: Wire
        self.client: aiohttp.ClientSession
        """For what is seldom asked: tokens of clouds."""
        self.tokens = Tokens(lambda: self.client, settings.outbound_allow)
        self._sweeper: asyncio.Task[None] | None = None
        self.is_started = False

    async def start(self) -> None:
        self.wire = Wire(self.settings.outbound_allow)
        self.client = open_client(self.settings.outbound_allow)
        self.spool.start()
        self.payloads.start()
        self.shipper.start()
        self.snapshots.start()
        self.reports.start()
        self.shadows.start()
        self._sweeper = asyncio.create_task(self._sweep_always())
        self.is_started = True

    async def stop(self) -> None:
        """Give leases back and ship what is spooled; what cannot be shipped stays on disk for the next start."""
        self.is_started = False
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await self.shadows.close()
        await self.snapshots.close()
        await self.reports.close()
        await self.semantic.close()
        await self.presidio.close()
        await self.tools.close()
        await self.tokens.close()
        await self.wire.close()
        await self.client.close()
        await self.ledger.close()
        with contextlib.suppress(DatabaseAwayError):  # they are free again when their time is up
            await self.slots.close()
        await self._lease_link.close()
        await self.payloads.close()
        await self.spool.close()
        await self.shipper.close()
        self.spool.release()

    def circuit_changed(self, call: Call, change: Change, reason: str) -> None:
        """Record that this process thinks otherwise of the call's deployment than before."""
        assert call.served is not None
        assert call.model is not None
        assert call.deployment is not None
        event = CircuitEvent(
            circuit=change.state,
            event_id=uuid7(),
            tenant=call.served.tenant,
            at=time.time(),
            model=call.model.slug,
            provider=call.deployment.provider,
            deployment=call.deployment.id,
            calls=change.calls,
            errors=change.errors,
            cooldown_s=change.cooldown_s,
            reason=reason,
        )
        self.spool.append(event)
        logger.warning("circuit.changed", extra={"tenant": event.tenant, "deployment": event.deployment, "state": event.circuit})

    def _facts(self) -> tuple[bool, int, int]:
        return self.snapshots.listening, self.under_way.open_streams, self.spool.bytes_on_disk

    def _taken_over(self, folder: Path) -> None:
        left = []
        for path in left_in(folder, "leases"):
            holdings = read(path, LEASE_RECORD_BYTES)
            path.unlink()  # first: what is lost in between counts as spent, what goes back twice would not
            left += holdings
        if self.ledger.records is None:  # the first is this process's own folder, as the one before left it
            self.ledger.records = Records(folder, "leases", LEASE_RECORD_BYTES)
        self.ledger.take_over(left)

    def _swapped(self, served: Served) -> None:
        self.under_way.swapped(served)  # first: what is reported as taken holds for what is under way, too
        self.reports.note(served.tenant, served.version)
        for guardrail in served.snapshot.guardrails:
            if guardrail.presidio is not None:
                self.presidio.prepare(guardrail.presidio)

    async def _sweep_always(self) -> None:
        loop = asyncio.get_running_loop()
        forget_at = loop.time()  # at once: it also opens the connection before the first call needs it
        while True:
            try:
                if loop.time() >= forget_at:
                    forget_at = loop.time() + FORGET_S
                    await self._counters.forget_ended()
                    await self._slot_store.forget_ended()
                await self.slots.sweep()
                await self.ledger.sweep()
                await self.tools.sweep()
            except DatabaseAwayError:
                pass  # noted by the link
            except Exception:
                logger.exception("plane.sweep_failed")
            await asyncio.sleep(SWEEP_S)

    @property
    def gauges(self) -> dict[str, float]:
        return {
            "cache_bytes": self.answers.bytes_held,
            "payloads_dropped": self.payloads.dropped,
            "spool_bytes": self.spool.bytes_on_disk,
            "spool_pending_events": self.spool.pending,
            "events_shipped": self.shipper.shipped,
            "snapshots_served": len(self.snapshots.versions),
            "snapshots_listening": int(self.snapshots.listening),
            "open_streams": self.under_way.open_streams,
            "tool_sessions": self.tools.count,
            "open_circuits": self.health.open_circuits,
            "presidio_up": int(self.presidio.state == "ok"),
            "presidio_failures": self.presidio.failures,
            "shadows_dropped": self.shadows.dropped,
            "shadows_not_allowed": self.shadows.not_allowed,
        }
