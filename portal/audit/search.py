"""From a query to a page of entries, in bounded time however long the journal is.

The journal has few indexes, for they are what an append costs. So a page looks at no more than so many entries, downwards or
upwards from where it begins by their ids; if that was not enough to fill it, it says how far it looked and goes on from there.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import F, Func, OuterRef, Q, QuerySet, Subquery, TextField, Value
from django.db.models.functions import StrIndex
from django.db.models.lookups import GreaterThan

from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.core.call import EntryKind
from policies.models import AgentKey, Entry, Stream, Team, User
from portal.audit.query import BadQuery, Query, span

PAGE: Final = 50
LOOK_AT_COLUMNS: Final = 10_000
LOOK_AT_RECORDS: Final = 6_000
"""Entries that one page looks at at most, where it need not read their records, and where it must."""
NEAR: Final = 1_000
"""How many ids may lie between where a time begins and where it is looked for."""
LATE: Final = dt.timedelta(minutes=5)
"""How much later than its own time an entry may be written, but for those that were spooled."""


class AsciiLower(Func):
    """In small letters. Records are ASCII, which PostgreSQL turns four times as fast when it knows."""

    function = "LOWER"
    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template='LOWER(%(expressions)s COLLATE "C")', **extra)


@dataclass(frozen=True, slots=True)
class Scope:
    """Which entries a query is about, for one person at one moment."""

    rows: QuerySet[Entry]
    """Those that the person may see and that fit."""
    candidates: QuerySet[Entry]
    """Those that are looked at for them: by team at most, which has an index."""
    look: int
    """How many of them a page may look at."""
    since: dt.datetime | None
    until: dt.datetime | None
    team_id: int | None
    """The only team that it is of."""

    def ends(self) -> tuple[int, int] | None:
        """The lowest and the highest id of any entry that can fit; None: none can."""
        if self.rows.query.is_empty():
            return None
        # Asked for both at once, SQLite walks along all of them.
        low = Entry.objects.order_by("pk").values_list("pk", flat=True).first()
        high = Entry.objects.order_by("-pk").values_list("pk", flat=True).first()
        if low is None or high is None:
            return None
        if self.since is not None:
            low = _boundary(self.since - LATE, low, high, after=False)
        if self.until is not None:
            high = max(_boundary(self.until + LATE, low, high, after=True), _late(self.until))
        return low, high


@dataclass(frozen=True, slots=True)
class Found:
    """A page of entries, the newest first."""

    entries: list[Entry]
    older: int | None
    """Where the next page begins: before this id. None: there is nothing older."""
    newer: int | None
    """The page before it: after this id. None: nothing newer is known of."""
    reached: dt.datetime | None
    """The page is not full, for so many entries were looked at: back to this moment."""


def scope(query: Query, user: User, now: dt.datetime) -> Scope:
    """Raises ``BadQuery`` where a name is nobody's that ``user`` sees."""
    rows = Entry.objects.visible_to(user)
    candidates, reads = rows, False
    team_id = None
    if query.team:
        team_id = _team(query.team, user)
        rows = candidates = rows.filter(team_id=team_id)
    elif not (user.is_administrator or user.is_auditor):
        # Of one team by its own index; the rows of several lie among all others'.
        teams = list(Team.objects.editable_by(user).values_list("pk", flat=True)[:2])
        if not teams:
            rows = rows.none()
        elif len(teams) == 1:
            team_id = teams[0]
            rows = candidates = rows.filter(team_id=team_id)
        else:
            candidates = Entry.objects.all()
    else:
        candidates = Entry.objects.all()
    for name, column in (("kind", "kind"), ("tool", "tool"), ("verdict", "verdict"), ("outcome", "outcome")):
        if value := getattr(query, name):
            rows = rows.filter(**{column: value})
    since, until = span(query, now)
    if since is not None:
        rows = rows.filter(at__gte=since)
    if until is not None:
        rows = rows.filter(at__lt=until)
    for condition, in_record in _facts(query, user):
        rows, reads = rows.filter(condition), reads or in_record
    if query.decision:
        # Few entries, by an index of their own.
        rows = candidates = rows.filter(decision_id=query.decision)
    # To look for a word whatever its capitals costs twice as much.
    look = LOOK_AT_RECORDS // max(2 * len(query.words), 1) if reads else LOOK_AT_COLUMNS
    return Scope(rows, candidates, look, since, until, team_id)


def _facts(query: Query, user: User) -> list[tuple[Q | GreaterThan, bool]]:
    """Conditions on what has no column of its own, and whether they read the record. It is canonical JSON: keys sorted, no
    blanks, quotes within texts escaped; so no text can pretend to be a key with its value."""
    told: list[tuple[Q | GreaterThan, bool]] = []
    if query.agent:
        told.append(_actor(query.agent, "key:", _keys(query.agent, user), '"kind":"agent","name":'))
    if query.person:
        people = User.objects.visible_to(user).filter(Q(email__iexact=query.person) | Q(name__iexact=query.person))
        told.append(_actor(query.person, "user:", [str(pk) for pk in people.values_list("pk", flat=True)], '"by":'))
    if query.connection:
        named = Connection.objects.visible_to(user).filter(name__iexact=query.connection)
        ids = [str(pk) for pk in named.values_list("pk", flat=True)]
        told.append((Q(resource__in=ids), False) if ids else (holds(f'"connection":{_json(query.connection)},"'), True))
    if query.risk:
        told.append((holds(f'"risk":"{query.risk}","rule":'), True))
    if query.door:
        told.append((holds(f'"door":"{query.door}",'), True))
    if query.target:
        told.append((holds(f'"{query.target}"'), True))
    if query.use:
        told.append((holds(f'"use":{{"id":"{query.use}",'), True))
    if query.revealed:
        told.append((holds('"revealed":{'), True))
    if query.jobs:
        # What the portal notices (alarms) stays: it is no call of its own.
        told.append((~Q(kind=EntryKind.RESULT, actor__startswith="job:"), False))
    for word in query.words:
        tools = [name for name, tool in TOOLS.items() if word.casefold() in tool.title.casefold()]
        there = GreaterThan(StrIndex(AsciiLower(F("record")), Value(_json(word.lower())[1:-1])), 0)
        told.append((Q(there) | Q(tool__in=tools), True))
    return told


def _actor(name: str, prefix: str, ids: list[str], written: str) -> tuple[Q | GreaterThan, bool]:
    """What somebody did: by their id, or where nobody is called so any more by the name that the record copied."""
    if name.startswith(prefix):
        return Q(actor=name), False
    if ids:
        return Q(actor__in=[f"{prefix}{found}" for found in ids]), False
    return holds(f"{written}{_json(name)}"), True


def _keys(name: str, user: User) -> list[str]:
    keys = AgentKey.objects.visible_to(user)
    prefix = re.fullmatch(r"pwk_([a-z0-9]{8})", name)
    keys = keys.filter(prefix=prefix[1]) if prefix else keys.filter(name__iexact=name)
    return [str(pk) for pk in keys.values_list("pk", flat=True)]


def _team(name: str, user: User) -> int:
    """A team by its slug, its name or its number: the record outlives it."""
    teams = Team.objects.visible_to(user)
    found = list(teams.filter(Q(slug=name) | Q(name__iexact=name)).values_list("pk", flat=True)[:2])
    if len(found) == 1:
        return found[0]
    if not found and re.fullmatch(r"[0-9]{1,18}", name):
        return int(name)
    raise BadQuery(
        [f"Several teams are called “{name}”: use the name in its address." if found else f"You see no team “{name}”."]
    )


def _json(text: str) -> str:
    return json.dumps(text)


def holds(text: str) -> GreaterThan:
    # Not LIKE: SQLite's knows no capitals, and is slower.
    return GreaterThan(StrIndex(F("record"), Value(text)), 0)


def page(where: Scope, *, before: int | None = None, after: int | None = None, size: int = PAGE) -> Found:
    """The entries next to ``before`` (downwards) or ``after`` (upwards); without either the newest."""
    ends = where.ends()
    if ends is None:
        return Found([], None, None, None)
    low, high = ends
    if after is not None:
        start = max(after, low - 1)
        stop = _far(where, start, up=True)
        stop = high if stop is None or stop > high else stop
        upwards = list(where.rows.filter(pk__gt=start, pk__lte=stop).order_by("pk")[:size])
        if len(upwards) == size or stop < high:
            newest = upwards[-1].pk if len(upwards) == size else stop
            entries = upwards[::-1]
            return Found(entries, entries[-1].pk if entries else start + 1, newest, None)
        # The newest page, then: full again.
        before = None
    start = high + 1 if before is None else min(before, high + 1)
    stop = _far(where, start, up=False)
    stop = low if stop is None or stop < low else stop
    entries = list(where.rows.filter(pk__lt=start, pk__gte=stop).order_by("-pk")[: size + 1])
    newer = start - 1 if before is not None and start <= high else None
    if len(entries) > size:
        entries = entries[:size]
        return Found(entries, entries[-1].pk, newer, None)
    if stop > low:
        reached = Entry.objects.filter(pk__lte=stop).order_by("-pk").values_list("at", flat=True).first()
        return Found(entries, stop, newer, reached)
    return Found(entries, None, newer, None)


def _far(where: Scope, start: int, *, up: bool) -> int | None:
    """The id of the last entry that a page from ``start`` looks at; None: all there are."""
    if where.candidates.query.where:
        rows = where.candidates.filter(pk__gt=start) if up else where.candidates.filter(pk__lt=start)
        ids = rows.order_by("pk" if up else "-pk").values_list("pk", flat=True)
        return ids[where.look - 1 : where.look].first()
    return start + where.look if up else start - where.look


def _boundary(moment: dt.datetime, low: int, high: int, *, after: bool) -> int:
    """Where in the order of writing ``moment`` lies, by halving: ids follow time. Of spooled entries, which were brought in
    later, the time tells nothing: where they lie about ``moment``, the id is the one after them (``after``) or before them.
    Near is enough, on that side."""
    timely = Entry.objects.filter(~GreaterThan(StrIndex(F("record"), Value('"spooled":{')), 0))
    while high - low > NEAR:
        middle = (low + high) // 2
        found = timely.filter(pk__gte=low, pk__lte=middle).order_by("-pk").values_list("pk", "at").first()
        if found is not None and found[1] < moment:
            low = middle + 1 if after else found[0] + 1
        elif found is None and after:
            low = middle + 1
        else:
            high = middle
    return high if after else low


def _late(until: dt.datetime) -> int:
    """The highest id of entries that were spooled before ``until`` and brought in after it; 0: there are none."""
    brought = Stream.objects.filter(name__startswith="spool/", created_at__gte=until)
    of_stream = Entry.objects.filter(stream=OuterRef("pk"))
    first, last = of_stream.order_by("seq").values("at")[:1], of_stream.order_by("-seq").values("pk")[:1]
    ends = brought.values_list(Subquery(first), Subquery(last))
    return max((pk for at, pk in ends if pk is not None and at < until), default=0)
