"""What is planted into the demo world: defects of its configuration, patterns in its year. And the truth about it, with ids.

The clean world is the same account with nothing of this; the null world has not even people and services that differ.
"""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.estate import CHAIN, CIRCLE, LEANING, STRANGERS, place_of
from integrations.pagerduty.sandbox.history import OPEN, RECENT, YEAR, Draft, Rhythm, change
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.staff import (
    BEGUN,
    Layer,
    add_layer,
    add_policy,
    add_schedule,
    add_user,
    crew_of,
    day_part,
    lead_of,
    turned,
    week_part,
    weekly,
)
from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
    HOUR,
    METHODS,
    SITE,
    SIZES,
    TEAMS,
    ZONES,
    Change,
    Incident,
    Ladder,
    World,
    iso,
)

Row = dict[str, Any]
KINDS: Final = frozenset({"demo", "plan_gated", "hostile"})
"""The worlds with something planted."""
PRIYA: Final = 0
SHARE: Final = 0.46
"""Of all pages in sleep hours."""
SLOW: Final = 18.0
"""Minutes until a second level answers."""
STEP: Final = 1.6
SPIKE: Final = 4
EPISODES, FALLS, SILENT, LINKS = 9, 7, 2, 12
ALONE: Final = (
    *(("Payments", 4), ("Payments", 5), ("Search", 3), ("Search", 4), ("Search", 5), ("Platform", 3)),
    *(("Platform", 4), ("Mobile", 3), ("Mobile", 4), ("Mobile", 5), ("Data", 3), ("Data", 4), ("Data", 5)),
    *(("Data", 6), ("Identity", 3), ("Identity", 4), ("Identity", 5)),
)
"""Quiet services (team, number in the team) that go over to defective policies."""
TWINS: Final = (
    ("payments-api", "connection pool exhausted: reads wait", "connection pool exhausted: writes wait"),
    ("warehouse", "nightly backup began late", "nightly backup ended late"),
    ("refunds", "queue refunds-in grows without end", "queue refunds-out grows without end"),
    ("login", "logins succeed less often than usual", "logins succeed more often than usual"),
    ("gateway", "certificate of the gateway is not yet valid", "certificate of the gateway is no longer valid"),
    ("query", "processor load of the query nodes above its limit", "processor load of the query nodes below its limit"),
)
"""Service, and two titles that mean two things."""
UNREACHED: Final[tuple[tuple[str, str, tuple[str, ...], tuple[Ladder, ...]], ...]] = (
    ("Olga Novak", "no_contact_method", (), ()),
    (
        "Bilal Aziz",
        "email_only",
        ("email",),
        (("email", 0, "high"), ("email", 5, "high"), ("email", 0, "low")),
    ),
    (
        "Carmen Diaz",
        "no_phone",
        ("email", "push"),
        (("push", 0, "high"), ("email", 0, "high"), ("push", 5, "high"), ("email", 0, "low")),
    ),
    ("Dmitri Orlov", "no_high_urgency_rule", ("email", "phone", "sms", "push"), (("email", 0, "low"),)),
    (
        "Esi Mensah",
        "one_notification_rule",
        ("email", "phone", "sms", "push"),
        (("phone", 0, "high"), ("email", 0, "low")),
    ),
    (
        "Fumiko Abe",
        "no_notification_delay",
        ("email", "phone", "sms", "push"),
        (("email", 0, "high"), ("push", 0, "high"), ("sms", 0, "high"), ("phone", 0, "high"), ("email", 0, "low")),
    ),
)
"""Name, rule, contact methods, notification rules: each wrong in one way."""
IMPLIED: Final = {
    "no_contact_method": ["no_phone", "no_high_urgency_rule", "one_notification_rule", "no_notification_delay"],
    "email_only": ["no_phone"],
    "no_high_urgency_rule": ["one_notification_rule", "no_notification_delay"],
    "one_notification_rule": ["no_notification_delay"],
}
"""What else is then true of the same user."""
LATE: Final[tuple[Ladder, ...]] = (
    ("push", 0, "high"),
    ("sms", 5, "high"),
    ("phone", 20, "high"),
    ("email", 0, "low"),
)
"""Notification rules of which the last is due when an incident has gone on."""


# Configuration


def spoil_nights(world: World) -> None:
    """Priya takes every night of her team's primary schedule, and no turn of any other: the team takes turns by the week."""
    size = SIZES[world.size]
    crew = [user for user in crew_of(world, 0) if user != PRIYA]
    for line, place in enumerate(range(0, size.schedules, size.teams)):
        schedule = world.schedules[place]
        schedule |= {"time_zone": ZONES[0], "schedule_layers": [], "users": []}
        for people, turn, restrictions in weekly(crew, line):
            add_layer(world, schedule, place, people, turn, restrictions)
    add_layer(world, world.schedules[0], 0, [PRIYA], DAY, [day_part("22:00:00", 10 * HOUR)])


def add_defects(world: World) -> None:
    """One of each kind, on policies, schedules, users and services of their own."""
    slots = iter(_slots(world))
    defects: list[Row] = []

    def defect(rule: str, policy: Row | None = None, **more: Any) -> None:
        named = {} if policy is None else {"escalation_policy_id": policy["id"], "name": policy["name"]}
        defects.append({"rule": rule, **named, **more})

    def own(name: str, rules: Callable[[int], list[tuple[int, list[Row]]]]) -> Row:
        service = next(slots)
        team = _team(world, service)
        return add_policy(world, name, team, rules(team), [service], prefix="PRL")

    def line(team: int, number: int) -> Row:
        return world.schedules[team + number * SIZES[world.size].teams]

    def lead(team: int) -> Row:
        return world.users[leads[team]]

    def crew(team: int, skip: int = 0) -> list[int]:
        """Of the next team: nobody of it is on the other levels."""
        return turned(crews[(team + 1) % len(crews)], skip)

    def usual(team: int, *delays: int) -> list[tuple[int, list[Row]]]:
        return list(zip(delays or (10, 25, 15), [[line(team, 0)], [line(team, 1)], [lead(team)]], strict=True))

    crews = [[user for user in crew_of(world, team) if user != PRIYA] for team in range(len(world.teams))]
    leads = [lead_of(world, team) for team in range(len(world.teams))]

    # Every Sunday, 02:00 to 06:00 in London, nobody is on either level.
    sunday = [week_part(7, "06:00:00", 7 * DAY - 4 * HOUR)]

    def weekly_gap(team: int) -> list[tuple[int, list[Row]]]:
        rows = [[(crew(team, number), 7 * DAY, sunday)] for number in range(2)]
        made = [
            add_schedule(world, f"Settlement {what}", team, "Europe/London", row)
            for what, row in zip(("first", "second"), rows, strict=True)
        ]
        return [(10, [made[0]]), (25, [made[1]])]

    policy = own("Settlement", weekly_gap)
    defect("nobody_on_call", policy, gap="sunday", implies=["level_gap"])

    # London hands over to New York by two clocks; in the weeks between their changes an hour is missing.
    def by_two_clocks(team: int) -> list[tuple[int, list[Row]]]:
        levels = []
        london, york = _of_zone(world, "Europe/London"), _of_zone(world, "America/New_York")
        for number, what in enumerate(("first", "second")):
            day: list[Layer] = [(london[number::2], 7 * DAY, [day_part("08:00:00", 12 * HOUR)])]
            night: list[Layer] = [(york[number::2], 7 * DAY, [day_part("15:00:00", 12 * HOUR)])]
            targets = [
                add_schedule(world, f"London days {what}", team, "Europe/London", day),
                add_schedule(world, f"New York nights {what}", team, "America/New_York", night),
            ]
            levels.append((15 if number == 0 else 20, targets))
        return levels

    policy = own("Around the clock", by_two_clocks)
    defect("nobody_on_call", policy, gap="clock_change", implies=["level_gap"])

    def covered_gap(team: int) -> list[tuple[int, list[Row]]]:
        holes = [week_part(6, "14:00:00", 7 * DAY - 4 * HOUR)]
        made = add_schedule(world, "Weekday desk", team, "America/New_York", [(crew(team), 7 * DAY, holes)])
        return [(10, [made]), (25, [line(team, 0)]), (15, [lead(team)])]

    policy = own("Desk first", covered_gap)
    defect("level_gap", policy, gap="covered")
    defect("single_level", own("Only once", lambda team: [(10, [line(team, 0)])]))

    def one_person(team: int) -> list[tuple[int, list[Row]]]:
        user = crew(team)[0]
        made = add_schedule(world, "All by one", team, "Europe/London", [([user], 7 * DAY, [])])
        return [(10, [made]), (25, [world.users[user]])]

    defect("one_person", own("One for all", one_person), implies=["same_person"])

    def same_person(team: int) -> list[tuple[int, list[Row]]]:
        made = [
            add_schedule(world, f"In step {what}", team, "Europe/London", [(crew(team), 7 * DAY, [])])
            for what in ("first", "second")
        ]
        return [(10, [made[0]]), (25, [made[1]]), (15, [lead(team)])]

    defect("same_person", own("In step", same_person))
    policy = own("Never again", usual)
    policy["num_loops"] = 0
    defect("no_repeat", policy)
    defect("long_delay", own("Slow to pass on", lambda team: usual(team, 45, 25, 15)), minutes=45)
    policy = own("Quick to pass on", lambda team: usual(team, 1, 25, 15))
    defect("short_delay", policy, minutes=1, implies=["ladder_beyond_delay"])
    direct = own("Straight to one", lambda team: [(10, [lead(team)]), (25, [line(team, 0)]), (15, [line(team, 1)])])
    defect("user_at_first_level", direct)
    gone = {
        "id": "PUSRGONE",
        "type": "user",
        "summary": "Gwen Ito",
        "self": f"{API}/users/PUSRGONE",
        "html_url": f"{SITE}/users/PUSRGONE",
    }
    policy = own("Left behind", lambda team: [(10, [line(team, 0)]), (25, [gone]), (15, [lead(team)])])
    defect("deleted_target", policy, user_id=gone["id"], implies=["level_gap"])

    def unreached(team: int) -> list[tuple[int, list[Row]]]:
        rules = [(10, [line(team, 0)])]
        for name, _, methods, ladder in UNREACHED:
            place = add_user(world, name, team, ZONES[len(rules) % len(ZONES)])
            world.reached[place] = (methods, ladder)
            rules.append((15, [world.users[place]]))
        return rules

    policy = own("Hard to reach", unreached)
    for place, (name, rule, _, _) in zip(world.reached, UNREACHED, strict=True):
        defect(rule, policy, user_id=world.users[place]["id"], user=name, implies=IMPLIED.get(rule, []))
    service = world.services[next(slots)]
    service["incident_urgency_rule"] = {"type": "constant", "urgency": "low"}
    policy = next(row for row in world.policies if row["id"] == service["escalation_policy"]["id"])
    defect("low_urgency_levels", policy, service_id=service["id"])

    def many(team: int) -> list[tuple[int, list[Row]]]:
        others = [user for number, row in enumerate(crews) if number != team for user in row][:20]
        return [(10, [line(team, 0)]), *((6, [world.users[user]]) for user in others)]

    policy = own("Everybody in turn", many)
    defect("too_many_levels", policy, levels=len(policy["escalation_rules"]))

    def in_turn(team: int) -> list[tuple[int, list[Row]]]:
        hours = [day_part("06:00:00", 18 * HOUR)]
        made = add_schedule(world, "Awake hours", team, "Asia/Kolkata", [(crew(team), 7 * DAY, hours)])
        whole = add_schedule(world, "All hours", team, "Asia/Kolkata", [(crew(team, 2), 7 * DAY, [])])
        return [(10, [made, whole]), (25, [line(team, 0)]), (15, [lead(team)])]

    policy = own("Each in turn", in_turn)
    policy["escalation_rules"][0]["escalation_rule_assignment_strategy"] = "round_robin"
    hours = policy["escalation_rules"][0]["targets"][0]
    defect("round_robin_gap", policy, schedule_id=hours["id"])
    policy = own("Nobody's own", usual)
    policy["teams"] = []
    defect("team_count", policy)
    service = world.services[next(slots)]
    service["status"] = "disabled"
    defect("service_disabled", service_id=service["id"], name=service["name"])
    policy = add_policy(world, "Kept for later", 1, usual(1), prefix="PRL")
    policy["on_call_handoff_notifications"] = "always"
    defect("policy_without_service", policy)
    policy = add_policy(world, "Forgotten", 2, usual(2), prefix="PRL")
    defect("handoff_notifications_unused", policy, implies=["policy_without_service"])
    made = add_schedule(world, "Nobody's rota", 3, "Europe/London", [(crew(3), 7 * DAY, [])])
    defect("schedule_without_policy", schedule_id=made["id"], name=made["name"])
    # The rest is of policies that no service uses, so that nobody is paged otherwise than without them.

    def unused(name: str, team: int, rules: list[tuple[int, list[Row]]]) -> Row:
        policy = add_policy(world, name, team, rules, prefix="PRL")
        policy["on_call_handoff_notifications"] = "always"
        return policy

    short = [week_part(7, "12:00:00", 7 * DAY - 6 * HOUR)]
    made = add_schedule(world, "Last resort", 0, "Europe/London", [(crew(0), 7 * DAY, short)])
    policy = unused("Runs out", 0, [(10, [line(0, 0)]), (25, [line(0, 1)]), (15, [made])])
    policy["num_loops"] = 0
    defect("empty_last_level", policy, level=3, implies=["no_repeat", "level_gap", "policy_without_service"])
    policy = unused("As it came", 1, usual(1, 30, 30, 30))
    defect("default_delay", policy, minutes=30, implies=["policy_without_service"])
    late, invited = (add_user(world, name, 4, "Europe/London") for name in ("Greta Holm", "Hugo Lind"))
    world.reached[late] = (METHODS, LATE)
    policy = unused("Cut short", 4, [(10, [line(4, 0)]), (15, [world.users[late]]), (15, [lead(4)])])
    defect("ladder_beyond_delay", policy, level=2, user_id=world.users[late]["id"], implies=["policy_without_service"])
    world.users[invited]["invitation_sent"] = True
    policy = unused("Not here yet", 4, [(10, [line(4, 0)]), (15, [world.users[invited]]), (15, [lead(4)])])
    defect("invitation_pending", policy, user_id=world.users[invited]["id"], implies=["policy_without_service"])
    for schedule in world.v3:
        if "empty_member" in str(schedule["rotations"]):
            defect("empty_slot", schedule_id=schedule["id"], name=schedule["name"], implies=["level_gap"])
    world.planted["policy_defects"] = defects


def _slots(world: World) -> list[int]:
    """Places of services that defects may take: in a big account, one of each of as many teams."""
    size = SIZES[world.size]
    first = [-(-team * size.services // size.teams) for team in range(size.teams)]
    if size.teams > len(TEAMS):
        return [first[6 + number] + 3 for number in range(len(ALONE) + 2)]
    return [first[TEAMS.index(team)] + number for team, number in ALONE]


def _team(world: World, service: int) -> int:
    size = SIZES[world.size]
    return service * size.teams // size.services


def _of_zone(world: World, zone: str) -> list[int]:
    return [
        place
        for place, user in enumerate(world.users)
        if user["time_zone"] == zone and user["role"] == "user" and place not in world.reached
    ][:6]


def note_gaps(world: World) -> None:
    """When nobody is on call, and when only the second level is: of the past year and the coming one."""
    since, until = world.now - YEAR, world.now + BEGUN
    gaps = []
    for row in world.planted["policy_defects"]:
        if "gap" not in row:
            continue
        policy = next(one for one in world.policies if one["id"] == row["escalation_policy_id"])
        levels = [_covered(world, rule, since, until) for rule in policy["escalation_rules"]]
        spans = _missing(
            levels[0] if row["gap"] == "covered" else [span for level in levels for span in level], since, until
        )
        gaps.append(
            {
                "what": row["gap"],
                "escalation_policy_id": policy["id"],
                "effective": row["gap"] != "covered",
                "times": [{"start": iso(low), "end": iso(high)} for low, high in spans],
            }
        )
    world.planted["coverage_gaps"] = gaps


def _covered(world: World, rule: Row, since: float, until: float) -> list[tuple[float, float]]:
    schedules = {schedule["id"]: schedule for schedule in world.schedules}
    spans: list[tuple[float, float]] = []
    for target in rule["targets"]:
        schedule = schedules.get(target["id"])
        shifts = [] if schedule is None else final_shifts(schedule, since, until)
        spans += [(since, until)] if schedule is None else [(start, end) for start, end, _ in shifts]
    return spans


def _missing(spans: Iterable[tuple[float, float]], since: float, until: float) -> list[tuple[float, float]]:
    found, at = [], since
    for low, high in sorted(spans):
        if low > at:
            found.append((at, low))
        at = max(at, high)
    return [*found, (at, until)] if at < until else found


def note_dependencies(world: World) -> None:
    def ids(names: Iterable[str]) -> list[str]:
        return [world.services[place_of(name)]["id"] for name in names]

    world.planted["dependencies"] = {
        "cycle": ids(CIRCLE),
        "single_point_of_failure": {"service_id": ids(["tokens"])[0], "cuts_off": ids(LEANING)},
        "undocumented": dict(zip(("dependent_service_id", "supporting_service_id"), ids(STRANGERS), strict=True)),
    }


# Patterns of the year


def step_of(world: World) -> tuple[float, float]:
    """From when on there is how many times as much: the first midnight (UTC) of the eighth month."""
    return (world.now - YEAR + 7 / 12 * YEAR) // DAY * DAY, STEP


def patterns(world: World, rhythm: Rhythm) -> tuple[list[Draft], list[Change]]:
    rng = random.Random(f"planted-{world.seed}")
    drafts = [*_flapping(world, rng), *_cascades(world, rng), *_strangers(world, rng), *_twins(world, rng)]
    spikes, deploys = _spikes(world, rng, rhythm, SIZES[world.size].incidents - 2 * OPEN - len(drafts))
    return drafts + spikes, deploys + _decoys(world, rng)


def _times(world: World, rng: random.Random, number: int) -> list[float]:
    """Moments, one in each of as many parts of the year, so that none is near another."""
    part = (YEAR - RECENT - 4 * DAY) / number
    return [world.now - YEAR + 2 * DAY + part * (place + 0.15 + 0.7 * rng.random()) for place in range(number)]


def _flapping(world: World, rng: random.Random) -> list[Draft]:
    drafts = []
    for number, start in enumerate(_times(world, rng, EPISODES)):
        cycles = rng.randint(6, 12)
        for cycle in range(cycles):
            at = start + cycle * 3300 / cycles
            title = f"volume /var/lib/warehouse is {rng.randrange(89, 97)}% full"
            over = rng.uniform(60, 150)
            drafts.append(
                Draft(at, place_of("warehouse"), title, "high", "", f"flapping/{number}", "warehouse/volume", over)
            )
    return drafts


def _cascades(world: World, rng: random.Random) -> list[Draft]:
    silent = set(rng.sample(range(FALLS), SILENT))
    checkout, api, base = CHAIN
    drafts = []
    for number, start in enumerate(_times(world, rng, FALLS)):
        rows = [
            (base, 0.0, "payments-db refuses connections"),
            (api, rng.uniform(50, 130), "payments-api answers 503 to every third call"),
            (checkout, rng.uniform(150, 260), "checkout fails for one customer in three"),
        ]
        for name, after, title in rows[1 if number in silent else 0 :]:
            drafts.append(
                Draft(start + after, place_of(name), title, "high", "Failed over.", f"cascade/{number}/{name}")
            )
    return drafts


def _strangers(world: World, rng: random.Random) -> list[Draft]:
    upper, lower = STRANGERS
    drafts = []
    for number, start in enumerate(_times(world, rng, LINKS)):
        drafts.append(Draft(start, place_of(lower), f"{lower} times out", "high", "", f"undocumented/{number}/{lower}"))
        after = start + rng.uniform(60, 200)
        drafts.append(
            Draft(after, place_of(upper), f"{upper} has no answers", "high", "", f"undocumented/{number}/{upper}")
        )
    return drafts


def _twins(world: World, rng: random.Random) -> list[Draft]:
    drafts = []
    for number, (service, *titles) in enumerate(TWINS):
        for side, title in enumerate(titles):
            for at in _times(world, rng, rng.randint(6, 9)):
                drafts.append(Draft(at, place_of(service), title, "high", "", f"twins/{number}/{side}"))
    return drafts


def _spikes(world: World, rng: random.Random, rhythm: Rhythm, total: int) -> tuple[list[Draft], list[Change]]:
    """``total``: the incidents of the year that follow the rhythm, as many as there would be without these."""
    gateway = place_of("gateway")
    weeks = sorted(rng.sample(_weekly_times(world, 1, 15), 40))
    deploys = [change(world, rng, gateway, at + rng.uniform(0, 120), "deploys") for at in weeks]
    usual = sum(rhythm.expected(gateway, at, total) for at in weeks)
    drafts = []
    for _ in range(round((SPIKE - 1) * usual)):
        at = rng.choice(deploys).at + rng.uniform(60, 3300)
        drafts.append(Draft(at, gateway, f"error rate of gateway at {rng.randrange(11, 99)}%", "high", "", "spike"))
    world.planted["deploy_spike"] = {
        "service_id": world.services[gateway]["id"],
        "weekday": "Tuesday",
        "hour_utc": 15,
        "ratio": SPIKE,
        "expected_without": round(usual, 2),
    }
    return drafts, deploys


def _weekly_times(world: World, weekday: int, hour: int) -> list[float]:
    """The 52 last of a weekday (Monday 0) and hour (UTC) that are over."""
    last = dt.datetime.fromtimestamp(world.now - RECENT - HOUR, dt.UTC)
    day = last.replace(hour=hour, minute=0, second=0, microsecond=0)
    while day.weekday() != weekday or day > last:
        day -= dt.timedelta(days=1)
    return [(day - dt.timedelta(weeks=week)).timestamp() for week in range(52)]


def _decoys(world: World, rng: random.Random) -> list[Change]:
    quiet = place_of("scheduler")
    return [change(world, rng, quiet, at + rng.uniform(0, 600), "deploys") for at in _weekly_times(world, 3, 10)]


def note_patterns(world: World, tags: dict[str, list[int]]) -> None:
    """What the patterns became: ids and times."""
    ids = {tag: [world.incidents[place].id for place in places] for tag, places in tags.items()}

    def at(tag: str, place: int = 0) -> str:
        return iso(world.incidents[tags[tag][place]].created)

    flapping = [tag for tag in sorted(tags) if tag.startswith("flapping/")]
    world.planted["flapping"] = {
        "service_id": world.services[place_of("warehouse")]["id"],
        "episodes": [{"incident_ids": ids[tag], "start": at(tag), "end": at(tag, -1)} for tag in flapping],
    }
    world.planted["cascade"] = {
        "service_ids": [world.services[place_of(name)]["id"] for name in CHAIN[::-1]],
        "times": [
            {
                "incident_ids": [ids[tag][0] for name in CHAIN[::-1] if (tag := f"cascade/{number}/{name}") in ids],
                "start": at(next(tag for name in CHAIN[::-1] if (tag := f"cascade/{number}/{name}") in ids)),
                "root_silent": f"cascade/{number}/{CHAIN[-1]}" not in ids,
            }
            for number in range(FALLS)
        ],
    }
    world.planted["dependencies"]["undocumented"]["incident_ids"] = [
        [ids[f"undocumented/{number}/{name}"][0] for name in STRANGERS[::-1]] for number in range(LINKS)
    ]
    world.planted["near_twins"] = [
        {
            "service_id": world.services[place_of(service)]["id"],
            "titles": titles,
            "incident_ids": [ids[f"twins/{number}/{side}"] for side in range(2)],
        }
        for number, (service, *titles) in enumerate(TWINS)
    ]
    for name, service in (("deploy_spike", "gateway"), ("deploy_decoy", "scheduler")):
        place = place_of(service)
        found = [row for row in world.changes if row.service == place]
        world.planted.setdefault(name, {"service_id": world.services[place]["id"]})
        world.planted[name]["changes"] = [{"id": row.id, "at": iso(row.at)} for row in found]
    world.planted["deploy_spike"]["incident_ids"] = ids["spike"]
    world.planted["slow_level"] = {"level": 2, "median_minutes": SLOW}
    world.planted["volume_step"] = {"at": iso(step_of(world)[0]), "ratio": STEP}


# Sleep


def sleeps(world: World, user: int, at: float) -> bool:
    """22:00 to 08:00, by the user's own clock."""
    hour = dt.datetime.fromtimestamp(at, ZoneInfo(world.users[user]["time_zone"])).hour
    return hour >= 22 or hour < 8


def _woken(world: World, incident: Incident) -> set[int]:
    """Whose sleep it broke: by its log entries, and once however often they were notified. E-mail breaks nobody's."""
    return {
        user
        for kind, at, user, way in incident.steps()
        if kind == "notify" and way != "email" and user is not None and sleeps(world, user, at)
    }


def settle_nights(world: World, tags: dict[str, list[int]]) -> None:
    """Raise or lower the urgency of Priya's nights, spread over the year, until her share is as planted. Notes the truth.

    In a big account one person's nights cannot come near it: there the share is what it is."""
    planted = {place for places in tags.values() for place in places}
    pages: Counter[int] = Counter()
    hers = []
    for incident in world.incidents:
        pages.update(_woken(world, incident))
        (_, _, user), *more = incident.path
        settled = incident.resolved is not None and incident.place not in planted
        if user == PRIYA and not more and settled and sleeps(world, PRIYA, incident.created):
            hers.append(incident)
    random.Random(f"nights-{world.seed}").shuffle(hers)
    for incident in hers if world.size == "demo" else ():
        share = pages[PRIYA] / pages.total()
        pages.subtract(_woken(world, incident))
        if incident.urgency == "low" and share < SHARE:
            incident.urgency = "high"
            # Answered before it would have gone on to the second level.
            latest = incident.created + 30 + incident.place % 500
            incident.acknowledged = (min(incident.acknowledged[0] if incident.acknowledged else latest, latest), PRIYA)
        elif incident.urgency == "high" and share > SHARE + 0.002:
            incident.urgency = "low"
        pages.update(_woken(world, incident))
    world.planted["sleep_pages"] = {
        "user_id": world.users[PRIYA]["id"],
        "pages": pages[PRIYA],
        "of": pages.total(),
        "share": round(pages[PRIYA] / pages.total(), 4),
        "sleep_hours": "22:00-08:00 in the user's own zone; a page is one person notified of one incident, open ones"
        " included, otherwise than by e-mail",
    }
