"""What the contract test asks: every read operation of the catalogue, in an order in which lists come before what they name.

An account that was asked is known by the shapes of its answers alone. Ids are passed on from list to detail, and kept nowhere.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Final

from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.resolve import match
from tests.live.shapes import Shape, add, named
from tests.published_schema import errors

MAXIMUM_CALLS: Final = 150
"""To the live account. PagerDuty counts at most 960 a minute."""
OUTCOMES: Final = {402: "plan", 403: "access", 404: "absent"}
"""Refusals that tell of the account or the token, and not of the contract."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class WouldWrite(Exception):
    """A probe is not a read of the catalogue: nothing was sent."""


@dataclass(frozen=True, slots=True)
class Find:
    """Where an answer names things of a kind: in the list at ``rows``, each with its id at ``at``. Paths call it ``name``."""

    kind: str
    rows: str
    name: str = "id"
    at: str = "id"


@dataclass(frozen=True, slots=True)
class Probe:
    """One operation. ``of``: the kind of thing whose ids its path takes. ``{…}`` in query and body is a moment, a number or
    the id of the first thing of a kind."""

    operation: str
    of: str = ""
    query: str = ""
    body: Mapping[str, Any] | None = None
    finds: tuple[Find, ...] = ()


WINDOW: Final = "since={week_ago}&until={now}"
_PERIOD: Final = {"created_at_start": "{month_ago}", "created_at_end": "{now}"}
# A user's token is refused without a filter by teams or services.
INCIDENTS: Final = {"filters": {**_PERIOD, "service_ids": ["{service with incidents}"]}}
RESPONDERS: Final = {
    "filters": {
        "date_range_start": "{month_ago}",
        "date_range_end": "{now}",
        "team_ids": ["{team}"],
    }
}
PREVIEW: Final = {
    "schedule": {
        "type": "schedule",
        "name": "Preview",
        "time_zone": "UTC",
        "schedule_layers": [
            {
                "start": "{week_ago}",
                "rotation_virtual_start": "{week_ago}",
                "rotation_turn_length_seconds": 86400,
                "users": [{"user": {"id": "{user}", "type": "user_reference"}}],
            }
        ],
    }
}
_ASKED: Final = (
    Probe("listAbilities"),
    Probe("listUsers", query="limit={limit}", finds=(Find("user", "users"),)),
    Probe("getCurrentUser"),
    Probe("getUser", "user", "include[]=teams"),
    Probe("getUserContactMethods", "user"),
    Probe("getUserNotificationRules", "user"),
    Probe("listTeams", query="limit={limit}", finds=(Find("team", "teams"),)),
    Probe("getTeam", "team"),
    Probe("listTeamUsers", "team", "limit={limit}"),
    Probe("listServices", query="limit={limit}", finds=(Find("service", "services"),)),
    Probe("getService", "service", finds=(Find("integration", "service.integrations", "integration_id"),)),
    Probe("getServiceIntegration", "integration"),
    Probe("listServiceChangeEvents", "service", "limit={limit}"),
    Probe("getTechnicalServiceServiceDependencies", "service"),
    Probe("getOrchPathService", "service"),
    Probe("listBusinessServices", query="limit={limit}", finds=(Find("business service", "business_services"),)),
    Probe("getBusinessService", "business service"),
    Probe("getBusinessServiceServiceDependencies", "business service"),
    Probe("getBusinessServiceSupportingServiceImpacts", "business service"),
    Probe("getBusinessServiceImpacts"),
    Probe(
        "listIncidents",
        query="limit={limit}&since={month_ago}&until={now}&sort_by=created_at:desc",
        finds=(
            Find("incident", "incidents"),
            Find("service with incidents", "incidents", at="service.id"),
        ),
    ),
    Probe("getIncident", "incident"),
    Probe("listIncidentAlerts", "incident", "limit={limit}", finds=(Find("alert", "alerts", "alert_id"),)),
    Probe("getIncidentAlert", "alert"),
    Probe("listIncidentLogEntries", "incident", "limit={limit}"),
    Probe("listIncidentNotes", "incident"),
    Probe("getPastIncidents", "incident", "limit={limit}"),
    Probe("getRelatedIncidents", "incident"),
    Probe("getOutlierIncident", "incident"),
    Probe("getIncidentImpactedBusinessServices", "incident"),
    Probe("getIncidentFieldValues", "incident"),
    Probe("listIncidentRelatedChangeEvents", "incident", "limit={limit}"),
    Probe("listIncidentTypes"),
    Probe("listPriorities", query="limit={limit}"),
    Probe("listLogEntries", query="limit={limit}&" + WINDOW, finds=(Find("log entry", "log_entries"),)),
    Probe("getLogEntry", "log entry"),
    Probe("listNotifications", query="limit={limit}&" + WINDOW),
    Probe("listChangeEvents", query="limit={limit}", finds=(Find("change event", "change_events"),)),
    Probe("getChangeEvent", "change event"),
    Probe("listMaintenanceWindows", query="limit={limit}", finds=(Find("maintenance window", "maintenance_windows"),)),
    Probe("getMaintenanceWindow", "maintenance window"),
    Probe(
        "listAlertGroupingSettings",
        query="limit={limit}",
        finds=(Find("alert grouping setting", "alert_grouping_settings"),),
    ),
    Probe("getAlertGroupingSetting", "alert grouping setting"),
    Probe("listEscalationPolicies", query="limit={limit}", finds=(Find("escalation policy", "escalation_policies"),)),
    Probe("getEscalationPolicy", "escalation policy"),
    Probe("listOnCalls", query="limit={limit}"),
    Probe("listSchedules", query="limit={limit}", finds=(Find("schedule", "schedules"),)),
    Probe("getSchedule", "schedule", WINDOW),
    Probe("listScheduleOverrides", "schedule", WINDOW),
    Probe("listScheduleUsers", "schedule", WINDOW),
    Probe("createSchedulePreview", query=WINDOW, body=PREVIEW),
    Probe("listSchedulesV3", query="limit={limit}", finds=(Find("v3 schedule", "schedules"),)),
    Probe("getScheduleV3", "v3 schedule", "include[]=final_schedule&" + WINDOW),
    Probe("listRotations", "v3 schedule", "limit={limit}", finds=(Find("rotation", "rotations", "rotation_id"),)),
    Probe("getRotation", "rotation"),
    Probe("listEvents", "rotation", "limit={limit}", finds=(Find("rotation event", "events", "event_id"),)),
    Probe("getEvent", "rotation event"),
    Probe(
        "listCustomShifts",
        "v3 schedule",
        "limit={limit}&since={month_ago}&until={ahead}",
        finds=(Find("custom shift", "custom_shifts", "custom_shift_id"),),
    ),
    Probe("getCustomShift", "custom shift"),
    Probe(
        "listOverrides",
        "v3 schedule",
        "limit={limit}&since={month_ago}&until={ahead}",
        finds=(Find("override of a v3 schedule", "overrides", "override_id"),),
    ),
    Probe("getOverride", "override of a v3 schedule"),
    Probe("getAnalyticsMetricsIncidentsAll", body=INCIDENTS),
    Probe("getAnalyticsMetricsIncidentsService", body=INCIDENTS),
    Probe("getAnalyticsMetricsIncidentsServiceAll", body=INCIDENTS),
    Probe("getAnalyticsMetricsIncidentsTeam", body=INCIDENTS),
    Probe("getAnalyticsMetricsIncidentsTeamAll", body=INCIDENTS),
    Probe("getAnalyticsMetricsIncidentsEscalationPolicy", body=INCIDENTS),
    Probe("getAnalyticsMetricsIncidentsEscalationPolicyAll", body=INCIDENTS),
    Probe("getAnalyticsMetricsRespondersAll", body=RESPONDERS),
    Probe("getAnalyticsMetricsRespondersTeam", body=RESPONDERS),
    Probe(
        "getAnalyticsIncidents",
        body={**INCIDENTS, "limit": "{limit}"},
        finds=(Find("incident in the analytics", "data"),),
    ),
    Probe("getAnalyticsIncidentsById", "incident in the analytics"),
    Probe("getAnalyticsIncidentResponsesById", "incident in the analytics"),
    Probe("getAnalyticsResponderIncidents", "user", body={"filters": _PERIOD, "limit": "{limit}"}),
    Probe("getPausedIncidentReportCounts", query=WINDOW),
    Probe("listStandards"),
    Probe("listResourceStandardsManyServices", "kind of resource", "ids={service}"),
    Probe("listEventOrchestrations", query="limit={limit}", finds=(Find("event orchestration", "orchestrations"),)),
    Probe("getOrchestration", "event orchestration"),
    Probe("getOrchPathRouter", "event orchestration"),
    Probe("getOrchPathGlobal", "event orchestration"),
    Probe("listIncidentWorkflows", query="limit={limit}", finds=(Find("incident workflow", "incident_workflows"),)),
    Probe("getIncidentWorkflow", "incident workflow"),
    Probe("listStatusPages", finds=(Find("status page", "status_pages"),)),
    Probe("listStatusPageSeverities", "status page"),
    Probe("listStatusPageImpacts", "status page"),
    Probe("listStatusPageStatuses", "status page"),
    Probe("listStatusPagePosts", "status page", finds=(Find("post of a status page", "posts", "post_id"),)),
    Probe("getStatusPagePost", "post of a status page"),
    Probe("listStatusPagePostUpdates", "post of a status page"),
    Probe(
        "listWebhookSubscriptions",
        query="limit={limit}",
        finds=(Find("webhook subscription", "webhook_subscriptions"),),
    ),
    Probe("getWebhookSubscription", "webhook subscription"),
    Probe("listExtensionSchemas", query="limit={limit}", finds=(Find("extension schema", "extension_schemas"),)),
    Probe("getExtensionSchema", "extension schema"),
    Probe("listAuditRecords", query="limit={limit}&" + WINDOW),
)
UNKNOWN: Final = "thing whose ids a probe here would find"
PROBES: Final = (
    *_ASKED,
    # A read that nobody has written a probe for: asked for plainly where its path takes no id, and reported where it does.
    *(
        Probe(name, UNKNOWN if "{" in OPERATIONS[name].path else "")
        for name in sorted(
            {name for tool in TOOLS.values() for name in tool.operations} - {probe.operation for probe in _ASKED}
        )
        if OPERATIONS[name].reads
    ),
)


@dataclass(frozen=True, slots=True)
class Answered:
    """What came back of one call."""

    status: int
    document: Any = None


Send = Callable[[str, str, Any], Answered]
"""Method, path with query, body → answer."""


@dataclass(slots=True)
class Seen:
    """What an account answered to one operation. ``outcome``: answered, plan, access, absent, refused, failed, not tried."""

    outcome: str = "not tried"
    status: int = 0
    note: str = ""
    calls: int = 0
    shape: Shape = field(default_factory=dict)
    faults: set[str] = field(default_factory=set)
    """Where it does not validate against the published schema: path and the schema's word."""


@dataclass(slots=True)
class Asker:
    """Asks one account. ``limits``: rows of a list, asked once with each. ``tries``: how many things of a kind are asked for
    at most, until one answer holds something, and how many where that something is asked for in turn; ``thorough``: all of
    them are."""

    send: Send
    now: dt.datetime
    limits: tuple[int, ...] = (5,)
    tries: tuple[int, int] = (3, 5)
    thorough: bool = False
    most: int = MAXIMUM_CALLS
    schema: Path | None = None
    found: dict[str, list[dict[str, str]]] = field(
        default_factory=lambda: {"kind of resource": [{"resource_type": "technical_services"}]}
    )
    """Kind → what paths need to name each thing of it, with those it belongs to."""
    calls: int = 0

    def ask_all(self, probes: Iterable[Probe]) -> dict[str, Seen]:
        return {probe.operation: self._ask(probe) for probe in probes}

    def _ask(self, probe: Probe) -> Seen:
        seen = Seen()
        asked = _placeholders((probe.query, probe.body))
        words = self._words()
        lacking = [kind for kind in asked if kind not in words]
        if probe.of and not self.found.get(probe.of):
            lacking.insert(0, probe.of)
        if lacking:
            seen.note = f"the account has no {lacking[0]}, or none that could be listed"
            return seen
        targets = self.found[probe.of][: self.tries[bool(probe.finds)]] if probe.of else [{}]
        for things, limit in product(targets, self.limits if "limit" in asked else self.limits[:1]):
            if self.calls >= self.most:
                seen.note = seen.note or f"{self.most} calls had been made"
                break
            answered = self._call(probe, things, {**words, "limit": limit})
            seen.calls += 1
            self._note(seen, probe, answered)
            if not 200 <= answered.status < 300:
                if answered.status != 404:
                    break
                continue
            found = [self._find(each, things, answered.document) for each in probe.finds]
            if not self.thorough and _says_something(answered.document) and all(found):
                break
        return seen

    def _call(self, probe: Probe, things: Mapping[str, str], words: Mapping[str, Any]) -> Answered:
        operation = OPERATIONS[probe.operation]
        names = _placeholders(operation.path)
        # A thing of a kind is called id by its own paths, and otherwise by some others.
        by_name = things if set(names) <= set(things) else dict.fromkeys(names, _own(things))
        path, query = _filled(operation.path, by_name), _filled(probe.query, words)
        matched = match(operation.method, path)
        if matched is None or matched[0] != operation or not operation.reads:
            raise WouldWrite(f"{probe.operation}: {operation.method} {operation.path}")
        self.calls += 1
        return self.send(operation.method, f"{path}?{query}" if query else path, _filled(probe.body, words))

    def _note(self, seen: Seen, probe: Probe, answered: Answered) -> None:
        if 200 <= answered.status < 300:
            seen.outcome, seen.status = "answered", answered.status
            add(seen.shape, answered.document)
            if self.schema is not None:
                seen.faults |= _schema_faults(self.schema, probe.operation, answered)
        elif seen.outcome != "answered":
            known = OUTCOMES.get(answered.status, "refused" if 400 <= answered.status < 500 else "failed")
            seen.outcome, seen.status = known, answered.status
            if probe.operation == "getCurrentUser" and answered.status == 400:
                seen.outcome, seen.note = "not tried", "the token is the account's, and no user's"

    def _find(self, find: Find, things: Mapping[str, str], document: Any) -> bool:
        """Remember what an answer names; whether it named anything."""
        known = self.found.setdefault(find.kind, [])
        rows = _at(document, find.rows)
        for row in rows if isinstance(rows, list) else ():
            named_by = _at(row, find.at)
            if isinstance(named_by, str) and _ID.fullmatch(named_by):
                thing = {**things, find.name: named_by}
                if thing not in known:
                    known.append(thing)
        return bool(known)

    def _words(self) -> dict[str, Any]:
        def moment(days: int) -> str:
            return (self.now - dt.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")

        firsts = {kind: _own(things[0]) for kind, things in self.found.items() if things}
        return {
            **firsts,
            "now": moment(0),
            "week_ago": moment(7),
            "month_ago": moment(28),
            "ahead": moment(-28),
            "limit": 0,
        }


def _own(things: Mapping[str, str]) -> str:
    """The id of the thing itself, which comes after those it belongs to."""
    return list(things.values())[-1] if things else ""


def _at(node: Any, path: str) -> Any:
    for name in path.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _placeholders(template: Any) -> list[str]:
    return re.findall(r"\{([a-z][a-z0-9_ ]*)\}", template if isinstance(template, str) else json.dumps(template))


def _filled(template: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(template, str):
        if template == "{limit}":
            return words["limit"]  # in a body it is a number
        return re.sub(r"\{([a-z][a-z0-9_ ]*)\}", lambda found: str(words[found[1]]), template)
    if isinstance(template, Mapping):
        return {name: _filled(value, words) for name, value in template.items()}
    if isinstance(template, Sequence):
        return [_filled(value, words) for value in template]
    return template


def _says_something(document: Any) -> bool:
    """Whether an answer has a row in one of its lists, or is no list."""
    lists = (
        [value for value in document.values() if isinstance(value, list)] if isinstance(document, dict) else [document]
    )
    return not lists or any(lists)


def _schema_faults(folder: Path, operation_id: str, answered: Answered) -> set[str]:
    operation = OPERATIONS[operation_id]
    faults = errors(folder, operation.method, operation.path, answered.status, answered.document)
    return {f"{named(fault.absolute_path)} ({fault.validator})" for fault in faults}
