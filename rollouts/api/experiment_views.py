"""Endpoints of experiments: the same services and selectors as the pages."""

from __future__ import annotations

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer
from governance.requests import ApiRequest
from rollouts import experiment_selectors, flag_selectors
from rollouts.api import experiment_serializers as serializers
from rollouts.errors import ExperimentInvalidError
from rollouts.models import Experiment, ExperimentReading, Flag
from rollouts.services import experiments


def the_experiment(slug: str) -> Experiment:
    return or_404(experiment_selectors.find_experiment(slug))


def _the_flag(key: str) -> Flag:
    flag = flag_selectors.find_flag(key)
    if flag is None:
        raise ExperimentInvalidError(f"There is no flag {key}.", field="flag")
    return flag


def experiment_answer(slug: str, *, status: int = 200) -> Response:
    """The experiment as it is after whatever was done."""
    return Response(serializers.ExperimentOutput(the_experiment(slug)).data, status=status)


class Experiments(generics.ListAPIView[Experiment]):
    """Experiments, newest first, by `tab` (open, draft, decided) and `q`; POST fixes the terms of one as a draft."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.ExperimentOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self) -> QuerySet[Experiment]:
        asked = self.request.query_params
        found = experiment_selectors.experiments(tab=asked.get("tab", ""), query=asked.get("q", ""))
        return found.select_related("latest__requested_by")

    @extend_schema(request=serializers.ExperimentInput, responses={201: serializers.ExperimentOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.ExperimentInput)
        flag = _the_flag(data.pop("flag"))
        return experiment_answer(experiments.create_experiment(flag=flag, actor=request.user, **data).slug, status=201)


class ExperimentPlan(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.ExperimentPlanInput, responses={200: serializers.ExperimentPlanOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        """How many units per arm it takes, and how long that is at the flag's present volume."""
        data = body_of(request, serializers.ExperimentPlanInput)
        needed = experiment_selectors.plan_for(_the_flag(data.pop("flag")), at=timezone.now(), **data)
        return Response(serializers.ExperimentPlanOutput(needed).data)


class ExperimentDetail(APIView):
    access = {"GET": Permission.VIEW, "DELETE": Permission.MANAGE_ROLLOUTS}

    @extend_schema(responses={200: serializers.ExperimentOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return experiment_answer(slug)

    @extend_schema(request=None, responses={204: None, **ERRORS})
    def delete(self, request: ApiRequest, slug: str) -> Response:
        """Discard a draft."""
        experiments.discard_experiment(experiment=the_experiment(slug), actor=request.user)
        return Response(status=204)


class ExperimentStart(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: serializers.ExperimentOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Count calls from now on, by the split that the flag has now."""
        return experiment_answer(experiments.start_experiment(experiment=the_experiment(slug), actor=request.user).slug)


class ExperimentStop(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.ExperimentStopInput, responses={200: serializers.ExperimentOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Count no further calls; the decision is still to be made."""
        stopped = experiments.stop_experiment(
            experiment=the_experiment(slug), actor=request.user, **body_of(request, serializers.ExperimentStopInput)
        )
        return experiment_answer(stopped.slug)


class ExperimentDecide(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.ExperimentDecideInput, responses={200: serializers.ExperimentOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Promote (proposes the flag's change), hold, or roll back."""
        return experiment_answer(
            experiments.decide(
                experiment=the_experiment(slug), actor=request.user, **body_of(request, serializers.ExperimentDecideInput)
            ).slug
        )


class ExperimentReadings(generics.ListAPIView[ExperimentReading]):
    """Readings, newest first, with evidence and hashes; POST takes one now."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.ExperimentReadingOutput
    ordering = ("-sequence",)
    queryset = ExperimentReading.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[ExperimentReading]:
        return experiment_selectors.readings_of(the_experiment(self.kwargs["slug"]))

    @extend_schema(request=None, responses={201: serializers.ExperimentReadingOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        reading = experiments.read_experiment(experiment=the_experiment(slug), actor=request.user)
        return Response(serializers.ExperimentReadingOutput(reading).data, status=201)
