"""Forms of evaluations: thresholds, and waivers of them."""

from __future__ import annotations

from django import forms

from governance.models import FeatureClass
from rollouts.evaluation_rules import MEASURES


class ThresholdForm(forms.Form):
    feature_class = forms.ChoiceField(label="Models for", choices=FeatureClass.choices)
    metric = forms.ChoiceField(label="Metric", choices=[(measure.key, measure.title) for measure in MEASURES.values()])
    value = forms.FloatField(
        label="Threshold", min_value=0, max_value=1, help_text="0 to 1: at least, or at most where lower is better. The whole interval has to be on its side.",
    )  # fmt: skip
    minimum = forms.IntegerField(label="Items, at least", min_value=1, max_value=1_000_000, initial=100)
    max_age_days = forms.IntegerField(label="Days old, at most", min_value=1, max_value=365, initial=30)

    reason = forms.CharField(
        label="Why",
        max_length=500,
        required=False,
        help_text="Only where a threshold on safety is to ask for less: it then waits for a second person.",
    )


class RemovalForm(forms.Form):
    reason = forms.CharField(max_length=500, required=False)


class WaiverForm(forms.Form):
    model = forms.CharField(
        label="Model", max_length=300, help_text="Or a prompt version, such as greeting@3, or a deployment, such as chat via openai/gpt-4o."
    )
    reason = forms.CharField(label="Why the risk is acceptable", max_length=500)
    days = forms.IntegerField(label="Days", min_value=1, max_value=90, initial=14)
