"""Forms of models, their deployments and caches."""

from __future__ import annotations

from typing import Any

from django import forms

from catalog import selectors
from catalog.forms.fields import MAX_INTEGER, TagsField
from catalog.lifecycle import CAPABILITIES
from catalog.models import Model, Provider
from catalog.models.model import slug_validator
from gateway.contract.treatments import PARAMETERS
from governance.fields import TextField
from governance.models import FeatureClass

DEFAULT_THRESHOLD, DEFAULT_SAMPLE = 0.95, 5
"""Of the semantic cache: the least similarity, and the share of hits in percent that is looked at."""
ENVIRONMENTS = [("development", "Development"), ("staging", "Staging"), ("production", "Production")]
TAGS_HELP = "By which people find it, for example use=drafting."
CAPABILITY_WORDS = {"chat": "Chat", "embeddings": "Embeddings", "vision": "Sees images", "tools": "Calls tools", "json": "JSON output"}


class ModelSourceForm(forms.Form):
    """Step 2 of the wizard: which model."""

    upstream_model = forms.CharField(
        label="Name at the provider",
        max_length=120,
        widget=forms.TextInput(attrs={"list": "upstream-names", "autocomplete": "off"}),
        help_text="Exactly as the provider spells it.",
    )
    slug = forms.CharField(
        label="Name for callers",
        max_length=80,
        validators=[slug_validator],
        help_text="What programs send as model. It can't be changed later.",
    )
    name = forms.CharField(label="Title", max_length=80, required=False, help_text="For people. Empty is the name for callers.")
    description = TextField(label="What it is good for", max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3}))
    capabilities = forms.MultipleChoiceField(
        label="It can",
        choices=[(name, CAPABILITY_WORDS[name]) for name in CAPABILITIES],
        initial=["chat"],
        widget=forms.CheckboxSelectMultiple,
    )

    tags = TagsField(TAGS_HELP)

    def clean_slug(self) -> str:
        return str(self.cleaned_data["slug"]).strip()


class ModelLimitsForm(forms.Form):
    """Step 3 of the wizard: price and limits."""

    input_per_million = forms.DecimalField(
        label="Price in, USD per 1M tokens",
        min_value=0,
        max_digits=18,
        decimal_places=8,
        required=False,
        help_text="Both prices or none. Unpriced calls are counted, but never as $0.00.",
    )
    output_per_million = forms.DecimalField(
        label="Price out, USD per 1M tokens", min_value=0, max_digits=18, decimal_places=8, required=False
    )
    context_window = forms.IntegerField(label="Context window, tokens", min_value=1, max_value=MAX_INTEGER, required=False)
    max_output_tokens = forms.IntegerField(
        label="Most output tokens",
        min_value=1,
        max_value=MAX_INTEGER,
        initial=4096,
        help_text="Reserved from budgets when a request names no maximum.",
    )
    data_sensitivity = forms.ChoiceField(
        label="Data up to",
        choices=Model.Sensitivity.choices,
        initial=Model.Sensitivity.INTERNAL,
        help_text="The most sensitive data that may be sent to it.",
    )
    feature_class = forms.ChoiceField(label="Needs consent for", choices=FeatureClass.choices, initial=FeatureClass.ASSISTANTS)
    environment = forms.ChoiceField(choices=ENVIRONMENTS, initial="production")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if (cleaned.get("input_per_million") is None) != (cleaned.get("output_per_million") is None) and not self.errors:
            self.add_error(
                "output_per_million" if cleaned.get("output_per_million") is None else "input_per_million", "Give both prices, or neither."
            )
        return cleaned


class ModelChangeForm(forms.Form):
    name = forms.CharField(label="Title", max_length=80)
    description = TextField(label="What it is good for", max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3}))
    capabilities = forms.MultipleChoiceField(
        label="It can", choices=[(name, CAPABILITY_WORDS[name]) for name in CAPABILITIES], widget=forms.CheckboxSelectMultiple
    )
    context_window = forms.IntegerField(label="Context window, tokens", min_value=1, max_value=MAX_INTEGER, required=False)
    max_output_tokens = forms.IntegerField(label="Most output tokens", min_value=1, max_value=MAX_INTEGER)
    data_sensitivity = forms.ChoiceField(label="Data up to", choices=Model.Sensitivity.choices)
    feature_class = forms.ChoiceField(label="Needs consent for", choices=FeatureClass.choices)
    environment = forms.ChoiceField(choices=ENVIRONMENTS)
    tags = TagsField(TAGS_HELP)
    default_parameters = forms.JSONField(
        required=False, initial=dict, widget=forms.Textarea(attrs={"rows": "2", "class": "gh-mono", "spellcheck": "false"}),
        help_text=f'Sent for calls that set none of their own, such as {{"temperature": 0.2}}. Of {", ".join(PARAMETERS)}.',
    )  # fmt: skip

    def clean_default_parameters(self) -> dict[str, Any]:
        given = self.cleaned_data["default_parameters"] or {}
        if not isinstance(given, dict):
            raise forms.ValidationError("Parameters are a JSON object.")
        return given


def _per_minute(what: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=f"{what} per minute",
        min_value=1,
        max_value=MAX_INTEGER,
        required=False,
        help_text="What the upstream takes. Beyond it calls go to the next deployment; empty is no ceiling.",
    )


class DeploymentForm(forms.Form):
    provider = forms.ModelChoiceField(Provider.objects.none(), empty_label="Choose one")
    upstream_model = forms.CharField(label="Name at the provider", max_length=120)
    weight = forms.IntegerField(min_value=0, max_value=1000, initial=1, help_text="Share of the traffic among deployments of one priority.")
    priority = forms.IntegerField(min_value=0, max_value=100, initial=0, help_text="Lower is tried first.")
    requests_per_minute = _per_minute("Requests")
    tokens_per_minute = _per_minute("Tokens")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["provider"].queryset = Provider.objects.order_by("name")  # type: ignore[attr-defined]


class DeploymentChangeForm(forms.Form):
    weight = forms.IntegerField(min_value=0, max_value=1000)
    priority = forms.IntegerField(min_value=0, max_value=100)
    requests_per_minute = _per_minute("Requests")
    tokens_per_minute = _per_minute("Tokens")
    is_enabled = forms.BooleanField(required=False)


class LeavingForm(forms.Form):
    retires_on = forms.DateField(
        label="Goes on", required=False, widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Callers are told in the header Sunset. Nothing happens on that day by itself.",
    )  # fmt: skip
    successor = forms.ChoiceField(label="Use instead", required=False, help_text="Callers are told in the header Link.")

    def __init__(self, *args: Any, model: Model, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["successor"].choices = [("", "nothing is named"), *((slug, slug) for slug in selectors.possible_successors(model))]  # type: ignore[attr-defined]


class CacheForm(forms.Form):
    ttl_s = forms.IntegerField(
        label="Keep answers for, seconds", min_value=0, max_value=604_800, help_text="0 keeps none. A day is 86400, a week the most."
    )
    scope = forms.ChoiceField(
        label="Shared among", choices=Model.CacheScope.choices, help_text="Whose same request may get the answer that another call got."
    )
    embedding = forms.ChoiceField(
        label="Also for the same meaning, by",
        required=False,
        help_text="An embedding model compares the last question. Each lookup is a call to it, with a cost of its own; answers are kept sealed in the database.",
    )
    threshold = forms.FloatField(
        label="From similarity", required=False, min_value=0.8, max_value=1, initial=0.95, widget=forms.NumberInput(attrs={"step": "0.005"}),
        help_text="0.8 to 1. The lower, the more hits, and the more wrong ones.",
    )  # fmt: skip
    sample_percent = forms.IntegerField(
        label="Check, % of such hits", required=False, min_value=0, max_value=100, initial=5,
        help_text="So often the model is asked as well, after the reply, to see whether it agrees.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["embedding"].choices = [("", "No: only the same request"), *((slug, slug) for slug in selectors.embedding_models())]  # type: ignore[attr-defined]

    def clean_threshold(self) -> float:
        return self.cleaned_data["threshold"] or DEFAULT_THRESHOLD

    def clean_sample_percent(self) -> int:
        given: int | None = self.cleaned_data["sample_percent"]
        return DEFAULT_SAMPLE if given is None else given
