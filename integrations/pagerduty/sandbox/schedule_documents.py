"""v2 schedules as PagerDuty's documents."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.render import Shift, coverage, final_shifts, layer_shifts, override_shifts
from integrations.pagerduty.sandbox.render_v3 import local_iso, policies_of, schedule_v3_document
from integrations.pagerduty.sandbox.world import DAY, World, parse_time, reference

Document = dict[str, Any]
AHEAD = 90 * DAY
"""How far ahead somebody's next turn is looked for."""


def rendered(shifts: list[Shift], users: dict[str, Document], zone: ZoneInfo) -> list[Document]:
    # One document a person, however many the entries: a year's are tens of thousands.
    people = {user: reference(users[user]) for user in {shift[2] for shift in shifts}}
    return [
        {"start": local_iso(start, zone), "end": local_iso(end, zone), "user": people[user]}
        for start, end, user in shifts
    ]


def schedule_document(
    world: World,
    schedule: Document,
    window: tuple[float, float] | None = None,
    zone: ZoneInfo | None = None,
    *,
    overflow: bool = False,
) -> Document:
    """As ``GET /schedules/{id}`` answers it: entries are rendered only for a window that was asked for."""
    users = {user["id"]: user for user in world.users}
    own = ZoneInfo(schedule["time_zone"])
    shown = zone or own
    found = {name: value for name, value in schedule.items() if name != "overrides"}
    found["escalation_policies"] = policies_of(world, schedule["id"])

    def subschedule(shifts: list[Shift]) -> Document:
        return {
            "rendered_schedule_entries": rendered(shifts, users, shown),
            "rendered_coverage_percentage": None if window is None else coverage(shifts, *window),
        }

    def seen(shifts: list[Shift]) -> list[Shift]:
        return [shift for shift in shifts if window and shift[1] > window[0] and shift[0] < window[1]]

    low, high = _drawn(schedule, window, overflow)
    # The highest layer comes first.
    found["schedule_layers"] = [
        {
            **layer,
            **{name: _local(layer[name], shown) for name in ("start", "end", "rotation_virtual_start")},
            "restrictions": [_restriction(row, own, shown, world.now) for row in layer["restrictions"]],
            **subschedule(seen(layer_shifts(layer, own, low, high))),
        }
        for layer in reversed(schedule["schedule_layers"])
    ]
    found["overrides_subschedule"] = {"name": "Overrides", **subschedule(seen(override_shifts(schedule, low, high)))}
    found["final_schedule"] = {"name": "Final Schedule", **subschedule(seen(final_shifts(schedule, low, high)))}
    return found


def _drawn(schedule: Document, window: tuple[float, float] | None, overflow: bool) -> tuple[float, float]:
    """What must be rendered for a window: more than it, where its first and last entries are to be whole."""
    if window is None:
        return 0.0, 0.0
    turns = [layer["rotation_turn_length_seconds"] for layer in schedule["schedule_layers"]]
    margin = max([31 * DAY, *turns]) if overflow else 0
    return window[0] - margin, window[1] + margin


def _local(text: str | None, zone: ZoneInfo) -> str | None:
    return None if text is None else local_iso(parse_time(text), zone)


def _restriction(row: Document, own: ZoneInfo, shown: ZoneInfo, now: float) -> Document:
    """Told by the clock of ``shown``. It carries no offset, so it is right only while neither clock changes, as at PagerDuty."""
    if own.key == shown.key:
        return row
    day = dt.datetime.fromtimestamp(now, own).date()
    if "start_day_of_week" in row:
        day += dt.timedelta(days=row["start_day_of_week"] - day.isoweekday())
    begin = dt.datetime.combine(day, dt.time.fromisoformat(row["start_time_of_day"]), own).astimezone(shown)
    told = {**row, "start_time_of_day": begin.strftime("%H:%M:%S")}
    if "start_day_of_week" in row:
        told["start_day_of_week"] = begin.isoweekday()
    return told


def next_on_call(world: World, schedule: Document, user: str, now: float, zone: ZoneInfo) -> Document | None:
    """Somebody's turn that is on or comes next, within 90 days."""
    for start, end, who in final_shifts(schedule, now, now + AHEAD):
        if who == user:
            person = next(row for row in world.users if row["id"] == user)
            return {"start": local_iso(start, zone), "end": local_iso(end, zone), "user": reference(person)}
    return None


def whole_schedule(world: World, schedule: Document) -> Document:
    """A schedule of either kind where ``include[]`` puts it into another document."""
    if schedule["type"] == "schedule_v3":
        return schedule_v3_document(world, schedule)
    return schedule_document(world, schedule)
