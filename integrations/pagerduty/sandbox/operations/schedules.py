"""v2 schedules, their overrides, and who is on call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    FORTNIGHT,
    Ask,
    Result,
    find,
    invalid,
    matching,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.schedule_documents import next_on_call, schedule_document
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    clock,
    list_of,
    moment,
    record,
    reference_to,
    sentence,
    string,
    whole,
    zone,
)
from integrations.pagerduty.sandbox.world import (
    DAY,
    HOUR,
    World,
    iso,
    parse_time,
    reference,
)

WIDEST: Final = 400 * DAY
WIDEST_LIST: Final = 92 * DAY
"""The widest windows that one schedule is rendered for, and a list of them. PagerDuty tells of no bound: these are our own."""
MOST_ENTRIES: Final = 55_000
"""About how many entries of layers are rendered at once: of hours, a hundred layers could have a million."""
INCLUDED = ("schedule_layers", "overrides_subschedule", "final_schedule")


@route("GET", "/schedules", "schedules.read")
def list_schedules(ask: Ask) -> Result:
    """Layers and subschedules only where ``include[]`` names them; their entries only where a window is given, too."""
    rows = of_teams(matching(ask.world.schedules, ask.one("query")), ask.many("team_ids"))
    window, zone_asked = _window(ask, WIDEST_LIST), ask.zone()
    if zone_asked is None and ask.token.user is not None:
        zone_asked = ZoneInfo(ask.world.users[ask.token.user]["time_zone"])
    left_out = [name for name in INCLUDED if name not in ask.include]

    drawn = window if len(left_out) < len(INCLUDED) else None
    limit, offset = ask.rows_asked(25, 100)
    _drawable(rows[offset : offset + limit], drawn)

    def show(row: Document) -> Document:
        found = _shown(ask, row, schedule_document(ask.world, row, drawn, zone_asked), zone_asked)
        return {name: value for name, value in found.items() if name not in left_out}

    return 200, ask.page("schedules", rows, show)


def narrow(window: tuple[float, float], widest: float = WIDEST) -> tuple[float, float]:
    """A window, unless it is wider than that."""
    if window[1] - window[0] > widest:
        raise invalid(f"The time range is longer than {widest // DAY:.0f} days.")
    return window


def _drawable(schedules: Iterable[Document], window: tuple[float, float] | None) -> None:
    """Refuse to render more than can be kept in memory."""
    layers = [layer for schedule in schedules for layer in schedule["schedule_layers"]]
    days = 0 if window is None else (window[1] - window[0]) / DAY
    turns = sum(DAY / layer["rotation_turn_length_seconds"] for layer in layers if len(layer["users"]) > 1)
    if days * (turns + sum(len(layer["restrictions"]) for layer in layers)) > MOST_ENTRIES:
        raise invalid("The time range holds too many schedule entries.")


def _window(ask: Ask, widest: float = WIDEST) -> tuple[float, float] | None:
    """Two weeks from or to the end that is given; None: neither is."""
    window = narrow(ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT), widest)
    return window if ask.one("since") or ask.one("until") else None


def _shown(ask: Ask, schedule: Document, found: Document, zone_asked: ZoneInfo | None) -> Document:
    user = ask.one("include_next_oncall_for_user")
    own = zone_asked or ZoneInfo(schedule["time_zone"])
    turn = next_on_call(ask.world, schedule, user, ask.now, own) if user else None
    return found if turn is None else {**found, "next_oncall_for_user": turn}


def _schedule(ask: Ask) -> Document:
    """The v2 schedule that the path names. v2 and v3 ids are two namespaces: the other one's is not unknown, but wrong."""
    if any(row["id"] == ask.path["id"] for row in ask.world.v3):
        # The words that clients look for, to try the other kind.
        error = invalid("Schedule is a v3 schedule: ask for it at /v3/schedules")
        error.document["error"]["message"] = "This is a shift-based schedule. Use the v3 Schedules API to access it."
        raise error
    return find(ask.world.schedules, ask.path["id"])


@route("GET", "/schedules/{id}", "schedules.read")
def get_schedule(ask: Ask) -> Result:
    schedule, zone_asked, window = _schedule(ask), ask.zone(), _window(ask)
    _drawable([schedule], window)
    found = schedule_document(ask.world, schedule, window, zone_asked, overflow=ask.flag("overflow"))
    return 200, {"schedule": _shown(ask, schedule, found, zone_asked)}


@route("POST", "/schedules/preview", "schedules.write")
def preview_schedule(ask: Ask) -> Result:
    """The schedule that a body describes, rendered; nothing of it is kept."""
    fields = _schedule_fields(ask.world)
    required = {name: fields.pop(name) for name in ("type", "time_zone", "schedule_layers")}
    asked = ask.read("schedule", record(required, fields))
    layers = [_layer(ask, row, f"PL{number:06d}") for number, row in enumerate(asked["schedule_layers"])]
    name = asked.get("name", "")
    schedule: Document = {
        "id": "",
        "type": "schedule",
        "summary": name,
        "name": name,
        "time_zone": asked["time_zone"],
        "description": asked.get("description", ""),
        "users": _people(layers),
        "teams": [],
        "schedule_layers": layers,
        "overrides": [],
    }
    window = narrow(ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT))
    _drawable([schedule], window)
    found = schedule_document(ask.world, schedule, window, ask.zone(), overflow=ask.flag("overflow"))
    # It has no id, for it is nowhere.
    return 200, {"schedule": {name: value for name, value in found.items() if name != "id"}}


def _schedule_fields(world: World) -> dict[str, Shape]:
    """What a changed schedule may hold, and a described one."""
    return {
        "type": string(),
        "name": string(longest=255),
        "time_zone": zone,
        "description": string(blank=True),
        "schedule_layers": list_of(_layer_shape(world), 1, 100),
    }


@route("PUT", "/schedules/{id}", "schedules.write")
def update_schedule(ask: Ask) -> Result:
    schedule = _schedule(ask)
    asked = ask.read("schedule", record({}, _schedule_fields(ask.world)))
    changed: Document = {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    if "name" in asked:
        changed["summary"] = asked["name"]
    if "schedule_layers" in asked:
        layers = [_layer(ask, row, ask.world.next_id("PL")) for row in asked["schedule_layers"]]
        changed |= {"schedule_layers": layers, "users": _people(layers)}
    window = _window(ask)
    _drawable([{**schedule, **changed}], window)
    schedule |= changed
    return 200, {"schedule": schedule_document(ask.world, schedule, window, overflow=ask.flag("overflow"))}


def _people(layers: list[Document]) -> list[Document]:
    return list({entry["user"]["id"]: entry["user"] for layer in layers for entry in layer["users"]}.values())


def _layer_shape(world: World) -> Shape:
    daily = record({"type": string(), "start_time_of_day": clock, "duration_seconds": whole(1, DAY)})
    weekly = record(
        {
            "type": string(),
            "start_time_of_day": clock,
            "start_day_of_week": whole(1, 7),
            "duration_seconds": whole(1, 7 * DAY),
        }
    )

    def restriction(value: Any, path: Path, faults: list[Fault]) -> Any:
        kind = value.get("type") if isinstance(value, dict) else None
        if kind not in ("daily_restriction", "weekly_restriction"):
            faults.append(((*path, "type"), "must be daily_restriction or weekly_restriction"))
            return {}
        return (daily if kind == "daily_restriction" else weekly)(value, path, faults)

    return record(
        {
            "start": moment,
            "rotation_virtual_start": moment,
            "rotation_turn_length_seconds": whole(HOUR, 365 * DAY),
            "users": list_of(record({"user": reference_to(world.users, "a user")}), 1, 500),
        },
        {
            "id": string(),
            "name": string(longest=255),
            "end": moment,
            "restrictions": list_of(restriction, 0, 100),
        },
    )


def _layer(ask: Ask, asked: Document, identifier: str) -> Document:
    return {
        "id": asked.get("id") or identifier,
        "name": asked.get("name", "Layer"),
        "start": iso(parse_time(asked["start"])),
        "end": iso(parse_time(asked["end"])) if "end" in asked else None,
        "rotation_virtual_start": iso(parse_time(asked["rotation_virtual_start"])),
        "rotation_turn_length_seconds": asked["rotation_turn_length_seconds"],
        "users": [{"user": reference(ask.world.users[entry["user"]])} for entry in asked["users"]],
        "restrictions": asked.get("restrictions", []),
    }


@route("GET", "/schedules/{id}/users", "users.read")
def list_schedule_users(ask: Ask) -> Result:
    schedule = _schedule(ask)
    since, until = narrow(ask.window(ask.now, ask.now + 1))
    on = {shift[2] for shift in final_shifts(schedule, since, until)}
    return 200, {
        "users": [
            docs.user_document(ask.world, place) for place, user in enumerate(ask.world.users) if user["id"] in on
        ]
    }


@route("GET", "/schedules/{id}/overrides", "schedules.read")
def list_overrides(ask: Ask) -> Result:
    """Cut at the window's ends unless ``overflow``. ``editable``: those only that are not over."""
    schedule = _schedule(ask)
    since, until = ask.required_window()
    found = []
    for override in schedule["overrides"]:
        start, end = parse_time(override["start"]), parse_time(override["end"])
        if not (start < until and end > since) or (ask.flag("editable") and end <= ask.now):
            continue
        if not ask.flag("overflow"):
            start, end = max(start, since), min(end, until)
        found.append({**override, "start": iso(start), "end": iso(end)})
    return 200, {"overrides": sorted(found, key=lambda row: (row["start"], row["id"]))}


@route("POST", "/schedules/{id}/overrides", "schedules.write")
def create_overrides(ask: Ask) -> Result:
    schedule = _schedule(ask)
    asked = ask.body.get("overrides") if isinstance(ask.body, dict) else None
    if asked is None and isinstance(ask.body, dict) and isinstance(ask.body.get("override"), dict):
        asked = [ask.body["override"]]
    if not isinstance(asked, list) or not asked:
        raise invalid("Overrides cannot be empty")
    shape = record({"start": moment, "end": moment, "user": reference_to(ask.world.users, "a user")})
    results = []
    for row in asked:
        faults: list[Fault] = []
        wanted = shape(row, (), faults)
        errors = [sentence(fault, "override") for fault in faults]
        if not errors and not ask.now < parse_time(wanted["end"]) > parse_time(wanted["start"]):
            errors = ["Override must end after it starts, and in the future"]
        if errors:
            results.append({"status": 400, "errors": errors, "override": row})
            continue
        override = {
            "id": ask.world.next_id("Q"),
            "start": iso(parse_time(wanted["start"])),
            "end": iso(parse_time(wanted["end"])),
            "user": reference(ask.world.users[wanted["user"]]),
        }
        schedule["overrides"].append(override)
        results.append({"status": 201, "override": override})
    return 201, results


@route("DELETE", "/schedules/{id}/overrides/{override_id}", "schedules.write")
def delete_override(ask: Ask) -> Result:
    """One that is on ends now, which is 200; one that is over stays."""
    schedule = _schedule(ask)
    override = find(schedule["overrides"], ask.path["override_id"])
    if parse_time(override["end"]) <= ask.now:
        raise invalid("Override has ended and cannot be removed")
    if parse_time(override["start"]) < ask.now:
        override["end"] = iso(ask.now)
        return 200, {}
    schedule["overrides"].remove(override)
    return 204, None
