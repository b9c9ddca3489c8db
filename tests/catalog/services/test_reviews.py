"""Models by four eyes: what is approved is what was seen, and what becomes wider is seen again."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from catalog import review_selectors
from catalog.errors import BindingChangedError, InvalidValueError, NotCheckedError, SelfApprovalError, WrongStatusError
from catalog.hooks import Price
from catalog.models import Deployment, Model, ModelReview
from catalog.services import deployments as deployment_services
from catalog.services import model_lifecycle, models, providers, reviews
from gateway.publish.publisher import compile_snapshot
from governance.models import AuditEntry, Guardrail, Membership, Notice, Tenant, User
from governance.services import guardrails
from tests.conftest import ClientFor
from tests.factories.catalog import make_model, make_provider

Status = ModelReview.Status


def submitted(author: User) -> Model:
    return model_lifecycle.submit_model(model=make_model(owner=author, status="draft"), actor=author, comment="Ready.")


def served(author: User, approver: User) -> Model:
    return model_lifecycle.approve_model(model=submitted(author), actor=approver)


def waiting(model: Model) -> ModelReview:
    return review_selectors.waiting().get(model=model)


def models_asked(model: Model, author: User) -> ModelReview:
    """A review of one more capability."""
    facts = models.facts_of(Model.objects.get(pk=model.pk))
    more = next(one for one in ("tools", "vision", "json") if one not in facts.capabilities)
    models.change_model(model=model, facts=replace(facts, capabilities=(*facts.capabilities, more)), actor=author)
    return review_selectors.waiting().get(model=model, kind="facts")


def check(deployment: Deployment, *, ok: bool = True) -> None:
    Deployment.objects.filter(pk=deployment.pk).update(check_ok=ok)


def test_second_person_approves_and_it_stands_in_the_log(acme: Tenant, alice: User, adam: User) -> None:
    model = submitted(alice)

    with pytest.raises(SelfApprovalError):
        model_lifecycle.approve_model(model=model, actor=alice)
    assert not compile_snapshot(acme, 1).models
    approved = model_lifecycle.approve_model(model=model, actor=adam, comment="Fine.")

    assert approved.is_served
    assert approved.approved_binding == review_selectors.binding_of(model)
    assert compile_snapshot(acme, 1).models
    review = ModelReview.objects.get(model=model)
    assert (review.status, review.decided_by, review.basis) == (Status.APPROVED, adam, "second_person")
    entry = AuditEntry.objects.get(event="model.approved")
    assert (entry.actor, entry.details["basis"], entry.details["digest"]) == (adam, "second_person", review.digest)
    notice = Notice.objects.get(topic="model.approval_asked")
    assert (notice.permission, notice.path) == ("approve_models", f"models/{model.slug}/?tab=approval")
    assert [one.event for one in review_selectors.timeline(model)] == ["model.approved", "model.submitted"]


def test_who_changed_it_last_does_not_approve(acme: Tenant, alice: User, adam: User, sam: User) -> None:
    model = make_model(owner=alice, status="draft")
    models.change_model(model=model, facts=replace(models.facts_of(model), data_sensitivity="restricted"), actor=adam)
    model_lifecycle.submit_model(model=model, actor=alice)

    with pytest.raises(SelfApprovalError):
        model_lifecycle.approve_model(model=model, actor=adam)

    assert model_lifecycle.approve_model(model=model, actor=sam).is_served


def test_only_member_approves_alone_and_it_is_recorded(acme: Tenant, alice: User) -> None:
    Membership.objects.filter(tenant=acme).exclude(user=alice).delete()
    model = submitted(alice)

    model_lifecycle.approve_model(model=model, actor=alice)

    assert AuditEntry.objects.get(event="model.approved").details["basis"] == "alone"


def test_table_itself_holds_the_four_eyes(acme: Tenant, alice: User) -> None:
    submitted(alice)

    with pytest.raises(IntegrityError, match="model_review_four_eyes"), transaction.atomic():
        ModelReview.objects.update(status="approved", decided_by=alice, basis="second_person")


def test_approval_holds_only_for_what_was_submitted(acme: Tenant, alice: User, adam: User, sam: User) -> None:
    model = submitted(alice)
    provider = model.deployments.get().provider
    first = waiting(model)

    models.set_price(model=model, provider=provider, price=Price(Decimal(9), Decimal(9)), actor=alice)

    with pytest.raises(BindingChangedError):
        model_lifecycle.approve_model(model=model, actor=adam)
    model_lifecycle.submit_model(model=model, actor=alice)
    with pytest.raises(WrongStatusError, match="withdrawn already"):
        reviews.approve(review=first, actor=adam)
    assert model_lifecycle.submit_model(model=model, actor=sam).status == "submitted"
    assert waiting(model).asked_by == alice  # the same again is still hers
    assert model_lifecycle.approve_model(model=model, actor=adam).is_served


def test_return_takes_a_reason_and_withdrawal_none(acme: Tenant, alice: User, adam: User) -> None:
    model = submitted(alice)

    with pytest.raises(InvalidValueError):
        model_lifecycle.return_model(model=model, actor=adam)
    assert model_lifecycle.return_model(model=model, actor=adam, comment="No owner in finance.").status == "draft"
    model_lifecycle.submit_model(model=model, actor=alice)
    model_lifecycle.return_model(model=model, actor=alice)

    events = AuditEntry.objects.filter(event__in=("model.returned", "model.withdrawn")).order_by("sequence")
    assert [(one.event, one.details["comment"]) for one in events] == [("model.returned", "No owner in finance."), ("model.withdrawn", "")]
    assert not review_selectors.waiting().exists()


def test_wider_facts_of_a_served_model_wait(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)
    facts = replace(models.facts_of(model), data_sensitivity="restricted", description="More.")

    held = models.change_model(model=model, facts=facts, actor=alice)
    models.change_model(model=model, facts=replace(models.facts_of(held), description="Better."), actor=adam)

    assert (held.data_sensitivity, held.description) == ("internal", "More.")  # words hold at once
    review = waiting(model)
    assert review.facts == {"data_sensitivity": "restricted"}
    assert [(one["what"], one["widens"]) for one in review.changes] == [("data_sensitivity", True)]
    with pytest.raises(SelfApprovalError):
        reviews.approve(review=review, actor=alice)
    reviews.approve(review=review, actor=adam)
    model.refresh_from_db()
    assert (model.data_sensitivity, model.description) == ("restricted", "Better.")
    log = AuditEntry.objects.get(event="model.change_approved").details
    assert (log["facts_before"], log["facts_after"]) == ({"data_sensitivity": "internal"}, {"data_sensitivity": "restricted"})
    back = models.change_model(model=model, facts=replace(facts, data_sensitivity="internal"), actor=alice)
    assert back.data_sensitivity == "internal"
    assert models.change_model(model=model, facts=facts, actor=alice).data_sensitivity == "restricted"  # it was approved


def test_description_that_waits_is_taken_back_by_a_newer_one_of_the_same(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)
    models.change_model(model=model, facts=replace(models.facts_of(model), data_sensitivity="restricted"), actor=alice)
    review = waiting(model)

    models.change_model(model=model, facts=replace(models.facts_of(model), data_sensitivity="public"), actor=adam)

    with pytest.raises(WrongStatusError, match="withdrawn already"):
        reviews.approve(review=review, actor=adam)
    assert AuditEntry.objects.get(event="model.change_withdrawn").details["comment"] == "The same was changed since."
    assert Model.objects.get(pk=model.pk).data_sensitivity == "public"


def test_new_deployment_of_a_served_model_waits_for_check_and_approval(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)

    added = deployment_services.add_deployment(model=model, provider=make_provider(region="us"), upstream_model="small", actor=alice)

    assert not added.is_enabled
    on = {**deployment_services.share_of(added), "is_enabled": True}
    assert not deployment_services.change_deployment(deployment=added, actor=alice, **on).is_enabled
    review = waiting(model)
    with pytest.raises(NotCheckedError):
        reviews.approve(review=review, actor=adam)
    check(added)
    reviews.approve(review=review, actor=adam)
    assert Deployment.objects.get(pk=added.pk).is_enabled
    deployment_services.change_deployment(deployment=added, actor=alice, **{**on, "is_enabled": False})
    more = models_asked(model, alice)
    assert [one["what"] for one in more.changes] == ["capabilities"]
    reviews.approve(review=more, actor=adam)
    assert deployment_services.change_deployment(
        deployment=added, actor=alice, **on
    ).is_enabled  # still approved as it is, after another approval
    assert not review_selectors.waiting().exists()


def test_approvals_outlive_their_deployment(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)
    first = deployment_services.add_deployment(model=model, provider=make_provider(), upstream_model="first", actor=alice)
    check(first)
    reviews.approve(review=waiting(model), actor=adam)
    other = deployment_services.add_deployment(model=model, provider=make_provider(), upstream_model="other", actor=alice)

    for deployment in (first, other):
        deployment_services.remove_deployment(deployment=deployment, actor=alice)

    kept = ModelReview.objects.filter(kind="deployment").order_by("pk")
    assert [(one.status, one.decided_by, one.deployment) for one in kept] == [("approved", adam, None), ("withdrawn", alice, None)]
    assert kept[0].changes[-1]["what"].endswith("/first")
    assert AuditEntry.objects.get(event="model.change_withdrawn").details["comment"] == "It is removed."


def test_what_changes_underneath_is_looked_at_again_and_served_meanwhile(
    acme: Tenant, alice: User, adam: User, sam: User, client_for: ClientFor
) -> None:
    fields = {"kind": "secrets", "mode": "enforce", "action": "block"}
    guardrail = guardrails.create_guardrail(name="no-secrets", actor=sam, **fields)
    model = served(alice, adam)

    guardrails.change_guardrail(guardrail=guardrail, actor=sam, mode="monitor")
    review = waiting(model)
    edited = models.change_model(model=model, facts=replace(models.facts_of(model), description="New."), actor=alice)

    assert edited.description == "New."  # what drifted is not of this change
    assert (review.kind, review.asked_by, [one["what"] for one in review.changes]) == ("drift", sam, ["guardrail no-secrets"])
    assert Model.objects.get(pk=model.pk).is_served
    page = client_for(alice).get(f"/o/acme/models/{model.slug}/").content.decode()
    assert "It is served meanwhile, with the change." in page
    assert "It is served as before." not in page
    with pytest.raises(WrongStatusError, match="Undo the change"):
        reviews.send_back(review=review, actor=adam, comment="No.")
    guardrails.change_guardrail(guardrail=guardrail, actor=sam, mode="enforce")
    assert not review_selectors.waiting().exists()
    guardrails.delete_guardrail(guardrail=Guardrail.objects.get(), actor=sam)
    with pytest.raises(SelfApprovalError):
        reviews.approve(review=waiting(model), actor=sam)
    reviews.approve(review=waiting(model), actor=adam)
    assert Model.objects.get(pk=model.pk).approved_binding == review_selectors.binding_of(model)


def test_provider_that_moves_is_looked_at_again(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)
    other = served(alice, adam)
    provider = model.deployments.get().provider

    with CaptureQueriesContext(connection) as captured:
        providers.change_provider(provider=provider, name="Moved", base_url=provider.base_url, region="us-east-1", actor=alice)

    locks = [query["sql"].split(" FROM ")[1].split('"')[1] for query in captured if "FOR UPDATE" in query["sql"]]
    assert locks == ["catalog_model", "catalog_provider", "catalog_model"]  # an approval under way is waited for, whatever the status
    assert not any('"catalog_model"."status"' in query["sql"].split(" WHERE ")[1] for query in captured if "FOR UPDATE" in query["sql"])
    assert "us-east-1" in waiting(model).changes[0]["after"]
    assert not review_selectors.waiting().filter(model=other).exists()
    model_lifecycle.retire_model(model=model, actor=alice)
    assert not review_selectors.waiting().exists()


def test_who_changed_one_of_several_things_underneath_does_not_approve_them(acme: Tenant, alice: User, adam: User, sam: User) -> None:
    model = served(alice, adam)
    provider = model.deployments.get().provider
    guardrail = guardrails.create_guardrail(name="no-secrets", actor=sam, kind="secrets", mode="enforce", action="block")
    reviews.approve(review=models_asked(model, alice), actor=sam)

    providers.change_provider(provider=provider, name="Moved", base_url=provider.base_url, region="us-east-1", actor=alice)
    guardrails.change_guardrail(guardrail=guardrail, actor=sam, mode="monitor")

    review = waiting(model)
    assert (review.asked_by, len(review.changes)) == (sam, 2)
    Deployment.objects.update(check_ok=True)
    for who in (alice, sam):
        with pytest.raises(SelfApprovalError):
            reviews.approve(review=review, actor=who)
    held = models_asked(model, sam)
    with pytest.raises(SelfApprovalError):
        reviews.approve(review=held, actor=alice)  # her region is in it, too
    assert reviews.approve(review=held, actor=adam).basis == "second_person"
    assert not review_selectors.waiting().exists()


def test_bindings_of_many_models_take_as_many_queries_as_of_one(acme: Tenant, alice: User, django_assert_num_queries: object) -> None:
    found = [make_model(owner=alice, price=("1", "2")) for _ in range(4)]

    with django_assert_num_queries(3):  # type: ignore[operator]  # the fixture of pytest-django has no type
        bound = review_selectors.bindings_of(found)

    assert len({str(one) for one in bound.values()}) == 4


def test_default_parameters_of_a_served_model_wait_their_end_too(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)
    facts = models.facts_of(model)
    for wrong, said in (
        ({"temperature": 3}, "number from 0 to 2"), ({"seed": 1}, "no parameter seed"), ({"max_tokens": 9000}, "writes 4,096 tokens at most"),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError, match=said) as refused:
            models.change_model(model=model, facts=replace(facts, default_parameters=wrong), actor=alice)
        assert refused.value.field == "default_parameters"

    held = models.change_model(model=model, facts=replace(facts, default_parameters={"max_tokens": 400, "temperature": 0.2}), actor=alice)

    assert held.default_parameters == {}
    review = waiting(model)
    assert [(one["what"], one["before"], one["after"], one["widens"]) for one in review.shown_changes] == [
        ("Default parameters", "", "temperature 0.2, max_tokens 400", True)
    ]
    reviews.approve(review=review, actor=adam)
    model.refresh_from_db()
    assert compile_snapshot(acme, 1).models[model.slug].defaults == {"temperature": 0.2, "max_tokens": 400}
    with pytest.raises(InvalidValueError, match="writes 100 tokens at most"):
        models.change_model(model=model, facts=replace(models.facts_of(model), max_output_tokens=100), actor=alice)
    models.change_model(model=model, facts=models.facts_of(held), actor=alice)
    model.refresh_from_db()
    assert model.default_parameters == {"temperature": 0.2, "max_tokens": 400}
    reviews.approve(review=waiting(model), actor=adam)
    model.refresh_from_db()
    assert model.default_parameters == {}


def test_default_parameters_that_wait_take_no_others_away_unseen(acme: Tenant, alice: User, adam: User, sam: User) -> None:
    model = served(alice, adam)
    models.change_model(model=model, facts=replace(models.facts_of(model), default_parameters={"temperature": 0.3}), actor=alice)
    described = waiting(model)
    for parameters, who in (({"max_tokens": 9000}, sam), ({"top_p": 0.9}, alice)):  # of two promotions, the first above what it writes
        models.propose_parameters(model=model, parameters=parameters, actor=who, reason=f"By {who}")
    proposed = review_selectors.waiting().get(model=model, kind="parameters")

    assert (proposed.facts, proposed.reason) == ({"default_parameters": {"top_p": 0.9, "max_tokens": 4096}}, "By Sam; By Alice")
    with pytest.raises(SelfApprovalError):  # of the first promotion
        reviews.approve(review=proposed, actor=sam)
    reviews.approve(review=described, actor=adam)
    with pytest.raises(BindingChangedError):
        reviews.approve(review=proposed, actor=adam)
    again = reviews.ask_again(review=proposed, actor=alice)

    assert [(one["before"], one["after"]) for one in again.changes] == [("temperature 0.3", "temperature 0.3, top_p 0.9, max_tokens 4096")]
    model.refresh_from_db()
    models.change_model(model=model, facts=replace(models.facts_of(model), default_parameters={}), actor=alice)
    ended = review_selectors.waiting().get(model=model, kind="facts")
    reviews.approve(review=again, actor=adam)
    model.refresh_from_db()
    assert model.default_parameters == {"temperature": 0.3, "top_p": 0.9, "max_tokens": 4096}
    entry = AuditEntry.objects.filter(event="model.change_approved").latest("sequence")
    assert entry.details["facts_after"] == {"default_parameters": model.default_parameters}
    with pytest.raises(BindingChangedError):
        reviews.approve(review=ended, actor=adam)
    assert reviews.ask_again(review=ended, actor=alice).changes[0]["before"] == "temperature 0.3, top_p 0.9, max_tokens 4096"


def test_default_parameters_fit_the_model_when_they_are_approved(acme: Tenant, alice: User, adam: User) -> None:
    model = served(alice, adam)
    facts = models.facts_of(model)
    models.propose_parameters(model=model, parameters={"max_tokens": 400}, actor=alice, reason="Shorter")
    models.change_model(model=model, facts=replace(facts, max_output_tokens=100), actor=alice)

    with pytest.raises(InvalidValueError, match="writes 100 tokens at most"):
        reviews.approve(review=waiting(model), actor=adam)
    models.propose_parameters(model=model, parameters={"temperature": 1}, actor=alice, reason="Warmer")  # the other one fits again
    reviews.approve(review=waiting(model), actor=adam)

    model.refresh_from_db()
    assert model.default_parameters == {"temperature": 1, "max_tokens": 100}
    model = models.change_model(
        model=model, facts=replace(models.facts_of(model), default_parameters={"temperature": 1.0, "max_tokens": 100}), actor=alice
    )
    reviews.look_at_guardrails(alice)
    assert not review_selectors.waiting().exists()  # 1.0 is no other temperature than 1
