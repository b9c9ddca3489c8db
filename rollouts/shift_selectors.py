"""What may be seen of traffic shifts, and what their windows hold so far."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Count, Q, QuerySet

from governance.access import Permission
from governance.models import Membership
from rollouts import experiment_selectors, shift_rules
from rollouts.models import Shift, ShiftWindow
from rollouts.rules import sha256

OPEN = [Shift.Status.RUNNING, Shift.Status.PAUSED]


def shifts(*, tab: str = "", query: str = "") -> QuerySet[Shift]:
    """Newest first, by tab (`open`, `closed`; empty: all) and by name, flag or who proposes."""
    found = Shift.objects.select_related("flag", "proposer", "change", "version").order_by("-created_at", "-pk")
    if tab == "open":
        found = found.filter(status__in=OPEN)
    elif tab == "closed":
        found = found.exclude(status__in=OPEN)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(flag__key__icontains=query) | Q(proposer__name__icontains=query))
    return found


def shift_counts() -> dict[str, int]:
    counted = dict(Shift.objects.order_by().values_list("status").annotate(n=Count("pk")))
    is_open = counted.get("running", 0) + counted.get("paused", 0)
    return {"open": is_open, "paused": counted.get("paused", 0), "closed": sum(counted.values()) - is_open}


def paused() -> QuerySet[Shift]:
    return Shift.objects.filter(status=Shift.Status.PAUSED)


def due_count(membership: Membership) -> int:
    """Paused ones, of whoever may resume or end them."""
    if not membership.can(Permission.MANAGE_ROLLOUTS):
        return 0
    return paused().count()


def find_shift(slug: str) -> Shift | None:
    return shifts().select_related("flag__current").filter(slug=slug).first()


def windows_of(shift: Shift) -> QuerySet[ShiftWindow]:
    """Newest first."""
    return shift.windows.select_related("requested_by").order_by("-sequence")


def running() -> list[int]:
    return list(Shift.objects.filter(status=Shift.Status.RUNNING).order_by("pk").values_list("pk", flat=True))


def window_of(shift: Shift, at: datetime) -> dict[str, Any]:
    """Evidence of the present window: both arms since the step came into force, under its split."""
    assert shift.version is not None
    assert shift.entered_at is not None
    later = shift.flag.versions.filter(number__gte=shift.version.number).order_by("number")
    versions = [each.number for each in later if experiment_selectors.same_split(each.exposed, shift.version.exposed)]
    counted = experiment_selectors.count_arms(shift.flag, since=shift.entered_at, until=at, versions=versions)
    terms = shift_rules.terms_of(shift.flag.control, shift.challenger, shift.percentage, shift.margins, shift.window_calls)
    return {
        **shift_rules.evidence(terms, counted.arms, window_calls=shift.window_calls, earlier_p=1.0),
        "shift": shift.slug, "flag": shift.flag.key, "versions": versions, "excluded": counted.excluded, "percentage": shift.percentage,
        "since": shift.entered_at.isoformat(), "until": at.isoformat(),
    }  # fmt: skip


def digest_of(window: ShiftWindow) -> str:
    return sha256(f"{window.previous_hash}:{window.sequence}:{window.at.isoformat()}:{window.evidence}")


def is_as_written(window: ShiftWindow) -> bool:
    """Does the hash hold, does the chain, and does the evidence alone come to the same verdict?"""
    before = ShiftWindow.objects.filter(shift=window.shift_id, sequence=window.sequence - 1).first()
    chained = before.evidence_hash == window.previous_hash if before else window.sequence == 1
    return chained and digest_of(window) == window.evidence_hash and window.judgement.verdict == window.verdict
