"""Commitments by four eyes, and the daily count of what they were used for."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import DateField, ExpressionWrapper, F, Sum, Value
from django.db.models.functions import Least
from django.utils import timezone

from catalog.models import Deployment, Provider
from costs import commitment_selectors, commitments, exchange, tasks
from costs.errors import CommitmentError, CommitmentStateError, PriceValueError
from costs.models import Commitment, CommitmentDay, UsageHour
from costs.periods import Period, first_of_month
from costs.services import prices
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

LONGEST = timedelta(days=5 * 366)
HIGHEST = Decimal(10) ** 9
"""Units, or USD; what is quoted in another currency is held to it at our rate."""
WARN_DAYS = (30, 7)
"""Before the last day."""
RECOUNTED_DAYS = 3
"""Each hour, for late calls and prices; the first time on a day, from the first of the month before."""
PATH = "operate/costs/commitments/"


@transaction.atomic
def propose_commitment(
    *,
    reference: str,
    kind: str,
    provider: str,
    quantity: Decimal,
    unit_price: Decimal,
    first_on: date,
    last_on: date,
    source: str,
    actor: User,
    model: str = "",
    region: str = "",
    unit_tokens_per_minute: int | None = None,
    output_weight: Decimal = Decimal(1),
    currency: str = exchange.BOOK,
    at: datetime | None = None,
) -> Commitment:
    """Enter a commitment; it counts for nothing until somebody else approves it. Tells those who may.

    In another `currency` than USD, the unit price of throughput and the amount of use of the others are quoted in it, and converted once at our
    rate of the first day, or of today. Writes one audit entry. Raises CommitmentError (names the field).
    """
    at = at or timezone.now()
    found = Commitment(
        reference=" ".join(reference.split()),
        kind=kind,
        provider=provider,
        model=model,
        region=region.strip(),
        quantity=quantity,
        unit_price=unit_price,
        unit_tokens_per_minute=unit_tokens_per_minute,
        output_weight=output_weight,
        first_on=first_on,
        last_on=last_on,
        source=source.strip(),
        proposed_by=actor,
        proposed_at=at,
    )
    _check(found)
    if currency != exchange.BOOK:
        _check_amounts(found, HIGHEST * exchange.HIGHEST)
        _quote(found, currency)
    _check_amounts(found, HIGHEST)
    try:
        with transaction.atomic():
            found.save(force_insert=True)
    except IntegrityError as error:
        raise CommitmentError("Another commitment of this reference begins that day.", field="reference") from error
    audit.record("commitment.proposed", actor=actor, target=found, at=at, **_told(found))
    alerts.notify(
        topic="commitment.proposed",
        severity=Severity.INFO,
        title=f"The commitment {found.reference} waits for approval",
        text=f"{found.get_kind_display()} of {found.provider} for {found.fee:,.2f} USD{_in_contract(found)}. Somebody else than {actor} approves it.",
        path=PATH,
        permission=Permission.MANAGE_COSTS,
        key=f"commitment:{found.pk}",
        data={"commitment": found.pk},
        at=at,
    )
    return found


def _check(found: Commitment) -> None:
    provider = Provider.objects.filter(slug=found.provider).first()
    if not found.reference or not found.source:
        raise CommitmentError("It needs a reference and where it stands.", field="source" if found.reference else "reference")
    if found.kind not in Commitment.Kind.values:
        raise CommitmentError(f"The kind is one of {', '.join(Commitment.Kind.values)}.", field="kind")
    if provider is None:
        raise CommitmentError("There is no such provider.", field="provider")
    if found.model and not Deployment.objects.filter(provider=provider, model__slug=found.model).exists():
        raise CommitmentError(f"{found.provider} does not serve that model.", field="model")
    if found.region and provider.region and found.region != provider.region:
        raise CommitmentError(f"{found.provider} is in {provider.region}: what is bought elsewhere does not serve it.", field="region")
    if found.last_on < found.first_on or found.last_on - found.first_on > LONGEST or not 2020 <= found.first_on.year <= 2100:
        raise CommitmentError("It ends before it begins, or lasts more than five years.", field="last_on")
    if found.is_throughput != (found.unit_tokens_per_minute is not None) or (found.unit_tokens_per_minute or 1) < 1:
        raise CommitmentError(
            "Throughput says how many tokens a unit serves in a minute; other kinds do not.", field="unit_tokens_per_minute"
        )
    if not 0 < found.output_weight < 1000:
        raise CommitmentError("An output token takes more than no and less than a thousand input tokens.", field="output_weight")


def _check_amounts(found: Commitment, highest: Decimal) -> None:
    if not 0 < found.quantity < highest:
        raise CommitmentError(f"Units, or the amount of use in USD, are more than 0 and less than {HIGHEST:,}.", field="quantity")
    if not 0 <= found.unit_price < highest or found.unit_price != round(found.unit_price, 8):
        raise CommitmentError(
            f"The unit price in USD is 0 or more and less than {HIGHEST:,}, with eight decimals at most.", field="unit_price"
        )


def _quote(found: Commitment, currency: str) -> None:
    """Convert what is in the currency of the contract. CommitmentError where no rate is known."""
    amount = found.unit_price if found.is_throughput else found.quantity
    try:
        quote = prices.quoted(currency, amount, datetime.combine(found.first_on, time(), UTC))
    except PriceValueError as error:
        raise CommitmentError(error.message, field="currency") from error
    if found.is_throughput:
        found.unit_price = quote.usd
    else:
        found.quantity = quote.usd.quantize(_FINEST_USE, ROUND_HALF_EVEN)
    if not found.quantity:
        raise CommitmentError("It is worth nothing in USD.", field="quantity")
    found.currency, found.quoted, found.rate, found.rate_on = quote.currency, quote.amount, quote.rate, quote.rate_on


_FINEST_USE = Decimal("0.0001")


def _in_contract(found: Commitment) -> str:
    return "" if found.quote is None else f" ({found.quoted_fee:,.2f} {found.currency} at {found.quote.rate.normalize():f})"


@transaction.atomic
def approve_commitment(*, commitment: Commitment, actor: User, at: datetime | None = None) -> Commitment:
    """Let it count, its past days included. Raises CommitmentStateError (decided before, one's own, or another of money runs at the time)."""
    at = at or timezone.now()
    _wait()  # two people may approve two that overlap
    found = _locked(commitment, Commitment.Status.WAITING)
    if found.proposed_by_id == actor.pk:
        raise CommitmentStateError("Nobody approves their own commitment: ask somebody else.")
    if not found.is_throughput:
        # Throughput adds up; the same dollar of use cannot be drawn twice.
        same = Commitment.objects.filter(status=Commitment.Status.APPROVED, provider=found.provider, model=found.model)
        other = same.exclude(kind=Commitment.Kind.THROUGHPUT).filter(first_on__lte=found.last_on, last_on__gte=found.first_on).first()
        if other is not None:
            raise CommitmentStateError(f"{other.reference} covers the same use at the same time.")
    return _decided(found, Commitment.Status.APPROVED, actor, "", at)


@transaction.atomic
def reject_commitment(*, commitment: Commitment, actor: User, reason: str = "", at: datetime | None = None) -> Commitment:
    """Decline it, with a reason; whoever proposed it withdraws it so, without one. Raises CommitmentStateError."""
    found = _locked(commitment, Commitment.Status.WAITING)
    own = found.proposed_by_id == actor.pk
    if not own and not reason.strip():
        raise CommitmentStateError("Say why.", field="reason")
    return _decided(found, Commitment.Status.WITHDRAWN if own else Commitment.Status.REJECTED, actor, reason, at or timezone.now())


@transaction.atomic
def void_commitment(*, commitment: Commitment, actor: User, reason: str, at: datetime | None = None) -> Commitment:
    """Take back one that was approved and wrong: it never counted. Raises CommitmentStateError."""
    _wait()
    found = _locked(commitment, Commitment.Status.APPROVED)
    if not reason.strip():
        raise CommitmentStateError("Say why.", field="reason")
    CommitmentDay.objects.filter(commitment=found).delete()
    found.counted_through = None
    count_again(provider=found.provider, since=found.first_on)
    return _decided(found, Commitment.Status.VOIDED, actor, reason, at or timezone.now())


def count_again(*, provider: str, since: date) -> None:
    """Within a transaction that changed use of the provider, or what covers it: let the next count begin at `since`, whoever makes it.

    The day to which a commitment is counted only ever moves back here: so a count that is under way sees that it has missed something.
    """
    _wait()
    before = ExpressionWrapper(Least(F("counted_through"), Value(since)) - timedelta(days=1), output_field=DateField())
    running = Commitment.objects.filter(status=Commitment.Status.APPROVED, provider=provider, last_on__gte=since)
    running.exclude(counted_through=None).update(counted_through=before)


def _wait() -> None:
    """One at a time changes what is counted of this schema's commitments, until the transaction ends. Taken before rows are locked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('commitment:' || current_schema(), 0))")


def _locked(commitment: Commitment, status: str) -> Commitment:
    found = Commitment.objects.select_for_update(of=("self",)).select_related("proposed_by").get(pk=commitment.pk)
    if found.status != status:
        raise CommitmentStateError(f"It is {found.get_status_display().lower()}.")
    return found


def _decided(found: Commitment, status: str, actor: User, reason: str, at: datetime) -> Commitment:
    found.status, found.decided_by, found.decided_at, found.reason = status, actor, at, reason.strip()[:400]
    found.save(update_fields=["status", "decided_by", "decided_at", "reason", "counted_through"])
    audit.record(f"commitment.{status}", actor=actor, target=found, at=at, reason=found.reason, **_told(found))
    if status in (Commitment.Status.APPROVED, Commitment.Status.VOIDED):
        # Robust: when the broker is away the hourly task does it. Others may cover now what this one did, and the other way round.
        count = partial(tasks.count_commitments.delay, since=found.first_on.isoformat(), schema_name=current_schema())
        transaction.on_commit(count, robust=True)
    return found


def _told(found: Commitment) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "provider": found.provider,
        "model": found.model,
        "quantity": f"{found.quantity.normalize():f}",
        "unit_price": f"{found.unit_price.normalize():f}",
        "quoted": found.quote_text,
        "first_on": found.first_on.isoformat(),
        "last_on": found.last_on.isoformat(),
        "source": found.source,
    }


def count(*, since: date | None = None, at: datetime | None = None) -> int:
    """Count anew what commitments were used for, from `since` (the last days without it) up to the last hour that is over. Returns how many days.

    A day is a transaction of its own; doing it twice changes nothing. Days before that were never counted are counted too.
    """
    now = (at or timezone.now()).astimezone(UTC)
    today = now.date()
    approved = list(Commitment.objects.filter(status=Commitment.Status.APPROVED, first_on__lte=today).order_by("pk"))
    if not approved:
        return 0
    first = min(since or today, today - timedelta(days=RECOUNTED_DAYS - 1))
    for found in approved:
        counted = found.counted_through
        if counted is None:
            first = min(first, found.first_on)
        elif counted < today:  # the first count of a day
            first = min(first, first_of_month(counted, -1))
    days = [
        day for day in Period(max(first, min(found.first_on for found in approved)), today).days if any(one.covers(day) for one in approved)
    ]
    for day in days:
        _count_day(day, commitments.HOURS if day < today else now.hour)
    for found in approved:  # one that was moved back meanwhile stays due
        Commitment.objects.filter(pk=found.pk, counted_through=found.counted_through).update(counted_through=today)
    return len(days)


@transaction.atomic
def _count_day(day: date, hours: int) -> None:
    _wait()
    running = list(Commitment.objects.filter(status=Commitment.Status.APPROVED, first_on__lte=day, last_on__gte=day))
    CommitmentDay.objects.filter(day=day).delete()
    if not running:
        return
    drawn: dict[int, Decimal] = dict(
        CommitmentDay.objects.filter(commitment__in=[one.pk for one in running if not one.is_throughput], day__lt=day)
        .order_by()
        .values_list("commitment")
        .annotate(n=Sum("quantity"))
    )
    one = Period(day, day)
    by_hour = (
        UsageHour.objects.filter(hour__gte=one.start, hour__lt=one.end, provider__in={found.provider for found in running})
        .order_by("hour", "provider", "model")
        .values_list("hour", "provider", "model")
        .annotate(fresh=Sum("uncached_input_tokens") + Sum("cache_write_tokens"), written=Sum("output_tokens"), money=Sum("cost"))
    )
    uses = [
        commitments.Use(hour.astimezone(UTC).hour, provider, model, fresh, written, money)
        for hour, provider, model, fresh, written, money in by_hour
        if fresh or written or money
    ]
    parts = commitments.day_of([commitment_selectors.terms(found) for found in running], uses, day, drawn, hours)
    CommitmentDay.objects.bulk_create(
        [
            CommitmentDay(commitment_id=pk, day=day, model=model, quantity=part.quantity, list_cost=part.list_cost, cost=part.cost)
            for (pk, model), part in sorted(parts.items())
        ]
    )


@transaction.atomic
def warn_of_ends(*, at: datetime | None = None) -> int:
    """Tell of commitments that end within WARN_DAYS, once for each. Returns how many notices were due."""
    at = at or timezone.now()
    today = at.astimezone(UTC).date()
    ending = Commitment.objects.filter(
        status=Commitment.Status.APPROVED, last_on__gte=today, last_on__lte=today + timedelta(days=max(WARN_DAYS))
    )
    due = list(ending)
    for found in due:
        left = (found.last_on - today).days
        days = min(days for days in WARN_DAYS if left <= days)
        alerts.notify(
            topic="commitment.ending",
            severity=Severity.WARNING if days == min(WARN_DAYS) else Severity.INFO,
            title=f"The commitment {found.reference} ends on {found.last_on:%b} {found.last_on.day}",
            text=f"{found.get_kind_display()} of {found.provider}. Afterwards its use costs what the price book says; renew or resize it by its utilisation.",
            path=PATH,
            permission=Permission.MANAGE_COSTS,
            key=f"commitment-ending:{found.pk}:{days}",
            data={"commitment": found.pk, "last_on": found.last_on.isoformat()},
            at=at,
        )
    return len(due)
