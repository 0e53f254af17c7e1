"""``manage.py analyze load`` on saved answers of the REST API."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from integrations.pagerduty.sandbox.world import iso
from tests.integrations.test_worlds import DAY, NOW, account

Row = dict[str, Any]


def analyze(*files: Path, options: tuple[str, ...] = ()) -> tuple[Any, str]:
    """What it prints, as JSON, and what it notes about its input."""
    out, notes = StringIO(), StringIO()
    call_command("analyze", "load", "--json", "--input", *map(str, files), *options, stdout=out, stderr=notes)
    return json.loads(out.getvalue()), notes.getvalue()


def text(*files: Path) -> str:
    out = StringIO()
    call_command("analyze", "load", "--input", *map(str, files), stdout=out)
    return out.getvalue()


def saved(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def incident(id: str, created: str) -> Row:
    return {"id": id, "type": "incident", "created_at": created, "status": "triggered", "urgency": "high"}


def notified(id: str, of: str, when: str, user: str, way: str = "push") -> Row:
    return {
        "id": id,
        "type": "notify_log_entry",
        "created_at": when,
        "incident": {"id": of, "type": "incident_reference"},
        "user": {"id": user, "type": "user_reference", "summary": user.title()},
        "channel": {"type": "auto", "notification": {"type": f"{way}_notification"}},
    }


def on_call(user: str, start: str | None, end: str | None, level: int = 1, schedule: str | None = "PS1") -> Row:
    return {
        "user": {"id": user, "type": "user_reference", "summary": user.title()},
        "escalation_level": level,
        "escalation_policy": {"id": "PEP1", "type": "escalation_policy_reference"},
        "schedule": schedule and {"id": schedule, "type": "schedule_reference"},
        "start": start,
        "end": end,
    }


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Ann and Bo in turn, Cy always on the second level; Ann is told at 21:30 by her clock, and Dee of the same."""
    incidents = [incident("PI1", "2026-11-23T21:29:00Z")]
    entries = [
        notified("R1", "PI1", "2026-11-23T21:30:00Z", "ANN"),
        notified("R2", "PI1", "2026-11-23T21:30:30Z", "ANN", "sms"),
        notified("R3", "PI1", "2026-11-23T21:30:30Z", "BO", "email"),
        notified("R4", "PI1", "2026-11-23T21:40:00Z", "DEE", "phone"),
    ]
    calls = [
        on_call("ANN", "2026-11-23T00:00:00Z", "2026-11-24T00:00:00Z"),
        on_call("BO", "2026-11-24T00:00:00Z", "2026-11-24T12:00:00Z"),
        on_call("CY", None, None, 2, None),
    ]
    users = [
        {"id": id, "type": "user", "name": name, "time_zone": "Europe/London"}
        for id, name in (("ANN", "Ann Lee"), ("BO", "Bo Ek"), ("CY", "Cy Orr"))
    ]
    return [
        saved(tmp_path, "incidents.json", {"incidents": incidents, "limit": 25, "more": False}),
        saved(tmp_path, "log_entries.json", {"log_entries": entries}),
        saved(tmp_path, "oncalls.json", {"oncalls": calls, "limit": 25, "offset": 0, "more": False, "total": None}),
        # The same page twice is one.
        saved(tmp_path, "again.json", calls),
        saved(tmp_path, "users.json", {"users": users}),
    ]


def test_each_is_told_with_hours_pages_and_interruptions(files: list[Path]) -> None:
    told, notes = analyze(*files)
    # What on-call entries with both ends reach over.
    assert told["window"] == {"start": "2026-11-23T00:00:00+00:00", "end": "2026-11-24T12:00:00+00:00"}
    people = {row["user_id"]: row for row in told["people"]}
    assert {
        id: (row["name"], row["hours"], row["level_1_hours"], row["level_2_plus_hours"]) for id, row in people.items()
    } == {
        "ANN": ("Ann Lee", 24, 24, 0),
        "BO": ("Bo Ek", 12, 12, 0),
        "CY": ("Cy Orr", 36, 0, 36),
        "DEE": ("Dee", 0, 0, 0),
    }
    assert people["ANN"]["interruptions"] == {"all": 1, "business": 0, "off": 1, "sleep": 0}
    assert {id: row["pages"] for id, row in people.items()} == {"ANN": 1, "BO": 0, "CY": 0, "DEE": 1}
    assert people["CY"]["exceeds"] == ["On call 100 % of the time: Google's SRE book holds a quarter for the most."]
    assert (people["DEE"]["time_zone"], people["DEE"]["takes_turns"], people["ANN"]["earlier"]) == (None, False, None)
    assert sum(map(sum, told["heat"])) == told["heat"][0][21] == 2
    fairness = told["fairness"]["pages"]
    assert (fairness["gini"], fairness["most"]) == (None, None)
    assert "Only two people take turns" in fairness["not_told_because"]
    assert notes.strip() == "Of DEE no time zone is in it: their hours are told by the clock of UTC."


def test_the_hours_of_insights_begin_sleep_earlier(files: list[Path]) -> None:
    told, _ = analyze(*files, options=("--hours", "insights"))
    assert told["hours"] == "insights"
    [ann] = [row for row in told["people"] if row["user_id"] == "ANN"]
    assert (ann["interruptions"]["sleep"], ann["sleep_pages"], ann["nights_woken"]) == (1, 1, 1)


def test_a_window_may_be_asked_for_and_is_compared_with_what_was_before_it(files: list[Path]) -> None:
    options = ("--since", "2026-11-24T00:00", "--until", "2026-11-24T02:00", "--time-zone", "Europe/London")
    told, _ = analyze(*files, options=options)
    people = {row["user_id"]: row for row in told["people"]}
    assert set(people) == {"BO", "CY"}
    # Incidents are known since 21:29 of the day before: one time of two hours.
    assert people["CY"]["earlier"] == {"hours": 2, "pages": 0, "interruptions": 0, "sleep": 0}
    assert people["BO"]["earlier"] is None


def test_people_read_the_same(files: list[Path]) -> None:
    lines = text(*files)
    assert (
        "Ann Lee (ANN): 24.0 h on call (24.0 h on level 1), 1 pages, 0 of them in sleep hours, 0 nights woken" in lines
    )
    assert "interruptions: 0 in business, 1 in off and 0 in sleep hours; longest run 24.0 h, short rests 0" in lines
    assert lines.count("Only two people take turns on these schedules") == 1
    assert "Most interruptions: Mon 21:00 (2)" in lines


def test_what_is_missing_or_wrong_is_noted(tmp_path: Path, files: list[Path]) -> None:
    before = analyze(*files)[0]
    odd = [
        on_call("EVE", "2026-11-23T02:00:00Z", "2026-11-23T01:00:00Z"),
        {"user": None, "escalation_level": 1},
        on_call("EVE", "yesterday", None),
        {**on_call("EVE", None, None), "escalation_level": "1"},
    ]
    told, notes = analyze(*files, saved(tmp_path, "odd.json", {"oncalls": odd, "more": True}))
    assert told == before
    assert "An on-call entry of EVE does not end after it starts" in notes
    assert notes.count("has no user or no escalation_level") == 2
    assert "cannot be read as a time" in notes
    assert "last page is missing" not in notes
    alone = analyze(files[0], files[1], saved(tmp_path, "odd.json", {"oncalls": odd, "more": True}))
    assert "Of oncalls the last page is missing" in alone[1]
    assert "No on-call entry is in it (GET /oncalls)" in alone[1]
    assert {row["user_id"]: row["hours"] for row in alone[0]["people"]} == {"ANN": 0, "DEE": 0}
    with pytest.raises(CommandError, match="no incident"):
        analyze(files[2], files[4])


def test_a_fortnights_answers_come_to_what_pagerduty_counts(tmp_path: Path) -> None:
    world = account("demo")
    end = int(NOW.timestamp())
    window = f"since={iso(end - 14 * DAY)}&until={iso(end)}"
    answers = {
        "incidents": world.all(f"/incidents?{window}", "incidents"),
        "log_entries": world.all(f"/log_entries?{window}", "log_entries"),
        "oncalls": world.all(f"/oncalls?{window}", "oncalls"),
        "users": world.all("/users", "users"),
    }
    options = ("--since", iso(end - 14 * DAY), "--until", iso(end))
    told, notes = analyze(
        *(saved(tmp_path, f"{name}.json", {name: rows}) for name, rows in answers.items()), options=options
    )
    # Of an incident from before an entry is among them: it belongs to the time before.
    assert notes.strip().splitlines() == ["1 log entry is of incidents that are not in it, and left out."]
    [priya] = [row for row in told["people"] if row["user_id"] == world.truth["sleep_pages"]["user_id"]]
    assert told["people"][0] == priya
    for row in [priya, *told["people"][1:20:4]]:
        filters = {"date_range_start": options[1], "date_range_end": options[3], "responder_ids": [row["user_id"]]}
        answer = world.call("POST", "/analytics/metrics/responders/all", {"filters": filters}).json()
        [counted] = answer["data"]
        assert row["interruptions"] == {
            "all": counted["total_interruptions"],
            **{kind: counted[f"total_{kind}_hour_interruptions"] for kind in ("business", "off", "sleep")},
        }
        assert row["hours"] == round(counted["total_seconds_on_call"] / 3600, 2)
        assert row["level_1_hours"] == round(counted["total_seconds_on_call_level_1"] / 3600, 2)
