"""Experiments: fix the terms, start, read, stop, decide. Whatever a decision does to the flag goes the flag's own road, with its second person."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models.prompt import label_validator
from gateway.contract.flags import BUCKETS
from governance.errors import DomainError
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit
from rollouts import advice, experiment_selectors, rules
from rollouts import exposure as exposure_rules
from rollouts.advice import MEASURES
from rollouts.errors import (
    EvidenceMissingError,
    ExperimentInvalidError,
    ExperimentRunningError,
    ExperimentStateError,
    NoSplitError,
    SlugTakenError,
    UnsoundError,
    VerdictChangedError,
)
from rollouts.experiment_selectors import FEWEST_UNITS
from rollouts.models import Experiment, ExperimentReading, Flag, FlagChange
from rollouts.services import flag_changes

logger = logging.getLogger(__name__)

MAX_DAYS = 90
MAX_GUARDRAILS = 4
RESERVED = ("new", "plan")
"""Addresses of pages and endpoints beside the experiments."""
MOST_CERTAIN = 0.95
"""Confidence above which an experiment proposes its winner itself."""


def create_experiment(
    *,
    slug: str,
    name: str,
    hypothesis: str,
    flag: Flag,
    metric: str,
    effect: float,
    max_days: int,
    actor: User,
    minimum_units: int | None = None,
    better: str = Experiment.Better.LOWER,
    method: str = Experiment.Method.SEQUENTIAL,
    guardrails: Sequence[Mapping[str, Any]] = (),
    champion: str = "",
    auto_promote: bool = False,
    label: str = "",
    expected_latency_delta: float | None = None,
    expected_quality_gain: float | None = None,
    at: datetime | None = None,
) -> Experiment:
    """Fix the terms as a draft. `champion`: the flag's control unless another variant is named. Expectations and `label`: see the model.
    `minimum_units` None: as worked out from the flag's calls of late.

    Raises ExperimentInvalidError, SlugTakenError, NoSplitError (the flag binds no model, so that no call tells its variant).
    """
    champion, at = champion or flag.control, at or timezone.now()
    _check_terms(flag, champion, metric, better, effect, FEWEST_UNITS if minimum_units is None else minimum_units, max_days, guardrails)
    if minimum_units is None:
        minimum_units = experiment_selectors.plan_for(flag, metric=metric, effect=effect, max_days=max_days, at=at).minimum(method)
    _check_expected(expected_latency_delta, expected_quality_gain)
    if slug in RESERVED:
        raise ExperimentInvalidError(f"{slug} is the address of another page.", field="slug")
    if not flag.model:
        raise NoSplitError(f"{flag.key} binds no model: experiments read governed calls, and none of them tells its variant.", field="flag")
    _check_label(flag, label)
    with transaction.atomic():
        try:
            with transaction.atomic():
                experiment = Experiment.objects.create(
                    slug=slug, name=name.strip(), hypothesis=hypothesis.strip(), flag=flag, champion=champion, metric=metric, better=better,
                    effect=effect, guardrails=[dict(each) for each in guardrails], minimum_units=minimum_units, max_days=max_days,
                    method=method, auto_promote=auto_promote, label=label, expected_latency_delta=expected_latency_delta,
                    expected_quality_gain=expected_quality_gain, owner=actor, created_at=at,
                )  # fmt: skip
        except IntegrityError as error:
            if Experiment.objects.filter(slug=slug).exists():
                raise SlugTakenError(f"There is an experiment at {slug} already.", field="slug") from error
            raise
        audit.record(
            "experiment.created", actor=actor, target=experiment, at=at, flag=flag.key, champion=champion, metric=metric, better=better,
            effect=effect, guardrails=experiment.guardrails, minimum_units=minimum_units, max_days=max_days, method=method,
            auto_promote=auto_promote, label=label, treatments=flag.variants, expected_latency_delta=expected_latency_delta,
            expected_quality_gain=expected_quality_gain,
        )  # fmt: skip
    return experiment


def _check_label(flag: Flag, label: str) -> None:
    if label and not flag.comparison.prompt:
        raise ExperimentInvalidError(f"{flag.key} compares no versions of a prompt, so that no label can move.", field="label")
    if label:
        try:
            label_validator(label)
        except ValidationError as error:
            raise ExperimentInvalidError(str(error.message), field="label") from error


def _check_expected(latency_delta: float | None, quality_gain: float | None) -> None:
    for field, value in (("expected_latency_delta", latency_delta), ("expected_quality_gain", quality_gain)):
        if value is not None and not -100 <= value <= 1000:
            raise ExperimentInvalidError("What is expected lies between -100 and 1000.", field=field)


@transaction.atomic
def discard_experiment(*, experiment: Experiment, actor: User, at: datetime | None = None) -> None:
    """Remove a draft; its address becomes free again. Raises ExperimentStateError: what was started stays."""
    experiment = _lock(experiment, Experiment.Status.DRAFT)
    audit.record("experiment.discarded", actor=actor, target=experiment, at=at, slug=experiment.slug)
    experiment.delete()


def _check_terms(
    flag: Flag, champion: str, metric: str, better: str, effect: float, minimum_units: int, max_days: int,
    guardrails: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    if champion not in flag.variants:
        raise ExperimentInvalidError(f"{flag.key} has no variant {champion}.", field="champion")
    if metric not in MEASURES or better not in Experiment.Better.values:
        raise ExperimentInvalidError("Choose one of the metrics, and which way is better.", field="metric")
    if metric != "output_tokens" and better != Experiment.Better.LOWER:
        raise ExperimentInvalidError(f"{MEASURES[metric].title} is better when lower.", field="better")
    if not 0 < effect <= 100:
        raise ExperimentInvalidError("The smallest effect worth finding is above 0 and at most 100.", field="effect")
    if minimum_units < FEWEST_UNITS:
        raise ExperimentInvalidError(f"At least {FEWEST_UNITS} units per arm: fewer say nothing.", field="minimum_units")
    if not 1 <= max_days <= MAX_DAYS:
        raise ExperimentInvalidError(f"An experiment runs 1 to {MAX_DAYS} days.", field="max_days")
    named = [each["metric"] for each in guardrails]
    if len(named) > MAX_GUARDRAILS or len(set(named)) != len(named) or metric in named or not set(named) <= MEASURES.keys():
        raise ExperimentInvalidError("Guardrails are up to four metrics, each once, other than the primary one.", field="guardrails")
    if not all(0 < each["margin"] <= 1000 for each in guardrails):
        raise ExperimentInvalidError("What a guardrail tolerates is above 0.", field="guardrails")


@transaction.atomic
def start_experiment(*, experiment: Experiment, actor: User, at: datetime | None = None) -> Experiment:
    """Count calls from now on, by the split that the flag has now. Raises ExperimentStateError, NoSplitError, ExperimentRunningError."""
    flag = Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=experiment.flag_id)
    experiment, at = _lock(experiment, Experiment.Status.DRAFT), at or timezone.now()
    shares = experiment_selectors.split_of(flag, flag.exposure)
    if flag.is_archived or len(shares) < 2:
        raise NoSplitError(
            f"{flag.key} has no split: everybody gets the same variant. Expose a share below 100%, or give the exposed several variants."
        )
    if experiment.champion not in shares:
        raise NoSplitError(f"Nobody is assigned to the champion {experiment.champion}: the flag's split is {_told(shares)}.")
    if Experiment.objects.filter(flag=flag, status=Experiment.Status.RUNNING).exists():
        raise ExperimentRunningError(f"Another experiment on {flag.key} runs. It is stopped first.")
    experiment.status, experiment.version, experiment.shares = Experiment.Status.RUNNING, flag.current, shares
    experiment.started_by, experiment.started_at = actor, at
    experiment.save(update_fields=["status", "version", "shares", "started_by", "started_at"])
    audit.record(
        "experiment.started", actor=actor, target=experiment, at=at, flag=flag.key, version=flag.current.number if flag.current else None,
        shares=shares, ends_at=experiment.ends_at.isoformat() if experiment.ends_at else None,
    )  # fmt: skip
    return experiment


def _told(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.4g}%" for name, share in shares.items())


def read_when_due(*, experiment: Experiment, at: datetime | None = None) -> ExperimentReading | None:
    """Read on schedule. None, and nothing happens, where that was done lately or the experiment runs no more: the task may come twice."""
    at = at or timezone.now()
    with transaction.atomic():
        running = Experiment.objects.select_for_update(of=("self",), skip_locked=True).filter(status=Experiment.Status.RUNNING)
        due = running.select_related("latest").filter(pk=experiment.pk).first()
        if due is None:  # or somebody is at it: the next task comes soon
            return None
        experiment = due
        if experiment.latest is not None and experiment.latest.at > at - experiment_selectors.READ_EVERY:
            return None
        return read_experiment(experiment=experiment, at=at)


@transaction.atomic
def read_experiment(*, experiment: Experiment, actor: User | None = None, at: datetime | None = None) -> ExperimentReading:
    """Take the sums of every arm, keep them under a hash, and act on what they say: tell of a breached guardrail, stop what has come to its
    end, propose the winner where that was allowed. `actor` None: on schedule.

    Raises ExperimentStateError for a draft or a decided one.
    """
    experiment, at = _lock(experiment, Experiment.Status.RUNNING, Experiment.Status.STOPPED), at or timezone.now()
    reading = _take(experiment, actor, at)
    _tell_breaches(experiment, reading, at)
    if experiment.status == Experiment.Status.RUNNING and (reason := _why_over(experiment, reading, at)):
        _stop(experiment, reason, actor=None, at=at)
    if experiment.auto_promote and experiment.status in (Experiment.Status.RUNNING, Experiment.Status.STOPPED):
        _promote_by_itself(experiment, reading, at)
    return reading


def _take(experiment: Experiment, actor: User | None, at: datetime) -> ExperimentReading:
    assert experiment.started_at is not None
    until = min(moment for moment in (at, experiment.ends_at, experiment.ended_at) if moment is not None)
    versions = experiment_selectors.counted_versions(experiment)
    counted = experiment_selectors.count_arms(experiment.flag, since=experiment.started_at, until=until, versions=versions)
    last = experiment.latest
    record = {
        **advice.evidence(experiment.terms, counted.arms, earlier_p=last.assignment_p if last else 1.0),
        "experiment": experiment.slug, "flag": experiment.flag.key, "versions": versions, "excluded": counted.excluded,
        "since": experiment.started_at.isoformat(), "until": until.isoformat(),
    }  # fmt: skip
    report, text = advice.replay(record), rules.canonical(record)
    previous = last.evidence_hash if last else rules.sha256(f"{rules.GENESIS}:experiment:{experiment.pk}:{current_schema()}")
    sequence = last.sequence + 1 if last else 1
    reading = ExperimentReading(
        experiment=experiment, sequence=sequence, at=at, requested_by=actor, advice=report.advice, assignment_p=report.assignment_p,
        evidence=text, previous_hash=previous,
    )  # fmt: skip
    reading.evidence_hash = experiment_selectors.digest_of(reading)
    reading.save()
    experiment.latest = reading
    experiment.save(update_fields=["latest"])
    if actor is not None or last is None or last.advice != report.advice:
        audit.record(
            "experiment.read", actor=actor, target=experiment, at=at, reading=sequence, advice=report.advice, sentence=report.sentence,
            hash=reading.evidence_hash,
        )  # fmt: skip
    return reading


def _tell_breaches(experiment: Experiment, reading: ExperimentReading, at: datetime) -> None:
    if not reading.report.sound:
        return
    for contender in reading.report.contenders:
        for effect in contender.breached:
            title = MEASURES[effect.metric].title
            alerts.notify(
                topic="experiment.guardrail_breached", severity=Severity.CRITICAL,
                title=f"{experiment.name}: {contender.variant} breaks the guardrail {title.lower()}", text=reading.report.sentence,
                path=f"release/experiments/{experiment.slug}/", permission=Permission.MANAGE_ROLLOUTS,
                key=f"experiment:{experiment.pk}:guardrail:{contender.variant}:{effect.metric}",
                data={"experiment": experiment.slug, "variant": contender.variant, "metric": effect.metric}, at=at,
            )  # fmt: skip


def _why_over(experiment: Experiment, reading: ExperimentReading, at: datetime) -> str:
    """Empty while it goes on."""
    assert experiment.version is not None
    flag = experiment.flag
    if flag.is_archived or not experiment_selectors.same_split(flag.exposure, experiment.version.exposed):
        return "The flag's split was changed."
    if experiment.ends_at is not None and at >= experiment.ends_at:
        return f"It has run for {experiment.max_days} days."
    if experiment.method == Experiment.Method.FIXED and reading.report.reached:
        return "The horizon is reached."
    return ""


@transaction.atomic
def stop_experiment(*, experiment: Experiment, reason: str, actor: User, at: datetime | None = None) -> Experiment:
    """Count no further calls; the decision is still to be made. Raises ExperimentStateError, EvidenceMissingError."""
    experiment, at = _lock(experiment, Experiment.Status.RUNNING), at or timezone.now()
    if not reason.strip():
        raise EvidenceMissingError("Say why: an experiment that is stopped when its figures look good proves nothing.", field="reason")
    _take(experiment, actor, at)
    return _stop(experiment, reason.strip(), actor=actor, at=at)


def _stop(experiment: Experiment, reason: str, *, actor: User | None, at: datetime) -> Experiment:
    ended_at = min(at, experiment.ends_at) if experiment.ends_at else at
    experiment.status, experiment.ended_at, experiment.end_reason = Experiment.Status.STOPPED, ended_at, reason
    experiment.save(update_fields=["status", "ended_at", "end_reason"])
    audit.record("experiment.stopped", actor=actor, target=experiment, at=at, reason=reason)
    alerts.notify(
        topic="experiment.stopped", severity=Severity.INFO, title=f"{experiment.name} waits for a decision",
        text=f"{reason} {experiment.latest.report.sentence if experiment.latest else ''}".strip(),
        path=f"release/experiments/{experiment.slug}/", permission=Permission.MANAGE_ROLLOUTS, key=f"experiment:{experiment.pk}:stopped",
        data={"experiment": experiment.slug}, at=at,
    )  # fmt: skip
    return experiment


@transaction.atomic
def decide(
    *, experiment: Experiment, decision: str, note: str, actor: User, winner: str = "", seen: int | None = None, at: datetime | None = None
) -> Experiment:
    """End an experiment: promote a treatment, hold (nothing changes), or roll back to the champion.

    Promoting proposes that everybody whom the flag's other rules let through gets the winner; that raises exposure, so a second person agrees
    as the flag's policy says. The experiment's label of the prompt moves with it. Rolling back switches the flag off at once, reviewed later; where the champion is itself a treatment it is
    proposed like a promotion. `seen`: the number of the reading that the person looked at.

    Raises ExperimentStateError, ExperimentInvalidError, EvidenceMissingError, UnsoundError, VerdictChangedError, and what the flag's services raise.
    """
    experiment, at = _lock(experiment, Experiment.Status.RUNNING, Experiment.Status.STOPPED), at or timezone.now()
    if decision not in Experiment.Decision.values:
        raise ExperimentInvalidError("Decide promote, hold or rollback.", field="decision")
    if not note.strip():
        raise EvidenceMissingError("Say why: the note stays with the decision.", field="note")
    if seen is not None and experiment.latest is not None and experiment.latest.sequence != seen:
        before = experiment.readings.filter(sequence=seen).first()
        if before is None or before.advice != experiment.latest.advice:
            raise VerdictChangedError(f"The advice is another by now: {experiment.latest.report.sentence} Look again, then decide.")
    return _decide(experiment, decision, winner=winner, note=note.strip(), actor=actor, proposer=actor, at=at)


def _decide(
    experiment: Experiment, decision: str, *, winner: str, note: str, actor: User | None, proposer: User, at: datetime
) -> Experiment:  # fmt: skip
    change = None
    if decision == Experiment.Decision.PROMOTE:
        change = _propose_winner(experiment, winner, note, proposer, at)
    elif decision == Experiment.Decision.ROLLBACK:
        change = _roll_back(experiment, note, proposer, at)
    if experiment.status == Experiment.Status.RUNNING:
        experiment.ended_at, experiment.end_reason = at, "It was decided."
    experiment.status, experiment.decision, experiment.decided_by, experiment.decided_at = Experiment.Status.DECIDED, decision, actor, at
    experiment.winner = winner if decision == Experiment.Decision.PROMOTE else ""
    experiment.note, experiment.change = note, change
    experiment.save()
    latest = experiment.latest
    audit.record(
        "experiment.decided", actor=actor, target=experiment, at=at, decision=decision, winner=experiment.winner, note=note,
        advice=latest.advice if latest else None, reading=latest.evidence_hash if latest else None, change=change.number if change else None,
    )  # fmt: skip
    alerts.notify(
        topic="experiment.decided", severity=Severity.INFO,
        title=f"{experiment.name}: {experiment.get_decision_display().lower()}{f' {winner}' if experiment.winner else ''}", text=note,
        path=f"release/experiments/{experiment.slug}/", permission=Permission.VIEW, key=f"experiment:{experiment.pk}:decided",
        data={"experiment": experiment.slug, "decision": decision, "winner": experiment.winner}, at=at,
    )  # fmt: skip
    return experiment


def _propose_winner(experiment: Experiment, winner: str, note: str, proposer: User, at: datetime) -> FlagChange:
    if winner not in experiment.shares or winner == experiment.champion:
        others = ", ".join(name for name in experiment.shares if name != experiment.champion)
        raise ExperimentInvalidError(f"Promote one of: {others}. The champion {experiment.champion} is kept by holding.", field="winner")
    if experiment.latest is None or not experiment.latest.report.sound:
        raise UnsoundError("Nothing was read yet." if experiment.latest is None else experiment.latest.report.sentence)
    flag = experiment.flag
    if winner == flag.control:
        raise ExperimentInvalidError(f"{winner} is the flag's control: lower the flag instead.", field="winner")
    exposure = exposure_rules.changed(flag.exposure, on=True, percentage=BUCKETS, weights={winner: BUCKETS})
    prompt = flag.comparison.treatments[winner].prompt if experiment.label else ""
    return flag_changes.propose_change(
        flag=flag, exposure=exposure, reason=_reason(experiment, note), actor=proposer, prompt=prompt, label=experiment.label, at=at
    )


def _roll_back(experiment: Experiment, note: str, proposer: User, at: datetime) -> FlagChange | None:
    flag = experiment.flag
    if flag.is_archived or not flag.exposure.on:
        return None  # nobody is exposed any more
    if experiment.champion == flag.control:
        off = exposure_rules.changed(flag.exposure, on=False)
        return flag_changes.lower_in_emergency(flag=flag, exposure=off, reason=_reason(experiment, note), actor=proposer, at=at)
    exposure = exposure_rules.changed(flag.exposure, weights={experiment.champion: BUCKETS})
    return flag_changes.propose_change(flag=flag, exposure=exposure, reason=_reason(experiment, note), actor=proposer, at=at)


def _reason(experiment: Experiment, note: str) -> str:
    return f"Experiment {experiment.slug}: {note}"[:500]


def _promote_by_itself(experiment: Experiment, reading: ExperimentReading, at: datetime) -> None:
    """In the name of whoever started it, so that this person can't also be the second one."""
    report, proposer = reading.report, experiment.started_by
    if (
        report.advice != "promote"
        or (report.confidence or 0.0) <= MOST_CERTAIN
        or proposer is None
        or not flag_changes.may_propose(proposer)
    ):
        return
    note = f"Proposed by the experiment itself at {100 * (report.confidence or 0):.1f}% confidence: {report.sentence}"[:500]
    try:
        _decide(experiment, Experiment.Decision.PROMOTE, winner=report.winner, note=note, actor=None, proposer=proposer, at=at)
    except DomainError as error:  # such as another change that waits; the next reading tries again
        logger.warning("experiment.not_promoted", extra={"experiment": experiment.pk, "code": error.code})


def _lock(experiment: Experiment, *wanted: Experiment.Status) -> Experiment:
    """The experiment as it is once everybody before has finished. Raises ExperimentStateError unless it is in one of the states."""
    fresh = (
        Experiment.objects.select_for_update(of=("self",))
        .select_related("flag__current", "version", "latest", "started_by")
        .get(pk=experiment.pk)
    )
    if fresh.status not in wanted:
        raise ExperimentStateError(f"{fresh.name} is {fresh.get_status_display().lower()}: that can't be done now.")
    return fresh
