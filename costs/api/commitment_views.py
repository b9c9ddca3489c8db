"""Commitments for programs."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import commitment_selectors
from costs.api.serializers import ExactField
from costs.models import Commitment
from costs.services import commitments
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class CommitmentInput(StrictSerializer):
    reference = serializers.CharField(max_length=120, help_text="The provider's id of it, as on its bills.")
    kind = serializers.ChoiceField(choices=Commitment.Kind.choices)
    provider = serializers.SlugField(max_length=48)
    model = serializers.CharField(max_length=80, required=False, help_text="Slug; without it, all of the provider.")
    region = serializers.CharField(max_length=48, required=False)
    quantity = serializers.DecimalField(
        max_digits=21, decimal_places=4, help_text="Units of throughput; else use at the price book's prices, in `currency`."
    )
    unit_price = serializers.DecimalField(
        max_digits=25,
        decimal_places=8,
        min_value=Decimal(0),
        help_text="Per unit and hour, in `currency`; else what is paid for each dollar (or euro) of use.",
    )
    currency = serializers.RegexField(
        r"^[A-Z]{3}$", required=False, help_text="Of the contract, ISO 4217; converted once at our rate of the first day. Default USD."
    )
    unit_tokens_per_minute = serializers.IntegerField(required=False, min_value=1, help_text="Of throughput: input tokens of one unit.")
    output_weight = serializers.DecimalField(
        max_digits=6, decimal_places=2, required=False, help_text="How many input tokens an output token takes; 1 without it."
    )
    first_on = serializers.DateField(help_text="Whole UTC days, both included.")
    last_on = serializers.DateField()
    source = serializers.CharField(max_length=200, help_text="Contract or order.")  # type: ignore[assignment]  # also an attribute of fields


class CommitmentReason(StrictSerializer):
    reason = serializers.CharField(max_length=400, required=False, allow_blank=True, default="")


class CommitmentOutput(serializers.ModelSerializer[Commitment]):
    """A commitment; it counts once it is approved."""

    quantity = ExactField()
    unit_price = ExactField()
    proposed_by = serializers.EmailField(source="proposed_by.email")
    decided_by = serializers.EmailField(source="decided_by.email", allow_null=True, default=None)
    fee_usd = ExactField(source="fee", help_text="Of the whole term.")
    quoted = ExactField(
        help_text="In `currency`: the price of a unit and hour, else the amount of use. Null in USD, as `rate` and `quoted_fee` are."
    )
    rate = ExactField(help_text="Units of the currency for one USD, of `rate_on`.")
    quoted_fee = ExactField(help_text="Of the whole term, in `currency`.")

    class Meta:
        model = Commitment
        fields = (
            "id",
            "reference",
            "kind",
            "provider",
            "model",
            "region",
            "quantity",
            "unit_price",
            "currency",
            "quoted",
            "rate",
            "rate_on",
            "quoted_fee",
            "unit_tokens_per_minute",
            "output_weight",
            "first_on",
            "last_on",
            "source",
            "status",
            "proposed_by",
            "proposed_at",
            "decided_by",
            "decided_at",
            "reason",
            "fee_usd",
            "counted_through",
        )


class CommitmentUse(serializers.Serializer[Any]):
    model = serializers.CharField()
    quantity = ExactField()
    list_usd = ExactField(source="list_cost", help_text="By the price book.")
    cost_usd = ExactField(source="cost", help_text="Its part of the fee.")


class OutlookOutput(serializers.Serializer[Any]):
    """To the end of the term, at the pace of its last whole days."""

    days = serializers.IntegerField(help_text="That the pace is of: 7 to 28.")
    used_up_on = serializers.DateField(allow_null=True, help_text="Money: when all is drawn; null: something is left. Throughput: null.")
    unused_usd = ExactField(source="unused_cost", help_text="Of the fee. Money: left at the end; throughput: of the days to come.")


class UtilisationOutput(serializers.Serializer[Any]):
    """One commitment in one month. Null is not known, never zero."""

    commitment = CommitmentOutput()
    counted_through = serializers.DateField(allow_null=True)
    used = ExactField(source="figures.used", help_text="Unit hours of throughput; else USD of use.")
    unused = ExactField(source="figures.unused")
    cost_usd = ExactField(source="figures.cost", help_text="Of what was used.")
    unused_usd = ExactField(source="figures.unused_cost")
    list_usd = ExactField(source="figures.list_cost", help_text="What the use would have cost by the price book.")
    saved_usd = ExactField(source="figures.saved", help_text="Negative when it does not pay off.")
    utilisation_percent = serializers.FloatField(source="figures.utilisation", allow_null=True)
    coverage_percent = serializers.FloatField(
        source="figures.coverage", allow_null=True, help_text="Of the use that it may cover, by value."
    )
    break_even_percent = serializers.FloatField(
        source="figures.break_even", allow_null=True, help_text="Utilisation from which on it costs no more than the price book."
    )
    models = CommitmentUse(many=True)
    outlook = OutlookOutput(allow_null=True, help_text="Null once the term is over, and with less than a week to go by.")


class Commitments(generics.ListAPIView[Commitment]):
    """Commitments, newest first. A new one waits for the approval of somebody else."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = CommitmentOutput
    ordering = ("-proposed_at", "-id")
    queryset = commitment_selectors.commitment_list()

    @extend_schema(request=CommitmentInput, responses={201: CommitmentOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        proposed = commitments.propose_commitment(actor=request.user, **body_of(request, CommitmentInput))
        return Response(CommitmentOutput(proposed).data, status=201)


def _found(pk: int) -> Commitment:
    found = commitment_selectors.commitment(pk)
    if found is None:
        raise NotFound
    return found


class CommitmentApprove(APIView):
    """Let it count, its past days included; not by who proposed it."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=None, responses={200: CommitmentOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        return Response(CommitmentOutput(commitments.approve_commitment(commitment=_found(pk), actor=request.user)).data)


class CommitmentReject(APIView):
    """Decline it with a reason; one's own is withdrawn."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=CommitmentReason, responses={200: CommitmentOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        asked = body_of(request, CommitmentReason)
        found = commitments.reject_commitment(commitment=_found(pk), actor=request.user, **asked)
        return Response(CommitmentOutput(found).data)


class CommitmentVoid(APIView):
    """Take back one that was approved and wrong."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=CommitmentReason, responses={200: CommitmentOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        asked = body_of(request, CommitmentReason)
        found = commitments.void_commitment(commitment=_found(pk), actor=request.user, **asked)
        return Response(CommitmentOutput(found).data)


class CommitmentUtilisation(APIView):
    """What approved commitments of a month were used for. Unused parts are figures of their own."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: UtilisationOutput(many=True), **_ERRORS})
    def get(self, request: ApiRequest, month: date) -> Response:
        found = commitment_selectors.commitment_utilisation(month)
        outlooks = commitment_selectors.outlooks(one.commitment for one in found)
        shown: Any = [{**vars(one), "outlook": outlooks.get(one.commitment.pk)} for one in found]
        return Response(UtilisationOutput(shown, many=True).data)
