"""Bodies of the endpoints of tool servers and tools."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from catalog.models import Tool, ToolServer
from catalog.models.tool import namespace_validator
from governance.api.serializers import StrictSerializer
from governance.models import FeatureClass


class ToolServerInput(StrictSerializer):
    namespace = serializers.CharField(max_length=32, validators=[namespace_validator])
    name = serializers.CharField(max_length=80)
    url = serializers.URLField(max_length=300)
    description = serializers.CharField(max_length=2000, required=False, allow_blank=True, default="")
    secret = serializers.CharField(max_length=400, required=False, allow_blank=True, default="", write_only=True)
    feature_class = serializers.ChoiceField(choices=FeatureClass.choices, default=FeatureClass.TOOLS)


class ToolServerOutput(serializers.ModelSerializer[ToolServer]):
    owner = serializers.CharField(source="owner.email")
    has_secret = serializers.SerializerMethodField()
    active_tools = serializers.IntegerField()
    suspended_tools = serializers.IntegerField()

    class Meta:
        model = ToolServer
        fields = (
            "namespace",
            "name",
            "description",
            "url",
            "feature_class",
            "is_enabled",
            "owner",
            "has_secret",
            "protocol_version",
            "server_info",
            "discovered_at",
            "discovery_error",
            "active_tools",
            "suspended_tools",
            "created_at",
        )

    def get_has_secret(self, server: ToolServer) -> bool:
        return bool(server.sealed_secret)


class DiffOutput(serializers.Serializer[Any]):
    """Tool names by what the discovery found."""

    new = serializers.ListField(child=serializers.CharField())
    changed = serializers.ListField(child=serializers.CharField(), help_text="Suspended until approved.")
    restored = serializers.ListField(child=serializers.CharField())
    removed = serializers.ListField(child=serializers.CharField())
    unchanged = serializers.ListField(child=serializers.CharField())


class DiscoveryOutput(serializers.Serializer[Any]):
    server = ToolServerOutput()
    diff = DiffOutput()


class ToolOutput(serializers.ModelSerializer[Tool]):
    namespace = serializers.CharField(source="server.namespace")
    full_name = serializers.CharField()

    class Meta:
        model = Tool
        fields = (
            "namespace",
            "name",
            "full_name",
            "title",
            "description",
            "status",
            "input_schema",
            "output_schema",
            "annotations",
            "digest",
            "pending_definition",
            "first_seen_at",
        )


class ToolRunInput(StrictSerializer):
    project = serializers.SlugField(max_length=48)
    arguments = serializers.DictField(required=False, default=dict)


class ToolRunOutput(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    duration_ms = serializers.FloatField()
    texts = serializers.ListField(child=serializers.CharField())
    structured = serializers.CharField()
    other = serializers.ListField(child=serializers.CharField())
    error = serializers.CharField()
    code = serializers.CharField()
