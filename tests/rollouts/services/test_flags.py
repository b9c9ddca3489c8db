"""Making flags and changing who is exposed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from gateway.contract import snapshot as contract
from gateway.contract.flags import BUCKETS, Exposure, Override
from gateway.publish import publisher
from governance.models import AuditEntry, Notice, Tenant, User
from governance.services import consent
from rollouts import errors, flag_selectors
from rollouts import exposure as rules
from rollouts.models import Flag, FlagChange, Rollout
from rollouts.services import flag_changes, flags, rollouts
from tests.factories.rollouts import make_flag


@pytest.fixture
def flag(acme: Tenant, rita: User) -> Flag:
    return make_flag(rita)


def at_share(flag: Flag, percentage: int, **fields: Any) -> Exposure:
    return rules.changed(flag.exposure, on=True, percentage=percentage, **fields)


def propose(flag: Flag, actor: User, percentage: int = 10_000, **fields: Any) -> FlagChange:
    flag.refresh_from_db()
    return flag_changes.propose_change(flag=flag, exposure=at_share(flag, percentage), reason="First tenth", actor=actor, **fields)


def exposed_at(flag: Flag, percentage: int, one: User, other: User) -> Flag:
    flag_changes.approve_change(change=propose(flag, one, percentage), actor=other)
    flag.refresh_from_db()
    return flag


def version_of(tenant: Tenant) -> int:
    tenant.refresh_from_db()
    return tenant.config_version


def test_new_flag_is_off_and_its_treatments_share_equally(acme: Tenant, rita: User) -> None:
    before = version_of(acme)

    flag = make_flag(rita, kind="string", variants={"old": "a", "new": "b", "newer": "c", "newest": "d"}, control="old")

    assert not flag.exposure.on
    assert list(rules.weights_of(flag.exposure.ranges).values()) == [33_334, 33_333, 33_333]
    assert flag.rollout_salt != flag.variant_salt
    assert version_of(acme) == before + 1
    entry = AuditEntry.objects.get(event="flag.created")
    assert (entry.actor, entry.target_name) == (rita, flag.key)


@pytest.mark.parametrize("key", ["search.rerank", "ai.search", "ai.Search.one", "ai.search.one.two", "ai..one", "ai.search.-one"])
def test_key_names_feature_and_change(acme: Tenant, rita: User, key: str) -> None:
    with pytest.raises(errors.ExposureInvalidError) as refused:
        make_flag(rita, key=key)

    assert refused.value.field == "key"


def test_keys_are_never_used_again(flag: Flag, rita: User) -> None:
    flags.archive_flag(flag=flag, actor=rita)

    with pytest.raises(errors.FlagKeyTakenError):
        make_flag(rita)


def test_flag_that_binds_a_model_names_registered_models(acme: Tenant, rita: User) -> None:
    with pytest.raises(errors.ExposureInvalidError, match="no model nowhere"):
        make_flag(rita, kind="string", variants={"off": "nowhere", "on": "there"}, model="chat")
    with pytest.raises(errors.ExposureInvalidError, match="type string"):
        make_flag(rita, model="chat")


def test_raising_waits_for_a_second_person(flag: Flag, rita: User, adam: User) -> None:
    change = propose(flag, rita)

    flag.refresh_from_db()
    assert (change.status, flag.exposure.on) == ("proposed", False)
    assert change.raises == ["Switches the flag on"]
    assert Notice.objects.get(topic="flag.change_proposed").path == f"release/flags/{flag.key}/"

    change = flag_changes.approve_change(change=change, actor=adam, comment="Fine")

    flag.refresh_from_db()
    assert flag.current is not None
    assert (flag.current.number, flag.exposure.percentage, change.version) == (2, 10_000, flag.current)
    entry = AuditEntry.objects.get(event="flag.change_applied")
    assert entry.actor == adam
    assert entry.details["changes"] == {"Switch": ["off", "on"], "Percentage": ["0%", "10%"]}


def test_nobody_approves_their_own_change(flag: Flag, rita: User) -> None:
    change = propose(flag, rita)

    with pytest.raises(errors.SelfApprovalError):
        flag_changes.approve_change(change=change, actor=rita)
    with pytest.raises(IntegrityError, match="four_eyes"), transaction.atomic():
        FlagChange.objects.filter(pk=change.pk).update(status="applied", decided_by=rita)


def test_lowering_is_applied_at_once(flag: Flag, rita: User, adam: User, acme: Tenant) -> None:
    exposed_at(flag, 10_000, rita, adam)
    before = version_of(acme)

    change = propose(flag, rita, 5_000)

    assert (change.status, change.decided_by, change.raises) == ("applied", None, [])
    assert version_of(acme) == before + 1


def test_policy_may_want_two_people_for_every_change(acme: Tenant, rita: User, adam: User) -> None:
    flag = exposed_at(make_flag(rita, policy="every"), 10_000, rita, adam)

    assert propose(flag, rita, 5_000).status == "proposed"


def test_one_change_waits_at_a_time(flag: Flag, rita: User, adam: User) -> None:
    propose(flag, rita)

    with pytest.raises(errors.ChangePendingError):
        propose(flag, adam, 20_000)


def test_change_is_decided_once(flag: Flag, rita: User, adam: User, sam: User) -> None:
    change = propose(flag, rita)
    flag_changes.reject_change(change=change, actor=adam, comment="Too soon")

    with pytest.raises(errors.ChangeDecidedError):
        flag_changes.approve_change(change=change, actor=sam)
    with pytest.raises(errors.ChangeDecidedError):
        flag_changes.reject_change(change=change, actor=sam, comment="No")


def test_declining_needs_a_reason_and_taking_back_does_not(flag: Flag, rita: User, adam: User) -> None:
    change = propose(flag, rita)

    with pytest.raises(errors.EvidenceMissingError):
        flag_changes.reject_change(change=change, actor=adam, comment=" ")
    assert flag_changes.reject_change(change=change, actor=rita, comment="").status == "rejected"


def test_override_takes_the_same_road(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 0, rita, adam)
    flag.refresh_from_db()
    one = (Override(attribute="user", values=("ana",), variant="on"),)

    change = flag_changes.propose_change(flag=flag, exposure=rules.changed(flag.exposure, overrides=one), reason="Ana tests", actor=rita)

    assert change.status == "proposed"


def test_nothing_that_holds_already_is_proposed(flag: Flag, rita: User) -> None:
    with pytest.raises(errors.NothingChangesError):
        flag_changes.propose_change(flag=flag, exposure=flag.exposure, reason="Why not", actor=rita)


def test_emergency_needs_one_person_and_a_later_review(flag: Flag, rita: User, adam: User, acme: Tenant) -> None:
    exposed_at(flag, 10_000, rita, adam)
    waiting = propose(flag, rita, 50_000)
    before, now = version_of(acme), timezone.now()

    change = flag_changes.lower_in_emergency(
        flag=flag, exposure=rules.changed(flag.exposure, on=False), reason="Wrong answers", actor=rita, at=now
    )

    flag.refresh_from_db()
    waiting.refresh_from_db()
    assert (change.status, flag.exposure.on, waiting.status) == ("applied", False, "overtaken")
    assert change.review_due_at == now + timedelta(hours=24)
    assert version_of(acme) == before + 1
    assert Notice.objects.get(topic="flag.lowered").severity == "critical"
    assert [entry.event for entry in AuditEntry.objects.order_by("-sequence")[:2]] == ["flag.change_applied", "flag.lowered"]

    with pytest.raises(errors.SelfApprovalError):
        flag_changes.review_lowering(change=change, actor=rita, comment="I was right")
    reviewed = flag_changes.review_lowering(change=change, actor=adam, comment="Rightly so")

    assert (reviewed.awaits_review, reviewed.reviewed_by) == (False, adam)
    with pytest.raises(errors.ChangeDecidedError):
        flag_changes.review_lowering(change=change, actor=adam, comment="Again")


def test_emergency_never_raises(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 10_000, rita, adam)

    with pytest.raises(errors.RaisesExposureError, match="percentage from 10% to 11%"):
        flag_changes.lower_in_emergency(flag=flag, exposure=at_share(flag, 11_000), reason="More!", actor=rita)


def test_approval_holds_only_for_what_the_proposer_saw(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 10_000, rita, adam)
    change = propose(flag, rita, 50_000)
    assert flag.current is not None
    FlagChange.objects.filter(pk=change.pk).update(base=flag.versions.get(number=1))

    with pytest.raises(errors.ChangeStaleError):
        flag_changes.approve_change(change=change, actor=adam)


def test_change_worked_out_from_an_older_version_is_refused(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 10_000, rita, adam)

    with pytest.raises(errors.ChangeStaleError, match="version 2 by now"):
        propose(flag, rita, 5_000, seen_version=1)


def test_stage_must_have_begun(acme: Tenant, rollout: Rollout, rita: User, adam: User) -> None:
    flag = make_flag(rita, rollout=rollout)
    first, second = rollout.phases.all()
    early = propose(flag, rita, phase=second)

    with pytest.raises(errors.PhaseNotReachedError, match="Everybody"):
        flag_changes.approve_change(change=early, actor=adam)
    flag_changes.reject_change(change=early, actor=rita, comment="")
    rollouts.pause_rollout(rollout=rollout, reason="Holidays", actor=rita)
    change = propose(flag, rita, phase=first)
    with pytest.raises(errors.NotUnderWayError, match="Holidays"):
        flag_changes.approve_change(change=change, actor=adam)
    rollouts.resume_rollout(rollout=rollout, actor=rita)

    assert flag_changes.approve_change(change=change, actor=adam).status == "applied"


def test_phase_of_another_rollout_is_refused(flag: Flag, rollout: Rollout, rita: User) -> None:
    with pytest.raises(errors.ExposureInvalidError, match="no phase"):
        propose(flag, rita, phase=rollout.phases.get(position=0))


def test_only_a_flag_that_is_off_is_archived(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 0, rita, adam)

    with pytest.raises(errors.StillExposedError):
        flags.archive_flag(flag=flag, actor=rita)
    flag.refresh_from_db()
    flag_changes.lower_in_emergency(flag=flag, exposure=rules.changed(flag.exposure, on=False), reason="Over", actor=rita)
    flags.archive_flag(flag=flag, actor=rita)

    assert flag_selectors.served_flags() == []
    with pytest.raises(errors.FlagArchivedError):
        propose(flag, rita)
    assert flag_changes.review_lowering(change=flag.changes.latest("number"), actor=adam, comment="Rightly so").reviewed_by == adam


def test_new_shares_keep_whoever_can_stay(acme: Tenant, rita: User) -> None:
    flag = make_flag(rita, kind="string", variants={"old": "a", "new": "b", "newer": "c"}, control="old")

    after = rules.changed(flag.exposure, weights={"new": 25_000, "newer": 75_000})

    assert [(each.variant, each.start, each.end) for each in after.ranges] == [("new", 0, 25_000), ("newer", 25_000, BUCKETS)]


def test_preview_is_what_the_gateway_decides_and_what_the_waiting_change_would(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 0, rita, adam)
    change = propose(flag, rita, BUCKETS)

    seen = flag_selectors.preview(flag_selectors.find_flag(flag.key) or flag, {"user": "ana"}, change=change)

    assert (seen.decision.variant, seen.rule_name, seen.is_changed) == ("off", "Percentage", True)
    assert [step.outcome for step in seen.road] == ["passed"] * 6 + ["decided"]
    assert seen.proposed is not None
    assert seen.proposed.variant == "on"
    as_sent, as_named = (flag_selectors.preview(flag, {name: "ana"}, change=change).proposed for name in ("targetingKey", "user"))
    assert as_sent == as_named  # a context as programs send it


def test_preview_heeds_the_consent_of_the_moment(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, BUCKETS, rita, adam)
    assert flag_selectors.preview(flag, {}).decision.variant == "on"

    consent.set_consent(feature_class="assistants", state="withdrawn", actor=adam, reason="Not now")

    seen = flag_selectors.preview(flag, {})
    assert (seen.decision.variant, seen.decision.rule) == ("off", "consent")
    assert flag_selectors.preview(flag, {}, consent=True).decision.variant == "on"


def test_what_waits_is_counted_for_those_who_may_decide(flag: Flag, people: Any, rita: User) -> None:
    propose(flag, rita)

    assert {name: flag_selectors.due_count(getattr(people, name)) for name in ("adam", "rita", "bob")} == {"adam": 1, "rita": 0, "bob": 0}


def test_snapshot_carries_live_flags_and_what_they_may_ask_about_the_tenant(flag: Flag, acme: Tenant, rita: User, adam: User) -> None:
    exposed_at(flag, 10_000, rita, adam)
    flags.archive_flag(flag=make_flag(rita, key="ai.search.old-1"), actor=rita)

    compiled = contract.decode(contract.encode(publisher.compile_snapshot(acme, 1)))

    assert list(compiled.flags) == [flag.key]
    assert compiled.flags[flag.key].exposure == flag.exposure
    assert compiled.flags[flag.key].variants == {"off": False, "on": True}
    assert compiled.facts == {"tenant": "acme", "tier": "enterprise", "kind": "customer"}  # acme's region is not known


def test_values_of_numbers_reach_the_snapshot_as_fractions(acme: Tenant, rita: User) -> None:
    flag = make_flag(rita, kind="number", variants={"off": 1, "on": 2.5})

    assert repr(flag_selectors.compiled(Flag.objects.get(pk=flag.pk)).variants["off"]) == "1.0"


def test_rolling_back_a_phase_takes_back_what_was_exposed_for_it(acme: Tenant, rollout: Rollout, rita: User, adam: User) -> None:
    first = rollout.phases.get(position=0)
    grown, merely_kept = make_flag(rita, rollout=rollout), make_flag(rita, key="ai.search.other-1", rollout=rollout)
    exposed_at(grown, 1_000, rita, adam)
    exposed_at(merely_kept, 5_000, rita, adam)
    flag_changes.approve_change(change=propose(grown, rita, 10_000, phase=first), actor=adam)
    flag_changes.approve_change(change=propose(grown, rita, 20_000, phase=first), actor=adam)

    rollouts.roll_back(rollout=rollout, reason="Wrong answers", actor=rita)

    grown.refresh_from_db()
    merely_kept.refresh_from_db()
    assert (grown.exposure.on, grown.exposure.percentage) == (True, 1_000)
    assert merely_kept.exposure.percentage == 5_000
    last = grown.changes.latest("number")
    assert (last.is_emergency, last.awaits_review, last.reason) == (True, True, "Pilot rolled back: Wrong answers")
    assert rollout.log.filter(text__contains="ai.search.rerank-1 lowered with Pilot. Exposed: 1%").exists()


def test_rolling_back_switches_off_what_is_not_surely_lower(acme: Tenant, rollout: Rollout, rita: User, adam: User) -> None:
    flag = exposed_at(make_flag(rita, rollout=rollout), 50_000, rita, adam)
    narrower = rules.changed(flag.exposure, percentage=60_000, regions=("eu",))
    change = flag_changes.propose_change(
        flag=flag, exposure=narrower, reason="More of fewer", actor=rita, phase=rollout.phases.get(position=0)
    )
    flag_changes.approve_change(change=change, actor=adam)

    rollouts.roll_back(rollout=rollout, reason="Wrong answers", actor=rita)

    flag.refresh_from_db()
    assert not flag.exposure.on


def test_review_that_is_overdue_is_told_once(flag: Flag, rita: User, adam: User) -> None:
    exposed_at(flag, 10_000, rita, adam)
    change = flag_changes.lower_in_emergency(flag=flag, exposure=rules.changed(flag.exposure, on=False), reason="Wrong", actor=rita)
    assert change.review_due_at is not None

    told = [flag_changes.tell_overdue_reviews(at=change.review_due_at + timedelta(minutes=minutes)) for minutes in (-1, 1, 2)]

    assert told == [0, 1, 1]
    assert Notice.objects.filter(topic="flag.review_overdue").count() == 1
    flag_changes.review_lowering(change=change, actor=adam, comment="Seen")
    assert flag_changes.tell_overdue_reviews(at=change.review_due_at + timedelta(days=1)) == 0
