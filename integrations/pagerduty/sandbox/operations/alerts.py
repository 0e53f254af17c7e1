"""The alerts of incidents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    BULK_LIMIT,
    ApiError,
    Ask,
    Result,
    find_incident,
    invalid,
    not_found,
    route,
)
from integrations.pagerduty.sandbox.operations.incidents import resolve
from integrations.pagerduty.sandbox.shapes import Shape, list_of, one_of, record, string
from integrations.pagerduty.sandbox.world import Alert, Incident, World

ALERT_LIMIT: Final = 1000
"""How many one incident can hold."""


@route("GET", "/incidents/{id}/alerts", "incidents.read")
def list_alerts(ask: Ask) -> Result:
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    rows = list(incident.alert_list())
    if statuses := ask.many("statuses"):
        rows = [row for row in rows if docs.alert_status(incident, row) in statuses]
    if key := ask.one("alert_key"):
        rows = [row for row in rows if docs.alert_key(world, row) == key]
    keys: dict[str, Callable[[Alert], Any]] = {
        "created_at": lambda row: docs.alert_created(world, row),
        # All that were resolved were so with the incident; the others come last.
        "resolved_at": lambda row: docs.alert_status(incident, row) != "resolved",
    }
    for part in reversed([part for part in ask.one("sort_by").split(",") if part]):
        name, _, direction = part.partition(":")
        if name not in keys or direction not in ("", "asc", "desc"):
            raise invalid("Sort by is not a field that alerts can be sorted by.")
        rows.sort(key=keys[name], reverse=direction == "desc")
    return 200, ask.page("alerts", rows, lambda row: docs.alert_document(world, incident, row, ask.include))


def _find(world: World, incident: Incident, identifier: str) -> Alert:
    for alert in incident.alert_list():
        if docs.alert_id(world, alert) == identifier:
            return alert
    raise not_found()


@route("GET", "/incidents/{id}/alerts/{alert_id}", "incidents.read")
def get_alert(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    alert = _find(ask.world, incident, ask.path["alert_id"])
    return 200, {"alert": docs.alert_document(ask.world, incident, alert, ask.include)}


CHANGE: Final[dict[str, Shape]] = {
    "type": string(),
    "status": one_of("resolved", "triggered"),
    "incident": record({"id": string()}, {"type": one_of("incident_reference", "incident")}),
}


def kept_alerts(incident: Incident) -> list[Alert]:
    """An incident's alerts, to be changed: from now on they are stored."""
    extra = incident.extras()
    if extra.alerts is None:
        extra.alerts = incident.alert_list()
    return extra.alerts


def _change(ask: Ask, incident: Incident, rows: list[dict[str, Any]]) -> list[tuple[Incident, Alert]]:
    """Change alerts of an incident, all of them or none. Returns each with the incident that it belongs to then."""
    targets = [find_incident(ask.world, row["incident"]["id"]) if "incident" in row else incident for row in rows]
    for identifier in {row["id"] for row in rows}:
        _find(ask.world, incident, identifier)
    if len({row["id"] for row in rows}) < len(rows):
        raise invalid("Alerts must not name an alert twice")
    for target, row in zip(targets, rows, strict=True):
        if target is not incident and target.status == "resolved":
            raise invalid("Alerts cannot be moved to a resolved incident")
        if target.status == "resolved" and row.get("status") == "triggered":
            raise invalid("Alerts of a resolved incident cannot be triggered")
    for target in targets:
        coming = sum(1 for other in targets if other is target and target is not incident)
        if len(target.alert_list()) + coming > ALERT_LIMIT:
            raise invalid("An incident cannot have more than 1000 alerts")
    kept_alerts(incident)
    found = []
    for target, row in zip(targets, rows, strict=True):
        alert = _find(ask.world, incident, row["id"])
        if "status" in row or target is not incident:
            alert.resolved = row.get("status", docs.alert_status(incident, alert)) == "resolved"
        if target is not incident:
            kept_alerts(incident).remove(alert)
            kept_alerts(target).append(alert)
        found.append((target, alert))
    if found and incident.status != "resolved" and not docs.alert_counts(incident)["triggered"]:
        # Nothing is left of it.
        resolve(ask, incident)
    return found


@route("PUT", "/incidents/{id}/alerts/{alert_id}", "incidents.write", needs_from=True)
def update_alert(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    _find(ask.world, incident, ask.path["alert_id"])
    asked = ask.read("alert", record({}, CHANGE))
    ((target, alert),) = _change(ask, incident, [{**asked, "id": ask.path["alert_id"]}])
    return 200, {"alert": docs.alert_document(ask.world, target, alert, ask.include)}


@route("PUT", "/incidents/{id}/alerts", "incidents.write", needs_from=True)
def update_alerts(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    if isinstance(ask.body, dict) and isinstance(rows := ask.body.get("alerts"), list) and len(rows) > BULK_LIMIT:
        raise ApiError(413, "Request Entity Too Large", 2001, ["At most 250 alerts can be updated at once."])
    asked = ask.read("alerts", list_of(record({"id": string()}, CHANGE)))
    changed = _change(ask, incident, asked)
    # All of them, in one answer: what was changed has no pages.
    return 200, {
        "alerts": [docs.alert_document(ask.world, target, alert, ask.include) for target, alert in changed],
        "limit": BULK_LIMIT,
        "offset": 0,
        "total": None,
        "more": False,
    }
