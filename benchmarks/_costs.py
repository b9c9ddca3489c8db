"""The measured half of `benchmarks.costs`, in a process of its own with the settings of the throw-away server."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import django

from benchmarks.costs import CALLS


def main() -> None:
    django.setup()
    from costs import generator
    from costs.models import PriceEntry, TokenClass, UsageHour
    from costs.services import ingest
    from governance.models import User
    from governance.schema import enter_tenant
    from governance.services import tenants

    owner = User.objects.create_user("bench@example.com", None, name="Bench")
    tenant = tenants.create_tenant(slug="bench", name="Bench", owner_email=owner.email, actor=None)
    enter_tenant(tenant)
    offers = []
    for n in range(4):
        prices = {
            TokenClass.INPUT.value: Decimal(n + 1),
            TokenClass.CACHED_INPUT.value: Decimal(n + 1) / 4,
            TokenClass.OUTPUT.value: Decimal(4 * n + 4),
        }
        offers.append(generator.Offer(f"model-{n}", f"model-{n}", prices))
        for token_class, price in prices.items():
            PriceEntry.objects.create(
                provider="bench",
                model=f"model-{n}",
                token_class=token_class,
                price=price,
                valid_from=datetime(2020, 1, 1, tzinfo=UTC),
                approved_by=owner,
            )
    month = datetime.now(UTC).date().replace(day=1)
    made = generator.generate(
        tenant=tenant.public_id,
        provider="bench",
        provider_name="Bench",
        account="bench",
        month=month,
        offers=offers,
        seed=1,
        calls_per_day=CALLS,
        days=1,
    )
    start = (datetime.now(UTC) - timedelta(hours=4)).timestamp()
    for call in made.calls:
        call.started_at = start + (call.started_at % 86_400) / 8
    began = time.perf_counter()
    ingest.deliver(made.calls)
    copied = time.perf_counter()
    done = ingest.ingest(tenant=tenant)
    ended = time.perf_counter()
    if done.new != CALLS or sum(UsageHour.objects.values_list("calls", flat=True)) != CALLS:
        raise RuntimeError("not every call was attributed")
    per_second, copied_per_second = CALLS / (ended - copied), CALLS / (copied - began)
    figures = {
        "ingest_events_per_s": round(per_second),
        "copied_rows_per_s": round(copied_per_second),
        "ingest_copy_ratio": round(per_second / copied_per_second, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
