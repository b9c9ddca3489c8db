"""One plain form per act."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from django import forms
from django.utils import timezone

from governance.fields import TextField
from governance.models import Tenant, User
from rollouts import cohort_selectors, plans, selectors
from rollouts.models import SignOff
from rollouts.models.rollout import slug_validator


class _DateInput(forms.DateInput):
    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class RolloutForm(forms.Form):
    plan = forms.ChoiceField(label="Plan", help_text="The rollout keeps a copy of the plan as it is today.")
    name = forms.CharField(label="Name", max_length=100)
    slug = forms.CharField(
        label="Address",
        max_length=60,
        validators=[slug_validator],
        help_text="Lower-case letters, digits and hyphens; part of every link, for example support-copilot.",
    )
    owner = forms.ModelChoiceField(label="Owner", queryset=User.objects.none(), help_text="Whom others ask. Anybody of the organisation.")
    starts_on = forms.DateField(
        label="First day",
        widget=_DateInput(),
        help_text="On this day the first phase begins by itself; a day that has come begins at once.",
    )

    cohort = forms.ChoiceField(
        label="Over a cohort",
        required=False,
        help_text="Its gates judge the figures of all organisations that are active in it. Members of this organisation see those figures.",
    )

    def __init__(self, *args: Any, tenant: Tenant, actor: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if actor.is_operator and tenant.kind == Tenant.Kind.INTERNAL:
            self.fields["cohort"].choices = [("", "No: this organisation alone"), *cohort_selectors.open_cohorts()]  # type: ignore[attr-defined]
        else:
            del self.fields["cohort"]
        self.fields["plan"].choices = [(plan.key, f"{plan.title} ({len(plan.phases)} phases)") for plan in plans.all_plans()]  # type: ignore[attr-defined]
        self.fields["owner"].queryset = selectors.owners(tenant)  # type: ignore[attr-defined]
        self.fields["starts_on"].initial = timezone.now().date()


class SignForm(forms.Form):
    role = forms.CharField(max_length=16)
    decision = forms.ChoiceField(choices=SignOff.Decision.choices)
    digest = forms.CharField(max_length=64, required=False)
    comment = TextField(label="Comment", max_length=2000, required=False, widget=forms.Textarea(attrs={"rows": 3}))


class AttestForm(forms.Form):
    met = forms.TypedChoiceField(
        label="The criterion",
        choices=[("yes", "is met"), ("no", "is not met")],
        coerce=lambda value: value == "yes",
        widget=forms.RadioSelect,
        initial="yes",
    )
    summary = forms.CharField(
        label="Figure", max_length=40, required=False, help_text="What stands in the value column, for example 4 of 5."
    )
    note = TextField(label="What shows it", max_length=4000, widget=forms.Textarea(attrs={"rows": 4}))
    link = forms.URLField(label="Link to the evidence", required=False, max_length=500, assume_scheme="https")
    file = forms.FileField(label="File", required=False, help_text="Up to 10 MB; kept with its checksum.")


class WaiverForm(forms.Form):
    reason = TextField(label="Why the risk is acceptable", max_length=2000, widget=forms.Textarea(attrs={"rows": 3}))
    until = forms.DateField(
        label="Until the end of", widget=_DateInput(), help_text="At most 90 days. From then on the criterion counts again by itself."
    )

    def clean_until(self) -> datetime:
        """The end of that day, UTC."""
        day: date = self.cleaned_data["until"]
        return datetime.combine(day, time(23, 59, 59), tzinfo=UTC)


class WhyForm(forms.Form):
    """Beside a button, of at most so many characters. Where nothing is written, the service says what it wants to know."""

    def __init__(self, *args: Any, most: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"] = TextField(max_length=most, required=False)
