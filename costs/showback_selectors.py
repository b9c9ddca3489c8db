"""What a month cost whom: cost centre, its projects, their agents, or by a declared tag. From the rollups, at the prices of our book."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F, Q, Sum
from django.db.models.functions import TruncMonth
from django.utils import timezone

from catalog.models import Project, VirtualKey
from costs import attribute_days, bill_selectors, dimensions, reconciliation_selectors, selectors
from costs.attribute_days import UNCOUNTED
from costs.errors import SpendQueryError
from costs.models import AttributeDay, Reconciliation, RevisionSignature, UsageDay, UsageHour
from costs.models.rollup import TOKENS, known_cost
from costs.periods import first_of_month, parse_day, whole_month
from governance.models import AlertChannel, Severity, User

TOPIC = "cost.showback"
LEVELS = ("cost_centre", "project", "agent")
"""Unless other ones are asked for, see `levels_of`."""
FIRST = ("cost_centre", "project", "environment")
SECOND = (*FIRST, "agent", "model")
"""Each besides declared tags, of which a showback has one at most: they are counted apart from one another."""
MONTHS_SHOWN = 12
_NAMES = ("cost", "calls", "tokens", "unpriced_calls", "untagged_calls", "untagged_cost")
_FIGURES = {name: F(name) for name in _NAMES} | {"calls": F("calls") - F("refused")}
_DAY_SUMS: dict[str, Any] = {f"n_{name}": Sum(figure) for name, figure in _FIGURES.items()}
"""Of `UsageDay` and `AttributeDay`."""


@dataclass
class Node:
    """One value of a level, for example a cost centre, a project or an agent, with what stands below it. USD."""

    value: str
    """As recorded; empty when it is not known."""
    label: str
    level: int
    """0 for the whole, then along the levels."""
    dimension: str = ""
    """Name of the level; empty for the whole."""
    cost: Decimal = Decimal()
    calls: int = 0
    """Served ones: refused calls cost nothing and are nobody's."""
    tokens: int = 0
    unpriced_calls: int = 0
    untagged_calls: int = 0
    untagged_cost: Decimal = Decimal()
    before: Decimal | None = None
    """Of the month before; None when it did not stand there."""
    share: Decimal | None = None
    """Percent of the whole; None when the whole cost nothing."""
    is_uncounted: bool = False
    """Calls of days on which the tag was not counted, whose value is therefore not in the figures."""
    children: list[Node] = field(default_factory=list)

    @property
    def is_unknown(self) -> bool:
        return self.level > 0 and not self.value

    @property
    def is_unpriced(self) -> bool:
        return known_cost(self.cost, self.unpriced_calls) is None

    @property
    def change(self) -> Decimal | None:
        return None if self.before is None else self.cost - self.before

    def leaves(self, *path: Node) -> Iterable[tuple[Node, ...]]:
        """The nodes without any below them, each behind those above it, the whole left out."""
        for child in self.children:
            if child.children:
                yield from child.leaves(*path, child)
            else:
                yield (*path, child)

    def walk(self) -> Iterable[Node]:
        """Itself, then everything below, each parent before its children."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Bill:
    """A provider's bill of the month against what is shown here."""

    reconciliation: Reconciliation
    is_signed_off: bool


@dataclass(frozen=True)
class Showback:
    month: date
    levels: tuple[str, ...]
    """Dimensions, the outermost first."""
    total: Node
    is_over: bool
    """The month has ended and everything that began in it is counted."""
    complete_through: datetime
    bills: list[Bill]

    @property
    def lines(self) -> list[tuple[Node, ...]]:
        """The nodes down to each line that has none below it, a node for each level; fewer for what was not counted by a tag."""
        return list(self.total.leaves())

    @property
    def title(self) -> str:
        """Of the column with the levels."""
        first, *rest = (dimensions.label(name) for name in self.levels)
        return ", ".join([first, *(name[0].lower() + name[1:] for name in rest)])

    @property
    def billed_difference(self) -> Decimal:
        """Bills minus our figures, USD at our exchange rates, over the months that were compared; it is nobody's share."""
        return sum((bill.reconciliation.latest.variance_usd for bill in self.bills if bill.reconciliation.latest), Decimal())


def month_of(text: str, today: date) -> date:
    """`2026-10` as its first day; what is missing or unreadable is the month before the present one, the newest whole one."""
    found = parse_day(f"{text}-01") if len(text) == 7 else None
    return found or first_of_month(today, -1)


def choices() -> tuple[dict[str, str], dict[str, str]]:
    """What the first and the second level can be, with labels."""
    tags = dimensions.declared_tags()
    first, second = ({name: dimensions.label(name) for name in (*names, *tags)} for names in (FIRST, SECOND))
    return first, second


def levels_of(by: str = "", then: str = "") -> tuple[str, ...]:
    """Levels of a showback by `by`, then `then`; agents stand last. LEVELS for what is left out.

    Raises SpendQueryError for what is not counted, or not together.
    """
    by = by or (LEVELS[0] if then != LEVELS[0] else LEVELS[1])
    then = then or (LEVELS[1] if by != LEVELS[1] else LEVELS[2])
    first, second = choices()
    if by not in first or then not in second or by == then:
        raise SpendQueryError("Choose two different levels: cost centre, project, environment or a declared tag, then also agent or model.")
    if dimensions.is_tag(by) and dimensions.is_tag(then):
        raise SpendQueryError("Tags are counted one at a time. Take one of them away.")
    return (by, then) if then == "agent" else (by, then, "agent")


def _column(level: str) -> str:
    """Of a row of `_sums`."""
    return "value" if dimensions.is_tag(level) else "project" if level == dimensions.ENVIRONMENT else level


def _tag_of(levels: Sequence[str]) -> str:
    """The tag among them; empty when there is none."""
    return next((level for level in levels if dimensions.is_tag(level)), "")


def _sums(month: date, only: Q, levels: Sequence[str]) -> list[dict[str, Any]]:
    """Figures of the month by the columns of some levels: from its days where those have every call, else from its hours; of a tag, as far as counted."""
    period, columns = whole_month(month), list(dict.fromkeys(_column(level) for level in levels))
    tag = _tag_of(levels)
    days = (
        AttributeDay.objects.filter(attribute=tag, day__gte=period.first, day__lte=period.last).order_by()
        if tag
        else selectors.counted_days(period)
    )
    if days is not None:
        return list(days.filter(only).values(*columns).annotate(**_DAY_SUMS))
    hours = UsageHour.objects.filter(only, hour__gte=period.start, hour__lt=period.end)
    is_served = ~Q(outcome="refused")
    return list(
        hours.values(*columns).annotate(
            n_cost=Sum("cost"),
            n_calls=Sum("calls", filter=is_served, default=0),
            n_tokens=Sum(TOKENS),
            n_unpriced_calls=Sum("unpriced_calls"),
            n_untagged_calls=Sum("untagged_calls", filter=is_served, default=0),
            n_untagged_cost=Sum("cost", filter=Q(untagged_calls__gt=0), default=Decimal()),
        )
    )


def _tree(rows: Iterable[Mapping[str, Any]], levels: Sequence[str]) -> tuple[Node, dict[tuple[str, ...], Node]]:
    """Rows of `_sums` as a tree along `levels`; and its nodes by their path."""
    total = Node("", "Total", 0)
    nodes: dict[tuple[str, ...], Node] = {(): total}
    names = bill_selectors.project_names() if "project" in levels else {}
    environments = dimensions.environments() if dimensions.ENVIRONMENT in levels else {}
    for row in rows:
        path: tuple[str, ...] = ()
        parts = [total]
        for number, level in enumerate(levels, 1):
            value = row[_column(level)]
            if level == dimensions.ENVIRONMENT:
                value = environments.get(value, "")
            parent, path = nodes[path], (*path, value)
            if path not in nodes:
                is_other = dimensions.is_tag(level) and value == attribute_days.OTHER
                label = names.get(value, value) if level == "project" else dimensions.OTHER_LABEL if is_other else value
                nodes[path] = Node(value, label or dimensions.unknown(level), number, level)
                parent.children.append(nodes[path])
            parts.append(nodes[path])
        for node in parts:
            _add(node, {name: row[f"n_{name}"] for name in _NAMES})
    return total, nodes


def _add(node: Node, figures: Mapping[str, Any]) -> None:
    for name, value in figures.items():
        setattr(node, name, getattr(node, name) + value)


def _with_rest(month: date, only: Q, levels: Sequence[str]) -> tuple[Node, dict[tuple[str, ...], Node]]:
    """The tree; by a tag (of all calls), with a node for those of days on which it was not counted yet: never left out in silence."""
    total, nodes = _tree(_sums(month, only, levels), levels)
    if tag := _tag_of(levels):
        period = whole_month(month)
        whole, counted = Q(dimension=UsageDay.Dimension.ALL), Q(dimension=tag)
        # In one statement: a call that comes in between two is in both, or in neither.
        rest = UsageDay.objects.filter(whole | counted, day__gte=period.first, day__lte=period.last).aggregate(
            **{name: Sum(own, filter=whole, default=0) - Sum(own, filter=counted, default=0) for name, own in _FIGURES.items()}
        )
        if any(rest.values()):
            uncounted = Node(UNCOUNTED, "Not counted by it", 1, is_uncounted=True)
            total.children.append(uncounted)
            for node in (total, uncounted):
                _add(node, rest)
    return total, nodes


def _tree_with_past(month: date, levels: Sequence[str], only: Q) -> Node:
    total, nodes = _with_rest(month, only, levels)
    _, past = _with_rest(first_of_month(month, -1), only, levels)
    is_comparable = past[()].calls and not any(child.is_uncounted for child in past[()].children)
    for path, node in nodes.items():
        node.before = past[path].cost if path in past and (is_comparable or not path) and past[()].calls else None
    for node in total.walk():
        node.share = node.cost / total.cost * 100 if total.cost else None
        # What is not known comes last, however much it is: it is a line of its own.
        node.children.sort(key=lambda child: (child.is_uncounted, child.is_unknown, -child.cost, -child.calls, child.label))
    return total


def showback(month: date, levels: tuple[str, ...] = LEVELS) -> Showback:
    """The month (its first day) for everybody who shares it, along `levels_of`."""
    through = selectors.complete_through()
    found = list(Reconciliation.objects.in_force().filter(month=month).select_related("latest__reconciliation"))
    counts = reconciliation_selectors.signature_counts([one.latest_id for one in found if one.latest_id is not None])
    bills = [Bill(one, counts.get(one.latest_id or 0, 0) >= RevisionSignature.NEEDED) for one in found]
    return Showback(month, levels, _tree_with_past(month, levels, Q()), through >= whole_month(month).end, through, bills)


@dataclass(frozen=True)
class ProjectShowback:
    """What one project cost in a month."""

    project: Project
    month: date
    agents: Node
    models: Node
    history: list[tuple[date, Decimal, int, int]]
    """First day of a month, USD, served calls, calls without a price; the newest first."""
    is_over: bool
    complete_through: datetime


def project_showback(project: Project, month: date) -> ProjectShowback:
    """Of a project by agent and by model, with the year before."""
    through, only = selectors.complete_through(), Q(project=project.slug)
    first = first_of_month(month, 1 - MONTHS_SHOWN)
    history = (
        UsageDay.objects.filter(dimension="project", value=project.slug, day__gte=first, day__lte=whole_month(month).last)
        .order_by()
        .values_list(TruncMonth("day"))
        .annotate(n_cost=Sum("cost"), n_calls=Sum(F("calls") - F("refused")), n_unpriced=Sum("unpriced_calls"))
    )
    return ProjectShowback(
        project,
        month,
        _tree_with_past(month, ("agent",), only),
        _tree_with_past(month, ("model",), only),
        [(at, cost, calls, without) for at, cost, calls, without in sorted(history, reverse=True)],
        through >= whole_month(month).end,
        through,
    )


def project_visible_to(user: User, slug: str, *, sees_all: bool) -> Project | None:
    """The project for who may see all spend (`sees_all`), owns it, or has (or had) a key in it; for everybody else there is none."""
    project = Project.objects.filter(slug=slug).select_related("owner").first()
    if project is None or sees_all or project.owner_id == user.pk:
        return project
    return project if VirtualKey.objects.filter(project=project, owner=user).exists() else None


def receivers() -> list[AlertChannel]:
    """Channels that the monthly report goes to."""
    return [channel for channel in AlertChannel.objects.order_by("name") if channel.wants(TOPIC, Severity.INFO)]


def months_with_usage() -> list[date]:
    """Newest first, at most the last two years."""
    since = (timezone.now() - timedelta(days=731)).astimezone(UTC).date()
    months = UsageDay.objects.filter(dimension="all", day__gte=since).order_by().values_list(TruncMonth("day"), flat=True).distinct()
    return sorted(months, reverse=True)
