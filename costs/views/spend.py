"""Where the money goes: for the organisation, and for a developer's own keys."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from typing import Any

from django.http import HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils import timezone

from costs import budget_selectors, charts, csvs, periods, selectors
from costs.forecast import Forecast
from governance.access import Permission, permissions_of, requires
from governance.pages import render_page
from governance.requests import MemberRequest

CSV_HEADER = ("day_utc", "{group}", "calls", "refused", "failed", "unpriced_calls", "tokens", "cost_usd")


@requires(Permission.VIEW_COSTS)
def spend(request: MemberRequest) -> HttpResponse:
    """The organisation's spend."""
    group, period, chosen = _asked(request, "model")
    may_manage = Permission.MANAGE_COSTS in permissions_of(request.membership.roles)
    found = selectors.spend(period, group, chosen)
    is_whole_month = period == periods.this_month(timezone.now().astimezone(UTC).date()) and not chosen
    outlook = budget_selectors.month_outlook() if is_whole_month and not found.is_empty else None
    return render_page(
        request,
        "costs/spend.html",
        partial="spend",
        context=_page(request, found, chosen)
        | {
            "unpriced": selectors.unpriced(period)[:5],
            "doubtful": selectors.doubtful_revisions(_months_back(timezone.now().date(), 2)),
            "matched": selectors.latest_matched(),
            "outlook": outlook if isinstance(outlook, Forecast) else None,
            "may_manage": may_manage,
            "choices": [(name, label, selectors.choices(name)) for name, label in (("project", "Project"), ("model", "Model"))],
            "url": reverse("costs-spend"),
            "csv_url": reverse("costs-spend-csv"),
            "requests_url": reverse("costs-requests"),
            "is_own": False,
        },
    )


@requires(Permission.USE_GATEWAY)
def usage(request: MemberRequest) -> HttpResponse:
    """What went through the person's own keys."""
    keys = selectors.own_keys(request.user)
    group, period, chosen = _asked(request, "model")
    found = selectors.spend(period, group, chosen, keys=keys)
    return render_page(
        request,
        "costs/spend.html",
        partial="spend",
        context=_page(request, found, chosen)
        | {
            "has_keys": bool(keys),
            "choices": [(name, label, selectors.choices(name, keys=keys)) for name, label in (("project", "Project"), ("model", "Model"))],
            "url": reverse("usage"),
            "csv_url": reverse("usage-csv"),
            "requests_url": reverse("requests"),
            "is_own": True,
        },
    )


@requires(Permission.VIEW_COSTS)
def spend_csv(request: MemberRequest) -> HttpResponseBase:
    group, period, chosen = _asked(request, "model")
    return _csv(request, period, group, selectors.spend_by_day(period, group, chosen))


@requires(Permission.USE_GATEWAY)
def usage_csv(request: MemberRequest) -> HttpResponseBase:
    group, period, chosen = _asked(request, "model")
    return _csv(request, period, group, selectors.spend_by_day(period, group, chosen, keys=selectors.own_keys(request.user)))


def _csv(request: MemberRequest, period: periods.Period, group: str, rows: list[tuple[Any, ...]]) -> HttpResponseBase:
    name = f"spend-{period.first}-{period.last}-by-{group.replace('_', '-')}.csv"
    return csvs.response(request, name, [title.format(group=group) for title in CSV_HEADER], rows)


def _asked(request: MemberRequest, default_group: str) -> tuple[str, periods.Period, dict[str, str]]:
    group = request.GET.get("group", default_group)
    chosen = {name: request.GET[name] for name in selectors.FILTERS if request.GET.get(name)}
    return (
        group if group in selectors.GROUPS else default_group,
        periods.from_query(request.GET, timezone.now().astimezone(UTC).date()),
        chosen,
    )


def _page(request: MemberRequest, found: selectors.Spend, chosen: dict[str, str]) -> dict[str, Any]:
    days = found.period.days
    series = charts.top_series(days, [(line.value, line.label) for line in found.lines if line.cost or len(found.lines) == 1], found.by_day)
    today = timezone.now().astimezone(UTC).date()
    as_table = request.GET.get("view") == "table"
    context: dict[str, Any] = {
        "spend": found,
        "period": found.period,
        "group": found.group,
        "group_label": selectors.GROUPS[found.group],
        "groups": selectors.GROUPS,
        "series": series,
        "as_table": as_table,
        "earlier": found.period.previous(),
        "chosen": chosen,
        "chips": [
            (name, selectors.GROUPS[name], selectors.UNKNOWN[name] if value == selectors.NONE else value) for name, value in chosen.items()
        ],
        "is_this_month": found.period.last >= today,
        "unknown": selectors.UNKNOWN[found.group],
        "query": request.GET.urlencode(),
    }
    if as_table:
        context["day_rows"] = [
            (day, [one.values[index] for one in series], sum(value for one in series if (value := one.values[index]) is not None))
            for index, day in reversed(list(enumerate(days)))
            if day in found.by_day
        ]
    else:
        context["figure"] = charts.stacked_bars(days, series, today)
        context["figure_label"] = f"Daily spend by {selectors.GROUPS[found.group].lower()}, {found.period.label}, in US dollars"
    return context


def _months_back(today: date, months: int) -> date:
    first = today.replace(day=1)
    for _ in range(months):
        first = (first - timedelta(days=1)).replace(day=1)
    return first
