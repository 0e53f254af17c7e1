"""The analysis against the simulated PagerDuty, which renders by code of its own: over a year, and on v3 schedules at random."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.model import Schedule, Slice, Span
from integrations.pagerduty.analysis.rotation import differences, entries, render
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.render_v3 import schedule_v3_document
from integrations.pagerduty.sandbox.schedule_documents import schedule_document
from integrations.pagerduty.sandbox.world import DAY, HOUR, World, iso
from tests.integrations.conftest import NOW, Ask
from tests.integrations.test_sandbox_schedules import event_of, override

Document = dict[str, Any]
AT = int(NOW.timestamp())
YEAR = Span(AT - 182 * DAY, AT + 183 * DAY)
"""Every change of every clock, once."""
RULES = (
    "FREQ=DAILY",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=DAILY;COUNT=200",
    "FREQ=WEEKLY;BYDAY=MO,WE,FR",
    "FREQ=WEEKLY;INTERVAL=2",
    "FREQ=HOURLY;INTERVAL=8",
    "FREQ=MONTHLY;BYMONTHDAY=3,-1",
    "FREQ=MONTHLY;BYDAY=2TU",
)
ALL = frozenset({"final_schedule"})


@cache
def world() -> World:
    return Sandbox(7, NOW).world


def read_v3(document: Document, schedule: Document) -> Schedule:
    """With what PagerDuty answers apart from it."""
    rows = {name: schedule[name] for name in ("custom_shifts", "overrides")}
    return reading.schedule({**document, **rows})


def test_a_year_of_every_v2_schedule_is_as_the_sandbox_renders_it() -> None:
    assert len(world().schedules) > 20
    for schedule in world().schedules:
        document = schedule_document(world(), schedule, YEAR)
        read = replace(reading.schedule(document, schedule["overrides"]), rendered_window=YEAR)
        assert read.problems == ()
        assert read.rendered
        assert differences(read) == (), schedule["name"]
        # Overrides as the document renders them are the same as in the order of their creation.
        assert differences(replace(reading.schedule(document), rendered_window=YEAR)) == ()
        lanes = dict(render(read, YEAR, with_layers=True).layers)
        by_id = {source.id: slices for source, slices in lanes.items()}
        for identifier, slices in read.layers_rendered:
            assert [each[:3] for each in by_id[identifier]] == [each[:3] for each in slices]


def test_a_year_of_every_v3_schedule_is_as_the_sandbox_renders_it() -> None:
    assert len(world().v3) > 3
    for schedule in world().v3:
        document = schedule_v3_document(world(), schedule, YEAR, ALL)
        read = replace(read_v3(document, schedule), rendered_window=YEAR)
        assert read.problems == ()
        assert differences(read) == (), schedule["name"]
        assert because(render(read, YEAR).slices) == because(read.rendered)


def because(slices: tuple[Slice, ...]) -> list[tuple[str, str, str, tuple[tuple[int, int], ...]]]:
    """Who is on call by what, and when, without the names of events, which PagerDuty does not say."""
    by_source: dict[tuple[str, str, str], list[Slice]] = {}
    for each in slices:
        by_source.setdefault((each.user, each.source.kind, each.source.id), []).append(each._replace(user="X"))
    return sorted((*key, tuple((span.start, span.end) for span, _ in entries(some))) for key, some in by_source.items())


@pytest.mark.parametrize("seed", range(6))
def test_v3_schedules_at_random_are_as_the_sandbox_renders_them(seed: int) -> None:
    """Several people at once, empty members, dates left out and added, custom shifts, and overrides over overrides."""
    rng = random.Random(f"v3-{seed}")
    zones = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "America/Santiago", "Asia/Kolkata")
    for number in range(25):
        schedule = a_v3_schedule(rng, rng.choice(zones))
        since = AT + rng.randrange(-300 * DAY, 100 * DAY)
        window = Span(since, since + rng.randrange(HOUR, 40 * DAY))
        document = schedule_v3_document(world(), schedule, window, ALL)
        read = replace(read_v3(document, schedule), rendered_window=window)
        assert read.problems == ()
        assert because(render(read, window).slices) == because(read.rendered), (seed, number)
        assert differences(read) == ()


def a_v3_schedule(rng: random.Random, zone: str) -> Document:
    people = ["PA", "PB", "PC", ""]

    def event() -> Document:
        rule = rng.choice(RULES)
        users = [rng.choice(people) for _ in range(rng.randint(1, 4))]
        start = f"2026-0{rng.randint(1, 3)}-{rng.randint(10, 28)}T{rng.randrange(24):02d}:{rng.choice(('00', '30'))}:00"
        made = event_of(start, rng.choice((1, 8, 12, 24, 60)), zone, rule, users, rng.randint(0, 3))
        if rng.random() < 0.3:
            made["recurrence"] += ["EXDATE:20261103T090000", f"RDATE;TZID={zone}:2026110{rng.randint(1, 9)}T120000"]
        if rng.random() < 0.3:
            made["effective_until"] = iso(AT + rng.randrange(-60 * DAY, 60 * DAY))
        return {**made, "id": f"E{rng.random()}", "gone": False}

    def laid(number: int, **source: str) -> Document:
        start = AT + rng.randrange(-300 * DAY, 100 * DAY)
        old, new = rng.choice(people), rng.choice([*people, "PZ"])
        return override(f"O{number}", start, start + rng.randrange(HOUR, 20 * DAY), old, new, **source)

    def custom(number: int) -> Document:
        start = AT + rng.randrange(-300 * DAY, 100 * DAY)
        who = rng.choice(people)
        member = {"type": "user_member", "user_id": who} if who else {"type": "empty_member"}
        times = {"start_time": iso(start), "end_time": iso(start + rng.randrange(HOUR, 30 * DAY))}
        return {"id": f"C{number}", **times, "assignments": [{"member": member}]}

    rotations: list[Document] = [
        {"id": f"R{number}", "gone": False, "events": [event() for _ in range(rng.randint(1, 2))]}
        for number in range(rng.randint(1, 3))
    ]
    customs = [custom(number) for number in range(rng.randint(0, 2))]
    overrides = [laid(number, rotation_id=rng.choice(rotations)["id"]) for number in range(rng.randint(0, 20))]
    overrides += [laid(number + 100, custom_shift_id=row["id"]) for number, row in enumerate(customs)]
    urls = dict.fromkeys(("self", "html_url", "http_cal_url", "description"), "")
    base: Document = {"id": "PV3", "type": "schedule_v3", "name": "Random", "time_zone": zone, "teams": []}
    return {**base, **urls, "rotations": rotations, "custom_shifts": customs, "overrides": overrides}


def test_an_answer_that_was_asked_for_in_another_zone_is_noticed_and_would_be_wrong(ask: Ask) -> None:
    """The sandbox tells restrictions by the clock that is asked for, as PagerDuty does, and by what offset it does not say."""
    day = schedule_of_restrictions()
    window = f"since={iso(AT)}&until={iso(AT + 300 * DAY)}"
    found = {}
    for zone in (day["time_zone"], "Asia/Kolkata"):
        answer = ask("GET", f"/schedules/{day['id']}?{window}&time_zone={zone}").json()
        found[zone] = replace(reading.schedule(answer), rendered_window=Span(AT, AT + 300 * DAY))
    right, wrong = found.values()
    assert right.problems == ()
    assert differences(right) == ()
    assert {problem.code for problem in wrong.problems} == {"other_zone"}
    assert differences(wrong) != ()


def schedule_of_restrictions() -> Document:
    def changes(zone: str) -> bool:
        return len({ZoneInfo(zone).utcoffset(NOW.replace(tzinfo=None, month=month)) for month in (1, 7)}) > 1

    return next(
        row
        for row in world().schedules
        if any(layer["restrictions"] for layer in row["schedule_layers"]) and changes(row["time_zone"])
    )
