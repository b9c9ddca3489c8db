"""Calls, prices and bills for tests of the costs floor."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils import timezone

from catalog.models import Deployment, Model, Project, Provider, VirtualKey
from costs.models import PriceEntry, TokenClass
from costs.services import ingest
from gateway.contract.events import INBOX_COLUMNS
from governance.models import Tenant, User

DEFAULTS: dict[str, Any] = {
    "kind": "chat",
    "duration_us": 800_000,
    "overhead_us": 1_500,
    "ttft_us": 300_000,
    "project": "checkout",
    "key_id": "k2345678",
    "agent": "basket-helper",
    "model": "small-chat",
    "provider": "openai",
    "deployment": "1",
    "upstream_model": "gpt-small",
    "region": "eu",
    "status": "ok",
    "http_status": 200,
    "error_code": None,
    "stream": False,
    "input_tokens": 1000,
    "output_tokens": 200,
    "cached_input_tokens": None,
    "cache_write_tokens": None,
    "reasoning_tokens": None,
    "usage_source": "provider",
    "service_tier": None,
    "units": None,
    "answer_id": None,
    "snapshot_version": 1,
    "tags": {},
    "steps": [["identify", "pass", 4, ""], ["call_upstream", "pass", 798_000, ""]],
}
REFUSED: dict[str, Any] = {
    "status": "refused",
    "http_status": 403,
    "error_code": "consent_withdrawn",
    "input_tokens": None,
    "output_tokens": None,
    "usage_source": "none",
    "provider": None,
    "deployment": None,
    "upstream_model": None,
    "ttft_us": None,
    "duration_us": 900,
    "steps": [["identify", "pass", 4, ""], ["consent", "consent_withdrawn", 1, "Alice switched off assistants"]],
}


def call(tenant: Tenant, **fields: Any) -> dict[str, Any]:
    """A call as the plane records it, one minute ago unless `started_at` says otherwise."""
    event_id = fields.pop("event_id", None) or uuid.uuid4()
    row = {
        **DEFAULTS,
        "event_id": event_id,
        "tenant": tenant.public_id,
        "request_id": f"req-{str(event_id)[:8]}",
        "started_at": timezone.now() - timedelta(minutes=1),
    }
    unknown = set(fields) - set(INBOX_COLUMNS)
    assert not unknown, f"no such columns: {unknown}"
    return {**row, **fields}


def deliver(*calls: dict[str, Any], times: int = 1) -> None:
    """Copy calls into the inbox as the plane's shipper does."""
    with connection.cursor() as cursor, cursor.copy(f"COPY public.inbox ({', '.join(INBOX_COLUMNS)}) FROM STDIN") as copy:
        for _ in range(times):
            for row in calls:
                copy.write_row(
                    [
                        json.dumps(row[name]) if name in ("tags", "steps") or (name == "units" and row[name] is not None) else row[name]
                        for name in INBOX_COLUMNS
                    ]
                )


def record(tenant: Tenant, *calls: dict[str, Any]) -> ingest.Ingested:
    """Deliver and attribute, spans that were exported as well."""
    deliver(*calls)
    return ingest.ingest(tenant=tenant, hold=timedelta(0))


def price(
    user: User,
    token_class: str = TokenClass.INPUT,
    amount: str = "1.00",
    *,
    provider: str = "openai",
    model: str = "small-chat",
    valid_from: datetime = datetime(2025, 1, 1, tzinfo=UTC),
    valid_to: datetime | None = None,
    **narrowed: Any,
) -> PriceEntry:
    """A price in the book, without the service's rules; `narrowed` by service_tier, region or context_over."""
    return PriceEntry.objects.create(
        provider=provider,
        model=model,
        token_class=token_class,
        price=Decimal(amount),
        valid_from=valid_from,
        valid_to=valid_to,
        approved_by=user,
        **narrowed,
    )


def prices(user: User, *, input: str = "1.00", output: str = "4.00", **series: Any) -> None:
    """Input and output prices of one model."""
    price(user, TokenClass.INPUT, input, **series)
    price(user, TokenClass.OUTPUT, output, **series)


def key(owner: User, *, project: str = "checkout") -> VirtualKey:
    """A key of a person, with its project."""
    found, _ = Project.objects.get_or_create(slug=project, defaults={"name": project.title(), "owner": owner, "cost_centre": "CC-7"})
    return VirtualKey.objects.create(
        name=f"{owner.name}'s key", project=found, owner=owner, digest="0" * 64, expires_at=timezone.now() + timedelta(days=30)
    )


def deployment(owner: User, *, provider: str = "openai", model: str = "small-chat", upstream: str = "gpt-small") -> Deployment:
    """A model with the provider that serves it."""
    at, _ = Provider.objects.get_or_create(slug=provider, defaults={"name": provider.title(), "base_url": "https://api.example.com/v1"})
    served, _ = Model.objects.get_or_create(
        slug=model, defaults={"name": model, "status": Model.Status.APPROVED, "capabilities": ["chat"], "owner": owner}
    )
    return Deployment.objects.create(model=served, provider=at, upstream_model=upstream)
