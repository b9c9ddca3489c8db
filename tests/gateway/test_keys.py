from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from gateway.contract import keys
from gateway.contract.detectors import SECRETS

PEPPER = b"a pepper for tests only, 32 bytes"


def test_key_is_found_again_by_its_parts() -> None:
    text = keys.generate("ghk", "acme01", "k2345678")

    parsed = keys.parse(text)

    assert parsed == ("ghk", "acme01", "k2345678")
    assert keys.matches(text, keys.digest(text, PEPPER), PEPPER)
    assert not keys.matches(text, keys.digest(text, b"another pepper"), PEPPER)


def test_published_patterns_find_keys_and_tokens_of_every_kind() -> None:
    patterns = re.findall(r"`(gh[^`]*_\[a-z0-9\][^`]+)`", (Path(__file__).parents[2] / "docs/catalog.md").read_text())
    given = [
        keys.generate("ghk", "acme01", "k2345678"),
        keys.generate("ght", "platform", keys.new_id()),
        keys.session_token("acme01", "k2345678", int(time.time()) + 3600, PEPPER),
    ]

    found = re.findall("|".join(patterns), f"Bearer {given[0]}' … TOKEN={given[1]}\n ghk_acme01_short … {given[2]}.")

    assert found == given
    assert all(pattern in (keys.__doc__ or "") for pattern in patterns)


def test_no_prefix_is_another_vendors() -> None:
    given = [keys.generate("ghk", "acme01", "k2345678"), keys.session_token("acme01", "k2345678", 0x65000000, PEPPER)]

    assert not any(re.match("gh[opsur]_", text) for text in given)  # GitHub's
    assert all(SECRETS["gatehouse_key"][1].fullmatch(text) for text in given)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"),
        lambda text: text.replace("acme01", "acme02"),
        lambda text: text.replace("ghk", "ghx"),
        lambda text: text[:-2],
        lambda text: text + "_x",
        lambda text: text[:0],
        lambda text: "sk-" + text,
    ],
)
def test_mistyped_key_is_malformed(spoil) -> None:  # type: ignore[no-untyped-def]
    text = spoil(keys.generate("ghk", "acme01", "k2345678"))

    with pytest.raises(keys.MalformedKeyError):
        keys.parse(text)


@pytest.mark.parametrize("tenant", ["../../etc", "ACME01", "a", "acme.1", "a" * 17])
def test_tenant_id_that_is_no_plain_name_is_malformed(tenant: str) -> None:
    text = keys.generate("ghk", tenant, "k2345678")

    with pytest.raises(keys.MalformedKeyError):
        keys.parse(text)


def test_session_token_names_its_key_and_expiry() -> None:
    expires_at = int(time.time()) + 600

    token = keys.session_token("acme01", "k2345678", expires_at, PEPPER)

    assert keys.verify_session_token(token, PEPPER) == ("acme01", "k2345678", expires_at)


def test_session_token_for_another_key_tenant_or_time_is_refused() -> None:
    token = keys.session_token("acme01", "k2345678", 0x65000000, PEPPER)

    for forged in (
        token.replace("acme01", "acme02"),
        token.replace("k2345678", "k2345679"),
        token.replace("65000000", "75000000"),
        token[:-1] + ("a" if token[-1] != "a" else "b"),
        token.rpartition("_")[0] + "_",
    ):
        with pytest.raises(keys.MalformedKeyError):
            keys.verify_session_token(forged, PEPPER)
    with pytest.raises(keys.MalformedKeyError):
        keys.verify_session_token(token, b"another pepper")
