"""What a variant's value may say, and what differs between two."""

from __future__ import annotations

from typing import Any, cast

import orjson
import pytest
from cryptography.fernet import Fernet

from gateway.contract import prompts
from gateway.contract.outbound import AllowList
from gateway.contract.sealing import Sealer
from gateway.contract.snapshot import TenantSnapshot
from gateway.contract.treatments import Treatment, TreatmentError, comparison_of, differences, treatment_of
from gateway.plane.call import Call
from gateway.plane.prompts import resolve_prompt
from gateway.plane.served import Served
from gateway.plane.treatments import apply_treatment


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "address of a model, or an object"),
        ({"modle": "chat"}, "not modle"),
        ({"model": 3}, "are texts"),
        ({"prompt": "greeting"}, "names no version"),
        ({"parameters": {"top_k": 3}}, "There is no parameter top_k"),
        ({"parameters": {"temperature": 2.5}}, "number from 0 to 2"),
        ({"parameters": {"temperature": True}}, "number from 0 to 2"),
        ({"parameters": {"max_tokens": 1.5}}, "whole number from 1 to 1,000,000"),
        ({"parameters": {"reasoning_effort": "most"}}, "one of none, minimal"),
    ],
)
def test_value_that_is_no_treatment_is_refused_with_its_reason(value: Any, said: str) -> None:
    with pytest.raises(TreatmentError, match=said):
        treatment_of(value)


def test_address_of_a_model_is_a_treatment_and_differences_name_what_each_side_says() -> None:
    champion = treatment_of("chat")
    challenger = treatment_of({"model": "chat", "parameters": {"temperature": 0.9, "max_tokens": 200}})

    assert champion == Treatment(model="chat")
    assert differences(champion, challenger) == [("temperature", "", "0.9"), ("max_tokens", "", "200")]
    assert differences(champion, champion) == []


def test_all_variants_name_versions_of_one_prompt_or_none_does() -> None:
    both = comparison_of({"old": {"prompt": "greeting@2"}, "new": {"prompt": "greeting@3", "parameters": {"top_p": 0.5}}})

    assert (both.prompt, both.parameters) == ("greeting", frozenset({"top_p"}))
    for other in ({}, {"prompt": "farewell@1"}):
        with pytest.raises(TreatmentError, match="the control too"):
            comparison_of({"old": other, "new": {"prompt": "greeting@3"}})
    with pytest.raises(TreatmentError, match=r"^new: "):
        comparison_of({"old": "chat", "new": 3})


@pytest.mark.parametrize(
    ("surface", "own", "capped"),
    [
        ("chat", {}, {"max_completion_tokens": 20}),
        ("chat", {"max_tokens": 50, "max_completion_tokens": 90}, {"max_tokens": 20, "max_completion_tokens": 20}),
        ("chat", {"max_tokens": 5, "max_completion_tokens": None}, {"max_tokens": 5, "max_completion_tokens": 20}),
        ("chat", {"max_output_tokens": 90}, {"max_output_tokens": 20, "max_completion_tokens": 20}),
        ("chat", {"max_tokens": "90"}, {"max_tokens": 20}),
        ("chat", {"max_tokens": -1}, {"max_tokens": 20}),
        ("chat", {"max_tokens": 9e9, "max_completion_tokens": True}, {"max_tokens": 20, "max_completion_tokens": 20}),
        ("responses", {"max_output_tokens": 90}, {"max_output_tokens": 20}),
        ("responses", {"max_completion_tokens": 5}, {"max_completion_tokens": 5, "max_output_tokens": 20}),
        ("messages", {"max_tokens": 90, "max_completion_tokens": 90}, {"max_tokens": 20, "max_completion_tokens": 20}),
    ],
)
def test_cap_holds_under_every_name_that_a_call_may_write(surface: Any, own: dict[str, Any], capped: dict[str, Any]) -> None:
    call = Call(cast(Any, None), "chat", {}, cast(Any, None), cast(Any, None), surface)
    call.body = {"model": "chat", **own}

    apply_treatment(call, Treatment(parameters={"max_tokens": 20}))

    assert call.body == {"model": "chat", **capped}
    assert call.output_estimate == 20


@pytest.mark.parametrize(
    ("surface", "body"),
    [
        ("chat", {"messages": [{"role": "user", "content": "Go on."}]}),
        ("chat", {"model": "chat", "temperature": 1}),
        ("responses", {"input": "Go on."}),
    ],
)
def test_length_of_a_body_follows_what_is_put_into_it_without_its_being_written(surface: Any, body: dict[str, Any]) -> None:
    greet, longer = prompts.Message("system", "Greet {{name}}."), prompts.Message("user", "Be brief.")
    versions = {
        2: prompts.Version(number=2, messages=(greet,), model="chat", parameters='{"temperature": 0.2}'),
        3: prompts.Version(number=3, messages=(greet, longer), parameters='{"top_p": 0.25}'),
    }
    snapshot = TenantSnapshot(
        tenant="t", slug="t", schema="t", version=1, prompts={"greeting": prompts.Prompt(labels={"production": 2}, versions=versions)}
    )
    call = Call(cast(Any, None), "chat", {}, cast(Any, None), cast(Any, None), surface)
    call.served = Served(snapshot, Sealer([Fernet.generate_key().decode()]), AllowList.parse([]))
    call.body = {"prompt": {"id": "greeting", "variables": {"name": "Zoë"}}, **body}
    call.body_bytes = len(orjson.dumps(call.body))

    resolve_prompt(call, call.body)
    filled = call.body_bytes - len(orjson.dumps(call.body))
    own, call.body["own"] = call.body_bytes, object()  # that nothing can write
    apply_treatment(call, Treatment(prompt="greeting@3", parameters={"max_tokens": 20}))
    del call.body["own"]

    assert abs(filled) < 48  # about: a text becomes a message
    assert call.body_bytes - own > 0
    assert abs(call.body_bytes - len(orjson.dumps(call.body))) < 48
