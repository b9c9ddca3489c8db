"""Panels of the three home pages. Each app adds its own; the home page shows those that the person may see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from governance.access import Permission, permissions_of
from governance.models import Membership


@dataclass(frozen=True)
class Panel:
    area: str
    template: str
    """Rendered with the panel's context as `panel`."""
    permission: Permission
    context: Callable[[Membership], Any]
    """None means that there is nothing to say: the panel is left out."""
    order: int = 50
    wide: bool = True
    line: Callable[[Any], str] = lambda _context: ""
    """A sentence with the figure that matters, for the page's first line; empty when there is none. Of the panel's own context."""


_panels: list[Panel] = []


def register(*panels: Panel) -> None:
    """Called from AppConfig.ready()."""
    _panels.extend(panels)


def line_of(panels: Iterable[tuple[Panel, Any]]) -> str:
    """What the panels say in a line, in their order; empty when none says anything."""
    return " ".join(said for panel, context in panels if (said := panel.line(context)))


def panels_for(membership: Membership, area: str) -> list[tuple[Panel, Any]]:
    granted = permissions_of(membership.roles)
    found = [
        (panel, panel.context(membership))
        for panel in sorted(_panels, key=lambda panel: panel.order)
        if panel.area == area and panel.permission in granted
    ]
    return [(panel, context) for panel, context in found if context is not None]
