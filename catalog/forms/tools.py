"""Forms of tool servers."""

from __future__ import annotations

from django import forms

from catalog.forms.fields import SECRET
from catalog.models.tool import namespace_validator
from governance.fields import TextField
from governance.models import FeatureClass


class ToolServerForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="As people call it, for example Handbook search.")
    namespace = forms.CharField(
        max_length=32,
        validators=[namespace_validator],
        help_text="Goes before the names of its tools, as in handbook__search. It can't be changed later.",
    )
    url = forms.URLField(
        label="URL", max_length=300, assume_scheme="https", help_text="The streamable HTTP endpoint; it often ends in /mcp."
    )
    secret = forms.CharField(
        label="Bearer token of the server",
        max_length=400,
        required=False,
        widget=SECRET,
        help_text="Stored encrypted. You can replace it, nobody can read it.",
    )
    description = TextField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    feature_class = forms.ChoiceField(label="Needs consent for", choices=FeatureClass.choices, initial=FeatureClass.TOOLS)


class ToolServerChangeForm(forms.Form):
    name = forms.CharField(max_length=80)
    url = forms.URLField(
        label="URL",
        max_length=300,
        assume_scheme="https",
        help_text="Another URL voids the stored token, unless you give a new one here. Discover again afterwards.",
    )
    secret = forms.CharField(
        label="New bearer token", max_length=400, required=False, widget=SECRET, help_text="Leave empty to keep the stored one."
    )
    description = TextField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    feature_class = forms.ChoiceField(label="Needs consent for", choices=FeatureClass.choices)
