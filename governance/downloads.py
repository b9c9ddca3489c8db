"""Files that are made while they are sent: of any length, in little memory, in the schema of the request that asked for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse
from django_tenants.utils import schema_context

from governance.schema import current_schema

CHUNKS_AT_ONCE = 500


def download(request: HttpRequest, *, name: str, content_type: str, chunks: Iterator[bytes]) -> StreamingHttpResponse:
    """The chunks as a file called `name`.

    The body is made after the view and its middleware are done and the connection is back in `public`, so each batch enters
    the schema of the request again. Under ASGI, Django would gather a plain iterator as a whole before it sends anything.
    """
    batches = _in_schema(current_schema(), chunks)
    return StreamingHttpResponse(
        _one_by_one(batches) if isinstance(request, ASGIRequest) else batches,
        content_type=content_type,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _in_schema(schema_name: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    while True:
        with schema_context(schema_name):
            batch = list(islice(chunks, CHUNKS_AT_ONCE))
        if not batch:
            return
        yield b"".join(batch)


async def _one_by_one(batches: Iterator[bytes]) -> AsyncIterator[bytes]:
    def following() -> bytes | None:
        return next(batches, None)

    while (batch := await sync_to_async(following)()) is not None:
        yield batch
