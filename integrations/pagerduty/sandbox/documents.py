"""The account's things as PagerDuty's documents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Set
from typing import Any
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.render import (
    Shift,
    coverage,
    final_shifts,
    laid_over,
    layer_shifts,
    override_shifts,
)
from integrations.pagerduty.sandbox.world import (
    API,
    SITE,
    Happening,
    Incident,
    World,
    contact_methods,
    document,
    iso,
    parse_time,
    reference,
)

Document = dict[str, Any]

ENTRY_SUMMARIES = {
    "trigger": "Triggered through the API.",
    "assign": "Assigned to {name}.",
    "notify": "Notified {name} by SMS.",
    "acknowledge": "Acknowledged by {name}.",
    "unacknowledge": "Unacknowledged.",
    "resolve": "Resolved by {name}.",
    "annotate": "Note added by {name}.",
    "escalate": "Escalated to {name}.",
    "urgency_change": "Urgency changed by {name}.",
}


def expanded(whole: Document, kind: str, include: Set[str]) -> Document:
    """The whole document where ``include[]`` asks for its kind, else a reference."""
    return bare(whole) if kind in include else reference(whole)


def bare(whole: Document) -> Document:
    """Without what only ``include[]`` or a sub-resource shows."""
    return {name: value for name, value in whole.items() if name not in ("overrides", "crew", "rotation")}


def incident_reference(incident: Incident) -> Document:
    return reference(document("incident", "incidents", incident.id, f"[#{incident.place + 1}] {incident.title}"))


def first_entry(incident: Incident) -> Document:
    """A reference to the entry of its trigger."""
    identifier = incident.happenings()[0].id
    return {
        "id": identifier,
        "type": "trigger_log_entry_reference",
        "summary": ENTRY_SUMMARIES["trigger"],
        "self": f"{API}/log_entries/{identifier}",
        "html_url": f"{SITE}/incidents/{incident.id}/log_entries/{identifier}",
    }


def escalation_policy_of(world: World, incident: Incident) -> Document:
    if incident.policy is not None:
        return world.policies[incident.policy]
    wanted = world.services[incident.service]["escalation_policy"]["id"]
    return next(policy for policy in world.policies if policy["id"] == wanted)


def incident_document(world: World, incident: Incident, include: Set[str] = frozenset()) -> Document:
    service = world.services[incident.service]
    policy = escalation_policy_of(world, incident)
    happenings = incident.happenings()
    changed = max(
        [
            incident.created,
            *(h.at for h in happenings if h.type in ("acknowledge", "resolve", "unacknowledge", "trigger")),
        ]
    )
    person = None if incident.assignee is None else world.users[incident.assignee]
    by: Document = reference(service)
    if incident.resolved is not None and incident.resolved[1] is not None:
        by = reference(world.users[incident.resolved[1]])
    elif incident.resolved is None and incident.acknowledged is not None:
        by = reference(world.users[incident.acknowledged[1]])
    is_open = incident.status != "resolved"
    found: Document = {
        **document("incident", "incidents", incident.id, f"[#{incident.place + 1}] {incident.title}"),
        "incident_number": incident.place + 1,
        "title": incident.title,
        "description": incident.title,
        "created_at": iso(incident.created),
        "updated_at": iso(max(happening.at for happening in happenings)),
        "status": incident.status,
        "incident_key": incident.key,
        "incident_type": {"name": "incident_default"},
        "service": expanded(service, "services", include),
        "assignments": (
            [{"at": iso(incident.created + 1), "assignee": expanded(person, "assignees", include)}]
            if is_open and person is not None
            else []
        ),
        "assigned_via": "escalation_policy",
        "last_status_change_at": iso(changed),
        "last_status_change_by": by,
        "first_trigger_log_entry": first_entry(incident),
        "alert_counts": {
            "all": 1,
            "triggered": 1 if is_open else 0,
            "resolved": 0 if is_open else 1,
        },
        "is_mergeable": is_open,
        "escalation_policy": expanded(policy, "escalation_policies", include),
        "teams": [
            expanded(team, "teams", include)
            for team in world.teams
            if any(team["id"] == mine["id"] for mine in service["teams"])
        ],
        "pending_actions": [],
        "acknowledgements": (
            [
                {
                    "at": iso(incident.acknowledged[0]),
                    "acknowledger": expanded(world.users[incident.acknowledged[1]], "acknowledgers", include),
                }
            ]
            if incident.status == "acknowledged" and incident.acknowledged is not None
            else []
        ),
        "urgency": incident.urgency,
    }
    if not is_open and incident.resolved is not None:
        found["resolved_at"] = iso(incident.resolved[0])
    if incident.priority is not None:
        found["priority"] = world.priorities[incident.priority]
    if incident.details and "body" in include:
        found["body"] = {"type": "incident_body", "details": incident.details}
    return found


def alert_document(world: World, incident: Incident) -> Document:
    service = world.services[incident.service]
    identifier = f"A{incident.id[1:]}"
    return {
        "id": identifier,
        "type": "alert",
        "summary": incident.title,
        "self": f"{API}/incidents/{incident.id}/alerts/{identifier}",
        "html_url": f"{SITE}/alerts/{identifier}",
        "created_at": iso(incident.created),
        "status": "resolved" if incident.status == "resolved" else "triggered",
        "alert_key": incident.key,
        "service": reference(service),
        "first_trigger_log_entry": first_entry(incident),
        "incident": incident_reference(incident),
        "suppressed": False,
        "severity": "critical" if incident.urgency == "high" else "warning",
        "integration": {
            "id": f"PINT{service['id'][-3:]}",
            "type": "events_api_v2_inbound_integration_reference",
            "summary": "Events API V2",
            "self": f"{API}/services/{service['id']}/integrations/PINT{service['id'][-3:]}",
            "html_url": f"{SITE}/services/{service['id']}/integrations/PINT{service['id'][-3:]}",
        },
        "body": {"type": "alert_body", "contexts": [], "details": {"source": incident.title}},
    }


def entry_document(world: World, incident: Incident, happening: Happening, include: Set[str] = frozenset()) -> Document:
    service = world.services[incident.service]
    person = None if happening.agent is None else world.users[happening.agent]
    kind = f"{happening.type}_log_entry"
    found: Document = {
        "id": happening.id,
        "type": kind,
        "summary": ENTRY_SUMMARIES[happening.type].format(name=person["name"] if person else "the service"),
        "self": f"{API}/log_entries/{happening.id}",
        "html_url": f"{SITE}/incidents/{incident.id}/log_entries/{happening.id}",
        "created_at": iso(happening.at),
        "agent": reference(service if person is None or happening.type in ("assign", "notify") else person),
        "channel": happening.channel or {"type": "auto"},
        "service": expanded(service, "services", include),
        "incident": (incident_document(world, incident) if "incidents" in include else incident_reference(incident)),
        "teams": [
            expanded(team, "teams", include)
            for team in world.teams
            if any(team["id"] == mine["id"] for mine in service["teams"])
        ],
        "contexts": [],
    }
    if happening.type == "trigger":
        found["event_details"] = {"description": incident.title}
    if happening.type == "assign" and person is not None:
        found["assignees"] = [reference(person)]
    if happening.type == "notify" and person is not None:
        found["user"] = reference(person)
    return found


def user_document(world: World, place: int, include: Set[str] = frozenset()) -> Document:
    found = dict(world.users[place])
    methods = contact_methods(world, place)
    rules = [
        {
            "id": f"PNR{method['id'][3:]}",
            "type": "assignment_notification_rule",
            "summary": f"Notify by {method['type'].removesuffix('_contact_method')} at once",
            "self": f"{API}/users/{found['id']}/notification_rules/PNR{method['id'][3:]}",
            "html_url": None,
            "start_delay_in_minutes": 0,
            "urgency": "high",
            "contact_method": {
                "id": method["id"],
                "type": f"{method['type']}_reference",
                "summary": method["label"],
                "self": method["self"],
                "html_url": None,
            },
        }
        for method in methods
    ]
    found["contact_methods"] = methods if "contact_methods" in include else [rule["contact_method"] for rule in rules]
    found["notification_rules"] = (
        rules
        if "notification_rules" in include
        else [
            {name: rule[name] for name in ("id", "summary", "self", "html_url")}
            | {"type": "assignment_notification_rule_reference"}
            for rule in rules
        ]
    )
    if "teams" in include:
        found["teams"] = [team for team in world.teams if team["id"] in {mine["id"] for mine in found["teams"]}]
    return found


def rendered(shifts: list[Shift], users: dict[str, Document], zone: ZoneInfo) -> list[Document]:
    return [
        {
            "start": dt.datetime.fromtimestamp(start, zone).isoformat(),
            "end": dt.datetime.fromtimestamp(end, zone).isoformat(),
            "user": reference(users[user]),
        }
        for start, end, user in shifts
    ]


def schedule_document(
    world: World,
    schedule: Document,
    since: float | None,
    until: float | None,
    zone: ZoneInfo | None = None,
    *,
    overflow: bool = False,
) -> Document:
    """As ``GET /schedules/{id}`` answers it: entries are rendered only for a window that was asked for."""
    users = {user["id"]: user for user in world.users}
    own = ZoneInfo(schedule["time_zone"])
    shown = zone or own
    found = bare(schedule)
    layers = []
    empty: Document = {"rendered_schedule_entries": []}
    for layer in reversed(schedule["schedule_layers"]):  # the highest layer comes first
        extra: Document = dict(empty)
        if since is not None and until is not None:
            shifts = layer_shifts(layer, own, since, until)
            extra = _subschedule(shifts, users, shown, since, until)
        layers.append({**layer, **extra})
    found["schedule_layers"] = layers
    found["overrides_subschedule"] = {"name": "Overrides", **empty}
    found["final_schedule"] = {"name": "Final Schedule", **empty}
    if since is not None and until is not None:
        low, high = (since - 31 * 86_400, until + 31 * 86_400) if overflow else (since, until)
        final = [shift for shift in final_shifts(schedule, low, high) if shift[1] > since and shift[0] < until]
        overrides = [shift for shift in override_shifts(schedule, low, high) if shift[1] > since and shift[0] < until]
        found["overrides_subschedule"] |= _subschedule(overrides, users, shown, since, until)
        found["final_schedule"] |= _subschedule(final, users, shown, since, until)
    return found


def _subschedule(
    shifts: list[Shift], users: dict[str, Document], zone: ZoneInfo, since: float, until: float
) -> Document:
    return {
        "rendered_schedule_entries": rendered(shifts, users, zone),
        "rendered_coverage_percentage": coverage(shifts, since, until),
    }


def v3_turns(schedule: Document, world: World, since: float, until: float) -> list[Shift]:
    """A v3 schedule's weekly rotation, and its custom shifts and overrides over it."""
    week = 7 * 86_400
    begin = world.now - 57 * week
    crew = [world.users[place]["id"] for place in schedule["crew"]]
    shifts: list[Shift] = []
    number = int((since - begin) // week)
    while (start := begin + number * week) < until:
        low, high = max(start, since), min(start + week, until)
        if low < high:
            shifts.append((low, high, crew[number % len(crew)]))
        number += 1
    for shift in schedule["custom_shifts"]:
        user = shift["assignments"][0]["member"].get("user_id", "")
        shifts = _over(shifts, shift, user, since, until)
    for override in schedule["overrides"]:
        user = override["overriding_member"].get("user_id", "")
        shifts = _over(shifts, override, user, since, until)
    return laid_over(shifts, [])


def _over(shifts: list[Shift], what: Document, user: str, since: float, until: float) -> list[Shift]:
    low, high = max(parse_time(what["start_time"]), since), min(parse_time(what["end_time"]), until)
    return laid_over(shifts, [(low, high, user)]) if low < high else shifts


def v3_document(world: World, schedule: Document, since: float, until: float, include: Set[str]) -> Document:
    identifier = schedule["id"]
    week = dt.datetime.fromtimestamp(world.now - 57 * 7 * 86_400, dt.UTC)
    zone = schedule["time_zone"]
    users = [world.users[place] for place in schedule["crew"]]
    event_id = f"EV{schedule['rotation'][3:]}"
    rotation_url = f"{API}/v3/schedules/{identifier}/rotations/{schedule['rotation']}"
    found: Document = {
        "id": identifier,
        "type": "schedule_v3",
        "name": schedule["name"],
        "time_zone": zone,
        "description": schedule.get("description", ""),
        "teams": schedule["teams"],
        "escalation_policies": [],
        "users": [{"id": user["id"], "type": "user_reference"} for user in users],
        "rotations": [
            {
                "id": schedule["rotation"],
                "type": "schedule_rotation",
                "self": rotation_url,
                "html_url": schedule["html_url"],
                "events": [
                    {
                        "id": event_id,
                        "type": "schedule_event",
                        "name": "Weekly",
                        "start_time": {"date_time": week.isoformat(), "time_zone": zone},
                        "end_time": {"date_time": (week + dt.timedelta(days=7)).isoformat(), "time_zone": zone},
                        "effective_since": week.isoformat(),
                        "effective_until": None,
                        "recurrence": ["RRULE:FREQ=WEEKLY"],
                        "assignment_strategy": {
                            "type": "rotating_member_assignment_strategy",
                            "shifts_per_member": 1,
                            "members": [{"type": "user_member", "user_id": user["id"]} for user in users],
                        },
                        "self": f"{rotation_url}/events/{event_id}",
                        "html_url": schedule["html_url"],
                    }
                ],
            }
        ],
        "self": schedule["self"],
        "html_url": schedule["html_url"],
        "http_cal_url": schedule["http_cal_url"],
        "web_cal_url": schedule["http_cal_url"].replace("https://", "webcal://"),
    }
    if "final_schedule" in include:
        shifts = v3_turns(schedule, world, since, until)
        named = [shift for shift in shifts if shift[2]]
        found["final_schedule"] = {
            "type": "final_schedule",
            "rendered_coverage_percentage": coverage(named, since, until),
            "computed_shift_assignments": [
                {
                    "type": "computed_shift_assignment",
                    "start_time": iso(start),
                    "end_time": iso(end),
                    "member": {"type": "user_member", "user_id": user} if user else {"type": "empty_member"},
                    "source": {"id": schedule["rotation"], "type": "schedule_rotation"},
                }
                for start, end, user in shifts
            ],
        }
    return found
