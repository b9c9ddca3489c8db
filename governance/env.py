"""Typed reading of the environment. A wrong or missing value stops the start with one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit


class SettingError(SystemExit):
    """A setting is missing or wrong; the message names it and says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(f"Gatehouse can't start: {message}")


def text(name: str, default: str | None = None) -> str:
    """The value of NAME, or the content of the file that NAME_FILE names; an empty NAME is one that is not set."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise SettingError(f"{name}_FILE names {path}, which can't be read ({error.strerror}).") from error
    value = os.environ.get(name) or default
    if value is None:
        raise SettingError(f"{name} is not set.")
    return value


def secret(name: str, *, minimum: int = 32) -> str:
    """A secret of at least `minimum` characters that is not a placeholder."""
    value = text(name)
    if len(value) < minimum or value.lower().startswith(("change", "default", "secret", "insecure", "django-insecure")):
        raise SettingError(f"{name} must be a random text of at least {minimum} characters.")
    return value


def boolean(name: str, default: bool = False) -> bool:
    value = os.environ.get(name, "").lower()
    if value in ("", "1", "true", "yes", "on", "0", "false", "no", "off"):
        return default if value == "" else value in ("1", "true", "yes", "on")
    raise SettingError(f"{name} must be true or false, not {value!r}.")


def integer(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    try:
        return int(value) if value else default
    except ValueError as error:
        raise SettingError(f"{name} must be a whole number, not {value!r}.") from error


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def mail_server(url: str) -> dict[str, object]:
    """Django's EMAIL_… settings from `smtp://user:password@host:587?tls=start`; `smtps://` speaks TLS from the first byte."""
    if not url:
        return {"EMAIL_HOST": ""}
    parts = urlsplit(url)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.query not in ("", "tls=start"):
        raise SettingError("EMAIL_URL must look like smtp://user:password@host:587?tls=start or smtps://host.")
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if parts.scheme == "smtps" else 25),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.query == "tls=start",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
    }


def database(url: str) -> dict[str, object]:
    """Django's connection parameters from `postgresql://user:password@host:port/name`."""
    parts = urlsplit(url)
    if parts.scheme not in ("postgres", "postgresql") or not parts.path.strip("/"):
        raise SettingError("DATABASE_URL must look like postgresql://user:password@host:5432/name.")
    return {
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or 5432),
    }
