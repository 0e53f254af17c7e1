"""Log entries: what happened to incidents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from heapq import heappush, heappushpop

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    LONGEST_WINDOW,
    MONTH,
    Ask,
    Result,
    created_between,
    find_incident,
    not_found,
    of_teams,
    route,
    to_its_end,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.history import LONGEST
from integrations.pagerduty.sandbox.world import Happening, Incident

Row = tuple[Incident, Happening]
OVERVIEW = ("trigger", "acknowledge", "resolve", "annotate", "escalate")
LONG = LONGEST
"""What happens to an incident happens within that of it, or was done through this API (and is in its ``log``)."""


def _entries(ask: Ask, incidents: Iterable[Incident], since: float, until: float) -> list[Row]:
    found = [
        (incident, happening)
        for incident in incidents
        for happening in incident.happenings()
        if since <= happening.at <= until
    ]
    if ask.flag("is_overview"):
        found = [row for row in found if row[1].type in OVERVIEW]
    found.sort(key=lambda row: (row[1].at, row[0].place), reverse=True)
    return found


def _show(ask: Ask, row: Row) -> Document:
    shown: Document = docs.in_zone(docs.entry_document(ask.world, row[0], row[1], ask.include), ask.zone())
    return shown


@route("GET", "/incidents/{id}/log_entries", "incidents.read")
def list_incident_log_entries(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    rows = _entries(ask, [incident], *to_its_end(ask.window(0, ask.now + 1, zone=ask.zone())))
    return 200, ask.page("log_entries", rows, lambda row: _show(ask, row))


@route("GET", "/log_entries", "incidents.read")
def list_log_entries(ask: Ask) -> Result:
    window = ask.window(ask.now - MONTH, ask.now + 1, LONGEST_WINDOW, width=MONTH, zone=ask.zone())
    since, until = to_its_end(window)
    teams = ask.many("team_ids")
    services = {place for place, service in enumerate(ask.world.services) if of_teams([service], teams)}
    near = [incident for incident in active(ask.world.incidents, since, until) if incident.service in services]
    limit, offset = ask.rows_asked(25, 100)
    if offset or ask.flag("total"):
        rows = ask.kept("log_entries", lambda: _entries(ask, near, since, until))
    else:
        newest = _newest(near, since, until, limit + 1, overview=ask.flag("is_overview"))
        rows = _entries(ask, newest, since, until)
    return 200, ask.page("log_entries", rows, lambda row: _show(ask, row))


def _newest(incidents: list[Incident], since: float, until: float, rows: int, *, overview: bool) -> list[Incident]:
    """Those that the newest rows can be of: a busy month has far more than anybody pages through."""
    times: list[float] = []
    for number, incident in enumerate(reversed(incidents)):
        if len(times) >= rows and incident.created + LONG < times[0]:
            older = incidents[: len(incidents) - number]
            return [row for row in older if row.log is not None] + incidents[len(incidents) - number :]
        for happening in incident.happenings():
            if since <= happening.at <= until and (not overview or happening.type in OVERVIEW):
                (heappush if len(times) < rows else heappushpop)(times, happening.at)
    return incidents


def active(incidents: Sequence[Incident], since: float, until: float) -> list[Incident]:
    """Those that something can have happened to in a window."""
    near = created_between(incidents, since - LONG, until)
    others = [row for row in incidents if row.log is not None and not since - LONG <= row.created <= until]
    return [*others, *near]


@route("GET", "/log_entries/{id}", "incidents.read")
def get_log_entry(ask: Ask) -> Result:
    # An entry's id begins with its incident's.
    if match := re.match(r"R(I[0-9A-Z]{6})", ask.path["id"], re.ASCII):
        incident = find_incident(ask.world, f"P{match[1]}")
        for happening in incident.happenings():
            if happening.id == ask.path["id"]:
                return 200, {"log_entry": _show(ask, (incident, happening))}
    raise not_found()
