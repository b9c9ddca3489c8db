"""The pages of rollouts and docs/metrics.md name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from governance import metrics
from rollouts import errors, plans, signing

ROOT = Path(__file__).resolve().parent.parent.parent
ROLLOUTS = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("rollouts", "flags", "traffic", "evaluations"))
COHORTS = (ROOT / "docs" / "cohorts.md").read_text()
NOUNS = (
    "cohort|survey|escalation|rollout|rollback|phase|gate|signature|criterion|waiver|flag|experiment|shadow|shift|incident|rollback_rule|rollback_watcher"
    "|evaluation_run|evaluation_threshold|evaluation_waiver|figure"
)
EVENT = rf"(?:{NOUNS})\.[a-z_]+"


def test_every_metric_is_documented_as_it_is() -> None:
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| (\S+) \| (\w+) \| (\d+) \|", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)

    assert rows == [(metric.key, metric.unit, metric.better, str(metric.minimum_sample)) for metric in metrics.all_metrics()]


def test_every_error_code_is_documented_with_its_status() -> None:
    codes = {(kind.code, str(kind.status)) for kind in errors.RolloutError.__subclasses__()}

    assert set(re.findall(r"^\| `([a-z_]+)` \| (\d+) \|", ROLLOUTS, re.MULTILINE)) == codes


def test_every_event_is_documented_and_no_other() -> None:
    code = "".join(path.read_text() for path in (ROOT / "rollouts" / "services").glob("*.py"))
    written = set(re.findall(rf'"({EVENT})"', code))
    written |= set(re.findall(rf'logger\.exception\("({EVENT})"', (ROOT / "rollouts" / "tasks.py").read_text()))

    assert set(re.findall(f"`({EVENT})`", ROLLOUTS + COHORTS)) == written


def test_figures_about_the_plans_are_right() -> None:
    for plan in plans.all_plans():
        criteria = plans.criteria_of(plan)
        measured = sum(1 for criterion in criteria if criterion.rule is not None)
        assert f"({len(plan.phases)}" in ROLLOUTS
        assert re.search(rf"{len(plan.phases)}(?: phases)?, {len(criteria)}(?: criteria)?, {measured}\b", ROLLOUTS), plan.key


def test_table_of_who_signs_is_the_table_of_the_code() -> None:
    for role in signing.SigningRole:
        holders = re.search(rf"^\| {role.label} \| (.+) \|$", ROLLOUTS, re.MULTILINE)
        assert holders is not None
        assert set(holders.group(1).split(", ")) == {holder.label.lower() for holder in signing.SIGNING_ROLES[role]}
