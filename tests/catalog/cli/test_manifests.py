"""Manifests are read strictly, and complaints say where."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path

import jsonschema_rs
import pytest

from catalog.cli import client, kinds, manifests, plans
from catalog.cli.errors import UsageError
from catalog.cli.kinds import models, values
from catalog.models import Deployment, Model, Provider, UsageLimit
from governance.models import Guardrail, Policy

GOOD = """\
apiVersion: gatehouse/v1
kind: Project
metadata: {name: checkout}
spec:
  cost_centre: CC-7
  monthly_budget_usd: 0.10
---
apiVersion: gatehouse/v1
kind: Model
metadata: {name: small}
spec:
  price: {input_per_million: 0.1500000001, output_per_million: "0.60"}
  deployments:
    - {provider: openai, upstream_model: gpt-small}
    - {provider: azure, upstream_model: gpt-small, weight: 0}
"""


def test_documents_are_read_with_exact_numbers_and_their_lines() -> None:
    (project, model), problems = manifests.read_text("a.yaml", GOOD)

    assert problems == []
    assert (str(project), project.where, str(model), model.where) == ("Project checkout", "a.yaml:1", "Model small", "a.yaml:8")
    assert project.spec["monthly_budget_usd"] == Decimal("0.10")
    assert values.wire(model.spec["price"]) == {"input_per_million": "0.1500000001", "output_per_million": "0.60"}


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("CC-7", "[1]", "a.yaml:5: spec.cost_centre:"),
        ("cost_centre: CC-7", "cost_center: CC-7", "a.yaml:4: spec:"),
        ("0.10", "-1", "a.yaml:6: spec.monthly_budget_usd:"),
        ("0.10", ".inf", "a.yaml:6: .inf is no number"),
        ("weight: 0", "weight: 5000", "a.yaml:15: spec.deployments.1.weight:"),
        ("weight: 0", "provider: x", "a.yaml:15: provider stands here twice"),
        ("kind: Model", "kind: Agent", "a.yaml:8: there is no kind Agent; kinds are Provider"),
        ("gatehouse/v1", "gatehouse/v2", "a.yaml:1: apiVersion:"),
        ("{name: small}", "{name: small", "a.yaml:11:"),
        ("kind: Project", "kid: Project", "a.yaml:1: kind is missing"),
        ("CC-7", "!!python/object:os.system x", "a.yaml:5: could not determine a constructor"),
    ],
)
def test_a_complaint_names_file_line_and_field(old: str, new: str, complaint: str) -> None:
    documents, problems = manifests.read_text("a.yaml", GOOD.replace(old, new, 1))

    assert [one for one in problems if one.startswith(complaint)], problems
    assert len(documents) < 2


def test_folders_are_read_whole_and_nothing_stands_twice(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "sub" / "b.json").write_text(
        json.dumps({"apiVersion": "gatehouse/v1", "kind": "Project", "metadata": {"name": "b"}, "spec": {}})
    )
    (tmp_path / "notes.txt").write_text("not a manifest")

    assert [one.name for one in manifests.read_paths([str(tmp_path)])] == ["checkout", "small", "b"]
    with pytest.raises(UsageError, match=r"<stdin>:1: Project checkout stands at .*a\.yaml:1 already"):
        manifests.read_paths([str(tmp_path / "a.yaml"), "-"], io.StringIO(GOOD))
    with pytest.raises(UsageError, match="can't be read"):
        manifests.read_paths([str(tmp_path / "missing.yaml")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="No manifest"):
        manifests.read_paths([str(tmp_path / "empty")])


def test_secrets_come_from_the_environment_or_a_file_only(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file\n")
    inline = (
        GOOD.split("---", maxsplit=1)[0]
        .replace("kind: Project", "kind: Provider")
        .replace("cost_centre: CC-7", "secret: abc")
        .replace("monthly_budget_usd: 0.10", "")
    )

    assert manifests.secret_of({"file": "key"}, tmp_path) == "from-file"
    assert manifests.secret_of({"env": "KEY"}, tmp_path, {"KEY": "from-env"}) == "from-env"
    for reference in ({"env": "KEY"}, {"file": "missing"}):
        with pytest.raises(UsageError):
            manifests.secret_of(reference, tmp_path, {"KEY": ""})
    assert manifests.read_text("a.yaml", inline)[0] == []


def test_the_plan_says_what_differs_and_leaves_out_what_is_the_same() -> None:
    _, model = manifests.read_text("a.yaml", GOOD)[0]
    present = {
        "price": {"input_per_million": Decimal("0.1500000001"), "output_per_million": Decimal("0.6")},
        "deployments": [
            {"provider": "azure", "upstream_model": "gpt-small", "weight": 1},
            {"provider": "openai", "upstream_model": "gpt-small", "weight": 1},
        ],
    }

    assert plans.differences(model.spec, present) == ["~ deployments[azure/gpt-small].weight: 1 → 0"]
    assert plans.differences({"description": "", "capabilities": ["chat"]}, {"capabilities": ["chat", "json"]}) == [
        "~ capabilities: chat, json → chat"
    ]


def test_what_is_written_is_read_back() -> None:
    spec = {"when": "true", "require": "a\n  && b\n", "reason": "no: really", "mode": "off"}

    text = manifests.dump("Policy", "security.residency", spec)

    assert manifests.read_text("a", text)[0][0].spec == spec
    assert manifests.read_text("a", manifests.dump("Project", "no", {"monthly_budget_usd": Decimal("1000")}))[0][0].name == "no"


def test_schema_is_a_schema_and_knows_the_words_of_the_models() -> None:
    schema = manifests.schema()
    jsonschema_rs.meta.validate(schema)

    def words(kind: str, field: str) -> set[str]:
        return set(schema["$defs"][kind]["properties"]["spec"]["properties"][field]["enum"])

    assert {one["$ref"].rsplit("/", 1)[1] for one in schema["oneOf"]} == set(kinds.KINDS)
    assert words("Provider", "kind") == set(Provider.Kind.values)
    assert words("Provider", "dialect") == set(Provider.Dialect.values)
    assert words("Provider", "credential") == set(Provider.Credential.values)
    assert words("Model", "status") == set(Model.Status.values)
    assert words("Model", "data_sensitivity") == set(Model.Sensitivity.values)
    assert words("Limit", "scope") == set(UsageLimit.Scope.values)
    assert words("Limit", "resource") == set(UsageLimit.Resource.values)
    assert words("Limit", "window") == {"", *UsageLimit.Window.values}
    assert words("Guardrail", "kind") == set(Guardrail.Kind.values)
    assert words("Policy", "mode") == set(Policy.Mode.values)
    assert set(models._SHARE) <= {field.name for field in Deployment._meta.get_fields()}


def test_a_token_goes_only_to_the_server_that_it_was_kept_for(tmp_path: Path) -> None:
    environ = {"GATEHOUSE_CONFIG": str(tmp_path / "config.json")}

    path = client.write_config("https://one.example.com", "ght_x", environ)

    assert path.stat().st_mode & 0o777 == 0o600
    assert client.settings(environ) == ("https://one.example.com", "ght_x")
    with pytest.raises(UsageError):
        client.settings({**environ, "GATEHOUSE_URL": "https://two.example.com"})
    with pytest.raises(UsageError, match="no URL"):
        client.settings({"GATEHOUSE_CONFIG": "/nowhere", "GATEHOUSE_URL": "example.com", "GATEHOUSE_TOKEN": "t"})
