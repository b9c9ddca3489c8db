"""Views of cost pages under a name: whose they are, who else uses them, and what the page opens with."""

from __future__ import annotations

import pytest

from costs import saved_views
from costs.errors import SavedViewError, SavedViewNameTakenError
from costs.models import SavedView
from costs.services import saved_views as services
from governance.models import AuditEntry, Tenant, User
from tests.conftest import ClientFor

SPEND = "/o/acme/operate/costs/"


def test_view_is_kept_found_again_shared_and_opened_first(acme: Tenant, client_for: ClientFor, fay: User, alice: User) -> None:
    browser, colleague = client_for(fay), client_for(alice)
    body = {"name": " Agents  by week ", "is_shared": "on", "is_default": "on"}

    kept = browser.post(
        f"{SPEND}views/new/", {**body, "parameters": "group=agent&period=7d&from=2026-01-01&project=checkout&cursor=x&nonsense=1"}
    )

    view = SavedView.objects.get()
    assert (view.name, view.parameters) == ("Agents by week", {"group": "agent", "period": "7d", "project": "checkout"})
    assert kept["Location"] == f"{SPEND}?{saved_views.query(view)}"
    assert browser.get(SPEND)["Location"] == kept["Location"]
    page = browser.get(kept["Location"])
    assert (page.context["group"], page.context["shortcut"], page.context["tabs"][0][2]) == ("agent", "7d", True)
    assert browser.get(f"{SPEND}?period=this-month").context["is_plain"]
    theirs = colleague.get(SPEND)
    assert theirs.status_code == 200
    assert "Agents by week" in theirs.content.decode()
    assert not theirs.context["own_views"]
    assert AuditEntry.objects.filter(event="saved_view.created", target_name="Agents by week").exists()


def test_only_its_owner_changes_or_deletes_a_view(acme: Tenant, client_for: ClientFor, fay: User, alice: User) -> None:
    view = services.save_view(page="spend", name="Mine", parameters={"group": "key"}, owner=fay)
    first = services.save_view(page="spend", name="First", parameters={}, owner=fay, is_default=True)

    refused = [client_for(alice).post(f"{SPEND}views/{view.pk}/{act}/", {"name": "Yours"}).status_code for act in ("edit", "delete")]
    changed = client_for(fay).post(f"{SPEND}views/{view.pk}/edit/", {"name": "Renamed", "is_default": "on"})
    hidden = client_for(alice).get(SPEND)
    deleted = client_for(fay).post(f"{SPEND}views/{first.pk}/delete/")

    assert refused == [404, 404]
    assert changed["Location"] == f"{SPEND}?group=key"
    assert "Renamed" not in hidden.content.decode()
    assert deleted.status_code == 302
    view.refresh_from_db()
    assert list(SavedView.objects.values_list("name", "is_default")) == [("Renamed", True)]
    assert list(AuditEntry.objects.filter(event__startswith="saved_view.").order_by("sequence").values_list("event", flat=True)) == [
        "saved_view.created",
        "saved_view.created",
        "saved_view.changed",
        "saved_view.deleted",
    ]


def test_own_views_come_first_and_are_deleted_once(acme: Tenant, fay: User, alice: User) -> None:
    services.save_view(page="spend", name="Agents", parameters={}, owner=alice, is_shared=True)
    mine = services.save_view(page="spend", name="My team", parameters={}, owner=fay)

    assert [view.name for view in saved_views.own_first(fay, "spend")] == ["My team", "Agents"]
    services.delete_view(view=SavedView.objects.get(pk=mine.pk))
    services.delete_view(view=mine)

    assert AuditEntry.objects.filter(event="saved_view.deleted").count() == 1


def test_bad_views_are_refused_and_say_why(acme: Tenant, client_for: ClientFor, fay: User, monkeypatch: pytest.MonkeyPatch) -> None:
    services.save_view(page="spend", name="Mine", parameters={"group": "key"}, owner=fay)
    browser = client_for(fay)

    nameless = browser.post(f"{SPEND}views/new/", {"name": "", "parameters": "group=key"}, follow=True)
    twice = browser.post(f"{SPEND}views/new/", {"name": "Mine", "parameters": "group=key"}, follow=True)

    assert "This field is required" in nameless.content.decode()
    assert "You have a view of this name" in twice.content.decode()
    with pytest.raises(SavedViewNameTakenError):
        services.save_view(page="spend", name="Mine", parameters={}, owner=fay)
    monkeypatch.setattr(services, "MOST_PER_PERSON", 1)
    with pytest.raises(SavedViewError, match="Delete one first"):
        services.save_view(page="spend", name="Another", parameters={}, owner=fay)
    services.save_view(page="usage", name="Mine", parameters={}, owner=User.objects.get(email="bob@example.com"))


def test_views_by_api_are_own_and_shared_ones(acme: Tenant, api_for: ClientFor, fay: User, alice: User) -> None:
    mine, theirs = api_for(fay), api_for(alice)
    body = {"name": "By key", "parameters": {"group": "key", "period": "30d"}, "is_shared": True}

    made = mine.post("/api/v1/spend/views/", body, content_type="application/json")

    pk = made.json()["id"]
    assert (made.status_code, made.json()["query"], made.json()["owner"]) == (201, "group=key&period=30d", fay.email)
    assert mine.post("/api/v1/spend/views/", body, content_type="application/json").json()["code"] == "saved_view_name_taken"
    assert [view["name"] for view in theirs.get("/api/v1/spend/views/").json()["results"]] == ["By key"]
    assert theirs.delete(f"/api/v1/spend/views/{pk}/").status_code == 404
    changed = mine.put(f"/api/v1/spend/views/{pk}/", {"name": "By key", "is_default": True}, content_type="application/json").json()
    assert (changed["is_shared"], changed["is_default"]) == (False, True)
    assert theirs.get("/api/v1/spend/views/").json()["results"] == []
    assert mine.get("/api/v1/usage/views/").status_code == 403
    assert mine.delete(f"/api/v1/spend/views/{pk}/").status_code == 204
