"""`manage.py prepare`: bring database and static files to the state that this release needs. Safe to run again."""

from typing import Any

import pgmq
import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from governance import assets
from governance.schema import enter_public


class Command(BaseCommand):
    help = "Migrate every schema, install the queue where Celery's broker is the database, and with --static collect static files."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--static", action="store_true", help="also build the icon sprite and collect static files")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate_schemas", verbosity=max(0, options["verbosity"] - 1), interactive=False)
        if settings.CELERY_BROKER_URL.startswith("pgmq://"):
            with psycopg.connect(settings.CELERY_BROKER_URL.replace("pgmq://", "postgresql://", 1), autocommit=True) as broker:
                row = broker.execute("SELECT to_regnamespace('pgmq')").fetchone()
                if row is not None and row[0] is None:  # its installation is not idempotent
                    broker.execute(pgmq.get_embedded_install_sql())
        enter_public()
        if options["static"]:
            assets.build()
            call_command("collectstatic", verbosity=0, interactive=False, clear=True)
        self.stdout.write("The database is ready.")
