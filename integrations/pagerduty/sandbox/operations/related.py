"""What PagerDuty finds near an incident: past and related ones, how usual it is, changes, business services."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    LONGEST_WINDOW,
    Ask,
    Result,
    find_incident,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.business_services import supported_by
from integrations.pagerduty.sandbox.world import API, HOUR, Incident, World, iso, number_id

PAST_LIMIT: Final = 999
NEAR: Final = 2 * HOUR
"""How far apart incidents begin that are related."""
RELATED_LIMIT: Final = 20
FREQUENT, RARE = 0.2, 0.05
"""Shares of a service's incidents."""


def template(title: str) -> str:
    """A title without what differs from one incident to the next: the words with a digit in them."""
    return " ".join("<*>" if re.search(r"\d", word) else word for word in title.split())


def likeness(one: str, other: str) -> float:
    """From 0 to 100, of two templates: the share of the words that both have."""
    mine, others = set(one.split()), set(other.split())
    return round(100 * len(mine & others) / max(1, len(mine | others)), 4)


def _short(incident: Incident) -> Document:
    return {
        "id": incident.id,
        "created_at": iso(incident.created),
        "self": f"{API}/incidents/{incident.id}",
        "title": incident.title,
    }


def _shown(ask: Ask, incident: Incident) -> Document:
    whole = "incident" in ask.many("additional_details")
    return docs.incident_document(ask.world, incident) if whole else _short(incident)


@route("GET", "/incidents/{id}/past_incidents", "incidents.read", plan=True)
def list_past_incidents(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    limit = ask.number("limit", 5)
    if not 1 <= limit <= PAST_LIMIT:
        raise invalid("Limit must be from 1 to 999.")
    wanted = template(incident.title)
    rows = [
        (likeness(wanted, template(row.title)), row)
        for row in ask.world.incidents
        if row.service == incident.service and ask.now - LONGEST_WINDOW <= row.created < incident.created
    ]
    alike = sorted((pair for pair in rows if pair[0]), key=lambda pair: (-pair[0], -pair[1].created))
    return 200, {
        "past_incidents": [{"incident": _short(row), "score": score} for score, row in alike[:limit]],
        "total": len(alike) if ask.flag("total") else None,
        "limit": limit,
    }


@route("GET", "/incidents/{id}/related_incidents", "incidents.read", plan=True)
def list_related_incidents(ask: Ask) -> Result:
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    near = [
        row
        for row in world.incidents
        if abs(row.created - incident.created) <= NEAR and row.service != incident.service
    ]
    near.sort(key=lambda row: row.created, reverse=True)
    found = [(row, list(_relationships(world, incident, row))) for row in near]
    return 200, {
        "related_incidents": [{"incident": _shown(ask, row), "relationships": why} for row, why in found if why][
            :RELATED_LIMIT
        ]
    }


def _relationships(world: World, incident: Incident, other: Incident) -> Iterator[Document]:
    mine, others = world.services[incident.service], world.services[other.service]
    merged = [row.extra.merged_into for row in (incident, other) if row.extra is not None]
    is_merged = incident.place in merged or other.place in merged
    # The name of the service aside, which both titles may well tell.
    one, two = (
        template(row.title.replace(service["name"], "")) for row, service in ((incident, mine), (other, others))
    )
    if is_merged or one == two:
        yield {
            "type": "machine_learning_inferred",
            "metadata": {
                "grouping_classification": "prior_feedback" if is_merged else "similar_contents",
                "user_feedback": {"positive_feedback_count": int(is_merged), "negative_feedback_count": 0},
            },
        }
    for upper, lower in ((mine, others), (others, mine)):
        if (upper["id"], "service", lower["id"], "service") in world.edges:
            yield {
                "type": "service_dependency",
                "metadata": {
                    f"{name}_services": [
                        {"id": service["id"], "type": "technical_service_reference", "self": service["self"]}
                    ]
                    for name, service in (("dependent", upper), ("supporting", lower))
                },
            }


@route("GET", "/incidents/{id}/outlier_incident", "incidents.read", plan=True)
def get_outlier_incident(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    since, until = ask.time("since", ask.now - LONGEST_WINDOW), ask.now
    if since > until:
        raise invalid("Since must not be in the future.")
    wanted = template(incident.title)
    on_service = [row for row in ask.world.incidents if row.service == incident.service and row.created >= since]
    count = sum(1 for row in on_service if template(row.title) == wanted)
    frequency = count / max(1, len(on_service))
    others = count - (incident.created >= since)
    category = (
        "anomaly" if not others else "rare" if frequency < RARE else "frequent" if frequency >= FREQUENT else "none"
    )
    digest = zlib.crc32(f"{incident.service} {wanted}".encode())
    return 200, {
        "outlier_incident": {
            "incident": {
                **_shown(ask, incident),
                "occurrence": {
                    "count": count,
                    "frequency": round(frequency, 4),
                    "category": category,
                    "since": iso(since),
                    "until": iso(until),
                },
            },
            "incident_template": {
                "id": number_id("PT", digest, 7),
                "cluster_id": number_id("PC", zlib.crc32(wanted.encode()), 7),
                "mined_text": wanted,
            },
        }
    }


@route("GET", "/incidents/{id}/business_services/impacts", "incidents.read")
def list_impacted_business_services(ask: Ask) -> Result:
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    reached = supported_by(world, world.services[incident.service]["id"])
    status = "not_impacted" if incident.status == "resolved" else "impacted"
    return 200, {
        "services": [
            {"id": row["id"], "name": row["name"], "type": "business_service", "status": status}
            for row in world.business
            if row["id"] in reached
        ],
        "limit": 100,
        "next_cursor": None,
    }


def neighbours(world: World, identifier: str) -> set[str]:
    """The ids of the services right above and below one."""
    return {edge[2] for edge in world.edges if edge[0] == identifier} | {
        edge[0] for edge in world.edges if edge[2] == identifier
    }
