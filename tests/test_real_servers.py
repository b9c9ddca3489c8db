"""The same product on what nobody here wrote: PostgreSQL of the distribution, Redis as broker, Presidio as an engine of guardrails.

Skipped where the server is not installed; `make test` installs them where it can. They take a minute, so `make soak` runs them.
"""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from governance.embedded import EmbeddedPostgres
from tests.bootstrap import ROOT
from tests.road.product import free_port

pytestmark = [pytest.mark.process, pytest.mark.soak]
SERVERS = sorted((path for path in Path("/usr/lib/postgresql").glob("*/bin") if int(path.parent.name) >= 15), reverse=True)
SUBSET = [
    "tests/governance/services/test_tenants.py::test_tenant_is_made_in_under_five_seconds_with_its_owner",
    "tests/costs/services/test_ingest.py",
]


@pytest.fixture
def distribution_postgres(tmp_path: Path) -> Iterator[str]:
    """URL of a fresh cluster of the distribution's PostgreSQL, stopped afterwards."""
    if not SERVERS:
        pytest.skip("no PostgreSQL 15 or newer of the distribution is installed")
    port, directory = free_port(), tmp_path / "cluster"
    directory.mkdir(mode=0o700)
    prefix, user = EmbeddedPostgres(directory)._as_ordinary_user()
    if user is not None:
        pytest.skip("this kernel gives root no user namespace")
    subprocess.run(
        [*prefix, str(SERVERS[0] / "initdb"), "-D", str(directory), "-U", "gatehouse", "-A", "trust", "-E", "UTF8"],
        check=True,
        capture_output=True,
    )
    server = subprocess.Popen(
        [
            *prefix,
            str(SERVERS[0] / "postgres"),
            "-D",
            str(directory),
            "-p",
            str(port),
            "-h",
            "127.0.0.1",
            "-k",
            "",
            "-c",
            "fsync=off",
            "-c",
            "max_connections=200",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql://gatehouse@127.0.0.1:{port}/postgres"
    try:
        _until_it_answers(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=20)


def _until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def _bare_environment() -> dict[str, str]:
    """Without what this run of tests has set."""
    own = ("GATEHOUSE_TEST_SERVER", "DATABASE_URL", "DATA_DIR", "DJANGO_SETTINGS_MODULE")
    return {name: value for name, value in os.environ.items() if name not in own and not name.startswith("PYTEST_")}


def test_services_run_on_the_distributions_postgresql(distribution_postgres: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *SUBSET],
        cwd=ROOT,
        env=_bare_environment() | {"TEST_DATABASE_URL": distribution_postgres},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """URL of a Redis server; the queue in the database is the one that the road runs on."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    server = subprocess.Popen(
        [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait(timeout=10)


def test_worker_publishes_what_was_left_behind(broker: str, fresh_database: str, tmp_path: Path) -> None:
    environment = os.environ | {"DATABASE_URL": fresh_database, "CELERY_BROKER_URL": broker, "DATA_DIR": str(tmp_path)}
    with psycopg.connect(fresh_database, autocommit=True) as database:
        database.execute("UPDATE governance_tenant SET config_version = config_version + 1")
        log = (tmp_path / "worker.log").open("w")
        processes = [
            subprocess.Popen([sys.executable, "-m", "celery", "-A", app, *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log)
            for app, *arguments in (
                (
                    "governance",
                    "worker",
                    "--concurrency",
                    "1",
                    "-n",
                    "worker@test",
                    "--without-mingle",
                    "--without-gossip",
                    "--loglevel",
                    "WARNING",
                ),
                ("governance.beat", "beat", "--schedule", str(tmp_path / "beat"), "--pidfile=", "--loglevel", "WARNING"),
            )
        ]
        try:
            deadline = time.monotonic() + 60
            behind = "SELECT count(*) FROM governance_tenant WHERE published_version < config_version"
            while database.execute(behind).fetchone() != (0,):
                assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
                time.sleep(0.1)
            assert database.execute("SELECT count(*) FROM gateway_snapshot").fetchone() == (2,)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(timeout=30)
            log.close()


def test_guardrails_by_the_real_presidio(tmp_path: Path) -> None:
    """In an environment of its own, which has the extra on top of this one."""
    [wanted] = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("pii = ")]
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, capture_output=True)
    python = home / "bin" / "python"
    [ours] = site.getsitepackages()
    installed = subprocess.run([str(python), "-m", "pip", "install", "-q", *tomllib.loads(wanted)["pii"]], capture_output=True, check=False)
    if installed.returncode:
        pytest.skip("presidio-analyzer can't be installed here")
    [theirs] = home.glob("lib/python*/site-packages")
    (theirs / "ours.pth").write_text(ours)
    program = home / "bin" / "granian"
    program.write_text(f"#!{python}\n" + Path(sys.executable).with_name("granian").read_text().partition("\n")[2])
    program.chmod(0o755)

    done = subprocess.run(
        [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "tests/gateway/test_presidio.py", "-k", "presidio"],
        cwd=ROOT,
        env=_bare_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-3000:]
    assert "2 skipped" not in done.stdout
