"""Reads that take more than one operation, or choose one of several: each asked for by itself, at once where they do not need
each other. A part that comes to nothing is told as such: no error ever looks like an empty list."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from integrations.pagerduty.catalog import ALIASES
from integrations.pagerduty.tools import lookups, oncall, reads, reports
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Wrong, need
from integrations.pagerduty.tools.reads import elsewhere, failed, of_last_month, only
from integrations.pagerduty.tools.slim import full, outside, plain, reference, rendered, utc


async def _get_incident(given: Given, run: Run) -> Any:
    """``{"incident": {...}, "alerts": [...], "count", "more", "left_out"}``; or one alert."""
    if given.get("alert_id"):
        ids = only(given, "incident_id", "alert_id")
        return rendered(await need(run, reads.ask("getIncidentAlert", ids)), given)
    incident, alerts = await asyncio.gather(
        run(reads.ask("getIncident", only(given, "incident_id"))), run(reads.ask("listIncidentAlerts", given))
    )
    if incident.kind:
        raise Failed(incident)
    if alerts.kind:
        return {**rendered(incident.document, given), "alerts": failed(alerts)}
    return rendered({**incident.document, **alerts.document}, given)


WHAT: Final = {
    "acknowledge": "acknowledged",
    "annotate": "note added",
    "assign": "assigned",
    "custom_field_value_change": "custom field changed",
    "delegate": "moved to another escalation policy",
    "escalate": "escalated",
    "exhaust_escalation_path": "escalation path exhausted",
    "field_value_change": "custom field changed",
    "merge": "merged",
    "notify": "notified",
    "priority_change": "priority changed",
    "reach_ack_limit": "acknowledgement limit reached",
    "reach_trigger_limit": "trigger limit reached",
    "repeat_escalation_path": "escalation path begun again",
    "resolve": "resolved",
    "responder_request": "responders requested",
    "snooze": "snoozed",
    "status_update": "status update sent",
    "trigger": "triggered",
    "unacknowledge": "no longer acknowledged",
    "urgency_change": "urgency changed",
}
"""Kind of log entry → what happened, in words."""
TRIES: Final = 3


async def _list_incidents(given: Given, run: Run) -> Any:
    """The newest first, unless told otherwise."""
    if "sort_by" not in given.arguments:
        given = dataclasses.replace(given, arguments={**given.arguments, "sort_by": ["created_at:desc"]})
    return rendered(await need(run, reads.of_window("listIncidents", given)), given)


async def _get_incident_timeline(given: Given, run: Run) -> Any:
    """The entries with who did what, the oldest first: ``{"timeline": [{"id", "at", "what", "who", ...}], "count", "total",
    "more"}``.

    PagerDuty pages from the newest entry; from the oldest, a page begins where it began before, whatever is added meanwhile."""
    document, rows, total = await _from_the_oldest(given, run)
    end = given["offset"] + len(rows)
    page: dict[str, Any] = {"count": len(rows), "total": total} | ({"more": {"offset": end}} if end < total else {})
    if given.full:
        return full({**document, "log_entries": rows}) | page
    unnamed = {
        each["id"]
        for row in rows
        for each in _people(row)
        if "id" in each and not (each.get("summary") or each.get("name"))
    }
    known, missing = await lookups.names("user", sorted(unnamed), run)
    timeline = [_event(row, known, given) for row in rows]
    return {"timeline": timeline, **page} | ({"names": failed(missing)} if missing else {})


async def _from_the_oldest(given: Given, run: Run) -> tuple[Mapping[str, Any], list[Mapping[str, Any]], int]:
    """An answer of PagerDuty's, the asked page of entries from the oldest on, and how many there are."""
    offset, limit = given["offset"], given["limit"]

    def entries(skip: int, count: int) -> Ask:
        return reads.ask(
            "listIncidentLogEntries", only(given, "incident_id", "since", "until", offset=skip, limit=count, total=True)
        )

    document = await need(run, entries(0, 100))
    rows = document["log_entries"]
    if not document.get("more"):
        return document, rows[::-1][offset : offset + limit], len(rows)
    total = document["total"]
    for _ in range(TRIES):
        start = max(0, total - offset - limit)
        if total <= offset:
            return document, [], total
        document = await need(run, entries(start, min(limit, total - offset)))
        before, total = total, document["total"]
        if before == total:  # else some were added in between, and the page is not the one that was meant
            break
    return document, document["log_entries"][::-1], total


def _people(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The users that a log entry refers to."""
    referred = [row.get("agent"), row.get("user"), *(row.get("assignees") or ())]
    return [each for each in referred if isinstance(each, Mapping) and str(each.get("type", "")).startswith("user")]


def _event(row: Mapping[str, Any], known: Mapping[str, str], given: Given) -> dict[str, Any]:
    def shown(value: Any) -> Any:
        told = reference(value)
        return {**told, "name": known[told["id"]]} if isinstance(told, dict) and told.get("id") in known else told

    kind = str(row.get("type", "")).removesuffix("_reference").removesuffix("_log_entry")
    channel = row.get("channel") or {}
    whom = [*(row.get("assignees") or ()), *([row["user"]] if row.get("user") else ())]
    way = (channel.get("notification") or {}).get("type") or channel.get("type")
    found = {
        "id": row.get("id"),
        "at": utc(row.get("created_at"), given),
        "what": WHAT.get(kind) or plain(kind.replace("_", " "), 40),
        "who": shown(row.get("agent")),
        "whom": [shown(each) for each in whom],
        "by": plain(str(way).removesuffix("_notification"), 40) if way else None,
        "said": outside(row.get("summary")),
        "note": outside(row.get("note")),
        "changes": outside(row.get("changeset")),
        "until": utc(next((each.get("at") for each in row.get("changed_actions") or ()), None), given),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


KINDS: Final = {
    "technical": ("getTechnicalServiceServiceDependencies", "business"),
    "business": ("getBusinessServiceServiceDependencies", "technical"),
}
"""Kind of service → the operation that knows its dependencies, and the other kind."""


async def _list_service_dependencies(given: Given, run: Run) -> Any:
    """``{"service": {...}, "uses": [{"id", "name", "kind"}], "used_by": [...]}``. A service that is not of the kind is looked for
    in the other."""
    service, kind = given["service_id"], given["type"]
    operation, other = KINDS[kind]
    told = await run(reads.ask(operation, only(given, "service_id")))
    if elsewhere(told):
        second = await run(reads.ask(KINDS[other][0], only(given, "service_id")))
        if not second.kind:
            told, kind = second, other
    if told.kind:
        raise Failed(told)
    if given.full:
        return full(told.document)
    uses: list[Mapping[str, Any]] = []
    used_by: list[Mapping[str, Any]] = []
    for row in told.document["relationships"]:
        upper, lower = row["dependent_service"], row["supporting_service"]
        (uses if upper["id"] == service else used_by).append(lower if upper["id"] == service else upper)
    ids: dict[str, set[str]] = {f"{kind}_service": {service}}
    for each in (*uses, *used_by):
        ids.setdefault(_kind_of(each), set()).add(each["id"])
    looked = await asyncio.gather(*(lookups.names(each, sorted(wanted), run) for each, wanted in ids.items()))
    known = {id: name for found, _ in looked for id, name in found.items()}

    def shown(id: str, kind: str) -> dict[str, str]:
        return {**lookups.named(id, known), "kind": kind.removesuffix("_service")}

    answer: dict[str, Any] = {
        "service": shown(service, kind),
        "uses": [shown(each["id"], _kind_of(each)) for each in uses],
        "used_by": [shown(each["id"], _kind_of(each)) for each in used_by],
    }
    missing = {f"{each}_names": failed(told) for each, (_, told) in zip(ids, looked, strict=True) if told}
    return answer | missing


def _kind_of(service: Mapping[str, Any]) -> str:
    return "business_service" if "business" in str(service.get("type")) else "technical_service"


async def _list_log_entries(given: Given, run: Run) -> Any:
    if given.get("log_entry_id"):
        return rendered(await need(run, reads.ask("getLogEntry", only(given, "log_entry_id"))), given)
    return rendered(await need(run, of_last_month("listLogEntries", given)), given)


async def _list_change_events(given: Given, run: Run) -> Any:
    return rendered(await need(run, of_last_month("listChangeEvents", given)), given)


async def _list_service_change_events(given: Given, run: Run) -> Any:
    return rendered(await need(run, of_last_month("listServiceChangeEvents", given)), given)


async def _list_maintenance_windows(given: Given, run: Run) -> Any:
    if given.get("maintenance_window_id"):
        return rendered(await need(run, reads.ask("getMaintenanceWindow", only(given, "maintenance_window_id"))), given)
    return rendered(await need(run, reads.ask("listMaintenanceWindows", given)), given)


async def _list_business_service_impacts(given: Given, run: Run) -> Any:
    one = given.get("business_service_id")
    operation = "getBusinessServiceSupportingServiceImpacts" if one else "getBusinessServiceImpacts"
    return _business(await need(run, reads.ask(operation, given)), given)


async def _get_incident_business_impacts(given: Given, run: Run) -> Any:
    return _business(await need(run, reads.ask("getIncidentImpactedBusinessServices", given)), given)


def _business(document: Mapping[str, Any], given: Given) -> Any:
    """PagerDuty calls business services ``services`` where it tells their impacts."""
    if given.full:
        return full(document)
    return rendered(
        {("business_services" if key == "services" else key): value for key, value in document.items()}, given
    )


async def _get_user_data(given: Given, run: Run) -> Any:
    if given["user_id"] != "me":
        return rendered(await need(run, reads.ask("getUser", given)), given)
    told = await run(Ask("GET", "/users/me"))
    if told.kind == "refused" and told.error.get("status") == 400:
        problem = "The connection's token is an account key, which belongs to nobody: PagerDuty has no me for it."
        raise Failed(
            dataclasses.replace(told, error={**told.error, "problem": problem, "remedy": "Pass a user's id or name."})
        )
    if told.kind:
        raise Failed(told)
    return rendered(told.document, given)


async def _list_standard_scores(given: Given, run: Run) -> Any:
    ask = reads.ask("listResourceStandardsManyServices", given, resource_type="technical_services")
    return rendered(await need(run, ask), given)


TOOLS: Final[Mapping[str, Callable[[Given, Run], Awaitable[Any]]]] = {
    "list_incidents": _list_incidents,
    "get_incident": _get_incident,
    "get_incident_timeline": _get_incident_timeline,
    "get_incident_business_impacts": _get_incident_business_impacts,
    "list_service_dependencies": _list_service_dependencies,
    "list_business_service_impacts": _list_business_service_impacts,
    "list_maintenance_windows": _list_maintenance_windows,
    "list_log_entries": _list_log_entries,
    "list_change_events": _list_change_events,
    "list_service_change_events": _list_service_change_events,
    "list_standard_scores": _list_standard_scores,
    "get_user_data": _get_user_data,
    **oncall.TOOLS,
    **reports.TOOLS,
}
IMPLIED: Final[Mapping[str, Mapping[str, Any]]] = {
    "append_event_orchestration_router_rule": {"append": True},
    "get_alert_from_incident": {"alert_id": ""},
    "get_business_service_dependencies": {"type": "business"},
    "get_incident_metrics_by_team": {"subject": "teams"},
    "get_log_entry": {"log_entry_id": ""},
    "get_responder_load_metrics": {"subject": "responders"},
    "get_responder_metrics": {"subject": "responders"},
    "get_technical_service_dependencies": {"type": "technical"},
    "list_schedule_users": {"schedule_ids": ""},
}
"""Alias → what it says of the tool's arguments. Empty: it cannot be left out, and is refused with what to pass."""
OTHERS: Final = {"list_schedule_users": {"schedule_id": "schedule_ids"}, "get_log_entry": {"id": "log_entry_id"}}
"""Alias → its own names of arguments, and ours."""


def _managed(arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """What ``manage_incidents`` asks for, of one incident: PagerDuty's own takes several, and the changes in an object."""
    flat = dict(arguments)
    if isinstance(flat.get("manage_request"), Mapping):
        flat |= flat.pop("manage_request")
    if isinstance(flat.get("incident_ids"), list):
        ids = flat.pop("incident_ids")
        if len(ids) != 1:
            raise Wrong("manage_incidents takes one incident at a time here.", "Call it once for each incident.")
        flat["incident_id"] = ids[0]
    if flat.get("status") != "resolved":
        return "update_incident", flat
    del flat["status"]
    return "resolve_incident", flat


def of_alias(name: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The tool that one of PagerDuty's own names means, and the arguments with what the name says of them.

    PagerDuty's own tools take filters and pages as one object, ``query_model``: what is in it counts as an argument."""
    flat = dict(arguments)
    if isinstance(flat.get("query_model"), Mapping):
        flat |= flat.pop("query_model")
    if name == "manage_incidents":
        return _managed(flat)
    renamed = {OTHERS.get(name, {}).get(key, key): value for key, value in flat.items()}
    return ALIASES[name][0], {**IMPLIED.get(name, {}), **renamed}
