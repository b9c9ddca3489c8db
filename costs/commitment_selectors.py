"""What may be seen of commitments: the list, and how much of them was used in a month."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.db.models import DateField, ExpressionWrapper, F, Q, QuerySet, Sum

from costs import commitments
from costs.models import BillRow, Commitment, CommitmentDay, TokenDay
from costs.periods import Period, whole_month


def commitment_list(status: str = "") -> QuerySet[Commitment]:
    """Newest first; with `status` only those."""
    found = Commitment.objects.select_related("proposed_by", "decided_by")
    return found.filter(status=status) if status else found


def commitment(pk: int) -> Commitment | None:
    return commitment_list().filter(pk=pk).first()


def approved_in(period: Period) -> QuerySet[Commitment]:
    """Those that run on some day of it, by provider."""
    found = commitment_list(Commitment.Status.APPROVED).filter(first_on__lte=period.last, last_on__gte=period.first)
    return found.order_by("provider", "model", "first_on", "pk")


@dataclass(frozen=True)
class ModelUse:
    """What one model had of a commitment."""

    model: str
    quantity: Decimal
    list_cost: Decimal
    cost: Decimal


@dataclass(frozen=True)
class Utilisation:
    """One commitment in one month."""

    commitment: Commitment
    figures: commitments.Figures
    models: list[ModelUse]
    """Dearest first."""
    counted_through: date | None
    """None: nothing is counted yet, and the figures say nothing."""


def commitment_utilisation(month: date) -> list[Utilisation]:
    """Every approved commitment that runs in the UTC month of `month`, as far as it is counted. Four queries."""
    return utilisation_over(whole_month(month))


def utilisation_over(period: Period) -> list[Utilisation]:
    """The same for any whole UTC days."""
    found = list(approved_in(period))
    rows = CommitmentDay.objects.filter(commitment__in=found, day__gte=period.first, day__lte=period.last)
    parts: dict[int, dict[str, ModelUse]] = {}
    for pk, model, quantity, value, cost in (
        rows.order_by().values_list("commitment", "model").annotate(Sum("quantity"), Sum("list_cost"), Sum("cost"))
    ):
        parts.setdefault(pk, {})[model] = ModelUse(model, quantity, value, cost)
    drawn: dict[int, Decimal] = dict(
        CommitmentDay.objects.filter(commitment__in=[one.pk for one in found if not one.is_throughput], day__lte=period.last)
        .exclude(model="")
        .order_by()
        .values_list("commitment")
        .annotate(Sum("quantity"))
    )
    values = _values(period, {one.provider for one in found})
    return [_utilisation(one, period, parts.get(one.pk, {}), drawn.get(one.pk, Decimal()), values) for one in found]


def _values(period: Period, providers: set[str]) -> Mapping[tuple[date, str, str], Decimal]:
    """(day, provider, model) to what its use cost by the price book."""
    days = TokenDay.objects.filter(provider__in=providers, day__gte=period.first, day__lte=period.last)
    return {
        (day, provider, model): cost
        for day, provider, model, cost in days.order_by().values_list("day", "provider", "model").annotate(Sum("cost"))
    }


def _utilisation(
    found: Commitment, period: Period, parts: dict[str, ModelUse], drawn: Decimal, values: Mapping[tuple[date, str, str], Decimal]
) -> Utilisation:
    unused = parts.pop("", ModelUse("", Decimal(), Decimal(), Decimal()))
    models = sorted(parts.values(), key=lambda one: (-one.cost, one.model))
    whole = (found.counted_through or found.first_on) - timedelta(days=1)  # the day of the count was not over
    elapsed = Decimal(max((min(period.last, found.last_on, whole) - found.first_on).days + 1, 0)) / found.days
    eligible = sum(
        (
            value
            for (day, provider, model), value in values.items()
            if provider == found.provider and found.model in ("", model) and found.covers(day)
        ),
        Decimal(),
    )
    figures = commitments.Figures(
        used=sum((one.quantity for one in models), Decimal()),
        unused=unused.quantity,
        list_cost=sum((one.list_cost for one in models), Decimal()),
        cost=sum((one.cost for one in models), Decimal()),
        unused_cost=unused.cost,
        eligible=eligible,
        quantity=found.quantity,
        unit_price=found.unit_price,
        drawn=drawn,
        elapsed=elapsed,
        is_throughput=found.is_throughput,
    )
    return Utilisation(found, figures, models, found.counted_through)


@dataclass(frozen=True)
class Billed:
    """What bills say of commitments of a provider in a month, in their currency."""

    provider: str
    currency: str
    used: Decimal
    unused: Decimal


def billed(month: date) -> list[Billed]:
    """By provider and currency; without bills of commitments, nothing."""
    kinds = (BillRow.Kind.COMMITTED, BillRow.Kind.UNUSED)
    rows = (
        BillRow.objects.filter(month=month.replace(day=1), kind__in=kinds)
        .order_by("provider", "currency")
        .values_list("provider", "currency")
    )
    sums = rows.annotate(
        used=Sum("effective_cost", filter=Q(kind=BillRow.Kind.COMMITTED), default=Decimal()),
        unused=Sum("effective_cost", filter=Q(kind=BillRow.Kind.UNUSED), default=Decimal()),
    )
    return [Billed(*row) for row in sums]


def covered_days(provider: str, period: Period) -> set[tuple[str, date]]:
    """(model, day) of a provider of which a commitment covers something."""
    rows = CommitmentDay.objects.filter(commitment__provider=provider, day__gte=period.first, day__lte=period.last).exclude(model="")
    return set(rows.values_list("model", "day").distinct())


def terms(found: Commitment) -> commitments.Terms:
    return commitments.Terms(
        found.pk,
        found.is_throughput,
        found.provider,
        found.model,
        found.quantity,
        found.unit_price,
        found.unit_tokens_per_minute or 0,
        found.output_weight,
        found.first_on,
        found.last_on,
    )


def outlooks(found: Iterable[Commitment]) -> dict[int, commitments.Outlook]:
    """By commitment, for those that still run and have a week behind them. One query."""
    counted = {one.pk: one for one in found if one.counted_through is not None}
    begin = ExpressionWrapper(F("commitment__counted_through") - timedelta(days=commitments.PACE_DAYS), output_field=DateField())
    lately, is_use = Q(day__gte=begin), ~Q(model="")
    rows = (
        CommitmentDay.objects.filter(commitment__in=counted, day__lt=F("commitment__counted_through"))
        .order_by()
        .values_list("commitment")
        .annotate(
            drawn=Sum("quantity", filter=is_use, default=Decimal()),
            used=Sum("quantity", filter=is_use & lately, default=Decimal()),
            unused_cost=Sum("cost", filter=~is_use & lately, default=Decimal()),
        )
    )
    sums = {pk: figures for pk, *figures in rows}  # none of money that nobody draws on
    result = {}
    for pk, one in counted.items():
        drawn, used, unused_cost = sums.get(pk, [Decimal()] * 3)
        whole = (one.counted_through or one.first_on) - timedelta(days=1)  # the day of the count was not over
        days = min((whole - one.first_on).days + 1, commitments.PACE_DAYS)
        outlook = commitments.outlook(terms(one), whole=whole, drawn=drawn, days=days, used=used, unused_cost=unused_cost)
        if outlook is not None:
            result[pk] = outlook
    return result
