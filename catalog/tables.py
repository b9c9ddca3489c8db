"""Columns of lists that stand on more than one page."""

from __future__ import annotations

from dataclasses import replace

from governance.pages import Column

_OWNER = Column("Owner", "owner")
_KEYS = (
    Column("Key", "newest", falls=True), _OWNER, Column("Project"), Column("May call"),
    Column("Spend, 30 d", "spend", "gh-num", falls=True), Column("Calls, 30 d", css="gh-num"), Column("Limits"),
    Column("Last used", "used", falls=True), Column("Expires", "expiry"),
)  # fmt: skip


def key_columns(*, everybody: bool, is_sorted: bool = True) -> list[Column]:
    """Of `catalog/partials/key_table.html`; without `is_sorted` no column sorts."""
    shown = [column for column in _KEYS if everybody or column is not _OWNER]
    return shown if is_sorted else [replace(column, order="") for column in shown]
