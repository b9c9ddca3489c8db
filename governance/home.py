"""Panels of the three home pages. Each app adds its own; the home page shows those that the person may see."""

from __future__ import annotations

from collections.abc import Callable
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


_panels: list[Panel] = []


def register(*panels: Panel) -> None:
    """Called from AppConfig.ready()."""
    _panels.extend(panels)


def panels_for(membership: Membership, area: str) -> list[tuple[Panel, Any]]:
    granted = permissions_of(membership.roles)
    found = [
        (panel, panel.context(membership))
        for panel in sorted(_panels, key=lambda panel: panel.order)
        if panel.area == area and panel.permission in granted
    ]
    return [(panel, context) for panel, context in found if context is not None]
