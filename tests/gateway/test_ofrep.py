"""Flags over OFREP: the official OpenFeature provider, and what no provider would send."""

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

from gateway.contract.flags import BUCKETS, Exposure, Flag, Override, Range, bucket
from gateway.plane.ingress.ofrep import Pace
from tests.gateway.conftest import GRANTED, Org, Plane, SandboxUpstream, make_org, wait_until

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


def evaluate(org: Org, key: str = "", context: Any = None, **options: Any) -> httpx2.Response:
    return org.post(f"{EVALUATE}/{key}" if key else EVALUATE, json={"context": context or {}}, **options)


@pytest.mark.process
def test_every_kind_of_value_reaches_the_sdk(sdk: OpenFeatureClient) -> None:
    assert sdk.get_boolean_value("ai.search.switch", False) is True
    assert sdk.get_string_value("ai.search.prompt", "") == "new"
    assert sdk.get_integer_value("ai.search.results", 0) == 10
    assert sdk.get_float_value("ai.search.heat", 0.5) == 1.0
    assert sdk.get_object_value("ai.search.layout", {}) == {"columns": 2}


@pytest.mark.process
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


@pytest.mark.process
def test_refusals_reach_the_sdk_as_its_own_errors(sdk: OpenFeatureClient) -> None:
    unknown = sdk.get_boolean_details("ai.search.nothing", True)
    wrong = sdk.get_string_details("ai.search.switch", "default")

    assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
    assert (wrong.value, wrong.error_code) == ("default", ErrorCode.TYPE_MISMATCH)


@pytest.mark.process
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
    single = shop.post(f"{EVALUATE}/ai.search.switch", content=body)
    bulk = shop.post(EVALUATE, content=body)

    assert (single.status_code, bulk.status_code) == (400, 400)
    assert single.json() == {"key": "ai.search.switch", "errorCode": code, "errorDetails": bulk.json()["errorDetails"]}
    assert bulk.json()["errorCode"] == code


@pytest.mark.process
def test_unknown_flag_other_routes_and_methods(shop: Org) -> None:
    missing = evaluate(shop, "ai.search.nothing")
    get = httpx2.get(shop.plane.url + EVALUATE, trust_env=False)

    assert (missing.status_code, missing.json()["errorCode"]) == (404, "FLAG_NOT_FOUND")
    assert shop.post("/ofrep/v1/configuration").status_code == 404
    assert (get.status_code, get.headers["allow"]) == (405, "POST")
    assert shop.post(EVALUATE, content=b'{"context": {"a": "%s"}}' % (b"x" * 70_000)).status_code == 413


@pytest.mark.process
def test_who_asks_is_proved_by_a_key(shop: Org, org: Org) -> None:
    url = f"{shop.plane.url}{EVALUATE}"
    by_header = httpx2.post(url, json={}, headers={"x-api-key": shop.key}, trust_env=False)
    nobody = httpx2.post(url, json={}, trust_env=False)
    other = evaluate(org, "ai.search.switch", {"tenant": "shop"})

    assert by_header.status_code == 200
    assert nobody.status_code == 401
    assert other.status_code == 404  # somebody else's flags do not exist


@pytest.mark.process
def test_bulk_answers_every_flag_with_its_rule(shop: Org) -> None:
    answer = evaluate(shop, context={"targetingKey": "ana"})

    flags = {flag["key"]: flag for flag in answer.json()["flags"]}
    assert flags.keys() == {flag.key for flag in FLAGS}
    assert all(flag.keys() == {"key", "value", "variant", "reason", "metadata"} for flag in flags.values())
    assert flags["ai.search.heat"]["value"] == 1.0
    assert '"value":1.0' in answer.text
    assert answer.json()["metadata"]["configVersion"] == shop.snapshot.version


@pytest.mark.process
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


@pytest.mark.process
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
