"""What happened about an entry: to the same target, by the same agent, in the same use of a tool. All of it in bounded time: so
many entries before and after it are looked at, in the order in which they were written."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any, Final

from django.db.models import Q, QuerySet

from policies.core import chain
from policies.core.call import EntryKind
from policies.models import Entry, User
from portal.audit.rows import targets
from portal.audit.search import LOOK_AT_COLUMNS, LOOK_AT_RECORDS, holds

NEARBY: Final = dt.timedelta(minutes=10)
IDLE: Final = dt.timedelta(minutes=30)
"""A session ends when its agent has done nothing for so long."""
LISTED: Final = 20
"""Entries of each kind that a page lists."""
MOST: Final = 1_000
"""Entries of one session that are counted, before and after."""


@dataclass(frozen=True, slots=True)
class Session:
    """What one agent did without a longer pause."""

    began: dt.datetime
    ended: dt.datetime
    entries: int
    denied: int
    tools: int
    whole: bool
    """Both of its ends were found."""
    query: str
    """Finds its entries."""


@dataclass(frozen=True, slots=True)
class Around:
    """What belongs to an entry, as far as a person may see it; each list in order of writing."""

    same: list[Entry]
    """The other entries of its decision: the intent of a result, the result of an intent."""
    target: list[Entry]
    targets: list[tuple[str, str]]
    use: list[Entry]
    session: Session | None


def around(row: Entry, user: User) -> Around:
    visible = Entry.objects.visible_to(user)
    same = list(visible.filter(decision_id=row.decision_id).exclude(pk=row.pk).order_by("pk")[:LISTED])
    details: dict[str, Any] = json.loads(row.record)["details"]
    # The result of a write leaves to its intent what both are about.
    about = targets(details) or [found for other in same for found in targets(json.loads(other.record)["details"])]
    others = visible.exclude(decision_id=row.decision_id)
    return Around(same, _to(about, row, others), about, _in_use(details, row, others), _session(row, visible))


def _near(rows: QuerySet[Entry], row: Entry, look: int) -> QuerySet[Entry]:
    return rows.filter(pk__gte=row.pk - look // 2, pk__lte=row.pk + look // 2).order_by("pk")


def _to(about: list[tuple[str, str]], row: Entry, others: QuerySet[Entry]) -> list[Entry]:
    """What else was done to the same targets within ten minutes."""
    if not about:
        return []
    named = reduce(or_, (Q(holds(json.dumps(name))) for _, name in about[:3]))
    times = Q(at__gte=row.at - NEARBY, at__lte=row.at + NEARBY)
    return list(_near(others, row, LOOK_AT_RECORDS).filter(times, named)[:LISTED])


def _in_use(details: dict[str, Any], row: Entry, others: QuerySet[Entry]) -> list[Entry]:
    """The other calls of the same use of a tool."""
    use = details.get("use")
    if not isinstance(use, dict) or not isinstance(use.get("id"), str):
        return []
    times = Q(at__gte=row.at - NEARBY, at__lte=row.at + NEARBY)
    told = holds(f'"use":{{"id":{json.dumps(use["id"])},')
    return list(_near(others, row, LOOK_AT_RECORDS).filter(times, told)[:LISTED])


def _session(row: Entry, visible: QuerySet[Entry]) -> Session | None:
    if not row.actor.startswith("key:") or row.kind not in (EntryKind.INTENT, EntryKind.RESULT):
        return None
    facts = ("pk", "at", "kind", "verdict", "tool")
    rows = visible.filter(actor=row.actor).values_list(*facts)
    before = rows.filter(pk__lt=row.pk, pk__gte=row.pk - LOOK_AT_COLUMNS).order_by("-pk")[:MOST]
    after = rows.filter(pk__gt=row.pk, pk__lte=row.pk + LOOK_AT_COLUMNS).order_by("pk")[:MOST]
    found, whole = [(row.pk, row.at, row.kind, row.verdict, row.tool)], True
    for side in (before, after):
        last, paused = row.at, False
        for fact in side:
            if abs(fact[1] - last) > IDLE:
                paused = True
                break
            found.append(fact)
            last = fact[1]
        whole = whole and (paused or _is_all(side, row, up=side is after))
    times = [at for _, at, *_ in found]
    began, ended = min(times), max(times)
    # A query's times are whole seconds.
    until = ended.replace(microsecond=0) + dt.timedelta(seconds=1)
    query = f"agent:{row.actor} since:{began:%Y-%m-%dT%H:%M:%S} until:{until:%Y-%m-%dT%H:%M:%S}"
    calls = [fact for fact in found if fact[2] == EntryKind.RESULT]
    denied = sum(verdict != "allow" for *_, verdict, _ in calls)
    return Session(began, ended, len(found), denied, len({tool for *_, tool in found if tool}), whole, query)


def _is_all(side: QuerySet[Entry, Any], row: Entry, *, up: bool) -> bool:
    """Whether a side ended where the journal does, or after a pause that is longer than a session's, rather than where no more
    was looked at."""
    if len(side) == MOST:
        return False
    edge = (
        Entry.objects.filter(pk__gt=row.pk + LOOK_AT_COLUMNS)
        if up
        else Entry.objects.filter(pk__lt=row.pk - LOOK_AT_COLUMNS)
    )
    beyond = edge.order_by("pk" if up else "-pk").values_list("at", flat=True).first()
    last = side[len(side) - 1][1] if len(side) else row.at
    return beyond is None or abs(beyond - last) > IDLE


def follows(row: Entry) -> bool | None:
    """Whether the entry's hash is that of its record and of the entry before it in its chain; None: that one is not there."""
    if row.seq == 1:
        return chain.link(chain.ZERO, row.record) == row.hash
    before = Entry.objects.filter(stream_id=row.stream_id, seq=row.seq - 1).values_list("hash", flat=True).first()
    return None if before is None else chain.link(before, row.record) == row.hash
