"""What may be seen of prompts, and what of them the gateway serves."""

from __future__ import annotations

import json
from collections.abc import Collection

from django.db.models import F, Max, Prefetch, Q, QuerySet, TextField, Window
from django.db.models.functions import Cast, Length, RowNumber

from catalog.errors import InvalidValueError
from catalog.hooks import named_versions
from catalog.models import Prompt, PromptLabel, PromptVersion
from gateway.contract import prompts as contract

MOST_SERVED = 10
"""Of one prompt: its newest approved versions; those with a label, or that a flag names, are served whatever their age."""
MOST_SERVED_CHARACTERS = 10_000_000
"""Of all that the gateway serves to an organisation: it is part of each snapshot, which is made and sent anew at every change."""


def all_prompts() -> QuerySet[Prompt]:
    """Archived ones, too; with the number of the newest version and the labels."""
    labels = Prefetch("labels", PromptLabel.objects.select_related("version").order_by("name"))
    return Prompt.objects.annotate(newest=Max("versions__number")).select_related("owner").prefetch_related(labels).order_by("slug", "pk")


def prompts(query: str = "", *, archived: bool = False) -> QuerySet[Prompt]:
    """Those in use, or those in the archive; `query` is looked for in slug, name and description."""
    found = all_prompts().filter(archived_at__isnull=not archived)
    if query:
        found = found.filter(Q(slug__icontains=query) | Q(name__icontains=query) | Q(description__icontains=query))
    return found


def versions_of(prompt: Prompt) -> QuerySet[PromptVersion]:
    """Newest first, with their labels."""
    return prompt.versions.select_related("author", "decided_by").prefetch_related("labels").order_by("-number")


def submitted_versions() -> QuerySet[PromptVersion]:
    """What waits for somebody's approval, oldest first."""
    waiting = PromptVersion.objects.filter(status=PromptVersion.Status.SUBMITTED, prompt__archived_at=None)
    return waiting.select_related("prompt", "author").order_by("created_at", "pk")


def version_named(reference: str) -> PromptVersion:
    """The approved version that `greeting@3` names: what an experiment has as an arm, and events as their tag `prompt`.

    Raises InvalidValueError when it names none that the gateway would serve.
    """
    try:
        slug, number = contract.parse_reference(reference)
    except contract.PromptError as error:
        raise InvalidValueError(str(error), field="prompt") from error
    version = _approved().filter(prompt__slug=slug, number=number).first()
    if version is None:
        raise InvalidValueError(f"There is no approved version {reference}.", field="prompt")
    if not is_served(version):
        raise InvalidValueError(
            f"{reference} is not served any more: only newer versions, and those that a label or a flag names, are.", field="prompt"
        )
    return version


def newest_versions(limit: int) -> dict[str, str]:
    """Of chat prompts in use: what names the newest version, and the prompt's name; by slug."""
    used = Prompt.objects.filter(archived_at=None, kind=Prompt.Kind.CHAT).annotate(last=Max("versions__number")).order_by("slug")
    return {contract.reference(slug, last): name for slug, last, name in used.values_list("slug", "last", "name")[:limit]}


def version_to_try(reference: str) -> PromptVersion | None:
    """The version of a chat prompt in use that `greeting@3` names, whatever its status; None when there is none."""
    try:
        slug, number = contract.parse_reference(reference)
    except contract.PromptError:
        return None
    found = PromptVersion.objects.filter(prompt__slug=slug, prompt__kind=Prompt.Kind.CHAT, prompt__archived_at=None, number=number)
    return found.select_related("prompt").first()


def is_served(version: PromptVersion) -> bool:
    """Whether the gateway has an approved version of a prompt that is in use."""
    newer = _approved().filter(prompt=version.prompt, number__gt=version.number)
    return newer.count() < MOST_SERVED or version.labels.exists() or str(version) in named_versions()


def served_characters() -> int:
    """How long all is that the gateway serves, as JSON."""
    text = Length(Cast("content", TextField())) + Length(Cast("parameters", TextField()))
    return sum(_served(named_versions()).annotate(characters=text).values_list("characters", flat=True))


def served_references() -> list[str]:
    """All that the gateway serves, as `greeting@3`; by prompt, the newest first."""
    return [str(version) for version in _served(named_versions()).order_by("prompt__slug", "-number")]


def _served(named: Collection[str]) -> QuerySet[PromptVersion]:
    rank = Window(RowNumber(), partition_by=F("prompt"), order_by=F("number").desc())
    labelled = set(PromptLabel.objects.values_list("version", flat=True))
    newest = _approved().annotate(rank=rank).values_list("pk", "prompt__slug", "number", "rank")
    wanted = [
        pk
        for pk, slug, number, rank in newest
        if rank <= MOST_SERVED or pk in labelled or (named and contract.reference(slug, number) in named)
    ]
    return _approved().filter(pk__in=wanted)


def _approved() -> QuerySet[PromptVersion]:
    return PromptVersion.objects.filter(
        status=PromptVersion.Status.APPROVED, prompt__archived_at=None, prompt__kind=Prompt.Kind.CHAT
    ).select_related("prompt")


def served_prompts(named: Collection[str]) -> dict[str, contract.Prompt]:
    """Prompts with an approved version, as the gateway has them. `named`: `hooks.named_versions`, from a caller who has read the flags anyway."""
    labels: dict[str, dict[str, int]] = {}
    for label in PromptLabel.objects.filter(prompt__archived_at=None).select_related("prompt", "version").order_by("prompt__slug", "name"):
        labels.setdefault(label.prompt.slug, {})[label.name] = label.version.number
    versions: dict[str, dict[int, contract.Version]] = {}
    for version in _served(named).order_by("prompt__slug", "number"):
        versions.setdefault(version.prompt.slug, {})[version.number] = _contract(version)
    return {slug: contract.Prompt(labels=labels.get(slug, {}), versions=found) for slug, found in versions.items()}


def _contract(version: PromptVersion) -> contract.Version:
    return contract.Version(
        number=version.number,
        messages=tuple(contract.Message(message["role"], message["content"]) for message in version.content["messages"]),
        model=version.model,
        parameters=json.dumps(version.parameters),
    )
