"""The account's things as PagerDuty's documents."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from collections.abc import Set
from typing import Any
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.world import (
    API,
    SITE,
    Alert,
    Change,
    Extra,
    Happening,
    Incident,
    World,
    contact_methods,
    document,
    iso,
    notification_rules,
    number_id,
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
    "snooze": "Snoozed by {name}.",
    "custom_field_value_change": "Custom fields changed by {name}.",
}
WAYS = {"sms": "SMS", "phone": "phone", "email": "e-mail", "push": "push notification"}
NOTHING_MORE = Extra()
"""What an incident has without an ``Extra``: never written to."""


def expanded(whole: Document, kind: str, include: Set[str]) -> Document:
    """The whole document where ``include[]`` asks for its kind, else a reference."""
    return bare(whole) if kind in include else reference(whole)


def bare(whole: Document) -> Document:
    """Without what only ``include[]`` or a sub-resource shows."""
    return {name: value for name, value in whole.items() if name != "overrides"}


TIMES = frozenset(
    ("at", "created_at", "last_status_change_at", "requested_at", "resolved_at", "started_at", "updated_at")
)


def in_zone(shown: Any, zone: ZoneInfo | None) -> Any:
    """A document with its times told in a zone; None: as they are."""
    if zone is None:
        return shown
    if isinstance(shown, list):
        return [in_zone(row, zone) for row in shown]
    if isinstance(shown, dict):
        return {
            name: dt.datetime.fromtimestamp(parse_time(value), zone).isoformat()
            if name in TIMES and isinstance(value, str)
            else in_zone(value, zone)
            for name, value in shown.items()
        }
    return shown


def responder_told(responder: Document, policy: Document | None = None) -> Document:
    """A responder as webhooks tell of one. ``policy``: through which they were called."""
    user = {name: value for name, value in responder["user"].items() if name != "avatar_url"}
    return {
        "user": user,
        "escalation_policy": None if policy is None else reference(policy),
        "message": responder["message"],
        "state": responder["state"],
        "type": "incident_responder",
    }


def bridge_told(bridge: dict[str, str] | None) -> Document:
    """A conference bridge as webhooks tell of its change."""
    number = (bridge or {}).get("conference_number")
    return {
        "conference_numbers": [] if number is None else [{"label": "", "number": number}],
        "conference_url": (bridge or {}).get("conference_url"),
        "type": "incident_conference_bridge",
    }


def relationship_document(edge: tuple[str, str, str, str]) -> Document:
    """A dependency. Its id hangs on its ends alone, so that it stays the same whatever else is added or removed."""
    upper, upper_kind, lower, lower_kind = edge
    digest = int.from_bytes(hashlib.sha256("/".join(edge).encode()).digest()[:9], "big")
    return {
        "id": number_id("D", digest, 15),
        "type": "service_dependency",
        "dependent_service": {"id": upper, "type": _dependency_kind(upper_kind)},
        "supporting_service": {"id": lower, "type": _dependency_kind(lower_kind)},
    }


def _dependency_kind(kind: str) -> str:
    return "technical_service_reference" if kind == "service" else "business_service_reference"


def incident_reference(incident: Incident) -> Document:
    return reference(document("incident", "incidents", incident.id, f"[#{incident.place + 1}] {incident.title}"))


def resolve_reason(world: World, incident: Incident) -> Document | None:
    """Why it is resolved, where it was merged into another."""
    if incident.status != "resolved" or incident.extra is None or incident.extra.merged_into is None:
        return None
    return {"type": "merge_resolve_reason", "incident": incident_reference(world.incidents[incident.extra.merged_into])}


def first_entry(world: World, incident: Incident, include: Set[str] = frozenset()) -> Document:
    """The entry of its trigger: a reference, or whole where ``include[]`` asks for it."""
    if "first_trigger_log_entries" in include:
        return entry_document(world, incident, incident.happenings()[0])
    identifier = incident.first_id
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
    extra = incident.extra or NOTHING_MORE
    if "users" in include:
        include = include | {"acknowledgers", "agents", "assignees"}
    changed = max(
        [
            incident.created,
            *(h.at for h in happenings if h.type in ("acknowledge", "resolve", "unacknowledge", "trigger")),
        ]
    )
    person = None if incident.assignee is None else world.users[incident.assignee]
    by = service
    if incident.resolved is not None and incident.resolved[1] is not None:
        by = world.users[incident.resolved[1]]
    elif incident.resolved is None and incident.acknowledged is not None:
        by = world.users[incident.acknowledged[1]]
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
        "incident_type": {"name": extra.type},
        "service": expanded(service, "services", include),
        "assignments": (
            [{"at": iso(_assigned_at(incident, happenings)), "assignee": expanded(person, "assignees", include)}]
            if is_open and person is not None
            else []
        ),
        "assigned_via": "direct_assignment" if extra.direct else "escalation_policy",
        "last_status_change_at": iso(changed),
        "last_status_change_by": expanded(by, "agents", include),
        "first_trigger_log_entry": first_entry(world, incident, include),
        "alert_counts": alert_counts(incident),
        "is_mergeable": is_open,
        "escalation_policy": expanded(policy, "escalation_policies", include),
        "teams": [
            expanded(team, "teams", include)
            for team in world.teams
            if any(team["id"] == mine["id"] for mine in service["teams"])
        ],
        "pending_actions": (
            [] if extra.snoozed_until is None else [{"type": "unacknowledge", "at": iso(extra.snoozed_until)}]
        ),
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
    if world.kind != "plan_gated":
        found |= {"incidents_responders": extra.responders, "responder_requests": extra.requests}
    if not is_open and incident.resolved is not None:
        found["resolved_at"] = iso(incident.resolved[0])
    if (reason := resolve_reason(world, incident)) is not None:
        found["resolve_reason"] = reason
    if incident.priority is not None:
        found["priority"] = world.priorities[incident.priority]
    if "conference_bridge" in include and extra.bridge is not None:
        found["conference_bridge"] = extra.bridge
    if incident.details and "body" in include:
        found["body"] = {"type": "incident_body", "details": incident.details}
    return found


def _assigned_at(incident: Incident, happenings: list[Happening]) -> float:
    return max((h.at for h in happenings if h.type == "assign"), default=incident.created + 1)


def custom_field_values(world: World, incident: Incident) -> list[Document]:
    """The account's fields with what this incident has in each."""
    values = (incident.extra or NOTHING_MORE).fields
    shown = ("id", "name", "display_name", "field_type", "data_type", "description")
    return [
        {
            "type": "field_value",
            **{name: row[name] for name in shown},
            "value": values.get(row["id"], row["default_value"]),
        }
        for row in world.custom_fields
    ]


def alert_id(world: World, alert: Alert) -> str:
    """That of an incident's first alert tells the incident; the others' have their number after it."""
    return f"A{world.incidents[alert.origin].id[1:]}{alert.number or ''}"


def alert_key(world: World, alert: Alert) -> str:
    key = world.incidents[alert.origin].key
    return f"{key}/{alert.number}" if alert.number else key


def alert_keys(world: World, incident: Incident) -> set[str]:
    """What an incident is found by: those of its alerts; its own where it has none."""
    return {alert_key(world, alert) for alert in incident.alert_list()} or {incident.key}


def alert_status(incident: Incident, alert: Alert) -> str:
    return "resolved" if alert.resolved or incident.status == "resolved" else "triggered"


def alert_counts(incident: Incident) -> dict[str, int]:
    statuses = [alert_status(incident, alert) for alert in incident.alert_list()]
    return {"all": len(statuses), "triggered": statuses.count("triggered"), "resolved": statuses.count("resolved")}


REGIONS = ("us-east-1", "eu-west-1", "ap-south-1")


def alert_created(world: World, alert: Alert) -> float:
    """A minute after the one before it, but never after the account's moment."""
    created = world.incidents[alert.origin].created
    return max(created, min(created + 60 * alert.number, world.now)) if created <= world.now else created


def integration_id(service: Document) -> str:
    """That of the integration that a service's events come in by."""
    return f"PINT{service['id'][-3:]}"


def change_document(world: World, change: Change) -> Document:
    service = world.services[change.service]
    integration = integration_id(service)
    return {
        "id": change.id,
        "type": "change_event",
        "summary": change.summary,
        "self": f"{API}/change_events/{change.id}",
        "html_url": f"{SITE}/change-events/{change.id}",
        "timestamp": iso(change.at),
        "source": change.source,
        "services": [reference(service)],
        "integration": {
            "id": integration,
            "type": "events_api_v2_inbound_integration_reference",
            "summary": "Events API V2",
            "self": f"{API}/services/{service['id']}/integrations/{integration}",
            "html_url": f"{SITE}/services/{service['id']}/integrations/{integration}",
        },
        "custom_details": {"deploy": change.deploy, "environment": "production", "service": service["name"]},
        "links": [{"href": f"https://builds.sandbox.example/{change.deploy}", "text": "The build"}],
        "images": [],
    }


def alert_document(world: World, incident: Incident, alert: Alert, include: Set[str] = frozenset()) -> Document:
    """``incident``: the one that it belongs to now."""
    origin = world.incidents[alert.origin]
    service = world.services[origin.service]
    identifier = alert_id(world, alert)
    created = alert_created(world, alert)
    # The title names the host of the first alert, or none.
    told = re.search(rf"{re.escape(service['name'])}-\d+", origin.title)
    host = told[0] if told and not alert.number else f"{service['name']}-{(origin.place + alert.number) % 20 + 1:02d}"
    region = REGIONS[origin.place % len(REGIONS)]
    severity = "critical" if origin.urgency == "high" else "warning"
    integration = integration_id(service)
    return {
        "id": identifier,
        "type": "alert",
        "summary": origin.title,
        "self": f"{API}/incidents/{incident.id}/alerts/{identifier}",
        "html_url": f"{SITE}/alerts/{identifier}",
        "created_at": iso(created),
        "status": alert_status(incident, alert),
        "alert_key": alert_key(world, alert),
        "service": expanded(service, "services", include),
        "first_trigger_log_entry": first_entry(world, origin, include),
        "incident": incident_document(world, incident) if "incidents" in include else incident_reference(incident),
        "suppressed": False,
        "severity": severity if alert.number == 0 else "warning",
        "integration": {
            "id": integration,
            "type": "events_api_v2_inbound_integration_reference",
            "summary": "Events API V2",
            "self": f"{API}/services/{service['id']}/integrations/{integration}",
            "html_url": f"{SITE}/services/{service['id']}/integrations/{integration}",
        },
        "body": {
            "type": "alert_body",
            "contexts": [
                {
                    "type": "link",
                    "href": f"https://graphs.sandbox.example/d/{service['name']}?from={int(created) - 3600}&var-host={host}",
                    "text": "Graph of the hour before",
                }
            ],
            "details": {
                "source": host,
                "component": service["name"],
                "region": region,
                "environment": "production",
                "monitor": f"monitor-{1000 + origin.service * 10 + alert.number}",
                "description": origin.title,
                "severity": severity,
                "firing_since": iso(created - 300),
                "tags": [f"service:{service['name']}", f"host:{host}", f"region:{region}"],
            },
        },
    }


def entry_document(world: World, incident: Incident, happening: Happening, include: Set[str] = frozenset()) -> Document:
    service = world.services[incident.service]
    person = None if happening.agent is None else world.users[happening.agent]
    kind = f"{happening.type}_log_entry"
    by_itself = happening.type in ("assign", "notify") or happening.channel.get("type") == "timeout"
    found: Document = {
        "id": happening.id,
        "type": kind,
        "summary": _entry_summary(happening, person),
        "self": f"{API}/log_entries/{happening.id}",
        "html_url": f"{SITE}/incidents/{incident.id}/log_entries/{happening.id}",
        "created_at": iso(happening.at),
        "agent": reference(service if person is None or by_itself else person),
        "channel": _channel(world, incident, happening, include),
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
    if happening.type in ("assign", "escalate") and person is not None:
        found["assignees"] = [reference(person)]
    if happening.type == "notify" and person is not None:
        found["user"] = reference(person)
    if happening.type == "annotate":
        found["note"] = happening.channel.get("summary", "")
    if happening.type == "acknowledge" and service.get("acknowledgement_timeout"):
        found["acknowledgement_timeout"] = service["acknowledgement_timeout"]
    if happening.type == "snooze":
        found["changed_actions"] = [{"type": "unacknowledge", "at": happening.channel["until"]}]
    if happening.type == "custom_field_value_change":
        found["changeset"] = [
            f"Updated {row['name']} to {row['value'] if isinstance(row['value'], str) else json.dumps(row['value'])}"
            for row in happening.channel["changeset"]["customer_fields"]
        ]
    return found


def _entry_summary(happening: Happening, person: Document | None) -> str:
    name = person["name"] if person else "the service"
    if happening.type == "notify" and "notification" in happening.channel:
        way = happening.channel["notification"]["type"].removesuffix("_notification")
        return f"Notified {name} by {WAYS.get(way, way)}."
    return ENTRY_SUMMARIES[happening.type].format(name=name)


def notification_of(world: World, happening: Happening) -> Document:
    """How somebody was notified. A push has no address."""
    found: Document = dict(happening.channel["notification"])
    if found["type"] == "email_notification" and happening.agent is not None:
        found["address"] = world.users[happening.agent]["email"]
    if found["type"] == "push_notification":
        del found["address"]
    return found


def _channel(world: World, incident: Incident, happening: Happening, include: Set[str]) -> Document:
    channel = happening.channel or {"type": "auto"}
    if "notification" in channel:
        return {**channel, "notification": notification_of(world, happening)}
    if "channels" in include and happening.type == "trigger" and incident.alert_list():
        body = alert_document(world, incident, incident.alert_list()[0])["body"]
        return {**channel, "summary": incident.title, "details": body["details"], "contexts": body["contexts"]}
    return channel


def user_document(world: World, place: int, include: Set[str] = frozenset()) -> Document:
    found = dict(world.users[place])
    methods, rules = contact_methods(world, place), notification_rules(world, place)
    found["contact_methods"] = [method if "contact_methods" in include else reference(method) for method in methods]
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
