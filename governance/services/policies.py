"""Writing policies, trying them on past calls, and moving them between off, dry run and enforced."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.utils import timezone

from gateway.contract import policies as language
from gateway.contract import snapshot as contract
from governance import config
from governance.call_figures import call_figures
from governance.errors import PolicyError, PolicyStateError
from governance.models import Policy, PolicyVersion, Severity, User
from governance.replay import Replay, looks_at_time, replay
from governance.roles import Permission
from governance.services import alerts, audit

REPLAY_DAYS = 7
Mode = Policy.Mode
_RANK = {Mode.OFF: 0, Mode.DRY_RUN: 1, Mode.ENFORCE: 2}


@transaction.atomic
def create_policy(
    *,
    namespace: str,
    name: str,
    when: str,
    require: str,
    actor: User,
    description: str = "",
    reason: str = "",
    note: str = "",
    is_critical: bool = False,
) -> Policy:
    """A policy with its first version, off. Writes one audit entry. Raises PolicyError (name taken, or an expression is no good)."""
    _check(when, require)
    try:
        with transaction.atomic():
            policy = Policy.objects.create(
                namespace=namespace, name=name, description=description, is_critical=is_critical, created_by=actor
            )
    except IntegrityError as error:
        raise PolicyError(f"There is a policy named {namespace}.{name} already.", field="name") from error
    PolicyVersion.objects.create(
        policy=policy, number=1, when=when.strip(), require=require.strip(), reason=reason, note=note, author=actor
    )
    audit.record("policy.created", actor=actor, target=policy, when=when, require=require, critical=is_critical)
    return policy


@transaction.atomic
def write_version(*, policy: Policy, when: str, require: str, actor: User, reason: str = "", note: str = "") -> PolicyVersion:
    """A new version; what is in force stays in force. The same text twice changes nothing.

    Writes one audit entry. Raises PolicyError (an expression is no good).
    """
    _check(when, require)
    policy = _locked(policy)
    newest = policy.versions.first()
    assert newest is not None
    if (newest.when, newest.require, newest.reason) == (when.strip(), require.strip(), reason):
        return newest
    version = PolicyVersion.objects.create(
        policy=policy, number=newest.number + 1, when=when.strip(), require=require.strip(), reason=reason, note=note, author=actor
    )
    audit.record("policy.version_written", actor=actor, target=policy, version=version.number, when=when, require=require, note=note)
    return version


@transaction.atomic
def describe_policy(*, policy: Policy, description: str, is_critical: bool, actor: User) -> Policy:
    """Change what is said about it, and whether it is asked first. Writes one audit entry and tells the gateway."""
    policy = _locked(policy)
    if (policy.description, policy.is_critical) == (description, is_critical):
        return policy
    policy.description, policy.is_critical = description, is_critical
    policy.save(update_fields=["description", "is_critical"])
    audit.record("policy.described", actor=actor, target=policy, description=description, critical=is_critical)
    config.changed()
    return policy


def replay_version(*, version: PolicyVersion, actor: User, at: datetime | None = None, days: int = REPLAY_DAYS) -> Replay:
    """Play the last `days` against a version and keep what came out. Writes one audit entry."""
    at = at or timezone.now()
    past = call_figures().past_calls(at - timedelta(days=days), at, by_time=looks_at_time(version.when, version.require))
    outcome = replay(contract_policy(version, enforce=False), past, days=days)
    with transaction.atomic():
        version.replay, version.replayed_at = outcome.as_json(), at
        version.save(update_fields=["replay", "replayed_at"])
        audit.record(
            "policy.replayed", actor=actor, target=version.policy, version=version.number, calls=outcome.calls, refused=outcome.refused
        )
    return outcome


@transaction.atomic
def set_mode(*, policy: Policy, mode: str, actor: User, version: PolicyVersion | None = None, reason: str = "") -> Policy:
    """Off, dry run or enforced, with the given version (default: the newest).

    Enforcing takes a version that was replayed and a second person: nobody approves what they wrote. Moving down takes one person
    and a reason. Writes one audit entry, tells the gateway; enforcing and taking back also write a notice.
    Raises PolicyStateError.
    """
    policy = _locked(policy)
    chosen = version or policy.versions.first()
    assert chosen is not None
    before, wanted = Mode(policy.mode), Mode(mode)
    if before == wanted and (wanted == Mode.OFF or policy.active_id == chosen.pk):
        return policy
    if wanted == Mode.ENFORCE:
        if chosen.replayed_at is None:
            raise PolicyStateError("Replay this version first: what it would have refused is known before it refuses anything.")
        if chosen.author_id == actor.pk:
            raise PolicyStateError("Somebody else puts in force what you wrote.")
    if _RANK[wanted] < _RANK[before] and not reason.strip():
        raise PolicyStateError("Say why it is taken back: it stands in the audit log.")
    policy.mode, policy.active = wanted, None if wanted == Mode.OFF else chosen
    policy.save(update_fields=["mode", "active"])
    audit.record(
        f"policy.{wanted}", actor=actor, target=policy, before=before, version=chosen.number, reason=reason.strip(), replay=chosen.replay
    )
    if Mode.ENFORCE in (before, wanted):
        is_enforced = wanted == Mode.ENFORCE
        alerts.notify(
            topic="policy.enforced" if is_enforced else "policy.taken_back",
            severity=Severity.INFO if is_enforced else Severity.WARNING,
            title=f"Policy {policy} {'is enforced' if is_enforced else 'is no longer enforced'}, by {actor}",
            text=reason.strip() or chosen.note,
            path=f"operate/policies/{policy.namespace}/{policy.name}/",
            permission=Permission.VIEW_OPERATE,
            key=f"policy:{policy.pk}:{wanted}:{chosen.number}:{timezone.now().isoformat()}",
            data={"policy": str(policy), "version": chosen.number, "mode": str(wanted)},
        )
    config.changed()
    return policy


@transaction.atomic
def delete_policy(*, policy: Policy, actor: User) -> None:
    """Remove a policy that is off, with its versions. Writes one audit entry. Raises PolicyStateError."""
    policy = _locked(policy)
    if policy.mode != Mode.OFF:
        raise PolicyStateError("Switch it off first.")
    audit.record("policy.deleted", actor=actor, target=policy, versions=policy.versions.count())
    policy.delete()


def contract_policy(version: PolicyVersion, *, enforce: bool) -> contract.Policy:
    """A version as the gateway has it."""
    return contract.Policy(
        name=str(version.policy),
        version=version.number,
        when=version.when,
        require=version.require,
        reason=version.reason,
        enforce=enforce,
        critical=version.policy.is_critical,
    )


def _check(when: str, require: str) -> None:
    for field, expression in (("when", when), ("require", require)):
        try:
            language.lint(expression)
        except language.PolicyError as error:
            raise PolicyError(str(error), field=field) from error


def _locked(policy: Policy) -> Policy:
    return Policy.objects.select_for_update().get(pk=policy.pk)
