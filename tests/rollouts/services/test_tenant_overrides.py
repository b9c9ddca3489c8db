"""One organisation on or off by an operator's word, with the flag that the gateway serves as the judge of what it gets."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_tenants.utils import schema_context

from governance.models import AuditEntry, Consent, Notice, Tenant, User
from governance.schema import enter_public
from governance.services import consent, tenant_data, tenants
from rollouts import cohort_selectors as selectors
from rollouts import errors, exposure
from rollouts.models import Cohort, Flag, FlagChange, TenantOverride
from rollouts.services import cohort_endings, cohort_exposure, flag_changes, tenant_overrides
from tests.conftest import ClientFor, TenantClient
from tests.factories import cohorts as make
from tests.rollouts.services.test_cohorts import served


@pytest.fixture
def otto(db: None) -> User:
    return make.second_operator()


@pytest.fixture
def cohort(acme: Tenant, globex: Tenant, olga: User, otto: User) -> Cohort:
    """Staff organisations have the flag, so acme and globex have not. The test goes on in the public schema."""
    enter_public()
    cohort = make.make_cohort(olga)
    change = cohort_exposure.open_stage(flag=cohort.flag, stage="dogfood", reason="We use it", actor=olga)
    cohort_exposure.decide(change=change, approve=True, actor=otto)
    return cohort


def give(cohort: Cohort, tenant: Tenant, actor: User, variant: str = "on", days: int = 14) -> TenantOverride:
    until = timezone.now() + timedelta(days=days)
    return tenant_overrides.set_override(flag=cohort.flag, tenant=tenant, variant=variant, reason="A flagship", until=until, actor=actor)


def agree(change: FlagChange | None, actor: User) -> None:
    assert change is not None
    cohort_exposure.decide(change=change, approve=True, actor=actor)


def test_on_takes_two_operators_and_stays_within_the_consent(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User, alice: User
) -> None:
    override = give(cohort, acme, olga)
    assert (override.state_words, served(acme, cohort)) == ("Waits for another operator", "off")
    with pytest.raises(errors.SelfApprovalError):
        agree(override.change, olga)

    agree(override.change, otto)

    override.refresh_from_db()
    assert (override.state_words, served(acme, cohort), served(globex, cohort)) == ("In force", "on", "off")
    found = selectors.who_gets(cohort, "acme")
    assert found is not None
    assert (found[1].decision.rule, found[1].decision.detail) == ("grant", "A grant gives on to tenant acme.")
    with schema_context(acme.schema_name):
        assert Notice.objects.filter(topic="flag.tenant_override_applied").exists()
        assert AuditEntry.objects.filter(event="flag.tenant_override_applied").exists()
        consent.set_consent(feature_class="assistants", state=Consent.State.WITHDRAWN, actor=alice)
    assert served(acme, cohort) == "off"  # a grant is no consent
    enter_public()
    with pytest.raises(errors.ExposureInvalidError, match="stands"):
        give(cohort, acme, otto)


def test_off_holds_at_once_against_every_stage_and_its_end_takes_two(acme: Tenant, cohort: Cohort, olga: User, otto: User) -> None:
    opened = flag_changes.propose_change(
        flag=cohort.flag, exposure=exposure.changed(selectors.flag_of(cohort).exposure, cohorts=()), reason="GA", actor=olga
    )  # fmt: skip
    agree(opened, otto)
    assert served(acme, cohort) == "on"

    override = give(cohort, acme, olga, "off")

    assert (override.state_words, served(acme, cohort), override.change.awaits_review) == ("In force", "off", True)
    ended = tenant_overrides.end_override(override=override, reason="Mended", actor=olga)
    assert (ended.state_words, served(acme, cohort)) == ("In force, its end waits for another operator", "off")
    with pytest.raises(errors.ChangeDecidedError):
        tenant_overrides.end_override(override=override, reason="Again", actor=otto)
    agree(ended.ending, otto)
    ended.refresh_from_db()
    assert (ended.state_words, served(acme, cohort)) == ("Ended", "on")


def test_what_is_over_ends_by_itself_and_what_protects_waits_for_somebody(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User
) -> None:
    on, off = give(cohort, acme, olga, days=2), None
    agree(on.change, otto)
    off = give(cohort, globex, olga, "off", days=2)

    assert tenant_overrides.end_due(at=timezone.now() + timedelta(days=1)) == 0
    later = timezone.now() + timedelta(days=3)
    assert tenant_overrides.end_due(at=later) == 2
    assert tenant_overrides.end_due(at=later) == 0

    on.refresh_from_db()
    off.refresh_from_db()
    assert (on.state_words, served(acme, cohort)) == ("Ended", "off")
    assert off.state_words == "In force, its end waits for another operator"
    assert off.ending is not None
    assert off.ending.proposed_by == olga
    cohort_exposure.decide(change=off.ending, approve=False, comment="Not mended", actor=otto)
    assert tenant_overrides.end_due(at=later) == 0  # who declined it is not asked again, and the flag is free
    off.refresh_from_db()
    assert off.state_words == "In force, its end was declined"
    longer = give(cohort, globex, otto, "off", days=30)
    assert (longer.pk, longer.state_words, longer.until > later, served(globex, cohort)) == (off.pk, "In force", True, "off")
    with pytest.raises(errors.ExposureInvalidError, match="stands"):
        give(cohort, globex, otto, "off", days=20)


def test_deleted_organisation_keeps_no_grant_and_nobody_else_from_their_end(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User
) -> None:
    broken = make.make_cohort(olga, slug="others", flag_key="ai.agents.preview-2")
    agree(cohort_exposure.open_stage(flag=broken.flag, stage="dogfood", reason="We use it", actor=olga), otto)
    agree(give(broken, globex, olga, days=1).change, otto)
    Flag.objects.filter(pk=broken.flag_id).update(current=None)
    for tenant in (acme, globex):
        agree(give(cohort, tenant, olga, days=1).change, otto)
    tenants.suspend_tenant(tenant=acme, actor=olga, reason="The contract ended")

    tenant_data.delete_tenant(tenant=acme, actor=olga, reason="The contract ended", confirm="acme")

    assert not TenantOverride.objects.filter(tenant=acme).exists()
    assert exposure.override_lines(selectors.flag_of(cohort).exposure.grants) == ["tenant = globex -> on"]
    assert tenant_overrides.end_due(at=timezone.now() + timedelta(days=2)) == 1  # whatever breaks at the one before
    assert selectors.flag_of(cohort).exposure.grants == ()


def test_what_waits_too_long_or_is_declined_never_comes(acme: Tenant, cohort: Cohort, olga: User, otto: User) -> None:
    late = give(cohort, acme, olga, days=1)
    with pytest.raises(errors.ChangeStaleError):
        cohort_exposure.decide(change=late.change, approve=True, actor=otto, at=timezone.now() + timedelta(days=2))
    tenant_overrides.end_due(at=timezone.now() + timedelta(days=2))
    late.refresh_from_db()
    assert (late.state_words, late.change.status) == ("Not agreed to", FlagChange.Status.OVERTAKEN)

    declined = give(cohort, acme, olga)
    cohort_exposure.decide(change=declined.change, approve=False, comment="Not yet", actor=otto)
    declined.refresh_from_db()
    assert declined.state_words == "Not agreed to"
    withdrawn = tenant_overrides.end_override(override=give(cohort, acme, olga), reason="Wrong one", actor=olga)
    assert withdrawn.state_words == "Not agreed to"


def test_organisation_that_leaves_keeps_nothing_by_grant(acme: Tenant, cohort: Cohort, olga: User, otto: User, rita: User) -> None:
    member = make.enrol(cohort, acme, operator=olga, person=rita)
    override = give(cohort, acme, olga)
    agree(override.change, otto)

    cohort_endings.leave(member=member, actor=rita)

    override.refresh_from_db()
    assert (override.state_words, served(acme, cohort)) == ("Ended", "off")


def test_terms_are_checked(acme: Tenant, cohort: Cohort, olga: User) -> None:
    with pytest.raises(errors.ExposureInvalidError, match="90 days"):
        give(cohort, acme, olga, days=91)
    with pytest.raises(errors.ExposureInvalidError, match="no variant blue"):
        give(cohort, acme, olga, "blue")
    with CaptureQueriesContext(connection) as asked:
        waits = give(cohort, acme, olga)
    first = next(query["sql"] for query in asked if '"rollouts_flag"' in query["sql"])
    assert "FOR UPDATE" in first  # the new exposure is worked out from what nobody else changes meanwhile
    cohort_exposure.switch_off(flag=cohort.flag, reason="All stop", actor=olga)
    waits.refresh_from_db()
    assert waits.state_words == "Not agreed to"
    with pytest.raises(errors.ExposureInvalidError, match="off for everybody"):
        give(cohort, acme, olga)


def test_operator_does_it_by_page_and_api(
    acme: Tenant, cohort: Cohort, olga: User, otto: User, client_for: ClientFor, platform_api: TenantClient
) -> None:
    url, api, path = "/platform/cohorts/partners/", platform_api, "/api/v1/platform/cohorts/partners/"
    client_for(olga).post(f"{url}overrides/", {"tenant": "acme", "variant": "on", "days": "7", "reason": "A flagship"})
    page = client_for(otto).get(f"{url}?who=acme").content.decode()
    for said in ("Waits for another operator", "A flagship", "Grant: passed", "Under change 2", "Grants"):
        assert said in page
    assert "no organisation with this address" in client_for(otto).get(f"{url}?who=nobody").content.decode()
    client_for(otto).post(f"{url}changes/2/decide/", {"decision": "approve"})

    [row] = api.get(f"{path}overrides/").json()["results"]
    who = api.get(f"{path}who/?tenant=acme").json()
    assert (row["tenant"], row["state"], who["variant"], who["rule"]) == ("acme", "In force", "on", "grant")
    wrong = api.post(f"{path}overrides/", {"tenant": "nobody", "variant": "on", "reason": "?", "until": row["until"]})
    assert wrong.json()["code"] == "cohort_invalid"
    ended = api.post(f"{path}overrides/{row['id']}/end/", {"reason": "Enough"}).json()
    assert ended["state"] == "Ended"
    client_for(otto).post(f"{url}overrides/{row['id']}/end/", {"reason": "Again"})
