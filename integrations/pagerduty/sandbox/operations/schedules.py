"""v2 schedules, their overrides, and who is on call."""

from __future__ import annotations

from typing import Any

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    FAR,
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


@route("GET", "/schedules", "schedules.read")
def list_schedules(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.schedules, ask.one("query")), ask.many("team_ids"))
    shown = ask.include >= {"schedule_layers"}
    since, until = ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    zone_asked = ask.zone()

    def show(row: Document) -> Document:
        found = docs.schedule_document(ask.world, row, since if shown else None, until if shown else None, zone_asked)
        return {
            name: value
            for name, value in found.items()
            if name not in ("schedule_layers", "overrides_subschedule", "final_schedule")
            or name in ask.include
            or shown
        }

    return 200, ask.page("schedules", rows, show)


def _schedule(ask: Ask) -> Document:
    """The v2 schedule that the path names. v2 and v3 ids are two namespaces: the other one's is not unknown, but wrong."""
    if any(row["id"] == ask.path["id"] for row in ask.world.v3):
        raise invalid("This is a v3 schedule: ask for it at /v3/schedules")
    return find(ask.world.schedules, ask.path["id"])


@route("GET", "/schedules/{id}", "schedules.read")
def get_schedule(ask: Ask) -> Result:
    schedule, zone_asked = _schedule(ask), ask.zone()
    if not ask.one("since") and not ask.one("until"):
        return 200, {"schedule": docs.schedule_document(ask.world, schedule, None, None)}
    since, until = ask.window(ask.now, ask.now + FORTNIGHT, width=FORTNIGHT)
    found = docs.schedule_document(ask.world, schedule, since, until, zone_asked, overflow=ask.flag("overflow"))
    return 200, {"schedule": found}


SCHEDULE_FIELDS = {
    "type": string(),
    "name": string(longest=255),
    "time_zone": zone,
    "description": string(blank=True),
}
"""What an update of a schedule of either kind may hold."""


@route("PUT", "/schedules/{id}", "schedules.write")
def update_schedule(ask: Ask) -> Result:
    schedule = _schedule(ask)
    asked = ask.read(
        "schedule",
        record(
            {},
            {
                **SCHEDULE_FIELDS,
                "schedule_layers": list_of(_layer_shape(ask.world), 1, 100),
            },
        ),
    )
    changed: Document = {name: asked[name] for name in ("name", "time_zone", "description") if name in asked}
    if "name" in asked:
        changed["summary"] = asked["name"]
    if "schedule_layers" in asked:
        changed["schedule_layers"] = [_layer(ask, row) for row in asked["schedule_layers"]]
        changed["users"] = list(
            {
                entry["user"]["id"]: entry["user"] for layer in changed["schedule_layers"] for entry in layer["users"]
            }.values()
        )
    schedule |= changed
    return 200, {"schedule": docs.schedule_document(ask.world, schedule, None, None)}


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


def _layer(ask: Ask, asked: Document) -> Document:
    return {
        "id": asked.get("id") or ask.world.next_id("PL"),
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
    since, until = ask.window(ask.now, ask.now + 1)
    on = {shift[2] for shift in final_shifts(schedule, since, until)}
    return 200, {
        "users": [
            docs.user_document(ask.world, place) for place, user in enumerate(ask.world.users) if user["id"] in on
        ]
    }


@route("GET", "/schedules/{id}/overrides", "schedules.read")
def list_overrides(ask: Ask) -> Result:
    schedule = _schedule(ask)
    since, until = ask.required_window()
    return 200, {
        "overrides": [
            override
            for override in schedule["overrides"]
            if parse_time(override["start"]) < until and parse_time(override["end"]) > since
        ]
    }


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


@route("GET", "/oncalls", "oncalls.read")
def list_oncalls(ask: Ask) -> Result:
    world = ask.world
    since, until = ask.window(ask.now, ask.now + 1, FAR)
    if until > ask.now + FAR:
        raise invalid("Until must be at most 90 days in the future")
    schedules = {schedule["id"]: schedule for schedule in world.schedules}
    users = {user["id"]: user for user in world.users}
    wanted_users, wanted_schedules = ask.many("user_ids"), ask.many("schedule_ids")
    wanted_policies = ask.many("escalation_policy_ids")
    rendered: dict[str, list[tuple[float, float, str]]] = {}
    rows: list[Document] = []
    for policy in world.policies:
        if wanted_policies and policy["id"] not in wanted_policies:
            continue
        for level, rule in enumerate(policy["escalation_rules"], 1):
            for target in rule["targets"]:
                schedule = schedules.get(target["id"])
                if wanted_schedules and target["id"] not in wanted_schedules:
                    continue
                shifts: list[tuple[float | None, float | None, str]] = [(None, None, target["id"])]
                if schedule is not None:
                    # Whole shifts, not cut at the window's edges: widened, then kept where they touch it.
                    if schedule["id"] not in rendered:
                        rendered[schedule["id"]] = final_shifts(schedule, since - 15 * DAY, until + 15 * DAY)
                    shifts = [shift for shift in rendered[schedule["id"]] if shift[0] < until and shift[1] > since]
                seen = set()
                for start, end, user in shifts:
                    if (wanted_users and user not in wanted_users) or (ask.flag("earliest") and user in seen):
                        continue
                    seen.add(user)
                    row: Document = {
                        "escalation_policy": docs.expanded(policy, "escalation_policies", ask.include),
                        "escalation_level": level,
                        "user": docs.expanded(users[user], "users", ask.include),
                        "schedule": None if schedule is None else docs.expanded(schedule, "schedules", ask.include),
                        "start": None if start is None else iso(start),
                        "end": None if end is None else iso(end),
                    }
                    rows.append(row)
    return 200, ask.page("oncalls", rows)
