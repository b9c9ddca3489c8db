"""Comparing bills with telemetry: one immutable revision for each set of inputs."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum
from django.db.models.functions import Coalesce, TruncMonth
from django.utils import timezone

from costs import bridge, exchange, exchange_selectors, focus
from costs.errors import NothingToReconcileError, RateUnknownError
from costs.models import BillRow, RateSheet, Reconciliation, ReconciliationLine, Revision, TokenClass, TokenDay, UsageHour
from costs.periods import first_of_month, midnight, whole_month
from costs.services import late_calls, reconciliation_inputs, signoff
from costs.services.reconciliation_inputs import Inputs, Key, gather, plain_rate
from governance.errors import DomainError
from governance.models import Severity, User
from governance.money import subunit
from governance.roles import Permission
from governance.services import alerts, audit

MONTHS_BACK = 3
"""How far back the schedule looks for changed inputs."""
RATES_BACK = timedelta(days=3)
"""How long the schedule compares what exchange rates that came may change, in case the task that they queued was lost."""
logger = logging.getLogger(__name__)


def reconcile(*, provider: str, month: date, actor: User | None = None, at: datetime | None = None) -> tuple[Revision, bool]:
    """Compare one provider's bill of a month with telemetry. Returns the latest revision and whether this run made it.

    The same inputs make no new revision, nor do others that come to the very same figures (signatures then hold), unless another series of
    the month took its place since. Series that this one replaces lose their signatures. A new revision that is too far from the bill is
    audited as such and shows on the pages of spend.
    Raises NothingToReconcileError, or RateUnknownError: then every series of the month says that it waits for exchange rates, and for which, and
    has no signature until it is compared.
    """
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('reconcile:' || current_schema() || ':' || %s, 0))",
                [f"{provider}:{month.isoformat()}"],
            )
        try:
            inputs = gather(provider, month)
        except RateUnknownError as error:
            refused: DomainError = error
            _hold(provider, month, error, actor, at or timezone.now())
        except NothingToReconcileError as error:
            refused = error
            _wait_no_longer(provider, month)
        else:
            return _reconcile(inputs, actor, at)
    raise refused  # out here: what the series say of it is kept


def _wait_no_longer(provider: str, month: date) -> None:
    """Every series of the month: rates may have been missing on one that another has replaced."""
    Reconciliation.objects.filter(provider=provider, month=month).exclude(missing_rates=[]).update(missing_rates=[])


def _hold(provider: str, month: date, error: RateUnknownError, actor: User | None, at: datetime) -> None:
    """Say on all series of the month what is missing; whoever may see bills is told once of each different want. Signatures end."""
    missing = [{"currency": one.currency, "first": one.first.isoformat(), "last": one.last.isoformat()} for one in error.missing]
    own, _ = Reconciliation.objects.get_or_create(provider=provider, account=error.account, month=month)
    is_known = own.missing_rates == missing
    # What waits is of the month, whichever series is in force. Waits for a signature that is being given; then it is void as well.
    for series in Reconciliation.objects.select_for_update().filter(provider=provider, month=month).order_by("pk"):
        if series.missing_rates != missing:
            series.missing_rates = missing
            series.save(update_fields=["missing_rates"])
        signoff.void_waiting(series=series, actor=actor, at=at)
    if is_known:
        return
    audit.record("reconciliation.rate_unknown", actor=actor, target=own, at=at, missing=missing)
    alerts.notify(
        topic="bill.rate_unknown",
        severity=Severity.WARNING,
        title=f"The bill of {provider} for {month:%Y-%m} waits for exchange rates",
        text=f"{error.message} Until then it is compared with nothing.",
        path="operate/costs/exchange-rates/",
        permission=Permission.VIEW_COSTS,
        key=f"bill:{own.pk}:rates:{hashlib.sha256(json.dumps(missing).encode()).hexdigest()[:16]}",
        data={"provider": provider, "account": error.account, "month": f"{month:%Y-%m}", "missing": missing},
        at=at,
    )


def _reconcile(inputs: Inputs, actor: User | None, at: datetime | None) -> tuple[Revision, bool]:
    provider, month = inputs.provider, inputs.month
    _wait_no_longer(provider, month)
    series, _ = Reconciliation.objects.get_or_create(provider=provider, account=inputs.account, month=month)
    latest = series.revisions.order_by("-number").first()
    others = list(Reconciliation.objects.filter(provider=provider, month=month, latest__isnull=False).exclude(pk=series.pk))
    is_newest = latest is not None and all((other.latest_id or 0) < latest.pk for other in others)
    if latest is not None and is_newest:
        is_same = inputs.run_key in (latest.run_key, series.confirmed_key) or _confirms(series, latest, inputs)
        if is_same:
            _void_others(others, latest, actor, at)
            return latest, False
    revision = _write(series, inputs, latest, at or timezone.now())
    series.latest, series.confirmed_key = revision, ""
    series.save(update_fields=["latest", "confirmed_key"])  # waits for a signature that is being given; then it is void as well
    signoff.void(series=series, by=revision, actor=actor, at=revision.created_at)
    _void_others(others, revision, actor, at)
    audit.record(
        "reconciliation.revised",
        actor=actor,
        target=series,
        revision=revision.number,
        bill=f"{revision.bill.normalize():f}",
        telemetry=f"{revision.telemetry.normalize():f}",
        causes={cause["cause"]: cause["cents"] for cause in revision.causes},
    )
    if revision.is_doubtful:
        audit.record(
            "reconciliation.variance_exceeded", actor=actor, target=series, revision=revision.number, percent=str(revision.variance_percent)
        )
        alerts.notify(
            topic="bill.variance",
            severity=Severity.WARNING,
            title=f"The bill of {provider} for {month:%Y-%m} does not fit our telemetry",
            text=f"They differ by {revision.variance:+.2f} {revision.currency}. Figures of this provider and month may vary until that is explained.",
            path=signoff.path_of(series),
            permission=Permission.VIEW_COSTS,
            key=f"bill:{series.pk}:{revision.number}",
            data={"provider": provider, "account": series.account, "month": f"{month:%Y-%m}", "revision": revision.number},
        )
        logger.warning("reconciliation.variance_exceeded", extra={"provider": provider, "month": month.isoformat()})
    return revision, True


def _confirms(series: Reconciliation, latest: Revision, inputs: Inputs) -> bool:
    """Whether the inputs, other than those of the latest revision, come to just what it says in every figure and line: then it stands, and so
    do its signatures. Rules of comparison that changed do not touch most bills.
    """
    found, lines = _outcome(inputs)
    is_same = all(getattr(latest, name) == value for name, value in found.items()) and {
        (line.model, line.token_class, line.day): [getattr(line, name) for name in _FIGURES] for line in latest.lines.all()
    } == {key: [one[name] for name in _FIGURES] for key, one in lines.items()}
    if is_same:
        series.confirmed_key = inputs.run_key
        series.save(update_fields=["confirmed_key"])
    return is_same


_FIGURES = ("bill", "telemetry", "bill_tokens", "telemetry_tokens", "bill_rows", "rate", "causes")


def _void_others(others: list[Reconciliation], by: Revision, actor: User | None, at: datetime | None) -> None:
    """Signatures of series that `by` replaces. Also of those that were given before series replaced each other."""
    # Waits for a signature that is being given, as above.
    for other in Reconciliation.objects.select_for_update().filter(pk__in=[other.pk for other in others]).order_by("pk"):
        signoff.void(series=other, by=by, actor=actor, at=at or timezone.now())


_INPUT = frozenset(
    {
        TokenClass.INPUT, TokenClass.CACHED_INPUT, TokenClass.CACHE_WRITE, TokenClass.CACHE_WRITE_1H, TokenClass.AUDIO_INPUT, TokenClass.IMAGE_INPUT,
        TokenClass.CACHED_AUDIO, TokenClass.CACHED_IMAGE,
    }
)  # fmt: skip
_OUTPUT = frozenset({TokenClass.OUTPUT, TokenClass.AUDIO_OUTPUT, TokenClass.IMAGE_OUTPUT})


_SLACK = Decimal("5E-15")
"""USD per token: half of the last of eight decimals of a price per million."""


def _explain(inputs: Inputs, keys: list[Key]) -> dict[Key, dict[str, Decimal]]:
    """Causes of each key. Mix is looked for among the classes of a model and day, a prompt's and an answer's apart: the one is never the other."""
    found: dict[Key, dict[str, Decimal]] = {}
    groups: dict[tuple[str, date | None, bool], dict[Key, bridge.Apart]] = defaultdict(dict)
    for key in keys:
        model, token_class, day = key
        bill, ours, price = inputs.bill.get(key), inputs.ours.get(key), inputs.prices.get(key)
        is_late = inputs.is_late(key)
        slack = _SLACK * inputs.key_rates.get(key, Decimal(1)) if key in inputs.converted else Decimal()
        found[key] = bridge.explain(
            bill, ours, price, others=inputs.others.get(key), is_late=is_late, subunit=subunit(inputs.currency), slack=slack
        )
        tokens = Decimal() if bill is None else bill.tokens
        is_valued = price is not None or bill is None or ours is None  # else all of the difference is a price that is missing
        if tokens is not None and is_valued and not is_late and token_class in _INPUT | _OUTPUT:
            groups[model, day, token_class in _INPUT][key] = bridge.Apart(found[key], tokens - (ours.tokens if ours else 0))
    for group in groups.values():
        found.update(zip(group, bridge.split_mix(list(group.values())), strict=True))
    return found


def _outcome(inputs: Inputs) -> tuple[dict[str, Any], dict[Key, dict[str, Any]]]:
    """What a revision of these inputs says: its columns, and those of each line."""
    with localcontext(focus.EXACT):
        keys = sorted({*inputs.bill, *inputs.ours}, key=lambda key: (key[0], key[2] or date.min, key[1]))
        explained = _explain(inputs, keys)
        bill = sum((side.amount for side in inputs.bill.values()), Decimal())
        telemetry = sum((side.amount for side in inputs.ours.values()), Decimal())
        rows = sum(side.rows for side in inputs.bill.values())
        causes = bridge.total(explained.values(), rows, subunit(inputs.currency))
        if sum(causes.values(), Decimal()) != bill - telemetry:
            raise AssertionError("the causes do not sum to the difference")
        # The printed equation must hold in cents (yen, fils) as well.
        unit = subunit(inputs.currency)
        whole = bridge.cents(bill, unit) - bridge.cents(telemetry, unit)
        in_cents = bridge.to_cents(list(causes.values()), whole, unit)
        calls = UsageHour.objects.filter(
            provider=inputs.provider, hour__gte=midnight(inputs.month), hour__lt=whole_month(inputs.month).end
        ).aggregate(n=Sum("calls", default=0))["n"]
        is_book = inputs.currency == exchange.BOOK
        columns = {
            "bill": bill,
            "telemetry": telemetry,
            "currency": inputs.currency,
            "bill_at_book": None if is_book else _at_book(inputs),
            "telemetry_at_book": None if is_book else inputs.telemetry_usd,
            "rates": [plain_rate(rate) for rate in inputs.used],
            "stated_rows": inputs.stated_rows,
            "bill_rows": rows,
            "calls": calls,
            "causes": [
                {
                    "cause": name,
                    "amount": f"{amount.normalize(focus.EXACT):f}",
                    "cents": f"{shown:f}",
                    "lines": sum(1 for found in explained.values() if name in found),
                }
                for (name, amount), shown in zip(causes.items(), in_cents, strict=True)
            ],
            "excluded": inputs.excluded,
            "complete_through": inputs.complete_through,
        }
        nothing_billed, nothing_ours = bridge.BillSide(Decimal(), None, None, 0), bridge.OurSide(Decimal(), 0)
        lines = {
            key: {
                "bill": inputs.bill.get(key, nothing_billed).amount,
                "telemetry": inputs.ours.get(key, nothing_ours).amount,
                "bill_tokens": inputs.bill.get(key, nothing_billed).tokens,
                "telemetry_tokens": inputs.ours.get(key, nothing_ours).tokens,
                "bill_rows": inputs.bill.get(key, nothing_billed).rows,
                "rate": inputs.key_rates.get(key, Decimal(1)).quantize(_RATE),
                "causes": {name: f"{amount.normalize(focus.EXACT):f}" for name, amount in explained[key].items()},
            }
            for key in keys
        }
    return columns, lines


_RATE = Decimal("1E-10")
"""The scale of rates in the database."""


def _at_book(inputs: Inputs) -> Decimal:
    """The bill in USD, each line at our rate of its day."""
    return sum((bridge.converted(side.amount, 1 / inputs.key_rates[key]) for key, side in inputs.bill.items()), Decimal())


_NOTHING_LATE = (0, Decimal())


def _write(series: Reconciliation, inputs: Inputs, before: Revision | None, at: datetime) -> Revision:
    columns, lines = _outcome(inputs)
    late = late_calls.since(before, inputs)
    revision = Revision.objects.create(
        reconciliation=series,
        number=(before.number if before else 0) + 1,
        run_key=inputs.run_key,
        rules=reconciliation_inputs.RULES_VERSION,
        created_at=at,
        telemetry_through=inputs.telemetry_through,
        late_calls=late.calls if late else None,
        file_ids=list(inputs.file_ids),
        **columns,
    )
    late_sides = late.sides if late else {}
    ReconciliationLine.objects.bulk_create(
        [
            ReconciliationLine(
                revision=revision,
                model=model,
                token_class=token_class,
                day=day,
                late_tokens=late_sides.get((model, token_class, day), _NOTHING_LATE)[0],
                late=late_sides.get((model, token_class, day), _NOTHING_LATE)[1],
                **line,
            )
            for (model, token_class, day), line in lines.items()
        ],
        batch_size=1000,
    )
    return revision


def due(today: date) -> list[tuple[str, date]]:
    """Provider and month of every bill that the schedule looks at: the last months, older ones whose calls have another value by now, those
    that wait for exchange rates, and those that rates of the last days may change.
    """
    first = first_of_month(today, -MONTHS_BACK)
    compared = BillRow.objects.filter(kind__in=BillRow.COMPARED)
    recent = compared.filter(Q(month__gte=first) | Q(file__uploaded_at__gte=midnight(first)))
    found = set(recent.values_list("provider", "month").distinct())
    waiting = set(Reconciliation.objects.exclude(missing_rates=[]).values_list("provider", "month"))
    sheets = RateSheet.objects.filter(status=RateSheet.Status.APPROVED, decided_at__gte=midnight(today - RATES_BACK))
    rated = {month for sheet in sheets for month in exchange_selectors.months_with(sheet)}
    return sorted(found | waiting | rated | _changed_since(first, compared), key=lambda one: (one[1], one[0]))


def _changed_since(first: date, compared: QuerySet[BillRow]) -> set[tuple[str, date]]:
    """Months before `first` whose telemetry is not what was compared: calls came late, or got a price or another one."""
    days = TokenDay.objects.filter(day__lt=first).annotate(month=TruncMonth("day"))
    money = {(row["provider"], row["month"]): row["cost"] for row in days.values("provider", "month").annotate(cost=Sum("cost"))}
    has_rows = Exists(compared.filter(provider=OuterRef("provider"), month=OuterRef("month")))
    counted = Coalesce("latest__telemetry_at_book", "latest__telemetry")
    before = Reconciliation.objects.in_force().filter(has_rows, month__lt=first).values_list("provider", "month", counted)
    return {(provider, month) for provider, month, telemetry in before if money.get((provider, month), Decimal()) != telemetry}
