"""Prompts: the list, one with its versions and labels, writing, comparing, approving."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import flows, prompt_selectors, prompt_texts
from catalog.forms.prompts import PromptForm, PromptLabelForm, PromptRejectForm, PromptVersionForm
from catalog.hooks import cost_figures
from catalog.models import Prompt, PromptVersion
from catalog.services import prompts as services
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_act, try_form, try_service
from governance.requests import MemberRequest

SHOWN_VERSIONS = 50


def _find(slug: str) -> Prompt:
    return get_object_or_404(prompt_selectors.all_prompts(), slug=slug)


def _version(prompt: Prompt, number: str | int) -> PromptVersion:
    text = str(number)
    wanted = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    return get_object_or_404(prompt_selectors.versions_of(prompt), number=wanted)


def _texts(version: PromptVersion) -> str:
    return prompt_texts.as_text(version.content, version.model, version.parameters)


@requires(Permission.VIEW)
def prompt_list(request: MemberRequest) -> HttpResponse:
    query, archived = request.GET.get("q", "").strip(), request.GET.get("archived") == "1"
    page = keyset_page(prompt_selectors.prompts(query, archived=archived), order=["slug"], cursor=request.GET.get("cursor", ""))
    return render_page(
        request,
        "catalog/prompt_list.html",
        partial="prompt-table",
        context={"page": page, "query": query, "archived": archived, "waiting": prompt_selectors.submitted_versions()[:10]},
    )


@requires(Permission.USE_GATEWAY, "GET", "POST")
def prompt_new(request: MemberRequest) -> HttpResponse:
    form = PromptForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = try_service(form, lambda: services.create_prompt(actor=request.user, **form.cleaned_data))
        if made is not None:
            return redirect(reverse("prompt-detail", args=[made.slug]))
    return _form(request, form, None)


@requires(Permission.USE_GATEWAY, "GET", "POST")
def prompt_version_new(request: MemberRequest, slug: str) -> HttpResponse:
    prompt = _find(slug)
    newest = prompt_selectors.versions_of(prompt)[0]
    content = newest.content
    text = (
        prompt_texts.format_messages(content["messages"])
        if "messages" in content
        else json.dumps(content["flow"], indent=2, ensure_ascii=False)
    )
    initial = {"content": text, "model": newest.model, "parameters": newest.parameters}
    form = PromptVersionForm(request.POST or None, initial=initial, kind=prompt.kind)
    if request.method == "POST" and form.is_valid():
        made = try_service(form, lambda: services.write_version(prompt=prompt, actor=request.user, **form.cleaned_data))
        if made is not None:
            if made.number == newest.number:
                messages.info(request, f"That is what version {newest.number} says: nothing was written.")
            return redirect(reverse("prompt-detail", args=[slug]))
    return _form(request, form, prompt)


def _form(request: MemberRequest, form: PromptVersionForm, prompt: Prompt | None) -> HttpResponse:
    return render_page(
        request,
        "catalog/prompt_form.html",
        partial="prompt-form",
        status=422 if form.errors else 200,
        context={"form": form, "prompt": prompt},
    )


@requires(Permission.VIEW)
def prompt_detail(request: MemberRequest, slug: str) -> HttpResponse:
    prompt = _find(slug)
    versions = list(prompt_selectors.versions_of(prompt)[: SHOWN_VERSIONS + 1])
    chosen = _version(prompt, request.GET["version"]) if "version" in request.GET else versions[0]
    served = prompt_selectors.version_served(chosen)
    is_open = chosen.status != PromptVersion.Status.APPROVED and prompt.archived_at is None
    sees_costs = prompt.kind == Prompt.Kind.CHAT and request.membership.can(Permission.VIEW_COSTS)
    return render_page(
        request,
        "catalog/prompt_detail.html",
        context={
            "prompt": prompt,
            "versions": versions[:SHOWN_VERSIONS],
            "is_cut": len(versions) > SHOWN_VERSIONS,
            "chosen": chosen,
            "text": _texts(chosen),
            "variables": prompt_texts.variables_of(chosen.content),
            "unmet": prompt_selectors.unmet_references(chosen) if is_open else [],
            "asked": prompt_selectors.asked_of(chosen) if is_open else [],
            "served": served,
            "call": _sample(prompt, served) if served and prompt.kind == Prompt.Kind.CHAT else "",
            "read": _reading(prompt, served) if served else "",
            "is_of_schema": prompt.kind == Prompt.Kind.CHAT or flows.is_of_schema(chosen.content["flow"]),
            "usage": cost_figures().usage_by_prompt_version(slug) if sees_costs else [],
            "sees_costs": sees_costs,
            "may_write": request.membership.can(Permission.USE_GATEWAY),
            "may_decide": request.membership.can(Permission.MANAGE_CATALOG),
            "is_author": chosen.author_id == request.user.pk,
        },
    )


def _sample(prompt: Prompt, version: PromptVersion) -> str:
    """The body of a call that asks for it."""
    asked: dict[str, Any] = {"id": prompt.slug, "version": _label(prompt, version) or str(version.number)}
    variables = prompt_texts.variables_of(version.content)
    if variables:
        asked["variables"] = dict.fromkeys(variables, "…")
    body = {"prompt": asked} if version.model else {"model": "…", "prompt": asked}
    return json.dumps(body, indent=2, ensure_ascii=False)


def _reading(prompt: Prompt, version: PromptVersion) -> str:
    """The command that reads it through the gateway."""
    wanted = f"label={_label(prompt, version)}" if _label(prompt, version) else f"version={version.number}"
    return f"curl {settings.BASE_URL}/v1/prompts/{prompt.slug}?{wanted} -H 'Authorization: Bearer …'"


def _label(prompt: Prompt, version: PromptVersion) -> str:
    """One that it has; empty when it has none."""
    return next((label.name for label in prompt.labels.all() if label.version_id == version.pk), "")


@requires(Permission.VIEW)
def prompt_diff(request: MemberRequest, slug: str) -> HttpResponse:
    """Two versions side by side; by default the newest and the one before."""
    prompt = _find(slug)
    numbers = list(prompt.versions.values_list("number", flat=True)[:200])
    after = _version(prompt, request.GET.get("after") or numbers[0])
    before = _version(prompt, request.GET.get("before") or max(1, after.number - 1))
    return render_page(
        request,
        "catalog/prompt_diff.html",
        partial="prompt-diff",
        context={
            "prompt": prompt,
            "before": before,
            "after": after,
            "rows": prompt_texts.side_by_side(_texts(before), _texts(after)),
            "is_same": before.digest == after.digest,
            "numbers": {str(number): f"Version {number}" for number in numbers},
        },
    )


def _act(request: MemberRequest, slug: str, act: Callable[[], Any], done: str) -> HttpResponse:
    """Do it, say what came of it, and show the prompt again."""
    try_act(request, act, done)
    return redirect(reverse("prompt-detail", args=[slug]))


@requires(Permission.USE_GATEWAY, "POST")
def prompt_submit(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    version = _version(_find(slug), number)
    done = f"Version {number} waits for approval by somebody else."
    return _act(request, slug, lambda: services.submit_version(version=version, actor=request.user), done)


@requires(Permission.MANAGE_CATALOG, "POST")
def prompt_decide(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    version = _version(_find(slug), number)
    if request.POST.get("act") == "reject":
        form = PromptRejectForm(request.POST)
        try_form(
            request,
            form,
            lambda given: services.reject_version(version=version, actor=request.user, **given),
            f"Version {number} is a draft again.",
        )
        return redirect(reverse("prompt-detail", args=[slug]))
    return _act(request, slug, lambda: services.approve_version(version=version, actor=request.user), f"Version {number} is approved.")


@requires(Permission.MANAGE_CATALOG, "POST")
def prompt_label(request: MemberRequest, slug: str) -> HttpResponse:
    prompt, form = _find(slug), PromptLabelForm(request.POST)
    if not form.is_valid():
        messages.error(request, " ".join(str(error) for errors in form.errors.values() for error in errors))
        return redirect(reverse("prompt-detail", args=[slug]))
    name, version = form.cleaned_data["name"], _version(prompt, form.cleaned_data["version"])
    done = f"{name} is version {version.number}; calls get it within about 2 s."
    return _act(request, slug, lambda: services.set_label(prompt=prompt, name=name, version=version, actor=request.user), done)


@requires(Permission.MANAGE_CATALOG, "POST")
def prompt_label_remove(request: MemberRequest, slug: str, name: str) -> HttpResponse:
    label = get_object_or_404(_find(slug).labels.select_related("prompt", "version"), name=name)
    return _act(request, slug, lambda: services.remove_label(label=label, actor=request.user), f"{name} is removed.")


@requires(Permission.MANAGE_CATALOG, "POST")
def prompt_archive(request: MemberRequest, slug: str) -> HttpResponse:
    prompt = _find(slug)
    if prompt.archived_at is None:
        return _act(request, slug, lambda: services.archive_prompt(prompt=prompt, actor=request.user), f"{slug} is archived.")
    return _act(request, slug, lambda: services.restore_prompt(prompt=prompt, actor=request.user), f"{slug} is in use again.")
