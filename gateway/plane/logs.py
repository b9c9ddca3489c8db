"""Log lines: a constant event, `entity.action`, and its fields as `name=value`. Never prompts, answers or secrets."""

from __future__ import annotations

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


class _FieldFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD)
        line = super().format(record)
        if not fields:
            return line
        head, newline, traceback = line.partition("\n")
        return f"{head} {fields}{newline}{traceback}"


def configure() -> None:
    """Give the root logger a handler, unless whoever runs the process has done so."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    handler.setFormatter(_FieldFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    for name in ("mcp", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
