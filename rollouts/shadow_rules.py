"""When a shadow's candidate may be promoted: pure, from counts and distributions.

Preference: of the pairs that the judge decided the same way in both orders, at least 55% for the candidate, with evidence of 20 to 1 against
a coin. The evidence is a likelihood ratio against p = 0.5, averaged over what the candidate's share may be: a test that may be looked at after
every pair (a "55% and p < 0.05" looked at often promotes one coin in nine). Futility is Wald's test of 0.50 against 0.55.
Source: A. Ramdas and others, Game-theoretic statistics and safe anytime-valid inference (2023); A. Wald, Sequential Analysis (1947).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FEWEST_DECIDED, MOST_DECIDED = 300, 3000
WIN_SHARE = 0.55
EVIDENCE = 20.0
MOST_UNDECIDED = 0.5
"""Share of ties and of verdicts that followed the order: beyond it the judge says too little."""
ERROR_POINTS = 1.0
"""Percentage points of calls that the candidate may leave without an answer."""
FEWEST_PAIRS = 100
"""For latency, cost and length."""
_ALTERNATIVES = tuple(0.5 + 0.01 * step for step in range(1, 31))
_ACCEPT_COIN = math.log(0.10 / (1 - 0.05))
"""Wald's lower bound for 5% false promotions and 10% missed ones."""

State = Literal["pass", "fail", "unknown"]


@dataclass(frozen=True)
class Check:
    name: str
    state: State
    sentence: str
    """What is known, and what would pass."""


@dataclass(frozen=True)
class Verdict:
    advice: Literal["promote", "wait", "keep"]
    """keep: stay with the present model."""
    sentence: str
    checks: list[Check]


def evidence_against_coin(wins: int, losses: int) -> float:
    """How much better the candidate's wins are explained by a share above one half than by one half; 1 without any."""
    logs = [wins * math.log(share / 0.5) + losses * math.log((1 - share) / 0.5) for share in _ALTERNATIVES]
    most = max(logs)
    exponent = most + math.log(sum(math.exp(each - most) for each in logs) / len(logs))
    return math.exp(min(exponent, 700.0))


def is_futile(wins: int, losses: int) -> bool:
    """A coin explains the verdicts better than 55%, by Wald's bound."""
    return wins * math.log(WIN_SHARE / 0.5) + losses * math.log((1 - WIN_SHARE) / 0.5) <= _ACCEPT_COIN


def judge(figures: Mapping[str, Any], *, latency: float, cost: float, length: float) -> Verdict:
    """`figures` as `shadow_selectors.figures_of` gives them; the tolerances are percents."""
    preference = _preference(figures)
    checks = [
        preference,
        _slower("Median latency", figures["call_p50_ms"], figures["answer_p50_ms"], latency, figures["answered"]),
        _slower("P95 latency", figures["call_p95_ms"], figures["answer_p95_ms"], latency, figures["answered"]),
        _slower("Cost per call", figures["call_usd"], figures["answer_usd"], cost, figures["priced"]),
        _length(figures["call_tokens"], figures["answer_tokens"], length, figures["counted"]),
        _errors(figures["pairs"], figures["failed"]),
        _personal_data(figures["withheld"], figures["wins"] + figures["losses"] + figures["ties"] + figures["inconsistent"]),
    ]
    failed = [check for check in checks if check.state == "fail"]
    if failed:
        return Verdict("keep", failed[0].sentence, checks)
    waiting = [check for check in checks if check.state == "unknown"]
    if waiting:
        return Verdict("wait", waiting[0].sentence, checks)
    return Verdict("promote", preference.sentence, checks)


def _preference(figures: Mapping[str, Any]) -> Check:
    name = "Preference"
    wins, losses, undecided = figures["wins"], figures["losses"], figures["ties"] + figures["inconsistent"]
    decided = wins + losses
    if not decided + undecided:
        return Check(name, "unknown", "No pair was judged yet.")
    share = (
        f"{wins:,} of {decided:,} decided pairs ({100 * wins / decided:.1f}%) prefer the candidate" if decided else "No pair was decided"
    )
    if decided and is_futile(wins, losses):
        return Check(name, "fail", f"{share}: no better than a coin.")
    if decided >= FEWEST_DECIDED:
        evidence = evidence_against_coin(wins, losses)
        if undecided > MOST_UNDECIDED * (decided + undecided):
            return Check(name, "unknown", f"{share}, but {undecided:,} more were ties or followed the order: the judge says too little.")
        if wins >= WIN_SHARE * decided and evidence >= EVIDENCE:
            return Check(name, "pass", f"{share}, {min(evidence, 1e6):,.0f} to 1 against a coin.")
    if decided >= MOST_DECIDED:
        return Check(name, "fail", f"{share}: not shown to be at least {WIN_SHARE:.0%} within {MOST_DECIDED:,} pairs.")
    return Check(name, "unknown", f"{share}. At least {FEWEST_DECIDED} decided pairs, {WIN_SHARE:.0%} and {EVIDENCE:.0f} to 1 would pass.")


def _slower(name: str, call: float | None, answer: float | None, tolerance: float, seen: int) -> Check:
    if seen < FEWEST_PAIRS or call is None or answer is None:
        return Check(name, "unknown", f"{name} is known of {seen:,} pairs; it takes {FEWEST_PAIRS}.")
    change = 100 * (float(answer) / float(call) - 1) if call else math.inf if answer else 0.0
    state: State = "pass" if change <= tolerance else "fail"
    return Check(name, state, f"{name} {change:+.1f}%; {tolerance:+g}% is allowed.")


def _length(call: float | None, answer: float | None, tolerance: float, seen: int) -> Check:
    name = "Length"
    if seen < FEWEST_PAIRS or not call or answer is None:
        return Check(name, "unknown", f"Length is known of {seen:,} pairs; it takes {FEWEST_PAIRS}.")
    change = 100 * (float(answer) / float(call) - 1)
    return Check(name, "pass" if abs(change) <= tolerance else "fail", f"Answers are {change:+.1f}% as long; ±{tolerance:g}% is allowed.")


def _errors(pairs: int, failed: int) -> Check:
    if pairs < FEWEST_PAIRS:
        return Check("Errors", "unknown", f"{pairs:,} pairs so far; it takes {FEWEST_PAIRS}.")
    percent = 100 * failed / pairs
    return Check(
        "Errors", "pass" if percent <= ERROR_POINTS else "fail", f"{percent:.1f}% of calls were not answered; {ERROR_POINTS:g}% is allowed."
    )


def _personal_data(withheld: int, judged: int) -> Check:
    if withheld:
        return Check("Personal data", "fail", f"{withheld:,} pairs held personal data after redaction.")
    if not judged:
        return Check("Personal data", "unknown", "No pair was looked through yet.")
    return Check("Personal data", "pass", f"None left in {judged:,} pairs after redaction.")
