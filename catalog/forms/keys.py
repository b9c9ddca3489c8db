"""Forms of keys."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.urls import reverse

from catalog.forms.fields import MAX_INTEGER, calls_per_minute, monthly_budget
from catalog.models import Model, Project, ToolServer
from governance.fields import TextField


def _seen() -> forms.CharField:
    """The `rotation_mark` of the keys when the page was drawn."""
    return forms.CharField(max_length=40, required=False, widget=forms.HiddenInput)


class RotateForm(forms.Form):
    seen = _seen()
    overlap = forms.IntegerField(min_value=0, max_value=168, help_text="Hours that the present secret still works.")

    def clean_overlap(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["overlap"])


class BulkForm(forms.Form):
    """Acting on many keys; `expected` is the number that the confirmation named."""

    expected = forms.IntegerField(min_value=0, max_value=MAX_INTEGER, widget=forms.HiddenInput)
    seen = _seen()
    overlap = forms.TypedChoiceField(
        label="The present secrets work for",
        choices=[(0, "no longer: they leaked"), (1, "1 hour"), (24, "24 hours"), (168, "7 days")],
        coerce=lambda hours: timedelta(hours=int(hours)),
        initial=24,
        required=False,
        empty_value=None,
    )


class KeyForm(forms.Form):
    name = forms.CharField(max_length=60, help_text="What will use it, for example checkout, staging.")
    project = forms.ModelChoiceField(Project.objects.none(), empty_label=None, help_text="Its calls are shown back to this project.")
    lifetime_days = forms.IntegerField(label="Valid for, days", min_value=1, max_value=90, initial=90, help_text="At most 90.")
    models = forms.MultipleChoiceField(
        label="May call", required=False, widget=forms.CheckboxSelectMultiple, help_text="Tick none to allow every model, also future ones."
    )
    tools = forms.MultipleChoiceField(
        label="May use the tools of", required=False, widget=forms.CheckboxSelectMultiple, help_text="Tick none to allow all tools."
    )
    requests_per_minute = calls_per_minute()
    monthly_budget_usd = monthly_budget()
    why = TextField(
        label="What it is for", max_length=500, required=False, widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Keys of this project are made by request: somebody else decides by it.",
    )  # fmt: skip

    def __init__(self, *args: Any, is_by_request: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if is_by_request:
            self.fields["why"].required = True
        else:
            del self.fields["why"]
        # Another project may want to be told what the key is for.
        self.fields["project"].widget.attrs |= {
            "hx-get": reverse("key-new"), "hx-include": "closest form", "hx-target": "#key-form", "hx-swap": "outerHTML"
        }  # fmt: skip
        self.fields["project"].queryset = Project.objects.filter(is_enabled=True).order_by("name")  # type: ignore[attr-defined]
        models = Model.objects.filter(status__in=Model.SERVED).values_list("slug", "slug")
        namespaces = ToolServer.objects.filter(is_enabled=True).values_list("namespace", "namespace")
        self.fields["models"].choices = list(models)  # type: ignore[attr-defined]
        self.fields["tools"].choices = list(namespaces)  # type: ignore[attr-defined]
        for name in ("models", "tools"):
            if not self.fields[name].choices:  # type: ignore[attr-defined]
                del self.fields[name]

    def clean_models(self) -> list[str] | None:
        return self.cleaned_data["models"] or None

    def clean_tools(self) -> list[str] | None:
        return self.cleaned_data["tools"] or None


class KeyDecisionForm(forms.Form):
    note = forms.CharField(max_length=200, required=False)


class FirstCallForm(forms.Form):
    project = forms.ModelChoiceField(Project.objects.none(), empty_label=None)
    model = forms.ModelChoiceField(Model.objects.none(), empty_label=None, to_field_name="slug")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = Project.objects.filter(is_enabled=True).order_by("name")  # type: ignore[attr-defined]
        self.fields["model"].queryset = Model.objects.filter(status__in=Model.SERVED, capabilities__contains=["chat"]).order_by("slug")  # type: ignore[attr-defined]
