"""What may be seen of budgets: what is spent, what is to come, what they refused. Money from the hourly rollup only.

Periods are days of the organisation's time zone; the rollup's hours are UTC, so where a zone is off by half an hour the hour at
midnight counts to the day in which it begins. Tags are counted by UTC day, and such a day counts to the month in which it begins: never
anything from before the month, but not its hours until the first midnight of UTC either, which is up to a day west of UTC; they count to
the month before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Count, F, FloatField, Func, JSONField, Prefetch, Q, QuerySet, Sum, TextField, Value
from django.db.models.functions import Cast, Coalesce, ExtractHour, TruncDay
from django.utils import timezone

from catalog.models import Project, VirtualKey
from catalog.selectors import time_zone
from costs import attribute_days, bill_selectors, budgeting, charts, dimensions, selectors, simulation
from costs import forecast as forecasting
from costs.forecast import Forecast, TooLittle
from costs.models import Budget, BudgetIncident, BudgetNotice, BudgetRaise, UsageDay, UsageHour
from costs.periods import midnight

COLUMN = {"project": "project", "agent": "agent", "model": "model", "key": "key_id", "environment": "project"}
"""Of an hour; an environment is that of its projects, as the catalog has it today."""
PRESSED_FROM = 80
"""Percent of a budget's amount from which it waits for somebody; its notices are warnings from there on."""
_PRICED = Sum("calls", filter=~Q(outcome="refused") & ~Q(kind="tool"), default=0) - Sum("unpriced_calls", default=0)
"""Calls that have a price."""


def budgets(at: datetime | None = None, *, state: str = "", query: str = "") -> QuerySet[Budget]:
    """All of them, each with its raises in force at that time as `active_raises`. `query` looks in names, in what they are for and in environments."""
    at = at or timezone.now()
    in_force = Q(created_at__lte=at, until__gt=at) & (Q(ended_at=None) | Q(ended_at__gt=at))
    active = BudgetRaise.objects.filter(in_force).select_related("by")
    found = Budget.objects.select_related("created_by").prefetch_related(Prefetch("raises", active, to_attr="active_raises"))
    if state:
        found = found.filter(state=state)
    if query:
        found = found.filter(Q(name__icontains=query) | Q(ref__icontains=query) | Q(environment__icontains=query))
    return found


BUDGET_ORDERS: dict[str, Callable[[Charged], float]] = {
    "share": lambda one: float(one.spent / one.amount),
    "spent": lambda one: float(one.spent),
}
"""By name: the figure, the largest first; with a hyphen before the name the other way round."""


def ordered_budgets(found: QuerySet[Budget], sort: str) -> tuple[QuerySet[Budget], list[str]]:
    """The budgets and the fields to page them by: by what is used of them in their present period, or by name."""
    figure = BUDGET_ORDERS.get(sort.removeprefix("-"))
    if figure is None:
        return found, ["-name", "-pk"] if sort == "-name" else ["name", "pk"]
    figures = {str(one.budget.pk): figure(one) for one in _spent_of(list(found), timezone.now())}
    # One parameter that Postgres looks up by key: a CASE would be read through for each budget.
    looked_up = Func(
        Value(figures, output_field=JSONField()),
        Cast("pk", TextField()),
        template="(%(expressions)s)",
        arg_joiner=" ->> ",
        output_field=TextField(),
    )
    ranked = found.annotate(figure=Coalesce(Cast(looked_up, FloatField()), Value(0.0)))
    return ranked, ["figure" if sort.startswith("-") else "-figure", "name", "pk"]


def budgets_by_state() -> dict[str, int]:
    """How many there are in each state that has one."""
    return dict(Budget.objects.order_by("state").values_list("state").annotate(Count("pk")))


def budget(pk: int) -> Budget | None:
    return budgets().filter(pk=pk).first()


def budget_of_name(name: str) -> Budget | None:
    return Budget.objects.filter(name=name).first()


def incident(pk: int) -> BudgetIncident | None:
    return BudgetIncident.objects.select_related("budget", "opened_by").filter(pk=pk).first()


def budget_raise(budget_id: int, pk: int) -> BudgetRaise | None:
    return BudgetRaise.objects.filter(budget=budget_id, pk=pk).first()


def raises(budget_id: int) -> QuerySet[BudgetRaise]:
    """Of one budget, in force or over, the newest first."""
    return BudgetRaise.objects.filter(budget=budget_id).select_related("by")


def past_raises(found: Budget) -> QuerySet[BudgetRaise]:
    """Those that are over, the newest first."""
    now = timezone.now()
    return raises(found.pk).filter(Q(until__lte=now) | Q(ended_at__lte=now))


def amount_in_force(found: Budget) -> Decimal:
    """USD per period with the raises in force. For budgets from `budgets()`."""
    active: Sequence[BudgetRaise] = found.active_raises  # type: ignore[attr-defined]  # prefetched by budgets()
    return found.amount + sum((one.extra for one in active), Decimal())


@dataclass(frozen=True)
class Day:
    """What the calls of one scope cost on one day of the organisation."""

    cost: Decimal = Decimal()
    unpriced_calls: int = 0

    def __add__(self, other: Day) -> Day:
        return Day(self.cost + other.cost, self.unpriced_calls + other.unpriced_calls)


@dataclass(frozen=True)
class State:
    """How a budget stands in its present period."""

    budget: Budget
    span: budgeting.Span
    at: datetime
    amount: Decimal
    """USD per period, raises included."""
    spent: Decimal
    unpriced_calls: int
    """In the period: not in `spent`."""
    forecast: Forecast | TooLittle
    days: list[tuple[date, Decimal]]
    """USD by day: those of a month's period so far, or the last 30."""
    refused: dict[str, int]
    """Calls that this budget refused in the period, by error code."""
    incident: BudgetIncident | None
    """The open report of a false throttle."""

    @property
    def share(self) -> Decimal:
        """Percent of the amount."""
        return self.spent / self.amount * 100

    @property
    def bar(self) -> Decimal:
        """The same for a bar, which ends at 100."""
        return min(self.share, Decimal(100))

    @property
    def pace(self) -> Decimal:
        """Percent of the period that is over: where an even spend would stand."""
        return self.span.elapsed(self.at) * 100

    @property
    def left(self) -> Decimal:
        """USD; negative when overrun."""
        return self.amount - self.spent

    @property
    def over(self) -> Decimal:
        """USD beyond the amount; negative while some is left."""
        return -self.left

    @property
    def days_left(self) -> int:
        """Including today."""
        return (self.span.last_day - self.at.astimezone(self.span.zone).date()).days + 1

    @property
    def expected(self) -> Forecast | None:
        return self.forecast if isinstance(self.forecast, Forecast) else None

    @property
    def too_little(self) -> TooLittle | None:
        return self.forecast if isinstance(self.forecast, TooLittle) else None

    @property
    def reached(self) -> int | None:
        """The highest threshold that is reached, percent."""
        return max((threshold for threshold in self.budget.thresholds if self.share >= threshold), default=None)

    @property
    def spark(self) -> str:
        """The whole days as points of a line."""
        return charts.spark([cost for _, cost in self.days[:-1]])

    @property
    def refused_calls(self) -> int:
        return sum(self.refused.values())

    @property
    def verdict(self) -> str:
        """Overrun now, expected to, perhaps, or not: fail, warn, inconclusive, pass. Unknown without a forecast."""
        if self.share >= 100:
            return "fail"
        if self.expected is None:
            return "idle"
        if self.expected.expected > self.amount:
            return "warn"
        return "inconclusive" if self.expected.high > self.amount else "pass"


def states(found: Iterable[Budget], at: datetime | None = None) -> list[State]:
    """How each stands. At most seven queries over the rollups, one by each kind of scope, and four more."""
    chosen, at = list(found), at or timezone.now()
    if not chosen:
        return []
    where = time_zone()
    by_scope = _days_by_scope(chosen, budgeting.span_of("day", at - timedelta(days=forecasting.HISTORY_DAYS), where).start, at, where)
    local = at.astimezone(where)
    rest = forecasting.rest_of_day(_hours_of_day(at, where), local.hour, local.minute / 60)
    refused = refusals(min(budgeting.span_of(one.period, at, where).start for one in chosen))
    incidents = {
        one.budget_id: one for one in BudgetIncident.objects.filter(budget__in=chosen, resolved_at=None).select_related("opened_by")
    }
    result = []
    for one in chosen:
        span = budgeting.span_of(one.period, at, where)
        days = by_scope[one.scope, one.ref]
        amount = amount_in_force(one)
        present = {day: figures for day, figures in days.items() if span.first_day <= day <= span.last_day}
        spent = sum((figures.cost for figures in present.values()), Decimal())
        first = span.first_day if span.days > 1 else local.date() - timedelta(days=29)
        result.append(
            State(
                budget=one,
                span=span,
                at=at,
                amount=amount,
                spent=spent,
                unpriced_calls=sum(figures.unpriced_calls for figures in present.values()),
                forecast=forecasting.forecast(
                    spent=spent,
                    days={day: figures.cost for day, figures in days.items()},
                    today=local.date(),
                    last_day=span.last_day,
                    rest_of_today=rest,
                    amount=amount,
                ),
                days=[(day, days[day].cost if day in days else Decimal()) for day in _dates(first, local.date())],
                refused=refused.get((one.name, span.start), {}),
                incident=incidents.get(one.pk),
            )
        )
    return result


def _dates(first: date, last: date) -> list[date]:
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _days_by_scope(found: Iterable[Budget], since: datetime, at: datetime, where: ZoneInfo) -> Mapping[tuple[str, str], dict[date, Day]]:
    """(scope, ref) to what its calls cost by day, from the midnight `since` on."""
    refs: dict[str, set[str]] = defaultdict(set)
    for one in found:
        refs[one.scope].add(one.ref)
    hours = UsageHour.objects.filter(hour__gte=since, hour__lte=at)
    result: dict[tuple[str, str], dict[date, Day]] = defaultdict(lambda: defaultdict(Day))
    tags = refs.pop(Budget.Scope.TAG, None)
    environments = dimensions.environments() if Budget.Scope.ENVIRONMENT in refs else {}
    for scope, wanted in refs.items():
        column = COLUMN.get(scope)
        of_environment = scope == Budget.Scope.ENVIRONMENT
        values = {project for project, environment in environments.items() if environment in wanted} if of_environment else wanted
        rows = hours.filter(**{f"{column}__in": values}) if column else hours
        names = [column] if column else []
        figures = rows.values(*names, day=TruncDay("hour", tzinfo=where)).annotate(
            money=Sum("cost"), unpriced=Sum("unpriced_calls", filter=~Q(outcome="refused"), default=0)
        )
        for row in figures:
            ref = row[column] if column else ""
            result[scope, environments[ref] if of_environment else ref][row["day"].date()] += Day(row["money"], row["unpriced"])
    if tags:
        for name, value, day, money, unpriced in _tag_days(tags, since, at).values_list(
            "dimension", "value", "day", "cost", "unpriced_calls"
        ):
            ref = f"{name.removeprefix(attribute_days.TAG)}={value}"
            result[Budget.Scope.TAG, ref][_local_day(day, at, where)] += Day(money, unpriced)
    return result


def _tag_days(refs: Iterable[str], since: datetime, until: datetime) -> QuerySet[UsageDay]:
    """UTC days of some tags, each `<name>=<value>`, that begin from `since` and before `until`."""
    asked = Q()
    for ref in refs:
        name, _, value = ref.partition("=")
        asked |= Q(dimension=attribute_days.TAG + name, value=value)
    first, last = (since - timedelta(microseconds=1)).astimezone(UTC).date(), (until - timedelta(microseconds=1)).astimezone(UTC).date()
    return UsageDay.objects.filter(asked, day__gt=first, day__lte=last).order_by("day")


def _local_day(day: date, at: datetime, where: ZoneInfo) -> date:
    """Where a UTC day stands among those of the organisation: by its noon, or `at` before that, as most of it is there; but in the month in which it begins."""
    begins = midnight(day)
    first, most = (moment.astimezone(where).date() for moment in (begins, min(begins + timedelta(hours=12), at)))
    return most if most.month == first.month else first


def _hours_of_day(at: datetime, where: ZoneInfo) -> list[Decimal]:
    """Money of the whole organisation by local hour of the day, over the last 14 days."""
    since = budgeting.span_of("day", at - timedelta(days=forecasting.LEVEL_DAYS), where).start
    today = budgeting.span_of("day", at, where).start
    rows = (
        UsageHour.objects.filter(hour__gte=since, hour__lt=today).values_list(ExtractHour("hour", tzinfo=where)).annotate(money=Sum("cost"))
    )
    sums = dict(rows)
    return [sums.get(hour, Decimal()) for hour in range(24)]


def refusals(since: datetime) -> dict[tuple[str, datetime], dict[str, int]]:
    """(budget name, start of its present period) to refused calls by error code, from calls since then.

    Served by the partial index over refusals by budgets.
    """
    where, now = time_zone(), timezone.now()
    starts = [budgeting.span_of(period, now, where).start for period in Budget.Period.values]
    result: dict[tuple[str, datetime], dict[str, int]] = defaultdict(dict)
    with connection.cursor() as cursor:
        for start in starts:
            if start < since:
                continue
            cursor.execute(
                """
                SELECT step->>3, error_code, count(*) FROM event CROSS JOIN LATERAL jsonb_array_elements(steps) step
                WHERE error_code IN ('budget_exceeded', 'budget_throttled') AND started_at >= %s AND step->>0 = 'reserve'
                GROUP BY 1, 2
                """,
                [start],
            )
            for detail, code, count in cursor.fetchall():
                if (detail or "").startswith("budget:"):
                    result[detail.removeprefix("budget:"), start][code] = count
    return result


# What the schedule and the gateway read


@dataclass(frozen=True)
class Charged:
    """A budget that acts on calls, with what is known to be spent of it."""

    budget: Budget
    amount: Decimal
    span: budgeting.Span
    spent: Decimal


def charged(at: datetime | None = None, *, acting: bool = True) -> list[Charged]:
    """Budgets in force: only those that act on the gateway, or (`acting` false) alert-only ones too."""
    at = at or timezone.now()
    found = budgets(at).filter(state=Budget.State.ENFORCED).order_by("pk")
    chosen = list(found.exclude(action=Budget.Action.ALERT) if acting else found)
    return _spent_of(chosen, at)


def _spent_of(chosen: Sequence[Budget], at: datetime) -> list[Charged]:
    """What is known to be spent of each in its present period. For budgets from `budgets()`."""
    if not chosen:
        return []
    where = time_zone()
    spans = {period: budgeting.span_of(period, at, where) for period in {one.period for one in chosen}}
    by_scope = _days_by_scope(chosen, min(span.start for span in spans.values()), at, where)
    result = []
    for one in chosen:
        span = spans[one.period]
        spent = sum((day.cost for on, day in by_scope[one.scope, one.ref].items() if span.first_day <= on <= span.last_day), Decimal())
        result.append(Charged(one, amount_in_force(one), span, spent))
    return result


def acting_budgets() -> list[tuple[Budget, Decimal]]:
    """Budgets that the gateway enforces, with their amounts in force, USD."""
    found = budgets().filter(state=Budget.State.ENFORCED).exclude(action=Budget.Action.ALERT).order_by("pk")
    return [(one, amount_in_force(one)) for one in found]


def has_acting_budgets() -> bool:
    return Budget.objects.filter(state=Budget.State.ENFORCED).exclude(action=Budget.Action.ALERT).exists()


# Simulation


def past_hours(scope: str, ref: str, span: budgeting.Span) -> tuple[list[simulation.Hour], int]:
    """Hours of one past period for a scope, in order, and its served calls without a price. Of a tag: whole UTC days, with calls of tools."""
    if scope == Budget.Scope.TAG:
        days = _tag_days([ref], span.start, span.end).values_list("day", "cost", "unpriced_calls", F("calls") - F("refused"))
        of_days = [(simulation.Hour(midnight(day), money, served - unpriced), unpriced) for day, money, unpriced, served in days]
        return [one for one, _ in of_days], sum(unpriced for _, unpriced in of_days)
    hours = UsageHour.objects.filter(hour__gte=span.start, hour__lt=span.end).exclude(outcome="refused")
    if scope == Budget.Scope.ENVIRONMENT:
        hours = selectors.only(hours, {dimensions.ENVIRONMENT: ref})
    elif scope in COLUMN:
        hours = hours.filter(**{COLUMN[scope]: ref})
    rows = hours.order_by("hour").values_list("hour").annotate(money=Sum("cost"), n=_PRICED, unpriced=Sum("unpriced_calls"))
    found = [simulation.Hour(hour, money, calls) for hour, money, calls, _ in rows]
    return found, sum(row[3] for row in rows)


def outcome_of(
    *,
    scope: str,
    ref: str,
    period: str,
    amount: Decimal,
    action: str,
    thresholds: Sequence[int],
    throttle_from: int,
    at: datetime | None = None,
) -> simulation.Outcome:
    """What such a budget would have done: over the month before the present one, or over yesterday."""
    where = time_zone()
    present = budgeting.span_of(period, at or timezone.now(), where)
    span = budgeting.span_of(period, present.start - timedelta(seconds=1), where)
    hours, unpriced_calls = past_hours(scope, ref, span)
    return simulation.simulate(
        hours,
        first=span.start,
        last=span.end,
        amount=amount,
        action=action,
        thresholds=thresholds,
        throttle_from=throttle_from,
        unpriced_calls=unpriced_calls,
    )


# Choices


def targets(scopes: Collection[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Everything that a budget of these scopes can be for, as `scope:ref` with a label, by kind of scope."""
    keys = dict(VirtualKey.objects.filter(revoked_at=None).values_list("public_id", "name"))
    groups = [("Organisation", [("tenant:", "Whole organisation")])]
    for scope in Budget.Scope:
        if scope == Budget.Scope.TENANT or scope not in scopes:
            continue
        found = [(f"{scope}:{ref}", f"{keys[ref]} ({ref})" if scope == Budget.Scope.KEY and ref in keys else ref) for ref in refs(scope)]
        if found:
            groups.append((f"{scope.label}s", found))
    return groups


def refs(scope: str) -> list[str]:
    """What a budget of this scope can name: what is registered; agents, and values of declared tags, as far as seen in the last 90 days."""
    if scope == Budget.Scope.PROJECT:
        return list(Project.objects.order_by("slug").values_list("slug", flat=True))
    if scope == Budget.Scope.MODEL:
        return bill_selectors.model_choices()
    if scope == Budget.Scope.KEY:
        return list(VirtualKey.objects.filter(revoked_at=None).order_by("public_id").values_list("public_id", flat=True))
    if scope == Budget.Scope.ENVIRONMENT:
        return dimensions.choices(dimensions.ENVIRONMENT)
    if scope == Budget.Scope.TAG:
        seen = ((tag, value) for tag in dimensions.declared_tags() for value in dimensions.choices(tag))
        return [f"{tag.removeprefix(attribute_days.TAG)}={value}" for tag, value in seen if value != attribute_days.OTHER]
    return dimensions.choices("agent") if scope == Budget.Scope.AGENT else []


@dataclass(frozen=True)
class Pressed:
    """A budget in force of which most is spent. USD."""

    budget: Budget
    notice: BudgetNotice | None
    """The highest threshold that its present period has reached; None while it lies above what is spent."""
    amount: Decimal
    """Now, raises included."""
    spent: Decimal
    """Now, in the present period."""

    @property
    def share(self) -> Decimal:
        """Percent of the amount."""
        return self.spent / self.amount * 100


def present_notices(at: datetime) -> QuerySet[BudgetNotice]:
    """Those of the period that each budget is in."""
    where, present = time_zone(), Q()
    for period in Budget.Period.values:
        present |= Q(budget__period=period, period_start=budgeting.span_of(period, at, where).start)
    return BudgetNotice.objects.filter(present)


def pressed(at: datetime | None = None) -> list[Pressed]:
    """Budgets in force of which PRESSED_FROM percent are spent in their present period, the fullest first, whatever their thresholds are.

    Figures are read of those only that can be: with a notice, or with no threshold that low. What is expected by the end of the period is
    not asked here: it takes weeks of every hour, for each budget, and the list of budgets says it.
    """
    at = at or timezone.now()
    reached = present_notices(at).filter(budget__state=Budget.State.ENFORCED).order_by("budget_id", "-threshold").distinct("budget_id")
    highest = {notice.budget_id: notice for notice in reached}
    may_be = Q(pk__in=highest) | Q(state=Budget.State.ENFORCED, thresholds__0__gt=PRESSED_FROM)
    chosen = list(budgets(at).filter(may_be))
    found = [Pressed(one.budget, highest.get(one.budget.pk), one.amount, one.spent) for one in _spent_of(chosen, at)]
    return sorted((one for one in found if one.share >= PRESSED_FROM), key=lambda one: -one.share)


def notices(found: Budget | None = None) -> QuerySet[BudgetNotice]:
    """Newest first."""
    every = BudgetNotice.objects.select_related("budget")
    return every if found is None else every.filter(budget=found)
