"""Rows of the catalog for tests, made without the network. Each fills what a test does not care about."""

from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.utils import timezone

from catalog import selectors
from catalog.hooks import Price, cost_figures
from catalog.lifecycle import definition_digest
from catalog.models import Deployment, Model, Project, Provider, Tool, ToolServer, VirtualKey
from gateway.contract import keys
from gateway.contract.sealing import Sealer
from governance.models import User

_numbers = itertools.count(1)


def make_provider(*, slug: str = "", base_url: str = "http://127.0.0.1:9/v1", secret: str = "", **fields: Any) -> Provider:
    slug = slug or f"provider-{next(_numbers)}"
    return Provider.objects.create(
        slug=slug,
        **{"name": slug.replace("-", " ").title(), **fields},
        base_url=base_url,
        sealed_secret=Sealer(settings.SEALING_KEYS).seal(secret),
    )


def make_model(
    *,
    owner: User,
    slug: str = "",
    provider: Provider | None = None,
    upstream_model: str = "small",
    status: str = Model.Status.APPROVED,
    price: tuple[str, str] | None = None,
    check_ok: bool | None = True,
    **fields: Any,
) -> Model:
    """A model with one checked deployment; `price` is USD per million tokens, in and out."""
    slug = slug or f"model-{next(_numbers)}"
    model = Model.objects.create(slug=slug, **{"name": slug.title(), "capabilities": ["chat"], **fields}, owner=owner, status=status)
    provider = provider or make_provider()
    Deployment.objects.create(model=model, provider=provider, upstream_model=upstream_model, check_ok=check_ok)
    if price is not None:
        cost_figures().set_list_price(provider=provider.slug, model=slug, price=Price(Decimal(price[0]), Decimal(price[1])), actor=owner)
    return model


def make_project(*, owner: User, slug: str = "", **fields: Any) -> Project:
    slug = slug or f"project-{next(_numbers)}"
    return Project.objects.create(slug=slug, **{"name": slug.title(), **fields}, owner=owner)


def make_key(*, owner: User, project: Project | None = None, days: float = 30, **fields: Any) -> tuple[VirtualKey, str]:
    """A key and its text."""
    key = VirtualKey(
        **{"name": f"key {next(_numbers)}", **fields},
        owner=owner,
        project=project or make_project(owner=owner),
        expires_at=timezone.now() + timedelta(days=days),
    )
    text = keys.generate("ghk", selectors.current_tenant().public_id, key.public_id)
    key.digest = keys.digest(text, settings.KEY_PEPPER)
    key.save()
    return key, text


def make_tool_server(*, owner: User, namespace: str = "", url: str = "http://127.0.0.1:9/mcp", **fields: Any) -> ToolServer:
    namespace = namespace or f"tools-{next(_numbers)}"
    return ToolServer.objects.create(
        namespace=namespace, **{"name": namespace.title(), "discovered_at": timezone.now(), **fields}, url=url, owner=owner
    )


def make_tool(*, server: ToolServer, name: str = "", **fields: Any) -> Tool:
    definition: dict[str, Any] = {
        "name": name or f"tool-{next(_numbers)}",
        "title": "",
        "description": "Does something.",
        "output_schema": None,
        "annotations": None,
        "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    }
    definition |= {key: value for key, value in fields.items() if key in definition}
    rest = {key: value for key, value in fields.items() if key not in definition}
    return Tool.objects.create(server=server, digest=definition_digest(definition), **definition, **rest)
