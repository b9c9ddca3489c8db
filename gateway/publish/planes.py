"""What planes told of themselves: for pages, and for measuring how long a change takes to reach all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from django.db.models.functions import Now

from gateway.contract.names import PLATFORM
from gateway.publish.models import Plane, Snapshot, Taken
from governance.models import Tenant
from governance.planes import PlaneState, Reach

ALIVE = timedelta(seconds=15)
"""Three reports: who has said nothing for so long is silent. It may go on serving what it has."""


class Told:
    """`governance.planes.Planes`, registered in `apps`."""

    def reach(self, tenant: Tenant | None) -> Reach | None:
        name = tenant.public_id if tenant is not None else PLATFORM
        snapshot = Snapshot.objects.filter(tenant=name).only("version", "published_at").first()
        if snapshot is None:
            return None
        listed = Plane.objects.values("plane")
        taken = list(Taken.objects.filter(tenant=name, plane__in=listed).values_list("version", "taken_at"))
        # What holds for everybody each plane must have, an organisation's only those that were asked for it.
        expected = listed.count() if tenant is None else len(taken)
        behind = max(0, expected - sum(version >= snapshot.version for version, _ in taken))
        return Reach(snapshot.published_at, expected, behind, max((at for _, at in taken), default=None))

    def planes(self) -> Sequence[PlaneState]:
        """Four queries, however many planes and organisations."""
        newest = dict(Snapshot.objects.values_list("tenant", "version"))
        held, behind = Counter[str](), Counter[str]()
        for tenant, plane, version in Taken.objects.values_list("tenant", "plane", "version"):
            held[plane] += 1
            behind[plane] += version < newest.get(tenant, 0)
        alive = set(Plane.objects.filter(seen_at__gt=Now() - ALIVE).values_list("plane", flat=True))
        states = [
            PlaneState(
                row.plane[:8], row.host, row.started_at, row.seen_at, row.plane in alive, row.is_listening, row.open_streams, row.spool_bytes,
                held[row.plane], behind[row.plane],
            )
            for row in Plane.objects.all()
        ]  # fmt: skip
        return sorted(states, key=lambda state: (not state.is_alive, state.host, state.started_at))
