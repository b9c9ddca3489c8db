"""Models, their prices, caches and health, over REST."""

from __future__ import annotations

import dataclasses
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import health_selectors, selectors
from catalog.api.endpoints import BAD, MANAGED, RowsView, named_in_body, one
from catalog.api.serializers.fields import CommentInput, PriceSerializer
from catalog.api.serializers.models import (
    CacheInput,
    CacheOutput,
    LeavingInput,
    ModelCheckOutput,
    ModelFactsSerializer,
    ModelHealthOutput,
    ModelInput,
    ModelOutput,
)
from catalog.filters import ModelFilter
from catalog.hooks import Price
from catalog.models import Model
from catalog.services import answers, model_lifecycle
from catalog.services import models as model_services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.requests import ApiRequest


def _price(given: dict[str, Any] | None) -> Price | None:
    return None if given is None else Price(given["input_per_million"], given["output_per_million"])


class Models(RowsView):
    """The catalog of models. Drafts and retired ones are seen by those who manage it."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_CATALOG}
    serializer_class = ModelOutput
    ordering = ("slug",)
    make_rows = staticmethod(selectors.model_rows)

    def get_queryset(self) -> QuerySet[Model]:
        found: QuerySet[Model] = ModelFilter(self.request.query_params, queryset=selectors.models_visible_to(self.request.membership)).qs
        return found

    @extend_schema(
        operation_id="models_list",
        parameters=[OpenApiParameter(name, OpenApiTypes.STR) for name in ModelFilter.base_filters],
        responses=ModelOutput(many=True),
    )
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="models_create", request=ModelInput, responses={201: ModelOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, ModelInput)
        provider = named_in_body(data["provider"], selectors.providers(), "provider", slug=data.pop("provider"))
        slug, upstream_model, price = data.pop("slug"), data.pop("upstream_model"), _price(data.pop("price", None))
        facts = model_services.ModelFacts(**{"name": slug, **_facts(data)})
        model = model_services.register_model(
            slug=slug, facts=facts, provider=provider, upstream_model=upstream_model, owner=request.user, actor=request.user, price=price
        )
        return Response(_model_body(model), status=201)


def _facts(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "capabilities": tuple(data["capabilities"])} if "capabilities" in data else data


def _model_body(model: Model) -> Any:
    return ModelOutput(selectors.model_rows([one(selectors.all_models(), pk=model.pk)])[0]).data


class ModelDetail(APIView):
    access = MANAGED

    @extend_schema(operation_id="models_retrieve", responses={200: ModelOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(_model_body(one(selectors.models_visible_to(request.membership), slug=slug)))

    @extend_schema(request=ModelFactsSerializer, responses={200: ModelOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.all_models(), slug=slug)
        facts = dataclasses.replace(model_services.facts_of(model), **_facts(body_of(request, ModelFactsSerializer)))
        return Response(_model_body(model_services.change_model(model=model, facts=facts, actor=request.user)))

    @extend_schema(responses={204: None, **BAD})
    def delete(self, request: ApiRequest, slug: str) -> Response:
        """Discard a draft. A model that was served is retired instead."""
        model_lifecycle.discard_draft(model=one(selectors.all_models(), slug=slug), actor=request.user)
        return Response(status=204)


class ModelCheck(APIView):
    """Call every deployment of the model once, now, with about one token. A failed check is a result, not an error."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: ModelCheckOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        checks = model_services.check_model(model=one(selectors.all_models(), slug=slug), actor=request.user)
        body = {
            "ok": all(trace.ok for _, trace in checks),
            "checks": [{"deployment": deployment, "trace": trace} for deployment, trace in checks],
        }
        return Response(ModelCheckOutput(body).data)


class ModelAct(APIView):
    """Move the model along its way: submit, deprecate, reinstate, retire, redraft."""

    access = {"POST": Permission.MANAGE_CATALOG}
    act = ""

    @extend_schema(request=CommentInput, responses={200: ModelOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        comment = body_of(request, CommentInput)["comment"]
        return Response(
            _model_body(model_lifecycle.ACTS[self.act](model=one(selectors.all_models(), slug=slug), actor=request.user, comment=comment))
        )


class ModelDecision(ModelAct):
    """Approve a submitted model that somebody else submitted, as it was submitted; or return it to draft, with a comment that says why."""

    access = {"POST": Permission.APPROVE_MODELS}


class ModelLeaving(APIView):
    """What callers of a deprecated model are told: the day it goes and its successor."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=LeavingInput, responses={200: ModelOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.all_models(), slug=slug)
        return Response(_model_body(model_lifecycle.announce_leaving(model=model, actor=request.user, **body_of(request, LeavingInput))))


class ModelCache(APIView):
    """How long answers may be given again, among whom, and what that brought in the last seven days."""

    access = {"GET": Permission.VIEW_OPERATE, "PUT": Permission.MANAGE_CATALOG}

    @extend_schema(responses={200: CacheOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(_cache_body(one(selectors.all_models(), slug=slug)))

    @extend_schema(request=CacheInput, responses={200: CacheOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        model = one(selectors.all_models(), slug=slug)
        return Response(_cache_body(answers.set_cache(model=model, actor=request.user, **body_of(request, CacheInput))))


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
    return dict(CacheOutput({**settings, **brought}).data)


class ModelHealth(APIView):
    """What the gateway's circuits say of the model's deployments, and how often calls went from one to another."""

    access = {"GET": Permission.VIEW_OPERATE}

    @extend_schema(responses={200: ModelHealthOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        found = health_selectors.model_health(one(selectors.models_visible_to(request.membership), slug=slug))
        body = {
            "deployments": found.deployments,
            "changes": [row.change for row in found.changes],
            "failovers": [row for day in found.failovers for row in day.reasons],
        }
        return Response(ModelHealthOutput(body).data)


class ModelPrice(APIView):
    """Put a list price in force from now on, for the model at one provider."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=PriceSerializer, responses={200: ModelOutput, **BAD})
    def put(self, request: ApiRequest, slug: str, provider: str) -> Response:
        model, price = one(selectors.all_models(), slug=slug), _price(body_of(request, PriceSerializer))
        assert price is not None
        model_services.set_price(model=model, provider=one(selectors.providers(), slug=provider), price=price, actor=request.user)
        return Response(_model_body(model))
