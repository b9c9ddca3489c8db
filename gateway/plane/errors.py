"""The ways the plane says no.

PlaneError
├── Refusal              one call is refused; becomes an answer in the caller's error shape
└── DatabaseAwayError    PostgreSQL cannot be asked now
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

# Stable codes: HTTP status and OpenAI error type of each.
CODES: dict[str, tuple[int, str]] = {
    "malformed_key": (401, "authentication_error"),
    "unknown_key": (401, "authentication_error"),
    "key_revoked": (401, "authentication_error"),
    "key_expired": (401, "authentication_error"),
    "key_rotated": (401, "authentication_error"),
    "tenant_suspended": (403, "permission_error"),
    "switched_off": (403, "permission_error"),
    "project_disabled": (403, "permission_error"),
    "consent_withdrawn": (403, "permission_error"),
    "model_not_found": (404, "invalid_request_error"),
    "model_not_allowed": (403, "permission_error"),
    "prompt_not_found": (404, "invalid_request_error"),
    "tool_not_found": (404, "invalid_request_error"),
    "tool_not_allowed": (403, "permission_error"),
    "invalid_arguments": (400, "invalid_request_error"),
    "tag_required": (400, "invalid_request_error"),
    "policy_denied": (403, "permission_error"),
    "guardrail_blocked": (400, "invalid_request_error"),
    "guardrail_unavailable": (503, "server_error"),
    "rate_limit_exceeded": (429, "rate_limit_error"),
    "budget_exceeded": (402, "insufficient_quota"),
    "budget_throttled": (429, "rate_limit_error"),
    "model_unpriced": (402, "insufficient_quota"),
    "store_unavailable": (503, "server_error"),
    "upstream_error": (502, "upstream_error"),
    "upstream_timeout": (504, "upstream_error"),
    "invalid_json": (400, "invalid_request_error"),
    "invalid_request": (400, "invalid_request_error"),
    "request_too_large": (413, "invalid_request_error"),
    "unknown_route": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "internal_error": (500, "server_error"),
}


# Who refuses, where the refusal itself names nobody nearer: every error says it.
_SCOPES: dict[str, str] = {
    "malformed_key": "key",
    "unknown_key": "key",
    "key_revoked": "key",
    "key_expired": "key",
    "key_rotated": "key",
    "model_not_found": "tenant",
    "prompt_not_found": "tenant",
    "tool_not_found": "tenant",
    "upstream_error": "upstream",
    "upstream_timeout": "upstream",
    "invalid_arguments": "request",
    "invalid_json": "request",
    "invalid_request": "request",
    "request_too_large": "request",
    "unknown_route": "request",
    "method_not_allowed": "request",
}


# The Anthropic error type for each HTTP status; any other is an `api_error`.
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def anthropic_type(status: int) -> str:
    """The error type that the Anthropic protocol has for an HTTP status."""
    return _ANTHROPIC_TYPES.get(status, "invalid_request_error" if 400 <= status < 500 else "api_error")


class PlaneError(Exception):
    """Root of this room's errors."""


class DatabaseAwayError(PlaneError):
    """PostgreSQL cannot be asked now. `certain`: the statement has surely not run."""

    def __init__(self, message: str, *, certain: bool) -> None:
        super().__init__(message)
        self.certain = certain


class Refusal(PlaneError):
    """One call is refused. The message is fit for the caller and holds no secret."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        scope: str | None = None,
        budget: str | None = None,
        resets_at: float | None = None,
        retry_after_s: int | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.scope = scope
        self.budget = budget
        """Name of the budget that refuses."""
        self.resets_at = resets_at
        """Seconds since the epoch when the exhausted window ends."""
        self.retry_after_s = retry_after_s
        self.status = status or CODES[code][0]

    def body(self, request_id: str) -> dict[str, Any]:
        """The answer in the OpenAI error shape."""
        error: dict[str, Any] = {
            "message": self.message,
            "type": CODES[self.code][1],
            "code": self.code,
            "param": self.param,
            "request_id": request_id,
            "scope": self.scope or _SCOPES.get(self.code, "gateway"),
        }
        if self.budget is not None:
            error["budget"] = self.budget
        if self.resets_at is not None:
            error["resets_at"] = datetime.fromtimestamp(self.resets_at, UTC).isoformat(timespec="seconds")
        return {"error": error}

    def anthropic_body(self, request_id: str) -> dict[str, Any]:
        """The answer in the Anthropic error shape, with our own fields beside the protocol's."""
        error = {**self.body(request_id)["error"], "type": anthropic_type(self.status)}
        return {"type": "error", "error": error, "request_id": request_id}
