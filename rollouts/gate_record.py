"""The record of a gate: one document with everything that its decision rests on, to be printed, filed and compared.

It is made of what is kept anyway (the newest evaluation's evidence, signatures, waivers, the log), so it says the same on every
form: page, Markdown and JSON. Its hash is sha256 over its canonical JSON: a printed record is checked by making it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from rollouts import rules, selectors, signing, wording
from rollouts.models import Attestation, Criterion, Evaluation, Gate, ReleaseLogEntry, SignOff, Waiver

FORMAT = 1
LOG_LINES = 200
"""The newest ones; the release log has all of them."""


def gate_record(gate: Gate) -> dict[str, Any]:
    """Plain JSON values. Seven queries, however many criteria, signatures and waivers there are."""
    signoffs = list(SignOff.objects.filter(gate=gate).select_related("person").order_by("at", "pk"))
    said = {signoff.role: signoff.decision for signoff in signoffs if signoff.voided_at is None}
    waited_for = [role for role in gate.roles if said.get(role) != SignOff.Decision.GO]
    evaluation = gate.latest if gate.latest_id else None
    log = list(ReleaseLogEntry.objects.filter(gate=gate).order_by("-sequence")[:LOG_LINES])
    return {
        "format": FORMAT,
        "rollout": _rollout(gate),
        "gate": {
            "number": gate.number, "title": gate.title, "phase": gate.phase.title, "status": gate.status, "roles": list(gate.roles),
            "planned_on": gate.planned_on.isoformat(), "opened_at": _time(gate.opened_at), "decided_at": _time(gate.decided_at),
        },
        "sentence": selectors.sentence_of(gate, waited_for),
        "evaluation": _evaluation(evaluation) if evaluation else None,
        "criteria": _criteria(gate, evaluation),
        "signatures": [_signature(signoff) for signoff in signoffs],
        "missing_signatures": [role for role in gate.roles if role not in said],
        "waivers": [_waiver(waiver) for waiver in _waivers_of(gate)],
        "attestations": [_attestation(attestation) for attestation in _attestations_of(gate)],
        "log": [{"at": _time(entry.at), "by": entry.actor_name, "kind": entry.kind, "text": entry.text} for entry in reversed(log)],
    }  # fmt: skip


def hash_of(record: Mapping[str, Any]) -> str:
    return rules.sha256(rules.canonical(record))


def _rollout(gate: Gate) -> dict[str, Any]:
    rollout = gate.rollout
    return {
        "slug": rollout.slug, "name": rollout.name, "owner": str(rollout.owner), "status": rollout.status,
        "plan": rollout.plan_key, "plan_version": rollout.plan_version,
    }  # fmt: skip


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "sequence": evaluation.sequence, "at": _time(evaluation.at), "verdict": evaluation.verdict, "ready": evaluation.is_ready,
        "rules_version": evaluation.rules_version, "digest": evaluation.digest, "evidence_hash": evaluation.evidence_hash,
        "previous_hash": evaluation.previous_hash, "differences": list(selectors.replay(evaluation).differences),
    }  # fmt: skip


def _criteria(gate: Gate, evaluation: Evaluation | None) -> list[dict[str, Any]]:
    """The evidence as it was judged, worst first, each with the line of the plan that it stands for. Before the first evaluation, what will be asked."""
    criteria = {criterion.key: criterion for criterion in gate.criteria.all()}
    if evaluation is None:
        return [_unjudged(criterion) for criterion in criteria.values()]
    return [{**record, "quote": criteria[record["key"]].quote} for record in wording.worst_first(evaluation.records)]


def _unjudged(criterion: Criterion) -> dict[str, Any]:
    return {
        "key": criterion.key, "title": criterion.title, "quote": criterion.quote, "kind": criterion.kind, "severity": criterion.severity,
        "role": criterion.role, "verdict": None,
    }  # fmt: skip


def _signature(signoff: SignOff) -> dict[str, Any]:
    return {
        "role": signoff.role, "by": str(signoff.person), "decision": signoff.decision, "comment": signoff.comment, "at": _time(signoff.at),
        "digest": signoff.digest, "voided_at": _time(signoff.voided_at), "void_reason": signoff.void_reason,
    }  # fmt: skip


def _waivers_of(gate: Gate) -> Iterable[Waiver]:
    return (
        Waiver.objects.filter(criterion__gate=gate).select_related("criterion", "requested_by", "decided_by").order_by("requested_at", "pk")
    )


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {
        "id": waiver.pk, "criterion": waiver.criterion.key, "covers": waiver.covers, "reason": waiver.reason, "until": _time(waiver.until),
        "requested_by": str(waiver.requested_by), "requested_at": _time(waiver.requested_at), "approved": waiver.approved,
        "decided_by": str(waiver.decided_by) if waiver.decided_by else None, "decided_at": _time(waiver.decided_at),
    }  # fmt: skip


def _attestations_of(gate: Gate) -> Iterable[Attestation]:
    return Attestation.objects.filter(criterion__gate=gate).select_related("criterion", "by").order_by("at", "pk")


def _attestation(attestation: Attestation) -> dict[str, Any]:
    return {
        "id": attestation.pk, "criterion": attestation.criterion.key, "met": attestation.met, "summary": attestation.summary,
        "note": attestation.note, "link": attestation.link, "file_name": attestation.file_name, "file_sha256": attestation.file_sha256,
        "by": str(attestation.by), "at": _time(attestation.at),
    }  # fmt: skip


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


# As Markdown


def markdown(record: Mapping[str, Any]) -> str:
    """The same in words, for a ticket or a repository."""
    rollout, gate, evaluation = record["rollout"], record["gate"], record["evaluation"]
    lines = [
        f"# Gate {gate['number']} of {rollout['name']}: {gate['title']}", "",
        f"**{record['sentence']}.**", "",
        f"- Phase: {gate['phase']}, planned for {gate['planned_on']}, opened {_said(gate['opened_at'])}, decided {_said(gate['decided_at'])}",
        f"- Plan: {rollout['plan']}, version {rollout['plan_version']}; owner {rollout['owner']}",
    ]  # fmt: skip
    if evaluation:
        again = "; ".join(evaluation["differences"]) or "same verdict"
        lines += [
            f"- Evaluated {_said(evaluation['at'])}, number {evaluation['sequence']}, rules version {evaluation['rules_version']}; recomputed: {again}",
            f"- Verdict digest `{evaluation['digest']}`", f"- Evidence hash `{evaluation['evidence_hash']}`",
            f"- Hash before `{evaluation['previous_hash']}`",
        ]  # fmt: skip
    lines += [f"- Record hash `{hash_of(record)}`", "", "## Criteria", ""]
    lines += _table(["Verdict", "Criterion", "Value", "95%", "Rule", "Window", "Sample"], (_row(each) for each in record["criteria"]))
    lines += ["", "## Signatures", ""]
    lines += [f"- {_signature_line(each)}" for each in record["signatures"]]
    lines += [f"- {signing.label(role)}: not signed" for role in record["missing_signatures"]]
    if record["waivers"]:
        lines += ["", "## Waivers", "", *(f"- {_waiver_line(each)}" for each in record["waivers"])]
    if record["attestations"]:
        lines += ["", "## Attestations", "", *(f"- {_attestation_line(each)}" for each in record["attestations"])]
    lines += ["", "## Log", "", *(f"- {_said(entry['at'])} — {_flat(entry['text'])}" for entry in record["log"])]
    return "\n".join(lines) + "\n"


def _row(each: Mapping[str, Any]) -> list[str]:
    title = f"{each['title']} ({signing.label(each['role'])})"
    if each["verdict"] is None:
        return ["not evaluated", title, "—", "", "", "", ""]
    verdict = wording.WORDS[each["verdict"]] + (
        "" if each["verdict"] == each["raw"] else f" (without the waiver: {wording.WORDS[each['raw']]})"
    )
    if each["kind"] != "metric":
        return [verdict, title, wording.shown_value(each), "", "attested", "", ""]
    rule, reading = each["rule"], each["reading"]
    return [
        verdict, title, wording.shown_value(each), wording.interval(reading, rule["unit"]),
        f"{rule['metric']} {wording.rule(rule['operator'], rule['threshold'], rule['unit'])}", wording.window(rule["window_hours"]),
        wording.sample(reading, rule["minimum_sample"]),
    ]  # fmt: skip


def _signature_line(each: Mapping[str, Any]) -> str:
    decision = SignOff.Decision(each["decision"]).label
    text = f"{signing.label(each['role'])}: {decision}, {each['by']}, {_said(each['at'])}, on `{each['digest']}`"
    if each["comment"]:
        text += f": “{_flat(each['comment'])}”"
    return text + (f". Voided {_said(each['voided_at'])}: {each['void_reason']}" if each["voided_at"] else "")


def _waiver_line(each: Mapping[str, Any]) -> str:
    decided = "waits for a decision"
    if each["approved"] is not None:
        decided = f"{'agreed to' if each['approved'] else 'declined'} by {each['decided_by']}, {_said(each['decided_at'])}"
    asked = f"asked for by {each['requested_by']}, {_said(each['requested_at'])}"
    return f"{each['criterion']}, covers {wording.WORDS[each['covers']]} to {_said(each['until'])}: {_flat(each['reason'])} ({asked}; {decided})"


def _attestation_line(each: Mapping[str, Any]) -> str:
    file = f", file {each['file_name']} sha256 `{each['file_sha256']}`" if each["file_name"] else ""
    link = f", {each['link']}" if each["link"] else ""
    return (
        f"{each['criterion']}: {'met' if each['met'] else 'not met'}, {each['by']}, {_said(each['at'])}: {_flat(each['note'])}{link}{file}"
    )


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    found = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return found + [f"| {' | '.join(_flat(cell).replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _said(at: str | None) -> str:
    return f"{datetime.fromisoformat(at):%Y-%m-%d %H:%M} UTC" if at else "—"
