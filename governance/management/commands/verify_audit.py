"""`manage.py verify_audit`: walk the audit chains and say whether they hold."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django_tenants.utils import schema_context

from governance.forms import CheckpointForm
from governance.models import Tenant
from governance.services import audit


class Command(BaseCommand):
    help = "Recompute the audit chain of every tenant and of the platform. Exits with 1 when one is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--tenant", default="", help="address of one tenant; by default all of them and the platform")
        parser.add_argument("--checkpoint", default="", help="as told before, with --tenant: shows a log that was cut off or written anew")

    def handle(self, *args: Any, **options: Any) -> None:
        tenants = Tenant.objects.filter(slug=options["tenant"]) if options["tenant"] else Tenant.objects.order_by("slug")
        if options["tenant"] and not tenants:
            raise CommandError(f"There is no tenant {options['tenant']}.")
        form = CheckpointForm(options)
        if not form.is_valid() or (options["checkpoint"] and not options["tenant"]):
            raise CommandError("A checkpoint is the number of an entry, a colon and its hash of 64 characters, and needs --tenant.")
        logs = [(tenant.slug, tenant.schema_name) for tenant in tenants] + ([] if options["tenant"] else [("platform", "public")])
        broken = False
        for name, schema_name in logs:
            with schema_context(schema_name):
                result = audit.verify(**form.cleaned_data)
            broken = broken or not result.is_intact
            self.stdout.write(
                f"{name}: {result.entries} entries, {'intact' if result.is_intact else f'BROKEN: {result.reason}'}, checkpoint {result.checkpoint}"
            )
        if broken:
            raise CommandError("An audit chain is broken.")
