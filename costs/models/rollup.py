"""What pages, metrics and reconciliation read instead of events. Changed only together with events, in one transaction.

Empty text stands for "not known": an empty agent is an untagged call.
"""

from __future__ import annotations

from decimal import Decimal

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from costs.models.price import TokenClass


class UsageHour(models.Model):
    """Calls of one hour (UTC, by start of the call) that agree in everything a page can group by."""

    placement = "tenant"

    class Outcome(models.TextChoices):
        OK = "ok", "OK"
        REFUSED = "refused", "Refused"
        ERROR = "error", "Failed"

    hour = models.DateTimeField()
    project = models.TextField()
    cost_centre = models.TextField()
    agent = models.TextField()
    model = models.TextField()
    provider = models.TextField()
    key_id = models.TextField()
    kind = models.TextField()
    outcome = models.CharField(max_length=8, choices=Outcome)
    calls = models.BigIntegerField()
    uncached_input_tokens = models.BigIntegerField()
    cached_input_tokens = models.BigIntegerField()
    cache_write_tokens = models.BigIntegerField()
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=34, decimal_places=14)
    """USD over the priced calls."""
    unpriced_calls = models.BigIntegerField()
    untagged_calls = models.BigIntegerField()
    """Without project, key, model or agent."""
    estimated_calls = models.BigIntegerField()
    """Whose tokens the gateway had to estimate."""
    duration_us = models.BigIntegerField()
    last_event_at = models.DateTimeField()

    class Meta:
        db_table = "usage_hour"
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "project", "cost_centre", "agent", "model", "provider", "key_id", "kind", "outcome"], name="usage_hour_once"
            )
        ]
        indexes = [models.Index(fields=["key_id", "hour"], name="usage_hour_key")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.project} {self.model}"


INPUT_TOKENS = models.F("uncached_input_tokens") + models.F("cached_input_tokens") + models.F("cache_write_tokens")
"""Of an hour; cached ones included."""
TOKENS = INPUT_TOKENS + models.F("output_tokens")
"""All tokens of an hour."""


def known_cost(cost: Decimal, unpriced: int | None) -> Decimal | None:
    """USD of some calls, or None: no money is known of them, and `unpriced` of them (calls or tokens) lack a price."""
    return None if not cost and unpriced else cost


class _DaySums(models.Model):
    """Sums of the calls of one UTC day that share a value."""

    day = models.DateField()
    calls = models.BigIntegerField()
    refused = models.BigIntegerField()
    errors = models.BigIntegerField()
    tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=34, decimal_places=14)
    """USD over the priced calls."""
    unpriced_calls = models.BigIntegerField()
    untagged_calls = models.BigIntegerField()
    """Without project, key, model or agent; refused ones are not in it."""
    untagged_cost = models.DecimalField(max_digits=34, decimal_places=14)
    estimated_calls = models.BigIntegerField()

    class Meta:
        abstract = True


class UsageDay(_DaySums):
    """Calls of one UTC day by one dimension: sums of `UsageHour` (of deployment, region and `tag:<name>`: of `AttributeDay`), so that a page
    without filters reads hundreds of rows and not a million."""

    placement = "tenant"

    class Dimension(models.TextChoices):
        ALL = "all", "All calls"
        HOUR = "hour", "Hour of the day"
        PROJECT = "project", "Project"
        COST_CENTRE = "cost_centre", "Cost centre"
        AGENT = "agent", "Agent"
        MODEL = "model", "Model"
        PROVIDER = "provider", "Provider"
        KEY = "key", "Key"
        DEPLOYMENT = "deployment", "Deployment"
        REGION = "region", "Region"

    dimension = models.CharField(max_length=48)
    """One of `Dimension`, or `tag:` and the name of a declared tag."""
    value = models.TextField()
    """Empty for all calls; of an hour, `00` to `23` in UTC."""

    class Meta:
        db_table = "usage_day"
        constraints = [models.UniqueConstraint(fields=["dimension", "day", "value"], name="usage_day_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.dimension} {self.value}"


class AttributeDay(_DaySums):
    """Calls of one UTC day by one attribute that `UsageHour` does not have, and all that it has: see `costs.attribute_days`.

    Each attribute has every call once, so attributes are not added up, nor narrowed by one another.
    """

    placement = "tenant"

    attribute = models.CharField(max_length=48)
    """`deployment`, `region`, or `tag:` and the name of a declared tag."""
    value = models.TextField()
    """Empty where the call has none; `(other)` for the values of a tag beyond those kept of a day."""
    project = models.TextField()
    cost_centre = models.TextField()
    agent = models.TextField()
    model = models.TextField()
    provider = models.TextField()
    key_id = models.TextField()

    class Meta:
        db_table = "attribute_day"
        constraints = [
            models.UniqueConstraint(
                fields=["attribute", "day", "value", "project", "cost_centre", "agent", "model", "provider", "key_id"],
                name="attribute_day_once",
            )
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.attribute} {self.value}"


class TokenDay(models.Model):
    """Tokens and money of one UTC day by provider, model and token class: the grain that a bill is compared at."""

    placement = "tenant"

    day = models.DateField()
    provider = models.TextField()
    model = models.TextField()
    token_class = models.CharField(max_length=16)
    calls = models.BigIntegerField()
    """Calls that used the class; a call counts once in each class that it used."""
    tokens = models.BigIntegerField()
    unpriced_tokens = models.BigIntegerField()
    """Of `tokens`, those of calls without a price."""
    cost = models.DecimalField(max_digits=34, decimal_places=14)

    class Meta:
        db_table = "token_day"
        constraints = [models.UniqueConstraint(fields=["provider", "day", "model", "token_class"], name="token_day_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.provider} {self.model} {self.token_class}"

    @property
    def class_label(self) -> str:
        return str(TokenClass(self.token_class).label)


class PromptDay(models.Model):
    """Calls of one UTC day that named one version of a prompt, by model. Those of long before it was kept are in no row."""

    placement = "tenant"

    day = models.DateField()
    prompt = models.TextField()
    version = models.IntegerField()
    model = models.TextField()
    calls = models.BigIntegerField()
    errors = models.BigIntegerField()
    """Of `calls`: failed, and left by the caller."""
    refused = models.BigIntegerField()
    """Of `calls`."""
    input_tokens = models.BigIntegerField()
    """Of every class."""
    output_tokens = models.BigIntegerField()
    cost = models.DecimalField(max_digits=34, decimal_places=14)
    """USD over the priced calls."""
    unpriced_calls = models.BigIntegerField()

    class Meta:
        db_table = "prompt_day"
        constraints = [models.UniqueConstraint(fields=["prompt", "version", "day", "model"], name="prompt_day_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.prompt}@{self.version}"


class LatencyHour(models.Model):
    """One bucket of a mergeable histogram of durations; see `costs.sketch` for the buckets."""

    placement = "tenant"

    class Measure(models.TextChoices):
        DURATION = "duration", "Whole call"
        TTFT = "ttft", "First byte"
        OVERHEAD = "overhead", "Inside the gateway"
        ATTRIBUTION = "attribution", "From the end of the call to its attribution"

    hour = models.DateTimeField()
    measure = models.CharField(max_length=12, choices=Measure)
    model = models.TextField()
    """Empty for overhead and attribution, which are the gateway's own and not a model's; so is the provider."""
    provider = models.TextField()
    bucket = models.SmallIntegerField()
    count = models.BigIntegerField()

    class Meta:
        db_table = "latency_hour"
        constraints = [models.UniqueConstraint(fields=["measure", "hour", "model", "provider", "bucket"], name="latency_hour_once")]

    def __str__(self) -> str:
        return f"{self.measure} {self.hour:%Y-%m-%d %H}:00 bucket {self.bucket}"


class CallHour(models.Model):
    """How calls to models went in one hour (UTC, by start of the call), by all that a model's usage can be narrowed to; tools are not in it.

    Distributions are one JSON object per row: most rows are of few calls, and a row for each bucket would be as much as the events.
    """

    placement = "tenant"

    hour = models.DateTimeField()
    project = models.TextField()
    agent = models.TextField()
    model = models.TextField()
    provider = models.TextField()
    deployment = models.TextField()
    """Its id as planes know it; where the call ended."""
    key_id = models.TextField()
    status = models.CharField(max_length=16)
    """As in the event."""
    calls = models.BigIntegerField()
    cache_hits = models.BigIntegerField()
    cache_misses = models.BigIntegerField()
    """Looked up and not found; calls of models without a cache are neither."""
    durations = models.JSONField()
    """Of calls that are OK: bucket of `costs.sketch`, as text, to calls."""
    ttfts = models.JSONField()
    """The same of the time to the first byte, of those that have one."""
    error_codes = models.JSONField()
    """Of the others: code to calls; calls without a code are not in it."""

    class Meta:
        db_table = "call_hour"
        constraints = [
            models.UniqueConstraint(
                fields=["model", "hour", "project", "agent", "provider", "deployment", "key_id", "status"], name="call_hour_once"
            )
        ]
        indexes = [BrinIndex(fields=["hour"], pages_per_range=32, name="call_hour_hour")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.model} {self.status}"


class VerdictHour(models.Model):
    """What policies, guardrails, caches and routes said, and when deployments were left, in one hour (UTC, by start of the call)."""

    placement = "tenant"

    hour = models.DateTimeField()
    step = models.TextField()
    """`policy` for every call that came to the policies, `policy:<name>@<version>`, `guardrail:<name>`, `cache:<model>`,
    `failover:<model>`, `route:<model>`."""
    verdict = models.TextField()
    """Of a failover: why the deployment was left."""
    found = models.TextField()
    """Of `policy`: `covered` or empty. Of a guardrail: empty for the calls, and a row for each entity with its hits.
    Of a failover: the id of the deployment that was left; empty when it is not known, as in hours of before it was counted."""
    calls = models.BigIntegerField()
    hits = models.BigIntegerField()

    class Meta:
        db_table = "verdict_hour"
        constraints = [models.UniqueConstraint(fields=["hour", "step", "verdict", "found"], name="verdict_hour_once")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}:00 {self.step} {self.verdict}"
