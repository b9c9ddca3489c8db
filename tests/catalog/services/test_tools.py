"""Tool servers: discovery against a server that nobody here wrote, pinned definitions, refusals in words."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.errors import NameTakenError, NothingPendingError, OutboundRefusedError, UnreachableError
from catalog.lifecycle import definition_digest
from catalog.models import Tool, ToolServer
from catalog.services import tools
from governance.models import AuditEntry, Tenant, User
from tests.factories.catalog import make_project, make_tool, make_tool_server
from tests.gateway.conftest import SandboxUpstream


@pytest.fixture
def everything(acme: Tenant, alice: User, everything_url: str) -> ToolServer:
    server, _ = tools.register_tool_server(namespace="everything", name="Everything", url=everything_url, owner=alice, actor=alice)
    return server


def test_registering_discovers_tools_with_their_schemas(everything: ToolServer) -> None:
    echo = everything.tools.get(name="echo")

    assert everything.tools.count() >= 8
    assert echo.status == Tool.Status.ACTIVE
    assert echo.input_schema["properties"]["message"]["type"] == "string"
    assert echo.digest == definition_digest(echo.definition())
    assert everything.protocol_version == "2025-11-25"
    assert everything.discovered_at is not None


def test_server_of_the_new_protocol_era_is_discovered_too(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    server, diff = tools.register_tool_server(
        namespace="sandbox", name="Sandbox", url=sandbox.mcp_url, secret="sandbox-secret", owner=alice, actor=alice
    )

    assert len(diff.new) >= 3
    assert server.protocol_version == "2026-07-28"


def test_discovering_again_changes_nothing(everything: ToolServer, alice: User) -> None:
    diff = tools.discover(server=everything, actor=alice)

    assert diff.is_quiet
    assert len(diff.unchanged) == everything.tools.count()


def test_changed_definition_suspends_until_it_is_approved(everything: ToolServer, alice: User) -> None:
    echo = everything.tools.get(name="echo")
    Tool.objects.filter(pk=echo.pk).update(description="Harmless.", digest="0" * 64)

    diff = tools.discover(server=everything, actor=alice)
    echo.refresh_from_db()
    assert diff.changed == ["echo"]
    assert (echo.status, echo.description) == (Tool.Status.SUSPENDED, "Harmless.")
    assert echo.pending_definition is not None
    assert echo.pending_definition["description"] != "Harmless."

    approved = tools.approve_tool(tool=echo, actor=alice)
    assert approved.status == Tool.Status.ACTIVE
    assert approved.description != "Harmless."
    assert "description" in AuditEntry.objects.get(event="tool.approved").details["changed"]
    assert tools.discover(server=everything, actor=alice).is_quiet


def test_new_and_vanished_tools_are_told_apart(everything: ToolServer, alice: User) -> None:
    everything.tools.filter(name="echo").delete()
    make_tool(server=everything, name="gone")

    diff = tools.discover(server=everything, actor=alice)

    assert (diff.new, diff.removed) == (["echo"], ["gone"])
    assert everything.tools.get(name="gone").status == Tool.Status.REMOVED


def test_tool_that_returns_as_it_was_is_active_again(everything: ToolServer, alice: User) -> None:
    everything.tools.filter(name="echo").update(status=Tool.Status.REMOVED)

    diff = tools.discover(server=everything, actor=alice)

    assert diff.restored == ["echo"]


def test_nothing_is_kept_of_a_server_that_does_not_answer(acme: Tenant, alice: User) -> None:
    with pytest.raises(UnreachableError) as refused:
        tools.register_tool_server(namespace="closed", name="Closed", url="http://127.0.0.1:9/mcp", owner=alice, actor=alice)

    assert refused.value.field == "url"
    assert not ToolServer.objects.exists()


def test_server_that_is_no_mcp_server_is_named_so(acme: Tenant, alice: User, sandbox: SandboxUpstream) -> None:
    with pytest.raises(UnreachableError):
        tools.register_tool_server(
            namespace="wrong", name="Wrong", url=f"{sandbox.url}/v1/models", secret="sandbox-secret", owner=alice, actor=alice
        )


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/mcp", "https://localhost/mcp", "http://169.254.169.254/mcp"])
def test_private_host_is_refused(acme: Tenant, alice: User, settings: Any, url: str) -> None:
    settings.OUTBOUND_ALLOW = []

    with pytest.raises(OutboundRefusedError):
        tools.register_tool_server(namespace="inside", name="Inside", url=url, owner=alice, actor=alice)


def test_failed_discovery_is_kept_and_tools_stay(acme: Tenant, alice: User) -> None:
    server = make_tool_server(owner=alice)
    tool = make_tool(server=server)

    with pytest.raises(UnreachableError):
        tools.discover(server=server, actor=alice)

    server.refresh_from_db()
    tool.refresh_from_db()
    assert server.discovery_error
    assert tool.status == Tool.Status.ACTIVE


def test_namespace_is_used_once(acme: Tenant, alice: User, everything_url: str) -> None:
    make_tool_server(owner=alice, namespace="everything")

    with pytest.raises(NameTakenError):
        tools.register_tool_server(namespace="everything", name="Again", url=everything_url, owner=alice, actor=alice)


def test_nothing_to_approve_is_said(acme: Tenant, alice: User) -> None:
    tool = make_tool(server=make_tool_server(owner=alice))

    with pytest.raises(NothingPendingError):
        tools.approve_tool(tool=tool, actor=alice)


def test_new_url_voids_the_token_of_a_server(acme: Tenant, alice: User) -> None:
    server = tools.change_tool_server(
        server=make_tool_server(owner=alice), name="X", url="http://127.0.0.1:9/mcp", secret="token", actor=alice
    )
    assert server.open_secret() == "token"

    moved = tools.change_tool_server(server=server, name="X", url="http://127.0.0.1:10/mcp", actor=alice)

    assert moved.open_secret() == ""


def test_run_without_a_gateway_says_so(acme: Tenant, alice: User, settings: Any) -> None:
    settings.GATEWAY_URL = "http://127.0.0.1:9"
    tool = make_tool(server=make_tool_server(owner=alice))

    run = tools.run_tool(tool=tool, arguments={"text": "x"}, project=make_project(owner=alice), person=alice)

    assert not run.ok
    assert "can't be reached" in run.error
