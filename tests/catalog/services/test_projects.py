from __future__ import annotations

from decimal import Decimal

import pytest

from catalog.errors import NameTakenError
from catalog.services import projects
from governance.models import AuditEntry, Tenant, User
from tests.factories.catalog import make_project


def test_project_is_made_with_its_limits_in_the_log(acme: Tenant, alice: User) -> None:
    project = projects.create_project(
        slug="checkout", name="Checkout", owner=alice, actor=alice, cost_centre="4711", monthly_budget_usd=Decimal("50.00")
    )

    assert project.is_enabled
    assert AuditEntry.objects.get(event="project.created").details["monthly_budget_usd"] == "50.00"


def test_slug_is_used_once(acme: Tenant, alice: User) -> None:
    make_project(owner=alice, slug="checkout")

    with pytest.raises(NameTakenError):
        projects.create_project(slug="checkout", name="Another", owner=alice, actor=alice)


def test_change_says_before_and_after(acme: Tenant, alice: User) -> None:
    project = make_project(owner=alice, name="Old")

    projects.change_project(project=project, name="New", actor=alice, requests_per_minute=60)

    details = AuditEntry.objects.get(event="project.changed").details
    assert (details["before"]["name"], details["after"]["name"], details["after"]["requests_per_minute"]) == ("Old", "New", 60)


def test_switching_off_is_told_to_the_gateway_once(acme: Tenant, alice: User) -> None:
    project = make_project(owner=alice)
    before = Tenant.objects.get(pk=acme.pk).config_version

    for _ in range(2):
        project = projects.switch_project(project=project, enabled=False, actor=alice, reason="incident")

    assert not project.is_enabled
    assert Tenant.objects.get(pk=acme.pk).config_version == before + 1
    assert AuditEntry.objects.get(event="project.switched_off").details["reason"] == "incident"
