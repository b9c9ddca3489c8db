"""Bodies of the costs endpoints. Money is text with all its decimals; what is not known is null, never zero."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from costs import bill_imports, bill_selectors, bridge, dimensions, price_sheets, reconciliation_selectors, selectors
from costs.models import (
    SERIES,
    BillDelivery,
    BillError,
    BillFile,
    DeliveryStyle,
    Event,
    PriceEntry,
    Reconciliation,
    ReconciliationLine,
    Revision,
    RevisionSignature,
    ServiceTier,
    TokenClass,
)
from costs.services import bills
from governance.api.serializers import StrictSerializer


@extend_schema_field({"type": "string", "format": "decimal"})
class ExactField(serializers.Field[Decimal, Any, str, Any]):
    """A decimal as text: exact, without an exponent and without trailing zeros."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: Decimal) -> str:
        return f"{value.normalize():f}"


class DimensionsQuery(StrictSerializer):
    """Filters by the dimensions of spend."""

    project = serializers.CharField(
        required=False, help_text="`(none)` for calls whose project is not known; the same holds for the others."
    )
    model = serializers.CharField(required=False)
    agent = serializers.CharField(required=False)
    key = serializers.CharField(required=False)
    provider = serializers.CharField(required=False)
    cost_centre = serializers.CharField(required=False)
    environment = serializers.CharField(required=False, help_text="Of the project, as it is today.")
    deployment = serializers.CharField(required=False, help_text="Its id.")
    region = serializers.CharField(
        required=False,
        help_text="Of the deployment. Calls with a tag are found by `tag:<name>=<value>`, a parameter that is not listed here.",
    )

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        asked = self.initial_data if hasattr(self, "initial_data") else {}
        tags = {name: serializers.CharField(required=False) for name in asked if dimensions.is_tag(name)}
        return {"from": serializers.DateField(required=False), **super().get_fields(), **tags}  # `from` cannot be an attribute


class SpendQuery(DimensionsQuery):
    """Period (whole UTC days, default the present month), grouping and filters."""

    to = serializers.DateField(required=False)
    group = serializers.CharField(
        default="model", help_text=f"One of {', '.join(f'`{name}`' for name in selectors.GROUPS)}, or `tag:<name>` of a declared tag."
    )
    compare = serializers.ChoiceField(
        choices=["", "before", "month", "year", "none"],
        default="",
        help_text="With as many days just before, or the same days a month or year before; empty: a month before for a part of one month from its first day on, else just before.",
    )

    def validate_group(self, value: str) -> str:
        if value not in selectors.GROUPS and not dimensions.is_tag(value):
            raise serializers.ValidationError(f"One of {', '.join(selectors.GROUPS)}, or tag:<name>.")
        return value


class SpendLine(serializers.Serializer[Any]):
    value = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field of this name
    cost_usd = ExactField(source="cost")
    earlier_cost_usd = ExactField(source="before", allow_null=True, help_text="Of the period that it is compared with; null without any.")
    calls = serializers.IntegerField()
    refused = serializers.IntegerField(allow_null=True, help_text="Like the next two null of a token class.")
    failed = serializers.IntegerField(source="errors", allow_null=True)
    unpriced_calls = serializers.IntegerField(allow_null=True)
    unpriced_tokens = serializers.IntegerField(allow_null=True, help_text="Only of a token class.")
    tokens = serializers.IntegerField()


class SpendDay(serializers.Serializer[Any]):
    day = serializers.DateField()
    value = serializers.CharField()
    cost_usd = ExactField()


class SpendForecast(serializers.Serializer[Any]):
    """Of the whole month, with the same filter: expected, and the 80% interval."""

    expected_usd = ExactField(source="expected")
    low_usd = ExactField(source="low")
    high_usd = ExactField(source="high")
    history_days = serializers.IntegerField(source="days")


class SpendOutput(serializers.Serializer[Any]):
    first_day = serializers.DateField()
    last_day = serializers.DateField()
    earlier_first_day = serializers.DateField(allow_null=True)
    earlier_last_day = serializers.DateField(allow_null=True)
    forecast = SpendForecast(allow_null=True, help_text="Only of the present month up to today, and with 14 days of history.")
    no_forecast = serializers.CharField(allow_blank=True, help_text="Why there is none although it was asked about the present month.")
    currency = serializers.CharField()
    complete_through = serializers.DateTimeField()
    total = SpendLine()
    lines = SpendLine(many=True)
    days = SpendDay(many=True)
    served_calls = serializers.IntegerField()
    untagged_calls = serializers.IntegerField()
    untagged_cost_usd = ExactField()
    coverage_calls_percent = serializers.FloatField(allow_null=True)
    coverage_cost_percent = serializers.FloatField(allow_null=True)


class StepOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    verdict = serializers.CharField()
    micros = serializers.IntegerField()
    detail = serializers.CharField()


class EventOutput(serializers.ModelSerializer[Event]):
    """One governed call."""

    cost_usd = ExactField(source="cost")
    input_tokens = serializers.IntegerField(allow_null=True)
    units = serializers.DictField(
        child=serializers.IntegerField(),
        allow_null=True,
        help_text="Token class to count of what has a price of its own; its tokens are in the figures above.",
    )
    is_archived = serializers.BooleanField(help_text="Read from the file of its month, which left the database.")

    class Meta:
        model = Event
        fields = (
            "event_id",
            "request_id",
            "kind",
            "started_at",
            "received_at",
            "attributed_at",
            "duration_us",
            "overhead_us",
            "ttft_us",
            "project",
            "cost_centre",
            "key_id",
            "agent",
            "model",
            "provider",
            "upstream_model",
            "region",
            "status",
            "http_status",
            "error_code",
            "stream",
            "input_tokens",
            "uncached_input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
            "usage_source",
            "service_tier",
            "units",
            "answer_id",
            "pricing",
            "cost_usd",
            "tags",
            "is_archived",
        )


class EventDetailOutput(EventOutput):
    steps = serializers.SerializerMethodField()

    class Meta(EventOutput.Meta):
        fields = (*EventOutput.Meta.fields, "steps")  # type: ignore[assignment]  # longer than the base's

    def get_steps(self, event: Event) -> list[dict[str, Any]]:
        return [dict(StepOutput(step).data) for step in selectors.steps_of(event)]


class EventQuery(DimensionsQuery):
    """`from` and `to` are whole UTC days by the start of the call; without one of them that end is open, without both all are listed."""

    to = serializers.DateField(required=False)
    status = serializers.ChoiceField(choices=["failed", "errors", *selectors.STATUSES], required=False)
    code = serializers.CharField(required=False, help_text="The code of a refusal or failure.")
    pricing = serializers.ChoiceField(choices=["unpriced"], required=False)
    tag = serializers.CharField(required=False, max_length=40, help_text="A required tag that the call lacks; `(any)` is any of them.")
    q = serializers.CharField(required=False, help_text="A whole request id.")
    cursor = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200)


class PriceInput(StrictSerializer):
    provider = serializers.SlugField(max_length=48)
    model = serializers.CharField(max_length=80)
    token_class = serializers.ChoiceField(choices=TokenClass.choices)
    service_tier = serializers.ChoiceField(choices=ServiceTier.choices, required=False)
    region = serializers.CharField(
        max_length=48, required=False, allow_blank=True, help_text="Of the deployment; empty for all without a price of their own."
    )
    context_over = serializers.IntegerField(
        required=False, min_value=0, max_value=price_sheets.MOST_CONTEXT, help_text="For calls with more input tokens than this."
    )
    price = serializers.DecimalField(max_digits=18, decimal_places=8, min_value=Decimal(0), help_text="Per million tokens.")
    currency = serializers.RegexField(
        r"^[A-Z]{3}$", required=False, help_text="ISO 4217, default USD: others are converted at our exchange rate."
    )
    valid_from = serializers.DateTimeField(required=False, help_text="Default now.")
    source = serializers.CharField(max_length=200, required=False, allow_blank=True)  # type: ignore[assignment]  # a field of this name


class PriceOutput(serializers.ModelSerializer[PriceEntry]):
    price = ExactField(help_text="USD per million tokens, which calls are priced by.")
    quoted = ExactField(allow_null=True, help_text="In `currency`; null where that is USD.")
    rate = ExactField(allow_null=True, help_text="Units of the currency for one USD; fixed when the price was proposed.")
    approved_by = serializers.CharField(source="approved_by.email")

    class Meta:
        model = PriceEntry
        fields = (
            *SERIES,
            "price",
            "currency",
            "quoted",
            "rate",
            "rate_on",
            "valid_from",
            "valid_to",
            "source",
            "approved_by",
            "created_at",
        )


class UnpricedOutput(serializers.Serializer[Any]):
    provider = serializers.CharField()
    model = serializers.CharField()
    calls = serializers.IntegerField()
    since = serializers.DateTimeField()
    last = serializers.DateTimeField()
    tiers = serializers.ListField(child=serializers.CharField(), help_text="Service tiers of the newest ones.")
    units = serializers.ListField(
        child=serializers.CharField(),
        help_text="Token classes beside input, cached input, cache write and output that the newest ones used.",
    )


class BillInput(serializers.Serializer[Any]):
    file = serializers.ListField(
        child=serializers.FileField(),
        allow_empty=False,
        max_length=bills.MOST_PARTS,
        help_text="FOCUS CSV or Parquet, also by gzip, 1.0 to 1.4 and the columns of the 1.5 draft. Sent several times: parts of one export.",
    )
    provider = serializers.SlugField(
        max_length=48,
        required=False,
        allow_blank=True,
        default="",
        help_text="Which of our providers the rows belong to; default as the file says.",
    )
    style = serializers.ChoiceField(  # type: ignore[assignment]  # a field is no attribute
        choices=DeliveryStyle.choices,
        required=False,
        allow_blank=True,
        default="",
        help_text="How it follows the files of its accounts before; remembered once it is applied. Default as remembered, else as the file tells.",
    )
    preview = serializers.BooleanField(required=False, default=False, help_text="Let it wait to be applied if it would replace rows.")
    import_id = serializers.RegexField(
        f"^{bill_imports.ID_PATTERN}$",
        required=False,
        allow_blank=True,
        default="",
        help_text="Under which it is listed, and can be stopped, while it is taken over: 16 hexadecimal digits, default a new one.",
    )


class BillImportOutput(serializers.Serializer[Any]):
    id = serializers.CharField()
    person = serializers.CharField()
    began_at = serializers.DateTimeField()
    phase = serializers.ChoiceField(choices=bill_imports.PHASE_CHOICES)
    rows = serializers.IntegerField(allow_null=True, help_text="Read so far, while they are.")


class BillDeliveryOutput(serializers.ModelSerializer[BillDelivery]):
    """One billing period of an account. Rows that changed are counted among the new and among the gone ones as well."""

    billed_kept = ExactField()
    billed_new = ExactField()
    billed_gone = ExactField()
    difference = ExactField(help_text="What the period is more by, in its currency.")

    class Meta:
        model = BillDelivery
        fields = (
            "provider", "account", "period", "currency", "style", "rows_kept", "rows_new", "rows_gone", "rows_changed", "billed_kept",
            "billed_new", "billed_gone", "difference",
        )  # fmt: skip


class BillPartOutput(serializers.Serializer[Any]):
    name = serializers.CharField()
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()


class BillDoubtOutput(serializers.Serializer[Any]):
    code = serializers.ChoiceField(choices=["style", "older", "smaller", "apart", "incomplete", "signed", "empty"])
    message = serializers.CharField()


class BillChangeOutput(serializers.Serializer[Any]):
    description = serializers.CharField()
    day = serializers.DateField(allow_null=True)
    currency = serializers.CharField()
    was = serializers.CharField(allow_null=True, help_text="Exact; null: there was no such charge.")
    now = serializers.CharField(allow_null=True)


class BillOutput(serializers.ModelSerializer[BillFile]):
    parts = BillPartOutput(many=True, read_only=True, help_text="Of an export in several files; empty for one.")
    deliveries = BillDeliveryOutput(many=True, read_only=True, help_text="What it changed, or would change while it waits.")
    doubts = BillDoubtOutput(many=True, read_only=True, help_text="Why a person should look at it first.")
    digest = serializers.CharField(read_only=True, help_text="Of what it changes: what is applied is what was seen.")
    billed_in = ExactField(help_text="Sum of BilledCost as the rows say it, in their currency; so are the next ones.")
    billed_accepted = ExactField()
    billed_duplicate = ExactField()
    billed_rejected = ExactField()
    billed_quarantined = ExactField()

    class Meta:
        model = BillFile
        fields = (
            "id",
            "name",
            "sha256",
            "size_bytes",
            "parts",
            "focus_version",
            "provider",
            "uploaded_at",
            "state",
            "applied_at",
            "digest",
            "doubts",
            "deliveries",
            "rows_in",
            "rows_accepted",
            "rows_duplicate",
            "rows_rejected",
            "rows_quarantined",
            "billed_in",
            "billed_accepted",
            "billed_duplicate",
            "billed_rejected",
            "billed_quarantined",
        )


class BillQuery(serializers.Serializer[Any]):
    q = serializers.CharField(
        required=False, help_text="In the name, or in an account or provider that it delivered; or how its sha256 begins."
    )
    state = serializers.ChoiceField(choices=BillFile.State.choices, required=False)


class ReconciliationQuery(serializers.Serializer[Any]):
    q = serializers.CharField(required=False, help_text="In the provider or an account.")
    month = serializers.RegexField(r"^20\d{2}-(0[1-9]|1[0-2])$", required=False, help_text="YYYY-MM")
    show = serializers.ChoiceField(choices=["open"], required=False, help_text="`open`: over, and not signed off.")


class BilledAccountOutput(serializers.Serializer[Any]):
    account = serializers.CharField()
    currency = serializers.CharField()
    rows = serializers.IntegerField()
    bill = ExactField()
    percent = ExactField(allow_null=True, help_text="Of the bill; null where its currency is not that of the comparison.")


class BillErrorReasonOutput(serializers.Serializer[Any]):
    column = serializers.CharField(help_text="Empty: the row as a whole.")
    is_quarantined = serializers.BooleanField()
    example = serializers.CharField(help_text="The reason of one of the rows.")
    rows = serializers.IntegerField()


class BillDetailOutput(BillOutput):
    error_reasons = serializers.SerializerMethodField(help_text="Rows that were not taken, by column, the most frequent first.")
    changes = BillChangeOutput(many=True, read_only=True, help_text="The largest differences to what was in force, at most 50.")

    class Meta(BillOutput.Meta):
        fields = (*BillOutput.Meta.fields, "changes", "error_reasons")  # type: ignore[assignment]  # longer than the base's

    @extend_schema_field(BillErrorReasonOutput(many=True))
    def get_error_reasons(self, bill: BillFile) -> Any:
        return BillErrorReasonOutput(bill_selectors.error_reasons(bill), many=True).data


class ImportedOutput(BillOutput):
    already_imported = serializers.BooleanField(read_only=True)

    class Meta(BillOutput.Meta):
        fields = (*BillOutput.Meta.fields, "already_imported")  # type: ignore[assignment]  # longer than the base's


class BillReleaseInput(StrictSerializer):
    provider = serializers.SlugField(
        max_length=48, required=False, allow_blank=True, default="", help_text="Whose rows they are; without it, as the file says."
    )


class BillErrorOutput(serializers.ModelSerializer[BillError]):
    class Meta:
        model = BillError
        fields = ("part", "line", "column", "message", "text", "is_quarantined")


class CauseOutput(serializers.Serializer[Any]):
    cause = serializers.CharField()
    amount = serializers.CharField(help_text="Exact, in the currency of the revision.")
    cents = serializers.CharField(help_text="In cents; sums to the variance in cents.")
    lines = serializers.IntegerField()


class ExcludedOutput(serializers.Serializer[Any]):
    kind = serializers.CharField()
    rows = serializers.IntegerField()
    amount = serializers.CharField()
    currency = serializers.CharField()


class UsedRateOutput(serializers.Serializer[Any]):
    currency = serializers.CharField()
    day = serializers.DateField(help_text="That the rate is of.")
    per_usd = serializers.CharField(help_text="Units of the currency for one USD.")


class RevisionOutput(serializers.ModelSerializer[Revision]):
    bill = ExactField(help_text="In `currency`, as all that follows and does not say USD.")
    telemetry = ExactField()
    variance = ExactField()
    unexplained = ExactField()
    bill_usd = ExactField(help_text="At our exchange rates.")
    telemetry_usd = ExactField(help_text="As it was counted.")
    variance_usd = ExactField()
    variance_percent = serializers.FloatField(allow_null=True)
    rates = UsedRateOutput(many=True, help_text="Our exchange rates that were used.")
    causes = CauseOutput(many=True)
    excluded = ExcludedOutput(many=True)
    digest = serializers.CharField(help_text="What a signature is bound to.")
    is_doubtful = serializers.BooleanField(help_text="Pages say that estimates may vary.")
    is_provisional = serializers.BooleanField(help_text="The bill does not reach the end of the month.")

    class Meta:
        model = Revision
        fields = (
            "number",
            "run_key",
            "digest",
            "created_at",
            "currency",
            "bill",
            "telemetry",
            "variance",
            "variance_percent",
            "unexplained",
            "bill_usd",
            "telemetry_usd",
            "variance_usd",
            "rates",
            "stated_rows",
            "is_doubtful",
            "is_provisional",
            "bill_rows",
            "calls",
            "causes",
            "excluded",
            "complete_through",
        )


class MissingRateOutput(serializers.Serializer[Any]):
    currency = serializers.CharField()
    first = serializers.DateField()
    last = serializers.DateField()


class ReconciliationOutput(serializers.ModelSerializer[Reconciliation]):
    month = serializers.DateField(format="%Y-%m")
    latest = RevisionOutput(allow_null=True)
    is_replaced = serializers.BooleanField(help_text="Bills of the month name several accounts by now and are compared together.")
    missing_rates = MissingRateOutput(many=True, help_text="Exchange rates without which its bill, as it is now, is not compared.")
    has_waiting_file = serializers.BooleanField(help_text="A file that would change its billing period waits to be applied or dismissed.")

    is_counted_twice = serializers.BooleanField(
        help_text="Rows of the provider's month came from a cost API and from files besides: what both say counts twice."
    )

    class Meta:
        model = Reconciliation
        fields = ("provider", "account", "month", "is_replaced", "missing_rates", "has_waiting_file", "is_counted_twice", "latest")


class BillSignatureOutput(serializers.ModelSerializer[RevisionSignature]):
    revision = serializers.IntegerField(source="revision.number")
    person = serializers.CharField(source="person.email")

    class Meta:
        model = RevisionSignature
        fields = ("revision", "person", "comment", "digest", "at", "voided_at", "void_reason")


class BillSignOffOutput(serializers.Serializer[Any]):
    state = serializers.ChoiceField(choices=["unsigned", "waiting", "signed_off"], help_text="Two people sign a month off.")
    missing = serializers.IntegerField(help_text="Signatures that are still needed.")
    signatures = BillSignatureOutput(many=True)
    voided = BillSignatureOutput(many=True, help_text="Withdrawn, or of revisions that were replaced.")


class LineOutput(serializers.ModelSerializer[ReconciliationLine]):
    bill = ExactField(help_text="In the currency of the revision.")
    telemetry = ExactField()
    bill_usd = ExactField(help_text="At our exchange rate of its day.")
    telemetry_usd = ExactField()
    rate = ExactField(help_text="Units of the currency for one USD.")
    bill_tokens = ExactField()
    causes = serializers.DictField(child=serializers.CharField())

    class Meta:
        model = ReconciliationLine
        fields = (
            "model", "token_class", "day", "bill", "telemetry", "bill_usd", "telemetry_usd", "rate", "bill_tokens", "telemetry_tokens",
            "bill_rows", "causes",
        )  # fmt: skip


class StandingLineOutput(LineOutput):
    standing = serializers.ChoiceField(choices=reconciliation_selectors.STANDING_CHOICES)

    class Meta(LineOutput.Meta):
        fields = ("id", "standing", *LineOutput.Meta.fields)  # type: ignore[assignment]  # longer than the base's


class LineQuery(StrictSerializer):
    revision = serializers.IntegerField(required=False, min_value=1, max_value=99_999_999, help_text="Default the latest.")
    standing = serializers.ChoiceField(choices=reconciliation_selectors.STANDING_CHOICES, required=False)
    cause = serializers.ChoiceField(choices=list(bridge.CAUSES.items()), required=False)
    model = serializers.CharField(required=False)
    day = serializers.DateField(required=False)
    cursor = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        return {**super().get_fields(), "class": serializers.ChoiceField(choices=TokenClass.choices, required=False)}  # a keyword


class ChangesQuery(StrictSerializer):
    revision = serializers.IntegerField(required=False, min_value=1, max_value=99_999_999, help_text="Default the latest.")
    against = serializers.IntegerField(required=False, min_value=1, max_value=99_999_999, help_text="Default the one before.")


class ChangedLineOutput(serializers.Serializer[Any]):
    """A key that differs; null on the side on which it does not stand."""

    model = serializers.CharField()
    token_class = serializers.CharField()
    day = serializers.DateField(allow_null=True)
    bill = ExactField(help_text="By how much the bill changed, in `currency`.")
    telemetry = ExactField(source="ours")
    late = ExactField(help_text="Of `telemetry`, what calls cost that came after the earlier revision.")
    before = LineOutput(allow_null=True)
    after = LineOutput(allow_null=True)


class ChangesOutput(serializers.Serializer[Any]):
    before = serializers.IntegerField(source="before.number")
    after = serializers.IntegerField(source="after.number")
    currency = serializers.CharField(help_text="Of what changed: that of both, or USD where they differ.")
    bill = ExactField()
    telemetry = ExactField(source="ours")
    rules = serializers.BooleanField(help_text="The rules of comparison changed between the two.")
    calls = serializers.IntegerField()
    late_calls = serializers.IntegerField(
        allow_null=True, help_text="Calls that came after the earlier revision had read our side; null where that was not kept yet."
    )
    late = ExactField(help_text="Of `telemetry`, what these cost.")
    files = serializers.ListField(child=serializers.CharField(), help_text="Files that came between the two.")
    lines = ChangedLineOutput(many=True, help_text="The largest change first.")


class BillSignInput(StrictSerializer):
    digest = serializers.RegexField(r"^[0-9a-f]{64}$", help_text="Of the revision that was looked at.")
    comment = serializers.CharField(required=False, allow_blank=True, max_length=400, default="")


class ReconciliationDetailOutput(ReconciliationOutput):
    sign_off = BillSignOffOutput()
    revisions = RevisionOutput(many=True)
    lines = LineOutput(many=True, help_text="Of the latest revision.")

    class Meta(ReconciliationOutput.Meta):
        fields = (*ReconciliationOutput.Meta.fields, "sign_off", "revisions", "lines")  # type: ignore[assignment]  # longer than the base's


class RunInput(StrictSerializer):
    provider = serializers.SlugField(max_length=48)
    month = serializers.RegexField(r"^20\d{2}-(0[1-9]|1[0-2])$", help_text="YYYY-MM")


class RunOutput(ReconciliationOutput):
    is_new = serializers.BooleanField(read_only=True, help_text="False when nothing changed since the last revision.")

    class Meta(ReconciliationOutput.Meta):
        fields = (*ReconciliationOutput.Meta.fields, "is_new")  # type: ignore[assignment]  # longer than the base's
