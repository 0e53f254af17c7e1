"""What would share the load better, or get an answer sooner: proposals, before and after. None applies itself."""

from __future__ import annotations

import datetime as dt
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from integrations.pagerduty.analysis.coverage import HOUR, MONDAY
from integrations.pagerduty.analysis.incidents import Log
from integrations.pagerduty.analysis.load import API_HOURS, Hours
from integrations.pagerduty.analysis.model import Account, Person, Schedule, Slice, Source, Span
from integrations.pagerduty.analysis.response import LevelTimes

DAY: Final = 24 * HOUR
LEAST: Final = 0.01
"""What a change has to gain, of the cost as it is: a proposal of several gains as many times that."""
NODES: Final = 20_000
"""Looked at, at most, to find whether there is anything better than what was found."""
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
    the best, unless there is better; then that. And whether all was looked at, in ``NODES``."""
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
    tangents = [_Tangent(task, takers, loads) for loads in (_fraction(task), task.loads(found))]
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
    nodes = 0

    def look(first: int, changes: int, due: frozenset[int], lines: Sequence[float]) -> bool:
        """``due``: turns to come that have to be changed, for their owner has taken another one near them. ``lines``: the cost by
        each tangent."""
        nonlocal best, value, nodes
        nodes += 1
        if nodes > NODES:
            return False
        if not due and max(seconds) <= most_seconds:
            total = sum(load * load for load in loads) + changes * price
            if total < value - least:
                best, value = tuple(own), total
        left = most - changes
        if len(due) > left or not left:
            return True
        low_first = sorted(loads)
        for place in range(first, count):
            if any(
                line - tangent.saved[place][left] >= value - least
                for line, tangent in zip(lines, tangents, strict=True)
            ):
                break
            bound = min(
                (
                    _relaxed(low_first, gone[place][further], lost[place][further]) + (changes + further) * price
                    for further in range(max(1, len(due)), min(left, len(gone[place]) - 1) + 1)
                ),
                default=np.inf,
            )
            if bound >= value - least:
                break
            owner = own[place]
            before = loads[owner]
            loads[owner] = before - weight[place][owner]
            seconds[owner] -= lengths[place]
            for to in sorted(takers[place], key=lambda at: (loads[at] + weight[place][at], at)):
                mine = [other for other in beside[place] if own[other] == to]
                if any(other < place for other in mine):
                    continue
                if seconds[to] + lengths[place] - later[place + 1][to] > most_seconds:
                    continue
                then = [line + tangent.further[place][to] for line, tangent in zip(lines, tangents, strict=True)]
                if any(
                    line - tangent.saved[place + 1][left - 1] >= value - least
                    for line, tangent in zip(then, tangents, strict=True)
                ):
                    continue
                own[place], light = to, loads[to]
                loads[to] = light + weight[place][to]
                seconds[to] += lengths[place]
                whole = look(place + 1, changes + 1, (due - {place}) | frozenset(mine), then)
                own[place], loads[to] = owner, light
                seconds[to] -= lengths[place]
                if not whole:
                    return False
            loads[owner] = before
            seconds[owner] += lengths[place]
            if place in due:
                break
        return True

    whole = look(0, 0, frozenset(), [tangent.start for tangent in tangents])
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


@dataclass(frozen=True, slots=True)
class Delays:
    """Other delays of a policy, or another order of its levels."""

    policy_id: str
    before: tuple[int, ...]
    """Minutes, by level."""
    after: tuple[int, ...]
    order: tuple[int, ...]
    """Levels as they are now, from 1, in the order proposed."""
    expected_before: float | None
    """Seconds: median until somebody acknowledges, by what was measured at each level; None: not enough is known."""
    expected_after: float | None
    words: tuple[str, ...]


def delays(account: Account, policy_id: str, levels: Sequence[LevelTimes], log: Log) -> Delays | None:
    """None: nothing better is known than what it is."""
    raise NotImplementedError


def expected(minutes: Sequence[int], levels: Sequence[LevelTimes]) -> float | None:
    """Seconds until somebody acknowledges (median), with such delays: for what-ifs."""
    raise NotImplementedError


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
    """Those that close most first, at most five."""
    raise NotImplementedError
