"""One criterion of a gate: its evidence, and what people say about it: attestations and waivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import content_disposition_header

from governance.access import Permission, or_404, requires
from governance.pages import render_page, try_act, try_service
from governance.requests import MemberRequest
from rollouts import figures, rules, signing, wording
from rollouts.forms import AttestForm, WaiverForm
from rollouts.models import Attestation, Criterion, Waiver
from rollouts.services import attestations, waivers
from rollouts.services import evidence as evidence_of
from rollouts.views.gates import the_gate
from rollouts.views.rollouts import may_manage


def the_criterion(slug: str, number: int, key: str) -> Criterion:
    gate = the_gate(slug, number)
    criterion = or_404(gate.criteria.filter(key=key).first())
    criterion.gate = gate
    return criterion


def _over(criterion: Criterion, record: Mapping[str, Any]) -> dict[str, Any]:
    """How the organisations of a cohort were taken together, and the figure of each."""
    rule, reading = record["rule"], record["reading"]
    metric = evidence_of.registered(rule["metric"])
    unit = metric.unit if metric else criterion.unit
    members = [
        {
            "organisation": member["organisation"],
            "value": wording.figure(member["value"], unit),
            "interval": wording.interval(member, unit),
            "sample": member["sample"],
            "is_known": not member["error"] and member["value"] is not None and member["sample"] >= rule["over"]["minimum_sample"],
            "error": member["error"],
        }
        for member in reading["members"]
    ]
    return {
        "text": wording.over(rule["over"], reading["statistics"]),
        "rule": wording.rule(rule["operator"], rule["threshold"], rule["unit"]),
        "cohort": rule["over"]["cohort"],
        "minimum": rule["over"]["minimum_sample"],
        "members": members,
    }


@requires(Permission.VIEW)
def criterion_detail(request: MemberRequest, slug: str, number: int, key: str) -> HttpResponse:
    return _page(request, the_criterion(slug, number, key))


def _page(
    request: MemberRequest,
    criterion: Criterion,
    *,
    attest_form: AttestForm | None = None,
    waiver_form: WaiverForm | None = None,
    status: int = 200,
) -> HttpResponse:
    gate = criterion.gate
    evaluation = gate.latest
    record = next((record for record in evaluation.records if record["key"] == criterion.key), None) if evaluation else None
    held = signing.held_by(request.membership.roles)
    may_sign = request.membership.can(Permission.SIGN_GATES)
    decidable = gate.is_decidable and gate.rollout.is_under_way
    asked = criterion.waivers.filter(decided_at=None).select_related("requested_by").first()
    in_force = criterion.waivers.filter(approved=True, until__gt=timezone.now()).select_related("requested_by", "decided_by").first()
    return render_page(
        request,
        "rollouts/criterion_detail.html",
        status=status,
        context={
            "rollout": gate.rollout,
            "gate": gate,
            "criterion": criterion,
            "record": record,
            "value": wording.shown_value(record) if record else "—",
            "interval": wording.interval(record["reading"], record["rule"]["unit"]) if record and record["kind"] == "metric" else "",
            "bar": figures.bar(record) if record else None,
            "rule": wording.rule(criterion.operator, criterion.threshold, criterion.unit) if not criterion.is_attested else "",
            "over": _over(criterion, record) if record and "over" in (record["rule"] or {}) else None,
            "window": wording.window(criterion.window_hours),
            "role": signing.label(criterion.role),
            "holders": signing.holders_text(criterion.role),
            "may_attest": decidable and criterion.is_attested and may_sign and criterion.role in held,
            "may_waive": decidable
            and criterion.is_waivable
            and may_sign
            and record is not None
            and record["raw"] != rules.Verdict.PASS
            and asked is None
            and in_force is None,
            "may_decide": decidable
            and may_sign
            and asked is not None
            and (asked.requested_by_id == request.user.pk or criterion.role in held),
            "is_own_waiver": asked is not None and asked.requested_by_id == request.user.pk,
            "asked": asked,
            "in_force": in_force,
            "may_manage": may_manage(request),
            "decidable": decidable,
            "attestations": criterion.attestations.select_related("by"),
            "attest_form": attest_form or AttestForm(),
            "waiver_form": waiver_form or WaiverForm(),
        },
    )


@requires(Permission.SIGN_GATES, "POST")
def criterion_attest(request: MemberRequest, slug: str, number: int, key: str) -> HttpResponse:
    criterion, form = the_criterion(slug, number, key), AttestForm(request.POST, request.FILES)
    if form.is_valid():
        values = form.cleaned_data
        done = try_service(
            form,
            lambda: attestations.attest(
                criterion=criterion,
                met=values["met"],
                note_text=values["note"],
                summary=values["summary"],
                link=values["link"],
                file=values["file"],
                person=request.membership,
            ),
        )
        if done is not None:
            messages.success(request, f"{criterion.title} is attested as {'met' if done.met else 'not met'}.")
            return redirect("gate-detail", slug=slug, number=number)
    return _page(request, criterion, attest_form=form, status=422)


@requires(Permission.SIGN_GATES, "POST")
def criterion_waive(request: MemberRequest, slug: str, number: int, key: str) -> HttpResponse:
    criterion, form = the_criterion(slug, number, key), WaiverForm(request.POST)
    if (
        form.is_valid()
        and try_service(form, lambda: waivers.request_waiver(criterion=criterion, actor=request.user, **form.cleaned_data)) is not None
    ):
        messages.success(request, "The waiver waits for somebody else's approval.")
        return redirect("gate-detail", slug=slug, number=number)
    return _page(request, criterion, waiver_form=form, status=422)


@requires(Permission.SIGN_GATES, "POST")
def waiver_decide(request: MemberRequest, slug: str, number: int, key: str, pk: int) -> HttpResponse:
    """The service checks the role; whoever asked may take their own waiver back."""
    waiver = _waiver(slug, number, key, pk)
    approve = request.POST.get("decision") == "approve"
    try_act(
        request,
        lambda: waivers.decide_waiver(waiver=waiver, approve=approve, person=request.membership),
        "The waiver is in force." if approve else "The waiver is declined.",
    )
    return redirect("criterion-detail", slug=slug, number=number, key=key)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def waiver_end(request: MemberRequest, slug: str, number: int, key: str, pk: int) -> HttpResponse:
    try_act(
        request,
        lambda: waivers.end_waiver(waiver=_waiver(slug, number, key, pk), actor=request.user),
        "The waiver has ended; the criterion counts again.",
    )
    return redirect("criterion-detail", slug=slug, number=number, key=key)


def _waiver(slug: str, number: int, key: str, pk: int) -> Waiver:
    criterion = the_criterion(slug, number, key)
    return or_404(Waiver.objects.select_related("criterion__gate").filter(criterion=criterion, pk=pk).first())


@requires(Permission.VIEW)
def attestation_file(request: MemberRequest, slug: str, number: int, key: str, pk: int) -> HttpResponse:
    """Always as a download: nothing that a person uploaded is shown inside our pages."""
    criterion = the_criterion(slug, number, key)
    attestation = Attestation.objects.filter(criterion=criterion, pk=pk).exclude(file="").first()
    if attestation is None or not attestation.file.storage.exists(str(attestation.file.name)):
        raise Http404
    with attestation.file.open("rb") as file:  # at most 10 MB, checked when it was attached
        response = HttpResponse(file.read(), content_type="application/octet-stream")
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=attestation.file_name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    return response
