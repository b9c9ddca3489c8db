"""Approval of models by four eyes: asking for it, agreeing to exactly what was asked, sending it back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from catalog import bindings, default_parameters, lifecycle, review_selectors
from catalog.errors import BindingChangedError, InvalidValueError, NotCheckedError, WrongStatusError
from catalog.hooks import approval_checks
from catalog.models import Deployment, Model, ModelReview
from governance import config
from governance.models import Severity, User
from governance.roles import Permission
from governance.services import alerts, audit

Kind, Status = ModelReview.Kind, ModelReview.Status


def is_wider(model: Model, *, facts: Mapping[str, Any] | None = None, deployment: Deployment | None = None) -> bool:
    """Whether the model would be served as more than what was approved, with these facts and this deployment.

    Models that were approved before approvals were kept are held against what they are now.
    """
    if not model.is_served:
        return False
    present = review_selectors.binding_of(model)
    after = review_selectors.binding_of(model, facts=facts, deployment=deployment)
    wider = (change for change in bindings.changes(model.approved_binding or present, after) if change.widens)
    return any(present.get(change.what, "") != change.after for change in wider)  # what drifted before is not of this change


@transaction.atomic
def ask(
    *,
    model: Model,
    kind: str,
    actor: User,
    facts: Mapping[str, Any] | None = None,
    deployment: Deployment | None = None,
    reason: str = "",
    at: datetime | None = None,
) -> ModelReview:
    """Put it to those who may approve; they are told. The caller has locked the model.

    The same again changes nothing, nor does somebody else who asks for less than what waits; anything else replaces it. One audit entry.
    """
    at, changed = at or timezone.now(), dict(facts or {})
    binding = review_selectors.binding_of(model, facts=review_selectors.facts_after(model, kind, changed), deployment=deployment)
    digest = bindings.digest(binding)
    present = ModelReview.objects.filter(model=model, kind=kind, deployment=deployment, status=Status.WAITING).first()
    if present is not None:
        present.model = model
    if present is not None and present.facts == changed and not review_selectors.replaces_unseen(present):
        covers = present.asked_by_id != actor.pk and bindings.holds_for(present.binding, binding)
        if present.digest == digest or covers:
            return present
    if present is not None:
        _close(present, actor, "Replaced by a newer one.", at)
    before = {} if kind == Kind.SERVE else _approved(model)
    changes = [{**asdict(change), "widens": change.widens} for change in bindings.changes(before, binding)]
    review = ModelReview.objects.create(
        model=model, kind=kind, deployment=deployment, facts=changed, binding=binding, digest=digest, changes=changes,
        reason=reason, asked_by=actor, asked_at=at,
    )  # fmt: skip
    details: dict[str, Any] = {"review": review.pk, "kind": kind, "digest": digest, "changes": changes, "comment": reason}
    audit.record("model.submitted" if kind == Kind.SERVE else "model.change_asked", actor=actor, target=model, at=at, **details)
    alerts.notify(
        topic="model.approval_asked", severity=Severity.INFO, title=f"{model.slug} waits for approval: {review.get_kind_display().lower()}",
        text=f"Asked by {actor}{f': {reason}' if reason else '.'}", path=f"models/{model.slug}/?tab=approval",
        permission=Permission.APPROVE_MODELS, key=f"model-review:{review.pk}", data={"model": model.slug, "kind": kind}, at=at,
    )  # fmt: skip
    return review


def _approved(model: Model) -> dict[str, str]:
    """What was approved and is not off. What is off stays approved, so it is no change."""
    if model.approved_binding is None:
        return review_selectors.binding_of(model)
    off = review_selectors.standbys_of(model)
    return {what: text for what, text in model.approved_binding.items() if what not in off}


@transaction.atomic
def submit_model(*, model: Model, actor: User, comment: str = "", at: datetime | None = None) -> Model:
    """Ask that the draft be served as it is now. Again, after it changed, replaces what was asked. Raises WrongStatusError or
    NotCheckedError: nobody is asked to approve what has not answered."""
    model = _locked(model)
    model.status = lifecycle.next_status(model.status, "submit")
    _check_answered(model)
    model.save(update_fields=["status"])
    ask(model=model, kind=Kind.SERVE, actor=actor, reason=comment, at=at)
    return model


@transaction.atomic
def approve(*, review: ModelReview, actor: User, comment: str = "", at: datetime | None = None) -> ModelReview:
    """Agree to what was asked, or to less of it; the gateway has it within seconds. One audit entry, which says on what basis.

    Raises WrongStatusError (decided before), SelfApprovalError (see `bindings.basis_of`), BindingChangedError (it is more than what was
    asked, or at another price), NotCheckedError, InvalidValueError (default parameters that the model can't have any more), or what the floor above asks for: evaluations that pass the thresholds of its class.
    """
    at, model = at or timezone.now(), _locked(review.model)
    review = _waiting(review, model)
    basis = review_selectors.basis_for(review, actor)
    if not review_selectors.still_holds(review):
        raise BindingChangedError(f"{model.slug} changed since approval was asked for. It has to be asked for again, as it is now.")
    before, facts = model.status, review_selectors.facts_after(model, review.kind, review.facts)
    details: dict[str, Any] = {"facts_before": {name: getattr(model, name) for name in facts}, "facts_after": facts} if facts else {}
    _APPLY[Kind(review.kind)](review)
    model.approved_binding = {**review_selectors.standbys_of(model), **review.binding}
    model.save()
    review.status, review.decided_by, review.decided_at, review.note, review.basis = Status.APPROVED, actor, at, comment, basis
    review.save(update_fields=["status", "decided_by", "decided_at", "note", "basis"])
    audit.record(
        "model.approved" if review.kind == Kind.SERVE else "model.change_approved", actor=actor, target=model, at=at, review=review.pk,
        kind=review.kind, basis=basis, digest=review.digest, before=before, after=model.status, comment=comment,
        **details,
    )  # fmt: skip
    look_again(models=[model], actor=actor, at=at)
    config.changed()
    return review


def _serve(review: ModelReview) -> None:
    model = review.model
    model.status = lifecycle.next_status(model.status, "approve")
    _check_answered(model)
    approval_checks().check_model(model.slug, model.feature_class)


def _describe(review: ModelReview) -> None:
    model = review.model
    for name, value in review_selectors.facts_after(model, review.kind, review.facts).items():
        setattr(model, name, value)
    # They fitted when it was asked; what holds at once may have changed since.
    default_parameters.fitting(model.default_parameters, capabilities=model.capabilities, max_output_tokens=model.max_output_tokens)
    if "feature_class" in review.facts:
        approval_checks().check_model(review.model.slug, review.model.feature_class)


def _switch_on(review: ModelReview) -> None:
    assert review.deployment is not None
    if not review.deployment.check_ok:
        raise NotCheckedError(f"{review.deployment} has not passed its live check. Run the check first.")
    approval_checks().check_deployment(review.deployment.reference, review.model.slug, review.model.feature_class)
    review.deployment.is_enabled = True
    review.deployment.save(update_fields=["is_enabled"])


def _accept(review: ModelReview) -> None:
    _check_answered(review.model)


_APPLY = {Kind.SERVE: _serve, Kind.FACTS: _describe, Kind.PARAMETERS: _describe, Kind.DEPLOYMENT: _switch_on, Kind.DRIFT: _accept}


@transaction.atomic
def send_back(*, review: ModelReview, actor: User, comment: str = "", at: datetime | None = None) -> ModelReview:
    """Say no, and why; whoever asked withdraws it so, without a reason. What was to be served is a draft again. One audit entry.

    Raises WrongStatusError (decided before, or changed underneath: that is undone there) or InvalidValueError (no reason).
    """
    model = _locked(review.model)
    review = _waiting(review, model)
    if review.kind == Kind.DRIFT:
        raise WrongStatusError("Undo the change where it was made, or stop serving the model. Then this goes by itself.")
    own = review.asked_by_id == actor.pk
    if not own and not comment.strip():
        raise InvalidValueError("Say why, so that it is not asked again.", field="comment")
    if review.kind == Kind.SERVE:
        model.status = lifecycle.next_status(model.status, "return")
        model.save(update_fields=["status"])
    _decide(review, Status.WITHDRAWN if own else Status.RETURNED, actor, comment.strip(), at)
    return review


@transaction.atomic
def ask_again(*, review: ModelReview, actor: User, at: datetime | None = None) -> ModelReview:
    """Ask the same of the model as it is now, after it changed since it was asked. Raises WrongStatusError (decided before)."""
    review = _waiting(review, _locked(review.model))
    return ask(
        model=review.model, kind=review.kind, actor=actor, facts=review.facts, deployment=review.deployment, reason=review.reason, at=at
    )


@transaction.atomic
def close(*, model: Model, actor: User, note: str, deployment: Deployment | None = None, at: datetime | None = None) -> None:
    """Take back everything that waits of the model, or of its deployment, because it is not to be served any more."""
    of = {"model": model} if deployment is None else {"model": model, "deployment": deployment}
    for review in ModelReview.objects.filter(status=Status.WAITING, **of):
        _close(review, actor, note, at)


@transaction.atomic
def overtake(*, model: Model, facts: Iterable[str], actor: User) -> None:
    """Take back a waiting description, or default parameters, that has one of these facts: it holds as somebody said since, and approval must not undo that."""
    described = ModelReview.objects.filter(model=model, kind__in=(Kind.FACTS, Kind.PARAMETERS), status=Status.WAITING)
    for review in described.filter(facts__has_any_keys=list(facts)):
        _close(review, actor, "The same was changed since.", None)


@transaction.atomic
def look_again(*, models: Iterable[Model], actor: User, at: datetime | None = None) -> None:
    """Ask for approval where served models became wider by something that is not theirs: a provider's address or region, a guardrail.

    They are served on meanwhile: whoever changed that had the right to. Where all is again as it was approved, what waits is taken back.
    The caller has locked the models, see `locked`.
    """
    served = [model for model in models if model.is_served and model.approved_binding is not None]
    if not served:
        return
    present = review_selectors.bindings_of(served)
    waiting = {review.model_id: review for review in ModelReview.objects.filter(model__in=served, kind=Kind.DRIFT, status=Status.WAITING)}
    for model in served:
        assert model.approved_binding is not None
        if bindings.is_wider(model.approved_binding, present[model.pk]):
            ask(model=model, kind=Kind.DRIFT, actor=actor, at=at)
        elif model.pk in waiting:
            _close(waiting[model.pk], actor, "It is as it was approved again.", at)


def locked(models: QuerySet[Model]) -> list[Model]:
    """The models as they are once nobody else is at work on one. Of any status: one that is being approved at this moment is served next,
    and its approver has not seen what the caller changes underneath."""
    return list(models.select_for_update(of=("self",)).order_by("pk"))


def lock_all() -> list[Model]:
    """Before guardrails change."""
    return locked(Model.objects.all())


def look_at_guardrails(actor: User) -> None:
    """The same as `look_again` for every model, after guardrails changed."""
    look_again(models=lock_all(), actor=actor)


def _check_answered(model: Model) -> None:
    if not model.deployments.filter(is_enabled=True, check_ok=True).exists():
        raise NotCheckedError("No deployment of this model has passed its live check. Run the check first.")


def _waiting(review: ModelReview, model: Model) -> ModelReview:
    found = ModelReview.objects.select_related("deployment__provider", "asked_by").get(pk=review.pk)
    if found.status != Status.WAITING:
        raise WrongStatusError(f"This is {found.get_status_display().lower()} already.")
    found.model = model
    return found


def _close(review: ModelReview, actor: User, note: str, at: datetime | None) -> None:
    _decide(review, Status.WITHDRAWN, actor, note, at)


def _decide(review: ModelReview, status: ModelReview.Status, actor: User, note: str, at: datetime | None) -> None:
    review.status, review.decided_by, review.decided_at, review.note = status, actor, at or timezone.now(), note
    review.save(update_fields=["status", "decided_by", "decided_at", "note"])
    events = {
        (True, Status.RETURNED): "model.returned",
        (True, Status.WITHDRAWN): "model.withdrawn",
        (False, Status.RETURNED): "model.change_returned",
        (False, Status.WITHDRAWN): "model.change_withdrawn",
    }
    audit.record(
        events[review.kind == Kind.SERVE, status], actor=actor, target=review.model, at=review.decided_at, review=review.pk,
        kind=review.kind, comment=note,
    )  # fmt: skip


def _locked(model: Model) -> Model:
    return Model.objects.select_for_update().get(pk=model.pk)
