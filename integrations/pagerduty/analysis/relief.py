"""Who could take an override for a gap: proposals with their reasons, for a person to choose from. Nothing is decided here."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis.coverage import HOUR, covered
from integrations.pagerduty.analysis.model import Account, Person, Schedule, Slice, Span

REST: Final = 11 * HOUR
WAKING: Final = (8, 22)
"""Hours of a person's own day, from and before which they are asked rather than at night."""
LONGEST: Final = (12 * HOUR, 8 * HOUR, 6 * HOUR, 4 * HOUR)
"""Of a part, where a gap is shared: the first of these by which all of it finds somebody."""
MOST_SHARED: Final = 7 * 24 * HOUR
"""What is longer lacks a schedule, not an override."""
EVER: Final = Span(-(2**62), 2**62)

Duties = Mapping[str, Sequence[Span]]
"""When each person is on call, on whatever schedule: by user id, in order and apart."""


@dataclass(frozen=True, slots=True)
class Candidate:
    user: str
    """Id."""
    span: Span
    """What they would take: the gap, or a part of it."""
    free: bool
    """On no schedule's call during it."""
    rested: bool
    """Nor in the 11 hours before and after."""
    awake: float
    """How much of it is between 08:00 and 22:00 by their clock, 0 to 1."""
    load: float
    """As it was given, and hours of parts before; 0 where nothing was."""
    member: bool
    """Takes turns on the schedule anyway."""
    good: tuple[str, ...]
    bad: tuple[str, ...]
    """Reasons, as sentences."""

    @property
    def suitable(self) -> bool:
        """Whether nothing but the hour speaks against them."""
        return self.free and self.rested


def duties(rendered: Mapping[str, Sequence[Slice]]) -> Duties:
    """Of rendered schedules: to be worked out once where candidates for many gaps are sought."""
    by_person: dict[str, list[Slice]] = {}
    for slices in rendered.values():
        for one in slices:
            if one.user:
                by_person.setdefault(one.user, []).append(one)
    return {user: covered(own, EVER) for user, own in by_person.items()}


def candidates(
    account: Account,
    schedule_id: str,
    gap: Span,
    rendered: Mapping[str, Sequence[Slice]],
    *,
    load: Mapping[str, float],
    busy: Duties | None = None,
) -> tuple[Candidate, ...]:
    """Those who take turns on the schedule, who belong to its teams, or whom its escalation policies page, best first: off duty,
    then rested, then for whom more of it is by day, then the least loaded; of equals, those first who take turns on it anyway.

    ``rendered``: slices of all schedules by id, from 11 hours before the gap to 11 hours after it. ``load``: hours, pages or
    whatever is to be shared, by user id. ``busy``: ``duties(rendered)`` where it is known already. KeyError: the schedule is
    not known."""
    busy = duties(rendered) if busy is None else busy
    found = [
        _candidate(account, user, tie, gap, busy.get(user, ()), load.get(user, 0.0))
        for user, tie in _eligible(account, account.schedules[schedule_id], rendered).items()
    ]
    return tuple(sorted(found, key=lambda one: _order(account, one)))


def shares(
    account: Account,
    schedule_id: str,
    gap: Span,
    rendered: Mapping[str, Sequence[Slice]],
    *,
    load: Mapping[str, float],
    busy: Duties | None = None,
) -> tuple[Candidate, ...]:
    """Who could take it together, in order, where one person cannot: nobody is free and rested for all of it, or it is longer
    than 12 hours. One candidate where one can; else parts, as long as they may be for each to find somebody who has rested from
    the part before. Where some do not, the best attempt without them; empty: nobody can, or the gap is longer than a week.
    An hour of a part counts as 1 of ``load``."""
    if gap.seconds > MOST_SHARED:
        return ()
    busy = dict(duties(rendered) if busy is None else busy)
    eligible = _eligible(account, account.schedules[schedule_id], rendered)
    best: tuple[Candidate, ...] = ()
    for most in LONGEST:
        parts = _parts(gap, most)
        taken: list[Candidate] = []
        for part in parts:
            own: dict[str, list[Span]] = {}
            for one in taken:
                own.setdefault(one.user, []).append(one.span)
            found = []
            for user, tie in eligible.items():
                more = own.get(user, [])
                hours = sum(span.seconds for span in more) / HOUR
                spans = sorted((*busy.get(user, ()), *more))
                found.append(_candidate(account, user, tie, part, spans, load.get(user, 0.0) + hours))
            suitable = [one for one in found if one.suitable]
            if suitable:
                taken.append(min(suitable, key=lambda one: _order(account, one)))
        if len(taken) == len(parts):
            return tuple(taken)
        if sum(one.span.seconds for one in taken) > sum(one.span.seconds for one in best):
            best = tuple(taken)
    return best


def _parts(gap: Span, most: int) -> list[Span]:
    """As few as there can be, of whole quarter hours but for the last, none longer than ``most``."""
    if gap.seconds <= 0:
        return []
    quarter = HOUR // 4
    count = -(-gap.seconds // most)
    length = min(most, -(-gap.seconds // count // quarter) * quarter)
    return [Span(at, min(at + length, gap.end)) for at in range(gap.start, gap.end, length)]


MEMBER: Final = "Takes turns on this schedule."


def _eligible(account: Account, schedule: Schedule, rendered: Mapping[str, Sequence[Slice]]) -> dict[str, str]:
    """Who may be asked, and why: the closest tie to the schedule, as a sentence."""
    found = dict.fromkeys([*_members(schedule), *(one.user for one in rendered.get(schedule.id, ()))], MEMBER)
    teams = set(schedule.team_ids)
    for person in account.people.values():
        for team in person.team_ids:
            if team in teams:
                found.setdefault(person.id, f"Belongs to {account.teams.get(team, team)}.")
    for policy in account.policies.values():
        targets = [target for level in policy.levels for target in level.targets if not target.deleted]
        if not any(target.kind == "schedule" and target.id == schedule.id for target in targets):
            continue
        for target in targets:
            other = account.schedules.get(target.id) if target.kind == "schedule" else None
            for user in [target.id] if target.kind == "user" else _members(other) if other else ():
                found.setdefault(user, f"Is paged by {policy.name} as well.")
    found.pop("", None)
    return found


def _members(schedule: Schedule) -> list[str]:
    return [
        *(user for layer in schedule.layers for user in layer.users),
        *(user for rotation in schedule.rotations for event in rotation.events for user in event.members),
        *(user for shift in schedule.custom_shifts for user in shift.users),
    ]


def _candidate(account: Account, user: str, tie: str, gap: Span, busy: Sequence[Span], load: float) -> Candidate:
    person = account.people.get(user)
    good, bad = [tie], []
    near = _near(busy, Span(gap.start - REST, gap.end + REST))
    free = not _near(near, gap)
    if not free:
        bad.append("Is on call during it.")
    elif not near:
        good.append("Is off duty, and for 11 hours before and after.")
    else:
        good.append("Is off duty.")
        before = [gap.start - one.end for one in near if one.end <= gap.start]
        after = [one.start - gap.end for one in near if one.start >= gap.end]
        if before:
            rest = min(before)
            bad.append(
                f"Has had only {_hours(rest)} of rest before it." if rest else "Comes to it straight from a turn."
            )
        if after:
            rest = min(after)
            bad.append(f"Has only {_hours(rest)} of rest after it." if rest else "Goes on from it straight to a turn.")
    awake = 0.0
    if person is None:
        bad.append("Nothing more is known of them.")
    else:
        awake = _awake(gap, person)
        if awake == 1:
            good.append(f"It is between 08:00 and 22:00 for them ({person.zone}).")
        elif awake == 0:
            bad.append(f"It is night for them ({person.zone}).")
        else:
            bad.append(f"Some of it is night for them ({person.zone}).")
        if person.contacts is not None and not person.contacts:
            bad.append("Has no contact method: nothing would tell them.")
    return Candidate(user, gap, free, not near, awake, load, tie == MEMBER, tuple(good), tuple(bad))


def _order(account: Account, one: Candidate) -> tuple[object, ...]:
    return (
        not one.free,
        not one.rested,
        -round(one.awake, 1),
        one.load,
        not one.member,
        account.name_of(one.user),
        one.user,
    )


def _near(busy: Sequence[Span], around: Span) -> Sequence[Span]:
    """Those of ``busy`` that touch a time; they are in order and apart."""
    last = bisect_left(busy, around.end, key=lambda span: span.start)
    first = last
    while first and busy[first - 1].end > around.start:
        first -= 1
    return busy[first:last]


def _hours(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return " ".join(([f"{hours} h"] if hours else []) + ([f"{minutes} min"] if minutes or not hours else []))


def _awake(gap: Span, person: Person) -> float:
    """How much of the gap is in the person's waking hours, 0 to 1."""
    if gap.seconds <= 0:
        return 1.0
    zone = ZoneInfo(person.zone)
    day = dt.datetime.fromtimestamp(gap.start, zone).date()
    seconds = 0
    while True:
        start, end = (int(dt.datetime.combine(day, dt.time(hour), zone).timestamp()) for hour in WAKING)
        if start >= gap.end:
            return seconds / gap.seconds
        seconds += max(0, min(end, gap.end) - max(start, gap.start))
        day += dt.timedelta(days=1)
