"""Log lines: a constant event, `entity.action`, and its fields as `name=value`. Never prompts, answers or secrets."""

from __future__ import annotations

import logging

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_OF_OTHERS = frozenset({"request", "data"})
"""Django's and Celery's, which hold query strings and arguments of tasks."""


class FieldFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in vars(record).items() if name not in _STANDARD and name not in _OF_OTHERS)
        line = super().format(record)
        if not fields:
            return line
        head, newline, traceback = line.partition("\n")
        return f"{head} {fields}{newline}{traceback}"
