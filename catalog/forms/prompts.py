"""Forms of prompts and flows."""

from __future__ import annotations

import json
from typing import Any

from django import forms

from catalog import flows, prompt_texts
from catalog.errors import InvalidValueError
from catalog.forms.fields import MAX_INTEGER
from catalog.models import Model, Prompt
from catalog.models.model import slug_validator
from catalog.models.prompt import label_validator
from governance.fields import TextField

_TEXT = {"rows": "16", "class": "gh-mono", "spellcheck": "false"}


class PromptVersionForm(forms.Form):
    """What a prompt says; `kind` decides how the text is read."""

    content = TextField(label="Messages", max_length=prompt_texts.MOST_CHARACTERS, widget=forms.Textarea(attrs=_TEXT))
    model = forms.ModelChoiceField(
        Model.objects.none(),
        required=False,
        to_field_name="slug",
        empty_label="as the call says",
        help_text="Called when a call names no model.",
    )
    parameters = forms.JSONField(
        required=False,
        initial=dict,
        widget=forms.Textarea(attrs={**_TEXT, "rows": "3"}),
        help_text='What a call does not set itself, for example {"temperature": 0.2}.',
    )
    note = forms.CharField(label="Why", max_length=300, required=False, help_text="For whoever reads the versions later.")

    def __init__(self, *args: Any, kind: str = Prompt.Kind.CHAT, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.read_as = kind
        self.fields["model"].queryset = Model.objects.exclude(status=Model.Status.RETIRED).order_by("slug")  # type: ignore[attr-defined]
        if kind == Prompt.Kind.FLOW:
            self.fields["content"].label = "Configuration"
            self.fields[
                "content"
            ].help_text = "A JSON object by the published schema: steps that name models, prompts and tools; what only the program reads goes into settings."
        else:
            self.fields[
                "content"
            ].help_text = "[system], [user] or [assistant] on a line of its own begins a message; {{name}} is filled in by the call."

    def clean(self) -> dict[str, Any]:
        """What the service takes: `messages` or `flow`."""
        given: dict[str, Any] = self.cleaned_data
        kind, text = given.pop("kind", self.read_as), given.pop("content", "")
        if given.get("model") is not None:
            given["model"] = given["model"].slug
        given["model"], given["parameters"] = given.get("model") or "", given.get("parameters") or {}
        if "content" in self.errors:
            return given
        try:
            if kind == Prompt.Kind.FLOW:
                given["flow"] = flows.checked_flow(json.loads(text))
            else:
                given["messages"] = prompt_texts.parse_messages(text)
        except json.JSONDecodeError as error:
            self.add_error("content", f"This is no JSON: {error}.")
        except InvalidValueError as error:
            self.add_error("content", error.message)
        return given


class PromptForm(PromptVersionForm):
    slug = forms.CharField(
        label="Id", max_length=80, validators=[slug_validator], help_text="What callers send; it can't be changed later."
    )
    name = forms.CharField(max_length=80)
    description = forms.CharField(max_length=300, required=False)
    kind = forms.ChoiceField(
        choices=Prompt.Kind.choices,
        help_text="A prompt is sent by the gateway; a flow's configuration is read by the program that runs it.",
    )
    field_order = ["slug", "name", "description", "kind", "content", "model", "parameters", "note"]

    def clean(self) -> dict[str, Any]:
        kind = self.cleaned_data.get("kind", Prompt.Kind.CHAT)
        given = super().clean()
        return {**given, "kind": kind}


class PromptRejectForm(forms.Form):
    reason = forms.CharField(max_length=300, required=False)


class PromptLabelForm(forms.Form):
    name = forms.CharField(label="Label", max_length=40, validators=[label_validator])
    version = forms.IntegerField(min_value=1, max_value=MAX_INTEGER)
