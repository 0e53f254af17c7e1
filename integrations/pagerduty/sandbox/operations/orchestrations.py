"""Event orchestrations and their rules."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    boolean,
    list_of,
    one_of,
    record,
    string,
)
from integrations.pagerduty.sandbox.world import (
    API,
    World,
    iso,
)

RULE_LIMIT: Final = 1_000
UNROUTED: Final = "unrouted"


def _link(kind: str, plural: str, identifier: str) -> Document:
    return {"id": identifier, "type": f"{kind}_reference", "self": f"{API}/{plural}/{identifier}"}


def _dates(world: World, orchestration: Document) -> Document:
    return {
        "created_at": iso(orchestration["created"]),
        "created_by": _link("user", "users", world.users[orchestration["by"]]["id"]),
        "updated_at": iso(orchestration["updated"]),
        "updated_by": _link("user", "users", world.users[orchestration["updated_by"]]["id"]),
        "version": orchestration["version"],
    }


def _routes(orchestration: Document) -> int:
    """To how many services it leads."""
    router = orchestration["router"]
    actions = [rule["actions"] for rule in router["sets"][0]["rules"]] + [router["catch_all"]["actions"]]
    return len({action["route_to"] for action in actions if "route_to" in action} - {UNROUTED})


def _orchestration(world: World, orchestration: Document) -> Document:
    return {
        "id": orchestration["id"],
        "self": f"{API}/event_orchestrations/{orchestration['id']}",
        "name": orchestration["name"],
        "description": orchestration["description"],
        "team": _link("team", "teams", world.teams[orchestration["team"]]["id"]),
        "routes": _routes(orchestration),
        **_dates(world, orchestration),
    }


@route("GET", "/event_orchestrations", "event_orchestrations.read")
def list_orchestrations(ask: Ask) -> Result:
    keys: dict[str, Callable[[Document], Any]] = {
        "name": lambda row: row["name"],
        "routes": _routes,
        "created_at": lambda row: row["created"],
    }
    name, _, direction = ask.one("sort_by", "name:asc").partition(":")
    if name not in keys or direction not in ("asc", "desc"):
        raise invalid("Sort by is not a field that orchestrations can be sorted by")
    rows = sorted(ask.world.orchestrations, key=keys[name], reverse=direction == "desc")
    return 200, ask.page("orchestrations", rows, lambda row: _orchestration(ask.world, row))


@route("GET", "/event_orchestrations/{id}", "event_orchestrations.read")
def get_orchestration(ask: Ask) -> Result:
    orchestration = find(ask.world.orchestrations, ask.path["id"])
    shown = _orchestration(ask.world, orchestration)
    return 200, {"orchestration": {**shown, "integrations": orchestration["integrations"]}}


def _path(world: World, orchestration: Document, kind: str) -> Document:
    identifier = orchestration["id"]
    return {
        "type": kind,
        "parent": _link("event_orchestration", "event_orchestrations", identifier),
        "self": f"{API}/event_orchestrations/{identifier}/{kind}",
        **orchestration[kind],
        **_dates(world, orchestration),
    }


@route("GET", "/event_orchestrations/{id}/router", "event_orchestrations.read")
def get_router(ask: Ask) -> Result:
    orchestration = find(ask.world.orchestrations, ask.path["id"])
    return 200, {"orchestration_path": _path(ask.world, orchestration, "router")}


@route("GET", "/event_orchestrations/{id}/global", "event_orchestrations.read")
def get_global(ask: Ask) -> Result:
    orchestration = find(ask.world.orchestrations, ask.path["id"])
    return 200, {"orchestration_path": _path(ask.world, orchestration, "global")}


@route("GET", "/event_orchestrations/services/{service_id}", "services.read")
def get_service_rules(ask: Ask) -> Result:
    """A service that nobody wrote rules for has an empty set."""
    world = ask.world
    service = find(world.services, ask.path["service_id"])
    empty: Document = {"sets": [{"id": "start", "rules": []}], "catch_all": {"actions": {}}}
    rules = world.service_rules.get(service["id"], empty)
    by = _link("user", "users", world.users[0]["id"])
    return 200, {
        "orchestration_path": {
            "type": "service",
            "parent": _link("service", "services", service["id"]),
            "self": f"{API}/event_orchestrations/services/{service['id']}",
            **rules,
            "created_at": service["created_at"],
            "created_by": by,
            "updated_at": service["created_at"],
            "updated_by": by,
            "version": hashlib.sha256(service["id"].encode()).hexdigest()[:32],
        }
    }


def _target(world: World, *more: str) -> Shape:
    services = {service["id"] for service in world.services} | set(more)

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, str) or value not in services:
            faults.append((path, "is not a service of the account"))
        return value

    return read


def _actions(world: World) -> Shape:
    """Exactly one way to lead on: to a service, or to one that the event names."""
    dynamic = record({"source": string(), "regex": string(), "lookup_by": one_of("service_id", "service_name")})
    shape = record({}, {"route_to": _target(world), "dynamic_route_to": dynamic})

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        found = shape(value, path, faults)
        if isinstance(value, dict) and len(found) != 1:
            faults.append((path, "must hold either route_to or dynamic_route_to"))
        return found

    return read


@route("PUT", "/event_orchestrations/{id}/router", "event_orchestrations.write")
def update_router(ask: Ask) -> Result:
    """All rules are replaced: one that is not sent again is gone."""
    world = ask.world
    orchestration = find(world.orchestrations, ask.path["id"])
    rule = record(
        {"actions": _actions(world)},
        {
            "id": string(longest=64),
            "label": string(blank=True, longest=255),
            "conditions": list_of(record({"expression": string()}), 0, 100),
            "disabled": boolean,
        },
    )
    asked = ask.read(
        "orchestration_path",
        record(
            {"sets": list_of(record({"id": one_of("start"), "rules": list_of(rule, 0, RULE_LIMIT)}), 1, 1)},
            {
                "type": one_of("router"),
                "catch_all": record({"actions": record({"route_to": _target(world, UNROUTED)})}),
            },
        ),
    )
    rules = asked["sets"][0]["rules"]
    if any("dynamic_route_to" in row["actions"] for row in rules[1:]):
        raise invalid("Only the first rule can route to the service that the event names")
    known = {row["id"] for row in orchestration["router"]["sets"][0]["rules"]}
    kept: set[str] = set()
    written = []
    for row in rules:
        # A rule keeps the id that it has; whatever else is sent as one is not its id.
        identifier = row.get("id", "")
        if identifier not in known or identifier in kept:
            identifier = world.next_id("").lower().rjust(8, "0")
        kept.add(identifier)
        written.append({"label": "", "conditions": [], "disabled": False, **row, "id": identifier})
    orchestration |= {
        "router": {
            "sets": [{"id": "start", "rules": written}],
            "catch_all": asked.get("catch_all", {"actions": {"route_to": UNROUTED}}),
        },
        "updated": ask.now,
        # A token of the account names nobody: whoever was last stays.
        "updated_by": orchestration["updated_by"] if ask.sender is None else ask.sender,
        "version": hashlib.sha256(world.next_id(orchestration["id"]).encode()).hexdigest()[:32],
    }
    return 200, {"orchestration_path": _path(world, orchestration, "router")}
