"""Models: registering, describing and pricing them, and checking them with real calls."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from catalog import bindings, default_parameters, lifecycle, upstream
from catalog.errors import InvalidValueError, NameTakenError, NotCheckedError
from catalog.hooks import Price, cost_figures
from catalog.models import Deployment, Model, ModelReview, Provider
from catalog.services import reviews
from catalog.services.default_tags import checked_tags
from governance import config
from governance.models import FeatureClass, User
from governance.services import audit


@dataclass(frozen=True)
class ModelFacts:
    """What describes a model beside its name; a replacement of all of it."""

    name: str
    description: str = ""
    capabilities: tuple[str, ...] = ("chat",)
    context_window: int | None = None
    max_output_tokens: int = 4096
    feature_class: str = FeatureClass.ASSISTANTS
    data_sensitivity: str = Model.Sensitivity.INTERNAL
    environment: str = "production"
    default_parameters: Mapping[str, Any] = field(default_factory=dict)
    """Of `gateway.contract.treatments.PARAMETERS`: for calls that set none of their own."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """By which people find the model."""


@transaction.atomic
def register_model(
    *,
    slug: str,
    facts: ModelFacts,
    provider: Provider,
    upstream_model: str,
    owner: User,
    actor: User,
    price: Price | None = None,
) -> Model:
    """Add a model as a draft with its first deployment and, when given, its list price from now on.

    A draft is not served. Raises NameTakenError or InvalidValueError.
    """
    model = Model(slug=slug, owner=owner, changed_by=actor)
    _apply(model, facts)
    try:
        with transaction.atomic():
            model.save(force_insert=True)
    except IntegrityError as error:
        raise NameTakenError(f"There is a model {slug} already.", field="slug") from error
    Deployment.objects.create(model=model, provider=provider, upstream_model=upstream_model)
    audit.record("model.registered", actor=actor, target=model, provider=provider.slug, upstream_model=upstream_model)
    if price is not None:
        cost_figures().set_list_price(provider=provider.slug, model=slug, price=price, actor=actor)
    config.changed()
    return model


@transaction.atomic
def change_model(*, model: Model, facts: ModelFacts, actor: User) -> Model:
    """Replace what describes the model. What a served one is bound to waits as a whole for approval where it becomes wider, and stays as it
    is until then; all else holds at once, and so does what is not wider: then who asked for another value of the same asks again.

    Raises InvalidValueError.
    """
    model = Model.objects.select_for_update().get(pk=model.pk)
    before, present = _described(model), copy(model)
    _apply(model, facts)
    bound = {name: getattr(model, name) for name in bindings.FACTS if getattr(model, name) != getattr(present, name)}
    if reviews.is_wider(present, facts=bound):
        for name in bound:
            setattr(model, name, getattr(present, name))
        reviews.ask(model=model, kind=ModelReview.Kind.FACTS, actor=actor, facts=bound)
        if facts_of(model) == facts_of(present):
            return model
    else:
        reviews.overtake(model=model, facts=bound, actor=actor)
    model.changed_by = actor
    model.save()
    audit.record("model.changed", actor=actor, target=model, before=before, after=_described(model))
    config.changed()
    return model


@transaction.atomic
def propose_parameters(
    *, model: Model, parameters: Mapping[str, Any], actor: User, reason: str, at: datetime | None = None
) -> ModelReview | None:
    """Ask that a served model has these among its default parameters, as an experiment found them better: a second person approves it as any
    other change. None when it has them, or is not served. They join those that were proposed and wait still, in one review; what else waits of
    the model stays. `max_tokens` is at most what the model writes. Raises InvalidValueError."""
    model = Model.objects.select_for_update().get(pk=model.pk)
    waiting = ModelReview.objects.filter(model=model, kind=ModelReview.Kind.PARAMETERS, status=ModelReview.Status.WAITING).first()
    asked = default_parameters.known({**(waiting.facts["default_parameters"] if waiting else {}), **parameters})
    if "max_tokens" in asked:
        asked["max_tokens"] = min(asked["max_tokens"], model.max_output_tokens)
    after = _checked_defaults(replace(facts_of(model), default_parameters={**model.default_parameters, **asked}))
    if not model.is_served or after == model.default_parameters:
        return None
    said = f"{waiting.reason}; {reason}" if waiting and waiting.reason != reason else reason
    return reviews.ask(
        model=model, kind=ModelReview.Kind.PARAMETERS, actor=actor, facts={"default_parameters": asked}, reason=said[:200], at=at
    )


@transaction.atomic
def set_price(*, model: Model, provider: Provider, price: Price, actor: User) -> None:
    """Put a list price in force from now on for the model at one of its providers. Raises InvalidValueError."""
    if not Deployment.objects.filter(model=model, provider=provider).exists():
        raise InvalidValueError(f"{model.slug} has no deployment at {provider.name}.", field="provider")
    if price.input_per_million < 0 or price.output_per_million < 0:
        raise InvalidValueError("A price can't be negative.", field="input_per_million")
    cost_figures().set_list_price(provider=provider.slug, model=model.slug, price=price, actor=actor)
    Model.objects.filter(pk=model.pk).update(changed_by=actor)
    config.changed()


def check_model(*, model: Model, actor: User) -> list[tuple[Deployment, upstream.Trace]]:
    """Call every deployment of the model that is on, or waits to be, once, really, and keep what happened.

    Calls are made outside any transaction. Raises NotCheckedError when there is nothing to call.
    """
    waits = ModelReview.objects.filter(deployment=OuterRef("pk"), status=ModelReview.Status.WAITING)
    deployments = list(model.deployments.filter(Q(is_enabled=True) | Exists(waits)).select_related("provider"))
    if not deployments:
        raise NotCheckedError("The model has no deployment that is switched on, so there is nothing to check.")
    return [(deployment, _check_deployment(deployment, model, actor)) for deployment in deployments]


def _check_deployment(deployment: Deployment, model: Model, actor: User) -> upstream.Trace:
    provider = deployment.provider
    trace = upstream.try_model(provider.endpoint(), provider.open_credential, deployment.upstream_model, model.capabilities)
    with transaction.atomic():
        # Only what was really called is marked: the upstream may have changed while the call was under way.
        Deployment.objects.filter(
            pk=deployment.pk,
            upstream_model=deployment.upstream_model,
            provider__base_url=provider.base_url,
            provider__dialect=provider.dialect,
            provider__api_version=provider.api_version,
        ).update(checked_at=timezone.now(), check_ok=trace.ok, check_trace=trace.as_json())
        audit.record("deployment.checked", actor=actor, target=deployment, model=model.slug, ok=trace.ok, detail=trace.summary)
    deployment.refresh_from_db(fields=["checked_at", "check_ok", "check_trace"])
    return trace


def _apply(model: Model, facts: ModelFacts) -> None:
    unknown = sorted(set(facts.capabilities) - set(lifecycle.CAPABILITIES))
    if unknown:
        raise InvalidValueError(
            f"Unknown capabilities: {', '.join(unknown)}. Known are {', '.join(lifecycle.CAPABILITIES)}.", field="capabilities"
        )
    if not {"chat", "embeddings"} & set(facts.capabilities):
        raise InvalidValueError("A model must be able to chat or to embed.", field="capabilities")
    model.name, model.description, model.capabilities = facts.name, facts.description, list(facts.capabilities)
    model.context_window, model.max_output_tokens = facts.context_window, facts.max_output_tokens
    model.feature_class, model.data_sensitivity, model.environment = facts.feature_class, facts.data_sensitivity, facts.environment
    model.default_parameters = _checked_defaults(facts)
    model.tags = checked_tags(facts.tags)


def _checked_defaults(facts: ModelFacts) -> dict[str, Any]:
    return default_parameters.fitting(facts.default_parameters, capabilities=facts.capabilities, max_output_tokens=facts.max_output_tokens)


def _described(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "description": model.description,
        "capabilities": model.capabilities,
        "context_window": model.context_window,
        "max_output_tokens": model.max_output_tokens,
        "feature_class": model.feature_class,
        "data_sensitivity": model.data_sensitivity,
        "environment": model.environment,
        "default_parameters": model.default_parameters,
        "tags": model.tags,
    }


def facts_of(model: Model) -> ModelFacts:
    """The model's present facts, to change some of them with `dataclasses.replace`."""
    return ModelFacts(
        model.name,
        model.description,
        tuple(model.capabilities),
        model.context_window,
        model.max_output_tokens,
        model.feature_class,
        model.data_sensitivity,
        model.environment,
        model.default_parameters,
        model.tags,
    )
