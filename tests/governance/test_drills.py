from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tenants.utils import schema_context
from pytest_django import DjangoAssertNumQueries

from governance import config, drill_rules, drill_selectors, metrics, tasks
from governance import drills as registry
from governance.errors import DrillSubjectError, DrillUnderWayError
from governance.metrics import Window
from governance.models import AuditEntry, Drill, Effect, Notice, Tenant, User
from governance.services import drills, effects
from tests.conftest import ClientFor
from tests.factories import rollouts as make
from tests.factories.catalog import make_project

URL = "/o/acme/operate/drills/"


def arrived(effect: Effect | None, seconds: float, *, planes: int = 2) -> None:
    """Every process has it, so long after the decision."""
    assert effect is not None
    Effect.objects.filter(pk=effect.pk).update(planes=planes, effective_at=effect.decided_at + timedelta(seconds=seconds))


def run_through(drill: Drill, *, away: float, back: float, planes: int = 2) -> Drill:
    arrived(drill.away, away, planes=planes)
    with schema_context("public"):
        drills.advance()
        drill.refresh_from_db()
        arrived(drill.back, back, planes=planes)
        drills.advance()
    drill.refresh_from_db()
    return drill


def keep(tenant: Tenant, actor: User, number: int) -> None:
    """As many drills that have passed."""
    now = timezone.now()
    ways = [
        Effect(tenant=tenant, scope="tenant", what="Drill", is_drill=True, actor=actor, decided_at=now, effective_at=now, planes=1)
        for _ in range(2 * number)
    ]
    made = Effect.objects.bulk_create(ways)
    facts = {
        "tenant": tenant,
        "kind": "pillar",
        "reference": "tools",
        "title": "all tools",
        "rto_s": 900,
        "actor": actor,
        "verdict": "pass",
    }
    Drill.objects.bulk_create(Drill(**facts, started_at=now, ended_at=now, away=made[2 * n], back=made[2 * n + 1]) for n in range(number))


def test_drill_goes_away_and_back_and_is_judged_by_both(acme: Tenant, adam: User) -> None:
    drill = drills.start(tenant=acme, kind="pillar", reference="models", actor=adam)
    with pytest.raises(DrillUnderWayError):
        drills.start(tenant=acme, kind="pillar", reference="models", actor=adam)
    with schema_context("public"):
        assert drills.advance() == 1  # nothing is published yet
    config.publish(acme.schema_name)
    drill = run_through(drill, away=0.5, back=901)

    assert (drill.rto_s, drill.verdict, drill.ended_at is not None) == (900, "fail", True)
    assert [effect.what for effect in Effect.objects.order_by("pk")] == ["Drill, away: all models", "Drill, back: all models"]
    assert all(effect.is_drill for effect in Effect.objects.all())
    assert [entry.event for entry in AuditEntry.objects.filter(event__startswith="drill.").order_by("sequence")] == [
        "drill.run",
        "drill.run",
        "drill.ended",
    ]
    with pytest.raises(DrillSubjectError):
        drills.start(tenant=acme, kind="pillar", reference="walls", actor=adam)


def test_drill_that_arrives_nowhere_has_not_passed(acme: Tenant, adam: User) -> None:
    lost = drills.start(tenant=acme, kind="pillar", reference="models", actor=adam)
    nobody = drills.start(tenant=acme, kind="pillar", reference="tools", actor=adam)
    Effect.objects.filter(pk=lost.away_id).update(given_up=True, planes=1)
    run_through(nobody, away=1, back=1, planes=0)
    lost.refresh_from_db()
    nobody.refresh_from_db()

    assert (lost.verdict, lost.back, nobody.verdict) == ("fail", None, "no_data")
    now = timezone.now()
    kept = metrics.get("drills.within_rto").read(Window(now - timedelta(hours=1), now))
    assert (kept.value, kept.sample) == (0.0, 2)
    assert metrics.get("drills.within_rto").read(Window(now - timedelta(hours=2), now - timedelta(hours=1))).value is None


def test_phases_projects_and_pillars_can_be_rehearsed_by_their_own_promise(acme: Tenant, adam: User, rita: User) -> None:
    make_project(owner=adam, slug="shop", name="Shop")
    with make.readings(), make.shipped_plan():
        make.make_rollout(owner=rita)
    found = {subject.key: subject for subject in registry.subjects()}

    assert {key: subject.rto_minutes for key, subject in found.items()} == {
        ("pillar", "models"): 15, ("pillar", "tools"): 15, ("project", "shop"): 5, ("phase", "small/pilot"): 60,
    }  # fmt: skip
    drill = drills.start(tenant=acme, kind="phase", reference="small/pilot", actor=rita)
    pillar = drills.start(tenant=acme, kind="pillar", reference="models", actor=rita)
    with schema_context("public"):
        effects.measure_waiting(at=timezone.now() + timedelta(minutes=59))
    assert (drill.away.patience, Effect.objects.get(pk=drill.away_id).is_waiting) == (timedelta(hours=1), True)
    assert Effect.objects.get(pk=pillar.away_id).given_up  # after the slowest promise of the programme
    assert run_through(drill, away=2, back=3599).verdict == "pass"
    assert drill.back is not None
    assert drill.back.patience == timedelta(hours=1)
    assert drills.start(tenant=acme, kind="project", reference="shop", actor=rita).away.scope == "project"


def test_overdue_drills_are_told_once_a_week_and_counted_for_gates(acme: Tenant, adam: User) -> None:
    run_through(drills.start(tenant=acme, kind="pillar", reference="models", actor=adam), away=1, back=1)
    later = timezone.now() + timedelta(days=91)
    rows = drill_selectors.subject_rows(acme, at=later)
    failed = drills.start(tenant=acme, kind="pillar", reference="models", actor=adam, at=later - timedelta(days=1))
    run_through(failed, away=1, back=1e6)

    assert [row.is_overdue for row in drill_selectors.subject_rows(acme, at=timezone.now())] == [False, False]
    assert [row.is_overdue for row in rows] == [True, True]
    assert (
        drills.remind(tenant=acme, at=later) == drills.remind(tenant=acme, at=later + timedelta(hours=1)) == 2
    )  # the failed one puts nothing off
    assert Notice.objects.get(topic="drill.overdue").title == "2 drills are overdue"
    reading = metrics.get("drills.overdue").read(Window(later - timedelta(days=7), later))
    assert (reading.value, reading.sample) == (2.0, 2)
    assert drill_rules.worst(["pass", "waiting", "no_data"]) == "no_data"


def test_pages_and_api(
    acme: Tenant,
    adam: User,
    sam: User,
    charlie: User,
    client_for: ClientFor,
    api_for: ClientFor,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    client, api = client_for(sam), api_for(sam)
    empty = client.get(URL).content.decode()
    client.post(f"{URL}start/", {"kind": "pillar", "reference": "models"})
    again = client.post(f"{URL}start/", {"kind": "pillar", "reference": "models"}, follow=True).content.decode()
    under_way = client.get(URL, headers={"HX-Request": "true"}).content.decode()
    made = api.post("/api/v1/drills/", {"kind": "pillar", "reference": "tools"})
    unknown = api.post("/api/v1/drills/", {"kind": "phase", "reference": "x"})
    keep(acme, sam, 26)

    assert "No drill yet" in empty
    assert "is under way" in again
    assert 'hx-trigger="every 1s"' in under_way
    assert (made.status_code, made.json()["verdict"], unknown.status_code, unknown.json()["code"]) == (
        201,
        "waiting",
        404,
        "drill_subject_not_found",
    )
    assert [each["reference"] for each in api.get("/api/v1/drills/subjects/").json()] == ["models", "tools"]
    with CaptureQueriesContext(connection) as few:
        api.get("/api/v1/drills/subjects/")
    for project in ("one", "two", "three"):
        make_project(owner=sam, slug=project, name=project)
        drills.start(tenant=acme, kind="project", reference=project, actor=sam)
    with CaptureQueriesContext(connection) as many:
        assert len(api.get("/api/v1/drills/subjects/").json()) == 5
    assert len(many) <= len(few)
    assert len(api.get("/api/v1/drills/").json()["results"]) > 25
    assert client_for(charlie).get(URL).status_code == 404
    with django_assert_max_num_queries(18):
        page = client.get(URL).content.decode()
    assert "Next" in page
    assert "Nothing matches" in client.get(f"{URL}?q=zzz").content.decode()
    filtered = client.get(f"{URL}?q=two", headers={"HX-Request": "true", "HX-Target": "subjects"}).content.decode()
    assert ("Run a drill of two" in filtered, "Run a drill of one" in filtered, 'id="history"' in filtered) == (True, False, False)


def test_worker_brings_a_drill_to_its_end(acme: Tenant, adam: User) -> None:
    drill = drills.start(tenant=acme, kind="pillar", reference="models", actor=adam)
    for _ in range(2):
        config.publish(acme.schema_name)
        tasks.measure_slow_effects()
    tasks.measure_slow_effects()
    drill.refresh_from_db()
    tasks.run_drill(schema_name=acme.schema_name)

    assert (drill.verdict, drill.away.planes, drill.back is not None) == ("no_data", 0, True)  # there is no process here
    assert effects.measure_waiting() == 1
