"""List prices become proposals: once each, with their tiers and bands, and nothing enters the book by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from catalog.models import Provider
from costs import price_feed as feed
from costs import price_selectors, tasks
from costs.models import PriceEntry, PriceProposal, PriceSheet
from costs.price_sheets import Offer
from costs.services import price_feed, price_proposals, prices
from governance.models import AuditEntry, Notice, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.factories import costs as make

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
PAGE = "/o/acme/operate/costs/price-book/proposals/"
API = "/api/v1/prices/feed/"


def listed(token_class: str, price: str, tier: str = "standard", over: int = 0, since: str | None = None) -> feed.Listed:
    return feed.Listed("openai", "small-chat", token_class, tier, over, price, since)


@pytest.fixture
def says(acme: Tenant, alice: User, monkeypatch: pytest.MonkeyPatch) -> list[feed.Listed]:
    """What the feed lists, to be changed; the installed data changes with every version of the package."""
    make.deployment(alice)
    rows = [listed("input", "1"), listed("output", "5"), listed("input", "2", over=200_000), listed("input", "0.5", "batch")]
    unknown = [feed.Unlisted("openai", "own-model", "ours-7b", "The model is not in the data.")]
    monkeypatch.setattr(feed, "read", lambda *_: feed.Read("genai-prices 9.9", list(rows), unknown))
    return rows


def waiting() -> dict[str, Decimal]:
    return {one.series_label: one.price for one in PriceProposal.objects.filter(status="waiting")}


def test_installed_data_has_tiers_and_bands_of_what_we_serve() -> None:
    asked = [
        feed.Asked("openai", "chat", "openai", "https://api.openai.com/v1", "gpt-5.4"),
        feed.Asked(
            "eu", "claude", "bedrock", "https://bedrock-runtime.eu-central-1.amazonaws.com", "anthropic.claude-sonnet-4-20250514-v1:0"
        ),
        feed.Asked("lab", "ours", "openai_compatible", "http://127.0.0.1:8000/v1", "ours-7b"),
        feed.Asked("openai", "odd", "openai", "https://api.openai.com/v1", "no-such-model"),
    ]

    found = feed.read(asked, NOW)

    assert found.source.startswith("genai-prices ")
    series = {(one.model, one.token_class, one.service_tier) for one in found.prices}
    assert {("chat", "input", "standard"), ("chat", "output", "batch"), ("claude", "cached_input", "standard")} <= series
    assert any(one.context_over for one in found.prices if one.model == "chat")
    assert [(one.model, one.reason) for one in found.unknown] == [
        ("ours", "The provider is not in the data."),
        ("odd", "The model is not in the data."),
    ]


def test_differences_are_proposed_and_the_rest_is_counted(says: list[feed.Listed], fay: User) -> None:
    make.prices(fay, input="1", output="4")

    sheet = price_feed.propose_listed(actor=fay, at=NOW)

    assert waiting() == {"Output": 5, "Input, over 200,000 tokens": 2, "Input, batch": Decimal("0.5")}
    assert (sheet.name, sheet.unchanged, sheet.unknown[0]["model"]) == ("genai-prices 9.9", 1, "own-model")
    found = price_selectors.last_feed_reading()
    assert found is not None
    assert (found.new, found.changed) == (2, 1)
    assert PriceEntry.objects.count() == 2
    assert AuditEntry.objects.get(event="price.feed_read").details["source"] == "genai-prices 9.9"


def test_reading_again_proposes_nothing_twice_and_nothing_that_was_rejected(says: list[feed.Listed], fay: User, alice: User) -> None:
    price_feed.propose_listed(actor=fay, at=NOW)
    one = PriceProposal.objects.get(token_class="output")
    price_proposals.reject(proposal=one, actor=alice, reason="We have a contract")

    again = price_feed.propose_listed(actor=fay, at=NOW + timedelta(days=7))

    assert not again.proposals.exists()
    assert len(waiting()) == 3
    says[1] = listed("output", "6")
    price_feed.propose_listed(actor=fay, at=NOW + timedelta(days=14))
    assert waiting()["Output"] == 6


def test_what_the_feed_says_no_more_is_withdrawn(says: list[feed.Listed]) -> None:
    price_feed.propose_listed(at=NOW)
    says[:] = [listed("input", "1.25")]

    price_feed.propose_listed(at=NOW + timedelta(days=7))

    assert waiting() == {"Input": Decimal("1.25")}
    withdrawn = PriceProposal.objects.filter(status="withdrawn")
    assert withdrawn.count() == 4
    assert {(one.decided_by, one.reason) for one in withdrawn} == {(None, "The feed says something else by now.")}


def test_new_price_covers_calls_that_wait_and_begins_with_the_listing(
    says: list[feed.Listed], acme: Tenant, fay: User, alice: User
) -> None:
    says[0] = listed("input", "1", since="2026-11-05")
    make.record(acme, *(make.call(acme, started_at=datetime(2026, 11, day, 10, 30, tzinfo=UTC)) for day in (2, 7)))

    price_feed.propose_listed(actor=fay, at=NOW)
    for proposal in PriceProposal.objects.filter(service_tier="standard", context_over=0):
        price_proposals.approve(proposal=proposal, actor=alice, at=NOW)

    assert {entry.token_class: entry.valid_from for entry in PriceEntry.objects.all()} == {
        "input": datetime(2026, 11, 5, tzinfo=UTC),
        "output": datetime(2026, 11, 2, 10, tzinfo=UTC),
    }
    assert prices.price_unpriced(provider="openai", model="small-chat") == 1  # the other is older than the listing


def test_waiting_price_of_the_same_time_stops_no_other(says: list[feed.Listed], acme: Tenant, fay: User) -> None:
    make.record(acme, make.call(acme, started_at=datetime(2026, 11, 3, 10, 30, tzinfo=UTC)))
    contract = Offer("openai", "small-chat", "input", Decimal("0.8"), datetime(2026, 11, 3, 10, tzinfo=UTC))
    price_proposals.propose(offers=[contract], name="Contract", actor=fay, at=NOW)

    sheet = price_feed.propose_listed(at=NOW)

    assert sheet.note.endswith("Left out, because another price waits from the same time on: 1.")
    assert waiting() == {"Input": Decimal("0.8"), "Output": 5, "Input, over 200,000 tokens": 2, "Input, batch": Decimal("0.5")}


def test_schedule_reads_once_a_week_and_leaves_the_decision_to_one_person(says: list[feed.Listed], acme: Tenant, alice: User) -> None:
    tasks.read_price_feed(schema_name=acme.schema_name)
    tasks.read_price_feed(schema_name=acme.schema_name)

    enter_tenant(acme)
    [sheet] = PriceSheet.objects.all()
    assert sheet.proposed_by is None
    assert Notice.objects.get(topic="price.proposed").text.startswith("genai-prices 9.9, by the schedule")
    price_proposals.approve(proposal=PriceProposal.objects.get(token_class="output"), actor=alice)
    assert PriceEntry.objects.get().price == 5


def test_page_and_api_read_it_now(says: list[feed.Listed], client_for: ClientFor, api_for: ClientFor, fay: User, audra: User) -> None:
    before = (api_for(fay).get(API).status_code, client_for(fay).get(PAGE).content.decode())

    answer = client_for(fay).post(f"{PAGE}feed/", follow=True)
    body = api_for(fay).post(API).json()

    assert (before[0], "were not read yet" in before[1]) == (404, True)
    page = answer.content.decode()
    assert "genai-prices 9.9" in page
    assert "The model is not in the data." in page
    assert "4 new, 0 changed" in page
    assert "4 prices are proposed, somebody else decides; 0 are as in the book, 1 deployment without a list price." in page
    assert body == api_for(audra).get(API).json()
    assert (body["new"], body["changed"], body["unchanged"], body["unknown"][0]["upstream_model"]) == (0, 0, 0, "ours-7b")
    assert api_for(audra).post(API).status_code == 403


def test_feed_that_cannot_be_read_changes_nothing(
    acme: Tenant, alice: User, fay: User, client_for: ClientFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    make.deployment(alice)
    Provider.objects.update(kind="openai")
    monkeypatch.setattr(feed, "READ_TIMEOUT_S", 0)

    page = client_for(fay).post(f"{PAGE}feed/", follow=True).content.decode()

    assert "could not be read" in page
    assert not PriceSheet.objects.exists()
