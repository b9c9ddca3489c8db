"""Endpoints of war rooms and recalibrations, for the operator."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import or_404
from governance.api.inputs import body_of
from governance.api.permissions import OPERATOR
from governance.api.serializers import ERRORS, StrictSerializer
from governance.requests import ApiRequest
from rollouts import cohort_selectors as selectors
from rollouts.models import Escalation, EscalationNote
from rollouts.services import escalations


class EscalationOutput(serializers.ModelSerializer[Escalation]):
    tenant = serializers.CharField(source="tenant.slug", default=None)
    closed_by = serializers.EmailField(source="closed_by.email", default=None)

    class Meta:
        model = Escalation
        fields = ["id", "kind", "tenant", "title", "reason", "evidence", "opened_at", "due_at", "closed_at", "closed_by", "resolution"]


class EscalationNoteOutput(serializers.ModelSerializer[EscalationNote]):
    by = serializers.EmailField(source="by.email")

    class Meta:
        model = EscalationNote
        fields = ["at", "by", "text"]


class EscalationDetailOutput(EscalationOutput):
    notes = EscalationNoteOutput(many=True)

    class Meta(EscalationOutput.Meta):
        fields = [*EscalationOutput.Meta.fields, "notes"]


class EscalationNoteInput(StrictSerializer):
    text = serializers.CharField(max_length=1000)


class EscalationCloseInput(StrictSerializer):
    resolution = serializers.CharField(max_length=1000)


def the_escalation(pk: int) -> Escalation:
    return or_404(selectors.find_escalation(pk))


class PlatformEscalations(generics.ListAPIView[Escalation]):
    """Newest first, by `tab` (open, closed)."""

    access = {"GET": OPERATOR}
    serializer_class = EscalationOutput
    ordering = ("-opened_at", "-pk")

    def get_queryset(self) -> QuerySet[Escalation]:
        tab = self.request.query_params.get("tab", "")
        return selectors.escalations(tab=tab if tab in ("open", "closed") else "")


class PlatformEscalationDetail(APIView):
    access: dict[str, Any] = {"GET": OPERATOR}

    @extend_schema(responses={200: EscalationDetailOutput, **ERRORS})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(EscalationDetailOutput(the_escalation(pk)).data)


class PlatformEscalationNote(APIView):
    access: dict[str, Any] = {"POST": OPERATOR}

    @extend_schema(request=EscalationNoteInput, responses={201: EscalationDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Add a line to the record."""
        escalations.add_note(escalation=the_escalation(pk), actor=request.user, **body_of(request, EscalationNoteInput))
        return Response(EscalationDetailOutput(the_escalation(pk)).data, status=201)


class PlatformEscalationClose(APIView):
    access: dict[str, Any] = {"POST": OPERATOR}

    @extend_schema(request=EscalationCloseInput, responses={200: EscalationDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Close it with what was wrong and done; activations go on once no war room is open."""
        escalations.close(escalation=the_escalation(pk), actor=request.user, **body_of(request, EscalationCloseInput))
        return Response(EscalationDetailOutput(the_escalation(pk)).data)
