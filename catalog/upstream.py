"""Calls to a provider on a person's behalf: is it there, which models has it, and does one of them answer.

Only the network and its words; no rows. Every call goes through the guarded client and is watched step by step, so that a
failure says where the road ended.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2

from gateway.contract.outbound import OutboundError, check_address, check_url
from governance.http import allow_list, guarded_client

CHECK_TIMEOUT_S = 20.0
_EXCERPT = 200


@dataclass(frozen=True)
class TraceStep:
    name: str
    """resolve, connect, status, first byte, usage or answer"""
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
    """How to ask in one protocol. Both list models alike."""

    name: str
    models_path: str
    chat_path: str
    answer_field: str
    """What a chat's answer must hold a list of."""

    def headers(self, secret: str) -> dict[str, str]:
        if self.name == "Anthropic":
            return {"anthropic-version": ANTHROPIC_VERSION, **({"x-api-key": secret} if secret else {})}
        return {"Authorization": f"Bearer {secret}"} if secret else {}

    def usage(self, usage: dict[str, Any]) -> tuple[int, int] | None:
        """Tokens in and out; input counts what the provider had cached."""
        given = [usage.get("prompt_tokens")]
        if self.name == "Anthropic":
            given = [usage.get("input_tokens"), usage.get("cache_read_input_tokens") or 0, usage.get("cache_creation_input_tokens") or 0]
        made = usage.get("output_tokens" if self.name == "Anthropic" else "completion_tokens") or 0
        known = [tokens for tokens in given if isinstance(tokens, int)]
        return (sum(known), made) if len(known) == len(given) else None


ANTHROPIC_VERSION = "2023-06-01"
_DIALECTS = {
    "openai": _Dialect("OpenAI", "/models", "/chat/completions", "choices"),
    "anthropic": _Dialect("Anthropic", "/models?limit=1000", "/messages", "content"),
}


def list_models(base_url: str, secret: str, dialect: str = "openai") -> tuple[Trace, list[str]]:
    """GET {base_url}/models. The trace and the model names found, in the provider's order."""
    speaks = _DIALECTS[dialect]
    trace, body = _call("GET", base_url, speaks.models_path, speaks.headers(secret), None)
    if body is None:
        return trace, []
    entries = body.get("data") if isinstance(body, dict) else None
    names = (
        [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        if isinstance(entries, list)
        else None
    )
    if names is None:
        return trace.fail(
            "answer", None, "The server answered, but not with a list of models. Is the URL complete, up to the version segment?"
        ), []
    trace.add("answer", True, None, f"{len(names)} models")
    trace.ok, trace.summary = True, f"Answered in {trace.total_ms:.0f} ms with {len(names)} models."
    return trace, names


def try_model(base_url: str, secret: str, upstream_model: str, capabilities: list[str], dialect: str = "openai") -> Trace:
    """One real call of about one token: a chat, or an embedding for a model that only embeds."""
    speaks = _DIALECTS[dialect]
    if "chat" in capabilities or not capabilities:
        wanted, path = speaks.answer_field, speaks.chat_path
        body = {"model": upstream_model, "messages": [{"role": "user", "content": "Say ok."}], "max_tokens": 1}
    elif dialect == "openai":
        wanted, path, body = "data", "/embeddings", {"model": upstream_model, "input": "ok"}
    else:
        return Trace().fail("answer", None, f"The {speaks.name} protocol knows no embeddings.")
    trace, answer = _call("POST", base_url, path, speaks.headers(secret), body)
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


def _call(method: str, base_url: str, path: str, headers: dict[str, str], body: dict[str, Any] | None) -> tuple[Trace, Any]:
    """Make the call; the parsed body, or None when the trace has failed already."""
    trace, watch = Trace(), _Watch()
    url = base_url.rstrip("/") + path
    if not _resolve(url, trace):
        return trace, None
    started = time.perf_counter()
    has_secret = bool(headers.keys() & {"Authorization", "x-api-key"})
    step = "connect"
    try:
        with (
            guarded_client(timeout_s=CHECK_TIMEOUT_S, headers=headers) as client,
            client.stream(method, url, json=body, extensions={"trace": watch}) as response,
        ):
            trace.add("connect", True, _connect_ms(watch), "with TLS" if url.startswith("https:") else "without TLS")
            step = "status"
            headers_ms = 1000 * (time.perf_counter() - started)
            content = response.read()
            trace.total_ms = round(1000 * (time.perf_counter() - started), 2)
            if response.status_code != 200:
                return trace.fail(
                    "status", headers_ms, _status_words(response.status_code, content, has_secret, dict(response.headers))
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
        return trace.fail(step, 1000 * (time.perf_counter() - started), f"No answer within {CHECK_TIMEOUT_S:.0f} s."), None
    except httpx2.ConnectError as error:
        return trace.fail("connect", 1000 * (time.perf_counter() - started), f"No connection: {_words(error)}."), None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return trace.fail(step, 1000 * (time.perf_counter() - started), f"The call broke off: {_words(error)}."), None
    try:
        return trace, json.loads(content)
    except ValueError:
        return trace.fail("answer", None, "The answer is not JSON. Is the URL complete, up to the version segment?"), None


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
        trace.fail("resolve", 1000 * (time.perf_counter() - started), f"The name {urlsplit(url).hostname} can't be found.")
        return False
    trace.add("resolve", True, 1000 * (time.perf_counter() - started), f"{len(found)} address{'es' if len(found) != 1 else ''}")
    return True


def _connect_ms(watch: _Watch) -> float | None:
    end = "connection.start_tls.complete" if "connection.start_tls.complete" in watch.at else "connection.connect_tcp.complete"
    return watch.between("connection.connect_tcp.started", end)


def _status_words(status: int, content: bytes, has_secret: bool, headers: dict[str, str]) -> str:
    said = _upstream_message(content)
    tail = f' It said: "{said}"' if said else ""
    if status in (401, 403):
        return f"Refused with {status}: {'the API key is not accepted' if has_secret else 'it wants an API key'}.{tail}"
    if status == 404:
        return f"Not found (404): the path or the model name is wrong.{tail}"
    if status == 429:
        return f"Limited (429): the account has no quota left, or too many calls.{tail}"
    if 300 <= status < 400:
        return f"It redirects ({status}) to {headers.get('location', 'elsewhere')[:120]}; redirects are not followed. Use the final URL."
    return f"Answered {status}.{tail}"


def _upstream_message(content: bytes) -> str:
    """The provider's own words, if the body is an error in one of their shapes."""
    try:
        body = json.loads(content)
    except ValueError:
        return ""
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message[:_EXCERPT] if isinstance(message, str) else ""


def _words(error: Exception) -> str:
    return (str(error) or type(error).__name__).rstrip(".")[:_EXCERPT]
