"""The steps of a call with the names of its deployments, which the gateway notes by their ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from catalog.models import Deployment
from costs.selectors import Step

_ROUTES = re.compile(r"(?:^|(?<=[\s,])|(?<=chosen:))\d+(?=[:,\s]|$)")
"""In `6,7`, in `6:500 7:200`, in `6:500 → 7` and in `chosen:7 6:0.500(cost:0.50)`."""
_FIRST = re.compile(r"^\d+(?= )")
"""In `6 open, 3 of 20 failed`."""


def named(steps: Sequence[Step]) -> list[Step]:
    """With `provider/upstream model` for each id; a deployment that was removed keeps its id. One query, none without an id."""
    ids = {found for step in steps if (pattern := _pattern(step)) for found in pattern.findall(step.detail)}
    if not ids:
        return list(steps)
    rows = Deployment.objects.filter(pk__in=ids).values_list("pk", "provider__slug", "upstream_model")
    names = {str(pk): f"{provider}/{upstream}" for pk, provider, upstream in rows}
    return [
        replace(step, detail=pattern.sub(lambda found: names.get(found[0], found[0]), step.detail)) if (pattern := _pattern(step)) else step
        for step in steps
    ]


def _pattern(step: Step) -> re.Pattern[str] | None:
    if step.name == "circuit":
        return _FIRST
    return _ROUTES if step.name in ("route", "failover", "call_upstream") or step.name.startswith("route:") else None
