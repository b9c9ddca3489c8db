"""Values of manifests and of the API: how they travel, and when two are the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from catalog.cli.errors import CliError
from catalog.cli.kinds.kind import Live
from catalog.cli.manifests import Document


def wire(value: Any) -> Any:
    """Exact numbers travel as texts."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping):
        return {name: wire(one) for name, one in value.items()}
    return [wire(one) for one in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """Numbers of free JSON, such as a temperature, travel as numbers."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and "." not in str(value) else float(value)
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def exact(text: str | None) -> Decimal | None:
    """A number of the API without the zeros that its column adds."""
    return None if text is None else Decimal(format(Decimal(text).normalize(), "f"))


def only(spec: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: wire(spec[name]) for name in names if name in spec}


def changed(spec: Mapping[str, Any], live: Live, names: Iterable[str]) -> dict[str, Any]:
    return {name: wire(spec[name]) for name in names if name in spec and not same(spec[name], live.spec.get(name))}


def same(wanted: Any, present: Any) -> bool:
    """Numbers by value, whether they came as number or text; empty and missing are the same."""
    if isinstance(wanted, bool) or isinstance(present, bool):
        return wanted is present
    if wanted in (None, "", [], {}) and present in (None, "", [], {}):
        return True
    if isinstance(wanted, Mapping) and isinstance(present, Mapping):
        return wanted.keys() == present.keys() and all(same(value, present[name]) for name, value in wanted.items())
    if isinstance(wanted, list) and isinstance(present, list):
        return len(wanted) == len(present) and all(map(same, wanted, present))
    if isinstance(present, Decimal) and isinstance(wanted, int | str | Decimal):
        return Decimal(wanted) == present
    if isinstance(wanted, Decimal) and isinstance(present, int | float):
        return wanted == Decimal(str(present))
    return bool(wanted == present)


def refuse_change(document: Document, live: Live, names: Iterable[str]) -> None:
    stuck = [name for name in names if name in document.spec and not same(document.spec[name], live.spec.get(name))]
    if stuck:
        raise CliError(f"{document.where}: {document}: {', '.join(stuck)} can't be changed here once it exists.")
