"""Bodies of the anomaly endpoints. Money is text in USD; what is not known is null, never zero."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from rest_framework import serializers

from costs.api.serializers import ExactField
from costs.models import Anomaly, AnomalyDimension, AnomalySettings
from governance.api.serializers import StrictSerializer

FEEDBACK = [(name, label) for name, label in Anomaly.Feedback.choices if name]


class AnomalyQuery(StrictSerializer):
    status = serializers.ChoiceField(choices=Anomaly.Status.choices, required=False)
    dimension = serializers.ChoiceField(choices=AnomalyDimension.choices, required=False)
    kind = serializers.ChoiceField(choices=Anomaly.Kind.choices, required=False)
    feedback = serializers.ChoiceField(choices=[("none", "None yet"), *FEEDBACK], required=False)
    ref = serializers.CharField(max_length=200, required=False, help_text="Project or model slug, agent name or key id.")
    since = serializers.DateField(required=False, help_text="Began on this UTC day or later.")
    until = serializers.DateField(required=False, help_text="Began on this UTC day or earlier.")
    cursor = serializers.CharField(required=False)


class FeedbackInput(StrictSerializer):
    feedback = serializers.ChoiceField(choices=FEEDBACK, help_text="false closes it, planned also keeps its scope quiet.")
    note = serializers.CharField(max_length=400, required=False, allow_blank=True)
    planned_until = serializers.DateField(required=False, help_text="Only with planned; two weeks when left out.")


class MissedInput(StrictSerializer):
    dimension = serializers.ChoiceField(choices=AnomalyDimension.choices)
    ref = serializers.CharField(max_length=200, required=False, allow_blank=True, help_text="Left out for the whole organisation.")
    day = serializers.DateField(help_text="UTC.")
    note = serializers.CharField(max_length=400)


class AnomalySettingsInput(StrictSerializer):
    sensitivity = serializers.ChoiceField(choices=AnomalySettings.Sensitivity.choices, required=False)
    floor_usd = serializers.DecimalField(max_digits=12, decimal_places=2, min_value=Decimal("0.01"), required=False, source="floor")
    floor_percent = serializers.DecimalField(
        max_digits=5, decimal_places=2, min_value=Decimal(0), max_value=Decimal(100), required=False, help_text="Of the usual day."
    )
    muted = serializers.ListField(
        child=serializers.CharField(max_length=210),
        required=False,
        max_length=500,
        help_text="<dimension>:<name>, for example agent:crawler.",
    )


class AnomalySettingsOutput(serializers.Serializer[Any]):
    sensitivity = serializers.CharField()
    floor_usd = ExactField(source="floor")
    floor_percent = ExactField()
    muted = serializers.ListField(child=serializers.CharField())


class PointOutput(serializers.Serializer[Any]):
    """One day, or one stretch of hours, that was told."""

    at = serializers.DateTimeField()
    until = serializers.DateTimeField()
    expected_usd = serializers.CharField(source="expected")
    actual_usd = serializers.CharField(source="actual")
    score = serializers.FloatField()


class DriverOutput(serializers.Serializer[Any]):
    name = serializers.CharField(source="0", help_text="calls, tokens_per_call, mix or price.")
    amount_usd = serializers.CharField(source="1")

    def to_representation(self, instance: Any) -> dict[str, str]:
        return {"name": instance[0], "amount_usd": instance[1]}


class ContributorOutput(serializers.Serializer[Any]):
    dimension = serializers.CharField()
    ref = serializers.CharField()
    expected_usd = serializers.CharField(source="expected")
    actual_usd = serializers.CharField(source="actual")
    excess_usd = serializers.CharField(source="excess")


class AnomalyOutput(serializers.ModelSerializer[Anomaly]):
    """Spend that is not what it should be, with its causes."""

    dimension = serializers.CharField()
    kind = serializers.CharField()
    period = serializers.CharField(help_text="day, or hour for a runaway whose day is not over.")
    status = serializers.CharField()
    expected_usd = ExactField(source="expected")
    actual_usd = ExactField(source="actual")
    excess_usd = ExactField(source="excess", help_text="actual - expected.")
    points = PointOutput(many=True)
    drivers = DriverOutput(many=True, help_text="They sum to the excess.")
    contributors = ContributorOutput(many=True, help_text="The largest five of each other dimension.")
    also = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="[dimension, ref] of the alerts that it stands for: wider ones that it explains, narrower ones that are its parts.",
    )
    feedback = serializers.CharField(help_text="true, planned or false; empty while nobody has said.")
    feedback_by = serializers.CharField(source="feedback_by.email", allow_null=True, default=None)

    class Meta:
        model = Anomaly
        fields = (
            "id", "dimension", "ref", "kind", "period", "first_at", "last_at", "expected_usd", "actual_usd", "excess_usd", "score", "points",
            "drivers", "contributors", "also", "status", "feedback", "feedback_note", "feedback_by", "feedback_at", "planned_until", "created_at",
        )  # fmt: skip
