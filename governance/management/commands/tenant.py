"""`manage.py tenant create|suspend|reopen|export|delete`: what the platform's page does, for scripts."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from governance.errors import DomainError
from governance.forms import TenantForm
from governance.models import Tenant, User
from governance.services import tenant_data, tenants


class Command(BaseCommand):
    help = "Create, suspend, reopen, export or delete a tenant."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--operator", required=True, help="E-mail of the operator in whose name it is done.")
        acts = parser.add_subparsers(dest="act", required=True)
        create = acts.add_parser("create", help="Make a tenant with its own schema and its first owner.")
        create.add_argument("slug")
        create.add_argument("--name", required=True)
        create.add_argument("--owner-email", required=True, help="A new account asks for its first password, or takes it from a pipe.")
        create.add_argument("--kind", choices=Tenant.Kind.values, default=Tenant.Kind.CUSTOMER)
        create.add_argument("--tier", choices=Tenant.Tier.values, default=Tenant.Tier.FREE)
        create.add_argument("--region", default="")
        create.add_argument("--time-zone", default="UTC")
        suspend = acts.add_parser("suspend", help="The gateway refuses all of its calls within seconds.")
        reopen = acts.add_parser("reopen", help="Let it call again.")
        export = acts.add_parser("export", help="Write everything it has into a ZIP file, without credentials.")
        delete = acts.add_parser("delete", help="Forget a suspended tenant. There is no way back.")
        for act in (suspend, reopen, export, delete):
            act.add_argument("slug")
        for act in (suspend, delete):
            act.add_argument("--reason", required=True)
        export.add_argument("--out", type=Path, required=True)
        delete.add_argument("--confirm", required=True, help="The address once more.")

    def handle(self, *args: Any, **options: Any) -> None:
        operator = User.objects.filter(email=options["operator"].lower(), is_operator=True, is_active=True).first()
        if operator is None:
            raise CommandError(f"{options['operator']} is no operator.")
        try:
            self.stdout.write(self._do(operator, options))
        except DomainError as error:
            raise CommandError(error.message) from error

    def _do(self, operator: User, options: dict[str, Any]) -> str:
        if options["act"] == "create":
            form = TenantForm(options | {"owner_password": _first_password(options["owner_email"])})
            if not form.is_valid():
                raise CommandError(" ".join(f"{name}: {error}" for name, errors in form.errors.items() for error in errors))
            made = tenants.create_tenant(actor=operator, **form.cleaned_data)
            return f"{made.name} is at {made.path}."
        tenant = Tenant.objects.filter(slug=options["slug"]).first()
        if tenant is None:
            raise CommandError(f"There is no tenant {options['slug']}.")
        if options["act"] == "suspend":
            tenants.suspend_tenant(tenant=tenant, actor=operator, reason=options["reason"])
            return f"{tenant.name} is suspended."
        if options["act"] == "reopen":
            tenants.reopen_tenant(tenant=tenant, actor=operator)
            return f"{tenant.name} is open."
        if options["act"] == "export":
            with options["out"].open("xb") as file:
                for chunk in tenant_data.export_tenant(tenant=tenant, actor=operator):
                    file.write(chunk)
            return f"{options['out']}: {options['out'].stat().st_size:,} bytes."
        name = tenant.name
        tenant_data.delete_tenant(tenant=tenant, actor=operator, reason=options["reason"], confirm=options["confirm"])
        return f"{name} is deleted."


def _first_password(email: str) -> str:
    """Asked for, or the first line of a pipe; empty when the person has an account already."""
    if User.objects.filter(email=email.lower()).exists():
        return ""
    return getpass.getpass(f"First password of {email}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
