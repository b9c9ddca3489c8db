"""Prompts and flows over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import flows, prompt_texts
from catalog import prompt_selectors as selectors
from catalog.api.endpoints import BAD, RowsView, one
from catalog.hooks import cost_figures
from catalog.models import Prompt, PromptVersion
from catalog.models.model import slug_validator
from catalog.services import prompts
from gateway.contract.prompts import ROLES
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import StrictSerializer
from governance.requests import ApiRequest


class MessageShape(StrictSerializer):
    role = serializers.ChoiceField(choices=[(role, role) for role in ROLES])
    content = serializers.CharField(max_length=prompt_texts.MOST_CHARACTERS, trim_whitespace=False, help_text="With places like {{name}}.")


class PromptVersionInput(StrictSerializer):
    messages = MessageShape(many=True, required=False, help_text="Of a prompt.")
    flow = serializers.DictField(
        required=False, help_text="Of a flow: its configuration by `GET flow-schema/`, for the program that runs it."
    )
    model = serializers.CharField(max_length=80, required=False, allow_blank=True, help_text="Called when a call names no model.")
    parameters = serializers.DictField(required=False, help_text="Fields of the request that a call does not give itself.")
    note = serializers.CharField(max_length=300, required=False, allow_blank=True)


class PromptInput(PromptVersionInput):
    slug = serializers.CharField(max_length=80, validators=[slug_validator], help_text="What callers send as `prompt.id`.")
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)
    kind = serializers.ChoiceField(choices=Prompt.Kind.choices, default=Prompt.Kind.CHAT)


class PromptChange(StrictSerializer):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)


class PromptOutput(serializers.ModelSerializer[Prompt]):
    owner = serializers.CharField(source="owner.email")
    newest_version = serializers.IntegerField(source="newest")
    labels = serializers.SerializerMethodField()

    class Meta:
        model = Prompt
        fields = ["slug", "name", "description", "kind", "owner", "newest_version", "labels", "archived_at", "created_at"]

    def get_labels(self, prompt: Prompt) -> dict[str, int]:
        """Label to the number of the version that it stands for."""
        return {label.name: label.version.number for label in prompt.labels.all()}


class PromptVersionOutput(serializers.ModelSerializer[PromptVersion]):
    prompt = serializers.CharField(source="prompt.slug")
    reference = serializers.CharField(source="__str__", help_text="As events and experiments name it.")
    messages = serializers.SerializerMethodField()
    flow = serializers.SerializerMethodField()
    model = serializers.CharField()
    parameters = serializers.DictField()
    variables = serializers.SerializerMethodField()
    author = serializers.CharField(source="author.email")
    decided_by = serializers.CharField(source="decided_by.email", default=None, allow_null=True)

    class Meta:
        model = PromptVersion
        fields = [
            "prompt", "number", "reference", "status", "messages", "flow", "model", "parameters", "variables", "digest", "note", "author",
            "created_at", "decided_by", "decided_at",
        ]  # fmt: skip

    @extend_schema_field(MessageShape(many=True, allow_null=True))
    def get_messages(self, version: PromptVersion) -> Any:
        return version.content.get("messages")

    def get_flow(self, version: PromptVersion) -> dict[str, Any] | None:
        flow: dict[str, Any] | None = version.content.get("flow")
        return flow

    def get_variables(self, version: PromptVersion) -> list[str]:
        return prompt_texts.variables_of(version.content)


class PieceOutput(serializers.Serializer[Any]):
    text = serializers.CharField()
    is_changed = serializers.BooleanField()


class DiffLineOutput(serializers.Serializer[Any]):
    """One line of either side, in pieces; null where the side has none."""

    before = PieceOutput(many=True, allow_null=True)
    after = PieceOutput(many=True, allow_null=True)


class LabelInput(StrictSerializer):
    version = serializers.IntegerField(min_value=1)


class PromptReason(StrictSerializer):
    reason = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


def _body(prompt: Prompt) -> Any:
    return PromptOutput(one(selectors.all_prompts(), pk=prompt.pk)).data


def _prompt(slug: str) -> Prompt:
    found: Prompt = one(selectors.all_prompts(), slug=slug)
    return found


def _version(prompt: Prompt, number: int) -> PromptVersion:
    if number > 2**31 - 1:
        raise NotFound
    found: PromptVersion = one(selectors.versions_of(prompt).select_related("prompt", "author", "decided_by"), number=number)
    return found


class Prompts(RowsView):
    """Prompts and flows, by slug."""

    access = {"GET": Permission.VIEW, "POST": Permission.USE_GATEWAY}
    serializer_class = PromptOutput
    ordering = ("slug",)

    def get_queryset(self) -> QuerySet[Prompt]:
        given = self.request.query_params
        return selectors.prompts(given.get("q", ""), archived=given.get("archived") == "true")

    @extend_schema(
        operation_id="prompts_list",
        parameters=[OpenApiParameter("q", OpenApiTypes.STR), OpenApiParameter("archived", OpenApiTypes.BOOL)],
        responses=PromptOutput(many=True),
    )
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="prompts_create", request=PromptInput, responses={201: PromptOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        """With its first version, a draft."""
        data = body_of(request, PromptInput)
        return Response(_body(prompts.create_prompt(actor=request.user, **{"name": data["slug"], **data})), status=201)


class FlowSchema(APIView):
    """The JSON Schema of a flow's configuration."""

    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="flow_schema_retrieve", responses={200: OpenApiTypes.OBJECT})
    def get(self, request: ApiRequest) -> Response:
        return Response(flows.schema())


class PromptDetail(APIView):
    access = {"GET": Permission.VIEW, "PATCH": Permission.USE_GATEWAY}

    @extend_schema(operation_id="prompts_retrieve", responses={200: PromptOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(PromptOutput(_prompt(slug)).data)

    @extend_schema(request=PromptChange, responses={200: PromptOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        prompt = _prompt(slug)
        said = {"name": prompt.name, "description": prompt.description, **body_of(request, PromptChange)}
        return Response(_body(prompts.describe_prompt(prompt=prompt, actor=request.user, **said)))


class PromptVersions(generics.ListAPIView[PromptVersion]):
    """Versions, newest first."""

    access = {"GET": Permission.VIEW, "POST": Permission.USE_GATEWAY}
    serializer_class = PromptVersionOutput
    ordering = ("-number",)

    def get_queryset(self) -> QuerySet[PromptVersion]:
        return selectors.versions_of(_prompt(self.kwargs["slug"])).select_related("prompt", "author", "decided_by")

    @extend_schema(operation_id="prompt_versions_create", request=PromptVersionInput, responses={201: PromptVersionOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """A new draft. The same as the newest version changes nothing and is answered with that one."""
        prompt = _prompt(slug)
        version = prompts.write_version(prompt=prompt, actor=request.user, **body_of(request, PromptVersionInput))
        return Response(PromptVersionOutput(_version(prompt, version.number)).data, status=201)


class PromptVersionDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="prompt_versions_retrieve", responses={200: PromptVersionOutput, **BAD})
    def get(self, request: ApiRequest, slug: str, number: int) -> Response:
        return Response(PromptVersionOutput(_version(_prompt(slug), number)).data)


class PromptVersionDiff(APIView):
    """What changed from another version to this one, line by line and word by word."""

    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: DiffLineOutput(many=True), **BAD})
    def get(self, request: ApiRequest, slug: str, number: int, other: int) -> Response:
        prompt = _prompt(slug)
        before, after = (
            prompt_texts.as_text(one.content, one.model, one.parameters) for one in (_version(prompt, other), _version(prompt, number))
        )

        def pieces(side: Any) -> Any:
            return None if side is None else [{"text": text, "is_changed": changed} for text, changed in side]

        rows = [{"before": pieces(row.before), "after": pieces(row.after)} for row in prompt_texts.side_by_side(before, after)]
        return Response(DiffLineOutput(rows, many=True).data)


class PromptVersionSubmit(APIView):
    """Ask for approval of a draft."""

    access = {"POST": Permission.USE_GATEWAY}

    @extend_schema(request=None, responses={200: PromptVersionOutput, **BAD})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        prompt = _prompt(slug)
        prompts.submit_version(version=_version(prompt, number), actor=request.user)
        return Response(PromptVersionOutput(_version(prompt, number)).data)


class PromptVersionApprove(APIView):
    """Approve what somebody else wrote and submitted. From now on calls may name it."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: PromptVersionOutput, **BAD})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        prompt = _prompt(slug)
        prompts.approve_version(version=_version(prompt, number), actor=request.user)
        return Response(PromptVersionOutput(_version(prompt, number)).data)


class PromptVersionReject(APIView):
    """Make a submitted version a draft again."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=PromptReason, responses={200: PromptVersionOutput, **BAD})
    def post(self, request: ApiRequest, slug: str, number: int) -> Response:
        prompt = _prompt(slug)
        prompts.reject_version(version=_version(prompt, number), actor=request.user, **body_of(request, PromptReason))
        return Response(PromptVersionOutput(_version(prompt, number)).data)


class PromptLabelDetail(APIView):
    """A name, such as production, for one approved version."""

    access = {"PUT": Permission.MANAGE_CATALOG, "DELETE": Permission.MANAGE_CATALOG}

    @extend_schema(request=LabelInput, responses={200: PromptOutput, **BAD})
    def put(self, request: ApiRequest, slug: str, name: str) -> Response:
        prompt = _prompt(slug)
        version = _version(prompt, body_of(request, LabelInput)["version"])
        prompts.set_label(prompt=prompt, name=name, version=version, actor=request.user)
        return Response(_body(prompt))

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, slug: str, name: str) -> Response:
        prompts.remove_label(label=one(_prompt(slug).labels.select_related("prompt", "version"), name=name), actor=request.user)
        return Response(status=204)


class PromptUsageOutput(serializers.Serializer[Any]):
    """The last 30 UTC days of one version."""

    version = serializers.IntegerField()
    calls = serializers.IntegerField()
    errors = serializers.IntegerField(  # type: ignore[assignment]  # a field of this name, not the serializer's own errors
        help_text="Of calls: failed, or left by the caller."
    )
    refused = serializers.IntegerField(help_text="Of calls.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.DecimalField(max_digits=34, decimal_places=14, allow_null=True, help_text="Null when nothing was priced.")
    cost_per_call_usd = serializers.DecimalField(
        max_digits=34, decimal_places=14, allow_null=True, help_text="Over calls that were let through and have a price."
    )
    unpriced_calls = serializers.IntegerField()


class PromptUsage(APIView):
    """What calls of each version came to over the last 30 UTC days, newest version first; versions without calls are missing."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(operation_id="prompts_usage", responses={200: PromptUsageOutput(many=True), **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(PromptUsageOutput(cost_figures().usage_by_prompt_version(_prompt(slug).slug), many=True).data)


class PromptArchive(APIView):
    """Take it out of use, or, with `restore`, into use again. Its versions stay."""

    access = {"POST": Permission.MANAGE_CATALOG}
    restore = False

    @extend_schema(request=None, responses={200: PromptOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        act = prompts.restore_prompt if self.restore else prompts.archive_prompt
        return Response(_body(act(prompt=_prompt(slug), actor=request.user)))
