"""Policies over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from gateway.contract import policies as language
from governance import control_selectors as selectors
from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer, StrictSerializer
from governance.models import Policy, PolicyVersion
from governance.models.policy import name_validator
from governance.requests import ApiRequest
from governance.services import policies


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

    @extend_schema(request=PolicyInput, responses={201: PolicyDetailOutput, **ERRORS})
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

    @extend_schema(responses={204: None, **ERRORS})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        policies.delete_policy(policy=self.find(pk), actor=request.user)
        return Response(status=204)


class PolicyVersions(_OnePolicy):
    """Write a new version; what is in force stays in force."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=VersionInput, responses={201: VersionOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        policy = self.find(pk)
        return Response(
            VersionOutput(policies.write_version(policy=policy, actor=request.user, **body_of(request, VersionInput))).data, status=201
        )


class PolicyReplay(_OnePolicy):
    """Play a version over the calls of the last seven days. Changes nothing else."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=ReplayInput, responses={200: VersionOutput, **ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        policy = self.find(pk)
        version = self.version(policy, body_of(request, ReplayInput).get("version"))
        policies.replay_version(version=version, actor=request.user)
        return Response(VersionOutput(version).data)


class PolicyMode(_OnePolicy):
    """Off, dry run or enforced. Enforcing takes a replayed version and somebody who did not write it."""

    access = {"POST": Permission.MANAGE_POLICIES}

    @extend_schema(request=ModeInput, responses={200: PolicyDetailOutput, **ERRORS})
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
