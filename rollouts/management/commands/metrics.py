"""`./manage.py metrics --tenant acme`: every registered metric with its unit, scope, window, sample rule and present value."""

from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone
from django_tenants.utils import schema_context

from governance import metrics
from governance.models import Tenant
from rollouts import wording
from rollouts.services.evidence import read_metric


class Command(BaseCommand):
    help = "List the metric registry with the values of an organisation."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tenant", required=True, help="Address of the organisation, for example acme.")
        parser.add_argument("--hours", type=int, default=168, help="Window that ends now (default: 168, a week).")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = Tenant.objects.filter(slug=options["tenant"]).first()
        if tenant is None:
            raise CommandError(f"There is no organisation {options['tenant']}.")
        if options["hours"] <= 0:
            raise CommandError("--hours must be above zero.")
        now = timezone.now()
        window = metrics.Window(now - timedelta(hours=options["hours"]), now)
        self.stdout.write(f"Of the organisation {tenant.slug}, over the {options['hours']:,} h up to {now:%Y-%m-%d %H:%M} UTC:")
        with schema_context(tenant.schema_name):
            for metric in metrics.all_metrics():
                reading = read_metric(metric.key, window)
                value = reading["error"] or ("no data" if reading["value"] is None else wording.figure(reading["value"], metric.unit))
                spread = wording.interval(reading, metric.unit)
                self.stdout.write(
                    f"{metric.key:34} {value:>16}  {f'({spread})' if spread else '':24} {metric.unit:5} {metric.better:6} is better  "
                    f"sample {reading['sample']:,} of {metric.minimum_sample:,}  {metric.title}"
                )
