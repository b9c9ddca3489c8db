"""Tables as CSV: figures exact, text harmless when a spreadsheet opens it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any

from django.http import HttpRequest, StreamingHttpResponse

from governance.downloads import download


class Echo:
    """A file that only hands back what is written."""

    def write(self, text: str) -> str:
        return text


def cell(value: Any) -> str:
    """Decimals in full; text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return str(value)


def response(request: HttpRequest, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> StreamingHttpResponse:
    """A download of any length in little memory."""
    writer = csv.writer(Echo())

    def lines() -> Iterator[bytes]:
        yield writer.writerow(header).encode()
        for row in rows:
            yield writer.writerow([cell(value) for value in row]).encode()

    return download(request, name=name, content_type="text/csv; charset=utf-8", chunks=lines())
