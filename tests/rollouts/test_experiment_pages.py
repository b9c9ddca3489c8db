from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from gateway.contract.flags import BUCKETS
from governance import navigation, search
from governance.models import Tenant, User
from rollouts.models import Experiment, ExperimentReading, Flag
from rollouts.services import experiments
from tests.conftest import ClientFor
from tests.factories import costs
from tests.factories.rollouts import change_exposure, flagged_call, make_experiment, make_split_flag, membership, person
from tests.rollouts.conftest import laid_out_flag

BASE = "/o/acme/release/experiments/"
PAGE = f"{BASE}next-model/"
START = timezone.now() - timedelta(days=1)
TERMS = {
    "name": "Next model", "slug": "next-model", "hypothesis": "It answers sooner.", "flag": "ai.chat.next-model", "champion": "",
    "metric": "latency", "better": "lower", "effect": "5", "method": "sequential", "minimum_units": "60", "max_days": "14",
    "guard_error_rate": "1", "guard_cost": "", "guard_latency": "", "guard_ttft": "", "guard_output_tokens": "",
    "expected_latency_delta": "-20", "expected_quality_gain": "",
}  # fmt: skip


laid_out = laid_out_flag(lambda: make_split_flag(person("rita"), person("adam")))


@pytest.fixture
def running(acme: Tenant, flag: Flag, rita: User) -> Experiment:
    """Of a new model that takes three quarters of the time; read once."""
    experiment = make_experiment(flag, rita, at=START, expected_latency_delta=-20.0)
    arrive(acme, flag)
    experiments.read_experiment(experiment=experiment)
    return experiment


def arrive(tenant: Tenant, flag: Flag, users: int = 220, **fields: Any) -> None:
    dice = random.Random(3)
    facts: dict[str, Any] = {
        "started_at": START + timedelta(hours=1),
        "duration_us": lambda variant: round(dice.uniform(0.9, 1.1) * (800_000 if variant == "old" else 600_000)),
        **fields,
    }
    costs.record(tenant, *(flagged_call(tenant, flag, f"user-{number}", **facts) for number in range(users)))


def test_pages_open_from_their_plain_urls_for_every_member_and_nobody_else(
    running: Experiment, client_for: ClientFor, bob: User, charlie: User
) -> None:
    member, stranger, nobody = client_for(bob), client_for(charlie), client_for(None)

    for path in (BASE, f"{BASE}?tab=draft", f"{BASE}?tab=decided", f"{BASE}?tab=all&q=zzz", PAGE, f"{PAGE}?reading=1"):
        assert [client.get(path).status_code for client in (member, stranger, nobody)] == [200, 404, 302], path


def test_terms_become_a_draft_that_is_started(acme: Tenant, flag: Flag, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)

    wrong = client.post(f"{BASE}new/", {**TERMS, "guard_latency": "5"})
    made = client.post(f"{BASE}new/", TERMS)

    assert wrong.status_code == 422
    assert "other than the primary one" in wrong.text
    assert made["Location"] == PAGE
    experiment = Experiment.objects.get()
    assert (experiment.champion, experiment.guardrails) == ("old", [{"metric": "error_rate", "margin": 1.0}])
    assert (experiment.expected_latency_delta, experiment.expected_quality_gain) == (-20.0, None)
    assert "no call counts yet" in client.get(PAGE).text
    client.post(f"{PAGE}start/")
    assert "Not read yet" in client.get(PAGE).text


def test_draft_on_a_flag_without_a_split_says_so(flag: Flag, rita: User, adam: User, client_for: ClientFor) -> None:
    make_experiment(flag, rita)
    change_exposure(flag, rita, adam, percentage=BUCKETS)
    client = client_for(rita)

    assert "everybody gets the same variant" in client.get(PAGE).text
    client.post(f"{PAGE}start/")
    assert Experiment.objects.get().status == "draft"
    assert client.post(f"{PAGE}discard/")["Location"] == BASE
    assert not Experiment.objects.exists()


def test_planner_says_how_many_it_takes(acme: Tenant, flag: Flag, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)
    assert "Say what mean and spread you expect" in client.get(f"{BASE}new/").text

    arrive(acme, flag)
    measured = client.get(f"{BASE}new/", headers={"HX-Request": "true"}).text
    expected = client.get(f"{BASE}new/?metric=error_rate&effect=1&mean=2").text
    without_scripts = client.post(f"{BASE}new/", {**TERMS, "plan": "1", "name": "Kept"})

    assert "<html" not in measured
    assert "Units per arm" in measured
    assert "old</span> 50.0%" in measured
    assert "3,82" in expected
    assert without_scripts.status_code == 200
    assert 'value="Kept"' in without_scripts.text
    assert not Experiment.objects.exists()


def test_page_answers_in_its_first_line(running: Experiment, client_for: ClientFor, rita: User) -> None:
    page = client_for(rita).get(PAGE).text

    assert 'If you stop now: <b class="gh-strong">promote new</b>' in page
    assert page.index("Assignment") < page.index("Against no change") < page.index("Guardrails") < page.index("Readings")
    assert "Same advice, hash holds" in page
    assert "measured −2" in page  # the latency that was expected
    assert "checked" in page.partition('value="promote"')[2].partition(">")[0]


def test_earlier_reading_is_shown_as_it_was(acme: Tenant, running: Experiment, client_for: ClientFor, bob: User) -> None:
    experiments.read_experiment(experiment=running)
    client = client_for(bob)

    assert "What was known" in client.get(f"{PAGE}?reading=1").text
    assert "What was known" not in client.get(f"{PAGE}?reading=2").text
    assert client.get(f"{PAGE}?reading=3").status_code == 404
    ExperimentReading.objects.filter(sequence=1).update(evidence_hash="0" * 64)
    assert "Differs" in client.get(f"{PAGE}?reading=1").text


def test_readings_show_on_one_axis_how_the_effect_settled(acme: Tenant, flag: Flag, client_for: ClientFor, rita: User) -> None:
    experiment = make_experiment(flag, rita, at=START)
    arrive(acme, flag, users=60)
    experiments.read_experiment(experiment=experiment)
    arrive(acme, flag, users=220)
    experiments.read_experiment(experiment=experiment)

    response = client_for(rita).get(PAGE)

    (newest, (now,)), (oldest, (before,)) = response.context["course"]
    assert (newest.sequence, oldest.sequence) == (2, 1)
    assert now.bar.mark == before.bar.mark  # the same axis
    assert now.bar.width < before.bar.width  # more units know more
    assert now.value.startswith("−2")
    assert f'aria-label="new: {now.interval}"' in response.text


def test_decision_is_taken_on_what_was_seen(running: Experiment, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)

    without = client.post(f"{PAGE}decide/", {"decision": "promote", "winner": "new", "note": "", "seen": "1"})
    champion = client.post(f"{PAGE}decide/", {"decision": "promote", "winner": "old", "note": "Yes", "seen": "1"})
    done = client.post(f"{PAGE}decide/", {"decision": "promote", "winner": "new", "note": "Sooner", "seen": "1"}, follow=True)

    assert (without.status_code, champion.status_code) == (422, 422)
    assert "waits for a second person" in done.text
    assert "Change 2 of the flag</a>: waits for approval" in done.text
    assert client.post(f"{PAGE}decide/", {"decision": "hold", "note": "Again"}).status_code == 422
    assert "Promoted new" in client.get(f"{BASE}?tab=decided").text


def test_stopping_needs_a_reason_and_leaves_a_decision_to_be_made(
    acme: Tenant, running: Experiment, client_for: ClientFor, rita: User
) -> None:
    client = client_for(rita)

    assert client.post(f"{PAGE}stop/", {"reason": ""}).status_code == 422
    client.post(f"{PAGE}read/")
    assert "waits for a decision" in client.post(f"{PAGE}stop/", {"reason": "Enough"}, follow=True).text

    assert running.readings.count() == 3
    due = {item["title"]: item["due"] for _, items in navigation.items_for(membership(rita, acme), "release") for item in items}
    assert due["Experiments"] == 1


def test_experiments_are_found_by_search(running: Experiment, bob: User, acme: Tenant) -> None:
    [hit] = dict(search.find("next model", membership(bob, acme)))["Experiments"]

    assert hit.title == "Next model"


def test_list_asks_the_database_no_more_for_more_rows(
    acme: Tenant, running: Experiment, flag: Flag, rita: User, bob: User, client_for: ClientFor
) -> None:
    client = client_for(bob)
    client.get(f"{BASE}?tab=all")
    with CaptureQueriesContext(connection) as one:
        client.get(f"{BASE}?tab=all")
    for number in range(4):
        make_experiment(flag, rita, slug=f"more-{number}")
    with CaptureQueriesContext(connection) as five:
        client.get(f"{BASE}?tab=all")

    assert len(five) == len(one)


def test_model_page_names_its_experiments_and_the_next_step(
    acme: Tenant, running: Experiment, client_for: ClientFor, rita: User, bob: User
) -> None:
    page = client_for(rita).get("/o/acme/models/chat-new/").text

    assert f'href="{PAGE}">Next model</a>' in page
    assert "every guardrail is kept" in page
    assert 'href="/o/acme/release/flags/new/?model=chat-new">Compare with another model' in page
    assert "Compare with another model" not in client_for(bob).get("/o/acme/models/chat-new/").text
    form = client_for(rita).get("/o/acme/release/flags/new/?model=chat-new").text
    assert "champion = &quot;chat-new&quot;" in form
    assert "on this flag" in client_for(bob).get("/o/acme/release/flags/ai.chat.next-model/").text


def test_model_that_a_flag_binds_leads_to_an_experiment_on_it(acme: Tenant, flag: Flag, client_for: ClientFor, rita: User) -> None:
    Flag.objects.filter(pk=flag.pk).update(model="chat-old")

    page = client_for(rita).get("/o/acme/models/chat-old/").text

    assert "None. An experiment leads a share" in page
    assert 'href="/o/acme/release/experiments/new/?flag=ai.chat.next-model">New experiment' in page
