"""What tests of guardrails need."""

from __future__ import annotations

from typing import Any

from gateway.contract.guardrails import Guard
from gateway.contract.snapshot import Guardrail
from tests.gateway.conftest import Org

CARD = "4111-1111-1111-1111"
ANSWER: list[Any] = [{"role": "user", "content": f"Charge {CARD} now"}]  # the sandbox repeats it
SURFACES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ANSWER},
    "/v1/messages": {"messages": ANSWER, "max_tokens": 200},
    "/v1/responses": {"input": ANSWER},
}


def make_guard(kind: Any = "pii", **fields: Any) -> Guard:
    return Guard(Guardrail(**{"name": f"no-{kind}", "kind": kind, "enforce": True, "action": "redact", **fields}))


def verdicts(org: Org, count: int = 1) -> list[list[Any]]:
    return [[step[0], step[1], step[3]] for step in org.plane.wait_for_events(org.id, count)[-1]["steps"]]
