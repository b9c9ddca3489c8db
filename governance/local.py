"""The settings of a local installation: random secrets and addresses that `make run` keeps in DATA_DIR/local.json.

They only fill in what the environment does not say. Elsewhere there is no such file, and a missing secret stops the start.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path

FILE = "local.json"


def data_dir() -> Path:
    """Where the installation keeps everything; DATA_DIR, by default `.data` beside manage.py."""
    return Path(os.environ.get("DATA_DIR") or Path(__file__).resolve().parent.parent / ".data").resolve()


def load(directory: Path) -> None:
    """Put the local settings into the environment, where it does not have them."""
    path = directory / FILE
    if path.exists():
        for name, value in json.loads(path.read_text()).items():
            if not os.environ.get(name) and not os.environ.get(f"{name}_FILE"):
                os.environ[name] = value


def write(directory: Path, **changes: str) -> None:
    """Make the file on first use, with random secrets, readable by its owner only; then apply the changes."""
    path = directory / FILE
    directory.mkdir(parents=True, exist_ok=True)
    if path.exists():
        values = json.loads(path.read_text())
    else:
        values = {
            "SECRET_KEY": secrets.token_urlsafe(48),
            "KEY_PEPPER": secrets.token_urlsafe(48),
            "SEALING_KEYS": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "OUTBOUND_ALLOW": "127.0.0.1",
        }
    values.update(changes)
    scratch = path.with_suffix(".new")
    scratch.touch(mode=0o600)
    scratch.write_text(json.dumps(values, indent=1))
    scratch.replace(path)
