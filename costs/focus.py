"""Reading FOCUS cost and usage files: pure, row by row, in little memory.

Columns and rules: FinOps Open Cost and Usage Specification 1.0 to 1.4, and the AI columns of the 1.5 draft. Providers fill files
loosely (quotes, a byte-order mark, the word NULL, times without an offset), so reading is lenient in form and strict in
figures: a cost that is not a plain decimal number rejects its row.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from functools import _lru_cache_wrapper, lru_cache
from typing import BinaryIO, TypeVar

import orjson

from costs import exchange, price_sheets
from costs.errors import BillFormatError

EXACT = Context(prec=60)
REQUIRED = (
    "BilledCost",
    "BillingCurrency",
    "BillingAccountId",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargeCategory",
    "ChargePeriodStart",
    "ChargePeriodEnd",
)
CATEGORIES = ("Usage", "Purchase", "Tax", "Credit", "Adjustment")
LARGEST = Decimal(10) ** 15
MOST_DECIMALS = 20
LONGEST_FIELD = 131_072
NAMES = {"account": 160, "provider": 160}

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")
"""NUL, and the surrogates that stand for bytes which are not UTF-8."""
_UNIT = re.compile(r"(?:(?P<count>[\d,._]+)\s*(?P<scale>k|m|thousand|million)?\s*)?(?:[a-z]+\s+)?tokens?", re.IGNORECASE)
_COUNTED_UNIT = re.compile(
    r"(?:(?P<count>[\d,._]+)\s*(?P<scale>k|m|thousand|million)?\s*)?(?:requests?|searches|search|calls?|queries|query)", re.IGNORECASE
)
NAMING = (
    "ChargeCategory",
    "ChargeClass",
    "SubAccountId",
    "ServiceName",
    "RegionId",
    "AvailabilityZone",
    "ResourceId",
    "SkuId",
    "PricingCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountStatus",
)
"""Columns that every version of FOCUS has and that say which charge a row is, beside its account, currency and periods."""
COUNTED_CLASSES = ("web_search", "file_search")
"""Rows of these count calls of tools that the provider ran; `tokens` is how many."""
_SCALES = {"": 1, "k": 1_000, "thousand": 1_000, "m": 1_000_000, "million": 1_000_000}


T = TypeVar("T")


class RowError(ValueError):
    """This row cannot be taken over."""

    def __init__(self, message: str, column: str = "") -> None:
        super().__init__(message)
        self.message, self.column = message, column


@dataclass(frozen=True)
class Pricing:
    """The same charge in the currency that it is priced in (FOCUS 1.2 `PricingCurrency…`, Azure's `x_…InUsd`). None is not given."""

    currency: str
    cost: Decimal
    """Of the amount that is compared."""
    listed_cost: Decimal | None
    list_cost: Decimal | None


@dataclass(frozen=True)
class Row:
    """One charge, with what later steps need of it. Amounts are in `currency`; None is "not given"."""

    line: int
    values: Mapping[str, str]
    """The columns that are given, as text."""
    provider_name: str
    account: str
    currency: str
    category: str
    charge_class: str
    charge_start: datetime
    charge_end: datetime
    billing_start: datetime
    """All in UTC."""
    billed_cost: Decimal
    effective_cost: Decimal
    tokens: Decimal | None
    token_class: str
    listed_cost: Decimal | None
    list_cost: Decimal | None
    is_committed: bool
    is_unused: bool
    model_name: str
    """As the bill says it, where it says so in a column of its own."""
    texts: tuple[str, ...]
    """Where a model's name may hide otherwise: SKU, meter, description."""
    is_ai: bool
    pricing: Pricing | None = None
    """Where the row is priced in another currency than it is billed in and says what that is."""

    @property
    def text(self) -> str:
        """As a rejected row is kept."""
        return _safe(",".join(self.values.values()))[:500]

    @property
    def day(self) -> date | None:
        """The UTC day of the charge; None when the charge period is longer than a day."""
        return _day(self.charge_start, self.charge_end)

    @property
    def month(self) -> date:
        """First day of the month that it is compared in: of its usage, else of its invoice."""
        start = self.charge_start if self.category == "Usage" else self.billing_start
        return start.date().replace(day=1)

    @property
    def period(self) -> date:
        """First day of the month in which its billing period begins: what a provider delivers again whole."""
        return self.billing_start.date().replace(day=1)

    def fingerprint(self, provider: str) -> str:
        """The same for equal rows of one provider, whatever file, column order or way to write figures, times and objects they come in."""
        return _hash(provider, sorted((name, _plain(name, text)) for name, text in self.values.items()))

    def literal_fingerprint(self, provider: str) -> str:
        """The same for rows of one provider that are written alike: by this, rows were kept until these were brought into one form."""
        return _hash(provider, sorted(self.values.items()))

    def charge_key(self, provider: str) -> str:
        """The same for rows of one charge, whatever their figures, invoice and tags, the version of FOCUS and the provider's own columns."""
        naming = [(name, self.values.get(name, "")) for name in NAMING]
        # A row without a SKU is told from others by its words, which otherwise may name a price and change with it.
        words = "" if self.values.get("SkuId") else self.values.get("SkuMeter") or self.values.get("ChargeDescription", "")
        times = [(at.isoformat(), "") for at in (self.charge_start, self.charge_end, self.period)]
        return _hash(provider, [(self.account, self.currency), (words, ""), *times, *naming])


@lru_cache(maxsize=4096)
def _day(start: datetime, end: datetime) -> date | None:
    return start.date() if end - start <= timedelta(days=1) and (end - timedelta(microseconds=1)).date() == start.date() else None


_FIGURES, _TIMES = ("Cost", "Quantity", "UnitPrice", "InUsd"), ("PeriodStart", "PeriodEnd")
"""What the names of columns end in that hold one, those of providers' own included."""
_AS_WRITTEN = ("Id", "Name", "Number", "Code", "Key", "Version", "Meter", "Description")
"""What the names of columns end in that hold words: `1.10` and `1.1` are two there."""
_FIGURE, _DATE = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-][0-9]{1,4})?"), re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
"""What columns of other names hold is taken for one by how it looks. `007` and `1E5` may be somebody's code."""
_LONGEST_KEPT = 512
"""Characters of the texts that caches keep: longer ones seldom come again."""


def _plain(name: str, text: str) -> str:
    """A figure, a time, an object or a list in one form, anything else as it is: `5.00`, `5.0` and `5` are one price in a CSV, a Parquet of doubles and one of decimals."""
    form = _form(name, text)
    if form is None:
        return text
    try:
        return _kept(form, text)
    except (ValueError, TypeError):  # not every column is read otherwise; orjson reads deeper objects than it writes
        return text


def _kept(read: _lru_cache_wrapper[T], text: str) -> T:
    """What a cached function makes of a text; its cache keeps short ones."""
    return read(text) if len(text) <= _LONGEST_KEPT else read.__wrapped__(text)


def _form(name: str, text: str) -> _lru_cache_wrapper[str] | None:
    """What brings the text of a column into one form; None for words."""
    if text[0] in "{[":
        return _plain_object
    if text[0] not in "+-.0123456789" or name.endswith(_AS_WRITTEN):
        return None
    if name.endswith(_TIMES) or _DATE.match(text):
        return _plain_time
    return _plain_number if name.endswith(_FIGURES) or _FIGURE.fullmatch(text) else None


@lru_cache(maxsize=16384)
def _plain_number(text: str) -> str:
    return f"{EXACT.normalize(_number(text, '')) or Decimal():f}"  # no minus before nought


@lru_cache(maxsize=4096)
def _plain_object(text: str) -> str:
    return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()


@lru_cache(maxsize=4096)
def _plain_time(text: str) -> str:
    return _moment(text).isoformat().replace("+00:00", "Z")


def _hash(provider: str, columns: list[tuple[str, str]]) -> str:
    return hashlib.blake2b(orjson.dumps([provider, columns]), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be taken over, and why."""

    line: int
    column: str
    message: str
    text: str
    billed_cost: Decimal | None
    """Where at least the cost could be read."""


class Reader:
    """Opens a file and yields its rows. BillFormatError when it is not a FOCUS file at all."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.read(4)
        file.seek(0)
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise BillFormatError("The file is UTF-16. FOCUS files are UTF-8: save it as CSV UTF-8.", field="file")
        if start[:2] == b"PK":
            raise BillFormatError("The file is a compressed archive. Unpack it first.", field="file")
        # Undecodable bytes become lone surrogates, which reject their own row instead of the file.
        text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._text = text
        self._csv = csv.reader(text, strict=False)
        csv.field_size_limit(LONGEST_FIELD)
        try:
            header = next(self._csv, [])
        except csv.Error as error:
            raise BillFormatError(f"The first line cannot be read: {error}.", field="file") from error
        self.columns = [name.strip() for name in header]
        self._check_header()
        self.version = version(self.columns)

    def detach(self) -> None:
        """Give the underlying file back open."""
        self._text.detach()

    def _check_header(self) -> None:
        missing = [name for name in REQUIRED if name not in self.columns]
        if not missing:
            repeated = sorted({name for name in self.columns if self.columns.count(name) > 1})
            if repeated:
                raise BillFormatError(f"The column {repeated[0]} stands twice in the first line.", field="file")
            return
        only = self.columns[0] if len(self.columns) == 1 else ""
        for delimiter, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
            if delimiter in only:
                raise BillFormatError(f"The columns are separated by {name}. FOCUS files use commas.", field="file")
        if len(missing) == len(REQUIRED):
            raise BillFormatError(
                "This is not a FOCUS file: its first line names none of the columns that every version has.", field="file"
            )
        raise BillFormatError(f"The file lacks columns that every FOCUS version has: {', '.join(missing)}.", field="file")

    def __iter__(self) -> Iterator[Row | Rejected]:
        for line, cells in self._lines():
            if isinstance(cells, str):
                yield Rejected(line, "", cells, "", None)
                continue
            try:
                yield self._row(line, cells)
            except RowError as error:
                yield Rejected(line, error.column, error.message, _safe(",".join(cells))[:500], self._cost(cells))

    def _lines(self) -> Iterator[tuple[int, list[str] | str]]:
        """The number of each line with its cells, or why it cannot be read."""
        while True:
            try:
                cells = next(self._csv)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._csv.line_num, f"The line cannot be read: {error}."
                continue
            if cells:
                yield self._csv.line_num, cells

    def _row(self, line: int, cells: list[str]) -> Row:
        if len(cells) != len(self.columns):
            raise RowError(f"The row has {len(cells)} columns, the first line {len(self.columns)}.")
        values: dict[str, str] = {}
        for name, cell in zip(self.columns, cells, strict=True):
            value = cell.strip()
            if value and (len(value) != 4 or value.upper() != "NULL"):
                values[name] = value
        whole = "".join(cells)
        if (not whole.isascii() or "\x00" in whole) and _NOT_TEXT.search(whole):
            raise RowError("Contains bytes that are not text.", next(name for name, value in values.items() if _NOT_TEXT.search(value)))
        return parse(line, values)

    def _cost(self, cells: list[str]) -> Decimal | None:
        """The cost of a rejected row, so that sums still add up."""
        at = self.columns.index("BilledCost")
        try:
            return number({"BilledCost": cells[at].strip()}, "BilledCost") if at < len(cells) and len(cells) == len(self.columns) else None
        except RowError:
            return None


def version(columns: list[str]) -> str:
    """The FOCUS version that a set of columns belongs to. Files do not state it."""
    present = set(columns)
    if present & {"ConsumerId", "PrincipalId", "CredentialId", "CredentialDetails", "RequesterDetails"}:
        return "1.5 draft"
    if "ServiceProviderName" in present:
        return "1.3" if "ProviderName" in present or "PublisherName" in present else "1.4"
    if present & {"InvoiceId", "PricingCurrency", "BillingAccountType", "SubAccountType"}:
        return "1.2"
    if present & {"SkuMeter", "SkuPriceDetails", "ServiceSubcategory", "CapacityReservationId", "CommitmentDiscountQuantity"}:
        return "1.1"
    return "1.0"


def parse(line: int, values: Mapping[str, str]) -> Row:
    """One row from its given columns. RowError says which column is wrong."""
    for name in REQUIRED:
        if name not in values:
            raise RowError("Is empty.", name)
    billed = number(values, "BilledCost")
    assert billed is not None
    effective = number(values, "EffectiveCost")
    category = values["ChargeCategory"]
    if category not in CATEGORIES:
        raise RowError(f"{category[:40]} is not one of {', '.join(CATEGORIES)}.", "ChargeCategory")
    start, end = moment(values, "ChargePeriodStart"), moment(values, "ChargePeriodEnd")
    if end <= start:
        raise RowError("Ends before it begins.", "ChargePeriodEnd")
    currency = values["BillingCurrency"]
    if not re.fullmatch(r"[A-Z]{3,8}", currency):
        raise RowError("Is not a currency code.", "BillingCurrency")
    provider_name = (
        values.get("ServiceProviderName")
        or values.get("ProviderName")
        or values.get("InvoiceIssuerName")
        or values.get("InvoiceIssuer")
        or ""
    )
    for column, value, longest in (
        ("BillingAccountId", values["BillingAccountId"], NAMES["account"]),
        ("ServiceProviderName", provider_name, NAMES["provider"]),
    ):
        if len(value) > longest:
            raise RowError(f"Is longer than {longest} characters.", column)
    details = _kept(_details, values.get("SkuPriceDetails", ""))
    texts = tuple(values.get(name, "") for name in ("SkuMeter", "SkuId", "SkuPriceId", "ChargeDescription"))
    tokens, block = quantity(values)
    token_class = classify(details, texts, tokens is not None)
    if token_class in COUNTED_CLASSES:
        tokens, block = quantity(values, _COUNTED_UNIT)
    listed, listing = _listed(values, tokens, block), _at(number(values, "ListUnitPrice"), values, tokens, block)
    is_committed = values.get("PricingCategory") == "Committed" or values.get("CommitmentDiscountStatus") == "Used"
    compared = billed if effective is None or not is_committed else effective
    return Row(
        line=line,
        values=values,
        provider_name=provider_name,
        account=values["BillingAccountId"],
        currency=currency,
        category=category,
        charge_class=values.get("ChargeClass", "")[:24],
        charge_start=start,
        charge_end=end,
        billing_start=moment(values, "BillingPeriodStart"),
        billed_cost=billed,
        effective_cost=billed if effective is None else effective,
        tokens=tokens,
        token_class=token_class,
        listed_cost=listed,
        list_cost=listing,
        is_committed=is_committed,
        is_unused=values.get("CommitmentDiscountStatus") == "Unused",
        model_name=str(details.get("ModelId") or details.get("x_ModelId") or details.get("ModelName") or "")[:160],
        texts=texts,
        is_ai=bool(token_class) or values.get("ServiceSubcategory") == "Generative AI",
        pricing=_pricing(values, currency, compared, effective, (listed, listing), (tokens, block)),
    )


def _pricing(
    values: Mapping[str, str],
    currency: str,
    compared: Decimal,
    effective: Decimal | None,
    own: tuple[Decimal | None, Decimal | None],
    counted: tuple[Decimal | None, Decimal | None],
) -> Pricing | None:
    """What the row says of itself in the currency that it is priced in; `own` is what it lists in its billing currency."""
    name, cost = values.get("PricingCurrency", ""), number(values, "PricingCurrencyEffectiveCost")
    if cost is None or not name:
        name, cost = exchange.BOOK, number(values, "x_EffectiveCostInUsd")
    # Both are of the effective cost: where another amount is compared they say nothing of it.
    is_of_amount = effective is None or effective == compared
    if cost is None or name == currency or name not in exchange.CURRENCIES or not is_of_amount or (compared != 0) != (cost != 0):
        return None
    tokens, block = counted
    listing = _at(number(values, "PricingCurrencyListUnitPrice"), values, tokens, block)
    listed = _at(number(values, "PricingCurrencyContractedUnitPrice"), values, tokens, block)
    if listed is None:
        listed = cost if own[0] == compared else listing
    return Pricing(name, cost, listed, listed if listing is None and own[0] == own[1] else listing)


def number(values: Mapping[str, str], name: str) -> Decimal | None:
    """A decimal column; None when it is not given."""
    text = values.get(name)
    return None if text is None else _number(text, name)


@lru_cache(maxsize=16384)  # unit prices and noughts come again on row after row
def _number(text: str, name: str) -> Decimal:
    if not _NUMBER.fullmatch(text):
        raise RowError(f"{_safe(text)[:40]} is not a decimal number.", name)
    try:
        value = EXACT.create_decimal(text)
    except InvalidOperation as error:
        raise RowError("Is not a decimal number.", name) from error
    if abs(value) >= LARGEST:
        raise RowError("Is out of range.", name)
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > MOST_DECIMALS and -int(value.normalize(EXACT).as_tuple().exponent) > MOST_DECIMALS:
        raise RowError(f"Has more than {MOST_DECIMALS} decimals.", name)
    return value


def moment(values: Mapping[str, str], name: str) -> datetime:
    """A time; without an offset it is UTC, as the specification says."""
    text = values.get(name, "")
    try:
        at = _moment(text)
    except ValueError as error:
        raise RowError(f"{_safe(text)[:40]} is not an ISO 8601 time.", name) from error
    if not 2000 <= at.year <= 2100:
        raise RowError("Is out of range.", name)
    return at


@lru_cache(maxsize=4096)  # a bill has few different times, and each on many rows
def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    # A year at the ends of the calendar has no other offset; it is refused as out of range.
    return at.replace(tzinfo=UTC) if at.tzinfo is None or not 1 < at.year < 9999 else at.astimezone(UTC)


def quantity(values: Mapping[str, str], counted: re.Pattern[str] = _UNIT) -> tuple[Decimal | None, Decimal | None]:
    """Tokens of a row and how many tokens its pricing unit has; None for what is not counted in tokens, or in the units of `counted`."""
    block = _block(values.get("PricingUnit", ""), counted)
    one = _block(values.get("ConsumedUnit", ""), counted)
    consumed = number(values, "ConsumedQuantity") if one is not None else None
    if consumed is not None:
        return EXACT.multiply(consumed, one or Decimal(1)), block
    priced = number(values, "PricingQuantity")
    return (EXACT.multiply(priced, block) if priced is not None and block is not None else None), block


@lru_cache(maxsize=1024)
def _block(unit: str, counted: re.Pattern[str]) -> Decimal | None:
    """Tokens in a unit: 1 for `Tokens`, 1,000,000 for `1000000 Tokens` or `1M Tokens`; None for other units."""
    found = counted.fullmatch(unit.strip())
    if not found or "hour" in unit.lower():
        return None
    count = (found["count"] or "1").replace(",", "").replace("_", "")
    try:
        return Decimal(count) * _SCALES[(found["scale"] or "").lower()]
    except InvalidOperation:
        return None


def _listed(values: Mapping[str, str], tokens: Decimal | None, block: Decimal | None) -> Decimal | None:
    """Quantity times the row's own unit price: what the row says it should cost."""
    price = number(values, "ContractedUnitPrice")
    return _at(number(values, "ListUnitPrice") if price is None else price, values, tokens, block)


def _at(price: Decimal | None, values: Mapping[str, str], tokens: Decimal | None, block: Decimal | None) -> Decimal | None:
    """The row's quantity times a price per its pricing unit; None when one of them is not given."""
    if price is None:
        return None
    if tokens is not None and block:
        return EXACT.divide(EXACT.multiply(tokens, price), block)
    priced = number(values, "PricingQuantity")
    return None if priced is None else EXACT.multiply(priced, price)


@lru_cache(maxsize=4096)
def _details(text: str) -> Mapping[str, object]:
    """The words and figures of an object; what nests in it says nothing of model or token class."""
    try:
        found = orjson.loads(text)
    except ValueError:
        return {}
    return {name: value for name, value in found.items() if not isinstance(value, dict | list)} if isinstance(found, dict) else {}


def classify(details: Mapping[str, object], texts: tuple[str, ...], counts_tokens: bool) -> str:
    """The token class of a row, from the AI keys of the price details or from the words of meter, SKU and description."""
    ours = str(details.get("x_TokenClass", ""))
    if ours in price_sheets.TOKEN_CLASSES:
        return ours
    direction, action = str(details.get("TokenDirection", "")).lower(), str(details.get("TokenCacheAction", "")).lower()
    said = [_words(text) for text in texts if text]
    if direction in ("input", "output"):
        plain = (
            {"read": "cached_input", "write": "cache_write", "write 1h": "cache_write_1h"}.get(action, "input")
            if direction == "input"
            else "output"
        )
        return next((found for words in said if (found := _narrowed(plain, words)) != plain), plain)
    return next((found for words in said if (found := _class_in(words, counts_tokens))), "")


@lru_cache(maxsize=8192)  # meters come again on row after row
def _words(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.lower())


@lru_cache(maxsize=8192)
def _class_in(words: str, counts_tokens: bool) -> str:
    """The token class that the words of a meter, SKU or description name."""
    if re.search(r"\bweb search(es)?\b", words):
        return "web_search"
    if re.search(r"\bfile search(es)?\b", words):
        return "file_search"
    if not counts_tokens and "token" not in words:
        return ""
    if re.search(r"\bcach(e|ed|ing)\b", words) and re.search(r"\b(write|writes|creation|written)\b", words):
        return _narrowed("cache_write", words)
    if re.search(r"\bcach(e|ed|ing)\b", words) and re.search(r"\b(read|reads|hit|input|inp|cached)\b", words):
        return _narrowed("cached_input", words)
    if re.search(r"\b(output|outp|outputs|completion|completions|generated)\b", words):
        return _narrowed("output", words)
    if re.search(r"\b(input|inp|inputs|prompt|prompts|embedding|embeddings)\b", words):
        return _narrowed("input", words)
    return ""


@lru_cache(maxsize=8192)
def _narrowed(plain: str, words: str) -> str:
    """The class within a usual one that the words of a meter name: sound, images, or what is kept for an hour."""
    kind = re.search(r"\b(audio|image)\b", words)
    if plain in ("input", "output") and kind:
        return f"{kind[1]}_{plain}"
    if plain == "cached_input" and kind:
        return f"cached_{kind[1]}"
    return "cache_write_1h" if plain == "cache_write" and re.search(r"\b(1h|1 hour|one hour)\b", words) else plain


@lru_cache(maxsize=8192)
def normal(name: str) -> str:
    """For comparing names of models: `GPT 4o (0513)` and `gpt-4o-0513` are the same."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def find_model(row: Row, known: Mapping[str, str]) -> str:
    """Our slug for the row's model. `known` maps normalised names to slugs; an unknown model keeps the bill's name."""
    if row.model_name:
        return known.get(normal(row.model_name), row.model_name)
    best = ""
    for text in row.texts:
        padded = f"-{normal(text)}-"
        for name in known:
            if f"-{name}-" in padded and len(name) > len(best):
                best = name
    if best:
        return known[best]
    sku = row.values.get("SkuId", "")
    return (
        re.sub(r"[-_ .](cached?[-_ ])?(read|write|input|output)([-_ ]tokens?)?$", "", sku, flags=re.IGNORECASE)[:160] if row.is_ai else ""
    )


def _safe(text: str) -> str:
    """Text that a database and a page can hold."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "\\0")
