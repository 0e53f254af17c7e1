"""Documents of PagerDuty's as a mirror keeps them, made by hand: for tests that must know every hour of them."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

from django.db.models import F
from django.utils import timezone

from integrations import mirror
from integrations.models import Connection, Mirror, MirroredDocument, MirrorPart

Row = dict[str, Any]
WEEK = 604_800


def schedule(id: str, name: str = "", *, users: Sequence[str] = ("PUSRA",), days: float = 7, zone: str = "UTC") -> Row:
    """On call by the week in turn, from Monday 00:00 for ``days``; 7: always; no users: nobody, ever."""
    people = [{"id": user, "type": "user_reference", "summary": user.title()} for user in users]
    hours = {"type": "weekly_restriction", "start_day_of_week": 1, "start_time_of_day": "00:00:00"}
    layer = {
        "id": f"{id}L",
        "name": "Layer 1",
        "start": "2026-01-05T00:00:00Z",
        "end": None,
        "rotation_virtual_start": "2026-01-05T00:00:00Z",
        "rotation_turn_length_seconds": WEEK,
        "users": [{"user": person} for person in people],
        "restrictions": [] if days == 7 else [{**hours, "duration_seconds": int(days * 86_400)}],
    }
    return {
        "id": id,
        "type": "schedule",
        "name": name or id,
        "time_zone": zone,
        "schedule_layers": [layer] if people else [],
        "users": people,
        "teams": [],
    }


def policy(id: str, name: str = "", *levels: str, loops: int = 0, teams: Sequence[str] = (), delay: int = 10) -> Row:
    """``levels``: a schedule or a user each, by id (users' begin with PUSR)."""
    rules = [
        {
            "id": f"{id}{number}",
            "escalation_delay_in_minutes": delay,
            "targets": [{"id": each, "type": "user_reference" if each.startswith("PUSR") else "schedule_reference"}],
        }
        for number, each in enumerate(levels)
    ]
    return {
        "id": id,
        "type": "escalation_policy",
        "name": name or id,
        "num_loops": loops,
        "escalation_rules": rules,
        "teams": [{"id": team, "type": "team_reference", "summary": team.title()} for team in teams],
    }


def service(id: str, policy_id: str, name: str = "", **more: Any) -> Row:
    uses = {"id": policy_id, "type": "escalation_policy_reference"} if policy_id else None
    return {"id": id, "type": "service", "name": name or id, "status": "active", "escalation_policy": uses, **more}


def person(id: str, name: str, *, zone: str = "UTC", ladder: Sequence[tuple[str, int]] = (("email", 0),)) -> Row:
    """``ladder``: by what and after how many minutes, for both urgencies."""
    kinds = {"email": "email_contact_method", "phone": "phone_contact_method"}
    contacts = [
        {"id": f"{id}{kind}", "type": kinds[kind], "label": kind, "address": f"{kind[0]}•••"}
        for kind in dict.fromkeys(kind for kind, _ in ladder)
    ]
    rules = [
        {
            "id": f"{id}{number}{urgency}",
            "start_delay_in_minutes": delay,
            "urgency": urgency,
            "contact_method": {"id": f"{id}{kind}", "type": f"{kinds[kind]}_reference"},
        }
        for number, (kind, delay) in enumerate(ladder)
        for urgency in ("high", "low")
    ]
    return {
        "id": id,
        "type": "user",
        "name": name,
        "email": f"{id.lower()}@example.com",
        "time_zone": zone,
        "contact_methods": contacts,
        "notification_rules": rules,
    }


def keep(connection: Connection, *rows: Row, incidents: dict[str, dict[str, list[int]]] | None = None) -> mirror.Kept:
    """Put them into its mirror, beside what is there. ``incidents``: by day (ISO) and service the count of each hour."""
    now = timezone.now()
    kinds = {"schedule": "schedules", "escalation_policy": "policies", "service": "services", "user": "users"}
    documents = [(kinds[row["type"]], row["id"], _wrapped(row)) for row in rows]
    documents += [("incidents", day, counts) for day, counts in (incidents or {}).items()]
    Mirror.objects.get_or_create(connection=connection, defaults={"bounds": mirror._bounds(connection)})
    for kind in ("schedules", "schedules_v3", "policies", "services"):
        MirrorPart.objects.get_or_create(connection=connection, kind=kind, defaults={"as_of": now, "begun_at": now})
    for kind, key, document in documents:
        body = json.dumps(document, sort_keys=True).encode()
        values = {"body": zlib.compress(body, 1), "digest": f"{hash(body)}", "read_at": now, "gone_at": None}
        MirroredDocument.objects.update_or_create(connection=connection, kind=kind, remote_id=key, defaults=values)
    Mirror.objects.filter(pk=connection.pk).update(version=F("version") + 1)
    return mirror.kept(connection)


def _wrapped(row: Row) -> Row:
    return {"schedule": row, "overrides": []} if row["type"] == "schedule" else row
