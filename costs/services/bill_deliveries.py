"""What a file does to the rows in force: adds to them, or takes the place of what it delivers again.

Clouds deliver a billing period again and again, each time whole and with other figures. Rows of such a snapshot are matched with those in force by
fingerprint and number among equal ones, as sets that count: what is in both stays as it is, what is only in force is replaced, what is only in
the file is new. Nothing is removed, so that a replacement can be undone. All of it is SQL over the staged rows (`bill_staged`, made by
`costs.services.bill_rows`), in the caller's transaction and under its lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, Exists, Max, Min, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from costs import focus
from costs.models import BillDelivery, BillFeed, BillFile, BillRow, DeliveryStyle, Reconciliation, RevisionSignature
from governance.models import User
from governance.services import audit

STYLE, OLDER, SMALLER, APART, INCOMPLETE, SIGNED, EMPTY = "style", "older", "smaller", "apart", "incomplete", "signed", "empty"
"""Codes of doubts."""
WRITTEN_WITHIN = timedelta(hours=6)
"""All parts of one export."""
_CHARGE = "coalesce(nullif(b.charge_key, ''), b.fingerprint), b.meter"
"""Of one charge; the meter is in no key, since not every version of FOCUS has it."""
SHOWN = 50
"""Changes that are kept with a file."""
_PERIOD = "coalesce(b.period, b.month)"
_IN_SCOPE = f"b.provider = s.provider AND b.account = s.account AND {_PERIOD} = s.period"
_STAGED_IN_SCOPE = "n.provider = s.provider AND n.account = s.account AND n.period = s.period"


@dataclass(frozen=True)
class Styles:
    """How the file follows others, as far as anybody has said."""

    asked: str
    """For all of the file; empty for what is known."""
    known: Mapping[tuple[str, str], str]
    """Provider and account to style."""
    own: frozenset[tuple[str, str, date]] = frozenset()
    """Provider, account and period of what this very file delivered before: more rows of it are added there."""


@dataclass
class Outcome:
    """What a file changes."""

    deliveries: list[BillDelivery] = field(default_factory=list)
    doubts: list[dict[str, str]] = field(default_factory=list)
    changes: list[dict[str, str | None]] = field(default_factory=list)

    @property
    def replaces(self) -> bool:
        """Whether it is told of a period that was there."""
        return any(one.style == DeliveryStyle.REPLACEMENT and one.rows_before for one in self.deliveries)


def styles(asked: str, chosen: Mapping[tuple[str, str], str] | None = None, own: frozenset[tuple[str, str, date]] = frozenset()) -> Styles:
    known = {(feed.provider, feed.account): feed.style for feed in BillFeed.objects.all()}
    return Styles(asked, known | dict(chosen or {}), own)


def periods_of(bill: BillFile) -> frozenset[tuple[str, str, date]]:
    """Provider, account and period of what a file delivered, also before deliveries were kept."""
    rows = BillRow.ever.filter(file=bill).values_list("provider", "account", Coalesce("period", "month")).distinct()
    return frozenset(bill.deliveries.values_list("provider", "account", "period")) | frozenset(rows)


def remember(bill: BillFile, style: str, *, actor: User, at: datetime) -> None:
    """The style that a person chose for the file, for each of its accounts. Writes an audit entry for each that is new."""
    if not style:
        return
    for provider, account in bill.deliveries.order_by("provider", "account").values_list("provider", "account").distinct():
        feed = BillFeed.objects.filter(provider=provider, account=account).first()
        if feed is not None and feed.style == style:
            continue
        before = feed.style if feed else ""
        feed, _ = BillFeed.objects.update_or_create(
            provider=provider, account=account, defaults={"style": style, "set_by": actor, "set_at": at}
        )
        audit.record("bill_feed.set", actor=actor, target=feed, at=at, style=style, before=before)


def deliver(bill: BillFile, found: Styles) -> Outcome:
    """Put the staged rows of a file in force, and those that they replace out of it."""
    outcome = Outcome()
    with connection.cursor() as cursor:
        _scope(cursor, bill, found, outcome)
        older = _older(cursor)
        cursor.execute(
            f"""
            UPDATE bill_row b SET is_in_force = false, replaced_by_id = %s FROM bill_scope s
            WHERE s.style = 'replacement' AND {_IN_SCOPE} AND b.is_in_force AND b.file_id <> %s
                AND NOT EXISTS (SELECT 1 FROM bill_staged n WHERE n.fingerprint = b.fingerprint AND n.occurrence = b.occurrence)
            """,  # noqa: S608  # names and expressions of this module only
            [bill.pk, bill.pk],
        )
        cursor.execute("SELECT attname FROM pg_attribute WHERE attrelid = 'bill_staged'::regclass AND attnum > 0 ORDER BY attnum")
        columns = ", ".join(f'"{row[0]}"' for row in cursor.fetchall())
        cursor.execute(
            f"""
            INSERT INTO bill_row (file_id, is_in_force, {columns}) SELECT %s, true, {columns} FROM bill_staged
            ON CONFLICT (fingerprint, occurrence) WHERE is_in_force DO NOTHING
            """,  # noqa: S608  # names of our own columns
            [bill.pk],
        )
        outcome.deliveries = _figures(cursor, bill)
        outcome.changes = _changes(cursor, bill) if any(one.rows_gone for one in outcome.deliveries) else []
        cursor.execute("DROP TABLE bill_scope")
    if outcome.replaces:
        outcome.doubts += _doubts(bill, outcome, older)
    return outcome


def _scope(cursor: Any, bill: BillFile, found: Styles, outcome: Outcome) -> None:
    """The periods of the file, each with the style in which it is taken."""
    cursor.execute("DROP TABLE IF EXISTS bill_scope")
    cursor.execute(
        "CREATE TEMP TABLE bill_scope ON COMMIT DROP AS SELECT DISTINCT provider, account, period, ''::text AS style FROM bill_staged"
    )
    if found.own:
        statement = "UPDATE bill_scope SET style = 'append' WHERE (provider, account, period) = (%s, %s, %s)"
        cursor.executemany(statement, sorted(found.own))
    cursor.execute("SELECT DISTINCT provider, account FROM bill_scope WHERE style = '' ORDER BY 1, 2")
    pairs = cursor.fetchall()
    guessed = set() if found.asked else _restating(cursor, bill)
    for pair in pairs:
        style = found.asked or found.known.get(pair, "")
        if not style and pair in guessed:
            style = DeliveryStyle.REPLACEMENT
            name = " ".join(pair)
            outcome.doubts.append(
                _doubt(STYLE, f"It delivers rows of {name} again, some with other figures or left out: it seems to replace them.")
            )
        cursor.execute(
            "UPDATE bill_scope SET style = %s WHERE style = '' AND (provider, account) = (%s, %s)", [style or DeliveryStyle.APPEND, *pair]
        )


def _restating(cursor: Any, bill: BillFile) -> set[tuple[str, str]]:
    """Providers and accounts of which the file has most charges of a period again and not all as they are in force.

    Rows that have no key, or came in another version of FOCUS, which may name a charge by other columns, are compared by times and SKU.
    """
    plain = "concat_ws('|', {0}.provider, {0}.account, {0}.charge_category, {0}.charge_start, {0}.charge_end, {0}.sku_id)"
    # Joined, not asked by row: beyond work_mem PostgreSQL would read the whole file again for each row in force.
    cursor.execute(
        f"""
        WITH book AS (
            SELECT s.provider, s.account, s.period,
                CASE WHEN b.charge_key = '' OR f.focus_version <> %s THEN {plain.format("b")} ELSE b.charge_key END AS charge,
                bool_or(n.fingerprint IS NULL) AS differs
            FROM bill_scope s JOIN bill_row b ON {_IN_SCOPE} AND b.is_in_force JOIN bill_file f ON f.id = b.file_id
            LEFT JOIN bill_staged n ON (n.fingerprint, n.occurrence) = (b.fingerprint, b.occurrence)
            WHERE s.style = '' GROUP BY 1, 2, 3, 4
        ), again AS (SELECT n.charge_key AS charge FROM bill_staged n UNION SELECT {plain.format("n")} FROM bill_staged n)
        SELECT DISTINCT provider, account FROM book LEFT JOIN again USING (charge)
        GROUP BY provider, account, period
        HAVING bool_or(differs) AND (
            count(again.charge) >= 0.8 * count(*)
            OR (count(again.charge) >= 0.5 * count(*) AND bool_or(differs AND again.charge IS NOT NULL))
        )
        """,  # noqa: S608  # names and expressions of this module only
        [bill.focus_version],
    )
    return set(cursor.fetchall())


def _older(cursor: Any) -> list[tuple[str, str, date, datetime, datetime]]:
    """Periods that are replaced by usage which ends earlier: end in the file, end in force."""
    cursor.execute(f"""
        SELECT * FROM (
            SELECT s.provider, s.account, s.period,
                (SELECT max(n.charge_end) FROM bill_staged n WHERE {_STAGED_IN_SCOPE} AND n.charge_category = 'Usage') AS file_end,
                (SELECT max(b.charge_end) FROM bill_row b WHERE {_IN_SCOPE} AND b.is_in_force AND b.charge_category = 'Usage') AS book_end
            FROM bill_scope s WHERE s.style = 'replacement'
        ) ends WHERE book_end IS NOT NULL AND (file_end IS NULL OR file_end < book_end) ORDER BY 1, 2, 3
    """)  # noqa: S608  # names and expressions of this module only
    return list(cursor.fetchall())


def _figures(cursor: Any, bill: BillFile) -> list[BillDelivery]:
    """By period and currency, what stayed, came and went."""
    cursor.execute(
        f"""
        WITH touched AS (
            SELECT s.provider, s.account, s.period, b.currency, s.style, b.is_in_force, b.file_id = %(file)s AS is_own, b.billed_cost,
                ({_CHARGE}) AS charge
            FROM bill_scope s JOIN bill_row b ON {_IN_SCOPE} AND (b.is_in_force OR b.replaced_by_id = %(file)s)
        ), sums AS (
            SELECT provider, account, period, currency, style,
                count(*) FILTER (WHERE is_in_force AND NOT is_own) AS kept, count(*) FILTER (WHERE is_in_force AND is_own) AS new,
                count(*) FILTER (WHERE NOT is_in_force) AS gone,
                coalesce(sum(billed_cost) FILTER (WHERE is_in_force AND NOT is_own), 0) AS billed_kept,
                coalesce(sum(billed_cost) FILTER (WHERE is_in_force AND is_own), 0) AS billed_new,
                coalesce(sum(billed_cost) FILTER (WHERE NOT is_in_force), 0) AS billed_gone
            FROM touched GROUP BY 1, 2, 3, 4, 5
        ), pairs AS (
            SELECT provider, account, period, currency, least(count(*) FILTER (WHERE is_in_force), count(*) FILTER (WHERE NOT is_in_force)) AS n
            FROM touched WHERE is_own OR NOT is_in_force GROUP BY provider, account, period, currency, charge
        )
        SELECT provider, account, period, currency, style, kept, new, gone, coalesce(sum(pairs.n), 0), billed_kept, billed_new, billed_gone
        FROM sums LEFT JOIN pairs USING (provider, account, period, currency)
        GROUP BY provider, account, period, currency, style, kept, new, gone, billed_kept, billed_new, billed_gone ORDER BY 1, 2, 3, 4
        """,  # noqa: S608  # names and expressions of this module only
        {"file": bill.pk},
    )
    names = ("provider", "account", "period", "currency", "style", "rows_kept", "rows_new", "rows_gone", "rows_changed", "billed_kept", "billed_new", "billed_gone")  # fmt: skip
    return [BillDelivery(file=bill, **dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _changes(cursor: Any, bill: BillFile) -> list[dict[str, str | None]]:
    """The charges whose amounts changed most in periods that are replaced."""
    cursor.execute(
        f"""
        SELECT min(coalesce(nullif(b.description, ''), nullif(b.meter, ''), nullif(b.model, ''), b.charge_category)), min(b.day), b.currency,
            sum(b.billed_cost) FILTER (WHERE NOT b.is_in_force) AS was, sum(b.billed_cost) FILTER (WHERE b.is_in_force) AS now
        FROM bill_scope s JOIN bill_row b ON {_IN_SCOPE}
        WHERE s.style = 'replacement' AND (b.replaced_by_id = %(file)s OR (b.is_in_force AND b.file_id = %(file)s))
        GROUP BY {_CHARGE}, b.currency
        ORDER BY abs(coalesce(sum(b.billed_cost) FILTER (WHERE b.is_in_force), 0) - coalesce(sum(b.billed_cost) FILTER (WHERE NOT b.is_in_force), 0)) DESC,
            1, 2, 3, {_CHARGE}
        LIMIT {SHOWN}
        """,  # noqa: S608  # names and expressions of this module only
        {"file": bill.pk},
    )

    def text(amount: Decimal | None) -> str | None:
        return None if amount is None else f"{amount.normalize(focus.EXACT):f}"

    return [
        {"description": what[:200], "day": day.isoformat() if day else None, "currency": currency, "was": text(was), "now": text(now)}
        for what, day, currency, was, now in cursor.fetchall()
    ]


def _doubt(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def _doubts(bill: BillFile, outcome: Outcome, older: Iterable[tuple[str, str, date, datetime, datetime]]) -> list[dict[str, str]]:
    """Why a person should look before the rows in force are replaced."""
    found = [
        _doubt(
            OLDER,
            f"It is older than what is in force: its usage of {account}, {period:%Y-%m} ends {f'on {ends:%Y-%m-%d %H:%M} UTC' if ends else 'nowhere'}, that in force "
            f"on {known:%Y-%m-%d %H:%M} UTC.",
        )
        for _, account, period, ends, known in older
    ]
    told = {(provider, account, period) for provider, account, period, _, _ in older}
    found += [
        _doubt(
            OLDER,
            f"It is older than what is in force: it was written on {bill.written_at:%Y-%m-%d %H:%M:%S} UTC, what is applied of {account}, {period:%Y-%m} "
            f"on {known:%Y-%m-%d %H:%M:%S}.",
        )
        for provider, account, period, known in _written_later(bill, outcome)
        if (provider, account, period) not in told
    ]
    rows: dict[tuple[str, date], list[int]] = {}
    for one in outcome.deliveries:
        if one.style == DeliveryStyle.REPLACEMENT:
            before, after = rows.setdefault((one.account, one.period), [0, 0])
            rows[one.account, one.period] = [before + one.rows_before, after + one.rows_after]
    found += [
        _doubt(SMALLER, f"It is smaller than what is in force: {after:,} rows of {account}, {period:%Y-%m} instead of {before:,}.")
        for (account, period), (before, after) in sorted(rows.items())
        if after < before
    ]
    written = sorted((datetime.fromisoformat(part["written_at"]), part["name"]) for part in bill.parts if "written_at" in part)
    if written and written[-1][0] - written[0][0] > WRITTEN_WITHIN:
        (first, part), (last, _) = written[0], written[-1]
        found.append(
            _doubt(
                APART,
                f"{part} was written on {first:%Y-%m-%d %H:%M} UTC, another part on {last:%Y-%m-%d %H:%M}: an earlier export may have left it.",
            )
        )
    if untaken := bill.rows_rejected + bill.rows_quarantined:
        found.append(
            _doubt(INCOMPLETE, f"{untaken:,} of its rows are rejected or in quarantine, and what they replace is taken out all the same.")
        )
    found += [_doubt(SIGNED, f"{name} is signed off: what it changes voids the signatures.") for name in signed_months(bill)]
    found += [_doubt(EMPTY, f"Nothing would be left to compare of {name}.") for name in left_without(months_touched(bill))]
    return found


def _written_later(bill: BillFile, outcome: Outcome) -> list[tuple[str, str, date, datetime]]:
    """Periods that the file replaces, and applied files that were written after it delivered: when the last of these was written."""
    if bill.written_at is None:
        return []
    replaced = {(one.provider, one.account, one.period) for one in outcome.deliveries if one.style == DeliveryStyle.REPLACEMENT}
    later = BillDelivery.objects.filter(file__state=BillFile.State.APPLIED, file__written_at__gt=bill.written_at).exclude(file=bill)
    times = later.values("provider", "account", "period").annotate(at=Max("file__written_at")).order_by("provider", "account", "period")
    return [row for row in times.values_list("provider", "account", "period", "at") if row[:3] in replaced]


def months_touched(bill: BillFile) -> list[tuple[str, date]]:
    """Provider and month of every compared row that the file brought or replaced."""
    rows = BillRow.ever.filter(Q(file=bill, is_in_force=True) | Q(replaced_by=bill), kind__in=BillRow.COMPARED)
    return list(rows.order_by("provider", "month").values_list("provider", "month").distinct())


def left_without(months: Iterable[tuple[str, date]]) -> list[str]:
    """Those of the months that have no compared row in force."""
    return [
        f"{provider}, {month:%Y-%m}"
        for provider, month in months
        if not BillRow.objects.filter(provider=provider, month=month, kind__in=BillRow.COMPARED).exists()
    ]


def signed_months(bill: BillFile) -> list[str]:
    """Months that the file touches and two people have signed off."""
    condition = Q(pk__in=[])
    for provider, month in months_touched(bill):
        condition |= Q(provider=provider, month=month)
    signed = Reconciliation.objects.in_force().annotate(
        given=Count("latest__signatures", filter=Q(latest__signatures__voided_at=None)),
    )
    found = signed.filter(condition, given__gte=RevisionSignature.NEEDED).order_by("provider", "month")
    return [f"{series.provider}, {series.month:%Y-%m}" for series in found]


def later_files(bill: BillFile) -> QuerySet[BillFile]:
    """Applied files that delivered one of its periods after it, the last one first."""
    own = bill.deliveries.all()
    first = own.aggregate(first=Min("pk"))["first"]
    same = own.filter(provider=OuterRef("provider"), account=OuterRef("account"), period=OuterRef("period"))
    later = BillDelivery.objects.filter(Exists(same), pk__gt=first or 0, file__state=BillFile.State.APPLIED).exclude(file=bill)
    return BillFile.objects.filter(pk__in=later.values("file")).order_by("-applied_at", "-pk")


def replaced_since(bill: BillFile) -> BillFile | None:
    """A later file that replaced a period of the staged rows: delivered after it, or applied after its upload where it delivered nothing yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT d.file_id FROM bill_delivery d JOIN bill_file f ON f.id = d.file_id AND f.state = 'applied'
            JOIN (SELECT DISTINCT provider, account, period FROM bill_staged) s
                ON (s.provider, s.account, s.period) = (d.provider, d.account, d.period)
            CROSS JOIN (SELECT min(id) AS first FROM bill_delivery WHERE file_id = %(file)s) own
            WHERE d.style = 'replacement' AND d.file_id <> %(file)s AND coalesce(d.id > own.first,
                (coalesce(f.applied_at, f.uploaded_at), f.id) > (%(uploaded_at)s, %(file)s))
            ORDER BY d.id DESC LIMIT 1
            """,
            {"file": bill.pk, "uploaded_at": bill.uploaded_at},
        )
        found = cursor.fetchone()
    return BillFile.objects.get(pk=found[0]) if found else None


def take_back(bill: BillFile) -> int:
    """The file's rows no longer count, and those that it replaced do. Returns how many of these."""
    BillRow.objects.filter(file=bill).update(is_in_force=False)
    return BillRow.ever.filter(replaced_by=bill).update(is_in_force=True, replaced_by=None)
