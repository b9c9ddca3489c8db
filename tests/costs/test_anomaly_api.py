"""Anomalies for programs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.costs.services.test_anomalies import detected, past
from tests.costs.test_anomaly_pages import made

API = "/api/v1/anomalies/"


def post(client: Any, path: str, body: dict[str, Any] | None = None) -> Any:
    return client.post(f"{API}{path}", body or {}, content_type="application/json")


def test_life_of_an_anomaly(api_for: ClientFor, fay: User, acme: Tenant) -> None:
    client, found = api_for(fay), detected()

    [listed] = client.get(API).json()["results"]
    acknowledged = post(client, f"{found.pk}/acknowledge/").json()
    again = post(client, f"{found.pk}/acknowledge/")
    judged = post(client, f"{found.pk}/feedback/", {"feedback": "planned", "note": "Sale"}).json()
    undone = client.delete(f"{API}{found.pk}/feedback/")
    twice = client.delete(f"{API}{found.pk}/feedback/")
    closed = post(client, f"{found.pk}/close/").json()
    one = client.get(f"{API}{found.pk}/").json()

    assert sum(Decimal(driver["amount_usd"]) for driver in listed["drivers"]) == Decimal(listed["excess_usd"])
    assert (listed["dimension"], listed["ref"], listed["also"][0], listed["feedback_by"]) == ("agent", "search", ["tenant", ""], None)
    assert acknowledged["status"] == "acknowledged"
    assert (again.status_code, again.json()["code"]) == (409, "anomaly_state")
    assert (judged["feedback"], judged["feedback_by"]) == ("planned", fay.email)
    assert (undone.json()["feedback"], undone.json()["status"], twice.json()["code"]) == ("", "open", "anomaly_state")
    assert closed["status"] == one["status"] == "closed"


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("status=open", {"search"}),
        ("kind=drop", set()),
        ("dimension=agent", {"search", "mailer"}),
        ("ref=mailer", {"mailer"}),
        ("since=2026-11-18", {"search"}),
        ("until=2026-11-17", {"mailer"}),
        ("feedback=none", {"search", "mailer"}),
    ],
)
def test_list_is_narrowed(query: str, names: set[str], api_for: ClientFor, fay: User, acme: Tenant) -> None:
    made("search")
    made("mailer", back=3, status="closed")

    assert {row["ref"] for row in api_for(fay).get(f"{API}?{query}").json()["results"]} == names


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {"dimension": "agent", "ref": "nobody", "day": "2026-11-18", "note": "?"}, 400),
        ("", {"dimension": "planet", "day": "2026-11-18", "note": "?"}, 400),
        ("999/feedback/", {"feedback": "true"}, 404),
    ],
)
def test_what_makes_no_sense_is_refused(path: str, body: dict[str, Any], status: int, api_for: ClientFor, fay: User, acme: Tenant) -> None:
    assert post(api_for(fay), path, body).status_code == status


def test_list_refuses_an_unknown_choice(api_for: ClientFor, fay: User, acme: Tenant) -> None:
    assert api_for(fay).get(f"{API}?status=maybe").status_code == 400


def test_settings_and_a_missed_one(api_for: ClientFor, fay: User, acme: Tenant) -> None:
    today = datetime.now(UTC).date()
    past(days=5, last=today)
    client = api_for(fay)

    before = client.get(f"{API}settings/").json()
    after = client.patch(f"{API}settings/", {"floor_usd": "7.50", "muted": ["key:k2"]}, content_type="application/json").json()
    wrong = client.patch(f"{API}settings/", {"muted": ["k2"]}, content_type="application/json")
    reported = post(client, "", {"dimension": "agent", "ref": "mailer", "day": (today - timedelta(days=1)).isoformat(), "note": "Twice"})

    assert before == {"sensitivity": "medium", "floor_usd": "5", "floor_percent": "1", "muted": []}
    assert (after["floor_usd"], after["muted"]) == ("7.5", ["key:k2"])
    assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_anomaly")
    assert (reported.status_code, reported.json()["kind"]) == (201, "reported")
