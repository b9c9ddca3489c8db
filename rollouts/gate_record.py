"""The record of a gate: one document with everything that its decision rests on, to be printed, filed and compared.

It is made of what is kept anyway (an evaluation's evidence, signatures, waivers, attestations, the log) as it stood at a moment, so it
says the same on every form: page, Markdown and JSON. Its hash is sha256 over the canonical JSON of all but `today`: a printed record is
checked by making it again as of its moment and of its evaluation. What goes on changing (persons' names, the gate's status, waivers'
ends, what recomputing finds) stands in `today`, and persons elsewhere by their number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from django.utils.dateparse import parse_datetime

from governance.models import User
from rollouts import gate_selectors, rules, signing, wording
from rollouts.errors import EvidenceMissingError
from rollouts.models import Attestation, Criterion, Evaluation, Gate, ReleaseLogEntry, SignOff, Waiver

FORMAT = 2
LOG_LINES = 200
"""The newest ones; the release log has all of them."""
NO_EVALUATION = "none"


@dataclass(frozen=True)
class AsOf:
    """What a record is made of: rows up to a moment, and an evaluation by then; None before the first."""

    at: datetime
    evaluation: Evaluation | None

    @property
    def query(self) -> str:
        """Of the address under which the same record is made again."""
        return urlencode({"at": self.at.isoformat(), "evaluation": self.evaluation.evidence_hash if self.evaluation else NO_EVALUATION})


def as_of(gate: Gate, query: Mapping[str, str], *, now: datetime) -> AsOf:
    """What an address asks for: `at` (ISO, with its zone; now by default) and `evaluation` (its evidence hash, or none; by default the newest
    by then since the gate opened). Raises EvidenceMissingError."""
    moment = _moment(query.get("at", ""), now)
    wanted = query.get("evaluation", "")
    if wanted == NO_EVALUATION:
        return AsOf(moment, None)
    made = Evaluation.objects.filter(gate=gate, at__lte=moment).order_by("-sequence")
    if wanted:
        found = made.filter(evidence_hash=wanted).first()
        if found is None:
            raise EvidenceMissingError("This gate has no evaluation with that evidence hash by then.", field="evaluation")
        return AsOf(moment, found)
    latest = gate.latest if gate.latest_id else None
    if latest is not None and latest.at > moment:
        latest = made.filter(at__gte=gate.opened_at).first() if gate.opened_at else None
    return AsOf(moment, latest)


def _moment(text: str, now: datetime) -> datetime:
    if not text:
        return now.astimezone(UTC)
    try:
        found = parse_datetime(text)
    except ValueError:  # well-formed, and no such time
        found = None
    if found is None or found.tzinfo is None or found > now:
        raise EvidenceMissingError("The moment is an ISO time with its zone, and not in the future.", field="at")
    return found.astimezone(UTC)


def gate_record(gate: Gate, moment: AsOf) -> dict[str, Any]:
    """Plain JSON values. Five queries, however many criteria, signatures and waivers there are."""
    evaluation, at, people = moment.evaluation, moment.at, dict[str, str]()
    signatures = [_signature(signoff, at, people) for signoff in _signoffs_of(gate, at)]
    said = {each["role"]: each["decision"] for each in signatures if each["voided_at"] is None}
    waited_for = [role for role in gate.roles if said.get(role) != SignOff.Decision.GO]
    log = list(ReleaseLogEntry.objects.filter(gate=gate, at__lte=at).order_by("-sequence")[:LOG_LINES])
    rollout, waivers = gate.rollout, list(_waivers_of(gate, at))
    return {
        "format": FORMAT,
        "as_of": _time(at),
        "rollout": {"slug": rollout.slug, "plan": rollout.plan_key, "plan_version": rollout.plan_version},
        "gate": {
            "number": gate.number, "title": gate.title, "phase": gate.phase.title, "roles": list(gate.roles),
            "planned_on": gate.planned_on.isoformat(),
        },
        "evaluation": _evaluation(evaluation) if evaluation else None,
        "criteria": _criteria(gate, evaluation),
        "signatures": signatures,
        "missing_signatures": [role for role in gate.roles if role not in said],
        "waivers": [_waiver(waiver, at, people) for waiver in waivers],
        "attestations": [_attestation(attestation, people) for attestation in _attestations_of(gate, at)],
        "log": [{"at": _time(entry.at), "by": entry.actor_name, "kind": entry.kind, "text": entry.text} for entry in reversed(log)],
        "today": {
            "rollout": rollout.name, "owner": str(rollout.owner), "rollout_status": rollout.status, "status": gate.status,
            "opened_at": _time(gate.opened_at), "decided_at": _time(gate.decided_at), "sentence": gate_selectors.sentence_of(_gate_then(gate, moment, said), waited_for),
            "people": people, "differences": list(gate_selectors.replay(evaluation).differences) if evaluation else [],
            "waived_until": {str(waiver.pk): _time(waiver.until) for waiver in waivers}, "query": moment.query,
        },
    }  # fmt: skip


def _gate_then(gate: Gate, moment: AsOf, said: Mapping[str, str]) -> Gate:
    """As it was at the moment, by its signatures of then; it may have been decided, opened anew or left backwards since."""
    then = copy(gate)
    then.latest = moment.evaluation
    if SignOff.Decision.NO_GO in said.values():
        then.status = Gate.Status.REJECTED
    elif gate.roles and all(said.get(role) == SignOff.Decision.GO for role in gate.roles):
        then.status = Gate.Status.PASSED
    else:
        is_open = moment.evaluation is not None or (
            gate.status != Gate.Status.CLOSED and gate.opened_at is not None and gate.opened_at <= moment.at
        )
        then.status = Gate.Status.OPEN if is_open else Gate.Status.CLOSED
    return then


def hash_of(record: Mapping[str, Any]) -> str:
    return rules.sha256(rules.canonical({name: part for name, part in record.items() if name != "today"}))


_PERSONS = {"signatures": ("by",), "waivers": ("requested_by", "decided_by"), "attestations": ("by",)}


def with_names(record: Mapping[str, Any]) -> dict[str, Any]:
    """For readers: persons by their names of today, and when each waiver ends, which somebody may bring forward."""
    people, until = record["today"]["people"], record["today"]["waived_until"]
    named = {
        part: [{**each, **{field: people.get(str(each[field])) for field in fields}} for each in record[part]]
        for part, fields in _PERSONS.items()
    }
    named["waivers"] = [{**each, "until": until[str(each["id"])]} for each in named["waivers"]]
    return {**record, **named}


def _number(person: User, people: dict[str, str]) -> int:
    people[str(person.pk)] = str(person)
    return person.pk


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "sequence": evaluation.sequence, "at": _time(evaluation.at), "verdict": evaluation.verdict, "ready": evaluation.is_ready,
        "rules_version": evaluation.rules_version, "digest": evaluation.digest, "evidence_hash": evaluation.evidence_hash,
        "previous_hash": evaluation.previous_hash,
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


def _signoffs_of(gate: Gate, at: datetime) -> Iterable[SignOff]:
    return SignOff.objects.filter(gate=gate, at__lte=at).select_related("person").order_by("at", "pk")


def _signature(signoff: SignOff, at: datetime, people: dict[str, str]) -> dict[str, Any]:
    is_voided = signoff.voided_at is not None and signoff.voided_at <= at
    return {
        "role": signoff.role, "by": _number(signoff.person, people), "decision": signoff.decision, "comment": signoff.comment,
        "at": _time(signoff.at), "digest": signoff.digest, "voided_at": _time(signoff.voided_at) if is_voided else None,
        "void_reason": signoff.void_reason if is_voided else "",
    }  # fmt: skip


def _waivers_of(gate: Gate, at: datetime) -> Iterable[Waiver]:
    asked = Waiver.objects.filter(criterion__gate=gate, requested_at__lte=at)
    return asked.select_related("criterion", "requested_by", "decided_by").order_by("requested_at", "pk")


def _waiver(waiver: Waiver, at: datetime, people: dict[str, str]) -> dict[str, Any]:
    decided_by = waiver.decided_by if waiver.decided_at is not None and waiver.decided_at <= at else None
    return {
        "id": waiver.pk, "criterion": waiver.criterion.key, "covers": waiver.covers, "reason": waiver.reason,
        "ended_at": _time(waiver.until) if waiver.until <= at else None,
        "requested_by": _number(waiver.requested_by, people), "requested_at": _time(waiver.requested_at),
        "approved": waiver.approved if decided_by else None, "decided_by": _number(decided_by, people) if decided_by else None,
        "decided_at": _time(waiver.decided_at) if decided_by else None,
    }  # fmt: skip


def _attestations_of(gate: Gate, at: datetime) -> Iterable[Attestation]:
    made = Attestation.objects.filter(criterion__gate=gate, at__lte=at)
    return made.select_related("criterion", "by").order_by("at", "pk")


def _attestation(attestation: Attestation, people: dict[str, str]) -> dict[str, Any]:
    return {
        "id": attestation.pk, "criterion": attestation.criterion.key, "met": attestation.met, "summary": attestation.summary,
        "note": attestation.note, "link": attestation.link, "file_name": attestation.file_name, "file_sha256": attestation.file_sha256,
        "by": _number(attestation.by, people), "at": _time(attestation.at),
    }  # fmt: skip


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


# As Markdown


def markdown(record: Mapping[str, Any]) -> str:
    """The same in words, for a ticket or a repository."""
    rollout, gate, evaluation, today = record["rollout"], record["gate"], record["evaluation"], record["today"]
    record_hash, record = hash_of(record), with_names(record)
    lines = [
        f"# Gate {gate['number']} of {today['rollout']}: {gate['title']}", "",
        f"**{today['sentence']}.**", "",
        f"- Phase: {gate['phase']}, planned for {gate['planned_on']}, opened {_said(today['opened_at'])}, decided {_said(today['decided_at'])}",
        f"- Plan: {rollout['plan']}, version {rollout['plan_version']}; owner {today['owner']}",
    ]  # fmt: skip
    if evaluation:
        again = "; ".join(today["differences"]) or "same verdict"
        lines += [
            f"- Evaluated {_said(evaluation['at'])}, number {evaluation['sequence']}, rules version {evaluation['rules_version']}; recomputed: {again}",
            f"- Verdict digest `{evaluation['digest']}`", f"- Evidence hash `{evaluation['evidence_hash']}`",
            f"- Hash before `{evaluation['previous_hash']}`",
        ]  # fmt: skip
    lines += [
        f"- Record as of {record['as_of']}; made again with `?{today['query']}`",
        f"- Record hash `{record_hash}`",
        "",
        "## Criteria",
        "",
    ]
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
        f"{_asked_of(rule, reading)} {wording.rule(rule['operator'], rule['threshold'], rule['unit'])}", wording.window(rule["window_hours"]),
        wording.sample(reading, rule["minimum_sample"]),
    ]  # fmt: skip


def _asked_of(rule: Mapping[str, Any], reading: Mapping[str, Any]) -> str:
    """The metric, and of a cohort how its organisations were taken together."""
    return f"{rule['metric']}, {wording.over(rule['over'], reading['statistics'])}:" if "over" in rule else str(rule["metric"])


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
