"""Bodies of the budget endpoints. Money is text in USD; what is not known is null, never zero."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.utils import timezone
from rest_framework import serializers

from costs.api.serializers import ExactField
from costs.models import Budget, BudgetIncident, BudgetRaise
from governance.api.serializers import StrictSerializer


class BudgetInput(StrictSerializer):
    name = serializers.CharField(max_length=80, help_text="Refusals and notices call the budget by it.")
    scope = serializers.ChoiceField(choices=Budget.Scope.choices)
    ref = serializers.CharField(
        max_length=176,
        required=False,
        allow_blank=True,
        help_text="Project or model slug, agent name, key id, environment, or a declared tag with its value as `team=search` (per month only); left out for the whole organisation.",
    )
    period = serializers.ChoiceField(
        choices=Budget.Period.choices, required=False, help_text="Calendar-aligned in the organisation's time zone; default month."
    )
    amount = serializers.DecimalField(max_digits=14, decimal_places=2, min_value=Decimal("0.01"), help_text="USD per period.")
    action = serializers.ChoiceField(choices=Budget.Action.choices, required=False, help_text="At the amount; default alert.")
    thresholds = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=200),
        required=False,
        min_length=1,
        max_length=10,
        help_text="Percent at which people are told; default 50, 80, 100.",
    )
    throttle_from = serializers.IntegerField(
        required=False,
        min_value=1,
        max_value=99,
        help_text="Percent from which calls are slowed down, for the action throttle; default 80.",
    )
    environment = serializers.CharField(max_length=40, required=False, allow_blank=True)


class RaiseInput(StrictSerializer):
    extra = serializers.DecimalField(max_digits=14, decimal_places=2, min_value=Decimal("0.01"), help_text="USD per period.")
    reason = serializers.CharField(max_length=400)
    until = serializers.DateTimeField(help_text="Within 92 days.")


class ReportInput(StrictSerializer):
    reason = serializers.CharField(max_length=400, required=False, allow_blank=True)


class ResolveInput(StrictSerializer):
    resolution = serializers.CharField(max_length=400)


class RaiseOutput(serializers.ModelSerializer[BudgetRaise]):
    extra_usd = ExactField(source="extra")
    by = serializers.CharField(source="by.email")
    is_over = serializers.SerializerMethodField()
    ended_early_at = serializers.SerializerMethodField(help_text="When somebody ended it before `until`.")

    class Meta:
        model = BudgetRaise
        fields = ("id", "extra_usd", "reason", "until", "by", "created_at", "is_over", "ended_early_at")

    def get_is_over(self, found: BudgetRaise) -> bool:
        return found.is_over(timezone.now())

    def get_ended_early_at(self, found: BudgetRaise) -> datetime | None:
        return found.ended_at if found.was_ended_early else None


class IncidentOutput(serializers.ModelSerializer[BudgetIncident]):
    """A false throttle that was reported."""

    budget = serializers.CharField(source="budget.name")
    opened_by = serializers.CharField(source="opened_by.email")
    action_before = serializers.CharField(help_text="What the budget did until then.")

    class Meta:
        model = BudgetIncident
        fields = ("id", "budget", "priority", "reason", "action_before", "opened_at", "opened_by", "resolved_at", "resolution")


class ForecastOutput(serializers.Serializer[Any]):
    """Spend at the end of the period, with its 80% interval."""

    expected_usd = ExactField(source="expected")
    low_usd = ExactField(source="low")
    high_usd = ExactField(source="high")
    history_days = serializers.IntegerField(source="days")
    runs_out_on = serializers.DateField(allow_null=True, help_text="Null when the amount lasts.")


class CrossingOutput(serializers.Serializer[Any]):
    threshold = serializers.IntegerField()
    at = serializers.DateTimeField()


class SimulationOutput(serializers.Serializer[Any]):
    """What the budget would have done over the period before."""

    first = serializers.DateTimeField()
    last = serializers.DateTimeField()
    action = serializers.CharField(help_text="Of the simulated budget.")
    calls = serializers.IntegerField()
    cost_usd = serializers.CharField()
    unpriced_calls = serializers.IntegerField(help_text="Not in the money; a budget that acts refuses models without a price.")
    crossed = CrossingOutput(many=True)
    throttled_from = serializers.DateTimeField(allow_null=True)
    throttled_calls = serializers.IntegerField()
    throttled_cost_usd = serializers.CharField()
    blocked_from = serializers.DateTimeField(allow_null=True)
    blocked_calls = serializers.IntegerField()
    blocked_cost_usd = serializers.CharField()


class BudgetOutput(serializers.Serializer[Any]):
    """A budget and how it stands in its present period."""

    id = serializers.IntegerField(source="budget.pk")
    name = serializers.CharField(source="budget.name")
    scope = serializers.CharField(source="budget.scope")
    ref = serializers.CharField(source="budget.ref")
    period = serializers.CharField(source="budget.period")
    amount_usd = ExactField(source="budget.amount")
    action = serializers.CharField(source="budget.action")
    thresholds = serializers.ListField(child=serializers.IntegerField(), source="budget.thresholds")
    throttle_from = serializers.IntegerField(source="budget.throttle_from")
    environment = serializers.CharField(source="budget.environment")
    state = serializers.CharField(source="budget.state")
    enforced_at = serializers.DateTimeField(source="budget.enforced_at", allow_null=True, help_text="When it was last put in force.")
    raises = RaiseOutput(many=True, source="budget.active_raises", help_text="In force now; `raises/` has those that are over, too.")
    period_start = serializers.DateTimeField(source="span.start")
    period_end = serializers.DateTimeField(source="span.end")
    days_left = serializers.IntegerField()
    amount_in_force_usd = ExactField(source="amount")
    spent_usd = ExactField(source="spent")
    share_percent = serializers.FloatField(source="share")
    unpriced_calls = serializers.IntegerField(help_text="In the period, and not in the money.")
    refused_calls = serializers.DictField(child=serializers.IntegerField(), source="refused", help_text="By error code.")
    forecast = ForecastOutput(source="expected", allow_null=True, help_text="Null with fewer than 14 days of history.")
    simulation = SimulationOutput(source="budget.simulation", allow_null=True)
    incident = IncidentOutput(allow_null=True)
