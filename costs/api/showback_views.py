"""Showback for programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date
from typing import Any

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers as drf
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from costs import selectors, showback_selectors
from costs.api.serializers import ExactField
from governance.access import Permission
from governance.api.inputs import query_of
from governance.api.serializers import ErrorSerializer, StrictSerializer
from governance.requests import ApiRequest

_ERRORS: dict[int, Any] = {400: ErrorSerializer, 403: ErrorSerializer}


class MonthQuery(StrictSerializer):
    month = drf.RegexField(
        r"^20\d{2}-(0[1-9]|1[0-2])$", required=False, help_text="YYYY-MM, UTC; default the month before the present one."
    )


class ShowbackQuery(MonthQuery):
    by = drf.CharField(
        required=False, help_text="First level: `cost_centre` (default), `project`, `environment` or a declared tag as `tag:<name>`."
    )
    then = drf.CharField(
        required=False,
        help_text="Second level: the same, `agent` or `model`; default `project`. Of declared tags one at most. Agents stand last.",
    )


class ShareOutput(drf.Serializer[Any]):
    calls = drf.IntegerField(help_text="Served ones.")
    tokens = drf.IntegerField()
    unpriced_calls = drf.IntegerField(help_text="Whose cost is not known and not in the sum.")
    cost_usd = ExactField(source="cost")
    share_percent = drf.FloatField(source="share", allow_null=True)


class ShowbackLine(drf.Serializer[Any]):
    cost_centre = drf.CharField(allow_null=True, help_text="Empty where it is not known, null when it is no level; so are the next two.")
    project = drf.CharField(allow_null=True)
    agent = drf.CharField(allow_null=True)
    values = drf.DictField(
        child=drf.CharField(),
        help_text="By level. `(not counted)` of a tag: calls of days on which it was not counted, with no level below.",
    )
    figures = ShareOutput()


class NamedShare(ShareOutput):
    name = drf.CharField(source="value", help_text="Empty where it is not known.")


class ShowbackTotal(ShareOutput):
    untagged_calls = drf.IntegerField(help_text="Without project, key, model or agent.")
    untagged_cost_usd = ExactField(source="untagged_cost")


class ShowbackBill(drf.Serializer[Any]):
    provider = drf.CharField(source="reconciliation.provider")
    account = drf.CharField(source="reconciliation.account")
    variance_usd = ExactField(source="reconciliation.latest.variance_usd", help_text="Bill minus our figures, at our exchange rates.")
    is_signed_off = drf.BooleanField()


class ShowbackOutput(drf.Serializer[Any]):
    month = drf.DateField(format="%Y-%m")
    currency = drf.CharField()
    levels = drf.ListField(child=drf.CharField(), help_text="The outermost first.")
    is_over = drf.BooleanField(help_text="The month has ended and everything that began in it is counted.")
    complete_through = drf.DateTimeField()
    total = ShowbackTotal()
    lines = ShowbackLine(many=True)
    bills = ShowbackBill(many=True)


class ProjectShowbackOutput(drf.Serializer[Any]):
    project = drf.CharField(source="project.slug")
    month = drf.DateField(format="%Y-%m")
    is_over = drf.BooleanField()
    complete_through = drf.DateTimeField()
    total = ShowbackTotal(source="agents")
    agents = NamedShare(source="agents.children", many=True)
    models = NamedShare(source="models.children", many=True)


class Showback(APIView):
    """What a month cost each cost centre, project and agent, or by the levels that are asked for."""

    access = {"GET": Permission.VIEW_COSTS}

    @extend_schema(parameters=[ShowbackQuery], responses={200: ShowbackOutput, **_ERRORS})
    def get(self, request: ApiRequest) -> Response:
        asked = query_of(request, ShowbackQuery)
        levels = showback_selectors.levels_of(asked.get("by", ""), asked.get("then", ""))
        found = showback_selectors.showback(_month(asked), levels)
        body = {
            "month": found.month,
            "currency": "USD",
            "levels": found.levels,
            "is_over": found.is_over,
            "complete_through": found.complete_through,
            "total": found.total,
            "lines": [
                {**dict.fromkeys(showback_selectors.LEVELS), **values, "values": values, "figures": nodes[-1]}
                for nodes in found.lines
                for values in ({level: node.value for level, node in zip(found.levels, nodes, strict=False)},)
            ],
            "bills": found.bills,
        }
        return Response(ShowbackOutput(body).data)


class ProjectShowback(APIView):
    """What a project cost: for who may see all spend, owns it, or has a key in it."""

    access = {"GET": Permission.VIEW}

    @extend_schema(
        operation_id="v1_showback_project_retrieve",
        parameters=[MonthQuery],
        responses={200: ProjectShowbackOutput, **_ERRORS, 404: ErrorSerializer},
    )
    def get(self, request: ApiRequest, slug: str) -> Response:
        month = _month(query_of(request, MonthQuery))
        project = showback_selectors.project_visible_to(request.user, slug, sees_all=selectors.sees_all_calls(request.membership))
        if project is None:
            raise NotFound
        return Response(ProjectShowbackOutput(showback_selectors.project_showback(project, month)).data)


def _month(asked: Mapping[str, Any]) -> date:
    return showback_selectors.month_of(asked.get("month", ""), timezone.now().astimezone(UTC).date())
