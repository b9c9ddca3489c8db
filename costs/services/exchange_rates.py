"""Exchange rates by four eyes, and the reference rates that are fetched each day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx2
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from costs import exchange, exchange_selectors, tasks
from costs.errors import ExchangeRateError, ExchangeRateStateError
from costs.models import ExchangeRate, RateSheet
from gateway.contract.outbound import OutboundError
from governance.http import guarded_client
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

PATH = "operate/costs/exchange-rates/"
KEPT = timedelta(days=120)
"""How far back a reading of them is taken over."""


@transaction.atomic
def propose_rates(
    *, rates: Sequence[exchange.Rate], source: str, actor: User, kind: str = RateSheet.Kind.HAND, at: datetime | None = None
) -> RateSheet:
    """Enter rates; they hold once somebody else approves them. Rates that hold already are left out. Tells those who may approve.

    Writes one audit entry. Raises ExchangeRateError (not a rate, no source, or all of them hold already).
    """
    at, source = at or timezone.now(), " ".join(source.split())
    if not source:
        raise ExchangeRateError("Say where the rates stand.", field="source")
    for rate in rates:
        exchange.check(rate, at.astimezone(UTC).date())
    sheet = _entered(rates, source, kind, actor, at)
    if sheet is None:
        raise ExchangeRateError("All of these rates hold already.")
    audit.record("exchange_rates.proposed", actor=actor, target=sheet, at=at, **_told(sheet))
    alerts.notify(
        topic="exchange_rates.proposed",
        severity=Severity.INFO,
        title=f"{sheet.count} exchange rate{'s' * (sheet.count != 1)} wait{'s' * (sheet.count == 1)} for approval",
        text=f"{sheet}, from {sheet.source}, by {actor}. Somebody else approves them.",
        path=PATH,
        permission=Permission.MANAGE_COSTS,
        key=f"rate-sheet:{sheet.pk}",
        data={"sheet": sheet.pk, "rates": sheet.count},
        at=at,
    )
    return sheet


def _entered(rates: Sequence[exchange.Rate], source: str, kind: str, actor: User | None, at: datetime) -> RateSheet | None:
    """The sheet of what is not in force as it is; None when nothing is."""
    days = [rate.day for rate in rates]
    held = exchange_selectors.rates_that_hold({rate.currency for rate in rates}, min(days), max(days)) if rates else set()
    fresh = sorted(rate for rate in rates if rate not in held)
    if not fresh:
        return None
    sheet = RateSheet.objects.create(
        kind=kind,
        source=source[:200],
        count=len(fresh),
        unchanged=len(rates) - len(fresh),
        currencies=sorted({rate.currency for rate in fresh}),
        first_on=min(rate.day for rate in fresh),
        last_on=max(rate.day for rate in fresh),
        proposed_by=actor,
        proposed_at=at,
    )
    ExchangeRate.objects.bulk_create(
        [ExchangeRate(sheet=sheet, currency=rate.currency, day=rate.day, per_usd=rate.per_usd) for rate in fresh], batch_size=1000
    )
    return sheet


@transaction.atomic
def approve_rates(*, sheet: RateSheet, actor: User, at: datetime | None = None) -> RateSheet:
    """Let the rates hold; those of the same days before end, and bills that they may change are compared again.

    Writes one audit entry. Raises ExchangeRateStateError (decided before, or one's own).
    """
    found = _waiting(sheet)
    if found.proposed_by_id == actor.pk:
        raise ExchangeRateStateError("Nobody approves their own rates: ask somebody else.")
    return _put_in_force(found, actor, at or timezone.now())


def _put_in_force(sheet: RateSheet, actor: User | None, at: datetime) -> RateSheet:
    with connection.cursor() as cursor:
        # Two sheets may have rates of the same days.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('exchange-rates:' || current_schema(), 0))")
        cursor.execute(
            "UPDATE exchange_rate r SET holds = false, replaced_at = %s FROM exchange_rate n "
            "WHERE n.sheet_id = %s AND r.holds AND r.currency = n.currency AND r.day = n.day",
            [at, sheet.pk],
        )
        replaced = cursor.rowcount
    sheet.rates.update(holds=True)
    done = _decided(sheet, RateSheet.Status.APPROVED, actor, at, replaced=replaced)
    _compare_again(sheet)
    return done


@transaction.atomic
def reject_rates(*, sheet: RateSheet, actor: User, reason: str = "", at: datetime | None = None) -> RateSheet:
    """Decline them, with a reason; whoever entered them withdraws them so, without one. Raises ExchangeRateStateError."""
    found = _waiting(sheet)
    own = found.proposed_by_id == actor.pk
    if not own and not reason.strip():
        raise ExchangeRateStateError("Say why.", field="reason")
    found.reason = reason.strip()[:400]
    return _decided(found, RateSheet.Status.WITHDRAWN if own else RateSheet.Status.REJECTED, actor, at or timezone.now())


def _waiting(sheet: RateSheet) -> RateSheet:
    found = RateSheet.objects.select_for_update(of=("self",)).select_related("proposed_by").get(pk=sheet.pk)
    if found.status != RateSheet.Status.WAITING:
        raise ExchangeRateStateError(f"They are {found.get_status_display().lower()} already.")
    return found


def _decided(sheet: RateSheet, status: str, actor: User | None, at: datetime, **facts: Any) -> RateSheet:
    sheet.status, sheet.decided_by, sheet.decided_at = status, actor, at
    sheet.save(update_fields=["status", "decided_by", "decided_at", "reason"])
    audit.record(f"exchange_rates.{status}", actor=actor, target=sheet, at=at, reason=sheet.reason, **_told(sheet), **facts)
    return sheet


def _told(sheet: RateSheet) -> dict[str, Any]:
    """What the audit log keeps; single rates of long sheets stand in the table, which is never changed."""
    first = sheet.rates.order_by("day", "currency")[:10]
    return {
        "kind": sheet.kind,
        "source": sheet.source,
        "rates": sheet.count,
        "currencies": sheet.currencies,
        "first_on": sheet.first_on.isoformat(),
        "last_on": sheet.last_on.isoformat(),
        "first_rates": [f"{rate.day} 1 USD = {rate.rate_text} {rate.currency}" for rate in first],
    }


def _compare_again(sheet: RateSheet) -> None:
    """Bills that these rates may change."""
    for provider, month in sorted(exchange_selectors.months_with(sheet), key=lambda one: (one[1], one[0])):
        # Robust: when the broker is away the rates hold all the same; the hourly task compares the bills, see `reconciliation.due`.
        again = partial(tasks.reconcile.delay, provider=provider, month=month.isoformat(), schema_name=current_schema())
        transaction.on_commit(again, robust=True)


def reference_host() -> str:
    """Whose reference rates are read; empty when nobody's are. The rest of the address stays with the operator: it may hold a password."""
    return urlsplit(settings.EXCHANGE_RATES_URL).hostname or ""


def fetch_reference(*, at: datetime | None = None) -> list[exchange.Rate]:
    """The reference rates of the last days (KEPT), once for all organisations.

    Raises ExchangeRateError (no address is set, no answer, or not reference rates).
    """
    url = settings.EXCHANGE_RATES_URL
    if not url:
        raise ExchangeRateError("No address of reference rates is set: see EXCHANGE_RATES_URL.")
    try:
        with guarded_client() as client:
            answer = client.get(url)
    except (OutboundError, httpx2.HTTPError) as error:
        why = str(error).replace(url, reference_host())
        raise ExchangeRateError(f"The reference rates of {reference_host()} could not be fetched: {why}"[:300]) from error
    if answer.status_code != HTTPStatus.OK:
        raise ExchangeRateError(f"The reference rates could not be fetched: {reference_host()} answered {answer.status_code}.")
    today = (at or timezone.now()).astimezone(UTC).date()
    return [rate for rate in exchange.read_reference(answer.content) if today - KEPT <= rate.day <= today]


def take_reference(*, rates: Sequence[exchange.Rate], at: datetime | None = None) -> RateSheet | None:
    """Reference rates that do not hold yet hold from now on. None when they say nothing new. A day that people entered keeps their rate."""
    at = at or timezone.now()
    today = at.astimezone(UTC).date()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended('exchange-rates:' || current_schema(), 0))")
        entered = exchange_selectors.days_by_people(today - KEPT)
        sheet = _entered(
            [rate for rate in rates if (rate.currency, rate.day) not in entered],
            f"ECB reference rates, {reference_host()}",
            RateSheet.Kind.FEED,
            None,
            at,
        )
        return _put_in_force(sheet, None, at) if sheet else None
