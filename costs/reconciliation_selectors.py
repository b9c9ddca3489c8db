"""A revision down to its lines and rows, who signed it, and what another revision had changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import Case, CharField, Count, F, Q, QuerySet, Sum, Value, When
from django.db.models.functions import Abs, Coalesce

from costs import bridge, exchange
from costs.models import (
    BillFile,
    BillRow,
    PriceEntry,
    Reconciliation,
    ReconciliationLine,
    Revision,
    RevisionSignature,
    TokenClass,
    TokenDay,
)
from costs.periods import Period
from governance.models import User

STANDINGS = {
    "unexplained": "Unexplained",
    "theirs_only": "Theirs only",
    "ours_only": "Ours only",
    "tokens": "Tokens differ",
    "price": "Price delta",
    "matched": "Matched",
}
"""How a line stands, worst first; a line is in exactly one."""
STANDING_CHOICES = list(STANDINGS.items())
_STANDING = Case(
    When(bill_rows=0, then=Value("ours_only")),
    When(telemetry_tokens=0, then=Value("theirs_only")),
    When(causes__has_key="unexplained", then=Value("unexplained")),
    When(causes__has_any_keys=["missing_calls", "extra_calls", "mix"], then=Value("tokens")),
    When(causes__has_any_keys=["negotiated", "price_band", "book_drift", "price", "fx", "unpriced", "commitment"], then=Value("price")),
    default=Value("matched"),
    output_field=CharField(),
)
SORTS = {"difference": ("-off", "-pk"), "key": ("pk",)}
"""Lines are written in the order of model, day and class."""


def lines(revision: Revision, chosen: Mapping[str, str]) -> QuerySet[ReconciliationLine]:
    """Lines of a revision with `standing` and `off` (the difference without sign), narrowed by `standing`, `cause`, `model`, `class`, `day`.

    What is none of the known values matches nothing.
    """
    found = revision.lines.annotate(standing=_STANDING, off=Abs(F("bill") - F("telemetry")))
    if chosen.get("standing"):
        found = found.filter(standing=chosen["standing"])
    if chosen.get("cause"):
        found = found.filter(causes__has_key=chosen["cause"])
    if chosen.get("model"):
        found = found.filter(model=chosen["model"])
    if chosen.get("class"):
        found = found.filter(token_class=chosen["class"])
    if chosen.get("day"):
        try:
            found = found.filter(day=date.fromisoformat(chosen["day"]))
        except ValueError:
            found = found.none()
    return found


def exported_lines(revision: Revision, chosen: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Lines as rows by `export_schema.line_columns`, in the order in which they were written."""
    code = revision.currency.lower()
    for one in lines(revision, chosen).order_by("pk").iterator(chunk_size=2000):
        yield {
            "model": one.model,
            "token_class": one.token_class,
            "day_utc": one.day,
            "standing": one.standing,  # type: ignore[attr-defined]  # annotated
            f"bill_{code}": one.bill,
            f"telemetry_{code}": one.telemetry,
            "bill_tokens": one.bill_tokens,
            "telemetry_tokens": one.telemetry_tokens,
            "bill_rows": one.bill_rows,
            **{f"{name}_{code}": Decimal(one.causes[name]) if name in one.causes else None for name in bridge.CAUSES},
        }


@dataclass(frozen=True)
class StandingSum:
    """All lines that stand alike."""

    name: str
    label: str
    lines: int
    bill: Decimal
    ours: Decimal

    @property
    def variance(self) -> Decimal:
        return self.bill - self.ours


def standings(revision: Revision, chosen: Mapping[str, str]) -> list[StandingSum]:
    """Every standing with its lines and money, under the other filters; together they are the revision."""
    others = {name: value for name, value in chosen.items() if name != "standing"}
    counted: Any = lines(revision, others).order_by()  # the stubs do not know annotations of another function
    rows = {row["standing"]: row for row in counted.values("standing").annotate(n=Count("pk"), theirs=Sum("bill"), own=Sum("telemetry"))}
    nothing = {"n": 0, "theirs": Decimal(), "own": Decimal()}
    return [
        StandingSum(name, label, row["n"], row["theirs"], row["own"])
        for name, label in STANDINGS.items()
        for row in [rows.get(name, nothing)]
    ]


def line(series: Reconciliation, pk: int) -> ReconciliationLine | None:
    """A line of any revision of the month."""
    found = ReconciliationLine.objects.filter(revision__reconciliation=series, pk=pk).select_related("revision__reconciliation").first()
    if found is None:
        return None
    return lines(found.revision, {}).select_related("revision__reconciliation").get(pk=pk)


def models_of(revision: Revision) -> list[str]:
    return list(revision.lines.order_by("model").values_list("model", flat=True).distinct())


def period_of(found: ReconciliationLine) -> Period:
    """The days that a line compares."""
    revision = found.revision
    return Period(found.day, found.day) if found.day else Period(revision.reconciliation.month, revision.last_day)


def bill_rows(found: ReconciliationLine) -> QuerySet[BillRow]:
    """The charges behind a line, as far as they were there when its revision was made."""
    revision = found.revision
    rows = (
        BillRow.ever.alias(applied_at=Coalesce("file__applied_at", "file__uploaded_at"))
        .filter(
            Q(is_in_force=True) | Q(replaced_by__applied_at__gt=revision.created_at),
            provider=revision.reconciliation.provider,
            month=revision.reconciliation.month,
            kind__in=BillRow.COMPARED,
            model=found.model,
            applied_at__lte=revision.created_at,
        )
        .select_related("file")
    )
    if found.token_class:
        rows = rows.filter(token_class=found.token_class)
    return rows.filter(day=found.day) if found.day else rows


def our_days(found: ReconciliationLine) -> list[TokenDay]:
    """What is counted now on our side of a line, by day and class: late calls since the revision are in it."""
    period = period_of(found)
    days = TokenDay.objects.filter(
        provider=found.revision.reconciliation.provider, model=found.model, day__gte=period.first, day__lte=period.last
    )
    if found.token_class:
        days = days.filter(token_class=found.token_class)
    return list(days.order_by("day", "token_class"))


def prices_of(found: ReconciliationLine) -> list[PriceEntry]:
    """Prices of the line's model and class that were in force at some time of its period."""
    period = period_of(found)
    entries = (
        PriceEntry.objects.usual()
        .filter(
            Q(valid_to=None) | Q(valid_to__gt=period.start),
            provider=found.revision.reconciliation.provider,
            model=found.model,
            valid_from__lt=period.end,
        )
        .select_related("approved_by")
    )
    if found.token_class:
        names = {found.token_class}
        if found.token_class in (TokenClass.CACHED_INPUT, TokenClass.CACHE_WRITE):
            names.add(TokenClass.INPUT)  # which they are charged as without a price of their own
        entries = entries.filter(token_class__in=names)
    return list(entries.order_by("token_class", "-valid_from"))


def causes_of(found: ReconciliationLine) -> list[tuple[str, str, Decimal]]:
    """Cause, its title and its amount, in the order of the bridge."""
    return [(name, title, Decimal(found.causes[name])) for name, title in bridge.CAUSES.items() if name in found.causes]


# Signatures


@dataclass(frozen=True)
class SignOff:
    """Where the sign-off of a revision stands."""

    signatures: list[RevisionSignature] = field(default_factory=list)
    """That hold."""
    voided: list[RevisionSignature] = field(default_factory=list)
    """Of this revision and of those before it, newest first."""

    @property
    def missing(self) -> int:
        return max(RevisionSignature.NEEDED - len(self.signatures), 0)

    @property
    def is_done(self) -> bool:
        return self.missing == 0

    @property
    def state(self) -> str:
        """For programs: `unsigned`, `waiting` or `signed_off`."""
        return "signed_off" if self.is_done else "waiting" if self.signatures else "unsigned"

    def is_by(self, person: User) -> bool:
        return any(signature.person_id == person.pk for signature in self.signatures)


def sign_off(revision: Revision) -> SignOff:
    """Signatures of the revision, and those that revisions up to it have voided."""
    found = RevisionSignature.objects.filter(
        revision__reconciliation=revision.reconciliation_id, revision__number__lte=revision.number
    ).select_related("person", "revision")
    return SignOff(
        [signature for signature in found if signature.revision_id == revision.pk and signature.voided_at is None],
        [signature for signature in found.order_by("-voided_at", "-pk") if signature.voided_at is not None][:10],
    )


def signature_counts(revisions: list[int]) -> dict[int, int]:
    """Revision to how many signatures hold."""
    rows = RevisionSignature.objects.filter(revision__in=revisions, voided_at=None).order_by()
    return dict(rows.values_list("revision").annotate(n=Count("pk")))


def waiting_for(person: User) -> list[Revision]:
    """Latest revisions that somebody else has signed and this person could sign off."""
    half = (
        RevisionSignature.objects.filter(voided_at=None, revision__pk=F("revision__reconciliation__latest"))
        .order_by()
        .values("revision")
        .annotate(n=Count("pk"), own=Count("pk", filter=Q(person=person)))
        .filter(n__lt=RevisionSignature.NEEDED, own=0)
    )
    return list(
        Revision.objects.filter(pk__in=half.values("revision")).select_related("reconciliation").order_by("-reconciliation__month", "pk")
    )


# Restatement


@dataclass(frozen=True)
class Restated:
    """One compared key in two revisions; None on a side on which it does not stand."""

    model: str
    token_class: str
    day: date | None
    before: ReconciliationLine | None
    after: ReconciliationLine | None
    is_usd: bool = False
    """Changes are at our exchange rates, because the two are in different currencies."""
    late: Decimal = Decimal()
    """Of `ours`, what calls cost that came after `before`."""

    @property
    def class_label(self) -> str:
        """Of either side."""
        side = self.after or self.before
        return side.class_label if side else ""

    def _change(self, column: str) -> Decimal:
        return sum(
            (
                sign * getattr(side, f"{column}_usd" if self.is_usd else column)
                for side, sign in ((self.after, 1), (self.before, -1))
                if side is not None
            ),
            Decimal(),
        )

    @property
    def bill(self) -> Decimal:
        """By how much the bill changed."""
        return self._change("bill")

    @property
    def ours(self) -> Decimal:
        return self._change("telemetry")

    @property
    def variance(self) -> Decimal:
        return self.bill - self.ours


@dataclass(frozen=True)
class Restatement:
    """What `after` says otherwise than `before`."""

    before: Revision
    after: Revision
    lines: list[Restated]
    """Only those that differ, the largest change first."""
    causes: list[tuple[str, Decimal, Decimal]]
    """Title of a cause, its amount before and after."""
    files: list[BillFile]
    """That came between the two."""
    prices: list[PriceEntry]
    """Of the provider, put into the book between the two."""
    late_calls: int | None = None
    """Calls that were attributed after `before` had read our side; None where it is not known."""
    late: Decimal = Decimal()
    """What these cost, in `currency`."""

    @property
    def is_usd(self) -> bool:
        """The bill came to be in another currency: what changed is told in USD, at our exchange rates."""
        return self.before.currency != self.after.currency

    @property
    def currency(self) -> str:
        """Of what changed."""
        return exchange.BOOK if self.is_usd else self.after.currency

    @property
    def rules(self) -> bool:
        """Whether the rules of comparison changed between the two."""
        return self.before.rules is not None and self.before.rules != self.after.rules

    @property
    def bill(self) -> Decimal:
        return self.after.bill_usd - self.before.bill_usd if self.is_usd else self.after.bill - self.before.bill

    @property
    def ours(self) -> Decimal:
        return self.after.telemetry_usd - self.before.telemetry_usd if self.is_usd else self.after.telemetry - self.before.telemetry

    @property
    def valued_anew(self) -> Decimal:
        """Of `ours`, what is not of late calls: prices, or exchange rates."""
        return self.ours - self.late

    @property
    def calls(self) -> int:
        return self.after.calls - self.before.calls


_Key = tuple[str, str, date | None]
"""Model, token class and day of a line."""


def restatement(series: Reconciliation, before: Revision, after: Revision) -> Restatement:
    """Compare two revisions of one month, key by key."""
    sides: list[dict[_Key, ReconciliationLine]] = [
        {(one.model, one.token_class, one.day): one for one in revision.lines.all()} for revision in (before, after)
    ]
    is_usd = before.currency != after.currency
    late_calls, late = _late_between(series, before, after, exchange.BOOK if is_usd else after.currency, sides[1])
    columns = ("bill", "telemetry", "bill_tokens", "telemetry_tokens", "bill_rows", "causes")
    changed = [
        Restated(*key, old, new, is_usd, late.get(key, Decimal()))
        for key in {**sides[0], **sides[1]}
        for old, new in [(sides[0].get(key), sides[1].get(key))]
        if old is None or new is None or any(getattr(old, name) != getattr(new, name) for name in columns)
    ]
    changed.sort(key=lambda one: (-max(abs(one.bill), abs(one.ours)), one.model, one.day or date.min, one.token_class))
    amounts = [{cause["cause"]: Decimal(cause["amount"]) for cause in revision.causes} for revision in (before, after)]
    between = {"gt": before.created_at, "lte": after.created_at}
    rows = BillRow.ever.filter(provider=series.provider, month=series.month)
    files = BillFile.objects.alias(at=Coalesce("applied_at", "uploaded_at")).filter(
        Q(pk__in=rows.values("file")) | Q(pk__in=rows.values("replaced_by")), **{f"at__{name}": at for name, at in between.items()}
    )
    prices = PriceEntry.objects.filter(provider=series.provider, **{f"created_at__{name}": at for name, at in between.items()})
    return Restatement(
        before,
        after,
        changed,
        [
            (title, amounts[0].get(name, Decimal()), amounts[1].get(name, Decimal()))
            for name, title in bridge.CAUSES.items()
            if any(name in side for side in amounts)
        ],
        list(files.order_by("uploaded_at", "pk")),
        list(prices.select_related("approved_by").order_by("created_at", "pk")[:50]),
        late_calls,
        sum(late.values(), Decimal()),
    )


def _late_between(
    series: Reconciliation, before: Revision, after: Revision, currency: str, lines_after: Mapping[_Key, ReconciliationLine]
) -> tuple[int | None, dict[_Key, Decimal]]:
    """What came late from one revision to the other, in `currency`: of each between them, what came since the one before it.

    What one in between tells in another currency is taken in USD, at the rate of its line of `after`; without such a line it is not known.
    """
    between = series.revisions.filter(number__gt=before.number, number__lte=after.number)
    calls, currencies = 0, dict[int, str]()
    for pk, late_calls, of_revision in between.values_list("pk", "late_calls", "currency"):
        if late_calls is None:
            return None, {}
        calls, currencies[pk] = calls + late_calls, of_revision
    found: dict[_Key, Decimal] = {}
    for one in ReconciliationLine.objects.filter(revision__in=between).exclude(late_tokens=0):
        key = one.model, one.token_class, one.day
        if currency == exchange.BOOK:
            amount = one.late_usd
        elif currencies[one.revision_id] == currency:
            amount = one.late
        elif key in lines_after:
            amount = bridge.converted(one.late_usd, lines_after[key].rate)
        else:  # compared by other keys since, so by another rate
            return None, {}
        found[key] = found.get(key, Decimal()) + amount
    return calls, found


def revision_before(revision: Revision) -> Revision | None:
    return revision.reconciliation.revisions.filter(number__lt=revision.number).order_by("-number").first()


def revision(series: Reconciliation, number: Any) -> Revision | None:
    """The revision of that number, or the latest where none is named; None when there is no such revision."""
    if number in (None, ""):
        return series.latest
    text = str(number)
    return series.revisions.filter(number=int(text)).first() if text.isdecimal() and len(text) < 9 else None
