"""Who is on call when: a schedule's layers or rotations, custom shifts and overrides, rendered over a window.

Of a v2 schedule one person is on call at a time: layers lie on each other, the later ones win where they have an entry, and
overrides win over all. Of a v3 schedule several may be: each rotation and custom shift adds its own, and an override replaces
one person in one of them.

The simulated PagerDuty renders by code of its own, so that each is the other's oracle: see ``sandbox/render.py``.
"""

from __future__ import annotations

import bisect
import datetime as dt
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Final, Literal
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis.model import (
    Event,
    Layer,
    Override,
    Problem,
    Restriction,
    Schedule,
    Slice,
    Source,
    Span,
)
from integrations.pagerduty.analysis.recurrence import recurrence, starts
from integrations.pagerduty.analysis.zones import zone_of

DAY: Final = 86_400
MARGIN: Final = 2 * DAY
"""Local times are no distances where a clock changes. None has ever been changed by more than a day."""
_EPOCH: Final = dt.datetime(1970, 1, 1)  # noqa: DTZ001 – local times are counted from it, in whichever zone


@dataclass(frozen=True, slots=True)
class Rules:
    """What PagerDuty does not say, or says in two ways: each a switch, with what is taken for true here, and why.

    ``sub_day_turns`` (a): where turns of less than a day, or of days and hours, hand over after the clock has changed.
    *wall_clock*: at the same hours of the clock as before. *elapsed*: after as many seconds as ever. Default: the clock, as
    recordings show it of weekly turns; by elapsed time a turn from eight to eight would be one from nine to nine all summer.

    ``missing_handoff`` (b): at an hour that the clock leaves out. *moved_on*: as much later as the clock goes forward.
    *first_after*: the first instant after the hour that is left out. Default: moved on, as Ruby on Rails reads such a time,
    whose names of zones PagerDuty uses. It is the rule for the hours of restrictions and of v3 shifts, too.

    ``repeated_handoff`` (b): at an hour that the clock shows twice, the *first* or the *second* time. Default: the first, as
    Rails.

    ``adjacent_turns`` (c): of the same person, by the same layer. *joined*: one entry. *apart*: one a turn. Default: joined,
    as a recorded answer of ``/oncalls`` shows two turns of a week in one entry of two.

    ``idle_turns`` (d): that lie outside of their layer's restrictions as a whole. *counted*: the next person's turn comes
    when the clock says so. *skipped*: whose turn it would have been is on in the next. Default: counted, as PagerDuty's
    knowledge base implies where it says to set the handoff to the first restriction's start.

    ``overlapping_restrictions`` (e): *union*: a layer is on where any of them allows it. *first*: one that begins while
    another is on does not count. Default: union, as each of them is said to allow, and none to forbid.

    ``handoff_inside_restriction`` (f): *split*: the next person is on from the handoff. *whole*: whoever began stays until
    the restricted hours end. Default: split, as the length of a turn is documented and nothing is said that would make it
    longer.

    ``deleted_users`` (g): who have turns still. *nobody*: theirs is a slot that nobody covers; lower layers do not show
    through it. *shown*: they are on call, as PagerDuty's answers name them. Default: nobody, as nobody is woken.

    Not of rendering, but of what is asked for: (h) windows that differ by microseconds (here an instant is a whole second,
    and an empty window renders nothing), (i) what a list of schedules holds of each, (j) how long a window may be (here, as
    long as it likes).
    """

    sub_day_turns: Literal["wall_clock", "elapsed"] = "wall_clock"
    missing_handoff: Literal["moved_on", "first_after"] = "moved_on"
    repeated_handoff: Literal["first", "second"] = "first"
    adjacent_turns: Literal["joined", "apart"] = "joined"
    idle_turns: Literal["counted", "skipped"] = "counted"
    overlapping_restrictions: Literal["union", "first"] = "union"
    handoff_inside_restriction: Literal["split", "whole"] = "split"
    deleted_users: Literal["nobody", "shown"] = "nobody"


@dataclass(frozen=True, slots=True)
class Rendering:
    window: Span
    slices: tuple[Slice, ...]
    """By start, then user; clipped to the window. v2: never two at once. Slices of nobody are kept."""
    layers: tuple[tuple[Source, tuple[Slice, ...]], ...]
    """Each layer, or rotation and custom shift, by itself and without overrides, the lowest first. Only where it is asked
    for.
    """
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A time in which others are on call by this rendering than by PagerDuty's."""

    span: Span
    ours: tuple[str, ...]
    """Ids, in order."""
    theirs: tuple[str, ...]


DEFAULT: Final = Rules()


def render(schedule: Schedule, window: Span, rules: Rules = DEFAULT, *, with_layers: bool = False) -> Rendering:
    """Who is on call in the window, by whom or what."""
    window = Span(*window)
    problems = schedule.problems
    lanes: list[tuple[Source, tuple[Slice, ...]]] = []
    if window.end <= window.start:
        return Rendering(window, (), (), problems)
    if schedule.layers or schedule.rotations or schedule.custom_shifts or not schedule.rendered:
        render_kind = _v2 if schedule.kind == "v2" else _v3
        slices, lanes = render_kind(schedule, window, rules, with_layers=with_layers)
    else:
        slices = _joined(_clipped(schedule.rendered, window))
        told = schedule.rendered_window or _reach(schedule.rendered)
        if told is not None and not (told.start <= window.start and window.end <= told.end):
            words = "It holds no definition that can be read, only what PagerDuty rendered, and that not of all of this time."
            problems = (*problems, Problem("rendered_only", words))
    return Rendering(window, tuple(slices), tuple(lanes), problems)


def entries(slices: Iterable[Slice]) -> tuple[tuple[Span, tuple[str, ...]], ...]:
    """Intervals → the ids of those on call, in order: one for each unbroken time of the same people. Where nobody is, none."""
    turns: list[tuple[int, int, str]] = []
    for start, end, user, _ in slices:
        if user and start < end:
            turns += ((start, 1, user), (end, -1, user))
    turns.sort()
    found: list[tuple[Span, tuple[str, ...]]] = []
    on: dict[str, int] = {}
    since = 0
    for at, group in groupby(turns, key=lambda turn: turn[0]):
        if on:
            _extend(found, Span(since, at), tuple(sorted(on)))
        for _, change, user in group:
            on[user] = on.get(user, 0) + change
        on = {user: count for user, count in on.items() if count}
        since = at
    return tuple(found)


def _extend(found: list[tuple[Span, tuple[str, ...]]], span: Span, users: tuple[str, ...]) -> None:
    if found and found[-1][1] == users and found[-1][0].end == span.start:
        found[-1] = (Span(found[-1][0].start, span.end), users)
    else:
        found.append((span, users))


def differences(schedule: Schedule, rules: Rules = DEFAULT) -> tuple[Difference, ...]:
    """Where the rendering here and PagerDuty's own name other people, in what PagerDuty's was asked for.

    Where it is not known what it was asked for, that is from its first entry to its last one's end. Deleted people are
    compared by id: whether they count as nobody is no difference of rendering. A schedule that has no definition or no
    rendering to compare has none. The past differs where the schedule was changed since: PagerDuty keeps what was, and its
    definition is today's.
    """
    window = schedule.rendered_window or _reach(schedule.rendered)
    if window is None or not (schedule.layers or schedule.rotations or schedule.custom_shifts):
        return ()
    by_id = replace(rules, deleted_users="shown")
    sides = (entries(render(schedule, window, by_id).slices), entries(_clipped(schedule.rendered, window)))
    edges = sorted({*window, *(at for side in sides for span, _ in side for at in span)})
    found: list[Difference] = []
    places = [0, 0]
    for start, end in pairwise(edges):
        people: list[tuple[str, ...]] = []
        for number, side in enumerate(sides):
            while places[number] < len(side) and side[places[number]][0].end <= start:
                places[number] += 1
            there = places[number] < len(side) and side[places[number]][0].start <= start
            people.append(side[places[number]][1] if there else ())
        if people[0] == people[1]:
            continue
        if found and found[-1].span.end == start and (found[-1].ours, found[-1].theirs) == (people[0], people[1]):
            found[-1] = Difference(Span(found[-1].span.start, end), *people)
        else:
            found.append(Difference(Span(start, end), *people))
    return tuple(found)


def _reach(slices: Sequence[Slice]) -> Span | None:
    return Span(min(each.start for each in slices), max(each.end for each in slices)) if slices else None


def _clipped(slices: Iterable[Slice], window: Span) -> list[Slice]:
    return [
        Slice(max(start, window.start), min(end, window.end), user, source)
        for start, end, user, source in slices
        if start < window.end and end > window.start
    ]


def _joined(slices: Iterable[Slice]) -> list[Slice]:
    """In order; what is the same person's by the same source, and touches or overlaps, is one."""
    found: list[Slice] = []
    open_at: dict[tuple[str, Source], int] = {}
    for each in sorted(slices, key=itemgetter(0, 2, 3)):
        key = (each.user, each.source)
        place = open_at.get(key)
        if place is not None and found[place].end >= each.start:
            if found[place].end < each.end:
                found[place] = found[place]._replace(end=each.end)
        else:
            open_at[key] = len(found)
            found.append(each)
    return found


class _Clock:
    """The clock of one zone: local times, in seconds from 1970 by that clock, to instants."""

    def __init__(self, zone: ZoneInfo, rules: Rules) -> None:
        self.zone = zone
        self._plain = rules.missing_handoff == "moved_on" and rules.repeated_handoff == "first"
        self._rules = rules
        self._steady: dict[int, int | None] = {}
        """By local day: the seconds that its clock is ahead of UTC's; None: they change in it."""

    def local(self, at: int) -> int:
        return int((dt.datetime.fromtimestamp(at, self.zone).replace(tzinfo=None) - _EPOCH).total_seconds())

    def instant(self, local: int) -> int:
        day = local // DAY
        try:
            ahead = self._steady[day]
        except KeyError:
            # No clock has ever been changed and changed back between two midnights, so these two tell of the day.
            begin, end = self._exact(day * DAY), self._exact((day + 1) * DAY)
            ahead = self._steady[day] = day * DAY - begin if end - begin == DAY else None
        return self._exact(local) if ahead is None else local - ahead

    def _exact(self, local: int) -> int:
        # Of a time that is left out, Python reads ``fold=0`` by the offset before the change, which moves it on.
        moment = (_EPOCH + dt.timedelta(seconds=local)).replace(tzinfo=self.zone)
        first = int(moment.timestamp())
        if self._plain:
            return first
        second = int(moment.replace(fold=1).timestamp())
        if second > first:  # shown twice
            return second if self._rules.repeated_handoff == "second" else first
        if second < first and self._rules.missing_handoff == "first_after":
            # The change is between the two; until it, the clock is behind.
            low, high = second, first
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if self.local(middle) < local else (low, middle)
            return high
        return first


@lru_cache(maxsize=64)
def _clock_of(zone: str, rules: Rules) -> _Clock:
    return _Clock(zone_of(zone), rules)


# v2


def _v2(
    schedule: Schedule, window: Span, rules: Rules, *, with_layers: bool
) -> tuple[list[Slice], list[tuple[Source, tuple[Slice, ...]]]]:
    clock = _clock_of(schedule.zone, rules)
    gone = schedule.deleted if rules.deleted_users == "nobody" else frozenset()
    stack: list[Slice] = []
    heights: list[int] = []
    lanes: list[tuple[Source, tuple[Slice, ...]]] = []
    for height, layer in enumerate(schedule.layers):
        slices = _layer(layer, clock, window, rules, gone)
        stack += slices
        heights += [height] * len(slices)
        if with_layers:
            lanes.append((Source("layer", layer.id, layer.name), tuple(slices)))
    for height, override in enumerate(schedule.overrides, len(schedule.layers)):
        user = "" if override.user in gone else override.user
        whole = Slice(override.start, override.end, user, Source("override", override.id))
        clipped = _clipped([whole], window)
        stack += clipped
        heights += [height] * len(clipped)
    return _topmost(stack, heights, rules), lanes


def _layer(layer: Layer, clock: _Clock, window: Span, rules: Rules, gone: frozenset[str]) -> list[Slice]:
    """One layer by itself: its turns, where its restrictions let it take any."""
    low = max(window.start, layer.start)
    high = window.end if layer.end is None else min(window.end, layer.end)
    if low >= high or not layer.users:
        return []
    source = Source("layer", layer.id, layer.name)
    users = tuple("" if user in gone else user for user in layer.users)
    allowed = _allowed(layer.restrictions, clock, low, high, rules)
    if len(set(users)) == 1 and rules.adjacent_turns == "joined":
        turns = [(low, high, users[0])]
    elif rules.idle_turns == "skipped" and layer.restrictions:
        turns = _turns_that_work(layer, users, clock, low, high, rules)
    else:
        turns = [
            (start, end, users[number % len(users)]) for number, start, end in _turns(layer, clock, low, high, rules)
        ]
    if rules.handoff_inside_restriction == "whole" and layer.restrictions:
        turns = _kept_whole(turns, allowed, layer, users, clock, rules)
    joined = rules.adjacent_turns == "joined"
    found: list[Slice] = []
    first = 0  # of the allowed spans that are not over
    for start, end, user in turns:
        while first < len(allowed) and allowed[first][1] <= start:
            first += 1
        for place in range(first, len(allowed)):
            begin, finish = allowed[place]
            if begin >= end:
                break
            a, b = max(begin, start, low), min(finish, end, high)
            if a >= b:
                continue
            if joined and found and found[-1][1] == a and found[-1][2] == user:
                found[-1] = Slice(found[-1][0], b, user, source)
            else:
                found.append(Slice(a, b, user, source))
    return found


def _turns(layer: Layer, clock: _Clock, low: int, high: int, rules: Rules) -> Iterator[tuple[int, int, int]]:
    """Numbers, starts and ends of the turns that touch the window; numbers are counted from the virtual start, backwards too.

    Whoever's handoff was the last to come is on.
    """
    virtual, turn = layer.virtual_start, layer.turn
    local = clock.local(virtual)
    elapsed = bool(turn % DAY) and rules.sub_day_turns == "elapsed"

    def start_of(number: int) -> int:
        return virtual + number * turn if elapsed else clock.instant(local + number * turn)

    first = (low - virtual - MARGIN) // turn
    last = (high - virtual + MARGIN) // turn + 1
    begun = [start_of(number) for number in range(first, last + 1)]
    # Where a clock skips more than a turn, handoffs come in another order than their numbers: the higher number's holds.
    for place in range(len(begun) - 2, -1, -1):
        begun[place] = min(begun[place], begun[place + 1])
    for place in range(max(bisect.bisect_right(begun, low) - 1, 0), len(begun) - 1):
        if begun[place] >= high:
            return
        if begun[place] < begun[place + 1]:
            yield first + place, begun[place], begun[place + 1]


def _allowed(
    restrictions: Sequence[Restriction], clock: _Clock, low: int, high: int, rules: Rules
) -> list[tuple[int, int]]:
    """When the restrictions let anybody be on: the spans that touch the window, whole, in order and apart from each other."""
    if not restrictions:
        return [(low, high)]
    first_day, last_day = clock.local(low) // DAY - 1, clock.local(high) // DAY + 1
    spans = []
    for day, start, duration in ((each.day, each.start, each.duration) for each in restrictions):
        from_day = first_day - (start + duration) // DAY
        if day:
            # Day 0 of 1970 was a Thursday, and Monday is 1.
            from_day += (day - 4 - from_day) % 7
        for number in range(from_day, last_day + 1, 7 if day else 1):
            local = number * DAY + start
            spans.append((clock.instant(local), clock.instant(local + duration)))
    spans.sort()
    found: list[tuple[int, int]] = []
    for start, end in spans:
        if start >= end or end <= low or start >= high:
            continue
        if not found or found[-1][1] < start:
            found.append((start, end))
        elif rules.overlapping_restrictions == "union" or found[-1][1] == start:
            found[-1] = (found[-1][0], max(found[-1][1], end))
    return found


def _turns_that_work(
    layer: Layer, users: Sequence[str], clock: _Clock, low: int, high: int, rules: Rules
) -> list[tuple[int, int, str]]:
    """Turns of which at least a part is allowed, in the order of the users; others count for nobody."""
    since, until = min(low, layer.virtual_start), max(high, layer.virtual_start)
    allowed = _allowed(layer.restrictions, clock, since, until, rules)
    ends = [end for _, end in allowed]
    working = []
    for number, start, end in _turns(layer, clock, since, until, rules):
        place = bisect.bisect_right(ends, start)
        if place < len(allowed) and allowed[place][0] < end:
            working.append((number, start, end))
    before = sum(1 for number, _, _ in working if number < 0)
    return [
        (start, end, users[(place - before) % len(users)])
        for place, (_, start, end) in enumerate(working)
        if start < high and end > low
    ]


def _kept_whole(
    turns: Sequence[tuple[int, int, str]],
    allowed: Sequence[tuple[int, int]],
    layer: Layer,
    users: Sequence[str],
    clock: _Clock,
    rules: Rules,
) -> list[tuple[int, int, str]]:
    """Each allowed span is of whoever's turn it begins in."""
    found = []
    for begin, finish in allowed:
        user = next((user for start, end, user in turns if start <= begin < end), None)
        if user is None:
            # It began before what was rendered.
            [(number, _, _)] = _turns(layer, clock, begin, begin + 1, rules)
            user = users[number % len(users)]
        found.append((begin, finish, user))
    return found


def _topmost(slices: Sequence[Slice], heights: Sequence[int], rules: Rules) -> list[Slice]:
    """At each instant the slice of the greatest height; of one height no two are at once."""
    joined = rules.adjacent_turns == "joined"
    found: list[Slice] = []
    shown = -1  # the place of the slice that the last of them is a part of
    on: list[tuple[int, int, int]] = []  # negative height, end, place: the highest first

    def advance(since: int, until: int) -> None:
        nonlocal shown
        while on and since < until:
            _, end, place = on[0]
            if end <= since:
                heapq.heappop(on)
                continue
            end = min(end, until)
            _, _, user, source = slices[place]
            if (
                found
                and found[-1][1] == since
                and (place == shown or (joined and found[-1][2] == user and found[-1][3] == source))
            ):
                found[-1] = Slice(found[-1][0], end, user, source)
            else:
                found.append(Slice(since, end, user, source))
            shown, since = place, end

    now = 0
    for place in sorted(range(len(slices)), key=lambda place: slices[place][0]):
        start, end, _, _ = slices[place]
        advance(now, start)
        now = start
        heapq.heappush(on, (-heights[place], end, place))
    advance(now, max((end for _, end, _ in on), default=now))
    return found


# v3


def _v3(
    schedule: Schedule, window: Span, rules: Rules, *, with_layers: bool
) -> tuple[list[Slice], list[tuple[Source, tuple[Slice, ...]]]]:
    gone = schedule.deleted if rules.deleted_users == "nobody" else frozenset()
    overrides: dict[str, list[Override]] = {}
    for override in schedule.overrides:
        if override.start < window.end and override.end > window.start:
            overrides.setdefault(override.source, []).append(override)
    found: list[Slice] = []
    lanes: list[tuple[Source, tuple[Slice, ...]]] = []

    def add(source: Source, shifts: Sequence[Slice]) -> None:
        mine = overrides.get(source.id, ())
        for shift in shifts:
            found.extend(_overridden(shift, mine) if mine else (shift,))
        if with_layers:
            lanes.append((source, tuple(_joined(_clipped(shifts, window)))))

    for rotation in schedule.rotations:
        shifts = [
            shift
            for event in rotation.events
            for shift in _event(event, Source("rotation", rotation.id, event.name), window, rules)
        ]
        add(Source("rotation", rotation.id, ", ".join(event.name for event in rotation.events)), shifts)
    for custom in schedule.custom_shifts:
        source = Source("custom_shift", custom.id)
        add(source, [Slice(custom.start, custom.end, user, source) for user in custom.users])
    slices = (each._replace(user="") if each.user in gone else each for each in _clipped(found, window))
    return _joined(slices), lanes


def _event(event: Event, source: Source, window: Span, rules: Rules) -> list[Slice]:
    """The shifts of an event that touch the window: whole, but for where the event begins or ends to be in effect."""
    low = max(window.start, event.since)
    high = window.end if event.until is None else min(window.end, event.until)
    if low >= high:
        return []
    clock = _clock_of(event.zone, rules)
    first = _EPOCH + dt.timedelta(seconds=clock.local(low) - event.length - MARGIN)
    last = _EPOCH + dt.timedelta(seconds=clock.local(high) + MARGIN)
    found: list[Slice] = []
    rule = recurrence(event.recurrence, event.zone)
    for number, start in starts(rule, event.start, max(first, event.start), last):
        local = int((start - _EPOCH).total_seconds())
        begin = max(clock.instant(local), event.since)
        finish = clock.instant(local + event.length)
        if event.until is not None:
            finish = min(finish, event.until)
        if begin < finish and begin < high and finish > low:
            place = number // event.shifts_per_member % len(event.members)
            users = event.members if event.everybody else event.members[place : place + 1]
            found += [Slice(begin, finish, user, source) for user in users]
    return found


def _overridden(shift: Slice, overrides: Iterable[Override]) -> list[Slice]:
    """One person's shift, as the overrides that are for that person leave it. Later ones win over earlier ones.

    An override is for whoever has the shift, and for whoever took it by an override before it.
    """
    on = [each for each in overrides if each.start < shift.end and each.end > shift.start]
    if not on:
        return [shift]
    edges = {shift.start, shift.end}
    for each in on:
        edges |= {max(each.start, shift.start), min(each.end, shift.end)}
    found: list[Slice] = []
    ordered = sorted(edges)
    for start, end in pairwise(ordered):
        user, source = shift.user, shift.source
        for each in on:
            if each.start <= start and each.end >= end and each.replaces in (user, shift.user):
                user, source = each.user, Source("override", each.id)
        found.append(Slice(start, end, user, source))
    return _joined(found)
