"""A year of incidents and changes: when, where, who was paged for them, and who answered."""

from __future__ import annotations

import datetime as dt
import random
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

from integrations.pagerduty.sandbox import render_v3
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.world import (
    DAY,
    HOUR,
    NOUNS,
    SIZES,
    USUAL,
    Change,
    Incident,
    World,
    iso,
    number_id,
    reference,
)

YEAR: Final = 365 * DAY
RECENT: Final = 12 * HOUR
"""What happened in the last of it is still open."""
OPEN: Final = 25
"""Triggered, and as many acknowledged."""
HOURS: Final = (0.5,) * 6 + (0.8, 1.1) + (1.7,) * 10 + (1.1,) * 4 + (0.7,) * 2
"""How much happens in each hour of the day (UTC)."""
WEEKEND: Final = 0.45
# fmt: off
WEIGHTS: Final = {
    "checkout": 18, "payments-api": 5, "payments-db": 3, "refunds": 7, "query": 9, "indexer": 7, "suggest": 4,
    "gateway": 16, "scheduler": 1.2, "registry": 4, "push": 7, "ios-api": 6, "android-api": 4, "warehouse": 6, "etl": 7,
    "metrics": 5, "login": 8, "tokens": 4, "directory": 3,
}
# fmt: on
"""How much happens to a service; to any other, 1."""
PROBLEMS: Final = (
    ("disk / at {n}% on {s}-{h:02d}", "Rotated the logs and extended the volume."),
    ("p99 latency of {s} over {n}0 ms", "Scaled out by two nodes until the queue was empty."),
    ("error rate of {s} at {n}%", "Rolled the last release back."),
    ("queue of {s} holds {n}00 messages", "Restarted the consumers, which had lost their lease."),
    ("{s}-{h:02d} does not answer", "The node was replaced by the autoscaler."),
    ("certificate of {s} expires in {h} days", "Renewed the certificate by hand: the renewal job had no rights."),
    ("replication of {s} lags by {n} s", "Stopped the report that held a lock on the replica."),
)
"""What a monitor says, and what whoever resolved it wrote down."""
SOURCES: Final = ("deploys", "feature flags", "infrastructure", "database migrations")
NOTED: Final = {"summary": "The PagerDuty website or APIs"}
LADDER: Final = max(delay for _, delay, _ in USUAL) * 60 + 5
"""Seconds until the last notification of a level."""
LONGEST: Final = 2 * DAY
"""No incident of the generated year lasts longer, but for those that are open."""


class Rhythm:
    """How much is to be expected, by hour of the week and service. ``step``: from when on, and how many times as much."""

    def __init__(self, world: World, step: tuple[float, float] | None) -> None:
        self.start = world.now - YEAR
        self.step = step
        hours = [self.of(self.start + hour * HOUR) for hour in range(int((YEAR - RECENT) // HOUR))]
        self._hours = list(accumulate(hours))
        alike = world.kind == "null"
        self.weights = [
            0.0 if row["status"] == "disabled" else 1.0 if alike else WEIGHTS.get(NOUNS[place % len(NOUNS)], 1.0)
            for place, row in enumerate(world.services)
        ]
        self._services = list(accumulate(self.weights))

    def of(self, at: float) -> float:
        moment = dt.datetime.fromtimestamp(at, dt.UTC)
        weight = HOURS[moment.hour] * (WEEKEND if moment.weekday() > 4 else 1.0)
        return weight * self.step[1] if self.step and at >= self.step[0] else weight

    def is_after(self, at: float) -> bool:
        return self.step is not None and at >= self.step[0]

    def room(self, now: float, total: int, planted: list[float]) -> list[int]:
        """How many follow the rhythm before the step and after it, so that with what is planted and what is open there are
        ``total``, and the mean of a day rises by the step exactly."""
        if self.step is None:
            return [total - 2 * OPEN - len(planted), 0]
        begin, ratio = self.step
        before = round(total * (begin - self.start) / (begin - self.start + ratio * (now - begin)))
        early = sum(at < begin for at in planted)
        return [before - early, total - before - 2 * OPEN - len(planted) + early]

    def moment(self, rng: random.Random) -> float:
        hour = bisect_right(self._hours, rng.random() * self._hours[-1])
        return self.start + (hour + rng.random()) * HOUR

    def service(self, rng: random.Random) -> int:
        return bisect_right(self._services, rng.random() * self._services[-1])

    def expected(self, service: int, at: float, total: int) -> float:
        """How many of ``total`` in the hour that ``at`` begins."""
        return total * self.weights[service] / self._services[-1] * self.of(at) / self._hours[-1]


@dataclass(slots=True)
class Draft:
    """An incident to be. ``tag``: what it belongs to, of what is planted."""

    at: float
    service: int
    title: str
    urgency: str
    cure: str = ""
    tag: str = ""
    key: str = ""
    over_after: float = 0.0
    """Seconds until its monitor takes it back, unanswered; 0: somebody answers."""


class Roster:
    """Who is on call, at any time of the year."""

    def __init__(self, world: World) -> None:
        self._people = {user["id"]: place for place, user in enumerate(world.users)}
        since, until = world.now - YEAR - DAY, world.now + DAY
        self._shifts: dict[str, tuple[list[float], list[tuple[float, float, str]]]] = {}
        for schedule in world.schedules:
            shifts = final_shifts(schedule, since, until)
            self._shifts[schedule["id"]] = ([start for start, _, _ in shifts], shifts)
        for schedule in world.v3:
            shifts = sorted(render_v3.on_call(schedule, since, until))
            self._shifts[schedule["id"]] = ([start for start, _, _ in shifts], shifts)

    def person(self, target: str, at: float) -> int | None:
        if target not in self._shifts:
            return self._people.get(target)
        starts, shifts = self._shifts[target]
        found = bisect_right(starts, at) - 1
        # Of a shift-based schedule several can be on at once, and some slots are empty.
        for start, end, user in shifts[max(0, found - 5) : found + 1][::-1]:
            if start <= at < end and user:
                return self._people[user]
        return None

    def levels(self, policy: dict[str, Any], at: float) -> list[tuple[int, int, int]]:
        """Level, whom it pages, minutes until the next. A level with nobody on call is passed over."""
        found = []
        for level, rule in enumerate(policy["escalation_rules"], 1):
            for target in rule["targets"]:
                user = self.person(target["id"], at)
                if user is not None:
                    found.append((level, user, int(rule["escalation_delay_in_minutes"])))
                    break
        return found


def add_history(
    world: World, rhythm: Rhythm, drafts: Iterable[Draft], changes: Iterable[Change], *, slow: float
) -> dict[str, list[int]]:
    """``drafts``, ``changes``: what is planted. ``slow``: minutes that second levels take to answer; 0: no longer than others.
    Returns the places of the planted incidents by their tag."""
    size = SIZES[world.size]
    rng = random.Random(f"history-{world.seed}")
    roster = Roster(world)
    policies = {policy["id"]: policy for policy in world.policies}
    policy_of = [policies[service["escalation_policy"]["id"]] for service in world.services]
    rows = list(drafts)
    # After the step, if there is one, and before: how many are still to come.
    room = rhythm.room(world.now, size.incidents, [row.at for row in rows])
    while sum(room):
        at, service = rhythm.moment(rng), rhythm.service(rng)
        # Where nobody at all is on call, PagerDuty makes no incident.
        if room[side := rhythm.is_after(at)] and roster.levels(policy_of[service], at):
            rows.append(_draft(world, rng, at, service))
            room[side] -= 1
    rows.sort(key=lambda row: row.at)
    recent: list[Draft] = []
    while len(recent) < 2 * OPEN:
        at, service = world.now - 900 - rng.random() * (RECENT - 900), rhythm.service(rng)
        if roster.levels(policy_of[service], at):
            recent.append(_draft(world, rng, at, service))
    recent.sort(key=lambda row: row.at)
    stay = set(rng.sample(range(2 * OPEN), OPEN))
    tags: dict[str, list[int]] = defaultdict(list)
    people = [reference(user) for user in world.users]
    for number, row in enumerate([*rows, *recent]):
        incident = _incident(world, rng, number, row)
        levels = roster.levels(policy_of[row.service], row.at)
        if number >= len(rows):
            _still_open(world, rng, incident, levels, number - len(rows) in stay)
        else:
            _answered(world, rng, incident, levels, row, slow)
            at, user = incident.resolved or (0.0, None)
            if user is not None and rng.random() < 0.35:
                incident.notes.append(_note(incident, row.cure, at, people[user]))
        world.incidents.append(incident)
        world.services[row.service]["last_incident_timestamp"] = iso(row.at)
        if row.tag:
            tags[row.tag].append(number)
    _changes(world, rng, list(changes), size.changes)
    return dict(tags)


def _draft(world: World, rng: random.Random, at: float, service: int) -> Draft:
    text, cure = rng.choice(PROBLEMS)
    title = text.format(s=world.services[service]["name"], n=rng.randrange(11, 99), h=rng.randrange(1, 20))
    always = world.services[service]["incident_urgency_rule"]["urgency"]
    urgency = "high" if rng.random() < 0.7 else "low"
    return Draft(at, service, title, urgency if always == "severity_based" else always, cure)


def _incident(world: World, rng: random.Random, place: int, row: Draft) -> Incident:
    return Incident(
        place,
        number_id("PI", place, 6),
        row.service,
        row.title,
        row.urgency,
        row.at,
        row.key or f"{NOUNS[row.service % len(NOUNS)]}/{place}",
        priority=rng.randrange(5) if rng.random() < 0.3 else None,
        repeats=int(rng.expovariate(1 / 5.4)),
    )


def _reaction(world: World, rng: random.Random, user: int) -> float:
    """Seconds until somebody answers. Some are quicker than others, but where nothing is to be found."""
    own = 1.0 if world.kind == "null" else 0.8 + user % 5 / 10
    return 20 + rng.expovariate(1 / 200) * own


def _answered(
    world: World, rng: random.Random, incident: Incident, levels: list[tuple[int, int, int]], row: Draft, slow: float
) -> None:
    level, user, _ = levels[0]
    incident.path = ((0.0, level, user),)
    incident.assignee, incident.level = user, level
    if row.over_after:
        incident.resolved = (row.at + row.over_after, None)
        return
    if incident.urgency == "low":
        wait = min(60 + rng.expovariate(1 / 1500), 20 * HOUR)
    else:
        wait = _paged(world, rng, incident, levels, slow)
    answered = row.at + wait
    incident.acknowledged = (answered, incident.assignee)
    lasted = min(60 + rng.expovariate(1 / 2400), LONGEST - wait)
    done = min(answered + lasted, world.now - rng.randrange(60, 900))
    incident.resolved = (max(done, answered), incident.assignee if rng.random() < 0.6 else None)


def _paged(
    world: World, rng: random.Random, incident: Incident, levels: list[tuple[int, int, int]], slow: float
) -> float:
    """Level after level until somebody answers; returns after how many seconds. People who cannot be reached are not asked."""
    path, passed = [], 0.0
    for number, (level, user, delay) in enumerate(levels):
        path.append((passed, level, user))
        wait = _reaction(world, rng, user)
        if slow and level == 2:
            wait = max(600.0, rng.gauss(slow * 60, 150))
        last = number + 1 == len(levels) or levels[number + 1][1] in world.reached
        if last or (wait < delay * 60 and rng.random() > (0.2 if number == 0 or world.kind == "null" else 0.1)):
            passed += min(wait, delay * 60 - 5)
            break
        passed += delay * 60
    incident.path = tuple(path)
    incident.level, incident.assignee = path[-1][1], path[-1][2]
    return passed


def _still_open(
    world: World, rng: random.Random, incident: Incident, levels: list[tuple[int, int, int]], triggered: bool
) -> None:
    age = world.now - incident.created
    path, passed = [], 0.0
    for number, (level, user, delay) in enumerate(levels):
        if number and (incident.urgency == "low" or not triggered or passed + LADDER > age or user in world.reached):
            break
        path.append((passed, level, user))
        passed += delay * 60
    incident.path = tuple(path)
    incident.level, incident.assignee = path[-1][1], path[-1][2]
    incident.status = "triggered"
    if not triggered:
        incident.status = "acknowledged"
        wait = min(_reaction(world, rng, path[0][2]), 590.0)
        incident.acknowledged = (incident.created + wait, incident.assignee)


def _note(incident: Incident, cure: str, at: float, author: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"PN{incident.id[2:]}",
        "user": author,
        "channel": NOTED,
        "content": cure or "Over by itself before anybody could look.",
        "created_at": iso(at),
    }


def _changes(world: World, rng: random.Random, planted: list[Change], total: int) -> None:
    """The planted ones, and others in working hours that nothing follows from, on services that have no planted ones."""
    taken = {change.service for change in planted}
    free = [place for place in range(len(world.services)) if place not in taken]
    while len(planted) < total:
        at = world.now - rng.random() * (YEAR - DAY)
        moment = dt.datetime.fromtimestamp(at, dt.UTC)
        if 8 <= moment.hour < 18 and moment.weekday() < 5:
            planted.append(change(world, rng, rng.choice(free), at, rng.choice(SOURCES)))
    world.changes = sorted(planted, key=lambda row: (row.at, row.service))
    for place, row in enumerate(world.changes):
        row.place = place


def change(world: World, rng: random.Random, service: int, at: float, source: str) -> Change:
    deploy = f"{rng.getrandbits(40):010x}"
    return Change(0, service, at, f"{world.services[service]['name']}: {deploy[:7]} is live ({source})", source, deploy)
