"""Bills and what they are compared with, as they may be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from catalog.models import Model, Project, Provider
from costs import bridge
from costs.models import (
    BillDelivery,
    BillFile,
    BillRow,
    BillSource,
    BillSourceFile,
    Reconciliation,
    Revision,
    RevisionSignature,
)
from governance.money import subunit


def bills(chosen: Mapping[str, str] | None = None) -> QuerySet[BillFile]:
    """Newest first; narrowed by `q` (in the name, or in an account or provider that it delivered, or how the digest begins) and `state`."""
    found = _bills()
    if q := (chosen or {}).get("q", "").strip():
        delivered = BillDelivery.objects.filter(Q(account__icontains=q) | Q(provider__icontains=q))
        found = found.filter(Q(name__icontains=q) | Q(sha256__startswith=q.lower()) | Q(pk__in=delivered.values("file")))
    if state := (chosen or {}).get("state"):
        found = found.filter(state=state)
    return found


def _bills() -> QuerySet[BillFile]:
    return BillFile.objects.select_related("uploaded_by").prefetch_related("deliveries").order_by("-uploaded_at", "-pk")


def replacing_files(bill: BillFile) -> list[tuple[BillFile, int]]:
    """Files that replaced rows of this one, with how many."""
    rows = BillRow.ever.filter(file=bill, replaced_by__isnull=False).values("replaced_by").annotate(n=Count("pk")).order_by("replaced_by")
    counts = {row["replaced_by"]: row["n"] for row in rows}
    return [(file, counts[file.pk]) for file in BillFile.objects.filter(pk__in=counts).order_by("pk")]


def replaced_and_new(bill: BillFile) -> QuerySet[BillRow]:
    """Rows that a file took out of force, and those that it brought, by account and time."""
    rows = BillRow.ever.filter(Q(replaced_by=bill) | Q(file=bill, is_in_force=True)).select_related("file")
    return rows.order_by("provider", "account", "charge_start", "charge_key", "is_in_force", "pk")


def bill_sources() -> QuerySet[BillSource]:
    """With how many of their files failed, and the months that count twice (`Reconciliation.is_counted_twice`)."""
    twice = Reconciliation.objects.counted_twice().filter(provider=OuterRef("provider"))
    return (
        BillSource.objects.select_related("set_by")
        .annotate(
            failed_files=Count("files", filter=~Q(files__error="")),
            months_counted_twice=ArraySubquery(twice.order_by("month").values("month").distinct()),
        )
        .order_by("provider")
    )


def source_files(source: BillSource, *, only_failed: bool = False) -> QuerySet[BillSourceFile]:
    """What was read, or tried, of a folder; the newest first."""
    found = source.files.select_related("bill").order_by("-changed_at", "-pk")
    return found.exclude(error="") if only_failed else found


def reconciliations(chosen: Mapping[str, str] | None = None) -> QuerySet[Reconciliation]:
    """Narrowed by `q` (in the provider or an account), `month` (YYYY-MM) and `show`, where `open` is what nobody signed off and can be.

    With their latest revision, the number of revisions, whether another series of the month took their place, whether a file waits, and
    whether the month counts twice.

    Without those that waited for exchange rates and were never compared, because another took their place meanwhile.
    """
    found = Reconciliation.objects.with_replaced().with_waiting().with_counted_twice()
    if q := (chosen or {}).get("q", "").strip():
        billed = BillDelivery.objects.filter(provider=OuterRef("provider"), period=OuterRef("month"), account__icontains=q)
        found = found.filter(Q(provider__icontains=q) | Q(account__icontains=q) | Exists(billed))
    if month := (chosen or {}).get("month"):
        try:
            found = found.filter(month=date.fromisoformat(f"{month}-01"))
        except ValueError:
            found = found.none()
    if (chosen or {}).get("show") == "open":
        found = found.filter(pk__in=_to_sign(timezone.now().date()))
    return (
        found.exclude(latest=None, missing_rates=[])
        .select_related("latest__reconciliation")
        .annotate(revision_count=Count("revisions"))
        .order_by("-month", "provider", "account")
    )


def _to_sign(today: date) -> QuerySet[Reconciliation]:
    """In force, of months that are over, and not signed off."""
    held = RevisionSignature.objects.filter(revision=OuterRef("latest"), voided_at=None).order_by().values("revision")
    signed = held.annotate(n=Count("pk")).filter(n__gte=RevisionSignature.NEEDED)
    return Reconciliation.objects.in_force().filter(~Exists(signed), month__lt=today.replace(day=1))


@dataclass(frozen=True)
class Standing:
    """How the bills of some months agree, one of each provider and month."""

    within: int
    above: int
    """More than 2% apart, and not doubtful."""
    doubtful: int
    missing_rates: int
    to_sign: int
    """Of all months."""

    @property
    def compared(self) -> int:
        return self.within + self.above + self.doubtful


def standing(since: date, today: date) -> Standing:
    """Of the months from `since` on."""
    recent = Reconciliation.objects.present().filter(month__gte=since).select_related("latest__reconciliation")
    latest = [series.latest for series in recent if series.latest and not series.missing_rates]
    doubtful = sum(1 for one in latest if one.is_doubtful)
    above = sum(1 for one in latest if not one.is_doubtful and (one.variance_percent or 0) > 2)
    waiting = sum(1 for series in recent if series.missing_rates)
    return Standing(len(latest) - doubtful - above, above, doubtful, waiting, _to_sign(today).count())


@dataclass(frozen=True)
class BilledAccount:
    """What one account is billed in a month, of what is compared. Our telemetry knows no accounts."""

    account: str
    currency: str
    rows: int
    bill: Decimal
    percent: Decimal | None
    """Of the bill; None where its currency is not that of the comparison."""


def billed_accounts(revision: Revision) -> list[BilledAccount]:
    """Accounts of the month's bill as it is now, the largest first."""
    series = revision.reconciliation
    committed = Q(kind=BillRow.Kind.COMMITTED)
    rows = BillRow.objects.filter(provider=series.provider, month=series.month, kind__in=BillRow.COMPARED).order_by()
    sums = rows.values("account", "currency").annotate(
        n=Count("pk"),
        billed=Sum("billed_cost", filter=~committed, default=Decimal()),
        effective=Sum("effective_cost", filter=committed, default=Decimal()),
    )
    found = [(row, row["billed"] + row["effective"]) for row in sums]
    total = sum((amount for row, amount in found if row["currency"] == revision.currency), Decimal())
    return [
        BilledAccount(
            row["account"],
            row["currency"],
            row["n"],
            amount,
            amount / total * 100 if total and row["currency"] == revision.currency else None,
        )
        for row, amount in sorted(found, key=lambda pair: (-pair[1], pair[0]["account"]))
    ]


def reconciliation(provider: str, account: str, month: date) -> Reconciliation | None:
    found = Reconciliation.objects.with_replaced().with_waiting().with_counted_twice().select_related("latest__reconciliation")
    return found.filter(provider=provider, account=account, month=month).first()


def doubtful_revisions(first: date, last: date, provider: str = "") -> list[Revision]:
    """Latest revisions of the months of these days, of all providers or one, that are too far from the bill: their figures may vary."""
    series = Reconciliation.objects.in_force().filter(month__gte=first.replace(day=1), month__lte=last)
    if provider:
        series = series.filter(provider=provider)
    revisions = Revision.objects.filter(pk__in=Subquery(series.values("latest"))).select_related("reconciliation")
    return [revision for revision in revisions.order_by("-reconciliation__month", "reconciliation__provider") if revision.is_doubtful]


def latest_matched() -> Revision | None:
    """The newest month that was compared with a bill."""
    newest = Reconciliation.objects.in_force().select_related("latest__reconciliation").order_by("-month").first()
    return newest.latest if newest else None


def provider_choices() -> dict[str, str]:
    return dict(Provider.objects.order_by("name").values_list("slug", "name"))


def model_choices() -> list[str]:
    return list(Model.objects.order_by("slug").values_list("slug", flat=True))


def project_names() -> dict[str, str]:
    return dict(Project.objects.values_list("slug", "name"))


@dataclass(frozen=True)
class Compared:
    """One row of the tables by model or by day."""

    value: str
    """In a query string; empty for what has no name or day."""
    label: str
    bill: Decimal
    ours: Decimal
    lines: int
    theirs_only: int
    ours_only: int

    @property
    def variance(self) -> Decimal:
        return self.bill - self.ours

    @property
    def percent(self) -> Decimal | None:
        """Of the bill, with its sign."""
        return self.variance / self.bill * 100 if self.bill else None

    @property
    def is_within(self) -> bool:
        return not self.variance or (self.percent is not None and abs(self.percent) <= 2)

    @property
    def matched(self) -> int:
        return self.lines - self.theirs_only - self.ours_only


def compared_by(revision: Revision, column: str) -> list[Compared]:
    """Lines of a revision by `model` or `day`."""
    only_theirs, only_ours = Q(telemetry_tokens=0, bill_rows__gt=0), Q(bill_rows=0)
    rows = revision.lines.values(column).annotate(
        n_bill=Sum("bill"),
        n_ours=Sum("telemetry"),
        n=Count("pk"),
        theirs=Count("pk", filter=only_theirs),
        own=Count("pk", filter=only_ours),
    )
    found = [
        (
            row[column],
            Compared(
                str(row[column] or ""),
                f"{row[column]:%b %-d, %Y}"
                if isinstance(row[column], date)
                else (row[column] or ("Whole month" if column == "day" else "No model")),
                row["n_bill"],
                row["n_ours"],
                row["n"],
                row["theirs"],
                row["own"],
            ),
        )
        for row in rows
    ]
    if column == "day":
        return [line for _, line in sorted(found, key=lambda pair: pair[0] or date.min)]
    return [line for _, line in sorted(found, key=lambda pair: (-pair[1].bill, pair[1].label))]


CAUSE_NOTES = {
    "missing_calls": ("Tokens on the bill that our telemetry does not have", "Look for calls around the gateway, or for late telemetry"),
    "bill_only": ("Models or days of which we saw no call at all", "Route these calls through the gateway, or assign the model below"),
    "mix": (
        "Tokens that the bill has in a dearer or cheaper class of the same model and day than we do, as many as on our side",
        "Compare how cached tokens are counted",
    ),
    "negotiated": (
        "The bill charges less or more than its list price, and our book has no such rate",
        "Put the negotiated prices in the book",
    ),
    "price_band": (
        "Tokens at the price of a service tier, a region or a long context that the other side has at another",
        "Compare what tier and region the calls ask for",
    ),
    "book_drift": (
        "Our book had another price within the month: calls were valued by it, or the bill still is or already was",
        "Check from when on the price holds",
    ),
    "price": ("The bill's price per token is another than ours on that day", "Correct the price book"),
    "fx": (
        "The bill was converted at another exchange rate than ours: its own amounts in the currency that it is priced in tell so",
        "Compare our rate with the invoice's",
    ),
    "unpriced": ("Our tokens had no price when they were counted", "Add prices"),
    "commitment": ("Usage that a prepaid commitment covers at its own rate", "None needed"),
    "extra_calls": (
        "Tokens that we counted and the bill does not have: late rows of the bill, or calls counted twice",
        "Wait for the next file, then look for duplicates",
    ),
    "telemetry_only": (
        "Models or days that the bill does not have, though it goes on after them",
        "Ask the provider, or look for calls counted twice",
    ),
    "late": ("Our calls of days that the bill does not reach yet", "Wait for the next file"),
    "rounding": ("Within what rounding each row to the cent can make", "None needed"),
    "unexplained": ("The bill's cost is not its quantity times its own price, or it gives no quantity", "Ask the provider"),
}


@dataclass(frozen=True)
class CauseRow:
    """One line of the bridge."""

    cause: str
    title: str
    note: str
    todo: str
    lines: int
    cents: Decimal
    exact: Decimal
    bar: bridge.Bar

    @property
    def is_of_book(self) -> bool:
        """What is to do is to do in the price book."""
        return self.cause in ("negotiated", "book_drift", "price", "unpriced")


def bridge_rows(revision: Revision) -> tuple[list[CauseRow], list[tuple[float, Decimal]]]:
    """Causes in order with their bars, and the ticks of the axis."""
    shapes, ticks = bridge.bars([Decimal(cause["cents"]) for cause in revision.causes])
    rows = [
        CauseRow(
            cause["cause"],
            bridge.CAUSES[cause["cause"]],
            *CAUSE_NOTES[cause["cause"]],
            cause["lines"],
            Decimal(cause["cents"]),
            Decimal(cause["amount"]),
            shape,
        )
        for cause, shape in zip(revision.causes, shapes, strict=True)
    ]
    return rows, ticks


@dataclass(frozen=True)
class UsedRates:
    """Our exchange rates of one currency in a revision."""

    currency: str
    days: int
    lowest: str
    highest: str


def used_rates(revision: Revision) -> list[UsedRates]:
    found: dict[str, list[Decimal]] = {}
    for rate in revision.rates:
        found.setdefault(rate["currency"], []).append(Decimal(rate["per_usd"]))
    return [UsedRates(currency, len(values), f"{min(values):f}", f"{max(values):f}") for currency, values in found.items()]


def currency_of(bill: BillFile) -> str:
    """Of all its rows, also of those that wait; empty where they have several, or none was new."""
    of_rows = bill.rows.order_by().values_list("currency", flat=True).distinct()
    of_deliveries = bill.deliveries.order_by().values_list("currency", flat=True).distinct()
    found = list((of_rows if bill.state == BillFile.State.APPLIED else of_deliveries)[:2])
    return found[0] if len(found) == 1 else ""


def unknown_models(provider: str, month: date) -> list[str]:
    """Names on the bill that are no model of ours, with AI usage behind them."""
    ours = set(model_choices())
    names = (
        BillRow.objects.filter(provider=provider, month=month, kind__in=BillRow.COMPARED)
        .exclude(model="")
        .order_by("model")
        .values_list("model", flat=True)
        .distinct()
    )
    return [name for name in names if name not in ours]


def files_of(revision: Revision) -> list[BillFile]:
    """The files that the revision was made of, newest first. For revisions that did not keep them, those that seem to have been there."""
    if revision.file_ids is not None:
        return list(bills().filter(pk__in=revision.file_ids).order_by("-uploaded_at", "-pk"))
    series = revision.reconciliation
    rows = BillRow.ever.filter(provider=series.provider, month=series.month, kind__in=BillRow.COMPARED)
    earlier = bills().alias(at=Coalesce("applied_at", "uploaded_at")).filter(at__lte=revision.created_at)
    # Each stops at the first row of a file, of which a month may have millions; one statement for both would read them all.
    in_force = earlier.filter(pk__in=rows.filter(is_in_force=True).values("file"))
    replaced_since = earlier.filter(pk__in=rows.filter(replaced_by__applied_at__gt=revision.created_at).values("file"))
    return sorted({*in_force, *replaced_since}, key=lambda file: (file.uploaded_at, file.pk), reverse=True)


def waiting_files(provider: str, month: date) -> QuerySet[BillFile]:
    """Files that would change the provider's billing period once somebody applies them, newest first."""
    would = BillDelivery.objects.filter(Q(rows_new__gt=0) | Q(rows_gone__gt=0), provider=provider, period=month)
    return bills().filter(state=BillFile.State.WAITING, pk__in=would.values("file"))


def kinds_of(bill: BillFile) -> list[dict[str, Any]]:
    """Accepted rows of a file by kind and currency."""
    rows = (
        bill.rows.values("kind", "currency")
        .annotate(n=Count("pk"), money=Sum("billed_cost"), effective=Sum("effective_cost"))
        .order_by("kind", "currency")
    )
    return [{**row, "label": BillRow.Kind(row["kind"]).label, "is_compared": row["kind"] in BillRow.COMPARED} for row in rows]


@dataclass(frozen=True)
class ErrorReason:
    """Rows of a file that were not taken for the same column."""

    column: str
    is_quarantined: bool
    example: str
    """The reason of one of them."""
    rows: int


def error_reasons(bill: BillFile) -> list[ErrorReason]:
    """Why rows of a file were not taken, the most frequent first. Reasons quote what the row says, so rows are counted by column."""
    rows = (
        bill.errors.order_by().values("column", "is_quarantined").annotate(n=Count("pk"), example=Min("message")).order_by("-n", "column")
    )
    return [ErrorReason(row["column"], row["is_quarantined"], row["example"], row["n"]) for row in rows]


@dataclass(frozen=True)
class ComparedMonths:
    """Of one file."""

    series: list[Reconciliation]
    """That it takes part in."""
    is_being_compared: bool
    """It was applied just now, and of one of its months a comparison with what it brought is a matter of seconds."""


def compared_months(bill: BillFile, at: datetime) -> ComparedMonths:
    rows = bill.rows.filter(kind__in=BillRow.COMPARED).order_by("provider", "month")
    months: list[tuple[str, date]] = list(rows.values_list("provider", "month").distinct())
    condition = Q(pk__in=[])
    for provider, month in months:
        condition |= Q(provider=provider, month=month)
    series = list(reconciliations().filter(condition))
    applied_at = bill.applied_at
    if applied_at is None or at - applied_at > timedelta(minutes=2):
        return ComparedMonths(series, False)
    done = {(one.provider, one.month) for one in series if one.missing_rates or (one.latest and one.latest.created_at > applied_at)}
    return ComparedMonths(series, not done.issuperset(months))


def cents_of(revision: Revision) -> dict[str, Decimal]:
    """The figures of the equation as they are shown: each in cents (yen, fils), and the printed equation holds."""
    unit = subunit(revision.currency)
    by_cause = {cause["cause"]: Decimal(cause["cents"]) for cause in revision.causes}
    unexplained = by_cause.get("unexplained", Decimal().quantize(unit))
    return {
        "bill": bridge.cents(revision.bill, unit),
        "telemetry": bridge.cents(revision.telemetry, unit),
        "variance": revision.variance_cents,
        "unexplained": unexplained,
        "explained": revision.variance_cents - unexplained,
    }
