"""A model's objectives and the quality of its deployments: rules, page, API, preview and metric."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone

from catalog import routing_selectors
from catalog.errors import InvalidValueError
from catalog.hooks import Price, cost_figures
from catalog.models import Deployment, Model
from catalog.services import routing
from gateway.contract.routing import Objectives
from gateway.publish.publisher import compile_snapshot
from governance import metrics
from governance.metrics import Window
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories import costs as make
from tests.factories.catalog import make_model, make_provider


def _two(owner: User) -> tuple[Model, Deployment, Deployment]:
    """A model with a dear and fast deployment, and a cheap and slow one."""
    model = make_model(owner=owner, provider=make_provider(slug="quick"), upstream_model="fast", price=("8", "8"))
    cheap = Deployment.objects.create(model=model, provider=make_provider(slug="thrifty"), upstream_model="slow", check_ok=True)
    cost_figures().set_list_price(provider="thrifty", model=model.slug, price=Price(Decimal(2), Decimal(2)), actor=owner)
    return model, model.deployments.get(provider__slug="quick"), cheap


def test_objectives_and_quality_reach_the_plane_and_the_log(acme: Tenant, adam: User) -> None:
    model, fast, _ = _two(adam)
    assert compile_snapshot(acme, 1).models[model.slug].objectives is None

    for _ in range(2):
        routing.set_objectives(model=model, actor=adam, cost=20, latency=30, quality=50, explore_percent=10)
        routing.set_quality(deployment=fast, actor=adam, score=Decimal("87.5"), basis="support set, May")

    served = compile_snapshot(acme, 1).models[model.slug]
    assert served.objectives == Objectives(cost=20, latency=30, quality=50, explore=0.1)
    assert [(each.quality, each.input_price) for each in served.deployments] == [(87.5, 8_000_000), (None, 2_000_000)]
    changes = list(AuditEntry.objects.filter(event__in=["model.routing_set", "deployment.quality_set"]).order_by("pk"))
    assert [entry.details["after"] for entry in changes] == [
        {"cost": 20, "latency": 30, "quality": 50, "explore_percent": 10},
        {"score": 87.5, "source": "people", "basis": "support set, May"},
    ]
    routing.clear_objectives(model=model, actor=adam)
    routing.set_quality(deployment=fast, actor=adam, score=None, basis="")
    served = compile_snapshot(acme, 1).models[model.slug]
    assert (served.objectives, served.deployments[0].quality) == (None, None)


def test_what_cannot_be_chosen_by_is_refused(acme: Tenant, adam: User) -> None:
    model, fast, _ = _two(adam)

    with pytest.raises(InvalidValueError, match="above 0"):
        routing.set_objectives(model=model, actor=adam, cost=0, latency=0, quality=0)
    with pytest.raises(InvalidValueError, match="0 and 100"):
        routing.set_objectives(model=model, actor=adam, cost=101, latency=0, quality=0)
    with pytest.raises(InvalidValueError, match="rests on"):
        routing.set_quality(deployment=fast, actor=adam, score=Decimal(80), basis=" ")
    assert not AuditEntry.objects.filter(event__in=["model.routing_set", "deployment.quality_set"]).exists()


def _record(acme: Tenant, model: Model, fast: Deployment, cheap: Deployment) -> None:
    """Four answered calls within the last hours, two by each, and a fifth that nobody answered; one of them explored."""
    step = f"route:{model.slug}"
    said = [
        (fast, 100_000, "best", "regret_ppm=0 chosen:1"),
        (fast, 100_000, "best", "regret_ppm=20000 chosen:1"),
        (cheap, 400_000, "explored", "regret_ppm=380000 chosen:2"),
        (cheap, 400_000, "best", "regret_ppm=0 chosen:2"),
    ]
    calls = [
        make.call(
            acme, model=model.slug, deployment=str(each.pk), provider=each.provider.slug, duration_us=us, steps=[[step, verdict, 6, words]]
        )
        for each, us, verdict, words in said
    ]
    failed = {"status": "upstream_error", "http_status": 502, "error_code": "upstream_error", "input_tokens": None, "output_tokens": None}
    make.record(
        acme, *calls, make.call(acme, model=model.slug, deployment=str(fast.pk), steps=[[step, "no_answer", 5, "chosen:1"]], **failed)
    )


def test_preview_leads_by_what_the_hours_were_like(acme: Tenant, adam: User) -> None:
    model, fast, cheap = _two(adam)
    _record(acme, model, fast, cheap)
    model = Model.objects.get(pk=model.pk)

    by_cost = routing_selectors.preview(model, Objectives(cost=100, explore=0.0))
    by_latency = routing_selectors.preview(model, Objectives(latency=100, quality=10, explore=0.1))

    assert [row.would_share for row in by_cost.candidates] == [0, 100]
    assert [row.cost_usd for row in by_cost.candidates] == [Decimal("0.0096"), Decimal("0.0024")]
    assert (by_cost.calls, by_cost.cost_usd, by_cost.would_cost_usd) == (4, Decimal("0.0240"), Decimal("0.0096"))
    assert by_cost.latency_ms == pytest.approx(250, rel=0.02)
    assert by_cost.would_latency_ms == pytest.approx(400, rel=0.02)
    assert [row.would_share for row in by_latency.candidates] == pytest.approx([95, 5])  # of those that explore each gets half
    assert by_latency.unknown == [f"{fast}: quality", f"{cheap}: quality"]


def test_page_api_and_metric_say_what_came_of_it(
    acme: Tenant, adam: User, client_for: ClientFor, api_for: ClientFor, django_assert_max_num_queries: Any
) -> None:
    model, fast, cheap = _two(adam)
    _record(acme, model, fast, cheap)
    client, page, api = client_for(adam), f"/o/acme/models/{model.slug}/routing/", f"/api/v1/models/{model.slug}/"

    with django_assert_max_num_queries(24):  # however many deployments, hours and days there are
        shown = client.get(page).content.decode()
    fragment = client.get(page, {"cost": 100, "latency": 0, "quality": 0, "explore_percent": 0}, headers={"HX-Request": "true"})
    nothing = client.get(page, {"cost": 0, "latency": 0, "quality": 0, "explore_percent": 0}, headers={"HX-Request": "true"})

    assert "Calls are shared by weight at random" in shown
    assert "10.00%" in shown  # regret of the four calls that were answered
    assert fragment.content.decode().lstrip().startswith("<section")
    assert "100.0%" in fragment.content.decode()
    assert (nothing.status_code, "above 0" in nothing.content.decode()) == (422, True)
    assert client.post(f"{page}set/", {"cost": 101, "latency": 0, "quality": 0, "explore_percent": 5}).status_code == 422
    assert client.post(f"{page}set/", {"cost": 70, "latency": 30, "quality": 0, "explore_percent": 5}).status_code == 302
    quality = f"/o/acme/models/{model.slug}/deployments/{fast.pk}/quality/"
    assert client.post(quality, {"score": "90", "basis": "support set"}).status_code == 302
    body = api_for(adam).get(f"{api}routing/").json()
    assert body["objectives"] == {"cost": 70, "latency": 30, "quality": 0, "explore_percent": 5}
    changed_at = Model.objects.get(pk=model.pk).objectives.changed_at
    assert datetime.fromisoformat(body["changed_at"]) == changed_at
    assert f"by these objectives, since {changed_at:%b %-d, %Y, %H:%M} UTC" in client.get(page).content.decode()
    assert [(row["quality"], row["calls"]) for row in body["preview"]["candidates"]] == [("90.00", 2), (None, 2)]
    [day] = body["days"]
    assert (day["calls"], day["explored"], day["judged"], day["regret_percent"]) == (5, 1, 4, 10.0)
    changed = api_for(adam).put(
        f"{api}deployments/{cheap.pk}/quality/", {"score": "70", "basis": "run 12", "source": "evaluation"}, "application/json"
    )
    assert (changed.json()["quality"], changed.json()["quality_source"]) == ("70.00", "evaluation")
    assert api_for(adam).delete(f"{api}routing/").status_code == 204
    assert api_for(adam).get(f"{api}routing/").json()["preview"] is None
    now = timezone.now()
    reading = metrics.get("routing.regret").read(Window(now - timedelta(hours=6), now + timedelta(hours=1)))
    assert (reading.value, reading.sample) == (10.0, 4)
