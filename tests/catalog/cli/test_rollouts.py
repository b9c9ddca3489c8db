"""Flags and experiments in manifests: another exposure is still a change, and takes the people that it takes anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from catalog.cli import manifests
from catalog.cli.kinds.flags import FLAG
from governance.models import AuditEntry, FeatureClass, Tenant, User
from rollouts.models import Experiment, Flag, FlagChange, RollbackRule
from rollouts.rollback_language import MAX_LENGTH
from rollouts.services import experiments
from tests.catalog.cli.conftest import Run
from tests.factories.catalog import make_model

MANIFEST = """\
apiVersion: gatehouse/v1
kind: Experiment
metadata: {name: next-model}
spec:
  hypothesis: It answers sooner.
  flag: ai.chat.next-model
  metric: latency
  effect: 5
  guardrails: [{metric: error_rate, margin: 2.5}]
  minimum_units: 50
  max_days: 14
  started: true
---
apiVersion: gatehouse/v1
kind: Flag
metadata: {name: ai.chat.next-model}
spec:
  title: Next model
  kind: object
  variants:
    old: {model: chat-old}
    new: {model: chat-new, parameters: {temperature: 0.2}}
    newest: {model: chat-new, prompt: ""}
  control: old
  feature_class: assistants
  sticky: user
  model: chat
  exposure:
    on: true
    percentage: 12.5
    regions: [eu]
    cohorts: [{name: pilot, attribute: project, values: [search]}]
    overrides: [{attribute: user, values: [ana@example.com], variant: new}]
    weights: {new: 66.667, newest: 33.333}
  reason: First eighth
  rollback_rules:
    - {text: error_rate_10m > 5%}
"""


@pytest.fixture
def file(acme: Tenant, alice: User, tmp_path: Path) -> Path:
    for slug in ("chat-old", "chat-new"):
        make_model(owner=alice, slug=slug)
    path = tmp_path / "flags.yaml"
    path.write_text(MANIFEST)
    return path


def test_exposure_by_manifest_waits_for_a_second_person(
    file: Path, rita: User, adam: User, run_as: Callable[[User], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    apply = ("apply", "-f", str(file))
    rita_runs, adam_runs = run_as(rita), run_as(adam)

    code, said = rita_runs(*apply)
    assert code == 3
    assert "waiting for a second person: change #1: Switches the flag on" in said
    assert "Experiment next-model is a draft, waiting for change #1 of its flag" in said
    flag = Flag.objects.get()
    change = flag.changes.get()
    assert (flag.current.number if flag.current else None, change.status, change.reason) == (1, "proposed", "First eighth")
    assert RollbackRule.objects.get().state == "armed"
    salts, first = (flag.rollout_salt, flag.variant_salt), change.exposed.ranges

    code, said = rita_runs(*apply)  # once more, by whoever proposed it
    assert (code, FlagChange.objects.count()) == (3, 1)
    assert "change #1: Nobody approves their own change" in said
    assert "as wanted" in adam_runs("diff", "-f", str(file))[1]
    assert adam_runs(*apply)[0] == 0
    flag = Flag.objects.get()
    assert (flag.exposure.on, flag.exposure.percentage, flag.exposure.regions) == (True, 12_500, ("eu",))
    assert AuditEntry.objects.filter(event="flag.change_applied", actor=adam).exists()
    assert Experiment.objects.get().status == "running"
    assert adam_runs("diff", "-f", str(file)) == (0, "0 to make, 0 to change, 0 to remove, 2 as wanted.\n")

    text = rita_runs("export", "Flag", "Experiment")[1]
    file.write_text(text)
    assert rita_runs("diff", "-f", str(file)) == (0, "0 to make, 0 to change, 0 to remove, 2 as wanted.\n")
    assert [one["metadata"]["name"] for one in yaml.safe_load_all(text)] == ["ai.chat.next-model", "next-model"]

    grown_text = MANIFEST.replace("66.667", "80").replace("33.333", "20").replace("regions: [eu]", "regions: [eu, us]")
    file.write_text(grown_text)
    assert rita_runs(*apply)[0] == 3
    grown = flag.changes.get(number=2).exposed
    assert Flag.objects.values_list("rollout_salt", "variant_salt").get() == salts
    assert all(any(new.start <= old.start and old.end <= new.end for new in grown.ranges) for old in first if old.variant == "new")
    file.write_text(MANIFEST.replace("12.5", "50"))
    assert adam_runs(*apply)[0] == 1  # nobody agrees by accident to what stands in no manifest
    assert "change #2 waits with another exposure" in capsys.readouterr().err
    file.write_text(grown_text.replace("  reason:", "  phase: pilot\n  reason:"))
    assert adam_runs(*apply)[0] == 1  # it would be in force before the pilot
    assert "change #2 waits for no phase" in capsys.readouterr().err
    file.write_text(grown_text)
    flag.changes.filter(number=2).update(prompt="greeting@3", label="production")  # as an experiment's promotion does
    assert adam_runs(*apply)[0] == 1
    assert "change #2 moves the label production to greeting@3, too" in capsys.readouterr().err
    assert flag.changes.get(number=2).status == "proposed"


def test_lowering_is_done_at_once_and_what_a_flag_is_stays(
    file: Path, rita: User, adam: User, run_as: Callable[[User], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run, apply = run_as(rita), ("apply", "-f", str(file))
    run(*apply)
    run_as(adam)(*apply)

    file.write_text(MANIFEST.replace("12.5", "5").replace("error_rate_10m > 5%", "error_rate_10m > 9%, is_dry_run: true"))
    code, said = run(*apply, "--prune")
    assert code == 0
    assert "~ exposure.percentage: 12.5 → 5" in said
    assert "- rollback_rules[error_rate_10m > 5%/10/30]" in said
    assert Flag.objects.get().exposure.percentage == 5_000
    assert [(one.text, one.is_dry_run) for one in RollbackRule.objects.filter(removed_at=None)] == [("error_rate_10m > 9%", True)]

    file.write_text(MANIFEST.replace("temperature: 0.2", "temperature: 0.3"))
    assert run(*apply)[0] == 1
    assert "variants can't be changed here once it exists" in capsys.readouterr().err
    file.write_text(MANIFEST.split("---\n", maxsplit=1)[0].replace("minimum_units: 50", "minimum_units: 60"))
    assert run(*apply)[0] == 1
    assert "minimum_units can't be changed here" in capsys.readouterr().err

    experiments.stop_experiment(experiment=Experiment.objects.get(), reason="Enough", actor=rita)
    file.write_text(MANIFEST.replace("on: true", "on: false", 1).replace("error_rate_10m > 5%", "error_rate_10m > 9%, is_dry_run: true"))
    assert run(*apply)[0] == 0  # one that people stopped is not begun again
    assert not Flag.objects.get().exposure.on
    other = file.with_name("other.yaml")
    other.write_text(
        MANIFEST.split("---\n")[1].replace("next-model", "other").replace("  model: chat\n", "  model: mail\n").split("  exposure:")[0]
    )
    code, said = run("apply", "-f", str(other), "--prune")
    assert (code, "- Flag ai.chat.next-model\n    archive" in said) == (0, True)
    assert Flag.objects.get(key="ai.chat.next-model").is_archived


def test_schema_knows_the_words_of_flags_and_experiments() -> None:
    definitions = manifests.schema()["$defs"]
    flag, experiment = (definitions[kind]["properties"]["spec"]["properties"] for kind in ("Flag", "Experiment"))

    assert set(flag["kind"]["enum"]) == set(Flag.Kind.values)
    assert set(flag["policy"]["enum"]) == set(Flag.Policy.values)
    assert set(flag["feature_class"]["enum"]) == set(FeatureClass.values)
    assert flag["rollback_rules"]["items"]["properties"]["text"]["maxLength"] == MAX_LENGTH
    assert set(experiment["metric"]["enum"]) == set(Experiment.Metric.values)
    assert set(experiment["method"]["enum"]) == set(Experiment.Method.values)
    document = manifests.read_text("a", MANIFEST)[0][1]
    assert FLAG.normal(document).spec["variants"]["newest"] == {"model": "chat-new"}
