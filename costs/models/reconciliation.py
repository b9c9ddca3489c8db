"""The comparison of one provider account's bill with our telemetry over one month, revision by revision."""

from __future__ import annotations

from decimal import Context, Decimal

from django.db import models

from costs import bridge

_EXACT = Context(prec=80)


class Reconciliation(models.Model):
    """A provider, an account and a month. What was found stands in its revisions."""

    placement = "tenant"

    ALL_ACCOUNTS = "all-accounts"
    """Used when bills of one provider name several accounts: telemetry knows the provider only."""

    provider = models.CharField(max_length=48)
    account = models.CharField(max_length=160)
    month = models.DateField()
    latest = models.OneToOneField("Revision", null=True, on_delete=models.PROTECT, related_name="+")

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
    created_at = models.DateTimeField()
    bill = models.DecimalField(max_digits=40, decimal_places=20)
    """Cost of the compared rows, USD."""
    telemetry = models.DecimalField(max_digits=40, decimal_places=20)
    bill_rows = models.IntegerField()
    calls = models.BigIntegerField()
    causes = models.JSONField()
    """List of {cause, amount, cents, lines}; amounts as text, exact; cents sum to the variance in cents."""
    excluded = models.JSONField()
    """Rows kept out of the comparison: list of {kind, rows, amount}."""
    complete_through = models.DateTimeField(null=True)
    """End of the last charge period on the bill."""

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
        """Bill minus telemetry, USD."""
        return _EXACT.subtract(self.bill, self.telemetry)

    @property
    def variance_cents(self) -> Decimal:
        """The difference of both amounts as they are shown."""
        return bridge.cents(self.bill) - bridge.cents(self.telemetry)

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
    causes = models.JSONField()
    """Cause to amount as text; sums to bill - telemetry exactly."""

    class Meta:
        db_table = "reconciliation_line"
        ordering = ["model", "day", "token_class"]
        indexes = [models.Index(fields=["revision", "model"], name="reconciliation_line_model")]

    def __str__(self) -> str:
        return f"{self.model} {self.token_class}"
