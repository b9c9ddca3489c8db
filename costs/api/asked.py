"""The period that a query names, checked once for all endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from django.utils import timezone
from rest_framework.exceptions import ValidationError

from costs import periods
from costs.periods import EARLIEST, LATEST


def period(asked: Mapping[str, Any]) -> periods.Period:
    """Whole UTC days from `from` to `to`, by default the month up to now. Raises ValidationError for one that ends before it begins, or too long."""
    last = asked.get("to") or timezone.now().astimezone(UTC).date()
    first = asked.get("from") or last.replace(day=1)
    if last - first > periods.LONGEST or not EARLIEST <= first <= last <= LATEST:
        raise ValidationError({"from": [f"The period must not end before it begins, nor be longer than {periods.LONGEST.days} days."]})
    return periods.Period(first, last)


def open_period(asked: Mapping[str, Any]) -> periods.Period | None:
    """Whole UTC days from `from` to `to`, either of which may be open; None without both. Raises ValidationError for one that ends before it begins."""
    if "from" not in asked and "to" not in asked:
        return None
    first, last = asked.get("from", EARLIEST), asked.get("to", LATEST)
    if not EARLIEST <= first <= last <= LATEST:
        raise ValidationError(
            {"from": [f"The period must not end before it begins; days are of the years {EARLIEST.year} to {LATEST.year}."]}
        )
    return periods.Period(first, last)
