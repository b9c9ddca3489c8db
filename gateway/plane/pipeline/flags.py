from __future__ import annotations

from typing import Any

from gateway.contract.flags import Flag, decide
from gateway.contract.snapshot import Model
from gateway.contract.tags import MOST_TAGS
from gateway.contract.treatments import Comparison, Treatment
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.pipeline.consent import check_consent
from gateway.plane.served import Served
from gateway.plane.treatments import apply_treatment, why_not_applied, why_outside
from gateway.plane.usage import asked_output, estimate_input

LONGEST_SUBJECT = 200


def flags(call: Call) -> str:
    """A flag that binds the model which the call names says what is done to it, before anything is looked up about that model: which model
    serves it, with which version of its prompt, and with which parameters."""
    served = call.served
    assert served is not None
    found = served.bound_flags.get(call.name or "") if served.bound_flags and call.kind != "tool" else None
    if found is None:
        return ""
    flag, compared = found
    outside = why_outside(call, compared)
    if outside:
        _bind(call, served, _model_of(call, compared.treatments[flag.control]))
        return f"{flag.key} {flag.version}: takes no part, {outside}."
    decision = decide(flag, _context(call, served), has_consent(served, flag.feature_class))
    variant, detail = decision.variant, decision.detail
    uncounted = _why_not_counted(call, served, flag, compared) if decision.bucket is not None else ""
    problem = _treat(call, served, compared.treatments[variant], is_forced=variant == flag.control)
    if problem:
        detail = f"{variant} is not served: {problem}"
        if variant != flag.control:
            # A flag never takes a working call away from somebody, nor gives a key more than it may do.
            variant = flag.control
            _treat(call, served, compared.treatments[variant], is_forced=True)
    elif uncounted:
        detail = f"It counts in no arm: {uncounted}"
    if len(call.tags) < MOST_TAGS:
        call.tags = {**call.tags, f"flag.{flag.key}": variant}
    return f"{flag.key} {flag.version}: {variant} by {decision.rule}. {detail}"


def _why_not_counted(call: Call, served: Served, flag: Flag, compared: Comparison) -> str:
    """Why the call could not have one of the variants between which buckets decide, whichever it got; empty when it could have each.

    Asked of all of them: were it asked of the call's own alone, an arm would hold only such calls as fit it, and the others all calls.
    """
    for variant in (flag.control, *(arm.variant for arm in flag.exposure.ranges)):
        treatment = compared.treatments[variant]
        problem = _why_not(call, served, _model_of(call, treatment)) or why_not_applied(call, treatment)
        if problem:
            return f"{variant} could not be served, {problem}"
    return ""


def _model_of(call: Call, treatment: Treatment) -> str:
    return treatment.model or call.name or ""


def _treat(call: Call, served: Served, treatment: Treatment, *, is_forced: bool) -> str:
    """Do what the treatment says. Why it can't be, and then nothing is done; `is_forced`: its model is bound in any case."""
    slug = _model_of(call, treatment)
    if not is_forced and (problem := _why_not(call, served, slug)):
        return problem
    problem = why_not_applied(call, treatment)
    if problem and not is_forced:
        return problem
    _bind(call, served, slug)
    if not problem:
        apply_treatment(call, treatment)
    return problem


def has_consent(served: Served, feature_class: str) -> bool:
    given = served.snapshot.consents.get(feature_class)
    return given is not None and given.granted


def known_facts(call: Call, served: Served) -> dict[str, Any]:
    """What the credential proves; nothing that a caller writes can replace it."""
    key, project = call.key, call.project
    assert key is not None
    facts: dict[str, Any] = {"tenant": served.snapshot.slug, **served.snapshot.facts, "project": key.project, "key": key.id}
    facts["environment"] = project.environment if project else ""
    return facts


def _context(call: Call, served: Served) -> dict[str, Any]:
    context: dict[str, Any] = {**call.tags, "agent": call.agent, **known_facts(call, served)}
    user = call.body.get("user")
    if user is None and isinstance(metadata := call.body.get("metadata"), dict):
        user = metadata.get("user_id")  # as the messages surface has it
    context["user"] = user if isinstance(user, str) and len(user) <= LONGEST_SUBJECT else None
    return context


def _why_not(call: Call, served: Served, slug: Any) -> str:
    """Why this model can't serve the call; empty when it can."""
    model = served.snapshot.models.get(slug)
    key = call.key
    assert key is not None
    if model is None:
        return f"there is no model {slug}"
    if key.models is not None and model.slug not in key.models:
        return f"the key may not call {slug}"
    if call.kind not in model.capabilities:
        return f"{slug} does no {call.kind}"
    try:
        check_consent(served, model.feature_class)
    except Refusal as refusal:
        return refusal.message
    return ""


def _bind(call: Call, served: Served, slug: Any) -> None:
    """From here on the call is one to that model: its price, its limits and its policies hold. Refusal without consent to it."""
    model: Model | None = served.snapshot.models.get(slug)
    if model is not None:
        check_consent(served, model.feature_class)
    if model is call.model or model is None:
        return
    before = call.model
    if before is None or before.context_window is None or call.input_estimate < before.context_window:
        window = model.context_window
        call.input_estimate = min(call.input_estimate, window) if window else call.input_estimate
    else:  # it was cut to what the other model can take in, which says nothing about this one
        call.input_estimate = estimate_input(call.body_bytes, model.context_window)
    if call.kind == "chat":
        call.output_estimate = asked_output(call.body, call.surface, model.max_output_tokens)
    call.name, call.model = model.slug, model
