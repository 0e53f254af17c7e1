"""Business services, and which of them open incidents are felt in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.world import (
    Incident,
    World,
)

IMPACT_LIMIT: Final = 200
FIELDS: Final = ("services.highest_impacting_priority", "total_impacted_count")


@route("GET", "/business_services", "services.read")
def list_business_services(ask: Ask) -> Result:
    return 200, ask.page("business_services", ask.world.business)


@route("GET", "/business_services/{id}", "services.read")
def get_business_service(ask: Ask) -> Result:
    return 200, {"business_service": find(ask.world.business, ask.path["id"])}


def supported_by(world: World, identifier: str) -> set[str]:
    """The ids of the business services that need a service, over any number of dependencies; not its own."""
    above: dict[str, list[tuple[str, str]]] = {}
    for upper, kind, lower, _ in world.edges:
        above.setdefault(lower, []).append((upper, kind))
    found: set[str] = set()
    seen, left = {identifier}, [identifier]
    while left:
        for upper, kind in above.get(left.pop(), ()):
            if kind == "business_service":
                found.add(upper)
            if upper not in seen:
                seen.add(upper)
                left.append(upper)
    return found - {identifier}


def impacting(world: World) -> dict[str, list[Incident]]:
    """The open incidents that are felt in each business service: those of any service that it needs."""
    by_service: dict[int, list[Incident]] = {}
    for incident in world.incidents:
        if incident.status != "resolved":
            by_service.setdefault(incident.service, []).append(incident)
    found: dict[str, list[Incident]] = {}
    for place, incidents in by_service.items():
        for business in supported_by(world, world.services[place]["id"]):
            found.setdefault(business, []).extend(incidents)
    return found


def _impacts(ask: Ask, rows: Iterable[Document]) -> Result:
    """At most 200, by the highest priority, then the latest incident, then the name."""
    fields = ask.many("additional_fields")
    if unknown := fields - set(FIELDS):
        raise invalid(f"Additional fields must be {' or '.join(FIELDS)}, not {', '.join(sorted(unknown))}")
    world = ask.world
    felt = impacting(world)

    def order(row: Document) -> tuple[float, float, str]:
        incidents = felt.get(row["id"], [])
        # Without a priority it is still an impact.
        highest = max((_order(world, incident) for incident in incidents), default=-1)
        return -highest, -max((incident.created for incident in incidents), default=0.0), row["name"]

    listed = sorted(rows, key=order)
    found: list[Document] = []
    for row in listed[:IMPACT_LIMIT]:
        incidents = felt.get(row["id"], [])
        shown = {
            "id": row["id"],
            "name": row["name"],
            "type": "business_service",
            "status": "impacted" if incidents else "not_impacted",
        }
        if "services.highest_impacting_priority" in fields:
            highest = max(incidents, key=lambda incident: _order(world, incident), default=None)
            priority = None if highest is None or highest.priority is None else world.priorities[highest.priority]
            shown["additional_fields"] = {
                "highest_impacting_priority": priority and {"id": priority["id"], "order": priority["order"]}
            }
        found.append(shown)
    answer: Document = {"services": found, "limit": IMPACT_LIMIT, "more": len(listed) > IMPACT_LIMIT}
    if "total_impacted_count" in fields:
        answer["additional_fields"] = {"total_impacted_count": sum(1 for row in listed if felt.get(row["id"]))}
    return 200, answer


def _order(world: World, incident: Incident) -> int:
    return 0 if incident.priority is None else int(world.priorities[incident.priority]["order"])


@route("GET", "/business_services/impacts", "services.read")
def list_impacts(ask: Ask) -> Result:
    """Those that were asked for; else those that support no other."""
    world = ask.world
    if ids := ask.many("ids"):
        return _impacts(ask, [find(world.business, identifier) for identifier in sorted(ids)])
    supporting = {edge[2] for edge in world.edges if edge[1] == edge[3] == "business_service"}
    return _impacts(ask, [row for row in world.business if row["id"] not in supporting])


@route("GET", "/business_services/{id}/supporting_services/impacts", "services.read")
def list_supporting_impacts(ask: Ask) -> Result:
    world = ask.world
    identifier = find(world.business, ask.path["id"])["id"]
    supporting = {edge[2] for edge in world.edges if edge[0] == identifier and edge[3] == "business_service"}
    ids = ask.many("ids") or supporting
    return _impacts(ask, [row for row in world.business if row["id"] in supporting & ids])
