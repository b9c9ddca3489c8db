"""What a month cost whom: cost centre, its projects, their agents. From the rollups, at the prices of our book."""

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
from costs import bill_selectors, reconciliation_selectors, selectors
from costs.models import Reconciliation, RevisionSignature, UsageDay, UsageHour
from costs.periods import Period, parse_day
from governance.models import AlertChannel, Severity, User

TOPIC = "cost.showback"
LEVELS = ("cost_centre", "project", "agent")
MONTHS_SHOWN = 12
_TOKENS = F("uncached_input_tokens") + F("cached_input_tokens") + F("cache_write_tokens") + F("output_tokens")
_NAMES = ("cost", "calls", "tokens", "unpriced_calls", "untagged_calls", "untagged_cost")


@dataclass
class Node:
    """A cost centre, a project or an agent, with what stands below it. USD."""

    value: str
    """As recorded; empty when it is not known."""
    label: str
    level: int
    """0 for the whole, then along LEVELS."""
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
    children: list[Node] = field(default_factory=list)

    @property
    def is_unknown(self) -> bool:
        return self.level > 0 and not self.value

    @property
    def is_unpriced(self) -> bool:
        """No money is known, although calls should have cost some."""
        return self.cost == 0 and self.unpriced_calls > 0

    @property
    def change(self) -> Decimal | None:
        return None if self.before is None else self.cost - self.before

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
    total: Node
    is_over: bool
    """The month has ended and everything that began in it is counted."""
    complete_through: datetime
    bills: list[Bill]

    @property
    def lines(self) -> list[tuple[Node, Node, Node]]:
        """Cost centre, project and agent of every agent's line."""
        return [(centre, project, agent) for centre in self.total.children for project in centre.children for agent in project.children]

    @property
    def billed_difference(self) -> Decimal:
        """Bills minus our figures, USD at our exchange rates, over the months that were compared; it is nobody's share."""
        return sum((bill.reconciliation.latest.variance_usd for bill in self.bills if bill.reconciliation.latest), Decimal())


def month_of(text: str, today: date) -> date:
    """`2026-10` as its first day; what is missing or unreadable is the month before the present one, the newest whole one."""
    found = parse_day(f"{text}-01") if len(text) == 7 else None
    return found or (today.replace(day=1) - timedelta(days=1)).replace(day=1)


def period_of(month: date) -> Period:
    return Period(month, (month + timedelta(days=32)).replace(day=1) - timedelta(days=1))


def _sums(month: date, only: Q, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Figures of the month by some columns: from its days where those have every call, else from its hours."""
    period = period_of(month)
    days = selectors.counted_days(period)
    if days is not None:
        served = {
            "n_calls": Sum(F("calls") - F("refused")),
            "n_untagged_calls": Sum("untagged_calls"),
            "n_untagged_cost": Sum("untagged_cost"),
        }
        sums = {"n_cost": Sum("cost"), "n_tokens": Sum("tokens"), "n_unpriced_calls": Sum("unpriced_calls"), **served}
        return list(days.filter(only).values(*columns).annotate(**sums))
    hours = UsageHour.objects.filter(only, hour__gte=period.start, hour__lt=period.end)
    is_served = ~Q(outcome="refused")
    return list(
        hours.values(*columns).annotate(
            n_cost=Sum("cost"),
            n_calls=Sum("calls", filter=is_served, default=0),
            n_tokens=Sum(_TOKENS),
            n_unpriced_calls=Sum("unpriced_calls"),
            n_untagged_calls=Sum("untagged_calls", filter=is_served, default=0),
            n_untagged_cost=Sum("cost", filter=Q(untagged_calls__gt=0), default=Decimal()),
        )
    )


def _tree(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], names: Mapping[str, str]) -> tuple[Node, dict[tuple[str, ...], Node]]:
    """Rows of `_sums` as a tree along `columns`; and its nodes by their path."""
    total = Node("", "Total", 0)
    nodes: dict[tuple[str, ...], Node] = {(): total}
    for row in rows:
        path: tuple[str, ...] = ()
        parts = [total]
        for level, column in enumerate(columns, 1):
            value = row[column]
            parent, path = nodes[path], (*path, value)
            if path not in nodes:
                label = names.get(value, value) if column == "project" else value
                nodes[path] = Node(value, label or selectors.UNKNOWN[column], level)
                parent.children.append(nodes[path])
            parts.append(nodes[path])
        for node in parts:
            for name in _NAMES:
                setattr(node, name, getattr(node, name) + row[f"n_{name}"])
    return total, nodes


def _tree_with_past(month: date, columns: Sequence[str], only: Q) -> Node:
    names = bill_selectors.project_names()
    total, nodes = _tree(_sums(month, only, columns), columns, names)
    earlier = (month - timedelta(days=1)).replace(day=1)
    _, past = _tree(_sums(earlier, only, columns), columns, names)
    for path, node in nodes.items():
        node.before = past[path].cost if path in past and past[()].calls else None
        node.share = node.cost / total.cost * 100 if total.cost else None
        # What is not known comes last, however much it is: it is a line of its own.
        node.children.sort(key=lambda child: (child.is_unknown, -child.cost, -child.calls, child.label))
    return total


def showback(month: date) -> Showback:
    """The month (its first day) for everybody who shares it. Eight queries."""
    through = selectors.complete_through()
    found = list(Reconciliation.objects.in_force().filter(month=month).select_related("latest__reconciliation"))
    counts = reconciliation_selectors.signature_counts([one.latest_id for one in found if one.latest_id is not None])
    bills = [Bill(one, counts.get(one.latest_id or 0, 0) >= RevisionSignature.NEEDED) for one in found]
    return Showback(month, _tree_with_past(month, LEVELS, Q()), through >= period_of(month).end, through, bills)


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
    first = month
    for _ in range(MONTHS_SHOWN - 1):
        first = (first - timedelta(days=1)).replace(day=1)
    history = (
        UsageDay.objects.filter(dimension="project", value=project.slug, day__gte=first, day__lte=period_of(month).last)
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
        through >= period_of(month).end,
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
