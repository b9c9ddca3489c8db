"""A model's way from draft to retired, and what its callers are told on it. Who may go where says `catalog.lifecycle`."""

from __future__ import annotations

from datetime import date

from django.db import transaction
from django.utils import timezone

from catalog import lifecycle, selectors
from catalog.errors import InvalidValueError, WrongStatusError
from catalog.models import Model, ModelReview
from catalog.services import reviews
from governance import config
from governance.models import User
from governance.services import audit


@transaction.atomic
def discard_draft(*, model: Model, actor: User) -> None:
    """Remove a model that was never served. Raises WrongStatusError for anything but a draft."""
    model = Model.objects.select_for_update().get(pk=model.pk)
    if model.status != Model.Status.DRAFT:
        raise WrongStatusError("Only a draft can be discarded. Retire the model instead.")
    audit.record("model.discarded", actor=actor, target=model, slug=model.slug)
    model.delete()
    config.changed()


@transaction.atomic
def _move(model: Model, act: str, event: str, actor: User, comment: str) -> Model:
    model = Model.objects.select_for_update().get(pk=model.pk)
    before, model.status = model.status, lifecycle.next_status(model.status, act)
    if act == "redraft":
        model.approved_binding, model.changed_by = None, actor
    if act == "deprecate":
        model.deprecated_at = timezone.now()
    elif model.status != Model.Status.DEPRECATED:
        model.deprecated_at, model.retires_on, model.successor = None, None, ""
    model.save(update_fields=["status", "approved_binding", "changed_by", "deprecated_at", "retires_on", "successor"])
    if act == "retire":
        reviews.close(model=model, actor=actor, note="The model is retired.")
    audit.record(event, actor=actor, target=model, before=before, after=model.status, comment=comment)
    config.changed()
    return model


def submit_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """Ask that the model be served, see `reviews.submit_model`."""
    return reviews.submit_model(model=model, actor=actor, comment=comment)


def approve_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """Agree that the model is served as it was submitted. Raises WrongStatusError unless it is, and as `reviews.approve` does."""
    return reviews.approve(review=_submission(model, "approve"), actor=actor, comment=comment).model


def return_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """Make the submitted model a draft again, and say why. Raises WrongStatusError unless it is, and as `reviews.send_back` does."""
    return reviews.send_back(review=_submission(model, "return"), actor=actor, comment=comment).model


def _submission(model: Model, act: str) -> ModelReview:
    lifecycle.next_status(Model.objects.values_list("status", flat=True).get(pk=model.pk), act)
    review = ModelReview.objects.filter(model=model, kind=ModelReview.Kind.SERVE, status=ModelReview.Status.WAITING).first()
    if review is None:
        raise WrongStatusError("It was never asked what this model is to be served as. Submit it again.")
    return review


def deprecate_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """Still served, but said to be leaving. Raises WrongStatusError."""
    return _move(model, "deprecate", "model.deprecated", actor, comment)


@transaction.atomic
def announce_leaving(*, model: Model, actor: User, retires_on: date | None, successor: str = "") -> Model:
    """What callers of a deprecated model are told: the day it goes, and the model to use instead; None and empty say nothing.

    The day is one of the organisation's time zone. Writes one audit entry and tells the gateway. Raises WrongStatusError (not deprecated) or InvalidValueError (with its field).
    """
    model = Model.objects.select_for_update().get(pk=model.pk)
    if model.status != Model.Status.DEPRECATED:
        raise WrongStatusError(f"{model.slug} is {model.status}. Deprecate it first.")
    if successor and successor not in selectors.possible_successors(model):
        raise InvalidValueError(f"{successor} is no other served model that does what {model.slug} is called for.", field="successor")
    today = timezone.now().astimezone(selectors.time_zone()).date()
    if retires_on is not None and retires_on != model.retires_on and retires_on < today:
        raise InvalidValueError("The day lies in the past. Retire the model instead.", field="retires_on")
    before, after = (model.retires_on, model.successor), (retires_on, successor)
    if before == after:
        return model
    model.retires_on, model.successor = after
    model.save(update_fields=["retires_on", "successor"])
    audit.record(
        "model.leaving_announced", actor=actor, target=model, retires_on=str(retires_on or ""), successor=successor,
        before={"retires_on": str(before[0] or ""), "successor": before[1]},
    )  # fmt: skip
    config.changed()
    return model


def reinstate_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """No longer said to be leaving; it was served all the while. Raises WrongStatusError."""
    return _move(model, "reinstate", "model.reinstated", actor, comment)


def retire_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """No longer served, within seconds; what waited of it is taken back. Raises WrongStatusError."""
    return _move(model, "retire", "model.retired", actor, comment)


def redraft_model(*, model: Model, actor: User, comment: str = "") -> Model:
    """Take a retired model up again as a draft, which is approved anew. Raises WrongStatusError."""
    return _move(model, "redraft", "model.redrafted", actor, comment)


ACTS = {
    "submit": submit_model,
    "approve": approve_model,
    "return": return_model,
    "deprecate": deprecate_model,
    "reinstate": reinstate_model,
    "retire": retire_model,
    "redraft": redraft_model,
}
