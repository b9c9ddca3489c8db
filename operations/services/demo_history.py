"""What the demo organisation did before its first start: made-up calls of this month and the last, the bill for the last one, a budget and a
baseline. So pages about money have something to show, and what they show can be reconciled to the cent.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from catalog.models import Deployment, Project
from catalog.services import keys
from costs import generator
from costs.generator import Faults, Offer
from costs.models import Budget, UsageHour
from costs.periods import Period, first_of_month
from costs.services import anomalies, bills, budgets, ingest, prices, savings
from gateway.contract.events import CallEvent
from governance.models import Tenant, User

ACCOUNT = "acct-1001"
WEEKDAY, WEEKEND, RUNAWAY = 400, 140, 800
"""Calls a day; those of the last day that one agent made by mistake."""
FAULTS = Faults(missing_calls=9, price_drift_percent=Decimal(4))
"""What a comparison of the bill finds."""
_PROJECTS = {"checkout": 0, "support": 0, "search": 1}


def set_prices(provider: str, offers: Mapping[str, Mapping[str, Decimal]], *, actor: User, today: date | None = None) -> None:
    """Put prices in force from the first day of last month on. Where calls have prices already, nothing is changed."""
    since = datetime.combine(first_of_month(today or timezone.now().date(), -1), time(), UTC)
    if not UsageHour.objects.exists():
        for model, by_class in offers.items():
            for token_class, price in by_class.items():
                prices.set_price(provider=provider, model=model, token_class=token_class, price=price, actor=actor, valid_from=since)


@transaction.atomic
def make_history(
    *,
    tenant: Tenant,
    provider: str,
    offers: Mapping[str, Mapping[str, Decimal]],
    key_id: str,
    finance: User,
    owner: User,
    today: date | None = None,
) -> int:
    """Calls until yesterday, and what finance made of them. Returns how many; 0, and nothing is done, where there were calls before."""
    if UsageHour.objects.exists():
        return 0
    today = today or timezone.now().date()
    last_month, this_month = first_of_month(today, -1), today.replace(day=1)
    models = [Offer(slug, slug, by_class) for slug, by_class in offers.items()]

    def made(month: date, days: int | None, seed: int, faults: Faults | None = None) -> generator.Generated:
        return generator.generate(
            tenant=tenant.public_id, provider=provider, provider_name=provider.capitalize(), account=ACCOUNT, month=month, offers=models, seed=seed,
            calls_per_day=WEEKDAY, calls_per_weekend_day=WEEKEND, faults=faults, days=days,
        )  # fmt: skip

    second = Project.objects.order_by("pk")[1]
    other = keys.create_key(name="tools", project=second, owner=owner, actor=owner)[
        0
    ].public_id  # of calls that were; nobody has its secret
    billed = made(last_month, None, 1, FAULTS)
    calls = [*billed.calls, *(made(this_month, today.day - 1, 2).calls if today.day > 1 else [])]
    runaway = _runaway(tenant, provider, models[0], today - timedelta(days=1))
    calls = [*_placed(calls, (key_id, other)), *_placed(runaway, (key_id, other), "ticket-sorter")]
    ingest.deliver(calls)
    ingest.ingest(tenant=tenant)
    bills.import_bill(file=io.BytesIO(_csv(billed.rows)), name=f"{provider}-{last_month:%Y-%m}.csv", actor=finance, provider=provider)
    project = Project.objects.order_by("pk").first()
    assert project is not None
    budget = budgets.create_budget(
        actor=finance, name=f"{project.name}, monthly", scope=Budget.Scope.PROJECT, ref=project.slug, amount=Decimal(60)
    )
    budgets.enforce_budget(budget=budget, actor=finance)
    budgets.write_notices()
    anomalies.detect_day(day=today - timedelta(days=1))
    month = Period(last_month, this_month - timedelta(days=1))
    baseline = savings.freeze_baseline(name=f"{last_month:%B %Y}", period=month, projected_percent=Decimal(10), actor=finance)
    savings.sign_baseline(baseline=baseline, sha256=baseline.sha256, actor=owner)
    return len(calls)


def _placed(calls: list[CallEvent], key_ids: tuple[str, str], agent: str = "") -> Iterator[CallEvent]:
    """The calls as those of the demo's projects, with their keys, and of its deployments."""
    projects = list(Project.objects.order_by("pk").values_list("slug", flat=True)[:2])
    deployments = {model: str(pk) for pk, model in Deployment.objects.values_list("pk", "model__slug")}
    for call in calls:
        place = _PROJECTS[call.project or ""]
        call.project, call.key_id, call.agent = projects[place], key_ids[place], agent or call.agent
        call.deployment, call.region = deployments[call.model or ""], "local"
        yield call


def _runaway(tenant: Tenant, provider: str, offer: Offer, day: date) -> list[CallEvent]:
    return generator.generate(
        tenant=tenant.public_id, provider=provider, provider_name=provider, account=ACCOUNT, month=day, offers=[offer], seed=3,
        calls_per_day=RUNAWAY, days=1,
    ).calls  # fmt: skip


def _csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, generator.COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
