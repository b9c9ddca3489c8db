"""Guardrails."""

from __future__ import annotations

from catalog.cli.client import Api
from catalog.cli.kinds.kind import Kind, Live, Options, delete, picked
from catalog.cli.kinds.values import refuse_change, wire
from catalog.cli.manifests import Document

_GUARDRAIL = (
    "kind", "mode", "action", "scope", "ref", "on_input", "on_output", "entities", "terms", "threshold", "max_characters",
    "engine", "language", "spacy_model", "time_limit_ms", "when_unavailable",
)  # fmt: skip


def _create_guardrail(api: Api, document: Document, options: Options) -> list[str]:
    api.call("POST", "guardrails/", {"name": document.name, **wire(document.spec)})
    return []


def _change_guardrail(api: Api, document: Document, live: Live, options: Options) -> list[str]:
    refuse_change(document, live, ("kind",))
    api.call("PUT", f"guardrails/{live.row['id']}/", {"name": document.name, **live.spec, **wire(document.spec)})
    return []


GUARDRAIL = Kind(
    "Guardrail",
    "guardrails/",
    picked(*_GUARDRAIL),
    _create_guardrail,
    _change_guardrail,
    delete("guardrails/"),
    name_of=lambda row: str(row["name"]),
)
