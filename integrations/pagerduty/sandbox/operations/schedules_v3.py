"""v3 schedules: their errors are a map of fields."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from integrations.pagerduty.sandbox import documents as docs
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
from integrations.pagerduty.sandbox.operations.schedules import SCHEDULE_FIELDS
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    list_of,
    moment,
    record,
    string,
)
from integrations.pagerduty.sandbox.world import (
    API,
    SITE,
    World,
    iso,
    parse_time,
)


@route("GET", "/v3/schedules")
def list_schedules_v3(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.v3, ask.one("query")), ask.many("team_ids"))
    references = [
        {
            "id": row["id"],
            "type": "schedule_v3_reference",
            "summary": row["name"],
            "self": row["self"],
            "html_url": row["html_url"],
        }
        for row in rows
    ]
    return 200, _v3_page(ask, "schedules", references)


def _v3_page(ask: Ask, name: str, rows: Sequence[Document]) -> Document:
    limit, offset = ask.rows_asked(100, 1000)
    return {
        name: rows[offset : offset + limit],
        "limit": limit,
        "offset": offset,
        "more": offset + limit < len(rows),
    }


def _schedule_v3(ask: Ask) -> Document:
    if any(row["id"] == ask.path["id"] for row in ask.world.schedules):
        raise v3_invalid([(("id",), "is of a v2 schedule: ask for it at /schedules")], "id")
    return find(ask.world.v3, ask.path["id"])


@route("GET", "/v3/schedules/{id}")
def get_schedule_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    since, until = ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    return 200, {"schedule": docs.v3_document(ask.world, schedule, since, until, ask.include)}


@route("PUT", "/v3/schedules/{id}")
def update_schedule_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    asked = ask.read_v3(
        "schedule",
        record(
            {},
            {
                **SCHEDULE_FIELDS,
                "rotations": _not_permitted,
            },
        ),
    )
    schedule |= {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    return 200, {"schedule": docs.v3_document(ask.world, schedule, ask.now, ask.now + FORTNIGHT, frozenset())}


def _not_permitted(value: Any, path: Path, faults: list[Fault]) -> Any:
    faults.append((path, "is not permitted"))


def _shift_of(required: dict[str, Shape], optional: dict[str, Shape] | None = None) -> Shape:
    """A shift with an end after its start."""
    fields = record({"start_time": moment, "end_time": moment, **required}, {"type": string(), **(optional or {})})

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        before = len(faults)
        found = fields(value, path, faults)
        if len(faults) == before and parse_time(found["start_time"]) >= parse_time(found["end_time"]):
            faults.append(((*path, "end_time"), "must be after start_time"))
        return found

    return read


def _member(world: World) -> Shape:
    known = {user["id"] for user in world.users}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        kind, user = (value.get("type"), value.get("user_id")) if isinstance(value, dict) else (None, None)
        if kind == "empty_member":
            return {"type": "empty_member"}
        if kind != "user_member" or not isinstance(user, str) or user not in known:
            faults.append((path, "is not a user of the account"))
        return {"type": "user_member", "user_id": user}

    return read


@route("GET", "/v3/schedules/{id}/overrides")
def list_overrides_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    since, until = ask.required_window()
    rows = [
        row
        for row in schedule["overrides"]
        if parse_time(row["start_time"]) < until and parse_time(row["end_time"]) > since
    ]
    return 200, _v3_page(ask, "overrides", rows)


@route("POST", "/v3/schedules/{id}/overrides")
def create_overrides_v3(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    shifts = {shift["id"] for shift in schedule["custom_shifts"]}

    def replaced(known: Iterable[str]) -> Shape:
        def read(value: Any, path: Path, faults: list[Fault]) -> Any:
            if value not in list(known):
                faults.append((path, "is not of this schedule"))
            return value

        return read

    shape = _shift_of(
        {"overridden_member": _member(ask.world), "overriding_member": _member(ask.world)},
        {"rotation_id": replaced([schedule["rotation"]]), "custom_shift_id": replaced(shifts)},
    )
    asked = ask.read_v3("overrides", list_of(shape, 1))
    if any(("rotation_id" in row) == ("custom_shift_id" in row) for row in asked):
        raise v3_invalid([(("base",), "needs rotation_id or custom_shift_id, not both")], "base")
    made = []
    for row in asked:
        identifier = ask.world.next_id("OV")
        made.append(
            {
                "id": identifier,
                "type": "override_shift",
                **{name: row[name] for name in ("rotation_id", "custom_shift_id") if name in row},
                "start_time": iso(parse_time(row["start_time"])),
                "end_time": iso(parse_time(row["end_time"])),
                "overridden_member": row["overridden_member"],
                "overriding_member": row["overriding_member"],
                "self": f"{API}/v3/schedules/{schedule['id']}/overrides/{identifier}",
                "html_url": f"{SITE}/schedules/{schedule['id']}",
            }
        )
    schedule["overrides"] += made
    return 201, {"overrides": made}


@route("POST", "/v3/schedules/{id}/custom_shifts")
def create_custom_shifts(ask: Ask) -> Result:
    schedule = _schedule_v3(ask)
    assignment = record({"member": _member(ask.world)}, {"type": string()})
    asked = ask.read_v3("custom_shifts", list_of(_shift_of({"assignments": list_of(assignment, 1, 1)}), 1))
    made = []
    for row in asked:
        identifier = ask.world.next_id("CS")
        made.append(
            {
                "id": identifier,
                "type": "custom_shift",
                "start_time": iso(parse_time(row["start_time"])),
                "end_time": iso(parse_time(row["end_time"])),
                "assignments": [
                    {
                        "id": ask.world.next_id("SA"),
                        "type": "shift_assignment",
                        "member": row["assignments"][0]["member"],
                    }
                ],
                "self": f"{API}/v3/schedules/{schedule['id']}/custom_shifts/{identifier}",
                "html_url": f"{SITE}/schedules/{schedule['id']}",
            }
        )
    schedule["custom_shifts"] += made
    return 201, {"custom_shifts": made}
