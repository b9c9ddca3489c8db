"""Who will run out, when, and what happens then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

from costs import budget_selectors, charts
from costs.attribute_days import TAG
from costs.forms import BudgetForm, RaiseForm
from costs.models import Budget
from costs.services import budgets
from costs.simulation import Outcome
from governance.access import Permission, requires
from governance.pages import Column, keyset_page, render_page, sort_heads, try_act, try_service
from governance.requests import MemberRequest

MOST_PAST_RAISES = 5
_DEFAULTS = {"period": "month", "action": "alert", "thresholds": "50, 80, 100", "throttle_from": 80, "target": "tenant:"}

_COLUMNS = (
    Column("Budget", "name"),
    Column("Used", "share", falls=True),
    Column("Spent", "spent", css="gh-num", falls=True),
    Column("Of", css="gh-num"),
    Column("At the end"),
    Column("By day", css="gh-hide-s"),
    Column("Refused", css="gh-num gh-hide-s"),
    Column("Action"),
)


def _budget(pk: int) -> Budget:
    found = budget_selectors.budget(pk)
    if found is None:
        raise Http404
    return found


@requires(Permission.VIEW_COSTS)
def budget_list(request: MemberRequest) -> HttpResponse:
    query, state = request.GET.get("q", "").strip(), request.GET.get("state", "")
    state = state if state in Budget.State.values else ""
    counts = budget_selectors.budgets_by_state()
    sort = request.GET.get("sort", "")
    found, order = budget_selectors.ordered_budgets(budget_selectors.budgets(state=state, query=query), sort)
    page = keyset_page(found, order=order, cursor=request.GET.get("cursor", ""))
    context = {
        "page": page,
        "states": budget_selectors.states(page.rows),
        "heads": sort_heads(_COLUMNS, sort if sort.removeprefix("-") in budget_selectors.BUDGET_ORDERS or sort == "-name" else "name"),
        "list_url": reverse("budget-list"),
        "sort": sort,
        "query": query,
        "state": state,
        "tabs": [("", "All", sum(counts.values()))]
        + [(value, label, counts.get(value, 0)) for value, label in reversed(Budget.State.choices) if value == state or counts.get(value)],
        "exist": bool(counts),
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
    }
    return render_page(request, "costs/budget_list.html", partial="budget-table", context=context)


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def budget_new(request: MemberRequest) -> HttpResponse:
    """A draft."""
    form, status = BudgetForm(initial=_DEFAULTS), 200
    if request.method == "POST":
        form, status = BudgetForm(request.POST), 422
        if form.is_valid() and (made := try_service(form, lambda: budgets.create_budget(actor=request.user, **form.cleaned_data))):
            messages.success(request, f"{made.name} is a draft. Simulate it, then put it in force.")
            return redirect(reverse("budget-detail", args=[made.pk]))
    return render_page(request, "costs/budget_form.html", status=status, context={"form": form})


@requires(Permission.MANAGE_COSTS, "GET", "POST")
def budget_edit(request: MemberRequest, pk: int) -> HttpResponse:
    found, status = _budget(pk), 200
    kept = f"{found.scope}:{found.ref}"
    form = BudgetForm(initial=BudgetForm.initial_of(found), kept=kept)
    if request.method == "POST":
        form, status = BudgetForm(request.POST, kept=kept), 422
        if form.is_valid() and try_service(form, lambda: budgets.change_budget(budget=found, actor=request.user, **form.cleaned_data)):
            return redirect(reverse("budget-detail", args=[pk]))
    return render_page(request, "costs/budget_form.html", status=status, context={"form": form, "budget": found})


@requires(Permission.MANAGE_COSTS)
def budget_preview(request: MemberRequest) -> HttpResponse:
    """What the budget in the form would have done over the period before: a fragment beside the form. Nothing is kept. Says what saving would refuse."""
    asked = request.GET.get("target", "")
    form = BudgetForm(request.GET, kept=asked if ":" in asked else "")
    outcome: Outcome | None = None
    refusals: list[str] = []
    if form.is_valid():
        pk = request.GET.get("budget", "")
        changed = _budget(int(pk)) if pk.isdecimal() and len(pk) < 19 else None
        outcome = try_service(form, lambda: budgets.preview_budget(budget=changed, **form.cleaned_data))
        refusals = [str(error) for errors in form.errors.values() for error in errors]
    is_by_day = asked.startswith(f"{Budget.Scope.TAG}:")
    context = {"outcome": outcome, "refusals": refusals, "is_preview": True, "is_by_day": is_by_day}
    return render_page(request, "costs/partials/budget_outcome.html", context=context)


@requires(Permission.VIEW_COSTS)
def budget_detail(request: MemberRequest, pk: int) -> HttpResponse:
    return _detail(request, _budget(pk), RaiseForm())


def _detail(request: MemberRequest, found: Budget, raise_form: RaiseForm, status: int = 200) -> HttpResponse:
    [state] = budget_selectors.states([found])
    expected = state.expected
    figure = (
        charts.days_against(state.days, state.amount)
        if found.period == Budget.Period.DAY
        else charts.towards_amount(
            state.days,
            first=state.span.first_day,
            last=state.span.last_day,
            amount=state.amount,
            expected=(expected.low, expected.expected, expected.high) if expected else None,
        )
    )
    context: dict[str, Any] = {
        "budget": found,
        "state": state,
        "outcome": Outcome.from_json(found.simulation) if found.simulation else None,
        "is_by_day": found.scope == Budget.Scope.TAG,
        "notices": budget_selectors.notices(found)[:20],
        "incidents": found.incidents.select_related("opened_by", "resolved_by")[:20],
        "raise_form": raise_form,
        "past_raises": budget_selectors.past_raises(found)[:MOST_PAST_RAISES],
        "may_manage": request.membership.can(Permission.MANAGE_COSTS),
        "figure": figure,
        "figure_label": f"Spend of {found.name} against {state.amount:,.2f} US dollars",
        "zone": state.span.zone.key,
        "spend_query": _spend_query(found),
    }
    return render_page(request, "costs/budget_detail.html", status=status, context=context)


def _spend_query(found: Budget) -> str:
    """The filter of its calls on the pages of spend and of calls; empty for the whole organisation."""
    if found.scope == Budget.Scope.TENANT:
        return ""
    name, value = found.scope, found.ref
    if found.scope == Budget.Scope.TAG:
        tag, _, value = found.ref.partition("=")
        name = TAG + tag
    return f"?{urlencode({name: value})}"


def _act(request: MemberRequest, pk: int, act: Callable[[Budget], Any], done: str) -> HttpResponse:
    """One act on a budget, then its page, with what came of it."""
    try_act(request, lambda: act(_budget(pk)), done)
    return redirect(reverse("budget-detail", args=[pk]))


@requires(Permission.MANAGE_COSTS, "POST")
def simulate(request: MemberRequest, pk: int) -> HttpResponse:
    return _act(request, pk, lambda found: budgets.simulate_budget(budget=found, actor=request.user), "Simulated on the period before.")


@requires(Permission.MANAGE_COSTS, "POST")
def enforce(request: MemberRequest, pk: int) -> HttpResponse:
    return _act(request, pk, lambda found: budgets.enforce_budget(budget=found, actor=request.user), "It is in force.")


@requires(Permission.MANAGE_COSTS, "POST")
def switch_off(request: MemberRequest, pk: int) -> HttpResponse:
    return _act(request, pk, lambda found: budgets.switch_off_budget(budget=found, actor=request.user), "It is off.")


@requires(Permission.MANAGE_COSTS, "POST")
def report(request: MemberRequest, pk: int) -> HttpResponse:
    """One click, no question asked: calls pass within seconds, the words can follow."""
    reason = request.POST.get("reason", "")[:400]
    return _act(
        request,
        pk,
        lambda found: budgets.report_false_throttle(budget=found, actor=request.user, reason=reason),
        "It only alerts now: calls pass within seconds. A P0 is open.",
    )


@requires(Permission.MANAGE_COSTS, "POST")
def raise_amount(request: MemberRequest, pk: int) -> HttpResponse:
    found, form = _budget(pk), RaiseForm(request.POST)
    if form.is_valid() and try_service(form, lambda: budgets.raise_temporarily(budget=found, actor=request.user, **form.cleaned_data)):
        messages.success(request, "Raised. It ends by itself.")
        return redirect(reverse("budget-detail", args=[pk]))
    return _detail(request, found, form, status=422)


@requires(Permission.MANAGE_COSTS, "POST")
def end_raise(request: MemberRequest, pk: int, raise_pk: int) -> HttpResponse:
    raised = budget_selectors.budget_raise(pk, raise_pk)
    if raised is None:
        raise Http404
    return _act(request, pk, lambda _: budgets.end_raise(found=raised, actor=request.user), "The raise has ended.")


@requires(Permission.MANAGE_COSTS, "POST")
def resolve(request: MemberRequest, pk: int) -> HttpResponse:
    """Say how a reported false throttle was mended."""
    incident = budget_selectors.incident(pk)
    if incident is None:
        raise Http404
    return _act(
        request,
        incident.budget_id,
        lambda _: budgets.resolve_incident(incident=incident, actor=request.user, resolution=request.POST.get("resolution", "")[:400]),
        "Resolved. It goes on alerting only until you put another action in force.",
    )
