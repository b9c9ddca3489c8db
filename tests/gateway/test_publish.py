"""Compiling what the catalog, consent and the price book hold into a tenant's snapshot."""

from __future__ import annotations

import time
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
from django.db import transaction
from django.utils import timezone
from django_tenants.utils import schema_context

from catalog.hooks import Price, cost_figures
from catalog.models import Deployment, Model, Project, Tool, VirtualKey
from costs.models import Budget
from costs.services import budgets, required_tags
from gateway.contract import keys
from gateway.contract import snapshot as contract
from gateway.contract.names import SNAPSHOT_CHANNEL
from gateway.plane.windows import span_of
from gateway.publish.models import Counter, Snapshot
from gateway.publish.publisher import book_spend, publish_tenant
from governance import config
from governance.models import Consent, Tenant, User
from tests.clock import allowed
from tests.factories import costs as make_costs
from tests.factories.catalog import make_key, make_model, make_project, make_provider, make_tool, make_tool_server


def published(tenant: Tenant) -> contract.TenantSnapshot:
    publish_tenant(tenant)
    row = Snapshot.objects.get(tenant=tenant.public_id)
    snapshot = contract.decode(bytes(row.body))
    assert (row.version, row.checksum) == (snapshot.version, contract.checksum(bytes(row.body)))
    return snapshot


def test_snapshot_holds_what_the_tenant_configured(acme: Tenant, alice: User, settings: Any) -> None:
    provider = make_provider(slug="house", base_url="http://127.0.0.1:9/v1", secret="s3cret", region="eu-west-1")
    make_model(
        owner=alice,
        slug="small",
        provider=provider,
        upstream_model="small-1",
        price=("0.25", "1.5"),
        max_output_tokens=100,
        context_window=8000,
    )
    project = make_project(owner=alice, slug="demo", requests_per_minute=60, monthly_budget_usd=Decimal("12.50"), cost_centre="cc1")
    key, text = make_key(owner=alice, project=project, models=["small"], requests_per_minute=5)

    snapshot = published(acme)

    assert (snapshot.tenant, snapshot.slug, snapshot.schema, snapshot.enabled) == (acme.public_id, "acme", acme.schema_name, True)
    model = snapshot.models["small"]
    assert (model.capabilities, model.input_price, model.output_price) == (("chat",), 250_000, 1_500_000)
    assert (model.max_output_tokens, model.context_window) == (100, 8000)
    [deployment] = model.deployments
    assert (deployment.provider, deployment.base_url, deployment.upstream_model, deployment.region) == (
        "house",
        provider.base_url,
        "small-1",
        "eu-west-1",
    )
    assert deployment.sealed_secret
    assert b"s3cret" not in contract.encode(snapshot)
    compiled = snapshot.keys[key.public_id]
    assert keys.matches(text, compiled.digest, settings.KEY_PEPPER)
    assert (compiled.project, compiled.models, compiled.tools, compiled.disabled) == ("demo", ("small",), None, False)
    assert [(limit.id, limit.resource, limit.amount, limit.fail_open) for limit in compiled.limits] == [
        (f"key:{key.public_id}:requests:minute", "requests", 5, True)
    ]
    assert [(limit.resource, limit.window, limit.amount, limit.fail_open) for limit in snapshot.projects["demo"].limits] == [
        ("requests", "minute", 60, True),
        ("money", "month", 12_500_000_000_000, False),
    ]


def test_only_served_models_and_enabled_deployments_are_published(acme: Tenant, alice: User) -> None:
    for status in Model.Status:
        make_model(owner=alice, slug=f"model-{status}", status=status)
    switched_off = make_model(owner=alice, slug="off")
    Deployment.objects.filter(model=switched_off).update(is_enabled=False)

    snapshot = published(acme)

    assert {"model-approved", "model-deprecated", "off"} <= set(snapshot.models)
    assert not {"model-draft", "model-submitted", "model-retired"} & set(snapshot.models)
    assert snapshot.models["off"].deployments == ()


def test_dearest_deployment_is_the_price_and_one_unpriced_makes_it_unknown(acme: Tenant, alice: User) -> None:
    cheap, dear, unknown = (make_provider(slug=slug) for slug in ("cheap", "dear", "unknown"))
    two = make_model(owner=alice, slug="two", provider=cheap, price=("1", "2"))
    Deployment.objects.create(model=two, provider=dear, upstream_model="x")
    cost_figures().set_list_price(provider="dear", model="two", price=Price(Decimal("0.00000051"), Decimal(9)), actor=alice)

    priced = published(acme).models["two"]
    Deployment.objects.create(model=two, provider=unknown, upstream_model="x")
    unpriced = published(acme).models["two"]

    assert (priced.input_price, priced.output_price) == (1_000_000, 9_000_000)
    assert (unpriced.input_price, unpriced.output_price) == (None, None)


def test_consents_say_who_decided_and_why(acme: Tenant, alice: User) -> None:
    Consent.objects.create(feature_class="assistants", state="withdrawn", reason="works council", actor=alice, set_at=timezone.now())

    consents = published(acme).consents

    assert not consents["assistants"].granted
    assert "Alice" in consents["assistants"].reason
    assert "works council" in consents["assistants"].reason
    assert consents["search"].granted
    assert not consents["training"].granted
    assert "has not switched on" in consents["training"].reason


def test_tools_carry_their_schema_and_suspended_ones_are_off(acme: Tenant, alice: User) -> None:
    server = make_tool_server(owner=alice, namespace="box")
    make_tool(server=server, name="one", annotations={"readOnlyHint": True})
    make_tool(server=server, name="two", status=Tool.Status.SUSPENDED)
    make_tool(server=server, name="three", status=Tool.Status.REMOVED)

    compiled = published(acme).tool_servers["box"]

    assert [(tool.name, tool.enabled) for tool in compiled.tools] == [("one", True), ("two", False)]
    assert compiled.tools[0].input_schema.startswith('{"properties"')
    assert compiled.tools[0].annotations == '{"readOnlyHint":true}'


def test_revoked_key_stays_as_a_disabled_one(acme: Tenant, alice: User) -> None:
    key, _ = make_key(owner=alice)
    VirtualKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())

    assert published(acme).keys[key.public_id].disabled


def test_suspended_tenant_is_published_as_disabled(acme: Tenant) -> None:
    acme.suspended_at = timezone.now()

    assert not published(acme).enabled


def test_version_grows_only_with_a_change(acme: Tenant, alice: User) -> None:
    first = published(acme)
    again = published(acme)
    make_project(owner=alice, slug="another")
    changed = published(acme)

    assert again.version == first.version
    assert changed.version == first.version + 1


def test_tenants_do_not_see_each_other(acme: Tenant, globex: Tenant, alice: User) -> None:
    make_project(owner=alice, slug="of-acme")
    publish_tenant(acme)
    with schema_context(globex.schema_name):
        publish_tenant(globex)

    snapshot = contract.decode(bytes(Snapshot.objects.get(tenant=globex.public_id).body))

    assert "of-acme" not in snapshot.projects
    assert snapshot.tenant == globex.public_id


def test_planes_are_told_after_the_commit(committed: Tenant, fresh_database: str) -> None:
    """What is published is really committed; a listener hears tenant and version."""
    with psycopg.connect(fresh_database, autocommit=True) as listener:
        listener.execute(f"listen {SNAPSHOT_CHANNEL}")
        with transaction.atomic():
            committed.time_zone = "Asia/Kolkata"
            committed.save()
            config.changed(committed)
            early = list(listener.notifies(timeout=0))
        heard = [notice.payload for notice in listener.notifies(timeout=5, stop_after=1)]

    committed.refresh_from_db()
    assert early == []
    assert heard == [f"{committed.public_id}:{Snapshot.objects.get(tenant=committed.public_id).version}"]
    assert committed.config_version == committed.published_version


def test_thousand_keys_are_compiled_quickly(acme: Tenant, alice: User, record_property: Any) -> None:
    project = make_project(owner=alice)
    template, _ = make_key(owner=alice, project=project, requests_per_minute=60)
    VirtualKey.objects.bulk_create(
        [
            VirtualKey(
                name=f"key {number}", project=project, owner=alice, digest="0" * 64, expires_at=template.expires_at, requests_per_minute=60
            )
            for number in range(1000)
        ]
    )

    began = time.perf_counter()
    snapshot = published(acme)
    took_s = time.perf_counter() - began

    assert len(snapshot.keys) >= 1001
    record_property("compile_1000_keys_s", round(took_s, 3))
    assert took_s < allowed(2.0)


# Budgets


def hold(actor: User, **fields: Any) -> Budget:
    """A budget in force."""
    given: dict[str, Any] = {"name": "House", "scope": "tenant", "amount": Decimal(100), "action": "block"}
    made = budgets.create_budget(actor=actor, **(given | fields))
    budgets.simulate_budget(budget=made, actor=actor)
    return budgets.enforce_budget(budget=made, actor=actor)


def test_budgets_that_act_are_published_with_what_they_hold_to(acme: Tenant, alice: User) -> None:
    hold(alice)
    slow = hold(alice, name="Agent", scope="agent", ref="basket-helper", period="day", action="throttle", throttle_from=70)
    hold(alice, name="Only tells", action="alert")
    off = hold(alice, name="Off")
    budgets.switch_off_budget(budget=off, actor=alice)
    budgets.raise_temporarily(budget=slow, actor=alice, extra=Decimal("0.50"), reason="launch", until=timezone.now() + timedelta(hours=1))

    found = published(acme).budgets

    assert [(limit.budget, limit.scope, limit.scope_name, limit.window, limit.throttle_from) for limit in found] == [
        ("House", "tenant", "acme", "month", None),
        ("Agent", "agent", "basket-helper", "day", 0.7),
    ]
    assert [limit.amount for limit in found] == [100 * contract.PICO_USD, 100 * contract.PICO_USD + contract.PICO_USD // 2]
    assert all(limit.resource == "money" and not limit.fail_open for limit in found)
    budgets.report_false_throttle(budget=slow, actor=alice)
    assert [limit.budget for limit in published(acme).budgets] == ["House"]


def test_budget_on_a_tag_counts_what_was_spent_under_it(acme: Tenant, alice: User) -> None:
    required_tags.create_required_tag(name="team", rule=required_tags.Rule(), actor=alice)
    make_costs.prices(alice)
    call = {"started_at": timezone.now(), "input_tokens": 1_000_000, "output_tokens": 0}
    make_costs.record(acme, make_costs.call(acme, tags={"team": "search"}, **call), make_costs.call(acme, tags={"team": "care"}, **call))
    hold(alice, scope="tag", ref="team=search")

    [limit] = published(acme).budgets

    assert (limit.scope, limit.scope_name) == ("tag", "team=search")
    assert Counter.objects.get(tenant=acme.public_id, limit_id=limit.id).granted == contract.PICO_USD


def test_budget_in_force_counts_what_was_spent_before_it(acme: Tenant, alice: User) -> None:
    make_costs.prices(alice)
    make_costs.record(acme, make_costs.call(acme, started_at=timezone.now(), input_tokens=1_000_000, output_tokens=0))
    hold(alice)

    [limit] = published(acme).budgets
    counter = Counter.objects.get(tenant=acme.public_id, limit_id=limit.id)

    window = span_of("month", timezone.now().timestamp(), ZoneInfo(acme.time_zone))
    assert counter.granted == contract.PICO_USD
    assert (counter.window_start.timestamp(), counter.window_end.timestamp()) == (window.start, window.end)
    Counter.objects.filter(limit_id=limit.id).update(granted=7 * contract.PICO_USD)  # planes hold some of it on lease
    book_spend(acme)
    assert Counter.objects.get(limit_id=limit.id).granted == 7 * contract.PICO_USD
    Counter.objects.filter(limit_id=limit.id).delete()
    book_spend(acme)
    assert Counter.objects.get(limit_id=limit.id).granted == contract.PICO_USD


def test_budget_of_an_environment_counts_what_its_projects_of_today_spent(acme: Tenant, alice: User) -> None:
    """A project takes what it has spent with it, at the gateway as on the pages."""
    make_costs.prices(alice)
    make_costs.key(alice)
    make_costs.record(acme, make_costs.call(acme, started_at=timezone.now(), input_tokens=1_000_000, output_tokens=0))
    Project.objects.create(slug="shop", name="Shop", owner=alice, environment="development")
    hold(alice, scope="environment", ref="development")

    def granted() -> tuple[str, int]:
        [limit] = published(acme).budgets
        return limit.id, sum(int(one.granted) for one in Counter.objects.filter(tenant=acme.public_id, limit_id=limit.id))

    counter, spent = granted()
    Project.objects.filter(slug="checkout").update(environment="production")
    without, left = granted()
    Project.objects.filter(slug="checkout").update(environment="development")

    assert (spent, left, without != counter) == (contract.PICO_USD, 0, True)
    assert granted() == (counter, spent)
