"""The throw-away database server of a test run, with a migrated template database.

Migrating takes seconds, so the migrated cluster is kept in `.cache/testdb/<digest of all migrations>` and copied for each
run; every pytest worker then clones the template database inside it. `TEST_DATABASE_URL` uses a real server instead.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
from psycopg import sql

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "template_gatehouse"
SECRETS = {
    "SECRET_KEY": "tests-only-secret-key-0123456789abcdef0123456789",
    "KEY_PEPPER": "tests-only-pepper-0123456789abcdef0123456789abc",
    "SEALING_KEYS": "dGVzdHMtb25seS1zZWFsaW5nLWtleS0wMTIzNDU2Nzg=",
}


def prepare() -> None:
    """Set the environment of the run and start the server, once per run; xdist workers inherit both."""
    os.environ.update(SECRETS)
    os.environ.update(
        {
            "DJANGO_SETTINGS_MODULE": "governance.settings",
            "DATABASE_POOL": "0",
            "OUTBOUND_ALLOW": "127.0.0.1,localhost",
            "ALLOWED_HOSTS": "*",
            "LOG_LEVEL": "WARNING",
        }
    )
    os.environ["CELERY_BROKER_URL"] = "memory://"  # what a test queues goes nowhere; tests of workers name a real broker
    if "GATEHOUSE_TEST_SERVER" not in os.environ:
        data = Path(tempfile.mkdtemp(prefix="gatehouse-tests-"))
        os.environ["DATA_DIR"] = str(data)
        os.environ["GATEHOUSE_TEST_SERVER"] = _start_server(data)
        atexit.register(shutil.rmtree, data, ignore_errors=True)
    os.environ["DATABASE_URL"] = database_url(TEMPLATE)


def database_url(name: str) -> str:
    return os.environ["GATEHOUSE_TEST_SERVER"].rsplit("/", 1)[0] + f"/{name}"


def clone(name: str) -> str:
    """A new database from the template; returns its URL."""
    with psycopg.connect(database_url("postgres"), autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")  # half the time of copying through the log
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(TEMPLATE)))
    return database_url(name)


def drop(name: str) -> None:
    with psycopg.connect(database_url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def _start_server(data: Path) -> str:
    from governance.embedded import EmbeddedPostgres

    fast = {
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "autovacuum": "off",
        "max_connections": "300",
    }
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        os.environ["GATEHOUSE_TEST_SERVER"] = given
        drop(TEMPLATE)
        _make_template(given)
        return given
    pristine = ROOT / ".cache" / "testdb" / _digest()
    pristine.parent.mkdir(parents=True, exist_ok=True)
    with pristine.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not pristine.exists():
            new = pristine.with_suffix(".new")  # of this digest only: somebody else may be building another one
            shutil.rmtree(new, ignore_errors=True)
            building = EmbeddedPostgres(new, settings=fast)
            os.environ["GATEHOUSE_TEST_SERVER"] = building.start()
            try:
                _make_template(os.environ["GATEHOUSE_TEST_SERVER"])
            finally:
                building.stop()
            building.directory.rename(pristine)
            _remove_all_but(pristine)
        directory = data / "postgres"
        shutil.copytree(pristine, directory)
    server = EmbeddedPostgres(directory, settings=fast)
    url = server.start()
    atexit.register(server.stop)
    return url


def _remove_all_but(pristine: Path) -> None:
    """Clusters of other migrations, 100 MB each, unless another run is building or copying one. The empty locks stay: somebody may wait for one."""
    for other in pristine.parent.iterdir():
        if other.is_dir() and other != pristine:
            with other.with_suffix(".lock").open("w") as lock, contextlib.suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other)


def _make_template(server: str) -> None:
    with psycopg.connect(server.rsplit("/", 1)[0] + "/postgres", autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    environment = {**os.environ, "DATABASE_URL": database_url(TEMPLATE), "CELERY_BROKER_URL": ""}  # with the queue in the database
    for command in (["manage.py", "prepare"], ["-m", "tests.cast"]):
        subprocess.run([sys.executable, *command], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("*/migrations/*.py"), *ROOT.glob("*/*/migrations/*.py"), Path(__file__), ROOT / "tests" / "cast.py"]):
        if ".venv" not in path.parts and "node_modules" not in path.parts:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
