"""Celery doors of the costs floor. Every task may run twice."""

from __future__ import annotations

import logging
from datetime import date, datetime
from decimal import Decimal

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from costs import budget_selectors, exchange, hooks, price_selectors
from costs.errors import CostApiError, ExchangeRateError, NothingToReconcileError, RateUnknownError, SourceBusyError
from costs.models import BillSource
from costs.services import (
    anomalies,
    archives,
    bill_sources,
    budgets,
    commitments,
    exchange_rates,
    price_feed,
    prices,
    reconciliation,
    review,
    rollups,
    showback,
)
from costs.services import ingest as ingesting
from governance.celery import PlatformTask, TenantTask
from governance.models import Tenant
from governance.schema import current_schema

logger = logging.getLogger(__name__)


@shared_task(base=PlatformTask)
def dispatch_ingest() -> None:
    """Queue one task per tenant that has something in the inbox; set aside what belongs to nobody."""
    tenants, unknown = ingesting.tenants_waiting()
    for tenant in tenants:
        ingest.apply_async(kwargs={"schema_name": tenant.schema_name}, expires=60)
    if unknown:
        rows = ingesting.quarantine(unknown=unknown, at=timezone.now())
        if rows:
            logger.warning("inbox.quarantined", extra={"rows": rows, "tenants": unknown[:10]})


@shared_task(base=TenantTask)
def ingest() -> None:
    """Attribute what waits for the tenant."""
    done = ingesting.ingest(tenant=Tenant.objects.get(schema_name=current_schema()))
    if done.rejected:
        logger.warning("inbox.rejected", extra={"rows": done.rejected})


@shared_task(base=TenantTask)
def price_unpriced(provider: str, model: str) -> None:
    """Price calls of a model that waited for a price."""
    prices.price_unpriced(provider=provider, model=model)


@shared_task(base=TenantTask)
def finish_corrections() -> None:
    """Price calls anew whose price was corrected."""
    prices.finish_corrections()


@shared_task(base=PlatformTask)
def dispatch_bill_sources() -> None:
    fetch_bills.queue_for_all(expires=1800)


@shared_task(base=TenantTask)
def fetch_bills() -> None:
    """Read the sources whose turn it is; one that fails stands in nobody's way, and says so on its page."""
    for source in bill_sources.due(timezone.now()):
        try:
            bill_sources.fetch(source=source)
        except SourceBusyError:
            logger.info("bill_source.busy", extra={"provider": source.provider})
        except CostApiError as error:
            logger.warning("bill_source.failed", extra={"provider": source.provider, "error": error.message})
        except Exception:  # a defect of ours: the sources after it must not pay for it
            logger.exception("bill_source.broke", extra={"provider": source.provider})


@shared_task(base=TenantTask)
def fetch_folder(source: int, again: bool, asked_at: str) -> None:
    """Read one folder now, because somebody asked at that time (ISO). The broker delivers what takes long a second time: then it is being read."""
    found = BillSource.objects.filter(pk=source, kind__in=BillSource.FOLDERS).first()
    if found is None:
        logger.info("bill_source.gone", extra={"source": source})
        return
    try:
        bill_sources.fetch(source=found, again=again, asked_at=datetime.fromisoformat(asked_at))
    except SourceBusyError:
        logger.info("bill_source.busy", extra={"provider": found.provider})
    except CostApiError as error:
        logger.warning("bill_source.failed", extra={"provider": found.provider, "error": error.message})


@shared_task(base=PlatformTask)
def dispatch_price_feed() -> None:
    read_price_feed.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def read_price_feed() -> None:
    """Propose what list prices say otherwise than the book, a week after they were read last."""
    if price_feed.is_due(timezone.now()):
        price_feed.propose_listed()


@shared_task(base=PlatformTask)
def dispatch_exchange_rates() -> None:
    """Read the reference rates once, where an address of them is set, and queue one task for each organisation that is not suspended.

    Without an answer, the ones that hold reach a week, and bills then say what is missing.
    """
    if not settings.EXCHANGE_RATES_URL:
        return
    try:
        found = exchange_rates.fetch_reference()
    except ExchangeRateError as error:
        logger.warning("exchange_rates.failed", extra={"error": error.message})
        return
    rates = [[rate.currency, rate.day.isoformat(), f"{rate.per_usd:f}"] for rate in found]
    take_exchange_rates.queue_for_all(rates=rates, expires=3000)


@shared_task(base=TenantTask)
def take_exchange_rates(rates: list[list[str]]) -> None:
    """Take over the reference rates that came out since: rows of currency, ISO day and units per dollar."""
    exchange_rates.take_reference(
        rates=[exchange.Rate(currency, date.fromisoformat(day), Decimal(per_usd)) for currency, day, per_usd in rates]
    )


@shared_task(base=PlatformTask)
def dispatch_reconciliation() -> None:
    reconcile_recent.queue_for_all(expires=1800)


@shared_task(base=TenantTask)
def reconcile_recent() -> None:
    """Price what still waits for a price or another one, then compare the bills of the last months again: late calls and rows make a new revision."""
    prices.finish_corrections()
    for waiting in price_selectors.unpriced():
        if waiting.provider and waiting.model:
            prices.price_unpriced(provider=waiting.provider, model=waiting.model)
    commitments.count()
    commitments.warn_of_ends()
    nothing = waiting_for_rates = 0
    for provider, month in reconciliation.due(timezone.now().date()):
        try:
            reconciliation.reconcile(provider=provider, month=month)
        except NothingToReconcileError:  # its rows were assigned elsewhere meanwhile; the other months do not wait for that
            nothing += 1
        except RateUnknownError:  # stands on the series, with what is missing
            waiting_for_rates += 1
    if nothing:
        logger.warning("reconciliation.nothing", extra={"months": nothing})
    if waiting_for_rates:
        logger.warning("reconciliation.rate_unknown", extra={"months": waiting_for_rates})


@shared_task(base=TenantTask)
def count_commitments(since: str) -> None:
    """Count anew, from an ISO day on, what commitments were used for."""
    commitments.count(since=date.fromisoformat(since))


@shared_task(base=PlatformTask)
def dispatch_compaction() -> None:
    compact_rollups.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def compact_rollups() -> None:
    """Make one row of the hours of days long past, drop what is counted no more, and count what days lack."""
    rollups.compact_call_hours(at=timezone.now())
    rollups.forget_tags()
    rollups.count_attributes(at=timezone.now())
    rollups.count_budget_tags(at=timezone.now())


@shared_task(base=TenantTask)
def forget_tags() -> None:
    """Drop what was counted by tags that are no longer declared."""
    rollups.forget_tags()


@shared_task(base=TenantTask)
def count_attributes() -> None:
    """Count the values of a tag that was just declared."""
    rollups.count_attributes(at=timezone.now())


@shared_task(base=TenantTask)
def count_budget_tags() -> None:
    """Give a value that a budget was just made for rows of its own."""
    rollups.count_budget_tags(at=timezone.now())


@shared_task(base=PlatformTask)
def dispatch_archiving() -> None:
    archive_months.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def archive_months() -> None:
    """Take the calls of months that are older than the organisation keeps them out of the database."""
    archives.archive_due(at=timezone.now())
    archives.forget_set_aside(at=timezone.now())


@shared_task(base=TenantTask)
def reconcile(provider: str, month: str) -> None:
    """Compare one provider's bill of a month (its first day, ISO) with telemetry."""
    try:
        reconciliation.reconcile(provider=provider, month=date.fromisoformat(month))
    except NothingToReconcileError:
        logger.info("reconciliation.nothing", extra={"provider": provider, "month": month})
    except RateUnknownError:  # stands on the series, with what is missing
        logger.warning("reconciliation.rate_unknown", extra={"provider": provider, "month": month})


@shared_task(base=PlatformTask)
def dispatch_budgets() -> None:
    watch_budgets.queue_for_all(expires=60)


@shared_task(base=TenantTask)
def watch_budgets() -> None:
    """End raises whose time is over, note the thresholds that were reached, and tell the gateway's counters what is spent."""
    budgets.end_raises()
    written = budgets.write_notices()
    if written:
        logger.info("budget.threshold_reached", extra={"notices": [notice.pk for notice in written]})
    if budget_selectors.has_acting_budgets():
        hooks.book_spend(Tenant.objects.get(schema_name=current_schema()))


@shared_task(base=PlatformTask)
def dispatch_anomalies() -> None:
    detect_anomalies.queue_for_all(expires=900)


@shared_task(base=TenantTask)
def detect_anomalies() -> None:
    """Test the last whole hour, and the days that have not been tested."""
    for run in anomalies.detect_due():
        if run.told:
            logger.info("anomaly.detected", extra={"period": run.period, "start": run.start.isoformat(), "told": run.told})


@shared_task(base=PlatformTask)
def dispatch_showback() -> None:
    tell_showback.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def tell_showback() -> None:
    """Send what the month before cost whom, once it is complete."""
    showback.tell_month()


@shared_task(base=PlatformTask)
def dispatch_review() -> None:
    tell_review.queue_for_all(expires=3000)


@shared_task(base=TenantTask)
def tell_review() -> None:
    """Say that the month before can be reviewed, once it is complete."""
    review.tell_month()
