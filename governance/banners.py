"""What everybody in an organisation sees above every page while it lasts. Apps offer it when they are loaded; one is shown at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from governance import glance
from governance.models import Membership


@dataclass(frozen=True)
class Banner:
    text: str
    url: str
    action: str
    """What the link says."""


Source = Callable[[Membership], Banner | None]
_sources: dict[Source, glance.Rows] = {}


def register(source: Source, *, among: glance.Rows) -> None:
    """Called from AppConfig.ready(); the source is asked on every page while there is a row among those, so it costs one indexed read at most."""
    _sources[source] = among


def banner_for(membership: Membership) -> Banner | None:
    """The first that has something to say."""
    there = glance.present(set(_sources.values()))
    return next((banner for source, among in _sources.items() if among in there and (banner := source(membership)) is not None), None)
