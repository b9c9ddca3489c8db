"""What a provider's account is proved with: kinds of credentials, how they are kept, and how tokens are asked for with them.

A credential is kept as one sealed text (`sealing`): a plain key as it is, every other kind as a JSON object of its fields. Here are the
fields, their checks and the pure part of getting a token; who sends the request is the plane (aiohttp) or the portal (httpx2).
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal
from urllib.parse import urlencode

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

CredentialKind = Literal["key", "entra_id", "service_account", "aws_keys"]

ENTRA_SCOPE = "https://cognitiveservices.azure.com/.default"
FOUNDRY_SCOPE = "https://ai.azure.com/.default"
"""Of models in Foundry that are not OpenAI's."""
STORAGE_SCOPE = "https://storage.azure.com/.default"
"""Of Azure Storage, in every cloud of Azure."""
GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
MAX_RSA_BITS = 4096
"""Signing takes time by the cube of the length, and a plane does nothing else meanwhile."""
ASSERTION_S = 3600
"""How long a signed assertion is good for: the most that Google takes."""
_TENANT_ID = re.compile(r"[A-Za-z0-9.-]{1,100}")


class CredentialError(ValueError):
    """A credential is not complete or not of its kind. The message is fit for people; `field` is the one that is wrong."""

    def __init__(self, message: str, field: str = "secret") -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, repr=False)
class Key:
    """An API key, sent as it is; empty where the upstream wants none."""

    secret: str

    @property
    def label(self) -> str:
        return ""

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.secret,) if self.secret else ()


@dataclass(frozen=True, repr=False)
class EntraId:
    """An application of Microsoft Entra ID with a client secret (OAuth 2.0 client credentials)."""

    tenant_id: str
    client_id: str
    client_secret: str
    token_url: str = ""
    """Another token service, for national clouds; empty is the public one."""
    scope: str = ENTRA_SCOPE

    def __post_init__(self) -> None:
        _demand(self, "tenant_id", "client_id", "client_secret")
        if not _TENANT_ID.fullmatch(self.tenant_id):
            raise CredentialError("The tenant is an id (GUID) or a domain name.", "tenant_id")

    @property
    def label(self) -> str:
        return self.client_id

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.client_secret,)

    @property
    def token_endpoint(self) -> str:
        return self.token_url or f"https://login.microsoftonline.com/{self.tenant_id}/oauth2/v2.0/token"

    def token_form(self, now: float) -> str:
        return urlencode({
            "grant_type": "client_credentials", "client_id": self.client_id, "client_secret": self.client_secret, "scope": self.scope,
        })  # fmt: skip


@dataclass(frozen=True, repr=False)
class ServiceAccount:
    """A Google service account with a private key: a signed assertion is exchanged for a token (RFC 7523)."""

    client_email: str
    private_key: str
    """RSA, PEM."""
    private_key_id: str = ""
    token_uri: str = GOOGLE_TOKEN_URL
    project_id: str = ""

    def __post_init__(self) -> None:
        _demand(self, "client_email", "private_key", "token_uri")
        _rsa(self.private_key)

    @property
    def label(self) -> str:
        return self.client_email

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.private_key,)

    @property
    def token_endpoint(self) -> str:
        return self.token_uri

    def token_form(self, now: float) -> str:
        """`now` in seconds since the epoch."""
        head = {"alg": "RS256", "typ": "JWT", **({"kid": self.private_key_id} if self.private_key_id else {})}
        claims = {
            "iss": self.client_email, "scope": GOOGLE_SCOPE, "aud": self.token_uri, "iat": int(now), "exp": int(now) + ASSERTION_S,
        }  # fmt: skip
        signed = f"{_part(head)}.{_part(claims)}"
        signature = _rsa(self.private_key).sign(signed.encode(), PKCS1v15(), hashes.SHA256())
        assertion = f"{signed}.{_base64url(signature)}"
        return urlencode({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion})


@dataclass(frozen=True, repr=False)
class AwsKeys:
    """Access keys of AWS, which sign each request (`sigv4`)."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""

    def __post_init__(self) -> None:
        _demand(self, "access_key_id", "secret_access_key")

    @property
    def label(self) -> str:
        return self.access_key_id

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.secret_access_key, self.session_token) if self.session_token else (self.secret_access_key,)


Credential = Key | EntraId | ServiceAccount | AwsKeys
WithToken = EntraId | ServiceAccount
_KINDS: dict[str, type[EntraId] | type[ServiceAccount] | type[AwsKeys]] = {
    "entra_id": EntraId,
    "service_account": ServiceAccount,
    "aws_keys": AwsKeys,
}


def make(kind: str, given: Mapping[str, str]) -> Credential:
    """A credential of its fields. CredentialError names the field that is missing, unknown or wrong."""
    given = {name: value.strip() for name, value in given.items()}
    if kind == "key":
        _no_others(given, {"secret"})
        return Key(given.get("secret", ""))
    if "service_account" in given:  # the whole file that Google gives out, with more in it than we need
        _no_others(given, {"service_account"})
        given = _of_file(given["service_account"])
    chosen = _KINDS[kind]
    if kind == "service_account" and given.get("private_key"):
        _rsa(given["private_key"], is_new=True)
    _no_others(given, {field.name for field in fields(chosen)})
    return chosen(**{field.name: given.get(field.name) or ("" if field.default is MISSING else field.default) for field in fields(chosen)})


def dump(credential: Credential) -> str:
    """As `read` takes it; to be sealed."""
    if isinstance(credential, Key):
        return credential.secret
    return json.dumps({field.name: getattr(credential, field.name) for field in fields(credential)})


def read(kind: str, text: str) -> Credential:
    """A credential that was kept. CredentialError when there is none, or when it is not of this kind."""
    if kind == "key":
        return Key(text)
    if not text:
        raise CredentialError("no credential is set")
    try:
        return _KINDS[kind](**json.loads(text))
    except (ValueError, TypeError, KeyError) as error:
        raise CredentialError("the credential is not of its kind; set it again") from error


@dataclass(frozen=True, repr=False)
class Token:
    value: str
    expires_in_s: float


def read_token(status: int, body: bytes) -> Token:
    """The answer of a token service. CredentialError with the service's own error code, never its text: it may quote what was sent."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CredentialError(f"the token service answered with HTTP {status} and no JSON")
    value, lifetime = answer.get("access_token"), answer.get("expires_in")
    if status != 200 or not isinstance(value, str) or not value:
        code = answer.get("error")
        known = f", {code}" if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,40}", code) else ""
        raise CredentialError(f"the token service refused the credential (HTTP {status}{known})")
    # RFC 6749 only recommends to say how long a token lives, and some services say it as text.
    is_number = isinstance(lifetime, int | float) or (isinstance(lifetime, str) and lifetime.isascii() and lifetime.isdecimal())
    try:
        seconds = float(lifetime or 0) if is_number else 300.0
    except OverflowError:
        seconds = math.inf
    if math.isnan(seconds) or seconds < 1:  # it would be asked for anew, and signed for, with each call
        raise CredentialError("the token service gave a token that lives for less than a second")
    return Token(value, seconds)


def _demand(credential: object, *names: str) -> None:
    for name in names:
        value = getattr(credential, name)
        if not isinstance(value, str) or not value:
            raise CredentialError(f"{name.replace('_', ' ').capitalize()} is missing.", name)


def _no_others(given: Mapping[str, str], known: set[str]) -> None:
    for name in given:
        if name not in known:
            raise CredentialError(f"{name} does not belong to this kind of credential.", name)


def _of_file(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise CredentialError("This is not the JSON file of a service account.", "service_account") from error
    if not isinstance(found, dict) or found.get("type", "service_account") != "service_account":
        raise CredentialError("This is JSON, but not the file of a service account.", "service_account")
    known = {field.name for field in fields(ServiceAccount)}
    picked = {name: value for name, value in found.items() if name in known and isinstance(value, str)}
    for name in ("client_email", "private_key"):
        if not picked.get(name):
            raise CredentialError(f"The file has no {name}.", "service_account")
    return picked


def _rsa(pem: str, *, is_new: bool = False) -> RSAPrivateKey:
    """The arithmetic of a key is proved when it is new only: that takes a tenth of a second, in which a plane would do nothing else."""
    try:
        key = load_pem_private_key(pem.encode(), password=None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, RSAPrivateKey) and key.key_size > MAX_RSA_BITS:
            raise CredentialError(f"The private key is larger than {MAX_RSA_BITS:,} bits.", "service_account")
        if is_new:
            load_pem_private_key(pem.encode(), password=None)
    except CredentialError:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CredentialError("The private key cannot be read.", "service_account") from error
    if not isinstance(key, RSAPrivateKey):
        raise CredentialError("The private key is not an RSA key.", "service_account")
    return key


def _part(data: dict[str, Any]) -> str:
    return _base64url(json.dumps(data, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
