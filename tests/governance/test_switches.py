"""Quick switches in the portal: of an organisation for itself, of the operator for everybody."""

import pytest
from django_tenants.utils import schema_context

from gateway.contract.names import PLATFORM
from gateway.contract.snapshot import decode
from gateway.publish.models import Snapshot
from gateway.publish.publisher import compile_snapshot, publish_platform
from governance.errors import NotConfirmedError
from governance.models import AuditEntry, Notice, Switch, Tenant, User
from governance.services import switches
from tests.conftest import ClientFor, TenantClient


def test_organisation_switches_a_pillar_off_and_on(acme: Tenant, adam: User) -> None:
    with pytest.raises(NotConfirmedError, match="why"):
        switches.set_switch(pillar="models", is_off=True, actor=adam)

    switches.set_switch(pillar="models", is_off=True, actor=adam, reason="A leak.")
    switches.set_switch(pillar="models", is_off=True, actor=adam, reason="Again.")

    assert compile_snapshot(acme, 1).switched_off == {"models": "Acme has switched off all models: A leak."}
    assert Notice.objects.get(topic="switch.off").text == "A leak."
    switches.set_switch(pillar="models", is_off=False, actor=adam)
    assert compile_snapshot(acme, 1).switched_off == {}
    assert list(AuditEntry.objects.filter(event__startswith="switch.").order_by("sequence").values_list("event", flat=True)) == [
        "switch.off",
        "switch.on",
    ]


def test_operator_switches_it_off_for_everybody(db: None, olga: User) -> None:
    publish_platform()
    assert not Snapshot.objects.filter(tenant=PLATFORM).exists()  # nothing was ever switched off

    with schema_context("public"):
        switches.set_switch(pillar="tools", is_off=True, actor=olga, reason="A bad server.")
        publish_platform()
        publish_platform()

    stored = Snapshot.objects.get(tenant=PLATFORM)
    assert stored.version == 1
    assert decode(bytes(stored.body)).switched_off == {"tools": "The operator of the platform has switched off all tools: A bad server."}
    with schema_context("public"):
        switches.set_switch(pillar="tools", is_off=False, actor=olga)
        publish_platform()
    assert decode(bytes(Snapshot.objects.get(tenant=PLATFORM).body)).switched_off == {}


def test_pages_of_both(acme: Tenant, client_for: ClientFor, adam: User, olga: User) -> None:
    client = client_for(adam)

    assert client.post("/o/acme/operate/switches/models/set/", {"position": "off"}, follow=True).content.decode().count("Say why") == 1
    client.post("/o/acme/operate/switches/models/set/", {"position": "off", "reason": "A leak."})
    assert "A leak." in client.get("/o/acme/operate/switches/").content.decode()
    assert client.post("/o/acme/operate/switches/feelings/set/", {"position": "off", "reason": "x"}).status_code == 404
    client.post("/o/acme/operate/switches/models/set/", {"position": "on"})
    assert not Switch.objects.get().is_off

    operator = client_for(olga)
    operator.post("/platform/switches/tools/set/", {"position": "off", "reason": "A bad server."})
    assert "A bad server." in operator.get("/platform/switches/").content.decode()
    assert client.get("/platform/switches/").status_code == 404


def test_both_over_the_api(acme: Tenant, api_for: ClientFor, platform_api: TenantClient, adam: User) -> None:
    client = api_for(adam)

    assert [row["is_off"] for row in client.get("/api/v1/switches/").json()] == [False, False]
    refused = client.put("/api/v1/switches/models/", {"is_off": True}, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (400, "not_confirmed")
    done = client.put("/api/v1/switches/models/", {"is_off": True, "reason": "A leak."}, content_type="application/json").json()
    assert (done["is_off"], done["actor"]) == (True, adam.email)
    path = "/api/v1/platform/switches/tools/"
    assert platform_api.put(path, {"is_off": True, "reason": "x"}, content_type="application/json").json()["is_off"]
    assert [row["is_off"] for row in platform_api.get("/api/v1/platform/switches/").json()] == [False, True]
