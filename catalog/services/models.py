"""Models and the deployments behind them: registering, checking with a real call, and the way from draft to retired."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from catalog import bindings, default_parameters, lifecycle, selectors, upstream
from catalog.errors import (
    DuplicateDeploymentError,
    InvalidValueError,
    LastDeploymentError,
    NameTakenError,
    NotCheckedError,
    WrongStatusError,
)
from catalog.hooks import Price, cost_figures
from catalog.models import Deployment, Model, ModelReview, Provider, SemanticAnswer
from catalog.services import reviews
from catalog.services.default_tags import checked_tags
from governance import config, payload_selectors
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


LEAST_THRESHOLD = 0.8
LONGEST_CACHE_S = 7 * 24 * 3600


@transaction.atomic
def set_cache(
    *,
    model: Model,
    actor: User,
    ttl_s: int,
    scope: str,
    embedding: str = "",
    threshold: float = 0.95,
    sample_percent: int = 5,
) -> Model:
    """How long, and among whose calls, an answer may be given again; 0 never. With `embedding`, also to questions that mean the same by
    that model: from the cosine similarity `threshold` on, and after `sample_percent` of such hits the model is asked too.

    Writes one audit entry. Without an embedding model, what was kept for such questions is deleted. Raises InvalidValueError.
    """
    if not 0 <= ttl_s <= LONGEST_CACHE_S:
        raise InvalidValueError(f"An answer is kept for 0 to {LONGEST_CACHE_S:,} seconds (a week).", field="ttl_s")
    if embedding:
        _check_semantic(model, embedding, threshold, sample_percent)
    model = Model.objects.select_for_update().get(pk=model.pk)
    after: dict[str, Any] = {
        "ttl_s": ttl_s, "scope": scope, "embedding": embedding, "threshold": threshold, "sample_percent": sample_percent,
    }  # fmt: skip
    before = {name: getattr(model, f"cache_{name}") for name in after}
    if before == after:
        return model
    for name, value in after.items():
        setattr(model, f"cache_{name}", value)
    model.save(update_fields=[f"cache_{name}" for name in after])
    if not embedding:
        SemanticAnswer.objects.filter(model=model.slug).delete()
    audit.record("model.cache_set", actor=actor, target=model, before=before, after=after)
    config.changed()
    return model


def _check_semantic(model: Model, embedding: str, threshold: float, sample_percent: int) -> None:
    if "chat" not in model.capabilities:
        raise InvalidValueError("Only answers to chat can be given again to questions that mean the same.", field="embedding")
    if embedding not in selectors.embedding_models():
        raise InvalidValueError(f"{embedding} is no served model that makes embeddings.", field="embedding")
    if not selectors.can_compare_vectors():
        raise InvalidValueError("The database has no pgvector: whoever runs it must create the extension vector.", field="embedding")
    if not LEAST_THRESHOLD <= threshold <= 1:
        raise InvalidValueError(
            f"The similarity is {LEAST_THRESHOLD} to 1: below it, different questions get the same answer.", field="threshold"
        )
    if not 0 <= sample_percent <= 100:
        raise InvalidValueError("A share is 0 to 100%.", field="sample_percent")


def purge_answers(*, at: datetime | None = None) -> int:
    """Delete answers to questions of the same meaning whose time is over, or whose project keeps nothing by now. Returns how many."""
    rules = payload_selectors.published_rules(selectors.project_names())
    closed = [project for project, rule in rules.items() if rule.mode == "none"]
    gone: int = SemanticAnswer.objects.filter(Q(until__lte=at or timezone.now()) | Q(project__in=closed)).delete()[0]
    return gone


LONGEST_CALL = timedelta(hours=1)


def erase_answers(project: str, until: datetime | None) -> int:
    """Delete answers to questions of the same meaning: of a project unless empty, of calls that began before `until` if given. An answer is
    kept when its call ends, so some of the hour after go too. In the caller's transaction. Returns how many."""
    wanted: dict[str, Any] = {"project": project} if project else {}
    if until:
        wanted["kept_at__lt"] = until + LONGEST_CALL
    gone: int = SemanticAnswer.objects.filter(**wanted).delete()[0]
    return gone


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
