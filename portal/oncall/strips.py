"""How the holes of an escalation policy are drawn: a strip of days, and a map of days by hours. Pure geometry; what is drawn is
told in words and in a table beside it, too.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from integrations.pagerduty.analysis.model import Span

Kind = Literal["nobody", "unsure", "intended", "lower"]
KINDS: Final[tuple[Kind, ...]] = ("lower", "intended", "unsure", "nobody")
"""The worst last: it is drawn over the others."""
STEP: Final = 10
"""Width of a day."""
HEIGHT: Final = 24
"""Of a strip; a map has as much for each hour of the day (4 units an hour)."""
HOURS: Final = 96
WIDE: Final[Mapping[Kind, int]] = {"lower": 3, "unsure": 5, "intended": 8, "nobody": 8}
"""Of a map's column: the kinds differ by their form, not by colours alone."""
HEAVY: Final = (1_800, 14_400)
"""Seconds of a day without anybody from which on it is drawn heavier."""


def days_of(window: Span, zone: dt.tzinfo) -> tuple[Span, ...]:
    """The days of a window by the clock of a zone: the first from where the window begins, the last to where it ends. A day may
    have 23 or 25 hours."""
    day = dt.datetime.fromtimestamp(window.start, zone).date()
    starts = [window.start]
    while True:
        day += dt.timedelta(days=1)
        # The first instant of the day, also where its midnight is passed over.
        begins = int(dt.datetime.combine(day, dt.time(), zone).timestamp())
        if begins >= window.end:
            break
        starts.append(begins)
    return tuple(Span(start, end) for start, end in zip(starts, [*starts[1:], window.end], strict=True))


def lasts(seconds: int) -> str:
    """How long something is, in words: the two largest units of it."""
    if 0 < seconds < 60:
        return "under a minute"
    minutes = seconds // 60
    parts = [
        (minutes // 1_440, "day", "days"),
        (minutes % 1_440 // 60, "hour", "hours"),
        (minutes % 60, "minute", "minutes"),
    ]
    told = [f"{count} {one if count == 1 else many}" for count, one, many in parts if count]
    return " ".join(told[:2]) or "no time"


@dataclass(frozen=True, slots=True)
class Day:
    """A day with something in it: seconds by kind."""

    span: Span
    seconds: Mapping[Kind, int]

    @property
    def starts(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self.span.start, dt.UTC)

    @property
    def nobody(self) -> str:
        return self._told("nobody")

    @property
    def intended(self) -> str:
        return self._told("intended")

    @property
    def unsure(self) -> str:
        return self._told("unsure")

    @property
    def lower(self) -> str:
        return self._told("lower")

    def _told(self, kind: Kind) -> str:
        return lasts(self.seconds[kind]) if kind in self.seconds else "—"


def by_day(days: Sequence[Span], spans: Mapping[Kind, Iterable[Span]]) -> dict[int, dict[Kind, int]]:
    """Seconds by kind, of the days (by their place) that have any. ``days``: one after the other."""
    starts = [day.start for day in days]
    found: dict[int, dict[Kind, int]] = {}
    for kind, each in spans.items():
        for span in each:
            place = max(bisect_right(starts, span.start) - 1, 0)
            while place < len(days) and days[place].start < span.end:
                inside = min(span.end, days[place].end) - max(span.start, days[place].start)
                if inside > 0:
                    times = found.setdefault(place, {})
                    times[kind] = times.get(kind, 0) + inside
                place += 1
    return found


@dataclass(frozen=True, slots=True)
class Drawing:
    width: int
    height: int
    shapes: tuple[tuple[str, str], ...]
    """CSS class and path, in the order of drawing."""
    lines: str
    """A path: where weeks begin, and of a map every six hours."""
    days: tuple[Day, ...]
    """Those that have something, for the table."""


def strip(days: Sequence[Span], spans: Mapping[Kind, Iterable[Span]], zone: dt.tzinfo) -> Drawing:
    """A cell for each day, as high as it is bad: a day that only a later level covers at times is low, one with hours meant to
    be so is a frame, and one in which nobody is reached is full and the heavier the longer."""
    found = by_day(days, spans)
    paths: dict[str, list[str]] = {}
    for place, times in sorted(found.items()):
        kind = next(kind for kind in reversed(KINDS) if kind in times)
        name = f"is-{kind}"
        if kind == "nobody":
            name += f" heat-{1 + sum(times[kind] >= heavy for heavy in HEAVY)}"
        top = {"lower": 15, "unsure": 8}.get(kind, 1)
        inset = 1 if kind != "intended" else 2
        paths.setdefault(name, []).append(
            f"M{place * STEP + inset} {top + inset - 1}h{STEP - 2 * inset}v{HEIGHT - top - 2 * inset + 1}h-{STEP - 2 * inset}z"
        )
    shapes = tuple((name, "".join(parts)) for name, parts in sorted(paths.items()))
    weeks = "".join(f"M{place * STEP} 0v{HEIGHT}" for place in _weeks(days, zone))
    listed = tuple(Day(days[place], times) for place, times in sorted(found.items()))
    return Drawing(len(days) * STEP, HEIGHT, shapes, weeks, listed)


def day_map(days: Sequence[Span], spans: Mapping[Kind, Iterable[Span]], zone: dt.tzinfo) -> Drawing:
    """A column for each day, midnight at its top: each hole where it is. Of a day with 23 or 25 hours the hours are as much
    lower or higher, so that nothing lies over another."""
    paths: dict[Kind, list[str]] = {}
    starts = [day.start for day in days]
    for kind in KINDS:
        for span in spans.get(kind, ()):
            place = max(bisect_right(starts, span.start) - 1, 0)
            while place < len(days) and days[place].start < span.end:
                whole = _whole(days[place], zone)
                top = HOURS * (max(span.start, days[place].start) - whole.start) / whole.seconds
                bottom = HOURS * (min(span.end, days[place].end) - whole.start) / whole.seconds
                if bottom > top:
                    # What is shorter than a quarter of an hour is seen all the same.
                    height = max(bottom - top, 1)
                    top = min(top, HOURS - height)
                    wide = WIDE[kind]
                    left = place * STEP + (STEP - wide) / 2
                    paths.setdefault(kind, []).append(f"M{left:g} {top:.4g}h{wide}v{height:.4g}h-{wide}z")
                place += 1
    width = len(days) * STEP
    lines = "".join(f"M{place * STEP} 0v{HOURS}" for place in _weeks(days, zone))
    lines += "".join(f"M0 {HOURS * hour // 24}h{width}" for hour in (6, 12, 18))
    found = by_day(days, spans)
    listed = tuple(Day(days[place], times) for place, times in sorted(found.items()))
    shapes = tuple((f"is-{kind}", "".join(paths[kind])) for kind in KINDS if kind in paths)
    return Drawing(width, HOURS, shapes, lines, listed)


def _whole(day: Span, zone: dt.tzinfo) -> Span:
    """The whole day that a first or last one is cut from."""
    date = dt.datetime.fromtimestamp(day.start, zone).date()
    start, end = (
        int(dt.datetime.combine(each, dt.time(), zone).timestamp()) for each in (date, date + dt.timedelta(days=1))
    )
    return Span(min(start, day.start), max(end, day.end))


def _weeks(days: Sequence[Span], zone: dt.tzinfo) -> list[int]:
    """The places of Mondays, but for the first day."""
    return [
        place for place, day in enumerate(days) if place and dt.datetime.fromtimestamp(day.start, zone).weekday() == 0
    ]
