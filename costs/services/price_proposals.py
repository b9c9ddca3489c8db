"""Prices by four eyes: one person proposes, another puts each into force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from costs import exchange, price_sheets, tasks
from costs.errors import PriceProposalStateError, PriceSheetError, PriceValueError
from costs.models import SERIES, PriceEntry, PriceProposal, PriceSheet
from costs.quotes import USD
from costs.services import prices
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

MICRO = Decimal("0.00000001")
PATH = "operate/costs/price-book/proposals/"


@transaction.atomic
def propose(
    *,
    offers: Sequence[price_sheets.Offer],
    name: str,
    actor: User | None,
    note: str = "",
    kind: str = PriceSheet.Kind.SHEET,
    unknown: Sequence[dict[str, str]] = (),
    at: datetime | None = None,
) -> PriceSheet:
    """Propose prices together. Rows that are in force already are counted and left out. Tells those who may decide.

    A price in another currency is converted here, at the rate of the day that it begins on (of today, where that is to come): whoever decides
    sees both, and that rate stays with the price. A reading of a feed is kept also when it changes nothing.
    Raises PriceSheetError (nothing would change, one of them waits already, or an exchange rate is not known).
    """
    at = at or timezone.now()
    offers = _converted(offers)
    changing = [
        (offer, before.price if before else None)
        for offer, before in zip(offers, _entries_before(offers), strict=True)
        if before is None or before.price != offer.price or before.currency != offer.currency
    ]
    if not changing and kind != PriceSheet.Kind.FEED:
        raise PriceSheetError("Every price of it is in force already.")
    sheet = PriceSheet.objects.create(
        kind=kind,
        name=name[:200],
        note=note[:400],
        unchanged=len(offers) - len(changing),
        unknown=list(unknown),
        proposed_by=actor,
        proposed_at=at,
    )
    if not changing:
        return sheet
    try:
        with transaction.atomic():
            PriceProposal.objects.bulk_create(
                [
                    PriceProposal(
                        sheet=sheet,
                        **offer.series_fields,
                        price=offer.price,
                        before=before,
                        valid_from=offer.valid_from,
                        source=offer.source or note[:200],
                        corrects=offer.corrects,
                        **(offer.quote.columns if offer.quote else USD),
                    )
                    for offer, before in changing
                ],
                batch_size=500,
            )
    except IntegrityError as error:
        raise PriceSheetError(
            "A price of the same model, class and time waits for a decision already. Decide or withdraw it first."
        ) from error
    audit.record(
        "price.proposed", actor=actor, target=sheet, at=at, kind=kind, proposals=len(changing), unchanged=sheet.unchanged, note=sheet.note
    )
    alerts.notify(
        topic="price.proposed",
        severity=Severity.INFO,
        title=f"{len(changing)} price{'s' * (len(changing) != 1)} wait for a decision",
        text=f"{sheet.name}, by {actor or 'the schedule'}. Somebody else puts them into force.",
        path=PATH,
        permission=Permission.MANAGE_COSTS,
        key=f"price-sheet:{sheet.pk}",
        data={"sheet": sheet.pk, "proposals": len(changing)},
        at=at,
    )
    return sheet


def propose_discount(
    *, provider: str, percent: Decimal, valid_from: datetime, actor: User, note: str, model: str = "", at: datetime | None = None
) -> PriceSheet:
    """Propose every price of a provider (or of one model there) that is in force at `valid_from`, less `percent`; rounded to eight decimals.

    Raises PriceValueError (no such discount) or PriceSheetError (nothing is in force, or the like waits).
    """
    if not 0 < percent < 100:
        raise PriceValueError("A discount is more than 0% and less than 100%.", field="percent")
    entries = PriceEntry.objects.filter(_covers(valid_from), provider=provider).order_by(*SERIES)
    if model:
        entries = entries.filter(model=model)
    offers = [
        price_sheets.Offer(
            entry.provider,
            entry.model,
            entry.token_class,
            quote.usd if quote else (entry.price * (100 - percent) / 100).quantize(MICRO, ROUND_HALF_EVEN),
            valid_from,
            f"{entry.quote_text or f'{entry.price.normalize():f}'} less {percent.normalize():f}%: {note}"[:200],
            service_tier=entry.service_tier,
            region=entry.region,
            context_over=entry.context_over,
            currency=entry.currency,
            quote=quote,
        )
        for entry in entries
        for quote in [entry.quote.less(percent) if entry.quote else None]
    ]
    if not offers:
        raise PriceSheetError("No price of it is in force at that time.")
    name = f"{percent.normalize():f}% off {provider}{f', {model}' if model else ''}"
    return propose(offers=offers, name=name, actor=actor, note=note, kind=PriceSheet.Kind.DISCOUNT, at=at)


@transaction.atomic
def approve(*, proposal: PriceProposal, actor: User, at: datetime | None = None) -> PriceProposal:
    """Put a proposed price in force; a correction also takes the place of an entry that begins then, and calls are priced anew after the commit.

    Raises PriceProposalStateError (decided before, one's own, or the price before it is another by now), PriceExistsError.
    """
    at = at or timezone.now()
    proposal = _waiting(proposal)
    if proposal.sheet.proposed_by_id == actor.pk:
        raise PriceProposalStateError("Nobody approves their own price: ask somebody else.")
    prices.lock_series(proposal.series)
    before = PriceEntry.objects.filter(_covers(proposal.valid_from), **proposal.series).first()
    if (before.price if before else None) != proposal.before:
        raise PriceProposalStateError("Another price came into force since it was proposed. Look at both, then propose it again.")
    put = prices.correct_price if proposal.corrects else partial(prices.set_price, agreed=True)
    proposal.entry = put(
        **proposal.series,
        price=proposal.price,
        valid_from=proposal.valid_from,
        source=proposal.source or proposal.sheet.name,
        actor=actor,
        quote=proposal.quote,
    )
    if proposal.corrects:
        # Robust: when the broker is away the hourly task does it.
        transaction.on_commit(partial(tasks.finish_corrections.delay, schema_name=current_schema()), robust=True)
    return _decided(proposal, PriceProposal.Status.APPROVED, actor, at)


@transaction.atomic
def reject(*, proposal: PriceProposal, actor: User, reason: str = "", at: datetime | None = None) -> PriceProposal:
    """Decline a proposed price, with a reason; whoever proposed it withdraws it so, without one. Raises PriceProposalStateError."""
    proposal = _waiting(proposal)
    own = proposal.sheet.proposed_by_id == actor.pk
    if not own and not reason.strip():
        raise PriceProposalStateError("Say why, so that it is not proposed again.", field="reason")
    proposal.reason = reason.strip()[:400]
    status = PriceProposal.Status.WITHDRAWN if own else PriceProposal.Status.REJECTED
    return _decided(proposal, status, actor, at or timezone.now())


@transaction.atomic
def withdraw_outdated(*, proposal: PriceProposal, reason: str, at: datetime) -> PriceProposal:
    """Take back what a feed proposed and does not say any more. Raises PriceProposalStateError."""
    proposal = _waiting(proposal)
    proposal.reason = reason
    return _decided(proposal, PriceProposal.Status.WITHDRAWN, None, at)


def _waiting(proposal: PriceProposal) -> PriceProposal:
    found = PriceProposal.objects.select_for_update(of=("self",)).select_related("sheet__proposed_by").get(pk=proposal.pk)
    if found.status != PriceProposal.Status.WAITING:
        raise PriceProposalStateError(f"It is {found.get_status_display().lower()} already.")
    return found


def _decided(proposal: PriceProposal, status: str, actor: User | None, at: datetime) -> PriceProposal:
    proposal.status, proposal.decided_by, proposal.decided_at = status, actor, at
    proposal.save(update_fields=["status", "decided_by", "decided_at", "reason", "entry"])
    audit.record(
        f"price.proposal_{status}",
        actor=actor,
        target=proposal,
        at=at,
        price=f"{proposal.price.normalize():f}",
        quoted=proposal.quote_text,
        before=None if proposal.before is None else f"{proposal.before.normalize():f}",
        proposed_by=str(proposal.sheet.proposed_by or "the schedule"),
        corrects=proposal.corrects,
        reason=proposal.reason,
    )
    return proposal


def _covers(at: datetime) -> Q:
    return Q(valid_from__lte=at) & (Q(valid_to=None) | Q(valid_to__gt=at))


def _converted(offers: Sequence[price_sheets.Offer]) -> list[price_sheets.Offer]:
    found, wrong = [], set()
    for offer in offers:
        if offer.currency == exchange.BOOK or offer.quote is not None:
            found.append(offer)
            continue
        try:
            quote = prices.quoted(offer.currency, offer.price, offer.valid_from)
            prices.check_price(quote.usd)
            found.append(replace(offer, price=quote.usd, quote=quote))
        except PriceValueError as error:
            wrong.add(error.message)
    if wrong:
        raise PriceSheetError(f"Nothing was proposed. {' '.join(sorted(wrong)[:5])}")
    return found


def _entries_before(offers: Sequence[price_sheets.Offer]) -> list[PriceEntry | None]:
    """What is in force when each offer begins; None where nothing is. One query."""
    series: dict[tuple[Any, ...], list[PriceEntry]] = defaultdict(list)
    entries = PriceEntry.objects.filter(provider__in={offer.provider for offer in offers}, model__in={offer.model for offer in offers})
    for entry in entries:
        series[tuple(entry.series.values())].append(entry)
    return [next((entry for entry in series[offer.series] if entry.covers(offer.valid_from)), None) for offer in offers]
