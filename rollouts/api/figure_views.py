"""Endpoint of figures that other systems report."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.response import Response

from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, StrictSerializer
from governance.requests import ApiRequest
from rollouts import figure_selectors
from rollouts.models import ReportedFigure
from rollouts.reported_figures import FIGURES
from rollouts.services import reported_figures as services


class ReportedFigureInput(StrictSerializer):
    key = serializers.CharField(max_length=40, help_text=f"One of: {', '.join(FIGURES)}.")
    reference = serializers.CharField(
        max_length=120, help_text="Yours, one per report: reported again with the same figures, nothing happens."
    )
    value = serializers.FloatField()
    sample = serializers.IntegerField(required=False, default=1, help_text="Observations behind it.")
    low = serializers.FloatField(required=False, help_text="95% interval, where it is an estimate.")
    high = serializers.FloatField(required=False)
    url = serializers.URLField(max_length=500, required=False)
    at = serializers.DateTimeField(required=False, help_text="As of when it holds; now by default.")


class ReportedFigureOutput(serializers.ModelSerializer[ReportedFigure]):
    by = serializers.EmailField(source="by.email")
    unit = serializers.CharField()

    class Meta:
        model = ReportedFigure
        fields = ["key", "reference", "value", "unit", "sample", "low", "high", "url", "at", "received_at", "by"]


class ReportedFigures(generics.ListAPIView[ReportedFigure]):
    """What other systems reported, newest first, by `key`; POST reports one figure."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = ReportedFigureOutput
    ordering = ("-at", "-pk")

    def get_queryset(self) -> QuerySet[ReportedFigure]:
        return figure_selectors.figures(key=self.request.query_params.get("key", ""))

    @extend_schema(request=ReportedFigureInput, responses={200: ReportedFigureOutput, 201: ReportedFigureOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """201 for a new report; 200 when it was made before, with the same figures."""
        figure, is_new = services.report_figure(actor=request.user, **body_of(request, ReportedFigureInput))
        return Response(ReportedFigureOutput(figure).data, status=201 if is_new else 200)
