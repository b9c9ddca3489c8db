"""What a comparison of a month depends on: both sides at their finest common grain, our prices and exchange rates, in one currency."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, F, Max, Q, QuerySet, Sum

from costs import bridge, commitment_selectors, exchange, exchange_selectors, focus
from costs.errors import NothingToReconcileError, RateUnknownError
from costs.models import BillRow, PriceEntry, Reconciliation, SupersededPrice, TokenClass, TokenDay
from costs.periods import midnight, whole_month
from costs.quotes import Quote
from costs.services import ingest

RULES_VERSION = 5
"""Part of the run key: a change of the rules makes a new revision where a figure changes by it."""

Key = tuple[str, str, date | None]
"""Model, token class, day; no day means the whole month."""


class Grain:
    """The finest keys that a bill can be compared at: by model where it does not tell token classes apart, by month where it is monthly."""

    def __init__(self, billed: Iterable[dict[str, Any]], complete_through: datetime | None) -> None:
        billed = list(billed)
        self._by_month = {(row["model"], row["token_class"]) for row in billed if row["day"] is None}
        self._without_class = {row["model"] for row in billed if row["token_class"] == ""}
        self._complete_through = complete_through
        self.keys = {self.of_bill(row) for row in billed}

    def of_bill(self, row: dict[str, Any]) -> Key:
        return self._key(row["model"], row["token_class"], row["day"])

    def of_ours(self, model: str, token_class: str, day: date) -> Key:
        at = self._key(model, token_class, day)
        if not bridge.reaches(self._complete_through, day) and (late := (*at[:2], day)) not in self.keys:
            return late  # also where the bill is monthly: what it has so far says nothing of this day
        return at

    def _key(self, model: str, token_class: str, day: date | None) -> Key:
        is_by_model = model in self._without_class
        monthly = (model, token_class) in self._by_month or (is_by_model and any(name == model for name, _ in self._by_month))
        return model, "" if is_by_model else token_class, None if monthly else day


@dataclass(frozen=True)
class Inputs:
    """Everything that a run depends on; `grain` and `telemetry_through` say how it was read."""

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
    grain: Grain
    telemetry_through: datetime
    """Calls attributed until then are on our side, and none of later."""
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
    file_ids: tuple[int, ...] = ()
    """Files with rows on the bill, ascending; no part of the run's key."""

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
    """The currency of one comparison, and our exchange rates for it: notes which were used, and which are not known."""

    def __init__(self, currency: str, others: set[str], month: date, last_day: date) -> None:
        self._rates = exchange_selectors.rates_for({currency, *others} - {exchange.BOOK}, month, whole_month(month).last)
        self._last_day = last_day
        self.currency = currency
        self.used: set[exchange.Rate] = set()
        self.missing: set[tuple[str, date]] = set()

    @classmethod
    def of(cls, provider: str, billed: Iterable[dict[str, Any]], month: date, complete_through: datetime | None) -> _Exchange:
        currencies = {str(row["currency"]) for row in billed}
        quoting = set(PriceEntry.objects.filter(provider=provider).exclude(currency=exchange.BOOK).values_list("currency", flat=True))
        written = {str(row[name]) for row in billed for name in ("currency", "pricing_currency") if row[name]}
        last_day = whole_month(month).last
        if complete_through is not None:
            last_day = min((complete_through + timedelta(seconds=1)).date() - timedelta(days=1), last_day)
        return cls(currencies.pop() if len(currencies) == 1 else exchange.BOOK, written | quoting, month, last_day)

    def rate_day(self, at: Key) -> date:
        """Days that the bill does not reach yet are at the rate of its last one: what they will be billed at is not known."""
        return min(at[2] or self._last_day, self._last_day)

    def own_rate(self, at: Key, entry: PriceEntry | None) -> Decimal:
        """Units of the currency for a dollar of ours. A price that is quoted in it is compared as it is quoted: no exchange lies between."""
        if entry is not None and entry.quote is not None and entry.currency == self.currency and entry.price:
            return focus.EXACT.divide(entry.quote.amount, entry.price)
        return self.per_usd(self.currency, self.rate_day(at))

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


def gather(provider: str, month: date) -> Inputs:
    """Read both sides at their finest common grain, in the currency of the bill (bills in several: USD).

    Raises NothingToReconcileError without a compared row, RateUnknownError where a day has no exchange rate.
    """
    rows = BillRow.objects.filter(provider=provider, month=month)
    compared = rows.filter(kind__in=BillRow.COMPARED)
    complete_through = compared.aggregate(last=Max("charge_end"))["last"]
    sources = list(compared.order_by().values_list("account", "file").distinct())
    accounts = sorted({account for account, _ in sources})
    if not accounts:
        raise NothingToReconcileError(f"There is no AI usage of {provider} on a bill for {month:%B %Y}.")
    account = accounts[0] if len(accounts) == 1 else Reconciliation.ALL_ACCOUNTS
    billed = _billed(compared)
    grain = Grain(billed, complete_through)
    exchanged = _Exchange.of(provider, billed, month, complete_through)
    with localcontext(focus.EXACT):
        usd, telemetry_through = _telemetry(provider, month, grain)
        book = _prices(provider, month, {*grain.keys, *usd}, exchanged)
        bill = _sides(provider, month, billed, grain, exchanged, book)
        if exchanged.missing:
            missing = exchange.spans(exchanged.missing)
            message = f"No exchange rate is known of {exchange.told(missing)}. Enter it, and the bill is compared."
            raise RateUnknownError(message, missing, account)
        key_rates = book.rates if exchanged.currency != exchange.BOOK else {}
        ours = {
            at: side if at not in key_rates else replace(side, amount=bridge.converted(side.amount, key_rates[at]))
            for at, side in usd.items()
        }
    return Inputs(
        provider,
        account,
        month,
        bill,
        ours,
        book.prices,
        book.others,
        _excluded(rows),
        complete_through,
        grain,
        telemetry_through,
        exchanged.currency,
        key_rates,
        tuple(sorted(exchanged.used)),
        sum(row["stated_rows"] for row in billed),
        sum((side.amount for side in usd.values()), Decimal()),
        frozenset(at for at, quote in book.quotes.items() if quote.currency != exchanged.currency),
        tuple(sorted({file for _, file in sources})),
    )


def _billed(compared: QuerySet[BillRow]) -> list[dict[str, Any]]:
    """Sums of the compared rows, by all that they are told apart by."""
    found: list[Any] = list(
        compared.values("model", "token_class", "day", "currency", "pricing_currency").annotate(
            amount=Sum("billed_cost", filter=~_COMMITTED, default=Decimal()),
            effective=Sum("effective_cost", filter=_COMMITTED, default=Decimal()),
            n_tokens=Sum("tokens"),
            counted=Count("tokens"),
            n_listed=Sum("listed_cost"),
            with_price=Count("listed_cost"),
            n=Count("pk"),
            listed_committed=Sum("listed_cost", filter=_COMMITTED),
            under=Count("pk", filter=_COMMITTED),
            negotiated=Sum(F("listed_cost") - F("list_cost")),
            effective_listed=Sum("effective_cost", filter=_COMMITTED & Q(listed_cost__isnull=False), default=Decimal()),
            **_STATED,
        )
    )
    return found


def _telemetry(provider: str, month: date, grain: Grain) -> tuple[dict[Key, bridge.OurSide], datetime]:
    """Our side in USD, at the grain of the bill; and the moment until which calls are in it."""
    # Between two batches of attribution, or calls of the one under way would stand on neither side of the moment. What is locked behind a
    # savepoint is let go with it: attribution goes on while the rest is compared.
    before_lock = transaction.savepoint()
    ingest.lock_events()
    days = TokenDay.objects.filter(provider=provider, day__gte=month, day__lte=whole_month(month).last)
    rows = list(days.values_list("model", "token_class", "day", "tokens", "unpriced_tokens", "cost", "calls"))
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")  # the clock that calls are stamped by
        telemetry_through = cursor.fetchone()[0]
    transaction.savepoint_rollback(before_lock)
    found: dict[Key, bridge.OurSide] = {}
    for model, token_class, day, tokens, unpriced, cost, calls in rows:
        at = grain.of_ours(model, token_class, day)
        before = found.get(at, bridge.OurSide(Decimal(), 0))
        found[at] = bridge.OurSide(before.amount + cost, before.tokens + tokens, before.unpriced_tokens + unpriced, before.calls + calls)
    return found, telemetry_through


def _sides(
    provider: str, month: date, billed: list[dict[str, Any]], grain: Grain, exchanged: _Exchange, book: _OfBook
) -> dict[Key, bridge.BillSide]:
    """The bill in the currency of the comparison."""
    covered = commitment_selectors.covered_days(provider, whole_month(month)) if any(row["under"] for row in billed) else set()
    covered_models = {model for model, _ in covered}

    def is_committed(row: dict[str, Any]) -> bool:
        ours = (row["model"], row["day"]) in covered if row["day"] else row["model"] in covered_models
        return ours and row["under"] == row["n"] and row["with_price"] < row["n"]

    found: dict[Key, bridge.BillSide] = {}
    for row in billed:
        side = bridge.BillSide(
            amount=row["amount"] + row["effective"],
            tokens=row["n_tokens"] if row["counted"] == row["n"] and row["token_class"] else None,
            listed=row["n_listed"] if row["with_price"] == row["n"] else None,
            rows=row["n"],
            commitment=row["effective_listed"] - (row["listed_committed"] or 0) if row["with_price"] == row["n"] else Decimal(),
            is_committed=is_committed(row),
            negotiated=row["negotiated"] or Decimal(),
        )
        at = grain.of_bill(row)
        found[at] = _joined(found.get(at), _in_currency(side, row, exchanged, at, book))
    return found


def _excluded(rows: QuerySet[BillRow]) -> list[dict[str, Any]]:
    """What stands on the bill and is not compared, by kind and currency."""
    return [
        {"kind": row["kind"], "rows": row["n"], "amount": f"{row['money'].normalize(focus.EXACT):f}", "currency": row["currency"]}
        for row in rows.exclude(kind__in=BillRow.COMPARED)
        .values("kind", "currency")
        .annotate(n=Count("pk"), money=Sum("billed_cost"))
        .order_by("kind", "currency")
    ]


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


def _in_currency(side: bridge.BillSide, row: dict[str, Any], rates: _Exchange, at: Key, book: _OfBook) -> bridge.BillSide:
    """Rows of one currency in that of the comparison. Where all of them say what they cost in the currency that they are priced in, that is
    taken at our rate, and what their own rate makes the bill differ from it is set apart. Where they do not, and our book quotes the price
    in a third currency, the bill's rate is that of the day.
    """
    currency, day, quote = rates.currency, rates.rate_day(at), book.quotes.get(at)
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
        focus.EXACT.divide(book.rates[at], quote.rate)
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


def _prices(provider: str, month: date, keys: set[Key], rates: _Exchange) -> _OfBook:
    of_book = _OfBook()
    first, end = whole_month(month).start, whole_month(month).end
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
        start, until = (midnight(day), midnight(day + timedelta(days=1))) if day else (first, end)
        book = books[model, token_class]
        if token_class in (TokenClass.CACHED_INPUT, TokenClass.CACHE_WRITE):
            charged_as = books[model, str(TokenClass.INPUT)]  # without a price of its own
            book = _Book(book.usual + charged_as.usual, book.bands + charged_as.bands, book.corrected + charged_as.corrected)
        at = until - timedelta(microseconds=1)
        found = next((entry for entry in book.usual if entry.covers(at)), None)
        rate = of_book.rates[key] = rates.own_rate(key, found)
        if found is None:
            continue
        of_book.prices[key] = _per_token([found], rates.currency, rate)[0]
        if found.quote is not None:
            of_book.quotes[key] = found.quote
        others_of_month: list[PriceEntry | SupersededPrice] = [entry for entry in book.usual if entry is not found]
        others_of_month += book.corrected
        other = bridge.OtherPrices(
            bands=_per_token((entry for entry in book.bands if _overlaps(entry, start, until)), rates.currency, rate),
            times=_per_token((entry for entry in others_of_month if _overlaps(entry, first, end)), rates.currency, rate),
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
