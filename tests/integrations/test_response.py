"""How fast incidents are answered: by hand, against a slow calculation, and in simulated accounts."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.analysis import log_reading
from integrations.pagerduty.analysis.incidents import KIND, Chosen, Incident, Log, Step, log_of
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.analysis.response import (
    APART,
    ENOUGH,
    MEASURES,
    Answers,
    By,
    Estimate,
    LevelTimes,
    Response,
    Times,
    grouped,
    levels_of,
    policy_levels,
    response,
    slowest_of,
    times_of,
)
from integrations.pagerduty.sandbox.documents import entry_document, incident_document
from integrations.pagerduty.sandbox.world import generate
from tests.logs import rows

T = 1_700_000_000 // 86_400 * 86_400
"""A midnight of UTC."""
NOW = T + 10_000
WINDOW = Span(T, NOW)
NOT_KNOWN = Estimate(None, None, None)


def step(after: int, kind: str, user: str = "", way: str = "") -> tuple[int, str, str, str]:
    return after, kind, user, way


def incident(id: str, created: int, end: int | None, *steps: tuple[int, str, str, str], **more: object) -> Incident:
    """Times of steps and of the end are seconds after its creation, which is so many after ``T``."""
    whole = (step(0, "trigger"), *steps) if steps else ()
    fixed: dict[str, object] = {
        "service_id": "S1",
        "policy_id": "P1",
        "status": "triggered" if end is None else "resolved",
    }
    return Incident(
        id,
        T + created,
        resolved=None if end is None else T + created + end,
        steps=tuple(
            Step(f"{id}{number}", T + created + after, kind, user, way)
            for number, (after, kind, user, way) in enumerate(whole)
        ),
        **fixed | more,  # type: ignore[arg-type]
    )


NOTIFIED = step(5, "notify", "U1", "push")
EIGHT = log_of(
    (
        incident("A", 0, 600, NOTIFIED, step(60, "acknowledge", "U1"), team_ids=("T1", "T2"), priority="P1"),
        incident("B", 1_000, 900, step(10, "notify", "U1", "push"), step(120, "acknowledge", "U1"), team_ids=("T1",)),
        # Its monitor took it back before anybody answered.
        incident("C", 2_000, 90, NOTIFIED, step(90, "resolve", way="auto"), service_id="S2"),
        incident("D", 3_000, 1_500, NOTIFIED, step(300, "escalate", "U2", "timeout"), step(420, "acknowledge", "U2")),
        # Nobody has answered yet.
        incident("E", 4_000, None, step(20, "notify", "U1", "push"), step(300, "escalate", "U2", "timeout")),
        # Seen and taken on the website before anybody was notified; a third person was asked to help, and came.
        incident(
            "F",
            5_000,
            400,
            step(30, "acknowledge", "U1"),
            step(100, "request", "U3"),
            step(160, "respond", "U3"),
        ),
        # Not urgent: told by e-mail.
        incident("G", 6_000, 3_000, step(5, "notify", "U1", "email"), step(2_000, "acknowledge", "U1"), urgency="low"),
        # No log entry of it is known.
        incident("H", 7_000, 700),
    )
)


def rounded(times: Times) -> tuple[int, int, Estimate, Estimate, float | None]:
    return (times.count, times.happened, times.median, times.p90, None if times.mean is None else round(times.mean, 2))


def test_the_measures_of_eight_incidents_worked_by_hand() -> None:
    found = response(EIGHT, WINDOW, NOW)
    assert found.incidents == 8
    # Acknowledge: H is left out, as no entry of it is known. C was waited for 90 s, E still is, since 6000 s. By time:
    #   30 F, 60 A, 90 C (not), 120 B, 420 D, 2000 G, 6000 E (not).
    # At risk and left: 30: 7, 6/7 = .857. 60: 6, 5/7 = .714. 120: 4, x 3/4 = .536. 420: 3, x 2/3 = .357. 2000: 2, x 1/2 = .179.
    # The median is where half or less is left: 420. A tenth is never left: no 90th percentile.
    # Greenwood's sum, 1 / (n (n - 1)) each: .0238, .0571, .1405, .3071, .8071. y = log(-log S), and s = sqrt(sum) / -log S:
    #   30: y = -1.870, s = 1.001; lower curve y + 1.96 s = .092, over log(-log .5) = -.367: half may be left at 30.
    #   420: y = .029, s = .538, y - 1.96 s = -1.026; 2000: y = .544, s = .521, -.478: still under -.367, so no upper end.
    # For 90 % the bar is log(-log .1) = .834. The lower curve's y + 1.96 s: 30: .092; 60: y = -1.089, s = .710, .303;
    #   120: y = -.471, s = .601, .706; 420: 1.085, over it: a tenth may be left from 420 on.
    # Mean of those that did: (30 + 60 + 120 + 420 + 2000) / 5 = 526.
    assert rounded(found.times["acknowledge"]) == (7, 5, Estimate(420, 30, None), Estimate(None, 420, None), 526)
    # The first who engaged is the first who acknowledged, in all of them.
    assert found.times["engage"] == found.times["acknowledge"]
    # Notify: F was answered after 30 s without. 5 A C D G, 10 B, 20 E, 30 F (not). Left: 5: 3/7, 10: 2/7, 20: 1/7.
    # 5: y = log(-log .429) = -.166, sum 4 / (7 x 3) = .190, s = .515: y + 1.96 s = .844, over both bars. The upper curve's
    #   y - 1.96 s: 5: -1.176; 10: y = .225, sum .357, s = .477: -.710; 20: y = .666, sum .857, s = .476: -.267, over -.367.
    # Mean: (4 x 5 + 10 + 20) / 6 = 8.33.
    assert rounded(found.times["notify"]) == (7, 6, Estimate(5, 5, 20), Estimate(None, 5, None), 8.33)
    # Resolve: all eight. 90 C, 400 F, 600 A, 700 H, 900 B, 1500 D, 3000 G, 6000 E (not). Half is left at 700.
    # Mean: 7190 / 7 = 1027.14.
    assert found.times["resolve"].median.seconds == 700
    assert rounded(found.times["resolve"])[:2] == (8, 7)
    assert rounded(found.times["resolve"])[4] == 1027.14
    # Mobilise: only F called somebody else. 160 - 30 = 130; of one, no interval.
    assert rounded(found.times["mobilise"]) == (1, 1, Estimate(130, None, None), Estimate(130, None, None), 130)


def test_the_waterfall_of_eight_incidents_worked_by_hand() -> None:
    stages = {stage.name: stage for stage in response(EIGHT, WINDOW, NOW).waterfall}
    assert list(stages) == ["notify", "acknowledge", "mobilise", "resolve"]
    assert (stages["notify"].starts, stages["notify"].times.median.seconds) == (0, 5)
    # From the first notification, which F did not have: 55 A, 85 C (not), 110 B, 415 D, 1995 G, 5980 E (not).
    # Left: 55: 5/6, 110: x 3/4 = .625, 415: x 2/3 = .417: the median.
    assert (stages["acknowledge"].starts, stages["acknowledge"].times.median.seconds) == (5, 415)
    assert (stages["acknowledge"].times.count, stages["acknowledge"].times.happened) == (6, 4)
    assert (stages["mobilise"].starts, stages["mobilise"].times.median.seconds) == (420, 130)
    # From the acknowledgement, of F from when the second came: 240 F, 540 A, 780 B, 1000 G, 1080 D: left at 780 2/5.
    # One of five called somebody: of most nothing passed in between, and it starts where mobilise does.
    assert (stages["resolve"].starts, stages["resolve"].times.median.seconds) == (420, 780)
    assert (stages["resolve"].times.count, stages["resolve"].times.happened) == (5, 5)
    assert stages["resolve"].times.mean == (240 + 540 + 780 + 1_000 + 1_080) / 5


def test_who_answered_first_needs_no_notification() -> None:
    log = log_of(
        [
            incident("A", 0, 600, step(3, "acknowledge", "U1")),
            incident("B", 10, 600, NOTIFIED, step(60, "acknowledge", "U1")),
        ]
    )
    # 3 A (not), 5 B, who is the only one still waited for: none is left.
    assert rounded(response(log, WINDOW, NOW).times["notify"])[:3] == (2, 1, Estimate(5, None, None))


def test_who_is_called_and_does_not_come_is_waited_for() -> None:
    ack, other = step(60, "acknowledge", "U1"), step(200, "acknowledge", "U2")
    log = log_of(
        [
            # Asked, and never came: 540 s until its end.
            incident("A", 0, 600, ack, step(70, "request", "U2")),
            # Came without being asked, after 140 s.
            incident("B", 10, 600, ack, other),
            # Nobody else was called.
            incident("C", 20, 600, ack, step(200, "acknowledge", "U1")),
            # Asked for when it was over, or nobody had engaged.
            incident("D", 30, 600, step(70, "request", "U2")),
            # Whose the first was is not known: nor, whether the other is somebody else.
            incident("E", 40, 600, step(60, "acknowledge"), other),
        ]
    )
    found = response(log, WINDOW, NOW).times["mobilise"]
    # That both were quicker than a tenth would be would be a chance of a hundredth: a lower end.
    assert rounded(found) == (2, 1, Estimate(140, None, None), Estimate(None, 140, None), 140)
    # Before the second came, nobody had been called.
    assert response(log, Span(T + 10, T + 11), T + 150).times["mobilise"].count == 0


def test_the_levels_of_eight_incidents_worked_by_hand() -> None:
    first, second = response(EIGHT, WINDOW, NOW).levels
    # G is not urgent, and of H nothing is known. D and E went on after 300 s.
    # 30 F, 60 A, 90 C (not), 120 B, 300 D and E (not). Left: 5/6, 4/6, x 2/3 = .444: 120.
    assert (first.level, first.reached, first.answered) == (1, 6, 3)
    assert (first.times.count, first.times.happened, first.times.median.seconds) == (6, 3, 120)
    assert first.answers == Answers(at=(30, 60, 120), answered=(1, 1, 1), waiting=(6, 5, 3))
    assert first.naive == (30 + 60 + 120) / 3
    # 120 D, 5700 E (not); since its creation D took 420 s.
    assert (second.level, second.reached, second.answered) == (2, 2, 1)
    assert (second.times.median.seconds, second.times.mean, second.naive) == (120, 120, 420)
    assert policy_levels(EIGHT, WINDOW, NOW, "P1")[1].policy_id == "P1"
    assert policy_levels(EIGHT, WINDOW, NOW, "P2") == ()
    # Of so few nothing is said.
    assert response(EIGHT, WINDOW, NOW).slowest is None


def counted(by: By, zone: ZoneInfo | None = None) -> list[tuple[str, int]]:
    return [(group.key, group.incidents) for group in grouped(EIGHT, WINDOW, NOW, by, zone=zone)]


def test_the_eight_incidents_by_each_thing() -> None:
    assert counted("policy") == [("P1", 8)]
    assert counted("service") == [("S1", 7), ("S2", 1)]
    # A counts with both of its teams.
    assert counted("team") == [("", 6), ("T1", 2), ("T2", 1)]
    assert counted("urgency") == [("high", 7), ("low", 1)]
    assert counted("priority") == [("", 7), ("P1", 1)]
    # D was answered at level 2, and E is there; where H was is not known.
    assert counted("level") == [("", 1), ("1", 5), ("2", 2)]
    assert counted("hour") == [("0", 4), ("1", 4)]
    # Half an hour off: A 5:30, B 5:46, C 6:03, D 6:20, ... G 7:10.
    assert counted("hour", ZoneInfo("Asia/Kolkata")) == [("5", 2), ("6", 4), ("7", 2)]
    by_team = {group.key: group.times for group in grouped(EIGHT, WINDOW, NOW, "team")}
    assert (by_team["T1"]["acknowledge"].count, by_team["T1"]["acknowledge"].mean) == (2, 90)
    assert (by_team["T2"]["acknowledge"].count, by_team["T2"]["acknowledge"].mean) == (1, 60)


def test_what_is_chosen_alone_is_counted() -> None:
    assert response(EIGHT, WINDOW, NOW, Chosen(urgency="low")).times["acknowledge"].mean == 2_000
    # What is not urgent goes to no second level: it says nothing of levels.
    assert response(EIGHT, WINDOW, NOW, Chosen(urgency="low")).levels == ()
    assert response(EIGHT, WINDOW, NOW, Chosen(service_id="S2")).times["acknowledge"].happened == 0
    assert response(EIGHT, WINDOW, NOW, Chosen(policy_id="P9")).incidents == 0
    assert response(EIGHT, Span(T + 1_000, T + 3_000), NOW).incidents == 2
    assert [group.key for group in grouped(EIGHT, WINDOW, NOW, "service", Chosen(team_id="T1"))] == ["S1"]


def test_what_happened_later_has_not_happened() -> None:
    """As of 100 s after D was made: it was waited for so long, its level is the first, and it is not resolved."""
    found = response(EIGHT, Span(T + 3_000, T + 4_000), T + 3_100)
    assert rounded(found.times["acknowledge"]) == (1, 0, NOT_KNOWN, NOT_KNOWN, None)
    assert rounded(found.times["resolve"])[:2] == (1, 0)
    assert [(level.level, level.reached, level.answered) for level in found.levels] == [(1, 1, 0)]
    assert [
        (group.key, group.incidents) for group in grouped(EIGHT, Span(T + 3_000, T + 4_000), T + 3_100, "level")
    ] == [("1", 1)]


def test_nothing_at_all_is_told_as_not_known() -> None:
    empty = log_of(())
    found = response(empty, WINDOW, NOW)
    assert (found.incidents, found.levels, found.slowest) == (0, (), None)
    assert [rounded(times) for times in found.times.values()] == [(0, 0, NOT_KNOWN, NOT_KNOWN, None)] * len(MEASURES)
    assert [stage.starts for stage in found.waterfall] == [0, 0, 0, 0]
    for by in get_args(By):
        assert grouped(empty, WINDOW, NOW, by) == ()
    assert list(levels_of(empty)) == []


def test_a_resolved_incident_without_an_end_is_not_told_as_open() -> None:
    log = log_of([incident("A", 0, None, NOTIFIED, step(50, "resolve"), status="resolved")])
    times = response(log, WINDOW, NOW).times
    assert times["resolve"].count == 0
    # Nobody was waited for after the last that is known of it.
    assert times["acknowledge"].count == 1
    assert response(log, WINDOW, NOW).levels[0].times.count == 1
    assert rounded(times["acknowledge"]) == (1, 0, NOT_KNOWN, NOT_KNOWN, None)


# Levels


def levels(*steps: tuple[int, str, str, str]) -> list[int]:
    return [int(level) for level in levels_of(log_of([incident("A", 0, None, *steps)]))]


def test_each_escalation_is_one_level_more() -> None:
    assert levels(NOTIFIED, step(300, "escalate", "U2"), step(301, "assign", "U2"), step(600, "escalate", "U3")) == [
        1, 1, 2, 2, 3,
    ]  # fmt: skip
    # To two people at once: one escalation, whatever order PagerDuty's ids put it in.
    assert levels(step(300, "assign", "U2"), step(300, "escalate", "U2"), step(300, "escalate", "U3")) == [1, 2, 2, 2]
    # Who acknowledged in the second that it was passed on did so at the level before.
    assert levels(step(300, "escalate", "U2", "manual"), step(300, "acknowledge", "U1")) == [1, 1, 2]
    # The policy repeats.
    assert levels(step(300, "escalate", "U2"), step(600, "restart"), step(605, "notify", "U1"), step(900, "escalate")) == [
        1, 2, 1, 1, 2,
    ]  # fmt: skip


def test_levels_do_not_run_from_one_incident_into_the_next() -> None:
    log = log_of(
        [
            incident("A", 0, None, step(300, "escalate", "U2")),
            incident("B", 10, 50),
            incident("C", 20, None, step(0, "escalate", "U2")),
            incident("D", 30, None, NOTIFIED),
        ]
    )
    assert list(levels_of(log)) == [1, 2, 1, 2, 1, 1]
    # C was at its first level for no time at all.
    first, second = response(log, WINDOW, NOW).levels
    assert (first.reached, second.reached) == (2, 2)


def test_a_level_that_it_came_to_again_is_waited_at_again() -> None:
    log = log_of(
        [
            incident(
                "A", 0, 2_000, step(300, "escalate", "U2"), step(600, "restart"), step(900, "acknowledge", "U1"),
            )
        ]
    )  # fmt: skip
    first, second = response(log, WINDOW, NOW).levels
    # 300 s for nothing, then 300 s until the answer: one incident, two waits.
    assert (first.reached, first.answered, first.times.count, first.times.happened) == (1, 1, 2, 1)
    assert (first.times.mean, first.naive) == (300, 900)
    assert (second.reached, second.answered) == (1, 0)


def level(number: int, waits: Sequence[int], answered: bool = True) -> LevelTimes:
    times = times_of(np.array(waits), np.full(len(waits), answered))
    at_least = None if answered else float(sorted(waits)[-10])
    return LevelTimes("", number, len(waits), len(waits), times, None, at_least)


def test_the_slowest_level_is_named_where_enough_is_known() -> None:
    quick, slow = level(1, range(100, 200)), level(2, range(900, 1_000))
    found = slowest_of((quick, slow))
    assert found is not None
    assert (found.level, found.next, found.sure) == (slow, quick, True)
    # Slower, and by nothing that matters.
    near = slowest_of((quick, level(2, range(120, 220))))
    assert near is not None
    assert (near.level.level, near.sure) == (2, False)
    high = quick.times.median.high
    assert high is not None
    for more, sure in ((0, False), (3, True)):
        wait = int(APART * high) + more
        apart = slowest_of((quick, level(2, [wait] * 100)))
        assert apart is not None
        assert apart.sure == sure
    assert slowest_of((quick, level(2, range(900, 900 + ENOUGH - 1)))) is None
    assert slowest_of((quick,)) is None
    # A few that nobody answered for an hour can be chance: what is slow for sure comes first. It is not sure that it is slowest.
    few = np.array([60] * 12 + [3_600] * 12)
    chance = LevelTimes("", 3, 24, 12, times_of(few, few == 60), None)
    assert chance.times.median.seconds == 60
    assert chance.times.median.high is None
    doubtful = slowest_of((quick, slow, chance))
    assert doubtful is not None
    assert (doubtful.level, doubtful.next, doubtful.sure) == (slow, quick, False)
    # Most went on without an answer: slower than as long as it was waited for.
    unanswered = slowest_of((quick, level(2, [1_500] * 40, answered=False), slow))
    assert unanswered is not None
    assert (unanswered.level.level, unanswered.next, unanswered.sure) == (2, slow, True)


# Estimates


def slowly(waits: Sequence[tuple[int, bool]]) -> tuple[Estimate, Estimate]:
    """As it stands in books, time after time."""
    found = []
    for left in (0.5, 0.1):
        low = middle = high = None
        curve, spread = 1.0, 0.0
        for at, some in groupby(sorted(waits), key=lambda row: row[0]):
            came = sum(happened for _, happened in some)
            waiting = sum(wait >= at for wait, _ in waits)
            if not came:
                continue
            is_first = curve == 1
            curve *= 1 - came / waiting
            if came == waiting:
                lower = upper = 0.0
                # All that were left, at once.
                upper = 0.0 if (1 - left) ** came <= 0.025 else 1.0
            else:
                spread += came / (waiting * (waiting - came))
                off = 1.959964 * math.sqrt(spread) / -math.log(curve)
                lower, upper = curve ** math.exp(off), curve ** math.exp(-off)
            if middle is None and curve <= left + 1e-12:
                middle = float(at)
            if low is None and lower <= left + 1e-12:
                low = math.nan if is_first and left**waiting > 0.025 else float(at)
            if high is None and upper <= left + 1e-12:
                high = float(at)
        found.append(Estimate(middle, None if low is None or math.isnan(low) else low, high))
    return found[0], found[1]


waits = st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=40)


def times(rows: Sequence[tuple[int, bool]]) -> Times:
    return times_of(np.array([wait for wait, _ in rows], np.int64), np.array([it for _, it in rows], np.bool_))


@given(waits)
def test_the_curve_is_that_of_the_books(rows: list[tuple[int, bool]]) -> None:
    found = times(rows)
    assert (found.median, found.p90) == slowly(rows)
    came = [wait for wait, happened in rows if happened]
    assert (found.count, found.happened) == (len(rows), len(came))
    assert found.mean == (pytest.approx(sum(came) / len(came)) if came else None)
    for estimate in (found.median, found.p90):
        told = [value for value in (estimate.low, estimate.seconds, estimate.high) if value is not None]
        assert told == sorted(told)


def test_of_one_of_none_and_of_all_at_once() -> None:
    assert rounded(times([])) == (0, 0, NOT_KNOWN, NOT_KNOWN, None)
    assert rounded(times([(60, False)] * 50)) == (50, 0, NOT_KNOWN, NOT_KNOWN, None)
    assert rounded(times([(60, True)])) == (1, 1, Estimate(60, None, None), Estimate(60, None, None), 60)
    assert rounded(times([(2, True)] * 400)) == (400, 400, Estimate(2, 2, 2), Estimate(2, 2, 2), 2)
    # Days, too.
    assert times([(200 * 86_400, True)] * 9).median.seconds == 200 * 86_400


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 400), st.booleans()), min_size=1, max_size=8), min_size=1, max_size=6)
)
def test_each_group_is_as_it_is_by_itself(groups: list[list[tuple[int, bool]]]) -> None:
    def one(number: int, place: int, wait: int, answered: bool) -> Incident:
        end = step(wait, "acknowledge", "U1") if answered else step(wait, "resolve")
        return incident(f"{number}-{place}", 60, wait, end, service_id=f"S{number}")

    made = [
        one(number, place, wait, answered)
        for number, some in enumerate(groups)
        for place, (wait, answered) in enumerate(some)
    ]
    log = log_of(made)
    found = grouped(log, WINDOW, NOW, "service")
    assert [group.incidents for group in found] == sorted((len(some) for some in groups), reverse=True)
    for group in found:
        assert group.times["acknowledge"] == times(groups[int(group.key[1:])])
        assert group.times == response(log, WINDOW, NOW, Chosen(service_id=group.key)).times


@pytest.mark.parametrize("size", [12, 40, 200])
def test_intervals_hold_what_they_promise(size: int) -> None:
    """Of 1,000 samples, a third of whose waits are given up, the true median is in about 95 of 100 intervals."""
    rng = np.random.default_rng(size)
    missed = 0
    for _ in range(1_000):
        truth, given_up = rng.exponential(300, size), rng.exponential(600, size)
        found = times_of(np.minimum(truth, given_up).astype(np.int64), truth <= given_up).median
        low, high = found.low or 0.0, math.inf if found.high is None else found.high + 1
        missed += not low <= 300 * math.log(2) <= high
    assert missed / 1_000 <= 0.075


# Simulated accounts


@lru_cache(maxsize=2)
def account(seed: int, kind: str) -> tuple[Log, int, int]:
    """Its log, its moment, and the slow level that was planted; 0: none."""
    world = generate(seed, dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC), kind=kind)
    return log_of(rows(world)), int(world.now), world.planted.get("slow_level", {}).get("level", 0)


def year(seed: int, kind: str) -> tuple[Response, int]:
    log, now, planted = account(seed, kind)
    return response(log, Span(now - 365 * 86_400, now), now), planted


@pytest.mark.parametrize("seed", range(101, 105))
def test_the_planted_slow_level_is_named_and_the_naive_mean_names_another(seed: int) -> None:
    found, planted = year(seed, "demo")
    assert found.slowest is not None
    assert (found.slowest.level.level, found.slowest.sure) == (planted, True)
    # It was planted with a median of 18 minutes.
    assert found.slowest.level.times.median.seconds == pytest.approx(18 * 60, rel=0.06)
    naive = max(found.levels, key=lambda each: each.naive or 0)
    assert naive.level != planted


@pytest.mark.parametrize("seed", [101, 102])
def test_where_nothing_was_planted_no_level_is_named_for_sure(seed: int) -> None:
    found, planted = year(seed, "null")
    assert planted == 0
    assert found.slowest is not None
    assert not found.slowest.sure


def test_each_step_of_a_simulated_incident_is_at_the_level_that_its_path_says() -> None:
    world = generate(101, dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC))
    log = log_of(rows(world))
    found = levels_of(log)
    for simulated in world.incidents:
        place = log.place[simulated.id]
        mine = slice(int(log.step_starts[place]), int(log.step_starts[place + 1]))
        # By number of its escalations: a level with nobody on call is passed over.
        starts = [int(simulated.created + after) for after, _, _ in simulated.path[1:]]
        for at, kind, level in zip(log.at[mine].tolist(), log.kind[mine].tolist(), found[mine].tolist(), strict=True):
            # In the second of an escalation, the last word of its monitor or of who answered was at the level before.
            is_before = kind in (KIND["trigger"], KIND["acknowledge"])
            assert level == 1 + sum(at > start or (at == start and not is_before) for start in starts)


def test_rows_made_without_documents_are_as_their_documents_are_read() -> None:
    world = generate(101, dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC))
    some = slice(None, None, 40)
    for simulated, row in zip(world.incidents[some], rows(world, some), strict=True):
        entries = [entry_document(world, simulated, happening) for happening in simulated.happenings()]
        steps = [each for entry in entries for each in log_reading.steps(entry)]
        read = log_reading.with_steps(log_reading.incident(incident_document(world, simulated)), steps)
        assert read == log_reading.with_steps(row, list(row.steps))


# Recorded documents


def test_recorded_incidents_that_nobody_answered_are_waited_for(fixtures_dir: Path) -> None:
    """Three incidents of an account, recorded with the log entries of their triggers alone: each is open since it was made."""
    incidents = json.loads((fixtures_dir / "incidents_06_faros.json").read_bytes())["incidents"]
    entries = json.loads((fixtures_dir / "log_entries_02_faros.json").read_bytes())["log_entries"]
    steps: dict[str, list[Step]] = {}
    for entry in entries:
        steps.setdefault(log_reading.incident_id(entry), []).extend(log_reading.steps(entry))
    made = [
        log_reading.with_steps(one, steps.get(one.id, []))
        for one in (log_reading.incident(document) for document in incidents)
    ]
    log = log_of(made)
    # By the last of them, one day later: created 2021-10-27T08:05:59Z and, two days on, 05:45:33Z and 05:52:30Z or about.
    now = int(log.created[-1]) + 86_400
    found = response(log, Span(int(log.created[0]), now), now)
    assert found.incidents == len(incidents)
    assert found.times["resolve"].happened == sum(one.status == "resolved" for one in made)
    told = [one for one in made if one.steps]
    assert len(told) == 3
    assert (found.times["acknowledge"].count, found.times["acknowledge"].happened) == (3, 0)
    assert found.times["acknowledge"].median == NOT_KNOWN
    assert [(each.level, each.reached, each.answered) for each in found.levels] == [(1, 3, 0)]


def test_steps_are_in_the_order_of_time() -> None:
    """What the columns promise, which all of this rests on."""
    for log in (EIGHT, account(101, "demo")[0]):
        for place in range(len(log)):
            mine = log.at[log.step_starts[place] : log.step_starts[place + 1]].tolist()
            assert all(before <= after for before, after in pairwise(mine))
