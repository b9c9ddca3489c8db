from __future__ import annotations

from datetime import datetime
from typing import Any

from gateway.contract.events import Step
from gateway.contract.policies import Decision
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.served import Outcome, Served

COVERED = "covered"
"""The detail of the step when a policy had something to say; read by the rollup."""
MOST_REMEMBERED = 4096


def policy(call: Call) -> str:
    """Every policy that covers the call must allow it. Deployments that a policy forbids are not called.

    A decision depends on nothing but the attributes, so it is remembered for calls that agree in all of them.
    """
    served = call.served
    assert served is not None
    if not served.policies:
        return ""
    now = datetime.now(served.zone)
    asked = (call.key.id if call.key else "", call.kind, call.name, call.agent, tuple(sorted(call.tags.items())), now.weekday(), now.hour)
    outcome = served.decisions.get(asked)
    if outcome is None:
        if len(served.decisions) >= MOST_REMEMBERED:
            served.decisions.clear()
        outcome = served.decisions[asked] = _outcome(call, served, now)
    steps, refusal, forbidden = outcome
    call.steps += steps
    deployments = call.model.deployments if call.model else ()
    if refusal is not None and (not forbidden or len(forbidden) == len(deployments)):
        raise Refusal("policy_denied", refusal.reason, scope=f"policy:{refusal.policy}")
    call.forbidden = forbidden
    return COVERED if steps else ""


def _outcome(call: Call, served: Served, now: datetime) -> Outcome:
    decisions, forbidden = _decide(call, served, now)
    steps = [Step(f"policy:{each.policy}", each.verdict, 0, each.attributes) for each in decisions]
    return steps, next((each for each in decisions if each.refuses), None), forbidden


def _decide(call: Call, served: Served, now: datetime) -> tuple[list[Decision], frozenset[str]]:
    """What the policies say, and the deployments that may not be called."""
    context = _attributes(call, now)
    decisions = served.policies.decide(context, egress=False)
    if decisions and decisions[-1].refuses:
        return decisions, frozenset()
    if not served.policies.about_egress:
        return decisions, frozenset()
    ways = _ways_out(call, served)
    forbidden = []
    for deployment, egress in ways:
        said = served.policies.decide(context | {"egress": egress}, egress=True)
        if said and said[-1].refuses and deployment:
            forbidden.append(deployment)
        decisions += said
    return decisions, frozenset(forbidden)


def _ways_out(call: Call, served: Served) -> list[tuple[str, dict[str, str]]]:
    if call.model is not None:
        return [
            (each.id, {"provider": each.provider, "region": each.region, "host": served.host(each.base_url)})
            for each in call.model.deployments
        ]
    if call.tool is not None:
        return [("", {"provider": "", "region": "", "host": served.host(call.tool.server.url)})]
    return []


def _attributes(call: Call, now: datetime) -> dict[str, Any]:
    """As `gateway.contract.policies.ATTRIBUTES` lists them; what does not apply is an empty text."""
    key, project, model, tool = call.key, call.project, call.model, call.tool
    subject = model or (tool.server if tool else None)
    return {
        "caller": {
            "key": key.id if key else "",
            "owner": key.owner if key else "",
            "project": key.project if key else "",
            "environment": project.environment if project else "",
            "cost_centre": project.cost_centre if project else "",
            "agent": call.agent or "",
        },
        "call": {"kind": call.kind},
        "model": {
            "name": model.slug if model else "",
            "feature_class": subject.feature_class if subject else "",
            "sensitivity": model.sensitivity if model else "",
            "environment": model.environment if model else "",
        },
        "tool": {"server": tool.server.namespace if tool else "", "name": tool.tool.name if tool else ""},
        "egress": {"provider": "", "region": "", "host": ""},
        "time": {"hour": now.hour, "weekday": now.isoweekday()},
        "tags": dict(call.tags),
    }
