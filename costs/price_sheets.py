"""Reading price sheets: a CSV of prices, every row checked before any is taken."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from costs import exchange
from costs.errors import PriceSheetError
from costs.quotes import Quote

COLUMNS = (
    "provider",
    "model",
    "token_class",
    "price_usd_per_million",
    "valid_from",
    "source",
    "corrects",
    "service_tier",
    "region",
    "context_over",
    "currency",
    "price_per_million",
)
REQUIRED = COLUMNS[:3]
MOST_ROWS = 5_000
LARGEST_FILE = 2 * 1024 * 1024
HIGHEST_PRICE = Decimal(1_000_000)
"""USD; what is quoted in another currency is held to it once it is converted."""
SERVICE_TIERS = ("standard", "batch", "flex", "priority", "fast")
MOST_CONTEXT = 100_000_000
TOKEN_CLASSES = (
    "input",
    "cached_input",
    "cache_write",
    "output",
    "audio_input",
    "image_input",
    "cache_write_1h",
    "audio_output",
    "image_output",
    "web_search",
    "file_search",
    "cached_audio",
    "cached_image",
)
MOST_ERRORS = 10


@dataclass(frozen=True)
class Offer:
    """One price of a sheet, per million tokens."""

    provider: str
    model: str
    token_class: str
    price: Decimal
    """In `currency`; with a quote in USD."""
    valid_from: datetime
    source: str = ""
    corrects: bool = False
    """The book was wrong since then: calls that have a price get this one."""
    service_tier: str = "standard"
    region: str = ""
    """Empty for all regions without a price of their own."""
    context_over: int = 0
    """For calls with more input tokens than this."""
    currency: str = exchange.BOOK
    quote: Quote | None = None
    """Once a price in another currency was converted."""

    @property
    def series_fields(self) -> dict[str, Any]:
        """In the order of `costs.models.SERIES`."""
        names = ("provider", "model", "token_class", "service_tier", "region", "context_over")
        return {name: getattr(self, name) for name in names}

    @property
    def series(self) -> tuple[Any, ...]:
        return tuple(self.series_fields.values())


def read(content: bytes, *, providers: Collection[str], models: Collection[str], now: datetime) -> list[Offer]:
    """The rows of a CSV with a first line that names COLUMNS; `valid_from` (ISO, UTC without an offset) is `now` where it is empty.

    PriceSheetError names the first lines that are wrong; then none is taken.
    """
    if len(content) > LARGEST_FILE:
        raise PriceSheetError(f"A sheet may have {LARGEST_FILE // 1024**2} MB.", field="file")
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        named = set(reader.fieldnames or [])
        missing = [name for name in REQUIRED if name not in named]
        if "price_usd_per_million" not in named and not {"currency", "price_per_million"} <= named:
            missing.append("price_usd_per_million (or currency and price_per_million)")
        if missing:
            raise PriceSheetError(f"The first line does not name {', '.join(missing)}.", field="file")
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise PriceSheetError(f"This is not a CSV in UTF-8: {error}.", field="file") from error
    if not rows:
        raise PriceSheetError("The sheet has no row.", field="file")
    if len(rows) > MOST_ROWS:
        raise PriceSheetError(f"A sheet may have {MOST_ROWS:,} rows.", field="file")
    offers, wrong, seen = [], [], set()
    for line, row in enumerate(rows, 2):
        try:
            offer = _offer({name: str(row.get(name) or "").strip() for name in COLUMNS}, now)
            check(offer, providers=providers, models=models)
            if (offer.series, offer.valid_from) in seen:
                raise PriceSheetError("stands twice")
            seen.add((offer.series, offer.valid_from))
            offers.append(offer)
        except PriceSheetError as error:
            wrong.append(f"line {line}: {error.message}")
    if wrong:
        more = f" And {len(wrong) - MOST_ERRORS} more." if len(wrong) > MOST_ERRORS else ""
        raise PriceSheetError(f"Nothing was taken. {'; '.join(wrong[:MOST_ERRORS])}.{more}", field="file")
    return offers


def _offer(row: dict[str, str], now: datetime) -> Offer:
    currency = row["currency"].upper() or exchange.BOOK
    if row["price_per_million"] and row["price_usd_per_million"]:
        raise PriceSheetError("the price stands twice, in USD and in the row's currency")
    if currency != exchange.BOOK and row["price_usd_per_million"]:
        raise PriceSheetError(f"a price in {currency[:12]} stands under price_per_million")
    text = row["price_per_million"] or row["price_usd_per_million"]
    try:
        price = Decimal(text)
    except InvalidOperation as error:
        raise PriceSheetError(f"{text[:20] or 'nothing'} is no price") from error
    try:
        at = datetime.fromisoformat(row["valid_from"]) if row["valid_from"] else now
    except ValueError as error:
        raise PriceSheetError(f"{row['valid_from'][:30]} is no time") from error
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    corrects = row["corrects"].lower()
    if corrects not in ("", "no", "yes"):
        raise PriceSheetError("corrects is yes, no or empty")
    if corrects == "yes" and at >= now:
        raise PriceSheetError("a correction begins in the past")
    context = row["context_over"] or "0"
    if not context.isdecimal() or len(context) > 9:
        raise PriceSheetError(f"{context[:20]} is no number of tokens")
    tier = row["service_tier"].lower() or SERVICE_TIERS[0]
    series = (row["provider"], row["model"], row["token_class"])
    return Offer(*series, price, at, row["source"][:200], corrects == "yes", tier, row["region"], int(context), currency)


def check(offer: Offer, *, providers: Collection[str], models: Collection[str]) -> None:
    """PriceSheetError when the price cannot be in our book."""
    if offer.provider not in providers:
        raise PriceSheetError(f"there is no provider {offer.provider[:48] or 'without a name'}")
    if offer.model not in models:
        raise PriceSheetError(f"there is no model {offer.model[:80] or 'without a name'}")
    if offer.token_class not in TOKEN_CLASSES:
        raise PriceSheetError(f"the token class is one of {', '.join(TOKEN_CLASSES)}")
    if offer.currency not in exchange.CURRENCIES:
        raise PriceSheetError(f"{offer.currency[:12]} is no currency of ISO 4217")
    if offer.service_tier not in SERVICE_TIERS:
        raise PriceSheetError(f"the service tier is one of {', '.join(SERVICE_TIERS)}")
    if len(offer.region) > 48:
        raise PriceSheetError("a region has 48 characters at most")
    if not 0 <= offer.context_over <= MOST_CONTEXT:
        raise PriceSheetError(f"a context band begins between 0 and {MOST_CONTEXT:,} tokens")
    if not is_price(offer.price, offer.currency):
        raise PriceSheetError(f"a price per million tokens is between 0 and {HIGHEST_PRICE:,} USD, with eight decimals at most")
    if not 2020 <= offer.valid_from.year <= 2100:
        raise PriceSheetError("the time is out of range")


def is_price(price: Decimal, currency: str = exchange.BOOK) -> bool:
    """Whether the amount can be one. In another currency than USD it is bounded by what the weakest could make of the highest price."""
    highest = HIGHEST_PRICE if currency == exchange.BOOK else HIGHEST_PRICE * exchange.HIGHEST
    return price.is_finite() and 0 <= price <= highest and price == round(price, 8)
