"""Forms of projects, and of the tags that projects and keys give to calls."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog.forms.fields import TagsField, calls_per_minute, monthly_budget, slug_field
from catalog.forms.models import ENVIRONMENTS
from governance.fields import TextField


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=80)
    slug = slug_field("Short name", "Events and bills name it. It can't be changed later.")
    description = TextField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    cost_centre = forms.CharField(label="Cost centre", max_length=48, required=False, help_text="Spend is shown back to it.")
    environment = forms.ChoiceField(choices=ENVIRONMENTS, initial="development")
    keys_by_request = forms.BooleanField(
        label="Keys by request", required=False, help_text="Somebody with the right to manage keys agrees to each new key first."
    )
    requests_per_minute = calls_per_minute()
    monthly_budget_usd = monthly_budget()


class ProjectChangeForm(ProjectForm):
    slug = None  # type: ignore[assignment]  # Django's way to drop an inherited field


class TagsForm(forms.Form):
    tags = TagsField("They fill in what callers do not send themselves.")


def tags_form(data: Any, tags: dict[str, str]) -> TagsForm:
    return TagsForm(data, initial={"tags": tags})
