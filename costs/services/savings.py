"""Freezing what a call cost, and signing it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.utils import timezone

from costs import periods, savings, savings_selectors
from costs.errors import BaselineError, BaselineStateError
from costs.models import Baseline
from costs.periods import Period
from governance.models import User
from governance.services import audit

LEAST_CALLS = 100
"""Fewer say nothing about what a call costs."""


@transaction.atomic
def freeze_baseline(*, name: str, period: Period, projected_percent: Decimal, actor: User, at: datetime | None = None) -> Baseline:
    """Keep unit costs and mix of a period that is over. Counts for nothing until somebody else signs it.

    Writes one audit entry. Raises BaselineError (names the field).
    """
    at = at or timezone.now()
    if not name.strip():
        raise BaselineError("A baseline needs a name.", field="name")
    if period.first > period.last or period.last - period.first > periods.LONGEST:
        raise BaselineError(f"It ends before it begins, or is longer than {periods.LONGEST.days} days.", field="last")
    if period.last >= at.astimezone(UTC).date():
        raise BaselineError("The period is not over yet: what it cost can still change.", field="last")
    percent = projected_percent.quantize(Decimal("0.01"))
    if not 0 <= percent < 100:
        raise BaselineError("Between 0 and 99.99 percent.", field="projected_percent")
    units = savings_selectors.units(period)
    if savings.total(units).calls < LEAST_CALLS or not savings.total(units).cost:
        raise BaselineError(
            f"The period has fewer than {LEAST_CALLS} calls with a price, which says nothing about what a call costs.", field="first"
        )
    figures = savings.stored(units)
    found = Baseline(
        name=" ".join(name.split())[:60],
        first_on=period.first,
        last_on=period.last,
        figures=figures,
        projected_percent=percent,
        sha256=savings.digest(first=period.first, last=period.last, figures=figures, projected_percent=percent),
        created_by=actor,
        created_at=at,
    )
    try:
        with transaction.atomic():
            found.save(force_insert=True)
    except IntegrityError as error:
        raise BaselineError("Another baseline has the name.", field="name") from error
    audit.record("baseline.frozen", actor=actor, target=found, at=at, first=period.first, last=period.last, sha256=found.sha256)
    return found


@transaction.atomic
def sign_baseline(*, baseline: Baseline, sha256: str, actor: User, at: datetime | None = None) -> Baseline:
    """Put it in force, in place of the one signed before. `sha256` is what the person saw.

    Writes one audit entry. Raises BaselineStateError (signed before, by its own author, or not what was seen or frozen).
    """
    at = at or timezone.now()
    found = Baseline.objects.select_for_update().get(pk=baseline.pk)
    if found.signed_at is not None:
        raise BaselineStateError("It is signed already.")
    if found.created_by_id == actor.pk:
        raise BaselineStateError("Somebody else signs it than who froze it.")
    if found.sha256 != sha256 or not savings_selectors.is_intact(found):
        raise BaselineStateError("Its figures are not those that were frozen.")
    found.signed_by, found.signed_at = actor, at
    found.save(update_fields=["signed_by", "signed_at"])
    audit.record("baseline.signed", actor=actor, target=found, at=at, sha256=found.sha256)
    return found
