"""Policies, guardrails and switches over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_view
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.contract import policies as language
from governance import control_selectors as selectors
from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.permissions import OPERATOR
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.models import Effect, Guardrail, Pillar, Policy, PolicyVersion, Switch, Tenant
from governance.models.policy import name_validator
from governance.planes import planes
from governance.requests import ApiRequest
from governance.services import effects, guardrails, policies, switches

BAD = {400: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer}


class VersionOutput(serializers.ModelSerializer[PolicyVersion]):
    author = serializers.CharField(source="author.email")

    class Meta:
        model = PolicyVersion
        fields = ["number", "when", "require", "reason", "note", "author", "created_at", "replay", "replayed_at"]


class PolicyOutput(serializers.ModelSerializer[Policy]):
    active_version = serializers.IntegerField(source="active.number", default=None, read_only=True)
    newest_version = serializers.IntegerField(source="newest", read_only=True)

    class Meta:
        model = Policy
        fields = ["id", "namespace", "name", "description", "is_critical", "mode", "active_version", "newest_version", "created_at"]


class PolicyDetailOutput(PolicyOutput):
    versions = VersionOutput(many=True)

    class Meta(PolicyOutput.Meta):
        fields = [*PolicyOutput.Meta.fields, "versions"]


class VersionInput(StrictSerializer):
    when = serializers.CharField(max_length=2000, default="true", help_text="CEL: which calls it covers.")
    require = serializers.CharField(max_length=2000, help_text="CEL: what a covered call must satisfy.")
    reason = serializers.CharField(max_length=300, default="", allow_blank=True, help_text="Said to a caller who is refused.")
    note = serializers.CharField(max_length=300, default="", allow_blank=True)


class PolicyInput(VersionInput):
    namespace = serializers.CharField(max_length=40, validators=[name_validator])
    name = serializers.CharField(max_length=60, validators=[name_validator])
    description = serializers.CharField(max_length=300, default="", allow_blank=True)
    is_critical = serializers.BooleanField(default=False)


class ModeInput(StrictSerializer):
    mode = serializers.ChoiceField(choices=Policy.Mode.choices)
    version = serializers.IntegerField(min_value=1, required=False, help_text="The newest, when left out.")
    reason = serializers.CharField(max_length=300, default="", allow_blank=True)


class ReplayInput(StrictSerializer):
    version = serializers.IntegerField(min_value=1, required=False, help_text="The newest, when left out.")


class LintInput(StrictSerializer):
    expression = serializers.CharField(max_length=10_000, allow_blank=True)


class LintOutput(serializers.Serializer[Any]):
    ok = serializers.BooleanField()
    error = serializers.CharField(help_text="Empty when the expression is good.")


class Policies(generics.ListAPIView[Policy]):
    """Rules that every call must satisfy."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_POLICIES}
    serializer_class = PolicyOutput
    ordering = ("namespace", "name")

    def get_queryset(self) -> QuerySet[Policy]:
        return selectors.policies()

    @extend_schema(request=PolicyInput, responses={201: PolicyDetailOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        made = policies.create_policy(actor=request.user, **body_of(request, PolicyInput))
        return Response(_shown(made), status=201)


class _OnePolicy(APIView):
    def find(self, pk: int) -> Policy:
        return or_404(selectors.policies().filter(pk=pk).first())

    def version(self, policy: Policy, number: int | None) -> PolicyVersion:
        versions = selectors.versions_of(policy)
        return or_404(versions.first() if number is None else versions.filter(number=number).first())


class PolicyDetail(_OnePolicy):
    access = {"GET": Permission.VIEW_OPERATE, "DELETE": Permission.MANAGE_POLICIES}

    @extend_schema(responses={200: PolicyDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(_shown(self.find(pk)))

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        policies.delete_policy(policy=self.find(pk), actor=request.user)
        return Response(status=204)


class PolicyVersions(_OnePolicy):
    """Write a new version; what is in force stays in force."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=VersionInput, responses={201: VersionOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        policy = self.find(pk)
        return Response(
            VersionOutput(policies.write_version(policy=policy, actor=request.user, **body_of(request, VersionInput))).data, status=201
        )


class PolicyReplay(_OnePolicy):
    """Play a version over the calls of the last seven days. Changes nothing else."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=ReplayInput, responses={200: VersionOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        policy = self.find(pk)
        version = self.version(policy, body_of(request, ReplayInput).get("version"))
        policies.replay_version(version=version, actor=request.user)
        return Response(VersionOutput(version).data)


class PolicyMode(_OnePolicy):
    """Off, dry run or enforced. Enforcing takes a replayed version and somebody who did not write it."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=ModeInput, responses={200: PolicyDetailOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        policy = self.find(pk)
        body = body_of(request, ModeInput)
        version = self.version(policy, body.get("version"))
        policies.set_mode(policy=policy, mode=body["mode"], version=version, actor=request.user, reason=body["reason"])
        return Response(_shown(self.find(pk)))


class PolicyLint(APIView):
    """Whether an expression can be used, and if not, why."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=LintInput, responses={200: LintOutput, 400: ErrorSerializer})
    def post(self, request: ApiRequest) -> Response:
        expression = body_of(request, LintInput)["expression"]
        try:
            language.lint(expression)
        except language.PolicyError as error:
            return Response({"ok": False, "error": str(error)})
        return Response({"ok": True, "error": ""})


def _shown(policy: Policy) -> dict[str, Any]:
    found = selectors.policies().prefetch_related("versions__author").get(pk=policy.pk)
    return dict(PolicyDetailOutput(found).data)


class GuardrailOutput(serializers.ModelSerializer[Guardrail]):
    class Meta:
        model = Guardrail
        fields = [
            "id", "name", "kind", "mode", "action", "scope", "ref", "on_input", "on_output", "entities", "terms", "threshold",
            "max_characters", "engine", "language", "spacy_model", "time_limit_ms", "when_unavailable", "created_at",
        ]  # fmt: skip


class GuardrailInput(StrictSerializer):
    name = serializers.CharField(max_length=60, validators=[name_validator])
    kind = serializers.ChoiceField(choices=Guardrail.Kind.choices)
    mode = serializers.ChoiceField(choices=Guardrail.Mode.choices, default=Guardrail.Mode.MONITOR)
    action = serializers.ChoiceField(choices=Guardrail.Action.choices, default=Guardrail.Action.BLOCK)
    scope = serializers.ChoiceField(choices=Guardrail.Scope.choices, default=Guardrail.Scope.TENANT)
    ref = serializers.CharField(max_length=128, default="", allow_blank=True)
    on_input = serializers.BooleanField(default=True)
    on_output = serializers.BooleanField(default=False)
    entities = serializers.ListField(child=serializers.CharField(max_length=24), default=list, max_length=40)
    terms = serializers.ListField(child=serializers.CharField(max_length=80), default=list, max_length=guardrails.MOST_TERMS)
    threshold = serializers.FloatField(default=0.5)
    max_characters = serializers.IntegerField(min_value=0, max_value=100_000_000, default=0)
    engine = serializers.ChoiceField(
        choices=Guardrail.Engine.choices, default=Guardrail.Engine.PATTERNS, help_text="Of personal data. `presidio` needs the extra."
    )
    language = serializers.RegexField(r"^[a-z]{2,3}$", default="en", help_text="Of the texts, for Presidio.")
    spacy_model = serializers.RegexField(
        r"^([A-Za-z_][A-Za-z0-9_]*)?$",
        max_length=64,
        default="",
        allow_blank=True,
        help_text="An installed one, for names of people and places.",
    )
    time_limit_ms = serializers.IntegerField(min_value=guardrails.SHORTEST_LIMIT_MS, max_value=guardrails.LONGEST_LIMIT_MS, default=1000)
    when_unavailable = serializers.ChoiceField(
        choices=Guardrail.WhenUnavailable.choices,
        default=Guardrail.WhenUnavailable.REFUSE,
        help_text="What an enforced guardrail does without an answer of Presidio in time.",
    )


class TryInput(StrictSerializer):
    text = serializers.CharField(max_length=guardrails.MOST_TRIED_CHARACTERS, trim_whitespace=False)


class TryOutput(serializers.Serializer[Any]):
    hits = serializers.DictField(child=serializers.IntegerField(), help_text="Entity to how often.")
    becomes = serializers.CharField()
    blocks = serializers.BooleanField()


@extend_schema_view(get=extend_schema(parameters=[OpenApiParameter("q", OpenApiTypes.STR)]))
class Guardrails(generics.ListAPIView[Guardrail]):
    """Checks of what is sent and answered."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_POLICIES}
    serializer_class = GuardrailOutput
    ordering = ("name",)

    def get_queryset(self) -> QuerySet[Guardrail]:
        return selectors.guardrails(self.request.query_params.get("q", ""))

    @extend_schema(request=GuardrailInput, responses={201: GuardrailOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        return Response(
            GuardrailOutput(guardrails.create_guardrail(actor=request.user, **body_of(request, GuardrailInput))).data, status=201
        )


class _OneGuardrail(APIView):
    def find(self, pk: int) -> Guardrail:
        return or_404(selectors.guardrails().filter(pk=pk).first())


class GuardrailDetail(_OneGuardrail):
    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_POLICIES, "DELETE": Permission.MANAGE_POLICIES}

    @extend_schema(responses={200: GuardrailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return Response(GuardrailOutput(self.find(pk)).data)

    @extend_schema(request=GuardrailInput, responses={200: GuardrailOutput, **BAD})
    def put(self, request: ApiRequest, pk: int) -> Response:
        guardrail = self.find(pk)
        changed = guardrails.change_guardrail(guardrail=guardrail, actor=request.user, **body_of(request, GuardrailInput))
        return Response(GuardrailOutput(changed).data)

    @extend_schema(responses={204: None, 404: ErrorSerializer})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        guardrails.delete_guardrail(guardrail=self.find(pk), actor=request.user)
        return Response(status=204)


class TryGuardrail(_OneGuardrail):
    """Run it over a text, as if it were enforced. The text is kept nowhere."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=TryInput, responses={200: TryOutput, **BAD})
    def post(self, request: ApiRequest, pk: int) -> Response:
        guardrail = self.find(pk)
        tried = guardrails.try_guardrail(guardrail=guardrail, **body_of(request, TryInput))
        return Response(TryOutput(tried).data)


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

    @extend_schema(request=QuickSwitchInput, responses={200: SwitchOutput, **BAD})
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
