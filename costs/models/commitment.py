"""What was bought ahead: throughput by the hour, spend, or credits; and what it was used for."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from django.db import models
from django.db.models import F, Q

from costs.models.price import Quoted, quote_constraint
from costs.quotes import EXACT
from governance.models import User


class Commitment(Quoted):
    """One promise to a provider over whole UTC days. Counts once a second person has approved it.

    `quoted` is the price of a unit and hour of throughput, else the amount of use, in the currency of the contract.
    """

    placement = "tenant"

    class Kind(models.TextChoices):
        THROUGHPUT = "throughput", "Provisioned throughput"
        SPEND = "spend", "Spend commitment"
        CREDITS = "credits", "Prepaid credits"

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"
        VOIDED = "voided", "Voided"

    reference = models.CharField(max_length=120)
    """What the provider calls it: the id on its bills."""
    kind = models.CharField(max_length=12, choices=Kind)
    provider = models.CharField(max_length=48)
    model = models.CharField(max_length=80, blank=True)
    """Slug; empty for all models of the provider."""
    region = models.CharField(max_length=48, blank=True)
    """As the provider's in the catalog; empty where it does not matter."""
    quantity = models.DecimalField(max_digits=18, decimal_places=4)
    """Units bought, of throughput; else USD of use at the price book's prices."""
    unit_price = models.DecimalField(max_digits=18, decimal_places=8)
    """USD for a unit and hour, of throughput; else USD paid for each USD of use."""
    unit_tokens_per_minute = models.IntegerField(null=True)
    """What one unit of throughput serves, in input tokens; None for other kinds."""
    output_weight = models.DecimalField(max_digits=6, decimal_places=2, default=Decimal(1))
    """How many input tokens of that one output token takes."""
    first_on = models.DateField()
    last_on = models.DateField()
    source = models.CharField(max_length=200)
    """Contract or order."""
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    proposed_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=400, blank=True)
    counted_through = models.DateField(null=True)
    """Last UTC day of which `CommitmentDay` has rows."""

    class Meta:
        db_table = "commitment"
        ordering = ["-proposed_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["reference", "first_on"], condition=Q(status__in=["waiting", "approved"]), name="commitment_once"
            ),
            models.CheckConstraint(condition=Q(quantity__gt=0, unit_price__gte=0), name="commitment_amounts"),
            quote_constraint("commitment"),
            models.CheckConstraint(condition=Q(last_on__gte=F("first_on")), name="commitment_not_empty"),
            models.CheckConstraint(
                condition=Q(kind="throughput", unit_tokens_per_minute__gt=0) | (~Q(kind="throughput") & Q(unit_tokens_per_minute=None)),
                name="commitment_capacity_of_throughput",
            ),
            models.CheckConstraint(condition=Q(output_weight__gt=0), name="commitment_output_weight"),
            models.CheckConstraint(
                condition=Q(status="waiting", decided_by=None, decided_at=None)
                | (~Q(status="waiting") & Q(decided_by__isnull=False, decided_at__isnull=False)),
                name="commitment_decided_by_somebody",
            ),
            models.CheckConstraint(condition=~Q(status="approved", decided_by=F("proposed_by")), name="commitment_four_eyes"),
        ]

    def __str__(self) -> str:
        return self.reference

    @property
    def is_throughput(self) -> bool:
        return self.kind == self.Kind.THROUGHPUT

    @property
    def days(self) -> int:
        return (self.last_on - self.first_on).days + 1

    @property
    def fee(self) -> Decimal:
        """Of the whole term, USD."""
        units = self.quantity * self.days * 24 if self.is_throughput else self.quantity
        return units * self.unit_price

    @property
    def per_usd(self) -> Decimal:
        """What of the contract's currency stands for one of our dollars of it: our rate, but for what the amount in USD is rounded by."""
        if self.quoted is None or self.rate is None:
            return Decimal(1)
        usd = self.unit_price if self.is_throughput else self.quantity
        return EXACT.divide(self.quoted, usd) if usd else self.rate

    @property
    def quoted_fee(self) -> Decimal | None:
        """Of the whole term, in the currency of the contract; None where that is USD."""
        if self.quoted is None:
            return None
        return self.quoted * (self.quantity * self.days * 24 if self.is_throughput else self.unit_price)

    def covers(self, day: date) -> bool:
        return self.first_on <= day <= self.last_on


class CommitmentDay(models.Model):
    """What a commitment cost on one UTC day for one model; the row without a model is what nobody used. Rows of a term sum to its fee."""

    placement = "tenant"

    commitment = models.ForeignKey(Commitment, on_delete=models.CASCADE, related_name="rows")
    day = models.DateField()
    model = models.CharField(max_length=200, blank=True)
    """Empty: unused."""
    quantity = models.DecimalField(max_digits=40, decimal_places=20)
    """Unit hours of throughput, else USD of use."""
    list_cost = models.DecimalField(max_digits=40, decimal_places=20)
    """What the use would have cost by the price book, USD."""
    cost = models.DecimalField(max_digits=40, decimal_places=20)
    """Its part of the fee, USD."""

    class Meta:
        db_table = "commitment_day"
        ordering = ["day", "pk"]
        constraints = [models.UniqueConstraint(fields=["day", "commitment", "model"], name="commitment_day_once")]

    def __str__(self) -> str:
        return f"{self.commitment} {self.day} {self.model or 'unused'}"
