"""Rehearsals over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import drill_selectors as selectors
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, StrictSerializer
from governance.models import Drill
from governance.requests import ApiRequest
from governance.services import drills


class DrillInput(StrictSerializer):
    kind = serializers.ChoiceField(choices=Drill.Kind.choices)
    reference = serializers.CharField(
        max_length=140, help_text="As `GET /api/v1/drills/subjects/` lists it: a pillar, a project, rollout/phase."
    )


class DrillOutput(serializers.ModelSerializer[Drill]):
    actor = serializers.EmailField(source="actor.email")
    away_s = serializers.FloatField(
        source="away.seconds", allow_null=True, read_only=True, help_text="Until every process of the gateway had it."
    )
    back_s = serializers.FloatField(source="back.seconds", default=None, allow_null=True, read_only=True)
    processes = serializers.IntegerField(source="away.planes", allow_null=True, read_only=True)

    class Meta:
        model = Drill
        fields = [
            "id",
            "kind",
            "reference",
            "title",
            "rto_s",
            "actor",
            "started_at",
            "ended_at",
            "away_s",
            "back_s",
            "processes",
            "verdict",
        ]


class DrillSubjectOutput(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(source="subject.kind", choices=Drill.Kind.choices)
    reference = serializers.CharField(source="subject.reference")
    title = serializers.CharField(source="subject.title")
    rto_s = serializers.IntegerField(source="subject.rto_s")
    due_at = serializers.DateTimeField()
    is_overdue = serializers.BooleanField()
    last = DrillOutput(allow_null=True)


class Drills(generics.ListAPIView[Drill]):
    """Drills of pillars, projects and phases, newest first. POST runs one, which refuses no call."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_CONSENT}
    serializer_class = DrillOutput
    ordering = ("-started_at", "-pk")

    def get_queryset(self) -> QuerySet[Drill]:
        if getattr(self, "swagger_fake_view", False):
            return Drill.objects.none()
        return selectors.drills_of(self.request.tenant)  # type: ignore[attr-defined]  # set by our middleware

    @extend_schema(request=DrillInput, responses={201: DrillOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return Response(
            DrillOutput(drills.start(tenant=request.tenant, actor=request.user, **body_of(request, DrillInput))).data, status=201
        )


class DrillSubjects(APIView):
    """What can be rehearsed, by when it is due."""

    access: dict[str, Any] = {"GET": Permission.VIEW_OPERATE}

    @extend_schema(responses=DrillSubjectOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return Response(DrillSubjectOutput(selectors.subject_rows(request.tenant, at=timezone.now()), many=True).data)
