"""Entries as a file, oldest first, made and sent piece by piece: memory stays as it is, however many there are.

JSON Lines holds each record as it is hashed, with its place in its chain; CSV holds what a spreadsheet is read for.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet

from policies.core.chain import moment
from policies.models import Entry, Stream, Team
from portal.audit.rows import Row, targets

FORMS: Final = {"jsonl": "application/jsonl", "csv": "text/csv; charset=utf-8"}
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
    piece: Callable[[QuerySet[Entry]], bytes] = _table if form == "csv" else _lines
    for low in range(ends[0], ends[1] + 1, STEP):
        part = rows.filter(pk__gte=low, pk__lt=min(low + STEP, ends[1] + 1)).order_by("pk")
        if made := await sync_to_async(_made)(piece, part):
            yield made


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
