"""What a token costs, from when until when."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from django.db import models
from django.db.models import F, Q

from costs import exchange
from costs.quotes import Quote
from governance.models import User

MOST_PROVIDER, MOST_MODEL = 48, 80
"""Characters of the names in the catalog."""


class TokenClass(models.TextChoices):
    """Disjoint: a token of a call is in exactly one. The order is that of `Event.price_ids`, so new ones come last."""

    INPUT = "input", "Input"
    CACHED_INPUT = "cached_input", "Cached input"
    CACHE_WRITE = "cache_write", "Cache write"
    OUTPUT = "output", "Output"
    AUDIO_INPUT = "audio_input", "Audio input"
    IMAGE_INPUT = "image_input", "Image input"
    CACHE_WRITE_1H = "cache_write_1h", "Cache write, 1 hour"
    AUDIO_OUTPUT = "audio_output", "Audio output"
    IMAGE_OUTPUT = "image_output", "Image output"
    WEB_SEARCH = "web_search", "Web searches"
    FILE_SEARCH = "file_search", "File searches"
    CACHED_AUDIO = "cached_audio", "Cached audio input"
    CACHED_IMAGE = "cached_image", "Cached image input"


class ServiceTier(models.TextChoices):
    """How the provider served a call; most have one price for each."""

    STANDARD = "standard", "Standard"
    BATCH = "batch", "Batch"
    FLEX = "flex", "Flex"
    PRIORITY = "priority", "Priority"
    FAST = "fast", "Fast"


def exact_text(price: Decimal) -> str:
    """Exact, with two decimals at least: a rounded price would not multiply to the cost."""
    whole, _, decimals = f"{price.normalize():f}".partition(".")
    return f"${int(whole):,}.{decimals.ljust(2, '0')}"


class PriceSeries(models.Model):
    """What a price is for. A call is priced by the tier that it was served in; of its prices there the one of its region comes before that of
    all, and then the one of the highest band that its input exceeds.
    """

    provider = models.CharField(max_length=MOST_PROVIDER)
    model = models.CharField(max_length=MOST_MODEL)
    """Our slug, not the provider's name."""
    token_class = models.CharField(max_length=16, choices=TokenClass)
    service_tier = models.CharField(max_length=16, choices=ServiceTier, default=ServiceTier.STANDARD)
    region = models.CharField(max_length=48, blank=True, default="")
    """Of the deployment; empty for all that have no price of their own."""
    context_over = models.BigIntegerField(default=0)
    """For calls with more input tokens than this, cached ones included."""

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.provider} {self.model} {self.series_label.lower()}"

    @property
    def is_usual(self) -> bool:
        """See `PriceEntryQuerySet.usual`."""
        return self.service_tier == ServiceTier.STANDARD and not self.region and not self.context_over

    @property
    def series(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in SERIES}

    @property
    def series_label(self) -> str:
        """Class and what narrows it: `Input, batch, eu, over 200,000 tokens`."""
        terms = [str(TokenClass(self.token_class).label)]
        if self.service_tier != ServiceTier.STANDARD:
            terms.append(self.service_tier)
        if self.region:
            terms.append(self.region)
        if self.context_over:
            terms.append(f"over {self.context_over:,} tokens")
        return ", ".join(terms)


SERIES = ("provider", "model", "token_class", "service_tier", "region", "context_over")


class Quoted(models.Model):
    """An amount that may be quoted in another currency: ours is in USD all the same, converted once at `rate` when it was proposed."""

    currency = models.CharField(max_length=3, default=exchange.BOOK)
    quoted = models.DecimalField(max_digits=26, decimal_places=8, null=True)
    """In `currency`, as it stands in the contract; None where that is USD, as are the next two. Wide enough for the highest amount at the highest rate."""
    rate = models.DecimalField(max_digits=20, decimal_places=10, null=True)
    """Units of the currency for one USD."""
    rate_on = models.DateField(null=True)
    """Day that the rate is of."""

    class Meta:
        abstract = True

    @property
    def quote(self) -> Quote | None:
        """None where it is quoted in USD."""
        if self.quoted is None or self.rate is None or self.rate_on is None:
            return None
        return Quote(self.currency, self.quoted, self.rate, self.rate_on)

    @property
    def quote_text(self) -> str:
        """`EUR 2.50 at 0.92`; empty where it is quoted in USD."""
        return (
            ""
            if self.quote is None
            else f"{self.currency} {exact_text(self.quote.amount).removeprefix('$')} at {self.quote.rate.normalize():f}"
        )


class QuotedPrice(Quoted):
    """`price` is USD per million tokens; `quoted` the same in `currency`."""

    price: Any  # a column of each table

    class Meta:
        abstract = True

    @property
    def price_text(self) -> str:
        return exact_text(self.price)


def quote_constraint(table: str) -> models.CheckConstraint:
    """What is in USD has no quote beside it, and any other has all of it."""
    return models.CheckConstraint(
        condition=Q(currency=exchange.BOOK, quoted=None, rate=None, rate_on=None)
        | (~Q(currency=exchange.BOOK) & Q(quoted__gte=0, rate__gt=0, rate_on__isnull=False)),
        name=f"{table}_quote",
    )


class PriceEntryQuerySet(models.QuerySet["PriceEntry"]):
    def usual(self) -> Self:
        """Those that calls have without anything special: what a page shows as the price, and what the gateway reserves by."""
        return self.filter(service_tier=ServiceTier.STANDARD, region="", context_over=0)


class PriceEntry(QuotedPrice, PriceSeries):
    """A price over [valid_from, valid_to). Entries of one series never overlap (constraint in `0011`)."""

    placement = "tenant"

    price = models.DecimalField(max_digits=18, decimal_places=8)
    """USD per million tokens, or calls of a tool."""
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    source = models.CharField(max_length=200, blank=True)
    """Where the figure was read."""
    approved_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = PriceEntryQuerySet.as_manager()

    class Meta:
        db_table = "price_entry"
        ordering = ["provider", "model", "token_class", "-valid_from"]
        indexes = [models.Index(fields=["provider", "model", "token_class", "valid_from"], name="price_entry_series")]
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="price_not_negative"),
            quote_constraint("price"),
            models.CheckConstraint(condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")), name="price_period_not_empty"),
            models.CheckConstraint(condition=Q(context_over__gte=0), name="price_context_not_negative"),
            models.UniqueConstraint(fields=SERIES, condition=Q(valid_to=None), name="price_one_open_entry"),
        ]

    def covers(self, at: datetime) -> bool:
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)


class PriceSheet(models.Model):
    """Prices that somebody proposes together: a file, a list over the API, or a discount on what is in force."""

    placement = "tenant"

    class Kind(models.TextChoices):
        SHEET = "sheet", "Price sheet"
        DISCOUNT = "discount", "Discount"
        FEED = "feed", "Price feed"

    kind = models.CharField(max_length=8, choices=Kind)
    name = models.CharField(max_length=200)
    note = models.CharField(max_length=400, blank=True)
    """Where the prices stand: a contract, a page."""
    unchanged = models.IntegerField()
    """Rows that were left out because they are in force already."""
    unknown = models.JSONField(default=list)
    """Of a feed: our deployments that it has no price for, as {provider, model, upstream_model, reason}."""
    proposed_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    """None: the schedule, from a feed."""
    proposed_at = models.DateTimeField()

    class Meta:
        db_table = "price_sheet"
        ordering = ["-proposed_at", "-pk"]

    def __str__(self) -> str:
        return self.name


class PriceProposal(QuotedPrice, PriceSeries):
    """One price that waits for somebody else's decision."""

    placement = "tenant"

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        WITHDRAWN = "withdrawn", "Withdrawn"

    sheet = models.ForeignKey(PriceSheet, on_delete=models.PROTECT, related_name="proposals")
    price = models.DecimalField(max_digits=18, decimal_places=8)
    """USD per million tokens."""
    before = models.DecimalField(max_digits=18, decimal_places=8, null=True)
    """What was in force at `valid_from` when it was proposed, USD; None when nothing was."""
    valid_from = models.DateTimeField()
    source = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    decided_by = models.ForeignKey(User, null=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True)
    reason = models.CharField(max_length=400, blank=True)
    entry = models.OneToOneField(PriceEntry, null=True, on_delete=models.PROTECT, related_name="+")
    """What it became; None again once that was superseded."""
    corrects = models.BooleanField(default=False)
    """The book was wrong: calls of its period that have a price get this one."""
    repriced_at = models.DateTimeField(null=True)
    """When all of them had it."""
    repriced_calls = models.BigIntegerField(null=True)
    repriced_by = models.DecimalField(max_digits=34, decimal_places=14, null=True)
    """USD that they cost more. Both grow batch by batch until `repriced_at`."""

    class Meta:
        db_table = "price_proposal"
        ordering = ["-pk"]
        indexes = [models.Index(fields=["status", "-id"], name="price_proposal_status")]
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="price_proposal_not_negative"),
            models.CheckConstraint(
                condition=Q(status="waiting", decided_by=None, decided_at=None)
                | (~Q(status="waiting") & Q(decided_by__isnull=False, decided_at__isnull=False))
                | Q(status="withdrawn", decided_at__isnull=False),  # by a later reading of the feed
                name="price_proposal_decided_by_somebody",
            ),
            models.CheckConstraint(condition=Q(entry=None) | Q(status="approved"), name="price_proposal_entry"),
            models.UniqueConstraint(fields=[*SERIES, "valid_from"], condition=Q(status="waiting"), name="price_proposal_once"),
            quote_constraint("price_proposal"),
        ]

    @property
    def before_text(self) -> str:
        """Empty when nothing was in force."""
        return "" if self.before is None else exact_text(self.before)

    @property
    def change(self) -> Decimal | None:
        """Percent of the price before; None when there was none, or it was nothing."""
        return (self.price - self.before) / self.before * 100 if self.before else None

    @property
    def is_large(self) -> bool:
        """By half or more in either direction: more often a wrong unit or a wrong sheet than a new price."""
        return self.change is not None and abs(self.change) >= 50

    @property
    def is_being_repriced(self) -> bool:
        return self.corrects and self.status == self.Status.APPROVED and self.repriced_at is None


class SupersededPrice(QuotedPrice, PriceSeries):
    """An entry that was in the book and wrong, under the id that calls were valued with. Never changed."""

    placement = "tenant"

    id = models.BigIntegerField(primary_key=True)
    price = models.DecimalField(max_digits=18, decimal_places=8)
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True)
    source = models.CharField(max_length=200, blank=True)
    approved_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    superseded_at = models.DateTimeField()
    superseded_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")

    class Meta:
        db_table = "superseded_price"
        ordering = ["-superseded_at", "-pk"]
