"""Forms of the costs floor: one per act, each field cleaned to what the service takes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from catalog.forms.providers import CredentialFields
from catalog.selectors import time_zone
from costs import bill_imports, bill_selectors, budget_selectors, budgeting, exchange, price_selectors, price_sheets, review_selectors
from costs.models import (
    LONGEST_MONTHS,
    SHORTEST_MONTHS,
    Anomaly,
    AnomalyDimension,
    AnomalySettings,
    BillSource,
    Budget,
    Commitment,
    DeliveryStyle,
    RequiredTag,
    RequiredTagVersion,
    ReviewItem,
    SavedView,
    ServiceTier,
    TokenClass,
)
from costs.services import bill_rows
from costs.services.required_tags import Rule
from governance.fields import TextField
from governance.models import User


class PriceForm(forms.Form):
    provider = forms.ChoiceField()
    model = forms.ChoiceField()
    token_class = forms.ChoiceField(
        label="Token class",
        choices=TokenClass.choices,
        help_text="Cached input and cache writes without a price of their own are charged as input; nothing else is charged as another class.",
    )
    service_tier = forms.ChoiceField(
        label="Service tier", choices=ServiceTier.choices, required=False, help_text="As the provider's answer says how it served the call."
    )
    region = forms.CharField(required=False, max_length=48, help_text="Of the deployment. Empty for all without a price of their own.")
    context_over = forms.IntegerField(
        label="Only with more input tokens than",
        required=False,
        min_value=0,
        max_value=price_sheets.MOST_CONTEXT,
        help_text="Where long prompts have a price of their own, for example 200000. Empty for all.",
    )
    price = forms.DecimalField(
        label="Price per 1M",
        help_text="Tokens; of searches: a price per thousand, times a thousand.",
        min_value=Decimal(0),
        max_digits=18,
        decimal_places=8,
    )
    currency = forms.CharField(
        min_length=3,
        max_length=3,
        required=False,
        initial=exchange.BOOK,
        help_text="Another one than USD is converted once, at our exchange rate of the day that it begins on.",
    )
    valid_from = forms.DateTimeField(
        label="In force from, UTC",
        required=False,
        help_text="Empty means now. It holds until the next price. Calls that have a price keep it; unpriced ones since then get this one.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    source = forms.CharField(required=False, max_length=200, help_text="Where the figure stands: a page, a contract, a mail.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        found = price_selectors.priceable()
        self.fields["provider"].choices = list(found.providers.items())  # type: ignore[attr-defined]  # a ChoiceField
        self.fields["model"].choices = [(slug, slug) for slug in found.models]  # type: ignore[attr-defined]

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"] or exchange.BOOK).upper()

    def clean_service_tier(self) -> str:
        return self.cleaned_data["service_tier"] or ServiceTier.STANDARD

    def clean_context_over(self) -> int:
        return self.cleaned_data["context_over"] or 0

    def clean_valid_from(self) -> datetime | None:
        at: datetime | None = self.cleaned_data["valid_from"]
        return at.astimezone(UTC) if at else None


class PriceSheetForm(forms.Form):
    file = forms.FileField(
        label="Price sheet",
        help_text="CSV whose first line names provider, model, token_class, price_usd_per_million (or currency and price_per_million) and, if wanted, valid_from, source, corrects (yes where the book was wrong since then), service_tier, region and context_over.",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )
    note = forms.CharField(max_length=400, help_text="Where the prices stand: a contract, a page, a mail.")


class DiscountForm(forms.Form):
    """A negotiated discount on what is in force."""

    provider = forms.ChoiceField()
    model = forms.ChoiceField(required=False)
    percent = forms.DecimalField(
        label="Discount, percent", min_value=Decimal("0.01"), max_value=Decimal("99.99"), max_digits=5, decimal_places=2
    )
    valid_from = forms.DateTimeField(
        label="In force from, UTC",
        required=False,
        help_text="Empty means now.",
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    note = forms.CharField(max_length=160, help_text="The contract that it stands in.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("auto_id", "discount_%s")  # its page has another form with a note
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        found = price_selectors.priceable()
        self.fields["provider"].choices = list(found.providers.items())  # type: ignore[attr-defined]  # a ChoiceField
        self.fields["model"].choices = [("", "All models"), *((slug, slug) for slug in found.models)]  # type: ignore[attr-defined]

    def clean_valid_from(self) -> datetime:
        at: datetime | None = self.cleaned_data["valid_from"]
        return at.astimezone(UTC) if at else timezone.now()


class ExchangeRateForm(forms.Form):
    currency = forms.CharField(max_length=3, min_length=3, help_text="ISO 4217, for example EUR.")
    day = forms.DateField(label="Day, UTC", widget=forms.DateInput(attrs={"type": "date"}))
    per_usd = forms.DecimalField(
        label="Units for 1 USD",
        min_value=Decimal("0.000001"),
        max_digits=14,
        decimal_places=6,
        help_text="How much of the currency a dollar buys: 0.92 for EUR, not 1.09.",
    )
    source = forms.CharField(max_length=200, help_text="Where the rate stands: a bank, a contract, an invoice.")

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"]).upper()


class RateFileForm(forms.Form):
    file = forms.FileField(
        label="File of rates",
        help_text="CSV whose first line names day, currency and per_usd (units of the currency for 1 USD).",
        widget=forms.ClearableFileInput(attrs={"accept": ".csv,text/csv"}),
    )
    source = forms.CharField(label="Where they stand", max_length=200)

    def __init__(self, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("auto_id", "rates_%s")  # its page has another form with a source
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through


class _FilesInput(forms.ClearableFileInput):
    allow_multiple_selected = True


class _FilesField(forms.FileField):
    """One file or several, always a list."""

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[bytes]]:
        return [super(_FilesField, self).clean(one, initial) for one in data or [None]]


class BillForm(forms.Form):
    import_id = forms.RegexField(f"^{bill_imports.ID_PATTERN}$", required=False, initial=bill_imports.new_id, widget=forms.HiddenInput)
    file = _FilesField(
        label="FOCUS file",
        help_text="CSV or Parquet, also by gzip, versions 1.0 to 1.4 and the columns of the 1.5 draft. All parts of one export together. The same twice changes nothing.",
        widget=_FilesInput(attrs={"accept": ".csv,text/csv,.parquet,.gz", "hx-preserve": "true", "data-largest": bill_rows.LARGEST_FILE}),
    )
    provider = forms.ChoiceField(
        required=False,
        label="Whose bill it is",
        help_text="Which of our providers the rows belong to. Left open, the names in the file decide, as they were assigned before.",
    )
    style = forms.ChoiceField(
        required=False,
        label="How it follows earlier files",
        choices=[("", "As before, or as the file tells"), *DeliveryStyle.choices],
        help_text="Clouds deliver a month again and again, each time whole: then a file replaces. You see what it would change before it does.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["provider"].choices = [("", "As the file says"), *bill_selectors.provider_choices().items()]  # type: ignore[attr-defined]


class BillSourceForm(forms.Form):
    """A cost API to fetch a provider's bills from."""

    provider = forms.ChoiceField(help_text="Which of our providers its rows belong to.")
    kind = forms.ChoiceField(
        label="Cost API", choices=[choice for choice in BillSource.Kind.choices if choice[0] not in BillSource.FOLDERS]
    )
    key = forms.CharField(
        label="Admin key",
        required=False,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="Of the organisation at the provider; it is sealed and never shown again. Empty keeps the one that is there.",
    )
    base_url = forms.URLField(
        label="Address", required=False, max_length=300, assume_scheme="https", help_text="Empty means the provider's own."
    )
    begins_on = forms.DateField(
        label="From, UTC day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Empty means the first of this month.",
    )

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["provider"].choices = list(bill_selectors.provider_choices().items())  # type: ignore[attr-defined]  # a ChoiceField


class BillFolderForm(CredentialFields):
    """A folder of exports to fetch a provider's bills from: the fields of one kind of store, with one kind of credential."""

    provider = forms.ChoiceField(
        help_text="Which of our providers its rows belong to. One folder for each; the same provider again changes it."
    )
    kind = forms.ChoiceField(choices=[(kind.value, kind.label) for kind in BillSource.FOLDERS], widget=forms.HiddenInput)
    credential = forms.ChoiceField(choices=BillSource.Credential.choices, widget=forms.HiddenInput)
    bucket = forms.CharField(max_length=222)
    prefix = forms.CharField(  # type: ignore[assignment]  # a declared field leaves the form's own attribute alone
        required=False, max_length=500, help_text="All below it is read. With a / at its end, only what lies in that folder."
    )
    region = forms.CharField(required=False, max_length=32, help_text="Of the bucket, for example eu-central-1. Other hosts may have none.")
    base_url = forms.URLField(label="Address", required=False, max_length=300, assume_scheme="https")
    style = forms.ChoiceField(
        required=False,
        label="How its files follow each other",
        choices=[("", "As before, or as the file tells"), *DeliveryStyle.choices],
        initial=DeliveryStyle.REPLACEMENT,
        help_text="Clouds deliver a month again and again, each time whole: then a file replaces.",
    )
    begins_on = forms.DateField(
        label="From, UTC day",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Files that were written before it are passed over. Empty means the first of this month.",
    )

    def __init__(self, *args: Any, has_credential: bool, **kwargs: Any) -> None:
        """`has_credential`: there is one that empty fields keep."""
        super().__init__(*args, **kwargs)
        self.fields["provider"].choices = list(bill_selectors.provider_choices().items())  # type: ignore[attr-defined]  # a ChoiceField
        self.kind_value = self._chosen("kind", BillSource.FOLDERS)
        self.kind_label = BillSource.Kind(self.kind_value).label
        taken = BillSource.CREDENTIALS[self.kind_value]
        self.chosen_credential = self._chosen("credential", taken)
        self.initial = {**self.initial, "kind": self.kind_value, "credential": self.chosen_credential}
        self.credential_choices = [
            (each, "SAS token" if each == BillSource.Credential.KEY else BillSource.Credential(each).label, each == self.chosen_credential)
            for each in taken
        ]
        self.keep_credential(self.chosen_credential, is_key_required=True)
        if has_credential:
            for name in self.credential_fields:
                self.fields[name].required = False
        if "secret" in self.fields:
            self.fields["secret"].label, self.fields["secret"].max_length = "SAS token", 1000  # type: ignore[attr-defined]  # a CharField
            self.fields["secret"].help_text = "Of the container, with the rights Read and List. Stored encrypted; nobody can read it."
        self._word_place()

    def _chosen(self, name: str, known: tuple[str, ...]) -> str:
        given = str(self.data.get(name) or self.initial.get(name) or "")
        return given if given in known else str(known[0])

    def _word_place(self) -> None:
        address = self.fields["base_url"]
        if self.kind_value != BillSource.Kind.S3:
            del self.fields["region"]
        if self.kind_value == BillSource.Kind.AZURE_BLOB:
            self.fields["bucket"].label = "Container"
            address.required, address.help_text = True, "Of the storage account: https://<account>.blob.core.windows.net"
        else:
            address.help_text = "Empty means the cloud's own." + (
                " For any other host that speaks S3, its address." if self.kind_value == BillSource.Kind.S3 else ""
            )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        cleaned["key"] = cleaned.pop("secret", "")
        return cleaned


class BillReasonForm(forms.Form):
    reason = forms.CharField(max_length=400, required=False)


class SignOffForm(forms.Form):
    comment = forms.CharField(max_length=400, required=False)


class AliasForm(forms.Form):
    """What a bill calls a model of ours."""

    provider = forms.CharField(max_length=48)
    theirs = forms.CharField(max_length=160, label="In the bill")
    ours = forms.ChoiceField(label="Our model")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["ours"].choices = [(slug, slug) for slug in bill_selectors.model_choices()]  # type: ignore[attr-defined]


_TAG_TARGET = f"{Budget.Scope.TAG}:"


class BudgetForm(forms.Form):
    name = forms.CharField(max_length=80, help_text="Refusals and notices call the budget by it.")
    target = forms.ChoiceField(label="For the calls of")
    tag = forms.CharField(
        label="Tag and value",
        required=False,
        max_length=176,
        widget=forms.TextInput(attrs={"list": "budget-tags", "autocomplete": "off"}),
        help_text="Only for a value of a tag, as team=search: of a declared tag, per month. The value need not have been seen yet.",
    )
    amount = forms.DecimalField(label="Amount, USD", min_value=Decimal("0.01"), max_digits=14, decimal_places=2)
    period = forms.ChoiceField(label="Per", choices=Budget.Period.choices, help_text="By the calendar of the organisation's time zone.")
    action = forms.ChoiceField(label="What it does", choices=Budget.Action.choices, help_text="Alert only never touches a call.")
    thresholds = forms.CharField(label="Tell people at, percent", max_length=60, help_text="Whole percents, for example 50, 80, 100.")
    throttle_from = forms.IntegerField(
        label="Slow down from, percent",
        min_value=1,
        max_value=99,
        help_text="Only for slowing down: fewer and fewer calls pass from here to 100%.",
    )
    environment = forms.CharField(
        required=False, max_length=40, help_text="What depends on it, for example production: whoever changes it sees that."
    )

    def __init__(self, *args: object, kept: str = "", **kwargs: object) -> None:
        """`kept` is a target that stays eligible, though it may be gone: that of the budget being changed."""
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        groups = budget_selectors.targets([scope for scope in Budget.Scope if scope != Budget.Scope.TAG])
        groups.append(("Tags", [(_TAG_TARGET, "A value of a tag, named below")]))
        if kept and not kept.startswith(_TAG_TARGET) and kept not in {value for _, values in groups for value, _ in values}:
            groups.append(("Now", [(kept, kept.partition(":")[2])]))
        self.fields["target"].choices = groups  # type: ignore[attr-defined]  # a ChoiceField

    def clean_thresholds(self) -> list[int]:
        parts = [part.strip().rstrip("%").strip() for part in str(self.cleaned_data["thresholds"]).split(",")]
        if not all(part.isdecimal() and len(part) < 4 for part in parts):
            raise forms.ValidationError("Write whole percents with commas between them.")
        return [int(part) for part in parts]

    def clean(self) -> dict[str, object]:
        """With `scope` and `ref` in place of the target and the tag."""
        cleaned = dict(super().clean() or {})
        scope, _, ref = str(cleaned.pop("target", "")).partition(":")
        tag = cleaned.pop("tag", "")
        if tag and scope != Budget.Scope.TAG:
            self.add_error("tag", "Choose a value of a tag above, or leave this empty.")
        return cleaned | {"scope": scope, "ref": tag if scope == Budget.Scope.TAG else ref}

    def tags(self) -> list[str]:
        """Suggestions: values that were seen."""
        return budget_selectors.refs(Budget.Scope.TAG)

    @staticmethod
    def initial_of(found: Budget) -> dict[str, object]:
        same = {name: getattr(found, name) for name in ("name", "amount", "period", "action", "throttle_from", "environment")}
        is_tag = found.scope == Budget.Scope.TAG
        aim = {"target": _TAG_TARGET, "tag": found.ref} if is_tag else {"target": f"{found.scope}:{found.ref}"}
        return same | aim | {"thresholds": ", ".join(str(mark) for mark in found.thresholds)}


class RaiseForm(forms.Form):
    extra = forms.DecimalField(label="Extra per period, USD", min_value=Decimal("0.01"), max_digits=14, decimal_places=2)
    last_day = forms.DateField(
        label="Up to and including", widget=forms.DateInput(attrs={"type": "date"}), help_text="It ends by itself at the end of that day."
    )
    reason = forms.CharField(max_length=400)

    def clean(self) -> dict[str, object]:
        """With `until`, the end of the last day in the organisation's time zone."""
        cleaned = dict(super().clean() or {})
        last = cleaned.pop("last_day", None)
        if isinstance(last, date):
            zone = time_zone()
            noon = datetime(last.year, last.month, last.day, 12, tzinfo=zone)
            cleaned["until"] = budgeting.span_of("day", noon, zone).end
        return cleaned


class FeedbackForm(forms.Form):
    feedback = forms.ChoiceField(label="It is", choices=[(name, label) for name, label in Anomaly.Feedback.choices if name])
    note = forms.CharField(required=False, max_length=400, help_text="What was behind it.")
    planned_until = forms.DateField(
        label="Planned up to",
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text="Only for planned: nothing new is told of it until then; empty means two weeks.",
    )


class AnomalySettingsForm(forms.Form):
    sensitivity = forms.ChoiceField(
        choices=AnomalySettings.Sensitivity.choices,
        help_text="High finds a little more and is wrong about twice a week, medium one and a half times, low less than once.",
    )
    floor = forms.DecimalField(
        label="Nothing smaller than, USD", min_value=Decimal("0.01"), max_digits=12, decimal_places=2, help_text="Per day."
    )
    floor_percent = forms.DecimalField(
        label="And nothing smaller than, percent",
        min_value=Decimal(0),
        max_value=Decimal(100),
        max_digits=5,
        decimal_places=2,
        help_text="Of the organisation's usual day. The larger of the two holds.",
    )
    muted = TextField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text="One a line, as agent:night-batch, model:small-chat, project:checkout or key:<id>. Nothing is told of them.",
    )

    def clean_muted(self) -> list[str]:
        return [line.strip() for line in str(self.cleaned_data["muted"]).splitlines() if line.strip()]

    @staticmethod
    def initial_of(chosen: AnomalySettings) -> dict[str, object]:
        same = {name: getattr(chosen, name) for name in ("sensitivity", "floor", "floor_percent")}
        return same | {"muted": "\n".join(chosen.muted)}


class RetentionForm(forms.Form):
    keep_months = forms.IntegerField(
        label="Months to keep",
        required=False,
        min_value=SHORTEST_MONTHS,
        max_value=LONGEST_MONTHS,
        help_text=f"Whole UTC months before the present one, {SHORTEST_MONTHS} at least. Empty keeps all calls.",
    )
    archives = forms.BooleanField(
        label="Keep older months as files",
        required=False,
        help_text="Without it, their single calls are deleted for ever. Sums by the hour stay.",
    )


class MissedForm(forms.Form):
    target = forms.ChoiceField(label="What it was")
    day = forms.DateField(label="Day, UTC", widget=forms.DateInput(attrs={"type": "date"}))
    note = forms.CharField(max_length=400, help_text="What happened.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["target"].choices = budget_selectors.targets(AnomalyDimension.values)  # type: ignore[attr-defined]  # a ChoiceField

    def clean(self) -> dict[str, object]:
        """With `dimension` and `ref` in place of the target."""
        cleaned = dict(super().clean() or {})
        dimension, _, ref = str(cleaned.pop("target", "")).partition(":")
        return cleaned | {"dimension": dimension, "ref": ref}


class SavedViewForm(forms.Form):
    name = forms.CharField(max_length=60)
    is_shared = forms.BooleanField(required=False, label="Share it with everybody who may see this page")
    is_default = forms.BooleanField(required=False, label="Open this page with it")

    @classmethod
    def of(cls, view: SavedView) -> SavedViewForm:
        """Filled with what the view is."""
        return cls(initial={name: getattr(view, name) for name in ("name", "is_shared", "is_default")}, auto_id=f"view-{view.pk}-%s")


class CommitmentForm(forms.Form):
    reference = forms.CharField(max_length=120, help_text="The provider's id of it, as on its bills.")
    kind = forms.ChoiceField(choices=Commitment.Kind.choices)
    provider = forms.ChoiceField()
    model = forms.ChoiceField(required=False, help_text="Only where it serves one model.")
    region = forms.CharField(required=False, max_length=48, help_text="Only where it matters; as the provider's in the catalog.")
    quantity = forms.DecimalField(
        label="Units, or amount of use",
        min_value=Decimal("0.0001"),
        max_digits=21,
        decimal_places=4,
        help_text="Throughput: units bought. Else: how much use at the price book's prices it pays for.",
    )
    unit_price = forms.DecimalField(
        label="Price per unit and hour, or of each dollar of use",
        min_value=Decimal(0),
        max_digits=25,
        decimal_places=8,
        help_text="0.8 of each dollar (or euro) of use is 20% off.",
    )
    currency = forms.CharField(
        min_length=3,
        max_length=3,
        required=False,
        initial=exchange.BOOK,
        help_text="Of the contract. Another one than USD is converted once, at our exchange rate of the first day.",
    )
    unit_tokens_per_minute = forms.IntegerField(
        label="Tokens a minute of one unit",
        required=False,
        min_value=1,
        max_value=10**9,
        help_text="Of throughput: input tokens, from the provider's table.",
    )
    output_weight = forms.DecimalField(
        label="An output token takes as much as",
        required=False,
        min_value=Decimal("0.01"),
        max_digits=6,
        decimal_places=2,
        help_text="Input tokens, from the same table. Empty for 1.",
    )
    first_on = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    last_on = forms.DateField(label="Up to and including", widget=forms.DateInput(attrs={"type": "date"}), help_text="UTC days.")
    source = forms.CharField(max_length=200, help_text="Where it stands: a contract, an order.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.fields["provider"].choices = list(bill_selectors.provider_choices().items())  # type: ignore[attr-defined]  # a ChoiceField
        models = [("", "All"), *((slug, slug) for slug in bill_selectors.model_choices())]
        self.fields["model"].choices = models  # type: ignore[attr-defined]  # a ChoiceField

    def clean_currency(self) -> str:
        return str(self.cleaned_data["currency"] or exchange.BOOK).upper()

    def clean_output_weight(self) -> Decimal:
        return self.cleaned_data["output_weight"] or Decimal(1)


class BaselineForm(forms.Form):
    name = forms.CharField(max_length=60, help_text="For example: before caching.")
    first = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label="Up to and including", widget=forms.DateInput(attrs={"type": "date"}), help_text="UTC days that are over.")
    projected_percent = forms.DecimalField(
        label="Projected saving, percent",
        min_value=Decimal(0),
        max_value=Decimal("99.99"),
        max_digits=5,
        decimal_places=2,
        help_text="By how much a call is meant to cost less. It is frozen with the figures.",
    )


class TagRuleForm(forms.Form):
    """What is required of a tag; `rule` is what the services take."""

    values = TextField(
        label="It may be",
        required=False,
        max_length=12_000,
        widget=forms.Textarea(attrs={"rows": 4, "class": "gh-mono", "spellcheck": "false"}),
        help_text="One value on each line; * and ? stand for other characters, [0-9] for a digit. Empty: anything.",
    )
    projects = forms.MultipleChoiceField(required=False, help_text="Whose calls must carry it. None chosen: every project.")
    environments = forms.CharField(
        required=False, max_length=200, help_text="Of the projects, with commas between, for example production. Empty: all of them."
    )
    fact = forms.ChoiceField(
        label="Where nobody says it, take",
        choices=RequiredTagVersion.Fact.choices,
        required=False,
        help_text="After the caller, the key's tags and the project's.",
    )
    note = forms.CharField(label="Why", max_length=300, required=False, help_text="For whoever reads the versions later.")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        names = sorted(bill_selectors.project_names().items(), key=lambda pair: pair[1].lower())
        self.fields["projects"].choices = names  # type: ignore[attr-defined]  # a MultipleChoiceField

    def clean_values(self) -> list[str]:
        values: str = self.cleaned_data["values"]
        return values.splitlines()

    def clean_environments(self) -> list[str]:
        environments: str = self.cleaned_data["environments"]
        return environments.split(",")

    @property
    def rule(self) -> Rule:
        given = self.cleaned_data
        return Rule(given["values"], given["projects"], given["environments"], given["fact"])

    @staticmethod
    def initial_of(version: RequiredTagVersion) -> dict[str, object]:
        return {
            "values": "\n".join(version.values),
            "projects": version.projects,
            "environments": ", ".join(version.environments),
            "fact": version.fact,
        }


class RequiredTagForm(TagRuleForm):
    name = forms.CharField(max_length=40, help_text="As callers send it, for example costCenter. It can't be changed later.")
    description = forms.CharField(max_length=300, required=False, help_text="What it is for.")
    field_order = ["name", "description", "values", "projects", "environments", "fact", "note"]


class TagModeForm(forms.Form):
    mode = forms.ChoiceField(choices=RequiredTag.Mode.choices)
    version = forms.IntegerField(min_value=1, max_value=1_000_000)
    enforce_on = forms.DateField(required=False)
    reason = forms.CharField(max_length=300, required=False)


class ReviewKeyForm(forms.Form):
    """Names a finding."""

    kind = forms.ChoiceField(choices=ReviewItem.Kind.choices)
    ref = forms.CharField(max_length=200, required=False)


class _DecisionForm(forms.Form):
    """What is decided, who sees to it, and until when."""

    decision = forms.ChoiceField(choices=ReviewItem.Decision.choices)
    owner = forms.ChoiceField()
    note = forms.CharField(max_length=400, required=False)
    due_on = forms.DateField(label="By", required=False)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # passed through
        self.people = {person.email: person for person in review_selectors.owners()}
        self.fields["owner"].choices = [(email, str(person)) for email, person in self.people.items()]  # type: ignore[attr-defined]

    def clean_owner(self) -> User:
        return self.people[self.cleaned_data["owner"]]


class ReviewDecisionForm(_DecisionForm, ReviewKeyForm):
    """About one finding."""


class ReviewRestForm(_DecisionForm):
    """About every finding of a kind that has no decision yet."""

    kind = forms.ChoiceField(choices=ReviewItem.Kind.choices)
    seen = forms.CharField(max_length=64)


class ReviewSignForm(forms.Form):
    sha256 = forms.CharField(max_length=64)
    note = forms.CharField(max_length=400, required=False)
