"""List prices as proposals: what a public feed says of our models, as a diff against the book that people decide on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from catalog.models import Deployment
from costs import exchange, price_feed, price_selectors
from costs.errors import PriceFeedError, PriceProposalStateError
from costs.models import SERIES, PriceEntry, PriceProposal, PriceSheet
from costs.price_sheets import Offer
from costs.services import price_proposals
from governance.models import User
from governance.services import audit

INTERVAL = timedelta(days=7)


def propose_listed(*, actor: User | None = None, at: datetime | None = None) -> PriceSheet:
    """Compare the book with the feed and propose what differs; the sheet says what is unchanged and which models the feed does not know.

    What was rejected from the feed is not proposed again at the same price, and what waits with a price that the feed no longer has is
    withdrawn. A price that the book never had begins with the first call that waits for it; others now. Without an `actor` it is the
    schedule, and everybody who manages costs may decide. Raises PriceFeedError.
    """
    at = at or timezone.now()
    try:
        found = price_feed.read(_asked(), at)
    except price_feed.FeedError as error:
        raise PriceFeedError(str(error)) from error
    with transaction.atomic():
        with connection.cursor() as cursor:  # two readings at once would both propose the same
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('price-feed:' || current_schema(), 0))")
        offers = _offers(found, at)
        _withdraw_outdated(offers, at)
        waiting, rejected = _decided()
        fresh = [offer for offer in offers if (offer.series, offer.price) not in waiting and (offer.series, offer.price) not in rejected]
        beginning = {(_series(one), one.valid_from) for one in PriceProposal.objects.filter(status=PriceProposal.Status.WAITING)}
        blocked = sum((offer.series, offer.valid_from) in beginning for offer in fresh)
        fresh = [offer for offer in fresh if (offer.series, offer.valid_from) not in beginning]
        left_out = f" Left out, because another price waits from the same time on: {blocked}." if blocked else ""
        sheet = price_proposals.propose(
            offers=fresh,
            name=found.source,
            actor=actor,
            note="List prices, indicative: check them against the provider's page and your contract." + left_out,
            kind=PriceSheet.Kind.FEED,
            unknown=[asdict(one) for one in found.unknown],
            at=at,
        )
        audit.record(
            "price.feed_read", actor=actor, target=sheet, at=at, source=found.source, listed=len(offers), unknown=len(found.unknown)
        )
    return sheet


def is_due(at: datetime) -> bool:
    """Whether the schedule reads the feed again: a week after the last reading, by whomever."""
    last = price_selectors.last_feed_reading()
    return last is None or last.sheet.proposed_at <= at - INTERVAL


def _asked() -> list[price_feed.Asked]:
    columns = ("provider__slug", "model__slug", "provider__kind", "provider__base_url", "upstream_model")
    return [price_feed.Asked(*row) for row in Deployment.objects.order_by(*columns).values_list(*columns).distinct()]


def _offers(found: price_feed.Read, at: datetime) -> list[Offer]:
    known = {tuple(row) for row in PriceEntry.objects.values_list(*SERIES).distinct()}
    # What is quoted in another currency stands in a contract: a list in dollars says nothing of it.
    elsewhere = {tuple(row) for row in PriceEntry.objects.filter(_covers_now(at)).exclude(currency=exchange.BOOK).values_list(*SERIES)}
    waits = {(row.provider, row.model): row.since for row in price_selectors.unpriced()}
    offers = []
    for row in found.prices:
        offer = Offer(
            row.provider, row.model, row.token_class, Decimal(row.price), at, found.source, False, row.service_tier, "", row.context_over
        )
        if offer.series not in known and (first := waits.get((row.provider, row.model))):
            began = datetime.fromisoformat(row.since).replace(tzinfo=UTC) if row.since else first
            offer = Offer(**{**asdict(offer), "valid_from": min(max(first, began), at)})
        if offer.series not in elsewhere:
            offers.append(offer)
    return offers


def _covers_now(at: datetime) -> Q:
    return Q(valid_from__lte=at) & (Q(valid_to=None) | Q(valid_to__gt=at))


def _series(proposal: PriceProposal) -> tuple[Any, ...]:
    return tuple(proposal.series.values())


def _decided() -> tuple[set[tuple[Any, Decimal]], set[tuple[Any, Decimal]]]:
    """Series and price of what waits, from wherever, and of what was last rejected from a feed."""
    waiting = {(_series(one), one.price) for one in PriceProposal.objects.filter(status=PriceProposal.Status.WAITING)}
    decided = PriceProposal.objects.filter(
        sheet__kind=PriceSheet.Kind.FEED, status__in=[PriceProposal.Status.REJECTED, PriceProposal.Status.APPROVED]
    )
    last = {_series(one): one for one in decided.order_by("pk")}
    return waiting, {(series, one.price) for series, one in last.items() if one.status == PriceProposal.Status.REJECTED}


def _withdraw_outdated(offers: list[Offer], at: datetime) -> None:
    """Take back what earlier readings proposed and this one does not say any more."""
    listed = {offer.series: offer.price for offer in offers}
    for one in PriceProposal.objects.filter(sheet__kind=PriceSheet.Kind.FEED, status=PriceProposal.Status.WAITING).order_by("pk"):
        if listed.get(_series(one)) != one.price:
            with suppress(PriceProposalStateError):  # somebody decided meanwhile
                price_proposals.withdraw_outdated(proposal=one, reason="The feed says something else by now.", at=at)
