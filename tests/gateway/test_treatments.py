"""What a variant's value may say, and what differs between two."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.contract.treatments import Treatment, TreatmentError, comparison_of, differences, treatment_of


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
