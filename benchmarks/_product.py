"""The product around what is measured: its database, and the worker and beat as they run in a fleet."""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet

from benchmarks import gateway

ROOT = gateway.ROOT
_CELERY = (sys.executable, "-m", "celery", "-A")
_WORKER = ("governance", "worker", "--concurrency", "2", "--without-mingle", "--without-gossip", "--loglevel", "WARNING")


@contextlib.contextmanager
def product_database() -> Iterator[tuple[str, dict[str, str], Path]]:
    """A throw-away embedded server with every schema, and the settings of the product on it."""
    from governance.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-") as scratch:
        home = Path(scratch)
        server = EmbeddedPostgres(home / "postgres")
        url = server.start()
        environment = {
            "DATABASE_URL": url, "DATA_DIR": scratch, "SECRET_KEY": secrets.token_urlsafe(48), "KEY_PEPPER": secrets.token_urlsafe(48),
            "SEALING_KEYS": Fernet.generate_key().decode(), "DJANGO_SETTINGS_MODULE": "governance.settings", "OUTBOUND_ALLOW": "127.0.0.1",
            "LOG_LEVEL": "WARNING",
        }  # fmt: skip
        try:
            subprocess.run(
                [sys.executable, "manage.py", "prepare"], cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL
            )
            yield url, environment, home
        finally:
            server.stop()


@contextlib.contextmanager
def workers(environment: dict[str, str], home: Path) -> Iterator[None]:
    """A worker of two processes, and beat."""
    beat = ("governance.beat", "beat", "--schedule", str(home / "beat"), "--pidfile=", "--loglevel", "WARNING")
    with _child([*_CELERY, *_WORKER], environment, home), _child([*_CELERY, *beat], environment, home):
        yield


@contextlib.contextmanager
def _child(command: list[str], environment: dict[str, str], home: Path) -> Iterator[None]:
    with (home / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
