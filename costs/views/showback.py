"""What a month cost whom."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, date
from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponse, HttpResponseBase
from django.utils import timezone

from catalog.models import Project
from costs import showback_selectors
from costs.dimensions import is_tag
from costs.errors import SpendQueryError
from costs.periods import whole_month
from governance import csvs
from governance.access import Permission, requires
from governance.pages import render_page
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def showback(request: MemberRequest) -> HttpResponse:
    """Every cost centre with its projects and agents, or by another dimension that the address names."""
    month, levels = month_of(request), levels_of(request)
    first, second = showback_selectors.choices()
    by, then, *_ = levels
    return render_page(
        request,
        "costs/showback.html",
        partial="showback",
        context={
            "found": showback_selectors.showback(month, levels),
            "by": by,
            "then": then,
            "first_levels": first,
            "second_levels": {name: label for name, label in second.items() if name != by and not (is_tag(name) and is_tag(by))},
            "query": urlencode({"month": f"{month:%Y-%m}", "by": by, "then": then}),
            "month": month,
            "last_day": whole_month(month).last,
            "months": months(month),
            "receivers": showback_selectors.receivers(),
            "topic": showback_selectors.TOPIC,
            "may_alert": request.membership.can(Permission.MANAGE_ALERTS),
        },
    )


@requires(Permission.VIEW_COSTS)
def showback_csv(request: MemberRequest) -> HttpResponseBase:
    """A line for each value of the last level, with those above it; empty where one is not known."""
    month, levels = month_of(request), levels_of(request)
    header = ("month", *levels, "calls", "tokens", "unpriced_calls", "cost_usd", "share_percent")
    rows = (
        (
            f"{month:%Y-%m}",
            *(node.value for node in nodes),
            *[""] * (len(levels) - len(nodes)),
            nodes[-1].calls,
            nodes[-1].tokens,
            nodes[-1].unpriced_calls,
            nodes[-1].cost,
            nodes[-1].share,
        )
        for nodes in showback_selectors.showback(month, levels).lines
    )
    return csvs.response(request, f"showback-{month:%Y-%m}.csv", header, rows)


@requires(Permission.VIEW)
def project_costs(request: MemberRequest, slug: str) -> HttpResponse:
    """What a project cost, for its own people."""
    project, month = _project(request, slug), month_of(request)
    context: dict[str, Any] = {
        "found": showback_selectors.project_showback(project, month),
        "project": project,
        "month": month,
        "months": months(month),
    }
    return render_page(request, "costs/project_costs.html", partial="project-costs", context=context)


@requires(Permission.VIEW)
def project_costs_csv(request: MemberRequest, slug: str) -> HttpResponseBase:
    project, month = _project(request, slug), month_of(request)
    found = showback_selectors.project_showback(project, month)
    rows = (
        (f"{month:%Y-%m}", name, node.value, node.calls, node.tokens, node.unpriced_calls, node.cost, node.share)
        for name, tree in (("agent", found.agents), ("model", found.models))
        for node in tree.children
    )
    header = ("month", "by", "name", "calls", "tokens", "unpriced_calls", "cost_usd", "share_percent")
    return csvs.response(request, f"costs-{project.slug}-{month:%Y-%m}.csv", header, rows)


def _project(request: MemberRequest, slug: str) -> Project:
    sees_all = request.membership.can(Permission.VIEW_COSTS)
    project = showback_selectors.project_visible_to(request.user, slug, sees_all=sees_all)
    if project is None:
        raise Http404
    return project


def month_of(request: MemberRequest) -> date:
    return showback_selectors.month_of(request.GET.get("month", ""), timezone.now().astimezone(UTC).date())


def levels_of(request: MemberRequest) -> tuple[str, ...]:
    """Of the address; what is not counted, or not together, is as if it was not there."""
    by, then = request.GET.get("by", ""), request.GET.get("then", "")
    for asked in ((by, then), (by, "")):
        with suppress(SpendQueryError):
            return showback_selectors.levels_of(*asked)
    return showback_selectors.LEVELS


def months(month: date) -> dict[str, str]:
    """For a filter: months with usage, and the one that is shown."""
    return {f"{one:%Y-%m}": f"{one:%B %Y}" for one in sorted({*showback_selectors.months_with_usage(), month}, reverse=True)}
