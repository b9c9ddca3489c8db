"""Default parameters of a model: what is sent for calls that set none, in the words of each surface."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.contract import snapshot as contract
from gateway.contract.treatments import Treatment
from gateway.plane.call import Call, Surface
from gateway.plane.defaults import without_defaults
from gateway.plane.pipeline.authorize import authorize
from gateway.plane.served import Target
from gateway.plane.treatments import apply_treatment
from gateway.plane.upstream.openai import CHAT
from tests.gateway.conftest import SAY_HELLO, Org, SandboxUpstream, chat_model, deployment

ALL = {
    "top_p": 0.9, "max_tokens": 300, "temperature": 0.2, "reasoning_effort": "low", "presence_penalty": -0.5, "frequency_penalty": 0.5,
}  # fmt: skip
KEY = contract.Key(id="k", digest="", name="key", project="demo", owner="alice", models=None, tools=None)


async def filled(surface: Surface, body: dict[str, Any], *, dialect: str = "openai", **defaults: Any) -> tuple[Call, str]:
    """The call as it is sent, and what the step says."""
    model = chat_model(deployment("http://127.0.0.1:9/v1", dialect=dialect), max_output_tokens=4096, defaults=defaults)
    call = Call(cast(Any, None), "chat", {}, cast(Any, None), cast(Any, None), key=KEY, model=model, surface=surface)
    call.body, call.output_estimate = dict(body), 4096
    said = authorize(call)
    return call, said


@pytest.mark.parametrize(
    ("surface", "body", "dialect", "defaults", "sent"),
    [
        ("chat", {}, "openai", ALL, {
            "temperature": 0.2, "top_p": 0.9, "max_completion_tokens": 300, "frequency_penalty": 0.5, "presence_penalty": -0.5, "reasoning_effort": "low",
        }),
        ("chat", {}, "anthropic", ALL, {"temperature": 0.2, "max_completion_tokens": 300, "reasoning_effort": "low"}),
        ("chat", {}, "anthropic", {"temperature": 1.5, "top_p": 0.9}, {"top_p": 0.9}),
        ("chat", {"thinking": {"type": "adaptive"}}, "anthropic", ALL, {
            "thinking": {"type": "adaptive"}, "max_completion_tokens": 300, "reasoning_effort": "low",
        }),
        ("responses", {"reasoning": {"summary": "auto"}}, "openai", ALL, {
            "temperature": 0.2, "top_p": 0.9, "max_output_tokens": 300, "reasoning": {"summary": "auto", "effort": "low"},
        }),
        ("messages", {}, "openai", ALL, {"temperature": 0.2, "top_p": 0.9, "max_tokens": 300, "output_config": {"effort": "low"}}),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}, "anthropic", ALL, {
            "thinking": {"type": "enabled", "budget_tokens": 2000}, "output_config": {"effort": "low"},
        }),
        ("messages", {}, "anthropic", {"temperature": 1.5, "reasoning_effort": "none"}, {}),
        ("chat", {"top_p": 1, "max_tokens": 9, "reasoning_effort": None}, "openai", {"temperature": 0.2, "max_tokens": 300, "reasoning_effort": "low"}, {
            "top_p": 1, "max_tokens": 9, "reasoning_effort": None,
        }),
        ("chat", {"max_tokens": None}, "openai", {"max_tokens": 9000}, {"max_tokens": None, "max_completion_tokens": 4096}),
        ("count_tokens", {}, "anthropic", ALL, {}),
    ],
)  # fmt: skip
async def test_what_a_call_leaves_open_is_filled_in_as_far_as_its_surface_knows_it(
    surface: Surface, body: dict[str, Any], dialect: str, defaults: dict[str, Any], sent: dict[str, Any]
) -> None:
    call, _ = await filled(surface, body, dialect=dialect, **defaults)

    assert call.body == sent
    assert without_defaults(call) == body  # what a shadow is sent, which has its own


@pytest.mark.parametrize("base_url", ["https://api.openai.com/v1", "http://vllm.example/v1"])
async def test_most_tokens_that_the_caller_did_not_write_go_by_the_name_that_the_host_knows(base_url: str) -> None:
    knows_newer = "openai.com" in base_url
    ours, _ = await filled("chat", {"max_tokens": None}, max_tokens=300)
    theirs, _ = await filled("chat", {"max_completion_tokens": 5}, max_tokens=300)
    capped, _ = await filled("chat", {})
    apply_treatment(capped, Treatment(parameters={"max_tokens": 20}))
    target = Target(deployment(base_url, upstream_model="m"), {}, {}, b"", ())

    assert CHAT.body(ours, target) == {
        "model": "m", **({"max_tokens": None, "max_completion_tokens": 300} if knows_newer else {"max_tokens": 300}),
    }  # fmt: skip
    assert CHAT.body(theirs, target) == {"model": "m", "max_completion_tokens": 5}
    assert CHAT.body(capped, target) == {"model": "m", "max_completion_tokens" if knows_newer else "max_tokens": 20}


async def test_a_default_is_what_is_reserved_and_stands_in_the_record() -> None:
    given, said = await filled("chat", {}, max_tokens=300, temperature=0.2)
    left, nothing = await filled("chat", {})

    assert (said, given.output_estimate) == ("defaults: temperature 0.2, max_tokens 300", 300)
    assert (nothing, left.body, left.output_estimate) == ("", {}, 4096)


def test_an_answer_is_as_if_the_caller_had_said_it(org: Org, sandbox_upstream: SandboxUpstream) -> None:
    here = deployment(sandbox_upstream.base_url())
    org.change(models={"chat": chat_model(here, defaults={"max_tokens": 3}), "plain": chat_model(here, slug="plain")})

    ours = [org.post(json={"model": "chat", "messages": SAY_HELLO, **more}).json() for more in ({}, {"max_tokens": 40})]
    said = [org.post(json={"model": "plain", "messages": SAY_HELLO, "max_tokens": most}).json() for most in (3, 40)]
    listed = {row["id"]: row.get("default_parameters") for row in org.get("/v1/models").json()["data"]}

    assert [answer["usage"] for answer in ours] == [answer["usage"] for answer in said]
    assert listed == {"chat": {"max_tokens": 3}, "plain": None}
    first, *_ = org.plane.wait_for_events(org.id, 4)
    assert [step[3] for step in first["steps"] if step[0] == "authorize"] == ["defaults: max_tokens 3"]
