"""Exchange rates as they may be seen, and as comparisons and prices look them up."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from django.db.models import Exists, OuterRef, Q, QuerySet

from costs import exchange
from costs.models import BillRow, ExchangeRate, PriceEntry, RateSheet, Reconciliation


def rates_that_hold(currencies: Collection[str], first: date, last: date) -> set[exchange.Rate]:
    """Of exactly these days."""
    found = ExchangeRate.objects.filter(holds=True, currency__in=currencies, day__gte=first, day__lte=last)
    return {exchange.Rate(*row) for row in found.values_list("currency", "day", "per_usd")}


def rates_for(currencies: Collection[str], first: date, last: date) -> exchange.Rates:
    """What is needed to know the rates of these days."""
    return exchange.Rates(rates_that_hold(currencies, first - exchange.REACH, last))


def rate_of(currency: str, day: date) -> exchange.Rate | None:
    """None is unknown."""
    return rates_for([currency], day, day).of(currency, day)


def days_by_people(first: date) -> set[tuple[str, date]]:
    """Currency and day of rates that hold and that somebody entered."""
    found = ExchangeRate.objects.filter(holds=True, day__gte=first).exclude(sheet__kind=RateSheet.Kind.FEED)
    return set(found.values_list("currency", "day"))


def months_with(sheet: RateSheet) -> set[tuple[str, date]]:
    """Provider and month of the bills whose comparison may take a rate of the sheet: rows that are billed or priced in one of its currencies,
    prices of the provider that are quoted in one, or a revision that used one. Months that its days reach.
    """
    of_months = Q(month__gte=sheet.first_on.replace(day=1), month__lte=sheet.last_on + exchange.REACH)
    rows = BillRow.objects.filter(of_months, kind__in=BillRow.COMPARED)
    quoted = PriceEntry.objects.filter(provider=OuterRef("provider"), currency__in=sheet.currencies)
    named = Q(currency__in=sheet.currencies) | Q(pricing_currency__in=sheet.currencies) | Exists(quoted)
    used = Q()
    for currency in sheet.currencies:
        used |= Q(latest__rates__contains=[{"currency": currency}])
    series = Reconciliation.objects.in_force().filter(of_months, used) if used else Reconciliation.objects.none()
    return {*rows.filter(named).order_by().values_list("provider", "month").distinct(), *series.values_list("provider", "month")}


def exchange_rates(*, currency: str = "", month: date | None = None) -> QuerySet[ExchangeRate]:
    """Rates that hold, newest day first."""
    found = ExchangeRate.objects.filter(holds=True).select_related("sheet__proposed_by", "sheet__decided_by")
    if currency:
        found = found.filter(currency=currency)
    if month is not None:
        found = found.filter(Q(day__year=month.year, day__month=month.month))
    return found


def currencies() -> list[str]:
    """With at least one rate that holds."""
    return list(ExchangeRate.objects.filter(holds=True).order_by("currency").values_list("currency", flat=True).distinct())


def rate_sheets(status: str = "") -> QuerySet[RateSheet]:
    found = RateSheet.objects.select_related("proposed_by", "decided_by")
    return found.filter(status=status) if status else found


def rate_sheet(pk: int) -> RateSheet | None:
    return rate_sheets().filter(pk=pk).first()


SHOWN = 6


@dataclass(frozen=True)
class Offered:
    """A rate that waits, beside the one that the day has now."""

    currency: str
    day: date
    per_usd: Decimal
    before: exchange.Rate | None
    """Of that day or the last one before it."""

    @property
    def change(self) -> Decimal | None:
        """Percent of the rate before."""
        return (self.per_usd - self.before.per_usd) / self.before.per_usd * 100 if self.before else None

    @property
    def is_large(self) -> bool:
        """More than markets move: often dollars per unit where units per dollar are meant."""
        return self.change is not None and abs(self.change) >= 10


@dataclass(frozen=True)
class WaitingSheet:
    sheet: RateSheet
    offered: list[Offered]
    """The first of each currency, SHOWN at most."""


def waiting_sheets() -> list[WaitingSheet]:
    """Oldest first, as many as one page decides."""
    sheets = list(rate_sheets(RateSheet.Status.WAITING).order_by("proposed_at", "pk")[:20])
    firsts = list(ExchangeRate.objects.filter(sheet__in=sheets).order_by("sheet_id", "currency", "day").distinct("sheet_id", "currency"))
    if not firsts:
        return [WaitingSheet(sheet, []) for sheet in sheets]
    days = [rate.day for rate in firsts]
    known = rates_for({rate.currency for rate in firsts}, min(days), max(days))
    return [
        WaitingSheet(
            sheet,
            [
                Offered(rate.currency, rate.day, rate.per_usd, known.of(rate.currency, rate.day))
                for rate in firsts
                if rate.sheet_id == sheet.pk
            ][:SHOWN],
        )
        for sheet in sheets
    ]
