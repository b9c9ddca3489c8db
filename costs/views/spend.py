"""Where the money goes: for the organisation, and for a developer's own keys."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import (
    anomaly_selectors,
    bill_selectors,
    budget_selectors,
    charts,
    dimensions,
    drivers,
    periods,
    price_selectors,
    saved_views,
    selectors,
    set_aside_selectors,
    spend_selectors,
)
from costs.attribute_days import UNCOUNTED
from costs.errors import SpendQueryError
from costs.forecast import Forecast, TooLittle
from costs.forms import SavedViewForm
from costs.models import Anomaly, SavedView
from governance import csvs
from governance.access import Permission, requires
from governance.pages import render_page
from governance.requests import MemberRequest
from governance.templatetags.gatehouse import money_text

CSV_HEADER = ("day_utc", "{group}", "calls", "refused", "failed", "unpriced_calls", "tokens", "cost_usd")
NEXT_GROUPS = {"project": "model", "agent": "model", "key": "model", "provider": "model", "region": "model"}
"""What one looks at next within a line; else its projects."""
MOST_MARKED = 3
"""Anomalies on the chart, and of those in "Needs you" and of budgets there; their own pages have all."""
MOST_VIEWS = 60
"""Tabs of saved views; more than a person may have of their own."""


@requires(Permission.VIEW_COSTS)
def spend(request: MemberRequest) -> HttpResponse:
    """The organisation's spend."""
    page = _Page(request, SavedView.Page.SPEND)
    if view := page.default_view():
        return redirect(f"{page.url}?{saved_views.query(view)}")
    needs = page.needs()
    context: dict[str, Any] = {
        "needs": needs,
        "unpriced": price_selectors.unpriced(page.period)[:5] if not page.refusal and page.found.total.unpriced_calls else [],
        "doubtful": bill_selectors.doubtful_revisions(page.period.first, page.period.last, page.chosen.get("provider", "")),
        "matched": bill_selectors.latest_matched(),
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        "csv_url": reverse("costs-spend-csv"),
    }
    context["is_needy"] = not page.refusal and (page.found.total.unpriced_calls or page.found.untagged_calls or any(needs.values()))
    return render_page(request, "costs/spend.html", partial="spend", context=page.context() | context)


@requires(Permission.USE_GATEWAY)
def usage(request: MemberRequest) -> HttpResponse:
    """What went through the person's own keys."""
    page = _Page(request, SavedView.Page.USAGE)
    if view := page.default_view():
        return redirect(f"{page.url}?{saved_views.query(view)}")
    context = {
        "has_keys": bool(page.keys),
        "hints": spend_selectors.cheaper_hints(page.period, page.keys or []),
        "csv_url": reverse("usage-csv"),
    }
    return render_page(request, "costs/spend.html", partial="spend", context=page.context() | context)


@requires(Permission.VIEW_COSTS)
def spend_csv(request: MemberRequest) -> HttpResponseBase:
    return _csv(request, None)


@requires(Permission.USE_GATEWAY)
def usage_csv(request: MemberRequest) -> HttpResponseBase:
    return _csv(request, selectors.own_keys(request.user))


def _csv(request: MemberRequest, keys: list[str] | None) -> HttpResponseBase:
    group, (_, period), chosen = _asked(request, own=keys is not None)
    try:
        rows = spend_selectors.spend_by_day(period, group, chosen, keys=keys)
    except SpendQueryError as error:
        return HttpResponse(error.message, status=error.status, content_type="text/plain; charset=utf-8")
    name = f"spend-{period.first}-{period.last}-by-{group.replace('_', '-').replace(':', '-')}.csv"
    return csvs.response(request, name, [title.format(group=group) for title in CSV_HEADER], rows)


def _today() -> date:
    return timezone.now().astimezone(UTC).date()


def _asked(request: MemberRequest, *, own: bool) -> tuple[str, tuple[str, periods.Period], dict[str, str]]:
    group = request.GET.get("group", "model")
    is_known = group in dimensions.groups(own=own) or dimensions.is_tag(group)
    return (group if is_known else "model", periods.named_from_query(request.GET, _today()), dimensions.chosen(request.GET.dict()))


class _Page:
    """What both pages share: one asks about the organisation, the other about the person's keys."""

    def __init__(self, request: MemberRequest, page: str) -> None:
        self.request, self.page = request, page
        self.is_own = page == SavedView.Page.USAGE
        self.keys = selectors.own_keys(request.user) if self.is_own else None
        self.url = reverse("usage" if self.is_own else "costs-spend")
        self.group, (self.shortcut, self.period), self.chosen = _asked(request, own=self.is_own)
        self.groups = dimensions.groups(own=self.is_own)
        self.refusal = dimensions.refusal(self.group, self.chosen, own=self.is_own)
        self.compare = request.GET.get("compare", "")

    def default_view(self) -> SavedView | None:
        """Only for the page's plain address: whatever has parameters means just them."""
        return None if self.request.GET else saved_views.default_of(self.request.user, self.page)

    @cached_property
    def found(self) -> spend_selectors.Spend:
        earlier = periods.compared(self.period, self.compare)
        return spend_selectors.spend(self.period, self.group, self.chosen, keys=self.keys, earlier=earlier)

    @cached_property
    def anomalies(self) -> list[Anomaly]:
        """The largest of the organisation's in the period, within the filter; of one's own keys none are told apart."""
        if self.is_own or self.refusal:
            return []
        return list(anomaly_selectors.largest_within(self.period, self.chosen)[:MOST_MARKED])

    def needs(self) -> dict[str, Any]:
        """What waits for somebody: open anomalies of what is shown; and budgets that run out, which know no filter."""
        found: list[Anomaly] = []
        if not self.refusal:
            found = list(anomaly_selectors.largest_within(self.period, self.chosen).filter(status=Anomaly.Status.OPEN)[:MOST_MARKED])
        names = anomaly_selectors.labels((one.dimension, one.ref) for one in found)
        is_whole = self.period == periods.this_month(_today()) and not self.chosen
        return {
            "anomalies": [(one, names[one.dimension, one.ref], drivers.LABELS.get(one.top_driver, "")) for one in found],
            "budgets": budget_selectors.pressed()[:MOST_MARKED] if is_whole else [],
        }

    def context(self) -> dict[str, Any]:
        earlier = periods.compared(self.period, self.compare)
        context = {
            "refusal": self.refusal,
            "period": self.period,
            "shortcut": self.shortcut,
            "shortcuts": periods.SHORTCUTS,
            "compare": self.compare if self.compare in {*periods.COMPARISONS, "none"} else "none",
            "comparisons": {**periods.COMPARISONS, "none": "nothing"},
            "group": self.group,
            "group_label": dimensions.label(self.group),
            "groups": self.groups | {self.group: dimensions.label(self.group)},
            "earlier": earlier,
            "is_filtered": bool(self.chosen),
            "is_this_month": self.period.last >= _today(),
            "query": self.request.GET.urlencode(),
            "url": self.url,
            "plain_url": f"{self.url}?period=this-month",
            "requests_url": self.requests_url,
            "requests_query": urlencode({**self.chosen, "from": self.period.first, "to": self.period.last}),
            "is_own": self.is_own,
            "late_since": selectors.late_since(self.request.tenant),
            "missing": None if self.is_own else set_aside_selectors.summary(self.request.tenant, self.period.start),
            **self._filters(),
            **self._views(),
        }
        return context if self.refusal else context | self._figures()

    def _figures(self) -> dict[str, Any]:
        found, outlook = self.found, None
        if self.period == periods.this_month(_today()) and not found.is_empty:
            outlook = spend_selectors.outlook(self.period, self.chosen, keys=self.keys)
        return {
            "spend": found,
            "has_calls": found.is_empty and selectors.has_calls(self.keys),
            "rows": [(line, *self._ways(line)) for line in found.shown],
            "uncounted": any(line.value == UNCOUNTED for line in found.lines),
            "drill": self._drill,
            "outlook": outlook if isinstance(outlook, Forecast) else None,
            "no_outlook": outlook if isinstance(outlook, TooLittle) else None,
            **self._chart(outlook if isinstance(outlook, Forecast) else None),
        }

    @cached_property
    def requests_url(self) -> str:
        return reverse("requests" if self.is_own else "costs-requests")

    @cached_property
    def _drill(self) -> str:
        """The filters of requests that a line or bar adds its own value to."""
        return urlencode({name: value for name, value in self.chosen.items() if name != self.group})

    def _ways(self, line: spend_selectors.Line) -> tuple[str, str]:
        """Where a line leads: to the same page within it, and to its requests. Empty where it leads nowhere."""
        if line.value == UNCOUNTED or self.group == dimensions.TOKEN_CLASS:
            return "", ""
        query = self.request.GET.copy()
        query[self.group], query["group"] = line.value, NEXT_GROUPS.get(self.group, "project")
        calls = {**self.chosen, self.group: line.value, "from": self.period.first, "to": self.period.last}
        return f"{self.url}?{query.urlencode()}", "" if line.is_other else f"{self.requests_url}?{urlencode(calls)}"

    def _filters(self) -> dict[str, Any]:
        """Two dimensions as selects, the others once one asks for more; whatever else is chosen as chips that can be taken away."""
        selects, chips = [], []
        more = self.request.GET.get("more") == "1"
        for name in self._more_filters() if more else ("project", "model"):
            values = dimensions.choices(name, keys=self.keys)
            if values:
                labels = dimensions.labels(name, values) if name == "deployment" else {}
                options = {"": "all", **{value: labels.get(value, value) for value in values}}
                selects.append((name, dimensions.label(name), options, self.chosen.get(name, "")))
        for name, value in self.chosen.items():
            if not any(name == select and value in values for select, _, values, _ in selects):
                query = self.request.GET.copy()
                del query[name]
                text = dimensions.unknown(name) if value == selectors.NONE else dimensions.labels(name, [value]).get(value, value)
                chips.append((name, dimensions.label(name), text, value, f"{self.url}?{query.urlencode() or 'period=this-month'}"))
        return {"selects": selects, "chips": chips, "has_more": more}

    def _more_filters(self) -> list[str]:
        """All that goes with what is grouped and chosen, and what is chosen."""
        return [
            name
            for name in self.groups
            if name != dimensions.TOKEN_CLASS and (name in self.chosen or not dimensions.refusal(self.group, self.chosen | {name: "any"}))
        ]

    def _views(self) -> dict[str, Any]:
        """Saved views: the tabs, and the forms of the person's own ones."""
        present = saved_views.cleaned(self.request.GET.dict())
        views = list(saved_views.own_first(self.request.user, self.page)[:MOST_VIEWS])
        mine = [view for view in views if view.owner_id == self.request.user.pk]
        prefix = "usage" if self.is_own else "spend"
        return {
            "tabs": [(view, f"{self.url}?{saved_views.query(view)}", view.parameters == present) for view in views],
            "is_plain": not present or present == {"period": "this-month"},
            "view_new_url": reverse(f"{prefix}-view-new"),
            "own_views": [
                (
                    view,
                    SavedViewForm.of(view),
                    reverse(f"{prefix}-view-edit", args=[view.pk]),
                    reverse(f"{prefix}-view-delete", args=[view.pk]),
                )
                for view in mine
            ],
            "view_form": SavedViewForm(auto_id="new-view-%s"),
            "view_parameters": urlencode(present),
        }

    def _chart(self, outlook: Forecast | None) -> dict[str, Any]:
        found, today = self.found, _today()
        days = found.period.days
        lines = [(line.value, line.label) for line in found.lines if line.cost or len(found.lines) == 1]
        series = charts.top_series(days, lines, found.by_day)
        context: dict[str, Any] = {"series": series, "as_table": self.request.GET.get("view") == "table"}
        if context["as_table"]:
            context["day_rows"] = [
                (
                    day,
                    [one.values[index] for one in series],
                    sum(value for one in series if (value := one.values[index]) is not None),
                    self._on_earlier(index),
                )
                for index, day in reversed(list(enumerate(days)))
                if day in found.by_day
            ]
            return context
        leads = {line.value for line in found.lines if not line.is_other and found.group != dimensions.TOKEN_CLASS}
        marks = self._marks()
        context["marked"] = bool(marks)
        context["figure"] = charts.stacked_bars(
            days,
            series,
            today,
            earlier=[self._on_earlier(index) for index in range(len(days))] if found.earlier_days else (),
            coming=outlook.coming if outlook else (),
            drill=charts.Drill(
                f"{self.requests_url}?{self._drill}" if self._drill else self.requests_url,
                found.group,
                [one.value if one.value in leads else self.chosen.get(found.group, "") for one in series],
            ),
            marks={day: f"{'+' if off > 0 else ''}{money_text(off)}" for day, off in marks.items()},
        )
        context["figure_label"] = (
            f"Daily spend by {dimensions.label(found.group).lower()}, {found.period.label}, in US dollars"
            + (f", and {found.earlier.label} as a line" if found.earlier and found.earlier_days else "")
            + (", and what is expected up to the end of the month" if outlook else "")
            + (f", {len(marks)} marked as not expected" if marks else "")
        )
        return context

    def _marks(self) -> dict[date, Decimal]:
        """How far off what was expected, USD, the worst day in the period of each anomaly was; of days without a bar there is none to mark."""
        marks = {}
        for one in reversed(self.anomalies):
            off_by_day: dict[date, Decimal] = defaultdict(Decimal)
            for point in one.points:
                day = datetime.fromisoformat(point["at"]).astimezone(UTC).date()
                off_by_day[day] += Decimal(point["actual"]) - Decimal(point["expected"])
            shown = {day: off for day, off in off_by_day.items() if any(self.found.by_day.get(day, {}).values())}
            if shown:
                worst = max(shown, key=lambda one: abs(shown[one]))
                marks[worst] = shown[worst]
        return marks

    def _on_earlier(self, index: int) -> Decimal | None:
        """Money of the day in the compared period that stands where day `index` stands in this one; None beyond its end."""
        earlier = self.found.earlier
        if earlier is None or index >= len(earlier.days):
            return None
        return self.found.earlier_days.get(earlier.days[index], Decimal())
