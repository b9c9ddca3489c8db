"""Making flags and taking them out of service. Who is exposed is changed by `flag_changes`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import msgspec
from django.db import IntegrityError, transaction
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context

from catalog import prompt_selectors
from catalog import selectors as catalog_selectors
from catalog.errors import CatalogError
from gateway.contract.flags import BUCKETS, Exposure, Kind
from gateway.contract.treatments import TreatmentError, comparison_of
from governance import config
from governance.models import User
from governance.schema import current_schema
from governance.services import audit
from rollouts import exposure as rules
from rollouts.errors import (
    ChangePendingError,
    ExposureInvalidError,
    FlagKeyTakenError,
    StillExposedError,
)
from rollouts.exposure import ExposureError
from rollouts.models import Flag, FlagChange, FlagVersion, Rollout
from rollouts.services.locking import lock_flag


def create_flag(
    *,
    key: str,
    title: str,
    kind: str,
    variants: Mapping[str, Any],
    control: str,
    feature_class: str,
    sticky: str,
    actor: User,
    description: str = "",
    policy: str = Flag.Policy.RAISING,
    model: str = "",
    rollout: Rollout | None = None,
    at: datetime | None = None,
) -> Flag:
    """Make a flag. It begins off, so nobody is exposed and nobody needs to approve; its treatments begin with equal shares.

    `model`: the slug whose calls it leads elsewhere; the variants are then the slugs of registered models, or treatments: objects with a model,
    a version of a prompt and parameters (`gateway.contract.treatments`). A treatment without a model is served by the one that is bound.
    Raises FlagKeyTakenError, ExposureInvalidError.
    """
    if not re.fullmatch(rules.KEY_PATTERN, key):
        raise ExposureInvalidError("A flag's key is ai.<feature>.<change-id>, in lower-case letters, digits and hyphens.", field="key")
    try:
        values = rules.check_variants(cast(Kind, kind), variants, control)
        exposure = rules.changed(Exposure(), weights=_equal_shares([name for name in values if name != control]))
        rules.check(exposure, values, control)
        rules.check_attribute(sticky)
    except ExposureError as error:
        raise ExposureInvalidError(str(error), field=error.field) from error
    if model:
        values = _checked_treatments(kind, values, model)
    if current_schema() != get_public_schema_name() and _is_the_operators(key):
        raise FlagKeyTakenError(f"{key} is a flag of the platform's operator, which the gateway serves here too.", field="key")
    try:
        return _create(
            exposure, at or timezone.now(), actor, key=key, title=title.strip(), kind=kind, variants=values, control=control, sticky=sticky,
            feature_class=feature_class, description=description.strip(), policy=policy, model=model, rollout=rollout,
        )  # fmt: skip
    except IntegrityError as error:
        if Flag.objects.filter(key=key).exists():
            raise FlagKeyTakenError(f"There is a flag {key} already; keys are never used again.", field="key") from error
        if model and (other := Flag.objects.filter(model=model, archived_at=None).first()):
            raise FlagKeyTakenError(f"Calls to {model} are bound by {other.key} already.", field="model") from error
        raise


def _is_the_operators(key: str) -> bool:
    with schema_context(get_public_schema_name()):
        return Flag.objects.filter(key=key).exists()


def _equal_shares(names: list[str]) -> dict[str, int]:
    share = BUCKETS // len(names)
    return {name: share + (BUCKETS - share * len(names) if place == 0 else 0) for place, name in enumerate(names)}


def _checked_treatments(kind: str, values: Mapping[str, Any], bound: str) -> dict[str, Any]:
    """The values with every model named. Raises ExposureInvalidError."""
    if kind not in (Flag.Kind.STRING, Flag.Kind.OBJECT):
        raise ExposureInvalidError(
            "A flag that binds a model has variants of type string, the addresses of models, or of type object, treatments.", field="kind"
        )
    try:
        compared = comparison_of(values)
    except TreatmentError as error:
        raise ExposureInvalidError(str(error), field="variants") from error
    known = {model.slug: model for model in catalog_selectors.all_models()}
    checked: dict[str, Any] = {}
    for name, given in compared.treatments.items():
        treatment = msgspec.structs.replace(given, model=given.model or bound)
        model = known.get(treatment.model)
        if model is None:
            raise ExposureInvalidError(f"There is no model {treatment.model} in the catalog.", field="variants")
        if treatment.parameters.get("max_tokens", 0) > model.max_output_tokens:
            raise ExposureInvalidError(f"{name}: {model.slug} writes {model.max_output_tokens:,} tokens at most.", field="variants")
        if treatment.prompt:
            try:
                prompt_selectors.version_named(treatment.prompt)
            except CatalogError as error:
                raise ExposureInvalidError(f"{name}: {error.message}", field="variants") from error
        checked[name] = treatment.model if kind == Flag.Kind.STRING else msgspec.to_builtins(treatment)
    return checked


@transaction.atomic
def _create(exposure: Exposure, at: datetime, actor: User, **fields: Any) -> Flag:
    flag = Flag.objects.create(owner=actor, created_at=at, **fields)
    flag.current = FlagVersion.objects.create(flag=flag, number=1, exposure=msgspec.to_builtins(exposure), at=at)
    flag.save(update_fields=["current"])
    audit.record(
        "flag.created", actor=actor, target=flag, at=at, kind=flag.kind, variants=flag.variants, control=flag.control, sticky=flag.sticky,
        feature_class=flag.feature_class, policy=flag.policy, model=flag.model,
    )  # fmt: skip
    config.changed()
    return flag


@transaction.atomic
def archive_flag(*, flag: Flag, actor: User, at: datetime | None = None) -> Flag:
    """Take a flag out of service: callers then get their own default. Raises StillExposedError, ChangePendingError, FlagArchivedError."""
    flag, at = lock_flag(flag), at or timezone.now()
    if flag.exposure.on:
        raise StillExposedError("The flag is on. Switch it off first, so that nobody's feature changes unseen.")
    if flag.changes.filter(status=FlagChange.Status.PROPOSED).exists():
        raise ChangePendingError("A change waits for approval. It is decided or taken back first.")
    flag.archived_at = at
    flag.save(update_fields=["archived_at"])
    audit.record("flag.archived", actor=actor, target=flag, at=at)
    config.changed()
    return flag
