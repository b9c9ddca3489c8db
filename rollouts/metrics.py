"""What rollouts offer to gates and rollback rules as figures."""

from __future__ import annotations

from governance.metrics import register
from rollouts import evaluation_selectors
from rollouts.evaluation_rules import MEASURES


def register_all() -> None:
    """Called once, from `rollouts.apps`."""
    for measure in MEASURES.values():
        register(evaluation_selectors.metric_of(measure))
