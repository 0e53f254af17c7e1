"""What would share the nights better: against brute force, and that no constraint is made worse."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.analysis.coverage import HOUR
from integrations.pagerduty.analysis.load import Hours
from integrations.pagerduty.analysis.model import Account, Layer, Person, Schedule, Slice, Source, Span
from integrations.pagerduty.analysis.optimise import LEAST, Constraints, swaps

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


@settings(max_examples=150, deadline=None)
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
