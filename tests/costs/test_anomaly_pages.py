"""Pages of anomalies: what they show, what their buttons do, how many queries the list takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from costs.models import Anomaly, AnomalyRun, AnomalySettings
from governance.models import Tenant, User
from tests.conftest import ClientFor
from tests.costs.services.test_anomalies import NIGHT, detected, past

LIST = "/o/acme/operate/costs/anomalies/"


def made(ref: str, back: int = 0, **fields: object) -> Anomaly:
    at = datetime(2026, 11, 18, tzinfo=UTC) - timedelta(days=back)
    given: dict[str, object] = {"dimension": "agent", "period": "day", "kind": "spike", "expected": 10, "actual": 25, "excess": 15}
    return Anomaly.objects.create(ref=ref, first_at=at, last_at=at + timedelta(days=1), score=5.0, created_at=at, **(given | fields))


def test_empty_list_says_what_is_missing(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    client = client_for(fay)

    young = client.get(LIST).content
    past(days=30)
    unlooked = client.get(LIST).content
    AnomalyRun.objects.create(period="day", start=NIGHT - timedelta(hours=26), series=3, flagged=0, told=0, finished_at=NIGHT)
    quiet = client.get(LIST).content

    assert b"21 of 21 days of history are still missing" in young
    assert b"Not looked yet" in unlooked
    assert b"Nothing out of the ordinary" in quiet


def test_list_filters_in_the_url(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    made("search")
    made("mailer", status="closed")
    client = client_for(fay)

    everything, one, none = (client.get(f"{LIST}{query}").content for query in ("", "?status=open", "?kind=runaway"))

    assert b"search" in everything
    assert b"mailer" in everything
    assert b"mailer" not in one
    assert b"No anomaly matches" in none


def test_list_takes_as_many_queries_for_many(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    client = client_for(fay)
    made("search")
    client.get(LIST)  # what only the first page of a process asks
    with CaptureQueriesContext(connection) as few:
        client.get(LIST)
    for back in range(1, 20):
        made(f"agent-{back}", back)
    with CaptureQueriesContext(connection) as many:
        client.get(LIST)

    assert len(many) == len(few)


def test_detail_shows_causes_and_takes_feedback(acme: Tenant, client_for: ClientFor, fay: User, audra: User) -> None:
    found = detected()
    client = client_for(fay)

    page = client.get(f"{LIST}{found.pk}/").content.decode()
    judged = client.post(f"{LIST}{found.pk}/feedback/", {"feedback": "planned", "note": "Sale"}, follow=True).content.decode()
    wrong = client.post(f"{LIST}{found.pk}/feedback/", {"feedback": "planned", "planned_until": "2020-01-01"})
    undone = client.post(f"{LIST}{found.pk}/feedback/withdraw/", follow=True).content.decode()
    closed = client.post(f"{LIST}{found.pk}/close/", follow=True).content.decode()

    assert "chart-anomaly" in page
    assert "Tokens per call" in page
    assert "agent=search&amp;from=2026-11-18&amp;to=2026-11-18" in page
    assert "What is not judged counts as a false alert" in page
    assert "seen as well in Project shop, Model large-chat, Key k-shop and the whole organisation" in page
    assert "Sale" in judged
    assert "Taken back. It is open again." in undone
    assert "Nobody has said yet" in undone
    assert wrong.status_code == 422
    assert "Closed" in closed
    assert b"Say so" not in client_for(audra).get(f"{LIST}{found.pk}/").content


def test_detail_counts_the_parts_that_it_stands_for(acme: Tenant, client_for: ClientFor, fay: User, audra: User) -> None:
    found = made("", dimension="tenant", also=[["project", "shop"], ["agent", "a"], ["agent", "b"]])

    page = client_for(fay).get(f"{LIST}{found.pk}/").content.decode()

    assert "told once for 1 project, 2 agents inside it" in page
    assert client_for(audra).post(f"{LIST}{found.pk}/feedback/withdraw/").status_code == 403


def test_unknown_anomaly_is_not_found(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    assert client_for(fay).get(f"{LIST}999/").status_code == 404


def test_settings_are_kept_and_bad_ones_explained(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    fields = {"sensitivity": "high", "floor": "2.50", "floor_percent": "0.5", "muted": "agent:search\n"}
    client = client_for(fay)

    kept = client.post(f"{LIST}settings/", fields)
    wrong = client.post(f"{LIST}settings/", fields | {"muted": "search"})

    assert kept.status_code == 302
    assert AnomalySettings.objects.get().muted == ["agent:search"]
    assert wrong.context["form"].errors["muted"]
    assert b"agent:search" in client.get(f"{LIST}settings/").content


def test_missed_one_is_reported(acme: Tenant, client_for: ClientFor, fay: User) -> None:
    past(days=5, last=(today := datetime.now(UTC).date()))
    client = client_for(fay)

    sent = client.post(f"{LIST}missed/", {"target": "tenant:", "day": today.isoformat(), "note": "Twice the bill"})
    wrong = client.post(f"{LIST}missed/", {"target": "tenant:", "day": today.isoformat(), "note": "Again"})

    assert sent.status_code == 302
    assert Anomaly.objects.get().feedback_note == "Twice the bill"
    assert wrong.status_code == 422


@pytest.mark.parametrize("kind", ["drop", "runaway", "reported"])
def test_every_kind_has_a_page(kind: str, acme: Tenant, client_for: ClientFor, fay: User) -> None:
    sign = -1 if kind == "drop" else 1
    found = made(
        "search", kind=kind, expected=10, actual=10 + sign * 5, excess=Decimal(sign * 5), period="hour" if kind == "runaway" else "day"
    )

    assert client_for(fay).get(f"{LIST}{found.pk}/").status_code == 200
