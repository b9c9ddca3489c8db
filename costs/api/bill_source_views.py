"""Cost APIs of providers that bills are fetched from."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework import serializers as drf
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import bill_selectors
from costs.models import BillSource
from costs.services import bill_sources
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class BillSourceInput(StrictSerializer):
    provider = drf.SlugField(max_length=48)
    kind = drf.ChoiceField(choices=BillSource.Kind.choices)
    key = drf.CharField(
        required=False, allow_blank=True, default="", max_length=1000, help_text="Admin key; empty keeps the one that is there."
    )
    base_url = drf.URLField(required=False, allow_blank=True, default="", help_text="Default the provider's own address.")
    begins_on = drf.DateField(required=False, help_text="First UTC day; default the first of this month.")


class BillSourceOutput(drf.ModelSerializer[BillSource]):
    set_by = drf.CharField(source="set_by.email")

    class Meta:
        model = BillSource
        fields = (
            "id", "provider", "kind", "base_url", "key_set_at", "begins_on", "set_by", "fetched_through", "fetched_at", "tried_at", "last_error",
        )  # fmt: skip


class FetchedOutput(drf.Serializer[Any]):
    first = drf.DateField(help_text="First UTC day that was read.")
    last = drf.DateField()
    rows = drf.IntegerField(help_text="New rows, corrections among them.")


class BillSources(generics.ListAPIView[BillSource]):
    """Where bills are fetched from. Posting one sets it for its provider; the key is never given out."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = BillSourceOutput
    ordering = ("provider",)

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return bill_selectors.bill_sources()

    @extend_schema(request=BillSourceInput, responses={201: BillSourceOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return Response(BillSourceOutput(bill_sources.set_source(actor=request.user, **body_of(request, BillSourceInput))).data, status=201)


class _OfOne(APIView):
    @staticmethod
    def find(pk: int) -> BillSource:
        source = bill_selectors.bill_sources().filter(pk=pk).first()
        if source is None:
            raise NotFound
        return source


class BillSourceDetail(_OfOne):
    access = {"DELETE": Permission.MANAGE_COSTS}

    @extend_schema(responses={204: None, 403: ErrorSerializer, 404: ErrorSerializer})
    def delete(self, request: ApiRequest, pk: int) -> Response:
        """Fetch no more; what was fetched stays."""
        bill_sources.remove_source(source=self.find(pk), actor=request.user)
        return Response(status=204)


class BillSourceFetch(_OfOne):
    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=None, responses={200: FetchedOutput, 403: ErrorSerializer, 404: ErrorSerializer, 502: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Fetch now."""
        return Response(FetchedOutput(bill_sources.fetch(source=self.find(pk), at=timezone.now())).data)
