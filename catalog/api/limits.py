"""Limits on requests, tokens and calls at once over REST."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD
from catalog.models import UsageLimit
from catalog.services import limits
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import StrictSerializer
from governance.requests import ApiRequest


class LimitOutput(serializers.ModelSerializer[UsageLimit]):
    class Meta:
        model = UsageLimit
        fields = ["id", "scope", "ref", "resource", "window", "amount", "fail_open", "is_enabled", "note", "created_at"]


class LimitChangeInput(StrictSerializer):
    amount = serializers.IntegerField(min_value=0, max_value=limits.HIGHEST)
    fail_open = serializers.BooleanField(default=True, help_text="Admit calls when the counter cannot be asked; otherwise they get 503.")
    is_enabled = serializers.BooleanField(default=True)
    note = serializers.CharField(max_length=200, default="", allow_blank=True)


class LimitInput(StrictSerializer):
    scope = serializers.ChoiceField(choices=UsageLimit.Scope.choices)
    ref = serializers.CharField(
        max_length=400,
        default="",
        allow_blank=True,
        help_text="Project or model slug, key id, agent, or `<model>/<provider>/<upstream model>` of a deployment; empty for the organisation.",
    )
    resource = serializers.ChoiceField(choices=UsageLimit.Resource.choices)
    window = serializers.ChoiceField(choices=UsageLimit.Window.choices, default="", allow_blank=True, help_text="Empty for calls at once.")
    amount = serializers.IntegerField(min_value=0, max_value=limits.HIGHEST, help_text="Of money, whole US dollars.")
    fail_open = serializers.BooleanField(default=True)
    note = serializers.CharField(max_length=200, default="", allow_blank=True)


class Limits(generics.ListAPIView[UsageLimit]):
    """Ceilings that the gateway holds calls to."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_CATALOG}
    serializer_class = LimitOutput
    ordering = ("scope", "ref", "pk")

    def get_queryset(self) -> QuerySet[UsageLimit]:
        return selectors.usage_limits(self.request.query_params.get("q", ""))

    @extend_schema(request=LimitInput, responses={201: LimitOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        return Response(LimitOutput(limits.create_limit(actor=request.user, **body_of(request, LimitInput))).data, status=201)


class LimitDetail(APIView):
    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_CATALOG, "DELETE": Permission.MANAGE_CATALOG}

    def find(self, pk: int) -> UsageLimit:
        limit = selectors.usage_limits().filter(pk=pk).first()
        if limit is None:
            raise NotFound
        return limit

    @extend_schema(responses={200: LimitOutput, **BAD})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(LimitOutput(self.find(pk)).data)

    @extend_schema(request=LimitChangeInput, responses={200: LimitOutput, **BAD})
    def put(self, request: ApiRequest, pk: int) -> Response:
        limit = self.find(pk)
        return Response(LimitOutput(limits.change_limit(limit=limit, actor=request.user, **body_of(request, LimitChangeInput))).data)

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        limits.delete_limit(limit=self.find(pk), actor=request.user)
        return Response(status=204)
