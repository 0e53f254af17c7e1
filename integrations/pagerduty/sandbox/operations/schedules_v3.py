"""v3 schedules: their errors are a map of fields."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis.recurrence import Recurrence, ever_starts, recurrence
from integrations.pagerduty.sandbox.ask import (
    FORTNIGHT,
    Ask,
    Result,
    find,
    matching,
    of_teams,
    route,
    v3_invalid,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.schedules import narrow
from integrations.pagerduty.sandbox.render_v3 import (
    LONGEST_SHIFT,
    event_document,
    event_shifts,
    local,
    meet,
    overlaps_itself,
    rotation_document,
    schedule_v3_document,
    shown,
    span,
)
from integrations.pagerduty.sandbox.rotas import add_rotation, long_id, member
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    list_of,
    moment,
    one_of,
    record,
    reference_to,
    string,
    whole,
    zone,
)
from integrations.pagerduty.sandbox.world import (
    DAY,
    SITE,
    World,
    document,
    iso,
    parse_time,
    reference,
)

YEAR: Final = 366 * DAY
MOST_ROTATIONS: Final = 10
MOST_EVENTS: Final = 5
ROTATION: Final = "/v3/schedules/{id}/rotations/{rotation_id}"


def _wrong(top: str, field: str, text: str) -> Exception:
    return v3_invalid([((field,), text)], top)


def _page(ask: Ask, name: str, rows: Sequence[Document], default: int = 25, most: int = 100) -> Document:
    limit, offset = ask.rows_asked(default, most)
    return {
        name: rows[offset : offset + limit],
        "limit": limit,
        "offset": offset,
        "more": offset + limit < len(rows),
    }


def _schedule(ask: Ask) -> Document:
    if any(row["id"] == ask.path["id"] for row in ask.world.schedules):
        # The words that clients look for, to try the other kind.
        error = v3_invalid([((), "is of a layer-based schedule")], "id")
        error.document["error"]["message"] = "This is a layer-based schedule. Use the v2 Schedules API to access it."
        raise error
    return find(ask.world.v3, ask.path["id"])


def _rotation(ask: Ask) -> Document:
    return find((row for row in _schedule(ask)["rotations"] if not row["gone"]), ask.path["rotation_id"])


def _event(ask: Ask) -> Document:
    return find((row for row in _rotation(ask)["events"] if not row["gone"]), ask.path["event_id"])


def _shown(ask: Ask, schedule: Document, row: Document) -> Document:
    return shown(row, ask.zone() or ZoneInfo(schedule["time_zone"]))


# Schedules


@route("GET", "/v3/schedules")
def list_schedules_v3(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.v3, ask.one("query")), ask.many("team_ids"))
    return 200, _page(ask, "schedules", [reference(row) for row in rows], 100, 1000)


@route("GET", "/v3/schedules/{id}")
def get_schedule_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)
    window = narrow(ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT))
    asked = window if ask.one("since") or ask.one("until") else None
    found = schedule_v3_document(ask.world, schedule, asked, ask.include, ask.zone(), overflow=ask.flag("overflow"))
    return 200, {"schedule": found}


def _not_permitted(value: Any, path: Path, faults: list[Fault]) -> Any:
    faults.append((path, "is not permitted"))


FIELDS: Final[dict[str, Shape]] = {"name": string(longest=255), "time_zone": zone}
OTHER_FIELDS: Final[dict[str, Shape]] = {
    "type": string(),
    "description": string(blank=True, longest=1024),
    "rotations": _not_permitted,
    "escalation_policies": _not_permitted,
}


@route("POST", "/v3/schedules")
def create_schedule_v3(ask: Ask) -> Result:
    teams = list_of(reference_to(ask.world.teams, "a team"))
    asked = ask.read_v3("schedule", record(FIELDS, {**OTHER_FIELDS, "teams": teams}))
    identifier = ask.world.next_id("P")
    schedule: Document = {
        **document("schedule_v3", "v3/schedules", identifier, asked["name"], "schedules"),
        "name": asked["name"],
        "time_zone": asked["time_zone"],
        "description": asked.get("description", ""),
        "http_cal_url": f"{SITE}/private/{identifier.lower():0>64}/feed/{identifier}",
        "teams": [reference(ask.world.teams[place]) for place in asked.get("teams", ())],
        "rotations": [],
        "custom_shifts": [],
        "overrides": [],
    }
    ask.world.v3.append(schedule)
    return 201, {"schedule": schedule_v3_document(ask.world, schedule)}


@route("PUT", "/v3/schedules/{id}")
def update_schedule_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)
    asked = ask.read_v3("schedule", record({}, {**FIELDS, **OTHER_FIELDS}))
    schedule |= {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    schedule["summary"] = schedule["name"]
    return 200, {"schedule": schedule_v3_document(ask.world, schedule)}


# Rotations


@route("GET", "/v3/schedules/{id}/rotations")
def list_rotations(ask: Ask) -> Result:
    rows = [rotation_document(row) for row in _schedule(ask)["rotations"] if not row["gone"]]
    return 200, _page(ask, "rotations", rows)


@route("POST", "/v3/schedules/{id}/rotations", body_optional=True)
def create_rotation(ask: Ask) -> Result:
    schedule = _schedule(ask)
    if ask.body not in (None, {}):
        raise v3_invalid([((), "must be empty: events carry what a rotation does")], "rotation")
    if sum(not row["gone"] for row in schedule["rotations"]) >= MOST_ROTATIONS:
        raise _wrong("schedule", "rotations", f"cannot be more than {MOST_ROTATIONS}")
    return 201, {"rotation": rotation_document(add_rotation(ask.world, schedule))}


@route("GET", ROTATION)
def get_rotation(ask: Ask) -> Result:
    return 200, {"rotation": rotation_document(_rotation(ask))}


@route("DELETE", ROTATION)
def delete_rotation(ask: Ask) -> Result:
    rotation = _rotation(ask)
    for event in list(rotation["events"]):
        _end(ask, rotation, event)
    rotation["gone"] = True
    return 204, None


def _end(ask: Ask, rotation: Document, event: Document) -> None:
    """Delete an event: one that has begun stays in the past of the schedule, up to now."""
    if parse_time(event["effective_since"]) >= ask.now:
        rotation["events"].remove(event)
        return
    event["gone"] = True
    if _closes(event) > ask.now:
        event["effective_until"] = iso(ask.now)


def _closes(event: Document) -> float:
    return math.inf if event["effective_until"] is None else parse_time(event["effective_until"])


# Events


@route("GET", ROTATION + "/events")
def list_events(ask: Ask) -> Result:
    return 200, _page(ask, "events", rotation_document(_rotation(ask))["events"])


@route("GET", ROTATION + "/events/{event_id}")
def get_event(ask: Ask) -> Result:
    event = _event(ask)
    ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    return 200, {"event": event_document(event)}


def _event_fields(world: World) -> dict[str, Shape]:
    zoned = record({"date_time": moment, "time_zone": zone})
    members = list_of(_member(world), 1, 20)

    def strategy(value: Any, path: Path, faults: list[Fault]) -> Any:
        kinds = ("rotating_member_assignment_strategy", "every_member_assignment_strategy")
        kind = value.get("type") if isinstance(value, dict) else None
        required: dict[str, Shape] = {"type": one_of(*kinds), "members": members}
        if kind == kinds[0]:
            required["shifts_per_member"] = whole(1, 10_000)
        return record(required)(value, path, faults)

    return {
        "name": string(longest=255),
        "start_time": zoned,
        "end_time": zoned,
        "effective_since": moment,
        "recurrence": list_of(string(longest=10_000), 1, 400),
        "assignment_strategy": strategy,
    }


def _zoned(asked: Document, name: str) -> Document:
    """With the offset of its own zone, whichever it was sent with."""
    own = ZoneInfo(asked["time_zone"])
    text = local(asked).replace(tzinfo=own).isoformat()
    try:
        parse_time(text)
    except ValueError:
        raise _wrong("event", name, "is out of reach") from None
    return {"date_time": text, "time_zone": asked["time_zone"]}


def _checked(ask: Ask, rotation: Document, event: Document) -> None:
    """Refuse an event that no schedule could be made of: see what each sentence says."""
    first, length = span(event)
    if not dt.timedelta(0) < length <= dt.timedelta(seconds=LONGEST_SHIFT):
        raise _wrong("event", "end_time", "must be after start_time, by a year at most")
    try:
        rule: Recurrence = recurrence(tuple(event["recurrence"]), event["start_time"]["time_zone"])
    except ValueError as error:
        raise _wrong("event", "recurrence", str(error)) from None
    if not ever_starts(rule, first):
        raise _wrong("event", "recurrence", "produces no shifts")
    if overlaps_itself(rule, first, length):
        raise _wrong("event", "recurrence", "begins a shift before the one before has ended")
    since = parse_time(event["effective_since"])
    if since > ask.now + YEAR:
        raise _wrong("event", "effective_since", "Date cannot be more than 12 months in the future")
    if _closes(event) <= since and since > ask.now:
        raise _wrong("event", "effective_until", "must be after effective_since")
    # What repeats itself shows within a quarter of a year whether it meets another.
    begin = max(since, first.replace(tzinfo=ZoneInfo(event["start_time"]["time_zone"])).timestamp())
    end = min(_closes(event), begin + 92 * DAY)
    taken = [
        shift
        for other in rotation["events"]
        if other is not event and not other["gone"] and other["id"] != event["id"]
        for shift in event_shifts(other, begin, end)
    ]
    if meet(event_shifts(event, begin, end), taken):
        raise _wrong("rotation", "events", "cannot overlap")


@route("POST", ROTATION + "/events")
def create_event(ask: Ask) -> Result:
    rotation = _rotation(ask)
    asked = ask.read_v3("event", record(_event_fields(ask.world), {"type": string(), "effective_until": moment}))
    if sum(not row["gone"] and _closes(row) > ask.now for row in rotation["events"]) >= MOST_EVENTS:
        raise _wrong("rotation", "events", f"cannot be more than {MOST_EVENTS}")
    event: Document = {"id": "", "type": "schedule_event", **_event_values(ask, asked), "gone": False}
    event.setdefault("effective_until", None)
    _checked(ask, rotation, event)
    event["id"] = long_id(ask.world, "EVT")
    event["self"] = f"{rotation['self']}/events/{event['id']}"
    event["html_url"] = rotation["html_url"]
    rotation["events"].append(event)
    return 201, {"event": event_document(event)}


def _event_values(ask: Ask, asked: Document) -> Document:
    values: Document = {name: asked[name] for name in ("name", "recurrence", "assignment_strategy") if name in asked}
    values |= {name: _zoned(asked[name], name) for name in ("start_time", "end_time") if name in asked}
    if "effective_since" in asked:
        # What begins in the past begins now.
        values["effective_since"] = iso(max(parse_time(asked["effective_since"]), ask.now))
    if "effective_until" in asked:
        until = asked["effective_until"]
        values["effective_until"] = None if until is None else iso(parse_time(until))
    return values


@route("PUT", ROTATION + "/events/{event_id}")
def update_event(ask: Ask) -> Result:
    rotation, event = _rotation(ask), _event(ask)
    optional = {**_event_fields(ask.world), "type": string(), "effective_until": moment}
    asked = ask.read_v3("event", record({}, optional, clearing=("effective_until",)))
    asked.pop("type", None)
    if _closes(event) <= ask.now:
        raise v3_invalid([((), "is over and cannot be changed")], "event")
    values = _event_values(ask, asked)
    if parse_time(event["effective_since"]) <= ask.now:
        if wrong := sorted(name for name in values if name != "effective_until" and values[name] != event[name]):
            raise v3_invalid([((name,), "cannot be changed once the event is active") for name in wrong], "event")
        values = {name: value for name, value in values.items() if name == "effective_until"}
        if values.get("effective_until") is not None:
            values["effective_until"] = iso(max(parse_time(values["effective_until"]), ask.now))
    changed = {**event, **values}
    if values:
        _checked(ask, rotation, changed)
    event |= values
    return 200, {"event": event_document(event)}


@route("DELETE", ROTATION + "/events/{event_id}")
def delete_event(ask: Ask) -> Result:
    rotation, event = _rotation(ask), _event(ask)
    _end(ask, rotation, event)
    return 204, None


# Custom shifts and overrides


def _overrides(schedule: Document) -> list[Document]:
    """Those that are there: what a deleted rotation's did stays in the schedule's past, and they are gone with it."""
    gone = {row["id"] for row in schedule["rotations"] if row["gone"]}
    return [row for row in schedule["overrides"] if row.get("rotation_id") not in gone]


def _member(world: World) -> Shape:
    known = {user["id"] for user in world.users}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        kind, user = (value.get("type"), value.get("user_id")) if isinstance(value, dict) else (None, None)
        if kind == "empty_member":
            return member("")
        if kind != "user_member" or not isinstance(user, str) or user not in known:
            faults.append((path, "is not a user of the account"))
            return member("")
        return member(user)

    return read


def _times(row: Document, top: str) -> None:
    if parse_time(row["start_time"]) >= parse_time(row["end_time"]):
        raise _wrong(top, "end_time", "must be after start_time")


def _in_utc(asked: Document) -> Document:
    return {name: iso(parse_time(asked[name])) for name in ("start_time", "end_time") if name in asked}


def _within(ask: Ask, rows: Iterable[Document]) -> list[Document]:
    since, until = ask.required_window()
    return [row for row in rows if parse_time(row["start_time"]) < until and parse_time(row["end_time"]) > since]


def _made(ask: Ask, name: str, shape: Shape, make: Callable[[Document], Document]) -> Result:
    """Create all that a body holds, or nothing of it."""
    schedule = _schedule(ask)
    asked = ask.read_v3(name, list_of(shape, 1))
    for row in asked:
        _times(row, name.removesuffix("s"))
    kind = {"custom_shifts": "CSH", "overrides": "OVR"}[name]
    made = []
    for row in asked:
        identifier = long_id(ask.world, kind)
        made.append(
            {
                "id": identifier,
                **make(row),
                **_in_utc(row),
                "self": f"{schedule['self']}/{name}/{identifier}",
                "html_url": schedule["html_url"],
            }
        )
    schedule[name] += made
    return 201, {name: [_shown(ask, schedule, row) for row in made]}


def _assignments(world: World) -> Shape:
    return list_of(record({"member": _member(world)}, {"type": one_of("shift_assignment"), "id": string()}), 1, 1)


def _assigned(ask: Ask, assignments: list[Document]) -> list[Document]:
    return [
        {"id": long_id(ask.world, "SAS"), "type": "shift_assignment", "member": row["member"]} for row in assignments
    ]


@route("GET", "/v3/schedules/{id}/custom_shifts")
def list_custom_shifts(ask: Ask) -> Result:
    schedule = _schedule(ask)
    rows = sorted(_within(ask, schedule["custom_shifts"]), key=lambda row: (row["start_time"], row["id"]))
    return 200, _page(ask, "custom_shifts", [_shown(ask, schedule, row) for row in rows])


@route("POST", "/v3/schedules/{id}/custom_shifts")
def create_custom_shifts(ask: Ask) -> Result:
    required = {"start_time": moment, "end_time": moment, "assignments": _assignments(ask.world)}
    return _made(
        ask,
        "custom_shifts",
        record(required, {"type": one_of("custom_shift")}),
        lambda row: {"type": "custom_shift", "assignments": _assigned(ask, row["assignments"])},
    )


@route("GET", "/v3/schedules/{id}/custom_shifts/{custom_shift_id}")
def get_custom_shift(ask: Ask) -> Result:
    schedule = _schedule(ask)
    return 200, {"custom_shift": _shown(ask, schedule, find(schedule["custom_shifts"], ask.path["custom_shift_id"]))}


@route("PUT", "/v3/schedules/{id}/custom_shifts/{custom_shift_id}")
def update_custom_shift(ask: Ask) -> Result:
    schedule = _schedule(ask)
    shift = find(schedule["custom_shifts"], ask.path["custom_shift_id"])
    fields = {"type": string(), "start_time": moment, "end_time": moment, "assignments": _assignments(ask.world)}
    asked = ask.read_v3("custom_shift", record({}, fields))
    if parse_time(shift["end_time"]) <= ask.now:
        raise v3_invalid([((), "is over and cannot be changed")], "custom_shift")
    values: Document = _in_utc(asked)
    if parse_time(shift["start_time"]) <= ask.now:
        members = [row["member"] for row in asked.get("assignments", shift["assignments"])]
        same = members == [row["member"] for row in shift["assignments"]]
        wrong = [] if same else ["assignments"]
        wrong += ["start_time"] if values.get("start_time", shift["start_time"]) != shift["start_time"] else []
        if wrong:
            raise v3_invalid(
                [((name,), "cannot be changed once the shift has begun") for name in wrong], "custom_shift"
            )
    elif "assignments" in asked:
        values["assignments"] = _assigned(ask, asked["assignments"])
    _times({**shift, **values}, "custom_shift")
    shift |= values
    return 200, {"custom_shift": _shown(ask, schedule, shift)}


@route("DELETE", "/v3/schedules/{id}/custom_shifts/{custom_shift_id}")
def delete_custom_shift(ask: Ask) -> Result:
    schedule = _schedule(ask)
    shift = find(schedule["custom_shifts"], ask.path["custom_shift_id"])
    if parse_time(shift["end_time"]) <= ask.now:
        raise v3_invalid([((), "is over and cannot be deleted")], "custom_shift")
    if parse_time(shift["start_time"]) < ask.now:
        shift["end_time"] = iso(ask.now)
    else:
        schedule["custom_shifts"].remove(shift)
    return 204, None


@route("GET", "/v3/schedules/{id}/overrides")
def list_overrides_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)
    rows = sorted(_within(ask, _overrides(schedule)), key=lambda row: (row["start_time"], row["id"]))
    return 200, _page(ask, "overrides", [_shown(ask, schedule, row) for row in rows])


def _one_source(value: Any, path: Path, faults: list[Fault]) -> None:
    sources = [name for name in ("rotation_id", "custom_shift_id") if value.get(name) is not None]
    if len(sources) != 1:
        faults.append(((*path, "rotation_id"), "or custom_shift_id is needed, and not both"))


def _a_member_of_it(schedule: Document, asked: Document, path: Path, faults: list[Fault]) -> None:
    """Whoever is overridden has a place in the rotation or the custom shift, of their own or by an override."""
    source = {name: asked.get(name) for name in ("rotation_id", "custom_shift_id")}
    members = [
        member
        for rotation in schedule["rotations"]
        if rotation["id"] == source["rotation_id"]
        for event in rotation["events"]
        if not event["gone"]
        for member in event["assignment_strategy"]["members"]
    ]
    shifts = [row for row in schedule["custom_shifts"] if row["id"] == source["custom_shift_id"]]
    members += [row["member"] for shift in shifts for row in shift["assignments"]]
    members += [
        row["overriding_member"] for row in schedule["overrides"] if source == {name: row.get(name) for name in source}
    ]
    if asked.get("overridden_member") not in members:
        faults.append(((*path, "overridden_member"), "is not a member of what is overridden"))


@route("POST", "/v3/schedules/{id}/overrides")
def create_overrides_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)

    def id_of(rows: Iterable[Document]) -> Shape:
        known = [row["id"] for row in rows if not row.get("gone")]

        def read(value: Any, path: Path, faults: list[Fault]) -> Any:
            if value not in known:
                faults.append((path, "is not of this schedule"))
            return value

        return read

    sources = {"rotation_id": id_of(schedule["rotations"]), "custom_shift_id": id_of(schedule["custom_shifts"])}
    members = dict.fromkeys(("overridden_member", "overriding_member"), _member(ask.world))
    fields = record(
        {"start_time": moment, "end_time": moment, **members}, {"type": one_of("override_shift"), **sources}
    )

    def shape(value: Any, path: Path, faults: list[Fault]) -> Any:
        before = len(faults)
        found = fields(value, path, faults)
        if isinstance(value, dict):
            _one_source(value, path, faults)
        if len(faults) == before:
            _a_member_of_it(schedule, found, path, faults)
        return found

    def make(row: Document) -> Document:
        named = {name: row[name] for name in (*sources, *members) if name in row}
        return {"type": "override_shift", **named}

    return _made(ask, "overrides", shape, make)


@route("GET", "/v3/schedules/{id}/overrides/{override_id}")
def get_override_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)
    return 200, {"override": _shown(ask, schedule, find(_overrides(schedule), ask.path["override_id"]))}


@route("PUT", "/v3/schedules/{id}/overrides/{override_id}")
def update_override_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)
    override = find(_overrides(schedule), ask.path["override_id"])
    fields = {"type": string(), "start_time": moment, "end_time": moment, "overriding_member": _member(ask.world)}
    asked = ask.read_v3("override", record({}, fields))
    values = _in_utc(asked) | {name: asked[name] for name in ("overriding_member",) if name in asked}
    _times({**override, **values}, "override")
    override |= values
    return 200, {"override": _shown(ask, schedule, override)}


@route("DELETE", "/v3/schedules/{id}/overrides/{override_id}")
def delete_override_v3(ask: Ask) -> Result:
    schedule = _schedule(ask)
    schedule["overrides"].remove(find(_overrides(schedule), ask.path["override_id"]))
    return 204, None
