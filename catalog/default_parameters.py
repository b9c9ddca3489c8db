"""Pure rules of a model's default parameters. No ORM, clock or network."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from catalog.errors import InvalidValueError
from gateway.contract.treatments import TreatmentError, checked_parameters


def known(given: Mapping[str, Any]) -> dict[str, Any]:
    """Of `treatments.PARAMETERS`, in their order. Raises InvalidValueError."""
    try:
        return checked_parameters(given)
    except TreatmentError as error:
        raise InvalidValueError(str(error), field="default_parameters") from error


def fitting(given: Mapping[str, Any], *, capabilities: Collection[str], max_output_tokens: int) -> dict[str, Any]:
    """The same, for a model that can do and write this. Raises InvalidValueError."""
    checked = known(given)
    if checked and "chat" not in capabilities:
        raise InvalidValueError("Only calls to a model that chats have parameters.", field="default_parameters")
    if checked.get("max_tokens", 0) > max_output_tokens:
        raise InvalidValueError(f"The model writes {max_output_tokens:,} tokens at most.", field="default_parameters")
    return checked
