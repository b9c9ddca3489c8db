"""What a model's deployments are chosen by: its objectives, and the quality that is registered of each deployment."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone

from catalog.errors import InvalidValueError
from catalog.models import Deployment, Model, RoutingObjectives
from governance import config
from governance.models import User
from governance.services import audit

WEIGHTS = ("cost", "latency", "quality")
LONGEST_BASIS = 200


@transaction.atomic
def set_objectives(*, model: Model, actor: User, cost: int, latency: int, quality: int, explore_percent: int = 5) -> RoutingObjectives:
    """Choose among the model's deployments by these weights, 0 to 100, instead of at random. Writes one audit entry if it changes anything.

    Raises InvalidValueError for a weight out of range, and when all are 0: then there is nothing to choose by.
    """
    wanted = {"cost": cost, "latency": latency, "quality": quality, "explore_percent": explore_percent}
    for name, value in wanted.items():
        if not 0 <= value <= 100:
            raise InvalidValueError("Between 0 and 100.", field=name)
    if not cost + latency + quality:
        raise InvalidValueError("Give at least one objective a weight above 0, or share calls by weight at random.", field="cost")
    model = Model.objects.select_for_update().get(pk=model.pk)
    present = RoutingObjectives.objects.filter(model=model).first()
    before = weights_of(present)
    if present is not None and before == wanted:
        return present
    objectives, _ = RoutingObjectives.objects.update_or_create(model=model, defaults=wanted)
    audit.record("model.routing_set", actor=actor, target=model, before=before, after=wanted)
    config.changed()
    return objectives


@transaction.atomic
def clear_objectives(*, model: Model, actor: User) -> None:
    """Share calls by weight at random again. Nothing happens where there are no objectives."""
    model = Model.objects.select_for_update().get(pk=model.pk)
    present = RoutingObjectives.objects.filter(model=model).first()
    if present is None:
        return
    audit.record("model.routing_set", actor=actor, target=model, before=weights_of(present), after=None)
    present.delete()
    config.changed()


def weights_of(objectives: RoutingObjectives | None) -> dict[str, int] | None:
    """What `set_objectives` takes."""
    return None if objectives is None else {name: getattr(objectives, name) for name in (*WEIGHTS, "explore_percent")}


@transaction.atomic
def set_quality(
    *, deployment: Deployment, actor: User, score: Decimal | None, basis: str, source: str = Deployment.QualitySource.PEOPLE
) -> Deployment:
    """Register how good the deployment's answers are, 0 to 100, and what that rests on; None takes the score away.

    Evaluations call it too, with their `source` and their run as `basis`. Scores are compared only among the deployments of one model, so
    they must come from the same test. Writes one audit entry. Raises InvalidValueError.
    """
    if score is not None and not 0 <= score <= 100:
        raise InvalidValueError("A score is between 0 and 100.", field="score")
    if score is not None and not basis.strip():
        raise InvalidValueError("Say what the score rests on, for example a data set and its date.", field="basis")
    if len(basis) > LONGEST_BASIS:
        raise InvalidValueError(f"At most {LONGEST_BASIS} characters.", field="basis")
    deployment = Deployment.objects.select_for_update(of=("self",)).select_related("model", "provider").get(pk=deployment.pk)
    before = _quality_of(deployment)
    deployment.quality = score
    deployment.quality_source, deployment.quality_basis = (source, basis.strip()) if score is not None else ("", "")
    deployment.quality_set_at = timezone.now() if score is not None else None
    if _quality_of(deployment) == before:
        return deployment
    deployment.save(update_fields=["quality", "quality_source", "quality_basis", "quality_set_at"])
    audit.record(
        "deployment.quality_set", actor=actor, target=deployment, model=deployment.model.slug, before=before, after=_quality_of(deployment)
    )
    config.changed()
    return deployment


def _quality_of(deployment: Deployment) -> dict[str, Any]:
    score = None if deployment.quality is None else float(deployment.quality)
    return {"score": score, "source": deployment.quality_source, "basis": deployment.quality_basis}
