"""What calls cost less than before, against a signed baseline."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import charts, periods, savings, savings_selectors
from costs.forms import BaselineForm
from costs.services import savings as services
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest


@requires(Permission.VIEW_COSTS)
def savings_page(request: MemberRequest) -> HttpResponse:
    return _page(request, BaselineForm())


@requires(Permission.MANAGE_COSTS, "POST")
def baseline_new(request: MemberRequest) -> HttpResponse:
    """Freeze a period."""
    form = BaselineForm(request.POST)
    if form.is_valid():
        asked = form.cleaned_data
        found = try_service(
            form,
            lambda: services.freeze_baseline(
                name=asked["name"],
                period=periods.Period(asked["first"], asked["last"]),
                projected_percent=asked["projected_percent"],
                actor=request.user,
            ),
        )
        if found is not None:
            messages.success(request, f"{found.name} is frozen. Somebody else signs it.")
            return redirect(f"{reverse('costs-savings')}?baseline={found.pk}")
    return _page(request, form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def baseline_sign(request: MemberRequest, pk: int) -> HttpResponse:
    found = savings_selectors.baseline(pk)
    if found is None:
        raise Http404
    sha256 = request.POST.get("sha256", "")
    try_act(
        request, lambda: services.sign_baseline(baseline=found, sha256=sha256, actor=request.user), f"{found.name} is signed and in force."
    )
    return redirect(f"{reverse('costs-savings')}?baseline={found.pk}")


def _page(request: MemberRequest, form: BaselineForm, status: int = 200) -> HttpResponse:
    today = timezone.now().astimezone(UTC).date()
    asked = request.GET.get("baseline", "")
    chosen = savings_selectors.baseline(int(asked)) if asked.isdecimal() and len(asked) < 10 else savings_selectors.in_force()
    shortcut, period = periods.named_from_query(
        request.GET if request.GET.get("period") or request.GET.get("from") else {"period": "30d"}, today
    )
    found = savings_selectors.savings_against(chosen, period) if chosen else None
    weeks = savings_selectors.trend(today)
    page = keyset_page(savings_selectors.baselines(), order=["-created_at", "-pk"], cursor=request.GET.get("cursor", ""))
    context: dict[str, Any] = {
        "baseline": chosen,
        "is_intact": chosen is None or savings_selectors.is_intact(chosen),
        "found": found,
        "unpriced_calls": savings_selectors.unpriced_calls(period),
        "period": period,
        "shortcut": shortcut,
        "shortcuts": periods.SHORTCUTS,
        "page": page,
        "rows": [(row, savings.total(savings.restored(row.figures)), row.created_by_id == request.user.pk) for row in page.rows],
        "form": form,
        "figure": charts.unit_costs([(week.monday, week.per_thousand) for week in weeks], found.before.per_thousand if found else None)
        if len(weeks) > 1
        else None,
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
    }
    return render_page(request, "costs/savings.html", partial="savings", status=status, context=context)
