"""Documents as PagerDuty answers them, put into a mirror one by one: for what a test must choose itself."""

from __future__ import annotations

import datetime as dt
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from django.utils import timezone

from integrations import mirror
from integrations.models import Connection, Mirror, MirroredDocument, MirrorPart

Document = dict[str, Any]
HOUR = 3_600
DAY = 24 * HOUR


def iso(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def person(id: str, name: str, email: str = "", **more: Any) -> Document:
    return {"id": id, "type": "user", "name": name, "summary": name, "email": email, "time_zone": "Etc/UTC", **more}


def reference(user: Document) -> Document:
    return {"id": user["id"], "type": "user_reference", "summary": user["name"]}


def layer(
    users: Iterable[Document],
    start: dt.datetime,
    *,
    turn: int = 7 * DAY,
    id: str = "PL1",
    name: str = "Weekly",
    end: dt.datetime | None = None,
    restrictions: Sequence[Document] = (),
) -> Document:
    return {
        "id": id,
        "name": name,
        "start": iso(start),
        "end": iso(end) if end is not None else None,
        "rotation_virtual_start": iso(start),
        "rotation_turn_length_seconds": turn,
        "users": [{"user": reference(user)} for user in users],
        "restrictions": list(restrictions),
    }


def schedule(id: str, name: str, layers: Sequence[Document], *, zone: str = "UTC", **more: Any) -> Document:
    """``layers``: the winning one first, as PagerDuty answers."""
    users = {user["user"]["id"]: user["user"] for each in layers for user in each["users"]}
    return {
        "id": id,
        "type": "schedule",
        "name": name,
        "summary": name,
        "time_zone": zone,
        "html_url": f"https://acme.pagerduty.com/schedules/{id}",
        "schedule_layers": list(layers),
        "users": list(users.values()),
        "teams": [],
        "escalation_policies": [],
        **more,
    }


def override(id: str, user: Document, start: dt.datetime, end: dt.datetime) -> Document:
    return {"id": id, "start": iso(start), "end": iso(end), "user": reference(user)}


def policy(id: str, name: str, *levels: Sequence[Document], **more: Any) -> Document:
    """``levels``: of each its targets: documents of schedules or users."""
    rules = [
        {
            "id": f"{id}R{number}",
            "escalation_delay_in_minutes": 30,
            "targets": [
                {"id": one["id"], "type": f"{one['type']}_reference", "summary": one["name"]} for one in targets
            ],
        }
        for number, targets in enumerate(levels)
    ]
    base = {"id": id, "type": "escalation_policy", "name": name, "summary": name, "num_loops": 0}
    return {**base, "escalation_rules": rules, "services": [], "teams": [], **more}


def keep(
    connection: Connection,
    *,
    schedules: Iterable[Document] = (),
    overrides: dict[str, list[Document]] | None = None,
    policies: Iterable[Document] = (),
    services: Iterable[Document] = (),
    people: Iterable[Document] = (),
    teams: Iterable[Document] = (),
    as_of: dt.datetime | None = None,
) -> None:
    """Add them to the connection's mirror, which was read whole at ``as_of`` (now)."""
    at = as_of or timezone.now()
    row, _ = Mirror.objects.get_or_create(pk=connection.pk)
    row.version += 1
    row.bounds = mirror._bounds(connection)
    row.begun_at = row.ended_at = at
    row.save()
    kinds = MirrorPart.Kind
    wrapped = [{"schedule": one, "overrides": (overrides or {}).get(one["id"], [])} for one in schedules]
    for kind, documents in (
        (kinds.SCHEDULES, wrapped),
        (kinds.SCHEDULES_V3, []),
        (kinds.POLICIES, list(policies)),
        (kinds.SERVICES, list(services)),
        (kinds.USERS, list(people)),
        (kinds.TEAMS, list(teams)),
    ):
        MirrorPart.objects.update_or_create(
            connection=connection,
            kind=kind,
            defaults={"begun_at": at, "as_of": at, "ended_at": at, "count": len(documents)},
        )
        for document in documents:
            text = msgspec.json.encode(document)
            MirroredDocument.objects.update_or_create(
                connection=connection,
                kind=kind,
                remote_id=document.get("schedule", document)["id"],
                defaults={
                    "body": zlib.compress(text),
                    "digest": hashlib.sha256(text).hexdigest(),
                    "read_at": at,
                    "gone_at": None,
                },
            )
