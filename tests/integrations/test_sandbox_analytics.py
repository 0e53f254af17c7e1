"""The simulated PagerDuty's analytics: they are what its incidents and their log entries come to."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from statistics import fmean
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.measures import hours_of, measured
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.world import DAY, HOUR, iso, parse_time
from tests.integrations.conftest import NOW, TOKENS, Ask

Document = dict[str, Any]
AT = NOW.timestamp()
MONTH = {"created_at_start": iso(AT - 30 * DAY), "created_at_end": iso(AT)}


def metrics(ask: Ask, kind: str, filters: Document, **more: Any) -> list[Document]:
    answer = ask("POST", f"/analytics/metrics/incidents/{kind}", {"filters": filters, **more})
    assert answer.status_code == 200, answer.text
    data: list[Document] = answer.json()["data"]
    return data


def raw(ask: Ask, filters: Document, **more: Any) -> list[Document]:
    rows: list[Document] = []
    cursor: Document = {}
    while True:
        page = ask("POST", "/analytics/raw/incidents", {"filters": filters, "limit": 500, **more, **cursor}).json()
        rows += page["data"]
        if not page["more"]:
            return rows
        cursor = {"starting_after": page["last"]}


def mean(values: list[Any]) -> float:
    known = [value for value in values if value is not None]
    return fmean(known) if known else 0


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_metrics_are_what_the_raw_rows_of_the_same_filters_come_to(
    ask: Ask, sandbox: Sandbox, data: st.DataObject
) -> None:
    world, day = sandbox.world, st.integers(0, 300)
    start = AT - data.draw(day) * DAY
    filters: Document = {"created_at_start": iso(start), "created_at_end": iso(start + 20 * DAY)}
    choices: Document = {
        "urgency": st.sampled_from(["high", "low"]),
        "major": st.booleans(),
        "min_ackowledgements": st.integers(0, 1),
        "min_timeout_escalations": st.integers(0, 1),
        "team_ids": st.sampled_from(world.teams).map(lambda row: [row["id"]]),
        "service_ids": st.lists(st.sampled_from(world.services), min_size=1, max_size=9).map(
            lambda rows: [row["id"] for row in rows]
        ),
        "priority_names": st.just(["P1", "P3"]),
        "escalation_policy_ids": st.sampled_from(world.policies).map(lambda row: [row["id"]]),
    }
    for name in data.draw(st.sets(st.sampled_from(sorted(choices)), max_size=2)):
        filters[name] = data.draw(choices[name])
    rows = raw(ask, filters)
    [found] = metrics(ask, "all", filters)
    assert found["total_incident_count"] == len(rows) == len({row["id"] for row in rows})
    for name in ("first_ack", "resolve", "engage", "mobilize"):
        assert abs(found[f"mean_seconds_to_{name}"] - mean([row[f"seconds_to_{name}"] for row in rows])) <= 1, name
    for name in ("total_notifications", "total_interruptions"):
        assert found[name] == sum(row[name] for row in rows)
    for name in ("business", "off", "sleep"):
        assert found[f"total_{name}_hour_interruptions"] == sum(row[f"{name}_hour_interruptions"] for row in rows)
    assert found["total_incidents_acknowledged"] == sum(row["acknowledgement_count"] > 0 for row in rows)
    assert found["total_incidents_timeout_escalated"] == sum(row["timeout_escalation_count"] > 0 for row in rows)
    assert found["total_escalation_count"] == sum(row["escalation_count"] for row in rows)
    assert abs(found["total_engaged_seconds"] - sum(row["engaged_seconds"] for row in rows)) <= len(rows) + 1
    assert found["total_incidents_auto_resolved"] == sum(row["auto_resolved"] for row in rows)
    for kind in ("services", "teams", "escalation_policies"):
        apart = metrics(ask, kind, filters)
        assert sum(row["total_incident_count"] for row in apart) == len(rows)
        together = metrics(ask, f"{kind}/all", filters)
        assert [row["total_incident_count"] for row in together] == [len(rows)] * bool(rows)


def entries(ask: Ask, incident: str) -> list[Document]:
    found: list[Document] = []
    while True:
        page = ask("GET", f"/incidents/{incident}/log_entries?limit=100&offset={len(found)}").json()
        found += page["log_entries"]
        if not page["more"]:
            return sorted(found, key=lambda entry: parse_time(entry["created_at"]))


def test_a_raw_row_is_what_the_log_entries_say(ask: Ask, sandbox: Sandbox) -> None:
    rows = {row["id"]: row for row in raw(ask, {"created_at_start": iso(AT - 5 * DAY), "created_at_end": iso(AT)})}
    zones = {user["id"]: ZoneInfo(user["time_zone"]) for user in sandbox.world.users}
    seen: Counter[str] = Counter()
    for identifier, row in list(rows.items())[:60]:
        log = entries(ask, identifier)
        types = Counter(entry["type"] for entry in log)
        created = parse_time(log[0]["created_at"])
        acknowledged = [entry for entry in log if entry["type"] == "acknowledge_log_entry"]
        assert row["acknowledgement_count"] == len(acknowledged)
        if acknowledged:
            assert abs(row["seconds_to_first_ack"] - (parse_time(acknowledged[0]["created_at"]) - created)) <= 1
            assert row["acknowledged_user_ids"] == list(dict.fromkeys(entry["agent"]["id"] for entry in acknowledged))
        assert row["total_notifications"] == types["notify_log_entry"]
        assert row["timeout_escalation_count"] == types["escalate_log_entry"]
        loud: list[tuple[str, float]] = []
        for entry in log:
            if entry["type"] == "notify_log_entry" and entry["channel"]["notification"]["type"] != "email_notification":
                at, user = parse_time(entry["created_at"]), entry["user"]["id"]
                if not any(user == who and at - before < 60 for who, before in loud):
                    loud.append((user, at))
        assert row["total_interruptions"] == len(loud)
        hours = Counter(hours_of(at, zones[user]) for user, at in loud)
        assert {name: row[f"{name}_hour_interruptions"] for name in ("business", "off", "sleep")} == {
            name: hours[name] for name in ("business", "off", "sleep")
        }
        seen += types
    assert seen["acknowledge_log_entry"]
    assert seen["notify_log_entry"]


def test_counting_from_the_steps_is_counting_from_the_log(sandbox: Sandbox) -> None:
    for incident in sandbox.world.incidents[-1500:]:
        if incident.log is None:
            before = measured(incident)
            incident.log = incident.happenings()
            assert measured(incident) == before


@pytest.mark.parametrize(
    ("at", "zone", "hours"),
    [
        ("2026-11-23T08:00:00", "Europe/London", "business"),
        ("2026-11-23T07:59:00", "Europe/London", "sleep"),
        ("2026-11-23T18:00:00", "Europe/London", "off"),
        ("2026-11-22T12:00:00", "Europe/London", "off"),
        ("2026-11-22T23:00:00", "Europe/London", "sleep"),
        ("2026-11-23T22:00:00", "Europe/London", "sleep"),
        ("2026-11-23T08:00:00", "Asia/Kolkata", "business"),
        ("2026-11-23T08:00:00", "America/Los_Angeles", "sleep"),
    ],
)
def test_hours_are_those_of_the_person(at: str, zone: str, hours: str) -> None:
    assert hours_of(parse_time(at), ZoneInfo(zone)) == hours


@pytest.mark.parametrize("unit", ["day", "week", "month"])
def test_units_of_time_begin_by_the_clock_of_the_zone_that_is_asked_for(ask: Ask, sandbox: Sandbox, unit: str) -> None:
    zone = ZoneInfo("Australia/Sydney")
    found = metrics(ask, "all", MONTH, aggregate_unit=unit, time_zone=zone.key, order="asc")

    def start(at: float) -> str:
        day = dt.datetime.fromtimestamp(at, zone).date()
        first = {"day": day, "week": day - dt.timedelta(days=day.weekday()), "month": day.replace(day=1)}[unit]
        return f"{first.isoformat()}T00:00:00"

    created = [row.created for row in sandbox.world.incidents if AT - 30 * DAY <= row.created < AT]
    expected = Counter(start(at) for at in created)
    assert [(row["range_start"], row["total_incident_count"]) for row in found] == sorted(expected.items())
    down = metrics(ask, "services", MONTH, aggregate_unit=unit, time_zone=zone.key)
    assert [row["range_start"] for row in down] == sorted((row["range_start"] for row in down), reverse=True)


def test_an_answer_is_ordered_as_asked_and_by_its_columns_only(ask: Ask) -> None:
    for order in ("asc", "desc"):
        column = [
            row["mean_seconds_to_resolve"]
            for row in metrics(ask, "services", MONTH, order=order, order_by="mean_seconds_to_resolve")
        ]
        assert column == sorted(column, reverse=order == "desc")
    wrong = {"filters": MONTH, "order_by": "colour"}
    for path in ("metrics/incidents/services", "raw/incidents", "raw/responders/PUSR000/incidents"):
        assert ask("POST", f"/analytics/{path}", wrong).status_code == 400


def test_cursors_walk_the_raw_rows_both_ways(ask: Ask) -> None:
    rows = [row["id"] for row in raw(ask, MONTH, order="asc")]
    assert [row["id"] for row in raw(ask, MONTH)] == rows[::-1]
    body = {"filters": MONTH, "order": "asc", "limit": 7, "ending_before": rows[20]}
    page = ask("POST", "/analytics/raw/incidents", body).json()
    assert [row["id"] for row in page["data"]] == rows[13:20]
    assert (page["first"], page["last"], page["more"]) == (rows[13], rows[19], True)
    assert ask("POST", "/analytics/raw/incidents", {**body, "starting_after": rows[0]}).status_code == 400
    assert ask("POST", "/analytics/raw/incidents", {"filters": MONTH, "starting_after": "PNONE"}).status_code == 400


def test_what_is_done_to_an_incident_shows_in_its_analytics(ask: Ask, sandbox: Sandbox) -> None:
    asked = {"title": "Down", "service": {"id": "PSVC000", "type": "service_reference"}, "urgency": "high"}
    incident = ask("POST", "/incidents", {"incident": asked}).json()["incident"]
    path = f"/analytics/raw/incidents/{incident['id']}"
    before = ask("GET", path).json()
    assert (before["seconds_to_first_ack"], before["seconds_to_resolve"], before["major"]) == (None, None, False)
    [assigned] = ask("GET", f"{path}/responses").json()["responses"]
    assert (assigned["response_status"], assigned["responder_type"]) == ("pending", "assigned")
    for user in ("user_manager", "account"):
        change = {"incident": {"type": "incident_reference", "status": "acknowledged"}}
        sender = sandbox.world.users[9]["email"]
        ask("PUT", f"/incidents/{incident['id']}", change, token=TOKENS[user].value, sender=sender)
    ask("PUT", f"/incidents/{incident['id']}", {"incident": {"type": "incident_reference", "status": "resolved"}})
    after = ask("GET", path).json()
    assert after["acknowledged_user_ids"] == [sandbox.world.users[place]["id"] for place in (0, 9)]
    assert (after["engaged_user_count"], after["acknowledgement_count"], after["major"]) == (2, 2, True)
    assert after["seconds_to_mobilize"] is not None
    assert after["resolved_by_user_id"] == sandbox.world.users[0]["id"]
    assert ask("GET", "/analytics/raw/incidents/PNONE").status_code == 404
    assert ask("GET", "/analytics/raw/incidents/PNONE/responses").status_code == 404


def test_a_responders_incidents_are_those_that_were_theirs(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    place = Counter(row.assignee for row in world.incidents[-400:] if row.assignee is not None).most_common(1)[0][0]
    user = world.users[place]["id"]
    rows: list[Document] = []
    cursor: Document = {}
    while True:
        body = {"filters": MONTH, "limit": 10, **cursor}
        page = ask("POST", f"/analytics/raw/responders/{user}/incidents", body).json()
        rows += page["data"]
        if len(page["data"]) < 10:
            break
        cursor = {"starting_after": page["last"]}
    mine = [row for row in raw(ask, MONTH) if user in row["assigned_user_ids"] or user in row["acknowledged_user_ids"]]
    assert [row["incident_id"] for row in rows] == [row["id"] for row in mine]
    filters = {
        "date_range_start": MONTH["created_at_start"],
        "date_range_end": MONTH["created_at_end"],
        "responder_ids": [user],
    }
    [together] = ask("POST", "/analytics/metrics/responders/all", {"filters": filters}).json()["data"]
    assert "responder_id" not in together
    assert together["total_incident_count"] == len(rows)
    assert together["total_notifications"] == sum(
        1
        for row in world.incidents
        if AT - 30 * DAY <= row.created < AT
        for who in measured(row).notified
        if who == place
    )
    times = [row["mean_time_to_acknowledge_seconds"] for row in rows]
    assert abs(together["mean_time_to_acknowledge_seconds"] - mean(times)) <= 1
    by_team = ask("POST", "/analytics/metrics/responders/teams", {"filters": filters}).json()["data"]
    assert {row["responder_id"] for row in by_team} == {user}
    assert sum(row["total_incident_count"] for row in by_team) == len(rows)
    assert ask("POST", "/analytics/raw/responders/PNONE/incidents", {}).status_code == 404


def test_time_on_call_is_that_of_the_levels_of_the_policies(ask: Ask, sandbox: Sandbox) -> None:
    world = sandbox.world
    range_ = {"date_range_start": iso(AT - 14 * DAY), "date_range_end": iso(AT)}
    rows = ask("POST", "/analytics/metrics/responders/teams", {"filters": range_}).json()["data"]
    row = rows[0]
    user = row["responder_id"]
    first = {target["id"] for policy in world.policies for target in policy["escalation_rules"][0]["targets"]}
    minutes = set()
    for schedule in world.schedules:
        if schedule["id"] in first:
            for start, end, who in final_shifts(schedule, AT - 14 * DAY, AT):
                if who == user:
                    minutes |= set(range(int(start) // 60, int(end) // 60))
    for schedule in world.v3:
        if schedule["id"] in first:
            query = f"include[]=final_schedule&since={iso(AT - 14 * DAY)}&until={iso(AT)}"
            shown = ask("GET", f"/v3/schedules/{schedule['id']}?{query}").json()["schedule"]
            for shift in shown["final_schedule"]["computed_shift_assignments"]:
                if shift["member"].get("user_id") == user:
                    start, end = parse_time(shift["start_time"]), parse_time(shift["end_time"])
                    minutes |= set(range(int(start) // 60, int(end) // 60))
    if user in first:
        minutes = set(range(14 * 24 * 60))
    assert row["total_seconds_on_call_level_1"] == len(minutes) * 60
    assert row["total_seconds_on_call"] <= 14 * DAY
    assert row["total_seconds_on_call"] >= max(
        row["total_seconds_on_call_level_1"], row["total_seconds_on_call_level_2_plus"]
    )


def test_up_time_is_the_time_without_a_major_incident(ask: Ask, sandbox: Sandbox) -> None:
    for row in metrics(ask, "services", MONTH):
        major = raw(ask, {**MONTH, "service_ids": [row["service_id"]], "major": True})
        assert (row["up_time_pct"] < 100) == bool(major)
    down = set()
    for one in raw(ask, {**MONTH, "major": True}):
        end = parse_time(one["resolved_at"]) if one["resolved_at"] else AT
        down |= set(range(int(parse_time(one["created_at"])) // 60, int(min(end, AT)) // 60))
    [together] = metrics(ask, "services/all", MONTH)
    assert abs(together["up_time_pct"] - 100 * (1 - len(down) * 60 / (30 * DAY))) < 0.5


@pytest.mark.parametrize(
    ("path", "narrow"),
    [
        *((f"metrics/incidents/{kind}", True) for kind in ("all", "services", "services/all", "teams", "teams/all")),
        ("raw/incidents", True),
        ("metrics/responders/all", False),
        ("metrics/responders/teams", False),
    ],
)
def test_keys_of_users_say_which_teams_or_services_they_ask_about(ask: Ask, path: str, narrow: bool) -> None:
    token = TOKENS["user_manager"].value
    assert ask("POST", f"/analytics/{path}", {}, token=token).status_code == (400 if narrow else 200)
    for filters in ({"team_ids": ["PTEAM00"]}, {"service_ids": ["PSVC000"]}):
        assert ask("POST", f"/analytics/{path}", {"filters": filters}, token=token).status_code == 200


def test_a_range_is_a_year_at_most_and_a_month_where_one_end_is_not_given(ask: Ask) -> None:
    long = {"created_at_start": iso(AT - 367 * DAY), "created_at_end": iso(AT)}
    assert ask("POST", "/analytics/metrics/incidents/all", {"filters": long}).status_code == 400
    turned = {"created_at_start": iso(AT), "created_at_end": iso(AT - HOUR)}
    assert ask("POST", "/analytics/raw/incidents", {"filters": turned}).status_code == 400
    until = iso(AT - 100 * DAY)
    month = {"created_at_start": iso(AT - 130 * DAY), "created_at_end": until}
    assert metrics(ask, "all", {"created_at_end": until}) == metrics(ask, "all", month)
    assert ask("POST", "/analytics/metrics/incidents/all", None).status_code == 200


def test_escalations_are_counted_as_they_stand_in_the_log_also_to_whoever_holds_the_incident(
    ask: Ask, sandbox: Sandbox
) -> None:
    world = sandbox.world
    holder = {"id": world.users[4]["id"], "type": "user_reference"}
    rules = [{"escalation_delay_in_minutes": 10, "targets": [holder]} for _ in range(2)]
    body = {"escalation_policy": {"name": "One person", "escalation_rules": rules}}
    policy = ask("POST", "/escalation_policies", body).json()["escalation_policy"]
    asked = {
        "title": "Down",
        "service": {"id": world.services[0]["id"], "type": "service_reference"},
        "escalation_policy": {"id": policy["id"], "type": "escalation_policy_reference"},
    }
    incident = ask("POST", "/incidents", {"incident": asked}).json()["incident"]["id"]
    for level in (2, 1):
        assert ask("PUT", f"/incidents/{incident}", {"incident": {"escalation_level": level}}).is_success
    logged = Counter(entry["type"] for entry in entries(ask, incident))
    row = ask("GET", f"/analytics/raw/incidents/{incident}").json()
    assert row["escalation_count"] == row["manual_escalation_count"] == logged["escalate_log_entry"] == 2
