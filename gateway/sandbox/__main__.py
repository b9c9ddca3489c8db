"""`python -m gateway.sandbox --port 9101 --data-dir .data/sandbox [--key SECRET]`"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from granian import Granian
from granian.constants import Interfaces
from granian.log import LogLevels


def serve(port: int, data_dir: Path, key: str) -> None:
    """Serve until SIGINT or SIGTERM, on loopback only: it is no service for others."""
    os.environ["SANDBOX_DATA_DIR"] = str(data_dir)
    os.environ["SANDBOX_KEY"] = key
    Granian(
        "gateway.sandbox.asgi:app", address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_level=LogLevels.warning, websockets=False
    ).serve()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m gateway.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=9101)
    parser.add_argument("--data-dir", type=Path, default=Path(".data/sandbox"))
    parser.add_argument("--key", default="", help="demand this bearer key; without it anybody may call")
    arguments = parser.parse_args()
    serve(arguments.port, arguments.data_dir, arguments.key)


if __name__ == "__main__":
    main()
