"""Pages of the catalog: who gets them, what they say, what bad input answers, page against fragment."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.messages import get_messages

from catalog import panels, selectors
from catalog.hooks import Price, Usage
from catalog.models import Model, ModelReview, Project, Provider, Tool, ToolServer, VirtualKey
from catalog.services import keys as key_services
from catalog.services import models
from governance.models import Tenant, User
from governance.pages import keyset_page
from tests.conftest import ClientFor
from tests.factories.catalog import make_key, make_model, make_project, make_provider, make_tool, make_tool_server
from tests.gateway.conftest import SandboxUpstream

HTMX = {"HX-Request": "true"}
EMPTY_PAGES = {
    "operate/providers/": "No providers yet",
    "operate/models/": "No models yet",
    "operate/tools/": "No tools yet",
    "operate/keys/": "No keys yet",
    "operate/projects/": "No projects yet",
    "build/models/": "No models yet",
    "build/playground/": "No chat model yet",
    "build/keys/": "No keys yet",
    "build/tools/": "No tools yet",
    "build/first-call/": "No project yet",
    "build/keys/new/": "No project to make a key for",
}


def text_of(response: Any) -> str:
    return str(response.content.decode())


@pytest.fixture
def furnished(acme: Tenant, alice: User, bob: User) -> dict[str, str]:
    """One of everything; the addresses of the pages that show them."""
    provider = make_provider(slug="sandbox", name="Sandbox", region="eu-west")
    make_model(owner=alice, slug="small", provider=provider, price=("0.15", "0.60"), context_window=128_000)
    make_model(owner=alice, slug="sketch", status=Model.Status.DRAFT)
    project = make_project(owner=alice, slug="checkout", name="Checkout")
    key, _ = make_key(owner=bob, project=project, name="bob's key")
    tool = make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search")
    return {
        "provider": f"operate/providers/{provider.slug}/",
        "model": "models/small/",
        "draft": "models/sketch/",
        "project": "projects/checkout/",
        "key": f"keys/{key.public_id}/",
        "server": "tools/handbook/",
        "tool": f"tools/handbook/{tool.name}/",
    }


@pytest.mark.parametrize(("path", "words"), EMPTY_PAGES.items(), ids=EMPTY_PAGES)
def test_empty_page_says_what_is_missing(acme: Tenant, alice: User, client_for: ClientFor, path: str, words: str) -> None:
    response = client_for(alice).get(f"/o/acme/{path}")

    assert response.status_code == 200
    assert words in text_of(response)


@pytest.mark.parametrize(
    "path", ["operate/models/", "build/models/", "operate/providers/", "operate/projects/", "build/tools/", "operate/tools/"]
)
def test_filter_that_matches_nothing_is_told_apart(furnished: dict[str, str], alice: User, client_for: ClientFor, path: str) -> None:
    response = client_for(alice).get(f"/o/acme/{path}?q=no-such-thing")

    assert "matches" in text_of(response)
    assert "yet</b>" not in text_of(response)


@pytest.mark.parametrize(
    ("path", "partial"),
    [
        ("operate/providers/", "provider-table"),
        ("operate/models/", "model-table"),
        ("build/models/", "model-table"),
        ("operate/tools/", "tool-table"),
        ("build/keys/", "key-table"),
        ("operate/projects/", "project-table"),
    ],
)
def test_fragment_is_only_the_list(furnished: dict[str, str], alice: User, client_for: ClientFor, path: str, partial: str) -> None:
    client = client_for(alice)

    page, fragment = client.get(f"/o/acme/{path}"), client.get(f"/o/acme/{path}", headers=HTMX)

    assert "<html" in text_of(page)
    assert "<html" not in text_of(fragment)
    assert f'id="{partial}"' in text_of(fragment)
    assert "HX-Request" in fragment["Vary"]


def test_pages_of_objects_open_for_members(furnished: dict[str, str], alice: User, bob: User, client_for: ClientFor) -> None:
    admin, developer = client_for(alice), client_for(bob)

    assert [admin.get(f"/o/acme/{path}").status_code for path in furnished.values()] == [200] * len(furnished)
    seen = {name: developer.get(f"/o/acme/{path}").status_code for name, path in furnished.items()}
    assert seen == {"provider": 403, "model": 200, "draft": 404, "project": 200, "key": 200, "server": 200, "tool": 200}


def test_somebody_elses_key_is_like_a_missing_one(furnished: dict[str, str], rita: User, sam: User, client_for: ClientFor) -> None:
    client = client_for(rita)

    theirs, missing = client.get(f"/o/acme/{furnished['key']}"), client.get("/o/acme/keys/nothing1/")

    assert theirs.status_code == missing.status_code == 404
    assert client_for(sam).get(f"/o/acme/{furnished['key']}").status_code == 200


def test_another_tenant_has_none_of_it(furnished: dict[str, str], charlie: User, client_for: ClientFor) -> None:
    client = client_for(charlie)

    statuses = {client.get(f"/o/{tenant}/{path}").status_code for tenant in ("acme", "globex") for name, path in furnished.items()}

    assert statuses == {404}


# Providers


def test_provider_is_added_by_form(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    body = {"name": "OpenAI", "slug": "openai", "kind": "openai", "base_url": "https://api.openai.com/v1", "secret": "sk-secret"}

    response = client_for(alice).post("/o/acme/operate/providers/new/", body, follow=True)

    assert Provider.objects.get().open_secret() == "sk-secret"
    assert "sk-secret" not in text_of(response)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("base_url", "http://10.0.0.7/v1", "private address"),
        ("base_url", "not a url", "valid URL"),
        ("slug", "No Spaces", "slug"),
        ("name", "", "required"),
    ],
)
def test_bad_provider_comes_back_with_422(acme: Tenant, alice: User, client_for: ClientFor, field: str, value: str, words: str) -> None:
    body = {"name": "X", "slug": "x", "kind": "openai", "base_url": "https://example.com/v1", field: value}

    response = client_for(alice).post("/o/acme/operate/providers/new/", body, headers=HTMX)

    assert response.status_code == 422
    assert words in text_of(response)
    assert 'id="provider-form"' in text_of(response)
    assert not Provider.objects.exists()


def test_check_shows_the_trace(acme: Tenant, alice: User, client_for: ClientFor, sandbox: SandboxUpstream) -> None:
    make_provider(slug="sandbox", base_url=sandbox.base_url(), secret="sandbox-secret")

    response = client_for(alice).post("/o/acme/operate/providers/sandbox/check/", headers=HTMX)

    assert "Answered in" in text_of(response)
    assert "sandbox-small" in text_of(response)


def test_changed_url_says_that_the_key_is_gone(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_provider(slug="one", base_url="https://one.example/v1", secret="s")

    response = client_for(alice).post("/o/acme/operate/providers/one/edit/", {"name": "One", "base_url": "https://two.example/v1"})

    assert "give a new one" in str(next(iter(get_messages(response.wsgi_request))))


# The wizard


def test_wizard_goes_from_nothing_to_a_served_model(
    acme: Tenant, alice: User, sam: User, fay: User, client_for: ClientFor, sandbox: SandboxUpstream
) -> None:
    client, url = client_for(alice), "/o/acme/operate/models/new/"

    first = client.post(
        f"{url}?step=1",
        {"name": "Sandbox", "slug": "sandbox", "kind": "openai_compatible", "base_url": sandbox.base_url(), "secret": "sandbox-secret"},
    )
    assert first["Location"].endswith("?provider=sandbox&step=2")
    names = client.post("/o/acme/operate/providers/sandbox/names/", headers=HTMX)
    assert '<option value="sandbox-small">' in text_of(names)
    second = client.post(first["Location"], {"upstream_model": "sandbox-small", "slug": "small", "capabilities": ["chat"]})
    assert second["Location"].endswith("?draft=small&step=3")
    third = client.post(
        second["Location"],
        {
            "input_per_million": "0.15",
            "output_per_million": "0.60",
            "max_output_tokens": "1000",
            "data_sensitivity": "internal",
            "feature_class": "assistants",
            "environment": "production",
        },
    )
    assert third["Location"].endswith("?draft=small&step=4")
    early = client.post(third["Location"], {"act": "submit"})
    assert early.status_code == 422
    assert "passed its live check" in text_of(early)
    checked = client.post(third["Location"], {"act": "check"}, follow=True)
    assert "tokens in" in text_of(checked)
    submitted = text_of(client.post(third["Location"], {"act": "submit"}, follow=True))

    assert "is submitted. Somebody else approves it." in submitted
    assert "Somebody else approves what you submitted" in submitted
    assert 'value="approve"' not in submitted
    assert "small" in text_of(client.get("/o/acme/operate/models/approvals/"))
    review = ModelReview.objects.get()
    decide = f"/o/acme/operate/models/approvals/{review.pk}/decide/"
    approver = client_for(sam)
    assert "waits for approval" in text_of(approver.get("/o/acme/operate/home/"))
    badge = 'title="Waiting for you">1<'
    assert badge in text_of(approver.get("/o/acme/operate/audit/"))
    assert badge not in submitted  # not for who asked
    assert review.digest in text_of(approver.get("/o/acme/models/small/?tab=approval"))
    assert "Say why" in text_of(approver.post(decide, {"decision": "return"}, follow=True))
    done = text_of(approver.post(decide, {"decision": "approve", "comment": "Seen."}, follow=True))
    assert "approved. The gateway has it" in done
    assert "A second person" in done
    assert Model.objects.get(slug="small").status == Model.Status.APPROVED
    assert "Nothing waits" in text_of(client_for(fay).get("/o/acme/operate/models/approvals/"))


def test_wider_change_waits_and_is_asked_again_when_it_went_stale(acme: Tenant, alice: User, sam: User, client_for: ClientFor) -> None:
    model = make_model(owner=alice, slug="small", price=("1", "2"))
    client, page = client_for(alice), "/o/acme/models/small/"
    facts = {
        "name": "Small",
        "capabilities": ["chat"],
        "max_output_tokens": "4096",
        "feature_class": "assistants",
        "environment": "production",
    }

    held = text_of(client.post(f"{page}edit/", {**facts, "data_sensitivity": "restricted"}, follow=True))
    added = text_of(
        client.post(
            f"{page}deployments/add/", {"provider": make_provider().pk, "upstream_model": "x", "weight": "1", "priority": "0"}, follow=True
        )
    )

    assert "waits for approval: it makes a served model wider" in held
    assert "restricted" in held
    assert "off: waits for approval" in added
    model.refresh_from_db()
    assert model.data_sensitivity == "internal"
    review = ModelReview.objects.get(kind="facts")
    models.set_price(model=model, provider=model.deployments.earliest("pk").provider, price=Price(Decimal(3), Decimal(4)), actor=alice)
    stale = client_for(sam).post(f"/o/acme/operate/models/approvals/{review.pk}/decide/", {"decision": "approve"}, follow=True)
    assert "changed since approval was asked for" in text_of(stale)
    assert "Ask again, as it is now" in text_of(client.get(f"{page}?tab=approval"))
    client.post(f"/o/acme/operate/models/approvals/{review.pk}/again/")
    fresh = ModelReview.objects.get(kind="facts", status="waiting")
    client_for(sam).post(f"/o/acme/operate/models/approvals/{fresh.pk}/decide/", {"decision": "approve"})
    model.refresh_from_db()
    assert model.data_sensitivity == "restricted"
    assert ModelReview.objects.get(pk=review.pk).status == "withdrawn"


def test_draft_is_continued_where_it_was_left(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="sketch", status=Model.Status.DRAFT, check_ok=None)
    client = client_for(alice)

    pages = [text_of(client.get(f"/o/acme/operate/models/new/?draft=sketch{step}")) for step in ("", "&step=3", "&step=2", "&step=1")]

    assert "Live check" in pages[0]
    assert all("sketch" in page for page in pages)


def test_wizard_keeps_what_was_typed_when_a_price_is_missing(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="sketch", status=Model.Status.DRAFT)

    response = client_for(alice).post(
        "/o/acme/operate/models/new/?draft=sketch&step=3",
        {
            "input_per_million": "0.15",
            "output_per_million": "",
            "max_output_tokens": "77",
            "data_sensitivity": "internal",
            "feature_class": "assistants",
            "environment": "production",
        },
    )

    assert response.status_code == 422
    assert "Give both prices" in text_of(response)
    assert 'value="77"' in text_of(response)


def test_duplicate_upstream_is_said(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    provider = make_provider()
    make_model(owner=alice, slug="present", provider=provider, upstream_model="same")
    make_model(owner=alice, slug="sketch", provider=provider, upstream_model="same", status=Model.Status.DRAFT)

    response = client_for(alice).get("/o/acme/operate/models/new/?draft=sketch&step=4")

    assert "offered already as" in text_of(response)
    assert "present" in text_of(response)


def test_wizard_of_a_served_model_does_not_exist(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="small")

    assert client_for(alice).get("/o/acme/operate/models/new/?draft=small").status_code == 404


# Models


@pytest.fixture
def assorted(acme: Tenant, alice: User) -> None:
    """Three models: two that chat, at different prices, and one for embeddings without a price or a stated context."""
    eu, us = make_provider(slug="eu-cloud", region="eu"), make_provider(slug="us-cloud", region="us")
    talker: dict[str, Any] = {"capabilities": ["chat", "vision"], "data_sensitivity": "confidential", "context_window": 200_000}
    make_model(owner=alice, slug="talker", provider=eu, price=("2.00", "8.00"), **talker)
    make_model(owner=alice, slug="brief", provider=us, price=("0.10", "0.40"), context_window=32_000)
    make_model(owner=alice, slug="embedder", provider=us, capabilities=["embeddings"])


def test_facets_narrow_the_catalog(assorted: None, bob: User, client_for: ClientFor) -> None:
    client = client_for(bob)

    def found(query: str) -> list[str]:
        text = text_of(client.get(f"/o/acme/build/models/?{query}", headers=HTMX))
        return re.findall(r'href="/o/acme/models/([a-z]+)/"', text)

    assert found("") == ["brief", "embedder", "talker"]
    assert found("capability=vision") == ["talker"]
    assert found("sensitivity=internal") == ["brief", "embedder"]
    assert found("q=TALK") == ["talker"]
    assert found("capability=vision&sensitivity=internal") == []
    assert found("provider=us-cloud&context=32000") == ["brief"]
    assert found("region=eu") == ["talker"]
    assert found("price=5") == ["brief"]  # what has no price is not known to be cheap
    assert found("context=many") == found("price=NaN") == found("price=9e999") == []


def test_facets_say_how_many_models_each_choice_would_leave(assorted: None, bob: User, client_for: ClientFor) -> None:
    text = text_of(client_for(bob).get("/o/acme/build/models/?capability=chat&provider=us-cloud&region=mars"))

    # each facet counts under what the others choose: nothing is left on Mars, and no region but its own fits the rest
    assert "Chat (0)" in text
    assert "us (1)" in text
    assert "mars (0)" in text
    assert "Clear" in text
    text = text_of(client_for(bob).get("/o/acme/build/models/?capability=chat"))
    assert all(words in text for words in ("Chat (2)", "Embeddings (1)", "Us Cloud (1)", "≥ 128K (1)", "≤ $15 (2)", "Confidential (1)"))
    assert "≥ 1M" not in text


def test_models_are_sorted_by_what_matters_and_paged_in_that_order(assorted: None, bob: User, client_for: ClientFor) -> None:
    for sort, expected in (
        ("output", ["brief", "talker", "embedder"]),  # what has no price is last in both directions
        ("-output", ["talker", "brief", "embedder"]),
        ("context", ["talker", "brief", "embedder"]),
        ("-name", ["talker", "embedder", "brief"]),
    ):
        found, order = selectors.ordered_models(selectors.served_models(), sort)
        first = keyset_page(found, order=order, size=2)
        second = keyset_page(found, order=order, size=2, cursor=str(first.next_cursor))
        back = keyset_page(found, order=order, size=2, cursor=str(second.previous_cursor))
        assert [[model.slug for model in page.rows] for page in (first, second, back)] == [expected[:2], expected[2:], expected[:2]], sort

    text = text_of(client_for(bob).get("/o/acme/build/models/?sort=-output"))
    assert 'aria-sort="descending"' in text
    assert re.findall(r'href="/o/acme/models/([a-z]+)/"', text) == ["talker", "brief", "embedder"]


def test_sample_code_names_the_persons_key(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    response = client_for(bob).get("/o/acme/models/small/")

    key = VirtualKey.objects.get()
    assert f"_{key.public_id}_…" in text_of(response)
    assert "/v1/chat/completions" in text_of(response)


def test_model_is_retired_by_button(furnished: dict[str, str], alice: User, client_for: ClientFor) -> None:
    response = client_for(alice).post("/o/acme/models/small/act/retire/", {"reason": "too old"}, follow=True)

    assert Model.objects.get(slug="small").status == Model.Status.RETIRED
    assert "is retired" in text_of(response)


def test_quota_of_a_deployment_is_set_on_its_page(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    deployment = make_model(owner=alice, slug="small").deployments.get()
    client, url = client_for(alice), f"/o/acme/models/small/deployments/{deployment.pk}/change/"

    wrong = client.post(url, {"weight": 1, "priority": 0, "is_enabled": "1", "tokens_per_minute": "0"}, follow=True)
    done = client.post(url, {"weight": 1, "priority": 0, "is_enabled": "1", "tokens_per_minute": "90000"}, follow=True)

    deployment.refresh_from_db()
    assert "numbers from 1, or empty" in text_of(wrong)
    assert (deployment.requests_per_minute, deployment.tokens_per_minute) == (None, 90_000)
    assert 'name="tokens_per_minute" value="90000"' in text_of(done)


def test_only_deployment_of_a_served_model_stays(furnished: dict[str, str], alice: User, client_for: ClientFor) -> None:
    deployment = Model.objects.get(slug="small").deployments.get()

    response = client_for(alice).post(f"/o/acme/models/small/deployments/{deployment.pk}/remove/", follow=True)

    assert "only deployment" in text_of(response)


# Keys


def test_key_is_shown_once(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    project, client = make_project(owner=alice), client_for(bob)
    make_model(owner=alice, slug="small")

    response = client.post("/o/acme/build/keys/new/", {"name": "checkout", "project": project.pk, "lifetime_days": 30})

    key = VirtualKey.objects.get()
    shown = f"ghk_{acme.public_id}_{key.public_id}_"
    assert text_of(response).count(shown) >= 2
    assert response["Cache-Control"] == "no-store"
    later = text_of(client.get(f"/o/acme/keys/{key.public_id}/"))
    assert f"{shown}…" in later
    assert text_of(response).split('id="new-key" tabindex="0">')[1].split("<")[0] not in later


@pytest.mark.parametrize(
    ("field", "value"),
    [("lifetime_days", "91"), ("name", ""), ("project", "999999"), ("requests_per_minute", "99999999999"), ("models", "unknown")],
)
def test_bad_key_form_comes_back_with_422(acme: Tenant, alice: User, bob: User, client_for: ClientFor, field: str, value: str) -> None:
    make_model(owner=alice)
    body = {"name": "x", "project": make_project(owner=alice).pk, "lifetime_days": 30, field: value}

    response = client_for(bob).post("/o/acme/build/keys/new/", body, headers=HTMX)

    assert response.status_code == 422
    assert 'id="key-form"' in text_of(response)
    assert not VirtualKey.objects.exists()


def test_tick_waits_for_the_first_call(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    response = client_for(bob).get(f"/o/acme/{furnished['key']}tick/", headers=HTMX)

    assert "Waiting for the first call" in text_of(response)
    assert 'hx-trigger="every 2s"' in text_of(response)


def test_key_is_revoked_by_its_owner_and_by_security(acme: Tenant, bob: User, sam: User, client_for: ClientFor) -> None:
    own, _ = make_key(owner=bob)
    other, _ = make_key(owner=bob)

    client_for(bob).post(f"/o/acme/keys/{own.public_id}/revoke/")
    client_for(sam).post(f"/o/acme/keys/{other.public_id}/revoke/")

    assert not VirtualKey.objects.filter(revoked_at=None).exists()


def test_key_is_rotated_on_its_page_and_the_new_secret_shown_once(acme: Tenant, bob: User, sam: User, client_for: ClientFor) -> None:
    own, old = make_key(owner=bob)
    foreign, _ = make_key(owner=sam)
    client = client_for(bob)

    made = client.post(f"/o/acme/keys/{own.public_id}/rotate/", {"overlap": "24"})
    too_long = client.post(f"/o/acme/keys/{own.public_id}/rotate/", {"overlap": "500"}, follow=True)

    text = made.content.decode()
    assert f"ghk_{acme.public_id}_{own.public_id}_" in text
    assert old not in text
    assert made["Cache-Control"] == "no-store"
    assert "works until" in client.get(f"/o/acme/keys/{own.public_id}/").content.decode()
    assert "less than or equal to 168" in too_long.content.decode()
    assert client.post(f"/o/acme/keys/{foreign.public_id}/rotate/", {"overlap": "1"}).status_code == 404


def test_keys_are_found_by_what_is_visible_of_them(acme: Tenant, bob: User, client_for: ClientFor) -> None:
    wanted, text = make_key(owner=bob, name="wanted")
    make_key(owner=bob, name="other")
    client = client_for(bob)

    for query in ("wanted", wanted.public_id[:5], text[:25]):
        found = text_of(client.get("/o/acme/build/keys/", {"q": query}, headers=HTMX))
        assert "wanted" in found
        assert "other</a>" not in found


def test_expired_revoked_and_expiring_keys_have_their_tabs(acme: Tenant, bob: User, client_for: ClientFor) -> None:
    make_key(owner=bob, name="fresh", days=60)
    make_key(owner=bob, name="soon", days=3)
    make_key(owner=bob, name="late", days=-1)
    gone, _ = make_key(owner=bob, name="gone")
    key_services.revoke_key(key=gone, actor=bob)
    client = client_for(bob)

    def found(state: str) -> set[str]:
        text = text_of(client.get(f"/o/acme/build/keys/?state={state}", headers=HTMX))
        return {name for name in ("fresh", "soon", "late", "gone") if f">{name}</a>" in text}

    assert {state: found(state) for state in ("active", "expiring", "expired", "revoked")} == {
        "active": {"fresh", "soon"},
        "expiring": {"soon"},
        "expired": {"late"},
        "revoked": {"gone"},
    }


def test_first_call_gives_a_key_and_the_command(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    project = make_project(owner=alice)
    make_model(owner=alice, slug="small")

    response = client_for(bob).post("/o/acme/build/first-call/", {"project": project.pk, "model": "small"})

    key = VirtualKey.objects.get()
    assert f"Bearer ghk_{acme.public_id}_{key.public_id}_" in text_of(response)
    assert "&quot;model&quot;: &quot;small&quot;" in text_of(response)
    assert "Waiting for the first call" in text_of(response)


# Playground


def test_playground_shows_the_chosen_models(furnished: dict[str, str], alice: User, bob: User, client_for: ClientFor) -> None:
    make_model(owner=alice, slug="large")

    response = client_for(bob).get("/o/acme/build/playground/?model=small&model=large&model=unknown")

    text = text_of(response)
    assert 'data-model="small"' in text
    assert 'data-model="large"' in text
    assert "There is no chat model" in text
    assert "ghp_" not in text


def test_session_is_given_by_post_and_not_stored(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    response = client_for(bob).post("/o/acme/build/playground/session/", {"project": "checkout"})

    assert response.json()["token"].startswith("ghp_")
    assert response["Cache-Control"] == "no-store"


def test_session_for_a_project_that_is_off_is_refused(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    Project.objects.update(is_enabled=False)

    response = client_for(bob).post("/o/acme/build/playground/session/", {"project": "checkout"})

    assert (response.status_code, response.json()["code"]) == (409, "project_off")


# Tools


def test_server_is_registered_by_form_with_its_tools(acme: Tenant, alice: User, client_for: ClientFor, everything_url: str) -> None:
    body = {"name": "Everything", "namespace": "everything", "url": everything_url, "feature_class": "tools"}

    response = client_for(alice).post("/o/acme/operate/tools/new/", body, follow=True)

    assert Tool.objects.filter(server__namespace="everything").count() >= 8
    assert "everything__echo" in text_of(response)


def test_unreachable_server_is_an_error_at_the_url(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    body = {"name": "X", "namespace": "xx", "url": "http://127.0.0.1:9/mcp", "feature_class": "tools"}

    response = client_for(alice).post("/o/acme/operate/tools/new/", body, headers=HTMX)

    assert response.status_code == 422
    assert 'id="id_url_error"' in text_of(response)
    assert not ToolServer.objects.exists()


def test_form_is_made_from_the_schema(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    schema = {
        "type": "object",
        "required": ["city"],
        "properties": {
            "city": {"type": "string", "description": "Where"},
            "days": {"type": "integer", "minimum": 1, "default": 3},
            "unit": {"enum": ["metric", "imperial"]},
            "verbose": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    }
    make_tool(
        server=make_tool_server(owner=alice, namespace="weather"), name="forecast", input_schema=schema, annotations={"readOnlyHint": True}
    )
    make_project(owner=alice)

    text = text_of(client_for(bob).get("/o/acme/tools/weather/forecast/"))

    assert "Reads only" in text
    assert '<input type="number" name="arg1" value="3" min="1"' in text
    assert '<option value="1">imperial</option>' in text
    assert '<textarea name="arg4"' in text


def test_bad_arguments_come_back_with_422(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    schema = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}, "tags": {"type": "array"}}}
    make_tool(server=make_tool_server(owner=alice, namespace="weather"), name="forecast", input_schema=schema)
    project = make_project(owner=alice)

    response = client_for(bob).post(
        "/o/acme/tools/weather/forecast/run/", {"project": project.slug, "arg0": "", "arg1": "[oops"}, headers=HTMX
    )

    assert response.status_code == 422
    assert "This is not JSON" in text_of(response)


def test_suspended_tool_shows_the_difference_to_who_may_approve(acme: Tenant, alice: User, bob: User, client_for: ClientFor) -> None:
    tool = make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search", status=Tool.Status.SUSPENDED)
    Tool.objects.filter(pk=tool.pk).update(pending_definition={**tool.definition(), "description": "Sends your files away."})
    admin = client_for(alice)

    page = text_of(admin.get("/o/acme/tools/handbook/search/"))
    hidden = client_for(bob).get("/o/acme/tools/handbook/search/")
    admin.post("/o/acme/tools/handbook/search/approve/")

    assert "Sends your files away." in page
    assert hidden.status_code == 404
    assert Tool.objects.get().description == "Sends your files away."


def test_tool_with_a_slash_in_its_name_has_a_page(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    make_tool(server=make_tool_server(owner=alice, namespace="files"), name="read/all")
    client = client_for(alice)

    assert client.get("/o/acme/operate/tools/").status_code == 200
    assert client.get("/o/acme/tools/files/read/all/").status_code == 200


# Home, search, lists


def test_operate_home_names_what_needs_somebody(acme: Tenant, alice: User, client_for: ClientFor) -> None:
    client = client_for(alice)
    quiet = text_of(client.get("/o/acme/operate/home/"))
    make_provider(name="Broken One", check_ok=False, check_detail="No connection.")
    make_key(owner=alice, name="old key", days=2)
    make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search", status=Tool.Status.SUSPENDED)

    loud = text_of(client.get("/o/acme/operate/home/"))

    assert "Catalog needs you" not in quiet
    for words in ("Broken One", "old key", "handbook__search"):
        assert words in loud


def test_project_heads_the_keys_that_it_counts(furnished: dict[str, str], alice: User, bob: User, client_for: ClientFor) -> None:
    key_services.open_playground_session(project=Project.objects.get(slug="checkout"), person=bob)

    response = client_for(alice).get(f"/o/acme/{furnished['project']}")

    text = text_of(response)
    assert "1 live key" in text
    assert [row.key.name for row in response.context["rows"]] == ["bob's key"]
    assert "<th>Owner</th>" in text
    assert "sort=" not in text
    assert "<th>Owner</th>" not in text_of(client_for(bob).get(f"/o/acme/{furnished['project']}"))


def test_build_home_leads_to_the_first_call(furnished: dict[str, str], bob: User, client_for: ClientFor) -> None:
    text = text_of(client_for(bob).get("/o/acme/build/home/"))

    assert "The first call arrived" in text
    assert "bob&#x27;s key" in text
    assert "3 of 4 steps to your first call through the gateway are done." in text
    used = [Usage(calls=1200, errors=3, cost_usd=Decimal("4.12")), Usage(calls=4)]
    said = panels.start_line({"called": True, "usage": used, "steps": []})
    assert said == "1,204 calls with your 2 keys in the last 30 days for $4.12, 3 failed."
    used = [Usage(calls=9, errors=1, refused=5), Usage(calls=2, refused=2)]
    said = panels.start_line({"called": True, "usage": used, "steps": []})
    assert said == "11 calls with your 2 keys in the last 30 days, 1 failed, 7 refused."
    used = [Usage(calls=10, cost_usd=Decimal("0.01")), Usage(calls=1000, unpriced_calls=1000), *[Usage()] * 198]
    said = panels.start_line({"called": True, "usage": used, "steps": []})
    assert said == "1,010 calls with your newest 200 keys in the last 30 days for at least $0.01, 0 failed."


def test_search_finds_what_the_person_may_see(furnished: dict[str, str], alice: User, rita: User, client_for: ClientFor) -> None:
    admin, other = client_for(alice), client_for(rita)

    assert "/models/sketch/" in text_of(admin.get("/o/acme/search/?q=sket"))
    assert "/models/sketch/" not in text_of(other.get("/o/acme/search/?q=sket"))
    assert "/keys/" in text_of(admin.get("/o/acme/search/?q=bob"))
    assert "/keys/" not in text_of(other.get("/o/acme/search/?q=bob's"))
    assert "/projects/checkout/" in text_of(other.get("/o/acme/search/?q=check"))
    assert "/tools/handbook/search/" in text_of(other.get("/o/acme/search/?q=handbook__se"))


@pytest.mark.parametrize(
    "path", ["operate/models/", "build/models/", "operate/providers/", "operate/tools/", "operate/projects/", "operate/keys/"]
)
def test_lists_ask_as_often_for_twenty_rows_as_for_two(
    acme: Tenant, alice: User, client_for: ClientFor, django_assert_max_num_queries: Any, django_assert_num_queries: Any, path: str
) -> None:
    def furnish(count: int) -> None:
        for _ in range(count):
            make_model(owner=alice)
            make_key(owner=alice)
            make_tool(server=make_tool_server(owner=alice))

    client = client_for(alice)
    furnish(2)
    client.get(f"/o/acme/{path}")
    with django_assert_max_num_queries(40) as captured:
        client.get(f"/o/acme/{path}")
    asked = len(captured)
    furnish(18)

    with django_assert_num_queries(asked):
        client.get(f"/o/acme/{path}")
