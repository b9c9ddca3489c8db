"""Guardrails: making, changing, removing, and trying them on a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction

from gateway.contract import detectors, presidio
from gateway.contract import snapshot as contract
from gateway.contract.guardrails import Blocked, Guard, Scan
from governance import config
from governance.catalog_names import model_names, project_names
from governance.errors import GuardrailError
from governance.guardrail_watch import guardrails_about_to_change, guardrails_changed
from governance.models import Guardrail, User
from governance.services import audit

MOST_TERMS = 200
MOST_TRIED_CHARACTERS = 20_000
Kind = Guardrail.Kind

FIELDS = (
    "name", "kind", "mode", "action", "scope", "ref", "on_input", "on_output", "entities", "terms", "threshold", "max_characters",
    "engine", "language", "spacy_model", "time_limit_ms", "when_unavailable",
)  # fmt: skip
_OF_PRESIDIO = ("engine", "language", "spacy_model", "entities")
"""What decides whether it can run at all."""
SHORTEST_LIMIT_MS, LONGEST_LIMIT_MS = 50, 10_000


@transaction.atomic
def create_guardrail(*, actor: User, **fields: Any) -> Guardrail:
    """Fields are the model's. Writes one audit entry and tells the gateway. Raises GuardrailError."""
    guardrails_about_to_change()
    guardrail = Guardrail(created_by=actor, **fields)
    _check(guardrail)
    _check_ref(guardrail)
    _check_presidio(guardrail)
    _save(guardrail)
    audit.record("guardrail.created", actor=actor, target=guardrail, **_facts(guardrail))
    guardrails_changed(actor)
    config.changed()
    return guardrail


@transaction.atomic
def change_guardrail(*, guardrail: Guardrail, actor: User, **fields: Any) -> Guardrail:
    """Change any field but the kind. Writes one audit entry with what it was before and tells the gateway. Raises GuardrailError."""
    guardrails_about_to_change()
    guardrail = Guardrail.objects.select_for_update().get(pk=guardrail.pk)
    before = _facts(guardrail)
    for name, value in fields.items():
        if name == "kind" and value != guardrail.kind:
            raise GuardrailError("The kind of a guardrail stays: make another one.", field="kind")
        setattr(guardrail, name, value)
    _check(guardrail)
    after = _facts(guardrail)
    if after == before:
        return guardrail
    if any(
        after[name] != before[name] for name in ("scope", "ref")
    ):  # what it names may be retired since: its mode is changed all the same
        _check_ref(guardrail)
    if any(after[name] != before[name] for name in _OF_PRESIDIO):  # another mode or rule is saved also where it can't run any more
        _check_presidio(guardrail)
    _save(guardrail)
    audit.record("guardrail.changed", actor=actor, target=guardrail, before={n: v for n, v in before.items() if after[n] != v}, **after)
    guardrails_changed(actor)
    config.changed()
    return guardrail


@transaction.atomic
def delete_guardrail(*, guardrail: Guardrail, actor: User) -> None:
    """Remove it. Writes one audit entry and tells the gateway."""
    guardrails_about_to_change()
    audit.record("guardrail.deleted", actor=actor, target=guardrail, **_facts(guardrail))
    guardrail.delete()
    guardrails_changed(actor)
    config.changed()


@dataclass(frozen=True)
class Tried:
    """What a guardrail makes of a text. The text itself is kept nowhere."""

    hits: dict[str, int]
    becomes: str
    """The text as it would go on when the guardrail replaces."""
    blocks: bool


def try_guardrail(*, guardrail: Guardrail, text: str) -> Tried:
    """Run the gateway's own detectors over a text, as if the guardrail were enforced. Nothing is stored or recorded.

    GuardrailError when the text is too long, or Presidio does not answer.
    """
    if len(text) > MOST_TRIED_CHARACTERS:
        raise GuardrailError(f"Up to {MOST_TRIED_CHARACTERS:,} characters can be tried here.", field="text")
    guard = Guard(contract_guardrail(guardrail, enforce=True))
    scan = Scan([guard])
    try:
        becomes = scan.text(text)
        if guard.guardrail.presidio is not None:
            becomes = scan.take(guard, scan.findings[0], becomes, presidio.find_once(guard.guardrail.presidio, becomes))
    except Blocked as blocked:
        return Tried(dict(blocked.finding.counts), text, True)
    except presidio.PresidioError as error:
        raise GuardrailError(str(error), field="text") from error
    return Tried(dict(scan.findings[0].counts), becomes, False)


def contract_guardrail(guardrail: Guardrail, *, enforce: bool) -> contract.Guardrail:
    """A guardrail as the gateway has it."""
    return contract.Guardrail(
        name=guardrail.name,
        kind=guardrail.kind,  # type: ignore[arg-type]  # a choice of the same words
        scope=guardrail.scope,  # type: ignore[arg-type]
        scope_name=guardrail.ref,
        on_input=guardrail.on_input,
        on_output=guardrail.on_output,
        enforce=enforce,
        action=guardrail.action,  # type: ignore[arg-type]
        entities=tuple(guardrail.entities),
        terms=tuple(guardrail.terms),
        threshold=guardrail.threshold,
        max_characters=guardrail.max_characters,
        presidio=_presidio(guardrail) if guardrail.engine == Guardrail.Engine.PRESIDIO else None,
    )


def _presidio(guardrail: Guardrail) -> contract.Presidio:
    return contract.Presidio(
        entities=tuple(guardrail.entities),
        language=guardrail.language,
        threshold=guardrail.threshold,
        spacy_model=guardrail.spacy_model,
        time_limit_ms=guardrail.time_limit_ms,
        may_pass=guardrail.when_unavailable == Guardrail.WhenUnavailable.PASS,
    )


def entities_of(kind: str) -> dict[str, str]:
    """Entity to its name, for a kind that looks for several; of personal data also what only Presidio finds."""
    if kind == Kind.PII:
        return {entity: detectors.ENTITY_NAMES[entity] for entity in detectors.PII} | presidio.OWN
    return {entity: detectors.ENTITY_NAMES[entity] for entity in detectors.SECRETS} if kind == Kind.SECRETS else {}


def looked_for(guardrail: Guardrail) -> list[str]:
    """Names of what it looks for, as it is set."""
    if guardrail.engine == Guardrail.Engine.PRESIDIO:
        asked = presidio.chosen(_presidio(guardrail))
        return [name for entity, name in entities_of(guardrail.kind).items() if entity in asked]
    names = {entity: name for entity, name in entities_of(guardrail.kind).items() if entity not in presidio.OWN}
    return [name for entity, name in names.items() if not guardrail.entities or entity in guardrail.entities]


def _check_ref(guardrail: Guardrail) -> None:
    """What it names must be there. Agents name themselves, so any name may come."""
    known = {Guardrail.Scope.PROJECT: project_names, Guardrail.Scope.MODEL: model_names}.get(Guardrail.Scope(guardrail.scope))
    if known is not None and guardrail.ref not in known():
        raise GuardrailError(f"There is no {guardrail.get_scope_display().lower()} {guardrail.ref}.", field="ref")


def _check(guardrail: Guardrail) -> None:
    guardrail.terms = list(dict.fromkeys(" ".join(term.split()) for term in guardrail.terms if term.strip()))
    guardrail.ref = guardrail.ref.strip()
    if guardrail.scope == Guardrail.Scope.TENANT:
        guardrail.ref = ""
    elif not guardrail.ref:
        raise GuardrailError(f"Name the {guardrail.get_scope_display().lower()}.", field="ref")
    if not (guardrail.on_input or guardrail.on_output):
        raise GuardrailError("Choose what is said, what is answered, or both.", field="on_input")
    unknown = set(guardrail.entities) - set(entities_of(guardrail.kind))
    if unknown:
        raise GuardrailError(f"{guardrail.get_kind_display()} has no {', '.join(sorted(unknown))}.", field="entities")
    if guardrail.engine == Guardrail.Engine.PRESIDIO:
        _check_settings(guardrail)
    elif only := [presidio.OWN[entity] for entity in guardrail.entities if entity in presidio.OWN]:
        raise GuardrailError(f"Only Presidio finds these: {', '.join(only)}.", field="entities")
    if guardrail.action == Guardrail.Action.REDACT and guardrail.kind not in Guardrail.REDACTING:
        raise GuardrailError("Only personal data and secrets can be replaced; the others refuse the call.", field="action")
    if guardrail.kind == Kind.TOPICS and not 0 < len(guardrail.terms) <= MOST_TERMS:
        raise GuardrailError(f"Name 1 to {MOST_TERMS} words or phrases.", field="terms")
    if guardrail.kind == Kind.INJECTION and not 0 < guardrail.threshold <= 1:
        raise GuardrailError("The suspicion is more than 0 and at most 1.", field="threshold")
    if guardrail.kind == Kind.SIZE and not guardrail.max_characters:
        raise GuardrailError("Say how many characters are too many.", field="max_characters")


def _check_settings(guardrail: Guardrail) -> None:
    """What Presidio is asked for must make sense, installed or not."""
    if guardrail.kind != Kind.PII:
        raise GuardrailError("Presidio finds personal data; the other kinds have patterns only.", field="engine")
    if not 0 < guardrail.threshold <= 1:
        raise GuardrailError("The score is more than 0 and at most 1.", field="threshold")
    if not SHORTEST_LIMIT_MS <= guardrail.time_limit_ms <= LONGEST_LIMIT_MS:
        raise GuardrailError(f"The time limit is {SHORTEST_LIMIT_MS} to {LONGEST_LIMIT_MS:,} ms.", field="time_limit_ms")
    untrained = [presidio.OWN[entity] for entity in guardrail.entities if entity in presidio.TRAINED and not guardrail.spacy_model]
    if untrained:
        raise GuardrailError(f"Only a trained model finds these: {', '.join(untrained)}. Name the spaCy model.", field="spacy_model")


def _check_presidio(guardrail: Guardrail) -> None:
    """It must be able to run here: what is saved is also what is tried."""
    if guardrail.engine == Guardrail.Engine.PRESIDIO and (found := presidio.obstacle(_presidio(guardrail))) is not None:
        field, why = found
        raise GuardrailError(why, field=field)


def _save(guardrail: Guardrail) -> None:
    try:
        with transaction.atomic():
            guardrail.save()
    except IntegrityError as error:
        raise GuardrailError(f"There is a guardrail named {guardrail.name} already.", field="name") from error


def _facts(guardrail: Guardrail) -> dict[str, Any]:
    return {name: getattr(guardrail, name) for name in FIELDS if name != "name"} | {"called": guardrail.name}
