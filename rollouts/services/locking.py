"""One lock for everything that happens to a rollout, and one for a flag, which is taken after its rollout's.

Every service that changes a rollout, its phases, gates or signatures first locks the rollout's row: two people and the
scheduler who act at once take turns, and the history has one order.
"""

from __future__ import annotations

from rollouts.errors import FlagArchivedError, GateNotOpenError, NotUnderWayError, RollbackUnderWayError
from rollouts.models import Flag, Gate, Rollout


def lock_rollout(rollout_id: int) -> Rollout:
    return Rollout.objects.select_for_update().get(pk=rollout_id)


def lock_gate(gate: Gate) -> Gate:
    """The gate as it is once everybody before has finished; its `rollout` is the locked one."""
    rollout = lock_rollout(gate.rollout_id)
    fresh = Gate.objects.select_related("phase", "latest").get(pk=gate.pk)
    fresh.rollout = rollout
    return fresh


def lock_flag(flag: Flag) -> Flag:
    """The flag as it is once everybody before has finished. Raises FlagArchivedError."""
    fresh = Flag.objects.select_for_update(of=("self",)).select_related("current").get(pk=flag.pk)
    if fresh.is_archived:
        raise FlagArchivedError(f"{fresh.key} is archived.")
    return fresh


def check_under_way(rollout: Rollout) -> None:
    if not rollout.is_under_way:
        raise NotUnderWayError(f"{rollout.name} is {rollout.get_status_display().lower()}.")


def check_decidable(gate: Gate) -> None:
    """The gate of the current phase, in a rollout that is under way."""
    check_under_way(gate.rollout)
    if not gate.is_decidable:
        raise GateNotOpenError(f"{gate.title} is {gate.get_status_display().lower()}; only the gate of the current phase is decided.")


def check_may_advance(rollout: Rollout) -> None:
    """Nobody says go while the rollout is paused or on its way back."""
    if rollout.is_paused:
        raise NotUnderWayError(f"{rollout.name} is paused: {rollout.pause_reason}. Resume it first.")
    if rollout.rollbacks.filter(finished_at=None).exists():
        raise RollbackUnderWayError("The last rollback is not finished. Confirm that it is before saying go.")
