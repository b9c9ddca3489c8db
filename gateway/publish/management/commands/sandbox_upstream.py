from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand

from gateway.sandbox.__main__ import serve


class Command(BaseCommand):
    help = "A local HTTP server that speaks the OpenAI and MCP wire protocols, for trying things out without a provider."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=9101)
        parser.add_argument("--data-dir", type=Path, default=Path(".data/sandbox"), help="where the journal is kept")
        parser.add_argument("--key", default="", help="demand this bearer key; without it anybody may call")

    def handle(self, *_: Any, **options: Any) -> None:
        serve(options["port"], options["data_dir"], options["key"])
