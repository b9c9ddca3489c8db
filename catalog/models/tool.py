"""An MCP server behind the gateway, and the tools that it was found to have."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models

from catalog.models.fields import OrderedJSONField
from gateway.contract.sealing import Sealer
from governance.models import FeatureClass, User

# A double underscore separates namespace and tool; a single one would make the border ambiguous.
namespace_validator = RegexValidator(
    r"^[a-z][a-z0-9-]{0,30}[a-z0-9]$", "Use 2 to 32 lower-case letters, digits and hyphens, beginning with a letter."
)


class ToolServer(models.Model):
    """Its namespace goes before the names of its tools: `<namespace>__<tool>`. Names never collide."""

    never_exported = ("sealed_secret",)

    namespace = models.CharField(max_length=32, unique=True, validators=[namespace_validator])
    name = models.CharField(max_length=80)
    description = models.TextField(blank=True)
    url = models.URLField(max_length=300)
    sealed_secret = models.TextField(blank=True, editable=False)
    feature_class = models.CharField(max_length=32, choices=FeatureClass, default=FeatureClass.TOOLS)
    is_enabled = models.BooleanField(default=True)
    owner = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    protocol_version = models.CharField(max_length=24, blank=True, editable=False)
    server_info = models.CharField(max_length=160, blank=True, editable=False)
    discovered_at = models.DateTimeField(null=True, editable=False)
    discovery_error = models.CharField(max_length=300, blank=True, editable=False)
    """Why the last discovery failed; empty when it worked."""
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["namespace"]

    def __str__(self) -> str:
        return self.name

    def open_secret(self) -> str:
        """The upstream credential in clear, only for a call to the server itself."""
        return Sealer(settings.SEALING_KEYS).open(self.sealed_secret)


class Tool(models.Model):
    """One tool as it was discovered. A changed definition suspends it until somebody looks at the difference."""

    class Status(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Suspended"
        REMOVED = "removed", "No longer offered"

    server = models.ForeignKey(ToolServer, on_delete=models.CASCADE, related_name="tools")
    name = models.CharField(max_length=120)
    title = models.CharField(max_length=160, blank=True)
    description = models.TextField(blank=True)
    input_schema = OrderedJSONField(default=dict)
    output_schema = OrderedJSONField(null=True)
    annotations = models.JSONField(null=True)
    digest = models.CharField(max_length=64)
    """sha256 of the canonical definition."""
    status = models.CharField(max_length=16, choices=Status, default=Status.ACTIVE)
    pending_definition = OrderedJSONField(null=True)
    """The changed definition that waits for approval while the tool is suspended."""
    first_seen_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["server", "name"], name="tool_name_once_per_server")]

    def __str__(self) -> str:
        return self.full_name

    @property
    def full_name(self) -> str:
        """What callers, events and prices call it."""
        return f"{self.server.namespace}__{self.name}"

    def definition(self) -> dict[str, Any]:
        """The approved definition."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
            "annotations": self.annotations,
        }
