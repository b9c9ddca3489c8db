"""What a provider says we owe: files as they came, and their rows."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from governance.models import User


class BillFile(models.Model):
    """One FOCUS file. Its counts obey accepted + duplicate + rejected + quarantined = in; so do its sums, as far as a cost could be read."""

    placement = "tenant"

    sha256 = models.CharField(max_length=64, unique=True)
    name = models.CharField(max_length=200)
    size_bytes = models.BigIntegerField()
    path = models.CharField(max_length=300)
    """In the default storage, below the tenant's schema name."""
    provider = models.CharField(max_length=48, blank=True)
    """Slug chosen at the upload; empty when each row's own provider name decided."""
    focus_version = models.CharField(max_length=16)
    uploaded_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    uploaded_at = models.DateTimeField()
    rows_in = models.IntegerField()
    rows_accepted = models.IntegerField()
    rows_duplicate = models.IntegerField()
    rows_rejected = models.IntegerField()
    """What is no row of a bill."""
    rows_quarantined = models.IntegerField(default=0)
    """Well-formed, and of nobody we know: see `costs.services.bills.why_quarantined`."""
    billed_in = models.DecimalField(max_digits=40, decimal_places=20)
    """Sums of BilledCost."""
    billed_accepted = models.DecimalField(max_digits=40, decimal_places=20)
    billed_duplicate = models.DecimalField(max_digits=40, decimal_places=20)
    billed_rejected = models.DecimalField(max_digits=40, decimal_places=20)
    """Over rejected rows whose cost could be read."""
    billed_quarantined = models.DecimalField(max_digits=40, decimal_places=20, default=Decimal())

    class Meta:
        db_table = "bill_file"
        ordering = ["-uploaded_at", "-pk"]

    def __str__(self) -> str:
        return self.name


class BillRow(models.Model):
    """One accepted row. The same row in a later file is a duplicate; twice in one file it is two charges."""

    placement = "tenant"

    class Kind(models.TextChoices):
        USAGE = "usage", "AI usage"
        COMMITTED = "committed", "AI usage under a commitment"
        UNUSED = "unused", "Unused commitment"
        PURCHASE = "purchase", "Purchases and commitment fees"
        CREDIT = "credit", "Credits"
        TAX = "tax", "Tax"
        ADJUSTMENT = "adjustment", "Adjustments"
        OTHER_SERVICE = "other_service", "Other services"
        OTHER_CURRENCY = "other_currency", "Other currencies"

    COMPARED = (Kind.USAGE, Kind.COMMITTED)

    class Grain(models.TextChoices):
        DAY = "day", "Day"
        MONTH = "month", "Month"

    file = models.ForeignKey(BillFile, on_delete=models.PROTECT, related_name="rows")
    line = models.IntegerField()
    fingerprint = models.CharField(max_length=32)
    """Over provider and all columns of the row, in a canonical form."""
    occurrence = models.IntegerField()
    """1 for the first of equal rows within a file, 2 for the second, …"""
    provider = models.CharField(max_length=48)
    provider_name = models.CharField(max_length=160)
    """As the bill says it."""
    account = models.CharField(max_length=160)
    kind = models.CharField(max_length=16, choices=Kind)
    charge_category = models.CharField(max_length=24)
    charge_class = models.CharField(max_length=24, blank=True)
    description = models.TextField(blank=True)
    month = models.DateField()
    """First day of the month that the row is compared in."""
    day = models.DateField(null=True)
    """UTC day of the usage; None when the charge period is longer than a day."""
    charge_start = models.DateTimeField()
    charge_end = models.DateTimeField()
    model = models.CharField(max_length=160, blank=True)
    """Our slug where it is known, else the name in the bill."""
    token_class = models.CharField(max_length=16, blank=True)
    tokens = models.DecimalField(max_digits=34, decimal_places=10, null=True)
    billed_cost = models.DecimalField(max_digits=40, decimal_places=20)
    effective_cost = models.DecimalField(max_digits=40, decimal_places=20)
    currency = models.CharField(max_length=8)
    listed_cost = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    """Quantity times the row's own unit price, exact; None when one of them is not given."""
    list_cost = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    """Quantity times the list price of the row, exact; also None for rows of before it was kept."""
    invoice_id = models.CharField(max_length=160, blank=True)
    sku_id = models.CharField(max_length=200, blank=True)
    meter = models.CharField(max_length=200, blank=True)

    class Meta:
        db_table = "bill_row"
        constraints = [models.UniqueConstraint(fields=["fingerprint", "occurrence"], name="bill_row_once")]
        indexes = [models.Index(fields=["provider", "month", "account"], name="bill_row_period")]

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"


class BillError(models.Model):
    """Why a row was rejected, or is in quarantine until it can be placed."""

    placement = "tenant"

    file = models.ForeignKey(BillFile, on_delete=models.CASCADE, related_name="errors")
    line = models.IntegerField()
    column = models.CharField(max_length=64, blank=True)
    message = models.CharField(max_length=300)
    text = models.CharField(max_length=500)
    """The row as it came, cut."""
    is_quarantined = models.BooleanField(default=False)

    class Meta:
        db_table = "bill_error"
        ordering = ["line"]
        indexes = [models.Index(fields=["file", "line"], name="bill_error_line")]

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


class BillSource(models.Model):
    """A provider whose bills are fetched from its cost API."""

    placement = "tenant"
    never_exported = ("sealed_key",)

    class Kind(models.TextChoices):
        OPENAI = "openai", "OpenAI costs"
        ANTHROPIC = "anthropic", "Anthropic cost report"

    provider = models.CharField(max_length=48, unique=True)
    """Slug; rows belong to it."""
    kind = models.CharField(max_length=16, choices=Kind)
    base_url = models.URLField(max_length=300)
    sealed_key = models.TextField(editable=False)
    """An admin key of the organisation at the provider; goes in sealed and leaves only towards it."""
    key_set_at = models.DateTimeField()
    begins_on = models.DateField()
    """First UTC day that is fetched."""
    set_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    fetched_through = models.DateField(null=True)
    """Last UTC day that was read whole."""
    fetched_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    """Of the last try; empty when it was well."""

    class Meta:
        db_table = "bill_source"
        ordering = ["provider"]

    def __str__(self) -> str:
        return f"{self.provider} ({self.get_kind_display()})"


class BillAlias(models.Model):
    """What a bill calls one of our providers or models."""

    placement = "tenant"

    class Subject(models.TextChoices):
        PROVIDER = "provider", "Provider"
        MODEL = "model", "Model"

    subject = models.CharField(max_length=8, choices=Subject)
    provider = models.CharField(max_length=48, blank=True)
    """For a model: the provider whose bills say it."""
    theirs = models.CharField(max_length=160)
    ours = models.CharField(max_length=80)

    class Meta:
        db_table = "bill_alias"
        ordering = ["subject", "provider", "theirs"]
        constraints = [models.UniqueConstraint(fields=["subject", "provider", "theirs"], name="bill_alias_once")]

    def __str__(self) -> str:
        return f"{self.theirs} is {self.ours}"
