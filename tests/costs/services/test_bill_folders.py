"""Export folders: what lies in a bucket becomes what an upload of it would be, once, and what cannot is named and stops nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from costs import export_folders, tasks
from costs.errors import BillSourceError, CostApiError, SourceBusyError, SourceChangedError
from costs.models import BillFeed, BillFile, BillRow, BillSource, BillSourceFile
from costs.services import bill_folders, bill_sources, bills
from gateway.contract.credentials import STORAGE_SCOPE, AwsKeys, EntraId, Key
from governance.models import AuditEntry, Notice, Tenant, User
from governance.schema import enter_tenant
from tests.costs import stores as doubles
from tests.costs.services.test_bill_deliveries import day
from tests.costs.stores import REGION, S3, SAS, Stores
from tests.factories import costs as make

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)
"""When what was put there in the test has settled."""
DAY = timedelta(days=1)
FIRST = (NOW - 30 * DAY).date()
PAGE = "/o/acme/operate/costs/reconciliation/sources/"
API = "/api/v1/bills/sources/"


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3]:
    with doubles.s3() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3, request: pytest.FixtureRequest) -> str:
    name = f"b-{hashlib.md5(request.node.name.encode()).hexdigest()}"
    s3_server.make(name)
    return str(name)


@pytest.fixture
def stores() -> Iterator[Stores]:
    with doubles.stores() as found:
        yield found


@pytest.fixture(autouse=True)
def catalog(acme: Tenant, alice: User) -> None:
    make.deployment(alice)


def focus(*rows: dict[str, str]) -> bytes:
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()


def s3_source(actor: User, server: S3, bucket: str, keys: tuple[str, str], **fields: Any) -> BillSource:
    given = {"prefix": "exports/", "region": REGION, "style": "replacement", "begins_on": FIRST, "base_url": server.url, **fields}
    credentials = {"access_key_id": keys[0], "secret_access_key": keys[1]}
    return bill_sources.set_source(provider="openai", kind="s3", actor=actor, bucket=bucket, credentials=credentials, at=NOW, **given)


def fetched(at: datetime = LATER, *, again: bool = False) -> bill_folders.Reading:
    reading = bill_sources.fetch(source=BillSource.objects.get(), at=at, again=again).folder
    assert reading is not None
    return reading


def names() -> dict[str, tuple[str, bool]]:
    return {one.name: (one.error, one.bill is not None) for one in BillSourceFile.objects.all()}


def test_s3_delivery_in_parts_is_one_and_its_next_version_replaces_it(
    acme: Tenant, s3_server: S3, bucket: str, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("costs.export_folders.PAGE", 2)
    folder = "exports/focus/data/BILLING_PERIOD=2026-10"
    s3_server.put(bucket, f"{folder}/focus-00001.csv.gz", gzip.compress(focus(day(1), day(2)), mtime=0))
    s3_server.put(bucket, f"{folder}/focus-00002.csv.gz", gzip.compress(focus(day(3)), mtime=0))
    s3_server.put(bucket, f"{folder}/other name+ü.csv", focus(day(1, BillingAccountId="other")))
    s3_server.put(bucket, "exports/focus/metadata/BILLING_PERIOD=2026-10/focus-Manifest.json", b"{}")
    s3_server.put(bucket, "elsewhere/not-ours.csv", focus(day(9)))
    s3_source(fay, s3_server, bucket, s3_server.reader)

    first, same = fetched(), fetched(LATER + DAY)
    s3_server.put(bucket, f"{folder}/focus-00002.csv.gz", gzip.compress(focus(day(3, "7"), day(4)), mtime=0))
    unsettled = fetched(datetime.now(UTC))
    waits = bill_sources.due(datetime.now(UTC))
    changed = fetched(LATER + 2 * DAY)

    assert (first.taken, first.passed_over, first.rows, first.failed) == (3, 1, 4, 0)
    assert (same.taken, same.known, same.rows) == (0, 3, 0)
    assert (unsettled.taken, unsettled.unsettled, waits) == (0, 2, [BillSource.objects.get()])
    assert (changed.taken, changed.known, changed.rows) == (2, 1, 2)
    assert sorted(BillRow.objects.filter(account="prod").values_list("billed_cost", flat=True)) == [1.5, 1.5, 1.5, 7]
    assert [len(file.parts) for file in BillFile.objects.order_by("pk")].count(2) == 2
    assert set(BillFeed.objects.values_list("account", "style")) == {("prod", "replacement"), ("other", "replacement")}
    assert AuditEntry.objects.filter(event="bill_source.fetched").count() == 4
    assert AuditEntry.objects.filter(event="bill.imported", actor=fay).count() == 3


def test_file_that_was_uploaded_before_is_known(acme: Tenant, s3_server: S3, bucket: str, fay: User) -> None:
    content = focus(day(1))
    by_hand = bills.import_bill(file=io.BytesIO(content), name="by hand.csv", actor=fay, provider="openai").file
    s3_server.put(bucket, "exports/a.csv", content)
    s3_source(fay, s3_server, bucket, s3_server.reader)

    reading = fetched()

    assert (reading.taken, reading.rows) == (1, 0)
    assert BillSourceFile.objects.get().bill == by_hand
    assert BillRow.objects.count() == 1


def test_file_that_is_no_bill_stands_with_its_error_and_stops_no_other(
    acme: Tenant, s3_server: S3, bucket: str, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_server.put(bucket, "exports/a/damaged.csv.gz", b"\x1f\x8bno gzip")
    s3_server.put(bucket, "exports/b/good.csv", focus(day(1)))
    monkeypatch.setattr("costs.services.bill_rows.LARGEST_FILE", 2000)
    s3_server.put(bucket, "exports/c/large.csv", b"x" * 2001)
    s3_source(fay, s3_server, bucket, s3_server.reader, style="append")

    first, same, again = fetched(), fetched(LATER + DAY), fetched(LATER + DAY, again=True)
    s3_server.put(bucket, "exports/a/damaged.csv.gz", gzip.compress(focus(day(2))))
    s3_server.delete(bucket, "exports/c/large.csv")
    changed = fetched(LATER + 2 * DAY)

    assert [(one.taken, one.failed, one.known) for one in (first, same, again, changed)] == [(1, 2, 0), (0, 0, 3), (0, 2, 1), (1, 0, 1)]
    assert names() == {"exports/a/damaged.csv.gz": ("", True), "exports/b/good.csv": ("", True)}
    assert BillRow.objects.count() == 2
    [notice] = Notice.objects.filter(topic="bill.source_failed")
    assert (notice.title, notice.path.startswith("operate/costs/reconciliation/sources/")) == (
        "2 files of openai could not be taken over",
        True,
    )
    errors = [entry.details["error"] for entry in AuditEntry.objects.filter(event="bill_source.file_failed").order_by("sequence")]
    assert any("damaged or cut off" in error for error in errors)
    assert any("MB. Split it" in error for error in errors)


def test_deliveries_are_taken_as_they_came_and_a_few_at_a_time(
    acme: Tenant, stores: Stores, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 6):  # whole months, each delivered anew under a name of its own
        stores.put(f"exports/run-{9 - number}/part_0_0001.csv", focus(day(1, f"{number}.25"), day(2)), NOW - timedelta(hours=20 - number))
    stores.put("exports/before.csv", focus(day(5)), NOW - 60 * DAY)
    monkeypatch.setattr("costs.services.bill_folders.MOST_DELIVERIES", 3)
    azure_source(fay, stores)

    first = fetched()
    waits = bill_sources.due(LATER)
    second = fetched(LATER + timedelta(minutes=30))

    assert (first.taken, first.left, first.passed_over) == (3, 2, 1)
    assert waits == [BillSource.objects.get()]
    assert (second.taken, second.left, second.known) == (2, 0, 3)
    assert bill_sources.due(LATER + timedelta(hours=1)) == []
    assert {row.billed_cost for row in BillRow.objects.filter(charge_start__day=1)} == {5.25}
    assert not BillFile.objects.exclude(state="applied").exists()


def test_part_that_a_larger_export_left_behind_is_doubted(acme: Tenant, stores: Stores, fay: User) -> None:
    for number in (1, 2, 3):
        stores.put(f"exports/part_{number}_0001.csv", focus(day(number), day(number + 3)), NOW - timedelta(hours=30))
    azure_source(fay, stores)
    first = fetched()
    for number in (1, 2):
        stores.put(
            f"exports/part_{number}_0001.csv", focus(*(day(on) for on in range(3 * number - 2, 3 * number + 1))), NOW - timedelta(hours=1)
        )

    reading = fetched(LATER + timedelta(hours=12))

    waiting = BillFile.objects.get(state="waiting")
    assert (first.rows, reading.rows) == (6, 0)
    assert [(doubt["code"], doubt["message"][:15]) for doubt in waiting.doubts] == [("apart", "exports/part_3_")]
    assert BillRow.objects.count() == 6
    assert Notice.objects.filter(topic="bill.waiting").exists()


@pytest.mark.parametrize("is_late", [False, True])
def test_older_export_that_comes_late_is_doubted(acme: Tenant, stores: Stores, fay: User, is_late: bool) -> None:
    """Because it could not be fetched when it had its turn, or was passed over then."""
    stores.put("exports/run-a/focus.csv", focus(day(1, "5"), day(2, "5")), NOW - 3 * DAY)
    stores.put("exports/run-b/focus.csv", focus(day(1, "7"), day(2, "7")), NOW - 2 * DAY)
    if not is_late:
        stores.archived = {"exports/run-a/focus.csv"}
    azure_source(fay, stores, begins_on=(NOW - 2 * DAY).date() if is_late else FIRST)
    first = fetched()
    stores.archived.clear()
    azure_source(fay, stores)

    second = fetched(LATER + DAY)

    [waiting] = BillFile.objects.filter(state="waiting")
    assert (first.rows, second.taken, second.rows) == (2, 1, 0)
    assert [(doubt["code"], "it was written on" in doubt["message"]) for doubt in waiting.doubts] == [("older", True)]
    assert {row.billed_cost for row in BillRow.objects.all()} == {7}
    bills.apply_bill(bill=waiting, actor=fay, digest=waiting.digest, at=LATER + DAY)
    assert {row.billed_cost for row in BillRow.objects.all()} == {5}


def azure_source(actor: User, stores: Stores, **fields: Any) -> BillSource:
    given: dict[str, Any] = {
        "key": f"?{SAS}",
        "prefix": "/exports/",
        "style": "replacement",
        "begins_on": FIRST,
        "base_url": stores.url,
    } | fields
    return bill_sources.set_source(provider="openai", kind="azure_blob", actor=actor, bucket="bills", at=NOW, **given)


@pytest.mark.parametrize("is_entra", [False, True])
def test_azure_by_sas_token_and_by_application(acme: Tenant, stores: Stores, fay: User, is_entra: bool) -> None:
    for number in range(3):
        stores.put(f"exports/20261001-20261031/part_{number}_0001.csv", focus(day(1 + number)), NOW - DAY)
    stores.put("exports/20261001-20261031/manifest.json", b"{}", NOW - DAY)
    stores.put("exports/a & b.csv", focus(day(9, BillingAccountId="other")), NOW - DAY)
    credential = {"key": "", "credential": "entra_id", "credentials": stores.entra()} if is_entra else {}
    azure_source(fay, stores, **credential)

    reading = fetched()

    assert (reading.taken, reading.passed_over, reading.rows, reading.failed) == (4, 1, 4, 0)
    assert sorted(len(file.parts) for file in BillFile.objects.all()) == [0, 3]
    assert len([path for path in stores.asked if "comp=list" in path]) == 3
    assert len(stores.tokens) == is_entra
    assert ("sig=" in stores.asked[0]) is not is_entra


def test_google_by_service_account_takes_files_that_are_marked_as_packed(acme: Tenant, stores: Stores, fay: User) -> None:
    stores.put("exports/focus/000000000000.csv.gz", gzip.compress(focus(day(1)), mtime=0), NOW - DAY)
    stores.put("exports/focus/000000000001.csv.gz", gzip.compress(focus(day(2)), mtime=0), NOW - DAY)
    stores.put("exports/focus/_SUCCESS", b"", NOW - DAY)
    bill_sources.set_source(
        provider="openai", kind="gcs", actor=fay, bucket="bills", prefix="exports/", base_url=stores.url, begins_on=FIRST,
        credentials=stores.google(), at=NOW,
    )  # fmt: skip

    reading = fetched()

    assert (reading.taken, reading.passed_over, reading.rows) == (2, 1, 2)
    assert len(BillFile.objects.get().parts) == 2
    assert len(stores.tokens) == 1


def test_file_written_anew_while_it_is_read_waits_for_the_next_reading(acme: Tenant, stores: Stores, fay: User) -> None:
    stores.put("exports/a.csv", focus(day(1)), NOW - DAY)
    source = azure_source(fay, stores)
    folder = bill_folders._folder(source)
    listed = folder.listed()
    stores.put("exports/a.csv", focus(day(2)), NOW - DAY)

    taken = bill_folders._take(source, folder, listed, LATER)
    error = names()["exports/a.csv"][0]
    reading = fetched()

    assert (taken, error) == (None, "a.csv: It was written anew while it was read. The next reading takes it.")
    assert (reading.taken, reading.rows) == (1, 1)


@pytest.mark.parametrize(
    ("keys", "bucket_there", "message"),
    [
        ("reader", False, "The bucket or container is not there"),
        ("stranger", True, "does not know the access key ID"),
        ("mistyped", True, "the secret access key does not belong"),
        ("nobody", True, "what is missing is the right s3:ListBucket on the bucket"),
    ],
)
def test_refusals_of_s3_say_what_to_do(
    acme: Tenant, s3_server: S3, bucket: str, fay: User, keys: str, bucket_there: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, secret = s3_server.reader
    given = {"reader": (known, secret), "stranger": ("AKIAUNKNOWNUNKNOWN00", secret), "mistyped": (known, secret[::-1])}
    s3_source(fay, s3_server, bucket if bucket_there else "not-there", given.get(keys) or s3_server.nobody)

    with monkeypatch.context() as outside:
        outside.setattr(connections["default"], "in_atomic_block", False)  # as in a task or a request
        outside.setattr(connections["default"], "savepoint_ids", [])
        with pytest.raises(CostApiError, match=message):
            fetched()

    source = BillSource.objects.get()
    assert message in source.last_error
    assert secret not in source.last_error
    assert bill_sources.due(LATER + timedelta(minutes=59)) == []
    assert bill_sources.due(LATER + timedelta(minutes=61)) == [source]


def test_right_to_read_that_is_missing_stands_at_the_file_and_is_tried_again(acme: Tenant, s3_server: S3, bucket: str, fay: User) -> None:
    s3_server.put(bucket, "exports/a.csv", focus(day(1)))
    s3_source(fay, s3_server, bucket, s3_server.lister)

    refused = fetched()
    error = names()["exports/a.csv"][0]
    s3_source(fay, s3_server, bucket, s3_server.reader)
    allowed = fetched(LATER + DAY)

    assert (refused.failed, allowed.taken) == (1, 1)
    assert "what is missing is the right s3:GetObject" in error


@pytest.mark.parametrize(
    ("refuses", "message"),
    [
        ((403, "AuthorizationPermissionMismatch"), "what is missing is List: sp=rl"),
        ((403, "AuthenticationFailed"), "the credential is not accepted"),
        ((403, "AuthorizationFailure"), "firewall keeps this server out"),
        ((404, "ContainerNotFound"), "is not there"),
        ((301, "PermanentRedirect"), "another region"),
        ((307, ""), "redirects are not followed"),
        ((503, "ServerBusy"), "busy or ill"),
        ((400, "<script>"), "The store answered"),
    ],
)
def test_refusals_of_azure_say_what_to_do(acme: Tenant, stores: Stores, fay: User, refuses: tuple[int, str], message: str) -> None:
    azure_source(fay, stores)
    stores.refuses = refuses

    with pytest.raises(CostApiError, match=message) as refused:
        fetched()

    assert "sig" not in refused.value.message
    assert "script" not in refused.value.message


@pytest.mark.parametrize(("off", "way"), [(timedelta(minutes=-17), "fast"), (timedelta(hours=3), "slow")])
def test_clock_that_is_off_is_told(acme: Tenant, stores: Stores, fay: User, off: timedelta, way: str) -> None:
    azure_source(fay, stores)
    stores.refuses, stores.off = (403, "AuthenticationFailed"), off

    with pytest.raises(CostApiError, match=f"the clock of this server is {abs(off).total_seconds() / 60:.0f} minutes {way}"):
        fetched()


def test_token_that_has_ended_is_told(acme: Tenant, stores: Stores, fay: User) -> None:
    azure_source(fay, stores, key=SAS.replace("2099", "2021"))
    stores.refuses = (403, "AuthenticationFailed")

    with pytest.raises(CostApiError, match="ended on 2021-01-01 00:00 UTC"):
        fetched()


@pytest.mark.parametrize(
    "body",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><EnumerationResults><Blobs/><NextMarker>&b;</NextMarker></EnumerationResults>',
        b"<html>",
        b"<EnumerationResults><Blobs><Blob><Name>a.csv</Name></Blob></Blobs></EnumerationResults>",
    ],
)
def test_list_that_is_none_is_refused(acme: Tenant, stores: Stores, fay: User, body: bytes) -> None:
    azure_source(fay, stores)
    stores.list_body = body

    with pytest.raises(CostApiError, match="another form"):
        fetched()


def test_names_of_a_host_that_does_not_encode_them_stay_as_they_are() -> None:
    entry = '<Key>a+b%20c.csv</Key><ETag>"x"</ETag><Size>1</Size><LastModified>2026-11-20T10:00:00.000Z</LastModified>'
    body = f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated><Contents>{entry}</Contents></ListBucketResult>'

    [plain], mark = export_folders.STORES["s3"].entries(body.encode())

    assert (plain.name, plain.tag, plain.version, mark) == ("a+b%20c.csv", "x", "x 1", "")


def test_list_that_goes_in_circles_or_on_and_on_is_left(stores: Stores) -> None:
    folder = export_folders.Folder(export_folders.Place("azure_blob", stores.url, "bills", "", ""), Key(SAS))
    stores.list_body = b"<EnumerationResults><Blobs/><NextMarker>x</NextMarker></EnumerationResults>"

    with pytest.raises(export_folders.ExportFolderFailure, match="no next page"):
        folder.listed()


def test_list_has_an_end(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("costs.export_folders.MOST_PAGES", 2)
    for number in range(5):
        stores.put(f"{number}.csv", b"x", NOW)
    folder = export_folders.Folder(export_folders.Place("azure_blob", stores.url, "bills", "", ""), Key(SAS))

    with pytest.raises(export_folders.ExportFolderFailure, match="Give a longer prefix"):
        folder.listed()


@pytest.mark.parametrize("name", ["../other/a.csv", "a/./b.csv"])
def test_name_that_means_another_path_is_not_asked_for(stores: Stores, name: str) -> None:
    folder = export_folders.Folder(export_folders.Place("azure_blob", stores.url, "bills", "", ""), Key(SAS))

    with pytest.raises(export_folders.ExportFolderFailure, match="rename it"):
        folder.copy(export_folders.StoredObject(name, "x", 1, NOW), io.BytesIO(b""), 10)

    assert stores.asked == []


def test_file_that_goes_on_beyond_its_limit_is_cut_off(stores: Stores) -> None:
    stores.put("a.csv", b"x" * 100_000, NOW)
    folder = export_folders.Folder(export_folders.Place("azure_blob", stores.url, "bills", "", ""), Key(SAS))
    into = io.BytesIO()

    with pytest.raises(export_folders.ExportFolderFailure, match="larger than 50,000 bytes"):
        folder.copy(folder.listed()[0], into, 50_000)

    assert into.tell() <= 50_000


def test_private_address_is_not_called(acme: Tenant, fay: User) -> None:
    folder = export_folders.Folder(export_folders.Place("s3", "https://169.254.169.254", "b", "", REGION), AwsKeys("a", "b"))

    with pytest.raises(export_folders.ExportFolderFailure, match="private address"):
        folder.listed()


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"bucket": "https://x"}, "bucket"),
        ({"bucket": "../x"}, "bucket"),
        ({"kind": "s3", "key": "", "base_url": ""}, "region"),
        ({"base_url": ""}, "base_url"),
        ({"base_url": "http://169.254.169.254"}, "base_url"),
        ({"base_url": f"https://a.blob.core.windows.net/?{SAS}"}, "base_url"),
        ({"key": "not a token"}, "key"),
        ({"key": ""}, "key"),
        ({"key": "", "credential": "entra_id"}, "credentials"),
        ({"key": "", "credential": "entra_id", "credentials": {"tenant_id": "a"}}, "client_id"),
        ({"credential": "aws_keys"}, "credential"),
        ({"style": "sometimes"}, "style"),
        ({"region": "eu"}, "region"),
        ({"prefix": "a\nb"}, "prefix"),
        ({"kind": "openai", "key": "x"}, "bucket"),
    ],
)
def test_folder_that_cannot_be(acme: Tenant, fay: User, fields: dict[str, Any], field: str) -> None:
    given: dict[str, Any] = {
        "kind": "azure_blob", "bucket": "bills", "key": SAS, "base_url": "https://a.blob.core.windows.net", **fields,
    }  # fmt: skip

    with pytest.raises(BillSourceError) as refused:
        bill_sources.set_source(provider="openai", actor=fay, **given)

    assert refused.value.field == field


def test_credential_is_sealed_and_goes_nowhere_else(acme: Tenant, stores: Stores, fay: User) -> None:
    made = azure_source(fay, stores)

    with pytest.raises(BillSourceError, match="another address"):
        azure_source(fay, stores, key="", base_url="https://a.blob.core.windows.net")
    kept = azure_source(fay, stores, key="", prefix="other/")

    assert (kept.sealed_key, kept.prefix) == (made.sealed_key, "other/")
    assert SAS not in made.sealed_key
    assert "sig=" not in json.dumps(list(AuditEntry.objects.values_list("details", flat=True)))
    assert bill_sources.set_source(
        provider="openai", kind="s3", actor=fay, bucket="bills", region=REGION, credentials={"access_key_id": "a", "secret_access_key": "b"}
    ).place == "https://s3.eu-central-1.amazonaws.com/bills"  # fmt: skip


def test_reading_of_a_source_that_was_changed_meanwhile_takes_nothing(acme: Tenant, stores: Stores, fay: User) -> None:
    stores.put("exports/a.csv", focus(day(1)), NOW - DAY)
    before = azure_source(fay, stores)
    azure_source(fay, stores, style="append")

    with pytest.raises(CostApiError, match="changed or removed"):
        bill_sources.fetch(source=before, at=LATER)

    assert not BillFile.objects.exists()
    assert BillSource.objects.get().last_error == ""


def test_look_tells_what_would_be_taken_and_takes_nothing(acme: Tenant, stores: Stores, fay: User) -> None:
    stores.put("exports/known.csv", focus(day(1)), NOW - DAY)
    source = azure_source(fay, stores)
    fetched()
    stores.put("exports/new.csv", focus(day(2)), NOW - DAY)
    stores.put("exports/now.csv", focus(day(2)), LATER)
    stores.put("exports/old.csv", focus(day(3)), NOW - 60 * DAY)
    for number in range(25):
        stores.put(f"exports/{number}.json", b"{}", NOW)

    look = bill_folders.look(source, LATER)

    assert [(one.name, one.standing) for one in look.files[:4]] == [
        ("exports/new.csv", "new"), ("exports/now.csv", "unsettled"), ("exports/known.csv", "read"), ("exports/old.csv", "earlier"),
    ]  # fmt: skip
    assert (len(look.files), look.counts) == (20, {"new": 1, "unsettled": 1, "read": 1, "earlier": 1, "no_bill": 25})
    assert BillFile.objects.count() == 1


def test_schedule_reads_folders_too(acme: Tenant, stores: Stores, fay: User) -> None:
    stores.put("exports/a.csv", focus(day(1)), NOW - DAY)
    azure_source(fay, stores)

    tasks.fetch_bills(schema_name=acme.schema_name)

    enter_tenant(acme)
    assert BillRow.objects.count() == 1
    assert BillSource.objects.get().reading["taken"] == 1


def test_what_could_not_be_fetched_keeps_no_new_delivery_out(
    acme: Tenant, stores: Stores, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("costs.services.bill_folders.MOST_DELIVERIES", 2)
    for number in range(1, 4):  # names that are not asked for fail each time
        stores.put(f"exports/./{number}.csv", focus(day(number)), NOW - 2 * DAY)
    azure_source(fay, stores)

    first, second = fetched(), fetched(LATER + DAY)
    stores.put("exports/new.csv", focus(day(9)), NOW - DAY)
    third = fetched(LATER + 2 * DAY)
    turns = {one.name[-5:]: one.read_at for one in BillSourceFile.objects.exclude(error="")}

    assert [(one.taken, one.failed, one.left) for one in (first, second, third)] == [(0, 2, 1), (0, 2, 0), (1, 1, 0)]
    assert turns == {"1.csv": LATER + DAY, "2.csv": LATER + 2 * DAY, "3.csv": LATER + DAY}
    assert BillSource.objects.get().tried_at == LATER + 2 * DAY
    assert AuditEntry.objects.filter(event="bill_source.file_failed").count() == 3


def test_error_that_nobody_foresaw_stands_at_the_file_and_stops_no_other(
    acme: Tenant, stores: Stores, fay: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stores.put("exports/a/full.csv", focus(day(1)), NOW - 2 * DAY)
    stores.put("exports/b/good.csv", focus(day(2)), NOW - DAY)
    azure_source(fay, stores, style="append")
    keep = bills._keep

    def keep_but_the_first(file: Any, path: str, size: int) -> None:
        if not BillSourceFile.objects.exists():
            raise OSError(28, "No space left on device: /a/path")
        keep(file, path, size)

    with monkeypatch.context() as full:
        full.setattr(bills, "_keep", keep_but_the_first)
        first = fetched()
    error = names()["exports/a/full.csv"][0]
    second = fetched(LATER + DAY)

    assert (first.taken, first.failed, second.taken) == (1, 1, 1)
    assert error == "An unexpected error (OSError); the log of the worker says where. It is tried again."
    assert "No space left" in caplog.text
    assert BillRow.objects.count() == 2


def test_source_that_breaks_is_told_and_stops_no_other(
    acme: Tenant, stores: Stores, alice: User, fay: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make.deployment(alice, provider="zeta", model="zeta-1")
    stores.put("exports/a.csv", focus(day(1)), NOW - DAY)
    azure_source(fay, stores)
    bill_sources.set_source(
        provider="zeta", kind="azure_blob", actor=fay, bucket="bills", prefix="exports/", base_url=stores.url, key=SAS, begins_on=FIRST
    )
    look_up = bill_folders._standings

    def broken(source: BillSource, *args: Any, **options: Any) -> dict[str, str]:
        if source.provider == "openai":
            raise LookupError("a defect")
        return look_up(source, *args, **options)

    monkeypatch.setattr(bill_folders, "_standings", broken)
    tasks.fetch_bills(schema_name=acme.schema_name)

    enter_tenant(acme)
    first, second = BillSource.objects.order_by("provider")
    assert (first.begun_at, first.last_error[:34]) == (None, "An unexpected error (LookupError);")
    assert second.reading["taken"] == 1
    assert "a defect" in caplog.text
    assert Notice.objects.filter(topic="bill.source_failed").count() == 1


def test_delivery_has_a_limit_for_all_of_its_parts(acme: Tenant, stores: Stores, fay: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2):
        stores.put(f"exports/part_{number}_0001.csv", focus(day(number)), NOW - DAY)
    monkeypatch.setattr("costs.services.bill_folders.LARGEST_DELIVERY", 2 * len(focus(day(1))) - 1)
    azure_source(fay, stores)

    reading = fetched()

    assert (reading.failed, reading.taken) == (2, 0)
    assert "All parts of one export may have" in names()["exports/part_1_0001.csv"][0]
    assert [path for path in stores.asked if "comp=list" not in path] == []


def test_days_in_names_are_no_numbers_of_parts() -> None:
    days = ["costs_0925", "costs_0926", "bill-01112026", "bill-02112026", "20261101", "20261102", "bill_092526", "bill_092626"]
    parts = ["focus-00001", "focus-00012", "part_0_0001", "part_1_0001", "d/000000000000", "d/000000000012"]
    found = [export_folders.StoredObject(f"e/{name}.csv", "t", 5, NOW) for name in [*days, *parts]]

    assert [len(delivery) for delivery in bill_folders._deliveries(found)] == [1] * len(days) + [2, 2, 2]


@pytest.mark.parametrize("scope", [{}, {"scope": " "}])
def test_scope_that_is_left_empty_is_that_of_stores(acme: Tenant, stores: Stores, fay: User, scope: dict[str, str]) -> None:
    made = azure_source(fay, stores, key="", credential="entra_id", credentials={**stores.entra(), **scope})

    credential = bill_folders._folder(made)._credential

    assert isinstance(credential, EntraId)
    assert credential.scope == STORAGE_SCOPE


def test_folder_is_read_by_one_at_a_time(acme: Tenant, stores: Stores, fay: User) -> None:
    stores.put("exports/a.csv", focus(day(1)), NOW - DAY)
    azure_source(fay, stores)
    BillSource.objects.update(begun_at=LATER, tried_at=NOW)

    for at, asked_at in ((LATER, None), (LATER + timedelta(minutes=59), None), (LATER, LATER - timedelta(seconds=1))):
        with pytest.raises(SourceBusyError):
            bill_sources.fetch(source=BillSource.objects.get(), asked_at=asked_at, at=at)
    waits = [bill_sources.due(LATER + timedelta(minutes=minutes)) for minutes in (59, 61)]
    died = fetched(LATER + timedelta(minutes=61))

    assert (waits, died.taken) == ([[], [BillSource.objects.get()]], 1)
    assert BillSource.objects.get().begun_at is None


def test_reading_says_before_each_delivery_that_it_goes_on(
    acme: Tenant, stores: Stores, fay: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        stores.put(f"exports/{number}/a.csv", focus(day(number)), NOW - DAY)
    azure_source(fay, stores, style="append")
    held: list[Any] = []
    take = bill_folders._take

    def watched(*args: Any) -> Any:
        held.append(BillSource.objects.get().begun_at)
        if len(held) == 2:  # another reading took over
            BillSource.objects.update(begun_at=LATER)
        return take(*args)

    monkeypatch.setattr(bill_folders, "_take", watched)
    with pytest.raises(SourceChangedError, match="another reading took over"):
        fetched()

    assert held[0] < held[1]
    assert len(held) == 2
    assert BillRow.objects.count() == 2
    assert (BillSource.objects.get().begun_at, BillSource.objects.get().last_error) == (LATER, "")


def test_reading_of_a_slow_store_comes_to_an_end(acme: Tenant, stores: Stores, fay: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in (1, 2, 3):
        stores.put(f"exports/{number}/a.csv", focus(day(number)), NOW - DAY)
    source = azure_source(fay, stores, style="append")
    monkeypatch.setattr(bill_folders, "READING_S", 3.0)
    stores.slow_s = 1.6

    first = fetched()
    monkeypatch.setattr(bill_folders, "READING_S", 0.8)
    second = fetched(LATER + DAY)
    error = names()["exports/2/a.csv"][0]
    monkeypatch.setattr(bill_folders, "LOOK_S", 0.0)
    with pytest.raises(CostApiError, match="more than 0 seconds in all"):
        bill_folders.look(source, LATER)

    assert [(one.taken, one.failed, one.left) for one in (first, second)] == [(1, 0, 2), (0, 1, 1)]
    assert error == "a.csv: It takes more than 1 seconds in all: the store is slow, or has very much."
    assert bill_sources.due(LATER + DAY) == [BillSource.objects.get()]


def test_run_that_is_delivered_again_reads_no_second_folder_beside_the_first(acme: Tenant, stores: Stores, alice: User, fay: User) -> None:
    make.deployment(alice, provider="zeta", model="zeta-1")
    azure_source(fay, stores)
    bill_sources.set_source(provider="zeta", kind="azure_blob", actor=fay, bucket="bills", base_url=stores.url, key=SAS, begins_on=FIRST)
    all_due = len(bill_sources.due(LATER))
    BillSource.objects.filter(provider="openai").update(begun_at=LATER)
    while_read = bill_sources.due(LATER)
    bill_sources.set_source(provider="zeta", kind="openai", actor=fay, key="k", begins_on=FIRST)

    assert (all_due, while_read) == (2, [])
    assert [source.provider for source in bill_sources.due(LATER)] == ["zeta"]
