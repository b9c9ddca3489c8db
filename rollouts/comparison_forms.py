"""The form of a comparison: a flag whose variants are treatments, written arm by arm."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog import prompt_selectors
from catalog import selectors as catalog_selectors
from gateway.contract.treatments import PARAMETERS, Bounds
from governance.models import FeatureClass
from rollouts.models import Flag
from rollouts.models.flag import key_validator

ARMS = 4
"""The champion, and at most three challengers; a flag with more variants is written as such."""
_FIRST = ("champion", "challenger", "", "")


def _parameter_field(name: str) -> forms.Field:
    allowed = PARAMETERS[name]
    label = name.replace("_", " ").capitalize()
    if not isinstance(allowed, Bounds):
        return forms.ChoiceField(label=label, required=False, choices=[("", "as the call says"), *((each, each) for each in allowed)])
    limits: dict[str, Any] = {"min_value": allowed.low, "max_value": allowed.high}
    widget = forms.NumberInput(attrs={"step": 1 if allowed.is_whole else "any", "placeholder": "as the call says"})
    return (forms.IntegerField if allowed.is_whole else forms.FloatField)(label=label, required=False, widget=widget, **limits)


class ComparisonForm(forms.Form):
    title = forms.CharField(label="Title", max_length=160)
    key = forms.CharField(
        label="Key",
        max_length=120,
        validators=[key_validator],
        help_text="ai.<feature>.<change-id>, for example ai.search.tone-2. It stays.",
    )
    model = forms.CharField(
        label="Calls to the model", max_length=80, help_text="What callers name; the treatments decide what serves them."
    )
    feature_class = forms.ChoiceField(
        label="Consent", choices=FeatureClass.choices, help_text="Without this consent everybody gets the champion."
    )
    sticky = forms.CharField(
        label="Sticky by", max_length=60, initial="user", help_text="What is kept together in one arm: user, project, key, agent, or an attribute of your own.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        models = [("", "as the call names")] + [(slug, slug) for slug in catalog_selectors.all_models().values_list("slug", flat=True)]
        prompts = [("", "as the call asks")] + [(name, name) for name in prompt_selectors.served_references()]
        for number in range(ARMS):
            self.fields[f"name_{number}"] = forms.CharField(
                label="Name",
                max_length=60,
                required=number < 2,
                initial=_FIRST[number],
                help_text="" if number < 2 else "Empty: no such arm.",
            )
            self.fields[f"model_{number}"] = forms.ChoiceField(label="Model", required=False, choices=models)
            self.fields[f"prompt_{number}"] = forms.ChoiceField(label="Version of the prompt", required=False, choices=prompts)
            for name in PARAMETERS:
                self.fields[f"{name}_{number}"] = _parameter_field(name)

    @property
    def arms(self) -> list[dict[str, Any]]:
        """Each with its name and its other fields, for the page."""
        names = ("model", "prompt", *PARAMETERS)
        return [
            {
                "title": "Champion" if number == 0 else f"Challenger{f' {number}' if number > 1 else ''}",
                "name": self[f"name_{number}"],
                "fields": [self[f"{name}_{number}"] for name in names],
                "is_open": number < 2 or bool(self[f"name_{number}"].value()),
            }
            for number in range(ARMS)
        ]

    def clean(self) -> None:
        names = [self.cleaned_data.get(f"name_{number}", "") for number in range(ARMS)]
        for number, name in enumerate(names):
            if name and name in names[:number]:
                self.add_error(f"name_{number}", "Another arm has this name.")
            if not name and self._treatment(number):
                self.add_error(f"name_{number}", "Name the arm, or leave all of it empty.")

    def flag(self) -> dict[str, Any]:
        """What `create_flag` takes."""
        data = self.cleaned_data
        named = [(data[f"name_{number}"], self._treatment(number)) for number in range(ARMS) if data[f"name_{number}"]]
        return {
            "key": data["key"], "title": data["title"], "kind": Flag.Kind.OBJECT, "variants": dict(named), "control": named[0][0],
            "feature_class": data["feature_class"], "sticky": data["sticky"], "model": data["model"],
        }  # fmt: skip

    def _treatment(self, number: int) -> dict[str, Any]:
        def said(name: str) -> Any:
            return self.cleaned_data.get(f"{name}_{number}")

        parameters = {name: said(name) for name in PARAMETERS if said(name) not in (None, "")}
        whole = {"model": said("model"), "prompt": said("prompt"), "parameters": parameters}
        return {name: value for name, value in whole.items() if value}
