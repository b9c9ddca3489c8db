"""The ways rollouts say no.

RolloutError
├── PlanNotFoundError        no such plan ships
├── SlugTakenError           the address is in use
├── NotUnderWayError         the rollout is planned, paused, finished or stopped
├── GateNotOpenError         the gate is not the one to be decided now
├── RoleNotHeldError         the person doesn't hold the signing role
├── AlreadySignedError       the role or the person has signed this gate
├── NotReadyError            go is only said to a gate that is ready
├── VerdictChangedError      what the person saw is not what holds now
├── RejectedError            somebody said no-go; the gate must be reopened first
├── EvidenceMissingError     an attestation or a decision without what it must show
├── MeasuredError            a measured criterion is not attested
├── NotWaivableError         security criteria and passing ones are not waived
├── SelfApprovalError        nobody approves their own waiver or change
├── WaiverDecidedError       the waiver was decided before
├── RollbackUnderWayError    the last rollback is not finished
├── FlagKeyTakenError        the flag's key, or the model that it binds, is in use
├── ExposureInvalidError     variants, rules or shares that can't be used
├── FlagArchivedError        an archived flag is not changed
├── StillExposedError        only a flag that is off is archived
├── NothingChangesError      the change is what holds already
├── ChangePendingError       another change waits for approval
├── ChangeDecidedError       the change was decided, or the lowering reviewed, before
├── ChangeStaleError         the flag is no longer what the proposer saw
├── RaisesExposureError      one person alone only lowers exposure
├── PhaseNotReachedError     the stage of the change has not begun
├── ExperimentInvalidError   terms of an experiment that can't be used
├── NoSplitError             the flag assigns nobody to several variants
├── ExperimentRunningError   another experiment of the flag runs
├── ExperimentStateError     a draft, stopped or decided experiment does not do this
├── UnsoundError             what was measured can't carry the decision
├── RuleInvalidError         a rollback rule that can't be read or can't watch
├── RuleStateError           the rule is not in a state for this, or cools down
├── NoBaselineError          the control has too few calls to be a baseline
├── IncidentStateError       the incident was acknowledged or resolved before
├── IncidentOpenError        an incident of the flag is not resolved
├── WatcherAwayError         rollback rules guard the flag, and nobody looks
├── ShadowInvalidError       terms of a shadow that can't be used
├── ShadowRunningError       another shadow of the model is under way
├── ShadowStateError         a draft, paused or done shadow does not do this
├── ShiftInvalidError        terms of a traffic shift that can't be used
├── ShiftRunningError        another shift of the flag is under way
├── ShiftStateError          a paused, finished or ended shift does not do this
├── CohortInvalidError       criteria or places of a cohort that can't be used
├── CohortStateError         a cohort or its member is not where this can be done
├── CohortFullError          every place is taken
├── StageTooEarlyError       the stage before has not held long enough
├── EvaluationInvalidError   a result of a harness, or a threshold, that can't be used
├── EvaluationConflictError  another run was told under this key
├── EvaluationMissingError   the model has not scored what its class asks for
├── SurveyNotDueError        nothing, or another question, is asked of the person now
├── SurveyScoreError         a number that is not on the scale
├── FigureInvalidError       a reported figure that can't be
├── FigureConflictError      another figure was reported under this reference
├── ActivationsPausedError   a war room is open: nobody new is exposed
└── EscalationClosedError    the record was closed before
"""

from __future__ import annotations

from governance.errors import DomainError


class RolloutError(DomainError):
    pass


class PlanNotFoundError(RolloutError):
    code = "plan_not_found"
    status = 404


class SlugTakenError(RolloutError):
    code = "slug_taken"


class NotUnderWayError(RolloutError):
    code = "not_under_way"


class GateNotOpenError(RolloutError):
    code = "gate_not_open"


class RoleNotHeldError(RolloutError):
    code = "role_not_held"
    status = 403


class AlreadySignedError(RolloutError):
    code = "already_signed"


class NotReadyError(RolloutError):
    code = "gate_not_ready"


class VerdictChangedError(RolloutError):
    code = "verdict_changed"


class RejectedError(RolloutError):
    code = "rejected"


class EvidenceMissingError(RolloutError):
    code = "evidence_missing"
    status = 400


class MeasuredError(RolloutError):
    code = "measured"


class NotWaivableError(RolloutError):
    code = "not_waivable"


class SelfApprovalError(RolloutError):
    code = "self_approval"
    status = 403


class WaiverDecidedError(RolloutError):
    code = "waiver_decided"


class RollbackUnderWayError(RolloutError):
    code = "rollback_under_way"


class FlagKeyTakenError(RolloutError):
    code = "flag_key_taken"


class ExposureInvalidError(RolloutError):
    code = "exposure_invalid"
    status = 400


class FlagArchivedError(RolloutError):
    code = "flag_archived"


class StillExposedError(RolloutError):
    code = "still_exposed"


class NothingChangesError(RolloutError):
    code = "nothing_changes"


class ChangePendingError(RolloutError):
    code = "change_pending"


class ChangeDecidedError(RolloutError):
    code = "change_decided"


class ChangeStaleError(RolloutError):
    code = "change_stale"


class RaisesExposureError(RolloutError):
    code = "raises_exposure"


class PhaseNotReachedError(RolloutError):
    code = "phase_not_reached"


class ExperimentInvalidError(RolloutError):
    code = "experiment_invalid"
    status = 400


class NoSplitError(RolloutError):
    code = "no_split"


class ExperimentRunningError(RolloutError):
    code = "experiment_running"


class ExperimentStateError(RolloutError):
    code = "experiment_state"


class UnsoundError(RolloutError):
    code = "unsound"


class RuleInvalidError(RolloutError):
    code = "rule_invalid"
    status = 400


class RuleStateError(RolloutError):
    code = "rule_state"


class NoBaselineError(RolloutError):
    code = "no_baseline"


class IncidentStateError(RolloutError):
    code = "incident_state"


class IncidentOpenError(RolloutError):
    code = "incident_open"


class WatcherAwayError(RolloutError):
    code = "watcher_away"


class ShiftInvalidError(RolloutError):
    code = "shift_invalid"
    status = 400


class ShiftRunningError(RolloutError):
    code = "shift_running"


class ShiftStateError(RolloutError):
    code = "shift_state"


class CohortInvalidError(RolloutError):
    code = "cohort_invalid"
    status = 400


class CohortStateError(RolloutError):
    code = "cohort_state"


class CohortFullError(RolloutError):
    code = "cohort_full"


class StageTooEarlyError(RolloutError):
    code = "stage_too_early"


class EvaluationInvalidError(RolloutError):
    code = "evaluation_invalid"
    status = 400


class EvaluationConflictError(RolloutError):
    code = "evaluation_conflict"


class EvaluationMissingError(RolloutError):
    code = "evaluation_missing"


class ShadowInvalidError(RolloutError):
    code = "shadow_invalid"
    status = 400


class ShadowRunningError(RolloutError):
    code = "shadow_running"


class ShadowStateError(RolloutError):
    code = "shadow_state"


class SurveyNotDueError(RolloutError):
    code = "survey_not_due"


class SurveyScoreError(RolloutError):
    code = "survey_score"
    status = 400


class FigureInvalidError(RolloutError):
    code = "figure_invalid"
    status = 400


class FigureConflictError(RolloutError):
    code = "figure_conflict"


class ActivationsPausedError(RolloutError):
    code = "activations_paused"


class EscalationClosedError(RolloutError):
    code = "escalation_closed"
