"""The texts of an answer, as all surfaces name them."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Protocol

import orjson

from gateway.plane.errors import Refusal

Kind = Literal["text", "reasoning", "thinking", "arguments"]
"""`thinking` is reasoning that its provider signed, `arguments` is JSON."""


class Said(NamedTuple):
    """One of the texts of an answer."""

    kind: Kind
    place: tuple[Any, ...]
    """Where it stands, in the terms of its surface."""

    @property
    def is_gathered(self) -> bool:
        """Can it only be judged as a whole? JSON stays JSON, and a signed thought is passed on as it is, or not at all."""
        return self.kind in ("arguments", "thinking")


class OnText(Protocol):
    def __call__(self, said: Said, piece: str, /) -> str:
        """What may be sent of a text, given its next piece.

        Called once more with "" where the text ends, so that pieces may be held back until enough was seen. A whole answer is one piece.
        """


Text = tuple[Said, dict[str, Any], str]
"""A text, the object that holds it and the name of the field."""


def objects(value: Any) -> list[dict[str, Any]]:
    """Those in a list; none where there is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def pass_object(said: Said, arguments: Any, on_text: OnText) -> Any:
    """Arguments that are not written as a text."""
    try:
        before = orjson.dumps(arguments).decode()
    except orjson.JSONEncodeError as error:  # what was read may be nested deeper than what can be written
        raise Refusal("upstream_error", "The provider sent an answer that is nested too deeply.") from error
    after = on_text(said, before) + on_text(said, "")
    return arguments if after == before else orjson.loads(after)
