"""One governed call, attributed and priced. Append-only; only an unpriced one gets its price later.

The table is partitioned by month of `started_at` and made in `0002_event_partitions`; the services create the
partitions. `(started_at, event_id)` is unique, which makes attribution exactly once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast

from costs.models.price import TokenClass
from gateway.contract.events import CACHED_UNITS, INPUT_UNITS, OUTPUT_UNITS, WRITE_UNITS

DATED_ID = 7
"""Version of the UUIDs that the gateway makes: they say when."""
_LAST_MS = 4_102_444_800_000
"""2100-01-01: no call is of later."""
_OF_MOMENT = timedelta(seconds=10)
"""A call begins when its dated id is made, but for clocks that are set in between. So long the time index is read before and after."""
_UNDATED = RawSQL("(get_byte(uuid_send(event_id), 6) >> 4) <> 7", (), output_field=models.BooleanField())
"""As the index of ids that do not say when."""


def has_id(event_id: UUID) -> Q:
    """The call with that id, by an index."""
    milliseconds = event_id.int >> 80
    if event_id.version != DATED_ID:
        return Q(_UNDATED, event_id=event_id)
    if milliseconds > _LAST_MS:
        return Q(pk__in=())
    began = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return Q(event_id=event_id, started_at__range=(began - _OF_MOMENT, began + _OF_MOMENT))


def has_request_id(request_id: str) -> Q:
    """Calls with that request id, by an index: their caller's own, or the call's id, which is what a call gets whose caller sends none."""
    named = Q(request_id=request_id) & ~Q(request_id=Cast("event_id", models.TextField()))
    try:
        return named | has_id(UUID(request_id)) & Q(request_id=request_id)
    except ValueError:
        return named


class Event(models.Model):
    placement = "tenant"

    class Pricing(models.TextChoices):
        PRICED = "priced", "Priced"
        FREE = "free", "Nothing was used"
        UNPRICED = "unpriced", "Unpriced"
        UNMETERED = "unmetered", "Not priced by tokens"

    event_id = models.UUIDField(primary_key=True)
    kind = models.TextField()
    started_at = models.DateTimeField()
    received_at = models.DateTimeField()
    attributed_at = models.DateTimeField()
    duration_us = models.BigIntegerField()
    overhead_us = models.BigIntegerField(null=True)
    ttft_us = models.BigIntegerField(null=True)
    request_id = models.TextField()
    project = models.TextField()
    """Slug; empty when it is not known. The same holds for the other names."""
    cost_centre = models.TextField()
    """The project's at the time of attribution."""
    key_id = models.TextField()
    agent = models.TextField()
    model = models.TextField()
    provider = models.TextField()
    deployment = models.TextField()
    upstream_model = models.TextField()
    region = models.TextField()
    status = models.TextField()
    http_status = models.IntegerField()
    error_code = models.TextField()
    stream = models.BooleanField()
    uncached_input_tokens = models.BigIntegerField(null=True)
    """The four are disjoint; None when the usage is not known."""
    cached_input_tokens = models.BigIntegerField(null=True)
    cache_write_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    """Part of output_tokens."""
    units = models.JSONField(null=True)
    """Class to count of what has a price of its own, see `gateway.contract.events.CallEvent.units`: tokens in it are part of the four above."""
    answer_id = models.TextField(null=True)
    """What the gateway's answer called itself; None without one that tells it from all others, and for calls made elsewhere."""
    usage_source = models.TextField()
    service_tier = models.TextField()
    """One of `ServiceTier`, or what the provider called one that we do not know and have no price for."""
    snapshot_version = models.BigIntegerField()
    tags = models.JSONField()
    steps = models.JSONField()
    pricing = models.TextField(choices=Pricing)
    cost = models.DecimalField(max_digits=30, decimal_places=14, null=True)
    """USD, exact: a price with eight decimals per million tokens has fourteen per token."""
    price_ids = ArrayField(models.BigIntegerField(null=True))
    """Price entries used, in the order of `TokenClass`; NULL where the class was not used or has no price."""

    is_archived = False
    """Whether it was read from the file of its month; see `costs.archive_selectors`."""

    class Meta:
        db_table = "event"
        managed = False
        ordering = ["-started_at", "-event_id"]

    def __str__(self) -> str:
        return self.request_id

    @property
    def input_tokens(self) -> int | None:
        """As the provider counts: cached ones included."""
        parts = (self.uncached_input_tokens, self.cached_input_tokens, self.cache_write_tokens)
        return None if all(part is None for part in parts) else sum(part or 0 for part in parts)

    @property
    def tokens_by_class(self) -> dict[str, int | None]:
        """Token class to tokens (or calls of a tool), disjoint; the four usual ones are None when the usage is not known."""
        units: dict[str, int] = self.units or {}

        def apart(whole: int | None, names: tuple[str, ...]) -> int | None:
            return None if whole is None else whole - sum(units.get(name, 0) for name in names)

        return {
            TokenClass.INPUT: apart(self.uncached_input_tokens, INPUT_UNITS),
            TokenClass.CACHED_INPUT: apart(self.cached_input_tokens, CACHED_UNITS),
            TokenClass.CACHE_WRITE: apart(self.cache_write_tokens, WRITE_UNITS),
            TokenClass.OUTPUT: apart(self.output_tokens, OUTPUT_UNITS),
            **units,
        }

    @property
    def duration_ms(self) -> float:
        return self.duration_us / 1000

    @property
    def overhead_ms(self) -> float | None:
        return None if self.overhead_us is None else self.overhead_us / 1000

    @property
    def ttft_ms(self) -> float | None:
        return None if self.ttft_us is None else self.ttft_us / 1000

    @property
    def has_page(self) -> bool:
        """Whether it can be found by its id: in the archive only by one that says when it was."""
        return not self.is_archived or self.event_id.version == DATED_ID

    @property
    def is_ok(self) -> bool:
        return self.status == "ok"
