"""Upstream secrets at rest: Fernet (AES-128-CBC with HMAC-SHA256), several keys so that they can be rotated.

Keys come from the setting `SEALING_KEYS`, newest first. Signing, sealing and digests use different secrets.
"""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class UnsealError(ValueError):
    """The sealed text was made with a key that is not configured, or was changed."""


class Sealer:
    """Seals and opens text; the empty string stays empty."""

    def __init__(self, sealing_keys: Sequence[str]) -> None:
        self._fernet = MultiFernet([Fernet(key) for key in sealing_keys])

    def seal(self, text: str) -> str:
        return self._fernet.encrypt(text.encode()).decode() if text else ""

    def open(self, sealed: str) -> str:
        if not sealed:
            return ""
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken as error:
            raise UnsealError("an upstream secret cannot be opened with the configured SEALING_KEYS") from error
