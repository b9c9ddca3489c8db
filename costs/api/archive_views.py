"""How long single calls are kept, and the months that left the database."""

from __future__ import annotations

from datetime import date

from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework import serializers as drf
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import archive_selectors
from costs.api.serializers import ExactField
from costs.models import LONGEST_MONTHS, SHORTEST_MONTHS, ArchivedMonth, EventRetention
from costs.services import archives
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.downloads import download
from governance.requests import ApiRequest


class RetentionInput(StrictSerializer):
    keep_months = drf.IntegerField(
        min_value=SHORTEST_MONTHS,
        max_value=LONGEST_MONTHS,
        allow_null=True,
        help_text="Whole UTC months before the present one; null keeps all calls.",
    )
    archives = drf.BooleanField(help_text="Whether older months are kept as files; if not, their single calls are deleted for ever.")


class RetentionOutput(drf.ModelSerializer[EventRetention]):
    class Meta:
        model = EventRetention
        fields = ("keep_months", "archives")


class ArchivedMonthOutput(drf.ModelSerializer[ArchivedMonth]):
    """Of a day: `events`, `unpriced_events`, `cost`, tokens by class, `duration_us` and `text_bytes`, which agreed with the database."""

    cost_usd = ExactField(source="cost")
    has_file = drf.SerializerMethodField()
    days = drf.DictField(child=drf.DictField())

    class Meta:
        model = ArchivedMonth
        fields = ("month", "events", "unpriced_events", "cost_usd", "has_file", "sha256", "size_bytes", "days", "archived_at")

    def get_has_file(self, archived: ArchivedMonth) -> bool:
        return bool(archived.path)


class Archive(generics.ListAPIView[ArchivedMonth]):
    """UTC months whose single calls left the database, newest first. Their sums by the hour did not."""

    access = {"GET": Permission.VIEW_COSTS}
    serializer_class = ArchivedMonthOutput
    ordering = ("-month",)

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return archive_selectors.months()


class Retention(APIView):
    """How long single calls stay in the database."""

    access = {"GET": Permission.VIEW_COSTS, "PUT": Permission.MANAGE_COSTS}

    @extend_schema(responses={200: RetentionOutput, 403: ErrorSerializer})
    def get(self, request: ApiRequest) -> Response:
        return Response(RetentionOutput(archive_selectors.retention()).data)

    @extend_schema(request=RetentionInput, responses={200: RetentionOutput, 400: ErrorSerializer, 403: ErrorSerializer})
    def put(self, request: ApiRequest) -> Response:
        """Months that are older leave within an hour, and do not come back."""
        return Response(RetentionOutput(archives.set_retention(actor=request.user, **body_of(request, RetentionInput))).data)


class ArchiveFile(APIView):
    """The Parquet file of a month: one row for each call, in the columns of the event table. Each download is audited."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(
        responses={
            (200, "application/vnd.apache.parquet"): OpenApiTypes.BINARY,
            403: ErrorSerializer,
            404: ErrorSerializer,
            503: ErrorSerializer,
        }
    )
    def get(self, request: ApiRequest, month: date) -> StreamingHttpResponse:
        found = archive_selectors.months().filter(month=month).exclude(path="").first()
        if found is None:
            raise NotFound
        chunks = archives.download(archived=found, actor=request.user)
        return download(request._request, name=found.file_name, content_type="application/vnd.apache.parquet", chunks=chunks)
