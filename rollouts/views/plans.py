"""The plans that ship, complete and read-only, and the metrics that gates are judged by."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.utils import timezone

from governance.access import Permission, requires
from governance.pages import render_page
from governance.requests import MemberRequest
from rollouts import plans, selectors, wording
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


@requires(Permission.VIEW)
def metric_list(request: MemberRequest) -> HttpResponse:
    found = selectors.metric_rows(now=timezone.now())
    rows = [
        {
            "row": row,
            "value": wording.figure(row.reading["value"], row.metric.unit),
            "interval": wording.interval(row.reading, row.metric.unit),
        }
        for row in found
    ]
    bound = sum(1 for row in found if row.rules)
    return render_page(request, "rollouts/metric_list.html", context={"rows": rows, "bound": bound, "days": selectors.METRIC_DAYS})
