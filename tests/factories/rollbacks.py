"""Calls of a flag's variants, good and bad, for tests of rollback rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from governance.models import Tenant, User
from rollouts.models import Flag, RollbackRule
from rollouts.services import rollback_rules
from tests.factories import costs
from tests.factories import rollouts as make

NOW = timezone.now().replace(second=10, microsecond=0) - timedelta(minutes=20)
"""Ten seconds into a minute: the step that ended with it has settled."""
RULE = "error_rate_5m > 5% min 50"


def make_watched_flag(owner: User, other: User) -> Flag:
    """Half of everybody gets `new`, in a rollout."""
    with make.shipped_plan(), make.readings():
        rollout = make.make_rollout(owner=owner)
    return make.make_split_flag(owner, other, rollout=rollout)


def calls(
    tenant: Tenant, flag: Flag, *, minutes: int = 6, until: datetime = NOW, new: int = 0, old: int = 0, per_minute: int = 20, **fields: Any
) -> None:
    """Calls of both variants, spread over the minutes before `until`; of each minute's, so many fail."""
    rows = []
    for minute in range(minutes):
        for place in range(per_minute):
            at = until.replace(second=0) - timedelta(minutes=minutes - minute) + timedelta(seconds=60 * place / per_minute)
            for variant, failed in (("new", new), ("old", old)):
                wrong = {"status": "upstream_error", "http_status": 502} if place * failed % per_minute < failed else {}
                rows.append(costs.call(tenant, tags={f"flag.{flag.key}": variant, "team": "x"}, started_at=at, **{**fields, **wrong}))
    costs.record(tenant, *rows)


def make_rule(flag: Flag, actor: User, text: str = RULE, at: datetime = NOW, **fields: Any) -> RollbackRule:
    return rollback_rules.create_rule(flag=flag, text=text, actor=actor, at=at, **fields)
