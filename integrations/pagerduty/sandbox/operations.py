"""What the simulated PagerDuty does: one function for each operation, found by method and path template."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import mean
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    boolean,
    clock,
    field_of,
    list_of,
    moment,
    one_of,
    record,
    reference_to,
    sentence,
    string,
    whole,
    zone,
)
from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
    HOUR,
    SITE,
    Happening,
    Incident,
    Token,
    World,
    contact_methods,
    document,
    iso,
    number_id,
    parse_time,
    reference,
)

MONTH: Final = 30 * DAY
FORTNIGHT: Final = 14 * DAY
FAR: Final = 90 * DAY
"""How far ahead, and how wide, on-calls can be asked for."""
LONGEST_WINDOW: Final = 184 * DAY
"""Six months: the widest window of incidents and log entries."""
ROW_LIMIT: Final = 10_000
BULK_LIMIT: Final = 250


class ApiError(Exception):
    """An answer in PagerDuty's error format."""

    def __init__(self, status: int, message: str, code: int, errors: Sequence[str] = (), **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.document: Document = {"error": {"message": message, "code": code, **extra}}
        if errors:
            self.document["error"]["errors"] = list(errors)


def not_found() -> ApiError:
    return ApiError(404, "Not Found", 2100)


def invalid(*errors: str) -> ApiError:
    return ApiError(400, "Invalid Input Provided", 2001, errors)


@dataclass(slots=True)
class Ask:
    """One request, after its token was accepted."""

    world: World
    now: float
    token: Token
    sender: int | None
    """The place of the user who asks: the token's own, or the one that ``From`` names."""
    path: dict[str, str]
    query: dict[str, list[str]]
    body: Any = None
    include: frozenset[str] = field(default_factory=frozenset)

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]

    def many(self, name: str) -> frozenset[str]:
        return frozenset(self.query.get(f"{name}[]", ())) | frozenset(self.query.get(name, ()))

    def flag(self, name: str) -> bool:
        return self.one(name).lower() == "true"

    def number(self, name: str, default: int, most: int | None = None) -> int:
        text = self.one(name)
        if not text:
            return default
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise invalid(f"{name.capitalize()} must be a positive integer.")
        return int(text) if most is None else min(int(text), most)

    def time(self, name: str, default: float) -> float:
        text = self.one(name)
        if not text:
            return default
        try:
            return parse_time(text)
        except ValueError:
            raise invalid(f"{name.capitalize()} is not a valid ISO 8601 date.") from None

    def zone(self) -> ZoneInfo | None:
        text = self.one("time_zone")
        if not text:
            return None
        try:
            return ZoneInfo(text)
        except (ValueError, OSError, KeyError):
            raise invalid("Time zone is not one that PagerDuty knows.") from None

    def window(
        self, since: float, until: float, longest: float | None = None, *, width: float | None = None
    ) -> tuple[float, float]:
        """``width``: where only one end is given, the other is that far from it; else it is its default."""
        low, high = self.time("since", since), self.time("until", until)
        if width is not None and self.one("since") and not self.one("until"):
            high = low + width
        elif width is not None and self.one("until") and not self.one("since"):
            low = high - width
        if low > high:
            raise invalid("Since must be before Until.")
        if longest is not None and high - low > longest:
            raise invalid(f"The time range is longer than {'6 months' if longest == LONGEST_WINDOW else '90 days'}.")
        return low, high

    def rows_asked(self, default: int, most: int) -> tuple[int, int]:
        """Limit and offset."""
        limit, offset = self.number("limit", default, most), self.number("offset", 0)
        if limit + offset > ROW_LIMIT:
            raise ApiError(400, "Invalid Input Provided", 2002, ["Offset plus limit must not exceed 10000."])
        return limit, offset

    def page(self, name: str, rows: Sequence[Any], show: Callable[[Any], Any] = lambda row: row) -> Document:
        limit, offset = self.rows_asked(25, 100)
        return {
            name: [show(row) for row in rows[offset : offset + limit]],
            "limit": limit,
            "offset": offset,
            "total": len(rows) if self.flag("total") else None,
            "more": offset + limit < len(rows),
        }

    def read(self, name: str, shape: Shape) -> Any:
        """What a body holds under ``name``, once all of it has its shape: ``{"incident": {...}}``."""
        faults: list[Fault] = []
        found = shape(self._inner(name), (), faults)
        if faults:
            raise invalid(*(sentence(fault, name) for fault in faults))
        return found

    def read_v3(self, name: str, shape: Shape) -> Any:
        """The same, with the map of fields that v3 answers."""
        faults: list[Fault] = []
        found = shape(self._inner(name), (), faults)
        if faults:
            raise v3_invalid(faults, name)
        return found

    def _inner(self, name: str) -> Any:
        return self.body.get(name) if isinstance(self.body, dict) else None


Result = tuple[int, Any]
Operation = Callable[[Ask], Result]
ROUTES: Final[dict[tuple[str, str], Operation]] = {}
NEEDS_FROM: Final[set[tuple[str, str]]] = set()
SCOPES: Final[dict[tuple[str, str], str]] = {}


def route(method: str, path: str, scope: str = "", *, needs_from: bool = False) -> Callable[[Operation], Operation]:
    def register(operation: Operation) -> Operation:
        ROUTES[method, path] = operation
        SCOPES[method, path] = scope
        if needs_from:
            NEEDS_FROM.add((method, path))
        return operation

    return register


def find(rows: Iterable[Document], identifier: str) -> Document:
    for row in rows:
        if row["id"] == identifier:
            return row
    raise not_found()


def find_incident(world: World, identifier: str) -> Incident:
    for incident in world.incidents:
        if incident.id == identifier or str(incident.place + 1) == identifier:
            return incident
    raise not_found()


def of_teams(rows: Iterable[Document], teams: frozenset[str]) -> list[Document]:
    return [row for row in rows if not teams or any(team["id"] in teams for team in row["teams"])]


def matching(rows: Iterable[Document], query: str) -> list[Document]:
    wanted = query.lower()
    return [row for row in rows if wanted in row.get("name", "").lower() or wanted in str(row.get("email", "")).lower()]


# Incidents


@route("GET", "/incidents", "incidents.read")
def list_incidents(ask: Ask) -> Result:
    rows: list[Incident] = ask.world.incidents
    if ask.one("date_range") != "all":
        # As its maintainers say (pdpyras #46): a month from ``since``, or to ``until``, where only that is given.
        since, until = ask.window(ask.now - MONTH, ask.now + 1, LONGEST_WINDOW, width=MONTH)
        rows = [row for row in rows if since <= row.created <= until]
    services = ask.world.services
    values: dict[str, Callable[[Incident], str]] = {
        "statuses": lambda row: row.status,
        "urgencies": lambda row: row.urgency,
        "service_ids": lambda row: services[row.service]["id"],
        "incident_key": lambda row: row.key,
    }
    for name, value in values.items():
        if wanted := ask.many(name):
            rows = [row for row in rows if value(row) in wanted]
    if teams := ask.many("team_ids"):
        allowed = {place for place, service in enumerate(services) if of_teams([service], teams)}
        rows = [row for row in rows if row.service in allowed]
    if users := ask.many("user_ids"):
        rows = [
            row
            for row in rows
            if row.status != "resolved" and row.assignee is not None and ask.world.users[row.assignee]["id"] in users
        ]
    keys: dict[str, Callable[[Incident], Any]] = {
        "incident_number": lambda row: row.place,
        "created_at": lambda row: row.created,
        "resolved_at": lambda row: row.resolved[0] if row.resolved else float("inf"),
        "urgency": lambda row: row.urgency,
    }
    for part in reversed([part for part in ask.one("sort_by").split(",") if part]):
        name, _, direction = part.partition(":")
        if name not in keys or direction not in ("", "asc", "desc"):
            raise invalid("Sort by is not a field that incidents can be sorted by.")
        rows = sorted(rows, key=keys[name], reverse=direction == "desc")
    return 200, ask.page("incidents", rows, lambda row: docs.incident_document(ask.world, row, ask.include))


@route("GET", "/incidents/{id}", "incidents.read")
def get_incident(ask: Ask) -> Result:
    return 200, {"incident": docs.incident_document(ask.world, find_incident(ask.world, ask.path["id"]), ask.include)}


@route("POST", "/incidents", "incidents.write", needs_from=True)
def create_incident(ask: Ask) -> Result:
    shapes = _incident_shapes(ask.world)
    asked = ask.read(
        "incident",
        record(
            {"title": shapes.pop("title"), "service": reference_to(ask.world.services, "a service")},
            {
                **shapes,
                "incident_key": string(longest=255),
                "body": record({}, {"type": string(), "details": string(blank=True)}),
            },
        ),
    )
    service = asked["service"]
    key = asked.get("incident_key") or f"made/{len(ask.world.incidents)}"
    if any(row.service == service and row.key == key and row.status != "resolved" for row in ask.world.incidents):
        raise invalid("Open incident with matching dedup key already exists on this service")
    incident = Incident(
        len(ask.world.incidents),
        number_id("PI", len(ask.world.incidents), 6),
        service,
        asked["title"],
        asked.get("urgency", "high"),
        ask.now,
        key,
        status="triggered",
        priority=asked.get("priority"),
        details=asked.get("body", {}).get("details", ""),
        policy=asked.get("escalation_policy"),
    )
    if "assignments" in asked:
        _assign(ask, incident, asked["assignments"])
    else:
        incident.assignee = _first_on_call(ask, incident)
    ask.world.incidents.append(incident)
    return 201, {"incident": docs.incident_document(ask.world, incident, ask.include)}


def _incident_shapes(world: World) -> dict[str, Shape]:
    """The fields that a new incident and a changed one have in common."""
    return {
        "type": string(),
        "title": string(longest=1024),
        "urgency": one_of("high", "low"),
        "priority": _priority(world),
        "assignments": list_of(record({"assignee": reference_to(world.users, "a user")}), 1, 50),
        "escalation_policy": reference_to(world.policies, "an escalation policy"),
    }


def _priority(world: World) -> Shape:
    """A reference, or a name."""
    by_reference = reference_to(world.priorities, "a priority")
    by_name = {row["name"]: place for place, row in enumerate(world.priorities)}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if isinstance(value, str) and value in by_name:
            return by_name[value]
        return by_reference(value, path, faults)

    return read


def _first_on_call(ask: Ask, incident: Incident) -> int | None:
    policy = docs.escalation_policy_of(ask.world, incident)
    people = {user["id"]: place for place, user in enumerate(ask.world.users)}
    for rule in policy["escalation_rules"]:
        for target in rule["targets"]:
            if target["id"] in people:
                return people[target["id"]]
            for schedule in ask.world.schedules:
                if schedule["id"] == target["id"] and (shifts := final_shifts(schedule, ask.now, ask.now + 1)):
                    return people[shifts[0][2]]
    return None


def _assign(ask: Ask, incident: Incident, assignments: list[Any]) -> None:
    incident.assignee = assignments[0]["assignee"]
    _happens(ask, incident, "assign", incident.assignee)


def _happens(ask: Ask, incident: Incident, kind: str, agent: int | None, channel: Document | None = None) -> None:
    number = sum(1 for _ in incident.more) + 10
    incident.more.append(Happening(f"R{incident.id[1:]}{number}", kind, ask.now, agent, channel or {"type": "api"}))


def _change(world: World) -> dict[str, Shape]:
    """What can be changed about an incident."""
    return {
        **_incident_shapes(world),
        "status": one_of("acknowledged", "resolved", "triggered"),
        "resolution": string(blank=True),
        "escalation_level": whole(1, 20),
    }


def _check_level(ask: Ask, incident: Incident, asked: Document) -> None:
    place = asked.get("escalation_policy")
    policy = docs.escalation_policy_of(ask.world, incident) if place is None else ask.world.policies[place]
    if asked.get("escalation_level", 1) > len(policy["escalation_rules"]):
        raise invalid("Escalation level is not in the escalation policy")


def _update(ask: Ask, incident: Incident, asked: Document) -> None:
    """Change an incident. Nothing of this fails: all of a call was checked before the first change."""
    incident.title = asked.get("title", incident.title)
    if asked.get("urgency", incident.urgency) != incident.urgency:
        incident.urgency = asked["urgency"]
        _happens(ask, incident, "urgency_change", ask.sender)
    incident.priority = asked.get("priority", incident.priority)
    if "assignments" in asked:
        _assign(ask, incident, asked["assignments"])
    if "escalation_policy" in asked:
        incident.policy, incident.level = asked["escalation_policy"], 1
        _happens(ask, incident, "escalate", ask.sender)
    if asked.get("escalation_level", incident.level) != incident.level:
        incident.level = asked["escalation_level"]
        _happens(ask, incident, "escalate", ask.sender)
    status = asked.get("status")
    if status == "acknowledged" and ask.sender is not None:
        incident.status, incident.resolved = "acknowledged", None
        incident.acknowledged = (ask.now, ask.sender)
    elif status == "resolved" and incident.status != "resolved":
        incident.status, incident.resolved = "resolved", (ask.now, ask.sender)
        if asked.get("resolution"):
            _note(ask, incident, asked["resolution"])
    elif status == "triggered":
        incident.status, incident.resolved, incident.acknowledged = "triggered", None, None
        _happens(ask, incident, "unacknowledge", None)


@route("PUT", "/incidents/{id}", "incidents.write", needs_from=True)
def update_incident(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    asked = ask.read("incident", record({}, _change(ask.world), clearing=("priority",)))
    _check_level(ask, incident, asked)
    _update(ask, incident, asked)
    return 200, {"incident": docs.incident_document(ask.world, incident, ask.include)}


@route("PUT", "/incidents", "incidents.write", needs_from=True)
def update_incidents(ask: Ask) -> Result:
    if isinstance(ask.body, dict) and isinstance(rows := ask.body.get("incidents"), list) and len(rows) > BULK_LIMIT:
        raise ApiError(413, "Request Entity Too Large", 2001, ["At most 250 incidents can be updated at once."])
    shape = record({"id": string()}, _change(ask.world), clearing=("priority",))
    found = [(find_incident(ask.world, row["id"]), row) for row in ask.read("incidents", list_of(shape))]
    for incident, row in found:
        _check_level(ask, incident, row)
    for incident, row in found:
        _update(ask, incident, row)
    # All of them, in one answer: what was changed has no pages.
    return 200, {
        "incidents": [docs.incident_document(ask.world, incident, ask.include) for incident, _ in found],
        "limit": BULK_LIMIT,
        "offset": 0,
        "total": None,
        "more": False,
    }


@route("GET", "/incidents/{id}/alerts", "incidents.read")
def list_alerts(ask: Ask) -> Result:
    alerts = [docs.alert_document(ask.world, find_incident(ask.world, ask.path["id"]))]
    if statuses := ask.many("statuses"):
        alerts = [alert for alert in alerts if alert["status"] in statuses]
    if key := ask.one("alert_key"):
        alerts = [alert for alert in alerts if alert["alert_key"] == key]
    return 200, ask.page("alerts", alerts)


@route("GET", "/incidents/{id}/alerts/{alert_id}", "incidents.read")
def get_alert(ask: Ask) -> Result:
    alert = docs.alert_document(ask.world, find_incident(ask.world, ask.path["id"]))
    return 200, {"alert": find([alert], ask.path["alert_id"])}


def _note(ask: Ask, incident: Incident, content: str) -> Document:
    identifier = ask.world.next_id("PN")
    user = ask.world.users[ask.sender or 0]
    note = {
        "id": identifier,
        "user": reference(user),
        "channel": {"summary": "The PagerDuty website or APIs"},
        "content": content,
        "created_at": iso(ask.now),
    }
    incident.notes.append(note)
    _happens(ask, incident, "annotate", ask.sender, {"type": "note", "summary": content})
    return note


@route("GET", "/incidents/{id}/notes", "incidents.read")
def list_notes(ask: Ask) -> Result:
    return 200, {"notes": find_incident(ask.world, ask.path["id"]).notes}


@route("POST", "/incidents/{id}/notes", "incidents.write", needs_from=True)
def create_note(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    content = ask.read("note", record({"content": string()}))["content"]
    if len(incident.notes) >= 2000:
        raise invalid("An incident holds at most 2000 notes")
    return 200, {"note": _note(ask, incident, content)}


def _entries(ask: Ask, incidents: Iterable[Incident], since: float, until: float) -> list[tuple[Incident, Happening]]:
    found = [
        (incident, happening)
        for incident in incidents
        for happening in incident.happenings()
        if since <= happening.at <= until
    ]
    if ask.flag("is_overview"):
        found = [row for row in found if row[1].type in ("trigger", "acknowledge", "resolve", "annotate", "escalate")]
    found.sort(key=lambda row: row[1].at, reverse=True)
    return found


@route("GET", "/incidents/{id}/log_entries", "incidents.read")
def list_incident_log_entries(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    rows = _entries(ask, [incident], *ask.window(0, ask.now + 1))
    return 200, ask.page("log_entries", rows, lambda row: docs.entry_document(ask.world, row[0], row[1], ask.include))


@route("GET", "/log_entries", "incidents.read")
def list_log_entries(ask: Ask) -> Result:
    since, until = ask.window(ask.now - MONTH, ask.now + 1, LONGEST_WINDOW, width=MONTH)
    teams = ask.many("team_ids")
    services = {place for place, service in enumerate(ask.world.services) if of_teams([service], teams)}
    # What happens to an incident happens within days of it, or was done through this API (and is in `more`).
    near = (
        incident
        for incident in ask.world.incidents
        if incident.service in services and (incident.more or since - 7 * DAY <= incident.created <= until)
    )
    rows = _entries(ask, near, since, until)
    return 200, ask.page("log_entries", rows, lambda row: docs.entry_document(ask.world, row[0], row[1], ask.include))


@route("GET", "/log_entries/{id}", "incidents.read")
def get_log_entry(ask: Ask) -> Result:
    wanted = ask.path["id"]
    for incident in ask.world.incidents:
        if wanted.startswith(f"R{incident.id[1:]}"):
            for happening in incident.happenings():
                if happening.id == wanted:
                    return 200, {"log_entry": docs.entry_document(ask.world, incident, happening, ask.include)}
    raise not_found()


# Services and teams


@route("GET", "/services", "services.read")
def list_services(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.services, ask.one("query")), ask.many("team_ids"))
    if name := ask.one("name"):
        rows = [row for row in rows if row["name"] == name]
    if ask.one("sort_by").startswith("name") or not ask.one("sort_by"):
        rows = sorted(rows, key=lambda row: row["name"], reverse=ask.one("sort_by").endswith("desc"))
    return 200, ask.page("services", rows, lambda row: _service(ask, row))


def _service(ask: Ask, service: Document) -> Document:
    found = dict(service)
    if "escalation_policies" in ask.include:
        found["escalation_policy"] = find(ask.world.policies, service["escalation_policy"]["id"])
    if "teams" in ask.include:
        found["teams"] = [find(ask.world.teams, team["id"]) for team in service["teams"]]
    return found


@route("GET", "/services/{id}", "services.read")
def get_service(ask: Ask) -> Result:
    return 200, {"service": _service(ask, find(ask.world.services, ask.path["id"]))}


def _dependencies(ask: Ask, kind: str, rows: Iterable[Document]) -> Result:
    identifier = find(rows, ask.path["id"])["id"]
    return 200, {
        "relationships": [
            {
                "id": number_id("D", place, 15),
                "type": "service_dependency",
                "dependent_service": {"id": upper, "type": _kind(upper_kind)},
                "supporting_service": {"id": lower, "type": _kind(lower_kind)},
            }
            for place, (upper, upper_kind, lower, lower_kind) in enumerate(ask.world.edges)
            if (upper, upper_kind) == (identifier, kind) or (lower, lower_kind) == (identifier, kind)
        ]
    }


def _kind(kind: str) -> str:
    return "technical_service_reference" if kind == "service" else "business_service_reference"


@route("GET", "/service_dependencies/technical_services/{id}", "services.read")
def technical_dependencies(ask: Ask) -> Result:
    return _dependencies(ask, "service", ask.world.services)


@route("GET", "/service_dependencies/business_services/{id}", "services.read")
def business_dependencies(ask: Ask) -> Result:
    return _dependencies(ask, "business_service", ask.world.business)


@route("GET", "/business_services", "services.read")
def list_business_services(ask: Ask) -> Result:
    return 200, ask.page("business_services", ask.world.business)


@route("GET", "/teams", "teams.read")
def list_teams(ask: Ask) -> Result:
    return 200, ask.page("teams", matching(ask.world.teams, ask.one("query")))


@route("GET", "/teams/{id}", "teams.read")
def get_team(ask: Ask) -> Result:
    return 200, {"team": find(ask.world.teams, ask.path["id"])}


@route("GET", "/priorities", "priorities.read")
def list_priorities(ask: Ask) -> Result:
    return 200, ask.page("priorities", ask.world.priorities)


@route("GET", "/abilities", "abilities.read")
def list_abilities(ask: Ask) -> Result:
    return 200, {
        "abilities": [
            "teams",
            "read_only_users",
            "service_support_hours",
            "urgencies",
            "preview_intelligent_alert_grouping",
        ]
    }


# Escalation policies


def _policy(ask: Ask, policy: Document) -> Document:
    found = dict(policy)
    if "services" in ask.include:
        found["services"] = [find(ask.world.services, row["id"]) for row in policy["services"]]
    if "teams" in ask.include:
        found["teams"] = [find(ask.world.teams, row["id"]) for row in policy["teams"]]
    if "targets" in ask.include:
        everything = {row["id"]: row for row in (*ask.world.users, *map(docs.bare, ask.world.schedules))}
        found["escalation_rules"] = [
            {**rule, "targets": [everything.get(row["id"], row) for row in rule["targets"]]}
            for rule in policy["escalation_rules"]
        ]
    return found


@route("GET", "/escalation_policies", "escalation_policies.read")
def list_policies(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.policies, ask.one("query")), ask.many("team_ids"))
    if users := ask.many("user_ids"):
        rows = [
            row
            for row in rows
            if any(target["id"] in users for rule in row["escalation_rules"] for target in rule["targets"])
        ]
    rows = sorted(rows, key=lambda row: row["name"], reverse=ask.one("sort_by").endswith("desc"))
    return 200, ask.page("escalation_policies", rows, lambda row: _policy(ask, row))


@route("GET", "/escalation_policies/{id}", "escalation_policies.read")
def get_policy(ask: Ask) -> Result:
    return 200, {"escalation_policy": _policy(ask, find(ask.world.policies, ask.path["id"]))}


def _policy_shapes(world: World) -> dict[str, Shape]:
    targets = [*world.users, *world.schedules]
    rule = record(
        {
            "escalation_delay_in_minutes": whole(1, 1440),
            "targets": list_of(reference_to(targets, "a user or a schedule"), 1, 10),
        }
    )
    return {
        "type": string(),
        "name": string(longest=100),
        "escalation_rules": list_of(rule, 1, 20),
        "description": string(blank=True),
        "num_loops": whole(0, 9),
        "on_call_handoff_notifications": one_of("if_has_services", "always"),
        "teams": list_of(reference_to(world.teams, "a team"), 0, 1),
    }


def _change_policy(ask: Ask, policy: Document, asked: Document) -> None:
    if any(row["name"] == asked.get("name") and row["id"] != policy["id"] for row in ask.world.policies):
        raise invalid("Name has already been taken")
    targets = [*ask.world.users, *ask.world.schedules]
    changed: Document = {
        name: asked[name]
        for name in ("name", "description", "num_loops", "on_call_handoff_notifications")
        if name in asked
    }
    if "name" in asked:
        changed["summary"] = asked["name"]
    if "teams" in asked:
        changed["teams"] = [reference(ask.world.teams[place]) for place in asked["teams"]]
    if "escalation_rules" in asked:
        changed["escalation_rules"] = [
            {
                "id": ask.world.next_id("PR"),
                "escalation_delay_in_minutes": rule["escalation_delay_in_minutes"],
                "targets": [reference(targets[place]) for place in rule["targets"]],
                "escalation_rule_assignment_strategy": "assign_to_everyone",
            }
            for rule in asked["escalation_rules"]
        ]
    policy |= changed


@route("POST", "/escalation_policies", "escalation_policies.write")
def create_policy(ask: Ask) -> Result:
    shapes = _policy_shapes(ask.world)
    required = {name: shapes.pop(name) for name in ("name", "escalation_rules")}
    asked = ask.read("escalation_policy", record(required, shapes))
    identifier = ask.world.next_id("P")
    policy: Document = {
        **document("escalation_policy", "escalation_policies", identifier, ""),
        "description": "",
        "num_loops": 0,
        "on_call_handoff_notifications": "if_has_services",
        "services": [],
        "teams": [],
    }
    _change_policy(ask, policy, asked)
    ask.world.policies.append(policy)
    return 201, {"escalation_policy": policy}


@route("PUT", "/escalation_policies/{id}", "escalation_policies.write")
def update_policy(ask: Ask) -> Result:
    policy = find(ask.world.policies, ask.path["id"])
    _change_policy(ask, policy, ask.read("escalation_policy", record({}, _policy_shapes(ask.world))))
    return 200, {"escalation_policy": policy}


# Schedules


@route("GET", "/schedules", "schedules.read")
def list_schedules(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.schedules, ask.one("query")), ask.many("team_ids"))
    shown = ask.include >= {"schedule_layers"}
    since, until = ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    zone_asked = ask.zone()

    def show(row: Document) -> Document:
        found = docs.schedule_document(ask.world, row, since if shown else None, until if shown else None, zone_asked)
        return {
            name: value
            for name, value in found.items()
            if name not in ("schedule_layers", "overrides_subschedule", "final_schedule")
            or name in ask.include
            or shown
        }

    return 200, ask.page("schedules", rows, show)


def _schedule(ask: Ask) -> Document:
    """The v2 schedule that the path names. v2 and v3 ids are two namespaces: the other one's is not unknown, but wrong."""
    if any(row["id"] == ask.path["id"] for row in ask.world.v3):
        raise invalid("This is a v3 schedule: ask for it at /v3/schedules")
    return find(ask.world.schedules, ask.path["id"])


@route("GET", "/schedules/{id}", "schedules.read")
def get_schedule(ask: Ask) -> Result:
    schedule, zone_asked = _schedule(ask), ask.zone()
    if not ask.one("since") and not ask.one("until"):
        return 200, {"schedule": docs.schedule_document(ask.world, schedule, None, None)}
    since, until = ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    found = docs.schedule_document(ask.world, schedule, since, until, zone_asked, overflow=ask.flag("overflow"))
    return 200, {"schedule": found}


_SCHEDULE_FIELDS = {
    "type": string(),
    "name": string(longest=255),
    "time_zone": zone,
    "description": string(blank=True),
}
"""What an update of a schedule of either kind may hold."""


@route("PUT", "/schedules/{id}", "schedules.write")
def update_schedule(ask: Ask) -> Result:
    schedule = _schedule(ask)
    asked = ask.read(
        "schedule",
        record(
            {},
            {
                **_SCHEDULE_FIELDS,
                "schedule_layers": list_of(_layer_shape(ask.world), 1, 100),
            },
        ),
    )
    changed: Document = {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    if "name" in asked:
        changed["summary"] = asked["name"]
    if "schedule_layers" in asked:
        changed["schedule_layers"] = [_layer(ask, row) for row in asked["schedule_layers"]]
        changed["users"] = list(
            {
                entry["user"]["id"]: entry["user"] for layer in changed["schedule_layers"] for entry in layer["users"]
            }.values()
        )
    schedule |= changed
    return 200, {"schedule": docs.schedule_document(ask.world, schedule, None, None)}


def _layer_shape(world: World) -> Shape:
    daily = record({"type": string(), "start_time_of_day": clock, "duration_seconds": whole(1, DAY)})
    weekly = record(
        {
            "type": string(),
            "start_time_of_day": clock,
            "start_day_of_week": whole(1, 7),
            "duration_seconds": whole(1, 7 * DAY),
        }
    )

    def restriction(value: Any, path: Path, faults: list[Fault]) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in ("daily_restriction", "weekly_restriction"):
            faults.append(((*path, "type"), "must be daily_restriction or weekly_restriction"))
            return {}
        return (daily if kind == "daily_restriction" else weekly)(value, path, faults)

    return record(
        {
            "start": moment,
            "rotation_virtual_start": moment,
            "rotation_turn_length_seconds": whole(HOUR, 365 * DAY),
            "users": list_of(record({"user": reference_to(world.users, "a user")}), 1, 500),
        },
        {
            "id": string(),
            "name": string(longest=255),
            "end": moment,
            "restrictions": list_of(restriction, 0, 100),
        },
    )


def _layer(ask: Ask, asked: Document) -> Document:
    return {
        "id": asked.get("id") or ask.world.next_id("PL"),
        "name": asked.get("name", "Layer"),
        "start": iso(parse_time(asked["start"])),
        "end": iso(parse_time(asked["end"])) if "end" in asked else None,
        "rotation_virtual_start": iso(parse_time(asked["rotation_virtual_start"])),
        "rotation_turn_length_seconds": asked["rotation_turn_length_seconds"],
        "users": [{"user": reference(ask.world.users[entry["user"]])} for entry in asked["users"]],
        "restrictions": asked.get("restrictions", []),
    }


@route("GET", "/schedules/{id}/users", "users.read")
def list_schedule_users(ask: Ask) -> Result:
    schedule = _schedule(ask)
    since, until = ask.window(ask.now, ask.now + 1)
    on = {shift[2] for shift in final_shifts(schedule, since, until)}
    return 200, {
        "users": [
            docs.user_document(ask.world, place) for place, user in enumerate(ask.world.users) if user["id"] in on
        ]
    }


def _required_window(ask: Ask) -> tuple[float, float]:
    if missing := [name for name in ("since", "until") if not ask.one(name)]:
        raise invalid(*(f"{name.capitalize()} cannot be empty" for name in missing))
    return ask.window(0, 0)


@route("GET", "/schedules/{id}/overrides", "schedules.read")
def list_overrides(ask: Ask) -> Result:
    schedule = _schedule(ask)
    since, until = _required_window(ask)
    return 200, {
        "overrides": [
            override
            for override in schedule["overrides"]
            if parse_time(override["start"]) < until and parse_time(override["end"]) > since
        ]
    }


@route("POST", "/schedules/{id}/overrides", "schedules.write")
def create_overrides(ask: Ask) -> Result:
    schedule = _schedule(ask)
    asked = ask.body.get("overrides") if isinstance(ask.body, dict) else None
    if asked is None and isinstance(ask.body, dict) and isinstance(ask.body.get("override"), dict):
        asked = [ask.body["override"]]
    if not isinstance(asked, list) or not asked:
        raise invalid("Overrides cannot be empty")
    shape = record({"start": moment, "end": moment, "user": reference_to(ask.world.users, "a user")})
    results = []
    for row in asked:
        faults: list[Fault] = []
        wanted = shape(row, (), faults)
        errors = [sentence(fault, "override") for fault in faults]
        if not errors and not ask.now < parse_time(wanted["end"]) > parse_time(wanted["start"]):
            errors = ["Override must end after it starts, and in the future"]
        if errors:
            results.append({"status": 400, "errors": errors, "override": row})
            continue
        override = {
            "id": ask.world.next_id("Q"),
            "start": iso(parse_time(wanted["start"])),
            "end": iso(parse_time(wanted["end"])),
            "user": reference(ask.world.users[wanted["user"]]),
        }
        schedule["overrides"].append(override)
        results.append({"status": 201, "override": override})
    return 201, results


@route("GET", "/oncalls", "oncalls.read")
def list_oncalls(ask: Ask) -> Result:
    world = ask.world
    since, until = ask.window(ask.now, ask.now + 1, FAR)
    if until > ask.now + FAR:
        raise invalid("Until must be at most 90 days in the future")
    schedules = {schedule["id"]: schedule for schedule in world.schedules}
    users = {user["id"]: user for user in world.users}
    wanted_users, wanted_schedules = ask.many("user_ids"), ask.many("schedule_ids")
    wanted_policies = ask.many("escalation_policy_ids")
    rendered: dict[str, list[tuple[float, float, str]]] = {}
    rows: list[Document] = []
    for policy in world.policies:
        if wanted_policies and policy["id"] not in wanted_policies:
            continue
        for level, rule in enumerate(policy["escalation_rules"], 1):
            for target in rule["targets"]:
                schedule = schedules.get(target["id"])
                if wanted_schedules and target["id"] not in wanted_schedules:
                    continue
                shifts: list[tuple[float | None, float | None, str]] = [(None, None, target["id"])]
                if schedule is not None:
                    # Whole shifts, not cut at the window's edges: widened, then kept where they touch it.
                    if schedule["id"] not in rendered:
                        rendered[schedule["id"]] = final_shifts(schedule, since - 15 * DAY, until + 15 * DAY)
                    shifts = [shift for shift in rendered[schedule["id"]] if shift[0] < until and shift[1] > since]
                seen = set()
                for start, end, user in shifts:
                    if (wanted_users and user not in wanted_users) or (ask.flag("earliest") and user in seen):
                        continue
                    seen.add(user)
                    row: Document = {
                        "escalation_policy": docs.expanded(policy, "escalation_policies", ask.include),
                        "escalation_level": level,
                        "user": docs.expanded(users[user], "users", ask.include),
                        "schedule": None if schedule is None else docs.expanded(schedule, "schedules", ask.include),
                        "start": None if start is None else iso(start),
                        "end": None if end is None else iso(end),
                    }
                    rows.append(row)
    return 200, ask.page("oncalls", rows)


# v3 schedules: their errors are a map of fields


def v3_invalid(faults: Iterable[Fault], top: str) -> ApiError:
    error = ApiError(400, "Invalid Input Provided", 2001)
    fields: dict[str, list[str]] = {}
    for fault in faults:
        fields.setdefault(field_of(fault, top), []).append(fault[1])
    error.document["error"]["errors"] = fields
    return error


@route("GET", "/v3/schedules")
def list_schedules_v3(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.v3, ask.one("query")), ask.many("team_ids"))
    references = [
        {
            "id": row["id"],
            "type": "schedule_v3_reference",
            "summary": row["name"],
            "self": row["self"],
            "html_url": row["html_url"],
        }
        for row in rows
    ]
    return 200, _v3_page(ask, "schedules", references)


def _v3_page(ask: Ask, name: str, rows: Sequence[Document]) -> Document:
    limit, offset = ask.rows_asked(100, 1000)
    return {
        name: rows[offset : offset + limit],
        "limit": limit,
        "offset": offset,
        "more": offset + limit < len(rows),
    }


def _schedule_v3(ask: Ask) -> Document:
    if any(row["id"] == ask.path["id"] for row in ask.world.schedules):
        raise v3_invalid([(("id",), "is of a v2 schedule: ask for it at /schedules")], "id")
    return find(ask.world.v3, ask.path["id"])


@route("GET", "/v3/schedules/{id}")
def get_schedule_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    since, until = ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    return 200, {"schedule": docs.v3_document(ask.world, schedule, since, until, ask.include)}


@route("PUT", "/v3/schedules/{id}")
def update_schedule_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    asked = ask.read_v3(
        "schedule",
        record(
            {},
            {
                **_SCHEDULE_FIELDS,
                "rotations": _not_permitted,
            },
        ),
    )
    schedule |= {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    return 200, {"schedule": docs.v3_document(ask.world, schedule, ask.now, ask.now + FORTNIGHT, frozenset())}


def _not_permitted(value: Any, path: Path, faults: list[Fault]) -> Any:
    faults.append((path, "is not permitted"))


def _shift_of(required: dict[str, Shape], optional: dict[str, Shape] | None = None) -> Shape:
    """A shift with an end after its start."""
    fields = record({"start_time": moment, "end_time": moment, **required}, {"type": string(), **(optional or {})})

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        before = len(faults)
        found = fields(value, path, faults)
        if len(faults) == before and parse_time(found["start_time"]) >= parse_time(found["end_time"]):
            faults.append(((*path, "end_time"), "must be after start_time"))
        return found

    return read


def _member(world: World) -> Shape:
    known = {user["id"] for user in world.users}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        kind, user = (value.get("type"), value.get("user_id")) if isinstance(value, dict) else (None, None)
        if kind == "empty_member":
            return {"type": "empty_member"}
        if kind != "user_member" or not isinstance(user, str) or user not in known:
            faults.append((path, "is not a user of the account"))
        return {"type": "user_member", "user_id": user}

    return read


@route("GET", "/v3/schedules/{id}/overrides")
def list_overrides_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    since, until = _required_window(ask)
    rows = [
        row
        for row in schedule["overrides"]
        if parse_time(row["start_time"]) < until and parse_time(row["end_time"]) > since
    ]
    return 200, _v3_page(ask, "overrides", rows)


@route("POST", "/v3/schedules/{id}/overrides")
def create_overrides_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    shifts = {shift["id"] for shift in schedule["custom_shifts"]}

    def replaced(known: Iterable[str]) -> Shape:
        def read(value: Any, path: Path, faults: list[Fault]) -> Any:
            if value not in list(known):
                faults.append((path, "is not of this schedule"))
            return value

        return read

    shape = _shift_of(
        {"overridden_member": _member(ask.world), "overriding_member": _member(ask.world)},
        {"rotation_id": replaced([schedule["rotation"]]), "custom_shift_id": replaced(shifts)},
    )
    asked = ask.read_v3("overrides", list_of(shape, 1))
    if any(("rotation_id" in row) == ("custom_shift_id" in row) for row in asked):
        raise v3_invalid([(("base",), "needs rotation_id or custom_shift_id, not both")], "base")
    made = []
    for row in asked:
        identifier = ask.world.next_id("OV")
        made.append(
            {
                "id": identifier,
                "type": "override_shift",
                **{name: row[name] for name in ("rotation_id", "custom_shift_id") if name in row},
                "start_time": iso(parse_time(row["start_time"])),
                "end_time": iso(parse_time(row["end_time"])),
                "overridden_member": row["overridden_member"],
                "overriding_member": row["overriding_member"],
                "self": f"{API}/v3/schedules/{schedule['id']}/overrides/{identifier}",
                "html_url": f"{SITE}/schedules/{schedule['id']}",
            }
        )
    schedule["overrides"] += made
    return 201, {"overrides": made}


@route("POST", "/v3/schedules/{id}/custom_shifts")
def create_custom_shifts(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    assignment = record({"member": _member(ask.world)}, {"type": string()})
    asked = ask.read_v3("custom_shifts", list_of(_shift_of({"assignments": list_of(assignment, 1, 1)}), 1))
    made = []
    for row in asked:
        identifier = ask.world.next_id("CS")
        made.append(
            {
                "id": identifier,
                "type": "custom_shift",
                "start_time": iso(parse_time(row["start_time"])),
                "end_time": iso(parse_time(row["end_time"])),
                "assignments": [
                    {
                        "id": ask.world.next_id("SA"),
                        "type": "shift_assignment",
                        "member": row["assignments"][0]["member"],
                    }
                ],
                "self": f"{API}/v3/schedules/{schedule['id']}/custom_shifts/{identifier}",
                "html_url": f"{SITE}/schedules/{schedule['id']}",
            }
        )
    schedule["custom_shifts"] += made
    return 201, {"custom_shifts": made}


# Users


@route("GET", "/users", "users.read")
def list_users(ask: Ask) -> Result:
    rows = {user["id"] for user in of_teams(matching(ask.world.users, ask.one("query")), ask.many("team_ids"))}
    places = [place for place, user in enumerate(ask.world.users) if user["id"] in rows]
    return 200, ask.page("users", places, lambda place: docs.user_document(ask.world, place, ask.include))


@route("GET", "/users/me")
def get_me(ask: Ask) -> Result:
    if ask.token.user is None:
        error = ApiError(400, "", 0)
        error.document = {
            "error": "The request could not be completed with an account-level access token: it names no user."
        }
        raise error
    return 200, {"user": docs.user_document(ask.world, ask.token.user, ask.include)}


def _user(ask: Ask) -> int:
    return ask.world.users.index(find(ask.world.users, ask.path["id"]))


@route("GET", "/users/{id}", "users.read")
def get_user(ask: Ask) -> Result:
    return 200, {"user": docs.user_document(ask.world, _user(ask), ask.include)}


@route("GET", "/users/{id}/contact_methods", "users:contact_methods.read")
def list_contact_methods(ask: Ask) -> Result:
    return 200, {"contact_methods": contact_methods(ask.world, _user(ask))}


# Analytics


IDS: Final = list_of(string())
ANALYTICS: Final = record(
    {},
    {
        "filters": record(
            {},
            {
                **dict.fromkeys(
                    ("created_at_start", "created_at_end", "date_range_start", "date_range_end", "updated_after"),
                    moment,
                ),
                **dict.fromkeys(
                    (
                        *("team_ids", "service_ids", "escalation_policy_ids", "responder_ids", "incident_type_ids"),
                        *("priority_ids", "priority_names"),
                    ),
                    IDS,
                ),
                "urgency": one_of("high", "low"),
                "major": boolean,
            },
        ),
        "time_zone": zone,
        "aggregate_unit": one_of("day", "week", "month"),
        "limit": whole(1, 1000),
        "order": one_of("asc", "desc"),
        "order_by": string(),
        "starting_after": string(blank=True),
        "ending_before": string(blank=True),
    },
)


def _asked(ask: Ask) -> Document:
    """The body of a question to the analytics."""
    faults: list[Fault] = []
    found: Document = ANALYTICS(ask.body, (), faults)
    if faults:
        raise invalid(*(sentence(fault, "the body") for fault in faults))
    return found


def _filters(ask: Ask, start: str = "created_at_start", end: str = "created_at_end") -> tuple[list[Incident], Document]:
    filters: Document = _asked(ask).get("filters", {})
    if ask.token.kind != "account" and not (filters.get("team_ids") or filters.get("service_ids")):
        raise invalid("Filters must hold team_ids or service_ids for this token")
    since = parse_time(filters[start]) if start in filters else ask.now - MONTH
    until = parse_time(filters[end]) if end in filters else ask.now
    services, teams = set(filters.get("service_ids", ())), frozenset(filters.get("team_ids", ()))
    if since > until:
        raise invalid("The time range must start before it ends")
    if until - since > 366 * DAY:
        raise invalid("The time range is longer than a year")
    world = ask.world
    rows = [
        row
        for row in world.incidents
        if since <= row.created < until
        and (not services or world.services[row.service]["id"] in services)
        and (not teams or of_teams([world.services[row.service]], teams))
        and filters.get("urgency", row.urgency) == row.urgency
    ]
    return rows, filters


def _average(values: Iterable[float]) -> int:
    listed = list(values)
    return round(mean(listed)) if listed else 0


def _percentile(values: Iterable[float], part: int) -> int:
    listed = sorted(values)
    return round(listed[min(len(listed) - 1, len(listed) * part // 100)]) if listed else 0


def _hour_of(ask: Ask, incident: Incident) -> str:
    """business, off or sleep, in the assignee's own time zone."""
    person = ask.world.users[incident.assignee or 0]
    local = dt.datetime.fromtimestamp(incident.created, ZoneInfo(person["time_zone"]))
    if 8 <= local.hour < 18 and local.isoweekday() < 6:
        return "business"
    return "sleep" if local.hour >= 22 or local.hour < 8 else "off"


def _metrics(ask: Ask, rows: Sequence[Incident]) -> Document:
    acknowledged = [row.acknowledged[0] - row.created for row in rows if row.acknowledged]
    resolved = [row.resolved[0] - row.created for row in rows if row.resolved]
    engaged = [row.resolved[0] - row.acknowledged[0] for row in rows if row.resolved and row.acknowledged]
    hours = Counter(_hour_of(ask, row) for row in rows if row.urgency == "high")
    return {
        "mean_assignment_count": 1 if rows else 0,
        "mean_engaged_seconds": _average(engaged),
        "mean_engaged_user_count": 1 if engaged else 0,
        "mean_seconds_to_engage": _average(acknowledged),
        "mean_seconds_to_first_ack": _average(acknowledged),
        "mean_seconds_to_mobilize": 0,
        "mean_seconds_to_resolve": _average(resolved),
        "mean_user_defined_engaged_seconds": 0,
        "total_business_hour_interruptions": hours["business"],
        "total_engaged_seconds": round(sum(engaged)),
        "total_escalation_count": 0,
        "total_incident_count": len(rows),
        "total_incidents_acknowledged": len(acknowledged),
        "total_incidents_auto_resolved": sum(1 for row in rows if row.resolved and row.resolved[1] is None),
        "total_incidents_manual_escalated": 0,
        "total_incidents_reassigned": 0,
        "total_incidents_timeout_escalated": 0,
        "total_interruptions": sum(hours.values()),
        "total_notifications": len(rows),
        "total_off_hour_interruptions": hours["off"],
        "total_sleep_hour_interruptions": hours["sleep"],
        "total_snoozed_seconds": 0,
        "total_user_defined_engaged_seconds": 0,
        "up_time_pct": 100.0,
    }


def _grouped(ask: Ask, key: Callable[[Incident], tuple[tuple[str, Any], ...]]) -> Result:
    rows, filters = _filters(ask)
    groups: dict[tuple[tuple[str, Any], ...], list[Incident]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    data = [{**_metrics(ask, group), **dict(name)} for name, group in groups.items()]
    return 200, {
        "data": sorted(data, key=lambda row: -row["total_incident_count"]),
        "filters": filters,
        "time_zone": _asked(ask).get("time_zone", "Etc/UTC"),
        "order": "desc",
        "order_by": "total_incident_count",
    }


def _team(ask: Ask, row: Incident) -> tuple[tuple[str, Any], ...]:
    team = ask.world.services[row.service]["teams"][0]
    return (("team_id", team["id"]), ("team_name", team["summary"]))


@route("POST", "/analytics/metrics/incidents/all", "analytics.write")
def metrics_all(ask: Ask) -> Result:
    status, found = _grouped(ask, lambda row: ())
    rows, _ = _filters(ask)
    if not found["data"]:
        found["data"] = [_metrics(ask, [])]
    acknowledged = [row.acknowledged[0] - row.created for row in rows if row.acknowledged]
    resolved = [row.resolved[0] - row.created for row in rows if row.resolved]
    for part in (50, 75, 90, 95):
        found["data"][0][f"p{part}_seconds_to_first_ack"] = _percentile(acknowledged, part)
        found["data"][0][f"p{part}_seconds_to_resolve"] = _percentile(resolved, part)
    return status, found


@route("POST", "/analytics/metrics/incidents/services", "analytics.write")
def metrics_services(ask: Ask) -> Result:
    def key(row: Incident) -> tuple[tuple[str, Any], ...]:
        service = ask.world.services[row.service]
        return (("service_id", service["id"]), ("service_name", service["name"]), *_team(ask, row))

    return _grouped(ask, key)


@route("POST", "/analytics/metrics/incidents/teams", "analytics.write")
def metrics_teams(ask: Ask) -> Result:
    return _grouped(ask, lambda row: _team(ask, row))


@route("POST", "/analytics/metrics/incidents/escalation_policies", "analytics.write")
def metrics_policies(ask: Ask) -> Result:
    def key(row: Incident) -> tuple[tuple[str, Any], ...]:
        policy = docs.escalation_policy_of(ask.world, row)
        return (
            ("escalation_policy_id", policy["id"]),
            ("escalation_policy_name", policy["name"]),
            *_team(ask, row),
        )

    return _grouped(ask, key)


def _responders(ask: Ask, *, by_team: bool) -> Result:
    rows, filters = _filters(ask, "date_range_start", "date_range_end")
    groups: dict[tuple[int, Any], list[Incident]] = defaultdict(list)
    for row in rows:
        if row.assignee is not None:
            groups[row.assignee, _team(ask, row) if by_team else None].append(row)
    data = []
    for (place, team), group in groups.items():
        found = _metrics(ask, group)
        shown: Document = {
            name: found[name]
            for name in (
                "mean_engaged_seconds",
                "total_business_hour_interruptions",
                "total_engaged_seconds",
                "total_incident_count",
                "total_incidents_acknowledged",
                "total_interruptions",
                "total_notifications",
                "total_off_hour_interruptions",
                "total_sleep_hour_interruptions",
            )
        }
        shown |= {
            f"total_incidents_{what}_{way}": 0
            for what in ("manual_escalated", "reassigned", "timeout_escalated")
            for way in ("from", "to")
        }
        own = _team(ask, group[0]) if team is None else team
        data.append(
            {
                **shown,
                "mean_time_to_acknowledge_seconds": found["mean_seconds_to_first_ack"],
                "responder_id": ask.world.users[place]["id"],
                "responder_name": ask.world.users[place]["name"],
                **dict(own),
                **_seconds_on_call(ask, place, filters),
            }
        )
    return 200, {
        "data": sorted(data, key=lambda row: -row["total_incident_count"]),
        "filters": filters,
        "time_zone": _asked(ask).get("time_zone", "Etc/UTC"),
        "order": "desc",
        "order_by": "total_incident_count",
    }


def _seconds_on_call(ask: Ask, place: int, filters: Document) -> Document:
    since = parse_time(filters["date_range_start"]) if "date_range_start" in filters else ask.now - MONTH
    until = parse_time(filters["date_range_end"]) if "date_range_end" in filters else ask.now
    wanted = ask.world.users[place]["id"]
    levels = [0.0, 0.0]
    for level, schedules in ((0, ask.world.schedules[:6]), (1, ask.world.schedules[6:12])):
        for schedule in schedules:
            if any(user["id"] == wanted for user in schedule["users"]):
                levels[level] += sum(
                    end - start for start, end, user in final_shifts(schedule, since, until) if user == wanted
                )
    return {
        "total_seconds_on_call": round(sum(levels)),
        "total_seconds_on_call_level_1": round(levels[0]),
        "total_seconds_on_call_level_2_plus": round(levels[1]),
    }


@route("POST", "/analytics/metrics/responders/all", "analytics.write")
def metrics_responders(ask: Ask) -> Result:
    return _responders(ask, by_team=False)


@route("POST", "/analytics/metrics/responders/teams", "analytics.write")
def metrics_responders_by_team(ask: Ask) -> Result:
    return _responders(ask, by_team=True)


@route("POST", "/analytics/raw/incidents", "analytics.write")
def raw_incidents(ask: Ask) -> Result:
    rows, filters = _filters(ask)
    body = _asked(ask)
    limit, order = body.get("limit", 100), body.get("order", "desc")
    rows = sorted(rows, key=lambda row: row.created, reverse=order == "desc")
    start = 0
    if body.get("starting_after"):
        places = {row.id: number for number, row in enumerate(rows)}
        if body["starting_after"] not in places:
            raise invalid("Starting after is not a cursor of this query")
        start = places[body["starting_after"]] + 1
    page = rows[start : start + limit]
    return 200, {
        "data": [_raw(ask, row) for row in page],
        "first": page[0].id if page else "",
        "last": page[-1].id if page else "",
        "limit": limit,
        "more": start + limit < len(rows),
        "order": order,
        "order_by": "created_at",
        "filters": filters,
        "time_zone": body.get("time_zone", "Etc/UTC"),
    }


def _raw(ask: Ask, row: Incident) -> Document:
    world = ask.world
    service, policy = world.services[row.service], docs.escalation_policy_of(world, row)
    person = None if row.assignee is None else world.users[row.assignee]
    people = [person["id"]] if person else []
    names = [person["name"] if person else ""][: len(people)]
    hour = _hour_of(ask, row)
    found: Document = {
        "id": row.id,
        "incident_number": row.place + 1,
        "description": row.title,
        "created_at": iso(row.created),
        "updated_at": iso(max(happening.at for happening in row.happenings())),
        "status": row.status,
        "urgency": row.urgency,
        "service_id": service["id"],
        "service_name": service["name"],
        "escalation_policy_id": policy["id"],
        "escalation_policy_name": policy["name"],
        **dict(_team(ask, row)),
        "major": False,
        "auto_resolved": bool(row.resolved and row.resolved[1] is None),
        "assigned_user_ids": people,
        "assigned_user_names": names,
        "assignment_count": 1,
        "acknowledgement_count": 1 if row.acknowledged else 0,
        "acknowledged_user_ids": people if row.acknowledged else [],
        "acknowledged_user_names": names if row.acknowledged else [],
        "engaged_seconds": round(row.resolved[0] - row.acknowledged[0]) if row.resolved and row.acknowledged else 0,
        "engaged_user_count": 1 if row.acknowledged else 0,
        "escalation_count": 0,
        "manual_escalation_count": 0,
        "timeout_escalation_count": 0,
        "reassignment_count": 0,
        "priority_id": None if row.priority is None else world.priorities[row.priority]["id"],
        "priority_name": None if row.priority is None else world.priorities[row.priority]["name"],
        "priority_order": None if row.priority is None else world.priorities[row.priority]["order"],
        "business_hour_interruptions": int(hour == "business"),
        "off_hour_interruptions": int(hour == "off"),
        "sleep_hour_interruptions": int(hour == "sleep"),
        "total_interruptions": 1,
        "total_notifications": 1,
        "snoozed_seconds": 0,
        "user_defined_effort_seconds": None,
    }
    if row.acknowledged:
        found["seconds_to_first_ack"] = found["seconds_to_engage"] = round(row.acknowledged[0] - row.created)
    if row.resolved:
        found["resolved_at"] = iso(row.resolved[0])
        found["seconds_to_resolve"] = round(row.resolved[0] - row.created)
        if row.resolved[1] is not None:
            by = world.users[row.resolved[1]]
            found |= {"resolved_by_user_id": by["id"], "resolved_by_user_name": by["name"]}
    return found
