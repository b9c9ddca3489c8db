"""The command line in this process, against the real API."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connection

from catalog.cli.main import main
from governance.models import Tenant, User
from governance.schema import enter_tenant
from governance.services import tokens

Run = Callable[..., tuple[int, str]]


def portal(environ: dict[str, Any], start_response: Any) -> Any:
    """The whole application; the test's own schema is restored after each request, as the middleware leaves `public`."""
    tenant = connection.tenant  # type: ignore[attr-defined]
    try:
        return get_wsgi_application()(environ, start_response)
    finally:
        enter_tenant(tenant)


@pytest.fixture(autouse=True)
def _one_connection() -> Iterator[None]:
    """Requests are made over the test's own connection, as by Django's test client: what it made is not committed."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def run_as(acme: Tenant, monkeypatch: pytest.MonkeyPatch) -> Callable[[User], Run]:
    def sign_in(user: User) -> Run:
        _, token = tokens.create_token(user=user, tenant=acme, name="cli", actor=user)

        def run(*arguments: str) -> tuple[int, str]:
            monkeypatch.setenv("GATEHOUSE_URL", "http://portal.example.com")
            monkeypatch.setenv("GATEHOUSE_TOKEN", token)
            out = io.StringIO()
            return main(arguments, transport=httpx2.WSGITransport(app=portal), out=out), out.getvalue()

        return run

    return sign_in
