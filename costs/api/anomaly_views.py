"""Anomalies for programs: the same acts as on the pages."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import anomaly_selectors
from costs.api import anomaly_serializers as serializers
from costs.models import Anomaly
from costs.periods import midnight
from costs.services import anomalies
from governance.access import Permission
from governance.api.inputs import body_of, query_of
from governance.api.serializers import ErrorSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer}


def _anomaly(pk: int) -> Anomaly:
    found = anomaly_selectors.anomaly(pk)
    if found is None:
        raise NotFound
    return found


def _answer(pk: int, status: int = 200) -> Response:
    return Response(serializers.AnomalyOutput(_anomaly(pk)).data, status=status)


@extend_schema_view(
    get=extend_schema(
        parameters=[serializers.AnomalyQuery],
        responses={200: serializers.AnomalyOutput(many=True), 400: ErrorSerializer, 403: ErrorSerializer},
    )
)
class Anomalies(generics.ListAPIView[Anomaly]):
    """Anomalies of spend, newest first."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = serializers.AnomalyOutput
    ordering = ("-first_at", "-pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        if getattr(self, "swagger_fake_view", False):
            return Anomaly.objects.none()
        asked = query_of(self.request, serializers.AnomalyQuery)
        found = anomaly_selectors.anomalies(asked)
        if "since" in asked:
            found = found.filter(first_at__gte=midnight(asked["since"]))
        if "until" in asked:
            found = found.filter(first_at__lt=midnight(asked["until"] + timedelta(days=1)))
        return found

    @extend_schema(request=serializers.MissedInput, responses={201: serializers.AnomalyOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """Report one that the tests did not find: it counts against the detection rate."""
        return _answer(anomalies.report_missed(actor=request.user, **body_of(request, serializers.MissedInput)).pk, 201)


class AnomalyDetail(APIView):
    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: serializers.AnomalyOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return _answer(pk)


class _Act(APIView):
    """A POST that changes one anomaly."""

    access = {"POST": Permission.MANAGE_COSTS}


class AnomalyFeedback(APIView):
    access = {"POST": Permission.MANAGE_COSTS, "DELETE": Permission.MANAGE_COSTS}

    @extend_schema(request=serializers.FeedbackInput, responses={200: serializers.AnomalyOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Say whether it is real, planned or a false alert. The last word counts."""
        found = _anomaly(pk)
        anomalies.give_feedback(anomaly=found, actor=request.user, **body_of(request, serializers.FeedbackInput))
        return _answer(pk)

    @extend_schema(request=None, responses={200: serializers.AnomalyOutput, **_ERRORS})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        """Take it back: nobody has judged it, and it is open again."""
        anomalies.withdraw_feedback(anomaly=_anomaly(pk), actor=request.user)
        return _answer(pk)


class AnomalyAcknowledge(_Act):
    @extend_schema(request=None, responses={200: serializers.AnomalyOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Somebody looks after it."""
        anomalies.acknowledge(anomaly=_anomaly(pk), actor=request.user)
        return _answer(pk)


class AnomalyClose(_Act):
    @extend_schema(request=None, responses={200: serializers.AnomalyOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Done with it."""
        anomalies.close(anomaly=_anomaly(pk), actor=request.user)
        return _answer(pk)


class AnomalySettings(APIView):
    """How much the organisation wants to be told."""

    access = {"GET": Permission.VIEW_COSTS, "PATCH": Permission.MANAGE_COSTS}

    @extend_schema(responses={200: serializers.AnomalySettingsOutput})
    def get(self, request: ApiRequest) -> Response:
        return Response(serializers.AnomalySettingsOutput(anomaly_selectors.settings()).data)

    @extend_schema(request=serializers.AnomalySettingsInput, responses={200: serializers.AnomalySettingsOutput, **_ERRORS})
    def patch(self, request: ApiRequest) -> Response:
        """What is left out stays. It holds from the next test on."""
        changed = anomalies.change_settings(actor=request.user, **body_of(request, serializers.AnomalySettingsInput, partial=True))
        return Response(serializers.AnomalySettingsOutput(changed).data)
