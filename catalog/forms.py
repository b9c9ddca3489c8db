"""One plain form per act of the catalog. Rules are in the services; a form gives types and words."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms

from catalog.lifecycle import CAPABILITIES
from catalog.models import Model, Project, Provider, ToolServer, UsageLimit
from catalog.models.model import slug_validator
from catalog.models.tool import namespace_validator
from governance.models import FeatureClass

MAX_INTEGER = 2**31 - 1
"""What a database integer holds."""
ENVIRONMENTS = [("development", "Development"), ("staging", "Staging"), ("production", "Production")]
CAPABILITY_WORDS = {"chat": "Chat", "embeddings": "Embeddings", "vision": "Sees images", "tools": "Calls tools", "json": "JSON output"}
_SECRET = forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"})


def _slug(label: str, help_text: str) -> forms.SlugField:
    return forms.SlugField(label=label, max_length=48, help_text=help_text)


def _calls_per_minute() -> forms.IntegerField:
    return forms.IntegerField(
        label="Calls per minute",
        min_value=1,
        max_value=MAX_INTEGER,
        required=False,
        help_text="Beyond it calls are refused with 429. Empty is no limit.",
    )


def _budget() -> forms.DecimalField:
    return forms.DecimalField(
        label="Budget per month, USD",
        min_value=0,
        max_digits=14,
        decimal_places=2,
        required=False,
        help_text="Used up, calls are refused until the next month. Empty is no ceiling.",
    )


def _dialect(help_text: str) -> forms.ChoiceField:
    return forms.ChoiceField(
        label="Speaks", choices=Provider.Dialect.choices, initial=Provider.Dialect.OPENAI, required=False, help_text=help_text
    )


class ProviderForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="As people call it, for example OpenAI, team account.")
    slug = _slug("Short name", "What events, prices and bills call it. It can't be changed later.")
    kind = forms.ChoiceField(choices=Provider.Kind.choices, initial=Provider.Kind.OPENAI_COMPATIBLE)
    dialect = _dialect("Its protocol. Callers may speak another one: the gateway translates.")
    base_url = forms.URLField(
        label="Base URL",
        max_length=300,
        assume_scheme="https",
        help_text="Up to and including the version segment, for example https://api.openai.com/v1 or https://api.anthropic.com/v1",
    )
    secret = forms.CharField(
        label="API key of the provider",
        max_length=400,
        required=False,
        widget=_SECRET,
        help_text="Stored encrypted. You can replace it, nobody can read it.",
    )
    region = forms.CharField(max_length=32, required=False, help_text="Where it computes, for example eu-west.")


class ProviderChangeForm(forms.Form):
    name = forms.CharField(max_length=80)
    base_url = forms.URLField(
        label="Base URL",
        max_length=300,
        assume_scheme="https",
        help_text="Another URL voids the stored API key, unless you give a new one here.",
    )
    secret = forms.CharField(
        label="New API key",
        max_length=400,
        required=False,
        widget=_SECRET,
        help_text="Leave empty to keep the stored one. Nobody can read it.",
    )
    dialect = _dialect("Another protocol voids what the live checks found.")
    region = forms.CharField(max_length=32, required=False)


class SecretForm(forms.Form):
    secret = forms.CharField(
        label="New API key", max_length=400, widget=_SECRET, help_text="Replaces the stored one at once. Nobody can read it."
    )


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
    description = forms.CharField(label="What it is good for", max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3}))
    capabilities = forms.MultipleChoiceField(
        label="It can",
        choices=[(name, CAPABILITY_WORDS[name]) for name in CAPABILITIES],
        initial=["chat"],
        widget=forms.CheckboxSelectMultiple,
    )

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
    description = forms.CharField(label="What it is good for", max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3}))
    capabilities = forms.MultipleChoiceField(
        label="It can", choices=[(name, CAPABILITY_WORDS[name]) for name in CAPABILITIES], widget=forms.CheckboxSelectMultiple
    )
    context_window = forms.IntegerField(label="Context window, tokens", min_value=1, max_value=MAX_INTEGER, required=False)
    max_output_tokens = forms.IntegerField(label="Most output tokens", min_value=1, max_value=MAX_INTEGER)
    data_sensitivity = forms.ChoiceField(label="Data up to", choices=Model.Sensitivity.choices)
    feature_class = forms.ChoiceField(label="Needs consent for", choices=FeatureClass.choices)
    environment = forms.ChoiceField(choices=ENVIRONMENTS)


class DeploymentForm(forms.Form):
    provider = forms.ModelChoiceField(Provider.objects.none())
    upstream_model = forms.CharField(label="Name at the provider", max_length=120)
    weight = forms.IntegerField(min_value=0, max_value=1000, initial=1, help_text="Share of the traffic among deployments of one priority.")
    priority = forms.IntegerField(min_value=0, max_value=100, initial=0, help_text="Lower is tried first.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["provider"].queryset = Provider.objects.order_by("name")  # type: ignore[attr-defined]


class DeploymentChangeForm(forms.Form):
    weight = forms.IntegerField(min_value=0, max_value=1000)
    priority = forms.IntegerField(min_value=0, max_value=100)
    is_enabled = forms.BooleanField(required=False)


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=80)
    slug = _slug("Short name", "Events and bills name it. It can't be changed later.")
    description = forms.CharField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    cost_centre = forms.CharField(label="Cost centre", max_length=48, required=False, help_text="Spend is shown back to it.")
    environment = forms.ChoiceField(choices=ENVIRONMENTS, initial="development")
    requests_per_minute = _calls_per_minute()
    monthly_budget_usd = _budget()


class ProjectChangeForm(ProjectForm):
    slug = None  # type: ignore[assignment]  # Django's way to drop an inherited field


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=200, required=False)


class RotateForm(forms.Form):
    overlap = forms.IntegerField(min_value=0, max_value=168, help_text="Hours that the present secret still works.")

    def clean_overlap(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["overlap"])


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
    requests_per_minute = _calls_per_minute()
    monthly_budget_usd = _budget()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
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


class FirstCallForm(forms.Form):
    project = forms.ModelChoiceField(Project.objects.none(), empty_label=None)
    model = forms.ModelChoiceField(Model.objects.none(), empty_label=None, to_field_name="slug")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = Project.objects.filter(is_enabled=True).order_by("name")  # type: ignore[attr-defined]
        self.fields["model"].queryset = Model.objects.filter(status__in=Model.SERVED, capabilities__contains=["chat"]).order_by("slug")  # type: ignore[attr-defined]


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
        widget=_SECRET,
        help_text="Stored encrypted. You can replace it, nobody can read it.",
    )
    description = forms.CharField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
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
        label="New bearer token", max_length=400, required=False, widget=_SECRET, help_text="Leave empty to keep the stored one."
    )
    description = forms.CharField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    feature_class = forms.ChoiceField(label="Needs consent for", choices=FeatureClass.choices)


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
        max_length=128,
        required=False,
        help_text="The short name of the project or model, the agent's name, or the key's id; empty for the whole organisation.",
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


class CacheForm(forms.Form):
    ttl_s = forms.IntegerField(
        label="Keep answers for, seconds", min_value=0, max_value=604_800, help_text="0 keeps none. A day is 86400, a week the most."
    )
    scope = forms.ChoiceField(
        label="Shared among", choices=Model.CacheScope.choices, help_text="Whose same request may get the answer that another call got."
    )
