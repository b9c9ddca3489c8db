"""Single calls: the list, and the road of one."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from costs import archive_selectors, budget_selectors, call_lists, dimensions, periods, selectors, set_aside_selectors, step_names
from costs.call_lists import Cursor
from costs.errors import ArchiveError
from costs.models import Budget, Event, RejectedInbox
from governance import payload_selectors
from governance.access import Permission, requires
from governance.pages import keyset_page, render_page
from governance.requests import MemberRequest
from governance.templatetags.gatehouse import num

SELECTS = ("project", "model", "key", "agent")
_CHIPS = {"code": "Code", "pricing": "Pricing", "tag": "Lacks the tag"}
"""Besides the other dimensions of spend."""
_COUNTS = {
    "input_tokens": "tokens in",
    "output_tokens": "out",
    "cached_input_tokens": "cached",
    "cache_write_tokens": "cache write",
    "reasoning_tokens": "reasoning",
    "duration_us": "took µs",
}


def _said(name: str, value: str) -> str:
    if name in _CHIPS:
        return value
    return dimensions.unknown(name) if value == selectors.NONE else dimensions.labels(name, [value]).get(value, value)


def _without(request: MemberRequest, name: str) -> str:
    query = request.GET.copy()
    for gone in (name, "cursor"):
        query.pop(gone, None)
    return query.urlencode()


@requires(Permission.VIEW_COSTS)
def all_requests(request: MemberRequest) -> HttpResponse:
    """Every call of the organisation, newest first."""
    return _list(request, own=False)


@requires(Permission.USE_GATEWAY)
def own_requests(request: MemberRequest) -> HttpResponse:
    """Calls with the person's own keys, newest first."""
    return _list(request, own=True)


def _list(request: MemberRequest, *, own: bool) -> HttpResponse:
    asked = {name: value for name in ("status", "code", "pricing", "tag", "q") if (value := request.GET.get(name, "").strip())}
    chosen = dimensions.chosen(request.GET.dict()) | asked
    period = periods.open_from_query(request.GET)
    url = reverse("requests" if own else "costs-requests")
    try:
        page = call_lists.calls_page(
            membership=request.membership, own=own, chosen=chosen, period=period, cursor=Cursor.read(request.GET.get("cursor", ""))
        )
    except ArchiveError as error:
        messages.error(request, error.message)
        return redirect(url)
    keys = selectors.own_keys(request.user) if own else None
    context: dict[str, Any] = {
        "page": page,
        "chosen": chosen,
        "period": period,
        "first": period.first.isoformat() if period and period.first != periods.EARLIEST else "",
        "last": period.last.isoformat() if period and period.last != periods.LATEST else "",
        "is_filtered": bool(chosen or period),
        "statuses": {"": "Any status", "failed": "Everything that failed", "errors": "Failed, not refused", **selectors.STATUSES},
        "is_own": own,
        "late_since": selectors.late_since(request.tenant),
        "missing": None if own else set_aside_selectors.summary(request.tenant, period.start if period else None),
        "choices": [(name, dimensions.label(name), dimensions.choices(name, keys=keys)) for name in SELECTS],
        "chips": [
            (name, label, _said(name, value), value, f"{url}?{_without(request, name)}")
            for name, value in chosen.items()
            if (label := _CHIPS.get(name) or (name not in (*SELECTS, "status", "q") and dimensions.label(name)))
        ],
        "url": url,
    }
    return render_page(request, "costs/requests.html", partial="requests-table", context=context)


def _figures(row: RejectedInbox) -> list[tuple[str, str]]:
    """What a call said of itself, name and value, whatever its units are; what it did not say is left out."""
    units = row.units.items() if isinstance(row.units, dict) else [("units", row.units)]
    said = [(label, getattr(row, name)) for name, label in _COUNTS.items()]
    return [(label, num(value) if isinstance(value, int) else str(value)) for label, value in (*said, *units) if value is not None]


@requires(Permission.VIEW_COSTS)
def set_aside(request: MemberRequest) -> HttpResponse:
    """Calls of the organisation that were not counted, the last that came first."""
    page = keyset_page(set_aside_selectors.set_aside(request.tenant), order=set_aside_selectors.ORDER, cursor=request.GET.get("cursor", ""))
    keys = dimensions.labels("key", {row.key_id for row in page.rows if row.key_id})
    rows = [(row, set_aside_selectors.REASONS[row.reason], keys.get(row.key_id or "", row.key_id), _figures(row)) for row in page.rows]
    context = {
        "page": page,
        "rows": rows,
        "reasons": set_aside_selectors.REASONS.values(),
        "kept_from": archive_selectors.first_kept(timezone.now()),
    }
    return render_page(request, "costs/set_aside.html", partial="set-aside", context=context)


def _refusing_budget(request: MemberRequest, event: Event) -> Budget | None:
    """The budget that refused the call, while it has that name, for those who may see it."""
    name = selectors.refusing_budget(event)
    return budget_selectors.budget_of_name(name) if name and request.membership.can(Permission.VIEW_COSTS) else None


@requires(Permission.VIEW)
def request_detail(request: MemberRequest, event_id: UUID) -> HttpResponse:
    """The road of one call. Who may see neither all costs nor the key gets 404."""
    try:
        event = selectors.event_visible_to(request.membership, event_id)
    except ArchiveError as error:
        messages.error(request, error.message)
        return redirect("costs-requests" if selectors.sees_all_calls(request.membership) else "requests")
    if event is None:
        raise Http404
    return render_page(
        request,
        "costs/request_detail.html",
        context={
            "event": event,
            "steps": step_names.named(selectors.steps_of(event)),
            "price_rows": selectors.prices_of(event),
            "earlier_values": selectors.earlier_values(event),
            "status_label": selectors.STATUSES.get(event.status, event.status),
            "key": selectors.key_of(event),
            "attribution_s": selectors.attribution_seconds(event),
            "advice": selectors.advice(event),
            "budget": _refusing_budget(request, event),
            "payload": payload_selectors.kept_of(event.event_id),
            "may_open": request.membership.can(Permission.VIEW_PAYLOADS),
        },
    )
