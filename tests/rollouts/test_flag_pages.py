from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from gateway.contract.flags import BUCKETS
from governance import navigation, search
from governance.models import Tenant, User
from rollouts import exposure as rules
from rollouts.models import Flag, FlagChange, Rollout
from rollouts.services import flag_changes
from tests.conftest import ClientFor
from tests.factories.rollouts import make_flag, membership

BASE = "/o/acme/release/flags/"
PAGE = f"{BASE}ai.search.rerank-1/"
CHANGE = {"seen_version": "1", "on": "on", "overrides": "", "cohorts": "", "regions": "", "percentage": "10", "reason": "First tenth"}


@pytest.fixture
def flag(acme: Tenant, rita: User) -> Flag:
    return make_flag(rita)


def expose(flag: Flag, one: User, other: User, percentage: int = BUCKETS) -> None:
    change = flag_changes.propose_change(
        flag=flag, exposure=rules.changed(flag.exposure, on=True, percentage=percentage), reason="Go", actor=one
    )
    flag_changes.approve_change(change=change, actor=other)


@pytest.mark.parametrize("path", [BASE, f"{BASE}?tab=waiting", f"{BASE}?tab=archived", f"{BASE}?q=zzz", PAGE])
def test_page_opens_from_its_plain_url_for_every_member_and_nobody_else(
    path: str, flag: Flag, client_for: ClientFor, bob: User, charlie: User
) -> None:
    assert client_for(bob).get(path).status_code == 200
    assert client_for(charlie).get(path).status_code == 404
    assert client_for(None).get(path).status_code == 302


def test_page_without_any_flag_says_what_to_do(acme: Tenant, client_for: ClientFor, rita: User, bob: User) -> None:
    assert "New flag" in client_for(rita).get(BASE).text
    assert "A release manager makes one" in client_for(bob).get(BASE).text


def test_flag_is_made_in_the_form_and_begins_off(acme: Tenant, rollout: Rollout, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)
    assert client.get(f"{BASE}new/").status_code == 200
    fields = {
        "title": "New ranking", "key": "ai.search.rerank-1", "kind": "string", "variants": 'old = "a"\nnew = "b"', "control": "old",
        "feature_class": "search", "sticky": "project", "policy": "every", "rollout": rollout.pk,
    }  # fmt: skip

    wrong = client.post(f"{BASE}new/", {**fields, "variants": "old = a"})
    made = client.post(f"{BASE}new/", fields)

    assert wrong.status_code == 422
    assert "in JSON" in wrong.text
    assert made["Location"] == PAGE
    flag = Flag.objects.get()
    assert (flag.variants, flag.exposure.on, flag.rollout) == ({"old": "a", "new": "b"}, False, rollout)


def test_change_is_proposed_by_one_and_approved_by_another(flag: Flag, client_for: ClientFor, rita: User, adam: User) -> None:
    proposer, approver = client_for(rita), client_for(adam)
    assert "Propose the change" in proposer.get(f"{PAGE}change/").text

    proposer.post(f"{PAGE}change/", {**CHANGE, "cohorts": "pilot: project = search", "percentage": "12.5"})

    assert "Take it back" in proposer.get(PAGE).text
    page = approver.get(PAGE).text
    assert "Approve change 1" in page
    assert "pilot: project = search" in page
    approver.post(f"{PAGE}changes/1/approve/", {"comment": "Fine"})
    flag.refresh_from_db()
    assert flag.exposure.percentage == 12_500
    assert "approved by Adam" in approver.get(PAGE).text
    assert "12.5% of 1 cohort" in approver.get(BASE).text


def test_comment_is_kept_whole_or_nothing_is_decided(flag: Flag, client_for: ClientFor, rita: User, adam: User) -> None:
    client_for(rita).post(f"{PAGE}change/", CHANGE)
    approver, lines = client_for(adam), "x" * 248 + "\r\n"  # as a browser sends what it counts as 249 characters

    too_long = approver.post(f"{PAGE}changes/1/approve/", {"comment": lines * 3}, follow=True).text
    waiting = FlagChange.objects.get().status
    approver.post(f"{PAGE}changes/1/approve/", {"comment": lines * 2 + "ok"})

    assert "at most 500 characters" in too_long
    assert waiting == FlagChange.Status.PROPOSED
    assert FlagChange.objects.get().comment == ("x" * 248 + "\n") * 2 + "ok"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"percentage": "1000"}, "0 to 100"),
        ({"percentage": "many"}, "is not a percentage"),
        ({"overrides": "user: ana"}, "is not an override"),
        ({"overrides": "user = ana -> blue"}, "no variant blue"),
        ({"cohorts": "search"}, "is not a cohort"),
        ({"regions": "two words"}, "not the name of a region"),
        ({"reason": ""}, "required"),
    ],
)
def test_bad_change_comes_back_with_what_was_typed(
    flag: Flag, client_for: ClientFor, rita: User, fields: dict[str, str], said: str
) -> None:
    answer = client_for(rita).post(f"{PAGE}change/", {**CHANGE, **fields})

    assert answer.status_code == 422
    assert said in answer.text


def test_shares_are_asked_for_only_where_there_are_several_treatments(flag: Flag, acme: Tenant, client_for: ClientFor, rita: User) -> None:
    make_flag(rita, key="ai.search.three", kind="string", variants={"old": "a", "new": "b", "newer": "c"}, control="old")
    client = client_for(rita)

    assert "Shares of the variants" not in client.get(f"{PAGE}change/").text.partition("<aside")[0]
    client.post(f"{BASE}ai.search.three/change/", {**CHANGE, "weights": "new = 90\nnewer = 10"})

    change = Flag.objects.get(key="ai.search.three").changes.get()
    assert rules.weights_of(change.exposed.ranges) == {"new": 90_000, "newer": 10_000}


def test_emergency_is_one_form_and_its_review_another(flag: Flag, client_for: ClientFor, rita: User, adam: User) -> None:
    expose(flag, rita, adam)
    client = client_for(rita)

    client.post(f"{PAGE}lower/", {"percentage": "5", "reason": "Wrong answers"})

    flag.refresh_from_db()
    assert (flag.exposure.on, flag.exposure.percentage) == (True, 5_000)
    assert "but not who acted" in client.get(PAGE).text
    assert "Record the review" in client_for(adam).get(PAGE).text
    client_for(adam).post(f"{PAGE}changes/2/review/", {"comment": "Rightly so"})
    assert "Rightly so" in client.get(PAGE).text
    client.post(f"{PAGE}lower/", {"percentage": "", "reason": "Still wrong"})
    client.post(f"{PAGE}archive/")
    assert Flag.objects.get().is_archived


def test_raising_is_refused_by_the_form_for_emergencies(flag: Flag, client_for: ClientFor, rita: User, adam: User) -> None:
    expose(flag, rita, adam, 1_000)

    answer = client_for(rita).post(f"{PAGE}lower/", {"percentage": "50", "reason": "More"}, follow=True)

    assert "One person alone only lowers exposure" in answer.text


def test_who_gets_what_and_why_for_a_typed_context(flag: Flag, client_for: ClientFor, bob: User, rita: User, adam: User) -> None:
    expose(flag, rita, adam, 1)
    exposure = rules.changed(Flag.objects.get().exposure, overrides=rules.parse_overrides("tenant = acme -> on"))
    flag_changes.propose_change(flag=flag, exposure=exposure, reason="Us first", actor=rita)
    client = client_for(bob)

    first = client.get(PAGE).text
    typed = client.get(PAGE, {"context": "user = ana\ntenant = acme"}, headers={"HX-Request": "true"}).text
    withdrawn = client.get(PAGE, {"context": "user = ana", "consent": "no"}).text

    assert "tier = enterprise" in first
    assert "has no user" in first
    assert "<html" not in typed
    assert "is outside the first 0.001%" in typed
    assert "An override gives on to tenant acme" in typed
    assert "Consent: decided" in withdrawn


def test_what_does_not_exist_is_not_found(flag: Flag, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)

    assert client.get(f"{BASE}ai.no.flag/").status_code == 404
    assert client.post(f"{PAGE}changes/7/approve/").status_code == 404


def test_list_asks_as_often_for_many_as_for_one(flag: Flag, client_for: ClientFor, bob: User, rita: User) -> None:
    client = client_for(bob)
    with CaptureQueriesContext(
        connection,
    ) as one:
        client.get(BASE)
    for number in range(5):
        make_flag(rita, key=f"ai.search.more-{number}")
    with CaptureQueriesContext(connection) as many:
        client.get(BASE)

    assert len(many) <= len(one)


def test_sidebar_counts_what_waits_and_search_finds_by_key(flag: Flag, rita: User, adam: User, acme: Tenant) -> None:
    flag_changes.propose_change(flag=flag, exposure=rules.changed(flag.exposure, on=True), reason="Go", actor=rita)

    def due(person: User) -> Any:
        sections = dict(navigation.items_for(membership(person, acme), "release"))
        return next(item["due"] for item in sections["Steer"] if item["title"] == "Flags")

    assert (due(adam), due(rita)) == (1, 0)
    [hit] = dict(search.find("rerank", membership(adam, acme)))["Flags"]
    assert hit.title == flag.key


def test_release_home_asks_those_who_may_decide(flag: Flag, client_for: ClientFor, rita: User, sam: User, bob: User) -> None:
    flag_changes.propose_change(flag=flag, exposure=rules.changed(flag.exposure, on=True), reason="Go on", actor=rita)

    shown = {
        name: "Decide change 1" in client_for(person).get("/o/acme/release/home/").text
        for name, person in [("sam", sam), ("rita", rita), ("bob", bob)]
    }

    assert shown == {"sam": True, "rita": False, "bob": False}
