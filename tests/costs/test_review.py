"""The monthly review: what is found, who decides, what is carried on, and what a signature holds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Deployment
from costs import review_selectors, reviewing, tasks
from costs.errors import ReviewError, ReviewStateError
from costs.models import Anomaly, Commitment, CommitmentDay, ReviewItem, ReviewSignature
from costs.reviewing import Review, Row
from costs.services import budgets, review
from costs.views import reviews
from governance.models import AuditEntry, Notice, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
PAGE = "/o/acme/operate/costs/review/"
API = "/api/v1/reviews/2026-10/"
LATER = datetime(2026, 11, 3, 9, tzinfo=UTC)


@pytest.fixture
def october(acme: Tenant, alice: User) -> Deployment:
    """A model that two keys call and that an equal one could replace, one that nobody calls, untagged money, and an open anomaly."""
    make.prices(alice)
    make.prices(alice, model="tiny-chat", input="0.10", output="0.40")
    make.deployment(alice)
    idle = make.deployment(alice, model="tiny-chat", upstream="gpt-tiny")
    make.deployment(alice, model="young-chat", upstream="gpt-young")
    Deployment.objects.exclude(model__slug="young-chat").update(created_at=datetime(2026, 1, 1, tzinfo=UTC))
    used = Deployment.objects.get(model__slug="small-chat")
    at = datetime(2026, 10, 12, 8, tzinfo=UTC)
    make.record(
        acme,
        *(make.call(acme, started_at=at, key_id=f"k234567{n % 2 + 2}", deployment=str(used.pk), input_tokens=1_000_000) for n in range(3)),
        make.call(acme, started_at=at, agent=None, input_tokens=500_000, deployment=str(used.pk)),
        make.call(acme, **{**make.REFUSED, "started_at": at, "model": "tiny-chat", "deployment": str(idle.pk)}),
        make.call(acme, started_at=datetime(2026, 9, 5, tzinfo=UTC), input_tokens=1_000_000),
    )
    Anomaly.objects.create(
        dimension="project", ref="checkout", period="day", kind="spike", first_at=at, last_at=at + timedelta(days=1),
        expected=Decimal(1), actual=Decimal(3), excess=Decimal(2), score=9, created_at=at,
    )  # fmt: skip
    return idle


def row(found: Review, kind: str) -> Row:
    [only] = [row for row in found.rows if row.kind == kind]
    return only


def decide_all(found: Review, owner: User, at: datetime = LATER) -> None:
    for each in found.rows:
        review.decide(month=found.month, kind=each.kind, ref=each.ref, decision="keep", owner=owner, actor=owner, at=at)


def test_review_finds_what_costs_too_much_or_belongs_to_nobody(october: Deployment, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(28):
        found = review_selectors.review(OCTOBER, LATER)

    idle, low, untagged, anomaly = (row(found, kind) for kind in ("idle", "low_value", "untagged", "anomaly"))
    assert len(found.rows) == 4
    assert (found.cost, found.before, found.calls, found.is_over) == (Decimal("3.5032"), Decimal("1.0008"), 4, True)
    assert (idle.ref, idle.finding.cost if idle.finding else 0) == (str(october.pk), None)
    assert low.finding is not None
    assert low.finding.cost == Decimal("3.5032")
    assert "For about $3.15 less at today's prices, tiny-chat could do the same." in low.finding.detail
    assert untagged.finding is not None
    assert untagged.finding.cost == Decimal("0.5008")
    assert anomaly.title == "Spike of project checkout"
    assert found.waiting == 4


def test_unused_commitment_is_found_as_far_as_it_is_counted(october: Deployment, fay: User, alice: User) -> None:
    terms: dict[str, Any] = {
        "kind": "throughput", "provider": "openai", "quantity": 1, "unit_price": 1, "unit_tokens_per_minute": 1000, "status": "approved",
        "first_on": date(2026, 10, 12), "last_on": date(2026, 12, 31), "proposed_by": fay, "proposed_at": LATER, "decided_by": alice,
        "decided_at": LATER,
    }  # fmt: skip
    counted = Commitment.objects.create(reference="PTU-1", counted_through=date(2026, 10, 12), **terms)
    Commitment.objects.create(reference="PTU-2", **terms)
    CommitmentDay.objects.create(commitment=counted, day=date(2026, 10, 12), model="", quantity=18, list_cost=0, cost=18)
    CommitmentDay.objects.create(commitment=counted, day=date(2026, 10, 12), model="small-chat", quantity=6, list_cost=9, cost=6)

    found = row(review_selectors.review(OCTOBER, LATER), "commitment")

    assert found.finding is not None
    assert (found.title, found.finding.cost) == ("openai: PTU-1", Decimal(18))
    assert found.finding.detail == "Paid and not used: 25.0% of it was used."


def test_decisions_have_an_owner_and_a_day_and_are_carried_until_done(october: Deployment, alice: User, fay: User, charlie: User) -> None:
    wanted: dict[str, Any] = {"month": OCTOBER, "kind": "idle", "ref": str(october.pk), "actor": fay, "at": LATER}
    with pytest.raises(ReviewError, match="by when"):
        review.decide(**wanted, decision="retire", owner=alice)
    with pytest.raises(ReviewError, match="does not belong"):
        review.decide(**wanted, decision="keep", owner=charlie)
    with pytest.raises(ReviewStateError, match="no such finding"):
        review.decide(**{**wanted, "ref": "0"}, decision="keep", owner=alice)

    review.decide(**wanted, decision="watch", owner=alice, due_on=date(2026, 11, 20))
    item = review.decide(**wanted, decision="retire", owner=alice, due_on=date(2026, 11, 20), note="After the fair")
    Deployment.objects.filter(pk=october.pk).update(is_enabled=False)
    carried = row(review_selectors.review(NOVEMBER, LATER), "idle")
    review.close_item(month=NOVEMBER, kind="idle", ref=str(october.pk), actor=fay, at=LATER)
    december = review_selectors.review(date(2026, 12, 1), LATER)

    assert (carried.item, carried.finding, carried.waits) == (item, None, False)
    assert item.is_late(date(2026, 11, 21))
    assert row(review_selectors.review(NOVEMBER, LATER), "idle").item is not None  # it was closed in this one
    assert [each for each in december.rows if each.kind == "idle"] == []
    with pytest.raises(ReviewStateError, match="no open decision"):
        review.close_item(month=NOVEMBER, kind="idle", ref=str(october.pk), actor=fay)
    events = AuditEntry.objects.filter(event__startswith="cost_review.").order_by("pk").values_list("event", flat=True)
    assert list(events) == ["cost_review.decided", "cost_review.decided", "cost_review.closed"]


def test_what_is_decided_in_a_later_month_can_be_decided_in_an_earlier_one(october: Deployment, fay: User) -> None:
    wanted: dict[str, Any] = {"kind": "idle", "ref": str(october.pk), "actor": fay, "owner": fay, "decision": "keep", "at": LATER}
    with pytest.raises(ReviewStateError, match="has not begun"):
        review.decide(**wanted, month=date(2026, 12, 1))
    first = review.decide(**wanted, month=NOVEMBER)
    assert row(review_selectors.review(OCTOBER, LATER), "idle").waits

    review.decide(**wanted, month=OCTOBER)

    assert [row(review_selectors.review(month, LATER), "idle").item for month in (OCTOBER, NOVEMBER)] == [first, first]
    assert review.close_item(month=OCTOBER, kind="idle", ref=str(october.pk), actor=fay, at=LATER) == first


def test_signing_takes_a_whole_month_wholly_decided_with_the_figures_that_were_seen(
    acme: Tenant, october: Deployment, fay: User, alice: User
) -> None:
    found = review_selectors.review(OCTOBER, LATER)
    with pytest.raises(ReviewStateError, match="4 findings have no decision"):
        review.sign_off(month=OCTOBER, sha256=found.sha256, actor=fay, at=LATER)
    decide_all(found, fay)
    with pytest.raises(ReviewStateError, match="not the figures that you saw"):
        review.sign_off(month=OCTOBER, sha256=found.sha256, actor=fay, at=LATER)
    with pytest.raises(ReviewStateError, match="is not over"):
        review.sign_off(month=timezone.now().date().replace(day=1), sha256="", actor=fay)

    seen = review_selectors.review(OCTOBER, LATER)
    signed = review.sign_off(month=OCTOBER, sha256=seen.sha256, actor=fay, at=LATER)
    make.record(acme, make.call(acme, started_at=datetime(2026, 10, 30, tzinfo=UTC)))
    after = review_selectors.review(OCTOBER, LATER)

    assert signed.figures["cost_usd"] == "3.5032"
    assert {item["decision"] for item in signed.figures["items"]} == {"keep"}
    assert reviewing.is_intact(signed)
    assert after.has_moved
    with pytest.raises(ReviewStateError, match="signed off"):
        review.decide(month=OCTOBER, kind="idle", ref=str(october.pk), decision="keep", owner=fay, actor=fay)
    signed.figures["cost_usd"] = "1"
    assert not reviewing.is_intact(signed)


def test_finance_is_told_once_that_the_month_can_be_reviewed(acme: Tenant, october: Deployment) -> None:
    september = review.tell_month(at=datetime(2026, 11, 1, 12, tzinfo=UTC))  # October may still get late calls
    notice = review.tell_month(at=LATER)
    again = review.tell_month(at=LATER)

    assert september is not None
    assert september.title.startswith("September 2026")
    assert notice is not None
    assert notice == again
    assert notice.title == "October 2026 can be reviewed: $3.50, 4 to look at"
    assert "Idle deployment: 1." in notice.text
    assert "Untagged money: 1, $0.50." in notice.text
    tasks.tell_review(schema_name=acme.schema_name)
    assert Notice.objects.filter(topic="cost.review").count() == 2


def test_page_leads_from_a_finding_to_a_signed_month(
    client_for: ClientFor, october: Deployment, fay: User, audra: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "SHOWN", 1)  # of each kind
    monkeypatch.setattr(reviews, "SHOWN_OF_KIND", 1)
    smaller = Anomaly.objects.get()
    smaller.pk, smaller.ref, smaller.actual, smaller.excess = None, "search", Decimal(2), Decimal(1)
    smaller.save(force_insert=True)
    by_fay, by_audra = client_for(fay), client_for(audra)
    first = by_fay.get(f"{PAGE}?month=2026-10").content.decode()
    rows = review_selectors.review(OCTOBER).sections[-1].rows
    one, two = (by_fay.get(f"{PAGE}?month=2026-10&kind=anomaly{more}").content.decode() for more in ("", f"&after={rows[0].ref}"))
    kept = {"kind": "anomaly", "ref": rows[1].ref, "decision": "retire", "owner": "nobody@example.org"}
    stranger = by_fay.post(f"{PAGE}2026-10/decide/?kind=anomaly", kept)
    bad = by_fay.post(f"{PAGE}2026-10/decide/", {"kind": "idle", "ref": str(october.pk), "decision": "retire", "owner": fay.email})
    for each in review_selectors.review(OCTOBER).rows:
        assert f'value="{each.ref}"' in by_fay.get(f"{PAGE}?month=2026-10").content.decode()
        answer = by_fay.post(f"{PAGE}2026-10/decide/", {"kind": each.kind, "ref": each.ref, "decision": "keep", "owner": fay.email})
        assert answer.status_code == 302
    decided = by_fay.get(f"{PAGE}?month=2026-10").content.decode()
    wrong = by_fay.post(f"{PAGE}2026-10/sign/", {"sha256": "0" * 64})
    signed = by_fay.post(f"{PAGE}2026-10/sign/", {"sha256": review_selectors.review(OCTOBER).sha256, "note": "fine"})
    last = by_audra.get(f"{PAGE}?month=2026-10").content.decode()
    lines = b"".join(by_audra.get(f"{PAGE}csv/?month=2026-10")).decode().splitlines()

    assert "5 findings have no decision yet." in first
    assert "Show all 2" in first
    assert (rows[0].title in one, rows[1].title in one, rows[0].title in two, rows[1].title in two) == (True, False, False, True)
    assert "1 to 1 of 2" in one
    assert "2 to 2 of 2" in two
    assert stranger.status_code == 422
    assert (bad.status_code, wrong.status_code, signed.status_code) == (422, 422, 302)
    assert "Say by when" in bad.content.decode()
    assert "Sign off October 2026" in decided
    assert "As it was signed" in last
    assert "Signed off</b> by" in last
    assert len(lines) == 6
    assert lines[1].startswith(f"2026-10,idle,{october.pk},")
    assert "Nothing to look at" in by_fay.get(f"{PAGE}?month=2025-01").content.decode()
    assert by_audra.post(f"{PAGE}2026-10/decide/", {}).status_code == 403
    assert client_for(bob).get(PAGE).status_code == 403


def test_api_says_the_same(api_for: ClientFor, october: Deployment, fay: User) -> None:
    client, json = api_for(fay), "application/json"
    shown = client.get(API).json()
    stranger = client.post(f"{API}decide/", {"kind": "idle", "ref": "1", "decision": "keep", "owner": "x@example.org"}, content_type=json)
    for item in shown["figures"]["items"]:
        body = {"kind": item["kind"], "ref": item["ref"], "decision": "watch", "owner": fay.email, "due_on": "2026-12-01"}
        shown = client.post(f"{API}decide/", body, content_type=json).json()
    done = client.post(f"{API}close/", {"kind": "idle", "ref": str(october.pk)}, content_type=json).json()
    signed = client.post(f"{API}sign/", {"sha256": done["sha256"]}, content_type=json)

    assert (stranger.status_code, stranger.json()["code"]) == (400, "invalid_review")
    assert (shown["waiting"], done["waiting"]) == (0, 0)
    assert (signed.status_code, signed.json()["signed_by"]) == (201, fay.email)
    assert client.post(f"{API}sign/", {"sha256": done["sha256"]}, content_type=json).json()["code"] == "review_state"
    assert ReviewSignature.objects.get().sha256 == done["sha256"]
    assert ReviewItem.objects.filter(closed_at=None).count() == 3


def test_page_of_a_signed_month_shows_what_was_signed(
    acme: Tenant, october: Deployment, client_for: ClientFor, fay: User, audra: User
) -> None:
    budget = budgets.create_budget(actor=fay, name="House", scope="tenant", amount=Decimal(3))
    budgets.enforce_budget(budget=budget, actor=fay)
    decide_all(review_selectors.review(OCTOBER, LATER), fay)
    review.sign_off(month=OCTOBER, sha256=review_selectors.review(OCTOBER, LATER).sha256, actor=fay, at=LATER)
    budgets.change_budget(budget=budget, actor=fay, amount=Decimal(100))
    make.record(acme, make.call(acme, started_at=datetime(2026, 10, 30, tzinfo=UTC), input_tokens=1_000_000))

    page = client_for(audra).get(f"{PAGE}?month=2026-10").content.decode()

    assert review_selectors.review(OCTOBER, LATER).cost == Decimal("4.504")
    assert ("$3.50</span>" in page, "$4.50</span>" in page, "$100.00" in page) == (True, False, False)
    assert "overrun</span>" in page
    assert "Late calls or a corrected price have changed the month since" in page


def test_rest_is_decided_alike_as_it_was_seen(
    client_for: ClientFor, api_for: ClientFor, october: Deployment, fay: User, audra: User
) -> None:
    other = Anomaly.objects.get()
    other.pk, other.ref = None, "search"
    other.save(force_insert=True)
    seen_first = review_selectors.review(OCTOBER).sections[-1].seen  # two, as later, but not the same two
    first = review_selectors.review(OCTOBER).sections[-1].rows[0]
    review.decide(month=OCTOBER, kind="anomaly", ref=first.ref, decision="keep", owner=fay, actor=fay)
    third = Anomaly.objects.get(ref="search")
    third.pk, third.ref = None, "mailer"
    third.save(force_insert=True)
    by_fay, asked = (
        client_for(fay),
        {"kind": "anomaly", "decision": "change", "owner": fay.email, "due_on": "2026-12-01", "note": "One cause"},
    )
    page = by_fay.get(f"{PAGE}?month=2026-10").content.decode()
    seen = review_selectors.review(OCTOBER).sections[-1].seen
    shown = api_for(fay).get(API).json()["undecided"]
    stale, endless, stranger = (
        by_fay.post(f"{PAGE}2026-10/decide-rest/", {**asked, **changed})
        for changed in ({"seen": seen_first}, {"seen": seen, "due_on": ""}, {"seen": seen, "owner": "x@example.org"})
    )
    saved = by_fay.post(f"{PAGE}2026-10/decide-rest/", {**asked, "seen": seen})
    by_api = api_for(fay).post(f"{API}decide-rest/", {**asked, "kind": "idle", "seen": shown["idle"]}, content_type="application/json")

    assert "Decide alike about the 2 without a decision" in page
    assert f'name="seen" value="{seen}"' in page
    assert (shown["anomaly"], set(shown)) == (seen, {"idle", "low_value", "untagged", "anomaly"})
    assert [answer.status_code for answer in (stale, endless, stranger, saved)] == [422, 422, 422, 302]
    assert "These are not the findings without a decision that you saw." in stale.content.decode()
    assert sorted(ReviewItem.objects.filter(kind="anomaly").values_list("decision", "note")) == [
        ("change", "One cause"),
        ("change", "One cause"),
        ("keep", ""),
    ]
    assert by_api.json()["waiting"] == 2
    assert AuditEntry.objects.filter(event="cost_review.decided").count() == 4
    assert client_for(audra).post(f"{PAGE}2026-10/decide-rest/", asked).status_code == 403


def test_paper_has_every_finding(
    client_for: ClientFor, october: Deployment, audra: User, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reviews, "SHOWN", 1)
    smaller = Anomaly.objects.get()
    smaller.pk, smaller.ref = None, "search"
    smaller.save(force_insert=True)
    titles = [row.title for row in review_selectors.review(OCTOBER).rows]
    screen, paper = (client_for(fay).get(f"{PAGE}?month=2026-10{more}").content.decode() for more in ("", "&print=1"))

    assert [title in screen for title in titles].count(False) == 1
    assert "?month=2026-10&amp;print=1" in screen
    assert all(title in paper for title in titles)
    assert 'data-print="now"' in paper
    assert "Save the decision" not in paper
