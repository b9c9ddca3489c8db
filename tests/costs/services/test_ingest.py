"""Exactly once, into the right hour, with the right price."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from django.db import connection, models, transaction
from django.db.models.functions import Cast
from django.utils import timezone

from costs import selectors, sketch, tasks
from costs.models import CallHour, Event, Inbox, LatencyHour, RejectedInbox, TokenDay, UsageHour, VerdictHour
from costs.models.event import DATED_ID, has_id, has_request_id
from costs.services import ingest
from gateway.contract import copying
from gateway.contract.events import INBOX_COLUMNS
from governance.models import Tenant, User
from governance.schema import enter_tenant
from tests.factories import costs as make

NOON = datetime(2026, 3, 31, 12, 20, tzinfo=UTC)


def totals() -> tuple[int, Decimal]:
    hours = UsageHour.objects.all()
    return sum(hour.calls for hour in hours), sum((hour.cost for hour in hours), Decimal())


def test_inbox_has_the_columns_of_the_contract() -> None:
    ours = [field.column for field in Inbox._meta.fields if field.name not in ("id", "received_at")]

    assert tuple(ours) == INBOX_COLUMNS


def test_a_line_gives_the_same_row_whoever_takes_it_apart(acme: Tenant) -> None:
    chance = random.Random(5)
    texts = ("", "null", "Zoë, 東京", 'say "a"', "tab\there", "back\\slash", "a,b", "\\.", "line\nline", "\x7f\u2028")
    # What the plane leaves to its defaults is in some lines and not in others.
    lines = [
        msgspec.json.encode(
            {
                **make.call(acme, agent=chance.choice((None, *texts)), model=texts[n % len(texts)]),
                "started_at": 1_795_283_344 + chance.randrange(-(10**9), 10**7) + chance.random(),
                "stream": bool(n % 2),
                "tags": {"team, a": texts[n % len(texts)]},
                **({"units": {"web_search": n}, "service_tier": "flex"} if n % 3 else {}),
            }
        )
        for n in range(200)
    ]
    plain = [line for line in lines if b"\\" not in line]
    columns = [Cast(name, models.TextField()) for name in INBOX_COLUMNS]

    ingest.ship(plain)
    quick = set(Inbox.objects.values_list(*columns))
    Inbox.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(copying.STAGE)
        with cursor.copy(copying.COPY_LINES) as copy:
            copy.write(copying.staged(plain))
        cursor.execute(copying.TAKE_APART)
        cursor.execute("TRUNCATE arriving")
    taken_apart = set(Inbox.objects.values_list(*columns))

    assert copying.rows(plain)[1] == []
    assert len(quick) == len(plain) > 40
    assert quick == taken_apart
    Inbox.objects.all().delete()
    ingest.ship(lines)
    assert set(Inbox.objects.values_list("model", flat=True)) == set(texts)
    assert Inbox.objects.count() == len(lines)
    strange = [
        b"{}",
        b'{"event_id":',
        lines[0].replace(b"1", b"\xff"),
        lines[0].replace(b'"kind":"chat"', b'"kind":"x"'),
        b'{"circuit":"open"}',
        *(msgspec.json.encode({**make.call(acme), "started_at": seconds}) for seconds in (-1e12, 6.9e16, 1e19)),
    ]
    assert copying.rows(strange) == (b"", strange)


def test_call_becomes_one_priced_event_and_its_rollups(acme: Tenant, alice: User) -> None:
    make.prices(alice, input="0.15", output="0.60")

    done = make.record(acme, make.call(acme, started_at=NOON, input_tokens=1000, cached_input_tokens=400, output_tokens=200))

    assert (done.taken, done.new, done.duplicates, done.rejected) == (1, 1, 0, 0)
    event = Event.objects.get()
    assert (event.uncached_input_tokens, event.cached_input_tokens, event.output_tokens) == (600, 400, 200)
    assert event.cost == Decimal("0.00027")  # cached input has no price of its own: charged as input
    assert event.pricing == "priced"
    assert len(event.price_ids) == 4
    hour = UsageHour.objects.get()
    assert hour.hour == datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert (hour.calls, hour.cost, hour.unpriced_calls, hour.untagged_calls) == (1, Decimal("0.00027"), 0, 0)
    assert {(row.token_class, row.tokens, row.cost) for row in TokenDay.objects.all()} == {
        ("input", 600, Decimal("0.00009")),
        ("cached_input", 400, Decimal("0.00006")),
        ("output", 200, Decimal("0.00012")),
    }
    assert {row.measure for row in LatencyHour.objects.all()} == {"duration", "ttft", "overhead", "attribution"}
    assert not Inbox.objects.exists()


def test_call_is_found_by_its_id_and_its_request_id(acme: Tenant) -> None:
    dated = UUID(int=int(NOON.timestamp() * 1000) << 80 | DATED_ID << 76 | 2 << 62 | 5)
    other = uuid4()
    make.record(
        acme,
        make.call(acme, event_id=dated, started_at=NOON + timedelta(milliseconds=3), request_id=str(dated)),
        make.call(acme, event_id=other, request_id="of-the-caller"),
        make.call(acme, request_id=str(other)),
    )

    first = Event.objects.filter(has_id(dated) | has_id(other)).order_by("started_at").first()
    assert first is not None
    assert first.event_id == dated
    assert Event.objects.filter(has_id(other)).get().request_id == "of-the-caller"
    assert Event.objects.filter(has_request_id(str(dated))).get().event_id == dated
    assert Event.objects.filter(has_request_id("of-the-caller")).get().event_id == other
    assert Event.objects.filter(has_request_id(str(other))).get().event_id != other
    assert not Event.objects.filter(has_id(UUID(int=dated.int | 0xFFFF << 112)) | has_request_id("nobody")).exists()
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
    for asked in (has_id(other), has_id(dated), has_request_id("x"), has_request_id(str(other)), has_request_id(str(dated))):
        assert "Seq Scan" not in Event.objects.filter(asked).explain()


def test_cached_input_with_its_own_price(acme: Tenant, alice: User) -> None:
    make.prices(alice, input="2.00", output="8.00")
    make.price(alice, "cached_input", "0.50")
    make.price(alice, "cache_write", "2.50")

    make.record(acme, make.call(acme, input_tokens=1_000_000, cached_input_tokens=300_000, cache_write_tokens=100_000, output_tokens=0))

    assert Event.objects.get().cost == Decimal("1.20") + Decimal("0.15") + Decimal("0.25")


def test_the_price_of_the_time_of_the_call_counts(acme: Tenant, alice: User) -> None:
    change = datetime(2026, 4, 1, tzinfo=UTC)
    make.price(alice, "input", "1.00", valid_to=change)
    make.price(alice, "input", "3.00", valid_from=change)
    make.price(alice, "output", "0")

    make.record(
        acme,
        make.call(acme, started_at=change - timedelta(microseconds=1), input_tokens=1_000_000),
        make.call(acme, started_at=change, input_tokens=1_000_000),
        make.call(acme, started_at=change + timedelta(hours=12), input_tokens=500_000, cached_input_tokens=250_000),
        make.call(acme, started_at=change + timedelta(hours=18), input_tokens=500_000),
    )

    assert [event.cost for event in Event.objects.order_by("started_at")] == [Decimal(1), Decimal(3), Decimal("1.5"), Decimal("1.5")]
    assert list(TokenDay.objects.filter(token_class="input").order_by("day").values_list("tokens", "cost")) == [
        (1_000_000, Decimal(1)),
        (1_750_000, Decimal("5.25")),
    ]


def test_call_without_a_price_is_unpriced_and_counted_never_zero(acme: Tenant, alice: User) -> None:
    make.price(alice, "input", "1.00")  # no output price

    make.record(acme, make.call(acme))

    event = Event.objects.get()
    assert event.cost is None
    assert event.pricing == "unpriced"
    assert UsageHour.objects.get().unpriced_calls == 1
    usage = selectors.usage_by_key([UsageHour.objects.get().key_id])[UsageHour.objects.get().key_id]
    assert (usage.calls, usage.unpriced_calls, usage.cost_usd) == (1, 1, None)
    assert {row.unpriced_tokens for row in TokenDay.objects.all()} == {1000, 200}


def test_refused_call_costs_nothing_and_a_tool_call_has_no_price(acme: Tenant) -> None:
    make.record(
        acme,
        make.call(acme, **make.REFUSED),
        make.call(acme, kind="tool", model="handbook__search", provider=None, input_tokens=None, output_tokens=None, usage_source="none"),
        make.call(acme, status="upstream_error", http_status=502, input_tokens=None, output_tokens=None, usage_source="none"),
        make.call(acme, input_tokens=None, output_tokens=None, usage_source="none"),
    )

    found = {(event.kind, event.status): (event.pricing, event.cost) for event in Event.objects.all()}
    assert found == {
        ("chat", "refused"): ("free", Decimal(0)),
        ("tool", "ok"): ("unmetered", None),
        ("chat", "upstream_error"): ("free", Decimal(0)),
        ("chat", "ok"): ("unpriced", None),
    }
    assert {hour.outcome for hour in UsageHour.objects.all()} == {"ok", "refused", "error"}
    assert {event.input_tokens for event in Event.objects.all()} == {None}


def test_call_without_agent_project_or_key_is_untagged(acme: Tenant) -> None:
    make.record(acme, make.call(acme, agent=None), make.call(acme, project=None), make.call(acme))

    assert sum(hour.untagged_calls for hour in UsageHour.objects.all()) == 2


def test_duplicates_replays_and_shuffles_change_no_total(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    calls = [make.call(acme, started_at=NOON + timedelta(minutes=7 * n), input_tokens=n, agent=f"agent-{n % 3}") for n in range(40)]
    make.record(acme, *calls)
    before = totals()

    shuffled = random.Random(7).sample(calls, len(calls))
    make.deliver(*shuffled, times=2)
    done = ingest.ingest(tenant=acme, batch_size=7)

    assert (done.taken, done.new, done.duplicates) == (80, 0, 80)
    assert totals() == before
    assert before[0] == 40
    assert Event.objects.count() == 40


def test_duplicate_within_one_batch(acme: Tenant) -> None:
    """Of a killed plane's call there may be two records that differ: the first that came counts."""
    call = make.call(acme, output_tokens=7)
    make.deliver(call, {**call, "status": "error", "output_tokens": 8}, call)

    done = ingest.ingest(tenant=acme)

    assert (done.new, done.duplicates) == (1, 2)
    assert UsageHour.objects.get().calls == 1
    assert (Event.objects.get().status, Event.objects.get().output_tokens) == ("ok", 7)


def test_calls_of_a_plane_that_come_again_are_counted_once(acme: Tenant) -> None:
    """Their ids are dated, and then nobody looks out for a second one until the first attempt fails."""
    calls = [
        make.call(
            acme, event_id=UUID(int=int(NOON.timestamp() * 1000 + n) << 80 | DATED_ID << 76 | 2 << 62 | n), started_at=NOON, output_tokens=n
        )
        for n in range(12)
    ]
    impossible = make.call(acme, event_id=UUID(int=calls[0]["event_id"].int | 1 << 40), input_tokens=-1)

    first = make.record(acme, *calls[:6], {**calls[0], "output_tokens": 99}, impossible)
    again = make.record(acme, *calls, impossible)
    last = make.record(acme, *calls)

    assert (first.new, first.duplicates, first.rejected) == (6, 1, 1)
    assert (again.new, again.duplicates, again.rejected) == (6, 6, 1)
    assert (last.new, last.duplicates, last.rejected) == (0, 12, 0)
    assert list(Event.objects.order_by("output_tokens").values_list("output_tokens", flat=True)) == [*range(12)]
    assert totals()[0] == sum(LatencyHour.objects.filter(measure="duration").values_list("count", flat=True)) == 12
    assert TokenDay.objects.get(token_class="output").tokens == sum(range(12))
    assert RejectedInbox.objects.count() == 2


def exported(tenant: Tenant, answer: str, **fields: Any) -> dict[str, Any]:
    """A span of a call, as it comes by OTLP: its request id is what it says that the answer was called."""
    return make.call(tenant, request_id=answer, steps=[["otlp", "pass", 0, ""]], **fields)


def test_span_of_a_call_that_the_gateway_recorded_is_not_counted_again(acme: Tenant) -> None:
    """Whichever came first; as long as the record comes within the time that spans wait."""
    make.deliver(exported(acme, "chatcmpl-of-the-gateway-1"), make.call(acme, answer_id="chatcmpl-of-the-gateway-1"))
    make.deliver(make.call(acme, answer_id="chatcmpl-of-the-gateway-2"), exported(acme, "chatcmpl-made-without-it-1"))
    waits = ingest.ingest(tenant=acme, hold=timedelta(minutes=1))
    make.deliver(exported(acme, "chatcmpl-of-the-gateway-2"))

    done = ingest.ingest(tenant=acme, hold=timedelta(0))
    again = make.record(acme, exported(acme, "chatcmpl-of-the-gateway-1"))

    assert (waits.taken, waits.new, Inbox.objects.count()) == (2, 2, 0)
    assert (done.taken, done.new, done.duplicates) == (3, 1, 2)
    assert (again.new, again.duplicates) == (0, 1)
    assert Event.objects.get(answer_id=None).request_id == "chatcmpl-made-without-it-1"
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("EXPLAIN SELECT FROM event WHERE hashtextextended(answer_id, 0) = hashtextextended('x', 0) AND answer_id = 'x'")
        assert "Seq Scan" not in str(cursor.fetchall())
    assert totals()[0] == 3


def test_no_span_is_counted_before_calls_that_were_there_first(acme: Tenant) -> None:
    """Behind a backlog of calls, or where another worker is at them, spans wait as well."""
    make.deliver(make.call(acme), make.call(acme, answer_id="chatcmpl-of-the-gateway-1"), exported(acme, "chatcmpl-of-the-gateway-1"))

    some = ingest.ingest(tenant=acme, batch_size=1, most_batches=1, hold=timedelta(0))
    rest = ingest.ingest(tenant=acme, hold=timedelta(0))

    assert (some.taken, some.new) == (1, 1)
    assert (rest.taken, rest.new, rest.duplicates) == (2, 1, 1)


def test_another_tenants_answers_are_unknown(acme: Tenant, globex: Tenant) -> None:
    make.record(acme, make.call(acme, answer_id="chatcmpl-of-the-gateway-1"))
    enter_tenant(globex)

    assert make.record(globex, exported(globex, "chatcmpl-of-the-gateway-1")).new == 1


def test_late_event_changes_the_hour_it_belongs_to(acme: Tenant, alice: User) -> None:
    make.prices(alice)
    make.record(acme, make.call(acme, started_at=NOON))

    make.record(acme, make.call(acme, started_at=NOON - timedelta(days=70)), make.call(acme, started_at=NOON))

    assert [(hour.hour.month, hour.calls) for hour in UsageHour.objects.order_by("hour")] == [(1, 1), (3, 2)]


def test_events_lie_in_the_partition_of_their_utc_month(acme: Tenant) -> None:
    make.record(
        acme,
        make.call(acme, started_at=datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)),
        make.call(acme, started_at=datetime(2026, 4, 1, tzinfo=UTC)),
    )

    with connection.cursor() as cursor:
        cursor.execute("SELECT tableoid::regclass::text FROM event ORDER BY started_at")
        assert [row[0] for row in cursor.fetchall()] == ["event_2026_03", "event_2026_04"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"started_at": datetime(1970, 1, 1, tzinfo=UTC)}, "impossible_time"),
        ({"started_at": datetime(2126, 1, 1, tzinfo=UTC)}, "impossible_time"),
        ({"input_tokens": -5}, "impossible_count"),
        ({"output_tokens": 10**15}, "impossible_count"),
        ({"duration_us": -1}, "impossible_count"),
    ],
)
def test_impossible_call_is_set_aside_without_stopping_the_others(acme: Tenant, fields: dict[str, object], reason: str) -> None:
    done = make.record(acme, make.call(acme, **fields), make.call(acme))

    assert (done.new, done.rejected) == (1, 1)
    assert RejectedInbox.objects.get().reason == reason


def test_more_cached_tokens_than_input_never_goes_below_zero(acme: Tenant) -> None:
    make.record(acme, make.call(acme, input_tokens=10, cached_input_tokens=25))

    assert Event.objects.get().uncached_input_tokens == 0


def test_rows_of_another_tenant_stay_in_the_inbox(acme: Tenant, globex: Tenant) -> None:
    make.record(acme, make.call(acme), make.call(globex))

    assert [row.tenant for row in Inbox.objects.all()] == [globex.public_id]
    assert Event.objects.count() == 1


def test_unknown_tenant_is_quarantined_after_a_while(acme: Tenant) -> None:
    make.deliver({**make.call(acme), "tenant": "nobody22"})

    tenants, unknown = ingest.tenants_waiting()
    early = ingest.quarantine(unknown=unknown, at=timezone.now())
    late = ingest.quarantine(unknown=unknown, at=timezone.now() + timedelta(minutes=11))

    assert (tenants, unknown, early, late) == ([], ["nobody22"], 0, 1)
    assert RejectedInbox.objects.get().reason == "unknown_tenant"
    assert not Inbox.objects.exists()


def test_tenants_waiting_names_each_tenant_once(acme: Tenant, globex: Tenant) -> None:
    make.deliver(make.call(acme), make.call(globex), times=3)

    tenants, unknown = ingest.tenants_waiting()

    assert {tenant.slug for tenant in tenants} == {"acme", "globex"}
    assert unknown == []


def test_task_runs_in_its_tenant_and_may_run_twice(acme: Tenant) -> None:
    make.deliver(make.call(acme))

    tasks.ingest(schema_name=acme.schema_name)
    tasks.ingest(schema_name=acme.schema_name)

    enter_tenant(acme)
    assert UsageHour.objects.get().calls == 1


def test_batch_that_is_rolled_back_leaves_everything_in_the_inbox(acme: Tenant) -> None:
    make.deliver(make.call(acme))

    with transaction.atomic():
        ingest.ingest(tenant=acme)
        transaction.set_rollback(True)

    assert Inbox.objects.count() == 1
    assert not Event.objects.exists()
    assert not UsageHour.objects.exists()


def test_failovers_are_counted_by_model_deployment_and_why_it_was_left(acme: Tenant) -> None:
    steps = [["identify", "pass", 4, ""], ["failover", "pass", 0, "7:503 → 8"], ["failover", "pass", 0, "8:not translated → 9"]]
    odd = [["failover", "pass", 0, "somewhere"], ["failover", "pass", 0, "7: → 8"], ["failover", "pass", 0]]
    calls = [make.call(acme, steps=steps), make.call(acme, steps=steps), make.call(acme, model="other", steps=odd)]

    make.record(acme, *calls)
    make.record(acme, *calls)

    assert set(VerdictHour.objects.values_list("step", "verdict", "found", "calls", "hits")) == {
        ("failover:small-chat", "503", "7", 2, 0),
        ("failover:small-chat", "not translated", "8", 2, 0),
        ("failover:other", "unknown", "", 3, 0),
    }


def test_how_calls_went_is_added_up_by_all_that_a_model_can_be_narrowed_to(acme: Tenant) -> None:
    slow, quick = str(sketch.bucket(9_000_000)), str(sketch.bucket(800_000))
    hit, miss = ([["cache:small-chat", verdict, 0, ""]] for verdict in ("hit", "miss"))
    miss = [*miss, ["cache:small-chat", "hit", 0, ""]]  # the first word counts
    first = [make.call(acme, started_at=NOON, steps=miss), make.call(acme, started_at=NOON, duration_us=9_000_000, ttft_us=None)]
    later = [
        make.call(acme, started_at=NOON + timedelta(minutes=5), duration_us=9_000_000, ttft_us=None),
        make.call(acme, started_at=NOON, status="upstream_error", error_code="upstream_timeout"),
        make.call(acme, started_at=NOON, status="upstream_error", error_code="upstream_timeout"),
        make.call(acme, started_at=NOON, status="upstream_error", error_code="upstream_error"),
        make.call(acme, started_at=NOON, status="client_gone", error_code=None),
        make.call(acme, started_at=NOON, **{**make.REFUSED, "model": "small-chat"}),
        make.call(acme, started_at=NOON, steps=hit, usage_source="cache", provider=None, deployment=None),
        make.call(acme, started_at=NOON, kind="tool", model="handbook__search", provider=None, deployment=None),
        make.call(acme, started_at=NOON, model=None),
    ]

    make.record(acme, *first)
    make.record(acme, *first, *later)
    make.record(acme, *later)

    rows = {(row.status, row.deployment): row for row in CallHour.objects.all()}
    assert {row.hour for row in rows.values()} == {NOON.replace(minute=0)}
    assert {key: row.calls for key, row in rows.items()} == {
        ("ok", "1"): 3, ("ok", ""): 1, ("upstream_error", "1"): 3, ("client_gone", "1"): 1, ("refused", ""): 1,
    }  # fmt: skip
    well = rows["ok", "1"]
    assert (well.durations, well.ttfts, well.error_codes) == ({quick: 1, slow: 2}, {str(sketch.bucket(300_000)): 1}, {})
    assert (well.cache_hits, well.cache_misses, rows["ok", ""].cache_hits) == (0, 1, 1)
    ill = rows["upstream_error", "1"]
    assert (ill.durations, ill.error_codes) == ({}, {"upstream_timeout": 2, "upstream_error": 1})
    assert rows["refused", ""].error_codes == {"consent_withdrawn": 1}
    assert rows["client_gone", "1"].error_codes == {}
