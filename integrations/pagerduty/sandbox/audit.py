"""The account's audit trail: a generated past, and a record of each change of configuration through the API."""

from __future__ import annotations

import datetime as dt
import json
import random
import zlib
from collections.abc import Callable
from typing import Any, Final

from integrations.pagerduty.sandbox.ask import Ask, Result
from integrations.pagerduty.sandbox.world import (
    API,
    DAY,
    SITE,
    Audited,
    World,
    number_id,
    reference,
)

TYPES: Final = {
    "users": "user",
    "teams": "team",
    "schedules": "schedule",
    "escalation_policies": "escalation_policy",
    "services": "service",
}
UNTOLD: Final = ("updated_at", "last_incident_timestamp")
"""What changes by itself. (What is stored as a service's status is only whether it is disabled.)"""
MADE_OF: Final = (
    "alert_grouping_parameters",
    "auto_pause_notifications_parameters",
    "escalation_policy",
    "escalation_rules",
    "incident_urgency_rule",
    "rotations",
    "schedule_layers",
    "scheduled_actions",
    "support_hours",
    "teams",
)
PAST: Final = 400 * DAY
A_DAY: Final = 3
"""Records on an average day."""


def record_past(world: World) -> None:
    """Needs people, teams, schedules, policies and services to be there."""
    rng = random.Random(f"audit-{world.seed}")
    people = [place for place, user in enumerate(world.users) if user["role"] in ("owner", "admin", "user")]
    times = sorted(world.now - rng.random() * PAST for _ in range(A_DAY * PAST // DAY))
    for number, at in enumerate(times):
        kind = rng.choices(tuple(TYPES), (2, 2, 3, 2, 3))[0]
        row = rng.choice(_rows(world, kind))
        audited = Audited(
            number_id("PDRC", number, 6),
            at,
            rng.choice(people),
            "update",
            (kind, row["id"], row["summary"]),
        )
        if kind == "teams":
            audited.members = rng.randrange(len(world.users)), rng.random() < 0.6
        else:
            audited.fields = (rng.choice(_changes(kind, row["summary"])),)
        if rng.random() < 0.3:
            audited.way, audited.token = "api_token", f"{rng.getrandbits(16):04x}"
        world.audit.append(audited)


def _changes(kind: str, name: str) -> tuple[tuple[str, str, str], ...]:
    return {
        "users": (("job_title", "Engineer", "Senior engineer"), ("role", "limited_user", "user")),
        "schedules": (("name", f"{name} (old)", name), ("time_zone", "Etc/UTC", "Europe/London")),
        "escalation_policies": (("num_loops", "1", "2"), ("description", "", name)),
        "services": (("acknowledgement_timeout", "3600", "1800"), ("description", "", f"The {name} service")),
    }[kind]


def _rows(world: World, kind: str) -> list[dict[str, Any]]:
    return {
        "users": world.users,
        "teams": world.teams,
        "schedules": world.schedules,
        "escalation_policies": world.policies,
        "services": world.services,
    }[kind]


def recorded(ask: Ask, method: str, template: str, operation: Callable[[Ask], Result]) -> Result:
    """Do an operation; where it changes what the trail follows, record it."""
    path = template.removeprefix("/v3").split("/")[1:]
    if method == "GET" or path[0] not in TYPES or path[1:2] not in ([], ["{id}"]):
        return operation(ask)
    identifier = ask.path.get("id", "")
    before = _told(_resource(ask.world, path[0], identifier))
    name = before.get("summary") or before.get("name") or ""
    status, answer = operation(ask)
    if len(path) == 1:
        identifier = next(iter(answer.values()))["id"]
    after = _told(_resource(ask.world, path[0], identifier))
    action = {1: "create", 2: "delete" if method == "DELETE" else "update"}.get(len(path), "update")
    fields = [
        (field, before.get(field), after.get(field))
        for field in sorted({*before, *after} - {"summary"})
        if before.get(field) != after.get(field)
    ]
    ask.world.audit.append(
        Audited(
            ask.world.next_id("PDRC"),
            ask.now,
            ask.token.user,
            action,
            (path[0], identifier, after.get("summary") or after.get("name") or name),
            tuple(fields),
            _member(ask, method) if path[0] == "teams" and path[2:3] == ["users"] else None,
            way="oauth" if ask.token.kind == "oauth" else "api_token",
            token=ask.token.value[-4:],
        )
    )
    return status, answer


def _member(ask: Ask, method: str) -> tuple[int, bool] | None:
    """Who came into a team or left it."""
    for place, user in enumerate(ask.world.users):
        if user["id"] == ask.path.get("user_id"):
            return place, method != "DELETE"
    return None


def _resource(world: World, kind: str, identifier: str) -> dict[str, Any]:
    rows = [*_rows(world, kind), *(world.v3 if kind == "schedules" else ())]
    return next((row for row in rows if row["id"] == identifier), {})


def _told(row: dict[str, Any]) -> dict[str, str]:
    """The fields of a resource that a record can tell: texts, numbers and switches, and what it is made of as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(_short(value), separators=(",", ":"))
        for name, value in row.items()
        if (isinstance(value, str | int | float) or (name in MADE_OF and value is not None))
        and name not in UNTOLD
        and not name.endswith(("_url", "self"))
    }


def _short(value: Any) -> Any:
    """With ids for references, and without the addresses that hang on the ids."""
    if isinstance(value, list):
        return [_short(row) for row in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("type", "")).endswith("_reference") and "id" in value:
        return value["id"]
    return {name: _short(inner) for name, inner in value.items() if name not in ("self", "html_url")}


def actor_of(world: World, audited: Audited) -> dict[str, Any]:
    if audited.actor is not None:
        return reference(world.users[audited.actor])
    return {
        "id": number_id("PKEY", zlib.crc32(str(audited.token).encode()), 7),
        "type": "api_key_reference",
        "summary": f"API key …{audited.token}",
        "self": None,
        "html_url": None,
    }


def record_document(world: World, audited: Audited) -> dict[str, Any]:
    kind, identifier, name = audited.root
    root = {
        "id": identifier,
        "type": f"{TYPES[kind]}_reference",
        "summary": name,
        "self": f"{API}/{kind}/{identifier}",
        "html_url": f"{SITE}/{kind}/{identifier}",
    }
    details: dict[str, Any] = {"resource": root}
    if audited.fields:
        details["fields"] = [
            {"name": field}
            | ({} if before is None else {"before_value": before})
            | ({} if after is None else {"value": after})
            for field, before, after in audited.fields
        ]
    if audited.members is not None:
        place, came = audited.members
        change = "added" if came else "removed"
        details["references"] = [{"name": "members", change: [reference(world.users[place])]}]
    moment = dt.datetime.fromtimestamp(audited.at, dt.UTC)
    return {
        "id": audited.id,
        "self": None,
        "execution_time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "execution_context": {"request_id": None, "remote_address": None},
        "actors": [actor_of(world, audited)],
        "method": {"type": audited.way, "description": None, "truncated_token": audited.token},
        "root_resource": root,
        "action": audited.action,
        "details": details,
    }
