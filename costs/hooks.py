"""What floors above offer to this one. They register when they are loaded."""

from __future__ import annotations

from collections.abc import Callable

from governance.models import Tenant

SpendBook = Callable[[Tenant], None]
_books: list[SpendBook] = []


def register_spend_book(book: SpendBook) -> None:
    """`book(tenant)` runs in the tenant's schema, each minute while a budget acts on calls: known spend is made known to whoever counts."""
    _books.append(book)


def book_spend(tenant: Tenant) -> None:
    for book in _books:
        book(tenant)
