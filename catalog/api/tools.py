"""Tool servers and tools over REST."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD, NETWORK, RowsView, named_in_body, one
from catalog.api.serializers.fields import SwitchInput
from catalog.api.serializers.tools import DiscoveryOutput, ToolOutput, ToolRunInput, ToolRunOutput, ToolServerInput, ToolServerOutput
from catalog.models import Tool, ToolServer
from catalog.services import tools as tool_services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.requests import ApiRequest


class ToolServers(RowsView):
    """MCP servers behind the gateway."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}
    serializer_class = ToolServerOutput
    ordering = ("namespace",)

    def get_queryset(self) -> QuerySet[ToolServer]:
        return selectors.servers_visible_to(self.request.membership)

    @extend_schema(operation_id="tool_servers_list", responses=ToolServerOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="tool_servers_create", request=ToolServerInput, responses={201: DiscoveryOutput, **NETWORK})
    def post(self, request: ApiRequest) -> Response:
        """Connect, discover the tools, and keep both. Nothing is kept when the server does not answer."""
        server, diff = tool_services.register_tool_server(owner=request.user, actor=request.user, **body_of(request, ToolServerInput))
        return Response(_discovery_body(server, diff), status=201)


def _discovery_body(server: ToolServer, diff: Any) -> Any:
    return DiscoveryOutput({"server": one(selectors.tool_servers(), pk=server.pk), "diff": diff}).data


class ToolServerDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="tool_servers_retrieve", responses={200: ToolServerOutput, **BAD})
    def get(self, request: ApiRequest, namespace: str) -> Response:
        return Response(ToolServerOutput(one(selectors.servers_visible_to(request.membership), namespace=namespace)).data)


class ToolServerDiscover(APIView):
    """Ask the server again. Changed tools are suspended until their new definition is approved."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: DiscoveryOutput, **NETWORK})
    def post(self, request: ApiRequest, namespace: str) -> Response:
        server = one(selectors.tool_servers(), namespace=namespace)
        return Response(_discovery_body(server, tool_services.discover(server=server, actor=request.user)))


class ToolServerSwitch(APIView):
    """Offer the server's tools, or refuse all of them within seconds."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=SwitchInput, responses={200: ToolServerOutput, **BAD})
    def post(self, request: ApiRequest, namespace: str) -> Response:
        server = tool_services.switch_tool_server(
            server=one(selectors.tool_servers(), namespace=namespace), actor=request.user, **body_of(request, SwitchInput)
        )
        return Response(ToolServerOutput(one(selectors.tool_servers(), pk=server.pk)).data)


class Tools(RowsView):
    """Tools with their schemas."""

    access = {"GET": Permission.VIEW}
    serializer_class = ToolOutput
    ordering = ("server__namespace", "name")

    def get_queryset(self) -> QuerySet[Tool]:
        return selectors.tools_visible_to(self.request.membership)

    @extend_schema(operation_id="tools_list", responses=ToolOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)


class ToolDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="tools_retrieve", responses={200: ToolOutput, **BAD})
    def get(self, request: ApiRequest, namespace: str, name: str) -> Response:
        return Response(ToolOutput(one(selectors.tools_visible_to(request.membership), server__namespace=namespace, name=name)).data)


class ToolApprove(APIView):
    """Take a changed definition over and offer the tool again."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: ToolOutput, **BAD})
    def post(self, request: ApiRequest, namespace: str, name: str) -> Response:
        tool = one(selectors.tools_visible_to(request.membership), server__namespace=namespace, name=name)
        return Response(ToolOutput(tool_services.approve_tool(tool=tool, actor=request.user)).data)


class ToolRun(APIView):
    """Run a tool through the gateway, in the person's name. A refusal or a failing tool is a result, not an error."""

    access = {"POST": Permission.USE_GATEWAY}

    @extend_schema(request=ToolRunInput, responses={200: ToolRunOutput, **BAD})
    def post(self, request: ApiRequest, namespace: str, name: str) -> Response:
        tool = one(selectors.tools_visible_to(request.membership), server__namespace=namespace, name=name)
        data = body_of(request, ToolRunInput)
        project = named_in_body(data["project"], selectors.projects(), "project", slug=data["project"])
        run = tool_services.run_tool(tool=tool, arguments=data["arguments"], project=project, person=request.user)
        return Response(ToolRunOutput(run).data)
