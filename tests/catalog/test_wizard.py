"""The wizard that registers a model."""

from __future__ import annotations

from catalog.models import Model, ModelReview
from governance.models import Tenant, User
from tests.catalog.pages import HTMX, text_of
from tests.conftest import ClientFor
from tests.factories.catalog import make_model, make_provider
from tests.gateway.conftest import SandboxUpstream


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
