"""`manage.py demo`: make the demo organisation."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from operations.services.demo import make_demo


class Command(BaseCommand):
    help = "Make the demo organisation acme, or what is missing of it, and print how to get in."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--history", action="store_true", help="with made-up calls of the last weeks and a bill, where there are no calls yet"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        demo = make_demo(with_history=options["history"])
        if options["json"]:
            self.stdout.write(json.dumps(demo))
            return
        self.stdout.write(f"{demo['base_url']}/o/{demo['tenant']}/")
        for user in demo["users"]:
            self.stdout.write(f"  {user['email']:<22} {user['password']:<18} {user['role']}")
        self.stdout.write(f"Virtual key {demo['virtual_key']}\nAPI token   {demo['api_token']}\nModel       {demo['model']}")
