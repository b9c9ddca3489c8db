"""The whole road by program: REST API, the official OpenAI SDK and the official MCP client, from an empty organisation to a signed gate."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from mcp import Client

from tests.clock import allowed
from tests.road.api import Api
from tests.road.product import Product

pytestmark = [pytest.mark.process]
PASSWORD = "a long enough password"
PEOPLE = {"adam": "admin", "bob": "developer", "rita": "release_manager", "fay": "finance", "sam": "security", "audra": "auditor"}


def within(seconds: float, seen: Callable[[], Any]) -> float:
    """Wait until `seen()` is true and return how long it took; fails after the promised `seconds`."""
    began = time.monotonic()
    while not (found := seen()):
        assert time.monotonic() - began < allowed(seconds), found
        time.sleep(0.1)
    return time.monotonic() - began


async def test_from_an_empty_organisation_to_a_signed_gate(product: Product, demo: dict[str, Any], tmp_path: Path) -> None:
    sandbox = next(row["base_url"] for row in Api(demo["base_url"], demo["api_token"]).get("providers/")["results"]).removesuffix("/v1")
    operator = Api(demo["base_url"], demo["operator_token"])
    anybody = Api(demo["base_url"], "")

    def sign_in(name: str) -> Api:
        return Api(
            demo["base_url"],
            anybody.post("tokens/", {"email": f"{name}@initech.example", "password": PASSWORD, "tenant": "initech"})["token"],
        )

    # 1. An operator creates a tenant in under 5 s; its owner adds people with one role each.
    began = time.monotonic()
    tenant = operator.post(
        "platform/tenants/", {"slug": "initech", "name": "Initech", "owner_email": "olivia@initech.example", "owner_password": PASSWORD}
    )
    assert (took := time.monotonic() - began) < allowed(5), took
    owner = sign_in("olivia")
    for name, role in PEOPLE.items():
        owner.post("members/", {"email": f"{name}@initech.example", "password": PASSWORD, "roles": [role]})
    adam, bob, rita, fay, sam = (sign_in(name) for name in ("adam", "bob", "rita", "fay", "sam"))

    # 2. An admin registers a provider, a model with a live check, and a tool server whose tools are discovered.
    adam.post("providers/", {"slug": "local", "name": "Local", "base_url": f"{sandbox}/v1", "secret": "write-only"})
    assert "write-only" not in str(adam.get("providers/local/"))
    assert adam.post("providers/local/check/")["provider"]["check_ok"] is True
    adam.post(
        "models/",
        {
            "slug": "helper",
            "name": "Helper",
            "provider": "local",
            "upstream_model": "sandbox-large",
            "capabilities": ["chat"],
            "max_output_tokens": 512,
            "price": {"input_per_million": "3.00", "output_per_million": "15.00"},
        },
    )
    adam.post("models/helper/check/")
    assert adam.post("models/helper/submit/")["status"] == "submitted"
    assert owner.post("models/helper/approve/")["status"] == "approved"
    server = adam.post("tool-servers/", {"namespace": "staff", "name": "Staff handbook", "url": f"{sandbox}/mcp"})
    assert len(adam.get("tools/")["results"]) >= 3, server
    for project in ("checkout", "support", "search"):
        adam.post("projects/", {"slug": project, "name": project.title(), "cost_centre": f"CC-{project}"})

    # 3. A developer finds the model, gets a key and calls it with the unmodified SDK, streaming and not; and runs a tool.
    assert [row["slug"] for row in bob.get("models/")["results"]] == ["helper"]
    keys = {project: bob.post("keys/", {"name": project, "project": project})["secret"] for project in ("checkout", "support", "search")}
    clients = {
        project: openai.OpenAI(
            base_url=f"{demo['base_url']}/v1", api_key=key, max_retries=0, default_headers={"x-gatehouse-agent": f"{project}-agent"}
        )
        for project, key in keys.items()
    }
    ask: Any = {"model": "helper", "messages": [{"role": "user", "content": "What is in the handbook?"}]}

    def wait_for_key() -> bool:
        try:
            return bool(clients["search"].models.list().data)
        except openai.AuthenticationError:
            return False

    within(5, wait_for_key)
    whole = clients["checkout"].chat.completions.create(**ask)
    assert whole.choices[0].message.content
    assert whole.usage
    chunks = list(clients["support"].chat.completions.create(stream=True, stream_options={"include_usage": True}, **ask))
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert chunks[-1].usage
    untagged = openai.OpenAI(base_url=f"{demo['base_url']}/v1", api_key=keys["search"], max_retries=0)
    untagged.chat.completions.create(**ask)
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {keys['search']}"}, timeout=60) as http,
        _mcp(f"{demo['base_url']}/mcp", http) as tools,
    ):
        names = [tool.name for tool in (await tools.list_tools()).tools]
        assert "staff__current_time" in names
        assert not (await tools.call_tool("staff__current_time", {})).is_error

    # 4. Each call is one event: priced, attributed, on the cost page within 5 s; the untagged one is counted as such.
    within(5, lambda: fay.get("spend/", group="project")["served_calls"] == 4)
    spend = fay.get("spend/", group="project")
    assert spend["untagged_calls"] == 2  # the plain SDK and the MCP client named no agent
    cost = Decimal(str(3 * whole.usage.prompt_tokens + 15 * whole.usage.completion_tokens)) / 1_000_000
    [event] = fay.get("requests/", agent="checkout-agent")["results"]
    assert Decimal(event["cost_usd"]) == cost
    assert (event["project"], event["model"], event["provider"]) == ("checkout", "helper", "local")
    assert [step["verdict"] for step in fay.get(f"requests/{event['event_id']}/")["steps"]].count("pass") >= 6

    # 5. A bill is imported idempotently and reconciled by cause; the causes sum to the difference and are the true ones.
    month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for token_class, price in (("input", "3.00"), ("output", "15.00")):
        fay.post(
            "prices/",
            {
                "provider": "local",
                "model": "helper",
                "token_class": token_class,
                "price": price,
                "valid_from": month.isoformat(),
                "source": "contract",
            },
        )
    product.manage(
        "generate_bill",
        "--tenant",
        "initech",
        "--provider",
        "local",
        "--calls-per-day",
        "6",
        "--missing",
        "2",
        "--deliver",
        "--account",
        "acct-9",
        "--out",
        str(tmp_path),
    )
    bill = (tmp_path / "bill.csv").read_bytes()
    first = fay.post("bills/", {"provider": "local"}, files={"file": ("bill.csv", bill, "text/csv")})
    again = fay.post("bills/", {"provider": "local"}, files={"file": ("bill.csv", bill, "text/csv")})
    assert first["rows_accepted"] + first["rows_duplicate"] + first["rows_rejected"] == first["rows_in"] > 0
    assert again["id"] == first["id"]
    within(10, lambda: fay.get("spend/", group="project")["served_calls"] > 10)
    fay.post("reconciliations/", {"provider": "local", "month": f"{month:%Y-%m}"})
    latest = fay.get(f"reconciliations/local/acct-9/{month:%Y-%m}/")["latest"]
    assert sum(Decimal(cause["amount"]) for cause in latest["causes"]) == Decimal(latest["variance_usd"]) != 0
    assert sum(Decimal(cause["cents"]) for cause in latest["causes"]) == Decimal(latest["variance_usd"]).quantize(Decimal("0.01"))

    # 6. Consent switched off is refused within 5 s, with the reason in the error; switched on again, calls pass.
    refusals: list[openai.APIStatusError] = []

    def refused() -> bool:
        try:
            clients["checkout"].chat.completions.create(**ask)
        except openai.APIStatusError as error:
            refusals.append(error)
        return bool(refusals)

    sam.put("consents/assistants/", {"state": "withdrawn", "reason": "Audit of assistants until Monday"})
    within(5, refused)
    assert refusals[0].status_code == 403
    assert refusals[0].code == "consent_withdrawn"
    assert "Audit of assistants until Monday" in refusals[0].message
    sam.put("consents/assistants/", {"state": "granted"})
    refusals.clear()

    def passes() -> bool:
        refusals.clear()
        return not refused()

    within(5, passes)

    # 7. A rollout from the founding plan: criteria without data block; people attest, waive and sign; the next phase begins.
    rollout = rita.post("rollouts/", {"plan": "ai-gateway-governance", "slug": "governance", "name": "Governance"})
    gate = "rollouts/governance/gates/1/"
    assert rollout["current_phase"] == "phase-0"
    blocked = rita.post(f"{gate}evaluate/")
    assert not blocked["ready"]
    assert rita.call("POST", f"{gate}sign/", json={"role": "product", "decision": "go", "digest": blocked["digest"]}).status_code == 409
    by_role = {"product": rita, "engineering": adam, "security": sam}
    for criterion in (criterion for criterion in blocked["criteria"] if criterion["kind"] == "attestation"):
        by_role[criterion["role"]].post(
            f"{gate}attest/", {"criterion": criterion["key"], "met": True, "note": "See the minutes of Monday."}
        )
    until = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    for criterion in (
        criterion for criterion in rita.post(f"{gate}evaluate/")["criteria"] if criterion["verdict"] not in ("pass", "waived")
    ):
        rita.post(f"{gate}waive/", {"criterion": criterion["key"], "reason": "Too few calls in a new organisation.", "until": until})
        owner.post(f"{gate}waive/", {"criterion": criterion["key"], "decision": "approve"})
    ready = rita.post(f"{gate}evaluate/")
    assert ready["ready"], ready["sentence"]
    assert next(criterion for criterion in ready["criteria"] if criterion["key"] == "internal-teams")["verdict"] == "pass"
    rita.post(f"{gate}sign/", {"role": "product", "decision": "go", "digest": ready["digest"], "comment": "Teams are happy."})
    adam.post(f"{gate}sign/", {"role": "engineering", "decision": "go", "digest": ready["digest"]})
    assert rita.get("rollouts/governance/")["current_phase"] == "phase-0"
    sam.post(f"{gate}sign/", {"role": "security", "decision": "go", "digest": ready["digest"]})
    assert rita.get("rollouts/governance/")["current_phase"] == "phase-1"
    log = str(rita.get("rollouts/governance/log/"))
    assert "Teams are happy." in log

    # Everything stands in an audit log that is intact, and the platform knows the tenant's snapshot is current.
    assert sign_in("audra").get("audit/verify/")["is_intact"]
    assert next(row for row in operator.get("platform/tenants/")["results"] if row["slug"] == tenant["slug"])["published_version"] > 1


def _mcp(url: str, http: httpx2.AsyncClient) -> Client:
    from mcp.client.streamable_http import streamable_http_client

    return Client(streamable_http_client(url, http_client=http))
