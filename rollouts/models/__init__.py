from rollouts.models.gate import Attestation, Criterion, Evaluation, Gate, SignOff, Waiver
from rollouts.models.rollout import Phase, ReleaseLogEntry, Rollback, Rollout

__all__ = ["Attestation", "Criterion", "Evaluation", "Gate", "Phase", "ReleaseLogEntry", "Rollback", "Rollout", "SignOff", "Waiver"]
