"""Pages of the ground floor: everybody's answer is in the access matrix; here is what they say and do."""

import csv
import hashlib
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from governance import navigation
from governance.models import ApiToken, AuditEntry, Consent, Membership, Notice, Tenant, User
from governance.pages import encode_cursor, keyset_page
from governance.services import audit, guardrails
from tests.conftest import ClientFor
from tests.factories.catalog import make_project

PAGES = ["operate/home/", "build/home/", "release/home/", "operate/people/", "operate/consent/", "operate/audit/", "search/?q=bo", "me/"]


@pytest.mark.parametrize("path", PAGES)
def test_owner_opens_every_page(client_for: ClientFor, acme: Tenant, alice: User, path: str) -> None:
    response = client_for(alice).get(f"/o/acme/{path}")

    assert response.status_code == 200
    assert b"Acme" in response.content
    assert "HX-Request" in response["Vary"]


def test_fragment_is_the_part_alone(client_for: ClientFor, acme: Tenant, alice: User) -> None:
    response = client_for(alice).get("/o/acme/operate/people/", headers={"HX-Request": "true"})

    assert response.content.strip().startswith(b'<section class="card" id="people-table"')


def test_boosted_link_and_history_restore_get_the_page(client_for: ClientFor, acme: Tenant, alice: User) -> None:
    for header in ("HX-Boosted", "HX-History-Restore-Request"):
        response = client_for(alice).get("/o/acme/operate/people/", headers={"HX-Request": "true", header: "true"})
        assert b"<!doctype html>" in response.content


def test_start_leads_to_the_area_of_ones_role(client_for: ClientFor, acme: Tenant, bob: User, rita: User, fay: User) -> None:
    for user, area in ((bob, "build"), (rita, "release"), (fay, "operate")):
        assert client_for(user).get("/o/acme/")["Location"] == f"/o/acme/{area}/home/"


def test_sign_in_checks_the_password_and_returns_to_the_page(client_for: ClientFor, acme: Tenant, bob: User, settings: object) -> None:
    bob.set_password("a long password")
    bob.save()
    client = client_for(None)

    wrong = client.post("/login/", {"email": bob.email, "password": "wrong", "next": "/o/acme/build/home/"})
    unknown = client.post("/login/", {"email": "nobody@example.com", "password": "wrong"})
    right = client.post("/login/", {"email": bob.email.upper(), "password": "a long password", "next": "/o/acme/build/home/"})

    assert wrong.status_code == unknown.status_code == 422
    assert b"fit together" in wrong.content
    assert b"fit together" in unknown.content
    assert right["Location"] == "/o/acme/build/home/"


def test_sign_in_never_leads_elsewhere(client_for: ClientFor, bob: User) -> None:
    bob.set_password("a long password")
    bob.save()

    response = client_for(None).post("/login/", {"email": bob.email, "password": "a long password", "next": "https://evil.example/"})

    assert response["Location"] == "/"


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        (
            {"HX-Request": "true", "HX-Current-URL": "http://testserver/o/acme/operate/costs/?month=2026-10#upload"},
            "/o/acme/operate/costs/?month=2026-10",
        ),
        ({"Referer": "http://testserver/o/acme/operate/costs/"}, "/o/acme/operate/costs/"),
        ({"Referer": "https://evil.example/o/acme/"}, "/"),
        ({"HX-Request": "true", "HX-Current-URL": "//evil.example/"}, "/"),
        ({"Referer": "http://testserver//evil.example/"}, "/"),
        ({}, "/"),
    ],
)
def test_after_a_session_that_was_over_sign_in_leads_to_the_page_that_something_was_sent_from(
    client_for: ClientFor, acme: Tenant, bob: User, headers: dict[str, str], target: str
) -> None:
    bob.set_password("a long password")
    bob.save()
    client = client_for(None)

    asked = client.post("/o/acme/operate/costs/reconciliation/upload/", headers=headers)
    login = asked.headers.get("HX-Redirect") or asked.headers["Location"]
    shown = client.get(login).context["next"]
    back = client.post(login, {"email": bob.email, "password": "a long password"})

    assert login.startswith("/login/?next=")
    assert (shown, back["Location"]) == (target, target)


def test_ten_wrong_passwords_pause_the_address(client_for: ClientFor, fay: User) -> None:
    from django.core.cache import cache

    cache.clear()
    client = client_for(None)
    statuses = [client.post("/login/", {"email": fay.email, "password": "wrong"}).status_code for _ in range(11)]

    assert statuses == [422] * 10 + [429]


def test_withdrawing_consent_says_when_it_holds(client_for: ClientFor, acme: Tenant, sam: User) -> None:
    response = client_for(sam).post("/o/acme/operate/consent/tools/set/", {"state": "withdrawn", "reason": "Audit"}, follow=True)

    assert b"Below it is timed until every process has it" in response.content
    assert Consent.objects.get(feature_class="tools").state == "withdrawn"


def test_unknown_consent_state_changes_nothing(client_for: ClientFor, acme: Tenant, sam: User) -> None:
    client_for(sam).post("/o/acme/operate/consent/tools/set/", {"state": "maybe"})

    assert not Consent.objects.exists()


def test_bad_member_comes_back_with_its_errors(client_for: ClientFor, acme: Tenant, alice: User) -> None:
    response = client_for(alice).post("/o/acme/operate/people/", {"email": "unknown@example.com", "roles": ["developer"]})

    assert response.status_code == 422
    assert b"has no account yet" in response.content


def test_admin_gets_a_reason_when_a_rule_says_no(client_for: ClientFor, acme: Tenant, adam: User, bob: User) -> None:
    member = Membership.objects.get(user=bob, tenant=acme)

    response = client_for(adam).post(f"/o/acme/operate/people/{member.pk}/roles/", {"roles": ["owner"]}, follow=True)

    assert "more rights than their own" in response.content.decode()


def test_member_of_another_tenant_is_not_found(client_for: ClientFor, acme: Tenant, globex: Tenant, alice: User, charlie: User) -> None:
    member = Membership.objects.get(user=charlie, tenant=globex)

    assert client_for(alice).post(f"/o/acme/operate/people/{member.pk}/remove/").status_code == 404
    assert Membership.objects.filter(pk=member.pk).exists()


def test_token_is_shown_once(client_for: ClientFor, acme: Tenant, bob: User) -> None:
    client = client_for(bob)

    made = client.post("/o/acme/me/tokens/new/", {"name": "nightly", "lifetime_days": 30})
    again = client.get("/o/acme/me/")

    assert b"ght_" in made.content
    assert made["Cache-Control"] == "no-store"
    assert f"ght_{acme.public_id}".encode() not in again.content
    token = ApiToken.objects.get(user=bob, name="nightly")
    client.post(f"/o/acme/me/tokens/{token.public_id}/revoke/")
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_ones_own_token_cannot_be_revoked_by_others(client_for: ClientFor, acme: Tenant, bob: User, alice: User) -> None:
    from governance.services import tokens

    token, _ = tokens.create_token(user=bob, tenant=acme, name="x", actor=bob)

    assert client_for(alice).post(f"/o/acme/me/tokens/{token.public_id}/revoke/").status_code == 404


def test_audit_page_filters_and_verifies(client_for: ClientFor, acme: Tenant, audra: User, alice: User) -> None:
    audit.record("thing.made", actor=alice, target_name="Needle")
    client = client_for(audra)

    assert b"Needle" in client.get("/o/acme/operate/audit/?query=needle").content
    assert b"No entry matches" in client.get("/o/acme/operate/audit/?query=haystack").content
    assert b"entries fit" in client.post("/o/acme/operate/audit/verify/").content
    wrong = client.post("/o/acme/operate/audit/verify/", {"checkpoint": "44"}, headers={"HX-Request": "true"})
    assert wrong.status_code == 422
    assert b'value="44"' in wrong.content
    AuditEntry.objects.filter(target_name="Needle").update(actor_name="Mallory")
    assert b"chain is broken" in client.post("/o/acme/operate/audit/verify/").content


def test_audit_page_says_what_changed_and_hands_out_what_is_shown(client_for: ClientFor, acme: Tenant, audra: User, alice: User) -> None:
    made = audit.record(
        "thing.made",
        actor=alice,
        target=acme,
        target_name="=Needle",
        before={"amount": "5", "name": "a"},
        after={"amount": "7", "name": "a"},
    )
    audit.record("thing.made", actor=None, target=alice, target_name="Other")
    client = client_for(audra)
    base = "/o/acme/operate/audit/"

    assert b"No entry matches" in client.get(f"{base}?via=task").content
    assert client.get(f"{base}?via=test").status_code == client.get(f"{base}?target=nonsense").status_code == 422
    assert client.get(f"{base}?first=2026-02-02&last=2026-02-01").status_code == 422

    page = client.get(f"{base}?target={made.target_type}:{made.target_id}&event=thing.").content.decode()
    assert "<del>5</del>" in page
    assert "<ins>7</ins>" in page
    assert "Other" not in page

    rows = b"".join(client.get(f"{base}csv/?event=thing.&query=needle")).decode().splitlines()
    assert len(rows) == 2
    assert "'=Needle" in rows[1]
    [row] = csv.DictReader(rows)
    assert row["hash"] == made.hash == hashlib.sha256(row["hashed"].encode()).hexdigest()
    exported = AuditEntry.objects.get(event="audit.exported")
    assert exported.actor == audra
    assert exported.details == {"filters": {"query": "needle", "event": "thing."}}
    assert client.get(f"{base}csv/?last=never").status_code == 422


def test_audit_pages_by_key(client_for: ClientFor, acme: Tenant, audra: User, alice: User) -> None:
    for number in range(60):
        audit.record("thing.made", actor=alice, target_name=f"thing {number:03}")
    client = client_for(audra)

    first = client.get("/o/acme/operate/audit/")
    page = first.context["page"]
    second = client.get(f"/o/acme/operate/audit/?cursor={page.next_cursor}").context["page"]
    back = client.get(f"/o/acme/operate/audit/?cursor={second.previous_cursor}").context["page"]

    assert page.previous_cursor is None
    assert {row.pk for row in page.rows}.isdisjoint(row.pk for row in second.rows)
    assert [row.pk for row in back.rows] == [row.pk for row in page.rows]
    assert client.get("/o/acme/operate/audit/?cursor=broken").status_code == 200


@pytest.mark.parametrize("path", ["operate/people/", "operate/audit/", "operate/consent/"])
def test_lists_ask_a_constant_number_of_queries(client_for: ClientFor, acme: Tenant, alice: User, path: str) -> None:
    client = client_for(alice)
    client.get(f"/o/acme/{path}")

    with CaptureQueriesContext(connection) as few:
        client.get(f"/o/acme/{path}")
    for number in range(20):
        audit.record("thing.made", actor=alice)
        Membership.objects.create(
            user=User.objects.create_user(f"p{number}@example.com", name=f"P {number}"), tenant=acme, roles=["developer"]
        )
    with CaptureQueriesContext(connection) as many:
        client.get(f"/o/acme/{path}")

    assert len(many) <= len(few)


def test_operator_makes_a_tenant(client_for: ClientFor, olga: User) -> None:
    client = client_for(olga)

    bad = client.post(
        "/platform/tenants/new/",
        {
            "name": "Umbrella",
            "slug": "Not a slug!",
            "owner_email": "x@example.com",
            "kind": "customer",
            "tier": "free",
            "time_zone": "Mars",
        },
    )
    good = client.post(
        "/platform/tenants/new/",
        {
            "name": "Umbrella",
            "slug": "umbrella",
            "owner_email": "x@example.com",
            "owner_password": "a long password",
            "kind": "customer",
            "tier": "free",
            "time_zone": "Europe/Berlin",
        },
        follow=True,
    )

    assert bad.status_code == 422
    assert b"not a time zone name" in bad.content
    assert b"Umbrella is ready" in good.content
    assert Tenant.objects.get(slug="umbrella").time_zone == "Europe/Berlin"


def test_owner_account_is_not_left_behind_by_a_refused_tenant(client_for: ClientFor, olga: User) -> None:
    client_for(olga).post(
        "/platform/tenants/new/",
        {
            "name": "Acme",
            "slug": "acme",
            "owner_email": "orphan@example.com",
            "owner_password": "a long password",
            "kind": "customer",
            "tier": "free",
            "time_zone": "UTC",
        },
    )

    assert not User.objects.filter(email="orphan@example.com").exists()


def test_operator_exports_and_deletes_a_suspended_tenant(client_for: ClientFor, olga: User) -> None:
    client = client_for(olga)
    client.post("/platform/tenants/globex/suspend/", {"reason": "gone"})

    export = client.post("/platform/tenants/globex/export/")
    mistyped = client.post("/platform/tenants/globex/delete/", {"reason": "gone", "confirm": "acme"}, follow=True)
    done = client.post("/platform/tenants/globex/delete/", {"reason": "gone", "confirm": "globex"}, follow=True)

    assert export.getvalue().startswith(b"PK")
    assert "Type globex to delete" in mistyped.content.decode()
    assert "is deleted, with all of its data" in done.content.decode()
    assert "/o/globex/" not in done.content.decode()


def test_breadcrumbs_begin_with_the_item_of_the_sidebar(acme: Tenant, alice: User, rita: User, client_for: ClientFor) -> None:
    """Below a list the list is the first crumb, by its name in the sidebar, whichever pages and areas it is reached by."""
    linked = re.compile(r"""{% block crumbs %}(?:{% if [^%]*%})?<a href="{% url '([\w-]+)'""")
    titles = {item.url_name for item in navigation._items}
    templates = Path(settings.BASE_DIR, "templates")
    by_hand = [path.name for path in templates.rglob("*.html") for name in linked.findall(path.read_text()) if name in titles]
    assert by_hand == []
    client = client_for(alice)
    make_project(owner=alice, slug="shop")

    page = client.get("/o/acme/projects/shop/").content.decode()
    prompt = client.get("/o/acme/build/prompts/new/").content.decode()

    assert '<a href="/o/acme/operate/projects/">Projects</a><span>/</span><b>' in page
    assert '<a href="/o/acme/build/prompts/">Prompts</a><span>/</span><b>New</b>' in prompt
    names = ("operate-models", "build-models")
    found = [
        navigation.section_page(member, area, names)
        for member, area in ((owner_of(acme, alice), "build"), (owner_of(acme, alice), "operate"))
    ]
    assert [title for title, _ in found] == ["Models", "Models"]
    assert [url.rsplit("/o/acme/", 1)[-1].strip("/").split("/")[0] for _, url in found] == ["build", "operate"]
    assert navigation.section_page(owner_of(acme, rita), "release", ("operate-keys",)) == ("Virtual keys", "")


def owner_of(tenant: Tenant, user: User) -> Membership:
    return Membership.objects.get(tenant=tenant, user=user)


def test_guardrails_are_searched_by_name_kind_and_what_they_apply_to(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    client = client_for(alice)
    make_project(owner=alice, slug="shop")
    rails: list[dict[str, Any]] = [{"kind": "pii"}, {"kind": "topics", "terms": ["x"]}, {"kind": "pii", "scope": "project", "ref": "shop"}]
    for number, fields in enumerate(rails):
        guardrails.create_guardrail(name=f"rail-{number}", actor=alice, **fields)

    def listed(query: str) -> list[str]:
        return re.findall(
            r">(rail-\d)<", client.get(f"/o/acme/operate/guardrails/?q={query}", headers={"HX-Request": "true"}).content.decode()
        )

    assert [listed(query) for query in ("", "blocked+top", "shop", "rail-0", "Personal", "pii")] == [
        ["rail-0", "rail-1", "rail-2"],
        ["rail-1"],
        ["rail-2"],
        ["rail-0"],
        ["rail-0", "rail-2"],
        ["rail-0", "rail-2"],
    ]
    assert "No guardrail matches" in client.get("/o/acme/operate/guardrails/?q=none").content.decode()


@pytest.mark.parametrize("backwards", [False, True])
def test_page_begins_at_its_place_in_the_index(acme: Tenant, backwards: bool) -> None:
    now = timezone.now()
    Notice.objects.bulk_create(
        Notice(topic="t", severity="info", title="n", key=f"n{n}", at=now - timedelta(minutes=n // 3)) for n in range(200)
    )
    notices = list(Notice.objects.order_by("-at", "-pk"))
    cursor = encode_cursor([notices[100].at.isoformat(), notices[100].pk], backwards)

    with CaptureQueriesContext(connection) as captured:
        found = keyset_page(Notice.objects.all(), order=["-at", "-pk"], cursor=cursor, size=50)
    with connection.cursor() as database:
        database.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off")
        database.execute(f"EXPLAIN {captured[0]['sql']}")
        plan = "\n".join(line for (line,) in database.fetchall())

    assert found.rows == (notices[50:100] if backwards else notices[101:151])
    assert "notice_newest" in plan
    assert f"Index Cond: (at {'>=' if backwards else '<='} " in plan
