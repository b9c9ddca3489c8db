"""What pages and API read about policies and guardrails."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Concat
from django.utils import timezone

from gateway.contract.guardrails import UNAVAILABLE, UNJUDGED
from gateway.contract.presidio import NAMES
from governance.call_figures import VerdictCount, call_figures
from governance.models import Effect, Guardrail, Pillar, Policy, PolicyVersion, Switch, Tenant

WINDOW = timedelta(days=7)
FOUND = ("flagged", "redacted", "guardrail_blocked")
"""Verdicts of a guardrail that found something."""


@dataclass
class PolicyFigures:
    """Calls of the last seven days, over all versions of one policy."""

    covered: int = 0
    denied: int = 0
    would_deny: int = 0
    errors: int = 0
    """Could not be evaluated, refused or not."""


@dataclass(frozen=True)
class Coverage:
    calls: int
    covered: int

    @property
    def percent(self) -> float | None:
        """None without calls."""
        return 100 * self.covered / self.calls if self.calls else None


@dataclass
class GuardrailFigures:
    """Calls of the last seven days (scans of input and output count apart), and what was found."""

    scans: int = 0
    hit: int = 0
    blocked: int = 0
    redacted: int = 0
    unavailable: int = 0
    """Scans in which Presidio did not answer."""
    found: Counter[str] = field(default_factory=Counter)

    @property
    def entities(self) -> list[tuple[str, int]]:
        """Name and hits, most first."""
        return [(NAMES.get(entity, entity.replace("_", " ").capitalize()), hits) for entity, hits in self.found.most_common()]


def switches() -> list[tuple[Pillar, Switch | None]]:
    """Every pillar with its switch in the current schema; None when it was never moved."""
    found = {switch.pillar: switch for switch in Switch.objects.select_related("actor")}
    return [(pillar, found.get(pillar.value)) for pillar in Pillar]


def effects(tenant: Tenant | None) -> QuerySet[Effect]:
    """Changes whose way to the gateway was timed, and drills, newest first: of an organisation, or of everybody."""
    return Effect.objects.filter(tenant=tenant).select_related("actor").order_by("-decided_at", "-pk")


def policies(*, mode: str = "", query: str = "") -> QuerySet[Policy]:
    """With the version in force and the number of the newest one. `query` looks in names (`namespace.name`) and descriptions."""
    newest = PolicyVersion.objects.filter(policy=OuterRef("pk")).order_by("-number").values("number")[:1]
    found = Policy.objects.select_related("active").annotate(newest=Subquery(newest))
    if mode:
        found = found.filter(mode=mode)
    if query:
        found = found.alias(whole=Concat("namespace", Value("."), "name")).filter(
            Q(whole__icontains=query) | Q(description__icontains=query)
        )
    return found


def versions_of(policy: Policy) -> QuerySet[PolicyVersion]:
    """Newest first."""
    return policy.versions.select_related("author", "policy")


def policy_figures(since: datetime | None = None) -> tuple[dict[str, PolicyFigures], Coverage]:
    """By policy name, and over all calls."""
    figures: dict[str, PolicyFigures] = {}
    calls = covered = 0
    for row in _verdicts(since):
        if row.step == "policy":
            calls += row.calls
            covered += row.calls if row.found == "covered" else 0
        elif row.step.startswith("policy:"):
            name = row.step.removeprefix("policy:").rpartition("@")[0]
            found = figures.setdefault(name, PolicyFigures())
            found.covered += row.calls
            found.denied += row.calls if row.verdict == "policy_denied" else 0
            found.would_deny += row.calls if row.verdict == "would_deny" else 0
            found.errors += row.calls if row.verdict.endswith("_error") else 0
    return figures, Coverage(calls, covered)


def guardrails(query: str = "") -> QuerySet[Guardrail]:
    """`query` is looked for in names, kinds (as pages and as the API call them), and what they apply to."""
    found = Guardrail.objects.all()
    if query:
        kinds = [kind for kind, label in Guardrail.Kind.choices if query.casefold() in f"{kind}\n{label.casefold()}"]
        found = found.filter(Q(name__icontains=query) | Q(kind__in=kinds) | Q(ref__icontains=query))
    return found


def guardrail_figures(since: datetime | None = None) -> dict[str, GuardrailFigures]:
    """By guardrail name."""
    figures: dict[str, GuardrailFigures] = {}
    for row in _verdicts(since):
        if not row.step.startswith("guardrail:"):
            continue
        found = figures.setdefault(row.step.removeprefix("guardrail:"), GuardrailFigures())
        if row.found in (UNAVAILABLE, UNJUDGED):
            found.unavailable += row.hits
        elif row.found:
            found.found[row.found] += row.hits
        else:
            found.scans += row.calls
            found.hit += row.calls if row.verdict in FOUND else 0
            found.blocked += row.calls if row.verdict == "guardrail_blocked" else 0
            found.redacted += row.calls if row.verdict == "redacted" else 0
    return figures


def _verdicts(since: datetime | None) -> list[VerdictCount]:
    return call_figures().verdicts(since or timezone.now() - WINDOW)


def difference(old: PolicyVersion | None, new: PolicyVersion) -> list[tuple[str, str]]:
    """Lines of a version against the one before: (` `, `-` or `+`, text)."""
    lines = []
    for name in ("when", "require", "reason"):
        before, after = getattr(old, name, ""), getattr(new, name)
        if old is not None and before == after:
            lines.append((" ", f"{name:8} {after}"))
            continue
        lines += [(mark, f"{name:8} {text}") for mark, text in (("-", before), ("+", after)) if text]
    return lines
