"""What of models waits for approval, and deciding it."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import review_selectors
from catalog.api.endpoints import BAD, one
from catalog.api.serializers.fields import CommentInput
from catalog.api.serializers.reviews import ModelReviewOutput
from catalog.models import ModelReview
from catalog.services import reviews
from governance.access import Permission
from governance.api.inputs import body_of
from governance.requests import ApiRequest


@extend_schema_view(
    get=extend_schema(
        operation_id="model_reviews_list",
        parameters=[
            OpenApiParameter("model", OpenApiTypes.STR),
            OpenApiParameter("status", OpenApiTypes.STR, enum=ModelReview.Status.values),
        ],
    )
)
class ModelReviews(generics.ListAPIView[ModelReview]):
    """Approvals, newest first: those that wait and those that were decided."""

    access = {"GET": Permission.VIEW_OPERATE}
    serializer_class = ModelReviewOutput
    ordering = ("-pk",)

    def get_queryset(self) -> QuerySet[ModelReview]:
        given = {name: self.request.query_params.get(name, "") for name in ("model", "status")}
        found = review_selectors.reviews()
        found = found.filter(model__slug=given["model"]) if given["model"] else found
        return found.filter(status=given["status"]) if given["status"] else found


class ModelReviewDetail(APIView):
    access = {"GET": Permission.VIEW_OPERATE}

    @extend_schema(operation_id="model_reviews_retrieve", responses={200: ModelReviewOutput, **BAD})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(ModelReviewOutput(one(review_selectors.reviews(), pk=pk)).data)


class ModelReviewApprove(APIView):
    """Agree to exactly this. `binding_changed` when the model is not what was asked for any more."""

    access = {"POST": Permission.APPROVE_MODELS}

    @extend_schema(request=CommentInput, responses={200: ModelReviewOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        comment = body_of(request, CommentInput)["comment"]
        reviews.approve(review=one(review_selectors.reviews(), pk=pk), actor=request.user, comment=comment)
        return Response(ModelReviewOutput(one(review_selectors.reviews(), pk=pk)).data)


class ModelReviewReturn(APIView):
    """Say no, with a comment that says why. Whoever asked withdraws it so, without one."""

    access = {"POST": Permission.APPROVE_MODELS}

    @extend_schema(request=CommentInput, responses={200: ModelReviewOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        comment = body_of(request, CommentInput)["comment"]
        reviews.send_back(review=one(review_selectors.reviews(), pk=pk), actor=request.user, comment=comment)
        return Response(ModelReviewOutput(one(review_selectors.reviews(), pk=pk)).data)


class ModelReviewAgain(APIView):
    """Ask for the same of the model as it is now. Answers with what waits then."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: ModelReviewOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        asked = reviews.ask_again(review=one(review_selectors.reviews(), pk=pk), actor=request.user)
        return Response(ModelReviewOutput(one(review_selectors.reviews(), pk=asked.pk)).data)
