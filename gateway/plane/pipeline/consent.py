from __future__ import annotations

from gateway.contract.events import Kind
from gateway.contract.names import PLATFORM
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.served import Served


def consent(call: Call) -> str:
    """Nobody has switched the pillar off, and the tenant must have agreed to the feature class of what is called. What is not known here is refused by `authorize`."""
    assert call.served is not None
    check_switches(call.plane.snapshots.current(PLATFORM), call.served, call.kind)
    subject = call.model or (call.tool.server if call.tool else None)
    if subject is None:
        return "nothing known by that name"
    check_consent(call.served, subject.feature_class)
    return subject.feature_class


def check_switches(platform: Served | None, served: Served, kind: Kind) -> None:
    """Refusal when the pillar of a call is switched off, by the operator for everybody or by the organisation."""
    pillar = "tools" if kind == "tool" else "models"
    for scope, holder in (("platform", platform), ("tenant", served)):
        reason = holder.snapshot.switched_off.get(pillar) if holder is not None else None
        if reason is not None:
            raise Refusal("switched_off", reason, scope=f"{scope}:{pillar}")


def check_consent(served: Served, feature_class: str) -> None:
    """Refusal when the tenant has not agreed to a feature class; no class needs no consent, no record is no consent."""
    if not feature_class:
        return
    given = served.snapshot.consents.get(feature_class)
    if given is None:
        raise Refusal("consent_withdrawn", f"The organisation has given no consent to {feature_class}.", scope=feature_class)
    if not given.granted:
        raise Refusal("consent_withdrawn", given.reason or f"Consent to {feature_class} was withdrawn.", scope=feature_class)
