"""What a month's review shows: spend, budgets, and findings from rollups; and what was decided about them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from catalog import selectors as catalog_selectors
from catalog.models import Deployment, Model
from catalog.selectors import current_tenant
from costs import (
    bill_selectors,
    budget_selectors,
    cheaper,
    commitment_selectors,
    price_selectors,
    savings_selectors,
    selectors,
    tag_selectors,
)
from costs.models import Anomaly, Budget, CallHour, ReviewItem, ReviewSignature, UsageDay, UsageHour
from costs.models.rollup import INPUT_TOKENS
from costs.periods import Period, first_of_month, whole_month
from costs.reviewing import BudgetLine, Finding, Review, Row, Section
from governance.models import User
from governance.selectors import members_of
from governance.templatetags.gatehouse import money_text

TOPIC = "cost.review"
IDLE_DAYS = 30
LEAST_SHARE = Decimal("0.01")
"""Of the month's money: models that cost less are not worth a meeting."""
FEW_KEYS = 2
LEAST_MONEY = Decimal("0.01")
"""USD: less is no finding."""
REQUESTS = ("costs-requests",)
Kind = ReviewItem.Kind


def review(month: date, at: datetime | None = None) -> Review:
    """The month (its first day) with its findings, worst first in each section."""
    at = at or timezone.now()
    period = whole_month(month)
    through = selectors.complete_through()
    whole, before = _whole(period), _whole(whole_month(first_of_month(month, -1)))
    baseline = savings_selectors.in_force()
    saved = savings_selectors.savings_against(baseline, period) if baseline else None
    findings = [
        *_unused(month),
        *_idle(period, at),
        *_low_value(period, whole[0]),
        *_untagged(period),
        *_lacking_tags(period),
        *_anomalies(period),
    ]
    return Review(
        month=month,
        is_over=through >= period.end,
        complete_through=through,
        cost=whole[0],
        before=before[0] if before[1] else None,
        calls=whole[1],
        unpriced_calls=whole[2],
        saved=saved.raw if saved else None,
        budgets=_budgets(period, at),
        sections=_sections(findings, _items(month)),
        signature=ReviewSignature.objects.select_related("signed_by").filter(month=month).first(),
    )


def owners() -> list[User]:
    """Who may be given an item: the organisation's people, by name."""
    return [member.user for member in members_of(current_tenant())]


def _whole(period: Period) -> tuple[Decimal, int, int]:
    """Money, served calls, and those of them without a price."""
    found = UsageDay.objects.filter(dimension=UsageDay.Dimension.ALL, day__gte=period.first, day__lte=period.last).aggregate(
        cost=Sum("cost", default=Decimal()), calls=Sum(F("calls") - F("refused"), default=0), unpriced=Sum("unpriced_calls", default=0)
    )
    return found["cost"], found["calls"], found["unpriced"]


def _budgets(period: Period, at: datetime) -> list[BudgetLine]:
    """Monthly budgets in force now, with what was spent of them by the end of the month, the fullest first."""
    end = min(at, period.end - timedelta(seconds=1))
    lines = [
        BudgetLine(one.budget.name, one.amount, one.spent)
        for one in budget_selectors.charged(end, acting=False)
        if one.budget.period == Budget.Period.MONTH
    ]
    return sorted(lines, key=lambda line: (-line.share, line.name))


def _unused(month: date) -> list[Finding]:
    """Commitments of which something was paid and not used; one of which nothing is counted yet says nothing."""
    found = [
        (one.figures.unused_cost, one)
        for one in commitment_selectors.commitment_utilisation(month)
        if one.counted_through is not None and one.figures.unused_cost >= LEAST_MONEY
    ]
    return [
        Finding(
            Kind.COMMITMENT,
            str(one.commitment.pk),
            f"{one.commitment.provider}: {one.commitment}",
            "Paid and not used" + ("." if one.figures.utilisation is None else f": {one.figures.utilisation:.1f}% of it was used."),
            cost,
            ("commitment-list",),
            {"month": f"{month:%Y-%m}"},
        )
        for cost, one in sorted(found, key=lambda pair: (-pair[0], pair[1].commitment.pk))
    ]


def _idle(period: Period, at: datetime) -> list[Finding]:
    """Deployments that are kept ready and that no call ended at in the last IDLE_DAYS of the month; younger ones have had no time."""
    end = min(at, period.end)
    start = end - timedelta(days=IDLE_DAYS)
    used = set(
        CallHour.objects.filter(hour__gte=start, hour__lt=end).exclude(status="refused").values_list("deployment", flat=True).distinct()
    )
    kept = Deployment.objects.filter(is_enabled=True, model__status__in=Model.SERVED, created_at__lt=start)
    return [
        Finding(
            Kind.IDLE,
            str(one.pk),
            f"{one.model.slug}: {one.upstream_model} at {one.provider.name}",
            f"No call ended here in the {IDLE_DAYS} days to {end - timedelta(microseconds=1):%b %-d}.",
            page=("model-detail", one.model.slug),
        )
        for one in kept.select_related("model", "provider").order_by("model__slug", "pk")
        if str(one.pk) not in used
    ]


def _low_value(period: Period, whole: Decimal) -> list[Finding]:
    """Models with a share of the money that few keys call, or that an equal model could replace for less."""
    rows = {
        row["model"]: row
        for row in UsageHour.objects.filter(hour__gte=period.start, hour__lt=period.end)
        .exclude(model="")
        .exclude(kind="tool")
        .values("model")
        .annotate(
            money=Sum("cost"),
            keys=Count("key_id", distinct=True, filter=~Q(outcome="refused")),
            read=Sum(INPUT_TOKENS),
            written=Sum("output_tokens"),
        )
        if row["money"] > 0 and row["money"] >= whole * LEAST_SHARE
    }
    used = {model: cheaper.Used(row["read"], row["written"]) for model, row in rows.items()}
    instead = {
        hint.model: hint
        for hint in (cheaper.hints(used, catalog_selectors.served_models(), price_selectors.current_prices()) if used else [])
    }
    findings = []
    for model, row in rows.items():
        hint, reasons = instead.get(model), []
        if row["keys"] <= FEW_KEYS:
            reasons.append(f"Only {row['keys']} key{'' if row['keys'] == 1 else 's'} called it.")
        if hint is not None:
            reasons.append(f"For about {money_text(hint.saved)} less at today's prices, {hint.instead} could do the same.")
        if reasons:
            findings.append(Finding(Kind.LOW_VALUE, model, model, " ".join(reasons), row["money"], REQUESTS, _calls(period, model=model)))
    return sorted(findings, key=lambda one: (-(one.cost or 0), one.ref))


def _untagged(period: Period) -> list[Finding]:
    rows = (
        UsageDay.objects.filter(dimension=UsageDay.Dimension.PROJECT, day__gte=period.first, day__lte=period.last)
        .values("value")
        .annotate(money=Sum("untagged_cost"), n=Sum("untagged_calls"))
        .filter(money__gte=LEAST_MONEY)
        .order_by("-money", "value")
    )
    names = bill_selectors.project_names()
    return [
        Finding(
            Kind.UNTAGGED,
            row["value"],
            names.get(row["value"]) or row["value"] or selectors.UNKNOWN["project"],
            f"{row['n']:,} calls do not say their project, key, model or agent.",
            row["money"],
            REQUESTS,
            _calls(period, project=row["value"] or selectors.NONE, agent=selectors.NONE),
        )
        for row in rows
    ]


def _lacking_tags(period: Period) -> list[Finding]:
    report = tag_selectors.report(tag_selectors.ALL, period)
    return [
        Finding(
            Kind.LACKS_TAGS,
            line.value,
            line.label,
            f"{line.figures.lacking:,} of {line.figures.calls:,} calls lack a required tag.",
            line.figures.lacking_cost,
            REQUESTS,
            _calls(period, tag=selectors.ANY, project=line.value or selectors.NONE),
        )
        for line in report.lines
        if line.figures.lacking_cost >= LEAST_MONEY
    ]


def _anomalies(period: Period) -> list[Finding]:
    """That nobody has closed, of the month or before."""
    found = Anomaly.objects.exclude(status=Anomaly.Status.CLOSED).filter(first_at__lt=period.end).order_by("-excess", "pk")
    return [
        Finding(
            Kind.ANOMALY,
            str(one.pk),
            str(one),
            f"{money_text(one.actual)} instead of {money_text(one.expected)}, since {one.first_at.astimezone(UTC):%b %-d}.",
            max(one.excess, Decimal()),
            ("anomaly-detail", str(one.pk)),
        )
        for one in found
    ]


def _calls(period: Period, **chosen: str) -> dict[str, str]:
    return {**chosen, "from": period.first.isoformat(), "to": period.last.isoformat()}


def _items(month: date) -> dict[tuple[str, str], ReviewItem]:
    """Decisions that the month's review shows: made by then, and not closed before it; the newest of each finding."""
    found = ReviewItem.objects.filter(Q(closed_month=None) | Q(closed_month__gte=month), month__lte=month)
    return {(one.kind, one.ref): one for one in found.select_related("owner", "decided_by", "closed_by").order_by("pk")}


def _sections(findings: Iterable[Finding], items: dict[tuple[str, str], ReviewItem]) -> list[Section]:
    rows: dict[Kind, list[Row]] = {kind: [] for kind in Kind}
    left = dict(items)
    for one in findings:
        rows[one.kind].append(Row(one.kind, one.ref, one.title, one, left.pop(one.key, None)))
    for item in left.values():
        kind = Kind(item.kind)
        rows[kind].append(Row(kind, item.ref, item.title, None, item))
    return [Section(kind, found) for kind, found in rows.items()]
