"""Cohorts and the operators who run them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from costs.models import UsageHour
from governance.models import Tenant, User
from rollouts import tasks
from rollouts.models import Cohort, CohortMember
from rollouts.services import cohort_exposure, cohorts
from tests import cast


def second_operator() -> User:
    """Nobody approves alone what raises exposure."""
    return User.objects.create_user(cast.email("otto"), cast.PASSWORD, name="Otto", is_operator=True)


def make_cohort(owner: User, **fields: Any) -> Cohort:
    """In the public schema."""
    facts: dict[str, Any] = {
        "slug": "partners", "name": "Design partners", "flag_key": "ai.agents.preview-1", "feature_class": "assistants",
        "criteria": "calls_per_day >= 1", "places": 1, "over_recruitment": 0,
    }  # fmt: skip
    return cohorts.create_cohort(actor=owner, **{**facts, **fields})


def make_usage(calls: int, *, days_ago: int = 1, **fields: Any) -> UsageHour:
    """Calls of one hour of the current organisation."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=days_ago)
    facts: dict[str, Any] = dict.fromkeys(("cost_centre", "agent", "provider", "key_id"), "") | {
        "hour": hour, "project": "search", "model": "gpt", "kind": "chat", "outcome": "ok", "calls": calls, "cost": Decimal(1),
        "last_event_at": hour,
    }  # fmt: skip
    counts = (
        "uncached_input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "unpriced_calls", "untagged_calls",
        "estimated_calls", "duration_us",
    )  # fmt: skip
    return UsageHour.objects.create(**{**dict.fromkeys(counts, 0), **facts, **fields})


def screen(*tenants: Tenant) -> None:
    for tenant in tenants:
        tasks.screen_tenant(schema_name=tenant.schema_name)


def enrol(cohort: Cohort, tenant: Tenant, *, operator: User, person: User, at: datetime | None = None) -> CohortMember:
    """Asked in spite of the criteria, and accepted. In the public schema."""
    at = at or timezone.now()
    member = cohorts.invite_in_spite(cohort=cohort, tenant=tenant, reason="A flagship", actor=operator, at=at)
    return cohorts.answer(member=member, accept=True, actor=person, at=at)


def activate(cohort: Cohort, *, operator: User, other: User, at: datetime | None = None) -> None:
    change = cohort_exposure.propose_activation(cohort=cohort, reason="The pilot begins", actor=operator, at=at)
    cohort_exposure.decide(change=change, approve=True, actor=other, at=at)
