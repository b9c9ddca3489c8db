"""Shapes that several endpoints of the catalog have."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from governance.api.serializers import StrictSerializer

MAX_INTEGER = 2**31 - 1
"""What a database integer holds; more is a clear error instead of a failure."""


class PriceSerializer(StrictSerializer):
    """List price in USD per million tokens."""

    input_per_million = serializers.DecimalField(max_digits=18, decimal_places=8, min_value=0)
    output_per_million = serializers.DecimalField(max_digits=18, decimal_places=8, min_value=0)


class UsageSerializer(serializers.Serializer[Any]):
    """What went through the gateway over the last 30 days. Missing figures are null, never zero."""

    calls = serializers.IntegerField()
    errors = serializers.IntegerField(help_text="Of calls: failed, or left by the caller.")  # type: ignore[assignment]  # a field of this name, not the serializer's own errors
    refused = serializers.IntegerField(help_text="Of calls.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=24, decimal_places=12, allow_null=True)
    p50_ms = serializers.FloatField(allow_null=True)
    p95_ms = serializers.FloatField(allow_null=True)
    ttft_ms = serializers.FloatField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class TraceStepSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    ok = serializers.BooleanField()
    ms = serializers.FloatField(allow_null=True)
    detail = serializers.CharField()


class TraceSerializer(serializers.Serializer[Any]):
    """The road of one live check, step by step."""

    ok = serializers.BooleanField()
    summary = serializers.CharField()
    total_ms = serializers.FloatField(allow_null=True)
    input_tokens = serializers.IntegerField(allow_null=True)
    output_tokens = serializers.IntegerField(allow_null=True)
    steps = TraceStepSerializer(many=True)


class CommentInput(StrictSerializer):
    comment = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class TagsInput(StrictSerializer):
    tags = serializers.DictField(child=serializers.CharField(max_length=128), help_text="Name to value; takes the place of all.")


class SwitchInput(StrictSerializer):
    enabled = serializers.BooleanField()
    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
