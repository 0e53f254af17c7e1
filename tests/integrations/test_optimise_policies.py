"""Other delays, another order of levels, and schedules that would close gaps: what they come to, and when none is proposed."""

from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.analysis.coverage import HOUR
from integrations.pagerduty.analysis.escalation import LONG_DELAY, SHORT_DELAY
from integrations.pagerduty.analysis.incidents import Incident, Step, log_of
from integrations.pagerduty.analysis.model import (
    Account,
    Layer,
    Level,
    Person,
    Policy,
    Rung,
    Schedule,
    Slice,
    Source,
    Span,
    Target,
)
from integrations.pagerduty.analysis.optimise import SOONER, Delays, delays, expected, expected_within, second_schedules
from integrations.pagerduty.analysis.response import ENOUGH, Answers, LevelTimes, policy_levels, times_of

START: Final = int(dt.datetime(2026, 10, 5, tzinfo=dt.UTC).timestamp())
NOTHING: Final = log_of([])
Seen = Sequence[tuple[int, bool]]
"""Seconds that each incident was waited for at a level, and whether it was acknowledged then."""


def measured(*levels: Seen) -> tuple[LevelTimes, ...]:
    return tuple(one_level(number, seen) for number, seen in enumerate(levels, 1))


def one_level(number: int, seen: Seen) -> LevelTimes:
    came = Counter(waited for waited, happened in seen if happened)
    at = tuple(sorted(came))
    waiting = tuple(sum(waited >= each for waited, _ in seen) for each in at)
    times = times_of(np.array([waited for waited, _ in seen]), np.array([happened for _, happened in seen]))
    answers = Answers(at, tuple(came[each] for each in at), waiting)
    return LevelTimes("PPOL1", number, len(seen), sum(came.values()), times, None, answers=answers)


def account(*delays: int, rung: int | None = 0, loops: int = 0, targets: int = 1) -> Account:
    """A policy of a level for each delay, with people who are told at once and by telephone after ``rung`` minutes."""
    users = [f"PUSR{number}{target}" for number in range(len(delays)) for target in range(targets)]
    ladder = None if rung is None else (Rung(0, "high", "PCON1", "push"), Rung(rung, "high", "PCON2", "phone"))
    people = {user: Person(user, user.title(), f"{user}@example.com", ladder=ladder) for user in users}
    levels = [
        Level(delay, tuple(Target("user", f"PUSR{number}{target}") for target in range(targets)))
        for number, delay in enumerate(delays)
    ]
    return Account(policies={"PPOL1": Policy("PPOL1", "Payments", tuple(levels), loops)}, people=people)


# How long it takes


QUICK_FEW: Final = [(60, True)] * 10 + [(600, False)] * 30
"""A quarter within a minute, and no other within ten."""
SLOW: Final = [(1080, True)] * 15 + [(1800, False)] * 15
"""Half of them after 18 minutes, the others never."""


def test_the_median_is_that_of_level_after_level() -> None:
    # Level 1: 10 of 40 within 60 s, so that 0.75 are left when its 10 minutes are over. Level 2: half of those answered after
    # 120 s leave 0.375, and before that 0.75: half are acknowledged 600 + 120 s after creation.
    levels = measured(QUICK_FEW, [(120, True)] * 15 + [(1800, False)] * 15)
    assert expected((10, 30), levels) == 720
    # With five minutes at level 1 as many are left, and it is five minutes sooner.
    assert expected((5, 30), levels) == 420
    # Of the first level alone a quarter is never answered again by what is known.
    assert expected((10,), levels[:1]) is None


def test_loops_come_back_to_the_first_level() -> None:
    # 0.75 are left after the first pass of one level, 0.75 * 0.75 = 0.5625 after the second, and in the third 0.42 after 60 s.
    levels = measured(QUICK_FEW)
    assert expected((10,), levels, loops=1) is None
    assert expected((10,), levels, loops=2) == 2 * 600 + 60


def test_the_last_level_is_waited_for_beyond_its_delay() -> None:
    # Nobody comes after it: what was answered after 18 minutes there counts, though the delay is one minute.
    levels = measured([(60, True)] * 10 + [(600, False)] * 30, SLOW)
    assert expected((10, 1), levels) == 600 + 1080
    # With a loop its minute is all there is before level 1 comes again: 0.75 are left, and then 0.5625; level 2 then.
    assert expected((10, 1), levels, loops=1) == 600 + 60 + 600 + 1080


def test_what_is_not_known_is_not_told() -> None:
    levels = measured(QUICK_FEW, SLOW)
    assert expected((10, 30), levels[:1]) is None
    assert expected((10, 30), levels[1:]) is None
    few = one_level(1, QUICK_FEW[: ENOUGH - 1])
    assert expected((10, 30), (few, levels[1])) is None
    assert expected((10, 30), [replace(each, answers=None) for each in levels]) is None
    # A level that nobody gets to before half have answered need not be.
    assert expected((30, 30), measured([(60, True)] * 30)) == 60


seen_at_a_level = st.lists(st.tuples(st.integers(1, 1500), st.booleans()), min_size=ENOUGH, max_size=40)


def left_after(seen: Seen, seconds: float) -> float:
    """Kaplan-Meier by its definition: the share not answered yet."""
    left = 1.0
    for at in sorted({waited for waited, happened in seen if happened and waited <= seconds}):
        came = sum(happened and waited == at for waited, happened in seen)
        left *= 1 - came / sum(waited >= at for waited, _ in seen)
    return left


def slow_expected(minutes: Sequence[int], levels: Sequence[Seen], loops: int) -> float | None:
    """Second by second."""
    begun, left = 0, 1.0
    passes = [(delay, seen) for _ in range(loops + 1) for delay, seen in zip(minutes, levels, strict=True)]
    for number, (delay, seen) in enumerate(passes, 1):
        end = 60 * delay if number < len(passes) else 3600
        for second in sorted({waited for waited, happened in seen if happened and waited <= end}):
            if left * left_after(seen, second) <= 0.5 + 1e-9:
                return begun + second
        left *= left_after(seen, 60 * delay)
        begun += 60 * delay
    return None


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 25), seen_at_a_level), min_size=1, max_size=3), st.integers(0, 2))
def test_the_median_is_that_of_every_second_by_itself(drawn: list[tuple[int, Seen]], loops: int) -> None:
    minutes, levels = [each for each, _ in drawn], [seen for _, seen in drawn]
    found = expected_within(minutes, measured(*levels), loops)
    assert found.seconds == slow_expected(minutes, levels, loops)
    if found.seconds is not None:
        assert found.low is not None
        assert found.low <= found.seconds <= (found.high or 1e9)


# Other delays


def proposed(known: Account, levels: Sequence[LevelTimes]) -> Delays:
    found = delays(known, "PPOL1", levels, NOTHING)
    assert found is not None
    return found


MANY_FEW: Final = [(60, True)] * 100 + [(1800, False)] * 300
FAST: Final = [(120, True)] * 120 + [(1800, False)] * 180
LATE: Final = [(1500, True)] * 120 + [(1800, False)] * 180
"""Of either two fifths, so that 0.75 * 0.6 = 0.45 are left of all: enough, and too few for the level to come first."""


def test_a_level_that_is_waited_for_in_vain_is_waited_for_less() -> None:
    found = proposed(account(30, 30), measured(MANY_FEW, FAST))
    # The linter minds less than five minutes; 0.75 are left as soon as the first minute is over.
    assert (found.before, found.after, found.order) == ((30, 30), (SHORT_DELAY, 30), (1, 2))
    assert (found.expected_before, found.expected_after) == (1920, 420)
    assert found.words == (
        "Level 1 waits 5 minutes in place of 30 minutes. Level 1 was come to 400 times, and acknowledged 100: most went on "
        "unanswered.",
        "Of 100 incidents that come to it, about 75 are passed on to level 2, now 75.",
        "Half of the incidents are then expected to be acknowledged within 7 minutes (95 %: 7 minutes to 7 minutes), now within "
        "32 minutes (95 %: 32 minutes to 32 minutes). Whoever was passed over is taken to answer no more.",
    )


@pytest.mark.parametrize(("rung", "least"), [(0, SHORT_DELAY), (9, 10), (20, 21)])
def test_nobody_is_passed_over_before_their_last_notification(rung: int, least: int) -> None:
    assert proposed(account(30, 30, rung=rung), measured(MANY_FEW, FAST)).after == (least, 30)


def test_where_somebody_s_rules_are_not_known_the_level_is_not_waited_for_less() -> None:
    known, levels = account(30, 30, rung=None), measured(MANY_FEW, FAST)
    assert delays(known, "PPOL1", levels, NOTHING) is None
    nobody = replace(known, people={})
    assert delays(nobody, "PPOL1", levels, NOTHING) is None


def test_people_of_schedules_count_and_those_of_schedules_that_are_not_known_too() -> None:
    known = account(30, 30)
    layer = Layer("PLAYER1", "", 0, None, 0, 86_400, ("PUSR00", "PLATE"))
    late = Person(
        "PLATE", "Late", "l@example.com", ladder=(Rung(14, "high", "PCON1", "phone"), Rung(25, "low", "PCON2", "email"))
    )
    policy = known.policies["PPOL1"]
    on_schedule = replace(policy, levels=(Level(30, (Target("schedule", "PSCH1"),)), policy.levels[1]))
    known = replace(known, policies={"PPOL1": on_schedule}, people={**known.people, "PLATE": late})
    levels = measured(MANY_FEW, FAST)
    with_it = replace(known, schedules={"PSCH1": Schedule("PSCH1", "One", "v2", "UTC", (layer,))})
    # Rules for low urgency do not count.
    assert proposed(with_it, levels).after == (15, 30)
    assert delays(known, "PPOL1", levels, NOTHING) is None


def test_nothing_is_proposed_that_gains_too_little_or_may_be_by_chance() -> None:
    # Half are acknowledged at the first level anyway.
    assert delays(account(10, 30), "PPOL1", measured([(60, True)] * 300, FAST), NOTHING) is None
    # It waits five minutes already, and less is minded.
    assert delays(account(5, 30), "PPOL1", measured(MANY_FEW, FAST), NOTHING) is None
    # Two minutes of nine are more than a tenth, and of 32 they are not.
    assert proposed(account(7, 30), measured(MANY_FEW, FAST)).after == (5, 30)
    assert delays(account(7, 30), "PPOL1", measured(MANY_FEW, LATE), NOTHING) is None
    # As much, of so few that it may not be so.
    unsure = [(120, True)] * 8 + [(1500, True)] * 3 + [(1800, False)] * 9
    assert expected((15, 30), measured(MANY_FEW, unsure)) == 900 + 120
    assert delays(account(15, 30), "PPOL1", measured(MANY_FEW, unsure), NOTHING) is None
    assert delays(account(15, 30), "PPOL2", measured(MANY_FEW, FAST), NOTHING) is None
    assert delays(account(15), "PPOL1", measured(FAST), NOTHING) is None


def test_levels_change_places_where_that_gains_far_more_than_other_delays() -> None:
    # Level 1 answers after 18 minutes, level 2 after two, and level 1 has a rule after 14: no delay does as well.
    quick = [(120, True)] * 250 + [(1800, False)] * 50
    found = proposed(account(15, 30, rung=14), measured([(1080, True)] * 212, quick))
    assert (found.order, found.before, found.after) == ((2, 1), (15, 30), (30, 15))
    assert (found.expected_before, found.expected_after) == (900 + 120, 120)
    assert found.words[:2] == (
        "Level 2 comes before level 1, if its people answer there as they do now. Level 2 took 2 minutes in the median "
        "(300 times).",
        "Level 1 took 18 minutes in the median (212 times).",
    )


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), seen_at_a_level), min_size=2, max_size=2),
    st.integers(0, 1),
    st.integers(0, 28),
    st.integers(1, 2),
)
def test_of_two_levels_no_delays_are_better_than_those_proposed(
    drawn: list[tuple[int, Seen]], loops: int, rung: int, targets: int
) -> None:
    before, seen = tuple(each for each, _ in drawn), [[*each] * 10 for _, each in drawn]
    levels = measured(*seen)
    found = delays(account(*before, rung=rung, loops=loops, targets=targets), "PPOL1", levels, NOTHING)
    was = expected(before, levels, loops)
    least = max(SHORT_DELAY, rung + 1)
    choices = [sorted({now, *range(least, LONG_DELAY + 1)}) for now in before]
    ways = {way: expected(way, levels, loops) for way in itertools.product(*choices)}
    if was is None:
        assert found is None
        return
    step = max(SOONER[0], SOONER[1] * was)

    def cost(way: tuple[int, ...]) -> float:
        seconds = ways[way]
        return 1e9 if seconds is None else seconds + step * sum(map(int.__ne__, way, before))

    if found is None:
        best = min(map(cost, ways))
        highs = [expected_within(way, levels, loops).high for way in ways if cost(way) == best]
        turned = expected(before[::-1], [replace(levels[1], level=1), replace(levels[0], level=2)], loops)
        assert best >= was or any(high is None or high >= was for high in highs) or (turned or 1e9) <= was - step
        return
    assert found.expected_before == was
    assert found.expected_after is not None
    if found.order == (1, 2):
        assert cost(found.after) == pytest.approx(min(map(cost, ways)))
        assert found.expected_after == ways[found.after]
        assert all(now in choice for now, choice in zip(found.after, choices, strict=True))
        assert cost(found.after) <= was
    else:
        assert found.after == before[::-1]
        assert was - found.expected_after >= step


def test_it_is_told_of_what_a_log_says() -> None:
    """600 incidents: level 1 answers a quarter in a minute and passes the others on after half an hour; of the 450 that level 2
    is come to, it answers two thirds after two minutes."""
    incidents = []
    for number in range(600):
        created = START + HOUR * number
        steps = [Step(f"R{number}a", created, "assign", "PUSR00")]
        if number % 4 == 0:
            steps.append(Step(f"R{number}b", created + 60, "acknowledge", "PUSR00"))
        else:
            steps.append(Step(f"R{number}b", created + 1800, "escalate", "PUSR10", "timeout"))
            if number % 4 < 3:
                steps.append(Step(f"R{number}c", created + 1920, "acknowledge", "PUSR10"))
        incidents.append(Incident(f"I{number}", created, policy_id="PPOL1", steps=tuple(steps)))
    log = log_of(incidents)
    window = Span(START, START + 601 * HOUR)
    levels = policy_levels(log, window, window.end + HOUR, "PPOL1")
    found = delays(account(30, 30, rung=9), "PPOL1", levels, log)
    assert found is not None
    assert (found.after, found.expected_before, found.expected_after) == ((10, 30), 1920, 720)
    assert "Level 1 was come to 600 times, and acknowledged 150" in found.words[0]


# Schedules that would close gaps


def policies(*levels: Sequence[str], **schedules: Any) -> tuple[Account, dict[str, list[Slice]]]:
    """A policy of levels of schedules; ``schedules``: their turns, as user, and hours from and to."""
    rendered = {
        id: [Slice(START + HOUR * start, START + HOUR * end, user, Source("layer", id)) for user, start, end in turns]
        for id, turns in schedules.items()
    }
    found = {
        id: Schedule(
            id,
            id.title(),
            "v2",
            "UTC",
            (Layer(id, "", 0, None, 0, 86_400, tuple(dict.fromkeys(one.user for one in slices))),),
            team_ids=("PTEAM2",) if id.startswith("X") else ("PTEAM1",),
        )
        for id, slices in rendered.items()
    }
    made = tuple(Level(30, tuple(Target("schedule", id) for id in ids)) for ids in levels)
    return Account(found, {"PPOL1": Policy("PPOL1", "Payments", made, 1, team_ids=("PTEAM1",))}), rendered


DAY_: Final = Span(START, START + 24 * HOUR)


def closing(*levels: Sequence[str], **schedules: Any) -> list[tuple[int, str, int, int]]:
    found = second_schedules(*policies_of(levels, schedules), DAY_)
    return [(one.level, one.schedule_id, one.uncovered_before // HOUR, one.uncovered_after // HOUR) for one in found]


def policies_of(levels: Sequence[Sequence[str]], schedules: Any) -> tuple[Account, str, dict[str, list[Slice]]]:
    known, rendered = policies(*levels, **schedules)
    return known, "PPOL1", rendered


def test_those_that_close_most_come_first() -> None:
    known, rendered = policies(["A"], A=[("P1", 0, 8)], B=[("P2", 6, 20)], C=[("P3", 0, 24)])
    first, second = second_schedules(known, "PPOL1", rendered, DAY_)
    assert (first.schedule_id, first.closes) == ("C", (Span(START + 8 * HOUR, START + 24 * HOUR),))
    assert (first.uncovered_before, first.uncovered_after) == (16 * HOUR, 0)
    assert first.words == (
        "C on level 1 as well would close all in which that level reaches nobody.",
        "Its people would be paged in 8 h besides, together with those who are.",
    )
    assert (second.schedule_id, second.uncovered_after) == ("B", 4 * HOUR)
    assert second.words[0] == "B on level 1 as well would close 12 h of the 16 h in which that level reaches nobody."


def test_nobody_is_put_on_two_levels_after_each_other_at_once() -> None:
    # B has P2, who is on level 2 from 10 to 12; C has her at another time only, and D somebody else.
    turns: dict[str, Any] = {"A": [("P1", 0, 8)], "L": [("P2", 10, 12), ("P1", 12, 24), ("P1", 0, 10)]}
    assert closing(["A"], ["L"], **turns, B=[("P2", 8, 24)]) == []
    assert closing(["A"], ["L"], **turns, C=[("P2", 12, 24)]) == [(1, "C", 16, 4)]
    assert closing(["A"], ["L"], **turns, D=[("P3", 8, 24)]) == [(1, "D", 16, 0)]
    # Two levels further on it is no matter: level 3's own schedule would do.
    assert closing(["A"], ["L"], ["B"], **turns, B=[("P2", 8, 10), ("P3", 0, 8), ("P3", 10, 24)]) == [(1, "B", 16, 0)]
    # But not while level 2 reaches nobody: then level 3 comes next.
    turns["L"] = [("P2", 10, 12), ("P1", 12, 24)]
    assert closing(["A"], ["L"], ["B"], **turns, B=[("P2", 8, 10), ("P3", 0, 8), ("P3", 10, 24)]) == []
    # Nor where it is not known who is on level 2.
    known, rendered = policies(["A"], ["L"], **turns, D=[("P3", 8, 24)])
    assert second_schedules(known, "PPOL1", rendered, DAY_)
    del rendered["L"]
    assert second_schedules(known, "PPOL1", rendered, DAY_) == ()


def test_schedules_that_have_nothing_to_do_with_it_are_none() -> None:
    assert closing(["A"], A=[("P1", 0, 8)], X=[("P2", 0, 24)]) == []
    # With somebody in common they have.
    assert closing(["A"], A=[("P1", 0, 8)], X=[("P1", 8, 10), ("P2", 10, 24)]) == [(1, "X", 16, 0)]


def test_what_is_not_known_or_has_no_gaps_needs_none() -> None:
    assert closing(["A"], A=[("P1", 0, 24)], B=[("P2", 0, 24)]) == []
    known, rendered = policies(["A"], A=[("P1", 0, 8)], B=[("P2", 0, 24)])
    assert second_schedules(known, "PPOL1", {"B": rendered["B"]}, DAY_) == ()
    assert second_schedules(known, "PPOL1", {"A": rendered["A"]}, DAY_) == ()
    assert second_schedules(known, "PPOL2", rendered, DAY_) == ()


def test_five_at_most() -> None:
    more: dict[str, Any] = {f"B{number}": [(f"P{number}", 8, 12 + number)] for number in range(7)}
    found = closing(["A"], A=[("PX", 0, 8)], **more)
    assert [id for _, id, _, _ in found] == ["B6", "B5", "B4", "B3", "B2"]
