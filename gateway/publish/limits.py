"""What planes were granted of limits: for pages, from the counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from django.db.models import Sum
from django.utils import timezone

from catalog.hooks import LimitUse
from gateway.publish.models import Counter, Slot
from governance.models import Tenant
from governance.schema import current_schema


def limit_uses(counter_ids: Iterable[str]) -> Mapping[str, LimitUse]:
    """Granted counts what planes hold on lease and may not have spent yet, so it is never too low."""
    tenant = Tenant.objects.values_list("public_id", flat=True).get(schema_name=current_schema())
    now, ids = timezone.now(), list(counter_ids)
    counters = Counter.objects.filter(tenant=tenant, limit_id__in=ids, window_start__lte=now, window_end__gt=now)
    slots = Slot.objects.filter(tenant=tenant, limit_id__in=ids, expires_at__gt=now).values_list("limit_id").annotate(n=Sum("slots"))
    return {
        **{counter.limit_id: LimitUse(int(counter.granted), counter.window_end) for counter in counters},
        **{limit_id: LimitUse(count, None) for limit_id, count in slots},
    }
