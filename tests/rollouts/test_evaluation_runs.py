"""Evaluations by harnesses: what is taken in, how it is compared, and what it lets through."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from catalog.models import Deployment, Model, ModelReview
from catalog.services import deployments as deployment_services
from catalog.services import model_lifecycle, prompts, reviews
from governance import metrics
from governance.metrics import Window
from governance.models import AuditEntry, Tenant, User
from rollouts import evaluation_rules, evaluation_selectors, rollback_readings, rollback_selectors
from rollouts.errors import (
    EvaluationConflictError,
    EvaluationInvalidError,
    EvaluationMissingError,
    EvidenceMissingError,
    NotWaivableError,
    RoleNotHeldError,
    SelfApprovalError,
    WaiverDecidedError,
)
from rollouts.models import EvaluationRun, EvaluationThreshold
from rollouts.services import evaluation_runs as services
from rollouts.services.evaluation_runs import ScoreInput
from tests.conftest import ClientFor
from tests.factories import catalog
from tests.factories.rollouts import membership

API = "/api/v1/evaluations/"
PAGE = "/o/acme/release/evaluations/"
TOLD: dict[str, Any] = {"key": "ci-1", "harness": "pytest", "dataset": "faq@1", "model": "chat"}


def tell(actor: User, *scores: ScoreInput, **fields: Any) -> EvaluationRun:
    return services.record_run(**{**TOLD, **fields}, scores=scores or [ScoreInput("faithfulness", 0.95, 500)], actor=actor)[0]


def need(actor: User, metric: str = "faithfulness", value: float = 0.9, **terms: Any) -> EvaluationThreshold:
    terms = {"minimum": 100, "max_age_days": 30, **terms}
    return services.set_threshold(feature_class="assistants", metric=metric, value=value, actor=actor, **terms)


def test_score_without_an_interval_gets_the_widest_one_and_items_their_own() -> None:
    bounded = evaluation_rules.score(value=0.9, n=200)
    shares = evaluation_rules.score(value=None, n=None, items={str(n): float(n % 10 != 0) for n in range(200)})
    graded = evaluation_rules.score(value=None, n=None, items={str(n): 0.8 + 0.01 * (n % 5) for n in range(100)})

    assert bounded.high == pytest.approx(0.9 + math.sqrt(math.log(40) / 400))
    assert (shares.value, shares.n) == (0.9, 200)
    assert bounded.low < shares.low < 0.9 < shares.high < bounded.high
    assert graded.low == pytest.approx(0.82 - 1.959964 * 0.014213 / 10, abs=1e-4)
    pooled = evaluation_rules.pooled([bounded, shares])
    assert (pooled.value, pooled.sample) == (0.9, 400)
    assert pooled.low is not None
    assert bounded.low < pooled.low < 0.9
    assert evaluation_rules.pooled([]).value is None


@pytest.mark.parametrize(
    "told",
    [
        {"value": 95, "n": 10}, {"value": 0.5, "n": 0}, {"value": 0.5}, {"value": float("nan"), "n": 5}, {"value": 0.5, "n": 5, "low": 0.4},
        {"value": 0.5, "n": 5, "low": 0.6, "high": 0.7}, {"value": 0.5, "n": 2, "items": {"a": 1, "b": 1}}, {"items": {"a": 2.0}}, {},
    ],
)  # fmt: skip
def test_score_that_contradicts_itself_is_refused(told: dict[str, Any]) -> None:
    with pytest.raises(evaluation_rules.ScoreError):
        evaluation_rules.score(**{"value": None, "n": None, **told})


def test_runs_are_compared_item_by_item_where_both_told_them() -> None:
    def scored(offset: float) -> evaluation_rules.Score:
        return evaluation_rules.score(value=None, n=None, items={str(n): 0.1 + 0.6 * (n % 2) + offset * (1 + n % 3) for n in range(60)})

    paired = evaluation_rules.compare(scored(0), scored(0.02), better="higher")
    apart = evaluation_rules.compare(evaluation_rules.score(value=0.5, n=60), evaluation_rules.score(value=0.52, n=60), better="higher")
    lower = evaluation_rules.compare(scored(0), scored(0.02), better="lower")

    assert (paired.verdict, paired.paired, lower.verdict) == ("better", 60, "worse")
    assert (apart.verdict, apart.paired) == ("unclear", 0)


def test_run_is_kept_once_and_never_changed(acme: Tenant, rita: User) -> None:
    first, is_new = services.record_run(**TOLD, scores=[ScoreInput("toxicity", 0.01, 900)], actor=rita)
    again, is_again_new = services.record_run(**TOLD, scores=[ScoreInput("toxicity", 0.01, 900)], actor=rita)

    assert (again, is_new, is_again_new) == (first, True, False)
    score = first.scores.get()
    assert (score.is_safety, score.better, AuditEntry.objects.filter(event="evaluation_run.recorded").count()) == (True, "lower", 1)
    with pytest.raises(EvaluationConflictError):
        tell(rita, ScoreInput("toxicity", 0.02, 900))
    wrong: dict[str, Any]
    for wrong in (
        {"model": ""}, {"at": timezone.now() + timedelta(hours=1)}, {"scores": []}, {"scores": [ScoreInput("Bad Name", 0.5, 5)]},
        {"scores": [ScoreInput("own_metric", 0.5, 5)]}, {"scores": [ScoreInput("toxicity", 0.5, 5, better="higher")]},
        {"scores": [ScoreInput("toxicity", 0.5, 5), ScoreInput("toxicity", 0.5, 5)]},
    ):  # fmt: skip
        with pytest.raises(EvaluationInvalidError):
            services.record_run(**{**TOLD, "key": "ci-2", "scores": [ScoreInput("toxicity", 0.5, 5)], **wrong}, actor=rita)


def test_model_is_approved_only_with_the_scores_of_its_class(acme: Tenant, rita: User, adam: User) -> None:
    model = catalog.make_model(owner=adam, slug="chat")
    model.deployments.update(check_ok=True, is_enabled=True)
    Model.objects.filter(pk=model.pk).update(status="draft")
    model_lifecycle.submit_model(model=model, actor=rita)
    need(rita)
    need(rita, "toxicity", 0.1)
    now = timezone.now()

    with pytest.raises(EvaluationMissingError, match=r"faithfulness >= 0\.9: no evaluation.*toxicity"):
        model_lifecycle.approve_model(model=model, actor=adam)
    tell(rita, ScoreInput("faithfulness", 0.99, 5000), ScoreInput("toxicity", 0.01, 5000), key="old", at=now - timedelta(days=31))
    tell(rita, ScoreInput("faithfulness", 0.92, 200), ScoreInput("toxicity", 0.01, 2000), key="straddles", at=now - timedelta(days=2))
    with pytest.raises(EvaluationMissingError, match="the threshold is inside the interval"):
        model_lifecycle.approve_model(model=model, actor=adam)
    tell(rita, ScoreInput("faithfulness", 0.95, 2000), key="good", at=now - timedelta(days=1))

    assert model_lifecycle.approve_model(model=model, actor=adam).status == "approved"


def test_prompt_version_is_approved_only_with_the_scores_of_its_models_class(acme: Tenant, rita: User, adam: User) -> None:
    catalog.make_model(owner=adam, slug="chat")
    need(rita)
    prompt = prompts.create_prompt(slug="faq", name="FAQ", actor=rita, messages=[{"role": "user", "content": "Answer."}], model="chat")
    version = prompts.submit_version(version=prompt.versions.get(), actor=rita)
    good = ScoreInput("faithfulness", 0.97, 5000)
    for key, told in (("model", {}), ("next", {"prompt_version": "faq@2"}), ("else", {"model": "big", "prompt_version": "faq@1"})):
        tell(rita, good, key=key, **told)

    with pytest.raises(EvaluationMissingError, match=r"faq@1 can't be approved: faithfulness >= 0\.9: no evaluation"):
        prompts.approve_version(version=version, actor=adam)
    version.refresh_from_db()
    assert version.status == "submitted"
    tell(rita, good, key="good", prompt_version="faq@1")
    assert prompts.approve_version(version=version, actor=adam).status == "approved"
    free = prompts.write_version(
        prompt=prompt, actor=rita, messages=[{"role": "user", "content": "Answer."}]
    )  # for no model, so of no class
    assert prompts.approve_version(version=prompts.submit_version(version=free, actor=rita), actor=adam).status == "approved"


def test_deployment_added_to_a_served_model_serves_no_call_before_its_own_scores(
    acme: Tenant, alice: User, adam: User, sam: User, rita: User, api_for: ClientFor, client_for: ClientFor
) -> None:
    model = catalog.make_model(owner=alice, slug="chat")
    need(rita)
    need(rita, "toxicity", 0.02)
    tell(rita)  # of the model as it is served, which says nothing about another upstream
    added = deployment_services.add_deployment(model=model, provider=model.deployments.get().provider, upstream_model="next", actor=alice)
    Deployment.objects.filter(pk=added.pk).update(check_ok=True)
    review, where = ModelReview.objects.get(deployment=added), {"model": "chat", "deployment": added.reference}

    def standing() -> list[tuple[str, bool]]:
        return [(one["verdict"], one["opens"]) for one in api_for(rita).get(f"{API}standings/", where).json()]

    with pytest.raises(EvaluationMissingError, match=f"chat via {added.reference} can't be approved"):
        reviews.approve(review=review, actor=adam)
    page = client_for(adam).get("/o/acme/models/chat/?tab=approval").text
    for said in ("faithfulness &gt;= 0.9", "no evaluation that is recent enough", "Waive…", added.reference):
        assert said in page
    assert standing() == [("no_data", False), ("no_data", False)]
    tell(rita, ScoreInput("toxicity", 0.001, 9000), ScoreInput("faithfulness", 0.91, 150), key="ci-2", **where)
    assert standing() == [("inconclusive", False), ("pass", True)]
    with pytest.raises(EvaluationMissingError, match="toxicity"):  # nor does the candidate say anything about the model
        services.check_model("chat", "assistants")
    waiver = services.request_waiver(
        threshold=EvaluationThreshold.objects.get(metric="faithfulness"), model=f"chat via {added.reference}", reason="Too few items yet.",
        until=timezone.now() + timedelta(days=2), actor=rita,
    )  # fmt: skip
    services.decide_waiver(waiver=waiver, approve=True, person=membership(adam, acme))
    assert standing() == [("waived", True), ("pass", True)]
    assert not Deployment.objects.get(pk=added.pk).is_enabled
    reviews.approve(review=review, actor=adam)
    assert Deployment.objects.get(pk=added.pk).is_enabled
    with pytest.raises(EvaluationMissingError, match="faithfulness") as failed:  # now it serves: its newest score is the model's
        services.check_model("chat", "assistants")
    assert "toxicity" not in str(failed.value)


def test_waiver_of_a_threshold_takes_two_people_and_ends(acme: Tenant, rita: User, adam: User, bob: User) -> None:
    threshold, safety, now = need(rita), need(rita, "toxicity", 0.1), timezone.now()
    tell(rita, ScoreInput("toxicity", 0.01, 2000))
    until = now + timedelta(days=5)
    with pytest.raises(NotWaivableError):
        services.request_waiver(threshold=safety, model="chat", reason="Later.", until=until, actor=rita)
    waiver = services.request_waiver(threshold=threshold, model="chat", reason="Judge is down.", until=until, actor=rita)

    with pytest.raises(SelfApprovalError):
        services.decide_waiver(waiver=waiver, approve=True, person=membership(rita, acme))
    with pytest.raises(RoleNotHeldError):
        services.decide_waiver(waiver=waiver, approve=True, person=membership(bob, acme))
    with pytest.raises(EvaluationMissingError):
        services.check_model("chat", "assistants")
    services.decide_waiver(waiver=waiver, approve=True, person=membership(adam, acme))

    services.check_model("chat", "assistants")
    for slug, at in (("other", now), ("chat", until)):
        with pytest.raises(EvaluationMissingError):
            services.check_model(slug, "assistants", at=at)
    asked = services.request_waiver(threshold=threshold, model="other", reason="Judge is down.", until=until, actor=rita)
    need(rita, value=0.95)  # another threshold is another risk
    with pytest.raises(EvaluationMissingError):
        services.check_model("chat", "assistants")
    asked.refresh_from_db()
    assert asked.approved is False


def test_less_safety_takes_two_people_and_more_takes_one(acme: Tenant, rita: User, adam: User, bob: User) -> None:
    threshold = need(rita, "toxicity", 0.01)

    with pytest.raises(EvidenceMissingError):
        need(rita, "toxicity", 0.02)
    assert need(rita, "toxicity", 0.02, minimum=500, reason="The judge is noisy.").value == 0.01
    change = threshold.changes.get()
    for person, wrong in ((rita, SelfApprovalError), (bob, RoleNotHeldError)):
        with pytest.raises(wrong):
            services.decide_threshold_change(change=change, approve=True, person=membership(person, acme))
    assert evaluation_selectors.due_count(membership(adam, acme)) == 1
    services.decide_threshold_change(change=change, approve=True, person=membership(adam, acme))
    with pytest.raises(WaiverDecidedError):
        services.decide_threshold_change(change=change, approve=False, person=membership(adam, acme))

    threshold.refresh_from_db()
    assert (threshold.terms, threshold.set_by) == (evaluation_rules.Terms(0.02, 500, 30), adam)
    entry = AuditEntry.objects.filter(event="evaluation_threshold.set").latest("pk")
    assert (entry.details["requested_by"], entry.details["before"]["value"]) == (str(rita), 0.01)
    need(rita, "toxicity", 0.02, minimum=400, reason="Fewer.")
    assert need(adam, "toxicity", 0.005, minimum=500).value == 0.005  # more safety holds at once
    ended = AuditEntry.objects.get(event="evaluation_threshold.change_declined")
    assert (ended.actor_name, ended.details) == (adam.name, {"requested_by": str(rita), "own": False, "overtaken": True})
    assert not evaluation_selectors.waiting_changes().exists()  # and overtakes what waited
    need(rita, "faithfulness", 0.9)
    assert need(rita, "faithfulness", 0.1).value == 0.1  # quality is the owner's


@pytest.mark.parametrize(
    ("better", "after", "lower"),
    [
        ("lower", (0.01, 100, 30), False), ("lower", (0.005, 200, 10), False), ("lower", (0.02, 500, 10), True), ("lower", (0.01, 99, 30), True),
        ("higher", (0.02, 100, 30), False), ("higher", (0.009, 900, 1), True), ("higher", (0.5, 100, 31), True),
    ],
)  # fmt: skip
def test_any_part_that_asks_for_less_is_less(better: str, after: tuple[float, int, int], lower: bool) -> None:
    before = evaluation_rules.Terms(0.01, 100, 30)

    assert evaluation_rules.is_lower(before, evaluation_rules.Terms(*after), better=better) is lower


def test_removal_of_a_safety_threshold_waits_by_api_and_page(
    acme: Tenant, rita: User, adam: User, api_for: ClientFor, client_for: ClientFor
) -> None:
    threshold, api = need(rita, "toxicity", 0.01), api_for(rita)
    url = f"{API}thresholds/{threshold.pk}/"

    assert api.delete(url).json()["code"] == "evidence_missing"
    asked = api.delete(url, {"reason": "Another judge."})
    page = client_for(adam).get(PAGE).text
    declined = client_for(adam).post(f"{PAGE}changes/{asked.json()['id']}/decide/", {"decision": "decline"})
    again = client_for(rita).post(f"{PAGE}thresholds/{threshold.pk}/remove/", {"reason": "Another judge."})
    waiting = api.get(f"{API}thresholds/").json()[0]["waiting"]

    assert (asked.status_code, asked.json()["removes"], declined.status_code, again.status_code) == (202, True, 302, 302)
    for said in ("Less safety waits", "Another judge.", "removed", "Agree"):
        assert said in page
    assert api.post(f"{API}changes/{waiting['id']}/decide/", {"approve": True}).json()["code"] == "self_approval"
    assert api_for(adam).post(f"{API}changes/{waiting['id']}/decide/", {"approve": True}).json()["approved"] is True
    assert not EvaluationThreshold.objects.exists()


def test_gates_and_rollback_rules_read_pooled_scores_by_name(acme: Tenant, rita: User) -> None:
    metric, now = metrics.get("evaluations.faithfulness"), timezone.now()
    window = Window(now - timedelta(hours=6), now + timedelta(seconds=1))
    empty = metric.read(window)
    tell(rita, ScoreInput("faithfulness", 0.9, 100), at=now)
    tell(rita, ScoreInput("faithfulness", 0.96, 300), key="ci-2", at=now)
    tell(rita, ScoreInput("faithfulness", 0.1, 300), key="ci-0", at=now - timedelta(days=1))

    reading = metric.read(window)

    assert (empty.value, empty.sample) == (None, 0)
    assert reading.value == pytest.approx(0.945)
    assert (reading.sample, metric.unit, metric.better) == (400, "score", "higher")
    rule = rollback_selectors.parsed("evaluations.faithfulness_6h < 0.96 min 100")
    assert [one.is_metric for one in rule.comparisons] == [True]
    assert rollback_readings.read_metrics(rule.comparisons, at=window.end)["evaluations.faithfulness_6h"].value == pytest.approx(0.945)


def test_harness_tells_its_scores_by_api(acme: Tenant, api_for: ClientFor, rita: User, bob: User) -> None:
    client = api_for(rita)
    body = {**TOLD, "commit": "abc123", "scores": [{"metric": "groundedness", "items": {"q1": 1, "q2": 0.5}}]}

    made, again = (client.post(API, body) for _ in range(2))
    other = client.post(API, {**body, "dataset": "faq@2"})
    second = client.post(API, {**body, "key": "ci-2", "scores": [{"metric": "groundedness", "value": 0.9, "n": 50}]})
    wrong = client.post(API, {**body, "key": "ci-3", "scores": [{"metric": "groundedness", "value": 93, "n": 5}]})

    assert [answer.status_code for answer in (made, again, other, second, wrong)] == [201, 200, 409, 201, 400]
    assert (other.json()["code"], wrong.json()["code"]) == ("evaluation_conflict", "evaluation_invalid")
    assert made.json()["scores"][0]["value"] == 0.75
    compared = client.get(f"{API}{second.json()['id']}/compare/?to={made.json()['id']}").json()
    assert (compared[0]["change"], compared[0]["paired"]) == (pytest.approx(0.15), 0)
    assert [run["key"] for run in client.get(f"{API}?metric=groundedness&dataset=faq@1").json()["results"]] == ["ci-2", "ci-1"]
    assert api_for(bob).post(API, body).status_code == 403


def test_thresholds_and_waivers_are_handled_by_api(acme: Tenant, api_for: ClientFor, rita: User, adam: User) -> None:
    rita_api, adam_api = api_for(rita), api_for(adam)
    terms = {"feature_class": "assistants", "metric": "faithfulness", "value": 0.9}

    threshold = rita_api.post(f"{API}thresholds/", terms).json()
    asked = rita_api.post(
        f"{API}thresholds/{threshold['id']}/waivers/",
        {"model": "chat", "reason": "Judge is down.", "until": (timezone.now() + timedelta(days=3)).isoformat()},
    )
    decide = f"{API}waivers/{asked.json()['id']}/decide/"

    assert (threshold["operator"], threshold["minimum"], asked.status_code) == (">=", 100, 201)
    assert rita_api.post(decide, {"approve": True}).json()["code"] == "self_approval"
    assert adam_api.post(decide, {"approve": True}).json()["approved"] is True
    assert rita_api.post(f"{API}thresholds/", {**terms, "metric": "own"}).json()["code"] == "evaluation_invalid"
    assert rita_api.delete(f"{API}thresholds/{threshold['id']}/").status_code == 204
    assert rita_api.get(f"{API}thresholds/").json() == []


def test_pages_show_scores_comparison_and_thresholds(acme: Tenant, rita: User, bob: User, adam: User, client_for: ClientFor) -> None:
    client = client_for(rita)
    assert "Nothing was evaluated yet" in client.get(PAGE).text
    assert "No evaluation matches" in client.get(f"{PAGE}?q=zzz").text
    first = tell(rita, ScoreInput("faithfulness", 0.8, 2000), at=timezone.now() - timedelta(days=1))
    second = tell(rita, ScoreInput("faithfulness", 0.95, 2000), ScoreInput("toxicity", 0.01, 2000), key="ci-2", prompt_version="v18")
    tell(rita, key="elsewhere", dataset="other@1")

    made = client.post(
        f"{PAGE}thresholds/",
        {"feature_class": "assistants", "metric": "faithfulness", "value": "0.9", "minimum": "100", "max_age_days": "30"},
    )
    wrong = client.post(
        f"{PAGE}thresholds/",
        {"feature_class": "assistants", "metric": "faithfulness", "value": "90", "minimum": "100", "max_age_days": "30"},
    )
    threshold = EvaluationThreshold.objects.get()
    client.post(f"{PAGE}thresholds/{threshold.pk}/waive/", {"model": "chat", "reason": "Judge is down.", "days": "3"})
    page, one = client.get(PAGE).text, client.get(f"{PAGE}{second.pk}/").text

    assert (made.status_code, wrong.status_code) == (302, 422)
    for text in ("at least", "Take back", "Judge is down.", "safety"):
        assert text.lower() in page.lower()
    assert "Agree" in client_for(adam).get(PAGE).text
    assert "Set the threshold" not in client_for(bob).get(PAGE).text
    assert "better" in one
    assert f'value="{first.pk}" selected' in one
    assert "other@1" not in one
    assert client.get(f"{PAGE}{second.pk}/?to={10**20}").status_code == 404


def test_queries_of_the_list_do_not_grow_with_it(acme: Tenant, rita: User, client_for: ClientFor) -> None:
    client = client_for(rita)

    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            client.get(PAGE)
        return len(found)

    tell(rita)
    client.get(PAGE)
    few = queries()
    for number in range(4):
        tell(rita, key=f"more-{number}")
    assert queries() == few
    assert len(evaluation_selectors.trend(EvaluationRun.objects.earliest("pk"))) == 5
