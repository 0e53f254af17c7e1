"""Analytics, computed from the account's own incidents."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from statistics import mean
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    MONTH,
    Ask,
    Result,
    invalid,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    boolean,
    list_of,
    moment,
    one_of,
    record,
    sentence,
    string,
    whole,
    zone,
)
from integrations.pagerduty.sandbox.world import (
    DAY,
    Incident,
    iso,
    parse_time,
)

IDS: Final = list_of(string())
ANALYTICS: Final = record(
    {},
    {
        "filters": record(
            {},
            {
                **dict.fromkeys(
                    ("created_at_start", "created_at_end", "date_range_start", "date_range_end", "updated_after"),
                    moment,
                ),
                **dict.fromkeys(
                    (
                        *("team_ids", "service_ids", "escalation_policy_ids", "responder_ids", "incident_type_ids"),
                        *("priority_ids", "priority_names"),
                    ),
                    IDS,
                ),
                "urgency": one_of("high", "low"),
                "major": boolean,
            },
        ),
        "time_zone": zone,
        "aggregate_unit": one_of("day", "week", "month"),
        "limit": whole(1, 1000),
        "order": one_of("asc", "desc"),
        "order_by": string(),
        "starting_after": string(blank=True),
        "ending_before": string(blank=True),
    },
)


def _asked(ask: Ask) -> Document:
    """The body of a question to the analytics."""
    faults: list[Fault] = []
    found: Document = ANALYTICS(ask.body, (), faults)
    if faults:
        raise invalid(*(sentence(fault, "the body") for fault in faults))
    return found


def _filters(ask: Ask, start: str = "created_at_start", end: str = "created_at_end") -> tuple[list[Incident], Document]:
    filters: Document = _asked(ask).get("filters", {})
    if ask.token.kind != "account" and not (filters.get("team_ids") or filters.get("service_ids")):
        raise invalid("Filters must hold team_ids or service_ids for this token")
    since = parse_time(filters[start]) if start in filters else ask.now - MONTH
    until = parse_time(filters[end]) if end in filters else ask.now
    services, teams = set(filters.get("service_ids", ())), frozenset(filters.get("team_ids", ()))
    if since > until:
        raise invalid("The time range must start before it ends")
    if until - since > 366 * DAY:
        raise invalid("The time range is longer than a year")
    world = ask.world
    rows = [
        row
        for row in world.incidents
        if since <= row.created < until
        and (not services or world.services[row.service]["id"] in services)
        and (not teams or of_teams([world.services[row.service]], teams))
        and filters.get("urgency", row.urgency) == row.urgency
    ]
    return rows, filters


def _average(values: Iterable[float]) -> int:
    listed = list(values)
    return round(mean(listed)) if listed else 0


def _percentile(values: Iterable[float], part: int) -> int:
    listed = sorted(values)
    return round(listed[min(len(listed) - 1, len(listed) * part // 100)]) if listed else 0


def _hour_of(ask: Ask, incident: Incident) -> str:
    """business, off or sleep, in the assignee's own time zone."""
    person = ask.world.users[incident.assignee or 0]
    local = dt.datetime.fromtimestamp(incident.created, ZoneInfo(person["time_zone"]))
    if 8 <= local.hour < 18 and local.isoweekday() < 6:
        return "business"
    return "sleep" if local.hour >= 22 or local.hour < 8 else "off"


def _metrics(ask: Ask, rows: Sequence[Incident]) -> Document:
    acknowledged = [row.acknowledged[0] - row.created for row in rows if row.acknowledged]
    resolved = [row.resolved[0] - row.created for row in rows if row.resolved]
    engaged = [row.resolved[0] - row.acknowledged[0] for row in rows if row.resolved and row.acknowledged]
    hours = Counter(_hour_of(ask, row) for row in rows if row.urgency == "high")
    return {
        "mean_assignment_count": 1 if rows else 0,
        "mean_engaged_seconds": _average(engaged),
        "mean_engaged_user_count": 1 if engaged else 0,
        "mean_seconds_to_engage": _average(acknowledged),
        "mean_seconds_to_first_ack": _average(acknowledged),
        "mean_seconds_to_mobilize": 0,
        "mean_seconds_to_resolve": _average(resolved),
        "mean_user_defined_engaged_seconds": 0,
        "total_business_hour_interruptions": hours["business"],
        "total_engaged_seconds": round(sum(engaged)),
        "total_escalation_count": 0,
        "total_incident_count": len(rows),
        "total_incidents_acknowledged": len(acknowledged),
        "total_incidents_auto_resolved": sum(1 for row in rows if row.resolved and row.resolved[1] is None),
        "total_incidents_manual_escalated": 0,
        "total_incidents_reassigned": 0,
        "total_incidents_timeout_escalated": 0,
        "total_interruptions": sum(hours.values()),
        "total_notifications": len(rows),
        "total_off_hour_interruptions": hours["off"],
        "total_sleep_hour_interruptions": hours["sleep"],
        "total_snoozed_seconds": 0,
        "total_user_defined_engaged_seconds": 0,
        "up_time_pct": 100.0,
    }


def _grouped(ask: Ask, key: Callable[[Incident], tuple[tuple[str, Any], ...]]) -> Result:
    rows, filters = _filters(ask)
    groups: dict[tuple[tuple[str, Any], ...], list[Incident]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    data = [{**_metrics(ask, group), **dict(name)} for name, group in groups.items()]
    return 200, {
        "data": sorted(data, key=lambda row: -row["total_incident_count"]),
        "filters": filters,
        "time_zone": _asked(ask).get("time_zone", "Etc/UTC"),
        "order": "desc",
        "order_by": "total_incident_count",
    }


def _team(ask: Ask, row: Incident) -> tuple[tuple[str, Any], ...]:
    team = ask.world.services[row.service]["teams"][0]
    return (("team_id", team["id"]), ("team_name", team["summary"]))


@route("POST", "/analytics/metrics/incidents/all", "analytics.write")
def metrics_all(ask: Ask) -> Result:
    status, found = _grouped(ask, lambda row: ())
    rows, _ = _filters(ask)
    if not found["data"]:
        found["data"] = [_metrics(ask, [])]
    acknowledged = [row.acknowledged[0] - row.created for row in rows if row.acknowledged]
    resolved = [row.resolved[0] - row.created for row in rows if row.resolved]
    for part in (50, 75, 90, 95):
        found["data"][0][f"p{part}_seconds_to_first_ack"] = _percentile(acknowledged, part)
        found["data"][0][f"p{part}_seconds_to_resolve"] = _percentile(resolved, part)
    return status, found


@route("POST", "/analytics/metrics/incidents/services", "analytics.write")
def metrics_services(ask: Ask) -> Result:
    def key(row: Incident) -> tuple[tuple[str, Any], ...]:
        service = ask.world.services[row.service]
        return (("service_id", service["id"]), ("service_name", service["name"]), *_team(ask, row))

    return _grouped(ask, key)


@route("POST", "/analytics/metrics/incidents/teams", "analytics.write")
def metrics_teams(ask: Ask) -> Result:
    return _grouped(ask, lambda row: _team(ask, row))


@route("POST", "/analytics/metrics/incidents/escalation_policies", "analytics.write")
def metrics_policies(ask: Ask) -> Result:
    def key(row: Incident) -> tuple[tuple[str, Any], ...]:
        policy = docs.escalation_policy_of(ask.world, row)
        return (
            ("escalation_policy_id", policy["id"]),
            ("escalation_policy_name", policy["name"]),
            *_team(ask, row),
        )

    return _grouped(ask, key)


def _responders(ask: Ask, *, by_team: bool) -> Result:
    rows, filters = _filters(ask, "date_range_start", "date_range_end")
    groups: dict[tuple[int, Any], list[Incident]] = defaultdict(list)
    for row in rows:
        if row.assignee is not None:
            groups[row.assignee, _team(ask, row) if by_team else None].append(row)
    data = []
    for (place, team), group in groups.items():
        found = _metrics(ask, group)
        shown: Document = {
            name: found[name]
            for name in (
                "mean_engaged_seconds",
                "total_business_hour_interruptions",
                "total_engaged_seconds",
                "total_incident_count",
                "total_incidents_acknowledged",
                "total_interruptions",
                "total_notifications",
                "total_off_hour_interruptions",
                "total_sleep_hour_interruptions",
            )
        }
        shown |= {
            f"total_incidents_{what}_{way}": 0
            for what in ("manual_escalated", "reassigned", "timeout_escalated")
            for way in ("from", "to")
        }
        own = _team(ask, group[0]) if team is None else team
        data.append(
            {
                **shown,
                "mean_time_to_acknowledge_seconds": found["mean_seconds_to_first_ack"],
                "responder_id": ask.world.users[place]["id"],
                "responder_name": ask.world.users[place]["name"],
                **dict(own),
                **_seconds_on_call(ask, place, filters),
            }
        )
    return 200, {
        "data": sorted(data, key=lambda row: -row["total_incident_count"]),
        "filters": filters,
        "time_zone": _asked(ask).get("time_zone", "Etc/UTC"),
        "order": "desc",
        "order_by": "total_incident_count",
    }


def _seconds_on_call(ask: Ask, place: int, filters: Document) -> Document:
    since = parse_time(filters["date_range_start"]) if "date_range_start" in filters else ask.now - MONTH
    until = parse_time(filters["date_range_end"]) if "date_range_end" in filters else ask.now
    wanted = ask.world.users[place]["id"]
    levels = [0.0, 0.0]
    for level, schedules in ((0, ask.world.schedules[:6]), (1, ask.world.schedules[6:12])):
        for schedule in schedules:
            if any(user["id"] == wanted for user in schedule["users"]):
                levels[level] += sum(
                    end - start for start, end, user in final_shifts(schedule, since, until) if user == wanted
                )
    return {
        "total_seconds_on_call": round(sum(levels)),
        "total_seconds_on_call_level_1": round(levels[0]),
        "total_seconds_on_call_level_2_plus": round(levels[1]),
    }


@route("POST", "/analytics/metrics/responders/all", "analytics.write")
def metrics_responders(ask: Ask) -> Result:
    return _responders(ask, by_team=False)


@route("POST", "/analytics/metrics/responders/teams", "analytics.write")
def metrics_responders_by_team(ask: Ask) -> Result:
    return _responders(ask, by_team=True)


@route("POST", "/analytics/raw/incidents", "analytics.write")
def raw_incidents(ask: Ask) -> Result:
    rows, filters = _filters(ask)
    body = _asked(ask)
    limit, order = body.get("limit", 100), body.get("order", "desc")
    rows = sorted(rows, key=lambda row: row.created, reverse=order == "desc")
    start = 0
    if body.get("starting_after"):
        places = {row.id: number for number, row in enumerate(rows)}
        if body["starting_after"] not in places:
            raise invalid("Starting after is not a cursor of this query")
        start = places[body["starting_after"]] + 1
    page = rows[start : start + limit]
    return 200, {
        "data": [_raw(ask, row) for row in page],
        "first": page[0].id if page else "",
        "last": page[-1].id if page else "",
        "limit": limit,
        "more": start + limit < len(rows),
        "order": order,
        "order_by": "created_at",
        "filters": filters,
        "time_zone": body.get("time_zone", "Etc/UTC"),
    }


def _raw(ask: Ask, row: Incident) -> Document:
    world = ask.world
    service, policy = world.services[row.service], docs.escalation_policy_of(world, row)
    person = None if row.assignee is None else world.users[row.assignee]
    people = [person["id"]] if person else []
    names = [person["name"] if person else ""][: len(people)]
    hour = _hour_of(ask, row)
    found: Document = {
        "id": row.id,
        "incident_number": row.place + 1,
        "description": row.title,
        "created_at": iso(row.created),
        "updated_at": iso(max(happening.at for happening in row.happenings())),
        "status": row.status,
        "urgency": row.urgency,
        "service_id": service["id"],
        "service_name": service["name"],
        "escalation_policy_id": policy["id"],
        "escalation_policy_name": policy["name"],
        **dict(_team(ask, row)),
        "major": False,
        "auto_resolved": bool(row.resolved and row.resolved[1] is None),
        "assigned_user_ids": people,
        "assigned_user_names": names,
        "assignment_count": 1,
        "acknowledgement_count": 1 if row.acknowledged else 0,
        "acknowledged_user_ids": people if row.acknowledged else [],
        "acknowledged_user_names": names if row.acknowledged else [],
        "engaged_seconds": round(row.resolved[0] - row.acknowledged[0]) if row.resolved and row.acknowledged else 0,
        "engaged_user_count": 1 if row.acknowledged else 0,
        "escalation_count": 0,
        "manual_escalation_count": 0,
        "timeout_escalation_count": 0,
        "reassignment_count": 0,
        "priority_id": None if row.priority is None else world.priorities[row.priority]["id"],
        "priority_name": None if row.priority is None else world.priorities[row.priority]["name"],
        "priority_order": None if row.priority is None else world.priorities[row.priority]["order"],
        "business_hour_interruptions": int(hour == "business"),
        "off_hour_interruptions": int(hour == "off"),
        "sleep_hour_interruptions": int(hour == "sleep"),
        "total_interruptions": 1,
        "total_notifications": 1,
        "snoozed_seconds": 0,
        "user_defined_effort_seconds": None,
    }
    if row.acknowledged:
        found["seconds_to_first_ack"] = found["seconds_to_engage"] = round(row.acknowledged[0] - row.created)
    if row.resolved:
        found["resolved_at"] = iso(row.resolved[0])
        found["seconds_to_resolve"] = round(row.resolved[0] - row.created)
        if row.resolved[1] is not None:
            by = world.users[row.resolved[1]]
            found |= {"resolved_by_user_id": by["id"], "resolved_by_user_name": by["name"]}
    return found
