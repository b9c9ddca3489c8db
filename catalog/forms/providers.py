"""Forms of providers and their credentials."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms

from catalog.forms.fields import SECRET, slug_field
from catalog.models import Provider
from catalog.platforms import OFFERS
from governance.fields import TextField


class _SecretArea(forms.Textarea):
    """A secret of several lines: like a password it is not given back with a form that has errors."""

    def format_value(self, value: Any) -> str:
        return ""


def _dialect(help_text: str) -> forms.ChoiceField:
    return forms.ChoiceField(
        label="Speaks", choices=Provider.Dialect.choices, initial=Provider.Dialect.OPENAI, required=False, help_text=help_text
    )


def _write_only(label: str, help_text: str = "", *, max_length: int = 400) -> forms.CharField:
    """A secret that goes in and never comes out: the browser is not given it back either."""
    return forms.CharField(label=label, max_length=max_length, required=False, widget=SECRET, help_text=help_text)


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


class CredentialFields(forms.Form):
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
    service_account = TextField(
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


class ProviderForm(CredentialFields):
    name = forms.CharField(max_length=80, help_text="As people call it, for example OpenAI, team account.")
    slug = slug_field("Short name", "What events, prices and bills call it. It can't be changed later.")
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


class ProviderChangeForm(CredentialFields):
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


class SecretForm(CredentialFields):
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
