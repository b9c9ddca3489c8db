"""A deployment's own limits: beyond them a call goes to the model's next deployment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.contract.snapshot import Deployment, Limit, Resource
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.leases import LeaseUnavailableError, LimitExceededError, Reservation
from gateway.plane.pipeline.reserve import exceeded, need, unavailable
from gateway.plane.pipeline.settle import money_of
from gateway.plane.slots import Held

QUOTA_SHARE = 4
"""A call takes at most 1/QUOTA_SHARE of a deployment's quota of tokens before it goes."""
USED_UP = frozenset(["rate_limit_exceeded", "budget_exceeded"])
"""Codes of refusals by a limit, and not because it cannot be checked."""


@dataclass(frozen=True)
class Taken:
    """What one call holds of one deployment's limits."""

    reservation: Reservation
    slots: list[Held]
    worst: Mapping[Resource, int]
    """The call's worst case, which is more than was reserved when that was a share."""


async def take(call: Call, deployment: Deployment) -> Taken:
    """Reserve from every limit of the deployment, or take nothing. Refusal when one is used up, cannot be checked, or the deployment has no price."""
    try:
        return await _take(call, deployment)
    except LimitExceededError as error:
        raise _at_quota(call, deployment, error) from error
    except LeaseUnavailableError as error:
        raise unavailable(error) from error


async def _take(call: Call, deployment: Deployment) -> Taken:
    assert call.served is not None
    tenant, slots = call.served.tenant, call.plane.slots
    windowed = [limit for limit in deployment.limits if limit.resource != "concurrent"]
    worst = {limit.resource: need(call, limit, deployment) for limit in windowed}
    taken: list[Held] = []
    try:
        for limit in deployment.limits:
            if limit.resource == "concurrent":
                taken.append(await slots.take(tenant, limit))
        wants = [(limit, _share(limit, worst[limit.resource])) for limit in windowed]
        reservation = await call.plane.ledger.reserve(tenant, call.served.zone, wants)
    except BaseException:  # also when the caller leaves while it waits
        for slot in taken:
            slots.give_back(slot)
        raise
    return Taken(reservation, taken, worst)


def _share(limit: Limit, worst: int) -> int:
    """The worst case of a call is mostly far from what it uses, so a large one takes a share: it must not shut the window to itself and
    others. What it uses beyond is a debt as soon as it is known, so the limit is passed by no more than what is in flight.
    """
    return min(worst, max(1, limit.amount // QUOTA_SHARE)) if limit.resource != "requests" else 1


def used(call: Call, deployment: Deployment) -> dict[Resource, int | None]:
    """What an answer used, as far as the provider has said; money at the deployment's prices, None without one for all of it."""
    usage = call.usage
    if usage is None or usage.prompt_tokens is None:
        return {}
    output_tokens = usage.completion_tokens or 0
    return {
        "tokens": usage.prompt_tokens + output_tokens,
        "input_tokens": usage.prompt_tokens,
        "output_tokens": output_tokens,
        "money": money_of(call, deployment, usage.prompt_tokens, output_tokens),
    }


def settle(call: Call, taken: Taken, used: Mapping[Resource, int | None]) -> None:
    """Turn what was reserved into what was used, and give slots back."""
    for slot in taken.slots:
        call.plane.slots.give_back(slot)
    call.plane.ledger.settle(taken.reservation, used)


def _at_quota(call: Call, deployment: Deployment, error: LimitExceededError) -> Refusal:
    limit = error.limit
    if limit.resource in ("concurrent", "money"):
        return exceeded(error)
    return Refusal(
        "rate_limit_exceeded",
        f"The model {call.name} has used up its quota at {deployment.provider}: {limit.amount:,} {limit.resource.replace('_', ' ')} "
        f"per {limit.window}.",
        scope=f"deployment:{deployment.id}",
        resets_at=error.resets_at,
        retry_after_s=max(1, math.ceil(error.resets_at - time.time())),
    )
