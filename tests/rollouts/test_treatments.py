"""Experiments on prompts and parameters: flags whose variants are treatments, compared arm by arm, the winner's label moved by two people."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from catalog import prompt_selectors
from catalog.errors import InvalidValueError
from catalog.models import Model, ModelReview, Prompt
from catalog.services import prompts, reviews
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from rollouts import exposure
from rollouts.errors import ExperimentInvalidError, ExposureInvalidError
from rollouts.models import Experiment, Flag, FlagChange
from rollouts.services import experiments, flag_changes, flags
from tests.catalog.test_prompts import approve
from tests.conftest import ClientFor
from tests.factories import costs
from tests.factories.rollouts import change_exposure, flagged_call, make_experiment, make_flag, make_treatment_flag, person
from tests.rollouts.conftest import laid_out_flag

START = timezone.now() - timedelta(days=2)
WARM = {"prompt": "greeting@2", "parameters": {"temperature": 0.9, "max_tokens": 200}}


laid_out = laid_out_flag(lambda: make_treatment_flag(person("rita"), person("adam"), warm=WARM))


def test_treatments_name_a_model_an_approved_version_and_bounded_parameters(flag: Flag, rita: User) -> None:
    assert flag.variants == {"old": {"model": "chat", "prompt": "greeting@1"}, "warm": {"model": "chat", **WARM}}

    for treatment, said in (
        ({"prompt": "greeting@9"}, "no approved version greeting@9"),
        ({"model": "none", "prompt": "greeting@2"}, "no model none"),
        ({"model": "chat"}, "the control too"),
        ({"prompt": "greeting@2", "parameters": {"max_tokens": 5000}}, "4,096 tokens at most"),
        ({"prompt": "greeting@2", "parameters": {"seed": 1}}, "no parameter seed"),
        (7, "of type object"),
    ):
        with pytest.raises(ExposureInvalidError, match=said):
            make_flag(
                rita, key="ai.chat.other", kind="object", variants={"old": {"prompt": "greeting@1"}, "new": treatment}, control="old",
                model="chat",
            )  # fmt: skip


def test_gateway_keeps_the_versions_that_a_flag_names(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    """However many newer ones are approved: the champion is pinned. What is kept for it counts in the bound of the snapshot."""
    prompt = Prompt.objects.get(slug="greeting")
    for number in range(3, 14):
        approve(prompts.write_version(prompt=prompt, messages=[{"role": "user", "content": str(number)}], actor=rita), rita, adam)

    snapshot = compile_snapshot(acme, 1)

    assert sorted(snapshot.prompts[prompt.slug].versions) == [1, 2, *range(4, 14)]
    assert snapshot.flags[flag.key].variants["warm"] == {"model": "chat", **WARM}
    size = prompt_selectors.served_characters()
    assert prompt_selectors.version_named("greeting@1").number == 1
    flags.archive_flag(flag=switched_off(flag, rita), actor=rita)
    assert prompt_selectors.served_characters() < size
    with pytest.raises(InvalidValueError, match="not served any more"):
        prompt_selectors.version_named("greeting@1")


def run(tenant: Tenant, flag: Flag, person: User, **fields: Any) -> Experiment:
    """Read: the warm prompt takes three quarters of the time."""
    experiment = make_experiment(flag, person, at=START, slug="tone", **fields)
    dice = random.Random(3)
    slow = {"duration_us": lambda variant: round(dice.uniform(0.9, 1.1) * (800_000 if variant == "old" else 600_000))}
    calls = [flagged_call(tenant, flag, f"user-{number}", started_at=START + timedelta(hours=1), **slow) for number in range(200)]
    costs.record(tenant, *calls)
    experiments.read_experiment(experiment=experiment, at=START + timedelta(days=1))
    experiment.refresh_from_db()
    return experiment


def test_winner_moves_the_label_once_a_second_person_agrees(
    acme: Tenant, flag: Flag, rita: User, adam: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = run(acme, flag, rita, label="production")
    assert experiment.latest is not None
    assert (experiment.latest.report.advice, experiment.latest.report.winner) == ("promote", "warm")

    decided = experiments.decide(experiment=experiment, decision="promote", winner="warm", note="Warmer and sooner", actor=rita)

    change = decided.change
    assert change is not None
    assert (change.status, change.prompt, change.label) == (FlagChange.Status.PROPOSED, "greeting@2", "production")
    prompt = Prompt.objects.get(slug="greeting")
    assert not prompt.labels.exists()
    monkeypatch.setattr(prompt_selectors, "MOST_SERVED", 1)  # the winner is among the newest no more
    approve(prompts.write_version(prompt=prompt, messages=[{"role": "user", "content": "Newer"}], actor=rita), rita, adam)
    flag_changes.approve_change(change=change, actor=adam)
    moved = prompt.labels.get(name="production")
    assert (moved.version.number, moved.moved_by) == (2, adam)
    assert AuditEntry.objects.filter(event="prompt.label_moved", actor_name=adam.name).exists()


def test_parameters_of_the_winner_are_proposed_as_defaults_of_its_model(
    acme: Tenant, flag: Flag, rita: User, adam: User, client_for: ClientFor
) -> None:
    flags.archive_flag(flag=switched_off(flag, rita), actor=rita)
    warm = {"temperature": 0.9, "max_tokens": 200}
    heat = make_flag(
        rita, key="ai.chat.heat", kind="object", variants={"old": {}, "warm": {"parameters": warm}}, control="old", model="chat"
    )  # fmt: skip
    change_exposure(heat, rita, adam, on=True, percentage=50_000)
    experiment = run(acme, heat, rita)
    decided = experiments.decide(experiment=experiment, decision="promote", winner="warm", note="Warmer", actor=rita)
    assert not ModelReview.objects.exists()  # not before the promotion is in force

    assert decided.change is not None
    flag_changes.approve_change(change=decided.change, actor=adam)

    review = ModelReview.objects.get()
    assert (review.kind, review.asked_by, review.reason) == ("parameters", rita, "Experiment tone: Warmer")
    assert "Default parameters" in client_for(adam).get("/o/acme/models/chat/?tab=approval").content.decode()
    reviews.approve(review=review, actor=adam)
    assert Model.objects.get(slug="chat").default_parameters == warm
    assert "temperature 0.9, max_tokens 200" in client_for(rita).get("/o/acme/models/chat/").content.decode()


def test_label_that_cannot_move_keeps_the_change_from_being_applied(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    experiment = run(acme, flag, rita, label="production")
    decided = experiments.decide(experiment=experiment, decision="promote", winner="warm", note="Warmer", actor=rita)
    prompts.archive_prompt(prompt=Prompt.objects.get(slug="greeting"), actor=rita)

    assert decided.change is not None
    with pytest.raises(InvalidValueError, match="greeting@2"):
        flag_changes.approve_change(change=decided.change, actor=adam)

    flag.refresh_from_db()
    assert flag.exposure.percentage == 50_000


def test_label_needs_versions_that_are_compared_and_a_name_that_a_label_can_have(flag: Flag, rita: User) -> None:
    with pytest.raises(ExperimentInvalidError, match="lower-case letter"):
        make_experiment(flag, rita, label="Production!")
    flag.variants = {"old": "chat", "warm": {"model": "chat", "parameters": {"top_p": 0.5}}}
    del flag.comparison
    with pytest.raises(ExperimentInvalidError, match="no versions of a prompt"):
        make_experiment(flag, rita, label="production")


def test_page_makes_a_comparison_and_shows_what_differs(flag: Flag, client_for: ClientFor, rita: User, bob: User) -> None:
    client, url = client_for(rita), "/o/acme/release/flags/new/treatments/"
    flags.archive_flag(flag=switched_off(flag, rita), actor=rita)
    asked = {
        "title": "Tone", "key": "ai.chat.heat", "model": "chat", "feature_class": "assistants", "sticky": "user", "name_0": "cool",
        "prompt_0": "greeting@1", "temperature_0": "0.2", "name_1": "hot", "prompt_1": "greeting@2", "temperature_1": "1.1",
        "reasoning_effort_1": "low",
    }  # fmt: skip

    assert client_for(bob).get(url).status_code == 403
    assert "greeting@2" in client.get(f"{url}?model=chat").content.decode()
    assert client.post(url, {**asked, "temperature_1": "3"}).status_code == 422
    assert "Name the arm" in client.post(url, {**asked, "top_p_3": "0.5"}).content.decode()
    assert client.post(url, asked).status_code == 302

    made = Flag.objects.get(key="ai.chat.heat")
    assert made.variants["hot"] == {
        "model": "chat", "prompt": "greeting@2", "parameters": {"temperature": 1.1, "reasoning_effort": "low"},
    }  # fmt: skip
    page = client.get(f"/o/acme/release/flags/{made.key}/").content.decode()
    assert "What they do to a call" in page
    draft = make_experiment(made, rita, slug="heat", label="production")
    shown = client.get(f"/o/acme/release/experiments/{draft.slug}/").content.decode()
    for said in ("What is compared", "greeting@2", "reasoning_effort", "that ask for a label of the prompt greeting", "Promotion moves"):
        assert said in shown


def switched_off(flag: Flag, person: User) -> Flag:
    flag_changes.lower_in_emergency(flag=flag, exposure=exposure.changed(flag.exposure, on=False), reason="Over", actor=person)
    flag.refresh_from_db()
    return flag


def test_api_tells_what_each_arm_does(flag: Flag, api_for: ClientFor, rita: User) -> None:
    body = {
        "slug": "tone", "name": "Tone", "hypothesis": "Warmer.", "flag": flag.key, "metric": "latency", "effect": 5, "minimum_units": 50,
        "max_days": 14, "label": "production",
    }  # fmt: skip
    made = api_for(rita).post("/api/v1/experiments/", body).json()

    assert made["label"] == "production"
    assert [(arm["variant"], arm["prompt"], arm["parameters"], arm["differs"]) for arm in made["arms"]] == [
        ("old", "greeting@1", {}, []),
        ("warm", "greeting@2", WARM["parameters"], ["prompt", "temperature", "max_tokens"]),
    ]
