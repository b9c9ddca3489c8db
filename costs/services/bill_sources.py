"""Bills that are fetched, each half day: exports from the folder that a cloud delivers them to (`costs.services.bill_folders`), and a provider's
cost API, its amounts taken over like the rows of a file.

Providers of cost APIs restate days. What a reading says otherwise than the rows that are there becomes one more row, a correction of the difference, so
that nothing is changed in place and the sum of a line is always what the provider said last.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from catalog.models import Provider
from costs import cost_apis, export_folders, focus, tasks
from costs.errors import BillSourceError, CostApiError, SourceBusyError, SourceChangedError
from costs.models import BillRow, BillSource, DeliveryStyle
from costs.periods import first_of_month
from costs.services import bill_folders, bills
from gateway.contract import credentials as kinds
from gateway.contract.credentials import STORAGE_SCOPE, Credential, CredentialError, EntraId, ServiceAccount
from gateway.contract.outbound import OutboundError, check_url
from gateway.contract.sealing import Sealer, UnsealError
from governance.http import allow_list, guarded_client
from governance.models import Severity, User
from governance.roles import Permission
from governance.schema import current_schema
from governance.services import alerts, audit

INTERVAL = timedelta(hours=12)
RETRY = timedelta(hours=1)
RESTATED = timedelta(days=35)
"""How far back each reading looks again."""
FARTHEST = timedelta(days=400)
LEASE = timedelta(hours=1)
"""A reading that has not said for so long that it goes on has died, or ends after what it imports: the next one takes over."""
PATH = "operate/costs/reconciliation/sources/"
USUAL_REGION = "us-east-1"
"""What hosts that speak S3 and know no regions take."""
_BUCKET = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{1,221}")
_REGION = re.compile(r"[a-z0-9-]{1,32}")


@dataclass(frozen=True)
class Fetched:
    first: date | None
    """First and last day that was read; None of a folder, whose files say their days."""
    last: date | None
    rows: int
    """New rows; 0 when the provider says what it said before."""
    folder: bill_folders.Reading | None = None


@transaction.atomic
def set_source(
    *,
    provider: str,
    kind: str,
    actor: User,
    key: str = "",
    base_url: str = "",
    begins_on: date | None = None,
    bucket: str = "",
    prefix: str = "",
    region: str = "",
    style: str = "",
    credential: str = "",
    credentials: Mapping[str, str] | None = None,
    at: datetime | None = None,
) -> BillSource:
    """Fetch a provider's bills from its cost API, or from a folder of exports, from now on; a second time changes how.

    `key` is an admin key, or the SAS token of an Azure container; any other `credential` comes as `credentials`, its fields
    (`gateway.contract.credentials`). It is sealed; without one, the one that is there is kept. Raises BillSourceError.
    """
    at = at or timezone.now()
    today = at.astimezone(UTC).date()
    begins_on = begins_on or today.replace(day=1)
    if kind not in BillSource.Kind.values:
        raise BillSourceError("There is no source of this kind.", field="kind")
    if not Provider.objects.filter(slug=provider).exists():
        raise BillSourceError("This provider does not exist.", field="provider")
    if not today - FARTHEST <= begins_on <= today:
        raise BillSourceError(f"Days are fetched from at most {FARTHEST.days} days ago on.", field="begins_on")
    wanted = BillSource(kind=kind, base_url=base_url, bucket=bucket, prefix=prefix, region=region, style=style, begins_on=begins_on)
    _check_place(wanted)
    source = BillSource.objects.select_for_update().filter(provider=provider).first()
    is_same_address = source is not None and (source.kind, source.base_url) == (kind, wanted.base_url)
    credential = credential or (source.credential if source is not None and is_same_address else BillSource.CREDENTIALS[kind][0])
    proof = _proof(kind, credential, {**(credentials or {}), **({"secret": key} if key else {})})
    wrong = "key" if credential == BillSource.Credential.KEY else "credentials"
    if proof is None and source is None:
        raise BillSourceError("It takes a credential." if wanted.is_folder else "It takes an admin key.", field=wrong)
    if proof is None and source is not None and not (is_same_address and source.credential == credential):
        raise BillSourceError("A key is not sent to another address than it was given for: enter it again.", field=wrong)
    is_new = source is None
    source = source or BillSource(provider=provider)
    if not is_new and (begins_on < source.begins_on or not is_same_address):
        source.fetched_through = None  # days were not read, or not there: what is known of them is not taken again
    if not is_new and (not is_same_address or source.bucket != wanted.bucket):
        source.files.all().delete()  # of another folder; what they were imported as is known by its digest
        source.reading, source.fetched_at = {}, None
    for name in ("kind", "base_url", "bucket", "prefix", "region", "style", "begins_on"):
        setattr(source, name, getattr(wanted, name))
    source.credential, source.set_by = credential, actor
    if proof is not None:
        source.sealed_key, source.key_set_at = Sealer(settings.SEALING_KEYS).seal(kinds.dump(proof)), at
    source.last_error, source.tried_at, source.begun_at = "", None, None
    source.save()
    audit.record(
        "bill_source.set",
        actor=actor,
        target=source,
        at=at,
        kind=kind,
        base_url=source.base_url,
        **({"place": source.place, "style": style, "credential": credential} if source.is_folder else {}),
        begins_on=begins_on.isoformat(),
        new=is_new,
        key_changed=proof is not None,
    )
    return source


def _check_place(wanted: BillSource) -> None:
    """Complete the address, and refuse what cannot be one. BillSourceError."""
    if wanted.kind in cost_apis.APIS:
        if wanted.bucket or wanted.prefix or wanted.region or wanted.style:
            raise BillSourceError("A cost API has no bucket, prefix, region or style.", field="bucket")
        wanted.base_url = (wanted.base_url or cost_apis.APIS[wanted.kind].url).rstrip("/")
    else:
        _check_folder(wanted)
    try:
        check_url(wanted.base_url, allow_list())
    except OutboundError as error:
        raise BillSourceError(f"{error}", field="base_url") from error


def _check_folder(wanted: BillSource) -> None:
    wanted.prefix = wanted.prefix.strip().lstrip("/")
    if not _BUCKET.fullmatch(wanted.bucket):
        raise BillSourceError("Give the name of the bucket or container alone, without an address.", field="bucket")
    if len(wanted.prefix) > 500 or not wanted.prefix.isprintable():
        raise BillSourceError("A prefix has at most 500 printable characters.", field="prefix")
    if wanted.style and wanted.style not in DeliveryStyle.values:
        raise BillSourceError("There is no such style of delivery.", field="style")
    if wanted.kind == BillSource.Kind.S3:
        if not wanted.region and not wanted.base_url:
            raise BillSourceError("Give the region of the bucket, for example eu-central-1.", field="region")
        wanted.region = wanted.region or USUAL_REGION
        if not _REGION.fullmatch(wanted.region):
            raise BillSourceError("This is no region; one is like eu-central-1.", field="region")
        domain = "amazonaws.com.cn" if wanted.region.startswith("cn-") else "amazonaws.com"
        wanted.base_url = wanted.base_url or f"https://s3.{wanted.region}.{domain}"
    elif wanted.region:
        raise BillSourceError("Only S3 has regions in its addresses.", field="region")
    elif wanted.kind == BillSource.Kind.GCS:
        wanted.base_url = wanted.base_url or "https://storage.googleapis.com"
    elif not wanted.base_url:
        raise BillSourceError("Give the address of the storage account: https://<account>.blob.core.windows.net", field="base_url")
    wanted.base_url = wanted.base_url.rstrip("/")
    if "?" in wanted.base_url or "#" in wanted.base_url:
        raise BillSourceError("The address has no question mark and no #: a SAS token has its own field.", field="base_url")


def _proof(kind: str, chosen: str, given: Mapping[str, str]) -> Credential | None:
    """What was given as a credential, checked; None where nothing was. BillSourceError."""
    if chosen not in BillSource.CREDENTIALS[kind]:
        raise BillSourceError(f"{BillSource.Kind(kind).label} takes no credential of this kind.", field="credential")
    if not any(value.strip() for value in given.values()):
        return None
    if chosen == BillSource.Credential.ENTRA_ID:
        given = {**given, "scope": given.get("scope", "").strip() or STORAGE_SCOPE}
    try:
        if kind == BillSource.Kind.AZURE_BLOB and chosen == BillSource.Credential.KEY:
            given = {**given, "secret": export_folders.shared_access(given.get("secret", ""))}
        found = kinds.make(chosen, given)
        if isinstance(found, EntraId | ServiceAccount):
            check_url(found.token_endpoint, allow_list())
    except CredentialError as error:
        raise BillSourceError(str(error), field="key" if error.field == "secret" else error.field) from error
    except OutboundError as error:
        raise BillSourceError(
            f"The token service: {error}", field="token_url" if chosen == BillSource.Credential.ENTRA_ID else "service_account"
        ) from error
    return found


@transaction.atomic
def remove_source(*, source: BillSource, actor: User) -> None:
    """Fetch no more from it; its key goes with it, its rows stay. One that is gone is left alone."""
    found = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if found is None:
        return
    audit.record("bill_source.removed", actor=actor, target=found, kind=found.kind)
    found.delete()


def due(at: datetime) -> list[BillSource]:
    """Sources whose last reading is half a day old, or died; after a failure, an hour. Not those that are being read.

    Nor another folder meanwhile: the broker delivers a run that takes long a second time, and one organisation's stores must not hold every worker.
    """
    waits = [(source, RETRY if source.last_error else INTERVAL) for source in BillSource.objects.order_by("provider")]
    turns = [source for source, wait in waits if source.tried_at is None or source.begun_at is not None or source.tried_at <= at - wait]
    is_folder_read = any(is_being_read(source, at) for source, _ in waits)
    return [source for source in turns if not (source.is_folder and is_folder_read)]


def is_being_read(source: BillSource, at: datetime) -> bool:
    return source.begun_at is not None and source.begun_at > at - LEASE


@transaction.atomic
def ask_reading(*, source: BillSource, again: bool = False, at: datetime | None = None) -> None:
    """Have a folder read in the background, see `fetch`. One that is being read, or gone, is left to that."""
    at = at or timezone.now()
    found = BillSource.objects.select_for_update().filter(pk=source.pk, kind__in=BillSource.FOLDERS).first()
    if found is None or is_being_read(found, at):
        return
    BillSource.objects.filter(pk=found.pk).update(begun_at=at)
    asked = partial(tasks.fetch_folder.delay, source=found.pk, again=again, asked_at=at.isoformat(), schema_name=current_schema())
    transaction.on_commit(asked, robust=True)


def fetch(*, source: BillSource, again: bool = False, asked_at: datetime | None = None, at: datetime | None = None) -> Fetched:
    """Read what may have changed, and take over what is new. Twice changes nothing.

    Of a cost API, the days up to yesterday (UTC), and nothing of a reading that is not whole. Of a folder, its files, each delivery for itself;
    with `again`, also what failed and has not changed. Raises CostApiError, which the source remembers and people are told once; any other
    error is raised, remembered and told as well.

    A folder is read by one at a time, which holds a lease in `begun_at`; `asked_at` is that of `ask_reading`, which becomes the reading's own once.
    SourceBusyError when it is another's.
    """
    at = at or timezone.now()
    if source.is_folder:
        _begin(source, asked_at, at)
    try:
        return _fetch_files(source, again, at) if source.is_folder else _fetch_days(source, at)
    except SourceChangedError:
        BillSource.objects.filter(pk=source.pk, begun_at=source.begun_at).update(begun_at=None)
        raise
    except CostApiError as error:
        _failed(source, error.message, at)
        raise
    except Exception as error:  # else it would be as if it were read on, and nobody would know
        _failed(source, bill_folders.unexpected(error), at)
        raise


def _begin(source: BillSource, asked_at: datetime | None, at: datetime) -> None:
    free = Q(begun_at=asked_at) if asked_at else Q(begun_at=None) | Q(begun_at__lte=at - LEASE)
    now = timezone.now()
    if not BillSource.objects.filter(free, pk=source.pk).update(begun_at=now):
        raise SourceBusyError("It is being read, or was just now.")
    source.begun_at = now


def _fetch_days(source: BillSource, at: datetime) -> Fetched:
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
        raise CostApiError(message) from error
    return Fetched(first, last, _take_over(source, lines, first, last, at))


def _fetch_files(source: BillSource, again: bool, at: datetime) -> Fetched:
    failed_before = set(source.files.exclude(error="").values_list("name", "error"))
    reading = bill_folders.read(source, at, again=again)
    _note_reading(source, reading, failed_before, at)
    return Fetched(None, None, reading.rows, reading)


@transaction.atomic
def _note_reading(source: BillSource, reading: bill_folders.Reading, failed_before: set[tuple[str, str]], at: datetime) -> None:
    """What is left, or was being written, has its turn at once; of what failed, only what did not fail so before is told. SourceChangedError."""
    bill_folders.locked(source)
    bill_folders.renew(source)
    BillSource.objects.filter(pk=source.pk).update(
        fetched_at=at, tried_at=None if reading.left or reading.unsettled else at, begun_at=None, last_error="", reading=asdict(reading)
    )
    audit.record("bill_source.fetched", actor=None, target=source, at=at, **asdict(reading))
    failed = source.files.exclude(error="").order_by("name")
    if new := [one for one in failed if (one.name, one.error) not in failed_before]:
        files = "1 file" if len(new) == 1 else f"{len(new)} files"
        _tell(source, f"{files} of {source.provider} could not be taken over", f"{new[0].name}: {new[0].error}", at)


@transaction.atomic
def _take_over(source: BillSource, lines: Iterable[cost_apis.Line], first: date, last: date, at: datetime) -> int:
    """Number of new rows. Raises CostApiError when one of them cannot be taken; then none is."""
    with connection.cursor() as cursor:  # two readings at once would both take over the same
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended('bill-source:' || current_schema() || ':' || %s, 0))", [source.provider]
        )
    now = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if now is None or now.terms != source.terms:
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


@transaction.atomic
def _failed(source: BillSource, message: str, at: datetime) -> None:
    now = BillSource.objects.select_for_update().filter(pk=source.pk).first()
    if now is None or (now.terms, now.fetched_at, now.begun_at) != (source.terms, source.fetched_at, source.begun_at):
        return  # what it is now has not failed
    is_first = not now.last_error
    BillSource.objects.filter(pk=source.pk).update(tried_at=at, begun_at=None, last_error=message[:300])
    audit.record("bill_source.failed", actor=None, target=source, at=at, error=message)
    if is_first:
        _tell(source, f"The bill of {source.provider} could not be fetched", message, at)


def _tell(source: BillSource, title: str, text: str, at: datetime) -> None:
    alerts.notify(
        topic="bill.source_failed",
        severity=Severity.WARNING,
        title=title,
        text=text,
        path=f"{PATH}{source.pk}/" if source.is_folder else PATH,
        permission=Permission.MANAGE_COSTS,
        key=f"bill-source:{source.pk}:{at:%Y-%m-%d}",
        data={"provider": source.provider},
        at=at,
    )


def _new_rows(source: BillSource, lines: Iterable[cost_apis.Line], first: date, last: date, at: datetime) -> Iterable[dict[str, str]]:
    """Rows of FOCUS 1.2 for every line that is not there with its amount; lines that the provider says no more are taken back."""
    known: dict[tuple[date, str, str], Decimal] = {}
    found = BillRow.objects.filter(provider=source.provider, account=BillSource.API_ACCOUNTS[source.kind], day__gte=first, day__lte=last)
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
        earlier = BillRow.objects.filter(
            provider=source.provider, account=BillSource.API_ACCOUNTS[source.kind], day=day, sku_id=key
        ).latest("pk")
        direction, cache = _directions(earlier.token_class)
        text, model, group = earlier.description, earlier.model, ""
    else:
        direction, cache, text, model, group = line.direction, line.cache, line.text, line.model, line.group
    details = {"ModelId": model, "TokenDirection": direction, "TokenCacheAction": cache}
    return {
        "BilledCost": f"{amount.normalize(focus.EXACT):f}",
        "BillingAccountId": BillSource.API_ACCOUNTS[source.kind],
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
