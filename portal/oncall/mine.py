"""What one person is on call for, over all teams whose mirrors they may see."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

from django.utils import timezone

from integrations import mirror
from integrations.models import PastShift
from integrations.pagerduty.analysis.coverage import covered
from integrations.pagerduty.analysis.model import Policy, Schedule, Slice, Span
from policies.models import User
from portal.oncall import timeline
from portal.oncall.one import lasting, through
from portal.oncall.seen import Seen, moment, once, seen
from portal.oncall.timeline import DAY, HOUR

BACK: Final = 28 * DAY
"""How far back a calendar tells."""


@dataclass(frozen=True)
class Shift:
    """A time on call for one schedule. One that began before now is whole, as far as it is known."""

    seen: Seen
    schedule: Schedule
    slice: Slice
    after: str
    """Who has it next: a name, ``nobody``, or nothing where that is not known."""

    @property
    def starts(self) -> dt.datetime:
        return moment(self.slice.start)

    @property
    def ends(self) -> dt.datetime:
        return moment(self.slice.end)

    @property
    def lasts(self) -> str:
        return lasting(self.slice.end - self.slice.start)

    @property
    def through(self) -> str:
        return through(self.slice)

    @property
    def policies(self) -> tuple[tuple[Policy, tuple[int, ...]], ...]:
        return self.seen.used_by.get(self.schedule.id, ())


@dataclass(frozen=True)
class Always:
    """A policy that names somebody itself."""

    seen: Seen
    policy: Policy
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Overlap:
    """Two shifts at once."""

    first: Shift
    second: Shift

    @property
    def span(self) -> Span:
        first, second = self.first.slice, self.second.slice
        return Span(max(first.start, second.start), min(first.end, second.end))


class Mine:
    """One person's own on-call, as of ``now``."""

    def __init__(self, user: User, now: dt.datetime) -> None:
        self.user = user
        self.now = int(now.timestamp())
        self.mirrors = seen(user, now)

    @cached_property
    def ids(self) -> dict[str, frozenset[str]]:
        """By region, whom of PagerDuty's people this one is. Ids are PagerDuty's own in all accounts of a region: a connection
        whose bounds do not show the person has schedules with their turns all the same."""
        found: dict[str, set[str]] = {}
        for each in self.mirrors:
            found.setdefault(each.connection.region, set()).update(one.id for one in each.itself(self.user))
        return {region: frozenset(ids) for region, ids in found.items()}

    @property
    def is_known(self) -> bool:
        """Whether any mirror holds somebody with their address."""
        return any(self.ids.values())

    @property
    def is_read(self) -> bool:
        """Whether any mirror holds anybody at all."""
        return any(each.account.people for each in self.mirrors)

    @cached_property
    def schedules(self) -> list[tuple[Seen, Schedule, frozenset[str]]]:
        """Those of regions in which they are somebody, and who."""
        return [
            (each, schedule, users)
            for each, schedule in once(self.mirrors)
            if (users := self.ids[each.connection.region])
        ]

    @cached_property
    def shifts(self) -> list[Shift]:
        """Those that are not over, by start, over twelve weeks."""
        return self.of(self.schedules)

    def of(self, schedules: Iterable[tuple[Seen, Schedule, frozenset[str]]]) -> list[Shift]:
        found: list[Shift] = []
        for each, schedule, users in schedules:
            slices = timeline.joined(each.rendered.get(schedule.id, ()))
            if not any(one.user in users for one in slices):
                continue
            changes = timeline.handoffs(slices)
            for one in slices:
                if one.user in users and one.end > self.now:
                    after = next((then - users for at, _, then in changes if at == one.end), frozenset())
                    names = " and ".join(sorted(each.account.name_of(user) for user in after)) or "nobody"
                    is_last = one.end >= each.until
                    found.append(Shift(each, schedule, one, "" if is_last else names))
        return sorted(found, key=lambda shift: (shift.slice.start, shift.schedule.name, shift.schedule.id))

    @property
    def current(self) -> list[Shift]:
        return [shift for shift in self.shifts if shift.slice.start <= self.now]

    @property
    def coming(self) -> list[Shift]:
        return [shift for shift in self.shifts if shift.slice.start > self.now]

    @cached_property
    def always(self) -> list[Always]:
        """Policies that page them by name, whatever a schedule says."""
        found: dict[tuple[str, str], Always] = {}
        for each in self.mirrors:
            users = self.ids[each.connection.region]
            for policy in each.account.policies.values():
                levels = tuple(
                    number
                    for number, level in enumerate(policy.levels, 1)
                    if any(target.kind == "user" and target.id in users for target in level.targets)
                )
                if levels:
                    found.setdefault((each.connection.region, policy.id), Always(each, policy, levels))
        return sorted(found.values(), key=lambda one: one.policy.name.lower())

    @cached_property
    def overlaps(self) -> list[Overlap]:
        """Shifts of two schedules at once, the next first."""
        open_: list[Shift] = []
        found: list[Overlap] = []
        for shift in self.shifts:
            open_ = [one for one in open_ if one.slice.end > shift.slice.start]
            found += (Overlap(one, shift) for one in open_ if one.schedule.id != shift.schedule.id)
            open_.append(shift)
        return found

    @cached_property
    def month(self) -> Span:
        """The calendar month that it is, by the reader's clock."""
        first = timezone.localtime(moment(self.now)).date().replace(day=1)
        return timeline.window_of(timeline.VIEWS["month"], first, ZoneInfo(timezone.get_current_timezone_name()))

    @cached_property
    def hours(self) -> tuple[int, int]:
        """Of this month: those that they had, and those to come. What two schedules have at once counts once."""
        over = Span(self.month.start, self.now)
        ahead = [shift.slice for shift in self.shifts]
        had = sum(span.seconds for span in covered(self.past(over), over))
        coming = sum(span.seconds for span in covered(ahead, Span(self.now, self.month.end)))
        return round(had / HOUR), round(coming / HOUR)

    def taking_part(self, window: Span) -> list[tuple[Seen, Schedule, frozenset[str]]]:
        """The schedules by which they were on call in a time that is over, are, or will be. One look-up: of most schedules there
        is nothing to be asked."""
        every = frozenset().union(*self.ids.values())
        had = PastShift.objects.filter(
            connection__in=[each.connection for each in self.mirrors],
            user_id__in=every,
            start__lt=window.end,
            end__gt=window.start,
        )
        kept = set(had.values_list("connection_id", "schedule_id").distinct()) if every else set()
        return [
            (each, schedule, users)
            for each, schedule, users in self.schedules
            if (each.connection.pk, schedule.id) in kept
            or any(one.user in users for one in (*schedule.rendered, *each.rendered.get(schedule.id, ())))
        ]

    def past(self, window: Span) -> list[Slice]:
        """Their times in a window that is over, as PagerDuty had them."""
        return [
            one
            for each, schedule, users in self.taking_part(window)
            for one in mirror.past(each.connection, schedule.id, window)
            if one.user in users
        ]


def merged(before: Sequence[Slice], ahead: Sequence[Slice], now: int) -> list[Slice]:
    """What is over, as it was kept, and what follows on it: a shift that goes on is one, and begins when it began at every look.
    Where nothing is kept of it, it begins as it was rendered."""
    turns_at = min(max((one.end for one in before), default=0), now)
    cut = [Slice(one.start, min(one.end, turns_at), one.user, one.source) for one in before]
    rest = [Slice(max(one.start, turns_at), one.end, one.user, one.source) for one in ahead if one.end > turns_at]
    return timeline.joined([*cut, *rest])
