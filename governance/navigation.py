"""The sidebar: apps add their items when they are loaded; a page without content yet has none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import slugify

from governance import banners, glance, selectors
from governance.access import Permission, permissions_of
from governance.models import Membership, User
from governance.search import Hit

AREAS = {"operate": "Operate", "build": "Build", "release": "Release"}
SECTIONS: dict[str, list[str]] = {
    "operate": ["", "Catalog", "Control", "Costs", "Reliability", "Organisation"],
    "build": ["", "Discover", "Try", "Use", "Learn"],
    "release": ["", "Roll out", "Steer", "Prove"],
}
OPEN_LINES = 18
"""Items that fit below their headings on a screen of 900 px without scrolling."""
COOKIE = "gh_sections"
"""Sections that this browser opened or closed, as `operate-costs_1.build-try_0`; static/js/gatehouse.js writes it."""
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
    among: tuple[glance.Rows, ...] = ()
    """What `due` counts, of everybody: while all of them are empty it is not asked. Every item that has one names the other."""


_items: list[Item] = []


def register(*items: Item) -> None:
    """Called from AppConfig.ready()."""
    for item in items:
        if (item.due is None) != (not item.among):
            raise ValueError(f"{item.title}: a badge counts something, and names what")
    _items.extend(items)


@dataclass(frozen=True)
class Section:
    """A heading of the sidebar with the items below it that a person may open."""

    key: str
    title: str
    """Empty for items without a heading."""
    items: list[dict[str, Any]]
    is_open: bool

    @property
    def due(self) -> int:
        """What waits for this person in the section: its badge while it is closed."""
        return sum(item["due"] for item in self.items)


def _allowed(membership: Membership, area: str) -> list[Item]:
    granted = permissions_of(membership.roles)
    return [item for item in sorted(_items, key=lambda item: item.order) if item.area == area and item.permission in granted]


def items_for(membership: Membership, area: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Sections of the area with the items that this person may open."""
    allowed = _allowed(membership, area)
    there = glance.present({rows for item in allowed for rows in item.among})
    due = {item: item.due(membership) if item.due and not there.isdisjoint(item.among) else 0 for item in allowed}
    found = []
    for section in SECTIONS[area]:
        items = [
            {"title": item.title, "url": reverse(item.url_name), "icon": item.icon, "due": due[item]}
            for item in allowed
            if item.section == section
        ]
        if items:
            found.append((section, items))
    return found


def current_item(found: list[tuple[str, list[dict[str, Any]]]], path: str) -> str:
    """The innermost item whose page this is, or lies below: Spend is not current on Reconciliation."""
    return max((item["url"] for _, items in found for item in items if path.startswith(item["url"])), key=len, default="")


def sections_for(found: list[tuple[str, list[dict[str, Any]]]], *, area: str, current: str, chosen: str) -> list[Section]:
    """Which sections are open: always the one of the current page; what this browser opened (`chosen`, the cookie); of the others, those that fit."""
    choices = dict(part.rsplit("_", 1) for part in chosen.split(".") if "_" in part)
    sections = [Section(slugify(f"{area} {title}"), title, items, is_open=False) for title, items in found]
    wanted = {
        section.key: "current" if any(item["url"] == current for item in section.items) else choices.get(section.key, "")
        for section in sections
    }
    left = OPEN_LINES - sum(len(section.items) for section in sections if wanted[section.key] in ("current", "1"))
    opened = []
    for section in sections:
        if fits := wanted[section.key] not in ("current", "1", "0") and len(section.items) <= left:
            left -= len(section.items)
        opened.append(replace(section, is_open=fits or wanted[section.key] in ("current", "1")))
    return opened


def section_page(membership: Membership | None, area: str, url_names: Sequence[str]) -> tuple[str, str]:
    """Title and URL of the sidebar's item among these, which lead to the same thing: that of the area if the person has it, else of another;
    without a URL where they may open none. The platform has no areas, and its operators open all.

    Every breadcrumb begins with it, so that a page says where in the sidebar it belongs.
    """
    named = [item for item in _items if item.url_name in url_names]
    granted = permissions_of(membership.roles) if membership else None
    open_ones = [item for item in named if granted is None or item.permission in granted]
    here = min(open_ones, key=lambda item: item.area != area, default=None)
    return (here.title, reverse(here.url_name)) if here else (named[0].title, "")


def pages_named(query: str, membership: Membership, limit: int) -> list[Hit]:
    """Pages of every area whose name has the query; each once, under the first area that has it."""
    hits: dict[str, Hit] = {}
    for area in areas_for(membership):
        for item in _allowed(membership, area):
            if query.lower() in item.title.lower():
                where = " · ".join(filter(None, (AREAS[area], item.section)))
                hits.setdefault(item.url_name, Hit(item.title, where, reverse(item.url_name), item.icon))
    return list(hits.values())[:limit]


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
    """Template context of the frame around every page. What only the frame shows is looked up when it shows it: fragments have none."""
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
    granted = permissions_of(membership.roles)

    @cache
    def sidebar() -> tuple[list[Section], str]:
        found = items_for(membership, area)
        current = current_item(found, request.path)
        return sections_for(found, area=area, current=current, chosen=request.COOKIES.get(COOKIE, "")), current

    return {
        "tenant": membership.tenant,
        "membership": membership,
        "area": area,
        "areas": [(name, AREAS[name], reverse(f"{name}-home")) for name in areas],
        "sections": lambda: sidebar()[0],
        "memberships": selectors.memberships_of(membership.user),
        "current_path": request.path,
        "current_item": lambda: sidebar()[1],
        "banner": cache(lambda: banners.banner_for(membership)),
        "can": {permission.value: permission in granted for permission in Permission},
    }
