"""Tools: lists, registering a server, its page, a tool's page with a form made from its schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse

from catalog import lifecycle, samples, selectors
from catalog.forms.fields import ReasonForm
from catalog.forms.tools import ToolServerChangeForm, ToolServerForm
from catalog.models import Project, Tool, ToolServer
from catalog.schema_form import ArgumentsForm
from catalog.services import tools as services
from catalog.views.playground import chosen_project
from governance.access import Permission, requires
from governance.errors import DomainError
from governance.pages import keyset_page, render_page, try_act, try_service
from governance.requests import MemberRequest

if TYPE_CHECKING:
    from catalog.mcp_client import ToolRun


def _server(request: MemberRequest, namespace: str) -> ToolServer:
    return get_object_or_404(selectors.servers_visible_to(request.membership), namespace=namespace)


def _tool(request: MemberRequest, namespace: str, name: str) -> Tool:
    return get_object_or_404(selectors.tools_visible_to(request.membership), server__namespace=namespace, name=name)


def _list(request: MemberRequest, *, area: str) -> HttpResponse:
    query = request.GET.get("q", "").strip()
    tools = selectors.tools_visible_to(request.membership)
    if area == "build":
        tools = tools.filter(status=Tool.Status.ACTIVE, server__is_enabled=True)
    if query:
        tools = (
            tools.filter(name__icontains=query)
            | tools.filter(title__icontains=query)
            | tools.filter(description__icontains=query)
            | tools.filter(server__namespace__icontains=query)
        )
    page = keyset_page(tools, order=["server__namespace", "name"], cursor=request.GET.get("cursor", ""))
    return render_page(
        request,
        "catalog/tool_list.html",
        partial="tool-table",
        context={
            "page": page,
            "rows": [(row, lifecycle.effect_of(row.tool.annotations)) for row in selectors.tool_rows(page.rows)],
            "query": query,
            "area": area,
            "servers": selectors.servers_visible_to(request.membership),
            "suspended": selectors.suspended_tools().count(),
            "list_url": reverse(f"{area}-tools"),
            "manages": request.membership.can(Permission.MANAGE_CATALOG),
        },
    )


@requires(Permission.USE_GATEWAY)
def build_tools(request: MemberRequest) -> HttpResponse:
    return _list(request, area="build")


@requires(Permission.VIEW_OPERATE)
def operate_tools(request: MemberRequest) -> HttpResponse:
    return _list(request, area="operate")


@requires(Permission.MANAGE_CATALOG, "GET", "POST")
def tool_server_new(request: MemberRequest) -> HttpResponse:
    form = ToolServerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = try_service(form, lambda: services.register_tool_server(owner=request.user, actor=request.user, **form.cleaned_data))
        if made is not None:
            server, diff = made
            messages.success(request, f"{server.name} is registered with {len(diff.new)} tool{'s' if len(diff.new) != 1 else ''}.")
            return redirect(reverse("tool-server", args=[server.namespace]))
    return render_page(
        request, "catalog/tool_server_form.html", partial="tool-server-form", context={"form": form}, status=422 if form.errors else 200
    )


@requires(Permission.VIEW)
def tool_server(request: MemberRequest, namespace: str) -> HttpResponse:
    return _server_page(request, _server(request, namespace))


def _server_page(request: MemberRequest, server: ToolServer, *, status: int = 200, **extra: Any) -> HttpResponse:
    manages = request.membership.can(Permission.MANAGE_CATALOG)
    tools = selectors.tools_visible_to(request.membership).filter(server=server)
    initial = {name: getattr(server, name) for name in ("name", "url", "description", "feature_class")}
    return render_page(
        request,
        "catalog/tool_server.html",
        partial="tool-server-tools",
        status=status,
        context={
            "server": server,
            "manages": manages,
            "rows": [(row, lifecycle.effect_of(row.tool.annotations)) for row in selectors.tool_rows(tools)],
            "form": ToolServerChangeForm(initial=initial),
            "config": samples.mcp_config(settings.BASE_URL, server.namespace),
            **extra,
        },
    )


@requires(Permission.MANAGE_CATALOG, "POST")
def tool_server_edit(request: MemberRequest, namespace: str) -> HttpResponse:
    server, form = _server(request, namespace), ToolServerChangeForm(request.POST)
    if form.is_valid():
        data = {**form.cleaned_data, "secret": form.cleaned_data["secret"] or None}
        if try_service(form, lambda: services.change_tool_server(server=server, actor=request.user, **data)):
            messages.success(request, f"{server.namespace} is changed.")
            return redirect(reverse("tool-server", args=[namespace]))
    return _server_page(request, server, form=form, form_open=True, status=422)


@requires(Permission.MANAGE_CATALOG, "POST")
def tool_server_discover(request: MemberRequest, namespace: str) -> HttpResponse:
    """Ask the server again and show what is different."""
    server = _server(request, namespace)
    try:
        diff = services.discover(server=server, actor=request.user)
    except DomainError as error:
        return _server_page(request, _server(request, namespace), discovery_error=error.message)
    return _server_page(request, _server(request, namespace), diff=diff)


@requires(Permission.MANAGE_CATALOG, "POST")
def tool_server_switch(request: MemberRequest, namespace: str) -> HttpResponse:
    server, form = _server(request, namespace), ReasonForm(request.POST)
    enabled = request.POST.get("enabled") == "1"
    services.switch_tool_server(
        server=server, enabled=enabled, actor=request.user, reason=form.cleaned_data["reason"] if form.is_valid() else ""
    )
    messages.success(request, f"{server.name} is switched {'on' if enabled else 'off'}. The gateway follows within about 2 s.")
    return redirect(reverse("tool-server", args=[namespace]))


@requires(Permission.VIEW)
def tool_detail(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    return _tool_page(request, _tool(request, namespace, name))


def _tool_page(
    request: MemberRequest,
    tool: Tool,
    *,
    form: ArgumentsForm | None = None,
    run: ToolRun | None = None,
    project: Project | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    changes = lifecycle.definition_changes(tool.definition(), tool.pending_definition) if tool.pending_definition else []
    membership = request.membership
    return render_page(
        request,
        "catalog/tool_detail.html",
        partial="tool-run",
        status=status,
        context={
            "tool": tool,
            "server": tool.server,
            "effect": lifecycle.effect_of(tool.annotations),
            "form": form or ArgumentsForm(tool.input_schema),
            "run": run,
            "problem": problem,
            "project": project or chosen_project(request),
            "projects": selectors.enabled_projects(),
            "changes": changes,
            "input_schema": json.dumps(tool.input_schema, indent=2),
            "output_schema": json.dumps(tool.output_schema, indent=2) if tool.output_schema else "",
            "row": selectors.tool_rows([tool])[0],
            "config": samples.mcp_config(settings.BASE_URL, tool.server.namespace),
            "manages": membership.can(Permission.MANAGE_CATALOG),
            "may_run": membership.can(Permission.USE_GATEWAY),
            "can_run": tool.status == Tool.Status.ACTIVE and tool.server.is_enabled,
        },
    )


@requires(Permission.USE_GATEWAY, "POST")
def tool_run(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    """Run the tool through the gateway. The answer is the same page with the result."""
    tool = _tool(request, namespace, name)
    project = selectors.enabled_projects().filter(slug=request.POST.get("project", "")).first()
    form = ArgumentsForm(tool.input_schema, request.POST)
    if project is None:
        return _tool_page(
            request, tool, form=form, problem="Choose a project that is switched on: the call is shown back to it.", status=422
        )
    if not form.is_valid():
        return _tool_page(request, tool, form=form, project=project, status=422)
    try:
        run = services.run_tool(tool=tool, arguments=form.arguments(), project=project, person=request.user)
    except DomainError as error:
        return _tool_page(request, tool, form=form, project=project, problem=error.message, status=422)
    return _tool_page(request, tool, form=form, project=project, run=run)


@requires(Permission.MANAGE_CATALOG, "POST")
def tool_approve(request: MemberRequest, namespace: str, name: str) -> HttpResponse:
    tool = _tool(request, namespace, name)
    try_act(
        request,
        lambda: services.approve_tool(tool=tool, actor=request.user),
        f"{tool.full_name} is offered again, with the new definition.",
    )
    return redirect(reverse("tool-detail", args=[namespace, name]))
