"""Where an organisation wants to be told, what there was to tell, and how the telling went."""

from __future__ import annotations

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from governance.topics import is_within


class Severity(models.TextChoices):
    INFO = "info", "Information"
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"


SEVERITY_RANK = {severity: rank for rank, severity in enumerate(Severity.values)}


class AlertChannel(models.Model):
    """One destination. What leads there (addresses, URL, key) may be a credential in itself, so it is sealed and write-only."""

    placement = "tenant"
    never_exported = ("sealed_target", "sealed_secret", "sealed_previous_secret")

    class Kind(models.TextChoices):
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook (signed)"
        SLACK = "slack", "Slack"
        TEAMS = "teams", "Microsoft Teams"
        PAGERDUTY = "pagerduty", "PagerDuty"
        APPRISE = "apprise", "Other service (Apprise)"

    name = models.CharField(max_length=60, unique=True)
    kind = models.CharField(max_length=12, choices=Kind)
    shown_target = models.CharField(max_length=200)
    """What a page may show of the target: the addresses, the service, or the host of the URL."""
    sealed_target = models.TextField(editable=False)
    sealed_secret = models.TextField(blank=True, editable=False)
    """Signs webhooks, see the Standard Webhooks specification."""
    sealed_previous_secret = models.TextField(blank=True, editable=False)
    previous_until = models.DateTimeField(null=True, editable=False)
    """Until then webhooks carry a signature by the previous secret too."""
    topics = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    """Beginnings of topics, for example `budget`; empty means everything."""
    least_severity = models.CharField(max_length=8, choices=Severity, default=Severity.INFO)
    is_enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    tried_at = models.DateTimeField(null=True, editable=False)
    tried_ok = models.BooleanField(null=True, editable=False)
    tried_detail = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def wants(self, topic: str, severity: str) -> bool:
        """Whether a notice goes here."""
        matches = not self.topics or any(is_within(topic, wanted) for wanted in self.topics)
        return self.is_enabled and matches and SEVERITY_RANK[severity] >= SEVERITY_RANK[self.least_severity]


class Notice(models.Model):
    """Something that people should know. The same `key` is told once."""

    placement = "tenant"

    topic = models.CharField(max_length=60)
    severity = models.CharField(max_length=8, choices=Severity)
    title = models.CharField(max_length=160)
    text = models.TextField(blank=True)
    path = models.CharField(max_length=300, blank=True)
    """Of the page that says more, below the tenant's path."""
    permission = models.CharField(max_length=24)
    """Who may read it in the product; a `Permission`."""
    key = models.CharField(max_length=160, unique=True)
    data = models.JSONField(default=dict)
    """Facts for programs; no prompts, completions, secrets or personal data."""
    at = models.DateTimeField()

    class Meta:
        ordering = ["-at"]
        indexes = [models.Index(fields=["-at", "-id"], name="notice_newest")]

    def __str__(self) -> str:
        return self.title


class Delivery(models.Model):
    """One notice to one channel. At least once: a receiver knows a repetition by the id."""

    placement = "tenant"

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting"
        SENT = "sent", "Delivered"
        DEAD = "dead", "Given up"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    notice = models.ForeignKey(Notice, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(AlertChannel, on_delete=models.CASCADE, related_name="deliveries")
    status = models.CharField(max_length=8, choices=Status, default=Status.PENDING)
    attempts = models.IntegerField(default=0)
    next_at = models.DateTimeField(null=True)
    """When it is tried (again); None once sent or given up."""
    sent_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["next_at"], name="delivery_due", condition=models.Q(status="pending")),
            models.Index(fields=["-created_at"], name="delivery_newest"),
        ]
        constraints = [models.UniqueConstraint(fields=["notice", "channel"], name="delivery_once_per_channel")]

    def __str__(self) -> str:
        return f"{self.notice} to {self.channel}"

    @property
    def is_due(self) -> bool:
        """A worker tries it next."""
        return self.next_at is not None and self.next_at <= timezone.now()
