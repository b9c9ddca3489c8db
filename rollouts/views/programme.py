"""How a cohort's programme does, for the operator; and the one question that people of its organisations are asked."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from governance.access import Permission, operator_only, requires, signed_in
from governance.pages import keyset_page, render_page, try_act, try_form
from governance.requests import AppRequest, MemberRequest
from rollouts import cohort_forms
from rollouts import programme_rules as rules
from rollouts import programme_selectors as selectors
from rollouts.services import cohort_programme, surveys
from rollouts.views.cohorts import the_cohort


@operator_only()
def programme(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    context = {
        "cohort": cohort,
        "programme": selectors.programme_of(cohort, at=timezone.now()),
        "weeks": range(rules.SHOWN_WEEKS),
        "fewest": rules.FEWEST_ANSWERS,
        "page": keyset_page(selectors.comments_of(cohort), order=["-on", "-pk"], cursor=request.GET.get("cursor", ""), size=20),
    }
    return render_page(request, "rollouts/programme.html", partial="comments", context=context)


@operator_only("POST")
def drill(request: AppRequest, slug: str) -> HttpResponse:
    cohort = the_cohort(slug)
    try_act(request, lambda: cohort_programme.run_drill(cohort=cohort, actor=request.user), "The drill runs. Nobody loses anything.")
    return redirect("cohort-programme", slug=slug)


@signed_in("POST")
def survey_answer(request: MemberRequest) -> HttpResponse:
    with schema_context(get_public_schema_name()):
        if "dismiss" in request.POST:
            try_act(request, lambda: surveys.dismiss(tenant=request.tenant, person=request.user), "Put away.")
        else:
            try_form(
                request,
                cohort_forms.SurveyForm(request.POST),
                lambda data: surveys.answer(tenant=request.tenant, person=request.user, **data),
                "Thank you. Your answer is kept without your name.",
            )
    return redirect("start")


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def survey_settings(request: MemberRequest) -> HttpResponse:
    wanted = request.POST.get("wanted") == "yes"
    with schema_context(get_public_schema_name()):
        surveys.set_surveys(tenant=request.tenant, wanted=wanted, actor=request.user)
    messages.success(request, "People may be asked again." if wanted else "Nobody is asked any more.")
    return redirect("own-cohorts")
