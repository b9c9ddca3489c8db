"""`./manage.py generate_bill`: telemetry and its true bill, with faults of known size."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django_tenants.utils import schema_context

from catalog.models import Deployment, Provider
from costs import generator
from costs.models import PriceEntry, TokenClass
from costs.services import ingest
from governance.models import Tenant


class Command(BaseCommand):
    help = (
        "Write a FOCUS bill and (with --deliver) put the telemetry that belongs to it into the inbox. Prices come from the tenant's book."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="slug")
        parser.add_argument("--provider", required=True, help="slug of a provider with priced models")
        parser.add_argument("--month", default="", help="YYYY-MM, default: the present month so far")
        parser.add_argument("--account", default="acct-1001")
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--calls-per-day", type=int, default=24)
        parser.add_argument("--missing", type=int, default=0, help="calls on the bill that never reach telemetry")
        parser.add_argument("--duplicates", type=int, default=0, help="calls that telemetry reports twice under different ids")
        parser.add_argument("--price-drift", type=Decimal, default=Decimal(), help="percent by which one day's input is billed higher")
        parser.add_argument("--late-days", type=int, default=0, help="days whose rows come in a second file")
        parser.add_argument(
            "--late-calls", type=int, default=0, help="calls that --deliver leaves out: the same once more with --deliver-late brings them"
        )
        parser.add_argument("--bypass", type=int, default=0, help="output tokens of a model that the gateway never saw")
        parser.add_argument("--round", action="store_true", help="the bill rounds each row to the cent")
        parser.add_argument("--out", type=Path, required=True, help="folder for bill.csv, late.csv and truth.json")
        parser.add_argument("--deliver", action="store_true", help="put the calls into the inbox")
        parser.add_argument("--deliver-late", action="store_true", help="put those into the inbox that came late")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['tenant']}.")
        today = timezone.now().date()
        try:
            month = date.fromisoformat(f"{options['month']}-01") if options["month"] else today.replace(day=1)
        except ValueError as error:
            raise CommandError("The month is written YYYY-MM.") from error
        with schema_context(tenant.schema_name):
            provider = Provider.objects.filter(slug=options["provider"]).first()
            if provider is None:
                raise CommandError(f"{tenant} has no provider {options['provider']}.")
            offers = _offers(provider)
            if not offers:
                raise CommandError(f"No model of {provider} has an input and an output price in the book.")
            faults = generator.Faults(
                missing_calls=options["missing"],
                duplicate_calls=options["duplicates"],
                price_drift_percent=options["price_drift"],
                late_days=options["late_days"],
                late_calls=options["late_calls"],
                bypass_tokens=options["bypass"],
                round_to_cents=options["round"],
            )
            try:
                made = generator.generate(
                    tenant=tenant.public_id,
                    provider=provider.slug,
                    provider_name=provider.name,
                    account=options["account"],
                    month=month,
                    offers=offers,
                    seed=options["seed"],
                    calls_per_day=options["calls_per_day"],
                    faults=faults,
                    days=today.day if month == today.replace(day=1) else None,
                )
            except ValueError as error:
                raise CommandError(str(error)) from error
            delivered = ingest.deliver(made.calls) if options["deliver"] else 0
            delivered += ingest.deliver(made.late_calls) if options["deliver_late"] else 0
        out: Path = options["out"]
        out.mkdir(parents=True, exist_ok=True)
        (out / "bill.csv").write_bytes(generator.to_csv(made.rows))
        if made.late_rows:
            (out / "late.csv").write_bytes(generator.to_csv(made.late_rows))
        truth = {"first": made.truth, "complete": made.truth_complete}
        (out / "truth.json").write_text(json.dumps(truth, indent=2, default=str))
        self.stdout.write(
            f"{len(made.calls) + len(made.late_calls)} calls ({delivered} delivered), {len(made.rows)} rows in {out / 'bill.csv'}, {len(made.late_rows)} late ones; truth in {out / 'truth.json'}"
        )


def _offers(provider: Provider) -> list[generator.Offer]:
    """Models of the provider with the prices that are in force now."""
    at = timezone.now()
    offers = []
    for slug, upstream in Deployment.objects.filter(provider=provider).order_by("model__slug").values_list("model__slug", "upstream_model"):
        entries = PriceEntry.objects.usual().filter(provider=provider.slug, model=slug)
        prices = {entry.token_class: entry.price for entry in entries if entry.covers(at)}
        if TokenClass.INPUT in prices and TokenClass.OUTPUT in prices:
            offers.append(generator.Offer(slug, upstream, prices))
    return offers
