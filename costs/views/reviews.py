"""The monthly review of costs: what to look at, what was decided, who signed it off."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import review_selectors, reviewing
from costs.forms import ReviewDecisionForm, ReviewKeyForm, ReviewRestForm, ReviewSignForm
from costs.models import ReviewItem
from costs.reviewing import Row, Section
from costs.services import review as services
from costs.views.showback import month_of, months
from governance import csvs
from governance.access import Permission, permissions_of, requires
from governance.pages import render_page, try_service
from governance.requests import MemberRequest

SHOWN = 20
"""Findings of each kind, undecided ones first; a page of one kind has more of them."""
SHOWN_OF_KIND = 50


@requires(Permission.VIEW_COSTS)
def review(request: MemberRequest) -> HttpResponse:
    return _page(request, month_of(request))


def _page(request: MemberRequest, month: date, *, form: BaseForm | None = None) -> HttpResponse:
    found = review_selectors.review(month)
    permissions = permissions_of(request.membership.roles)
    only, on_paper = _only(request), "print" in request.GET
    groups = [
        _group(section, only, request.GET.get("after", ""), on_paper=on_paper)
        for section in found.sections
        if section.rows and only in ("", section.kind)
    ]
    context: dict[str, Any] = {
        "found": found.as_signed(),
        "has_moved": found.has_moved,
        "groups": groups,
        "is_cut": any(group.is_cut for group in groups),
        "only": only,
        "kinds": dict(ReviewItem.Kind.choices),
        "month": month,
        "months": months(month),
        "form": form,
        "people": review_selectors.owners(),
        "decisions": ReviewItem.Decision.choices,
        "signed_items": _signed(found.signature.figures) if found.signature else [],
        "today": timezone.now().astimezone(UTC).date(),
        "is_intact": found.signature is None or reviewing.is_intact(found.signature),
        "may_decide": Permission.MANAGE_COSTS in permissions and found.signature is None and not on_paper,
        "may_sign": Permission.SIGN_BILLS in permissions and found.signature is None and found.is_over and not found.waiting,
    }
    return render_page(request, "costs/review.html", partial="review", context=context, status=422 if form else 200)


@dataclass(frozen=True)
class Group:
    """What is shown of one kind."""

    section: Section
    rows: list[tuple[Row, str]]
    """With where the figures of each stand."""
    first: int
    """Number of the first of them."""
    after: str
    """The last of them when there are more."""

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1

    @property
    def is_cut(self) -> bool:
        """There are others that are not shown."""
        return len(self.rows) < len(self.section.rows)


def _group(section: Section, only: str, after: str, *, on_paper: bool) -> Group:
    """By key: behind the finding that was the last of the page before, wherever it is by now. Paper has no pages to follow: all of them."""
    rows = sorted(section.rows, key=lambda row: not row.waits)
    start = next((index + 1 for index, row in enumerate(rows) if only and after and row.ref == after), 0)
    if on_paper:
        return Group(section, [(row, _link(row)) for row in rows], 1, "")
    shown = rows[start : start + (SHOWN_OF_KIND if only else SHOWN)]
    is_last = start + len(shown) >= len(rows)
    return Group(section, [(row, _link(row)) for row in shown], start + 1, "" if is_last else shown[-1].ref)


def _only(request: MemberRequest) -> str:
    """The one kind that is asked for, or empty."""
    kind = request.GET.get("kind", "")
    return kind if kind in ReviewItem.Kind.values else ""


def _link(row: Row) -> str:
    """Where the figures of a finding stand; empty for one that is only carried."""
    if row.finding is None or not row.finding.page:
        return ""
    name, *args = row.finding.page
    return reverse(name, args=args) + (f"?{urlencode(row.finding.query)}" if row.finding.query else "")


def _signed(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """With the kind as it is called."""
    return [{**item, "kind_label": ReviewItem.Kind(item["kind"]).label} for item in figures["items"]]


@requires(Permission.VIEW_COSTS)
def review_csv(request: MemberRequest) -> HttpResponseBase:
    """A line per finding, with what was decided; of a month that is signed off, as it was signed."""
    month = month_of(request)
    found = review_selectors.review(month)
    items = found.signature.figures["items"] if found.signature else found.as_json()["items"]
    header = ("month", "kind", "ref", "title", "detail", "cost_usd", "decision", "owner", "due_on", "note")
    rows = ((f"{month:%Y-%m}", *(item[name] for name in header[1:])) for item in items)
    return csvs.response(request, f"cost-review-{month:%Y-%m}.csv", header, rows)


@requires(Permission.MANAGE_COSTS, "POST")
def decide(request: MemberRequest, month: date) -> HttpResponse:
    form = ReviewDecisionForm(request.POST)
    if form.is_valid():
        made = try_service(form, lambda: services.decide(month=month, actor=request.user, **form.cleaned_data))
        if made is not None:
            messages.success(request, f"{made}: {made.get_decision_display().lower()}, {made.owner}.")
            return redirect(_url(month, _only(request)))
    return _page(request, month, form=form)


@requires(Permission.MANAGE_COSTS, "POST")
def decide_rest(request: MemberRequest, month: date) -> HttpResponse:
    """One decision about every finding of a kind that has none."""
    form = ReviewRestForm(request.POST)
    if form.is_valid():
        made = try_service(form, lambda: services.decide_rest(month=month, actor=request.user, **form.cleaned_data))
        if made is not None:
            messages.success(request, f"{len(made)} decided: {made[0].get_decision_display().lower()}, {made[0].owner}.")
            return redirect(_url(month, _only(request)))
    return _page(request, month, form=form)


@requires(Permission.MANAGE_COSTS, "POST")
def close(request: MemberRequest, month: date) -> HttpResponse:
    form = ReviewKeyForm(request.POST)
    if form.is_valid():
        done = try_service(form, lambda: services.close_item(month=month, actor=request.user, **form.cleaned_data))
        if done is not None:
            messages.success(request, f"{done} is done and is not carried on.")
            return redirect(_url(month, _only(request)))
    return _page(request, month, form=form)


@requires(Permission.SIGN_BILLS, "POST")
def sign(request: MemberRequest, month: date) -> HttpResponse:
    form = ReviewSignForm(request.POST)
    if form.is_valid() and try_service(form, lambda: services.sign_off(month=month, actor=request.user, **form.cleaned_data)):
        messages.success(request, f"{month:%B %Y} is signed off.")
        return redirect(_url(month))
    return _page(request, month, form=form)


def _url(month: date, only: str = "") -> str:
    return f"{reverse('cost-review')}?{urlencode({'month': f'{month:%Y-%m}', **({'kind': only} if only else {})})}"
