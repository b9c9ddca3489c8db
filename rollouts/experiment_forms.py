"""Forms of experiments: the terms, the planner, and what ends one."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog.models.prompt import label_validator
from governance.fields import TextField
from rollouts import experiment_selectors
from rollouts.advice import MEASURES
from rollouts.models import Experiment, Flag
from rollouts.models.rollout import slug_validator

GUARDS = {metric: f"guard_{metric}" for metric in MEASURES}


class PlanForm(forms.Form):
    """What the power calculator asks; the fields of `ExperimentForm` with the same names, and what may be expected in place of measured."""

    flag = forms.ModelChoiceField(queryset=Flag.objects.none(), to_field_name="key")
    metric = forms.ChoiceField(choices=Experiment.Metric.choices)
    effect = forms.FloatField()
    max_days = forms.IntegerField(min_value=1, max_value=90)
    mean = forms.FloatField(
        label="Expected mean", required=False, min_value=0,
        help_text="Of the metric, per call: ms, USD, tokens, or percent of an error rate. Empty: as measured in the last 7 days.",
    )  # fmt: skip
    spread = forms.FloatField(
        label="Expected spread", required=False, min_value=0, help_text="Standard deviation from user to user, in the same unit; not needed for a rate.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["flag"].queryset = experiment_selectors.flags_to_experiment_on()  # type: ignore[attr-defined]


class ExperimentForm(forms.Form):
    name = forms.CharField(label="Name", max_length=160)
    slug = forms.CharField(
        label="Address", max_length=60, validators=[slug_validator], help_text="Lower-case letters, digits and hyphens; part of every link."
    )
    hypothesis = TextField(
        label="Hypothesis", max_length=4000, widget=forms.Textarea(attrs={"rows": 2}), help_text="What you expect, and why it would matter."
    )
    flag = forms.ModelChoiceField(
        label="Flag", queryset=Flag.objects.none(), to_field_name="key", empty_label=None,
        help_text="It decides what serves a call: model, version of its prompt, parameters. Before the start it has to split: a share below 100%, or several treatments.",
    )  # fmt: skip
    champion = forms.CharField(
        label="Champion", max_length=60, required=False, help_text="The variant that the others are measured against. Empty: the flag's control.",
    )  # fmt: skip
    metric = forms.ChoiceField(label="Primary metric", choices=Experiment.Metric.choices, initial=Experiment.Metric.LATENCY)
    better = forms.ChoiceField(label="Which way is better", choices=Experiment.Better.choices, initial=Experiment.Better.LOWER)
    effect = forms.FloatField(
        label="Smallest effect worth finding", initial=5, min_value=0,
        help_text="Percent of the champion's mean; percentage points of an error rate.",
    )  # fmt: skip
    method = forms.ChoiceField(label="Method", choices=Experiment.Method.choices, initial=Experiment.Method.SEQUENTIAL)
    minimum_units = forms.IntegerField(
        label="Units per arm, at least", required=False, min_value=experiment_selectors.FEWEST_UNITS, max_value=10_000_000,
        help_text="A unit is whatever the flag keeps together, such as a user. Empty: as planned.",
    )  # fmt: skip
    max_days = forms.IntegerField(
        label="Days, at most", initial=14, min_value=1, max_value=90, help_text="Whole weeks see every day of the week."
    )
    auto_promote = forms.BooleanField(
        label="Propose the winner by itself above 95% confidence", required=False,
        help_text="In the name of whoever starts it, with every guardrail kept. Who approves changes of the flag still has to agree.",
    )  # fmt: skip
    label = forms.CharField(
        label="Promotion moves the prompt's label", max_length=40, required=False, validators=[label_validator],
        help_text="Such as production. Only where the flag's variants are versions of a prompt; empty: none is moved.",
    )  # fmt: skip
    expected_latency_delta = forms.FloatField(
        label="Expected change of latency, %", required=False, min_value=-100, max_value=1000, help_text="Of the challenger; shown beside what is measured.",
    )  # fmt: skip
    expected_quality_gain = forms.FloatField(
        label="Expected gain of quality, points", required=False, min_value=-100, max_value=1000, help_text="Kept with the experiment; no call tells it.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["flag"].queryset = experiment_selectors.flags_to_experiment_on()  # type: ignore[attr-defined]
        for metric, name in GUARDS.items():
            unit = "points" if MEASURES[metric].scale == "absolute" else "%"
            self.fields[name] = forms.FloatField(label=f"{MEASURES[metric].title}, {unit}", required=False, min_value=0, max_value=1000)

    @property
    def guards(self) -> list[forms.BoundField]:
        return [self[name] for name in GUARDS.values()]

    def terms(self) -> dict[str, Any]:
        """What `create_experiment` takes."""
        data = dict(self.cleaned_data)
        margins = {metric: data.pop(name) for metric, name in GUARDS.items()}
        return {**data, "guardrails": [{"metric": metric, "margin": margin} for metric, margin in margins.items() if margin is not None]}


class StopForm(forms.Form):
    reason = TextField(label="Why now", max_length=200, widget=forms.Textarea(attrs={"rows": 2}))


class DecideForm(forms.Form):
    seen = forms.IntegerField(required=False, min_value=1, widget=forms.HiddenInput)
    decision = forms.ChoiceField(label="Decision", choices=Experiment.Decision.choices, widget=forms.RadioSelect)
    winner = forms.ChoiceField(label="Winner", required=False, help_text="Only for a promotion.")
    note = TextField(label="Why", max_length=400, widget=forms.Textarea(attrs={"rows": 3}))

    def __init__(self, *args: Any, experiment: Experiment, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        others = [name for name in experiment.shares if name != experiment.champion]
        self.fields["winner"].choices = [(name, name) for name in others]  # type: ignore[attr-defined]

    def chosen(self) -> dict[str, Any]:
        """What `decide` takes."""
        data = dict(self.cleaned_data)
        if data["decision"] != Experiment.Decision.PROMOTE:
            data["winner"] = ""
        return data
