"""Tags that calls must carry: what is required, what it would refuse, and who has tagged how much."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils import timezone

from costs import periods, tag_selectors
from costs.forms import RequiredTagForm, TagModeForm, TagRuleForm
from costs.models import RequiredTag
from costs.periods import Period
from costs.services import required_tags as services
from gateway.contract.tags import MOST_CHARACTERS
from governance import csvs
from governance.access import Permission, requires
from governance.pages import render_page, try_act, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def tag_list(request: MemberRequest) -> HttpResponse:
    """All of them (there are a dozen at most), and all that a call must carry by project, key, owner or agent."""
    shortcut, period = _period(request)
    figures = tag_selectors.coverage_by_tag(period)
    context: dict[str, Any] = {
        "rows": [(one, figures.get(one.name, tag_selectors.Coverage())) for one in tag_selectors.required_tags()],
        "total": figures.get(tag_selectors.ALL, tag_selectors.Coverage()),
        "may_change": _may_change(request),
        **_report(request, tag_selectors.ALL, shortcut, period),
    }
    return render_page(request, "costs/required_tags.html", partial="tag-report", context=context)


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def tag_new(request: MemberRequest) -> HttpResponse:
    form, status = RequiredTagForm(request.POST or None), 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            given = form.cleaned_data
            made = try_service(
                form,
                lambda: services.create_required_tag(
                    name=given["name"], rule=form.rule, actor=request.user, description=given["description"], note=given["note"]
                ),
            )
            if made is not None:
                messages.success(request, f"{made} is written and off. Preview it, then have it counted.")
                return redirect(_url(made))
    return render_page(request, "costs/required_tag_form.html", partial="tag-form", context={"form": form, "required": None}, status=status)


@requires(Permission.VIEW_COSTS)
def tag_detail(request: MemberRequest, name: str) -> HttpResponse:
    return _detail(request, _find(name))


def _detail(request: MemberRequest, required: RequiredTag, *, form: TagModeForm | None = None, status: int = 200) -> HttpResponse:
    shortcut, period = _period(request)
    versions = list(tag_selectors.versions_of(required))
    newest = versions[0]
    context: dict[str, Any] = {
        "required": required,
        "newest": newest,
        "versions": versions,
        "is_newest_active": required.active_id == newest.pk,
        "total": tag_selectors.coverage(period, required.name),
        "may_change": _may_change(request),
        "is_author": newest.author_id == request.user.pk,
        "mode_form": form or TagModeForm(),
        **_report(request, required.name, shortcut, period),
    }
    return render_page(request, "costs/required_tag_detail.html", partial="tag-report", context=context, status=status)


@requires(Permission.VIEW_COSTS)
def tag_csv(request: MemberRequest) -> HttpResponseBase:
    """A line per project, key, owner or agent; of one tag, or without one of all that a call must carry."""
    tag, group = request.GET.get("tag", "")[:MOST_CHARACTERS], _group(request)
    _, period = _period(request)
    found = tag_selectors.report(tag, period, group)
    header = (group, "name", "calls", "tagged_calls", "cost_usd", "tagged_cost_usd", "tagged_percent", "unpriced_calls", "refused_calls")
    rows = (
        (line.value, line.label, each.calls, each.tagged, each.cost, each.tagged_cost, each.calls_percent, each.unpriced, each.denied)
        for line in found.lines
        for each in (line.figures,)
    )
    return csvs.response(request, f"tags-{tag or 'all'}-{period.first}-{period.last}.csv", header, rows)


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def tag_edit(request: MemberRequest, name: str) -> HttpResponse:
    required = _find(name)
    newest = tag_selectors.newest_version(required)
    form, status = TagRuleForm(request.POST or None, initial=TagRuleForm.initial_of(newest)), 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            made = try_service(
                form,
                lambda: services.write_version(required=required, rule=form.rule, actor=request.user, note=form.cleaned_data["note"]),
            )
            if made is not None:
                messages.success(request, f"Version {made.number} is written. What is in force stays in force.")
                return redirect(_url(required))
    context = {"form": form, "required": required}
    return render_page(request, "costs/required_tag_form.html", partial="tag-form", context=context, status=status)


@requires(Permission.MANAGE_COSTS, "POST")
def tag_preview(request: MemberRequest, name: str) -> HttpResponse:
    required = _find(name)
    newest = tag_selectors.newest_version(required)
    outcome = services.preview_version(version=newest, actor=request.user)
    messages.success(request, f"Of {outcome.calls:,} calls, {outcome.refused:,} would be refused.")
    return redirect(_url(required))


@requires(Permission.MANAGE_COSTS, "POST")
def tag_mode(request: MemberRequest, name: str) -> HttpResponse:
    required, form = _find(name), TagModeForm(request.POST)
    if form.is_valid():
        given = form.cleaned_data
        version = get_object_or_404(tag_selectors.versions_of(required), number=given["version"])
        done = try_service(
            form,
            lambda: services.set_mode(
                required=required, mode=given["mode"], version=version, enforce_on=given["enforce_on"], actor=request.user,
                reason=given["reason"],
            ),
        )  # fmt: skip
        if done is not None:
            messages.success(request, f"{required}: {done.get_mode_display().lower()}. The gateway has it within seconds.")
            return redirect(_url(required))
    return _detail(request, required, form=form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def tag_delete(request: MemberRequest, name: str) -> HttpResponse:
    required = _find(name)
    if try_act(request, lambda: services.delete_required_tag(required=required, actor=request.user), f"{required} is removed."):
        return redirect(reverse("required-tags"))
    return redirect(_url(required))


def _report(request: MemberRequest, tag: str, shortcut: str, period: Period) -> dict[str, Any]:
    found = tag_selectors.report(tag, period, _group(request))
    lines, more = found.page(request.GET.get("after", ""))
    return {
        "report": found,
        "lines": lines,
        "more": more,
        "groups": tag_selectors.GROUPS,
        "shortcut": shortcut,
        "shortcuts": periods.SHORTCUTS,
        "period": period,
        "today": tag_selectors.today(timezone.now()),
    }


def _group(request: MemberRequest) -> str:
    group = request.GET.get("group", "")
    return group if group in tag_selectors.GROUPS else "project"


def _period(request: MemberRequest) -> tuple[str, Period]:
    given = request.GET if request.GET.get("period") or request.GET.get("from") or request.GET.get("to") else {"period": "30d"}
    return periods.named_from_query(given, timezone.now().astimezone(UTC).date())


def _find(name: str) -> RequiredTag:
    return get_object_or_404(tag_selectors.required_tags(), name=name)


def _url(required: RequiredTag) -> str:
    return reverse("required-tag", args=[required.name])


def _may_change(request: MemberRequest) -> bool:
    return request.membership.can(Permission.MANAGE_COSTS)
