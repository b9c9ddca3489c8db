"""Shadows: proposed by one person, started by another, paired with what they repeat until somebody ends them."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Model, Project, VirtualKey
from catalog.services import keys
from costs import shadow_events
from governance import config
from governance.models import User
from governance.services import audit
from rollouts import shadow_selectors
from rollouts.errors import (
    EvidenceMissingError,
    SelfApprovalError,
    ShadowInvalidError,
    ShadowRunningError,
    ShadowStateError,
    SlugTakenError,
)
from rollouts.models import Shadow, ShadowPair
from rollouts.services.shifts import SLUG

HIGHEST_CAP_USD = Decimal(100_000)
PAIRED_AT_ONCE = 2000
Status = Shadow.Status


@transaction.atomic
def propose_shadow(
    *,
    slug: str,
    name: str,
    source: str,
    candidate: str,
    project: str,
    actor: User,
    share_percent: float,
    cap_usd: Decimal,
    judge: str = "",
    latency_tolerance: float = 20.0,
    cost_tolerance: float = 0.0,
    length_tolerance: float = 30.0,
    at: datetime | None = None,
) -> Shadow:
    """Fix the terms as a draft, which somebody else starts. Models and project by slug. Raises ShadowInvalidError, SlugTakenError."""
    shadow = Shadow(
        slug=slug, name=name.strip(), source=source, candidate=candidate, judge=judge, project=project, share_percent=share_percent,
        cap_usd=cap_usd, latency_tolerance=latency_tolerance, cost_tolerance=cost_tolerance, length_tolerance=length_tolerance,
        proposer=actor, created_at=at or timezone.now(),
    )  # fmt: skip
    _check_terms(shadow)
    _check_catalog(shadow)
    try:
        with transaction.atomic():
            shadow.save(force_insert=True)
    except IntegrityError as error:
        raise SlugTakenError(f"There is a shadow at {slug} already.", field="slug") from error
    audit.record("shadow.proposed", actor=actor, target=shadow, at=shadow.created_at, **_terms(shadow))
    return shadow


def _terms(shadow: Shadow) -> dict[str, Any]:
    names = ("source", "candidate", "judge", "project", "share_percent", "latency_tolerance", "cost_tolerance", "length_tolerance")
    return {name: getattr(shadow, name) for name in names} | {"cap_usd": str(shadow.cap_usd)}


def _check_terms(shadow: Shadow) -> None:
    if not re.fullmatch(SLUG, shadow.slug) or shadow.slug == "new":
        raise ShadowInvalidError("Use lower-case letters, digits and single hyphens; new is taken.", field="slug")
    if not shadow.name:
        raise ShadowInvalidError("Give it a name.", field="name")
    if shadow.source == shadow.candidate:
        raise ShadowInvalidError("The candidate is another model than the one whose calls are repeated.", field="candidate")
    if shadow.judge == shadow.candidate:
        raise ShadowInvalidError("The candidate does not judge its own answers.", field="judge")
    if not 0 < shadow.share_percent <= 100:
        raise ShadowInvalidError("Above 0 and at most 100.", field="share_percent")
    if not 0 < shadow.cap_usd <= HIGHEST_CAP_USD:
        raise ShadowInvalidError(f"Above 0 and at most {HIGHEST_CAP_USD:,} USD a day.", field="cap_usd")
    for field in ("latency_tolerance", "cost_tolerance", "length_tolerance"):
        if not -100 < getattr(shadow, field) <= 1000 or (field == "length_tolerance" and shadow.length_tolerance < 0):
            raise ShadowInvalidError("Percent between -100 and 1000; of the length from 0.", field=field)


def _check_catalog(shadow: Shadow) -> None:
    """What the candidate may be told, and what must be there."""
    models = {model.slug: model for model in Model.objects.filter(slug__in=[shadow.source, shadow.candidate, shadow.judge])}
    for field in ("source", "candidate", "judge"):
        slug = getattr(shadow, field)
        if field == "judge" and not slug:
            continue
        model = models.get(slug)
        if model is None or not model.is_served or "chat" not in model.capabilities:
            raise ShadowInvalidError(f"{slug} is no model that is served and can chat.", field=field)
    if not shadow_selectors.is_priced(models[shadow.candidate]):
        raise ShadowInvalidError(
            f"{shadow.candidate} has no price at each of its providers: what it costs can't be held to an amount.", field="candidate"
        )
    if not shadow_selectors.may_be_told(models[shadow.source], models[shadow.candidate]):
        raise ShadowInvalidError(f"{shadow.candidate} is not for data as sensitive as {shadow.source} may be sent.", field="candidate")
    if shadow.judge and not shadow_selectors.may_be_told(models[shadow.source], models[shadow.judge]):
        raise ShadowInvalidError(f"{shadow.judge} is not for data as sensitive as {shadow.source} may be sent.", field="judge")
    if not Project.objects.filter(slug=shadow.project, is_enabled=True).exists():
        raise ShadowInvalidError(f"{shadow.project} is no project that is on.", field="project")


@transaction.atomic
def start_shadow(*, shadow: Shadow, actor: User, at: datetime | None = None) -> Shadow:
    """Repeat calls from now on. Data goes to another provider and costs money, so nobody starts their own.

    Raises SelfApprovalError, ShadowStateError, ShadowInvalidError, ShadowRunningError (another one of the model), ProjectOffError.
    """
    shadow, at = _lock(shadow, Status.DRAFT), at or timezone.now()
    if shadow.proposer_id == actor.pk:
        raise SelfApprovalError("Nobody starts their own shadow: ask somebody else.")
    _check_catalog(shadow)
    if Shadow.objects.filter(source=shadow.source, status__in=[Status.RUNNING, Status.PAUSED]).exists():
        raise ShadowRunningError(f"Another shadow of {shadow.source} is under way. It is ended first.")
    project = Project.objects.get(slug=shadow.project)
    key = keys.make_shadow_key(name=f"Shadow {shadow.slug}", project=project, actor=actor, at=at)
    shadow.key_id, shadow.starter, shadow.started_at, shadow.status = key.public_id, actor, at, Status.RUNNING
    shadow.save()
    audit.record("shadow.started", actor=actor, target=shadow, at=at, key_id=key.public_id, **_terms(shadow))
    config.changed()
    return shadow


@transaction.atomic
def pause_shadow(*, shadow: Shadow, actor: User, reason: str, at: datetime | None = None) -> Shadow:
    """Repeat nothing until it is resumed. Raises ShadowStateError, EvidenceMissingError."""
    shadow = _lock(shadow, Status.RUNNING)
    return _move(shadow, Status.PAUSED, "shadow.paused", actor, reason, at or timezone.now())


@transaction.atomic
def resume_shadow(*, shadow: Shadow, actor: User, at: datetime | None = None) -> Shadow:
    """Go on under the same terms, which a second person agreed to. Raises ShadowStateError, ShadowInvalidError."""
    shadow = _lock(shadow, Status.PAUSED)
    _check_catalog(shadow)
    return _move(shadow, Status.RUNNING, "shadow.resumed", actor, "Resumed", at or timezone.now())


@transaction.atomic
def end_shadow(*, shadow: Shadow, actor: User, reason: str, at: datetime | None = None) -> Shadow:
    """Repeat nothing any more; the pairs stay. A draft ends so as well. Raises ShadowStateError, EvidenceMissingError."""
    shadow, at = _lock(shadow, Status.DRAFT, Status.RUNNING, Status.PAUSED), at or timezone.now()
    shadow.ended_at = at
    shadow = _move(shadow, Status.DONE, "shadow.ended", actor, reason, at)
    key = VirtualKey.objects.filter(public_id=shadow.key_id).first()
    if key is not None:
        keys.revoke_key(key=key, actor=actor, at=at)
    return shadow


def _move(shadow: Shadow, status: str, event: str, actor: User, reason: str, at: datetime) -> Shadow:
    if not reason.strip():
        raise EvidenceMissingError("Say why.", field="reason")
    shadow.status, shadow.reason = status, reason.strip()[:500]
    shadow.save()
    audit.record(event, actor=actor, target=shadow, at=at, reason=shadow.reason)
    config.changed()
    return shadow


def collect_pairs(*, shadow: Shadow, at: datetime | None = None) -> int:
    """Pair the candidate's answers that have been counted with what they repeat. Returns how many are new; harmless when it runs twice."""
    at = at or timezone.now()
    with transaction.atomic():
        shadow = Shadow.objects.select_for_update(of=("self",)).get(pk=shadow.pk)
        if not shadow.key_id or shadow.started_at is None:
            return 0
        since = max(shadow.started_at, (shadow.collected_at or shadow.started_at) - shadow_selectors.LATE)
        known = list(shadow.pairs.filter(at__gte=since).values_list("answer", flat=True))
        found, reached = shadow_events.paired_calls(key_id=shadow.key_id, since=since, known=known, limit=PAIRED_AT_ONCE)
        ShadowPair.objects.bulk_create(
            [
                ShadowPair(
                    shadow=shadow, call=pair.call, answer=pair.answer, at=pair.at, is_ok=pair.is_ok, call_ms=pair.call_ms,
                    answer_ms=pair.answer_ms, call_tokens=pair.call_tokens, answer_tokens=pair.answer_tokens, call_usd=pair.call_usd,
                    answer_usd=pair.answer_usd,
                )
                for pair in found
            ],
            ignore_conflicts=True,
        )  # fmt: skip
        # The next look goes back by LATE from here, so it begins where this one ended: what is missing from further back will not come any more.
        shadow.collected_at = at if reached is None else min(at, reached + shadow_selectors.LATE)
        shadow.save(update_fields=["collected_at"])
    return len(found)


def _lock(shadow: Shadow, *wanted: str) -> Shadow:
    fresh = Shadow.objects.select_for_update(of=("self",)).select_related("proposer").get(pk=shadow.pk)
    if fresh.status not in wanted:
        raise ShadowStateError(f"{fresh.name} is {fresh.get_status_display().lower()}: that can't be done now.")
    return fresh
