"""What providers list, from the data of the package `genai-prices`: read in a process of its own, which leaves with its 96 MB.

`python -m costs.price_feed` takes `Asked` rows as JSON from standard input and answers with `Read`. Nothing is fetched: the data is that of
the installed version. It is indicative, as its authors say, and has no regional surcharges.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice

PACKAGE = "genai-prices"
READ_TIMEOUT_S = 60
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "azure_openai": "azure", "vertex_ai": "google", "bedrock": "aws"}
"""Kind of our provider to its id in the data; other kinds are told by their address."""
CLASSES = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "output_mtok": "output",
    "input_audio_mtok": "audio_input",
    "input_image_mtok": "image_input",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
    "web_searches_kcount": "web_search",
    "storage_searches_kcount": "file_search",
    "cache_audio_read_mtok": "cached_audio",
    "cache_image_read_mtok": "cached_image",
}
PER_THOUSAND = "_kcount"
"""Ends the names of prices per thousand; our book's are per million."""
TIERS = {
    "batch": {"processing": "batch"},
    "flex": {"service_tier": "flex"},
    "priority": {"service_tier": "priority"},
    "fast": {"service_tier": "fast"},
}
"""Our service tier to the context that chooses its prices. A context that a model does not know is ignored there, so each is looked up first."""


class FeedError(RuntimeError):
    """The data could not be read."""


@dataclass(frozen=True)
class Asked:
    """One of our deployments."""

    provider: str
    model: str
    kind: str
    base_url: str
    upstream_model: str


@dataclass(frozen=True)
class Listed:
    """One price, USD per million tokens."""

    provider: str
    model: str
    token_class: str
    service_tier: str
    context_over: int
    price: str
    since: str | None
    """ISO day when it began, where the data says so."""


@dataclass(frozen=True)
class Unlisted:
    provider: str
    model: str
    upstream_model: str
    reason: str


@dataclass(frozen=True)
class Read:
    source: str
    """Package and version."""
    prices: list[Listed]
    unknown: list[Unlisted]


def read(asked: Sequence[Asked], at: datetime) -> Read:
    """What the installed data lists for these deployments at a time. FeedError when it cannot be read."""
    question = json.dumps({"at": at.astimezone(UTC).isoformat(), "asked": [asdict(one) for one in asked]})
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=question,
            capture_output=True,
            text=True,
            timeout=READ_TIMEOUT_S,
            check=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        found = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        raise FeedError(f"The prices of {PACKAGE} could not be read.") from error
    return Read(found["source"], [Listed(**row) for row in found["prices"]], [Unlisted(**row) for row in found["unknown"]])


def look_up(asked: Sequence[Asked], at: datetime) -> Read:
    """The same within this process."""
    from importlib.metadata import version

    from genai_prices.data_snapshot import get_snapshot

    providers = get_snapshot().providers
    by_id = {provider.id: provider for provider in providers}
    prices: dict[tuple[str, str], list[Listed]] = {}
    unknown = []
    for one in asked:
        theirs = by_id.get(PROVIDERS.get(one.kind, "")) or next(
            (found for found in providers if re.match(found.api_pattern, one.base_url)), None
        )
        model = theirs.find_model(one.upstream_model, all_providers=providers) if theirs else None
        if theirs is None or model is None:
            reason = "The provider is not in the data." if theirs is None else "The model is not in the data."
            unknown.append(Unlisted(one.provider, one.model, one.upstream_model, reason))
            continue
        listed = list(_prices(one, model, at))
        known = prices.get((one.provider, one.model), listed)
        reason = _why_not(model, listed) or ("" if known == listed else "Its deployments at the provider have different prices.")
        if reason:
            unknown.append(Unlisted(one.provider, one.model, one.upstream_model, reason))
            listed = []
        prices[one.provider, one.model] = listed
    return Read(f"{PACKAGE} {version(PACKAGE)}", [price for found in prices.values() for price in found], unknown)


def _why_not(model: ModelInfo, listed: list[Listed]) -> str:
    """Why a model of the data has no price that our book can hold; empty when it has."""
    from genai_prices.types import TimeOfDateConstraint

    conditions = [one.constraint for one in model.prices] if isinstance(model.prices, list) else []
    if any(isinstance(one, TimeOfDateConstraint) for one in conditions):
        return "Its price depends on the time of day."
    if not listed:
        return "It is not priced by tokens."
    if any(Decimal(price.price) != round(Decimal(price.price), 8) for price in listed):
        return "A price of it has more than eight decimals."
    return ""


def _prices(asked: Asked, model: ModelInfo, at: datetime) -> Iterator[Listed]:
    """Every tier, class and context band of a model at a time."""
    since = None
    for one in reversed(model.prices) if isinstance(model.prices, list) else ():
        if one.constraint is None or one.constraint.active(at):
            since = _begin(one.constraint)
            break
    yield from _of_tier(asked, "standard", model.get_prices(at), since)
    for tier, context in TIERS.items():
        active = [
            one for one in model.price_variants or () if one.when == context and (one.constraint is None or one.constraint.active(at))
        ]
        if active:
            began = max(filter(None, (since, _begin(active[0].constraint))), default=None)
            yield from _of_tier(asked, tier, model.get_prices(at, context), began)


def _begin(constraint: Any) -> str | None:
    day = getattr(constraint, "start_date", None)
    return day.isoformat() if day else None


def _of_tier(asked: Asked, tier: str, prices: ModelPrice, since: str | None) -> Iterator[Listed]:
    from genai_prices.types import TieredPrices

    for key, token_class in CLASSES.items():
        value = getattr(prices, key, None)
        if value is None:
            continue
        bands = [(0, value.base), *((band.start, band.price) for band in value.tiers)] if isinstance(value, TieredPrices) else [(0, value)]
        scale = 1000 if key.endswith(PER_THOUSAND) else 1
        for start, price in bands:
            yield Listed(asked.provider, asked.model, token_class, tier, start, f"{price * scale:f}", since)


def main() -> None:
    question = json.load(sys.stdin)
    found = look_up([Asked(**row) for row in question["asked"]], datetime.fromisoformat(question["at"]))
    json.dump(asdict(found), sys.stdout)


if __name__ == "__main__":
    main()
