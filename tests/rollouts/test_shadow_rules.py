"""When a candidate may be promoted."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts import shadow_rules
from rollouts.services.shadow_judging import verdict_of

GOOD: dict[str, Any] = {
    "pairs": 600, "failed": 0, "answered": 600, "call_p50_ms": 800.0, "call_p95_ms": 2000.0, "answer_p50_ms": 700.0,
    "answer_p95_ms": 2200.0, "priced": 600, "call_usd": 0.01, "answer_usd": 0.008, "counted": 600, "call_tokens": 200.0, "answer_tokens": 220.0, "wins": 240, "losses": 160,
    "ties": 100, "inconsistent": 50, "not_kept": 0, "withheld": 0, "waiting": 0,
}  # fmt: skip


def _judge(**figures: Any) -> shadow_rules.Verdict:
    return shadow_rules.judge({**GOOD, **figures}, latency=20, cost=0, length=30)


def test_evidence_grows_with_wins_and_is_even_for_a_coin() -> None:
    assert shadow_rules.evidence_against_coin(0, 0) == pytest.approx(1)
    assert shadow_rules.evidence_against_coin(150, 150) < 1
    assert shadow_rules.evidence_against_coin(180, 120) > 20
    assert shadow_rules.evidence_against_coin(165, 135) < 20  # 55% of 300 alone is not enough


@pytest.mark.parametrize(
    ("figures", "advice"),
    [
        ({}, "promote"),
        ({"wins": 165, "losses": 135}, "wait"),
        ({"wins": 90, "losses": 30}, "wait"),  # too few, however clear
        ({"wins": 180, "losses": 190}, "keep"),
        ({"wins": 1590, "losses": 1410}, "keep"),  # 53% after the longest look
        ({"ties": 300, "inconsistent": 150}, "wait"),
        ({"wins": 0, "losses": 0, "ties": 0, "inconsistent": 0}, "wait"),
        ({"answer_p95_ms": 2500.0}, "keep"),
        ({"answer_usd": 0.0101}, "keep"),
        ({"answer_usd": None, "priced": 0}, "wait"),
        ({"answer_tokens": 270.0}, "keep"),
        ({"failed": 12}, "keep"),
        ({"pairs": 99}, "wait"),
        ({"pairs": 100, "failed": 1, "answered": 99}, "wait"),  # a call without an answer says nothing of latency
        ({"withheld": 1}, "keep"),
    ],
)
def test_all_must_pass_and_what_is_not_known_does_not(figures: dict[str, Any], advice: str) -> None:
    verdict = _judge(**figures)

    assert verdict.advice == advice
    assert len(verdict.checks) == 7


def test_verdict_that_follows_the_order_is_inconsistent() -> None:
    letters = {pair: verdict_of(*pair) for pair in ("BA", "AB", "TT", "AA", "BB", "TA", "BT")}

    assert letters == {
        "BA": "preferred",
        "AB": "baseline",
        "TT": "tie",
        **dict.fromkeys(("AA", "BB", "TA", "BT"), "inconsistent"),
    }
