"""Results of evaluation harnesses: taking them in, and what models must have scored before they are approved."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from governance.models import FeatureClass, Membership, Severity, User
from governance.roles import Permission
from governance.services import alerts, audit
from rollouts import evaluation_rules, evaluation_selectors, rules
from rollouts.errors import (
    EvaluationConflictError,
    EvaluationInvalidError,
    EvaluationMissingError,
    EvidenceMissingError,
    NotWaivableError,
    RoleNotHeldError,
    SelfApprovalError,
    WaiverDecidedError,
)
from rollouts.models import EvaluationRun, EvaluationScore, EvaluationThreshold, EvaluationThresholdChange, EvaluationWaiver

METRIC = re.compile(r"^[a-z][a-z0-9_]{0,59}$")
MOST_SCORES = 50
MOST_ITEMS = 20_000
"""Of one score: a few hundred kilobytes."""
LONGEST_WAIVER = timedelta(days=90)
CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class ScoreInput:
    metric: str
    value: float | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    items: Mapping[str, float] = field(default_factory=dict)
    better: str = ""
    """Only of a metric that is not known by name."""
    is_safety: bool = False


@transaction.atomic
def record_run(
    *,
    key: str,
    harness: str,
    dataset: str,
    scores: Sequence[ScoreInput],
    actor: User,
    model: str = "",
    deployment: str = "",
    prompt_version: str = "",
    commit: str = "",
    url: str = "",
    at: datetime | None = None,
    now: datetime | None = None,
) -> tuple[EvaluationRun, bool]:
    """Keep what a harness found; returns whether it is new. Told again under the same key with the same content, it is the run that there is.

    `at`: when it was evaluated; now by default. Raises EvaluationInvalidError, EvaluationConflictError (same key, other content).
    """
    now = now or timezone.now()
    if not model and not prompt_version:
        raise EvaluationInvalidError("Say what was evaluated: a model or a prompt version.", field="model")
    if at is not None and at > now + CLOCK_SKEW:
        raise EvaluationInvalidError("The evaluation lies in the future.", field="at")
    if not 0 < len(scores) <= MOST_SCORES:
        raise EvaluationInvalidError(f"A run has 1 to {MOST_SCORES} scores.", field="scores")
    if len({one.metric for one in scores}) < len(scores):
        raise EvaluationInvalidError("Each metric stands once in a run.", field="scores")
    told = {
        "harness": harness, "dataset": dataset, "model": model, "deployment": deployment, "prompt_version": prompt_version, "commit": commit, "url": url,
    }  # fmt: skip
    complete = [_score(one) for one in scores]
    fingerprint = rules.sha256(rules.canonical({**told, "at": at.isoformat() if at else None, "scores": [asdict(one) for one in scores]}))
    run = EvaluationRun(key=key, **told, at=at or now, received_at=now, by=actor, fingerprint=fingerprint)
    try:
        with transaction.atomic():
            run.save(force_insert=True)
    except IntegrityError:
        before = EvaluationRun.objects.filter(key=key).first()
        if before is None:
            raise
        if before.fingerprint != fingerprint:
            raise EvaluationConflictError(
                f"Another run was told under the key {key}. Runs are never changed: use a new key.", field="key"
            ) from None
        return before, False
    for one in complete:
        one.run = run
    EvaluationScore.objects.bulk_create(complete)
    said = {one.metric: round(one.value, 6) for one in complete}
    audit.record("evaluation_run.recorded", actor=actor, target=run, at=now, subject=run.subject, dataset=dataset, scores=said)
    return run, True


def _score(told: ScoreInput) -> EvaluationScore:
    if not METRIC.match(told.metric):
        raise EvaluationInvalidError(
            f"{told.metric!r} is no name for a metric: lower-case letters, digits and underscores.", field="scores"
        )
    if len(told.items) > MOST_ITEMS:
        raise EvaluationInvalidError(f"{told.metric}: at most {MOST_ITEMS:,} items; tell value, n and interval instead.", field="scores")
    known = evaluation_rules.MEASURES.get(told.metric)
    better = known.better if known else told.better
    if not better:
        raise EvaluationInvalidError(f"{told.metric} is not known by name: say whether higher or lower is better.", field="scores")
    if known and told.better not in ("", known.better):
        raise EvaluationInvalidError(f"{told.metric}: {known.better} is better.", field="scores")
    try:
        scored = evaluation_rules.score(value=told.value, n=told.n, low=told.low, high=told.high, items=told.items)
    except evaluation_rules.ScoreError as error:
        raise EvaluationInvalidError(f"{told.metric}: {error}", field="scores") from error
    return EvaluationScore(
        metric=told.metric, better=better, is_safety=known.is_safety if known else told.is_safety,
        value=scored.value, n=scored.n, low=scored.low, high=scored.high, items=dict(scored.items),
    )  # fmt: skip


@transaction.atomic
def set_threshold(
    *,
    feature_class: str,
    metric: str,
    value: float,
    minimum: int,
    max_age_days: int,
    actor: User,
    reason: str = "",
    at: datetime | None = None,
) -> EvaluationThreshold:
    """Ask it of every model of the class, and of every prompt version for one, from the next approval on; what is served stays. Replaces the threshold on the same metric, and
    ends what was waived or asked to be waived of it.

    A threshold on safety that would ask for less in any part stays as it is: the change waits for a second person, and needs a `reason`.
    Raises EvaluationInvalidError, EvidenceMissingError (no reason).
    """
    at = at or timezone.now()
    known = evaluation_rules.MEASURES.get(metric)
    if known is None:
        raise EvaluationInvalidError(f"{metric} is not known by name. There are: {', '.join(evaluation_rules.MEASURES)}.", field="metric")
    if feature_class not in FeatureClass.values:
        raise EvaluationInvalidError("There is no such feature class.", field="feature_class")
    terms = evaluation_rules.Terms(value, minimum, max_age_days)
    _check_terms(terms)
    before = EvaluationThreshold.objects.select_for_update().filter(feature_class=feature_class, metric=metric).first()
    if before is not None and before.is_safety and evaluation_rules.is_lower(before.terms, terms, better=known.better):
        _ask_change(before, terms, removes=False, reason=reason, actor=actor, at=at)
        return before
    operator = EvaluationThreshold.Operator.AT_LEAST if known.better == "higher" else EvaluationThreshold.Operator.AT_MOST
    threshold = before or EvaluationThreshold(feature_class=feature_class, metric=metric, operator=operator)
    if before is not None:
        _overtake(before, actor, at)
    return _put(threshold, terms, actor=actor, at=at, old=asdict(before.terms) if before else None)


def _check_terms(terms: evaluation_rules.Terms) -> None:
    if not 0 <= terms.value <= 1:
        raise EvaluationInvalidError("A score is between 0 and 1.", field="value")
    if terms.minimum < 1:
        raise EvaluationInvalidError("At least one item has to be scored.", field="minimum")
    if not 1 <= terms.max_age_days <= 365:
        raise EvaluationInvalidError("An evaluation counts for 1 to 365 days.", field="max_age_days")


def _put(
    threshold: EvaluationThreshold,
    terms: evaluation_rules.Terms,
    *,
    actor: User,
    at: datetime,
    old: dict[str, float] | None,
    **details: str,
) -> EvaluationThreshold:
    threshold.set_by, threshold.set_at = actor, at
    threshold.value, threshold.minimum, threshold.max_age_days = terms.value, terms.minimum, terms.max_age_days
    threshold.save()
    if old is not None:
        EvaluationWaiver.objects.filter(threshold=threshold, approved=True, until__gt=at).update(until=at)
        asked = EvaluationWaiver.objects.filter(threshold=threshold, decided_at=None)  # of other terms than these
        asked.update(approved=False, decided_at=at, decided_by=actor)
    audit.record("evaluation_threshold.set", actor=actor, target=threshold, at=at, before=old, after=asdict(terms), **details)
    return threshold


@transaction.atomic
def remove_threshold(
    *, threshold: EvaluationThreshold, actor: User, reason: str = "", at: datetime | None = None
) -> EvaluationThresholdChange | None:
    """Ask it of no model any more; its waivers go with it. One on safety stays: its removal, which is returned, waits for a second person.

    Raises EvidenceMissingError (on safety, without a reason).
    """
    threshold = EvaluationThreshold.objects.select_for_update().get(pk=threshold.pk)
    if threshold.is_safety:
        return _ask_change(threshold, threshold.terms, removes=True, reason=reason, actor=actor, at=at or timezone.now())
    _remove(threshold, actor)
    return None


def _remove(threshold: EvaluationThreshold, actor: User, **details: Any) -> None:
    audit.record(
        "evaluation_threshold.removed", actor=actor, target=threshold, value=threshold.value, minimum=threshold.minimum, **details
    )  # fmt: skip
    threshold.delete()


def _ask_change(
    threshold: EvaluationThreshold, terms: evaluation_rules.Terms, *, removes: bool, reason: str, actor: User, at: datetime
) -> EvaluationThresholdChange:
    """In place of what waits, if something does."""
    if not reason.strip():
        raise EvidenceMissingError("A threshold on safety asks for less only with a reason and a second person.", field="reason")
    _overtake(threshold, actor, at)
    change = EvaluationThresholdChange.objects.create(
        threshold=threshold, removes=removes, value=terms.value, minimum=terms.minimum, max_age_days=terms.max_age_days, reason=reason.strip(),
        requested_by=actor, requested_at=at,
    )  # fmt: skip
    audit.record(
        "evaluation_threshold.change_asked", actor=actor, target=threshold, at=at, removes=removes, before=asdict(threshold.terms),
        after=None if removes else asdict(terms), reason=change.reason,
    )  # fmt: skip
    alerts.notify(
        topic="evaluation_threshold.change_asked", severity=Severity.WARNING, title=f"{actor} asks for less safety: {change}", text=change.reason,
        path="release/evaluations/#thresholds", permission=Permission.SIGN_GATES, key=f"threshold-change:{change.pk}",
        data={"metric": threshold.metric, "feature_class": threshold.feature_class}, at=at,
    )  # fmt: skip
    return change


def _overtake(threshold: EvaluationThreshold, actor: User, at: datetime) -> None:
    """What waits is of other terms than those that come now: it ends, and the audit log says that nobody declined it. The caller has locked the
    threshold."""
    for change in EvaluationThresholdChange.objects.select_related("requested_by").filter(threshold=threshold, decided_at=None):
        change.approved, change.decided_at, change.decided_by = False, at, actor
        change.save(update_fields=["approved", "decided_at", "decided_by"])
        audit.record(
            "evaluation_threshold.change_declined", actor=actor, target=threshold, at=at, requested_by=str(change.requested_by),
            own=change.requested_by_id == actor.pk, overtaken=True,
        )  # fmt: skip


@transaction.atomic
def decide_threshold_change(
    *, change: EvaluationThresholdChange, approve: bool, person: Membership, at: datetime | None = None
) -> EvaluationThresholdChange:
    """Agree to less safety, and it holds from then on, or decline; whoever asked may take it back.

    Raises RoleNotHeldError, SelfApprovalError, WaiverDecidedError.
    """
    at, terms = at or timezone.now(), change.terms
    threshold = EvaluationThreshold.objects.select_for_update().filter(pk=change.threshold_id).first()
    fresh = EvaluationThresholdChange.objects.select_related("requested_by").filter(pk=change.pk, decided_at=None).first()
    if threshold is None or fresh is None:
        raise WaiverDecidedError("This change was decided before, or overtaken by another one.")
    fresh.threshold = threshold
    own = fresh.requested_by_id == person.user_id
    if own and approve:
        raise SelfApprovalError("Nobody approves their own change: ask somebody else.")
    if not own and not person.can(Permission.SIGN_GATES):
        raise RoleNotHeldError("Deciding it takes a role that signs gates.")
    fresh.approved, fresh.decided_by, fresh.decided_at = approve, person.user, at
    fresh.save(update_fields=["approved", "decided_by", "decided_at"])
    asked_by = str(fresh.requested_by)
    if not approve:
        audit.record(
            "evaluation_threshold.change_declined",
            actor=person.user,
            target=threshold,
            at=at,
            requested_by=asked_by,
            own=own,
            overtaken=False,
        )
    elif fresh.removes:
        _remove(threshold, person.user, requested_by=asked_by, reason=fresh.reason)
    else:
        _put(threshold, terms, actor=person.user, at=at, old=asdict(threshold.terms), requested_by=asked_by, reason=fresh.reason)
    return fresh


@transaction.atomic
def request_waiver(
    *, threshold: EvaluationThreshold, model: str, reason: str, until: datetime, actor: User, at: datetime | None = None
) -> EvaluationWaiver:
    """Ask that a model may pass over a threshold until a time. It counts once somebody else agrees.

    Raises NotWaivableError (safety), EvidenceMissingError, WaiverDecidedError (one waits already).
    """
    at = at or timezone.now()
    if threshold.is_safety:
        raise NotWaivableError("A threshold on safety can't be waived.")
    if not reason.strip():
        raise EvidenceMissingError("Say why the risk is acceptable.", field="reason")
    if not at < until <= at + LONGEST_WAIVER:
        raise EvidenceMissingError(f"A waiver ends within {LONGEST_WAIVER.days} days from now.", field="until")
    try:
        with transaction.atomic():
            waiver = EvaluationWaiver.objects.create(
                threshold=threshold, model=model, reason=reason.strip(), until=until, requested_by=actor, requested_at=at
            )
    except IntegrityError as error:
        raise WaiverDecidedError("A waiver of this threshold for this model waits for approval already.") from error
    audit.record("evaluation_waiver.requested", actor=actor, target=waiver, at=at, until=until.isoformat(), reason=waiver.reason)
    return waiver


@transaction.atomic
def decide_waiver(*, waiver: EvaluationWaiver, approve: bool, person: Membership, at: datetime | None = None) -> EvaluationWaiver:
    """Agree to it or decline; whoever asked may take it back. Raises RoleNotHeldError, SelfApprovalError, WaiverDecidedError."""
    at = at or timezone.now()
    waiver = EvaluationWaiver.objects.select_for_update(of=("self",)).select_related("threshold", "requested_by").get(pk=waiver.pk)
    own = waiver.requested_by_id == person.user_id
    if waiver.decided_at is not None:
        raise WaiverDecidedError("This waiver was decided before.")
    if own and approve:
        raise SelfApprovalError("Nobody approves their own waiver: ask somebody else.")
    if not own and not person.can(Permission.SIGN_GATES):
        raise RoleNotHeldError("Deciding a waiver takes a role that signs gates.")
    if approve and waiver.until <= at:
        raise WaiverDecidedError("The waiver has ended before it was approved. Ask for a new one.")
    waiver.approved, waiver.decided_by, waiver.decided_at = approve, person.user, at
    waiver.save(update_fields=["approved", "decided_by", "decided_at"])
    event = "evaluation_waiver.approved" if approve else "evaluation_waiver.declined"
    audit.record(event, actor=person.user, target=waiver, at=at, requested_by=str(waiver.requested_by))
    return waiver


def check_model(slug: str, feature_class: str, *, at: datetime | None = None) -> None:
    """Raises EvaluationMissingError unless the model has scored what is asked of its class; what is waived does not count against it."""
    _check(slug, evaluation_selectors.standings(slug, feature_class, at=at or timezone.now()))


def check_prompt(version: str, model: str, feature_class: str, *, at: datetime | None = None) -> None:
    """The same of a prompt version (`greeting@3`) that is written for a model of that class."""
    _check(version, evaluation_selectors.standings(model, feature_class, at=at or timezone.now(), prompt_version=version))


def check_deployment(deployment: str, model: str, feature_class: str, *, at: datetime | None = None) -> None:
    """The same of a deployment (`openai/gpt-4o`) that is added to a served model of that class: it serves no call before."""
    found = evaluation_selectors.standings(model, feature_class, at=at or timezone.now(), deployment=deployment)
    _check(evaluation_rules.deployment_subject(model, deployment), found)


def _check(subject: str, standings: Sequence[evaluation_selectors.Standing]) -> None:
    missing = [standing for standing in standings if not standing.opens]
    if missing:
        said = "; ".join(f"{one.said}: {one.reason}" for one in missing)
        raise EvaluationMissingError(f"{subject} can't be approved: {said}. Evaluate it, or ask for a waiver.")
