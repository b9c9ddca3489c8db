"""Endpoints of a cohort's programme, and of the question that people are asked."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from django_tenants.utils import get_public_schema_name, schema_context
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.permissions import OPERATOR
from governance.api.serializers import ERRORS
from governance.requests import ApiRequest
from rollouts import programme_selectors as selectors
from rollouts.api import cohort_serializers as serializers
from rollouts.api.cohort_views import the_cohort
from rollouts.models import SurveyAnswer
from rollouts.services import cohort_programme, surveys


class PlatformProgramme(APIView):
    """Funnel, retention, time to the first governed call, surveys, drills. POST runs a rollback drill, which takes nothing away."""

    access: dict[str, Any] = {"GET": OPERATOR, "POST": OPERATOR}

    @extend_schema(responses={200: serializers.ProgrammeOutput, **ERRORS})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(serializers.ProgrammeOutput(selectors.programme_of(the_cohort(slug), at=timezone.now())).data)

    @extend_schema(request=None, responses={201: serializers.ProgrammeDrillOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        cohort = the_cohort(slug)
        cohort_programme.run_drill(cohort=cohort, actor=request.user)
        return Response(serializers.ProgrammeDrillOutput(selectors.drills_of(cohort)[0]).data, status=201)


class PlatformProgrammeComments(generics.ListAPIView[SurveyAnswer]):
    """What people wrote, newest first, without their names."""

    access = {"GET": OPERATOR}
    serializer_class = serializers.ProgrammeCommentOutput
    ordering = ("-on", "-pk")
    queryset = SurveyAnswer.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[SurveyAnswer]:
        return selectors.comments_of(the_cohort(self.kwargs["slug"]))


class Survey(APIView):
    """The question that is due to the token's person. POST answers it, DELETE puts it away, PUT says whether anybody may be asked."""

    access: dict[str, Any] = {
        "GET": Permission.VIEW,
        "POST": Permission.VIEW,
        "DELETE": Permission.VIEW,
        "PUT": Permission.MANAGE_ROLLOUTS,
    }

    @extend_schema(responses={200: serializers.SurveyOutput})
    def get(self, request: ApiRequest) -> Response:
        return self._answer(request)

    @extend_schema(request=serializers.SurveyAnswerInput, responses={201: serializers.SurveyOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.SurveyAnswerInput)
        with schema_context(get_public_schema_name()):
            surveys.answer(tenant=request.tenant, person=request.user, **data)
        return self._answer(request, status=201)

    @extend_schema(responses={200: serializers.SurveyOutput, **ERRORS})
    def delete(self, request: ApiRequest) -> Response:
        with schema_context(get_public_schema_name()):
            surveys.dismiss(tenant=request.tenant, person=request.user)
        return self._answer(request)

    @extend_schema(request=serializers.SurveySettingsInput, responses={200: serializers.SurveyOutput, **ERRORS})
    def put(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.SurveySettingsInput)
        with schema_context(get_public_schema_name()):
            surveys.set_surveys(tenant=request.tenant, wanted=data["is_allowed"], actor=request.user)
        return self._answer(request)

    def _answer(self, request: ApiRequest, *, status: int = 200) -> Response:
        question = selectors.question_for(request.tenant, request.user, at=timezone.now())
        found = {"question": question, "is_allowed": selectors.has_surveys(request.tenant)}
        return Response(serializers.SurveyOutput(found).data, status=status)
