"""Cohorts: the operator's pages over all organisations, and an organisation's own page about the cohorts it was asked into."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from governance.access import Permission, operator_only, or_404, requires
from governance.pages import errors_of, keyset_page, render_page, tab_and_query, try_act, try_form, try_service
from governance.requests import AppRequest, MemberRequest
from rollouts import cohort_forms, programme_selectors
from rollouts import cohort_selectors as selectors
from rollouts import exposure as exposures
from rollouts.models import Cohort, FlagChange
from rollouts.services import cohort_endings, cohort_exposure, flag_changes, tenant_overrides
from rollouts.services import cohorts as services
from rollouts.views.rollouts import may_manage

TABS = {"open": "Open", "closed": "Closed"}
MEMBER_TABS = {"in": "In it", "asked": "Asked", "candidates": "Screened", "out": "Out"}
SHOWN_CHANGES = 10


def the_cohort(slug: str) -> Cohort:
    return or_404(selectors.find_cohort(slug))


def the_change(slug: str, number: int) -> FlagChange:
    return or_404(selectors.find_change(the_cohort(slug), number))


@operator_only()
def cohort_list(request: AppRequest) -> HttpResponse:
    tab, query = tab_and_query(request, TABS)
    page = keyset_page(selectors.cohorts(tab=tab, query=query), order=["-created_at", "-pk"], cursor=request.GET.get("cursor", ""))
    counts = selectors.cohort_counts()
    context = {
        "page": page, "tab": tab, "query": query, "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
        "waiting": selectors.waiting_count(), "war_room": selectors.war_room(),
    }  # fmt: skip
    return render_page(request, "rollouts/cohort_list.html", partial="cohort-table", context=context)


@operator_only("GET", "POST")
def cohort_new(request: AppRequest) -> HttpResponse:
    form = cohort_forms.CohortForm(request.POST or None)
    if request.method != "POST":
        return render_page(request, "rollouts/cohort_new.html", context={"form": form})
    if form.is_valid():
        cohort = try_service(form, lambda: services.create_cohort(actor=request.user, **form.cleaned_data))
        if cohort is not None:
            messages.success(request, f"{cohort.name} is made. Screen the organisations next.")
            return redirect("cohort-detail", slug=cohort.slug)
    return render_page(request, "rollouts/cohort_new.html", context={"form": form}, status=422)


@operator_only()
def cohort_detail(request: AppRequest, slug: str) -> HttpResponse:
    cohort, now = the_cohort(slug), timezone.now()
    counts = selectors.member_counts(cohort)
    tab = request.GET.get("tab", "")
    if tab not in MEMBER_TABS:
        tab = next((key for key in MEMBER_TABS if counts[key]), "candidates")
    flag, changes = cohort.flag, list(selectors.changes_of(cohort)[:SHOWN_CHANGES])
    waiting = flag.waiting_change
    return render_page(
        request,
        "rollouts/cohort_detail.html",
        partial="members",
        context={
            "cohort": cohort,
            "flag": flag,
            "exposed": exposures.sentence(flag.exposure),
            "waiting": waiting,
            "waiting_changes": exposures.differences(flag.exposure, waiting.exposed) if waiting else [],
            "reviews": [change for change in changes if change.awaits_review],
            "changes": changes,
            "rungs": selectors.ladder(flag, at=now),
            "tab": tab,
            "tabs": [(key, label, counts[key]) for key, label in MEMBER_TABS.items()],
            "page": keyset_page(selectors.listed_members(cohort, tab), order=["-weight", "pk"], cursor=request.GET.get("cursor", "")),
            "chips": cohort_forms.STATE_CHIPS,
            "taken": cohort.asked + cohort.enrolled + cohort.active,  # type: ignore[attr-defined]  # counted by the selector
            "user_id": request.user.pk,
            "war_room": selectors.war_room(),
            "overrides": list(selectors.overrides_of(cohort)[:SHOWN_CHANGES]),
            "asked_who": (asked := request.GET.get("who", "").strip()),
            "who": selectors.who_gets(cohort, asked) if asked else None,
        },
    )


@operator_only("POST")
def cohort_screen(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    try_act(request, lambda: services.ask_for_screening(cohort=cohort, actor=request.user), "Every organisation is screened now.")
    return redirect("cohort-detail", slug=slug)


@operator_only("POST")
def cohort_invite(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    try_act(request, lambda: services.invite(cohort=cohort, actor=request.user), "Invited, by notice and their alert channels.")
    return redirect("cohort-detail", slug=slug)


@operator_only("POST")
def cohort_invite_one(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    return _act(
        request, slug, cohort_forms.OneForm(request.POST),
        lambda data: services.invite_in_spite(cohort=cohort, actor=request.user, **data), "Invited in spite of the criteria.",
    )  # fmt: skip


@operator_only("POST")
def cohort_activate(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    return _act(
        request, slug, cohort_forms.WhyForm(request.POST),
        lambda data: cohort_exposure.propose_activation(cohort=cohort, actor=request.user, **data), "Another operator approves it next.",
    )  # fmt: skip


@operator_only("POST")
def cohort_stage(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    return _act(
        request, slug, cohort_forms.StageForm(request.POST),
        lambda data: cohort_exposure.open_stage(flag=cohort.flag, actor=request.user, **data), "Another operator approves it next.",
    )  # fmt: skip


@operator_only("POST")
def cohort_override(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    return _act(
        request, slug, cohort_forms.OverrideForm(request.POST),
        lambda data: tenant_overrides.set_override(
            flag=cohort.flag, tenant=data["tenant"], variant=data["variant"], reason=data["reason"],
            until=timezone.now() + timedelta(days=data["days"]), actor=request.user,
        ),
        "On record. What takes the flag away holds at once; what gives it waits for another operator.",
    )  # fmt: skip


@operator_only("POST")
def cohort_override_end(request: AppRequest, slug: str, pk: int) -> HttpResponse:
    override = or_404(selectors.find_override(the_cohort(slug), pk))
    return _act(
        request, slug, cohort_forms.WhyForm(request.POST),
        lambda data: tenant_overrides.end_override(override=override, actor=request.user, **data),
        "Ended, or waiting for another operator where that exposes again.",
    )  # fmt: skip


@operator_only("POST")
def cohort_switch_off(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    return _act(
        request, slug, cohort_forms.WhyForm(request.POST),
        lambda data: cohort_exposure.switch_off(flag=cohort.flag, actor=request.user, **data), "Off for everybody. Another operator reviews it.",
    )  # fmt: skip


@operator_only("POST")
def cohort_wind_down(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    return _act(
        request, slug, cohort_forms.WindDownForm(request.POST),
        lambda data: cohort_endings.wind_down(cohort=cohort, tenants=data["tenant"], reason=data["reason"], actor=request.user),
        "Announced. Active members keep it for 14 days.",
    )  # fmt: skip


@operator_only("POST")
def cohort_change_decide(request: AppRequest, slug: str, number: int) -> HttpResponse:
    change = the_change(slug, number)
    return _act(
        request, slug, cohort_forms.DecideForm(request.POST),
        lambda data: cohort_exposure.decide(
            change=change, approve=data["decision"] == "approve", comment=data["comment"], actor=request.user
        ),
        "Decided.",
    )  # fmt: skip


@operator_only("POST")
def cohort_change_review(request: AppRequest, slug: str, number: int) -> HttpResponse:
    change = the_change(slug, number)
    return _act(
        request, slug, cohort_forms.CommentForm(request.POST),
        lambda data: flag_changes.review_lowering(change=change, actor=request.user, **data), "The review is on record.",
    )  # fmt: skip


def _act(request: AppRequest, slug: str, form: forms.Form, act: Callable[[dict[str, Any]], object], done: str) -> HttpResponse:
    try_form(request, form, act, done)
    return redirect("cohort-detail", slug=slug)


# An organisation's own


@requires(Permission.VIEW)
def own_list(request: MemberRequest) -> HttpResponse:
    context = {
        "standings": selectors.standings(request.tenant), "chips": cohort_forms.STATE_CHIPS, "may_answer": may_manage(request),
        "has_surveys": programme_selectors.has_surveys(request.tenant),
    }  # fmt: skip
    return render_page(request, "rollouts/own_cohorts.html", context=context)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def own_answer(request: MemberRequest, slug: str) -> HttpResponse:
    standing = or_404(next(iter(selectors.standings(request.tenant, slug=slug)), None))
    form = cohort_forms.AnswerForm(request.POST)
    if not form.is_valid():
        messages.error(request, errors_of(form))
        return redirect("own-cohorts")
    answer, reason, member = form.cleaned_data["answer"], form.cleaned_data["reason"], standing.member
    done = {
        "accept": "Enrolled. Nothing changes before the operator activates it.",
        "decline": "Declined.",
        "leave": "Left. The gateway follows within seconds.",
    }
    with schema_context(get_public_schema_name()):
        if answer == "leave":
            try_act(request, lambda: cohort_endings.leave(member=member, reason=reason, actor=request.user), done[answer])
        else:
            try_act(
                request, lambda: services.answer(member=member, accept=answer == "accept", reason=reason, actor=request.user), done[answer]
            )
    return redirect("own-cohorts")
