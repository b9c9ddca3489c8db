"""Run a tool that reads Django's settings but needs no database: mypy, makemigrations --check, the OpenAPI schema."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bootstrap import ROOT, SECRETS

COMMANDS = {
    "mypy": [sys.executable, "-m", "mypy"],
    "makemigrations": [sys.executable, "-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run"],
    "schema": [
        sys.executable,
        "manage.py",
        "spectacular",
        "--urlconf",
        "governance.urls_api",
        "--validate",
        "--fail-on-warn",
        "--file",
        "docs/openapi.yaml",
    ],
}


def main() -> int:
    environment = {**os.environ, **SECRETS, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "DATABASE_POOL": "0"}
    return subprocess.run([*COMMANDS[sys.argv[1]], *sys.argv[2:]], check=False, cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    raise SystemExit(main())
