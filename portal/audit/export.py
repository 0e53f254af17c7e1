"""Entries as a file, oldest first, made and sent piece by piece: memory stays as it is, however many there are.

JSON Lines holds each record as it is hashed, with its place in its chain; CSV holds what a spreadsheet is read for. With a proof,
``manage.py verify_export`` holds JSON Lines against themselves and a checkpoint, without this journal (``policies.core.proof``).
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime as dt
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import reduce
from operator import or_
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.db.models import OuterRef, Q, QuerySet, Subquery

from policies.core import chain
from policies.core.chain import moment
from policies.core.proof import Line, Opening, Seal
from policies.models import Checkpoint, Entry, Stream, Team, User
from portal.audit.query import Query
from portal.audit.rows import Row, targets
from portal.audit.search import Scope

FORMS: Final = {
    "jsonl": ("jsonl", "application/jsonl"),
    "csv": ("csv", "text/csv; charset=utf-8"),
    "proof": ("proof.jsonl", "application/jsonl"),
}
"""The file's ending, and its type."""
STEP: Final = 2_000
"""Entries that are looked at, and held, at a time."""
COLUMNS: Final = (
    *(
        "id",
        "at",
        "kind",
        "decision_id",
        "team_id",
        "team",
        "actor",
        "who",
        "what",
        "tool",
        "risk",
        "verdict",
        "outcome",
    ),
    *("rule", "reason", "door", "connection", "targets", "status", "milliseconds", "stream", "seq", "hash"),
)
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula, or skips before one."""


def defused(cell: object) -> str:
    """A cell that no spreadsheet runs."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(FORMULA) else text


async def stream(rows: QuerySet[Entry], ends: tuple[int, int], form: str) -> AsyncIterator[bytes]:
    """The file's pieces: those of ``rows`` from the first to the last id of ``ends``."""
    if form == "csv":
        yield csv_of([COLUMNS])
    piece: Callable[[QuerySet[Entry]], bytes] = {"csv": _table, "proof": _places}.get(form, _lines)
    for low in range(ends[0], ends[1] + 1, STEP):
        part = rows.filter(pk__gte=low, pk__lt=min(low + STEP, ends[1] + 1)).order_by("pk")
        if made := await sync_to_async(_made)(piece, part):
            yield made


def reach(query: Query, by: User) -> str:
    """Whether a file with a proof holds everything between two moments, or a part of it (``policies.core.proof``)."""
    reads_all = by.is_administrator or by.is_auditor
    return "everything" if reads_all and query == Query(since=query.since, until=query.until) else "part"


def opening(
    query: Query, where: Scope, ends: tuple[int, int], by: User, now: dt.datetime
) -> tuple[Opening, QuerySet[Entry], tuple[int, int]]:
    """What a file with a proof says of itself, and which entries it holds, from the first id to the last.

    Whoever reads the whole record and asks for a period gets all that was written from its first entry to its last one, so that
    no chain has a gap; of a few among them the time may lie just outside. Others' chains, in checkpoints too, are nothing for
    a manager: they get what they see, entry by entry.
    """
    told = Opening(moment(now), by.email, str(query), reach(query, by))
    if told.scope == "part":
        return told, where.rows, ends
    within = where.rows.filter(pk__gte=ends[0], pk__lte=ends[1]).values_list("pk", "at")
    first, last = within.order_by("pk").first(), within.order_by("-pk").first()
    if first is None or last is None:
        return told, where.rows.none(), (0, 0)
    checkpoints = _covering(first, last)
    return (
        dataclasses.replace(told, scope="everything", checkpoints=checkpoints),
        Entry.objects.all(),
        (first[0], last[0]),
    )


TRIED: Final = 5
"""Checkpoints that are looked at for one that fits: as a rule the first one does."""
TOGETHER: Final = 100
"""Places that are looked up at once."""


def _covering(first: tuple[int, dt.datetime], last: tuple[int, dt.datetime]) -> tuple[chain.Checkpoint, ...]:
    """Of the checkpoints signed by today's key the first and the last one of which all that was written between the two is
    among the entries from ``first`` to ``last`` (ids and times)."""
    key = chain.signing_key(settings.JOURNAL_SIGNING_KEY).public_key().public_bytes_raw().hex()
    signed = Checkpoint.objects.filter(at__gte=first[1], at__lte=last[1], public_key=key)
    places = dict(Stream.objects.values_list("name", "pk"))

    def begins(checkpoint: chain.Checkpoint) -> bool:
        heads = {head.stream: head.seq for head in checkpoint.heads()}
        following = {place: heads.get(name, 0) + 1 for name, place in places.items()}
        return min(_ids(following), default=first[0]) >= first[0]

    def ends(checkpoint: chain.Checkpoint) -> bool:
        heads = {places[head.stream]: head.seq for head in checkpoint.heads() if head.stream in places}
        return max(_ids(heads), default=last[0]) <= last[0]

    start = next((each for each in _read(signed.order_by("id")) if begins(each)), None)
    end = next((each for each in _read(signed.order_by("-id")) if ends(each)), None)
    found = [each for each in (start, end) if each is not None]
    return tuple(found[:1] if start == end else found)


def _ids(places: dict[int, int]) -> list[int]:
    """The entries that stand in these places: by stream its number in it."""
    told = [Q(stream_id=stream, seq=seq) for stream, seq in places.items()]
    parts = [reduce(or_, told[low : low + TOGETHER]) for low in range(0, len(told), TOGETHER)]
    return [pk for part in parts for pk in Entry.objects.filter(part).values_list("pk", flat=True)]


def _read(rows: QuerySet[Checkpoint]) -> Iterator[chain.Checkpoint]:
    """Those that can be read at all."""
    for document, signature, key in rows.values_list("document", "signature", "public_key")[:TRIED]:
        with contextlib.suppress(ValueError):
            yield chain.Checkpoint.from_json(
                json.dumps({"document": document, "signature": signature, "public_key": key})
            )


async def proven(told: Opening, rows: QuerySet[Entry], ends: tuple[int, int]) -> AsyncIterator[bytes]:
    """The pieces of a file with a proof."""
    seal = Seal(told.at)
    yield seal.add(told.line())
    async for piece in stream(rows, ends, "proof"):
        yield seal.add(piece, piece.count(b"\n"))
    yield seal.line(chain.signing_key(settings.JOURNAL_SIGNING_KEY))


def _places(part: QuerySet[Entry]) -> bytes:
    before = Entry.objects.filter(stream_id=OuterRef("stream_id"), seq=OuterRef("seq") - 1).values("hash")[:1]
    linked = part.annotate(previous=Subquery(before))
    rows = list(linked.values_list("pk", "stream_id", "seq", "previous", "hash", "record"))
    names = _streams({row[1] for row in rows})
    return b"".join(
        Line(pk, names.get(stream_id, ""), seq, previous or chain.ZERO, value, record).line()
        for pk, stream_id, seq, previous, value, record in rows
    )


def _made(piece: Callable[[QuerySet[Entry]], bytes], part: QuerySet[Entry]) -> bytes:
    try:
        return piece(part)
    finally:
        # Whoever reads slowly must not keep a connection of the pages' pool meanwhile.
        if not connection.in_atomic_block:
            connection.close()


def _lines(part: QuerySet[Entry]) -> bytes:
    rows = list(part.values_list("pk", "stream_id", "seq", "hash", "record"))
    names = _streams({row[1] for row in rows})
    told = []
    for pk, stream_id, seq, value, record in rows:
        place = json.dumps({"id": pk, "stream": names.get(stream_id, ""), "seq": seq, "hash": value})
        # As it is, for these bytes are what the hash is of.
        told.append(f'{place[:-1]}, "record": {record}}}\n')
    return "".join(told).encode()


def _table(part: QuerySet[Entry]) -> bytes:
    rows = list(part)
    names = _streams({row.stream_id for row in rows})
    teams = dict(Team.objects.filter(pk__in={row.team_id for row in rows if row.team_id}).values_list("pk", "name"))
    return csv_of([_cells(row, names, teams) for row in rows])


def _streams(ids: set[int]) -> dict[int, str]:
    return dict(Stream.objects.filter(pk__in=ids).values_list("pk", "name")) if ids else {}


def _cells(row: Entry, streams: dict[int, str], teams: dict[int, str]) -> tuple[object, ...]:
    said = Row.of(row, teams)
    details: dict[str, Any] = json.loads(row.record)["details"]
    upstream = details.get("upstream")
    told = [details.get(name) for name in ("rule", "reason", "door", "connection")]
    about = " ".join(f"{kind}:{name}" for kind, name in targets(details))
    took = upstream.get("milliseconds") if isinstance(upstream, dict) else None
    return (
        *(row.pk, moment(row.at), row.kind, row.decision_id, row.team_id, said.team, row.actor, said.who, said.what),
        *(row.tool, details.get("risk"), row.verdict, row.outcome, *told, about, details.get("status"), took),
        *(streams.get(row.stream_id, ""), row.seq, row.hash),
    )


def csv_of(rows: Sequence[Sequence[object]]) -> bytes:
    """Lines of CSV that no spreadsheet runs anything of."""
    text = io.StringIO()
    csv.writer(text).writerows([defused(cell) for cell in row] for row in rows)
    return text.getvalue().encode()
