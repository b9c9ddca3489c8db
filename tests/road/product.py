"""The product as a person starts it: `python -m governance.launcher` in a folder of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.bootstrap import ROOT

READY_TIMEOUT_S = 150.0
LAST_WORDS = "Ctrl-C stops everything"
"""What the launcher prints when it has said all that one needs to begin."""
INHERITED = ("PATH", "HOME", "LANG", "SSL_CERT_FILE", "TMPDIR", "VIRTUAL_ENV")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Product:
    """One local installation."""

    directory: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    started_in_s: float = 0.0
    first_words: str = ""
    """What the first start printed."""

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory.with_suffix(".log")

    def environment(self, **more: str) -> dict[str, str]:
        """As in a new shell: nothing of the test run's own settings."""
        return (
            {name: os.environ[name] for name in INHERITED if name in os.environ}
            | {"DATA_DIR": str(self.directory), "PORT": str(self.port)}
            | more
        )

    def start(self, **more: str) -> None:
        self.log.write_text("")
        began = time.monotonic()
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "governance.launcher"],
                cwd=ROOT,
                env=self.environment(**more),
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        while LAST_WORDS not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() - began < READY_TIMEOUT_S, self.log.read_text()
            time.sleep(0.1)
        self.started_in_s = time.monotonic() - began
        self.first_words = self.first_words or self.log.read_text()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=60)

    def manage(self, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments], cwd=ROOT, env=self.environment(), check=True, capture_output=True, text=True
        ).stdout

    def local_settings(self) -> dict[str, str]:
        """What the launcher keeps of its own, for example where the sandbox listens."""
        found: dict[str, str] = json.loads((self.directory / "local.json").read_text())
        return found

    def demo(self) -> dict[str, Any]:
        """How to get in, from the command that says it."""
        found: dict[str, Any] = json.loads(self.manage("demo", "--json"))
        return found

    def processes(self) -> list[str]:
        """Command lines of everything that runs with this installation's folder, read from /proc."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environ, command = (entry / "environ").read_bytes(), (entry / "cmdline").read_bytes()
                except OSError:  # ended meanwhile, or not ours
                    continue
                if f"DATA_DIR={self.directory}".encode() in environ.split(b"\0") and command:
                    found.append(command.replace(b"\0", b" ").decode())
        return found
