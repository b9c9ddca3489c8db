"""Policies: what they say, what they would have refused, and what they refuse."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from gateway.contract import policies as language
from governance import control_selectors as selectors
from governance.access import Permission, or_404, requires
from governance.control_forms import DescribeForm, ModeForm, PolicyForm, VersionForm
from governance.errors import PolicyError
from governance.models import Policy, PolicyVersion
from governance.pages import keyset_page, render_page, try_form, try_service
from governance.requests import MemberRequest
from governance.services import policies


@requires(Permission.VIEW_OPERATE)
def policy_list(request: MemberRequest) -> HttpResponse:
    figures, coverage = selectors.policy_figures()
    query, mode = request.GET.get("q", "").strip(), request.GET.get("mode", "")
    mode = mode if mode in Policy.Mode.values else ""
    page = keyset_page(selectors.policies(mode=mode, query=query), order=["namespace", "name", "pk"], cursor=request.GET.get("cursor", ""))
    names = {str(policy) for policy in Policy.objects.only("namespace", "name")}
    counted = [row for name, row in figures.items() if name in names]
    context = {
        "page": page,
        "rows": [(policy, figures.get(str(policy), selectors.PolicyFigures())) for policy in page.rows],
        "query": query,
        "mode": mode,
        "modes": {"": "any", **dict(Policy.Mode.choices)},
        "exist": bool(names),
        "coverage": coverage,
        "denied": sum(row.denied + row.errors for row in counted),
        "would_deny": sum(row.would_deny for row in counted),
        "may_change": _may_change(request),
    }
    return render_page(request, "governance/policies.html", partial="policy-table", context=context)


@requires(Permission.MANAGE_POLICIES, "GET", "POST")
def new_policy(request: MemberRequest) -> HttpResponse:
    form, status = PolicyForm(request.POST or None), 200
    if request.method == "POST":
        status = 422
        made = try_service(form, lambda: policies.create_policy(actor=request.user, **form.cleaned_data)) if form.is_valid() else None
        if made is not None:
            messages.success(request, f"{made} is written and off. Replay it, then try it dry.")
            return redirect(_url(made))
    context = {"form": form, "policy": None, "attributes": language.ATTRIBUTES}
    return render_page(request, "governance/policy_form.html", partial="policy-form", context=context, status=status)


@requires(Permission.VIEW_OPERATE)
def policy_detail(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    return _detail(request, _policy(namespace, name))


def _detail(request: MemberRequest, policy: Policy, *, mode_form: ModeForm | None = None, status: int = 200) -> HttpResponse:
    versions = list(selectors.versions_of(policy))
    newest = versions[0]
    figures, _ = selectors.policy_figures()
    older: list[PolicyVersion | None] = [*versions[1:], None]
    context: dict[str, Any] = {
        "policy": policy,
        "newest": newest,
        "active": next((version for version in versions if version.pk == policy.active_id), None),
        "versions": [(version, selectors.difference(before, version)) for version, before in zip(versions, older, strict=True)],
        "figures": figures.get(str(policy), selectors.PolicyFigures()),
        "may_change": _may_change(request),
        "is_author": newest.author_id == request.user.pk,
        "mode_form": mode_form or ModeForm(),
        "describe_form": DescribeForm(initial={"description": policy.description, "is_critical": policy.is_critical}),
    }
    return render_page(request, "governance/policy_detail.html", context=context, status=status)


@requires(Permission.MANAGE_POLICIES, "GET", "POST")
def edit_policy(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    policy = _policy(namespace, name)
    newest = policy.versions.first()
    assert newest is not None
    form, status = VersionForm(request.POST or None, initial={"when": newest.when, "require": newest.require, "reason": newest.reason}), 200
    if request.method == "POST":
        status = 422
        made = (
            try_service(form, lambda: policies.write_version(policy=policy, actor=request.user, **form.cleaned_data))
            if form.is_valid()
            else None
        )
        if made is not None:
            messages.success(
                request,
                f"Version {made.number} is written. Version {policy.active.number} stays in force."
                if policy.active
                else f"Version {made.number} is written.",
            )
            return redirect(_url(policy))
    context = {"form": form, "policy": policy, "attributes": language.ATTRIBUTES}
    return render_page(request, "governance/policy_form.html", partial="policy-form", context=context, status=status)


@requires(Permission.MANAGE_POLICIES, "POST")
def describe_policy(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    policy, form = _policy(namespace, name), DescribeForm(request.POST)
    try_form(request, form, lambda data: policies.describe_policy(policy=policy, actor=request.user, **data), f"{policy} is changed.")
    return redirect(_url(policy))


@requires(Permission.MANAGE_POLICIES, "POST")
def replay_policy(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    policy = _policy(namespace, name)
    newest = selectors.versions_of(policy).first()
    assert newest is not None
    outcome = policies.replay_version(version=newest, actor=request.user)
    messages.success(request, f"Version {newest.number} was played over {outcome.calls:,} calls: {outcome.refused:,} would be refused.")
    return redirect(_url(policy))


@requires(Permission.MANAGE_POLICIES, "POST")
def set_mode(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    policy, form = _policy(namespace, name), ModeForm(request.POST)
    if form.is_valid():
        version = or_404(selectors.versions_of(policy).filter(number=form.cleaned_data["version"]).first())
        done = try_service(
            form,
            lambda: policies.set_mode(
                policy=policy, mode=form.cleaned_data["mode"], version=version, actor=request.user, reason=form.cleaned_data["reason"]
            ),
        )
        if done is not None:
            messages.success(request, f"{policy}: {done.get_mode_display().lower()}. The gateway has it within seconds.")
            return redirect(_url(policy))
    return _detail(request, policy, mode_form=form, status=422)


@requires(Permission.MANAGE_POLICIES, "POST")
def delete_policy(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    policy = _policy(namespace, name)
    try:
        policies.delete_policy(policy=policy, actor=request.user)
    except PolicyError as error:
        messages.error(request, error.message)
        return redirect(_url(policy))
    messages.success(request, f"{policy} is removed.")
    return redirect(reverse("policies"))


@requires(Permission.MANAGE_POLICIES, "POST")
def lint(request: MemberRequest) -> HttpResponse:
    """What the linter says of an expression while it is typed. Always a fragment."""
    field = "require" if "require" in request.GET else "when"
    error = ""
    try:
        language.lint(request.POST.get(field, ""))
    except language.PolicyError as found:
        error = str(found)
    return render_page(request, "governance/partials/lint.html", context={"field": field, "error": error})


def _policy(namespace: str, name: str) -> Policy:
    return or_404(selectors.policies().filter(namespace=namespace, name=name).first())


def _url(policy: Policy) -> str:
    return reverse("policy-detail", args=[policy.namespace, policy.name])


def _may_change(request: MemberRequest) -> bool:
    return request.membership.can(Permission.MANAGE_POLICIES)
