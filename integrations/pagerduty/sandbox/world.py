"""A generated PagerDuty account: seeded, anchored at a moment, and held in memory. The same seed and moment, the same account."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterator
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
    "checkout", "payments-api", "refunds", "payments-db", "fraud", "invoices", "wallet", "query", "indexer", "suggest",
    "ranking", "crawler", "feed", "catalogue", "gateway", "scheduler", "registry", "secrets", "builds", "deploys",
    "push", "ios-api", "android-api", "media", "sessions", "profiles", "cdn", "warehouse", "etl", "metrics", "events",
    "exports", "lake", "mailer", "login", "tokens", "directory", "audit", "mfa", "consent",
)
"""A team's own stand together: seven each, of Platform and Identity six."""
# fmt: on
BUSINESS: Final = ("Buying", "Finding", "Selling", "Apps", "Insights", "Signing in")
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
        "account_4": Token(value(), "account"),
        "account_5": Token(value(), "account"),
    }


def demo_from_email(seed: int) -> str:
    """The address of somebody in the account, to act as."""
    return "priya.sharma@sandbox.example"


def iso(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: Any, zone: dt.tzinfo = dt.UTC) -> float:
    """ISO 8601 to Unix time; ``zone``: where a time without one is.

    Raises ``ValueError``, also for what no calendar can go on from.
    """
    if not isinstance(text, str):
        raise ValueError("a time is a string")
    moment = dt.datetime.fromisoformat(text.replace(" ", "+") if "+" not in text and " " in text else text)
    # At the ends of the calendar the arithmetic of shifts and time zones leaves it.
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError("a time out of reach")
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()


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
class Alert:
    origin: int
    """The place of the incident that it triggered; it may have moved to another since."""
    number: int
    resolved: bool = False
    """On its own: the alerts of a resolved incident are resolved whatever this says."""


@dataclass(slots=True)
class Extra:
    """What only few incidents have."""

    alerts: list[Alert] | None = None
    snoozed_until: float | None = None
    responders: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    merged_into: int | None = None
    """An incident's place."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Values of custom fields by the id of the field."""
    type: str = "incident_default"
    bridge: dict[str, str] | None = None
    direct: bool = False
    """Assigned to somebody by name, past the escalation policy."""


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
    log: list[Happening] | None = None
    """Its log entries once something was done to it through the API; before, they are derived."""
    details: str = ""
    policy: int | None = None
    alerts: int = 1
    """How many alerts it was triggered with; once one of them was changed they are kept in ``extra``."""
    extra: Extra | None = None
    path: tuple[tuple[float, int, int], ...] = ()
    """Whom the escalation policy paged: seconds after it was made, level, user. Past it, assignments are in the log."""
    repeats: int = 0
    """How often its monitor said the same again."""

    def happenings(self) -> list[Happening]:
        """Its log entries, the oldest first."""
        return self._derived() if self.log is None else self.log

    @property
    def first_id(self) -> str:
        """The id of the entry of its trigger."""
        return f"R{self.id[1:]}00"

    def steps(self) -> Iterator[tuple[str, float, int | None, str]]:
        """What happened until something was done to it through the API, notes apart: type, when, whose, by which way.

        In no order, and cheaper than the entries, for what counts those of tens of thousands.
        """
        answered = self.acknowledged[0] if self.acknowledged else self.resolved[0] if self.resolved else float("inf")
        via = "api" if self.details else "auto"
        yield "trigger", self.created, None, via
        # Its monitor says the same again until somebody answers.
        step = min(answered - self.created, 900.0) / (self.repeats + 1)
        for number in range(self.repeats):
            yield "trigger", self.created + step * (number + 1), None, via
        for place, (after, _, user) in enumerate(self.path):
            at = self.created + after
            end = min(answered, self.created + self.path[place + 1][0]) if place + 1 < len(self.path) else answered
            if place:
                yield "escalate", at, user, "timeout"
            yield "assign", at + 1, user, ""
            for kind, delay, urgency in USUAL:
                if urgency == self.urgency and at + 2 + delay * 60 < end:
                    yield "notify", at + 2 + delay * 60, user, kind
        if self.acknowledged is not None:
            yield "acknowledge", self.acknowledged[0], self.acknowledged[1], "website"
        if self.resolved is not None:
            yield "resolve", self.resolved[0], self.resolved[1], "auto" if self.resolved[1] is None else "website"

    def _derived(self) -> list[Happening]:
        base = f"R{self.id[1:]}"
        found = [Happening("", kind, at, user, _way(kind, user, way)) for kind, at, user, way in self.steps()]
        for note in self.notes:
            content = {"type": "note", "summary": note["content"]}
            author = int(note["user"]["id"][4:], 36)
            found.append(Happening("", "annotate", parse_time(note["created_at"]), author, content))
        found.sort(key=lambda happening: happening.at)
        for number, happening in enumerate(found):
            happening.id = f"{base}{number:02d}"
        return found

    def happens(self, kind: str, at: float, agent: int | None, channel: dict[str, Any] | None = None) -> Happening:
        """Write a log entry. From then on the log is kept, so that what was done before stays in it."""
        log = self.keep_log(at)
        # No derived entry has an X there.
        happening = Happening(f"R{self.id[1:]}X{len(log)}", kind, at, agent, channel or {"type": "api"})
        log.append(happening)
        log.sort(key=lambda happening: happening.at)
        return happening

    def keep_log(self, until: float) -> list[Happening]:
        """What happened so far stays in the log, which is returned, whatever is changed next."""
        if self.log is None:
            self.log = [happening for happening in self._derived() if happening.at <= until]
        return self.log

    def extras(self) -> Extra:
        """To write to."""
        if self.extra is None:
            self.extra = Extra()
        return self.extra

    def alert_list(self) -> list[Alert]:
        """Its alerts, the oldest first. Without one that was changed through the API they are derived."""
        if self.extra is not None and self.extra.alerts is not None:
            return self.extra.alerts
        # Of many, some are over before the incident is; the first never.
        return [Alert(self.place, number, number % 3 == 2) for number in range(self.alerts)]


@dataclass(slots=True)
class Change:
    """A change event: something was deployed or set."""

    place: int
    service: int
    at: float
    summary: str
    source: str
    deploy: str
    """The deployed thing's own id."""

    @property
    def id(self) -> str:
        return number_id("PCHG", self.place, 6)


@dataclass(slots=True)
class Audited:
    """One change to the account's configuration."""

    id: str
    at: float
    actor: int | None
    """A user's place; None: a key of the account."""
    action: str
    root: tuple[str, str, str]
    """Of the resource: what kind it is (``services``), its id and its name."""
    fields: tuple[tuple[str, str | None, str | None], ...] = ()
    """Name, before, after."""
    members: tuple[int, bool] | None = None
    """A user's place, and whether that user came or went."""
    way: str = "browser"
    token: str | None = None
    """The last characters of the token."""


Ladder = tuple[str, int, str]
"""A notification rule: by what, after how many minutes, at which urgency."""
METHODS: Final = ("email", "phone", "sms", "push")
USUAL: Final[tuple[Ladder, ...]] = (
    ("email", 0, "high"),
    ("push", 0, "high"),
    ("sms", 2, "high"),
    ("phone", 5, "high"),
    ("email", 0, "low"),
)
"""How people are notified who were not planted otherwise."""


def phone(user: int) -> str:
    return f"415555{1000 + user:04d}"


def _way(kind: str, user: int | None, way: str) -> dict[str, Any]:
    """The channel of a log entry."""
    if kind == "notify" and user is not None:
        return _notified(way, user)
    return {"type": way} if way else {}


def _notified(kind: str, user: int) -> dict[str, Any]:
    address = {"email": f"user{user}@sandbox.example", "push": f"{user:032x}"}.get(kind, phone(user))
    told = {"type": f"{kind}_notification", "address": address, "status": "success"}
    return {"type": "auto", "notification": told}


@dataclass(slots=True)
class World:
    """Everything of the account. Lists are by place; ids tell the place."""

    seed: int
    now: float
    kind: str = "demo"
    size: str = "demo"
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
    snoozed: list[int] = field(default_factory=list)
    """Places of incidents."""
    incident_types: list[dict[str, Any]] = field(default_factory=list)
    custom_fields: list[dict[str, Any]] = field(default_factory=list)
    """Each with its ``options`` (None: any value) and its ``default_value``."""
    audit: list[Audited] = field(default_factory=list)
    """The oldest first."""
    integrations: list[dict[str, Any]] = field(default_factory=list)
    """Of services; ``service`` is an id. What these lists hold is said in ``account.py``."""
    roles: dict[tuple[str, str], str] = field(default_factory=dict)
    """By team and user, both by id: what was set. Others are responders, a team's first member its manager."""
    windows: list[dict[str, Any]] = field(default_factory=list)
    grouping: list[dict[str, Any]] = field(default_factory=list)
    extension_schemas: list[dict[str, Any]] = field(default_factory=list)
    webhooks: list[dict[str, Any]] = field(default_factory=list)
    outbox: list[tuple[Any, ...]] = field(default_factory=list)
    """What happened in the call that is being answered: ``deliveries.py`` tells the webhooks."""
    workflows: list[dict[str, Any]] = field(default_factory=list)
    workflow_instances: list[str] = field(default_factory=list)
    automation_actions: list[dict[str, Any]] = field(default_factory=list)
    invocations: list[dict[str, Any]] = field(default_factory=list)
    orchestrations: list[dict[str, Any]] = field(default_factory=list)
    service_rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Event rules of services, by id."""
    status_pages: list[dict[str, Any]] = field(default_factory=list)
    standards: list[dict[str, Any]] = field(default_factory=list)
    paused: list[tuple[float, int, str, bool]] = field(default_factory=list)
    """Alerts that were held back: when, the place of the service, by ``auto_pause`` or ``rules``, whether they triggered."""
    changes: list[Change] = field(default_factory=list)
    """The oldest first."""
    reached: dict[int, tuple[tuple[str, ...], tuple[Ladder, ...]]] = field(default_factory=dict)
    """Users (by place) who are reached otherwise than usual: their contact methods and notification rules."""
    planted: dict[str, Any] = field(default_factory=dict)
    """What was planted, for ``truth.json`` alone: no operation tells it."""
    kept: tuple[object, list[Any]] | None = None
    """The rows of the list that was asked for last, for whoever pages through it: gone with the next change."""
    counter: int = 0

    def next_id(self, prefix: str) -> str:
        self.counter += 1
        return number_id(prefix, 36**4 + self.counter, 6)

    def wake(self, now: float) -> None:
        """Trigger again what was snoozed until before ``now``."""
        if self.snoozed:
            self.kept = None
        for place in list(self.snoozed):
            incident = self.incidents[place]
            if incident.extra is None or incident.extra.snoozed_until is None:
                self.snoozed.remove(place)
            elif incident.extra.snoozed_until <= now:
                incident.happens("unacknowledge", incident.extra.snoozed_until, None, {"type": "timeout"})
                self.outbox.append(("incident.unacknowledged", incident, None, incident.extra.snoozed_until, None))
                incident.status, incident.acknowledged, incident.extra.snoozed_until = "triggered", None, None
                self.snoozed.remove(place)


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


KINDS: Final = ("demo", "clean", "null", "plan_gated", "hostile")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of each an account holds before anything is planted; v3 schedules bring four policies of their own."""

    teams: int
    users: int
    schedules: int
    policies: int
    services: int
    business: int
    edges: int
    incidents: int
    changes: int


SIZES: Final = {
    "demo": Size(6, 36, 14, 12, 40, 6, 75, 4_800, 1_500),
    "stress": Size(60, 1_500, 200, 250, 1_000, 60, 2_500, 80_000, 20_000),
}


def generate(seed: int, now: dt.datetime, *, kind: str = "demo", size: str = "demo") -> World:
    """The account of ``seed`` as of ``now``, cut to the hour.

    ``kind``: ``demo``, with all that ``planted.py`` plants; ``clean``, the same account without; ``null``, in which moreover no
    service, person or level differs from another but by chance, and only the rhythm of the week is left; ``plan_gated``, the
    demo on a small plan; ``hostile``, the demo with an attacker's words in it. ``size``: ``demo`` or ``stress``.
    """
    # Not at the top: what fills a world imports it.
    from integrations.pagerduty.sandbox import estate, history, hostile, planted, staff
    from integrations.pagerduty.sandbox.account import furnish
    from integrations.pagerduty.sandbox.audit import record_past
    from integrations.pagerduty.sandbox.fields import settle
    from integrations.pagerduty.sandbox.rotas import add_rotas

    anchor = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0).timestamp()
    world = World(seed, anchor, kind, size)
    has_planted = kind in planted.KINDS
    staff.add_people(world)
    staff.add_schedules(world)
    staff.add_policies(world)
    estate.add_services(world)
    estate.add_dependencies(world, planted=has_planted)
    add_rotas(world)
    if has_planted:
        planted.spoil_nights(world)
        planted.add_defects(world)
        planted.note_gaps(world)
        planted.note_dependencies(world)
    staff.add_overrides(world)
    rhythm = history.Rhythm(world, planted.step_of(world) if has_planted else None)
    drafts, changes = planted.patterns(world, rhythm) if has_planted else ([], [])
    tags = history.add_history(world, rhythm, drafts, changes, slow=planted.SLOW if has_planted else 0.0)
    if has_planted:
        planted.note_patterns(world, tags)
        planted.settle_nights(world, tags)
    furnish(world)
    settle(world)
    record_past(world)
    if kind == "hostile":
        hostile.spoil(world)
    return world


def contact_methods(world: World, user: int) -> list[dict[str, Any]]:
    """A user's own, or the usual ones."""
    kinds = world.reached[user][0] if user in world.reached else METHODS
    base = f"{API}/users/{world.users[user]['id']}/contact_methods"
    found = []
    for kind in kinds:
        identifier = number_id("PCM", user * 4 + METHODS.index(kind), 4)
        label = "Work" if kind == "email" else "Mobile"
        method: dict[str, Any] = {
            "id": identifier,
            "type": "push_notification_contact_method" if kind == "push" else f"{kind}_contact_method",
            "summary": label,
            "self": f"{base}/{identifier}",
            "html_url": None,
            "label": label,
            "address": phone(user),
        }
        if kind == "email":
            method |= {"address": world.users[user]["email"], "send_short_email": False}
        elif kind == "push":
            device = {"device_type": "ios", "created_at": iso(world.now - 300 * DAY), "sounds": []}
            method |= {"address": f"{user:032x}", "blacklisted": False, **device}
        else:
            method |= {"country_code": 1, "blacklisted": False}
        if kind == "sms":
            method["enabled"] = True
        found.append(method)
    return found


def notification_rules(world: World, user: int) -> list[dict[str, Any]]:
    """When a user is notified by what: as of an assignment, in minutes."""
    methods = {method["type"].split("_")[0]: method for method in contact_methods(world, user)}
    base = f"{API}/users/{world.users[user]['id']}/notification_rules"
    found = []
    for number, (kind, delay, urgency) in enumerate(world.reached[user][1] if user in world.reached else USUAL):
        identifier = number_id("PNR", user * 8 + number, 4)
        when = f"after {delay} minutes" if delay else "at once"
        found.append(
            {
                "id": identifier,
                "type": "assignment_notification_rule",
                "summary": f"Notify by {kind} {when}",
                "self": f"{base}/{identifier}",
                "html_url": None,
                "start_delay_in_minutes": delay,
                "urgency": urgency,
                "contact_method": {
                    **{name: methods[kind][name] for name in ("id", "summary", "self", "html_url")},
                    "type": f"{methods[kind]['type']}_reference",
                },
            }
        )
    return found
