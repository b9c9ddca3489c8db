"""Endpoints of traffic shifts: the same services and selectors as the pages."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.response import Response
from rest_framework.views import APIView

from governance.access import Permission, or_404
from governance.api.inputs import body_of
from governance.api.serializers import ERRORS, ErrorSerializer
from governance.requests import ApiRequest
from rollouts import flag_selectors, shift_selectors
from rollouts.api import shift_serializers as serializers
from rollouts.errors import ShiftInvalidError
from rollouts.models import Shift
from rollouts.services import shifts
from rollouts.shift_rules import Margins


def the_shift(slug: str) -> Shift:
    return or_404(shift_selectors.find_shift(slug))


def shift_answer(slug: str, *, status: int = 200) -> Response:
    """The shift as it is after whatever was done."""
    return Response(serializers.ShiftDetailOutput(the_shift(slug)).data, status=status)


class Shifts(generics.ListAPIView[Shift]):
    """Traffic shifts, newest first, by `tab` (open, closed) and `q`; POST starts one by asking for its first step."""

    access = {"GET": Permission.VIEW, "POST": Permission.MANAGE_ROLLOUTS}
    serializer_class = serializers.ShiftOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self) -> QuerySet[Shift]:
        asked = self.request.query_params
        return shift_selectors.shifts(tab=asked.get("tab", ""), query=asked.get("q", ""))

    @extend_schema(request=serializers.ShiftInput, responses={201: serializers.ShiftDetailOutput, **ERRORS})
    def post(self, request: ApiRequest) -> Response:
        data = body_of(request, serializers.ShiftInput)
        flag = flag_selectors.find_flag(data.pop("flag"))
        if flag is None:
            raise ShiftInvalidError("There is no such flag.", field="flag")
        margins = Margins(data.pop("latency_margin"), data.pop("error_margin"), data.pop("savings_floor"))
        return shift_answer(shifts.start_shift(flag=flag, margins=margins, actor=request.user, **data).slug, status=201)


class ShiftDetail(APIView):
    access = {"GET": Permission.VIEW}

    @extend_schema(responses={200: serializers.ShiftDetailOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, slug: str) -> Response:
        return shift_answer(slug)


class ShiftLook(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=None, responses={200: serializers.ShiftDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Count the present window now, and keep it."""
        return shift_answer(shifts.look(shift=the_shift(slug), actor=request.user).slug)


class ShiftResume(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.ShiftReasonInput, responses={200: serializers.ShiftDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Go on at the present step with a new window."""
        return shift_answer(
            shifts.resume_shift(shift=the_shift(slug), actor=request.user, **body_of(request, serializers.ShiftReasonInput)).slug
        )


class ShiftEnd(APIView):
    access = {"POST": Permission.MANAGE_ROLLOUTS}

    @extend_schema(request=serializers.ShiftReasonInput, responses={200: serializers.ShiftDetailOutput, **ERRORS})
    def post(self, request: ApiRequest, slug: str) -> Response:
        """Take no further step; the flag stays as it is."""
        return shift_answer(
            shifts.end_shift(shift=the_shift(slug), actor=request.user, **body_of(request, serializers.ShiftReasonInput)).slug
        )
