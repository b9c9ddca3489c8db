"""Calls to a provider on a person's behalf: is it there, which models has it, and does one of them answer.

Only the network and its words; no rows. Every call goes through the guarded client and is watched step by step, so that a
failure says where the road ended.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from gateway.contract.credentials import AwsKeys, Credential, CredentialError, EntraId, Key, ServiceAccount, WithToken
from gateway.contract.outbound import OutboundError, check_address, check_url
from gateway.contract.platforms import Endpoint
from gateway.contract.sealing import UnsealError
from governance.http import allow_list, fetch_token, guarded_client

CHECK_TIMEOUT_S = 20.0
_EXCERPT = 200


@dataclass(frozen=True)
class TraceStep:
    name: str
    """resolve, credential, token, connect, status, first byte, usage or answer"""
    ok: bool
    ms: float | None
    detail: str


@dataclass
class Trace:
    """The road of one call, step by step, and its outcome in a sentence."""

    ok: bool = False
    summary: str = ""
    total_ms: float | None = None
    steps: list[TraceStep] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    blocked: bool = False
    """True when the SSRF guard refused: the URL itself is wrong, not its server."""

    def add(self, name: str, ok: bool, ms: float | None, detail: str) -> None:
        self.steps.append(TraceStep(name, ok, None if ms is None else round(ms, 2), detail))

    def fail(self, name: str, ms: float | None, detail: str) -> Trace:
        self.add(name, False, ms, detail)
        self.ok, self.summary = False, detail
        return self

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class _Watch:
    """Collects the moments that httpcore reports for one request."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def __call__(self, event: str, info: dict[str, Any]) -> None:
        self.at.setdefault(event, time.perf_counter())

    def between(self, start: str, end: str) -> float | None:
        return 1000 * (self.at[end] - self.at[start]) if start in self.at and end in self.at else None


@dataclass(frozen=True)
class _Dialect:
    """How to ask in one protocol."""

    name: str
    chat: str
    """The operation, see `gateway.contract.platforms`."""
    answer_field: str
    """What a chat's answer must hold a list of."""

    def usage(self, usage: dict[str, Any]) -> tuple[int, int] | None:
        """Tokens in and out; input counts what the provider had cached."""
        given = [usage.get("prompt_tokens")]
        if self.name == "Anthropic":
            given = [usage.get("input_tokens"), usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0]
        made = usage.get("output_tokens" if self.name == "Anthropic" else "completion_tokens") or 0
        known = [tokens for tokens in given if isinstance(tokens, int)]
        return (sum(known), made) if len(known) == len(given) else None


_DIALECTS = {
    "openai": _Dialect("OpenAI", "chat/completions", "choices"),
    "anthropic": _Dialect("Anthropic", "messages", "content"),
}
_NEWER_NAME = "max_completion_tokens"
"""Models that reason take the most tokens by this name only, and say so; many others do not know it."""

OpenCredential = Callable[[], Credential]
"""Opens the credential when it is needed. UnsealError or CredentialError."""


def list_models(endpoint: Endpoint, opened: OpenCredential) -> tuple[Trace, list[str]]:
    """Ask for the models of the account. The trace and the model names found, in the provider's order."""
    trace, body = _call("GET", endpoint, endpoint.models_url(), opened, None)
    if body is None:
        return trace, []
    names = endpoint.names(body)
    if names is None:
        return trace.fail(
            "answer", None, "The server answered, but not with a list of models. Is the URL complete, up to the version segment?"
        ), []
    trace.add("answer", True, None, f"{len(names)} models")
    what = "models that can be deployed; calls name a deployment" if endpoint.platform == "azure" else "models"
    trace.ok, trace.summary = True, f"Answered in {trace.total_ms:.0f} ms with {len(names)} {what}."
    return trace, names


def try_model(endpoint: Endpoint, opened: OpenCredential, upstream_model: str, capabilities: list[str]) -> Trace:
    """One real call of about one token: a chat, or an embedding for a model that only embeds."""
    speaks = _DIALECTS[endpoint.dialect]
    asked: dict[str, Any] = {"model": upstream_model}
    if "chat" in capabilities or not capabilities:
        wanted, operation = speaks.answer_field, speaks.chat
        asked |= {"messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 1}
    elif endpoint.dialect == "openai":
        wanted, operation = "data", "embeddings"
        asked |= {"input": "ok"}
    else:
        return Trace().fail("answer", None, f"The {speaks.name} protocol knows no embeddings.")
    url = endpoint.url(operation, upstream_model, stream=False)
    trace, answer = _call("POST", endpoint, url, opened, endpoint.body(operation, asked))
    if answer is None and _NEWER_NAME in trace.summary and endpoint.dialect == "openai":
        del asked["max_tokens"]
        trace, answer = _call("POST", endpoint, url, opened, {**asked, _NEWER_NAME: 16})
    if answer is None:
        return trace
    if not isinstance(answer, dict) or not isinstance(answer.get(wanted), list):
        return trace.fail("answer", None, f"The server answered without `{wanted}`: this is not the {speaks.name} protocol.")
    trace.add("answer", True, None, f"in the {speaks.name} shape")
    found = speaks.usage(answer["usage"]) if isinstance(answer.get("usage"), dict) else None
    if found is not None:
        trace.input_tokens, trace.output_tokens = found
        trace.add("usage", True, None, f"{trace.input_tokens} tokens in, {trace.output_tokens} out")
    else:
        trace.add("usage", True, None, "not reported: tokens will be estimated")
    trace.ok, trace.summary = True, f"Answered in {trace.total_ms:.0f} ms."
    return trace


def _call(method: str, endpoint: Endpoint, url: str, opened: OpenCredential, fields: dict[str, Any] | None) -> tuple[Trace, Any]:
    """Make the call; the parsed body, or None when the trace has failed already."""
    trace, watch = Trace(), _Watch()
    if not _resolve(url, trace):
        return trace, None
    try:
        credential = opened()
    except (UnsealError, CredentialError) as error:
        return trace.fail("credential", None, f"The credential cannot be used: {str(error).rstrip('.')}."), None
    body = b"" if fields is None else json.dumps(fields, separators=(",", ":")).encode()
    headers = endpoint.headers(credential) | ({} if fields is None else {"content-type": "application/json"})
    if isinstance(credential, EntraId | ServiceAccount):
        token = _token(credential, trace)
        if token is None:
            return trace, None
        headers["authorization"] = f"Bearer {token}"
    elif isinstance(credential, AwsKeys):
        headers |= endpoint.signature(credential, method, url, body)
    started = time.perf_counter()
    step = "connect"
    try:
        with (
            guarded_client(timeout_s=CHECK_TIMEOUT_S, headers=headers) as client,
            client.stream(method, url, content=body or None, extensions={"trace": watch}) as response,
        ):
            trace.add("connect", True, _connect_ms(watch), "with TLS" if url.startswith("https:") else "without TLS")
            step = "status"
            headers_ms = 1000 * (time.perf_counter() - started)
            content = response.read()
            trace.total_ms = round(1000 * (time.perf_counter() - started), 2)
            if response.status_code != 200:
                return trace.fail(
                    "status", headers_ms, _status_words(response.status_code, content, credential, dict(response.headers))
                ), None
            trace.add("status", True, headers_ms, "200 OK")
            trace.add(
                "first byte",
                True,
                watch.between("http11.send_request_headers.started", "http11.receive_response_headers.complete"),
                "after the request was sent",
            )
    except OutboundError as error:
        trace.blocked = True
        return trace.fail("connect", None, str(error)), None
    except httpx2.TimeoutException:
        step = _step(step, watch, trace)
        todo = (
            "Correct host and port of the base URL, or open the way in the firewall."
            if step == "connect"
            else "The server is slow: try again."
        )
        return trace.fail(step, 1000 * (time.perf_counter() - started), f"No answer within {CHECK_TIMEOUT_S:.0f} s. {todo}"), None
    except httpx2.ConnectError as error:
        todo = "Correct host and port of the base URL, or start the server."
        if "certificate" in str(error).lower():
            todo = "Its certificate must be of an authority that this server trusts, and for this host."
        return trace.fail("connect", 1000 * (time.perf_counter() - started), f"No connection: {_words(error)}. {todo}"), None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        step = _step(step, watch, trace)
        todo = "Try again; if it stays, no HTTP server answers at this URL."
        return trace.fail(step, 1000 * (time.perf_counter() - started), f"The call broke off: {_words(error)}. {todo}"), None
    try:
        return trace, json.loads(content)
    except ValueError:
        return trace.fail("answer", None, "The answer is not JSON. Is the URL complete, up to the version segment?"), None


def _token(credential: WithToken, trace: Trace) -> str | None:
    """A fresh access token; None when the trace has failed. The planes keep theirs, a check wants to know."""
    started, host = time.perf_counter(), urlsplit(credential.token_endpoint).hostname
    try:
        token = fetch_token(credential, timeout_s=CHECK_TIMEOUT_S)
    except OutboundError as error:
        trace.blocked = True
        said = str(error).rstrip(".")
    except CredentialError as error:
        said = str(error)
    except httpx2.TimeoutException:
        said = f"{host} did not answer within {CHECK_TIMEOUT_S:.0f} s"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        said = f"{host} could not be asked ({_words(error)})"
    else:
        trace.add("token", True, 1000 * (time.perf_counter() - started), f"from {host}, good for {token.expires_in_s / 60:.0f} min")
        return token.value
    trace.fail("token", 1000 * (time.perf_counter() - started), f"No access token: {said}.")
    return None


def _resolve(url: str, trace: Trace) -> bool:
    """Look the name up by itself, so that a wrong name is told apart from a closed port. The client checks again on its own."""
    started = time.perf_counter()
    allow = allow_list()
    try:
        check_url(url, allow)
        host = urlsplit(url).hostname or ""
        found = sorted({str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
        for address in found:
            check_address(host, address, allow)
    except OutboundError as error:
        trace.blocked = True
        trace.fail("resolve", None, str(error))
        return False
    except (OSError, UnicodeError):
        trace.fail(
            "resolve",
            1000 * (time.perf_counter() - started),
            f"The name {urlsplit(url).hostname} can't be found. Correct the host in the base URL.",
        )
        return False
    trace.add("resolve", True, 1000 * (time.perf_counter() - started), f"{len(found)} address{'es' if len(found) != 1 else ''}")
    return True


def _step(step: str, watch: _Watch, trace: Trace) -> str:
    """The step that failed: once the request was on its way, the one after the connection."""
    if step != "connect" or "http11.send_request_headers.started" not in watch.at:
        return step
    trace.add("connect", True, _connect_ms(watch), "")
    return "status"


def _connect_ms(watch: _Watch) -> float | None:
    end = "connection.start_tls.complete" if "connection.start_tls.complete" in watch.at else "connection.connect_tcp.complete"
    return watch.between("connection.connect_tcp.started", end)


def _status_words(status: int, content: bytes, credential: Credential, headers: dict[str, str]) -> str:
    said = _upstream_message(content)
    for secret in credential.secrets:
        said = said.replace(secret, "[redacted]")
    tail = f' It said: "{said}"' if said else ""
    what = "API key" if isinstance(credential, Key) else "credential"
    if status in (401, 403) and not credential.secrets:
        return f"Refused with {status}: it wants an API key. Give one on the provider's page.{tail}"
    if status == 401:
        return f"Refused with 401: the {what} is not accepted. Give another one on the provider's page.{tail}"
    if status == 403:
        return f"Refused with 403: the {what} is not accepted, or has no right to this. See to both in the provider's account.{tail}"
    if status == 404:
        return f"Not found (404): the path or the model name is wrong. Compare the name with the provider's list, and the base URL up to its version.{tail}"
    if status == 429:
        return f"Limited (429): the account has no quota left, or too many calls. Raise the quota there, or try again later.{tail}"
    if status >= 500:
        return f"Answered {status}: the fault is the provider's. Try again later.{tail}"
    if 300 <= status < 400:
        return f"It redirects ({status}) to {headers.get('location', 'elsewhere')[:120]}; redirects are not followed. Use the final URL."
    return f"Answered {status}.{tail}"


def _upstream_message(content: bytes) -> str:
    """The provider's own words, if the body is an error in one of their shapes."""
    try:
        body = json.loads(content)
    except ValueError:
        return ""
    if isinstance(body, list) and len(body) == 1:  # as Vertex AI wraps some errors
        body = body[0]
    if not isinstance(body, dict):
        return ""
    error = body.get("error", body)  # AWS has the message itself
    message = error.get("message") or error.get("Message") if isinstance(error, dict) else error
    return message[:_EXCERPT] if isinstance(message, str) else ""


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:_EXCERPT]
