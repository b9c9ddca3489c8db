"""Fields that several forms of the catalog have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from governance.fields import TextField

MAX_INTEGER = 2**31 - 1
"""What a database integer holds."""
SECRET = forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"})


def slug_field(label: str, help_text: str) -> forms.SlugField:
    return forms.SlugField(label=label, max_length=48, help_text=help_text)


def calls_per_minute() -> forms.IntegerField:
    return forms.IntegerField(
        label="Calls per minute",
        min_value=1,
        max_value=MAX_INTEGER,
        required=False,
        help_text="Beyond it calls are refused with 429. Empty is no limit.",
    )


def monthly_budget() -> forms.DecimalField:
    return forms.DecimalField(
        label="Budget per month, USD",
        min_value=0,
        max_digits=14,
        decimal_places=2,
        required=False,
        help_text="Used up, calls are refused until the next month. Empty is no ceiling.",
    )


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=200, required=False)


class TagsField(TextField):
    """Lines of `name=value`; a mapping, in and out. Which names and values there may be is the service's to say."""

    def __init__(self, help_text: str) -> None:
        widget = forms.Textarea(attrs={"rows": 4, "class": "gh-mono", "spellcheck": "false"})
        super().__init__(required=False, max_length=2000, widget=widget, help_text=f"One name=value on each line. {help_text}")

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, Mapping) else value

    def clean(self, value: Any) -> dict[str, str]:
        tags = {}
        for line in filter(None, (line.strip() for line in super().clean(value).splitlines())):
            name, equals, each = line.partition("=")
            if not equals:
                raise forms.ValidationError(f"{line} is not name=value.")
            tags[name.strip()] = each.strip()
        return tags
