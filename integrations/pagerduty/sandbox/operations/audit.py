"""Audit records."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from integrations.pagerduty.sandbox.ask import ApiError, Ask, Result, invalid, route, to_its_end
from integrations.pagerduty.sandbox.audit import TYPES, actor_of, record_document
from integrations.pagerduty.sandbox.world import DAY, Audited

WIDEST: Final = 31 * DAY
MOST: Final = 100
CHOICES: Final = {
    "root_resource_types": (*TYPES, "ip_allow_lists"),
    "actions": ("create", "update", "delete"),
    "actor_type": ("user_reference", "api_key_reference", "app_reference"),
    "method_type": ("browser", "oauth", "api_token", "identity_provider", "other"),
}


@route("GET", "/audit/records", "audit_records.read", plan=True)
def list_audit_records(ask: Ask) -> Result:
    world = ask.world
    if ask.token.kind == "user" and world.users[ask.token.user or 0]["role"] not in ("owner", "admin"):
        raise ApiError(403, "Access Denied", 2010, ["Only administrators can read the audit trail."])
    window = ask.window(ask.now - DAY, ask.now)
    if window[1] - window[0] > WIDEST:
        raise invalid("Until must not be more than 31 days after Since.")
    since, until = to_its_end(window)
    for name, choices in CHOICES.items():
        if not ask.many(name) <= {*choices, ""}:
            raise invalid(f"{name.replace('_', ' ').capitalize()} must be {' or '.join(choices)}.")
    for name, qualifier in (("actor_id", "actor_type"), ("method_truncated_token", "method_type")):
        if ask.one(name) and not ask.one(qualifier):
            raise invalid(f"{name.replace('_', ' ').capitalize()} needs {qualifier.replace('_', ' ')}.")
    limit = ask.number("limit", MOST, MOST)
    place = _place(ask.one("cursor")) if ask.one("cursor") else len(world.audit)
    found: list[Audited] = []
    # The newest first. A place in the trail does not move when it grows.
    while place > 0 and len(found) < limit and world.audit[min(place, len(world.audit)) - 1].at >= since:
        place = min(place, len(world.audit)) - 1
        if world.audit[place].at <= until and _wanted(ask, world.audit[place]):
            found.append(world.audit[place])
    more = any(row.at >= since and row.at <= until and _wanted(ask, row) for row in world.audit[:place])
    return 200, {
        "records": [record_document(world, row) for row in found],
        "next_cursor": _cursor(place) if more else None,
        "limit": limit,
    }


def _wanted(ask: Ask, audited: Audited) -> bool:
    actor = actor_of(ask.world, audited)
    kinds, actions = ask.many("root_resource_types"), ask.many("actions")
    return (
        (not kinds or audited.root[0] in kinds)
        and (not actions or audited.action in actions)
        and ask.one("actor_type") in ("", actor["type"])
        and ask.one("actor_id") in ("", actor["id"])
        and ask.one("method_type") in ("", audited.way)
        and ask.one("method_truncated_token") in ("", audited.token)
    )


def _cursor(place: int) -> str:
    return base64.urlsafe_b64encode(f"record {place}".encode()).decode().rstrip("=")


def _place(cursor: str) -> int:
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (ValueError, binascii.Error):
        text = ""
    if not (match := re.fullmatch(r"record (\d{1,9})", text, re.ASCII)):
        raise invalid("Cursor is not one that this list gave.")
    return int(match[1])
