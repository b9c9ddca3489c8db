"""What leaves for other people's dashboards: the columns of each dataset, and rows into CSV and JSON lines.

`focus` follows the FinOps Open Cost and Usage Specification 1.2: one row per day, price and token class, with names of its own columns
only and ours behind `x_`. `usage` is our hourly rollup as it is, with what has no price.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Any

from costs import bridge, focus, parquet, price_sheets
from costs.periods import first_of_month, midnight
from governance import csvs

FOCUS_VERSION = "1.2"
MILLION = Decimal(1_000_000)
_EXACT = Context(prec=80)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    name: str
    kind: str
    """`text`, `decimal`, `exact` (20 decimals), `integer`, `date`, `time` or `json`."""
    meaning: str
    nullable: bool = False


@dataclass(frozen=True)
class Dataset:
    name: str
    title: str
    about: str
    columns: tuple[Column, ...]


FOCUS = Dataset(
    "focus",
    f"FOCUS {FOCUS_VERSION}",
    "Priced tokens as charges: a row for each UTC day, price, token class, project, cost centre, agent, key and region. "
    "The amounts are ours, from telemetry, not an invoice. Calls without a price are in no row.",
    (
        Column("BilledCost", "decimal", "Tokens times the price in our book; 0 of what a commitment paid for"),
        Column("BillingAccountId", "text", "Public id of the organisation"),
        Column("BillingAccountName", "text", "Its name"),
        Column("BillingAccountType", "text", "`Organisation`"),
        Column("BillingCurrency", "text", "`USD`"),
        Column("BillingPeriodEnd", "time", "First moment of the next month, UTC"),
        Column("BillingPeriodStart", "time", "First moment of the month, UTC"),
        Column("ChargeCategory", "text", "`Usage`; `Purchase` of the fee of a commitment"),
        Column("ChargeClass", "text", "Always null: nothing is a correction", nullable=True),
        Column("ChargeDescription", "text", "Token class and model in words"),
        Column("ChargeFrequency", "text", "`Usage-Based`; `Recurring` or `One-Time` of a purchase"),
        Column("ChargePeriodEnd", "time", "End of the day, exclusive"),
        Column("ChargePeriodStart", "time", "Begin of the day"),
        Column("CommitmentDiscountCategory", "text", "`Usage` of throughput, `Spend` of money", nullable=True),
        Column("CommitmentDiscountId", "text", "Reference of the commitment that the row is about", nullable=True),
        Column("CommitmentDiscountName", "text", "The same", nullable=True),
        Column("CommitmentDiscountStatus", "text", "`Used` or `Unused`; null of a purchase", nullable=True),
        Column("CommitmentDiscountType", "text", "Kind of the commitment", nullable=True),
        Column("ConsumedQuantity", "decimal", "Tokens, or searches; null of a purchase and of what nobody used", nullable=True),
        Column("ConsumedUnit", "text", "`Tokens`; `Requests` of searches", nullable=True),
        Column("ContractedCost", "decimal", "As ListCost"),
        Column("ContractedUnitPrice", "decimal", "USD per million tokens, or searches"),
        Column("EffectiveCost", "decimal", "As BilledCost; under a commitment, the part of its fee"),
        Column("InvoiceId", "text", "Always null: no invoice is behind it", nullable=True),
        Column("InvoiceIssuerName", "text", "Name of the provider"),
        Column("ListCost", "decimal", "Quantity times the price in our book"),
        Column("ListUnitPrice", "decimal", "USD per million tokens, or searches"),
        Column("PricingCategory", "text", "`Standard`; `Committed` under a commitment"),
        Column("PricingCurrency", "text", "What the price is quoted in; on rows of a commitment, the currency of its contract"),
        Column("PricingCurrencyContractedUnitPrice", "decimal", "As ContractedUnitPrice, in it, as it is quoted"),
        Column("PricingCurrencyEffectiveCost", "decimal", "As EffectiveCost, in it, at the rate that stays with the price or commitment"),
        Column("PricingCurrencyListUnitPrice", "decimal", "As ListUnitPrice, in it, as it is quoted"),
        Column("PricingQuantity", "decimal", "Millions of them"),
        Column("PricingUnit", "text", "`1000000 Tokens`; `1000000 Requests` of searches; `Hours` or `USD` of a commitment"),
        Column("ProviderName", "text", "Name of the provider"),
        Column("PublisherName", "text", "Name of the provider"),
        Column("RegionId", "text", "Region of the deployment", nullable=True),
        Column("RegionName", "text", "The same", nullable=True),
        Column("ResourceId", "text", "Id of the key", nullable=True),
        Column("ResourceName", "text", "Name of the key", nullable=True),
        Column("ResourceType", "text", "`Virtual key`", nullable=True),
        Column("ServiceCategory", "text", "`AI and Machine Learning`"),
        Column("ServiceName", "text", "Provider and `models`"),
        Column("ServiceSubcategory", "text", "`Generative AI`"),
        Column("SkuId", "text", "Provider, model and token class"),
        Column(
            "SkuMeter",
            "text",
            "What `x_TokenClass` is called: `Input Tokens`, `Cached Input Tokens`, `Audio Output Tokens`, `Web Searches`, …",
        ),
        Column(
            "SkuPriceDetails",
            "json",
            "`x_ModelId` (the provider's name), `x_TokenDirection`, `x_TokenCacheAction`, `x_ServiceTier`, `x_ContextOver`, `x_TokenClass`",
        ),
        Column("SkuPriceId", "text", "Id of the entry in the price book", nullable=True),
        Column("SubAccountId", "text", "Slug of the project", nullable=True),
        Column("SubAccountName", "text", "Name of the project", nullable=True),
        Column("SubAccountType", "text", "`Project`", nullable=True),
        Column("Tags", "json", "`agent`, `cost_centre`, `environment` as far as they are known"),
        Column("x_Agent", "text", "Name of the agent", nullable=True),
        Column("x_Calls", "integer", "Calls that used the class; a call counts once in each class"),
        Column("x_CostCentre", "text", "Of the project when the call was attributed", nullable=True),
        Column("x_Model", "text", "Slug of the model", nullable=True),
        Column("x_TokenClass", "text", ", ".join(f"`{name}`" for name in price_sheets.TOKEN_CLASSES) + ": disjoint", nullable=True),
    ),
)
_CALLER = (
    Column("project", "text", "Slug", nullable=True),
    Column("cost_centre", "text", "Of the project when the call was attributed", nullable=True),
    Column("agent", "text", "Name", nullable=True),
    Column("model", "text", "Slug", nullable=True),
    Column("provider", "text", "Slug; null when the call was not routed", nullable=True),
    Column("key_id", "text", "Id of the key", nullable=True),
)
_ENVIRONMENT = Column("environment", "text", "Of the project, as the catalog has it today", nullable=True)
USAGE = Dataset(
    "usage",
    "Usage by hour",
    "Every call, also refused, failed and unpriced ones, counted by hour and all that it can be grouped by.",
    (
        Column("hour", "time", "UTC, by the start of the call"),
        *_CALLER,
        Column("kind", "text", "`chat`, `embeddings`, `tool`, …"),
        Column("outcome", "text", "`ok`, `refused`, `error`"),
        Column("calls", "integer", "Calls"),
        Column("uncached_input_tokens", "integer", "The four are disjoint; audio and images are in them"),
        Column("cached_input_tokens", "integer", "Tokens"),
        Column("cache_write_tokens", "integer", "Tokens"),
        Column("output_tokens", "integer", "Tokens"),
        Column("cost_usd", "decimal", "Of the priced calls; null when no money is known and some have no price", nullable=True),
        Column("unpriced_calls", "integer", "Whose cost is not known and not in `cost_usd`"),
        Column("untagged_calls", "integer", "Without project, key, model or agent"),
        Column("estimated_calls", "integer", "Whose tokens the gateway had to estimate"),
        Column("duration_us", "integer", "Sum over the calls, microseconds"),
        _ENVIRONMENT,
    ),
)
ATTRIBUTES = Dataset(
    "attributes",
    "Spend by attribute",
    "Every call by day, once for each attribute: deployment, region and each declared tag. Add up the rows of one attribute only.",
    (
        Column("day", "time", "Begin of the UTC day, by the start of the call"),
        Column("attribute", "text", "`deployment`, `region`, or `tag:` and the name of a declared tag"),
        Column("value", "text", "Id of the deployment, else as recorded; `(other)` for values of a tag beyond 200 a day", nullable=True),
        _ENVIRONMENT,
        *_CALLER,
        Column("calls", "integer", "Calls"),
        Column("refused", "integer", "Of them"),
        Column("errors", "integer", "Of them, failed ones"),
        Column("tokens", "integer", "Of every class"),
        Column("cost_usd", "decimal", "Of the priced calls; null when no money is known and some have no price", nullable=True),
        Column("unpriced_calls", "integer", "Whose cost is not known and not in `cost_usd`"),
        Column("estimated_calls", "integer", "Whose tokens the gateway had to estimate"),
    ),
)
DATASETS = {dataset.name: dataset for dataset in (FOCUS, USAGE, ATTRIBUTES)}
FILES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}
FILE_LABELS = {"csv": "CSV", "jsonl": "JSON lines", "parquet": "Parquet"}

_METERS = {
    "input": ("Input Tokens", "Input", "Uncached"),
    "cached_input": ("Cached Input Tokens", "Input", "Read"),
    "cache_write": ("Cache Write Input Tokens", "Input", "Write"),
    "output": ("Output Tokens", "Output", None),
    "audio_input": ("Audio Input Tokens", "Input", "Uncached"),
    "image_input": ("Image Input Tokens", "Input", "Uncached"),
    "cache_write_1h": ("Cache Write 1h Input Tokens", "Input", "Write"),
    "audio_output": ("Audio Output Tokens", "Output", None),
    "image_output": ("Image Output Tokens", "Output", None),
    "web_search": ("Web Searches", None, None),
    "file_search": ("File Searches", None, None),
    "cached_audio": ("Cached Audio Input Tokens", "Input", "Read"),
    "cached_image": ("Cached Image Input Tokens", "Input", "Read"),
}


@dataclass(frozen=True)
class Names:
    """What ids are called."""

    account_id: str
    account: str
    providers: Mapping[str, str]
    projects: Mapping[str, tuple[str, str]]
    """Slug to name and environment."""
    keys: Mapping[str, str]


@dataclass(frozen=True)
class Charge:
    """One group of events of a day; empty text is "not known"."""

    day: date
    provider: str
    model: str
    upstream_model: str
    region: str
    project: str
    cost_centre: str
    agent: str
    key_id: str
    token_class: str
    price_id: int
    price: Decimal
    """USD per million tokens."""
    currency: str
    """That the price is quoted in."""
    quoted: Decimal
    """The price in it."""
    service_tier: str
    context_over: int
    """The price holds for prompts of more tokens than this."""
    calls: int
    tokens: int | Decimal
    """A part of them, with decimals, where a commitment covers the rest."""

    @property
    def cost(self) -> Decimal:
        """By the price book, USD."""
        return _EXACT.multiply(_EXACT.divide(Decimal(self.tokens), MILLION), self.price)


_DISCOUNT = (
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
)


@dataclass(frozen=True)
class Under:
    """The commitment that a row is about."""

    reference: str
    kind: str
    """Its label."""
    provider: str
    is_throughput: bool
    is_billed_as_used: bool
    """Nothing was paid ahead."""
    currency: str
    """Of the contract."""
    per_usd: Decimal
    """Units of it."""

    def columns(self, status: str | None) -> dict[str, Any]:
        category = "Usage" if self.is_throughput else "Spend"
        return dict(zip(_DISCOUNT, (category, self.reference, self.reference, status, self.kind), strict=True))

    def billed(self, effective: Decimal) -> Decimal:
        return effective if self.is_billed_as_used else Decimal()


def covered_row(charge: Charge, names: Names, under: Under, effective: Decimal) -> dict[str, Any]:
    """Use that a commitment covers, at its part of the fee."""
    # All rows of a commitment are in its currency, so that they add up to its fee there, too.
    quoted = charge.quoted if charge.currency == under.currency else _quoted(charge.price, under.per_usd)
    amounts = {
        "BilledCost": under.billed(effective),
        "EffectiveCost": effective,
        "PricingCategory": "Committed",
        "PricingCurrencyEffectiveCost": _quoted(effective, under.per_usd),
    }
    return {**focus_row(replace(charge, currency=under.currency, quoted=quoted), names), **amounts, **under.columns("Used")}


def commitment_row(
    day: date, under: Under, names: Names, *, what: str, quantity: Decimal, unit_price: Decimal, effective: Decimal, model: str = ""
) -> dict[str, Any]:
    """A row of a commitment that is no priced use: its `purchase`, or the part of the fee for what is `unused`, or `used` without a price."""
    quoted = _quoted(unit_price, under.per_usd)
    blank = Charge(day, under.provider, model, "", "", "", "", "", "", "input", 0, unit_price, under.currency, quoted, "standard", 0, 0, 0)
    is_purchase = what == "purchase"
    cost = _EXACT.multiply(quantity, unit_price)
    return {
        **focus_row(blank, names),
        **under.columns(None if is_purchase else what.capitalize()),
        "BilledCost": (Decimal() if under.is_billed_as_used else cost) if is_purchase else under.billed(effective),
        "EffectiveCost": Decimal() if is_purchase else effective,
        "ListCost": cost,
        "ContractedCost": cost,
        "ChargeCategory": "Purchase" if is_purchase else "Usage",
        "ChargeFrequency": "Usage-Based" if not is_purchase else "Recurring" if under.is_throughput else "One-Time",
        "ChargeDescription": f"{under.reference}: {what}{f' by {model}' if model else ''}",
        "ConsumedQuantity": None,
        "ConsumedUnit": None,
        "PricingCategory": "Committed",
        "PricingCurrencyEffectiveCost": Decimal() if is_purchase else _quoted(effective, under.per_usd),
        "PricingQuantity": quantity,
        "PricingUnit": "Hours" if under.is_throughput else "USD",
        "SkuId": f"{under.provider}/{under.reference}",
        "SkuMeter": under.kind,
        "SkuPriceDetails": {},
        "SkuPriceId": None,
        "x_Model": model or None,
        "x_TokenClass": None,
    }


_FINEST = Decimal(1).scaleb(-14)
"""The scale of decimals in Parquet."""


def _quoted(amount: Decimal, per_usd: Decimal) -> Decimal:
    """An amount in USD in the currency of its contract."""
    return _EXACT.multiply(amount, per_usd).quantize(_FINEST, context=_EXACT) if per_usd != 1 else amount


def focus_row(charge: Charge, names: Names) -> dict[str, Any]:
    """One row of the dataset `focus`; PricingQuantity times each unit price is exactly its cost."""
    provider = names.providers.get(charge.provider, charge.provider)
    project, environment = names.projects.get(charge.project, (charge.project, ""))
    meter, direction, action = _METERS[charge.token_class]
    unit = "Requests" if charge.token_class in focus.COUNTED_CLASSES else "Tokens"
    millions = _EXACT.divide(Decimal(charge.tokens), MILLION)
    cost = _EXACT.multiply(millions, charge.price)
    details = {
        "x_ModelId": charge.upstream_model or charge.model,
        "x_TokenDirection": direction,
        "x_TokenCacheAction": action,
        "x_ServiceTier": charge.service_tier,
        "x_ContextOver": charge.context_over or None,
        "x_TokenClass": charge.token_class,
    }
    tags = {"agent": charge.agent, "cost_centre": charge.cost_centre, "environment": environment}
    return {
        "BilledCost": cost,
        "BillingAccountId": names.account_id,
        "BillingAccountName": names.account,
        "BillingAccountType": "Organisation",
        "BillingCurrency": "USD",
        "BillingPeriodEnd": midnight(first_of_month(charge.day, 1)),
        "BillingPeriodStart": midnight(first_of_month(charge.day)),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": f"{meter} of {charge.model}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": midnight(charge.day + timedelta(days=1)),
        "ChargePeriodStart": midnight(charge.day),
        **dict.fromkeys(_DISCOUNT),
        "ConsumedQuantity": Decimal(charge.tokens),
        "ConsumedUnit": unit,
        "ContractedCost": cost,
        "ContractedUnitPrice": charge.price,
        "EffectiveCost": cost,
        "InvoiceId": None,
        "InvoiceIssuerName": provider,
        "ListCost": cost,
        "ListUnitPrice": charge.price,
        "PricingCategory": "Standard",
        "PricingCurrency": charge.currency,
        "PricingCurrencyContractedUnitPrice": charge.quoted,
        "PricingCurrencyEffectiveCost": _EXACT.multiply(millions, charge.quoted),
        "PricingCurrencyListUnitPrice": charge.quoted,
        "PricingQuantity": millions,
        "PricingUnit": f"1000000 {unit}",
        "ProviderName": provider,
        "PublisherName": provider,
        "RegionId": charge.region or None,
        "RegionName": charge.region or None,
        "ResourceId": charge.key_id or None,
        "ResourceName": names.keys.get(charge.key_id, charge.key_id) or None,
        "ResourceType": "Virtual key" if charge.key_id else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{provider} models",
        "ServiceSubcategory": "Generative AI",
        "SkuId": f"{charge.provider}/{charge.model}/{charge.token_class}",
        "SkuMeter": meter,
        "SkuPriceDetails": {name: value for name, value in details.items() if value is not None},
        "SkuPriceId": str(charge.price_id),
        "SubAccountId": charge.project or None,
        "SubAccountName": project or None,
        "SubAccountType": "Project" if charge.project else None,
        "Tags": {name: value for name, value in tags.items() if value},
        "x_Agent": charge.agent or None,
        "x_Calls": charge.calls,
        "x_CostCentre": charge.cost_centre or None,
        "x_Model": charge.model,
        "x_TokenClass": charge.token_class,
    }


def line_columns(currency: str) -> list[Column]:
    """Of the compared lines of a revision in this currency, for files of them."""
    code = currency.lower()
    return [
        Column("model", "text", "Ours, or as the bill has it."),
        Column("token_class", "text", "Empty where the bill names none."),
        Column("day_utc", "date", "None: the whole month.", nullable=True),
        Column("standing", "text", "How it stands, see `reconciliation_selectors.STANDINGS`."),
        Column(f"bill_{code}", "exact", "What is billed."),
        Column(f"telemetry_{code}", "exact", "What we counted, at our exchange rate of the day."),
        Column("bill_tokens", "exact", "None where the bill counts none.", nullable=True),
        Column("telemetry_tokens", "integer", "Of our calls."),
        Column("bill_rows", "integer", "Charges of the bill."),
        *[Column(f"{name}_{code}", "exact", title, nullable=True) for name, title in bridge.CAUSES.items()],
    ]


def to_bytes(dataset: Dataset, file: str, rows: Iterable[Row]) -> Iterator[bytes]:
    """The rows as a file, line by line (Parquet as a whole, on disk); the keys of a row are the columns of the dataset."""
    names = [column.name for column in dataset.columns]
    if file == "csv":
        writer = csv.writer(csvs.Echo())
        yield writer.writerow(names).encode()
        for row in rows:
            yield writer.writerow([csvs.cell(_plain(row[name])) for name in names]).encode()
    elif file == "parquet":
        yield from parquet.write(dataset.columns, rows)
    else:
        keys = [json.dumps(name) for name in names]
        for row in rows:
            values = (_json(row[name]) for name in names)
            yield ("{" + ",".join(f"{key}:{value}" for key, value in zip(keys, values, strict=True)) + "}\n").encode()


def _plain(value: Any) -> Any:
    """Times as FOCUS writes them, objects as JSON."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


def _json(value: Any) -> str:
    """Decimals as numbers with all their digits, which `json` alone cannot write."""
    if isinstance(value, Decimal):
        return f"{value.normalize(_EXACT):f}"
    return json.dumps(_plain(value) if isinstance(value, datetime) else value, ensure_ascii=False, sort_keys=True)
