"""How fast calls become priced events and rollups, against the plain COPY that brought them.

On a throw-away embedded server: one tenant, four priced models, 40,000 calls over three hours in batches of the usual size. The copy
figure is the same rows into the indexed inbox; the ratio says what attribution costs on top, whatever the machine.
"""

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
CALLS = 40_000


def measure() -> dict[str, float]:
    """Attributed events per second, copied rows per second, and the ratio of the two."""
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
                "DJANGO_SETTINGS_MODULE": "governance.settings",
            }
            subprocess.run([sys.executable, "manage.py", "prepare"], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks._costs"], cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
            )
        finally:
            server.stop()
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures
