"""Where a protocol is spoken: at its own company, or on the platform of another one, with its own paths, versions and framing.

Three platforms serve models of others: Azure (OpenAI, and Anthropic in Foundry), Vertex AI (Anthropic, and all others by an
OpenAI-compatible endpoint) and Amazon Bedrock (likewise). Each also has, or gets, endpoints that speak a protocol as its inventor
does; their base URLs end in `/v1`, and there only the credential differs. Pure: used by the plane for calls and by the portal for checks.

Sources: learn.microsoft.com/azure/ai-services/openai/reference, cloud.google.com/vertex-ai/generative-ai/docs/partner-models/use-claude
and .../multimodal/call-vertex-using-openai-library, docs.aws.amazon.com/bedrock/latest/userguide (inference-messages-api,
inference-chat-completions-mantle) and .../APIReference/API_runtime_CountTokens.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode, urlsplit

from gateway.contract import sigv4
from gateway.contract.credentials import AwsKeys, Credential, Key

Platform = Literal["direct", "azure", "vertex", "bedrock"]
Dialect = Literal["openai", "anthropic"]

ANTHROPIC_VERSION = "2023-06-01"
"""Sent when the caller names none; the protocol demands one."""
VERTEX_VERSION = "vertex-2023-10-16"
BEDROCK_VERSION = "bedrock-2023-05-31"
COUNT_TOKENS = "messages/count_tokens"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One account at one address."""

    platform: Platform
    dialect: Dialect
    base_url: str
    region: str = ""
    api_version: str = ""
    """Of Azure."""

    @property
    def is_native(self) -> bool:
        """The protocol is spoken as its inventor does."""
        return self.platform == "direct" or urlsplit(self.base_url).path.rstrip("/").endswith("/v1")

    def url(self, operation: str, model: str, *, stream: bool) -> str:
        """The address of one operation, which is a protocol's path below its version, for example `chat/completions`."""
        return f"{self.base_url.rstrip('/')}/{self._path(operation, model, stream)}{self._query()}"

    def _path(self, operation: str, model: str, stream: bool) -> str:
        if self.is_native:
            return operation
        if self.platform == "azure":
            return operation if operation == "responses" else f"deployments/{quote(model, safe='')}/{operation}"
        if self.dialect == "openai":
            return f"endpoints/openapi/{operation}" if self.platform == "vertex" else f"openai/v1/{operation}"
        if self.platform == "vertex":
            if operation == COUNT_TOKENS:
                return "publishers/anthropic/models/count-tokens:rawPredict"
            return f"publishers/anthropic/models/{quote(model, safe='@')}:{'streamRawPredict' if stream else 'rawPredict'}"
        act = "count-tokens" if operation == COUNT_TOKENS else "invoke-with-response-stream" if stream else "invoke"
        return f"model/{quote(model, safe='')}/{act}"

    def _query(self) -> str:
        return f"?{urlencode({'api-version': self.api_version})}" if self.api_version else ""

    def models_url(self) -> str:
        """Where the models of the account are listed, which costs nothing and proves the credential."""
        base = self.base_url.rstrip("/")
        if self.is_native:
            return f"{base}/models{self._query() or ('?limit=1000' if self.dialect == 'anthropic' else '')}"
        if self.platform == "azure":
            return f"{base}/models{self._query()}"
        parts = urlsplit(base)
        if self.platform == "vertex":
            publisher = "anthropic" if self.dialect == "anthropic" else "google"
            return f"{parts.scheme}://{parts.netloc}/v1beta1/publishers/{publisher}/models?pageSize=100"
        return f"{parts.scheme}://{parts.netloc.replace('bedrock-runtime', 'bedrock', 1)}/foundation-models"

    def names(self, answer: Any) -> list[str] | None:
        """The models in the answer of `models_url`; None when it is not such an answer."""
        listed, name = "data", "id"
        if self.platform == "vertex" and not self.is_native:
            listed, name = "publisherModels", "name"
        elif self.platform == "bedrock" and not self.is_native:
            listed, name = "modelSummaries", "modelId"
        entries = answer.get(listed) if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            return None
        found = [entry[name] for entry in entries if isinstance(entry, dict) and isinstance(entry.get(name), str)]
        if name != "name":
            return found
        # publishers/google/models/gemini-2.5-pro; the OpenAI-compatible endpoint calls it google/gemini-2.5-pro
        parts = [each.split("/") for each in found]
        return [each[-1] if self.dialect == "anthropic" else f"{each[1]}/{each[-1]}" for each in parts if len(each) == 4]

    def body(self, operation: str, fields: dict[str, Any], betas: str = "") -> dict[str, Any]:
        """The request's fields as the platform wants them. `betas` is the caller's `anthropic-beta`, which Bedrock has in the body."""
        if self.is_native or self.dialect == "openai" or self.platform == "azure":
            return fields
        if self.platform == "vertex":
            rest = fields if operation == COUNT_TOKENS else {name: value for name, value in fields.items() if name != "model"}
            return {"anthropic_version": VERTEX_VERSION, **rest}
        rest = {name: value for name, value in fields.items() if name not in ("model", "stream")}
        if betas:
            rest.setdefault("anthropic_beta", [beta.strip() for beta in betas.split(",") if beta.strip()])
        body = {"anthropic_version": BEDROCK_VERSION, **rest}
        if operation != COUNT_TOKENS:
            return body
        # What is counted must be a request that could be made, and such a one has a most.
        inner = json.dumps({"max_tokens": 1, **body}, separators=(",", ":")).encode()
        return {"input": {"invokeModel": {"body": base64.b64encode(inner).decode()}}}

    def headers(self, credential: Credential) -> dict[str, str]:
        """What every request carries: the protocol's version, and the credential where that is a plain key."""
        needs_version = self.dialect == "anthropic" and (self.is_native or self.platform == "azure")
        headers = {"anthropic-version": ANTHROPIC_VERSION} if needs_version else {}
        if isinstance(credential, Key) and credential.secret:
            if self.dialect == "anthropic" and needs_version:
                headers["x-api-key"] = credential.secret
            elif self.platform == "azure":
                headers["api-key"] = credential.secret
            else:
                headers["authorization"] = f"Bearer {credential.secret}"
        return headers

    def signature(self, keys: AwsKeys, method: str, url: str, body: bytes, at: datetime | None = None) -> dict[str, str]:
        """The headers that prove one request to Bedrock. Only what we decide is signed, so that a proxy may add its own."""
        host = urlsplit(url).hostname or ""
        return sigv4.sign(
            method,
            url,
            {"content-type": "application/json"} if method == "POST" else {},
            body,
            access_key_id=keys.access_key_id,
            secret_access_key=keys.secret_access_key,
            session_token=keys.session_token,
            region=self.region,
            service="bedrock-mantle" if host.startswith("bedrock-mantle.") else "bedrock",
            at=at or datetime.now(UTC),
        )
