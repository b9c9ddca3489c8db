"""Endpoints of virtual keys by request."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD, RowsView, one
from catalog.api.serializers.keys import KeyInput, NewKeyOutput
from catalog.errors import InvalidValueError
from catalog.models import KeyRequest
from catalog.services import key_requests
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import StrictSerializer
from governance.requests import ApiRequest


class KeyRequestInput(KeyInput):
    owner = None  # type: ignore[assignment]  # one asks for oneself
    why = serializers.CharField(max_length=500, help_text="What the key is for; somebody else decides by it.")


class KeyDecisionInput(StrictSerializer):
    agree = serializers.BooleanField()
    note = serializers.CharField(max_length=200, required=False, allow_blank=True, default="", help_text="A reason, to decline.")


class KeyRequestOutput(serializers.ModelSerializer[KeyRequest]):
    project = serializers.CharField(source="project.slug")
    requester = serializers.EmailField(source="requester.email")
    decided_by = serializers.EmailField(source="decided_by.email", default=None, allow_null=True)
    key = serializers.CharField(source="key.public_id", default=None, allow_null=True, help_text="Id of the key that was made of it.")
    take_until = serializers.DateTimeField(allow_null=True)

    class Meta:
        model = KeyRequest
        fields = (
            "id", "name", "project", "requester", "why", "models", "tools", "requests_per_minute", "monthly_budget_usd", "lifetime_days",
            "status", "asked_at", "decided_by", "decided_at", "note", "take_until", "key",
        )  # fmt: skip


class KeyRequests(RowsView):
    """One's own requests; everybody's with the right to manage keys."""

    access = {"GET": Permission.VIEW, "POST": Permission.USE_GATEWAY}
    serializer_class = KeyRequestOutput
    ordering = ("-pk",)

    def get_queryset(self) -> QuerySet[KeyRequest]:
        found, status = selectors.key_requests_visible_to(self.request.membership), self.request.query_params.get("status", "")
        if status and status not in KeyRequest.Status.values:
            raise InvalidValueError(f"A request is {', '.join(KeyRequest.Status.values)}.", field="status")
        return found.filter(status=status) if status else found

    @extend_schema(
        operation_id="key_requests_list",
        parameters=[OpenApiParameter("status", OpenApiTypes.STR, enum=KeyRequest.Status.values)],
        responses=KeyRequestOutput(many=True),
    )
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="key_requests_create", request=KeyRequestInput, responses={201: KeyRequestOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        """Ask for a key, for oneself."""
        data = body_of(request, KeyRequestInput)
        project = selectors.projects().filter(slug=data.pop("project")).first()
        if project is None:
            raise InvalidValueError("There is no such project.", field="project")
        return Response(KeyRequestOutput(key_requests.ask(project=project, actor=request.user, **data)).data, status=201)


class KeyRequestDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="key_requests_retrieve", responses={200: KeyRequestOutput, **BAD})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(KeyRequestOutput(_the_request(request, pk)).data)


class KeyRequestDecide(APIView):
    """Agree to a key, or decline it. Nobody decides on their own request."""

    access = {"POST": Permission.MANAGE_KEYS}

    @extend_schema(request=KeyDecisionInput, responses={200: KeyRequestOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        decision = body_of(request, KeyDecisionInput)
        return Response(KeyRequestOutput(key_requests.decide(request=_the_request(request, pk), actor=request.user, **decision)).data)


class KeyRequestWithdraw(APIView):
    access = {"POST": Permission.USE_GATEWAY}

    @extend_schema(request=None, responses={200: KeyRequestOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Withdraw one's own request."""
        return Response(KeyRequestOutput(key_requests.withdraw(request=_the_request(request, pk), actor=request.user)).data)


class KeyRequestTake(APIView):
    access = {"POST": Permission.USE_GATEWAY}

    @extend_schema(request=None, responses={201: NewKeyOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Make the key that was agreed to, once. The answer holds its text, which is shown here and never again."""
        key, text = key_requests.take(request=_the_request(request, pk), actor=request.user)
        body: dict[str, Any] = {"key": selectors.key_rows([key])[0], "secret": text}
        response = Response(NewKeyOutput(body).data, status=201)
        response["Cache-Control"] = "no-store"
        return response


def _the_request(request: ApiRequest, pk: int) -> KeyRequest:
    found: KeyRequest = one(selectors.key_requests_visible_to(request.membership), pk=pk)
    return found
