"""The requests that PagerDuty's own MCP server makes, replayed at the REST door against the simulated account.

The tables say, tool by tool of that server, what it asks: paths, parameters, bodies, in its order. They were read from its
code (https://github.com/PagerDuty/pagerduty-mcp-server, version 1.1, on version 5.3 of PagerDuty's Python client).
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from integrations.pagerduty.catalog import ALIASES, PRESETS, TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.processes import Answer, Portal, free_port, running

AGENT = "pagerduty-mcp/1.1.0 python-pagerduty/5.3.0 python-requests/2.32.5 Python/3.12"
PAGE, MOST = 100, 1000
"""Rows that the client asks for at a time, and that the server takes in all."""
LATER = {"start_time": "{tomorrow}", "end_time": "{tomorrow_evening}"}
MEMBER = {"type": "user_member", "user_id": "{user}"}


@dataclass(frozen=True)
class Ask:
    """One request. ``{name}`` stands for an id of the account, or for a moment."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    paged: bool = False
    status: int = 200


def get(path: str, query: Mapping[str, Any] | None = None, status: int = 200) -> Ask:
    return Ask("GET", path, query or {}, status=status)


def pages(path: str, query: Mapping[str, Any] | None = None) -> Ask:
    """Asked page by page: limit and offset, until an answer says that there is no more."""
    return Ask("GET", path, query or {}, paged=True)


def figures(path: str, prefix: str = "created_at") -> Ask:
    period = {f"{prefix}_start": "{month_ago}", f"{prefix}_end": "{now}", "team_ids": ["{team}"]}
    return Ask("POST", f"/analytics/metrics/{path}", body={"filters": period, "time_zone": "UTC"})


def managed(change: Mapping[str, Any]) -> Ask:
    incident = {"type": "incident_reference", "id": "{fresh_incident}", **change}
    return Ask("PUT", "/incidents", body={"incidents": [incident]})


WINDOW = {"since": "{now}", "until": "{next_week}"}
ROTATION = "/v3/schedules/{v3}/rotations/{rotation}"
PAGES = "/status_pages/{status_page}"
POST = f"{PAGES}/posts/{{post}}"

READS: dict[str, tuple[Ask, ...]] = {
    "list_alert_grouping_settings": (pages("/alert_grouping_settings"),),
    "get_alert_grouping_setting": (get("/alert_grouping_settings/{alert_grouping_setting}"),),
    "list_alerts_from_incident": (pages("/incidents/{incident}/alerts"),),
    "get_alert_from_incident": (get("/incidents/{incident}/alerts/{alert}"),),
    "list_change_events": (pages("/change_events", {"since": "{month_ago}", "until": "{now}"}),),
    "get_change_event": (get("/change_events/{change_event}"),),
    "list_service_change_events": (pages("/services/{service}/change_events"),),
    "list_incident_change_events": (get("/incidents/{incident}/related_change_events"),),
    "list_incidents": (
        pages("/incidents", {"statuses[]": ["triggered", "acknowledged"], "sort_by": "created_at:desc"}),
        get("/users/me"),
        pages("/incidents", {"user_ids[]": ["{me}"]}),
    ),
    "get_incident": (get("/incidents/{incident}"),),
    "get_outlier_incident": (get("/incidents/{incident}/outlier_incident", {"since": "{month_ago}"}),),
    "get_past_incidents": (get("/incidents/{incident}/past_incidents", {"limit": 5}),),
    "get_related_incidents": (get("/incidents/{incident}/related_incidents"),),
    "list_incident_notes": (get("/incidents/{incident}/notes"),),
    "list_incident_workflows": (pages("/incident_workflows"),),
    "get_incident_workflow": (get("/incident_workflows/{incident_workflow}"),),
    "list_services": (pages("/services"),),
    "get_service": (get("/services/{service}"),),
    "get_technical_service_dependencies": (get("/service_dependencies/technical_services/{service}"),),
    "list_teams": (pages("/teams"),),
    "get_team": (get("/teams/{team}"),),
    "list_team_members": (pages("/teams/{team}/members"),),
    "get_user_data": (get("/users/me"),),
    "list_users": (get("/users", {"limit": 100}),),
    # Both kinds, and each v3 schedule by itself: its list holds references only.
    "list_schedules": (
        pages("/schedules"),
        get("/v3/schedules"),
        get("/v3/schedules/{v3}"),
    ),
    # The old kind first. PagerDuty's 400 sends it on to the new.
    "get_schedule": (
        get("/schedules/{schedule}"),
        get("/schedules/{v3}", status=400),
        get("/v3/schedules/{v3}"),
    ),
    "list_schedule_users": (get("/schedules/{schedule}/users"),),
    "list_schedule_v3_rotations": (get("/v3/schedules/{v3}/rotations"),),
    "get_schedule_v3_rotation": (get(ROTATION),),
    "list_schedule_v3_rotation_events": (get(f"{ROTATION}/events"),),
    "get_schedule_v3_rotation_event": (get(f"{ROTATION}/events/{{event}}"),),
    "list_schedule_v3_custom_shifts": (get("/v3/schedules/{v3}/custom_shifts", WINDOW),),
    "get_schedule_v3_custom_shift": (get("/v3/schedules/{v3}/custom_shifts/{custom_shift}"),),
    "list_schedule_v3_overrides": (get("/v3/schedules/{v3}/overrides", WINDOW),),
    "get_schedule_v3_override": (get("/v3/schedules/{v3}/overrides/{override}"),),
    # A service is turned into its escalation policy first.
    "list_oncalls": (
        get("/services/{service}"),
        pages("/oncalls", {"escalation_policy_ids[]": ["{escalation_policy}"], "earliest": "true"}),
    ),
    "list_log_entries": (pages("/log_entries", {"since": "{yesterday}", "until": "{now}"}),),
    "get_log_entry": (get("/log_entries/{log_entry}"),),
    "list_escalation_policies": (pages("/escalation_policies"),),
    "get_escalation_policy": (get("/escalation_policies/{escalation_policy}"),),
    "list_event_orchestrations": (pages("/event_orchestrations", {"sort_by": "name:asc"}),),
    "get_event_orchestration": (get("/event_orchestrations/{orchestration}"),),
    "get_event_orchestration_router": (get("/event_orchestrations/{orchestration}/router"),),
    "get_event_orchestration_service": (get("/event_orchestrations/services/{service}"),),
    "get_event_orchestration_global": (get("/event_orchestrations/{orchestration}/global"),),
    "list_status_pages": (pages("/status_pages"),),
    "list_status_page_severities": (pages(f"{PAGES}/severities", {"post_type": "incident"}),),
    "list_status_page_impacts": (pages(f"{PAGES}/impacts"),),
    "list_status_page_statuses": (pages(f"{PAGES}/statuses"),),
    "get_status_page_post": (get(POST),),
    "list_status_page_post_updates": (pages(f"{POST}/post_updates"),),
    "get_responder_metrics": (figures("responders/teams", "date_range"),),
    "get_incident_metrics_by_service": (figures("incidents/services"),),
    "get_incident_metrics_by_team": (figures("incidents/teams"),),
    "get_responder_load_metrics": (figures("responders/all", "date_range"),),
    "get_incident_metrics_all": (figures("incidents/all"),),
    "list_business_services": (get("/business_services", {"limit": 100}),),
    "get_business_service_dependencies": (get("/service_dependencies/business_services/{business_service}"),),
    "list_priorities": (pages("/priorities"),),
    "list_webhook_subscriptions": (pages("/webhook_subscriptions"),),
    "get_webhook_subscription": (get("/webhook_subscriptions/{webhook_subscription}"),),
    "list_extension_schemas": (pages("/extension_schemas"),),
    "get_extension_schema": (get("/extension_schemas/{extension_schema}"),),
}

NEW = {
    "type": "incident",
    "title": "Checkout is slow",
    "service": {"id": "{service}", "type": "service_reference"},
    "urgency": "high",
    "body": {"type": "incident_body", "details": "Since the release."},
}
RESPONDERS = {
    "requester_id": "{me}",
    "message": "Please look at the database.",
    "responder_request_targets": [{"responder_request_target": {"id": "{user}", "type": "user_reference"}}],
}
ASSIGNMENT = {"at": "{now}", "assignee": {"type": "user_reference", "id": "{user}"}}

FRESH = "/incidents/{fresh_incident}"
ASSIGNEE = "assignments.0.assignee.id"


@dataclass(frozen=True)
class Write:
    """A write of the server's: the tool here, and what there is then and was not before. Fields by their path in the document,
    ``incident.status``, each with its value."""

    tool: str
    ask: Ask
    answer: Mapping[str, Any]
    path: str
    """What is read before it and after it."""
    after: Mapping[str, Any]


def changing(tool: str, change: Mapping[str, Any], changed: Mapping[str, Any]) -> Write:
    """A change of one incident, whose document shows it in the answer and when it is read again."""
    answer = {f"incidents.0.{name}": value for name, value in changed.items()}
    after = {f"incident.{name}": value for name, value in changed.items()}
    return Write(tool, managed(change), {"incidents.0.id": "{fresh_incident}", **answer}, FRESH, after)


CREATED = {"status": "triggered", "title": "Checkout is slow", "urgency": "high", "service.id": "{service}"}
LOOK = "Please look at the database."
TARGET = "responder_request_targets.0.incident_responders.0"

WRITES: dict[str, Write] = {
    "create_incident": Write(
        "create_incident",
        Ask("POST", "/incidents", body={"incident": NEW}, status=201),
        {f"incident.{name}": value for name, value in CREATED.items()},
        "/incidents?limit=1&sort_by=created_at:desc",
        {"incidents.0.id": "{answer}", **{f"incidents.0.{name}": value for name, value in CREATED.items()}},
    ),
    "manage_incidents, to acknowledge": changing(
        "update_incident",
        {"status": "acknowledged"},
        {"status": "acknowledged", "acknowledgements.0.acknowledger.id": "{me}"},
    ),
    "manage_incidents, to resolve": changing(
        "resolve_incident", {"status": "resolved"}, {"status": "resolved", "last_status_change_by.id": "{me}"}
    ),
    "manage_incidents, of another urgency": changing("update_incident", {"urgency": "low"}, {"urgency": "low"}),
    "manage_incidents, to reassign": changing("update_incident", {"assignments": [ASSIGNMENT]}, {ASSIGNEE: "{user}"}),
    "manage_incidents, to escalate": changing("update_incident", {"escalation_level": 2}, {ASSIGNEE: "{second_level}"}),
    "add_responders": Write(
        "add_responders",
        Ask("POST", f"{FRESH}/responder_requests", body=RESPONDERS),
        {
            "responder_request.message": LOOK,
            "responder_request.requester.id": "{me}",
            f"responder_request.{TARGET}.user.id": "{user}",
        },
        FRESH,
        {"incident.responder_requests.0.message": LOOK, "incident.incidents_responders.0.user.id": "{user}"},
    ),
    "add_note_to_incident": Write(
        "add_note_to_incident",
        Ask("POST", f"{FRESH}/notes", body={"note": {"content": "Looked."}}),
        {"note.content": "Looked.", "note.user.id": "{me}"},
        f"{FRESH}/notes",
        {"notes.0.content": "Looked.", "notes.0.user.id": "{me}"},
    ),
}
"""The server's tool → what it does."""

LOOKED_UP: dict[str, tuple[str, str]] = {
    "incident": ("/incidents?statuses[]=triggered", "incidents"),
    "alert": ("/incidents/{incident}/alerts", "alerts"),
    "alert_grouping_setting": ("/alert_grouping_settings", "alert_grouping_settings"),
    "business_service": ("/business_services", "business_services"),
    "change_event": ("/change_events", "change_events"),
    "escalation_policy": ("/escalation_policies", "escalation_policies"),
    "event": (f"{ROTATION}/events", "events"),
    "extension_schema": ("/extension_schemas", "extension_schemas"),
    "incident_workflow": ("/incident_workflows", "incident_workflows"),
    "log_entry": ("/log_entries", "log_entries"),
    "orchestration": ("/event_orchestrations", "orchestrations"),
    "post": (f"{PAGES}/posts", "posts"),
    "rotation": ("/v3/schedules/{v3}/rotations", "rotations"),
    "schedule": ("/schedules", "schedules"),
    "service": ("/services", "services"),
    "status_page": ("/status_pages", "status_pages"),
    "team": ("/teams", "teams"),
    "user": ("/users", "users"),
    "v3": ("/v3/schedules", "schedules"),
}
"""Placeholder → the list whose first row it is."""
ON_CALL = "/oncalls?escalation_policy_ids%5B%5D={service_policy}"
SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "service_policy": ("/services/{service}", lambda shown: shown["service"]["escalation_policy"]["id"]),
    "second_level": (
        ON_CALL,
        lambda shown: next(row["user"]["id"] for row in shown["oncalls"] if row["escalation_level"] == 2),
    ),
}
"""Placeholder → the document that shows it, and where."""
MADE: dict[str, tuple[str, Any, str]] = {
    "fresh_incident": ("/incidents", {"incident": NEW}, "incident"),
    "custom_shift": (
        "/v3/schedules/{v3}/custom_shifts",
        {
            "custom_shifts": [
                {"type": "custom_shift", **LATER, "assignments": [{"type": "shift_assignment", "member": MEMBER}]}
            ]
        },
        "custom_shifts",
    ),
    "override": (
        "/v3/schedules/{v3}/overrides",
        {
            "overrides": [
                {
                    "type": "override_shift",
                    "rotation_id": "{rotation}",
                    **LATER,
                    "overridden_member": MEMBER,
                    "overriding_member": {"type": "user_member", "user_id": "{me}"},
                }
            ]
        },
        "overrides",
    ),
    "webhook_subscription": (
        "/webhook_subscriptions",
        {
            "webhook_subscription": {
                "type": "webhook_subscription",
                "delivery_method": {"type": "http_delivery_method", "url": "https://listener.example/pagerduty"},
                "events": ["incident.triggered"],
                "filter": {"type": "account_reference"},
            }
        },
        "webhook_subscription",
    ),
}
"""Placeholder → what is made in the account itself, without the portal, so that there is one."""


class Server:
    """PagerDuty's own server, as far as its requests go."""

    def __init__(self, door: Portal, account: str) -> None:
        self.door, self.account = door, account
        self.answers: dict[str, list[list[Answer]]] = {}
        now = dt.datetime.now(dt.UTC).replace(microsecond=0)
        days = {"month_ago": -30, "yesterday": -1, "now": 0, "tomorrow": 1, "tomorrow_evening": 1.4, "next_week": 7}
        self.known = {name: (now + dt.timedelta(days=day)).isoformat() for name, day in days.items()}
        self.headers = {"Accept": "application/vnd.pagerduty+json;version=2", "User-Agent": AGENT}
        # At its start it asks who it is, and acts in that name from then on. Where that is refused, it only warns.
        me = door.call("GET", "/users/me", headers=self.headers)
        self.started = me.status
        if me.status == 200:
            self.headers["From"] = me.json()["user"]["email"]
            self.known["me"] = me.json()["user"]["id"]

    def send(self, ask: Ask) -> list[Answer]:
        path, query, body = (self.filled(each) for each in (ask.path, dict(ask.query), ask.body))
        answers: list[Answer] = []
        offset = 0
        while True:
            asked = {**query, "limit": PAGE, "offset": offset} if ask.paged else query
            url = path if not asked else f"{path}?{urlencode(asked, doseq=True)}"
            answers.append(self.door.call(ask.method, url, body, headers=self.headers))
            if not ask.paged or answers[-1].status != 200:
                return answers
            # It goes on by the rows that it got, and stops where the answer does not say that there is more.
            offset += len(rows_of(answers[-1]))
            if not answers[-1].json().get("more") or offset >= MOST:
                return answers

    def replayed(self, tool: str) -> list[list[Answer]]:
        """The answers to each request of one of its reads, which is replayed once."""
        if tool not in self.answers:
            self.answers[tool] = [self.send(ask) for ask in READS[tool]]
        return self.answers[tool]

    def filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\{(\w+)\}", lambda found: self.value(found[1]), value)
        if isinstance(value, Mapping):
            return {name: self.filled(each) for name, each in value.items()}
        return [self.filled(each) for each in value] if isinstance(value, list) else value

    def value(self, name: str) -> str:
        """An id of the account, or a moment. Each row of writes has an incident of its own."""
        if name not in self.known:
            if name in MADE:
                path, body, shown = MADE[name]
                made = self.directly("POST", self.filled(path), self.filled(body))[shown]
                self.known[name] = str((made[0] if isinstance(made, list) else made)["id"])
            elif name in SHOWN:
                path, pick = SHOWN[name]
                self.known[name] = pick(self.directly("GET", self.filled(path)))
            else:
                path, shown = LOOKED_UP[name]
                self.known[name] = str(self.directly("GET", self.filled(path))[shown][0]["id"])
        return self.known[name]

    def directly(self, method: str, path: str, body: Any = None) -> Any:
        """What the account itself answers: the server's user found these ids elsewhere."""
        token = demo_tokens(7)["user_manager"].value
        headers = {"Authorization": f"Token token={token}", "Content-Type": "application/json", **self.headers}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.account}{path}", data, headers, method=method), timeout=40) as answer:
            return json.loads(answer.read())


def rows_of(answer: Answer) -> list[Any]:
    """The rows of a page: the one list of its document."""
    [rows] = [value for value in answer.json().values() if isinstance(value, list)]
    return rows


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It, at a portal whose team has a user's token and may do what responders do, and look at webhooks."""
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        account = f"http://127.0.0.1:{port}"
        door = Portal(tmp_path_factory.mktemp("portal"), account)
        try:
            door.seed(
                token=demo_tokens(7)["user_manager"].value,
                kind="user",
                from_email=demo_from_email(7),
                states=dict.fromkeys(
                    PRESETS["responder"] | {"list_webhook_subscriptions", "get_webhook_subscription"}, "on"
                ),
            )
            door.start()
            yield Server(door, account)
        finally:
            door.close()


def recorded(server: Server, answers: list[Answer]) -> list[dict[str, Any]]:
    """The entries of the calls that these are the answers of."""
    return server.door.entries(decision_id__in=[answer.headers["x-pagewarden-decision"] for answer in answers])


def covering(tool: str) -> set[str]:
    """The tools here that stand for one of the server's."""
    return {tool} if tool in TOOLS else set(ALIASES[tool])


def test_every_read_tool_of_the_server_is_replayed(schema_dir: Path) -> None:
    official = json.loads((schema_dir / "official_tools.json").read_text())
    reads = {row["tool"]: row["operations"] for row in official if row["rw"] == "read"}
    assert set(READS) == set(reads)
    for tool, operations in reads.items():
        asked = {(ask.method, re.sub(r"\{\w+\}", "{}", ask.path)) for ask in READS[tool]}
        for operation in operations:
            method, path = operation.split()
            assert (method, re.sub(r"\{\w+\}", "{}", path)) in asked, tool


def test_it_finds_out_who_it_is_when_it_starts(server: Server) -> None:
    assert server.started == 200
    assert server.headers["From"].endswith("@sandbox.example")


@pytest.mark.parametrize("tool", READS)
def test_a_read_of_the_server_is_answered(server: Server, tool: str) -> None:
    for ask, got in zip(READS[tool], server.replayed(tool), strict=True):
        expected = {200, 201} if tool == "get_incident_workflow" else {ask.status}  # PagerDuty publishes a 201 for it
        assert {each.status for each in got} <= expected, [each.body[:300] for each in got]
        if ask.paged:
            seen = [json.dumps(row, sort_keys=True) for each in got for row in rows_of(each)]
            assert len(seen) == len(set(seen))
            assert len(seen) >= MOST or not got[-1].json().get("more")
        if ask.status == 400:
            # What it looks for, to go on to the other kind of schedule.
            assert got[0].json()["error"]["message"].startswith("This is a shift-based schedule.")


def test_every_read_of_the_server_is_on_record_under_the_tool_that_covers_it(server: Server) -> None:
    answers = {tool: [each for got in server.replayed(tool) for each in got] for tool in READS}
    entries = {
        entry["decision_id"]: entry for entry in recorded(server, [each for got in answers.values() for each in got])
    }
    assert {(entry["kind"], entry["verdict"]) for entry in entries.values()} == {("result", "allow")}
    assert {entry["record"]["details"]["client"] for entry in entries.values()} == {"pagerduty-mcp/1.1.0"}
    for tool, got in answers.items():
        told = [entries[each.headers["x-pagewarden-decision"]] for each in got]
        assert {entry["tool"] for entry in told} & covering(tool), tool


def at(document: Any, path: str) -> Any:
    """What stands at a path of a document; None where there is nothing."""
    for part in path.split("."):
        if isinstance(document, list):
            document = document[int(part)] if int(part) < len(document) else None
        else:
            document = document.get(part) if isinstance(document, dict) else None
    return document


def stands(document: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {path: at(document, path) for path in fields}


@pytest.mark.parametrize("row", WRITES)
def test_an_incident_write_of_the_server_is_done_and_on_record(server: Server, row: str) -> None:
    write = WRITES[row]
    server.known.pop("fresh_incident", None)
    [before] = server.send(get(write.path))
    [answer] = server.send(write.ask)
    assert answer.status == write.ask.status, answer.body
    expected = server.filled(write.answer)
    assert stands(answer.json(), expected) == expected
    server.known["answer"] = str(at(answer.json(), "incident.id"))
    # Read again, and it is what was not so before.
    [after] = server.send(get(write.path))
    expected = server.filled(write.after)
    assert stands(after.json(), expected) == expected
    was = stands(before.json(), expected)
    same = {path for path in expected if was[path] == expected[path]}
    assert same <= ({f"incidents.0.{name}" for name in CREATED} if row == "create_incident" else set()), same
    entries = recorded(server, [answer])
    assert [(entry["kind"], entry["tool"], entry["outcome"]) for entry in entries] == [
        ("intent", write.tool, "intended"),
        ("result", write.tool, "done"),
    ]
    assert write.tool in covering(row.split(",")[0])


def test_the_routers_rules_are_read_and_not_written_by_a_responder(server: Server) -> None:
    path = "/event_orchestrations/{orchestration}/router"
    [before] = server.send(get(path))
    assert before.status == 200
    rules = before.json()["orchestration_path"]["sets"][0]["rules"]
    added = {"label": "Everything", "conditions": [], "actions": {"route_to": server.value("service")}}
    changed = {"orchestration_path": {**before.json()["orchestration_path"]}}
    changed["orchestration_path"]["sets"] = [{"id": "start", "rules": [*rules, added]}]
    [refused] = server.send(Ask("PUT", path, body=changed))
    assert refused.status == 403
    assert refused.errors[0] == "update_event_orchestration_router is switched off for Payments."
    [after] = server.send(get(path))
    assert after.json() == before.json()


def test_what_it_may_not_read_is_denied_as_pagerduty_denies(server: Server) -> None:
    [denied] = server.send(get("/users/{user}/notification_rules"))
    assert denied.status == 403
    assert denied.headers["content-type"] == "application/json"
    assert denied.json()["error"]["code"] == 2010
    assert denied.errors[0] == "list_user_notification_rules is switched off for Payments."
    [entry] = recorded(server, [denied])
    assert (entry["tool"], entry["verdict"], entry["outcome"]) == ("list_user_notification_rules", "deny", "denied")
