"""Forms of shadows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from catalog.models import Model, Project
from rollouts.models.rollout import slug_validator
from rollouts.services.shadows import HIGHEST_CAP_USD


class ShadowForm(forms.Form):
    name = forms.CharField(label="Name", max_length=160)
    slug = forms.CharField(
        label="Address", max_length=60, validators=[slug_validator], help_text="Lower-case letters, digits and hyphens; part of every link."
    )
    source = forms.ChoiceField(label="Repeat the calls of")
    candidate = forms.ChoiceField(label="To the candidate", help_text="It must be for data as sensitive, and have a price.")
    share_percent = forms.FloatField(label="Of the calls, %", min_value=0.01, max_value=100, initial=5)
    cap_usd = forms.DecimalField(
        label="At most, USD a day",
        min_value=Decimal("0.01"),
        max_value=HIGHEST_CAP_USD,
        decimal_places=2,
        initial=5,
        help_text="For the candidate and the judge together.",
    )
    project = forms.ChoiceField(label="Paid by the project")
    judge = forms.ChoiceField(
        label="Judge", required=False, help_text="Compares both answers blind, in both orders. It needs what was said: see Payloads."
    )
    latency_tolerance = forms.FloatField(label="Latency, % more at most", initial=20)
    cost_tolerance = forms.FloatField(label="Cost per call, % more at most", initial=0, help_text="Negative asks for savings.")
    length_tolerance = forms.FloatField(label="Length, % more or less at most", initial=30, min_value=0)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        served = Model.objects.filter(status__in=Model.SERVED, capabilities__contains=["chat"]).order_by("slug")
        models = [(slug, slug) for slug in served.values_list("slug", flat=True)]
        projects = Project.objects.filter(is_enabled=True).order_by("name").values_list("slug", "name")
        self.fields["source"].choices = self.fields["candidate"].choices = models  # type: ignore[attr-defined]
        self.fields["judge"].choices = [("", "Nobody"), *models]  # type: ignore[attr-defined]
        self.fields["project"].choices = list(projects)  # type: ignore[attr-defined]
        self.has_models = len(models) > 1
