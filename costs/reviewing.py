"""A month as finance reviews it: figures, findings and what was decided about each. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from costs.models import ReviewItem, ReviewSignature


@dataclass(frozen=True)
class Finding:
    """Something that costs more than it should, or that nobody owns."""

    kind: ReviewItem.Kind
    ref: str
    title: str
    detail: str
    """Why it is found, in a sentence."""
    cost: Decimal | None = None
    """USD of the month; None where no money is known to belong to it."""
    page: tuple[str, ...] = ()
    """Name and arguments of the page where its figures stand; the calls behind it are a query of that page."""
    query: Mapping[str, str] | None = None

    @property
    def key(self) -> tuple[str, str]:
        return (str(self.kind), self.ref)


@dataclass(frozen=True)
class Row:
    """A finding, what was decided about it, or both: an open decision whose finding is gone is carried all the same."""

    kind: ReviewItem.Kind
    ref: str
    title: str
    finding: Finding | None
    item: ReviewItem | None

    @property
    def waits(self) -> bool:
        """Nobody has decided about it."""
        return self.item is None


@dataclass(frozen=True)
class Section:
    kind: ReviewItem.Kind
    rows: list[Row]

    @property
    def cost(self) -> Decimal | None:
        """USD of the findings whose money is known; None when there is none."""
        known = [row.finding.cost for row in self.rows if row.finding and row.finding.cost is not None]
        return sum(known, Decimal()) if known else None

    @property
    def undecided(self) -> list[Row]:
        return [row for row in self.rows if row.waits]

    @property
    def seen(self) -> str:
        """SHA-256 over which findings have no decision: whoever decides alike about them says what was seen."""
        return digest({"kind": str(self.kind), "refs": sorted(row.ref for row in self.undecided)})


@dataclass(frozen=True)
class BudgetLine:
    name: str
    amount: Decimal
    """USD in the month, and what is spent of it."""
    spent: Decimal

    @property
    def share(self) -> Decimal:
        """Percent of the amount."""
        return self.spent / self.amount * 100


@dataclass(frozen=True)
class Review:
    month: date
    is_over: bool
    """It has ended and everything that began in it is counted."""
    complete_through: datetime
    cost: Decimal
    """USD over the priced calls; so is the next one."""
    before: Decimal | None
    """Of the month before; None when nothing was called in it."""
    calls: int
    """Served ones."""
    unpriced_calls: int
    saved: Decimal | None
    """Against the signed baseline; None without one, or without calls to compare."""
    budgets: list[BudgetLine]
    sections: list[Section]
    signature: ReviewSignature | None = None

    @property
    def change(self) -> Decimal | None:
        return None if self.before is None else self.cost - self.before

    @property
    def change_percent(self) -> Decimal | None:
        return None if not self.before else (self.cost - self.before) / self.before * 100

    @property
    def rows(self) -> list[Row]:
        return [row for section in self.sections for row in section.rows]

    @property
    def waiting(self) -> int:
        """Findings about which nobody has decided."""
        return sum(len(section.undecided) for section in self.sections)

    @property
    def overrun(self) -> list[BudgetLine]:
        return [line for line in self.budgets if line.spent > line.amount]

    def as_json(self) -> dict[str, Any]:
        """What is signed: money as text with all its decimals."""
        return {
            "month": f"{self.month:%Y-%m}",
            "cost_usd": _exact(self.cost),
            "before_usd": _exact(self.before),
            "calls": self.calls,
            "unpriced_calls": self.unpriced_calls,
            "saved_usd": _exact(self.saved),
            "budgets": [{"name": line.name, "amount_usd": _exact(line.amount), "spent_usd": _exact(line.spent)} for line in self.budgets],
            "items": [_row(row) for row in self.rows],
        }

    @property
    def sha256(self) -> str:
        return digest(self.as_json())

    def as_signed(self) -> Review:
        """With the money, calls and budgets that were signed, whatever they are by now; itself while nobody has signed."""
        if self.signature is None:
            return self
        figures = self.signature.figures
        return replace(
            self,
            cost=Decimal(figures["cost_usd"]),
            before=_amount(figures["before_usd"]),
            calls=figures["calls"],
            unpriced_calls=figures["unpriced_calls"],
            saved=_amount(figures["saved_usd"]),
            budgets=[BudgetLine(line["name"], Decimal(line["amount_usd"]), Decimal(line["spent_usd"])) for line in figures["budgets"]],
        )

    @property
    def has_moved(self) -> bool:
        """Late calls or a corrected price have changed the month's money since it was signed off."""
        return self.signature is not None and self.signature.figures["cost_usd"] != _exact(self.cost)


def digest(figures: Mapping[str, Any]) -> str:
    """SHA-256 over figures in their one form."""
    return hashlib.sha256(json.dumps(figures, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def is_intact(signature: ReviewSignature) -> bool:
    """Its figures are those that were signed."""
    return digest(signature.figures) == signature.sha256


def _row(row: Row) -> dict[str, Any]:
    item = row.item
    return {
        "kind": str(row.kind),
        "ref": row.ref,
        "title": row.title,
        "detail": row.finding.detail if row.finding else "",
        "cost_usd": _exact(row.finding.cost) if row.finding else None,
        "decision": item.decision if item else "",
        "owner": item.owner.email if item else "",
        "note": item.note if item else "",
        "due_on": item.due_on.isoformat() if item and item.due_on else None,
    }


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _exact(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount.normalize():f}"
