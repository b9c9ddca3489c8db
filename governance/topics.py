"""What notices are about, in the words that alert channels are narrowed by; docs/governance.md says what each tells.

The list is of the whole product, so that a channel for a topic that nothing has is refused and not silent for ever. A test holds it to the code.
"""

from __future__ import annotations

from difflib import get_close_matches

TOPICS = (
    "anomaly.recalibration",
    "bill.rate_unknown",
    "bill.restated",
    "bill.signature_needed",
    "bill.signed_off",
    "bill.source_failed",
    "bill.variance",
    "bill.waiting",
    "budget.false_throttle",
    "budget.threshold",
    "calls.set_aside",
    "circuit.closed",
    "circuit.open",
    "cohort.activated",
    "cohort.invited",
    "cohort.left",
    "cohort.suspended",
    "cohort.wind_down",
    "commitment.ending",
    "commitment.proposed",
    "consent.withdrawn",
    "cost.anomaly",
    "cost.review",
    "cost.showback",
    "credential.due",
    "drill.overdue",
    "evaluation_threshold.change_asked",
    "exchange_rates.proposed",
    "experiment.decided",
    "experiment.guardrail_breached",
    "experiment.stopped",
    "flag.change_proposed",
    "flag.lowered",
    "flag.review_overdue",
    "flag.tenant_override_applied",
    "flag.tenant_override_ended",
    "gate.blocked",
    "gate.ready",
    "incident.opened",
    "incident.resolved",
    "key.asked",
    "key.expiring",
    "model.approval_asked",
    "payload.rule_asked",
    "payload.rule_widened",
    "policy.enforced",
    "policy.taken_back",
    "price.proposed",
    "required_tag.enforced",
    "required_tag.taken_back",
    "rollback_rule.frozen",
    "rollback_rule.would_fire",
    "rollback_watcher.away",
    "shift.finished",
    "shift.paused",
    "switch.not_effective",
    "switch.off",
)


def is_within(topic: str, wanted: str) -> bool:
    """Whether a channel for `wanted` takes the topic: by whole words, `budget` takes `budget.threshold`."""
    return topic == wanted or topic.startswith(f"{wanted}.")


def is_known(wanted: str) -> bool:
    return any(is_within(topic, wanted) for topic in TOPICS)


def nearest(wanted: str) -> list[str]:
    """Up to three that may have been meant, the likeliest first; else the first words that there are."""
    subjects = sorted({topic.partition(".")[0] for topic in TOPICS})
    return get_close_matches(wanted, [*TOPICS, *subjects], 3) or subjects
