"""The simulated PagerDuty, asked directly: its answers fit the published schema, its writes show in later reads."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.resolve import match
from integrations.pagerduty.sandbox import operations
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.render import final_shifts, layer_shifts
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens, generate, iso, parse_time
from tests.published_schema import problems

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
TOKENS = demo_tokens(7)
SINCE, UNTIL = "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z"
Ask = Callable[..., httpx.Response]


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(7, NOW)


@pytest.fixture
def ask(sandbox: Sandbox) -> Ask:
    def call(
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = TOKENS["account"].value,
        sender: str = demo_from_email(7),
        auth: str = "Token token=",
    ) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(sandbox)
            async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
                headers = {"Authorization": auth + token, **({"From": sender} if sender else {})}
                return await client.request(method, path, json=body, headers=headers)

        return asyncio.run(once())

    return call


def ids(ask: Ask, path: str, name: str) -> list[str]:
    return [row["id"] for row in ask("GET", path).json()[name]]


@pytest.fixture
def calls(ask: Ask, sandbox: Sandbox) -> dict[str, tuple[str, str, Any]]:
    """One call or more of every operation that a tool needs: operationId (with a number) → method, path, body."""
    world = sandbox.world
    incident, resolved = world.incidents[-1].id, world.incidents[0].id
    service, policy = world.services[0]["id"], world.policies[0]["id"]
    schedule, v3, user = world.schedules[1]["id"], world.v3[0]["id"], world.users[0]["id"]
    team = world.teams[0]["id"]
    entry = world.incidents[-1].happenings()[0].id
    ref = {"id": user, "type": "user_reference"}
    month = {"filters": {"created_at_start": "2026-10-20T00:00:00Z", "created_at_end": "2026-11-23T00:00:00Z"}}
    range_ = {"filters": {"date_range_start": "2026-10-20T00:00:00Z", "date_range_end": "2026-11-23T00:00:00Z"}}
    member = {"type": "user_member", "user_id": user}
    rule = {"escalation_delay_in_minutes": 20, "targets": [ref]}
    window = f"since={SINCE}&until={UNTIL}"
    layer = dict(world.schedules[1]["schedule_layers"][0])
    found: dict[str, tuple[str, str, Any]] = {
        "listIncidents": ("GET", "/incidents?limit=100&statuses[]=triggered&statuses[]=acknowledged&total=true", None),
        "listIncidents 2": (
            "GET",
            f"/incidents?date_range=all&service_ids[]={service}&team_ids[]={team}&urgencies[]=high&sort_by=created_at:desc"
            "&include[]=services&include[]=users&include[]=teams&include[]=assignees&include[]=escalation_policies",
            None,
        ),
        "getIncident": ("GET", f"/incidents/{incident}?include[]=acknowledgers", None),
        "getIncident 2": ("GET", f"/incidents/{resolved}", None),
        "listIncidentAlerts": ("GET", f"/incidents/{incident}/alerts", None),
        "getIncidentAlert": ("GET", f"/incidents/{incident}/alerts/A{incident[1:]}", None),
        "listIncidentLogEntries": ("GET", f"/incidents/{resolved}/log_entries", None),
        "createIncidentNote": ("POST", f"/incidents/{incident}/notes", {"note": {"content": "Looked."}}),
        "listIncidentNotes": ("GET", f"/incidents/{incident}/notes", None),
        "createIncident": (
            "POST",
            "/incidents",
            {
                "incident": {
                    "type": "incident",
                    "title": "Disk is full",
                    "service": {"id": service, "type": "service_reference"},
                    "body": {"type": "incident_body", "details": "All of it."},
                }
            },
        ),
        "updateIncident": (
            "PUT",
            f"/incidents/{incident}",
            {"incident": {"type": "incident_reference", "status": "acknowledged", "urgency": "low"}},
        ),
        "updateIncidents": (
            "PUT",
            "/incidents",
            {
                "incidents": [
                    {"id": incident, "type": "incident_reference", "status": "resolved", "resolution": "Fixed."}
                ]
            },
        ),
        "listIncidentLogEntries 2": ("GET", f"/incidents/{incident}/log_entries?include[]=incidents", None),
        "listServices": ("GET", "/services?limit=100&include[]=escalation_policies&include[]=teams", None),
        "getService": ("GET", f"/services/{service}", None),
        "getTechnicalServiceServiceDependencies": ("GET", f"/service_dependencies/technical_services/{service}", None),
        "getBusinessServiceServiceDependencies": (
            "GET",
            f"/service_dependencies/business_services/{world.business[0]['id']}",
            None,
        ),
        "listEscalationPolicies": ("GET", "/escalation_policies?include[]=targets&include[]=services", None),
        "getEscalationPolicy": ("GET", f"/escalation_policies/{policy}", None),
        "createEscalationPolicy": (
            "POST",
            "/escalation_policies",
            {"escalation_policy": {"type": "escalation_policy", "name": "New", "escalation_rules": [rule]}},
        ),
        "updateEscalationPolicy": (
            "PUT",
            f"/escalation_policies/{policy}",
            {"escalation_policy": {"type": "escalation_policy", "name": "Renamed", "num_loops": 3}},
        ),
        "listSchedules": ("GET", "/schedules?include[]=schedule_layers", None),
        "getSchedule": ("GET", f"/schedules/{schedule}?{window}&time_zone=Asia/Kolkata", None),
        "getSchedule 2": ("GET", f"/schedules/{schedule}?{window}&overflow=true", None),
        "updateSchedule": (
            "PUT",
            f"/schedules/{schedule}",
            {
                "schedule": {
                    "type": "schedule",
                    "name": "New name",
                    "time_zone": "Europe/London",
                    "schedule_layers": [layer],
                }
            },
        ),
        "listScheduleUsers": ("GET", f"/schedules/{schedule}/users?{window}", None),
        "createScheduleOverride": (
            "POST",
            f"/schedules/{schedule}/overrides",
            {"overrides": [{"start": "2026-11-25T00:00:00Z", "end": "2026-11-25T08:00:00Z", "user": ref}]},
        ),
        "listScheduleOverrides": ("GET", f"/schedules/{schedule}/overrides?{window}", None),
        "listOnCalls": ("GET", "/oncalls?limit=100", None),
        "listOnCalls 2": ("GET", f"/oncalls?user_ids[]={user}&earliest=true&include[]=users&{window}", None),
        "listSchedulesV3": ("GET", "/v3/schedules", None),
        "getScheduleV3": ("GET", f"/v3/schedules/{v3}?include[]=final_schedule&{window}", None),
        "updateScheduleV3": ("PUT", f"/v3/schedules/{v3}", {"schedule": {"name": "Renamed"}}),
        "createOverrides": (
            "POST",
            f"/v3/schedules/{v3}/overrides",
            {
                "overrides": [
                    {
                        "type": "override_shift",
                        "rotation_id": world.v3[0]["rotation"],
                        "start_time": "2026-11-25T00:00:00Z",
                        "end_time": "2026-11-25T08:00:00Z",
                        "overridden_member": member,
                        "overriding_member": {"type": "user_member", "user_id": world.users[1]["id"]},
                    }
                ]
            },
        ),
        "listOverrides": ("GET", f"/v3/schedules/{v3}/overrides?{window}", None),
        "createCustomShifts": (
            "POST",
            f"/v3/schedules/{v3}/custom_shifts",
            {
                "custom_shifts": [
                    {
                        "type": "custom_shift",
                        "start_time": "2026-11-25T00:00:00Z",
                        "end_time": "2026-11-25T08:00:00Z",
                        "assignments": [{"type": "shift_assignment", "member": member}],
                    }
                ]
            },
        ),
        "listUsers": ("GET", "/users?limit=100&include[]=contact_methods&include[]=notification_rules", None),
        "getUser": ("GET", f"/users/{user}?include[]=contact_methods&include[]=teams", None),
        "getCurrentUser": ("GET", "/users/me", None),
        "getUserContactMethods": ("GET", f"/users/{user}/contact_methods", None),
        "listLogEntries": ("GET", f"/log_entries?limit=100&team_ids[]={team}&is_overview=true", None),
        "listLogEntries 2": ("GET", f"/log_entries?limit=100&since={SINCE}&include[]=services&include[]=teams", None),
        "getLogEntry": ("GET", f"/log_entries/{entry}", None),
        "getAnalyticsMetricsIncidentsAll": ("POST", "/analytics/metrics/incidents/all", month),
        "getAnalyticsMetricsIncidentsService": ("POST", "/analytics/metrics/incidents/services", month),
        "getAnalyticsMetricsIncidentsTeam": ("POST", "/analytics/metrics/incidents/teams", month),
        "getAnalyticsMetricsIncidentsEscalationPolicy": (
            "POST",
            "/analytics/metrics/incidents/escalation_policies",
            month,
        ),
        "getAnalyticsMetricsRespondersAll": ("POST", "/analytics/metrics/responders/all", range_),
        "getAnalyticsMetricsRespondersTeam": ("POST", "/analytics/metrics/responders/teams", range_),
        "getAnalyticsIncidents": ("POST", "/analytics/raw/incidents", {**month, "limit": 50}),
        "listAbilities": ("GET", "/abilities", None),
    }
    return found


def test_every_operation_that_a_tool_needs_is_served(calls: dict[str, tuple[str, str, Any]]) -> None:
    needed = {operation for tool in TOOLS.values() for operation in tool.operations}
    assert {name.partition(" ")[0] for name in calls} == needed
    assert {(OPERATIONS[name].method, OPERATIONS[name].path) for name in needed} <= set(operations.ROUTES)


def test_each_answer_validates_against_the_published_schema(
    calls: dict[str, tuple[str, str, Any]], ask: Ask, schema_dir: Path
) -> None:
    wrong = {}
    for name, (method, path, body) in calls.items():
        token = TOKENS["user_manager"] if path == "/users/me" else TOKENS["account"]
        answer = ask(method, path, body, token=token.value)
        assert answer.is_success, (name, answer.text)
        found = match(method, path.partition("?")[0])
        assert found is not None
        assert found[0].id == name.partition(" ")[0]
        if faults := problems(schema_dir, method, found[0].path, answer.status_code, answer.json()):
            wrong[name] = faults[:3]
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_the_same_seed_and_moment_give_the_same_bytes(calls: dict[str, tuple[str, str, Any]], ask: Ask) -> None:
    other = Sandbox(7, NOW)
    assert generate(7, NOW) == generate(7, NOW)
    assert generate(7, NOW) != generate(8, NOW)
    assert json.dumps(other.world.services) == json.dumps(Sandbox(7, NOW).world.services)


def test_the_account_starts_with_what_the_demo_promises(ask: Ask) -> None:
    for status in ("triggered", "acknowledged"):
        listed = ask("GET", f"/incidents?statuses[]={status}&total=true&limit=1").json()
        assert listed["total"] >= 20
    assert ask("GET", "/incidents?total=true&limit=1").json()["total"] >= 100
    world = generate(7, NOW)
    assert len({user["time_zone"] for user in world.users}) == 5
    assert min(incident.created for incident in world.incidents) < NOW.timestamp() - 360 * 86_400
    layers = [layer for schedule in world.schedules for layer in schedule["schedule_layers"]]
    assert {r["type"] for layer in layers for r in layer["restrictions"]} == {"daily_restriction", "weekly_restriction"}


def test_created_incidents_show_in_later_reads_and_follow_their_life(ask: Ask, sandbox: Sandbox) -> None:
    service = sandbox.world.services[0]["id"]
    asked = {"type": "incident", "title": "Made here", "service": {"id": service, "type": "service_reference"}}
    made = ask("POST", "/incidents", {"incident": asked}).json()["incident"]
    assert made["status"] == "triggered"
    assert made["assignments"]
    path = f"/incidents/{made['id']}"
    listed = ask("GET", "/incidents?statuses[]=triggered&limit=100&sort_by=created_at:desc").json()["incidents"]
    assert listed[0]["id"] == made["id"]
    ask("PUT", path, {"incident": {"type": "incident_reference", "status": "acknowledged"}})
    assert ask("GET", path).json()["incident"]["acknowledgements"][0]["acknowledger"]["summary"] == "Priya Sharma"
    ask("POST", f"{path}/notes", {"note": {"content": "I am on it."}})
    ask("PUT", path, {"incident": {"type": "incident_reference", "status": "resolved"}})
    final = ask("GET", path).json()["incident"]
    assert (final["status"], final["assignments"]) == ("resolved", [])
    assert final["resolved_at"]
    assert [note["content"] for note in ask("GET", f"{path}/notes").json()["notes"]] == ["I am on it."]
    types = [entry["type"] for entry in ask("GET", f"{path}/log_entries").json()["log_entries"]]
    assert {"trigger_log_entry", "acknowledge_log_entry", "annotate_log_entry", "resolve_log_entry"} <= set(types)
    reopened = {"incident": {"type": "incident_reference", "status": "triggered"}}
    assert ask("PUT", path, reopened).json()["incident"]["status"] == "triggered"


def test_an_override_changes_who_is_on_call(ask: Ask, sandbox: Sandbox) -> None:
    schedule = sandbox.world.schedules[0]
    now = sandbox.world.now
    on_call = final_shifts(schedule, now, now + 60)[0][2]
    other = next(user for user in sandbox.world.users if user["id"] != on_call)
    override = {"start": iso(now), "end": iso(now + 7200), "user": {"id": other["id"], "type": "user_reference"}}
    results = ask("POST", f"/schedules/{schedule['id']}/overrides", {"overrides": [override, {"start": "x"}]}).json()
    assert [row["status"] for row in results] == [201, 400]
    window = f"since={iso(now + 3600)}&until={iso(now + 3660)}"
    oncalls = ask("GET", f"/oncalls?schedule_ids[]={schedule['id']}&{window}").json()["oncalls"]
    assert {row["user"]["id"] for row in oncalls} == {other["id"]}
    users = ask("GET", f"/schedules/{schedule['id']}/users?{window}").json()["users"]
    assert [user["id"] for user in users] == [other["id"]]


def test_tokens_are_told_apart(ask: Ask) -> None:
    assert ask("GET", "/incidents", token="nobodys").status_code == 401
    assert ask("GET", "/incidents", token=TOKENS["revoked"].value).json()["error"]["code"] == 2006
    read_only = TOKENS["account_read_only"].value
    assert ask("GET", "/incidents?limit=1", token=read_only).status_code == 200
    assert ask("PUT", "/incidents", {"incidents": []}, token=read_only).status_code == 403
    assert "account-level access token" in ask("GET", "/users/me").json()["error"]
    me = ask("GET", "/users/me", token=TOKENS["user_manager"].value).json()["user"]
    assert me["email"] == demo_from_email(7)
    oauth = TOKENS["oauth_reads"].value
    assert ask("GET", "/services?limit=1", token=oauth, auth="Bearer ").status_code == 200
    refused = ask("GET", "/schedules", token=oauth, auth="Bearer ").json()["error"]
    assert refused["required_scopes"] == "schedules.read"


def test_from_must_name_a_user_where_pagerduty_asks_for_it(ask: Ask, sandbox: Sandbox) -> None:
    note = {"note": {"content": "x"}}
    path = f"/incidents/{sandbox.world.incidents[0].id}/notes"
    assert ask("POST", path, note, sender="").status_code == 400
    assert ask("POST", path, note, sender="nobody@sandbox.example").json()["error"]["code"] == 1008
    assert ask("POST", path, note, sender="", token=TOKENS["user_manager"].value).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/incidents?limit=100&offset=9950", None, 400),
        ("GET", "/incidents?limit=many", None, 400),
        ("GET", "/incidents?since=yesterday", None, 400),
        ("GET", "/incidents?since=2026-01-01&until=2026-11-01", None, 400),
        ("GET", "/incidents?sort_by=colour", None, 400),
        ("GET", "/incidents/PNOTHING", None, 404),
        ("GET", "/nothing", None, 404),
        ("DELETE", "/incidents", None, 405),
        ("POST", "/incidents", {"incident": {"title": " "}}, 400),
        ("POST", "/incidents", {"incident": {"title": "x", "service": {"id": "PNONE"}}}, 400),
        ("PUT", "/incidents", {"incidents": [{}] * 251}, 413),
        ("PUT", "/incidents", {"incidents": "all"}, 400),
        ("GET", "/schedules/PSCH000/overrides", None, 400),
        ("POST", "/schedules/PSCH000/overrides", {"overrides": []}, 400),
        ("GET", "/oncalls?until=2027-11-01", None, 400),
        ("POST", "/escalation_policies", {"escalation_policy": {"name": "x"}}, 400),
        ("PUT", "/v3/schedules/PV3S000", {"schedule": {"rotations": []}}, 400),
        ("POST", "/v3/schedules/PV3S000/custom_shifts", {"custom_shifts": [{"start_time": 1}]}, 400),
        ("POST", "/analytics/raw/incidents", {"filters": {"created_at_start": "x"}}, 400),
        ("GET", "/schedules/PSCH000?time_zone=Mars/Base", None, 400),
    ],
)
def test_bad_requests_get_pagerdutys_errors(ask: Ask, method: str, path: str, body: Any, status: int) -> None:
    answer = ask(method, path, body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) >= {"message", "code"}


def test_paging_reaches_every_row_once(ask: Ask, sandbox: Sandbox) -> None:
    seen: list[str] = []
    offset, more = 0, True
    while more:
        page = ask("GET", f"/incidents?date_range=all&limit=100&offset={offset}").json()
        seen += [row["id"] for row in page["incidents"]]
        offset, more = offset + len(page["incidents"]), page["more"]
    assert seen == [incident.id for incident in sandbox.world.incidents]


def test_the_rate_limit_is_shown_and_enforced_only_by_switch(ask: Ask) -> None:
    first = ask("GET", "/abilities")
    assert first.headers["ratelimit-limit"] == "960"
    assert int(first.headers["ratelimit-remaining"]) == 959
    ask("POST", "/_sandbox/rate_limit", {"enforce": True, "limit": 2})
    assert [ask("GET", "/abilities").status_code for _ in range(3)] == [200, 200, 429]
    limited = ask("GET", "/abilities")
    assert (limited.json()["error"]["code"], limited.headers["ratelimit-remaining"]) == (2020, "0")
    assert 0 < int(limited.headers["ratelimit-reset"]) <= 60


@pytest.mark.parametrize(("fault", "status"), [("429", 429), ("500", 500), ("402", 402), ("malformed", 200)])
def test_faults_come_as_often_as_asked(ask: Ask, fault: str, status: int) -> None:
    assert ask("POST", "/_sandbox/fault", {"fault": fault, "count": 1}).status_code == 200
    answer = ask("GET", "/abilities")
    assert answer.status_code == status
    if fault == "malformed":
        with pytest.raises(ValueError):
            answer.json()
    assert ask("GET", "/abilities").json()["abilities"]
    assert ask("POST", "/_sandbox/fault", {"fault": "nonsense"}).status_code == 400


def test_analytics_agree_with_the_incidents(ask: Ask) -> None:
    since, until = "2026-11-01T00:00:00Z", "2026-11-20T00:00:00Z"
    filters = {"filters": {"created_at_start": since, "created_at_end": until}}
    total = ask("GET", f"/incidents?since={since}&until=2026-11-19T23:59:59Z&total=true&limit=1").json()["total"]
    everything = ask("POST", "/analytics/metrics/incidents/all", filters).json()["data"][0]
    by_service = ask("POST", "/analytics/metrics/incidents/services", filters).json()["data"]
    raw: list[Any] = []
    cursor: dict[str, Any] = {}
    while True:
        page = ask("POST", "/analytics/raw/incidents", {**filters, "limit": 100, **cursor}).json()
        raw += page["data"]
        if not page["more"]:
            break
        cursor = {"starting_after": page["last"]}
    assert everything["total_incident_count"] == total == len(raw) == len({row["id"] for row in raw})
    assert sum(row["total_incident_count"] for row in by_service) == total
    resolved = [row["seconds_to_resolve"] for row in raw if "seconds_to_resolve" in row]
    assert abs(everything["mean_seconds_to_resolve"] - sum(resolved) / len(resolved)) < 1


def test_user_tokens_need_teams_or_services_for_analytics(ask: Ask) -> None:
    token = TOKENS["user_manager"].value
    assert ask("POST", "/analytics/metrics/incidents/all", {}, token=token).status_code == 400


@settings(max_examples=60, deadline=None)
@given(
    turn=st.sampled_from([3600, 12 * 3600, 86_400, 7 * 86_400]),
    people=st.integers(1, 5),
    day=st.integers(1, 7),
    weekly=st.booleans(),
    hours=st.integers(1, 40),
    offset=st.integers(-40 * 24, 10 * 24),
)
def test_a_layer_is_rendered_as_a_walk_hour_by_hour_finds_it(
    turn: int, people: int, day: int, weekly: bool, hours: int, offset: int
) -> None:
    """Against the slowest way there is, in a zone whose clock does not change within the window."""
    zone = ZoneInfo("Asia/Kolkata")
    start = parse_time("2026-10-01T03:30:00Z")
    restriction = {
        "start_time_of_day": "09:00:00",
        "duration_seconds": min(hours, 24) * 3600,
        "type": "daily_restriction",
    }
    if weekly:
        restriction |= {"type": "weekly_restriction", "start_day_of_week": day, "duration_seconds": hours * 3600}
    layer = {
        "start": iso(start),
        "end": None,
        "rotation_virtual_start": iso(start),
        "rotation_turn_length_seconds": turn,
        "users": [{"user": {"id": f"P{n}"}} for n in range(people)],
        "restrictions": [restriction],
    }
    since = start + offset * 3600
    until = since + 9 * 86_400
    shifts = layer_shifts(layer, zone, since, until)
    at = since
    while at < until:
        moment = at + 1800
        local = dt.datetime.fromtimestamp(moment, zone)
        expected = None
        if moment >= start:
            for back in range(9):
                begin_day = (local - dt.timedelta(days=back)).date()
                begin = dt.datetime.combine(begin_day, dt.time(9), zone)
                fits = not weekly or begin_day.isoweekday() == day
                if fits and begin <= local < begin + dt.timedelta(seconds=restriction["duration_seconds"]):  # type: ignore[arg-type]
                    expected = f"P{int((moment - start) // turn) % people}"
        found = [user for low, high, user in shifts if low <= moment < high]
        assert found == ([expected] if expected else [])
        at += 3600


def test_a_turn_of_days_keeps_its_local_hour_when_the_clock_changes() -> None:
    world = generate(7, dt.datetime(2026, 11, 5, tzinfo=dt.UTC))
    for schedule in world.schedules:
        zone = ZoneInfo(schedule["time_zone"])
        layer = {**schedule["schedule_layers"][0], "restrictions": []}
        since, until = parse_time("2026-10-01"), parse_time("2026-11-30")
        hours = {
            dt.datetime.fromtimestamp(start, zone).time() for start, _, _ in layer_shifts(layer, zone, since, until)[1:]
        }
        assert len(hours) == 1
