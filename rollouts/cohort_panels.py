"""What cohorts put into the frame of an organisation's pages, and how a deleted organisation is forgotten."""

from __future__ import annotations

from django.urls import reverse
from django.utils import timezone

from costs import hooks
from governance import banners, erasure, home, navigation
from governance.access import Permission
from governance.models import Membership, Tenant
from rollouts import cohort_selectors, programme_selectors
from rollouts.models import CohortMember, Escalation, FalseAlertCount, SurveyAnswer, SurveyOptOut
from rollouts.services import escalations, tenant_overrides


def register() -> None:
    """Called once, from AppConfig.ready()."""
    navigation.register(
        navigation.Item(
            "release",
            "Roll out",
            "Cohorts",
            "own-cohorts",
            icon="users-group",
            permission=Permission.VIEW,
            order=40,
            due=cohort_selectors.invitations_for,
            among=(cohort_selectors.invited,),
        )
    )
    banners.register(_banner, among=cohort_selectors.winding_down)
    for area in ("operate", "build", "release"):
        home.register(home.Panel(area, "rollouts/partials/home_survey.html", Permission.VIEW, _question, order=90))
    erasure.register_eraser(_forget)
    hooks.register_false_throttle(escalations.open_war_room)


def _banner(membership: Membership) -> banners.Banner | None:
    member = cohort_selectors.ending(membership.tenant)
    if member is None or member.leaves_at is None:
        return None
    return banners.Banner(
        f"{member.cohort.name} ends on {member.leaves_at:%Y-%m-%d}. {member.reason}", reverse("own-cohorts"), "What stays"
    )


def _question(membership: Membership) -> programme_selectors.Question | None:
    return programme_selectors.question_for(membership.tenant, membership.user, at=timezone.now())


def _forget(tenant: Tenant) -> None:
    tenant_overrides.forget(tenant, at=timezone.now())
    for model in (CohortMember, FalseAlertCount, SurveyAnswer, SurveyOptOut):
        model.objects.filter(tenant=tenant).delete()
    Escalation.objects.filter(tenant=tenant).update(
        tenant=None, title="A deleted organisation: a budget held up calls", reason="The organisation is deleted.", evidence={}
    )
