"""Tags that calls have without their callers saying so, from the key or its project."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction

from catalog.errors import InvalidValueError
from catalog.models import Project, VirtualKey
from gateway.contract.names import OWN_TAGS
from gateway.contract.tags import MOST_CHARACTERS, MOST_DEFAULTS, NAME
from governance import config
from governance.models import User
from governance.services import audit


@transaction.atomic
def set_project_tags(*, project: Project, tags: Mapping[str, str], actor: User) -> Project:
    """Replace the tags of a project's calls; a key's own and what callers send go before. Writes one audit entry. Raises InvalidValueError."""
    found = Project.objects.select_for_update().get(pk=project.pk)
    before, found.tags = found.tags, checked_tags(tags)
    if found.tags != before:
        found.save(update_fields=["tags"])
        audit.record("project.tagged", actor=actor, target=found, before=before, after=found.tags)
        config.changed()
    return found


@transaction.atomic
def set_key_tags(*, key: VirtualKey, tags: Mapping[str, str], actor: User) -> VirtualKey:
    """Replace the tags of a key's calls; what callers send goes before. Writes one audit entry. Raises InvalidValueError."""
    found = VirtualKey.objects.select_for_update(of=("self",)).select_related("project", "owner").get(pk=key.pk)
    before, found.tags = found.tags, checked_tags(tags)
    if found.tags != before:
        found.save(update_fields=["tags"])
        audit.record("virtual_key.tagged", actor=actor, target=found, key_id=found.public_id, before=before, after=found.tags)
        config.changed()
    return found


def checked_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """By name, for calls or for things of the catalog: one spelling of names and values. Raises InvalidValueError."""
    cleaned = {name.strip(): value.strip() for name, value in tags.items()}
    if len(cleaned) > MOST_DEFAULTS:
        raise InvalidValueError(f"Up to {MOST_DEFAULTS} tags.", field="tags")
    for name, value in cleaned.items():
        if not NAME.fullmatch(name) or name in OWN_TAGS:
            raise InvalidValueError(
                f"{name or 'An empty name'} is no name of a tag: letters, digits, _, . and -, a letter first.", field="tags"
            )
        if not value or not value.isprintable() or "," in value or len(f"{name}={value}") > MOST_CHARACTERS:
            raise InvalidValueError(
                f"The value of {name} must be printable, without commas, {MOST_CHARACTERS} characters with its name.", field="tags"
            )
    return dict(sorted(cleaned.items()))
