"""Decisions on feature classes, effective at the gateway within seconds."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from governance import config
from governance.models import Consent, ConsentChange, Effect, FeatureClass, Severity, User
from governance.roles import Permission
from governance.services import alerts, audit, effects


@transaction.atomic
def set_consent(*, feature_class: str, state: str, actor: User, reason: str = "", at: datetime | None = None) -> Consent:
    """Allow or switch off a feature class for the current tenant.

    Writes the decision, its history and one audit entry; after the commit the gateway's snapshot is made again, and its way to
    every process is timed. The same decision twice changes nothing.
    """
    at = at or timezone.now()
    present = Consent.objects.select_for_update().filter(feature_class=feature_class).first()
    if present is not None and present.state == state and present.reason == reason:
        return present
    consent, _ = Consent.objects.update_or_create(
        feature_class=feature_class, defaults={"state": state, "reason": reason, "actor": actor, "set_at": at}
    )
    config.changed()
    what = f"{FeatureClass(feature_class).label}: {Consent.State(state).label.lower()}"
    effect = effects.watch(what, scope=Effect.Scope.TENANT, actor=actor, at=at)
    ConsentChange.objects.create(feature_class=feature_class, state=state, reason=reason, actor=actor, set_at=at, effect=effect)
    audit.record(f"consent.{state}", actor=actor, target=consent, before=present.state if present else "unset", reason=reason)
    if state == Consent.State.WITHDRAWN:
        label = FeatureClass(feature_class).label
        alerts.notify(
            topic="consent.withdrawn", severity=Severity.WARNING, title=f"{label} switched off by {actor}", text=reason,
            path="operate/consent/", permission=Permission.VIEW, key=f"consent:{feature_class}:{at.isoformat()}",
            data={"feature_class": feature_class}, at=at,
        )  # fmt: skip
    return consent
