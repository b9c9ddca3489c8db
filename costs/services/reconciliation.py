"""Comparing bills with telemetry: one immutable revision for each set of inputs."""

from __future__ import annotations

import calendar
import hashlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Exists, F, Max, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncMonth
from django.utils import timezone

from costs import bridge, commitment_selectors, exchange, exchange_selectors, focus
from costs.errors import NothingToReconcileError, RateUnknownError
from costs.models import (
    BillRow,
    PriceEntry,
    RateSheet,
    Reconciliation,
    ReconciliationLine,
    Revision,
    SupersededPrice,
    TokenClass,
    TokenDay,
    UsageHour,
)
from costs.periods import Period
from costs.quotes import Quote
from costs.services import signoff
from governance.errors import DomainError
from governance.models import Severity, User
from governance.roles import Permission
from governance.services import alerts, audit

RULES_VERSION = 4
"""Part of the run key: a change of the rules makes a new revision."""
MONTHS_BACK = 3
"""How far back the schedule looks for changed inputs."""
RATES_BACK = timedelta(days=3)
"""How long the schedule compares what exchange rates that came may change, in case the task that they queued was lost."""
logger = logging.getLogger(__name__)

Key = tuple[str, str, date | None]
"""Model, token class, day; no day means the whole month."""


@dataclass(frozen=True)
class Inputs:
    """Everything that a run depends on."""

    provider: str
    account: str
    month: date
    bill: dict[Key, bridge.BillSide]
    ours: dict[Key, bridge.OurSide]
    prices: dict[Key, Decimal]
    others: dict[Key, bridge.OtherPrices]
    """Keys whose book has but one price are missing."""
    excluded: list[dict[str, Any]]
    complete_through: datetime | None
    currency: str = exchange.BOOK
    """Of the bill, and of every figure here."""
    key_rates: dict[Key, Decimal] = field(default_factory=dict)
    """Units of it for a dollar of ours; keys without one are at 1."""
    used: tuple[exchange.Rate, ...] = ()
    """Our rates that were used, of the day that each is of."""
    stated_rows: int = 0
    telemetry_usd: Decimal = Decimal()
    converted: frozenset[Key] = frozenset()
    """Keys whose price of the book was converted from another currency than that of the bill."""

    def is_late(self, key: Key) -> bool:
        """The bill does not have the key, and does not reach its day yet."""
        _, _, day = key
        return key not in self.bill and day is not None and not bridge.reaches(self.complete_through, day)

    @property
    def run_key(self) -> str:
        """sha256 over the inputs in a canonical form; equal amounts written differently are equal."""

        def plain(value: Any) -> Any:
            return f"{value.normalize(focus.EXACT):f}" if isinstance(value, Decimal) else value

        def side(found: dict[Key, Any]) -> list[Any]:
            return sorted(
                (
                    [str(part) for part in key],
                    # Without what a side did not have when its key was first made.
                    {name: plain(value) for name, value in vars(what).items() if value or name not in ("is_committed", "fx")},
                )
                for key, what in found.items()
            )

        body = [
            RULES_VERSION,
            self.provider,
            self.account,
            self.month.isoformat(),
            side(self.bill),
            side(self.ours),
            sorted(([str(part) for part in key], plain(price)) for key, price in self.prices.items()),
            side(self.others),
            self.excluded,
            sorted([str(part) for part in key] for key in self.ours if self.is_late(key)),
            *([] if self.currency == exchange.BOOK and not self.used else [self.currency, [plain_rate(rate) for rate in self.used]]),
        ]
        return hashlib.sha256(json.dumps(body, sort_keys=True, default=str).encode()).hexdigest()


def plain_rate(rate: exchange.Rate) -> dict[str, str]:
    """As it is kept."""
    return {"currency": rate.currency, "day": rate.day.isoformat(), "per_usd": f"{rate.per_usd.normalize(focus.EXACT):f}"}


class _Exchange:
    """Our exchange rates for one comparison: notes which were used, and which are not known."""

    def __init__(self, currencies: set[str], month: date) -> None:
        self._rates = exchange_selectors.rates_for(currencies - {exchange.BOOK}, month, end_of(month))
        self.used: set[exchange.Rate] = set()
        self.missing: set[tuple[str, date]] = set()

    def per_usd(self, currency: str, day: date) -> Decimal:
        """Units of the currency for a dollar. What is not known is noted, and the comparison then is refused: the 1 stands for nothing."""
        if currency == exchange.BOOK:
            return Decimal(1)
        found = self._rates.of(currency, day)
        if found is None:
            self.missing.add((currency, day))
            return Decimal(1)
        self.used.add(found)
        return found.per_usd

    def known(self, currency: str, day: date) -> Decimal | None:
        """The same where it is no need: None is not known, and nothing is noted."""
        return None if self._rates.of(currency, day) is None else self.per_usd(currency, day)

    def factor(self, source: str, target: str, day: date) -> Decimal:
        """What an amount in `source` is multiplied with to be one in `target`; exact where either is the dollar's own."""
        per_source, per_target = self.per_usd(source, day), self.per_usd(target, day)
        return per_target if per_source == 1 else focus.EXACT.divide(per_target, per_source)


def end_of(month: date) -> date:
    return month.replace(day=calendar.monthrange(month.year, month.month)[1])


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def gather(provider: str, month: date) -> Inputs:
    """Read both sides at their finest common grain, in the currency of the bill (bills in several: USD).

    Raises NothingToReconcileError without a compared row, RateUnknownError where a day has no exchange rate.
    """
    rows = BillRow.objects.filter(provider=provider, month=month)
    compared = rows.filter(kind__in=BillRow.COMPARED)
    complete_through = compared.aggregate(last=Max("charge_end"))["last"]
    accounts = sorted(set(compared.values_list("account", flat=True)))
    if not accounts:
        raise NothingToReconcileError(f"There is no AI usage of {provider} on a bill for {month:%B %Y}.")
    account = accounts[0] if len(accounts) == 1 else Reconciliation.ALL_ACCOUNTS
    committed = Q(kind=BillRow.Kind.COMMITTED)
    found: list[Any] = list(
        compared.values("model", "token_class", "day", "currency", "pricing_currency").annotate(
            amount=Sum("billed_cost", filter=~committed, default=Decimal()),
            effective=Sum("effective_cost", filter=committed, default=Decimal()),
            n_tokens=Sum("tokens"),
            counted=Count("tokens"),
            n_listed=Sum("listed_cost"),
            with_price=Count("listed_cost"),
            n=Count("pk"),
            listed_committed=Sum("listed_cost", filter=committed),
            n_committed=Count("pk", filter=committed & Q(listed_cost__isnull=False)),
            under=Count("pk", filter=committed),
            negotiated=Sum(F("listed_cost") - F("list_cost")),
            effective_listed=Sum("effective_cost", filter=committed & Q(listed_cost__isnull=False), default=Decimal()),
            **_STATED,
        )
    )
    currencies = {str(row["currency"]) for row in found}
    currency = currencies.pop() if len(currencies) == 1 else exchange.BOOK
    quoting = set(PriceEntry.objects.filter(provider=provider).exclude(currency=exchange.BOOK).values_list("currency", flat=True))
    written = {str(row[name]) for row in found for name in ("currency", "pricing_currency") if row[name]}
    rates = _Exchange({currency} | written | quoting, month)
    last_day = (
        end_of(month)
        if complete_through is None
        else min((complete_through + timedelta(seconds=1)).date() - timedelta(days=1), end_of(month))
    )

    def rate_day(at: Key) -> date:
        # Days that the bill does not reach yet are at the rate of its last one: what they will be billed at is not known.
        return min(at[2] or last_day, last_day)

    def own_rate(at: Key, entry: PriceEntry | None) -> Decimal:
        # A price that is quoted in the currency of the bill is compared as it is quoted: no exchange lies between.
        if entry is not None and entry.quote is not None and entry.currency == currency and entry.price:
            return focus.EXACT.divide(entry.quote.amount, entry.price)
        return rates.per_usd(currency, rate_day(at))

    by_month = {(row["model"], row["token_class"]) for row in found if row["day"] is None}
    without_class = {row["model"] for row in found if row["token_class"] == ""}

    def key(model: str, token_class: str, day: date | None) -> Key:
        # A bill that does not tell token classes apart can only be compared by model; one that is monthly only by month.
        monthly = (model, token_class) in by_month or (model in without_class and any(name == model for name, _ in by_month))
        return model, "" if model in without_class else token_class, None if monthly else day

    covered = commitment_selectors.covered_days(provider, Period(month, end_of(month))) if any(row["under"] for row in found) else set()
    covered_models = {model for model, _ in covered}

    def is_committed(row: Any) -> bool:
        ours = (row["model"], row["day"]) in covered if row["day"] else row["model"] in covered_models
        return ours and row["under"] == row["n"] and row["with_price"] < row["n"]

    with localcontext(focus.EXACT):
        bill_keys = {key(row["model"], row["token_class"], row["day"]) for row in found}
        usd: dict[Key, bridge.OurSide] = {}
        days = TokenDay.objects.filter(provider=provider, day__gte=month, day__lte=end_of(month))
        for model, token_class, day, tokens, unpriced, cost, calls in days.values_list(
            "model", "token_class", "day", "tokens", "unpriced_tokens", "cost", "calls"
        ):
            at = key(model, token_class, day)
            if not bridge.reaches(complete_through, day) and (late := (*at[:2], day)) not in bill_keys:
                at = late  # also where the bill is monthly: what it has so far says nothing of this day
            before = usd.get(at, bridge.OurSide(Decimal(), 0))
            usd[at] = bridge.OurSide(before.amount + cost, before.tokens + tokens, before.unpriced_tokens + unpriced, before.calls + calls)
        book = _prices(provider, month, {*bill_keys, *usd}, currency, own_rate)
        bill: dict[Key, bridge.BillSide] = {}
        for row in found:
            side = bridge.BillSide(
                amount=row["amount"] + row["effective"],
                tokens=row["n_tokens"] if row["counted"] == row["n"] and row["token_class"] else None,
                listed=row["n_listed"] if row["with_price"] == row["n"] else None,
                rows=row["n"],
                commitment=row["effective_listed"] - (row["listed_committed"] or 0) if row["with_price"] == row["n"] else Decimal(),
                is_committed=is_committed(row),
                negotiated=row["negotiated"] or Decimal(),
            )
            at = key(row["model"], row["token_class"], row["day"])
            bill[at] = _joined(bill.get(at), _in_currency(side, row, currency, rates, rate_day(at), book.quotes.get(at), book.rates[at]))
        if rates.missing:
            missing = exchange.spans(rates.missing)
            message = f"No exchange rate is known of {exchange.told(missing)}. Enter it, and the bill is compared."
            raise RateUnknownError(message, missing, account)
        key_rates = book.rates if currency != exchange.BOOK else {}
        ours = {
            at: side if at not in key_rates else replace(side, amount=bridge.converted(side.amount, key_rates[at]))
            for at, side in usd.items()
        }
    excluded = [
        {"kind": row["kind"], "rows": row["n"], "amount": f"{row['money'].normalize(focus.EXACT):f}", "currency": row["currency"]}
        for row in rows.exclude(kind__in=BillRow.COMPARED)
        .values("kind", "currency")
        .annotate(n=Count("pk"), money=Sum("billed_cost"))
        .order_by("kind", "currency")
    ]
    return Inputs(
        provider,
        account,
        month,
        bill,
        ours,
        book.prices,
        book.others,
        excluded,
        complete_through,
        currency,
        key_rates,
        tuple(sorted(rates.used)),
        sum(row["stated_rows"] for row in found),
        sum((side.amount for side in usd.values()), Decimal()),
        frozenset(at for at, quote in book.quotes.items() if quote.currency != currency),
    )


_COMMITTED = Q(kind=BillRow.Kind.COMMITTED)
_STATED: dict[str, Any] = {
    "stated": Sum("pricing_cost"),
    "stated_rows": Count("pricing_cost"),
    "stated_listed": Sum("pricing_listed_cost"),
    "stated_with_price": Count("pricing_listed_cost"),
    "stated_negotiated": Sum(F("pricing_listed_cost") - F("pricing_list_cost")),
    "stated_commitment": Sum(
        F("pricing_cost") - F("pricing_listed_cost"), filter=_COMMITTED & Q(pricing_listed_cost__isnull=False), default=Decimal()
    ),
}
"""What rows say of themselves in the currency that they are priced in."""


def _in_currency(
    side: bridge.BillSide, row: dict[str, Any], currency: str, rates: _Exchange, day: date, quote: Quote | None, own_rate: Decimal
) -> bridge.BillSide:
    """Rows of one currency in that of the comparison. Where all of them say what they cost in the currency that they are priced in, that is
    taken at our rate, and what their own rate makes the bill differ from it is set apart. Where they do not, and our book quotes the price
    in a third currency, the bill's rate is that of the day.
    """
    if row["currency"] != currency:
        side = side.times(rates.factor(row["currency"], currency, day))
    if not row["pricing_currency"] or row["stated_rows"] < row["n"]:
        of_day = rates.known(quote.currency, day) if quote is not None and quote.currency not in (currency, row["currency"]) else None
        if quote is None or of_day is None:
            return side
        return side.times(focus.EXACT.divide(of_day, quote.rate)).billed(side.amount)
    has_prices = row["stated_with_price"] == row["n"]
    stated = replace(
        side,
        amount=row["stated"],
        listed=row["stated_listed"] if has_prices else None,
        negotiated=row["stated_negotiated"] or Decimal(),
        commitment=row["stated_commitment"] if has_prices else Decimal(),
    )
    is_quoted = quote is not None and quote.currency == row["pricing_currency"]
    factor = (
        focus.EXACT.divide(own_rate, quote.rate)
        if quote is not None and is_quoted
        else rates.factor(row["pricing_currency"], currency, day)
    )
    return stated.times(factor).billed(side.amount)


def _joined(before: bridge.BillSide | None, side: bridge.BillSide) -> bridge.BillSide:
    if before is None:
        return side
    return bridge.BillSide(
        before.amount + side.amount,
        None if before.tokens is None or side.tokens is None else before.tokens + side.tokens,
        None if before.listed is None or side.listed is None else before.listed + side.listed,
        before.rows + side.rows,
        before.commitment + side.commitment,
        before.negotiated + side.negotiated,
        before.is_committed and side.is_committed,
        before.fx + side.fx,
    )


@dataclass
class _OfBook:
    """What our price book says of each key, in the currency of the comparison."""

    prices: dict[Key, Decimal] = field(default_factory=dict)
    """The usual price per token at the end of each key's period. Keys without one are missing."""
    others: dict[Key, bridge.OtherPrices] = field(default_factory=dict)
    quotes: dict[Key, Quote] = field(default_factory=dict)
    """Of keys whose price is quoted in another currency than USD."""
    rates: dict[Key, Decimal] = field(default_factory=dict)
    """Units of the currency for a dollar of ours."""


def _prices(provider: str, month: date, keys: set[Key], currency: str, own_rate: Callable[[Key, PriceEntry | None], Decimal]) -> _OfBook:
    of_book = _OfBook()
    first, end = _midnight(month), _midnight(end_of(month) + timedelta(days=1))
    of_keys = Q(provider=provider, model__in={model for model, _, _ in keys}, valid_from__lt=end)
    books: dict[tuple[str, str], _Book] = defaultdict(_Book)
    for entry in PriceEntry.objects.filter(of_keys):
        book = books[entry.model, entry.token_class]
        (book.usual if entry.is_usual else book.bands).append(entry)
    for was in SupersededPrice.objects.filter(of_keys):
        if was.is_usual:
            books[was.model, was.token_class].corrected.append(was)
    for key in keys:
        model, token_class, day = key
        start, until = (_midnight(day), _midnight(day + timedelta(days=1))) if day else (first, end)
        book = books[model, token_class]
        if token_class in (TokenClass.CACHED_INPUT, TokenClass.CACHE_WRITE):
            charged_as = books[model, str(TokenClass.INPUT)]  # without a price of its own
            book = _Book(book.usual + charged_as.usual, book.bands + charged_as.bands, book.corrected + charged_as.corrected)
        at = until - timedelta(microseconds=1)
        found = next((entry for entry in book.usual if entry.covers(at)), None)
        rate = of_book.rates[key] = own_rate(key, found)
        if found is None:
            continue
        of_book.prices[key] = _per_token([found], currency, rate)[0]
        if found.quote is not None:
            of_book.quotes[key] = found.quote
        others_of_month: list[PriceEntry | SupersededPrice] = [entry for entry in book.usual if entry is not found]
        others_of_month += book.corrected
        other = bridge.OtherPrices(
            bands=_per_token((entry for entry in book.bands if _overlaps(entry, start, until)), currency, rate),
            times=_per_token((entry for entry in others_of_month if _overlaps(entry, first, end)), currency, rate),
            has_changed=_has_changed(book, start, until),
        )
        if other != bridge.OtherPrices():
            of_book.others[key] = other
    return of_book


@dataclass(frozen=True)
class _Book:
    """Entries of one model and token class."""

    usual: list[PriceEntry] = field(default_factory=list)
    bands: list[PriceEntry] = field(default_factory=list)
    """Of tiers, regions and context bands."""
    corrected: list[SupersededPrice] = field(default_factory=list)
    """Usual ones that were wrong."""


def _per_token(entries: Iterable[PriceEntry | SupersededPrice], currency: str, rate: Decimal) -> tuple[Decimal, ...]:
    """In the currency of the comparison: as quoted in it, else at our rate."""
    amounts = {
        entry.quoted if entry.quoted is not None and entry.currency == currency else focus.EXACT.multiply(entry.price, rate)
        for entry in entries
    }
    return tuple(sorted(amount.scaleb(-6, focus.EXACT).normalize(focus.EXACT) for amount in amounts))


def _overlaps(entry: PriceEntry | SupersededPrice, start: datetime, until: datetime) -> bool:
    return entry.valid_from < until and (entry.valid_to is None or entry.valid_to > start)


def _has_changed(book: _Book, start: datetime, until: datetime) -> bool:
    """Whether calls of a period may have been valued by two usual prices: one begins, ends or was corrected in it, or took another's place after it began."""

    def came_later(entry: PriceEntry) -> bool:
        before = [one for one in book.usual if one.created_at < entry.created_at and one.valid_from <= entry.valid_from]
        return entry.created_at > start and bool(before)

    return any(_overlaps(was, start, until) for was in book.corrected) or any(
        entry.valid_from > start or (entry.valid_to is not None and entry.valid_to < until) or came_later(entry)
        for entry in book.usual
        if _overlaps(entry, start, until)
    )


def reconcile(*, provider: str, month: date, actor: User | None = None, at: datetime | None = None) -> tuple[Revision, bool]:
    """Compare one provider's bill of a month with telemetry. Returns the latest revision and whether this run made it.

    The same inputs make no new revision, nor do others that come to the very same figures (signatures then hold), unless another series of
    the month took its place since. Series that this one replaces lose their signatures. A new revision that is too far from the bill is
    audited as such and shows on the pages of spend.
    Raises NothingToReconcileError, or RateUnknownError: then every series of the month says that it waits for exchange rates, and for which, and
    has no signature until it is compared.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('reconcile:' || current_schema() || ':' || %s, 0))",
                [f"{provider}:{month.isoformat()}"],
            )
        try:
            inputs = gather(provider, month)
        except RateUnknownError as error:
            refused: DomainError = error
            _hold(provider, month, error, actor, at or timezone.now())
        except NothingToReconcileError as error:
            refused = error
            _wait_no_longer(provider, month)
        else:
            return _reconcile(inputs, actor, at)
    raise refused  # out here: what the series say of it is kept


def _wait_no_longer(provider: str, month: date) -> None:
    """Every series of the month: rates may have been missing on one that another has replaced."""
    Reconciliation.objects.filter(provider=provider, month=month).exclude(missing_rates=[]).update(missing_rates=[])


def _hold(provider: str, month: date, error: RateUnknownError, actor: User | None, at: datetime) -> None:
    """Say on all series of the month what is missing; whoever may see bills is told once of each different want. Signatures end."""
    missing = [{"currency": one.currency, "first": one.first.isoformat(), "last": one.last.isoformat()} for one in error.missing]
    own, _ = Reconciliation.objects.get_or_create(provider=provider, account=error.account, month=month)
    is_known = own.missing_rates == missing
    # What waits is of the month, whichever series is in force. Waits for a signature that is being given; then it is void as well.
    for series in Reconciliation.objects.select_for_update().filter(provider=provider, month=month).order_by("pk"):
        if series.missing_rates != missing:
            series.missing_rates = missing
            series.save(update_fields=["missing_rates"])
        signoff.void_waiting(series=series, actor=actor, at=at)
    if is_known:
        return
    audit.record("reconciliation.rate_unknown", actor=actor, target=own, at=at, missing=missing)
    alerts.notify(
        topic="bill.rate_unknown",
        severity=Severity.WARNING,
        title=f"The bill of {provider} for {month:%Y-%m} waits for exchange rates",
        text=f"{error.message} Until then it is compared with nothing.",
        path="operate/costs/exchange-rates/",
        permission=Permission.VIEW_COSTS,
        key=f"bill:{own.pk}:rates:{hashlib.sha256(json.dumps(missing).encode()).hexdigest()[:16]}",
        data={"provider": provider, "account": error.account, "month": f"{month:%Y-%m}", "missing": missing},
        at=at,
    )


def _reconcile(inputs: Inputs, actor: User | None, at: datetime | None) -> tuple[Revision, bool]:
    provider, month = inputs.provider, inputs.month
    _wait_no_longer(provider, month)
    series, _ = Reconciliation.objects.get_or_create(provider=provider, account=inputs.account, month=month)
    latest = series.revisions.order_by("-number").first()
    others = list(Reconciliation.objects.filter(provider=provider, month=month, latest__isnull=False).exclude(pk=series.pk))
    is_newest = latest is not None and all((other.latest_id or 0) < latest.pk for other in others)
    if latest is not None and is_newest:
        is_same = inputs.run_key in (latest.run_key, series.confirmed_key) or _confirms(series, latest, inputs)
        if is_same:
            _void_others(others, latest, actor, at)
            return latest, False
    revision = _write(series, inputs, (latest.number if latest else 0) + 1, at or timezone.now())
    series.latest, series.confirmed_key = revision, ""
    series.save(update_fields=["latest", "confirmed_key"])  # waits for a signature that is being given; then it is void as well
    signoff.void(series=series, by=revision, actor=actor, at=revision.created_at)
    _void_others(others, revision, actor, at)
    audit.record(
        "reconciliation.revised",
        actor=actor,
        target=series,
        revision=revision.number,
        bill=f"{revision.bill.normalize():f}",
        telemetry=f"{revision.telemetry.normalize():f}",
        causes={cause["cause"]: cause["cents"] for cause in revision.causes},
    )
    if revision.is_doubtful:
        audit.record(
            "reconciliation.variance_exceeded", actor=actor, target=series, revision=revision.number, percent=str(revision.variance_percent)
        )
        alerts.notify(
            topic="bill.variance",
            severity=Severity.WARNING,
            title=f"The bill of {provider} for {month:%Y-%m} does not fit our telemetry",
            text=f"They differ by {revision.variance:+.2f} {revision.currency}. Figures of this provider and month may vary until that is explained.",
            path=signoff.path_of(series),
            permission=Permission.VIEW_COSTS,
            key=f"bill:{series.pk}:{revision.number}",
            data={"provider": provider, "account": series.account, "month": f"{month:%Y-%m}", "revision": revision.number},
        )
        logger.warning("reconciliation.variance_exceeded", extra={"provider": provider, "month": month.isoformat()})
    return revision, True


def _confirms(series: Reconciliation, latest: Revision, inputs: Inputs) -> bool:
    """Whether the inputs, other than those of the latest revision, come to just what it says in every figure and line: then it stands, and so
    do its signatures. Rules of comparison that changed do not touch most bills.
    """
    found, lines = _outcome(inputs)
    is_same = all(getattr(latest, name) == value for name, value in found.items()) and {
        (line.model, line.token_class, line.day): [getattr(line, name) for name in _FIGURES] for line in latest.lines.all()
    } == {key: [one[name] for name in _FIGURES] for key, one in lines.items()}
    if is_same:
        series.confirmed_key = inputs.run_key
        series.save(update_fields=["confirmed_key"])
    return is_same


_FIGURES = ("bill", "telemetry", "bill_tokens", "telemetry_tokens", "bill_rows", "rate", "causes")


def _void_others(others: list[Reconciliation], by: Revision, actor: User | None, at: datetime | None) -> None:
    """Signatures of series that `by` replaces. Also of those that were given before series replaced each other."""
    # Waits for a signature that is being given, as above.
    for other in Reconciliation.objects.select_for_update().filter(pk__in=[other.pk for other in others]).order_by("pk"):
        signoff.void(series=other, by=by, actor=actor, at=at or timezone.now())


_INPUT = frozenset(
    {
        TokenClass.INPUT, TokenClass.CACHED_INPUT, TokenClass.CACHE_WRITE, TokenClass.CACHE_WRITE_1H, TokenClass.AUDIO_INPUT, TokenClass.IMAGE_INPUT,
        TokenClass.CACHED_AUDIO, TokenClass.CACHED_IMAGE,
    }
)  # fmt: skip
_OUTPUT = frozenset({TokenClass.OUTPUT, TokenClass.AUDIO_OUTPUT, TokenClass.IMAGE_OUTPUT})


_SLACK = Decimal("5E-15")
"""USD per token: half of the last of eight decimals of a price per million."""


def _explain(inputs: Inputs, keys: list[Key]) -> dict[Key, dict[str, Decimal]]:
    """Causes of each key. Mix is looked for among the classes of a model and day, a prompt's and an answer's apart: the one is never the other."""
    found: dict[Key, dict[str, Decimal]] = {}
    groups: dict[tuple[str, date | None, bool], dict[Key, bridge.Apart]] = defaultdict(dict)
    for key in keys:
        model, token_class, day = key
        bill, ours, price = inputs.bill.get(key), inputs.ours.get(key), inputs.prices.get(key)
        is_late = inputs.is_late(key)
        slack = _SLACK * inputs.key_rates.get(key, Decimal(1)) if key in inputs.converted else Decimal()
        found[key] = bridge.explain(
            bill, ours, price, others=inputs.others.get(key), is_late=is_late, subunit=exchange.subunit(inputs.currency), slack=slack
        )
        tokens = Decimal() if bill is None else bill.tokens
        is_valued = price is not None or bill is None or ours is None  # else all of the difference is a price that is missing
        if tokens is not None and is_valued and not is_late and token_class in _INPUT | _OUTPUT:
            groups[model, day, token_class in _INPUT][key] = bridge.Apart(found[key], tokens - (ours.tokens if ours else 0))
    for group in groups.values():
        found.update(zip(group, bridge.split_mix(list(group.values())), strict=True))
    return found


def _outcome(inputs: Inputs) -> tuple[dict[str, Any], dict[Key, dict[str, Any]]]:
    """What a revision of these inputs says: its columns, and those of each line."""
    with localcontext(focus.EXACT):
        keys = sorted({*inputs.bill, *inputs.ours}, key=lambda key: (key[0], key[2] or date.min, key[1]))
        explained = _explain(inputs, keys)
        bill = sum((side.amount for side in inputs.bill.values()), Decimal())
        telemetry = sum((side.amount for side in inputs.ours.values()), Decimal())
        rows = sum(side.rows for side in inputs.bill.values())
        causes = bridge.total(explained.values(), rows, exchange.subunit(inputs.currency))
        if sum(causes.values(), Decimal()) != bill - telemetry:
            raise AssertionError("the causes do not sum to the difference")
        # The printed equation must hold in cents as well.
        whole = bridge.cents(bill) - bridge.cents(telemetry)
        in_cents = bridge.to_cents(list(causes.values()), whole)
        calls = UsageHour.objects.filter(
            provider=inputs.provider, hour__gte=_midnight(inputs.month), hour__lt=_midnight(end_of(inputs.month) + timedelta(days=1))
        ).aggregate(n=Sum("calls", default=0))["n"]
        is_book = inputs.currency == exchange.BOOK
        columns = {
            "bill": bill,
            "telemetry": telemetry,
            "currency": inputs.currency,
            "bill_at_book": None if is_book else _at_book(inputs),
            "telemetry_at_book": None if is_book else inputs.telemetry_usd,
            "rates": [plain_rate(rate) for rate in inputs.used],
            "stated_rows": inputs.stated_rows,
            "bill_rows": rows,
            "calls": calls,
            "causes": [
                {
                    "cause": name,
                    "amount": f"{amount.normalize(focus.EXACT):f}",
                    "cents": f"{shown:f}",
                    "lines": sum(1 for found in explained.values() if name in found),
                }
                for (name, amount), shown in zip(causes.items(), in_cents, strict=True)
            ],
            "excluded": inputs.excluded,
            "complete_through": inputs.complete_through,
        }
        nothing_billed, nothing_ours = bridge.BillSide(Decimal(), None, None, 0), bridge.OurSide(Decimal(), 0)
        lines = {
            key: {
                "bill": inputs.bill.get(key, nothing_billed).amount,
                "telemetry": inputs.ours.get(key, nothing_ours).amount,
                "bill_tokens": inputs.bill.get(key, nothing_billed).tokens,
                "telemetry_tokens": inputs.ours.get(key, nothing_ours).tokens,
                "bill_rows": inputs.bill.get(key, nothing_billed).rows,
                "rate": inputs.key_rates.get(key, Decimal(1)).quantize(_RATE),
                "causes": {name: f"{amount.normalize(focus.EXACT):f}" for name, amount in explained[key].items()},
            }
            for key in keys
        }
    return columns, lines


_RATE = Decimal("1E-10")
"""The scale of rates in the database."""


def _at_book(inputs: Inputs) -> Decimal:
    """The bill in USD, each line at our rate of its day."""
    return sum((bridge.converted(side.amount, 1 / inputs.key_rates[key]) for key, side in inputs.bill.items()), Decimal())


def _write(series: Reconciliation, inputs: Inputs, number: int, at: datetime) -> Revision:
    columns, lines = _outcome(inputs)
    revision = Revision.objects.create(
        reconciliation=series, number=number, run_key=inputs.run_key, rules=RULES_VERSION, created_at=at, **columns
    )
    ReconciliationLine.objects.bulk_create(
        [
            ReconciliationLine(revision=revision, model=model, token_class=token_class, day=day, **line)
            for (model, token_class, day), line in lines.items()
        ],
        batch_size=1000,
    )
    return revision


def due(today: date) -> list[tuple[str, date]]:
    """Provider and month of every bill that the schedule looks at: the last months, older ones whose calls have another value by now, those
    that wait for exchange rates, and those that rates of the last days may change.
    """
    first = today.replace(day=1)
    for _ in range(MONTHS_BACK):
        first = (first - timedelta(days=1)).replace(day=1)
    compared = BillRow.objects.filter(kind__in=BillRow.COMPARED)
    recent = compared.filter(Q(month__gte=first) | Q(file__uploaded_at__gte=_midnight(first)))
    found = set(recent.values_list("provider", "month").distinct())
    waiting = set(Reconciliation.objects.exclude(missing_rates=[]).values_list("provider", "month"))
    sheets = RateSheet.objects.filter(status=RateSheet.Status.APPROVED, decided_at__gte=_midnight(today - RATES_BACK))
    rated = {month for sheet in sheets for month in exchange_selectors.months_with(sheet)}
    return sorted(found | waiting | rated | _changed_since(first, compared), key=lambda one: (one[1], one[0]))


def _changed_since(first: date, compared: QuerySet[BillRow]) -> set[tuple[str, date]]:
    """Months before `first` whose telemetry is not what was compared: calls came late, or got a price or another one."""
    days = TokenDay.objects.filter(day__lt=first).annotate(month=TruncMonth("day"))
    money = {(row["provider"], row["month"]): row["cost"] for row in days.values("provider", "month").annotate(cost=Sum("cost"))}
    has_rows = Exists(compared.filter(provider=OuterRef("provider"), month=OuterRef("month")))
    counted = Coalesce("latest__telemetry_at_book", "latest__telemetry")
    before = Reconciliation.objects.in_force().filter(has_rows, month__lt=first).values_list("provider", "month", counted)
    return {(provider, month) for provider, month, telemetry in before if money.get((provider, month), Decimal()) != telemetry}
