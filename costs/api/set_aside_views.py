"""Calls that came and were not counted."""

from __future__ import annotations

from typing import cast

from drf_spectacular.utils import extend_schema_field
from rest_framework import generics, serializers

from costs import set_aside_selectors
from costs.models import RejectedInbox
from governance.access import Permission
from governance.requests import ApiRequest


class CallSetAside(serializers.ModelSerializer[RejectedInbox]):
    """As it came: nothing here was checked. It is in no figure."""

    reason = serializers.ChoiceField(choices=list(set_aside_selectors.REASONS))
    meaning = serializers.SerializerMethodField(help_text="What the reason means.")
    action = serializers.SerializerMethodField(help_text="What to do about it.")
    units = serializers.SerializerMethodField(help_text="Whatever stood there, of any type.")

    class Meta:
        model = RejectedInbox
        fields = (
            "id",
            "event_id",
            "request_id",
            "kind",
            "received_at",
            "started_at",
            "reason",
            "meaning",
            "action",
            "project",
            "key_id",
            "agent",
            "model",
            "provider",
            "status",
            "input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
            "duration_us",
            "units",
        )

    def get_meaning(self, row: RejectedInbox) -> str:
        return set_aside_selectors.REASONS[row.reason].meaning

    def get_action(self, row: RejectedInbox) -> str:
        return set_aside_selectors.REASONS[row.reason].action

    @extend_schema_field(serializers.JSONField())
    def get_units(self, row: RejectedInbox) -> object:
        return row.units


class CallsSetAside(generics.ListAPIView[RejectedInbox]):
    """Calls of the organisation that came and were not counted, the last that came first. One that came twice is here twice."""

    access = {"GET": Permission.VIEW_COSTS}
    serializer_class = CallSetAside
    ordering = set_aside_selectors.ORDER
    queryset = RejectedInbox.objects.none()

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return set_aside_selectors.set_aside(cast(ApiRequest, self.request).tenant)
