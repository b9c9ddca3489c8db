"""One plain form per act of the ground floor."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms

from governance.models import AlertChannel, AuditEntry, Consent, FeatureClass, Severity, Tenant, User
from governance.roles import Role


class SignInForm(forms.Form):
    email = forms.EmailField(widget=forms.EmailInput(attrs={"autocomplete": "username", "autofocus": True}))
    password = forms.CharField(widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}))


class TenantForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="As people call the organisation.")
    slug = forms.CharField(
        label="Address",
        max_length=32,
        validators=Tenant._meta.get_field("slug").validators,
        help_text="Its pages are at /o/<address>/. It can't be changed later.",
    )
    owner_email = forms.EmailField(
        label="Owner's e-mail", help_text="Gets an account if there is none yet, and may do everything in the organisation."
    )
    owner_password = forms.CharField(
        label="First password of a new owner",
        required=False,
        min_length=10,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Only used when the address has no account yet. At least 10 characters.",
    )
    kind = forms.ChoiceField(choices=Tenant.Kind.choices, initial=Tenant.Kind.CUSTOMER)
    tier = forms.ChoiceField(choices=Tenant.Tier.choices, initial=Tenant.Tier.FREE)
    region = forms.CharField(max_length=32, required=False, help_text="For example eu-west. Optional.")
    time_zone = forms.CharField(
        max_length=64, initial="UTC", help_text="Budgets and quotas begin at midnight of this zone, for example Europe/Berlin."
    )

    def clean_time_zone(self) -> str:
        zone = str(self.cleaned_data["time_zone"]).strip()
        if zone not in available_timezones():
            raise forms.ValidationError("This is not a time zone name. An example is Europe/Berlin.")
        return zone

    def clean_slug(self) -> str:
        return str(self.cleaned_data["slug"]).strip().lower()


class SuspendForm(forms.Form):
    reason = forms.CharField(max_length=200, help_text="Stands in the audit log of the platform and of the organisation.")


class DeleteForm(SuspendForm):
    confirm = forms.CharField(max_length=32, help_text="The organisation's address. There is no way back.")


class MemberForm(forms.Form):
    email = forms.EmailField(label="E-mail")
    name = forms.CharField(max_length=80, required=False)
    password = forms.CharField(
        label="First password",
        required=False,
        min_length=10,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Only used when the address has no account yet.",
    )
    roles = forms.MultipleChoiceField(choices=Role.choices, widget=forms.CheckboxSelectMultiple)


class RolesForm(forms.Form):
    roles = forms.MultipleChoiceField(choices=Role.choices, widget=forms.CheckboxSelectMultiple)


class ConsentForm(forms.Form):
    state = forms.ChoiceField(choices=Consent.State.choices)
    reason = forms.CharField(max_length=200, required=False, help_text="Callers read it in the refusal.")


class DaysForm(forms.Form):
    """A filter by UTC days, both included; empty fields leave nothing out."""

    first = forms.DateField(required=False, label="From")
    last = forms.DateField(required=False, label="To")

    def clean(self) -> dict[str, Any]:
        values: dict[str, Any] = super().clean() or {}
        if values.get("first") and values.get("last") and values["first"] > values["last"]:
            self.add_error("last", "The last day is before the first.")
        return values


class ConsentHistoryForm(DaysForm):
    """Which decisions to show."""

    feature_class = forms.ChoiceField(choices=[("", "Any class"), *FeatureClass.choices], required=False)
    state = forms.ChoiceField(choices=[("", "Any decision"), *Consent.State.choices], required=False)
    query = forms.CharField(max_length=100, required=False, label="Who or why")


class AuditForm(DaysForm):
    """Which entries of the audit log to show."""

    query = forms.CharField(max_length=160, required=False, label="What was changed")
    actor = forms.CharField(max_length=120, required=False, label="Who")
    event = forms.CharField(max_length=64, required=False, label="Event")
    via = forms.ChoiceField(choices=[("", "Any door"), *AuditEntry.Via.choices], required=False, label="Door")
    target = forms.RegexField(
        r"\A[a-z0-9_]{1,64}:.{1,64}\Z",
        required=False,
        strip=True,
        error_messages={"invalid": "Type and id of the object, for example model:12."},
    )


class CheckpointForm(forms.Form):
    """A number and hash of an entry, written down outside."""

    checkpoint = forms.RegexField(
        r"\A[1-9][0-9]{0,17}:[0-9a-f]{64}\Z",
        required=False,
        strip=True,
        error_messages={"invalid": "The number of an entry, a colon and its hash of 64 characters."},
    )

    def clean_checkpoint(self) -> tuple[int, str] | None:
        sequence, _, digest = self.cleaned_data["checkpoint"].partition(":")
        return (int(sequence), digest) if digest else None


class ThemeForm(forms.Form):
    theme = forms.ChoiceField(choices=User.Theme.choices)


class TokenForm(forms.Form):
    name = forms.CharField(max_length=60, help_text="What will use it, for example nightly import.")
    lifetime_days = forms.IntegerField(label="Valid for, days", min_value=1, max_value=90, initial=90)


class ChannelForm(forms.Form):
    name = forms.CharField(max_length=60, help_text="For example On call, or #ai-costs.")
    kind = forms.ChoiceField(choices=AlertChannel.Kind.choices, widget=forms.RadioSelect, initial=AlertChannel.Kind.EMAIL)
    target = forms.CharField(
        max_length=500,
        help_text="E-mail addresses separated by commas; the webhook's URL; a PagerDuty integration key; or the Apprise URL of another service, for example discord://…, tgram://…, ntfys://…, mmosts://…, gchat://…, opsgenie://…. It is kept sealed and not shown again.",
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    topics = forms.CharField(
        max_length=300, required=False, help_text="Only these, separated by commas, for example budget, gate. Empty takes everything."
    )
    least_severity = forms.ChoiceField(label="From severity", choices=Severity.choices, initial=Severity.INFO)

    def clean_topics(self) -> list[str]:
        return [word.strip().lower() for word in self.cleaned_data["topics"].split(",") if word.strip()]


class ChannelChangeForm(ChannelForm):
    """The kind stays: another kind is another channel."""

    is_enabled = forms.BooleanField(label="Send alerts here", required=False)
    field_order = ("name", "target", "topics", "least_severity", "is_enabled")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["kind"]
        self.fields["target"].required = False
        self.fields["target"].help_text = "Leave it empty to keep the present one."
