from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance import navigation
from governance.models import Tenant, User
from rollouts.models import Flag, Shift
from rollouts.services import flag_changes, shifts
from tests.conftest import ClientFor, api_client
from tests.factories import costs
from tests.factories.rollouts import flagged_call, make_split_flag, membership, person
from tests.rollouts.conftest import laid_out_flag

BASE = "/o/acme/release/shifts/"
PAGE = f"{BASE}next-model/"
API = "/api/v1/shifts/"
ONE = f"{API}next-model/"
TERMS = {
    "name": "Next model", "slug": "next-model", "flag": "ai.chat.next-model", "challenger": "new", "steps": "60, 100", "window_calls": "150",
    "latency_margin": "7", "error_margin": "0.5", "savings_floor": "10",
}  # fmt: skip


laid_out = laid_out_flag(lambda: make_split_flag(person("rita"), person("adam")))


@pytest.fixture
def shift(acme: Tenant, flag: Flag, rita: User, adam: User) -> Shift:
    """At 60%, with calls that fail too often."""
    shift = shifts.start_shift(
        slug="next-model", name="Next model", flag=flag, challenger="new", steps=(60, 100), window_calls=150, actor=rita
    )  # fmt: skip
    assert shift.change is not None
    flag_changes.approve_change(change=shift.change, actor=adam)
    flag.refresh_from_db()
    dice, now = random.Random(3), timezone.now()
    facts: dict[str, Any] = {
        "started_at": now,
        "duration_us": lambda _: dice.randint(700_000, 900_000),
        "status": lambda variant: "upstream_error" if variant == "new" and dice.random() < 0.5 else "ok",
    }
    costs.record(acme, *(flagged_call(acme, flag, f"user-{n}", **facts) for n in range(250)))
    return shift


def test_pages_open_from_their_plain_urls_for_every_member_and_nobody_else(
    shift: Shift, client_for: ClientFor, bob: User, charlie: User
) -> None:
    member, stranger, nobody = client_for(bob), client_for(charlie), client_for(None)

    for path in (BASE, f"{BASE}?tab=closed", f"{BASE}?q=zzz", PAGE):
        assert [client.get(path).status_code for client in (member, stranger, nobody)] == [200, 404, 302], path


def test_shift_begins_in_the_form_by_asking_for_its_first_step(flag: Flag, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)

    wrong = client.post(f"{BASE}new/", {**TERMS, "steps": "five, ten"})
    control = client.post(f"{BASE}new/", {**TERMS, "challenger": "old"})
    made = client.post(f"{BASE}new/", TERMS)

    assert (wrong.status_code, control.status_code) == (422, 422)
    assert "whole percents with commas" in wrong.text
    assert "no treatment" in control.text
    assert made["Location"] == PAGE
    page = client.get(PAGE).text
    assert "60% asked for" in page
    assert "waits for a second person" in page


def test_breach_is_seen_on_its_page_with_what_the_window_can_not_see(
    acme: Tenant, shift: Shift, client_for: ClientFor, rita: User, bob: User
) -> None:
    client = client_for(rita)
    client.post(f"{PAGE}look/")

    page = client.get(PAGE).text
    assert "Paused at 60%" in page
    assert "new breaks a guardrail: error rate." in page
    assert "What it can&#x27;t see:" in page or "What it can't see:" in page
    assert "Same verdict, hash holds" in page
    assert client.get(f"{PAGE}?window=2").status_code == 404
    due = {item["title"]: item["due"] for _, items in navigation.items_for(membership(rita, acme), "release") for item in items}
    assert due["Traffic shifts"] == 1
    assert "Resume the shift" not in client_for(bob).get(PAGE).text

    client.post(f"{PAGE}resume/", {"reason": ""})
    assert Shift.objects.get().status == "paused"
    client.post(f"{PAGE}resume/", {"reason": "Well again"})
    assert Shift.objects.get().status == "running"
    assert "at most 400 characters" in client.post(f"{PAGE}end/", {"reason": "x" * 401}, follow=True).text
    assert Shift.objects.get().status == "running"
    client.post(f"{PAGE}end/", {"reason": "Another model"})
    assert "Another model" in client.get(f"{BASE}?tab=closed").text


def test_shift_goes_its_way_over_the_api(acme: Tenant, flag: Flag, api_for: ClientFor, rita: User, adam: User, bob: User) -> None:
    client = api_for(rita)
    asked = {"slug": "next-model", "name": "Next model", "flag": flag.key, "challenger": "new", "steps": [60, 100], "window_calls": 150}

    made = client.post(API, asked)
    assert (made.status_code, made.json()["percentage"], made.json()["latency_margin"]) == (201, 60, 7.0)
    assert client.post(API, {**asked, "slug": "second"}).json()["code"] == "shift_running"
    assert client.post(API, {**asked, "steps": [60]}).json()["code"] == "shift_invalid"
    assert client.post(API, {**asked, "flag": "ai.no.such"}).json()["code"] == "shift_invalid"
    change = made.json()["change"]
    assert api_for(adam).post(f"/api/v1/flags/{flag.key}/changes/{change}/approve/").status_code == 200

    looked = client.post(f"{ONE}look/").json()
    assert looked["windows"][0]["sentence"] == "0 of 150 calls by new."
    assert [each["standing"] for each in looked["windows"][0]["guardrails"]] == ["no_data"] * 3
    assert client.post(f"{ONE}resume/", {"reason": "x"}).json()["code"] == "shift_state"
    assert client.post(f"{ONE}end/", {"reason": "Enough"}).json()["status"] == "ended"
    assert [each["slug"] for each in api_for(bob).get(f"{API}?tab=closed").json()["results"]] == ["next-model"]


def test_shifts_of_another_organisation_do_not_exist(shift: Shift, charlie: User, globex: Tenant) -> None:
    stranger = api_client(charlie, globex)

    assert stranger.get(ONE).status_code == 404
    assert stranger.get(API).json()["results"] == []


def test_list_asks_the_database_no_more_for_more_rows(shift: Shift, flag: Flag, rita: User, bob: User, client_for: ClientFor) -> None:
    client = client_for(bob)
    client.get(f"{BASE}?tab=closed")
    shifts.end_shift(shift=shift, reason="One", actor=rita)
    with CaptureQueriesContext(connection) as one:
        client.get(f"{BASE}?tab=closed")
    for number in range(3):
        other = shifts.start_shift(slug=f"more-{number}", name="More", flag=flag, challenger="new", steps=(80, 100), actor=rita)
        shifts.end_shift(shift=other, reason="More", actor=rita)
    with CaptureQueriesContext(connection) as four:
        client.get(f"{BASE}?tab=closed")

    assert len(four) == len(one)
