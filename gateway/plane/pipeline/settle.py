from __future__ import annotations

from gateway.contract.snapshot import Resource
from gateway.plane.call import Call
from gateway.plane.pipeline.reserve import cost_of


async def settle(call: Call) -> str:
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
            "money": cost_of(call, input_tokens or 0, output_tokens or 0) if known and call.model else None,
        }
    over = call.plane.ledger.settle(reservation, used)
    return f"{over} beyond the reservation" if over else ""
