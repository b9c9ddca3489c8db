"""Calls that repeat others, paired with what they repeat: for the shadows of the floor above."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from costs.models import Event
from gateway.contract.names import SHADOW_OF_TAG

LONGEST_CALL = timedelta(hours=1)


@dataclass(frozen=True)
class PairedCall:
    """One call, and the one that repeated it. Unknown is None, never zero."""

    call: UUID
    answer: UUID
    at: datetime
    """When the second one began."""
    is_ok: bool
    call_ms: float
    answer_ms: float
    call_tokens: int | None
    """Of the output."""
    answer_tokens: int | None
    call_usd: Decimal | None
    answer_usd: Decimal | None


def paired_calls(*, key_id: str, since: datetime, known: Collection[UUID], limit: int) -> tuple[list[PairedCall], datetime | None]:
    """Calls by that key since then that repeat another one, oldest first; without those known, and those whose first call is not counted yet.

    And when the last one began that was looked at, if there may be more behind it: no more than `limit` are looked at.
    """
    repeats = Event.objects.filter(key_id=key_id, started_at__gte=since, tags__has_key=SHADOW_OF_TAG).exclude(event_id__in=known)
    found = list(repeats.order_by("started_at", "event_id")[:limit])
    if not found:
        return [], None
    wanted = {UUID(event.tags[SHADOW_OF_TAG]) for event in found}
    span = (found[0].started_at - LONGEST_CALL, found[-1].started_at)
    firsts = {each.event_id: each for each in Event.objects.filter(event_id__in=wanted, started_at__range=span)}
    pairs = [(firsts.get(UUID(event.tags[SHADOW_OF_TAG])), event) for event in found]
    paired = [
        PairedCall(
            first.event_id, second.event_id, second.started_at, second.status == "ok", first.duration_us / 1000, second.duration_us / 1000,
            first.output_tokens, second.output_tokens, first.cost, second.cost,
        )
        for first, second in pairs if first is not None
    ]  # fmt: skip
    return paired, found[-1].started_at if len(found) == limit else None
