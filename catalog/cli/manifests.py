"""Reading manifests: YAML to checked documents. Every complaint names file, line and field. Nothing here talks to a server."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from catalog.cli.errors import UsageError

SCHEMA_FILE = Path(__file__).with_name("manifest.schema.json")
FLOW_SCHEMA_FILE = Path(__file__).parent.with_name("flow.schema.json")
MOST_BYTES = 5_000_000
SUFFIXES = (".yaml", ".yml", ".json")


@dataclass(frozen=True)
class Document:
    """One thing as somebody wants it to be. Fields that `spec` leaves out are left as they are."""

    kind: str
    name: str
    spec: dict[str, Any]
    where: str
    """`file:line`, for messages."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class _Loader(yaml.SafeLoader):
    """Fractions stay exact, dates stay texts, and a key that stands twice is an error instead of the last one winning."""


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Decimal:
    try:
        value = Decimal(node.value.replace("_", ""))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise yaml.constructor.ConstructorError(None, None, f"{node.value} is no number that can be used here", node.start_mark)
    return value


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            raise yaml.constructor.ConstructorError(None, None, "keys are plain words", key.start_mark)
        if key.value in seen:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands here twice", key.start_mark)
        seen.add(key.value)
    return {key.value: loader.construct_object(value, deep=True) for key, value in node.value}


_Loader.add_constructor("tag:yaml.org,2002:float", _decimal)
_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def schema() -> dict[str, Any]:
    """The JSON Schema of manifests, for editors and other tools, with that of a flow's configuration in its place."""
    found: dict[str, Any] = json.loads(SCHEMA_FILE.read_text())
    found["$defs"]["Prompt"]["properties"]["spec"]["properties"]["flow"] = json.loads(FLOW_SCHEMA_FILE.read_text())
    return found


@cache
def _validators() -> dict[str, Any]:
    whole = schema()
    kinds = [one["$ref"].rsplit("/", 1)[1] for one in whole["oneOf"]]
    return {kind: jsonschema_rs.validator_for({"$ref": f"#/$defs/{kind}", "$defs": whole["$defs"]}) for kind in kinds}


def read_paths(paths: Iterable[str], stdin: Any = None) -> list[Document]:
    """All documents of files and folders (every .yaml, .yml and .json below, by name), `-` is standard input.

    Raises UsageError with every complaint, so that a manifest is mended in one go.
    """
    documents: list[Document] = []
    problems: list[str] = []
    for path in paths:
        for name, text in _texts(path, stdin):
            found, wrong = read_text(name, text)
            documents += found
            problems += wrong
    first: dict[tuple[str, str], str] = {}
    for document in documents:
        before = first.setdefault((document.kind, document.name), document.where)
        if before != document.where:
            problems.append(f"{document.where}: {document} stands at {before} already")
    if problems:
        raise UsageError("\n".join(problems))
    if not documents:
        raise UsageError(f"No manifest in {', '.join(paths)}.")
    return documents


def _texts(path: str, stdin: Any) -> Iterator[tuple[str, str]]:
    if path == "-":
        yield "<stdin>", stdin.read()
        return
    given = Path(path)
    files = sorted(one for one in given.rglob("*") if one.suffix in SUFFIXES and one.is_file()) if given.is_dir() else [given]
    for file in files:
        try:
            if file.stat().st_size > MOST_BYTES:
                raise UsageError(f"{file} has more than {MOST_BYTES:,} bytes.")
            yield str(file), file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} can't be read: {getattr(error, 'strerror', None) or error}") from error


def read_text(name: str, text: str) -> tuple[list[Document], list[str]]:
    """Documents of one file, and what is wrong with it."""
    documents: list[Document] = []
    problems: list[str] = []
    try:
        for node in yaml.compose_all(text, _Loader):
            if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
                continue
            loader = _Loader("")
            value = loader.construct_object(node, deep=True)
            found, wrong = _document(name, node, value)
            documents += found
            problems += wrong
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.append(f"{name}:{mark.line + 1 if mark else 1}: {error.problem}")
    except yaml.YAMLError as error:
        problems.append(f"{name}:1: {error}")
    return documents, problems


def _document(file: str, node: yaml.Node, value: Any) -> tuple[list[Document], list[str]]:
    where = f"{file}:{node.start_mark.line + 1}"
    kinds = _validators()
    if not isinstance(value, dict) or value.get("kind") not in kinds:
        given = value.get("kind") if isinstance(value, dict) else None
        said = f"there is no kind {given}" if given is not None else "kind is missing"
        return [], [f"{where}: {said}; kinds are {', '.join(kinds)}"]
    problems = []
    for error in kinds[value["kind"]].iter_errors(value):
        path = list(error.instance_path)
        field = ".".join(str(part) for part in path) or "document"
        problems.append(f"{file}:{_line(node, path)}: {field}: {_said(error.message)}")
    if problems:
        return [], problems
    return [Document(value["kind"], value["metadata"]["name"], value["spec"], where)], []


def _said(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:297]}..."


def _line(node: yaml.Node, path: Sequence[str | int]) -> int:
    """The line of the innermost part of the path that stands in the file."""
    line = int(node.start_mark.line) + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            pair = next(((key, value) for key, value in node.value if key.value == part), None)
            if pair is None:
                return line
            line, node = int(pair[0].start_mark.line) + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = int(node.start_mark.line) + 1
    return line


def secret_of(reference: Mapping[str, str], base: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The text that a reference (`env` or `file`) leads to. Raises UsageError when there is none: an empty credential would remove one."""
    if "env" in reference:
        text, named = environ.get(reference["env"], ""), f"the environment variable {reference['env']}"
    else:
        path = base / reference["file"]
        try:
            text, named = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The secret {path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if not text.strip():
        raise UsageError(f"The secret in {named} is empty or missing.")
    return text.strip()


class _Dumper(yaml.SafeDumper):
    """Exact numbers as plain numbers, texts of several lines as blocks."""


_Dumper.add_representer(Decimal, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:float", format(value, "f")))
_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value and value.strip() else None),
)


def dump(kind: str, name: str, spec: Mapping[str, Any]) -> str:
    """One document as text that `read_text` reads back."""
    body = {"apiVersion": "gatehouse/v1", "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
