"""Gaps, overlaps and holes: against a walk minute by minute, and worked by hand."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.analysis.coverage import (
    HOUR,
    WEEK,
    Hole,
    Reach,
    ahead,
    covered,
    danger,
    gaps,
    holes,
    holes_ahead,
    level_gaps,
    overlaps,
    percent,
    quality,
    reach,
    service_holes,
    standing,
)
from integrations.pagerduty.analysis.model import Account, Level, Policy, Service, Slice, Source, Span, Target

MINUTE = 60
LAYER = Source("layer", "PLAYER1", "Layer 1")
MONDAY = int(dt.datetime(2026, 11, 23, tzinfo=dt.UTC).timestamp())


def on(start: int, end: int, user: str = "PA") -> Slice:
    """Minutes."""
    return Slice(start * MINUTE, end * MINUTE, user, LAYER)


def span(start: int, end: int) -> Span:
    return Span(start * MINUTE, end * MINUTE)


def to(*ids: str, delay: int = 10, round_robin: bool = False) -> Level:
    """A level of schedules (S…), users (U…), and deleted ones of both (…X)."""
    targets = tuple(Target("user" if id_[0] == "U" else "schedule", id_, id_, id_.endswith("X")) for id_ in ids)
    return Level(delay, targets, round_robin)


def through(*levels: Level, loops: int = 0, id: str = "PEP1") -> Policy:
    return Policy(id, "Payments", levels, loops)


# Against a walk minute by minute

times = st.integers(-20, 140)
slices = st.lists(st.builds(on, times, times, st.sampled_from(["PA", "PB", "PC", ""])), max_size=12)
windows = st.tuples(st.integers(-10, 110), st.integers(1, 60)).map(lambda pair: span(pair[0], sum(pair)))
targets = st.sampled_from(["S1", "S2", "S3", "S4", "SX", "S5", "UX", "UX", "UX", "U1"])
levels = st.lists(targets, max_size=3).map(lambda ids: to(*ids))
policies = st.lists(levels, max_size=5).map(lambda found: through(*found))
rotas = st.fixed_dictionaries(dict.fromkeys(("S1", "S2", "S3", "S4", "SX"), slices))


def minutes(window: Span) -> range:
    return range(window.start, window.end, MINUTE)


def people(found: list[Slice], at: int) -> set[str]:
    return {one.user for one in found if one.start <= at < one.end and one.user}


def walked(found: tuple[Span, ...]) -> list[int]:
    return [at for one in found for at in minutes(one)]


@settings(max_examples=200)
@given(slices, windows)
def test_gaps_and_coverage_are_the_window_and_each_minute_is_in_the_right_one(found: list[Slice], window: Span) -> None:
    missing, there = gaps(found, window), covered(found, window)
    assert sorted(walked(missing) + walked(there)) == list(minutes(window))
    assert walked(there) == [at for at in minutes(window) if people(found, at)]
    for spans in (missing, there):
        assert all(upper.end < lower.start for upper, lower in itertools.pairwise(spans)), "not in whole spans"
        assert all(one.start < one.end for one in spans)
    assert percent(found, window) == pytest.approx(100 * len(walked(there)) / len(minutes(window)))


@settings(max_examples=200)
@given(slices, windows)
def test_overlaps_name_everybody_who_is_on_call_at_once(found: list[Slice], window: Span) -> None:
    told = overlaps(found, window)
    assert {at: set(who) for one, who in told for at in minutes(one)} == {
        at: people(found, at) for at in minutes(window) if len(people(found, at)) > 1
    }
    for (upper, first), (lower, second) in itertools.pairwise(told):
        assert upper.end < lower.start or (upper.end == lower.start and first != second)


def by_chance(seed: int) -> tuple[Policy, dict[str, list[Slice]], Span]:
    """A policy of up to five levels, schedules full of holes, and a window."""
    rng = random.Random(seed)
    names = ("S1", "S2", "S3", "S4", "SX")
    known = (*names, "S5", "UX", "UX", *(["U1"] if rng.random() < 0.2 else []))
    levels = [to(*rng.choices(known, k=rng.choice((0, 1, 1, 2, 3)))) for _ in range(rng.randrange(6))]
    rendered = {
        name: [
            on(start, start + rng.randrange(-5, 50), rng.choice(("PA", "PB", "PC", "")))
            for start in rng.choices(range(-20, 120), k=rng.randrange(8))
        ]
        for name in names
    }
    start = rng.randrange(-10, 110)
    return through(*levels), rendered, span(start, start + rng.randrange(1, 60))


@pytest.mark.parametrize("first", range(0, 5000, 1000))
def test_holes_say_of_each_minute_which_level_reaches_somebody(first: int) -> None:
    kinds = Counter[str]()
    for seed in range(first, first + 1000):
        policy, rendered, window = by_chance(seed)
        kinds.update(hole.kind for hole in holes(policy, rendered, window))
        judge(policy, rendered, window)
    assert min(kinds["nobody"], kinds["lower"]) > 200, "chance makes enough of both"


def judge(policy: Policy, rendered: dict[str, list[Slice]], window: Span) -> None:
    """A policy's holes against what is so minute by minute."""
    found = holes(policy, rendered, window)
    told = {at: hole for hole in found for at in minutes(hole.span)}
    assert len(told) == sum(len(minutes(hole.span)) for hole in found), "no minute in two of them"
    by_level = [set(walked(spans)) for spans in level_gaps(policy, rendered, window)]
    for at in minutes(window):
        reaching = [
            number
            for number, level in enumerate(policy.levels, 1)
            if any(
                not target.deleted and (target.kind == "user" or people(rendered.get(target.id, []), at))
                for target in level.targets
            )
        ]
        assert [number for number, missing in enumerate(by_level, 1) if at not in missing] == reaching
        if reaching[:1] == [1]:
            assert at not in told
            continue
        hole = told[at]
        assert hole.kind == ("lower" if reaching else "nobody")
        assert hole.reached == (reaching[0] if reaching else None)
        assert hole.levels == tuple(range(1, reaching[0] if reaching else len(policy.levels) + 1))
        above = {target.id for number in hole.levels for target in policy.levels[number - 1].targets}
        assert hole.unknown == (("S5",) if "S5" in above else ())
    assert list(found) == sorted(found, key=lambda hole: hole.span)
    for upper, lower in itertools.pairwise(found):
        assert upper.span.end < lower.span.start or (upper.kind, upper.reached) != (lower.kind, lower.reached)


# One schedule


def test_an_empty_schedule_is_one_whole_gap() -> None:
    assert gaps((), span(0, 100)) == (span(0, 100),)
    assert percent((), span(0, 100)) == 0


def test_slots_of_nobody_and_turns_that_end_before_they_begin_cover_nothing() -> None:
    assert gaps([on(0, 100, ""), on(60, 20), on(50, 50)], span(0, 100)) == (span(0, 100),)


def test_two_people_at_once_do_not_make_up_for_a_gap() -> None:
    both = [on(0, 50, "PA"), on(0, 50, "PB")]
    assert percent(both, span(0, 100)) == 50
    assert quality(both, span(0, 100)).coverage == 50


# Holes, by hand


def test_what_a_lower_level_covers_is_told_apart_from_what_nobody_does() -> None:
    policy = through(to("S1"), to("S2"), to("S3"))
    rendered = {"S1": [on(0, 20), on(80, 100)], "S2": [on(10, 40)], "S3": [on(30, 60)]}
    assert holes(policy, rendered, span(0, 100)) == (
        Hole(span(20, 40), "lower", (1,), 2),
        Hole(span(40, 60), "lower", (1, 2), 3),
        Hole(span(60, 80), "nobody", (1, 2, 3), None),
    )


def test_two_schedules_of_one_level_stand_in_for_each_other_round_robin_or_not() -> None:
    rendered = {"S1": [on(0, 50)], "S2": [on(50, 100)]}
    for round_robin in (False, True):
        assert holes(through(to("S1", "S2", round_robin=round_robin)), rendered, span(0, 100)) == ()


def test_users_that_a_level_names_are_always_reached_and_deleted_ones_never() -> None:
    assert holes(through(to("S1"), to("U1")), {"S1": []}, span(0, 9)) == (Hole(span(0, 9), "lower", (1,), 2),)
    gone = through(to("UX"), to("SX"))
    assert holes(gone, {"SX": [on(0, 9)]}, span(0, 9)) == (Hole(span(0, 9), "nobody", (1, 2), None),)


def test_a_policy_without_levels_and_one_whose_levels_are_empty_reach_nobody() -> None:
    assert holes(through(), {}, span(0, 9)) == (Hole(span(0, 9), "nobody", (), None),)
    assert holes(through(to()), {}, span(0, 9)) == (Hole(span(0, 9), "nobody", (1,), None),)


def test_a_schedule_that_is_not_known_is_named_where_it_matters() -> None:
    policy = through(to("S1"), to("S9"), to("S2"))
    rendered = {"S1": [on(0, 10)], "S2": [on(0, 20)]}
    assert holes(policy, rendered, span(0, 30)) == (
        Hole(span(10, 20), "lower", (1, 2), 3, ("S9",)),
        Hole(span(20, 30), "nobody", (1, 2, 3), None, ("S9",)),
    )
    assert holes(through(to("S1"), to("U1")), {"S1": []}, span(0, 9))[0].unknown == ()


# Services


def test_a_service_that_is_disabled_or_has_no_policy_is_told_apart() -> None:
    policy = through(to("S1"))
    services = [
        Service("PSV1", "checkout", "active", "PEP1"),
        Service("PSV2", "old", "disabled", "PEP1"),
        Service("PSV3", "stray", "active", ""),
        Service("PSV4", "far", "active", "PEP9"),
        Service("PSV5", "busy", "critical", "PEP1"),
    ]
    account = Account(policies={policy.id: policy}, services={each.id: each for each in services})
    assert [standing(account, each) for each in services] == [
        *("watched", "disabled", "no_policy", "unknown_policy", "watched"),
    ]
    gap = (Hole(span(5, 9), "nobody", (1,), None),)
    assert service_holes(account, {"S1": [on(0, 5)]}, span(0, 9)) == {
        "PSV1": gap,
        "PSV2": (),
        "PSV3": (Hole(span(0, 9), "nobody", (), None),),
        "PSV4": (Hole(span(0, 9), "nobody", (), None, ("PEP9",)),),
        "PSV5": gap,
    }


# What pages show


def test_what_is_over_is_nobodys_work() -> None:
    found = (Hole(span(0, 10), "nobody", (1,), None), Hole(span(20, 40), "nobody", (1,), None))
    assert holes_ahead(found, 10 * MINUTE) == found[1:]
    assert holes_ahead(found, 30 * MINUTE) == (Hole(span(30, 40), "nobody", (1,), None),)
    assert holes_ahead(found, 40 * MINUTE) == ()
    assert ahead(span(0, 60), 30 * MINUTE) == span(30, 60)
    assert ahead(span(40, 60), 30 * MINUTE) == span(40, 60)
    assert gaps((), ahead(span(0, 60), 70 * MINUTE)) == ()


def test_a_policy_in_figures() -> None:
    first, second = Hole(span(10, 30), "lower", (1,), 2), Hole(span(80, 120), "nobody", (1, 2), None)
    assert reach((first, second), span(0, 100)) == Reach(20 * MINUTE, 20 * MINUTE, second, 80.0)
    assert reach((), span(0, 100)) == Reach(0, 0, None, 100.0)


def test_a_window_without_time_has_no_gap() -> None:
    nothing = span(5, 5)
    assert gaps([on(0, 9)], nothing) == ()
    assert holes(through(to("S1")), {}, nothing) == ()
    assert percent((), nothing) == 100


def test_danger_counts_the_minutes_of_each_hour_of_the_week() -> None:
    rates = [0.0] * 168
    rates[0], rates[1], rates[167] = 2.0, 0.5, 4.0
    assert danger(Span(MONDAY, MONDAY + HOUR), rates) == 120
    # 15 minutes of Sunday's last hour, all of Monday's first, 30 minutes of its second.
    assert danger(Span(MONDAY - 15 * MINUTE, MONDAY + 90 * MINUTE), rates) == 15 * 4 + 60 * 2 + 30 * 0.5
    assert danger(Span(MONDAY - 15 * MINUTE, MONDAY - 15 * MINUTE + 3 * WEEK), rates) == 3 * 60 * 6.5
    assert danger(Span(MONDAY, MONDAY + HOUR), ()) == 0
    with pytest.raises(ValueError):
        danger(Span(MONDAY, MONDAY + HOUR), [1.0] * 24)


# Quality


def test_a_schedule_shared_evenly_without_a_gap_is_perfect() -> None:
    found = quality([on(0, 50, "PA"), on(50, 100, "PB")], span(0, 100))
    assert (found.score, found.coverage, found.balance, found.overloaded, found.band) == (100, 100, 100, (), "great")
    assert found.seconds == (("PA", 3000), ("PB", 3000))


def test_the_score_is_halfway_between_coverage_and_balance_with_its_parts_shown() -> None:
    # A has 40 minutes, B 20, C 20, of 100. Pairs: 1/2, 1/2, 1: two thirds. The mean is 26.7: A has half as much again.
    found = quality([on(0, 40, "PA"), on(40, 60, "PB"), on(60, 80, "PC")], span(0, 100))
    assert (found.coverage, found.balance, found.overloaded) == (80, 67, (("PA", 50),))
    assert (found.score, found.band, found.gaps, found.uncovered) == (74, "good", 1, 1200)


def test_no_score_is_full_with_a_gap_however_short_and_none_is_above_nothing_without_people() -> None:
    assert quality([on(0, 9999)], span(0, 10_000)).score == 99
    empty = quality([on(0, 100, "")], span(0, 100))
    assert (empty.score, empty.coverage, empty.band, empty.seconds) == (0, 0, "bad", ())


def test_a_person_who_is_on_call_twice_at_once_has_the_time_once() -> None:
    twice = [on(0, 50, "PA"), Slice(0, 50 * MINUTE, "PA", Source("rotation", "PROT2")), on(50, 100, "PB")]
    assert quality(twice, span(0, 100)).seconds == (("PA", 3000), ("PB", 3000))
