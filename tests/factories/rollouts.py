"""Rollouts for tests: a small plan of two phases, metrics whose readings a test sets, and people who sign."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from catalog.services import prompts
from gateway.contract.flags import decide
from governance import metrics
from governance.metrics import Metric, Reading, Window
from governance.models import Membership, Tenant, User
from rollouts import exposure, flag_selectors, plans
from rollouts.models import Criterion, Evaluation, Experiment, Flag, Gate, Rollout
from rollouts.services import attestations, experiments, flag_changes, flags, gates, rollouts, signatures
from tests import cast
from tests.factories import catalog, costs

PLAN_YAML = """
key: two-steps
version: 1
title: Two steps
summary: A plan for tests.
source: Nobody's
phases:
  - key: pilot
    title: Pilot
    lane: pilot
    duration: 2 weeks
    duration_days: 14
    audience: Five projects
    focus: Learn
    scope: [{included: Everything small}]
    rollback: {steps: [Switch it off], rto: under an hour, rto_minutes: 60}
    gate:
      title: Pilot → Everybody
      roles: [product, engineering]
      criteria:
        - {key: overhead, title: Overhead, quote: Overhead under 50 ms, origin: gate, role: engineering, rule: {metric: test.overhead, operator: "<", threshold: 50, unit: ms, window_hours: 168}}
        - {key: coverage, title: Coverage, quote: Coverage above 90%, origin: success, role: engineering, rule: {metric: test.coverage, operator: ">", threshold: 90, unit: "%", window_hours: 24, minimum_sample: 50}}
        - {key: feedback, title: Feedback settled, quote: Feedback settled, origin: success, role: product, evidence: The list}
        - {key: audit, title: Security audit, quote: Audit passed, origin: gate, role: security, severity: security, evidence: The report}
  - key: everybody
    title: Everybody
    lane: general
    duration: 4 weeks
    duration_days: 28
    audience: Everybody
    focus: Grow
    scope: [{included: Everything}]
    rollback: {steps: [Switch it off], rto: under two hours, rto_minutes: 120}
    gate:
      title: Everybody → Finished
      roles: [product]
      criteria:
        - {key: overhead, title: Overhead, quote: Overhead under 50 ms, origin: gate, role: engineering, rule: {metric: test.overhead, operator: "<", threshold: 50, unit: ms, window_hours: 168}}
"""
GOOD_OVERHEAD = Reading(12.0, sample=4000, low=11.0, high=13.0, statistics={"p99": 12})
BAD_OVERHEAD = Reading(53.8, sample=4000, low=51.9, high=55.6)
GOOD_COVERAGE = Reading(99.0, sample=950, low=98.1, high=99.5, statistics={"attributed": 941, "all": 950})


@dataclass
class Board:
    """What the test metrics read. A value that is an exception is raised."""

    readings: dict[str, Reading | Exception] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)

    def read(self, key: str, window: Window) -> Reading:
        self.windows.append(window)
        found = self.readings[key]
        if isinstance(found, Exception):
            raise found
        return found


@contextmanager
def readings() -> Iterator[Board]:
    """Registers test.overhead (ms) and test.coverage (%), both good, and takes them away again."""
    board = Board({"test.overhead": GOOD_OVERHEAD, "test.coverage": GOOD_COVERAGE})
    registry: dict[str, Metric] = metrics._metrics
    before = dict(registry)
    metrics.register(
        Metric("test.overhead", "Overhead", "ms", "lower", 100, lambda window: board.read("test.overhead", window), "For tests.")
    )
    metrics.register(
        Metric("test.coverage", "Coverage", "%", "higher", 10, lambda window: board.read("test.coverage", window), "For tests.")
    )
    try:
        yield board
    finally:
        registry.clear()
        registry.update(before)


_parsed = functools.cache(plans.parse)


@contextmanager
def shipped_plan(text: str = PLAN_YAML) -> Iterator[plans.Plan]:
    """A further plan in the library."""
    plan = _parsed(text)
    library = plans._library()
    library[plan.key] = plan
    try:
        yield plan
    finally:
        library.pop(plan.key, None)


def person(name: str) -> User:
    """Of the cast, for what a file lays out before any test asks for people."""
    return User.objects.get(email=cast.email(name))


def membership(user: User, tenant: Tenant) -> Membership:
    return Membership.objects.get(user=user, tenant=tenant)


def make_rollout(*, owner: User, slug: str = "small", plan_key: str = "two-steps", **values: Any) -> Rollout:
    return rollouts.start_rollout(plan_key=plan_key, slug=slug, name=values.pop("name", slug.title()), owner=owner, actor=owner, **values)


def gate_of(rollout: Rollout, number: int = 1) -> Gate:
    return Gate.objects.select_related("rollout", "phase", "latest").get(rollout=rollout, number=number)


def evaluate(gate: Gate, **values: Any) -> Evaluation:
    evaluation = gates.evaluate_gate(gate=gate, trigger=Evaluation.Trigger.PERSON, **values)
    assert evaluation is not None
    return evaluation


def attest_all(gate: Gate, *people: Membership, met: bool = True, **values: Any) -> None:
    """Every attestation of the gate, each by the first of the people who holds its role."""
    from rollouts import signing

    for criterion in Criterion.objects.filter(gate=gate, kind="attestation"):
        person = next(person for person in people if criterion.role in signing.held_by(person.roles))
        attestations.attest(criterion=criterion, met=met, note_text="Seen.", person=person, **values)


def go(gate: Gate, role: str, person: Membership, **values: Any) -> Any:
    latest = gate_of(gate.rollout, gate.number).latest
    assert latest is not None
    return signatures.sign(gate=gate, role=role, decision="go", digest=latest.digest, person=person, comment="Looks right.", **values)


def make_flag(owner: User, **fields: Any) -> Flag:
    """A boolean flag, off, for assistants, sticky by user."""
    facts: dict[str, Any] = {
        "key": "ai.search.rerank-1", "title": "New ranking", "kind": "boolean", "variants": {"off": False, "on": True}, "control": "off",
        "feature_class": "assistants", "sticky": "user",
    }  # fmt: skip
    return flags.create_flag(**{**facts, **fields}, actor=owner)


def make_split_flag(
    owner: User, other: User, *, percentage: int = 50_000, variants: tuple[str, ...] = ("old", "new"), **fields: Any
) -> Flag:
    """A flag that leads calls to `chat` to a model per variant, with a part of everybody exposed. The first variant is the control."""
    for name in variants:
        catalog.make_model(owner=owner, slug=f"chat-{name}")
    flag = make_flag(
        owner, key="ai.chat.next-model", kind="string", variants={name: f"chat-{name}" for name in variants}, control=variants[0],
        model="chat", **fields,
    )  # fmt: skip
    Flag.objects.filter(pk=flag.pk).update(rollout_salt="rollout", variant_salt="variant")  # the same people in the same arms in every run
    change_exposure(flag, owner, other, on=True, percentage=percentage)
    return flag


def make_treatment_flag(owner: User, other: User, *, percentage: int = 50_000, **treatments: dict[str, Any]) -> Flag:
    """A flag on calls to `chat` whose variants are treatments, half of everybody exposed: `old`, the control, and what is given, with versions 1
    and 2 of the prompt `greeting`."""
    catalog.make_model(owner=owner, slug="chat", max_output_tokens=4096)
    messages = [[{"role": "system", "content": text}] for text in ("Greet.", "Greet warmly.")]
    prompt = prompts.create_prompt(slug="greeting", name="Greeting", messages=messages[0], actor=owner)
    for version in (prompt.versions.get(), prompts.write_version(prompt=prompt, messages=messages[1], actor=owner)):
        prompts.approve_version(version=prompts.submit_version(version=version, actor=owner), actor=other)
    variants = {"old": {"prompt": "greeting@1"}, **treatments}
    flag = make_flag(owner, key="ai.chat.tone", kind="object", variants=variants, control="old", model="chat")
    Flag.objects.filter(pk=flag.pk).update(rollout_salt="rollout", variant_salt="variant")
    change_exposure(flag, owner, other, on=True, percentage=percentage)
    return flag


def change_exposure(flag: Flag, one: User, other: User, **parts: Any) -> None:
    flag.refresh_from_db()
    change = flag_changes.propose_change(flag=flag, exposure=exposure.changed(flag.exposure, **parts), reason="Next step", actor=one)
    if change.is_open:
        flag_changes.approve_change(change=change, actor=other)
    flag.refresh_from_db()


def make_experiment(flag: Flag, actor: User, *, at: datetime | None = None, **fields: Any) -> Experiment:
    """About latency, on 50 units per arm, with the error rate as its guardrail; started when `at` is given."""
    facts: dict[str, Any] = {
        "slug": "next-model", "name": "Next model", "hypothesis": "It answers sooner.", "metric": "latency", "effect": 5.0,
        "minimum_units": 50, "max_days": 14, "guardrails": [{"metric": "error_rate", "margin": 5.0}],
    }  # fmt: skip
    experiment = experiments.create_experiment(**{**facts, **fields}, flag=flag, actor=actor)
    return experiments.start_experiment(experiment=experiment, actor=actor, at=at) if at else experiment


def flagged_call(tenant: Tenant, flag: Flag, user: str, **fields: Any) -> dict[str, Any]:
    """A call that the flag decided, as the plane records it. `fields` may hold functions of the variant."""
    decision = decide(flag_selectors.compiled(flag), {"user": user}, consent=True)
    assert flag.current is not None
    detail = f"{flag.key} {flag.current.number}: {decision.variant} by {decision.rule}. {decision.detail}"
    model = flag.comparison.treatments[decision.variant].model
    told = {name: value(decision.variant) if callable(value) else value for name, value in fields.items()}
    return costs.call(
        tenant, model=model, tags={f"flag.{flag.key}": decision.variant}, steps=[["identify", "pass", 4, ""], ["flags", "pass", 9, detail]],
        **told,
    )  # fmt: skip
