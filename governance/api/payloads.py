"""Payload rules, and what is kept of calls, over REST."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import payload_selectors as selectors
from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, StrictSerializer
from governance.models import CallPayload, PayloadMode, PayloadRequest
from governance.requests import ApiRequest
from governance.services import payloads


class PayloadRuleOutput(serializers.Serializer[Any]):
    ref = serializers.CharField(help_text="The project's short name; empty for the organisation.")
    own_mode = serializers.ChoiceField(choices=PayloadMode.choices, allow_null=True, help_text="Null: has no rule of its own.")
    mode = serializers.ChoiceField(choices=PayloadMode.choices, help_text="In force: the strictest of its own and the organisation's.")
    days = serializers.IntegerField(help_text="How long a payload is kept.")


class PayloadRuleInput(StrictSerializer):
    ref = serializers.CharField(max_length=48, default="", allow_blank=True)
    mode = serializers.ChoiceField(choices=PayloadMode.choices, allow_blank=True, help_text="Empty takes a project's own rule away.")
    days = serializers.IntegerField(min_value=1, max_value=payloads.LONGEST_DAYS, default=7)
    reason = serializers.CharField(max_length=300)


class PayloadRequestOutput(serializers.ModelSerializer[PayloadRequest]):
    asked_by = serializers.CharField(source="asked_by.email")
    decided_by = serializers.CharField(source="decided_by.email", default=None, allow_null=True)

    class Meta:
        model = PayloadRequest
        fields = ["id", "ref", "mode", "days", "reason", "status", "asked_by", "asked_at", "decided_by", "decided_at", "note"]


class PayloadDecisionInput(StrictSerializer):
    approve = serializers.BooleanField()
    note = serializers.CharField(max_length=300, default="", allow_blank=True, help_text="Needed to decline what somebody else asks.")


class KeptOutput(serializers.ModelSerializer[CallPayload]):
    class Meta:
        model = CallPayload
        fields = ["event_id", "at", "expires_at", "project", "key_id", "model", "mode"]


class OpenInput(StrictSerializer):
    reason = serializers.CharField(max_length=300, help_text="Stands in the audit log.")


class OpenedOutput(serializers.Serializer[Any]):
    request = serializers.JSONField(help_text="As the call's surface has it.")
    reply = serializers.JSONField(allow_null=True, help_text="A stream is put together; null when there was no answer.")
    is_cut = serializers.BooleanField(help_text="Something was too long.")


class EraseInput(StrictSerializer):
    """Those that fit all that is given."""

    event_id = serializers.UUIDField(required=False)
    project = serializers.CharField(max_length=48, required=False)
    user = serializers.CharField(max_length=200, required=False, help_text="The end user, as callers name them in `user`.")
    until = serializers.DateTimeField(required=False, help_text="Calls that began before.")
    everything = serializers.BooleanField(default=False, help_text="Needed when nothing else is given.")
    reason = serializers.CharField(max_length=300)


class ErasedOutput(serializers.Serializer[Any]):
    erased = serializers.IntegerField()


class PayloadRules(APIView):
    """What is kept of what calls say: of the organisation first, then of each project. POST sets a rule; a wider one waits for a second person."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_PAYLOADS}

    @extend_schema(responses={200: PayloadRuleOutput(many=True)})
    def get(self, request: ApiRequest) -> Response:
        own = selectors.settings_by_ref().get("")
        whole = selectors.effective_rule("")
        rows = [{"ref": "", "own_mode": own.mode if own else None, "mode": whole.mode, "days": whole.days}]
        rows += [
            {"ref": rule.ref, "own_mode": rule.own.mode if rule.own else None, "mode": rule.effective.mode, "days": rule.effective.days}
            for rule in selectors.project_rules()
        ]
        return Response(PayloadRuleOutput(rows, many=True).data)

    @extend_schema(request=PayloadRuleInput, responses={201: PayloadRequestOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        asked = payloads.ask_for_rule(actor=request.user, **body_of(request, PayloadRuleInput))
        return Response(PayloadRequestOutput(asked).data, status=201)


class PayloadRequests(generics.ListAPIView[PayloadRequest]):
    """Every decision about a rule, newest first; those that wait among them."""

    access = {"GET": Permission.VIEW_OPERATE}
    serializer_class = PayloadRequestOutput
    ordering = ("-pk",)

    def get_queryset(self) -> QuerySet[PayloadRequest]:
        return selectors.requests()


class DecidePayloadRequest(APIView):
    """Put a wider rule in force, as somebody else than who asked; or decline or withdraw it."""

    access = {"POST": Permission.MANAGE_PAYLOADS}

    @extend_schema(request=PayloadDecisionInput, responses={200: PayloadRequestOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        waiting = or_404(selectors.requests().filter(pk=pk).first())
        body = body_of(request, PayloadDecisionInput)
        if body["approve"]:
            decided = payloads.approve(request=waiting, actor=request.user)
        else:
            decided = payloads.reject(request=waiting, actor=request.user, note=body["note"])
        return Response(PayloadRequestOutput(decided).data)


class Payloads(generics.ListAPIView[CallPayload]):
    """Calls of which something is kept, newest first, without the texts."""

    access = {"GET": Permission.VIEW_PAYLOADS}
    serializer_class = KeptOutput
    ordering = ("-at", "-event_id")

    def get_queryset(self) -> QuerySet[CallPayload]:
        return selectors.kept()


class OpenPayload(APIView):
    """What one call said. Goes into the audit log."""

    access = {"POST": Permission.VIEW_PAYLOADS}

    @extend_schema(request=OpenInput, responses={200: OpenedOutput, **ERRORS})
    def post(self, request: ApiRequest, event_id: UUID) -> Response:
        if selectors.kept_of(event_id) is None:
            raise NotFound
        opened = or_404(payloads.open_payload(event_id=event_id, actor=request.user, **body_of(request, OpenInput)))
        found = {"request": opened.request, "reply": opened.reply, "is_cut": opened.is_cut}
        return Response(OpenedOutput(found).data, headers={"Cache-Control": "no-store"})


class ErasePayloads(APIView):
    """Delete what is kept, for example of one end user. Goes into the audit log."""

    access = {"POST": Permission.MANAGE_PAYLOADS}

    @extend_schema(request=EraseInput, responses={200: ErasedOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return Response(ErasedOutput({"erased": payloads.erase(actor=request.user, **body_of(request, EraseInput))}).data)
