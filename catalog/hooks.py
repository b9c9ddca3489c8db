"""What the floor above (costs) tells the catalog: prices and usage. Filled by `costs.apps` when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from governance.models import User


@dataclass(frozen=True)
class Price:
    """List price in USD per million tokens."""

    input_per_million: Decimal
    output_per_million: Decimal


@dataclass(frozen=True)
class Usage:
    """What went through the gateway over the last 30 days."""

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    """None when nothing was priced."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    ttft_ms: float | None = None
    last_used_at: datetime | None = None


class CostFigures(Protocol):
    """Implemented by `costs.selectors`."""

    def current_prices(self) -> Mapping[tuple[str, str], Price]:
        """(provider slug, model slug) to its price today; unpriced pairs are missing."""

    def set_list_price(self, *, provider: str, model: str, price: Price, actor: User) -> None:
        """Put a price in force from now on, in the caller's transaction, with its audit entry."""

    def usage_by_model(self, slugs: Iterable[str] | None = None) -> Mapping[str, Usage]:
        """By model slug (tools as `<namespace>__<tool>`); models without calls are missing."""

    def usage_by_key(self, public_ids: Iterable[str]) -> Mapping[str, Usage]:
        """By key id; keys without calls are missing."""


_figures: list[CostFigures] = []


def register_cost_figures(figures: CostFigures) -> None:
    """Called once, from `costs.apps`."""
    _figures[:] = [figures]


def cost_figures() -> CostFigures:
    """The registered figures; RuntimeError when the costs app is not installed."""
    if not _figures:
        raise RuntimeError("no app offers cost figures")
    return _figures[0]


@dataclass(frozen=True)
class LimitUse:
    """What the gateway's processes were granted of one limit in its present window, or run at once now."""

    used: int
    resets_at: datetime | None
    """None for calls at once."""


LimitUses = Callable[[Iterable[str]], Mapping[str, LimitUse]]
_limit_uses: list[LimitUses] = []


def register_limit_uses(read: LimitUses) -> None:
    """`read(counter ids)` of the current tenant, by counter id; ids that nothing was used of are missing. Called from `gateway.publish`."""
    _limit_uses[:] = [read]


def limit_uses(counter_ids: Iterable[str]) -> Mapping[str, LimitUse]:
    """Empty while no gateway is installed."""
    return _limit_uses[0](counter_ids) if _limit_uses else {}
