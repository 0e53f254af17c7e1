"""Services, their integrations, what depends on them, and the account's lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    matching,
    not_found,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    boolean,
    clock,
    list_of,
    one_of,
    record,
    reference_to,
    string,
    whole,
    zone,
)
from integrations.pagerduty.sandbox.world import (
    World,
    document,
    iso,
    reference,
)

SERVICE_LIMIT: Final = 25_000
DEPENDENCY_LIMIT: Final = 2_000
"""Of one service."""
DEPTH_LIMIT: Final = 100
DAYS: Final = 366 * 86_400
STATES: Final = ("active", "warning", "critical", "maintenance", "disabled")
Edge = tuple[str, str, str, str]
End = tuple[str, str]
"""Of a dependency: a service's id and its kind."""


@route("GET", "/services", "services.read")
def list_services(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.services, ask.one("query")), ask.many("team_ids"))
    if name := ask.one("name"):
        rows = [row for row in rows if row["name"] == name]
    if ask.one("sort_by").startswith("name") or not ask.one("sort_by"):
        rows = sorted(rows, key=lambda row: row["name"], reverse=ask.one("sort_by").endswith("desc"))
    show = _shown(ask)
    return 200, ask.page("services", rows, show)


def maintained(ask: Ask) -> set[str]:
    """The ids of the services in a maintenance window that goes on."""
    return {
        service
        for window in ask.world.windows
        if window["start"] <= ask.now < window["end"]
        for service in window["services"]
    }


def _shown(ask: Ask) -> Callable[[Document], Document]:
    """How this call shows a service. Its state and its latest incident are of the moment: one look at all incidents."""
    world = ask.world
    # They are in the order in which they were created.
    latest = {incident.service: incident.created for incident in world.incidents}
    open_ones: dict[int, set[str]] = {}
    for incident in [row for row in world.incidents if row.status != "resolved"]:
        open_ones.setdefault(incident.service, set()).add(incident.status)
    places = {service["id"]: place for place, service in enumerate(world.services)}
    in_maintenance = maintained(ask)

    def show(service: Document) -> Document:
        place = places[service["id"]]
        states = open_ones.get(place, ())
        status = "critical" if "triggered" in states else "warning" if states else "active"
        if service["status"] == "disabled":
            status = "disabled"
        elif service["id"] in in_maintenance:
            status = "maintenance"
        found = {
            **service,
            "status": status,
            "last_incident_timestamp": iso(latest[place]) if place in latest else None,
        }
        if "escalation_policies" in ask.include:
            found["escalation_policy"] = find(world.policies, service["escalation_policy"]["id"])
        if "teams" in ask.include:
            found["teams"] = [find(world.teams, team["id"]) for team in service["teams"]]
        if "integrations" in ask.include:
            found["integrations"] = [
                _integration(ask, row) for row in world.integrations if row["service"] == service["id"]
            ]
        return found

    return show


@route("GET", "/services/{id}", "services.read")
def get_service(ask: Ask) -> Result:
    return 200, {"service": _shown(ask)(find(ask.world.services, ask.path["id"]))}


def _integration(ask: Ask, integration: Document) -> Document:
    service = find(ask.world.services, integration["service"])
    return {**integration, "service": service if "services" in ask.include else reference(service)}


@route("GET", "/services/{id}/integrations/{integration_id}", "services.read")
def get_integration(ask: Ask) -> Result:
    service = find(ask.world.services, ask.path["id"])
    own = [row for row in ask.world.integrations if row["service"] == service["id"]]
    return 200, {"integration": _integration(ask, find(own, ask.path["integration_id"]))}


def _urgency(value: Any, path: Path, faults: list[Fault]) -> Any:
    """A rule, constant or by support hours; which of the two says what else it holds."""
    constant = {"type": one_of("constant"), "urgency": one_of("low", "high", "severity_based")}
    if isinstance(value, dict) and value.get("type") == "use_support_hours":
        hours = record(constant)
        return record(
            {"type": string(), "during_support_hours": hours, "outside_support_hours": hours},
        )(value, path, faults)
    return record({"type": one_of("constant", "use_support_hours"), "urgency": constant["urgency"]})(
        value, path, faults
    )


_GROUPING: Final[dict[str, dict[str, Shape]]] = {
    "time": {"timeout": whole(0, 86_400)},
    "intelligent": {"time_window": whole(0, 3_600), "iag_fields": list_of(string(), 0, 2)},
    "content_based": {
        "aggregate": one_of("all", "any"),
        "fields": list_of(string(), 1, 100),
        "time_window": whole(0, 86_400),
    },
}


def _grouping(value: Any, path: Path, faults: list[Fault]) -> Any:
    """How alerts are grouped: by what the type says; no type switches it off. A reference to a setting changes nothing."""
    if isinstance(value, dict) and value.get("type") == "alert_grouping_setting_reference":
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    config = _GROUPING.get(kind, {}) if isinstance(kind, str) else {}
    required = {name: shape for name, shape in config.items() if kind == "content_based" and name != "time_window"}
    read: Document = record({}, {"type": one_of(*_GROUPING), "config": record(required, config)})(value, path, faults)
    if required and "config" not in read:
        faults.append(((*path, "config"), "is missing"))
    # Switched off, it has no config: a null is not valid by PagerDuty's schema.
    return {"type": read["type"], "config": read.get("config", {})} if read.get("type") else {"type": None}


def _pause(value: Any, path: Path, faults: list[Fault]) -> Any:
    read = record({}, {"enabled": boolean, "timeout": whole(0, 900)})(value, path, faults)
    if read.get("timeout", 0) not in (0, 120, 180, 300, 600, 900):
        faults.append(((*path, "timeout"), "must be 0, 120, 180, 300, 600 or 900"))
    return {"enabled": False, **read}


def _shapes(world: World) -> dict[str, Shape]:
    at = record({"type": one_of("named_time"), "name": one_of("support_hours_start", "support_hours_end")})
    action = record({"type": one_of("urgency_change"), "at": at, "to_urgency": one_of("high")})
    return {
        "type": string(),
        "name": string(longest=255),
        "description": string(blank=True),
        "status": one_of(*STATES),
        "auto_resolve_timeout": whole(0, DAYS),
        "acknowledgement_timeout": whole(0, DAYS),
        "escalation_policy": reference_to(world.policies, "an escalation policy"),
        "teams": list_of(reference_to(world.teams, "a team")),
        "incident_urgency_rule": _urgency,
        "support_hours": record(
            {"time_zone": zone, "start_time": clock, "end_time": clock, "days_of_week": list_of(whole(1, 7), 1, 7)},
            {"type": one_of("fixed_time_per_day")},
        ),
        "scheduled_actions": list_of(action),
        "alert_creation": one_of("create_incidents", "create_alerts_and_incidents"),
        "alert_grouping_parameters": _grouping,
        "auto_pause_notifications_parameters": _pause,
    }


_CLEARED_BY_NULL: Final = ("auto_resolve_timeout", "acknowledgement_timeout", "support_hours", "description")
_AS_ASKED: Final = (
    "name",
    "incident_urgency_rule",
    "scheduled_actions",
    "alert_creation",
    "auto_pause_notifications_parameters",
)


def _change(ask: Ask, service: Document, asked: Document) -> None:
    world = ask.world
    if any(row["name"] == asked.get("name") and row["id"] != service["id"] for row in world.services):
        raise invalid("Name has already been taken")
    changed: Document = {name: asked[name] for name in _AS_ASKED if name in asked}
    if "description" in asked:
        changed["description"] = asked["description"] or ""
    for name in ("auto_resolve_timeout", "acknowledgement_timeout"):
        if name in asked:
            changed[name] = asked[name] or None
    if "name" in asked:
        changed["summary"] = asked["name"]
    if "status" in asked:
        # The other states are what PagerDuty makes of an enabled service: whoever sends back what it read, enables it.
        changed["status"] = "disabled" if asked["status"] == "disabled" else "active"
    if "escalation_policy" in asked:
        policy = world.policies[asked["escalation_policy"]]
        changed |= {"escalation_policy": reference(policy), "teams": policy["teams"]}
    if "teams" in asked:
        changed["teams"] = [reference(world.teams[place]) for place in asked["teams"]]
    changed |= _support_hours(service | changed, asked)
    if asked.get("alert_grouping_parameters") is not None:
        changed["alert_grouping_parameters"] = asked["alert_grouping_parameters"]
    service |= changed
    service["updated_at"] = iso(ask.now)
    _referenced(world, service)
    if "alert_grouping_parameters" in changed:
        _regroup(ask, service)


def _support_hours(service: Document, asked: Document) -> Document:
    """The fields that hang on support hours, checked together."""
    by_hours = service["incident_urgency_rule"]["type"] == "use_support_hours"
    hours = {"type": "fixed_time_per_day", **asked["support_hours"]} if asked.get("support_hours") else None
    if "support_hours" not in asked:
        hours = service.get("support_hours")
    if by_hours and hours is None:
        raise invalid("Support hours cannot be empty where urgency depends on them")
    if not by_hours and asked.get("scheduled_actions"):
        raise invalid("Scheduled actions need an incident urgency rule that uses support hours")
    return {
        "support_hours": hours if by_hours else None,
        "scheduled_actions": service["scheduled_actions"] if by_hours else [],
    }


def _referenced(world: World, service: Document) -> None:
    """Its policy lists it, under its present name, and no other does."""
    for policy in world.policies:
        kept = [row for row in policy["services"] if row["id"] != service["id"]]
        if policy["id"] == service["escalation_policy"]["id"]:
            policy["services"] = [*kept, reference(service)]
        elif len(kept) < len(policy["services"]):
            policy["services"] = kept


def _regroup(ask: Ask, service: Document) -> None:
    """A service's own setting of alert grouping is what its parameters say; it leaves a setting that it shared."""
    world = ask.world
    for setting in list(world.grouping):
        if service["id"] in setting["services"]:
            setting["services"] = [row for row in setting["services"] if row != service["id"]]
            if not setting["services"]:
                world.grouping.remove(setting)
    parameters = service["alert_grouping_parameters"]
    if parameters["type"] is None:
        return
    world.grouping.append(
        {
            "id": world.next_id("PAGS"),
            "name": service["name"],
            "description": f"How alerts of {service['name']} are grouped",
            "type": parameters["type"],
            "config": parameters["config"],
            "services": [service["id"]],
            "created_at": iso(ask.now),
            "updated_at": iso(ask.now),
        }
    )


@route("POST", "/services", "services.write")
def create_service(ask: Ask) -> Result:
    world = ask.world
    shapes = _shapes(world)
    required = {name: shapes.pop(name) for name in ("name", "escalation_policy")}
    asked = ask.read("service", record(required, shapes, clearing=_CLEARED_BY_NULL))
    if asked.get("status", "active") != "active":
        raise invalid("Status must be active for a new service")
    if len(world.services) >= SERVICE_LIMIT:
        raise invalid(f"An account holds at most {SERVICE_LIMIT} services")
    identifier = world.next_id("P")
    service: Document = {
        **document("service", "services", identifier, "", "service-directory"),
        "description": "",
        "status": "active",
        "created_at": iso(ask.now),
        "auto_resolve_timeout": None,
        "acknowledgement_timeout": None,
        "alert_creation": "create_alerts_and_incidents",
        "teams": [],
        "incident_urgency_rule": {"type": "constant", "urgency": "high"},
        "scheduled_actions": [],
        "addons": [],
        "integrations": [],
        "response_play": None,
        "alert_grouping_parameters": {"type": None},
        "auto_pause_notifications_parameters": {"enabled": False},
    }
    _change(ask, service, asked)
    world.services.append(service)
    ask.tell("service.created", service)
    return 201, {"service": _shown(ask)(service)}


@route("PUT", "/services/{id}", "services.write")
def update_service(ask: Ask) -> Result:
    service = find(ask.world.services, ask.path["id"])
    _change(ask, service, ask.read("service", record({}, _shapes(ask.world), clearing=_CLEARED_BY_NULL)))
    ask.tell("service.updated", service)
    return 200, {"service": _shown(ask)(service)}


def _dependencies(ask: Ask, kind: str, rows: Iterable[Document]) -> Result:
    identifier = find(rows, ask.path["id"])["id"]
    return 200, {
        "relationships": [
            docs.relationship_document(edge) for edge in ask.world.edges if (identifier, kind) in (edge[:2], edge[2:])
        ]
    }


@route("GET", "/service_dependencies/technical_services/{id}", "services.read")
def technical_dependencies(ask: Ask) -> Result:
    return _dependencies(ask, "service", ask.world.services)


@route("GET", "/service_dependencies/business_services/{id}", "services.read")
def business_dependencies(ask: Ask) -> Result:
    return _dependencies(ask, "business_service", ask.world.business)


def _end(world: World) -> Shape:
    """One end of a dependency, ``{"id", "type"}``: it reads as id and kind."""
    known = {
        "service": {row["id"] for row in world.services},
        "business_service": {row["id"] for row in world.business},
    }
    kinds = {
        "service": "service",
        "technical_service": "service",
        "service_reference": "service",
        "technical_service_reference": "service",
        "business_service": "business_service",
        "business_service_reference": "business_service",
    }

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        found = record({"id": string(), "type": one_of(*kinds)})(value, path, faults)
        kind, identifier = found.get("type"), found.get("id")
        if not isinstance(kind, str) or kind not in kinds or not isinstance(identifier, str):
            return ("", "")
        if identifier not in known[kinds[kind]]:
            faults.append((path, f"is not a {kinds[kind].replace('_', ' ')} of the account"))
        return (identifier, kinds[kind])

    return read


def _relationships(ask: Ask) -> list[Edge]:
    end = _end(ask.world)
    asked = ask.read("relationships", list_of(record({"supporting_service": end, "dependent_service": end}), 1))
    return [(*row["dependent_service"], *row["supporting_service"]) for row in asked]


@route("POST", "/service_dependencies/associate", "services.write")
def associate(ask: Ask) -> Result:
    """All of them or none. One that is there already is answered as it is."""
    edges = list(ask.world.edges)
    asked = _relationships(ask)
    for edge in asked:
        if edge[:2] == edge[2:]:
            raise invalid("A service cannot depend on itself")
        if edge not in edges:
            edges.append(edge)
    _check_limits(edges, asked)
    ask.world.edges = edges
    return 200, {"relationships": [docs.relationship_document(edge) for edge in asked]}


def _check_limits(edges: list[Edge], asked: list[Edge]) -> None:
    below: dict[End, list[End]] = {}
    above: dict[End, list[End]] = {}
    for upper, upper_kind, lower, lower_kind in edges:
        below.setdefault((upper, upper_kind), []).append((lower, lower_kind))
        above.setdefault((lower, lower_kind), []).append((upper, upper_kind))
    for edge in asked:
        for end in (edge[:2], edge[2:]):
            if len(below.get(end, ())) + len(above.get(end, ())) > DEPENDENCY_LIMIT:
                raise invalid(f"A service has at most {DEPENDENCY_LIMIT} dependencies")
        if edge[:2] in _reached(below, edge[2:]):
            raise invalid("The dependencies of a service must not lead back to it")
    if _depth(below, above) > DEPTH_LIMIT:
        raise invalid(f"Dependencies are at most {DEPTH_LIMIT} deep")


def _reached(below: dict[End, list[End]], start: End) -> set[End]:
    seen, left = {start}, [start]
    while left:
        for lower in below.get(left.pop(), ()):
            if lower not in seen:
                seen.add(lower)
                left.append(lower)
    return seen


def _depth(below: dict[End, list[End]], above: dict[End, list[End]]) -> int:
    """The longest way down, in steps, layer by layer from the top."""
    waiting = {end: len(uppers) for end, uppers in above.items()}
    layer, depth = [end for end in below if end not in waiting], -1
    while layer:
        depth += 1
        following = []
        for end in layer:
            for lower in below.get(end, ()):
                waiting[lower] -= 1
                if not waiting[lower]:
                    following.append(lower)
        layer = following
    return depth


@route("POST", "/service_dependencies/disassociate", "services.write")
def disassociate(ask: Ask) -> Result:
    asked = _relationships(ask)
    if not set(asked) <= set(ask.world.edges):
        raise not_found()
    ask.world.edges = [edge for edge in ask.world.edges if edge not in asked]
    return 200, {"relationships": [docs.relationship_document(edge) for edge in asked]}


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
