"""The plane's log, where nobody else has set one up."""

from __future__ import annotations

import logging

from gateway.contract.logs import FieldFormatter


def configure() -> None:
    """Give the root logger a handler, unless whoever runs the process has done so."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(FieldFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in ("mcp", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
