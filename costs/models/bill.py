"""What a provider says we owe: files as they came, and their rows."""

from __future__ import annotations

import hashlib
import json
from decimal import Context, Decimal

from django.db import models
from django.db.models import Q
from django.db.models.functions import Coalesce

from governance.models import User

_EXACT = Context(prec=60)


class DeliveryStyle(models.TextChoices):
    """How the files of an account follow each other."""

    APPEND = "append", "Each file adds to those before"
    REPLACEMENT = "replacement", "Each file replaces what it delivers again"


class BillFeed(models.Model):
    """How a provider delivers the bills of an account, as a person said. The version of FOCUS is no part of it: a newer one replaces the same rows."""

    placement = "tenant"

    provider = models.CharField(max_length=48)
    account = models.CharField(max_length=160)
    style = models.CharField(max_length=12, choices=DeliveryStyle)
    set_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    set_at = models.DateTimeField()

    class Meta:
        db_table = "bill_feed"
        ordering = ["provider", "account"]
        constraints = [models.UniqueConstraint(fields=["provider", "account"], name="bill_feed_once")]

    def __str__(self) -> str:
        return f"{self.provider} {self.account}"


class BillFile(models.Model):
    """One FOCUS file, or all parts of one export. Its counts obey accepted + duplicate + rejected + quarantined = in; so do its sums, as far as a cost could be read."""

    placement = "tenant"

    class State(models.TextChoices):
        APPLIED = "applied", "Applied"
        WAITING = "waiting", "Waits to be applied"
        DISMISSED = "dismissed", "Dismissed"
        UNDONE = "undone", "Undone"

    sha256 = models.CharField(max_length=64, unique=True)
    """Of the file as it came; of several parts, over their own ones in order of these."""
    name = models.CharField(max_length=200)
    size_bytes = models.BigIntegerField()
    path = models.CharField(max_length=300)
    """In the default storage, below the tenant's schema name; empty where `parts` have their own."""
    parts = models.JSONField(default=list, db_default=[])
    """Of an export in several files, each as it came: list of {name, sha256, size_bytes, path}. Empty for one file."""
    provider = models.CharField(max_length=48, blank=True)
    """Slug chosen at the upload; empty when each row's own provider name decided."""
    focus_version = models.CharField(max_length=16)
    uploaded_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    uploaded_at = models.DateTimeField()
    written_at = models.DateTimeField(null=True)
    """When the last of it was written, as the store says that it was fetched from; None for what was uploaded."""
    rows_in = models.IntegerField()
    rows_accepted = models.IntegerField()
    rows_duplicate = models.IntegerField()
    rows_rejected = models.IntegerField()
    """What is no row of a bill."""
    rows_quarantined = models.IntegerField(default=0)
    """Well-formed, and of nobody we know: see `costs.services.bill_rows.why_quarantined`."""
    billed_in = models.DecimalField(max_digits=40, decimal_places=20)
    """Sums of BilledCost."""
    billed_accepted = models.DecimalField(max_digits=40, decimal_places=20)
    billed_duplicate = models.DecimalField(max_digits=40, decimal_places=20)
    billed_rejected = models.DecimalField(max_digits=40, decimal_places=20)
    """Over rejected rows whose cost could be read."""
    billed_quarantined = models.DecimalField(max_digits=40, decimal_places=20, default=Decimal())
    state = models.CharField(max_length=12, choices=State, db_default=State.APPLIED, default=State.APPLIED)
    """Rows of a file that waits are in no table yet; its counts say what they would become."""
    applied_at = models.DateTimeField(null=True)
    """None also for files of before it was kept: `uploaded_at`."""
    doubts = models.JSONField(default=list, db_default=[])
    """Why it waits, or was applied all the same: list of {code, message}."""
    changes = models.JSONField(default=list, db_default=[])
    """The largest differences to what was in force: list of {description, day, currency, was, now}, amounts as text, null where there is no row."""

    class Meta:
        db_table = "bill_file"
        ordering = ["-uploaded_at", "-pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def paths(self) -> list[str]:
        """Where its parts are kept, in their order."""
        return [part["path"] for part in self.parts] or [self.path]

    @property
    def digest(self) -> str:
        """sha256 over what it would change: a person applies what the preview showed, and nothing else. Whether the style is known is no change."""
        shown = [
            [
                one.provider,
                one.account,
                one.period.isoformat(),
                one.currency,
                one.style,
                one.rows_kept,
                one.rows_new,
                one.rows_gone,
                one.rows_changed,
            ]
            + [f"{amount.normalize(_EXACT):f}" for amount in (one.billed_kept, one.billed_new, one.billed_gone)]
            for one in self.deliveries.all()
        ]
        return hashlib.sha256(json.dumps([shown, [doubt for doubt in self.doubts if doubt["code"] != "style"]]).encode()).hexdigest()

    @property
    def is_undoable(self) -> bool:
        """As far as the file itself says; a later one on the same period stands in the way as well."""
        return self.state == self.State.APPLIED and any(one.style == DeliveryStyle.REPLACEMENT for one in self.deliveries.all())


class BillDelivery(models.Model):
    """What a file does to one billing period of an account, or would do while the file waits.

    Once it is applied, only rows that leave quarantine change it.
    """

    placement = "tenant"

    file = models.ForeignKey(BillFile, on_delete=models.CASCADE, related_name="deliveries")
    provider = models.CharField(max_length=48)
    account = models.CharField(max_length=160)
    period = models.DateField()
    """First day of the billing period, which for corrections is not the month that they are compared in."""
    currency = models.CharField(max_length=8)
    style = models.CharField(max_length=12, choices=DeliveryStyle)
    rows_kept = models.IntegerField()
    """In force before and after."""
    rows_new = models.IntegerField()
    rows_gone = models.IntegerField()
    rows_changed = models.IntegerField()
    """Of those new and gone alike: the same charge with other figures."""
    billed_kept = models.DecimalField(max_digits=40, decimal_places=20)
    """Sums of BilledCost."""
    billed_new = models.DecimalField(max_digits=40, decimal_places=20)
    billed_gone = models.DecimalField(max_digits=40, decimal_places=20)

    class Meta:
        db_table = "bill_delivery"
        ordering = ["provider", "account", "period", "currency"]
        indexes = [models.Index(fields=["provider", "account", "period"], name="bill_delivery_period")]

    def __str__(self) -> str:
        return f"{self.provider} {self.account} {self.period:%Y-%m}"

    @property
    def only_new(self) -> int:
        return self.rows_new - self.rows_changed

    @property
    def only_gone(self) -> int:
        return self.rows_gone - self.rows_changed

    @property
    def rows_after(self) -> int:
        return self.rows_kept + self.rows_new

    @property
    def rows_before(self) -> int:
        return self.rows_kept + self.rows_gone

    @property
    def difference(self) -> Decimal:
        """What the period is more by, in its currency."""
        return _EXACT.subtract(self.billed_new, self.billed_gone)

    @property
    def billed_after(self) -> Decimal:
        return _EXACT.add(self.billed_kept, self.billed_new)


class BillRowManager(models.Manager["BillRow"]):
    """Rows that count: neither replaced by a later file nor of one that was undone."""

    def get_queryset(self) -> models.QuerySet[BillRow]:
        return super().get_queryset().filter(is_in_force=True)


class BillRow(models.Model):
    """One accepted row. The same row in a later file is a duplicate; twice in one file it is two charges. None is ever removed."""

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

    COMPARED = (Kind.USAGE, Kind.COMMITTED)

    class Grain(models.TextChoices):
        DAY = "day", "Day"
        MONTH = "month", "Month"

    file = models.ForeignKey(BillFile, on_delete=models.PROTECT, related_name="rows")
    part = models.SmallIntegerField(default=1, db_default=1)
    """Of the file, from 1."""
    line = models.IntegerField()
    """Of the part."""
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
    pricing_currency = models.CharField(max_length=3, blank=True, default="")
    """Another currency that the row is priced in, where it says what it costs there; else empty."""
    pricing_cost = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    """The compared amount in it."""
    pricing_listed_cost = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    pricing_list_cost = models.DecimalField(max_digits=40, decimal_places=20, null=True)
    invoice_id = models.CharField(max_length=160, blank=True)
    sku_id = models.CharField(max_length=200, blank=True)
    meter = models.CharField(max_length=200, blank=True)
    period = models.DateField(null=True)
    """First day of the month in which its billing period begins; None for rows of before it was kept: `month`."""
    charge_key = models.CharField(max_length=32, blank=True, db_default="")
    """Over what names the charge in every version of FOCUS (`costs.focus.NAMING`), without amounts; empty for rows of before it was kept."""
    is_in_force = models.BooleanField(default=True, db_default=True)
    replaced_by = models.ForeignKey(BillFile, null=True, on_delete=models.PROTECT, related_name="replaced_rows")
    """Whose delivery took it out; None and not in force: its own file was undone."""

    objects = BillRowManager()
    ever = models.Manager["BillRow"]()
    """Those that are not in force as well."""

    class Meta:
        db_table = "bill_row"
        constraints = [
            models.UniqueConstraint(fields=["fingerprint", "occurrence"], condition=Q(is_in_force=True), name="bill_row_in_force")
        ]
        indexes = [
            models.Index(fields=["provider", "month", "account"], name="bill_row_period"),
            models.Index("provider", "account", Coalesce("period", "month"), name="bill_row_delivered"),
        ]

    def __str__(self) -> str:
        return f"{self.file} line {self.line}"


class BillError(models.Model):
    """Why a row was rejected, or is in quarantine until it can be placed."""

    placement = "tenant"

    file = models.ForeignKey(BillFile, on_delete=models.CASCADE, related_name="errors")
    part = models.SmallIntegerField(default=1, db_default=1)
    line = models.IntegerField()
    column = models.CharField(max_length=64, blank=True)
    message = models.CharField(max_length=300)
    text = models.CharField(max_length=500)
    """The row as it came, cut."""
    is_quarantined = models.BooleanField(default=False)

    class Meta:
        db_table = "bill_error"
        ordering = ["part", "line"]
        indexes = [models.Index(fields=["file", "line"], name="bill_error_line")]

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


class BillSource(models.Model):
    """A provider whose bills are fetched: from its cost API, or from a folder that its cloud delivers exports to."""

    placement = "tenant"
    never_exported = ("sealed_key",)

    class Kind(models.TextChoices):
        OPENAI = "openai", "OpenAI costs"
        ANTHROPIC = "anthropic", "Anthropic cost report"
        S3 = "s3", "S3 bucket"
        AZURE_BLOB = "azure_blob", "Azure Blob container"
        GCS = "gcs", "Google Cloud Storage bucket"

    class Credential(models.TextChoices):
        KEY = "key", "Key, or SAS token"
        ENTRA_ID = "entra_id", "Microsoft Entra ID"
        SERVICE_ACCOUNT = "service_account", "Google service account"
        AWS_KEYS = "aws_keys", "AWS access keys"

    CREDENTIALS: dict[str, tuple[str, ...]] = {
        Kind.OPENAI: (Credential.KEY,),
        Kind.ANTHROPIC: (Credential.KEY,),
        Kind.S3: (Credential.AWS_KEYS,),
        Kind.AZURE_BLOB: (Credential.KEY, Credential.ENTRA_ID),
        Kind.GCS: (Credential.SERVICE_ACCOUNT,),
    }
    """What each kind can be asked with, the usual one first."""
    FOLDERS = (Kind.S3, Kind.AZURE_BLOB, Kind.GCS)
    API_ACCOUNTS: dict[str, str] = {Kind.OPENAI: "openai-cost-api", Kind.ANTHROPIC: "anthropic-cost-api"}
    """What rows from an API have as their billing account: the API does not name one."""

    provider = models.CharField(max_length=48, unique=True)
    """Slug; rows belong to it."""
    kind = models.CharField(max_length=16, choices=Kind)
    base_url = models.URLField(max_length=300)
    """Of the API; of a folder, that of the store without the bucket."""
    bucket = models.CharField(max_length=222, blank=True, default="", db_default="")
    """Or container. This and the next three are of folders only."""
    prefix = models.CharField(max_length=500, blank=True, default="", db_default="")
    region = models.CharField(max_length=32, blank=True, default="", db_default="")
    """Of S3."""
    style = models.CharField(max_length=12, choices=DeliveryStyle, blank=True, default="", db_default="")
    """How its files follow each other; empty: as is remembered of their accounts, or as they tell."""
    credential = models.CharField(max_length=16, choices=Credential, default=Credential.KEY, db_default=Credential.KEY)
    """What the sealed text is, see `gateway.contract.credentials`."""
    sealed_key = models.TextField(editable=False)
    """An admin key of the organisation at the provider, or a credential of the store; goes in sealed and leaves only towards it."""
    key_set_at = models.DateTimeField()
    begins_on = models.DateField()
    """First UTC day that is fetched; of a folder, files that were written before it are passed over."""
    set_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    fetched_through = models.DateField(null=True)
    """Last UTC day that was read whole."""
    fetched_at = models.DateTimeField(null=True)
    tried_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    """Of the last try; empty when it was well."""
    begun_at = models.DateTimeField(null=True)
    """Of the reading of its folder that is on its way, or asked for: when it said last that it goes on. None without one."""
    reading = models.JSONField(default=dict, db_default={})
    """Of the last whole reading of a folder: how many files were found to be what, see `costs.services.bill_folders.Reading`."""

    class Meta:
        db_table = "bill_source"
        ordering = ["provider"]

    def __str__(self) -> str:
        return f"{self.provider} ({self.get_kind_display()})"

    @property
    def is_folder(self) -> bool:
        return self.kind in self.FOLDERS

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return "/".join(part for part in (self.base_url, self.bucket, self.prefix) if part)

    @property
    def terms(self) -> tuple[object, ...]:
        """What is read, and how: what a reading by other terms brought is not taken."""
        return self.kind, self.base_url, self.bucket, self.prefix, self.region, self.style, self.begins_on


class BillSourceFile(models.Model):
    """A file in a source's folder that was read, or tried: which version of it, and what became of that."""

    placement = "tenant"

    source = models.ForeignKey(BillSource, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=1024)
    """Whole, with the prefix."""
    version = models.CharField(max_length=200, blank=True)
    """ETag and size; empty: to be tried again by the next reading."""
    size_bytes = models.BigIntegerField()
    changed_at = models.DateTimeField()
    """As the store says."""
    read_at = models.DateTimeField()
    bill = models.ForeignKey(BillFile, null=True, on_delete=models.SET_NULL, related_name="+")
    """What it was imported as, alone or as a part; None when it failed."""
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        db_table = "bill_source_file"
        ordering = ["-changed_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["source", "name"], name="bill_source_file_once")]
        indexes = [models.Index(fields=["source", "changed_at"], name="bill_source_file_changed")]

    def __str__(self) -> str:
        return self.name


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
