"""What ends a command, and the exit codes that scripts rely on."""

from __future__ import annotations

DONE, FAILED, USAGE, WAITS = 0, 1, 2, 3
"""All done; refused or failed (of `diff`: there are differences); a wrong command or manifest; done, but a second person has to agree."""


class CliError(Exception):
    """Ends the command with one sentence on standard error."""

    exit_code = FAILED


class UsageError(CliError):
    """The command, its settings or a manifest can't be right."""

    exit_code = USAGE


class RefusedError(CliError):
    """The server said no."""

    def __init__(self, status: int, code: str, detail: str, fields: dict[str, list[str]] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.fields = status, code, detail, fields or {}
