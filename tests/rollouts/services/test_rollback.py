"""From calls to a rollback: counting, judging, acting, being blind, and who watches the watcher."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from governance.metrics import Reading, Window
from governance.models import AuditEntry, Notice, Severity, Tenant, User
from governance.services import alerts
from rollouts import rollback_evidence, rollback_trials
from rollouts import rollback_selectors as selectors
from rollouts.errors import (
    EvidenceMissingError,
    IncidentOpenError,
    IncidentStateError,
    NoBaselineError,
    RuleInvalidError,
    RuleStateError,
    WatcherAwayError,
)
from rollouts.models import Flag, FlagChange, Incident, ReleaseLogEntry, RollbackMinute, RollbackRule, RollbackWatch
from rollouts.services import flag_changes, incidents, rollback, rollback_rules
from tests.factories import costs
from tests.factories import rollouts as make
from tests.factories.rollbacks import NOW, calls, make_rule, make_watched_flag
from tests.factories.rollouts import person
from tests.governance.services.test_alerts import Receiver, mails, receiver
from tests.rollouts.conftest import laid_out_flag

__all__ = ["mails", "receiver"]


laid_out = laid_out_flag(lambda: make_watched_flag(person("rita"), person("adam")))


def events() -> list[str]:
    return list(AuditEntry.objects.order_by("sequence").values_list("event", flat=True))


def test_a_breach_rolls_back_with_everything_that_belongs_to_it(acme: Tenant, flag: Flag, rita: User, sam: User) -> None:
    calls(acme, flag, new=10)
    rule = make_rule(flag, rita)
    before = Tenant.objects.get(pk=acme.pk).config_version

    ticked = rollback.tick(at=NOW)

    flag.refresh_from_db()
    rule.refresh_from_db()
    incident = Incident.objects.get()
    assert (ticked.rules, ticked.tripped) == (1, 1)
    assert not flag.exposure.on
    assert rule.state == RollbackRule.State.TRIPPED
    assert Tenant.objects.get(pk=acme.pk).config_version == before + 1
    assert (incident.number, incident.failure_class, incident.variant) == (1, "error", "new")
    assert incident.title == "ai.chat.next-model rolled back: Failed calls 50% over 5m, limit 5%"
    assert incident.change.proposed_by is None
    assert incident.change.is_emergency
    assert incident.change.review_due_at == NOW + flag_changes.REVIEW_WITHIN
    page = Notice.objects.get(topic="incident.opened")
    assert (page.severity, page.path) == (Severity.CRITICAL, "operate/incidents/1/")
    assert "Everybody gets old again" in page.text
    line = ReleaseLogEntry.objects.get(kind="rollback")
    assert (line.rollout_id, line.actor_name, "Incident 1, evidence" in line.text) == (flag.rollout_id, "System", True)
    assert events()[-4:] == ["rollback_rule.fired", "flag.lowered", "flag.change_applied", "incident.opened"]
    flag_changes.review_lowering(change=incident.change, actor=sam, comment="Seen: the provider was down.")


def test_the_on_call_is_paged_by_mail_and_webhook(
    acme: Tenant, flag: Flag, rita: User, adam: User, mails: list[Any], receiver: Receiver
) -> None:
    alerts.create_channel(name="Mail", kind="email", target="oncall@example.com", least_severity="critical", actor=adam)
    alerts.create_channel(name="Hook", kind="webhook", target=receiver.url, topics=["incident"], actor=adam)
    calls(acme, flag, new=10)
    make_rule(flag, rita)
    rollback.tick(at=NOW)

    assert alerts.deliver_due(at=NOW) == 2

    [mail], [(_, body)] = mails, receiver.got
    assert "Incident 1: ai.chat.next-model rolled back" in mail["subject"]
    assert json.loads(body)["type"] == "incident.opened"
    assert json.loads(body)["data"]["url"].endswith("/o/acme/operate/incidents/1/")


def test_the_verdict_comes_out_again_from_the_evidence_alone(acme: Tenant, flag: Flag, rita: User) -> None:
    costs.prices(rita)
    calls(acme, flag, new=10, old=1, input_tokens=100)
    make_rule(flag, rita, "(error_rate_5m > control*2 or latency_p95_5m > 10s) and cost_per_call_5m < $5 for 1 of 2 min 50")
    rollback.tick(at=NOW)
    incident = Incident.objects.get()

    seen = rollback_evidence.recompute(incident.evidence, stored_sha256=incident.evidence_sha256)
    changed = rollback_evidence.recompute(
        incident.evidence.replace('"outcome":"bad"', '"outcome":"fine"'), stored_sha256=incident.evidence_sha256
    )

    assert seen.differences == []
    assert len(changed.differences) >= 2
    assert incident.facts["judged"][0]["calls"] == 100
    assert len(incident.facts["treatment"]["60"]) == 5


def test_a_second_tick_and_a_late_one_change_nothing(acme: Tenant, flag: Flag, rita: User) -> None:
    calls(acme, flag, new=10)
    make_rule(flag, rita)
    for _ in range(3):
        rollback.tick(at=NOW)

    assert Incident.objects.count() == Notice.objects.filter(topic="incident.opened").count() == 1


def test_a_watcher_that_dies_before_the_commit_leaves_nothing_and_the_next_acts(acme: Tenant, flag: Flag, rita: User) -> None:
    calls(acme, flag, new=10)
    make_rule(flag, rita)
    with transaction.atomic():
        rollback.tick(at=NOW)
        transaction.set_rollback(True)
    assert not Incident.objects.exists()
    assert Flag.objects.get(pk=flag.pk).exposure.on

    rollback.tick(at=NOW + timedelta(seconds=10))

    assert Incident.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "new", "old", "fires"),
    [
        ("error_rate_5m > control + 20% min 50", 10, 0, True),
        ("error_rate_5m > control + 20% min 50", 10, 10, False),  # everybody's trouble is not the variant's
        ("error_rate_5m > 5% min 50", 1, 0, False),  # at the limit, not beyond
        ("error_rate_1m > 20% min 15", 30, 0, True),
        ("error_rate_5m > 5%", 10, 0, False),  # 100 of 200 calls
        ("blocked_rate_5m > 5% min 50", 10, 0, False),
    ],
)
def test_what_fires(acme: Tenant, flag: Flag, rita: User, text: str, new: int, old: int, fires: bool) -> None:
    calls(acme, flag, new=new, old=old, per_minute=20 if "1m" not in text else 60, minutes=6)
    make_rule(flag, rita, text)
    rollback.tick(at=NOW)

    assert Incident.objects.exists() is fires


def test_one_bad_minute_fires_nothing(acme: Tenant, flag: Flag, rita: User) -> None:
    calls(acme, flag, minutes=8, until=NOW - timedelta(minutes=1))
    calls(acme, flag, minutes=1, new=20)
    rule = make_rule(flag, rita)
    for minute in range(4):
        rollback.tick(at=NOW + timedelta(minutes=minute))

    rule.refresh_from_db()
    assert not Incident.objects.exists()
    assert rule.reading[0]["reason"] in ("only 1 bad minute", "40 of 50 calls")


def test_missing_data_freezes_a_rule_and_is_told_once(acme: Tenant, flag: Flag, rita: User) -> None:
    rule = make_rule(flag, rita, "error_rate_3m > 5% min 50")
    for minute in range(9):
        rollback.tick(at=NOW + timedelta(minutes=minute))
    rule.refresh_from_db()
    assert (rule.state, rule.outcome, rule.unknown_since) == (RollbackRule.State.FROZEN, "unknown", NOW)
    notice = Notice.objects.get(topic="rollback_rule.frozen")
    assert "nothing was measured" in notice.text

    later = NOW + timedelta(minutes=12)
    calls(acme, flag, until=later)
    rollback.tick(at=later)

    rule.refresh_from_db()
    assert (rule.state, rule.outcome, rule.unknown_since) == (RollbackRule.State.ARMED, "fine", None)
    assert {"rollback_rule.frozen", "rollback_rule.sees_again"} <= set(events())


def test_a_dry_run_tells_once_for_an_episode_and_leaves_the_flag_alone(acme: Tenant, flag: Flag, rita: User) -> None:
    rule = make_rule(flag, rita, is_dry_run=True)
    calls(acme, flag, minutes=12, until=NOW + timedelta(minutes=5), new=10)
    for minute in range(5):
        rollback.tick(at=NOW + timedelta(minutes=minute))

    flag.refresh_from_db()
    rule.refresh_from_db()
    assert flag.exposure.on
    assert (rule.state, rule.fired_count, rule.is_firing) == (RollbackRule.State.ARMED, 1, True)
    assert Notice.objects.get(topic="rollback_rule.would_fire").severity == Severity.WARNING
    assert not Incident.objects.exists()


def test_a_watcher_that_was_away_catches_up_with_the_steps_that_count(acme: Tenant, flag: Flag, rita: User) -> None:
    rule = make_rule(flag, rita, "error_rate_3m > 5% for 3 of 3 min 50", at=NOW - timedelta(minutes=8))
    calls(acme, flag, minutes=4, until=NOW - timedelta(minutes=8))
    rollback.tick(at=NOW - timedelta(minutes=8))
    calls(acme, flag, minutes=8, new=10)

    rollback.tick(at=NOW)

    rule.refresh_from_db()
    assert (rule.state, len(rule.memory)) == (RollbackRule.State.TRIPPED, 3)


def test_paused_rules_and_flags_that_are_off_are_not_judged(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    calls(acme, flag, new=10)
    rule = make_rule(flag, rita)
    rollback_rules.pause_rule(rule=rule, reason="Drill", actor=rita)
    assert rollback.tick(at=NOW).rules == 0
    rollback_rules.arm_rule(rule=rule, actor=rita, at=NOW)
    make.change_exposure(flag, rita, adam, on=False)
    assert rollback.tick(at=NOW).rules == 0

    assert RollbackWatch.objects.get().rules == 0
    assert not Incident.objects.exists()
    RollbackRule.objects.update(memory=[[1, "bad"]], unknown_since=NOW, state=RollbackRule.State.FROZEN)
    rollback.tick(at=NOW)  # what was missing or bad before the flag went off is forgotten
    rule.refresh_from_db()
    assert (rule.state, rule.memory, rule.unknown_since) == (RollbackRule.State.ARMED, [], None)


def test_a_flag_that_is_on_again_is_not_judged_by_what_was_before(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    calls(acme, flag, minutes=25, until=NOW - timedelta(minutes=35), new=6)
    change_times = {3: NOW - timedelta(minutes=35), 4: NOW - timedelta(minutes=3, seconds=10)}
    make.change_exposure(flag, rita, adam, on=False)
    make.change_exposure(flag, rita, adam, on=True)
    for number, at in change_times.items():
        flag.versions.filter(number=number).update(at=at)
    calls(acme, flag, minutes=3)
    rule = make_rule(flag, rita, "error_rate_1h > 5% min 50")

    rollback.tick(at=NOW)

    rule.refresh_from_db()
    assert not Incident.objects.exists()
    assert rule.reading[0]["calls"] == 60  # of the three minutes since
    calls(acme, flag, minutes=4, until=NOW + timedelta(minutes=4), new=20)
    rollback.tick(at=NOW + timedelta(minutes=4))
    assert Incident.objects.exists()  # what is bad from now on counts


def test_a_rule_that_was_armed_while_its_flag_was_off_counts_from_then_on(acme: Tenant, flag: Flag, rita: User) -> None:
    rule = make_rule(flag, rita, "error_rate_1h > 5% min 50", at=NOW - timedelta(minutes=30))
    calls(acme, flag, minutes=25, new=10)

    rollback.tick(at=NOW)

    rule.refresh_from_db()
    assert rule.reading[0]["calls"] == 500


def test_minutes_are_counted_anew_and_then_forgotten(acme: Tenant, flag: Flag, rita: User) -> None:
    costs.prices(rita, input="10", output="0")
    calls(acme, flag, minutes=2, per_minute=3, new=1)
    make_rule(flag, rita)
    calls(acme, flag, minutes=1, per_minute=2)
    rollback.tick(at=NOW)

    [first, last] = RollbackMinute.objects.filter(variant="new").order_by("minute")
    assert (first.calls, first.failed, last.calls, last.failed) == (3, 1, 5, 1)
    assert (sum(last.latency.values()), last.priced) == (4, 5)
    assert last.cost == pytest.approx(0.05)
    rollback.count_minutes([flag], since=NOW, until=NOW + timedelta(hours=8))
    assert not RollbackMinute.objects.exists()


def test_a_baseline_is_frozen_when_the_rule_is_armed(acme: Tenant, flag: Flag, rita: User) -> None:
    with pytest.raises(NoBaselineError):
        make_rule(flag, rita, "error_rate_5m > baseline*3 min 50")
    for days, failed in ((1, 2), (2, 1), (3, 4)):
        calls(acme, flag, minutes=11, until=NOW.replace(hour=12) - timedelta(days=days), old=failed)
    rule = make_rule(flag, rita, "error_rate_5m > baseline*3 min 50")

    assert rule.baselines["error_rate"] == {"value": pytest.approx(10.0), "calls": 660, "days": 3}
    calls(acme, flag, new=7)
    rollback.tick(at=NOW)
    assert Incident.objects.get().facts["judged"][0]["limit"] == pytest.approx(30.0)


def test_a_baseline_of_zero_stands_for_what_it_can_prove(acme: Tenant, flag: Flag, rita: User) -> None:
    calls(acme, flag, minutes=10, until=NOW.replace(hour=12) - timedelta(days=1))

    assert make_rule(flag, rita, "error_rate_5m > baseline*3").baselines["error_rate"]["value"] == pytest.approx(1.5)


def test_registered_metrics_roll_back_and_one_that_breaks_is_unknown(acme: Tenant, flag: Flag, rita: User) -> None:
    with make.readings() as board:
        rule = make_rule(flag, rita, "test.coverage_6h < 90%")
        board.readings["test.coverage"] = ZeroDivisionError()
        rollback.tick(at=NOW)
        rule.refresh_from_db()
        assert rule.outcome == "unknown"
        board.readings["test.coverage"] = Reading(80.0, sample=500)
        rollback.tick(at=NOW + timedelta(minutes=1))

    assert Incident.objects.get().failure_class == "quality"


def test_rules_of_calls_act_before_any_metric_is_read(acme: Tenant, flag: Flag, rita: User, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def read(_key: str, _window: Window) -> Reading:
        seen.append(Incident.objects.count())
        return Reading(99.0, sample=500)

    calls(acme, flag, new=10)
    with make.readings() as board:
        make_rule(flag, rita)
        make_rule(flag, rita, "test.coverage_1h < 90%")
        monkeypatch.setattr(board, "read", read)

        rollback.tick(at=NOW)

    assert seen == [1]


def test_a_rule_whose_metric_is_gone_fails_loudly_and_keeps_no_other_from_acting(acme: Tenant, flag: Flag, rita: User) -> None:
    with make.readings():
        make_rule(flag, rita, "test.coverage_6h < 90%")
    calls(acme, flag, new=10)
    make_rule(flag, rita)

    with pytest.raises(ExceptionGroup):
        rollback.tick(at=NOW)

    assert Incident.objects.count() == 1


def test_a_rule_whose_metric_is_gone_is_frozen_and_told_and_breaks_no_other(acme: Tenant, flag: Flag, rita: User) -> None:
    with make.readings():
        gone = make_rule(flag, rita, "test.coverage_6h < 90%")
    for minute in (0, 4, 6):
        with pytest.raises(ExceptionGroup):
            rollback.tick(at=NOW + timedelta(minutes=minute))

    gone.refresh_from_db()
    assert (gone.state, gone.outcome, gone.unknown_since) == (RollbackRule.State.FROZEN, "unknown", NOW)
    assert "test.coverage" in Notice.objects.get(topic="rollback_rule.frozen").text
    assert rollback_trials.check_text(flag, "error_rate_5m > 5% min 50", at=NOW).rule is not None


def test_incident_is_acknowledged_and_resolved_and_only_then_exposure_rises(
    acme: Tenant, flag: Flag, rita: User, adam: User, sam: User
) -> None:
    calls(acme, flag, new=10)
    rule = make_rule(flag, rita, cooldown_minutes=5)
    rollback.tick(at=NOW)
    incident = Incident.objects.get()
    later = NOW + timedelta(minutes=6)

    with pytest.raises(IncidentOpenError):
        make.change_exposure(flag, rita, adam, on=True)
    FlagChange.objects.filter(status="proposed").delete()
    with pytest.raises(RuleStateError, match="cools down"):
        rollback_rules.arm_rule(rule=rule, actor=rita, at=NOW)
    with pytest.raises(RuleStateError, match="not resolved"):
        rollback_rules.arm_rule(rule=rule, actor=rita, at=later)
    incidents.acknowledge_incident(incident=incident, actor=adam)
    with pytest.raises(IncidentStateError, match="by Adam"):
        incidents.acknowledge_incident(incident=incident, actor=rita)
    with pytest.raises(EvidenceMissingError):
        incidents.resolve_incident(incident=incident, resolution=" ", actor=adam)
    incidents.resolve_incident(incident=incident, resolution="Key rotated.", actor=adam)
    with pytest.raises(IncidentStateError):
        incidents.resolve_incident(incident=incident, resolution="Again.", actor=rita)
    rollback_rules.arm_rule(rule=rule, actor=rita, at=later)
    RollbackWatch.objects.update(ticked_at=timezone.now())
    make.change_exposure(flag, rita, adam, on=True)

    flag.refresh_from_db()
    assert flag.exposure.on
    assert ReleaseLogEntry.objects.filter(text__contains="Incident 1 of ai.chat.next-model resolved by Adam: Key rotated.").exists()
    change = FlagChange.objects.get(is_emergency=True)
    flag_changes.review_lowering(change=change, actor=sam, comment="Right.")
    assert events()[-1] == "flag.reviewed"


def test_nobody_raises_exposure_while_nobody_watches(acme: Tenant, flag: Flag, rita: User, adam: User) -> None:
    make_rule(flag, rita)
    at = NOW + timedelta(minutes=10)

    assert rollback.tell_watcher_away(at=NOW + timedelta(seconds=30)) is False
    assert [rollback.tell_watcher_away(at=at) for _ in range(2)] == [True, True]
    assert Notice.objects.filter(topic="rollback_watcher.away").count() == 1
    with pytest.raises(WatcherAwayError):
        make.change_exposure(flag, rita, adam, percentage=60_000)
    FlagChange.objects.filter(status="proposed").delete()
    rollback.tick(at=timezone.now())
    make.change_exposure(flag, rita, adam, percentage=60_000)
    assert selectors.watcher_away_since(at=timezone.now()) is None


@pytest.mark.parametrize(
    ("fields", "told"),
    [({"text": "error_rate_5m >"}, "character 16"), ({"clear_percent": 91}, "0 to 90"), ({"cooldown_minutes": -1}, "at most seven days")],
)
def test_rules_that_cannot_be(acme: Tenant, flag: Flag, rita: User, fields: dict[str, Any], told: str) -> None:
    with pytest.raises(RuleInvalidError, match=told):
        make_rule(flag, rita, **fields)


def test_a_flag_that_binds_no_model_is_watched_by_metrics_only(acme: Tenant, rita: User) -> None:
    with pytest.raises(RuleInvalidError, match="binds no model"):
        make_rule(make.make_flag(rita), rita)


def test_rules_are_paused_with_a_reason_armed_again_and_removed(acme: Tenant, flag: Flag, rita: User) -> None:
    rule = make_rule(flag, rita)
    with pytest.raises(RuleStateError, match="armed already"):
        rollback_rules.arm_rule(rule=rule, actor=rita)
    with pytest.raises(EvidenceMissingError):
        rollback_rules.pause_rule(rule=rule, reason="", actor=rita)
    rollback_rules.arm_rule(rule=rule, actor=rita, is_dry_run=True)
    rollback_rules.pause_rule(rule=rule, reason="Maintenance", actor=rita)
    with pytest.raises(RuleStateError, match="paused"):
        rollback_rules.pause_rule(rule=rule, reason="Maintenance", actor=rita)
    rollback_rules.remove_rule(rule=rule, actor=rita)
    with pytest.raises(RuleStateError, match="removed"):
        rollback_rules.arm_rule(rule=rule, actor=rita)

    assert not selectors.rules_of(flag).exists()
    assert [event for event in events() if event.startswith("rollback_rule")] == [
        "rollback_rule.created", "rollback_rule.armed", "rollback_rule.armed", "rollback_rule.paused", "rollback_rule.removed",
    ]  # fmt: skip


def test_dry_run_on_history_tells_the_minutes(acme: Tenant, flag: Flag, rita: User) -> None:
    bad = NOW.replace(second=0) - timedelta(hours=3)
    calls(acme, flag, minutes=30, until=bad)
    calls(acme, flag, minutes=8, until=bad + timedelta(minutes=8), new=10)
    calls(acme, flag, minutes=20, until=bad + timedelta(minutes=28))

    seen = rollback_trials.dry_run(flag, "error_rate_5m > 5% for 2 of 3 min 50", at=NOW)

    [episode] = seen.replay.episodes
    assert datetime.fromtimestamp(episode.at, UTC) == bad + timedelta(minutes=4)
    assert episode.variant == "new"
    assert seen.replay.steps == 7 * 1440
    assert seen.replay.unknown > 9_900


def test_who_armed_a_rule_may_review_what_it_did(acme: Tenant, flag: Flag, rita: User) -> None:
    calls(acme, flag, new=10)
    make_rule(flag, rita)
    rollback.tick(at=NOW)
    automatic = FlagChange.objects.get(is_emergency=True)
    flag_changes.review_lowering(change=automatic, actor=rita, comment="As meant.")
    assert json.loads(Incident.objects.get().evidence)["armed_by"] == "Rita"
