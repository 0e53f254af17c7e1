"""Maintenance windows."""

from __future__ import annotations

from typing import Final

from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.shapes import (
    Shape,
    list_of,
    moment,
    record,
    reference_to,
    string,
)
from integrations.pagerduty.sandbox.world import (
    World,
    document,
    iso,
    parse_time,
    reference,
)

STATES: Final = {
    "past": ("past",),
    "future": ("future",),
    "ongoing": ("ongoing",),
    "open": ("future", "ongoing"),
    "all": ("past", "future", "ongoing"),
}


def _state(window: Document, now: float) -> str:
    if window["end"] <= now:
        return "past"
    return "future" if window["start"] > now else "ongoing"


def _window(ask: Ask, window: Document) -> Document:
    world = ask.world
    services = [find(world.services, identifier) for identifier in window["services"]]
    teams = {team["id"]: find(world.teams, team["id"]) for service in services for team in service["teams"]}
    person = world.users[window["created_by"]]
    return {
        **document(
            "maintenance_window",
            "maintenance_windows",
            window["id"],
            window["description"],
            "service-directory/maintenance-windows",
        ),
        "sequence_number": window["number"],
        "start_time": iso(window["start"]),
        "end_time": iso(window["end"]),
        "description": window["description"],
        "services": [service if "services" in ask.include else reference(service) for service in services],
        "teams": [team if "teams" in ask.include else reference(team) for team in teams.values()],
        "created_by": person if "users" in ask.include else reference(person),
    }


@route("GET", "/maintenance_windows", "services.read")
def list_windows(ask: Ask) -> Result:
    world = ask.world
    wanted = ask.one("filter", "all")
    if wanted not in STATES:
        raise invalid(f"Filter must be {', '.join(STATES)}")
    rows = [row for row in world.windows if _state(row, ask.now) in STATES[wanted]]
    if query := ask.one("query").lower():
        rows = [row for row in rows if query in row["description"].lower()]
    services = ask.many("service_ids")
    if teams := ask.many("team_ids"):
        of_them = {row["id"] for row in of_teams(world.services, teams)}
        rows = [row for row in rows if of_them & set(row["services"])]
    if services:
        rows = [row for row in rows if services & set(row["services"])]
    return 200, ask.page("maintenance_windows", rows, lambda row: _window(ask, row))


@route("GET", "/maintenance_windows/{id}", "services.read")
def get_window(ask: Ask) -> Result:
    return 200, {"maintenance_window": _window(ask, find(ask.world.windows, ask.path["id"]))}


def _shapes(world: World) -> dict[str, Shape]:
    return {
        "type": string(),
        "start_time": moment,
        "end_time": moment,
        "services": list_of(reference_to(world.services, "a service"), 1, 1_000),
        "description": string(blank=True),
    }


def _change(ask: Ask, window: Document, asked: Document) -> None:
    start = parse_time(asked["start_time"]) if "start_time" in asked else window["start"]
    end = parse_time(asked["end_time"]) if "end_time" in asked else window["end"]
    # What has begun has begun; what should have, begins now.
    start = window["start"] if window.get("start", ask.now) < ask.now else max(start, ask.now)
    if end <= ask.now:
        raise invalid("End time must be in the future")
    if end <= start:
        raise invalid("End time must be after the start time")
    window |= {"start": start, "end": end, "description": asked.get("description", window["description"])}
    if "services" in asked:
        window["services"] = list(dict.fromkeys(ask.world.services[place]["id"] for place in asked["services"]))


@route("POST", "/maintenance_windows", "services.write", needs_from=True)
def create_window(ask: Ask) -> Result:
    shapes = _shapes(ask.world)
    required = {name: shapes.pop(name) for name in ("start_time", "end_time", "services")}
    asked = ask.read("maintenance_window", record(required, shapes))
    window: Document = {"description": "", "created_by": ask.sender or 0}
    _change(ask, window, asked)
    window |= {
        "id": ask.world.next_id("P"),
        "number": max((row["number"] for row in ask.world.windows), default=0) + 1,
    }
    ask.world.windows.append(window)
    return 201, {"maintenance_window": _window(ask, window)}


@route("PUT", "/maintenance_windows/{id}", "services.write")
def update_window(ask: Ask) -> Result:
    """What is over stays as it was; the start of what goes on stays."""
    window = find(ask.world.windows, ask.path["id"])
    asked = ask.read("maintenance_window", record({}, _shapes(ask.world)))
    if _state(window, ask.now) == "past":
        raise invalid("Maintenance windows that are over cannot be changed")
    _change(ask, window, asked)
    return 200, {"maintenance_window": _window(ask, window)}
