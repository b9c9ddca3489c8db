"""What a month cost whom."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

from django.http import Http404, HttpResponse, HttpResponseBase
from django.utils import timezone

from catalog.models import Project
from costs import showback_selectors
from governance import csvs
from governance.access import Permission, permissions_of, requires
from governance.pages import render_page
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def showback(request: MemberRequest) -> HttpResponse:
    """Every cost centre with its projects and agents."""
    month = month_of(request)
    return render_page(
        request,
        "costs/showback.html",
        partial="showback",
        context={
            "found": showback_selectors.showback(month),
            "month": month,
            "last_day": showback_selectors.period_of(month).last,
            "months": months(month),
            "receivers": showback_selectors.receivers(),
            "topic": showback_selectors.TOPIC,
            "may_alert": Permission.MANAGE_ALERTS in permissions_of(request.membership.roles),
        },
    )


@requires(Permission.VIEW_COSTS)
def showback_csv(request: MemberRequest) -> HttpResponseBase:
    """A line per agent, with its project and cost centre; empty where one is not known."""
    month = month_of(request)
    header = ("month", "cost_centre", "project", "agent", "calls", "tokens", "unpriced_calls", "cost_usd", "share_percent")
    rows = (
        (
            f"{month:%Y-%m}",
            centre.value,
            project.value,
            agent.value,
            agent.calls,
            agent.tokens,
            agent.unpriced_calls,
            agent.cost,
            agent.share,
        )
        for centre, project, agent in showback_selectors.showback(month).lines
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
    sees_all = Permission.VIEW_COSTS in permissions_of(request.membership.roles)
    project = showback_selectors.project_visible_to(request.user, slug, sees_all=sees_all)
    if project is None:
        raise Http404
    return project


def month_of(request: MemberRequest) -> date:
    return showback_selectors.month_of(request.GET.get("month", ""), timezone.now().astimezone(UTC).date())


def months(month: date) -> dict[str, str]:
    """For a filter: months with usage, and the one that is shown."""
    return {f"{one:%Y-%m}": f"{one:%B %Y}" for one in sorted({*showback_selectors.months_with_usage(), month}, reverse=True)}
