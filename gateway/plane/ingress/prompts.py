"""Prompts and flows for the programs that read them: a version by its label or number, from the snapshot.

Reading is no governed call and leaves no event. A key reads what names nothing beyond its own models and tools. Programs ask again as often as
they like: an answer has an `ETag`, and what has not changed is 304.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl

import orjson

from gateway.contract import prompts as contract
from gateway.contract.snapshot import Key, TenantSnapshot
from gateway.plane.call import Call
from gateway.plane.errors import Refusal
from gateway.plane.http import JSON, HeaderList, Headers, Receive, Send, is_known_etag, send_refusal, send_whole, standard_headers
from gateway.plane.pipeline import WHO, take
from gateway.plane.plane import Plane
from gateway.plane.prompts import not_approved

PATH = "/v1/prompts"
_FRESH = (b"cache-control", b"private, no-cache")
_ASKED = ("label", "version")


async def serve_prompts(plane: Plane, slug: str | None, query: bytes, headers: Headers, receive: Receive, send: Send) -> None:
    """GET /v1/prompts and /v1/prompts/{id}?label= or ?version=."""
    call = Call(plane, "chat", headers, receive, send)
    try:
        await take((WHO,), call)
        assert call.served is not None
        assert call.key is not None
        snapshot = call.served.snapshot
        body = _list(snapshot, call.key) if slug is None else _one(snapshot, call.key, slug, _wanted(query))
    except Refusal as refusal:
        if call.key is None:
            plane.metrics.count_stranger(refusal.code)
        await send_refusal(send, refusal, call.request_id, call.overhead_us)
        return
    text = orjson.dumps(body)
    etag = b'"' + hashlib.sha256(text).hexdigest()[:32].encode() + b'"'
    common: HeaderList = [*standard_headers(call.request_id, call.overhead_us), (b"etag", etag), _FRESH]
    if is_known_etag(headers.get(b"if-none-match", b""), etag):
        await send_whole(send, 304, common, b"")
    else:
        await send_whole(send, 200, [JSON, *common], text)


def _wanted(query: bytes) -> str:
    given = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    unknown = [name for name, _ in given if name not in _ASKED]
    if unknown or len(given) > 1:
        raise Refusal("invalid_request", "Ask for one label or one version.", param=(unknown or list(_ASKED))[0][:80])
    return given[0][1] if given else contract.DEFAULT_LABEL


def _one(snapshot: TenantSnapshot, key: Key, slug: str, wanted: str) -> dict[str, Any]:
    of = snapshot.prompts.get(slug) or snapshot.flows.get(slug)
    if of is None:
        raise Refusal("prompt_not_found", f"There is no prompt or flow {slug[:80]} with an approved version.", param="id")
    version = of.find(wanted)
    if version is None:
        raise not_approved(of, slug, wanted, "version")
    outside = _outside(key, version)
    if outside is not None:
        raise outside
    shown: dict[str, Any] = {
        "object": "prompt",
        "id": slug,
        "kind": "flow" if isinstance(version, contract.FlowVersion) else "chat",
        "version": version.number,
        "reference": contract.reference(slug, version.number),
        "labels": [label for label, number in of.labels.items() if number == version.number],
        "model": version.model or None,
        "parameters": orjson.loads(version.parameters),
    }
    if isinstance(version, contract.FlowVersion):
        return {**shown, "flow": orjson.loads(version.document)}
    messages = [{"role": message.role, "content": message.content} for message in version.messages]
    return {**shown, "messages": messages, "variables": contract.variables_in(message.content for message in version.messages)}


def _named(version: contract.Version | contract.FlowVersion) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Models and namespaces of tools."""
    if isinstance(version, contract.FlowVersion):
        return version.models, version.tools
    return ((version.model,) if version.model else ()), ()


def _outside(key: Key, version: contract.Version | contract.FlowVersion) -> Refusal | None:
    """Why the key does not read it; None when it does."""
    models, tools = _named(version)
    for model in models:
        if key.models is not None and model not in key.models:
            return Refusal("model_not_allowed", f"It names {model}, which the key {key.id} may not call.", scope="key")
    for tool in tools:
        if key.tools is not None and tool not in key.tools:
            return Refusal("tool_not_allowed", f"It names tools of {tool}, which the key {key.id} may not use.", scope="key")
    return None


def _list(snapshot: TenantSnapshot, key: Key) -> dict[str, Any]:
    """All with a version that the key may read, by id."""
    rows = []
    both: dict[str, contract.Prompt | contract.Flow] = {**snapshot.prompts, **snapshot.flows}
    for slug, of in sorted(both.items()):
        numbers = [number for number, version in of.versions.items() if _outside(key, version) is None]
        if numbers:
            kind = "flow" if isinstance(of, contract.Flow) else "chat"
            labels = {label: number for label, number in of.labels.items() if number in numbers}
            rows.append({"object": "prompt", "id": slug, "kind": kind, "versions": sorted(numbers, reverse=True), "labels": labels})
    return {"object": "list", "data": rows}
