"""Where bills are fetched from: cost APIs of providers, and folders of exports."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework import serializers as drf
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from catalog.api.serializers.providers import CREDENTIALS_HELP
from costs import bill_selectors
from costs.models import BillSource, BillSourceFile, DeliveryStyle
from costs.services import bill_folders, bill_sources
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class BillSourceInput(StrictSerializer):
    provider = drf.SlugField(max_length=48)
    kind = drf.ChoiceField(choices=BillSource.Kind.choices)
    key = drf.CharField(
        required=False,
        allow_blank=True,
        default="",
        max_length=1000,
        write_only=True,
        help_text="Admin key of a cost API, or SAS token of an Azure container; empty keeps the one that is there.",
    )
    base_url = drf.URLField(
        required=False,
        allow_blank=True,
        default="",
        max_length=300,
        help_text="Default the provider's or cloud's own address. Of a folder, that of the store without the bucket; Azure needs one.",
    )
    begins_on = drf.DateField(
        required=False, help_text="First UTC day; default the first of this month. Of a folder: files written before it are passed over."
    )
    bucket = drf.CharField(
        required=False, allow_blank=True, default="", max_length=222, help_text="Or container. Of folders, like the rest."
    )
    prefix = drf.CharField(required=False, allow_blank=True, default="", max_length=500)
    region = drf.CharField(required=False, allow_blank=True, default="", max_length=32, help_text="Of S3.")
    style = drf.ChoiceField(  # type: ignore[assignment]  # a field is no attribute
        choices=DeliveryStyle.choices,
        required=False,
        allow_blank=True,
        default="",
        help_text="How its files follow each other; empty: as is remembered of their accounts, or as they tell.",
    )
    credential = drf.ChoiceField(
        choices=BillSource.Credential.choices,
        required=False,
        allow_blank=True,
        default="",
        help_text="Default the present one, or the usual one of the kind. `key` of an Azure container is a SAS token.",
    )
    credentials = drf.DictField(
        child=drf.CharField(max_length=16_000, allow_blank=True),
        required=False,
        write_only=True,
        help_text=CREDENTIALS_HELP,
    )


class BillSourceOutput(drf.ModelSerializer[BillSource]):
    set_by = drf.CharField(source="set_by.email")
    begun_at = drf.DateTimeField(allow_null=True, help_text="Of a reading of a folder that is on its way, or asked for; null without one.")
    reading = drf.DictField(
        child=drf.IntegerField(),
        help_text="Files of a folder by what its last whole reading did with them: taken, failed, left for the next reading, unsettled (written "
        "in the last ten minutes), passed_over (no bills, or from before the first day), known (read before, and the same); and rows that are new.",
    )
    months_counted_twice = drf.ListField(
        child=drf.DateField(format="%Y-%m"),
        help_text="Months of the provider of which rows came from a cost API and from files besides: what both say counts twice.",
    )

    class Meta:
        model = BillSource
        fields = (
            "id", "provider", "kind", "base_url", "bucket", "prefix", "region", "style", "credential", "key_set_at", "begins_on", "set_by",
            "fetched_through", "fetched_at", "tried_at", "begun_at", "last_error", "reading", "months_counted_twice",
        )  # fmt: skip


class FetchedOutput(drf.Serializer[Any]):
    first = drf.DateField(help_text="First UTC day that was read.")
    last = drf.DateField()
    rows = drf.IntegerField(help_text="New rows, corrections among them.")


class FetchInput(StrictSerializer):
    again = drf.BooleanField(default=False, help_text="Of a folder: also what failed and has not changed.")


class SeenOutput(drf.Serializer[Any]):
    name = drf.CharField()
    size_bytes = drf.IntegerField()
    changed_at = drf.DateTimeField()
    standing = drf.ChoiceField(choices=list(bill_folders.WORDS.items()))


class LookOutput(drf.Serializer[Any]):
    files = SeenOutput(many=True, help_text="At most 20, first those that would be taken.")
    counts = drf.DictField(child=drf.IntegerField(), help_text="All files by standing.")


class BillSourceFileOutput(drf.ModelSerializer[BillSourceFile]):
    class Meta:
        model = BillSourceFile
        fields = ("id", "name", "size_bytes", "changed_at", "read_at", "bill", "error")


class BillSources(generics.ListAPIView[BillSource]):
    """Where bills are fetched from. Posting one sets it for its provider; the key is never given out."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = BillSourceOutput
    ordering = ("provider",)

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return bill_selectors.bill_sources()

    @extend_schema(request=BillSourceInput, responses={201: BillSourceOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        source = bill_sources.set_source(actor=request.user, **body_of(request, BillSourceInput))
        return Response(BillSourceOutput(bill_selectors.bill_sources().get(pk=source.pk)).data, status=201)


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

    @extend_schema(
        request=FetchInput, responses={200: FetchedOutput, 202: BillSourceOutput, **_ERRORS, 404: ErrorSerializer, 502: ErrorSerializer}
    )
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Fetch now. A folder is read in the background: the answer is the source (202), whose `begun_at` is null when the reading is over."""
        found, wanted = self.find(pk), body_of(request, FetchInput)
        if found.is_folder:
            bill_sources.ask_reading(source=found, **wanted)
            return Response(BillSourceOutput(self.find(pk)).data, status=202)
        return Response(FetchedOutput(bill_sources.fetch(source=found, at=timezone.now(), **wanted)).data)


class BillSourceTry(_OfOne):
    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=None, responses={200: LookOutput, 403: ErrorSerializer, 404: ErrorSerializer, 502: ErrorSerializer})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Say what a reading of a folder would do now. Nothing is taken."""
        return Response(LookOutput(bill_folders.look(_folder(self.find(pk)), timezone.now())).data)


class BillSourceFiles(generics.ListAPIView[BillSourceFile]):
    """What was read, or tried, of a folder; the newest first."""

    access = {"GET": Permission.VIEW_COSTS}
    serializer_class = BillSourceFileOutput
    queryset = BillSourceFile.objects.none()
    ordering = ("-changed_at", "-pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return bill_selectors.source_files(_folder(_OfOne.find(self.kwargs["pk"])))


def _folder(source: BillSource) -> BillSource:
    if not source.is_folder:
        raise NotFound
    return source
