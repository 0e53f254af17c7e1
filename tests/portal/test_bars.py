"""How load is drawn, by numbers that can be checked by hand."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from portal.oncall import bars

WEEK = st.lists(st.lists(st.integers(0, 1_000), min_size=24, max_size=24), min_size=7, max_size=7)


def sizes(path: str) -> list[tuple[float, float, float, float]]:
    """Of its rectangles: left, top, width, height."""
    found = re.findall(r"M([\d.]+) ([\d.]+)h([\d.]+)v([\d.]+)h-[\d.]+z", path)
    return [(float(left), float(top), float(wide), float(high)) for left, top, wide, high in found]


def test_a_bar_is_as_long_as_its_parts_and_each_kind_has_a_thickness_of_its_own() -> None:
    drawn = bars.bar((10, 5, 5), 40)
    # Of 200 for 40: 50, 25 and 25, one after the other, in the middle of 12.
    assert [(shape.name, *sizes(shape.path)) for shape in drawn.shapes] == [
        ("is-sleep", (0, 0, 50, 12)),
        ("is-off", (50, 2, 25, 8)),
        ("is-business", (75, 4, 25, 4)),
    ]
    assert bars.bar((0, 0, 0), 40).shapes == ()
    assert bars.bar((0, 0, 0), 0).shapes == ()


def test_what_is_little_is_seen_all_the_same() -> None:
    [shape] = bars.bar((1, 0, 0), 1_000_000).shapes
    assert sizes(shape.path)[0][2] == 1
    [shape] = bars.columns([(1, 0, 0)], 1_000_000).shapes
    assert sizes(shape.path)[0][3] == 0.5


def test_columns_stand_one_on_the_other_the_worst_at_the_bottom() -> None:
    drawn = bars.columns([(0, 0, 0), (30, 0, 30)], 60)
    assert (drawn.width, drawn.height) == (bars.FEWEST * 12, 60)
    by_name = {shape.name: sizes(shape.path) for shape in drawn.shapes}
    [(_, top, _, high)] = by_name["is-sleep"]
    assert (top, high) == (30, 30)
    [(_, top, _, high)] = by_name["is-business"]
    assert (top, high) == (0, 30)


def test_the_more_in_an_hour_the_larger_its_square() -> None:
    week = [[0] * 24 for _ in range(7)]
    week[0][0], week[6][23] = 1, 100
    drawn = bars.heat(week)
    assert [shape.name for shape in drawn.shapes] == ["heat heat-1", "heat heat-4"]
    small, large = (sizes(shape.path)[0] for shape in drawn.shapes)
    assert small[2] < large[2]
    # In the middle of the last cell of the last row.
    assert (large[0] + large[2] / 2, large[1] + large[3] / 2) == (235, 65)


@given(WEEK)
def test_each_hour_with_anything_in_it_has_a_square_and_no_other(week: list[list[int]]) -> None:
    drawn = bars.heat(week)
    squares = [size for shape in drawn.shapes for size in sizes(shape.path)]
    cells = {(int((left + wide / 2) // 10), int((top + high / 2) // 10)) for left, top, wide, high in squares}
    assert cells == {(hour, day) for day, hours in enumerate(week) for hour, count in enumerate(hours) if count}
    assert all(wide == high and 0 < wide < bars.CELL for _, _, wide, high in squares)
