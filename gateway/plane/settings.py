"""What the operator sets, read once from the environment. A secret may come from the file named by `<NAME>_FILE`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet

from gateway.contract.outbound import AllowList

_MIN_PEPPER_CHARACTERS = 16


class SettingsError(ValueError):
    """A setting is missing or wrong; the message is the sentence that the operator reads."""


@dataclass(frozen=True)
class PlaneSettings:
    database_url: str
    data_dir: Path
    key_pepper: bytes
    sealing_keys: tuple[str, ...]
    outbound_allow: AllowList


def read(environ: Mapping[str, str] = os.environ) -> PlaneSettings:
    """Settings from the environment; SettingsError names the first thing that is wrong."""
    pepper = _required(environ, "KEY_PEPPER", "the secret under which virtual keys are digested")
    if len(pepper) < _MIN_PEPPER_CHARACTERS:
        raise SettingsError(f"KEY_PEPPER must have at least {_MIN_PEPPER_CHARACTERS} characters.")
    sealing_keys = tuple(
        key.strip() for key in _required(environ, "SEALING_KEYS", "the Fernet keys that open upstream secrets").split(",") if key.strip()
    )
    for key in sealing_keys:
        try:
            Fernet(key)
        except ValueError as error:
            raise SettingsError("SEALING_KEYS must be Fernet keys (32 bytes, URL-safe base64), separated by commas.") from error
    database_url = _required(environ, "DATABASE_URL", "the PostgreSQL database that the portal uses")
    if not database_url.startswith(("postgres://", "postgresql://")):
        raise SettingsError("DATABASE_URL must start with postgres:// or postgresql://.")
    return PlaneSettings(
        database_url=database_url,
        data_dir=Path(environ.get("DATA_DIR") or ".data").resolve(),
        key_pepper=pepper.encode(),
        sealing_keys=sealing_keys,
        outbound_allow=AllowList.parse(environ.get("OUTBOUND_ALLOW", "").split(",")),
    )


def _required(environ: Mapping[str, str], name: str, meaning: str) -> str:
    value = environ.get(name, "")
    path = environ.get(f"{name}_FILE", "")
    if not value and path:
        try:
            value = Path(path).read_text().strip()
        except OSError as error:
            raise SettingsError(f"{name}_FILE names {path}, which cannot be read: {error.strerror}.") from error
    if not value:
        raise SettingsError(f"{name} is not set. It is {meaning}; set it, or {name}_FILE.")
    return value
