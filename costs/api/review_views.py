"""The monthly review of costs for programs."""

from __future__ import annotations

from datetime import date
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import review_selectors
from costs.errors import ReviewError
from costs.models import ReviewItem
from costs.services import review as services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer, 409: ErrorSerializer}


class ReviewBudgetOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    amount_usd = serializers.CharField()
    spent_usd = serializers.CharField()


class ReviewItemOutput(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=ReviewItem.Kind.choices)
    ref = serializers.CharField(help_text="Id of the deployment, number of the anomaly or commitment, else a short name.")
    title = serializers.CharField()
    detail = serializers.CharField(help_text="Empty: it is carried from an earlier month, and not found any more.")
    cost_usd = serializers.CharField(allow_null=True)
    decision = serializers.CharField(help_text="keep, retire, change or watch; empty: none yet.")
    owner = serializers.CharField()
    note = serializers.CharField()
    due_on = serializers.DateField(allow_null=True)


class ReviewFigures(serializers.Serializer[Any]):
    """Of a month that is signed off, what was signed."""

    month = serializers.CharField()
    cost_usd = serializers.CharField()
    before_usd = serializers.CharField(allow_null=True)
    calls = serializers.IntegerField()
    unpriced_calls = serializers.IntegerField()
    saved_usd = serializers.CharField(allow_null=True)
    budgets = ReviewBudgetOutput(many=True)
    items = ReviewItemOutput(many=True)


class ReviewOutput(serializers.Serializer[Any]):
    figures = ReviewFigures()
    sha256 = serializers.CharField(help_text="Over the figures: what is signed.")
    is_over = serializers.BooleanField()
    complete_through = serializers.DateTimeField()
    waiting = serializers.IntegerField(help_text="Findings without a decision.")
    undecided = serializers.DictField(
        child=serializers.CharField(), help_text="By kind with such findings: a digest of which they are, the `seen` of decide-rest/."
    )
    signed_by = serializers.CharField(allow_null=True)
    signed_at = serializers.DateTimeField(allow_null=True)
    has_moved = serializers.BooleanField(help_text="The money has changed since it was signed.")


class ReviewKeyInput(StrictSerializer):
    kind = serializers.ChoiceField(choices=ReviewItem.Kind.choices)
    ref = serializers.CharField(max_length=200, allow_blank=True, default="")


class _DecisionInput(StrictSerializer):
    decision = serializers.ChoiceField(choices=ReviewItem.Decision.choices)
    owner = serializers.EmailField()
    note = serializers.CharField(max_length=400, allow_blank=True, default="")
    due_on = serializers.DateField(required=False, allow_null=True, default=None, help_text="Needed unless it is kept.")


class ReviewDecisionInput(_DecisionInput, ReviewKeyInput):
    """About one finding."""


class ReviewRestInput(_DecisionInput):
    """About every finding of a kind that has no decision yet."""

    kind = serializers.ChoiceField(choices=ReviewItem.Kind.choices)
    seen = serializers.CharField(
        max_length=64, help_text="Which of them were seen, as `undecided` says: refused where they are others by now."
    )


class ReviewSignInput(StrictSerializer):
    sha256 = serializers.CharField(max_length=64, help_text="Of the figures that were seen.")
    note = serializers.CharField(max_length=400, allow_blank=True, default="")


class CostReview(APIView):
    """A month's figures, what to look at in it, and what was decided."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: ReviewOutput, 403: ErrorSerializer})
    def get(self, request: ApiRequest, month: date) -> Response:
        return Response(_shown(month))


class CostReviewDecide(APIView):
    """Decide about a finding of the month, or anew about an open one."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=ReviewDecisionInput, responses={200: ReviewOutput, **_ERRORS})
    def post(self, request: ApiRequest, month: date) -> Response:
        services.decide(month=month, actor=request.user, **_decision(ReviewDecisionInput, request))
        return Response(_shown(month))


class CostReviewDecideRest(APIView):
    """Decide alike about every finding of a kind that has no decision yet."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=ReviewRestInput, responses={200: ReviewOutput, **_ERRORS})
    def post(self, request: ApiRequest, month: date) -> Response:
        services.decide_rest(month=month, actor=request.user, **_decision(ReviewRestInput, request))
        return Response(_shown(month))


class CostReviewClose(APIView):
    """Call an open decision done: it is not carried to the next month."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=ReviewKeyInput, responses={200: ReviewOutput, **_ERRORS})
    def post(self, request: ApiRequest, month: date) -> Response:
        services.close_item(month=month, actor=request.user, **body_of(request, ReviewKeyInput))
        return Response(_shown(month))


class CostReviewSign(APIView):
    """Sign off a month that is over and wholly decided."""

    access = {"POST": Permission.SIGN_BILLS}

    @extend_schema(request=ReviewSignInput, responses={201: ReviewOutput, **_ERRORS})
    def post(self, request: ApiRequest, month: date) -> Response:
        services.sign_off(month=month, actor=request.user, **body_of(request, ReviewSignInput))
        return Response(_shown(month), status=201)


def _decision(shape: type[StrictSerializer], request: ApiRequest) -> dict[str, Any]:
    """The body with its owner as a person. Raises ReviewError."""
    asked = body_of(request, shape)
    owner = next((person for person in review_selectors.owners() if person.email == asked["owner"]), None)
    if owner is None:
        raise ReviewError("Nobody of the organisation has this address.", field="owner")
    return {**asked, "owner": owner}


def _shown(month: date) -> Any:
    found = review_selectors.review(month)
    signed = found.signature
    body: Any = {
        "figures": signed.figures if signed else found.as_json(),
        "sha256": signed.sha256 if signed else found.sha256,
        "is_over": found.is_over,
        "complete_through": found.complete_through,
        "waiting": found.waiting,
        "undecided": {str(section.kind): section.seen for section in found.sections if section.undecided},
        "signed_by": signed.signed_by.email if signed else None,
        "signed_at": signed.signed_at if signed else None,
        "has_moved": found.has_moved,
    }
    return ReviewOutput(body).data
