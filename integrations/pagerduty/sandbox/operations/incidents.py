"""Incidents and their notes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    BULK_LIMIT,
    LONGEST_WINDOW,
    MONTH,
    ApiError,
    Ask,
    Result,
    created_between,
    find_incident,
    invalid,
    of_teams,
    route,
    to_its_end,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.oncalls import now_on_call
from integrations.pagerduty.sandbox.operations.services import maintained
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    list_of,
    one_of,
    record,
    reference_to,
    string,
    web_address,
    whole,
)
from integrations.pagerduty.sandbox.world import (
    USUAL,
    Incident,
    World,
    iso,
    number_id,
    phone,
    reference,
)


@route("GET", "/incidents", "incidents.read")
def list_incidents(ask: Ask) -> Result:
    rows: Sequence[Incident] = ask.world.incidents
    zone = ask.zone()
    if ask.one("date_range") != "all":
        # As its maintainers say (pdpyras #46): a month from ``since``, or to ``until``, where only that is given.
        since, until = to_its_end(ask.window(ask.now - MONTH, ask.now + 1, LONGEST_WINDOW, width=MONTH, zone=zone))
        rows = created_between(rows, since, until)
    services = ask.world.services
    values: dict[str, Callable[[Incident], str]] = {
        "statuses": lambda row: row.status,
        "urgencies": lambda row: row.urgency,
        "service_ids": lambda row: services[row.service]["id"],
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
    if key := ask.one("incident_key"):
        # An alert's key is that of the incident that it triggered, but for a number after a slash; others moved here.
        rows = [
            row
            for row in rows
            if (key.startswith(row.key) or row.extra is not None) and key in docs.alert_keys(ask.world, row)
        ]
    keys: dict[str, Callable[[Incident], Any]] = {
        "incident_number": lambda row: row.place,
        "created_at": lambda row: row.created,
        "resolved_at": lambda row: row.resolved[0] if row.resolved else float("inf"),
        "urgency": lambda row: row.urgency,
    }
    parts = [part for part in ask.one("sort_by").split(",") if part]
    if len(parts) > 2:
        raise invalid("Sort by takes at most two fields.")
    for part in reversed(parts):
        name, _, direction = part.partition(":")
        if name not in keys or direction not in ("", "asc", "desc"):
            raise invalid("Sort by is not a field that incidents can be sorted by.")
        rows = sorted(rows, key=keys[name], reverse=direction == "desc")
    return 200, ask.page(
        "incidents", rows, lambda row: docs.in_zone(docs.incident_document(ask.world, row, ask.include), zone)
    )


@route("GET", "/incidents/{id}", "incidents.read")
def get_incident(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    found = docs.incident_document(ask.world, incident, ask.include)
    if "custom_fields" in ask.include:
        found["custom_fields"] = docs.custom_field_values(ask.world, incident)
    return 200, {"incident": found}


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
    # So say PagerDuty's descriptions of a service's status and of maintenance windows; what it answers, they do not.
    if ask.world.services[service]["status"] == "disabled":
        raise invalid("Service is disabled: it takes no incidents")
    if ask.world.services[service]["id"] in maintained(ask):
        raise invalid("Service is in maintenance: it takes no incidents")
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
        alerts=0,
    )
    if "assignments" in asked:
        _assign(ask, incident, "direct", asked["assignments"][0]["assignee"])
    elif (assignee := on_call(ask, docs.escalation_policy_of(ask.world, incident))) is not None:
        _assign(ask, incident, "assign", assignee)
    else:
        # PagerDuty's knowledge base: where no level reaches anybody, no incident is made.
        raise invalid("Nobody is on call for the escalation policy")
    _describe(incident, asked)
    ask.world.incidents.append(incident)
    ask.tell("incident.triggered", incident)
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
        "incident_type": record({"name": one_of(*(row["name"] for row in world.incident_types if row["enabled"]))}),
        "conference_bridge": record({}, {"conference_number": string(longest=255), "conference_url": web_address()}),
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


def _describe(incident: Incident, asked: Document) -> None:
    """What a new incident and a changed one keep alike."""
    if "incident_type" in asked:
        incident.extras().type = asked["incident_type"]["name"]
    if "conference_bridge" in asked:
        incident.extras().bridge = asked["conference_bridge"]


def on_call(ask: Ask, policy: Document, level: int = 1) -> int | None:
    """Who answers first from a level of a policy upwards."""
    people = {user["id"]: place for place, user in enumerate(ask.world.users)}
    for rule in policy["escalation_rules"][level - 1 :]:
        for target in rule["targets"]:
            for user in now_on_call(ask.world, target["id"], ask.now):
                if user in people:
                    return people[user]
    return None


def _assign(ask: Ask, incident: Incident, kind: str, assignee: int | None) -> None:
    incident.assignee, incident.extras().direct = assignee, kind == "direct"
    if kind == "escalate":
        incident.happens("escalate", ask.now, assignee)
    incident.happens("assign", ask.now, assignee)
    if assignee is not None:
        notify(ask, incident, assignee, incident.urgency)


def notify(ask: Ask, incident: Incident, user: int, urgency: str) -> None:
    """By every way that a user wants to hear by at once."""
    for kind, delay, at_urgency in ask.world.reached[user][1] if user in ask.world.reached else USUAL:
        if at_urgency == urgency and not delay:
            told = {"type": f"{kind}_notification", "address": phone(user), "status": "success"}
            incident.happens("notify", ask.now, user, {"type": "auto", "notification": told})


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
    level = asked.get("escalation_level", 1 if place is not None else incident.level)
    if (place is not None or level != incident.level) and on_call(ask, policy, level) is None:
        # An incident that nobody holds is not made either; what PagerDuty answers here is not known.
        raise invalid("Nobody is on call for the escalation policy from that level on")


def _update(ask: Ask, incident: Incident, asked: Document) -> None:
    """Change an incident. Nothing of this fails: all of a call was checked before the first change."""
    incident.keep_log(ask.now)
    incident.title = asked.get("title", incident.title)
    if asked.get("service", incident.service) != incident.service:
        incident.service = asked["service"]
        ask.tell("incident.service_updated", incident)
    extra = incident.extras()
    kind, bridge = extra.type, extra.bridge
    _describe(incident, asked)
    if extra.type != kind:
        ask.tell("incident.incident_type.changed", incident)
    if extra.bridge != bridge:
        ask.tell("incident.conference_bridge.updated", incident, docs.bridge_told(extra.bridge))
    if asked.get("urgency", incident.urgency) != incident.urgency:
        incident.urgency = asked["urgency"]
        incident.happens("urgency_change", ask.now, ask.sender)
    if asked.get("priority", incident.priority) != incident.priority:
        incident.priority = asked["priority"]
        ask.tell("incident.priority_updated", incident)
    level = asked.get("escalation_level", 1 if "escalation_policy" in asked else incident.level)
    if "escalation_policy" in asked or level != incident.level:
        incident.policy, incident.level = asked.get("escalation_policy", incident.policy), level
        policy = docs.escalation_policy_of(ask.world, incident)
        _assign(ask, incident, "escalate", on_call(ask, policy, level))
        ask.tell("incident.delegated" if "escalation_policy" in asked else "incident.escalated", incident)
    if "assignments" in asked:
        _assign(ask, incident, "direct", asked["assignments"][0]["assignee"])
        ask.tell("incident.reassigned", incident)
    status = asked.get("status")
    if status == "acknowledged":
        acknowledge(ask, incident)
    elif status == "resolved" and incident.status != "resolved":
        resolve(ask, incident)
        if asked.get("resolution"):
            add_note(ask, incident, asked["resolution"])
    elif status == "triggered" and incident.status != "triggered":
        incident.happens("unacknowledge", ask.now, None)
        event = "incident.reopened" if incident.status == "resolved" else "incident.unacknowledged"
        incident.status, incident.resolved, incident.acknowledged = "triggered", None, None
        _wake(incident)
        ask.tell(event, incident)


def acknowledge(ask: Ask, incident: Incident) -> None:
    """Also opens a resolved incident again. Whoever was asked to help and acknowledges has joined."""
    if ask.sender is None:
        return
    incident.happens("acknowledge", ask.now, ask.sender)
    if incident.status == "resolved":
        incident.status, incident.resolved = "triggered", None
        ask.tell("incident.reopened", incident)
    incident.status, incident.resolved = "acknowledged", None
    incident.acknowledged = (ask.now, ask.sender)
    ask.tell("incident.acknowledged", incident)
    for responder in incident.extra.responders if incident.extra else ():
        if responder["user"]["id"] == ask.world.users[ask.sender]["id"] and responder["state"] == "pending":
            responder |= {"state": "joined", "updated_at": iso(ask.now)}
            ask.tell("incident.responder.replied", incident, docs.responder_told(responder))


def resolve(ask: Ask, incident: Incident, channel: Document | None = None, into: Incident | None = None) -> None:
    """``into``: the incident that it is merged into."""
    incident.happens("resolve", ask.now, ask.sender, channel)
    incident.status, incident.resolved = "resolved", (ask.now, ask.sender)
    _wake(incident)
    if into is not None:
        incident.extras().merged_into = into.place
    ask.tell("incident.resolved", incident)


def _wake(incident: Incident) -> None:
    if incident.extra is not None:
        incident.extra.snoozed_until = incident.extra.merged_into = None


@route("PUT", "/incidents/{id}", "incidents.write", needs_from=True)
def update_incident(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    shapes = {**_change(ask.world), "service": reference_to(ask.world.services, "a service")}
    asked = ask.read("incident", record({}, shapes, clearing=("priority",)))
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


def add_note(ask: Ask, incident: Incident, content: str) -> Document:
    identifier = ask.world.next_id("PN")
    user = ask.world.users[ask.sender or 0]
    note = {
        "id": identifier,
        "user": reference(user),
        "channel": {"summary": "The PagerDuty website or APIs"},
        "content": content,
        "created_at": iso(ask.now),
    }
    # The log first: as long as none is kept, it is derived from the notes.
    incident.happens("annotate", ask.now, ask.sender, {"type": "note", "summary": content})
    incident.notes.append(note)
    told = {"id": identifier, "content": content, "trimmed": False, "type": "incident_note"}
    ask.tell("incident.annotated", incident, told)
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
    return 200, {"note": add_note(ask, incident, content)}
