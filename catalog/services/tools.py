"""Tool servers and their tools: discovered by a real connection, pinned, and suspended when a definition changes."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog import lifecycle
from catalog.errors import CatalogError, NameTakenError, NothingPendingError, OutboundRefusedError
from catalog.lifecycle import DiscoveryDiff
from catalog.models import Project, Tool, ToolServer
from catalog.services import keys
from gateway.contract.outbound import OutboundError, check_url
from gateway.contract.sealing import Sealer
from governance import config
from governance.http import allow_list
from governance.models import FeatureClass, User
from governance.services import audit

if TYPE_CHECKING:
    from catalog import mcp_client


def register_tool_server(
    *,
    namespace: str,
    name: str,
    url: str,
    owner: User,
    actor: User,
    description: str = "",
    secret: str = "",
    feature_class: str = FeatureClass.TOOLS,
) -> tuple[ToolServer, DiscoveryDiff]:
    """Connect to an MCP server, list its tools and add both. Nothing is kept when the server does not answer.

    Raises NameTakenError, OutboundRefusedError or UnreachableError.
    """
    _check_url(url)
    if ToolServer.objects.filter(namespace=namespace).exists():
        raise NameTakenError(f"There is a tool server {namespace} already.", field="namespace")
    found = _client().discover(url, secret.strip())
    try:
        with transaction.atomic():
            server = ToolServer.objects.create(
                namespace=namespace,
                name=name,
                url=url,
                owner=owner,
                description=description,
                feature_class=feature_class,
                sealed_secret=Sealer(settings.SEALING_KEYS).seal(secret.strip()),
            )
            audit.record("tool_server.registered", actor=actor, target=server, url=url, tools=len(found.tools))
            diff = _store(server, found)
            config.changed()
    except IntegrityError as error:
        raise NameTakenError(f"There is a tool server {namespace} already.", field="namespace") from error
    return server, diff


@transaction.atomic
def change_tool_server(
    *,
    server: ToolServer,
    name: str,
    url: str,
    actor: User,
    description: str = "",
    feature_class: str = FeatureClass.TOOLS,
    secret: str | None = None,
) -> ToolServer:
    """Change a server. As with providers, another URL voids the secret unless a new one comes with it. Raises OutboundRefusedError."""
    server = ToolServer.objects.select_for_update().get(pk=server.pk)
    _check_url(url)
    moved = url != server.url
    if secret or moved:
        server.sealed_secret = Sealer(settings.SEALING_KEYS).seal((secret or "").strip())
    before = {"name": server.name, "url": server.url, "feature_class": server.feature_class}
    server.name, server.url, server.description, server.feature_class = name, url, description, feature_class
    server.save()
    audit.record(
        "tool_server.changed",
        actor=actor,
        target=server,
        before=before,
        after={"name": name, "url": url, "feature_class": feature_class},
        secret="replaced" if secret else "voided" if moved else "kept",
    )
    config.changed()
    return server


@transaction.atomic
def switch_tool_server(*, server: ToolServer, enabled: bool, actor: User, reason: str = "") -> ToolServer:
    """Offer the server's tools, or refuse all of them within seconds. Idempotent."""
    server = ToolServer.objects.select_for_update().get(pk=server.pk)
    if server.is_enabled != enabled:
        server.is_enabled = enabled
        server.save(update_fields=["is_enabled"])
        audit.record("tool_server.switched_on" if enabled else "tool_server.switched_off", actor=actor, target=server, reason=reason)
        config.changed()
    return server


def discover(*, server: ToolServer, actor: User) -> DiscoveryDiff:
    """Ask the server again. New tools become active, changed ones are suspended until approved, vanished ones are removed.

    A failure is kept on the server and raised: OutboundRefusedError or UnreachableError; its tools stay as they are.
    """
    try:
        found = _client().discover(server.url, server.open_secret())
    except CatalogError as error:
        with transaction.atomic():
            ToolServer.objects.filter(pk=server.pk).update(discovery_error=error.message[:300])
            audit.record("tool_server.discovery_failed", actor=actor, target=server, detail=error.message)
        raise
    with transaction.atomic():
        server = ToolServer.objects.select_for_update().get(pk=server.pk)
        diff = _store(server, found)
        audit.record(
            "tool_server.discovered",
            actor=actor,
            target=server,
            new=diff.new,
            changed=diff.changed,
            restored=diff.restored,
            removed=diff.removed,
        )
        config.changed()
    return diff


def _store(server: ToolServer, found: mcp_client.Discovery) -> DiscoveryDiff:
    """Write what was found beside what was known; in the caller's transaction."""
    server.protocol_version, server.server_info = found.protocol_version[:24], found.server_info
    server.discovered_at, server.discovery_error = timezone.now(), ""
    server.save(update_fields=["protocol_version", "server_info", "discovered_at", "discovery_error"])
    known = {tool.name: tool for tool in Tool.objects.select_for_update().filter(server=server)}
    diff = DiscoveryDiff()
    for definition in found.tools:
        tool = known.pop(definition["name"], None)
        digest = lifecycle.definition_digest(definition)
        if tool is None:
            _create_tool(server, definition, digest)
            diff.new.append(definition["name"])
        elif tool.digest == digest:
            (diff.unchanged if tool.status == Tool.Status.ACTIVE else diff.restored).append(tool.name)
            tool.status, tool.pending_definition = Tool.Status.ACTIVE, None
            tool.save(update_fields=["status", "pending_definition"])
        else:
            tool.status, tool.pending_definition = Tool.Status.SUSPENDED, definition
            tool.save(update_fields=["status", "pending_definition"])
            diff.changed.append(tool.name)
    for tool in known.values():
        if tool.status != Tool.Status.REMOVED:
            tool.status, tool.pending_definition = Tool.Status.REMOVED, None
            tool.save(update_fields=["status", "pending_definition"])
            diff.removed.append(tool.name)
    return diff


def _create_tool(server: ToolServer, definition: dict[str, Any], digest: str) -> Tool:
    return Tool.objects.create(
        server=server,
        name=definition["name"],
        title=definition["title"][:160],
        description=definition["description"],
        digest=digest,
        input_schema=definition["input_schema"],
        output_schema=definition["output_schema"],
        annotations=definition["annotations"],
    )


@transaction.atomic
def approve_tool(*, tool: Tool, actor: User) -> Tool:
    """Take the changed definition over and offer the tool again. Raises NothingPendingError."""
    tool = Tool.objects.select_for_update().select_related("server").get(pk=tool.pk)
    pending = tool.pending_definition
    if tool.status != Tool.Status.SUSPENDED or pending is None:
        raise NothingPendingError(f"No changed definition of {tool.full_name} waits for approval.")
    before = tool.digest
    changed = [change.field for change in lifecycle.definition_changes(tool.definition(), pending)]
    tool.title, tool.description = pending["title"][:160], pending["description"]
    tool.input_schema, tool.output_schema, tool.annotations = pending["input_schema"], pending["output_schema"], pending["annotations"]
    tool.digest, tool.status, tool.pending_definition = lifecycle.definition_digest(pending), Tool.Status.ACTIVE, None
    tool.save()
    audit.record("tool.approved", actor=actor, target=tool, before=before, after=tool.digest, changed=changed)
    config.changed()
    return tool


def run_tool(*, tool: Tool, arguments: dict[str, Any], project: Project, person: User) -> mcp_client.ToolRun:
    """Run the tool through our own gateway as the person's playground key, so that it is governed like any other call.

    Refusals by the gateway are in the result. Raises ProjectOffError.
    """
    session = keys.open_playground_session(project=project, person=person)
    run: mcp_client.ToolRun = _client().run(f"{settings.GATEWAY_URL}/mcp", session.token, tool.full_name, arguments)
    return run


def _client() -> ModuleType:
    """The MCP client. Its SDK takes more than a second to load, which workers and commands need not wait for."""
    return import_module("catalog.mcp_client")


def _check_url(url: str) -> None:
    try:
        check_url(url, allow_list())
    except OutboundError as error:
        raise OutboundRefusedError(str(error), field="url") from error
