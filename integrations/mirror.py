"""The mirror: a connection's PagerDuty account as it was read last, for pages, alerts and tools.

``sync`` reads, as ``job:mirror``, through the pipeline like everybody; ``kept`` tells what was read. A reading goes on where it
stood: what is left of it is a queue in its part's row, written together with the documents that it brought, so a process may be
killed at any instant. Whoever holds the lease reads alone, and every write asks for the lease again.

What it costs PagerDuty: a quarter of the rate limit a minute at most, nothing while less than two fifths of it are left (people
and agents come first), and for each run a number of calls.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import itertools
import logging
import math
import secrets
import threading
import time
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection as database
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from integrations import mirror_history, mirror_tasks
from integrations.actions import bounds_of, suspension
from integrations.mirror_tasks import (
    AT_ONCE,
    DAY,
    IF_OURS,
    Ask,
    Came,
    Cannot,
    Document,
    Got,
    Task,
    Trouble,
    encode,
    fits,
    unpacked,
)
from integrations.models import Connection, Mirror, MirroredDocument, MirroredIncident, MirrorPart, PastKnown, PastShift
from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.model import (
    Account,
    Person,
    Policy,
    Schedule,
    Service,
    Slice,
    Source,
    Span,
)
from policies.core.call import Call, Door, JobCredential
from policies.core.decide import EVERYTHING
from policies.core.text import shown
from policies.models import Stop, User
from policies.querysets import known

log = logging.getLogger(__name__)
Kind = MirrorPart.Kind

JOB: Final = "mirror"
INCIDENT_DAYS: Final = 84
"""Twelve whole weeks, so that each hour of the week has been as often as every other."""
RATED_DAYS: Final = 7
"""As many days must be known before anything is said of incidents an hour."""

MOST_CALLS: Final = 3
SHARE: Final = 0.25
"""Of the rate limit, a minute."""
RESERVE: Final = 0.4
"""Of the rate limit: with less left the mirror waits, for people and agents come first."""
USUAL_LIMIT: Final = 960
"""PagerDuty's calls a minute, where an answer does not say."""
CALLS_A_RUN: Final = 300
SECONDS_A_RUN: Final = 25.0
LEASE: Final = dt.timedelta(seconds=180)
"""Longer than a step can take: whoever has not renewed it by then is dead."""
WORKER_TAKES: Final = dt.timedelta(minutes=2)
"""As long it is believed that a worker will do what was asked for."""
PAUSE_SECONDS: Final = 0.05
"""After each writing, where only one can write at a time: SQLite does not let whoever waits longest go first."""
TRIES: Final = 3
"""Of one task that PagerDuty fails on."""
TROUBLES: Final = 5
"""In one run: then PagerDuty is in trouble, and is left alone."""
UNMADE_SECONDS: Final = 60.0
"""After which it is tried again where the portal itself could not make a call: the next run comes at once, and each such call is
on record."""
REFUSED_MINUTES: Final = 60
"""After which a part that was refused as a whole is tried again."""
GONE_DAYS: Final = 30
"""How long what is gone is kept, schedules aside: their past is asked for."""

# Minutes after which each part is read anew. The order is that of reading: what later ones need comes first, and what moves
# quickly before what takes long. Shift-based schedules cannot be listed whole, so many of them are read less often.
MINUTES: Final[Mapping[str, int]] = {
    Kind.CHANGES: 5,
    Kind.SERVICES: 15,
    Kind.POLICIES: 15,
    Kind.SCHEDULES: 180,
    Kind.SCHEDULES_V3: 15,
    Kind.ONCALLS: 5,
    Kind.USERS: 240,
    Kind.TEAMS: 240,
    Kind.INCIDENTS: 1_440,
    Kind.HISTORY: 5,
    Kind.SHIFTS: 1_440,
    Kind.EARLIER: 60,
}
ESSENTIAL: Final = (Kind.SCHEDULES, Kind.SCHEDULES_V3, Kind.POLICIES, Kind.SERVICES)
"""What pages tell is as old as the oldest of these."""
_ONCE: Final = frozenset({Kind.INCIDENTS, *mirror_history.BACKWARDS})
"""What does not change once it was read: nobody can ask for it anew."""
_TASKS: Final = {**mirror_tasks.TASKS, **mirror_history.TASKS}
_LISTS: Final = frozenset({"list", "days"}) | mirror_history.LISTS
"""Tasks without which a reading is not whole."""
_TOGETHER: Final = frozenset({"one", "page", "incident", "log", "past"})
"""Tasks of which several are asked for at once: of others, the one before says what the next is."""
_STOPPED: Final = frozenset({"stopped", "suspended", "no_connection", "error"})
"""Rules whose denial is of everything, not of one part."""

BUSY: Final = "It is being read already."


# What is told


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a mirror, for pages."""

    kind: str
    name: str
    """In words: ``escalation policies``."""
    as_of: dt.datetime | None
    """It is as fresh as that; None: it was never read whole."""
    count: int
    """Documents."""
    problem: str
    """What could not be read, and why, as a sentence; empty: nothing."""
    running: bool
    """Whether a reading of it is under way."""
    since: dt.datetime | None = None
    """Of what happens all the time: how far back it is read."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a connection's account."""

    connection: Connection
    account: Account
    as_of: dt.datetime | None
    """All that is told of schedules, policies and services is as fresh as that; None: it was never read whole."""
    parts: Mapping[str, Part]
    """By kind, those that were ever begun."""
    running: bool = False
    """Whether somebody reads now, or was asked to."""
    told: str = ""
    """Why nothing could be read lately, as a sentence; empty: it could."""
    version: int = 0

    @property
    def problems(self) -> list[Part]:
        """The parts of which something could not be read."""
        return [part for part in self.parts.values() if part.problem]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was read yet: not the same as an account in which there is nothing."""
        return self.as_of is None and not (self.account.schedules or self.account.policies or self.account.services)


@dataclass(frozen=True, slots=True)
class OnCall:
    """Who PagerDuty itself said is on call, when it was asked last."""

    policy_id: str
    level: int
    user_id: str
    schedule_id: str
    """Empty: named by the policy itself, always."""


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one run."""

    calls: int = 0
    written: int = 0
    """Documents that were new, changed or gone."""
    done: bool = False
    """Whether there is nothing left that is due."""
    told: str = ""
    """Why it ended before that, as a sentence; empty: only its time or its calls were used up."""


def visible_to(user: User) -> list[Connection]:
    """The connections that are switched on and whose mirrors somebody may see: those of their teams, an administrator all. An
    auditor reads none of PagerDuty, whatever they see of the portal."""
    person = known(user)
    if person is None or person.is_auditor:
        return []
    rows = Connection.objects.visible_to(person).filter(is_enabled=True)
    return list(rows.select_related("team").order_by("team__name", "created_at", "pk"))


@dataclass(slots=True)
class _Read:
    """A parsed document of this process, with the digest of what it was parsed from."""

    digest: str
    value: Any
    names: Mapping[str, str]
    """Of people whom it names, by id."""
    teams: Mapping[str, str]
    read_at: dt.datetime


@dataclass(slots=True)
class _Cached:
    version: int = -1
    read: dict[tuple[str, str], _Read] = field(default_factory=dict)
    account: Account = field(default_factory=Account)
    marked: Account | None = None
    """The same with those marked as deleted whom policies name and nobody is; None: not asked for yet."""
    marked_as_of: dt.datetime | None = None
    """Of the people that it was marked by."""
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    on_call: tuple[OnCall, ...] = ()
    lock: threading.Lock = field(default_factory=threading.Lock)


_cache: OrderedDict[UUID, _Cached] = OrderedDict()
_cache_lock: Final = threading.Lock()
CACHED: Final = 256
"""Accounts that a process keeps parsed."""


def forget_cached() -> None:
    """Of this process: tests begin anew."""
    with _cache_lock:
        _cache.clear()


def kept(connection: Connection) -> Kept:
    """What is kept of a connection: two look-ups, and where it changed since this process looked, what changed of it."""
    return kept_of([connection])[connection.pk]


def kept_of(connections: Iterable[Connection]) -> dict[UUID, Kept]:
    """The same of several connections, in the same two look-ups."""
    chosen = {row.pk: row for row in connections}
    mirrors = Mirror.objects.in_bulk(chosen)
    parts: dict[UUID, list[MirrorPart]] = {}
    for part in MirrorPart.objects.filter(connection__in=chosen).defer("state"):
        parts.setdefault(part.connection_id, []).append(part)
    now = timezone.now()
    return {pk: _kept(row, mirrors.get(pk), parts.get(pk, []), now) for pk, row in chosen.items()}


def _kept(connection: Connection, mirror: Mirror | None, rows: Sequence[MirrorPart], now: dt.datetime) -> Kept:
    if mirror is None or mirror.bounds != _bounds(connection):
        # What was read within other bounds is nobody's to see; the next run takes it away.
        return Kept(connection, Account(), None, {})
    held = mirror.held_until is not None and mirror.held_until > now and bool(mirror.holder)
    order = list(MINUTES)
    parts = {
        row.kind: Part(
            row.kind,
            row.get_kind_display(),
            row.as_of,
            row.count,
            row.problem,
            held and row.begun_at is not None and row.ended_at is None,
            None if row.since is None else dt.datetime.fromtimestamp(row.since, dt.UTC),
        )
        for row in sorted(rows, key=lambda row: order.index(row.kind) if row.kind in order else len(order))
    }
    told = [parts[kind].as_of if kind in parts else None for kind in ESSENTIAL]
    # A kind that is refused as a whole, as shift-based schedules are where a plan has none, keeps the others from nothing.
    asked = [
        at
        for at, kind in zip(told, ESSENTIAL, strict=True)
        if not (at is None and kind in parts and parts[kind].problem)
    ]
    as_of = None if None in asked or not asked else min(at for at in asked if at is not None)
    asked_at = mirror.asked_at
    waits = (
        asked_at is not None and asked_at > now - WORKER_TAKES and (not mirror.begun_at or asked_at > mirror.begun_at)
    )
    cached = _cached(connection, mirror.version)
    people = parts.get(Kind.USERS)
    everybody = people.as_of if connection.whole_account and people is not None and not people.problem else None
    return Kept(
        connection,
        _marked(cached, everybody) if everybody else cached.account,
        as_of,
        parts,
        held or waits,
        mirror.told,
        mirror.version,
    )


def past(connection: Connection, schedule_id: str, window: Span) -> tuple[Slice, ...]:
    """Who was on call in ``window``, as PagerDuty itself had it: what was kept when it was over, and of today what the newest
    reading rendered. By start; clipped to the window, and to what is past. Slices of ``""``: nobody."""
    mirror = Mirror.objects.filter(pk=connection.pk).first()
    if mirror is None or mirror.bounds != _bounds(connection):
        return ()
    kinds = (Kind.SCHEDULES, Kind.SCHEDULES_V3)
    ours = MirroredDocument.objects.filter(connection=connection, kind__in=kinds, remote_id=schedule_id)
    if not ours.exists():
        return ()  # Of a schedule that is outside the bounds by now.
    now = int(time.time())
    window = Span(window.start, min(window.end, now))
    rows = PastShift.objects.filter(
        connection=connection, schedule_id=schedule_id, start__lt=window.end, end__gt=window.start
    )
    source = Source("rendered")
    found = [Slice(row.start, row.end, row.user_id, source) for row in rows]
    until = (
        PastKnown.objects.filter(connection=connection, schedule_id=schedule_id).values_list("until", flat=True).first()
    )
    schedule = _cached(connection, mirror.version).account.schedules.get(schedule_id)
    if schedule is not None:
        begin = max(until or 0, window.start)
        found += [
            Slice(max(each.start, begin), min(each.end, now), each.user, source)
            for each in schedule.rendered
            if each.end > begin and each.start < now
        ]
    clipped = (
        Slice(max(each.start, window.start), min(each.end, window.end), each.user, source)
        for each in sorted(found, key=lambda each: (each.start, each.user))
    )
    return tuple(_joined(each for each in clipped if each.end > each.start))


def past_known(connection: Connection, schedule_id: str) -> Span | None:
    """From when to when the past of a schedule is kept; None: it is not. Outside of it nothing is known, not nobody."""
    row = PastKnown.objects.filter(connection=connection, schedule_id=schedule_id).first()
    return None if row is None else Span(row.since, row.until)


def rates(connection: Connection) -> Mapping[str, tuple[float, ...]]:
    """Incidents per hour for each of the 168 hours of the week (from Monday 00:00 UTC), by service id, over the last twelve
    weeks as far as they are known. Empty: they are not."""
    mirror = Mirror.objects.filter(pk=connection.pk).first()
    if mirror is None or mirror.bounds != _bounds(connection):
        return {}
    return _cached(connection, mirror.version).rates


def on_call(connection: Connection) -> tuple[OnCall, ...]:
    """Who PagerDuty said is on call when it was asked last: by policy, level and person."""
    mirror = Mirror.objects.filter(pk=connection.pk).first()
    if mirror is None or mirror.bounds != _bounds(connection):
        return ()
    return _cached(connection, mirror.version).on_call


def _joined(slices: Iterable[Slice]) -> Iterator[Slice]:
    """By start: what goes on without a break is one."""
    open_: dict[str, Slice] = {}
    for each in slices:
        before = open_.get(each.user)
        if before is not None and before.end >= each.start:
            open_[each.user] = before._replace(end=max(before.end, each.end))
            continue
        if before is not None:
            yield before
        open_[each.user] = each
    yield from open_.values()


# Parsing, once for each document that changed


def _cached(connection: Connection, version: int) -> _Cached:
    with _cache_lock:
        found = _cache.setdefault(connection.pk, _Cached())
        _cache.move_to_end(connection.pk)
        while len(_cache) > CACHED:
            _cache.popitem(last=False)
    with found.lock:
        if found.version != version:
            _refill(found, connection.pk)
            found.version = version
    return found


def _refill(cached: _Cached, connection_id: UUID) -> None:
    rows = MirroredDocument.objects.filter(connection=connection_id, gone_at=None).order_by()
    digests = {(kind, id): digest for kind, id, digest in rows.values_list("kind", "remote_id", "digest")}
    stale = [key for key, digest in digests.items() if (read := cached.read.get(key)) is None or read.digest != digest]
    # A fixed number of look-ups where all is new, few rows where little changed.
    wanted = rows if len(stale) > len(digests) // 2 else rows.filter(remote_id__in=[id for _, id in stale][:500])
    if len(stale) > 500:
        wanted = rows
    for row in wanted.iterator(chunk_size=200) if stale else ():
        key = (row.kind, row.remote_id)
        if (read := cached.read.get(key)) is None or read.digest != row.digest:
            cached.read[key] = _parse(row)
            digests[key] = row.digest
    cached.read = {key: read for key, read in cached.read.items() if key in digests}
    cached.account, cached.marked = _account(cached.read), None
    cached.rates = _rates(cached.read)
    cached.on_call = tuple(
        each for (kind, _), read in sorted(cached.read.items()) if kind == Kind.ONCALLS for each in read.value
    )


def _parse(row: MirroredDocument) -> _Read:
    document = unpacked(row.body)
    names: dict[str, str] = {}
    teams: dict[str, str] = {}
    value: Any = None
    try:
        match row.kind:
            case Kind.SCHEDULES | Kind.SCHEDULES_V3:
                inner = document["schedule"]
                value = reading.schedule(inner, _apart(document.get("overrides")))
                if row.window_start is not None and row.window_end is not None:
                    value = dataclasses.replace(value, rendered_window=Span(row.window_start, row.window_end))
                names, teams = _named(inner.get("users")), _named(inner.get("teams"))
            case Kind.POLICIES:
                value = reading.policy(document)
                targets = [one for rule in document.get("escalation_rules") or () for one in rule.get("targets") or ()]
                names = _named(one for one in targets if str(one.get("type")).startswith("user"))
                teams = _named(document.get("teams"))
            case Kind.SERVICES:
                value, teams = reading.service(document), _named(document.get("teams"))
            case Kind.USERS:
                value, teams = reading.person(document), _named(document.get("teams"))
            case Kind.TEAMS:
                value = str(document.get("name") or document.get("summary") or row.remote_id)
            case Kind.ONCALLS:
                value = tuple(_on_calls(row.remote_id, document))
            case Kind.INCIDENTS:
                value = document
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # One that cannot be read at all must not take the others along.
        log.warning("The mirrored document %s %s cannot be read: %s", row.kind, row.remote_id, type(error).__name__)
        value = () if row.kind == Kind.ONCALLS else None
    return _Read(row.digest, value, names, teams, row.read_at)


def _apart(overrides: list[Document] | None) -> list[Document] | None:
    """Overrides of which none meets another, so that their order says nothing. PagerDuty lists them by start and lets the last
    created win: where two meet, its own rendering tells which (None)."""
    if overrides is None:
        return None
    spans = sorted((str(row.get("start")), str(row.get("end"))) for row in overrides)
    meets = any(end > after for (_, end), (after, _) in itertools.pairwise(spans))
    return None if meets else overrides


def _named(references: Any) -> dict[str, str]:
    return {
        one["id"]: str(one.get("summary") or one.get("name") or one["id"])
        for one in references or ()
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    }


def _on_calls(policy_id: str, rows: Iterable[Document]) -> Iterator[OnCall]:
    for row in rows:
        user, schedule = row.get("user") or {}, row.get("schedule") or {}
        yield OnCall(policy_id, int(row["escalation_level"]), str(user.get("id", "")), str(schedule.get("id", "")))


def _account(read: Mapping[tuple[str, str], _Read]) -> Account:
    schedules: dict[str, Schedule] = {}
    policies: dict[str, Policy] = {}
    services: dict[str, Service] = {}
    people: dict[str, Person] = {}
    teams: dict[str, str] = {}
    named: dict[str, str] = {}
    for (kind, id), each in sorted(read.items()):
        for team, name in each.teams.items():
            teams.setdefault(team, name)
        named |= each.names
        match each.value:
            case Schedule():
                schedules[id] = each.value
            case Policy():
                policies[id] = each.value
            case Service():
                services[id] = each.value
            case Person():
                people[id] = each.value
            case str() if kind == Kind.TEAMS:
                teams[id] = each.value
    # Whom schedules and policies name and the bounds do not show has a name all the same.
    people |= {id: Person(id, name) for id, name in named.items() if id not in people}
    return Account(schedules, policies, services, people, teams)


def _marked(cached: _Cached, as_of: dt.datetime) -> Account:
    """PagerDuty goes on naming people who were deleted: where all people of the account are known, the others are. ``as_of``:
    as fresh as that they are. Whom a policy names that came later may be new, as people are read less often."""
    with cached.lock:
        if cached.marked is None or cached.marked_as_of != as_of:
            here = {id for (kind, id), each in cached.read.items() if kind == Kind.USERS}
            policies = {
                id: reading.without_gone(policy, here) if cached.read[Kind.POLICIES, id].read_at <= as_of else policy
                for id, policy in cached.account.policies.items()
            }
            cached.marked, cached.marked_as_of = dataclasses.replace(cached.account, policies=policies), as_of
        return cached.marked


def _rates(read: Mapping[tuple[str, str], _Read]) -> dict[str, tuple[float, ...]]:
    days = {id: each.value for (kind, id), each in read.items() if kind == Kind.INCIDENTS and each.value is not None}
    if len(days) < RATED_DAYS:
        return {}
    been: Counter[int] = Counter()
    counts: dict[str, list[int]] = {
        id: [0] * 168 for (kind, id), each in read.items() if kind == Kind.SERVICES and each.value is not None
    }
    for day, of in days.items():
        weekday = dt.date.fromisoformat(day).weekday()
        been[weekday] += 1
        for service, hours in of.items():
            mine = counts.setdefault(service, [0] * 168)
            for hour, count in enumerate(hours):
                mine[weekday * 24 + hour] += count
    return {
        service: tuple(count / been[hour // 24] if been[hour // 24] else 0.0 for hour, count in enumerate(week))
        for service, week in counts.items()
    }


def is_within(mirror: Mirror, connection: Connection) -> bool:
    """Whether it was read within the bounds that the connection has now."""
    return mirror.bounds == _bounds(connection)


def _bounds(connection: Connection) -> str:
    bounds = bounds_of(connection)
    told = [bounds.whole_account, *(sorted(ids) for ids in (bounds.team_ids, bounds.service_ids, bounds.account_wide))]
    return hashlib.sha256(encode(told)).hexdigest()


# Reading


class Stopped(Exception):
    """Nothing more can be read now: says why. ``wait``: seconds after which it may be tried again."""

    def __init__(self, why: str, wait: float = 0.0) -> None:
        super().__init__(why)
        self.wait = wait


class _Lost(Exception):
    """Somebody else holds the lease."""


@dataclass(frozen=True, slots=True)
class _Over:
    """What is to be added to a schedule's past."""

    schedule_id: str
    known: Span
    first: bool
    """Whether nothing of it is kept yet."""
    slices: tuple[Slice, ...]


def due(now: dt.datetime) -> list[Connection]:
    """The connections of which something is to be read, those that waited longest first."""
    rows = Connection.objects.filter(is_enabled=True).select_related("team", "mirror").prefetch_related("mirror_parts")
    # What is stopped is not asked for every minute, to be denied every minute.
    stops = set(Stop.objects.values_list("subject", flat=True))
    found = []
    for row in rows:
        mirror: Mirror | None = getattr(row, "mirror", None)
        if mirror is not None and (_held(mirror, now) or (mirror.wait_until is not None and mirror.wait_until > now)):
            continue
        if suspension(row, now) or {EVERYTHING, f"team:{row.team_id}"} & stops:
            continue
        parts = {part.kind: part for part in row.mirror_parts.all()}
        if (
            mirror is None
            or mirror.bounds != _bounds(row)
            or any(_is_due(kind, parts, mirror, now) for kind in MINUTES)
        ):
            found.append(
                (mirror.ended_at if mirror and mirror.ended_at else dt.datetime.min.replace(tzinfo=dt.UTC), row)
            )
    return [row for _, row in sorted(found, key=lambda each: each[0])]


def _held(mirror: Mirror, now: dt.datetime) -> bool:
    return bool(mirror.holder) and mirror.held_until is not None and mirror.held_until > now


def _is_due(kind: str, parts: Mapping[str, MirrorPart], mirror: Mirror, now: dt.datetime) -> bool:
    part = parts.get(kind)
    if kind == Kind.CHANGES and ((whole := parts.get(Kind.SCHEDULES)) is None or whole.as_of is None):
        return False  # The first reading of schedules reads their overrides, too.
    if not mirror_history.is_due(kind, parts):
        return False
    if part is None or part.begun_at is None or part.ended_at is None:
        return True
    if mirror.asked_at is not None and mirror.asked_at > part.begun_at and kind not in _ONCE:
        return True
    minutes = MINUTES[kind]
    if kind == Kind.SCHEDULES_V3:
        minutes += part.count // 5
    elif kind == Kind.SCHEDULES and (quick := parts.get(Kind.CHANGES)) is not None and quick.state.get("blind"):
        # Nothing tells what has changed but the reading itself.
        minutes = MINUTES[Kind.SCHEDULES_V3] + part.count // 5
    if part.state.get("refused"):
        minutes = max(minutes, REFUSED_MINUTES)
    return part.begun_at + dt.timedelta(minutes=minutes) <= now


def ask_for(connection: Connection, *, by: str, changed: bool = False) -> bool:
    """Ask for all of a mirror to be read anew. False: it was asked for already, or is being read. ``changed``: something was
    just changed from here, so what was read a moment ago, or is being read, does not tell it yet."""
    now = timezone.now()
    mirror, _ = Mirror.objects.get_or_create(connection=connection, defaults={"bounds": _bounds(connection)})
    if changed:
        # Whatever was begun before now is due again.
        return bool(Mirror.objects.filter(pk=mirror.pk).update(asked_at=now, asked_by=by))
    if _held(mirror, now) or (mirror.wait_until is not None and mirror.wait_until > now):
        return False
    soon = now - dt.timedelta(seconds=30)
    free = Q(asked_at=None) | Q(asked_at__lt=soon)
    return bool(Mirror.objects.filter(free, pk=mirror.pk).update(asked_at=now, asked_by=by))


def sync(
    connection: Connection,
    *,
    by: str,
    seconds: float = SECONDS_A_RUN,
    calls: int = CALLS_A_RUN,
    again: bool = False,
    earlier: bool = True,
) -> Run:
    """Read what is due of a connection, for ``seconds`` and ``calls`` at most (a step that was begun is ended). Outside of
    ``atomic()``. ``again``: all of it is due. ``earlier``: what happened within the year before it was read first, too, which
    may take hours. Where somebody reads already nothing is done, and that is told."""
    if database.in_atomic_block:
        raise RuntimeError("A mirror cannot be read inside a transaction: the journal would wait for it for ever.")
    Mirror.objects.get_or_create(connection=connection, defaults={"bounds": _bounds(connection)})
    kinds = [kind for kind in MINUTES if earlier or kind not in mirror_history.BACKWARDS]
    return _Sync(connection, by, seconds, calls, kinds).run(again=again)


class _Sync:
    """One run."""

    def __init__(
        self, connection: Connection, by: str, seconds: float, calls: int, kinds: Sequence[str] = tuple(MINUTES)
    ) -> None:
        self.kinds = kinds
        self.connection = Connection.objects.select_related("team").get(pk=connection.pk)
        self.by = by
        self.until = time.monotonic() + seconds
        self.most = calls
        self.holder = secrets.token_hex(16)
        self.calls = self.written = self.troubles = 0
        self.limit, self.remaining, self.reset = USUAL_LIMIT, USUAL_LIMIT, 0.0
        self.minute = self.minute_calls = 0

    def run(self, *, again: bool) -> Run:
        now = timezone.now()
        free = Q(holder="") | Q(held_until=None) | Q(held_until__lte=now)
        lease = {"holder": self.holder, "held_until": now + LEASE, "begun_at": now, "ended_at": None, "calls": 0}
        if again:
            lease["asked_at"] = now
        if not Mirror.objects.filter(free, pk=self.connection.pk).update(**lease):
            return Run(told=BUSY)
        told, done = "", False
        wait: dt.datetime | None = None
        try:
            mirror = Mirror.objects.get(pk=self.connection.pk)
            self.minute, self.minute_calls = mirror.minute, mirror.minute_calls
            if mirror.wait_until is not None and mirror.wait_until > now:
                wait = mirror.wait_until
                raise Stopped(mirror.told or "PagerDuty asked to be left alone for a while.")
            if why := suspension(self.connection, now) or self._stop():
                raise Stopped(why)
            self._within(mirror)
            self._know()
            done = self._parts(mirror)
        except Stopped as stopped:
            told = str(stopped)
            wait = wait or (timezone.now() + dt.timedelta(seconds=stopped.wait) if stopped.wait else None)
        except TimeoutError:
            told = "PagerDuty did not answer in time."
            wait = timezone.now() + dt.timedelta(seconds=UNMADE_SECONDS)
        except _Lost:
            return Run(self.calls, self.written, told=BUSY)
        except Exception:
            self._leave("The portal itself failed: its log says more.", None)
            raise
        self._leave(told, wait)
        return Run(self.calls, self.written, done, told)

    def _leave(self, told: str, wait: dt.datetime | None) -> None:
        Mirror.objects.filter(pk=self.connection.pk, holder=self.holder).update(
            holder="",
            held_until=None,
            ended_at=timezone.now(),
            calls=self.calls,
            minute=self.minute,
            minute_calls=self.minute_calls,
            wait_until=wait,
            told=shown(told, 500),
        )

    def _stop(self) -> str:
        stop = Stop.objects.filter(subject__in=(EVERYTHING, f"team:{self.connection.team_id}")).first()
        return "" if stop is None else f"{stop.target} has been stopped: {stop.reason}."

    def _within(self, mirror: Mirror) -> None:
        """Take away what was read within other bounds. Its past goes once it is known which schedules are inside."""
        bounds = _bounds(self.connection)
        if mirror.bounds == bounds:
            return
        with self._holding():
            MirroredDocument.objects.filter(connection=self.connection).delete()
            MirroredIncident.objects.filter(connection=self.connection).delete()
            MirrorPart.objects.filter(connection=self.connection).delete()
            Mirror.objects.filter(pk=mirror.pk).update(bounds=bounds, version=F("version") + 1)
        mirror.bounds = bounds

    def _know(self) -> None:
        """A connection that was registered a moment ago may not be in the runtime's memory yet."""
        from integrations.gateway import runtime

        runtime.wait_for(lambda started: started.watch.refresh(), 30)

    def _parts(self, mirror: Mirror) -> bool:
        """Whether all that was due is read."""
        for kind in self.kinds:
            while True:
                parts = {part.kind: part for part in MirrorPart.objects.filter(connection=self.connection)}
                if not _is_due(kind, parts, mirror, timezone.now()):
                    break
                if self._spent():
                    return False
                self._step(kind, parts.get(kind), mirror)
        return True

    def _spent(self) -> bool:
        """Whether this run may make no further step. Waits for the next minute where that is soon."""
        if self.calls >= self.most or time.monotonic() >= self.until:
            return True
        if self.remaining < RESERVE * self.limit and self.reset > time.monotonic():
            return self._sleep(self.reset - time.monotonic())
        minute, second = divmod(time.time(), 60)
        if int(minute) != self.minute:
            self.minute, self.minute_calls = int(minute), 0
        if self.minute_calls + AT_ONCE * MOST_CALLS > max(SHARE * self.limit, AT_ONCE * MOST_CALLS):
            return self._sleep(60 - second)
        return False

    def _sleep(self, seconds: float) -> bool:
        """Wait, unless that takes longer than this run has; then it is over, and somebody else goes on."""
        if time.monotonic() + seconds >= self.until:
            return True
        time.sleep(max(seconds, 0) + 0.05)
        self.remaining = self.limit
        return self._spent()

    # One step: a few tasks of a part

    def _step(self, kind: str, part: MirrorPart | None, mirror: Mirror) -> None:
        now = timezone.now()
        if part is None:
            part = MirrorPart(connection=self.connection, kind=kind)
        if part.begun_at is None or part.ended_at is not None:
            part.begun_at, part.ended_at, part.calls = now, None, 0
            today = now.date().isoformat()
            outside = {id: day for id, day in part.state.get("outside", {}).items() if day == today}
            queue = [task for task in self._begin(part, now) if not (task[-1] == IF_OURS and task[1] in outside)]
            looks = part.state.get("looks", {})
            part.state = {"queue": queue, "seen": [], "missed": [], "looks": looks, "outside": outside}
        state = part.state
        queue = state["queue"]
        mirror_history.unfold(self.connection, part)
        count = 1
        while (
            queue and queue[0][0] in _TOGETHER and count < min(AT_ONCE, len(queue)) and queue[count][0] == queue[0][0]
        ):
            count += 1
        taken, state["queue"] = queue[:count], queue[count:]
        before = self.calls
        state["calls"] = part.calls
        results = self._ask_for(kind, state, taken) if taken else []
        part.calls += self.calls - before
        came: list[Got] = []
        stopped: Stopped | None = None
        again: list[Task] = []
        for task, result in zip(taken, results, strict=True):
            match result:
                case Got():
                    came.append(result)
                    self._take(state, result)
                case Trouble():
                    self.troubles += 1
                    if self.troubles >= TROUBLES:
                        stopped = Stopped(str(result), wait=120)
                    again += self._tried(state, task, str(result))
                case Stopped():
                    stopped = result
                    again.append(task)
                case _:
                    raise result
        state["queue"] = again + state["queue"]
        self._write(part, came, mirror)
        if stopped is not None:
            raise stopped

    def _take(self, state: Document, got: Got) -> None:
        state["seen"] = list(dict.fromkeys([*state["seen"], *got.seen]))
        state["queue"] = [*got.tasks, *state["queue"]] if got.first else [*state["queue"], *got.tasks]
        state |= got.kept
        if got.missed:
            state["missed"].append(got.missed)
        if got.outside:
            state["outside"][got.outside] = timezone.now().date().isoformat()
        if got.wrong:
            state |= {"wrong": True, "queue": []}

    def _tried(self, state: Document, task: Task, why: str) -> list[Task]:
        """A task that failed: again, unless it has failed often enough."""
        tries: dict[str, int] = state.setdefault("tries", {})
        name = "/".join(str(part) for part in task[:5] if not isinstance(part, dict))
        tries[name] = tries.get(name, 0) + 1
        if tries[name] < TRIES:
            return [task]
        state["missed"].append(why)
        if task[0] in _LISTS:
            state |= {"wrong": True, "queue": []}
        else:
            state["seen"].append(task[1])  # Whether it is there is not known: it is not gone.
        return []

    def _ask_for(self, kind: str, state: Document, tasks: Sequence[Task]) -> list[Got | BaseException]:
        from integrations.gateway import runtime

        async def all_at_once(started: runtime.Runtime) -> list[Got | BaseException]:
            async def ask(path: str, query: Mapping[str, Any] | None = None) -> Any:
                return await self._ask(started, path, query)

            works = [self._one(kind, state, task, ask) for task in tasks]
            return await asyncio.gather(*works, return_exceptions=True)

        return runtime.wait_for(all_at_once, (settings.CALL_TIME_LIMIT + 5) * MOST_CALLS)

    async def _one(self, kind: str, state: Document, task: Task, ask: Ask) -> Got:
        try:
            return await _TASKS[task[0]](kind, state, task, ask)
        except Cannot as cannot:
            if task[0] in _LISTS:
                return Got(missed=str(cannot), wrong=True, kept={"refused": True})
            if cannot.status == 404 and task[-1] != IF_OURS:
                return Got()
            if len(task) > 2 and task[2] == IF_OURS:
                return Got(outside=task[1])
            return Got(seen=[task[1]], missed=str(cannot))

    async def _ask(self, started: Any, path: str, query: Mapping[str, Any] | None) -> Any:
        """One read through the pipeline: the answer's JSON.

        Raises:
            Stopped, Cannot, Trouble: see each.
        """
        self.calls += 1
        self.minute_calls += 1
        credential = JobCredential(JOB, str(self.connection.pk), on_behalf_of=self.by)
        sent = urlencode(query or {}, doseq=True)
        answer = await started.pipeline.run(Call(Door.JOB, credential, "GET", path, sent, at=time.time()))
        reply, verdict = answer.reply, answer.verdict
        if (came := reply or answer.withheld) is not None:
            self._note(came)
        if reply is None:
            if verdict is not None and not verdict.allowed and verdict.rule not in _STOPPED and answer.status != 503:
                raise Cannot(answer.problem, rule=verdict.rule)
            if verdict is not None and verdict.rule == "bounds":
                raise Trouble(answer.problem)
            raise Stopped(answer.problem or "The portal could not make the call.", wait=UNMADE_SECONDS)
        if reply.status == 429:
            wait = _seconds(reply.header("retry-after")) or _seconds(reply.header("ratelimit-reset")) or 60.0
            raise Stopped("PagerDuty's rate limit was reached: the mirror waits.", wait=wait)
        if reply.status == 401:
            raise Stopped(f"{answer.problem} {answer.remedy}", wait=600)
        if answer.problem or reply.status >= 500:
            raise Trouble(answer.problem or f"PagerDuty answered {reply.status}.")
        if reply.status >= 400:
            raise Cannot(_refusal(reply.status, reply.body), reply.status)
        try:
            document = msgspec.json.decode(reply.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Trouble("PagerDuty's answer could not be read.") from None
        if not isinstance(document, dict):
            raise Trouble("PagerDuty's answer is none that was asked for.")
        return document

    def _note(self, reply: Any) -> None:
        limit, remaining = _seconds(reply.header("ratelimit-limit")), _seconds(reply.header("ratelimit-remaining"))
        if limit and remaining is not None:
            self.limit, self.remaining = int(limit), int(remaining)
            self.reset = time.monotonic() + (_seconds(reply.header("ratelimit-reset")) or 60.0)

    # Writing

    @contextmanager
    def _holding(self) -> Iterator[None]:
        """A transaction in which this run holds the lease still, and longer. Raises ``_Lost`` where it is another's."""
        renewed = {"held_until": timezone.now() + LEASE, "calls": self.calls}
        renewed |= {"minute": self.minute, "minute_calls": self.minute_calls}
        with transaction.atomic():
            if not Mirror.objects.filter(pk=self.connection.pk, holder=self.holder).update(**renewed):
                raise _Lost
            yield

    def _write(self, part: MirrorPart, came: Sequence[Got], mirror: Mirror) -> None:
        """What a step brought, and where its part stands now: together, or neither."""
        now = timezone.now()
        ends = not part.state["queue"]
        # What takes the processor's time comes first: while it writes, nobody else can on SQLite.
        documents = [each for got in came for each in got.documents]
        new, changed, over = self._prepare(documents, now)
        incidents = mirror_history.prepared(self.connection.pk, came, now)
        with self._holding():
            MirroredDocument.objects.bulk_create(new)
            for pk, values in changed:
                MirroredDocument.objects.filter(pk=pk).update(**values)
            for each in over:
                self._add_past(each)
            # With a number of their own: what is parsed of the rest is not parsed again for these.
            self.written += mirror_history.write(self.connection.pk, incidents, came)
            count = len(new) + len(changed)
            if part.kind == Kind.POLICIES and count:
                self._look_for_strangers(documents)
            if ends:
                count += self._end(part, now)
            if count:
                self.written += count
                Mirror.objects.filter(pk=mirror.pk).update(version=F("version") + 1)
            part.save()
        self._pause()

    def _pause(self) -> None:
        if database.vendor == "sqlite":
            time.sleep(PAUSE_SECONDS)

    def _look_for_strangers(self, policies: Sequence[Came]) -> None:
        """Where a policy that is new or changed names somebody who is not known, people are read at once: whether it is somebody
        new or somebody deleted, that tells."""
        named: set[str] = set()
        for _, _, document, _ in policies:
            targets = [one for rule in document.get("escalation_rules") or () for one in rule.get("targets") or ()]
            named |= _named(one for one in targets if str(one.get("type")).startswith("user")).keys()
        here = MirroredDocument.objects.filter(connection=self.connection, kind=Kind.USERS, gone_at=None)
        if here.filter(remote_id__in=named).count() < len(named):
            people = MirrorPart.objects.filter(connection=self.connection, kind=Kind.USERS)
            people.exclude(ended_at=None).update(begun_at=None)

    def _prepare(
        self, documents: Sequence[Came], now: dt.datetime
    ) -> tuple[list[MirroredDocument], list[tuple[int, dict[str, Any]]], list[_Over]]:
        """The documents that are new, those that are others than before (by number), and what of theirs is past. Whoever holds
        the lease is the only one who changes any of them."""
        packed = {(kind, id): (encode(document), window) for kind, id, document, window in documents if fits(id)}
        by_kind: dict[str, list[str]] = {}
        for kind, id in packed:
            by_kind.setdefault(kind, []).append(id)
        standing: dict[tuple[str, str], MirroredDocument] = {}
        for kind, ids in by_kind.items():
            rows = MirroredDocument.objects.filter(connection=self.connection, kind=kind, remote_id__in=ids)
            standing |= {(kind, row.remote_id): row for row in rows.defer("body")}
        new: list[MirroredDocument] = []
        changed: list[tuple[int, dict[str, Any]]] = []
        over: list[_Over] = []
        for (kind, id), (body, window) in packed.items():
            values: dict[str, Any] = {
                "digest": hashlib.sha256(body).hexdigest(),
                "window_start": window.start if window else None,
                "window_end": window.end if window else None,
            }
            row = standing.get((kind, id))
            if (
                row is not None
                and row.gone_at is None
                and all(getattr(row, name) == was for name, was in values.items())
            ):
                continue
            values |= {"body": zlib.compress(body, 6), "read_at": now, "gone_at": None}
            if row is None:
                new.append(MirroredDocument(connection=self.connection, kind=kind, remote_id=id, **values))
            else:
                changed.append((row.pk, values))
            if window is not None and (past := self._over(id, msgspec.json.decode(body), window, now)) is not None:
                over.append(past)
        return new, changed, over

    def _over(self, schedule_id: str, document: Document, window: Span, now: dt.datetime) -> _Over | None:
        """What is over by now and not kept yet. What is kept stays: nobody renders the past anew."""
        today = int(now.timestamp()) // DAY * DAY
        row = PastKnown.objects.filter(connection=self.connection, schedule_id=schedule_id).first()
        begin = max(row.until, window.start) if row is not None else window.start
        if begin >= today:
            return None
        try:
            rendered = reading.schedule(document["schedule"]).rendered
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        found = [
            Slice(max(each.start, begin), min(each.end, today), each.user, each.source)
            for each in rendered
            if each.start < today and each.end > begin
        ]
        # Where more than two weeks went by unread, what lies between is not known.
        since = row.since if row is not None and row.until >= begin else begin
        joined = tuple(_joined(sorted(found, key=lambda each: (each.start, each.user))))
        return _Over(schedule_id, Span(since, today), row is None, joined)

    def _add_past(self, over: _Over) -> None:
        of: dict[str, Any] = {"connection": self.connection, "schedule_id": over.schedule_id}
        if over.first:
            rows = (PastShift(**of, user_id=each.user, start=each.start, end=each.end) for each in over.slices)
            PastShift.objects.bulk_create(rows, ignore_conflicts=True)
        for each in () if over.first else over.slices:
            mine = PastShift.objects.filter(**of, user_id=each.user)
            if not mine.filter(end=each.start).update(end=each.end):
                mine.get_or_create(**of, user_id=each.user, start=each.start, defaults={"end": each.end})
        PastKnown.objects.update_or_create(**of, defaults={"since": over.known.start, "until": over.known.end})

    def _end(self, part: MirrorPart, now: dt.datetime) -> int:
        """A part is read. What was not there any more is gone, where all of it was looked through."""
        state, part.ended_at = part.state, now
        part.state = {name: state[name] for name in ("outside", "refused") if state.get(name)}
        if part.kind == Kind.CHANGES:
            part.state |= {"looks": state["looks"], "blind": bool(state.get("blind")) or not state["seen"]}
        missed = Counter(state["missed"])
        part.problem = shown(
            " ".join(f"{why}{f' ({n} times)' if n > 1 else ''}" for why, n in missed.most_common(3)), 500
        )
        part.problem_at = now if part.problem else None
        rows = MirroredDocument.objects.filter(connection=self.connection, kind=part.kind)
        changed = 0
        if not state.get("wrong"):
            part.as_of = part.begun_at
            changed = self._end_whole(part, state, rows, now)
        part.count = rows.filter(gone_at=None).count()
        if part.kind in mirror_history.KINDS:
            mirror_history.end(self.connection.pk, part, now)
        return changed

    def _end_whole(self, part: MirrorPart, state: Document, rows: Any, now: dt.datetime) -> int:
        if part.kind in mirror_history.KINDS:
            return 0
        if part.kind == Kind.CHANGES:
            return self._end_changes(part, state, now)
        if part.kind == Kind.INCIDENTS:
            oldest = (now - dt.timedelta(days=INCIDENT_DAYS)).date().isoformat()
            return int(rows.filter(remote_id__lt=oldest).delete()[0])
        changed = self._gone(rows, state, now)
        if part.kind == Kind.SCHEDULES:
            self._end_schedules(part, state, now)
        if part.kind not in (Kind.SCHEDULES, Kind.SCHEDULES_V3):
            rows.filter(gone_at__lt=now - dt.timedelta(days=GONE_DAYS)).delete()
        else:
            self._forget_foreign_past(part.kind)
        return changed

    def _end_changes(self, part: MirrorPart, state: Document, now: dt.datetime) -> int:
        """All schedules were looked at, and read where they had changed: they are as fresh as that."""
        whole = MirrorPart.objects.filter(connection=self.connection, kind=Kind.SCHEDULES).exclude(as_of=None)
        if state.get("blind") or not state["seen"]:
            return 0
        part.state["looks"] = {id: look for id, look in state["looks"].items() if id in set(state["seen"])}
        if not state["missed"]:
            whole.filter(as_of__lt=part.begun_at).update(as_of=part.begun_at)
        bounds = bounds_of(self.connection)
        if not bounds.whole_account and bounds.service_ids:
            return 0  # The list does not show what belongs to the services alone.
        rows = MirroredDocument.objects.filter(connection=self.connection, kind=Kind.SCHEDULES)
        return self._gone(rows, state, now)

    def _end_schedules(self, part: MirrorPart, state: Document, now: dt.datetime) -> None:
        """What was looked at is what the next look is held against."""
        looked = {"looks": state["looks"], "blind": bool(state.get("blind")) or not state["looks"]}
        values = {"state": looked, "begun_at": part.begun_at, "ended_at": now, "as_of": part.begun_at}
        MirrorPart.objects.update_or_create(connection=self.connection, kind=Kind.CHANGES, defaults=values)

    def _gone(self, rows: Any, state: Document, now: dt.datetime) -> int:
        there = set(state["seen"])
        gone = [pk for pk, id in rows.filter(gone_at=None).values_list("pk", "remote_id") if id not in there]
        for begin in range(0, len(gone), 500):
            rows.filter(pk__in=gone[begin : begin + 500]).update(gone_at=now)
        return len(gone)

    def _forget_foreign_past(self, ended: str) -> None:
        """The past of schedules that the bounds do not hold any more: no document of them is left, not even one that is gone."""
        other = Kind.SCHEDULES if ended == Kind.SCHEDULES_V3 else Kind.SCHEDULES_V3
        if not MirrorPart.objects.filter(connection=self.connection, kind=other).exclude(ended_at=None).exists():
            return
        kinds = (Kind.SCHEDULES, Kind.SCHEDULES_V3)
        known_ids = MirroredDocument.objects.filter(connection=self.connection, kind__in=kinds).values("remote_id")
        for model in (PastShift, PastKnown):
            model._default_manager.filter(connection=self.connection).exclude(schedule_id__in=known_ids).delete()

    # What to ask for

    def _begin(self, part: MirrorPart, now: dt.datetime) -> list[Task]:
        """The first tasks of a part's reading."""
        kind = part.kind
        if kind in mirror_history.KINDS:
            return mirror_history.begin(self.connection, part, now)
        bounds = bounds_of(self.connection)
        services_alone = not bounds.whole_account and not bounds.team_ids
        match kind:
            case Kind.TEAMS if not bounds.whole_account and "list_teams" not in bounds.account_wide:
                return [["one", id] for id in sorted(bounds.team_ids)] or []
            case Kind.SERVICES:
                more: list[Task] = [["one", id] for id in sorted(bounds.service_ids)]
                return more if services_alone else [["list", 0, 0], *more]
            case Kind.POLICIES | Kind.SCHEDULES | Kind.SCHEDULES_V3 if not bounds.whole_account and bounds.service_ids:
                more = [["one", id, IF_OURS] for id in self._referred(kind)]
                lists: list[Task] = [["list", 0, 0], ["list", 0, 1]] if kind == Kind.SCHEDULES else [["list", 0, 0]]
                return more if services_alone else [*lists, *more]
            case Kind.CHANGES if services_alone:
                return []
            case Kind.CHANGES | Kind.SCHEDULES:
                # Layers without a window, overrides in one: what is rendered of layers would make the answer many times as large.
                return [["list", 0, 0], ["list", 0, 1]]
            case Kind.INCIDENTS:
                return [["days", first, last, 0, {}] for first, last in self._days()]
        return [["list", 0, 0]]

    def _ids(self, kind: str) -> list[str]:
        rows = MirroredDocument.objects.filter(connection=self.connection, kind=kind, gone_at=None)
        return list(rows.order_by("remote_id").values_list("remote_id", flat=True))

    def _referred(self, kind: str) -> list[str]:
        """What services and their policies lead to: with bounds of services, the lists by team do not show it."""
        of = Kind.SERVICES if kind == Kind.POLICIES else Kind.POLICIES
        found: set[str] = set()
        for body in MirroredDocument.objects.filter(connection=self.connection, kind=of, gone_at=None).values_list(
            "body", flat=True
        ):
            document = unpacked(body)
            if kind == Kind.POLICIES:
                found |= _named([document.get("escalation_policy")]).keys()
                continue
            targets = [one for rule in document.get("escalation_rules") or () for one in rule.get("targets") or ()]
            v3 = [one for one in targets if str(one.get("type")).startswith("schedule_v3")]
            v2 = [one for one in targets if one not in v3 and str(one.get("type")).startswith("schedule")]
            found |= _named(v3 if kind == Kind.SCHEDULES_V3 else v2).keys()
        return sorted(found)

    def _days(self) -> list[tuple[str, str]]:
        """Days whose incidents are to be counted, as spans of up to a week, the newest first. A day that is over is counted
        once."""
        today = timezone.now().astimezone(dt.UTC).date()
        counted = set(self._ids(Kind.INCIDENTS))
        spans: list[tuple[str, str]] = []
        end: dt.date | None = None
        for back in range(1, INCIDENT_DAYS + 2):
            day = today - dt.timedelta(days=back)
            wanted = back <= INCIDENT_DAYS and day.isoformat() not in counted
            after = day + dt.timedelta(days=1)
            if end is not None and (not wanted or (end - after).days >= 7):
                spans.append((after.isoformat(), end.isoformat()))
                end = None
            if wanted and end is None:
                end = after
        return spans


def _seconds(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) and 0 <= number < 1e9 else None


def _refusal(status: int, body: bytes) -> str:
    """PagerDuty's refusal, as a sentence."""
    why = ""
    try:
        error = msgspec.json.decode(body).get("error", {})
        told = error.get("errors") if isinstance(error, dict) else None
        why = ": ".join(filter(None, (str(error.get("message") or ""), " ".join(map(str, told)) if told else "")))
    except (msgspec.DecodeError, AttributeError, TypeError, UnicodeDecodeError, RecursionError):
        pass
    return shown(f"PagerDuty answered {status}{f': {why}' if why else ''}".rstrip("."), 300) + "."
