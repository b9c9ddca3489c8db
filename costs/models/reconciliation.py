"""The comparison of one provider account's bill with our telemetry over one month, revision by revision."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from decimal import Context, Decimal
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Exists, OuterRef, Q

from costs import bridge, exchange
from costs.models.bill import BillDelivery, BillFile, BillRow, BillSource
from costs.models.price import TokenClass
from costs.periods import whole_month
from governance.models import User
from governance.money import subunit

_EXACT = Context(prec=80)


class ReconciliationQuerySet(models.QuerySet["Reconciliation"]):
    def with_replaced(self) -> Self:
        """Annotates `is_replaced`: a second account on its bills begins another series of a provider and month, which replaces the one before."""
        newer = Reconciliation.objects.filter(provider=OuterRef("provider"), month=OuterRef("month"), latest_id__gt=OuterRef("latest_id"))
        return self.annotate(is_replaced=Exists(newer))

    def with_waiting(self) -> Self:
        """Annotates `has_waiting_file`: a file that would change a billing period of the provider's month waits to be applied."""
        would = BillDelivery.objects.filter(
            Q(rows_new__gt=0) | Q(rows_gone__gt=0),
            file__state=BillFile.State.WAITING,
            provider=OuterRef("provider"),
            period=OuterRef("month"),
        )
        return self.annotate(has_waiting_file=Exists(would))

    def with_counted_twice(self) -> Self:
        """Annotates `is_counted_twice`: rows of the provider's month came from a cost API, and from files besides, so that what both say counts twice."""
        rows = BillRow.objects.filter(provider=OuterRef("provider"), month=OuterRef("month"), kind__in=BillRow.COMPARED)
        by_api = Q(account__in=BillSource.API_ACCOUNTS.values())
        return self.annotate(is_counted_twice=Q(Exists(rows.filter(by_api)), Exists(rows.exclude(by_api))))

    def counted_twice(self) -> Self:
        return self.with_counted_twice().filter(is_counted_twice=True)

    def present(self) -> Self:
        """One of each provider and month, also those that wait for exchange rates."""
        return self.with_replaced().filter(is_replaced=False)

    def in_force(self) -> Self:
        """One of each provider and month that was compared."""
        return self.present().filter(latest__isnull=False)


class Reconciliation(models.Model):
    """A provider, an account and a month. What was found stands in its revisions."""

    placement = "tenant"

    ALL_ACCOUNTS = "all-accounts"
    """Used when bills of one provider name several accounts: telemetry knows the provider only."""

    provider = models.CharField(max_length=48)
    account = models.CharField(max_length=160)
    month = models.DateField()
    latest = models.OneToOneField("Revision", null=True, on_delete=models.PROTECT, related_name="+")
    missing_rates = models.JSONField(default=list)
    """Exchange rates without which its bill cannot be compared as it is now: list of {currency, first, last}."""
    confirmed_key = models.CharField(max_length=64, blank=True, default="")
    """Run key of other inputs, or of other rules, that came to just what the latest revision says."""

    is_replaced: bool
    """Annotated by `with_replaced`."""
    has_waiting_file: bool
    """Annotated by `with_waiting`."""
    is_counted_twice: bool
    """Annotated by `with_counted_twice`."""

    objects = ReconciliationQuerySet.as_manager()

    class Meta:
        db_table = "reconciliation"
        ordering = ["-month", "provider", "account"]
        constraints = [models.UniqueConstraint(fields=["provider", "account", "month"], name="reconciliation_once")]

    def __str__(self) -> str:
        return f"{self.provider} {self.account} {self.month:%Y-%m}"


class Revision(models.Model):
    """One run whose inputs differed from those before. Never changed, never removed."""

    placement = "tenant"

    reconciliation = models.ForeignKey(Reconciliation, on_delete=models.PROTECT, related_name="revisions")
    number = models.IntegerField()
    run_key = models.CharField(max_length=64)
    """sha256 over all inputs and the version of the rules."""
    rules = models.PositiveSmallIntegerField(null=True)
    """Version of the rules of comparison; None where it was not kept yet."""
    created_at = models.DateTimeField()
    bill = models.DecimalField(max_digits=40, decimal_places=20)
    """Cost of the compared rows, in `currency`."""
    telemetry = models.DecimalField(max_digits=40, decimal_places=20)
    """In `currency`, at our exchange rates."""
    currency = models.CharField(max_length=3, default=exchange.BOOK)
    """Of the bill; of bills in several, USD."""
    bill_at_book = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    """The bill in USD at our exchange rates; None where it is in USD."""
    telemetry_at_book = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    """As it was counted, USD; None where the bill is in USD."""
    rates = models.JSONField(default=list)
    """Our exchange rates that were used: list of {currency, day, per_usd}, the day being the one that the rate is of."""
    stated_rows = models.IntegerField(default=0)
    """Rows that say themselves what they cost in another currency: what their rate makes of it is the cause `fx`."""
    bill_rows = models.IntegerField()
    calls = models.BigIntegerField()
    causes = models.JSONField()
    """List of {cause, amount, cents, lines}; amounts as text, exact; cents sum to the variance in cents."""
    excluded = models.JSONField()
    """Rows kept out of the comparison: list of {kind, rows, amount}."""
    complete_through = models.DateTimeField(null=True)
    """End of the last charge period on the bill."""
    telemetry_through = models.DateTimeField(null=True)
    """Calls attributed until then are on our side, and none of later; None where it was not kept yet."""
    late_calls = models.BigIntegerField(null=True)
    """Calls that were attributed after the revision before had read our side; None without one, or where that did not keep it."""
    file_ids = ArrayField(models.BigIntegerField(), null=True)
    """Files that its compared rows were of, ascending; None where they were not kept yet."""

    class Meta:
        db_table = "reconciliation_revision"
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["reconciliation", "number"], name="revision_number_once"),
        ]

    def __str__(self) -> str:
        return f"{self.reconciliation} revision {self.number}"

    @property
    def variance(self) -> Decimal:
        """Bill minus telemetry, in its currency."""
        return _EXACT.subtract(self.bill, self.telemetry)

    @property
    def bill_usd(self) -> Decimal:
        """At our exchange rates."""
        return self.bill if self.bill_at_book is None else self.bill_at_book

    @property
    def telemetry_usd(self) -> Decimal:
        return self.telemetry if self.telemetry_at_book is None else self.telemetry_at_book

    @property
    def variance_usd(self) -> Decimal:
        return _EXACT.subtract(self.bill_usd, self.telemetry_usd)

    def cause_usd(self, name: str) -> Decimal:
        """A cause in USD. In another currency each line is at our rate of its day: the sums of both may be far from any mean rate, or nothing."""
        if self.bill_at_book is None:
            return sum((Decimal(cause["amount"]) for cause in self.causes if cause["cause"] == name), Decimal())
        lines = self.lines.filter(causes__has_key=name).order_by().values_list("causes", "rate")
        return sum((bridge.converted(Decimal(causes[name]), _EXACT.divide(Decimal(1), rate)) for causes, rate in lines), Decimal())

    @property
    def variance_cents(self) -> Decimal:
        """The difference of both amounts as they are shown."""
        unit = subunit(self.currency)
        return bridge.cents(self.bill, unit) - bridge.cents(self.telemetry, unit)

    @property
    def variance_percent(self) -> Decimal | None:
        """Of the bill, without sign; None when the bill compares nothing."""
        return abs(self.variance) / self.bill * 100 if self.bill else None

    @property
    def unexplained(self) -> Decimal:
        return sum((Decimal(cause["amount"]) for cause in self.causes if cause["cause"] == "unexplained"), Decimal())

    @property
    def unexplained_percent(self) -> Decimal | None:
        return abs(self.unexplained) / self.bill * 100 if self.bill else None

    @property
    def is_doubtful(self) -> bool:
        """More than 5% apart, or more than 1% without an explanation: pages then say that estimates may vary."""
        percent, unexplained = self.variance_percent, self.unexplained_percent
        if percent is None or unexplained is None:
            return bool(self.variance)
        return percent > 5 or unexplained > 1

    @property
    def last_day(self) -> date:
        """Of its month."""
        return whole_month(self.reconciliation.month).last

    @property
    def is_provisional(self) -> bool:
        """The bill does not reach the end of the month yet."""
        return not bridge.reaches(self.complete_through, self.last_day)

    @property
    def digest(self) -> str:
        """sha256 over what a signature stands for: whose bill, the inputs (their own hash), both sums and every cause."""
        series = self.reconciliation
        body = [
            series.provider,
            series.account,
            series.month.isoformat(),
            self.number,
            self.run_key,
            *(f"{amount.normalize(_EXACT):f}" for amount in (self.bill, self.telemetry)),
            self.causes,
            self.excluded,
            *([] if self.bill_at_book is None else [self.currency, self.rates]),
        ]
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


class RevisionSignature(models.Model):
    """A person's word for one revision, bound to the digest that the person saw. Two people make a sign-off."""

    placement = "tenant"

    NEEDED = 2

    revision = models.ForeignKey(Revision, on_delete=models.PROTECT, related_name="signatures")
    digest = models.CharField(max_length=64)
    person = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    comment = models.CharField(max_length=400, blank=True)
    at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)
    void_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "revision_signature"
        ordering = ["at", "pk"]
        constraints = [
            models.UniqueConstraint(fields=["revision", "person"], condition=Q(voided_at=None), name="revision_signed_once"),
            models.CheckConstraint(condition=Q(voided_at=None, void_reason="") | Q(voided_at__isnull=False), name="signature_void_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.person} for {self.revision}"


class ReconciliationLine(models.Model):
    """One compared key: a model and token class on a day, or over the month where the bill is not finer."""

    placement = "tenant"

    revision = models.ForeignKey(Revision, on_delete=models.CASCADE, related_name="lines")
    model = models.CharField(max_length=160)
    day = models.DateField(null=True)
    token_class = models.CharField(max_length=16, blank=True)
    bill = models.DecimalField(max_digits=40, decimal_places=20)
    telemetry = models.DecimalField(max_digits=40, decimal_places=20)
    bill_tokens = models.DecimalField(max_digits=34, decimal_places=10, null=True)
    telemetry_tokens = models.BigIntegerField()
    bill_rows = models.IntegerField()
    rate = models.DecimalField(max_digits=20, decimal_places=10, default=Decimal(1))
    """Units of the revision's currency for one USD of ours."""
    causes = models.JSONField()
    """Cause to amount as text; sums to bill - telemetry exactly."""
    late_tokens = models.BigIntegerField(default=0, db_default=0)
    """Of `telemetry_tokens`, those of the revision's late calls."""
    late = models.DecimalField(max_digits=40, decimal_places=20, default=Decimal(), db_default=Decimal())
    """Of `telemetry`, what these cost."""

    class Meta:
        db_table = "reconciliation_line"
        ordering = ["model", "day", "token_class"]
        indexes = [models.Index(fields=["revision", "model"], name="reconciliation_line_model")]

    def __str__(self) -> str:
        return f"{self.model} {self.token_class}"

    @property
    def class_label(self) -> str:
        return TokenClass(self.token_class).label if self.token_class in TokenClass.values else "All classes"

    @property
    def variance(self) -> Decimal:
        """Bill minus telemetry, in the revision's currency."""
        return _EXACT.subtract(self.bill, self.telemetry)

    @property
    def bill_usd(self) -> Decimal:
        """At our exchange rate of its day."""
        return bridge.converted(self.bill, _EXACT.divide(Decimal(1), self.rate)) if self.rate != 1 else self.bill

    @property
    def telemetry_usd(self) -> Decimal:
        return bridge.converted(self.telemetry, _EXACT.divide(Decimal(1), self.rate)) if self.rate != 1 else self.telemetry

    @property
    def late_usd(self) -> Decimal:
        return bridge.converted(self.late, _EXACT.divide(Decimal(1), self.rate)) if self.rate != 1 else self.late
