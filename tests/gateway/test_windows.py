from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

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


def test_windows_of_a_year_touch_and_do_not_overlap() -> None:
    moment = datetime(2026, 1, 1, tzinfo=BERLIN)
    span = span_of("month", moment.timestamp(), BERLIN)

    for _ in range(24):
        following = span_of("month", span.end, BERLIN)
        assert following.start == span.end
        assert timedelta(days=28) <= timedelta(seconds=following.end - following.start) <= timedelta(days=31, hours=1)
        span = following
