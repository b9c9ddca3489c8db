"""Endpoints of evaluations by harnesses: the same services and selectors as the pages."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors as catalog_selectors
from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer
from governance.requests import ApiRequest
from rollouts import evaluation_selectors as selectors
from rollouts.api import evaluation_serializers as serializers
from rollouts.models import EvaluationRun, EvaluationThreshold, EvaluationThresholdChange, EvaluationWaiver
from rollouts.services import evaluation_runs as services


def the_run(pk: int) -> EvaluationRun:
    return or_404(selectors.find_run(pk))


def the_threshold(pk: int) -> EvaluationThreshold:
    return or_404(selectors.thresholds().filter(pk=pk).first())


class EvaluationRuns(generics.ListAPIView[EvaluationRun]):
    """What harnesses found, newest first, by `q`, `model`, `dataset` and `metric`; POST tells one run."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.EvaluationRunOutput
    ordering = ("-at", "-pk")

    def get_queryset(self) -> QuerySet[EvaluationRun]:
        asked = self.request.query_params
        return selectors.runs(
            query=asked.get("q", ""), model=asked.get("model", ""), dataset=asked.get("dataset", ""), metric=asked.get("metric", "")
        )

    @extend_schema(
        request=serializers.EvaluationRunInput,
        responses={200: serializers.EvaluationRunOutput, 201: serializers.EvaluationRunOutput, **ERRORS},
    )
    def post(self, request: ApiRequest) -> Response:
        """201 for a new run; 200 when it was told before, with the same content."""
        data = body_of(request, serializers.EvaluationRunInput)
        scores = [services.ScoreInput(**one) for one in data.pop("scores")]
        run, is_new = services.record_run(scores=scores, actor=request.user, **data)
        return Response(serializers.EvaluationRunOutput(the_run(run.pk)).data, status=201 if is_new else 200)


class EvaluationRunDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.EvaluationRunOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(serializers.EvaluationRunOutput(the_run(pk)).data)


class EvaluationRunCompare(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(
        parameters=[OpenApiParameter("to", OpenApiTypes.INT, required=True, description="The run that it is compared with.")],
        responses={200: serializers.EvaluationDifferenceOutput(many=True), 404: ErrorSerializer},
    )
    def get(self, request: ApiRequest, pk: int) -> Response:
        """By metric that both have: this run against the one in `to`, with a 95% interval."""
        other = request.query_params.get("to", "")
        if not other.isdecimal() or len(other) > 18:
            raise NotFound
        found = selectors.compare(the_run(int(other)), the_run(pk))
        return Response([serializers.EvaluationDifferenceOutput(each).data for each in found])


class EvaluationStandings(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(
        parameters=[
            OpenApiParameter("model", OpenApiTypes.STR, required=True, description="Address of the model."),
            OpenApiParameter("deployment", OpenApiTypes.STR, description="Of the model, as provider/upstream model."),
            OpenApiParameter("prompt_version", OpenApiTypes.STR, description="Such as greeting@3."),
        ],
        responses={200: serializers.EvaluationStandingOutput(many=True), 404: ErrorSerializer},
    )
    def get(self, request: ApiRequest) -> Response:
        """How a model, a deployment of it or a prompt version for it stands with the thresholds of the model's class."""
        asked = request.query_params
        model = or_404(catalog_selectors.all_models().filter(slug=asked.get("model", "")).first())
        found = selectors.standings(
            model.slug, model.feature_class, at=timezone.now(), deployment=asked.get("deployment", ""),
            prompt_version=asked.get("prompt_version", ""),
        )  # fmt: skip
        return Response([serializers.EvaluationStandingOutput(each).data for each in found])


class EvaluationThresholds(APIView):
    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(responses={200: serializers.EvaluationThresholdOutput(many=True)})
    def get(self, request: ApiRequest) -> Response:
        """What models of each feature class must have scored before they are approved. At most one per class and metric."""
        return Response(serializers.EvaluationThresholdOutput(selectors.thresholds(), many=True).data)

    @extend_schema(request=serializers.EvaluationThresholdInput, responses={200: serializers.EvaluationThresholdOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """Sets the threshold, or replaces the one on the same metric. One on safety that would ask for less stays, and the change waits."""
        threshold = services.set_threshold(actor=request.user, **body_of(request, serializers.EvaluationThresholdInput))
        return Response(serializers.EvaluationThresholdOutput(the_threshold(threshold.pk)).data)


class EvaluationThresholdDetail(APIView):
    access = {"DELETE": Permission.MANAGE_ROLLOUTS}

    @extend_schema(
        request=serializers.EvaluationThresholdRemoveInput,
        responses={202: serializers.EvaluationThresholdChangeOutput, 204: None, **ERRORS},
    )
    def delete(self, request: ApiRequest, pk: int) -> Response:
        """204 when it is gone; 202 for one on safety, whose removal waits for a second person."""
        waits = services.remove_threshold(
            threshold=the_threshold(pk), actor=request.user, **body_of(request, serializers.EvaluationThresholdRemoveInput)
        )
        return Response(status=204) if waits is None else Response(serializers.EvaluationThresholdChangeOutput(waits).data, status=202)


class EvaluationThresholdChangeDecide(APIView):
    access = {"POST": Permission.VIEW}

    @extend_schema(request=serializers.EvaluationWaiverDecideInput, responses={200: serializers.EvaluationThresholdChangeOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Agree to less safety or decline, with a role that signs gates; whoever asked may take it back."""
        body = body_of(request, serializers.EvaluationWaiverDecideInput)
        change = or_404(EvaluationThresholdChange.objects.filter(pk=pk).first())
        decided = services.decide_threshold_change(change=change, person=request.membership, **body)
        return Response(serializers.EvaluationThresholdChangeOutput(decided).data)


class EvaluationWaivers(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.EvaluationWaiverInput, responses={201: serializers.EvaluationWaiverOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Ask that a model may pass over the threshold for a while. Counts once somebody else agrees."""
        waiver = services.request_waiver(
            threshold=the_threshold(pk), actor=request.user, **body_of(request, serializers.EvaluationWaiverInput)
        )
        return Response(serializers.EvaluationWaiverOutput(waiver).data, status=201)


class EvaluationWaiverDecide(APIView):
    access = {"POST": Permission.VIEW}

    @extend_schema(request=serializers.EvaluationWaiverDecideInput, responses={200: serializers.EvaluationWaiverOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Agree or decline, with a role that signs gates; whoever asked may take it back."""
        body = body_of(request, serializers.EvaluationWaiverDecideInput)
        waiver = or_404(EvaluationWaiver.objects.filter(pk=pk).first())
        decided = services.decide_waiver(waiver=waiver, person=request.membership, **body)
        return Response(serializers.EvaluationWaiverOutput(decided).data)
