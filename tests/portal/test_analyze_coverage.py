"""``manage.py analyze coverage`` on saved answers of the REST API."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

Row = dict[str, Any]
DAY = ("--since", "2026-11-23T00:00Z", "--until", "2026-11-24T00:00Z")


def analyze(*files: Path, options: tuple[str, ...] = DAY) -> tuple[Any, str]:
    """What it prints, as JSON, and what it notes about its input."""
    out, notes = StringIO(), StringIO()
    call_command("analyze", "coverage", "--json", "--input", *map(str, files), *options, stdout=out, stderr=notes)
    return json.loads(out.getvalue()), notes.getvalue()


def text(*files: Path) -> str:
    out = StringIO()
    call_command("analyze", "coverage", "--input", *map(str, files), *DAY, stdout=out)
    return out.getvalue()


def schedule(id: str, start: str, hours: int, **more: Any) -> Row:
    """On call every day from an hour on."""
    restriction = {"type": "daily_restriction", "start_time_of_day": start, "duration_seconds": hours * 3600}
    layer = {
        "id": "PLAYER1",
        "name": "Layer 1",
        "start": "2026-01-01T00:00:00Z",
        "end": None,
        "rotation_virtual_start": "2026-01-01T00:00:00Z",
        "rotation_turn_length_seconds": 86_400,
        "users": [{"user": {"id": "PUSER1", "type": "user_reference"}}],
        "restrictions": [restriction],
    }
    return {"id": id, "type": "schedule", "name": f"Rota {id}", "time_zone": "UTC", "schedule_layers": [layer]} | more


def policy(id: str, *schedules: str) -> Row:
    rules = [
        {"escalation_delay_in_minutes": 10, "targets": [{"id": name, "type": "schedule_reference", "summary": name}]}
        for name in schedules
    ]
    return {"id": id, "type": "escalation_policy", "name": f"Policy {id}", "escalation_rules": rules, "num_loops": 1}


def service(id: str, policy_id: str | None, status: str = "active") -> Row:
    escalation = {"id": policy_id, "type": "escalation_policy_reference"} if policy_id else None
    return {"id": id, "type": "service", "name": f"Service {id}", "status": status, "escalation_policy": escalation}


def saved(folder: Path, name: str, document: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A list, an answer of one, and the things themselves."""
    services = [
        service("PSV1", "PEP1"),
        service("PSV2", "PEP1", "disabled"),
        service("PSV3", None),
        service("PSV4", "PEP9"),
    ]
    return [
        saved(tmp_path, "schedules.json", {"schedules": [schedule("PS1", "00:00:00", 12)], "limit": 25, "more": False}),
        saved(tmp_path, "schedule.json", {"schedule": schedule("PS2", "06:00:00", 12)}),
        saved(tmp_path, "policy.json", {"escalation_policy": policy("PEP1", "PS1", "PS2")}),
        saved(tmp_path, "policies.json", {"escalation_policies": [policy("PEP2", "PS9")], "offset": 0}),
        saved(tmp_path, "services.json", services),
        saved(tmp_path, "users.json", {"users": [{"id": "PUSER1", "type": "user", "name": "Ann", "time_zone": "UTC"}]}),
    ]


def test_gaps_that_a_lower_level_covers_are_told_apart_from_those_of_nobody(files: list[Path]) -> None:
    told, notes = analyze(*files)
    assert told["window"] == {"start": "2026-11-23T00:00:00+00:00", "end": "2026-11-24T00:00:00+00:00"}
    first, second = told["schedules"]
    assert (first["id"], first["coverage_percent"], first["uncovered_minutes"]) == ("PS1", 50, 720)
    assert first["gaps"] == [{"start": "2026-11-23T12:00:00+00:00", "end": "2026-11-24T00:00:00+00:00"}]
    assert len(second["gaps"]) == 2
    assert first["quality"] == {
        "score": 75,
        "band": "good",
        "balance": 100,
        "overloaded": [],
        "hours": {"PUSER1": 12.0},
    }
    one, unknown = told["policies"]
    assert [(gap["start"][11:16], gap["kind"], gap["levels"], gap["reached_level"]) for gap in one["gaps"]] == [
        ("12:00", "lower", [1], 2),
        ("18:00", "nobody", [1, 2], None),
    ]
    assert (one["coverage_percent"], one["unreachable_minutes"], one["lower_level_minutes"]) == (75, 360, 360)
    assert one["next_gap"]["start"] == "2026-11-23T18:00:00+00:00"
    assert unknown["gaps"][0]["unknown"] == ["PS9"]
    assert "Policy PEP2: who is on call on PS9 is not known, and taken to be nobody." in notes


def test_services_are_told_through_their_policies(files: list[Path]) -> None:
    told = {row["id"]: row for row in analyze(*files)[0]["services"]}
    assert {id: row["standing"] for id, row in told.items()} == {
        "PSV1": "watched",
        "PSV2": "disabled",
        "PSV3": "no_policy",
        "PSV4": "unknown_policy",
    }
    assert (told["PSV1"]["unreachable_minutes"], told["PSV2"]["gaps"], told["PSV3"]["coverage_percent"]) == (360, [], 0)
    assert "gaps" not in told["PSV4"]


def test_people_read_the_same(files: list[Path]) -> None:
    lines = text(*files)
    assert "Rota PS1 (v2): 50.0 % covered, 1 gap, quality 75 (good)" in lines
    assert "2026-11-23T12:00:00+00:00  2026-11-23T18:00:00+00:00  level 2 alone" in lines
    assert "2026-11-23T18:00:00+00:00  2026-11-24T00:00:00+00:00  NOBODY" in lines
    assert "Service Service PSV2: disabled: creates no incidents" in lines


def test_a_document_of_bad_data_takes_nothing_from_the_others(tmp_path: Path, files: list[Path]) -> None:
    before = analyze(*files)[0]
    ending = schedule("PS3", "00:00:00", 12, time_zone="Nowhere/At All")
    ending["schedule_layers"][0] |= {
        "end": "2025-01-01T00:00:00Z",
        "rotation_turn_length_seconds": 0,
        "users": [{"user": None}],
    }
    worse = [ending, {"id": "PS4", "type": "schedule"}, {"id": 7, "type": "escalation_policy"}, None, "text"]
    told, notes = analyze(*files, saved(tmp_path, "bad.json", worse))
    assert told["policies"] == before["policies"]
    assert told["schedules"][:2] == before["schedules"]
    assert "unknown_zone" in notes
    assert "This is no document of an escalation policy: it has no id." in notes


def test_where_there_is_nothing_to_tell_it_says_so(tmp_path: Path) -> None:
    nothing: tuple[Any, ...] = ({}, {"incidents": []}, [], {"users": [{"id": "PUSER1", "type": "user"}]})
    for document in nothing:
        with pytest.raises(CommandError, match="neither a schedule nor an escalation policy"):
            analyze(saved(tmp_path, "none.json", document))


def test_every_recorded_schedule_is_told_and_the_one_of_version_1_refused(fixtures_dir: Path) -> None:
    paths = sorted(fixtures_dir.glob("schedule_*.json"))
    assert len(paths) > 10
    for path in paths:
        if path.name == "schedule_20.json":
            with pytest.raises(CommandError, match="version 1"):
                analyze(path)
            continue
        told, _ = analyze(path, options=())
        assert told["schedules"]
        for each in told["schedules"]:
            assert each["known"]
            assert (each["coverage_percent"] == 100) == (not each["gaps"])
    together, _ = analyze(
        *paths, *fixtures_dir.glob("escalation_policies_*.json"), *fixtures_dir.glob("services_*.json")
    )
    assert len(together["schedules"]) >= len(paths) - 1
    assert together["policies"]
    assert together["services"]
