"""Between protocols that differ: one file for each pair of the caller's protocol and the upstream's.

A field without a counterpart is dropped where it changes no answer (the tables in the files say which, and `docs/gateway.md` lists
them), and otherwise refused with `invalid_request` and its name. What neither table knows is passed on as it is: the upstream may
understand it, and says so if it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
import orjson

from gateway.plane.errors import Refusal

T = TypeVar("T")


def refuse(param: str, why: str) -> NoReturn:
    """The request cannot be said in the upstream's protocol."""
    raise Refusal("invalid_request", f"{param}: {why}", param=param)


def no_counterpart(param: str, protocol: str) -> NoReturn:
    refuse(param, f"the model is served in the {protocol} protocol, which has no counterpart for this.")


def objects(value: Any, param: str) -> list[dict[str, Any]]:
    """A list of objects, or a refusal."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        refuse(param, "must be a list of objects.")
    return value


def text(value: Any, param: str) -> str:
    """A string, or a refusal."""
    if not isinstance(value, str):
        refuse(param, "must be a string.")
    return value


def passed_on(
    body: Mapping[str, Any], handled: frozenset[str], dropped: frozenset[str], only: Mapping[str, Any], protocol: str
) -> dict[str, Any]:
    """The fields that go up as they are. `only` names fields that can be left out as long as they hold this value."""
    kept = {}
    for name, value in body.items():
        if value is None or name in handled or name in dropped:
            continue
        if name not in only:
            kept[name] = value
        elif value != only[name] and value not in ({}, [], ""):
            no_counterpart(name, protocol)
    return kept


def translated(surface: str, build: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The request that `build` makes. Refusal where the caller's request does not fit the caller's own protocol: what passes
    through is judged by the provider, but what must be understood is judged here.
    """
    try:
        return build()
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise Refusal("invalid_request", f"The request does not fit {surface}: a field is not of the kind that belongs there.") from error


def understood(provider: str, payload: bytes, read: Callable[[Any], T]) -> T:
    """What `read` makes of an upstream's JSON. Refusal when it does not fit the upstream's protocol."""
    try:
        return read(orjson.loads(payload))
    except (ValueError, LookupError, TypeError, AttributeError, msgspec.MsgspecError) as error:
        raise Refusal("upstream_error", f"The provider {provider} sent something that does not fit its protocol.") from error
