"""Budgets for programs: the same acts as on the pages."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import generics
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import budget_selectors
from costs.api import budget_serializers as serializers
from costs.models import Budget, BudgetRaise
from costs.services import budgets
from governance.access import Permission
from governance.api.inputs import body_of
from governance.api.serializers import ErrorSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer, 404: ErrorSerializer, 409: ErrorSerializer}


def _budget(pk: int) -> Budget:
    found = budget_selectors.budget(pk)
    if found is None:
        raise NotFound
    return found


def _answer(pk: int, status: int = 200) -> Response:
    [state] = budget_selectors.states([_budget(pk)])
    return Response(serializers.BudgetOutput(state).data, status=status)


class Budgets(generics.ListAPIView[Budget]):
    """Budgets by name, each with its present period. A posted one is a draft: simulate it, then put it in force."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = serializers.BudgetOutput
    ordering = ("name", "pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return self._asked()

    def _asked(self) -> QuerySet[Budget]:
        query = self.request.query_params
        return budget_selectors.budgets(state=query.get("state", ""), query=query.get("q", ""))

    @extend_schema(
        parameters=[
            OpenApiParameter("q", description="In the name, in what the budget is for, or in its environment."),
            OpenApiParameter("state", enum=Budget.State.values),
        ]
    )
    def get(self, request: ApiRequest) -> Response:  # type: ignore[override]  # our request has more than DRF's
        return super().get(request)

    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        rows = self.paginate_queryset(self.filter_queryset(self._asked()))
        return self.get_paginated_response(serializers.BudgetOutput(budget_selectors.states(rows or []), many=True).data)

    @extend_schema(request=serializers.BudgetInput, responses={201: serializers.BudgetOutput, **_ERRORS})
    def post(self, request: ApiRequest) -> Response:
        return _answer(budgets.create_budget(actor=request.user, **body_of(request, serializers.BudgetInput)).pk, 201)


class BudgetDetail(APIView):
    access = {"GET": Permission.VIEW_COSTS, "PATCH": Permission.MANAGE_COSTS}

    @extend_schema(responses={200: serializers.BudgetOutput, 404: ErrorSerializer})
    def get(self, request: ApiRequest, pk: int) -> Response:
        return _answer(pk)

    @extend_schema(request=serializers.BudgetInput, responses={200: serializers.BudgetOutput, **_ERRORS})
    def patch(self, request: ApiRequest, pk: int) -> Response:
        """Change some fields. In force, only the amount, thresholds and where slowing begins; the action only to alert."""
        found = _budget(pk)
        budgets.change_budget(budget=found, actor=request.user, **body_of(request, serializers.BudgetInput, partial=True))
        return _answer(pk)


class _Act(APIView):
    """A POST without a body that changes one budget."""

    access = {"POST": Permission.MANAGE_COSTS}


class BudgetSimulate(_Act):
    @extend_schema(request=None, responses={200: serializers.BudgetOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Play the period before the present one against it, and keep what came out."""
        budgets.simulate_budget(budget=_budget(pk), actor=request.user)
        return _answer(pk)


class BudgetEnforce(_Act):
    @extend_schema(request=None, responses={200: serializers.BudgetOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Put it in force. One that may refuse calls was simulated before, as it is now."""
        budgets.enforce_budget(budget=_budget(pk), actor=request.user)
        return _answer(pk)


class BudgetSwitchOff(_Act):
    @extend_schema(request=None, responses={200: serializers.BudgetOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        budgets.switch_off_budget(budget=_budget(pk), actor=request.user)
        return _answer(pk)


class BudgetRaises(generics.ListAPIView[BudgetRaise]):
    """A budget's raises, in force or over, the newest first."""

    access = {"GET": Permission.VIEW_COSTS, "POST": Permission.MANAGE_COSTS}
    serializer_class = serializers.RaiseOutput
    ordering = ("-created_at", "-pk")

    def get_queryset(self):  # type: ignore[no-untyped-def]  # the stubs and DRF disagree on its type
        return budget_selectors.raises(_budget(self.kwargs["pk"]).pk)

    @extend_schema(request=serializers.RaiseInput, responses={201: serializers.BudgetOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Add to its amount for a while; it ends by itself."""
        found = _budget(pk)
        budgets.raise_temporarily(budget=found, actor=request.user, **body_of(request, serializers.RaiseInput))
        return _answer(pk, 201)


class BudgetRaiseEnd(_Act):
    @extend_schema(request=None, responses={200: serializers.BudgetOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int, raise_pk: int) -> Response:
        """End a raise before its day."""
        raised = budget_selectors.budget_raise(pk, raise_pk)
        if raised is None:
            raise NotFound
        budgets.end_raise(found=raised, actor=request.user)
        return _answer(pk)


class BudgetReport(_Act):
    @extend_schema(request=serializers.ReportInput, responses={201: serializers.IncidentOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """It holds up calls that it should not: it only alerts from now, and a P0 is open."""
        found = _budget(pk)
        incident = budgets.report_false_throttle(budget=found, actor=request.user, **body_of(request, serializers.ReportInput))
        return Response(serializers.IncidentOutput(incident).data, status=201)


class IncidentResolve(_Act):
    @extend_schema(request=serializers.ResolveInput, responses={200: serializers.IncidentOutput, **_ERRORS})
    def post(self, request: ApiRequest, pk: int) -> Response:
        """Say how a reported false throttle was mended."""
        incident = budget_selectors.incident(pk)
        if incident is None:
            raise NotFound
        done = budgets.resolve_incident(incident=incident, actor=request.user, **body_of(request, serializers.ResolveInput))
        return Response(serializers.IncidentOutput(done).data)
