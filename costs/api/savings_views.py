"""Baselines and savings for programs."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import periods, savings_selectors
from costs.api import asked as asked_of
from costs.api.serializers import ExactField
from costs.models import Baseline
from costs.services import savings as services
from governance.access import Permission
from governance.api.inputs import body_of, query_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class BaselineInput(StrictSerializer):
    name = serializers.CharField(max_length=60)
    first = serializers.DateField(help_text="Whole UTC days, both included.")
    last = serializers.DateField()
    projected_percent = serializers.DecimalField(
        max_digits=5, decimal_places=2, min_value=0, max_value=99, help_text="By how much a call is meant to cost less."
    )


class BaselineSign(StrictSerializer):
    sha256 = serializers.CharField(max_length=64, help_text="Of the baseline that was seen.")


class BaselineFigure(serializers.Serializer[Any]):
    model = serializers.CharField()
    calls = serializers.IntegerField()
    cost_usd = serializers.CharField()


class BaselineOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    first = serializers.DateField(source="first_on")
    last = serializers.DateField(source="last_on")
    figures = BaselineFigure(many=True)
    projected_percent = serializers.DecimalField(max_digits=5, decimal_places=2)
    sha256 = serializers.CharField()
    created_by = serializers.EmailField(source="created_by.email")
    created_at = serializers.DateTimeField()
    signed_by = serializers.EmailField(source="signed_by.email", allow_null=True, default=None)
    signed_at = serializers.DateTimeField(allow_null=True)


class SavingsQuery(StrictSerializer):
    """Whole UTC days, default the present month."""

    baseline = serializers.IntegerField(required=False, help_text="Default the one that was signed last.")
    to = serializers.DateField(required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {"from": serializers.DateField(required=False), **super().get_fields()}  # `from` cannot be an attribute


class SavedByModel(serializers.Serializer[Any]):
    model = serializers.CharField()
    calls = serializers.IntegerField(source="now.calls")
    cost_usd = ExactField(source="now.cost")
    saved_usd = ExactField(source="saved", allow_null=True, help_text="Null for a model that the baseline does not have.")


class SavingsOutput(serializers.Serializer[Any]):
    """USD over the calls of the period; negative where calls became dearer. raw = adjusted + mix + new."""

    first_day = serializers.DateField()
    last_day = serializers.DateField()
    baseline = BaselineOutput()
    calls = serializers.IntegerField(source="found.now.calls")
    cost_usd = ExactField(source="found.now.cost")
    expected_usd = ExactField(source="found.expected", help_text="What the calls would have cost at the baseline's cost of a call.")
    raw_usd = ExactField(source="found.raw")
    adjusted_usd = ExactField(source="found.adjusted", help_text="At the period's own mix of models.")
    mix_usd = ExactField(source="found.mix")
    new_usd = ExactField(source="found.new", help_text="By models that the baseline does not have.")
    projected_usd = ExactField(source="found.projected")
    models = SavedByModel(source="found.models", many=True)


class Baselines(generics.ListAPIView[Baseline]):
    """Baselines, newest first. A new one freezes a period that is over; somebody else signs it."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = BaselineOutput
    ordering = ("-created_at", "-id")
    queryset = savings_selectors.baselines()

    @extend_schema(request=BaselineInput, responses={201: BaselineOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        asked = body_of(request, BaselineInput)
        period = periods.Period(asked.pop("first"), asked.pop("last"))
        return Response(BaselineOutput(services.freeze_baseline(period=period, actor=request.user, **asked)).data, status=201)


class BaselineSigning(APIView):
    """Put a baseline in force; not by who froze it."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=BaselineSign, responses={200: BaselineOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        found = savings_selectors.baseline(pk)
        if found is None:
            raise NotFound
        return Response(BaselineOutput(services.sign_baseline(baseline=found, actor=request.user, **body_of(request, BaselineSign))).data)


class Savings(APIView):
    """What calls of a period cost less than at a baseline. 404 without a baseline, or without calls to compare."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(parameters=[SavingsQuery], responses={200: SavingsOutput, **_ERRORS, 404: ErrorSerializer})
    def get(self, request: ApiRequest) -> Response:
        asked = query_of(request, SavingsQuery)
        period = asked_of.period(asked)
        chosen = savings_selectors.baseline(asked["baseline"]) if "baseline" in asked else savings_selectors.in_force()
        found = savings_selectors.savings_against(chosen, period) if chosen else None
        if found is None:
            raise NotFound
        return Response(SavingsOutput({"first_day": period.first, "last_day": period.last, "baseline": chosen, "found": found}).data)
