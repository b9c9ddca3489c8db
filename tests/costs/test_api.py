"""The costs endpoints: same figures as the pages, clear errors, and only for who may."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from costs import generator
from costs.models import Event, PriceEntry
from governance.models import Membership, Tenant, User
from tests.conftest import ClientFor, api_client
from tests.factories import costs as make

READ = ["spend/", "prices/", "prices/unpriced/", "bills/", "reconciliations/"]


def rows(acme: Tenant, **faults: object) -> generator.Generated:
    offers = [generator.Offer("small-chat", "gpt-small", {"input": Decimal("1.00"), "output": Decimal("4.00")})]
    return generator.generate(
        tenant=acme.public_id,
        provider="openai",
        provider_name="OpenAI",
        account="acct/1 eu",
        month=date(2026, 10, 1),
        offers=offers,
        seed=5,
        calls_per_day=4,
        faults=generator.Faults(**faults),  # type: ignore[arg-type]  # test shorthand
    )


def bill(content: bytes, name: str = "bill.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type="text/csv")


@pytest.mark.parametrize("path", READ)
def test_figures_of_the_organisation_need_the_right_to_see_costs(
    path: str, acme: Tenant, api_for: ClientFor, fay: User, bob: User, audra: User
) -> None:
    assert [api_for(user).get(f"/api/v1/{path}").status_code for user in (fay, audra, bob, None)] == [200, 200, 403, 401]


def test_who_may_only_see_costs_may_not_change_them(acme: Tenant, api_for: ClientFor, audra: User) -> None:
    client = api_for(audra)

    codes = [
        client.post("/api/v1/prices/", {}, content_type="application/json").status_code,
        client.post("/api/v1/bills/", {"file": bill(b"x")}).status_code,
        client.post("/api/v1/reconciliations/", {}, content_type="application/json").status_code,
    ]

    assert codes == [403, 403, 403]


def test_spend_adds_up_and_says_what_it_does_not_know(acme: Tenant, api_for: ClientFor, fay: User, alice: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme), make.call(acme, agent=None, model="other"))

    body = api_for(fay).get("/api/v1/spend/?group=model").json()

    assert body["total"]["cost_usd"] == "0.0018"
    assert (body["total"]["calls"], body["total"]["unpriced_calls"], body["untagged_calls"], body["coverage_calls_percent"]) == (
        2,
        1,
        1,
        50.0,
    )
    assert sum(Decimal(line["cost_usd"]) for line in body["lines"]) == Decimal(body["total"]["cost_usd"])
    assert [day["value"] for day in body["days"]] == ["other", "small-chat"]


@pytest.mark.parametrize(
    "query", ["from=yesterday", "group=colour", "from=2026-05-02&to=2026-05-01", "from=2000-01-01&to=2099-01-01", "colour=red"]
)
def test_bad_period_or_filter_is_a_clear_error(query: str, acme: Tenant, api_for: ClientFor, fay: User) -> None:
    answer = api_for(fay).get(f"/api/v1/spend/?{query}")

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid"


def test_usage_and_requests_are_narrowed_to_own_keys(acme: Tenant, api_for: ClientFor, bob: User, alice: User, fay: User) -> None:
    mine, other = make.key(bob), make.key(alice)
    make.record(acme, make.call(acme, key_id=mine.public_id), make.call(acme, key_id=other.public_id))
    client = api_for(bob)
    hidden = Event.objects.get(key_id=other.public_id)

    assert client.get("/api/v1/usage/").json()["total"]["calls"] == 1
    assert [row["key_id"] for row in client.get("/api/v1/requests/").json()["results"]] == [mine.public_id]
    assert client.get(f"/api/v1/requests/{hidden.event_id}/").status_code == 404
    assert api_for(fay).get(f"/api/v1/requests/{hidden.event_id}/").json()["steps"][0]["name"] == "identify"
    assert api_for(fay).get(f"/api/v1/requests/{uuid.uuid4()}/").status_code == 404


def test_token_narrowed_to_developer_sees_own_calls_only(acme: Tenant, alice: User, bob: User) -> None:
    make.record(acme, make.call(acme, key_id=make.key(bob).public_id))
    Membership.objects.filter(user=alice, tenant=acme).update(roles=["owner", "developer"])
    client = api_client(alice, acme, roles=["developer"])

    assert client.get("/api/v1/requests/").json()["results"] == []
    assert client.get("/api/v1/spend/").status_code == 403


def test_requests_are_filtered_and_paged(acme: Tenant, api_for: ClientFor, fay: User) -> None:
    make.record(acme, *[make.call(acme, project="shop") for _ in range(5)], make.call(acme, **make.REFUSED))

    first = api_for(fay).get("/api/v1/requests/?project=shop&limit=2").json()
    failed = api_for(fay).get("/api/v1/requests/?status=failed").json()["results"]

    assert len(first["results"]) == 2
    assert first["next"]
    assert [row["error_code"] for row in failed] == ["consent_withdrawn"]


def test_price_is_set_once_for_a_time(acme: Tenant, api_for: ClientFor, fay: User, alice: User) -> None:
    make.deployment(alice)
    client = api_for(fay)
    body = {
        "provider": "openai",
        "model": "small-chat",
        "token_class": "input",
        "price": "0.15",
        "valid_from": "2026-01-01T00:00:00Z",
        "source": "price page",
    }

    answer = client.post("/api/v1/prices/", body, content_type="application/json")
    again = client.post("/api/v1/prices/", body | {"price": "0.20"}, content_type="application/json")

    assert (answer.status_code, answer.json()["price"], answer.json()["approved_by"]) == (201, "0.15", "fay@example.com")
    assert (again.status_code, again.json()["code"]) == (409, "price_exists")
    assert PriceEntry.objects.count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"price": "-1"},
        {"price": "NaN"},
        {"price": "1e400"},
        {"price": "0.123456789"},
        {"provider": "nobody"},
        {"model": "nothing"},
        {"token_class": "air"},
        {"colour": "red"},
    ],
)
def test_bad_price_is_refused(change: dict[str, str], acme: Tenant, api_for: ClientFor, fay: User, alice: User) -> None:
    make.deployment(alice)
    body = {"provider": "openai", "model": "small-chat", "token_class": "input", "price": "0.15"} | change

    answer = api_for(fay).post("/api/v1/prices/", body, content_type="application/json")

    assert answer.status_code == 400
    assert set(answer.json()) >= {"detail", "code"}


def test_bill_road(acme: Tenant, api_for: ClientFor, fay: User, alice: User) -> None:
    make.deployment(alice)
    make.prices(alice)
    made = rows(acme, missing_calls=2)
    content = generator.to_csv(made.rows) + b"nonsense\r\n"
    from costs.services import ingest

    ingest.deliver(made.calls)
    ingest.ingest(tenant=acme)
    client = api_for(fay)

    posted = client.post("/api/v1/bills/", {"file": bill(content), "provider": "openai"})
    again = client.post("/api/v1/bills/", {"file": bill(content, "again.csv")})
    errors = client.get(f"/api/v1/bills/{posted.json()['id']}/errors/").json()["results"]
    run = client.post("/api/v1/reconciliations/", {"provider": "openai", "month": "2026-10"}, content_type="application/json")
    rerun = client.post("/api/v1/reconciliations/", {"provider": "openai", "month": "2026-10"}, content_type="application/json")
    detail = client.get("/api/v1/reconciliations/openai/acct%2F1%20eu/2026-10/").json()

    assert (posted.status_code, posted.json()["rows_in"], posted.json()["rows_rejected"], posted.json()["already_imported"]) == (
        201,
        len(made.rows) + 1,
        1,
        False,
    )
    assert (again.status_code, again.json()["already_imported"], again.json()["id"]) == (200, True, posted.json()["id"])
    assert "columns" in errors[0]["message"]
    assert (run.status_code, rerun.status_code, rerun.json()["is_new"]) == (201, 200, False)
    assert {cause["cause"]: Decimal(cause["amount"]) for cause in run.json()["latest"]["causes"]} == made.truth
    assert len(detail["lines"]) == 62
    assert detail["revisions"][0]["number"] == 1


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"a;b\n1;2", "invalid_bill"), (b"", "invalid"), (b"\xef\xbb\xbf", "invalid_bill"), (b"PAR1xxxx", "invalid_bill")],
)
def test_bad_bill_is_refused(content: bytes, code: str, acme: Tenant, api_for: ClientFor, fay: User) -> None:
    answer = api_for(fay).post("/api/v1/bills/", {"file": bill(content)})

    assert answer.status_code == 400
    assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("body", "status"),
    [({"provider": "openai", "month": "2026-10"}, 404), ({"provider": "openai", "month": "October"}, 400), ({"provider": "openai"}, 400)],
)
def test_run_without_a_bill_or_a_month(body: dict[str, str], status: int, acme: Tenant, api_for: ClientFor, fay: User) -> None:
    assert api_for(fay).post("/api/v1/reconciliations/", body, content_type="application/json").status_code == status


@pytest.mark.parametrize("path", ["bills/999/", "bills/999/errors/", "reconciliations/openai/acct/2026-10/"])
def test_missing_things_are_not_found(path: str, acme: Tenant, api_for: ClientFor, fay: User) -> None:
    assert api_for(fay).get(f"/api/v1/{path}").status_code == 404


def test_another_tenants_figures_are_not_there(acme: Tenant, globex: Tenant, charlie: User) -> None:
    make.record(acme, make.call(acme, started_at=timezone.now()))
    client = api_client(charlie, globex)

    assert client.get("/api/v1/spend/").json()["total"]["calls"] == 0
    assert client.get(f"/api/v1/requests/{Event.objects.get().event_id}/").status_code == 404


def test_times_are_utc(acme: Tenant, api_for: ClientFor, fay: User) -> None:
    make.record(acme, make.call(acme, started_at=datetime(2026, 5, 1, 23, 30, tzinfo=UTC)))

    body = api_for(fay).get("/api/v1/spend/?from=2026-05-01&to=2026-05-01").json()

    assert body["total"]["calls"] == 1
