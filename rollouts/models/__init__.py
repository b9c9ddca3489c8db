from rollouts.models.cohort import Cohort, CohortMember
from rollouts.models.escalation import Escalation, EscalationNote, FalseAlertCount
from rollouts.models.evaluation_run import EvaluationRun, EvaluationScore, EvaluationThreshold, EvaluationThresholdChange, EvaluationWaiver
from rollouts.models.experiment import Experiment, ExperimentReading
from rollouts.models.flag import Flag, FlagChange, FlagVersion
from rollouts.models.gate import Attestation, Criterion, Evaluation, Gate, SignOff, Waiver
from rollouts.models.incident import Incident
from rollouts.models.reported_figure import ReportedFigure
from rollouts.models.rollback_rule import RollbackMinute, RollbackRule, RollbackWatch
from rollouts.models.rollout import Phase, ReleaseLogEntry, Rollback, Rollout
from rollouts.models.shadow import Shadow, ShadowPair
from rollouts.models.shift import Shift, ShiftWindow
from rollouts.models.survey import SurveyAnswer, SurveyKind, SurveyOptOut, SurveyPrompt, SurveySubject
from rollouts.models.tenant_override import TenantOverride

__all__ = [
    "Attestation",
    "Cohort",
    "CohortMember",
    "Criterion",
    "Escalation",
    "EscalationNote",
    "Evaluation",
    "EvaluationRun",
    "EvaluationScore",
    "EvaluationThreshold",
    "EvaluationThresholdChange",
    "EvaluationWaiver",
    "Experiment",
    "ExperimentReading",
    "FalseAlertCount",
    "Flag",
    "FlagChange",
    "FlagVersion",
    "Gate",
    "Incident",
    "Phase",
    "ReleaseLogEntry",
    "ReportedFigure",
    "Rollback",
    "RollbackMinute",
    "RollbackRule",
    "RollbackWatch",
    "Rollout",
    "Shadow",
    "ShadowPair",
    "Shift",
    "ShiftWindow",
    "SignOff",
    "SurveyAnswer",
    "SurveyKind",
    "SurveyOptOut",
    "SurveyPrompt",
    "SurveySubject",
    "TenantOverride",
    "Waiver",
]
