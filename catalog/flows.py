"""Pure rules of a flow's configuration: its published schema, the order of its steps, and what it names. No ORM, clock or network.

The gateway does not run flows; it keeps their versions and hands them out. What only the program understands stands in `settings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import jsonschema_rs

from catalog.errors import InvalidValueError
from gateway.contract.prompts import DEFAULT_LABEL

SCHEMA_FILE = Path(__file__).with_name("flow.schema.json")
MOST_CHARACTERS = 100_000
MOST_SAID = 5
"""Complaints in one message; whoever mends these sees the next ones."""


@dataclass(frozen=True)
class Reference:
    """Something of the catalog that a flow names, and where."""

    kind: Literal["model", "prompt", "tool"]
    name: str
    path: str
    """Such as `steps[2].prompt`."""


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of a configuration, for editors and other tools."""
    found: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    return found


@cache
def _validator() -> Any:
    return jsonschema_rs.validator_for(schema())


def checked_flow(flow: Any) -> dict[str, Any]:
    """The configuration. Raises InvalidValueError with the path of what is wrong."""
    if not isinstance(flow, dict) or not flow:
        raise InvalidValueError("A flow's configuration is a JSON object with steps.", field="flow")
    if len(json.dumps(flow)) > MOST_CHARACTERS:
        raise InvalidValueError(f"A flow's configuration has {MOST_CHARACTERS:,} characters at most.", field="flow")
    refuse(list(_problems(flow)))
    return flow


def is_of_schema(flow: Any) -> bool:
    """Whether it can be read what the configuration names: one from before the schema was kept may name it anywhere."""
    return bool(_validator().is_valid(flow))


def refuse(problems: list[str]) -> None:
    """Raises InvalidValueError unless there are none."""
    if problems:
        more = f" And {len(problems) - MOST_SAID} more." if len(problems) > MOST_SAID else ""
        raise InvalidValueError(" ".join(problems[:MOST_SAID]) + more, field="flow")


def _problems(flow: dict[str, Any]) -> Iterator[str]:
    by_schema = [f"{_path(error.instance_path)}: {_said(error)}" for error in _validator().iter_errors(flow)]
    if by_schema:  # the other rules lean on its shape
        yield from by_schema
        return
    ids = [step["id"] for step in flow["steps"]]
    for place, step in enumerate(flow["steps"]):
        if step["id"] in ids[:place]:
            yield f"steps[{place}].id: {step['id']} is the id of another step, too."
        if "tool" in step and ("model" in step or "prompt" in step):
            yield f"steps[{place}].tool: a step uses a tool, or asks a model; make two of it."
        for number, before in enumerate(step.get("after", [])):
            if before not in ids:
                yield f"steps[{place}].after[{number}]: there is no step {before[:40]}."
    circle = _circle({step["id"]: step.get("after", []) for step in flow["steps"]}) if len(set(ids)) == len(ids) else []
    if circle:
        yield f"steps: {' after '.join(circle)} never begins."
    if "output" in flow and flow["output"] not in ids:
        yield f"output: there is no step {flow['output'][:40]}."


def _circle(after: Mapping[str, list[str]]) -> list[str]:
    """Ids of steps that wait for each other, the first one again at the end; empty when every step can begin."""
    open_steps = {name: [one for one in before if one in after] for name, before in after.items()}
    while ready := [name for name, before in open_steps.items() if not any(one in open_steps for one in before)]:
        for name in ready:
            del open_steps[name]
    if not open_steps:
        return []
    seen = [next(iter(open_steps))]
    while True:
        following = next(one for one in open_steps[seen[-1]] if one in open_steps)
        if following in seen:
            return [*seen[seen.index(following) :], following]
        seen.append(following)


def _path(parts: list[str | int]) -> str:
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return said.removeprefix(".") or "flow"


_LIKE = {
    "id": "an id is lower-case letters, digits, hyphens and underscores, a letter first, 40 at most.",
    "prompt": "a prompt is named like greeting, greeting@staging or greeting@3.",
    "tool": "a tool is named <namespace>__<tool>.",
}
"""Instead of a pattern."""


def _said(error: Any) -> str:
    message, last = error.message, error.instance_path[-1:]
    if " does not match " in message and last and last[0] in _LIKE:
        return _LIKE[last[0]]
    return f"{message if len(message) <= 200 else f'{message[:197]}...'}."


def references(flow: Mapping[str, Any]) -> list[Reference]:
    """What the steps name. Of a configuration from before the schema was kept, what can be read of it."""
    steps = flow.get("steps")
    kinds: tuple[Literal["model", "prompt", "tool"], ...] = ("model", "prompt", "tool")
    return [
        Reference(kind, step[kind], f"steps[{place}].{kind}")
        for place, step in enumerate(steps if isinstance(steps, list) else [])
        if isinstance(step, dict)
        for kind in kinds
        if isinstance(step.get(kind), str)
    ]


def split_prompt(name: str) -> tuple[str, str]:
    """Slug, and label or number, of a prompt as a step names it."""
    slug, at, wanted = name.partition("@")
    return slug, wanted if at else DEFAULT_LABEL


def models_of(flow: Mapping[str, Any], model: str = "") -> list[str]:
    """Slugs of the models that it names itself, `model` with them."""
    return sorted({one.name for one in references(flow) if one.kind == "model"} | ({model} if model else set()))


def tools_of(flow: Mapping[str, Any]) -> list[str]:
    """Namespaces of the tools that it names."""
    return sorted({one.name.partition("__")[0] for one in references(flow) if one.kind == "tool"})
