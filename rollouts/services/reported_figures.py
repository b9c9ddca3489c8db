"""Taking in figures that other systems keep."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from governance.models import User
from governance.services import audit
from rollouts.errors import FigureConflictError, FigureInvalidError
from rollouts.models import ReportedFigure
from rollouts.reported_figures import FIGURES

CLOCK_SKEW = timedelta(minutes=5)
MOST_OBSERVATIONS = 2**31 - 1


@transaction.atomic
def report_figure(
    *,
    key: str,
    reference: str,
    value: float,
    sample: int,
    actor: User,
    low: float | None = None,
    high: float | None = None,
    url: str = "",
    at: datetime | None = None,
    now: datetime | None = None,
) -> tuple[ReportedFigure, bool]:
    """Keep one report; returns whether it is new. Reported again with the same figures, it is the report that there is.

    Raises FigureInvalidError, FigureConflictError (same key and reference, other figures).
    """
    now = now or timezone.now()
    figure = FIGURES.get(key)
    if figure is None:
        raise FigureInvalidError(f"There is no figure {key}. There are: {', '.join(FIGURES)}.", field="key")
    if not math.isfinite(value) or not figure.low <= value <= figure.high:
        upper = f" to {figure.high:g}" if math.isfinite(figure.high) else " or more"
        raise FigureInvalidError(f"{figure.title} is {figure.low:g}{upper}.", field="value")
    if not 1 <= sample <= MOST_OBSERVATIONS:
        raise FigureInvalidError(f"A figure has 1 to {MOST_OBSERVATIONS:,} observations.", field="sample")
    if (low is None) != (high is None) or (low is not None and high is not None and not _holds(low, value, high)):
        raise FigureInvalidError("Give both ends of an interval that holds the value, finite, or none.", field="low")
    if at is not None and at > now + CLOCK_SKEW:
        raise FigureInvalidError("The figure lies in the future.", field="at")
    told = {"value": value, "sample": sample, "low": low, "high": high}
    made = ReportedFigure(key=key, reference=reference, **told, url=url, at=at or now, received_at=now, by=actor)
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:
        before = ReportedFigure.objects.filter(key=key, reference=reference).first()
        if before is None:
            raise
        if {name: getattr(before, name) for name in told} != told:
            raise FigureConflictError(
                f"Other figures were reported as {reference}. Reports are never changed: use a new reference.", field="reference"
            ) from None
        return before, False
    audit.record("figure.reported", actor=actor, target=made, at=now, value=value, sample=sample, reference=reference)
    return made, True


def _holds(low: float, value: float, high: float) -> bool:
    return math.isfinite(low) and math.isfinite(high) and low <= value <= high
