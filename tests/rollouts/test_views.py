from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance import home, navigation, search
from governance.models import User
from rollouts import waiting_selectors
from rollouts.models import Attestation, Criterion, Gate, Phase, Rollout, SignOff, Waiver
from rollouts.services import rollouts
from tests.conftest import ClientFor
from tests.factories import rollouts as make

BASE = "/o/acme/release/"
GATE = f"{BASE}rollouts/small/gates/1/"
PAGES = [
    "rollouts/",
    "rollouts/?view=list",
    "rollouts/?tab=mine",
    "rollouts/?tab=planned",
    "rollouts/?tab=closed",
    "rollouts/?q=zzz",
    "rollouts/small/",
    "rollouts/small/log/",
    "rollouts/small/log.md",
    "rollouts/small/gates/1/",
    "rollouts/small/gates/2/",
    "rollouts/small/gates/1/evidence/",
    "rollouts/small/gates/1/criteria/overhead/",
    "rollouts/small/gates/1/criteria/feedback/",
    "gates/",
    "plans/",
    "plans/ai-gateway-governance/",
    "plans/ai-feature-rollout/",
    "plans/gateway-adoption/",
    "plans/ai-cost-attribution/",
    "metrics/",
    "home/",
]


def test_each_page_opens_from_its_plain_url(ready_gate: Gate, client_for: ClientFor, bob: User) -> None:
    client = client_for(bob)

    assert {path: client.get(BASE + path).status_code for path in PAGES} == dict.fromkeys(PAGES, 200)


@pytest.mark.parametrize("path", ["rollouts/", "gates/", "metrics/", "home/", "rollouts/?tab=mine"])
def test_page_without_any_rollout_says_what_to_do(path: str, acme: Any, client_for: ClientFor, rita: User) -> None:
    assert client_for(rita).get(BASE + path).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "rollouts/none/",
        "rollouts/none/log/",
        "rollouts/small/gates/9/",
        "rollouts/small/gates/1/criteria/none/",
        "rollouts/small/gates/1/evidence/abc/",
        "plans/none/",
    ],
)
def test_what_does_not_exist_is_not_found(path: str, rollout: Rollout, client_for: ClientFor, rita: User) -> None:
    assert client_for(rita).get(BASE + path).status_code == 404


@pytest.mark.parametrize(
    "act",
    [
        "rollouts/new/",
        "rollouts/small/pause/",
        "rollouts/small/resume/",
        "rollouts/small/roll-back/",
        "rollouts/small/begin/",
        "rollouts/small/gates/1/reopen/",
    ],
)
def test_acts_on_rollouts_need_the_right_to_manage_them(act: str, rollout: Rollout, client_for: ClientFor, bob: User, sam: User) -> None:
    assert client_for(bob).post(BASE + act, {"reason": "x"}).status_code == 403
    assert client_for(sam).post(BASE + act, {"reason": "x"}).status_code == 403


@pytest.mark.parametrize("act", ["sign/", "criteria/feedback/attest/", "criteria/overhead/waive/"])
def test_acts_on_gates_need_the_right_to_sign(act: str, rollout: Rollout, client_for: ClientFor, bob: User, fay: User) -> None:
    assert client_for(bob).post(GATE + act).status_code == 403
    assert client_for(fay).post(GATE + act).status_code == 403


def test_release_manager_starts_a_rollout(acme: Any, client_for: ClientFor, rita: User, bob: User) -> None:
    client = client_for(rita)
    page = client.get(f"{BASE}rollouts/new/?plan=ai-feature-rollout")
    answer = client.post(
        f"{BASE}rollouts/new/",
        {"plan": "ai-gateway-governance", "name": "Gateway", "slug": "gateway", "owner": bob.pk, "starts_on": "2026-01-05"},
    )

    assert "Tier ramp" in page.content.decode()
    assert (answer.status_code, answer["Location"]) == (302, "/o/acme/release/rollouts/gateway/")
    assert Rollout.objects.get().owner == bob


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slug": "small"}, "exists"),
        ({"slug": "Not a slug"}, "lower-case"),
        ({"owner": "0"}, "valid choice"),
        ({"plan": "none"}, "valid choice"),
        ({"starts_on": "soon"}, "valid date"),
        ({"name": ""}, "required"),
    ],
)
def test_bad_rollout_comes_back_with_its_errors(
    changes: dict[str, str], message: str, rollout: Rollout, client_for: ClientFor, rita: User
) -> None:
    values = {"plan": "ai-gateway-governance", "name": "Gateway", "slug": "gateway", "owner": str(rita.pk), "starts_on": "2026-01-05"}

    answer = client_for(rita).post(f"{BASE}rollouts/new/", {**values, **changes})

    assert answer.status_code == 422
    assert message in answer.content.decode()
    assert Rollout.objects.count() == 1


def test_owner_from_another_organisation_is_refused(acme: Any, client_for: ClientFor, rita: User, charlie: User) -> None:
    answer = client_for(rita).post(
        f"{BASE}rollouts/new/",
        {"plan": "ai-gateway-governance", "name": "G", "slug": "gateway", "owner": charlie.pk, "starts_on": "2026-01-05"},
    )

    assert answer.status_code == 422
    assert not Rollout.objects.exists()


def test_gate_says_its_verdict_and_what_opens_it(gate: Gate, client_for: ClientFor, rita: User, readings: make.Board) -> None:
    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(gate)

    text = client_for(rita).get(GATE).content.decode()

    assert "Not ready: 1 criterion fails, 2 can&#x27;t be judged yet" in text
    assert "Bring Overhead to &lt; 50 ms; it is 53.8 ms" in text
    assert text.index("51.9 to 55.6") < text.index("98.1 to 99.5")
    assert "Go, 3 blockers" in text
    assert 'aria-label="51.9 to 55.6, rule &lt; 50 ms"' in text


def test_htmx_gets_only_the_gate(ready_gate: Gate, client_for: ClientFor, rita: User) -> None:
    fragment = client_for(rita).get(GATE, headers={"HX-Request": "true"})

    assert fragment.content.decode().lstrip().startswith('<div class="gh-stack" id="gate"')
    assert "HX-Request" in fragment["Vary"]


def test_two_people_sign_and_the_next_phase_begins(ready_gate: Gate, client_for: ClientFor, rita: User, adam: User) -> None:
    digest = ready_gate.latest.digest  # type: ignore[union-attr]
    page = client_for(rita).get(GATE).content.decode()
    first = client_for(rita).post(f"{GATE}sign/", {"role": "product", "decision": "go", "digest": digest, "comment": "Looks right."})
    last = client_for(adam).get(GATE).content.decode()
    second = client_for(adam).post(f"{GATE}sign/", {"role": "engineering", "decision": "go", "digest": digest})

    assert "1 more signature after yours" in page
    assert "Yours is the last signature: Everybody begins at once." in last
    assert (first.status_code, second.status_code) == (302, 302)
    assert Phase.objects.get(status="current").title == "Everybody"
    assert "Passed: all roles have said go" in client_for(rita).get(GATE).content.decode()


def test_refused_signature_comes_back_with_the_reason(gate: Gate, client_for: ClientFor, rita: User) -> None:
    make.evaluate(gate)

    go = client_for(rita).post(f"{GATE}sign/", {"role": "product", "decision": "go", "digest": "x"})
    silent = client_for(rita).post(f"{GATE}sign/", {"role": "product", "decision": "no_go", "digest": ""})
    wrong = client_for(rita).post(f"{GATE}sign/", {"role": "engineering", "decision": "go", "digest": "x"})

    assert [answer.status_code for answer in (go, silent, wrong)] == [422, 422, 422]
    assert "Go is possible once nothing blocks" in go.content.decode()
    assert "Say what is missing" in silent.content.decode()
    assert "takes the role owner or admin" in wrong.content.decode()


def test_no_go_and_reopening(ready_gate: Gate, client_for: ClientFor, rita: User, alice: User) -> None:
    client_for(rita).post(f"{GATE}sign/", {"role": "product", "decision": "no_go", "comment": "Load test missing."})
    rejected = client_for(alice).get(GATE).content.decode()
    client_for(alice).post(f"{GATE}reopen/", {"reason": "Load test done."})

    assert "No-go was said." in rejected
    assert make.gate_of(ready_gate.rollout).status == Gate.Status.OPEN
    assert SignOff.objects.get().void_reason == "reopened by Alice: Load test done."


def test_anybody_may_evaluate_now(gate: Gate, client_for: ClientFor, bob: User) -> None:
    plain = client_for(bob).post(f"{GATE}evaluate/")
    fragment = client_for(bob).post(f"{GATE}evaluate/", headers={"HX-Request": "true"})
    not_htmx = client_for(bob).post(f"{GATE}evaluate/", headers={"HX-Request": "false"})

    assert (plain.status_code, not_htmx.status_code) == (302, 302)
    assert 'id="gate"' in fragment.content.decode()
    assert gate.evaluations.count() == 3


def test_attesting_with_a_file_that_others_can_download(gate: Gate, client_for: ClientFor, sam: User, bob: User) -> None:
    page = client_for(sam).get(f"{GATE}criteria/audit/").content.decode()
    answer = client_for(sam).post(
        f"{GATE}criteria/audit/attest/",
        {
            "met": "yes",
            "summary": "0 open",
            "note": "Report attached.",
            "file": SimpleUploadedFile("report.html", b"<script>alert(1)</script>", content_type="text/html"),
        },
    )
    attestation = Attestation.objects.get()
    file = client_for(bob).get(f"{GATE}criteria/audit/attestations/{attestation.pk}/file/")

    assert "Attest for Security" in page
    assert answer.status_code == 302
    assert (file.status_code, file["Content-Type"], file.content) == (200, "application/octet-stream", b"<script>alert(1)</script>")
    assert file["Content-Disposition"] == 'attachment; filename="report.html"'


def test_bad_attestation_comes_back(gate: Gate, client_for: ClientFor, sam: User) -> None:
    answer = client_for(sam).post(f"{GATE}criteria/audit/attest/", {"met": "perhaps", "note": "", "link": "javascript:alert(1)"})

    assert answer.status_code == 422
    assert not Attestation.objects.exists()


def test_waiver_from_asking_to_its_end(ready_gate: Gate, client_for: ClientFor, rita: User, adam: User, readings: make.Board) -> None:
    readings.readings["test.overhead"] = make.BAD_OVERHEAD
    make.evaluate(ready_gate)
    until = (timezone.now() + timedelta(days=7)).date().isoformat()
    url = f"{GATE}criteria/overhead/"
    client_for(rita).post(f"{url}waive/", {"reason": "Fix on Monday.", "until": until})
    waiver = Waiver.objects.get()
    own = client_for(rita).post(f"{url}waivers/{waiver.pk}/decide/", {"decision": "approve"}, follow=True).content.decode()
    client_for(adam).post(f"{url}waivers/{waiver.pk}/decide/", {"decision": "approve"})
    in_force = client_for(adam).get(GATE).content.decode()
    client_for(rita).post(f"{url}waivers/{waiver.pk}/end/")

    assert "Nobody approves their own waiver" in own
    assert "1 of them waived" in in_force
    assert Waiver.objects.get().until <= timezone.now()


def test_evidence_is_shown_recomputed_by_hash_and_by_digest(ready_gate: Gate, client_for: ClientFor, audra: User) -> None:
    evaluation = ready_gate.latest
    assert evaluation is not None
    by_hash = client_for(audra).get(f"{GATE}evidence/{evaluation.evidence_hash}/").content.decode()
    by_digest = client_for(audra).get(f"{GATE}evidence/{evaluation.digest}/").content.decode()
    type(evaluation).objects.filter(pk=evaluation.pk).update(verdict="fail")
    tampered = client_for(audra).get(f"{GATE}evidence/{evaluation.evidence_hash}/").content.decode()

    assert "Same verdict" in by_hash
    assert "attributed" in by_hash
    assert evaluation.evidence_hash in by_digest
    assert "gate: stored fail, recomputed pass" in tampered


def test_rollout_is_paused_resumed_and_rolled_back(rollout: Rollout, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)
    client.post(f"{BASE}rollouts/small/pause/", {"reason": "Status page is red."})
    paused = client.get(f"{BASE}rollouts/small/").content.decode()
    client.post(f"{BASE}rollouts/small/resume/")
    client.post(f"{BASE}rollouts/small/roll-back/", {"reason": "Errors doubled."})
    stopped = client.get(f"{BASE}rollouts/small/").content.decode()
    client.post(f"{BASE}rollouts/small/rollbacks/{rollout.rollbacks.get().pk}/finish/")

    assert "Status page is red." in paused
    assert "Pilot is being rolled back, 0 of 60 min" in stopped
    assert rollout.rollbacks.get().finished_by == rita


def test_log_is_exported_as_markdown(rollout: Rollout, client_for: ClientFor, bob: User) -> None:
    answer = client_for(bob).get(f"{BASE}rollouts/small/log.md")

    assert answer["Content-Type"] == "text/markdown; charset=utf-8"
    assert answer.content.decode().startswith("# Rollout: Small")


def test_badge_home_and_search_know_what_waits(ready_gate: Gate, client_for: ClientFor, people: Any) -> None:
    item = next(item for _, items in navigation.items_for(people.rita, "release") for item in items if item["title"] == "Gates")
    panels = [panel.template for panel, _ in home.panels_for(people.rita, "release")]

    assert item["due"] == 1
    assert "rollouts/partials/home_waiting.html" in panels
    assert "rollouts/partials/home_waiting.html" not in [panel.template for panel, _ in home.panels_for(people.bob, "release")]
    page = client_for(people.rita.user).get(f"{BASE}home/").content.decode()
    assert "Sign for Product" in page
    assert "1 gate waits for you. 1 rollout is under way" in page
    assert [(title, [hit.title for hit in hits]) for title, hits in search.find("smal", people.bob)] == [("Rollouts", ["Small"])]


def test_what_waits_for_a_person_depends_on_role_and_state(gate: Gate, people: Any) -> None:
    make.evaluate(gate)
    asks = {name: waiting_selectors.open_gates(getattr(people, name))[0].asks for name in ("rita", "adam", "sam", "bob")}
    make.attest_all(gate, people.rita, people.sam)
    ready = {name: waiting_selectors.open_gates(getattr(people, name))[0].asks for name in ("rita", "adam", "sam", "bob")}
    make.go(gate, "product", people.rita)

    assert asks == {"rita": "Attest 1 criterion", "adam": "", "sam": "Attest 1 criterion", "bob": ""}
    assert ready == {"rita": "Sign for Product", "adam": "Sign for Engineering", "sam": "", "bob": ""}
    assert [waiting_selectors.due_count(person) for person in (people.rita, people.adam, people.sam, people.bob)] == [0, 1, 0, 0]
    assert waiting_selectors.open_gates(people.rita)[0].asks == ""


@pytest.mark.parametrize("path", ["rollouts/", "rollouts/?view=list", "gates/", "home/"])
def test_queries_do_not_grow_with_the_rollouts(path: str, rollout: Rollout, client_for: ClientFor, rita: User) -> None:
    client = client_for(rita)
    client.get(BASE + path)
    with CaptureQueriesContext(connection) as few:
        client.get(BASE + path)
    for number in range(4):
        make.evaluate(make.gate_of(make.make_rollout(owner=rita, slug=f"more-{number}")))

    with CaptureQueriesContext(connection) as many:
        client.get(BASE + path)

    assert len(many) <= len(few)


def test_gate_page_asks_a_constant_number_of_queries(acme: Any, rita: User, client_for: ClientFor, readings: make.Board, plan: Any) -> None:
    make.make_rollout(owner=rita)
    make.evaluate(make.gate_of(make.make_rollout(owner=rita, slug="large", plan_key="ai-gateway-governance")))
    client = client_for(rita)
    client.get(GATE)
    with CaptureQueriesContext(connection) as small:
        client.get(GATE)

    with CaptureQueriesContext(connection) as large:
        client.get(f"{BASE}rollouts/large/gates/1/")

    assert abs(len(large) - len(small)) <= 2


def test_paused_rollout_is_shown_as_paused_on_the_board(rollout: Rollout, client_for: ClientFor, rita: User) -> None:
    rollouts.pause_rollout(rollout=rollout, reason="x", actor=rita)

    assert "Paused" in client_for(rita).get(f"{BASE}rollouts/").content.decode()


def test_metrics_are_searched_and_told_by_their_use(ready_gate: Gate, client_for: ClientFor, bob: User) -> None:
    page = f"{BASE}metrics/"
    client = client_for(bob)

    found = client.get(page, {"q": "overhead p95"}).content.decode()
    deciding = client.get(page, {"tab": "deciding"}).content.decode()
    nothing = client.get(page, {"q": "no such thing", "tab": "planned"}).content.decode()
    with CaptureQueriesContext(connection) as one:
        client.get(page, {"q": "policy.defined"})

    criteria = Criterion.objects.filter(gate=ready_gate, kind=Criterion.Kind.METRIC).values_list("metric", flat=True)
    assert "No metric matches" in nothing
    assert all(f'id="{metric}"' in deciding for metric in criteria)
    assert 'id="policy.defined"' not in deciding + found
    assert len(one) < 40  # of the figures only those that are shown are read
