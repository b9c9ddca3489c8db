"""Upstreams on platforms (Azure, Vertex AI, Bedrock) and credentials that are more than a key: what is added to an exchange for them.

A deployment at a protocol's own company with a plain key has none of this: `Target.cloud` is None and the exchange goes by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from yarl import URL

from gateway.contract.credentials import AwsKeys, Credential, EntraId, ServiceAccount
from gateway.contract.platforms import Endpoint
from gateway.plane.errors import anthropic_type
from gateway.plane.upstream.tokens import Tokens


class Cloud:
    """One deployment's platform and credential."""

    def __init__(self, endpoint: Endpoint, credential: Credential, model: str, provider: str, holder: tuple[str, str]) -> None:
        self.endpoint = endpoint
        self._credential = credential
        self._model = model
        self._provider = provider
        self._holder = holder
        """Whose tokens these are: the tenant, and the credential as it is sealed."""
        self._urls: dict[tuple[str, bool], URL] = {}

    def __repr__(self) -> str:
        return f"Cloud({self.endpoint.platform})"

    def url(self, operation: str, *, stream: bool) -> URL:
        url = self._urls.get((operation, stream))
        if url is None:
            text = self.endpoint.url(operation, self._model, stream=stream)
            url = self._urls[operation, stream] = URL(text, encoded=True)  # what is signed is what is sent
        return url

    def body(self, operation: str, fields: dict[str, Any], headers: Mapping[bytes, bytes]) -> dict[str, Any]:
        return self.endpoint.body(operation, fields, headers.get(b"anthropic-beta", b"").decode("latin-1"))

    async def proof(self, tokens: Tokens, url: URL, body: bytes | list[bytes]) -> dict[str, str]:
        """The headers that prove who calls. Refusal when no token is to be had."""
        credential = self._credential
        if isinstance(credential, EntraId | ServiceAccount):
            token = await tokens.get(self._holder, credential, self._provider)
            return {"authorization": f"Bearer {token}"}
        if isinstance(credential, AwsKeys):
            if isinstance(body, bytes):
                return self.endpoint.signature(credential, "POST", str(url), body)
            # Its digest takes long, but needs no one else's turn.
            return await asyncio.to_thread(self.endpoint.signature, credential, "POST", str(url), b"".join(body))
        return {}

    def refused(self, tokens: Tokens) -> None:
        """The upstream did not take the proof: a token may have been withdrawn before its time."""
        tokens.doubt(self._holder)

    def error(self, status: int, headers: Mapping[str, str], body: Any) -> Any:
        """A platform's own error in the shape of the dialect; what is in that shape already, or not to be understood, stays."""
        if isinstance(body, list) and len(body) == 1:  # the OpenAI-compatible endpoint of Vertex AI wraps its errors
            body = body[0]
        if not isinstance(body, dict):
            return body
        given = body.get("error")
        if isinstance(given, dict) and isinstance(given.get("status"), str):  # Google
            return self._told(status, given.get("message"), given["status"].lower())
        message = body.get("message") or body.get("Message")
        if given is None and isinstance(message, str):  # AWS
            return self._told(status, message, headers.get("x-amzn-errortype", "").partition(":")[0])
        return body

    def _told(self, status: int, message: Any, code: str) -> dict[str, Any]:
        if self.endpoint.dialect == "anthropic":
            return {"type": "error", "error": {"type": anthropic_type(status), "message": message, "code": code or None}}
        kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}
