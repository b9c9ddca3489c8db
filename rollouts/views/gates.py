"""A gate: may we go on? Its criteria, its evidence, and the acts of people on it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.http import content_disposition_header

from governance.access import Permission, or_404, requires
from governance.errors import DomainError
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest
from rollouts import figures, gate_record, gate_selectors, rules, signing, waiting_selectors, wording
from rollouts.errors import EvidenceMissingError
from rollouts.forms import AttestForm, ReasonForm, SignForm, WaiverForm
from rollouts.models import Attestation, Criterion, Evaluation, Gate, SignOff, Waiver
from rollouts.services import attestations, gates, signatures, waivers
from rollouts.services import evidence as evidence_of
from rollouts.views.rollouts import may_manage, the_rollout


def the_gate(slug: str, number: int) -> Gate:
    return or_404(gate_selectors.find_gate(the_rollout(slug), number))


def the_criterion(gate: Gate, key: str) -> Criterion:
    criterion = or_404(gate.criteria.filter(key=key).first())
    criterion.gate = gate
    return criterion


@requires(Permission.VIEW)
def gate_list(request: MemberRequest) -> HttpResponse:
    found = sorted(waiting_selectors.open_gates(request.membership), key=lambda waiting: not waiting.is_mine)
    rows: list[dict[str, Any]] = []
    for waiting in found:
        records = wording.worst_first(waiting.gate.latest.records) if waiting.gate.latest else []
        live = waiting.gate.live_signoffs  # type: ignore[attr-defined]  # filled by the selector
        signed = {signoff.role for signoff in live if signoff.decision == SignOff.Decision.GO}
        rows.append(
            {
                "waiting": waiting,
                "gate": waiting.gate,
                "verdicts": [record["verdict"] for record in records],
                "sentence": gate_selectors.sentence_of(waiting.gate, [role for role in waiting.gate.roles if role not in signed]),
                "signed": len(signed),
            }
        )
    return render_page(request, "rollouts/gate_list.html", context={"rows": rows, "mine": sum(1 for waiting in found if waiting.is_mine)})


@requires(Permission.VIEW)
def gate_detail(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    return _page(request, the_gate(slug, number))


def _page(request: MemberRequest, gate: Gate, *, form: SignForm | None = None, status: int = 200) -> HttpResponse:
    view = gate_selectors.gate_view(gate, now=timezone.now())
    role = gate_selectors.signable_role(gate, request.membership, view.signatures)
    signature = next((signature for signature in view.signatures if signature.role == role), None)
    held = signing.held_by(request.membership.roles)
    course = gate_selectors.course_of(gate)
    rows = [_row(state, course) for state in view.criteria]
    records = [state.record for state in view.criteria if state.record]
    return render_page(
        request,
        "rollouts/gate_detail.html",
        partial="gate",
        status=status,
        context={
            "rollout": gate.rollout,
            "gate": gate,
            "view": view,
            "rows": rows,
            "counts": wording.counts(records),
            "role": role,
            "signature": signature,
            "role_label": signing.label(role) if role else "",
            "is_last_role": view.missing_roles == [role],
            "form": form or SignForm(),
            "held": held,
            "short": wording.short(view.evaluation.digest) if view.evaluation else "",
            "may_manage": may_manage(request),
            "my_roles": [str(mine) for mine in held],
            "may_sign": request.membership.can(Permission.SIGN_GATES),
            "next_phase": gate.rollout.phases.filter(position=gate.phase.position + 1).first(),
            "reason_form": ReasonForm(),
            "blockers": [(state, wording.next_step(state.record)) for state in view.blockers if state.record],
        },
    )


def _row(state: gate_selectors.CriterionState, course: gate_selectors.Course | None) -> dict[str, Any]:
    """One line of the criteria table."""
    criterion, record = state.criterion, state.record
    row: dict[str, Any] = {"state": state, "criterion": criterion, "record": record, "bar": None, "note": "", "interval": "", "value": "—"}
    if criterion.is_attested:
        row["rule"], row["sample"] = "met", "attested"
        row["detail"] = f"attested by {signing.label(criterion.role)}" + ("" if criterion.is_waivable else ", can't be waived")
        if state.attestation:
            row["note"] = f"attested by {state.attestation.by}"
        elif record:
            row["note"] = "not attested yet"
    else:
        row["rule"] = wording.rule(criterion.operator, criterion.threshold, criterion.unit)
        row["detail"] = f"{criterion.metric}, {wording.window(criterion.window_hours)}"
        row["sample"] = wording.sample(record["reading"], record["rule"]["minimum_sample"]) if record else ""
        if record and "over" in record["rule"]:
            rule, reading = record["rule"], record["reading"]
            row["rule"] = wording.rule(rule["operator"], rule["threshold"], rule["unit"])
            row["detail"] = f"{wording.over(rule['over'], reading['statistics'])}, {wording.window(criterion.window_hours)}"
            row["sample"] = f"{reading['sample']} of {len(reading['members'])} organisations"
    if record:
        row["value"] = wording.shown_value(record)
        if record["kind"] == "metric":
            row["interval"] = wording.interval(record["reading"], record["rule"]["unit"])
            row["bar"] = figures.bar(record)
            row["course"] = _course(record, course)
            if row["bar"] is None:
                row["note"] = record["reason"]
        if record["verdict"] == rules.Verdict.WAIVED and state.waiver:
            row["note"] = f"waived to {state.waiver.until:%b} {state.waiver.until.day}"
    return row


def _course(record: Mapping[str, Any], course: gate_selectors.Course | None) -> figures.Course | None:
    if course is None:
        return None
    values, rule = course.values.get(record["key"], []), record["rule"]
    return figures.course(values, threshold=rule["threshold"], unit=rule["unit"], since=f"{course.since:%b} {course.since.day}")


@requires(Permission.SIGN_GATES, "POST")
def gate_sign(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    gate, form = the_gate(slug, number), SignForm(request.POST)
    if form.is_valid():
        values = form.cleaned_data
        signoff = try_service(
            form,
            lambda: signatures.sign(
                gate=gate,
                role=values["role"],
                decision=values["decision"],
                digest=values["digest"],
                person=request.membership,
                comment=values["comment"],
            ),
        )
        if signoff is not None:
            gate.refresh_from_db()
            if gate.status == Gate.Status.PASSED:
                messages.success(request, f"Signed go. {gate.title}: all roles have signed, the gate is passed.")
            else:
                messages.success(request, f"Signed {signoff.get_decision_display().lower()} for {signoff.get_role_display()}.")
            return redirect("gate-detail", slug=slug, number=number)
    return _page(request, the_gate(slug, number), form=form, status=422)


@requires(Permission.VIEW, "POST")
def gate_evaluate(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    """Anybody who sees the gate may have it evaluated: that changes no data but adds evidence."""
    try:
        gates.evaluate_gate(gate=the_gate(slug, number), trigger=Evaluation.Trigger.PERSON, actor=request.user)
    except DomainError as error:
        messages.error(request, error.message)
    if request.headers.get("HX-Request"):
        return _page(request, the_gate(slug, number))
    return redirect("gate-detail", slug=slug, number=number)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def gate_reopen(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    try_act(
        request,
        lambda: gates.reopen_gate(gate=the_gate(slug, number), reason=request.POST.get("reason", "")[:300], actor=request.user),
        "The gate is open again. Who said no-go has to sign anew.",
    )
    return redirect("gate-detail", slug=slug, number=number)


# Evidence


@requires(Permission.VIEW)
def evaluation_list(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    gate = the_gate(slug, number)
    page = keyset_page(gate_selectors.evaluations_of(gate), order=["-sequence"], cursor=request.GET.get("cursor", ""))
    return render_page(
        request, "rollouts/evaluation_list.html", partial="evaluations", context={"rollout": gate.rollout, "gate": gate, "page": page}
    )


@requires(Permission.VIEW)
def evidence(request: MemberRequest, slug: str, number: int, digest: str) -> HttpResponse:
    gate = the_gate(slug, number)
    evaluation = or_404(gate_selectors.find_evaluation(gate, digest))
    evaluation.gate = gate
    return render_page(
        request,
        "rollouts/evidence.html",
        context={
            "rollout": gate.rollout,
            "gate": gate,
            "evaluation": evaluation,
            "records": _evidence_rows(wording.worst_first(evaluation.records)),
            "replay": gate_selectors.replay(evaluation),
            "sentence": wording.gate_sentence(evaluation.records, is_ready=evaluation.is_ready),
            "signoffs": SignOff.objects.filter(gate=gate, digest=evaluation.digest).select_related("person"),
        },
    )


def _evidence_rows(records: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One line of evidence for each criterion."""
    return [_evidence_row(record) for record in records]


def _evidence_row(record: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"record": record, "value": wording.shown_value(record), "role": signing.label(record["role"]), "rule": "met"}
    if record["kind"] == "metric":
        rule, reading, window = record["rule"], record["reading"], record["window"]
        limit = wording.rule(rule["operator"], rule["threshold"], rule["unit"])
        row |= {
            "interval": wording.interval(reading, rule["unit"]),
            "rule": f"{wording.over(rule.get('over'), reading['statistics'])} {limit}".strip(),
            "statistics": json.dumps(reading["statistics"], ensure_ascii=False) if reading["statistics"] else "",
            "start": wording.moment(window["start"]),
            "end": wording.moment(window["end"]),
        }
    return row


# The record of the gate


def _the_record(request: MemberRequest, gate: Gate, now: datetime) -> dict[str, Any]:
    try:
        return gate_record.gate_record(gate, gate_record.as_of(gate, request.GET.dict(), now=now))
    except EvidenceMissingError as error:
        raise Http404(error.message) from error


@requires(Permission.VIEW)
def gate_record_page(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    gate = the_gate(slug, number)
    now = timezone.now()
    record = _the_record(request, gate, now)
    context = {
        "rollout": gate.rollout,
        "gate": gate,
        "record": gate_record.with_names(record),
        "record_hash": gate_record.hash_of(record),
        "records": _evidence_rows(record["criteria"]) if record["evaluation"] else [],
        "at": now,
    }
    return render_page(request, "rollouts/gate_record.html", context=context)


@requires(Permission.VIEW)
def gate_record_file(request: MemberRequest, slug: str, number: int, form: str) -> HttpResponse:
    """The record as Markdown (`md`) or JSON (`json`)."""
    record = _the_record(request, the_gate(slug, number), timezone.now())
    if form == "md":
        response = HttpResponse(gate_record.markdown(record), content_type="text/markdown; charset=utf-8")
    else:
        response = JsonResponse({"record": record, "record_hash": gate_record.hash_of(record)}, json_dumps_params={"ensure_ascii": False})
    response["Content-Disposition"] = f'attachment; filename="{slug}-gate-{number}.{form}"'
    return response


# One criterion


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
    gate = the_gate(slug, number)
    return _criterion(request, the_criterion(gate, key))


def _criterion(
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
    criterion, form = the_criterion(the_gate(slug, number), key), AttestForm(request.POST, request.FILES)
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
    return _criterion(request, criterion, attest_form=form, status=422)


@requires(Permission.SIGN_GATES, "POST")
def criterion_waive(request: MemberRequest, slug: str, number: int, key: str) -> HttpResponse:
    criterion, form = the_criterion(the_gate(slug, number), key), WaiverForm(request.POST)
    if (
        form.is_valid()
        and try_service(form, lambda: waivers.request_waiver(criterion=criterion, actor=request.user, **form.cleaned_data)) is not None
    ):
        messages.success(request, "The waiver waits for somebody else's approval.")
        return redirect("gate-detail", slug=slug, number=number)
    return _criterion(request, criterion, waiver_form=form, status=422)


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
    criterion = the_criterion(the_gate(slug, number), key)
    return or_404(Waiver.objects.select_related("criterion__gate").filter(criterion=criterion, pk=pk).first())


@requires(Permission.VIEW)
def attestation_file(request: MemberRequest, slug: str, number: int, key: str, pk: int) -> HttpResponse:
    """Always as a download: nothing that a person uploaded is shown inside our pages."""
    criterion = the_criterion(the_gate(slug, number), key)
    attestation = Attestation.objects.filter(criterion=criterion, pk=pk).exclude(file="").first()
    if attestation is None or not attestation.file.storage.exists(str(attestation.file.name)):
        raise Http404
    with attestation.file.open("rb") as file:  # at most 10 MB, checked when it was attached
        response = HttpResponse(file.read(), content_type="application/octet-stream")
    response["Content-Disposition"] = content_disposition_header(as_attachment=True, filename=attestation.file_name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    return response
