"""Handing cost data out: every export is in the audit log before its first byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from django.db import transaction

from costs import archive_selectors, export_schema, export_selectors
from costs.periods import Period
from governance.models import User
from governance.services import audit


def export(*, dataset: str, file: str, period: Period, chosen: Mapping[str, str], actor: User) -> Iterator[bytes]:
    """The dataset (`focus`, `usage` or `attributes`) of whole UTC days as the bytes of a file (`csv`, `jsonl` or `parquet`), made while it is read.

    `chosen` narrows by the dimensions of `selectors.FILTERS`. Each day is read in one statement. Writes one audit entry.
    Raises ArchiveError when single calls of the period cannot be read any more.
    """
    if dataset == "focus":  # before the first byte: a file that ends early looks whole
        archive_selectors.check_readable(period)
    makers = {
        "focus": export_selectors.focus_rows,
        "usage": export_selectors.usage_rows,
        "attributes": export_selectors.attribute_rows,
    }
    rows = makers[dataset](period, chosen)
    with transaction.atomic():
        audit.record(
            "costs.exported",
            actor=actor,
            target_name=dataset,
            file=file,
            first_day=period.first.isoformat(),
            last_day=period.last.isoformat(),
            filters=dict(chosen),
        )
    return export_schema.to_bytes(export_schema.DATASETS[dataset], file, rows)


def file_name(dataset: str, file: str, period: Period) -> str:
    return f"{dataset}-{period.first}-{period.last}.{file}"
