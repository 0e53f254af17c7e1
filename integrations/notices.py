"""Gaps that a team is told of: a time at which an escalation policy reaches nobody, once when it is noticed and once when it is
closed.

What is noticed and the notice of it (``webhooks/deliveries.py``) are one transaction under the lock of the team's row of
settings: whoever comes second finds it noticed. The mirror says what is; where it is too old to go by, nothing is noticed and
nothing closed, and the page says so.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import transaction

from integrations import intended, mirror, sweep
from integrations.models import Connection, Delivery, Mirror, MirrorPart, NoticedGap, NoticeSettings, Watch
from integrations.pagerduty.analysis import coverage
from integrations.pagerduty.analysis import intended as marks
from integrations.pagerduty.analysis.model import Policy, Span
from integrations.webhooks.deliveries import Notice, put
from policies.actions import By, clean_reason, hold_version, record_change, require_manager
from policies.core.text import shown
from policies.models import Team

log = logging.getLogger(__name__)

HOUR: Final = 7
"""Of the day, in UTC: before most people's morning is over, and after the night's changes."""
TOLERANCE: Final = 3_600
"""Seconds by which a gap's start may move without making another gap of it, where nothing of the two overlaps."""
OLD: Final = dt.timedelta(hours=26)
"""A mirror that was not read for so long, in a part that matters, is nothing to go by."""
PARTS: Final = (MirrorPart.Kind.POLICIES, MirrorPart.Kind.SCHEDULES)
HORIZONS: Final = (1, 7 * sweep.WEEKS)
"""Days: the shortest and the longest."""
KEPT: Final = dt.timedelta(days=180)
LINES: Final = 50
"""Gaps that one notice names; the rest are counted."""
LONGEST: Final = 200


@dataclass(frozen=True, slots=True)
class Found:
    """A gap as the mirror has it."""

    connection: Connection
    policy: Policy
    span: Span
    services: tuple[str, ...]
    """Names of those that the policy serves, in order."""
    endless: bool
    """It goes on beyond what was looked through."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a connection's mirror says at a moment."""

    connection: Connection
    as_of: dt.datetime | None
    version: int = 0
    """The mirror's."""
    problem: str = ""
    """Why nothing can be told; empty: it can."""
    policies: frozenset[str] = frozenset()
    """Ids of those that are known at all."""
    judged: frozenset[str] = frozenset()
    """Ids of those of which all schedules are known."""
    gaps: tuple[Found, ...] = ()
    """What of the gaps is not intended."""
    intended: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    """By policy id, when it is meant to reach nobody."""


def see(connection: Connection, now: dt.datetime) -> Seen:
    """Look through what is mirrored of a connection, from ``now`` on."""
    kept = mirror.kept(connection)
    if problem := unfit(kept, now):
        return Seen(connection, kept.as_of, kept.version, problem)
    swept = sweep.swept(connection, kept.account, now)
    window = coverage.ahead(swept.window, int(now.timestamp()))
    meant = intended.marks_of([connection.pk], now)
    gaps: list[Found] = []
    by_policy: dict[str, tuple[Span, ...]] = {}
    judged = set()
    for policy_id, holes in sorted(swept.holes.items()):
        policy = swept.account.policies[policy_id]
        if not _is_known(policy, swept):
            continue
        judged.add(policy_id)
        rows = meant.get((connection.pk, policy_id), ())
        by_policy[policy_id] = marks.intended((intended.mark_of(row) for row in rows), window)
        for hole in holes:
            span = Span(max(hole.span.start, window.start), hole.span.end)
            if hole.kind == "nobody" and span.seconds > 0:
                left, _ = marks.cut(span, by_policy[policy_id])
                gaps += [_found(connection, swept, policy, each) for each in left]
    known = frozenset(swept.account.policies)
    return Seen(connection, kept.as_of, kept.version, "", known, frozenset(judged), tuple(gaps), by_policy)


def unfit(kept: mirror.Kept, now: dt.datetime, parts: Iterable[MirrorPart.Kind] = PARTS) -> str:
    """Why a mirror is nothing to go by, as a sentence; empty: it is."""
    for kind in parts:
        part = kept.parts.get(kind)
        name = kind.label if part is None else part.name
        why = (part.problem if part is not None else "") or kept.told
        if part is None or part.as_of is None:
            return shown(f"Its {name} have not been read yet. {why}".strip(), 300)
        if now - part.as_of > OLD:
            return shown(f"Its {name} were read last at {_clock(part.as_of)}. {why}".strip(), 300)
    shifts = kept.parts.get(MirrorPart.Kind.SCHEDULES_V3)
    # Many a plan has none of these, so to have read none ever is no fault; what was read once gets old like any other.
    if shifts is not None and shifts.as_of is not None and now - shifts.as_of > OLD:
        return shown(f"Its {shifts.name} were read last at {_clock(shifts.as_of)}. {shifts.problem}".strip(), 300)
    return ""


def _is_known(policy: Policy, swept: sweep.Sweep) -> bool:
    """Whether it is known who is on call on all schedules that it names: of one that was not read, or that cannot be rendered,
    nobody can say that it is empty."""
    return not any(coverage.unknown_in(level, swept.rendered) for level in policy.levels)


def _found(connection: Connection, swept: sweep.Sweep, policy: Policy, span: Span) -> Found:
    names = sorted(swept.account.services[each].name for each in swept.services_of.get(policy.id, ()))
    return Found(connection, policy, span, tuple(names), span.end >= swept.window.end)


# Noticing


@dataclass(frozen=True, slots=True)
class Noticed:
    """What is new to a team."""

    opened: Sequence[tuple[NoticedGap, Found]]
    closed: Sequence[NoticedGap]


def look(team: Team, now: dt.datetime) -> Noticed:
    """Notice what gaps a team has got, and which are closed, and put down that it is told. Safe to run twice, or twice at
    once."""
    # Looked through before the lock is taken: it takes a while. Which is the same gap is asked under it.
    seen = [_seen(connection, now) for connection in _connections(team)]
    with transaction.atomic():
        # Held until the end: two that look at once come one after the other.
        NoticeSettings.objects.get_or_create(team=team)
        chosen = NoticeSettings.objects.select_for_update().get(team=team)
        # Whoever has looked at a newer mirror meanwhile knows better.
        newest = dict(Watch.objects.filter(connection__team=team).values_list("connection", "as_of"))
        current = [each for each in seen if not _is_older(each.as_of, newest.get(each.connection.pk))]
        noticed = _compare(team, current, now, dt.timedelta(days=chosen.horizon_days))
        for each in current:
            Watch.objects.update_or_create(
                connection=each.connection,
                defaults={"at": now, "as_of": each.as_of, "version": each.version, "told": each.problem},
            )
        if noticed.opened:
            put(team, _opened(team, noticed.opened, now), chosen, now)
        if noticed.closed:
            put(team, _closed(team, noticed.closed), chosen, now)
    return noticed


def _connections(team: Team) -> Iterable[Connection]:
    return team.connections.filter(is_enabled=True).select_related("team").order_by("created_at", "pk")


def _seen(connection: Connection, now: dt.datetime) -> Seen:
    try:
        return see(connection, now)
    except Exception as error:
        # A mirror that cannot be understood is one connection's trouble, not its neighbours'.
        log.exception("The mirror of the connection %s could not be looked through", connection.pk)
        return Seen(connection, None, problem=f"What was read could not be looked through: {type(error).__name__}.")


def _is_older(as_of: dt.datetime | None, known: dt.datetime | None) -> bool:
    return as_of is not None and known is not None and as_of < known


def _compare(team: Team, seen: Sequence[Seen], now: dt.datetime, horizon: dt.timedelta) -> Noticed:
    until = int((now + horizon).timestamp())
    opened: list[tuple[NoticedGap, Found]] = []
    closed: list[NoticedGap] = []
    open_now: dict[str, list[NoticedGap]] = {}
    for gap in NoticedGap.objects.open().filter(team=team).order_by("starts_at", "pk"):
        open_now.setdefault(gap.policy_id, []).append(gap)
    looked: set[str] = set()
    for each in seen:
        # Two connections to one account mirror the same policy: the first tells of it.
        pieces = [gap for gap in each.gaps if gap.policy.id not in looked]
        judged = each.judged - looked
        looked |= each.judged
        for policy_id in sorted(judged):
            known = open_now.get(policy_id, [])
            mine = [piece for piece in pieces if piece.policy.id == policy_id]
            opened += _pair(team, known, mine, now, until)
            closed += _close(known, mine, each.intended.get(policy_id, ()), now)
    whole = bool(seen) and all(not each.problem for each in seen) and len(seen) == _connections_of(team)
    there = {policy_id for each in seen for policy_id in each.policies}
    for policy_id in open_now.keys() - looked:
        # What could not be judged stays as it was, but for its time coming and going, and for a policy that is there no more.
        end = NoticedGap.End.GONE if whole and policy_id not in there else None
        for gap in open_now[policy_id]:
            if gap.ends_at <= now:
                _end(gap, NoticedGap.End.PASSED, now)
            elif end is not None:
                _end(gap, end, now)
                closed.append(gap)
    return Noticed(opened, closed)


def _connections_of(team: Team) -> int:
    return team.connections.filter(is_enabled=True).count()


def _pair(
    team: Team, known: Sequence[NoticedGap], pieces: Sequence[Found], now: dt.datetime, until: int
) -> list[tuple[NoticedGap, Found]]:
    """Bring the gaps that are known up to what is found of them; what is found besides, and begins soon enough, is news."""
    news = []
    belong: dict[int, list[Found]] = {}
    for piece in pieces:
        gap = _same(known, piece.span)
        if gap is not None:
            belong.setdefault(gap.pk, []).append(piece)
        elif piece.span.start < until:
            news.append((_note(team, piece, now), piece))
    for gap in known:
        if mine := belong.get(gap.pk):
            first, last = mine[0], mine[-1]
            # One that has begun keeps its beginning: what is looked through begins now.
            if first.span.start > now.timestamp() or gap.starts_at > now:
                gap.starts_at = _moment(first.span.start)
            gap.ends_at, gap.is_endless = _moment(last.span.end), last.endless
            gap.policy_name, gap.connection = shown(first.policy.name, LONGEST), first.connection
            gap.save(update_fields=["starts_at", "ends_at", "is_endless", "policy_name", "connection"])
    return news


def _same(known: Sequence[NoticedGap], span: Span) -> NoticedGap | None:
    """The open gap that a span is, or is a part of: the one it overlaps, else one that begins at about the same time."""
    for gap in known:
        if gap.starts_at.timestamp() < span.end and gap.ends_at.timestamp() > span.start:
            return gap
    return next((gap for gap in known if abs(gap.starts_at.timestamp() - span.start) <= TOLERANCE), None)


def _close(
    known: Sequence[NoticedGap], pieces: Sequence[Found], meant: Sequence[Span], now: dt.datetime
) -> list[NoticedGap]:
    """End what is there no more. Returns what is to be told: not what came and went, nor what somebody said is intended."""
    told = []
    for gap in known:
        if any(_same([gap], piece.span) for piece in pieces):
            continue
        start, end = max(gap.starts_at, now).timestamp(), gap.ends_at.timestamp()
        if gap.ends_at <= now:
            _end(gap, NoticedGap.End.PASSED, now)
        elif any(span.start < end and span.end > start for span in meant):
            _end(gap, NoticedGap.End.INTENDED, now)
        else:
            _end(gap, NoticedGap.End.CLOSED, now)
            told.append(gap)
    return told


def _end(gap: NoticedGap, end: NoticedGap.End, now: dt.datetime) -> None:
    gap.ended, gap.ended_at = end, now
    gap.save(update_fields=["ended", "ended_at"])


def _note(team: Team, piece: Found, now: dt.datetime) -> NoticedGap:
    return NoticedGap.objects.create(
        team=team,
        connection=piece.connection,
        policy_id=piece.policy.id[:40],
        policy_name=shown(piece.policy.name, LONGEST),
        starts_at=_moment(piece.span.start),
        ends_at=_moment(piece.span.end),
        is_endless=piece.endless,
        noticed_at=now,
    )


def _moment(at: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(at, dt.UTC)


# Telling


def _clock(at: dt.datetime) -> str:
    return f"{at.astimezone(dt.UTC):%a %Y-%m-%d %H:%M} UTC"


def _when(gap: NoticedGap) -> str:
    until = "with no end in sight" if gap.is_endless else f"until {_clock(gap.ends_at)}"
    return f"from {_clock(gap.starts_at)} {until}"


def _document(gap: NoticedGap) -> dict[str, Any]:
    return {
        "policy": {"id": gap.policy_id, "name": gap.policy_name},
        "connection": shown(gap.connection.name, LONGEST),
        "starts_at": gap.starts_at.astimezone(dt.UTC).isoformat(),
        "ends_at": None if gap.is_endless else gap.ends_at.astimezone(dt.UTC).isoformat(),
    }


def _opened(team: Team, opened: Sequence[tuple[NoticedGap, Found]], now: dt.datetime) -> Notice:
    lines, documents = [], []
    ordered = sorted(opened, key=lambda pair: (pair[0].starts_at, pair[0].policy_name))
    for gap, found in ordered[:LINES]:
        names = [shown(name, LONGEST) for name in found.services]
        whose = (
            f" Services: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}."
            if names
            else ""
        )
        lines.append(f"- {gap.policy_name}: {_when(gap)}.{whose}")
        documents.append({**_document(gap), "services": names[:LINES]})
    more = len(ordered) - LINES
    if more > 0:
        lines.append(f"- and {more} more.")
    first = ordered[0][0]
    if len(ordered) == 1:
        subject = f"{team.name}: nobody would be paged by {first.policy_name} from {_clock(first.starts_at)}"
    else:
        subject = (
            f"{team.name}: {len(ordered)} gaps in which nobody would be paged, the first from {_clock(first.starts_at)}"
        )
    text = "\n".join(
        (
            f"An incident would reach nobody of {shown(team.name, 100)} in these times, on any level of the escalation policy:",
            "",
            *lines,
            "",
            "This is told once of each gap, and once more when it is closed. See what would close them, or say that one is",
            "intended, on the page Coverage of the portal. What is told, and how far ahead, is chosen on:",
        )
    )
    document = {"gaps": documents, "more": max(more, 0)}
    return Notice(Delivery.Event.GAP_OPENED, shown(subject, 300), text, document, f"/teams/{team.slug}/notices/")


def _closed(team: Team, closed: Sequence[NoticedGap]) -> Notice:
    lines, documents = [], []
    ordered = sorted(closed, key=lambda gap: (gap.starts_at, gap.policy_name))
    for gap in ordered[:LINES]:
        how = "its policy is there no more" if gap.ended == NoticedGap.End.GONE else "somebody would be paged now"
        lines.append(f"- {gap.policy_name}: {_when(gap)}; {how}.")
        documents.append({**_document(gap), "how": gap.ended})
    more = len(ordered) - LINES
    if more > 0:
        lines.append(f"- and {more} more.")
    first = ordered[0]
    what = (
        f"the gap of {first.policy_name} from {_clock(first.starts_at)} is"
        if len(ordered) == 1
        else f"{len(ordered)} gaps are"
    )
    text = "\n".join(("These gaps are closed:", "", *lines, "", "What is told is chosen on:"))
    document = {"gaps": documents, "more": max(more, 0)}
    subject = shown(f"{team.name}: {what} closed", 300)
    return Notice(Delivery.Event.GAP_CLOSED, subject, text, document, f"/teams/{team.slug}/notices/")


# When


def daily_due(last: dt.datetime | None, now: dt.datetime) -> bool:
    """Whether today's run, at ``HOUR``, is still to be made: a worker that was down then catches up."""
    now = now.astimezone(dt.UTC)
    due = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    if due > now:
        due -= dt.timedelta(days=1)
    return last is None or last < due


def is_due(team: Team, now: dt.datetime) -> bool:
    """Whether a team's gaps are to be looked for: once a day, and when something was read since they were."""
    watches = {watch.connection_id: watch for watch in Watch.objects.filter(connection__team=team)}
    versions = dict(Mirror.objects.filter(connection__team=team).values_list("connection", "version"))
    for connection in _connections(team):
        watch = watches.get(connection.pk)
        if watch is None or daily_due(watch.at, now):
            return True
        if watch.version != versions.get(connection.pk, 0):
            return True
    return False


def forget_old(now: dt.datetime) -> None:
    NoticedGap.objects.exclude(ended="").filter(ended_at__lt=now - KEPT).delete()


# What managers choose


def do_set_notices(team: Team, *, horizon_days: int, by_email: bool, by: By, reason: str = "") -> NoticeSettings:
    """Choose how far ahead a team is told of gaps, and whether by e-mail.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: the horizon is too near or too far.
    """
    require_manager(by, team, "choose what is told")
    least, most = HORIZONS
    if not least <= horizon_days <= most:
        raise ValidationError(f"Look between {least} and {most} days ahead.")
    with transaction.atomic():
        hold_version()
        NoticeSettings.objects.get_or_create(team=team)
        row = NoticeSettings.objects.select_for_update().get(team=team)
        before = _facts(row)
        row.horizon_days, row.by_email = horizon_days, by_email
        if before == _facts(row):
            return row
        row.save()
        record_change(
            by=by,
            team=team,
            action="set_notices",
            target=team.name,
            before=before,
            after=_facts(row),
            reason=clean_reason(reason),
        )
    return row


def _facts(row: NoticeSettings) -> dict[str, Any]:
    return {"horizon_days": row.horizon_days, "by_email": row.by_email}
