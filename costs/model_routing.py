"""How calls to a model were led among its deployments: for its page, the API and the metric. Reads rollups only."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime

from django.db import connection
from django.db.models import Q, QuerySet, Sum
from django.db.models.functions import TruncDate

from catalog.hooks import DeploymentHour, RoutedDay, Traffic
from costs import sketch
from costs.models import CallHour, UsageHour, VerdictHour
from costs.models.rollup import INPUT_TOKENS
from costs.periods import hour_of

STEP = "route:"
"""Before the model's slug, see `gateway.plane.choice`."""
REGRET = "regret_ppm"
PPM_PER_PERCENT = 10_000


def routed(since: datetime, until: datetime | None = None, *, model: str | None = None) -> QuerySet[VerdictHour]:
    """Rows of the hours that begin in the span; of all models when none is named."""
    rows = VerdictHour.objects.filter(hour__gte=hour_of(since))
    rows = rows.filter(step__startswith=STEP) if model is None else rows.filter(step=f"{STEP}{model}"[:160])
    return rows if until is None else rows.filter(hour__lt=until)


def routed_days(model: str, since: datetime) -> list[RoutedDay]:
    rows = routed(since, model=model).annotate(day=TruncDate("hour", tzinfo=UTC)).values_list("day").annotate(
        n=Sum("calls", filter=Q(found=""), default=0),
        explored=Sum("calls", filter=Q(found="", verdict="explored"), default=0),
        judged=Sum("calls", filter=Q(found=REGRET), default=0),
        regret=Sum("hits", filter=Q(found=REGRET), default=0),
    )  # fmt: skip
    return [
        RoutedDay(day, n, explored, judged, regret / judged / PPM_PER_PERCENT if judged else None)
        for day, n, explored, judged, regret in rows.order_by("-day")
    ]


def traffic_by_deployment(model: str, since: datetime) -> Traffic:
    """Three queries."""
    calls = CallHour.objects.filter(model=model, hour__gte=hour_of(since), status="ok").exclude(deployment="")
    counted = list(calls.values_list("hour", "deployment").annotate(n=Sum("calls")).order_by("hour", "deployment"))
    hourly, whole = _durations(calls) if counted else ({}, {})
    used = UsageHour.objects.filter(model=model, hour__gte=hour_of(since), outcome="ok").aggregate(
        n=Sum("calls", default=0),
        tokens_in=Sum(INPUT_TOKENS, default=0),
        tokens_out=Sum("output_tokens", default=0),
    )
    return Traffic(
        [
            DeploymentHour(hour, deployment, n, sketch.quantile_ms(hourly.get((hour, deployment), {}), 0.5))
            for hour, deployment, n in counted
        ],
        {deployment: median for deployment, counts in whole.items() if (median := sketch.quantile_ms(counts, 0.5)) is not None},
        used["tokens_in"] / used["n"] if used["n"] else None,
        used["tokens_out"] / used["n"] if used["n"] else None,
    )


def _durations(calls: QuerySet[CallHour]) -> tuple[dict[tuple[datetime, str], Counter[int]], dict[str, Counter[int]]]:
    """Buckets of `costs.sketch` to calls, by hour and deployment, and by deployment."""
    hourly: dict[tuple[datetime, str], Counter[int]] = defaultdict(Counter)
    whole: dict[str, Counter[int]] = defaultdict(Counter)
    rows, parameters = calls.values_list("hour", "deployment", "durations").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT r.hour, r.deployment, d.name::int, sum(d.number::bigint)::bigint
            FROM ({rows}) r(hour, deployment, durations) CROSS JOIN LATERAL jsonb_each_text(r.durations) d(name, number)
            GROUP BY 1, 2, 3
            """,  # noqa: S608  # Django's own SQL
            parameters,
        )
        for hour, deployment, bucket, n in cursor.fetchall():
            hourly[hour, deployment][bucket] += n
            whole[deployment][bucket] += n
    return hourly, whole
