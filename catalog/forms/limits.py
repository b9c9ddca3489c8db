"""Forms of limits."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog.models import UsageLimit
from governance.control_forms import NAMED


class LimitChangeForm(forms.Form):
    amount = forms.IntegerField(min_value=0, max_value=10**15, help_text="0 lets nothing through.")
    fail_open = forms.BooleanField(
        label="Let calls pass when the database is away",
        required=False,
        initial=True,
        help_text="Only when nothing is left on lease. Otherwise they are refused with 503.",
    )
    is_enabled = forms.BooleanField(label="In force", required=False, initial=True)
    note = forms.CharField(max_length=200, required=False, help_text="Why it is there.")


class LimitForm(LimitChangeForm):
    scope = forms.ChoiceField(label="Applies to", choices=UsageLimit.Scope.choices)
    ref = forms.CharField(
        label="Which",
        max_length=400,
        required=False,
        widget=forms.TextInput(attrs=NAMED),
        help_text="The short name of the project or model, the key's id, or of a deployment model/provider/upstream-model: type to choose. "
        "Or the name that the agent gives itself.",
    )
    resource = forms.ChoiceField(label="Of what", choices=UsageLimit.Resource.choices)
    window = forms.ChoiceField(
        label="Per",
        choices=[("", "None, for calls at once"), *UsageLimit.Window.choices],
        required=False,
        initial=UsageLimit.Window.MINUTE,
        help_text="By the calendar of the organisation's time zone.",
    )
    field_order = ["scope", "ref", "resource", "amount", "window", "fail_open", "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["is_enabled"]
