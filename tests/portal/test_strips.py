"""How holes are drawn: each where it is, whatever the clocks do."""

from __future__ import annotations

import datetime as dt
import re
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.analysis.model import Span
from portal.oncall.strips import HEIGHT, HOURS, STEP, by_day, day_map, days_of, lasts, strip

HOUR, DAY = 3_600, 86_400
BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, zone: dt.tzinfo = dt.UTC) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def rectangles(path: str) -> list[tuple[float, float, float, float]]:
    """Left, top, width and height of each."""
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+z", path)
    return [tuple(map(float, each)) for each in found]  # type: ignore[misc]  # four of them, by the pattern


def test_days_are_the_readers_and_the_first_begins_now() -> None:
    window = Span(at("2026-10-23T13:30", BERLIN), at("2026-10-27T08:00", BERLIN))
    days = days_of(window, BERLIN)
    assert [day.seconds // HOUR for day in days] == [10, 24, 25, 24, 8]
    assert (days[0].start, days[-1].end) == window
    assert [day.start for day in days[1:]] == [at(f"2026-10-{day}", BERLIN) for day in (24, 25, 26, 27)]


@given(
    start=st.integers(at("2026-03-01"), at("2026-12-01")),
    length=st.integers(1, 30 * DAY),
    holes=st.lists(st.tuples(st.integers(0, 30 * DAY), st.integers(1, 3 * DAY)), max_size=5),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata"]),
)
def test_no_second_of_a_hole_is_lost_or_drawn_twice(
    start: int, length: int, holes: list[tuple[int, int]], zone: str
) -> None:
    window, clock = Span(start, start + length), ZoneInfo(zone)
    spans = [
        Span(start + first, min(start + first + lasting, window.end)) for first, lasting in holes if first < length
    ]
    days = days_of(window, clock)
    assert sum(day.seconds for day in days) == length
    found = by_day(days, {"nobody": spans})
    assert sum(times["nobody"] for times in found.values()) == sum(span.seconds for span in spans)
    for drawn in (strip(days, {"nobody": spans}, clock), day_map(days, {"nobody": spans}, clock)):
        for _, path in drawn.shapes:
            for left, top, width, height in rectangles(path):
                assert 0 <= left < left + width <= drawn.width
                assert 0 <= top < top + height <= drawn.height + 0.01


def test_a_hole_is_drawn_at_its_hours_on_its_day() -> None:
    window = Span(at("2026-12-01"), at("2026-12-08"))
    hole = Span(at("2026-12-06T18:00"), at("2026-12-07T06:00"))
    drawn = day_map(days_of(window, dt.UTC), {"nobody": [hole]}, dt.UTC)
    assert drawn.shapes[0][0] == "is-nobody"
    evening, morning = rectangles(drawn.shapes[0][1])
    assert evening == (5 * STEP + 1, HOURS * 18 / 24, STEP - 2, HOURS * 6 / 24)
    assert morning == (6 * STEP + 1, 0, STEP - 2, HOURS * 6 / 24)
    assert [(day.span.start, day.nobody) for day in drawn.days] == [
        (at("2026-12-06"), "6 hours"),
        (at("2026-12-07"), "6 hours"),
    ]


def test_what_is_left_of_today_is_drawn_at_its_hours() -> None:
    window = Span(at("2026-12-01T12:00"), at("2026-12-03"))
    drawn = day_map(days_of(window, dt.UTC), {"nobody": [Span(at("2026-12-01T12:00"), at("2026-12-01T18:00"))]}, dt.UTC)
    assert rectangles(drawn.shapes[0][1]) == [(1, HOURS / 2, STEP - 2, HOURS / 4)]


def test_a_strip_tells_the_worst_of_a_day_and_how_long() -> None:
    days = days_of(Span(at("2026-12-01"), at("2026-12-05")), dt.UTC)
    drawn = strip(
        days,
        {
            "nobody": [Span(days[1].start, days[1].start + 60), Span(days[2].start, days[2].end)],
            "lower": [Span(days[0].start, days[0].end), Span(days[1].start + HOUR, days[1].end)],
            "intended": [Span(days[3].start, days[3].end)],
        },
        dt.UTC,
    )
    shapes = {name: rectangles(path) for name, path in drawn.shapes}
    assert set(shapes) == {"is-lower", "is-intended", "is-nobody heat-1", "is-nobody heat-3"}
    assert [int(left // STEP) for left, *_ in shapes["is-lower"]] == [0]
    # Forms differ, not colours alone.
    assert shapes["is-lower"][0][3] < shapes["is-intended"][0][3] < shapes["is-nobody heat-3"][0][3] < HEIGHT
    assert drawn.days[1].lower == "23 hours"


def test_how_long_something_is_in_words() -> None:
    told = {
        30: "under a minute",
        60: "1 minute",
        5_400: "1 hour 30 minutes",
        DAY: "1 day",
        90_060: "1 day 1 hour",
        0: "no time",
    }
    assert {seconds: lasts(seconds) for seconds in told} == told
    assert lasts(2 * DAY + 120) == "2 days 2 minutes"
