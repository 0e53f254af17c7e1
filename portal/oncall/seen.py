"""Which schedules somebody may see, and how each of them stands: of the mirrors of all connections that are theirs to see."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from integrations import mirror
from integrations.models import Connection
from integrations.pagerduty.analysis.coverage import gaps, percent
from integrations.pagerduty.analysis.model import Account, Person, Policy, Schedule, Slice, Span
from integrations.sweep import Sweep, swept
from policies.models import User
from portal.oncall import timeline
from portal.oncall.timeline import DAY

AHEAD: Final = 14 * DAY
"""How far lists look for gaps."""


def moment(at: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


@dataclass(frozen=True)
class Seen:
    """One connection's mirror, as of now."""

    connection: Connection
    kept: mirror.Kept
    now: int

    @property
    def account(self) -> Account:
        return self.kept.account

    @cached_property
    def _sweep(self) -> Sweep:
        return swept(self.connection, self.account, moment(self.now))

    @property
    def rendered(self) -> Mapping[str, Sequence[Slice]]:
        """By schedule id, over twelve weeks from the day that it is."""
        return self._sweep.rendered

    @property
    def until(self) -> int:
        """Up to when it is rendered."""
        return self._sweep.window.end

    @cached_property
    def used_by(self) -> Mapping[str, tuple[tuple[Policy, tuple[int, ...]], ...]]:
        """By schedule id the policies that page it, and at which of their levels (from 1)."""
        found: dict[str, dict[str, list[int]]] = {}
        for policy in self.account.policies.values():
            for number, level in enumerate(policy.levels, 1):
                for target in level.targets:
                    if target.kind == "schedule":
                        found.setdefault(target.id, {}).setdefault(policy.id, []).append(number)
        policies = self.account.policies
        return {
            schedule: tuple((policies[policy], tuple(dict.fromkeys(levels))) for policy, levels in each.items())
            for schedule, each in found.items()
        }

    def teams_of(self, ids: Iterable[str]) -> list[str]:
        """PagerDuty's teams by name; of one that is not known, the id."""
        return [self.account.teams.get(team, team) for team in ids]

    def itself(self, user: User) -> list[Person]:
        """Who of the account this person is: whoever has their address, compared to the letter, in small letters."""
        return [person for person in self.account.people.values() if person.email.strip().lower() == user.email.lower()]


def seen(user: User, now: dt.datetime, *, team: str = "") -> list[Seen]:
    """``team``: a slug, whose connections alone are asked for."""
    connections = [one for one in mirror.visible_to(user) if not team or one.team.slug == team]
    kept = mirror.kept_of(connections)
    return [Seen(one, kept[one.pk], int(now.timestamp())) for one in connections]


def freshness(found: Iterable[Seen]) -> dict[str, Any]:
    """What ``schedules/_fresh.html`` shows."""
    mirrors = [one.kept for one in found]
    return {"mirrors": mirrors, "troubled": sum(bool(kept.told or kept.problems) for kept in mirrors)}


def once(found: Iterable[Seen]) -> list[tuple[Seen, Schedule]]:
    """Every schedule of theirs. What several connections of one account hold is there once, of the first of them."""
    # PagerDuty's ids are its own in all accounts of a region.
    known: dict[tuple[str, str], tuple[Seen, Schedule]] = {}
    for each in found:
        for schedule in each.account.schedules.values():
            known.setdefault((each.connection.region, schedule.id), (each, schedule))
    return list(known.values())


@dataclass(frozen=True)
class Row:
    """A schedule in the list."""

    seen: Seen
    schedule: Schedule

    @property
    def is_known(self) -> bool:
        """Whether it can be told who is on call."""
        return self.schedule.id in self.seen.rendered

    @cached_property
    def window(self) -> Span:
        return Span(self.seen.now, self.seen.now + AHEAD)

    @cached_property
    def slices(self) -> list[Slice]:
        """Of the window: the later ones, of which there are many more, are not looked at."""
        since, until = self.window
        of_it = itertools.takewhile(lambda one: one.start < until, self.seen.rendered.get(self.schedule.id, ()))
        return [one for one in of_it if one.end > since]

    @cached_property
    def on_call(self) -> list[str]:
        now = self.seen.now
        users = dict.fromkeys(one.user for one in self.slices if one.start <= now and one.user)
        return [self.seen.account.name_of(user) for user in users]

    @cached_property
    def next(self) -> tuple[dt.datetime, str] | None:
        """The next handoff: when, and to whom."""
        every = self.seen.rendered.get(self.schedule.id, ())
        # The edge of what is looked at is no handoff.
        for slices, until in ((self.slices, self.window.end), (every, self.seen.until)):
            for at, _, after in timeline.handoffs(slices):
                if self.seen.now < at < until:
                    return moment(at), self.names(after) or "nobody"
        return None

    def names(self, users: Iterable[str]) -> str:
        return " and ".join(sorted(self.seen.account.name_of(user) for user in users))

    @cached_property
    def gaps(self) -> tuple[Span, ...]:
        return gaps(self.slices, self.window) if self.is_known else ()

    @property
    def first_gap(self) -> dt.datetime | None:
        return moment(self.gaps[0].start) if self.gaps else None

    @cached_property
    def coverage(self) -> float:
        return percent(self.slices, self.window)

    @property
    def coverage_told(self) -> str:
        """Rounded down: what has a gap is not 100 %."""
        return f"{int(self.coverage * 10) / 10:g} %" if self.is_known else "not known"

    @property
    def policies(self) -> tuple[tuple[Policy, tuple[int, ...]], ...]:
        return self.seen.used_by.get(self.schedule.id, ())

    @property
    def health(self) -> tuple[str, str, int]:
        """In a word, the class of its sign, and how bad it is: 0 the worst."""
        if not self.is_known:
            return "not known", "health-warns", 2
        if self.gaps and self.gaps[0].start <= self.seen.now:
            return "nobody on call", "health-failing", 0
        if self.gaps:
            return "gaps ahead", "health-warns", 1
        if self.schedule.problems:
            return "read in part", "health-warns", 2
        if not self.policies:
            return "in no policy", "health-warns", 3
        return "covered", "health-ok", 4

    def fits(self, text: str) -> bool:
        """Whether a word that somebody looks for stands in what is shown of it."""
        told = (self.schedule.name, self.schedule.id, self.schedule.zone, self.health[0], *self.on_call)
        teams = self.seen.teams_of(self.schedule.team_ids)
        return any(text in one.lower() for one in (*told, *teams, *(policy.name for policy, _ in self.policies)))


def ordered(rows: Iterable[Row]) -> list[Row]:
    """The worst first, then by name."""
    return sorted(rows, key=lambda row: (row.health[2], row.schedule.name.lower(), row.schedule.id))
