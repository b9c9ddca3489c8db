"""Quick switches in the portal: of an organisation for itself, of the operator for everybody."""

import html
import uuid
from datetime import timedelta

import msgspec
import pytest
from django.utils import timezone
from django_tenants.utils import schema_context

from catalog.services import projects
from gateway.contract.names import PLATFORM
from gateway.contract.snapshot import decode
from gateway.publish.models import Plane, Snapshot, Taken
from gateway.publish.publisher import compile_snapshot, publish_platform
from governance import config, metrics, tasks
from governance.errors import NotConfirmedError
from governance.metrics import Window
from governance.models import AuditEntry, Effect, Notice, Switch, Tenant, User
from governance.services import effects, switches
from tests.conftest import ClientFor, TenantClient
from tests.factories.catalog import make_project


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


def test_reason_is_kept_whole_or_nothing_is_switched(acme: Tenant, client_for: ClientFor, adam: User, olga: User) -> None:
    typed = "Leak. " * 33 + "</end>"

    for person, page in ((adam, "/o/acme/operate/switches/"), (olga, "/platform/switches/")):
        answer = client_for(person).post(f"{page}models/set/", {"position": "off", "reason": typed})
        text = html.unescape(answer.content.decode())
        assert answer.status_code == 422
        assert f'value="{typed}"' in text
        assert "at most 200 characters" in text
        assert text.count(" data-open>") == 1
    assert not Switch.objects.exists()


def test_both_over_the_api(acme: Tenant, api_for: ClientFor, platform_api: TenantClient, adam: User) -> None:
    client = api_for(adam)

    assert [row["is_off"] for row in client.get("/api/v1/switches/").json()] == [False, False]
    refused = client.put("/api/v1/switches/models/", {"is_off": True})
    assert (refused.status_code, refused.json()["code"]) == (400, "not_confirmed")
    done = client.put("/api/v1/switches/models/", {"is_off": True, "reason": "A leak."}).json()
    assert (done["is_off"], done["actor"]) == (True, adam.email)
    path = "/api/v1/platform/switches/tools/"
    assert platform_api.put(path, {"is_off": True, "reason": "x"}).json()["is_off"]
    assert [row["is_off"] for row in platform_api.get("/api/v1/platform/switches/").json()] == [False, True]


def reported(tenant: str, *versions: int, seconds_ago: float = 0) -> None:
    """Planes that serve these versions of a tenant's snapshot, as they would say themselves."""
    for version in versions:
        plane, now = uuid.uuid4().hex, timezone.now()
        Plane.objects.create(
            plane=plane, host="here", started_at=now, seen_at=now - timedelta(seconds=seconds_ago), is_listening=True, open_streams=0, spool_bytes=0
        )  # fmt: skip
        Taken.objects.create(tenant=tenant, plane=plane, version=version, taken_at=now)


def test_switch_is_timed_until_the_last_plane_has_it(acme: Tenant, adam: User) -> None:
    switches.set_switch(pillar="models", is_off=True, actor=adam, reason="A leak.")
    assert effects.measure_waiting() == 1  # nothing is published yet

    config.publish(acme.schema_name)
    version = Snapshot.objects.get(tenant=acme.public_id).version
    reported(acme.public_id, version)
    reported(acme.public_id, version - 1)
    reported("globex", 1)  # was never asked for acme
    assert effects.measure_waiting() == 1

    Taken.objects.filter(tenant=acme.public_id).update(version=version, taken_at=timezone.now())
    assert effects.measure_waiting() == 0
    effect = Effect.objects.get(tenant=acme)
    assert (effect.what, effect.planes, effect.verdict) == ("Models off", 2, "pass")
    assert effect.seconds is not None
    assert 0 < effect.seconds < 30
    now = timezone.now()
    assert metrics.get("switches.time_to_effect").read(Window(now - timedelta(hours=1), now)).value == effect.seconds
    assert metrics.get("switches.time_to_effect").read(Window(now - timedelta(hours=2), now - timedelta(hours=1))).value is None


def test_silent_plane_counts_as_long_as_it_is_on_the_list(acme: Tenant, adam: User) -> None:
    switches.set_switch(pillar="models", is_off=True, actor=adam, reason="A leak.")
    config.publish(acme.schema_name)
    version = Snapshot.objects.get(tenant=acme.public_id).version
    reported(acme.public_id, version)
    reported(acme.public_id, version - 1, seconds_ago=60)  # it may have lost the database only, and still serve
    assert effects.measure_waiting() == 1

    Plane.objects.filter(seen_at__lt=timezone.now() - timedelta(seconds=30)).delete()

    assert effects.measure_waiting() == 0
    assert Effect.objects.get(tenant=acme).planes == 1


def test_what_holds_for_everybody_is_expected_of_every_plane(acme: Tenant, olga: User) -> None:
    with schema_context("public"):
        switches.set_switch(pillar="tools", is_off=True, actor=olga, reason="A bad server.")
        publish_platform()
    reported(PLATFORM, 1)
    reported(acme.public_id, 1)  # has not told that it has the platform's
    assert effects.measure_waiting() == 1

    Taken.objects.filter(tenant=acme.public_id).update(tenant=PLATFORM)

    assert effects.measure_waiting() == 0
    assert Effect.objects.get(tenant=None).planes == 2


def test_change_that_does_not_arrive_is_told_and_never_passes(acme: Tenant, adam: User) -> None:
    effects.run_drill(actor=adam)
    config.publish(acme.schema_name)
    reported(acme.public_id, 0)

    assert effects.measure_waiting(at=timezone.now() + timedelta(minutes=29)) == 1
    assert effects.measure_waiting(at=timezone.now() + timedelta(minutes=31)) == 0

    effect = Effect.objects.get(tenant=acme)
    assert (effect.verdict, effect.seconds, effect.planes) == ("fail", None, 1)
    assert Notice.objects.get(topic="switch.not_effective").title == "Drill: not in effect everywhere"


def test_drill_makes_another_version_and_changes_nothing_else(acme: Tenant, adam: User) -> None:
    before = compile_snapshot(acme, 1)

    first = effects.run_drill(actor=adam)
    second = effects.run_drill(actor=None)

    after = compile_snapshot(acme, 1)
    assert (before.drill, after.drill) == (0, second.pk)
    assert second.pk > first.pk
    assert msgspec.structs.replace(after, drill=0) == before
    assert AuditEntry.objects.filter(event="drill.run").count() == 2


def test_project_and_everybody_are_timed_too(acme: Tenant, adam: User, olga: User) -> None:
    project = make_project(owner=adam)
    projects.switch_project(project=project, enabled=False, actor=adam)
    with schema_context("public"):
        effects.run_drill(actor=olga)
        publish_platform()

        assert effects.measure_waiting() == 1  # the project's change is not published

    assert [effect.scope for effect in Effect.objects.order_by("pk")] == ["project", "global"]
    assert (Effect.objects.get(tenant=None).planes, Effect.objects.get(tenant=None).verdict) == (0, "no_data")
    assert decode(bytes(Snapshot.objects.get(tenant=PLATFORM).body)).drill == Effect.objects.get(tenant=None).pk


def test_drills_and_planes_on_pages_and_over_the_api(
    acme: Tenant, adam: User, olga: User, client_for: ClientFor, api_for: ClientFor, platform_api: TenantClient
) -> None:
    reported("nobody", 1)
    client, api = client_for(adam), api_for(adam)

    assert "Nothing timed yet" in client.get("/o/acme/operate/switches/").content.decode()
    client.post("/o/acme/operate/switches/drill/")
    page = client.get("/o/acme/operate/switches/").content.decode()
    assert "On its way" in page
    assert 'hx-trigger="every 1s"' in page
    assert api.post("/api/v1/effects/").json()["is_drill"] is True
    assert [each["verdict"] for each in api.get("/api/v1/effects/").json()] == ["waiting", "waiting"]
    client_for(olga).post("/platform/switches/drill/")
    assert platform_api.get("/api/v1/platform/effects/").json()[0]["scope"] == "global"
    assert platform_api.get("/api/v1/platform/planes/").json()[0]["is_alive"] is True
    assert "every snapshot is the newest" in client_for(olga).get("/platform/planes/").content.decode()


def test_weekly_drills_are_of_everybody_and_each_organisation(acme: Tenant) -> None:
    tasks.dispatch_drills()
    tasks.run_drill(schema_name=acme.schema_name)
    config.publish(acme.schema_name)
    with schema_context("public"):
        publish_platform()
    tasks.measure_effects()

    timed = Effect.objects.order_by("pk")
    assert [(effect.tenant, effect.actor, effect.is_drill, effect.verdict) for effect in timed] == [
        (None, None, True, "no_data"),
        (acme, None, True, "no_data"),
    ]
