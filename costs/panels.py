"""What the costs floor adds to the frame: navigation, search, home pages. Importing registers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from costs import bill_selectors, periods, reconciliation_selectors, selectors, spend_selectors, tag_selectors, traffic
from costs.models.event import has_id, has_request_id
from governance import home, navigation, search
from governance.access import Permission
from governance.models import Membership

navigation.register(
    navigation.Item("operate", "Costs", "Spend", "costs-spend", icon="chart-histogram", permission=Permission.VIEW_COSTS, order=10),
    navigation.Item("operate", "Costs", "Budgets", "budget-list", icon="wallet", permission=Permission.VIEW_COSTS, order=15),
    navigation.Item("operate", "Costs", "Anomalies", "anomaly-list", icon="activity", permission=Permission.VIEW_COSTS, order=17),
    navigation.Item("operate", "Costs", "Requests", "costs-requests", icon="list-details", permission=Permission.VIEW_COSTS, order=20),
    navigation.Item(
        "operate", "Costs", "Reconciliation", "reconciliation-list", icon="receipt", permission=Permission.VIEW_COSTS, order=30
    ),
    navigation.Item("operate", "Costs", "Price book", "price-book", icon="tags", permission=Permission.VIEW_COSTS, order=40),
    navigation.Item("operate", "Costs", "Showback", "costs-showback", icon="report-money", permission=Permission.VIEW_COSTS, order=25),
    navigation.Item(
        "operate", "Costs", "Monthly review", "cost-review", icon="clipboard-check", permission=Permission.VIEW_COSTS, order=26
    ),
    navigation.Item("operate", "Costs", "Savings", "costs-savings", icon="pig-money", permission=Permission.VIEW_COSTS, order=27),
    navigation.Item("operate", "Costs", "Required tags", "required-tags", icon="tag", permission=Permission.VIEW_COSTS, order=28),
    navigation.Item("operate", "Costs", "Commitments", "commitment-list", icon="contract", permission=Permission.VIEW_COSTS, order=45),
    navigation.Item(
        "operate", "Costs", "Exchange rates", "exchange-rates", icon="currency-euro", permission=Permission.VIEW_COSTS, order=42
    ),
    navigation.Item("operate", "Costs", "Export", "costs-export", icon="download", permission=Permission.VIEW_COSTS, order=50),
    navigation.Item("operate", "Costs", "Archive", "event-archive", icon="archive", permission=Permission.VIEW_COSTS, order=60),
    navigation.Item("build", "Use", "Requests", "requests", icon="list-details", permission=Permission.USE_GATEWAY, order=50),
    navigation.Item("build", "Use", "My usage", "usage", icon="chart-histogram", permission=Permission.USE_GATEWAY, order=60),
)


def find_requests(query: str, membership: Membership, limit: int) -> Iterable[search.Hit]:
    """By the whole request id or event id: ids are pasted, not typed."""
    condition = has_request_id(query)
    try:
        condition |= has_id(UUID(query))
    except ValueError:
        pass
    for event in selectors.events_visible_to(membership).filter(condition).order_by("-started_at")[:limit]:
        yield search.Hit(
            event.request_id,
            f"{selectors.STATUSES.get(event.status, event.status)}, {event.model or 'no model'}, {event.started_at:%b %-d, %H:%M} UTC",
            reverse("request-detail", args=[event.event_id]),
            icon="list-details",
        )


def find_required_tags(query: str, membership: Membership, limit: int) -> Iterable[search.Hit]:
    found = tag_selectors.required_tags().filter(Q(name__icontains=query) | Q(description__icontains=query))[:limit]
    return [search.Hit(one.name, one.get_mode_display(), reverse("required-tag", args=[one.name]), icon="tag") for one in found]


search.register(search.Source("Requests", Permission.VIEW, find_requests))
search.register(search.Source("Required tags", Permission.VIEW_COSTS, find_required_tags))


def spend_panel(membership: Membership) -> dict[str, Any] | None:
    """Spend of this month and what is doubtful about it."""
    today = timezone.now().astimezone(UTC).date()
    found = spend_selectors.spend(periods.this_month(today), "project", {})
    matched = bill_selectors.latest_matched()
    if found.is_empty and matched is None:
        return None
    return {
        "spend": found,
        "matched": matched,
        "doubtful": bill_selectors.doubtful_revisions(found.period.previous().first, today),
    }


def traffic_panel(membership: Membership) -> traffic.Traffic | None:
    """How the gateway is used and refuses now."""
    return traffic.last_day(timezone.now())


def errors_panel(membership: Membership) -> dict[str, Any] | None:
    """The last failed calls with one's own keys, and what to do about each."""
    events = list(selectors.events_visible_to(membership, own=True).exclude(status="ok").order_by("-started_at", "-event_id")[:5])
    if not events:
        return None
    return {"rows": [(event, selectors.STATUSES.get(event.status, event.status), selectors.advice(event)) for event in events]}


def signatures_panel(membership: Membership) -> list[Any] | None:
    """Bills that somebody else has signed and this person could sign off."""
    return reconciliation_selectors.waiting_for(membership.user) or None


home.register(
    home.Panel("operate", "costs/partials/signatures_panel.html", Permission.SIGN_BILLS, signatures_panel, order=20),
    home.Panel("operate", "costs/partials/traffic_panel.html", Permission.VIEW_COSTS, traffic_panel, order=30),
    home.Panel("operate", "costs/partials/spend_panel.html", Permission.VIEW_COSTS, spend_panel, order=40),
    home.Panel("build", "costs/partials/errors_panel.html", Permission.USE_GATEWAY, errors_panel, order=40),
)
