"""A tenant's snapshot as one plane serves it: the immutable snapshot and what is worked out from it once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema_rs
import orjson
from yarl import URL

from gateway.contract.credentials import CredentialError
from gateway.contract.credentials import Key as PlainKey
from gateway.contract.credentials import read as read_credential
from gateway.contract.events import Kind, Step
from gateway.contract.guardrails import GuardSet
from gateway.contract.outbound import AllowList, check_url
from gateway.contract.platforms import Endpoint
from gateway.contract.policies import Decision, PolicySet
from gateway.contract.sealing import Sealer
from gateway.contract.snapshot import Deployment, Key, Limit, Resource, TenantSnapshot, Tool, ToolServer
from gateway.contract.tags import TagRules
from gateway.contract.treatments import comparison_of
from gateway.plane.upstream.clouds import Cloud
from gateway.plane.upstream.wire import header_lines

# What a call of each kind can use up; a limit on another resource says nothing about it.
_USED_BY: dict[Kind, frozenset[Resource]] = {
    "chat": frozenset(("requests", "input_tokens", "output_tokens", "money", "concurrent")),
    "embeddings": frozenset(("requests", "input_tokens", "money", "concurrent")),
    "tool": frozenset(("requests", "concurrent")),
}


Outcome = tuple[list[Step], Decision | None, frozenset[str]]
"""What the policies said of a call: the lines of its record, the first that refuses, and the deployments that may not be called."""


@dataclass(frozen=True, slots=True)
class Target:
    """A deployment made ready to be called. Holds the opened secret, so it is never logged or shown."""

    deployment: Deployment
    urls: dict[str, URL]
    """By path below the base URL, made when first used."""
    headers: dict[str, str]
    head: bytes
    """The same as they are sent."""
    secrets: tuple[str, ...]
    cloud: Cloud | None = None
    """What a platform or a credential that is more than a key adds to the exchange; None for most."""

    def __repr__(self) -> str:
        return f"Target({self.deployment.id})"

    def url(self, path: str) -> URL:
        url = self.urls.get(path)
        if url is None:
            url = self.urls[path] = URL(f"{self.deployment.base_url.rstrip('/')}/{path}")
        return url


@dataclass(frozen=True, slots=True)
class PublishedTool:
    """A tool under the name that callers use."""

    name: str
    server: ToolServer
    tool: Tool


class Served:
    """One version of one tenant's configuration. Replaced as a whole, never changed."""

    def __init__(self, snapshot: TenantSnapshot, sealer: Sealer, allow: AllowList) -> None:
        self.snapshot = snapshot
        self.tenant = snapshot.tenant
        self.version = snapshot.version
        self.zone = ZoneInfo(snapshot.time_zone)
        self.tools: dict[str, PublishedTool] = {
            f"{server.namespace}__{tool.name}": PublishedTool(f"{server.namespace}__{tool.name}", server, tool)
            for server in snapshot.tool_servers.values()
            if server.enabled
            for tool in server.tools
            if tool.enabled
        }
        self.policies = PolicySet(snapshot.policies)
        self.decisions: dict[tuple[Any, ...], Outcome] = {}
        """What the policies said of calls that agree in all attributes."""
        self.required_tags = TagRules(snapshot.required_tags)
        self.guards = GuardSet(snapshot.guardrails)
        self.bound_flags = {flag.model: (flag, comparison_of(flag.variants)) for flag in snapshot.flags.values() if flag.model}
        self._sealer = sealer
        self._allow = allow
        self._targets: dict[str, Target] = {}
        self._limits: dict[tuple[str, Kind], tuple[Limit, ...]] = {}
        self._scoped: dict[tuple[str, str], tuple[Limit, ...]] = {}
        for limit in (*snapshot.budgets, *snapshot.usage_limits):
            named = (limit.scope, limit.scope_name)
            self._scoped[named] = (*self._scoped.get(named, ()), limit)
        self._limited_tags = sorted({name.partition("=")[0] for scope, name in self._scoped if scope == "tag"})
        self._validators: dict[str, jsonschema_rs.Validator] = {}

    def limits_of(
        self, key: Key, kind: Kind, *, agent: str | None = None, model: str | None = None, tags: Mapping[str, str]
    ) -> tuple[Limit, ...]:
        """Every limit that such a call with this key is under: the key's, its project's and environment's, the tenant's, its agent's, model's and tags'."""
        limits = self._limits.get((key.id, kind))
        if limits is None:
            project = self.snapshot.projects.get(key.project)
            scopes = (
                ("key", key.id),
                ("project", key.project),
                ("environment", project.environment if project else ""),
                ("tenant", self.snapshot.slug),
            )
            scoped = [limit for scope in scopes for limit in self._scoped.get(scope, ())]
            every = (*key.limits, *(project.limits if project else ()), *self.snapshot.limits, *scoped)
            limits = self._limits[key.id, kind] = tuple(limit for limit in every if limit.resource in _USED_BY[kind])
        if self._scoped:
            # Agents name themselves, so what they lead to is looked up and not kept.
            named = (*self._scoped.get(("agent", agent or ""), ()), *self._scoped.get(("model", model or ""), ()))
            for tag in self._limited_tags:
                named += self._scoped.get(("tag", f"{tag}={tags.get(tag, '')}"), ())
            if named:
                return (*limits, *(limit for limit in named if limit.resource in _USED_BY[kind]))
        return limits

    def target(self, deployment: Deployment) -> Target:
        """OutboundError when the address may not be called, UnsealError or CredentialError when its credential cannot be used."""
        target = self._targets.get(deployment.id)
        if target is None:
            check_url(deployment.base_url, self._allow)
            credential = read_credential(deployment.credential, self._sealer.open(deployment.sealed_secret))
            endpoint = Endpoint(deployment.platform, deployment.dialect, deployment.base_url, deployment.region, deployment.api_version)
            headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "gatehouse"}
            headers |= endpoint.headers(credential)
            try:
                head = header_lines(headers)
            except ValueError as error:
                raise CredentialError(str(error)) from error
            is_plain = deployment.platform == "direct" and isinstance(credential, PlainKey)
            holder = (self.tenant, deployment.sealed_secret)
            target = self._targets[deployment.id] = Target(
                deployment,
                {},
                headers,
                head,
                credential.secrets,
                None if is_plain else Cloud(endpoint, credential, deployment.upstream_model, deployment.provider, holder),
            )
        return target

    @staticmethod
    def host(url: str) -> str:
        """The host of an address, in lower case; empty when it has none."""
        return URL(url).host or ""

    def server_secret(self, server: ToolServer) -> str:
        """The opened credential of a tool server; UnsealError when it cannot be opened."""
        return self._sealer.open(server.sealed_secret)

    def argument_error(self, published: PublishedTool, arguments: dict[str, Any]) -> str | None:
        """Why the arguments do not fit the tool's input schema; None when they do."""
        validator = self._validators.get(published.name)
        if validator is None:
            schema = orjson.loads(published.tool.input_schema)
            validator = self._validators[published.name] = jsonschema_rs.validator_for(schema, validate_formats=True)
        try:
            validator.validate(arguments)
        except jsonschema_rs.ValidationError as error:
            place = "/".join(str(part) for part in error.instance_path)
            return f"{place}: {error.message}" if place else error.message
        return None
