"""`manage.py tenant`, from making one to forgetting it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from governance.models import Membership, Tenant, User


def tenant(*arguments: str) -> str:
    out = io.StringIO()
    call_command("tenant", "--operator", "olga@example.com", *arguments, stdout=out)
    return out.getvalue()


def test_a_tenant_is_made_exported_and_forgotten(olga: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Long-enough-phrase-1\n"))

    assert "/o/initech/" in tenant("create", "initech", "--name", "Initech", "--owner-email", "peter@initech.example")
    assert Membership.objects.get(tenant__slug="initech").user.check_password("Long-enough-phrase-1")
    tenant("export", "initech", "--out", str(tmp_path / "initech.zip"))
    assert "tenant.json" in zipfile.ZipFile(tmp_path / "initech.zip").namelist()
    tenant("suspend", "initech", "--reason", "gone")
    tenant("delete", "initech", "--reason", "gone", "--confirm", "initech")
    assert not Tenant.objects.filter(slug="initech").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("create", "Not a slug", "--name", "X", "--owner-email", "bob@example.com"), "slug: Use 3 to 32"),
        (("create", "acme", "--name", "X", "--owner-email", "bob@example.com"), "in use"),
        (("suspend", "nobody", "--reason", "x"), "There is no tenant nobody"),
        (("delete", "globex", "--reason", "x", "--confirm", "globex"), "Suspend the tenant first"),
    ],
)
def test_what_cannot_be_done_is_said(olga: User, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words):
        tenant(*arguments)


def test_only_an_operator_may(bob: User) -> None:
    with pytest.raises(CommandError, match="is no operator"):
        call_command("tenant", "--operator", "bob@example.com", "suspend", "acme", "--reason", "x")
