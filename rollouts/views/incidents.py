"""Incidents: is it me, how bad, what now?"""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest
from rollouts import rollback_evidence, rollback_readings, rollback_wording
from rollouts import rollback_selectors as selectors
from rollouts.models import Incident, RollbackWatch
from rollouts.rollback_forms import ResolveForm
from rollouts.services import incidents as services
from rollouts.views.rollouts import may_manage

TABS = {"open": "Open", "resolved": "Resolved"}


def the_incident(number: int) -> Incident:
    return or_404(selectors.find_incident(number))


@requires(Permission.VIEW)
def incident_list(request: MemberRequest) -> HttpResponse:
    counts = selectors.incident_counts()
    tab = request.GET.get("tab", "")
    tab = tab if tab in TABS else "open" if counts["open"] or not counts["resolved"] else "resolved"
    context = {
        "page": keyset_page(selectors.incidents(tab=tab), order=["-number"], cursor=request.GET.get("cursor", "")),
        "tab": tab,
        "tabs": [(key, label, counts[key]) for key, label in TABS.items()],
        "counts": counts,
        "away_since": selectors.watcher_away_since(at=timezone.now()),
        "watch": RollbackWatch.objects.order_by("-ticked_at").first(),
    }
    return render_page(request, "rollouts/incident_list.html", partial="incident-table", context=context)


@requires(Permission.VIEW)
def incident_detail(request: MemberRequest, number: int) -> HttpResponse:
    return _page(request, the_incident(number), ResolveForm())


def _page(request: MemberRequest, incident: Incident, form: ResolveForm, status: int = 200) -> HttpResponse:
    facts = incident.facts
    context = {
        "incident": incident,
        "facts": facts,
        "judged": [rollback_wording.reading(each) for each in facts["judged"]],
        "recomputed": rollback_evidence.recompute(incident.evidence, stored_sha256=incident.evidence_sha256),
        "effect": rollback_readings.effect_of_change(incident.change),
        "first_step": rollback_wording.FIRST_STEPS[incident.failure_class],
        "calls_url": _calls_url(request, incident),
        "minutes": _minutes(incident),
        "form": form,
        "now": timezone.now(),
        "may_manage": may_manage(request),
    }
    return render_page(request, "rollouts/incident_detail.html", context=context, status=status)


def _calls_url(request: MemberRequest, incident: Incident) -> str:
    """Where the calls of the breach are listed, for who may see them."""
    if not request.membership.can(Permission.VIEW_COSTS) or not incident.variant:
        return ""
    asked = {
        "model": incident.flag.comparison.treatments[incident.variant].model,
        "from": f"{incident.began_at:%Y-%m-%d}",
        "to": f"{incident.opened_at:%Y-%m-%d}",
    }
    if incident.failure_class == Incident.FailureClass.ERROR:
        asked["status"] = "errors"
    elif incident.failure_class == Incident.FailureClass.DATA:
        asked["code"] = "guardrail_blocked"
    return f"{reverse('costs-requests')}?{urlencode(asked)}"


def _minutes(incident: Incident) -> list[dict[str, object]]:
    """The breaching comparison bucket by bucket, treatment beside control."""
    facts = incident.facts
    breached = next(each for each in facts["judged"] if each["outcome"] == "bad")
    return rollback_wording.buckets(facts, breached)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def incident_acknowledge(request: MemberRequest, number: int) -> HttpResponse:
    incident = the_incident(number)
    try_act(request, lambda: services.acknowledge_incident(incident=incident, actor=request.user), f"{incident} is yours.")
    return redirect("incident-detail", number=number)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def incident_resolve(request: MemberRequest, number: int) -> HttpResponse:
    incident, form = the_incident(number), ResolveForm(request.POST)
    if form.is_valid():
        done = try_service(
            form, lambda: services.resolve_incident(incident=incident, resolution=form.cleaned_data["resolution"], actor=request.user)
        )
        if done is not None:
            messages.success(request, f"{incident} is resolved. Exposure may be raised again, by two people.")
            return redirect("incident-detail", number=number)
    return _page(request, incident, form, status=422)
