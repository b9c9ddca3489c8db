"""The release log of the organisation."""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from governance.access import Permission
from governance.requests import ApiRequest
from rollouts import release_lines


class ReleaseLineOutput(serializers.Serializer[Any]):
    at = serializers.DateTimeField()
    what = serializers.CharField()
    about = serializers.CharField()
    who = serializers.CharField()
    text = serializers.CharField()


class ReleaseLogOutput(serializers.Serializer[Any]):
    next = serializers.CharField(allow_null=True, help_text="Address of the older lines.")
    results = ReleaseLineOutput(many=True)


class ReleaseLog(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="release_log",
        parameters=[
            OpenApiParameter("kind", OpenApiTypes.STR, enum=[tab for tab in release_lines.TABS if tab]),
            OpenApiParameter("rollout", OpenApiTypes.STR, description="Slug: its own lines, and those of its flags."),
            OpenApiParameter("from", OpenApiTypes.DATE, description="First UTC day."),
            OpenApiParameter("to", OpenApiTypes.DATE, description="Last UTC day."),
            OpenApiParameter("cursor", OpenApiTypes.STR),
        ],
        responses=ReleaseLogOutput,
    )
    def get(self, request: ApiRequest) -> Response:
        """What changed for callers, of all rollouts, flags, experiments, traffic shifts and incidents, newest first."""
        chosen = release_lines.chosen_from(request.query_params)
        lines, older = release_lines.release_lines(chosen, cursor=request.query_params.get("cursor", ""))
        following = replace_query_param(request.build_absolute_uri(), "cursor", older) if older else None
        return Response(ReleaseLogOutput({"next": following, "results": lines}).data)
