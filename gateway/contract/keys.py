"""The form of a secret that Gatehouse gives out: `<prefix>_<tenant>_<id>_<secret><check>`.

`ghk` is a virtual key for the gateway, `ght` a token for the REST API. Tenant and id are lower-case letters and digits,
the secret is 32 random bytes as 43 base62 characters, the check is the CRC-32 of all before it as 6 base62 characters: a typo
is told apart from a revoked key without a look-up. For secret scanners: `gh[kt]_[a-z0-9]{4,16}_[a-z0-9]{4,16}_[0-9A-Za-z]{49}`.

At rest there is only HMAC-SHA256(pepper, whole key).

A session token, `ghw_<tenant>_<key id>_<expiry>_<signature>`, lets the portal's own pages act as an existing virtual key for
an hour. It is signed, not stored: whoever disables the key disables its tokens. The expiry is in hexadecimal digits, the signature 43 base62
characters; for secret scanners: `ghw_[a-z0-9]{4,16}_[a-z0-9]{4,16}_[0-9a-f]{8}_[0-9A-Za-z]{43}`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import zlib
from typing import Literal, NamedTuple

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_SECRET_LENGTH = 43
_CHECK_LENGTH = 6
_PUBLIC_ID = re.compile(r"[a-z0-9]{4,16}")
SESSION_PREFIX = "ghw"
"""No other vendor's: `gho`, `ghp`, `ghr`, `ghs` and `ghu` are GitHub's."""
_SESSION_DOMAIN = b"gatehouse session token\0"
"""Keeps signatures of session tokens apart from digests of keys, which use the same pepper."""

Prefix = Literal["ghk", "ght"]


class MalformedKeyError(ValueError):
    """Not a key of this form, or mistyped (the check does not match)."""


class ParsedKey(NamedTuple):
    prefix: str
    tenant: str
    id: str


class SessionToken(NamedTuple):
    tenant: str
    key_id: str
    expires_at: int
    """Seconds since the epoch, UTC."""


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, rest = divmod(number, 62)
        digits.append(_BASE62[rest])
    return "".join(reversed(digits))


def new_id(length: int = 8) -> str:
    """A random public id without look-alike characters."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(length))


def generate(prefix: Prefix, tenant: str, key_id: str) -> str:
    """A new key. It is shown once and kept only as its digest."""
    head = f"{prefix}_{tenant}_{key_id}_" + _base62(int.from_bytes(secrets.token_bytes(32)), _SECRET_LENGTH)
    return head + _base62(zlib.crc32(head.encode()), _CHECK_LENGTH)


def parse(text: str) -> ParsedKey:
    """Split a key into prefix, tenant and id; MalformedKeyError when the form or the check is wrong."""
    parts = text.split("_")
    if len(parts) != 4 or parts[0] not in ("ghk", "ght") or len(parts[3]) != _SECRET_LENGTH + _CHECK_LENGTH or len(text) > 128:
        raise MalformedKeyError("not a Gatehouse key")
    if not (_PUBLIC_ID.fullmatch(parts[1]) and _PUBLIC_ID.fullmatch(parts[2])):
        raise MalformedKeyError("not a Gatehouse key")
    if not text.isascii() or _base62(zlib.crc32(text[:-_CHECK_LENGTH].encode()), _CHECK_LENGTH) != text[-_CHECK_LENGTH:]:
        raise MalformedKeyError("the key is mistyped: its check characters do not match")
    return ParsedKey(parts[0], parts[1], parts[2])


def digest(key: str, pepper: bytes) -> str:
    """The keyed digest that is stored and compared."""
    return hmac.new(pepper, key.encode(), hashlib.sha256).hexdigest()


def matches(key: str, stored_digest: str, pepper: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(digest(key, pepper), stored_digest)


def session_token(tenant: str, key_id: str, expires_at: int, pepper: bytes) -> str:
    """A token that acts as virtual key `key_id` of `tenant` until `expires_at` (seconds since the epoch, UTC)."""
    head = f"{SESSION_PREFIX}_{tenant}_{key_id}_{expires_at:x}_"
    return head + _session_signature(head, pepper)


def verify_session_token(text: str, pepper: bytes) -> SessionToken:
    """Read a session token; MalformedKeyError when its form or signature is wrong. Expiry is left to the caller."""
    parts = text.split("_")
    if len(parts) != 5 or parts[0] != SESSION_PREFIX or len(text) > 128 or not text.isascii():
        raise MalformedKeyError("not a Gatehouse session token")
    signature = _session_signature(text[: -len(parts[4])] if parts[4] else text, pepper)
    if not hmac.compare_digest(signature, parts[4]):
        raise MalformedKeyError("the session token's signature does not match")
    return SessionToken(parts[1], parts[2], int(parts[3], 16))


def _session_signature(head: str, pepper: bytes) -> str:
    mac = hmac.new(pepper, _SESSION_DOMAIN + head.encode(), hashlib.sha256).digest()
    return _base62(int.from_bytes(mac), _SECRET_LENGTH)
