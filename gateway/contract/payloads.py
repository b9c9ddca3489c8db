"""What is kept of what a call said, by the payload mode of its organisation and project.

`none` and `metadata` keep nothing of it; `none` also leaves out of the record what guardrails counted in the texts. `redacted` keeps texts in
which personal data and secrets are replaced, `full` keeps them as they went by. Pictures, sound, files and vectors are never kept.
Sealed text is only as good as its key, so it says inside whose it is: a row that was given another's text does not open.
"""

from __future__ import annotations

import zlib
from typing import Any, Literal

import msgspec

from gateway.contract.guardrails import Guard, Scan, StreamScan
from gateway.contract.sealing import Sealer, UnsealError
from gateway.contract.snapshot import Guardrail, PayloadMode, PayloadRule

MODES: tuple[PayloadMode, ...] = ("none", "metadata", "redacted", "full")
"""The strictest first."""
KEEPING = frozenset(("redacted", "full"))
MOST_CHARACTERS = 64 * 1024
"""Of what was asked and of what was answered, each; names and numbers count as well."""
MOST_SEALED_BYTES = 1024 * 1024
MOST_NUMBERS = 64
"""A longer list of numbers is a vector."""
_MAX_DEPTH = 64
_PER_NODE = 8
"""What each value costs of MOST_CHARACTERS, so that a million empty ones end as well."""
_BINARY_FROM = 512
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")
CUT = "[cut]"

Part = Literal["request", "reply"]


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked and answered, as it is sealed."""

    event_id: str
    tenant: str
    """Public id."""
    request: Any
    reply: Any = None
    """None when there was none, or none that could be read."""
    is_cut: bool = False
    """Something was left out because it was too long."""


def strictest(*rules: PayloadRule) -> PayloadRule:
    """The strictest mode and the shortest time of several rules."""
    return PayloadRule(mode=min((rule.mode for rule in rules), key=MODES.index), days=min(rule.days for rule in rules))


def subject_text(tenant: str, user: str) -> str:
    """What is digested to find again what was said by one end user, see `keys.digest`. Not the same in two organisations."""
    return f"payload-subject\n{tenant}\n{user}"


def clean(value: Any, mode: PayloadMode) -> tuple[Any, bool]:
    """A copy of a request or an answer as `mode` allows it to be kept, and whether something was cut. ValueError for modes that keep nothing."""
    if mode not in KEEPING:
        raise ValueError(f"{mode} keeps no payload")
    cleaner = _Cleaner(redacts=mode == "redacted")
    return cleaner.value(value, _MAX_DEPTH), cleaner.is_cut


class _Cleaner:
    def __init__(self, *, redacts: bool) -> None:
        self._left = MOST_CHARACTERS
        self._redacts = redacts
        self.is_cut = False

    def value(self, value: Any, depth: int) -> Any:
        self._left -= _PER_NODE
        if self._left <= 0 or depth == 0:
            self.is_cut = True
            return CUT
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(str(name)): self.value(each, depth - 1) for name, each in self._some(value.items())}
        if isinstance(value, list | tuple):
            if len(value) > MOST_NUMBERS and all(isinstance(each, int | float) for each in value):
                return f"[{len(value):,} numbers]"
            return [self.value(each, depth - 1) for each in self._some(value)]
        if isinstance(value, bool) or value is None:
            return value
        return self._number(value)

    def _some(self, values: Any) -> Any:
        """As many as there is room for."""
        for each in values:
            if self._left <= 0:
                self.is_cut = True
                return
            yield each

    def _number(self, value: Any) -> Any:
        if not self._redacts:
            return value
        text = str(value)
        clean = Scan(_GUARDS).text(text)
        return value if clean == text else clean

    def text(self, text: str) -> str:
        if _is_binary(text):
            return f"[{len(text):,} characters of data]"
        is_cut = len(text) > self._left
        part = text[: max(0, self._left)]
        self._left -= len(part)
        if is_cut:
            self.is_cut = True
        if not self._redacts:
            return f"{part}{CUT}" if is_cut else part
        if is_cut:  # what the end of the part could have become is not known, so it goes
            return f"{StreamScan(Scan(_GUARDS)).feed(0, part)}{CUT}"
        return Scan(_GUARDS).text(part)


def _is_binary(text: str) -> bool:
    """A data URL, or a long run of base64: nobody reads it, and no pattern finds what is in it."""
    if text.startswith("data:") and ";base64," in text[:200]:
        return True
    return len(text) >= _BINARY_FROM and not set(text) - _BASE64


_GUARDS = tuple(Guard(Guardrail(name=kind, kind=kind, enforce=True, action="redact")) for kind in ("secrets", "pii"))


def seal(sealer: Sealer, payload: Payload) -> str | None:
    """Compressed and sealed; None when it is longer than MOST_SEALED_BYTES all the same."""
    sealed = sealer.seal_bytes(zlib.compress(msgspec.json.encode(payload)))
    return sealed if len(sealed) <= MOST_SEALED_BYTES else None


def unseal(sealer: Sealer, sealed: str, *, event_id: str, tenant: str) -> Payload:
    """UnsealError when the key is not configured, the text was changed, or it is another call's."""
    try:
        payload = msgspec.json.decode(zlib.decompress(sealer.open_bytes(sealed)), type=Payload)
    except (zlib.error, msgspec.DecodeError) as error:
        raise UnsealError("a payload cannot be read") from error
    if (payload.event_id, payload.tenant) != (event_id, tenant):
        raise UnsealError("a payload is another call's")
    return payload
