"""Exchange rates for programs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import exchange, exchange_selectors
from costs.api.serializers import ExactField
from costs.models import ExchangeRate, RateSheet
from costs.services import exchange_rates
from governance.access import Permission
from governance.api.inputs import body_of, query_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class RateInput(StrictSerializer):
    currency = serializers.RegexField(r"^[A-Z]{3}$", help_text="ISO 4217.")
    day = serializers.DateField(help_text="UTC.")
    per_usd = serializers.DecimalField(
        max_digits=14, decimal_places=6, min_value=Decimal(0), help_text="Units of the currency for one USD: 0.92 for EUR, not 1.09."
    )


class RateSheetInput(StrictSerializer):
    source = serializers.CharField(max_length=200, help_text="Where the rates stand.")  # type: ignore[assignment]  # also an attribute of fields
    rates = serializers.ListField(child=RateInput(), min_length=1, max_length=exchange.MOST_ROWS)

    def validate_rates(self, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len({(one["currency"], one["day"]) for one in value}) < len(value):
            raise serializers.ValidationError("One of them stands twice.")
        return value


class RateSheetReason(StrictSerializer):
    reason = serializers.CharField(max_length=400, required=False, allow_blank=True, default="", help_text="Needed for somebody else's.")


class RateSheetOutput(serializers.ModelSerializer[RateSheet]):
    """Rates that came together; they hold once they are approved."""

    proposed_by = serializers.EmailField(
        source="proposed_by.email", allow_null=True, default=None, help_text="Null: the schedule, from the reference rates."
    )
    decided_by = serializers.EmailField(source="decided_by.email", allow_null=True, default=None)

    class Meta:
        model = RateSheet
        fields = (
            "id", "kind", "source", "count", "unchanged", "currencies", "first_on", "last_on", "status", "proposed_by", "proposed_at",
            "decided_by", "decided_at", "reason",
        )  # fmt: skip
        extra_kwargs = {"currencies": {"help_text": "List of codes."}}


class ExchangeRateOutput(serializers.ModelSerializer[ExchangeRate]):
    per_usd = ExactField(help_text="Units of the currency for one USD.")
    source = serializers.CharField(source="sheet.source")  # type: ignore[assignment]  # also an attribute of fields
    sheet = serializers.IntegerField(source="sheet_id")

    class Meta:
        model = ExchangeRate
        fields = ("currency", "day", "per_usd", "source", "sheet")


class ExchangeRateQuery(StrictSerializer):
    currency = serializers.RegexField(r"^[A-Z]{3}$", required=False)
    cursor = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200)


class RateSheetQuery(StrictSerializer):
    status = serializers.ChoiceField(choices=RateSheet.Status.choices, required=False)
    cursor = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200)


@extend_schema_view(get=extend_schema(parameters=[ExchangeRateQuery], responses={200: ExchangeRateOutput(many=True), **_ERRORS}))
class ExchangeRates(generics.ListAPIView[ExchangeRate]):
    """Rates that hold, newest day first."""

    access = {"GET": Permission.VIEW_COSTS}
    serializer_class = ExchangeRateOutput
    ordering = ("-day", "currency", "pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        if getattr(self, "swagger_fake_view", False):
            return ExchangeRate.objects.none()
        return exchange_selectors.exchange_rates(currency=query_of(self.request, ExchangeRateQuery).get("currency", ""))


@extend_schema_view(get=extend_schema(parameters=[RateSheetQuery], responses={200: RateSheetOutput(many=True), **_ERRORS}))
class RateSheets(generics.ListAPIView[RateSheet]):
    """What came in, newest first. Posted rates wait for the approval of somebody else."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = RateSheetOutput
    ordering = ("-proposed_at", "-pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        if getattr(self, "swagger_fake_view", False):
            return RateSheet.objects.none()
        return exchange_selectors.rate_sheets(query_of(self.request, RateSheetQuery).get("status", ""))

    @extend_schema(request=RateSheetInput, responses={201: RateSheetOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        asked = body_of(request, RateSheetInput)
        rates = [exchange.Rate(**one) for one in asked["rates"]]
        sheet = exchange_rates.propose_rates(rates=rates, source=asked["source"], actor=request.user)
        return Response(RateSheetOutput(sheet).data, status=201)


def _found(pk: int) -> RateSheet:
    found = exchange_selectors.rate_sheet(pk)
    if found is None:
        raise NotFound
    return found


class RateSheetApprove(APIView):
    """Let the rates hold; not by who entered them."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=None, responses={200: RateSheetOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        return Response(RateSheetOutput(exchange_rates.approve_rates(sheet=_found(pk), actor=request.user)).data)


class RateSheetReject(APIView):
    """Decline them with a reason; one's own are withdrawn."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=RateSheetReason, responses={200: RateSheetOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        asked = body_of(request, RateSheetReason)
        return Response(RateSheetOutput(exchange_rates.reject_rates(sheet=_found(pk), actor=request.user, **asked)).data)
