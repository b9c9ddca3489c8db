"""Deciding about the findings of a month, signing the month off, and telling finance that it waits."""

from __future__ import annotations

from datetime import UTC, date, datetime

from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.selectors import current_tenant
from costs import review_selectors
from costs.errors import ReviewError, ReviewStateError
from costs.models import ReviewItem, ReviewSignature
from costs.periods import first_of_month
from costs.reviewing import Review, Row
from costs.services.showback import GRACE
from governance.models import Notice, Severity, User
from governance.roles import Permission
from governance.selectors import membership_in
from governance.services import alerts, audit
from governance.templatetags.gatehouse import money_text

Decision = ReviewItem.Decision


@transaction.atomic
def decide(
    *,
    month: date,
    kind: str,
    ref: str,
    decision: str,
    owner: User,
    actor: User,
    note: str = "",
    due_on: date | None = None,
    at: datetime | None = None,
) -> ReviewItem:
    """Decide about a finding of the month, or anew about one that is open. Writes one audit entry.

    Retiring, changing and watching take a day by which it is done. Raises ReviewError (names the field) or ReviewStateError (the month is
    signed off or has not begun, or there is no such finding).
    """
    at = at or timezone.now()
    _check_open(month, at)
    _check_decision(decision, owner, due_on)
    row = _row(review_selectors.review(month, at), kind, ref)
    item = ReviewItem.objects.select_for_update().filter(kind=kind, ref=ref, closed_at=None).first()
    return _decide(row, item, month, decision, owner, actor, note, due_on, at)


@transaction.atomic
def decide_rest(
    *,
    month: date,
    kind: str,
    seen: str,
    decision: str,
    owner: User,
    actor: User,
    note: str = "",
    due_on: date | None = None,
    at: datetime | None = None,
) -> list[ReviewItem]:
    """Decide alike about every finding of a kind that has no decision yet, an audit entry each. `seen` is the section's digest of those that the person saw.

    Raises as `decide`, and ReviewStateError where they are others by now.
    """
    at = at or timezone.now()
    _check_open(month, at)
    _check_decision(decision, owner, due_on)
    section = next((each for each in review_selectors.review(month, at).sections if each.kind == kind and each.undecided), None)
    if section is None or section.seen != seen:
        raise ReviewStateError("These are not the findings without a decision that you saw. Look again.")
    return [_decide(row, None, month, decision, owner, actor, note, due_on, at) for row in section.undecided]


def _check_decision(decision: str, owner: User, due_on: date | None) -> None:
    if decision not in Decision.values:
        raise ReviewError("Keep, retire, change or watch.", field="decision")
    if due_on is None and decision != Decision.KEEP:
        raise ReviewError("Say by when: whatever is not kept has a day.", field="due_on")
    if membership_in(owner, current_tenant()) is None:
        raise ReviewError(f"{owner} does not belong to the organisation.", field="owner")


def _decide(
    row: Row, item: ReviewItem | None, month: date, decision: str, owner: User, actor: User, note: str, due_on: date | None, at: datetime
) -> ReviewItem:
    """Write one decision, in `item` if one is open about it."""
    if item is None:
        item = ReviewItem(kind=row.kind, ref=row.ref, month=month)
    item.month = min(item.month, month)  # decided in a later month first: it stands in this one's review from now on, too
    item.title, item.owner, item.decision, item.note, item.due_on = row.title[:200], owner, decision, note.strip(), due_on
    item.decided_by, item.decided_at = actor, at
    try:
        with transaction.atomic():
            item.save()
    except IntegrityError as error:
        raise ReviewStateError("Somebody else has decided about it at this moment. Look again.") from error
    audit.record(
        "cost_review.decided", actor=actor, target=item, at=at, month=f"{month:%Y-%m}", kind=row.kind, ref=row.ref, decision=decision,
        owner=owner.email, due_on=due_on, note=item.note,
    )  # fmt: skip
    return item


@transaction.atomic
def close_item(*, month: date, kind: str, ref: str, actor: User, at: datetime | None = None) -> ReviewItem:
    """Call an open item done, in the review of the month: it is not carried on. Writes one audit entry. Raises ReviewStateError."""
    at = at or timezone.now()
    _check_open(month, at)
    item = ReviewItem.objects.select_for_update().filter(kind=kind, ref=ref, closed_at=None, month__lte=month).first()
    if item is None:
        raise ReviewStateError("There is no open decision about it.")
    item.closed_month, item.closed_by, item.closed_at = month, actor, at
    item.save(update_fields=["closed_month", "closed_by", "closed_at"])
    audit.record("cost_review.closed", actor=actor, target=item, at=at, month=f"{month:%Y-%m}", kind=kind, ref=ref, decision=item.decision)
    return item


@transaction.atomic
def sign_off(*, month: date, sha256: str, actor: User, note: str = "", at: datetime | None = None) -> ReviewSignature:
    """Sign the month off with its figures and decisions, once. `sha256` is what the person saw. Writes one audit entry.

    Raises ReviewStateError (signed before, not over, something undecided, or other figures than were seen).
    """
    at = at or timezone.now()
    _check_unsigned(month)
    found = review_selectors.review(month, at)
    if not found.is_over:
        raise ReviewStateError(f"{month:%B %Y} is not over and counted: its figures still change.")
    if found.waiting:
        raise ReviewStateError(f"{found.waiting} finding{' has' if found.waiting == 1 else 's have'} no decision yet.")
    if found.sha256 != sha256:
        raise ReviewStateError("These are not the figures that you saw. Look at them again, then sign.")
    signed, is_new = ReviewSignature.objects.get_or_create(
        month=month,
        defaults={"figures": found.as_json(), "sha256": sha256, "note": note.strip(), "signed_by": actor, "signed_at": at},
    )
    if not is_new:
        raise ReviewStateError(f"{month:%B %Y} is signed off already.")
    audit.record("cost_review.signed_off", actor=actor, target=signed, at=at, month=f"{month:%Y-%m}", sha256=sha256, note=signed.note)
    return signed


def tell_month(*, at: datetime | None = None) -> Notice | None:
    """Say that the month before can be reviewed, once, as soon as it is complete. None before that, or when nobody used anything."""
    at = at or timezone.now()
    month = first_of_month((at - GRACE).date(), -1)
    key = f"cost-review:{month:%Y-%m}"
    told = Notice.objects.filter(key=key).first()
    if told is not None:
        return told
    found = review_selectors.review(month, at)
    if not found.is_over or not found.calls:
        return None
    with transaction.atomic():
        return alerts.notify(
            topic=review_selectors.TOPIC,
            severity=Severity.INFO,
            title=f"{month:%B %Y} can be reviewed: {money_text(found.cost)}, {len(found.rows)} to look at",
            text=_text(found),
            path=f"operate/costs/review/?month={month:%Y-%m}",
            permission=Permission.VIEW_COSTS,
            key=key,
            data={"month": f"{month:%Y-%m}", "cost_usd": f"{found.cost.normalize():f}", "items": len(found.rows), "waiting": found.waiting},
            at=at,
        )


def _text(found: Review) -> str:
    """Against the month before, budgets that were overrun, and a line for each section with something in it."""
    lines = []
    if found.change is not None:
        lines.append(f"Against the month before: {'+' if found.change >= 0 else '-'}{money_text(abs(found.change))}.")
    lines += [f"Budget {line.name} overrun: {money_text(line.spent)} of {money_text(line.amount)}." for line in found.overrun]
    for section in found.sections:
        if section.rows:
            money = "" if section.cost is None else f", {money_text(section.cost)}"
            lines.append(f"{section.kind.label}: {len(section.rows)}{money}.")
    return "\n".join(lines)


def _row(found: Review, kind: str, ref: str) -> Row:
    row = next((row for row in found.rows if (row.kind, row.ref) == (kind, ref)), None)
    if row is None:
        raise ReviewStateError("The month's review has no such finding.")
    return row


def _check_open(month: date, at: datetime) -> None:
    if month > at.astimezone(UTC).date():
        raise ReviewStateError(f"{month:%B %Y} has not begun.")
    _check_unsigned(month)


def _check_unsigned(month: date) -> None:
    if ReviewSignature.objects.filter(month=month).exists():
        raise ReviewStateError(f"{month:%B %Y} is signed off. Decide in the review of a later month.")
