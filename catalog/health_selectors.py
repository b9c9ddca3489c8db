"""How a model's deployments do: what the gateway's circuits say of them, and how often calls went elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from django.db import models
from django.utils import timezone

from catalog.hooks import Circuit, CircuitChange, Failovers, Tries, circuits, cost_figures
from catalog.models import Deployment, Model

RECENT = timedelta(hours=24)
"""Without a call in this time, nothing is known about a deployment."""
OUTDATED = timedelta(minutes=15)
"""After the time of its next probe an ill circuit is believed for so long."""
DOUBTFUL_SHARE = 0.05
"""With more of its tries failed over, a deployment is not shown as well: the share at which a circuit opens, see `gateway.plane.health`."""
SHOWN_DAYS = 30
SHOWN_CHANGES = 100
CIRCUITS = {"closed": "Answers", "open": "Fails calls", "half_open": "Is probed"}


class DeploymentState(models.TextChoices):
    """A circuit opens after many calls only, so one that is closed says nothing without an answer."""

    OFF = "off", "Switched off"
    OPEN = "open", "Fails calls"
    HALF_OPEN = "half_open", "Is probed"
    NO_ANSWER = "no_answer", "No call answered"
    CLOSED = "closed", "Answers"
    NO_CALLS = "no_calls", "No calls"


_VERDICTS = {
    DeploymentState.OFF: "waived",
    DeploymentState.OPEN: "fail",
    DeploymentState.HALF_OPEN: "waiting",
    DeploymentState.NO_ANSWER: "inconclusive",
    DeploymentState.CLOSED: "pass",
    DeploymentState.NO_CALLS: "no_data",
}


@dataclass(frozen=True)
class DeploymentHealth:
    deployment: Deployment
    circuit: Circuit | None
    """None when it did not change in the last 30 days."""
    tries: Tries
    """Of the last 24 hours."""

    @property
    def standing(self) -> Circuit | None:
        """The circuit, unless it is ill and nobody has said so again when it was time: its process may have ended with it."""
        if self.circuit is None or self.circuit.newest.circuit == "closed":
            return self.circuit
        newest = self.circuit.newest
        return self.circuit if timezone.now() <= newest.at + timedelta(seconds=newest.cooldown_s) + OUTDATED else None

    @property
    def state(self) -> DeploymentState:
        if not self.deployment.is_enabled:
            return DeploymentState.OFF
        if self.standing is not None and self.standing.newest.circuit != "closed":
            return DeploymentState(self.standing.newest.circuit)
        if self.tries.answered:
            return DeploymentState.CLOSED
        return DeploymentState.NO_ANSWER if self.tries.total else DeploymentState.NO_CALLS

    @property
    def verdict(self) -> str:
        """For the template tag `verdict`."""
        return "inconclusive" if self.state == DeploymentState.CLOSED and _is_doubtful([self]) else _VERDICTS[self.state]

    @property
    def label(self) -> str:
        """The state in words."""
        return self.state.label if self.state == DeploymentState.OFF else f"{self.state.label}{_failed_over([self])}"

    @property
    def failed_over_percent(self) -> float:
        return 100 * self.tries.failed_over / self.tries.total if self.tries.total else 0.0

    @property
    def is_ill(self) -> bool:
        return self.state in (DeploymentState.OPEN, DeploymentState.HALF_OPEN)

    @property
    def since(self) -> datetime | None:
        """When the present state began; None when it is older than 30 days, or no circuit's."""
        circuit = self.standing
        if circuit is None or self.state not in (DeploymentState.OPEN, DeploymentState.HALF_OPEN, DeploymentState.CLOSED):
            return None
        return (circuit.ill_since if self.is_ill else None) or circuit.newest.at

    @property
    def probe_at(self) -> datetime | None:
        """From when on the next call is a probe; None unless calls are kept off."""
        if self.state != DeploymentState.OPEN or self.circuit is None:
            return None
        return self.circuit.newest.at + timedelta(seconds=self.circuit.newest.cooldown_s)


@dataclass(frozen=True)
class Change:
    """A line of the list: a circuit's change with the name of its deployment."""

    change: CircuitChange
    name: str
    """Of the upstream model; the id when the deployment was removed."""

    @property
    def verdict(self) -> str:
        return _VERDICTS[DeploymentState(self.change.circuit)]

    @property
    def label(self) -> str:
        return CIRCUITS[self.change.circuit]


@dataclass(frozen=True)
class FailoverDay:
    """Calls of one UTC day that went to another deployment."""

    day: date
    calls: int
    reasons: list[Failovers]
    share: float
    """Percent of the worst day."""


@dataclass(frozen=True)
class ModelHealth:
    deployments: list[DeploymentHealth]
    changes: list[Change]
    """Newest first, at most SHOWN_CHANGES."""
    failovers: list[FailoverDay]
    """Newest first; days without any are missing."""

    @property
    def failover_calls(self) -> int:
        return sum(day.calls for day in self.failovers)


@dataclass(frozen=True)
class Summary:
    """One line: `verdict` for the template tag, and words for it."""

    verdict: str
    label: str
    since: datetime | None = None


def health_of(deployments: Iterable[Deployment]) -> list[DeploymentHealth]:
    """In their order, which need their `model` and `provider`. Four queries, however many there are."""
    rows = list(deployments)
    if not rows:
        return []
    found = circuits().circuits(str(row.pk) for row in rows)
    tries = cost_figures().tries_by_deployment({row.model.slug for row in rows}, timezone.now() - RECENT)
    return [DeploymentHealth(row, found.get(str(row.pk)), tries.get(str(row.pk), Tries())) for row in rows]


def model_health(model: Model) -> ModelHealth:
    """Everything that the page shows."""
    deployments = health_of(_deployments(model))
    names = {str(row.deployment.pk): row.deployment.upstream_model for row in deployments}
    changes = circuits().changes(model.slug, names, limit=SHOWN_CHANGES)
    return ModelHealth(
        deployments,
        [Change(change, names.get(change.deployment, f"removed, {change.deployment}")) for change in changes],
        _failovers(model),
    )


def summary(model: Model) -> Summary:
    """Whether calls to a model are answered at the moment, as far as is known."""
    rows = [row for row in health_of(_deployments(model)) if row.state != DeploymentState.OFF]
    ill = [row for row in rows if row.is_ill]
    since = min((row.since for row in ill if row.since), default=None)
    if not rows:
        return Summary("no_data", "No deployment is on")
    if len(ill) == len(rows):
        return Summary("fail", "Fails calls" if len(rows) == 1 else f"All {len(rows)} deployments fail calls", since)
    if ill:
        return Summary("inconclusive", f"Answers, but {len(ill)} of {len(rows)} deployments fail calls", since)
    states = {row.state for row in rows}
    if DeploymentState.CLOSED in states:
        return Summary("inconclusive", f"Answers{_failed_over(rows)}") if _is_doubtful(rows) else Summary("pass", "Answers")
    return (
        Summary("inconclusive", "No call answered in 24 h")
        if DeploymentState.NO_ANSWER in states
        else Summary("no_data", "No call in 24 h")
    )


def _is_doubtful(rows: Iterable[DeploymentHealth]) -> bool:
    return any(row.tries.failed_over > DOUBTFUL_SHARE * row.tries.total for row in rows)


def _failed_over(rows: Iterable[DeploymentHealth]) -> str:
    """The end of a sentence; empty when no try failed over."""
    tries = [row.tries for row in rows]
    n = sum(each.failed_over for each in tries)
    return f", {n:,} of {sum(each.total for each in tries):,} tries failed over" if n else ""


def _deployments(model: Model) -> list[Deployment]:
    return list(model.deployments.select_related("model", "provider").order_by("priority", "pk"))


def _failovers(model: Model) -> list[FailoverDay]:
    since = timezone.now().astimezone(UTC).date() - timedelta(days=SHOWN_DAYS - 1)
    days = [(day, list(rows)) for day, rows in groupby(cost_figures().failovers(model.slug, since), key=lambda row: row.day)]
    totals = [sum(row.calls for row in rows) for _, rows in days]
    return [FailoverDay(day, total, rows, 100 * total / max(totals)) for (day, rows), total in zip(days, totals, strict=True)]
