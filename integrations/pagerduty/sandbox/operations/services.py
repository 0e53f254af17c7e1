"""Services, what depends on them, teams and the account's lists."""

from __future__ import annotations

from collections.abc import Iterable

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    matching,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.world import (
    number_id,
)


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
