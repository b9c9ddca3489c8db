"""Flags at a running plane: over OFREP, with the official OpenFeature providers, and for the model that serves a call."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openfeature.api
import pytest
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import ErrorCode
from openfeature.flag_evaluation import Reason

from gateway.contract import snapshot as contract
from gateway.contract.flags import BUCKETS, Cohort, Exposure, Flag, Override, Range, bucket
from gateway.contract.prompts import Message, Prompt, Version
from gateway.plane.ingress.ofrep import Pace
from tests.gateway.conftest import GRANTED, SAY_HELLO, Org, Plane, SandboxUpstream, chat_model, deployment, make_org, wait_until

pytestmark = pytest.mark.process
EVALUATE = "/ofrep/v1/evaluate/flags"


def a_flag(name: str, kind: Any, off: Any, on: Any, **fields: Any) -> Flag:
    facts: dict[str, Any] = {
        "key": f"ai.search.{name}", "version": 2, "kind": kind, "variants": {"off": off, "on": on}, "control": "off",
        "feature_class": "assistants", "sticky": "user", "rollout_salt": "r", "variant_salt": "v",
        "exposure": Exposure(on=True, percentage=BUCKETS, ranges=(Range("on", 0, BUCKETS),)),
    }  # fmt: skip
    return Flag(**{**facts, **fields})


HALF = Exposure(on=True, percentage=50_000, ranges=(Range("on", 0, BUCKETS),))
FLAGS = [
    a_flag("switch", "boolean", False, True),
    a_flag("prompt", "string", "old", "new"),
    a_flag("results", "integer", 5, 10),
    a_flag("heat", "number", 0.0, 1.0),
    a_flag("layout", "object", {}, {"columns": 2}),
    a_flag("half", "boolean", False, True, exposure=HALF),
    a_flag("agents", "boolean", False, True, feature_class="agents"),
    a_flag(
        "internal", "boolean", False, True,
        exposure=Exposure(on=True, ranges=HALF.ranges, overrides=(Override(attribute="project", values=("demo",), variant="on"),)),
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    """A tenant with one flag of each kind, exposed to everybody."""
    return make_org(plane, sandbox_upstream, flags={flag.key: flag for flag in FLAGS}, facts={"tenant": "shop", "region": "eu"})


@pytest.fixture
def sdk(shop: Org) -> Iterator[OpenFeatureClient]:
    """The unmodified OpenFeature SDK with the official OFREP provider."""
    provider = OFREPProvider(shop.plane.url, headers_factory=lambda: {"Authorization": f"Bearer {shop.key}"})
    openfeature.api.set_provider(provider)
    yield openfeature.api.get_client()
    provider.session.close()
    openfeature.api.clear_providers()


def send(org: Org, path: str, **options: Any) -> httpx2.Response:
    """A bare request; without certificates, which take longer to load than a test does."""
    return org.post(path, verify=False, **options)


def evaluate(org: Org, key: str = "", context: Any = None, **options: Any) -> httpx2.Response:
    return send(org, f"{EVALUATE}/{key}" if key else EVALUATE, json={"context": context or {}}, **options)


def test_every_kind_of_value_reaches_the_sdk(sdk: OpenFeatureClient) -> None:
    assert sdk.get_boolean_value("ai.search.switch", False) is True
    assert sdk.get_string_value("ai.search.prompt", "") == "new"
    assert sdk.get_integer_value("ai.search.results", 0) == 10
    assert sdk.get_float_value("ai.search.heat", 0.5) == 1.0
    assert sdk.get_object_value("ai.search.layout", {}) == {"columns": 2}


def test_the_rule_that_decided_is_in_the_metadata(sdk: OpenFeatureClient) -> None:
    split = sdk.get_boolean_details("ai.search.half", False, EvaluationContext("ana"))
    everybody = sdk.get_boolean_details("ai.search.switch", False)
    missing = sdk.get_boolean_details("ai.search.half", False)
    agents = sdk.get_boolean_details("ai.search.agents", True)
    internal = sdk.get_boolean_details("ai.search.internal", False, EvaluationContext("ana", {"project": "other"}))

    assert (split.reason, split.value) == (Reason.SPLIT, bucket("r", "ana") < 50_000)
    assert split.flag_metadata["bucket"] == bucket("r", "ana")
    assert (everybody.reason, everybody.flag_metadata["rule"]) == (Reason.STATIC, "percentage")
    assert (missing.reason, missing.variant, missing.error_code) == (Reason.DEFAULT, "off", None)
    assert "no user" in str(missing.flag_metadata["detail"])
    assert (agents.reason, agents.value) == (Reason.DISABLED, False)
    assert (agents.flag_metadata["rule"], agents.flag_metadata["consent"]) == ("consent", False)
    assert (internal.reason, internal.flag_metadata["rule"]) == (Reason.TARGETING_MATCH, "override")  # the project is the key's own


def test_refusals_reach_the_sdk_as_its_own_errors(sdk: OpenFeatureClient) -> None:
    unknown = sdk.get_boolean_details("ai.search.nothing", True)
    wrong = sdk.get_string_details("ai.search.switch", "default")

    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    assert (wrong.value, wrong.error_code) == ("default", ErrorCode.TYPE_MISMATCH)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "PARSE_ERROR"),
        (b"[]", "PARSE_ERROR"),
        (b'{"context": 3}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": 3}}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": ""}}', "TARGETING_KEY_MISSING"),
    ],
)
def test_bad_request_is_answered_in_the_shape_of_the_protocol(shop: Org, body: bytes, code: str) -> None:
    single = send(shop, f"{EVALUATE}/ai.search.switch", content=body)
    bulk = send(shop, EVALUATE, content=body)

    assert (single.status_code, bulk.status_code) == (400, 400)
    assert single.json() == {"key": "ai.search.switch", "errorCode": code, "errorDetails": bulk.json()["errorDetails"]}
    assert bulk.json()["errorCode"] == code


def test_unknown_flag_other_routes_and_methods(shop: Org) -> None:
    missing = evaluate(shop, "ai.search.nothing")
    get = httpx2.get(shop.plane.url + EVALUATE, trust_env=False, verify=False)

    assert (missing.status_code, missing.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")
    assert send(shop, "/ofrep/v1/configuration").status_code == 404
    assert (get.status_code, get.headers["allow"]) == (405, "POST")
    assert send(shop, EVALUATE, content=b'{"context": {"a": "%s"}}' % (b"x" * 70_000)).status_code == 413


def test_who_asks_is_proved_by_a_key(shop: Org, org: Org) -> None:
    url = f"{shop.plane.url}{EVALUATE}"
    by_header = httpx2.post(url, json={}, headers={"x-api-key": shop.key}, trust_env=False, verify=False)
    nobody = httpx2.post(url, json={}, trust_env=False, verify=False)
    other = evaluate(org, "ai.search.switch", {"tenant": "shop"})

    assert by_header.status_code == 200
    assert nobody.status_code == 401
    assert other.status_code == 404  # somebody else's flags do not exist


def test_bulk_answers_every_flag_with_its_rule(shop: Org) -> None:
    answer = evaluate(shop, context={"targetingKey": "ana"})

    flags = {flag["key"]: flag for flag in answer.json()["flags"]}
    assert flags.keys() == {flag.key for flag in FLAGS}
    assert all(flag.keys() == {"key", "value", "variant", "reason", "metadata"} for flag in flags.values())
    assert flags["ai.search.heat"]["value"] == 1.0
    assert '"value":1.0' in answer.text
    assert answer.json()["metadata"]["configVersion"] == shop.snapshot.version


def test_bulk_is_fetched_again_only_when_context_or_configuration_changed(plane: Plane, sandbox_upstream: SandboxUpstream) -> None:
    one, other = (make_org(plane, sandbox_upstream, flags={FLAGS[0].key: FLAGS[0]}) for _ in range(2))
    context = {"targetingKey": "ana", "plan": "pro"}
    known = {"if-none-match": evaluate(one, context=context).headers["etag"]}

    same = evaluate(one, context=dict(reversed(context.items())), headers=known)
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", known["if-none-match"])
    assert evaluate(one, context=context, headers={"if-none-match": f'"x", W/{known["if-none-match"]}'}).status_code == 304
    assert evaluate(one, context={**context, "plan": "free"}, headers=known).status_code == 200
    assert evaluate(other, context=context, headers=known).status_code == 200
    one.change(flags={FLAGS[0].key: msgspec.structs.replace(FLAGS[0], exposure=Exposure())}, consents={"assistants": GRANTED})
    changed = wait_until(lambda: (found := evaluate(one, context=context, headers=known)).status_code == 200 and found, what="a new answer")
    assert changed
    assert changed.json()["flags"][0]["value"] is False


def test_web_provider_gets_new_values_for_a_new_context_though_it_sends_the_old_tag(
    plane: Plane, sandbox_upstream: SandboxUpstream
) -> None:
    for_pro = Exposure(on=True, ranges=HALF.ranges, overrides=(Override(attribute="plan", values=("pro",), variant="on"),))
    flags = [
        a_flag("plan", "boolean", False, True, key="ai.web.plan", exposure=for_pro),
        a_flag("heat", "number", 0.0, 1.0, key="ai.web.heat"),
    ]
    web = make_org(plane, sandbox_upstream, flags={flag.key: flag for flag in flags})

    told = subprocess.run(
        ["node", Path(__file__).with_name("ofrep_web.mjs"), plane.url, web.key], capture_output=True, text=True, timeout=30, check=True
    )

    found = json.loads(told.stdout)
    assert [plan for plan, _ in found["seen"]] == [False, True, True, False]
    assert found["seen"][0][1]["value"] == 1
    assert found["seen"][0][1]["flagMetadata"]["rule"] == "percentage"
    # Another plan with the old tag, the same context again, and another person, for whom the provider drops its tag.
    assert found["requests"] == [[200, False], [200, True], [304, True], [200, False]]
    assert (found["missing"]["value"], found["missing"]["errorCode"]) == (True, "FLAG_NOT_FOUND")


def test_pace_counts_each_key_apart_and_names_the_wait() -> None:
    now = [100.0]
    pace = Pace(2, 10.0, clock=lambda: now[0])

    assert [pace.wait_s("a"), pace.wait_s("a"), pace.wait_s("b")] == [0, 0, 0]
    now[0] = 103.5
    assert (pace.wait_s("a"), pace.wait_s("b")) == (7, 0)
    now[0] = 110.0
    assert pace.wait_s("a") == 0


# The model behind a name


EVERYBODY = Exposure(on=True, percentage=BUCKETS, ranges=(Range("new", 0, BUCKETS),))
BINDING = Flag(
    key="ai.chat.next-model", version=4, kind="string", variants={"old": "chat", "new": "chat-next"}, control="old",
    feature_class="assistants", sticky="user", rollout_salt="r", variant_salt="v", exposure=EVERYBODY, model="chat",
)  # fmt: skip


@pytest.fixture
def bound(plane: Plane, sandbox_upstream: SandboxUpstream) -> Org:
    """Calls to `chat` are served by `chat-next`; the flag is bound to everybody."""
    here = deployment(sandbox_upstream.base_url())
    models = {"chat": chat_model(here), "chat-next": chat_model(here, slug="chat-next", input_price=7_000_000)}
    return make_org(plane, sandbox_upstream, models=models, flags={BINDING.key: BINDING})


def expose(org: Org, **fields: Any) -> None:
    org.change(flags={BINDING.key: msgspec.structs.replace(BINDING, exposure=msgspec.structs.replace(EVERYBODY, **fields))})


def call(org: Org, model: str, headers: dict[str, str] | None = None, **fields: Any) -> None:
    answer = send(org, "/v1/chat/completions", json={"model": model, "messages": SAY_HELLO, **fields}, headers=headers or {})
    assert answer.status_code == 200, answer.text


def ask(org: Org, **options: Any) -> dict[str, Any]:
    """The event of one call to `chat` under the newest configuration, which the plane takes some milliseconds to hear of."""

    def event() -> dict[str, Any] | None:
        known = len(org.plane.events(org.id))
        call(org, "chat", **options)
        newest = org.plane.wait_for_events(org.id, known + 1)[-1]
        return newest if newest["snapshot_version"] == org.snapshot.version else None

    return wait_until(event, what="a call under the newest configuration") or {}


def detail(event: dict[str, Any]) -> str:
    return str(next(step[3] for step in event["steps"] if step[0] == "flags"))


def test_call_goes_to_the_variants_model_and_says_so(bound: Org) -> None:
    event = ask(bound)

    assert event["model"] == "chat-next"
    assert event["tags"] == {"flag.ai.chat.next-model": "new"}
    assert detail(event) == "ai.chat.next-model 4: new by percentage. Everybody is exposed."


def test_other_models_and_tenants_without_flags_are_not_asked(bound: Org, org: Org) -> None:
    call(bound, "chat-next")

    [named] = bound.plane.wait_for_events(bound.id, 1)
    assert (named["model"], named["tags"], detail(named)) == ("chat-next", {}, "")
    assert detail(ask(org)) == ""


def test_change_of_exposure_is_heeded_by_the_next_call(bound: Org) -> None:
    assert ask(bound)["model"] == "chat-next"

    expose(bound, on=False)

    assert ask(bound)["model"] == "chat"


def test_user_of_the_request_decides_by_override_and_by_percentage(bound: Org) -> None:
    expose(bound, percentage=1, overrides=(Override(attribute="user", values=("ana",), variant="new"),))

    assert ask(bound, user="ana")["model"] == "chat-next"
    assert ask(bound, user="ben")["model"] == "chat"
    assert "no user" in detail(ask(bound))


def test_cohort_by_what_the_key_proves_is_not_claimed_by_a_tag(bound: Org) -> None:
    expose(bound, cohorts=(Cohort(name="pilot", attribute="project", values=("search",)),))

    event = ask(bound, headers={"x-gatehouse-tags": "project=search"})

    assert event["model"] == "chat"
    assert "by cohort" in detail(event)


def test_flag_gives_a_key_no_more_than_it_may(bound: Org) -> None:
    bound.change_key(models=("chat",))
    event = ask(bound)

    assert event["model"] == "chat"
    assert "the key may not call chat-next" in detail(event)
    expose(bound, percentage=1)
    said = detail(ask(bound, user="ben"))  # of the control's own bucket
    assert said.endswith("old by percentage. It counts in no arm: new could not be served, the key may not call chat-next"), said


def test_withdrawn_variant_leads_back_to_the_control(bound: Org) -> None:
    models = {"chat": bound.snapshot.models["chat"]}
    bound.change(models=models)
    event = ask(bound)

    assert event["model"] == "chat"
    assert event["tags"] == {"flag.ai.chat.next-model": "old"}


def test_without_consent_to_the_flags_class_the_control_serves(bound: Org) -> None:
    flag = msgspec.structs.replace(BINDING, feature_class="agents")
    bound.change(flags={flag.key: flag}, consents={"assistants": GRANTED})
    event = ask(bound)

    assert event["model"] == "chat"
    assert "by consent" in detail(event)


def test_variant_of_a_class_without_consent_is_not_served(bound: Org) -> None:
    following = msgspec.structs.replace(bound.snapshot.models["chat-next"], feature_class="agents")
    refused = contract.Consent(feature_class="agents", granted=False, reason="Not for us.")
    bound.change(models={**bound.snapshot.models, "chat-next": following}, consents={"assistants": GRANTED, "agents": refused})
    event = ask(bound)

    assert event["model"] == "chat"
    assert "Not for us." in detail(event)


def test_name_that_only_a_flag_knows_is_served(bound: Org) -> None:
    alias = msgspec.structs.replace(BINDING, model="best")
    bound.change(flags={alias.key: alias})

    ask(bound)  # the plane knows the flag now

    call(bound, "best")

    event = bound.plane.wait_for_events(bound.id, 2)[-1]
    assert (event["model"], event["tags"]) == ("chat-next", {"flag.ai.chat.next-model": "new"})


# Treatments of more than a model


TREATMENTS = msgspec.structs.replace(
    BINDING, kind="object", variants={
        "old": {"model": "chat", "prompt": "greeting@2", "parameters": {"temperature": 0.2}},
        "new": {"model": "chat-next", "prompt": "greeting@3", "parameters": {"temperature": 0.9, "max_tokens": 8}},
    },
)  # fmt: skip
GREETING = Prompt(
    labels={"production": 2},
    versions={
        2: Version(number=2, messages=(Message("system", "Greet {{name}}."),), model="chat", parameters='{"max_tokens": 40}'),
        3: Version(number=3, messages=(Message("system", "Greet {{name}} as warmly as you can, in one line."),), model="chat"),
    },
)
BY_LABEL = {"id": "greeting", "variables": {"name": "Ada"}}


def ask_by_prompt(org: Org, path: str = "/v1/chat/completions", **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The answer and the event of a call that names a prompt and its own question."""
    known = len(org.plane.events(org.id))
    answer = send(org, path, json={"messages": SAY_HELLO, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json(), org.plane.wait_for_events(org.id, known + 1)[-1]


def test_treatment_is_another_version_of_the_prompt_a_model_and_parameters(bound: Org) -> None:
    bound.change(flags={TREATMENTS.key: TREATMENTS}, prompts={"greeting": GREETING})

    answer, event = ask_by_prompt(bound, prompt=BY_LABEL)
    same = [{"role": "system", "content": "Greet Ada as warmly as you can, in one line."}, *SAY_HELLO]
    plain, _ = ask_by_prompt(bound, model="chat-next", messages=same, temperature=0.9, max_completion_tokens=8)
    own_more, _ = ask_by_prompt(bound, prompt=BY_LABEL, max_tokens=40)
    own_less, _ = ask_by_prompt(bound, prompt=BY_LABEL, max_tokens=3)
    least, _ = ask_by_prompt(bound, model="chat-next", messages=same, temperature=0.9, max_tokens=3)

    assert (event["model"], event["tags"]) == ("chat-next", {"flag.ai.chat.next-model": "new", "prompt": "greeting@3"})
    assert (answer["choices"], answer["usage"]) == (plain["choices"], plain["usage"])
    assert answer["usage"]["completion_tokens"] <= 8  # not the 40 of the label's version
    assert own_more["usage"]["completion_tokens"] <= 8  # the treatment's is the most, and never lets a call say more than it asked for
    assert own_less["usage"]["completion_tokens"] == least["usage"]["completion_tokens"]
    assert own_less["choices"][0]["finish_reason"] == "length"


def test_call_that_the_variants_cannot_be_compared_on_takes_no_part(bound: Org) -> None:
    bound.change(flags={TREATMENTS.key: TREATMENTS}, prompts={"greeting": GREETING})

    events = [
        ask_by_prompt(bound, **fields)[1]
        for fields in (
            {"model": "chat"}, {"prompt": {**BY_LABEL, "version": 2}}, {"prompt": BY_LABEL, "temperature": 0},
        )
    ]  # fmt: skip

    assert [(event["model"], "flag.ai.chat.next-model" in event["tags"]) for event in events] == [("chat", False)] * 3
    assert [detail(event).partition("takes no part, ")[2] for event in events] == [
        "the call asks for no label of the prompt greeting.",
        "the call asks for no label of the prompt greeting.",
        "the call sets temperature itself.",
    ]


def test_version_that_the_call_cannot_have_leads_back_to_the_champions(bound: Org) -> None:
    other = msgspec.structs.replace(GREETING.versions[3], messages=(Message("system", "Greet {{name}} in {{language}}."),))
    for versions, why in (({2: GREETING.versions[2]}, "is not served"), ({**GREETING.versions, 3: other}, "needs a value for language")):
        change = bound.change_now if bound.plane.events(bound.id) else bound.change
        change(flags={TREATMENTS.key: TREATMENTS}, prompts={"greeting": msgspec.structs.replace(GREETING, versions=versions)})

        event = ask_by_prompt(bound, prompt=BY_LABEL)[1]

        assert (event["model"], event["tags"]["prompt"], event["tags"]["flag.ai.chat.next-model"]) == ("chat", "greeting@2", "old")
        assert why in detail(event)
    few = msgspec.structs.replace(TREATMENTS, exposure=msgspec.structs.replace(EVERYBODY, percentage=1))
    bound.change_now(flags={few.key: few})
    said = detail(ask_by_prompt(bound, prompt=BY_LABEL, user="ben")[1])  # else the control's arm would have callers that no treatment's has
    assert "old by percentage. It counts in no arm: new could not be served, greeting@3: The prompt needs a value" in said
