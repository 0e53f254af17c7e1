"""Analytics, computed from the account's own incidents and their logs."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    MONTH,
    Ask,
    Result,
    find,
    find_incident,
    invalid,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.measures import HOURS, Measures, is_major, measured
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.render_v3 import joined, on_call
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
    World,
    parse_time,
)

IDS: Final = list_of(string())
COUNT: Final = whole(0, 1_000_000)
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
                # As PagerDuty spells it.
                **dict.fromkeys(("min_ackowledgements", "min_timeout_escalations", "min_manual_escalations"), COUNT),
                "urgency": one_of("high", "low"),
                "major": boolean,
                "pd_advance_used": boolean,
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
YEAR: Final = 366 * DAY
COUNTED: Final = {
    *("major", "min_ackowledgements", "min_timeout_escalations", "min_manual_escalations"),
    *("pd_advance_used", "updated_after"),
}
"""Filters that an incident's log decides."""


def _asked(ask: Ask) -> Document:
    """The body of a question to the analytics; it may be left out."""
    faults: list[Fault] = []
    found: Document = ANALYTICS({} if ask.body is None else ask.body, (), faults)
    if faults:
        raise invalid(*(sentence(fault, "the body") for fault in faults))
    return found


@dataclass(slots=True)
class Row:
    incident: Incident
    known: Measures | None = None

    @property
    def measures(self) -> Measures:
        """Counted when they are asked for: a page shows a hundred of tens of thousands."""
        if self.known is None:
            self.known = measured(self.incident)
        return self.known


@dataclass(slots=True)
class Question:
    """What was asked, and the incidents that it is about, the oldest first."""

    body: Document
    filters: Document
    since: float
    until: float
    zone: ZoneInfo
    rows: list[Row]

    def told(self) -> Document:
        """What every answer repeats."""
        return {"filters": self.filters, "time_zone": self.zone.key}


def _question(
    ask: Ask, start: str = "created_at_start", end: str = "created_at_end", *, narrow: bool = True
) -> Question:
    """``narrow``: keys of users and of OAuth must say which teams or services they ask about."""
    body = _asked(ask)
    filters: Document = body.get("filters", {})
    if narrow and ask.token.kind != "account" and not (filters.get("team_ids") or filters.get("service_ids")):
        raise invalid("Filters must hold team_ids or service_ids for this token")
    until = parse_time(filters[end]) if end in filters else ask.now
    since = parse_time(filters[start]) if start in filters else min(until, ask.now) - MONTH
    if since > until:
        raise invalid("The time range must start before it ends")
    if until - since > YEAR:
        raise invalid("The time range is longer than a year")
    incidents = ask.world.incidents
    low = bisect_left(incidents, since, key=_created)
    high = bisect_left(incidents, until, key=_created)
    wanted = _wanted(ask.world, filters)
    rows = [Row(row) for row in incidents[low:high] if wanted(row)]
    if filters.keys() & COUNTED:
        rows = [row for row in rows if _counted(filters, row)]
    return Question(body, filters, since, until, ZoneInfo(body.get("time_zone", "Etc/UTC")), rows)


def _created(incident: Incident) -> float:
    return incident.created


def _wanted(world: World, filters: Document) -> Callable[[Incident], bool]:
    """Whether an incident is of those asked for, by what can be told without its log."""
    teams = frozenset(filters.get("team_ids", ()))
    ids, policies = set(filters.get("service_ids", ())), set(filters.get("escalation_policy_ids", ()))
    services = {
        place
        for place, service in enumerate(world.services)
        if (not ids or service["id"] in ids) and of_teams([service], teams)
    }
    priorities = {
        place
        for place, priority in enumerate(world.priorities)
        if priority["id"] in filters.get("priority_ids", ()) or priority["name"] in filters.get("priority_names", ())
    }
    by_priority = bool(filters.get("priority_ids") or filters.get("priority_names"))
    types = {row["name"] for row in world.incident_types if row["id"] in filters.get("incident_type_ids", ())}
    by_type = bool(filters.get("incident_type_ids"))
    urgency = filters.get("urgency")

    def wanted(row: Incident) -> bool:
        return (
            row.service in services
            and urgency in (None, row.urgency)
            and (not by_priority or row.priority in priorities)
            and (not by_type or (row.extra or docs.NOTHING_MORE).type in types)
            and (not policies or docs.escalation_policy_of(world, row)["id"] in policies)
        )

    return wanted


def _counted(filters: Document, row: Row) -> bool:
    """The same, by what its log says."""
    found = row.measures
    least: dict[str, Callable[[], int]] = {
        "min_ackowledgements": lambda: len(found.acknowledgements),
        "min_timeout_escalations": lambda: len(found.moved("timeout_escalated")),
        "min_manual_escalations": lambda: len(found.moved("manual_escalated")),
    }
    return (
        not filters.get("pd_advance_used", False)
        and ("major" not in filters or filters["major"] == is_major(row.incident, found))
        and ("updated_after" not in filters or _updated(row.incident) > parse_time(filters["updated_after"]))
        and all(name not in filters or count() >= filters[name] for name, count in least.items())
    )


def _updated(incident: Incident) -> float:
    return max(entry.at for entry in incident.happenings())


def _average(values: Iterable[float]) -> int:
    listed = list(values)
    return round(fmean(listed)) if listed else 0


def _percentile(values: Iterable[float], part: int) -> int:
    listed = sorted(values)
    return round(listed[min(len(listed) - 1, len(listed) * part // 100)]) if listed else 0


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _to_acknowledge(rows: Sequence[Row]) -> list[float]:
    firsts = ((row.measures.first_acknowledged(), row.incident.created) for row in rows)
    return [first - created for first, created in firsts if first is not None]


def _to_resolve(rows: Sequence[Row]) -> list[float]:
    return [row.incident.resolved[0] - row.incident.created for row in rows if row.incident.resolved]


def _to_mobilize(row: Row) -> float | None:
    times = row.measures.acknowledged.values()
    return max(times) - row.incident.created if len(times) > 1 else None


def _metrics(world: World, rows: Sequence[Row]) -> Document:
    found = [row.measures for row in rows]
    engaged = [one.engaged(user) for one in found if one.resolved for user in one.acknowledged]
    moves = [(number, row.how) for number, one in enumerate(found) for row in one.assigned]
    escalations = Counter(how for _, how in moves)
    moved = Counter(how for _, how in set(moves))
    hours = Counter(hour for one in found for hour in one.interruptions(world))
    return {
        "mean_assignment_count": _average(len(one.assigned) for one in found),
        "mean_engaged_seconds": _average(engaged),
        "mean_engaged_user_count": _average(len(one.acknowledged) for one in found),
        "mean_seconds_to_engage": _average(_known(one.to_engage() for one in found)),
        "mean_seconds_to_first_ack": _average(_to_acknowledge(rows)),
        "mean_seconds_to_mobilize": _average(_known(_to_mobilize(row) for row in rows)),
        "mean_seconds_to_resolve": _average(_to_resolve(rows)),
        "mean_user_defined_engaged_seconds": _average(engaged),
        "total_engaged_seconds": round(sum(engaged)),
        "total_escalation_count": escalations["manual_escalated"] + escalations["timeout_escalated"],
        "total_incident_count": len(rows),
        "total_incidents_acknowledged": sum(1 for one in found if one.acknowledged),
        "total_incidents_auto_resolved": sum(1 for one in found if one.resolved and one.resolved[1] is None),
        "total_incidents_manual_escalated": moved["manual_escalated"],
        "total_incidents_reassigned": moved["reassigned"],
        "total_incidents_timeout_escalated": moved["timeout_escalated"],
        "total_interruptions": hours.total(),
        **{f"total_{name}_hour_interruptions": hours[name] for name in HOURS},
        "total_notifications": sum(len(one.notified) for one in found),
        "total_snoozed_seconds": round(sum(one.snoozed for one in found)),
        "total_user_defined_engaged_seconds": round(sum(engaged)),
    }


def _up_time(question: Question, rows: Sequence[Row]) -> float:
    """The share of the range without a major incident, in percent."""
    spans = [
        (
            row.incident.created,
            min(row.incident.resolved[0] if row.incident.resolved else question.until, question.until),
        )
        for row in rows
        if is_major(row.incident, row.measures)
    ]
    down = sum(high - low for low, high in joined(spans))
    return 100 * (1 - down / (question.until - question.since)) if question.until > question.since else 100.0


Key = tuple[tuple[str, Any], ...]


def _range_start(question: Question, at: float) -> str:
    """Where the day, week (from Monday) or month of a moment begins, by the clock of the question's zone."""
    day = dt.datetime.fromtimestamp(at, question.zone).date()
    if question.body["aggregate_unit"] == "week":
        day -= dt.timedelta(days=day.weekday())
    elif question.body["aggregate_unit"] == "month":
        day = day.replace(day=1)
    return f"{day.isoformat()}T00:00:00"


def _grouped(question: Question, key: Callable[[Row], Key | None], show: Callable[[Sequence[Row]], Document]) -> Result:
    """A row for each group, and for each unit of time if one is asked for. ``key``: None leaves an incident out."""
    unit = question.body.get("aggregate_unit")
    groups: dict[Key, list[Row]] = defaultdict(list)
    for row in question.rows:
        name = key(row)
        if name is not None:
            start: Key = (("range_start", _range_start(question, row.incident.created)),) if unit else ()
            groups[(*start, *name)].append(row)
    data = [{**show(rows), **dict(name)} for name, rows in groups.items()]
    return 200, {
        "data": _ordered(question.body, data, "range_start" if unit else "total_incident_count"),
        **question.told(),
        "order": question.body.get("order", "desc"),
        "order_by": question.body.get("order_by", "range_start" if unit else "total_incident_count"),
        **({"aggregate_unit": unit} if unit else {}),
    }


def _ordered(body: Document, data: list[Document], default: str) -> list[Document]:
    by = body.get("order_by", default)
    if data and by not in data[0]:
        raise invalid("Order by is not a column of the answer.")
    return sorted(data, key=lambda row: row[by], reverse=body.get("order", "desc") == "desc")


def _team(world: World, incident: Incident) -> Document | None:
    teams: list[Document] = world.services[incident.service]["teams"]
    return teams[0] if teams else None


def _with_team(world: World, row: Row) -> Key:
    team = _team(world, row.incident)
    return () if team is None else (("team_id", team["id"]), ("team_name", team["summary"]))


@route("POST", "/analytics/metrics/incidents/all", "analytics.write", body_optional=True)
def metrics_all(ask: Ask) -> Result:
    def show(rows: Sequence[Row]) -> Document:
        found = _metrics(ask.world, rows)
        for name, values in (("first_ack", _to_acknowledge(rows)), ("resolve", _to_resolve(rows))):
            found |= {f"p{part}_seconds_to_{name}": _percentile(values, part) for part in (50, 75, 90, 95)}
        return found

    question = _question(ask)
    status, found = _grouped(question, lambda row: (), show)
    if not found["data"] and "aggregate_unit" not in found:
        found["data"] = [show([])]
    return status, found


def _incident_metrics(ask: Ask, key: Callable[[Row], Key | None], *, responders: bool = False) -> Result:
    question = _question(ask)

    def show(rows: Sequence[Row]) -> Document:
        found = {**_metrics(ask.world, rows), "up_time_pct": _up_time(question, rows)}
        if responders:
            found["distinct_responder_count"] = len({user for row in rows for user in row.measures.responders()})
        return found

    return _grouped(question, key, show)


@route("POST", "/analytics/metrics/incidents/services", "analytics.write", body_optional=True)
def metrics_services(ask: Ask) -> Result:
    def key(row: Row) -> Key:
        service = ask.world.services[row.incident.service]
        return (("service_id", service["id"]), ("service_name", service["name"]), *_with_team(ask.world, row))

    return _incident_metrics(ask, key)


@route("POST", "/analytics/metrics/incidents/services/all", "analytics.write", body_optional=True)
def metrics_all_services(ask: Ask) -> Result:
    return _incident_metrics(ask, lambda row: ())


@route("POST", "/analytics/metrics/incidents/teams", "analytics.write", body_optional=True)
def metrics_teams(ask: Ask) -> Result:
    return _incident_metrics(ask, lambda row: _with_team(ask.world, row) or None)


@route("POST", "/analytics/metrics/incidents/teams/all", "analytics.write", body_optional=True)
def metrics_all_teams(ask: Ask) -> Result:
    return _incident_metrics(ask, lambda row: () if _team(ask.world, row.incident) else None)


@route("POST", "/analytics/metrics/incidents/escalation_policies", "analytics.write", body_optional=True)
def metrics_policies(ask: Ask) -> Result:
    def key(row: Row) -> Key:
        policy = docs.escalation_policy_of(ask.world, row.incident)
        return (
            ("escalation_policy_id", policy["id"]),
            ("escalation_policy_name", policy["name"]),
            *_with_team(ask.world, row),
        )

    return _incident_metrics(ask, key, responders=True)


@route("POST", "/analytics/metrics/incidents/escalation_policies/all", "analytics.write", body_optional=True)
def metrics_all_policies(ask: Ask) -> Result:
    return _incident_metrics(ask, lambda row: (), responders=True)


# Responders

MOVES: Final = {
    "manual_escalations": "manual_escalated",
    "reassignments": "reassigned",
    "timeout_escalations": "timeout_escalated",
}
"""As the raw data names them, and as everything else does."""


def _responder_metrics(world: World, rows: Sequence[tuple[Row, int]]) -> Document:
    """Of incidents, each with one who responded to it."""
    times = _known(_own_time(row, user) for row, user in rows)
    engaged = [row.measures.engaged(user) for row, user in rows if user in row.measures.acknowledged]
    hours = Counter(hour for row, user in rows for hour in row.measures.interruptions(world, user))
    moved = Counter(move for row, user in rows for move in set(_moves(row, user)))
    return {
        "mean_engaged_seconds": _average(engaged),
        "mean_time_to_acknowledge_seconds": _average(times),
        "total_engaged_seconds": round(sum(engaged)),
        "total_incident_count": len({row.incident.place for row, _ in rows}),
        "total_incidents_acknowledged": sum(user in row.measures.acknowledged for row, user in rows),
        **{f"total_incidents_{how}_{way}": moved[how, way] for how in MOVES.values() for way in ("from", "to")},
        "total_interruptions": hours.total(),
        **{f"total_{name}_hour_interruptions": hours[name] for name in HOURS},
        "total_notifications": sum(row.measures.notified.count(user) for row, user in rows),
    }


def _own_time(row: Row, user: int) -> float | None:
    """Seconds from when it was first assigned to somebody to their own acknowledgement."""
    assigned = [one.at for one in row.measures.assigned if one.user == user]
    acknowledged = row.measures.acknowledged.get(user)
    return acknowledged - assigned[0] if assigned and acknowledged is not None and acknowledged >= assigned[0] else None


def _moves(row: Row, user: int) -> list[tuple[str, str]]:
    """How it went to somebody and away from them: ``("reassigned", "to")``. What it was first assigned to is no move."""
    return [
        (one.how, way)
        for one in row.measures.assigned
        for way, who in (("from", one.before), ("to", one.user))
        if who == user and one.how != "assigned"
    ]


def _responses(ask: Ask, question: Question) -> list[tuple[Row, int]]:
    wanted = set(question.filters.get("responder_ids", ()))
    people = {place for place, user in enumerate(ask.world.users) if not wanted or user["id"] in wanted}
    return [(row, user) for row in question.rows for user in row.measures.responders() if user in people]


def _on_call_spans(ask: Ask, question: Question) -> list[dict[str, list[tuple[float, float]]]]:
    """When each person is on call, on the first level of any policy and on the others."""
    world = ask.world
    found: list[dict[str, list[tuple[float, float]]]] = [defaultdict(list), defaultdict(list)]
    schedules = {row["id"]: row for row in (*world.schedules, *world.v3)}
    levels = {
        (target["id"], min(level, 1))
        for policy in world.policies
        for level, rule in enumerate(policy["escalation_rules"])
        for target in rule["targets"]
    }
    for identifier, level in sorted(levels):
        schedule = schedules.get(identifier)
        if schedule is None:
            found[level][identifier].append((question.since, question.until))
            continue
        render = on_call if schedule["type"] == "schedule_v3" else final_shifts
        for start, end, user in render(schedule, question.since, question.until):
            found[level][user].append((start, end))
    return found


def _seconds_on_call(spans: list[dict[str, list[tuple[float, float]]]], people: set[str]) -> Document:
    def seconds(level: Sequence[dict[str, list[tuple[float, float]]]]) -> int:
        times = [joined([span for one in level for span in one.get(user, ())]) for user in people]
        return round(sum(high - low for mine in times for low, high in mine))

    return {
        "total_seconds_on_call": seconds(spans),
        "total_seconds_on_call_level_1": seconds(spans[:1]),
        "total_seconds_on_call_level_2_plus": seconds(spans[1:]),
    }


def _responders_told(question: Question, data: list[Document]) -> Result:
    return 200, {
        "data": _ordered(question.body, data, "total_incident_count"),
        **question.told(),
        "order": question.body.get("order", "desc"),
        "order_by": question.body.get("order_by", "total_incident_count"),
    }


@route("POST", "/analytics/metrics/responders/all", "analytics.write", body_optional=True)
def metrics_responders(ask: Ask) -> Result:
    """One row, of all the responders together."""
    question = _question(ask, "date_range_start", "date_range_end", narrow=False)
    rows = _responses(ask, question)
    people = set(question.filters.get("responder_ids", ())) or {ask.world.users[user]["id"] for _, user in rows}
    found = _responder_metrics(ask.world, rows) | _seconds_on_call(_on_call_spans(ask, question), people)
    return _responders_told(question, [found])


@route("POST", "/analytics/metrics/responders/teams", "analytics.write", body_optional=True)
def metrics_responders_by_team(ask: Ask) -> Result:
    """A row for each responder and each team whose incidents they responded to."""
    question = _question(ask, "date_range_start", "date_range_end", narrow=False)
    groups: dict[tuple[int, Key], list[tuple[Row, int]]] = defaultdict(list)
    for row, user in _responses(ask, question):
        if team := _with_team(ask.world, row):
            groups[user, team].append((row, user))
    spans = _on_call_spans(ask, question)
    data = []
    for (user, team), rows in groups.items():
        person = ask.world.users[user]
        data.append(
            {
                **_responder_metrics(ask.world, rows),
                "responder_id": person["id"],
                "responder_name": person["name"],
                **dict(team),
                **_seconds_on_call(spans, {person["id"]}),
            }
        )
    return _responders_told(question, data)


# Raw data


def _time(at: float, own: ZoneInfo) -> str:
    """By the clock of the question's zone, and without an offset, as the analytics tell times."""
    return dt.datetime.fromtimestamp(int(at), own).replace(tzinfo=None).isoformat()


def _page(body: Document, rows: list[Row]) -> tuple[list[Row], bool]:
    """The rows after, or before, the incident that a cursor names; and whether there are more that way."""
    limit = body.get("limit", 100)
    cursors = [name for name in ("starting_after", "ending_before") if body.get(name)]
    if len(cursors) > 1:
        raise invalid("Starting after and ending before cannot be used together")
    if not cursors:
        return rows[:limit], len(rows) > limit
    places = {row.incident.id: number for number, row in enumerate(rows)}
    if body[cursors[0]] not in places:
        raise invalid(f"{cursors[0].replace('_', ' ').capitalize()} is not a cursor of this query")
    place = places[body[cursors[0]]]
    if cursors[0] == "starting_after":
        return rows[place + 1 : place + 1 + limit], len(rows) > place + 1 + limit
    return rows[max(0, place - limit) : place], place > limit


def _paged(question: Question, rows: list[Row], order_by: str, show: Callable[[Row], Document]) -> Document:
    page, more = _page(question.body, rows)
    return {
        "data": [show(row) for row in page],
        "first": page[0].incident.id if page else "",
        "last": page[-1].incident.id if page else "",
        "limit": question.body.get("limit", 100),
        "more": more,
        "order": question.body.get("order", "desc"),
        "order_by": order_by,
        **question.told(),
    }


@route("POST", "/analytics/raw/incidents", "analytics.write", body_optional=True)
def raw_incidents(ask: Ask) -> Result:
    question = _question(ask)
    by = question.body.get("order_by", "created_at")
    keys: dict[str, Callable[[Row], float]] = {
        "created_at": lambda row: row.incident.created,
        "seconds_to_resolve": lambda row: (
            row.incident.resolved[0] - row.incident.created if row.incident.resolved else -1
        ),
        "updated_at": lambda row: _updated(row.incident),
    }
    if by not in keys:
        raise invalid(f"Order by must be {' or '.join(keys)}.")
    rows = sorted(question.rows, key=keys[by], reverse=question.body.get("order", "desc") == "desc")
    return 200, _paged(question, rows, by, lambda row: _raw(ask.world, row, question.zone))


@route("GET", "/analytics/raw/incidents/{id}", "analytics.read")
def raw_incident(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    own = ZoneInfo(_asked(ask).get("time_zone", "Etc/UTC"))
    return 200, _raw(ask.world, Row(incident), own)


def _raw(world: World, row: Row, own: ZoneInfo) -> Document:
    incident, found = row.incident, row.measures
    service, policy, team = (
        world.services[incident.service],
        docs.escalation_policy_of(world, incident),
        _team(world, incident),
    )
    assigned = list(dict.fromkeys(one.user for one in found.assigned))
    responders = (incident.extra or docs.NOTHING_MORE).responders
    helpers = {one["user"]["id"] for one in responders if one["state"] == "joined"}
    active = (
        [place for place, user in enumerate(world.users) if place in found.acknowledged or user["id"] in helpers]
        if helpers
        else list(found.acknowledged)
    )
    priority = None if incident.priority is None else world.priorities[incident.priority]
    kind = (incident.extra or docs.NOTHING_MORE).type
    first, resolved = found.first_acknowledged(), incident.resolved
    by = None if resolved is None or resolved[1] is None else world.users[resolved[1]]
    mobilized, engaged, hours = _to_mobilize(row), found.to_engage(), Counter(found.interruptions(world))
    shown: Document = {
        "id": incident.id,
        "incident_number": incident.place + 1,
        "description": incident.title,
        "created_at": _time(incident.created, own),
        "updated_at": _time(_updated(incident), own),
        "resolved_at": None if resolved is None else _time(resolved[0], own),
        "status": incident.status,
        "urgency": incident.urgency,
        "service_id": service["id"],
        "service_name": service["name"],
        "escalation_policy_id": policy["id"],
        "escalation_policy_name": policy["name"],
        "team_id": None if team is None else team["id"],
        "team_name": None if team is None else team["summary"],
        "incident_type_id": next(one["id"] for one in world.incident_types if one["name"] == kind),
        "incident_type_name": kind,
        "major": is_major(incident, found),
        "auto_resolved": resolved is not None and resolved[1] is None,
        "acknowledgement_count": len(found.acknowledgements),
        "active_user_count": len(active),
        "assignment_count": len(found.assigned),
        "engaged_seconds": round(found.engaged_by_all()),
        "engaged_user_count": len(found.acknowledged),
        "escalation_count": len(found.moved("manual_escalated")) + len(found.moved("timeout_escalated")),
        "manual_escalation_count": len(found.moved("manual_escalated")),
        "timeout_escalation_count": len(found.moved("timeout_escalated")),
        "reassignment_count": len(found.moved("reassigned")),
        "priority_id": None if priority is None else priority["id"],
        "priority_name": None if priority is None else priority["name"],
        "priority_order": None if priority is None else priority["order"],
        **{f"{name}_hour_interruptions": hours[name] for name in HOURS},
        "total_interruptions": len(found.interrupted),
        "total_notifications": len(found.notified),
        "resolved_by_user_id": None if by is None else by["id"],
        "resolved_by_user_name": None if by is None else by["name"],
        "seconds_to_engage": None if engaged is None else round(engaged),
        "seconds_to_first_ack": None if first is None else round(first - incident.created),
        "seconds_to_mobilize": None if mobilized is None else round(mobilized),
        "seconds_to_resolve": None if resolved is None else round(resolved[0] - incident.created),
        "snoozed_seconds": round(found.snoozed),
        "user_defined_effort_seconds": None,
    }
    for name, places in (("assigned", assigned), ("acknowledged", found.acknowledged), ("joined", active)):
        shown[f"{name}_user_ids"] = [world.users[place]["id"] for place in places]
        shown[f"{name}_user_names"] = [world.users[place]["name"] for place in places]
    return shown


RESPONDED: Final = {"assigned": "assigned", "reassigned": "reassigned"}


@route("GET", "/analytics/raw/incidents/{id}/responses", "analytics.read")
def raw_responses(ask: Ask) -> Result:
    """Whom the incident was assigned to and who was asked to help, each with when they responded."""
    incident = find_incident(ask.world, ask.path["id"])
    body = _asked(ask)
    if body.get("order_by", "requested_at") != "requested_at":
        raise invalid("Order by must be requested_at.")
    own = ZoneInfo(body.get("time_zone", "Etc/UTC"))
    found = measured(incident)
    rows: list[tuple[float, float | None, str, str, str]] = []
    for one in {row.user: row for row in reversed(found.assigned)}.values():
        responded = found.acknowledged.get(one.user)
        kind = RESPONDED.get(one.how, "escalated")
        rows.append(
            (one.at, responded, ask.world.users[one.user]["id"], kind, "pending" if responded is None else "joined")
        )
    for responder in (incident.extra or docs.NOTHING_MORE).responders:
        state = {"joined": "joined", "pending": "pending"}.get(responder["state"], "declined")
        responded = None if state == "pending" else parse_time(responder["updated_at"])
        rows.append(
            (parse_time(responder["requested_at"]), responded, responder["user"]["id"], "added_responder", state)
        )
    rows.sort(key=lambda row: row[0], reverse=body.get("order", "desc") == "desc")
    names = {user["id"]: user["name"] for user in ask.world.users}
    limit = body.get("limit", 100)
    return 200, {
        "incident_id": incident.id,
        "limit": limit,
        "order": body.get("order", "desc"),
        "order_by": "requested_at",
        "time_zone": own.key,
        "responses": [
            {
                "responder_id": user,
                "responder_name": names[user],
                "responder_type": kind,
                "response_status": state,
                "requested_at": _time(requested, own),
                "responded_at": None if responded is None else _time(responded, own),
                "time_to_respond_seconds": None if responded is None else round(responded - requested),
            }
            for requested, responded, user, kind, state in rows[:limit]
        ],
    }


@route("POST", "/analytics/raw/responders/{responder_id}/incidents", "analytics.write", body_optional=True)
def raw_responder_incidents(ask: Ask) -> Result:
    person = find(ask.world.users, ask.path["responder_id"])
    user = ask.world.users.index(person)
    question = _question(ask, narrow=False)
    if question.body.get("order_by", "incident_created_at") != "incident_created_at":
        raise invalid("Order by must be incident_created_at.")
    rows = [row for row in question.rows if user in row.measures.responders()]
    if question.body.get("order", "desc") == "desc":
        rows.reverse()
    found = _paged(
        question, rows, "incident_created_at", lambda row: _raw_responder(ask.world, row, user, question.zone)
    )
    return 200, {**found, "responder_id": person["id"]}


def _raw_responder(world: World, row: Row, user: int, own: ZoneInfo) -> Document:
    incident, found = row.incident, row.measures
    service, team = world.services[incident.service], _team(world, incident)
    priority = None if incident.priority is None else world.priorities[incident.priority]
    time, hours = _own_time(row, user), Counter(found.interruptions(world, user))
    moves = Counter(_moves(row, user))
    return {
        "incident_id": incident.id,
        "incident_number": incident.place + 1,
        "incident_created_at": _time(incident.created, own),
        "incident_description": incident.title,
        "incident_priority_id": None if priority is None else priority["id"],
        "incident_priority_name": None if priority is None else priority["name"],
        "incident_priority_order": None if priority is None else priority["order"],
        "incident_urgency": incident.urgency,
        "mean_time_to_acknowledge_seconds": None if time is None else round(time),
        "responder_id": world.users[user]["id"],
        "responder_name": world.users[user]["name"],
        "service_id": service["id"],
        "service_name": service["name"],
        "service_team_id": None if team is None else team["id"],
        "service_team_name": None if team is None else team["summary"],
        "total_acknowledgements": found.acknowledgements.count(user),
        "total_engaged_seconds": round(found.engaged(user)),
        "total_interruptions": hours.total(),
        **{f"total_{name}_hour_interruptions": hours[name] for name in HOURS},
        **{f"total_{title}_{way}": moves[how, way] for title, how in MOVES.items() for way in ("from", "to")},
    }
