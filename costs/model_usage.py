"""How a model is used, and how often its deployments failed: for its page and the API. Reads rollups only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time

from django.db.models import Q, Sum
from django.db.models.functions import TruncDate

from catalog.hooks import Failovers
from costs.models import CallHour, VerdictHour


def failovers(model: str, since: date) -> list[Failovers]:
    """By UTC day and reason, newest day first, within it the most frequent reason."""
    rows = (
        VerdictHour.objects.filter(step=f"failover:{model}"[:160], hour__gte=datetime.combine(since, time(), UTC))
        .values_list(TruncDate("hour", tzinfo=UTC), "verdict")
        .annotate(n=Sum("calls"))
    )
    return sorted((Failovers(*row) for row in rows), key=lambda row: (-row.day.toordinal(), -row.calls, row.reason))


def answers_by_deployment(models: Iterable[str], since: datetime) -> dict[str, tuple[int, int]]:
    """Deployment to the calls that it answered since the hour of `since`, and those that ended there without an answer."""
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = CallHour.objects.filter(hour__gte=hour, model__in=list(models), status__in=["ok", "upstream_error"]).exclude(deployment="")
    counted = rows.values_list("deployment").annotate(
        answered=Sum("calls", filter=Q(status="ok"), default=0), failed=Sum("calls", filter=Q(status="upstream_error"), default=0)
    )
    return {deployment: (answered, failed) for deployment, answered, failed in counted}
