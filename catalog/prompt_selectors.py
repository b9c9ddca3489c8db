"""What may be seen of prompts, and what of them the gateway serves."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from django.db.models import F, Max, Prefetch, Q, QuerySet, TextField, Window
from django.db.models.functions import Cast, Length, RowNumber

from catalog import flows
from catalog.errors import InvalidValueError
from catalog.hooks import Asked, approval_checks, named_versions
from catalog.models import Model, Prompt, PromptLabel, PromptVersion, Tool
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
    version = _approved().filter(prompt__slug=slug, prompt__kind=Prompt.Kind.CHAT, number=number).first()
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
    """Whether the gateway has an approved version of a prompt or flow that is in use."""
    newer = _approved().filter(prompt=version.prompt, number__gt=version.number)
    return newer.count() < MOST_SERVED or version.labels.exists() or str(version) in named_versions()


def version_served(version: PromptVersion) -> PromptVersion | None:
    """What callers get who are shown a version: itself when the gateway serves it, else the one with the label production, else the newest that
    is served. None when callers get nothing of the prompt or flow."""
    served = [
        found
        for found in _served(named_versions(), prompt=version.prompt_id).prefetch_related("labels").order_by("-number")
        if found.prompt.kind == Prompt.Kind.CHAT or flows.is_of_schema(found.content["flow"])
    ]
    if version in served:
        return version
    labelled = (found for found in served if any(label.name == "production" for label in found.labels.all()))
    return next(labelled, served[0] if served else None)


def served_characters() -> int:
    """How long all is that the gateway serves, as JSON."""
    text = Length(Cast("content", TextField())) + Length(Cast("parameters", TextField()))
    return sum(_served(named_versions()).annotate(characters=text).values_list("characters", flat=True))


def served_references() -> list[str]:
    """All that the gateway serves of prompts, as `greeting@3`; by prompt, the newest first."""
    chats = _served(named_versions()).filter(prompt__kind=Prompt.Kind.CHAT)
    return [str(version) for version in chats.order_by("prompt__slug", "-number")]


def _served(named: Collection[str], **of: Any) -> QuerySet[PromptVersion]:
    """`of`: the prompts that are asked about, as a filter; all by default."""
    rank = Window(RowNumber(), partition_by=F("prompt"), order_by=F("number").desc())
    labelled = set(PromptLabel.objects.values_list("version", flat=True))
    newest = _approved().filter(**of).annotate(rank=rank).values_list("pk", "prompt__slug", "number", "rank")
    wanted = [
        pk
        for pk, slug, number, rank in newest
        if rank <= MOST_SERVED or pk in labelled or (named and contract.reference(slug, number) in named)
    ]
    return _approved().filter(pk__in=wanted)


def _approved() -> QuerySet[PromptVersion]:
    return PromptVersion.objects.filter(status=PromptVersion.Status.APPROVED, prompt__archived_at=None).select_related("prompt")


def served_prompts(named: Collection[str]) -> tuple[dict[str, contract.Prompt], dict[str, contract.Flow]]:
    """Prompts and flows with an approved version, as the gateway has them; no versions of flows that the schema refuses, since no key could be
    held to what they name. `named`: `hooks.named_versions`, from a caller who has read the flags anyway."""
    labels: dict[str, dict[str, int]] = {}
    for label in PromptLabel.objects.filter(prompt__archived_at=None).select_related("prompt", "version").order_by("prompt__slug", "name"):
        labels.setdefault(label.prompt.slug, {})[label.name] = label.version.number
    chats: dict[str, dict[int, contract.Version]] = {}
    configured: dict[str, dict[int, contract.FlowVersion]] = {}
    for version in _served(named).order_by("prompt__slug", "number"):
        if version.prompt.kind == Prompt.Kind.FLOW:
            if not flows.is_of_schema(version.content["flow"]):
                continue
            configured.setdefault(version.prompt.slug, {})[version.number] = _contract_flow(version)
        else:
            chats.setdefault(version.prompt.slug, {})[version.number] = _contract(version)
    return (
        {slug: contract.Prompt(labels=labels.get(slug, {}), versions=found) for slug, found in chats.items()},
        {slug: contract.Flow(labels=_labels_of(found, labels.get(slug, {})), versions=found) for slug, found in configured.items()},
    )


def _labels_of(versions: Collection[int], labels: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in labels.items() if number in versions}


def _contract(version: PromptVersion) -> contract.Version:
    return contract.Version(
        number=version.number,
        messages=tuple(contract.Message(message["role"], message["content"]) for message in version.content["messages"]),
        model=version.model,
        parameters=json.dumps(version.parameters),
    )


def _contract_flow(version: PromptVersion) -> contract.FlowVersion:
    flow = version.content["flow"]
    return contract.FlowVersion(
        number=version.number,
        document=json.dumps(flow, ensure_ascii=False),
        model=version.model,
        parameters=json.dumps(version.parameters),
        models=tuple(flows.models_of(flow, version.model)),
        tools=tuple(flows.tools_of(flow)),
    )


# What versions name


def unmet_references(version: PromptVersion) -> list[str]:
    """What keeps it from being approved: models, prompts and tools that it names and that would not serve it."""
    model = [flows.Reference("model", version.model, "model")] if version.model else []
    return _unmet([*model, *flows.references(version.content.get("flow", {}))], to_serve=True)


def unknown_references(flow: Mapping[str, Any]) -> list[str]:
    """What of a configuration that is being written names nothing, or what is gone. A label may be given later."""
    return _unmet(flows.references(flow), to_serve=False)


def _unmet(references: list[flows.Reference], *, to_serve: bool) -> list[str]:
    found = [*_unmet_models(references, to_serve), *_unmet_prompts(references, to_serve), *_unmet_tools(references, to_serve)]
    order = {one: place for place, one in enumerate(references)}
    return [f"{one.path}: {problem}" for one, problem in sorted(found, key=lambda each: order[each[0]])]


_Unmet = Iterator[tuple[flows.Reference, str]]


def _unmet_models(references: list[flows.Reference], to_serve: bool) -> _Unmet:
    wanted = [one for one in references if one.kind == "model"]
    known = dict(Model.objects.filter(slug__in={one.name for one in wanted}).values_list("slug", "status")) if wanted else {}
    for one in wanted:
        if one.name not in known:
            yield one, f"there is no model {one.name}."
        elif known[one.name] == Model.Status.RETIRED:
            yield one, f"the model {one.name} is retired."
        elif to_serve and known[one.name] not in Model.SERVED:
            yield one, f"the model {one.name} is {known[one.name]}, not served."


def _unmet_prompts(references: list[flows.Reference], to_serve: bool) -> _Unmet:
    wanted = [one for one in references if one.kind == "prompt"]
    slugs = {flows.split_prompt(one.name)[0] for one in wanted}
    known = {prompt.slug: prompt for prompt in Prompt.objects.filter(slug__in=slugs).prefetch_related("labels")} if wanted else {}
    numbers: dict[str, dict[int, str]] = {}
    of_known = PromptVersion.objects.filter(prompt__slug__in=slugs).values_list("prompt__slug", "number", "status") if wanted else ()
    for slug, number, status in of_known:
        numbers.setdefault(slug, {})[number] = status
    served: set[str] | None = None
    for one in wanted:
        slug, asked = flows.split_prompt(one.name)
        prompt = known.get(slug)
        if prompt is None:
            yield one, f"there is no prompt {slug}."
        elif prompt.kind == Prompt.Kind.FLOW:
            yield one, f"{slug} is a flow, no prompt."
        elif prompt.archived_at is not None:
            yield one, f"the prompt {slug} is archived."
        elif not asked.isdecimal():
            if to_serve and all(label.name != asked for label in prompt.labels.all()):
                yield one, f"no version of {slug} has the label {asked}."
        elif int(asked) not in numbers.get(slug, {}):
            yield one, f"the prompt {slug} has no version {asked}."
        elif to_serve:
            served = set(served_references()) if served is None else served
            if one.name not in served:
                status = numbers[slug][int(asked)]
                yield one, f"{one.name} is {'not served any more' if status == PromptVersion.Status.APPROVED else status}."


def _unmet_tools(references: list[flows.Reference], to_serve: bool) -> _Unmet:
    wanted = [one for one in references if one.kind == "tool"]
    spaces = {one.name.partition("__")[0] for one in wanted}
    known = {tool.full_name: tool for tool in Tool.objects.filter(server__namespace__in=spaces).select_related("server")} if wanted else {}
    for one in wanted:
        tool = known.get(one.name)
        if tool is None or tool.status == Tool.Status.REMOVED:
            yield one, f"there is no tool {one.name}."
        elif to_serve and not tool.server.is_enabled:
            yield one, f"the tool server {tool.server.namespace} is switched off."
        elif to_serve and tool.status == Tool.Status.SUSPENDED:
            yield one, f"the tool {one.name} is suspended until its new definition is approved."


def models_named(version: PromptVersion) -> list[Model]:
    """Those that calls of the version go to as far as it says: its own model, those of a flow's steps, and those that the prompts of its steps
    name where a step names none. By slug."""
    flow = version.content.get("flow", {})
    slugs, references = set(flows.models_of(flow, version.model)), flows.references(flow)
    steps = {one.path.rpartition(".")[0] for one in references if one.kind == "model"}
    silent = {one.name for one in references if one.kind == "prompt" and one.path.rpartition(".")[0] not in steps}
    for name in silent:
        slug, asked = flows.split_prompt(name)
        of = PromptVersion.objects.filter(prompt__slug=slug)
        named = of.filter(number=int(asked)) if asked.isdecimal() else of.filter(labels__name=asked)
        slugs |= set(named.exclude(model="").values_list("model", flat=True))
    return list(Model.objects.filter(slug__in=slugs).order_by("slug"))


def asked_of(version: PromptVersion) -> list[tuple[Model, list[Asked]]]:
    """What evaluations are asked of it before it is approved, by the model for whose class they are, and how they stand."""
    checks = approval_checks()
    found = [(model, checks.asked_of_prompt(str(version), model.slug, model.feature_class)) for model in models_named(version)]
    return [(model, asked) for model, asked in found if asked]
