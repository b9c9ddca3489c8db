"""A model's usage for programs."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors as catalog_selectors
from costs import model_usage, periods, selectors
from costs.api import asked as asked_of
from costs.api.serializers import ExactField
from governance.access import Permission
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest


class ModelUsageQuery(StrictSerializer):
    """Span, grouping and filters; `from` and `to` are whole UTC days and make a span of their own."""

    period = serializers.ChoiceField(choices=["24h", "7d", "30d"], required=False, help_text="Default the last 30 days.")
    to = serializers.DateField(required=False)
    group = serializers.ChoiceField(choices=list(model_usage.GROUPS), default="project")
    project = serializers.CharField(
        required=False, help_text="`(none)` for calls whose project is not known; the same holds for the others."
    )
    agent = serializers.CharField(required=False)
    key = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    outcome = serializers.ChoiceField(
        choices=list(model_usage.OUTCOMES), required=False, help_text="`error`: failed, or left by the caller."
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {"from": serializers.DateField(required=False), **super().get_fields()}  # `from` cannot be an attribute

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        first, last = asked.get("from"), asked.get("to")
        if (first or last) and asked.get("period"):
            raise ValidationError({"period": ["Give either a period, or from and to."]})
        if bool(first) != bool(last):
            raise ValidationError({"from": ["Give both from and to."]})
        if first and last:
            asked_of.period(asked)
        return asked

    def span(self) -> periods.Span:
        asked = self.validated_data
        query = {name: asked[name].isoformat() for name in ("from", "to") if asked.get(name)}
        return periods.span_from_query({**query, "period": asked.get("period", "")}, timezone.now())


class UsageFigures(serializers.Serializer[Any]):
    """Works on `model_usage.Figures`. What is not known is null."""

    calls = serializers.IntegerField()
    refused = serializers.IntegerField()
    failed = serializers.IntegerField()
    left = serializers.IntegerField(help_text="The caller hung up.")
    error_percent = serializers.FloatField(allow_null=True, help_text="Failed ones of the calls that were not refused.")
    input_tokens = serializers.IntegerField(help_text="Cached ones included.")
    output_tokens = serializers.IntegerField()
    cost_usd = ExactField(allow_null=True)
    cost_per_call_usd = ExactField(source="cost_per_call", allow_null=True)
    unpriced_calls = serializers.IntegerField()
    p50_ms = serializers.FloatField(allow_null=True, help_text="Of calls that are OK, right within 2%; so are the two below.")
    p95_ms = serializers.FloatField(allow_null=True)
    ttft_ms = serializers.FloatField(allow_null=True, help_text="Median time to the first byte.")
    cache_hits = serializers.IntegerField()
    cache_misses = serializers.IntegerField()
    cache_percent = serializers.FloatField(allow_null=True)


class ModelUsageLine(serializers.Serializer[Any]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field of this name
    figures = UsageFigures()


class ModelUsageError(serializers.Serializer[Any]):
    status = serializers.CharField()
    code = serializers.CharField(help_text="Empty for calls without one.")
    calls = serializers.IntegerField()


class ModelUsageBucket(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    value = serializers.CharField()
    calls = serializers.IntegerField()


class ModelUsageOutput(serializers.Serializer[Any]):
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(help_text="The first moment after it.")
    bucket = serializers.ChoiceField(choices=["hour", "day"])
    scope = serializers.ChoiceField(choices=["organisation", "own_keys"])
    complete_through = serializers.DateTimeField()
    total = UsageFigures()
    lines = ModelUsageLine(many=True, help_text="Costly ones first.")
    buckets = ModelUsageBucket(many=True)
    errors = ModelUsageError(many=True)  # type: ignore[assignment]  # a field of this name


class ModelUsage(APIView):
    """Requests, tokens, cost, latency, errors and cache hits of one model: of the organisation with the right to see costs, otherwise of one's own keys."""

    access = {"GET": Permission.VIEW}

    @extend_schema(
        parameters=[ModelUsageQuery], responses={200: ModelUsageOutput, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer}
    )
    def get(self, request: ApiRequest, slug: str) -> Response:
        if not catalog_selectors.models_visible_to(request.membership).filter(slug=slug).exists():
            raise NotFound
        query = ModelUsageQuery(data=request.query_params.dict())
        query.is_valid(raise_exception=True)
        asked, span = query.validated_data, query.span()
        chosen = {name: asked[name] for name in (*model_usage.GROUPS, "outcome") if asked.get(name)}
        keys = None if selectors.sees_all_calls(request.membership) else selectors.own_keys(request.user)
        found = model_usage.model_usage(slug, span, asked["group"], chosen, keys=keys)
        body = {
            "start": span.start,
            "end": span.end,
            "bucket": "hour" if span.is_by_hour else "day",
            "scope": "organisation" if keys is None else "own_keys",
            "complete_through": found.complete_through,
            "total": found.total,
            "lines": found.lines,
            "buckets": [
                {"at": at, "value": value, "calls": calls}
                for at, values in sorted(found.by_bucket.items())
                for value, calls in sorted(values.items())
            ],
            "errors": found.errors,
        }
        return Response(ModelUsageOutput(body).data)
