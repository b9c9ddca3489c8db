from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.contract.snapshot import Window
from gateway.plane.windows import span_of

BERLIN = ZoneInfo("Europe/Berlin")


def _at(text: str, zone: ZoneInfo = BERLIN) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone).timestamp()


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        ("minute", "2026-11-20T13:37", "2026-11-20T13:38"),
        ("hour", "2026-11-20T13:00", "2026-11-20T14:00"),
        ("day", "2026-11-20T00:00", "2026-11-21T00:00"),
        ("month", "2026-11-01T00:00", "2026-12-01T00:00"),
    ],
)
def test_windows_follow_the_calendar_of_the_zone(window: str, start: str, end: str) -> None:
    span = span_of(window, _at("2026-11-20T13:37:12"), BERLIN)  # type: ignore[arg-type]

    assert span == (_at(start), _at(end))


def test_hours_of_a_half_hour_zone() -> None:
    kolkata = ZoneInfo("Asia/Kolkata")

    span = span_of("hour", _at("2026-11-20T13:37:12", kolkata), kolkata)

    assert span.start == _at("2026-11-20T13:00", kolkata)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29T12:00", 23), ("2026-10-25T12:00", 25)])
def test_day_of_the_clock_change(day: str, hours: int) -> None:
    span = span_of("day", _at(day), BERLIN)

    assert span.end - span.start == hours * 3600


def test_both_hours_at_the_end_of_summer_time_are_windows_of_their_own() -> None:
    first = _at("2026-10-25T02:30")

    spans = [span_of("hour", moment, BERLIN) for moment in (first, first + 3600)]

    assert spans[0].end == spans[1].start
    assert spans[0].start < first < spans[0].end


@given(
    window=st.sampled_from(["minute", "hour", "day", "month"]),
    moment=st.integers(int(_at("2010-01-01")), int(_at("2040-01-01"))),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Africa/Cairo", "America/Havana", "Pacific/Apia", "UTC"]),
)
@example(window="day", moment=int(_at("2026-04-24T12:00", ZoneInfo("Africa/Cairo"))), zone="Africa/Cairo")  # has no midnight
@example(window="day", moment=int(_at("2026-11-01T12:00", ZoneInfo("America/Havana"))), zone="America/Havana")  # has two
@example(window="month", moment=int(_at("2011-12-31T12:00", ZoneInfo("Pacific/Apia"))), zone="Pacific/Apia")  # the day before did not exist
def test_each_moment_is_in_one_window_and_windows_touch(window: Window, moment: int, zone: str) -> None:
    place = ZoneInfo(zone)

    span = span_of(window, moment, place)

    assert span.start <= moment < span.end
    assert span_of(window, span.start, place) == span == span_of(window, span.end - 1, place)
    assert span_of(window, span.end, place).start == span.end
