"""Pages and endpoints of rollback rules and incidents; rights are in the access matrix."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from governance.models import Tenant, User
from rollouts import tasks
from rollouts.models import Flag, Incident, RollbackRule
from rollouts.services import rollback
from tests.conftest import ClientFor
from tests.factories import costs
from tests.factories.rollbacks import NOW, calls, make_rule, make_watched_flag
from tests.factories.rollouts import person
from tests.rollouts.conftest import laid_out_flag

RULES = "/o/acme/release/flags/ai.chat.next-model/rules/"
FORM = {"text": "error_rate_5m > 5% for 3 of 5 min 50", "clear_percent": "10", "cooldown_minutes": "30"}


laid_out = laid_out_flag(lambda: make_watched_flag(person("rita"), person("adam")))


@pytest.fixture
def incident(acme: Tenant, flag: Flag, rita: User) -> Incident:
    calls(acme, flag, new=10)
    make_rule(flag, rita)
    rollback.tick(at=NOW)
    return Incident.objects.get()


def test_a_rule_is_linted_tried_armed_paused_and_removed(acme: Tenant, flag: Flag, client_for: ClientFor, rita: User, bob: User) -> None:
    client = client_for(rita)
    calls(acme, flag, new=1)
    assert "No rollback rule" in client.get(RULES).text

    linted = client.post(f"{RULES}lint/", FORM).text
    unread = client.post(f"{RULES}lint/", {"text": "error_rate_5m >"}).text
    tried = client.post(f"{RULES}replay/", FORM).text
    untried = client.post(f"{RULES}replay/", {**FORM, "text": "error_rate_5m >"}).text
    wrong = client.post(f"{RULES}new/", {**FORM, "text": "error_rate_5m > baseline*3"})
    made = client.post(f"{RULES}new/", FORM)
    rule = RollbackRule.objects.get()
    page = client.get(RULES).text
    client.post(f"{RULES}{rule.pk}/pause/", {"reason": "Drill"})
    paused = RollbackRule.objects.get().state
    client.post(f"{RULES}{rule.pk}/arm/", {"as": "dry"})
    dry = RollbackRule.objects.get().is_dry_run
    refused = client.post(f"{RULES}{rule.pk}/arm/", follow=True).text
    client.post(f"{RULES}{rule.pk}/remove/")

    assert "5 min 20 s" in linted
    assert "Character 16" in unread
    assert "It would not have rolled back" in tried
    assert "is expected" in untried
    assert wrong.status_code == 422
    assert "no baseline of error_rate" in wrong.text
    assert made["Location"] == RULES
    assert "1 rule switches" in page
    assert "Not judged yet" in page
    assert (paused, dry) == ("paused", True)
    assert "armed already" in refused
    assert "Nothing switches it off by itself" in client_for(bob).get(RULES.removesuffix("rules/")).text


def test_an_incident_is_seen_by_everybody_and_dealt_with_by_who_may(
    acme: Tenant, incident: Incident, client_for: ClientFor, rita: User, bob: User, alice: User
) -> None:
    path = "/o/acme/operate/incidents/"
    everywhere = client_for(bob).get("/o/acme/build/home/").text
    listed = client_for(bob).get(path).text
    seen = client_for(bob).get(f"{path}1/").text
    linked = client_for(alice).get(f"{path}1/").text
    client = client_for(rita)
    assert "Incident 1" in client.get("/o/acme/release/flags/").text  # the badge and the banner
    client.post(f"{path}1/acknowledge/")
    again = client.post(f"{path}1/acknowledge/", follow=True).text
    empty = client.post(f"{path}1/resolve/", {"resolution": ""})
    done = client.post(f"{path}1/resolve/", {"resolution": "The key had expired."}, follow=True).text

    assert "Rolled back by a rule: New ranking. Everybody gets old again." in everywhere
    assert "Failed calls 50% over 5m, limit 5%" in listed
    assert "Holds" in seen
    assert "Open those calls" not in seen
    assert "/o/acme/operate/costs/requests/?model=chat-new&amp;" in linked
    assert "No call has come since" in seen
    assert 'action="/o/acme/operate/incidents/1/resolve/"' not in seen
    assert "acknowledged before, by Rita" in again
    assert empty.status_code == 422
    assert "The key had expired." in done
    assert "Everybody gets old again." not in client_for(bob).get("/o/acme/build/home/").text
    assert "No incident is open" in client_for(bob).get(f"{path}?tab=open").text


def test_changed_evidence_is_shown_as_such(incident: Incident, client_for: ClientFor, bob: User) -> None:
    Incident.objects.update(evidence=incident.evidence.replace('"value":50.0', '"value":5.0'))

    assert "the evidence was changed after it was written" in client_for(bob).get("/o/acme/operate/incidents/1/").text


def test_list_of_incidents_costs_the_same_for_one_and_for_many(incident: Incident, client_for: ClientFor, bob: User) -> None:
    client = client_for(bob)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get("/o/acme/operate/incidents/").status_code == 200
        return len(captured)

    queries()
    one = queries()
    change = incident.change
    for number in range(2, 6):
        change.pk, change.number, change.version = None, change.number + 1, None
        change.status = "rejected"
        change.save()
        incident.pk, incident.number, incident.change = None, number, change
        incident.save()

    assert queries() == one


def test_api_of_rules(acme: Tenant, flag: Flag, api_for: ClientFor, rita: User) -> None:
    client = api_for(rita)
    base = "/api/v1/rollback-rules/"

    def post(path: str, **body: Any) -> Any:
        return client.post(path, body)

    linted = post(f"{base}lint/", flag=flag.key, text="error_rate_1h > 5%").json()
    unread = post(f"{base}lint/", flag=flag.key, text="error_rate_1h >").json()
    made = post(base, flag=flag.key, text="error_rate_5m > 5%")
    wrong = [post(base, flag=flag.key, text=text) for text in ("error_rate_5m", "error_rate_5m > baseline*2")]
    missing = post(base, flag="ai.no.flag", text="error_rate_5m > 5%")
    one = f"{base}{made.json()['id']}/"
    replayed = post(f"{base}replay/", flag=flag.key, text="error_rate_5m > 5%").json()
    unreplayed = post(f"{base}replay/", flag=flag.key, text="x")
    paused = post(f"{one}pause/", reason="Drill").json()
    armed = post(f"{one}arm/", is_dry_run=True).json()
    listed = client.get(f"{base}?flag={flag.key}").json()["results"]

    assert (linted["ok"], linted["earliest_s"]) == (True, 200.0)
    assert (unread["ok"], unread["findings"][0]["position"]) == (False, 15)
    assert (made.status_code, made.json()["state"], made.json()["armed_by"]) == (201, "armed", "rita@example.com")
    assert [(answer.status_code, answer.json()["code"]) for answer in (*wrong, missing, unreplayed)] == [(400, "rule_invalid")] * 4
    assert (replayed["steps"], replayed["unknown"], replayed["episodes"]) == (10_080, 10_080, [])
    assert (paused["state"], armed["state"], armed["is_dry_run"]) == ("paused", "armed", True)
    assert [rule["text"] for rule in listed] == ["error_rate_5m > 5%"]
    assert client.delete(one).status_code == 204
    assert client.get(one).status_code == 404


def test_api_of_incidents(incident: Incident, api_for: ClientFor, rita: User) -> None:
    client = api_for(rita)
    path = "/api/v1/incidents/1/"

    detail = client.get(path).json()
    [listed] = client.get("/api/v1/incidents/?tab=open").json()["results"]
    taken = client.post(f"{path}acknowledge/").json()
    done = client.post(f"{path}resolve/", {"resolution": "Mended."}).json()
    again = client.post(f"{path}resolve/", {"resolution": "Mended."})
    change = client.get("/api/v1/flags/ai.chat.next-model/changes/").json()["results"][0]

    assert hashlib.sha256(detail["evidence_text"].encode()).hexdigest() == detail["evidence_sha256"]
    assert detail["evidence"]["variant"] == "new"
    assert (listed["failure_class"], listed["status"], listed["change"]) == ("error", "open", detail["change"])
    assert (taken["status"], taken["acknowledged_by"]) == ("acknowledged", "rita@example.com")
    assert (done["status"], done["resolution"]) == ("resolved", "Mended.")
    assert (again.status_code, again.json()["code"]) == (409, "incident_state")
    assert change["proposed_by"] is None


def test_tasks_look_where_rules_are_armed_and_watch_the_watcher(
    acme: Tenant, globex: Tenant, flag: Flag, rita: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[str] = []
    monkeypatch.setattr(tasks.watch_rollbacks, "apply_async", lambda kwargs, **_: queued.append(kwargs["schema_name"]))
    calls(acme, flag, new=10)
    make_rule(flag, rita)

    tasks.dispatch_rollbacks()
    tasks.watch_the_watcher()
    tasks.watch_rollbacks(schema_name=acme.schema_name)
    tasks.watch_rollbacks(schema_name=globex.schema_name)

    assert queued == [acme.schema_name]
    assert RollbackRule.objects.get().step_end is not None


def test_a_broken_organisation_keeps_no_other_from_being_watched(
    acme: Tenant, globex: Tenant, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entered: list[str] = []

    def context(schema_name: str) -> Any:
        entered.append(schema_name)
        raise OperationalError("the schema is gone")

    monkeypatch.setattr(tasks, "schema_context", context)

    tasks.dispatch_rollbacks()
    tasks.watch_the_watcher()

    assert entered.count(acme.schema_name) == entered.count(globex.schema_name) == 2
    assert {"rollback.not_dispatched", "rollback.watcher_not_watched"} <= set(caplog.messages)


def test_time_to_effect_is_measured_on_the_calls(acme: Tenant, incident: Incident, client_for: ClientFor, bob: User) -> None:
    version = incident.change.version
    assert version is not None
    for after_s, number, variant in (
        (0.4, version.number - 1, "new"),
        (1.5, version.number - 1, "new"),
        (1.2, version.number, "old"),
        (9.0, version.number, "old"),
    ):
        steps = [["identify", "pass", 4, ""], ["flags", "pass", 9, f"{incident.flag.key} {number}: {variant} by switch. The flag is off."]]
        started_at = version.at + timedelta(seconds=after_s)
        costs.record(acme, costs.call(acme, tags={f"flag.{incident.flag.key}": variant}, steps=steps, started_at=started_at))

    assert "1.5 s after the decision" in client_for(bob).get("/o/acme/operate/incidents/1/").text
    assert "1.5 s after it no call" in client_for(bob).get("/o/acme/release/flags/ai.chat.next-model/").text
