"""The incidents of a connection and what happened to them, as they are mirrored: columns, kept in the process and carried on."""

from __future__ import annotations

import datetime as dt
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import numpy as np
from django.db.models import Count, Q, Sum
from django.utils import timezone
from numpy.typing import NDArray

from integrations import mirror
from integrations.mirror_history import KEPT_DAYS, STEP, Body, unpack
from integrations.models import Connection, Mirror, MirroredIncident, MirrorPart, PastKnown, PastShift
from integrations.pagerduty.analysis.coverage import slices_of
from integrations.pagerduty.analysis.incidents import (
    KINDS,
    STATUSES,
    URGENCIES,
    WAYS,
    Incident,
    Instants,
    Log,
    Step,
    log_of,
)
from integrations.pagerduty.analysis.load import Duties, Duty
from integrations.pagerduty.analysis.model import Account, Schedule, Span

Kind = MirrorPart.Kind

DAY: Final = 86_400
STEPS_KEPT: Final = 3_000_000
"""Of all connections together, in a process: some 40 MB a million. The one asked for is always kept."""
DUTIES_KEPT: Final = 3_000_000
"""Of a connection, over all windows that were asked for last; those of the newest always."""
STEPS: Final = np.dtype([("at", "<u4"), ("kind", "u1"), ("way", "u1"), ("user", "<u2"), ("by", "<u2")])
"""``mirror_history.STEP``, many at once."""


@dataclass(frozen=True)
class History:
    log: Log
    known: Span | None
    """From when to when all incidents and what happened to them are read; None: nothing is yet."""
    as_of: dt.datetime | None
    problem: str
    """What could not be read, as a sentence; empty: nothing."""
    running: bool
    """Whether earlier times are still being read."""


EMPTY: Final = log_of(())
_TABLES: Final = ("services", "policies", "priorities", "teams", "users")
_Shift = tuple[int, int, str]
"""Start, end, and who; empty: nobody."""
_Shifts = Mapping[str, tuple[Span, Sequence[_Shift]]]
"""By schedule: of which time it is known, and who was on call in it."""


@dataclass(slots=True)
class _Held:
    """Of a connection, in this process."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    epoch: int = 0
    """The part that it was read by: another one began anew, within other bounds."""
    number: int = -1
    """The mirror's, as of which it is."""
    since: int = 0
    log: Log = EMPTY
    codes: dict[str, dict[str, int]] = field(default_factory=lambda: {name: {} for name in _TABLES})
    shifts_as_of: tuple[Any, ...] = ()
    shifts: _Shifts = field(default_factory=dict)
    duties: OrderedDict[Span, tuple[Account, _Shifts, tuple[Duties, Span | None]]] = field(default_factory=OrderedDict)


_held: OrderedDict[UUID, _Held] = OrderedDict()
_lock: Final = threading.Lock()


def forget_cached() -> None:
    """Of this process: tests begin anew."""
    with _lock:
        _held.clear()


def _of(connection: Connection) -> _Held:
    with _lock:
        held = _held.setdefault(connection.pk, _Held())
        _held.move_to_end(connection.pk)
        # Those asked for last, as far as memory goes; the one asked for now always.
        for pk in list(_held)[:-1]:
            if sum(len(each.log.at) for each in _held.values()) <= STEPS_KEPT:
                break
            del _held[pk]
    return held


def history(connection: Connection) -> History:
    """Three look-ups, and where it changed since this process looked, what changed of it. Safe to call from any thread."""
    row = Mirror.objects.filter(pk=connection.pk).first()
    kinds = (Kind.HISTORY, Kind.EARLIER)
    parts = {
        part.kind: part for part in MirrorPart.objects.filter(connection=connection, kind__in=kinds).defer("state")
    }
    recent, earlier = parts.get(Kind.HISTORY), parts.get(Kind.EARLIER)
    problem = " ".join(part.problem for part in parts.values() if part.problem)
    if row is None or not mirror.is_within(row, connection) or recent is None or recent.since is None:
        return History(EMPTY, None, None, problem, recent is None or recent.ended_at is None)
    today = int(timezone.now().timestamp()) // DAY * DAY
    back = recent.since if earlier is None or earlier.since is None else earlier.since
    known = Span(max(back, today - KEPT_DAYS * DAY), recent.until or recent.since)
    held = _of(connection)
    with held.lock:
        if held.epoch != recent.pk:
            held.epoch, held.number, held.since, held.log = recent.pk, -1, known.start, EMPTY
            held.codes = {name: {} for name in _TABLES}
        if held.number != row.history or held.since != known.start:
            _carry_on(held, connection.pk, row.history, known.start)
        log = held.log
    return History(log, known, recent.as_of, problem, earlier is None or earlier.ended_at is None)


def _carry_on(held: _Held, connection_id: UUID, number: int, since: int) -> None:
    """What changed since, and where the time that is known begins earlier now, what lies there. Of incidents that began before
    it only a part may be known, so they are left out."""
    wanted = Q(change__gt=held.number)
    if since < held.since:
        wanted |= Q(created__gte=since, created__lt=held.since)
    rows = MirroredIncident.objects.filter(wanted, connection=connection_id).order_by()
    if held.number < 0:
        rows = rows.filter(read_at__gt=0, created__gte=since)
    changed: set[str] = set()
    came: list[tuple[str, int, Body]] = []
    for id, created, read_at, body in rows.values_list("remote_id", "created", "read_at", "body").iterator(2_000):
        changed.add(id)
        if read_at and created >= since and body:
            came.append((id, created, unpack(bytes(body))))
    if changed or since > held.since:
        held.log = _merged(held.log, changed, since, _columns(came, held.codes), held.codes)
    held.number, held.since = number, since


_INCIDENT: Final = ("created", "resolved", "service", "policy", "priority", "urgency", "status")
"""Columns with a value for each incident, and below for each step."""
_STEP: Final = ("at", "kind", "way", "user", "by")


def _columns(rows: Sequence[tuple[str, int, Body]], codes: Mapping[str, dict[str, int]]) -> Log:
    """In the order of ``rows``; ``codes`` grow by what they name."""

    def coded(name: str, values: Iterable[str]) -> np.ndarray[Any, np.dtype[np.int32]]:
        table = codes[name]
        found = [table.setdefault(value, len(table)) if value else -1 for value in values]
        return np.array(found, dtype=np.int32)

    bodies = [body for _, _, body in rows]
    # Each body's people stand behind one that is nobody: a step names them by their place there.
    people = coded("users", (user for body in bodies for user in ("", *body.users)))
    first = _starts(len(body.users) + 1 for body in bodies)[:-1]
    steps = np.frombuffer(b"".join([body.steps for body in bodies]), STEPS)
    starts = _starts(len(body.steps) // STEP.size for body in bodies)
    offset = np.repeat(first, np.diff(starts))
    return Log(
        ids=tuple(id for id, _, _ in rows),
        created=np.array([created for _, created, _ in rows], dtype=np.int64),
        resolved=np.array([body.resolved for body in bodies], dtype=np.int64),
        service=coded("services", (body.service for body in bodies)),
        policy=coded("policies", (body.policy for body in bodies)),
        priority=coded("priorities", (body.priority for body in bodies)),
        urgency=np.array([body.urgency for body in bodies], dtype=np.int8),
        status=np.array([body.status for body in bodies], dtype=np.int8),
        team_starts=_starts(len(body.teams) for body in bodies),
        team=coded("teams", (team for body in bodies for team in body.teams)),
        step_starts=starts,
        at=steps["at"].astype(np.int64),
        kind=steps["kind"].astype(np.int8),
        way=steps["way"].astype(np.int8),
        user=people[offset + steps["user"]] if len(steps) else np.zeros(0, np.int32),
        by=people[offset + steps["by"]] if len(steps) else np.zeros(0, np.int32),
        services=tuple(codes["services"]),
        policies=tuple(codes["policies"]),
        priorities=tuple(codes["priorities"]),
        teams=tuple(codes["teams"]),
        users=tuple(codes["users"]),
    )


def _starts(lengths: Iterable[int]) -> Instants:
    found = np.fromiter(lengths, dtype=np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(found)])


def _merged(log: Log, changed: set[str], since: int, came: Log, codes: Mapping[str, dict[str, int]]) -> Log:
    """What stays of a log and what came, by creation and id."""
    stays = np.fromiter((id not in changed for id in log.ids), dtype=np.bool_, count=len(log)) & (log.created >= since)
    places = np.concatenate([np.flatnonzero(stays), len(log) + np.arange(len(came))])
    ids = (*log.ids, *came.ids)
    created = np.concatenate([log.created, came.created])
    places = places[np.lexsort((np.array(ids)[places] if ids else np.zeros(0), created[places]))]

    def ragged(starts: str) -> tuple[Instants, Instants]:
        """The places of what belongs to the incidents, in their new order, and where each one's begin."""
        before = getattr(log, starts)
        both = np.concatenate([before, getattr(came, starts)[1:] + before[-1]])
        lengths = np.diff(both)[places]
        begins = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        return np.repeat(both[:-1][places] - begins[:-1], lengths) + np.arange(begins[-1]), begins

    def both(name: str, order: Instants) -> Any:
        return np.concatenate([getattr(log, name), getattr(came, name)])[order]

    steps, step_starts = ragged("step_starts")
    teams, team_starts = ragged("team_starts")
    columns: dict[str, Any] = {name: both(name, places) for name in _INCIDENT}
    columns |= {name: both(name, steps) for name in _STEP}
    columns |= {name: tuple(table) for name, table in codes.items()}
    return Log(
        ids=tuple(ids[place] for place in places.tolist()),
        step_starts=step_starts,
        team_starts=team_starts,
        team=both("team", teams),
        **columns,
    )


def incidents(connection: Connection, ids: Iterable[str]) -> dict[str, Incident]:
    """Some of them in full, by id, with what columns do not tell: numbers and titles. The ids of steps are not kept."""
    row = Mirror.objects.filter(pk=connection.pk).first()
    if row is None or not mirror.is_within(row, connection):
        return {}
    rows = MirroredIncident.objects.filter(connection=connection, remote_id__in=list(ids), read_at__gt=0)
    return {row.remote_id: _incident(row) for row in rows if row.body}


def _incident(row: MirroredIncident) -> Incident:
    body = unpack(bytes(row.body))
    people = ("", *body.users)
    steps = (
        Step("", at, KINDS[kind], people[user], WAYS[way], people[by])
        for at, kind, way, user, by in STEP.iter_unpack(body.steps)
    )
    return Incident(
        id=row.remote_id,
        created=row.created,
        number=body.number,
        title=body.title,
        service_id=body.service,
        policy_id=body.policy,
        urgency=URGENCIES[body.urgency],
        priority=body.priority,
        team_ids=body.teams,
        status=STATUSES[body.status],
        resolved=None if body.resolved < 0 else body.resolved,
        steps=tuple(steps),
    )


# Who was on call


def duties(connection: Connection, window: Span) -> tuple[Duties, Span | None]:
    """Who was and is on call, by policy, level and schedule: the past as PagerDuty rendered it, the rest as the mirror's
    schedules tell. And of which part of the window that is known of all schedules; None: of none. Which schedules a policy names,
    and whom, is as it is now: how it was, nobody tells."""
    account = mirror.kept(connection).account
    if not account.schedules and not account.policies:
        return Duties.of(()), None
    held = _of(connection)
    with held.lock:
        _keep_shifts(held, connection)
        found = held.duties.get(window)
        if found is None or found[0] is not account or found[1] is not held.shifts:
            found = account, held.shifts, _duties(account, held.shifts, window, int(timezone.now().timestamp()))
            held.duties[window] = found
            held.duties.move_to_end(window)
            while len(held.duties) > 1 and sum(len(each[2][0]) for each in held.duties.values()) > DUTIES_KEPT:
                held.duties.popitem(last=False)
        return found[2]


def _keep_shifts(held: _Held, connection: Connection) -> None:
    """What is over by now changes only with the time of which it is known."""
    rows = PastKnown.objects.filter(connection=connection)
    told = rows.aggregate(Count("pk"), Sum("since"), Sum("until"))
    as_of = (*told.values(),)
    if as_of == held.shifts_as_of:
        return
    shifts: dict[str, list[_Shift]] = {}
    for id, start, end, user in (
        PastShift.objects.filter(connection=connection)
        .order_by("schedule_id", "start", "user_id")
        .values_list("schedule_id", "start", "end", "user_id")
        .iterator(5_000)
    ):
        shifts.setdefault(id, []).append((start, end, sys.intern(user)))  # Few people have many shifts.
    known = rows.values_list("schedule_id", "since", "until")
    held.shifts = {id: (Span(since, until), shifts.get(id, [])) for id, since, until in known}
    held.shifts_as_of = as_of


def _duties(account: Account, shifts: _Shifts, window: Span, now: int) -> tuple[Duties, Span | None]:
    named: dict[str, list[tuple[int, str]]] = {}
    always: list[Duty] = []
    for policy in account.policies.values():
        for level, each in enumerate(policy.levels, 1):
            for target in each.targets:
                if target.kind == "schedule":
                    named.setdefault(target.id, []).append((level, policy.id))
                elif not target.deleted:
                    always.append(Duty(window.start, window.end, target.id, level, "", policy.id))
    known = window
    parts: list[tuple[Duties, int | None, str]] = [(Duties.of(always), None, "")]
    for id, schedule in account.schedules.items():
        span, times = _times(schedule, shifts.get(id), window, now)
        known = Span(max(known.start, span.start), min(known.end, span.end))
        turns = Duties.of(Duty(start, end, user, 0, id) for start, end, user in times if user)
        parts += [(turns, level, policy) for level, policy in named.get(id) or [(0, "")]]
    return _together(parts), known if known.end > known.start else None


def _together(parts: Sequence[tuple[Duties, int | None, str]]) -> Duties:
    """All of them, by start, end and person; each part's at a level of a policy, or as they are (None)."""
    codes: dict[str, int] = {"": 0}
    columns: list[tuple[NDArray[Any], ...]] = []
    for each, level, policy in parts:
        place = np.array([codes.setdefault(id, len(codes)) for id in each.ids], dtype=np.int32)
        levels, policies = each.level, place[each.policy]
        if level is not None:
            levels = np.full(len(each), level, np.int32)
            policies = np.full(len(each), codes.setdefault(policy, len(codes)), np.int32)
        columns.append((each.start, each.end, place[each.user], levels, place[each.schedule], policies))
    start, end, user, all_levels, schedule, all_policies = (
        np.concatenate(column) for column in zip(*columns, strict=True)
    )
    ids = tuple(codes)
    found = Duties(start, end, user, all_levels, schedule, all_policies, ids)
    rank = np.argsort(np.argsort(np.array(ids)))
    order = (rank[found.policy], rank[found.schedule], found.level, rank[found.user], found.end, found.start)
    return found.those(np.lexsort(order))


def _times(
    schedule: Schedule, kept: tuple[Span, Sequence[_Shift]] | None, window: Span, now: int
) -> tuple[Span, list[_Shift]]:
    """Of one schedule: of which time it is known, and who is on call in that part of the window. What is kept comes first, then
    what the newest reading rendered, and what is ahead as its definition tells."""
    times: list[_Shift] = []
    since = until = now
    rendered = schedule.rendered_window
    if kept is not None:
        since, until = kept[0]
        times += kept[1]
    elif rendered is not None:
        since = until = rendered.start
    if rendered is not None and rendered.start <= until < now <= rendered.end:
        times += [(max(each.start, until), min(each.end, now), each.user) for each in schedule.rendered]
        until = now
    if until == now < window.end and (ahead := slices_of(schedule, Span(now, window.end))) is not None:
        times += [(each.start, each.end, each.user) for each in ahead]
        until = window.end
    return Span(since, until), list(_joined(_clipped(times, window)))


def _clipped(times: Iterable[_Shift], window: Span) -> Iterator[_Shift]:
    for start, end, user in times:
        start, end = max(start, window.start), min(end, window.end)
        if start < end:
            yield start, end, user


def _joined(times: Iterable[_Shift]) -> Iterator[_Shift]:
    """What goes on without a break is one: records end at midnight, shifts do not."""
    open_: dict[str, _Shift] = {}
    for start, end, user in sorted(times):
        before = open_.get(user)
        if before is not None and before[1] >= start:
            open_[user] = (before[0], max(before[1], end), user)
            continue
        if before is not None:
            yield before
        open_[user] = (start, end, user)
    yield from open_.values()
