"""On-call times as a picture: days by the clock of a zone, who is where in it, and that nobody is told by colour alone."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pytest

from integrations.pagerduty.analysis.model import Slice, Source, Span
from portal.oncall import timeline
from portal.oncall.timeline import VIEWS, Drawn, Lane, Timeline

BERLIN = ZoneInfo("Europe/Berlin")
UTC = ZoneInfo("UTC")
LAYER = Source("layer", "PL1", "Weekly")
HOUR = 3_600


def at(text: str, zone: ZoneInfo = BERLIN) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


def day(text: str, zone: ZoneInfo = BERLIN) -> Span:
    return timeline.window_of(VIEWS["day"], dt.date.fromisoformat(text), zone)


def of(*slices: Slice, window: Span, zone: ZoneInfo = BERLIN, now: int = 0, **more: object) -> Timeline:
    people = timeline.faces({"A": "Ada Byron", "B": "Bob Crane"})
    return timeline.draw(window, zone, [Drawn("On call", slices, is_final=True, **more)], people, now)  # type: ignore[arg-type]  # whatever a test says of it


def lane(*slices: Slice, window: Span) -> Lane:
    return of(*slices, window=window).lanes[0]


@pytest.mark.parametrize(
    ("zone", "on", "hours"),
    [
        ("Europe/Berlin", "2026-03-28", 24),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("America/New_York", "2026-03-08", 23),
        ("America/Sao_Paulo", "2017-10-15", 23),  # midnight itself is skipped
        ("Australia/Sydney", "2026-04-05", 25),
        ("Asia/Kolkata", "2026-03-29", 24),
        ("UTC", "2026-03-29", 24),
    ],
)
def test_a_day_has_the_hours_that_its_clock_shows(zone: str, on: str, hours: int) -> None:
    there = ZoneInfo(zone)
    window = day(on, there)
    assert window.seconds == hours * HOUR
    drawn = of(window=window, zone=there)
    assert len(drawn.ticks) == hours
    assert len(drawn.marks) == (hours != 24)


def test_a_change_of_half_an_hour_is_told_as_one() -> None:
    there = ZoneInfo("Australia/Lord_Howe")
    drawn = of(window=day("2026-04-05", there), zone=there)
    assert [mark.said for mark in drawn.marks] == ["clocks −30 min"]
    # Of the hour that is begun again, half comes twice.
    assert [tick.below for tick in drawn.ticks][:4] == ["00", "01", "01", "02"]


def test_the_schedules_own_clocks_are_marked_where_times_are_told_in_another_zone() -> None:
    window = timeline.window_of(VIEWS["month"], dt.date(2026, 3, 1), UTC)
    marks = timeline.draw(window, UTC, [], {}, 0, other=BERLIN).marks
    assert [(mark.said, "Europe/Berlin" in mark.title) for mark in marks] == [("clocks +1 h", True)]
    # Paris puts its clocks forward with Berlin: that is one change, and said once.
    window = timeline.window_of(VIEWS["month"], dt.date(2026, 3, 1), BERLIN)
    assert len(timeline.draw(window, BERLIN, [], {}, 0, other=ZoneInfo("Europe/Paris")).marks) == 1


def test_windows_move_by_the_calendar() -> None:
    month, weeks, one = VIEWS["month"], VIEWS["weeks"], VIEWS["day"]
    assert timeline.first_day(month, dt.date(2026, 2, 17)) == dt.date(2026, 2, 1)
    assert timeline.first_day(weeks, dt.date(2026, 3, 29)) == dt.date(2026, 3, 23)
    assert timeline.first_day(one, dt.date(2026, 3, 29)) == dt.date(2026, 3, 29)
    assert timeline.moved(month, dt.date(2026, 12, 1), 1) == dt.date(2027, 1, 1)
    assert timeline.moved(month, dt.date(2026, 1, 1), -1) == dt.date(2025, 12, 1)
    assert timeline.moved(weeks, dt.date(2026, 3, 23), -1) == dt.date(2026, 3, 9)
    window = timeline.window_of(weeks, dt.date(2026, 3, 23), BERLIN)
    assert window.seconds == 14 * 24 * HOUR - HOUR
    assert len(timeline.days(window, BERLIN)) == 14


def test_bars_stand_where_their_times_are_and_are_cut_at_the_edges() -> None:
    window = day("2026-06-01", UTC)
    first, second = lane(
        Slice(window.start - HOUR, window.start + 6 * HOUR, "A", LAYER),
        Slice(window.start + 6 * HOUR, window.end + 9 * HOUR, "B", LAYER),
        Slice(window.end, window.end + HOUR, "A", LAYER),
        window=window,
    ).bars
    assert (first.x, first.width, first.css) == (0, 25, "person-0")
    assert (second.x, second.width, second.css) == (25, 75, "person-1")
    assert second.title == "Bob Crane, Mon 1 Jun 08:00 to Tue 2 Jun 02:00, Weekly"


def test_several_at_once_are_drawn_below_each_other() -> None:
    window = day("2026-06-01", UTC)
    a = Slice(window.start, window.end, "A", LAYER)
    b = Slice(window.start + HOUR, window.start + 2 * HOUR, "B", LAYER)
    c = Slice(window.start + 2 * HOUR, window.start + 3 * HOUR, "B", LAYER)
    drawn = lane(a, b, c, window=window)
    assert [bar.y - drawn.y for bar in drawn.bars] == [0, timeline.BAR, timeline.BAR]
    assert drawn.height == 2 * timeline.BAR
    # The longer of two that begin at once is on top.
    first = lane(b, Slice(b.start, b.end + HOUR, "A", LAYER), window=window)
    assert [(bar.face.user, bar.y - first.y) for bar in first.bars] == [("A", 0), ("B", timeline.BAR)]


def test_nobody_and_an_override_look_different() -> None:
    window = day("2026-06-01", UTC)
    hole = Span(window.start + 4 * HOUR, window.start + 5 * HOUR)
    drawn = of(
        Slice(window.start, window.start + HOUR, "", LAYER),
        Slice(window.start + HOUR, window.start + 4 * HOUR, "A", Source("override", "O1")),
        window=window,
        holes=[hole],
    )
    assert [bar.css for bar in drawn.lanes[0].bars] == ["nobody", "person-0 overrides", "nobody"]
    assert drawn.lanes[0].bars[1].title.endswith(", override")


def test_handoffs_are_where_who_is_on_call_changes_and_nowhere_else() -> None:
    one = [Slice(0, 10, "A", LAYER), Slice(10, 20, "A", Source("layer", "PL2")), Slice(20, 30, "B", LAYER)]
    assert timeline.handoffs(one) == [
        (0, frozenset(), {"A"}),
        (20, {"A"}, {"B"}),
        (30, {"B"}, frozenset()),
    ]
    together = [Slice(0, 30, "A", LAYER), Slice(10, 20, "B", LAYER), Slice(20, 30, "", LAYER)]
    assert [at for at, *_ in timeline.handoffs(together)] == [0, 10, 20, 30]
    window = Span(0, 30)
    assert len(lane(*one, window=window).handoffs) == 1  # its edges are none


def test_handoffs_are_shown_where_they_stand_apart() -> None:
    window = timeline.window_of(VIEWS["month"], dt.date(2026, 6, 1), UTC)
    for turn, shown_from in ((24 * HOUR, 300), (12 * HOUR, 600), (8 * HOUR, 900)):
        turns = range(window.start, window.end, turn)
        slices = [Slice(at, at + turn, "AB"[at // turn % 2], LAYER) for at in turns]
        assert lane(*slices, window=window).handoffs_from == shown_from, turn


def test_a_shift_that_is_told_in_two_parts_is_one() -> None:
    rendered = Source("rendered")
    parts = [Slice(0, 5, "A", rendered), Slice(5, 9, "A", LAYER), Slice(9, 12, "B", LAYER), Slice(12, 13, "A", LAYER)]
    assert timeline.joined(parts) == [Slice(0, 9, "A", LAYER), Slice(9, 12, "B", LAYER), Slice(12, 13, "A", LAYER)]
    assert timeline.joined([]) == []


def test_no_two_have_the_same_initials_and_a_thirteenth_shares_a_colour_alone() -> None:
    names = {f"P{number}": "Ada Byron" for number in range(40)} | {"Q": "李 明", "R": "", "S": "--", "T": "Zoë"}
    made = timeline.faces(names)
    marks = [face.initials for face in made.values()]
    assert len(set(marks)) == len(marks)
    assert made["P0"].initials == "AB"
    assert made["Q"].initials == "李明"
    assert made["P0"].colour == made["P12"].colour
    assert made[""].name == "nobody"


def test_words_are_shown_where_there_is_room_for_them() -> None:
    window = timeline.window_of(VIEWS["weeks"], dt.date(2026, 6, 1), UTC)
    day_ = 24 * HOUR
    week, turn, quarter = lane(
        Slice(window.start, window.start + 7 * day_, "A", LAYER),
        Slice(window.start + 7 * day_, window.start + 8 * day_, "B", LAYER),
        Slice(window.start + 8 * day_, window.start + 8 * day_ + 600, "A", LAYER),
        window=window,
    ).bars
    assert (week.name_from, week.initials_from) == (300, 300)
    assert turn.name_from == 1100
    assert turn.initials_from == 600
    assert (quarter.name_from, quarter.initials_from) == (None, None)


def test_what_is_too_much_to_draw_is_drawn_as_one_and_said_so() -> None:
    window = timeline.window_of(VIEWS["month"], dt.date(2026, 6, 1), UTC)
    many = [Slice(at, at + 60, "AB"[at // 60 % 2], LAYER) for at in range(window.start, window.end, 60)]
    drawn = of(*many, window=window)
    assert drawn.condensed
    assert drawn.lanes[0].bars == ()
    assert [(block.x, block.width) for block in drawn.lanes[0].blocks] == [(0, 100)]
    assert "too many to draw" in drawn.lanes[0].note


def test_now_is_marked_where_it_is_and_what_is_past_is_shaded() -> None:
    window = day("2026-06-01", UTC)
    drawn = of(window=window, now=window.start + 18 * HOUR)
    assert [(mark.css, mark.x, mark.is_late) for mark in drawn.marks] == [("now", 75, False)]
    assert [(shade.css, shade.width) for shade in drawn.shades] == [("past", 75)]
    assert of(window=window, now=window.end).marks == ()
    assert of(window=window, now=window.start).shades == ()
