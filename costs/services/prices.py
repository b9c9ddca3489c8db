"""The price book: putting prices in force, and pricing what waited for one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Max, Min, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from costs import attribute_days, exchange, exchange_selectors, price_sheets, pricing, prompt_days, tag_days, tasks, usage_days
from costs.errors import NothingToReconcileError, PriceExistsError, PriceValueError, RateUnknownError
from costs.models import SERIES, Event, PriceEntry, PriceProposal, Reconciliation, ServiceTier, SupersededPrice, UsageHour
from costs.periods import hour_of
from costs.quotes import USD, Quote
from costs.services import commitments, ingest, reconciliation
from governance import config
from governance.models import User
from governance.schema import current_schema
from governance.services import audit

logger = logging.getLogger(__name__)

PRICING_BATCH = 20_000
BATCH_PAUSE = 1.5
"""Seconds between batches without the lock of events: ingest tries for it once a second only."""
CLOCK_SLACK = timedelta(minutes=5)
"""A price may begin this long ago and still be one of now: forms are filled in and sent."""


@transaction.atomic
def set_price(
    *,
    provider: str,
    model: str,
    token_class: str,
    price: Decimal,
    actor: User,
    service_tier: str = ServiceTier.STANDARD,
    region: str = "",
    context_over: int = 0,
    valid_from: datetime | None = None,
    source: str = "",
    agreed: bool = False,
    currency: str = exchange.BOOK,
    quote: Quote | None = None,
) -> PriceEntry:
    """Put a price (per million tokens, in `currency`) in force from `valid_from` (aware; default now) until the next entry of the series.

    The entry in force at that time ends there. Calls that have a price keep it; calls since then that are unpriced are priced
    after the commit. The same price as the one in force changes nothing. Writes one audit entry and tells the gateway.

    One person alone does not change what a later correction would value calls by: only `agreed` (a second person approved it) may begin
    in the past where calls have a price.

    A price in another currency than USD is converted once, at the rate of the day that it begins on (of today, where that is to come); with
    a `quote` that was done before, and `price` is in USD.

    Raises PriceValueError (no exchange rate is known, negative, too large, with more than eight decimals, or in the past of priced calls) or PriceExistsError (an entry
    begins at that very time).
    """
    valid_from = valid_from or timezone.now()
    if quote is None and currency != exchange.BOOK:
        check_price(price, currency)
        quote = quoted(currency, price, valid_from)
        price = quote.usd
    check_price(price)
    key = _key(provider, model, token_class, service_tier, region, context_over)
    lock_series(key)
    if not agreed:
        _check_past(key, valid_from)
    series = PriceEntry.objects.filter(**key)
    current = series.filter(valid_from__lte=valid_from).filter(Q(valid_to=None) | Q(valid_to__gt=valid_from)).first()
    if current is not None and current.price == price and current.quote == quote:
        return current
    if current is not None and current.valid_from == valid_from:
        raise PriceExistsError(f"A price of {current.price.normalize():f} begins at that very time. Choose another.", field="valid_from")
    following = series.filter(valid_from__gt=valid_from).order_by("valid_from").first()
    if current is not None:
        current.valid_to = valid_from
        current.save(update_fields=["valid_to"])
    period = (valid_from, following.valid_from if following else None)
    entry = _enter("price.set", key, price, quote, period, before=current, source=source, actor=actor)
    # Robust: when the broker is away the price is set all the same; the hourly task prices what waits.
    transaction.on_commit(partial(tasks.price_unpriced.delay, provider=provider, model=model, schema_name=current_schema()), robust=True)
    return entry


def quoted(currency: str, amount: Decimal, valid_from: datetime) -> Quote:
    """What is quoted, at the rate of the day that it begins on, or of today. PriceValueError without one: unknown is never 1."""
    if currency not in exchange.CURRENCIES:
        raise PriceValueError(f"{currency[:12] or 'Nothing'} is no currency of ISO 4217.", field="currency")
    day = min(valid_from, timezone.now()).astimezone(UTC).date()
    rate = exchange_selectors.rate_of(currency, day)
    if rate is None:
        raise PriceValueError(f"No exchange rate of {currency} for {day} is known: enter it first.", field="currency")
    return Quote(currency, amount, rate.per_usd, rate.day)


def _key(provider: str, model: str, token_class: str, service_tier: str, region: str, context_over: int) -> dict[str, Any]:
    return dict(zip(SERIES, (provider, model, token_class, service_tier, region, context_over), strict=True))


def _check_past(key: dict[str, Any], valid_from: datetime) -> None:
    """PriceValueError when calls have a price within the time that an entry from `valid_from` on would cover."""
    if valid_from >= timezone.now() - CLOCK_SLACK:
        return
    provider, model = key["provider"], key["model"]
    later = PriceEntry.objects.filter(**key, valid_from__gt=valid_from).order_by("valid_from")
    following = later.values_list("valid_from", flat=True).first()
    until = following or timezone.now()
    first = hour_of(valid_from)
    # Also at a price of nothing. The rollup says which hours to look into; free calls have no price but are in them.
    hours = UsageHour.objects.filter(provider=provider, model=model, hour__gte=first, hour__lt=until, calls__gt=F("unpriced_calls"))
    span = hours.aggregate(first=Min("hour"), last=Max("hour"))
    if span["first"] is None:
        return
    start, end = max(valid_from, span["first"]), min(until, span["last"] + timedelta(hours=1))
    calls = Event.objects.filter(
        provider=provider,
        model=model,
        pricing=Event.Pricing.PRICED,
        service_tier=key["service_tier"],
        started_at__gte=start,
        started_at__lt=end,
    )
    # Of months that left the database only the rollup is there: neither the minute nor the service tier of their calls. Asked last, since
    # a month may leave now.
    if calls.exists() or ((kept_from := ingest.kept_from()) is not None and start < kept_from):
        raise PriceValueError("Calls since then have a price: propose it, as a correction if the book was wrong.", field="valid_from")


def lock_series(key: dict[str, Any]) -> None:
    """Wait until nobody else changes these prices, and keep them off until the transaction ends."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('price:' || current_schema() || ':' || %s, 0))",
            ["\x1f".join(str(key[name]) for name in SERIES)],
        )


@transaction.atomic
def correct_price(
    *,
    provider: str,
    model: str,
    token_class: str,
    price: Decimal,
    valid_from: datetime,
    actor: User,
    service_tier: str = ServiceTier.STANDARD,
    region: str = "",
    context_over: int = 0,
    source: str = "",
    at: datetime | None = None,
    quote: Quote | None = None,
) -> PriceEntry:
    """Say that the book was wrong from `valid_from` until the next entry of the series: this is the price of that time.

    An entry that begins at that very time is superseded (and kept as such), another one ends there. `reprice` then values the calls
    of that time anew. Writes the audit entry and tells the gateway. Raises PriceValueError.
    """
    key = _key(provider, model, token_class, service_tier, region, context_over)
    lock_series(key)
    wrong = PriceEntry.objects.filter(**key, valid_from=valid_from).first()
    if wrong is None:
        return set_price(**key, price=price, valid_from=valid_from, source=source, actor=actor, agreed=True, quote=quote)
    check_price(price)
    columns = ("id", *SERIES, "price", "valid_from", "valid_to", "source", "approved_by_id", "created_at", *USD)
    SupersededPrice.objects.create(
        **{name: getattr(wrong, name) for name in columns}, superseded_at=at or timezone.now(), superseded_by=actor
    )
    PriceProposal.objects.filter(entry=wrong).update(entry=None)
    wrong.delete()
    return _enter("price.corrected", key, price, quote, (wrong.valid_from, wrong.valid_to), before=wrong, source=source, actor=actor)


def _enter(
    event: str,
    key: dict[str, Any],
    price: Decimal,
    quote: Quote | None,
    period: tuple[datetime, datetime | None],
    *,
    before: PriceEntry | None,
    source: str,
    actor: User,
) -> PriceEntry:
    """Put a price into the book for `period` (its end open or exclusive), with the audit entry, and tell the gateway."""
    entry = PriceEntry.objects.create(
        **key,
        price=price,
        valid_from=period[0],
        valid_to=period[1],
        source=source,
        approved_by=actor,
        **(quote.columns if quote else USD),
    )
    audit.record(
        event,
        actor=actor,
        target=entry,
        **key,
        price=str(price),
        before=str(before.price) if before else None,
        valid_from=period[0].isoformat(),
        source=source,
        quoted=entry.quote_text,
    )
    config.changed()
    return entry


def check_price(price: Decimal, currency: str = exchange.BOOK) -> None:
    """Raises PriceValueError (negative, too large or with more than eight decimals)."""
    if not price_sheets.is_price(price, currency):
        raise PriceValueError(
            f"A price per million tokens is between 0 and {price_sheets.HIGHEST_PRICE:,} USD, with eight decimals at most.", field="price"
        )


def _in_rollups(calls: str, money: str, unpriced: int, classes: Callable[[str], str]) -> str:
    """Common table expressions that give the calls in the one named `calls` more money in every rollup.

    `money` is an expression with `{0}` for the calls' alias, `classes` the row of a token class with its money for `pricing.by_class`;
    `unpriced` is 1 when the calls had no price before, else 0.
    """
    given = {"calls": calls, "money": money.format("f"), "unpriced": unpriced}
    return f"""rolled AS (
    UPDATE usage_hour r SET cost = r.cost + n.cost, unpriced_calls = r.unpriced_calls - n.calls
    FROM (
        SELECT date_trunc('hour', f.started_at, 'UTC') AS hour, project, cost_centre, agent, model, provider, key_id, kind,
            {usage_days.OUTCOME} AS outcome, sum({given["money"]}) AS cost, {unpriced} * count(*) AS calls
        FROM {calls} f GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ) n
    WHERE (r.hour, r.project, r.cost_centre, r.agent, r.model, r.provider, r.key_id, r.kind, r.outcome)
        = (n.hour, n.project, n.cost_centre, n.agent, n.model, n.provider, n.key_id, n.kind, n.outcome)
), by_day AS (
    {usage_days.VALUE.format(**given | {"money": money.format("c")})}
), {attribute_days.VALUE.format(**given)}, by_tag AS (
    {tag_days.VALUE.format(**given)}
), by_prompt AS (
    {prompt_days.VALUE.format(**given)}
), by_class AS (
    UPDATE token_day d SET cost = d.cost + n.cost, unpriced_tokens = d.unpriced_tokens - n.tokens
    FROM (
        SELECT (started_at AT TIME ZONE 'UTC')::date AS day, provider, model, v.token_class, sum(v.cost) AS cost, {unpriced} * sum(v.tokens) AS tokens
        FROM {calls} CROSS JOIN LATERAL {pricing.by_class(classes)} v(token_class, tokens, cost) WHERE v.tokens > 0 GROUP BY 1, 2, 3, 4
    ) n
    WHERE (d.day, d.provider, d.model, d.token_class) = (n.day, n.provider, n.model, n.token_class)
)"""  # noqa: S608  # names and expressions of our own modules


_PRICE = f"""
WITH waiting AS (
    SELECT event_id, started_at FROM event
    WHERE pricing = 'unpriced' AND provider = %(provider)s AND model = %(model)s AND NOT (uncached_input_tokens IS NULL AND output_tokens IS NULL)
        AND started_at >= %(after)s
    ORDER BY started_at LIMIT %(size)s
), with_prices AS (
    SELECT c.*, {pricing.PRICED_COLUMNS}
    FROM event c JOIN waiting USING (event_id, started_at)
{pricing.price_joins("event c JOIN waiting USING (event_id, started_at)")}
), valued AS (
    SELECT *, {pricing.COST} AS value, {pricing.PRICE_IDS} AS ids FROM with_prices WHERE {pricing.IS_PRICED}
), changed AS (
    UPDATE event e SET cost = v.value, price_ids = v.ids, pricing = 'priced' FROM valued v WHERE e.event_id = v.event_id AND e.started_at = v.started_at
    RETURNING e.event_id
), {_in_rollups("valued", "{0}.value", 1, pricing.tokens_and_cost)}
SELECT (SELECT count(*) FROM waiting), (SELECT count(*) FROM changed), (SELECT max(started_at) FROM waiting),
    (SELECT array_agg(DISTINCT date_trunc('month', started_at, 'UTC')) FROM valued)
"""  # noqa: S608  # names and expressions of this module only


def price_unpriced(*, provider: str, model: str) -> int:
    """Give unpriced calls of a model the price that was in force when they began, and correct the rollups with them.

    Works in batches, each in its own transaction; afterwards months of these calls that were compared with a bill are compared again.
    Returns how many calls were priced. Calls whose tokens are unknown stay unpriced.
    """
    priced, after, months = 0, ingest.EARLIEST, set[date]()
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            ingest.lock_events()
            cursor.execute(_PRICE, {"provider": provider, "model": model, "size": PRICING_BATCH, "after": after})
            waiting, changed, last, touched = cursor.fetchone()
            of_batch = {at.astimezone(UTC).date() for at in touched or []}
            if of_batch:
                commitments.count_again(provider=provider, since=min(of_batch))
        priced += int(changed)
        months |= of_batch
        # Calls before their model's first price stay where they are: the next batch begins behind them.
        if waiting < PRICING_BATCH or (changed == 0 and last == after):
            break
        after = last
        time.sleep(BATCH_PAUSE)
    if months:
        commitments.count(since=min(months))
    # What is cut off here is due by its figures, see `reconciliation.due`.
    compared = Reconciliation.objects.filter(provider=provider, month__in=months)
    _compare_again(provider, compared.order_by("month").values_list("month", flat=True).distinct())
    return priced


_KNOWN = "id, token_class, service_tier, region, context_over, price, currency, quoted"
KNOWN_PRICES = f"(SELECT {_KNOWN} FROM price_entry UNION ALL SELECT {_KNOWN} FROM superseded_price)"  # noqa: S608  # a constant
"""Every price that a call was ever valued with."""
_OLD = "\n".join(
    f"    LEFT JOIN {KNOWN_PRICES} old_{name} ON old_{name}.id = c.price_ids[{position}]"
    for position, name in enumerate(pricing.TOKEN_CLASSES, 1)
)
_OLD_COLUMNS = ", ".join(f"coalesce(old_{name}.price, 0) AS old_{name}_price" for name in pricing.TOKEN_CLASSES)


def _difference(name: str) -> str:
    tokens = pricing.CLASS_TOKENS[name]
    return f"'{name}', {tokens}, coalesce({tokens}, 0) * (coalesce({name}_price, 0) - old_{name}_price) * 0.000001"


_IS_OF_SERIES = f"""c.service_tier = %(service_tier)s AND %(region)s IN ('', c.region)
        AND (%(context_over)s = 0 OR %(context_over)s < {pricing.INPUT_TOKENS})"""


def _corrected_columns(name: str, position: int) -> str:
    """The price of one class of a call: the corrected entry's where it is of that class, or where the class was charged as input; else its own.

    A call that has a price of its region or of a higher band keeps that.
    """
    is_narrow = f"(%(region)s <> '', %(context_over)s::bigint) >= (old_{name}.region <> '', old_{name}.context_over)"
    is_corrected = (
        f"{_IS_OF_SERIES} AND (%(token_class)s = '{name}' AND (old_{name}.token_class IS DISTINCT FROM '{name}' OR {is_narrow}) "
        f"OR %(token_class)s = 'input' AND old_{name}.token_class = 'input' AND {is_narrow})"
    )
    return (
        f"CASE WHEN {is_corrected} THEN %(price)s::numeric ELSE old_{name}.price END AS {name}_price, "
        f"CASE WHEN {is_corrected} THEN %(entry)s::bigint ELSE c.price_ids[{position}] END AS {name}_price_id"
    )


_CORRECTED_COLUMNS = ", ".join(_corrected_columns(name, position) for position, name in enumerate(pricing.TOKEN_CLASSES, 1))
_REPRICE = f"""
WITH picked AS (
    SELECT event_id, started_at FROM event
    WHERE pricing = 'priced' AND provider = %(provider)s AND model = %(model)s AND (started_at, event_id) > (%(after)s, %(after_id)s)
        AND started_at >= %(after)s AND started_at < %(until)s  -- a comparison of rows alone would not leave partitions out
    ORDER BY started_at, event_id LIMIT %(size)s
), with_prices AS (
    SELECT c.*, {_CORRECTED_COLUMNS}, {_OLD_COLUMNS}
    FROM event c JOIN picked USING (event_id, started_at)
{_OLD}
    WHERE c.started_at >= %(after)s AND c.started_at < %(until)s
), valued AS (
    SELECT *, {pricing.COST} AS value, {pricing.PRICE_IDS} AS ids FROM with_prices
), differing AS (
    -- Arrays of calls that came before a class was known are shorter: it has no price there, as none is NULL here.
    SELECT * FROM valued
    WHERE ids IS DISTINCT FROM price_ids || array_fill(NULL::bigint, ARRAY[greatest(cardinality(ids) - cardinality(price_ids), 0)])
), kept AS (
    INSERT INTO valuation (event_id, started_at, cost, price_ids, replaced_at)
    SELECT event_id, started_at, cost, price_ids, clock_timestamp() FROM differing
), changed AS (
    UPDATE event e SET cost = d.value, price_ids = d.ids FROM differing d
    WHERE e.event_id = d.event_id AND e.started_at = d.started_at AND e.started_at >= %(after)s AND e.started_at < %(until)s
    RETURNING e.event_id
), {_in_rollups("differing", "{0}.value - {0}.cost", 0, _difference)}
SELECT (SELECT count(*) FROM picked), (SELECT count(*) FROM changed), (SELECT coalesce(sum(value - cost), 0) FROM differing),
    (SELECT started_at FROM picked ORDER BY started_at DESC, event_id DESC LIMIT 1), (SELECT event_id FROM picked ORDER BY started_at DESC, event_id DESC LIMIT 1)
"""  # noqa: S608  # names and expressions of this module only


def reprice(*, entry: PriceEntry, proposal: PriceProposal | None = None) -> tuple[int, Decimal]:
    """Value priced calls of the entry's model and period by it, its token class only; what they were valued at before is kept.

    Two people agreed on this entry and nothing else: whatever else the book says by now, other classes keep the price that they have.
    Works in batches, each in its own transaction; again changes nothing. What a batch changed is added to `proposal` with it. Returns how
    many calls this run changed and by how much together, USD.
    """
    calls, more = 0, Decimal()
    after, after_id = entry.valid_from - timedelta(microseconds=1), UUID(int=2**128 - 1)
    corrected: dict[str, Any] = {
        **entry.series,
        "entry": entry.pk,
        "price": entry.price,
        "until": entry.valid_to or timezone.now() + timedelta(days=2),
        "size": PRICING_BATCH,
    }
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            ingest.lock_events()
            cursor.execute(_REPRICE, {**corrected, "after": after, "after_id": after_id})
            picked, changed, difference, last, last_id = cursor.fetchone()
            if proposal is not None:
                PriceProposal.objects.filter(pk=proposal.pk).update(
                    repriced_calls=Coalesce("repriced_calls", 0) + changed,
                    repriced_by=Coalesce("repriced_by", Decimal()) + difference,
                )
        calls, more = calls + int(changed), more + difference
        if picked < PRICING_BATCH:
            return calls, more
        after, after_id = last, last_id
        time.sleep(BATCH_PAUSE)


def finish_corrections(*, at: datetime | None = None) -> int:
    """Reprice for every approved correction that has not been; returns how many this run finished.

    Twice, at the same time or after a kill does no harm: each batch counts with its commit, and a correction is finished once.
    """
    finished = 0
    waiting = list(PriceProposal.objects.filter(corrects=True, status=PriceProposal.Status.APPROVED, repriced_at=None).order_by("pk"))
    for proposal in waiting:
        # A later correction may have taken the place of the entry: then that one is what two people agreed on.
        entry = PriceEntry.objects.get(**proposal.series, valid_from=proposal.valid_from)
        reprice(entry=entry, proposal=proposal)
        # Before the correction counts as finished, so that what is cut off here is done again.
        commitments.count(since=entry.valid_from.astimezone(UTC).date())
        _compare_again(proposal.provider, _months_of(proposal.provider, entry.valid_from, entry.valid_to))
        with transaction.atomic():
            if not PriceProposal.objects.filter(pk=proposal.pk, repriced_at=None).update(repriced_at=at or timezone.now()):
                continue  # another worker was faster
            proposal.refresh_from_db()
            calls, more = proposal.repriced_calls, proposal.repriced_by or Decimal()
            audit.record("price.repriced", actor=None, target=proposal, calls=calls, more_usd=f"{more.normalize():f}")
        finished += 1
    return finished


def _months_of(provider: str, start: datetime, end: datetime | None) -> list[date]:
    """First days of the months of [start, end) that were compared before."""
    months = Reconciliation.objects.filter(provider=provider, month__gte=start.astimezone(UTC).date().replace(day=1))
    if end is not None:
        months = months.filter(month__lte=(end.astimezone(UTC) - timedelta(microseconds=1)).date())
    return list(months.order_by("month").values_list("month", flat=True).distinct())


def _compare_again(provider: str, months: Iterable[date]) -> None:
    """Compare these months now: the schedule looks at the last ones first, and signatures hold for years."""
    for month in months:
        try:
            reconciliation.reconcile(provider=provider, month=month)
        except NothingToReconcileError:  # its rows were assigned to another provider
            logger.warning("reconciliation.nothing", extra={"provider": provider, "month": month.isoformat()})
        except RateUnknownError:  # stands on the series, with what is missing
            logger.warning("reconciliation.rate_unknown", extra={"provider": provider, "month": month.isoformat()})
