from __future__ import annotations

import math
import time
from datetime import UTC, datetime

from gateway.contract.snapshot import PICO_USD, Deployment, Limit, Model
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.leases import LeaseUnavailableError, LimitExceededError, LimitThrottledError, Reservation


async def reserve(call: Call) -> str:
    """Take the call's worst case from every limit it is under, or refuse and take nothing."""
    served, key = call.served, call.key
    assert served is not None
    assert key is not None
    limits = served.limits_of(key, call.kind, agent=call.agent, model=call.model.slug if call.model else None, tags=call.tags)
    if not limits:
        return "no limits"
    wants = [(limit, need(call, limit)) for limit in limits if limit.resource != "concurrent"]
    try:
        for limit in limits:
            if limit.resource == "concurrent":
                call.slots.append(await call.plane.slots.take(served.tenant, limit))
        call.reservation = await call.plane.ledger.reserve(served.tenant, served.zone, wants)
    except LimitExceededError as error:
        _tell(call, error.limit, error.remaining, error.resets_at)
        raise exceeded(error) from error
    except LimitThrottledError as error:
        raise _throttled(error) from error
    except LeaseUnavailableError as error:
        raise unavailable(error) from error
    _tell_rate(call, call.reservation)
    opened = call.reservation.opened
    return f"failed open: {', '.join(opened)}" if opened else ""


def need(call: Call, limit: Limit, priced: Deployment | None = None) -> int:
    """The call's worst case of what is limited; money at the prices of `priced`, else of the model. Refusal when money is limited and has none."""
    if limit.resource == "requests":
        return 1
    if limit.resource == "tokens":
        return call.input_estimate + call.output_estimate
    if limit.resource == "input_tokens":
        return call.input_estimate
    if limit.resource == "output_tokens":
        return call.output_estimate
    assert call.model is not None
    cost = cost_of(call, priced or call.model, call.input_estimate, call.output_estimate)
    if cost is None:
        where = f" at {priced.provider}" if priced else ""
        raise Refusal(
            "model_unpriced",
            f"The model {call.model.slug} has no price{where}, so it cannot be called under the {_called(limit)}.",
            param="model",
            scope=_scope(limit),
            budget=limit.budget,
        )
    return cost


def cost_of(call: Call, priced: Model | Deployment, input_tokens: int, output_tokens: int) -> int | None:
    """Pico-dollars, at the prices of `priced`; None while it has none for what is used."""
    if priced.input_price is None:
        return None
    if call.kind == "embeddings":
        return input_tokens * priced.input_price
    if priced.output_price is None:
        return None
    return input_tokens * priced.input_price + output_tokens * priced.output_price


def unavailable(error: LeaseUnavailableError) -> Refusal:
    return Refusal(
        "store_unavailable",
        f"The {_called(error.limit)} cannot be checked at the moment.",
        scope=_scope(error.limit),
        budget=error.limit.budget,
        retry_after_s=2,
    )


def exceeded(error: LimitExceededError) -> Refusal:
    limit = error.limit
    scope = _scope(limit)
    if limit.resource == "money":
        resets = datetime.fromtimestamp(error.resets_at, UTC)
        return Refusal(
            "budget_exceeded",
            f"What is left of the {_called(limit)} does not cover this call. "
            f"{_amount(limit)} per {limit.window}; the next {limit.window} begins {resets:%Y-%m-%d %H:%M} UTC.",
            scope=scope,
            budget=limit.budget,
            resets_at=error.resets_at,
        )
    if limit.resource == "concurrent":
        return Refusal(
            "rate_limit_exceeded",
            f"{limit.amount:,} call{'s' if limit.amount != 1 else ''} at once for {limit.scope} {limit.scope_name} are running already.",
            scope=scope,
            retry_after_s=1,
        )
    return Refusal(
        "rate_limit_exceeded",
        f"The limit of {limit.amount:,} {limit.resource.replace('_', ' ')} per {limit.window} for "
        f"{limit.scope} {limit.scope_name} is used up.",
        scope=scope,
        resets_at=error.resets_at,
        retry_after_s=max(1, math.ceil(error.resets_at - time.time())),
    )


def _throttled(error: LimitThrottledError) -> Refusal:
    """Many retries would keep a full budget busy: the fewer calls pass, the longer the caller is told to wait."""
    limit = error.limit
    return Refusal(
        "budget_throttled",
        f"Slowed down by the {_called(limit)}: {error.share:.0%} of {_amount(limit)} per {limit.window} is spent, "
        f"so {error.admitted:.0%} of calls pass.",
        scope=_scope(limit),
        budget=limit.budget,
        resets_at=error.resets_at,
        retry_after_s=min(60, math.ceil(1 / error.admitted)) if error.admitted else 60,
    )


def _scope(limit: Limit) -> str:
    """Goes into the answer and into the record of the step, by which a budget's refusals are counted."""
    return f"budget:{limit.budget}" if limit.budget else f"{limit.scope}:{limit.scope_name}"


def _called(limit: Limit) -> str:
    where = "the organisation" if limit.scope == "tenant" else f"{limit.scope} {limit.scope_name}"
    if limit.budget:
        return f"budget {limit.budget} for {where}"
    return f"budget of {where}" if limit.resource == "money" else f"{limit.resource} limit of {where}"


def _amount(limit: Limit) -> str:
    return f"{limit.amount / PICO_USD:,.2f} USD"


def _tell_rate(call: Call, reservation: Reservation) -> None:
    """Response headers about the first request limit and the first token limit, the narrowest scope first."""
    told: list[tuple[bytes, ...]] = []
    for held, _ in reservation.lines:
        names = _TOLD.get(held.limit.resource)
        if names is not None and names not in told:
            told.append(names)
            _tell(call, held.limit, held.remaining, held.counter.span.end)


def _tell(call: Call, limit: Limit, remaining: int, resets_at: float) -> None:
    names = _TOLD.get(limit.resource)
    if names is not None:
        values = b"%d" % limit.amount, b"%d" % remaining, b"%ds" % max(0, math.ceil(resets_at - time.time()))
        call.response_headers += zip(names, values, strict=True)


_REQUESTS = b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-requests", b"x-ratelimit-reset-requests"
_TOKENS = b"x-ratelimit-limit-tokens", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"
_TOLD: dict[str, tuple[bytes, bytes, bytes]] = {"requests": _REQUESTS, "input_tokens": _TOKENS, "output_tokens": _TOKENS}
