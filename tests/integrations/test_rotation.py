"""The rotation engine against a renderer that walks minute by minute, and knows nothing of how the engine works."""

from __future__ import annotations

import datetime as dt
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.analysis.rotation import render

Document = dict[str, Any]
CASES = int(os.environ.get("PAGEWARDEN_ROTATION_CASES", "400"))
"""Random schedules. The bar is 10,000: ``PAGEWARDEN_ROTATION_CASES=10000 pytest -k minute`` on this file, some minutes."""
MINUTE, HOUR, DAY = 60, 3_600, 86_400
REACH = 52
"""Days of the clock that are walked before a change, and after: everything of a schedule lies in them."""
ZONES = (
    "America/New_York",
    "Europe/London",
    "Asia/Jerusalem",
    "Australia/Lord_Howe",  # by half an hour, in the south
    "America/Santiago",  # at midnight, in the south
    "Australia/Sydney",
    "Antarctica/Troll",  # by two hours
)
TURNS = (HOUR, 7 * HOUR, 8 * HOUR, 12 * HOUR, DAY, DAY, 36 * HOUR, 2 * DAY, 7 * DAY, 7 * DAY, 14 * DAY)


@dataclass(frozen=True)
class Change:
    """Of a clock: when, and what the clock shows at every minute around it."""

    zone: str
    at: int
    shown: dict[dt.datetime, int]
    """What it shows → the first instant at which it shows that."""

    def instant(self, local: dt.datetime) -> int:
        """Of what is never shown: as long after the last minute that was as if the clock had gone on."""
        past = 0
        while local not in self.shown:
            assert past < 3 * HOUR, "It is not among what was walked."
            local -= dt.timedelta(minutes=1)
            past += MINUTE
        return self.shown[local] + past

    def local(self, at: int) -> dt.datetime:
        return dt.datetime.fromtimestamp(at, ZoneInfo(self.zone)).replace(tzinfo=None)


@lru_cache
def changes() -> tuple[Change, ...]:
    """Every change of the zones' clocks in 2026."""
    found = []
    for name in ZONES:
        zone = ZoneInfo(name)
        hour = int(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp())
        for at in range(hour, hour + 365 * DAY, HOUR // 2):
            before, after = (dt.datetime.fromtimestamp(each, zone).utcoffset() for each in (at - HOUR // 2, at))
            if before == after:
                continue
            shown: dict[dt.datetime, int] = {}
            for minute in range(at - REACH * DAY, at + REACH * DAY, MINUTE):
                shown.setdefault(dt.datetime.fromtimestamp(minute, zone).replace(tzinfo=None), minute)
            found.append(Change(name, at, shown))
    return tuple(found)


def written(at: int, zone: str) -> str:
    return dt.datetime.fromtimestamp(at, ZoneInfo(zone)).isoformat()


def a_schedule(rng: random.Random, change: Change) -> Document:
    """As PagerDuty answers it: the layer that wins comes first."""
    whole = change.at // MINUTE * MINUTE

    def near(days: float, step: int = MINUTE) -> int:
        return whole + round(rng.uniform(-days, days) * DAY) // step * step

    def layer(number: int) -> Document:
        virtual = near(20, rng.choice((MINUTE, HOUR // 2, HOUR, DAY)))
        start = near(2) if rng.random() < 0.3 else rng.choice((virtual, near(20), whole - 20 * DAY))
        end = start + rng.randrange(1, 30 * DAY) // MINUTE * MINUTE if rng.random() < 0.2 else None
        people = [rng.choice("ABCDEF") for _ in range(rng.randint(1, 5))]
        kinds = rng.choice(((), (), (0,), (0, 0), (1,), (1, 1, 1), (0, 1)))
        return {
            "id": f"L{number}",
            "name": f"Layer {number}",
            "start": written(start, change.zone),
            "end": None if end is None else written(end, change.zone),
            "rotation_virtual_start": written(virtual, change.zone),
            "rotation_turn_length_seconds": rng.choice(TURNS),
            "users": [{"user": None if rng.random() < 0.03 else {"id": person}} for person in people],
            "restrictions": [restriction(weekly) for weekly in kinds],
        }

    def restriction(weekly: int) -> Document:
        clock = dt.time(rng.choice((0, 1, 2, 3, rng.randrange(24))), rng.choice((0, 15, 30, rng.randrange(60))))
        most = 7 * DAY if weekly else DAY
        found = {
            "type": "weekly_restriction" if weekly else "daily_restriction",
            "start_time_of_day": clock.isoformat(),
            "duration_seconds": rng.randrange(MINUTE, rng.choice((DAY // 2, most)), MINUTE),
        }
        return {**found, "start_day_of_week": rng.randint(1, 7)} if weekly else found

    def override(number: int) -> Document:
        start = near(1.5, 1)
        end = start + rng.randrange(1, DAY)
        user = {"id": rng.choice("ABCDEFGH")}
        return {"id": f"O{number}", "start": written(start, "UTC"), "end": written(end, "UTC"), "user": user}

    return {
        "id": "S",
        "type": "schedule",
        "name": "Random",
        "time_zone": change.zone,
        "schedule_layers": [layer(number) for number in range(rng.randint(1, 4))],
        "overrides": [override(number) for number in range(rng.choice((0, 0, 1, 2, 4)))],
    }


def walked(document: Document, change: Change, minutes: range) -> Iterator[tuple[str, str] | None]:
    """For each minute who is on call, and by which layer or override; None: nobody is in charge of it."""
    overrides = [
        (
            int(dt.datetime.fromisoformat(row["start"]).timestamp()),
            int(dt.datetime.fromisoformat(row["end"]).timestamp()),
            row,
        )
        for row in document["overrides"]
    ]
    layers = [Walk(row, change, minutes) for row in document["schedule_layers"]]
    for minute in minutes:
        last = [row for start, end, row in overrides if start <= minute < end]
        if last:
            yield last[-1]["user"]["id"], last[-1]["id"]
            continue
        there = ((layer.at(minute), layer.document["id"]) for layer in layers)
        yield next(((user, name) for user, name in there if user is not None), None)


class Walk:
    """Of one layer, which is asked for one minute after the other."""

    def __init__(self, document: Document, change: Change, minutes: range) -> None:
        self.document = document
        self.change = change
        self.start, virtual = (
            int(dt.datetime.fromisoformat(document[name]).timestamp()) for name in ("start", "rotation_virtual_start")
        )
        self.end = int(dt.datetime.fromisoformat(document["end"]).timestamp()) if document["end"] else minutes.stop
        self.virtual = change.local(virtual)
        self.turn = dt.timedelta(seconds=document["rotation_turn_length_seconds"])
        self.number = 0
        while self.handoff(self.number) > minutes.start:
            self.number -= 1
        # Three ahead where a clock skips two hours: turns of one hour are handed over in another order than they come.
        self.ahead = 3 if self.turn < dt.timedelta(hours=2) else 1
        self.number -= self.ahead
        self.look_ahead()
        self.allowed = self.windows(minutes)

    def handoff(self, number: int) -> int:
        return self.change.instant(self.virtual + number * self.turn)

    def look_ahead(self) -> None:
        self.coming = [(ahead, self.handoff(self.number + ahead)) for ahead in range(1, self.ahead + 1)]

    def windows(self, minutes: range) -> list[tuple[int, int]]:
        found = []
        day = self.change.local(minutes.start - 10 * DAY).replace(hour=0, minute=0)
        while day < self.change.local(minutes.stop + DAY):
            for row in self.document["restrictions"]:
                if row.get("start_day_of_week", day.isoweekday()) == day.isoweekday():
                    start = dt.datetime.combine(day.date(), dt.time.fromisoformat(row["start_time_of_day"]))
                    end = start + dt.timedelta(seconds=row["duration_seconds"])
                    found.append((self.change.instant(start), self.change.instant(end)))
            day += dt.timedelta(days=1)
        return [(start, end) for start, end in found if start < minutes.stop and end > minutes.start]

    def at(self, minute: int) -> str | None:
        while came := [ahead for ahead, at in self.coming if at <= minute]:
            self.number += came[-1]
            self.look_ahead()
        if not self.start <= minute < self.end:
            return None
        if self.document["restrictions"] and not any(start <= minute < end for start, end in self.allowed):
            return None
        users = self.document["users"]
        user = users[self.number % len(users)]["user"]
        return user["id"] if user else ""


def held_against_a_walk(document: Document, change: Change, minutes: range) -> None:
    slices = render(reading.schedule(document), Span(minutes.start, minutes.stop)).slices
    place = 0
    for minute, expected in zip(minutes, walked(document, change, minutes), strict=True):
        while place < len(slices) and slices[place].end <= minute:
            place += 1
        there = place < len(slices) and slices[place].start <= minute
        found = (slices[place].user, slices[place].source.id) if there else None
        assert found == expected, (written(minute, change.zone), document)


def test_the_engine_says_what_a_walk_minute_by_minute_finds() -> None:
    for case in range(CASES):
        rng = random.Random(f"rotation-{case}")
        change = rng.choice(changes())
        document = a_schedule(rng, change)
        start = change.at // MINUTE * MINUTE - rng.randrange(6 * HOUR, 2 * DAY, MINUTE)
        minutes = range(start, change.at + rng.randrange(6 * HOUR, 2 * DAY, MINUTE), MINUTE)
        held_against_a_walk(document, change, minutes)


@pytest.mark.parametrize("minute", [0, 10, 30, 50])
def test_turns_that_are_shorter_than_the_clocks_change_are_whose_handoff_came_last(minute: int) -> None:
    """At the Troll station the clock skips two hours: of turns of one hour, two handoffs in it come after others that follow."""
    for change in changes():
        if change.zone == "Antarctica/Troll":
            virtual = change.local(change.at - 5 * DAY).replace(minute=minute).isoformat() + "+00:00"
            layer = {
                "id": "L",
                "name": "Hours",
                "start": virtual,
                "end": None,
                "rotation_virtual_start": virtual,
                "rotation_turn_length_seconds": HOUR,
                "users": [{"user": {"id": user}} for user in "ABCDE"],
                "restrictions": [],
            }
            document = {
                "id": "S",
                "type": "schedule",
                "time_zone": change.zone,
                "schedule_layers": [layer],
                "overrides": [],
            }
            held_against_a_walk(document, change, range(change.at - 9 * HOUR, change.at + 9 * HOUR, MINUTE))


def test_the_clocks_that_are_walked_change_by_half_an_hour_by_two_and_in_the_south() -> None:
    moved: dict[str, set[float]] = {}
    for change in changes():
        before, after = (change.local(at) for at in (change.at - 2 * HOUR, change.at + 2 * HOUR))
        moved.setdefault(change.zone, set()).add((after - before).total_seconds() / HOUR - 4)
    assert moved.keys() == set(ZONES)
    assert moved["Australia/Lord_Howe"] == {0.5, -0.5}
    assert moved["Antarctica/Troll"] == {2, -2}
    assert all(len(each) == 2 for each in moved.values())
