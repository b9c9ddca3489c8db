"""The demo organisation: what a newcomer finds after the first start. Making it again changes nothing that is there.

Passwords and tokens are random and kept in DATA_DIR/demo.json, readable by its owner only, so that the second start can print them
again; nothing of the demo is a default secret.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django_tenants.utils import schema_context

from catalog.hooks import Price
from catalog.models import Model, Project, Provider, ToolServer, VirtualKey
from catalog.services import keys, model_lifecycle, models, projects, providers, tools
from gateway.contract.flags import BUCKETS, Cohort
from gateway.contract.keys import MalformedKeyError, matches, parse
from governance.models import FeatureClass, Guardrail, Policy, Tenant, User
from governance.roles import Role
from governance.services import guardrails, people, policies, tenants, tokens
from operations.services import demo_history
from rollouts import exposure
from rollouts.models import Flag, Rollout
from rollouts.services import flag_changes, flags, rollouts

SLUG = "acme"
PEOPLE = (
    ("alice", "Alice", Role.OWNER),
    ("adam", "Adam", Role.ADMIN),
    ("bob", "Bob", Role.DEVELOPER),
    ("rita", "Rita", Role.RELEASE_MANAGER),
    ("fay", "Fay", Role.FINANCE),
    ("sam", "Sam", Role.SECURITY),
    ("audra", "Audra", Role.AUDITOR),
)
MODELS = (
    ("sandbox-large", "Sandbox large", ("chat", "tools"), FeatureClass.ASSISTANTS, 128_000, Price(Decimal("2.50"), Decimal("10.00"))),
    ("sandbox-small", "Sandbox small", ("chat",), FeatureClass.ASSISTANTS, 32_000, Price(Decimal("0.15"), Decimal("0.60"))),
    ("sandbox-embed", "Sandbox embeddings", ("embeddings",), FeatureClass.SEARCH, 8_192, Price(Decimal("0.02"), Decimal("0.00"))),
)
PROJECTS = (
    ("checkout-assistant", "Checkout assistant", "CC-4100", "production"),
    ("internal-tools", "Internal tools", "CC-9000", "development"),
)
CHAT_PRICES = {
    slug: {"input": price.input_per_million, "output": price.output_per_million}
    for slug, _, capabilities, *_, price in MODELS
    if "chat" in capabilities
}
START_TIMEOUT_S = 20.0


def make_demo(*, with_history: bool = False) -> dict[str, Any]:
    """Make what is missing of the demo and return how to get in: URL, people, tokens, a key, a model.

    With `with_history`, an organisation that had no calls had some in the last weeks; see `demo_history`.
    """
    notes = _Notes(settings.DATA_DIR / "demo.json")
    with schema_context("public"):
        operator = User.objects.filter(email="olga@acme.example").first() or User.objects.create_user(
            "olga@acme.example", notes.password, name="Olga", is_operator=True
        )
        tenant = Tenant.objects.filter(slug=SLUG).first() or tenants.create_tenant(
            slug=SLUG,
            name="Acme",
            owner_email="alice@acme.example",
            owner_password=notes.password,
            actor=operator,
            kind=Tenant.Kind.INTERNAL,
            tier=Tenant.Tier.ENTERPRISE,
        )
        operator_token = notes.keep(
            "operator_token", lambda: tokens.create_token(user=operator, tenant=None, name="demo", actor=operator)[1], _is_live_token
        )
    with schema_context(tenant.schema_name), _sandbox():
        members = {
            name: people.add_member(
                tenant=tenant, email=f"{name}@acme.example", name=full_name, roles=[role], password=notes.password, actor=None
            ).user
            for name, full_name, role in PEOPLE
        }
        _fill_catalog(members["adam"], members["alice"], with_history=with_history)
        project = Project.objects.get(slug=PROJECTS[0][0])
        virtual_key = notes.keep(
            "virtual_key",
            lambda: keys.create_key(name="demo", project=project, owner=members["bob"], actor=members["bob"])[1],
            _is_live_key,
        )
        api_token = notes.keep(
            "api_token",
            lambda: tokens.create_token(user=members["alice"], tenant=tenant, name="demo", actor=members["alice"])[1],
            _is_live_token,
        )
        _fill_controls(members["adam"])
        _fill_flags(members["rita"], members["adam"])
        if with_history:
            demo_history.make_history(
                tenant=tenant,
                provider="sandbox",
                offers=CHAT_PRICES,
                key_id=parse(virtual_key).id,
                finance=members["fay"],
                owner=members["alice"],
            )
        if not Rollout.objects.exists():
            rollouts.start_rollout(
                plan_key="ai-gateway-governance",
                slug="ai-gateway-governance",
                name="AI gateway governance",
                owner=members["rita"],
                actor=members["rita"],
            )
    return {
        "base_url": settings.BASE_URL,
        "tenant": SLUG,
        "users": [
            *[{"email": f"{name}@acme.example", "password": notes.password, "role": role.label} for name, _, role in PEOPLE],
            {"email": operator.email, "password": notes.password, "role": "Operator"},
        ],
        "api_token": api_token,
        "virtual_key": virtual_key,
        "model": MODELS[0][0],
        "operator_token": operator_token,
    }


def _fill_catalog(admin: User, owner: User, *, with_history: bool) -> None:
    """A provider, three checked models, a tool server and two projects."""
    base_url = f"{_sandbox_url()}/v1"
    provider = Provider.objects.filter(slug="sandbox").first()
    if provider is None:
        provider = providers.create_provider(slug="sandbox", name="Sandbox", base_url=base_url, actor=admin, region="local")
    elif provider.base_url != base_url:  # it was started on another port
        provider = providers.change_provider(provider=provider, name=provider.name, base_url=base_url, region=provider.region, actor=admin)
    providers.check_provider(provider=provider, actor=admin)
    if with_history:
        demo_history.set_prices(provider.slug, CHAT_PRICES, actor=admin)
    for slug, name, capabilities, feature_class, context_window, price in MODELS:
        model = Model.objects.filter(slug=slug).first() or models.register_model(
            slug=slug,
            provider=provider,
            upstream_model=slug,
            owner=owner,
            actor=admin,
            price=price,
            facts=models.ModelFacts(
                name=name,
                capabilities=capabilities,
                feature_class=feature_class,
                context_window=context_window,
                max_output_tokens=1024,
                description="Answers from this machine, without a provider. For trying things out.",
            ),
        )
        if model.status == Model.Status.DRAFT:
            models.check_model(model=model, actor=admin)
            model = model_lifecycle.submit_model(model=model, actor=admin, comment="Passed its live check.")
        if model.status == Model.Status.SUBMITTED:
            model_lifecycle.approve_model(model=model, actor=owner, comment="For trying things out.")
    url = f"{_sandbox_url()}/mcp"
    server = ToolServer.objects.filter(namespace="handbook").first()
    if server is None:
        tools.register_tool_server(
            namespace="handbook", name="Handbook", url=url, owner=owner, actor=admin, description="Time, units, and the staff handbook."
        )
    elif server.url != url:
        tools.change_tool_server(
            server=server, name=server.name, description=server.description, url=url, feature_class=server.feature_class, actor=admin
        )
    for slug, name, cost_centre, environment in PROJECTS:
        if not Project.objects.filter(slug=slug).exists():
            projects.create_project(slug=slug, name=name, cost_centre=cost_centre, environment=environment, owner=owner, actor=admin)


def _fill_controls(admin: User) -> None:
    """One guardrail that watches and one policy on trial: neither holds a first call up."""
    if not Guardrail.objects.exists():
        guardrails.create_guardrail(name="personal-data", kind=Guardrail.Kind.PII, mode=Guardrail.Mode.MONITOR, on_output=True, actor=admin)
    if not Policy.objects.exists():
        policy = policies.create_policy(
            namespace="ops",
            name="agents-are-named",
            description="Calls from production name their agent",
            when='caller.environment == "production" && call.kind == "chat"',
            require='caller.agent != ""',
            reason="Send the header x-gatehouse-agent with your agent's name.",
            actor=admin,
        )
        policies.set_mode(policy=policy, mode=Policy.Mode.DRY_RUN, actor=admin)


def _fill_flags(release_manager: User, admin: User) -> None:
    """One flag that a tenth of one project's users meet, proposed by one and approved by another."""
    if not Flag.objects.exists():
        flag = flags.create_flag(
            key="ai.checkout.brief-answers-1",
            title="Shorter answers in the checkout",
            description="The assistant answers in two sentences and offers the rest.",
            kind=Flag.Kind.BOOLEAN,
            variants={"off": False, "on": True},
            control="off",
            feature_class=FeatureClass.ASSISTANTS,
            sticky="user",
            actor=release_manager,
        )
        pilot = Cohort(name="pilot", attribute="project", values=(PROJECTS[0][0],))
        first_tenth = exposure.changed(flag.exposure, on=True, cohorts=[pilot], percentage=BUCKETS // 10)
        change = flag_changes.propose_change(flag=flag, exposure=first_tenth, reason="The first tenth of the pilot.", actor=release_manager)
        flag_changes.approve_change(change=change, actor=admin, comment="The pilot's owner agrees.")


class _Notes:
    """Random passwords and tokens, kept so that the next run can print them again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str] = json.loads(path.read_text()) if path.exists() else {"password": f"demo-{secrets.token_hex(5)}"}
        self._save()  # before it is used, so that a run that breaks off leaves no account with a lost password

    @property
    def password(self) -> str:
        return self._values["password"]

    def keep(self, name: str, make: Any, is_live: Any) -> str:
        """The kept text while it is live, else a new one."""
        if name not in self._values or not is_live(self._values[name]):
            self._values[name] = make()
            self._save()
        return self._values[name]

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._path.with_suffix(".new")
        scratch.touch(mode=0o600)
        scratch.write_text(json.dumps(self._values, indent=1))
        scratch.replace(self._path)


def _is_live_token(text: str) -> bool:
    with schema_context("public"):
        return tokens.authenticate(text) is not None


def _is_live_key(text: str) -> bool:
    try:
        key = VirtualKey.objects.filter(public_id=parse(text).id).first()
    except MalformedKeyError:
        return False
    return key is not None and key.is_live() and matches(text, key.digest, settings.KEY_PEPPER)


def _sandbox_url() -> str:
    return os.environ.get("SANDBOX_URL", "http://127.0.0.1:8001").rstrip("/")


@contextmanager
def _sandbox() -> Iterator[None]:
    """The sandbox upstream that runs, or one for as long as the demo is being made: models are checked by real calls."""
    parts = urlsplit(_sandbox_url())
    address = (parts.hostname or "127.0.0.1", parts.port or 80)
    if _answers(address):
        yield
        return
    process = subprocess.Popen(
        [sys.executable, "manage.py", "sandbox_upstream", "--port", str(address[1]), "--data-dir", str(settings.DATA_DIR / "sandbox")],
        cwd=settings.BASE_DIR,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the sandbox upstream did not start at {_sandbox_url()}")
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(address: tuple[str, int]) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(address) == 0
