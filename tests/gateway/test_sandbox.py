"""The sandbox by itself; everything else meets it behind the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.sandbox.asgi import SandboxApp


@pytest.mark.parametrize("wrong", [{"input": 5}, {"input": "x", "dimensions": "many"}, {"model": None}])
async def test_what_can_not_be_embedded_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    transport = httpx2.ASGITransport(SandboxApp(tmp_path, key=""))
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as client:
        answer = await client.post("/v1/embeddings", json={"model": "sandbox-embed", "input": "x", **wrong})

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
