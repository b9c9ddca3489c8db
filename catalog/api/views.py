"""Endpoints of the catalog. They translate; rules are in services and selectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics, serializers
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import health_selectors, selectors
from catalog.api import serializers as shapes
from catalog.errors import InvalidValueError
from catalog.filters import KeyFilter, ModelFilter
from catalog.hooks import Price
from catalog.models import Deployment, Model, ModelReview, Project, Provider, Tool, ToolServer, VirtualKey
from catalog.services import default_tags
from catalog.services import keys as key_services
from catalog.services import models as model_services
from catalog.services import projects as project_services
from catalog.services import providers as provider_services
from catalog.services import tools as tool_services
from governance.access import Permission
from governance.api.serializers import ErrorSerializer
from governance.errors import NotAllowedError
from governance.models import Membership, User
from governance.requests import ApiRequest
from governance.selectors import members_of

BAD: dict[int, Any] = {
    400: ErrorSerializer,
    401: ErrorSerializer,
    403: ErrorSerializer,
    404: ErrorSerializer,
    409: ErrorSerializer,
    422: ErrorSerializer,
}
NETWORK: dict[int, Any] = {**BAD, 502: ErrorSerializer}
MANAGED: dict[str, Any] = {
    "GET": Permission.VIEW,
    "POST": Permission.MANAGE_CATALOG,
    "PATCH": Permission.MANAGE_CATALOG,
    "DELETE": Permission.MANAGE_CATALOG,
}


def body_of(request: ApiRequest, shape: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The validated body; a bad one is answered with 400 and its fields."""
    body = shape(data=request.data)
    body.is_valid(raise_exception=True)
    return dict(body.validated_data)


def acting(request: ApiRequest) -> Membership:
    """Who asks, with no more roles than the token has."""
    membership = request.membership
    if request.auth.roles:
        membership.roles = [role for role in membership.roles if role in request.auth.roles]
    return membership


def one(rows: QuerySet[Any], **by: Any) -> Any:
    """The row, or 404 as for one that does not exist."""
    found = rows.filter(**by).first()
    if found is None:
        raise NotFound
    return found


def _given(value: Any, rows: QuerySet[Any], field: str, **by: Any) -> Any:
    """A row named in a body; its absence is the body's error, not a 404."""
    found = rows.filter(**by).first()
    if found is None:
        raise InvalidValueError(f"There is no {field} {value}.", field=field)
    return found


def _price(given: dict[str, Any] | None) -> Price | None:
    return None if given is None else Price(given["input_per_million"], given["output_per_million"])


class RowsView(generics.GenericAPIView[Any]):
    """A paged list whose rows are put together after paging, so that figures are read once per page."""

    request: ApiRequest
    make_rows: Callable[[Any], Any] | None = None

    def get(self, request: ApiRequest) -> Response:
        page = self.paginate_queryset(self.get_queryset())
        rows = self.make_rows(page) if self.make_rows is not None else page
        return self.get_paginated_response(self.get_serializer(rows, many=True).data)


# Providers


class Providers(RowsView):
    """Accounts at providers."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_CATALOG}
    serializer_class = shapes.ProviderOutput
    ordering = ("name", "pk")

    def get_queryset(self) -> QuerySet[Provider]:
        return selectors.providers()

    @extend_schema(operation_id="providers_list", responses=shapes.ProviderOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="providers_create", request=shapes.ProviderInput, responses={201: shapes.ProviderOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        provider = provider_services.create_provider(actor=request.user, **body_of(request, shapes.ProviderInput))
        return Response(shapes.ProviderOutput(provider).data, status=201)


class ProviderDetail(APIView):
    access = {"GET": Permission.VIEW_OPERATE, "PATCH": Permission.MANAGE_CATALOG}

    @extend_schema(responses={200: shapes.ProviderOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(shapes.ProviderOutput(one(selectors.providers(), slug=slug)).data)

    @extend_schema(request=shapes.ProviderChange, responses={200: shapes.ProviderOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        provider = one(selectors.providers(), slug=slug)
        present = {"name": provider.name, "base_url": provider.base_url, "region": provider.region}
        provider = provider_services.change_provider(
            provider=provider, actor=request.user, **{**present, **body_of(request, shapes.ProviderChange)}
        )
        return Response(shapes.ProviderOutput(provider).data)


class ProviderSecret(APIView):
    """Replace the credential. It goes in and never comes out."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=shapes.SecretInput, responses={200: shapes.ProviderOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        given = body_of(request, shapes.SecretInput)
        provider = provider_services.set_secret(provider=one(selectors.providers(), slug=slug), actor=request.user, **given)
        return Response(shapes.ProviderOutput(provider).data)


class ProviderCheck(APIView):
    """Ask the provider for its models, now. A provider that does not answer is a result, not an error."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: shapes.ProviderCheckOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        provider, trace, names = provider_services.check_provider(provider=one(selectors.providers(), slug=slug), actor=request.user)
        return Response(shapes.ProviderCheckOutput({"provider": provider, "trace": trace, "models": names}).data)


# Models


class Models(RowsView):
    """The catalog of models. Drafts and retired ones are seen by those who manage it."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}
    serializer_class = shapes.ModelOutput
    ordering = ("slug",)
    make_rows = staticmethod(selectors.model_rows)

    def get_queryset(self) -> QuerySet[Model]:
        found: QuerySet[Model] = ModelFilter(self.request.query_params, queryset=selectors.models_visible_to(acting(self.request))).qs
        return found

    @extend_schema(
        operation_id="models_list",
        parameters=[OpenApiParameter(name, OpenApiTypes.STR) for name in ModelFilter.base_filters],
        responses=shapes.ModelOutput(many=True),
    )
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="models_create", request=shapes.ModelInput, responses={201: shapes.ModelOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, shapes.ModelInput)
        provider = _given(data["provider"], selectors.providers(), "provider", slug=data.pop("provider"))
        slug, upstream_model, price = data.pop("slug"), data.pop("upstream_model"), _price(data.pop("price", None))
        facts = model_services.ModelFacts(**{"name": slug, **_facts(data)})
        model = model_services.register_model(
            slug=slug, facts=facts, provider=provider, upstream_model=upstream_model, owner=request.user, actor=request.user, price=price
        )
        return Response(_model_body(model), status=201)


def _facts(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "capabilities": tuple(data["capabilities"])} if "capabilities" in data else data


def _model_body(model: Model) -> Any:
    return shapes.ModelOutput(selectors.model_rows([one(selectors.all_models(), pk=model.pk)])[0]).data


class ModelDetail(APIView):
    access = MANAGED

    @extend_schema(operation_id="models_retrieve", responses={200: shapes.ModelOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(_model_body(one(selectors.models_visible_to(acting(request)), slug=slug)))

    @extend_schema(request=shapes.ModelFactsSerializer, responses={200: shapes.ModelOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.all_models(), slug=slug)
        facts = dataclasses.replace(model_services.facts_of(model), **_facts(body_of(request, shapes.ModelFactsSerializer)))
        return Response(_model_body(model_services.change_model(model=model, facts=facts, actor=request.user)))

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, slug: str) -> Response:
        """Discard a draft. A model that was served is retired instead."""
        model_services.discard_draft(model=one(selectors.all_models(), slug=slug), actor=request.user)
        return Response(status=204)


class ModelCheck(APIView):
    """Call every deployment of the model once, now, with about one token. A failed check is a result, not an error."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: shapes.ModelCheckOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        checks = model_services.check_model(model=one(selectors.all_models(), slug=slug), actor=request.user)
        body = {
            "ok": all(trace.ok for _, trace in checks),
            "checks": [{"deployment": deployment, "trace": trace} for deployment, trace in checks],
        }
        return Response(shapes.ModelCheckOutput(body).data)


class ModelAct(APIView):
    """Move the model along its way: submit, deprecate, reinstate, retire, redraft."""

    access = {"POST": Permission.MANAGE_CATALOG}
    act = ""

    @extend_schema(request=shapes.CommentInput, responses={200: shapes.ModelOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        comment = body_of(request, shapes.CommentInput)["comment"]
        return Response(
            _model_body(model_services.ACTS[self.act](model=one(selectors.all_models(), slug=slug), actor=request.user, comment=comment))
        )


class ModelDecision(ModelAct):
    """Approve a submitted model that somebody else submitted, as it was submitted; or return it to draft, with a comment that says why."""

    access = {"POST": Permission.APPROVE_MODELS}


class ModelCache(APIView):
    """How long answers may be given again, among whom, and what that brought in the last seven days."""

    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_CATALOG}

    @extend_schema(responses={200: shapes.CacheOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(_cache_body(one(selectors.all_models(), slug=slug)))

    @extend_schema(request=shapes.CacheInput, responses={200: shapes.CacheOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.all_models(), slug=slug)
        return Response(_cache_body(model_services.set_cache(model=model, actor=request.user, **body_of(request, shapes.CacheInput))))


def _cache_body(model: Model) -> dict[str, Any]:
    figures = selectors.cache_figures(model)
    settings = {name: getattr(model, f"cache_{name}") for name in ("ttl_s", "scope", "embedding", "threshold", "sample_percent")}
    brought = {
        "hits": figures.hits,
        "semantic_hits": figures.semantic,
        "misses": figures.misses,
        "saved_usd": figures.saved_usd,
        "checked": figures.agreed + figures.disagreed,
        "agreed": figures.agreed,
    }
    return dict(shapes.CacheOutput({**settings, **brought}).data)


class ModelHealth(APIView):
    """What the gateway's circuits say of the model's deployments, and how often calls went from one to another."""

    access = {"GET": Permission.VIEW_OPERATE}

    @extend_schema(responses={200: shapes.ModelHealthOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        found = health_selectors.model_health(one(selectors.models_visible_to(acting(request)), slug=slug))
        body = {
            "deployments": found.deployments,
            "changes": [row.change for row in found.changes],
            "failovers": [row for day in found.failovers for row in day.reasons],
        }
        return Response(shapes.ModelHealthOutput(body).data)


class ModelPrice(APIView):
    """Put a list price in force from now on, for the model at one provider."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=shapes.PriceSerializer, responses={200: shapes.ModelOutput, **BAD})
    def put(self, request: ApiRequest, slug: str, provider: str) -> Response:
        model, price = one(selectors.all_models(), slug=slug), _price(body_of(request, shapes.PriceSerializer))
        assert price is not None
        model_services.set_price(model=model, provider=one(selectors.providers(), slug=provider), price=price, actor=request.user)
        return Response(_model_body(model))


class Deployments(APIView):
    """The upstreams behind a model."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}

    @extend_schema(operation_id="deployments_list", responses={200: shapes.DeploymentOutput(many=True), **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.models_visible_to(acting(request)), slug=slug)
        return Response(shapes.DeploymentOutput(model.deployments.all(), many=True).data)

    @extend_schema(operation_id="deployments_create", request=shapes.DeploymentInput, responses={201: shapes.DeploymentOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        model, data = one(selectors.all_models(), slug=slug), body_of(request, shapes.DeploymentInput)
        data["provider"] = _given(data["provider"], selectors.providers(), "provider", slug=data["provider"])
        deployment = model_services.add_deployment(model=model, actor=request.user, **data)
        return Response(shapes.DeploymentOutput(deployment).data, status=201)


class DeploymentDetail(APIView):
    access = {"PATCH": Permission.MANAGE_CATALOG, "DELETE": Permission.MANAGE_CATALOG}

    def _find(self, slug: str, pk: int) -> Deployment:
        deployment: Deployment = one(Deployment.objects.select_related("model", "provider"), model__slug=slug, pk=pk)
        return deployment

    @extend_schema(request=shapes.DeploymentChange, responses={200: shapes.DeploymentOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str, pk: int) -> Response:
        deployment = self._find(slug, pk)
        waits = deployment.reviews.filter(status=ModelReview.Status.WAITING).exists()  # what is left out stays asked for
        present = {**model_services.share_of(deployment), "is_enabled": deployment.is_enabled or waits}
        given = {**present, **body_of(request, shapes.DeploymentChange)}
        changed = model_services.change_deployment(deployment=deployment, actor=request.user, **given)
        return Response(shapes.DeploymentOutput(changed).data)

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, slug: str, pk: int) -> Response:
        model_services.remove_deployment(deployment=self._find(slug, pk), actor=request.user)
        return Response(status=204)


# Projects


class Projects(RowsView):
    """Projects, to which spend is shown back."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}
    serializer_class = shapes.ProjectOutput
    ordering = ("name", "pk")

    def get_queryset(self) -> QuerySet[Project]:
        return selectors.projects()

    @extend_schema(operation_id="projects_list", responses=shapes.ProjectOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="projects_create", request=shapes.ProjectInput, responses={201: shapes.ProjectOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, shapes.ProjectInput)
        project = project_services.create_project(owner=request.user, actor=request.user, **{"name": data["slug"], **data})
        return Response(shapes.ProjectOutput(project).data, status=201)


class ProjectDetail(APIView):
    access = {"GET": Permission.VIEW, "PATCH": Permission.MANAGE_CATALOG}

    @extend_schema(operation_id="projects_retrieve", responses={200: shapes.ProjectOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(shapes.ProjectOutput(one(selectors.projects(), slug=slug)).data)

    @extend_schema(request=shapes.ProjectFacts, responses={200: shapes.ProjectOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        project = one(selectors.projects(), slug=slug)
        present = {
            name: getattr(project, name)
            for name in (
                "name",
                "description",
                "cost_centre",
                "environment",
                "keys_by_request",
                "requests_per_minute",
                "monthly_budget_usd",
            )
        }
        changed = project_services.change_project(
            project=project, actor=request.user, **{**present, **body_of(request, shapes.ProjectFacts)}
        )
        return Response(shapes.ProjectOutput(changed).data)


class ProjectSwitch(APIView):
    """Let the project's keys call, or refuse all of them within seconds."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=shapes.SwitchInput, responses={200: shapes.ProjectOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        project = project_services.switch_project(
            project=one(selectors.projects(), slug=slug), actor=request.user, **body_of(request, shapes.SwitchInput)
        )
        return Response(shapes.ProjectOutput(project).data)


class ProjectTags(APIView):
    """The tags of the project's calls, where neither the caller nor the key says otherwise."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=shapes.TagsInput, responses={200: shapes.ProjectOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        project = one(selectors.projects(), slug=slug)
        changed = default_tags.set_project_tags(project=project, actor=request.user, **body_of(request, shapes.TagsInput))
        return Response(shapes.ProjectOutput(changed).data)


# Virtual keys


class Keys(RowsView):
    """One's own keys; everybody's with the right to manage keys."""

    access = {"GET": Permission.VIEW, "POST": Permission.USE_GATEWAY}
    serializer_class = shapes.KeyOutput
    make_rows = staticmethod(selectors.key_rows)

    @property
    def ordering(self) -> list[str]:
        sort = self.request.query_params.get("sort", "newest")
        if sort.removeprefix("-") not in selectors.KEY_ORDERS:
            raise InvalidValueError(
                f"Keys are sorted by {', '.join(selectors.KEY_ORDERS)}; with - before it the other way round.", field="sort"
            )
        return selectors.key_order(sort)

    def get_queryset(self) -> QuerySet[VirtualKey]:
        found: QuerySet[VirtualKey] = KeyFilter(self.request.query_params, queryset=selectors.keys_visible_to(acting(self.request))).qs
        return selectors.ranked_keys(found)

    @extend_schema(
        operation_id="keys_list",
        parameters=[
            *(OpenApiParameter(name, OpenApiTypes.STR) for name in KeyFilter.base_filters),
            OpenApiParameter(
                "sort", OpenApiTypes.STR, description="newest, owner, spend, expiry or used; with - before it the other way round."
            ),
        ],
        responses=shapes.KeyOutput(many=True),
    )
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="keys_create", request=shapes.KeyInput, responses={201: shapes.NewKeyOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        """Make a key. The answer holds its text, once."""
        data = body_of(request, shapes.KeyInput)
        project = _given(data["project"], selectors.projects(), "project", slug=data.pop("project"))
        owner = self._owner(request, data.pop("owner", None))
        key, text = key_services.create_key(project=project, owner=owner, actor=request.user, **data)
        response = Response(shapes.NewKeyOutput({"key": selectors.key_rows([key])[0], "secret": text}).data, status=201)
        response["Cache-Control"] = "no-store"
        return response

    def _owner(self, request: ApiRequest, email: str | None) -> User:
        if email is None or email.lower() == request.user.email:
            return request.user
        if not selectors.can(acting(request), Permission.MANAGE_KEYS):  # the token may have fewer roles than the person
            raise NotAllowedError("To make a key for somebody else takes the right to manage keys.", field="owner")
        member: Membership = _given(email, members_of(request.tenant), "owner", user__email=email.lower())
        return member.user


class KeyDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="keys_retrieve", responses={200: shapes.KeyOutput, **BAD})
    def get(self, request: ApiRequest, public_id: str) -> Response:
        key = one(selectors.keys_visible_to(acting(request)), public_id=public_id)
        return Response(shapes.KeyOutput(selectors.key_rows([key])[0]).data)


class KeyRotate(APIView):
    """A new secret for the key: one's own, or anybody's with the right to manage keys. The old one works on for a while."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=shapes.RotationInput, responses={200: shapes.NewKeyOutput, **BAD})
    def post(self, request: ApiRequest, public_id: str) -> Response:
        key = one(selectors.keys_visible_to(acting(request)), public_id=public_id)
        hours = body_of(request, shapes.RotationInput)["overlap_hours"]
        key, text = key_services.rotate_key(key=key, actor=request.user, overlap=timedelta(hours=hours))
        response = Response(shapes.NewKeyOutput({"key": selectors.key_rows([key])[0], "secret": text}).data)
        response["Cache-Control"] = "no-store"
        return response


class KeyTags(APIView):
    """The tags of the key's calls, where the caller does not say otherwise: one's own key, or anybody's with the right to manage keys."""

    access = {"PUT": Permission.VIEW}

    @extend_schema(request=shapes.TagsInput, responses={200: shapes.KeyOutput, **BAD})
    def put(self, request: ApiRequest, public_id: str) -> Response:
        key = one(selectors.keys_visible_to(acting(request)), public_id=public_id)
        key = default_tags.set_key_tags(key=key, actor=request.user, **body_of(request, shapes.TagsInput))
        return Response(shapes.KeyOutput(selectors.key_rows([key])[0]).data)


class KeyRevoke(APIView):
    """End a key at once: one's own, or anybody's with the right to manage keys."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=None, responses={200: shapes.KeyOutput, **BAD})
    def post(self, request: ApiRequest, public_id: str) -> Response:
        key = key_services.revoke_key(key=one(selectors.keys_visible_to(acting(request)), public_id=public_id), actor=request.user)
        return Response(shapes.KeyOutput(selectors.key_rows([key])[0]).data)


def _selected(request: ApiRequest, data: dict[str, Any]) -> QuerySet[VirtualKey]:
    keys, filters = selectors.keys_visible_to(acting(request)), data.pop("filters")
    if "ids" in data:
        return keys.filter(public_id__in=data.pop("ids"))
    found: QuerySet[VirtualKey] = KeyFilter(filters, queryset=keys).qs
    return found


class KeysRotate(APIView):
    """New secrets for many keys at once, all or none; at most 1,000. Keys that have ended and those of playgrounds are left out."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=shapes.BulkRotationInput, responses={200: shapes.NewKeysOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, shapes.BulkRotationInput)
        overlap = timedelta(hours=data.pop("overlap_hours"))
        made = key_services.rotate_keys(chosen=_selected(request, data), actor=request.user, overlap=overlap, **data)
        rows = selectors.key_rows([key for key, _ in made])
        body = {"keys": [{"key": row, "secret": text} for row, (_, text) in zip(rows, made, strict=True)]}
        response = Response(shapes.NewKeysOutput(body).data)
        response["Cache-Control"] = "no-store"
        return response


class KeysRevoke(APIView):
    """End many keys at once, all or none. Keys that have ended are left out."""

    access = {"POST": Permission.VIEW}

    @extend_schema(request=shapes.KeySelectionInput, responses={200: shapes.RevokedKeysOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, shapes.KeySelectionInput)
        ended = key_services.revoke_keys(chosen=_selected(request, data), actor=request.user, **data)
        return Response(shapes.RevokedKeysOutput({"revoked": ended}).data)


# Tools


class ToolServers(RowsView):
    """MCP servers behind the gateway."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}
    serializer_class = shapes.ToolServerOutput
    ordering = ("namespace",)

    def get_queryset(self) -> QuerySet[ToolServer]:
        return selectors.servers_visible_to(acting(self.request))

    @extend_schema(operation_id="tool_servers_list", responses=shapes.ToolServerOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="tool_servers_create", request=shapes.ToolServerInput, responses={201: shapes.DiscoveryOutput, **NETWORK})
    def post(self, request: ApiRequest) -> Response:
        """Connect, discover the tools, and keep both. Nothing is kept when the server does not answer."""
        server, diff = tool_services.register_tool_server(
            owner=request.user, actor=request.user, **body_of(request, shapes.ToolServerInput)
        )
        return Response(_discovery_body(server, diff), status=201)


def _discovery_body(server: ToolServer, diff: Any) -> Any:
    return shapes.DiscoveryOutput({"server": one(selectors.tool_servers(), pk=server.pk), "diff": diff}).data


class ToolServerDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="tool_servers_retrieve", responses={200: shapes.ToolServerOutput, **BAD})
    def get(self, request: ApiRequest, namespace: str) -> Response:
        return Response(shapes.ToolServerOutput(one(selectors.servers_visible_to(acting(request)), namespace=namespace)).data)


class ToolServerDiscover(APIView):
    """Ask the server again. Changed tools are suspended until their new definition is approved."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: shapes.DiscoveryOutput, **NETWORK})
    def post(self, request: ApiRequest, namespace: str) -> Response:
        server = one(selectors.tool_servers(), namespace=namespace)
        return Response(_discovery_body(server, tool_services.discover(server=server, actor=request.user)))


class ToolServerSwitch(APIView):
    """Offer the server's tools, or refuse all of them within seconds."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=shapes.SwitchInput, responses={200: shapes.ToolServerOutput, **BAD})
    def post(self, request: ApiRequest, namespace: str) -> Response:
        server = tool_services.switch_tool_server(
            server=one(selectors.tool_servers(), namespace=namespace), actor=request.user, **body_of(request, shapes.SwitchInput)
        )
        return Response(shapes.ToolServerOutput(one(selectors.tool_servers(), pk=server.pk)).data)


class Tools(RowsView):
    """Tools with their schemas."""

    access = {"GET": Permission.VIEW}
    serializer_class = shapes.ToolOutput
    ordering = ("server__namespace", "name")

    def get_queryset(self) -> QuerySet[Tool]:
        return selectors.tools_visible_to(acting(self.request))

    @extend_schema(operation_id="tools_list", responses=shapes.ToolOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)


class ToolDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(operation_id="tools_retrieve", responses={200: shapes.ToolOutput, **BAD})
    def get(self, request: ApiRequest, namespace: str, name: str) -> Response:
        return Response(shapes.ToolOutput(one(selectors.tools_visible_to(acting(request)), server__namespace=namespace, name=name)).data)


class ToolApprove(APIView):
    """Take a changed definition over and offer the tool again."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: shapes.ToolOutput, **BAD})
    def post(self, request: ApiRequest, namespace: str, name: str) -> Response:
        tool = one(selectors.tools_visible_to(acting(request)), server__namespace=namespace, name=name)
        return Response(shapes.ToolOutput(tool_services.approve_tool(tool=tool, actor=request.user)).data)


class ToolRun(APIView):
    """Run a tool through the gateway, in the person's name. A refusal or a failing tool is a result, not an error."""

    access = {"POST": Permission.USE_GATEWAY}

    @extend_schema(request=shapes.ToolRunInput, responses={200: shapes.ToolRunOutput, **BAD})
    def post(self, request: ApiRequest, namespace: str, name: str) -> Response:
        tool = one(selectors.tools_visible_to(acting(request)), server__namespace=namespace, name=name)
        data = body_of(request, shapes.ToolRunInput)
        project = _given(data["project"], selectors.projects(), "project", slug=data["project"])
        run = tool_services.run_tool(tool=tool, arguments=data["arguments"], project=project, person=request.user)
        return Response(shapes.ToolRunOutput(run).data)
