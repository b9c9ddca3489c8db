"""Bills that are delivered again: seeing what a file would replace, applying it, and taking it back."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers as drf
from rest_framework.generics import get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import bill_selectors
from costs.api.serializers import BillDetailOutput
from costs.models import BillFile, DeliveryStyle
from costs.services import bills
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ANSWERS: dict[int, Any] = {200: BillDetailOutput, **dict.fromkeys((400, 403, 404, 409), ErrorSerializer)}


class BillPreviewInput(StrictSerializer):
    style = drf.ChoiceField(  # type: ignore[assignment]  # a field is no attribute
        choices=DeliveryStyle.choices,
        required=False,
        allow_blank=True,
        default="",
        help_text="Default as remembered, else as the file tells.",
    )


class BillApplyInput(StrictSerializer):
    digest = drf.RegexField(r"^[0-9a-f]{64}$", help_text="Of the preview that was looked at.")
    reason = drf.CharField(
        required=False, allow_blank=True, max_length=400, default="", help_text="Needed where a month changes that is signed off."
    )


class BillUndoInput(StrictSerializer):
    reason = drf.CharField(
        required=False, allow_blank=True, max_length=400, default="", help_text="Needed where a month changes that is signed off."
    )


class _BillAct(APIView):
    access = {"POST": Permission.MANAGE_COSTS}

    def bill(self, pk: int) -> BillFile:
        found: BillFile = get_object_or_404(bill_selectors.bills(), pk=pk)
        return found


class BillPreview(_BillAct):
    """Say what a file that is not applied would change, and let it wait; nothing of it is in force."""

    @extend_schema(request=BillPreviewInput, responses=_ANSWERS)
    def post(self, request: ApiRequest, pk: int) -> Response:
        done = bills.preview_bill(bill=self.bill(pk), actor=request.user, **body_of(request, BillPreviewInput))
        return Response(BillDetailOutput(done).data)


class BillApply(_BillAct):
    """Put a file that waits in force, just as its preview says. The style is remembered for its accounts."""

    @extend_schema(request=BillApplyInput, responses=_ANSWERS)
    def post(self, request: ApiRequest, pk: int) -> Response:
        done = bills.apply_bill(bill=self.bill(pk), actor=request.user, **body_of(request, BillApplyInput))
        return Response(BillDetailOutput(done).data)


class BillDismiss(_BillAct):
    """Do not apply a file that waits."""

    @extend_schema(request=None, responses=_ANSWERS)
    def post(self, request: ApiRequest, pk: int) -> Response:
        return Response(BillDetailOutput(bills.dismiss_bill(bill=self.bill(pk), actor=request.user)).data)


class BillUndo(_BillAct):
    """Take a replacement back: what it replaced counts again."""

    @extend_schema(request=BillUndoInput, responses=_ANSWERS)
    def post(self, request: ApiRequest, pk: int) -> Response:
        done = bills.undo_bill(bill=self.bill(pk), actor=request.user, **body_of(request, BillUndoInput))
        return Response(BillDetailOutput(done).data)
