"""What other apps keep of a tenant outside its schema, and how they forget it.

An app registers one function for each such place. All of them run in the transaction that deletes the tenant, in `public`.
"""

from __future__ import annotations

from collections.abc import Callable

from governance.models import Tenant

Eraser = Callable[[Tenant], None]
erasers: list[Eraser] = []


def register_eraser(eraser: Eraser) -> None:
    """`eraser(tenant)` removes what its app keeps of the tenant in `public`."""
    erasers.append(eraser)
