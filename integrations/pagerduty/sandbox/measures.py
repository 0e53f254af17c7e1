"""What an incident's log comes to, counted as PagerDuty's analytics count it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.world import Incident, World, iso, parse_time

MAJOR_PRIORITIES = 2
"""An incident of one of the two highest is a major one."""
ONCE = 60.0
"""Seconds within which several notifications of somebody are one interruption."""
HOURS = ("business", "off", "sleep")


@dataclass(slots=True)
class Assigned:
    user: int
    at: float
    how: str
    """``assigned``, ``reassigned``, ``manual_escalated`` or ``timeout_escalated``."""
    before: int | None
    """Whose it was."""


@dataclass(slots=True)
class Measures:
    """Users are places, times Unix times."""

    acknowledged: dict[int, float] = field(default_factory=dict)
    """When each first did: they are the engaged."""
    acknowledgements: list[int] = field(default_factory=list)
    assigned: list[Assigned] = field(default_factory=list)
    notified: list[int] = field(default_factory=list)
    interrupted: list[tuple[int, float]] = field(default_factory=list)
    """Whom, and when."""
    resolved: tuple[float, int | None] | None = None
    snoozed: float = 0.0
    """Seconds."""

    def first_acknowledged(self) -> float | None:
        return min(self.acknowledged.values(), default=None)

    def engaged(self, user: int) -> float:
        """Seconds from a user's acknowledgement until it was resolved; none while it is open."""
        if self.resolved is None or user not in self.acknowledged:
            return 0.0
        return max(0.0, self.resolved[0] - self.acknowledged[user])

    def engaged_by_all(self) -> float:
        return sum(self.engaged(user) for user in self.acknowledged)

    def to_engage(self) -> float | None:
        """Seconds from the first who engaged to the last; only where there are several."""
        times = self.acknowledged.values()
        return max(times) - min(times) if len(self.acknowledged) > 1 else None

    def responders(self) -> list[int]:
        return list(dict.fromkeys((*(row.user for row in self.assigned), *self.acknowledged)))

    def moved(self, how: str) -> list[Assigned]:
        return [row for row in self.assigned if row.how == how]

    def interruptions(self, world: World, user: int | None = None) -> list[str]:
        """In which of their hours each was; of one person or of all."""
        return [
            hours_of(at, _zone(world.users[who]["time_zone"])) for who, at in self.interrupted if user in (None, who)
        ]


def hours_of(at: float, zone: ZoneInfo) -> str:
    """Business 08-18 on weekdays, sleep 22-08, off the rest. The night of a weekend is sleep."""
    local = dt.datetime.fromtimestamp(at, zone)
    if not 8 <= local.hour < 22:
        return "sleep"
    return "business" if local.hour < 18 and local.weekday() < 5 else "off"


_zone: Callable[[str], ZoneInfo] = lru_cache(maxsize=None)(ZoneInfo)


def measured(incident: Incident) -> Measures:
    found = Measures(resolved=incident.resolved)
    last: dict[int, float] = {}
    owner: int | None = None
    for kind, at, user, way in incident.steps() if incident.log is None else _logged(incident):
        if kind == "notify" and user is not None:
            found.notified.append(user)
            if way != "email" and at - last.get(user, -ONCE) >= ONCE:
                last[user] = at
                found.interrupted.append((user, at))
        elif user is not None and (kind == "escalate" or (kind == "assign" and user != owner)):
            how = "assigned" if owner is None else "reassigned"
            if kind == "escalate":
                how = "timeout_escalated" if way in ("auto", "timeout") else "manual_escalated"
            found.assigned.append(Assigned(user, at, how, owner))
            owner = user
        elif kind == "acknowledge" and user is not None:
            found.acknowledgements.append(user)
            found.acknowledged.setdefault(user, at)
        elif kind == "snooze":
            ends = parse_time(way) if found.resolved is None else min(parse_time(way), found.resolved[0])
            found.snoozed += max(0.0, ends - at)
    return found


def _logged(incident: Incident) -> Iterator[tuple[str, float, int | None, str]]:
    """The steps of a log that was written. The way of a snooze: until when."""
    for entry in incident.happenings():
        way = entry.channel.get("type", "")
        if entry.type == "notify":
            way = entry.channel.get("notification", {}).get("type", "").removesuffix("_notification")
        elif entry.type == "snooze":
            way = entry.channel.get("until", iso(entry.at))
        yield entry.type, entry.at, entry.agent, way


def is_major(incident: Incident, found: Measures) -> bool:
    """Of one of the two highest priorities, or acknowledged by several."""
    return (incident.priority is not None and incident.priority < MAJOR_PRIORITIES) or len(found.acknowledged) > 1
