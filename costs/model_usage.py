"""How a model is used, and how often its deployments failed: for its page and the API. Reads rollups only."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time

from django.db.models import Q, Sum
from django.db.models.functions import TruncDate

from catalog.hooks import Failovers
from costs.models import UsageHour, VerdictHour


def failovers(model: str, since: date) -> list[Failovers]:
    """By UTC day and reason, newest day first, within it the most frequent reason."""
    rows = (
        VerdictHour.objects.filter(step=f"failover:{model}"[:160], hour__gte=datetime.combine(since, time(), UTC))
        .values_list(TruncDate("hour", tzinfo=UTC), "verdict")
        .annotate(n=Sum("calls"))
    )
    return sorted((Failovers(*row) for row in rows), key=lambda row: (-row.day.toordinal(), -row.calls, row.reason))


def answered_calls(models: Iterable[str], since: datetime) -> dict[tuple[str, str], tuple[int, int]]:
    """(model, provider) to the calls that reached it since the hour of `since`, and how many of them failed."""
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    rows = UsageHour.objects.filter(hour__gte=hour, model__in=list(models)).exclude(provider="")
    counted = rows.values_list("model", "provider").annotate(
        n=Sum("calls", filter=~Q(outcome="refused"), default=0), failed=Sum("calls", filter=Q(outcome="error"), default=0)
    )
    return {(model, provider): (n, failed) for model, provider, n, failed in counted if n}
