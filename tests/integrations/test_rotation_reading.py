"""PagerDuty's schedule documents, read: what is in order, what is named as a problem, and that nothing else suffers from it."""

from __future__ import annotations

import copy
import datetime as dt
import json
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.model import Schedule, Source, Span
from integrations.pagerduty.analysis.rotation import DEFAULT, Rules, differences, entries, render
from integrations.pagerduty.analysis.zones import RAILS, zone_of

Document = dict[str, Any]
DAY = 86_400


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


WEEK = Span(at("2026-06-01T00:00:00+00:00"), at("2026-06-08T00:00:00+00:00"))


def layer(name: str, people: list[str | None], /, **more: Any) -> Document:
    return {
        "id": name,
        "name": name,
        "start": "2026-01-05T00:00:00Z",
        "end": None,
        "rotation_virtual_start": "2026-01-05T00:00:00Z",
        "rotation_turn_length_seconds": DAY,
        "users": [{"user": user and {"id": user, "type": "user_reference"}} for user in people],
        "restrictions": [],
        **more,
    }


def v2(*layers: Document, **more: Any) -> Document:
    """``layers``: the winning one first, as PagerDuty answers them."""
    document = {"id": "S", "type": "schedule", "name": "Primary", "time_zone": "UTC", "schedule_layers": list(layers)}
    return {"schedule": {**document, **more}}


def event(users: list[str], **more: Any) -> Document:
    members = [{"type": "user_member", "user_id": user} if user else {"type": "empty_member"} for user in users]
    return {
        "id": "E",
        "name": "Days",
        "start_time": {"date_time": "2026-05-04T09:00:00", "time_zone": "UTC"},
        "end_time": {"date_time": "2026-05-04T17:00:00", "time_zone": "UTC"},
        "effective_since": "2026-05-04T00:00:00Z",
        "effective_until": None,
        "recurrence": ["RRULE:FREQ=DAILY"],
        "assignment_strategy": {
            "type": "rotating_member_assignment_strategy",
            "shifts_per_member": 1,
            "members": members,
        },
        **more,
    }


def v3(*events: Document, **more: Any) -> Document:
    rotations = [{"id": f"R{place}", "type": "schedule_rotation", "events": [row]} for place, row in enumerate(events)]
    return {
        "schedule": {
            "id": "S",
            "type": "schedule_v3",
            "name": "Rota",
            "time_zone": "UTC",
            "rotations": rotations,
            **more,
        }
    }


def hours(start: str, seconds: int, day: int = 0) -> Document:
    row = {"type": "daily_restriction", "start_time_of_day": start, "duration_seconds": seconds}
    return {**row, "type": "weekly_restriction", "start_day_of_week": day} if day else row


def codes(schedule: Schedule) -> set[str]:
    return {problem.code for problem in schedule.problems}


def on_call(schedule: Schedule, window: Span = WEEK, rules: Rules = DEFAULT) -> list[tuple[str, str, str]]:
    """Start, end (UTC, to the minute) and who."""
    found = entries(render(schedule, window, rules).slices)
    return [(shown(span.start), shown(span.end), "+".join(users)) for span, users in found]


def shown(moment: int) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%d %H:%M")


# In order


def test_layers_come_top_first_and_the_first_of_the_answer_wins() -> None:
    """PagerDuty answers the layer that wins first, and takes it last."""
    schedule = reading.schedule(v2(layer("Top", ["A"], restrictions=[hours("09:00:00", 3600)]), layer("Bottom", ["B"])))
    assert [each.name for each in schedule.layers] == ["Bottom", "Top"]
    assert on_call(schedule, Span(WEEK.start, WEEK.start + DAY)) == [
        ("01 00:00", "01 09:00", "B"),
        ("01 09:00", "01 10:00", "A"),
        ("01 10:00", "02 00:00", "B"),
    ]
    assert codes(schedule) == set()


def test_each_slice_says_what_puts_its_person_on_call() -> None:
    document = v2(layer("Top", ["A"], restrictions=[hours("09:00:00", 3600)]), layer("Bottom", ["B"]))
    rows = [{"id": "O1", "start": "2026-06-01T09:30:00Z", "end": "2026-06-01T11:00:00Z", "user": {"id": "C"}}]
    slices = render(reading.schedule(document, rows), Span(WEEK.start, WEEK.start + DAY)).slices
    assert [each.source for each in slices] == [
        Source("layer", "Bottom", "Bottom"),
        Source("layer", "Top", "Top"),
        Source("override", "O1"),
        Source("layer", "Bottom", "Bottom"),
    ]


def test_of_two_overrides_the_last_created_wins() -> None:
    rows = [
        {"id": "O1", "start": "2026-06-01T08:00:00Z", "end": "2026-06-01T12:00:00Z", "user": {"id": "C"}},
        {"id": "O2", "start": "2026-06-01T06:00:00Z", "end": "2026-06-01T10:00:00Z", "user": {"id": "D"}},
    ]
    schedule = reading.schedule(v2(layer("Layer", ["B"])), rows)
    assert on_call(schedule, Span(WEEK.start, WEEK.start + DAY)) == [
        ("01 00:00", "01 06:00", "B"),
        ("01 06:00", "01 10:00", "D"),
        ("01 10:00", "01 12:00", "C"),
        ("01 12:00", "02 00:00", "B"),
    ]


def test_overrides_that_were_rendered_into_the_document_are_read_where_no_others_are_given() -> None:
    row = {"start": "2026-06-01T08:00:00Z", "end": "2026-06-01T12:00:00Z", "user": {"id": "C"}}
    document = v2(
        layer("Layer", ["B"]), overrides_subschedule={"name": "Overrides", "rendered_schedule_entries": [row]}
    )
    assert ("01 08:00", "01 12:00", "C") in on_call(reading.schedule(document))
    assert ("01 08:00", "01 12:00", "C") not in on_call(reading.schedule(document, []))


def test_turns_before_the_virtual_start_count_backwards() -> None:
    document = v2(
        layer("Layer", ["A", "B", "C"], start="2026-06-01T00:00:00Z", rotation_virtual_start="2026-06-03T00:00:00Z")
    )
    assert [who for _, _, who in on_call(reading.schedule(document))] == ["B", "C", "A", "B", "C", "A", "B"]


def test_a_layer_is_on_from_its_start_to_its_end_alone() -> None:
    document = v2(layer("Layer", ["A"], start="2026-06-02T10:11:12Z", end="2026-06-04T00:00:00Z"))
    [only] = render(reading.schedule(document), WEEK).slices
    assert only[:2] == (at("2026-06-02T10:11:12+00:00"), at("2026-06-04T00:00:00+00:00"))


def test_a_weekly_turn_hands_over_at_the_same_hour_when_the_clock_has_changed() -> None:
    """As recorded of a schedule in Jerusalem: 14:00 UTC in December 2025, and 13:00 UTC in April 2026, both 16:00 there."""
    document = v2(
        layer(
            "Layer",
            ["A", "B", "B"],
            start="2025-12-03T16:00:00+02:00",
            rotation_virtual_start="2025-12-03T16:00:00+02:00",
            rotation_turn_length_seconds=7 * DAY,
        ),
        time_zone="Tel Aviv",
    )
    schedule = reading.schedule(document)
    assert schedule.zone == "Asia/Jerusalem"
    slices = render(schedule, Span(at("2025-12-03T14:00:00+00:00"), at("2026-05-01T00:00:00+00:00"))).slices
    clocks = {dt.datetime.fromtimestamp(each.start, dt.UTC).strftime("%m %H:%M") for each in slices}
    assert {clock for clock in clocks if clock[:2] in ("12", "04")} == {"12 14:00", "04 13:00"}
    # Two turns of a week by the same person are one entry of two weeks.
    assert {each.end - each.start for each in slices if each.user == "B"} >= {14 * DAY}


def test_several_people_are_on_call_at_once_in_a_v3_schedule() -> None:
    schedule = reading.schedule(
        v3(
            event(["A", "B"]),
            event(["C", "D"], assignment_strategy={
                "type": "every_member_assignment_strategy",
                "members": [{"type": "user_member", "user_id": user} for user in "CD"],
            }),
        )
    )  # fmt: skip
    assert codes(schedule) == set()
    assert [who for _, _, who in on_call(schedule)] == ["A+C+D", "B+C+D"] * 3 + ["A+C+D"]


def test_an_empty_members_shift_is_there_and_covers_nothing() -> None:
    schedule = reading.schedule(v3(event(["A", ""])))
    assert codes(schedule) == set()  # it is meant
    assert [each.user for each in render(schedule, WEEK).slices] == ["A", "", "A", "", "A", "", "A"]
    assert len(on_call(schedule)) == 4


def test_a_v3_override_replaces_one_person_of_one_rotation() -> None:
    override = {
        "id": "O1",
        "rotation_id": "R0",
        "start_time": "2026-06-01T10:00:00Z",
        "end_time": "2026-06-02T12:00:00Z",
        "overridden_member": {"type": "user_member", "user_id": "A"},
        "overriding_member": {"type": "user_member", "user_id": "Z"},
    }
    schedule = reading.schedule(v3(event(["A", "B"]), event(["A"]), overrides=[override]))
    assert on_call(schedule, Span(WEEK.start, WEEK.start + 2 * DAY)) == [
        ("01 09:00", "01 10:00", "A"),
        ("01 10:00", "01 17:00", "A+Z"),
        ("02 09:00", "02 17:00", "A+B"),
    ]


def test_dates_of_a_recurrence_can_be_left_out_and_added() -> None:
    row = event(["A"], recurrence=["RRULE:FREQ=WEEKLY;BYDAY=MO,TU", "EXDATE:20260602T090000", "RDATE:20260604T090000"])
    assert on_call(reading.schedule(v3(row))) == [("01 09:00", "01 17:00", "A"), ("04 09:00", "04 17:00", "A")]


def test_a_custom_shift_comes_on_top() -> None:
    shift = {
        "id": "C1",
        "type": "custom_shift",
        "start_time": "2026-06-01T16:00:00Z",
        "end_time": "2026-06-01T18:00:00Z",
        "assignments": [{"id": "X", "type": "shift_assignment", "member": {"type": "user_member", "user_id": "Z"}}],
    }
    schedule = reading.schedule(v3(event(["A"]), custom_shifts=[shift]))
    assert on_call(schedule)[:3] == [
        ("01 09:00", "01 16:00", "A"),
        ("01 16:00", "01 17:00", "A+Z"),
        ("01 17:00", "01 18:00", "Z"),
    ]


def test_what_holds_no_definition_is_told_by_what_pagerduty_rendered() -> None:
    row = {"start": "2026-06-01T08:00:00Z", "end": "2026-06-01T12:00:00Z", "user": {"id": "C"}}
    document = v2(final_schedule={"name": "Final Schedule", "rendered_schedule_entries": [row]})
    del document["schedule"]["schedule_layers"]
    rendering = render(reading.schedule(document), WEEK)
    assert [each.source.kind for each in rendering.slices] == ["rendered"]
    # And that nothing is known of the rest is said.
    assert "rendered_only" in {problem.code for problem in rendering.problems}


# Not in order


@pytest.mark.parametrize(
    ("code", "document"),
    [
        ("unknown_zone", v2(layer("Bad", ["A"]), time_zone="Mars/Olympus")),
        ("unknown_zone", v2(layer("Bad", ["A"]), time_zone="../../etc/passwd")),
        ("missing_field", v2(layer("Bad", ["A"]), time_zone=None)),
        ("null_user", v2(layer("Bad", ["A", None]))),
        ("null_user", v2(layer("Bad", ["A"], users=[{"user": {"id": ""}}]))),
        ("zero_turn", v2(layer("Bad", ["A", "B"], rotation_turn_length_seconds=0))),
        ("zero_turn", v2(layer("Bad", ["A", "B"], rotation_turn_length_seconds=-86400))),
        ("odd_turn", v2(layer("Bad", ["A", "B"], rotation_turn_length_seconds=10**30))),
        ("odd_turn", v2(layer("Bad", ["A", "B"], rotation_turn_length_seconds=1))),
        ("wrong_type", v2(layer("Bad", ["A", "B"], rotation_turn_length_seconds="86400"))),
        ("wrong_type", v2(layer("Bad", ["A", "B"], rotation_turn_length_seconds=True))),
        ("overlapping_restrictions", v2(layer("Bad", ["A"], restrictions=[hours("09:00", 7200), hours("10:00", 7200)]))),
        ("overlapping_restrictions", v2(layer("Bad", ["A"], restrictions=[hours("23:00", 7200, 7), hours("00:30", 60, 1)]))),
        ("ends_before_start", v2(layer("Bad", ["A"], end="2025-01-01T00:00:00Z"))),
        ("ends_before_start", v2(layer("Bad", ["A"], restrictions=[hours("09:00", 0)]))),
        ("ends_before_start", v2(overrides=[
            {"id": "O", "start": "2026-06-02T00:00:00Z", "end": "2026-06-01T00:00:00Z", "user": {"id": "A"}},
        ])),
        ("too_many_layers", v2(*(layer(f"L{number}", ["A"]) for number in range(61)))),
        ("missing_field", v2({"id": "Bad", "name": "Bad"})),
        ("no_users", v2(layer("Bad", []))),
        ("wrong_type", v2(layer("Bad", ["A"], users="A"))),
        ("wrong_type", v2(layer("Bad", ["A"], users=["A"]))),
        ("wrong_type", v2(layer("Bad", ["A"], users=[{"user": "A"}]))),
        ("wrong_type", v2(schedule_layers={"0": {}})),
        ("wrong_type", v2(schedule_layers=["layer"])),
        ("unreadable_time", v2(layer("Bad", ["A"], start="the day before yesterday"))),
        ("unreadable_time", v2(layer("Bad", ["A"], end="9999-12-31T23:59:59-12:00"))),
        ("wrong_type", v2(layer("Bad", ["A"], start=1767225600))),
        ("wrong_day", v2(layer("Bad", ["A"], restrictions=[{**hours("09:00", 60, 1), "start_day_of_week": 8}]))),
        ("wrong_type", v2(layer("Bad", ["A"], restrictions=[{**hours("09:00", 60), "type": "monthly_restriction"}]))),
        ("unreadable_restriction", v2(layer("Bad", ["A"], restrictions=[hours("25:00", 60)]))),
        ("long_restriction", v2(layer("Bad", ["A"], restrictions=[hours("09:00", 10 * DAY)]))),
        ("no_definition", {"schedule": {"id": "S", "type": "schedule", "time_zone": "UTC"}}),
        ("unknown_zone", v3(event(["A"]), time_zone="Mars/Olympus")),
        ("unknown_zone", v3(event(["A"], start_time={"date_time": "2026-05-04T09:00:00", "time_zone": "Mars"}))),
        ("ends_before_start", v3(event(["A"], end_time={"date_time": "2026-05-04T09:00:00", "time_zone": "UTC"}))),
        ("ends_before_start", v3(event(["A"], effective_until="2026-01-01T00:00:00Z"))),
        ("zero_turn", v3(event(["A"], assignment_strategy={**event(["A"])["assignment_strategy"], "shifts_per_member": 0}))),
        ("unreadable_recurrence", v3(event(["A"], recurrence=[]))),
        ("unreadable_recurrence", v3(event(["A"], recurrence=["RRULE:FREQ=NEVER"]))),
        ("unreadable_recurrence", v3(event(["A"], recurrence="RRULE:FREQ=DAILY"))),
        ("unreadable_recurrence", v3(event(["A"], recurrence=["RRULE:FREQ=DAILY;INTERVAL=7;BYDAY=TU"]))),
        ("no_users", v3(event([]))),
        ("null_user", v3(event(["A"], assignment_strategy={
            "type": "rotating_member_assignment_strategy", "members": [{"type": "user_member"}],
        }))),
        ("unknown_strategy", v3(event(["A"], assignment_strategy={"type": "lottery", "members": []}))),
        ("missing_field", v3(event(["A"]), overrides=[{
            "id": "O", "start_time": "2026-06-01T00:00:00Z", "end_time": "2026-06-02T00:00:00Z",
        }])),
        ("no_definition", {"schedule": {"id": "S", "type": "schedule_v3", "time_zone": "UTC"}}),
    ],
)  # fmt: skip
def test_bad_data_is_named_and_the_rest_is_read(code: str, document: Document) -> None:
    schedule = reading.schedule(document)
    assert code in codes(schedule)
    assert all(problem.words.endswith(".") for problem in schedule.problems)
    render(schedule, WEEK, with_layers=True)
    # A good layer, or rotation, beside it is on as if it were alone.
    beside = copy.deepcopy(document)
    inner = beside["schedule"]
    if inner.get("time_zone") == "UTC" and code != "too_many_layers":
        if inner["type"] == "schedule":
            given = inner.get("schedule_layers")
            inner["schedule_layers"] = [layer("Good", ["G"]), *(given if isinstance(given, list) else [])]
        else:
            inner["rotations"] = [*(inner.get("rotations") or []), {"id": "G", "events": [event(["G"])]}]
        slices = [each for each in render(reading.schedule(beside), WEEK).slices if each.user == "G"]
        days = 7 if inner["type"] == "schedule_v3" else 1
        assert len(slices) == days


def test_where_in_doubt_a_layer_is_read_as_covering_less() -> None:
    """A layer whose restrictions cannot be read would be on always without them, and one without a length of turns has no
    next.
    """
    unreadable = [{"type": "daily_restriction", "start_time_of_day": "nine", "duration_seconds": 3600}]
    for bad in (
        layer("Bad", ["A"], restrictions=unreadable),
        layer("Bad", ["A"], end="some day"),
        layer("Bad", ["A", "B"], rotation_turn_length_seconds=0),
    ):
        assert render(reading.schedule(v2(bad)), WEEK).slices == ()
    # Of one person it does not matter how long turns are.
    assert len(on_call(reading.schedule(v2(layer("Odd", ["A"], rotation_turn_length_seconds=0))))) == 1


def test_nobodys_turn_hides_the_layer_below_it() -> None:
    schedule = reading.schedule(v2(layer("Top", ["A", None]), layer("Bottom", ["B"])))
    assert {who for _, _, who in on_call(schedule)} == {"A"}
    assert "" in {each.user for each in render(schedule, WEEK).slices}


def test_a_deleted_user_is_nobody_and_is_named() -> None:
    document = v2(layer("Layer", ["A", "B"]))
    document["schedule"]["schedule_layers"][0]["users"][1]["user"] |= {
        "deleted_at": "2026-01-01T00:00:00Z",
        "summary": "Bo",
    }
    schedule = reading.schedule(document)
    [problem] = schedule.problems
    assert (problem.code, problem.words[:15]) == ("deleted_user", "Bo was deleted,")
    assert {who for _, _, who in on_call(schedule)} == {"A"}
    assert {who for _, _, who in on_call(schedule, rules=Rules(deleted_users="shown"))} == {"A", "B"}


def test_a_document_that_was_asked_for_without_the_schedules_zone_is_noticed() -> None:
    """Its restrictions are then by another clock, and carry no offset that would say so: silently wrong by hours."""
    told = layer("Office", ["A"], restrictions=[hours("09:00:00", 8 * 3600)])
    own = {"start": "2026-01-05T09:00:00-05:00", "rotation_virtual_start": "2026-01-05T09:00:00-05:00"}
    assert codes(reading.schedule(v2({**told, **own}, time_zone="America/New_York"))) == set()
    [problem] = reading.schedule(v2(told, time_zone="America/New_York")).problems
    assert (problem.code, problem.where) == ("other_zone", "Office")
    assert "time_zone" in problem.words
    # Where nothing is by the clock alone, nothing is wrong.
    assert codes(reading.schedule(v2(layer("Always", ["A"]), time_zone="America/New_York"))) == set()


def test_restrictions_are_by_the_clock_of_the_schedules_zone() -> None:
    own = {"start": "2026-01-05T09:00:00+10:00", "rotation_virtual_start": "2026-01-05T09:00:00+10:00"}
    document = v2(layer("Office", ["A"], restrictions=[hours("09:00:00", 3600)], **own), time_zone="Australia/Brisbane")
    assert on_call(reading.schedule(document))[0] == ("01 23:00", "02 00:00", "A")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "schedule",
        {},
        {"schedule": []},
        {"schedule": {"type": "user", "id": "P1"}},
        {"id": "P1", "type": "schedule_reference", "summary": "Primary"},
        {"id": "P1", "type": "schedule_v3_reference", "summary": "Rota"},
        {"incidents": []},
    ],
)
def test_what_is_no_schedule_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"schedule"):
        reading.schedule(document)


def test_rails_names_of_zones_are_read_and_unknown_ones_refused() -> None:
    assert zone_of("Eastern Time (US & Canada)").key == "America/New_York"
    assert zone_of("Asia/Kolkata").key == "Asia/Kolkata"
    assert all(zone_of(name) for name in RAILS)
    for name in ("", "Mars", "/etc/passwd", "America", "\x00", "\ud800", "x" * 10_000):
        with pytest.raises(ValueError, match="no time zone"):
            zone_of(name)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["2026-06-01T00:00:00Z",
    "UTC"]), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(data=st.data(), shift_based=st.booleans(), changes=st.integers(1, 4))
def test_no_document_whatever_is_inside_raises_anything(data: st.DataObject, shift_based: bool, changes: int) -> None:
    """Parts of a good document are put into others' places, taken out, or become whatever JSON can say."""
    row = {"id": "O", "start": "2026-06-01T00:00:00Z", "end": "2026-06-02T00:00:00Z", "user": {"id": "A"}}
    final = {"name": "Final Schedule", "rendered_schedule_entries": [row]}
    restricted = layer("Top", ["A", "B"], restrictions=[hours("09:00:00", 3600), hours("09:00:00", 3600, 3)])
    document = v2(restricted, layer("Bottom", ["C"]), final_schedule=final, overrides_subschedule=final)
    if shift_based:
        document = v3(event(["A", "B"]), event(["", "C"]), custom_shifts=[
            {"id": "C", "start_time": row["start"], "end_time": row["end"], "assignments": [{"member": {"user_id": "A"}}]}
        ], overrides=[{
            "id": "O", "rotation_id": "R0", "start_time": row["start"], "end_time": row["end"],
            "overridden_member": {"type": "user_member", "user_id": "A"}, "overriding_member": {"type": "empty_member"},
        }])  # fmt: skip
    document = copy.deepcopy(document["schedule"])
    for _ in range(changes):
        places = list(_places(document))
        inside, key = data.draw(st.sampled_from(places))
        inside[key] = data.draw(_JSON | st.sampled_from([copy.deepcopy(each[name]) for each, name in places]))
    try:
        schedule = reading.schedule(document)
    except ValueError:
        return
    render(schedule, WEEK, with_layers=True)
    differences(schedule)


def _places(value: Any) -> Any:
    """Every place in it but the kind of document that it is."""
    for key in value if isinstance(value, dict) else range(len(value)):
        if key != "type" or "time_zone" not in value:
            yield value, key
        if isinstance(value[key], dict | list):
            yield from _places(value[key])


# Recorded


def test_the_fixtures_hold_where_they_carry_a_definition_and_its_outcome(fixtures_dir: Path) -> None:
    """Two do. 01 is an example of PagerDuty's documentation: its layer's and its final entry are of two days, as two answers
    put into one, so each is held against the day that it is of. 21 is one too, of a v3 schedule, with one entry.

    The others can only be read, not compared: in 03, 05 to 09, 12 and 13 the rendered entries are empty, as they were asked
    for without a window, and 02, 15, 17 and 19 are definitions alone. 20 is of version 1.
    """
    told = json.loads((fixtures_dir / "schedule_01.json").read_text())
    schedule = reading.schedule(told)
    entry = told["schedule"]["schedule_layers"][0]["rendered_schedule_entries"][0]
    for start, end in ((entry["start"], entry["end"]), ("2015-11-10T08:00:00-05:00", "2015-11-10T17:00:00-05:00")):
        day = at(start) - 8 * 3600
        [only] = render(schedule, Span(day, day + DAY)).slices
        assert (only.start, only.end, only.user) == (at(start), at(end), "PXPGF42")
        # "rendered_coverage_percentage" of both.
        assert (only.end - only.start) / DAY == 0.375
    assert differences(schedule) == ()
    pair = json.loads((fixtures_dir / "schedule_21_v3_docs_pair.json").read_text())
    shifts = reading.schedule(pair["v3"])
    assert len(shifts.rendered) == 1
    assert differences(shifts) == ()
    whole_day = Span(at("2026-04-29T00:00:00-07:00"), at("2026-04-30T00:00:00-07:00"))
    assert [each[:3] for each in render(shifts, whole_day).slices] == [each[:3] for each in shifts.rendered]


def test_the_fixtures_that_can_only_be_read_are_read(fixtures_dir: Path) -> None:
    read: dict[str, Schedule] = {}
    for path in sorted(fixtures_dir.glob("schedule_*.json")):
        document = json.loads(path.read_text())
        if path.name == "schedule_20.json":
            with pytest.raises(ValueError, match="version 1"):
                reading.schedule(document)
            continue
        parts = document.get("schedules") or [document.get("v2"), document.get("v3")]
        for each in [part for part in parts if part] or [document]:
            read[path.name[9:11]] = schedule = reading.schedule(each)
            render(schedule, WEEK, with_layers=True)
    assert {name: codes(schedule) for name, schedule in read.items() if codes(schedule)} == {
        "06": {"deleted_user"},
        "12": {"wrong_day"},  # Sunday as 0
        "17": {"overlapping_restrictions"},
    }
    # Turns from before the virtual start, and restrictions from Saturday to Monday.
    assert read["17"].layers[-1].virtual_start > read["17"].layers[-1].start
    assert on_call(read["12"], Span(at("2026-06-07T00:00:00-07:00"), at("2026-06-08T00:00:00-07:00"))) == [
        ("07 16:00", "08 04:00", "U3BLAKE")
    ]


# Differences


def test_a_rendering_that_differs_from_pagerdutys_is_told_by_when_and_who() -> None:
    entry = {"start": "2026-06-01T00:00:00Z", "end": "2026-06-02T00:00:00Z", "user": {"id": "A"}}
    other = {"start": "2026-06-02T06:00:00Z", "end": "2026-06-03T00:00:00Z", "user": {"id": "Z"}}
    final = {"name": "Final Schedule", "rendered_schedule_entries": [entry, other]}
    schedule = reading.schedule(v2(layer("Layer", ["A"]), final_schedule=final))
    found = [
        (each.span.start - WEEK.start, each.span.seconds, each.ours, each.theirs) for each in differences(schedule)
    ]
    assert found == [(DAY, DAY // 4, ("A",), ()), (DAY + DAY // 4, DAY * 3 // 4, ("A",), ("Z",))]


# Switches


def restricted(**more: Any) -> Schedule:
    return reading.schedule(v2(layer("Layer", ["A", "B", "C"], restrictions=[hours("09:00", 8 * 3600)], **more)))


def test_idle_turns_are_counted_or_skipped() -> None:
    nights = restricted(rotation_turn_length_seconds=DAY // 2, rotation_virtual_start="2026-01-05T20:00:00Z")
    counted = [who for _, _, who in on_call(nights)]
    skipped = [who for _, _, who in on_call(nights, rules=Rules(idle_turns="skipped"))]
    # Each second turn is outside of the restricted hours: by the clock it uses up somebody's place.
    assert counted == ["B", "A", "C", "B", "A", "C", "B"] or len(set(counted)) == 3
    assert [("ABC".index(b) - "ABC".index(a)) % 3 for a, b in pairwise(counted)] == [2] * 6
    assert [("ABC".index(b) - "ABC".index(a)) % 3 for a, b in pairwise(skipped)] == [1] * 6


def test_a_handoff_inside_restricted_hours_splits_them_or_waits() -> None:
    noon = restricted(rotation_virtual_start="2026-01-05T12:00:00Z")
    assert len(on_call(noon)) == 14
    whole = on_call(noon, rules=Rules(handoff_inside_restriction="whole"))
    assert [(start[3:], end[3:]) for start, end, _ in whole] == [("09:00", "17:00")] * 7
    assert [who for _, _, who in whole] == [who for start, _, who in on_call(noon) if start.endswith("09:00")]


def test_overlapping_restrictions_are_united_or_the_first_holds() -> None:
    both = [hours("09:00", 4 * 3600), hours("12:00", 4 * 3600)]
    schedule = reading.schedule(v2(layer("Layer", ["A"], restrictions=both)))
    assert on_call(schedule)[0] == ("01 09:00", "01 16:00", "A")
    assert on_call(schedule, rules=Rules(overlapping_restrictions="first"))[0] == ("01 09:00", "01 13:00", "A")


def test_turns_of_the_same_person_are_joined_or_apart() -> None:
    schedule = reading.schedule(v2(layer("Layer", ["A"])))
    assert len(render(schedule, WEEK).slices) == 1
    assert len(render(schedule, WEEK, Rules(adjacent_turns="apart")).slices) == 7


def _half_days(zone: str, start: str) -> Schedule:
    return reading.schedule(
        v2(
            layer(
                "Layer", ["A", "B"], start=start, rotation_virtual_start=start, rotation_turn_length_seconds=DAY // 2
            ),
            time_zone=zone,
        )
    )


def test_half_days_hand_over_by_the_clock_or_after_twelve_hours() -> None:
    schedule = _half_days("Europe/London", "2026-03-20T08:00:00+00:00")
    window = Span(at("2026-03-30T00:00:00+00:00"), at("2026-03-31T00:00:00+00:00"))
    assert [start for start, _, _ in on_call(schedule, window)[1:]] == ["30 07:00", "30 19:00"]
    elapsed = Rules(sub_day_turns="elapsed")
    assert [start for start, _, _ in on_call(schedule, window, elapsed)[1:]] == ["30 08:00", "30 20:00"]


def test_a_handoff_at_an_hour_that_is_left_out_moves_on_or_waits_for_the_clock() -> None:
    schedule = _half_days("Europe/London", "2026-03-20T01:30:00+00:00")
    window = Span(at("2026-03-29T00:00:00+00:00"), at("2026-03-29T12:00:00+00:00"))
    assert on_call(schedule, window)[1][0] == "29 01:30"
    assert on_call(schedule, window, Rules(missing_handoff="first_after"))[1][0] == "29 01:00"


def test_a_handoff_at_an_hour_that_comes_twice_is_at_the_first_or_the_second() -> None:
    schedule = _half_days("Europe/London", "2026-10-20T01:30:00+01:00")
    window = Span(at("2026-10-25T00:00:00+00:00"), at("2026-10-25T12:00:00+00:00"))
    assert on_call(schedule, window)[1][0] == "25 00:30"
    assert on_call(schedule, window, Rules(repeated_handoff="second"))[1][0] == "25 01:30"


def test_a_window_can_be_cut_anywhere_without_a_change_of_what_is_in_it() -> None:
    rng = random.Random(7)
    schedule = reading.schedule(
        v2(layer("Top", ["A", "B"], restrictions=[hours("22:00", 10 * 3600)]), layer("Bottom", ["C", "D"]))
    )
    whole = entries(render(schedule, WEEK).slices)
    for rules in (Rules(), Rules(handoff_inside_restriction="whole"), Rules(idle_turns="skipped")):
        whole = entries(render(schedule, WEEK, rules).slices)
        for _ in range(20):
            cut = rng.randrange(WEEK.start + 1, WEEK.end)
            parts = [render(schedule, Span(a, b), rules).slices for a, b in ((WEEK.start, cut), (cut, WEEK.end))]
            assert entries([*parts[0], *parts[1]]) == whole
