"""Anomalies: what a night's pass finds and tells, where it puts it, what people do with it, what metrics make of that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from costs import anomaly_selectors, tasks
from costs.errors import AnomalyStateError, AnomalyValueError
from costs.models import Anomaly, AnomalyRun, AnomalySettings, PriceEntry, UsageHour
from costs.periods import midnight
from costs.services import anomalies
from governance import metrics
from governance.metrics import NO_DATA, Window
from governance.models import AuditEntry, Notice, Tenant, User
from tests.factories import costs as make

LAST = date(2026, 11, 18)
"""The day under test in these tests: a Wednesday."""
NIGHT = datetime(2026, 11, 19, 2, tzinfo=UTC)
AGENTS = {"basket-helper": ("checkout", "small-chat", 40.0), "search": ("shop", "large-chat", 30.0), "mailer": ("shop", "small-chat", 20.0)}


def row(at: datetime, cost: float, *, calls: float | None = None, **fields: Any) -> UsageHour:
    """An hour of the rollup; by default a call costs a cent and has 500 tokens."""
    calls = round(cost * 100) if calls is None else calls
    given: dict[str, Any] = {
        "project": "checkout", "cost_centre": "", "agent": "basket-helper", "model": "small-chat", "provider": "openai",
        "key_id": "k2345678", "kind": "chat", "outcome": "ok", "uncached_input_tokens": int(calls) * 400, "cached_input_tokens": 0,
        "cache_write_tokens": 0, "output_tokens": int(calls) * 100, "untagged_calls": 0, "estimated_calls": 0, "unpriced_calls": 0,
        "duration_us": 0,
    }  # fmt: skip
    return UsageHour(hour=at, cost=Decimal(str(round(cost, 6))), calls=int(calls), last_event_at=at, **(given | fields))


def steady(_agent: str, _back: int) -> float:
    return 1.0


def past(days: int = 60, last: date = LAST, change: Callable[[str, int], float] = steady) -> None:
    """Noon of each day for three agents with a tenth of noise; `change(agent, days before the last)` multiplies."""
    random = np.random.default_rng(4)
    rows = []
    for back in reversed(range(days)):
        day = last - timedelta(days=back)
        for agent, (project, model, usual) in AGENTS.items():
            cost = usual * float(np.exp(random.normal(0, 0.08))) * (0.4 if day.weekday() >= 5 else 1.0) * change(agent, back)
            at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            rows.append(row(at, cost, agent=agent, project=project, model=model, key_id=f"k-{project}"))
    UsageHour.objects.bulk_create(rows)


def spike(agent: str = "search", times: float = 4.0, back: int = 0) -> Callable[[str, int], float]:
    return lambda who, ago: times if (who, ago) == (agent, back) else 1.0


def detected() -> Anomaly:
    past(change=spike())
    anomalies.detect_day(day=LAST, at=NIGHT)
    return Anomaly.objects.get()


def reported(actor: User) -> Anomaly:
    past(days=2)
    return anomalies.report_missed(actor=actor, day=LAST, dimension="agent", ref="mailer", note="Sent twice", at=NIGHT)


def events() -> list[str]:
    return list(AuditEntry.objects.filter(event__startswith="anomaly.").order_by("sequence").values_list("event", flat=True))


def test_spike_is_told_once_where_it_comes_from(acme: Tenant) -> None:
    found = detected()
    again = anomalies.detect_day(day=LAST, at=NIGHT + timedelta(hours=3))

    assert (found.dimension, found.ref, found.kind, found.period, found.status) == ("agent", "search", "spike", "day", "open")
    assert found.expected == pytest.approx(Decimal(30), rel=Decimal("0.15"))
    assert found.excess == found.actual - found.expected
    assert found.also == [["tenant", ""], ["project", "shop"], ["model", "large-chat"], ["key", "k-shop"]]
    assert Anomaly.objects.get().excess == found.excess
    assert again.told == 0
    assert (Notice.objects.get(topic="cost.anomaly").severity, events()) == ("warning", ["anomaly.detected"])


def fleet(agents: dict[str, tuple[str, str, str]], grown: set[str]) -> None:
    """A dollar an hour's noon of 60 days for each agent (project, model, key), five times as much on the last day for those that have `grown`."""
    random = np.random.default_rng(8)
    UsageHour.objects.bulk_create(
        row(
            datetime(2026, 11, 18, 12, tzinfo=UTC) - timedelta(days=back),
            30 * float(np.exp(random.normal(0, 0.06))) * (5 if back == 0 and agent in grown else 1),
            agent=agent,
            project=project,
            model=model,
            key_id=key_id,
        )
        for back in range(60)
        for agent, (project, model, key_id) in agents.items()
    )


def test_parts_of_a_key_that_grows_are_one_alert_of_the_key(acme: Tenant, alice: User) -> None:
    key = make.key(alice, project="shop")
    indexers = {f"indexer-{n}": ("shop", "small-chat", str(key.public_id)) for n in range(3)}
    fleet({**indexers, "other": ("desk", "small-chat", "k-desk")}, grown=set(indexers))

    run = anomalies.detect_day(day=LAST, at=NIGHT)

    found, notice = Anomaly.objects.get(), Notice.objects.get(topic="cost.anomaly")
    assert (found.dimension, found.ref, run.flagged, run.told) == ("key", str(key.public_id), 7, 1)
    assert found.also == [["tenant", ""], ["project", "shop"], ["model", "small-chat"], *(["agent", f"indexer-{n}"] for n in range(3))]
    assert notice.title.startswith(f"Spike: key {key.name} ")
    assert [one["ref"] for one in found.contributors if one["dimension"] == "agent"] != []


def all_then_two() -> Anomaly:
    """Everybody's spend is five times as much on the last day, that of two agents also on the next one. Told of the first day."""
    agents = {f"a{n}": (f"p{n}", ("small-chat", "large-chat")[n % 2], f"k{n}") for n in range(8)}
    fleet(agents, grown=set(agents))
    anomalies.detect_day(day=LAST, at=NIGHT)
    UsageHour.objects.bulk_create(
        row(
            datetime(2026, 11, 19, 12, tzinfo=UTC), 150 if agent in ("a0", "a1") else 30, agent=agent, project=project, model=model, key_id=key_id
        )
        for agent, (project, model, key_id) in agents.items()
    )  # fmt: skip
    return Anomaly.objects.get()


def test_parts_that_go_on_alone_belong_to_the_alert_that_they_were_part_of(acme: Tenant) -> None:
    before = all_then_two()

    told = [anomalies.detect_day(day=LAST + timedelta(days=1), at=NIGHT + timedelta(days=1, hours=n)).told for n in range(2)]

    found = Anomaly.objects.get()
    assert (told, Notice.objects.filter(topic="cost.anomaly").count()) == ([0, 0], 1)
    assert (found.dimension, len(found.points), found.points[-1]["actual"]) == ("tenant", 2, "480.000000")
    assert found.excess - before.excess == pytest.approx(Decimal(240), rel=Decimal("0.1"))
    assert (found.band[-1][0], found.band[-1][4], found.also) == ("2026-11-19", 480.0, before.also)


def test_agent_by_the_name_of_a_dimension_is_no_part_of_other_agents_alerts(acme: Tenant) -> None:
    agents = {name: (f"p-{name}", "small-chat", f"k-{name}") for name in (*(f"a{n}" for n in range(8)), "agent")}
    fleet(agents, grown=set(agents) - {"agent"})
    anomalies.detect_day(day=LAST, at=NIGHT)
    whole = Anomaly.objects.get()
    UsageHour.objects.bulk_create(
        row(datetime(2026, 11, 19, 12, tzinfo=UTC), 150 if agent == "agent" else 30, agent=agent, project=project, model=model, key_id=key_id)
        for agent, (project, model, key_id) in agents.items()
    )  # fmt: skip

    anomalies.detect_day(day=LAST + timedelta(days=1), at=NIGHT + timedelta(days=1))

    assert ["agent", "a0"] in whole.also
    assert Anomaly.objects.exclude(pk=whole.pk).values_list("dimension", "ref").get() == ("agent", "agent")


def test_parts_that_overlap_are_not_counted_twice(acme: Tenant) -> None:
    UsageHour.objects.bulk_create([row(datetime(2026, 11, 18, 12, tzinfo=UTC), 100)])
    parts = [("project", "shop", 10, 80), ("project", "desk", 2, 12), ("model", "large-chat", 10, 70)]
    candidates = [anomalies.Candidate(dimension, ref, "spike", expected, actual, 5.0) for dimension, ref, expected, actual in parts]

    found = anomalies._of_its_scope(Anomaly(dimension="tenant", band=[]), candidates, (midnight(LAST), midnight(LAST + timedelta(days=1))))

    assert (found.expected, found.actual) == (20, 100)


def test_part_is_told_though_the_whole_was_planned(acme: Tenant, fay: User) -> None:
    anomalies.give_feedback(anomaly=all_then_two(), actor=fay, feedback="planned", at=NIGHT)

    anomalies.detect_day(day=LAST + timedelta(days=1), at=NIGHT + timedelta(days=1))

    assert set(Anomaly.objects.filter(feedback="").values_list("dimension", "ref")) == {("agent", "a0"), ("agent", "a1")}


def test_two_causes_on_one_day_are_two_alerts_and_no_third_of_their_sum(acme: Tenant) -> None:
    both = {"crawler": ("shop", "small-chat", "k-shop"), "mailer": ("desk", "small-chat", "k-desk")}
    fleet({**both, "other": ("lab", "large-chat", "k-lab")}, grown=set(both))

    anomalies.detect_day(day=LAST, at=NIGHT)

    alerts = {one.ref: one.also for one in Anomaly.objects.all()}
    assert set(alerts) == set(both)
    assert sorted(["tenant", ""] in also for also in alerts.values()) == [False, True]


def test_organisation_that_grows_everywhere_is_one_alert(acme: Tenant) -> None:
    agents = {f"a{n}": (f"p{n}", ("small-chat", "large-chat")[n % 2], f"k{n}") for n in range(8)}
    fleet(agents, grown=set(agents))

    anomalies.detect_day(day=LAST, at=NIGHT)

    found = Anomaly.objects.get()
    assert (found.dimension, len([scope for scope in found.also if scope[0] == "agent"])) == ("tenant", 8)
    assert Notice.objects.get(topic="cost.anomaly").title.startswith("Spike: the whole organisation ")


def test_drivers_add_up_to_the_excess_and_name_the_cause(acme: Tenant) -> None:
    found = detected()

    assert sum(Decimal(amount) for _, amount in found.drivers) == found.excess
    assert found.top_driver == "calls"
    by_model = [one for one in found.contributors if one["dimension"] == "model"]
    assert [(one["ref"], Decimal(one["excess"])) for one in by_model] == [("large-chat", found.excess)]


def test_sunday_is_explained_by_sundays(acme: Tenant, alice: User) -> None:
    sunday = date(2026, 11, 15)
    for back in range(29):
        day = datetime(2026, 11, 15, 12, tzinfo=UTC) - timedelta(days=back)
        is_sunday, tokens = day.weekday() == 6, {"uncached_input_tokens": 1000 if back else 9000}
        if not is_sunday:
            row(day, 90.0, agent="office", calls=900).save()
        row(day, 9.0 if back == 0 else 1.0 if is_sunday else 10.0, agent="mailer", calls=10, output_tokens=0, **tokens).save()

    made = anomalies.report_missed(actor=alice, day=sunday, dimension="project", ref="checkout", note="Long prompts", at=NIGHT)

    assert (made.expected, made.actual) == (Decimal(1), Decimal(9))
    assert dict(made.drivers)["tokens_per_call"] == str(made.excess)
    expected = {one["ref"]: one["expected"] for one in made.contributors if one["dimension"] == "agent"}
    assert expected == {"mailer": "1.000000", "office": "0.000000"}


def test_new_price_is_its_own_driver(acme: Tenant, alice: User) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    noon = datetime(2026, 11, 18, tzinfo=UTC)
    for token_class in ("input", "output"):
        for price, since, until in ((10, start, noon), (30, noon, None)):
            PriceEntry.objects.create(
                provider="openai",
                model="large-chat",
                token_class=token_class,
                price=price,
                valid_from=since,
                valid_to=until,
                approved_by=alice,
            )
    past(change=spike(times=1.0))
    changed = UsageHour.objects.get(agent="search", hour__date=LAST)
    changed.cost *= 3
    changed.save()

    anomalies.detect_day(day=LAST, at=NIGHT)
    found = Anomaly.objects.get()

    assert (found.kind, found.top_driver) == ("spike", "price")
    assert [entry.token_class for entry in anomaly_selectors.price_changes(found)] == ["input", "output"]


def test_quiet_night_tells_nothing_and_says_what_it_looked_at(acme: Tenant) -> None:
    past()

    run = anomalies.detect_day(day=LAST, at=NIGHT)

    assert (run.told, run.flagged, Anomaly.objects.count()) == (0, 0, 0)
    assert run.series == 1 + 2 + 2 + 2 + 3


def test_unknown_cost_is_not_a_drop(acme: Tenant) -> None:
    past(change=spike(times=0.0))
    UsageHour.objects.filter(agent="search", hour__date=LAST).update(calls=900, unpriced_calls=900)

    anomalies.detect_day(day=LAST, at=NIGHT)

    assert not Anomaly.objects.filter(dimension="agent").exists()


def test_new_agent_is_named_though_it_has_no_history(acme: Tenant) -> None:
    past()
    UsageHour.objects.bulk_create(
        [row(datetime(2026, 11, 18, 9, tzinfo=UTC), 120, agent="night-batch", project="shop", model="small-chat", key_id="k-shop")]
    )

    anomalies.detect_day(day=LAST, at=NIGHT)

    assert [(one.dimension, one.ref) for one in Anomaly.objects.all()] == [("agent", "night-batch")]


def test_lasting_change_stays_one_anomaly_and_closes_as_the_new_level(acme: Tenant) -> None:
    past(days=90, change=lambda agent, back: 3.0 if agent == "search" and back <= 20 else 1.0)

    for back in (20, 19, 18, 17, 16, 15, 4):
        anomalies.detect_day(day=LAST - timedelta(days=back), at=NIGHT - timedelta(days=back))

    found = Anomaly.objects.get()
    assert (found.kind, found.status, len(found.points) >= 3) == ("shift", "closed", True)
    assert found.first_at.date() == LAST - timedelta(days=20)
    assert sum(Decimal(point["actual"]) for point in found.points) == found.actual
    assert events() == ["anomaly.detected", "anomaly.ended"]


def test_muted_scope_is_not_told(acme: Tenant, fay: User) -> None:
    anomalies.change_settings(actor=fay, muted=["agent:search"])
    past(change=spike())

    run = anomalies.detect_day(day=LAST, at=NIGHT)

    assert (run.told, run.flagged > 0) == (0, True)


def test_planned_keeps_the_scope_quiet_until_its_end(acme: Tenant, fay: User) -> None:
    past(days=80, change=lambda agent, back: 4.0 if agent == "search" and back in (0, 12) else 1.0)
    anomalies.detect_day(day=LAST - timedelta(days=12), at=NIGHT - timedelta(days=12))
    first = Anomaly.objects.get()
    anomalies.give_feedback(anomaly=first, actor=fay, feedback="planned", note="Sale", at=NIGHT - timedelta(days=11))

    run = anomalies.detect_day(day=LAST, at=NIGHT)

    first.refresh_from_db()
    assert (run.told, len(first.points), first.planned_until) == (0, 2, date(2026, 11, 22))
    assert Notice.objects.filter(topic="cost.anomaly").count() == 1


def test_runaway_loop_is_told_within_hours_and_joins_the_day(acme: Tenant) -> None:
    end = datetime(2026, 11, 18, 20, tzinfo=UTC)
    random = np.random.default_rng(1)
    rows = [row(end - timedelta(hours=back), float(np.exp(random.normal(-1, 0.2)))) for back in range(45 * 24, 2, -1)]
    rows += [row(end - timedelta(hours=back), 12.0) for back in (2, 1)]
    UsageHour.objects.bulk_create(rows)

    run = anomalies.detect_hour(end=end, at=end + timedelta(minutes=5))
    later = anomalies.detect_hour(end=end, at=end + timedelta(minutes=65))
    hourly = Anomaly.objects.get()
    anomalies.detect_day(day=LAST, at=NIGHT)

    assert (run.told, later.told, hourly.kind, hourly.period, hourly.dimension) == (1, 0, "runaway", "hour", "agent")
    assert Notice.objects.get(topic="cost.anomaly").severity == "critical"
    whole = Anomaly.objects.get()
    assert (whole.kind, whole.period, whole.first_at) == ("runaway", "day", datetime(2026, 11, 18, tzinfo=UTC))
    assert whole.actual > hourly.actual


def test_one_that_grows_is_told_again_and_opens_again(acme: Tenant, fay: User) -> None:
    sizes = {2: 2.5, 1: 2.5, 0: 9.0}
    past(change=lambda agent, back: sizes.get(back, 1.0) if agent == "search" else 1.0)
    anomalies.detect_day(day=LAST - timedelta(days=2), at=NIGHT - timedelta(days=2))
    anomalies.close(anomaly=Anomaly.objects.get(), actor=fay)

    anomalies.detect_day(day=LAST - timedelta(days=1), at=NIGHT - timedelta(days=1))
    still_closed = Anomaly.objects.get().status
    anomalies.detect_day(day=LAST, at=NIGHT)
    anomalies.detect_day(day=LAST, at=NIGHT + timedelta(hours=1))

    found = Anomaly.objects.get()
    assert (still_closed, found.status, found.kind, len(found.points)) == ("closed", "open", "shift", 3)
    assert events() == ["anomaly.detected", "anomaly.closed", "anomaly.grew"]
    assert Notice.objects.filter(topic="cost.anomaly").count() == 2


def test_runaway_is_told_though_the_agent_had_a_spike_last_week(acme: Tenant) -> None:
    end = datetime(2026, 11, 18, 20, tzinfo=UTC)
    random = np.random.default_rng(1)
    rows = [row(end - timedelta(hours=back), float(np.exp(random.normal(-1, 0.2)))) for back in range(45 * 24, 2, -1)]
    UsageHour.objects.bulk_create([*rows, *(row(end - timedelta(hours=back), 12.0) for back in (2, 1))])
    week_ago = end - timedelta(days=3)
    Anomaly.objects.create(
        dimension="agent", ref="basket-helper", period="day", kind="spike", first_at=week_ago, last_at=week_ago + timedelta(days=1),
        expected=9, actual=29, excess=20, score=5, created_at=week_ago,
    )  # fmt: skip

    run = anomalies.detect_hour(end=end, at=end + timedelta(minutes=5))

    assert (run.told, Notice.objects.get(topic="cost.anomaly").severity) == (1, "critical")


def test_days_that_nobody_looked_at_are_caught_up(acme: Tenant) -> None:
    past(days=40)
    anomalies.detect_day(day=LAST - timedelta(days=3), at=NIGHT)

    runs = anomalies.detect_due(at=NIGHT)

    assert [run.start.date() for run in runs if run.period == "day"] == [LAST - timedelta(days=back) for back in (2, 1, 0)]
    assert [run.period for run in anomalies.detect_due(at=NIGHT + timedelta(minutes=5))] == []


def test_feedback_is_kept_with_its_person(acme: Tenant, fay: User) -> None:
    found = reported(fay)

    anomalies.give_feedback(anomaly=found, actor=fay, feedback="true", note=" Loop in the crawler ", at=NIGHT)
    judged = anomalies.give_feedback(anomaly=found, actor=fay, feedback="false", at=NIGHT)

    assert (judged.feedback, judged.status, judged.feedback_by, judged.feedback_note) == ("false", "closed", fay, "")
    assert events()[1:] == ["anomaly.judged", "anomaly.judged"]


def test_feedback_is_taken_back_and_a_false_alert_that_is_real_after_all_is_looked_after(acme: Tenant, fay: User) -> None:
    found = detected()
    anomalies.give_feedback(anomaly=found, actor=fay, feedback="false", at=NIGHT)
    real = anomalies.give_feedback(anomaly=found, actor=fay, feedback="true", at=NIGHT)
    anomalies.give_feedback(anomaly=found, actor=fay, feedback="planned", note="Sale", at=NIGHT)

    undone = anomalies.withdraw_feedback(anomaly=found, actor=fay)

    assert real.status == "acknowledged"
    assert (undone.status, undone.feedback, undone.feedback_note, undone.feedback_by, undone.planned_until) == ("open", "", "", None, None)
    assert events()[-1] == "anomaly.feedback_withdrawn"
    with pytest.raises(AnomalyStateError, match="Nobody has said"):
        anomalies.withdraw_feedback(anomaly=found, actor=fay)
    missed = anomalies.report_missed(actor=fay, day=LAST, dimension="agent", ref="mailer", note="Sent twice", at=NIGHT)
    with pytest.raises(AnomalyStateError, match="A person reported it"):
        anomalies.withdraw_feedback(anomaly=missed, actor=fay)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"feedback": "maybe"}, "feedback"),
        ({"feedback": "true", "planned_until": date(2026, 12, 1)}, "planned_until"),
        ({"feedback": "planned", "planned_until": date(2026, 11, 1)}, "planned_until"),
        ({"feedback": "true", "note": "x" * 401}, "note"),
    ],
)
def test_feedback_that_makes_no_sense_is_refused(fields: dict[str, Any], named: str, acme: Tenant, fay: User) -> None:
    found = reported(fay)

    with pytest.raises(AnomalyValueError) as refused:
        anomalies.give_feedback(anomaly=found, actor=fay, at=NIGHT, **fields)

    assert refused.value.field == named


def test_acknowledged_then_closed_and_not_twice(acme: Tenant, fay: User) -> None:
    found = detected()

    anomalies.acknowledge(anomaly=found, actor=fay)
    with pytest.raises(AnomalyStateError):
        anomalies.acknowledge(anomaly=found, actor=fay)
    anomalies.close(anomaly=found, actor=fay)
    with pytest.raises(AnomalyStateError):
        anomalies.close(anomaly=found, actor=fay)

    assert events()[1:] == ["anomaly.acknowledged", "anomaly.closed"]


def test_missed_one_is_reported_with_its_figures(acme: Tenant, fay: User) -> None:
    made = reported(fay)

    assert (made.kind, made.feedback, made.status) == ("reported", "true", "acknowledged")
    assert sum(Decimal(amount) for _, amount in made.drivers) == made.excess
    with pytest.raises(AnomalyStateError):
        anomalies.report_missed(actor=fay, day=LAST, dimension="agent", ref="mailer", note="Again", at=NIGHT)
    with pytest.raises(AnomalyValueError) as unknown:
        anomalies.report_missed(actor=fay, day=LAST, dimension="agent", ref="nobody", note="?", at=NIGHT)
    assert unknown.value.field == "ref"


def test_settings_are_audited_and_the_same_change_nothing(acme: Tenant, fay: User) -> None:
    anomalies.change_settings(actor=fay, sensitivity="high", floor=Decimal("2.50"))
    anomalies.change_settings(actor=fay, sensitivity="high")

    assert AnomalySettings.objects.get().floor == Decimal("2.50")
    assert events() == ["anomaly.settings_changed"]
    with pytest.raises(AnomalyValueError) as refused:
        anomalies.change_settings(actor=fay, muted=["search"])
    assert refused.value.field == "muted"


def test_task_looks_at_what_is_due(acme: Tenant) -> None:
    tasks.detect_anomalies(schema_name=acme.schema_name)

    assert AnomalyRun.objects.filter(period="day").count() == 1


WEEK = Window(NIGHT - timedelta(days=14), NIGHT)


def judged(ref: str, feedback: str, fay: User, kind: str = "spike") -> None:
    by = {"feedback": feedback, "feedback_by": fay, "feedback_at": NIGHT} if feedback else {}
    Anomaly.objects.create(
        dimension="agent", ref=ref, period="day", kind=kind, first_at=NIGHT - timedelta(days=3), last_at=NIGHT, expected=1, actual=9,
        excess=8, score=5, created_at=NIGHT, **by,
    )  # fmt: skip


def looked(days: int = 14) -> None:
    AnomalyRun.objects.bulk_create(
        AnomalyRun(period="day", start=NIGHT - timedelta(days=back, hours=2), series=9, flagged=0, told=0, finished_at=NIGHT)
        for back in range(days)
    )


@pytest.mark.parametrize("name", ["detection_rate", "precision", "false_per_week", "uptime", "open"])
def test_metrics_know_nothing_of_what_was_not_looked_at(name: str, acme: Tenant) -> None:
    assert metrics.get(f"anomalies.{name}").read(WEEK) == NO_DATA


def test_metrics_of_judged_alerts(acme: Tenant, fay: User) -> None:
    looked()
    for ref, feedback in (("a", "true"), ("b", "true"), ("c", "planned"), ("d", "false"), ("e", "")):
        judged(ref, feedback, fay)
    judged("f", "true", fay, kind="reported")

    rate, precision, false = (metrics.get(f"anomalies.{name}").read(WEEK) for name in ("detection_rate", "precision", "false_per_week"))

    assert (rate.value, rate.sample) == (75.0, 4)
    assert (precision.value, precision.sample) == (75.0, 4)
    assert (false.value, dict(false.statistics)) == (1.0, {"false": 1, "unjudged": 1, "days": 14})
    assert metrics.get("anomalies.open").read(WEEK).value == 6.0


def test_false_alerts_need_a_week_of_tested_days(acme: Tenant) -> None:
    looked(days=6)

    assert metrics.get("anomalies.false_per_week").read(WEEK) == NO_DATA


def test_uptime_counts_hours_tested_in_time(acme: Tenant) -> None:
    window = Window(NIGHT - timedelta(hours=4), NIGHT)
    for back, late in ((4, 0), (3, 0), (2, 5)):
        start = NIGHT - timedelta(hours=back)
        AnomalyRun.objects.create(
            period="hour", start=start, series=1, flagged=0, told=0, finished_at=start + timedelta(hours=1 + late, minutes=5)
        )

    Tenant.objects.filter(pk=acme.pk).update(created_at=NIGHT - timedelta(days=9))
    reading = metrics.get("anomalies.uptime").read(window)
    Tenant.objects.filter(pk=acme.pk).update(created_at=NIGHT - timedelta(hours=3))
    of_younger = metrics.get("anomalies.uptime").read(window)

    assert (reading.value, dict(reading.statistics)) == (50.0, {"tested": 2, "all": 4})
    assert dict(of_younger.statistics) == {"tested": 1, "all": 3}
