"""The generated v3 schedules, and the escalation policies that page by them."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox import render_v3
from integrations.pagerduty.sandbox.staff import BEGUN, HOME, MEMBERS, able
from integrations.pagerduty.sandbox.world import (
    DAY,
    HOUR,
    SITE,
    SIZES,
    TEAMS,
    World,
    document,
    iso,
    number_id,
    reference,
)

Row = dict[str, Any]

ZONES_OF: Final = ("America/Los_Angeles", "America/New_York", "Europe/London", "Asia/Kolkata")
"""Each schedule's own zone; four of the five change their clocks."""
SUN: Final = (("Australia/Sydney", "07:00", 10), ("Europe/London", "06:00", 10), ("America/New_York", "10:00", 7))
"""Zone, local start, hours: with every clock of the year they meet or overlap, so nobody's sunset leaves a gap."""


def long_id(world: World, kind: str) -> str:
    """The next id of 26 characters, as the parts of v3 schedules have."""
    return world.next_id(kind.ljust(20, "0"))


def add_rotas(world: World) -> None:
    """Four v3 schedules, each paged by a policy of its own that a service of the team uses; one has an empty slot.

    In the null world each is its team's first line again, in three rotations of eight hours."""
    rng = random.Random(f"rotas-{world.seed}")
    for place, zone in enumerate(ZONES_OF):
        identifier = number_id("PV3S", place, 3)
        name = f"{TEAMS[place]} rota"
        schedule: Row = {
            **document("schedule_v3", "v3/schedules", identifier, name, "schedules"),
            "name": name,
            "time_zone": zone,
            "description": f"Shifts of {TEAMS[place]}",
            "http_cal_url": f"{SITE}/private/{rng.getrandbits(256):064x}/feed/{identifier}",
            "teams": [reference(world.teams[place])],
            "rotations": [],
            "custom_shifts": [],
            "overrides": [],
        }
        world.v3.append(schedule)
        crew = [world.users[user]["id"] for user in able(world, place)[:MEMBERS]]
        if world.kind == "null":
            _by_thirds(world, schedule, crew)
        else:
            (_weekly, _office_and_nights, _follow_the_sun, _daily)[place](world, schedule, crew)
        if place == 0:
            _swap(world, schedule, crew)
        elif place == 3:
            _custom_shift(world, schedule, crew)
        _page_by(world, schedule, place)


def _by_thirds(world: World, schedule: Row, crew: list[str]) -> None:
    """Turns of a day that begin when those of the team's v2 schedules do, so that nobody is on two lines at once."""
    begun = dt.datetime.fromtimestamp(world.now - BEGUN, ZoneInfo(HOME))
    schedule["time_zone"] = HOME
    for third in range(3):
        start = begun.replace(tzinfo=None) + dt.timedelta(hours=8 * third)
        rotation, day = add_rotation(world, schedule), begun.weekday() + (start.date() - begun.date()).days
        clock = start.time().isoformat()
        _event(world, rotation, f"Third {third + 1}", HOME, clock, 8, "FREQ=DAILY", crew, day=day)


def _weekly(world: World, schedule: Row, crew: list[str]) -> None:
    rotation = add_rotation(world, schedule)
    _event(world, rotation, "Weekly", schedule["time_zone"], "09:00", 7 * 24, "FREQ=WEEKLY", crew)


def _office_and_nights(world: World, schedule: Row, crew: list[str]) -> None:
    zone, half = schedule["time_zone"], len(crew) // 2
    office, nights = add_rotation(world, schedule), add_rotation(world, schedule)
    _event(world, office, "Weekdays", zone, "09:00", 8, "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR", crew[:half], 5)
    _event(world, nights, "Weeknights", zone, "17:00", 16, "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH", crew[half:], 4)
    _event(world, nights, "Weekend", zone, "17:00", 64, "FREQ=WEEKLY;BYDAY=FR", crew[half:], day=4)


def _follow_the_sun(world: World, schedule: Row, crew: list[str]) -> None:
    for place, (zone, start, hours) in enumerate(SUN):
        _event(
            world,
            add_rotation(world, schedule),
            zone.partition("/")[2],
            zone,
            start,
            hours,
            "FREQ=DAILY",
            crew[place::3],
            7,
        )


def _daily(world: World, schedule: Row, crew: list[str]) -> None:
    zone = schedule["time_zone"]
    # A defect, for those worlds that have any.
    members = crew[:4] if world.kind in ("clean", "null") else [*crew[:4], ""]
    _event(world, add_rotation(world, schedule), "Daily", zone, "10:00", 24, "FREQ=DAILY", members)
    _event(world, add_rotation(world, schedule), "Handover", zone, "10:00", 1, "FREQ=WEEKLY;BYDAY=MO", crew[:3], 0)


def _custom_shift(world: World, schedule: Row, crew: list[str]) -> None:
    """Of somebody who is not on call then: in three days."""
    begin = world.now + 3 * DAY
    on_call = [user for _, _, user in render_v3.on_call(schedule, begin, begin + 1)]
    user = _another(crew, on_call[0] if on_call else "")
    identifier = long_id(world, "CSH")
    schedule["custom_shifts"].append(
        {
            "id": identifier,
            "type": "custom_shift",
            "start_time": iso(begin),
            "end_time": iso(begin + 6 * HOUR),
            "assignments": [{"id": long_id(world, "SAS"), "type": "shift_assignment", "member": member(user)}],
            "self": f"{schedule['self']}/custom_shifts/{identifier}",
            "html_url": schedule["html_url"],
        }
    )


def _swap(world: World, schedule: Row, crew: list[str]) -> None:
    """Tomorrow somebody else takes eight hours of the shift."""
    rotation = schedule["rotations"][0]["id"]
    ahead = render_v3.slots(schedule, world.now + DAY, world.now + 3 * DAY)
    begin, _, on_call, _ = next(slot for slot in ahead if slot.source["rotation_id"] == rotation)
    identifier = long_id(world, "OVR")
    schedule["overrides"].append(
        {
            "id": identifier,
            "type": "override_shift",
            "rotation_id": rotation,
            "start_time": iso(begin),
            "end_time": iso(begin + 8 * HOUR),
            "overridden_member": member(on_call),
            "overriding_member": member(_another(crew, on_call)),
            "self": f"{schedule['self']}/overrides/{identifier}",
            "html_url": schedule["html_url"],
        }
    )


def _another(crew: list[str], user: str) -> str:
    """Who is on no line of a team while somebody of it is on the first: its next lines are of those who come next."""
    return crew[((crew.index(user) if user in crew else 0) + 3) % len(crew)]


def member(user: str) -> Row:
    return {"type": "user_member", "user_id": user} if user else {"type": "empty_member"}


def add_rotation(world: World, schedule: Row) -> Row:
    """An empty rotation. ``gone``: whether it was deleted; what it did before stays in the schedule's past."""
    identifier = long_id(world, "ROT")
    rotation: Row = {
        "id": identifier,
        "type": "schedule_rotation",
        "self": f"{schedule['self']}/rotations/{identifier}",
        "html_url": schedule["html_url"],
        "events": [],
        "gone": False,
    }
    schedule["rotations"].append(rotation)
    return rotation


def _event(
    world: World,
    rotation: Row,
    name: str,
    zone: str,
    clock: str,
    hours: int,
    rule: str,
    people: list[str],
    turns: int = 1,
    day: int = 0,
) -> None:
    """``turns``: shifts in a row of one member; 0: all of them at once. ``day``: of the week that it begins in, Monday 0."""
    year_ago = dt.datetime.fromtimestamp(world.now - 400 * DAY, ZoneInfo(zone)).date()
    monday = year_ago - dt.timedelta(days=year_ago.weekday())
    start = dt.datetime.combine(monday + dt.timedelta(days=day), dt.time.fromisoformat(clock))
    begin, end = (moment.replace(tzinfo=ZoneInfo(zone)) for moment in (start, start + dt.timedelta(hours=hours)))
    identifier = long_id(world, "EVT")
    strategy: Row = {"type": "every_member_assignment_strategy" if not turns else "rotating_member_assignment_strategy"}
    if turns:
        strategy["shifts_per_member"] = turns
    rotation["events"].append(
        {
            "id": identifier,
            "type": "schedule_event",
            "name": name,
            "start_time": {"date_time": begin.isoformat(), "time_zone": zone},
            "end_time": {"date_time": end.isoformat(), "time_zone": zone},
            "effective_since": iso(begin.timestamp()),
            "effective_until": None,
            "recurrence": [f"RRULE:{rule}"],
            "assignment_strategy": {**strategy, "members": [member(user) for user in people]},
            "self": f"{rotation['self']}/events/{identifier}",
            "html_url": rotation["html_url"],
            "gone": False,
        }
    )


def _page_by(world: World, schedule: Row, team: int) -> None:
    """A policy that pages the schedule, then somebody of the next team; the team's last service goes over to it."""
    place = len(world.policies)
    identifier = number_id("PESC", place, 3)
    name = f"{TEAMS[team]} by shifts"
    if world.kind == "null":
        second = world.schedules[team + SIZES[world.size].teams]
    else:
        # Of another team: nobody is on both levels at once.
        second = world.users[able(world, (team + 1) % len(TEAMS))[0]]
    policy: Row = {
        **document("escalation_policy", "escalation_policies", identifier, name),
        "name": name,
        "description": f"Who is woken for {TEAMS[team]}, by its shifts",
        "num_loops": 2,
        "on_call_handoff_notifications": "if_has_services",
        "escalation_rules": [
            {
                "id": number_id("PRUL", place * 4 + level, 3),
                "escalation_delay_in_minutes": 20,
                "targets": [reference(target)],
                "escalation_rule_assignment_strategy": "assign_to_everyone",
            }
            for level, target in enumerate((schedule, second))
        ],
        "services": [],
        "teams": [reference(world.teams[team])],
    }
    world.policies.append(policy)
    mine = [
        row for row in world.services if any(row_team["id"] == world.teams[team]["id"] for row_team in row["teams"])
    ]
    if len(mine) > 1:
        service = mine[-1]
        before = next(row for row in world.policies if row["id"] == service["escalation_policy"]["id"])
        before["services"] = [row for row in before["services"] if row["id"] != service["id"]]
        service["escalation_policy"] = reference(policy)
        policy["services"].append(reference(service))
