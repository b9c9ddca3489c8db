"""Fields that several forms of the catalog have."""

from __future__ import annotations

from django import forms

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
