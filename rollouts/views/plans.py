"""The plans that ship, complete and read-only, and the metrics that gates are judged by."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.utils import timezone

from governance.access import Permission, requires
from governance.pages import render_page
from governance.requests import MemberRequest
from rollouts import metric_selectors, plans, wording
from rollouts.views.rollouts import may_manage


@requires(Permission.VIEW)
def plan_list(request: MemberRequest) -> HttpResponse:
    rows = []
    for plan in plans.all_plans():
        criteria = plans.criteria_of(plan)
        rows.append(
            {
                "plan": plan,
                "criteria": len(criteria),
                "measured": sum(1 for criterion in criteria if criterion.rule is not None),
                "gates": len(plan.phases),
            }
        )
    return render_page(request, "rollouts/plan_list.html", context={"rows": rows, "may_manage": may_manage(request)})


@requires(Permission.VIEW)
def plan_detail(request: MemberRequest, key: str) -> HttpResponse:
    try:
        plan = plans.get(key)
    except KeyError:
        raise Http404 from None
    return render_page(request, "rollouts/plan_detail.html", context={"plan": plan, "may_manage": may_manage(request)})


METRIC_TABS = {"": "All", "deciding": "Decide an open gate", "planned": "In plans", "unused": "Unused"}


@requires(Permission.VIEW)
def metric_list(request: MemberRequest) -> HttpResponse:
    tab, query = request.GET.get("tab", ""), request.GET.get("q", "").strip()
    use = metric_selectors.metric_use()
    found = metric_selectors.metric_rows(now=timezone.now(), use=use, chosen=use.chosen(tab, query))
    rows = [
        {
            "row": row,
            "value": wording.figure(row.reading["value"], row.metric.unit),
            "interval": wording.interval(row.reading, row.metric.unit),
        }
        for row in found
    ]
    context = {
        "rows": rows,
        "tab": tab,
        "tabs": [(key, label, len(use.chosen(key))) for key, label in METRIC_TABS.items()],
        "query": query,
        "days": metric_selectors.METRIC_DAYS,
    }
    return render_page(request, "rollouts/metric_list.html", partial="metric-table", context=context)
