"""Sample code for callers: curl, Python and JavaScript with the official SDK; and the configuration of MCP clients."""

from __future__ import annotations

import json
from dataclasses import dataclass

KEY_VARIABLE = "$GATEHOUSE_KEY"


@dataclass(frozen=True)
class Sample:
    id: str
    title: str
    code: str


def chat_samples(base_url: str, model: str, key: str = KEY_VARIABLE) -> list[Sample]:
    """A first chat call. `key` is the variable's name, or the key itself where it is shown once."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Say hello."}]})
    openai = _samples(
        base_url,
        "chat/completions",
        body,
        key,
        (
            f'answer = client.chat.completions.create(\n    model="{model}",\n    messages=[{{"role": "user", "content": "Say hello."}}],\n)\nprint(answer.choices[0].message.content)',
            f'const answer = await client.chat.completions.create({{\n  model: "{model}",\n  messages: [{{ role: "user", content: "Say hello." }}],\n}});\nconsole.log(answer.choices[0].message.content);',
        ),
    )
    return [*openai, _anthropic_sample(base_url, model, key)]


def _anthropic_sample(base_url: str, model: str, key: str) -> Sample:
    """The gateway translates, so this works with every chat model."""
    shown = 'os.environ["GATEHOUSE_KEY"]' if key == KEY_VARIABLE else f'"{key}"'
    return Sample(
        "anthropic",
        "Anthropic SDK",
        ("import os\n\n" if key == KEY_VARIABLE else "")
        + f'from anthropic import Anthropic\n\nclient = Anthropic(base_url="{base_url}", api_key={shown})\n'
        + f'message = client.messages.create(\n    model="{model}",\n    max_tokens=200,\n'
        + '    messages=[{"role": "user", "content": "Say hello."}],\n)\nprint(message.content[0].text)',
    )


def embedding_samples(base_url: str, model: str, key: str = KEY_VARIABLE) -> list[Sample]:
    body = json.dumps({"model": model, "input": "Say hello."})
    return _samples(
        base_url,
        "embeddings",
        body,
        key,
        (
            f'answer = client.embeddings.create(model="{model}", input="Say hello.")\nprint(len(answer.data[0].embedding))',
            f'const answer = await client.embeddings.create({{ model: "{model}", input: "Say hello." }});\nconsole.log(answer.data[0].embedding.length);',
        ),
    )


def samples_for(base_url: str, model: str, capabilities: list[str], key: str = KEY_VARIABLE) -> list[Sample]:
    """Chat when the model can, embeddings otherwise."""
    return chat_samples(base_url, model, key) if "chat" in capabilities else embedding_samples(base_url, model, key)


def _samples(base_url: str, path: str, body: str, key: str, calls: tuple[str, str]) -> list[Sample]:
    python, javascript = calls
    python_key = 'os.environ["GATEHOUSE_KEY"]' if key == KEY_VARIABLE else f'"{key}"'
    javascript_key = "process.env.GATEHOUSE_KEY" if key == KEY_VARIABLE else f'"{key}"'
    imports = "import os\n\n" if key == KEY_VARIABLE else ""
    return [
        Sample(
            "curl",
            "curl",
            f'curl {base_url}/v1/{path} \\\n  -H "Authorization: Bearer {key}" \\\n  -H "Content-Type: application/json" \\\n  -d \'{body}\'',
        ),
        Sample(
            "python",
            "Python",
            f'{imports}from openai import OpenAI\n\nclient = OpenAI(base_url="{base_url}/v1", api_key={python_key})\n{python}',
        ),
        Sample(
            "javascript",
            "JavaScript",
            f'import OpenAI from "openai";\n\nconst client = new OpenAI({{ baseURL: "{base_url}/v1", apiKey: {javascript_key} }});\n{javascript}',
        ),
    ]


def mcp_config(base_url: str, namespace: str) -> str:
    """Configuration of an MCP client for one tool server behind the gateway."""
    server = {"type": "http", "url": f"{base_url}/mcp/{namespace}", "headers": {"Authorization": f"Bearer {KEY_VARIABLE}"}}
    return json.dumps({"mcpServers": {namespace: server}}, indent=2)
