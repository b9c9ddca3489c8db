"""What was recorded of a single call, for floors below."""

from __future__ import annotations

import re
from collections.abc import Iterable

from django.urls import reverse

from catalog.hooks import CallRecord, Findings
from costs import selectors
from costs.models import Event
from costs.models.event import has_request_id

_FOUND = re.compile(r"([a-z_]{1,24})=([0-9]{1,9})")
"""As the gateway writes it, see `gateway.contract.guardrails.Finding.detail`."""


def call_record(request_id: str, keys: Iterable[str]) -> CallRecord | None:
    """The newest call with that request id by one of these key ids; None while there is none. Callers may choose request ids, so keys must be own."""
    event = Event.objects.filter(has_request_id(request_id), key_id__in=list(keys)).order_by("-started_at", "-event_id").first()
    if event is None:
        return None
    steps = selectors.steps_of(event)
    return CallRecord(
        reverse("request-detail", args=[event.event_id]),
        event.provider,
        event.cost,
        event.usage_source == "cache",
        sum(step.name == "failover" for step in steps),
        [_findings(step) for step in steps if step.name.startswith("guardrail:")],
    )


def _findings(step: selectors.Step) -> Findings:
    direction, _, found = step.detail.partition(" ")
    return Findings(
        step.name.removeprefix("guardrail:"), step.verdict, direction, {entity: int(count) for entity, count in _FOUND.findall(found)}
    )
