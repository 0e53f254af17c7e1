"""Schedules, policies and on-calls of the simulated PagerDuty, v2 and v3."""

from __future__ import annotations

import copy
import datetime as dt
import time
import tracemalloc
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.render_v3 import coverage_v3, event_shifts, on_call, slots
from integrations.pagerduty.sandbox.world import DAY, HOUR, generate, iso, parse_time
from tests.integrations.conftest import NOW, TOKENS, Ask

Document = dict[str, Any]
AT = NOW.timestamp()
DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")


def member(user: str) -> Document:
    return {"type": "user_member", "user_id": user} if user else {"type": "empty_member"}


def event_of(start: str, hours: float, zone: str, rule: str, users: list[str], turns: int = 1, **more: Any) -> Document:
    """``start``: local. ``turns``: 0 for all members at once."""
    begin = dt.datetime.fromisoformat(start)
    strategy: Document = {"type": "every_member_assignment_strategy", "members": [member(user) for user in users]}
    if turns:
        strategy |= {"type": "rotating_member_assignment_strategy", "shifts_per_member": turns}
    return {
        "name": "Event",
        "start_time": {"date_time": begin.isoformat(), "time_zone": zone},
        "end_time": {"date_time": (begin + dt.timedelta(hours=hours)).isoformat(), "time_zone": zone},
        "effective_since": "2026-01-01T00:00:00Z",
        "effective_until": None,
        "recurrence": [f"RRULE:{rule}"],
        "assignment_strategy": strategy,
        **more,
    }


def schedule_of(
    *events: Document, customs: list[Document] | None = None, overrides: list[Document] | None = None
) -> Any:
    rotations = [{"id": f"R{number}", "gone": False, "events": [event]} for number, event in enumerate(events)]
    return {"rotations": rotations, "custom_shifts": customs or [], "overrides": overrides or []}


def override(identifier: str, start: float, end: float, old: str, new: str, **source: str) -> Document:
    return {
        "id": identifier,
        "start_time": iso(start),
        "end_time": iso(end),
        "overridden_member": member(old),
        "overriding_member": member(new),
        **(source or {"rotation_id": "R0"}),
    }


@settings(max_examples=60, deadline=None)
@given(
    frequency=st.sampled_from(["HOURLY", "DAILY", "WEEKLY"]),
    interval=st.integers(1, 5),
    days=st.sets(st.sampled_from(DAYS), max_size=4),
    zone=st.sampled_from(
        ["America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Sydney", "Australia/Lord_Howe"]
    ),
    clock=st.sampled_from(["00:00", "01:30", "02:30", "09:00", "23:30"]),
    minutes=st.integers(1, 40).map(lambda number: number * 30),
    people=st.integers(1, 4),
    turns=st.integers(0, 3),
    count=st.none() | st.integers(1, 60),
    offset=st.integers(-30, 400),
)
def test_an_event_is_rendered_as_a_walk_from_its_first_shift_finds_it(
    frequency: str,
    interval: int,
    days: set[str],
    zone: str,
    clock: str,
    minutes: int,
    people: int,
    turns: int,
    count: int | None,
    offset: int,
) -> None:
    """Against counting every shift from the first, and asking at each quarter of an hour of three days."""
    local, first = ZoneInfo(zone), dt.datetime.fromisoformat(f"2026-02-25T{clock}")
    rule = f"FREQ={frequency};INTERVAL={interval}"
    rule += f";BYDAY={','.join(sorted(days))}" if days else ""
    rule += f";COUNT={count}" if count else ""
    users = [f"P{number}" for number in range(people)]
    event = event_of(first.isoformat(), minutes / 60, zone, rule, users, turns)
    since = first.replace(tzinfo=local).timestamp() + offset * DAY
    until = since + 3 * DAY
    wanted = {DAYS.index(day) for day in days} or ({first.weekday()} if frequency == "WEEKLY" else set(range(7)))
    step = dt.timedelta(hours=interval) if frequency == "HOURLY" else dt.timedelta(days=1)
    monday = first.date() - dt.timedelta(days=first.weekday())
    spans: list[tuple[float, float, int]] = []
    start, number = first, 0
    while start.replace(tzinfo=local).timestamp() < until and (count is None or number < count):
        due = {
            "HOURLY": True,
            "DAILY": (start.date() - first.date()).days % interval == 0,
            "WEEKLY": (start.date() - monday).days // 7 % interval == 0,
        }[frequency]
        if due and start.weekday() in wanted:
            end = (start + dt.timedelta(minutes=minutes)).replace(tzinfo=local).timestamp()
            spans.append((start.replace(tzinfo=local).timestamp(), end, number))
            number += 1
        start += step
    found = event_shifts(event, since, until)
    moment = since + 60
    while moment < until:
        numbers = [number for low, high, number in spans if low <= moment < high]
        chosen = [users if not turns else [users[number // turns % people]] for number in numbers]
        expected = sorted(user for some in chosen for user in some)
        assert sorted(user for low, high, user in found if low <= moment < high) == expected
        moment += 900


@pytest.mark.parametrize(("day", "hours"), [("2026-03-07", 23), ("2026-10-31", 25), ("2026-06-01", 24)])
def test_a_daily_shift_keeps_its_local_hour_and_is_longer_or_shorter_where_the_clock_changes(
    day: str, hours: int
) -> None:
    event = event_of("2026-01-01T09:00:00", 24, "America/New_York", "FREQ=DAILY", ["PA", "PB"])
    noon = dt.datetime.fromisoformat(f"{day}T12:00:00").replace(tzinfo=ZoneInfo("America/New_York"))
    [(start, end, _)] = event_shifts(event, noon.timestamp(), noon.timestamp() + 60)
    assert (end - start) / HOUR == hours
    assert {dt.datetime.fromtimestamp(at, ZoneInfo("America/New_York")).hour for at in (start, end)} == {9}


def test_dates_can_be_left_out_and_added_without_a_change_of_turns() -> None:
    event = event_of("2026-06-01T09:00:00", 8, "UTC", "FREQ=DAILY;UNTIL=20260604", ["PA", "PB"])
    event["recurrence"] += ["EXDATE:20260602T090000Z", "RDATE:20260610T090000"]
    shifts = event_shifts(event, parse_time("2026-05-01"), parse_time("2026-07-01"))
    assert [(iso(start)[:10], user) for start, _, user in sorted(shifts)] == [
        ("2026-06-01", "PA"),
        ("2026-06-03", "PA"),
        ("2026-06-04", "PB"),
        ("2026-06-10", "PB"),
    ]


def test_an_event_counts_only_while_it_is_in_effect() -> None:
    bounds: Document = {"effective_since": "2026-06-01T12:00:00Z", "effective_until": "2026-06-03T12:00:00Z"}
    event = event_of("2026-05-01T09:00:00", 8, "UTC", "FREQ=DAILY", ["PA"], **bounds)
    shifts = event_shifts(event, parse_time("2026-05-01"), parse_time("2026-07-01"))
    assert [(iso(start), iso(end)) for start, end, _ in shifts] == [
        ("2026-06-01T12:00:00Z", "2026-06-01T17:00:00Z"),
        ("2026-06-02T09:00:00Z", "2026-06-02T17:00:00Z"),
        ("2026-06-03T09:00:00Z", "2026-06-03T12:00:00Z"),
    ]


def test_an_override_replaces_one_member_of_one_rotation_and_the_last_created_wins() -> None:
    day = parse_time("2026-06-01")
    both = event_of("2026-01-01T00:00:00", 24, "UTC", "FREQ=DAILY", ["PA", "PB"], 0)
    other = event_of("2026-01-01T00:00:00", 24, "UTC", "FREQ=DAILY", ["PA"])
    overrides = [
        override("O1", day + 6 * HOUR, day + 12 * HOUR, "PA", "PC"),
        override("O2", day + 9 * HOUR, day + 15 * HOUR, "PA", "PD"),
        override("O3", day + 6 * HOUR, day + 12 * HOUR, "PZ", "PE"),
    ]
    found = slots(schedule_of(both, other, overrides=overrides), day, day + DAY)
    mine = [slot for slot in found if slot.source["rotation_id"] == "R0"]
    replaced = [((s.start - day) / HOUR, (s.end - day) / HOUR, s.user, s.source.get("override_id")) for s in mine]
    assert replaced == [
        (0, 6, "PA", None),
        (0, 24, "PB", None),
        (6, 9, "PC", "O1"),
        (9, 15, "PD", "O2"),
        (15, 24, "PA", None),
    ]
    assert {slot.source["type"] for slot in mine} == {"schedule_rotation", "schedule_rotation_override"}
    assert [slot.user for slot in found if slot.source["rotation_id"] == "R1"] == ["PA"]


def test_a_custom_shift_adds_somebody_and_an_empty_member_covers_nothing() -> None:
    day = parse_time("2026-06-01")
    event = event_of("2026-06-01T00:00:00", 12, "UTC", "FREQ=HOURLY;INTERVAL=12", ["PA", ""])
    custom = {
        "id": "C1",
        "start_time": iso(day + 6 * HOUR),
        "end_time": iso(day + 15 * HOUR),
        "assignments": [{"member": member("PB")}],
    }
    schedule = schedule_of(event, customs=[custom])
    assert [slot.user for slot in slots(schedule, day, day + DAY)] == ["PA", "PB", ""]
    assert coverage_v3(slots(schedule, day, day + DAY), day, day + DAY) == 62.5
    assert [user for _, _, user in on_call(schedule, day + 7 * HOUR, day + 7 * HOUR + 1)] == ["PA", "PB"]
    filled = {**schedule, "overrides": [override("O1", day + 12 * HOUR, day + DAY, "", "PC")]}
    assert coverage_v3(slots(filled, day, day + DAY), day, day + DAY) == 100
    [swapped] = [
        slot
        for slot in slots(
            {**schedule, "overrides": [override("O2", day, day + DAY, "PB", "PD", custom_shift_id="C1")]},
            day,
            day + DAY,
        )
        if slot.user == "PD"
    ]
    assert swapped.source == {"type": "custom_shift_override", "shift_id": "C1", "override_id": "O2"}


def test_the_generated_rotas_cover_the_year_but_for_the_planted_empty_slot() -> None:
    for kind, holes in (("demo", ["Mobile rota"]), ("clean", [])):
        world = generate(7, NOW, kind=kind)
        window = (world.now - 365 * DAY, world.now + 365 * DAY)
        covered = {row["name"]: coverage_v3(slots(row, *window), *window) for row in world.v3}
        assert len(covered) >= 4
        assert [name for name, percent in covered.items() if percent < 100] == holes


def made(ask: Ask, path: str, body: Any, status: int = 201) -> Any:
    answer = ask("POST", path, body)
    assert answer.status_code == status, answer.text
    return answer.json()


EVENT = event_of("2026-12-01T09:00:00", 24, "Europe/London", "FREQ=DAILY", ["PUSR000", "PUSR001"])
EVENT["effective_since"] = "2026-11-01T00:00:00Z"


@pytest.fixture
def rota(ask: Ask) -> tuple[str, str]:
    """The paths of a new v3 schedule and of its rotation."""
    asked = {"name": "Mine", "time_zone": "Europe/London"}
    schedule = made(ask, "/v3/schedules", {"schedule": asked})["schedule"]
    path = f"/v3/schedules/{schedule['id']}"
    rotation = made(ask, f"{path}/rotations", None)["rotation"]
    return path, f"{path}/rotations/{rotation['id']}"


def final(ask: Ask, path: str, since: str, until: str, query: str = "") -> list[Document]:
    found = ask("GET", f"{path}?include[]=final_schedule&since={since}&until={until}{query}").json()["schedule"]
    rows: list[Document] = found["final_schedule"]["computed_shift_assignments"]
    return rows


def test_a_v3_schedule_is_built_of_rotations_and_events_and_rendered(ask: Ask, rota: tuple[str, str]) -> None:
    path, rotation = rota
    event = made(ask, f"{rotation}/events", {"event": EVENT})["event"]
    assert ask("GET", f"{rotation}/events/{event['id']}").json()["event"] == event
    assert ask("GET", rotation).json()["rotation"]["events"] == [event]
    assert event["start_time"] == {"date_time": "2026-12-01T09:00:00+00:00", "time_zone": "Europe/London"}
    # What would begin in the past begins now.
    assert abs(parse_time(event["effective_since"]) - AT) < 60
    rows = final(ask, path, "2026-12-01T12:00:00Z", "2026-12-02T12:00:00Z", "&time_zone=UTC")
    assert [(row["start_time"], row["end_time"], row["member"]["user_id"]) for row in rows] == [
        ("2026-12-01T12:00:00Z", "2026-12-02T09:00:00Z", "PUSR000"),
        ("2026-12-02T09:00:00Z", "2026-12-02T12:00:00Z", "PUSR001"),
    ]
    whole = final(ask, path, "2026-12-01T12:00:00Z", "2026-12-01T13:00:00Z", "&overflow=true")
    assert [row["start_time"] for row in whole] == ["2026-12-01T09:00:00+00:00"]
    assert "final_schedule" not in ask("GET", f"{path}?include[]=final_schedule").json()["schedule"]
    assert "final_schedule" not in ask("GET", f"{path}?since=2026-12-01").json()["schedule"]
    [listed] = ask("GET", "/v3/schedules?query=mine").json()["schedules"]
    assert listed["type"] == "schedule_v3_reference"
    assert set(listed) == {"id", "type", "summary", "self", "html_url"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"recurrence": []}, "event.recurrence"),
        ({"recurrence": ["RRULE:FREQ=DAILY", "RRULE:FREQ=WEEKLY"]}, "event.recurrence"),
        ({"recurrence": ["RRULE:FREQ=SECONDLY"]}, "event.recurrence"),
        ({"recurrence": ["RRULE:FREQ=DAILY;INTERVAL=7;BYDAY=WE"]}, "event.recurrence"),
        ({"recurrence": ["RRULE:FREQ=HOURLY"]}, "event.recurrence"),
        ({"recurrence": ["RRULE:FREQ=DAILY", "EXDATE;TZID=Mars/Base:20261201T090000"]}, "event.recurrence"),
        ({"end_time": EVENT["start_time"]}, "event.end_time"),
        ({"start_time": "2026-12-01T09:00:00Z"}, "event.start_time"),
        ({"start_time": {"date_time": "x", "time_zone": "Mars/Base"}}, "event.start_time.time_zone"),
        ({"effective_since": "2028-11-01T00:00:00Z"}, "event.effective_since"),
        (
            {"effective_since": "2026-12-02T00:00:00Z", "effective_until": "2026-12-01T00:00:00Z"},
            "event.effective_until",
        ),
        ({"assignment_strategy": {**EVENT["assignment_strategy"], "members": []}}, "event.assignment_strategy.members"),
        (
            {"assignment_strategy": {**EVENT["assignment_strategy"], "members": [member("PUSR000")] * 21}},
            "event.assignment_strategy.members",
        ),
        (
            {"assignment_strategy": {**EVENT["assignment_strategy"], "shifts_per_member": 0}},
            "event.assignment_strategy.shifts_per_member",
        ),
        (
            {"assignment_strategy": {**EVENT["assignment_strategy"], "members": [member("PNOBODY")]}},
            "event.assignment_strategy.members",
        ),
    ],
)
def test_an_event_that_cannot_be_is_refused_by_the_field_that_is_wrong(
    ask: Ask, sandbox: Sandbox, rota: tuple[str, str], change: Document, field: str
) -> None:
    before = copy.deepcopy(sandbox.world.v3)
    answer = ask("POST", f"{rota[1]}/events", {"event": {**EVENT, **change}})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == 2001
    assert field in error["errors"], error
    assert all(isinstance(text, str) for texts in error["errors"].values() for text in texts)
    assert sandbox.world.v3 == before


def test_a_rotation_holds_five_events_that_do_not_meet_and_a_schedule_ten_rotations(
    ask: Ask, rota: tuple[str, str]
) -> None:
    path, rotation = rota
    for number in range(5):
        start = f"2026-12-01T{number * 2:02d}:00:00"
        made(ask, f"{rotation}/events", {"event": event_of(start, 2, "UTC", "FREQ=DAILY", ["PUSR000"])})
        if number == 0:
            meeting = event_of("2026-12-01T01:00:00", 2, "UTC", "FREQ=DAILY", ["PUSR000"])
            refused = ask("POST", f"{rotation}/events", {"event": meeting})
            assert refused.json()["error"]["errors"] == {"rotation.events": ["cannot overlap"]}
    sixth = event_of("2026-12-01T20:00:00", 2, "UTC", "FREQ=DAILY", ["PUSR000"])
    assert "rotation.events" in ask("POST", f"{rotation}/events", {"event": sixth}).json()["error"]["errors"]
    for _ in range(9):
        made(ask, f"{path}/rotations", {})
    assert "schedule.rotations" in ask("POST", f"{path}/rotations", {}).json()["error"]["errors"]
    assert ask("DELETE", rotation).status_code == 204
    made(ask, f"{path}/rotations", {})
    assert ask("POST", f"{path}/rotations", {"name": "x"}).status_code == 400


def test_what_an_event_may_change_hangs_on_whether_it_has_begun(ask: Ask, rota: tuple[str, str]) -> None:
    future = {**EVENT, "effective_since": "2026-12-20T00:00:00Z"}
    path = f"{rota[1]}/events/{made(ask, f'{rota[1]}/events', {'event': future})['event']['id']}"
    changed = ask("PUT", path, {"event": {"name": "Renamed", "recurrence": ["RRULE:FREQ=DAILY;INTERVAL=2"]}})
    assert changed.json()["event"]["name"] == "Renamed"
    assert ask("GET", path).json()["event"]["recurrence"] == ["RRULE:FREQ=DAILY;INTERVAL=2"]
    assert ask("PUT", path, {"event": {"effective_since": "2026-01-01T00:00:00Z"}}).status_code == 200
    refused = ask("PUT", path, {"event": {"name": "Again", "effective_until": "2027-01-01T00:00:00Z"}})
    assert refused.json()["error"]["errors"] == {"event.name": ["cannot be changed once the event is active"]}
    ended = ask("PUT", path, {"event": {"effective_until": "2026-11-01T00:00:00Z"}})
    assert abs(parse_time(ended.json()["event"]["effective_until"]) - AT) < 60
    assert ask("PUT", path, {"event": {"effective_until": None}}).status_code == 400


def test_a_deleted_rotation_is_gone_and_stays_in_the_past(ask: Ask) -> None:
    path = "/v3/schedules/PV3S000"
    rotation = ask("GET", f"{path}/rotations").json()["rotations"][0]["id"]
    past, ahead = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"), ("2026-12-01T00:00:00Z", "2026-12-02T00:00:00Z")
    before = final(ask, path, *past)
    assert before
    assert final(ask, path, *ahead)
    assert ask("DELETE", f"{path}/rotations/{rotation}").status_code == 204
    for gone in ("", "/events"):
        assert ask("GET", f"{path}/rotations/{rotation}{gone}").status_code == 404
    assert ask("GET", f"{path}/rotations").json()["rotations"] == []
    assert ask("GET", path).json()["schedule"]["rotations"] == []
    assert final(ask, path, *past) == before
    assert final(ask, path, *ahead) == []


def test_a_deleted_event_is_gone(ask: Ask, rota: tuple[str, str]) -> None:
    for since in ("2026-01-01T00:00:00Z", "2026-12-20T00:00:00Z"):
        event = made(ask, f"{rota[1]}/events", {"event": {**EVENT, "effective_since": since}})["event"]
        assert ask("DELETE", f"{rota[1]}/events/{event['id']}").status_code == 204
        assert ask("GET", f"{rota[1]}/events/{event['id']}").status_code == 404
        assert ask("GET", f"{rota[1]}/events").json()["events"] == []


def test_rotations_are_not_taken_with_a_schedule(ask: Ask) -> None:
    body = {"schedule": {"name": "x", "time_zone": "UTC", "rotations": [], "escalation_policies": []}}
    for method, path in (("POST", "/v3/schedules"), ("PUT", "/v3/schedules/PV3S000")):
        error = ask(method, path, body).json()["error"]
        assert error["errors"] == {
            "schedule.rotations": ["is not permitted"],
            "schedule.escalation_policies": ["is not permitted"],
        }


def shift(start: float, hours: float, user: str) -> Document:
    return {
        "type": "custom_shift",
        "start_time": iso(start),
        "end_time": iso(start + hours * HOUR),
        "assignments": [{"type": "shift_assignment", "member": member(user)}],
    }


def test_custom_shifts_are_created_changed_and_deleted_as_far_as_they_have_not_begun(
    ask: Ask, rota: tuple[str, str]
) -> None:
    path = f"{rota[0]}/custom_shifts"
    asked = [shift(AT - HOUR, 4, "PUSR000"), shift(AT + DAY, 4, "PUSR001"), shift(AT - 9 * HOUR, 4, "PUSR002")]
    running, coming, over = (row["id"] for row in made(ask, path, {"custom_shifts": asked})["custom_shifts"])
    window = f"since={iso(AT)}&until={iso(AT + 2 * DAY)}"
    assert [row["id"] for row in ask("GET", f"{path}?{window}").json()["custom_shifts"]] == [running, coming]
    assert ask("GET", path).status_code == 400
    someone = {"custom_shift": {"assignments": [{"type": "shift_assignment", "member": member("PUSR005")}]}}
    changed = ask("PUT", f"{path}/{coming}", someone).json()["custom_shift"]
    assert changed["assignments"][0]["member"] == member("PUSR005")
    assert "custom_shift.assignments" in ask("PUT", f"{path}/{running}", someone).json()["error"]["errors"]
    later = {"custom_shift": {"end_time": iso(AT + 6 * HOUR)}}
    assert ask("PUT", f"{path}/{running}", later).status_code == 200
    assert parse_time(ask("GET", f"{path}/{running}").json()["custom_shift"]["end_time"]) == AT + 6 * HOUR
    assert ask("PUT", f"{path}/{over}", later).status_code == ask("DELETE", f"{path}/{over}").status_code == 400
    assert [ask("DELETE", f"{path}/{one}").status_code for one in (running, coming)] == [204, 204]
    assert ask("GET", f"{path}/{coming}").status_code == 404
    assert abs(parse_time(ask("GET", f"{path}/{running}").json()["custom_shift"]["end_time"]) - AT) < 60
    both = {**shift(AT, 1, "PUSR000"), "assignments": shift(AT, 1, "PUSR000")["assignments"] * 2}
    error = ask("POST", path, {"custom_shifts": [both]}).json()["error"]
    assert error["errors"] == {"custom_shift.assignments": ["must hold 1"]}


def test_v3_overrides_are_created_changed_and_deleted(ask: Ask) -> None:
    path = "/v3/schedules/PV3S001"
    [row, *_] = final(ask, path, "2026-12-01T15:00:00Z", "2026-12-01T16:00:00Z")
    asked = {
        "type": "override_shift",
        "rotation_id": row["source"]["rotation_id"],
        "start_time": "2026-12-01T15:00:00Z",
        "end_time": "2026-12-01T16:00:00Z",
        "overridden_member": row["member"],
        "overriding_member": member("PUSR005"),
    }
    [override] = made(ask, f"{path}/overrides", {"overrides": [asked]})["overrides"]

    def who() -> set[str]:
        rows = final(ask, path, "2026-12-01T15:00:00Z", "2026-12-01T16:00:00Z")
        assert {one["source"]["type"] for one in rows} == {"schedule_rotation_override"}
        return {one["member"]["user_id"] for one in rows}

    assert who() == {"PUSR005"}
    ask("PUT", f"{path}/overrides/{override['id']}", {"override": {"overriding_member": member("PUSR004")}})
    assert who() == {"PUSR004"}
    assert ask("GET", f"{path}/overrides/{override['id']}").json()["override"]["overriding_member"] == member("PUSR004")
    wrong = {"override": {"end_time": "2026-12-01T14:00:00Z"}}
    assert "override.end_time" in ask("PUT", f"{path}/overrides/{override['id']}", wrong).json()["error"]["errors"]
    assert ask("DELETE", f"{path}/overrides/{override['id']}").status_code == 204
    assert ask("GET", f"{path}/overrides/{override['id']}").status_code == 404
    assert final(ask, path, "2026-12-01T15:00:00Z", "2026-12-01T16:00:00Z") == [row]
    for sources in ({}, {"rotation_id": asked["rotation_id"], "custom_shift_id": "C"}):
        body = {"overrides": [{**{k: v for k, v in asked.items() if k != "rotation_id"}, **sources}]}
        assert "override.rotation_id" in ask("POST", f"{path}/overrides", body).json()["error"]["errors"]


def test_each_kind_of_schedule_says_where_the_other_is_found(ask: Ask) -> None:
    """PagerDuty's own MCP server reads the message of the 400, not its errors, to try the other kind."""
    v3 = ask("GET", "/schedules/PV3S000").json()["error"]["message"]
    assert v3 == "This is a shift-based schedule. Use the v3 Schedules API to access it."
    v2 = ask("GET", "/v3/schedules/PSCH000").json()["error"]["message"]
    assert v2 == "This is a layer-based schedule. Use the v2 Schedules API to access it."
    listed = {row["id"] for row in ask("GET", "/schedules?limit=100").json()["schedules"]}
    assert not listed & {row["id"] for row in ask("GET", "/v3/schedules").json()["schedules"]}


def test_v3_lists_have_limits_of_their_own(ask: Ask) -> None:
    assert ask("GET", "/v3/schedules").json()["limit"] == 100
    assert ask("GET", "/v3/schedules?limit=5000").json()["limit"] == 1000
    page = ask("GET", "/v3/schedules?limit=1&offset=1").json()
    assert ([row["id"] for row in page["schedules"]], page["more"]) == (["PV3S001"], True)


# v2


def test_a_preview_is_what_the_schedule_will_be_and_is_not_kept(ask: Ask, sandbox: Sandbox) -> None:
    layer = {
        "start": "2026-11-24T00:00:00Z",
        "rotation_virtual_start": "2026-11-24T00:00:00Z",
        "rotation_turn_length_seconds": DAY,
        "users": [{"user": {"id": user["id"], "type": "user_reference"}} for user in sandbox.world.users[:3]],
        "restrictions": [{"type": "daily_restriction", "start_time_of_day": "08:00:00", "duration_seconds": 9 * HOUR}],
    }
    body = {"schedule": {"type": "schedule", "name": "X", "time_zone": "Europe/London", "schedule_layers": [layer]}}
    window = "since=2026-11-24T00:00:00Z&until=2026-12-08T00:00:00Z"
    before = copy.deepcopy(sandbox.world)
    preview = ask("POST", f"/schedules/preview?{window}", body).json()["schedule"]
    assert sandbox.world == before
    entries = preview["final_schedule"]["rendered_schedule_entries"]
    assert len(entries) == 14
    assert preview["final_schedule"]["rendered_coverage_percentage"] == 37.5
    ask("PUT", "/schedules/PSCH000", body)
    sandbox.world.schedules[0]["overrides"] = []
    kept = ask("GET", f"/schedules/PSCH000?{window}").json()["schedule"]
    assert kept["final_schedule"]["rendered_schedule_entries"] == entries
    del body["schedule"]["time_zone"]
    assert ask("POST", "/schedules/preview", body).status_code == 400


def test_an_override_is_removed_ended_or_left_by_where_it_lies(ask: Ask) -> None:
    user = {"id": "PUSR000", "type": "user_reference"}
    path = "/schedules/PSCH000/overrides"
    spans = [(AT - HOUR, AT + HOUR), (AT + DAY, AT + DAY + HOUR)]
    body = {"overrides": [{"start": iso(start), "end": iso(end), "user": user} for start, end in spans]}
    running, coming = (row["override"]["id"] for row in made(ask, path, body))
    assert [ask("DELETE", f"{path}/{one}").status_code for one in (running, coming)] == [200, 204]
    assert ask("DELETE", f"{path}/{running}").status_code == 400
    assert ask("DELETE", f"{path}/{coming}").status_code == 404
    window = f"since={iso(AT - HOUR)}&until={iso(AT + 2 * DAY)}"
    left = {row["id"]: row for row in ask("GET", f"{path}?{window}").json()["overrides"]}
    assert coming not in left
    assert abs(parse_time(left[running]["end"]) - AT) < 60
    assert running not in {row["id"] for row in ask("GET", f"{path}?{window}&editable=true").json()["overrides"]}


def test_overrides_are_cut_at_the_window_unless_they_may_flow_over(ask: Ask) -> None:
    user, start, end = {"id": "PUSR000", "type": "user_reference"}, AT + 30 * DAY, AT + 31 * DAY
    path = "/schedules/PSCH000/overrides"
    made(ask, path, {"overrides": [{"start": iso(start), "end": iso(end), "user": user}]})
    window = f"since={iso(start + HOUR)}&until={iso(end - HOUR)}"
    [cut] = ask("GET", f"{path}?{window}").json()["overrides"]
    assert (cut["start"], cut["end"]) == (iso(start + HOUR), iso(end - HOUR))
    [whole] = ask("GET", f"{path}?{window}&overflow=true").json()["overrides"]
    assert (whole["start"], whole["end"]) == (iso(start), iso(end))


def test_a_list_of_schedules_shows_what_is_included_and_renders_it_for_a_window(ask: Ask) -> None:
    parts = {"schedule_layers", "overrides_subschedule", "final_schedule"}
    [bare] = ask("GET", "/schedules?limit=1").json()["schedules"]
    assert not parts & set(bare)
    [unrendered] = ask("GET", "/schedules?limit=1&include[]=schedule_layers").json()["schedules"]
    assert parts & set(unrendered) == {"schedule_layers"}
    assert {layer["rendered_coverage_percentage"] for layer in unrendered["schedule_layers"]} == {None}
    query = "/schedules?limit=1&include[]=final_schedule&since=2026-11-24&include_next_oncall_for_user="
    [rendered] = ask("GET", f"{query}{bare['users'][0]['id']}").json()["schedules"]
    assert rendered["final_schedule"]["rendered_schedule_entries"]
    assert rendered["next_oncall_for_user"]["user"]["id"] == bare["users"][0]["id"]


def test_another_time_zone_changes_how_a_schedule_is_told_and_not_what_it_is(ask: Ask) -> None:
    layer = {
        "start": "2026-11-01T00:00:00Z",
        "rotation_virtual_start": "2026-11-01T00:00:00Z",
        "rotation_turn_length_seconds": DAY,
        "users": [{"user": {"id": "PUSR000", "type": "user_reference"}}],
        "restrictions": [
            {
                "type": "weekly_restriction",
                "start_day_of_week": 1,
                "start_time_of_day": "20:00:00",
                "duration_seconds": 4 * HOUR,
            }
        ],
    }
    ask("PUT", "/schedules/PSCH000", {"schedule": {"time_zone": "UTC", "schedule_layers": [layer]}})
    window = "since=2026-11-20T00:00:00Z&until=2026-12-10T00:00:00Z"
    own, told = (
        ask("GET", f"/schedules/PSCH000?{window}{zone}").json()["schedule"] for zone in ("", "&time_zone=Asia/Kolkata")
    )
    assert [own["schedule_layers"][0]["start"], told["schedule_layers"][0]["start"]] == [
        "2026-11-01T00:00:00Z",
        "2026-11-01T05:30:00+05:30",
    ]
    assert told["schedule_layers"][0]["restrictions"][0] | {"duration_seconds": 0} == {
        "type": "weekly_restriction",
        "start_day_of_week": 2,
        "start_time_of_day": "01:30:00",
        "duration_seconds": 0,
    }
    times = [
        [parse_time(entry["start"]) for entry in one["final_schedule"]["rendered_schedule_entries"]]
        for one in (own, told)
    ]
    assert times[0] == times[1]
    assert times[0]


# Policies and on-calls


def test_a_policy_can_page_a_v3_schedule_and_new_incidents_find_who_is_on_it(ask: Ask, sandbox: Sandbox) -> None:
    target = {"id": "PV3S000", "type": "schedule_v3_reference"}
    rule = {"escalation_delay_in_minutes": 5, "targets": [target], "escalation_rule_assignment_strategy": "round_robin"}
    body = {"escalation_policy": {"name": "By shifts", "escalation_rules": [rule]}}
    policy = made(ask, "/escalation_policies", body)["escalation_policy"]
    assert policy["escalation_rules"][0]["targets"][0]["type"] == "schedule_v3_reference"
    assert policy["escalation_rules"][0]["escalation_rule_assignment_strategy"] == "round_robin"
    [now] = final(ask, "/v3/schedules/PV3S000", iso(AT), iso(AT + 1))
    [entry] = ask("GET", f"/oncalls?escalation_policy_ids[]={policy['id']}").json()["oncalls"]
    assert (entry["user"]["id"], entry["escalation_level"]) == (now["member"]["user_id"], 1)
    assert entry["schedule"]["type"] == "schedule_v3_reference"
    assert parse_time(entry["start"]) <= AT < parse_time(entry["end"])
    asked = {
        "title": "Down",
        "service": {"id": "PSVC000", "type": "service_reference"},
        "escalation_policy": {"id": policy["id"], "type": "escalation_policy_reference"},
    }
    incident = made(ask, "/incidents", {"incident": asked})["incident"]
    assert incident["assignments"][0]["assignee"]["id"] == now["member"]["user_id"]
    listed = ask("GET", "/v3/schedules/PV3S000").json()["schedule"]["escalation_policies"]
    assert policy["id"] in {row["id"] for row in listed}


def test_a_policy_is_deleted_unless_a_service_uses_it(ask: Ask, sandbox: Sandbox) -> None:
    used = sandbox.world.services[0]["escalation_policy"]["id"]
    refused = ask("DELETE", f"/escalation_policies/{used}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 2001)
    names = {
        row.id: ask("GET", f"/incidents/{row.id}").json()["incident"]["escalation_policy"]["id"]
        for row in sandbox.world.incidents[-20:]
    }
    using = {row["escalation_policy"]["id"] for row in sandbox.world.services}
    free = next(row["id"] for row in sandbox.world.policies if row["id"] not in using | set(names.values()))
    assert ask("DELETE", f"/escalation_policies/{free}").status_code == 204
    assert ask("GET", f"/escalation_policies/{free}").status_code == 404
    for schedule in sandbox.world.schedules:
        shown = ask("GET", f"/schedules/{schedule['id']}").json()["schedule"]["escalation_policies"]
        assert free not in {row["id"] for row in shown}
    # Whoever was paged by another still is.
    for identifier, policy in names.items():
        assert ask("GET", f"/incidents/{identifier}").json()["incident"]["escalation_policy"]["id"] == policy


def test_on_calls_cover_people_without_schedules_and_tell_whole_shifts(ask: Ask) -> None:
    direct = ask("GET", "/oncalls?schedule_ids[]=null&limit=100").json()["oncalls"]
    assert direct
    assert {(row["schedule"], row["start"], row["end"]) for row in direct} == {(None, None, None)}
    window = f"since={iso(AT)}&until={iso(AT + 20 * DAY)}"
    rows = ask("GET", f"/oncalls?schedule_ids[]=PV3S002&{window}&limit=100").json()["oncalls"]
    assert (
        len({row["user"]["id"] for row in rows if parse_time(row["start"]) <= AT + DAY < parse_time(row["end"])}) >= 1
    )
    assert min(parse_time(row["start"]) for row in rows) < AT
    first = ask("GET", f"/oncalls?schedule_ids[]=PV3S002&{window}&limit=100&earliest=true").json()["oncalls"]
    keys = [(row["escalation_policy"]["id"], row["escalation_level"], row["user"]["id"]) for row in first]
    assert len(keys) == len(set(keys))
    starts: dict[Any, float] = {}
    for row in rows:
        key = (row["escalation_policy"]["id"], row["escalation_level"], row["user"]["id"])
        starts[key] = min(starts.get(key, parse_time(row["start"])), parse_time(row["start"]))
    assert {key: parse_time(row["start"]) for key, row in zip(keys, first, strict=True)} == starts
    told = ask("GET", "/oncalls?schedule_ids[]=PV3S000&time_zone=Asia/Kolkata").json()["oncalls"]
    assert told[0]["start"].endswith("+05:30")


def test_calendar_addresses_are_secret_and_of_both_kinds(ask: Ask) -> None:
    schedule = ask("GET", "/v3/schedules/PV3S000", token=TOKENS["account"].value).json()["schedule"]
    assert schedule["http_cal_url"].startswith("https://")
    assert schedule["web_cal_url"] == schedule["http_cal_url"].replace("https://", "webcal://")
    assert schedule["self"] == "https://api.pagerduty.com/v3/schedules/PV3S000"


def window_of(since: float, days: float) -> str:
    return f"since={iso(since)}&until={iso(since + days * DAY)}"


PARTS = "limit=100&include[]=final_schedule&include[]=schedule_layers&include[]=overrides_subschedule&overflow=true"
BOUNDED = {
    f"/schedules?{PARTS}": 92,
    "/schedules/PSCH001?overflow=true": 400,
    "/schedules/PSCH001/users?": 400,
    "/v3/schedules/PV3S002?include[]=final_schedule&overflow=true": 400,
    "/oncalls?limit=100&include[]=schedules&include[]=users": 90,
}
"""Reads that are rendered for a window, and how many days it may have."""


@pytest.mark.parametrize(("path", "days"), BOUNDED.items())
def test_a_window_that_cannot_be_rendered_at_once_is_refused(ask: Ask, path: str, days: int) -> None:
    for low, high in (("1990-01-01", "2090-01-01"), ("1970-01-02", "2199-12-30"), ("1970-01-02", "1990-01-01")):
        answer = ask("GET", f"{path}&since={low}&until={high}")
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == 2001
    assert f"{days} days" in ask("GET", f"{path}&{window_of(AT - 500 * DAY, days + 1)}").json()["error"]["errors"][0]
    assert ask("GET", f"{path}&{window_of(AT - 500 * DAY, days)}").status_code == 200
    assert ask("GET", f"{path}&since=1970-01-02&until=1970-01-09").status_code == 200
    if not path.startswith("/oncalls"):
        assert ask("GET", f"{path}&since=2199-12-01&until=2199-12-30").status_code == 200


@pytest.mark.parametrize(("path", "days"), BOUNDED.items())
def test_the_widest_window_takes_neither_long_nor_much_memory(ask: Ask, path: str, days: int) -> None:
    ask("GET", "/schedules?limit=1")
    tracemalloc.start()
    try:
        answer = ask("GET", f"{path}&{window_of(AT - days * DAY / 2, days)}")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 200
    assert most < 60e6
    begun = time.process_time()
    ask("GET", f"{path}&{window_of(AT - days * DAY / 2 - DAY, days)}")
    assert time.process_time() - begun < 2


def test_a_preview_and_a_change_are_not_rendered_for_a_century_or_by_the_hour_for_a_year(
    ask: Ask, sandbox: Sandbox
) -> None:
    users = [{"user": {"id": user["id"], "type": "user_reference"}} for user in sandbox.world.users[:2]]
    begin = {"start": "2026-01-01T00:00:00Z", "rotation_virtual_start": "2026-01-01T00:00:00Z"}
    layer = {**begin, "rotation_turn_length_seconds": HOUR, "users": users}
    before = copy.deepcopy(sandbox.world.schedules)
    for method, path in (("POST", "/schedules/preview"), ("PUT", "/schedules/PSCH000")):
        for layers, days in (([layer], 36_500), ([layer], 401), ([layer] * 100, 400)):
            body = {"schedule": {"type": "schedule", "name": "X", "time_zone": "UTC", "schedule_layers": layers}}
            answer = ask(method, f"{path}?{window_of(AT, days)}", body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, 2001)
    assert sandbox.world.schedules == before


def test_the_overrides_of_a_deleted_rotation_are_gone_with_it_and_stay_in_the_past(ask: Ask) -> None:
    path = "/v3/schedules/PV3S000"
    rotation = ask("GET", f"{path}/rotations").json()["rotations"][0]["id"]
    [on] = final(ask, path, iso(AT - HOUR), iso(AT - HOUR / 2))
    spans = (AT - 2 * HOUR, AT + HOUR), (AT + 3 * DAY, AT + 4 * DAY)
    asked = [
        override("", low, high, on["member"]["user_id"], "PUSR005", rotation_id=rotation) | {"type": "override_shift"}
        for low, high in spans
    ]
    past, coming = made(ask, f"{path}/overrides", {"overrides": asked})["overrides"]
    window = window_of(AT - DAY, 30)
    listed = {row["id"] for row in ask("GET", f"{path}/overrides?{window}").json()["overrides"]}
    assert {past["id"], coming["id"]} <= listed
    assert "PUSR005" in {row["id"] for row in ask("GET", f"{path}?include[]=users").json()["schedule"]["users"]}
    before = final(ask, path, iso(AT - HOUR), iso(AT - HOUR / 2))
    assert [row["member"]["user_id"] for row in before] == ["PUSR005"]
    assert ask("DELETE", f"{path}/rotations/{rotation}").status_code == 204
    assert ask("GET", f"{path}/overrides?{window}").json()["overrides"] == []
    for gone in (past, coming):
        for method, body in (("GET", None), ("PUT", {"override": {}}), ("DELETE", None)):
            assert ask(method, f"{path}/overrides/{gone['id']}", body).status_code == 404
    assert ask("GET", f"{path}?include[]=users").json()["schedule"]["users"] == []
    assert final(ask, path, iso(AT - HOUR), iso(AT - HOUR / 2)) == before


def test_whoever_is_overridden_has_a_place_in_what_is_overridden(ask: Ask, rota: tuple[str, str]) -> None:
    path, rotation = rota
    made(ask, f"{rotation}/events", {"event": EVENT})
    custom = made(ask, f"{path}/custom_shifts", {"custom_shifts": [shift(AT + DAY, 4, "PUSR003")]})["custom_shifts"][0]
    sources = {"rotation_id": rotation.rpartition("/")[2]}, {"custom_shift_id": custom["id"]}

    def status(source: Document, old: str, new: str = "PUSR002") -> int:
        row = override("", AT + DAY, AT + 2 * DAY, old, new, **source) | {"type": "override_shift"}
        answer = ask("POST", f"{path}/overrides", {"overrides": [row]})
        if answer.status_code == 400:
            assert set(answer.json()["error"]["errors"]) == {"override.overridden_member"}
        return answer.status_code

    assert [status(sources[0], user) for user in ("PUSR000", "PUSR001")] == [201, 201]
    assert [status(sources[0], user) for user in ("PUSR003", "PUSR004", "")] == [400, 400, 400]
    assert [status(sources[1], user) for user in ("PUSR003", "PUSR000")] == [201, 400]
    # By an override one has a place, too.
    assert status(sources[0], "PUSR002", "PUSR004") == 201
    assert status(sources[1], "PUSR004") == 400
