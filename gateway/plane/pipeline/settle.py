from __future__ import annotations

from gateway.contract.events import CACHED_UNITS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS
from gateway.contract.snapshot import Deployment, Model, Resource
from gateway.plane.call import Call
from gateway.plane.pipeline.reserve import cost_of


def settle(call: Call) -> str:
    """Turn the reservation into what was really used, and give slots back. A call that no upstream took used nothing but its request."""
    for slot in call.slots:
        call.plane.slots.give_back(slot)
    call.slots.clear()
    reservation = call.reservation
    if reservation is None or not reservation.lines:
        return ""
    used: dict[Resource, int | None]
    if not call.may_have_spent:
        used = {"input_tokens": 0, "output_tokens": 0, "money": 0}
    else:
        usage = call.usage
        input_tokens = usage.prompt_tokens if usage else None
        output_tokens = usage.completion_tokens if usage else None
        if call.kind == "embeddings":
            output_tokens = 0
        known = input_tokens is not None and output_tokens is not None
        used = {
            "input_tokens": input_tokens,
            "output_tokens": output_tokens,
            "money": money_of(call, call.model, input_tokens or 0, output_tokens or 0) if known and call.model else None,
        }
    over = call.plane.ledger.settle(reservation, used)
    return f"{over} beyond the reservation" if over else ""


def money_of(call: Call, priced: Model | Deployment, input_tokens: int, output_tokens: int) -> int | None:
    """Pico-dollars, at the prices of `priced`. Sound, images and searches by prices of their own; None without one: then what was reserved stays spent."""
    cost = cost_of(call, priced, input_tokens, output_tokens)
    units = call.usage.units if call.usage else None
    if cost is None or units is None:
        return cost
    plain = dict.fromkeys((*INPUT_UNITS, *CACHED_UNITS, *WRITE_UNITS), priced.input_price) | dict.fromkeys(
        OUTPUT_UNITS, priced.output_price
    )
    for name, count in units.items():
        price = priced.unit_prices.get(name)
        if price is None:
            return None
        cost += count * (price - (plain.get(name) or 0))
    return cost
