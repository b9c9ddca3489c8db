"""Files made while they are sent: the schema of the request, under ASGI and without."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import AsyncRequestFactory, RequestFactory

from governance.downloads import CHUNKS_AT_ONCE, download
from governance.models import Tenant
from governance.schema import enter_public


def schemas() -> Iterator[bytes]:
    for _ in range(CHUNKS_AT_ONCE + 1):
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_schema()")
            yield str(cursor.fetchone()[0]).encode() + b"\n"


async def collect(answer: Any) -> list[bytes]:
    return [part async for part in answer]


@pytest.mark.parametrize("asgi", [True, False])
def test_rows_are_read_in_the_schema_of_the_request_after_it_was_left(acme: Tenant, asgi: bool) -> None:
    request: Any = AsyncRequestFactory().get("/") if asgi else RequestFactory().get("/")
    answer = download(request, name="rows.csv", content_type="text/csv", chunks=schemas())
    enter_public()  # as the middleware does before the body is sent

    parts = async_to_sync(collect)(answer) if asgi else list(answer)

    assert len(parts) == 2  # never gathered as a whole
    assert set(b"".join(parts).split()) == {acme.schema_name.encode()}
    assert answer["Content-Disposition"] == 'attachment; filename="rows.csv"'
