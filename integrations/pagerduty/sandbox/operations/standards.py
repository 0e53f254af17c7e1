"""The account's standards, how services meet them, and how often incidents were held back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from integrations.pagerduty.sandbox.ask import (
    LONGEST_WINDOW,
    MONTH,
    Ask,
    Result,
    find,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.world import (
    World,
    iso,
)

MOST: Final = 100
"""Services that can be asked for at once."""
SHOWN: Final = ("active", "description", "id", "name", "type")


@route("GET", "/standards", "standards.read")
def list_standards(ask: Ask) -> Result:
    active = ask.one("active")
    if active not in ("", "true", "false"):
        raise invalid("Active must be true or false")
    if ask.one("resource_type") not in ("", "technical_service"):
        raise invalid("Resource type must be technical_service")
    return 200, {
        "standards": [row for row in ask.world.standards if active in ("", "true" if row["active"] else "false")]
    }


def _levels(world: World, service: Document) -> bool:
    """Two levels that page different people."""
    policy = find(world.policies, service["escalation_policy"]["id"])
    levels = {frozenset(target["id"] for target in rule["targets"]) for rule in policy["escalation_rules"]}
    return len(levels) >= 2


def _outbound(world: World, service: Document) -> bool:
    """A webhook subscription that is its own or its team's: the sandbox has no other way out."""
    ids = {service["id"], *(team["id"] for team in service["teams"])}
    return any(row["filter"].get("id") in ids for row in world.webhooks)


_MET: Final[dict[str, Callable[[World, Document], bool]]] = {
    "has_technical_service_description": lambda _, service: bool((service["description"] or "").strip()),
    "minimum_escalation_policy_rule_depth": _levels,
    "minimum_outbound_integrations": _outbound,
}


def _applies(standard: Document, service: Document) -> bool:
    inside, outside = ({row["id"] for row in standard[name]} for name in ("inclusions", "exclusions"))
    return standard["active"] and (not inside or service["id"] in inside) and service["id"] not in outside


@route("GET", "/standards/scores/{resource_type}", "standards.read")
def list_scores(ask: Ask) -> Result:
    """``ids`` as often as there are services, or once with commas."""
    world = ask.world
    if ask.path["resource_type"] != "technical_services":
        raise invalid("Resource type must be technical_services")
    ids = list(dict.fromkeys(part for text in sorted(ask.many("ids")) for part in text.split(",") if part))
    if not ids:
        raise invalid("Ids cannot be empty")
    if len(ids) > MOST:
        raise invalid(f"At most {MOST} ids can be asked for at once")
    found = []
    for service in [find(world.services, identifier) for identifier in ids]:
        standards = [
            {name: row[name] for name in SHOWN} | {"pass": _MET[row["type"]](world, service)}
            for row in world.standards
            if _applies(row, service)
        ]
        found.append(
            {
                "resource_id": service["id"],
                "resource_type": "technical_service",
                "score": {"passing": sum(row["pass"] for row in standards), "total": len(standards)},
                "standards": standards,
            }
        )
    return 200, {"resources": found}


@route("GET", "/paused_incident_reports/counts", "incidents.read", plan=True)
def count_paused(ask: Ask) -> Result:
    world = ask.world
    since, until = ask.window(ask.now - MONTH, ask.now, width=MONTH)
    if since < ask.now - LONGEST_WINDOW:
        raise invalid("Since must not be longer ago than 6 months")
    by = ask.one("suspended_by")
    if by not in ("", "auto_pause", "rules"):
        raise invalid("Suspended by must be auto_pause or rules")
    rows = [row for row in world.paused if since <= row[0] <= until and by in ("", row[2])]
    if identifier := ask.one("service_id"):
        place = world.services.index(find(world.services, identifier))
        rows = [row for row in rows if row[1] == place]
    triggered = sum(row[3] for row in rows)
    return 200, {
        "paused_incident_reporting_counts": {
            "since": iso(since),
            "until": iso(until),
            "paused_count": len(rows),
            "triggered_after_pause_count": triggered,
            "resolved_after_pause_count": len(rows) - triggered,
        }
    }
