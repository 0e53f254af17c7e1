"""On-call times as a calendar (RFC 5545) for people's own calendar programs."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from icalendar import Calendar, Event

from policies.core.text import shown

AGAIN: Final = dt.timedelta(hours=1)
"""How often programs are asked to look again."""
LONGEST: Final = 200
"""Characters of a title."""


@dataclass(frozen=True)
class Shift:
    start: dt.datetime
    end: dt.datetime
    title: str
    told: str
    """A sentence below it."""
    of: str
    """Whose and on which schedule, by ids: with its start it makes the same event of it at every fetch."""


def calendar_of(name: str, shifts: Iterable[Shift], as_of: dt.datetime, host: str) -> bytes:
    """``host``: of the portal, which makes the events' names its own."""
    made = Calendar()
    made.add("prodid", "-//Pagewarden//On-call//EN")
    made.add("version", "2.0")
    made.add("method", "PUBLISH")
    made.add("x-wr-calname", shown(name, LONGEST))
    made.add("refresh-interval", AGAIN, parameters={"VALUE": "DURATION"})
    made.add("x-published-ttl", AGAIN)
    for shift in shifts:
        event = Event()
        named = hashlib.sha256(f"{shift.of} {int(shift.start.timestamp())}".encode()).hexdigest()[:32]
        event.add("uid", f"{named}@{host}")
        event.add("dtstamp", as_of)
        event.add("dtstart", shift.start.astimezone(dt.UTC))
        event.add("dtend", shift.end.astimezone(dt.UTC))
        event.add("summary", shown(shift.title, LONGEST))
        event.add("description", shown(shift.told, 1_000))
        # Whoever is on call may be busy or not: their calendar need not say so.
        event.add("transp", "TRANSPARENT")
        made.add_component(event)
    return bytes(made.to_ical())
