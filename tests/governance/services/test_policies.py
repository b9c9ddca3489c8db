"""Policies from the first draft to enforcement and back, with four eyes and a replay in between."""

from datetime import timedelta

import pytest
from django.utils import timezone

from costs.models import VerdictHour
from gateway.publish.publisher import compile_snapshot
from governance import control_selectors as selectors
from governance.errors import PolicyError, PolicyStateError
from governance.models import AuditEntry, Notice, Policy, Tenant, User
from governance.services import policies
from tests.factories import catalog as make_catalog
from tests.factories import costs as make


@pytest.fixture
def eu_only(acme: Tenant, adam: User) -> Policy:
    return policies.create_policy(namespace="data", name="eu-only", when="true", require='egress.region.startsWith("eu")', actor=adam)


def replayed(policy: Policy, actor: User) -> Policy:
    version = selectors.versions_of(policy).first()
    assert version is not None
    policies.replay_version(version=version, actor=actor)
    return policy


def test_new_policy_is_off_and_reaches_no_plane(acme: Tenant, eu_only: Policy) -> None:
    assert (eu_only.mode, eu_only.active) == ("off", None)
    assert compile_snapshot(acme, 1).policies == ()
    assert AuditEntry.objects.get(event="policy.created").target_name == "data.eu-only"


def test_names_are_taken_once_and_expressions_must_be_good(eu_only: Policy, adam: User) -> None:
    with pytest.raises(PolicyError, match="already") as taken:
        policies.create_policy(namespace="data", name="eu-only", when="true", require="time.hour < 8", actor=adam)
    with pytest.raises(PolicyError, match=r"There is no model\.colour") as bad:
        policies.write_version(policy=eu_only, when="true", require='model.colour == "x"', actor=adam)

    assert (taken.value.field, bad.value.field) == ("name", "require")


def test_enforcing_takes_a_replay_and_a_second_person(acme: Tenant, eu_only: Policy, adam: User, sam: User) -> None:
    with pytest.raises(PolicyStateError, match="Replay"):
        policies.set_mode(policy=eu_only, mode="enforce", actor=sam)
    replayed(eu_only, adam)
    with pytest.raises(PolicyStateError, match="Somebody else"):
        policies.set_mode(policy=eu_only, mode="enforce", actor=adam)

    policies.set_mode(policy=eu_only, mode="enforce", actor=sam)

    [served] = compile_snapshot(acme, 1).policies
    assert (served.name, served.version, served.enforce) == ("data.eu-only", 1, True)
    assert AuditEntry.objects.filter(event="policy.enforce", actor_name=sam.name).exists()
    assert Notice.objects.filter(topic="policy.enforced").exists()


def test_new_version_waits_beside_the_one_in_force(acme: Tenant, eu_only: Policy, adam: User, sam: User) -> None:
    policies.set_mode(policy=replayed(eu_only, adam), mode="enforce", actor=sam)

    second = policies.write_version(policy=eu_only, when="true", require='egress.region == "eu-west"', actor=adam)
    same = policies.write_version(policy=eu_only, when="true", require='egress.region == "eu-west"', actor=adam)

    assert (second.number, same.pk) == (2, second.pk)
    assert compile_snapshot(acme, 1).policies[0].version == 1
    policies.set_mode(policy=eu_only, mode="dry_run", version=second, actor=adam, reason="Tighter, so first on trial.")
    [served] = compile_snapshot(acme, 1).policies
    assert (served.version, served.enforce) == (2, False)


def test_taking_back_takes_one_person_and_a_reason(acme: Tenant, eu_only: Policy, adam: User, sam: User) -> None:
    policies.set_mode(policy=replayed(eu_only, adam), mode="enforce", actor=sam)

    with pytest.raises(PolicyStateError, match="why"):
        policies.set_mode(policy=eu_only, mode="off", actor=sam)
    with pytest.raises(PolicyStateError, match="Switch it off"):
        policies.delete_policy(policy=eu_only, actor=sam)
    policies.set_mode(policy=eu_only, mode="off", actor=sam, reason="Checkout is down.")

    assert compile_snapshot(acme, 1).policies == ()
    assert Notice.objects.get(topic="policy.taken_back").text == "Checkout is down."
    policies.delete_policy(policy=eu_only, actor=sam)
    assert not Policy.objects.exists()


def test_replay_counts_what_would_have_been_refused(acme: Tenant, eu_only: Policy, adam: User, alice: User) -> None:
    now = timezone.now()
    make_catalog.make_provider(slug="openai")
    day = {"started_at": now - timedelta(days=1)}
    make.record(
        acme,
        make.call(acme, region="eu-west", **day),
        make.call(acme, region="us-east", request_id="abroad", **day),
        make.call(acme, region="us-east", request_id="abroad", **day),
        make.call(acme, **day, **make.REFUSED),  # never came as far as the policies
        make.call(acme, region="us-east", started_at=now - timedelta(days=9)),
    )
    version = selectors.versions_of(eu_only).first()
    assert version is not None

    outcome = policies.replay_version(version=version, actor=adam)

    assert (outcome.calls, outcome.covered, outcome.denied, outcome.errors, outcome.unknown) == (3, 3, 2, 0, 0)
    assert outcome.groups == [{"attributes": "egress.region=us-east", "calls": 2, "example": "abroad"}]
    version.refresh_from_db()
    assert version.replay is not None
    assert version.replay["denied"] == 2


def test_replay_tells_tags_projects_and_hours_apart(acme: Tenant, adam: User, alice: User) -> None:
    noon = timezone.now().replace(hour=12, minute=0) - timedelta(days=2)
    make.record(
        acme,
        make.call(acme, started_at=noon, tags={"team": "cart"}),
        make.call(acme, started_at=noon),
        make.call(acme, started_at=noon + timedelta(hours=10), tags={"team": "cart"}),
    )
    policy = policies.create_policy(
        namespace="ops", name="hours", when='"team" in tags', require='time.hour < 18 && tags["team"] == "cart"', actor=adam
    )
    version = selectors.versions_of(policy).first()
    assert version is not None

    outcome = policies.replay_version(version=version, actor=adam)

    assert (outcome.calls, outcome.covered, outcome.denied) == (3, 2, 1)


def test_verdicts_of_calls_become_figures(acme: Tenant) -> None:
    covered = [["policy", "pass", 3, "covered"], ["policy:data.eu-only@1", "pass", 0, "egress.region=eu"]]
    denied = [["policy", "policy_denied", 3, "policy:data.eu-only@2"], ["policy:data.eu-only@2", "policy_denied", 0, "egress.region=us"]]
    guarded = [
        ["policy", "pass", 1, ""],
        ["guardrail:no-pii", "redacted", 0, "input card=1 email=2"],
        ["guardrail:no-pii", "pass", 0, "output"],
    ]
    make.record(acme, make.call(acme, steps=covered), make.call(acme, steps=denied), make.call(acme, steps=guarded))
    make.record(acme, make.call(acme, steps=guarded))

    by_policy, coverage = selectors.policy_figures()
    guardrails = selectors.guardrail_figures()

    assert (coverage.calls, coverage.covered, coverage.percent) == (4, 2, 50.0)
    assert (by_policy["data.eu-only"].covered, by_policy["data.eu-only"].denied) == (2, 1)
    found = guardrails["no-pii"]
    assert (found.scans, found.hit, found.redacted, found.blocked) == (4, 2, 2, 0)
    assert found.entities == [("E-mail addresses", 4), ("Payment cards", 2)]
    assert VerdictHour.objects.filter(step="call_upstream").count() == 0
