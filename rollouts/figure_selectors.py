"""What other systems have reported."""

from __future__ import annotations

from django.db.models import QuerySet

from governance.metrics import NO_DATA, Metric, Reading, Window
from rollouts.models import ReportedFigure
from rollouts.reported_figures import Figure


def figures(*, key: str = "") -> QuerySet[ReportedFigure]:
    """Newest first."""
    found = ReportedFigure.objects.select_related("by").order_by("-at", "-pk")
    return found.filter(key=key) if key else found


def metric_of(figure: Figure) -> Metric:
    """The newest report of the window; none is no data."""

    def read(window: Window) -> Reading:
        newest = figures(key=figure.key).filter(at__gte=window.start, at__lt=window.end).first()
        if newest is None:
            return NO_DATA
        return Reading(newest.value, newest.sample, newest.low, newest.high, {"report": newest.reference, "at": newest.at.isoformat()})

    name = figure.description[:1].upper() + figure.description[1:]
    return Metric(f"reported.{figure.key}", figure.title, figure.unit, figure.better, figure.minimum_sample, read, f"{name}.", "programme")
