"""Which of Apprise's services are taken: those that do HTTP by `requests`, which is ours, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

from governance import by_apprise

_HARMLESS = frozenset(
    [
        "__future__",
        "base64",
        "cryptography.hazmat.primitives",
        "cryptography.hazmat.primitives.ciphers",
        "contextlib",
        "datetime",
        "gzip",
        "hashlib",
        "hmac",
        "html",
        "io",
        "itertools",
        "json",
        "json.decoder",
        "logging",
        "math",
        "os",
        "os.path",
        "re",
        "requests",
        "secrets",
        "string",
        "time",
        "typing",
        "urllib.parse",
        "uuid",
        "xml.sax.saxutils",
    ]
)
_OF_APPRISE = frozenset(
    [
        ".base",
        "..",
        "..apprise_attachment",
        "..attachment.base",
        "..attachment.memory",
        "..common",
        "..conversion",
        "..exception",
        "..locale",
        "..url",
        "..utils.parse",
        "..utils.sanitize",
        "..utils.templates",
    ]
)


def _imported(tree: ast.AST) -> set[str]:
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {"." * node.level + (node.module or "") for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def _used_of_requests(tree: ast.AST) -> set[str]:
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    return {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "requests"}


def test_services_have_no_way_out_but_our_guard() -> None:
    """Their sources are read, so that a newer Apprise whose service opens a socket of its own is noticed."""
    strange: dict[str, Any] = {}
    for name in sorted(set(by_apprise.MODULES.values())):
        module: Any = importlib.import_module(f"apprise.plugins.{name}")
        tree = ast.parse(inspect.getsource(module))
        used = {each for each in _used_of_requests(tree) if not hasattr(by_apprise._GuardedRequests, each)}
        if found := (_imported(tree) - _HARMLESS - _OF_APPRISE) | used:
            strange[name] = found

    assert strange == {}


def test_every_scheme_has_a_service_whose_requests_are_ours() -> None:
    for scheme in by_apprise.MODULES:
        service = by_apprise.service_class(scheme)
        module: Any = inspect.getmodule(service)
        assert module.requests is by_apprise._GuardedRequests
