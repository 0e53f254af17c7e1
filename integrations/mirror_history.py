"""Of a mirror: incidents and what happened to them, and who was on call, a year back.

What is new is read every few minutes (``HISTORY``); from there the year is read backwards, so that pages soon tell something
(``EARLIER``), and so is the past of each schedule (``SHIFTS``). PagerDuty lists 10,000 rows of a window and no more: a window
that holds more is cut into smaller ones. These meet in a second that both list: an entry is told by its id, and is one however
often it comes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import logging
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from django.db.models import F, Max, Q

from integrations.actions import bounds_of
from integrations.mirror_tasks import (
    AT_ONCE,
    DAY,
    FARTHEST,
    PAGE,
    Ask,
    Cannot,
    Document,
    Got,
    Kind,
    Past,
    Serve,
    Task,
    Trouble,
    fits,
    inner_schedule,
    iso,
    next_offset,
    rows_of,
    unpacked,
)
from integrations.models import Connection, Mirror, MirroredDocument, MirroredIncident, MirrorPart, PastKnown, PastShift
from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.model import Slice, Span

if TYPE_CHECKING:
    from integrations.pagerduty.analysis.incidents import Incident, Step

log = logging.getLogger(__name__)

KINDS: Final = (Kind.HISTORY, Kind.SHIFTS, Kind.EARLIER)
BACKWARDS: Final = (Kind.SHIFTS, Kind.EARLIER)
"""What is read once, from now to a year back."""
KEPT_DAYS: Final = 366
FIRST_DAYS: Final = 1
"""Of incidents, what is read of them at first; the rest is ``EARLIER``."""
WINDOW_DAYS: Final = 28
"""The widest window that is asked for at once."""
OVERLAP: Final = 600
"""Seconds that are read again each time, for what PagerDuty lists late."""
SHIFTS_DAYS: Final = 183
"""Of a schedule, what is rendered at once; a schedule that has too many shifts for that, down to a week."""
FULL: Final = 0.8
"""Of what PagerDuty lists, what a part of a window is expected to hold: hours differ."""
FEW: Final = 3
"""Incidents that are asked for one by one, before a list of those that were resolved lately is."""
TITLE: Final = 200
"""Characters of a title that are kept."""


# Rows

STEP: Final = struct.Struct("<IBBHH")
"""A step: when, places in ``KINDS`` and ``WAYS``, and places in the body's people of whom it is about and who did it, from 1; 0:
nobody."""
DIGEST: Final = 8
"""Bytes by which log entries of one incident are told apart."""


class Body(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of an incident: packed so that 80,000 are columns in a second."""

    users: tuple[str, ...] = ()
    steps: bytes = b""
    service: str = ""
    policy: str = ""
    priority: str = ""
    teams: tuple[str, ...] = ()
    urgency: int = 0
    """Places in ``URGENCIES`` and ``STATUSES``."""
    status: int = 0
    resolved: int = -1
    number: int = 0
    title: str = ""


pack: Final = msgspec.msgpack.Encoder().encode
unpack: Final = msgspec.msgpack.Decoder(Body).decode


@dataclass(frozen=True, slots=True)
class Prepared:
    """Rows to be written. What takes the processor's time is done."""

    rows: Sequence[MirroredIncident]
    changed: Set[str]
    """Ids of those that are others than before, and not only read again."""


def prepared(connection_id: UUID, got: Iterable[Got], now: dt.datetime) -> Prepared:
    """What came, merged into what is kept. Whoever holds the lease is the only one who changes any of it."""
    # The columns' library is not for processes that read nothing.
    from integrations.pagerduty.analysis import log_reading

    incidents: dict[str, tuple[Incident, list[Step]]] = {}
    steps: dict[str, list[Step]] = {}
    touched: set[str] = set()
    gone: set[str] = set()
    for each in got:
        gone.update(each.gone)
        for document in each.incidents:
            try:
                one = log_reading.incident(document)
                incidents[one.id] = one, log_reading.responders(document)
            except ValueError as error:
                log.warning("An incident cannot be read: %s", error)
        for document in each.entries:
            try:
                id = log_reading.incident_id(document)
                steps.setdefault(id, []).extend(log_reading.steps(document))
            except ValueError as error:
                log.warning("A log entry cannot be read: %s", error)
                continue
            if each.touches:
                touched.add(id)
    ids = [id for id in {**incidents, **steps, **dict.fromkeys(gone)} if fits(id)]
    standing = {
        row.remote_id: row for row in MirroredIncident.objects.filter(connection=connection_id, remote_id__in=ids)
    }
    rows: list[MirroredIncident] = []
    changed: set[str] = set()
    for id in ids:
        row = standing.get(id)
        if row is None:
            row = MirroredIncident(
                connection_id=connection_id, remote_id=id, created=0, change=0, body=b"", entries=b""
            )
        body, before = bytes(row.body), (row.is_open, row.is_stale, row.read_at)
        if id in gone and id not in incidents:
            row.body, row.entries, row.is_open, row.is_stale, row.read_at = b"", b"", False, False, 0
        else:
            _merge(row, incidents.get(id), steps.get(id, ()), now, touched=id in touched)
        if row.body != body:
            changed.add(id)
        if row.body != body or (row.is_open, row.is_stale, row.read_at) != before:
            row.pk = None  # It is told by its id of PagerDuty's.
            rows.append(row)
    return Prepared(rows, changed)


def _merge(
    row: MirroredIncident,
    came: tuple[Incident, list[Step]] | None,
    steps: Sequence[Step],
    now: dt.datetime,
    *,
    touched: bool,
) -> None:
    from integrations.pagerduty.analysis.incidents import STATUSES, URGENCIES

    body = unpack(bytes(row.body)) if row.body else Body()
    one = None
    if came is not None:
        one, told = came
        steps = [*steps, *told]
        body = msgspec.structs.replace(
            body,
            service=one.service_id,
            policy=one.policy_id,
            priority=one.priority,
            teams=one.team_ids,
            urgency=URGENCIES.index(one.urgency),
            status=STATUSES.index(one.status),
            resolved=-1 if one.resolved is None else one.resolved,
            number=one.number,
            title=one.title[:TITLE],
        )
    body, entries = _with_steps(body, bytes(row.entries), steps)
    if one is not None:
        row.created, row.read_at = one.created, int(now.timestamp())
        row.is_open, row.is_stale = one.status != "resolved", False
    elif touched and entries != row.entries:
        row.is_stale = True
    if not row.read_at:
        row.created = STEP.unpack_from(body.steps)[0] if body.steps else 0
    row.body, row.entries = pack(body), entries


def _with_steps(body: Body, entries: bytes, steps: Sequence[Step]) -> tuple[Body, bytes]:
    from integrations.pagerduty.analysis.incidents import KIND, KINDS, WAY

    known = {entries[at : at + DIGEST] for at in range(0, len(entries), DIGEST)}
    places = {user: place for place, user in enumerate(body.users, 1)}
    fresh: dict[tuple[bytes, int, int], tuple[int, int, int, int, int, bytes]] = {}
    for step in steps:
        digest = hashlib.blake2b(step.id.encode(), digest_size=DIGEST).digest()
        if digest in known:
            continue
        user, by = (places.setdefault(id, len(places) + 1) if id else 0 for id in (step.user, step.by))
        fresh[digest, user, by] = (
            min(max(step.at, 0), 2**32 - 1),
            KIND.get(step.kind, KIND["other"]),
            WAY.get(step.way, 0),
            min(user, 2**16 - 1),
            min(by, 2**16 - 1),
            digest,
        )
    if not fresh:
        return body, entries
    held = (
        (*STEP.unpack_from(body.steps, place * STEP.size), entries[place * DIGEST : (place + 1) * DIGEST])
        for place in range(len(entries) // DIGEST)
    )
    # In one second it is triggered, passed on, assigned and then somebody is notified.
    rank = {KIND[name]: number for number, name in enumerate(("trigger", "reopen", "restart", "escalate", "assign"))}
    rows = sorted([*held, *fresh.values()], key=lambda row: (row[0], rank.get(row[1], len(KINDS)), row[5], row[3]))
    packed = b"".join(STEP.pack(*row[:5]) for row in rows)
    return msgspec.structs.replace(body, users=tuple(places), steps=packed), b"".join(row[5] for row in rows)


def write(connection_id: UUID, prepared: Prepared, came: Iterable[Got]) -> int:
    """In a transaction that holds the lease, and with it the mirror's row: numbers come in the order of what they are of."""
    if prepared.rows:
        mirror = Mirror.objects.filter(pk=connection_id)
        if prepared.changed:
            mirror.update(history=F("history") + 1)
        number = mirror.values_list("history", flat=True).get()
        for row in prepared.rows:
            row.change = number if row.remote_id in prepared.changed else row.change
        MirroredIncident.objects.bulk_create(
            prepared.rows,
            update_conflicts=True,
            unique_fields=["connection", "remote_id"],
            update_fields=["created", "is_open", "is_stale", "read_at", "change", "body", "entries"],
        )
    return len(prepared.changed) + sum(_add_past(connection_id, past) for got in came for past in got.pasts)


def _add_past(connection_id: UUID, past: Past) -> int:
    """What lies before that which is kept of a schedule; that itself stays as it is."""
    schedule_id, span, slices = past
    known = PastKnown.objects.filter(connection=connection_id, schedule_id=schedule_id, since=span.end)
    if not known.update(since=span.start):
        return 0  # What is kept has moved meanwhile: the next reading goes on from there.
    rows = [
        PastShift(
            connection_id=connection_id,
            schedule_id=schedule_id,
            user_id=each.user,
            start=max(each.start, span.start),
            end=min(each.end, span.end),
        )
        for each in slices
        if each.start < span.end and each.end > span.start
    ]
    PastShift.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


# What to ask for


def is_due(kind: str, parts: Mapping[str, MirrorPart]) -> bool:
    """Whether there is anything yet to begin at."""
    needs = {Kind.SHIFTS: (Kind.SCHEDULES, Kind.SCHEDULES_V3), Kind.EARLIER: (Kind.HISTORY,)}.get(Kind(kind), ())
    return not needs or any(parts[each].as_of is not None for each in needs if each in parts)


def begin(connection: Connection, part: MirrorPart, now: dt.datetime) -> list[Task]:
    """The first tasks of a reading."""
    at = int(now.timestamp())
    bounds = bounds_of(connection)
    listed = bounds.whole_account or bool(bounds.team_ids)
    apart = not bounds.whole_account and bool(bounds.service_ids)
    if part.kind == Kind.SHIFTS:
        return list(_shifts(connection.pk, at))
    tasks: list[Task] = []
    if part.kind == Kind.EARLIER:
        until = part.since or MirrorPart.objects.get(connection=connection, kind=Kind.HISTORY).since or at
        floor = at - KEPT_DAYS * DAY
        days = 7
        while until - floor > DAY:
            since = max(floor, until - days * DAY)
            tasks += [["span", "incidents", since, until], *([["logs", since, until]] if apart else [])]
            tasks += [*([["span", "entries", since, until]] if listed else []), ["back", since]]
            until, days = since, WINDOW_DAYS
        return tasks
    since = begun = at - FIRST_DAYS * DAY if part.until is None else part.until - OVERLAP
    while since < at:
        until = min(since + WINDOW_DAYS * DAY, at)
        tasks += [*([["span", "entries", since, until]] if listed else []), ["span", "incidents", since, until]]
        since = until
    number = Mirror.objects.values_list("history", flat=True).get(pk=connection.pk)
    tasks += [["open", 0], ["left", begun, 0], *([["changed logs", number]] if apart else []), ["until", begun, at]]
    return tasks


def _shifts(connection_id: UUID, at: int) -> Iterator[Task]:
    """Of each schedule that is there, what lies before that which is kept of it."""
    floor = at // DAY * DAY - KEPT_DAYS * DAY
    known = PastKnown.objects.filter(connection=connection_id, since__gt=floor).values_list("schedule_id", "since")
    since = dict(known)
    kinds = (Kind.SCHEDULES, Kind.SCHEDULES_V3)
    rows = MirroredDocument.objects.filter(connection=connection_id, kind__in=kinds, gone_at=None).order_by("remote_id")
    for kind, id, body in rows.values_list("kind", "remote_id", "body"):
        if id in since:
            zone = unpacked(body)["schedule"].get("time_zone") or "UTC" if kind == Kind.SCHEDULES else ""
            yield ["past", id, zone, since[id], SHIFTS_DAYS * DAY, floor]


def unfold(connection: Connection, part: MirrorPart) -> None:
    """Put what is to be asked for at the head of the queue, where what stands there is no task yet."""
    queue: list[Task] = part.state["queue"]
    rows = MirroredIncident.objects.filter(connection=connection)
    while queue:
        match queue[0]:
            case ["pages", what, since, until, offset, total]:
                last = min(total, FARTHEST)
                offsets = range(offset, last, PAGE)
                ends = last - PAGE if total <= FARTHEST else last  # Of more than is listed, no page is the last.
                pages = [["page", what, since, until, each, each >= ends] for each in offsets[:AT_ONCE]]
                rest = [["pages", what, since, until, offsets[AT_ONCE], total]] if len(offsets) > AT_ONCE else []
                queue[:1] = [*pages, *rest]
            case ["back", since]:
                part.since = since
                del queue[0]
            case ["until", since, until]:
                part.since, part.until = part.since or since, until
                del queue[0]
            case ["left", since, looked]:
                queue[:1] = _left(rows, part, since, bool(looked))
            case ["logs", since, until]:
                queue[:1] = _logs(connection, rows.filter(created__gte=since, created__lte=until))
            case ["changed logs", number]:
                queue[:1] = _logs(connection, rows.filter(Q(change__gt=number) | Q(is_open=True)))
            case _:
                return


def _left(rows: Any, part: MirrorPart, since: int, looked: bool) -> list[Task]:
    """Incidents to which something happened since they were read, and those that were open and are not any more. ``looked``: the
    list of those that were resolved lately was."""
    assert part.begun_at is not None  # noqa: S101  (the reading is under way)
    left = rows.filter(Q(is_stale=True) | Q(is_open=True, read_at__lt=int(part.begun_at.timestamp())))
    ids = list(left.order_by("remote_id").values_list("remote_id", flat=True))
    if len(ids) > FEW and not looked:
        return [["resolved", since, 0], ["left", since, 1]]
    return [["incident", id] for id in ids]


def _logs(connection: Connection, rows: Any) -> list[Task]:
    """The log entries of incidents on services of the bounds' own: lists by team do not show them."""
    services = bounds_of(connection).service_ids
    found = rows.order_by("-created").values_list("remote_id", "body")
    return [["log", id, 0] for id, body in found if body and unpack(bytes(body)).service in services]


def end(connection_id: UUID, part: MirrorPart, now: dt.datetime) -> None:
    """What a reading that came to its end leaves. What is older than the year goes."""
    rows = MirroredIncident.objects.filter(connection=connection_id)
    if part.kind == Kind.HISTORY:
        part.count = rows.exclude(body=b"").count()
    elif part.kind == Kind.EARLIER:
        rows.filter(created__lt=int(now.timestamp()) - KEPT_DAYS * DAY).delete()
    else:
        part.since = PastKnown.objects.filter(connection=connection_id).aggregate(since=Max("since"))["since"]


# The tasks

_PATHS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "incidents": ("/incidents", {"sort_by": "created_at:asc"}),
    "entries": ("/log_entries", {}),
}
_KEYS: Final[Mapping[str, str]] = {"incidents": "incidents", "entries": "log_entries"}
_NAMES: Final[Mapping[str, str]] = {"incidents": "incidents", "entries": "log entries"}


async def _asked(ask: Ask, what: str, query: Mapping[str, Any]) -> tuple[Document, list[Document]]:
    path, more = _PATHS[what]
    answer = await ask(path, {**more, "limit": PAGE, **query})
    rows = rows_of(answer, _KEYS[what])
    if answer.get("more") and not rows:
        raise Trouble("PagerDuty's answer is none that was asked for.")
    return answer, rows


def _came(kind: str, what: str, rows: list[Document]) -> Got:
    if what == "incidents":
        return Got(incidents=rows, first=True)
    # Of what was read backwards, the incident's document is newer.
    return Got(entries=rows, first=True, touches=kind == Kind.HISTORY)


async def _span(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["span", what, since, until]``: the first page of a window, which tells how many there are."""
    _, what, since, until = task
    answer, rows = await _asked(ask, what, {"since": iso(since), "until": iso(until), "offset": 0, "total": "true"})
    got = _came(kind, what, rows)
    if not answer.get("more"):
        return got
    total = answer.get("total")
    if type(total) is not int:
        got.tasks = [["page", what, since, until, len(rows), True]]
    elif total > FARTHEST and until - since > 1:
        got.tasks = _cut(kind, what, since, until, math.ceil(total / (FARTHEST * FULL)))
    else:
        got.tasks = [["pages", what, since, until, len(rows), total]]
        got.missed = _beyond(what, since) if total > FARTHEST else ""
    return got


def _beyond(what: str, since: int) -> str:
    return f"Of {iso(since)} PagerDuty lists no more than {FARTHEST:,} {_NAMES[what]}: the others are not known."


async def _page(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["page", what, since, until, offset, whether none after it waits]``."""
    _, what, since, until, offset, last = task
    answer, rows = await _asked(ask, what, {"since": iso(since), "until": iso(until), "offset": offset})
    got = _came(kind, what, rows)
    if answer.get("more") and (last or len(rows) < PAGE):
        following = offset + len(rows)
        if following + PAGE <= FARTHEST:
            got.tasks = [["page", what, since, until, following, last]]
        elif until - since > 1:
            got.tasks = _cut(kind, what, since, until, 2)
        else:
            got.missed = _beyond(what, since)
    return got


def _cut(kind: str, what: str, since: int, until: int, parts: int) -> list[Task]:
    """A window in parts, in the order in which its kind is read."""
    parts = max(2, min(parts, until - since))
    edges = [since + (until - since) * place // parts for place in range(parts + 1)]
    tasks: list[Task] = [["span", what, first, last] for first, last in itertools.pairwise(edges)]
    if kind != Kind.EARLIER:
        return tasks
    # All incidents of the window are read before its log entries: with each part of these, more is known.
    return [each for task in reversed(tasks) for each in ([task, ["back", task[2]]] if what == "entries" else [task])]


async def _open(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["open", offset]``: what is not resolved, since whenever."""
    query = {"statuses[]": ["triggered", "acknowledged"], "date_range": "all", "offset": task[1]}
    answer, rows = await _asked(ask, "incidents", query)
    following = next_offset(answer, task[1], len(rows))
    return Got(incidents=rows, tasks=[] if following is None else [["open", following]], first=True)


async def _resolved(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["resolved", since, offset]``: what was resolved lately, the newest first."""
    _, since, offset = task
    query = {"statuses[]": ["resolved"], "date_range": "all", "sort_by": "resolved_at:desc", "offset": offset}
    answer, rows = await _asked(ask, "incidents", query)
    following = next_offset(answer, offset, len(rows))
    if following is None or any(_resolved_before(row, since) for row in rows):
        return Got(incidents=rows)
    return Got(incidents=rows, tasks=[["resolved", since, following]], first=True)


def _resolved_before(row: Document, at: int) -> bool:
    from integrations.pagerduty.analysis import log_reading

    try:
        resolved = log_reading.incident(row).resolved
    except ValueError:
        return False
    return resolved is not None and resolved < at


async def _incident(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["incident", id]``. What is not there, or is another's by now, is told of no more."""
    try:
        found = (await ask(f"/incidents/{task[1]}", None)).get("incident")
    except Cannot as cannot:
        if cannot.status == 404 or cannot.rule == "bounds":
            return Got(gone=[task[1]])
        raise
    if not isinstance(found, dict):
        raise Trouble("PagerDuty's answer is none that was asked for.")
    return Got(incidents=[found])


async def _log(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["log", id, offset]``: what happened to one incident."""
    _, id, offset = task
    answer = await ask(f"/incidents/{id}/log_entries", {"limit": PAGE, "offset": offset})
    rows = rows_of(answer, "log_entries")
    following = next_offset(answer, offset, len(rows))
    return Got(entries=rows, tasks=[] if following is None else [["log", id, following]], first=True)


async def _past(kind: str, state: Document, task: Task, ask: Ask) -> Got:
    """``["past", id, zone, end, seconds, floor]``: who was on call before ``end``, as PagerDuty renders it. ``zone``: a schedule
    of layers' own; empty: it is a shift-based one."""
    _, id, zone, end, seconds, floor = task
    span = Span(max(end - seconds, floor), end)
    query: dict[str, Any] = {"since": iso(span.start), "until": iso(span.end)}
    try:
        if zone:
            found = inner_schedule(await ask(f"/schedules/{id}", {**query, "time_zone": zone}))
        else:
            found = inner_schedule(await ask(f"/v3/schedules/{id}", {**query, "include[]": ["final_schedule"]}))
    except Cannot as cannot:
        if cannot.status == 400 and seconds > 14 * DAY:
            return Got(tasks=[["past", id, zone, end, seconds // 2, floor]])
        raise
    final = found.get("final_schedule")
    if not isinstance(final, dict):
        return Got(missed="PagerDuty did not tell who was on call by some schedules.")
    try:
        slices: tuple[Slice, ...] = reading.schedule(found).rendered
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("The past of the schedule %s cannot be read: %s", id, type(error).__name__)
        return Got(missed="Who was on call by some schedules could not be read.")
    following = [["past", id, zone, span.start, SHIFTS_DAYS * DAY, floor]] if span.start > floor else []
    return Got(pasts=[(id, span, slices)], tasks=following)


TASKS: Final[Mapping[str, Serve]] = {
    "span": _span,
    "page": _page,
    "open": _open,
    "resolved": _resolved,
    "incident": _incident,
    "log": _log,
    "past": _past,
}
LISTS: Final = frozenset({"span", "page", "open", "resolved"})
"""Without one of these the reading is not whole."""
