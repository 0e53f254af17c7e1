"""What would share the load better, or get an answer sooner: proposals, before and after. None applies itself."""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, combinations, product
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from integrations.pagerduty.analysis.coverage import HOUR, MONDAY, covered, level_gaps, unknown_in
from integrations.pagerduty.analysis.escalation import LONG_DELAY, MOST_TARGETS, SHORT_DELAY
from integrations.pagerduty.analysis.incidents import Log
from integrations.pagerduty.analysis.load import API_HOURS, Hours
from integrations.pagerduty.analysis.model import Account, Level, Person, Schedule, Slice, Source, Span
from integrations.pagerduty.analysis.response import ENOUGH, Answers, Estimate, LevelTimes, Z

DAY: Final = 24 * HOUR
LEAST: Final = 0.01
"""What a change has to gain, of the cost as it is: a proposal of several gains as many times that."""
LOOKED: Final = 300_000
"""Turns for each person that are looked at, at most, to find whether there is anything better than what was found."""
STEPS: Final = 100
"""Towards where a bound is best."""
ROUNDS: Final = 60
"""Of looking for something better from another place, where not everything can be looked at."""
WORK: Final = 60_000_000
"""Pairs of turns compared, after which no other round begins."""
TINY: Final = 1e-9
"""Of the cost: less than this is no difference."""


# Turns


class Turn(NamedTuple):
    """A time that one person is on call without a break: what one override can take over."""

    start: int
    end: int
    user: str
    source: Source | None = None
    """Of a v3 schedule: the rotation or custom shift that it is of."""


class Swap(NamedTuple):
    """An override to be: ``to`` takes what is ``was``'s."""

    start: int
    end: int
    was: str
    to: str
    source: Source | None = None
    """Of a v3 schedule: the rotation or custom shift in which ``was`` is replaced; None: of a v2 schedule."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one person has of the window."""

    user: str
    hours: float
    sleep: float
    """Expected sleep load: hours of their own sleep on call, each times the pages an hour that are expected then (1 where they
    are not known)."""
    short_rests: int
    """Turns that begin less than the rest after another's end, on this schedule or others; straight on from it, too."""
    elsewhere: float = 0.0
    """Sleep load that they have by other schedules, as it was given."""


@dataclass(frozen=True, slots=True)
class Swaps:
    """The fewest overrides found that lower the load at night and how unevenly it lies."""

    schedule_id: str
    window: Span
    swaps: tuple[Swap, ...]
    """By start."""
    before: tuple[Share, ...]
    """The most sleep load first. Of whom only the name is known, so that nobody knows when they sleep, is not among them."""
    after: tuple[Share, ...]
    """In the same order."""
    cost_before: float
    """The sum over all people of their sleep load (here and elsewhere) squared: it falls with the load and with how unevenly it
    lies."""
    cost_after: float
    exact: bool
    """Whether no better exists, not only none was found. Better: a lower cost, to which each change adds ``LEAST`` of what it
    is before."""
    words: tuple[str, ...]
    """What it comes to, as sentences; where there is none, why."""
    in_pages: bool = False
    """Whether sleep load is told in expected pages; else in hours."""


@dataclass(frozen=True, slots=True)
class Constraints:
    rest: int = 11 * 3600
    """Seconds between two turns of somebody, at least; no swap makes it worse than it is."""
    most_changes: int = 12
    by_day: bool = True
    """Never to give somebody more hours in their sleep than whoever had the turn, each by their own clock."""
    away: Mapping[str, Sequence[Span]] | None = None
    """When people cannot take turns."""
    even: bool = True
    """Never to give somebody more hours of the schedule than whoever has most of them as it is."""


USUAL: Final = Constraints()


def swaps(
    account: Account,
    schedule_id: str,
    slices: Sequence[Slice],
    window: Span,
    *,
    busy: Mapping[str, Sequence[Span]],
    rates: Sequence[float] = (),
    hours: Hours = API_HOURS,
    constraints: Constraints = USUAL,
    elsewhere: Mapping[str, float] | None = None,
) -> Swaps:
    """``slices``: who is on call on the schedule, best from before the window to after it: a turn moves only as a whole, so one
    that reaches over the window's ends stays. ``busy``: when people are on call on other schedules. ``rates``: pages an hour
    in each of the week's 168 hours (UTC, from Monday). ``elsewhere``: sleep load by other schedules, by user id.

    Turns move between the people who take turns on the schedule, and of whom is known what time it is for them. What somebody
    arranged by an override stays. Nobody is put on call who is so elsewhere, or is away, or whose rest before or after would
    then be too short, or to whom nothing would tell it. KeyError: the schedule is not known."""
    schedule = account.schedules[schedule_id]
    if rates and len(rates) != 168:
        raise ValueError("Rates are of the 168 hours of a week.")
    task = _task(account, schedule, slices, window, busy, rates, hours, constraints, elsewhere or {})
    owners, exact = _best(task)
    changed = [place for place, owner in enumerate(owners) if owner != task.origin[place]]
    found = tuple(
        Swap(turn.start, turn.end, turn.user, task.people[owners[place]], turn.source)
        for place, turn in enumerate(task.turns)
        if place in set(changed)
    )
    before, after = task.shares(task.origin), task.shares(owners)
    order = sorted(
        range(len(task.people)),
        key=lambda at: (-before[at].sleep, account.name_of(before[at].user), before[at].user),
    )
    return Swaps(
        schedule_id,
        window,
        tuple(sorted(found)),
        tuple(before[at] for at in order),
        tuple(after[at] for at in order),
        task.cost(task.origin),
        task.cost(owners),
        exact,
        _swap_words(account, task, owners, bool(rates)),
        bool(rates),
    )


def turns_of(schedule: Schedule, slices: Iterable[Slice]) -> tuple[Turn, ...]:
    """Slices of the same person that follow on each other, joined: of a v2 schedule, whichever layers they are of; of a v3
    schedule those of the same rotation, as an override is of one. Slots of nobody are none, and overrides are turns of their
    own."""
    found: list[Turn] = []
    last: dict[tuple[str, Source | None], int] = {}
    for start, end, user, source in sorted(slices):
        if not user or start >= end:
            continue
        own = source if schedule.kind == "v3" or source.kind == "override" else None
        place = last.get((user, own))
        if place is not None and found[place].end == start:
            found[place] = found[place]._replace(end=end)
        else:
            last[user, own] = len(found)
            found.append(Turn(start, end, user, own))
    return tuple(found)


def _members(schedule: Schedule, slices: Iterable[Slice], window: Span) -> dict[str, None]:
    """Who takes turns in the window, in the schedule's order. Who only has an override does not, nor who used to."""
    found = dict.fromkeys(
        [
            *(
                user
                for layer in schedule.layers
                if layer.start < window.end and (layer.end is None or layer.end > window.start)
                for user in layer.users
            ),
            *(
                user
                for rotation in schedule.rotations
                for event in rotation.events
                if event.since < window.end and (event.until is None or event.until > window.start)
                for user in event.members
            ),
            *(one.user for one in slices if one.source.kind != "override"),
        ]
    )
    for gone in ("", *schedule.deleted):
        found.pop(gone, None)
    return found


def _is_known(person: Person | None) -> bool:
    """Whether more than a name is: of whom PagerDuty shows no more, the zone is not theirs."""
    if person is None:
        return False
    return bool(person.email or person.zone != "UTC" or person.contacts is not None or person.ladder is not None)


# Sleep


class _Night:
    """Sleep by one zone's clock, as sums from the start of a time."""

    def __init__(self, zone: str, span: Span, rates: Sequence[float], hours: Hours) -> None:
        nights = sleeps(zone, span, hours)
        edges = {span.start, span.end, *(each for night in nights for each in night)}
        edges |= set(range(span.start - span.start % HOUR + HOUR, span.end, HOUR))
        self.at = np.array(sorted(edges), dtype=np.float64)
        starts = self.at[:-1].astype(np.int64)
        asleep = np.zeros(len(starts))
        for start, end in nights:
            low, high = np.searchsorted(starts, [start, end])
            asleep[low:high] = 1
        lengths = np.diff(self.at) * asleep
        weights = np.array(rates)[(starts - MONDAY) // HOUR % 168] if len(rates) else np.ones(len(starts))
        self.seconds = np.concatenate(([0.0], np.cumsum(lengths)))
        self.load = np.concatenate(([0.0], np.cumsum(lengths / HOUR * weights)))

    def between(
        self, starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Seconds of sleep, and sleep load."""
        seconds = np.interp(ends, self.at, self.seconds) - np.interp(starts, self.at, self.seconds)
        load = np.interp(ends, self.at, self.load) - np.interp(starts, self.at, self.load)
        return np.rint(seconds).astype(np.int64), np.maximum(load, 0.0)


def sleeps(zone: str, span: Span, hours: Hours = API_HOURS) -> list[Span]:
    """When somebody sleeps by a zone's clock, clipped to a time and in order."""
    clock = ZoneInfo(zone)
    since, until = hours.sleep
    if since == until:
        return []
    day = dt.datetime.fromtimestamp(span.start, clock).date() - dt.timedelta(days=1)
    found: list[Span] = []
    while True:
        midnight = dt.datetime.combine(day, dt.time(), clock)
        start = int((midnight + dt.timedelta(hours=since)).timestamp())
        end = int((midnight + dt.timedelta(hours=until, days=until < since)).timestamp())
        if start >= span.end:
            return found
        if end > span.start and start < end:
            found.append(Span(max(start, span.start), min(end, span.end)))
        day += dt.timedelta(days=1)


def sleep_load(
    account: Account,
    user: str,
    spans: Sequence[Span],
    *,
    rates: Sequence[float] = (),
    hours: Hours = API_HOURS,
) -> float:
    """What somebody has by such times on call; 0 where nobody knows what time it is for them."""
    person = account.people.get(user)
    spans = [span for span in spans if span.start < span.end]
    if not spans or person is None or not _is_known(person):
        return 0.0
    hull = Span(min(span.start for span in spans), max(span.end for span in spans))
    starts, ends = (np.array(each, dtype=np.int64) for each in zip(*spans, strict=True))
    return float(_Night(person.zone, hull, rates, hours).between(starts, ends)[1].sum())


# What is to be solved


@dataclass(frozen=True, eq=False)
class _Task:
    people: tuple[str, ...]
    turns: tuple[Turn, ...]
    """Those that may move."""
    origin: tuple[int, ...]
    """Places in ``people``: who has each."""
    weight: NDArray[np.float64]
    """Sleep load of each turn (rows) for each person."""
    allowed: NDArray[np.bool_]
    """Whether somebody could take it, but for what other turns they take."""
    near: tuple[tuple[int, ...], ...]
    """Of each turn those that nobody can have besides it: at once, or without the rest between them."""
    base: NDArray[np.float64]
    """Sleep load of each person that does not move: here and elsewhere."""
    elsewhere: tuple[float, ...]
    standing: tuple[tuple[Span, ...], ...]
    """Of each person, their turns here that do not move."""
    lengths: NDArray[np.int64]
    """Seconds of each turn."""
    seconds: NDArray[np.int64]
    """Of the window that each person has by turns that do not move."""
    most_seconds: int
    """That anybody may have."""
    busy: tuple[tuple[Span, ...], ...]
    window: Span
    rest: int
    most: int
    price: float
    """Of a change."""
    unknown: tuple[str, ...]
    """Who has turns and is no more than a name."""

    def loads(self, owners: Sequence[int]) -> NDArray[np.float64]:
        loads = self.base.copy()
        np.add.at(loads, list(owners), self.weight[np.arange(len(owners)), list(owners)])
        return loads

    def cost(self, owners: Sequence[int]) -> float:
        return float((self.loads(owners) ** 2).sum())

    def value(self, owners: Sequence[int]) -> float:
        """The cost, and the price of what is changed."""
        return self.cost(owners) + self.price * sum(
            one != other for one, other in zip(owners, self.origin, strict=True)
        )

    def shares(self, owners: Sequence[int]) -> list[Share]:
        loads = self.loads(owners)
        found = []
        for at, user in enumerate(self.people):
            mine = [Span(turn.start, turn.end) for turn, owner in zip(self.turns, owners, strict=True) if owner == at]
            seconds = int(self.seconds[at]) + sum(span.seconds for span in mine)
            mine += self.standing[at]
            sleep = max(0.0, float(loads[at]) - self.elsewhere[at])
            rests = short_rests([*mine, *self.busy[at]], self.window, self.rest)
            found.append(Share(user, seconds / HOUR, sleep, rests, self.elsewhere[at]))
        return found


def short_rests(spans: Iterable[Span], window: Span, rest: int) -> int:
    """How many begin in the window less than a rest after those before have ended."""
    count, free = 0, None
    for start, end in sorted(spans):
        if free is not None and start - free < rest and window.start <= start < window.end:
            count += 1
        free = end if free is None else max(free, end)
    return count


def _task(
    account: Account,
    schedule: Schedule,
    slices: Sequence[Slice],
    window: Span,
    busy: Mapping[str, Sequence[Span]],
    rates: Sequence[float],
    hours: Hours,
    constraints: Constraints,
    elsewhere: Mapping[str, float],
) -> _Task:
    every = turns_of(schedule, slices)
    inside = [one for one in every if one.end > window.start and one.start < window.end]
    members = _members(schedule, [one for one in slices if one.end > window.start and one.start < window.end], window)
    everybody = dict.fromkeys([*members, *(one.user for one in inside)])
    people = tuple(user for user in everybody if _is_known(account.people.get(user)))
    place = {user: at for at, user in enumerate(people)}
    turns = tuple(
        one
        for one in inside
        if one.user in place
        and one.start >= window.start
        and one.end <= window.end
        and not (one.source and one.source.kind == "override")
    )
    moving = set(turns)
    standing = tuple(
        tuple(Span(one.start, one.end) for one in every if one.user == user and one not in moving) for user in people
    )
    starts, ends = (np.array([getattr(one, name) for one in turns], dtype=np.int64) for name in ("start", "end"))
    weight = np.zeros((len(turns), len(people)))
    asleep = np.zeros((len(turns), len(people)), dtype=np.int64)
    allowed = np.zeros((len(turns), len(people)), dtype=np.bool_)
    standing_sleep, standing_seconds = list[float](), list[int]()
    nights: dict[str, _Night] = {}
    for at, user in enumerate(people):
        person = account.people[user]
        if person.zone not in nights:
            nights[person.zone] = _Night(person.zone, window, rates, hours)
        night = nights[person.zone]
        asleep[:, at], weight[:, at] = night.between(starts, ends)
        rows = [(max(one.start, window.start), min(one.end, window.end)) for one in standing[at]]
        rows = [row for row in rows if row[0] < row[1]]
        low, high = (np.array([row[end] for row in rows], dtype=np.int64) for end in (0, 1))
        standing_sleep.append(float(night.between(low, high)[1].sum()))
        standing_seconds.append(int((high - low).sum()))
        # Who has no contact method would not be told.
        if user in members and person.contacts != ():
            free = np.ones(len(turns), dtype=np.bool_)
            for span, rest in (
                *((span, constraints.rest) for span in (*standing[at], *busy.get(user, ()))),
                *((span, 0) for span in (constraints.away or {}).get(user, ())),
            ):
                free &= (starts - span.end >= rest) | (span.start - ends >= rest)
            allowed[:, at] = free
    origin = tuple(place[one.user] for one in turns)
    rows_ = np.arange(len(turns))
    if constraints.by_day and turns:
        allowed &= asleep <= asleep[rows_, list(origin)][:, None]
    if turns:
        allowed[rows_, list(origin)] = True
    seconds = np.array(standing_seconds, dtype=np.int64)
    had = seconds.copy()
    np.add.at(had, list(origin), ends - starts)
    away = np.array([elsewhere.get(user, 0.0) for user in people])
    task = _Task(
        people=people,
        turns=turns,
        origin=origin,
        weight=weight,
        allowed=allowed,
        near=_near(starts, ends, constraints.rest),
        base=away + np.array(standing_sleep),
        elsewhere=tuple(map(float, away)),
        standing=standing,
        lengths=ends - starts,
        seconds=seconds,
        most_seconds=int(had.max(initial=0)) if constraints.even else 2**62,
        busy=tuple(tuple(busy.get(user, ())) for user in people),
        window=window,
        rest=constraints.rest,
        most=constraints.most_changes,
        price=0.0,
        unknown=tuple(dict.fromkeys(one.user for one in inside if one.user not in place)),
    )
    return replace(task, price=LEAST * task.cost(origin))


def _near(starts: NDArray[np.int64], ends: NDArray[np.int64], rest: int) -> tuple[tuple[int, ...], ...]:
    found: list[tuple[int, ...]] = []
    for place in range(len(starts)):
        close = (starts - ends[place] < rest) & (starts[place] - ends < rest)
        close[place] = False
        found.append(tuple(map(int, np.flatnonzero(close))))
    return tuple(found)


def _best(task: _Task) -> tuple[tuple[int, ...], bool]:
    """Whose each turn is in the end, and whether nothing better exists."""
    movable = task.allowed.sum(axis=1) > 1 if len(task.turns) else np.zeros(0, dtype=np.bool_)
    if task.price <= 0 or task.most <= 0 or not movable.any():
        return task.origin, True
    found = _search(task)
    return _prove(task, found)


class _State:
    """Whose each turn is, kept so that what a change comes to is known without counting anew."""

    def __init__(self, task: _Task) -> None:
        self.task = task
        self.rows = np.arange(len(task.turns))
        self.origin = np.array(task.origin)
        self.beside = np.zeros((len(task.turns), len(task.turns)), dtype=np.bool_)
        for place, near in enumerate(task.near):
            self.beside[place, list(near)] = True
        self.compared = 0
        self.start(task.origin)

    def start(self, owners: Sequence[int]) -> None:
        self.own = np.array(owners)
        self.loads = self.task.loads(owners)
        self.changes = int((self.own != self.origin).sum())
        self.seconds = self.task.seconds.copy()
        np.add.at(self.seconds, self.own, self.task.lengths)
        # Of each turn and person: how many turns they have that it cannot be besides.
        self.against = np.zeros(self.task.weight.shape, dtype=np.int64)
        for place, owner in enumerate(owners):
            self._count(place, owner, 1)

    def _count(self, place: int, owner: int, by: int) -> None:
        for other in self.task.near[place]:
            # What somebody has without rest as it is, they may keep.
            if not self.origin[other] == owner == self.origin[place]:
                self.against[other, owner] += by

    def give(self, place: int, to: int) -> None:
        task, owner = self.task, int(self.own[place])
        self.loads[owner] -= task.weight[place, owner]
        self.loads[to] += task.weight[place, to]
        self.seconds[owner] -= task.lengths[place]
        self.seconds[to] += task.lengths[place]
        self.changes += int(to != self.origin[place]) - int(owner != self.origin[place])
        self._count(place, owner, -1)
        self._count(place, to, 1)
        self.own[place] = to

    @property
    def value(self) -> float:
        return self.task.value(tuple(map(int, self.own)))

    def gifts(self) -> NDArray[np.float64]:
        """What it comes to to give each turn to each person; infinite where that cannot be."""
        task, loads = self.task, self.loads
        mine = task.weight[self.rows, self.own]
        less = (loads[self.own] - mine) ** 2 - loads[self.own] ** 2
        more = (loads + task.weight) ** 2 - loads**2
        is_change = np.arange(len(loads)) != self.origin[:, None]
        further = is_change.astype(np.int64) - (self.own != self.origin)[:, None]
        can = task.allowed & (self.against == 0) & (further + self.changes <= task.most)
        can &= self.seconds + task.lengths[:, None] <= task.most_seconds
        can[self.rows, self.own] = False
        return np.where(can, less[:, None] + more + task.price * further, np.inf)

    def exchanges(self) -> NDArray[np.float64]:
        """What it comes to that two turns change hands."""
        task, own = self.task, self.own
        # Rows: a turn; columns: another turn, whose owner takes it.
        excused = (self.origin[:, None] == own) & (self.origin == own)
        can = task.allowed[:, own] & (self.against[:, own] == (self.beside & ~excused))
        can &= (self.seconds[own] - task.lengths) + task.lengths[:, None] <= task.most_seconds
        can &= can.T & (own[:, None] != own)
        further = (own != self.origin[:, None]).astype(np.int64) - (own != self.origin)[:, None]
        further = further + further.T
        can &= further + self.changes <= task.most
        mine, loads = task.weight[self.rows, own], self.loads[own]
        taker = (loads - mine + task.weight[:, own]) ** 2 - loads**2
        return np.where(can, taker + taker.T + task.price * further, np.inf)

    def descend(self, least: float) -> None:
        """Until no single change makes it better."""
        while True:
            gifts, exchanges = self.gifts(), self.exchanges()
            self.compared += exchanges.size
            gift, exchange = int(gifts.argmin()), int(exchanges.argmin())
            if min(gifts.flat[gift], exchanges.flat[exchange]) > -least:
                return
            if gifts.flat[gift] <= exchanges.flat[exchange]:
                self.give(*divmod(gift, gifts.shape[1]))
            else:
                one, other = divmod(exchange, len(self.own))
                first, second = int(self.own[one]), int(self.own[other])
                self.give(one, second)
                self.give(other, first)


def _search(task: _Task) -> tuple[int, ...]:
    """The best that is found from where it is, and then from places near the best. The same each time."""
    state, chance = _State(task), np.random.default_rng(0)
    least = TINY * task.price / LEAST
    state.descend(least)
    best, value = tuple(map(int, state.own)), state.value
    for _ in range(ROUNDS):
        if state.compared > WORK:
            break
        state.start(best)
        # Some changes are taken back, and others made at random, which may cost what they like.
        for place in chance.permutation(np.flatnonzero(state.own != state.origin))[: chance.integers(1, 4)]:
            if np.isfinite(state.gifts()[place, state.origin[place]]):
                state.give(int(place), int(state.origin[place]))
        for _ in range(int(chance.integers(1, 3))):
            can = np.flatnonzero(np.isfinite(state.gifts()))
            if len(can):
                state.give(*divmod(int(chance.choice(can)), len(task.people)))
        state.descend(least)
        if state.value < value - least:
            best, value = tuple(map(int, state.own)), state.value
    return best


def _prove(task: _Task, found: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """Branch and bound: which turns are changed, in their order, and to whom; what is not changed yet may stay as it is. A branch
    ends where nothing below it can be better than the best that is known: neither if the rest of the changes had no constraint
    and their load could be cut to any size and laid wherever it is least (``_relaxed``), nor by ``_Tangent``. ``found``: that is
    the best, unless there is better; then that. And whether all was looked at, in ``LOOKED``."""
    best, value = found, task.value(found)
    least = TINY * task.price / LEAST
    weight, price, most, count = task.weight.tolist(), task.price, task.most, len(task.turns)
    lengths, most_seconds = task.lengths.tolist(), task.most_seconds
    takers = [
        [int(at) for at in np.flatnonzero(task.allowed[place]) if at != owner]
        for place, owner in enumerate(task.origin)
    ]
    beside = [frozenset(near) for near in task.near]
    gone, lost = _most_moved(task, takers)
    one, other = (_Tangent(task, takers, loads) for loads in (_fraction(task), task.loads(found)))
    own, loads = list(task.origin), task.loads(task.origin).tolist()
    seconds = task.seconds.tolist()
    for place, owner in enumerate(own):
        seconds[owner] += lengths[place]
    # What of each person's time may still be given to others, from each turn on.
    later = [[0] * len(loads)]
    for place in range(count - 1, -1, -1):
        later.append(list(later[-1]))
        later[-1][own[place]] += lengths[place]
    later.reverse()
    looked = 0

    def look(first: int, changes: int, due: frozenset[int], line: float, line_2: float) -> bool:
        """``due``: turns to come that have to be changed, for their owner has taken another one near them. ``line``: the cost by
        each tangent."""
        nonlocal best, value, looked
        if not due and max(seconds) <= most_seconds:
            total = sum(load * load for load in loads) + changes * price
            if total < value - least:
                best, value = tuple(own), total
        left = most - changes
        if len(due) > left or not left:
            return True
        low_first = sorted(loads)
        for place in range(first, count):
            if max(line - one.saved[place][left], line_2 - other.saved[place][left]) >= value - least:
                break
            looked += len(loads)
            if looked > LOOKED:
                return False
            for further in range(max(1, len(due)), min(left, len(gone[place]) - 1) + 1):
                bound = _relaxed(low_first, gone[place][further], lost[place][further]) + (changes + further) * price
                if bound < value - least:
                    break
            else:
                break
            owner = own[place]
            before = loads[owner]
            loads[owner] = before - weight[place][owner]
            seconds[owner] -= lengths[place]
            for to in takers[place]:
                then, then_2 = line + one.further[place][to], line_2 + other.further[place][to]
                bound = max(then - one.saved[place + 1][left - 1], then_2 - other.saved[place + 1][left - 1])
                if bound >= value - least or seconds[to] + lengths[place] - later[place + 1][to] > most_seconds:
                    continue
                mine = [near for near in beside[place] if own[near] == to]
                if mine and min(mine) < place:
                    continue
                own[place], light = to, loads[to]
                loads[to] = light + weight[place][to]
                seconds[to] += lengths[place]
                whole = look(place + 1, changes + 1, (due - {place}) | frozenset(mine), then, then_2)
                own[place], loads[to] = owner, light
                seconds[to] -= lengths[place]
                if not whole:
                    return False
            loads[owner] = before
            seconds[owner] += lengths[place]
            if place in due:
                break
        return True

    whole = look(0, 0, frozenset(), one.start, other.start)
    return best, whole


class _Tangent:
    """The cost's tangent at some loads: nowhere above it, and a sum over turns, so that each turn's share is known by itself."""

    def __init__(self, task: _Task, takers: Sequence[Sequence[int]], loads: NDArray[np.float64]) -> None:
        slope = 2 * task.weight * loads
        rows = np.arange(len(task.turns))
        stays = slope[rows, list(task.origin)]
        self.start = float(stays.sum() + (2 * loads * task.base).sum() - (loads**2).sum())
        """Where nothing is changed."""
        further = slope - stays[:, None] + task.price
        self.further: list[list[float]] = further.tolist()
        """What each turn's going to each person adds."""
        # By the turns from each place on, and the number of changes: the most that can be saved.
        self.saved = [[0.0] * (task.most + 1)]
        saved = list[float]()
        for place in range(len(task.turns) - 1, -1, -1):
            if takers[place]:
                insort(saved, min(0.0, *(self.further[place][at] for at in takers[place])))
            most = list(accumulate((-each for each in saved[: task.most]), initial=0.0))
            self.saved.append(most + most[-1:] * (task.most + 1 - len(most)))
        self.saved.reverse()


def _fraction(task: _Task) -> NDArray[np.float64]:
    """The loads at about the least cost there were if turns could be shared in any parts, with as many changes in all, and no
    constraints between them (Frank and Wolfe's way): where a tangent says most."""
    rows, origin = np.arange(len(task.turns)), np.array(task.origin)
    loads, changes = task.loads(task.origin), 0.0
    best, where = -np.inf, loads
    for _ in range(STEPS):
        slope = np.where(task.allowed, 2 * task.weight * loads, np.inf) + task.price
        slope[rows, origin] -= task.price
        to = slope.argmin(axis=1)
        gain = slope[rows, origin] - slope[rows, to]
        to = np.where(np.isin(rows, np.argsort(-gain, kind="stable")[: task.most]), to, origin)
        corner, number = task.loads(to.tolist()), float((to != origin).sum())
        away, more = corner - loads, number - changes
        # How much lower it could be than here at most.
        left = -float((2 * loads * away).sum() + task.price * more)
        bound = float((loads**2).sum() + task.price * changes) - left
        if bound > best:
            best, where = bound, loads
        length = 2 * float((away**2).sum())
        if left <= TINY * max(1.0, abs(bound)) or length <= 0:
            break
        step = min(1.0, left / length)
        loads, changes = loads + step * away, changes + step * more
    return where


def _most_moved(task: _Task, takers: Sequence[Sequence[int]]) -> tuple[list[list[float]], list[list[float]]]:
    """Of the turns from each place on, for each number of changes: the most load that they take from those who have it, and how
    much of it at most is less for those who take it."""
    gone: list[list[float]] = []
    lost: list[list[float]] = []
    taken, less = list[float](), list[float]()
    for place in range(len(task.turns) - 1, -1, -1):
        if takers[place]:
            mine = float(task.weight[place, task.origin[place]])
            insort(taken, -mine)
            insort(less, -max(0.0, mine - min(float(task.weight[place, at]) for at in takers[place])))
        gone.append([-each for each in accumulate(taken[: task.most], initial=0.0)])
        lost.append([-each for each in accumulate(less[: task.most], initial=0.0)])
    return gone[::-1], lost[::-1]


def _relaxed(loads: Sequence[float], gone: float, lost: float) -> float:
    """The least sum of squares of such loads, in ascending order, where at most ``gone`` is taken away anywhere, and all of it
    but ``lost`` added anywhere."""
    count = len(loads)
    # The highest are cut to one height.
    left, high = gone, 0.0
    for place in range(count - 1, -1, -1):
        below = loads[place - 1] if place else 0.0
        width = count - place
        step = (loads[place] - below) * width
        if step >= left:
            high = loads[place] - left / width
            break
        left -= step
    # The lowest are filled to one height.
    filled, low = gone - lost, 0.0
    if filled > 0:
        for place in range(count):
            above = loads[place + 1] if place + 1 < count else float("inf")
            step = (above - loads[place]) * (place + 1)
            if step >= filled:
                low = loads[place] + filled / (place + 1)
                break
            filled -= step
        if low >= high:
            height = max(0.0, (sum(loads) - lost) / count)
            return count * height * height
    return sum(min(max(load, low), high) ** 2 for load in loads)


def _swap_words(account: Account, task: _Task, owners: Sequence[int], in_pages: bool) -> tuple[str, ...]:
    said = []
    what = "expected pages in sleep" if in_pages else "hours of sleep on call"
    changes = sum(one != other for one, other in zip(owners, task.origin, strict=True))
    if changes:
        before, after = task.loads(task.origin), task.loads(owners)
        overrides = "One override lowers" if changes == 1 else f"{changes} overrides lower"
        if float(before.sum()) - float(after.sum()) >= 0.05:
            said.append(f"{overrides} the {what} of all together from {before.sum():.1f} to {after.sum():.1f}.")
        else:
            said.append(f"{overrides} how unevenly the {what} lie: of all together they stay {after.sum():.1f}.")
        worst = int(before.argmax())
        name = account.name_of(task.people[worst])
        said.append(f"{name}, who has the most, goes from {before[worst]:.1f} to {after[worst]:.1f}.")
        if int(after.argmax()) != worst:
            name = account.name_of(task.people[int(after.argmax())])
            said.append(f"The most that anybody has is then {after.max():.1f} ({name}).")
    elif not task.turns:
        said.append("No turn lies in this time as a whole that could change hands.")
    elif task.price <= 0:
        expected = "No page is expected in anybody's sleep" if in_pages else "Nobody is on call in their sleep"
        said.append(f"{expected}: there is nothing to lower.")
    elif not (task.allowed.sum(axis=1) > 1).any():
        said.append("Nobody else who takes turns here is free, rested and no more asleep than whoever has them.")
    else:
        said.append(f"No override would lower the {what}, or how unevenly they lie, by {LEAST:.0%} or more.")
    for user in task.unknown:
        said.append(f"Of {account.name_of(user)} nobody here knows when they sleep: their turns stay as they are.")
    return tuple(said)


# Delays


SEVERAL: Final = 3
"""Minutes that PagerDuty wants a level of several targets to wait at least."""
SOONER: Final = (60, 0.1)
"""By as many seconds, and by this part of the time that it takes now, half of the incidents have to be acknowledged sooner for
each change."""
OTHER_ORDER: Final = 2
"""So many times what other delays gain another order has to, as it has other people called first."""
HALF: Final = math.log(2)


@dataclass(frozen=True, slots=True)
class Delays:
    """Other delays of a policy, or another order of its levels."""

    policy_id: str
    before: tuple[int, ...]
    """Minutes, by level."""
    after: tuple[int, ...]
    """In the order proposed."""
    order: tuple[int, ...]
    """Levels as they are now, from 1, in the order proposed."""
    expected_before: float | None
    """Seconds: median until somebody acknowledges, by what was measured at each level; None: not enough is known."""
    expected_after: float | None
    words: tuple[str, ...]
    interval_before: tuple[float | None, float | None] = (None, None)
    """Of 95 %."""
    interval_after: tuple[float | None, float | None] = (None, None)


class _Curve:
    """Of one level: the negative logarithm of the share that is not answered yet, and its variance, as Greenwood has it."""

    def __init__(self, answers: Answers) -> None:
        self.at = list(answers.at)
        self.fall: list[float] = []
        self.spread: list[float] = []
        fall = spread = 0.0
        for came, waiting in zip(answers.answered, answers.waiting, strict=True):
            if came < waiting:
                fall -= math.log1p(-came / waiting)
                spread += came / (waiting * (waiting - came))
            else:
                fall = math.inf
            self.fall.append(fall)
            self.spread.append(spread)

    def until(self, seconds: float) -> tuple[float, float]:
        place = bisect_right(self.at, seconds)
        return (self.fall[place - 1], self.spread[place - 1]) if place else (0.0, 0.0)


def expected(minutes: Sequence[int], levels: Sequence[LevelTimes], loops: int = 0) -> float | None:
    """Seconds until somebody acknowledges (median), with such delays: for what-ifs. ``levels``: by their number; the times of
    those that are missing, or were come to less than ``ENOUGH`` times, are not known. ``loops``: how often the policy is gone
    through again.

    Each level is taken to answer as it was measured, until its delay is over; then the next is waited for, and whoever was passed
    over answers no more. Of the mixture of these the median is exact: no normal or exponential times are supposed."""
    return _median(minutes, _curves_of(len(minutes), levels), loops).seconds


def expected_within(minutes: Sequence[int], levels: Sequence[LevelTimes], loops: int = 0) -> Estimate:
    """The same with its interval."""
    curves = _curves_of(len(minutes), levels)
    ends = (_median(minutes, curves, loops, sign).seconds for sign in (1, -1))
    return Estimate(_median(minutes, curves, loops).seconds, *ends)


def _curves_of(count: int, levels: Sequence[LevelTimes]) -> list[_Curve | None]:
    known = {one.level: _Curve(one.answers) for one in levels if one.answers is not None and one.times.count >= ENOUGH}
    return [known.get(number) for number in range(1, count + 1)]


class _Half(NamedTuple):
    seconds: float | None
    """When half are acknowledged; None: never, or it is not known."""
    level: int
    """The place at which."""


NEVER: Final = _Half(None, -1)


def _median(minutes: Sequence[int], curves: Sequence[_Curve | None], loops: int, sign: int = 0) -> _Half:
    """``sign``: of the interval's lower end 1, of its upper one -1 (by the logarithm of the negative logarithm)."""
    begun, fall = 0, 0.0
    errors = [0.0] * len(curves)

    def half(fall: float, variance: float) -> bool:
        if sign and fall and variance and fall < math.inf:
            fall *= math.exp(sign * Z * math.sqrt(variance) / fall)
        return fall >= HALF - TINY

    for turn in range(loops + 1):
        for place, (delay, curve) in enumerate(zip(minutes, curves, strict=True)):
            if curve is None:
                return NEVER
            is_last = turn == loops and place == len(curves) - 1
            # A level that is come to again errs as it did before.
            others = sum(error**2 for other, error in enumerate(errors) if other != place)
            end = len(curve.at) if is_last else bisect_right(curve.at, 60 * delay)
            first = 0 if sign else bisect_left(curve.fall, HALF - fall - TINY, 0, end)
            for at in range(first, end):
                if half(fall + curve.fall[at], others + (errors[place] + math.sqrt(curve.spread[at])) ** 2):
                    return _Half(begun + curve.at[at], place)
            passed = curve.until(60 * delay)
            fall, errors[place] = fall + passed[0], errors[place] + math.sqrt(passed[1])
            begun += 60 * delay
    return NEVER


def delays(account: Account, policy_id: str, levels: Sequence[LevelTimes], log: Log) -> Delays | None:
    """Other delays with which half of the incidents are expected to be acknowledged sooner, by ``SOONER`` for each that is
    changed: one or two of them in all ways, and further ones as long as each gains as much. Or two neighbouring levels the other
    way round, with the delays that they have, where that gains ``OTHER_ORDER`` times as much. None: nothing better is known.

    No level is to wait less than until after the last notification of each of its people, by their rules for high urgency, nor
    less or longer than the linter minds; one with somebody whose rules are not known is not to wait less than it does.
    ``levels``: as ``policy_levels`` gives them of ``log``."""
    policy = account.policies.get(policy_id)
    if policy is None or len(policy.levels) < 2:
        return None
    before, curves = [level.delay for level in policy.levels], _curves_of(len(policy.levels), levels)
    was = _median(before, curves, policy.loops).seconds
    if was is None:
        return None
    step = max(SOONER[0], SOONER[1] * was)
    now = int(log.at.max()) if len(log.at) else 0
    choices = [_choices(account, level, Span(now, now + 28 * DAY)) for level in policy.levels]
    as_is = tuple(range(len(before)))
    after, order = _best_wait(before, choices, curves, policy.loops, step), as_is
    soonest = _median(after, curves, policy.loops).seconds
    least = was - max(step, OTHER_ORDER * (was - (was if soonest is None else soonest)))
    for place in as_is[:-1]:
        other = (*as_is[:place], place + 1, place, *as_is[place + 2 :])
        minutes = [before[at] for at in other]
        seconds = _median(minutes, [curves[at] for at in other], policy.loops).seconds
        if seconds is not None and (seconds < least or (seconds == least and order == as_is)):
            after, order, least = minutes, other, seconds
    if after == before and order == as_is:
        return None
    times = {one.level: one for one in levels}
    old = expected_within(before, levels, policy.loops)
    moved = [replace(times[at + 1], level=number) for number, at in enumerate(order, 1) if at + 1 in times]
    new = expected_within(after, moved, policy.loops)
    # What may be by chance is no reason to change anything.
    if new.high is None or new.high >= was:
        return None
    return Delays(
        policy_id,
        tuple(before),
        tuple(after),
        tuple(at + 1 for at in order),
        old.seconds,
        new.seconds,
        _delay_words(before, after, order, times, curves, old, new),
        (old.low, old.high),
        (new.low, new.high),
    )


def _choices(account: Account, level: Level, span: Span) -> list[int]:
    """Other minutes that a level might wait, the longest first: so that of two that are as good the one is taken by which fewer
    incidents are passed on."""
    least = 0
    for target in level.targets:
        schedule = account.schedules.get(target.id)
        if target.deleted:
            continue
        if target.kind == "user":
            users = [target.id]
        else:
            users = list(_members(schedule, schedule.rendered, span)) if schedule is not None else [""]
        for user in users:
            person = account.people.get(user)
            if person is None or person.ladder is None:
                least = max(least, level.delay)
            else:
                last = max((rung.delay for rung in person.ladder if rung.urgency == "high"), default=-1)
                least = max(least, last + 1)
    least = max(least, SHORT_DELAY, SEVERAL if len(level.targets) > 1 else 1)
    return [minutes for minutes in range(LONG_DELAY, least - 1, -1) if minutes != level.delay]


def _best_wait(
    before: Sequence[int],
    choices: Sequence[Sequence[int]],
    curves: Sequence[_Curve | None],
    loops: int,
    step: float,
) -> list[int]:
    """The delays by which half are acknowledged soonest, each change counted as ``step`` seconds more; as they are, where none
    gains that."""

    def cost(minutes: Sequence[int]) -> float:
        seconds = _median(minutes, curves, loops).seconds
        changes = sum(one != other for one, other in zip(before, minutes, strict=True))
        return math.inf if seconds is None else seconds + step * changes

    def changed(minutes: Sequence[int], *places: int) -> Iterator[list[int]]:
        for chosen in product(*(choices[place] for place in places)):
            way = list(minutes)
            for place, value in zip(places, chosen, strict=True):
                way[place] = value
            yield way

    every = range(len(before))
    ways = [list(before)]
    ways += (way for place in every for way in changed(before, place))
    ways += (way for pair in combinations(every, 2) for way in changed(before, *pair))
    best = min(ways, key=cost)
    while True:
        further = min((way for place in every for way in changed(best, place)), key=cost, default=best)
        if cost(further) >= cost(best) - TINY:
            return best
        best = further


def _delay_words(
    before: Sequence[int],
    after: Sequence[int],
    order: Sequence[int],
    times: Mapping[int, LevelTimes],
    curves: Sequence[_Curve | None],
    old: Estimate,
    new: Estimate,
) -> tuple[str, ...]:
    said = []
    for place, at in enumerate(order):
        one = times.get(at + 1)
        measured = ""
        if one is not None:
            times_ = f"{one.times.count} {'time' if one.times.count == 1 else 'times'}"
            took = one.times.median.seconds
            measured = (
                f" Level {at + 1} took {_lasts(took)} in the median ({times_})."
                if took is not None
                else f" Level {at + 1} was come to {times_}, and acknowledged {one.answered}: most went on unanswered."
            )
        if at > place:
            said.append(
                f"Level {at + 1} comes before level {place + 1}, if its people answer there as they do now.{measured}"
            )
        elif at < place:
            said += [measured.strip()] if measured else []
        elif after[place] != before[at]:
            said.append(
                f"Level {at + 1} waits {_lasts(60 * after[place])} in place of {_lasts(60 * before[at])}.{measured}"
            )
            here, shares = curves[at], []
            if here is not None and place + 1 < len(order):
                shares = [round(100 * math.exp(-here.until(60 * each)[0])) for each in (before[at], after[place])]
                said.append(
                    f"Of 100 incidents that come to it, about {shares[1]} are passed on to level {at + 2}, now {shares[0]}."
                )
    said.append(
        f"Half of the incidents are then expected to be acknowledged within {_told(new)}, now within {_told(old)}. Whoever was "
        "passed over is taken to answer no more."
    )
    return tuple(said)


def _told(estimate: Estimate) -> str:
    middle, low, high = ("not known" if each is None else _lasts(each) for each in estimate)
    return f"{middle} (95 %: {low} to {high})"


def _lasts(seconds: float) -> str:
    if seconds < 60:
        return f"{round(seconds)} {'second' if round(seconds) == 1 else 'seconds'}"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} {'minute' if minutes == 1 else 'minutes'}"
    return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")


# A second schedule


MOST_PROPOSED: Final = 5


@dataclass(frozen=True, slots=True)
class Second:
    """A schedule there already that would close gaps of a level."""

    policy_id: str
    level: int
    schedule_id: str
    closes: tuple[Span, ...]
    uncovered_before: int
    """Seconds in the window."""
    uncovered_after: int
    words: tuple[str, ...]


def second_schedules(
    account: Account, policy_id: str, rendered: Mapping[str, Sequence[Slice]], window: Span
) -> tuple[Second, ...]:
    """Those that close most first, at most five. ``rendered``: slices by schedule id over the window.

    Looked at are schedules that have to do with the policy: of its teams or its schedules', of another of its levels, or with
    people in common. One whose people would ever be on the level and on the next before or after it that reaches anybody at the
    same time is none: for them the next level would be the same telephone. Of a level nothing is proposed where it is not known
    who is on call on it, or on the one before or after it."""
    policy = account.policies.get(policy_id)
    if policy is None or window.seconds <= 0:
        return ()
    teams = {*policy.team_ids}
    concerned: dict[str, None] = {}
    for level in policy.levels:
        for target in level.targets:
            if target.kind == "schedule" and target.id in account.schedules and not target.deleted:
                teams |= {*account.schedules[target.id].team_ids}
                concerned[target.id] = None
    people = {user for id in concerned for user in _members(account.schedules[id], rendered.get(id, ()), window)}
    near = [
        schedule
        for schedule in account.schedules.values()
        if schedule.id in rendered
        and (
            schedule.id in concerned
            or teams & {*schedule.team_ids}
            or people & {*_members(schedule, rendered[schedule.id], window)}
        )
    ]
    on = [_on_level(level, rendered, window) for level in policy.levels]
    found: list[Second] = []
    empty = level_gaps(policy, rendered, window)
    unknown = [bool(unknown_in(level, rendered)) for level in policy.levels]
    for place, (level, gaps) in enumerate(zip(policy.levels, empty, strict=True)):
        # Of a level beside it that is not known nobody can say who would be on both.
        if not gaps or any(unknown[max(0, place - 1) : place + 2]) or len(level.targets) >= MOST_TARGETS:
            continue
        missing = sum(gap.seconds for gap in gaps)
        here = {target.id for target in level.targets}
        beside: list[tuple[dict[str, tuple[Span, ...]], tuple[Span, ...]]] = []
        for way in (range(place - 1, -1, -1), range(place + 1, len(on))):
            # A level that reaches nobody is passed over: then the one after it is the next.
            next_while: tuple[Span, ...] = (window,)
            for at in way:
                beside.append((on[at], next_while))
                next_while = _both(next_while, empty[at])
        for schedule in near:
            theirs = covered(rendered[schedule.id], window)
            closes = _both(gaps, theirs)
            if schedule.id in here or not closes:
                continue
            own: dict[str, list[Slice]] = {}
            for one in rendered[schedule.id]:
                if one.user:
                    own.setdefault(one.user, []).append(one)
            if any(
                _both(_both(covered(mine, window), other[user]), next_while)
                for user, mine in own.items()
                for other, next_while in beside
                if user in other
            ):
                continue
            closed = sum(span.seconds for span in closes)
            besides = sum(span.seconds for span in theirs) - closed
            found.append(
                Second(
                    policy_id,
                    place + 1,
                    schedule.id,
                    closes,
                    missing,
                    missing - closed,
                    _second_words(schedule, place + 1, level, closed, missing, besides),
                )
            )
    found.sort(key=lambda one: (one.uncovered_after - one.uncovered_before, one.level, one.schedule_id))
    return tuple(found[:MOST_PROPOSED])


def _on_level(level: Level, rendered: Mapping[str, Sequence[Slice]], window: Span) -> dict[str, tuple[Span, ...]]:
    """When each person is on call at a level."""
    found: dict[str, list[Slice]] = {}
    for target in level.targets:
        if target.deleted:
            continue
        always = [Slice(*window, target.id, Source("policy"))]
        for one in always if target.kind == "user" else rendered.get(target.id, ()):
            if one.user:
                found.setdefault(one.user, []).append(one)
    return {user: covered(own, window) for user, own in found.items()}


def _both(some: Sequence[Span], others: Sequence[Span]) -> tuple[Span, ...]:
    """When both hold; each is in order and apart."""
    found, first = [], 0
    for start, end in some:
        while first < len(others) and others[first].end <= start:
            first += 1
        place = first
        while place < len(others) and others[place].start < end:
            found.append(Span(max(start, others[place].start), min(end, others[place].end)))
            place += 1
    return tuple(found)


def _second_words(
    schedule: Schedule, number: int, level: Level, closed: int, missing: int, besides: int
) -> tuple[str, ...]:
    what = "all" if closed == missing else f"{_lasts(closed)} of the {_lasts(missing)}"
    said = [f"{schedule.name} on level {number} as well would close {what} in which that level reaches nobody."]
    if besides:
        said.append(f"Its people would be paged in {_lasts(besides)} besides, together with those who are.")
    if len(level.targets) == 1 and level.delay < SEVERAL:
        said.append(
            f"With two targets the level has to wait {SEVERAL} minutes at least; it waits {_lasts(60 * level.delay)}."
        )
    return tuple(said)
