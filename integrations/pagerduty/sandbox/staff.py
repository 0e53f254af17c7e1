"""Who works in the account, who is on call when, and who is paged after whom."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final

from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
    FIRST,
    HOUR,
    LAST,
    PRIORITIES,
    SITE,
    SIZES,
    TEAMS,
    ZONES,
    World,
    document,
    iso,
    number_id,
    reference,
)

BEGUN: Final = 400 * DAY
"""How long before the account's moment its rotations began."""
SUN: Final = (
    ("Australia/Sydney", 22),
    ("Asia/Kolkata", 3),
    ("Europe/London", 8),
    ("America/New_York", 13),
    ("America/Los_Angeles", 18),
)
"""Who works from when, by London's clock, where work follows the sun."""
HOME: Final = "Europe/London"
"""The clock by which the teams hand over."""
MEMBERS: Final = 20
"""The most that an event of a v3 schedule takes."""
LINES: Final = ("primary", "secondary", "third line", "fourth line")
POLICIES: Final = ("standard", "batch", "reports", "internal", "trials")
Restrictions = list[dict[str, Any]]


def name_of(place: int) -> str:
    first, last = FIRST[place % len(FIRST)], LAST[(place + place // len(FIRST)) % len(LAST)]
    number = place // (len(FIRST) * len(LAST))
    return f"{first} {last}" + (f" {number + 1}" if number else "")


def add_people(world: World) -> None:
    size = SIZES[world.size]
    rng = random.Random(f"people-{world.seed}")
    for place in range(size.teams):
        identifier = number_id("PTEAM", place, 2)
        name = TEAMS[place % len(TEAMS)] + (f" {place // len(TEAMS) + 1}" if place >= len(TEAMS) else "")
        world.teams.append(
            {
                **document("team", "teams", identifier, name),
                "name": name,
                "description": f"The {name} team",
                "default_role": "manager",
                "parent": None,
            }
        )
    world.members = [[] for _ in world.teams]
    roles = {0: "owner", 1: "admin", 5: "read_only_user", 11: "limited_user"}
    for place in range(size.users):
        # Where the zones would go round as the teams do, each team would have one.
        zone = place if size.teams % len(ZONES) else place + place // size.teams
        titles = ("Engineer", "Senior engineer", "Engineering manager")
        add_user(world, name_of(place), place % size.teams, ZONES[zone % len(ZONES)], rng.choice(titles))
        world.users[place]["role"] = roles.get(place, "user")
    for place, name in enumerate(PRIORITIES):
        identifier = number_id("PPRI", place, 3)
        world.priorities.append(
            {
                "id": identifier,
                "type": "priority",
                "summary": name,
                "self": f"{API}/priorities/{identifier}",
                "html_url": None,
                "name": name,
                "description": name,
                "order": 1 << (4 - place),
                "color": "a8171c",
            }
        )


def add_user(world: World, name: str, team: int, zone: str, title: str = "Engineer") -> int:
    place = len(world.users)
    world.members[team].append(place)
    world.users.append(
        {
            **document("user", "users", number_id("PUSR", place, 3), name),
            "name": name,
            "email": f"{name.replace(' ', '.')}@sandbox.example".lower(),
            "time_zone": zone,
            "color": "green",
            "avatar_url": f"{SITE}/avatar/{place}.png",
            "billed": True,
            "role": "user",
            "description": None,
            "invitation_sent": False,
            "job_title": title,
            "teams": [reference(world.teams[team])],
            "contact_methods": [],
            "notification_rules": [],
        }
    )
    return place


def able(world: World, team: int) -> list[int]:
    """Who of a team can be on call: stakeholders cannot."""
    return [user for user in world.members[team] if world.users[user]["role"] != "read_only_user"]


def crew_of(world: World, team: int) -> list[int]:
    """Who takes turns: one of each zone where there is one. The last of a team leads it, and takes none."""
    people = [user for user in able(world, team) if user != lead_of(world, team)]
    by_zone = {world.users[user]["time_zone"]: user for user in reversed(people)}
    return sorted(by_zone.values())


def lead_of(world: World, team: int) -> int:
    return world.members[team][-1]


def add_schedules(world: World) -> None:
    """All teams follow the sun; in the null world all take turns by the day. Nobody is on two of a team's lines at once."""
    size = SIZES[world.size]
    for place in range(size.schedules):
        team, line = place % size.teams, place // size.teams
        if world.kind == "null":
            # Of everybody, and so often that nobody has more of the year than another.
            rows: list[Layer] = [(turned(able(world, team)[:MEMBERS], line), DAY, [])]
        else:
            rows = following_the_sun(world, crew_of(world, team), line)
        add_schedule(world, f"{world.teams[team]['name']} {LINES[line]}", team, HOME, rows)


Layer = tuple[list[int], int, Restrictions]
"""People in order, seconds of a turn, restrictions."""


def turned(crew: Sequence[int], number: int) -> list[int]:
    number %= len(crew)
    return [*crew[number:], *crew[:number]]


def weekly(crew: list[int], line: int) -> list[Layer]:
    layers: list[Layer] = [(turned(crew, line), 7 * DAY, [])]
    if line == 0:
        # In step with the other lines, and as far from them as there are people.
        layers.append((turned(crew, 3), 7 * DAY, [week_part(6, "00:00:00", 2 * DAY)]))
    return layers


def following_the_sun(world: World, crew: list[int], line: int) -> list[Layer]:
    by_zone = {world.users[user]["time_zone"]: user for user in crew}
    awake = [(by_zone[zone], start) for zone, start in SUN if zone in by_zone]
    layers: list[Layer] = [(turned(crew, line), 7 * DAY, [])]
    for number, (_, start) in enumerate(awake):
        hours = (awake[(number + 1) % len(awake)][1] - start) % 24
        # The second line was the first a few hours ago.
        layers.append(([awake[(number - line) % len(awake)][0]], DAY, [day_part(f"{start:02d}:00:00", hours * HOUR)]))
    return layers


def day_part(start: str, seconds: int) -> dict[str, Any]:
    return {"type": "daily_restriction", "start_time_of_day": start, "duration_seconds": seconds}


def week_part(day: int, start: str, seconds: int) -> dict[str, Any]:
    """``day``: Monday is 1."""
    clock = {"start_time_of_day": start, "duration_seconds": seconds}
    return {"type": "weekly_restriction", "start_day_of_week": day, **clock}


def add_schedule(world: World, name: str, team: int, zone: str, rows: Sequence[Layer]) -> dict[str, Any]:
    place = len(world.schedules)
    identifier = number_id("PSCH", place, 3)
    schedule = {
        **document("schedule", "schedules", identifier, name, "schedules#"),
        "name": name,
        "time_zone": zone,
        "description": f"Who is on call for {world.teams[team]['name']}",
        "users": [],
        "escalation_policies": [],
        "teams": [reference(world.teams[team])],
        "schedule_layers": [],
        "overrides": [],
    }
    for people, turn, restrictions in rows:
        add_layer(world, schedule, place, people, turn, restrictions)
    world.schedules.append(schedule)
    return schedule


def add_layer(
    world: World, schedule: dict[str, Any], place: int, people: list[int], turn: int, restrictions: Restrictions
) -> None:
    start = iso(world.now - BEGUN)
    number = len(schedule["schedule_layers"])
    schedule["schedule_layers"].append(
        {
            "id": number_id("PLAY", place * 8 + number, 3),
            "name": f"Layer {number + 1}",
            "start": start,
            "end": None,
            "rotation_virtual_start": start,
            "rotation_turn_length_seconds": turn,
            "users": [{"user": reference(world.users[user])} for user in people],
            "restrictions": restrictions,
        }
    )
    known = {user["id"] for user in schedule["users"]}
    fresh = [user for user in dict.fromkeys(people) if world.users[user]["id"] not in known]
    schedule["users"] += [reference(world.users[user]) for user in fresh]


def add_policies(world: World) -> None:
    size = SIZES[world.size]
    for place in range(size.policies):
        team, variant = place % size.teams, place // size.teams
        lines = range(team, size.schedules, size.teams)
        lead = world.users[lead_of(world, team)]
        own = [world.schedules[row] for row in lines]
        levels = [own[0], own[1], lead]
        if variant == 1:
            levels = [own[1], own[0], own[2] if len(own) > 2 else lead]
        elif variant in (2, 3):
            levels = [own[min(variant, len(own) - 1)], own[0 if variant == 2 else 1], lead]
        if world.kind == "null":
            # No line stands always above another, and no person above all.
            levels = [own[row] for row in turned(range(len(own)), variant)]
        rules = [(delay, [level]) for delay, level in zip((10, 25, 15, 15), levels, strict=False)]
        add_policy(world, f"{world.teams[team]['name']} {POLICIES[variant]}", team, rules)


Rule = tuple[int, list[dict[str, Any]]]
"""Minutes until the next, targets."""


def add_policy(
    world: World, name: str, team: int, rules: Sequence[Rule], services: Sequence[int] = (), prefix: str = "PRUL"
) -> dict[str, Any]:
    """``services``: that go over to it. ``prefix``: of the ids of its rules."""
    place = len(world.policies)
    policy: dict[str, Any] = {
        **document("escalation_policy", "escalation_policies", number_id("PESC", place, 3), name),
        "name": name,
        "description": f"Who is woken for {world.teams[team]['name']}",
        "num_loops": 2,
        "on_call_handoff_notifications": "if_has_services",
        "escalation_rules": [
            {
                "id": number_id(prefix, place * (4 if prefix == "PRUL" else 32) + level, 7 - len(prefix)),
                "escalation_delay_in_minutes": delay,
                "targets": [reference(target) for target in targets],
                "escalation_rule_assignment_strategy": "assign_to_everyone",
            }
            for level, (delay, targets) in enumerate(rules)
        ],
        "services": [],
        "teams": [reference(world.teams[team])],
    }
    world.policies.append(policy)
    named = {target["id"] for _, targets in rules for target in targets}
    for schedule in world.schedules:
        if schedule["id"] in named:
            schedule["escalation_policies"].append(reference(policy))
    for service in services:
        move_service(world, service, policy)
    return policy


def move_service(world: World, place: int, policy: dict[str, Any]) -> None:
    service = world.services[place]
    for other in world.policies:
        other["services"] = [row for row in other["services"] if row["id"] != service["id"]]
    service["escalation_policy"] = reference(policy)
    policy["services"].append(reference(service))


def add_overrides(world: World) -> None:
    """Up to two a schedule, of four hours, near the account's moment: taken by whoever is on none of the team's lines then."""
    rng = random.Random(f"overrides-{world.seed}")
    size = SIZES[world.size]
    for place in range(size.schedules):
        schedule = world.schedules[place]
        team = place % size.teams
        lines = [world.schedules[row] for row in range(team, size.schedules, size.teams)]
        for number in range(2):
            begin = world.now + rng.randrange(-10, 10) * DAY + rng.randrange(24) * HOUR
            end = begin + 4 * HOUR
            busy = {user for line in lines for _, _, user in final_shifts(line, begin - HOUR, end + HOUR)}
            free = [user for user in schedule["users"] if user["id"] not in busy]
            if free:
                identifier = number_id("QOV", place * 8 + number, 5)
                schedule["overrides"].append(
                    {"id": identifier, "start": iso(begin), "end": iso(end), "user": dict(rng.choice(free))}
                )
