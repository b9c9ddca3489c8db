"""Bills that are delivered again whole: what a snapshot replaces, what it is trusted to, and taking it back."""

from __future__ import annotations

import gzip
import io
import os
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from costs import bill_selectors
from costs.errors import BillFormatError, BillStateError, BillWaitingError, SignatureReasonError
from costs.models import BillAlias, BillFeed, BillFile, BillRow, Revision
from costs.services import bills, reconciliation, signoff
from governance.models import AuditEntry, Notice, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make

AT = datetime(2026, 12, 5, tzinfo=UTC)
ROW = {
    "BilledCost": "1.5", "EffectiveCost": "1.5", "BillingAccountId": "prod", "BillingCurrency": "USD", "ChargeCategory": "Usage",
    "BillingPeriodStart": "2026-10-01T00:00:00Z", "BillingPeriodEnd": "2026-11-01T00:00:00Z", "ProviderName": "OpenAI",
    "ChargePeriodStart": "2026-10-07T00:00:00Z", "ChargePeriodEnd": "2026-10-08T00:00:00Z", "ConsumedQuantity": "30000", "InvoiceId": "",
    "ConsumedUnit": "Tokens", "SkuMeter": "gpt-small Input Tokens", "ServiceSubcategory": "Generative AI", "SkuId": "input", "ChargeClass": "",
}  # fmt: skip
NOVEMBER = {"BillingPeriodStart": "2026-11-01T00:00:00Z", "BillingPeriodEnd": "2026-12-01T00:00:00Z"}


@pytest.fixture(autouse=True)
def catalog(acme: Tenant, alice: User) -> None:
    make.deployment(alice)


def day(number: int, cost: str = "1.5", **other: str) -> dict[str, str]:
    """A charge of a day of October."""
    period = {"ChargePeriodStart": f"2026-10-{number:02}T00:00:00Z", "ChargePeriodEnd": f"2026-10-{number + 1:02}T00:00:00Z"}
    return ROW | period | {"BilledCost": cost, "EffectiveCost": cost} | other


def imported(user: User, *rows: dict[str, str], style: str = "replacement", is_preview: bool = False, provider: str = "openai") -> BillFile:
    content = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()
    file = bills.import_bill(
        file=io.BytesIO(content), name=f"{len(rows)}.csv", actor=user, provider=provider, style=style, is_preview=is_preview, at=AT
    ).file
    assert file.rows_accepted + file.rows_duplicate + file.rows_rejected + file.rows_quarantined == file.rows_in
    return file


def part(name: str, *rows: dict[str, str]) -> SimpleUploadedFile:
    content = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]).encode()
    return SimpleUploadedFile(name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content)


def in_parts(user: User, *parts: SimpleUploadedFile) -> BillFile:
    first, *more = [bills.Upload(cast("BinaryIO", one), str(one.name)) for one in parts]
    return bills.import_bill(file=first.file, name=first.name, more=more, actor=user, style="append", at=AT).file


def in_force() -> Counter[tuple[str, Decimal]]:
    return Counter(BillRow.objects.values_list("charge_start__date", "billed_cost"))


def said(file: BillFile) -> list[tuple[int, int, int, int, Decimal]]:
    return [(one.only_gone, one.only_new, one.rows_changed, one.rows_kept, one.difference) for one in file.deliveries.all()]


def codes(file: BillFile) -> list[str]:
    return [doubt["code"] for doubt in file.doubts]


def test_snapshot_replaces_what_it_delivers_again(acme: Tenant, fay: User) -> None:
    before = imported(fay, day(1), day(1), day(2), day(3, "4"), style="")
    total = sum(row.billed_cost for row in BillRow.objects.all())

    after = imported(fay, day(1), day(2), day(3, "5.25"), day(4), day(5))

    assert (after.state, said(after)) == ("applied", [(1, 2, 1, 2, Decimal("2.75"))])
    assert (after.rows_accepted, after.rows_duplicate) == (3, 2)
    assert sum(row.billed_cost for row in BillRow.objects.all()) - total == Decimal("2.75")
    assert {(row.file_id, row.replaced_by_id) for row in BillRow.ever.filter(is_in_force=False)} == {(before.pk, after.pk)}
    assert BillRow.ever.count() == 4 + 3
    assert sum(Decimal(one["now"] or 0) - Decimal(one["was"] or 0) for one in after.changes) == Decimal("2.75")
    assert ("4", "5.25") in {(one["was"], one["now"]) for one in after.changes}
    assert AuditEntry.objects.filter(event="bill.imported").order_by("sequence").last().details["replaced"] == 2  # type: ignore[union-attr]
    assert [(feed.provider, feed.account, feed.style) for feed in BillFeed.objects.all()] == [("openai", "prod", "replacement")]
    # What is remembered holds for the next one, and the same file again changes nothing.
    last = imported(fay, day(1), day(2), day(3, "5.25"), day(4), day(5, "2"), day(6), style="")
    assert (last.state, said(last)) == ("applied", [(0, 1, 1, 4, Decimal("2"))])
    assert imported(fay, day(1), day(2), day(3, "5.25"), day(4), day(5)).pk == after.pk
    assert BillRow.objects.count() == 6


def test_periods_of_a_file_are_replaced_each_for_itself(acme: Tenant, fay: User) -> None:
    imported(fay, day(1), day(2), day(1, "9", BillingAccountId="other"))
    november = imported(fay, day(2, "-0.5", ChargeClass="Correction", **NOVEMBER), day(1, "0", ChargeCategory="Tax", **NOVEMBER))

    both = imported(
        fay,
        day(1),
        day(2, "1"),
        day(3),
        day(2, "-0.75", ChargeClass="Correction", **NOVEMBER),
        day(1, "0", ChargeCategory="Tax", **NOVEMBER),
    )

    # The correction is compared with October's calls, and replaced with November's bill.
    assert said(november) == [(0, 2, 0, 0, Decimal("-0.5"))]
    assert said(both) == [(0, 1, 1, 1, Decimal("1")), (0, 0, 1, 1, Decimal("-0.25"))]
    assert sum(row.billed_cost for row in BillRow.objects.filter(month=datetime(2026, 10, 1))) == Decimal("1.5") + 1 + Decimal("1.5") + 9 - Decimal("0.75")  # fmt: skip  # noqa: DTZ001
    assert BillRow.objects.filter(account="other").count() == 1


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([day(1), day(2)], ["older", "smaller"]),
        ([day(1), day(3, "3")], ["smaller"]),
        ([day(1), day(2), day(3), day(4, "much")], ["incomplete"]),
        ([day(3, ChargeCategory="Tax"), day(4, ChargeCategory="Tax"), day(3, "2", ChargeCategory="Tax")], ["older", "empty"]),
    ],
)
def test_file_that_may_be_the_wrong_one_is_told_and_not_applied(
    acme: Tenant, fay: User, rows: list[dict[str, str]], expected: list[str]
) -> None:
    imported(fay, day(1), day(2), day(3))
    before = in_force()

    doubtful = imported(fay, *rows)

    assert (doubtful.state, codes(doubtful), in_force()) == ("waiting", expected, before)
    if expected[-1] == "empty":
        with pytest.raises(BillStateError, match="Nothing would be left"):
            bills.apply_bill(bill=doubtful, actor=fay, digest=doubtful.digest)
        return
    applied = bills.apply_bill(bill=doubtful, actor=fay, digest=doubtful.digest)
    assert (applied.state, BillRow.objects.count()) == ("applied", 3 if "incomplete" in expected else 2)
    assert bills.undo_bill(bill=applied, actor=fay).state == "undone"
    assert in_force() == before


def test_style_is_told_by_the_file_and_decided_by_a_person(acme: Tenant, fay: User) -> None:
    imported(fay, day(1), day(2), day(3), style="")
    adding = imported(fay, day(3), day(4), style="")
    restating = imported(fay, day(1, "1"), day(2), day(3), day(4), day(5), style="")

    assert (adding.state, said(adding)) == ("applied", [(0, 1, 0, 3, Decimal("1.5"))])
    assert (restating.state, codes(restating), said(restating)) == ("waiting", ["style"], [(0, 1, 1, 3, Decimal("1"))])
    assert not BillFeed.objects.exists()
    as_addition = bills.preview_bill(bill=restating, actor=fay, style="append")
    assert (codes(as_addition), said(as_addition)) == ([], [(0, 2, 0, 4, Decimal("2.5"))])
    as_snapshot = bills.preview_bill(bill=restating, actor=fay, style="replacement")
    with pytest.raises(BillStateError, match="not what you saw"):
        bills.apply_bill(bill=restating, actor=fay, digest=as_addition.digest if as_addition.digest != as_snapshot.digest else "0")
    bills.apply_bill(bill=restating, actor=fay, digest=as_snapshot.digest)
    assert [feed.style for feed in BillFeed.objects.all()] == ["replacement"]
    assert in_force().total() == 5


def test_columns_more_make_no_other_charges_of_them(acme: Tenant, fay: User) -> None:
    imported(fay, day(1), day(2), day(3), style="")
    for columns in ({"x_Team": "Search"}, {"ServiceProviderName": "OpenAI"}, {"PrincipalId": "robot", "SubAccountId": "one"}):
        more = imported(fay, *(day(on, "1.6", **columns) for on in (1, 2, 3)), style="")
        assert (more.state, codes(more), [one.rows_gone for one in more.deliveries.all()]) == ("waiting", ["style"], [3])
    # Nor are rows of before charges were known forgotten, whose fingerprints all change with the version.
    BillRow.objects.update(charge_key="", period=None)
    old = imported(fay, day(1, "1.7"), day(2, "1.7"), day(3, "1.7"), day(4), style="")
    assert (old.state, codes(old)) == ("waiting", ["style"])
    assert imported(fay, day(4), day(5), day(6), style="").state == "applied"


def test_preview_applies_nothing_until_it_is_as_it_was_seen(acme: Tenant, fay: User) -> None:
    imported(fay, day(1), day(2))
    waiting = imported(fay, day(1), day(2, "2"), day(3), is_preview=True)
    seen = waiting.digest
    assert (waiting.state, waiting.doubts, in_force().total()) == ("waiting", [], 2)
    imported(fay, day(1), day(2, "1.75"))

    with pytest.raises(BillStateError, match="not what you saw"):
        bills.apply_bill(bill=waiting, actor=fay, digest=seen)
    waiting.refresh_from_db()
    with pytest.raises(BillStateError, match="Only a file that replaced"):
        bills.undo_bill(bill=waiting, actor=fay)
    assert said(waiting) == [(0, 1, 1, 1, Decimal("1.75"))]
    dismissed = bills.dismiss_bill(bill=waiting, actor=fay)
    with pytest.raises(BillStateError, match="does not wait"):
        bills.apply_bill(bill=dismissed, actor=fay, digest=waiting.digest)
    again = bills.preview_bill(bill=dismissed, actor=fay)
    bills.apply_bill(bill=again, actor=fay, digest=again.digest)

    assert in_force().total() == 3
    assert AuditEntry.objects.filter(event__in=("bill.previewed", "bill.dismissed", "bill.applied")).count() == 5


def test_undone_files_go_in_the_order_in_which_they_came(acme: Tenant, fay: User) -> None:
    first = imported(fay, day(1), day(2))
    second = imported(fay, day(1), day(2, "2"))
    one, two = Counter(dict.fromkeys(in_force(), 1)), in_force()
    third = imported(fay, day(1), day(2, "3"), day(3))

    with pytest.raises(BillStateError, match="Undo that one first"):
        bills.undo_bill(bill=second, actor=fay)
    bills.undo_bill(bill=third, actor=fay)
    assert in_force() == two == one
    bills.undo_bill(bill=second, actor=fay)
    with pytest.raises(BillStateError, match="Nothing would be left"):
        bills.undo_bill(bill=first, actor=fay)
    assert Counter(row.billed_cost for row in BillRow.objects.all()) == {Decimal("1.5"): 2}
    again = bills.preview_bill(bill=third, actor=fay)
    bills.apply_bill(bill=again, actor=fay, digest=again.digest)
    assert in_force().total() == 3


def test_month_that_is_signed_off_changes_with_a_reason_only(acme: Tenant, fay: User, alice: User, client_for: ClientFor) -> None:
    imported(fay, day(1), day(2))
    revision, _ = reconciliation.reconcile(provider="openai", month=datetime(2026, 10, 1, tzinfo=UTC).date())
    for person in (fay, alice):
        signoff.sign(revision=revision, digest=revision.digest, actor=person, comment="Known", at=AT)

    held = imported(fay, day(1), day(2, "2"))

    assert (held.state, codes(held)) == ("waiting", ["signed"])
    told = Notice.objects.get(topic="bill.waiting")
    assert (told.permission, told.path, told.data["doubts"]) == (
        "manage_costs",
        f"operate/costs/reconciliation/bills/{held.pk}/",
        ["signed"],
    )
    pages = "/o/acme/operate/costs/reconciliation/"
    listed, shown = (client_for(fay).get(page).content.decode() for page in (pages, f"{pages}openai/prod/2026-10/"))
    assert ("File waits" in listed, "A file waits" in shown, f"bills/{held.pk}/" in shown) == (True, True, True)
    assert reconciliation.reconcile(provider="openai", month=revision.reconciliation.month) == (revision, False)
    with pytest.raises(SignatureReasonError):
        bills.apply_bill(bill=held, actor=fay, digest=held.digest, reason=" ")
    bills.apply_bill(bill=held, actor=fay, digest=held.digest, reason="The provider restated it")
    restated, _ = reconciliation.reconcile(provider="openai", month=revision.reconciliation.month)
    assert not bill_selectors.reconciliations().get().has_waiting_file
    assert (restated.bill, Revision.objects.count()) == (Decimal("3.5"), 2)
    assert not revision.signatures.filter(voided_at=None).exists()


def test_rows_leave_quarantine_only_while_their_period_is_their_files(acme: Tenant, fay: User) -> None:
    ahead = {"ChargePeriodStart": "2026-12-20T00:00:00Z", "ChargePeriodEnd": "2026-12-21T00:00:00Z"}
    first = imported(fay, day(1), day(2) | ahead, style="")
    later = datetime(2026, 12, 21, tzinfo=UTC)

    newer = imported(fay, day(1), day(2, "2"), day(3))
    with pytest.raises(BillStateError, match="replaced their period"):
        bills.release_quarantine(bill=first, actor=fay, at=later)
    bills.undo_bill(bill=newer, actor=fay)
    released = bills.release_quarantine(bill=first, actor=fay, at=later)

    assert (released.rows_in, released.rows_accepted, released.rows_quarantined) == (2, 2, 0)
    assert said(released) == [(0, 2, 0, 0, Decimal("3"))]
    assert in_force().total() == 2


def test_file_that_was_all_in_quarantine_follows_what_is_in_force(acme: Tenant, fay: User, client_for: ClientFor) -> None:
    nameless = {"ProviderName": ""}

    def total() -> Decimal:
        return sum((row.billed_cost for row in BillRow.objects.all()), Decimal())

    first = imported(fay, day(1, **nameless), day(2, **nameless), style="", provider="")
    again = imported(fay, day(1, "1.6", **nameless), day(2, "1.6", **nameless), style="", provider="")
    assert (first.rows_quarantined, again.rows_quarantined, total()) == (2, 2, Decimal(0))

    assert bills.release_quarantine(bill=first, actor=fay, provider="openai", at=AT).state == "applied"
    client_for(fay).post(f"/o/acme/operate/costs/reconciliation/bills/{again.pk}/release/", {"provider": "openai"})

    again.refresh_from_db()
    assert (again.state, codes(again), total()) == ("waiting", ["style"], Decimal(3))  # and not 6.20
    assert AuditEntry.objects.filter(event="bill.released").order_by("sequence").last().details["state"] == "waiting"  # type: ignore[union-attr]
    asked = bills.preview_bill(bill=again, actor=fay, style="replacement")
    bills.apply_bill(bill=asked, actor=fay, digest=asked.digest)
    assert total() == Decimal("3.2")
    # Newer than that replacement: released by what is remembered now. Its day is more, so nothing is in doubt.
    newer = imported(fay, *(day(on, "1.7", **nameless) for on in (1, 2, 3)), style="", provider="")
    assert (bills.release_quarantine(bill=newer, actor=fay, provider="openai", at=AT).state, total()) == ("applied", Decimal("5.1"))
    with pytest.raises(BillFormatError, match="Nothing of it"):
        bills.release_quarantine(bill=newer, actor=fay, provider="openai", at=AT)


def test_part_in_quarantine_that_would_replace_goes_up_as_a_file_of_its_own(acme: Tenant, fay: User) -> None:
    imported(fay, day(1, **NOVEMBER), day(2, **NOVEMBER), style="")
    part = imported(fay, day(1), day(1, "9", ProviderName="", **NOVEMBER), day(2, "9", ProviderName="", **NOVEMBER), style="", provider="")
    assert (part.rows_accepted, part.rows_quarantined) == (1, 2)

    with pytest.raises(BillStateError, match="file of their own"):
        bills.release_quarantine(bill=part, actor=fay, provider="openai", at=AT)
    assert in_force().total() == 3


def test_page_shows_what_a_file_would_replace_and_applies_it(acme: Tenant, fay: User, audra: User, client_for: ClientFor) -> None:
    imported(fay, day(1), day(2), style="")
    client, pages = client_for(fay), "/o/acme/operate/costs/reconciliation/"
    content = "\n".join([",".join(ROW), *(",".join(row.values()) for row in (day(1), day(2, "2"), day(3)))]).encode()
    form = {"file": SimpleUploadedFile("again.csv", content), "provider": "openai", "style": "replacement"}

    uploaded = client.post(f"{pages}upload/", form, follow=True)
    bill = BillFile.objects.get(name="again.csv")
    page = f"{pages}bills/{bill.pk}/"
    listed = client.get(pages).content.decode()
    refused = client_for(audra).post(f"{page}apply/", {"digest": bill.digest})
    stale = client.post(f"{page}apply/", {"digest": "0" * 64}, follow=True).content.decode()
    asked = client.post(f"{page}preview/", {"style": "replacement"}, follow=True).content.decode()
    applied = client.post(f"{page}apply/", {"digest": bill.digest}, follow=True).content.decode()
    rows = b"".join(client.get(f"{page}changes/")).decode().splitlines()
    uncut = client.post(f"{page}undo/", {"reason": "r" * 401}, follow=True).content.decode()
    undone = client.post(f"{page}undo/", {"reason": "Wrong file"}, follow=True).content.decode()

    assert "would replace rows" in uploaded.content.decode()
    assert "Nothing of this file counts yet" in uploaded.content.decode()
    assert "Waits" in listed
    assert (refused.status_code, "not what you saw" in stale, "Apply as shown" in asked) == (403, True, True)
    assert "Undo the file" in applied
    assert sorted(row.split(",")[0] for row in rows) == ["gone", "new", "new", "state"]
    assert "at most 400 characters" in uncut
    assert "what it replaced counts again" in undone
    assert "Look at it again" in undone


def test_api_previews_applies_dismisses_and_undoes(
    acme: Tenant, fay: User, audra: User, api_for: ClientFor, django_assert_max_num_queries: Any
) -> None:
    first = imported(fay, day(1), day(2), style="")
    client, api = api_for(fay), "/api/v1/bills/"
    content = "\n".join([",".join(ROW), *(",".join(row.values()) for row in (day(1), day(2, "2"), day(3)))]).encode()
    body = {"file": SimpleUploadedFile("again.csv", content), "provider": "openai", "style": "replacement", "preview": "true"}

    def post(path: str, **sent: str) -> Any:
        return client.post(f"{api}{path}", sent, content_type="application/json")

    waiting = client.post(api, body).json()
    one = f"{waiting['id']}/"
    assert (waiting["state"], waiting["rows_accepted"], in_force().total()) == ("waiting", 2, 2)
    assert [(line["rows_gone"], line["rows_new"], line["rows_changed"], line["difference"]) for line in waiting["deliveries"]] == [
        (1, 2, 1, "2")
    ]
    assert post(f"{one}dismiss/").json()["state"] == "dismissed"
    assert post(f"{one}apply/", digest="0" * 64).status_code == 409
    again = post(f"{one}preview/", style="replacement").json()
    assert post(f"{one}preview/", style="magic").status_code == 400
    done = post(f"{one}apply/", digest=again["digest"])
    assert (done.status_code, done.json()["state"], len(done.json()["changes"])) == (200, "applied", 2)
    assert client.get(f"{api}{first.pk}/").json()["state"] == "applied"
    assert post(f"{first.pk}/undo/").json()["code"] == "bill_state"
    assert api_for(audra).post(f"{api}{one}undo/").status_code == 403
    assert post(f"{one}undo/").json()["state"] == "undone"
    with django_assert_max_num_queries(12):
        assert [file["state"] for file in client.get(api).json()["results"]] == ["applied", "undone"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    snapshots=st.lists(
        st.tuples(
            st.sampled_from([{}, NOVEMBER]), st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["1", "2"])), min_size=1, max_size=6)
        ),
        min_size=1,
        max_size=4,
    ),
    undone=st.integers(0, 2),
)
def test_any_sequence_of_snapshots_ends_with_the_rows_of_the_newest(
    acme: Tenant, fay: User, snapshots: list[tuple[dict[str, str], list[tuple[int, str]]]], undone: int
) -> None:
    from django.db import transaction

    with transaction.atomic():
        newest: dict[str, Counter[tuple[str, Decimal]]] = {}
        history: list[tuple[BillFile, str, Counter[tuple[str, Decimal]] | None]] = []
        for number, (period, charges) in enumerate(snapshots):
            # A row of no amount tells files with equal rows apart.
            rows = [day(1, "0", SkuId=f"file-{number}", **period), *(day(on, cost, **period) for on, cost in charges)]
            file = imported(fay, *rows)
            if file.state == "waiting":
                file = bills.apply_bill(bill=file, actor=fay, digest=file.digest)
            name = "november" if period else "october"
            history.append((file, name, newest.get(name)))
            newest[name] = Counter((str(row["ChargePeriodStart"])[:10], Decimal(row["BilledCost"])) for row in rows)
        for file, name, before in reversed(history[-undone:] if undone else []):
            if before is not None:
                bills.undo_bill(bill=file, actor=fay)
                newest[name] = before
        found = Counter(
            (f"{start:%Y-%m-%d}", cost.normalize()) for start, cost in BillRow.objects.values_list("charge_start", "billed_cost")
        )
        ever = BillRow.ever.count()
        transaction.set_rollback(True)

    assert found == sum((Counter({(on, cost.normalize()): n for (on, cost), n in rows.items()}) for rows in newest.values()), Counter())
    assert ever >= found.total()


def test_month_is_not_signed_while_a_file_waits_for_it(acme: Tenant, client_for: ClientFor, fay: User, alice: User) -> None:
    imported(fay, day(1), day(2), day(31))
    revision, _ = reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    sign = partial(signoff.sign, revision=revision, digest=revision.digest, comment="No call is known.", at=AT)
    path = "/o/acme/operate/costs/reconciliation/openai/prod/2026-10/"
    sign(actor=fay)

    waiting = imported(fay, day(1), day(31))

    assert waiting.state == "waiting"
    with pytest.raises(BillWaitingError, match=r"2\.csv would change the bill of October 2026"):
        sign(actor=alice)
    page = client_for(alice).get(path).content.decode()
    assert ("can be signed once it is applied or dismissed" in page, f"{path}sign/" in page) == (True, False)
    # What was signed before holds, and what waits for another month is in nobody's way.
    assert [one.person for one in revision.signatures.filter(voided_at=None)] == [fay]
    bills.dismiss_bill(bill=waiting, actor=fay)
    of_november = NOVEMBER | {"ChargePeriodStart": "2026-11-02T00:00:00Z", "ChargePeriodEnd": "2026-11-03T00:00:00Z"}
    imported(fay, ROW | of_november, ROW | of_november)
    assert imported(fay, ROW | of_november).state == "waiting"
    reconciliation.reconcile(provider="openai", month=date(2026, 10, 1))
    assert sign(actor=alice).revision_id == revision.pk


def test_parts_of_an_export_are_one_delivery(acme: Tenant, fay: User, client_for: ClientFor, api_for: ClientFor) -> None:
    imported(fay, day(1), day(2), day(3))
    pages, api = "/o/acme/operate/costs/reconciliation/", "/api/v1/bills/"
    first, second = part("a.csv.gz", day(1), day(2), day(5)), part("b.csv", day(3, "4"), day(5), day(4, "much"))

    client_for(fay).post(f"{pages}upload/", {"file": [first, second], "provider": "openai", "style": "replacement"})

    bill = BillFile.objects.get(name="a.csv.gz and 1 more")
    assert (bill.state, said(bill), codes(bill)) == ("waiting", [(0, 2, 1, 2, Decimal("5.5"))], ["incomplete"])
    assert [(one["name"], one["path"][-64:] == one["sha256"]) for one in bill.parts] == [("a.csv.gz", True), ("b.csv", True)]
    assert [(error.part, error.line, error.column) for error in bill.errors.all()] == [(2, 4, "BilledCost")]
    page = client_for(fay).get(f"{pages}bills/{bill.pk}/")
    assert ("Part 2" in page.content.decode(), "b.csv" in page.content.decode()) == (True, True)
    assert page.context["currency"] == "USD"  # also of rows that wait
    # In any order it is the same delivery, and equal rows of two parts are two charges.
    for file in (first, second):
        file.seek(0)
    again = api_for(fay).post(api, {"file": [second, first], "provider": "openai"})
    assert (again.status_code, again.json()["id"], len(again.json()["parts"])) == (200, bill.pk, 2)
    bills.apply_bill(bill=bill, actor=fay, digest=bill.digest)
    assert {(row.part, row.line) for row in BillRow.objects.filter(day=date(2026, 10, 5))} == {(1, 4), (2, 3)}
    assert sum(in_force().values()) == 5
    bills.undo_bill(bill=bill, actor=fay)
    assert in_force() == {(date(2026, 10, number), Decimal("1.5")): 1 for number in (1, 2, 3)}
    preview = bills.preview_bill(bill=bill, actor=fay)
    assert said(preview) == [(0, 2, 1, 2, Decimal("5.5"))]


def test_rows_of_a_part_leave_quarantine_by_part_and_line(acme: Tenant, fay: User) -> None:
    BillAlias.objects.create(subject="provider", theirs="OpenAI", ours="openai")
    bill = in_parts(fay, part("a.csv", day(1), day(2)), part("b.csv", day(3, ProviderName=""), day(4)))
    assert (bill.rows_accepted, bill.rows_quarantined) == (3, 1)

    bills.release_quarantine(bill=bill, actor=fay, provider="openai", at=AT)

    assert {(row.part, row.line, row.day) for row in BillRow.objects.all()} == {
        (number, line, date(2026, 10, on)) for number, line, on in ((1, 2, 1), (1, 3, 2), (2, 2, 3), (2, 3, 4))
    }


def test_parts_of_nothing_but_a_header_may_be_several(acme: Tenant, fay: User) -> None:
    header = ",".join(day(1)).encode()

    bill = in_parts(fay, part("a.csv", day(1)), *(SimpleUploadedFile(f"{name}.csv", header) for name in "bcd"), part("e.csv", day(2)))

    assert [one["name"] for one in bill.parts] == ["a.csv", "b.csv", "c.csv", "d.csv", "e.csv"]
    assert {(row.part, row.line) for row in BillRow.objects.all()} == {(1, 2), (5, 2)}


def test_part_that_another_delivery_has_too_is_kept_as_it_is(acme: Tenant, fay: User) -> None:
    alone = in_parts(fay, part("a.csv", day(1)))
    kept = Path(default_storage.path(alone.path))
    content = kept.read_bytes()
    os.utime(kept, (1, 1))

    both = in_parts(fay, part("a.csv", day(1)), part("b.csv", day(2)))

    assert alone.path in both.paths
    assert (kept.stat().st_mtime, kept.read_bytes()) == (1, content)
    kept.write_bytes(content[:9])  # as a process leaves it that ends while it writes
    in_parts(fay, part("a.csv", day(1)), part("c.csv", day(3)))
    assert kept.read_bytes() == content


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (part("b.csv", day(1), day(2)), "there twice"),
        (part("b.csv", {**day(3), "ServiceProviderName": "OpenAI"}), "another of 1.3"),
        (SimpleUploadedFile("b.csv", b""), "b.csv is empty"),
        (SimpleUploadedFile("b.csv.gz", gzip.compress(b"BilledCost" * 999)[:-9]), "cut off"),
    ],
)
def test_files_that_are_no_parts_of_one_export_are_refused(acme: Tenant, fay: User, second: SimpleUploadedFile, message: str) -> None:
    second.seek(0)
    with pytest.raises(BillFormatError, match=message):
        in_parts(fay, part("a.csv", day(1), day(2)), second)

    assert not BillFile.objects.exists()
