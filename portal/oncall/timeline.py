"""On-call times as the geometry of a picture. Pure: slices in, numbers and words out; templates write the SVG.

Along the time a place is a percentage of the picture's width, so that the picture fits every screen and its letters stay as
large as they are. Down the picture it is pixels.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis.model import Slice, Source, Span

COLOURS: Final = 12
"""Classes ``person-0`` to ``person-11`` of portal.css. Whoever comes after them shares one: initials tell them apart."""
HEADING, BAR, BETWEEN, AXIS = 18, 26, 8, 36
"""Pixels: a lane's name, one row of bars, the space after a lane, and the axis at the top."""
SIGNS, FOOT = 9, 14
"""Pixels: of the lane that has handoffs, what marks them; and at the bottom the words of what is marked in all lanes."""
MOST_BARS: Final = 1_500
"""In one picture. Lanes that would go beyond are drawn as the times in which they hold anybody."""
WIDTHS: Final = (300, 600, 900, 1100)
"""Pixels that the picture may be wide: what needs more room than the first has a class that shows it from there on."""
HOUR: Final = 3_600
DAY: Final = 24 * HOUR


# Windows


class View(NamedTuple):
    """How much of a schedule is looked at."""

    name: str
    said: str
    days: int
    """0: a calendar month."""


VIEWS: Final = {
    view.name: view for view in (View("day", "Day", 1), View("weeks", "Two weeks", 14), View("month", "Month", 0))
}


def midnight(day: dt.date, zone: ZoneInfo) -> int:
    """When a day begins there. Where the clocks skip midnight, it is the first moment after."""
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def first_day(view: View, day: dt.date) -> dt.date:
    """Of the day, fortnight or month that is shown for ``day``: a fortnight begins on the Monday before."""
    if view.days == 0:
        return day.replace(day=1)
    return day if view.days == 1 else day - dt.timedelta(days=day.weekday())


def moved(view: View, first: dt.date, by: int) -> dt.date:
    """The first day of the next (1) or the last (-1) such window."""
    if view.days:
        return first + dt.timedelta(days=view.days * by)
    month = first.year * 12 + first.month - 1 + by
    return dt.date(month // 12, month % 12 + 1, 1)


def window_of(view: View, first: dt.date, zone: ZoneInfo) -> Span:
    """From midnight to midnight by that zone's clock: a day in which it changes has 23 or 25 hours."""
    return Span(midnight(first, zone), midnight(moved(view, first, 1), zone))


# People


class Face(NamedTuple):
    """How one person is drawn."""

    user: str
    name: str
    initials: str
    colour: int
    """0 to ``COLOURS`` - 1; -1: nobody."""


NOBODY: Final = Face("", "nobody", "—", -1)


def faces(names: Mapping[str, str]) -> dict[str, Face]:
    """User id → how they are drawn, in the order of ``names`` (id → name). No two have the same initials."""
    made: dict[str, Face] = {"": NOBODY}
    taken: set[str] = set()
    for number, (user, name) in enumerate((user, name) for user, name in names.items() if user):
        initials = next(mark for mark in _marks(name, number) if mark not in taken)
        taken.add(initials)
        made[user] = Face(user, name, initials, number % COLOURS)
    return made


def _marks(name: str, number: int) -> Iterable[str]:
    words = [word for word in ("".join(char for char in part if char.isalnum()) for part in name.split()) if word]
    if len(words) > 1:
        first, last = words[0], words[-1]
        yield (first[0] + last[0]).upper()
        yield (first[0] + last[:2]).upper()
        yield (first[:2] + last[0]).upper()
    elif words:
        yield words[0][:2].upper()
        yield words[0][:3].upper()
    start = words[0][0].upper() if words else "?"
    # Nobody before has this number.
    yield f"{start}{number + 1}"
    yield f"{start}{number + 1}·"


# What is drawn


class Bar(NamedTuple):
    """Somebody's time in a lane, whole."""

    x: float
    width: float
    y: int
    face: Face
    css: str
    name_from: int | None
    """The width (pixels, of ``WIDTHS``) of the picture from which the name fits in; None: never."""
    initials_from: int | None
    title: str


class Block(NamedTuple):
    """A shaded time: a weekend, the past, or a condensed lane's."""

    x: float
    width: float
    y: int
    height: int
    css: str


class Tick(NamedTuple):
    """A line down the picture, with up to two words at its top."""

    x: float
    css: str
    above: str
    below: str
    middle: float
    """Where its words stand: in the middle of its day or hour."""
    words_from: int
    """The width of the picture from which there is room for them."""


class Mark(NamedTuple):
    """A moment: a handoff, the clocks' change, now."""

    x: float
    css: str
    said: str
    title: str
    is_late: bool
    """Whether its words stand before it: after it they would end beyond the picture."""


@dataclass(frozen=True)
class Lane:
    name: str
    y: int
    height: int
    """Of its rows of bars."""
    bars: tuple[Bar, ...] = ()
    blocks: tuple[Block, ...] = ()
    """Instead of bars, where there would be too many."""
    handoffs: tuple[Mark, ...] = ()
    handoffs_from: int = WIDTHS[0]
    """The width of the picture from which they stand apart."""
    is_final: bool = False
    note: str = ""


@dataclass(frozen=True)
class Timeline:
    window: Span
    zone: str
    height: int
    lanes: tuple[Lane, ...]
    shades: tuple[Block, ...]
    ticks: tuple[Tick, ...]
    marks: tuple[Mark, ...]
    """The changes of clocks, and now."""
    condensed: bool
    """Whether any lane is."""


@dataclass(frozen=True)
class Drawn:
    """A lane to draw."""

    name: str
    slices: Sequence[Slice]
    is_final: bool = False
    note: str = ""
    """A word behind its name."""
    holes: Sequence[Span] = field(default=())
    """Times to mark in which nobody is on call."""


def place(window: Span, at: int) -> float:
    """Percent of the picture's width."""
    return round(100 * (at - window.start) / max(window.seconds, 1), 3)


def fits(seconds: int, window: Span, pixels: float) -> int | None:
    """The width of a picture, of ``WIDTHS``, from which so long a time is that wide; None: none is."""
    share = seconds / max(window.seconds, 1)
    return next((width for width in WIDTHS if width * share >= pixels), None)


def draw(
    window: Span,
    zone: ZoneInfo,
    lanes: Sequence[Drawn],
    people: Mapping[str, Face],
    now: int,
    *,
    other: ZoneInfo | None = None,
) -> Timeline:
    """``other``: the schedule's own zone, whose changes of clocks move handoffs, where times are told in another."""
    made: list[Lane] = []
    top, left, condensed = AXIS, MOST_BARS, False
    for lane in lanes:
        slices = clipped(lane.slices, window)
        y = top + HEADING + (SIGNS if lane.is_final else 0)
        if len(slices) + len(lane.holes) <= left:
            left -= len(slices) + len(lane.holes)
            row = _lane(lane, slices, window, zone, people, y)
        else:
            condensed = True
            row = _condensed(lane, slices, window, y)
        made.append(row)
        top = row.y + row.height + BETWEEN
    marks = [_clock(window, at, change, zone, of) for at, change, of in _changes(window, zone, other)]
    if window.start <= now < window.end:
        marks.append(Mark(place(window, now), "now", "now", f"Now: {told(now, zone)}", place(window, now) > 80))
    top += FOOT if marks else 0
    return Timeline(
        window,
        str(zone),
        top,
        tuple(made),
        _shades(window, zone, top, now),
        _ticks(window, zone),
        tuple(marks),
        condensed,
    )


def clipped(slices: Iterable[Slice], window: Span) -> list[Slice]:
    """What of them is in the window, by start."""
    return sorted(
        Slice(max(one.start, window.start), min(one.end, window.end), one.user, one.source)
        for one in slices
        if one.start < window.end and one.end > window.start and one.start < one.end
    )


def joined(slices: Iterable[Slice]) -> list[Slice]:
    """By start; what follows on without a break of the same person becomes one, by the source of its last part: a shift that
    began before now is told in two parts."""
    open_: dict[str, Slice] = {}
    done: list[Slice] = []
    for one in sorted(slices):
        last = open_.get(one.user)
        if last is not None and last.end >= one.start:
            later = one if one.end >= last.end else last
            open_[one.user] = Slice(last.start, later.end, one.user, later.source)
        else:
            done += [last] if last is not None else []
            open_[one.user] = one
    return sorted([*done, *open_.values()])


def handoffs(slices: Sequence[Slice]) -> list[tuple[int, frozenset[str], frozenset[str]]]:
    """When who is on call changes: the moment, who was, and who is. Its ends of time are no handoffs."""
    edges: dict[int, tuple[list[str], list[str]]] = {}
    for one in slices:
        if one.user:
            edges.setdefault(one.start, ([], []))[0].append(one.user)
            edges.setdefault(one.end, ([], []))[1].append(one.user)
    on: dict[str, int] = {}
    found: list[tuple[int, frozenset[str], frozenset[str]]] = []
    for at in sorted(edges):
        before = frozenset(on)
        for user in edges[at][1]:
            on[user] = on.get(user, 0) - 1
        for user in edges[at][0]:
            on[user] = on.get(user, 0) + 1
        on = {user: count for user, count in on.items() if count > 0}
        if before != frozenset(on):
            found.append((at, before, frozenset(on)))
    return found


def _lane(
    lane: Drawn, slices: Sequence[Slice], window: Span, zone: ZoneInfo, people: Mapping[str, Face], y: int
) -> Lane:
    rows: list[int] = []
    bars: list[Bar] = []
    holes = [
        Slice(max(hole.start, window.start), min(hole.end, window.end), "", Source("policy")) for hole in lane.holes
    ]
    every = [*slices, *(hole for hole in holes if hole.start < hole.end)]
    # Of what begins at once the longest is on top: it goes on as the row that the eye follows.
    for one in sorted(every, key=lambda one: (one.start, -one.end, one.user)):
        # Several at once are below each other: the first row that is free.
        row = next((number for number, until in enumerate(rows) if until <= one.start), len(rows))
        rows[row : row + 1] = [one.end]
        bars.append(_bar(one, window, zone, people, y + row * BAR))
    found = handoffs(slices) if lane.is_final else []
    marks = [
        Mark(
            place(window, at),
            "handoff",
            "",
            f"Handoff at {told(at, zone)}: {_names(before, people)} → {_names(after, people)}",
            False,
        )
        for at, before, after in found
        if window.start < at < window.end
    ]
    return Lane(
        lane.name,
        y,
        max(len(rows), 1) * BAR,
        tuple(bars),
        handoffs=tuple(marks),
        handoffs_from=fits(window.seconds // (len(marks) or 1), window, 8) or WIDTHS[-1],
        is_final=lane.is_final,
        note=lane.note,
    )


def _names(users: Iterable[str], people: Mapping[str, Face]) -> str:
    return " and ".join(sorted(face_of(user, people).name for user in users)) or "nobody"


def face_of(user: str, people: Mapping[str, Face]) -> Face:
    return people.get(user) or Face(user, user, user[-3:].upper(), -1)


def _bar(one: Slice, window: Span, zone: ZoneInfo, people: Mapping[str, Face], y: int) -> Bar:
    face = face_of(one.user, people)
    length = one.end - one.start
    css = "nobody" if not one.user else f"person-{face.colour}" if face.colour >= 0 else "somebody"
    if one.user and one.source.kind == "override":
        css += " overrides"
    through = {"override": "override", "custom_shift": "custom shift"}.get(one.source.kind, one.source.name)
    title = f"{face.name}, {told(one.start, zone)} to {told(one.end, zone)}" + (f", {through}" if through else "")
    return Bar(
        place(window, one.start),
        round(100 * length / max(window.seconds, 1), 3),
        y,
        face,
        css,
        # Letters of 12 pixels are some 6.5 wide, capitals 9.
        fits(length, window, 7 * len(face.name) + 10),
        fits(length, window, 9 * len(face.initials) + 4),
        title,
    )


def _condensed(lane: Drawn, slices: Sequence[Slice], window: Span, y: int) -> Lane:
    """The times in which it holds anybody, no closer than a pixel or so apart."""
    spans: list[Span] = []
    step = window.seconds // WIDTHS[-1]
    for one in slices:
        if one.user and spans and one.start - spans[-1].end <= step:
            spans[-1] = Span(spans[-1].start, max(spans[-1].end, one.end))
        elif one.user:
            spans.append(Span(one.start, one.end))
    blocks = tuple(
        Block(
            place(window, span.start),
            round(100 * span.seconds / max(window.seconds, 1), 3),
            y,
            BAR - 4,
            "busy",
        )
        for span in spans
    )
    note = f"{len(slices)} shifts: too many to draw one by one"
    return Lane(lane.name, y, BAR, blocks=blocks, is_final=lane.is_final, note=note)


def told(at: int, zone: ZoneInfo) -> str:
    """A moment in a picture's title, which holds no markup."""
    moment = dt.datetime.fromtimestamp(at, zone)
    return f"{moment:%a} {moment.day} {moment:%b %H:%M}"


# The axis


def days(window: Span, zone: ZoneInfo) -> list[tuple[dt.date, Span]]:
    """The days that the window touches, by the zone's clock, clipped to it."""
    day = dt.datetime.fromtimestamp(window.start, zone).date()
    found: list[tuple[dt.date, Span]] = []
    while (start := midnight(day, zone)) < window.end:
        day_after = day + dt.timedelta(days=1)
        span = Span(max(start, window.start), min(midnight(day_after, zone), window.end))
        if span.seconds > 0:
            found.append((day, span))
        day = day_after
    return found


def hours(window: Span, zone: ZoneInfo) -> list[tuple[str, Span]]:
    """The hours of the window by the zone's clock, such as ``02``: 23 or 25 of a day in which it changes, where it changes by
    an hour."""
    moment = dt.datetime.fromtimestamp(window.start, zone)
    # Zones that are half an hour off have full hours at other moments.
    at = window.start - (moment.minute * 60 + moment.second)
    found: list[tuple[str, Span]] = []
    while at < window.end:
        here = dt.datetime.fromtimestamp(at, zone)
        into = here.minute * 60 + here.second
        following = at + HOUR - into
        offset = dt.datetime.fromtimestamp(following, zone).utcoffset()
        if offset != here.utcoffset():
            # The hour in which the clock changes ends where it shows a full hour again, or changes.
            following = _change_in(Span(at, following), zone) or following
        span = Span(max(at, window.start), min(following, window.end))
        if span.seconds > 0:
            found.append((f"{here:%H}", span))
        at = following
    return found


def _ticks(window: Span, zone: ZoneInfo) -> tuple[Tick, ...]:
    ticks: list[Tick] = []
    if window.seconds <= 2 * DAY:
        for name, span in hours(window, zone):
            at = dt.datetime.fromtimestamp(span.start, zone)
            # On a phone there is room for every sixth hour, then for every third.
            room = WIDTHS[0] if at.hour % 6 == 0 else WIDTHS[1] if at.hour % 3 == 0 else WIDTHS[2]
            x = place(window, span.start)
            ticks.append(Tick(x, "hour", f"{at:%a}" if at.hour == 0 or not ticks else "", name, x, room))
        return tuple(ticks)
    found = days(window, zone)
    crowded = len(found) > 16
    for day, span in found:
        x = place(window, span.start)
        middle = round((x + place(window, span.end)) / 2, 3)
        room = WIDTHS[1] if crowded and day.weekday() != 0 else WIDTHS[0]
        css = "day monday" if day.weekday() == 0 else "day"
        ticks.append(Tick(x, css, f"{day:%a}"[:2], f"{day.day}", middle, room))
    return tuple(ticks)


def _shades(window: Span, zone: ZoneInfo, height: int, now: int) -> tuple[Block, ...]:
    found: list[Block] = []
    if window.seconds > 2 * DAY:
        for day, span in days(window, zone):
            if day.weekday() > 4:
                found.append(_shade(window, span, height, "weekend"))
    if window.start < now:
        found.append(_shade(window, Span(window.start, min(now, window.end)), height, "past"))
    return tuple(found)


def _shade(window: Span, span: Span, height: int, css: str) -> Block:
    return Block(
        place(window, span.start), round(100 * span.seconds / max(window.seconds, 1), 3), AXIS, height - AXIS, css
    )


def clock_changes(window: Span, zone: ZoneInfo) -> list[tuple[int, int]]:
    """When the zone's clock is put forward or back in the window, and by how many seconds."""
    found: list[tuple[int, int]] = []
    # Clocks that skip midnight change as the day begins.
    at = window.start - 1
    while at < window.end:
        until = min(at + DAY, window.end)
        change = _change_in(Span(at, until), zone)
        if change is not None and change < window.end:
            found.append((change, _offset(change, zone) - _offset(change - 1, zone)))
        at = until
    return found


def _offset(at: int, zone: ZoneInfo) -> int:
    offset = dt.datetime.fromtimestamp(at, zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _change_in(span: Span, zone: ZoneInfo) -> int | None:
    """The first second of the span that has another offset than its start has, if its end has one."""
    low, high = span
    if _offset(low, zone) == _offset(high, zone):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _offset(middle, zone) != _offset(span.start, zone) else (middle, high)
    return high


def _changes(window: Span, zone: ZoneInfo, other: ZoneInfo | None) -> list[tuple[int, int, ZoneInfo]]:
    found = [(at, change, zone) for at, change in clock_changes(window, zone)]
    if other is not None and str(other) != str(zone):
        here = set(clock_changes(window, zone))
        # Where both change at once, it is said once.
        found += [(at, change, other) for at, change in clock_changes(window, other) if (at, change) not in here]
    return sorted(found, key=lambda each: each[0])


def by_how_much(seconds: int) -> str:
    """Such as ``+1 h`` or ``−30 min``."""
    sign, seconds = ("+" if seconds > 0 else "−"), abs(seconds)
    hours_, minutes = divmod(seconds // 60, 60)
    return sign + " ".join(
        part for part in (f"{hours_} h" if hours_ else "", f"{minutes} min" if minutes or not hours_ else "") if part
    )


def _clock(window: Span, at: int, change: int, zone: ZoneInfo, of: ZoneInfo) -> Mark:
    x = place(window, at)
    said = f"clocks {by_how_much(change)}"
    return Mark(x, "clocks", said, f"The clocks of {of} change by {by_how_much(change)}: {told(at, zone)}", x > 80)
