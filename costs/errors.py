"""The ways this app says no.

DomainError
├── PriceValueError          not a price
├── PriceExistsError         an entry of the series begins at that very time
├── PriceSheetError          rows of a sheet that are no prices; says which
├── PriceFeedError           the list prices could not be read
├── PriceProposalStateError  decided before, by its own author, or another price came into force meanwhile
├── ExchangeRateError        not an exchange rate, or rows of a file that are none
├── ExchangeRateStateError   decided before, or by its own author
├── RateUnknownError         a bill in another currency has days without an exchange rate
├── BillFormatError          the file is not a FOCUS bill that can be read
├── BillTooLargeError        more than one upload may hold
├── BillStoppedError         somebody stopped the import while it read
├── BillStateError           the act does not fit what became of the file, or the book changed since the preview
├── BillSourceError          a cost API or a folder of exports cannot be set up so
├── CostApiError             a cost API or a folder of exports did not answer as documented
│   └── SourceChangedError   not its failure: somebody changed the source meanwhile
├── SourceBusyError          its folder is being read
├── NothingToReconcileError  no bill for the period
├── BillWaitingError         a file that would change the month is neither applied nor dismissed
├── RevisionReplacedError    the figures are not those that the person saw, or not the latest
├── RevisionSignedError      signed before, by this person or by all that it takes
├── PeriodOpenError          the month is not over
├── SignatureReasonError     such a revision is only signed with a reason
├── BudgetValueError         a field of a budget does not make sense
├── BudgetNameTakenError     another budget has the name
├── BudgetStateError         the act does not fit what the budget is doing
├── AnomalyValueError        a field of feedback or of the settings does not make sense
├── AnomalyStateError        the act does not fit the anomaly
├── BaselineError            a field of a baseline does not make sense
├── BaselineStateError       signed before, by its own author, or not what was frozen
├── RequiredTagError         a field of a required tag does not make sense
├── RequiredTagStateError    not previewed yet, or its author would enforce it
├── CommitmentError          a field of a commitment does not make sense
├── CommitmentStateError     decided before, one's own, or another one covers the same use
├── RetentionError           not how long calls can be kept
├── ArchiveError             the file of a month is not what was written
├── ReviewError              a field of a decision does not make sense
├── ReviewStateError         the month is signed off, not over, or not what was seen
├── SpendQueryError          spend is not counted by these dimensions together
├── SavedViewError           a view without a name, or one too many
└── SavedViewNameTakenError  another view of the person has the name
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from governance.errors import DomainError

if TYPE_CHECKING:
    from costs.exchange import Missing


class PriceValueError(DomainError):
    code = "invalid_price"
    status = 400


class PriceExistsError(DomainError):
    code = "price_exists"


class PriceSheetError(DomainError):
    code = "invalid_price_sheet"
    status = 400


class PriceFeedError(DomainError):
    code = "price_feed_unreadable"
    status = 503


class PriceProposalStateError(DomainError):
    code = "price_proposal_state"


class ExchangeRateError(DomainError):
    code = "invalid_exchange_rate"
    status = 400


class ExchangeRateStateError(DomainError):
    code = "exchange_rate_state"


class RateUnknownError(DomainError):
    code = "exchange_rate_unknown"

    def __init__(self, message: str, missing: Sequence[Missing], account: str) -> None:
        super().__init__(message)
        self.missing = missing
        self.account = account
        """Of the bill."""


class BillFormatError(DomainError):
    code = "invalid_bill"
    status = 400


class BillTooLargeError(DomainError):
    code = "bill_too_large"
    status = 413


class BillStoppedError(DomainError):
    code = "bill_stopped"


class BillStateError(DomainError):
    code = "bill_state"


class BillSourceError(DomainError):
    code = "invalid_bill_source"
    status = 400


class CostApiError(DomainError):
    code = "cost_api_failed"
    status = 502


class SourceChangedError(CostApiError):
    pass


class SourceBusyError(DomainError):
    code = "bill_source_busy"


class NothingToReconcileError(DomainError):
    code = "no_bill"
    status = 404


class BillWaitingError(DomainError):
    code = "bill_waiting"


class RevisionReplacedError(DomainError):
    code = "revision_replaced"


class RevisionSignedError(DomainError):
    code = "revision_signed"


class PeriodOpenError(DomainError):
    code = "period_open"


class SignatureReasonError(DomainError):
    code = "reason_needed"
    status = 400


class BudgetValueError(DomainError):
    code = "invalid_budget"
    status = 400


class BudgetNameTakenError(DomainError):
    code = "budget_name_taken"


class BudgetStateError(DomainError):
    code = "budget_state"


class AnomalyValueError(DomainError):
    code = "invalid_anomaly"
    status = 400


class AnomalyStateError(DomainError):
    code = "anomaly_state"


class RequiredTagError(DomainError):
    code = "invalid_required_tag"
    status = 400


class RequiredTagStateError(DomainError):
    code = "required_tag_state"


class CommitmentError(DomainError):
    code = "invalid_commitment"
    status = 400


class CommitmentStateError(DomainError):
    code = "commitment_state"


class RetentionError(DomainError):
    code = "invalid_retention"
    status = 400


class ArchiveError(DomainError):
    code = "archive_unreadable"
    status = 503


class ReviewError(DomainError):
    code = "invalid_review"
    status = 400


class ReviewStateError(DomainError):
    code = "review_state"


class SpendQueryError(DomainError):
    code = "spend_not_counted"
    status = 400


class SavedViewError(DomainError):
    code = "invalid_saved_view"
    status = 400


class SavedViewNameTakenError(DomainError):
    code = "saved_view_name_taken"


class BaselineError(DomainError):
    code = "invalid_baseline"
    status = 400


class BaselineStateError(DomainError):
    code = "baseline_state"
