"""A throw-away embedded server for a measurement that needs a database, in a process of its own with its settings."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from cryptography.fernet import Fernet

ROOT = Path(__file__).resolve().parent.parent


def figures_of(module: str, *arguments: str) -> dict[str, float]:
    """Run `python -m <module>` on an empty, prepared database; its last line is its figures as JSON."""
    from governance.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch:
        server = EmbeddedPostgres(Path(scratch) / "postgres")
        url = server.start()
        try:
            environment = {
                **os.environ,
                "DATABASE_URL": url,
                "DATA_DIR": scratch,
                "SECRET_KEY": secrets.token_urlsafe(48),
                "KEY_PEPPER": secrets.token_urlsafe(48),
                "SEALING_KEYS": Fernet.generate_key().decode(),
                "DATABASE_POOL": "0",
                "CELERY_BROKER_URL": "memory://",
                "DJANGO_SETTINGS_MODULE": "governance.settings",
            }
            subprocess.run([sys.executable, "manage.py", "prepare"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
            done = subprocess.run(
                [sys.executable, "-m", module, *arguments], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
        finally:
            server.stop()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
