"""What the gateway's processes tell of themselves. Filled by `gateway.publish.apps` when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from governance.models import Tenant


@dataclass(frozen=True)
class PlaneState:
    """One process."""

    name: str
    """Its first characters."""
    host: str
    started_at: datetime
    seen_at: datetime
    is_alive: bool
    """It told of itself within the last seconds."""
    is_listening: bool
    open_streams: int
    spool_bytes: int
    snapshots: int
    behind: int
    """Snapshots of which there is a newer version than the one it serves."""


@dataclass(frozen=True)
class Reach:
    """How far the newest snapshot has come."""

    published_at: datetime
    planes: int
    """Processes on the list that serve this organisation, silent ones too; all on the list for what holds for everybody."""
    behind: int
    """Of those, how many serve an older version, or have not told of any."""
    last_at: datetime | None
    """When the last of them took what it serves, by the database's clock; None when there is none."""


class Planes(Protocol):
    """Implemented by `gateway.publish.planes`."""

    def reach(self, tenant: Tenant | None) -> Reach | None:
        """Of an organisation, or of what holds for every one; None before anything was published."""

    def planes(self) -> Sequence[PlaneState]:
        """Alive ones first, then by host and start."""


_planes: list[Planes] = []


def register_planes(planes: Planes) -> None:
    """There is one gateway; a second registration replaces the first."""
    _planes[:] = [planes]


def planes() -> Planes:
    """LookupError when no gateway is installed."""
    if not _planes:
        raise LookupError("no gateway tells of its processes")
    return _planes[0]
