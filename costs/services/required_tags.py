"""Writing required tags, trying them on past calls, and moving them between off, counted and enforced."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import translate
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from costs import tag_selectors, tagging, tasks
from costs.errors import RequiredTagError, RequiredTagStateError
from costs.models import Budget, RequiredTag, RequiredTagVersion
from costs.tagging import Preview
from gateway.contract.names import OWN_TAGS
from gateway.contract.tags import MOST_CHARACTERS, NAME
from governance import config
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

PREVIEW_DAYS = 7
MOST_REQUIRED = 12
"""Every call is judged by all of them, and records what is found."""
MOST_VALUES = 100
_PATHS = ("new", "report")
"""Stand where a name does in addresses."""
LONGEST_GRACE = timedelta(days=400)
Mode = RequiredTag.Mode
_RANK = {Mode.OFF: 0, Mode.MONITOR: 1, Mode.ENFORCE: 2}


@dataclass(frozen=True)
class Rule:
    """What is required of a tag, see `gateway.contract.tags.RequiredTag`."""

    values: Sequence[str] = ()
    projects: Sequence[str] = ()
    environments: Sequence[str] = ()
    fact: str = ""


@transaction.atomic
def create_required_tag(*, name: str, rule: Rule, actor: User, description: str = "", note: str = "") -> RequiredTag:
    """A required tag with its first version, off; its values are counted from now on, then those of the calls before. Writes one audit entry. Raises RequiredTagError (names the field)."""
    if not NAME.fullmatch(name) or name in OWN_TAGS or name.startswith("flag.") or name in _PATHS:
        raise RequiredTagError(
            "Letters, digits, _, . and -, a letter first, 40 at most; not `new` or `report`, nor one that the gateway sets itself.",
            field="name",
        )
    if RequiredTag.objects.count() >= MOST_REQUIRED:
        raise RequiredTagError(f"Up to {MOST_REQUIRED} tags can be required. Remove one first.", field="name")
    cleaned = _checked(name, rule)
    try:
        with transaction.atomic():
            made = RequiredTag.objects.create(name=name, description=description, created_by=actor)
    except IntegrityError as error:
        raise RequiredTagError(f"The tag {name} is there already.", field="name") from error
    RequiredTagVersion.objects.create(required_tag=made, number=1, note=note, author=actor, **_columns(cleaned))
    audit.record("required_tag.created", actor=actor, target=made, description=description, **_columns(cleaned))
    transaction.on_commit(partial(tasks.count_attributes.delay, schema_name=current_schema()), robust=True)
    return made


@transaction.atomic
def write_version(*, required: RequiredTag, rule: Rule, actor: User, note: str = "") -> RequiredTagVersion:
    """A new version; what is in force stays in force. The same twice changes nothing. Writes one audit entry. Raises RequiredTagError."""
    cleaned = _checked(required.name, rule)
    found = _locked(required)
    newest = tag_selectors.newest_version(found)
    if all(getattr(newest, column) == value for column, value in _columns(cleaned).items()):
        return newest
    version = RequiredTagVersion.objects.create(required_tag=found, number=newest.number + 1, note=note, author=actor, **_columns(cleaned))
    audit.record("required_tag.version_written", actor=actor, target=found, version=version.number, note=note, **_columns(cleaned))
    return version


def preview_version(*, version: RequiredTagVersion, actor: User, at: datetime | None = None) -> Preview:
    """Judge the calls of the last PREVIEW_DAYS by a version and keep what came out. Writes one audit entry."""
    at = at or timezone.now()
    required = tag_selectors.contract_tag(version, enforce_from=None)
    outcome = tagging.preview(required, tag_selectors.past_tags(required, at - timedelta(days=PREVIEW_DAYS), at), days=PREVIEW_DAYS)
    with transaction.atomic():
        version.preview, version.previewed_at = outcome.as_json(), at
        version.save(update_fields=["preview", "previewed_at"])
        audit.record(
            "required_tag.previewed", actor=actor, target=version.required_tag, version=version.number, calls=outcome.calls,
            refused=outcome.refused,
        )  # fmt: skip
    return outcome


@transaction.atomic
def set_mode(
    *,
    required: RequiredTag,
    mode: str,
    actor: User,
    version: RequiredTagVersion | None = None,
    enforce_on: date | None = None,
    reason: str = "",
    at: datetime | None = None,
) -> RequiredTag:
    """Off, counted or enforced, with the given version (default: the newest).

    Enforcing takes a version that was previewed, a second person (nobody approves what they wrote) and the day from which calls are refused
    (in the organisation's time zone, default today); until then they are counted. Moving down takes one person and a reason, and so does
    putting off the day of what refuses calls today. Writes one audit entry, tells the gateway; enforcing and taking back also write a notice. Raises RequiredTagStateError.
    """
    found = _locked(required)
    chosen = version or tag_selectors.newest_version(found)
    today = tag_selectors.today(at or timezone.now())
    before, wanted = Mode(found.mode), Mode(mode)
    if wanted == Mode.ENFORCE:
        enforce_on = enforce_on or today
        _check_enforceable(chosen, actor, enforce_on, today)
    else:
        enforce_on = None
    if before == wanted and found.enforce_on == enforce_on and (wanted == Mode.OFF or found.active_id == chosen.pk):
        return found
    was_refusing = before == Mode.ENFORCE and found.enforce_on is not None and found.enforce_on <= today
    is_put_off = was_refusing and enforce_on is not None and enforce_on > today
    if (_RANK[wanted] < _RANK[before] or is_put_off) and not reason.strip():
        raise RequiredTagStateError("Say why it is taken back: it stands in the audit log.", field="reason")
    found.mode, found.active, found.enforce_on = wanted, None if wanted == Mode.OFF else chosen, enforce_on
    found.save(update_fields=["mode", "active", "enforce_on"])
    audit.record(
        f"required_tag.{wanted}", actor=actor, target=found, before=before, version=chosen.number, enforce_on=enforce_on,
        reason=reason.strip(), preview=chosen.preview,
    )  # fmt: skip
    if Mode.ENFORCE in (before, wanted):
        _tell(found, chosen, actor, reason.strip(), is_put_off=is_put_off)
    config.changed()
    return found


@transaction.atomic
def delete_required_tag(*, required: RequiredTag, actor: User) -> None:
    """Remove one that is off, with its versions and, soon after, the spend by its values; its coverage stays. Writes one audit entry. Raises RequiredTagStateError."""
    found = _locked(required)
    if found.mode != Mode.OFF:
        raise RequiredTagStateError("Switch it off first.")
    if budget := Budget.objects.filter(scope=Budget.Scope.TAG, ref__startswith=f"{found.name}=", state=Budget.State.ENFORCED).first():
        raise RequiredTagStateError(f"The budget {budget.name} counts by it. Switch that off first.")
    audit.record("required_tag.deleted", actor=actor, target=found, versions=found.versions.count())
    found.delete()
    transaction.on_commit(partial(tasks.forget_tags.delay, schema_name=current_schema()), robust=True)


def _check_enforceable(chosen: RequiredTagVersion, actor: User, enforce_on: date, today: date) -> None:
    if chosen.previewed_at is None:
        raise RequiredTagStateError("Preview this version first: what it would have refused is known before it refuses anything.")
    if chosen.author_id == actor.pk:
        raise RequiredTagStateError("Somebody else enforces what you wrote.")
    if not today <= enforce_on <= today + LONGEST_GRACE:
        raise RequiredTagStateError(f"The first day is today or one of the next {LONGEST_GRACE.days}.", field="enforce_on")


def _tell(found: RequiredTag, version: RequiredTagVersion, actor: User, reason: str, *, is_put_off: bool) -> None:
    is_enforced = found.mode == Mode.ENFORCE and not is_put_off
    until = f" until {found.enforce_on}" if is_put_off else ""
    alerts.notify(
        topic="required_tag.enforced" if is_enforced else "required_tag.taken_back",
        severity=Severity.INFO if is_enforced else Severity.WARNING,
        title=f"Tag {found} is required from {found.enforce_on} on, by {actor}"
        if is_enforced
        else f"Tag {found} is no longer enforced{until}, by {actor}",
        text=reason or version.note,
        path=f"operate/costs/tags/{found.name}/",
        permission=Permission.VIEW_COSTS,
        key=f"required_tag:{found.pk}:{found.mode}:{version.number}:{timezone.now().isoformat()}",
        data={"tag": found.name, "version": version.number, "mode": str(found.mode), "enforce_on": str(found.enforce_on or "")},
    )


def _checked(name: str, rule: Rule) -> Rule:
    values, projects, environments = (
        sorted({text.strip() for text in given if text.strip()}) for given in (rule.values, rule.projects, rule.environments)
    )
    if len(values) > MOST_VALUES:
        raise RequiredTagError(f"Up to {MOST_VALUES} values.", field="values")
    for value in values:
        if not value.isprintable() or "," in value or len(f"{name}={value}") > MOST_CHARACTERS:
            raise RequiredTagError(
                f"{value} cannot be sent: printable, without commas, {MOST_CHARACTERS} characters with the name.", field="values"
            )
        try:
            re.compile(translate(value))
        except re.error as error:
            raise RequiredTagError(f"{value} is no pattern: {error}.", field="values") from error
    unknown = sorted(set(projects) - set(tag_selectors.project_slugs()))
    if unknown:
        raise RequiredTagError(f"There is no project {', '.join(unknown)}.", field="projects")
    if any(len(environment) > 16 for environment in environments):
        raise RequiredTagError("An environment has 16 characters at most.", field="environments")
    if rule.fact not in RequiredTagVersion.Fact.values:
        raise RequiredTagError("That is not known of a call.", field="fact")
    return Rule(values, projects, environments, rule.fact)


def _columns(rule: Rule) -> dict[str, Any]:
    return {"values": list(rule.values), "projects": list(rule.projects), "environments": list(rule.environments), "fact": rule.fact}


def _locked(required: RequiredTag) -> RequiredTag:
    return RequiredTag.objects.select_for_update().get(pk=required.pk)
