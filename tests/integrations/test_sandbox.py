"""The simulated PagerDuty, asked directly: its answers fit the published schema, its writes show in later reads."""

from __future__ import annotations

import copy
import datetime as dt
import json
import logging
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.resolve import match
from integrations.pagerduty.sandbox import app
from integrations.pagerduty.sandbox import ask as asking
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.render import Shift, final_shifts, laid_over, layer_shifts
from integrations.pagerduty.sandbox.world import demo_from_email, generate, iso, parse_time
from tests.calls import SINCE, UNTIL, Calls
from tests.calls import calls as all_calls
from tests.integrations.conftest import NOW, TOKENS, Ask
from tests.published_schema import problems


@pytest.fixture
def calls(sandbox: Sandbox) -> Calls:
    return all_calls(sandbox.world)


def test_every_operation_that_a_tool_needs_is_served(calls: Calls) -> None:
    needed = {operation for tool in TOOLS.values() for operation in tool.operations}
    assert {name.partition(" ")[0] for name in calls} == needed
    assert {(OPERATIONS[name].method, OPERATIONS[name].path) for name in needed} <= set(asking.ROUTES)


def test_each_answer_validates_against_the_published_schema(calls: Calls, ask: Ask, schema_dir: Path) -> None:
    wrong = {}
    for name, (method, path, body) in calls.items():
        token = TOKENS["user_manager"] if path == "/users/me" else TOKENS["account"]
        answer = ask(method, path, body, token=token.value)
        assert answer.is_success, (name, answer.text)
        found = match(method, path.partition("?")[0])
        assert found is not None
        assert found[0].id == name.partition(" ")[0]
        if faults := problems(
            schema_dir, method, found[0].path, answer.status_code, answer.json() if answer.content else None
        ):
            wrong[name] = faults[:3]
    assert wrong == {}, json.dumps(wrong, indent=1)


def test_the_same_seed_and_moment_give_the_same_bytes(calls: Calls, ask: Ask) -> None:
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
        ("POST", "/incidents", {"incident": {"title": "x", "service": {"id": []}}}, 400),
        ("PUT", "/incidents/PI000000", {"incident": {"escalation_level": True}}, 400),
        ("PUT", "/incidents/PI000000", {"incident": {"title": "   "}}, 400),
        ("PUT", "/incidents", {"incidents": [3]}, 400),
        ("PUT", "/escalation_policies/PESC000", {"escalation_policy": {"teams": 3}}, 400),
        ("PUT", "/escalation_policies/PESC000", {"escalation_policy": {"num_loops": "many"}}, 400),
        ("PUT", "/schedules/PSCH000", {"schedule": {"schedule_layers": [{"restrictions": [{}]}]}}, 400),
        ("PUT", "/schedules/PSCH000", {"schedule": {"time_zone": 3}}, 400),
        ("PUT", "/v3/schedules/PV3S000", {"schedule": {"time_zone": "Mars/Base"}}, 400),
        ("PUT", "/v3/schedules/PV3S000", {"schedule": {"name": 3}}, 400),
        ("POST", "/analytics/raw/incidents", {"starting_after": [1]}, 400),
        ("POST", "/analytics/raw/incidents", {"limit": True}, 400),
        ("POST", "/analytics/metrics/incidents/all", {"filters": {"team_ids": "PTEAM00"}}, 400),
        ("POST", "/analytics/metrics/responders/all", {"filters": {"date_range_start": 3}}, 400),
        ("GET", "/oncalls?since=0001-01-01&until=9999-12-31T23:59:59Z", None, 400),
        ("GET", "/schedules/PSCH000?since=0001-01-01", None, 400),
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


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("401", 401, 2006),
        ("402", 402, 2014),
        ("403", 403, 2010),
        ("404", 404, 2100),
        ("429", 429, 2020),
        ("500", 500, 2000),
    ],
)
def test_faults_that_are_answers_come_as_often_as_asked(ask: Ask, fault: str, status: int, code: int) -> None:
    assert ask("POST", "/_sandbox/fault", {"fault": fault, "count": 2}).status_code == 200
    for _ in range(2):
        answer = ask("GET", "/abilities")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert ask("GET", "/abilities").json()["abilities"]


def test_faults_that_are_not_pagerdutys_answers_look_as_a_proxys_do(ask: Ask) -> None:
    ask("POST", "/_sandbox/fault", {"fault": "malformed"})
    answer = ask("GET", "/abilities")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "application/json")
    with pytest.raises(ValueError):
        answer.json()
    ask("POST", "/_sandbox/fault", {"fault": "html"})
    answer = ask("GET", "/abilities")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, "text/html")
    assert answer.text.startswith("<!DOCTYPE html>")
    ask("POST", "/_sandbox/fault", {"fault": "redirect"})
    answer = ask("GET", "/abilities")
    assert (answer.status_code, answer.headers["location"]) == (302, "/redirected")
    assert "GET /redirected" not in ask("GET", "/_sandbox/stats").json()["calls"]
    assert ask("GET", "/abilities").json()["abilities"]


def test_a_fault_is_one_of_those_that_the_module_tells_of(ask: Ask) -> None:
    for fault in app.FAULTS:
        assert f"``{fault}``" in str(app.__doc__) or f"``{fault}:" in str(app.__doc__)
    assert ask("POST", "/_sandbox/fault", {"fault": "nonsense"}).status_code == 400
    assert ask("POST", "/_sandbox/fault", {"fault": "500", "count": [1]}).status_code == 400
    assert ask("POST", "/_sandbox/fault", raw=b'{"fault": "500", "count": 1e999}').status_code == 400


@pytest.mark.parametrize("fault", [*app.FAULTS, "slow:30"])
def test_a_token_is_checked_before_every_fault_and_uses_none_up(ask: Ask, sandbox: Sandbox, fault: str) -> None:
    ask("POST", "/_sandbox/fault", {"fault": fault, "count": 1})
    for token in ("nobodys", TOKENS["revoked"].value):
        answer = ask("GET", "/abilities", token=token)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, 2006)
        assert "location" not in answer.headers
    assert sandbox.fault[2] == 1


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
    resolved = [row["seconds_to_resolve"] for row in raw if row["seconds_to_resolve"] is not None]
    assert abs(everything["mean_seconds_to_resolve"] - sum(resolved) / len(resolved)) < 1


def test_user_tokens_need_teams_or_services_for_analytics(ask: Ask) -> None:
    token = TOKENS["user_manager"].value
    assert ask("POST", "/analytics/metrics/incidents/all", {}, token=token).status_code == 400


def test_each_thing_that_is_wrong_gets_its_sentence(ask: Ask) -> None:
    layer = {"users": 3, "start": "2026-11-01", "rotation_virtual_start": "x", "restrictions": [{}]}
    answer = ask("PUT", "/schedules/PSCH000", {"schedule": {"name": " ", "schedule_layers": [layer]}})
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "Invalid Input Provided",
        "code": 2001,
        "errors": [
            "Name cannot be empty.",
            "Schedule layers 1 rotation virtual start is not a valid ISO 8601 time.",
            "Schedule layers 1 rotation turn length seconds is missing.",
            "Schedule layers 1 users must be a list.",
            "Schedule layers 1 restrictions 1 type must be daily_restriction or weekly_restriction.",
        ],
    }
    asked = {"overrides": [{"start_time": "x", "end_time": "2026-11-25T00:00:00Z"}, 3]}
    assert ask("POST", "/v3/schedules/PV3S000/overrides", asked).json()["error"]["errors"] == {
        "override.start_time": ["is not a valid ISO 8601 time"],
        "override.overridden_member": ["is missing"],
        "override.overriding_member": ["is missing"],
        "override.rotation_id": ["or custom_shift_id is needed, and not both"],
        "override": ["must be an object"],
    }


def test_a_write_that_is_refused_changes_nothing(ask: Ask, sandbox: Sandbox) -> None:
    first, second = (incident.id for incident in sandbox.world.incidents[-2:])
    before = copy.deepcopy(sandbox.world)
    change = {"id": first, "title": "Changed", "status": "resolved"}
    for wrong in (
        {"id": second, "status": "gone"},
        {"id": second, "escalation_level": 9},
        {"id": second, "priority": []},
    ):
        assert ask("PUT", "/incidents", {"incidents": [change, wrong]}).status_code == 400
    assert ask("PUT", "/incidents", {"incidents": [change, {"id": "PNONE"}]}).status_code == 404
    policy = {"name": "Changed", "num_loops": 1, "teams": [{"id": "PNONE"}]}
    assert ask("PUT", "/escalation_policies/PESC000", {"escalation_policy": policy}).status_code == 400
    schedule = {"name": "Changed", "time_zone": "Mars/Base"}
    assert ask("PUT", "/schedules/PSCH000", {"schedule": schedule}).status_code == 400
    assert sandbox.world == before


def test_a_bulk_update_answers_with_all_that_it_changed(ask: Ask, sandbox: Sandbox) -> None:
    wanted = [incident.id for incident in sandbox.world.incidents[-40:]]
    change = {"incidents": [{"id": one, "type": "incident_reference", "status": "resolved"} for one in wanted]}
    assert [row["id"] for row in ask("PUT", "/incidents", change).json()["incidents"]] == wanted


@pytest.mark.parametrize("raw", [b"", b"{", b"NaN", b'{"incident": 1e999}', b"[" * 100_000, b"\xff\xfe", b"1" * 6000])
def test_what_is_no_json_is_refused(ask: Ask, raw: bytes) -> None:
    answer = ask("POST", "/incidents", raw=raw)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 2001)


def test_a_mistake_of_the_sandbox_is_answered_in_pagerdutys_shape_and_told(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def mistaken(asked: asking.Ask) -> asking.Result:
        raise KeyError("a mistake")

    monkeypatch.setitem(asking.ROUTES, ("GET", "/abilities"), mistaken)
    with caplog.at_level(logging.ERROR):
        answer = ask("GET", "/abilities")
    assert answer.status_code == 500
    assert answer.json() == {"error": {"message": "Internal Server Error", "code": 2000}}
    assert answer.headers["x-request-id"] in caplog.text
    assert "KeyError: 'a mistake'" in caplog.text
    monkeypatch.setitem(asking.ROUTES, ("GET", "/abilities"), lambda asked: (200, {"no": {"json"}}))
    assert ask("GET", "/abilities").status_code == 500


def test_a_schedule_asked_for_in_the_other_namespace_is_a_bad_request_and_an_unknown_one_is_not_found(ask: Ask) -> None:
    window = f"since={SINCE}&until={UNTIL}"
    for path, body in (
        ("", None),
        (f"/users?{window}", None),
        (f"/overrides?{window}", None),
        ("", {}),
        ("/overrides", {}),
    ):
        method = "GET" if body is None else "POST" if path else "PUT"
        wrong = ask(method, f"/schedules/PV3S000{path}", body)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, 2001)
        assert "v3" in wrong.json()["error"]["errors"][0]
        assert ask(method, f"/schedules/PNONE{path}", body).status_code == 404
    for path, body in (
        ("", None),
        (f"/overrides?{window}", None),
        ("", {}),
        ("/overrides", {}),
        ("/custom_shifts", {}),
    ):
        method = "GET" if body is None else "POST" if path else "PUT"
        wrong = ask(method, f"/v3/schedules/PSCH000{path}", body)
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, 2001)
        assert wrong.json()["error"]["errors"]["id"]
        assert ask(method, f"/v3/schedules/PNONE{path}", body).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/incidents",
            "/log_entries",
            "/services",
            "/users",
            "/teams",
            "/priorities",
            "/business_services",
            "/oncalls",
        ),
        *("/schedules", "/escalation_policies", "/incidents/PI000000/alerts", "/incidents/PI000000/log_entries"),
        "/v3/schedules",
        *("/change_events", "/services/PSVC000/change_events", f"/notifications?since={SINCE}&until={UNTIL}"),
    ],
)
def test_no_list_goes_beyond_ten_thousand_rows(ask: Ask, path: str) -> None:
    begin = "&" if "?" in path else "?"
    assert ask("GET", f"{path}{begin}limit=100&offset=9900").status_code == 200
    beyond = ask("GET", f"{path}{begin}limit=100&offset=9901")
    assert (beyond.status_code, beyond.json()["error"]["code"]) == (400, 2002)
    assert beyond.json()["error"]["errors"]


def test_incidents_are_of_the_last_month_or_of_a_month_from_or_to_the_end_that_is_given(
    ask: Ask, sandbox: Sandbox
) -> None:
    def seen(query: str) -> set[str]:
        found: set[str] = set()
        while len(found) % 100 == 0:
            page = ask("GET", f"/incidents?limit=100&offset={len(found)}&{query}").json()["incidents"]
            found |= {row["id"] for row in page}
            if not page:
                break
        return found

    def made(since: float, until: float) -> set[str]:
        return {row.id for row in sandbox.world.incidents if since <= row.created <= until}

    now, day = sandbox.world.now, 86_400
    assert seen("") == made(now - 30 * day, now + day)
    assert seen(f"since={iso(now - 100 * day)}") == made(now - 100 * day, now - 70 * day)
    assert seen(f"until={iso(now - 100 * day)}") == made(now - 130 * day, now - 100 * day)
    assert seen(f"since={iso(now - 100 * day)}&until={iso(now - 99 * day)}") == made(now - 100 * day, now - 99 * day)


def test_a_schedule_is_rendered_for_two_weeks_from_or_to_the_end_that_is_given(ask: Ask) -> None:
    for query in ("since=2026-06-01T00:00:00Z", "until=2026-06-15T00:00:00Z"):
        final = ask("GET", f"/schedules/PSCH002?{query}").json()["schedule"]["final_schedule"]
        entries = final["rendered_schedule_entries"]
        assert parse_time(entries[0]["start"]) == parse_time("2026-06-01T00:00:00Z")
        assert parse_time(entries[-1]["end"]) == parse_time("2026-06-15T00:00:00Z")


def test_on_calls_are_told_for_ninety_days_and_no_more(ask: Ask, sandbox: Sandbox) -> None:
    now, day = sandbox.world.now, 86_400

    def status(since: float, until: float) -> int:
        return ask("GET", f"/oncalls?since={iso(since)}&until={iso(until)}").status_code

    assert status(now, now + 90 * day) == 200
    assert status(now + 80 * day, now + 91 * day) == 400
    assert status(now - 90 * day, now) == 200
    assert status(now - 50 * day, now + 41 * day) == 400
    assert ask("GET", f"/oncalls?since={iso(now + day)}").status_code == 400  # until is now, and before that


QUERIES = (
    *("", "x", "-1", "0", "3.5", "99999999999999999999", "[]", "%00", "%ff%fe", "../../etc/passwd", "PUSR000"),
    *("2026-11-20", "0001-01-01", "9999-12-31T23:59:59Z", "1970-01-01T00:00:00%2B23:59", "2199-12-31T23:59:59-23:59"),
)


def test_a_query_with_anything_in_it_is_answered_or_refused(ask: Ask) -> None:
    names = (
        "since",
        "until",
        "limit",
        "offset",
        "time_zone",
        "sort_by",
        "query",
        "include[]",
        "team_ids[]",
        "date_range",
    )
    own = {"/audit/records": ("cursor", "actor_id"), "/incidents/types": ("filter",), "/incidents": ("incident_key",)}
    for path in {read.partition("?")[0] for read in READS}:
        path = path.format(incident="PI000000", schedule="PSCH001", v3="PV3S000")
        for name in (*names, *own.get(path, ())):
            for value in QUERIES:
                answer = ask("GET", f"{path}?{name}={value}")
                assert answer.status_code in (200, 400), (path, name, value, answer.text)


GONE = object()
"""Stands for: the field is left out."""
WRONG: tuple[Any, ...] = (None, 3, "x", [], {}, [1], True, GONE)
READS = (
    "/incidents?sort_by=created_at:desc&include[]=services&include[]=users&include[]=escalation_policies",
    "/incidents?statuses[]=triggered&sort_by=urgency:desc,created_at:desc",
    "/incidents/{incident}?include[]=body&include[]=custom_fields&include[]=conference_bridge&include[]=users",
    "/incidents/{incident}/alerts?include[]=incidents",
    "/incidents/{incident}/notes",
    "/incidents/{incident}/log_entries?include[]=incidents",
    "/incidents/{incident}/custom_fields/values",
    "/incidents/{incident}/past_incidents",
    "/incidents/{incident}/related_incidents?additional_details[]=incident",
    "/incidents/{incident}/outlier_incident",
    "/incidents/{incident}/related_change_events",
    "/incidents/{incident}/business_services/impacts",
    "/incidents/types",
    "/change_events",
    f"/notifications?since={SINCE}&until={UNTIL}",
    "/audit/records",
    "/log_entries",
    "/services?include[]=escalation_policies",
    "/business_services",
    "/teams",
    "/priorities",
    "/users?include[]=contact_methods",
    "/escalation_policies?include[]=targets&include[]=services&include[]=teams",
    f"/schedules?include[]=schedule_layers&since={SINCE}&until={UNTIL}",
    f"/schedules/{{schedule}}?since={SINCE}&until={UNTIL}&overflow=true",
    f"/schedules/{{schedule}}/users?since={SINCE}&until={UNTIL}",
    f"/schedules/{{schedule}}/overrides?since={SINCE}&until={UNTIL}",
    f"/oncalls?limit=100&since={SINCE}&until={UNTIL}&include[]=users&include[]=schedules",
    "/oncalls?earliest=true",
    "/v3/schedules",
    f"/v3/schedules/{{v3}}?include[]=final_schedule&since={SINCE}&until={UNTIL}",
    f"/v3/schedules/{{v3}}/overrides?since={SINCE}&until={UNTIL}",
)
"""What is read again after writes were taken: all of it after each operation's, and after each single one what it touches."""
TOUCHED = {
    "incidents": ("/incidents", "/log_entries"),
    "escalation_policies": ("/escalation_policies", "/oncalls?earliest"),
    "schedules": ("/schedules", "/oncalls?earliest"),
    "v3": ("/v3",),
}


def places(body: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON body are, the whole of it first."""
    yield path
    inside = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for name, value in inside:
        yield from places(value, (*path, name))


def replaced(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return None if value is GONE else value
    found = copy.deepcopy(body)
    inside = found
    for name in path[:-1]:
        inside = inside[name]
    if value is GONE:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return found


def full_bodies(sandbox: Sandbox, calls: Calls) -> list[tuple[str, str, Any]]:
    """Every write and analytics question, with every field that the sandbox reads."""
    world = sandbox.world
    user, policy = {"id": world.users[3]["id"]}, {"id": world.policies[1]["id"]}
    common = {
        "type": "incident",
        "title": "Full",
        "urgency": "low",
        "priority": {"id": world.priorities[1]["id"]},
        "assignments": [{"assignee": user}],
        "escalation_policy": policy,
        "incident_type": {"name": "major_incident"},
        "conference_bridge": {"conference_number": "+1 415-555-1212", "conference_url": "https://meet.example/1"},
    }
    change = {**common, "status": "resolved", "resolution": "Done.", "escalation_level": 2}
    layer = {
        "start": "2026-11-01T00:00:00Z",
        "end": "2027-11-01T00:00:00Z",
        "name": "Fuzzed",
        "rotation_virtual_start": "2026-11-01T00:00:00Z",
        "rotation_turn_length_seconds": 86_400,
        "users": [{"user": user}],
        "restrictions": [
            {"type": "daily_restriction", "start_time_of_day": "09:00:00", "duration_seconds": 3600},
            {
                "type": "weekly_restriction",
                "start_time_of_day": "09:00:00",
                "start_day_of_week": 2,
                "duration_seconds": 3600,
            },
        ],
    }
    filters = {
        "created_at_start": "2026-11-01T00:00:00Z",
        "created_at_end": "2026-11-20T00:00:00Z",
        "team_ids": [world.teams[0]["id"]],
        "service_ids": [world.services[0]["id"]],
        "urgency": "high",
    }
    incident = world.incidents[-2].id
    found = [(method, path, body) for method, path, body in calls.values() if body is not None]
    found += [
        (
            "POST",
            "/incidents",
            {
                "incident": {
                    **common,
                    "service": {"id": world.services[1]["id"]},
                    "incident_key": "full",
                    "body": {"type": "incident_body", "details": "All."},
                }
            },
        ),
        ("PUT", f"/incidents/{incident}", {"incident": {**change, "service": {"id": world.services[2]["id"]}}}),
        ("PUT", "/incidents", {"incidents": [{"id": incident, **change}, {"id": incident, **change}]}),
        (
            "PUT",
            f"/escalation_policies/{policy['id']}",
            {
                "escalation_policy": {
                    "name": "Full",
                    "description": "All of it",
                    "num_loops": 2,
                    "on_call_handoff_notifications": "always",
                    "teams": [{"id": world.teams[0]["id"]}],
                    "escalation_rules": [{"escalation_delay_in_minutes": 5, "targets": [user]}],
                }
            },
        ),
        (
            "PUT",
            f"/schedules/{world.schedules[0]['id']}",
            {"schedule": {"name": "Full", "time_zone": "Asia/Kolkata", "description": "", "schedule_layers": [layer]}},
        ),
        (
            "PUT",
            f"/v3/schedules/{world.v3[0]['id']}",
            {"schedule": {"name": "Full", "time_zone": "Asia/Kolkata", "description": ""}},
        ),
        (
            "POST",
            "/analytics/raw/incidents",
            {"filters": filters, "limit": 10, "order": "asc", "starting_after": "PI", "time_zone": "Etc/UTC"},
        ),
        ("POST", "/analytics/metrics/incidents/all", {"filters": filters, "aggregate_unit": "day", "time_zone": "UTC"}),
    ]
    return found


def assert_readable(ask: Ask, sandbox: Sandbox, after: Any, reads: Iterable[str] = READS) -> None:
    names = {
        "incident": sandbox.world.incidents[-1].id,
        "schedule": sandbox.world.schedules[0]["id"],
        "v3": sandbox.world.v3[0]["id"],
    }
    for read in reads:
        answer = ask("GET", read.format(**names))
        assert answer.status_code == 200, (after, read, answer.text)


def test_a_body_with_anything_in_the_wrong_place_is_refused_or_leaves_everything_readable(
    ask: Ask, sandbox: Sandbox, calls: Calls
) -> None:
    tried = refusals = 0
    for method, path, body in full_bodies(sandbox, calls):
        for place in places(body):
            for value in WRONG:
                sent = replaced(body, place, value)
                answer = ask(method, path, sent)
                tried += 1
                assert answer.status_code < 500, (method, path, sent, answer.text)
                if answer.status_code == 400:
                    refusals += 1
                    error = answer.json()["error"]
                    assert error["code"] == 2001, (path, sent)
                    assert all(error["errors"]), (path, sent)
                elif answer.is_success and (touched := TOUCHED.get(path.split("/")[1])):
                    reads = [read for read in READS if read.startswith(touched)]
                    assert_readable(ask, sandbox, (method, path, sent), reads)
        assert_readable(ask, sandbox, (method, path))
    assert tried > 1500
    assert refusals > tried / 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_two_arbitrary_values_in_a_body_never_break_the_account(
    ask: Ask, sandbox: Sandbox, calls: Calls, data: st.DataObject
) -> None:
    method, path, body = data.draw(st.sampled_from(full_bodies(sandbox, calls)))
    for _ in range(2):
        body = replaced(body, data.draw(st.sampled_from(list(places(body)))), data.draw(JSON))
    answer = ask(method, path, body)
    assert answer.status_code < 500, (method, path, body, answer.text)
    if answer.is_success and "/analytics/" not in path:
        assert_readable(ask, sandbox, (method, path, body))


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


SHIFTS = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6), st.sampled_from(["PA", "PB", "PC"])), max_size=8).map(
    lambda rows: [
        (float(end - length), float(end), user)
        for end, (_, length, user) in zip(accumulate(gap + length for gap, length, _ in rows), rows, strict=True)
    ]
)
"""Shifts in order, with gaps or without."""


@settings(max_examples=300, deadline=None)
@given(below=SHIFTS, above=SHIFTS)
def test_what_is_laid_over_wins_wherever_it_is(below: list[Shift], above: list[Shift]) -> None:
    found = laid_over(below, above)
    for hour in range(90):
        moment = hour + 0.5
        expected = [user for shifts in (above, below) for low, high, user in shifts if low < moment < high][:1]
        assert [user for low, high, user in found if low < moment < high] == expected


def test_a_turn_of_days_keeps_its_local_hour_when_the_clock_changes() -> None:
    world = generate(7, dt.datetime(2026, 11, 5, tzinfo=dt.UTC))
    for schedule in world.schedules:
        zone = ZoneInfo(schedule["time_zone"])
        layer = {**schedule["schedule_layers"][0], "restrictions": []}
        if len(layer["users"]) == 1:
            continue  # one unbroken turn
        since, until = parse_time("2026-10-01"), parse_time("2026-11-30")
        hours = {
            dt.datetime.fromtimestamp(start, zone).time() for start, _, _ in layer_shifts(layer, zone, since, until)[1:]
        }
        assert len(hours) == 1
