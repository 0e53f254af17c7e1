"""``manage.py analyze schedule`` on saved answers of the REST API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
DAY = ("--since", "2026-03-07T12:00-05:00", "--until", "2026-03-08T12:00-04:00")
"""In which New York's clock goes forward: 23 hours."""


def analyze(*files: Path, options: tuple[str, ...] = DAY) -> tuple[Any, str]:
    """What it prints, as JSON, and what it notes about its input."""
    out, notes = StringIO(), StringIO()
    call_command("analyze", "schedule", "--json", "--input", *map(str, files), *options, stdout=out, stderr=notes)
    return json.loads(out.getvalue()), notes.getvalue()


def layer(user: str, start: str, hours: int) -> Row:
    return {
        "id": f"P{user}",
        "name": f"{user}'s hours",
        "start": "2026-01-01T00:00:00-05:00",
        "end": None,
        "rotation_virtual_start": "2026-01-01T00:00:00-05:00",
        "rotation_turn_length_seconds": 86_400,
        "users": [{"user": {"id": user, "type": "user_reference"}}],
        "restrictions": [{"type": "daily_restriction", "start_time_of_day": start, "duration_seconds": hours * 3600}],
    }


def document(*layers: Row, **more: Any) -> Row:
    schedule = {"id": "PS", "type": "schedule", "name": "Primary", "time_zone": "America/New_York"}
    return {"schedule": {**schedule, "schedule_layers": list(layers), **more}}


def saved(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def test_it_prints_entries_gaps_and_the_share_that_is_covered(tmp_path: Path) -> None:
    path = saved(tmp_path, "one.json", document(layer("A", "22:00:00", 10), layer("B", "12:00:00", 12)))
    found, notes = analyze(path)
    assert found == {
        "entries": [
            {"start": "2026-03-07T12:00:00-05:00", "end": "2026-03-07T22:00:00-05:00", "user_ids": ["B"]},
            {"start": "2026-03-07T22:00:00-05:00", "end": "2026-03-08T08:00:00-04:00", "user_ids": ["A"]},
        ],
        "gaps": [{"start": "2026-03-08T08:00:00-04:00", "end": "2026-03-08T12:00:00-04:00"}],
        "coverage_percent": round(100 * 19 / 23, 2),
    }
    assert notes == ""


def test_entries_of_the_same_people_that_touch_are_one_whatever_puts_them_on_call(tmp_path: Path) -> None:
    path = saved(tmp_path, "one.json", document(layer("A", "12:00:00", 12), layer("A", "00:00:00", 13)))
    found, _ = analyze(path)
    assert [(row["start"], row["user_ids"]) for row in found["entries"]] == [("2026-03-07T12:00:00-05:00", ["A"])]
    assert (found["gaps"], found["coverage_percent"]) == ([], 100.0)


def test_times_are_told_in_the_zone_that_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, "one.json", document(layer("A", "00:00:00", 24)))
    options = ("--since", "2026-03-07T00:00", "--until", "2026-03-08T00:00", "--time-zone", "Tokyo")
    found, _ = analyze(path, options=options)
    assert found["entries"] == [
        {"start": "2026-03-07T00:00:00+09:00", "end": "2026-03-08T00:00:00+09:00", "user_ids": ["A"]}
    ]


def test_with_one_end_alone_the_window_is_two_weeks_and_with_neither_what_was_rendered(tmp_path: Path) -> None:
    rows = [
        {"start": "2026-03-01T00:00:00-05:00", "end": "2026-03-02T00:00:00-05:00", "user": {"id": "A"}},
        {"start": "2026-03-03T00:00:00-05:00", "end": "2026-03-04T00:00:00-05:00", "user": {"id": "A"}},
    ]
    final = {"name": "Final Schedule", "rendered_schedule_entries": rows}
    path = saved(tmp_path, "one.json", document(layer("A", "00:00:00", 24), final_schedule=final))

    def reach(*options: str) -> tuple[str, str]:
        [entry] = analyze(path, options=options)[0]["entries"]
        return entry["start"][:10], entry["end"][:10]

    assert reach("--since", "2026-06-01") == ("2026-06-01", "2026-06-15")
    assert reach("--until", "2026-06-15") == ("2026-06-01", "2026-06-15")
    assert reach() == ("2026-03-01", "2026-03-04")
    # And where PagerDuty's rendering names others, here nobody on the 2nd, that is said.
    assert "PagerDuty rendered other people for 24.0 hours" in analyze(path, options=())[1]


def test_overrides_are_read_from_an_answer_of_their_own(tmp_path: Path) -> None:
    one = saved(tmp_path, "one.json", document(layer("A", "00:00:00", 24)))
    row = {"id": "O", "start": "2026-03-07T14:00:00-05:00", "end": "2026-03-07T15:00:00-05:00", "user": {"id": "Z"}}
    other = saved(tmp_path, "overrides.json", {"overrides": [row]})
    assert [row["user_ids"] for row in analyze(one, other)[0]["entries"]] == [["A"], ["Z"], ["A"]]
    with pytest.raises(CommandError, match="beside one schedule alone"):
        analyze(one, one, other)


def test_several_schedules_are_told_together_and_each_by_itself(tmp_path: Path) -> None:
    rows = [document(layer("A", "00:00:00", 13))["schedule"], document(layer("B", "11:00:00", 13))["schedule"]]
    found, _ = analyze(saved(tmp_path, "list.json", {"schedules": rows, "limit": 25, "more": False}))
    assert [row["user_ids"] for row in found["entries"]] == [["A", "B"], ["B"], ["A"], ["A", "B"]]
    assert found["gaps"] == []
    assert [[row["user_ids"] for row in part["entries"]] for part in found["schedules"]] == [
        [["A"], ["A"]],
        [["B"], ["B"]],
    ]


def test_people_read_names_and_where_nobody_is(tmp_path: Path) -> None:
    users = [{"id": "A", "summary": "Ada \x1b[31mLovelace"}]
    path = saved(tmp_path, "one.json", document(layer("A", "22:00:00", 10), users=users))
    out = StringIO()
    call_command("analyze", "schedule", "--input", str(path), *DAY, stdout=out)
    assert "2026-03-07T12:00:00-05:00  2026-03-07T22:00:00-05:00  NOBODY" in out.getvalue()
    # What somebody wrote into a document does nothing to a terminal.
    assert "Ada \\x1b[31mLovelace (A)" in out.getvalue()
    assert "2 gaps; 39.13 % covered" in out.getvalue()


def test_what_is_wrong_inside_is_noted_and_the_rest_is_told(tmp_path: Path) -> None:
    bad = {**layer("A", "22:00:00", 10), "rotation_turn_length_seconds": 0}
    bad["users"] = [*bad["users"], {"user": None}]
    found, notes = analyze(saved(tmp_path, "one.json", document(bad, layer("B", "00:00:00", 24))))
    assert found["coverage_percent"] == 100.0
    for code in ("zero_turn", "null_user", "unreadable_turn"):
        assert f"({code})" in notes


def test_deleted_people_are_named_as_pagerduty_names_them_and_noted(tmp_path: Path) -> None:
    gone = layer("A", "00:00:00", 24)
    gone["users"][0]["user"] |= {"deleted_at": "2026-02-01T00:00:00Z", "summary": "Bo"}
    found, notes = analyze(saved(tmp_path, "one.json", document(gone)))
    assert [row["user_ids"] for row in found["entries"]] == [["A"]]
    assert "Bo was deleted" in notes


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", DAY, "holds no JSON"),
        ("[" * 100_000, DAY, "holds no JSON"),
        ('{"incidents": []}', DAY, "no schedule in it"),
        ('{"id": "P1", "type": "schedule_reference"}', DAY, "only a reference"),
        (json.dumps(document()), ("--since", "tomorrow"), "cannot be read as a time"),
        (json.dumps(document()), ("--since", "2026-03-02", "--until", "2026-03-01"), "must be after"),
        (json.dumps(document()), ("--time-zone", "Mars"), "no time zone named 'Mars'"),
    ],
)
def test_what_cannot_be_analysed_is_refused_in_words(
    tmp_path: Path, content: str, options: tuple[str, ...], said: str
) -> None:
    path = tmp_path / "one.json"
    path.write_text(content)
    out = StringIO()
    with pytest.raises(CommandError, match=said):
        call_command("analyze", "schedule", "--json", "--input", str(path), *options, stdout=out)
    assert said in json.loads(out.getvalue())["problem"]
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("analyze", "schedule", "--input", str(tmp_path / "none.json"), stdout=out)


def run(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", "analyze", "schedule", "--json", "--input", str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), check=False)


def test_every_recorded_schedule_is_analysed_and_one_of_version_1_refused(fixtures_dir: Path) -> None:
    for path in sorted(fixtures_dir.glob("schedule_*.json")):
        if path.name == "schedule_20.json":
            done = run(path)
            assert done.returncode == 1
            assert "version 1" in json.loads(done.stdout)["problem"]
            assert "version 1" in done.stderr
            assert "Traceback" not in done.stderr
            continue
        for options in (("--since", "2026-03-01T00:00Z", "--until", "2026-05-01T00:00Z"), ()):
            found, _ = analyze(path, options=options)
            assert {"entries", "gaps", "coverage_percent"} <= found.keys()
            # A pair of the same schedule, before and after it became shift-based.
            assert [part["kind"] for part in found.get("schedules", [])] == (
                ["v2", "v3"] if "pair" in path.name else []
            )


def test_with_json_standard_output_is_json_alone(fixtures_dir: Path) -> None:
    done = run(fixtures_dir / "schedule_06.json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["coverage_percent"] == 100.0
    assert "deleted" in done.stderr
