"""When the calls of a page were made, by the hour and from the rollups: a list narrowed to a rare value reads these hours and not months of calls.

Calls and rollups change in one transaction, so an hour that has no calls of a kind in the rollup has none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from django.db.models import Q, Sum

from costs import dimensions, selectors
from costs.models import UsageDay, UsageHour
from costs.periods import Period, midnight

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOST_SPANS = 200
"""More are not named one by one: what has calls in so many is not rare."""
FREQUENT = 100
"""One call in so many is found at once by going through the calls, newest first."""
_INDEXED = ("key", "q", "code", "pricing")
"""Filters of which calls have an index, at least for the values that pages link to."""
_OUTCOMES = {"ok": ("ok",), "refused": ("refused",), "failed": ("refused", "error"), "errors": ("error",)}
"""Of a status that is asked for; the rollup does not tell the others apart."""


def calls_within(
    chosen: Mapping[str, str], *, keys: Collection[str] | None, period: Period | None, start: datetime | None, is_newer: bool, size: int
) -> Q | None:
    """A condition that `size` calls of a page meet, and one more. None where it would not help: there are indexes, or what is asked is frequent or unknown to the rollups.

    The page begins at `start` (None: with the newest call) and goes on to newer calls with `is_newer`, else to older ones.
    """
    known = {name: value for name, value in chosen.items() if value and (name in selectors.FILTERS or name == dimensions.ENVIRONMENT)}
    if any(chosen.get(name) for name in _INDEXED) or (not known and keys is None):
        return None
    hours = selectors.only(UsageHour.objects.all(), known)
    if keys is not None:
        hours = hours.filter(key_id__in=keys)
    else:
        days = _days_with(known, period, start, is_newer=is_newer, size=size)
        if days is None:
            return None
        hours = hours.filter(_within("hour", (midnight(day) for day in days), DAY))
    outcomes = _OUTCOMES.get(chosen.get("status", ""))
    if outcomes is not None:
        hours = hours.filter(outcome__in=outcomes)
    if period is not None:
        hours = hours.filter(hour__gte=period.start, hour__lt=period.end)
    if start is not None:
        hours = hours.filter(hour__gt=start - HOUR) if is_newer else hours.filter(hour__lte=start)
    # Each of these hours has a call, but of the one that holds the start they may all be before it.
    is_whole = all(name in known or (name == "status" and outcomes) for name, value in chosen.items() if value)
    enough = size + 2 if is_whole else MOST_SPANS + 1
    found, calls = list[datetime](), 0
    for hour, count in hours.values_list("hour").annotate(n=Sum("calls")).order_by("hour" if is_newer else "-hour")[:enough]:
        found.append(hour)
        calls += 0 if start is not None and hour <= start < hour + HOUR else count
        if is_whole and calls > size:
            break
    return None if len(found) > MOST_SPANS else _within("started_at", sorted(found), HOUR)


def _days_with(known: Mapping[str, str], period: Period | None, start: datetime | None, *, is_newer: bool, size: int) -> list[date] | None:
    """UTC days of a page with calls of every value, oldest first; None when they are too many, or a page is full of them where it begins."""
    days = UsageDay.objects.order_by()
    if period is not None:
        days = days.filter(day__gte=period.first, day__lte=period.last)
    if start is not None:
        day = start.astimezone(UTC).date()
        days = days.filter(day__gte=day) if is_newer else days.filter(day__lte=day)
    by_value = [dict(days.filter(condition).values_list("day").annotate(n=Sum("calls"))) for condition in _by_day(known)]
    found = sorted(set.intersection(*(set(calls) for calls in by_value)))
    every = days.filter(dimension=UsageDay.Dimension.ALL).order_by("day" if is_newer else "-day").values_list("day", "calls").first()
    if every is not None:
        own = min(calls.get(every[0], 0) for calls in by_value)
        if own > size and own * FREQUENT > every[1]:
            return None
    return found if len(found) <= MOST_SPANS else None


def _by_day(known: Mapping[str, str]) -> Iterable[Q]:
    """The rows of `UsageDay` with each of the values."""
    for name, value in known.items():
        if name != dimensions.ENVIRONMENT:
            yield Q(dimension=name, value="" if value == selectors.NONE else value)
        else:
            environments = dimensions.environments()
            slugs = [slug for slug, environment in environments.items() if value in (environment, selectors.NONE)]
            of_it = Q(value__in=slugs)
            yield Q(dimension="project") & (~of_it if value == selectors.NONE else of_it)


def _within(column: str, begins: Iterable[datetime], length: timedelta) -> Q:
    """That the column is in one of the spans, given in order; those that meet are one."""
    spans: list[tuple[datetime, datetime]] = []
    for begin in begins:
        if spans and spans[-1][1] == begin:
            spans[-1] = (spans[-1][0], begin + length)
        else:
            spans.append((begin, begin + length))
    found = Q(**{f"{column}__in": []})
    for first, last in spans:
        found |= Q(**{f"{column}__gte": first, f"{column}__lt": last})
    return found
