"""What ends with a connection that is deleted, and what is left behind by a person who leaves: told beforehand, dealt with in one
transaction."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Exists, OuterRef

from integrations.actions import enabled_tools, is_running
from integrations.models import Connection, RunningTest
from policies.core.call import EntryKind, Tool
from policies.models import AgentKey, Entry

# A connection


@dataclass(frozen=True, slots=True)
class Ending:
    """What stops when a connection is deleted."""

    keys: list[AgentKey]
    """Those that are revoked with it, those used last first; expired ones too, for their end could have been moved."""
    tools: list[Tool]
    """What the team has on and at least one of these keys may use, in the catalogue's order."""
    others: list[Connection]
    """The team's other connections that are switched on: their keys go on."""
    under_way: list[str]
    """What would be cut off or lost, in sentences."""


def ending_of(connection: Connection, now: dt.datetime) -> Ending:
    keys = [link.key for link in connection.keys.select_related("key").filter(key__revoked_at=None)]
    keys.sort(key=lambda key: (key.last_used_at is None, -(key.last_used_at or now).timestamp(), key.name))
    wide = any(key.tools is None for key in keys)
    reach = {tool for key in keys for tool in key.tools or ()}
    tools = [tool for tool in enabled_tools(connection.team) if wide or tool.name in reach] if keys else []
    others = connection.team.connections.filter(is_enabled=True).exclude(pk=connection.pk)
    return Ending(keys, tools, list(others), _under_way(connection, now))


def _under_way(connection: Connection, now: dt.datetime) -> list[str]:
    results = Entry.objects.filter(decision_id=OuterRef("decision_id"), kind=EntryKind.RESULT.value)
    since = now - dt.timedelta(seconds=settings.CALL_TIME_LIMIT)
    # By the index of intents, of which few are so new.
    intents = Entry.objects.filter(kind="intent", at__gte=since, resource=str(connection.pk))
    told = []
    if writes := intents.exclude(Exists(results)).count():
        told.append(
            f"{writes} write{'s are' if writes != 1 else ' is'} on the way to PagerDuty now: what was sent is completed and "
            "recorded."
        )
    running = RunningTest.objects.filter(pk=connection.pk).first()
    if running is not None and is_running(running, now):
        told.append(f"A test runs, asked for by {running.asked_by}: it ends without a finding.")
    if connection.candidate_fingerprint is not None:
        told.append(f"A replacement token (…{connection.candidate_last4}) waits for its test: it is destroyed, too.")
    if connection.from_email_proposed:
        told.append(f"Acting as {connection.from_email_proposed} waits for an administrator's signature.")
    return told
