"""Incidents, their alerts, notes and log entries."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    BULK_LIMIT,
    LONGEST_WINDOW,
    MONTH,
    ApiError,
    Ask,
    Result,
    find,
    find_incident,
    invalid,
    not_found,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    list_of,
    one_of,
    record,
    reference_to,
    string,
    whole,
)
from integrations.pagerduty.sandbox.world import (
    DAY,
    Happening,
    Incident,
    World,
    iso,
    number_id,
    reference,
)


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
