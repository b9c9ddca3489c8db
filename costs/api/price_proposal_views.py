"""Proposed prices for programs: a list of prices in, decisions by somebody else out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework import serializers as drf
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import price_selectors, price_sheets
from costs.api.serializers import ExactField
from costs.errors import PriceSheetError
from costs.models import SERIES, PriceProposal, ServiceTier, TokenClass
from costs.services import price_feed, price_proposals
from governance.access import Permission
from governance.api.inputs import body_of, query_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class PriceProposalOutput(drf.ModelSerializer[PriceProposal]):
    price = ExactField(help_text="USD per million tokens.")
    quoted = ExactField(allow_null=True, help_text="In `currency`; null where that is USD.")
    rate = ExactField(allow_null=True, help_text="Units of the currency for one USD; it stays with the price.")
    before = ExactField(allow_null=True, help_text="In force at `valid_from` when it was proposed; null when nothing was.")
    sheet = drf.CharField(source="sheet.name")
    proposed_by = drf.CharField(
        source="sheet.proposed_by.email", allow_null=True, default=None, help_text="Null: the schedule, from a price feed."
    )
    proposed_at = drf.DateTimeField(source="sheet.proposed_at")
    decided_by = drf.CharField(source="decided_by.email", allow_null=True, default=None)
    repriced_by_usd = ExactField(
        source="repriced_by", allow_null=True, help_text="What the calls cost more by the correction; null until it is done."
    )

    class Meta:
        model = PriceProposal
        fields = (
            "id", "sheet", *SERIES, "price", "currency", "quoted", "rate", "rate_on", "before", "valid_from", "source", "status", "proposed_by", "proposed_at",
            "decided_by", "decided_at", "reason", "corrects", "repriced_at", "repriced_calls", "repriced_by_usd",
        )  # fmt: skip

    def to_representation(self, instance: PriceProposal) -> dict[str, Any]:
        shown = super().to_representation(instance)
        return shown if instance.repriced_at else {**shown, "repriced_calls": None, "repriced_by_usd": None}


class PriceProposalQuery(StrictSerializer):
    status = drf.ChoiceField(choices=PriceProposal.Status.choices, required=False)
    cursor = drf.CharField(required=False)
    limit = drf.IntegerField(required=False, min_value=1, max_value=200)


class OfferInput(StrictSerializer):
    provider = drf.SlugField(max_length=48)
    model = drf.CharField(max_length=80)
    token_class = drf.ChoiceField(choices=TokenClass.choices)
    service_tier = drf.ChoiceField(choices=ServiceTier.choices, required=False)
    region = drf.CharField(max_length=48, required=False, allow_blank=True)
    context_over = drf.IntegerField(
        required=False, min_value=0, max_value=price_sheets.MOST_CONTEXT, help_text="For calls with more input tokens than this."
    )
    price = drf.DecimalField(max_digits=18, decimal_places=8, min_value=Decimal(0), help_text="Per million tokens.")
    currency = drf.RegexField(r"^[A-Z]{3}$", required=False, help_text="ISO 4217, default USD: others are converted at our exchange rate.")
    valid_from = drf.DateTimeField(required=False, help_text="Default now.")
    source = drf.CharField(max_length=200, required=False, allow_blank=True, default="")  # type: ignore[assignment]  # a field of this name
    corrects = drf.BooleanField(
        required=False, default=False, help_text="The book was wrong since `valid_from`: calls that have a price get this one."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["corrects"] and attrs.get("valid_from", timezone.now()) >= timezone.now():
            raise ValidationError({"valid_from": ["A correction begins in the past."]})
        return attrs


class PriceSheetInput(StrictSerializer):
    name = drf.CharField(max_length=200)
    note = drf.CharField(max_length=400, required=False, allow_blank=True, default="")
    prices = drf.ListField(child=OfferInput(), min_length=1, max_length=price_sheets.MOST_ROWS)


class PriceSheetOutput(drf.Serializer[Any]):
    name = drf.CharField()
    unchanged = drf.IntegerField(help_text="Prices that are in force already; nothing is proposed for them.")
    proposals = PriceProposalOutput(many=True)


class RejectionInput(StrictSerializer):
    reason = drf.CharField(required=False, allow_blank=True, max_length=400, default="", help_text="Needed for somebody else's.")


@extend_schema_view(
    get=extend_schema(parameters=[PriceProposalQuery], responses={200: PriceProposalOutput(many=True), **_ERRORS}),
)
class PriceProposals(generics.ListAPIView[PriceProposal]):
    """Proposed prices, newest first. Posting a list proposes it: all of it, or with an error nothing."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = PriceProposalOutput
    ordering = ("-pk",)

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        if getattr(self, "swagger_fake_view", False):
            return PriceProposal.objects.none()
        return price_selectors.price_proposals(query_of(self.request, PriceProposalQuery).get("status", ""))

    @extend_schema(request=PriceSheetInput, responses={201: PriceSheetOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        asked, now = body_of(request, PriceSheetInput), timezone.now()
        offers = [price_sheets.Offer(**{"valid_from": now, **row}) for row in asked["prices"]]
        known = price_selectors.priceable()
        wrong = {}
        for index, offer in enumerate(offers):
            try:
                price_sheets.check(offer, providers=known.providers, models=known.models)
            except PriceSheetError as error:
                wrong[str(index)] = [error.message]
        if wrong:
            raise ValidationError({"prices": wrong})
        sheet = price_proposals.propose(offers=offers, name=asked["name"], note=asked["note"], actor=request.user, at=now)
        found = price_selectors.price_proposals().filter(sheet=sheet)
        return Response(PriceSheetOutput({"name": sheet.name, "unchanged": sheet.unchanged, "proposals": found}).data, status=201)


class UnlistedOutput(drf.Serializer[Any]):
    provider = drf.CharField()
    model = drf.CharField()
    upstream_model = drf.CharField()
    reason = drf.CharField()


class PriceFeedOutput(drf.Serializer[Any]):
    feed = drf.CharField(source="sheet.name", help_text="Package and version.")
    read_at = drf.DateTimeField(source="sheet.proposed_at")
    new = drf.IntegerField(help_text="Prices that the book did not have.")
    changed = drf.IntegerField(help_text="Prices that the book had otherwise.")
    unchanged = drf.IntegerField(source="sheet.unchanged")
    unknown = UnlistedOutput(source="sheet.unknown", many=True, help_text="Deployments without a price in the feed, and why.")


class PriceFeed(APIView):
    """The last reading of list prices. Posting reads them again and proposes what differs from the book."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}

    @extend_schema(responses={200: PriceFeedOutput, **_ERRORS, 404: ErrorSerializer})
    def get(self, request: ApiRequest) -> Response:
        reading = price_selectors.last_feed_reading()
        if reading is None:
            raise NotFound
        return Response(PriceFeedOutput(reading).data)

    @extend_schema(request=None, responses={201: PriceFeedOutput, **_ERRORS, 503: ErrorSerializer})
    def post(self, request: ApiRequest) -> Response:
        price_feed.propose_listed(actor=request.user)
        return Response(PriceFeedOutput(price_selectors.last_feed_reading()).data, status=201)


class _Decision(APIView):
    access = {"POST": Permission.MANAGE_COSTS}

    @staticmethod
    def find(pk: int) -> PriceProposal:
        found = price_selectors.price_proposals().filter(pk=pk).first()
        if found is None:
            raise NotFound
        return found


class PriceProposalApprove(_Decision):
    @extend_schema(request=None, responses={200: PriceProposalOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Put it in force: somebody else than who proposed it."""
        price_proposals.approve(proposal=self.find(pk), actor=request.user)
        return Response(PriceProposalOutput(self.find(pk)).data)


class PriceProposalReject(_Decision):
    @extend_schema(request=RejectionInput, responses={200: PriceProposalOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Decline it, with a reason; one's own is withdrawn so."""
        proposal = self.find(pk)
        price_proposals.reject(proposal=proposal, actor=request.user, **body_of(request, RejectionInput))
        return Response(PriceProposalOutput(self.find(pk)).data)
