"""Change events."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    find_incident,
    invalid,
    not_found,
    of_teams,
    route,
    to_its_end,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.related import neighbours
from integrations.pagerduty.sandbox.world import DAY, Change

_UTC: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", re.ASCII)
CORRELATED: Final = DAY
"""How long before an incident a change can be for PagerDuty to show it there."""
CORRELATED_LIMIT: Final = 100


def _page(ask: Ask, rows: Iterable[Change]) -> Result:
    for name in ("since", "until"):
        # A plus that was not escaped is a space by now.
        if ask.one(name) and not _UTC.fullmatch(ask.one(name).replace(" ", "+")):
            raise invalid(f"{name.capitalize()} must be a UTC time, YYYY-MM-DDThh:mm:ssZ.")
    since, until = to_its_end(ask.window(0, max(ask.now, ask.time("since", 0)) + 1))
    found = [row for row in rows if since <= row.at <= until]
    if teams := ask.many("team_ids"):
        services = {place for place, service in enumerate(ask.world.services) if of_teams([service], teams)}
        found = [row for row in found if row.service in services]
    if integrations := ask.many("integration_ids"):
        found = [row for row in found if docs.integration_id(ask.world.services[row.service]) in integrations]
    found.reverse()
    return 200, ask.page("change_events", found, lambda row: docs.change_document(ask.world, row))


@route("GET", "/change_events", "change_events.read")
def list_changes(ask: Ask) -> Result:
    return _page(ask, ask.world.changes)


@route("GET", "/change_events/{id}", "change_events.read")
def get_change(ask: Ask) -> Result:
    for change in ask.world.changes:
        if change.id == ask.path["id"]:
            return 200, {"change_event": docs.change_document(ask.world, change)}
    raise not_found()


@route("GET", "/services/{id}/change_events", "services.read")
def list_service_changes(ask: Ask) -> Result:
    service = ask.world.services.index(find(ask.world.services, ask.path["id"]))
    return _page(ask, [row for row in ask.world.changes if row.service == service])


@route("GET", "/incidents/{id}/related_change_events", "incidents.read")
def list_related_changes(ask: Ask) -> Result:
    """The newest on the incident's own service, others on it, and those on services next to it, of the day before it."""
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    limit = ask.number("limit", 25, CORRELATED_LIMIT)
    near = neighbours(world, world.services[incident.service]["id"])
    found: list[Document] = []
    for change in reversed(world.changes):
        if not incident.created - CORRELATED <= change.at <= incident.created:
            continue
        if change.service == incident.service:
            reason = "related_service" if found else "most_recent"
        elif world.services[change.service]["id"] in near:
            reason = "related_service"
        else:
            continue
        found.append({**docs.change_document(world, change), "correlation_reason": {"reason": reason}})
    return 200, {"change_events": found[:limit], "limit": None, "offset": None, "total": None, "more": False}
