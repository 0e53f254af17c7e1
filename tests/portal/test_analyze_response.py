"""``manage.py analyze response`` on saved answers of the REST API."""

from __future__ import annotations

import datetime as dt
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from integrations.pagerduty.sandbox.documents import entry_document, incident_document
from integrations.pagerduty.sandbox.world import generate

Row = dict[str, Any]


def analyze(*files: Path, options: tuple[str, ...] = ()) -> tuple[Any, str]:
    """What it prints, as JSON, and what it notes about its input."""
    out, notes = StringIO(), StringIO()
    call_command("analyze", "response", "--json", "--input", *map(str, files), *options, stdout=out, stderr=notes)
    return json.loads(out.getvalue()), notes.getvalue()


def text(*files: Path) -> str:
    out = StringIO()
    call_command("analyze", "response", "--input", *map(str, files), stdout=out)
    return out.getvalue()


def saved(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def incident(id: str, created: str, resolved: str | None = None, **more: Any) -> Row:
    return {
        "id": id,
        "type": "incident",
        "created_at": created,
        "resolved_at": resolved,
        "status": "resolved" if resolved else "triggered",
        "urgency": "high",
        "service": {"id": "PSVC1", "type": "service_reference", "summary": "Checkout"},
        "escalation_policy": {"id": "PEP1", "type": "escalation_policy_reference", "summary": "Payments"},
        "teams": [],
    } | more


def entry(id: str, of: str, kind: str, at: str, **more: Any) -> Row:
    return {
        "id": id,
        "type": f"{kind}_log_entry",
        "created_at": at,
        "incident": {"id": of, "type": "incident_reference"},
        "agent": {"id": "PUSER1", "type": "user_reference", "summary": "Ada"},
        "channel": {"type": "auto"},
    } | more


INCIDENTS = [
    incident("Q1", "2026-03-01T10:00:00Z", "2026-03-01T10:30:00Z"),
    incident("Q2", "2026-03-01T11:00:00Z", "2026-03-01T12:00:00Z"),
    incident("Q3", "2026-03-02T00:30:00Z"),
]
ENTRIES = [
    entry("R1", "Q1", "trigger", "2026-03-01T10:00:00Z"),
    entry("R2", "Q1", "acknowledge", "2026-03-01T10:02:00Z"),
    entry("R3", "Q2", "trigger", "2026-03-01T11:00:00Z"),
    entry("R4", "Q2", "escalate", "2026-03-01T11:10:00Z", channel={"type": "timeout"}),
    entry("R5", "Q2", "acknowledge", "2026-03-01T11:15:00Z"),
    entry("R6", "Q3", "trigger", "2026-03-02T00:30:00Z"),
    entry("R7", "Q3", "escalate", "2026-03-02T00:40:00Z", channel={"type": "timeout"}),
]


def page(name: str, rows: list[Row], more: bool = False) -> Row:
    return {name: rows, "limit": 100, "offset": 0, "more": more, "total": None}


def test_pages_of_incidents_and_log_entries_are_counted(tmp_path: Path) -> None:
    document, notes = analyze(
        saved(tmp_path, "entries_2.json", page("log_entries", ENTRIES[3:])),
        saved(tmp_path, "incidents.json", page("incidents", INCIDENTS)),
        # Pages overlap where something was added in between.
        saved(tmp_path, "entries_1.json", page("log_entries", ENTRIES[:4], more=True)),
    )
    assert notes == ""
    assert document["window"] == {"start": "2026-03-01T10:00:00+00:00", "end": "2026-03-02T00:30:01+00:00"}
    # The last that is known: Q3 was passed on, and is waited for since 10 minutes.
    assert document["known_until"] == "2026-03-02T00:40:00+00:00"
    assert document["incidents"] == 3
    told = document["times"]["acknowledge"]
    # 120 Q1, 600 Q3 (not), 900 Q2. Left: 2/3, then none.
    assert (told["count"], told["happened"], told["median"]["seconds"], told["mean_of_happened"]) == (3, 2, 900, 510)
    assert (document["times"]["resolve"]["count"], document["times"]["resolve"]["happened"]) == (3, 2)
    first, second = document["levels"]
    assert (first["level"], first["reached"], first["answered"], first["median"]["seconds"]) == (1, 3, 1, None)
    # Q2 took 5 minutes there, and 15 in all; Q3 came to it at the last moment.
    assert (second["level"], second["reached"], second["answered"]) == (2, 2, 1)
    assert (second["median"]["seconds"], second["naive_mean"]) == (300, 900)
    assert document["slowest"] is None
    (policy,) = document["policies"]
    assert (policy["key"], policy["name"], policy["incidents"]) == ("PEP1", "Payments", 3)
    assert [level["level"] for level in policy["levels"]] == [1, 2]
    assert set(document["by"]) == {"level", "service", "team", "urgency", "priority", "hour"}
    assert [(row["key"], row["name"], row["incidents"]) for row in document["by"]["service"]] == [
        ("PSVC1", "Checkout", 3)
    ]
    assert [stage["stage"] for stage in document["waterfall"]] == ["notify", "acknowledge", "mobilise", "resolve"]


def test_the_hour_is_by_the_zone_asked_and_the_window_as_well(tmp_path: Path) -> None:
    file = saved(tmp_path, "all.json", {"incidents": INCIDENTS, "log_entries": ENTRIES})
    options = ("--since", "2026-03-01T12:00", "--until", "2026-03-02T12:00", "--time-zone", "Europe/Helsinki")
    document, _ = analyze(file, options=options)
    # Q1 is at 12:00 there, Q2 at 13:00 and Q3 at 2:30.
    assert [(row["key"], row["incidents"]) for row in document["by"]["hour"]] == [("2", 1), ("12", 1), ("13", 1)]
    document, _ = analyze(file, options=("--since", "2026-03-01T10:30Z", "--until", "2026-03-01T23:00Z"))
    assert document["incidents"] == 1


def test_single_answers_and_bare_rows_are_read_too(tmp_path: Path) -> None:
    with_incident = [{**row, "incident": INCIDENTS[1]} for row in ENTRIES[2:5]]
    document, notes = analyze(
        saved(tmp_path, "one.json", {"incident": INCIDENTS[0]}),
        saved(tmp_path, "rows.json", [*ENTRIES[:2], {"log_entry": with_incident[0]}, *with_incident[1:]]),
    )
    assert notes == ""
    # Q2 stands in its log entries alone.
    assert (document["incidents"], document["times"]["acknowledge"]["happened"]) == (2, 2)


def test_responders_are_told_by_the_incident(tmp_path: Path) -> None:
    joined = {
        "state": "joined",
        "user": {"id": "PUSER2", "type": "user_reference"},
        "requester": {"id": "PUSER1", "type": "user_reference"},
        "requested_at": "2026-03-01T10:03:00Z",
        "updated_at": "2026-03-01T10:08:00Z",
    }
    rows = [{**INCIDENTS[0], "incidents_responders": [joined]}]
    document, _ = analyze(saved(tmp_path, "all.json", {"incidents": rows, "log_entries": ENTRIES[:2]}))
    # The second came six minutes after the first had acknowledged.
    assert document["times"]["mobilise"]["median"]["seconds"] == 360


def test_what_is_missing_or_wrong_is_noted(tmp_path: Path) -> None:
    strange = [{**INCIDENTS[0], "id": f"Q{number}", "urgency": "severe"} for number in (7, 8, 9)]
    stray = [entry("R9", "Q99", "acknowledge", "2026-03-01T10:02:00Z"), {**ENTRIES[0], "created_at": "soon"}]
    document, notes = analyze(
        saved(tmp_path, "incidents.json", page("incidents", [*INCIDENTS, *strange], more=True)),
        saved(tmp_path, "entries.json", page("log_entries", [*ENTRIES[:2], *stray])),
        saved(tmp_path, "users.json", {"users": []}),
    )
    assert document["incidents"] == 6
    # Of the five others nothing is known but when they were made and ended.
    assert document["times"]["acknowledge"]["count"] == 1
    assert document["times"]["resolve"]["count"] == 6
    for words in (
        "Of incidents the last page is missing",
        "incident Q7, and 2 more like it: Its urgency is neither high nor low: it is read as high. (unknown_urgency)",
        "Log entry R1 has no created_at that can be read",
        "1 log entry is of incidents that are not in it, and left out.",
        "Of 5 incidents no log entry is in it: whether anybody answered is not known.",
        "What is neither an incident nor a log entry is left out.",
    ):
        assert words in notes


def test_where_there_is_no_incident_it_is_refused(tmp_path: Path) -> None:
    documents: tuple[Any, ...] = ({"log_entries": ENTRIES}, {"schedules": []}, 7, {"incidents": [{"id": "Q1"}]})
    for document in documents:
        with pytest.raises(CommandError):
            analyze(saved(tmp_path, "none.json", document))


def test_people_are_told_in_words(tmp_path: Path) -> None:
    said = text(saved(tmp_path, "all.json", {"incidents": INCIDENTS, "log_entries": ENTRIES}))
    assert "acknowledgement: median 15 min, 90 % within 15 min (2 min to ?), 2 of 3\n" in said
    assert "level 2: reached by 2, answered 1; median 5 min" in said
    assert "mean since creation of those answered there: 15 min" in said
    assert "Which level is slowest cannot be told: of too few is enough known." in said
    assert "Payments: 3 incidents" in said


def test_the_slow_level_of_a_simulated_account_is_told(tmp_path: Path) -> None:
    world = generate(7, dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC))
    some = world.incidents[::2]
    incidents = [incident_document(world, one) for one in some]
    entries = [
        entry_document(world, one, happening)
        for one in some
        for happening in one.happenings()
        if happening.type in ("trigger", "escalate", "acknowledge", "resolve")
    ]
    files = (
        saved(tmp_path, "incidents.json", page("incidents", incidents)),
        saved(tmp_path, "entries.json", page("log_entries", entries)),
    )
    document, notes = analyze(*files)
    assert notes == ""
    assert document["slowest"]["level"] == world.planted["slow_level"]["level"]
    assert document["slowest"]["sure"]
    assert "Slowest is level 2, clearly apart" in text(*files)


def test_recorded_answers_are_counted(tmp_path: Path, fixtures_dir: Path) -> None:
    document, _ = analyze(fixtures_dir / "incidents_06_faros.json", fixtures_dir / "log_entries_02_faros.json")
    # Three incidents of October 2021, nobody answered one of them.
    assert (document["incidents"], document["times"]["acknowledge"]["happened"]) == (3, 0)
    assert document["times"]["acknowledge"]["median"] == {"seconds": None, "low": None, "high": None}
