"""Telling a month's showback once it is complete."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from costs import showback_selectors
from costs.periods import first_of_month
from governance.models import Notice, Severity
from governance.roles import Permission
from governance.services import alerts
from governance.templatetags.gatehouse import money_text

GRACE = timedelta(hours=26)
"""After the end of a month, UTC: late calls, and clouds that report a day behind, are in it then."""
LINES = 20


def tell_month(*, at: datetime | None = None) -> Notice | None:
    """Send the showback of the month before, once, from `GRACE` after its end on.

    None while it is too early, calls that began in it still wait to be counted, or nobody used anything.
    """
    at = at or timezone.now()
    month = first_of_month((at - GRACE).date(), -1)
    key = f"showback:{month:%Y-%m}"
    told = Notice.objects.filter(key=key).first()
    if told is not None:
        return told
    found = showback_selectors.showback(month)
    if not found.is_over or not found.total.calls:
        return None
    with transaction.atomic():
        return alerts.notify(
            topic=showback_selectors.TOPIC,
            severity=Severity.INFO,
            title=f"{month:%B %Y} cost {money_text(found.total.cost)}",
            text=_text(found),
            path=f"operate/costs/showback/?month={month:%Y-%m}",
            permission=Permission.VIEW_COSTS,
            key=key,
            data={
                "month": f"{month:%Y-%m}",
                "cost_usd": f"{found.total.cost.normalize():f}",
                "untagged_usd": f"{found.total.untagged_cost.normalize():f}",
            },
            at=at,
        )


def _text(found: showback_selectors.Showback) -> str:
    """The change since the month before, a line per cost centre, what is untagged or has no price, and the difference to the bills."""
    shown, rest = found.total.children[:LINES], found.total.children[LINES:]
    lines = [f"{node.label}: {money_text(node.cost)} ({node.share or Decimal():.1f}%)" for node in shown]
    if rest:
        lines.append(f"{len(rest)} more: {money_text(sum((node.cost for node in rest), Decimal()))}")
    total = found.total
    if total.change is not None and total.before:
        share = abs(total.change) / total.before * 100
        lines.insert(0, f"{money_text(abs(total.change))} ({share:.1f}%) {'less' if total.change < 0 else 'more'} than the month before.")
    if total.untagged_calls:
        lines.append(f"Untagged: {money_text(total.untagged_cost)} in {_calls(total.untagged_calls)}.")
    if total.unpriced_calls:
        lines.append(f"Without a price, and in no sum: {_calls(total.unpriced_calls)}.")
    if found.bills:
        lines.append(f"The providers' bills differ from this by {money_text(found.billed_difference)}.")
    return "\n".join(lines)


def _calls(count: int) -> str:
    return f"{count:,} call{'' if count == 1 else 's'}"
