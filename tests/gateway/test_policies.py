"""Policies: the language, its linter, and what the plane does with them."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from gateway.contract.policies import MAX_EXPRESSION_CHARACTERS, PolicyError, PolicySet, lint, sample
from gateway.contract.snapshot import Policy, Project
from tests.gateway.conftest import SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org


def make_policy(**fields: Any) -> Policy:
    given = {"name": "data.eu-only", "version": 1, "when": "true", "require": 'egress.region.startsWith("eu")', "enforce": True}
    return Policy(**{**given, **fields})


@pytest.mark.parametrize(
    "expression",
    [
        "true",
        'model.sensitivity in ["confidential", "restricted"]',
        'egress.region.startsWith("eu") || egress.host == "models.internal"',
        '"team" in tags && tags["team"] == "cart"',
        "time.hour >= 8 && time.hour < 18 && time.weekday <= 5",
        'caller.agent.matches("^cart-")',
        '["a", "b"].exists(name, name == caller.project)',
    ],
)
def test_good_expression_passes_the_linter(expression: str) -> None:
    lint(expression)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "is empty"),
        ("caller.project ==", "character"),
        ('model.colour == "blue"', "There is no model.colour"),
        ('nobody.name == "x"', "no attribute or function named nobody"),
        ("caller.project", "true or false"),
        ("1 == 1", "looks at no attribute"),
        ('tags["other"] == "x"', "tag may be missing"),
        ('time.hour + "x" == "y"', "overload"),
        (f'caller.project == "{"x" * MAX_EXPRESSION_CHARACTERS}"', "longer than"),
    ],
)
def test_linter_says_what_is_wrong(expression: str, said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        lint(expression)


def test_policy_covers_allows_denies_or_only_says_so() -> None:
    context = sample() | {"tags": {}}
    enforced = PolicySet(
        [
            make_policy(name="a.covers-nothing", when='caller.project == "other"'),
            make_policy(name="b.allows"),
            make_policy(name="c.denies", require='egress.region == "us"', reason="Stay at home."),
        ]
    )
    trial = PolicySet([make_policy(require='egress.region == "us"', enforce=False)])

    decisions = enforced.decide(context, egress=True)

    assert [(each.policy, each.verdict, each.refuses) for each in decisions] == [
        ("b.allows@1", "pass", False),
        ("c.denies@1", "policy_denied", True),
    ]
    assert decisions[-1].reason == "Stay at home."
    assert decisions[-1].attributes == "egress.region=eu-west"
    assert [each.verdict for each in trial.decide(context, egress=True)] == ["would_deny"]
    assert not any(each.refuses for each in trial.decide(context, egress=True))


def test_critical_ones_are_asked_first_and_what_cannot_be_evaluated_is_denied() -> None:
    policies = PolicySet(
        [
            make_policy(name="a.first-by-name", require="time.hour < 0"),
            make_policy(name="z.critical", require='tags["team"] == "cart"', critical=True),
        ]
    )

    [decision] = policies.decide(sample() | {"tags": {}}, egress=False)

    assert (decision.policy, decision.verdict, decision.refuses) == ("z.critical@1", "policy_error", True)
    assert decision.attributes == "tags.team="
    assert decision.reason.startswith("The policy z.critical does not allow it. (The policy z.critical could not be evaluated: ")


def test_call_is_refused_with_the_policys_reason(org: Org) -> None:
    org.change(policies=(make_policy(name="ops.tagged", require='"team" in tags', reason="Send a team tag."),))

    with pytest.raises(openai.PermissionDeniedError) as refused:
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO)
    org.client(default_headers={"x-gatehouse-tags": "team=cart"}).chat.completions.create(model="chat", messages=SAY_HELLO)

    assert refused.value.code == "policy_denied"
    assert isinstance(refused.value.body, dict)
    assert (refused.value.body["message"], refused.value.body["scope"]) == ("Send a team tag.", "policy:ops.tagged@1")
    denied, passed = org.plane.wait_for_events(org.id, 2)
    assert ["policy:ops.tagged@1", "policy_denied"] in [step[:2] for step in denied["steps"]]
    assert ["policy:ops.tagged@1", "pass"] in [step[:2] for step in passed["steps"]]
    assert [step[3] for step in passed["steps"] if step[0] == "policy"] == ["covered"]


def test_policy_on_trial_refuses_nothing_and_is_recorded(org: Org) -> None:
    org.change(policies=(make_policy(require='caller.project == "other"', enforce=False),))

    org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    [event] = org.plane.wait_for_events(org.id, 1)
    assert event["status"] == "ok"
    assert ["policy:data.eu-only@1", "would_deny", "caller.project=demo"] in [[step[0], step[1], step[3]] for step in event["steps"]]


def test_only_the_ways_out_that_a_policy_allows_are_taken(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    abroad = deployment(sandbox_upstream.base_url(), id="us", region="us-east", priority=0)
    at_home = deployment(sandbox_upstream.base_url(), id="eu", region="eu-west", priority=1)
    org = make_org(
        plane,
        sandbox_upstream,
        models={
            "chat": chat_model(abroad, at_home, sensitivity="confidential"),
            "open": chat_model(abroad, slug="open", sensitivity="public"),
        },
        projects={"demo": Project(slug="demo", name="Demo", environment="production")},
        policies=(make_policy(when='model.sensitivity == "confidential" && caller.environment == "production"'),),
    )

    for model in ("chat", "open"):
        org.client().chat.completions.create(model=model, messages=SAY_HELLO)
    org.change_now(models={"chat": chat_model(abroad, sensitivity="confidential")})
    with pytest.raises(openai.PermissionDeniedError) as refused:
        org.client().chat.completions.create(model="chat", messages=SAY_HELLO)

    assert refused.value.code == "policy_denied"
    first, second, third = org.plane.wait_for_events(org.id, 3)
    assert (first["deployment"], second["deployment"], third["error_code"]) == ("eu", "us", "policy_denied")
