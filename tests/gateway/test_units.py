"""Sound, images, hour-long cache writes and tools that the provider ran: disjoint from plain tokens, whatever a provider says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.contract.events import CACHED_UNITS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS
from gateway.contract.snapshot import Model
from gateway.plane.ingress.genai import tokens_of
from gateway.plane.pipeline.settle import money_of
from gateway.plane.upstream.openai import RESPONSES
from gateway.plane.usage import CachedDetails, CompletionDetails, MessagesUsage, PromptDetails, Usage, asked_output, usage_of_body

COUNTS = st.one_of(st.none(), st.integers(0, 1000))


@given(*[COUNTS] * 9, st.integers(0, 1000))
def test_classes_sum_to_what_the_provider_counts(
    given_tokens: int | None,
    made: int | None,
    cached: int | None,
    written: int | None,
    audio: int | None,
    image: int | None,
    cached_audio: int | None,
    audio_out: int | None,
    image_out: int | None,
    hour: int,
) -> None:
    usage = Usage(
        given_tokens,
        made,
        PromptDetails(cached, written, audio, image, CachedDetails(cached_audio)),
        CompletionDetails(None, audio_out, image_out),
        others={"cache_write_1h": hour, "web_search": 2},
    )

    units = usage.units or {}

    def of(names: tuple[str, ...]) -> int:
        return sum(units.get(name, 0) for name in names)

    # The plain class of each figure is what its units leave, so none may take more than is there.
    assert of(INPUT_UNITS) <= max(0, (given_tokens or 0) - (cached or 0) - (written or 0))
    assert of(CACHED_UNITS) == min(cached_audio or 0, cached or 0)
    assert of(WRITE_UNITS) == min(hour, written or 0)
    assert of(OUTPUT_UNITS) == min((audio_out or 0) + (image_out or 0), made or 0)
    assert units["web_search"] == 2
    assert all(units.values())


@pytest.mark.parametrize(
    ("usage", "units"),
    [
        ({"prompt_tokens": 90, "prompt_tokens_details": {"audio_tokens": 60, "cached_tokens": 0}}, {"audio_input": 60}),
        # Forty of the sixty were cached: there is room for fifty only.
        ({"prompt_tokens": 90, "prompt_tokens_details": {"audio_tokens": 60, "cached_tokens": 40}}, {"audio_input": 50}),
        # What was both is said: the rest of the sound was not cached.
        (
            {
                "prompt_tokens": 90,
                "prompt_tokens_details": {
                    "audio_tokens": 60,
                    "cached_tokens": 40,
                    "cached_tokens_details": {"audio_tokens": 35, "text_tokens": 5},
                },
            },
            {"audio_input": 25, "cached_audio": 35},
        ),
        ({"completion_tokens": 30, "completion_tokens_details": {"audio_tokens": 25, "reasoning_tokens": 0}}, {"audio_output": 25}),
        ({"prompt_tokens": 5, "completion_tokens": 5, "prompt_tokens_details": {"audio_tokens": 0}}, None),
        ({"prompt_tokens": 5, "completion_tokens": 5}, None),
    ],
)
def test_chat_completions(usage: dict[str, Any], units: dict[str, int] | None) -> None:
    found = usage_of_body(msgspec.json.encode({"usage": usage}))

    assert found is not None
    assert found.units == units


def test_responses_tell_images_in_their_usage_and_tools_in_their_output() -> None:
    body = {
        "usage": {
            "input_tokens": 50,
            "output_tokens": 40,
            "input_tokens_details": {"cached_tokens": 0, "image_tokens": 20, "text_tokens": 30},
            "output_tokens_details": {"reasoning_tokens": 4, "image_tokens": 10},
        },
        "output": [
            {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}},
            {"type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "https://example.org"}},
            {"type": "web_search_call", "status": "completed"},
            {"type": "file_search_call", "queries": ["x"]},
            {"type": "message", "content": []},
        ],
    }

    _, usage = RESPONSES.whole(None, msgspec.json.encode(body))  # type: ignore[arg-type]  # the call is not looked at

    assert usage is not None
    assert usage.units == {"image_input": 20, "image_output": 10, "web_search": 2, "file_search": 1}


def test_messages_tell_hour_long_cache_writes_and_searches() -> None:
    begun = msgspec.convert(
        {
            "input_tokens": 10,
            "cache_creation_input_tokens": 500,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 400},
        },
        MessagesUsage,
    )

    usage = begun.updated(msgspec.convert({"output_tokens": 7, "server_tool_use": {"web_search_requests": 3}}, MessagesUsage)).normal()

    assert (usage.prompt_tokens, usage.completion_tokens) == (510, 7)
    assert usage.units == {"cache_write_1h": 400, "web_search": 3}


def test_traces_tell_modalities_by_the_convention() -> None:
    found = tokens_of(
        {
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 30,
            "gen_ai.usage.cache_read.input_tokens": 50,
            "gen_ai.usage.audio.input_tokens": 70,
            "gen_ai.usage.audio.cache_read.input_tokens": 30,
            "gen_ai.usage.image.output_tokens": 30,
        }
    )

    assert (found.input, found.output, found.units) == (100, 30, {"audio_input": 40, "cached_audio": 30, "image_output": 30})


def test_budgets_are_settled_by_what_units_cost() -> None:
    model = Model(
        slug="voice", capabilities=("chat",), feature_class="assistants", deployments=(), input_price=1, output_price=4,
        unit_prices={"audio_input": 32, "cached_audio": 2, "web_search": 10_000},
    )  # fmt: skip
    usage = Usage(
        100,
        10,
        PromptDetails(cached_tokens=20, audio_tokens=60, cached_tokens_details=CachedDetails(audio_tokens=20)),
        others={"web_search": 1},
    )
    call: Any = SimpleNamespace(model=model, usage=usage, kind="chat")

    assert money_of(call, model, 100, 10) == 40 + 40 * 32 + 20 * 2 + 10 * 4 + 10_000
    usage.completion_tokens_details = CompletionDetails(audio_tokens=5)
    assert money_of(call, model, 100, 10) is None  # nobody knows: what was reserved stays spent


@pytest.mark.parametrize(
    ("surface", "request_body", "most"),
    [
        ("chat", {"max_completion_tokens": 7}, 7),
        ("chat", {"max_tokens": 7, "n": 3}, 21),
        ("chat", {"max_completion_tokens": 1, "max_tokens": 64_000}, 64_000),  # some upstreams only know the older name
        ("chat", {"max_tokens": 1, "max_completion_tokens": 64_000.0}, 4096),
        ("responses", {"max_output_tokens": 7}, 7),
        ("responses", {"max_completion_tokens": 1, "max_output_tokens": 64_000}, 64_000),
        ("responses", {"max_tokens": 1}, 4096),
        ("messages", {"max_tokens": 1, "max_completion_tokens": 64_000}, 64_000),  # passed on, and OpenAI's own
        ("messages", {"max_tokens": 7, "max_output_tokens": None}, 7),
        ("count_tokens", {}, 4096),
    ],
)
def test_no_field_makes_the_worst_case_of_a_call_smaller_than_what_may_be_written(
    surface: str, request_body: dict[str, Any], most: int
) -> None:
    assert asked_output(request_body, surface, 4096) == most
