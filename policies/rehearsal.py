"""What a stop would hold if somebody pulled it now. Reads alone; ``do_rehearse_stop`` keeps that somebody looked."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import Final

from django.db.models import Q

from policies.models import AgentKey, Entry, Stop, Team

LOOKED_BACK: Final = dt.timedelta(hours=1)
LOOKED_AT: Final = 20_000
"""The entries that are looked at, the newest: in a flood an hour may hold many more."""


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key that a stop would hold, and what it did in the last hour."""

    key: AgentKey
    calls: int
    writes: int
    """Of ``calls``, those that were to change something and were let through."""
    stopped: bool
    """Held already, by a stop of its own, of its team or of everything."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    keys: list[KeyUse]
    """The busiest first."""
    others: int
    """Calls of people, of the portal's own jobs and of keys that serve no more."""
    whole_hour: bool
    """Whether all of the hour was looked at; else the newest ``LOOKED_AT`` entries of it."""

    @property
    def calls(self) -> int:
        return sum(use.calls for use in self.keys) + self.others


def rehearse(team: Team | None, key: AgentKey | None, now: dt.datetime) -> Rehearsal:
    """Of ``key``, else of ``team``, else of everything."""
    rows = Entry.objects.order_by("-id")
    keys = AgentKey.objects.select_related("team").filter(revoked_at=None)
    keys = keys.filter(Q(expires_at=None) | Q(expires_at__gt=now))
    if team is not None:
        rows, keys = rows.filter(team_id=team.pk), keys.filter(team=team)
    if key is not None:
        keys = keys.filter(pk=key.pk)
    # In the order of the index and to its limit: there is none by time, and what was spooled comes late.
    newest = list(rows.values_list("actor", "kind", "at")[:LOOKED_AT])
    since = now - LOOKED_BACK
    counted = Counter((actor, kind) for actor, kind, at in newest if at >= since and kind in ("result", "intent"))
    held = set(Stop.objects.values_list("subject", flat=True))
    uses = [
        KeyUse(
            row,
            counted.pop((f"key:{row.pk}", "result"), 0),
            counted.pop((f"key:{row.pk}", "intent"), 0),
            not held.isdisjoint(("everything", f"team:{row.team_id}", f"key:{row.pk}")),
        )
        for row in keys
    ]
    uses.sort(key=lambda use: (-use.calls, use.key.team.name, use.key.name))
    others = 0 if key is not None else sum(count for (_, kind), count in counted.items() if kind == "result")
    return Rehearsal(uses, others, len(newest) < LOOKED_AT or newest[-1][2] < since)
