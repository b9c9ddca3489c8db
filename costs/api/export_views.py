"""Cost data for other programs, as files and as figures to scrape."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers as drf
from rest_framework.exceptions import NotFound
from rest_framework.views import APIView

from costs import export_schema, export_selectors, selectors
from costs.api import asked as asked_of
from costs.services import exports
from governance.access import Permission
from governance.api.inputs import query_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.downloads import download
from governance.requests import ApiRequest


class ExportQuery(StrictSerializer):
    """Whole UTC days, default the present month; the filters are those of spend."""

    file = drf.ChoiceField(choices=list(export_schema.FILE_LABELS.items()), default="csv")
    to = drf.DateField(required=False)
    project = drf.CharField(required=False, help_text="`(none)` for calls whose project is not known; the same holds for the others.")
    model = drf.CharField(required=False)
    agent = drf.CharField(required=False)
    key = drf.CharField(required=False)
    provider = drf.CharField(required=False)
    cost_centre = drf.CharField(required=False)

    def get_fields(self) -> dict[str, drf.Field[Any, Any, Any, Any]]:
        return {"from": drf.DateField(required=False), **super().get_fields()}  # `from` cannot be an attribute

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """With the period."""
        return {**attrs, "period": asked_of.period(attrs)}


class Export(APIView):
    """A dataset as a file: `focus` (FOCUS 1.2, priced tokens by day), `usage` (all calls by hour) or `attributes` (all calls by day and by deployment, region and declared tag). Each export is audited."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(
        parameters=[ExportQuery],
        responses={
            (200, "text/csv"): OpenApiTypes.BINARY,
            (200, "application/jsonl"): OpenApiTypes.BINARY,
            (200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY,
            400: ErrorSerializer,
            403: ErrorSerializer,
            404: ErrorSerializer,
            503: ErrorSerializer,
        },
    )
    def get(self, request: ApiRequest, dataset: str) -> StreamingHttpResponse:
        if dataset not in export_schema.DATASETS:
            raise NotFound
        asked = query_of(request, ExportQuery)
        chosen = {name: asked[name] for name in selectors.FILTERS if asked.get(name)}
        chunks = exports.export(dataset=dataset, file=asked["file"], period=asked["period"], chosen=chosen, actor=request.user)
        return download(
            request._request,
            name=exports.file_name(dataset, asked["file"], asked["period"]),
            content_type=export_schema.FILES[asked["file"]],
            chunks=chunks,
        )


class Prometheus(APIView):
    """Spend, calls and tokens of the present month (UTC) by provider, model, project and cost centre, and by attribute, in Prometheus' text format."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={(200, "text/plain"): OpenApiTypes.STR, 403: ErrorSerializer})
    def get(self, request: ApiRequest) -> HttpResponse:
        return HttpResponse(export_selectors.month_figures(), content_type=export_selectors.PROMETHEUS)
