"""What keeps the programme's figures: drills, and first calls. Works in the public schema."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from governance.models import User
from governance.services import audit, effects
from rollouts import cohort_selectors as selectors
from rollouts import programme_rules
from rollouts.cohort_selectors import Usage
from rollouts.errors import CohortStateError
from rollouts.models import Cohort, CohortMember
from rollouts.programme_selectors import drill_name

State = CohortMember.State


@transaction.atomic
def run_drill(*, cohort: Cohort, actor: User | None, at: datetime | None = None) -> int:
    """Rehearse taking the phase back: a version that changes nothing goes the way of a switch-off to every process of the gateway, timed
    for each active organisation; how many. Raises CohortStateError when nobody is active.
    """
    at, active = at or timezone.now(), list(selectors.members_of(cohort).filter(state__in=(State.ACTIVE, State.WINDING_DOWN)))
    if not active:
        raise CohortStateError("Nobody is active: there is nothing to take back.")
    rto = programme_rules.rto_of(len(active))
    for member in active:
        with schema_context(member.tenant.schema_name):
            effects.run_drill(actor=actor, at=at, what=drill_name(cohort), rto=rto)
    audit.record("cohort.drilled", actor=actor, target=cohort, at=at, organisations=len(active))
    return len(active)


@transaction.atomic
def keep_usage(*, usage: Mapping[int, Usage]) -> int:
    """Keep when each membership's first governed call was and on which days there were calls, by its key; how many changed."""
    changed = 0
    for member in CohortMember.objects.select_for_update().filter(pk__in=usage).order_by("pk"):
        seen = usage[member.pk]
        first = member.first_call_at or seen.first_call_at  # what was seen once stays, also when events are long gone
        days = sorted({*member.days_with_calls, *seen.days})
        if first != member.first_call_at or days != member.days_with_calls:
            member.first_call_at, member.days_with_calls = first, days
            member.save(update_fields=["first_call_at", "days_with_calls"])
            changed += 1
    return changed
