"""Bills that are fetched: a provider's cost API, asked each half day, its amounts taken over like the rows of a file.

Providers restate days. What a reading says otherwise than the rows that are there becomes one more row, a correction of the difference, so
that nothing is changed in place and the sum of a line is always what the provider said last.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from catalog.models import Provider
from costs import cost_apis, focus
from costs.errors import BillSourceError, CostApiError
from costs.models import BillRow, BillSource, DeliveryStyle
from costs.periods import first_of_month
from costs.services import bills
from gateway.contract.outbound import OutboundError, check_url
from gateway.contract.sealing import Sealer, UnsealError
from governance.http import allow_list, guarded_client
from governance.models import Severity, User
from governance.roles import Permission
from governance.services import alerts, audit

INTERVAL = timedelta(hours=12)
RETRY = timedelta(hours=1)
RESTATED = timedelta(days=35)
"""How far back each reading looks again."""
FARTHEST = timedelta(days=400)
PATH = "operate/costs/reconciliation/"


class SourceChangedError(CostApiError):
    """Not the provider's failure: somebody was faster."""


@dataclass(frozen=True)
class Fetched:
    first: date
    last: date
    rows: int
    """New rows; 0 when the provider says what it said before."""


@transaction.atomic
def set_source(
    *, provider: str, kind: str, key: str, actor: User, base_url: str = "", begins_on: date | None = None, at: datetime | None = None
) -> BillSource:
    """Fetch a provider's bills from its cost API from now on; a second time changes how. `key` is an admin key and is sealed.

    An empty `key` keeps the one that is there. Raises BillSourceError.
    """
    at = at or timezone.now()
    today = at.astimezone(UTC).date()
    begins_on = begins_on or today.replace(day=1)
    if kind not in cost_apis.APIS:
        raise BillSourceError("There is no cost API of this kind.", field="kind")
    if not Provider.objects.filter(slug=provider).exists():
        raise BillSourceError("This provider does not exist.", field="provider")
    if not today - FARTHEST <= begins_on <= today:
        raise BillSourceError(f"Days are fetched from at most {FARTHEST.days} days ago on.", field="begins_on")
    base_url = (base_url or cost_apis.APIS[kind].url).rstrip("/")
    try:
        check_url(base_url, allow_list())
    except OutboundError as error:
        raise BillSourceError(f"{error}", field="base_url") from error
    source = BillSource.objects.select_for_update().filter(provider=provider).first()
    if source is None and not key:
        raise BillSourceError("It takes an admin key.", field="key")
    if source is not None and not key and (source.kind, source.base_url) != (kind, base_url):
        raise BillSourceError("A key is not sent to another address than it was given for: enter it again.", field="key")
    is_new = source is None
    source = source or BillSource(provider=provider)
    if not is_new and (begins_on < source.begins_on or (source.kind, source.base_url) != (kind, base_url)):
        source.fetched_through = None  # days were not read, or not there: what is known of them is not taken again
    source.kind, source.base_url, source.begins_on, source.set_by = kind, base_url, begins_on, actor
    if key:
        source.sealed_key, source.key_set_at = Sealer(settings.SEALING_KEYS).seal(key), at
    source.last_error, source.tried_at = "", None
    source.save()
    audit.record(
        "bill_source.set",
        actor=actor,
        target=source,
        at=at,
        kind=kind,
        base_url=base_url,
        begins_on=begins_on.isoformat(),
        new=is_new,
        key_changed=bool(key),
    )
    return source


@transaction.atomic
def remove_source(*, source: BillSource, actor: User) -> None:
    """Fetch no more from it; its key goes with it, its rows stay. One that is gone is left alone."""
    found = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if found is None:
        return
    audit.record("bill_source.removed", actor=actor, target=found, kind=found.kind)
    found.delete()


def due(at: datetime) -> list[BillSource]:
    """Sources whose last reading is half a day old; after a failure, an hour."""
    waits = [(source, RETRY if source.last_error else INTERVAL) for source in BillSource.objects.order_by("provider")]
    return [source for source, wait in waits if source.tried_at is None or source.tried_at <= at - wait]


def fetch(*, source: BillSource, at: datetime | None = None) -> Fetched:
    """Read the days that may have changed, yesterday's (UTC) as the last, and take over what is new. Twice changes nothing.

    Raises CostApiError, which the source remembers and people are told once; nothing of a reading that is not whole is taken.
    """
    at = at or timezone.now()
    last = at.astimezone(UTC).date() - timedelta(days=1)
    first = max(source.begins_on, min(source.fetched_through or last, last) - RESTATED) if source.fetched_through else source.begins_on
    try:
        key = Sealer(settings.SEALING_KEYS).open(source.sealed_key)
        with guarded_client() as client:
            lines = (
                cost_apis.read(source.kind, base_url=source.base_url, key=key, first=first, last=last, client=client)
                if first <= last
                else []
            )
    except (cost_apis.CostApiFailure, UnsealError) as error:
        message = str(error) if isinstance(error, cost_apis.CostApiFailure) else "The key cannot be unsealed: enter it again."
        _failed(source, message, at)
        raise CostApiError(message) from error
    try:
        rows = _take_over(source, lines, first, last, at)
    except SourceChangedError:
        raise
    except CostApiError as error:
        _failed(source, error.message, at)
        raise
    return Fetched(first, last, rows)


@transaction.atomic
def _take_over(source: BillSource, lines: Iterable[cost_apis.Line], first: date, last: date, at: datetime) -> int:
    """Number of new rows. Raises CostApiError when one of them cannot be taken; then none is."""
    with connection.cursor() as cursor:  # two readings at once would both take over the same
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('bill-source:' || current_schema() || ':' || %s, 0))", [source.provider]
        )
    now = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if now is None or _said(now) != _said(source):
        raise SourceChangedError("The source was changed or removed while it was read; nothing was taken.")
    if now.fetched_at != source.fetched_at:
        return 0  # another reading was faster, and says what is newer
    rows = list(_new_rows(source, lines, first, last, at))
    if rows:
        file = bills.import_bill(
            file=io.BytesIO(_to_csv(rows)),
            name=f"{cost_apis.APIS[source.kind].title} cost API, {first} to {last}",
            actor=source.set_by,
            provider=source.provider,
            style=DeliveryStyle.APPEND,
            at=at,
        ).file
        if wrong := file.errors.first():
            raise CostApiError(
                f"{file.rows_rejected + file.rows_quarantined} of its amounts cannot be taken. The first: {wrong.column} {wrong.message}"
            )
    BillSource.objects.filter(pk=source.pk).update(fetched_through=last, fetched_at=at, tried_at=at, last_error="")
    audit.record(
        "bill_source.fetched", actor=None, target=source, at=at, first_day=first.isoformat(), last_day=last.isoformat(), rows=len(rows)
    )
    return len(rows)


def _said(source: BillSource) -> tuple[str, str, date]:
    return source.kind, source.base_url, source.begins_on


@transaction.atomic
def _failed(source: BillSource, message: str, at: datetime) -> None:
    now = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if now is None or (_said(now), now.fetched_at) != (_said(source), source.fetched_at):
        return  # what it is now has not failed
    is_first = not now.last_error
    BillSource.objects.filter(pk=source.pk).update(tried_at=at, last_error=message[:300])
    audit.record("bill_source.failed", actor=None, target=source, at=at, error=message)
    if is_first:
        alerts.notify(
            topic="bill.source_failed",
            severity=Severity.WARNING,
            title=f"The bill of {source.provider} could not be fetched",
            text=message,
            path=PATH,
            permission=Permission.MANAGE_COSTS,
            key=f"bill-source:{source.pk}:{at:%Y-%m-%d}",
            data={"provider": source.provider},
            at=at,
        )


def account_of(kind: str) -> str:
    """What rows from an API have as their billing account: the API does not name one."""
    return f"{kind}-cost-api"


def _new_rows(source: BillSource, lines: Iterable[cost_apis.Line], first: date, last: date, at: datetime) -> Iterable[dict[str, str]]:
    """Rows of FOCUS 1.2 for every line that is not there with its amount; lines that the provider says no more are taken back."""
    known: dict[tuple[date, str, str], Decimal] = {}
    found = BillRow.objects.filter(provider=source.provider, account=account_of(source.kind), day__gte=first, day__lte=last)
    for row in found.values("day", "sku_id", "currency").annotate(money=Sum("billed_cost")):
        if row["day"] is not None:  # theirs always have one
            known[row["day"], row["sku_id"], row["currency"]] = row["money"]
    said: dict[tuple[date, str, str], Decimal] = defaultdict(Decimal)
    by_key = {}
    for line in lines:
        said[line.day, line.key, line.currency] = focus.EXACT.add(said[line.day, line.key, line.currency], line.amount)
        by_key[line.day, line.key, line.currency] = line
    for place in sorted({*known, *said}):
        more = focus.EXACT.subtract(said.get(place, Decimal()), known.get(place, Decimal()))
        if more:
            yield _row(source, place, by_key.get(place), more, is_correction=place in known, at=at)


def _row(
    source: BillSource, place: tuple[date, str, str], line: cost_apis.Line | None, amount: Decimal, *, is_correction: bool, at: datetime
) -> dict[str, str]:
    day, key, currency = place
    title = cost_apis.APIS[source.kind].title
    if line is None:  # said no more: as the row that it takes back
        earlier = BillRow.objects.filter(provider=source.provider, account=account_of(source.kind), day=day, sku_id=key).latest("pk")
        direction, cache = _directions(earlier.token_class)
        text, model, group = earlier.description, earlier.model, ""
    else:
        direction, cache, text, model, group = line.direction, line.cache, line.text, line.model, line.group
    details = {"ModelId": model, "TokenDirection": direction, "TokenCacheAction": cache}
    return {
        "BilledCost": f"{amount.normalize(focus.EXACT):f}",
        "BillingAccountId": account_of(source.kind),
        "BillingCurrency": currency,
        "BillingPeriodStart": _midnight(first_of_month(day)),
        "BillingPeriodEnd": _midnight(first_of_month(day, 1)),
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if is_correction else "",
        "ChargeDescription": text,
        "ChargePeriodStart": _midnight(day),
        "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        "EffectiveCost": f"{amount.normalize(focus.EXACT):f}",
        "InvoiceId": "",
        "ProviderName": title,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "SkuId": key,
        "SkuMeter": text,
        "SkuPriceDetails": json.dumps({name: value for name, value in details.items() if value}, sort_keys=True),
        "SubAccountId": group,
        # The same difference may come again another day, and is another charge then.
        "x_FetchedAt": at.astimezone(UTC).isoformat(),
    }


def _directions(token_class: str) -> tuple[str, str]:
    return {
        "input": ("Input", "Uncached"),
        "cached_input": ("Input", "Read"),
        "cache_write": ("Input", "Write"),
        "cache_write_1h": ("Input", "Write 1h"),
        "output": ("Output", ""),
    }.get(token_class, ("", ""))


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"


def _to_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
