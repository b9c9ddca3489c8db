"""Who looks again when guardrails change. Filled by the floor whose approvals rest on them (catalog)."""

from __future__ import annotations

from collections.abc import Callable

from governance.models import User

_watches: list[tuple[Callable[[], object], Callable[[User], None]]] = []


def register_watch(watch: Callable[[User], None], *, hold: Callable[[], object]) -> None:
    """`watch(actor)` is called in the transaction of every change of the current tenant's guardrails, `hold()` at its beginning: it locks what
    is looked at. Only then is the audit log locked, as by those who approve: the other way round each would wait for the other."""
    _watches[:] = [(hold, watch)]


def guardrails_about_to_change() -> None:
    for hold, _ in _watches:
        hold()


def guardrails_changed(actor: User) -> None:
    for _, watch in _watches:
        watch(actor)
