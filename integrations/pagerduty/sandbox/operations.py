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
from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
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
        except (ValueError, OverflowError):
            raise invalid(f"{name.capitalize()} is not a valid ISO 8601 date.") from None

    def zone(self) -> ZoneInfo | None:
        text = self.one("time_zone")
        if not text:
            return None
        try:
            return ZoneInfo(text)
        except (ValueError, OSError, KeyError):
            raise invalid("Time zone is not one that PagerDuty knows.") from None

    def window(self, since: float, until: float, longest: float | None = None) -> tuple[float, float]:
        low, high = self.time("since", since), self.time("until", until)
        if low > high:
            raise invalid("Since must be before Until.")
        if longest is not None and high - low > longest:
            raise invalid("The time range is longer than 6 months.")
        return low, high

    def page(self, name: str, rows: Sequence[Any], show: Callable[[Any], Any] = lambda row: row) -> Document:
        limit, offset = self.number("limit", 25, 100), self.number("offset", 0)
        if limit + offset > ROW_LIMIT:
            raise ApiError(400, "Invalid Input Provided", 2002, ["Offset plus limit must not exceed 10000."])
        return {
            name: [show(row) for row in rows[offset : offset + limit]],
            "limit": limit,
            "offset": offset,
            "total": len(rows) if self.flag("total") else None,
            "more": offset + limit < len(rows),
        }

    def wrapped(self, name: str) -> Document:
        """The object inside a body: ``{"incident": {...}}``."""
        inner = self.body.get(name) if isinstance(self.body, dict) else None
        if not isinstance(inner, dict):
            raise invalid(f"The body must hold {name}.")
        return inner


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
        since, until = ask.window(ask.now - MONTH, ask.now + 1, LONGEST_WINDOW)
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
    asked = ask.wrapped("incident")
    title = asked.get("title")
    if not isinstance(title, str) or not title.strip():
        raise invalid("Title cannot be empty")
    service = asked.get("service")
    services = {row["id"]: place for place, row in enumerate(ask.world.services)}
    if not isinstance(service, dict) or service.get("id") not in services:
        raise invalid("Service cannot be found")
    key = asked.get("incident_key") or f"made/{len(ask.world.incidents)}"
    if any(row.key == key and row.status != "resolved" for row in ask.world.incidents):
        raise invalid("Open incident with matching dedup key already exists on this service")
    body = asked.get("body")
    incident = Incident(
        len(ask.world.incidents),
        number_id("PI", len(ask.world.incidents), 6),
        services[service["id"]],
        title,
        "low" if asked.get("urgency") == "low" else "high",
        ask.now,
        str(key),
        status="triggered",
        details=str(body.get("details", "")) if isinstance(body, dict) else "",
    )
    if isinstance(policy := asked.get("escalation_policy"), dict):
        incident.policy = ask.world.policies.index(find(ask.world.policies, str(policy.get("id"))))
    _set_priority(ask, incident, asked)
    if "assignments" in asked:
        _assign(ask, incident, asked["assignments"])
    else:
        incident.assignee = _first_on_call(ask, incident)
    ask.world.incidents.append(incident)
    return 201, {"incident": docs.incident_document(ask.world, incident, ask.include)}


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


def _set_priority(ask: Ask, incident: Incident, asked: Document) -> None:
    if "priority" in asked:
        wanted = asked["priority"]
        incident.priority = (
            None
            if not isinstance(wanted, dict)
            else ask.world.priorities.index(find(ask.world.priorities, str(wanted.get("id"))))
        )


def _assign(ask: Ask, incident: Incident, assignments: Any) -> None:
    people = {user["id"]: place for place, user in enumerate(ask.world.users)}
    try:
        incident.assignee = people[assignments[0]["assignee"]["id"]]
    except (KeyError, IndexError, TypeError):
        raise invalid("Assignee must be a user of the account") from None
    _happens(ask, incident, "assign", incident.assignee)


def _happens(ask: Ask, incident: Incident, kind: str, agent: int | None, channel: Document | None = None) -> None:
    number = sum(1 for _ in incident.more) + 10
    incident.more.append(Happening(f"R{incident.id[1:]}{number}", kind, ask.now, agent, channel or {"type": "api"}))


def _update(ask: Ask, incident: Incident, asked: Document) -> None:
    status = asked.get("status")
    if status not in (None, "acknowledged", "resolved", "triggered"):
        raise invalid("Status must be acknowledged, resolved or triggered")
    if isinstance(asked.get("title"), str) and asked["title"].strip():
        incident.title = asked["title"]
    if asked.get("urgency") in ("high", "low") and asked["urgency"] != incident.urgency:
        incident.urgency = asked["urgency"]
        _happens(ask, incident, "urgency_change", ask.sender)
    _set_priority(ask, incident, asked)
    if "assignments" in asked:
        _assign(ask, incident, asked["assignments"])
    if isinstance(policy := asked.get("escalation_policy"), dict):
        incident.policy = ask.world.policies.index(find(ask.world.policies, str(policy.get("id"))))
        _happens(ask, incident, "escalate", ask.sender)
    level = asked.get("escalation_level")
    if isinstance(level, int) and level != incident.level:
        if not 1 <= level <= len(docs.escalation_policy_of(ask.world, incident)["escalation_rules"]):
            raise invalid("Escalation level is not in the escalation policy")
        incident.level = level
        _happens(ask, incident, "escalate", ask.sender)
    if status == "acknowledged" and ask.sender is not None:
        incident.status, incident.resolved = "acknowledged", None
        incident.acknowledged = (ask.now, ask.sender)
    elif status == "resolved" and incident.status != "resolved":
        incident.status, incident.resolved = "resolved", (ask.now, ask.sender)
        if isinstance(asked.get("resolution"), str):
            _note(ask, incident, asked["resolution"])
    elif status == "triggered":
        incident.status, incident.resolved, incident.acknowledged = "triggered", None, None
        _happens(ask, incident, "unacknowledge", None)


@route("PUT", "/incidents/{id}", "incidents.write", needs_from=True)
def update_incident(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    _update(ask, incident, ask.wrapped("incident"))
    return 200, {"incident": docs.incident_document(ask.world, incident, ask.include)}


@route("PUT", "/incidents", "incidents.write", needs_from=True)
def update_incidents(ask: Ask) -> Result:
    asked = ask.body.get("incidents") if isinstance(ask.body, dict) else None
    if not isinstance(asked, list) or not all(isinstance(row, dict) for row in asked):
        raise invalid("The body must hold incidents.")
    if len(asked) > BULK_LIMIT:
        raise ApiError(413, "Request Entity Too Large", 2001, ["At most 250 incidents can be updated at once."])
    found = [(find_incident(ask.world, str(row.get("id"))), row) for row in asked]
    for incident, row in found:
        _update(ask, incident, row)
    page = ask.page(
        "incidents", [incident for incident, _ in found], lambda row: docs.incident_document(ask.world, row)
    )
    return 200, page


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
    content = ask.wrapped("note").get("content")
    if not isinstance(content, str) or not content.strip():
        raise invalid("Content cannot be empty")
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
    since, until = ask.window(ask.now - MONTH, ask.now + 1, LONGEST_WINDOW)
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


def _rules(ask: Ask, asked: Any) -> list[Document]:
    targets = {row["id"]: row for row in (*ask.world.users, *ask.world.schedules)}
    if not isinstance(asked, list) or not asked:
        raise invalid("Escalation rules cannot be empty")
    rules = []
    for rule in asked:
        try:
            found = [reference(targets[target["id"]]) for target in rule["targets"]]
            minutes = int(rule["escalation_delay_in_minutes"])
        except (KeyError, TypeError, ValueError):
            raise invalid("Each escalation rule needs targets of the account and a delay in minutes") from None
        if not found or minutes < 1:
            raise invalid("Each escalation rule needs at least one target, and at least one minute")
        rules.append(
            {
                "id": ask.world.next_id("PR"),
                "escalation_delay_in_minutes": minutes,
                "targets": found,
                "escalation_rule_assignment_strategy": "assign_to_everyone",
            }
        )
    return rules


def _change_policy(ask: Ask, policy: Document, asked: Document) -> None:
    name = asked.get("name", policy.get("name"))
    if not isinstance(name, str) or not name.strip():
        raise invalid("Name cannot be empty")
    if any(row["name"] == name and row["id"] != policy["id"] for row in ask.world.policies):
        raise invalid("Name has already been taken")
    if "escalation_rules" in asked or "escalation_rules" not in policy:
        policy["escalation_rules"] = _rules(ask, asked.get("escalation_rules"))
    if "teams" in asked:
        policy["teams"] = [reference(find(ask.world.teams, str(row.get("id")))) for row in asked["teams"]]
    for field_name in ("description", "num_loops", "on_call_handoff_notifications"):
        if field_name in asked:
            policy[field_name] = asked[field_name]
    policy |= {"name": name, "summary": name}


@route("POST", "/escalation_policies", "escalation_policies.write")
def create_policy(ask: Ask) -> Result:
    identifier = ask.world.next_id("P")
    policy: Document = {
        **document("escalation_policy", "escalation_policies", identifier, ""),
        "description": "",
        "num_loops": 0,
        "on_call_handoff_notifications": "if_has_services",
        "services": [],
        "teams": [],
    }
    _change_policy(ask, policy, ask.wrapped("escalation_policy"))
    ask.world.policies.append(policy)
    return 201, {"escalation_policy": policy}


@route("PUT", "/escalation_policies/{id}", "escalation_policies.write")
def update_policy(ask: Ask) -> Result:
    policy = find(ask.world.policies, ask.path["id"])
    _change_policy(ask, policy, ask.wrapped("escalation_policy"))
    return 200, {"escalation_policy": policy}


# Schedules


@route("GET", "/schedules", "schedules.read")
def list_schedules(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.schedules, ask.one("query")), ask.many("team_ids"))
    shown = ask.include >= {"schedule_layers"}
    since, until = ask.time("since", ask.now), ask.time("until", ask.now + 14 * DAY)

    def show(row: Document) -> Document:
        found = docs.schedule_document(ask.world, row, since if shown else None, until if shown else None, ask.zone())
        return {
            name: value
            for name, value in found.items()
            if name not in ("schedule_layers", "overrides_subschedule", "final_schedule")
            or name in ask.include
            or shown
        }

    return 200, ask.page("schedules", rows, show)


@route("GET", "/schedules/{id}", "schedules.read")
def get_schedule(ask: Ask) -> Result:
    schedule = find(ask.world.schedules, ask.path["id"])
    zone = ask.zone()
    if not ask.one("since") and not ask.one("until"):
        return 200, {"schedule": docs.schedule_document(ask.world, schedule, None, None)}
    since, until = ask.window(ask.now, ask.now + 14 * DAY)
    found = docs.schedule_document(ask.world, schedule, since, until, zone, overflow=ask.flag("overflow"))
    return 200, {"schedule": found}


@route("PUT", "/schedules/{id}", "schedules.write")
def update_schedule(ask: Ask) -> Result:
    schedule, asked = find(ask.world.schedules, ask.path["id"]), ask.wrapped("schedule")
    users = {user["id"]: user for user in ask.world.users}
    changed: Document = {}
    if "schedule_layers" in asked:
        changed["schedule_layers"] = [_layer(ask, row, users) for row in asked["schedule_layers"]]
        changed["users"] = list(
            {
                entry["user"]["id"]: entry["user"] for layer in changed["schedule_layers"] for entry in layer["users"]
            }.values()
        )
    if "time_zone" in asked:
        ask.query = {**ask.query, "time_zone": [str(asked["time_zone"])]}
        ask.zone()
        changed["time_zone"] = str(asked["time_zone"])
    if "name" in asked:
        if not str(asked["name"]).strip():
            raise invalid("Name cannot be empty")
        changed |= {"name": str(asked["name"]), "summary": str(asked["name"])}
    if "description" in asked:
        changed["description"] = asked["description"]
    schedule |= changed
    return 200, {"schedule": docs.schedule_document(ask.world, schedule, None, None)}


def _layer(ask: Ask, asked: Any, users: dict[str, Document]) -> Document:
    try:
        people = [{"user": reference(users[entry["user"]["id"]])} for entry in asked["users"]]
        turn = int(asked["rotation_turn_length_seconds"])
        for name in ("start", "rotation_virtual_start"):
            parse_time(asked[name])
    except (KeyError, TypeError, ValueError):
        raise invalid(
            "Each layer needs a start, a rotation_virtual_start, a turn length and users of the account"
        ) from None
    if turn < 3600 or not people:
        raise invalid("A layer's turn lasts at least an hour, and it has at least one user")
    return {
        "id": str(asked.get("id") or ask.world.next_id("PL")),
        "name": str(asked.get("name") or "Layer"),
        "start": asked["start"],
        "end": asked.get("end"),
        "rotation_virtual_start": asked["rotation_virtual_start"],
        "rotation_turn_length_seconds": turn,
        "users": people,
        "restrictions": asked.get("restrictions") or [],
    }


@route("GET", "/schedules/{id}/users", "users.read")
def list_schedule_users(ask: Ask) -> Result:
    schedule = find(ask.world.schedules, ask.path["id"])
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
    schedule = find(ask.world.schedules, ask.path["id"])
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
    schedule = find(ask.world.schedules, ask.path["id"])
    asked = ask.body.get("overrides") if isinstance(ask.body, dict) else None
    if asked is None and isinstance(ask.body, dict) and isinstance(ask.body.get("override"), dict):
        asked = [ask.body["override"]]
    if not isinstance(asked, list) or not asked:
        raise invalid("Overrides cannot be empty")
    users = {user["id"]: user for user in ask.world.users}
    results = []
    for row in asked:
        try:
            start, end = parse_time(row["start"]), parse_time(row["end"])
            user = users[row["user"]["id"]]
        except (KeyError, TypeError, ValueError):
            results.append(
                {"status": 400, "errors": ["Override needs a start, an end and a user of the account"], "override": row}
            )
            continue
        if not start < end or end <= ask.now:
            results.append(
                {"status": 400, "errors": ["Override must end after it starts, and in the future"], "override": row}
            )
            continue
        override = {
            "id": ask.world.next_id("Q"),
            "start": iso(start),
            "end": iso(end),
            "user": reference(user),
        }
        schedule["overrides"].append(override)
        results.append({"status": 201, "override": override})
    return 201, results


@route("GET", "/oncalls", "oncalls.read")
def list_oncalls(ask: Ask) -> Result:
    world = ask.world
    since, until = ask.window(ask.now, ask.now + 1)
    if until > ask.now + 91 * DAY:
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


def v3_invalid(**errors: str) -> ApiError:
    error = ApiError(400, "Invalid Input Provided", 2001)
    error.document["error"]["errors"] = {name: [text] for name, text in errors.items()}
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
    limit, offset = ask.number("limit", 100, 1000), ask.number("offset", 0)
    return {
        name: rows[offset : offset + limit],
        "limit": limit,
        "offset": offset,
        "more": offset + limit < len(rows),
    }


@route("GET", "/v3/schedules/{id}")
def get_schedule_v3(ask: Ask) -> Result:
    schedule = find(ask.world.v3, ask.path["id"])
    since, until = ask.window(ask.now, ask.now + 14 * DAY)
    return 200, {"schedule": docs.v3_document(ask.world, schedule, since, until, ask.include)}


@route("PUT", "/v3/schedules/{id}")
def update_schedule_v3(ask: Ask) -> Result:
    schedule = find(ask.world.v3, ask.path["id"])
    asked = ask.body.get("schedule") if isinstance(ask.body, dict) else None
    if not isinstance(asked, dict):
        raise v3_invalid(schedule="is missing")
    if "rotations" in asked:
        raise v3_invalid(rotations="is not permitted")
    if "name" in asked and not str(asked["name"]).strip():
        raise v3_invalid(name="can't be blank")
    schedule |= {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    return 200, {"schedule": docs.v3_document(ask.world, schedule, ask.now, ask.now + 14 * DAY, frozenset())}


def _v3_shift(ask: Ask, row: Any) -> Document:
    if not isinstance(row, dict):
        raise v3_invalid(base="is not an object")
    for name in ("start_time", "end_time"):
        try:
            parse_time(row[name])
        except (KeyError, TypeError, ValueError):
            raise v3_invalid(**{name: "is not a time"}) from None
    if parse_time(row["start_time"]) >= parse_time(row["end_time"]):
        raise v3_invalid(end_time="must be after start_time")
    return row


def _member(ask: Ask, name: str, member: Any) -> Document:
    known = {user["id"] for user in ask.world.users}
    if isinstance(member, dict) and member.get("type") == "empty_member":
        return {"type": "empty_member"}
    if not isinstance(member, dict) or member.get("type") != "user_member" or member.get("user_id") not in known:
        raise v3_invalid(**{name: "is not a user of the account"})
    return {"type": "user_member", "user_id": member["user_id"]}


@route("GET", "/v3/schedules/{id}/overrides")
def list_overrides_v3(ask: Ask) -> Result:
    schedule = find(ask.world.v3, ask.path["id"])
    since, until = _required_window(ask)
    rows = [
        row
        for row in schedule["overrides"]
        if parse_time(row["start_time"]) < until and parse_time(row["end_time"]) > since
    ]
    return 200, _v3_page(ask, "overrides", rows)


@route("POST", "/v3/schedules/{id}/overrides")
def create_overrides_v3(ask: Ask) -> Result:
    schedule = find(ask.world.v3, ask.path["id"])
    asked = ask.body.get("overrides") if isinstance(ask.body, dict) else None
    if not isinstance(asked, list) or not asked:
        raise v3_invalid(overrides="can't be blank")
    made = []
    for row in (_v3_shift(ask, row) for row in asked):
        if bool(row.get("rotation_id")) == bool(row.get("custom_shift_id")):
            raise v3_invalid(base="needs rotation_id or custom_shift_id, not both")
        if row.get("rotation_id") and row["rotation_id"] != schedule["rotation"]:
            raise v3_invalid(rotation_id="is not a rotation of this schedule")
        identifier = ask.world.next_id("OV")
        made.append(
            {
                "id": identifier,
                "type": "override_shift",
                **{name: row[name] for name in ("rotation_id", "custom_shift_id") if row.get(name)},
                "start_time": row["start_time"],
                "end_time": row["end_time"],
                "overridden_member": _member(ask, "overridden_member", row.get("overridden_member")),
                "overriding_member": _member(ask, "overriding_member", row.get("overriding_member")),
                "self": f"{API}/v3/schedules/{schedule['id']}/overrides/{identifier}",
                "html_url": f"{SITE}/schedules/{schedule['id']}",
            }
        )
    schedule["overrides"] += made
    return 201, {"overrides": made}


@route("POST", "/v3/schedules/{id}/custom_shifts")
def create_custom_shifts(ask: Ask) -> Result:
    schedule = find(ask.world.v3, ask.path["id"])
    asked = ask.body.get("custom_shifts") if isinstance(ask.body, dict) else None
    if not isinstance(asked, list) or not asked:
        raise v3_invalid(custom_shifts="can't be blank")
    made = []
    for row in (_v3_shift(ask, row) for row in asked):
        assignments = row.get("assignments")
        if not isinstance(assignments, list) or len(assignments) != 1 or not isinstance(assignments[0], dict):
            raise v3_invalid(assignments="must hold exactly one")
        identifier = ask.world.next_id("CS")
        made.append(
            {
                "id": identifier,
                "type": "custom_shift",
                "start_time": row["start_time"],
                "end_time": row["end_time"],
                "assignments": [
                    {
                        "id": ask.world.next_id("SA"),
                        "type": "shift_assignment",
                        "member": _member(ask, "member", assignments[0].get("member")),
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


def _filters(ask: Ask, start: str = "created_at_start", end: str = "created_at_end") -> tuple[list[Incident], Document]:
    filters = ask.body.get("filters", {}) if isinstance(ask.body, dict) else None
    if not isinstance(filters, dict):
        raise invalid("Filters must be an object")
    if ask.token.kind != "account" and not (filters.get("team_ids") or filters.get("service_ids")):
        raise invalid("Filters must hold team_ids or service_ids for this token")
    try:
        since = parse_time(filters[start]) if start in filters else ask.now - MONTH
        until = parse_time(filters[end]) if end in filters else ask.now
        services, teams = set(filters.get("service_ids", ())), frozenset(filters.get("team_ids", ()))
    except (TypeError, ValueError):
        raise invalid("Filters hold a time or a list that cannot be read") from None
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
        "time_zone": str(ask.body.get("time_zone") or "Etc/UTC"),
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
        "time_zone": str(ask.body.get("time_zone") or "Etc/UTC"),
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
    body = ask.body
    limit = body.get("limit", 100)
    if not isinstance(limit, int) or not 1 <= limit <= 1000:
        raise invalid("Limit must be between 1 and 1000")
    order = "asc" if body.get("order") == "asc" else "desc"
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
        "time_zone": str(body.get("time_zone") or "Etc/UTC"),
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
