"""What the account holds beside people, schedules, services and incidents: generated, each by its own random numbers.

Rows are the documents as PagerDuty shows them, but for what is derived at each read: names of references, states, counts.
"""

from __future__ import annotations

import random
import re
import uuid
from typing import Any, Final

from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
    HOUR,
    World,
    document,
    iso,
    number_id,
    reference,
)

Row = dict[str, Any]
MAIL: Final = "pagewarden-sandbox.pagerduty.com"
EXTENSIONS: Final = (
    ("generic_v2_webhook", "Generic V2 Webhook", "Sends what happens to an incident to an address."),
    ("slack", "Slack", "Posts incidents to a channel."),
    ("servicenow", "ServiceNow", "Opens a ServiceNow incident for each incident."),
    ("jira", "Jira Cloud", "Opens an issue for each incident."),
    ("zendesk", "Zendesk", "Links incidents and tickets."),
    ("microsoft_teams", "Microsoft Teams", "Posts incidents to a channel."),
)
"""Key, label, description."""
SEND_TYPES: Final = ("trigger", "acknowledge", "resolve", "delegate", "escalate", "unacknowledge", "assign")
STANDARDS: Final = (
    (
        "has_technical_service_description",
        "Service has a description",
        "Whoever is paged learns from it what the service is for.",
    ),
    (
        "minimum_escalation_policy_rule_depth",
        "Service has an escalation policy with 2 or more unique levels",
        "Somebody else is paged where the first level does not answer.",
    ),
    (
        "minimum_outbound_integrations",
        "Service has an extension or add-on (e.g. Slack, etc.)",
        "Whoever responds sees incidents where they already work.",
    ),
)
"""Type, name, description: the types whose names PagerDuty publishes."""
SEVERITIES: Final = {"incident": ("all good", "minor", "major", "critical"), "maintenance": ("maintenance",)}
IMPACTS: Final = {
    "incident": ("operational", "partial outage", "major outage"),
    "maintenance": ("operational", "under maintenance"),
}
STATUSES: Final = {
    "incident": ("investigating", "identified", "monitoring", "resolved"),
    "maintenance": ("scheduled", "in progress", "completed"),
}


def furnish(world: World) -> None:
    """Fill the account. Needs people, policies and services to be there."""
    _integrations(world)
    _business(world)
    _windows(world)
    _grouping(world)
    _extensions(world)
    _webhooks(world)
    _workflows(world)
    _orchestrations(world)
    _status_pages(world)
    _standards(world)
    _paused(world)


def _rng(world: World, area: str) -> random.Random:
    return random.Random(f"{area}-{world.seed}")


def key(rng: random.Random, length: int = 32) -> str:
    return "".join(rng.choice("0123456789abcdef") for _ in range(length))


def _integrations(world: World) -> None:
    """Two for each service: events and e-mail."""
    rng = _rng(world, "integrations")
    for service in world.services:
        path = f"services/{service['id']}/integrations"
        for kind, prefix, name, extra in (
            ("events_api_v2_inbound_integration", "PINT", "Events API V2", {"integration_key": key(rng)}),
            (
                "generic_email_inbound_integration",
                "PEML",
                "E-mail",
                {
                    "integration_email": f"{re.sub('[^a-z0-9]+', '-', service['name'].lower())}@{MAIL}",
                    "email_incident_creation": "on_new_email",
                },
            ),
        ):
            integration = {
                **document(kind, path, f"{prefix}{service['id'][-3:]}", name),
                "name": name,
                "service": service["id"],
                "created_at": service["created_at"],
                **extra,
            }
            world.integrations.append(integration)
            service["integrations"].append(reference(integration))


def _business(world: World) -> None:
    for place, service in enumerate(world.business):
        team = world.teams[place % len(world.teams)]
        service.setdefault("description", f"What customers know as {service['name']}")
        service.setdefault("point_of_contact", world.users[world.members[place % len(world.teams)][0]]["name"])
        service.setdefault("team", {name: team[name] for name in ("id", "type", "self")} | {"type": "team_reference"})


def _windows(world: World) -> None:
    """Two that are over, one that is going on, two to come. None on the busiest services, which the last are not."""
    for number, (start, hours) in enumerate(((-40 * DAY, 2), (-9 * DAY, 4), (-HOUR, 3), (2 * DAY, 2), (12 * DAY, 6))):
        first = len(world.services) - 1 - 2 * number
        world.windows.append(
            {
                "id": number_id("PMW", number, 4),
                "number": number + 1,
                "start": world.now + start,
                "end": world.now + start + hours * HOUR,
                "description": f"{'Database upgrade' if number % 2 else 'Network change'} {number + 1}",
                "services": [world.services[place]["id"] for place in (first, first - 1)[: 1 + number % 2]],
                "created_by": number,
            }
        )


def _grouping(world: World) -> None:
    """A setting for each service that groups alerts by time; three settings for several services at once."""
    kinds: tuple[tuple[str, Row], ...] = (
        ("content_based", {"aggregate": "all", "fields": ["summary", "component"], "time_window": 900}),
        ("intelligent", {"time_window": 300, "iag_fields": ["summary"]}),
        ("content_based", {"aggregate": "any", "fields": ["source"], "time_window": 3600}),
    )
    shared = world.services[-6:]
    for number, (kind, config) in enumerate(kinds):
        services = shared[number * 2 : number * 2 + 2]
        for service in services:
            service["alert_grouping_parameters"] = {"type": kind, "config": config}
        _setting(world, f"Grouping {number + 1}", kind, config, services)
    for service in world.services[:-6]:
        parameters = service["alert_grouping_parameters"]
        _setting(world, service["name"], parameters["type"], parameters["config"], [service])


def _setting(world: World, name: str, kind: str, config: Row, services: list[Row]) -> None:
    world.grouping.append(
        {
            "id": number_id("PAGS", len(world.grouping), 4),
            "name": name,
            "description": f"How alerts of {name} are grouped",
            "type": kind,
            "config": config,
            "services": [service["id"] for service in services],
            "created_at": iso(world.now - 400 * DAY),
            "updated_at": iso(world.now - 30 * DAY),
        }
    )


def _extensions(world: World) -> None:
    for place, (name, label, text) in enumerate(EXTENSIONS):
        identifier = number_id("PEXT", place, 3)
        world.extension_schemas.append(
            {
                **document("extension_schema", "extension_schemas", identifier, label),
                "html_url": None,
                "key": name,
                "label": label,
                "description": text,
                "guide_url": f"https://guides.sandbox.example/{name}",
                "icon_url": f"https://guides.sandbox.example/{name}/icon.png",
                "logo_url": f"https://guides.sandbox.example/{name}/logo.png",
                "send_types": list(SEND_TYPES),
                "url": "",
            }
        )


def _webhooks(world: World) -> None:
    """Two subscriptions of other systems. Nothing is sent to them: they are no loopback addresses."""
    rng = _rng(world, "webhooks")
    for number, (filter_, events) in enumerate(
        (
            ({"type": "account_reference"}, ["incident.triggered", "incident.resolved"]),
            ({"type": "team_reference", "id": world.teams[0]["id"]}, ["incident.triggered", "incident.escalated"]),
        )
    ):
        world.webhooks.append(
            {
                "id": number_id("PWHK", number, 3),
                "active": True,
                "description": ("The data warehouse", "The chat of the team")[number],
                "events": events,
                "filter": filter_,
                "delivery_id": number_id("PDLM", number, 3),
                "url": f"https://hooks.sandbox.example/{number}",
                "custom_headers": [],
                "secret": key(rng, 64),
                "dropped": 0,
                "disabled_until": 0.0,
            }
        )


def _workflows(world: World) -> None:
    for place, (name, enabled, steps) in enumerate(
        (
            (
                "Major incident",
                True,
                (("add-note", "Major incident: join the bridge."), ("send-status-update", "We are on it.")),
            ),
            ("Hand over to the next shift", True, (("add-note", "Handed over."),)),
            ("Old escalation", False, (("add-note", "Escalated."),)),
        )
    ):
        identifier = number_id("PWFL", place, 3)
        world.workflows.append(
            {
                **document("incident_workflow", "incident_workflows", identifier, name, "flex-workflows/workflows"),
                "name": name,
                "description": f"What is done for: {name}",
                "created_at": iso(world.now - 200 * DAY),
                "is_enabled": enabled,
                "team": {"id": world.teams[place % len(world.teams)]["id"], "type": "team_reference"},
                "steps": [
                    _step(identifier, place * 8 + number, action, message)
                    for number, (action, message) in enumerate(steps)
                ],
            }
        )
    rng = _rng(world, "automation")
    for place, (name, kind, data) in enumerate(
        (
            ("Restart the service", "script", {"script": "systemctl restart app", "invocation_command": "/bin/sh"}),
            ("Collect diagnostics", "process_automation", {"process_automation_job_id": str(_uuid(rng))}),
            ("Clear the cache", "script", {"script": "redis-cli flushdb", "invocation_command": "/bin/sh"}),
        )
    ):
        world.automation_actions.append(
            {
                "id": number_id("01AACT", place, 20),
                "name": name,
                "action_type": kind,
                "action_data_reference": data,
                "runner": number_id("01RNNR", place % 2, 20),
            }
        )


def _step(workflow: str, number: int, action: str, message: str) -> Row:
    name = {"add-note": "Add a Note", "send-status-update": "Send Status Update"}[action]
    identifier = number_id("PSTP", number, 4)
    return {
        **document("step", f"incident_workflows/{workflow}/steps", identifier, name),
        "name": name,
        "description": name,
        "action_configuration": {
            "action_id": f"pagerduty.com:incident-workflows:{action}:1",
            "description": name,
            "inputs": [{"name": "Message", "parameter_type": "text", "value": message}],
            "outputs": [],
        },
    }


def _uuid(rng: random.Random) -> uuid.UUID:
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def rule_id(rng: random.Random) -> str:
    return key(rng, 8)


def _orchestrations(world: World) -> None:
    rng = _rng(world, "orchestrations")
    for place, (name, words) in enumerate((("Storefront", 4), ("Platform", 3), ("Unused", 0))):
        services = world.services[place * 5 : place * 5 + words]
        rules = [
            {
                "id": rule_id(rng),
                "label": f"Events of {service['name']}",
                "conditions": [{"expression": f"event.source matches part '{service['name']}'"}],
                "actions": {"route_to": service["id"]},
                "disabled": False,
            }
            for service in services
        ]
        world.orchestrations.append(
            {
                "id": str(_uuid(rng)),
                "name": f"{name} events",
                "description": f"Where events of {name} go",
                "team": place % len(world.teams),
                "integrations": [
                    {
                        "id": str(_uuid(rng)),
                        "label": f"{name} events Default Integration",
                        "parameters": {"routing_key": f"R0{key(rng, 30)}".upper(), "type": "global"},
                    }
                ],
                "created": world.now - 300 * DAY,
                "updated": world.now - 20 * DAY,
                "by": place,
                "updated_by": place,
                "version": key(rng),
                "router": {
                    "sets": [{"id": "start", "rules": rules}],
                    "catch_all": {"actions": {"route_to": "unrouted"}},
                },
                "global": {
                    "sets": [
                        {
                            "id": "start",
                            "rules": [
                                {
                                    "id": rule_id(rng),
                                    "label": "Drop what the load test sends",
                                    "conditions": [{"expression": "event.source matches part 'load-test'"}],
                                    "actions": {"drop_event": True},
                                }
                            ],
                        }
                    ],
                    "catch_all": {"actions": {}},
                },
            }
        )
    for service in world.services[:3]:
        world.service_rules[service["id"]] = {
            "sets": [
                {
                    "id": "start",
                    "rules": [
                        {
                            "id": rule_id(rng),
                            "label": "Informational events wake nobody",
                            "conditions": [{"expression": "event.severity matches 'info'"}],
                            "actions": {"suppress": True},
                        }
                    ],
                }
            ],
            "catch_all": {"actions": {}},
        }


def _status_pages(world: World) -> None:
    for place, (name, kind) in enumerate((("Sandbox status", "public"), ("Inside status", "private"))):
        identifier = number_id("PSTA", place, 3)
        page: Row = {
            "id": identifier,
            "name": name,
            "published_at": iso(world.now - 365 * DAY),
            "status_page_type": kind,
            "url": f"https://{kind}.status.sandbox.example",
            "severities": _levels(identifier, place, "severities", "status_page_severity", SEVERITIES),
            "impacts": _levels(identifier, place, "impacts", "status_page_impact", IMPACTS),
            "statuses": _levels(identifier, place, "statuses", "status_page_status", STATUSES),
            "services": [
                {"id": number_id("PSPS", place * 64 + number, 4), "type": "status_page_service", "name": row["name"]}
                for number, row in enumerate(world.business)
            ],
            "posts": [],
        }
        world.status_pages.append(page)
        _posts(world, page, place)


def _levels(page: str, place: int, plural: str, kind: str, words: dict[str, tuple[str, ...]]) -> list[Row]:
    listed = [(post_type, text) for post_type, texts in words.items() for text in texts]
    prefix = {"severities": "PSEV", "impacts": "PIMP", "statuses": "PSTT"}[plural]
    return [
        {
            "id": (identifier := number_id(prefix, place * 16 + number, 3)),
            "self": f"{API}/status_pages/{page}/{plural}/{identifier}",
            "description": text,
            "post_type": post_type,
            "status_page": {"id": page, "type": "status_page"},
            "type": kind,
        }
        for number, (post_type, text) in enumerate(listed)
    ]


def _posts(world: World, page: Row, place: int) -> None:
    for number, (title, kind, days, words) in enumerate(
        (
            ("Checkout was slow", "incident", -20, ("investigating", "identified", "resolved")),
            ("Search answered late", "incident", -1, ("investigating",)),
            ("Database upgrade", "maintenance", 3, ("scheduled",)),
        )
    ):
        identifier = number_id("PPST", place * 8 + number, 4)
        start = world.now + days * DAY
        severity = next(row for row in page["severities"] if row["post_type"] == kind)
        impact = next(row for row in reversed(page["impacts"]) if row["post_type"] == kind)
        page["posts"].append(
            {
                "id": identifier,
                "post_type": kind,
                "title": title,
                "starts_at": iso(start) if kind == "maintenance" else None,
                "ends_at": iso(start + 2 * HOUR) if kind == "maintenance" else None,
                "updates": [
                    {
                        "id": number_id("PPUP", (place * 8 + number) * 8 + step, 4),
                        "message": f"{title}: {word}.",
                        "reviewed_status": "approved",
                        "status": next(row["id"] for row in page["statuses"] if row["description"] == word),
                        "severity": severity["id"],
                        "impacted_services": [(page["services"][number]["id"], impact["id"])],
                        "update_frequency_ms": 1_800_000,
                        "notify_subscribers": False,
                        "reported_at": iso(min(start, world.now - HOUR) + step * 600),
                    }
                    for step, word in enumerate(words)
                ],
            }
        )


def _standards(world: World) -> None:
    for place, (kind, name, text) in enumerate(STANDARDS):
        world.standards.append(
            {
                "active": True,
                "description": text,
                "exclusions": [],
                "id": number_id("01STND", place, 20),
                "inclusions": [],
                "name": name,
                "resource_type": "technical_service",
                "type": kind,
            }
        )


def _paused(world: World) -> None:
    """Alerts of the last half year that were held back before they triggered: some then did, most went away."""
    rng = _rng(world, "paused")
    count = 8 * len(world.services)
    times = sorted(world.now - rng.random() * 183 * DAY for _ in range(count))
    world.paused = [
        (at, rng.randrange(len(world.services)), rng.choice(("auto_pause", "rules")), rng.random() < 0.25)
        for at in times
    ]
