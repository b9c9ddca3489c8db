from __future__ import annotations

import random
from itertools import groupby

from gateway.contract.snapshot import Deployment
from gateway.plane.call import Call
from gateway.plane.choice import choose
from gateway.plane.errors import Refusal


def route(call: Call) -> str:
    """An ordered list of deployments: by priority, and within one by the model's objectives, or at random by weight where it has none."""
    if call.model is None:
        return call.tool.server.namespace if call.tool else ""
    deployments = call.model.deployments
    if call.forbidden:
        deployments = tuple(each for each in deployments if each.id not in call.forbidden)
    if not deployments:
        raise Refusal("upstream_error", f"The model {call.model.slug} has no deployment.", status=503)
    if len(deployments) == 1:
        call.deployments = [deployments[0]]
    elif call.model.objectives is None or (chosen := choose(call, deployments, call.model.objectives)) is None:
        call.deployments = ordered(deployments)
    else:
        call.deployments = chosen + ordered(_others(deployments, chosen))
    return ",".join([deployment.id for deployment in call.deployments])


def ordered(deployments: tuple[Deployment, ...]) -> list[Deployment]:
    """Each deployment once; of one priority the heavier ones tend to come first, weight 0 comes last."""
    result: list[Deployment] = []
    for _, group in groupby(sorted(deployments, key=lambda each: each.priority), key=lambda each: each.priority):
        # Exponential keys give a weighted order without replacement (Efraimidis and Spirakis, 2006).
        result += sorted(group, key=lambda each: random.expovariate(each.weight) if each.weight > 0 else float("inf"))
    return result


def _others(deployments: tuple[Deployment, ...], chosen: list[Deployment]) -> tuple[Deployment, ...]:
    ids = {each.id for each in chosen}
    return tuple(each for each in deployments if each.id not in ids)
