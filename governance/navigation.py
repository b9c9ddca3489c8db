"""The sidebar: apps add their items when they are loaded; a page without content yet has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from governance import banners, selectors
from governance.access import Permission, permissions_of
from governance.models import Membership, User

AREAS = {"operate": "Operate", "build": "Build", "release": "Release"}
SECTIONS: dict[str, list[str]] = {
    "operate": ["", "Catalog", "Control", "Costs", "Reliability", "Organisation"],
    "build": ["", "Discover", "Try", "Use", "Learn"],
    "release": ["", "Roll out", "Steer", "Prove"],
}
AREA_PERMISSION = {"operate": Permission.VIEW_OPERATE, "build": Permission.USE_GATEWAY, "release": Permission.VIEW}


@dataclass(frozen=True)
class Item:
    """One line of the sidebar."""

    area: str
    section: str
    title: str
    url_name: str
    icon: str
    permission: Permission
    order: int = 50
    due: Callable[[Membership], int] | None = None
    """How many things wait for this person; shown as a badge."""


_items: list[Item] = []


def register(*items: Item) -> None:
    """Called from AppConfig.ready()."""
    _items.extend(items)


def items_for(membership: Membership, area: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Sections of the area with the items that this person may open."""
    granted = permissions_of(membership.roles)
    sections = []
    for section in SECTIONS[area]:
        items = [
            {"title": item.title, "url": reverse(item.url_name), "icon": item.icon, "due": item.due(membership) if item.due else 0}
            for item in sorted(_items, key=lambda item: item.order)
            if item.area == area and item.section == section and item.permission in granted
        ]
        if items:
            sections.append((section, items))
    return sections


def areas_for(membership: Membership) -> list[str]:
    """Areas that have something for this person."""
    granted = permissions_of(membership.roles)
    return [area for area in AREAS if AREA_PERMISSION[area] in granted]


def default_area(membership: Membership) -> str:
    """The area a person works in, by role."""
    areas = areas_for(membership)
    wanted = {"developer": "build", "release_manager": "release"}
    for role in membership.roles:
        if wanted.get(role) in areas:
            return wanted[role]
    return areas[0]


def shell(request: HttpRequest) -> dict[str, Any]:
    """Template context of the frame around every page."""
    membership: Membership | None = getattr(request, "membership", None)
    if membership is None:
        user = getattr(request, "user", None)  # missing when a page fails before authentication
        return {"memberships": selectors.memberships_of(user) if isinstance(user, User) else []}
    first = request.path_info.strip("/").split("/")[0]
    areas = areas_for(membership)
    area = first if first in areas else request.session.get("area", "")
    if area not in areas:
        area = default_area(membership)
    if request.session.get("area") != area:
        request.session["area"] = area
    sections = items_for(membership, area)
    return {
        "tenant": membership.tenant,
        "membership": membership,
        "area": area,
        "areas": [(name, AREAS[name], reverse(f"{name}-home")) for name in areas],
        "sections": sections,
        "memberships": selectors.memberships_of(membership.user),
        "current_path": request.path,
        # The innermost item whose page this is, or lies below: Spend is not current on Reconciliation.
        "current_item": max(
            (item["url"] for _, items in sections for item in items if request.path.startswith(item["url"])), key=len, default=""
        ),
        "banner": banners.banner_for(membership),
        "can": {permission.value: permission in permissions_of(membership.roles) for permission in Permission},
    }
