"""Rows for people (a table) and for programs (JSON, YAML)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import yaml

FORMATS = ("table", "json", "yaml")
_MONEY = ("_usd", "_per_million")
_CENT = Decimal("0.01")


def rows_text(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], form: str) -> str:
    found = list(rows)
    if form != "table":
        return data_text(found, form)
    if not found:
        return "None."
    lines = [[column.rpartition(".")[2].replace("_", " ").upper() for column in columns]]
    lines += [[_money(at(row, column)) if column.endswith(_MONEY) else cell(at(row, column)) for column in columns] for row in found]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    return "\n".join("  ".join(part.ljust(width) for part, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def data_text(value: Any, form: str) -> str:
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False)
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)).rstrip("\n")


def one_text(row: Mapping[str, Any], form: str) -> str:
    """A single thing; the table form is its fields, one a line."""
    return data_text(dict(row), "yaml" if form == "table" else form)


def at(row: Mapping[str, Any], path: str) -> Any:
    value: Any = row
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _money(value: str | None) -> str:
    """Dollars as the pages show them: to the cent, below one to two significant digits. The product, whose rule it is, is not installed here."""
    if value is None:
        return "-"
    amount = Decimal(value)
    unit = Decimal(1).scaleb(amount.adjusted() - 1) if amount and abs(amount) < _CENT else _CENT
    return f"${amount.quantize(unit, ROUND_HALF_EVEN):,f}"


def cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        value = [f"{name}={one}" for name, one in value.items()]
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    text = " ".join(text.split())  # a line break would break the table, and a terminal's control codes would act
    return "".join(letter for letter in text if letter.isprintable())[:60]
