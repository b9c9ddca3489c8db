"""What the organisation allows AI to be used for."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from governance import selectors
from governance.access import Permission, permissions_of, requires
from governance.forms import ConsentForm
from governance.models import Consent, FeatureClass
from governance.pages import render_page
from governance.requests import MemberRequest
from governance.services import consent as consent_service


@requires(Permission.VIEW_OPERATE)
def consent(request: MemberRequest) -> HttpResponse:
    return render_page(
        request,
        "governance/consent.html",
        context={
            "states": selectors.consent_states(),
            "history": selectors.consent_history()[:50],
            "may_change": Permission.MANAGE_CONSENT in permissions_of(request.membership.roles),
        },
    )


@requires(Permission.MANAGE_CONSENT, "POST")
def set_consent(request: MemberRequest, feature_class: str) -> HttpResponse:
    if feature_class not in FeatureClass.values:
        raise Http404
    form = ConsentForm(request.POST)
    if form.is_valid():
        consent_service.set_consent(feature_class=feature_class, actor=request.user, **form.cleaned_data)
        label = FeatureClass(feature_class).label
        granted = form.cleaned_data["state"] == Consent.State.GRANTED
        messages.success(request, f"{label}: {'allowed' if granted else 'switched off'}. The gateway follows within about 2 s.")
    else:
        messages.error(request, "; ".join(str(error) for errors in form.errors.values() for error in errors))
    return redirect(reverse("consent"))
