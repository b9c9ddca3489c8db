"""Pages and API of shadows."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import Tenant, User
from rollouts.models import Shadow, ShadowPair
from rollouts.services import shadows
from rollouts.tasks import look_at_shadow
from tests.conftest import ClientFor
from tests.factories.catalog import make_model, make_project

BASE = "/o/acme/release/shadows/"
PAGE = f"{BASE}try-next/"
ONE = "/api/v1/shadows/try-next/"
TERMS = {
    "name": "Try next", "slug": "try-next", "source": "present", "candidate": "next", "judge": "", "project": "lab", "share_percent": "10",
    "cap_usd": "5", "latency_tolerance": "20", "cost_tolerance": "0", "length_tolerance": "30",
}  # fmt: skip


@pytest.fixture
def catalog(acme: Tenant, adam: User) -> None:
    make_project(owner=adam, slug="lab")
    for slug in ("present", "next"):
        make_model(owner=adam, slug=slug, price=("1", "4"))


@pytest.fixture
def shadow(catalog: None, rita: User, adam: User) -> Shadow:
    """Under way, with three judged pairs and one that waits."""
    terms = {"source": "present", "candidate": "next", "project": "lab", "share_percent": 10.0, "cap_usd": Decimal(5)}
    proposed = shadows.propose_shadow(slug="try-next", name="Try next", actor=rita, **terms)  # type: ignore[arg-type]
    shadow = shadows.start_shadow(shadow=proposed, actor=adam)
    now = timezone.now()
    for number, verdict in enumerate(("preferred", "preferred", "baseline", "")):
        ShadowPair.objects.create(
            shadow=shadow, call=uuid4(), answer=uuid4(), at=now - timedelta(minutes=number), is_ok=True, call_ms=800, answer_ms=600,
            call_tokens=100, answer_tokens=110, call_usd=Decimal("0.02"), answer_usd=Decimal("0.0137"), verdict=verdict,
            judged_at=now if verdict else None,
        )  # fmt: skip
    return shadow


def test_one_proposes_and_another_starts_on_the_pages(catalog: None, rita: User, adam: User, bob: User, client_for: ClientFor) -> None:
    mine, other = client_for(rita), client_for(adam)

    refused = mine.post(f"{BASE}new/", {**TERMS, "candidate": "present"})
    made = mine.post(f"{BASE}new/", TERMS)

    assert (refused.status_code, "another model" in refused.content.decode()) == (422, True)
    assert (made.status_code, made["location"]) == (302, PAGE)
    own = mine.get(PAGE).content.decode()
    assert "Somebody else starts it" in own
    assert f"{PAGE}start/" not in own
    assert Shadow.objects.get().status == "draft"
    mine.post(f"{PAGE}start/")
    assert Shadow.objects.get().status == "draft"
    assert client_for(bob).post(f"{PAGE}start/").status_code == 403
    other.post(f"{PAGE}start/")
    assert Shadow.objects.get().status == "running"


def test_page_says_what_would_promote_and_shows_pairs(
    shadow: Shadow, rita: User, bob: User, client_for: ClientFor, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    client = client_for(rita)

    with django_assert_max_num_queries(26):  # most of them of the frame, none for each pair
        page = client.get(PAGE).content.decode()
    fragment = client.get(PAGE, {"verdict": "baseline"}, headers={"HX-Request": "true"}).content.decode()
    listed = client.get(BASE).content.decode()

    assert "2 of 3 decided pairs (66.7%) prefer the candidate" in page
    assert "Not known yet" in page
    assert fragment.lstrip().startswith("<section")
    assert fragment.count("Present one preferred</span>") == 1
    assert "Try next" in listed
    assert "$0.0137" not in client_for(bob).get(PAGE).content.decode()
    assert client.post(f"{PAGE}pause/", {"reason": "Provider is down"}).status_code == 302
    assert Shadow.objects.get().reason == "Provider is down"
    assert client.get(f"{BASE}nowhere/").status_code == 404


def test_api_proposes_tells_and_ends(shadow: Shadow, rita: User, api_for: ClientFor) -> None:
    api = api_for(rita)

    made = api.post("/api/v1/shadows/", {**TERMS, "slug": "again"})
    told = api.get(ONE).json()
    pairs = api.get(f"{ONE}pairs/", {"verdict": "waiting"}).json()["results"]
    ended = api.post(f"{ONE}end/", {"reason": "Enough"})

    assert (made.status_code, made.json()["shadow"]["status"]) == (201, "draft")
    assert (told["pairs"], told["verdict"]["advice"], len(told["verdict"]["checks"])) == (4, "wait", 7)
    assert [pair["verdict"] for pair in pairs] == [""]
    assert (ended.status_code, ended.json()["shadow"]["status"]) == (200, "done")
    assert api.post(f"{ONE}resume/").status_code == 409


def test_metric_counts_what_was_decided_and_a_look_of_a_missing_one_is_skipped(shadow: Shadow) -> None:
    now = timezone.now()
    read = metrics.get("shadows.preferred_share").read

    reading, before = (
        read(Window(now - timedelta(hours=1), now + timedelta(hours=1))),
        read(Window(now - timedelta(hours=2), now - timedelta(hours=1))),
    )

    assert reading.value == pytest.approx(200 / 3)
    assert reading.sample == 3
    assert before.value is None
    look_at_shadow.run(0)
    look_at_shadow.run(shadow.pk)


def test_gates_read_how_far_shadows_are_from_production(shadow: Shadow) -> None:
    now = timezone.now()
    window = Window(now - timedelta(hours=1), now + timedelta(seconds=1))
    keys = ("shadows.latency_apart", "shadows.p95_change", "shadows.saving")
    told = {"shadow": shadow, "is_ok": True, "call_ms": 800, "answer_ms": 600, "call_usd": Decimal("0.02"), "answer_usd": Decimal("0.0137")}

    def pairs(**seen: Any) -> None:
        ShadowPair.objects.bulk_create(
            ShadowPair(**{**told, **seen}, call=uuid4(), answer=uuid4(), at=now - timedelta(seconds=n)) for n in range(96)
        )

    pairs(is_ok=False)
    assert [metrics.get(key).read(window) for key in keys] == [NO_DATA] * 3  # of a hundred pairs four were answered: too few
    failed = metrics.get("shadows.failed_share").read
    assert (failed(window).value, failed(window).sample) == (96, 100)
    pairs()
    assert [metrics.get(key).read(window) for key in keys] == [NO_DATA] * 3  # enough were answered, and far too many were not
    ShadowPair.objects.filter(is_ok=False).delete()
    assert failed(window).value == 0
    ShadowPair.objects.create(**{**told, "answer_ms": 9_000, "call": uuid4(), "answer": uuid4(), "at": window.end})

    apart, p95, saving = (metrics.get(key).read(window) for key in keys)

    assert apart.value == pytest.approx(25)
    assert apart.sample == 100
    assert p95.value == pytest.approx(-25)
    assert saving.value == pytest.approx(31.5)
