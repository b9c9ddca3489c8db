"""Writing the release log: one line per act, in the transaction of the act."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Max

from governance.models import User
from rollouts.models import Gate, ReleaseLogEntry, Rollout


def note(
    *, rollout: Rollout, kind: ReleaseLogEntry.Kind, text: str, actor: User | None, at: datetime, gate: Gate | None = None, glyph: str = ""
) -> ReleaseLogEntry:
    """Append one line. The caller holds the lock on the rollout, which gives the lines their order."""
    last = ReleaseLogEntry.objects.filter(rollout=rollout).aggregate(last=Max("sequence"))["last"] or 0
    return ReleaseLogEntry.objects.create(
        rollout=rollout,
        sequence=last + 1,
        gate=gate,
        at=at,
        actor=actor,
        actor_name=str(actor) if actor else "System",
        kind=kind,
        glyph=glyph,
        text=text,
    )
