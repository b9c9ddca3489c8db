"""Spend, calls, prices, bills and reconciliations for programs."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any, cast
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param
from rest_framework.views import APIView

from costs import (
    bill_imports,
    bill_selectors,
    call_lists,
    dimensions,
    periods,
    price_selectors,
    reconciliation_selectors,
    selectors,
    spend_selectors,
)
from costs.api import asked as asked_of
from costs.api import serializers
from costs.call_lists import Cursor
from costs.forecast import Forecast, TooLittle
from costs.models import BillError, BillFile, Event, PriceEntry, Reconciliation, ReconciliationLine, Revision
from costs.services import bills, prices, reconciliation, signoff
from governance.access import Permission
from governance.api.inputs import body_of, query_of
from governance.api.serializers import ErrorSerializer
from governance.pages import PAGE_SIZE
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class Spend(APIView):
    """Spend of the organisation over a period by one dimension, from telemetry at list price."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(parameters=[serializers.SpendQuery], responses={200: serializers.SpendOutput, **_ERRORS})
    def get(self, request: ApiRequest) -> Response:
        return Response(_spend(request, None))


class Usage(APIView):
    """The same for calls with one's own keys."""

    access = {"GET": Permission.USE_GATEWAY}

    @extend_schema(parameters=[serializers.SpendQuery], responses={200: serializers.SpendOutput, **_ERRORS})
    def get(self, request: ApiRequest) -> Response:
        return Response(_spend(request, selectors.own_keys(request.user)))


def _spend(request: ApiRequest, keys: list[str] | None) -> Any:
    asked = query_of(request, serializers.SpendQuery)
    period = asked_of.period(asked)
    chosen = dimensions.chosen(request.query_params.dict())
    earlier = periods.compared(period, asked["compare"])
    found = spend_selectors.spend(period, asked["group"], chosen, keys=keys, earlier=earlier)
    outlook = None
    if period == periods.this_month(timezone.now().astimezone(UTC).date()):
        outlook = spend_selectors.outlook(period, chosen, keys=keys)
    return serializers.SpendOutput(
        {
            "first_day": period.first,
            "last_day": period.last,
            "earlier_first_day": earlier.first if earlier else None,
            "earlier_last_day": earlier.last if earlier else None,
            "forecast": outlook if isinstance(outlook, Forecast) else None,
            "no_forecast": f"{outlook.days} of {outlook.needed} whole days of history." if isinstance(outlook, TooLittle) else "",
            "currency": "USD",
            "complete_through": found.complete_through,
            "total": found.total,
            "lines": found.lines,
            "days": [
                {"day": day, "value": value, "cost_usd": cost}
                for day, values in sorted(found.by_day.items())
                for value, cost in sorted(values.items())
            ],
            "served_calls": found.served_calls,
            "untagged_calls": found.untagged_calls,
            "untagged_cost_usd": found.untagged_cost,
            "coverage_calls_percent": found.coverage_calls,
            "coverage_cost_percent": found.coverage_cost,
        }
    ).data


@extend_schema_view(get=extend_schema(parameters=[serializers.EventQuery], responses={200: serializers.EventOutput(many=True), **_ERRORS}))
class Requests(generics.ListAPIView[Event]):
    """Single calls, newest first: all of them with the right to see costs, otherwise those with one's own keys.

    Behind those in the database come those in the files of archived months. There a page may have fewer calls than its limit, or none, and
    still a `next`: it stops after five million calls that were looked at. Months that were deleted are left out; `/api/v1/archive/` lists them.
    An archived call whose id is not a UUID of version 7, as one that was reported by OpenTelemetry, is here only: `requests/{id}/` does not know it.
    """

    access = {"GET": Permission.VIEW}
    serializer_class = serializers.EventOutput
    ordering = ("-started_at", "-event_id")

    queryset = Event.objects.none()

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        asked, caller = query_of(request, serializers.EventQuery), cast(ApiRequest, request)
        cursor = Cursor.read(asked["cursor"]) if "cursor" in asked else None
        if "cursor" in asked and cursor is None:
            raise NotFound("The cursor is none of this list.")
        page = call_lists.calls_page(
            membership=caller.membership,
            own=False,
            chosen=asked,
            period=asked_of.open_period(asked),
            cursor=cursor,
            size=asked.get("limit", PAGE_SIZE),
        )
        here = request.build_absolute_uri()
        links = {
            name: replace_query_param(here, "cursor", to) if to else None
            for name, to in (("next", page.next_cursor), ("previous", page.previous_cursor))
        }
        return Response({**links, "results": serializers.EventOutput(page.rows, many=True).data})


class RequestDetail(APIView):
    """One call with the road it took, also from the archive when it came through the gateway."""

    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.EventDetailOutput, 403: ErrorSerializer, 404: ErrorSerializer, 503: ErrorSerializer})
    def get(self, request: ApiRequest, event_id: UUID) -> Response:
        event = selectors.event_visible_to(request.membership, event_id)
        if event is None:
            raise NotFound
        return Response(serializers.EventDetailOutput(event).data)


class Prices(generics.ListAPIView[PriceEntry]):
    """The price book. A new price ends the one in force."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = serializers.PriceOutput
    ordering = ("-valid_from", "-pk")
    queryset = PriceEntry.objects.select_related("approved_by")

    @extend_schema(request=serializers.PriceInput, responses={201: serializers.PriceOutput, **_ERRORS, 409: ErrorSerializer})
    def post(self, request: ApiRequest) -> Response:
        asked = body_of(request, serializers.PriceInput)
        found = price_selectors.priceable()
        unknown = {
            name: [f"There is no {name} {asked[name]}."]
            for name, known in (("provider", found.providers), ("model", found.models))
            if asked[name] not in known
        }
        if unknown:
            raise ValidationError(unknown)
        return Response(serializers.PriceOutput(prices.set_price(actor=request.user, **asked)).data, status=201)


class Unpriced(APIView):
    """Calls that wait for a price, by provider and model."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses=serializers.UnpricedOutput(many=True))
    def get(self, request: ApiRequest) -> Response:
        return Response(serializers.UnpricedOutput(price_selectors.unpriced(), many=True).data)


class Bills(generics.ListAPIView[BillFile]):
    """Bill files. Posting one takes it over and then compares its months; the same file again answers 200 and changes nothing.

    A file that would replace rows and gives reason to doubt waits (`state`, `doubts`): look at `deliveries`, then apply it with its `digest`.
    """

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = serializers.BillOutput
    ordering = ("-uploaded_at", "-pk")
    parser_classes = (MultiPartParser, FormParser)

    def get_queryset(self):  # type: ignore[no-untyped-def]
        return bill_selectors.bills(query_of(self.request, serializers.BillQuery))

    @extend_schema(parameters=[serializers.BillQuery])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request={"multipart/form-data": serializers.BillInput},
        responses={
            201: serializers.ImportedOutput,
            200: OpenApiResponse(serializers.ImportedOutput, "Imported before"),
            **_ERRORS,
            413: ErrorSerializer,
        },
    )
    def post(self, request: ApiRequest) -> Response:
        asked = body_of(request, serializers.BillInput)
        files = [bills.Upload(file, file.name) for file in asked["file"]]
        done = bills.import_bill(
            file=files[0].file,
            name=files[0].name,
            more=files[1:],
            actor=request.user,
            provider=asked["provider"],
            style=asked["style"],
            is_preview=asked["preview"],
            import_id=asked["import_id"],
        )
        done.file.already_imported = not done.is_new  # type: ignore[attr-defined]  # for the serializer
        return Response(serializers.ImportedOutput(done.file).data, status=201 if done.is_new else 200)


class BillImports(APIView):
    """Imports that are on their way: a bill that is posted is listed here until it is answered."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: serializers.BillImportOutput(many=True), 403: ErrorSerializer})
    def get(self, request: ApiRequest) -> Response:
        return Response(serializers.BillImportOutput(bill_imports.running(), many=True).data)


class BillImportStop(APIView):
    """Ask an import to stop: whoever posted it is answered `bill_stopped`, and nothing of it is taken over, unless it was done in that moment."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(request=None, responses={204: None, 403: ErrorSerializer, 409: ErrorSerializer})
    def post(self, request: ApiRequest, import_id: str) -> Response:
        bills.stop_import(import_id=import_id, actor=request.user)
        return Response(status=204)


class BillDetail(APIView):
    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: serializers.BillDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        bill = bill_selectors.bills().filter(pk=pk).first()
        if bill is None:
            raise NotFound
        return Response(serializers.BillDetailOutput(bill).data)


class BillRelease(APIView):
    """Try to place the rows of a file again that are in quarantine."""

    access = {"POST": Permission.MANAGE_COSTS}

    @extend_schema(
        request=serializers.BillReleaseInput,
        responses={200: serializers.BillOutput, 400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer},
    )
    def post(self, request: ApiRequest, pk: int) -> Response:
        bill = bill_selectors.bills().filter(pk=pk).first()
        if bill is None:
            raise NotFound
        released = bills.release_quarantine(bill=bill, actor=request.user, **body_of(request, serializers.BillReleaseInput))
        return Response(serializers.BillOutput(released).data)


class BillErrors(generics.ListAPIView[BillError]):
    """Rows of a file that were rejected or are in quarantine, with why."""

    access = {"GET": Permission.VIEW_COSTS}
    serializer_class = serializers.BillErrorOutput
    ordering = ("part", "line", "pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]
        if getattr(self, "swagger_fake_view", False):
            return BillError.objects.none()
        if not bill_selectors.bills().filter(pk=self.kwargs["pk"]).exists():
            raise NotFound
        return BillError.objects.filter(file=self.kwargs["pk"])


class Reconciliations(generics.ListAPIView[Reconciliation]):
    """Compared months, newest first. Posting a provider and a month compares again, now."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = serializers.ReconciliationOutput
    ordering = ("-month", "-pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]
        return bill_selectors.reconciliations(query_of(self.request, serializers.ReconciliationQuery))

    @extend_schema(parameters=[serializers.ReconciliationQuery])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        request=serializers.RunInput,
        responses={200: serializers.RunOutput, 201: serializers.RunOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: ApiRequest) -> Response:
        asked = body_of(request, serializers.RunInput)
        month = date.fromisoformat(f"{asked['month']}-01")
        revision, is_new = reconciliation.reconcile(provider=asked["provider"], month=month, actor=request.user)
        series, _ = _revision(asked["provider"], revision.reconciliation.account, month)
        series.is_new = is_new  # type: ignore[attr-defined]  # for the serializer
        return Response(serializers.RunOutput(series).data, status=201 if is_new else 200)


class ReconciliationDetail(APIView):
    """One provider account's month: every revision, and the lines of the latest."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: serializers.ReconciliationDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, provider: str, account: str, month: date) -> Response:
        return Response(_detail(*_revision(provider, account, month)))


def _revision(provider: str, account: str, month: date, number: int | None = None) -> tuple[Reconciliation, Revision]:
    series = bill_selectors.reconciliation(provider, account, month)
    found = reconciliation_selectors.revision(series, number) if series else None
    if series is None or found is None:
        raise NotFound
    found.reconciliation = series
    return series, found


def _detail(series: Reconciliation, latest: Revision) -> Any:
    body: Any = {
        "provider": series.provider,
        "account": series.account,
        "month": series.month,
        "is_replaced": series.is_replaced,
        "missing_rates": series.missing_rates,
        "has_waiting_file": series.has_waiting_file,
        "is_counted_twice": series.is_counted_twice,
        "latest": latest,
        "sign_off": reconciliation_selectors.sign_off(latest),
        "revisions": series.revisions.select_related("reconciliation").order_by("-number"),
        "lines": latest.lines.all(),
    }
    return serializers.ReconciliationDetailOutput(body).data


@extend_schema_view(
    get=extend_schema(
        parameters=[serializers.LineQuery],
        responses={200: serializers.StandingLineOutput(many=True), **_ERRORS, 404: ErrorSerializer},
    )
)
class ReconciliationLines(generics.ListAPIView[ReconciliationLine]):
    """Lines of a revision with how they stand, by model, day and class."""

    access = {"GET": Permission.VIEW_COSTS}
    serializer_class = serializers.StandingLineOutput
    ordering = ("pk",)

    def get_queryset(self):  # type: ignore[no-untyped-def]
        if getattr(self, "swagger_fake_view", False):
            return ReconciliationLine.objects.none()
        asked = query_of(self.request, serializers.LineQuery)
        _, found = _revision(self.kwargs["provider"], self.kwargs["account"], self.kwargs["month"], asked.get("revision"))
        chosen: dict[str, str] = {name: str(asked[name]) for name in ("standing", "cause", "model", "class", "day") if name in asked}
        return reconciliation_selectors.lines(found, chosen)


class ReconciliationAccounts(APIView):
    """What each account of the month's bill is billed, as the bill is now. Our telemetry knows the provider of a call, not the account."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(responses={200: serializers.BilledAccountOutput(many=True), 403: ErrorSerializer, 404: ErrorSerializer})
    def get(self, request: ApiRequest, provider: str, account: str, month: date) -> Response:
        _, found = _revision(provider, account, month)
        return Response(serializers.BilledAccountOutput(bill_selectors.billed_accounts(found), many=True).data)


class ReconciliationChanges(APIView):
    """What a revision says otherwise than an earlier one."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(parameters=[serializers.ChangesQuery], responses={200: serializers.ChangesOutput, **_ERRORS, 404: ErrorSerializer})
    def get(self, request: ApiRequest, provider: str, account: str, month: date) -> Response:
        asked = query_of(request, serializers.ChangesQuery)
        series, after = _revision(provider, account, month, asked.get("revision"))
        wanted = asked.get("against")
        before = reconciliation_selectors.revision(series, wanted) if wanted else reconciliation_selectors.revision_before(after)
        if before is None:
            raise NotFound
        before, after = sorted((before, after), key=lambda one: one.number)
        return Response(serializers.ChangesOutput(reconciliation_selectors.restatement(series, before, after)).data)


class ReconciliationSign(APIView):
    """Sign the latest revision: two people with the right to do so sign a month off, until a new revision."""

    access = {"POST": Permission.SIGN_BILLS}

    @extend_schema(
        request=serializers.BillSignInput,
        responses={201: serializers.ReconciliationDetailOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def post(self, request: ApiRequest, provider: str, account: str, month: date) -> Response:
        series, latest = _revision(provider, account, month)
        signoff.sign(revision=latest, actor=request.user, **body_of(request, serializers.BillSignInput))
        return Response(_detail(series, latest), status=201)


class ReconciliationWithdraw(APIView):
    """Take one's own signature back, before the second one."""

    access = {"POST": Permission.SIGN_BILLS}

    @extend_schema(
        request=None, responses={200: serializers.ReconciliationDetailOutput, **_ERRORS, 404: ErrorSerializer, 409: ErrorSerializer}
    )
    def post(self, request: ApiRequest, provider: str, account: str, month: date) -> Response:
        series, latest = _revision(provider, account, month)
        signoff.withdraw(revision=latest, actor=request.user)
        return Response(_detail(series, latest))
