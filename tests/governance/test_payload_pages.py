"""Pages and API of payloads."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from governance.models import AuditEntry, CallPayload, PayloadRequest, PayloadSetting, Tenant, User
from governance.services import payloads
from tests.conftest import ClientFor, TenantClient
from tests.factories import costs as make
from tests.factories.catalog import make_project
from tests.factories.payloads import keep_payload

HOME = "/o/acme/operate/payloads/"
WHY = "Support asked"


def keep(project: str = "shop", event_id: uuid.UUID | None = None) -> CallPayload:
    return keep_payload(project, event_id=event_id, request={"text": "the <b>words</b>"})


def widen(acme: Tenant, adam: User, sam: User) -> None:
    payloads.approve(request=payloads.ask_for_rule(ref="", mode="full", days=7, actor=adam, reason=WHY), actor=sam)


def test_rule_is_widened_by_two_people_on_the_page(acme: Tenant, client_for: ClientFor, adam: User, sam: User, audra: User) -> None:
    make_project(owner=adam, slug="shop", name="Web shop")
    asker, approver = client_for(adam), client_for(sam)
    assert "figures only" in asker.get(HOME).content.decode()

    bad = asker.post(f"{HOME}rules/", {"ref": "shop", "mode": "full", "days": 7, "reason": WHY})
    asked = asker.post(f"{HOME}rules/", {"ref": "", "mode": "full", "days": 7, "reason": WHY})

    assert (bad.status_code, asked.status_code) == (422, 302)
    assert "can only be stricter" in bad.content.decode()
    pk = PayloadRequest.objects.get().pk
    assert "Somebody else puts it in force" in asker.get(HOME).content.decode()
    own = asker.post(f"{HOME}rules/{pk}/decide/", {"decision": "approve"}, follow=True).content.decode()
    assert "Nobody widens what is kept alone" in own
    assert "Put in force" in approver.get(HOME).content.decode()
    assert "Put in force" not in client_for(audra).get(HOME).content.decode()
    approver.post(f"{HOME}rules/{pk}/decide/", {"decision": "approve"})
    assert PayloadSetting.objects.get().mode == "full"
    page = approver.get(HOME).content.decode()
    assert "The organisation keeps: full texts" in page
    assert "Web shop" in page


def test_note_on_a_declined_rule_is_kept_whole_or_nothing_is_declined(acme: Tenant, client_for: ClientFor, adam: User, sam: User) -> None:
    client_for(adam).post(f"{HOME}rules/", {"mode": "full", "days": "7", "reason": WHY})
    waiting = PayloadRequest.objects.get()
    decide, typed = f"{HOME}rules/{waiting.pk}/decide/", "n" * 301

    too_long = client_for(sam).post(decide, {"decision": "reject", "note": typed})
    waiting.refresh_from_db()
    still = waiting.status
    client_for(sam).post(decide, {"decision": "reject", "note": typed[1:]})
    waiting.refresh_from_db()

    assert (too_long.status_code, still) == (422, PayloadRequest.Status.WAITING)
    assert f'value="{typed}"' in too_long.text
    assert "at most 300 characters" in too_long.text
    assert (waiting.status, waiting.note) == (PayloadRequest.Status.REJECTED, typed[1:])


def test_payload_is_opened_with_a_reason_and_erased(
    acme: Tenant, client_for: ClientFor, alice: User, adam: User, sam: User, fay: User
) -> None:
    call = make.call(acme)
    make.record(acme, call)
    request_page = f"/o/acme/requests/{call['event_id']}/"
    assert "No text of this call is kept" in client_for(fay).get(request_page).content.decode()
    widen(acme, adam, sam)
    row = keep(event_id=uuid.UUID(str(call["event_id"])))
    path, reader = f"{HOME}kept/{row.pk}/", client_for(alice)
    assert "Open it</a>" in reader.get(request_page).content.decode()
    other = client_for(fay).get(request_page).content.decode()
    assert "Full texts kept" in other
    assert "Open it</a>" not in other
    assert str(row.pk) in reader.get(f"{HOME}kept/?project=shop").content.decode()
    assert "None in this project" in reader.get(f"{HOME}kept/?project=lab").content.decode()
    assert "words" not in reader.get(path).content.decode()

    refused, opened = reader.post(f"{path}open/", {"reason": ""}), reader.post(f"{path}open/", {"reason": WHY})

    assert (refused.status_code, opened.status_code, opened["Cache-Control"]) == (422, 200, "no-store")
    assert "the &lt;b&gt;words" in opened.content.decode()
    assert AuditEntry.objects.get(event="payload.opened").actor == alice
    assert client_for(adam).get(path).status_code == 403
    assert client_for(adam).post(f"{HOME}erase/", {"reason": ""}).status_code == 422
    assert client_for(adam).post(f"{HOME}erase/", {"project": "shop", "reason": WHY}).status_code == 422  # no such project
    client_for(adam).post(f"{HOME}erase/", {"reason": WHY, "everything": "on"})
    assert reader.get(path).status_code == 404
    assert "Nothing is kept" in reader.get(f"{HOME}kept/").content.decode()


def test_list_of_payloads_takes_the_same_queries_however_long(
    acme: Tenant, client_for: ClientFor, alice: User, adam: User, sam: User
) -> None:
    widen(acme, adam, sam)
    client, counts = client_for(alice), []
    client.get(f"{HOME}kept/")
    for _ in range(2):
        keep()
        with CaptureQueriesContext(connection) as queries:
            client.get(f"{HOME}kept/")
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_payloads_over_rest(acme: Tenant, api_for: ClientFor, alice: User, adam: User, sam: User) -> None:
    make_project(owner=alice, slug="shop")
    asker, approver = api_for(adam), api_for(sam)

    def post(client: TenantClient, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
        response = client.post(f"/api/v1/{path}", body)
        return response.status_code, response.json()

    assert post(asker, "payload-rules/", mode="redacted", colour=1)[0] == 400
    status, asked = post(asker, "payload-rules/", mode="redacted", days=5, reason=WHY)
    assert (status, asked["status"], asked["asked_by"]) == (201, "waiting", adam.email)
    decide = f"payload-requests/{asked['id']}/decide/"
    assert post(asker, decide, approve=True) == (
        409,
        {"detail": "Nobody widens what is kept alone: ask somebody else.", "code": "payload_rule"},
    )
    assert post(approver, decide, approve=True)[1]["status"] == "applied"
    assert post(asker, "payload-rules/", ref="shop", mode="none", reason=WHY)[1]["status"] == "applied"
    assert asker.get("/api/v1/payload-rules/").json() == [
        {"ref": "", "own_mode": "redacted", "mode": "redacted", "days": 5},
        {"ref": "shop", "own_mode": "none", "mode": "none", "days": 5},
    ]
    assert len(asker.get("/api/v1/payload-requests/").json()["results"]) == 2
    row = keep("lab")

    listed = approver.get("/api/v1/payloads/").json()["results"]
    assert [each["event_id"] for each in listed] == [str(row.pk)]
    assert "sealed" not in listed[0]
    assert post(approver, f"payloads/{row.pk}/open/", reason=WHY)[1] == {
        "request": {"text": "the <b>words</b>"},
        "reply": None,
        "is_cut": False,
    }
    assert post(approver, f"payloads/{uuid.uuid4()}/open/", reason=WHY)[0] == 404
    assert post(asker, f"payloads/{row.pk}/open/", reason=WHY)[0] == 403
    assert post(asker, "payloads/erase/", project="lab", reason=WHY) == (200, {"erased": 1})
