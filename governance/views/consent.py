"""What the organisation allows AI to be used for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from governance import csvs, selectors
from governance.access import Permission, requires
from governance.forms import ConsentForm, ConsentHistoryForm
from governance.models import Consent, ConsentChange, FeatureClass
from governance.pages import errors_of, keyset_page, render_page
from governance.requests import MemberRequest
from governance.services import consent as consent_service


@requires(Permission.VIEW_OPERATE)
def consent(request: MemberRequest) -> HttpResponse:
    return _page(request, ConsentHistoryForm(request.GET))


def _page(request: MemberRequest, form: ConsentHistoryForm) -> HttpResponse:
    """A filter that makes no sense is told, and leaves nothing out."""
    is_valid = form.is_valid()
    page = keyset_page(selectors.consent_history(**form.cleaned_data), order=["-set_at", "-id"], cursor=request.GET.get("cursor", ""))
    context = {
        "states": selectors.consent_states(),
        "effects": selectors.consent_effects(at=timezone.now()),
        "effect_days": selectors.EFFECT_DAYS,
        "promise_s": int(ConsentChange.PROMISE.total_seconds()),
        "form": form,
        "page": page,
        "is_waiting": any(change.verdict == "waiting" for change in page.rows),
        "is_filtered": any(form.cleaned_data.values()),
        "query_string": request.GET.urlencode(),
        "may_change": request.membership.can(Permission.MANAGE_CONSENT),
    }
    return render_page(request, "governance/consent.html", partial="history", context=context, status=200 if is_valid else 422)


@requires(Permission.VIEW_OPERATE)
def consent_history_csv(request: MemberRequest) -> HttpResponseBase:
    """The decisions of the filter, all pages of it."""
    form = ConsentHistoryForm(request.GET)
    if not form.is_valid():
        return _page(request, form)
    header = ["decided_at", "feature_class", "decision", "by", "reason", "in_effect_at", "seconds_to_effect", "processes", "verdict"]
    return csvs.response(request, "consent-history.csv", header, _csv_rows(selectors.consent_history(**form.cleaned_data)))


def _csv_rows(changes: Iterable[ConsentChange]) -> Iterator[list[object]]:
    for change in changes:
        effect = change.effect
        in_effect_at = effect.effective_at.isoformat() if effect and effect.effective_at else None
        yield [
            change.set_at.isoformat(), change.feature_class, change.state, str(change.actor), change.reason,
            in_effect_at, effect.seconds if effect else None, effect.planes if effect else None, change.verdict,
        ]  # fmt: skip


@requires(Permission.MANAGE_CONSENT, "POST")
def set_consent(request: MemberRequest, feature_class: str) -> HttpResponse:
    if feature_class not in FeatureClass.values:
        raise Http404
    form = ConsentForm(request.POST)
    if form.is_valid():
        consent_service.set_consent(feature_class=feature_class, actor=request.user, **form.cleaned_data)
        label = FeatureClass(feature_class).label
        granted = form.cleaned_data["state"] == Consent.State.GRANTED
        messages.success(request, f"{label}: {'allowed' if granted else 'switched off'}. Below it is timed until every process has it.")
    else:
        messages.error(request, errors_of(form))
    return redirect(reverse("consent"))
