"""A server that nobody here wrote as upstream: LiteLLM's proxy with replies of its own, in an environment of its own. `make soak`.

The sandbox speaks the protocols as we read them; this one as somebody else does.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from benchmarks.peers import litellm_program, running_litellm
from gateway.contract.sealing import Sealer
from tests import bootstrap
from tests.gateway.conftest import Plane, SandboxUpstream, chat_model, deployment, make_org

pytestmark = [pytest.mark.soak, pytest.mark.process]
SAID = "Bills become explanations, one call at a time."
KEY = "sk-upstream"
TOOLS: list[Any] = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its base URL. It knows one model, and refuses whoever has not its key."""
    models = {
        "model_list": [{"model_name": "upstream", "litellm_params": {"model": "openai/any", "api_key": "none", "mock_response": SAID}}]
    }
    config = json.dumps({**models, "general_settings": {"master_key": KEY}})  # JSON is YAML
    with running_litellm(litellm_program(), config, tmp_path_factory.mktemp("litellm")) as url:
        yield f"{url}/v1"


def test_server_that_nobody_here_wrote_is_served_through_every_surface(
    plane: Plane, sandbox_upstream: SandboxUpstream, foreign: str
) -> None:
    seal = Sealer([bootstrap.SECRETS["SEALING_KEYS"]]).seal
    here = {
        "chat": deployment(foreign, id="chat", sealed_secret=seal(KEY), upstream_model="upstream"),
        "wrong": deployment(foreign, id="wrong", sealed_secret=seal("sk-wrong"), upstream_model="upstream"),
        "unknown": deployment(foreign, id="unknown", sealed_secret=seal(KEY), upstream_model="nowhere"),
    }
    models = {slug: chat_model(given, slug=slug) for slug, given in here.items()}
    org = make_org(plane, sandbox_upstream, models=models)
    client, hello = org.client(), [{"role": "user", "content": "Hello"}]
    asked: dict[str, Any] = {"model": "chat", "messages": hello}

    whole = client.chat.completions.create(**asked, tools=TOOLS)
    hidden = list(client.chat.completions.create(**asked, stream=True))
    shown = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    with contextlib.closing(anthropic.Anthropic(base_url=org.plane.url, api_key=org.key, max_retries=0)) as claude:
        message = claude.messages.create(model="chat", max_tokens=50, messages=hello)  # type: ignore[arg-type]
        with claude.messages.stream(model="chat", max_tokens=50, messages=hello) as stream:  # type: ignore[arg-type]
            streamed = stream.get_final_message()
    refused = []
    for slug in ("wrong", "unknown"):
        with pytest.raises(openai.APIStatusError) as error:
            client.chat.completions.create(**{**asked, "model": slug})
        assert isinstance(error.value.body, dict)
        refused.append((error.value.status_code, error.value.code, error.value.body["scope"]))

    assert whole.choices[0].message.content == SAID
    for chunks in (hidden, shown):
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == SAID
    assert [chunk for chunk in hidden if chunk.usage] == []
    for given in (message, streamed):
        assert [block.text for block in given.content if block.type == "text"] == [SAID]
    assert refused == [(400, "upstream_error", "deployment:wrong"), (400, "upstream_error", "deployment:unknown")]
    events = plane.wait_for_events(org.id, 7)
    said = [(event["input_tokens"], event["output_tokens"], event["usage_source"]) for event in events if event["status"] == "ok"]
    assert whole.usage is not None
    last = shown[-1].usage
    assert last is not None
    assert len(said) == 5
    assert said[0] == (whole.usage.prompt_tokens, whole.usage.completion_tokens, "provider")
    assert said[2] == (last.prompt_tokens, last.completion_tokens, "provider")
    assert {source for _, _, source in said} == {"provider"}
