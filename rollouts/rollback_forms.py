"""Forms of rollback rules and incidents."""

from __future__ import annotations

from django import forms

from governance.fields import TextField
from rollouts.rollback_language import MAX_LENGTH


class RuleForm(forms.Form):
    text = TextField(
        label="Rule", max_length=MAX_LENGTH, widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "class": "gh-mono"}),
        help_text="For example error_rate_5m > 5% for 3 of 5 min 200.",
    )  # fmt: skip
    is_dry_run = forms.BooleanField(
        label="Dry run", required=False, help_text="It tells when it would have rolled back, and leaves the flag alone."
    )
    clear_percent = forms.IntegerField(
        label="Clear below the limit, percent",
        min_value=0,
        max_value=90,
        initial=10,
        help_text="How far a value must be back before a step is fine.",
    )
    cooldown_minutes = forms.IntegerField(
        label="Cool-down, minutes", min_value=0, max_value=10_080, initial=30, help_text="After it fired, before it is armed again."
    )


class ResolveForm(forms.Form):
    resolution = TextField(
        label="What was found, and why it is over", max_length=1000, widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Whoever raises exposure again reads it.",
    )  # fmt: skip
