"""Budgets: made, tried on the past, put in force, raised for a while, and taken back at once when they hurt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from costs import attribute_days, budget_selectors, hooks, tasks
from costs.errors import BudgetNameTakenError, BudgetStateError, BudgetValueError
from costs.models import Budget, BudgetIncident, BudgetNotice, BudgetRaise, RequiredTag
from costs.simulation import Outcome
from gateway.contract.tags import MOST_CHARACTERS
from governance import config
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

HIGHEST_AMOUNT = Decimal("1000000000")
LONGEST_RAISE = timedelta(days=92)
FIELDS = ("name", "scope", "ref", "period", "amount", "action", "thresholds", "throttle_from", "environment")
_TARGET = ("scope", "ref", "period")
CHANGEABLE_IN_FORCE = frozenset({"amount", "thresholds", "throttle_from", "environment", "action"})


@transaction.atomic
def create_budget(
    *,
    actor: User,
    name: str,
    scope: str,
    amount: Decimal,
    ref: str = "",
    period: str = Budget.Period.MONTH,
    action: str = Budget.Action.ALERT,
    thresholds: Sequence[int] = (50, 80, 100),
    throttle_from: int = 80,
    environment: str = "",
) -> Budget:
    """A draft: it shows figures, but tells and refuses nothing yet. `amount` is USD per period, thresholds are percent.

    Writes one audit entry. Raises BudgetValueError (names the field) or BudgetNameTakenError.
    """
    found = Budget(
        name=name.strip(),
        scope=scope,
        ref=ref.strip(),
        period=period,
        amount=amount,
        action=action,
        thresholds=sorted(set(thresholds)),
        throttle_from=throttle_from,
        environment=environment.strip(),
        created_by=actor,
    )
    _check(found)
    _check_target(found)
    _save(found)
    audit.record("budget.created", actor=actor, target=found, **_facts(found))
    _count_its_tag(found)
    return found


@transaction.atomic
def change_budget(*, budget: Budget, actor: User, **changes: Any) -> Budget:
    """Change any of FIELDS. A draft stays or becomes a draft, so that what was simulated is what is put in force.

    In force, the amount, the thresholds and where slowing begins change at once, and the action only towards alert; for
    anything else it is switched off first. The same values change nothing. Writes one audit entry and tells the gateway.

    Raises BudgetValueError, BudgetNameTakenError or BudgetStateError.
    """
    unknown = set(changes) - set(FIELDS)
    if unknown:
        raise TypeError(f"not a field of a budget: {sorted(unknown)}")
    budget = _locked(budget)
    before = _facts(budget)
    for field, value in changes.items():
        setattr(budget, field, sorted(set(value)) if field == "thresholds" else value.strip() if isinstance(value, str) else value)
    after = _facts(budget)
    changed = {field for field in after if after[field] != before[field]}
    if not changed:
        return budget
    if budget.is_enforced:
        if changed - CHANGEABLE_IN_FORCE or ("action" in changed and budget.action != Budget.Action.ALERT):
            raise BudgetStateError("It is in force. Switch it off, change it, and simulate it again.")
    else:
        budget.state, budget.simulation, budget.simulated_at = Budget.State.DRAFT, None, None
    _check(budget)
    is_aimed_anew = not changed.isdisjoint(_TARGET)
    if is_aimed_anew:
        _check_target(budget)
        budget.counted_at = None
        # They are of what it was for: what it is for now is noticed anew.
        budget_selectors.present_notices(timezone.now()).filter(budget=budget).delete()
    _save(budget)
    if is_aimed_anew:
        _count_its_tag(budget)
    audit.record(
        "budget.changed",
        actor=actor,
        target=budget,
        before={field: before[field] for field in sorted(changed)},
        after={field: after[field] for field in sorted(changed)},
    )
    config.changed()
    return budget


@transaction.atomic
def simulate_budget(*, budget: Budget, actor: User, at: datetime | None = None) -> Outcome:
    """Play the period before the present one against it and keep what came out. A budget in force stays in force.

    Writes one audit entry.
    """
    budget, at = _locked(budget), at or timezone.now()
    outcome = _outcome(budget, at)
    budget.simulation, budget.simulated_at = outcome.as_json(), at
    if not budget.is_enforced:
        budget.state = Budget.State.SIMULATED
    budget.save(update_fields=["simulation", "simulated_at", "state"])
    audit.record("budget.simulated", actor=actor, target=budget, refused_calls=outcome.refused_calls, cost=str(outcome.cost))
    return outcome


def preview_budget(*, budget: Budget | None = None, **fields: Any) -> Outcome:
    """What one with these FIELDS would have done, kept nowhere. `budget` is the one that they would change. Raises BudgetValueError, as saving would."""
    found = Budget(**fields)
    _check(found)
    if budget is None or any(getattr(found, name) != getattr(budget, name) for name in _TARGET):
        _check_target(found)
    return _outcome(found, timezone.now())


@transaction.atomic
def enforce_budget(*, budget: Budget, actor: User, at: datetime | None = None) -> Budget:
    """Put it in force: from now it writes notices, and unless it only alerts, the gateway holds calls to it.

    Writes one audit entry and tells the gateway. Raises BudgetStateError (in force already; or it could refuse calls and
    was not simulated since it was last changed) or BudgetValueError (what it is for is gone since).
    """
    budget = _locked(budget)
    if budget.is_enforced:
        raise BudgetStateError("It is in force already.")
    if budget.action != Budget.Action.ALERT and budget.state != Budget.State.SIMULATED:
        raise BudgetStateError("Simulate it first: what it would have refused is known before it refuses anything.")
    if budget.scope == Budget.Scope.TAG:
        # Whoever removes the declaration holds its row and looks for budgets in force: one of the two waits for the other.
        RequiredTag.objects.select_for_update().filter(name=budget.ref.partition("=")[0]).first()
    _check_target(budget)
    budget.state, budget.enforced_at = Budget.State.ENFORCED, at or timezone.now()
    budget.save(update_fields=["state", "enforced_at"])
    audit.record("budget.enforced", actor=actor, target=budget, **_facts(budget), simulation=budget.simulation)
    config.changed()
    return budget


@transaction.atomic
def switch_off_budget(*, budget: Budget, actor: User) -> Budget:
    """Neither notices nor refusals any more. Writes one audit entry and tells the gateway. Raises BudgetStateError (it is not in force)."""
    budget = _locked(budget)
    if not budget.is_enforced:
        raise BudgetStateError("It is not in force.")
    budget.state, budget.simulation, budget.simulated_at = Budget.State.OFF, None, None
    budget.save(update_fields=["state", "simulation", "simulated_at"])
    audit.record("budget.switched_off", actor=actor, target=budget)
    config.changed()
    return budget


@transaction.atomic
def raise_temporarily(
    *, budget: Budget, actor: User, extra: Decimal, reason: str, until: datetime, at: datetime | None = None
) -> BudgetRaise:
    """Add `extra` USD to the amount of every period until `until` (aware). It ends by itself.

    Writes one audit entry and tells the gateway. Raises BudgetValueError or BudgetStateError (it is not in force).
    """
    budget, at = _locked(budget), at or timezone.now()
    if not budget.is_enforced:
        raise BudgetStateError("It is not in force: change its amount instead.")
    if not extra.is_finite() or not 0 < extra <= HIGHEST_AMOUNT or extra != round(extra, 2):
        raise BudgetValueError("A raise is more than 0 USD, in whole cents.", field="extra")
    if not reason.strip():
        raise BudgetValueError("Say why: it stands in the audit log.", field="reason")
    if not at < until <= at + LONGEST_RAISE:
        raise BudgetValueError(f"A raise ends after now and within {LONGEST_RAISE.days} days.", field="until")
    made = BudgetRaise.objects.create(budget=budget, extra=extra, reason=reason.strip(), until=until, by=actor, created_at=at)
    audit.record(
        "budget.raised",
        actor=actor,
        target=budget,
        extra=str(extra),
        amount=str(budget.amount),
        reason=made.reason,
        until=until.isoformat(),
    )
    config.changed()
    return made


@transaction.atomic
def end_raise(*, found: BudgetRaise, actor: User, at: datetime | None = None) -> BudgetRaise:
    """End a raise before its day. Writes one audit entry and tells the gateway. Raises BudgetStateError (it is over)."""
    at = at or timezone.now()
    found = BudgetRaise.objects.select_for_update(of=("self",)).select_related("budget").get(pk=found.pk)
    if found.ended_at is not None or found.until <= at:
        raise BudgetStateError("It is over already.")
    found.ended_at = at
    found.save(update_fields=["ended_at"])
    _record_end(found, actor, at)
    config.changed()
    return found


def _record_end(found: BudgetRaise, actor: User | None, at: datetime) -> None:
    audit.record("budget.raise_ended", actor=actor, target=found.budget, at=at, extra=str(found.extra), until=found.until.isoformat())


@transaction.atomic
def report_false_throttle(*, budget: Budget, actor: User, reason: str = "", at: datetime | None = None) -> BudgetIncident:
    """It holds up calls that it should not: from now it only alerts, and a P0 is open until somebody resolves it.

    Writes one audit entry and tells the gateway. Raises BudgetStateError (it refuses nothing).
    """
    budget = _locked(budget)
    if not budget.acts_on_gateway:
        raise BudgetStateError("It refuses no calls: there is nothing to take back.")
    incident = BudgetIncident.objects.create(
        budget=budget,
        reason=reason.strip() or "Reported without words: calls are held up that should not be.",
        action_before=budget.action,
        opened_at=at or timezone.now(),
        opened_by=actor,
    )
    budget.action = Budget.Action.ALERT
    budget.save(update_fields=["action"])
    audit.record(
        "budget.false_throttle_reported",
        actor=actor,
        target=budget,
        priority=incident.priority,
        reason=incident.reason,
        action_before=incident.action_before,
    )
    alerts.notify(
        topic="budget.false_throttle",
        severity=Severity.CRITICAL,
        title=f"P0: budget {budget.name} held up calls",
        text=f"Reported by {actor}: {incident.reason} It only alerts since then.",
        key=f"budget:{budget.pk}:incident:{incident.pk}",
        path=_path(budget),
        permission=Permission.VIEW_COSTS,
        data={"budget": budget.name, "action_before": incident.action_before},
        at=incident.opened_at,
    )
    hooks.tell_false_throttle(incident)
    config.changed()
    return incident


@transaction.atomic
def resolve_incident(*, incident: BudgetIncident, actor: User, resolution: str, at: datetime | None = None) -> BudgetIncident:
    """Say how it was mended. The budget goes on alerting only: a stricter action is simulated and put in force anew.

    Writes one audit entry. Raises BudgetValueError (no words) or BudgetStateError (resolved before).
    """
    incident = BudgetIncident.objects.select_for_update().select_related("budget").get(pk=incident.pk)
    if incident.resolved_at is not None:
        raise BudgetStateError("It is resolved already.")
    if not resolution.strip():
        raise BudgetValueError("Say what was wrong and what was done.", field="resolution")
    incident.resolved_at, incident.resolved_by, incident.resolution = at or timezone.now(), actor, resolution.strip()
    incident.save(update_fields=["resolved_at", "resolved_by", "resolution"])
    audit.record("budget.incident_resolved", actor=actor, target=incident.budget, resolution=incident.resolution)
    return incident


# What the schedule does


@transaction.atomic
def write_notices(*, at: datetime | None = None) -> list[BudgetNotice]:
    """Note each threshold that budgets in force have reached in their present period, once each; people are told of the highest new one.

    Audited; returns the new ones.
    """
    at = at or timezone.now()
    written = []
    for one in budget_selectors.charged(at, acting=False):
        new = []
        for threshold in one.budget.thresholds:
            if one.spent * 100 < one.amount * threshold:
                continue
            notice, is_new = BudgetNotice.objects.get_or_create(
                budget=one.budget,
                period_start=one.span.start,
                threshold=threshold,
                defaults={"spent": one.spent, "amount": one.amount, "at": at},
            )
            if is_new:
                new.append(notice)
                audit.record(
                    "budget.threshold_reached",
                    actor=None,
                    target=one.budget,
                    at=at,
                    threshold=threshold,
                    spent=str(one.spent),
                    amount=str(one.amount),
                    period_start=one.span.start.isoformat(),
                )
        if new:
            _tell(new[-1], one)
        written += new
    return written


@transaction.atomic
def end_raises(*, at: datetime | None = None) -> int:
    """Close raises whose time is over; the gateway then holds to the lower amount. Returns how many."""
    at = at or timezone.now()
    over = list(BudgetRaise.objects.select_for_update().select_related("budget").filter(until__lte=at, ended_at=None))
    for one in over:
        one.ended_at = at
        one.save(update_fields=["ended_at"])
        _record_end(one, None, at)
    if over:
        config.changed()
    return len(over)


def _tell(notice: BudgetNotice, one: budget_selectors.Charged) -> None:
    """In the product, and wherever the organisation wants to be told."""
    budget = one.budget
    title = f"Budget {budget.name} has reached {notice.threshold}%"
    alerts.notify(
        topic="budget.threshold",
        severity=Severity.CRITICAL if notice.threshold >= 100 else Severity.WARNING if notice.threshold >= 80 else Severity.INFO,
        title=title,
        text=f"{one.spent:,.2f} of {one.amount:,.2f} USD are spent in {one.span.label} ({budget.scope_text}). "
        + (
            "It only alerts."
            if budget.action == Budget.Action.ALERT
            else "At 100% calls are refused."
            if budget.action == Budget.Action.BLOCK
            else f"From {budget.throttle_from}% calls are slowed down, at 100% they are refused."
        ),
        key=f"budget:{budget.pk}:notice:{notice.pk}",
        path=_path(budget),
        permission=Permission.VIEW_COSTS,
        data={"budget": budget.name, "threshold": notice.threshold, "spent_usd": str(one.spent), "amount_usd": str(one.amount)},
        at=notice.at,
    )


def _path(budget: Budget) -> str:
    return f"operate/costs/budgets/{budget.pk}/"


def _locked(budget: Budget) -> Budget:
    return Budget.objects.select_for_update().get(pk=budget.pk)


def _outcome(budget: Budget, at: datetime) -> Outcome:
    return budget_selectors.outcome_of(
        scope=budget.scope,
        ref=budget.ref,
        period=budget.period,
        amount=budget.amount,
        action=budget.action,
        thresholds=budget.thresholds,
        throttle_from=budget.throttle_from,
        at=at,
    )


def _save(budget: Budget) -> None:
    try:
        with transaction.atomic():
            budget.save()
    except IntegrityError as error:
        if "budget_name_once" not in str(error):
            raise
        raise BudgetNameTakenError(f"There is a budget {budget.name} already.", field="name") from error


def _check(budget: Budget) -> None:
    """BudgetValueError names the first field that does not make sense by itself, see `_check_target`."""
    if not budget.name or len(budget.name) > 80 or not budget.name.isprintable():
        raise BudgetValueError("A name has 1 to 80 characters: refusals call the budget by it.", field="name")
    for field, choices in (("scope", Budget.Scope), ("period", Budget.Period), ("action", Budget.Action)):
        if getattr(budget, field) not in choices.values:
            raise BudgetValueError(f"Choose one of {', '.join(choices.values)}.", field=field)
    if not budget.amount.is_finite() or not 0 < budget.amount <= HIGHEST_AMOUNT or budget.amount != round(budget.amount, 2):
        raise BudgetValueError("An amount is more than 0 and at most 1,000,000,000 USD, in whole cents.", field="amount")
    if not 1 <= len(budget.thresholds) <= 10 or not all(1 <= threshold <= 200 for threshold in budget.thresholds):
        raise BudgetValueError("Thresholds are 1 to 10 whole percents between 1 and 200.", field="thresholds")
    if not 1 <= budget.throttle_from <= 99:
        raise BudgetValueError("Slowing begins between 1 and 99 percent.", field="throttle_from")
    if len(budget.environment) > 40:
        raise BudgetValueError("An environment has 40 characters at most.", field="environment")


def _check_target(budget: Budget) -> None:
    """Raises BudgetValueError unless there is what it is for, today."""
    if (budget.scope == Budget.Scope.TENANT) != (budget.ref == ""):
        raise BudgetValueError("Name what it is for; a budget of the whole organisation names nothing.", field="ref")
    if budget.scope == Budget.Scope.TAG:
        _check_tag(budget)
    elif budget.ref and budget.scope != Budget.Scope.AGENT and budget.ref not in budget_selectors.refs(budget.scope):
        raise BudgetValueError(f"There is no {budget.get_scope_display().lower()} {budget.ref}.", field="ref")
    if budget.scope == Budget.Scope.AGENT and len(budget.ref) > 128:
        raise BudgetValueError("An agent's name has 128 characters at most.", field="ref")


def _count_its_tag(budget: Budget) -> None:
    """From now its value has a row of its own on each day; on days of before it may stand among others. A task that gets lost is made up for each hour."""
    if budget.scope == Budget.Scope.TAG:
        transaction.on_commit(partial(tasks.count_budget_tags.delay, schema_name=current_schema()), robust=True)


def _check_tag(budget: Budget) -> None:
    """A value need not have been seen yet: the gateway knows the tags of every call."""
    name, _, value = budget.ref.partition("=")
    if not RequiredTag.objects.filter(name=name).exists():
        raise BudgetValueError(
            f"The tag {name} is not declared, so spend by it is not counted. Declare it under required tags.", field="ref"
        )
    if not 1 <= len(value) <= MOST_CHARACTERS or value != value.strip() or value in (attribute_days.OTHER, *attribute_days.RESERVED):
        raise BudgetValueError(
            f"Name the tag with its value, as team=search; a value has {MOST_CHARACTERS} characters at most.", field="ref"
        )
    if budget.period != Budget.Period.MONTH:
        raise BudgetValueError("Tags are counted by UTC day, so a budget on a tag is per month.", field="period")


def _facts(budget: Budget) -> dict[str, Any]:
    """Its fields as plain values, for comparing and for the audit log."""
    facts = {field: getattr(budget, field) for field in FIELDS}
    return {**facts, "amount": str(Decimal(budget.amount).normalize()), "thresholds": list(budget.thresholds)}
