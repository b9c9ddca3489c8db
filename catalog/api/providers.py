"""Providers over REST."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog import selectors
from catalog.api.endpoints import BAD, RowsView, one
from catalog.api.serializers.providers import ProviderChange, ProviderCheckOutput, ProviderInput, ProviderOutput, SecretInput
from catalog.models import Provider
from catalog.services import providers as provider_services
from governance.access import Permission
from governance.api.inputs import body_of
from governance.requests import ApiRequest


class Providers(RowsView):
    """Accounts at providers."""

    access = {"GET": Permission.VIEW_OPERATE, "POST": Permission.MANAGE_CATALOG}
    serializer_class = ProviderOutput
    ordering = ("name", "pk")

    def get_queryset(self) -> QuerySet[Provider]:
        return selectors.providers()

    @extend_schema(operation_id="providers_list", responses=ProviderOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return super().get(request)

    @extend_schema(operation_id="providers_create", request=ProviderInput, responses={201: ProviderOutput, **BAD})
    def post(self, request: ApiRequest) -> Response:
        provider = provider_services.create_provider(actor=request.user, **body_of(request, ProviderInput))
        return Response(ProviderOutput(provider).data, status=201)


class ProviderDetail(APIView):
    access = {"GET": Permission.VIEW_OPERATE, "PATCH": Permission.MANAGE_CATALOG}

    @extend_schema(responses={200: ProviderOutput, **BAD})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return Response(ProviderOutput(one(selectors.providers(), slug=slug)).data)

    @extend_schema(request=ProviderChange, responses={200: ProviderOutput, **BAD})
    def patch(self, request: ApiRequest, slug: str) -> Response:
        provider = one(selectors.providers(), slug=slug)
        present = {"name": provider.name, "base_url": provider.base_url, "region": provider.region}
        provider = provider_services.change_provider(
            provider=provider, actor=request.user, **{**present, **body_of(request, ProviderChange)}
        )
        return Response(ProviderOutput(provider).data)


class ProviderSecret(APIView):
    """Replace the credential. It goes in and never comes out."""

    access = {"PUT": Permission.MANAGE_CATALOG}

    @extend_schema(request=SecretInput, responses={200: ProviderOutput, **BAD})
    def put(self, request: ApiRequest, slug: str) -> Response:
        given = body_of(request, SecretInput)
        provider = provider_services.set_secret(provider=one(selectors.providers(), slug=slug), actor=request.user, **given)
        return Response(ProviderOutput(provider).data)


class ProviderCheck(APIView):
    """Ask the provider for its models, now. A provider that does not answer is a result, not an error."""

    access = {"POST": Permission.MANAGE_CATALOG}

    @extend_schema(request=None, responses={200: ProviderCheckOutput, **BAD})
    def post(self, request: ApiRequest, slug: str) -> Response:
        provider, trace, names = provider_services.check_provider(provider=one(selectors.providers(), slug=slug), actor=request.user)
        return Response(ProviderCheckOutput({"provider": provider, "trace": trace, "models": names}).data)
