"""Endpoints of shadows: the same services and selectors as the pages."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest
from rollouts import shadow_selectors
from rollouts.models import Shadow, ShadowPair
from rollouts.models.rollout import slug_validator
from rollouts.services import shadows


class ShadowInput(StrictSerializer):
    slug = serializers.CharField(max_length=60, validators=[slug_validator])
    name = serializers.CharField(max_length=160)
    source = serializers.CharField(max_length=80, help_text="Model whose calls are repeated.")  # type: ignore[assignment]  # a field of this name
    candidate = serializers.CharField(max_length=80, help_text="Model that they are repeated to.")
    project = serializers.CharField(max_length=48, help_text="That pays.")
    share_percent = serializers.FloatField(help_text="Of the calls.")
    cap_usd = serializers.DecimalField(max_digits=14, decimal_places=2, help_text="A day, for candidate and judge together.")
    judge = serializers.CharField(max_length=80, required=False, default="", allow_blank=True)
    latency_tolerance = serializers.FloatField(required=False, default=20.0)
    cost_tolerance = serializers.FloatField(required=False, default=0.0)
    length_tolerance = serializers.FloatField(required=False, default=30.0)


class ShadowReasonInput(StrictSerializer):
    reason = serializers.CharField(max_length=400)


class ShadowOutput(serializers.ModelSerializer[Shadow]):
    proposer = serializers.EmailField(source="proposer.email")
    starter = serializers.EmailField(source="starter.email", default=None)

    class Meta:
        model = Shadow
        fields = [
            "slug", "name", "source", "candidate", "judge", "project", "share_percent", "cap_usd", "latency_tolerance", "cost_tolerance",
            "length_tolerance", "status", "reason", "judge_note", "proposer", "starter", "created_at", "started_at", "ended_at",
        ]  # fmt: skip


class ShadowCheckOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.CharField(help_text="pass, fail or unknown.")
    sentence = serializers.CharField()


class ShadowVerdictOutput(serializers.Serializer[Any]):
    advice = serializers.CharField(help_text="promote, wait or keep.")
    sentence = serializers.CharField()
    checks = ShadowCheckOutput(many=True)


class ShadowDetailOutput(serializers.Serializer[Any]):
    shadow = ShadowOutput()
    pairs = serializers.IntegerField()
    verdict = ShadowVerdictOutput()


class ShadowPairOutput(serializers.ModelSerializer[ShadowPair]):
    class Meta:
        model = ShadowPair
        fields = ["id", "call", "answer", "at", "is_ok", "call_ms", "answer_ms", "call_tokens", "answer_tokens", "verdict", "judged_at"]


def the_shadow(slug: str) -> Shadow:
    return or_404(shadow_selectors.find_shadow(slug))


def shadow_answer(slug: str, *, status: int = 200) -> Response:
    """The shadow as it is after whatever was done."""
    shadow = the_shadow(slug)
    figures = shadow_selectors.figures_of(shadow)
    body = {"shadow": shadow, "pairs": figures["pairs"], "verdict": shadow_selectors.verdict_of(shadow, figures)}
    return Response(ShadowDetailOutput(body).data, status=status)


class Shadows(generics.ListAPIView[Shadow]):
    """Shadows, newest first, by `tab` (open, closed) and `q`; POST proposes one, which somebody else starts."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = ShadowOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self) -> QuerySet[Shadow]:
        asked = self.request.query_params
        return shadow_selectors.shadows(tab=asked.get("tab", ""), query=asked.get("q", ""))

    @extend_schema(request=ShadowInput, responses={201: ShadowDetailOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return shadow_answer(shadows.propose_shadow(actor=request.user, **body_of(request, ShadowInput)).slug, status=201)


class ShadowDetail(APIView):
    """The terms, and what would promote the candidate."""

    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: ShadowDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return shadow_answer(slug)


class ShadowPairs(generics.ListAPIView[ShadowPair]):
    """Newest first, by `verdict` (`waiting`: not judged). What was said is not here."""

    access = {"GET": Permission.VIEW}
    serializer_class = ShadowPairOutput
    ordering = ("-at", "-pk")

    def get_queryset(self) -> QuerySet[ShadowPair]:
        if getattr(self, "swagger_fake_view", False):
            return ShadowPair.objects.none()
        return shadow_selectors.pairs_of(the_shadow(self.kwargs["slug"]), verdict=self.request.query_params.get("verdict", ""))


class ShadowStart(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: ShadowDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Repeat calls from now on. Nobody starts their own."""
        return shadow_answer(shadows.start_shadow(shadow=the_shadow(slug), actor=request.user).slug)


class ShadowResume(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: ShadowDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Go on under the same terms."""
        return shadow_answer(shadows.resume_shadow(shadow=the_shadow(slug), actor=request.user).slug)


class ShadowPause(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=ShadowReasonInput, responses={200: ShadowDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Repeat nothing until it is resumed."""
        return shadow_answer(shadows.pause_shadow(shadow=the_shadow(slug), actor=request.user, **body_of(request, ShadowReasonInput)).slug)


class ShadowEnd(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=ShadowReasonInput, responses={200: ShadowDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Repeat nothing any more; the pairs stay."""
        return shadow_answer(shadows.end_shadow(shadow=the_shadow(slug), actor=request.user, **body_of(request, ShadowReasonInput)).slug)
