"""Compiling a tenant's configuration into its snapshot, and handing it to the planes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime, time
from decimal import ROUND_CEILING, Decimal
from typing import Any, Literal, cast
from zoneinfo import ZoneInfo

import msgspec
from django.db import connection, transaction
from django.db.models import Max
from django.utils import timezone

from catalog import prompt_selectors
from catalog import selectors as catalog_selectors
from catalog.hooks import Price, cost_figures
from catalog.models import Deployment, Model, Project, Tool, ToolServer, UsageLimit, VirtualKey
from catalog.routing_selectors import objectives_of
from costs import budget_selectors, dimensions, tag_selectors
from costs.models import Budget
from gateway.contract import snapshot as contract
from gateway.contract.names import PLATFORM, SNAPSHOT_CHANNEL
from gateway.publish.models import ArrivedPayload, CircuitChange, Counter, Snapshot
from governance import payload_selectors
from governance import selectors as governance_selectors
from governance.models import Effect, Guardrail, Policy, Switch, Tenant
from governance.services.guardrails import contract_guardrail
from governance.services.policies import contract_policy
from rollouts import flag_selectors, shadow_selectors

_GATEWAY_CAPABILITIES = frozenset({"chat", "embeddings"})
_PICO_PER_TOKEN = Decimal(10**6)
"""From USD per million tokens to pico-dollars per token."""


def publish_tenant(tenant: Tenant) -> None:
    """Compile and store the tenant's snapshot, and tell the planes, if anything in it changed. Runs in the tenant's schema."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            # Two publishers at once would otherwise store the older of two compilations last.
            cursor.execute("select pg_advisory_xact_lock(hashtext(%s))", [f"gateway.publish {tenant.public_id}"])
        stored = Snapshot.objects.filter(tenant=tenant.public_id).only("version", "checksum").first()
        version = stored.version if stored else 0
        compiled = compile_snapshot(tenant, version)
        if stored and contract.checksum(contract.encode(compiled)) == stored.checksum:
            return
        if compiled.budgets:
            book_spend(tenant)
        version += 1
        _store(tenant.public_id, version, contract.encode(msgspec.structs.replace(compiled, version=version)))


def publish_platform() -> None:
    """Store what holds for every tenant, as a snapshot of its own, and tell the planes, if it changed. Runs in the public schema."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_xact_lock(hashtext('gateway.publish platform'))")
        stored = Snapshot.objects.filter(tenant=PLATFORM).only("version", "checksum").first()
        version = stored.version if stored else 0
        off = _switched_off("The operator of the platform")
        drill = _newest_drill(None)
        compiled = contract.TenantSnapshot(
            tenant=PLATFORM, slug=PLATFORM, schema="public", version=version, switched_off=off, drill=drill
        )  # fmt: skip
        if (stored is None and not off and not drill) or (stored and contract.checksum(contract.encode(compiled)) == stored.checksum):
            return
        _store(PLATFORM, version + 1, contract.encode(msgspec.structs.replace(compiled, version=version + 1)))


def _switched_off(who: str) -> dict[str, str]:
    switches = Switch.objects.filter(is_off=True).order_by("pillar")
    return {switch.pillar: f"{who} has switched off all {switch.get_pillar_display().lower()}: {switch.reason}" for switch in switches}


def forget_tenant(tenant: Tenant) -> None:
    """Leave the planes an empty, closed snapshot, which also replaces what they keep on disk; drop what they wrote."""
    stored = Snapshot.objects.filter(tenant=tenant.public_id).only("version").first()
    version = (stored.version if stored else 0) + 1
    body = contract.encode(
        contract.TenantSnapshot(tenant=tenant.public_id, slug=tenant.slug, schema=tenant.schema_name, version=version, enabled=False)
    )
    _store(tenant.public_id, version, body)
    Counter.objects.filter(tenant=tenant.public_id).delete()
    CircuitChange.objects.filter(tenant=tenant.public_id).delete()
    ArrivedPayload.objects.filter(tenant=tenant.public_id).delete()


def book_spend(tenant: Tenant) -> None:
    """Lift the counters of budgets to what is known to be spent in their present periods. Runs in the tenant's schema.

    So a budget put in force on the 20th counts what was spent since the 1st, calls that got their price later count, and
    counters that were lost are made again. Planes book what they are granted before it is spent, so a counter that is
    ahead of the figures is right and stays.
    """
    environments = dimensions.environments()
    rows = [
        (tenant.public_id, _budget_id(one.budget, environments), one.span.start, one.span.end, int(one.spent * contract.PICO_USD))
        for one in budget_selectors.charged()
        if one.spent > 0
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            insert into gateway_counter as c (tenant, limit_id, window_start, window_end, granted, last_grant) values (%s, %s, %s, %s, %s, 0)
            on conflict (tenant, limit_id, window_start) do update set granted = excluded.granted where c.granted < excluded.granted
            """,
            rows,
        )


def _store(tenant: str, version: int, body: bytes) -> None:
    Snapshot.objects.update_or_create(
        tenant=tenant,
        defaults={"version": version, "checksum": contract.checksum(body), "body": body, "published_at": timezone.now()},
    )
    with connection.cursor() as cursor:
        cursor.execute("select pg_notify(%s, %s)", [SNAPSHOT_CHANNEL, f"{tenant}:{version}"])


def compile_snapshot(tenant: Tenant, version: int) -> contract.TenantSnapshot:
    """What the current schema holds, as the plane serves it. The same content always gives the same bytes."""
    prices = cost_figures().current_prices()
    served = {model.slug: model for model in catalog_selectors.served_models()}
    caps = shadow_selectors.caps_by_key()
    projects = {project.slug: _project(project) for project in Project.objects.order_by("slug")}
    flags = flag_selectors.served_flags()
    environments = {project.slug: project.environment for project in projects.values()}
    prompts, flows = prompt_selectors.served_prompts(flag_selectors.prompts_of(flags))
    limits, of_deployments = _usage_limits(tenant)
    return contract.TenantSnapshot(
        tenant=tenant.public_id,
        slug=tenant.slug,
        schema=tenant.schema_name,
        version=version,
        enabled=not tenant.is_suspended,
        time_zone=tenant.time_zone,
        consents={consent.feature_class: consent for consent in _consents(tenant)},
        projects=projects,
        payloads=payload_selectors.published_rules(projects),
        keys={key.public_id: _key(key, caps) for key in VirtualKey.objects.select_related("project", "owner").order_by("public_id")},
        models={model.slug: _model(model, prices, of_deployments, _leaving(model, served, tenant.time_zone)) for model in served.values()},
        tool_servers={
            server.namespace: _tool_server(server) for server in ToolServer.objects.prefetch_related("tools").order_by("namespace")
        },
        switched_off=_switched_off(tenant.name),
        usage_limits=limits,
        policies=tuple(
            contract_policy(policy.active, enforce=policy.mode == Policy.Mode.ENFORCE)
            for policy in Policy.objects.exclude(active=None).select_related("active__policy")
            if policy.active is not None
        ),
        guardrails=tuple(
            contract_guardrail(guardrail, enforce=guardrail.mode == Guardrail.Mode.ENFORCE)
            for guardrail in Guardrail.objects.exclude(mode=Guardrail.Mode.OFF)
        ),
        prompts=prompts,
        flows=flows,
        flags={flag.key: flag for flag in flags},
        facts=flag_selectors.facts_of(tenant),
        required_tags=tuple(tag_selectors.served_tags()),
        budgets=tuple(_budget(budget, amount, tenant, environments) for budget, amount in budget_selectors.acting_budgets()),
        drill=_newest_drill(tenant),
        shadows={
            shadow.source: contract.Shadow(
                slug=shadow.slug, model=shadow.candidate, share=shadow.share_percent / 100, key=shadow.key_id, judge=shadow.judge
            )
            for shadow in shadow_selectors.served_shadows()
        },
    )


def _newest_drill(tenant: Tenant | None) -> int:
    return Effect.objects.filter(tenant=tenant, is_drill=True).aggregate(newest=Max("pk"))["newest"] or 0


def _budget_id(budget: Budget, environments: Mapping[str, str]) -> str:
    """Names the counter: a budget that was given another scope begins anew, and so does that of an environment when a project joins or leaves it.

    A counter is only ever lifted, and a project takes what it has spent with it. `environments` are those of all projects.
    """
    ref = budget.ref
    if budget.scope == Budget.Scope.ENVIRONMENT:
        members = (project for project, environment in environments.items() if environment == budget.ref)
        ref += ":" + hashlib.sha256(" ".join(sorted(members)).encode()).hexdigest()[:16]
    return f"budget:{budget.pk}:{budget.scope}:{ref}:money:{budget.period}"


def _budget(budget: Budget, amount: Decimal, tenant: Tenant, environments: Mapping[str, str]) -> contract.Limit:
    """`amount` is USD with the raises in force; `environments` as of `_budget_id`."""
    return contract.Limit(
        id=_budget_id(budget, environments),
        scope=cast(contract.Scope, budget.scope),
        scope_name=budget.ref or tenant.slug,
        resource="money",
        window=cast(contract.Window, budget.period),
        amount=int(amount * contract.PICO_USD),
        budget=budget.name,
        throttle_from=budget.throttle_from / 100 if budget.action == Budget.Action.THROTTLE else None,
    )


def _usage_limits(tenant: Tenant) -> tuple[tuple[contract.Limit, ...], dict[str, tuple[contract.Limit, ...]]]:
    """Those that calls are held to before they are routed, and those of deployments by what they name."""
    limits: list[contract.Limit] = []
    of_deployments: dict[str, tuple[contract.Limit, ...]] = {}
    for limit in UsageLimit.objects.filter(is_enabled=True).order_by("pk"):
        if limit.scope == UsageLimit.Scope.DEPLOYMENT:
            of_deployments[limit.ref] = (*of_deployments.get(limit.ref, ()), _usage_limit(limit, tenant))
        else:
            limits.append(_usage_limit(limit, tenant))
    return tuple(limits), of_deployments


def _usage_limit(limit: UsageLimit, tenant: Tenant) -> contract.Limit:
    return contract.Limit(
        id=limit.counter_id,
        scope=cast(contract.Scope, limit.scope),
        scope_name=limit.ref or tenant.slug,
        resource=cast(contract.Resource, limit.resource),
        window=cast(contract.Window, limit.window or "minute"),  # calls at once have none and look at none
        amount=limit.amount * (contract.PICO_USD if limit.resource == UsageLimit.Resource.MONEY else 1),
        fail_open=limit.fail_open,
    )


def _consents(tenant: Tenant) -> list[contract.Consent]:
    consents = []
    for state in governance_selectors.consent_states():
        reason = ""
        if not state.granted and state.is_default:
            reason = f"{tenant.name} has not switched on: {state.feature_class.label}."
        elif not state.granted:
            when = f" on {state.set_at:%Y-%m-%d}" if state.set_at else ""
            because = f": {state.reason}" if state.reason else "."
            reason = f"{tenant.name} has switched off: {state.feature_class.label}. Decided by {state.actor_name}{when}{because}"
        consents.append(contract.Consent(feature_class=str(state.feature_class), granted=state.granted, reason=reason))
    return consents


def _project(project: Project) -> contract.Project:
    return contract.Project(
        slug=project.slug,
        name=project.name,
        cost_centre=project.cost_centre,
        environment=project.environment,
        enabled=project.is_enabled,
        limits=_limits("project", project.slug, project.requests_per_minute, project.monthly_budget_usd),
        tags=project.tags,
    )


def _key(key: VirtualKey, caps: Mapping[str, tuple[str, Decimal]]) -> contract.Key:
    return contract.Key(
        id=key.public_id,
        digest=key.digest,
        previous_digest=key.previous_digest,
        previous_until=key.previous_until.timestamp() if key.previous_until else 0.0,
        name=key.name,
        project=key.project.slug,
        owner=key.owner.email,
        models=None if key.models is None else tuple(key.models),
        tools=None if key.tools is None else tuple(key.tools),
        disabled=key.revoked_at is not None,
        expires_at=key.expires_at.timestamp(),
        limits=_limits("key", key.public_id, key.requests_per_minute, key.monthly_budget_usd) + _cap(key, caps),
        tags=key.tags,
    )


def _cap(key: VirtualKey, caps: Mapping[str, tuple[str, Decimal]]) -> tuple[contract.Limit, ...]:
    """What a shadow may spend a day, which its key pays."""
    if key.public_id not in caps:
        return ()
    counter, usd = caps[key.public_id]
    return (
        contract.Limit(
            id=counter, scope="key", scope_name=key.public_id, resource="money", window="day", amount=int(usd * contract.PICO_USD),
        ),
    )  # fmt: skip


def _limits(scope: Any, name: str, requests_per_minute: int | None, monthly_budget_usd: Decimal | None) -> tuple[contract.Limit, ...]:
    """A request limit protects upstreams and fails open when it cannot be checked; a budget is a promise and does not."""
    limits = []
    if requests_per_minute is not None:
        limits.append(
            contract.Limit(
                id=f"{scope}:{name}:requests:minute", scope=scope, scope_name=name,
                resource="requests", window="minute", amount=requests_per_minute, fail_open=True,
            )
        )  # fmt: skip
    if monthly_budget_usd is not None:
        limits.append(
            contract.Limit(
                id=f"{scope}:{name}:money:month", scope=scope, scope_name=name,
                resource="money", window="month", amount=int(monthly_budget_usd * contract.PICO_USD),
            )
        )  # fmt: skip
    return tuple(limits)


def _model(
    model: Model,
    prices: Mapping[tuple[str, str], Price],
    of_deployments: Mapping[str, tuple[contract.Limit, ...]],
    leaving: contract.Leaving | None,
) -> contract.Model:
    deployments = [deployment for deployment in model.deployments.all() if deployment.is_enabled]
    found = [prices.get((deployment.provider.slug, model.slug)) for deployment in deployments]
    # Any of the deployments may serve the call, so the dearest is reserved; one without a price leaves the model unpriced.
    known = [price for price in found if price is not None]
    is_priced = bool(found) and len(known) == len(found)
    return contract.Model(
        slug=model.slug,
        capabilities=tuple(capability for capability in model.capabilities if capability in _GATEWAY_CAPABILITIES),
        feature_class=model.feature_class,
        deployments=tuple(
            contract.Deployment(
                id=str(deployment.pk),
                provider=deployment.provider.slug,
                dialect=cast(Any, deployment.provider.dialect),
                platform=deployment.provider.platform,
                base_url=deployment.provider.base_url,
                sealed_secret=deployment.provider.sealed_secret,
                credential=cast(Any, deployment.provider.credential),
                api_version=deployment.provider.api_version,
                upstream_model=deployment.upstream_model,
                region=deployment.provider.region,
                weight=deployment.weight,
                priority=deployment.priority,
                limits=(*_quota(deployment), *of_deployments.get(f"{model.slug}/{deployment.reference}", ())),
                input_price=_pico(price.input_per_million) if price else None,
                output_price=_pico(price.output_per_million) if price else None,
                unit_prices=_unit_prices([price]) if price else {},
                quality=None if deployment.quality is None else float(deployment.quality),
            )
            for deployment, price in zip(deployments, found, strict=True)
        ),
        input_price=max(_pico(price.input_per_million) for price in known) if is_priced else None,
        output_price=max(_pico(price.output_per_million) for price in known) if is_priced else None,
        unit_prices=_unit_prices(known) if is_priced else {},
        max_output_tokens=model.max_output_tokens,
        defaults=model.default_parameters,
        context_window=model.context_window,
        sensitivity=model.data_sensitivity,
        environment=model.environment,
        cache_ttl_s=model.cache_ttl_s,
        semantic=_semantic(model),
        cache_scope=cast(Literal["tenant", "project", "key"], model.cache_scope),
        objectives=objectives_of(model),
        leaving=leaving,
    )


def _leaving(model: Model, served: Collection[str], time_zone: str) -> contract.Leaving | None:
    if model.status != Model.Status.DEPRECATED:
        return None
    day = model.retires_on
    return contract.Leaving(
        since=int(model.deprecated_at.timestamp()) if model.deprecated_at else None,
        until=int(datetime.combine(day, time.min, ZoneInfo(time_zone)).timestamp()) if day else None,
        successor=model.successor if model.successor in served else "",  # it may have gone meanwhile
    )


def _unit_prices(known: list[Price]) -> dict[str, int]:
    """The dearest of each class that every deployment has a price for."""
    names = set.intersection(*(set(price.units) for price in known))
    return {name: max(_pico(price.units[name]) for price in known) for name in sorted(names)}


def _semantic(model: Model) -> contract.Semantic | None:
    if not model.cache_embedding:
        return None
    return contract.Semantic(embedding=model.cache_embedding, threshold=model.cache_threshold, sample=model.cache_sample_percent / 100)


def _quota(deployment: Deployment) -> tuple[contract.Limit, ...]:
    """It protects an upstream that refuses by itself what is too much, so it fails open."""
    amounts: dict[contract.Resource, int | None] = {"requests": deployment.requests_per_minute, "tokens": deployment.tokens_per_minute}
    return tuple(
        contract.Limit(
            id=f"deployment:{deployment.pk}:{resource}:minute", scope="deployment", scope_name=str(deployment.pk),
            resource=resource, window="minute", amount=amount, fail_open=True,
        )
        for resource, amount in amounts.items() if amount is not None
    )  # fmt: skip


def _pico(usd_per_million: Decimal) -> int:
    """Pico-dollars per token, rounded up beyond six decimals: a reservation may be too large, never too small."""
    return int((usd_per_million * _PICO_PER_TOKEN).to_integral_value(rounding=ROUND_CEILING))


def _tool_server(server: ToolServer) -> contract.ToolServer:
    return contract.ToolServer(
        namespace=server.namespace,
        url=server.url,
        sealed_secret=server.sealed_secret,
        feature_class=server.feature_class,
        enabled=server.is_enabled,
        tools=tuple(_tool(tool) for tool in sorted(server.tools.all(), key=lambda tool: tool.name) if tool.status != Tool.Status.REMOVED),
    )


def _tool(tool: Tool) -> contract.Tool:
    return contract.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=_json(tool.input_schema),
        output_schema=None if tool.output_schema is None else _json(tool.output_schema),
        annotations=None if tool.annotations is None else _json(tool.annotations),
        enabled=tool.status == Tool.Status.ACTIVE,
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
