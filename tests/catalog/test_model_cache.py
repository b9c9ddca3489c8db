"""A model's cache settings, and what they brought."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from catalog.errors import InvalidValueError
from catalog.models import SemanticAnswer
from catalog.services import answers
from costs.models import Event
from gateway.contract.snapshot import Semantic
from gateway.publish.publisher import compile_snapshot
from governance import metrics
from governance.metrics import Window
from governance.models import AuditEntry, Tenant, User
from governance.services import payloads
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model, make_project


def test_settings_reach_the_plane_and_the_log(acme: Tenant, adam: User) -> None:
    model = make_model(owner=adam, status="approved")

    answers.set_cache(model=model, actor=adam, ttl_s=3600, scope="project")
    answers.set_cache(model=model, actor=adam, ttl_s=3600, scope="project")

    served = compile_snapshot(acme, 1).models[model.slug]
    assert (served.cache_ttl_s, served.cache_scope) == (3600, "project")
    assert AuditEntry.objects.get(event="model.cache_set").details["after"] == {
        "ttl_s": 3600, "scope": "project", "embedding": "", "threshold": 0.95, "sample_percent": 5,
    }  # fmt: skip
    with pytest.raises(InvalidValueError, match="a week"):
        answers.set_cache(model=model, actor=adam, ttl_s=604_801, scope="tenant")


def test_page_and_api_show_what_was_saved(acme: Tenant, client_for: ClientFor, api_for: ClientFor, adam: User) -> None:
    model = make_model(owner=adam, status="approved")
    hit = {"usage_source": "cache", "input_tokens": None, "output_tokens": None, "provider": None}
    make.record(
        acme,
        make.call(acme, model=model.slug, steps=[[f"cache:{model.slug}", "miss", 0, ""]]),
        make.call(acme, model=model.slug, steps=[[f"cache:{model.slug}", "hit", 0, "saved_microusd=250000"]], **hit),
        make.call(acme, model=model.slug, steps=[[f"cache:{model.slug}", "hit", 0, "saved_microusd=250000"]], **hit),
        make.call(acme, model="other", steps=[["cache:other", "hit", 0, "saved_microusd=9"]], **hit),
    )
    client, page = client_for(adam), f"/o/acme/models/{model.slug}/?tab=cache"

    shown = client.get(page).content.decode()

    assert "2 of 3 calls" in shown
    assert "0.50" in shown
    assert client.post(f"/o/acme/models/{model.slug}/cache/", {"ttl_s": "-1", "scope": "tenant"}).status_code == 422
    assert client.post(f"/o/acme/models/{model.slug}/cache/", {"ttl_s": "600", "scope": "key"}).status_code == 302
    body = api_for(adam).get(f"/api/v1/models/{model.slug}/cache/").json()
    assert (body["ttl_s"], body["scope"], body["hits"], body["misses"], Decimal(body["saved_usd"])) == (600, "key", 2, 1, Decimal("0.5"))
    changed = api_for(adam).put(f"/api/v1/models/{model.slug}/cache/", {"ttl_s": 0}, content_type="application/json").json()
    assert (changed["ttl_s"], changed["scope"]) == (0, "tenant")


def test_hit_costs_nothing_and_is_not_unpriced(acme: Tenant) -> None:

    make.record(acme, make.call(acme, usage_source="cache", input_tokens=None, output_tokens=None, provider=None))

    event = Event.objects.get()
    assert (event.pricing, event.cost) == ("free", Decimal())


def test_semantic_settings_are_checked_published_and_undone(acme: Tenant, adam: User, sam: User) -> None:
    model = make_model(owner=adam, status="approved")
    make_model(owner=adam, slug="embed", status="approved", capabilities=["embeddings"])
    draft = make_model(owner=adam, status="draft", capabilities=["embeddings"])
    make_project(owner=adam, slug="shop")
    settings = {"model": model, "actor": adam, "ttl_s": 600, "scope": "tenant"}
    for fields, message in (
        ({"embedding": draft.slug}, "no served model"),
        ({"embedding": model.slug}, "no served model"),
        ({"embedding": "embed", "threshold": 0.5}, "0.8 to 1"),
        ({"embedding": "embed", "sample_percent": 101}, "0 to 100"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            answers.set_cache(**settings, **fields)  # type: ignore[arg-type]  # of several types

    answers.set_cache(**settings, embedding="embed", threshold=0.9, sample_percent=20)  # type: ignore[arg-type]  # as above

    assert compile_snapshot(acme, 1).models[model.slug].semantic == Semantic(embedding="embed", threshold=0.9, sample=0.2)
    now = timezone.now()
    for project, until in (("shop", 60), ("shop", -60), ("lab", 60)):
        SemanticAnswer.objects.create(
            partition="p", model=model.slug, project=project, embedding=[0.5], sealed="x", kept_at=now, until=now + timedelta(seconds=until)
        )
    assert answers.purge_answers() == 1
    payloads.ask_for_rule(ref="shop", mode="none", days=1, actor=sam, reason="Personnel files")
    assert answers.purge_answers() == 1
    answers.set_cache(**settings)  # type: ignore[arg-type]  # as above
    assert not SemanticAnswer.objects.exists()
    assert compile_snapshot(acme, 1).models[model.slug].semantic is None


def test_erasure_reaches_answers_by_project_and_time(acme: Tenant, adam: User, sam: User) -> None:
    now = timezone.now()
    for project, age in (("shop", 1), ("shop", 30), ("lab", 30), ("lab", 1)):
        SemanticAnswer.objects.create(
            partition="p", model="m", project=project, embedding=[0.5], sealed="x", kept_at=now - timedelta(hours=age), until=now
        )

    assert payloads.erase(actor=sam, reason="Asked", user="u1", project="shop") == 0  # an answer does not say whose it is
    assert payloads.erase(actor=sam, reason="Asked", project="shop", until=now - timedelta(hours=20)) == 1
    assert payloads.erase(actor=sam, reason="Asked", project="shop") == 1
    assert set(SemanticAnswer.objects.values_list("project", flat=True)) == {"lab"}
    assert payloads.erase(actor=sam, reason="Asked", everything=True) == 2
    details = AuditEntry.objects.filter(event="payload.erased").order_by("sequence").values_list("details", flat=True)
    assert [(one["payloads"], one["answers"]) for one in details] == [(0, 0), (0, 1), (0, 1), (0, 2)]


def test_hits_by_meaning_and_their_quality_are_shown(acme: Tenant, client_for: ClientFor, api_for: ClientFor, adam: User) -> None:
    model, hit = (
        make_model(owner=adam, status="approved"),
        {"usage_source": "cache", "input_tokens": None, "output_tokens": None, "provider": None},
    )
    make_model(owner=adam, slug="embed", status="approved", capabilities=["embeddings"])
    step, verdicts = f"cache:{model.slug}", (("hit", 1), ("semantic", 2), ("agree", 3), ("disagree", 1), ("miss", 1))
    for verdict, times in verdicts:
        for _ in range(times):
            said = "saved_microusd=100000 similarity_ppm=970000" if verdict == "semantic" else ""
            make.record(acme, make.call(acme, model=model.slug, steps=[[step, verdict, 0, said]], **(hit if verdict == "semantic" else {})))

    page = client_for(adam).get(f"/o/acme/models/{model.slug}/?tab=cache").content.decode()
    body = api_for(adam).get(f"/api/v1/models/{model.slug}/cache/").json()

    assert "3 of 4 calls" in page
    assert "3 of 4 looked at" in page
    assert '<option value="embed">' in page
    assert (body["hits"], body["semantic_hits"], body["misses"], body["checked"], body["agreed"]) == (3, 2, 1, 4, 3)
    reading = metrics.get("cache.hit_quality").read(Window(timezone.now() - timedelta(days=1), timezone.now() + timedelta(hours=1)))
    assert (reading.value, reading.sample) == (75.0, 4)
