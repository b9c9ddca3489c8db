"""What may be seen of the catalog, and how it is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Case, Count, FloatField, Prefetch, Q, QuerySet, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from catalog.hooks import Price, Usage, cost_figures, limit_uses
from catalog.models import Deployment, KeyRequest, Model, ModelReview, Project, Provider, Tool, ToolServer, UsageLimit, VirtualKey
from catalog.models.key_request import TAKE_WITHIN
from catalog.models.provider import ROTATE_CREDENTIALS_AFTER
from gateway.contract.snapshot import PICO_USD
from governance.call_figures import call_figures
from governance.drills import Subject
from governance.models import Drill, Effect, Membership, Tenant, User
from governance.roles import Permission
from governance.schema import current_schema

EXPIRY_WARNING = timedelta(days=14)
NO_USAGE = Usage()


def current_tenant() -> Tenant:
    """The tenant whose schema is in use."""
    tenant: Tenant = Tenant.objects.get(schema_name=current_schema())
    return tenant


def time_zone() -> ZoneInfo:
    """The organisation's."""
    return ZoneInfo(Tenant.objects.values_list("time_zone", flat=True).get(schema_name=current_schema()))


# Providers


def providers() -> QuerySet[Provider]:
    """All providers with the number of models that they serve."""
    return Provider.objects.annotate(model_count=Count("deployments__model", distinct=True)).order_by("name", "pk")


def providers_failing() -> QuerySet[Provider]:
    return Provider.objects.filter(check_ok=False).order_by("checked_at")


def credentials_due(at: datetime | None = None) -> QuerySet[Provider]:
    """Providers whose credential is to be replaced within two weeks, or should have been; the oldest first."""
    newest = (at or timezone.now()) - ROTATE_CREDENTIALS_AFTER + EXPIRY_WARNING
    return Provider.objects.filter(secret_set_at__lte=newest).order_by("secret_set_at")


# Models


def _with_deployments(models: QuerySet[Model]) -> QuerySet[Model]:
    return models.select_related("owner", "objectives").prefetch_related(
        Prefetch("deployments", Deployment.objects.select_related("provider").order_by("priority", "pk"))
    )


def models_visible_to(membership: Membership) -> QuerySet[Model]:
    """Served models for everybody; drafts and retired ones for those who manage the catalog or approve what is in it."""
    models = all_models()
    sees_all = membership.can(Permission.MANAGE_CATALOG) or membership.can(Permission.APPROVE_MODELS)
    return models if sees_all else models.filter(status__in=Model.SERVED)


def served_models() -> QuerySet[Model]:
    """What callers can call now, by slug."""
    return all_models().filter(status__in=Model.SERVED)


def model_names() -> dict[str, str]:
    """Short name to name, of those that are not retired."""
    return dict(Model.objects.exclude(status=Model.Status.RETIRED).order_by("slug").values_list("slug", "name"))


def possible_successors(model: Model) -> list[str]:
    """Slugs of other served models that answer the same kinds of calls."""
    kinds = [kind for kind in ("chat", "embeddings") if kind in model.capabilities]
    others = Model.objects.filter(status__in=Model.SERVED, capabilities__contains=kinds).exclude(pk=model.pk)
    return list(others.order_by("slug").values_list("slug", flat=True))


def serving_references(slug: str) -> list[str]:
    """What evaluations call the deployments that serve the model (`openai/gpt-4o`); those switched off, or not approved yet, serve nothing."""
    serving = Deployment.objects.filter(model__slug=slug, is_enabled=True).select_related("provider")
    return [deployment.reference for deployment in serving]


def all_models() -> QuerySet[Model]:
    return _with_deployments(Model.objects.order_by("slug"))


@dataclass(frozen=True)
class ModelRow:
    """A model with its figures."""

    model: Model
    prices: Mapping[str, Price]
    """List prices by slug of each provider that serves it; unpriced ones are missing."""
    usage: Usage
    waiting: Sequence[ModelReview] = ()
    """What of it waits for approval."""

    @property
    def deployments(self) -> list[Deployment]:
        return list(self.model.deployments.all())

    @property
    def main_deployment(self) -> Deployment | None:
        return main_deployment(self.model)

    @property
    def price(self) -> Price | None:
        """At the deployment that is tried first."""
        first = self.main_deployment
        return self.prices.get(first.provider.slug) if first else None

    @property
    def price_of_each(self) -> list[tuple[Provider, Price | None]]:
        """Of each provider that serves it, in the order of its deployments."""
        providers = {one.provider.slug: one.provider for one in self.deployments}
        return [(provider, self.prices.get(slug)) for slug, provider in providers.items()]


def main_deployment(model: Model) -> Deployment | None:
    """The one that is tried first."""
    deployments = list(model.deployments.all())
    return next((one for one in deployments if one.is_enabled), deployments[0] if deployments else None)


def list_prices(models: Iterable[Model]) -> dict[int, Price]:
    """By id of the model: its list price at the deployment that is tried first. Unpriced models are missing."""
    prices, found = cost_figures().current_prices(), {}
    for model in models:
        first = main_deployment(model)
        if first and (price := prices.get((first.provider.slug, model.slug))):
            found[model.pk] = price
    return found


def price_of(model: Model) -> Price | None:
    """List price at the deployment that is tried first; None while unpriced."""
    return list_prices([model]).get(model.pk)


def model_rows(models: Iterable[Model]) -> list[ModelRow]:
    """Models with price and the usage of the last 30 days, in their order."""
    models = list(models)
    prices = cost_figures().current_prices() if models else {}
    usage = cost_figures().usage_by_model([model.slug for model in models]) if models else {}
    waiting: dict[int, list[ModelReview]] = {}
    for review in ModelReview.objects.filter(model__in=models, status=ModelReview.Status.WAITING).select_related("asked_by", "deployment"):
        waiting.setdefault(review.model_id, []).append(review)
    rows = []
    for model in models:
        providers = {one.provider.slug for one in model.deployments.all()}
        own = {slug: price for slug in providers if (price := prices.get((slug, model.slug)))}
        rows.append(ModelRow(model, own, usage.get(model.slug, NO_USAGE), waiting.get(model.pk, [])))
    return rows


MODEL_ORDERS: dict[str, tuple[Callable[[ModelRow], Decimal | float | None], bool]] = {
    "input": (lambda row: row.price.input_per_million if row.price else None, False),
    "output": (lambda row: row.price.output_per_million if row.price else None, False),
    "context": (lambda row: row.model.context_window, True),
    "ttft": (lambda row: row.usage.ttft_ms, False),
    "p95": (lambda row: row.usage.p95_ms, False),
    "calls": (lambda row: row.usage.calls or None, True),
}
"""By name: the figure, and whether the largest comes first; with a hyphen before the name the other way round."""


def ordered_models(models: QuerySet[Model], name: str) -> tuple[QuerySet[Model], list[str]]:
    """The models and the fields to page them by. Those without the figure come last in both directions; an unknown name is by slug."""
    figure, falls = MODEL_ORDERS.get(name.removeprefix("-"), (None, False))
    if figure is None:
        return models, ["-slug" if name == "-name" else "slug"]
    figures = {row.model.pk: float(value) for row in model_rows(models) if (value := figure(row)) is not None}
    ranked = models.annotate(
        has_none=Case(When(pk__in=list(figures), then=Value(0)), default=Value(1)),
        figure=Case(*[When(pk=pk, then=Value(value)) for pk, value in figures.items()], default=Value(0.0), output_field=FloatField()),
    )
    return ranked, ["has_none", "-figure" if falls != name.startswith("-") else "figure", "slug"]


def deployments_like(provider: Provider, upstream_model: str, *, except_model: Model | None = None) -> QuerySet[Deployment]:
    """Deployments of other models on the same upstream: probable duplicates."""
    same = Deployment.objects.filter(provider=provider, upstream_model=upstream_model).select_related("model")
    return same.exclude(model=except_model) if except_model else same


# Projects


def project_names() -> dict[str, str]:
    """Short name to name."""
    return dict(Project.objects.values_list("slug", "name"))


def projects() -> QuerySet[Project]:
    """All projects with the number of their live keys."""
    live = Q(keys__revoked_at=None, keys__expires_at__gt=timezone.now(), keys__purpose=VirtualKey.Purpose.STANDARD)
    return Project.objects.select_related("owner").annotate(live_keys=Count("keys", filter=live)).order_by("name", "pk")


def enabled_projects() -> QuerySet[Project]:
    return Project.objects.filter(is_enabled=True).order_by("name", "pk")


def drill_subjects() -> list[Subject]:
    """Every project that is not switched off, by the programme's promise for one project."""
    rto = Effect.GOALS[Effect.Scope.PROJECT]
    return [Subject(Drill.Kind.PROJECT, project.slug, project.name, rto, project.created_at) for project in enabled_projects()]


# Virtual keys


def keys_visible_to(membership: Membership) -> QuerySet[VirtualKey]:
    """One's own keys; everybody's with the right to manage keys."""
    keys = VirtualKey.objects.select_related("project", "owner").order_by("-created_at", "-pk")
    return keys if membership.can(Permission.MANAGE_KEYS) else keys.filter(owner=membership.user)


def own_keys(user: User) -> QuerySet[VirtualKey]:
    """The person's keys for programs, newest first."""
    return (
        VirtualKey.objects.select_related("project", "owner")
        .filter(owner=user, purpose=VirtualKey.Purpose.STANDARD)
        .order_by("-created_at", "-pk")
    )


def live_keys(keys: QuerySet[VirtualKey], at: datetime | None = None) -> QuerySet[VirtualKey]:
    return keys.filter(revoked_at=None, expires_at__gt=at or timezone.now())


def key_requests_visible_to(membership: Membership) -> QuerySet[KeyRequest]:
    """One's own; everybody's with the right to manage keys."""
    found = KeyRequest.objects.select_related("project", "requester", "decided_by", "key").order_by("-pk")
    return found if membership.can(Permission.MANAGE_KEYS) else found.filter(requester=membership.user)


def waiting_key_requests() -> QuerySet[KeyRequest]:
    return KeyRequest.objects.filter(status=KeyRequest.Status.WAITING)


def key_requests_to_decide(membership: Membership) -> QuerySet[KeyRequest]:
    """What waits for somebody like them, the oldest first. Nobody decides on their own."""
    waiting = waiting_key_requests().select_related("project", "requester")
    return waiting.exclude(requester=membership.user).order_by("pk") if membership.can(Permission.MANAGE_KEYS) else waiting.none()


def own_key_requests(user: User, at: datetime) -> list[KeyRequest]:
    """Those that wait or may be taken, and what was declined within the last week; at most some dozens."""
    status, declined = KeyRequest.Status, Q(status=KeyRequest.Status.DECLINED, decided_at__gt=at - timedelta(days=7))
    may_take = Q(status=status.AGREED, decided_at__gt=at - TAKE_WITHIN)
    found = KeyRequest.objects.select_related("project", "decided_by").filter(
        Q(status=status.WAITING) | may_take | declined, requester=user
    )
    return list(found.order_by("-pk")[:50])


def keys_expiring(keys: QuerySet[VirtualKey], at: datetime | None = None) -> QuerySet[VirtualKey]:
    """Live program keys that expire within two weeks, the next one first."""
    at = at or timezone.now()
    return live_keys(keys, at).filter(purpose=VirtualKey.Purpose.STANDARD, expires_at__lte=at + EXPIRY_WARNING).order_by("expires_at")


def keys_to_rotate(keys: QuerySet[VirtualKey], at: datetime | None = None) -> QuerySet[VirtualKey]:
    """Live program keys: those of playgrounds have no secret that anybody knows."""
    return live_keys(keys, at).filter(purpose=VirtualKey.Purpose.STANDARD)


KEY_ORDERS = {
    "newest": ["-created_at", "-pk"],
    "owner": ["owner__name", "pk"],
    "spend": ["-spend_30d_usd", "-pk"],
    "expiry": ["expires_at", "pk"],
    "used": ["-last_use", "-pk"],
}
"""By name; with a hyphen before it the other way round."""


def key_order(name: str) -> list[str]:
    """Fields of `ranked_keys` to page by; an unknown name is the newest first."""
    order = KEY_ORDERS.get(name.removeprefix("-"), KEY_ORDERS["newest"])
    return [field[1:] if field.startswith("-") else f"-{field}" for field in order] if name.startswith("-") else order


def ranked_keys(keys: QuerySet[VirtualKey]) -> QuerySet[VirtualKey]:
    """With `last_use`, which is never null: keys that were not used come as if long ago."""
    return keys.annotate(last_use=Coalesce("last_used_at", Value(datetime(1970, 1, 1, tzinfo=UTC))))


@dataclass(frozen=True)
class KeyRow:
    """A key with its figures of the last 30 days."""

    key: VirtualKey
    usage: Usage

    @property
    def expires_soon(self) -> bool:
        return self.key.is_live() and self.key.expires_at <= timezone.now() + EXPIRY_WARNING

    @property
    def budget_share(self) -> Decimal | None:
        """Spend of 30 days as a percentage of the monthly budget; None without a budget or a priced call."""
        if not self.key.monthly_budget_usd or self.usage.cost_usd is None:
            return None
        return 100 * self.usage.cost_usd / self.key.monthly_budget_usd


def key_rows(keys: Iterable[VirtualKey]) -> list[KeyRow]:
    keys = list(keys)
    usage = cost_figures().usage_by_key([key.public_id for key in keys]) if keys else {}
    return [KeyRow(key, usage.get(key.public_id, NO_USAGE)) for key in keys]


# Tools


def tool_servers() -> QuerySet[ToolServer]:
    """All servers with counts of their tools by state."""
    return (
        ToolServer.objects.select_related("owner")
        .annotate(
            active_tools=Count("tools", filter=Q(tools__status=Tool.Status.ACTIVE)),
            suspended_tools=Count("tools", filter=Q(tools__status=Tool.Status.SUSPENDED)),
        )
        .order_by("namespace")
    )


def tools_visible_to(membership: Membership) -> QuerySet[Tool]:
    """Active tools of enabled servers for everybody; all of them for those who manage the catalog."""
    tools = Tool.objects.select_related("server").order_by("server__namespace", "name")
    if membership.can(Permission.MANAGE_CATALOG):
        return tools
    return tools.filter(server__is_enabled=True, status=Tool.Status.ACTIVE)


def servers_visible_to(membership: Membership) -> QuerySet[ToolServer]:
    servers = tool_servers()
    return servers if membership.can(Permission.MANAGE_CATALOG) else servers.filter(is_enabled=True)


def suspended_tools() -> QuerySet[Tool]:
    return Tool.objects.select_related("server").filter(status=Tool.Status.SUSPENDED).order_by("server__namespace", "name")


@dataclass(frozen=True)
class ToolRow:
    tool: Tool
    usage: Usage


def tool_rows(tools: Iterable[Tool]) -> list[ToolRow]:
    tools = list(tools)
    usage = cost_figures().usage_by_model([tool.full_name for tool in tools]) if tools else {}
    return [ToolRow(tool, usage.get(tool.full_name, NO_USAGE)) for tool in tools]


def usage_limits(query: str = "") -> QuerySet[UsageLimit]:
    """All, or those whose reference or note holds the query."""
    limits = UsageLimit.objects.order_by("scope", "ref", "pk")
    return limits.filter(Q(ref__icontains=query) | Q(note__icontains=query)) if query else limits


def limits_on(model: Model, key: VirtualKey | None) -> QuerySet[UsageLimit]:
    """Limits in force that a call to the model counts towards, with the key if there is one. Those of agents depend on the call."""
    Scope = UsageLimit.Scope
    holding = Q(scope=Scope.TENANT) | Q(scope=Scope.MODEL, ref=model.slug)
    if key is not None:
        holding |= Q(scope=Scope.PROJECT, ref=key.project.slug) | Q(scope=Scope.KEY, ref=key.public_id)
    return usage_limits().filter(holding, is_enabled=True)


def limit_rows(limits: Iterable[UsageLimit]) -> list[tuple[UsageLimit, int | None, datetime | None, float]]:
    """Each limit with what is used of it (None when nothing is known), when its window ends, and the percent used."""
    limits = list(limits)
    uses = limit_uses(limit.counter_id for limit in limits) if limits else {}
    rows: list[tuple[UsageLimit, int | None, datetime | None, float]] = []
    for limit in limits:
        use = uses.get(limit.counter_id)
        unit = PICO_USD if limit.resource == UsageLimit.Resource.MONEY else 1
        percent = min(100.0, 100 * use.used / (unit * limit.amount)) if use and limit.amount else 0.0
        rows.append((limit, use.used // unit if use else None, use.resets_at if use else None, percent))
    return rows


CACHE_VERDICTS = ("hit", "semantic", "miss", "agree", "disagree")


@dataclass(frozen=True)
class CacheFigures:
    """Of the last seven days, from the calls to a model that has a cache."""

    hits: int
    misses: int
    saved_usd: Decimal
    """What the answers that were given again had cost when they were made."""
    semantic: int = 0
    """Of the hits: to a question that only meant the same."""
    agreed: int = 0
    disagreed: int = 0
    """Of the semantic hits that were looked at: whether the model, asked too, said the same."""

    @property
    def quality_percent(self) -> float | None:
        """Of the semantic hits that were looked at; None when none was."""
        checked = self.agreed + self.disagreed
        return 100 * self.agreed / checked if checked else None

    @property
    def percent(self) -> float | None:
        """Of the calls that were looked up; None when there was none."""
        looked_up = self.hits + self.misses
        return 100 * self.hits / looked_up if looked_up else None


def cache_figures(model: Model) -> CacheFigures:
    rows = [row for row in call_figures().verdicts(timezone.now() - timedelta(days=7)) if row.step == f"cache:{model.slug}"]
    calls = Counter({verdict: sum(row.calls for row in rows if row.verdict == verdict and not row.found) for verdict in CACHE_VERDICTS})
    saved = sum(row.hits for row in rows if row.found == "saved_microusd")
    hits = calls["hit"] + calls["semantic"]
    return CacheFigures(hits, calls["miss"], Decimal(saved) / 10**6, calls["semantic"], calls["agree"], calls["disagree"])


def embedding_models() -> list[str]:
    """Slugs of the served models that make embeddings."""
    return [model.slug for model in served_models() if "embeddings" in model.capabilities]


def can_compare_vectors() -> bool:
    """Whether the database has pgvector."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector')")
        return bool(cursor.fetchone()[0])
