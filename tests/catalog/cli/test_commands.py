"""The command line against the real API: in this process, and once as a program over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
import yaml
from django.utils import timezone

from catalog.cli.output import rows_text
from catalog.models import Deployment, Model, Project, PromptLabel, Provider, UsageLimit, VirtualKey
from catalog.services import answers, models
from governance.models import Guardrail, Policy, Tenant, User
from governance.services import tokens
from governance.templatetags.gatehouse import money_text
from tests import bootstrap
from tests.catalog.cli.conftest import Run, portal
from tests.factories.catalog import make_key, make_model, make_project, make_provider, make_tool, make_tool_server

MANIFEST = """\
apiVersion: gatehouse/v1
kind: Policy
metadata: {name: security.residency}
spec: {require: "true", reason: Keep it here., mode: enforce}
---
apiVersion: gatehouse/v1
kind: Prompt
metadata: {name: greeting}
spec:
  messages: [{role: system, content: "Greet {{name}}."}]
  model: helper
  parameters: {temperature: 0.2}
  labels: [production]
---
apiVersion: gatehouse/v1
kind: Provider
metadata: {name: local}
spec:
  name: Local
  base_url: http://127.0.0.1:9/v1
  secretFrom: {env: LOCAL_SECRET}
---
apiVersion: gatehouse/v1
kind: Project
metadata: {name: checkout}
spec: {cost_centre: CC-7, monthly_budget_usd: 250.50}
---
apiVersion: gatehouse/v1
kind: Model
metadata: {name: helper}
spec:
  capabilities: [chat, json]
  price: {input_per_million: 0.15, output_per_million: 0.60}
  cache: {ttl_s: 60, scope: project}
  deployments:
    - {provider: local, upstream_model: small}
    - {provider: local, upstream_model: large, weight: 3, is_enabled: false}
---
apiVersion: gatehouse/v1
kind: Limit
metadata: {name: checkout-requests}
spec: {scope: project, ref: checkout, resource: requests, window: minute, amount: 600}
---
apiVersion: gatehouse/v1
kind: Guardrail
metadata: {name: personal-data}
spec: {kind: pii, action: redact, mode: enforce}
"""


def test_manifests_are_planned_applied_and_applied_again(
    acme: Tenant, alice: User, adam: User, run_as: Callable[[User], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_SECRET", "not-in-any-answer")
    file = tmp_path / "all.yaml"
    file.write_text(MANIFEST)
    run = run_as(alice)

    code, plan = run("apply", "-f", str(file), "--dry-run")
    assert code == 0
    assert "7 to make, 0 to change" in plan
    assert not Provider.objects.exists()

    code, done = run("apply", "-f", str(file))
    assert code == 3  # a policy is put in force by somebody who did not write it
    assert "waits: Prompt greeting version 1 is submitted, not production yet: Somebody else" in done
    assert "waits: Policy security.residency is written and replayed, not in force: Somebody else" in done
    assert "not-in-any-answer" not in plan + done
    assert Provider.objects.get().open_secret() == "not-in-any-answer"
    model = Model.objects.get()
    assert (model.status, model.capabilities, model.cache_ttl_s, model.cache_scope) == ("draft", ["chat", "json"], 60, "project")
    assert list(model.deployments.values_list("upstream_model", "weight", "is_enabled")) == [("small", 1, True), ("large", 3, False)]
    assert str(Project.objects.get().monthly_budget_usd) == "250.50"
    assert (UsageLimit.objects.get().amount, Guardrail.objects.get().action, Policy.objects.get().mode) == (600, "redact", "off")

    code, again = run("diff", "-f", str(file))
    assert code == 1
    assert "~ mode: off → enforce" in again
    assert "0 to make, 2 to change, 0 to remove, 5 as wanted" in again
    Model.objects.filter(slug="helper").update(status="approved")  # the prompt names it
    code, _ = run_as(adam)("apply", "-f", str(file))
    assert (code, Policy.objects.get().mode) == (0, "enforce")
    label = PromptLabel.objects.get()
    assert (label.name, label.version.number, label.version.parameters) == ("production", 1, {"temperature": 0.2})
    assert run_as(adam)("apply", "-f", str(file))[1] == "0 to make, 0 to change, 0 to remove, 7 as wanted.\n"


def test_changes_are_made_one_by_one_and_only_prune_removes(
    acme: Tenant, alice: User, adam: User, run_as: Callable[[User], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_SECRET", "one")
    provider = make_provider(slug="local")
    model = make_model(owner=alice, slug="helper", provider=provider, upstream_model="small", price=("9", "9"))
    make_model(owner=alice, slug="ada", provider=provider, capabilities=["embeddings"])
    answers.set_cache(model=model, actor=alice, ttl_s=9, scope="project", embedding="ada", threshold=0.9, sample_percent=20)
    Deployment.objects.create(model=model, provider=provider, upstream_model="old")
    other, stranger = make_model(owner=alice, slug="stranger"), make_project(owner=alice, slug="stranger")
    file, run = tmp_path / "all.yaml", run_as(alice)
    file.write_text(
        MANIFEST.partition("---\n")[2].replace("deployments:", "status: deprecated\n  deployments:").replace("  labels: [production]\n", "")
    )

    code, done = run("apply", "-f", str(file))

    assert code == 3, done  # JSON output is more than was approved
    assert "waits: Model helper is not described anew yet: Somebody else approves" in done
    model.refresh_from_db()
    assert model.capabilities == ["chat"]
    assert run_as(adam)("apply", "-f", str(file))[0] == 0
    model.refresh_from_db()
    assert model.capabilities == ["chat", "json"]
    for line in (
        "+ secret: (from env LOCAL_SECRET)",
        "~ prices.local.input_per_million: 9 → 0.15",
        "~ cache.ttl_s: 9 → 60",
        "~ status: approved → deprecated",
    ):
        assert line in done
    model.refresh_from_db()
    assert (model.status, model.deployments.count()) == ("deprecated", 3)
    assert (model.cache_ttl_s, model.cache_embedding, model.cache_threshold, model.cache_sample_percent) == (60, "ada", 0.9, 20)
    assert "  cache:\n    ttl_s: 60\n    scope: project\n    embedding: ada\n    threshold: 0.9\n" in run("export", "Model")[1]
    code, done = run("apply", "-f", str(_edited(file, "60, scope: project", "60, scope: project, threshold: 0.85")))
    model.refresh_from_db()
    assert (code, model.cache_embedding, model.cache_threshold) == (0, "ada", 0.85), done
    code, pruned = run("apply", "-f", str(file), "--prune")
    assert code == 0, pruned
    other.refresh_from_db()
    stranger.refresh_from_db()
    assert (other.status, stranger.is_enabled, model.deployments.count()) == ("retired", False, 2)
    assert "stays: the server keeps these for ever" in pruned  # the stranger's provider
    models.change_model(model=model, facts=replace(models.facts_of(model), data_sensitivity="restricted"), actor=alice)
    words = "status: deprecated\n  data_sensitivity: internal\n  description: Helps."
    code, done = run_as(adam)("apply", "-f", str(_edited(file, "status: deprecated", words)))
    model.refresh_from_db()
    assert (code, model.description, model.data_sensitivity) == (0, "Helps.", "internal"), done  # what alice asked is not in it
    assert model.reviews.get(status="waiting").facts == {"data_sensitivity": "restricted"}
    code, _ = run("apply", "-f", str(_edited(file, "status: deprecated", "status: draft")))
    assert code == 1
    model.refresh_from_db()
    assert model.status == "deprecated"


LEAVING = """\
apiVersion: gatehouse/v1
kind: Model
metadata: {name: helper}
spec:
  status: deprecated
  default_parameters: {temperature: 0.20}
  leaving: {retires_on: 2099-03-07, successor: next}
  deployments: [{provider: local, upstream_model: small}]
"""


def test_a_manifest_tags_a_model_and_leaves_its_other_tags(
    acme: Tenant, alice: User, run_as: Callable[[User], Run], tmp_path: Path
) -> None:
    model = make_model(owner=alice, slug="helper", provider=make_provider(slug="local"), tags={"team": "search", "use": "coding"})
    file, run = tmp_path / "tags.yaml", run_as(alice)
    spec = "spec: {tags: {use: drafting}, deployments: [{provider: local, upstream_model: small}]}"
    file.write_text(f"apiVersion: gatehouse/v1\nkind: Model\nmetadata: {{name: helper}}\n{spec}\n")

    code, done = run("apply", "-f", str(file))

    model.refresh_from_db()
    assert (code, model.tags) == (0, {"team": "search", "use": "drafting"}), done
    assert run("diff", "-f", str(file))[0] == 0
    assert "  tags:\n    use: drafting\n    team: search\n" in run("export", "Model")[1]


def test_a_manifest_prices_a_model_at_each_provider(
    acme: Tenant, alice: User, run_as: Callable[[User], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(owner=alice, slug="helper", provider=make_provider(slug="local"), price=("1", "2"))
    Deployment.objects.create(model=model, provider=make_provider(slug="azure"), upstream_model="small")
    file, run = tmp_path / "prices.yaml", run_as(alice)
    head = "apiVersion: gatehouse/v1\nkind: Model\nmetadata: {name: helper}\nspec:\n  deployments: [{provider: local, upstream_model: small}]\n"
    at = "{input_per_million: 3, output_per_million: 4}"

    file.write_text(f"{head}  prices: {{azure: {at}}}\n")
    assert run("apply", "-f", str(file))[0] == 1
    assert "names azure, which none of its deployments is at" in capsys.readouterr().err
    head = head.replace("small}]", "small}, {provider: azure, upstream_model: small}]")
    file.write_text(f"{head}  prices: {{azure: {at}}}\n")
    assert "+ prices.azure.input_per_million: 3" in run("diff", "-f", str(file))[1]
    code, done = run("apply", "-f", str(file))

    assert (code, run("diff", "-f", str(file))[0]) == (0, 0), done
    exported = yaml.safe_load(run("export", "Model")[1])["spec"]
    local = {"input_per_million": 1, "output_per_million": 2}
    assert exported["prices"] == {"local": local, "azure": {"input_per_million": 3, "output_per_million": 4}}
    assert "price" not in exported

    file.write_text(f"{head}  prices: {{local: {at}}}\n")
    assert (run("apply", "-f", str(file))[0], run("diff", "-f", str(file))[0]) == (0, 0)  # of the one that is tried first, too
    Deployment.objects.filter(model=model, provider__slug="local").update(is_enabled=False)
    file.write_text(f"{head}  price: {at}\n")
    assert run("diff", "-f", str(file))[0] == 0  # the price of what the manifest names first, not of what is tried first now
    file.write_text(f"{head.replace('local, ', 'local, priority: 1, ')}  price: {local}\n")
    assert "~ prices.azure.input_per_million: 3 → 1" in run("diff", "-f", str(file))[1]


def test_a_manifest_with_two_prices_for_one_provider_changes_nothing(
    acme: Tenant, alice: User, run_as: Callable[[User], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(owner=alice, slug="helper", provider=make_provider(slug="local"), price=("1", "2"))
    file, run = tmp_path / "prices.yaml", run_as(alice)
    head = (
        "apiVersion: gatehouse/v1\nkind: Model\nmetadata: {name: helper}\nspec:\n  description: New\n"
        "  deployments: [{provider: local, upstream_model: small}]\n  price: {input_per_million: 1, output_per_million: 2}\n"
    )

    file.write_text(f"{head}  prices: {{local: {{input_per_million: 3, output_per_million: 2}}}}\n")
    code, _ = run("apply", "-f", str(file))

    assert code == 1
    assert "`price` and `prices` differ for local, which is tried first" in capsys.readouterr().err
    before = model.description
    model.refresh_from_db()
    assert model.description == before != "New"
    file.write_text(f'{head}  prices: {{local: {{input_per_million: "1.0", output_per_million: 2}}}}\n')
    assert run("apply", "-f", str(file))[0] == 0


def test_a_draft_without_a_deployment_is_exported_and_compared(
    acme: Tenant, alice: User, run_as: Callable[[User], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_model(owner=alice, slug="bare", status=Model.Status.DRAFT)
    Deployment.objects.filter(model=model).delete()
    file, run = tmp_path / "bare.yaml", run_as(alice)

    code, exported = run("export", "Model")

    assert code == 0
    assert yaml.safe_load(exported)["spec"]["deployments"] == []
    file.write_text(exported)
    assert run("diff", "-f", str(file))[0] == 0, run("diff", "-f", str(file))[1]
    file.write_text(exported.replace("name: bare", "name: other"))
    assert run("diff", "-f", str(file))[0] == 2
    assert "a model is made with its first deployment" in capsys.readouterr().err
    file.write_text(f"{exported}  price: {{input_per_million: 1, output_per_million: 2}}\n")
    assert run("diff", "-f", str(file))[0] == 2
    assert "`price` is one at a deployment" in capsys.readouterr().err


def test_a_manifest_says_when_a_model_leaves_and_what_its_calls_get(
    acme: Tenant, alice: User, adam: User, run_as: Callable[[User], Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    provider = make_provider(slug="local")
    model = make_model(owner=alice, slug="helper", provider=provider, upstream_model="small")
    make_model(owner=alice, slug="next", provider=provider)
    file, run = tmp_path / "leaving.yaml", run_as(alice)
    file.write_text(LEAVING)

    code, done = run("apply", "-f", str(file))

    assert (code, "+ leaving.successor: next" in done) == (3, True), done  # parameters wait for somebody else
    model.refresh_from_db()
    assert (model.status, str(model.retires_on), model.successor) == ("deprecated", "2099-03-07", "next")  # callers are told at once
    assert run_as(adam)("apply", "-f", str(file))[0] == 0
    assert run("diff", "-f", str(file))[0] == 0
    model.refresh_from_db()
    assert (str(model.retires_on), model.successor, model.default_parameters) == ("2099-03-07", "next", {"temperature": 0.2})
    exported = run("export", "Model")[1]
    assert "  leaving:\n    retires_on: '2099-03-07'\n    successor: next\n" in exported
    assert "  default_parameters:\n    temperature: 0.2\n" in exported
    assert run("models", "leaving", "helper", "--successor", "none")[0] == 0
    model.refresh_from_db()
    assert (str(model.retires_on), model.successor) == ("2099-03-07", "")
    assert run("models", "leaving", "helper")[0] == 2
    code, _ = run("apply", "-f", str(_edited(file, "status: deprecated", "status: approved")))
    assert (code, Model.objects.get(pk=model.pk).status) == (1, "deprecated")  # what stays is not leaving
    other = tmp_path / "other.yaml"
    other.write_text(LEAVING.replace("helper", "fresh").replace("  status: deprecated\n", ""))
    for command in ("diff", "apply"):
        assert run(command, "-f", str(other))[0] > 0
        assert "Model fresh: only a model that is deprecated is leaving." in capsys.readouterr().err
    assert not Model.objects.filter(slug="fresh").exists()


def _edited(file: Path, old: str, new: str) -> Path:
    file.write_text(file.read_text().replace(old, new))
    return file


def test_what_is_exported_is_as_wanted_when_applied(
    acme: Tenant, alice: User, run_as: Callable[[User], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_SECRET", "sealed")
    run, file = run_as(alice), tmp_path / "all.yaml"
    file.write_text(MANIFEST)
    run("apply", "-f", str(file))

    code, text = run("export")

    assert code == 0
    assert "sealed" not in text
    assert "GATEHOUSE_SECRET_LOCAL" in text
    file.write_text(text)
    assert run("diff", "-f", str(file)) == (0, "0 to make, 0 to change, 0 to remove, 7 as wanted.\n")
    assert [one["kind"] for one in yaml.safe_load_all(run("export", "Limit", "Model")[1])] == ["Model", "Limit"]


@pytest.mark.parametrize("amount", ["2.50000000", "0", "0.01", "0.00999", "0.0000012345", "1234567.125"])
def test_table_shows_dollars_as_the_pages_do(amount: str) -> None:
    table = rows_text([{"cost_usd": amount}, {"cost_usd": None}], ["cost_usd"], "table").splitlines()

    assert table[1:] == [money_text(amount), "-"]


def test_lists_and_acts_of_every_resource(
    acme: Tenant, alice: User, bob: User, run_as: Callable[[User], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(owner=alice, slug="small", price=("0.15", "0.60"))
    make_project(owner=alice, slug="checkout", name="Check\tout")
    make_tool(server=make_tool_server(owner=alice, namespace="handbook"), name="search")
    key, _ = make_key(owner=bob, name="old")
    run = run_as(bob)

    listed = run("models", "list", "--q", "sma")[1]
    assert "SLUG   STATUS    INPUT PER MILLION" in listed
    assert "$0.15              $0.60" in listed  # as the pages show it
    assert yaml.safe_load(run("models", "show", "small", "-o", "yaml")[1])["price"]["input_per_million"] == "0.15000000"
    assert "Check out" in run("projects", "list")[1]
    assert "full_name: handbook__search" in run("tools", "show", "handbook/search")[1]
    code, secret = run("keys", "create", "mine", "--set", "project=checkout", "--set", "models=[small]", "--secret-only")
    made = VirtualKey.objects.get(name="mine")
    assert (code, secret.strip().startswith(f"ghk_{acme.public_id}_{made.public_id}_"), made.models) == (0, True, ["small"])
    assert run("keys", "revoke", key.public_id)[0] == 0
    assert made.name in run("keys", "list", "--state", "active", "-o", "json", "--limit", "1")[1]
    assert run("models", "list", "--q", "nothing")[1] == "None.\n"
    assert "email: bob" in run("whoami")[1]

    assert run("providers", "list")[0] == 1
    assert run("keys", "create", "x", "--set", "project=nowhere")[0] == 1
    assert run("keys", "create", "x", "--set", "project")[0] == 2
    assert run("export", "Nothing")[0] == 2
    said = capsys.readouterr().err
    assert "This token may not do that." in said
    assert "There is no project nowhere." in said


KEYS = """
apiVersion: gatehouse/v1
kind: Key
metadata: {name: checkout staging}
spec:
  project: checkout
  owner: Bob@example.com
  models: [small, ada]
  requests_per_minute: 60
  monthly_budget_usd: 12.50
  tags: {team: payments}
  lifetime_days: 30
  secretTo: {file: staging.key}
---
apiVersion: gatehouse/v1
kind: Key
metadata: {name: checkout production}
spec: {name: production, project: checkout, owner: bob@example.com}
"""


def test_keys_are_made_once_with_their_secrets_in_a_file_or_shown(
    acme: Tenant, alice: User, bob: User, run_as: Callable[[User], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for slug in ("small", "ada"):
        make_model(owner=alice, slug=slug)
    project = make_project(owner=alice, slug="checkout")
    monkeypatch.chdir(tmp_path)
    file, run = tmp_path / "keys.yaml", run_as(alice)
    file.write_text(KEYS)

    assert run("apply", "-f", str(file))[0] == 1
    assert "say where its secret goes" in capsys.readouterr().err
    assert not VirtualKey.objects.exists()  # nothing is made while one secret has nowhere to go
    code, done = run("apply", "-f", str(file), "--show-secrets")

    assert code == 0, done
    staging, production = (VirtualKey.objects.get(name=name) for name in ("checkout staging", "production"))
    assert (staging.models, staging.tools, staging.tags, staging.owner) == (["ada", "small"], None, {"team": "payments"}, bob)
    assert (production.models, production.tools) == (None, None)
    secret = tmp_path / "staging.key"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.read_text().startswith(f"ghk_{acme.public_id}_{staging.public_id}_")
    assert secret.read_text().strip() not in done
    assert f"secret of Key checkout production, shown this once: ghk_{acme.public_id}_{production.public_id}_" in done
    assert run("apply", "-f", str(file))[1] == "0 to make, 0 to change, 0 to remove, 2 as wanted.\n"
    text = run("export", "Key")[1]
    assert "ghk_" not in text
    assert "- ada" in text
    file.write_text(text)
    assert run("diff", "-f", str(file))[0] == 0

    make_key(owner=alice, project=project, name="hers")
    make_key(owner=bob, project=project, name="left")
    file.write_text(KEYS.partition("---")[0].replace("60", "61"))
    assert run("apply", "-f", str(file))[0] == 1
    assert "requests_per_minute can't be changed here" in capsys.readouterr().err
    file.write_text(KEYS.partition("---")[0].replace("payments", "billing"))
    assert run("apply", "-f", str(file), "--prune")[0] == 0
    staging.refresh_from_db()
    assert staging.tags == {"team": "billing"}
    live = VirtualKey.objects.filter(revoked_at=None).values_list("name", flat=True)
    assert sorted(live) == ["checkout staging", "hers"]  # keys of people whom no manifest names are left alone

    staging.revoked_at = timezone.now()
    staging.save()
    assert run("apply", "-f", str(file))[0] == 1
    assert "staging.key exists already" in capsys.readouterr().err
    secret.unlink()
    assert run("apply", "-f", str(_edited(file, "[small, ada]", "[nowhere]")))[0] == 1
    assert not secret.exists()
    assert run("diff", "-f", str(_edited(file, "[nowhere]", "[small]")))[0] == 1
    file.write_text(
        file.read_text()
        + "---"
        + file.read_text().replace("{name: checkout staging}", "{name: again}").replace("spec:\n", "spec:\n  name: checkout staging\n")
    )
    assert run("diff", "-f", str(file))[0] == 2
    assert "is the same key as" in capsys.readouterr().err


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


@pytest.fixture
def served(acme: Tenant) -> Iterator[Any]:
    with make_server("127.0.0.1", 0, portal, handler_class=_Quiet) as server:
        server.timeout = 0.05
        yield server


def test_the_program_signs_in_and_lists_over_http(acme: Tenant, alice: User, served: Any, tmp_path: Path) -> None:
    make_project(owner=alice, slug="checkout")
    _, token = tokens.create_token(user=alice, tenant=acme, name="cli", actor=alice)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(bootstrap.ROOT)}

    def program(*arguments: str, given: str = "") -> tuple[int, str]:
        command = [sys.executable, "-m", "catalog.cli", *arguments]
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdin=-1, stdout=-1, stderr=subprocess.STDOUT, text=True)
        assert process.stdin is not None
        process.stdin.write(given)
        process.stdin.close()
        while process.poll() is None:
            served.handle_request()  # in this thread, which has the connection
        assert process.stdout is not None
        with process.stdout:
            return process.returncode, process.stdout.read()

    signed_in = program("login", f"http://127.0.0.1:{served.server_port}", given=f"{token}\n")
    listed = program("projects", "list", "-o", "json")

    assert signed_in[0] == 0, signed_in[1]
    assert "Signed in as alice" in signed_in[1]
    assert listed[0] == 0, listed[1]
    assert '"slug": "checkout"' in listed[1]
