"""The local installation: one command that starts everything, and stops everything on Ctrl-C.

`python -m governance.launcher` (`make run`) owns the embedded PostgreSQL, the web process (portal and plane on one port), the
Celery worker, beat and the sandbox upstream. A child that dies is started again. A fleet does not use this file: it runs the
lines of the Procfile.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TextIO

from governance import local
from governance.embedded import EmbeddedPostgres, EmbeddedPostgresError

ROOT = Path(__file__).resolve().parent.parent
NEEDS_NO_DATABASE = {"sandbox_upstream", "makemigrations", "collectstatic", "help", "--help", "--version", "check"}
STOP_TIMEOUT_S = 15.0
_PR_SET_PDEATHSIG = 1
END_WITH_PARENT = {"worker": signal.SIGKILL}
"""A worker would first wait for a database that died with us; its tasks may be cut off anywhere."""


COMMANDS = {
    "sandbox": "gateway.sandbox --port {sandbox_port} --data-dir {directory}/sandbox",
    "web": "granian --interface asgi --host 127.0.0.1 --port {port} --workers 1 --no-ws --log-level warning gateway.web:app",
    "worker": "celery -A governance worker -n worker@local --concurrency 2 --without-mingle --without-gossip --loglevel WARNING",
    "beat": "celery -A governance.beat beat --schedule {directory}/beat --pidfile= --loglevel WARNING",
}
"""What runs beside the database: modules with their arguments. The Procfile has the same for a fleet."""


class CannotStartError(RuntimeError):
    """The installation can't start; the message says why and what to do."""


@contextmanager
def local_database() -> Iterator[None]:
    """For a management command: use the embedded server that runs, or run it for as long as the command lasts."""
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    if os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"):
        yield
        return
    directory = local.data_dir()
    if not (directory / local.FILE).exists():
        local.write(directory)
    server = EmbeddedPostgres(directory / "postgres")
    if server.is_running():
        yield
    elif command in NEEDS_NO_DATABASE and not (directory / "postgres").exists():
        os.environ["DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
        yield
    else:
        server.start()
        try:
            yield
        finally:
            server.stop()


class Installation:
    """Everything that `make run` starts, in order, and stops, in reverse."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory, self.port = directory, port
        self.base_url = os.environ.get("BASE_URL") or f"http://127.0.0.1:{port}"
        self.server: EmbeddedPostgres | None = None
        self.children: dict[str, tuple[list[str], subprocess.Popen[bytes]]] = {}
        self._lock: TextIO | None = None

    def start(self) -> None:
        """Raises CannotStartError with a sentence for people."""
        began = time.monotonic()
        self._take_lock()
        _require_free(self.port)
        say(f"Gatehouse starts in {self.directory}")
        sandbox_port = _first_free(self.port + 1)
        local.write(self.directory, BASE_URL=self.base_url, SANDBOX_URL=f"http://127.0.0.1:{sandbox_port}")
        local.load(self.directory)
        os.environ["BASE_URL"], os.environ["SANDBOX_URL"] = self.base_url, f"http://127.0.0.1:{sandbox_port}"
        os.environ["GATEWAY_URL"] = os.environ.get("GATEWAY_URL") or f"http://127.0.0.1:{self.port}"
        os.environ["DATA_DIR"] = str(self.directory)
        if not os.environ.get("DATABASE_URL"):
            say("  database: PostgreSQL 18, embedded")
            self.server = EmbeddedPostgres(self.directory / "postgres")
            os.environ["DATABASE_URL"] = self.server.start()
        changed = self._prepare()
        places = {"port": self.port, "sandbox_port": sandbox_port, "directory": self.directory}
        for name, command in COMMANDS.items():
            self._spawn(name, [sys.executable, "-m", *[word.format(**places) for word in command.split()]])
        _wait_until_up(f"http://127.0.0.1:{sandbox_port}/v1/models", self._child_died)
        demo = self._demo(again=changed)
        _wait_until_up(f"http://127.0.0.1:{self.port}/readyz", self._child_died)
        _wait_until_up(f"http://127.0.0.1:{self.port}/login/", self._child_died)
        say(f"  ready in {time.monotonic() - began:.1f} s\n")
        self._introduce(demo)

    def watch(self) -> None:
        """Start again whatever dies, until a signal ends this process."""
        while True:
            time.sleep(1)
            for name, (command, process) in list(self.children.items()):
                if process.poll() is not None:
                    say(f"{name} ended with {process.returncode} and is started again; see {self._log(name)}")
                    self._spawn(name, command)

    def stop(self) -> None:
        """Stop all children, then the database. What was written survives."""
        processes = [process for _, process in reversed(self.children.values())]
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in processes:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal_group(process, signal.SIGKILL)
                process.wait()
        if self.server is not None:
            self.server.stop()

    def _take_lock(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = (self.directory / "run.lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.seek(0)
            other = self._lock.read().strip() or "another process"
            raise CannotStartError(
                f"Gatehouse already runs with {self.directory} ({other}). Stop it there with Ctrl-C, or start a second one with its own folder "
                "and port: make run PORT=8010 DATA_DIR=.data2"
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"pid {os.getpid()}, {self.base_url}")
        self._lock.flush()

    def _prepare(self) -> bool:
        """Migrate and collect static files, unless nothing of them changed since the last start. True when something did."""
        digest = hashlib.sha256(os.environ["DATABASE_URL"].rsplit("@", 1)[0].encode())
        sources = [
            *ROOT.glob("*/migrations/*.py"),
            *ROOT.glob("*/*/migrations/*.py"),
            ROOT / "package-lock.json",
            *(ROOT / "static").rglob("*"),
            *(ROOT / "templates").rglob("*.html"),
            *ROOT.glob("*/apps.py"),
        ]
        for path in sorted(path for path in sources if path.is_file() and ".venv" not in path.parts):
            digest.update(path.read_bytes())
        stamp = self.directory / "prepared"
        if stamp.exists() and stamp.read_text() == digest.hexdigest() and (self.directory / "static").exists():
            return False
        say("  schemas and static files")
        self._manage("prepare", "--static")
        stamp.write_text(digest.hexdigest())
        return True

    def _demo(self, *, again: bool) -> dict[str, object]:
        """How to get in. The demo is made again only after a change: of the release, or of an address that it names."""
        kept = self.directory / "introduction.json"
        addresses = {"base_url": self.base_url, "sandbox_url": os.environ["SANDBOX_URL"]}
        if not again and kept.exists():
            found: dict[str, object] = json.loads(kept.read_text())
            if found["addresses"] == addresses:
                return found
        say("  demo organisation")
        made: dict[str, object] = json.loads(self._manage("demo", "--json", "--history")) | {"addresses": addresses}
        kept.touch(mode=0o600)
        kept.write_text(json.dumps(made))
        return made

    def _manage(self, *arguments: str) -> str:
        done = subprocess.run([sys.executable, "manage.py", *arguments], check=False, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            raise CannotStartError(f"manage.py {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")
        return done.stdout

    def _spawn(self, name: str, command: list[str]) -> None:
        say(f"  {name}") if name not in self.children else None
        log = self._log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only this process, which stops the rest in order
                preexec_fn=partial(_end_with_parent, END_WITH_PARENT.get(name, signal.SIGTERM)),  # noqa: PLW1509 - this process has no threads
            )
        self.children[name] = (command, process)

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name}.log"

    def _child_died(self) -> None:
        for name, (_, process) in self.children.items():
            if process.poll() is not None:
                tail = self._log(name).read_text(errors="replace")[-1500:]
                raise CannotStartError(f"{name} ended with {process.returncode}:\n{tail}")

    def _introduce(self, demo: dict[str, object]) -> None:
        users = demo["users"]
        assert isinstance(users, list)
        say(f"Open {self.base_url}/ and sign in:")
        for user in users:
            say(f"  {user['email']:<26} {user['password']:<22} {user['role']}")
        say("\nA first governed call:\n")
        body = json.dumps({"model": demo["model"], "messages": [{"role": "user", "content": "Hello"}]})
        say(
            f"  curl {self.base_url}/v1/chat/completions \\\n    -H 'Authorization: Bearer {demo['virtual_key']}' \\\n    -H 'Content-Type: application/json' \\\n    -d '{body}'\n"
        )
        say("Ctrl-C stops everything; what was written stays.")


def say(text: str) -> None:
    print(text, flush=True)


def _end_with_parent(number: signal.Signals) -> None:
    """Children end when this process dies, even by kill -9."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """SIGTERM to the leader, which ends its own children; SIGKILL to the whole group."""
    if process.poll() is not None:
        return
    if number == signal.SIGKILL:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotStartError(f"Port {port} is in use by another program. Choose another: make run PORT={port + 10}") from error


def _first_free(port: int) -> int:
    for candidate in range(port, port + 100):
        try:
            _require_free(candidate)
        except CannotStartError:
            continue
        return candidate
    raise CannotStartError(f"No port is free from {port} to {port + 99}.")


def _wait_until_up(url: str, check: object, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        assert callable(check)
        check()
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - our own loopback address
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
            detail = f"answers {error.code}"
        except OSError as error:
            detail = str(error)
        if time.monotonic() > deadline:
            raise CannotStartError(f"{url} {detail}")
        time.sleep(0.1)


def main() -> int:
    installation = Installation(local.data_dir(), int(os.environ.get("PORT") or 8000))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, interrupt)  # a shell starts what runs in its background with SIGINT ignored
    try:
        installation.start()
        installation.watch()
    except KeyboardInterrupt:
        say("\nGatehouse stops")
    except (CannotStartError, EmbeddedPostgresError) as error:
        say(f"\nGatehouse can't start. {error}")
        return 1
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it running
        installation.stop()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
