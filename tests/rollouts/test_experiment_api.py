from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from governance.models import Tenant, User
from rollouts.models import Flag
from tests.conftest import ClientFor, api_client
from tests.factories import costs
from tests.factories.rollouts import flagged_call, make_split_flag, person
from tests.rollouts.conftest import laid_out_flag

BASE = "/api/v1/experiments/"
ONE = f"{BASE}next-model/"
NEW = {
    "slug": "next-model", "name": "Next model", "hypothesis": "It answers sooner.", "flag": "ai.chat.next-model", "metric": "latency",
    "effect": 5, "minimum_units": 50, "max_days": 14, "guardrails": [{"metric": "error_rate", "margin": 5}], "expected_quality_gain": 2,
}  # fmt: skip


laid_out = laid_out_flag(lambda: make_split_flag(person("rita"), person("adam")))


def test_experiment_goes_its_way_from_draft_to_decision(acme: Tenant, flag: Flag, api_for: ClientFor, rita: User, bob: User) -> None:
    client = api_for(rita)
    assert client.post(BASE, NEW).json()["champion"] == "old"
    assert client.post(BASE, NEW).json()["code"] == "slug_taken"
    assert client.post(f"{ONE}readings/").json()["code"] == "experiment_state"

    assert client.post(f"{ONE}start/").json()["shares"] == {"old": 0.5, "new": 0.5}
    soon = timezone.now() + timedelta(microseconds=1)
    slow = {"duration_us": lambda variant: 800_000 if variant == "old" else 600_000}
    costs.record(acme, *(flagged_call(acme, flag, f"user-{n}", started_at=soon + timedelta(microseconds=n), **slow) for n in range(60)))
    reading = client.post(f"{ONE}readings/")
    assert (reading.status_code, reading.json()["sequence"], reading.json()["requested_by"]) == (201, 1, rita.email)
    assert reading.json()["report"]["sentence"].startswith("Too early")
    assert sum(arm["units"] for arm in reading.json()["arms"].values()) == 60
    assert client.post(f"{ONE}stop/").json()["code"] == "invalid"
    assert client.post(f"{ONE}stop/", {"reason": "Wrong model"}).json()["end_reason"] == "Wrong model"
    assert client.post(f"{ONE}decide/", {"decision": "promote", "winner": "blue", "note": "?"}).json()["code"] == "experiment_invalid"
    decided = client.post(f"{ONE}decide/", {"decision": "hold", "note": "Anew next week"}).json()
    assert (decided["status"], decided["decision"], decided["change"]) == ("decided", "hold", None)

    reader = api_for(bob)
    assert [each["slug"] for each in reader.get(f"{BASE}?tab=decided").json()["results"]] == ["next-model"]
    assert [each["sequence"] for each in reader.get(f"{ONE}readings/").json()["results"]] == [2, 1]
    assert reader.get(ONE).json()["latest"]["report"]["advice"] == "hold"
    assert client.delete(ONE).json()["code"] == "experiment_state"


def test_draft_is_discarded(flag: Flag, api_for: ClientFor, rita: User) -> None:
    client = api_for(rita)
    client.post(BASE, NEW)

    assert client.delete(ONE).status_code == 204
    assert client.get(ONE).status_code == 404


def test_plan_is_worked_out_from_what_is_expected(flag: Flag, api_for: ClientFor, rita: User, bob: User) -> None:
    client, asked = api_for(rita), {"flag": flag.key, "metric": "latency", "effect": 5}

    assert api_for(bob).post(f"{BASE}plan/", asked).status_code == 403
    assert client.post(f"{BASE}plan/", asked).json()["code"] == "experiment_invalid"
    plan = client.post(f"{BASE}plan/", {**asked, "mean": 800, "spread": 400}).json()

    assert plan["units"]["fixed"] == 1570  # 2 (1.95996 + 0.84162)**2 (400 / 40)**2
    assert plan["days"] == {"sequential": None, "fixed": None, "sprt": None}
    assert plan["minimum_units"]["fixed"] == 1570


@pytest.mark.parametrize(
    "wrong",
    [{"flag": "ai.no.such"}, {"metric": "charm"}, {"effect": -1}, {"guardrails": [{"metric": "cost"}]}, {"max_days": 91}, {"sample": 3}],
)
def test_bad_terms_are_refused(flag: Flag, api_for: ClientFor, rita: User, wrong: dict[str, Any]) -> None:
    answer = api_for(rita).post(BASE, {**NEW, **wrong})

    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid", "experiment_invalid")


def test_experiments_of_another_organisation_do_not_exist(
    flag: Flag, api_for: ClientFor, rita: User, charlie: User, globex: Tenant
) -> None:
    api_for(rita).post(BASE, NEW)
    stranger = api_client(charlie, globex)

    assert stranger.get(ONE).status_code == 404
    assert stranger.get(BASE).json()["results"] == []
