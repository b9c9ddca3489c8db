"""From screening to wind-down, with the flag that the gateway serves as the judge of who is exposed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from django_tenants.utils import schema_context

from gateway.contract.flags import decide
from gateway.publish import publisher
from governance.models import AuditEntry, Consent, Effect, Notice, Tenant, User
from governance.schema import enter_public
from governance.services import consent
from rollouts import cohort_rules as rules
from rollouts import cohort_selectors as selectors
from rollouts import errors
from rollouts.models import Cohort, CohortMember, FlagChange
from rollouts.services import cohort_endings, cohort_exposure, cohorts
from tests.factories import cohorts as make
from tests.factories import costs

State = CohortMember.State


@pytest.fixture
def otto(db: None) -> User:
    return make.second_operator()


@pytest.fixture
def cohort(acme: Tenant, olga: User) -> Cohort:
    """The test goes on in the public schema."""
    enter_public()
    return make.make_cohort(olga)


def served(tenant: Tenant, cohort: Cohort) -> str:
    """The variant that programs of the organisation get by the snapshot that the gateway is given."""
    with schema_context(tenant.schema_name):
        snapshot = publisher.compile_snapshot(Tenant.objects.get(pk=tenant.pk), 1)
    flag = snapshot.flags[cohort.flag.key]
    return decide(flag, snapshot.facts, snapshot.consents[flag.feature_class].granted).variant


def member_of(cohort: Cohort, tenant: Tenant) -> CohortMember:
    return selectors.members_of(cohort).get(tenant=tenant)


def events_of(tenant: Tenant) -> list[str]:
    with schema_context(tenant.schema_name):
        return list(AuditEntry.objects.filter(event__startswith="cohort.").order_by("sequence").values_list("event", flat=True))


def test_screening_keeps_the_figures_and_asks_who_calls_most(acme: Tenant, globex: Tenant, cohort: Cohort, olga: User) -> None:
    with schema_context(acme.schema_name):
        make.make_usage(28 * 50)
        make.make_usage(28 * 1_000, days_ago=40)  # before the four weeks
        make.make_usage(28 * 1_000, outcome="refused")

    make.screen(acme, globex)
    asked = cohorts.invite(cohort=cohort, actor=olga)

    assert [member.tenant for member in asked] == [acme]
    assert asked[0].outcomes == [rules.Outcome("calls_per_day >= 1", 50.0, "pass")]
    unknown = member_of(cohort, globex)
    assert (unknown.state, unknown.verdict, unknown.outcomes[0].figure) == (State.CANDIDATE, "no_data", None)
    with pytest.raises(errors.CohortFullError):
        cohorts.invite(cohort=cohort, actor=olga)
    with schema_context(acme.schema_name):
        assert Notice.objects.filter(topic="cohort.invited", path="release/cohorts/").exists()
    assert events_of(acme) == ["cohort.invited"]


def test_later_screening_leaves_the_evidence_of_the_invitation(acme: Tenant, cohort: Cohort, olga: User) -> None:
    with schema_context(acme.schema_name):
        usage = make.make_usage(2800)
    make.screen(acme)
    cohorts.invite(cohort=cohort, actor=olga)
    with schema_context(acme.schema_name):
        usage.delete()

    make.screen(acme)

    assert member_of(cohort, acme).outcomes[0].figure == 100.0


def test_exposure_needs_the_organisations_word_two_operators_and_consent(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User, rita: User, sam: User
) -> None:
    make.enrol(cohort, acme, operator=olga, person=rita)
    assert served(acme, cohort) == "off"  # enrolled is not exposed

    change = cohort_exposure.propose_activation(cohort=cohort, reason="The pilot begins", actor=olga)
    with pytest.raises(errors.SelfApprovalError):
        cohort_exposure.decide(change=change, approve=True, actor=olga)
    assert served(acme, cohort) == "off"
    cohort_exposure.decide(change=change, approve=True, actor=otto)

    assert [served(acme, cohort), served(globex, cohort)] == ["on", "off"]
    assert member_of(cohort, acme).state == State.ACTIVE
    assert Effect.objects.filter(tenant=acme, what="Active: Design partners").exists()
    with schema_context(acme.schema_name):
        consent.set_consent(feature_class="assistants", state=Consent.State.WITHDRAWN, actor=sam)
        standing = selectors.standings(acme)[0]
    assert served(acme, cohort) == "off"
    assert (standing.is_entitled, standing.has_consent, standing.decision.rule) == (True, False, "consent")
    assert events_of(acme) == ["cohort.invited", "cohort.accepted", "cohort.activated"]


def test_invitation_is_answered_once_in_time_and_while_there_are_places(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, rita: User, charlie: User
) -> None:
    with schema_context(acme.schema_name):
        make.make_usage(2800)
    make.screen(acme)
    member = cohorts.invite(cohort=cohort, actor=olga)[0]
    make.enrol(cohort, globex, operator=olga, person=charlie)  # an override takes the only place

    with pytest.raises(errors.CohortFullError):
        cohorts.answer(member=member, accept=True, actor=rita)
    assert cohort_endings.end_due(at=timezone.now() + timedelta(days=15)) == 1
    assert member_of(cohort, acme).reason == "Nobody answered in time."
    with pytest.raises(errors.CohortStateError):
        cohorts.answer(member=member, accept=False, actor=rita)
    with pytest.raises(errors.EvidenceMissingError):
        cohorts.invite_in_spite(cohort=cohort, tenant=acme, reason=" ", actor=olga)


def test_wind_down_is_announced_and_ends_after_fourteen_days(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User, rita: User, charlie: User
) -> None:
    make.enrol(cohort, acme, operator=olga, person=rita)
    make.activate(cohort, operator=olga, other=otto)
    make.enrol(cohort, globex, operator=olga, person=charlie)
    waiting = cohort_exposure.propose_activation(cohort=cohort, reason="Second wave", actor=olga)
    now = timezone.now()

    cohort_endings.wind_down(cohort=cohort, tenants=None, reason="The preview is over.", actor=olga, at=now)

    assert [member_of(cohort, each).state for each in (acme, globex)] == [State.WINDING_DOWN, State.LEFT]
    with schema_context(acme.schema_name):
        assert Notice.objects.get(topic="cohort.wind_down").severity == "warning"
    assert selectors.ending(acme) == member_of(cohort, acme)
    assert cohort_endings.end_due(at=now + timedelta(days=13, hours=23)) == 0
    assert served(acme, cohort) == "on"

    assert cohort_endings.end_due(at=now + timedelta(days=14)) == 1

    assert served(acme, cohort) == "off"
    assert not selectors.fresh_flag(cohort.flag).exposure.on  # no line left would mean everybody
    waiting.refresh_from_db()
    assert waiting.status == FlagChange.Status.OVERTAKEN
    assert member_of(cohort, acme).state == State.LEFT
    with pytest.raises(errors.CohortStateError):
        cohorts.invite(cohort=cohort, actor=olga)


def test_organisation_leaves_at_once_and_the_others_stay(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User, rita: User, charlie: User
) -> None:
    for tenant, person in ((acme, rita), (globex, charlie)):
        make.enrol(cohort, tenant, operator=olga, person=person)
    make.activate(cohort, operator=olga, other=otto)

    cohort_endings.leave(member=member_of(cohort, acme), actor=rita)

    assert [served(acme, cohort), served(globex, cohort)] == ["off", "on"]
    newest = selectors.changes_of(cohort)[0]
    assert (newest.status, newest.is_emergency, newest.review_due_at, newest.proposed_by) == ("applied", False, None, rita)


def test_change_that_waits_exposes_nobody_who_left_meanwhile(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User, rita: User, charlie: User
) -> None:
    for tenant, person in ((acme, rita), (globex, charlie)):
        make.enrol(cohort, tenant, operator=olga, person=person)
    change = cohort_exposure.propose_activation(cohort=cohort, reason="The pilot begins", actor=olga)
    cohort_endings.leave(member=member_of(cohort, acme), actor=rita)

    with pytest.raises(errors.ChangeStaleError, match="acme"):
        cohort_exposure.decide(change=change, approve=True, actor=otto)

    assert [served(acme, cohort), served(globex, cohort)] == ["off", "off"]
    cohort_exposure.decide(change=change, approve=False, actor=otto, comment="Acme left")
    make.activate(cohort, operator=olga, other=otto)
    make.enrol(cohort, acme, operator=olga, person=rita)
    member = member_of(cohort, acme)
    assert (member.state, member.activated_at, member.first_call_at, member.days_with_calls) == (State.ENROLLED, None, None, [])


def test_switching_off_takes_everybody_back_and_they_stay_enrolled(
    acme: Tenant, cohort: Cohort, olga: User, otto: User, rita: User
) -> None:
    make.enrol(cohort, acme, operator=olga, person=rita)
    make.activate(cohort, operator=olga, other=otto)

    change = cohort_exposure.switch_off(flag=cohort.flag, reason="Answers in the wrong language", actor=olga)

    assert change.awaits_review
    assert served(acme, cohort) == "off"
    assert member_of(cohort, acme).state == State.ENROLLED
    make.activate(cohort, operator=olga, other=otto)
    assert served(acme, cohort) == "on"


def test_ramp_opens_tier_by_tier_after_a_week_each(
    acme: Tenant, globex: Tenant, cohort: Cohort, olga: User, otto: User, rita: User
) -> None:
    start = timezone.now() - timedelta(days=20)
    make.enrol(cohort, acme, operator=olga, person=rita, at=start)
    with pytest.raises(errors.StageTooEarlyError):
        cohort_exposure.open_stage(flag=cohort.flag, stage="tier-free", reason="Too soon", actor=olga)
    make.activate(cohort, operator=olga, other=otto, at=start)

    def open_at(stage: str, days: int) -> None:
        at = start + timedelta(days=days)
        change = cohort_exposure.open_stage(flag=cohort.flag, stage=stage, reason="A week within the objectives", actor=olga, at=at)
        cohort_exposure.decide(change=change, approve=True, actor=otto, at=at)

    open_at("tier-free", 7)

    assert [served(acme, cohort), served(globex, cohort)] == ["on", "on"]  # globex is free
    with pytest.raises(errors.StageTooEarlyError):
        open_at("tier-starter", 13)
    with pytest.raises(errors.StageTooEarlyError):
        open_at("tier-pro", 14)
    open_at("tier-starter", 14)
    held = {rung.stage.key: rung.has_held for rung in selectors.ladder(selectors.fresh_flag(cohort.flag), at=timezone.now())}
    assert (held["canary"], held["tier-free"], held["tier-starter"], held["general"]) == (True, True, False, False)
    for weeks, tier in enumerate(("pro", "business", "enterprise"), start=3):
        open_at(f"tier-{tier}", 7 * weeks)
    open_at("general", 42)
    assert [served(acme, cohort), served(globex, cohort)] == ["on", "on"]
    assert member_of(cohort, acme).state == State.ACTIVE  # who is exposed with everybody is not taken back


def test_first_governed_call_after_enrolment_and_days_with_calls_are_kept(acme: Tenant, cohort: Cohort, olga: User, rita: User) -> None:
    now = timezone.now()
    make.enrol(cohort, acme, operator=olga, person=rita, at=now - timedelta(days=3))
    first = now - timedelta(days=1)
    with schema_context(acme.schema_name):
        costs.record(
            acme, costs.call(acme, started_at=now - timedelta(days=9)), costs.call(acme, started_at=first - timedelta(hours=9), status="refused"),
            costs.call(acme, started_at=first), costs.call(acme, started_at=now),
        )  # fmt: skip

    make.screen(acme)
    make.screen(acme)

    member = member_of(cohort, acme)
    assert (member.first_call_at, member.days_with_calls) == (first, [first.date(), now.date()])
