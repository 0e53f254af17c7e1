"""How an escalation policy is drawn, and how one that might be is written into an address: without pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
from django.http import QueryDict
from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.analysis.model import Account, Level, Person, Policy, Schedule, Target
from integrations.pagerduty.analysis.response import Estimate, LevelTimes, Times
from portal.oncall.ladder import AXIS, ROW, Standing, extent, ladder, lasting
from portal.oncall.whatif import (
    Draft,
    Row,
    arguments,
    as_it_is,
    asked,
    differences,
    digest,
    not_simple,
    reordered,
)

UNKNOWN = Estimate(None, None, None)
ANN, BEN, CEM = (Target("user", id, name) for id, name in (("PUSRA", "Ann"), ("PUSRB", "Ben"), ("PUSRC", "Cem")))
ROTA = Target("schedule", "PSCH1", "Rota")
ACCOUNT = Account(
    schedules={"PSCH1": Schedule("PSCH1", "Rota", "v2", "UTC"), "PSCH3": Schedule("PSCH3", "Shifts", "v3", "UTC")},
    people={target.id: Person(target.id, target.name) for target in (ANN, BEN, CEM)},
)


def policy(*levels: Level, loops: int = 0) -> Policy:
    return Policy("PPOL1", "Desk", levels, loops)


def level_times(level: int, median: Estimate, p90: Estimate = UNKNOWN) -> LevelTimes:
    return LevelTimes("PPOL1", level, 20, 15, Times(20, 15, median, p90, None), None)


def stood(*names: str, gaps: int = 0) -> Standing:
    return Standing(names, "reached" if names else "nobody", gaps)


THREE = policy(Level(10, (ANN,)), Level(20, (BEN,)), Level(10, (CEM,)), loops=1)


# The picture


def test_each_level_begins_where_the_one_before_ends() -> None:
    drawn = ladder(THREE, [stood("Ann"), stood("Ben"), stood("Cem")], [None, None, None])
    # 10, 20 and 10 of 40 minutes.
    assert [(rung.x, rung.width) for rung in drawn.rungs] == [(0, 25), (25, 50), (75, 25)]
    assert [rung.begins for rung in drawn.rungs] == [0, 10, 30]
    assert [rung.y for rung in drawn.rungs] == [AXIS, AXIS + ROW, AXIS + 2 * ROW]
    assert (drawn.ends, drawn.minutes, drawn.total) == (100, 40, 80)
    assert drawn.ticks == ((0, "0"), (25, "10 min"), (50, "20 min"), (75, "30 min"))
    assert drawn.said == (
        "3 levels: level 1 at once: Ann; level 2 after 10 min: Ben; level 3 after 30 min: Cem. "
        "After the last it begins again from level 1, once more: 1 h 20 min in all."
    )


def test_answers_are_drawn_against_the_delay_of_their_level() -> None:
    # Level 1: half after 4 minutes (2 to 6), nine in ten after 8; level 2, from minute 10 on: half after 25, later than its 20.
    measured = [
        level_times(1, Estimate(240, 120, 360), Estimate(480, None, None)),
        level_times(2, Estimate(1_500, 1_200, None)),
        None,
    ]
    drawn = ladder(THREE, [stood("Ann"), stood("Ben"), stood()], measured)
    one, two, three = (rung.answers for rung in drawn.rungs)
    assert one is not None
    assert two is not None
    assert (one.low, one.median, one.high, one.p90, one.is_late) == (5, 10, 15, 20, False)
    # 10 + 25 of 40 minutes; an end that is not known is no line, and the thin one goes to the edge.
    assert (two.low, two.median, two.high, two.p90, two.is_late) == (75, 87.5, 87.5, None, True)
    assert three is None
    assert drawn.rungs[2].who == "nobody now: skipped at once"
    assert "later than" not in drawn.said


def test_the_picture_grows_for_late_answers_but_not_without_end() -> None:
    last = [None, None, level_times(3, Estimate(1_200, None, None))]
    # The last level begins at minute 30, and half answer 20 minutes later: 50; it never grows beyond half as much again.
    assert extent(THREE, last) == 50
    assert extent(THREE, [None, None, level_times(3, Estimate(90_000, None, None))]) == 60
    assert extent(policy(Level(0, ())), [None]) == 1


@pytest.mark.parametrize(
    ("minutes", "told"),
    [(0, "0 min"), (45, "45 min"), (60, "1 h"), (125, "2 h 5 min"), (1_500, "1 d 1 h"), (10_080, "7 d")],
)
def test_minutes_in_words(minutes: int, told: str) -> None:
    assert lasting(minutes) == told


@given(st.lists(st.integers(0, 10_080), max_size=30), st.integers(0, 9))
def test_whatever_the_delays_nothing_is_drawn_outside(delays: list[int], loops: int) -> None:
    drawn = ladder(
        policy(*(Level(delay, (ANN,)) for delay in delays), loops=loops),
        [stood("Ann")] * len(delays),
        [None] * len(delays),
    )
    assert all(0 <= rung.x <= 100 and rung.x + rung.width <= 100.5 for rung in drawn.rungs)
    assert all(0 <= x <= 94 for x, _ in drawn.ticks)
    assert len(drawn.ticks) <= 8


# What might be


targets = st.lists(st.sampled_from([ANN, BEN, CEM, ROTA]), min_size=1, max_size=4, unique=True).map(tuple)
levels = st.lists(st.tuples(st.integers(1, 10_080), targets), min_size=1, max_size=8)


@given(levels, levels, st.integers(0, 9), st.data())
def test_an_address_says_all_of_a_draft(now: list[object], then: list[object], loops: int, data: st.DataObject) -> None:
    known = policy(*(Level(*level) for level in now))  # type: ignore[misc]
    places = data.draw(st.permutations(range(1, len(now) + 1)))
    rows = tuple(
        Row(Level(*level), places[number] if number < len(places) else 0)  # type: ignore[misc]
        for number, level in enumerate(then)
    )
    draft = Draft(rows, loops)
    found = asked(QueryDict(draft.query), known, ACCOUNT)
    assert found is not None
    assert found.errors == ()
    assert found.draft == draft
    assert {unquote(name) for name, _ in draft.fields} == set(QueryDict(draft.query))
    # What is the same is no difference, and the other way round.
    assert (differences(known, draft, ACCOUNT) == []) == (digest(draft.policy(known)) == digest(known))


def test_what_is_moved_up_comes_before_what_stands_there_and_what_is_moved_down_after() -> None:
    def order(**places: int) -> list[int]:
        query = QueryDict(as_it_is(THREE).query, mutable=True)
        for name, place in places.items():
            query[name.replace("_", "-")] = str(place)
        found = asked(query, THREE, ACCOUNT)
        assert found is not None
        assert found.draft is not None
        return [row.was for row in found.draft.rows]

    assert order() == [1, 2, 3]
    assert order(place_3=1) == [3, 1, 2]
    assert order(place_1=3) == [2, 3, 1]
    assert order(place_1=2) == [2, 1, 3]
    assert order(place_2=1, place_3=2) == [2, 1, 3]


def test_the_tool_is_told_what_is_other_and_nothing_else() -> None:
    base = {"escalation_policy_id": "PPOL1"}
    assert arguments(THREE, as_it_is(THREE), ACCOUNT) == base
    assert arguments(THREE, Draft(as_it_is(THREE).rows, 4), ACCOUNT) == base | {"repeats": 4}
    one, two, three = as_it_is(THREE).rows
    later = Draft((one, Row(Level(25, (BEN,)), 2), three), 1)
    assert arguments(THREE, later, ACCOUNT) == base | {"level_delays": [10, 25, 10]}
    shifts = Target("schedule", "PSCH3", "Shifts")
    more = Draft((one, two, Row(Level(10, (CEM, shifts, ROTA)), 3)), 1)
    assert arguments(THREE, more, ACCOUNT) == base | {
        "level_targets": ["user:PUSRA", "user:PUSRB", "user:PUSRC,schedule_v3:PSCH3,schedule:PSCH1"]
    }
    # Whose delays are alike, and who is told otherwise, changes places whole.
    turned = Draft((three, two, one), 1)
    assert arguments(THREE, turned, ACCOUNT) == base | {"level_targets": ["user:PUSRC", "user:PUSRB", "user:PUSRA"]}


def test_what_would_not_go_along_is_not_simple() -> None:
    turns = policy(Level(10, (ANN, BEN), round_robin=True), Level(10, (CEM,)))
    one, two = as_it_is(turns).rows
    assert not_simple(turns, Draft((one, two), 3)) == ""
    assert not_simple(turns, Draft((Row(Level(5, (ANN,), round_robin=True), 1), two), 0)) == ""
    assert "in turn" in not_simple(turns, Draft((two, one), 0))
    assert "in turn" in not_simple(turns, Draft((one,), 0))
    gone = policy(Level(10, (Target("user", "PUSRX", "Gone", deleted=True),)))
    assert "deleted" in not_simple(gone, Draft(as_it_is(gone).rows, 1))


def test_what_was_measured_goes_with_its_level() -> None:
    one, _, three = as_it_is(THREE).rows
    new = Row(Level(5, (ANN,)), 0)
    told: list[Any] = ["a", "b", "c"]
    moved: list[Any] = reordered(told, Draft((three, new, one), 0))
    assert moved == ["c", None, "a"]
