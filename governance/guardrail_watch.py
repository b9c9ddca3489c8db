"""Who looks again when guardrails change. Filled by the floor whose approvals rest on them (catalog)."""

from __future__ import annotations

from collections.abc import Callable

from governance.models import User

_watches: list[Callable[[User], None]] = []


def register_watch(watch: Callable[[User], None]) -> None:
    """`watch(actor)` is called in the transaction of every change of the current tenant's guardrails."""
    _watches[:] = [watch]


def guardrails_changed(actor: User) -> None:
    for watch in _watches:
        watch(actor)
