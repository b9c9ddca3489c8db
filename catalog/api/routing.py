"""A model's routing over REST."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import routing_selectors, selectors
from catalog.api.endpoints import BAD, one
from catalog.api.serializers.deployments import DeploymentOutput
from catalog.models import Deployment, Model
from catalog.services import routing as services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import StrictSerializer
from governance.requests import ApiRequest


class RoutingObjectivesShape(StrictSerializer):
    cost = serializers.IntegerField(min_value=0, max_value=100)
    latency = serializers.IntegerField(min_value=0, max_value=100)
    quality = serializers.IntegerField(min_value=0, max_value=100)
    explore_percent = serializers.IntegerField(
        min_value=0, max_value=100, default=5, help_text="Of the calls that go where they would not have gone."
    )


class RoutedDayOutput(serializers.Serializer[Any]):
    day = serializers.DateField()
    calls = serializers.IntegerField(help_text="In which there was a choice.")
    explored = serializers.IntegerField()
    judged = serializers.IntegerField(help_text="Calls whose regret is known: they were answered.")
    regret_percent = serializers.FloatField(allow_null=True, help_text="Mean of the judged calls, percent of the whole utility.")


class CandidateOutput(serializers.Serializer[Any]):
    deployment = serializers.IntegerField(source="deployment.pk")
    quality = serializers.DecimalField(source="deployment.quality", max_digits=5, decimal_places=2, allow_null=True)
    cost_usd = serializers.DecimalField(max_digits=24, decimal_places=12, allow_null=True, help_text="Of an average call.")
    latency_ms = serializers.FloatField(allow_null=True, help_text="Median.")
    calls = serializers.IntegerField()
    share = serializers.FloatField(help_text="Percent of the calls.")
    would_share = serializers.FloatField(help_text="Percent that these objectives would have led here.")


class PreviewOutput(serializers.Serializer[Any]):
    """The answered calls of the last 24 hours, and what the objectives would have made of them."""

    calls = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=24, decimal_places=12, allow_null=True)
    would_cost_usd = serializers.DecimalField(max_digits=24, decimal_places=12, allow_null=True)
    latency_ms = serializers.FloatField(allow_null=True)
    would_latency_ms = serializers.FloatField(allow_null=True)
    unknown = serializers.ListField(child=serializers.CharField(), help_text="What is not known; it counts half the best.")
    candidates = CandidateOutput(many=True)


class RoutingOutput(serializers.Serializer[Any]):
    """Null objectives: calls are shared by weight at random."""

    objectives = RoutingObjectivesShape(allow_null=True)
    changed_at = serializers.DateTimeField(allow_null=True, help_text="Since when these are the objectives.")
    preview = PreviewOutput(allow_null=True)
    days = RoutedDayOutput(many=True)


class QualityInput(StrictSerializer):
    score = serializers.DecimalField(max_digits=5, decimal_places=2, min_value=Decimal(0), max_value=Decimal(100), allow_null=True)
    basis = serializers.CharField(
        max_length=services.LONGEST_BASIS, default="", allow_blank=True, help_text="What it rests on, for example a data set and its date."
    )
    source = serializers.ChoiceField(  # type: ignore[assignment]  # a field of this name, not the serializer's own source
        choices=Deployment.QualitySource.choices, default=Deployment.QualitySource.PEOPLE
    )


class ModelRouting(APIView):
    """By which objectives a model's deployments are chosen, what that made of the last 24 hours, and the regret by day."""

    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_CATALOG, "DELETE": Permission.MANAGE_CATALOG}

    @extend_schema(responses={200: RoutingOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(_body(one(selectors.models_visible_to(request.membership), slug=slug)))

    @extend_schema(request=RoutingObjectivesShape, responses={200: RoutingOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        given = body_of(request, RoutingObjectivesShape)
        services.set_objectives(model=one(selectors.all_models(), slug=slug), actor=request.user, **given)
        return Response(_body(one(selectors.all_models(), slug=slug)))

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, slug: str) -> Response:
        services.clear_objectives(model=one(selectors.all_models(), slug=slug), actor=request.user)
        return Response(status=204)


class DeploymentQuality(APIView):
    """Register how good a deployment's answers are; a null score takes it away."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=QualityInput, responses={200: DeploymentOutput, **BAD})
    def put(self, request: ApiRequest, slug: str, pk: int) -> Response:
        deployment = one(Deployment.objects.select_related("model", "provider"), model__slug=slug, pk=pk)
        changed = services.set_quality(deployment=deployment, actor=request.user, **body_of(request, QualityInput))
        return Response(DeploymentOutput(changed).data)


def _body(model: Model) -> dict[str, Any]:
    objectives = routing_selectors.objectives_of(model)
    return dict(
        RoutingOutput(
            {
                "objectives": services.weights_of(model.objectives) if objectives else None,
                "changed_at": model.objectives.changed_at if objectives else None,
                "preview": routing_selectors.preview(model, objectives) if objectives else None,
                "days": routing_selectors.routing(model).days,
            }
        ).data
    )
