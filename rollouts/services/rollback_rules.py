"""Making rollback rules, arming, pausing and removing them."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from governance.models import User
from governance.services import audit
from rollouts import rollback_selectors as selectors
from rollouts import rollback_trials
from rollouts.errors import EvidenceMissingError, FlagArchivedError, NoBaselineError, RuleInvalidError, RuleStateError
from rollouts.models import Flag, Incident, RollbackRule
from rollouts.rollback_language import Rule, RuleError
from rollouts.services import rollback

MAX_RULES = 20
"""Of one flag."""


def create_rule(
    *,
    flag: Flag,
    text: str,
    actor: User,
    is_dry_run: bool = False,
    clear_percent: int = 10,
    cooldown_minutes: int = 30,
    at: datetime | None = None,
) -> RollbackRule:
    """Add a rule to a flag and arm it. Raises RuleInvalidError, NoBaselineError, FlagArchivedError."""
    at = at or timezone.now()
    rule = _read(flag, text)
    if not 0 <= clear_percent <= 90:
        raise RuleInvalidError("The share by which a value must be back is 0 to 90 percent.", field="clear_percent")
    if not 0 <= cooldown_minutes <= 7 * 24 * 60:
        raise RuleInvalidError("A cool-down is at most seven days.", field="cooldown_minutes")
    with transaction.atomic():
        flag = _lock(flag)
        if selectors.rules_of(flag).count() >= MAX_RULES:
            raise RuleInvalidError(f"A flag has at most {MAX_RULES} rollback rules.", field="text")
        made = RollbackRule.objects.create(
            flag=flag, text=rule.text, is_dry_run=is_dry_run, clear_percent=clear_percent, cooldown_minutes=cooldown_minutes,
            state_at=at, created_by=actor, created_at=at,
        )  # fmt: skip
        audit.record(
            "rollback_rule.created", actor=actor, target=made, at=at, flag=flag.key, rule=made.text, is_dry_run=is_dry_run,
            clear_percent=clear_percent, cooldown_minutes=cooldown_minutes,
        )  # fmt: skip
        return _arm(made, rule, actor=actor, at=at)


@transaction.atomic
def arm_rule(*, rule: RollbackRule, actor: User, is_dry_run: bool | None = None, at: datetime | None = None) -> RollbackRule:
    """Let the watcher judge it from now on, against the baseline of now. `is_dry_run` None: as it was.

    Raises RuleStateError (armed already, cooling down, or an incident of it is not resolved), RuleInvalidError, NoBaselineError, FlagArchivedError.
    """
    at = at or timezone.now()
    flag = _lock(rule.flag)
    rule = _lock_rule(rule, flag)
    if rule.is_live and is_dry_run in (None, rule.is_dry_run):
        raise RuleStateError("This rule is armed already.")
    cools_until = rule.cools_until()
    if rule.state == RollbackRule.State.TRIPPED and cools_until is not None and at < cools_until:
        raise RuleStateError(f"This rule cools down until {cools_until:%Y-%m-%d %H:%M} UTC.")
    if waiting := rule.incidents.exclude(status=Incident.Status.RESOLVED).first():
        raise RuleStateError(f"{waiting} is not resolved. Resolve it first: whoever raises exposure again reads why it is safe.")
    rule.is_dry_run = rule.is_dry_run if is_dry_run is None else is_dry_run
    return _arm(rule, _read(flag, rule.text), actor=actor, at=at)


@transaction.atomic
def pause_rule(*, rule: RollbackRule, reason: str, actor: User, at: datetime | None = None) -> RollbackRule:
    """Stop watching by it. Raises RuleStateError, EvidenceMissingError."""
    rule, at = _lock_rule(rule), at or timezone.now()
    if not rule.is_live:
        raise RuleStateError(f"This rule is {rule.get_state_display().lower()}; only an armed one is paused.")
    if not reason.strip():
        raise EvidenceMissingError("Say why nobody needs to watch by it.", field="reason")
    rule.state, rule.state_at = RollbackRule.State.PAUSED, at
    rule.save(update_fields=["state", "state_at"])
    audit.record("rollback_rule.paused", actor=actor, target=rule, at=at, flag=rule.flag.key, reason=reason.strip())
    return rule


@transaction.atomic
def remove_rule(*, rule: RollbackRule, actor: User, at: datetime | None = None) -> RollbackRule:
    """Take a rule away; its incidents keep it. Raises RuleStateError."""
    rule, at = _lock_rule(rule), at or timezone.now()
    rule.removed_at = at
    rule.save(update_fields=["removed_at"])
    audit.record("rollback_rule.removed", actor=actor, target=rule, at=at, flag=rule.flag.key, rule=rule.text, state=rule.state)
    return rule


def _read(flag: Flag, text: str) -> Rule:
    try:
        rule = selectors.parsed(text)
    except RuleError as error:
        raise RuleInvalidError(f"{error} (character {error.position + 1})", field="text") from error
    if rule.watches_calls and not flag.model:
        raise RuleInvalidError(
            f"{flag.key} binds no model, so no governed call tells its variant. Only registered metrics can watch it.", field="text"
        )
    return rule


def _lock(flag: Flag) -> Flag:
    fresh = Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=flag.pk)
    if fresh.is_archived:
        raise FlagArchivedError(f"{fresh.key} is archived.")
    return fresh


def _lock_rule(rule: RollbackRule, flag: Flag | None = None) -> RollbackRule:
    """Flag first, then rule, as a rollback does."""
    flag = flag or Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=rule.flag_id)
    fresh = RollbackRule.objects.select_for_update(of=("self",)).get(pk=rule.pk)
    fresh.flag = flag
    if fresh.removed_at is not None:
        raise RuleStateError("This rule was removed.")
    return fresh


def _arm(rule: RollbackRule, parsed: Rule, *, actor: User, at: datetime) -> RollbackRule:
    baselines = rollback_trials.baselines_of(rule.flag, parsed, at=at)
    missing = {one.measure.key for one in parsed.comparisons if one.limit.reference == "baseline"} - baselines.keys()
    if missing:
        raise NoBaselineError(
            f"There is no baseline of {', '.join(sorted(missing))}: on none of the last {rollback_trials.HISTORY_DAYS} days the control had "
            f"{rollback_trials.FEWEST_BASELINE_CALLS} calls. Compare with control or a number.", field="text",
        )  # fmt: skip
    rule.state, rule.state_at, rule.armed_by, rule.armed_at, rule.baselines = RollbackRule.State.ARMED, at, actor, at, baselines
    rule.memory, rule.step_end, rule.outcome, rule.reading, rule.unknown_since, rule.is_firing = [], None, "", [], None, False
    rule.save()
    audit.record(
        "rollback_rule.armed",
        actor=actor,
        target=rule,
        at=at,
        flag=rule.flag.key,
        rule=rule.text,
        is_dry_run=rule.is_dry_run,
        baselines=baselines,
    )
    rollback.count_minutes([rule.flag], since=rollback.first_minute(at, parsed.reach_s), until=at)
    return rule
