"""What the catalog shows on the home pages."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from catalog import review_selectors, selectors
from catalog.hooks import Usage
from catalog.models import ModelReview, ToolServer
from governance.access import Permission
from governance.models import Membership
from governance.templatetags.gatehouse import money_text

SHOWN = 5
MOST_KEYS = 200
"""Of one person, whose figures are added up: the newest."""


def _reviews_for(membership: Membership) -> QuerySet[ModelReview]:
    """What waits for somebody like them."""
    waiting = review_selectors.waiting().exclude(asked_by=membership.user)
    return waiting if membership.can(Permission.APPROVE_MODELS) else waiting.none()


def reviews_due(membership: Membership) -> int:
    """Models that wait for them: the badge in the sidebar."""
    return _reviews_for(membership).count()


def key_requests_due(membership: Membership) -> int:
    """Keys that are asked for and wait for them: the badge in the sidebar."""
    return selectors.key_requests_to_decide(membership).count()


def attention(membership: Membership) -> dict[str, Any] | None:
    """Models that wait for approval by somebody like them, failing providers, servers that were not reached, suspended tools, credentials and keys to rotate; None when all is quiet."""
    found: dict[str, list[Any]] = {
        "reviews": list(_reviews_for(membership)[:SHOWN]),
        "providers": list(selectors.providers_failing()[:SHOWN]),
        "servers": list(ToolServer.objects.exclude(discovery_error="").filter(is_enabled=True).order_by("namespace")[:SHOWN]),
        "tools": list(selectors.suspended_tools()[:SHOWN]) if membership.can(Permission.MANAGE_CATALOG) else [],
        "asked": list(selectors.key_requests_to_decide(membership)[:SHOWN]),
        "credentials": list(selectors.credentials_due()[:SHOWN]),
        "keys": list(selectors.keys_expiring(selectors.keys_visible_to(membership))[:SHOWN]),
    }
    return found if any(found.values()) else None


def start(membership: Membership) -> dict[str, Any]:
    """The person's newest live keys with their figures, and what is left to do until the first call."""
    rows = selectors.key_rows(selectors.live_keys(selectors.own_keys(membership.user))[:MOST_KEYS])
    served, has_project = selectors.served_models().count(), selectors.enabled_projects().exists()
    called = any(row.usage.calls for row in rows)
    steps = [
        (has_project, "A project to call for" if has_project else "A project to call for: an admin makes one", "", ""),
        (served > 0, "A published model" if served else "A published model: an admin registers one", reverse("build-models"), "Models"),
        (bool(rows), "A key of your own", reverse("key-new"), "Get a key"),
        (called, "The first call arrived", reverse("first-call"), "Make it"),
    ]
    agreed = [asked for asked in selectors.own_key_requests(membership.user, timezone.now()) if asked.take_until]
    return {
        "agreed": agreed, "base_url": settings.BASE_URL, "rows": rows[:SHOWN], "served": served, "steps": steps, "called": called,
        "usage": [row.usage for row in rows],
    }  # fmt: skip


def start_line(panel: dict[str, Any]) -> str:
    """What the person's own keys came to; before the first call, how far it is."""
    usage: list[Usage] = panel["usage"]
    if not panel["called"]:
        done = sum(is_done for is_done, *_ in panel["steps"])
        return f"{done} of {len(panel['steps'])} steps to your first call through the gateway are done."
    calls, errors, refused = (sum(figures) for figures in zip(*((one.calls, one.errors, one.refused) for one in usage), strict=True))
    said_refused = f", {refused:,} refused" if refused else ""
    costs = [one.cost_usd for one in usage if one.cost_usd is not None]
    at_least = "at least " if any(one.unpriced_calls for one in usage) else ""
    cost = f" for {at_least}{money_text(sum(costs, Decimal()))}" if costs else ""
    newest = "newest " if len(usage) == MOST_KEYS else ""
    keys = f"your {newest}{len(usage)} keys" if len(usage) > 1 else "your key"
    return f"{calls:,} {'call' if calls == 1 else 'calls'} with {keys} in the last 30 days{cost}, {errors:,} failed{said_refused}."
