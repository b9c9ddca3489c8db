"""Forms of cohorts. Criteria are written as lines, and refused by the function that reads them."""

from __future__ import annotations

from typing import Any

from django import forms

from governance.fields import TextField
from governance.models import FeatureClass, Tenant
from rollouts import cohort_rules as rules
from rollouts.cohort_rules import CriterionError
from rollouts.models import CohortMember
from rollouts.models.flag import key_validator
from rollouts.models.rollout import slug_validator


class CohortForm(forms.Form):
    name = forms.CharField(label="Name", max_length=100)
    slug = forms.CharField(
        label="Address", max_length=60, validators=[slug_validator],
        help_text="Lower-case letters, digits and hyphens, for example design-partners. It names the line in the flag.",
    )  # fmt: skip
    purpose = TextField(
        label="What it is for",
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Who is invited reads it.",
    )
    flag_key = forms.CharField(
        label="Flag", max_length=120, validators=[key_validator],
        help_text="ai.<feature>.<change-id>. A key that is not used yet makes a flag, which begins off.",
    )  # fmt: skip
    feature_class = forms.ChoiceField(
        label="Consent", choices=FeatureClass.choices, help_text="Being in the cohort is no consent: without it programs get the control."
    )
    criteria = TextField(
        label="Criteria", max_length=4000, initial="kind in partner, customer\ncalls_per_day >= 100\nopen_incidents = 0",
        widget=forms.Textarea(attrs={"rows": 4, "class": "gh-mono", "spellcheck": "false"}),
        help_text=f"One per line, all must hold. Known: {', '.join(rules.FACTS)}. What is not known of somebody is no pass.",
    )  # fmt: skip
    places = forms.IntegerField(label="Places", min_value=1, max_value=10_000, initial=5)
    over_recruitment = forms.IntegerField(
        label="Over-recruitment, %", min_value=0, max_value=200, initial=rules.DEFAULT_OVER_RECRUITMENT,
        help_text="Because some drop out: 40% asks 7 for 5 places.",
    )  # fmt: skip

    def clean_criteria(self) -> str:
        try:
            rules.parse(self.cleaned_data["criteria"])
        except CriterionError as error:
            raise forms.ValidationError(str(error)) from error
        return str(self.cleaned_data["criteria"])


class WhyForm(forms.Form):
    reason = TextField(label="Reason", max_length=300)


class OneForm(WhyForm):
    """One organisation, by its address."""

    tenant = forms.CharField(label="Organisation", max_length=32)

    def clean_tenant(self) -> Tenant:
        found: Tenant | None = Tenant.objects.filter(slug=self.cleaned_data["tenant"].strip()).first()
        if found is None:
            raise forms.ValidationError("There is no organisation with this address.")
        return found


class OverrideForm(OneForm):
    """A variant of the flag for one organisation, for some days."""

    variant = forms.CharField(label="Gets", max_length=60)
    days = forms.IntegerField(label="Days", min_value=1, max_value=90)


class WindDownForm(WhyForm):
    """One organisation, or, left empty, the whole cohort."""

    tenant = forms.CharField(max_length=32, required=False)

    def clean_tenant(self) -> list[Tenant] | None:
        slug = self.cleaned_data["tenant"].strip()
        return list(Tenant.objects.filter(slug=slug)) if slug else None


class StageForm(WhyForm):
    stage = forms.ChoiceField(choices=[(stage.key, stage.title) for stage in rules.STAGES if stage.attribute != "tenant"])


class DecideForm(forms.Form):
    decision = forms.ChoiceField(choices=[("approve", "Approve"), ("decline", "Decline")])
    comment = TextField(max_length=500, required=False)


class CommentForm(forms.Form):
    comment = TextField(max_length=500)


class AnswerForm(forms.Form):
    answer = forms.ChoiceField(choices=[("accept", "Accept"), ("decline", "Decline"), ("leave", "Leave")])
    reason = forms.CharField(max_length=300, required=False)


class SurveyForm(forms.Form):
    question = forms.CharField(max_length=200)
    score = forms.IntegerField(min_value=0, max_value=10)
    comment = TextField(max_length=1000, required=False)


class NoteForm(forms.Form):
    text = TextField(max_length=1000)


class CloseForm(forms.Form):
    resolution = TextField(max_length=1000)


STATE_CHIPS: dict[str, Any] = {
    CohortMember.State.ACTIVE: "is-pass",
    CohortMember.State.ENROLLED: "is-info",
    CohortMember.State.INVITED: "line",
    CohortMember.State.WINDING_DOWN: "is-warn",
}
