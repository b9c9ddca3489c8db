"""Saved views of cost pages for programs: a person's own, and what colleagues share."""

from __future__ import annotations

from typing import Any, cast

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import saved_views
from costs.models import SavedView
from costs.services import saved_views as services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer, 409: ErrorSerializer}


class SavedViewChange(StrictSerializer):
    name = serializers.CharField(max_length=60)
    is_shared = serializers.BooleanField(default=False, help_text="For everybody who may see the page.")
    is_default = serializers.BooleanField(default=False, help_text="Its owner sees it when the page is opened without parameters.")


class SavedViewInput(SavedViewChange):
    parameters = serializers.DictField(
        child=serializers.CharField(allow_blank=True),
        help_text="Of the page's URL: period, from, to, group, compare, view and the filters.",
    )


class SavedViewOutput(serializers.Serializer[Any]):
    id = serializers.IntegerField(source="pk")
    name = serializers.CharField()
    parameters = serializers.DictField(child=serializers.CharField())
    query = serializers.SerializerMethodField(help_text="The same as a query string.")
    owner = serializers.EmailField(source="owner.email")
    is_shared = serializers.BooleanField()
    is_default = serializers.BooleanField()
    created_at = serializers.DateTimeField()

    def get_query(self, view: SavedView) -> str:
        return saved_views.query(view)


@extend_schema_view(get=extend_schema(responses={200: SavedViewOutput(many=True), 403: ErrorSerializer}))
class SpendViews(generics.ListAPIView[SavedView]):
    """Views of the spend page that the person may use. A new one belongs to who makes it."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.VIEW_COSTS}
    serializer_class = SavedViewOutput
    ordering = ("name", "id")
    page = SavedView.Page.SPEND

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        if getattr(self, "swagger_fake_view", False):
            return SavedView.objects.none()
        return saved_views.visible_to(cast(ApiRequest, self.request).user, self.page)

    @extend_schema(request=SavedViewInput, responses={201: SavedViewOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        view = services.save_view(page=self.page, owner=request.user, **body_of(request, SavedViewInput))
        return Response(SavedViewOutput(view).data, status=201)


class UsageViews(SpendViews):
    """The same of the page of one's own usage."""

    access = {"GET": Permission.USE_GATEWAY, "POST": Permission.USE_GATEWAY}
    page = SavedView.Page.USAGE


class SpendViewDetail(APIView):
    """One of the person's own views of the spend page."""

    access = {"PUT": Permission.VIEW_COSTS, "DELETE": Permission.VIEW_COSTS}
    page = SavedView.Page.SPEND

    @extend_schema(request=SavedViewChange, responses={200: SavedViewOutput, **_ERRORS, 404: ErrorSerializer})
    def put(self, request: ApiRequest, pk: int) -> Response:
        view = self._own(request, pk)
        return Response(SavedViewOutput(services.change_view(view=view, **body_of(request, SavedViewChange))).data)

    @extend_schema(responses={204: None, 403: ErrorSerializer, 404: ErrorSerializer})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        services.delete_view(view=self._own(request, pk))
        return Response(status=204)

    def _own(self, request: ApiRequest, pk: int) -> SavedView:
        view = saved_views.own(request.user, self.page, pk)
        if view is None:
            raise NotFound
        return view


class UsageViewDetail(SpendViewDetail):
    """One of the person's own views of the page of their usage."""

    access = {"PUT": Permission.USE_GATEWAY, "DELETE": Permission.USE_GATEWAY}
    page = SavedView.Page.USAGE
