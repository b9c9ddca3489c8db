"""Pages and API of folders that exports are fetched from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from costs import tasks
from costs.models import BillFile, BillSource
from costs.services import bill_sources
from governance.models import AuditEntry, Tenant, User
from governance.schema import enter_tenant
from tests.conftest import ClientFor
from tests.costs import stores as doubles
from tests.costs.services.test_bill_deliveries import day
from tests.costs.services.test_bill_folders import API, DAY, FIRST, LATER, NOW, PAGE, azure_source, focus
from tests.costs.stores import SAS, Stores
from tests.factories import costs as make


@pytest.fixture
def stores() -> Iterator[Stores]:
    with doubles.stores() as found:
        yield found


@pytest.fixture(autouse=True)
def catalog(acme: Tenant, alice: User) -> None:
    make.deployment(alice)


def form_of(stores: Stores, **fields: str) -> dict[str, str]:
    return {
        "provider": "openai", "kind": "azure_blob", "credential": "key", "secret": SAS, "bucket": "bills", "prefix": "exports/",
        "base_url": stores.url, "style": "replacement", "begins_on": FIRST.isoformat(), **fields,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ("", ("Access key ID", "Region"), ("SAS token", "Key file")),
        ("?kind=azure_blob", ("SAS token", "Container"), ("Access key ID", "Region", "Client secret")),
        ("?kind=azure_blob&credential=entra_id", ("Client secret", "Token URL"), ("Region",)),
        ("?kind=gcs", ("Key file of the service account",), ("Region", "Access key ID")),
        ("?kind=nonsense&credential=nonsense&source=x", ("Access key ID",), ()),
    ],
)
def test_form_has_the_fields_of_its_store(
    acme: Tenant, client_for: ClientFor, fay: User, query: str, there: tuple[str, ...], not_there: tuple[str, ...]
) -> None:
    page = client_for(fay).get(f"{PAGE}folder/{query}").content.decode()

    assert [words for words in there if words not in page] == []
    assert [words for words in not_there if words in page] == []


def test_folder_is_set_tried_fetched_changed_and_removed(
    acme: Tenant, stores: Stores, client_for: ClientFor, fay: User, audra: User, django_capture_on_commit_callbacks: Any
) -> None:
    stores.put("exports/good.csv", focus(day(1)), NOW - DAY)
    stores.put("exports/bad.csv", b"a,b\n1,2", NOW - DAY)
    stores.put("exports/manifest.json", b"{}", NOW - DAY)
    client = client_for(fay)

    wrong = client.post(f"{PAGE}folder/", form_of(stores, bucket="https://x", secret="no token"))
    client.post(f"{PAGE}folder/", form_of(stores))
    source = BillSource.objects.get()
    tried = client.post(f"{PAGE}{source.pk}/try/").content.decode()
    none_yet = BillFile.objects.exists()
    with django_capture_on_commit_callbacks() as queued:
        asked = client.post(f"{PAGE}{source.pk}/fetch/", follow=True).content.decode()
        client.post(f"{PAGE}{source.pk}/fetch/")  # while it is being read
    due_meanwhile = bill_sources.due(NOW)
    for _ in range(2):  # as the broker does with what takes long
        tasks.fetch_folder(**queued[0].keywords)
    enter_tenant(acme)
    done = client.get(f"{PAGE}{source.pk}/").content.decode()
    failed = client.get(f"{PAGE}{source.pk}/?failed=1").content.decode()
    with django_capture_on_commit_callbacks() as queued_again:
        client.post(f"{PAGE}{source.pk}/fetch/", {"again": "1"})
    BillSource.objects.update(begun_at=None)
    listed = client_for(audra).get(PAGE).content.decode()
    detail = client_for(audra).get(f"{PAGE}{source.pk}/").content.decode()
    edit = client.get(f"{PAGE}folder/?source={source.pk}").content.decode()
    changed = client.post(f"{PAGE}folder/", form_of(stores, secret="", prefix="exports/2026/"))
    kept = BillSource.objects.get()

    assert (wrong.status_code, "without an address" in wrong.content.decode()) == (422, True)
    assert "no token" not in wrong.content.decode()
    assert ("would be taken: new" in tried, "passed over: no CSV or Parquet" in tried, none_yet) == (True, True, False)
    assert (len(queued), "It is being read" in asked, 'data-poll="2"' in asked, "poll.js" in asked, due_meanwhile) == (
        1,
        True,
        True,
        True,
        [],
    )
    assert ("1 file taken, 1 failed" in done, "data-poll" in done) == (True, False)
    assert ("bad.csv" in failed, "good.csv" in failed) == (True, False)
    assert [call.keywords["again"] for call in queued_again] == [True]
    assert ("1 could not be taken" in listed, f"{stores.url}/bills/exports/" in listed) == (True, True)
    assert ("Try it" in detail, "Applied" in detail) == (False, True)
    assert ('value="exports/"' in edit, SAS in edit, "sig=" in listed + detail) == (True, False, False)
    assert (changed.status_code, kept.prefix, kept.sealed_key) == (302, "exports/2026/", source.sealed_key)
    client.post(f"{PAGE}{source.pk}/remove/")
    assert (BillSource.objects.exists(), BillFile.objects.count()) == (False, 1)
    events = set(AuditEntry.objects.filter(event__startswith="bill_source.").values_list("event", flat=True))
    assert events == {"bill_source.set", "bill_source.file_failed", "bill_source.fetched", "bill_source.removed"}


def test_address_of_a_try_leads_to_the_folder(acme: Tenant, stores: Stores, client_for: ClientFor, fay: User) -> None:
    source = azure_source(fay, stores)

    assert client_for(fay).get(f"{PAGE}{source.pk}/try/")["Location"] == f"{PAGE}{source.pk}/"
    assert client_for(fay).get(f"{PAGE}{source.pk}/try/?failed=1")["Location"] == f"{PAGE}{source.pk}/?failed=1"


def test_change_that_is_refused_is_still_one(acme: Tenant, stores: Stores, client_for: ClientFor, fay: User) -> None:
    source = azure_source(fay, stores)
    client = client_for(fay)
    edit = client.get(f"{PAGE}folder/?source={source.pk}").content.decode()
    [action] = re.findall(r'action="([^"]+/folder/[^"]*)"', edit)

    refused = client.post(action, form_of(stores, secret="", bucket="https://x"))

    html = refused.content.decode()
    assert refused.status_code == 422
    assert [words in html for words in (f"Change how {source.provider} is fetched", f"source={source.pk}", "keep the one that is there")] == [
        True, True, True,
    ]  # fmt: skip


def test_poll_says_once_how_the_reading_went(acme: Tenant, stores: Stores, client_for: ClientFor, fay: User) -> None:
    source = azure_source(fay, stores)
    BillSource.objects.update(begun_at=timezone.now())
    poll = {"HX-Request": "true", "HX-Trigger": "source-files"}

    reading: list[str] = []
    ended: list[str] = []
    for told in (reading, ended):
        told.append(client_for(fay).get(f"{PAGE}{source.pk}/", headers=poll).content.decode())
        told.append(client_for(fay).get(f"{PAGE}{source.pk}/").content.decode())
        BillSource.objects.update(begun_at=None)

    assert ["It is being read" in html for html in (*reading, *ended)] == [False, True, False, False]
    assert ["hx-swap-oob" in html for html in (*reading, *ended)] == [False, False, True, False]
    assert ["Not read yet" in html for html in (*reading, *ended)] == [False, False, True, True]


def test_folder_that_was_moved_begins_anew(acme: Tenant, stores: Stores, client_for: ClientFor, fay: User) -> None:
    stores.put("exports/good.csv", focus(day(1)), NOW - DAY)
    source = bill_sources.set_source(provider="openai", kind="openai", key="k", actor=fay)
    BillSource.objects.filter(pk=source.pk).update(fetched_at=NOW)
    azure_source(fay, stores)
    pages = [client_for(fay).get(f"{PAGE}{source.pk}/").content.decode()]
    bill_sources.fetch(source=BillSource.objects.get(), at=LATER)

    bill_sources.set_source(
        provider="openai", kind="azure_blob", key=SAS, bucket="other", base_url=stores.url, begins_on=FIRST, actor=fay, at=LATER
    )

    pages.append(client_for(fay).get(f"{PAGE}{source.pk}/").content.decode())
    assert ["Not read yet" in page for page in pages] == [True, True]
    assert ["good.csv" in page for page in pages] == [False, False]


def test_try_that_fails_says_why(acme: Tenant, stores: Stores, client_for: ClientFor, fay: User) -> None:
    source = azure_source(fay, stores)
    stores.refuses = (403, "AuthorizationPermissionMismatch")

    page = client_for(fay).post(f"{PAGE}{source.pk}/try/", follow=True).content.decode()

    assert "what is missing is List" in page
    assert BillSource.objects.get().last_error == ""


def test_who_may_do_what(
    acme: Tenant, stores: Stores, client_for: ClientFor, api_for: ClientFor, fay: User, audra: User, bob: User
) -> None:
    source = azure_source(fay, stores)
    other = bill_sources.set_source(provider="openai", kind="openai", key="k", actor=fay)
    pages = [f"{PAGE}folder/", f"{PAGE}{source.pk}/"]

    assert other.pk == source.pk
    assert client_for(fay).get(f"{PAGE}{source.pk}/").status_code == 404  # no folder any more
    azure_source(fay, stores)
    assert [client_for(audra).get(url).status_code for url in pages] == [403, 200]
    assert [client_for(bob).get(url).status_code for url in pages] == [403, 403]
    for act in ("try", "fetch"):
        assert client_for(audra).post(f"{PAGE}{source.pk}/{act}/").status_code == 403
        assert api_for(audra).post(f"{API}{source.pk}/{act}/").status_code == 403
        assert api_for(fay).post(f"{API}999999/{act}/").status_code == 404
    assert client_for(audra).post(f"{PAGE}folder/", form_of(stores)).status_code == 403
    assert api_for(audra).get(f"{API}{source.pk}/files/").status_code == 200
    assert api_for(bob).get(f"{API}{source.pk}/files/").status_code == 403


def test_other_organisation_knows_nothing_of_it(
    acme: Tenant, globex: Tenant, stores: Stores, client_for: ClientFor, fay: User, charlie: User
) -> None:
    source = azure_source(fay, stores)

    assert client_for(charlie).get(f"{PAGE}{source.pk}/").status_code == 404
    assert client_for(charlie).get(f"{PAGE.replace('acme', 'globex')}{source.pk}/").status_code == 404
    enter_tenant(globex)
    assert not BillSource.objects.exists()


def test_api(acme: Tenant, stores: Stores, api_for: ClientFor, fay: User, django_capture_on_commit_callbacks: Any) -> None:
    stores.put("exports/good.csv", focus(day(1)), NOW - DAY)
    stores.put("exports/bad.csv", b"a,b\n1,2", NOW - DAY)
    body: dict[str, Any] = {
        "provider": "openai", "kind": "azure_blob", "bucket": "bills", "prefix": "exports/", "base_url": stores.url,
        "credential": "entra_id", "credentials": stores.entra(), "begins_on": FIRST.isoformat(),
    }  # fmt: skip
    api = api_for(fay)

    def post(path: str, sent: dict[str, Any] | None = None) -> Any:
        return api.post(f"{API}{path}", sent or {}, content_type="application/json")

    made = post("", body)
    pk = made.json()["id"]
    look = post(f"{pk}/try/").json()

    def fetched(sent: dict[str, Any]) -> tuple[Any, Any]:
        with django_capture_on_commit_callbacks() as queued:
            asked = [post(f"{pk}/fetch/", sent) for _ in range(2)]
        [task] = queued
        tasks.fetch_folder(**task.keywords)
        enter_tenant(acme)
        return asked, api.get(API).json()["results"][0]

    (asked, first), (_, again) = fetched({}), fetched({"again": True})
    files = api.get(f"{API}{pk}/files/").json()["results"]
    wrong = post("", {**body, "credentials": {}, "base_url": "https://a.blob.core.windows.net"})

    assert made.status_code == 201
    assert look["counts"] == {"new": 2}
    assert {one["standing"] for one in look["files"]} == {"new"}
    assert [(answer.status_code, answer.json()["begun_at"] is None) for answer in asked] == [(202, False)] * 2
    assert (first["begun_at"], first["reading"]["rows"], first["reading"]["taken"], first["reading"]["failed"]) == (None, 1, 1, 1)
    assert (again["reading"]["taken"], again["reading"]["failed"], again["reading"]["known"]) == (0, 1, 1)
    assert {one["name"]: (one["bill"] is not None, bool(one["error"])) for one in files} == {
        "exports/good.csv": (True, False), "exports/bad.csv": (False, True),
    }  # fmt: skip
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_bill_source")
    assert doubles.AZURE_SECRET not in json.dumps([made.json(), files, wrong.json()])


def test_pages_take_as_many_queries_however_many_files_lie_there(
    acme: Tenant, stores: Stores, client_for: ClientFor, api_for: ClientFor, fay: User
) -> None:
    source = azure_source(fay, stores)
    urls = [PAGE, f"{PAGE}{source.pk}/", f"{API}{source.pk}/files/"]

    def counted() -> list[int]:
        counts = []
        for url in urls:
            client = api_for(fay) if url.startswith("/api/") else client_for(fay)
            client.get(url)
            with CaptureQueriesContext(
                connection,
            ) as found:
                assert client.get(url).status_code == 200
            counts.append(len(found))
        return counts

    stores.put("exports/0.csv", focus(day(1)), NOW - DAY)
    bill_sources.fetch(source=source, at=LATER)
    few = counted()
    for number in range(1, 9):
        stores.put(f"exports/{number}.csv", focus(day(1 + number)) if number % 2 else b"a,b", NOW - DAY)
    bill_sources.fetch(source=BillSource.objects.get(), at=LATER)

    assert counted() == few
