"""What calls said, as the gateway keeps it."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from gateway.contract import payloads as contract
from gateway.contract.keys import digest
from gateway.contract.sealing import Sealer
from governance import payload_selectors
from governance.models import CallPayload, Tenant
from governance.schema import current_schema


def keep_payload(
    project: str = "shop", *, request: Any, reply: Any = None, event_id: Any = None, user: str = "", at: datetime | None = None
) -> CallPayload:
    """Of a call of the current organisation: cut, redacted and sealed as the rule of its project says, which keeps texts."""
    tenant, rule, at = Tenant.objects.get(schema_name=current_schema()), payload_selectors.effective_rule(project), at or timezone.now()
    assert rule.mode in contract.KEEPING
    key = event_id or uuid.uuid4()
    (asked, is_cut), (answered, is_too) = (contract.clean(value, rule.mode) for value in (request, reply))
    payload = contract.Payload(event_id=str(key), tenant=str(tenant.public_id), request=asked, reply=answered, is_cut=is_cut or is_too)
    sealed = contract.seal(Sealer(settings.SEALING_KEYS), payload)
    assert sealed is not None
    subject = digest(contract.subject_text(str(tenant.public_id), user), settings.KEY_PEPPER) if user else ""
    return CallPayload.objects.create(
        event_id=key, at=at, expires_at=at + timedelta(days=rule.days), project=project, key_id="k", model="small", mode=rule.mode,
        subject=subject, sealed=sealed,
    )  # fmt: skip
