"""What can be rehearsed: pillars, projects, phases of rollouts. Each floor adds its own when it is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from governance.models import Drill, Effect

DRILL_EVERY = timedelta(days=90)
"""What was not rehearsed with success for so long is overdue."""


@dataclass(frozen=True)
class Subject:
    """Something of the current organisation that can be switched off or taken back."""

    kind: Drill.Kind
    reference: str
    """Names it within its kind, for example a project's short name."""
    title: str
    rto: timedelta
    """By when every process of the gateway must have it, away and back alike."""
    since: datetime
    """From when on it ought to be rehearsed."""

    @property
    def key(self) -> tuple[str, str]:
        return str(self.kind), self.reference

    @property
    def scope(self) -> str:
        return str(Effect.Scope.PROJECT if self.kind == Drill.Kind.PROJECT else Effect.Scope.TENANT)

    @property
    def rto_s(self) -> int:
        return int(self.rto.total_seconds())

    @property
    def rto_minutes(self) -> float:
        return self.rto_s / 60


_sources: list[Callable[[], Iterable[Subject]]] = []


def register(source: Callable[[], Iterable[Subject]]) -> None:
    """Called from AppConfig.ready(); `source()` gives the subjects of the current organisation."""
    _sources.append(source)


def subjects() -> list[Subject]:
    return [subject for source in _sources for subject in source()]


def find(kind: str, reference: str) -> Subject | None:
    return next((subject for subject in subjects() if subject.key == (kind, reference)), None)
