"""What pages, API and metrics read about required tags: from their rollup by day, and for a preview from the calls themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, cast

from django.db import connection, transaction
from django.db.models import F, OuterRef, Q, QuerySet, Subquery, Sum

from catalog.models import Project, VirtualKey
from catalog.selectors import time_zone
from costs import bill_selectors, dimensions, selectors
from costs.models import RequiredTag, RequiredTagVersion, TagDay, UsageDay
from costs.periods import Period
from costs.tagging import PastTags
from gateway.contract import tags as contract
from gateway.contract.names import CAUSE_TAG, SHADOW_OF_TAG

GROUPS = {"project": "Project", "key": "Key", "owner": "Owner", "agent": "Agent"}
_COLUMNS = {"project": "project", "key": "key_id", "owner": "key_id", "agent": "agent"}
PAGE_SIZE = 50
ALL = ""
"""The tag that stands for all that a call must carry."""


@dataclass(frozen=True)
class Coverage:
    """Served calls that were asked for a tag, and their money in USD."""

    calls: int = 0
    tagged: int = 0
    cost: Decimal = Decimal()
    tagged_cost: Decimal = Decimal()
    unpriced: int = 0
    """Of `calls`, those whose cost is not known."""
    denied: int = 0
    """Not served for want of a tag; in no other figure."""

    @property
    def lacking(self) -> int:
        return self.calls - self.tagged

    @property
    def lacking_cost(self) -> Decimal:
        return self.cost - self.tagged_cost

    @property
    def calls_percent(self) -> float | None:
        """None without calls: nothing is known, which is not a pass."""
        return 100 * self.tagged / self.calls if self.calls else None

    @property
    def cost_percent(self) -> Decimal | None:
        """None when the calls cost nothing."""
        return 100 * self.tagged_cost / self.cost if self.cost else None

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            self.calls + other.calls, self.tagged + other.tagged, self.cost + other.cost, self.tagged_cost + other.tagged_cost,
            self.unpriced + other.unpriced, self.denied + other.denied,
        )  # fmt: skip


@dataclass(frozen=True)
class Line:
    value: str
    """As recorded; empty when it is not known."""
    label: str
    figures: Coverage


@dataclass(frozen=True)
class Report:
    """Who has tagged how much, worst first: most money without the tag, then most calls."""

    tag: str
    group: str
    period: Period
    total: Coverage
    lines: list[Line]
    unasked_calls: int
    """Served calls that the tag did not cover: other projects, before it was counted, or the gateway's own."""
    unasked_cost: Decimal

    def page(self, after: str = "") -> tuple[list[Line], str]:
        """The lines behind the one named `after`, and the name of the last when there are more."""
        start = next((index + 1 for index, line in enumerate(self.lines) if after and line.value == after), 0)
        shown = self.lines[start : start + PAGE_SIZE]
        return shown, shown[-1].value if len(self.lines) > start + PAGE_SIZE else ""


def required_tags() -> QuerySet[RequiredTag]:
    """With the version in force and the number of the newest one."""
    newest = RequiredTagVersion.objects.filter(required_tag=OuterRef("pk")).order_by("-number").values("number")[:1]
    return RequiredTag.objects.select_related("active").annotate(newest=Subquery(newest))


def versions_of(required: RequiredTag) -> QuerySet[RequiredTagVersion]:
    """Newest first."""
    return required.versions.select_related("author", "required_tag")


def newest_version(required: RequiredTag) -> RequiredTagVersion:
    newest = versions_of(required).first()
    assert newest is not None  # it is made with its first
    return newest


def project_slugs() -> list[str]:
    return list(Project.objects.order_by("slug").values_list("slug", flat=True))


def contract_tag(version: RequiredTagVersion, *, enforce_from: float | None) -> contract.RequiredTag:
    """A version as the gateway has it."""
    return contract.RequiredTag(
        name=version.required_tag.name,
        version=version.number,
        values=tuple(version.values),
        projects=tuple(version.projects),
        environments=tuple(version.environments),
        fact=cast(contract.Fact, version.fact),
        enforce_from=enforce_from,
    )


def served_tags() -> list[contract.RequiredTag]:
    """Those that the gateway has."""
    found = list(RequiredTag.objects.exclude(active=None).select_related("active__required_tag").order_by("name"))
    zone = time_zone() if found else None
    served = []
    for one in found:
        assert one.active is not None
        since = datetime.combine(one.enforce_on, time(), zone).timestamp() if one.enforce_on else None
        served.append(contract_tag(one.active, enforce_from=since))
    return served


# Coverage


_SERVED = F("calls") - F("refused")
_SUMS: dict[str, Sum] = {
    "n_calls": Sum(_SERVED, default=0),
    "n_tagged": Sum(_SERVED, filter=Q(found=TagDay.Found.OK), default=0),
    "n_cost": Sum("cost", default=Decimal()),
    "n_tagged_cost": Sum("cost", filter=Q(found=TagDay.Found.OK), default=Decimal()),
    "n_unpriced": Sum("unpriced_calls", default=0),
    "n_denied": Sum("denied", default=0),
}


def _coverage(row: Mapping[str, Any]) -> Coverage:
    return Coverage(
        row["n_calls"], row["n_tagged"], row["n_cost"], row["n_tagged_cost"], row["n_unpriced"], row["n_denied"]
    )  # fmt: skip


def _days(period: Period) -> QuerySet[TagDay]:
    return TagDay.objects.filter(day__gte=period.first, day__lte=period.last)


def coverage(period: Period, tag: str = ALL) -> Coverage:
    """Of one tag, or of all that calls must carry."""
    return _coverage(_days(period).filter(tag=tag).aggregate(**_SUMS))


def coverage_by_tag(period: Period) -> dict[str, Coverage]:
    """By name; under ALL, of all that calls must carry."""
    rows = _days(period).order_by().values("tag").annotate(**_SUMS)
    return {row["tag"]: _coverage(row) for row in rows}


def report(tag: str, period: Period, group: str = "project") -> Report:
    """Of one tag (or ALL), by a key of GROUPS. Three queries."""
    column = _COLUMNS[group]
    rows = {row[column]: _coverage(row) for row in _days(period).filter(tag=tag).order_by().values(column).annotate(**_SUMS)}
    by_value, labels = (_by_owner(rows), {}) if group == "owner" else (rows, _labels(group, rows))
    lines = [
        Line(value, labels.get(value) or value or selectors.UNKNOWN.get(group, "No owner"), found) for value, found in by_value.items()
    ]
    lines.sort(key=lambda line: (-line.figures.lacking_cost, -line.figures.lacking, -line.figures.denied, line.label))
    total = sum(rows.values(), Coverage())
    served = UsageDay.objects.filter(dimension=UsageDay.Dimension.ALL, day__gte=period.first, day__lte=period.last).aggregate(
        calls=Sum(F("calls") - F("refused"), default=0), cost=Sum("cost", default=Decimal())
    )
    return Report(tag, group, period, total, lines, served["calls"] - total.calls, served["cost"] - total.cost)


def _labels(group: str, values: Iterable[str]) -> dict[str, str]:
    return bill_selectors.project_names() if group == "project" else dimensions.labels(group, values)


def _by_owner(by_key: Mapping[str, Coverage]) -> dict[str, Coverage]:
    owners = dict(VirtualKey.objects.filter(public_id__in=list(by_key)).values_list("public_id", "owner__email"))
    found: dict[str, Coverage] = {}
    for key, figures in by_key.items():
        owner = owners.get(key, "")
        found[owner] = found.get(owner, Coverage()) + figures
    return found


# Past calls


_PAST_TAGS = """
SELECT key_id, project, agent, CASE WHEN coalesce(tags ->> %(name)s, '') = '' OR jsonb_path_exists(steps, %(completed)s::jsonpath) THEN ''
    ELSE coalesce(%(any)s, tags ->> %(name)s) END AS sent, count(*), coalesce(sum(cost), 0), max(request_id)
FROM event
WHERE started_at >= %(since)s AND started_at < %(until)s AND (status <> 'refused' OR error_code = 'tag_required')
    AND NOT tags ?| %(made)s::text[] AND steps -> 0 ->> 0 IS DISTINCT FROM 'otlp'
GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 7
"""


def past_tags(required: contract.RequiredTag, since: datetime, until: datetime) -> Iterator[PastTags]:
    """Calls that would be judged: let through, or refused for want of a tag. Neither what others report nor the gateway's own calls.

    Only what callers sent: what was completed then says nothing about what would be now. Most calls first; grouped in the database and
    taken from there in chunks, so a tag with another value in each call takes no more memory. Values count only where not all are allowed.
    Keys, projects and their defaults are today's.
    """
    completed = json.dumps(f"(^| ){re.escape(required.name)}( |$)")
    asked = {
        "name": required.name,
        "any": "*" if not required.values else None,
        "completed": f'strict $[*] ? (@[0] == "{contract.COMPLETED_STEP}" && @[3] like_regex {completed})',
        "since": since,
        "until": until,
        "made": [CAUSE_TAG, SHADOW_OF_TAG],
    }
    projects = {project.slug: project for project in Project.objects.all()}
    keys = {key: (owner, tags) for key, owner, tags in VirtualKey.objects.values_list("public_id", "owner__email", "tags")}
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(_PAST_TAGS, asked)
        for key, slug, agent, sent, calls, cost, example in cursor:
            project = projects.get(slug)
            owner, of_key = keys.get(key, ("", {}))
            facts = {
                "key": key,
                "project": slug,
                "agent": agent,
                "owner": owner,
                "environment": project.environment if project else "",
                "cost_centre": project.cost_centre if project else "",
            }
            yield PastTags({required.name: sent} if sent else {}, (of_key, project.tags if project else {}), facts, calls, cost, example)


def today(at: datetime) -> date:
    """In the organisation's time zone."""
    return at.astimezone(time_zone()).date()
