"""Keeping, renaming, sharing and forgetting views of cost pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import IntegrityError, transaction

from costs import saved_views
from costs.errors import SavedViewError, SavedViewNameTakenError
from costs.models import SavedView
from governance.models import User
from governance.services import audit

MOST_PER_PERSON = 50
LONGEST_NAME = 60


@transaction.atomic
def save_view(
    *, page: str, name: str, parameters: Mapping[str, str], owner: User, is_shared: bool = False, is_default: bool = False
) -> SavedView:
    """Keep what a page shows. A new default takes the place of the one before.

    Writes one audit entry. Raises SavedViewError (no name, too long, too many) or SavedViewNameTakenError.
    """
    User.objects.select_for_update().get(pk=owner.pk)  # two tabs may save at once
    if SavedView.objects.filter(owner=owner).count() >= MOST_PER_PERSON:
        raise SavedViewError(f"You have {MOST_PER_PERSON} views, which is all there may be. Delete one first.")
    view = SavedView(
        page=page,
        name=_name(name),
        parameters=saved_views.cleaned(parameters),
        owner=owner,
        is_shared=is_shared,
        is_default=is_default,
    )
    _keep(view)
    audit.record("saved_view.created", actor=owner, target=view, **_facts(view))
    return view


@transaction.atomic
def change_view(*, view: SavedView, name: str, is_shared: bool, is_default: bool) -> SavedView:
    """Rename it, share it or not, open the page with it or not. The same values change nothing.

    Writes one audit entry. Raises SavedViewError or SavedViewNameTakenError.
    """
    User.objects.select_for_update().get(pk=view.owner_id)
    view = SavedView.objects.select_for_update().select_related("owner").get(pk=view.pk)
    before = _facts(view)
    view.name, view.is_shared, view.is_default = _name(name), is_shared, is_default
    if _facts(view) == before:
        return view
    _keep(view)
    audit.record("saved_view.changed", actor=view.owner, target=view, before=before, **_facts(view))
    return view


@transaction.atomic
def delete_view(*, view: SavedView) -> None:
    """Forget it, for everybody who used it. Writes one audit entry; one that is gone is left alone."""
    found = SavedView.objects.select_for_update(of=("self",)).select_related("owner").filter(pk=view.pk).first()
    if found is None:
        return
    audit.record("saved_view.deleted", actor=found.owner, target=found, **_facts(found))
    found.delete()


def _name(text: str) -> str:
    name = " ".join(text.replace("\0", "").split())
    if not name or len(name) > LONGEST_NAME:
        raise SavedViewError(f"A view needs a name of at most {LONGEST_NAME} characters.", field="name")
    return name


def _keep(view: SavedView) -> None:
    if view.is_default:
        SavedView.objects.filter(owner=view.owner, page=view.page, is_default=True).exclude(pk=view.pk).update(is_default=False)
    try:
        with transaction.atomic():
            view.save()
    except IntegrityError as error:
        raise SavedViewNameTakenError("You have a view of this name on the page.", field="name") from error


def _facts(view: SavedView) -> dict[str, Any]:
    return {"page": view.page, "name": view.name, "is_shared": view.is_shared, "is_default": view.is_default}
