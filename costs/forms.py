"""Forms of the costs floor: one per act, each field cleaned to what the service takes."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from django import forms

from costs import selectors
from costs.models import TokenClass


class PriceForm(forms.Form):
    provider = forms.ChoiceField()
    model = forms.ChoiceField()
    token_class = forms.ChoiceField(
        label="Token class",
        choices=TokenClass.choices,
        help_text="Cached input and cache writes without a price of their own are charged as input.",
    )
    price = forms.DecimalField(label="Price per 1M tokens, USD", min_value=Decimal(0), max_digits=18, decimal_places=8)
    valid_from = forms.DateTimeField(
        label="In force from, UTC",
        required=False,
        help_text="Empty means now. It holds until the next price. Calls that have a price keep it; unpriced ones since then get this one.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    source = forms.CharField(required=False, max_length=200, help_text="Where the figure stands: a page, a contract, a mail.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["provider"].choices = list(selectors.provider_choices().items())  # type: ignore[attr-defined]  # a ChoiceField
        self.fields["model"].choices = [(slug, slug) for slug in selectors.model_choices()]  # type: ignore[attr-defined]

    def clean_valid_from(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["valid_from"]
        return at.astimezone(UTC) if at else None


class BillForm(forms.Form):
    file = forms.FileField(
        label="FOCUS file",
        help_text="CSV, versions 1.0 to 1.4 and the columns of the 1.5 draft. The same file twice changes nothing.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )
    provider = forms.ChoiceField(
        required=False,
        label="Whose bill it is",
        help_text="Which of our providers the rows belong to. Left open, the names in the file decide, as they were assigned before.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["provider"].choices = [("", "As the file says"), *selectors.provider_choices().items()]  # type: ignore[attr-defined]


class AliasForm(forms.Form):
    """What a bill calls a model of ours."""

    provider = forms.CharField(max_length=48)
    theirs = forms.CharField(max_length=160, label="In the bill")
    ours = forms.ChoiceField(label="Our model")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["ours"].choices = [(slug, slug) for slug in selectors.model_choices()]  # type: ignore[attr-defined]
