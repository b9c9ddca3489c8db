"""The tabs of a model's page: those of this floor, and those that floors above have registered."""

from __future__ import annotations

from dataclasses import dataclass

from django.urls import reverse

from catalog.hooks import model_tabs
from catalog.models import Model, ModelReview
from governance.models import Membership
from governance.roles import Permission


@dataclass(frozen=True)
class Tab:
    name: str
    label: str
    url: str
    count: int | None = None


def tabs_for(membership: Membership, model: Model) -> list[Tab]:
    """Those that this person may open, in their order."""
    page = reverse("model-detail", args=[model.slug])
    tabs = [Tab("overview", "Overview", page)]
    if membership.can(Permission.USE_GATEWAY) and "chat" in model.capabilities and model.is_served:
        tabs.append(Tab("playground", "Playground", f"{reverse('playground')}?model={model.slug}"))
    tabs += [Tab(tab.name, tab.label, reverse(tab.url_name, args=[model.slug])) for tab in model_tabs() if membership.can(tab.permission)]
    if membership.can(Permission.VIEW_OPERATE):
        waiting = model.reviews.filter(status=ModelReview.Status.WAITING).count()
        tabs.append(Tab("approval", "Approval", f"{page}?tab=approval", waiting or None))
        tabs.append(Tab("health", "Health", f"{page}?tab=health"))
        tabs.append(Tab("routing", "Routing", reverse("model-routing", args=[model.slug])))
    if membership.can(Permission.MANAGE_CATALOG):
        tabs += [
            Tab("deployments", "Deployments", f"{page}?tab=deployments", len(model.deployments.all())),
            Tab("cache", "Cache", f"{page}?tab=cache"),
            Tab("edit", "Change", f"{page}?tab=edit"),
        ]
    return tabs
