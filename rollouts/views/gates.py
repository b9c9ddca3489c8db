"""A gate: may we go on? Its criteria, its evidence, and the acts of people on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from governance.access import Permission, or_404, requires
from governance.errors import DomainError
from governance.pages import render_page, try_form, try_service
from governance.requests import MemberRequest
from rollouts import figures, gate_selectors, rules, signing, waiting_selectors, wording
from rollouts.forms import SignForm, WhyForm
from rollouts.models import Evaluation, Gate, SignOff
from rollouts.services import gates, signatures
from rollouts.views.rollouts import may_manage, the_rollout


def the_gate(slug: str, number: int) -> Gate:
    return or_404(gate_selectors.find_gate(the_rollout(slug), number))


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
            "short": wording.short(view.evaluation.digest) if view.evaluation else "",
            "may_manage": may_manage(request),
            "my_roles": [str(role) for role in signing.held_by(request.membership.roles)],
            "may_sign": request.membership.can(Permission.SIGN_GATES),
            "next_phase": gate.rollout.phases.filter(position=gate.phase.position + 1).first(),
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
    if request.htmx:
        return _page(request, the_gate(slug, number))
    return redirect("gate-detail", slug=slug, number=number)


@requires(Permission.MANAGE_ROLLOUTS, "POST")
def gate_reopen(request: MemberRequest, slug: str, number: int) -> HttpResponse:
    gate, form = the_gate(slug, number), WhyForm(request.POST, most=300)
    done = "The gate is open again. Who said no-go has to sign anew."
    try_form(request, form, lambda data: gates.reopen_gate(gate=gate, actor=request.user, **data), done)
    return redirect("gate-detail", slug=slug, number=number)
