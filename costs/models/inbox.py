"""Where the data plane delivers, and what could not be given to any tenant.

The columns are those of `gateway.contract.events.INBOX_COLUMNS`; a test compares the two. Text has no length limit here: a
COPY must not fail because one caller sent a long name.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class CallColumns(models.Model):
    """One governed call as the plane wrote it. Unknown is NULL, never zero."""

    event_id = models.UUIDField()
    tenant = models.TextField()
    kind = models.TextField()
    started_at = models.DateTimeField()
    duration_us = models.BigIntegerField()
    overhead_us = models.BigIntegerField(null=True)
    ttft_us = models.BigIntegerField(null=True)
    request_id = models.TextField()
    project = models.TextField(null=True)
    key_id = models.TextField(null=True)
    agent = models.TextField(null=True)
    model = models.TextField(null=True)
    provider = models.TextField(null=True)
    deployment = models.TextField(null=True)
    upstream_model = models.TextField(null=True)
    region = models.TextField(null=True)
    status = models.TextField()
    http_status = models.IntegerField()
    error_code = models.TextField(null=True)
    stream = models.BooleanField()
    input_tokens = models.BigIntegerField(null=True)
    output_tokens = models.BigIntegerField(null=True)
    cached_input_tokens = models.BigIntegerField(null=True)
    cache_write_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    usage_source = models.TextField()
    service_tier = models.TextField(null=True)
    units = models.JSONField(null=True)
    answer_id = models.TextField(null=True)
    snapshot_version = models.BigIntegerField()
    tags = models.JSONField()
    steps = models.JSONField()

    class Meta:
        abstract = True


class Inbox(CallColumns):
    """Delivered, not attributed yet. Delivering an event twice is harmless."""

    placement = "public"

    received_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "inbox"
        indexes = [models.Index(fields=["tenant", "id"], name="inbox_tenant")]

    def __str__(self) -> str:
        return f"{self.tenant} {self.event_id}"


class RejectedInbox(CallColumns):
    """Set aside with its reason, so that nothing that arrived is lost: an unknown tenant, an impossible time or count, a month that was archived."""

    placement = "public"

    received_at = models.DateTimeField()
    reason = models.CharField(max_length=32)
    """unknown_tenant, impossible_time, impossible_count or archived_month."""

    class Meta:
        db_table = "inbox_rejected"
        indexes = [models.Index(fields=["tenant", "received_at", "id"], name="inbox_rejected_came")]

    def __str__(self) -> str:
        return f"{self.reason}: {self.event_id}"
