"""Required tags for programs."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import tag_selectors
from costs.api import asked as asked_of
from costs.api.serializers import ExactField
from costs.models import RequiredTag, RequiredTagVersion
from costs.services import required_tags as services
from costs.services.required_tags import Rule
from governance.access import Permission
from governance.api.inputs import body_of, query_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}
_ONE: dict[int, Any] = {**_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer}


class RequiredTagVersionOutput(serializers.ModelSerializer[RequiredTagVersion]):
    author = serializers.CharField(source="author.email")

    class Meta:
        model = RequiredTagVersion
        fields = ["number", "values", "projects", "environments", "fact", "note", "author", "created_at", "preview", "previewed_at"]


class RequiredTagOutput(serializers.ModelSerializer[RequiredTag]):
    active_version = serializers.IntegerField(source="active.number", default=None, read_only=True)
    newest_version = serializers.IntegerField(source="newest", read_only=True)

    class Meta:
        model = RequiredTag
        fields = ["name", "description", "mode", "enforce_on", "active_version", "newest_version", "created_at"]


class RequiredTagDetailOutput(RequiredTagOutput):
    versions = RequiredTagVersionOutput(many=True)

    class Meta(RequiredTagOutput.Meta):
        fields = [*RequiredTagOutput.Meta.fields, "versions"]


class TagRuleInput(StrictSerializer):
    values = serializers.ListField(
        child=serializers.CharField(max_length=120),
        default=list,
        max_length=services.MOST_VALUES,
        help_text="With `*`, `?`, `[0-9]`; empty: anything.",
    )
    projects = serializers.ListField(
        child=serializers.SlugField(max_length=48), default=list, max_length=500, help_text="Empty: every one."
    )
    environments = serializers.ListField(child=serializers.CharField(max_length=16), default=list, max_length=50, help_text="Empty: all.")
    fact = serializers.ChoiceField(
        choices=RequiredTagVersion.Fact.choices, default="", help_text="What is taken where neither the caller nor a default says it."
    )
    note = serializers.CharField(max_length=300, default="", allow_blank=True)


class RequiredTagInput(TagRuleInput):
    name = serializers.CharField(max_length=40)
    description = serializers.CharField(max_length=300, default="", allow_blank=True)


class TagVersionChoice(StrictSerializer):
    version = serializers.IntegerField(min_value=1, required=False, help_text="The newest, when left out.")


class TagModeInput(TagVersionChoice):
    mode = serializers.ChoiceField(choices=RequiredTag.Mode.choices)
    enforce_on = serializers.DateField(required=False, help_text="The first day on which calls are refused; today, when left out.")
    reason = serializers.CharField(max_length=300, default="", allow_blank=True)


class TagReportQuery(StrictSerializer):
    """Whole UTC days, default the present month."""

    tag = serializers.CharField(max_length=40, default="", help_text="Left out: all that a call must carry.")
    group = serializers.ChoiceField(choices=list(tag_selectors.GROUPS), default="project")
    to = serializers.DateField(required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {"from": serializers.DateField(required=False), **super().get_fields()}  # `from` cannot be an attribute


class TagCoverageOutput(serializers.Serializer[Any]):
    calls = serializers.IntegerField(help_text="Served ones that were asked for it.")
    tagged_calls = serializers.IntegerField(source="tagged")
    calls_percent = serializers.FloatField(allow_null=True)
    cost_usd = ExactField(source="cost")
    tagged_cost_usd = ExactField(source="tagged_cost")
    cost_percent = serializers.FloatField(allow_null=True)
    unpriced_calls = serializers.IntegerField(source="unpriced")
    refused_calls = serializers.IntegerField(source="denied", help_text="For want of it.")


class TagLineOutput(TagCoverageOutput):
    value = serializers.CharField(help_text="Empty where it is not known.")
    name = serializers.CharField()


class TagReportOutput(serializers.Serializer[Any]):
    tag = serializers.CharField()
    group = serializers.CharField()
    first_day = serializers.DateField(source="period.first")
    last_day = serializers.DateField(source="period.last")
    total = TagCoverageOutput()
    lines = serializers.SerializerMethodField(help_text="Worst first.")
    unasked_calls = serializers.IntegerField(help_text="Served calls that it does not cover.")
    unasked_cost_usd = ExactField(source="unasked_cost")

    @extend_schema_field(TagLineOutput(many=True))
    def get_lines(self, found: tag_selectors.Report) -> Any:
        return [{**TagCoverageOutput(line.figures).data, "value": line.value, "name": line.label} for line in found.lines]


class RequiredTags(generics.ListAPIView[RequiredTag]):
    """Tags that calls must carry."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = RequiredTagOutput
    ordering = ("name",)

    def get_queryset(self) -> QuerySet[RequiredTag]:
        return tag_selectors.required_tags()

    @extend_schema(request=RequiredTagInput, responses={201: RequiredTagDetailOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        asked = body_of(request, RequiredTagInput)
        made = services.create_required_tag(
            name=asked["name"], description=asked["description"], rule=_rule(asked), note=asked["note"], actor=request.user
        )
        return Response(_shown(made), status=201)


class RequiredTagDetail(APIView):
    access = {"GET": Permission.VIEW_COSTS, "DELETE": Permission.MANAGE_COSTS}

    @extend_schema(operation_id="v1_required_tag_retrieve", responses={200: RequiredTagDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, name: str) -> Response:
        return Response(_shown(_find(name)))

    @extend_schema(responses={204: None, **_ONE})
    def delete(self, request: ApiRequest, name: str) -> Response:
        services.delete_required_tag(required=_find(name), actor=request.user)
        return Response(status=204)


class RequiredTagVersions(APIView):
    """Write a new version; what is in force stays in force."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=TagRuleInput, responses={201: RequiredTagVersionOutput, **_ONE})
    def post(self, request: ApiRequest, name: str) -> Response:
        required, asked = _find(name), body_of(request, TagRuleInput)
        made = services.write_version(required=required, rule=_rule(asked), note=asked["note"], actor=request.user)
        return Response(RequiredTagVersionOutput(made).data, status=201)


class RequiredTagPreview(APIView):
    """Judge the calls of the last seven days by a version. Refuses nothing."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=TagVersionChoice, responses={200: RequiredTagVersionOutput, **_ONE})
    def post(self, request: ApiRequest, name: str) -> Response:
        version = _version(_find(name), body_of(request, TagVersionChoice))
        services.preview_version(version=version, actor=request.user)
        return Response(RequiredTagVersionOutput(version).data)


class RequiredTagMode(APIView):
    """Off, counted or enforced from a day on. Enforcing takes a previewed version and somebody who did not write it."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=TagModeInput, responses={200: RequiredTagDetailOutput, **_ONE})
    def post(self, request: ApiRequest, name: str) -> Response:
        required, asked = _find(name), body_of(request, TagModeInput)
        version = _version(required, asked)
        services.set_mode(
            required=required, mode=asked["mode"], version=version, enforce_on=asked.get("enforce_on"), actor=request.user,
            reason=asked["reason"],
        )  # fmt: skip
        return Response(_shown(required))


class RequiredTagReport(APIView):
    """Who has tagged how many calls and how much money."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(parameters=[TagReportQuery], responses={200: TagReportOutput, **_ERRORS})
    def get(self, request: ApiRequest) -> Response:
        asked = query_of(request, TagReportQuery)
        return Response(TagReportOutput(tag_selectors.report(asked["tag"], asked_of.period(asked), asked["group"])).data)


def _rule(asked: dict[str, Any]) -> Rule:
    return Rule(asked["values"], asked["projects"], asked["environments"], asked["fact"])


def _find(name: str) -> RequiredTag:
    required = tag_selectors.required_tags().filter(name=name).first()
    if required is None:
        raise NotFound
    return required


def _version(required: RequiredTag, asked: dict[str, Any]) -> RequiredTagVersion:
    versions = tag_selectors.versions_of(required)
    version = versions.filter(number=asked["version"]).first() if "version" in asked else versions.first()
    if version is None:
        raise NotFound
    return version


def _shown(required: RequiredTag) -> dict[str, Any]:
    return dict(RequiredTagDetailOutput(tag_selectors.required_tags().prefetch_related("versions__author").get(pk=required.pk)).data)
