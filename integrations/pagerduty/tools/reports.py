"""PagerDuty's analytics as tables: ``{"columns": [...], "rows": [[...]], "totals": {...}, "period": {...}}``.

Columns have PagerDuty's names, which say the unit: ``mean_seconds_to_resolve``. Names stand beside ids.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from integrations.pagerduty.tools import reads
from integrations.pagerduty.tools.arguments import moment
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Told, Wrong
from integrations.pagerduty.tools.reads import failed, only
from integrations.pagerduty.tools.slim import MAXIMUM_FULL, full, outside, plain, utc

FIGURES: Final = (
    *("total_incident_count", "total_incidents_acknowledged", "mean_seconds_to_first_ack", "mean_seconds_to_resolve"),
    *(f"p{part}_seconds_to_{what}" for what in ("first_ack", "resolve") for part in (50, 90)),
    *("mean_engaged_seconds", "total_escalation_count", "total_interruptions", "total_sleep_hour_interruptions"),
    "up_time_pct",
)
OF_PERSONS: Final = (
    *(
        "total_incident_count",
        "total_incidents_acknowledged",
        "mean_time_to_acknowledge_seconds",
        "mean_engaged_seconds",
    ),
    *("total_engaged_seconds", "total_interruptions", "total_sleep_hour_interruptions", "total_seconds_on_call"),
)
OF_INCIDENTS: Final = (
    *("id", "incident_number", "description", "service_id", "service_name", "team_name", "escalation_policy_name"),
    *("urgency", "priority_name", "created_at", "seconds_to_first_ack", "seconds_to_resolve"),
    *("escalation_count", "total_interruptions"),
)
OF_ONES_INCIDENTS: Final = (
    *("incident_id", "incident_number", "incident_description", "service_id", "service_name", "incident_urgency"),
    *("incident_created_at", "mean_time_to_acknowledge_seconds", "total_engaged_seconds", "total_acknowledgements"),
    *("total_interruptions", "total_sleep_hour_interruptions"),
)
OF_RESPONSES: Final = (
    *("responder_id", "responder_name", "responder_type", "response_status", "requested_at", "responded_at"),
    "time_to_respond_seconds",
)
OUTSIDE: Final = frozenset({"description", "incident_description"})
TIMES: Final = frozenset(
    {"created_at", "updated_at", "resolved_at", "incident_created_at", "requested_at", "responded_at"}
)
"""Columns that hold a time: PagerDuty tells it without an offset, in UTC unless another zone was asked for."""
LONGEST: Final = dt.timedelta(days=366)
MOST_ROWS: Final = 100
"""Rows of figures that an answer shows: PagerDuty does not page them."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Subject:
    operation: str
    totals: str
    """The operation that tells the same of all of them together; empty: the first one does."""
    columns: tuple[str, ...]


_INCIDENTS: Final = "getAnalyticsMetricsIncidents"
SUBJECTS: Final[Mapping[str, _Subject]] = {
    "services": _Subject(
        f"{_INCIDENTS}Service", f"{_INCIDENTS}ServiceAll", ("service_id", "service_name", "team_name", *FIGURES)
    ),
    "all_services": _Subject(f"{_INCIDENTS}ServiceAll", "", FIGURES),
    "teams": _Subject(f"{_INCIDENTS}Team", f"{_INCIDENTS}TeamAll", ("team_id", "team_name", *FIGURES)),
    "all_teams": _Subject(f"{_INCIDENTS}TeamAll", "", FIGURES),
    "escalation_policies": _Subject(
        f"{_INCIDENTS}EscalationPolicy",
        f"{_INCIDENTS}EscalationPolicyAll",
        ("escalation_policy_id", "escalation_policy_name", "team_name", *FIGURES),
    ),
    "all_escalation_policies": _Subject(f"{_INCIDENTS}EscalationPolicyAll", "", FIGURES),
    "responders": _Subject(
        "getAnalyticsMetricsRespondersTeam",
        "getAnalyticsMetricsRespondersAll",
        ("responder_id", "responder_name", "team_id", "team_name", *OF_PERSONS),
    ),
}
"""What a row is about → what is asked, and what is shown of it."""


async def _get_incident_metrics_all(given: Given, run: Run) -> Any:
    return await _figures(_Subject(f"{_INCIDENTS}All", "", FIGURES), given, run)


async def _get_incident_metrics_by_service(given: Given, run: Run) -> Any:
    return await _figures(SUBJECTS[given["subject"]], given, run)


async def _generate_report(given: Given, run: Run) -> Any:
    subject = given["subject"]
    if subject in ("incidents", "responders") and given.get("aggregate_unit"):
        raise Wrong(f"aggregate_unit is not for {subject}.", "Leave it out, or pass another subject.")
    if subject == "responders" and given.get("service_ids"):
        raise Wrong("service_ids is not for responders.", "Pass team_ids in its place, or none.")
    if subject != "incidents" and given.get("starting_after"):
        raise Wrong("starting_after is for incidents only.", "Leave it out: other reports have one page.")
    if subject != "incidents":
        return await _figures(SUBJECTS[subject], given, run)
    document = await _need(
        reads.ask("getAnalyticsIncidents", only(given)), _body(given, "limit", "starting_after"), given, run
    )
    return _paged(document, OF_INCIDENTS, given)


async def _list_responder_incidents(given: Given, run: Run) -> Any:
    ask = reads.ask("getAnalyticsResponderIncidents", only(given, "responder_id"))
    document = await _need(ask, _body(given, "limit", "order", "starting_after"), given, run)
    return {"responder_id": document.get("responder_id"), **_paged(document, OF_ONES_INCIDENTS, given)}


async def _get_incident_analytics(given: Given, run: Run) -> Any:
    """The figures of one incident, ``{"incident": {...}}``, or a table of who was asked to respond to it."""
    if given["subject"] == "incident":
        document = await _need(reads.ask("getAnalyticsIncidentsById", only(given, "incident_id")), None, given, run)
        if given.full:
            return _full({"data": [document]})["data"][0]
        shown = {name: _cell(name, value, given) for name, value in document.items() if value not in (None, [])}
        return {"incident": shown}
    body = {name: given[name] for name in ("order", "limit") if given.get(name) is not None}
    ask = reads.ask("getAnalyticsIncidentResponsesById", only(given, "incident_id"))
    document = await _need(ask, body | _zone(given), given, run)
    if given.full:
        return _full(document)
    rows = document["responses"]
    told = {"incident_id": document.get("incident_id"), **_table(rows, OF_RESPONSES, given), "count": len(rows)}
    if len(rows) >= given["limit"]:
        told["not_shown"] = {"remedy": "There may be more: pass a higher limit, or the other order."}
    return told


async def _figures(subject: _Subject, given: Given, run: Run) -> Any:
    """The table of a subject, and its totals: both asked at once."""
    body = _body(given, "aggregate_unit", responders="Responders" in subject.operation)
    asks = [_posted(subject.operation, body)]
    if subject.totals:
        asks.append(_posted(subject.totals, {name: value for name, value in body.items() if name != "aggregate_unit"}))
    first, *others = await asyncio.gather(*map(run, asks))
    if first.kind:
        raise Failed(_explained(first, given))
    if given.full:
        totals = [failed(_explained(told, given)) if told.kind else _full(told.document) for told in others]
        return {**_full(first.document), **({"totals": totals[0]} if totals else {})}
    rows = first.document["data"]
    if not given.get("aggregate_unit"):
        rows = sorted(rows, key=lambda row: -row.get("total_incident_count", 0))
    columns = ("range_start", *subject.columns) if given.get("aggregate_unit") else subject.columns
    answer = _table(rows[:MOST_ROWS], columns, given)
    answer["count"] = min(len(rows), MOST_ROWS)
    if len(rows) > MOST_ROWS:
        remedy = "Ask with service_ids or team_ids, for a shorter period or a longer aggregate_unit."
        answer["not_shown"] = {"rows": len(rows) - MOST_ROWS, "remedy": remedy}
    for told in others:
        answer["totals"] = (
            failed(_explained(told, given)) if told.kind else _totals(told.document["data"], subject, given)
        )
    return answer | {"period": _period(given)}


def _totals(rows: Sequence[Mapping[str, Any]], subject: _Subject, given: Given) -> dict[str, Any]:
    """All together over the whole period, in one row of PagerDuty's own."""
    row = rows[0] if rows else {}
    return {name: _cell(name, row[name], given) for name in subject.columns if row.get(name) is not None}


def _paged(document: Mapping[str, Any], columns: Sequence[str], given: Given) -> dict[str, Any]:
    """One page of incidents. Its totals are of the page: PagerDuty tells none."""
    if given.full:
        return _full(document)
    rows = document["data"]
    answer = _table(rows, columns, given)
    answer["count"] = len(rows)
    if document.get("more") and document.get("last"):
        answer["more"] = {"starting_after": document["last"]}
    answer["totals_of_page"] = {"incidents": len(rows)} | {
        f"mean_{name.removeprefix('mean_')}": round(sum(values) / len(values))
        for name in ("seconds_to_first_ack", "seconds_to_resolve", "mean_time_to_acknowledge_seconds")
        if (values := [row[name] for row in rows if row.get(name) is not None])
    }
    return answer | {"period": _period(given)}


def _full(document: Mapping[str, Any]) -> dict[str, Any]:
    """PagerDuty's document. Its rows have no type that would say that their descriptions are titles of incidents."""
    found: dict[str, Any] = full(document)
    for row in found.get("data", ()):
        row |= {name: outside(row[name], MAXIMUM_FULL) for name in OUTSIDE if row.get(name) is not None}
    return found


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], given: Given) -> dict[str, Any]:
    """Of the columns those that PagerDuty has of this subject; the names of what else it has are told."""
    shown = [name for name in columns if not rows or any(name in row for row in rows)]
    left_out = {name for row in rows for name, value in row.items() if value not in (None, [])} - set(shown)
    table: dict[str, Any] = {
        "columns": shown,
        "rows": [[_cell(name, row.get(name), given) for name in shown] for row in rows],
    }
    return table | ({"left_out": sorted(left_out)} if left_out else {})


def _cell(name: str, value: Any, given: Given) -> Any:
    if name in OUTSIDE:
        return outside(value, 200)
    if isinstance(value, list):
        return [_cell(name, item, given) for item in value]
    if isinstance(value, float):
        return round(value, 2)
    if name in TIMES and isinstance(value, str):
        return utc(value if moment(value) is None or value.endswith("Z") or "+" in value else f"{value}Z", given)
    return plain(value, 200) if isinstance(value, str) else value


def _period(given: Given) -> dict[str, Any]:
    since, until = reads.month_before(given)
    return {"since": utc(since, given), "until": utc(until, given), "time_zone": given.get("time_zone", "UTC")}


def _body(given: Given, *names: str, responders: bool = False) -> dict[str, Any]:
    """A question to the analytics: the period and the filters, and arguments of these names.

    ``responders``: their period is a range of dates, and services are no filter of it."""
    since, until = reads.month_before(given)
    start, end = moment(since), moment(until)
    if start and end and start >= end:
        raise Wrong("since is not before until.", "Pass a since that is earlier than until.")
    if start and end and end - start > LONGEST:
        raise Wrong("The period is longer than one year.", "Pass since and until at most one year apart.")
    word = "date_range" if responders else "created_at"
    filters: dict[str, Any] = {f"{word}_start": since, f"{word}_end": until}
    filters |= {
        name: given[name]
        for name in ("service_ids", "team_ids", "urgency", "major")
        if given.get(name) not in (None, [])
    }
    body = {"filters": filters} | {name: given[name] for name in names if given.get(name) is not None}
    # Of days and weeks the zone cuts the rows; of single incidents it would only take the offset from their times.
    return body | (_zone(given) if "aggregate_unit" in names or given.full else {})


def _zone(given: Given) -> dict[str, Any]:
    wanted = given.get("time_zone")
    return {"time_zone": wanted} if wanted and (given.full or given.get("aggregate_unit")) else {}


def _posted(operation: str, body: Mapping[str, Any]) -> Ask:
    ask = reads.ask(operation, Given({}))
    return Ask(ask.method, ask.path, (), body)


async def _need(ask: Ask, body: Mapping[str, Any] | None, given: Given, run: Run) -> Any:
    told = await run(Ask(ask.method, ask.path, (), body or None))
    if told.kind:
        raise Failed(_explained(told, given))
    return told.document


def _explained(told: Told, given: Given) -> Told:
    """What PagerDuty refuses of its analytics, in words."""
    if told.kind == "denied" and given.get("subject") == "services":
        remedy = (
            f"Figures by service need the tool get_incident_metrics_by_service, too. {told.error.get('remedy', '')}"
        )
        return dataclasses.replace(told, error={**told.error, "remedy": remedy.strip()})
    if told.kind != "refused":
        return told
    status, said = told.error.get("status"), str(told.error.get("problem", ""))
    narrow = not (given.get("service_ids") or given.get("team_ids"))
    if status == 402:
        problem = "PagerDuty does not give these figures: the account's plan has no analytics, or not these."
        remedy = "Count with list_incidents and list_log_entries, or ask whoever owns the account about its plan."
    elif status == 403:
        problem = (
            "PagerDuty refused these figures to the connection's token: it serves them by POST under analytics.write, "
            "which a token that only reads does not have, though nothing is changed."
        )
        remedy = "Ask the team's manager to register a token that may write; meanwhile count with list_incidents."
    elif status == 404:
        problem = (
            "PagerDuty has no figures of it: there is none of this id, or it is newer than its figures, "
            "which come up to 24 hours late."
        )
        remedy = "Check the id, or ask again tomorrow; for what is known now use get_incident."
    elif status == 400 and narrow:
        problem, remedy = (
            said,
            "If the token is a person's or of OAuth, pass service_ids or team_ids: PagerDuty requires it.",
        )
    else:
        return told
    error = {**told.error, "problem": problem, "remedy": remedy} | ({"said": outside(said)} if problem != said else {})
    return dataclasses.replace(told, error=error)


TOOLS: Final[Mapping[str, Callable[[Given, Run], Awaitable[Any]]]] = {
    "get_incident_metrics_all": _get_incident_metrics_all,
    "get_incident_metrics_by_service": _get_incident_metrics_by_service,
    "generate_report": _generate_report,
    "get_incident_analytics": _get_incident_analytics,
    "list_responder_incidents": _list_responder_incidents,
}
