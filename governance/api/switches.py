"""Switches of pillars over REST, how soon every process of the gateway heeded them, and those processes."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from governance import control_selectors as selectors
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.permissions import OPERATOR
from governance.api.serializers import ERRORS, StrictSerializer
from governance.models import Effect, Pillar, Switch, Tenant
from governance.planes import planes
from governance.requests import ApiRequest
from governance.services import effects, switches


class SwitchOutput(serializers.Serializer[Any]):
    pillar = serializers.ChoiceField(choices=Pillar.choices)
    is_off = serializers.BooleanField()
    reason = serializers.CharField()
    actor = serializers.CharField(allow_null=True)
    set_at = serializers.DateTimeField(allow_null=True)


class QuickSwitchInput(StrictSerializer):
    is_off = serializers.BooleanField()
    reason = serializers.CharField(max_length=200, default="", allow_blank=True, help_text="Needed to switch off; callers are told.")


def _switch_body(pillar: Pillar, switch: Switch | None) -> dict[str, Any]:
    return dict(
        SwitchOutput(
            {
                "pillar": pillar,
                "is_off": switch.is_off if switch else False,
                "reason": switch.reason if switch else "",
                "actor": switch.actor.email if switch else None,
                "set_at": switch.set_at if switch else None,
            }
        ).data
    )


class Switches(APIView):
    """Pillars of the organisation, on or off."""

    access: dict[str, Any] = {"GET": Permission.VIEW_OPERATE}

    @extend_schema(responses={200: SwitchOutput(many=True)})
    def get(self, request: ApiRequest) -> Response:
        return Response([_switch_body(pillar, switch) for pillar, switch in selectors.switches()])


class SwitchDetail(APIView):
    """Switch a pillar of the organisation off, within seconds and open streams too, or on again."""

    access: dict[str, Any] = {"PUT": Permission.MANAGE_CONSENT}

    @extend_schema(request=QuickSwitchInput, responses={200: SwitchOutput, **ERRORS})
    def put(self, request: ApiRequest, pillar: str) -> Response:
        if pillar not in Pillar.values:
            raise NotFound
        switches.set_switch(pillar=pillar, actor=request.user, **body_of(request, QuickSwitchInput))
        return Response(next(_switch_body(each, switch) for each, switch in selectors.switches() if each == pillar))


class EffectOutput(serializers.ModelSerializer[Effect]):
    actor = serializers.CharField(source="actor.email", default=None, read_only=True, allow_null=True, help_text="None: on schedule.")
    seconds = serializers.FloatField(
        allow_null=True, read_only=True, help_text="Until the last process had it; null while it is waited for."
    )
    goal_s = serializers.IntegerField(read_only=True)
    verdict = serializers.ChoiceField(choices=Effect.VERDICTS, read_only=True)

    class Meta:
        model = Effect
        fields = ["id", "scope", "what", "is_drill", "actor", "decided_at", "effective_at", "planes", "seconds", "goal_s", "verdict"]


class Effects(APIView):
    """Switches and drills, timed from the decision until every process of the gateway has them: the newest hundred. POST runs a drill."""

    access: dict[str, Any] = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_CONSENT}

    @extend_schema(responses={200: EffectOutput(many=True)})
    def get(self, request: ApiRequest) -> Response:
        return Response(EffectOutput(selectors.effects(self.tenant_of(request))[:100], many=True).data)

    @extend_schema(request=None, responses={201: EffectOutput})
    def post(self, request: ApiRequest) -> Response:
        return Response(EffectOutput(effects.run_drill(actor=request.user)).data, status=201)

    def tenant_of(self, request: ApiRequest) -> Tenant | None:
        return request.tenant


class PlatformEffects(Effects):
    """The same for everybody at once."""

    access = {"GET": OPERATOR, "POST": OPERATOR}

    def tenant_of(self, request: ApiRequest) -> Tenant | None:
        return None


class PlaneOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    host = serializers.CharField()
    started_at = serializers.DateTimeField()
    seen_at = serializers.DateTimeField()
    is_alive = serializers.BooleanField()
    is_listening = serializers.BooleanField(help_text="Told of changes at once; otherwise it asks every 2 s.")
    open_streams = serializers.IntegerField()
    spool_bytes = serializers.IntegerField(help_text="Events that are not in the database yet.")
    snapshots = serializers.IntegerField()
    behind = serializers.IntegerField(help_text="Snapshots of which there is a newer version.")


class PlatformPlanes(APIView):
    """The gateway's processes, as they tell of themselves every 5 s."""

    access: dict[str, Any] = {"GET": OPERATOR}

    @extend_schema(responses={200: PlaneOutput(many=True)})
    def get(self, request: ApiRequest) -> Response:
        return Response(PlaneOutput(planes().planes(), many=True).data)


class PlatformSwitches(Switches):
    """Pillars of the whole platform, on or off."""

    access = {"GET": OPERATOR}


class PlatformSwitchDetail(SwitchDetail):
    """Switch a pillar off for every organisation, or on again."""

    access = {"PUT": OPERATOR}
