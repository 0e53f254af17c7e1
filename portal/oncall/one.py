"""What the page of one schedule shows of it: who is on call in a window, why, and what is to be said of that."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from integrations import mirror
from integrations.pagerduty.analysis.coverage import Quality, gaps, quality
from integrations.pagerduty.analysis.model import Layer, Schedule, Slice, Source, Span
from integrations.pagerduty.analysis.rotation import Difference, differences, render
from portal.oncall import timeline
from portal.oncall.seen import Seen, moment
from portal.oncall.timeline import DAY, HOUR, Drawn, Face, Timeline, View

MOST_ROWS: Final = 400
"""Of a table beside a picture."""
JUDGED: Final = 12 * 7 * DAY
"""Over how long the quality is told."""
SOON: Final = 28 * DAY
_DAYS: Final = ("every day", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


@dataclass(frozen=True)
class Stretch:
    """One row of a table: somebody's time, or nobody's."""

    start: dt.datetime
    end: dt.datetime
    face: Face
    through: str
    lane: str = ""
    is_now: bool = False

    @property
    def lasts(self) -> str:
        return lasting(int((self.end - self.start).total_seconds()))


@dataclass(frozen=True)
class Share:
    """What one person has ahead."""

    face: Face
    next: Slice | None
    """Their next shift, or the one they have now; None: none in the next twelve weeks."""
    is_now: bool
    hours: int
    """In the next four weeks."""
    percent: int
    """Of all that is covered in these."""

    @property
    def starts(self) -> dt.datetime | None:
        return moment(self.next.start) if self.next else None

    @property
    def ends(self) -> dt.datetime | None:
        return moment(self.next.end) if self.next else None


@dataclass(frozen=True)
class Turning:
    """How a layer or rotation hands over, in words."""

    name: str
    turn: str
    faces: list[Face]
    hours: list[str]
    """When it takes assignments; empty: always."""
    since: dt.datetime | None
    until: dt.datetime | None


@dataclass(frozen=True)
class Differs:
    """Where the rendering here and PagerDuty's own differ."""

    start: dt.datetime
    end: dt.datetime
    ours: list[Face]
    theirs: list[Face]


def lasting(seconds: int) -> str:
    """Such as ``7 days``, ``1 day 12 h`` or ``45 min``: the two largest parts that are not 0."""
    days, rest = divmod(seconds, DAY)
    hours, rest = divmod(rest, HOUR)
    minutes = rest // 60
    parts = [f"{days} day{'s' if days != 1 else ''}" if days else "", f"{hours} h" if hours else ""]
    parts.append(f"{minutes} min" if minutes else "")
    return " ".join([part for part in parts if part][:2]) or f"{seconds} s"


class One:
    """A schedule as somebody looks at it: over ``window``, by the clock of ``zone``."""

    def __init__(self, seen: Seen, schedule: Schedule, view: View, first: dt.date, zone: ZoneInfo) -> None:
        self.seen = seen
        self.schedule = schedule
        self.view = view
        self.first = first
        self.zone = zone
        self.window = timeline.window_of(view, first, zone)
        self.now = seen.now

    # Who is on call

    @cached_property
    def kept(self) -> Span | None:
        """For which time of the past PagerDuty's own entries are kept; None: for none."""
        kept = mirror.past_known(self.seen.connection, self.schedule.id)
        newest = self.schedule.rendered_window
        parts = [part for part in (kept, newest) if part is not None and part.start < self.now]
        if not parts:
            return None
        return Span(min(part.start for part in parts), min(max(part.end for part in parts), self.now))

    @property
    def turns_at(self) -> int:
        """From when on it is rendered here, by the definition that was read last: what is over is as PagerDuty had it."""
        return self.kept.end if self.kept is not None else self.now

    @property
    def ahead(self) -> Span:
        """The part of the window that is rendered here; it may be empty."""
        return Span(max(self.window.start, self.turns_at), max(self.window.end, self.turns_at))

    @cached_property
    def rendering(self) -> tuple[tuple[Slice, ...], tuple[tuple[Source, tuple[Slice, ...]], ...]]:
        """Of what is ahead: the final schedule, and each layer or rotation alone, the lowest first."""
        if self.ahead.seconds <= 0:
            return (), ()
        found = render(self.schedule, self.ahead, with_layers=True)
        return found.slices, found.layers

    @cached_property
    def final(self) -> list[Slice]:
        if self.kept is None or self.window.start >= self.kept.end:
            return timeline.joined(self.rendering[0])
        over = Span(max(self.window.start, self.kept.start), min(self.window.end, self.kept.end))
        before = mirror.past(self.seen.connection, self.schedule.id, over) if over.seconds > 0 else ()
        return timeline.joined([*before, *self.rendering[0]])

    @cached_property
    def known(self) -> tuple[Span, ...]:
        """The parts of the window of which it is known who is on call."""
        parts = [self.ahead]
        if (kept := self.kept) is not None:
            parts.insert(0, Span(max(kept.start, self.window.start), min(kept.end, self.window.end)))
        return tuple(part for part in parts if part.seconds > 0)

    @property
    def unknown_until(self) -> dt.datetime | None:
        """Up to when in the window nothing is known; None: all of it is."""
        start = self.known[0].start if self.known else self.window.end
        return moment(min(start, self.window.end)) if start > self.window.start else None

    @cached_property
    def holes(self) -> list[Span]:
        """When nobody is on call, in what is known of the window."""
        holes: list[Span] = []
        for part in self.known:
            for hole in gaps(self.final, part):
                if holes and holes[-1].end == hole.start:
                    holes[-1] = Span(holes[-1].start, hole.end)
                else:
                    holes.append(hole)
        return holes

    @cached_property
    def overrides(self) -> list[Slice]:
        every = (Slice(one.start, one.end, one.user, Source("override", one.id)) for one in self.schedule.overrides)
        return timeline.clipped(every, self.window)

    # How it is drawn

    @cached_property
    def faces(self) -> dict[str, Face]:
        """Of everybody in it. Their order is the definition's, so that a person keeps a colour from window to window."""
        users: dict[str, None] = {}
        for layer in reversed(self.schedule.layers):
            users |= dict.fromkeys(layer.users)
        for rotation in self.schedule.rotations:
            for event in rotation.events:
                users |= dict.fromkeys(event.members)
        for shift in self.schedule.custom_shifts:
            users |= dict.fromkeys(shift.users)
        for override in self.schedule.overrides:
            users |= dict.fromkeys([override.user])
        for slices in (self.schedule.rendered, self.coming, self.final):
            users |= dict.fromkeys(one.user for one in slices)
        return timeline.faces({user: self.seen.account.name_of(user) for user in users})

    @cached_property
    def differences(self) -> tuple[Difference, ...]:
        return differences(self.schedule)

    @property
    def differs(self) -> list[Differs]:
        return [
            Differs(moment(one.span.start), moment(one.span.end), self._faces(one.ours), self._faces(one.theirs))
            for one in self.differences[:20]
        ]

    def _faces(self, users: Iterable[str]) -> list[Face]:
        return sorted((timeline.face_of(user, self.faces) for user in users), key=lambda face: face.name) or [
            timeline.NOBODY
        ]

    @cached_property
    def lanes(self) -> list[Drawn]:
        lanes = [Drawn("On call", self.final, is_final=True, holes=self._bare())]
        differing = [
            one for one in self.differences if one.span.start < self.window.end and one.span.end > self.window.start
        ]
        if differing:
            lanes.append(Drawn("PagerDuty's own", self.schedule.rendered, note="differs from the rendering here"))
        if self.overrides:
            lanes.append(Drawn("Overrides", self.overrides))
        for source, slices in reversed(self.rendering[1]):
            name = "Custom shift" if source.kind == "custom_shift" else source.name or source.id
            lanes.append(Drawn(name, slices))
        return lanes

    def _bare(self) -> list[Span]:
        """Holes but for those that an empty slot fills, which is drawn as what it is."""
        empty = [Slice(one.start, one.end, "-", one.source) for one in self.final if not one.user]
        return [bare for hole in self.holes for bare in gaps(empty, hole)]

    @cached_property
    def picture(self) -> Timeline:
        own = ZoneInfo(self.schedule.zone)
        return timeline.draw(self.window, self.zone, self.lanes, self.faces, self.now, other=own)

    @property
    def said(self) -> str:
        """The picture in a sentence; the table has the rest."""
        people = len({one.user for one in timeline.clipped(self.final, self.window) if one.user})
        handoffs = sum(len(lane.handoffs) for lane in self.picture.lanes)
        told = f"Who is on call for {self.schedule.name}: {people} {'person' if people == 1 else 'people'}, {handoffs} "
        told += f"handoff{'s' if handoffs != 1 else ''}"
        told += (
            f", and {len(self.holes)} time{'s' if len(self.holes) != 1 else ''} in which nobody is"
            if self.holes
            else ""
        )
        return f"{told}. The table below tells the same."

    # Tables

    @cached_property
    def rows(self) -> list[Stretch]:
        """The final schedule in the window, with the times of nobody between."""
        bare = [Slice(hole.start, hole.end, "", Source("policy")) for hole in self._bare()]
        return self._stretches([*timeline.clipped(self.final, self.window), *bare])

    @cached_property
    def lane_rows(self) -> list[Stretch]:
        """The other lanes of the picture."""
        return [
            row
            for lane in self.lanes[1:]
            for row in self._stretches(timeline.clipped(lane.slices, self.window), lane.name)
        ]

    def _stretches(self, slices: Iterable[Slice], lane: str = "") -> list[Stretch]:
        return [
            Stretch(
                moment(one.start),
                moment(one.end),
                timeline.face_of(one.user, self.faces),
                through(one),
                lane,
                one.start <= self.now < one.end,
            )
            for one in sorted(slices)
        ]

    @cached_property
    def coming(self) -> list[Slice]:
        """The next twelve weeks, whole."""
        return timeline.joined(one for one in self.seen.rendered.get(self.schedule.id, ()) if one.end > self.now)

    @cached_property
    def shares(self) -> list[Share]:
        """Everybody who is in the definition or on call in the next twelve weeks, by their next shift."""
        soon = Span(self.now, self.now + SOON)
        near = timeline.clipped(self.coming, soon)
        seconds: dict[str, int] = {}
        for one in near:
            seconds[one.user] = seconds.get(one.user, 0) + one.end - one.start
        total = sum(time for user, time in seconds.items() if user) or 1
        nexts: dict[str, Slice] = {}
        for one in self.coming:
            nexts.setdefault(one.user, one)
        found = [
            Share(
                face,
                nexts.get(user),
                user in nexts and nexts[user].start <= self.now,
                round(seconds.get(user, 0) / HOUR),
                round(100 * seconds.get(user, 0) / total),
            )
            for user, face in self.faces.items()
            if user
        ]
        return sorted(found, key=lambda one: (one.next.start if one.next else self.now + JUDGED * 9, one.face.name))

    @cached_property
    def quality(self) -> Quality:
        return quality(self.coming, Span(self.now, self.now + JUDGED))

    @property
    def burdened(self) -> list[tuple[Face, int]]:
        return [(timeline.face_of(user, self.faces), more) for user, more in self.quality.overloaded]

    @cached_property
    def turnings(self) -> list[Turning]:
        """The layers of a v2 schedule, the one that wins first; the events of a v3 schedule's rotations."""
        found = [self._layer(layer) for layer in reversed(self.schedule.layers)]
        for rotation in self.schedule.rotations:
            for event in rotation.events:
                turn = "all at once" if event.everybody else "in turns"
                if not event.everybody and event.shifts_per_member > 1:
                    turn = f"in turns of {event.shifts_per_member} shifts"
                each = f"{lasting(event.length)} from {event.start:%a %H:%M} ({event.zone}), {turn}"
                rules = [line for line in event.recurrence if line.startswith("RRULE")]
                faces = [timeline.face_of(user, self.faces) for user in event.members]
                until = moment(event.until) if event.until is not None else None
                found.append(Turning(event.name or rotation.id, each, faces, rules, moment(event.since), until))
        return found

    def _layer(self, layer: Layer) -> Turning:
        hours = [
            f"{_DAYS[one.day] if 0 <= one.day < 8 else '?'} from {_clock(one.start)} for {lasting(one.duration)}"
            for one in layer.restrictions
        ]
        faces = [timeline.face_of(user, self.faces) for user in layer.users]
        until = moment(layer.end) if layer.end is not None else None
        return Turning(
            layer.name or layer.id, f"turns of {lasting(layer.turn)}", faces, hours, moment(layer.start), until
        )


def _clock(seconds: int) -> str:
    return f"{seconds // HOUR:02}:{seconds % HOUR // 60:02}"


def through(one: Slice) -> str:
    """What puts somebody on call, in words."""
    match one.source.kind:
        case "override":
            return "an override"
        case "rendered":
            return "as PagerDuty had it"
        case "policy":
            return ""
        case "custom_shift":
            return "a custom shift"
    return one.source.name or one.source.id


def legend(faces: Mapping[str, Face], slices: Sequence[Slice]) -> list[Face]:
    """Who is in a picture, in the order of their colours."""
    there = {one.user for one in slices}
    return [face for user, face in faces.items() if user and user in there]
