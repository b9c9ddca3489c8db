from costs.models.anomaly import Anomaly, AnomalyDimension, AnomalyPeriod, AnomalyRun, AnomalySettings
from costs.models.archive import LONGEST_MONTHS, SHORTEST_MONTHS, ArchivedMonth, EventRetention
from costs.models.bill import BillAlias, BillDelivery, BillError, BillFeed, BillFile, BillRow, BillSource, BillSourceFile, DeliveryStyle
from costs.models.budget import Budget, BudgetIncident, BudgetNotice, BudgetRaise
from costs.models.commitment import Commitment, CommitmentDay
from costs.models.event import Event
from costs.models.exchange import ExchangeRate, RateSheet
from costs.models.inbox import Inbox, RejectedInbox
from costs.models.price import SERIES, PriceEntry, PriceProposal, PriceSheet, ServiceTier, SupersededPrice, TokenClass
from costs.models.reconciliation import Reconciliation, ReconciliationLine, Revision, RevisionSignature
from costs.models.review import ReviewItem, ReviewSignature
from costs.models.rollup import AttributeDay, CallHour, LatencyHour, PromptDay, TokenDay, UsageDay, UsageHour, VerdictHour
from costs.models.saved_view import SavedView
from costs.models.savings import Baseline
from costs.models.tag import RequiredTag, RequiredTagVersion, TagDay
from costs.models.valuation import Valuation

__all__ = [
    "LONGEST_MONTHS",
    "SERIES",
    "SHORTEST_MONTHS",
    "Anomaly",
    "AnomalyDimension",
    "AnomalyPeriod",
    "AnomalyRun",
    "AnomalySettings",
    "ArchivedMonth",
    "AttributeDay",
    "Baseline",
    "BillAlias",
    "BillDelivery",
    "BillError",
    "BillFeed",
    "BillFile",
    "BillRow",
    "BillSource",
    "BillSourceFile",
    "Budget",
    "BudgetIncident",
    "BudgetNotice",
    "BudgetRaise",
    "CallHour",
    "Commitment",
    "CommitmentDay",
    "DeliveryStyle",
    "Event",
    "EventRetention",
    "ExchangeRate",
    "Inbox",
    "LatencyHour",
    "PriceEntry",
    "PriceProposal",
    "PriceSheet",
    "PromptDay",
    "RateSheet",
    "Reconciliation",
    "ReconciliationLine",
    "RejectedInbox",
    "RequiredTag",
    "RequiredTagVersion",
    "ReviewItem",
    "ReviewSignature",
    "Revision",
    "RevisionSignature",
    "SavedView",
    "ServiceTier",
    "SupersededPrice",
    "TagDay",
    "TokenClass",
    "TokenDay",
    "UsageDay",
    "UsageHour",
    "Valuation",
    "VerdictHour",
]
