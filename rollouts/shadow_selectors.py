"""What may be seen of shadows, what planes are told of them, and what is known of their pairs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Q, QuerySet

from catalog.hooks import cost_figures
from catalog.models import Model
from governance.metrics import Window
from governance.models import Membership
from governance.roles import Permission
from rollouts import shadow_rules
from rollouts.models import Shadow, ShadowPair
from rollouts.shadow_rules import Verdict

OPEN = [Shadow.Status.DRAFT, Shadow.Status.RUNNING, Shadow.Status.PAUSED]
LATE = timedelta(minutes=10)
"""Events may arrive so long after their calls."""
_SENSITIVITIES = list(Model.Sensitivity.values)


def shadows(*, tab: str = "", query: str = "") -> QuerySet[Shadow]:
    """Newest first, by tab (`open`, `closed`; empty: all) and by name or model."""
    found = Shadow.objects.select_related("proposer", "starter").order_by("-created_at", "-pk")
    if tab == "open":
        found = found.filter(status__in=OPEN)
    elif tab == "closed":
        found = found.exclude(status__in=OPEN)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(source__icontains=query) | Q(candidate__icontains=query))
    return found


def shadow_counts() -> dict[str, int]:
    counted = dict(Shadow.objects.order_by().values_list("status").annotate(n=Count("pk")))
    is_open = sum(counted.get(status, 0) for status in OPEN)
    return {"open": is_open, "draft": counted.get("draft", 0), "closed": sum(counted.values()) - is_open}


def find_shadow(slug: str) -> Shadow | None:
    return shadows().filter(slug=slug).first()


def drafts() -> QuerySet[Shadow]:
    return Shadow.objects.filter(status=Shadow.Status.DRAFT)


def due_count(membership: Membership) -> int:
    """Drafts of others, of whoever may start them."""
    if not membership.can(Permission.MANAGE_ROLLOUTS):
        return 0
    return drafts().exclude(proposer=membership.user_id).count()


def may_be_told(source: Model, other: Model) -> bool:
    """Whether another model may be sent what the source may be sent."""
    return _SENSITIVITIES.index(other.data_sensitivity) >= _SENSITIVITIES.index(source.data_sensitivity)


def is_priced(model: Model) -> bool:
    """At every provider that may serve it."""
    prices = cost_figures().current_prices()
    providers = set(model.deployments.filter(is_enabled=True).values_list("provider__slug", flat=True))
    return bool(providers) and all((provider, model.slug) in prices for provider in providers)


def served_shadows() -> list[Shadow]:
    """Those under way whose models are still served, and whose candidate still may be told what its source is."""
    running = list(Shadow.objects.filter(status=Shadow.Status.RUNNING).order_by("source"))
    if not running:
        return []
    slugs = {slug for shadow in running for slug in (shadow.source, shadow.candidate)}
    models = {model.slug: model for model in Model.objects.filter(slug__in=slugs, status__in=Model.SERVED)}
    return [
        shadow
        for shadow in running
        if shadow.source in models and shadow.candidate in models and may_be_told(models[shadow.source], models[shadow.candidate])
    ]


def may_judge(shadow: Shadow) -> bool:
    """Whether the judge is still served, and still may be told what the source is."""
    models = {model.slug: model for model in Model.objects.filter(slug__in=[shadow.source, shadow.judge], status__in=Model.SERVED)}
    return shadow.source in models and shadow.judge in models and may_be_told(models[shadow.source], models[shadow.judge])


def caps_by_key() -> Mapping[str, tuple[str, Decimal]]:
    """Key id to the id of its counter and the USD a day; of shadows that are not done: their judge may still be at work."""
    found = Shadow.objects.filter(status__in=[Shadow.Status.RUNNING, Shadow.Status.PAUSED])
    return {shadow.key_id: (f"shadow:{shadow.pk}:money:day", shadow.cap_usd) for shadow in found}


def pairs_of(shadow: Shadow, *, verdict: str = "") -> QuerySet[ShadowPair]:
    """Newest first."""
    found = shadow.pairs.order_by("-at", "-pk")
    return found.filter(verdict="" if verdict == "waiting" else verdict) if verdict else found


def to_collect(at: datetime) -> list[int]:
    """Shadows whose answers may still arrive."""
    ended = Q(status=Shadow.Status.DONE, ended_at__lt=at - LATE)
    return list(Shadow.objects.exclude(key_id="").exclude(ended).order_by("pk").values_list("pk", flat=True))


def figures_of(shadow: Shadow, *, window: Window | None = None) -> dict[str, Any]:
    """Counts and distributions of all pairs, or of those in a window; None where nothing is known. One query."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT count(*) AS pairs, count(*) FILTER (WHERE NOT is_ok) AS failed, count(*) FILTER (WHERE is_ok) AS answered,
                percentile_cont(0.5) WITHIN GROUP (ORDER BY call_ms) FILTER (WHERE is_ok) AS call_p50_ms,
                percentile_cont(0.95) WITHIN GROUP (ORDER BY call_ms) FILTER (WHERE is_ok) AS call_p95_ms,
                percentile_cont(0.5) WITHIN GROUP (ORDER BY answer_ms) FILTER (WHERE is_ok) AS answer_p50_ms,
                percentile_cont(0.95) WITHIN GROUP (ORDER BY answer_ms) FILTER (WHERE is_ok) AS answer_p95_ms,
                count(*) FILTER (WHERE is_ok AND call_usd IS NOT NULL AND answer_usd IS NOT NULL) AS priced,
                avg(call_usd) FILTER (WHERE is_ok AND answer_usd IS NOT NULL) AS call_usd,
                avg(answer_usd) FILTER (WHERE is_ok AND call_usd IS NOT NULL) AS answer_usd,
                coalesce(sum(answer_usd), 0) AS spent_usd,
                count(*) FILTER (WHERE is_ok AND call_tokens IS NOT NULL AND answer_tokens IS NOT NULL) AS counted,
                avg(call_tokens) FILTER (WHERE is_ok AND answer_tokens IS NOT NULL)::float8 AS call_tokens,
                avg(answer_tokens) FILTER (WHERE is_ok AND call_tokens IS NOT NULL)::float8 AS answer_tokens,
                count(*) FILTER (WHERE verdict = 'preferred') AS wins, count(*) FILTER (WHERE verdict = 'baseline') AS losses,
                count(*) FILTER (WHERE verdict = 'tie') AS ties, count(*) FILTER (WHERE verdict = 'inconsistent') AS inconsistent,
                count(*) FILTER (WHERE verdict = 'not_kept') AS not_kept, count(*) FILTER (WHERE verdict = 'withheld') AS withheld,
                count(*) FILTER (WHERE verdict = '' AND is_ok) AS waiting
            FROM rollouts_shadowpair WHERE shadow_id = %s AND at >= %s::timestamptz AND at < %s::timestamptz
            """,
            [shadow.pk, *((window.start, window.end) if window else ("-infinity", "infinity"))],
        )
        assert cursor.description is not None
        [row] = cursor.fetchall()
        return dict(zip([column.name for column in cursor.description], row, strict=True))


def verdict_of(shadow: Shadow, figures: Mapping[str, Any]) -> Verdict:
    return shadow_rules.judge(figures, latency=shadow.latency_tolerance, cost=shadow.cost_tolerance, length=shadow.length_tolerance)
