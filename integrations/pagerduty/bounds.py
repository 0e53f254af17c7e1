"""How every operation is held inside a connection's bounds.

The catalogue says in a word for each operation how (``BOUNDS_OF``); the tables here say the rest. What a call names must be
inside before it is sent, what it filters by is forced, and what a read by id brings is looked at before it is released. What is
another team's and what does not exist get one answer, so that nobody can tell which ids there are.

A thing is inside where one of the bounds' teams owns it, or where it is one of the bounds' services or belongs to these alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl, urlencode

import msgspec

from integrations.gateway.integration import Bounds, Connection, Look, LookFailed, Refusal, Reply, Resolution
from integrations.pagerduty import resolve
from integrations.pagerduty.catalog import BOUNDS_OF, OPERATIONS, TOOLS, tools_for
from policies.core.call import Operation, Tool

REMEMBERED_SECONDS: Final = 60.0
"""How long it is believed who owns what. A write through the connection makes it be asked anew."""
REMEMBERED: Final = 20_000
SPELLED: Final = 200
"""Ids that fit into one query."""
MAXIMUM_NAMED: Final = 100
"""Things that one call, or the answer to one, may name on a bounded connection."""
PAGE: Final = 100
LISTED: Final = 10_000
"""As far as PagerDuty lists anything."""

_LOOKED_UP: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "business_service": (("/business_services/{}", "business_service"),),
    "escalation_policy": (("/escalation_policies/{}", "escalation_policy"),),
    "event_orchestration": (("/event_orchestrations/{}", "orchestration"),),
    "incident": (("/incidents/{}", "incident"),),
    "incident_workflow": (("/incident_workflows/{}", "incident_workflow"),),
    "maintenance_window": (("/maintenance_windows/{}", "maintenance_window"),),
    # A reference does not always say of which of the two kinds of schedule it is; both are asked, for a foreign one must not
    # be told from one that is not there by the time it takes.
    "schedule": (("/schedules/{}", "schedule"), ("/v3/schedules/{}", "schedule")),
    "schedule_v2": (("/schedules/{}", "schedule"),),
    "schedule_v3": (("/v3/schedules/{}", "schedule"),),
    "service": (("/services/{}", "service"),),
    "user": (("/users/{}", "user"),),
    "webhook_subscription": (("/webhook_subscriptions/{}", "webhook_subscription"),),
}
"""Kind → where it is looked up, and under which key the answer holds it. A team needs no look: its id says it."""
_OF_SERVICES: Final = frozenset({"alert_grouping_setting", "maintenance_window"})
"""Kinds that hold for services, whosever these are: inside where all of them are."""
_BY_SERVICES: Final = _OF_SERVICES | {"change_event", "webhook_subscription"}
"""Kinds that only their services tell the owners of. The services inside are listed beforehand: were those of the answer looked
up, what is there and another's would take longer than what is not there."""
_TEAMS_ALONE: Final = frozenset({"business_service", "event_orchestration", "incident_workflow", "team", "user"})
"""Kinds that belong to a team, and to no service: outside bounds that name services alone."""
_ALIASES: Final = {"responder": "user", "technical_service": "service"}

FILTERS: Final[Mapping[str, tuple[str, str]]] = {
    "listIncidents": ("team_ids[]", "service_ids[]"),
    "listServices": ("team_ids[]", ""),
    "listMaintenanceWindows": ("team_ids[]", "service_ids[]"),
    "listEscalationPolicies": ("team_ids[]", ""),
    "listSchedules": ("team_ids[]", ""),
    "listSchedulesV3": ("team_ids[]", ""),
    "listUsers": ("team_ids[]", ""),
    "listLogEntries": ("team_ids[]", ""),
    "listChangeEvents": ("team_ids[]", ""),
    "listAlertGroupingSettings": ("", "service_ids[]"),
    "getAnalyticsIncidents": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsAll": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsEscalationPolicy": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsEscalationPolicyAll": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsService": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsServiceAll": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsTeam": ("team_ids", "service_ids"),
    "getAnalyticsMetricsIncidentsTeamAll": ("team_ids", "service_ids"),
    "getAnalyticsMetricsRespondersAll": ("team_ids", ""),
    "getAnalyticsMetricsRespondersTeam": ("team_ids", ""),
    "getAnalyticsResponderIncidents": ("team_ids", "service_ids"),
}
"""Operation → its filters by team and by service. With brackets: parameters of the query; without: of the body's ``filters``.
PagerDuty joins two filters by AND. So bounds of teams and services together are spelled out in services, where it can be."""
POLICIES: Final = "escalation_policy_ids[]"
"""What ``listOnCalls`` is held by: the escalation policies inside."""
ANSWERS: Final[Mapping[str, tuple[str, str]]] = {
    "getAlertGroupingSetting": ("alert_grouping_setting", "alert_grouping_setting"),
    "getAnalyticsIncidentsById": ("", "incident"),
    "getBusinessService": ("business_service", "business_service"),
    "getChangeEvent": ("change_event", "change_event"),
    "getCurrentUser": ("user", "user"),
    "getEscalationPolicy": ("escalation_policy", "escalation_policy"),
    "getIncident": ("incident", "incident"),
    "getIncidentWorkflow": ("incident_workflow", "incident_workflow"),
    "getLogEntry": ("log_entry", "log_entry"),
    "getMaintenanceWindow": ("maintenance_window", "maintenance_window"),
    "getOrchestration": ("orchestration", "event_orchestration"),
    "getSchedule": ("schedule", "schedule_v2"),
    "getScheduleV3": ("schedule", "schedule_v3"),
    "getService": ("service", "service"),
    "getUser": ("user", "user"),
    "getWebhookSubscription": ("webhook_subscription", "webhook_subscription"),
}
"""Operation → under which key its answer holds what was asked for (empty: the answer is it), and what kind of thing that is."""
ROWS: Final = frozenset(
    {
        "getBusinessServiceServiceDependencies",
        "getBusinessServiceSupportingServiceImpacts",
        "getIncidentAlert",
        "getOrchPathGlobal",
        "getOrchPathRouter",
        "getOrchPathService",
        "getServiceIntegration",
        "getTechnicalServiceServiceDependencies",
        "listIncidentRelatedChangeEvents",
        "listOnCalls",
    }
)
"""Operations whose answers name what may be anybody's: all of it must be inside, for rows are never taken out of a page."""
_PARTS: Final[Mapping[str, str]] = {"getIncidentAlert": "alert", "getServiceIntegration": "integration"}
"""Operation → the part that its answer shows, which names its service."""
_BORN: Final[Mapping[str, tuple[str, str]]] = {
    "createEscalationPolicy": ("escalation_policy", "teams"),
    "createIncident": ("incident", "service"),
    "createIncidentWorkflowInstance": ("incident_workflow_instance", "incident"),
    "createMaintenanceWindow": ("maintenance_window", "services"),
    "createScheduleV3": ("schedule", "teams"),
    "createService": ("service", "escalation_policy"),
    "createWebhookSubscription": ("webhook_subscription", "filter"),
}
"""Operation → its object, and the field that says whose the new object will be."""
_BORN_IN_TEAMS: Final = frozenset({"createEscalationPolicy", "createScheduleV3", "createService"})
"""What they make belongs to a team, never to a service."""
_CHANGED: Final = ("escalation_policy", "schedule")
"""Objects of a body that say to which teams they belong: an update may not take them out of all of them."""

_UPDATES: Final = frozenset(
    {"updateEscalationPolicy", "updateMaintenanceWindow", "updateSchedule", "updateScheduleV3", "updateService"}
)
"""Updates whose clients send back the whole of what they read."""
_TOLD: Final = frozenset({"final_schedule", "overrides_subschedule"})
"""Keys of a schedule under which it tells whose shifts there are: not who is of its layers."""

_INNER: Final = frozenset(
    {
        *("alert", "alerts", "custom_fields", "custom_shift", "custom_shifts", "delivery_method", "escalation_rules"),
        *("event", "events", "integration", "integrations", "override", "overrides", "overrides_subschedule"),
        *("final_schedule", "first_trigger_log_entry", "rotations", "rules", "schedule_layers", "sets"),
        *("scheduled_actions", "incident_type", "incident_types", "incident_workflow_instance"),
    }
)
"""Keys of a body under which an id is one of the object's own parts, or a word of the whole account's."""
_SHARED: Final = frozenset({"priority"})
"""Kinds that are the whole account's and nobody's."""
_IDS: Final[Mapping[str, str]] = {
    "custom_shift_id": "",
    "escalation_policy_ids": "escalation_policy",
    "incident_id": "incident",
    "incident_type_ids": "",
    "priority_ids": "",
    "requester_id": "user",
    "responder_ids": "user",
    "rotation_id": "",
    "schedule_id": "schedule",
    "service_id": "service",
    "service_ids": "service",
    "team_id": "team",
    "team_ids": "team",
    "user_id": "user",
}
"""Fields of a body that hold ids: of what kind, or empty where they name nothing of a team's."""
_UNROUTED: Final = "unrouted"
_NAMED_IN_QUERY: Final[Mapping[str, tuple[str, str]]] = {"listResourceStandardsManyServices": ("ids", "service")}
"""Operation → its parameter that names things, and of what kind."""

Work = Literal["works", "cut", "refused"]


class _Outside(Exception):
    """Something that a call names is not inside: says so."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.remedy = remedy


def _ids(value: Any) -> list[str]:
    """Ids of a reference, of a list of them, or of plain ids."""
    values = value if isinstance(value, list) else [value]
    found = [item.get("id") if isinstance(item, dict) else item for item in values]
    return [item for item in found if isinstance(item, str)]


def _referred(value: Any) -> list[str]:
    """Ids of references alone: plain ones in a body nobody has judged."""
    return _ids([item for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)])


def _word(kind: str) -> str:
    return kind.removesuffix("_v2").removesuffix("_v3").replace("_", " ")


class Held:
    """Holds calls inside bounds, and remembers for a minute who owns what. One for each event loop."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Any, ...], tuple[float, Any]] = OrderedDict()
        self._written: dict[str, int] = {}

    async def bound(self, resolution: Resolution, connection: Connection, look: Look) -> Resolution | Refusal:
        """The call as it may be sent: its filters forced; or why it may not be.

        Raises:
            LookFailed: who owns what it names could not be told.
        """
        assert resolution.operation is not None  # noqa: S101  (no tool serves an unknown one)
        operation_id, bounds = resolution.operation.id, connection.bounds
        if BOUNDS_OF[operation_id] == "unbounded":
            return _unbounded(resolution, connection) or resolution
        try:
            if why := _beyond(operation_id, bounds):
                raise _Outside(f"{resolution.tools[0].name} is cut off on the connection {connection.name}. {why}")
            if operation_id in FILTERS and not bounds.service_ids:
                by_team, by_service = FILTERS[operation_id]
                if by_team.endswith("[]") and by_service not in resolution.arguments["query"]:
                    # What most calls are: held without a look at anything.
                    return _forced(resolution, by_team, bounds.team_ids, connection)
            owners = _Owners(self, connection, look)
            await self._named(resolution, owners)
            return await self._filtered(resolution, owners)
        except _Outside as outside:
            return Refusal(str(outside), outside.remedy or _remedy(connection))

    def sent(self, operation: Operation, connection: Connection) -> None:
        """A call is over. A write may have changed who owns what, and what was looked at meanwhile is of before."""
        if not operation.reads and not operation.path.startswith("/incidents"):
            self._written[connection.id] = self._written.get(connection.id, 0) + 1

    async def released(
        self, resolution: Resolution, connection: Connection, reply: Reply, look: Look
    ) -> Refusal | None:
        """Why what a read brought may not be released; None: it may.

        Raises:
            LookFailed: as above.
        """
        assert resolution.operation is not None  # noqa: S101
        operation_id = resolution.operation.id
        if BOUNDS_OF[operation_id] == "unbounded":
            return None
        assert resolution.request is not None  # noqa: S101
        includes = "include" in resolution.request.query
        if not (operation_id in ANSWERS or operation_id in ROWS or includes):
            return None
        owners = _Owners(self, connection, look)
        try:
            if reply.status >= 400:
                await self._refused_by_them(resolution, owners, reply.status)
                return None
            document = _read(reply.body)
            if operation_id in ANSWERS:
                name, kind = ANSWERS[operation_id]
                found = document.get(name) if name else document
                if not isinstance(found, dict) or not await owners.own(kind, found):
                    raise _Outside(_outside(kind, _asked_id(resolution), connection))
            if operation_id in ROWS:
                await _rows(operation_id, document, resolution, owners)
            if includes:
                await _included(document, owners)
        except _Outside as outside:
            kind, id = ANSWERS.get(operation_id, ("", ""))[1], _asked_id(resolution)
            if kind in _LOOKED_UP and id:
                # PagerDuty may refuse the rest of a call to what is there, which takes a look to know. A 404, and what is
                # another's, are known without: all three must take as long.
                await owners.inside(kind, id)
            return Refusal(str(outside), outside.remedy or _remedy(connection))
        return None

    async def _refused_by_them(self, resolution: Resolution, owners: _Owners, status: int) -> None:
        """PagerDuty's 4xx to a read by id tells whether the id exists: it is released where that is known to be inside."""
        assert resolution.operation is not None  # noqa: S101
        operation_id = resolution.operation.id
        if status in (401, 402, 408, 429) or status >= 500:
            return
        if operation_id in _PARTS and status in (403, 404):
            raise _Outside(_outside(_PARTS[operation_id], _part(resolution), owners.connection))
        if operation_id not in ANSWERS:
            return
        kind, id = ANSWERS[operation_id][1], _asked_id(resolution)
        if not id:
            return
        if status in (403, 404) or not (kind in _LOOKED_UP and await owners.inside(kind, id)):
            raise _Outside(_outside(kind, id, owners.connection))

    async def _named(self, resolution: Resolution, owners: _Owners) -> None:
        """Everything that a call names must be inside: the things of its path, of its query and of its body."""
        operation, arguments = resolution.operation, resolution.arguments
        assert operation is not None  # noqa: S101
        for kind, id in _in_path(resolution):
            await owners.require(kind, id)
        if operation.id in _NAMED_IN_QUERY:
            name, kind = _NAMED_IN_QUERY[operation.id]
            if arguments.get("path", {}).get("resource_type", "technical_services") != "technical_services":
                raise _Outside("On a bounded connection scores are shown of technical services alone.")
            for id in arguments.get("query", {}).get(name, []):
                if not resolve.is_id(id):
                    raise _Outside(f"{name} holds something that is no id of PagerDuty's.")
                await owners.require(kind, id)
        body = arguments.get("body")
        if body is None:
            return
        named = dict.fromkeys(_in_body(body))
        if len(named) > MAXIMUM_NAMED:
            raise _Outside(f"On a bounded connection one call may name at most {MAXIMUM_NAMED} things.")
        already: frozenset[tuple[str, str]] | None = None
        for kind, id in named:
            if await owners.inside(kind, id):
                continue
            if already is None:
                already = await _already(resolution, owners)
            if (kind, id) not in already:
                raise _Outside(_outside(kind, id, owners.connection))
        if operation.id in _BORN:
            await _born(operation.id, body, owners)
        elif not operation.reads:
            _kept(body, owners.connection, already or frozenset())

    async def _filtered(self, resolution: Resolution, owners: _Owners) -> Resolution:
        assert resolution.operation is not None  # noqa: S101
        operation_id, bounds, connection = resolution.operation.id, owners.connection.bounds, owners.connection
        if operation_id == "listOnCalls":
            return _forced(resolution, POLICIES, owners.few(await owners.policies(), "escalation policies"), connection)
        if operation_id not in FILTERS:
            if operation_id in ANSWERS:
                await owners.foresee(ANSWERS[operation_id][1])
            return resolution
        by_team, by_service = FILTERS[operation_id]
        if by_team and (not bounds.service_ids or not by_service):
            held = _forced(resolution, by_team, bounds.team_ids, connection)
            if by_service and _asked(held, by_service):
                # The teams' filter holds it already; but services of others would be an empty list that explains nothing.
                held = _forced(held, by_service, await owners.services(), connection)
            return held
        return _forced(resolution, by_service, owners.few(await owners.services(), "services"), connection)


class _Owners:
    """Who owns what, as far as one call needs it."""

    def __init__(self, held: Held, connection: Connection, look: Look) -> None:
        self.connection = connection
        self._bounds = connection.bounds
        self._look = look
        self._known = held._known
        self._at = (connection.id, connection.bounds, held._written.get(connection.id, 0))

    async def require(self, kind: str, id: str, *, by_team: bool = False) -> None:
        if not await self.inside(kind, id, by_team=by_team):
            raise _Outside(_outside(kind, id, self.connection))

    async def inside(self, kind: str, id: str, *, by_team: bool = False) -> bool:
        """Whether a thing is inside. ``by_team``: and whether it is so as a team's."""
        kind = _ALIASES.get(kind, kind)
        if kind in _SHARED:
            return True
        if kind == "team":
            return id in self._bounds.team_ids
        if kind not in _LOOKED_UP or (kind in _TEAMS_ALONE and not self._bounds.team_ids):
            return False
        if kind == "service" and id in self._bounds.service_ids:
            return True
        if kind == "service" and not self._bounds.team_ids:
            return False
        key = (*self._at, kind, id, by_team)
        if (known := self._recall(key)) is not None:
            return bool(known)
        await self.foresee(kind)
        inside = False
        for path, name in _LOOKED_UP[kind]:
            document = await self._look(path.format(id), "")
            found = document.get(name) if isinstance(document, dict) else None
            if isinstance(found, dict) and await self.own(kind, found, by_team=by_team):
                inside = True
        self._remember(key, inside)
        return inside

    async def own(self, kind: str, document: Mapping[str, Any], *, by_team: bool = False) -> bool:
        """Whether the thing that a document shows is inside, by what the document says of its owners: one of the teams, or
        services that are all inside, for it tells of all of them."""
        bounds = self._bounds
        if kind == "webhook_subscription":
            subject = document.get("filter")
            if not isinstance(subject, dict) or not isinstance(id := subject.get("id"), str):
                return False
            told = str(subject.get("type")).removesuffix("_reference")
            return id in await self.services() if told == "service" else told == "team" and await self.inside(told, id)
        if kind == "service" and document.get("id") in bounds.service_ids:
            return True
        services = _ids(document.get("services") or document.get("service") or document.get("service_id") or [])
        # What holds for several services is its teams' only as far as these are.
        fields = [name for name in ("teams", "team", "team_id") if name in document and kind not in _OF_SERVICES]
        if any(bounds.team_ids.intersection(_ids(document[name])) for name in fields):
            return True
        if by_team:
            return False
        if fields or not bounds.team_ids:
            # Its teams are told, and are others: of its services only those count that the bounds name.
            inside = [id in bounds.service_ids for id in services]
        elif kind in _BY_SERVICES:
            known = await self.services()
            inside = [id in known for id in services]
        else:
            inside = [await self.inside("service", id) for id in services]
        if kind.startswith("schedule") and bounds.service_ids:
            known = await self.policies(alone=True)
            inside += [id in known for id in _ids(document.get("escalation_policies"))]
        return bool(inside) and all(inside)

    async def names(self, kind: str, id: str) -> frozenset[tuple[str, str]]:
        """What a thing names as it is."""
        ((path, name),) = _LOOKED_UP[kind]
        document = await self._look(path.format(id), "")
        return frozenset(_in_document(document.get(name))) if isinstance(document, dict) else frozenset()

    async def foresee(self, kind: str) -> None:
        """Ask what a thing will be judged by before it is known whether there is anything to judge."""
        if kind in _BY_SERVICES:
            await self.services()
        elif kind.startswith("schedule") and self._bounds.service_ids:
            await self.policies(alone=True)

    async def services(self) -> frozenset[str]:
        """Every service inside."""
        key = (*self._at, "services")
        if (known := self._recall(key)) is None:
            known = self._bounds.service_ids | frozenset(
                [row["id"] async for row in self._of_teams("/services", "services")]
            )
            self._remember(key, known)
        return frozenset(known)

    async def policies(self, *, alone: bool = False) -> frozenset[str]:
        """Every escalation policy inside: the teams', and those of the services. ``alone``: of the latter only those that are
        inside themselves, for no service outside has them, too."""
        key = (*self._at, "policies", alone)
        if (known := self._recall(key)) is None:
            found = [row["id"] async for row in self._of_teams("/escalation_policies", "escalation_policies")]
            for id in sorted(self._bounds.service_ids):
                document = await self._look(f"/services/{id}", "")
                if isinstance(document, dict):
                    used = _ids(document.get("service", {}).get("escalation_policy"))
                    found += [id for id in used if not alone or await self.inside("escalation_policy", id)]
            known = frozenset(found)
            self._remember(key, known)
        return frozenset(known)

    async def _of_teams(self, path: str, name: str) -> AsyncIterator[dict[str, Any]]:
        if not self._bounds.team_ids:
            return
        for offset in range(0, LISTED, PAGE):
            query = urlencode([("limit", PAGE), ("offset", offset), *_pairs("team_ids[]", self._bounds.team_ids)])
            document = await self._look(path, query)
            if not isinstance(document, dict) or not isinstance(document.get(name), list):
                raise LookFailed(f"PagerDuty did not list the {name.replace('_', ' ')} of the bounds' teams.")
            for row in document[name]:
                yield row
            if not document.get("more"):
                return

    def few(self, ids: frozenset[str], what: str) -> frozenset[str]:
        if len(ids) > SPELLED:
            raise _Outside(
                f"The bounds of the connection {self.connection.name} hold over {SPELLED} {what}, more than one call can name."
            )
        return ids

    def _recall(self, key: tuple[Any, ...]) -> Any:
        at, value = self._known.get(key, (-REMEMBERED_SECONDS, None))
        return value if time.monotonic() - at < REMEMBERED_SECONDS else None

    def _remember(self, key: tuple[Any, ...], value: Any) -> None:
        now = time.monotonic()
        self._known[key] = (now, value)
        self._known.move_to_end(key)
        # The oldest comes first. What is over goes at once: after each write lists are kept anew.
        while len(self._known) > REMEMBERED or now - next(iter(self._known.values()))[0] >= REMEMBERED_SECONDS:
            self._known.popitem(last=False)


def _read(body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise LookFailed("PagerDuty's answer could not be read.") from error
    if not isinstance(document, dict):
        raise LookFailed("PagerDuty's answer could not be read.")
    return document


def _outside(kind: str, id: str, connection: Connection) -> str:
    """One sentence for what is another's and for what is not there."""
    named = f"{_word(kind)} {id}".rstrip() if resolve.is_id(id) or not id else _word(kind)
    return f"The {named} is not within what the connection {connection.name} may touch, or does not exist."


def _remedy(connection: Connection) -> str:
    return f"Keep to what {connection.team} owns, or ask a manager of it to see to the bounds of {connection.name}."


def _unbounded(resolution: Resolution, connection: Connection) -> Refusal | None:
    missing = [tool.name for tool in resolution.tools if tool.name not in connection.bounds.account_wide]
    if not missing:
        return None
    return Refusal(
        f"{missing[0]} reaches the whole PagerDuty account, and the connection {connection.name} may touch a part of it.",
        f"Ask an administrator to allow {missing[0]} account-wide on this connection.",
    )


def _beyond(operation_id: str, bounds: Bounds) -> str:
    """Why an operation has nothing to show or do inside such bounds, as a sentence about it; empty: it has."""
    if bounds.team_ids:
        return ""
    kinds = {kind for kind, _ in _PATHS[operation_id]}
    if operation_id in ANSWERS:
        kinds.add(ANSWERS[operation_id][1])
    if kinds & _TEAMS_ALONE:
        return "What it is about belongs to a team, and the bounds name services alone."
    if operation_id in FILTERS and not FILTERS[operation_id][1]:
        return "It can be held by teams alone, and the bounds name services."
    if operation_id in _BORN_IN_TEAMS:
        return "What it makes belongs to a team, and the bounds name services alone."
    return ""


def _kinds_of_path(operation: Operation) -> tuple[tuple[str, str], ...]:
    """The things that an operation's path names: kind and parameter. What else stands in it is a part of these."""
    parameters = re.findall(r"{(\w+)}", operation.path)
    kinds = []
    for target in resolve.path_targets(operation, {name: name for name in parameters}):
        kind = _ALIASES.get(target.type, target.type)
        if kind == "schedule":
            kind = "schedule_v3" if operation.path.startswith("/v3/") else "schedule_v2"
        if kind in _LOOKED_UP or kind == "team":
            kinds.append((kind, target.id))
    return tuple(kinds)


_PATHS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    operation_id: _kinds_of_path(OPERATIONS[operation_id]) for operation_id in BOUNDS_OF
}


def _in_path(resolution: Resolution) -> Iterator[tuple[str, str]]:
    assert resolution.operation is not None  # noqa: S101
    if resolution.operation.id in ANSWERS:
        return  # judged by what comes back
    captured = resolution.arguments.get("path", {})
    for kind, parameter in _PATHS[resolution.operation.id]:
        yield kind, captured[parameter]


def _asked_id(resolution: Resolution) -> str:
    return next(iter(resolution.arguments.get("path", {}).values()), "")


def _part(resolution: Resolution) -> str:
    parts: list[str] = list(resolution.arguments["path"].values())
    return parts[-1]


def _in_body(body: Any) -> Iterator[tuple[str, str]]:
    """Everything that a body names: kind and id.

    Raises:
        _Outside: it names something whose kind cannot be told; PagerDuty might know it.
    """
    left: list[tuple[str, Any]] = [("", body)]
    while left:
        under, node = left.pop()
        if isinstance(node, list):
            left.extend((under, item) for item in node)
            continue
        if not isinstance(node, dict):
            continue
        referred = resolve.referred(under, node)
        for target in referred:
            if target.type in _SHARED and target.type != under:
                # Nobody looks whose it is: where it stands it could be anything.
                raise _Outside(f"What is called a {_word(target.type)} under {under[:40] or 'the body'} is none there.")
            yield target.type, target.id
        if node.get("id") is not None and not referred and under not in _INNER:
            raise _Outside(
                f"What the id under {under[:40] or 'the body'} names cannot be told on a bounded connection."
            )
        for key, value in node.items():
            if key == "route_to" and value not in (None, _UNROUTED):
                yield from (("service", id) for id in _texts(key, value))
            elif key == "dynamic_route_to" and value is not None:
                raise _Outside("dynamic_route_to sends events to any service, and the connection is bounded.")
            elif under == "filters" and key in ("team_ids", "service_ids"):
                pass  # They only narrow what is forced.
            elif key.endswith(("_id", "_ids")) and value is not None:
                if key not in _IDS:
                    raise _Outside(f"What {key[:40]} names cannot be told on a bounded connection.")
                if kind := _IDS[key]:
                    yield from ((kind, id) for id in _texts(key, value))
            left.append((key, value))


def _in_document(document: Any) -> Iterator[tuple[str, str]]:
    """Everything that a document of PagerDuty's names, but for whom it merely tells to have had a shift."""
    left: list[tuple[str, Any]] = [("", document)]
    while left:
        under, node = left.pop()
        if isinstance(node, list):
            left.extend((under, item) for item in node)
        elif isinstance(node, dict):
            yield from ((target.type, target.id) for target in resolve.referred(under, node))
            yield from ((kind, id) for key, kind in _IDS.items() if kind for id in _ids(node.get(key)))
            left.extend((key, value) for key, value in node.items() if key not in _TOLD)


async def _already(resolution: Resolution, owners: _Owners) -> frozenset[tuple[str, str]]:
    """What an update may name though it is outside: what its thing names already, for clients send back the whole of what
    they read. Who has worked on an incident is not to be woken by it."""
    operation = resolution.operation
    assert operation is not None  # noqa: S101
    if operation.id not in _UPDATES:
        return frozenset()
    ((kind, id),) = _in_path(resolution)
    return await owners.names(kind, id)


def _texts(key: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and resolve.is_id(item) for item in values):
        raise _Outside(f"{key} holds something that is no id of PagerDuty's.")
    return values


async def _born(operation_id: str, body: Any, owners: _Owners) -> None:
    """A new object must say whose it will be. (``require`` has seen to it that all it names is inside.)"""
    name, field = _BORN[operation_id]
    made = body.get(name)
    told = _referred(made.get(field)) if isinstance(made, dict) else []
    if not told:
        raise _Outside(
            f"A new {_word(name)} must name its {_word(field)}, for the connection {owners.connection.name} is bounded.",
            f"Put {field} into it, inside what the connection may touch.",
        )
    if operation_id == "createService":
        for id in told:
            # A service belongs to its policy's teams, so its policy must be a team's, not just used by a service inside.
            await owners.require("escalation_policy", id, by_team=True)


def _kept(body: Any, connection: Connection, already: frozenset[tuple[str, str]]) -> None:
    """An update may not take a thing out of every team inside. ``already``: what it named before, where that was asked."""
    before = {id for kind, id in already if kind == "team"}
    for name in _CHANGED:
        changed = body.get(name)
        if not isinstance(changed, dict) or "teams" not in changed:
            continue
        teams = set(_referred(changed["teams"]))
        if not teams & connection.bounds.team_ids and not (teams and before <= teams):
            raise _Outside(f"This would take the {_word(name)} out of what the connection {connection.name} may touch.")


def _pairs(name: str, values: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, value) for value in sorted(values)]


def _forced(resolution: Resolution, name: str, values: frozenset[str], connection: Connection) -> Resolution:
    """The call, filtered by those of ``values`` that were asked for; by all where none was.

    Raises:
        _Outside: none of what was asked for is among them.
    """
    request = resolution.request
    assert request is not None  # noqa: S101
    in_query = name.endswith("[]")
    asked = _asked(resolution, name)
    kept = values.intersection(asked) if asked else values
    if not kept:
        raise _Outside(
            f"None of the {name.removesuffix('[]').removesuffix('_ids').replace('_', ' ')} ids that were asked for is within "
            f"what the connection {connection.name} may touch."
            if asked
            else f"Nothing that this could show is within what the connection {connection.name} may touch."
        )
    ids = sorted(kept)
    if in_query:
        pairs = urlencode(_pairs(name, kept))
        query = request.query
        if asked:
            rest = [pair for pair in parse_qsl(query, keep_blank_values=True) if pair[0] != name]
            query = urlencode(rest)
        request = dataclasses.replace(request, query=f"{query}&{pairs}" if query else pairs)
    else:
        # From what is sent so far: another filter may be forced already.
        sent = json.loads(request.body or b"{}")
        sent["filters"] = {**(sent.get("filters") or {}), name: ids}
        request = dataclasses.replace(request, body=json.dumps(sent, separators=(",", ":")).encode("ascii"))
    return dataclasses.replace(resolution, request=request, held={**resolution.held, name.removesuffix("[]"): ids})


def _asked(resolution: Resolution, name: str) -> list[str] | None:
    """The ids that a call itself filters by; None: by none."""
    if name.endswith("[]"):
        found: list[str] | None = resolution.arguments.get("query", {}).get(name)
        return found
    body = resolution.arguments.get("body")
    filters = (body.get("filters") if isinstance(body, dict) else None) or {}
    if not isinstance(filters, dict):
        raise _Outside("filters must be an object.")
    asked = filters.get(name)
    if asked is not None and not (isinstance(asked, list) and all(isinstance(item, str) for item in asked)):
        raise _Outside(f"filters.{name} must be a list of ids.")
    return asked


async def _rows(operation_id: str, document: dict[str, Any], resolution: Resolution, owners: _Owners) -> None:
    """What an answer names must be inside, or nothing of it is shown."""
    if operation_id == "listOnCalls":
        forced = resolution.held.get("escalation_policy_ids", ())
        for row in document.get("oncalls", ()):
            if not set(_ids(row.get("escalation_policy"))) <= set(forced):
                raise _Outside("PagerDuty answered with on-call shifts of other escalation policies.")
        return
    if operation_id == "listIncidentRelatedChangeEvents":
        events = document.get("change_events", ())
        if len(events) > MAXIMUM_NAMED or not all([await owners.own("change_event", event) for event in events]):
            raise _Outside("Among the related change events are some that the connection may not touch.")
        return
    if operation_id in _PARTS:
        # It was asked for as a part of what is inside: that it is one, it says itself.
        name = _PARTS[operation_id]
        if not await owners.own(name, document.get(name) or {}):
            raise _Outside(_outside(name, _part(resolution), owners.connection))
        return
    named = dict.fromkeys(_in_answer(operation_id, document))
    if len(named) > MAXIMUM_NAMED:
        raise _Outside(f"The answer names more than {MAXIMUM_NAMED} things, too many to see whose they are.")
    for kind, id in named:
        if not await owners.inside(kind, id):
            raise _Outside(
                f"The answer names a {_word(kind)} that the connection {owners.connection.name} may not touch."
            )


def _in_answer(operation_id: str, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "relationships" in document:
        for relationship in document["relationships"]:
            for end in ("dependent_service", "supporting_service"):
                node = relationship.get(end) or {}
                kind = "business_service" if "business" in str(node.get("type")) else "service"
                yield from ((kind, id) for id in _ids(node))
        return
    if operation_id == "getBusinessServiceSupportingServiceImpacts":
        yield from (("business_service", id) for id in _ids(document.get("services") or []))
        return
    left: list[Any] = [document]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left.extend(node)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key == "route_to" and operation_id == "getOrchPathRouter" and value not in (None, _UNROUTED):
                    yield from (("service", id) for id in _ids(value))
                elif key == "escalation_policy":
                    yield from (("escalation_policy", id) for id in _ids(value))
                left.append(value)


_EMBEDDED: Final = frozenset(
    {"business_service", "escalation_policy", "incident", "schedule", "schedule_v3", "service", "team", "user"}
)


async def _included(document: Any, owners: _Owners) -> None:
    """What ``include[]`` puts into an answer whole must be inside, too."""
    left: list[Any] = [document]
    named: set[tuple[str, str]] = set()
    while left:
        node = left.pop()
        if isinstance(node, list):
            left.extend(node)
            continue
        if not isinstance(node, dict):
            continue
        left.extend(node.values())
        kind, id = node.get("type"), node.get("id")
        if not (isinstance(kind, str) and kind in _EMBEDDED and isinstance(id, str)):
            continue
        told = "teams" in node or "team" in node
        if not told:
            named.add((kind, id))
            if len(named) > MAXIMUM_NAMED:
                raise _Outside(f"The answer names more than {MAXIMUM_NAMED} things, too many to see whose they are.")
        if not (await owners.own(kind, node) if told else await owners.inside(kind, id)):
            raise _Outside(
                f"What include[] puts into the answer holds a {_word(kind)} that the connection "
                f"{owners.connection.name} may not touch.",
                "Ask again without include[].",
            )


@dataclass(frozen=True, slots=True)
class Meaning:
    """What bounds mean for one tool: ``work`` is ``works``, ``cut`` or ``refused``; ``words`` say how, or why not."""

    tool: Tool
    work: Work
    words: str


_HOW: Final = {
    "team_ids": "Shows only what is inside.",
    "service_ids": "Shows only what is inside.",
    "owner": "Takes only what is inside.",
    "answer_owner": "Shows only what is inside.",
}


def meaning(tool: Tool, bounds: Bounds) -> Meaning:
    """What bounds make of a tool, before they are saved."""
    if not tool.operations:
        return Meaning(tool, "works", "Answered from the portal's own mirror, which holds what is inside alone.")
    told = [_of_operation(tool, operation_id, bounds) for operation_id in tool.operations]
    works = {work for work, _ in told}
    if len(works) == 1:
        return Meaning(tool, *told[0])
    return Meaning(tool, "cut", " ".join(dict.fromkeys(words for work, words in told if work != "works")))


def meanings(bounds: Bounds) -> list[tuple[Work, list[Meaning]]]:
    """What bounds make of every tool: what works, what is cut, what is refused; each in the catalogue's order."""
    told = [meaning(tool, bounds) for tool in TOOLS.values()]
    works: tuple[Work, ...] = ("works", "cut", "refused")
    return [(work, [each for each in told if each.work == work]) for work in works]


def _of_operation(tool: Tool, operation_id: str, bounds: Bounds) -> tuple[Work, str]:
    word = BOUNDS_OF[operation_id]
    if word == "unbounded":
        if tool.name in bounds.account_wide:
            return "works", "Allowed account-wide by an administrator."
        return "refused", "Reaches the whole account: an administrator can allow it account-wide."
    if why := _beyond(operation_id, bounds):
        return "refused", why
    if bounds.service_ids and operation_id in FILTERS and not FILTERS[operation_id][1]:
        return "cut", "Shows what is the teams', and nothing of the services."
    return "works", _HOW[word]


def _check() -> None:
    """The tables agree with the catalogue, and leave nothing out."""
    for operation_id, word in BOUNDS_OF.items():
        held = word == "unbounded"
        held |= word in ("team_ids", "service_ids") and operation_id in FILTERS
        held |= word == "answer_owner" and (operation_id in ANSWERS or operation_id in ROWS)
        if word == "owner":
            held = operation_id not in FILTERS and operation_id not in ANSWERS
            held &= OPERATIONS[operation_id].has_body or bool(_PATHS[operation_id]) or operation_id in _NAMED_IN_QUERY
        if not held:
            raise ValueError(f"bounds.py: {operation_id} is not held as catalog.toml says: {word}")
    for operation_id in (*FILTERS, *ANSWERS, *ROWS, *_BORN, *_NAMED_IN_QUERY):
        if not tools_for(operation_id):
            raise ValueError(f"bounds.py: no tool has {operation_id}")


_check()
