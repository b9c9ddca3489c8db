"""Guardrails over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import control_selectors as selectors
from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer, StrictSerializer
from governance.models import Guardrail
from governance.models.policy import name_validator
from governance.requests import ApiRequest
from governance.services import guardrails


class GuardrailOutput(serializers.ModelSerializer[Guardrail]):
    class Meta:
        model = Guardrail
        fields = [
            "id", "name", "kind", "mode", "action", "scope", "ref", "on_input", "on_output", "entities", "terms", "threshold",
            "max_characters", "engine", "language", "spacy_model", "time_limit_ms", "when_unavailable", "created_at",
        ]  # fmt: skip


class GuardrailInput(StrictSerializer):
    name = serializers.CharField(max_length=60, validators=[name_validator])
    kind = serializers.ChoiceField(choices=Guardrail.Kind.choices)
    mode = serializers.ChoiceField(choices=Guardrail.Mode.choices, default=Guardrail.Mode.MONITOR)
    action = serializers.ChoiceField(choices=Guardrail.Action.choices, default=Guardrail.Action.BLOCK)
    scope = serializers.ChoiceField(choices=Guardrail.Scope.choices, default=Guardrail.Scope.TENANT)
    ref = serializers.CharField(max_length=128, default="", allow_blank=True)
    on_input = serializers.BooleanField(default=True)
    on_output = serializers.BooleanField(default=False)
    entities = serializers.ListField(child=serializers.CharField(max_length=24), default=list, max_length=40)
    terms = serializers.ListField(child=serializers.CharField(max_length=80), default=list, max_length=guardrails.MOST_TERMS)
    threshold = serializers.FloatField(default=0.5)
    max_characters = serializers.IntegerField(min_value=0, max_value=100_000_000, default=0)
    engine = serializers.ChoiceField(
        choices=Guardrail.Engine.choices, default=Guardrail.Engine.PATTERNS, help_text="Of personal data. `presidio` needs the extra."
    )
    language = serializers.RegexField(r"^[a-z]{2,3}$", default="en", help_text="Of the texts, for Presidio.")
    spacy_model = serializers.RegexField(
        r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        max_length=64,
        default="",
        allow_blank=True,
        help_text="An installed one, for names of people and places.",
    )
    time_limit_ms = serializers.IntegerField(min_value=guardrails.SHORTEST_LIMIT_MS, max_value=guardrails.LONGEST_LIMIT_MS, default=1000)
    when_unavailable = serializers.ChoiceField(
        choices=Guardrail.WhenUnavailable.choices,
        default=Guardrail.WhenUnavailable.REFUSE,
        help_text="What an enforced guardrail does without an answer of Presidio in time.",
    )


class TryInput(StrictSerializer):
    text = serializers.CharField(max_length=guardrails.MOST_TRIED_CHARACTERS, trim_whitespace=False)


class TryOutput(serializers.Serializer[Any]):
    hits = serializers.DictField(child=serializers.IntegerField(), help_text="Entity to how often.")
    becomes = serializers.CharField()
    blocks = serializers.BooleanField()


@extend_schema_view(get=extend_schema(parameters=[OpenApiParameter("q", OpenApiTypes.STR)]))
class Guardrails(generics.ListAPIView[Guardrail]):
    """Checks of what is sent and answered."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_POLICIES}
    serializer_class = GuardrailOutput
    ordering = ("name",)

    def get_queryset(self) -> QuerySet[Guardrail]:
        return selectors.guardrails(self.request.query_params.get("q", ""))

    @extend_schema(request=GuardrailInput, responses={201: GuardrailOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return Response(
            GuardrailOutput(guardrails.create_guardrail(actor=request.user, **body_of(request, GuardrailInput))).data, status=201
        )


class _OneGuardrail(APIView):
    def find(self, pk: int) -> Guardrail:
        return or_404(selectors.guardrails().filter(pk=pk).first())


class GuardrailDetail(_OneGuardrail):
    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_POLICIES, "DELETE": Permission.MANAGE_POLICIES}

    @extend_schema(responses={200: GuardrailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(GuardrailOutput(self.find(pk)).data)

    @extend_schema(request=GuardrailInput, responses={200: GuardrailOutput, **ERRORS})
    def put(self, request: ApiRequest, pk: int) -> Response:
        guardrail = self.find(pk)
        changed = guardrails.change_guardrail(guardrail=guardrail, actor=request.user, **body_of(request, GuardrailInput))
        return Response(GuardrailOutput(changed).data)

    @extend_schema(responses={204: None, 404: ErrorSerializer})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        guardrails.delete_guardrail(guardrail=self.find(pk), actor=request.user)
        return Response(status=204)


class TryGuardrail(_OneGuardrail):
    """Run it over a text, as if it were enforced. The text is kept nowhere."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=TryInput, responses={200: TryOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        guardrail = self.find(pk)
        tried = guardrails.try_guardrail(guardrail=guardrail, **body_of(request, TryInput))
        return Response(TryOutput(tried).data)
