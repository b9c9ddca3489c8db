"""The deployments behind a model: which upstreams serve it, and how much of its traffic each gets."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from catalog.errors import DuplicateDeploymentError, LastDeploymentError
from catalog.models import Deployment, Model, ModelReview, Provider
from catalog.services import reviews
from governance import config
from governance.models import User
from governance.services import audit


@transaction.atomic
def add_deployment(
    *,
    model: Model,
    provider: Provider,
    upstream_model: str,
    actor: User,
    weight: int = 1,
    priority: int = 0,
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
    is_enabled: bool = True,
) -> Deployment:
    """Add an upstream that can serve the model. The quotas are what it takes; None is no ceiling. Switched on, that of a served model is off
    and waits for approval, unless it was approved before. Raises DuplicateDeploymentError."""
    model = Model.objects.select_for_update().get(pk=model.pk)
    deployment = Deployment(
        model=model,
        provider=provider,
        upstream_model=upstream_model,
        weight=weight,
        priority=priority,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        is_enabled=is_enabled and not model.is_served,
    )
    try:
        with transaction.atomic():
            deployment.save(force_insert=True)
    except IntegrityError as error:
        raise DuplicateDeploymentError(
            f"{model.slug} is served by {upstream_model} at {provider.name} already.", field="upstream_model"
        ) from error
    waits = is_enabled and reviews.is_wider(model, deployment=deployment)
    if deployment.is_enabled != (is_enabled and not waits):  # of a served model, but approved before and removed since
        deployment.is_enabled = True
        deployment.save(update_fields=["is_enabled"])
    audit.record("deployment.added", actor=actor, target=deployment, model=model.slug, **share_of(deployment))
    if waits:
        reviews.ask(model=model, kind=ModelReview.Kind.DEPLOYMENT, deployment=deployment, actor=actor)
    _note_change(model, actor)
    config.changed()
    return deployment


def _note_change(model: Model, actor: User) -> None:
    model.changed_by = actor
    model.save(update_fields=["changed_by"])


@transaction.atomic
def change_deployment(
    *,
    deployment: Deployment,
    actor: User,
    weight: int,
    priority: int,
    is_enabled: bool,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
) -> Deployment:
    """Change how much traffic an upstream gets. Switching on what was not approved waits for approval. Raises LastDeploymentError."""
    deployment = _locked(deployment)
    if deployment.is_enabled and not is_enabled:
        _check_not_last(deployment)
    before = share_of(deployment)
    waits = is_enabled and not deployment.is_enabled and reviews.is_wider(deployment.model, deployment=deployment)
    deployment.weight, deployment.priority, deployment.is_enabled = weight, priority, is_enabled and not waits
    deployment.requests_per_minute, deployment.tokens_per_minute = requests_per_minute, tokens_per_minute
    deployment.save(update_fields=list(before))
    audit.record(
        "deployment.changed",
        actor=actor,
        target=deployment,
        model=deployment.model.slug,
        before=before,
        after=share_of(deployment),
    )
    if not is_enabled:
        reviews.close(model=deployment.model, deployment=deployment, actor=actor, note="It is to stay off.")
    if waits:
        reviews.ask(model=deployment.model, kind=ModelReview.Kind.DEPLOYMENT, deployment=deployment, actor=actor)
    if before["is_enabled"] != deployment.is_enabled:
        _note_change(deployment.model, actor)
    config.changed()
    return deployment


def share_of(deployment: Deployment) -> dict[str, Any]:
    """How much traffic it gets: what `change_deployment` takes."""
    names = ("weight", "priority", "is_enabled", "requests_per_minute", "tokens_per_minute")
    return {name: getattr(deployment, name) for name in names}


@transaction.atomic
def remove_deployment(*, deployment: Deployment, actor: User) -> None:
    """Take an upstream away from its model. Raises LastDeploymentError."""
    deployment = _locked(deployment)
    if deployment.is_enabled:
        _check_not_last(deployment)
    reviews.close(model=deployment.model, deployment=deployment, actor=actor, note="It is removed.")
    audit.record("deployment.removed", actor=actor, target=deployment, model=deployment.model.slug)
    deployment.delete()
    _note_change(deployment.model, actor)
    config.changed()


def _locked(deployment: Deployment) -> Deployment:
    """The deployment, with its model locked: two people may take away the last two at once."""
    Model.objects.select_for_update().get(pk=deployment.model_id)
    return Deployment.objects.select_related("model", "provider").get(pk=deployment.pk)


def _check_not_last(deployment: Deployment) -> None:
    others = deployment.model.deployments.filter(is_enabled=True).exclude(pk=deployment.pk)
    if deployment.model.is_served and not others.exists():
        raise LastDeploymentError(
            f"{deployment.model.slug} is served and this is its only deployment. Add another first, or retire the model."
        )


def replace_upstream(*, model: Model, provider: Provider, upstream_model: str, actor: User) -> Model:
    """Point a draft with a single deployment at another upstream: the wizard's step back."""
    with transaction.atomic():
        model = Model.objects.select_for_update().get(pk=model.pk)
        if model.status != Model.Status.DRAFT:
            raise LastDeploymentError("Only a draft can change its upstream here. Add a deployment instead.")
        kept = Deployment.objects.filter(model=model, provider=provider, upstream_model=upstream_model)
        if not kept.exists():
            Deployment.objects.filter(model=model).delete()
            Deployment.objects.create(model=model, provider=provider, upstream_model=upstream_model)
            audit.record("deployment.replaced", actor=actor, target=model, provider=provider.slug, upstream_model=upstream_model)
            _note_change(model, actor)
            config.changed()
    return model
