"""One plain form per act of the catalog. Rules are in the services; a form gives types and words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import forms
from django.urls import reverse

from catalog import prompt_texts, selectors
from catalog.errors import InvalidValueError
from catalog.lifecycle import CAPABILITIES
from catalog.models import Model, Project, Prompt, Provider, ToolServer, UsageLimit
from catalog.models.model import slug_validator
from catalog.models.prompt import label_validator
from catalog.models.tool import namespace_validator
from catalog.platforms import OFFERS
from governance.models import FeatureClass

DEFAULT_THRESHOLD, DEFAULT_SAMPLE = 0.95, 5
"""Of the semantic cache: the least similarity, and the share of hits in percent that is looked at."""
MAX_INTEGER = 2**31 - 1
"""What a database integer holds."""
ENVIRONMENTS = [("development", "Development"), ("staging", "Staging"), ("production", "Production")]
CAPABILITY_WORDS = {"chat": "Chat", "embeddings": "Embeddings", "vision": "Sees images", "tools": "Calls tools", "json": "JSON output"}
_SECRET = forms.PasswordInput(attrs={"autocomplete": "off", "spellcheck": "false"})


class _SecretArea(forms.Textarea):
    """A secret of several lines: like a password it is not given back with a form that has errors."""

    def format_value(self, value: Any) -> str:
        return ""


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


def _write_only(label: str, help_text: str = "", *, max_length: int = 400) -> forms.CharField:
    """A secret that goes in and never comes out: the browser is not given it back either."""
    return forms.CharField(label=label, max_length=max_length, required=False, widget=_SECRET, help_text=help_text)


def _api_version() -> forms.CharField:
    return forms.CharField(
        label="API version",
        max_length=32,
        required=False,
        help_text="For example 2024-10-21, for URLs by deployment. Empty for the v1 API, which has none.",
    )


CREDENTIAL_FIELDS: dict[str, tuple[str, ...]] = {
    "key": ("secret",),
    "entra_id": ("tenant_id", "client_id", "client_secret", "token_url"),
    "service_account": ("service_account",),
    "aws_keys": ("access_key_id", "secret_access_key", "session_token"),
}
_OPTIONAL = frozenset(("token_url", "session_token"))


class _CredentialFields(forms.Form):
    """The fields of every kind of credential; a form keeps those of the kind in hand."""

    secret = _write_only("API key", "Stored encrypted. You can replace it, nobody can read it.")
    tenant_id = forms.CharField(label="Directory (tenant) ID", max_length=100, help_text="Of the app registration in Microsoft Entra ID.")
    client_id = forms.CharField(label="Application (client) ID", max_length=100)
    client_secret = _write_only("Client secret", "Its value, not its ID. Stored encrypted; nobody can read it.")
    token_url = forms.URLField(
        label="Token URL",
        max_length=300,
        required=False,
        assume_scheme="https",
        help_text="Only for national clouds; empty is the public one.",
    )
    service_account = forms.CharField(
        label="Key file of the service account",
        max_length=16_000,
        required=False,
        widget=_SecretArea(attrs={"rows": 5, "autocomplete": "off", "spellcheck": "false"}),
        help_text="The JSON that Google gave out, as it is. Stored encrypted; nobody can read it.",
    )
    access_key_id = forms.CharField(label="Access key ID", max_length=128)
    secret_access_key = _write_only("Secret access key", "Stored encrypted. You can replace it, nobody can read it.")
    session_token = _write_only(
        "Session token", "Only for temporary access keys. They end by themselves, and calls with them.", max_length=4000
    )

    def keep_credential(self, kind: str, *, is_key_required: bool) -> None:
        """Leave the fields of this kind of credential only. All but a plain key are always wanted whole."""
        mine = CREDENTIAL_FIELDS[kind]
        for name in {name for names in CREDENTIAL_FIELDS.values() for name in names}.difference(mine):
            self.fields.pop(name, None)
        for name in mine:
            self.fields[name].required = is_key_required if name == "secret" else name not in _OPTIONAL
        self.credential_fields = mine

    def clean(self) -> dict[str, Any]:
        """What is more than a key goes to the service as one."""
        cleaned: dict[str, Any] = super().clean() or {}
        if self.credential_fields != CREDENTIAL_FIELDS["key"]:
            given = {name: cleaned.pop(name, "") for name in self.credential_fields}
            cleaned["credentials"] = {name: value for name, value in given.items() if value}
        return cleaned

    @property
    def credential_inputs(self) -> list[forms.BoundField]:
        return [self[name] for name in self.credential_fields]


class ProviderForm(_CredentialFields):
    name = forms.CharField(max_length=80, help_text="As people call it, for example OpenAI, team account.")
    slug = _slug("Short name", "What events, prices and bills call it. It can't be changed later.")
    kind = forms.ChoiceField(choices=Provider.Kind.choices, initial=Provider.Kind.OPENAI_COMPATIBLE, widget=forms.HiddenInput)
    credential = forms.ChoiceField(choices=Provider.Credential.choices, required=False, widget=forms.HiddenInput)
    dialect = _dialect("Its protocol. Callers may speak another one: the gateway translates.")
    base_url = forms.URLField(
        label="Base URL",
        max_length=300,
        assume_scheme="https",
        help_text="Up to and including the version segment, for example https://api.openai.com/v1 or https://api.anthropic.com/v1",
    )
    project = forms.CharField(
        label="Project ID", max_length=100, required=False, help_text="Of Google Cloud. Empty is the project of the service account."
    )
    api_version = _api_version()
    region = forms.CharField(max_length=32, required=False, help_text="Where it computes, for example eu-west.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind_value = self._chosen("kind", OFFERS, Provider.Kind.OPENAI_COMPATIBLE)
        self.offer = OFFERS[self.kind_value]
        self.chosen_credential = self._chosen("credential", self.offer.credentials, self.offer.credentials[0])
        self.initial = {"dialect": self.offer.dialects[0], **self.initial, "kind": self.kind_value, "credential": self.chosen_credential}
        self.keep_credential(self.chosen_credential, is_key_required=self.offer.platform != "direct")
        if self.offer.platform != "azure":
            del self.fields["api_version"]
        if self.offer.platform != "vertex":
            del self.fields["project"]
        self._word_place()

    def _chosen(self, name: str, known: Iterable[str], usual: str) -> str:
        """What was sent or asked for, as far as it exists."""
        given = str(self.data.get(name) or self.initial.get(name) or "")
        return given if given in known else usual

    def _word_place(self) -> None:
        """Where it is: some kinds know it by region and project."""
        base_url, region = self.fields["base_url"], self.fields["region"]
        base_url.widget.attrs["placeholder"] = self.offer.base_url
        if self.offer.platform == "azure":
            base_url.help_text = "Of your resource; the rest is added. For Claude in Foundry: https://<resource>.services.ai.azure.com"
        if self.offer.platform in ("vertex", "bedrock"):
            base_url.required, region.required = False, True
            base_url.help_text = "Only for a private endpoint. Empty is the region's public one."
            region.help_text = "Where calls go and are computed, for example " + (
                "europe-west4 or global." if self.offer.platform == "vertex" else "eu-central-1."
            )

    @property
    def kind_label(self) -> str:
        return str(Provider.Kind(self.kind_value).label)

    @property
    def credential_choices(self) -> list[tuple[str, str, bool]]:
        """The kinds of credential that this kind of provider takes: value, words, whether it is the one in hand."""
        choices = [(each, str(Provider.Credential(each).label), each == self.chosen_credential) for each in self.offer.credentials]
        return choices if len(choices) > 1 else []


class ProviderChangeForm(_CredentialFields):
    name = forms.CharField(max_length=80)
    base_url = forms.URLField(
        label="Base URL",
        max_length=300,
        assume_scheme="https",
        help_text="Another URL voids the stored credential, unless you give a new one here.",
    )
    dialect = _dialect("Another protocol voids what the live checks found.")
    api_version = _api_version()
    region = forms.CharField(max_length=32, required=False)

    def __init__(self, *args: Any, provider: Provider, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keep_credential("key", is_key_required=False)
        if provider.credential == Provider.Credential.KEY:
            self.fields["secret"].label = "New API key"
            self.fields["secret"].help_text = "Leave empty to keep the stored one. Nobody can read it."
        else:
            del self.fields["secret"]
            self.fields["base_url"].help_text = "Another URL voids the stored credential: give it anew afterwards."
        if provider.platform != "azure":
            del self.fields["api_version"]


class SecretForm(_CredentialFields):
    credential = forms.ChoiceField(choices=Provider.Credential.choices, required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, provider: Provider, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        offered = OFFERS[provider.kind].credentials
        given = self.data.get("credential") or self.initial.get("credential")
        chosen = given if given in offered else provider.credential
        self.initial = {"credential": chosen}
        self.keep_credential(chosen, is_key_required=True)
        if chosen == Provider.Credential.KEY:
            self.fields["secret"].label = "New API key"
            self.fields["secret"].help_text = "Replaces the stored one at once. Nobody can read it."
        self.choices = [(each, str(Provider.Credential(each).label), each == chosen) for each in offered]


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


def _per_minute(what: str) -> forms.IntegerField:
    return forms.IntegerField(
        label=f"{what} per minute",
        min_value=1,
        max_value=MAX_INTEGER,
        required=False,
        help_text="What the upstream takes. Beyond it calls go to the next deployment; empty is no ceiling.",
    )


class DeploymentForm(forms.Form):
    provider = forms.ModelChoiceField(Provider.objects.none())
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


class ProjectForm(forms.Form):
    name = forms.CharField(max_length=80)
    slug = _slug("Short name", "Events and bills name it. It can't be changed later.")
    description = forms.CharField(max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 2}))
    cost_centre = forms.CharField(label="Cost centre", max_length=48, required=False, help_text="Spend is shown back to it.")
    environment = forms.ChoiceField(choices=ENVIRONMENTS, initial="development")
    keys_by_request = forms.BooleanField(
        label="Keys by request", required=False, help_text="Somebody with the right to manage keys agrees to each new key first."
    )
    requests_per_minute = _calls_per_minute()
    monthly_budget_usd = _budget()


class ProjectChangeForm(ProjectForm):
    slug = None  # type: ignore[assignment]  # Django's way to drop an inherited field


class TagsForm(forms.Form):
    tags = forms.CharField(
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 4, "class": "gh-mono", "spellcheck": "false"}),
        help_text="One name=value on each line. They fill in what callers do not send themselves.",
    )

    def clean_tags(self) -> dict[str, str]:
        tags = {}
        for line in filter(None, (line.strip() for line in self.cleaned_data["tags"].splitlines())):
            name, equals, value = line.partition("=")
            if not equals:
                raise forms.ValidationError(f"{line} is not name=value.")
            tags[name.strip()] = value.strip()
        return tags


def tags_form(data: Any, tags: dict[str, str]) -> TagsForm:
    return TagsForm(data, initial={"tags": "\n".join(f"{name}={value}" for name, value in tags.items())})


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=200, required=False)


class RotateForm(forms.Form):
    overlap = forms.IntegerField(min_value=0, max_value=168, help_text="Hours that the present secret still works.")

    def clean_overlap(self) -> timedelta:
        return timedelta(hours=self.cleaned_data["overlap"])


class BulkForm(forms.Form):
    """Acting on many keys; `expected` is the number that the confirmation named."""

    expected = forms.IntegerField(min_value=0, max_value=MAX_INTEGER, widget=forms.HiddenInput)
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
    requests_per_minute = _calls_per_minute()
    monthly_budget_usd = _budget()
    why = forms.CharField(
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


_TEXT = {"rows": "16", "class": "gh-mono", "spellcheck": "false"}


class PromptVersionForm(forms.Form):
    """What a prompt says; `kind` decides how the text is read."""

    content = forms.CharField(label="Messages", max_length=prompt_texts.MOST_CHARACTERS, widget=forms.Textarea(attrs=_TEXT))
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
            self.fields["content"].help_text = "A JSON object, for the program that runs the flow."
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
                given["flow"] = prompt_texts.checked_flow(json.loads(text))
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


class PromptLabelForm(forms.Form):
    name = forms.CharField(label="Label", max_length=40, validators=[label_validator])
    version = forms.IntegerField(min_value=1, max_value=MAX_INTEGER)
