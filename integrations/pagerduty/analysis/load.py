"""What being on call costs whom: hours, pages, nights and rests, and how evenly that is shared.

Hours of the day are by the person's own clock and by PagerDuty's API definition, unless others are given. An interruption is a
notification other than by e-mail; those of one person within a minute are one. What happened to an incident belongs to the time
in which the incident was created, as in PagerDuty's analytics: so each is counted once, whatever time is looked at.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from integrations.pagerduty.analysis.coverage import pairs_alike
from integrations.pagerduty.analysis.incidents import EVERY, KIND, WAY, Chosen, Codes, Instants, Log, chosen_in
from integrations.pagerduty.analysis.model import Account, Policy, Schedule, Span
from integrations.pagerduty.analysis.relief import REST
from integrations.pagerduty.analysis.zones import zone_of

DAY: Final = 86_400
ONCE: Final = 60
"""Seconds within which notifications of one person of one incident are one interruption."""
EARLIER: Final = 6
"""Times of the same length that somebody is compared with."""
FEWEST: Final = 3
"""People between whom sharing is measured."""
ROUNDS: Final = 2
"""That a schedule must have gone in a time, for anything to be claimed of it."""
SHIFT: Final = 12 * 3600
MOST_PAGES: Final = 2
"""In a shift of 12 hours, as Google's SRE book has it."""
MOST_TIME: Final = 0.25
"""On call, as it has it."""
NIGHTS: Final = 100_000
"""More than there are from 1970 to 2200."""
EPOCH: Final = dt.date(1970, 1, 1).toordinal()
BUSINESS, OFF, SLEEP = range(3)


@dataclass(frozen=True, slots=True)
class Hours:
    """Of the day, 0 to 24, by a person's own clock; sleep comes before the others. The default: as PagerDuty's API counts."""

    business: tuple[int, int] = (8, 18)
    """On weekdays; the rest of what is not sleep is off hours."""
    sleep: tuple[int, int] = (22, 8)
    """Every day."""
    weekend: tuple[int, ...] = (6, 7)
    """Monday 1."""


API_HOURS: Final = Hours()
INSIGHTS_HOURS: Final = Hours(sleep=(21, 8))
"""As PagerDuty's Insights count."""


class Duty(NamedTuple):
    """A time in which somebody is on call."""

    start: int
    end: int
    user: str
    level: int
    """Of an escalation policy, from 1; 0: of a schedule that no policy pages."""
    schedule_id: str = ""
    """Empty: named by the policy itself."""
    policy_id: str = ""


@dataclass(frozen=True, eq=False)
class Duties(Sequence[Duty]):
    """The same of many, as columns: a big account has a million of a year. Ids are named by their places in ``ids``, of which the
    first is empty."""

    start: Instants
    end: Instants
    user: Codes
    level: Codes
    schedule: Codes
    policy: Codes
    ids: tuple[str, ...]

    @classmethod
    def of(cls, rows: Iterable[Duty]) -> Duties:
        rows = list(rows)
        places: dict[str, int] = {"": 0}

        def coded(column: int) -> Codes:
            return np.array([places.setdefault(str(row[column]), len(places)) for row in rows], dtype=np.int32)

        start, end = (np.array([row[column] for row in rows], dtype=np.int64) for column in (0, 1))
        level = np.array([row.level for row in rows], dtype=np.int32)
        return cls(start, end, coded(2), level, coded(4), coded(5), tuple(places))

    def those(self, places: NDArray[np.bool_] | Instants) -> Duties:
        """Some of them, or all in another order."""
        return Duties(
            self.start[places],
            self.end[places],
            self.user[places],
            self.level[places],
            self.schedule[places],
            self.policy[places],
            self.ids,
        )

    def __len__(self) -> int:
        return len(self.start)

    @overload
    def __getitem__(self, place: int) -> Duty: ...
    @overload
    def __getitem__(self, place: slice) -> Duties: ...
    def __getitem__(self, place: int | slice) -> Duty | Duties:
        if isinstance(place, slice):
            return self.those(np.arange(len(self))[place])
        user, schedule, policy = (self.ids[column[place]] for column in (self.user, self.schedule, self.policy))
        return Duty(int(self.start[place]), int(self.end[place]), user, int(self.level[place]), schedule, policy)


@dataclass(frozen=True, slots=True)
class PersonLoad:
    user: str
    seconds: int
    """On call, by whatever schedules and levels: at once counts once."""
    level_1: int
    """Seconds."""
    level_2_plus: int
    """Seconds on later levels and not on the first."""
    pages: int
    """Incidents that they were notified of, otherwise than by e-mail."""
    sleep_pages: int
    """Of these, those that notified them in sleep hours at least once."""
    interruptions: int
    business: int
    off: int
    sleep: int
    """Interruptions."""
    longest_run: int
    """Seconds on call by schedules without a break: whom a policy names itself is on call always, which is no turn."""
    short_rests: int
    """Breaks between turns under 11 hours, of which the latter turn begins in the time."""
    weekend_seconds: int
    nights_woken: int
    """Of their own nights, those with an interruption in sleep hours."""
    earlier: Mapping[str, float] = field(default_factory=dict)
    """Their own mean of the same length of time over up to six earlier ones that are known, since they were first on call or
    paged: ``seconds``, ``pages``, ``interruptions``, ``sleep``. Empty: none is known."""
    sleep_seconds: int = 0
    """On call in sleep hours."""
    weighted: int = 0
    """Seconds on call, those in sleep hours or at a weekend double."""
    eligible: bool = False
    """Whether they take turns on schedules that have gone round twice: between these, sharing is measured."""
    zone: str = ""
    """Whose clock is theirs, an IANA name; empty: it is not known, and UTC's is taken."""

    @property
    def weekend_share(self) -> float:
        """0 to 1."""
        return self.weekend_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Fairness:
    """How evenly one thing is shared among those who are eligible for it."""

    what: str
    """``seconds``, ``weighted`` (nights and weekends double), ``pages``, ``interruptions`` or ``sleep_pages``."""
    people: int
    gini: float | None
    """0: all alike, towards 1: one has it all. None, here and below: nothing is claimed."""
    cv: float | None
    """Standard deviation by mean."""
    pairwise: float | None
    """0 to 100: over all pairs the mean of the lesser's share of the greater's."""
    most: tuple[str, float] | None
    """Which of them has most, and its share of all that anybody has, 0 to 1. None also where nobody has any."""
    untold: str
    """Why nothing is claimed, as a sentence; empty: it is."""
    stands_out: bool = False
    """Whether who has most has at least twice as many as anybody else who is eligible, and more than chance gives: the two are
    three standard deviations apart. Of pages and interruptions, which can be counted, alone."""


COUNTS: Final = ("pages", "interruptions", "sleep_pages")
WHATS: Final = ("seconds", "weighted", *COUNTS)


@dataclass(frozen=True, slots=True)
class Load:
    window: Span
    people: tuple[PersonLoad, ...]
    """All who were on call or paged in it, the most sleep interruptions first, then pages, then hours."""
    fairness: Mapping[str, Fairness]
    """By ``what``."""
    heat: tuple[tuple[int, ...], ...]
    """Interruptions: seven weekdays from Monday of 24 hours each, by each person's own clock."""


def load(
    account: Account,
    log: Log,
    duties: Sequence[Duty],
    window: Span,
    *,
    known: Span,
    hours: Hours = API_HOURS,
    chosen: Chosen = EVERY,
    cycle: int | None = None,
) -> Load:
    """``known``: since and until when duties and log tell everything: earlier times of comparison lie inside it. ``cycle``:
    seconds of one whole rotation, of which fairness needs two; None: it is not known, and is taken of each person from the
    layers of v2 schedules; of other schedules everybody must have begun two turns or be on call through half of the window."""
    length = window.seconds
    spans = [window]
    while length > 0 and len(spans) <= EARLIER and spans[-1].start - length >= known.start:
        spans.append(Span(spans[-1].start - length, spans[-1].start))
    books = _Books(account, log, duties, Span(spans[-1].start, window.end), hours, chosen)
    return books.load(spans, known, cycle)


def months(
    account: Account,
    log: Log,
    duties: Sequence[Duty],
    known: Span,
    *,
    zone: str,
    hours: Hours = API_HOURS,
    chosen: Chosen = EVERY,
) -> tuple[Load, ...]:
    """By calendar month of ``zone``, the oldest first: for trends, so that none is compared with the earlier ones. Months that
    ``known`` holds in part are left out."""
    spans = list(_months(known, zone))
    if not spans:
        return ()
    books = _Books(account, log, duties, Span(spans[0].start, spans[-1].end), hours, chosen)
    return tuple(books.load([span], known, None) for span in spans)


class Night(NamedTuple):
    """A night of one person's in which they were interrupted, by their own clock."""

    date: dt.date
    """On whose evening it begins."""
    at: tuple[int, ...]
    """Interruptions in sleep hours, by their time."""
    pages: int
    """Incidents that these were of."""


class Own(NamedTuple):
    """What ``load`` counts of one person, one by one."""

    heat: tuple[tuple[int, ...], ...]
    """As a ``Load`` has it."""
    nights: tuple[Night, ...]
    """Those with most interruptions first, then the latest."""


def own(
    account: Account, log: Log, user: str, window: Span, *, hours: Hours = API_HOURS, chosen: Chosen = EVERY
) -> Own:
    """When one person was interrupted."""
    code = log.users.index(user) if user in log.users else -1
    every = _notified(log, window, chosen)
    mine = every.user == code
    at, incident = every.at[mine], every.incident[mine]
    counts = _once(at, every.group[mine])
    at, incident = at[counts], incident[counts]
    if not len(at):
        return Own(((0,) * 24,) * 7, ())
    person = account.people.get(user)
    zone = person.zone if person is not None else "UTC"
    clocks = _Clocks((zone,), Span(int(at.min()), int(at.max())), hours)
    local = clocks.local(np.zeros(len(at), dtype=np.int64), at)
    day, hour = (local // DAY + 3) % 7, local % DAY // 3600
    heat = np.bincount(day * 24 + hour, minlength=7 * 24).reshape(7, 24)
    asleep = clocks.kinds[day, hour] == SLEEP
    night = (local - hours.sleep[1] * 3600) // DAY
    found: dict[int, list[tuple[int, int]]] = {}
    for which, one, when in zip(*(column[asleep].tolist() for column in (night, incident, at)), strict=True):
        found.setdefault(which, []).append((when, one))
    nights = [
        Night(
            dt.date.fromordinal(EPOCH + which),
            tuple(sorted(when for when, _ in rows)),
            len({one for _, one in rows}),
        )
        for which, rows in found.items()
    ]
    nights.sort(key=lambda one: (-len(one.at), -one.date.toordinal()))
    return Own(tuple(tuple(row) for row in heat.tolist()), tuple(nights))


def _months(known: Span, zone: str) -> Iterator[Span]:
    clock = zone_of(zone)
    first = dt.datetime.fromtimestamp(known.start, clock)
    year, month = first.year, first.month
    begin = int(dt.datetime(year, month, 1, tzinfo=clock).timestamp())
    while True:
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        end = int(dt.datetime(year, month, 1, tzinfo=clock).timestamp())
        if end > known.end:
            return
        if begin >= known.start:
            yield Span(begin, end)
        begin = end


# Clocks


@lru_cache(maxsize=1024)
def _changes(zone: str, year: int) -> tuple[tuple[int, int], ...]:
    """The seconds that a zone's clock is ahead of UTC's in a year (of UTC): since when, and how many. The first is the
    year's start."""
    clock = zone_of(zone)

    def ahead(at: int) -> int:
        offset = dt.datetime.fromtimestamp(at, clock).utcoffset()
        return 0 if offset is None else int(offset.total_seconds())

    at = int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp())
    end = int(dt.datetime(year + 1, 1, 1, tzinfo=dt.UTC).timestamp())
    now = ahead(at)
    found = [(at, now)]
    # No clock has ever been changed and changed back within a day.
    while at < end:
        later = min(at + DAY, end)
        if ahead(later) == now:
            at = later
            continue
        low, high = at, later
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if ahead(middle) == now else (low, middle)
        at, now = high, ahead(high)
        if at < end:
            found.append((at, now))
    return tuple(found)


class _Clocks:
    """The clocks of several zones, named by their places, over a time: local times of many instants at once, and how much of
    many spans is sleep or weekend. All to the second, whatever changes of the clock lie in them."""

    def __init__(self, zones: Sequence[str], span: Span, hours: Hours) -> None:
        self._span = span
        self._wide = span.seconds + 1
        years = range(_year(span.start), _year(span.end) + 1)
        found = [
            (place * self._wide + max(at - span.start, 0), ahead)
            for place, zone in enumerate(zones)
            for at, ahead in _inside([change for year in years for change in _changes(zone, year)], span)
        ]
        self._keys = np.array([key for key, _ in found], dtype=np.int64)
        self._ahead = np.array([ahead for _, ahead in found], dtype=np.int64)
        self._marks = self._sums = np.zeros((0,), dtype=np.int64)
        self._hours = hours
        self.kinds = np.array([[_kind(hours, day, hour) for hour in range(24)] for day in range(1, 8)], dtype=np.int8)
        """Of each weekday from Monday and hour: ``BUSINESS``, ``OFF`` or ``SLEEP``."""

    def local(self, zone: Instants, at: Instants) -> Instants:
        """Seconds from 1970 by the clock of each one's zone. Before and after the time, clocks go on as at its ends."""
        inside = np.clip(at, *self._span) - self._span.start
        found = np.searchsorted(self._keys, zone * self._wide + inside, side="right") - 1
        local: Instants = at + self._ahead[found]
        return local

    def sleep_weekend_either(
        self, zone: Instants, start: Instants, end: Instants
    ) -> tuple[Instants, Instants, Instants]:
        """Of each span, the seconds in sleep hours, at a weekend, and in one of both."""
        if not len(self._marks):
            self._mark()
        sums = self._until(zone, end) - self._until(zone, start)
        return sums[0], sums[1], sums[2]

    def _until(self, zone: Instants, at: Instants) -> Instants:
        asked = zone * self._wide + (at - self._span.start)
        place = np.searchsorted(self._marks, asked, side="right") - 1
        sums: Instants = self._sums[:, place] + self._on[:, place] * (asked - self._marks[place])
        return sums

    def _mark(self) -> None:
        """Since when it is another day or hour of sleep, in each zone, and how much of each kind there was before."""
        marks = np.array(sorted({0, *(hour * 3600 % DAY for hour in self._hours.sleep)}), dtype=np.int64)
        keys, ends = self._keys, np.append(self._keys[1:], self._keys[-1:] + self._wide)
        found, ahead = [], []
        for key, end, offset in zip(keys.tolist(), ends.tolist(), self._ahead.tolist(), strict=True):
            zone, since = divmod(key, self._wide)
            begin = since + self._span.start + offset
            finish = min(end, (zone + 1) * self._wide) - zone * self._wide + self._span.start + offset
            days = np.arange(begin // DAY, finish // DAY + 1, dtype=np.int64) * DAY
            inside = (days[:, None] + marks).ravel()
            inside = np.append(begin, inside[(inside > begin) & (inside < finish)])
            found.append(inside - offset - self._span.start + zone * self._wide)
            ahead.append(np.full(len(inside), offset, dtype=np.int64))
        self._marks = np.concatenate(found)
        local = self._marks % self._wide + self._span.start + np.concatenate(ahead)
        sleep = self.kinds[(local // DAY + 3) % 7, local % DAY // 3600] == SLEEP
        weekend = np.isin((local // DAY + 3) % 7 + 1, self._hours.weekend)
        self._on = np.stack([sleep, weekend, sleep | weekend]).astype(np.int64)
        lengths = np.diff(self._marks, append=self._marks[-1])
        self._sums = np.cumsum(self._on * lengths, axis=1) - self._on * lengths


def _year(at: int) -> int:
    return dt.datetime.fromtimestamp(at, dt.UTC).year


def _inside(changes: Sequence[tuple[int, int]], span: Span) -> Iterable[tuple[int, int]]:
    """From the last before the span on."""
    first = max((place for place, (at, _) in enumerate(changes) if at <= span.start), default=0)
    return (change for change in changes[first:] if change[0] <= span.end)


def _kind(hours: Hours, day: int, hour: int) -> int:
    begin, end = hours.sleep
    if begin <= hour < end or (begin > end and not end <= hour < begin):
        return SLEEP
    begin, end = hours.business
    return BUSINESS if day not in hours.weekend and begin <= hour < end else OFF


# Counting


class _Runs(NamedTuple):
    """Times on call, by person and start: what touches or overlaps is one."""

    user: Instants
    start: Instants
    end: Instants

    def within(self, span: Span) -> _Runs:
        start, end = np.maximum(self.start, span.start), np.minimum(self.end, span.end)
        kept = end > start
        return _Runs(self.user[kept], start[kept], end[kept])

    def seconds(self, users: int) -> Instants:
        return _summed(self.user, self.end - self.start, users)


def _runs(user: Instants, start: Instants, end: Instants) -> _Runs:
    """``user``, then ``start`` ascending."""
    if not len(user):
        return _Runs(user, start, end)
    base = int(start.min())
    # Each person's times are moved behind those of the person before.
    moved = user * (int(end.max()) - base + 1) - base
    reached = np.maximum.accumulate(end + moved)
    first = np.flatnonzero(np.append(True, (start + moved)[1:] > reached[:-1]))
    last = np.append(first[1:] - 1, len(user) - 1)
    return _Runs(user[first], start[first], reached[last] - moved[last])


def _summed(user: Instants, values: NDArray[np.int64], users: int) -> Instants:
    return np.bincount(user, weights=values, minlength=users).astype(np.int64)


def _counted(user: Instants, users: int) -> Instants:
    return np.bincount(user, minlength=users)


def _different(user: Instants, night: Instants, users: int) -> Instants:
    """How many nights each has, however often."""
    return _counted(np.unique(user * NIGHTS + night) // NIGHTS, users)


def _within(created: Instants, span: Span) -> slice:
    """Those that were created in a time; ``created`` is ascending."""
    low, high = np.searchsorted(created, [span.start, span.end])
    return slice(int(low), int(high))


class _Books:
    """What is counted of all times that are looked at together, by person."""

    def __init__(
        self, account: Account, log: Log, duties: Sequence[Duty], span: Span, hours: Hours, chosen: Chosen
    ) -> None:
        self.hours = hours
        self._take(account, log, duties, chosen)
        people = [account.people.get(user) for user in self.users]
        self.zones = tuple("" if person is None else person.zone for person in people)
        # Where there is nobody, there is a clock all the same.
        zones = dict.fromkeys(("UTC", *self.zones))
        names = {zone: number for number, zone in enumerate(zone for zone in zones if zone)}
        self.zone = np.array([names[zone or "UTC"] for zone in self.zones], dtype=np.int64)
        # Some are notified after the time in which their incident was made, none by much.
        self.clocks = _Clocks(tuple(names), Span(span.start, span.end + 366 * DAY), hours)
        self._interrupt(log, _notified(log, span, chosen))

    def _take(self, account: Account, log: Log, duties: Sequence[Duty], chosen: Chosen) -> None:
        """Who is on call when, by person and by schedule."""
        if not isinstance(duties, Duties):
            duties = Duties.of(duties)
        ids = duties.ids
        if chosen != EVERY:
            pairs, which = np.unique(duties.schedule.astype(np.int64) * len(ids) + duties.policy, return_inverse=True)
            named = [divmod(pair, len(ids)) for pair in pairs.tolist()]
            counted = np.array(
                [_is_counted(account, ids[schedule], ids[policy], chosen) for schedule, policy in named], np.bool_
            )
            duties = duties.those(counted[which])
        start, end, level = duties.start, duties.end, duties.level
        on_call, schedules = (
            [ids[code] for code in np.unique(column) if code] for column in (duties.user, duties.schedule)
        )
        self.users = tuple(dict.fromkeys((*log.users, *on_call)))
        place = {user: number for number, user in enumerate(self.users)}
        self.schedules = tuple(schedules)
        code = {id: number for number, id in enumerate(self.schedules)}
        who = np.array([place.get(id, -1) for id in ids], dtype=np.int64)[duties.user]
        of = np.array([code.get(id, -1) for id in ids], dtype=np.int64)[duties.schedule]
        order = np.lexsort((start, who))
        order = order[(who >= 0)[order] & (end > start)[order]]
        who, of, start, end, level = who[order], of[order], start[order], end[order], level[order]
        self.all = _runs(who, start, end)
        self.paged = _runs(*(column[level >= 1] for column in (who, start, end)))
        self.first = _runs(*(column[level == 1] for column in (who, start, end)))
        # Whom a policy names itself is on call always, and has neither runs nor rests by that.
        self.shifts = _runs(*(column[of >= 0] for column in (who, start, end)))
        # By schedule and person, whose number here is that of both together.
        who, of, start, end = (column[of >= 0] for column in (who, of, start, end))
        found, both = np.unique(of * max(len(self.users), 1) + who, return_inverse=True)
        self.taker, self.taken = found % max(len(self.users), 1), found // max(len(self.users), 1)
        order = np.lexsort((start, both))
        self.takes = _runs(both[order], start[order], end[order])
        order = np.lexsort((who, end, start, of))
        both, start = both[order], start[order]
        # Until somebody else is on call on the schedule, it is the same turn.
        begins = np.append(True, both[1:] != both[:-1])[: len(both)]
        self.turn, self.begun = both[begins], start[begins]
        self.defined = [account.schedules.get(id) for id in self.schedules]
        members = [_members(schedule) for schedule in self.defined]
        self.member = np.array(
            [
                not members[schedule] or self.users[user] in members[schedule]
                for schedule, user in zip(self.taken.tolist(), self.taker.tolist(), strict=True)
            ],
            dtype=np.bool_,
        )

    def _interrupt(self, log: Log, notified: _Notified) -> None:
        """Which notifications are interruptions, and of which hour of the week and night of whoever was notified. All are by the
        creation of their incident."""
        incident, user, at, group = notified
        local = self.clocks.local(self.zone[user], at)
        # The first day of 1970 was a Thursday.
        hour = (local + 3 * DAY) % (7 * DAY) // 3600
        kind = self.clocks.kinds.ravel()[hour]
        counts = _once(at, group)
        firsts = np.flatnonzero(np.diff(group, prepend=-1))
        self.page_created, self.page_user = log.created[incident[firsts]], user[firsts]
        self.page_asleep = np.logical_or.reduceat(kind == SLEEP, firsts) if len(firsts) else kind == SLEEP
        self.created = log.created[incident[counts]]
        self.user, self.hour, self.kind = user[counts], hour[counts], kind[counts]
        # A night begins on the evening before: its hours are moved until it ends at midnight.
        self.night = (local[counts] - self.hours.sleep[1] * 3600) // DAY

    def load(self, spans: Sequence[Span], known: Span, cycle: int | None) -> Load:
        """Of the first of the spans; the others are earlier ones to compare with, the latest first."""
        window, count = spans[0], len(self.users)
        on = self.all.within(window)
        paged, first = self.paged.within(window).seconds(count), self.first.within(window).seconds(count)
        seconds = on.seconds(count)
        sleep, weekend, either = (
            _summed(on.user, found, count)
            for found in self.clocks.sleep_weekend_either(self.zone[on.user], on.start, on.end)
        )
        longest = np.zeros(count, dtype=np.int64)
        shifts, runs = self.shifts, self.shifts.within(window)
        np.maximum.at(longest, runs.user, runs.end - runs.start)
        rests = shifts.start[1:] - shifts.end[:-1]
        short = (shifts.user[1:] == shifts.user[:-1]) & (rests < REST)
        short &= (shifts.start[1:] >= window.start) & (shifts.start[1:] < window.end)
        pages, mine = _within(self.page_created, window), _within(self.created, window)
        user, kind, hour = self.user[mine], self.kind[mine], self.hour[mine]
        woken = kind == SLEEP
        eligible, why = self._eligible(window, known, cycle)
        columns: dict[str, Instants] = {
            "seconds": seconds,
            "level_1": first,
            "level_2_plus": paged - first,
            "pages": _counted(self.page_user[pages], count),
            "sleep_pages": _counted(self.page_user[pages][self.page_asleep[pages]], count),
            "interruptions": _counted(user, count),
            "business": _counted(user[kind == BUSINESS], count),
            "off": _counted(user[kind == OFF], count),
            "sleep": _counted(user[woken], count),
            "longest_run": longest,
            "short_rests": _counted(shifts.user[1:][short], count),
            "weekend_seconds": weekend,
            "nights_woken": _different(user[woken], self.night[mine][woken], count),
            "sleep_seconds": sleep,
            "weighted": seconds + either,
        }
        earlier = self._earlier(spans[1:])
        rows = zip(*(column.tolist() for column in columns.values()), strict=True)
        people = [
            PersonLoad(
                self.users[place],
                **dict(zip(columns, row, strict=True)),
                earlier=earlier[place] if earlier else {},
                eligible=place in eligible,
                zone=self.zones[place],
            )
            for place, row in enumerate(rows)
            if seconds[place] or row[3]
        ]
        people.sort(key=lambda one: (-one.sleep, -one.pages, -one.seconds, one.user))
        heat = np.bincount(hour, minlength=7 * 24).reshape(7, 24)
        fairness = {what: _fairness(what, people, why) for what in WHATS}
        return Load(window, tuple(people), fairness, tuple(tuple(row) for row in heat.tolist()))

    def _earlier(self, spans: Sequence[Span]) -> list[dict[str, float]]:
        """By person; empty: no earlier time is known."""
        if not spans:
            return []
        count = len(self.users)
        found: dict[str, list[Instants]] = {"seconds": [], "pages": [], "interruptions": [], "sleep": []}
        for span in spans:
            pages, mine = _within(self.page_created, span), _within(self.created, span)
            found["seconds"].append(self.all.within(span).seconds(count))
            found["pages"].append(_counted(self.page_user[pages], count))
            found["interruptions"].append(_counted(self.user[mine], count))
            found["sleep"].append(_counted(self.user[mine][self.kind[mine] == SLEEP], count))
        sums = {name: np.cumsum(np.stack(values), axis=0) for name, values in found.items()}
        there = (np.stack(found["seconds"]) > 0) | (np.stack(found["pages"]) > 0)
        # Of the times, how many there are since they first had any: before it they were not there to be compared with.
        since = np.where(there.any(axis=0), len(spans) - there[::-1].argmax(axis=0), 0)
        place = np.arange(count)
        means = {name: (value[since - 1, place] / np.maximum(since, 1)).tolist() for name, value in sums.items()}
        return [
            {name: values[number] for name, values in means.items()} if known else {}
            for number, known in enumerate(since.tolist())
        ]

    # Who shares

    def _eligible(self, window: Span, known: Span, cycle: int | None) -> tuple[set[int], str]:
        """The places of those who take turns on schedules that have gone round twice, and why there are too few; empty: there
        are enough."""
        span = Span(max(window.start, known.start), min(window.end, known.end))
        seconds = self.takes.within(span).seconds(len(self.taker))
        turns = _counted(self.turn[(self.begun >= span.start) & (self.begun < span.end)], len(self.taker))
        here = seconds > 0
        regular = (turns >= ROUNDS) | (2 * seconds >= span.seconds)
        everybody = _counted(self.taken[here & self.member & ~regular], len(self.schedules)) == 0
        rounds = [_rounds(schedule, span) for schedule in self.defined]
        whole, part, needed = set[int](), set[int](), 0
        for pair in np.flatnonzero(here).tolist():
            user, of = int(self.taker[pair]), int(self.taken[pair])
            round_ = cycle or rounds[of].get(self.users[user])
            if not self.member[pair]:
                # Who only took over a turn of somebody else does not share the rest.
                enough = bool(regular[pair])
            elif round_:
                enough = span.seconds >= ROUNDS * round_
            else:
                enough = bool(everybody[of])
            if enough:
                whole.add(user)
            elif self.member[pair]:
                part.add(user)
                needed = max(needed, ROUNDS * (round_ or 0))
        return whole, _why(len(whole), len(whole | part), needed)


def _is_counted(account: Account, schedule_id: str, policy_id: str, chosen: Chosen) -> bool:
    """Whether a duty is for incidents of those that are chosen, as far as their policy, service or team tells."""
    if chosen.policy_id and policy_id != chosen.policy_id:
        return False
    if chosen.service_id:
        service = account.services.get(chosen.service_id)
        if service is None or not service.policy_id or policy_id != service.policy_id:
            return False
    if chosen.team_id:
        owners: tuple[Policy | Schedule | None, ...] = (
            account.policies.get(policy_id),
            account.schedules.get(schedule_id),
        )
        return any(owner is not None and chosen.team_id in owner.team_ids for owner in owners)
    return True


class _Notified(NamedTuple):
    """Notifications other than by e-mail, by incident, person and time."""

    incident: Instants
    """Places in the log."""
    user: Instants
    at: Instants
    group: Instants
    """Numbers of incident and person together, ascending."""


def _notified(log: Log, span: Span, chosen: Chosen) -> _Notified:
    mine = log.created_in(span)
    steps = slice(int(log.step_starts[mine.start]), int(log.step_starts[mine.stop]))
    told = (log.kind[steps] == KIND["notify"]) & (log.way[steps] != WAY["email"]) & (log.user[steps] >= 0)
    incident = log.incident[steps]
    if chosen != EVERY:
        told &= chosen_in(log, span, chosen)[incident]
    incident = incident[told].astype(np.int64)
    user, at = log.user[steps][told].astype(np.int64), log.at[steps][told]
    group = incident * max(len(log.users), 1) + user
    order = np.lexsort((at, group))
    incident, user, at, group = incident[order], user[order], at[order], group[order]
    return _Notified(incident, user, at, np.cumsum(np.diff(group, prepend=group[:1]) != 0))


def _once(at: Instants, group: Instants) -> NDArray[np.bool_]:
    """Which of the notifications count: in each group the first, and then each that is a minute or more after the last that
    counted."""
    if not len(at):
        return np.zeros(0, dtype=np.bool_)
    begins = np.append(True, (group[1:] != group[:-1]) | (at[1:] - at[:-1] >= ONCE))
    counts = begins.copy()
    # Between two that are a minute or more apart the latter counts for certain. Of what is closer, the last that counted
    # decides: such stretches are walked through, all at once.
    stretch = np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)
    after = at - at[firsts][stretch]
    wide = int(after.max()) + ONCE + 1
    keys = stretch * wide + after
    lasts = np.append(firsts[1:], len(at)) - 1
    now = firsts[after[lasts] >= ONCE]
    while len(now):
        later = np.searchsorted(keys, keys[now] + ONCE)
        now = later[(later < len(at)) & (stretch[np.minimum(later, len(at) - 1)] == stretch[now])]
        counts[now] = True
    return counts


def _members(schedule: Schedule | None) -> frozenset[str]:
    """Who takes turns on it as it is defined; empty: that is not known."""
    if schedule is None:
        return frozenset()
    found = [layer.users for layer in schedule.layers]
    found += [event.members for rotation in schedule.rotations for event in rotation.events]
    return frozenset(user for users in found for user in users if user)


def _rounds(schedule: Schedule | None, span: Span) -> Mapping[str, int]:
    """Seconds until it is somebody's turn again, by the layers in effect, of those whom they tell of."""
    found: dict[str, int] = {}
    for layer in schedule.layers if schedule is not None else ():
        if layer.start < span.end and (layer.end is None or layer.end > span.start):
            # Who is alone on a layer waits for nobody.
            length = layer.turn * len(layer.users) if len(set(layer.users)) > 1 else 1
            found.update((user, max(found.get(user, 0), length)) for user in layer.users)
    return found


def _why(eligible: int, takers: int, needed: int) -> str:
    if eligible >= FEWEST:
        return ""
    if takers < FEWEST:
        who = ("Nobody is known to take", "Only one person takes", "Only two people take")[takers]
        return (
            f"{who} turns on these schedules in this time: how evenly it is shared is told of three people or more. Choose "
            "more schedules, or a longer time."
        )
    rounds = f"of {-(-needed // DAY)} days or more" if needed else "in which everybody begins two turns"
    return (
        "The schedules have not gone round twice in this time, so that it may be uneven by chance: nothing is told of how it "
        f"is shared. Choose a time {rounds}."
    )


# Sharing


def _fairness(what: str, people: Sequence[PersonLoad], why: str) -> Fairness:
    mine = {one.user: int(getattr(one, what)) for one in people if one.eligible}
    if why:
        return Fairness(what, len(mine), None, None, None, None, why)
    values = list(mine.values())
    total = sum(int(getattr(one, what)) for one in people)
    first, second = sorted(mine, key=lambda user: (-mine[user], user))[:2]
    most, next_ = mine[first], mine[second]
    # Counts that have the same mean differ by chance, with a variance that is their sum.
    apart = what in COUNTS and most >= 2 * next_ and (most - next_) ** 2 >= 9 * (most + next_) > 0
    return Fairness(
        what,
        len(mine),
        gini(values),
        variation(values),
        pairwise(values),
        (first, most / total) if most else None,
        "",
        apart,
    )


def norms(one: PersonLoad, window: Span) -> tuple[str, ...]:
    """What somebody's load exceeds of what is held to be the most elsewhere, as sentences."""
    found = []
    shifts = one.seconds / SHIFT
    if shifts >= 1 and one.pages > MOST_PAGES * shifts:
        found.append(
            f"Paged {one.pages / shifts:.1f} times for each 12 hours on call: Google's SRE book holds two incidents for the most "
            "that can be seen to properly."
        )
    if one.seconds > MOST_TIME * window.seconds:
        found.append(
            f"On call {100 * one.seconds / window.seconds:.0f} % of the time: Google's SRE book holds a quarter for the most."
        )
    return tuple(found)


def gini(values: Sequence[float]) -> float:
    """0: all alike (or nobody has any), towards 1: one has it all; of ``n`` at most ``1 - 1/n``."""
    total, count = sum(values), len(values)
    if not total:
        return 0.0
    return sum((2 * place - count - 1) * value for place, value in enumerate(sorted(values), 1)) / (count * total)


def variation(values: Sequence[float]) -> float:
    """Standard deviation (of the whole population) by mean; of nothing but zeros 0."""
    found = np.asarray(values, dtype=np.float64)
    return float(found.std() / found.mean()) if found.any() else 0.0


def pairwise(values: Sequence[float]) -> float:
    """0 to 100; of less than two 100. Two that have nothing are alike."""
    return pairs_alike(sorted(values))
