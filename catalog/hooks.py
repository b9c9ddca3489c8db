"""What the floors above (costs, the gateway) tell the catalog: prices, usage, health. Filled by their apps when they are loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

from governance.models import User
from governance.roles import Permission


@dataclass(frozen=True)
class Price:
    """List price in USD per million tokens."""

    input_per_million: Decimal
    output_per_million: Decimal
    units: Mapping[str, Decimal] = field(default_factory=dict)
    """Of other token classes that have a price, per million; see `gateway.contract.events.CallEvent.units`."""


@dataclass(frozen=True)
class Usage:
    """What went through the gateway over the last 30 days."""

    calls: int = 0
    errors: int = 0
    """Of `calls`: failed, or left by the caller."""
    refused: int = 0
    """Of `calls`."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal | None = None
    """None when nothing was priced."""
    unpriced_calls: int = 0
    """That reached a model and have no price: their cost is not in `cost_usd`."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    ttft_ms: float | None = None
    last_used_at: datetime | None = None


@dataclass(frozen=True)
class PromptUsage:
    """What calls of one version of a prompt came to over the last 30 UTC days, on all models."""

    version: int
    calls: int
    errors: int
    """Of `calls`: failed, or left by the caller."""
    refused: int
    """Of `calls`."""
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None
    """None when no call that could have cost something had a price."""
    unpriced_calls: int
    """Of `calls`: their cost is in nothing here."""

    @property
    def cost_per_call_usd(self) -> Decimal | None:
        """Over the calls that were let through and have a price; None without one."""
        priced = self.calls - self.refused - self.unpriced_calls
        return self.cost_usd / priced if self.cost_usd is not None and priced > 0 else None


@dataclass(frozen=True)
class Failovers:
    """How often calls to a model went to another deployment on one UTC day, for one reason."""

    day: date
    reason: str
    """Of the deployment that was left: an HTTP status, or a code such as `upstream_timeout`."""
    calls: int


@dataclass(frozen=True)
class Tries:
    """How the tries of calls at one deployment went. Callers who left, refusals and deployments that were not asked are not in it."""

    answered: int = 0
    failed: int = 0
    """The call ended here without an answer."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Of the tries after which a call went on to another deployment: why to how many, the most frequent first."""

    @property
    def failed_over(self) -> int:
        return sum(self.reasons.values())

    @property
    def total(self) -> int:
        return self.answered + self.failed + self.failed_over


@dataclass(frozen=True)
class RoutedDay:
    """What came of choosing among a model's deployments by its objectives, on one UTC day."""

    day: date
    calls: int
    """In which there was a choice."""
    explored: int
    """Of these, calls that tried another deployment than the best one."""
    judged: int
    """Calls whose regret is known: they were answered."""
    regret_percent: float | None
    """Mean of the judged calls: by how much of the whole utility another candidate would have been better. None when none was judged."""


@dataclass(frozen=True)
class DeploymentHour:
    """Answered calls of a model that ended at one deployment in one hour, UTC."""

    hour: datetime
    deployment: str
    calls: int
    median_ms: float | None


@dataclass(frozen=True)
class Traffic:
    """A model's answered calls by deployment, and what an average one uses."""

    hours: list[DeploymentHour]
    medians_ms: Mapping[str, float]
    """By deployment, over all hours."""
    input_tokens: float | None
    """Of an average call; None without calls."""
    output_tokens: float | None


@dataclass(frozen=True)
class Findings:
    """What one guardrail said of a call."""

    guardrail: str
    verdict: str
    """`pass`, `flagged`, `redacted`, or the code of the refusal."""
    direction: str
    """input or output."""
    counts: Mapping[str, int]
    """Entity to how often; what was found is never recorded."""


@dataclass(frozen=True)
class CallRecord:
    """What was recorded of one call."""

    url: str
    """Of its own page."""
    provider: str
    cost_usd: Decimal | None
    """None while unpriced."""
    is_cached: bool
    """The answer had been given before."""
    failovers: int
    """How often it went to another deployment."""
    findings: list[Findings]
    """Of every guardrail that looked at it."""


class CostFigures(Protocol):
    """Implemented by `costs.figures`."""

    def current_prices(self) -> Mapping[tuple[str, str], Price]:
        """(provider slug, model slug) to its price today; unpriced pairs are missing."""

    def set_list_price(self, *, provider: str, model: str, price: Price, actor: User) -> None:
        """Put a price in force from now on, in the caller's transaction, with its audit entry."""

    def usage_by_model(self, slugs: Iterable[str] | None = None) -> Mapping[str, Usage]:
        """By model slug (tools as `<namespace>__<tool>`); models without calls are missing."""

    def usage_by_key(self, public_ids: Iterable[str]) -> Mapping[str, Usage]:
        """By key id; keys without calls are missing."""

    def usage_by_prompt_version(self, prompt: str) -> list[PromptUsage]:
        """Of the prompt, newest version first; versions that no call named are missing."""

    def failovers(self, model: str, since: date) -> list[Failovers]:
        """Of the model since that UTC day: newest day first, within it the most frequent reason."""

    def tries_by_deployment(self, models: Iterable[str], since: datetime) -> Mapping[str, Tries]:
        """Id of a deployment of these models to its tries since that hour; deployments without any are missing."""

    def routed_days(self, model: str, since: datetime) -> list[RoutedDay]:
        """Since that hour, newest day first; days without a choice are missing."""

    def traffic_by_deployment(self, model: str, since: datetime) -> Traffic:
        """Since that hour, whole hours."""

    def call_record(self, request_id: str, keys: Iterable[str]) -> CallRecord | None:
        """The newest call with that request id by one of these key ids; None while there is none."""


_figures: list[CostFigures] = []


def register_cost_figures(figures: CostFigures) -> None:
    """Called once, from `costs.apps`."""
    _figures[:] = [figures]


def cost_figures() -> CostFigures:
    """The registered figures; RuntimeError when the costs app is not installed."""
    if not _figures:
        raise RuntimeError("no app offers cost figures")
    return _figures[0]


@dataclass(frozen=True)
class LimitUse:
    """What the gateway's processes were granted of one limit in its present window, or run at once now."""

    used: int
    resets_at: datetime | None
    """None for calls at once."""


LimitUses = Callable[[Iterable[str]], Mapping[str, LimitUse]]
_limit_uses: list[LimitUses] = []


def register_limit_uses(read: LimitUses) -> None:
    """`read(counter ids)` of the current tenant, by counter id; ids that nothing was used of are missing. Called from `gateway.publish`."""
    _limit_uses[:] = [read]


def limit_uses(counter_ids: Iterable[str]) -> Mapping[str, LimitUse]:
    """Empty while no gateway is installed."""
    return _limit_uses[0](counter_ids) if _limit_uses else {}


@dataclass(frozen=True)
class ModelTab:
    """A page about one model that a floor above has; its URL takes the model's slug."""

    name: str
    label: str
    url_name: str
    permission: Permission


_model_tabs: list[ModelTab] = []


def register_model_tab(tab: ModelTab) -> None:
    """Called once for each, when its app is loaded."""
    _model_tabs.append(tab)


def model_tabs() -> list[ModelTab]:
    return list(_model_tabs)


@dataclass(frozen=True)
class CircuitChange:
    """A plane's verdict on a deployment changed, see `gateway.plane.health`."""

    deployment: str
    """Its id, as planes know it."""
    provider: str
    circuit: str
    """closed, open or half_open."""
    at: datetime
    calls: int
    """In the minute before."""
    errors: int
    cooldown_s: float
    """Until the next probe; 0 unless open."""
    reason: str
    """What came of the call that changed it."""


@dataclass(frozen=True)
class Circuit:
    """What planes last said of one deployment."""

    newest: CircuitChange
    opening: CircuitChange | None
    """The newest change to open; None when there is none in the last 30 days."""
    ill_since: datetime | None
    """The first opening that no closing followed."""


class Circuits(Protocol):
    """Implemented by `gateway.publish.health`. All of the current tenant, of the last 30 days."""

    def circuits(self, deployments: Iterable[str]) -> Mapping[str, Circuit]:
        """By deployment id; those that never changed are missing."""

    def changes(self, model: str, deployments: Iterable[str], *, limit: int) -> list[CircuitChange]:
        """Of a model's deployments, those that were removed too: newest first."""


class _NoCircuits:
    def circuits(self, deployments: Iterable[str]) -> Mapping[str, Circuit]:
        return {}

    def changes(self, model: str, deployments: Iterable[str], *, limit: int) -> list[CircuitChange]:
        return []


_circuits: list[Circuits] = [_NoCircuits()]


def register_circuits(circuits: Circuits) -> None:
    """Called once, from `gateway.publish`."""
    _circuits[:] = [circuits]


def circuits() -> Circuits:
    """Knows of no change while no gateway is installed."""
    return _circuits[0]


@dataclass(frozen=True)
class ExperimentLine:
    """An experiment that measures a model beside others."""

    name: str
    url: str
    state: str
    """In a word or two."""
    sentence: str
    """What is known; empty before it was read."""


@dataclass(frozen=True)
class ModelExperiments:
    lines: list[ExperimentLine]
    """Newest first, at most ten."""
    start_url: str
    start_label: str
    """The next step of whoever wants to compare the model with another one."""


ReadExperiments = Callable[[str], ModelExperiments]
_experiments: list[ReadExperiments] = []


def register_experiments(read: ReadExperiments) -> None:
    """`read(model slug)` in the current tenant. Called once, from `rollouts`."""
    _experiments[:] = [read]


def experiments_on(model: str) -> ModelExperiments | None:
    """None while no rollouts are installed."""
    return _experiments[0](model) if _experiments else None


@dataclass(frozen=True)
class Asked:
    """One thing that the floor above asks of a deployment or a prompt version before it is served, and how it stands."""

    what: str
    """Such as `faithfulness >= 0.9`."""
    glyph: str
    """Of the verdict: pass, fail, inconclusive, no_data, waived."""
    reason: str
    url: str
    """Where it can be waived; empty when it can't."""


class ApprovalChecks(Protocol):
    """Implemented by `rollouts`: evaluations that pass the thresholds of the feature class. All in the current tenant."""

    def check_model(self, slug: str, feature_class: str) -> None:
        """Raises a DomainError when the model may not be approved."""

    def check_prompt(self, version: str, model: str, feature_class: str) -> None:
        """The same of a version of a prompt or flow as `greeting@3`, with a model that it names."""

    def check_deployment(self, deployment: str, model: str, feature_class: str) -> None:
        """The same of a deployment, as `<provider>/<upstream model>`, that is added to a served model."""

    def asked_of_deployment(self, deployment: str, model: str, feature_class: str) -> list[Asked]:
        """How it stands with what `check_deployment` asks; empty when nothing is asked."""

    def asked_of_prompt(self, version: str, model: str, feature_class: str) -> list[Asked]:
        """How it stands with what `check_prompt` asks; empty when nothing is asked."""


class _NoChecks:
    def check_model(self, slug: str, feature_class: str) -> None:
        pass

    def check_prompt(self, version: str, model: str, feature_class: str) -> None:
        pass

    def check_deployment(self, deployment: str, model: str, feature_class: str) -> None:
        pass

    def asked_of_deployment(self, deployment: str, model: str, feature_class: str) -> list[Asked]:
        return []

    def asked_of_prompt(self, version: str, model: str, feature_class: str) -> list[Asked]:
        return []


_approval_checks: list[ApprovalChecks] = [_NoChecks()]


def register_approval_checks(checks: ApprovalChecks) -> None:
    """Called once, from `rollouts`."""
    _approval_checks[:] = [checks]


def approval_checks() -> ApprovalChecks:
    """Asks nothing while no rollouts are installed."""
    return _approval_checks[0]


NamedVersions = Callable[[], Collection[str]]
_named_versions: list[NamedVersions] = []


def register_named_versions(read: NamedVersions) -> None:
    """`read()` of the current tenant. Called once, from `rollouts`."""
    _named_versions[:] = [read]


def named_versions() -> Collection[str]:
    """Versions of prompts, as `greeting@3`, that flags name: served whatever their age. Empty while no rollouts are installed."""
    return _named_versions[0]() if _named_versions else ()
