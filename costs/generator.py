"""Telemetry together with its true bill, with faults of known size put in: what reconciliation is measured against.

Everything follows from a seed. Each fault has days of its own, so that what it costs can be stated for each cause to the last
decimal: `Generated.truth` is what a correct reconciliation must find.
"""

from __future__ import annotations

import calendar
import csv
import io
import json
import random
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from costs.focus import EXACT
from costs.periods import first_of_month
from gateway.contract.events import CallEvent, Step

TOKEN_CLASSES = ("input", "cached_input", "cache_write", "output")
_DETAILS = {
    "input": ("Input Tokens", "Input", "Uncached"),
    "cached_input": ("Cached Input Tokens", "Input", "Read"),
    "cache_write": ("Cache Write Input Tokens", "Input", "Write"),
    "output": ("Output Tokens", "Output", ""),
}
_NAMESPACE = uuid.UUID("5c1d6ab4-64a1-4a4e-9a55-0f3f5f3f6f10")
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "ContractedUnitPrice",
    "EffectiveCost",
    "HostProviderName",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "PricingUnit",
    "ServiceCategory",
    "ServiceName",
    "ServiceProviderName",
    "ServiceSubcategory",
    "SkuId",
    "SkuMeter",
    "SkuPriceDetails",
    "SkuPriceId",
)


@dataclass(frozen=True)
class Offer:
    """A model as telemetry and bill know it."""

    slug: str
    upstream: str
    """Its name on the bill."""
    prices: Mapping[str, Decimal]
    """USD per million tokens by token class; classes without a price are not used."""


@dataclass(frozen=True)
class Faults:
    """What goes wrong. Zero is "not at all"."""

    missing_calls: int = 0
    """Calls that are on the bill and never reach telemetry."""
    late_calls: int = 0
    """Calls that reach telemetry only later (`Generated.late_calls`)."""
    duplicate_calls: int = 0
    """Calls that telemetry reports a second time under another event id."""
    replayed_calls: int = 0
    """Calls that are delivered twice under the same event id: harmless."""
    price_drift_percent: Decimal = Decimal()
    """How much more one day's input costs on the bill than in our book."""
    late_days: int = 0
    """Days whose rows come with a second file (`Generated.late_rows`)."""
    bypass_tokens: int = 0
    """Output tokens of a model that telemetry never saw."""
    round_to_cents: bool = False
    """The bill rounds each row to the cent."""


@dataclass
class Generated:
    calls: list[CallEvent] = field(default_factory=list)
    late_calls: list[CallEvent] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    late_rows: list[dict[str, str]] = field(default_factory=list)
    truth: dict[str, Decimal] = field(default_factory=dict)
    """Cause to amount, with neither late calls nor late rows there."""
    truth_complete: dict[str, Decimal] = field(default_factory=dict)
    """The same once both have arrived."""


def generate(
    *,
    tenant: str,
    provider: str,
    provider_name: str,
    account: str,
    month: date,
    offers: Sequence[Offer],
    seed: int,
    calls_per_day: int = 12,
    calls_per_weekend_day: int | None = None,
    faults: Faults | None = None,
    days: int | None = None,
) -> Generated:
    """One month (or its first `days`) of calls of `tenant` (public id) and the provider's bill for them.

    Raises ValueError when the month has too few days for the faults asked for.
    """
    faults = faults or Faults()
    with localcontext(EXACT):
        return _Run(
            random.Random(seed),  # noqa: S311  # not a secret
            tenant,
            provider,
            provider_name,
            account,
            month,
            offers,
            (calls_per_day, calls_per_weekend_day),
            faults,
            days,
        ).make()


@dataclass
class _Run:
    random: random.Random
    tenant: str
    provider: str
    provider_name: str
    account: str
    month: date
    offers: Sequence[Offer]
    calls_per_day: tuple[int, int | None]
    """And on Saturdays and Sundays, where that differs."""
    faults: Faults
    days: int | None
    found: Generated = field(default_factory=Generated)
    ends: date = date.max
    """Last day of the first file."""
    truth: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    complete: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def make(self) -> Generated:
        all_days = [self.month + timedelta(days=n) for n in range(self.days or calendar.monthrange(self.month.year, self.month.month)[1])]
        wanted = [
            bool(self.faults.missing_calls),
            bool(self.faults.late_calls),
            bool(self.faults.duplicate_calls),
            bool(self.faults.price_drift_percent),
        ]
        if sum(wanted) + self.faults.late_days + 1 > len(all_days):
            raise ValueError("the month has too few days for so many faults")
        chosen = self.random.sample(all_days, sum(wanted) + self.faults.late_days)
        missing_day, late_call_day, duplicate_day, drift_day = (chosen.pop() if one else None for one in wanted)
        self.ends = max(day for day in all_days if day not in chosen)
        for day in all_days:
            calls = [self._call(day, n) for n in range(self._calls_on(day))]
            seen = list(calls)
            if day == missing_day:
                gone, seen = seen[: self.faults.missing_calls], seen[self.faults.missing_calls :]
                self._miss(gone, seen, self.truth, self.complete)
            if day == late_call_day:
                self.found.late_calls, seen = seen[: self.faults.late_calls], seen[self.faults.late_calls :]
                self._miss(self.found.late_calls, seen, self.truth)
            if day == duplicate_day:
                again = [self._copy(call, n) for n, call in enumerate(seen[: self.faults.duplicate_calls])]
                seen += again
                self._note("extra_calls", -self._value(again))
            self.found.calls += seen
            self._bill(day, calls, is_late=day in chosen, is_dearer=day == drift_day)
        if self.faults.bypass_tokens:
            self._bypass(all_days[0])
        self.found.calls += self.found.calls[: self.faults.replayed_calls]
        self.random.shuffle(self.found.calls)
        self.found.truth = {cause: amount for cause, amount in self.truth.items() if amount}
        self.found.truth_complete = {cause: amount for cause, amount in self.complete.items() if amount}
        return self.found

    def _calls_on(self, day: date) -> int:
        usual, at_weekend = self.calls_per_day
        return usual if at_weekend is None or day.weekday() < 5 else at_weekend

    def _note(self, cause: str, amount: Decimal) -> None:
        self.truth[cause] += amount
        self.complete[cause] += amount

    def _bill(self, day: date, calls: Sequence[CallEvent], *, is_late: bool, is_dearer: bool) -> None:
        """The day's rows, one per model and token class."""
        for (upstream, token_class), tokens in sorted(_tokens(calls).items()):
            price = next(offer for offer in self.offers if offer.upstream == upstream).prices[token_class]
            if is_dearer and token_class == TOKEN_CLASSES[0]:
                drifted = price * (1 + self.faults.price_drift_percent / 100)
                self._note("price", (drifted - price) * tokens / 1_000_000)
                price = drifted
            cost = price * tokens / 1_000_000
            rounding = _rounded(cost) - cost if self.faults.round_to_cents else Decimal()
            self.complete["rounding"] += rounding
            if is_late:
                self.truth["telemetry_only" if day < self.ends else "late"] -= cost
            else:
                self.truth["rounding"] += rounding
            (self.found.late_rows if is_late else self.found.rows).append(self._row(day, upstream, token_class, tokens, price, cost))

    def _bypass(self, day: date) -> None:
        """A row of a model that never passed the gateway."""
        price = max(offer.prices["output"] for offer in self.offers)
        cost = price * self.faults.bypass_tokens / 1_000_000
        self.found.rows.append(self._row(day, "shadow-model", "output", self.faults.bypass_tokens, price, cost))
        self._note("bill_only", _rounded(cost) if self.faults.round_to_cents else cost)

    def _miss(self, gone: Sequence[CallEvent], left: Sequence[CallEvent], *totals: dict[str, Decimal]) -> None:
        """What calls are worth that only the bill has, by whether telemetry has others of the same model and class that day."""
        remaining = _tokens(left)
        for (upstream, token_class), tokens in _tokens(gone).items():
            offer = next(offer for offer in self.offers if offer.upstream == upstream)
            cause = "missing_calls" if remaining.get((upstream, token_class)) else "bill_only"
            for total in totals:
                total[cause] += offer.prices[token_class] * tokens / 1_000_000

    def _value(self, calls: Iterable[CallEvent]) -> Decimal:
        prices = {offer.upstream: offer.prices for offer in self.offers}
        return sum((prices[upstream][name] * tokens / 1_000_000 for (upstream, name), tokens in _tokens(calls).items()), Decimal())

    def _call(self, day: date, number: int) -> CallEvent:
        offer = self.offers[number % len(self.offers)]
        moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(microseconds=self.random.randrange(86_400_000_000))
        read = self.random.randrange(4000) if "cached_input" in offer.prices and self.random.random() < 0.5 else 0
        write = self.random.randrange(2000) if "cache_write" in offer.prices and self.random.random() < 0.3 else 0
        event_id = uuid.uuid5(_NAMESPACE, f"{self.tenant}:{self.provider}:{day}:{number}:{self.random.random()}")
        duration = int(self.random.lognormvariate(13.5, 0.6))
        overhead = int(self.random.lognormvariate(7.2, 0.3))
        return CallEvent(
            event_id=str(event_id),
            tenant=self.tenant,
            kind="chat",
            started_at=moment.timestamp(),
            duration_us=duration + overhead,
            overhead_us=overhead,
            ttft_us=duration // 3,
            request_id=f"gen-{event_id.hex[:12]}",
            project=self.random.choice(("checkout", "support", "search")),
            key_id="generated",
            agent=self.random.choice(("basket-helper", "ticket-sorter", "reranker")),
            model=offer.slug,
            provider=self.provider,
            deployment="1",
            upstream_model=offer.upstream,
            region="eu",
            status="ok",
            http_status=200,
            error_code=None,
            stream=bool(self.random.getrandbits(1)),
            input_tokens=self.random.randrange(200, 8000) + read + write,
            output_tokens=self.random.randrange(20, 1500),
            cached_input_tokens=read or None,
            cache_write_tokens=write or None,
            reasoning_tokens=None,
            usage_source="provider",
            answer_id=f"chatcmpl-{event_id.hex}",
            snapshot_version=1,
            tags={},
            steps=[Step("identify", "pass", 6), Step("call_upstream", "pass", duration), Step("settle", "pass", 9)],
        )

    def _copy(self, call: CallEvent, number: int) -> CallEvent:
        values = {name: getattr(call, name) for name in call.__struct_fields__}
        return CallEvent(**{**values, "event_id": str(uuid.uuid5(_NAMESPACE, f"{call.event_id}:{number}"))})

    def _row(self, day: date, upstream: str, token_class: str, tokens: int, price: Decimal, cost: Decimal) -> dict[str, str]:
        meter, direction, action = _DETAILS[token_class]
        shown = _rounded(cost) if self.faults.round_to_cents else cost
        following = first_of_month(self.month, 1)
        details = {"ModelDeveloper": self.provider_name, "ModelId": upstream, "TokenDirection": direction} | (
            {"TokenCacheAction": action} if action else {}
        )
        values = {
            "BilledCost": _text(shown),
            "BillingAccountId": self.account,
            "BillingAccountName": self.account,
            "BillingCurrency": "USD",
            "BillingPeriodStart": _day(self.month),
            "BillingPeriodEnd": _day(following),
            "ChargeCategory": "Usage",
            "ChargeDescription": f"{meter} for {upstream}",
            "ChargeFrequency": "Usage-Based",
            "ChargePeriodStart": _day(day),
            "ChargePeriodEnd": _day(day + timedelta(days=1)),
            "ConsumedQuantity": str(tokens),
            "ConsumedUnit": "Tokens",
            "ContractedCost": _text(shown),
            "ContractedUnitPrice": _text(price),
            "EffectiveCost": _text(shown),
            "HostProviderName": self.provider_name,
            "InvoiceIssuerName": self.provider_name,
            "ListCost": _text(cost),
            "ListUnitPrice": _text(price),
            "PricingCategory": "Standard",
            "PricingQuantity": _text(Decimal(tokens) / 1_000_000),
            "PricingUnit": "1000000 Tokens",
            "ServiceCategory": "AI and Machine Learning",
            "ServiceName": f"{self.provider_name} API",
            "ServiceProviderName": self.provider_name,
            "ServiceSubcategory": "Generative AI",
            "SkuId": f"{upstream}-{token_class}",
            "SkuMeter": meter,
            "SkuPriceDetails": json.dumps(details),
            "SkuPriceId": f"{upstream}-{token_class}-ondemand",
        }
        return {name: values.get(name, "") for name in COLUMNS}


def _tokens(calls: Iterable[CallEvent]) -> dict[tuple[str, str], int]:
    """Tokens by the bill's model name and token class, classes disjoint."""
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for call in calls:
        read, write = call.cached_input_tokens or 0, call.cache_write_tokens or 0
        parts = ((call.input_tokens or 0) - read - write, read, write, call.output_tokens or 0)
        for token_class, tokens in zip(TOKEN_CLASSES, parts, strict=True):
            if tokens:
                totals[call.upstream_model or "", token_class] += tokens
    return dict(totals)


def _rounded(cost: Decimal) -> Decimal:
    return cost.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def _text(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _day(day: date) -> str:
    return f"{day:%Y-%m-%d}T00:00:00Z"


def to_csv(rows: Iterable[Mapping[str, str]]) -> bytes:
    """The rows as a FOCUS file."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
