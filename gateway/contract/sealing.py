"""Upstream secrets and kept payloads at rest: Fernet (AES-128-CBC with HMAC-SHA256), several keys so that they can be rotated.

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
        return self.open_bytes(sealed).decode() if sealed else ""

    def seal_bytes(self, data: bytes) -> str:
        return self._fernet.encrypt(data).decode()

    def open_bytes(self, sealed: str) -> bytes:
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise UnsealError("what is sealed cannot be opened with the configured SEALING_KEYS") from error
