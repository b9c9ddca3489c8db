"""Tables that portal and plane share, see `gateway.contract.names`. All in the public schema, none with a foreign key."""

from __future__ import annotations

from typing import ClassVar

from django.db import models


class Snapshot(models.Model):
    """The newest snapshot of each tenant."""

    placement: ClassVar[str] = "public"

    tenant = models.TextField(primary_key=True, help_text="public id of the tenant")
    version = models.BigIntegerField()
    checksum = models.TextField()
    body = models.BinaryField(help_text="gateway.contract.snapshot.encode")
    published_at = models.DateTimeField()

    class Meta:
        app_label = "gateway"
        db_table = "gateway_snapshot"
        constraints = [models.CheckConstraint(condition=models.Q(version__gte=1), name="gateway_snapshot_version_positive")]

    def __str__(self) -> str:
        return f"{self.tenant} version {self.version}"


class Counter(models.Model):
    """What planes were granted of one limit in one window. Written by planes only."""

    placement: ClassVar[str] = "public"

    pk = models.CompositePrimaryKey("tenant", "limit_id", "window_start")
    tenant = models.TextField(help_text="public id of the tenant")
    limit_id = models.TextField()
    window_start = models.DateTimeField()
    window_end = models.DateTimeField()
    granted = models.DecimalField(max_digits=30, decimal_places=0, help_text="requests, tokens, or pico-dollars")
    last_grant = models.DecimalField(max_digits=30, decimal_places=0, help_text="how the granting statement returns its result")

    class Meta:
        app_label = "gateway"
        db_table = "gateway_counter"
        constraints = [models.CheckConstraint(condition=models.Q(granted__gte=0), name="gateway_counter_granted_not_negative")]
        indexes = [models.Index(fields=["window_end"], name="gateway_counter_window_end")]

    def __str__(self) -> str:
        return f"{self.tenant} {self.limit_id} from {self.window_start:%Y-%m-%d %H:%M}"


class Slot(models.Model):
    """How many calls at once one plane has booked of one limit, until it says so again. Written by planes only."""

    placement: ClassVar[str] = "public"

    pk = models.CompositePrimaryKey("tenant", "limit_id", "plane")
    tenant = models.TextField(help_text="public id of the tenant")
    limit_id = models.TextField()
    plane = models.TextField(help_text="one process")
    slots = models.IntegerField()
    expires_at = models.DateTimeField()

    class Meta:
        app_label = "gateway"
        db_table = "gateway_slot"
        indexes = [models.Index(fields=["expires_at"], name="gateway_slot_expires_at")]

    def __str__(self) -> str:
        return f"{self.tenant} {self.limit_id}: {self.slots}"


class Plane(models.Model):
    """A process of the gateway, as it tells of itself every few seconds. Written by planes only."""

    placement: ClassVar[str] = "public"

    plane = models.TextField(primary_key=True, help_text="one process")
    host = models.TextField()
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField()
    is_listening = models.BooleanField(help_text="told of changes at once; otherwise it asks every other second")
    open_streams = models.IntegerField()
    spool_bytes = models.BigIntegerField(help_text="events that are not in the database yet")

    class Meta:
        app_label = "gateway"
        db_table = "gateway_plane"

    def __str__(self) -> str:
        return f"{self.host} {self.plane}"


class Taken(models.Model):
    """Which version of a tenant's snapshot a plane serves, and since when by the database's clock. Written by planes only."""

    placement: ClassVar[str] = "public"

    pk = models.CompositePrimaryKey("tenant", "plane")
    tenant = models.TextField(help_text="public id of the tenant")
    plane = models.TextField()
    version = models.BigIntegerField()
    taken_at = models.DateTimeField()

    class Meta:
        app_label = "gateway"
        db_table = "gateway_taken"

    def __str__(self) -> str:
        return f"{self.plane} serves {self.tenant} version {self.version}"


class ArrivedPayload(models.Model):
    """What a call said, sealed, until it is given to its organisation. Written by planes; moved by `payloads`."""

    placement: ClassVar[str] = "public"

    event_id = models.UUIDField(primary_key=True)
    tenant = models.TextField(help_text="public id of the tenant")
    at = models.DateTimeField()
    expires_at = models.DateTimeField()
    project = models.TextField()
    key_id = models.TextField()
    model = models.TextField()
    mode = models.TextField()
    subject = models.TextField()
    sealed = models.TextField()

    class Meta:
        app_label = "gateway"
        db_table = "gateway_payload"
        indexes = [models.Index(fields=["tenant"], name="gateway_payload_tenant")]

    def __str__(self) -> str:
        return str(self.event_id)


class CircuitChange(models.Model):
    """A plane's verdict on a deployment changed. Written by planes; told to people by `circuits`."""

    placement: ClassVar[str] = "public"

    event_id = models.UUIDField(primary_key=True)
    tenant = models.TextField(help_text="public id of the tenant")
    at = models.DateTimeField()
    circuit = models.TextField(help_text="closed, open or half_open")
    model = models.TextField(help_text="slug of the model whose call noticed")
    provider = models.TextField()
    deployment = models.TextField()
    calls = models.IntegerField(help_text="in the window")
    errors = models.IntegerField()
    cooldown_s = models.FloatField()
    reason = models.TextField()
    is_told = models.BooleanField(db_default=False)

    class Meta:
        app_label = "gateway"
        db_table = "gateway_circuit_change"
        indexes = [
            models.Index(fields=["at"], name="gateway_circuit_change_at"),
            models.Index(fields=["tenant", "deployment", "-at"], name="gateway_circuit_of"),
        ]

    def __str__(self) -> str:
        return f"{self.deployment} {self.circuit} at {self.at:%Y-%m-%d %H:%M:%S}"
