"""What floors above offer to this one. They register when they are loaded."""

from __future__ import annotations

from collections.abc import Callable

from costs.models import BudgetIncident
from governance.models import Tenant

SpendBook = Callable[[Tenant], None]
_books: list[SpendBook] = []
FalseThrottleListener = Callable[[BudgetIncident], object]
_listeners: list[FalseThrottleListener] = []


def register_spend_book(book: SpendBook) -> None:
    """`book(tenant)` runs in the tenant's schema, each minute while a budget acts on calls: known spend is made known to whoever counts."""
    _books.append(book)


def book_spend(tenant: Tenant) -> None:
    for book in _books:
        book(tenant)


def register_false_throttle(listener: FalseThrottleListener) -> None:
    """`listener(incident)` runs in the tenant's schema, in the transaction of the report."""
    _listeners.append(listener)


def tell_false_throttle(incident: BudgetIncident) -> None:
    for listener in _listeners:
        listener(incident)
