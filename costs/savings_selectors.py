"""What may be seen of savings: baselines, what was saved against one, and what a call cost week by week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.db.models import F, QuerySet, Sum
from django.db.models.functions import TruncWeek

from costs import savings
from costs.models import Baseline, UsageDay
from costs.periods import Period

TREND_WEEKS = 26


def units(period: Period) -> dict[str, savings.Unit]:
    """By model: calls that were let through and do not wait for a price, on days with tokens of the model; tools use none.

    Calls that failed and answers of our own cache are among them, mostly at 0: the rollup does not tell them apart by price.
    """
    rows = _days(period).values_list("value").annotate(n=_CALLS, money=Sum("cost"))
    return {model: savings.Unit(calls, cost) for model, calls, cost in rows}


def unpriced_calls(period: Period) -> int:
    found: int = _days(period).aggregate(n=Sum("unpriced_calls", default=0))["n"]
    return found


_CALLS = Sum(F("calls") - F("refused") - F("unpriced_calls"))


def _days(period: Period) -> QuerySet[UsageDay]:
    days = UsageDay.objects.filter(dimension=UsageDay.Dimension.MODEL, day__gte=period.first, day__lte=period.last, tokens__gt=0)
    return days.exclude(value="").order_by()


def baselines() -> QuerySet[Baseline]:
    """Newest first."""
    return Baseline.objects.select_related("created_by", "signed_by")


def baseline(pk: int) -> Baseline | None:
    return baselines().filter(pk=pk).first()


def in_force() -> Baseline | None:
    """The one that was signed last."""
    return baselines().exclude(signed_at=None).order_by("-signed_at", "-pk").first()


def is_intact(found: Baseline) -> bool:
    """Whether it still says what was frozen."""
    said = savings.digest(first=found.first_on, last=found.last_on, figures=found.figures, projected_percent=found.projected_percent)
    return said == found.sha256


def savings_against(found: Baseline, period: Period) -> savings.Savings | None:
    """None without calls to compare, and for a baseline that was tampered with."""
    if not is_intact(found):
        return None
    return savings.savings(savings.restored(found.figures), units(period), found.projected_percent)


@dataclass(frozen=True)
class Week:
    """What a call cost in one week, from Monday."""

    monday: date
    calls: int
    cost: Decimal

    @property
    def per_thousand(self) -> Decimal | None:
        """USD per 1,000 calls."""
        return self.cost / self.calls * 1000 if self.calls else None


def trend(last: date) -> list[Week]:
    """The weeks up to that day; weeks without calls are missing."""
    monday = last - timedelta(days=last.weekday())
    rows = (
        _days(Period(monday - timedelta(weeks=TREND_WEEKS - 1), last)).values_list(TruncWeek("day")).annotate(n=_CALLS, money=Sum("cost"))
    )
    return [Week(week, calls, cost) for week, calls, cost in sorted(rows)]
