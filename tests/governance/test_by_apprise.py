"""Which of Apprise's services are taken: those that do HTTP by `requests`, which is ours, and nothing else."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any

import pytest

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
        "os.path",
        "re",
        "secrets",
        "string",
        "time",
        "typing",
        "urllib.parse",
        "uuid",
        "xml.sax.saxutils",
    ]
)
_BUILT_IN = frozenset(["__import__", "eval", "exec"])
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


def _ways_out(source: str) -> set[str]:
    """What a service's source imports and uses beyond the harmless. Of `requests` only the module's own name is ours: not another name for it,
    not what is taken out of it, and not a second import of it in a function; of `os` what runs nothing."""
    tree = ast.parse(source)
    imports = [each for node in ast.walk(tree) if isinstance(node, ast.Import) for each in node.names]
    watched = {each.asname or each.name: {"path", "urandom"} for each in imports if each.name == "os"}
    watched["requests"] = set(dir(by_apprise._GuardedRequests))
    strange: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            ours = [each for each in node.names if each.name == "requests" and not each.asname and node in tree.body]
            strange |= {each.name for each in node.names if each not in ours and each.name != "os"} - _HARMLESS
        elif isinstance(node, ast.ImportFrom):
            strange |= {"." * node.level + (node.module or "")} - _HARMLESS - _OF_APPRISE
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr not in watched.get(node.value.id, {node.attr}):
                strange.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Name) and node.id in _BUILT_IN:
            strange.add(node.id)
    return strange


def test_services_have_no_way_out_but_our_guard() -> None:
    """Their sources are read, so that a newer Apprise whose service opens a socket of its own is noticed."""
    modules: list[Any] = [importlib.import_module(f"apprise.plugins.{name}") for name in sorted(set(by_apprise.MODULES.values()))]
    found = {module.__name__: _ways_out(inspect.getsource(module)) for module in modules}

    assert {name: ways for name, ways in found.items() if ways} == {}


@pytest.mark.parametrize(
    "source",
    [
        "from requests import post",
        "import requests as r",
        "import json, requests as r",
        "def send():\n    import requests",
        "import requests.adapters",
        "import requests\nrequests.Session()",
        "import urllib.request",
        "from socket import socket",
        "import os\nos.system('id')",
        "from os import system",
        "import os as o\no.execv('/bin/id', [])",
        "__import__('socket')",
        "from . import email",
    ],
)
def test_a_way_out_is_noticed(source: str) -> None:
    assert _ways_out(source)


def test_every_scheme_has_a_service_whose_requests_are_ours() -> None:
    for scheme in by_apprise.MODULES:
        service = by_apprise.service_class(scheme)
        module: Any = inspect.getmodule(service)
        assert module.requests is by_apprise._GuardedRequests
