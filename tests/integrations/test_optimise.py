"""What would share the nights better: against brute force, and that no constraint is made worse."""

from __future__ import annotations

import datetime as dt
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from unittest import mock
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.analysis import optimise
from integrations.pagerduty.analysis.coverage import HOUR
from integrations.pagerduty.analysis.load import INSIGHTS_HOURS, Hours
from integrations.pagerduty.analysis.model import (
    Account,
    Contact,
    Event,
    Layer,
    Person,
    Rotation,
    Schedule,
    Slice,
    Source,
    Span,
)
from integrations.pagerduty.analysis.optimise import LEAST, Constraints, Swap, Swaps, sleep_load, sleeps, swaps

DAY: Final = 24 * HOUR
LAYER: Final = Source("layer", "PLAYER1")
OVERRIDE: Final = Source("override", "POVER01")
MONDAY: Final = int(dt.datetime(2026, 10, 5, tzinfo=dt.UTC).timestamp())
"""Three weeks before clocks change in Europe, four before they do in America."""
ZONES: Final = ("Europe/London", "America/New_York", "Asia/Kolkata", "Australia/Sydney", "America/Santiago")
NAMES: Final = tuple(f"P{number:02}" for number in range(36))


def person(id: str, zone: str = "Europe/London", **more: object) -> Person:
    return Person(id, id.title(), f"{id.lower()}@example.com", zone, **more)  # type: ignore[arg-type]


def account(zones: Mapping[str, str], members: Sequence[str] | None = None) -> Account:
    layer = Layer("PLAYER1", "", 0, None, 0, DAY, tuple(zones if members is None else members))
    people = {id: person(id, zone) for id, zone in zones.items()}
    return Account({"S1": Schedule("S1", "Primary", "v2", "UTC", (layer,))}, people=people)


# Brute force, by definitions of its own


def asleep(zone: str, span: Span, rates: Sequence[float], hours: Hours = Hours()) -> tuple[int, float]:  # noqa: B008
    """Quarter hour by quarter hour: seconds of sleep and sleep load."""
    seconds, load, step = 0, 0.0, HOUR // 4
    since, until = hours.sleep
    for at in range(span.start, span.end, step):
        clock = dt.datetime.fromtimestamp(at, ZoneInfo(zone))
        hour = clock.hour
        if hour >= since or hour < until if since > until else since <= hour < until:
            utc = dt.datetime.fromtimestamp(at, dt.UTC)
            seconds += step
            load += step / HOUR * (rates[utc.weekday() * 24 + utc.hour] if rates else 1)
    return seconds, load


def close(one: Span, other: Span, rest: int) -> bool:
    return one.start - other.end < rest and other.start - one.end < rest


def brute(
    known: Account,
    slices: Sequence[Slice],
    busy: Mapping[str, Sequence[Span]],
    rates: Sequence[float],
    constraints: Constraints,
) -> float:
    """The least of cost and price of changes, over all ways to give the turns away."""
    people = list(known.people)
    spans = [Span(one.start, one.end) for one in slices]
    nights = [{id: asleep(known.people[id].zone, span, rates) for id in people} for span in spans]
    away = constraints.away or {}
    choices = []
    for place, one in enumerate(slices):
        fits = [
            id
            for id in people
            if id != one.user
            and not any(close(spans[place], other, constraints.rest) for other in busy.get(id, ()))
            and not any(close(spans[place], other, 0) for other in away.get(id, ()))
            and not (constraints.by_day and nights[place][id][0] > nights[place][one.user][0])
        ]
        choices.append([one.user, *fits])

    def cost(owners: Sequence[str]) -> float:
        loads = dict.fromkeys(people, 0.0)
        for place, owner in enumerate(owners):
            loads[owner] += nights[place][owner][1]
        return sum(load**2 for load in loads.values())

    def most(owners: Sequence[str]) -> int:
        return max(sum(spans[at].seconds for at, owner in enumerate(owners) if owner == id) for id in people)

    origin = [one.user for one in slices]
    price = LEAST * cost(origin)
    best = cost(origin)
    for owners in itertools.product(*choices):
        changes = sum(one != other for one, other in zip(owners, origin, strict=True))
        if changes > constraints.most_changes:
            continue
        if constraints.even and most(owners) > most(origin):
            continue
        if any(
            owners[one] == owners[other]
            and close(spans[one], spans[other], constraints.rest)
            and not origin[one] == origin[other] == owners[one]
            for one, other in itertools.combinations(range(len(spans)), 2)
        ):
            continue
        best = min(best, cost(owners) + changes * price)
    return best


@st.composite
def small(draw: st.DrawFn) -> tuple[Account, list[Slice], dict[str, list[Span]], list[float], Constraints]:
    count = draw(st.integers(2, 6))
    zones = {id: draw(st.sampled_from(ZONES)) for id in NAMES[:count]}
    most = {2: 7, 3: 6, 4: 5, 5: 4, 6: 4}[count]
    slices: list[Slice] = []
    at = MONDAY + draw(st.integers(0, 28)) * DAY
    for _ in range(draw(st.integers(1, most))):
        at += draw(st.sampled_from((0, 0, 0, 4, 12))) * HOUR
        length = draw(st.sampled_from((8, 12, 24, 24, 72))) * HOUR
        user = draw(st.sampled_from(NAMES[:count]))
        if slices and slices[-1].user == user and slices[-1].end == at:
            at += HOUR
        slices.append(Slice(at, at + length, user, LAYER))
        at += length
    busy: dict[str, list[Span]] = {}
    for id in draw(st.lists(st.sampled_from(NAMES[:count]), max_size=2, unique=True)):
        start = MONDAY + draw(st.integers(0, 35)) * DAY
        busy[id] = [Span(start, start + 12 * HOUR)]
    away: dict[str, list[Span]] = {}
    for id in draw(st.lists(st.sampled_from(NAMES[:count]), max_size=1)):
        start = MONDAY + draw(st.integers(0, 35)) * DAY
        away[id] = [Span(start, start + 2 * DAY)]
    rates = (
        [float(each) for each in draw(st.lists(st.integers(0, 5), min_size=168, max_size=168))]
        if draw(st.booleans())
        else []
    )
    constraints = Constraints(
        rest=draw(st.sampled_from((0, 11, 24))) * HOUR,
        most_changes=draw(st.integers(0, 7)),
        by_day=draw(st.booleans()),
        even=draw(st.booleans()),
        away=away,
    )
    return account(zones), slices, busy, rates, constraints


@settings(max_examples=100, deadline=None)
@given(small())
def test_up_to_six_people_it_finds_what_brute_force_does(
    drawn: tuple[Account, list[Slice], dict[str, list[Span]], list[float], Constraints],
) -> None:
    known, slices, busy, rates, constraints = drawn
    window = Span(slices[0].start, slices[-1].end)
    found = swaps(known, "S1", slices, window, busy=busy, rates=rates, constraints=constraints)
    assert found.exact
    value = found.cost_after + LEAST * found.cost_before * len(found.swaps)
    assert value == pytest.approx(brute(known, slices, busy, rates, constraints))
    assert len(found.swaps) <= constraints.most_changes


# That nothing is made worse


def spans_of(slices: Sequence[Slice], user: str) -> list[Span]:
    return [Span(one.start, one.end) for one in slices if one.user == user]


def begun_without_rest(spans: Sequence[Span], rest: int) -> int:
    """How many begin less than ``rest`` after any other that began before them."""
    ordered = sorted(spans)
    return sum(any(one.start - before.end < rest for before in ordered[:place]) for place, one in enumerate(ordered))


@mock.patch.multiple(optimise, ROUNDS=8, LOOKED=20_000)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**9))
def test_no_constraint_is_made_worse(seed: int) -> None:
    """Up to 14 people in five zones over up to eight weeks, in which clocks are changed in four of them, with gaps, overrides,
    turns on other schedules and holidays."""
    chance = random.Random(seed)
    count = chance.randint(2, 14)
    zones = {id: chance.choice(ZONES) for id in NAMES[:count]}
    members = list(zones)[: chance.randint(2, count)]
    known = account(zones, members)
    length = chance.choice((8, 12, 24, 24, 168)) * HOUR
    slices: list[Slice] = []
    at = MONDAY + chance.randint(0, 23) * HOUR
    end = at + chance.randint(1, 8) * 7 * DAY
    while at < end:
        if chance.random() < 0.05:
            at += chance.choice((1, 12)) * HOUR
        user, source = chance.choice(members), LAYER
        if chance.random() < 0.1:
            user, source = chance.choice(list(zones)), OVERRIDE
        elif chance.random() < 0.05:
            user = ""
        slices.append(Slice(at, at + length, user, source))
        at += length
    busy: dict[str, list[Span]] = {}
    away: dict[str, list[Span]] = {}
    for id in zones:
        for where, most in ((busy, 6), (away, 1)):
            starts = sorted(chance.sample(range(60), chance.randint(0, most)))
            where[id] = [Span(MONDAY + day * DAY, MONDAY + day * DAY + chance.randint(2, 24) * HOUR) for day in starts]
    rates = [chance.random() * (3 if hour % 24 < 6 else 0.4) for hour in range(168)] if chance.random() < 0.7 else []
    rest = Constraints().rest
    window = Span(MONDAY + 2 * DAY, at - chance.randint(0, 2) * DAY)
    found = swaps(known, "S1", slices, window, busy=busy, rates=rates, constraints=Constraints(away=away))
    after = list(slices)
    for swap in found.swaps:
        [place] = [place for place, one in enumerate(slices) if one.start <= swap.start < one.end and one.user]
        last = place
        # Whole turns, of one person without a break, and none that somebody arranged.
        while after[last].end < swap.end:
            last += 1
        turn = slices[place : last + 1]
        assert (turn[0].start, turn[-1].end) == (swap.start, swap.end)
        assert {(one.user, one.source) for one in turn} == {(swap.was, LAYER)}
        assert all(one.end == two.start for one, two in itertools.pairwise(turn))
        assert window.start <= swap.start
        assert swap.end <= window.end
        assert swap.to in members
        for at_ in range(place, last + 1):
            after[at_] = after[at_]._replace(user=swap.to)
        span = Span(swap.start, swap.end)
        assert asleep(zones[swap.to], span, ())[0] <= asleep(zones[swap.was], span, ())[0]
        assert not any(close(span, other, 0) for other in away[swap.to])
        assert not any(close(span, other, rest) for other in busy[swap.to])
    for swap in found.swaps:
        span = Span(swap.start, swap.end)
        others = [other for other in joined(after, swap.to) if other != span]
        assert not any(close(span, other, rest) for other in others)
    for id in zones:
        assert begun_without_rest([*joined(after, id), *busy[id]], rest) <= begun_without_rest(
            [*joined(slices, id), *busy[id]], rest
        )

    def hours(of: Sequence[Slice], id: str) -> float:
        inside = (min(one.end, window.end) - max(one.start, window.start) for one in spans_of(of, id))
        return sum(max(0, each) for each in inside) / HOUR

    assert [one.user for one in found.before] == [one.user for one in found.after]
    for shares, of in ((found.before, slices), (found.after, after)):
        assert {one.user: one.hours for one in shares} == pytest.approx(
            {one.user: hours(of, one.user) for one in shares}
        )
    assert max((one.hours for one in found.after), default=0) <= max((one.hours for one in found.before), default=0)
    for shares, cost in ((found.before, found.cost_before), (found.after, found.cost_after)):
        assert cost == pytest.approx(sum(one.sleep**2 for one in shares))
    for one, other in zip(found.before, found.after, strict=True):
        assert other.short_rests <= one.short_rests
    gained = found.cost_before - found.cost_after
    assert gained >= LEAST * found.cost_before * len(found.swaps) - 1e-6
    assert len(found.swaps) <= Constraints().most_changes
    # The same in whichever order it is told.
    shuffled = chance.sample(slices, len(slices))
    assert swaps(known, "S1", shuffled, window, busy=busy, rates=rates, constraints=Constraints(away=away)) == found


def joined(slices: Sequence[Slice], user: str) -> list[Span]:
    """Somebody's turns: slices that go on without a break are one; overrides are turns of their own."""
    turns: list[tuple[Span, Source]] = []
    for one in slices:
        if one.user == user:
            if turns and turns[-1][0].end == one.start and turns[-1][1] == one.source == LAYER:
                turns[-1] = (Span(turns[-1][0].start, one.end), LAYER)
            else:
                turns.append((Span(one.start, one.end), one.source))
    return [span for span, _ in turns]


# By hand


def nights(*users: str, start: int = MONDAY, length: int = DAY, source: Source = LAYER) -> list[Slice]:
    return [Slice(start + at * length, start + (at + 1) * length, user, source) for at, user in enumerate(users)]


def whole(slices: Sequence[Slice]) -> Span:
    return Span(slices[0].start, slices[-1].end)


def found_of(known: Account, slices: Sequence[Slice], **more: object) -> Swaps:
    return swaps(known, "S1", slices, whole(slices), **{"busy": {}, **more})  # type: ignore[arg-type]


LONDON: Final = {"PANN": "Europe/London", "PBEN": "Europe/London", "PCAT": "Europe/London"}


def test_who_has_more_nights_than_others_gives_one_away() -> None:
    # Five days of 24 hours, each with ten of sleep (in October London's clock is an hour before UTC: from 21:00 to 07:00 UTC).
    # Ann has three, Ben two and Cat none: 30² + 20² = 1,300, and a change costs 13. Ann gives one to Cat: 20² + 20² + 10² = 900.
    # No second one gains 13. Which of hers it is, is no matter but for the rest: the first of those that cost the same.
    slices = nights("PANN", "PBEN", "PANN", "PBEN", "PANN")
    found = found_of(account(LONDON), slices)
    assert [(each.was, each.to) for each in found.swaps] == [("PANN", "PCAT")]
    assert (found.cost_before, found.cost_after, found.exact) == (1300, 900, True)
    assert [(one.user, one.hours, one.sleep) for one in found.before] == [
        *(("PANN", 72, 30), ("PBEN", 48, 20), ("PCAT", 0, 0)),
    ]
    assert [(one.user, one.hours, one.sleep) for one in found.after] == [
        *(("PANN", 48, 20), ("PBEN", 48, 20), ("PCAT", 24, 10)),
    ]
    assert found.words == (
        "One override lowers how unevenly the hours of sleep on call lie: of all together they stay 50.0.",
        "Pann, who has the most, goes from 30.0 to 20.0.",
    )
    assert not found.in_pages


def test_sleep_is_weighed_by_the_pages_that_are_expected() -> None:
    # One page an hour from 02:00 to 03:00 UTC on Wednesdays, which is 03:00 in London, and from 07:30 in Kolkata, so that half an
    # hour is still sleep there. Nothing else is expected.
    rates = [0.0] * 168
    rates[2 * 24 + 2] = 1.0
    known = account({"PANN": "Europe/London", "PBEN": "Asia/Kolkata"})
    wednesday, friday = nights("PANN", start=MONDAY + 2 * DAY) + nights("PBEN", start=MONDAY + 4 * DAY)
    found = found_of(known, [wednesday, friday], rates=rates)
    assert found.in_pages
    # They change places, as nobody may get more hours than there are now: 1² before and 0.5² after.
    assert found.swaps == (
        Swap(wednesday.start, wednesday.end, "PANN", "PBEN"),
        Swap(friday.start, friday.end, "PBEN", "PANN"),
    )
    assert (found.cost_before, found.cost_after) == (1.0, 0.25)
    assert found.words[0] == "2 overrides lower the expected pages in sleep of all together from 1.0 to 0.5."
    uneven = found_of(known, [wednesday, friday], rates=rates, constraints=Constraints(even=False))
    assert uneven.swaps == found.swaps[:1]
    # With the rest that there has to be between two turns nothing helps when Ben is on call the day before.
    busy = {"PBEN": [Span(MONDAY, wednesday.start - 10 * HOUR)]}
    nobody = found_of(known, [wednesday, friday], rates=rates, busy=busy)
    assert nobody.swaps == ()
    assert nobody.exact
    with pytest.raises(ValueError, match="168"):
        found_of(known, [wednesday], rates=[1.0])


def test_nights_are_by_the_clock_also_when_it_is_changed() -> None:
    # On 25 October clocks go back in London: from 22:00 (21:00 UTC) to 08:00 (08:00 UTC) it is eleven hours.
    autumn = int(dt.datetime(2026, 10, 24, 12, tzinfo=dt.UTC).timestamp())
    assert sleeps("Europe/London", Span(autumn, autumn + DAY)) == [Span(autumn + 9 * HOUR, autumn + 20 * HOUR)]
    # On 28 March they go forward: from 22:00 UTC to 07:00 UTC it is nine.
    spring = int(dt.datetime(2027, 3, 27, 12, tzinfo=dt.UTC).timestamp())
    assert sleeps("Europe/London", Span(spring, spring + DAY)) == [Span(spring + 10 * HOUR, spring + 19 * HOUR)]
    known = account({"PANN": "Europe/London"})
    assert sleep_load(known, "PANN", [Span(autumn, autumn + DAY), Span(spring, spring + DAY)]) == 20
    # Two pages an hour: twice as much. Clipped, and of somebody who is not known, nothing.
    assert sleep_load(known, "PANN", [Span(autumn, autumn + DAY)], rates=[2.0] * 168) == 22
    assert sleep_load(known, "PANN", [Span(autumn, autumn + 9 * HOUR)]) == 0
    assert sleep_load(known, "PBEN", [Span(autumn, autumn + DAY)]) == 0
    assert sleep_load(known, "PANN", []) == 0
    # By Insights' hours an hour more, and hours after midnight are of one day.
    assert sleep_load(known, "PANN", [Span(autumn, autumn + DAY)], hours=INSIGHTS_HOURS) == 12
    assert sleep_load(known, "PANN", [Span(autumn, autumn + DAY)], hours=Hours(sleep=(1, 7))) == 7


def test_what_somebody_arranged_stays_and_who_stood_in_is_not_asked_again() -> None:
    # Ann's three days are overrides, and Dan's one too, who takes no turns else.
    known = account(LONDON | {"PDAN": "Europe/London"}, list(LONDON))
    slices = nights("PANN", "PBEN", "PANN", "PBEN", "PANN", "PDAN", source=OVERRIDE)
    found = found_of(known, slices)
    assert found.swaps == ()
    assert found.words == ("No turn lies in this time as a whole that could change hands.",)
    mine = [one._replace(source=LAYER) if one.user == "PANN" else one for one in slices]
    assert [(each.was, each.to) for each in found_of(known, mine).swaps] == [("PANN", "PCAT")]


def test_turns_over_the_ends_of_the_window_stay_and_count_for_rests() -> None:
    slices = nights("PANN", "PBEN", "PANN", "PBEN", "PANN")
    window = Span(slices[0].start + HOUR, slices[-1].end - HOUR)
    found = swaps(account(LONDON), "S1", slices, window, busy={})
    assert [(each.start, each.to) for each in found.swaps] == [(slices[2].start, "PCAT")]
    assert {one.user: one.hours for one in found.before} == {"PANN": 70, "PBEN": 48, "PCAT": 0}
    # Cat's turn right before the window leaves her no rest for one that begins it, and Ben is on call elsewhere.
    before = Slice(slices[0].start - DAY, slices[0].start, "PCAT", LAYER)
    turns = [before, slices[0], slices[2]]
    found = swaps(account(LONDON), "S1", turns, whole(slices[:3]), busy={"PBEN": [whole(slices)]})
    assert [(each.start, each.to) for each in found.swaps] == [(slices[2].start, "PCAT")]


def test_slots_of_nobody_stay_empty() -> None:
    slices = nights("PANN", "", "PANN", "", "PANN")
    found = found_of(account(LONDON), slices)
    assert sorted(each.start for each in found.swaps) <= [slices[0].start, slices[2].start, slices[4].start]
    assert {each.was for each in found.swaps} == {"PANN"}


def test_who_is_no_more_than_a_name_keeps_their_turns_and_gets_none() -> None:
    known = account(LONDON)
    named = replace(known, people={**known.people, "PCAT": Person("PCAT", "Cat")})
    slices = nights("PANN", "PCAT", "PANN", "PCAT", "PANN")
    found = found_of(named, slices)
    assert {each.to for each in found.swaps} == {"PBEN"}
    assert {each.was for each in found.swaps} == {"PANN"}
    assert {one.user for one in found.before} == {"PANN", "PBEN"}
    assert found.words[-1] == "Of Cat nobody here knows when they sleep: their turns stay as they are."


def test_nobody_is_asked_whom_nothing_would_tell() -> None:
    known = account(LONDON)
    slices = nights("PANN", "PBEN", "PANN", "PBEN", "PANN")
    for contacts, to in ((None, {"PCAT"}), ((), set[str]()), ((Contact("PCON1", "phone", "Mobile", ""),), {"PCAT"})):
        people = {**known.people, "PCAT": replace(known.people["PCAT"], contacts=contacts)}
        assert {each.to for each in found_of(replace(known, people=people), slices).swaps} == to


def test_nights_on_other_schedules_count() -> None:
    # Ben has as much here as Ann, and Cat has nothing; but Cat has 40 hours elsewhere. Without these she would get one of the
    # nights of either: 20² + 20² = 800 to 20² + 10² + 10² = 600.
    slices = nights("PANN", "PBEN", "PANN", "PBEN")
    known = account(LONDON)
    assert [each.to for each in found_of(known, slices).swaps] == ["PCAT"]
    found = found_of(known, slices, elsewhere={"PCAT": 40.0})
    assert found.swaps == ()
    assert found.cost_before == 20**2 + 20**2 + 40**2
    assert next((one.sleep, one.elsewhere) for one in found.before if one.user == "PCAT") == (0, 40)


def test_of_a_v3_schedule_a_turn_is_of_its_rotation() -> None:
    clock = dt.datetime(2026, 10, 5)  # noqa: DTZ001 – by the clock of the event's zone
    event = Event(
        "PEVENT", "Days", "UTC", clock, DAY, 0, None, ("RRULE:FREQ=DAILY",), False, 1, tuple(LONDON)
    )  # fmt: skip
    one, two = Source("rotation", "PROT1", "Days"), Source("rotation", "PROT2", "More")
    schedule = Schedule(
        "S1", "Primary", "v3", "UTC", rotations=(Rotation("PROT1", (event,)), Rotation("PROT2", (event,)))
    )
    known = replace(account(LONDON), schedules={"S1": schedule})
    slices = nights("PANN", "PBEN", "PANN", "PBEN", "PANN", source=one)
    slices += nights("PBEN", start=slices[-1].end + DAY, source=two)
    found = swaps(known, "S1", slices, whole(slices), busy={})
    assert {(each.was, each.to) for each in found.swaps} == {("PANN", "PCAT"), ("PBEN", "PCAT")}
    for swap in found.swaps:
        [turn] = [each for each in slices if each.start == swap.start]
        assert (turn.end, turn.user, turn.source) == (swap.end, swap.was, swap.source)
    both = nights("PANN", source=one) + nights("PCAT", source=two)
    # Whoever is on the one rotation cannot take the other one's turn at the same time.
    assert {each.to for each in swaps(known, "S1", both, whole(both), busy={}).swaps} == set()


def test_why_there_is_none() -> None:
    known = account(LONDON)
    slices = nights("PANN", "PBEN", "PCAT")
    assert found_of(known, slices).words == (
        "No override would lower the hours of sleep on call, or how unevenly they lie, by 1% or more.",
    )
    assert found_of(known, slices, rates=[0.0] * 168).words == (
        "No page is expected in anybody's sleep: there is nothing to lower.",
    )
    away = Constraints(away={id: [whole(slices)] for id in LONDON})
    assert found_of(known, slices, constraints=away).words == (
        "Nobody else who takes turns here is free, rested and no more asleep than whoever has them.",
    )
    noon = nights("PANN", "PBEN", start=MONDAY + 11 * HOUR, length=2 * HOUR)
    assert found_of(known, noon).words == ("Nobody is on call in their sleep: there is nothing to lower.",)
    assert found_of(known, slices, constraints=Constraints(most_changes=0)).swaps == ()
    assert found_of(known, slices[:1], busy={}).exact
    empty = swaps(known, "S1", [], whole(slices), busy={})
    assert (empty.swaps, empty.cost_before, empty.exact) == ((), 0, True)
    with pytest.raises(KeyError):
        swaps(known, "S2", slices, whole(slices), busy={})
