"""What a gate's verdicts rest on: its evaluations, the evidence of each, and the record of the gate as a document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.http import Http404, HttpResponse, JsonResponse
from django.utils import timezone

from governance.access import Permission, or_404, requires
from governance.pages import keyset_page, render_page
from governance.requests import MemberRequest
from rollouts import gate_record, gate_selectors, signing, wording
from rollouts.errors import EvidenceMissingError
from rollouts.models import Gate, SignOff
from rollouts.views.gates import the_gate


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
