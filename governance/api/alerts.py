"""Alert channels, deliveries and notices over REST."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import selectors
from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer, StrictSerializer
from governance.models import AlertChannel, Delivery, Notice, Severity
from governance.requests import ApiRequest
from governance.services import alerts


class ChannelOutput(serializers.ModelSerializer[AlertChannel]):
    class Meta:
        model = AlertChannel
        fields = ["id", "name", "kind", "shown_target", "topics", "least_severity", "is_enabled", "tried_at", "tried_ok", "tried_detail"]


class ChannelMadeOutput(ChannelOutput):
    secret = serializers.CharField(read_only=True, help_text="Signs webhooks; shown this once, empty for other kinds.")

    class Meta(ChannelOutput.Meta):
        fields = [*ChannelOutput.Meta.fields, "secret"]


class ChannelInput(StrictSerializer):
    name = serializers.CharField(max_length=60)
    kind = serializers.ChoiceField(choices=AlertChannel.Kind.choices)
    target = serializers.CharField(max_length=500, write_only=True)
    topics = serializers.ListField(child=serializers.CharField(max_length=40), required=False, max_length=20)
    least_severity = serializers.ChoiceField(choices=Severity.choices, default=Severity.INFO)


class ChannelChangeInput(StrictSerializer):
    name = serializers.CharField(max_length=60)
    target = serializers.CharField(max_length=500, write_only=True, required=False, default="", allow_blank=True)
    topics = serializers.ListField(child=serializers.CharField(max_length=40), max_length=20)
    least_severity = serializers.ChoiceField(choices=Severity.choices)
    is_enabled = serializers.BooleanField()


class SecretOutput(serializers.Serializer[Any]):
    secret = serializers.CharField()


class DeliveryOutput(serializers.ModelSerializer[Delivery]):
    topic = serializers.CharField(source="notice.topic")
    title = serializers.CharField(source="notice.title")
    channel = serializers.CharField(source="channel.name")

    class Meta:
        model = Delivery
        fields = ["id", "topic", "title", "channel", "status", "attempts", "next_at", "sent_at", "last_error", "created_at"]


class NoticeOutput(serializers.ModelSerializer[Notice]):
    class Meta:
        model = Notice
        fields = ["topic", "severity", "title", "text", "path", "key", "data", "at"]


class Channels(generics.ListAPIView[AlertChannel]):
    """Where alerts go."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_ALERTS}
    serializer_class = ChannelOutput
    ordering = ("name",)

    def get_queryset(self) -> QuerySet[AlertChannel]:
        return selectors.alert_channels()

    @extend_schema(request=ChannelInput, responses={201: ChannelMadeOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        channel, secret = alerts.create_channel(actor=request.user, **body_of(request, ChannelInput))
        return Response({**ChannelOutput(channel).data, "secret": secret}, status=201)


class _OneChannel(APIView):
    def find(self, pk: int) -> AlertChannel:
        return or_404(selectors.alert_channels().filter(pk=pk).first())


class ChannelDetail(_OneChannel):
    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_ALERTS, "DELETE": Permission.MANAGE_ALERTS}

    @extend_schema(responses={200: ChannelOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(ChannelOutput(self.find(pk)).data)

    @extend_schema(request=ChannelChangeInput, responses={200: ChannelOutput, **ERRORS})
    def put(self, request: ApiRequest, pk: int) -> Response:
        channel = self.find(pk)
        return Response(
            ChannelOutput(alerts.change_channel(channel=channel, actor=request.user, **body_of(request, ChannelChangeInput))).data
        )

    @extend_schema(responses={204: None, 404: ErrorSerializer})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        alerts.delete_channel(channel=self.find(pk), actor=request.user)
        return Response(status=204)


class TryChannel(_OneChannel):
    """Send a test now, really; `tried_ok` and `tried_detail` say how it went."""

    access = {"POST": Permission.MANAGE_ALERTS}

    @extend_schema(request=None, responses={200: ChannelOutput, 404: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        return Response(ChannelOutput(alerts.try_channel(channel=self.find(pk), actor=request.user)).data)


class RotateSecret(_OneChannel):
    """A new signing secret; the old one signs as well for 24 hours."""

    access = {"POST": Permission.MANAGE_ALERTS}

    @extend_schema(request=None, responses={200: SecretOutput, 404: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        channel = self.find(pk)
        if channel.kind != AlertChannel.Kind.WEBHOOK:
            raise NotFound
        return Response({"secret": alerts.rotate_secret(channel=channel, actor=request.user)})


class Deliveries(generics.ListAPIView[Delivery]):
    """What was sent where, newest first."""

    access = {"GET": Permission.VIEW_OPERATE}
    serializer_class = DeliveryOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self) -> QuerySet[Delivery]:
        return selectors.deliveries()


class ReplayDelivery(APIView):
    """Send once more, with the same id."""

    access = {"POST": Permission.MANAGE_ALERTS}

    @extend_schema(request=None, responses={200: DeliveryOutput, 404: ErrorSerializer})
    def post(self, request: ApiRequest, pk: UUID) -> Response:
        delivery = or_404(selectors.deliveries().filter(pk=pk).first())
        return Response(DeliveryOutput(alerts.replay(delivery=delivery, actor=request.user)).data)


class Notices(generics.ListAPIView[Notice]):
    """What there was to tell this person, newest first."""

    access = {"GET": Permission.VIEW}
    serializer_class = NoticeOutput
    ordering = ("-at", "-pk")

    def get_queryset(self) -> QuerySet[Notice]:
        request = cast(ApiRequest, self.request)
        return selectors.notices_for(request.membership)
