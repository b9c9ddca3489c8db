"""Flags: who gets what, and why? And changing who is exposed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect

from governance.access import Permission, or_404, requires
from governance.models import FeatureClass
from governance.pages import keyset_page, render_page, tab_and_query, try_act, try_form, try_service
from governance.requests import MemberRequest
from rollouts import exposure as rules
from rollouts import flag_selectors, rollback_readings, rollback_selectors
from rollouts.comparison_forms import ComparisonForm
from rollouts.experiment_wording import arm_treatments
from rollouts.flag_forms import ChangeForm, CommentForm, FlagForm, LowerForm, WhoForm
from rollouts.models import Flag, FlagChange
from rollouts.services import flag_changes
from rollouts.services import flags as services
from rollouts.views.rollouts import may_manage

TABS = {"live": "Live", "waiting": "Waiting", "archived": "Archived"}
SHOWN_VERSIONS = 20


def may_decide(request: MemberRequest) -> bool:
    return request.membership.can(Permission.SIGN_GATES)


def the_flag(key: str) -> Flag:
    return or_404(flag_selectors.find_flag(key))


def the_change(key: str, number: int) -> FlagChange:
    return or_404(flag_selectors.find_change(the_flag(key), number))


@requires(Permission.VIEW)
def flag_list(request: MemberRequest) -> HttpResponse:
    tab, query = tab_and_query(request, TABS)
    page = keyset_page(flag_selectors.flags(tab=tab, query=query), order=["key"], cursor=request.GET.get("cursor", ""))
    waiting = flag_selectors.open_changes([flag.pk for flag in page.rows])
    counts = flag_selectors.flag_counts()
    rows = [{"flag": flag, "exposed": rules.sentence(flag.exposure), "waiting": waiting.get(flag.pk, [])} for flag in page.rows]
    return render_page(
        request,
        "rollouts/flag_list.html",
        partial="flag-table",
        context={
            "rows": rows,
            "page": page,
            "tab": tab,
            "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
            "query": query,
            "counts": counts,
            "due": flag_selectors.due_count(request.membership),
            "may_manage": may_manage(request),
        },
    )


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def flag_new(request: MemberRequest) -> HttpResponse:
    form = FlagForm(request.POST or None, initial=FlagForm.comparing(request.GET["model"]) if "model" in request.GET else None)
    if request.method == "POST":
        if form.is_valid():
            flag = try_service(form, lambda: services.create_flag(actor=request.user, **form.cleaned_data))
            if flag is not None:
                messages.success(request, f"{flag.key} is made. It is off: nobody is exposed yet.")
                return redirect("flag-detail", key=flag.key)
        return render_page(request, "rollouts/flag_new.html", context={"form": form}, status=422)
    return render_page(request, "rollouts/flag_new.html", context={"form": form})


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def flag_compare(request: MemberRequest) -> HttpResponse:
    """A flag whose variants are treatments: what an experiment compares."""
    form = ComparisonForm(request.POST or None, initial={"model": request.GET.get("model", "")})
    status = 200
    if request.method == "POST":
        flag = try_service(form, lambda: services.create_flag(actor=request.user, **form.flag())) if form.is_valid() else None
        if flag is not None:
            messages.success(request, f"{flag.key} is made. It is off: expose a share, then start an experiment on it.")
            return redirect("flag-detail", key=flag.key)
        status = 422
    return render_page(request, "rollouts/flag_compare.html", context={"form": form}, status=status)


@requires(Permission.VIEW)
def flag_detail(request: MemberRequest, key: str) -> HttpResponse:
    flag = the_flag(key)
    return render_page(request, "rollouts/flag_detail.html", partial="who", context=_detail(request, flag))


def _detail(request: MemberRequest, flag: Flag) -> dict[str, Any]:
    waiting = flag.waiting_change
    who, preview = _who(request, flag, waiting)
    shares = rules.weights_of(flag.exposure.ranges)
    return {
        "flag": flag,
        "exposed": rules.sentence(flag.exposure),
        "rules": list(enumerate(rules.words(flag.exposure)[:-1], start=1)),
        "variants": sorted(
            (
                {
                    "name": name,
                    "value": json.dumps(value, ensure_ascii=False),
                    "is_control": name == flag.control,
                    "share": shares.get(name, 0) / 1000,
                }
                for name, value in flag.variants.items()
            ),
            key=lambda row: (not row["is_control"], row["name"]),
        ),
        "treatments": arm_treatments(flag, flag.control, flag.variants) if flag.model else [],
        "feature_class": FeatureClass(flag.feature_class).label,
        "has_consent": flag_selectors.has_consent(flag.feature_class),
        "waiting": waiting,
        "waiting_changes": rules.differences(flag.exposure, waiting.exposed) if waiting else [],
        "is_mine": waiting is not None and waiting.proposed_by_id == request.user.pk,
        "reviews": [
            (change, rollback_readings.effect_of_change(change))
            for change in flag_selectors.changes_of(flag).filter(review_due_at__isnull=False, reviewed_at=None)
        ],
        "history": _history(flag),
        "older": max(0, flag.current.number - SHOWN_VERSIONS) if flag.current else 0,
        "refused": flag_selectors.changes_of(flag).filter(status__in=[FlagChange.Status.REJECTED, FlagChange.Status.OVERTAKEN])[
            :SHOWN_VERSIONS
        ],
        "rollback_rules": list(rollback_selectors.rules_of(flag)),
        "who_form": who,
        "preview": preview,
        "preview_value": json.dumps(preview.decision.value, ensure_ascii=False) if preview else "",
        "lower_form": LowerForm(),
        "may_manage": may_manage(request),
        "may_decide": may_decide(request),
        "user_id": request.user.pk,
    }


def _who(request: MemberRequest, flag: Flag, waiting: FlagChange | None) -> tuple[WhoForm, flag_selectors.Preview | None]:
    """The typed context, or this organisation's own facts until something is typed."""
    facts = "\n".join(f"{name} = {value}" for name, value in flag_selectors.facts_of(request.tenant).items())
    asked = request.GET if "context" in request.GET else {"context": f"{facts}\n{flag.sticky} = "}
    form = WhoForm(asked)
    if not form.is_valid():
        return form, None
    context = rules.parse_context(form.cleaned_data["context"])
    return form, flag_selectors.preview(flag, context, consent=form.assumed_consent, change=waiting)


def _history(flag: Flag) -> list[dict[str, Any]]:
    """Versions, newest first, each with what it changed."""
    versions = list(flag_selectors.versions_of(flag)[: SHOWN_VERSIONS + 1])
    before = [*versions[1:], None]
    return [
        {
            "version": version,
            "change": getattr(version, "change", None),
            "differences": rules.differences(earlier.exposed, version.exposed) if earlier else [],
        }
        for version, earlier in zip(versions, before, strict=True)
    ][:SHOWN_VERSIONS]


@requires(Permission.MANAGE_ROLLOUTS, "GET", "POST")
def flag_change(request: MemberRequest, key: str) -> HttpResponse:
    flag = the_flag(key)
    form = ChangeForm(request.POST or None, flag=flag)
    status = 200
    if request.method == "POST":
        if form.is_valid():
            data = form.cleaned_data
            change = try_service(
                form,
                lambda: flag_changes.propose_change(
                    flag=flag,
                    exposure=data["exposure"],
                    reason=data["reason"],
                    phase=data.get("phase"),
                    seen_version=data["seen_version"],
                    actor=request.user,
                ),
            )
            if change is not None:
                done = (
                    "Applied: it surely exposes nobody more."
                    if not change.is_open
                    else "Proposed. It is in force once somebody else agrees."
                )
                messages.success(request, done)
                return redirect("flag-detail", key=key)
        status = 422
    context = {"form": form, "flag": flag, "exposed": rules.sentence(flag.exposure), "waiting": flag.waiting_change}
    return render_page(request, "rollouts/flag_change.html", context=context, status=status)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def flag_lower(request: MemberRequest, key: str) -> HttpResponse:
    flag, form = the_flag(key), LowerForm(request.POST)
    try_form(
        request,
        form,
        lambda data: flag_changes.lower_in_emergency(
            flag=flag, exposure=form.lowered(flag.exposure), reason=data["reason"], actor=request.user
        ),
        "Lowered. The gateway heeds it within seconds; somebody else reviews it within a day.",
    )
    return redirect("flag-detail", key=key)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def flag_archive(request: MemberRequest, key: str) -> HttpResponse:
    flag = the_flag(key)
    try_act(request, lambda: services.archive_flag(flag=flag, actor=request.user), "Archived. Callers get their own default.")
    return redirect("flag-detail", key=key)


@requires(Permission.SIGN_GATES, "POST")
def flag_change_approve(request: MemberRequest, key: str, number: int) -> HttpResponse:
    change = the_change(key, number)
    return _decide(
        request, key, lambda data: flag_changes.approve_change(change=change, actor=request.user, **data), "Approved, and in force."
    )


@requires(Permission.SIGN_GATES, "POST")
def flag_change_reject(request: MemberRequest, key: str, number: int) -> HttpResponse:
    change = the_change(key, number)
    return _decide(
        request, key, lambda data: flag_changes.reject_change(change=change, actor=request.user, **data), "The change is off the table."
    )


@requires(Permission.SIGN_GATES, "POST")
def flag_change_review(request: MemberRequest, key: str, number: int) -> HttpResponse:
    change = the_change(key, number)
    return _decide(
        request, key, lambda data: flag_changes.review_lowering(change=change, actor=request.user, **data), "The review is on record."
    )


def _decide(request: MemberRequest, key: str, act: Callable[[dict[str, Any]], object], done: str) -> HttpResponse:
    try_form(request, CommentForm(request.POST), act, done)
    return redirect("flag-detail", key=key)
