"""Forms of traffic shifts."""

from __future__ import annotations

from typing import Any

from django import forms

from rollouts import experiment_selectors
from rollouts.models import Flag
from rollouts.models.rollout import slug_validator
from rollouts.shift_rules import DEFAULT_STEPS, Margins


class ShiftForm(forms.Form):
    name = forms.CharField(label="Name", max_length=160)
    slug = forms.CharField(
        label="Address", max_length=60, validators=[slug_validator], help_text="Lower-case letters, digits and hyphens; part of every link."
    )
    flag = forms.ModelChoiceField(label="Flag", queryset=Flag.objects.none(), to_field_name="key", empty_label=None)
    challenger = forms.CharField(label="Challenger", max_length=60, help_text="The treatment that gets a larger share step by step.")
    steps = forms.CharField(
        label="Steps, %",
        max_length=120,
        initial=", ".join(map(str, DEFAULT_STEPS)),
        help_text="Rising, the last one 100; separated by commas.",
    )
    window_calls = forms.IntegerField(
        label="Calls per window",
        initial=10_000,
        min_value=100,
        max_value=1_000_000,
        help_text="By the challenger, at each step below 100%.",
    )
    latency_margin = forms.FloatField(label="Latency, % more at most", initial=Margins().latency)
    error_margin = forms.FloatField(label="Errors, points more at most", initial=Margins().errors)
    savings_floor = forms.FloatField(
        label="Savings, % less cost per call at least", initial=Margins().savings, help_text="0 asks for none; below it the cost may rise."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["flag"].queryset = experiment_selectors.flags_to_experiment_on()  # type: ignore[attr-defined]

    def clean_steps(self) -> list[int]:
        try:
            return [int(part) for part in self.cleaned_data["steps"].split(",")]
        except ValueError as error:
            raise forms.ValidationError("Write whole percents with commas between them, for example 5, 20, 40, 70, 100.") from error

    def terms(self) -> dict[str, Any]:
        """What `start_shift` takes."""
        data = dict(self.cleaned_data)
        margins = Margins(data.pop("latency_margin"), data.pop("error_margin"), data.pop("savings_floor"))
        return {**data, "margins": margins}
