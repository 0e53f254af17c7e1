"""A generated PagerDuty account: seeded, anchored at a moment, and held in memory. The same seed and moment, the same account."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass, field
from typing import Any, Final

API: Final = "https://api.pagerduty.com"
SITE: Final = "https://pagewarden-sandbox.pagerduty.com"
HOUR: Final = 3600
DAY: Final = 24 * HOUR
FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
ZONES: Final = ("America/Los_Angeles", "America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Sydney")
TEAMS: Final = ("Payments", "Search", "Platform", "Mobile", "Data", "Identity")
# fmt: off
FIRST: Final = (
    "Priya", "Diego", "Hannah", "Wei", "Amara", "Jonas", "Leila", "Tomasz", "Grace", "Mateo", "Yuki", "Freya",
    "Arjun", "Noor", "Liam", "Sofia", "Kofi", "Elena", "Ravi", "Chloe", "Omid", "Ingrid", "Samuel", "Mei", "Pedro",
    "Anya", "Hugo", "Zara", "Felix", "Nadia", "Theo", "Isla", "Bruno", "Maya", "Viktor", "Rosa",
)
LAST: Final = (
    "Sharma", "Alvarez", "Cohen", "Zhang", "Okafor", "Lindqvist", "Haddad", "Nowak", "Kim", "Rossi", "Tanaka",
    "Larsen",
)
NOUNS: Final = (
    "checkout", "ledger", "refunds", "fraud", "invoices", "wallet", "query", "indexer", "suggest", "ranking",
    "crawler", "feed", "gateway", "scheduler", "registry", "secrets", "builds", "deploys", "push", "ios-api",
    "android-api", "media", "sessions", "profiles", "warehouse", "etl", "metrics", "events", "exports", "lake",
    "login", "tokens", "directory", "audit", "mfa", "consent", "mailer", "sms", "webhooks", "cdn",
)
# fmt: on
BUSINESS: Final = ("Buying", "Finding", "Selling", "Apps", "Insights", "Signing in")
PROBLEMS: Final = (
    "disk / at {n}% on {s}-{h:02d}",
    "p99 latency of {s} over {n}0 ms",
    "error rate of {s} at {n}%",
    "queue of {s} holds {n}00 messages",
    "{s}-{h:02d} does not answer",
    "certificate of {s} expires in {h} days",
    "replication of {s} lags by {n} s",
)
PRIORITIES: Final = ("P1", "P2", "P3", "P4", "P5")


@dataclass(frozen=True, slots=True)
class Token:
    """``kind``: account, user or oauth. ``scopes``: None where they do not count."""

    value: str = field(repr=False)
    kind: str
    user: int | None = None
    read_only: bool = False
    scopes: frozenset[str] | None = None
    revoked: bool = False


def demo_tokens(seed: int) -> dict[str, Token]:
    """The account's tokens by name, the same for the same seed."""
    rng = random.Random(f"tokens-{seed}")

    def value() -> str:
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-_"
        return "".join(rng.choice(alphabet[:62]) for _ in range(2)) + "".join(rng.choice(alphabet) for _ in range(18))

    return {
        "account": Token(value(), "account"),
        "account_2": Token(value(), "account"),
        "account_3": Token(value(), "account"),
        "account_read_only": Token(value(), "account", read_only=True),
        "user_manager": Token(value(), "user", user=0),
        "user_reader": Token(value(), "user", user=5, read_only=True),
        "oauth_reads": Token(
            value(), "oauth", user=1, scopes=frozenset({"incidents.read", "services.read", "users.read"})
        ),
        "revoked": Token(value(), "account", revoked=True),
    }


def demo_from_email(seed: int) -> str:
    """The address of somebody in the account, to act as."""
    return "priya.sharma@sandbox.example"


def iso(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: Any) -> float:
    """ISO 8601 to Unix time; without a zone it is UTC. Raises ``ValueError``, also for what no calendar can go on from."""
    if not isinstance(text, str):
        raise ValueError("a time is a string")
    moment = dt.datetime.fromisoformat(text.replace(" ", "+") if "+" not in text and " " in text else text)
    # At the ends of the calendar the arithmetic of shifts and time zones leaves it.
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError("a time out of reach")
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def number_id(prefix: str, number: int, width: int = 5) -> str:
    """An id in PagerDuty's form that tells its place: ``PINC0042``-like, base 36."""
    digits = ""
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return prefix + digits


@dataclass(slots=True)
class Happening:
    """One log entry of an incident."""

    id: str
    type: str
    at: float
    agent: int | None = None
    """A user's place; None: the service or the monitor."""
    channel: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Incident:
    place: int
    id: str
    service: int
    title: str
    urgency: str
    created: float
    key: str
    status: str = "resolved"
    priority: int | None = None
    assignee: int | None = None
    acknowledged: tuple[float, int] | None = None
    resolved: tuple[float, int | None] | None = None
    level: int = 1
    notes: list[dict[str, Any]] = field(default_factory=list)
    more: list[Happening] = field(default_factory=list)
    details: str = ""
    policy: int | None = None

    def happenings(self) -> list[Happening]:
        """Its log entries, the oldest first."""
        base = f"R{self.id[1:]}"
        found = [Happening(f"{base}0", "trigger", self.created, None, {"type": "api" if self.details else "auto"})]
        if self.assignee is not None:
            found.append(Happening(f"{base}1", "assign", self.created + 1, self.assignee))
            found.append(
                Happening(
                    f"{base}2",
                    "notify",
                    self.created + 5,
                    self.assignee,
                    {
                        "type": "auto",
                        "notification": {
                            "type": "sms_notification",
                            "address": phone(self.assignee),
                            "status": "success",
                        },
                    },
                )
            )
        if self.acknowledged is not None:
            found.append(
                Happening(f"{base}3", "acknowledge", self.acknowledged[0], self.acknowledged[1], {"type": "website"})
            )
        if self.resolved is not None:
            found.append(
                Happening(
                    f"{base}4",
                    "resolve",
                    self.resolved[0],
                    self.resolved[1],
                    {"type": "auto" if self.resolved[1] is None else "website"},
                )
            )
        return sorted(found + self.more, key=lambda happening: happening.at)


def phone(user: int) -> str:
    return f"415555{1000 + user:04d}"


@dataclass(slots=True)
class World:
    """Everything of the account. Lists are by place; ids tell the place."""

    seed: int
    now: float
    users: list[dict[str, Any]] = field(default_factory=list)
    teams: list[dict[str, Any]] = field(default_factory=list)
    members: list[list[int]] = field(default_factory=list)
    """User places by team."""
    services: list[dict[str, Any]] = field(default_factory=list)
    business: list[dict[str, Any]] = field(default_factory=list)
    edges: list[tuple[str, str, str, str]] = field(default_factory=list)
    """(dependent id, its kind, supporting id, its kind), kinds ``service`` or ``business_service``."""
    policies: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    v3: list[dict[str, Any]] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    priorities: list[dict[str, Any]] = field(default_factory=list)
    counter: int = 0

    def next_id(self, prefix: str) -> str:
        self.counter += 1
        return number_id(prefix, 36**4 + self.counter, 6)


def reference(document: dict[str, Any]) -> dict[str, Any]:
    kind = document["type"]
    return {
        "id": document["id"],
        "type": kind if kind.endswith("_reference") else f"{kind}_reference",
        "summary": document["summary"],
        "self": document["self"],
        "html_url": document["html_url"],
    }


def document(kind: str, plural: str, identifier: str, summary: str, site: str = "") -> dict[str, Any]:
    return {
        "id": identifier,
        "type": kind,
        "summary": summary,
        "self": f"{API}/{plural}/{identifier}",
        "html_url": f"{SITE}/{site or plural}/{identifier}",
    }


def generate(seed: int, now: dt.datetime) -> World:
    """The account of ``seed`` as of ``now``, cut to the hour."""
    anchor = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0).timestamp()
    world = World(seed, anchor)
    rng = random.Random(f"world-{seed}")
    _people(world, rng)
    _schedules(world, rng)
    _policies(world)
    _services(world, rng)
    _incidents(world, rng)
    return world


def _people(world: World, rng: random.Random) -> None:
    for place, name in enumerate(TEAMS):
        identifier = number_id("PTEAM", place, 2)
        world.teams.append(
            {
                **document("team", "teams", identifier, name),
                "name": name,
                "description": f"The {name} team",
                "default_role": "manager",
                "parent": None,
            }
        )
    world.members = [[] for _ in TEAMS]
    roles = {0: "owner", 5: "read_only_user", 11: "limited_user"}
    for place, first in enumerate(FIRST):
        last = LAST[place % len(LAST)]
        name = f"{first} {last}"
        identifier = number_id("PUSR", place, 3)
        team = place % len(TEAMS)
        world.members[team].append(place)
        world.users.append(
            {
                **document("user", "users", identifier, name),
                "name": name,
                "email": f"{first}.{last}@sandbox.example".lower(),
                "time_zone": ZONES[place % len(ZONES)],
                "color": "green",
                "avatar_url": f"{SITE}/avatar/{place}.png",
                "billed": True,
                "role": roles.get(place, "admin" if place == 1 else "user"),
                "description": None,
                "invitation_sent": False,
                "job_title": rng.choice(("Engineer", "Senior engineer", "Engineering manager")),
                "teams": [reference(world.teams[team])],
                "contact_methods": [],
                "notification_rules": [],
            }
        )
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


def contact_methods(world: World, user: int) -> list[dict[str, Any]]:
    base = f"{API}/users/{world.users[user]['id']}/contact_methods"
    found = []
    for number, (kind, label, address) in enumerate(
        (
            ("email_contact_method", "Work", world.users[user]["email"]),
            ("phone_contact_method", "Mobile", phone(user)),
            ("sms_contact_method", "Mobile", phone(user)),
        )
    ):
        identifier = number_id("PCM", user * 4 + number, 4)
        method = {
            "id": identifier,
            "type": kind,
            "summary": label,
            "self": f"{base}/{identifier}",
            "html_url": None,
            "label": label,
            "address": address,
        }
        if kind == "email_contact_method":
            method["send_short_email"] = False
        else:
            method |= {"country_code": 1, "blacklisted": False}
        if kind == "sms_contact_method":
            method["enabled"] = True
        found.append(method)
    return found


def _schedules(world: World, rng: random.Random) -> None:
    start = world.now - 400 * DAY
    for place in range(14):
        team = place % len(TEAMS)
        crew = world.members[team]
        names = {0: "primary", 1: "secondary", 2: "weekends"}
        name = f"{TEAMS[team]} {names[place // len(TEAMS)]}"
        identifier = number_id("PSCH", place, 3)
        zone = ZONES[place % len(ZONES)]
        order = crew[place // len(TEAMS) :] + crew[: place // len(TEAMS)]
        layers = [_layer(world, place, 0, order, start, 7 * DAY if place % 3 else DAY, [])]
        if place % 4 == 1:
            layers.append(
                _layer(
                    world,
                    place,
                    1,
                    order[::-1],
                    start,
                    12 * HOUR,
                    [{"type": "daily_restriction", "start_time_of_day": "09:00:00", "duration_seconds": 8 * HOUR}],
                )
            )
        if place % 4 == 2:
            layers.append(
                _layer(
                    world,
                    place,
                    1,
                    order[::-1],
                    start,
                    7 * DAY,
                    [
                        {
                            "type": "weekly_restriction",
                            "start_day_of_week": 6,
                            "start_time_of_day": "00:00:00",
                            "duration_seconds": 2 * DAY,
                        }
                    ],
                )
            )
        overrides = []
        for number in range(2):
            begin = world.now + (rng.randrange(-10, 10) * DAY) + 9 * HOUR
            overrides.append(
                _override(world, number_id("QOV", place * 8 + number, 5), rng.choice(crew), begin, begin + 8 * HOUR)
            )
        world.schedules.append(
            {
                **document("schedule", "schedules", identifier, name, "schedules#"),
                "name": name,
                "time_zone": zone,
                "description": f"Who is on call for {TEAMS[team]}",
                "users": [reference(world.users[user]) for user in crew],
                "escalation_policies": [],
                "teams": [reference(world.teams[team])],
                "schedule_layers": layers,
                "overrides": overrides,
            }
        )
    for place in range(2):
        identifier = number_id("PV3S", place, 3)
        crew = world.members[place]
        world.v3.append(
            {
                "id": identifier,
                "type": "schedule_v3",
                "name": f"{TEAMS[place]} rota",
                "time_zone": ZONES[place],
                "self": f"{API}/v3/schedules/{identifier}",
                "html_url": f"{SITE}/schedules/{identifier}",
                "http_cal_url": f"{SITE}/private/{rng.getrandbits(64):016x}/feed/{identifier}",
                "teams": [{"id": world.teams[place]["id"], "type": "team_reference"}],
                "crew": crew,
                "overrides": [],
                "custom_shifts": [],
                "rotation": number_id("ROT", place, 5),
            }
        )


def _layer(
    world: World,
    schedule: int,
    number: int,
    crew: list[int],
    start: float,
    turn: int,
    restrictions: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "id": number_id("PLAY", schedule * 4 + number, 3),
        "name": f"Layer {number + 1}",
        "start": iso(start),
        "end": None,
        "rotation_virtual_start": iso(start),
        "rotation_turn_length_seconds": turn,
        "users": [{"user": reference(world.users[user])} for user in crew],
        "restrictions": restrictions,
    }


def _override(world: World, identifier: str, user: int, start: float, end: float) -> dict[str, Any]:
    return {"id": identifier, "start": iso(start), "end": iso(end), "user": reference(world.users[user])}


def _policies(world: World) -> None:
    for place in range(12):
        team = place % len(TEAMS)
        identifier = number_id("PESC", place, 3)
        name = f"{TEAMS[team]} {'standard' if place < 6 else 'low urgency'}"
        targets = [[world.schedules[team]], [world.schedules[team + 6]], [world.users[world.members[team][0]]]]
        rules = [
            {
                "id": number_id("PRUL", place * 4 + level, 3),
                "escalation_delay_in_minutes": 15 if place < 6 else 30,
                "targets": [reference(target) for target in level_targets],
                "escalation_rule_assignment_strategy": "assign_to_everyone",
            }
            for level, level_targets in enumerate(targets)
        ]
        policy = {
            **document("escalation_policy", "escalation_policies", identifier, name),
            "name": name,
            "description": f"Who is woken for {TEAMS[team]}",
            "num_loops": 2,
            "on_call_handoff_notifications": "if_has_services",
            "escalation_rules": rules,
            "services": [],
            "teams": [reference(world.teams[team])],
        }
        world.policies.append(policy)
        for schedule in (world.schedules[team], world.schedules[team + 6]):
            schedule["escalation_policies"].append(reference(policy))


def _services(world: World, rng: random.Random) -> None:
    for place, noun in enumerate(NOUNS):
        team = place * len(TEAMS) // len(NOUNS)
        identifier = number_id("PSVC", place, 3)
        policy = world.policies[team]
        service = {
            **document("service", "services", identifier, noun, "service-directory"),
            "name": noun,
            "description": f"The {noun} service",
            "status": "active",
            "created_at": iso(world.now - 500 * DAY),
            "updated_at": iso(world.now - 30 * DAY),
            "auto_resolve_timeout": 14400,
            "acknowledgement_timeout": 1800,
            "alert_creation": "create_alerts_and_incidents",
            "last_incident_timestamp": iso(world.now - DAY),
            "escalation_policy": reference(policy),
            "teams": [reference(world.teams[team])],
            "incident_urgency_rule": {"type": "constant", "urgency": "high"},
            "scheduled_actions": [],
            "addons": [],
            "integrations": [],
            "response_play": None,
            "alert_grouping_parameters": {"type": "time", "config": {"timeout": 300}},
            "auto_pause_notifications_parameters": {"enabled": False},
        }
        world.services.append(service)
        policy["services"].append(reference(service))
    for place, name in enumerate(BUSINESS):
        identifier = number_id("PBSV", place, 3)
        world.business.append({**document("business_service", "business_services", identifier, name), "name": name})
        for _ in range(3):
            world.edges.append(
                (identifier, "business_service", world.services[rng.randrange(len(NOUNS))]["id"], "service")
            )
    while len(world.edges) < 75:
        upper, lower = rng.randrange(len(NOUNS)), rng.randrange(len(NOUNS))
        edge = (world.services[upper]["id"], "service", world.services[lower]["id"], "service")
        if upper < lower and edge not in world.edges:
            world.edges.append(edge)


def _incidents(world: World, rng: random.Random) -> None:
    total, year = 4_800, 365 * DAY
    times = sorted(world.now - year + rng.random() * (year - HOUR) for _ in range(total - 50))
    times += sorted(world.now - rng.random() * 12 * HOUR for _ in range(50))
    for place, created in enumerate(times):
        service = min(int(rng.expovariate(1 / 12)), len(NOUNS) - 1)
        noun = NOUNS[service]
        title = rng.choice(PROBLEMS).format(s=noun, n=rng.randrange(11, 99), h=rng.randrange(1, 20))
        team = service * len(TEAMS) // len(NOUNS)
        assignee = rng.choice(world.members[team])
        incident = Incident(
            place,
            number_id("PI", place, 6),
            service,
            title,
            "high" if rng.random() < 0.7 else "low",
            created,
            f"{noun}/{place}",
            priority=rng.randrange(5) if rng.random() < 0.3 else None,
            assignee=assignee,
        )
        if place >= total - 25:
            incident.status = "triggered"
        else:
            incident.acknowledged = (created + 30 + rng.expovariate(1 / 240), assignee)
            if place >= total - 50:
                incident.status = "acknowledged"
                incident.acknowledged = (min(incident.acknowledged[0], world.now), assignee)
            else:
                incident.resolved = (
                    incident.acknowledged[0] + 60 + rng.expovariate(1 / 2400),
                    assignee if rng.random() < 0.6 else None,
                )
        world.incidents.append(incident)
