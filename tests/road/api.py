"""The REST API, as a program uses it."""

from __future__ import annotations

from typing import Any

import httpx2


class Api:
    """The REST API with one person's token; every answer must be a success."""

    def __init__(self, base_url: str, token: str) -> None:
        self._base_url, self._headers = f"{base_url}/api/v1/", {"Authorization": f"Bearer {token}"} if token else {}

    def call(self, method: str, path: str, **content: Any) -> httpx2.Response:
        return httpx2.request(method, self._base_url + path, headers=self._headers, timeout=60, **content)

    def get(self, path: str, **query: Any) -> Any:
        return self._checked(self.call("GET", path, params=query))

    def post(self, path: str, body: dict[str, Any] | None = None, **more: Any) -> Any:
        return self._checked(self.call("POST", path, **({"data": body} | more if more else {"json": body or {}})))

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._checked(self.call("PUT", path, json=body))

    @staticmethod
    def _checked(answer: httpx2.Response) -> Any:
        assert answer.status_code < 300, f"{answer.request.url}: {answer.status_code} {answer.text[:500]}"
        return answer.json()
