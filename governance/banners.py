"""What everybody in an organisation sees above every page while it lasts. Apps offer it when they are loaded; one is shown at most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from governance.models import Membership


@dataclass(frozen=True)
class Banner:
    text: str
    url: str
    action: str
    """What the link says."""


Source = Callable[[Membership], Banner | None]
_sources: list[Source] = []


def register(source: Source) -> None:
    """Called from AppConfig.ready(); the source is asked on every page, so it costs one indexed read at most."""
    _sources.append(source)


def banner_for(membership: Membership) -> Banner | None:
    """The first that has something to say."""
    return next((banner for source in _sources if (banner := source(membership)) is not None), None)
