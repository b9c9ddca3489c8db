"""What waits for approval, what models are bound to now, and who may agree."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import F, OuterRef, Q, QuerySet, Subquery

from catalog import bindings, selectors
from catalog.errors import SelfApprovalError
from catalog.hooks import Asked, Price, approval_checks, cost_figures
from catalog.models import Deployment, Model, ModelReview, Provider
from gateway.contract.treatments import said_parameters
from governance.models import AuditEntry, Guardrail, Membership, User
from governance.roles import GRANTS, Permission

TIMELINE = {
    "model.registered": "Registered",
    "model.submitted": "Submitted",
    "model.approved": "Approved",
    "model.returned": "Returned",
    "model.withdrawn": "Withdrawn",
    "model.change_asked": "Change asked",
    "model.change_approved": "Change approved",
    "model.change_returned": "Change returned",
    "model.change_withdrawn": "Change withdrawn",
    "model.deprecated": "Deprecated",
    "model.reinstated": "Reinstated",
    "model.retired": "Retired",
    "model.redrafted": "Reopened",
}
SHOWN = 50


def reviews() -> QuerySet[ModelReview]:
    """Newest first."""
    return ModelReview.objects.select_related("model", "deployment__provider", "asked_by", "decided_by").order_by("-pk")


def waiting() -> QuerySet[ModelReview]:
    return reviews().filter(status=ModelReview.Status.WAITING)


@dataclass(frozen=True)
class Step:
    """One act on the way of a model."""

    event: str
    at: datetime
    actor_name: str
    kind: str
    """Of what was asked, in words; empty for other acts."""
    basis: str
    """On what it was approved, in words; empty for other acts."""
    is_alone: bool
    comment: str

    @property
    def said(self) -> str:
        act = TIMELINE[self.event]
        return f"{act}: {self.kind.lower()}" if self.kind else act


def timeline(model: Model) -> list[Step]:
    """The newest acts on the way of the model from draft to retired, newest first."""
    entries = AuditEntry.objects.filter(target_type="model", target_id=str(model.pk), event__in=list(TIMELINE))
    return [_step(entry) for entry in entries.order_by("-sequence")[:SHOWN]]


def _step(entry: AuditEntry) -> Step:
    details = entry.details
    kind, basis = details.get("kind"), details.get("basis")
    return Step(
        event=entry.event,
        at=entry.at,
        actor_name=entry.actor_name,
        kind=ModelReview.Kind(kind).label if kind and ".change_" in entry.event else "",
        basis=ModelReview.Basis(basis).label if basis else "",
        is_alone=basis == bindings.ALONE,
        comment=details.get("comment", ""),
    )


@dataclass(frozen=True)
class Waiting:
    """A review that waits, for one reader."""

    review: ModelReview
    is_stale: bool
    """The model changed since it was asked for, and not only to less."""
    basis: str
    """On what the reader may approve it; empty when not."""
    refusal: str
    """Why not."""
    asked: list[Asked]
    """Of a deployment, before it serves calls."""


def waiting_of(model: Model, reader: User) -> list[Waiting]:
    """What waits of the model, newest first."""
    found, approvers = list(waiting().filter(model=model)), approver_ids()
    return [_for_reader(review, reader, approvers) for review in found]


def _for_reader(review: ModelReview, reader: User, approvers: set[int]) -> Waiting:
    basis = refusal = ""
    try:
        basis = basis_for(review, reader, approvers)
    except SelfApprovalError as error:
        refusal = error.message
    return Waiting(review, not still_holds(review), basis, refusal, asked_of(review))


def asked_of(review: ModelReview) -> list[Asked]:
    """What evaluations are asked of the deployment that it is about, and how they stand; empty of anything else."""
    if review.deployment is None:
        return []
    model = review.model
    return approval_checks().asked_of_deployment(review.deployment.reference, model.slug, model.feature_class)


def still_holds(review: ModelReview) -> bool:
    """Whether the model is still what approval was asked for, or less."""
    if replaces_unseen(review):
        return False
    facts = facts_after(review.model, review.kind, review.facts)
    return bindings.holds_for(review.binding, binding_of(review.model, facts=facts, deployment=review.deployment))


def facts_after(model: Model, kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the model's facts will be once these are approved. Parameters that were proposed go over those that it has by then."""
    if kind != ModelReview.Kind.PARAMETERS:
        return dict(facts)
    return {"default_parameters": {**model.default_parameters, **facts["default_parameters"]}}


def replaces_unseen(review: ModelReview) -> bool:
    """Whether it has default parameters, which change as a whole, and the model has others now than it had when they were asked for: they
    would go without anybody having seen that."""
    seen = [change["before"] for change in review.changes if change["what"] == "default_parameters"]
    return "default_parameters" in review.facts and seen != [said_parameters(review.model.default_parameters)]


def basis_for(review: ModelReview, actor: User, approvers: Collection[int] | None = None) -> str:
    """On what the actor may approve it. Raises SelfApprovalError."""
    return bindings.basis_of(
        actor=actor.pk,
        asked_by=review.asked_by_id,
        changed_by=_changed_by(review),
        approvers=approver_ids() if approvers is None else approvers,
    )


def _changed_by(review: ModelReview) -> set[int]:
    """Whose changes would be approved with it, beside those of whoever asked: of a model to be served the last one to change it; of a served
    one all who changed something underneath since its last approval, each of which is in the binding whoever asked last; of parameters also
    who proposed some of them before others joined."""
    if review.kind == ModelReview.Kind.SERVE:
        return set() if review.model.changed_by_id is None else {review.model.changed_by_id}
    approved = ModelReview.objects.filter(model=OuterRef("model"), status=ModelReview.Status.APPROVED).order_by("-decided_at")
    drifts = ModelReview.objects.filter(model=review.model, kind=ModelReview.Kind.DRIFT).annotate(
        approved_at=Subquery(approved.values("decided_at")[:1])
    )
    found = set(drifts.filter(Q(approved_at=None) | Q(asked_at__gte=F("approved_at"))).values_list("asked_by_id", flat=True))
    return found | _proposers(review) if review.kind == ModelReview.Kind.PARAMETERS else found


def _proposers(review: ModelReview) -> set[int]:
    """Who proposed any of its parameters, at this value, in a review that is taken back."""
    wanted = review.facts["default_parameters"].items()
    earlier = ModelReview.objects.filter(model=review.model, kind=review.kind, status=ModelReview.Status.WITHDRAWN)
    return {one.asked_by_id for one in earlier if one.facts["default_parameters"].items() & wanted}


def approver_ids() -> set[int]:
    """Of the active members of the organisation who may approve models."""
    roles = [role for role, granted in GRANTS.items() if Permission.APPROVE_MODELS in granted]
    members = Membership.objects.filter(tenant=selectors.current_tenant(), user__is_active=True, roles__overlap=roles)
    return set(members.values_list("user_id", flat=True))


def binding_of(model: Model, *, facts: Mapping[str, Any] | None = None, deployment: Deployment | None = None) -> dict[str, str]:
    """What the model is bound to now, or would be with other facts and one more deployment switched on."""
    return bindings_of([model], facts=facts, deployment=deployment)[model.pk]


def bindings_of(
    models: Iterable[Model], *, facts: Mapping[str, Any] | None = None, deployment: Deployment | None = None
) -> dict[int, dict[str, str]]:
    """By the model's id, in three queries however many they are."""
    models = list(models)
    prices = cost_figures().current_prices()
    used: dict[int, list[Deployment]] = {model.pk: [] for model in models}
    for one in Deployment.objects.filter(model__in=models).select_related("provider").order_by("pk"):
        if one.is_enabled or (deployment is not None and one.pk == deployment.pk):
            used[one.model_id].append(one)
    scopes = (Guardrail.Scope.TENANT, Guardrail.Scope.MODEL)
    guardrails = list(Guardrail.objects.filter(mode=Guardrail.Mode.ENFORCE, scope__in=scopes))
    return {model.pk: _binding(model, facts or {}, used[model.pk], prices, guardrails) for model in models}


def standbys_of(model: Model) -> dict[str, str]:
    """The part of the approved binding that is of deployments which are off, and would be the same if they were switched on now."""
    approved = model.approved_binding or {}
    off = Deployment.objects.filter(model=model, is_enabled=False).select_related("provider")
    found = {f"deployment {one.reference}": _place(one.provider) for one in off}
    return {what: text for what, text in found.items() if approved.get(what) == text}


def _binding(
    model: Model,
    facts: Mapping[str, Any],
    deployments: Iterable[Deployment],
    prices: Mapping[tuple[str, str], Price],
    guardrails: Iterable[Guardrail],
) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in bindings.FACTS:
        value = facts.get(name, getattr(model, name))
        text = ", ".join(sorted(value)) if name == "capabilities" else said_parameters(value) if isinstance(value, dict) else str(value)
        if text or not isinstance(value, dict):  # none at all is nothing to be bound to, as it was before there were any
            found[name] = text
    for deployment in deployments:
        provider = deployment.provider
        found[f"deployment {deployment.reference}"] = _place(provider)
        price = prices.get((provider.slug, model.slug))
        if price is not None:
            amounts = (format(amount.normalize(), "f") for amount in (price.input_per_million, price.output_per_million))
            found[f"price at {provider.slug}"] = "$ {} in, {} out per 1M tokens".format(*amounts)
    for guardrail in guardrails:
        if guardrail.scope == Guardrail.Scope.TENANT or guardrail.ref == model.slug:
            found[f"guardrail {guardrail.name}"] = _settings(guardrail)
    return found


def _place(provider: Provider) -> str:
    return ", ".join(part for part in (provider.base_url, f"region {provider.region}" if provider.region else "") if part)


def _settings(guardrail: Guardrail) -> str:
    where = " and ".join(word for word, on in (("input", guardrail.on_input), ("output", guardrail.on_output)) if on)
    parts = [f"{guardrail.kind}: {guardrail.action} on {where}"]
    parts += [f"{name} {', '.join(sorted(values))}" for name, values in (("of", guardrail.entities), ("words", guardrail.terms)) if values]
    if guardrail.engine == Guardrail.Engine.PRESIDIO:
        parts.append(f"by Presidio from score {guardrail.threshold:g} in {guardrail.language} {guardrail.spacy_model}".rstrip())
        parts.append(f"without its answer within {guardrail.time_limit_ms:,} ms: {guardrail.when_unavailable}")
    if guardrail.kind == Guardrail.Kind.INJECTION:
        parts.append(f"from suspicion {guardrail.threshold:g}")
    if guardrail.kind == Guardrail.Kind.SIZE:
        parts.append(f"over {guardrail.max_characters:,} characters")
    return "; ".join(parts)
