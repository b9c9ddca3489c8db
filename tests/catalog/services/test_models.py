"""Models: from draft to retired, only after a real call has worked."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from django.db import connection
from django.utils import timezone

from catalog import selectors
from catalog.errors import (
    DuplicateDeploymentError,
    InvalidValueError,
    LastDeploymentError,
    NameTakenError,
    NotCheckedError,
    WrongStatusError,
)
from catalog.hooks import Price
from catalog.models import Deployment, Model
from catalog.services import deployments as deployment_services
from catalog.services import model_lifecycle, models, reviews
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor
from tests.factories.catalog import make_model, make_provider
from tests.gateway.conftest import SandboxUpstream


def _register(alice: User, sandbox: SandboxUpstream, upstream_model: str = "sandbox-small", **facts: Any) -> Model:
    provider = make_provider(slug="sandbox", base_url=sandbox.base_url(), secret="sandbox-secret")
    return models.register_model(
        slug="small",
        facts=models.ModelFacts(**{"name": "Small", **facts}),
        provider=provider,
        upstream_model=upstream_model,
        owner=alice,
        actor=alice,
        price=Price(Decimal("0.15"), Decimal("0.60")),
    )


def test_registered_model_is_a_priced_draft(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    before = Tenant.objects.get(pk=acme.pk).config_version

    model = _register(alice, sandbox)

    assert model.status == Model.Status.DRAFT
    assert selectors.price_of(model) == Price(Decimal("0.15"), Decimal("0.60"))
    assert AuditEntry.objects.filter(event="model.registered", target_name="small").exists()
    assert Tenant.objects.get(pk=acme.pk).config_version > before


def test_slug_is_used_once(acme: Tenant, alice: User) -> None:
    make_model(owner=alice, slug="small")

    with pytest.raises(NameTakenError):
        models.register_model(
            slug="small", facts=models.ModelFacts(name="x"), provider=make_provider(), upstream_model="y", owner=alice, actor=alice
        )


def test_draft_is_not_submitted_before_a_check(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    model = _register(alice, sandbox)

    with pytest.raises(NotCheckedError):
        model_lifecycle.submit_model(model=model, actor=alice)


def test_check_makes_a_real_call_and_opens_the_way(acme: Tenant, alice: User, adam: User, sandbox: SandboxUpstream) -> None:
    model = _register(alice, sandbox)
    served_before = len(sandbox.journal())

    [(deployment, trace)] = models.check_model(model=model, actor=alice)
    model_lifecycle.submit_model(model=model, actor=alice)
    approved = model_lifecycle.approve_model(model=model, actor=adam)

    assert trace.ok
    assert [step.name for step in trace.steps] == ["resolve", "connect", "status", "first byte", "answer", "usage"]
    assert trace.input_tokens
    assert deployment.check_trace is not None
    assert deployment.check_trace["summary"] == trace.summary
    assert len(sandbox.journal()) == served_before + 1
    assert approved.is_served


def test_embedding_model_is_checked_by_an_embedding(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    model = _register(alice, sandbox, "sandbox-embed", capabilities=("embeddings",))

    [(_, trace)] = models.check_model(model=model, actor=alice)

    assert trace.ok
    assert trace.output_tokens == 0


def test_failed_check_keeps_the_model_a_draft(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    provider = make_provider(base_url=sandbox.base_url("faults/500"), secret="sandbox-secret")
    model = models.register_model(
        slug="broken", facts=models.ModelFacts(name="Broken"), provider=provider, upstream_model="sandbox-small", owner=alice, actor=alice
    )

    [(deployment, trace)] = models.check_model(model=model, actor=alice)

    assert not trace.ok
    assert deployment.check_ok is False
    with pytest.raises(NotCheckedError):
        model_lifecycle.submit_model(model=model, actor=alice)


def test_whole_way_and_back(acme: Tenant, alice: User, adam: User) -> None:
    model = make_model(owner=alice, status=Model.Status.DRAFT)
    way = [
        (alice, "submit"), (adam, "return"), (alice, "submit"), (adam, "approve"), (alice, "deprecate"), (alice, "reinstate"),
        (alice, "retire"), (alice, "redraft"),
    ]  # fmt: skip

    statuses = [model_lifecycle.ACTS[act](model=model, actor=actor, comment="Because.").status for actor, act in way]

    assert statuses == ["submitted", "draft", "submitted", "approved", "deprecated", "approved", "retired", "draft"]


@pytest.mark.parametrize(
    ("status", "act"),
    [("draft", "approve"), ("draft", "deprecate"), ("approved", "approve"), ("retired", "approve"), ("approved", "redraft")],
)
def test_act_that_does_not_fit_is_refused(acme: Tenant, alice: User, status: str, act: str) -> None:
    model = make_model(owner=alice, status=status)

    with pytest.raises(WrongStatusError):
        model_lifecycle.ACTS[act](model=model, actor=alice)


def test_served_model_keeps_a_deployment(acme: Tenant, alice: User) -> None:
    deployment = make_model(owner=alice).deployments.get()

    with pytest.raises(LastDeploymentError):
        deployment_services.remove_deployment(deployment=deployment, actor=alice)
    with pytest.raises(LastDeploymentError):
        deployment_services.change_deployment(
            deployment=deployment, actor=alice, **{**deployment_services.share_of(deployment), "is_enabled": False}
        )


def test_second_deployment_lets_the_first_go(acme: Tenant, alice: User, adam: User) -> None:
    model = make_model(owner=alice)
    first = model.deployments.get()

    second = deployment_services.add_deployment(model=model, provider=make_provider(), upstream_model="other", actor=alice, weight=3)
    Deployment.objects.filter(pk=second.pk).update(check_ok=True)
    reviews.approve(review=second.reviews.get(), actor=adam)
    deployment_services.remove_deployment(deployment=first, actor=alice)

    assert list(Deployment.objects.filter(model=model)) == [second]


def test_quota_of_a_deployment_is_published(acme: Tenant, alice: User) -> None:
    model = make_model(owner=alice, slug="m")
    one = model.deployments.get()
    deployment_services.change_deployment(
        deployment=one, actor=alice, **{**deployment_services.share_of(one), "requests_per_minute": 60, "tokens_per_minute": 90_000}
    )
    deployment_services.add_deployment(model=model, provider=make_provider(), upstream_model="other", actor=alice, tokens_per_minute=5)
    Deployment.objects.filter(model=model).update(is_enabled=True)

    first, second = compile_snapshot(acme, 1).models["m"].deployments

    assert [(limit.resource, limit.window, limit.amount, limit.fail_open) for limit in first.limits] == [
        ("requests", "minute", 60, True),
        ("tokens", "minute", 90_000, True),
    ]
    assert [limit.amount for limit in second.limits] == [5]
    assert len({limit.id for limit in (*first.limits, *second.limits)}) == 3
    entry = AuditEntry.objects.filter(event="deployment.changed").latest("sequence")
    assert entry.details["before"]["tokens_per_minute"] is None
    assert entry.details["after"]["tokens_per_minute"] == 90_000


def test_same_deployment_twice_is_refused(acme: Tenant, alice: User) -> None:
    model = make_model(owner=alice)
    present = model.deployments.get()

    with pytest.raises(DuplicateDeploymentError):
        deployment_services.add_deployment(model=model, provider=present.provider, upstream_model=present.upstream_model, actor=alice)


def test_duplicates_on_the_same_upstream_are_found(acme: Tenant, alice: User) -> None:
    provider = make_provider()
    one, other = (make_model(owner=alice, provider=provider, upstream_model="same") for _ in range(2))

    found = selectors.deployments_like(provider, "same", except_model=one)

    assert [deployment.model for deployment in found] == [other]


def test_model_must_chat_or_embed(acme: Tenant, alice: User) -> None:
    with pytest.raises(InvalidValueError):
        models.register_model(
            slug="x",
            facts=models.ModelFacts(name="x", capabilities=("vision",)),
            provider=make_provider(),
            upstream_model="y",
            owner=alice,
            actor=alice,
        )


def test_only_a_draft_is_discarded(acme: Tenant, alice: User) -> None:
    draft, served = make_model(owner=alice, status=Model.Status.DRAFT), make_model(owner=alice)

    model_lifecycle.discard_draft(model=draft, actor=alice)

    assert not Model.objects.filter(pk=draft.pk).exists()
    with pytest.raises(WrongStatusError):
        model_lifecycle.discard_draft(model=served, actor=alice)


def test_callers_of_a_deprecated_model_are_told_the_day_and_the_successor(
    acme: Tenant, adam: User, client_for: ClientFor, api_for: ClientFor
) -> None:
    model, newer = make_model(owner=adam, slug="chat-1", status="approved"), make_model(owner=adam, slug="chat-2", status="approved")
    day = timezone.now().date() + timedelta(days=30)
    with pytest.raises(WrongStatusError):
        model_lifecycle.announce_leaving(model=model, actor=adam, retires_on=day)
    model_lifecycle.deprecate_model(model=model, actor=adam)
    make_model(owner=adam, slug="vectors", status="approved", capabilities=["embeddings"])
    for on, successor, field in (
        (day, "chat-1", "successor"),
        (day, "vectors", "successor"),
        (day, "nobody", "successor"),
        (date(2020, 1, 1), "", "retires_on"),
    ):
        with pytest.raises(InvalidValueError) as refused:
            model_lifecycle.announce_leaving(model=model, actor=adam, retires_on=on, successor=successor)
        assert refused.value.field == field

    path = {"page": "/o/acme/models/chat-1/leaving/", "api": "/api/v1/models/chat-1/leaving/"}
    assert client_for(adam).post(path["page"], {"retires_on": "soon"}).status_code == 422
    assert client_for(adam).post(path["page"], {"retires_on": str(day), "successor": "chat-2"}).status_code == 302
    page = client_for(adam).get("/o/acme/models/chat-1/").content.decode()
    told = api_for(adam).put(path["api"], {"retires_on": str(day), "successor": "chat-2"}, content_type="application/json").json()

    assert 'use <a href="/o/acme/models/chat-2/">chat-2</a> instead' in page
    assert (told["retires_on"], told["successor"]) == (str(day), "chat-2")
    leaving = compile_snapshot(acme, 1).models["chat-1"].leaving
    assert leaving is not None
    assert leaving.successor == "chat-2"
    assert leaving.until == datetime.combine(day, time.min, ZoneInfo(acme.time_zone)).timestamp()
    assert AuditEntry.objects.filter(event="model.leaving_announced").count() == 1  # the second time changed nothing
    model_lifecycle.retire_model(model=newer, actor=adam)
    assert compile_snapshot(acme, 1).models["chat-1"].leaving == msgspec.structs.replace(leaving, successor="")
    model_lifecycle.reinstate_model(model=model, actor=adam)
    assert compile_snapshot(acme, 1).models["chat-1"].leaving is None

    model_lifecycle.deprecate_model(model=model, actor=adam)
    for zone in ("Etc/GMT+12", "Pacific/Kiritimati"):  # in one of the two it is not UTC's day, whenever this runs
        Tenant.objects.filter(pk=acme.pk).update(time_zone=zone)
        today = timezone.now().astimezone(ZoneInfo(zone)).date()
        with pytest.raises(InvalidValueError, match="past"):
            model_lifecycle.announce_leaving(model=model, actor=adam, retires_on=today - timedelta(days=1))
        assert model_lifecycle.announce_leaving(model=model, actor=adam, retires_on=today).retires_on == today
        model_lifecycle.announce_leaving(model=model, actor=adam, retires_on=None)  # the day that is announced already would pass


def test_processes_of_the_release_before_still_register_models(acme: Tenant, alice: User) -> None:
    make_model(owner=alice, slug="old")
    known = [one.column or "" for one in Model._meta.concrete_fields if one.name not in ("id", "slug", "default_parameters")]

    with connection.cursor() as cursor:  # they leave out what they do not know
        names = ", ".join(known)
        cursor.execute(f"INSERT INTO catalog_model (slug, {names}) SELECT 'new', {names} FROM catalog_model WHERE slug = 'old'")

    assert Model.objects.get(slug="new").default_parameters == {}
