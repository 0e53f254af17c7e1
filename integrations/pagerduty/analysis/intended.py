"""Gaps that somebody means to be there: when a mark holds, and what is left of a gap without it.

A mark names a policy and hours: once, or every week at the same time by a clock. It says nothing of a gap's cause, so what is
intended stays so when a rota is drawn up anew; and what reaches beyond those hours, even by a second, is work. So no gap is
intended or not as a whole: it is cut along the marks.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis.coverage import Hole, holes_ahead
from integrations.pagerduty.analysis.model import Span

WEEK: Final = dt.timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Mark:
    """Hours in which nobody need be reached."""

    start: int
    end: int
    """Of the first time; after ``start``, and of a weekly one at most a week."""
    until: int
    """From then on it holds no more, in the middle of its hours too."""
    weekly: bool = False
    zone: str = "UTC"
    """By whose clock a weekly one comes again: an IANA name."""


def zone_of_mark(name: str) -> dt.tzinfo:
    """The zone; UTC for a name that is known no more, for marks outlive what was known when they were made."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return dt.UTC


def hours(mark: Mark, window: Span) -> tuple[Span, ...]:
    """When it holds inside ``window``, by start. A weekly one keeps to the clock when that is changed."""
    end = min(mark.until, window.end)
    if not mark.weekly:
        return _clipped([Span(mark.start, mark.end)], window.start, end)
    zone = zone_of_mark(mark.zone)
    first, last = (dt.datetime.fromtimestamp(each, zone).replace(tzinfo=None) for each in (mark.start, mark.end))
    # One week earlier, for it may have begun before the window does.
    passed = max((window.start - mark.start) // 604_800 - 1, 0)
    found, start = [], first + passed * WEEK
    while (begins := _instant(start, zone)) < end:
        # The first is as it was named: of an hour that comes twice the clock does not tell which.
        named = Span(mark.start, mark.end) if start == first else None
        found.append(named or Span(begins, _instant(start + (last - first), zone)))
        start += WEEK
    return _clipped(found, window.start, end)


def _instant(clock: dt.datetime, zone: dt.tzinfo) -> int:
    return int(clock.replace(tzinfo=zone).timestamp())


def _clipped(spans: Iterable[Span], start: int, end: int) -> tuple[Span, ...]:
    clipped = (Span(max(span.start, start), min(span.end, end)) for span in spans)
    return tuple(span for span in clipped if span.start < span.end)


def intended(marks: Iterable[Mark], window: Span) -> tuple[Span, ...]:
    """When any of them holds, by start, apart from each other."""
    joined: list[Span] = []
    for span in sorted(span for mark in marks for span in hours(mark, window)):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return tuple(joined)


def cut(gap: Span, meant: Sequence[Span]) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """What of a gap is left, and what is meant to be. ``meant``: as ``intended`` gives it. The two together are the gap."""
    left, right, at = [], [], gap.start
    for span in meant:
        start, end = max(span.start, at), min(span.end, gap.end)
        if start >= end:
            continue
        if at < start:
            left.append(Span(at, start))
        right.append(Span(start, end))
        at = end
    if at < gap.end:
        left.append(Span(at, gap.end))
    return tuple(left), tuple(right)


@dataclass(frozen=True, slots=True)
class Missing:
    """What a policy lacks, each by start and apart from each other."""

    nobody: tuple[Span, ...]
    """Nobody is reached, and somebody should be."""
    lower: tuple[Hole, ...]
    """The first level reaches nobody and a later one does."""
    unsure: tuple[Span, ...]
    """It cannot be told whether anybody is reached: a schedule that decides it is not known."""
    meant: tuple[Span, ...]
    """Nobody is reached, and that is meant."""


def missing(holes: Iterable[Hole], marks: Sequence[Mark], window: Span) -> Missing:
    """A policy's holes, told apart and clipped to the window: what is over when it begins is nobody's work."""
    nobody: list[Span] = []
    lower: list[Hole] = []
    unsure: list[Span] = []
    for hole in holes_ahead(holes, window.start):
        if hole.span.start >= window.end:
            continue
        if hole.span.end > window.end:
            hole = dataclasses.replace(hole, span=Span(hole.span.start, window.end))
        if hole.kind == "lower":
            # A level that is not known may well reach somebody.
            lower += [hole] * (not hole.unknown)
        elif hole.unknown:
            unsure.append(hole.span)
        else:
            nobody.append(hole.span)
    hours_meant = intended(marks, window) if marks and nobody else ()
    cuts = [cut(span, hours_meant) for span in nobody]
    return Missing(
        tuple(span for left, _ in cuts for span in left),
        tuple(lower),
        tuple(unsure),
        tuple(span for _, right in cuts for span in right),
    )
