"""What every act on a cohort's members does: lock in one order, put on record in both places, tell the organisation, time the effect."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django_tenants.utils import schema_context

from governance import config
from governance.models import Effect, User
from governance.roles import Permission
from governance.services import alerts, audit, effects
from rollouts.errors import CohortStateError
from rollouts.models import Cohort, CohortMember, Flag


def lock(cohort: Cohort) -> Cohort:
    return Cohort.objects.select_for_update(of=("self",)).select_related("flag").get(pk=cohort.pk)


def lock_all_of(flag: Flag) -> None:
    """Before the flag, as everybody does who leaves: nobody comes or goes until the members stand where the flag has them."""
    list(Cohort.objects.select_for_update().filter(flag=flag).order_by("pk").values_list("pk"))


def lock_member(member: CohortMember) -> CohortMember:
    """The cohort's row first, as everybody does who counts its places."""
    Cohort.objects.select_for_update().get(pk=member.cohort_id)
    return CohortMember.objects.select_for_update(of=("self",)).select_related("cohort", "tenant").get(pk=member.pk)


def check_open(cohort: Cohort) -> None:
    if cohort.is_closed:
        raise CohortStateError(f"{cohort.name} is closed.")


def record(event: str, member: CohortMember, *, actor: User | None, **details: Any) -> None:
    audit.record_in_both(event, tenant=member.tenant, actor=actor, cohort=member.cohort.slug, **details)


def tell(member: CohortMember, topic: str, severity: str, title: str, text: str, permission: Permission, at: datetime) -> None:
    with schema_context(member.tenant.schema_name):
        alerts.notify(
            topic=topic, severity=severity, title=title, text=text, path="release/cohorts/", permission=permission,
            key=f"{topic}:{member.cohort.slug}:{at.isoformat()}", data={"cohort": member.cohort.slug}, at=at,
        )  # fmt: skip


def time_effect(member: CohortMember, what: str, *, actor: User | None, at: datetime) -> None:
    """Publish this organisation's snapshot with the commit, before the worker comes to the others, and time its way."""
    with schema_context(member.tenant.schema_name):
        config.changed()
        effects.watch(what, scope=Effect.Scope.TENANT, actor=actor, at=at)
