from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from gateway.contract import snapshot as contract
from gateway.contract.outbound import AllowList, OutboundError, check_address, check_url
from gateway.contract.outbound_httpx import GuardedAsyncTransport, GuardedTransport
from gateway.plane.settings import SettingsError, read
from tests import bootstrap

NOBODY = AllowList.parse([])


def test_snapshot_survives_encoding() -> None:
    tool = contract.Tool(name="t", title="", description="", input_schema='{"type":"object"}')
    server = contract.ToolServer(namespace="n", url="https://x", sealed_secret="", feature_class="", tools=(tool,))
    snapshot = contract.TenantSnapshot(tenant="acme", slug="acme", schema="acme", version=3, tool_servers={"n": server})

    assert contract.decode(contract.encode(snapshot)) == snapshot


def test_newer_snapshot_with_more_fields_is_read() -> None:
    class Newer(contract.TenantSnapshot, frozen=True, kw_only=True):
        invented_later: str = "x"

    snapshot = contract.decode(contract.encode(Newer(tenant="acme", slug="acme", schema="acme", version=3)))

    assert snapshot.version == 3


@pytest.mark.parametrize("count", [0, 1, 64, 65, 1000])
def test_every_key_is_found_again_and_no_other(count: int) -> None:
    keys = {
        key_id: contract.Key(id=key_id, digest="d", name="n", project="p", owner="o", models=None, tools=None)
        for key_id in (f"key{number}" for number in range(count))
    }
    body = contract.encode(contract.TenantSnapshot(tenant="acme", slug="acme", schema="acme", version=3, keys=keys))

    found = contract.decode(body).keys

    assert {key_id: found[key_id] for key_id in keys} == keys
    assert found == keys
    assert len(found) == count
    assert found.get("stranger") is None


@pytest.mark.parametrize(
    "spoil", [lambda body: body[:0], lambda body: body[:-1], lambda body: b"GHS9" + body[4:], lambda body: body[:50] + b"!" + body[51:]]
)
def test_damaged_snapshot_is_noticed(spoil) -> None:  # type: ignore[no-untyped-def]
    body = contract.encode(contract.TenantSnapshot(tenant="acme", slug="acme", schema="acme", version=3))

    with pytest.raises(contract.SnapshotError):
        contract.decode(spoil(body))


@pytest.mark.parametrize("address", [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "240.0.0.1", "::1", "::",
    "fe80::1", "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "ff02::1",
])  # fmt: skip
def test_inner_addresses_are_refused_unless_opened(address: str) -> None:
    with pytest.raises(OutboundError):
        check_address("models.example", address, NOBODY)

    check_address("models.example", address, AllowList.parse([address]))
    check_address("models.example", address, AllowList.parse(["models.example"]))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111"])
def test_public_addresses_are_open(address: str) -> None:
    check_address("models.example", address, NOBODY)


@pytest.mark.parametrize("url", [
    "http://models.example/v1", "https://models.example:8443/v1", "ftp://models.example", "https://", "models.example", "https://u:p@models.example",
    "https://127.0.0.1/v1", "https://[::1]/v1", "https://models.example:99999/", "file:///etc/passwd",
    "https://１２７.0.0.1/", "https://bücher.example/",
])  # fmt: skip
def test_urls_that_may_not_be_called(url: str) -> None:
    with pytest.raises(OutboundError):
        check_url(url, NOBODY)


def test_opened_host_may_use_any_port_and_plain_http() -> None:
    check_url("http://models.internal:8080/v1", AllowList.parse(["models.internal"]))
    check_url("https://models.example/v1", NOBODY)


async def test_guarded_clients_connect_nowhere_inside() -> None:
    async with httpx2.AsyncClient(transport=GuardedAsyncTransport(NOBODY), trust_env=False) as client:
        with pytest.raises(OutboundError):
            await client.get("https://localhost/")
    with httpx2.Client(transport=GuardedTransport(NOBODY), trust_env=False) as client_, pytest.raises(OutboundError):
        client_.get("https://localhost/")


GOOD = {**bootstrap.SECRETS, "DATABASE_URL": "postgresql://u:p@127.0.0.1/d", "DATA_DIR": "/tmp/x", "OUTBOUND_ALLOW": "127.0.0.1, inner"}


def test_settings_are_read_and_typed(tmp_path: Path) -> None:
    pepper = tmp_path / "pepper"
    pepper.write_text("p" * 32 + "\n")

    settings = read({**GOOD, "KEY_PEPPER": "", "KEY_PEPPER_FILE": str(pepper)})

    assert settings.key_pepper == b"p" * 32
    assert settings.outbound_allow.has_host("inner")


@pytest.mark.parametrize(("name", "value"), [
    ("KEY_PEPPER", ""), ("KEY_PEPPER", "short"), ("SEALING_KEYS", ""), ("SEALING_KEYS", "not-fernet"), ("DATABASE_URL", ""), ("DATABASE_URL", "mysql://x"),
    ("KEY_PEPPER_FILE", "/nowhere"),
])  # fmt: skip
def test_wrong_setting_stops_the_start_with_a_sentence(name: str, value: str) -> None:
    given = {**GOOD, name: value}
    if name.endswith("_FILE"):
        given["KEY_PEPPER"] = ""

    with pytest.raises(SettingsError, match=name):
        read(given)
