"""Prompts: written version by version, approved by somebody else, and moved into use by labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog import flows, prompt_selectors, prompt_texts
from catalog.errors import (
    InvalidValueError,
    NameTakenError,
    ReferenceGoneError,
    SelfApprovalError,
    TooMuchServedError,
    WrongStatusError,
)
from catalog.hooks import approval_checks
from catalog.models import Model, Prompt, PromptLabel, PromptVersion
from catalog.models.prompt import label_validator
from governance import config
from governance.models import User
from governance.services import audit

Status = PromptVersion.Status


@transaction.atomic
def create_prompt(
    *,
    slug: str,
    name: str,
    actor: User,
    description: str = "",
    kind: str = Prompt.Kind.CHAT,
    messages: Sequence[Mapping[str, str]] | None = None,
    flow: Mapping[str, Any] | None = None,
    model: str = "",
    parameters: Mapping[str, Any] | None = None,
    note: str = "",
) -> Prompt:
    """A prompt with its first version, a draft. Audited. Raises NameTakenError or InvalidValueError (with its field)."""
    prompt = Prompt(slug=slug, name=name, description=description, kind=kind, owner=actor)
    try:
        with transaction.atomic():
            prompt.save(force_insert=True)
    except IntegrityError as error:
        raise NameTakenError(f"There is a prompt {slug} already.", field="slug") from error
    audit.record("prompt.created", actor=actor, target=prompt, kind=kind)
    write_version(prompt=prompt, actor=actor, messages=messages, flow=flow, model=model, parameters=parameters, note=note)
    return prompt


@transaction.atomic
def describe_prompt(*, prompt: Prompt, name: str, description: str, actor: User) -> Prompt:
    """Change what is said about it. Audited."""
    prompt = _locked(prompt)
    if (prompt.name, prompt.description) != (name, description):
        prompt.name, prompt.description = name, description
        prompt.save(update_fields=["name", "description"])
        audit.record("prompt.described", actor=actor, target=prompt, name=name, description=description)
    return prompt


@transaction.atomic
def write_version(
    *,
    prompt: Prompt,
    actor: User,
    messages: Sequence[Mapping[str, str]] | None = None,
    flow: Mapping[str, Any] | None = None,
    model: str = "",
    parameters: Mapping[str, Any] | None = None,
    note: str = "",
) -> PromptVersion:
    """A new draft; what is in use stays in use. The same as the newest one changes nothing and returns that one. Audited.

    `messages` of a prompt, `flow` of a flow. Raises InvalidValueError (with its field) or WrongStatusError (archived).
    """
    prompt = _locked(prompt)
    _check_live(prompt)
    if prompt.kind == Prompt.Kind.CHAT:
        if flow is not None or messages is None:
            raise InvalidValueError("A prompt has messages.", field="messages")
        content: dict[str, Any] = {"messages": prompt_texts.checked_messages(messages)}
    else:
        if messages is not None or flow is None:
            raise InvalidValueError("A flow has a configuration.", field="flow")
        content = {"flow": flows.checked_flow(flow)}
        flows.refuse(prompt_selectors.unknown_references(flow))
    checked = prompt_texts.checked_parameters(parameters or {})
    if model and not Model.objects.filter(slug=model).exclude(status=Model.Status.RETIRED).exists():
        raise InvalidValueError(f"There is no model {model}.", field="model")
    newest = prompt.versions.first()
    digest = prompt_texts.digest(content, model, checked)
    if newest is not None and newest.digest == digest:
        return newest
    version = PromptVersion.objects.create(
        prompt=prompt,
        number=newest.number + 1 if newest else 1,
        content=content,
        model=model,
        parameters=checked,
        digest=digest,
        note=note,
        author=actor,
    )
    audit.record("prompt.version_written", actor=actor, target=prompt, version=version.number, digest=digest, note=note)
    return version


@transaction.atomic
def submit_version(*, version: PromptVersion, actor: User) -> PromptVersion:
    """Ask for approval. Audited. Raises WrongStatusError unless it is a draft."""
    return _move(version, (Status.DRAFT,), Status.SUBMITTED, "prompt.version_submitted", actor)


@transaction.atomic
def reject_version(*, version: PromptVersion, actor: User, reason: str = "") -> PromptVersion:
    """Back to a draft. Audited with the reason. Raises WrongStatusError unless it is submitted."""
    return _move(version, (Status.SUBMITTED,), Status.DRAFT, "prompt.version_rejected", actor, reason=reason)


@transaction.atomic
def approve_version(*, version: PromptVersion, actor: User, at: datetime | None = None) -> PromptVersion:
    """From now on it may be asked for and labelled; that never ends while the prompt is not archived. Audited; tells the gateway.

    Raises SelfApprovalError (the actor wrote it), WrongStatusError unless it is submitted, ReferenceGoneError (it names what is not served),
    InvalidValueError (a flow from before its schema), TooMuchServedError, or what the floor above asks for: evaluations that pass the
    thresholds of the class of each model that it names.
    """
    if version.author_id == actor.pk:
        raise SelfApprovalError("Somebody else approves what you wrote.")
    moved = _move(version, (Status.SUBMITTED,), Status.APPROVED, "prompt.version_approved", actor)
    moved.decided_by, moved.decided_at = actor, at or timezone.now()
    moved.save(update_fields=["decided_by", "decided_at"])
    _check_size()
    if moved.prompt.kind == Prompt.Kind.FLOW:
        flows.checked_flow(moved.content["flow"])
    unmet = prompt_selectors.unmet_references(moved)
    if unmet:
        raise ReferenceGoneError(f"{moved} can't be approved: {' '.join(unmet[: flows.MOST_SAID])}")
    for model in prompt_selectors.models_named(moved):
        approval_checks().check_prompt(str(moved), model.slug, model.feature_class)
    config.changed()
    return moved


ACTS = {"submit": submit_version, "approve": approve_version, "reject": reject_version}


@transaction.atomic
def set_label(*, prompt: Prompt, name: str, version: PromptVersion, actor: User, at: datetime | None = None) -> PromptLabel:
    """Point a label at an approved version; calls get it within seconds. Idempotent. Audited with where it was; tells the gateway.

    Raises WrongStatusError (not approved, archived), InvalidValueError (the name can't be a label) or TooMuchServedError (an old version that
    would be served again).
    """
    prompt = _locked(prompt)
    _check_live(prompt)
    try:
        label_validator(name)
    except ValidationError as error:
        raise InvalidValueError(str(error.message), field="name") from error
    version = prompt.versions.get(pk=version.pk)
    if version.status != Status.APPROVED:
        raise WrongStatusError(f"Version {version.number} is {version.status}. Only an approved version gets a label.")
    label = prompt.labels.select_related("version").filter(name=name).first()
    if label is not None and label.version == version:
        return label
    before, was_served = label.version.number if label else None, prompt_selectors.is_served(version)
    label = label or PromptLabel(prompt=prompt, name=name)
    label.version, label.moved_by, label.moved_at = version, actor, at or timezone.now()
    label.save()
    if not was_served:
        _check_size()
    audit.record("prompt.label_moved", actor=actor, target=prompt, label=name, before=before, after=version.number)
    config.changed()
    return label


@transaction.atomic
def remove_label(*, label: PromptLabel, actor: User) -> None:
    """Calls that ask for it are refused within seconds. Idempotent. Audited; tells the gateway.

    Raises WrongStatusError (archived, or the label has been moved since it was read as `label`).
    """
    prompt = _locked(label.prompt)
    _check_live(prompt)
    present = prompt.labels.select_related("version").filter(name=label.name).first()
    if present is None:
        return
    if present.version_id != label.version_id:
        raise WrongStatusError(f"{label.name} has been moved to version {present.version.number}. Look again before you remove it.")
    present.delete()
    audit.record("prompt.label_removed", actor=actor, target=prompt, label=label.name, before=present.version.number)
    config.changed()


@transaction.atomic
def archive_prompt(*, prompt: Prompt, actor: User, at: datetime | None = None) -> Prompt:
    """The gateway serves none of its versions any more; they, and the labels, stay. Idempotent. Audited; tells the gateway."""
    prompt = _locked(prompt)
    if prompt.archived_at is None:
        prompt.archived_at = at or timezone.now()
        prompt.save(update_fields=["archived_at"])
        audit.record("prompt.archived", actor=actor, target=prompt)
        config.changed()
    return prompt


@transaction.atomic
def restore_prompt(*, prompt: Prompt, actor: User) -> Prompt:
    """Take it out of the archive: what was approved is served again. Idempotent. Audited; tells the gateway. Raises TooMuchServedError."""
    prompt = _locked(prompt)
    if prompt.archived_at is not None:
        prompt.archived_at = None
        prompt.save(update_fields=["archived_at"])
        _check_size()
        audit.record("prompt.restored", actor=actor, target=prompt)
        config.changed()
    return prompt


def _move(version: PromptVersion, sources: tuple[Status, ...], target: Status, event: str, actor: User, reason: str = "") -> PromptVersion:
    _check_live(_locked(version.prompt))
    version = PromptVersion.objects.select_related("prompt", "author").get(pk=version.pk)
    if version.status not in sources:
        raise WrongStatusError(f"Version {version.number} is {version.status}; it must be {' or '.join(sources)}.")
    version.status = target
    version.save(update_fields=["status"])
    audit.record(event, actor=actor, target=version.prompt, version=version.number, digest=version.digest, reason=reason)
    return version


def _check_size() -> None:
    size, most = prompt_selectors.served_characters(), prompt_selectors.MOST_SERVED_CHARACTERS
    if size > most:
        raise TooMuchServedError(
            f"The gateway would serve {size:,} characters of prompts; {most:,} is the most. Archive prompts that nobody uses."
        )


def _locked(prompt: Prompt) -> Prompt:
    return Prompt.objects.select_for_update().get(pk=prompt.pk)


def _check_live(prompt: Prompt) -> None:
    if prompt.archived_at is not None:
        raise WrongStatusError(f"{prompt.slug} is archived. Restore it first.")
