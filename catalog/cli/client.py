"""The REST API, and where it is: the environment first, then what `gatehouse login` wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from catalog.cli.errors import CliError, RefusedError, UsageError

TIMEOUT_S = 60.0  # a live check waits for a provider
LARGEST_PAGE = 200


def config_path(environ: Mapping[str, str] = os.environ) -> Path:
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME", "~")).expanduser() / ".config")
    return Path(environ.get("GATEHOUSE_CONFIG") or f"{base}/gatehouse/config.json")


def write_config(url: str, token: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Keep both for later commands, readable by their owner only."""
    path = config_path(environ)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(descriptor, 0o600)  # also when it was there before
    with os.fdopen(descriptor, "w") as file:
        json.dump({"url": url, "token": token}, file)
    return path


def settings(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """URL and token. Raises UsageError when one is missing or no use."""
    kept: dict[str, str] = {}
    path = config_path(environ)
    if path.exists():
        try:
            kept = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} can't be read: {error}") from error
    url = environ.get("GATEHOUSE_URL") or kept.get("url", "")
    token = environ.get("GATEHOUSE_TOKEN") or (
        kept.get("token", "") if url == kept.get("url") else ""
    )  # a token goes to its own server only
    if not url or not token:
        raise UsageError("Set GATEHOUSE_URL and GATEHOUSE_TOKEN, or run `gatehouse login`. A token is made under My settings.")
    return checked_url(url), token


def checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"{url!r} is no URL of a server, such as https://gatehouse.example.com.")
    return url.rstrip("/")


class Api:
    """Calls with one person's token. Every answer that is no success is a RefusedError; no answer is a CliError."""

    def __init__(self, url: str, token: str, transport: httpx2.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client = httpx2.Client(base_url=f"{url}/api/v1/", headers=headers, timeout=TIMEOUT_S, transport=transport)

    def call(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """The answer's JSON; None for an empty one."""
        try:
            answer = self._client.request(method, path, json=body, params=query)
        except httpx2.HTTPError as error:
            raise CliError(f"{self._client.base_url.host} did not answer: {error or type(error).__name__}") from error
        if answer.is_success:
            return answer.json() if answer.content else None
        raise _refusal(answer)

    def rows(self, path: str, query: Mapping[str, Any] | None = None, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Every row of a list, page by page; at most `most`."""
        size = LARGEST_PAGE if most is None else min(most, LARGEST_PAGE)
        page, left = self.call("GET", path, query={**(query or {}), "limit": size}), most
        while True:
            for row in page["results"]:
                if left is not None:
                    if not left:
                        return
                    left -= 1
                yield row
            if not page["next"] or left == 0:
                return
            page = self.call("GET", path, query=dict(httpx2.URL(page["next"]).params))

    def find(self, path: str) -> dict[str, Any] | None:
        """A row by its address; None when there is none."""
        try:
            found: dict[str, Any] = self.call("GET", path)
        except RefusedError as error:
            if error.status == 404:
                return None
            raise
        return found


def _refusal(answer: httpx2.Response) -> CliError:
    try:
        body = answer.json()
        return RefusedError(answer.status_code, body["code"], str(body["detail"]), body.get("fields"))
    except (ValueError, KeyError, TypeError):
        return CliError(f"{answer.request.url} answered {answer.status_code}, which is no answer of Gatehouse. Is the URL right?")
