"""When somebody is on call and when nobody is: of one schedule, of an escalation policy with its levels together, of a service.

Takes rendered slices and makes no difference between the kinds of schedules: several people may be on call at once. Spans come
clipped to the window, in order and apart from each other. Whether a gap is meant is not known here.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from integrations.pagerduty.analysis.model import Account, Level, Policy, Schedule, Service, Slice, Span
from integrations.pagerduty.analysis.rotation import render

HOUR: Final = 3600
WEEK: Final = 168 * HOUR
MONDAY: Final = 96 * HOUR
"""The first Monday of Unix time, 00:00 UTC."""
UNKNOWN: Final = frozenset({"no_definition", "rendered_only"})
"""Problems by which it is not known who is on call: without them nobody would be."""

log = logging.getLogger(__name__)


# One schedule


def covered(slices: Iterable[Slice], window: Span) -> tuple[Span, ...]:
    """When anybody is on call. Slices may come in any order and overlap; those of nobody, and those that end before they
    begin, cover nothing."""
    since, until = window
    found: list[Span] = []
    low = high = since
    for start, end in sorted((one.start, one.end) for one in slices if one.user and one.start < until):
        if end <= high or end <= start:
            continue
        if start > high:
            if low < high:
                found.append(Span(low, high))
            low = start
        high = min(end, until)
    if low < high:
        found.append(Span(low, high))
    return tuple(found)


def gaps(slices: Iterable[Slice], window: Span) -> tuple[Span, ...]:
    """When nobody is on call: what ``covered`` leaves of the window. An empty schedule is one whole gap."""
    return _without((window,), covered(slices, window))


def overlaps(slices: Iterable[Slice], window: Span) -> tuple[tuple[Span, frozenset[str]], ...]:
    """When several people are on call at once, and who (ids). The same person by two sources is no overlap."""
    changes: dict[int, list[tuple[str, int]]] = {}
    for one in slices:
        start, end = max(one.start, window.start), min(one.end, window.end)
        if one.user and start < end:
            changes.setdefault(start, []).append((one.user, 1))
            changes.setdefault(end, []).append((one.user, -1))
    found: list[tuple[Span, frozenset[str]]] = []
    on_call: Counter[str] = Counter()
    since, people = window.start, frozenset[str]()
    for at in sorted(changes):
        for user, step in changes[at]:
            on_call[user] += step
        now = frozenset(user for user, times in on_call.items() if times)
        if now != people:
            if len(people) > 1:
                found.append((Span(since, at), people))
            since, people = at, now
    return tuple(found)


def percent(slices: Iterable[Slice], window: Span) -> float:
    """How much of the window is covered, 0 to 100. Time that several people cover counts once, so that it hides no gap
    elsewhere; of an empty window nothing is uncovered."""
    return _percent(_seconds(covered(slices, window)), window)


def _percent(seconds: int, window: Span) -> float:
    return 100 * seconds / window.seconds if window.seconds > 0 else 100.0


def _seconds(spans: Iterable[Span]) -> int:
    return sum(span.end - span.start for span in spans)


def _without(spans: Iterable[Span], taken: Sequence[Span]) -> tuple[Span, ...]:
    """What is left of ``spans``. Both are in order, and each is apart from the others of its kind."""
    left: list[Span] = []
    first = 0
    for span in spans:
        at, end = span
        while first < len(taken) and taken[first].end <= at:
            first += 1
        place = first
        while place < len(taken) and taken[place].start < end:
            if taken[place].start > at:
                left.append(Span(at, taken[place].start))
            at = taken[place].end
            place += 1
        if at < end:
            left.append(Span(at, end))
    return tuple(left)


def slices_of(schedule: Schedule, window: Span) -> tuple[Slice, ...] | None:
    """Who is on call in the window; slots of nobody are among them. None: that is not known for all of it.

    It is not where the document holds no definition, and nothing rendered of it or not of all the time; nor where it cannot be
    rendered, which is logged: the other schedules are not to suffer from it."""
    try:
        rendering = render(schedule, window)
    except Exception:
        # The last guard: whatever a document holds that nobody foresaw.
        log.exception("Schedule %s cannot be rendered.", schedule.id)
        return None
    return None if any(problem.code in UNKNOWN for problem in rendering.problems) else rendering.slices


def render_all(account: Account, window: Span) -> Mapping[str, tuple[Slice, ...]]:
    """``slices_of`` by schedule id; those that are not known are missing, which ``holes`` tells."""
    found = ((schedule.id, slices_of(schedule, window)) for schedule in account.schedules.values())
    return {id: slices for id, slices in found if slices is not None}


# An escalation policy


@dataclass(frozen=True, slots=True)
class Hole:
    """A time in which the first level of an escalation policy reaches nobody."""

    span: Span
    kind: Literal["nobody", "lower"]
    """``nobody``: no level reaches anybody, so that no incident is created and nobody is told. ``lower``: a later level does,
    at once and in the first one's place."""
    levels: tuple[int, ...]
    """Those that reach nobody, from 1: all of them, or all before the one that does."""
    reached: int | None
    """The first level that reaches somebody; None: there is none."""
    unknown: tuple[str, ...] = ()
    """Ids of what would have to be known to be sure: schedules of ``levels`` that are not among the rendered ones, or a
    service's policy. They count as reaching nobody."""


def holes(policy: Policy, rendered: Mapping[str, Sequence[Slice]], window: Span) -> tuple[Hole, ...]:
    """Its levels swept together, by start. ``rendered``: slices by schedule id, over the whole window.

    A user whom a level names is reached always, a deleted one never, and nor is a deleted schedule. Of a round-robin level
    PagerDuty passes over targets without anybody on call: it reaches somebody where any of them does."""
    found: list[Hole] = []
    left: tuple[Span, ...] = (window,) if window.seconds > 0 else ()
    unknown: dict[str, None] = {}
    for number, level in enumerate(policy.levels, 1):
        if not left:
            break
        after = _without(left, _reached(level, rendered, window))
        if number > 1:
            above = tuple(range(1, number))
            found += (Hole(span, "lower", above, number, tuple(unknown)) for span in _without(left, after))
        unknown |= dict.fromkeys(unknown_in(level, rendered))
        left = after
    every = tuple(range(1, len(policy.levels) + 1))
    found += (Hole(span, "nobody", every, None, tuple(unknown)) for span in left)
    return tuple(sorted(found, key=lambda hole: hole.span))


def level_gaps(policy: Policy, rendered: Mapping[str, Sequence[Slice]], window: Span) -> tuple[tuple[Span, ...], ...]:
    """For each level by itself, when it reaches nobody and is skipped: also those in which the levels above do."""
    return tuple(_without((window,), _reached(level, rendered, window)) for level in policy.levels)


def _reached(level: Level, rendered: Mapping[str, Sequence[Slice]], window: Span) -> tuple[Span, ...]:
    targets = [target for target in level.targets if not target.deleted]
    if any(target.kind == "user" for target in targets):
        return (window,)
    return covered((one for target in targets for one in rendered.get(target.id, ())), window)


def unknown_in(level: Level, rendered: Mapping[str, Sequence[Slice]]) -> list[str]:
    """Ids of a level's schedules of which it is not known who is on call: that none of them reaches anybody, nobody can say."""
    return [
        target.id
        for target in level.targets
        if target.kind == "schedule" and not target.deleted and target.id not in rendered
    ]


# Services


Standing = Literal["watched", "disabled", "no_policy", "unknown_policy"]


def standing(account: Account, service: Service) -> Standing:
    """What its holes mean. ``disabled``: it creates no incidents, so that nobody need be reached. ``no_policy``: it never
    reaches anybody. ``unknown_policy``: its policy is not among what is known."""
    if service.status == "disabled":
        return "disabled"
    if not service.policy_id:
        return "no_policy"
    return "watched" if service.policy_id in account.policies else "unknown_policy"


def service_holes(
    account: Account, rendered: Mapping[str, Sequence[Slice]], window: Span
) -> Mapping[str, tuple[Hole, ...]]:
    """By service id, those of each one's policy; ``standing`` tells why some have none, or one over the whole window: a
    disabled service has none; one without a policy is never heard, and of one whose policy is unknown it cannot be told."""
    by_policy: dict[str, tuple[Hole, ...]] = {}
    found: dict[str, tuple[Hole, ...]] = {}
    for service in account.services.values():
        match standing(account, service):
            case "disabled":
                found[service.id] = ()
            case "no_policy":
                found[service.id] = (Hole(window, "nobody", (), None),)
            case "unknown_policy":
                found[service.id] = (Hole(window, "nobody", (), None, (service.policy_id,)),)
            case "watched":
                policy = account.policies[service.policy_id]
                if policy.id not in by_policy:
                    by_policy[policy.id] = holes(policy, rendered, window)
                found[service.id] = by_policy[policy.id]
    return found


# What pages show of them


@dataclass(frozen=True, slots=True)
class Reach:
    unreachable: int
    """Seconds in which no level reaches anybody."""
    lower: int
    """Seconds in which only a later level does."""
    next: Hole | None
    """The first hole in which nobody is reached; it may have begun."""
    percent: float
    """How much of the window reaches anybody, 0 to 100."""


def reach(found: Iterable[Hole], window: Span) -> Reach:
    """A policy's or service's holes in figures. Holes beyond the window are left out, and what is left is clipped."""
    inside = [hole for hole in found if hole.span.start < window.end and hole.span.end > window.start]
    seconds = Counter[str]()
    for hole in inside:
        seconds[hole.kind] += min(hole.span.end, window.end) - max(hole.span.start, window.start)
    first = min((hole for hole in inside if hole.kind == "nobody"), key=lambda hole: hole.span, default=None)
    covered_seconds = max(0, window.seconds) - seconds["nobody"]
    return Reach(seconds["nobody"], seconds["lower"], first, _percent(covered_seconds, window))


def ahead(window: Span, now: int) -> Span:
    """What is still to come of a window: a gap of the past is nobody's work. Empty (at ``now``) where all is over."""
    return Span(max(window.start, now), max(window.end, now))


def holes_ahead(found: Iterable[Hole], now: int) -> tuple[Hole, ...]:
    """Those that are not over, from ``now`` on: for holes that were found some time ago."""
    return tuple(
        hole if hole.span.start >= now else dataclasses.replace(hole, span=Span(now, hole.span.end))
        for hole in found
        if hole.span.end > now
    )


def danger(span: Span, rates: Sequence[float]) -> float:
    """Unreachable minutes, each times the incidents per hour at its hour of the week: by it gaps are sorted. A sixtieth of it
    is how many incidents are to be expected in the gap.

    ``rates``: 168, from Monday 00:00 UTC; none: incidents are not known, and it is 0."""
    if not rates:
        return 0.0
    if len(rates) != 168:
        raise ValueError("Rates are of the 168 hours of a week.")
    if span.seconds <= 0:
        return 0.0
    weeks, rest = divmod(span.seconds, WEEK)
    total = weeks * 60 * sum(rates)
    at, end = span.start, span.start + rest
    while at < end:
        until = min(end, at - at % HOUR + HOUR)
        total += (until - at) / 60 * rates[(at - MONDAY) // HOUR % 168]
        at = until
    return total


# Quality


BALANCED: Final = 95
"""Percent from which on shares count as even: turns that begin and end within the window make no more of it."""
BANDS: Final = ((20, "bad"), (40, "low"), (60, "medium"), (80, "good"), (100, "great"))
"""Up to which score, in a word."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a schedule is made: all that its score is made of."""

    score: int
    """0 to 100: halfway between ``coverage`` and ``balance``; 100 only without a gap, 0 where nobody is ever on call."""
    coverage: float
    """Percent of the window, without double counting."""
    balance: int
    """Percent: how even the time on call is between the people who have any, over all pairs the lesser's share of the
    greater's. From 95 on it counts as 100; so does one person alone, whom nobody can share with."""
    overloaded: tuple[tuple[str, int], ...]
    """Only where the balance is below 95: who has more than the average, and by how many percent, the most first."""
    seconds: tuple[tuple[str, int], ...]
    """Time on call by person, the most first: what somebody has by two sources at once counts once."""
    gaps: int
    uncovered: int
    """Seconds."""

    @property
    def band(self) -> str:
        return next(word for most, word in BANDS if self.score <= most)


def quality(slices: Iterable[Slice], window: Span) -> Quality:
    """Of a schedule's slices. Take windows of some whole turns of everybody: who has no turn in it is not looked at, and in a
    window of half a rotation nothing is even."""
    slices = tuple(slices)
    missing = gaps(slices, window)
    uncovered = _seconds(missing)
    coverage = _percent(max(0, window.seconds) - uncovered, window)
    by_person: dict[str, list[Slice]] = {}
    for one in slices:
        if one.user:
            by_person.setdefault(one.user, []).append(one)
    each = {user: _seconds(covered(own, window)) for user, own in by_person.items()}
    seconds = sorted(((user, time) for user, time in each.items() if time), key=lambda row: (-row[1], row[0]))
    balance = round(pairs_alike([time for _, time in reversed(seconds)]))
    overloaded: list[tuple[str, int]] = []
    if balance < BALANCED:
        mean = sum(time for _, time in seconds) / len(seconds)
        excess = [(user, round(100 * time / mean) - 100) for user, time in seconds]
        overloaded = [(user, more) for user, more in excess if more > 0]
    else:
        balance = 100
    score = round((coverage + balance) / 2) if seconds else 0
    if missing:
        score = min(score, 99)
    return Quality(score, coverage, balance, tuple(overloaded), tuple(seconds), len(missing), uncovered)


def pairs_alike(values: Sequence[float]) -> float:
    """In percent, over all pairs the mean of the lesser by the greater; two of nothing are alike. ``values``: ascending."""
    if len(values) < 2:
        return 100.0
    total, below = 0.0, 0.0
    for place, value in enumerate(values):
        total += below / value if value else place
        below += value
    return 100 * total / (len(values) * (len(values) - 1) / 2)
