"""The journal: append-only, hash-chained, durable before anything is answered. Fails closed.

One writer thread a process, with its own database connection and its own stream. Callers await a future; the thread commits
whatever has queued in one transaction. Configuration changes and sign-ins go to the ``configuration`` stream, appended under
a lock in the very transaction of the change; orphans are closed in ``recovery`` the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import hashlib
import logging
import os
import secrets
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import DatabaseError, Error, InterfaceError, connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Exists, OuterRef
from django.utils import timezone

from policies.core import chain
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome
from policies.models import Checkpoint, Entry, Stream

log = logging.getLogger(__name__)

BATCH: Final = 500
LOCK_SECONDS: Final = 5
"""How long a commit may wait for somebody else's lock before it is given up."""
COLUMNS: Final = (
    "stream_id",
    "seq",
    "at",
    "kind",
    "decision_id",
    "team_id",
    "actor",
    "tool",
    "verdict",
    "outcome",
    "resource",
    "record",
    "hash",
)
_INSERT: Final = f"INSERT INTO policies_entry ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"  # noqa: S608


class JournalUnavailable(Exception):
    """The entry could not be made durable. Nothing may be sent or answered on the strength of it."""


class StaleVerdict(Exception):
    """The policy moved after the verdict was made: decide again."""


@dataclass(slots=True)
class _Waiting:
    entry: NewEntry
    verdict_version: int | None
    future: asyncio.Future[None]


def _row(entry: NewEntry, stream_id: int, stream: str, seq: int, previous: str) -> tuple[Any, ...]:
    """An entry at its place: the parameters of ``_INSERT``, the hash last."""
    record = chain.record_of(entry, stream, seq)
    column = chain.column
    return (
        stream_id,
        seq,
        connection.ops.adapt_datetimefield_value(entry.at),
        entry.kind.value,
        column("decision_id", entry.decision_id),
        entry.team_id,
        column("actor", entry.actor),
        column("tool", entry.tool),
        column("verdict", entry.verdict),
        entry.outcome.value,
        column("resource", entry.resource),
        record,
        chain.link(previous, record),
    )


def heads() -> list[chain.Head]:
    """The last entry of every stream."""
    found = []
    for stream_id, name in Stream.objects.order_by("id").values_list("id", "name"):
        last = Entry.objects.filter(stream_id=stream_id).order_by("-seq").values_list("seq", "hash").first()
        if last is not None:
            found.append(chain.Head(name, *last))
    return found


class Journal:
    """The process's own stream and the thread that writes it. ``append`` is called on ``loop``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_version: Callable[[int], None] = lambda version: None,
        name: str = "",
    ) -> None:
        self._loop = loop
        self._on_version = on_version
        self.name = name or f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(6)}"
        self._queue: deque[_Waiting] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._stream_id: int | None = None
        self._seq = 0
        self._hash = chain.ZERO
        self.healthy = True
        self.last_commit = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end. Called off the loop, which must still run."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout=30)

    def append(self, entry: NewEntry, *, verdict_version: int | None = None) -> asyncio.Future[None]:
        """A future that is done when ``entry`` is durable.

        ``verdict_version``: append only while the policy is at that version, which is read in the same transaction.

        Raises (through the future):
            StaleVerdict: the policy has moved; nothing was written.
            JournalUnavailable: it could not be written.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        if self._stopping:
            future.set_exception(JournalUnavailable("the journal is closed"))
            return future
        self._queue.append(_Waiting(entry, verdict_version, future))
        if not self._wake.is_set():
            self._wake.set()
        return future

    def _work(self) -> None:
        try:
            while True:
                if not self._queue:
                    if self._stopping:
                        return
                    self._wake.wait()
                    self._wake.clear()
                batch: list[_Waiting] = []
                while self._queue and len(batch) < BATCH:
                    batch.append(self._queue.popleft())
                if batch:
                    self._write(batch)
        finally:
            connection.close()

    def _write(self, batch: list[_Waiting]) -> None:
        results: list[tuple[_Waiting, Exception | None]] = []
        try:
            results = self._commit(batch)
        except Exception as error:
            log.warning("A batch of %d entries failed (%s); each is tried alone", len(batch), type(error).__name__)
            results = self._one_by_one(batch)
        self.healthy = not any(isinstance(error, JournalUnavailable) for _, error in results)
        if any(error is None for _, error in results):
            self.last_commit = time.time()
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(_settle, results)

    def _one_by_one(self, batch: list[_Waiting]) -> list[tuple[_Waiting, Exception | None]]:
        """Each entry in a transaction of its own: a hostile row cannot lose its neighbours, a lost database fails all soon."""
        results: list[tuple[_Waiting, Exception | None]] = []
        given_up_at = time.monotonic() + 2 * LOCK_SECONDS
        connection.close()
        for waiting in batch:
            if time.monotonic() > given_up_at:
                results.append((waiting, JournalUnavailable("the journal does not answer in time")))
                continue
            try:
                results += self._commit([waiting])
            except Exception as error:
                log.error("An entry could not be written: %s: %s", type(error).__name__, error)
                results.append((waiting, JournalUnavailable(type(error).__name__)))
                if isinstance(error, (InterfaceError, DatabaseError)):
                    connection.close()
        return results

    def _commit(self, batch: Sequence[_Waiting]) -> list[tuple[_Waiting, Exception | None]]:
        """One transaction: read the version, append what is not stale. Raises where nothing was committed."""
        results: list[tuple[_Waiting, Exception | None]] = []
        stream_id, seq, last = self._stream_id, self._seq, self._hash
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                version = self._read_version(cursor)
                rows = []
                if stream_id is None:
                    stream_id, first = self._open_stream()
                    rows.append(first)
                    seq, last = 1, first[-1]
                for waiting in batch:
                    if waiting.verdict_version is not None and waiting.verdict_version != version:
                        results.append((waiting, StaleVerdict()))
                        continue
                    row = _row(waiting.entry, stream_id, self.name, seq + 1, last)
                    rows.append(row)
                    seq, last = seq + 1, row[-1]
                    results.append((waiting, None))
                if rows:
                    _insert(cursor, rows)
        except Error:
            if not self._is_written(stream_id, seq, last):
                raise
        self._stream_id, self._seq, self._hash = stream_id, seq, last
        self._on_version(version)
        return results

    def _is_written(self, stream_id: int | None, seq: int, last: str) -> bool:
        """After a failed commit whose outcome is not known: whether it reached the database all the same."""
        if stream_id is None or seq == self._seq:
            return False
        try:
            connection.close()
            return Entry.objects.filter(stream_id=stream_id, seq=seq, hash=last).exists()
        except Error:
            # Not known even now. The stream cannot go on from an uncertain head: the next entry opens a new one.
            self._stream_id, self._seq, self._hash = None, 0, chain.ZERO
            self.name = f"{self.name.rsplit('/', 1)[0]}/{secrets.token_hex(6)}"
            return False

    def _read_version(self, cursor: CursorWrapper) -> int:
        if connection.vendor == "postgresql":
            cursor.execute(
                f"SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; "
                f"SET LOCAL statement_timeout = '{2 * LOCK_SECONDS}s'"
            )
            cursor.execute("SELECT version FROM policies_policyversion WHERE id = 1 FOR SHARE")
        else:
            cursor.execute("SELECT version FROM policies_policyversion WHERE id = 1")
        row = cursor.fetchone()
        return int(row[0]) if row else 0

    def _open_stream(self) -> tuple[int, tuple[Any, ...]]:
        """A new stream, whose first entry names the head of every other."""
        now = timezone.now()
        known = [{"stream": head.stream, "seq": head.seq, "hash": head.hash} for head in heads()]
        stream = Stream.objects.create(name=self.name, created_at=now)
        first = NewEntry(EntryKind.STREAM, now, f"str-{secrets.token_hex(10)}", details={"heads": known})
        return stream.pk, _row(first, stream.pk, self.name, 1, chain.ZERO)


def _settle(results: list[tuple[_Waiting, Exception | None]]) -> None:
    for waiting, error in results:
        if waiting.future.done():
            continue
        if error is None:
            waiting.future.set_result(None)
        else:
            waiting.future.set_exception(error)


def _insert(cursor: CursorWrapper, rows: Sequence[tuple[Any, ...]]) -> None:
    if len(rows) == 1:
        cursor.execute(_INSERT, rows[0])
    else:
        cursor.executemany(_INSERT, rows)


def append_in_transaction(entry: NewEntry, *, stream: str = "configuration") -> None:
    """Append to a shared stream in the caller's transaction: the entry is there if and only if the change is.

    Raises:
        RuntimeError: outside ``atomic()``.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("append_in_transaction() belongs inside the transaction of what it records.")
    Stream.objects.get_or_create(name=stream, defaults={"created_at": timezone.now()})
    locked = Stream.objects.select_for_update().get(name=stream)
    last = Entry.objects.filter(stream=locked).order_by("-seq").values_list("seq", "hash").first()
    seq, previous = last or (0, chain.ZERO)
    with connection.cursor() as cursor:
        if seq == 0:
            known = [{"stream": head.stream, "seq": head.seq, "hash": head.hash} for head in heads()]
            first = NewEntry(EntryKind.STREAM, timezone.now(), f"str-{secrets.token_hex(10)}", details={"heads": known})
            row = _row(first, locked.pk, stream, 1, previous)
            _insert(cursor, [row])
            seq, previous = 1, row[-1]
        _insert(cursor, [_row(entry, locked.pk, stream, seq + 1, previous)])


_closed_before: dt.datetime | None = None
"""Every intent older than this was found closed, or was closed, by this process."""


def close_orphans(older_than: dt.timedelta) -> int:
    """Close every intent older than ``older_than`` that has no result: its process died with it. Returns how many.

    Any process may do it; two at once close an orphan once, for the lock on their stream makes the second look again.
    """
    global _closed_before
    until = timezone.now() - older_than
    orphans = _open_intents(until, _closed_before)
    if not orphans:
        _closed_before = until
        return 0
    closed = 0
    with transaction.atomic():
        Stream.objects.get_or_create(name="recovery", defaults={"created_at": timezone.now()})
        Stream.objects.select_for_update().get(name="recovery")
        for intent in _open_intents(until, _closed_before):
            append_in_transaction(
                NewEntry(
                    EntryKind.RESULT,
                    timezone.now(),
                    intent.decision_id,
                    intent.team_id,
                    intent.actor,
                    intent.tool,
                    intent.verdict,
                    Outcome.UNKNOWN,
                    intent.resource,
                    {
                        "intent": {"stream": intent.stream.name, "seq": intent.seq},
                        "reason": "The process that sent it ended before it could record what became of it.",
                    },
                ),
                stream="recovery",
            )
            closed += 1
    _closed_before = until
    return closed


def _open_intents(until: dt.datetime, since: dt.datetime | None) -> list[Entry]:
    results = Entry.objects.filter(decision_id=OuterRef("decision_id"), kind=EntryKind.RESULT.value)
    intents = Entry.objects.filter(kind="intent", at__lt=until).exclude(Exists(results)).select_related("stream")
    if since is not None:
        # A batch may commit a moment after its entries' own time.
        intents = intents.filter(at__gte=since - dt.timedelta(minutes=2))
    return list(intents.order_by("id"))


def count_open_intents() -> int:
    """Writes without a result as yet: under way, or about to be closed."""
    return len(_open_intents(timezone.now() + dt.timedelta(days=1), None))


def write_checkpoint() -> Checkpoint:
    """Sign every stream's head; keep it as a row, and as a file in ``CHECKPOINT_DIR`` for keeping elsewhere.

    Raises:
        ValueError: the signing key is malformed.
        OSError: the file could not be written; nothing is kept then.
    """
    key = chain.signing_key(settings.JOURNAL_SIGNING_KEY)
    with transaction.atomic():
        now = timezone.now()
        newest = Checkpoint.objects.order_by("-id").values_list("document", flat=True).first()
        signed = chain.sign(
            {
                "schema": chain.SCHEMA,
                "at": chain.moment(now),
                "heads": [{"stream": head.stream, "seq": head.seq, "hash": head.hash} for head in heads()],
                "previous": hashlib.sha256(newest.encode()).hexdigest() if newest else "",
            },
            key,
        )
        row = Checkpoint.objects.create(
            at=now, document=signed.document, signature=signed.signature, public_key=signed.public_key
        )
        _write_file(settings.CHECKPOINT_DIR / f"checkpoint-{now:%Y%m%dT%H%M%S%fZ}.json", signed.to_json())
    return row


def _write_file(path: Path, text: str) -> None:
    """All of it or nothing, and on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".checkpoint-")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def newest_checkpoint_file() -> Path | None:
    """The newest checkpoint in ``CHECKPOINT_DIR``: their names are in order of time."""
    files = sorted(settings.CHECKPOINT_DIR.glob("checkpoint-*.json"))
    return files[-1] if files else None


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` found. ``checkpoint`` is the time of the one it was held against."""

    entries: int
    streams: int
    checkpoint: str | None
    open_intents: int
    after_checkpoint: int
    fault: chain.Fault | None


def verify(checkpoint: chain.Checkpoint | None) -> Verification:
    """Walk every stream, and hold their heads against ``checkpoint`` and against what streams' first entries name.

    Memory stays bounded however long the journal is. One read transaction: what is appended meanwhile is not half seen.
    """
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return _verify(checkpoint)


def _verify(checkpoint: chain.Checkpoint | None) -> Verification:
    names = dict(Stream.objects.order_by("id").values_list("name", "id"))
    wanted: dict[str, dict[int, str]] = {name: {} for name in names}
    fault: chain.Fault | None = None
    if checkpoint is not None:
        if not chain.is_signed_by(checkpoint, chain.signing_key(settings.JOURNAL_SIGNING_KEY).public_key()):
            fault = chain.Fault("(checkpoint)", None, None, "it is not signed by this portal's key, or was edited")
        for head in checkpoint.heads():
            wanted.setdefault(head.stream, {})[head.seq] = head.hash
    # What the first entries of streams say of others' heads, read without trusting it yet: a false one fails its own walk.
    for record in Entry.objects.filter(kind="stream").values_list("record", flat=True):
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            for stream, (seq, value) in chain.named_heads(record).items():
                wanted.setdefault(stream, {}).setdefault(seq, value)
    entries = anchored = 0
    anchors = {head.stream: head.seq for head in checkpoint.heads()} if checkpoint is not None else {}
    for name, expected in wanted.items():
        if name not in names:
            fault = fault or chain.Fault(
                name, None, None, "the whole stream was removed: a checkpoint or another stream names it"
            )
            continue
        result = chain.walk(_rows(names[name], name), name, frozenset(expected))
        entries += result.entries
        anchored += min(anchors.get(name, 0), result.entries)
        fault = fault or result.fault or _against(name, expected, result)
    if (
        fault is None
        and (stray := Entry.objects.exclude(stream_id__in=names.values()).order_by("id").first()) is not None
    ):
        fault = chain.Fault(f"#{stray.stream_id}", stray.seq, stray.pk, "its stream was removed")
    return Verification(
        entries, len(names), checkpoint.at if checkpoint else None, count_open_intents(), entries - anchored, fault
    )


def _against(name: str, expected: dict[int, str], result: chain.StreamResult) -> chain.Fault | None:
    last = result.head.seq if result.head else 0
    if last == 0 and not expected:
        return chain.Fault(name, 1, None, "the stream has no entry: all of them were removed")
    for seq, value in sorted(expected.items()):
        if seq > last:
            return chain.Fault(
                name, last + 1, None, f"it was cut off: a checkpoint or another stream names entry {seq}"
            )
        if (result.hashes or {}).get(seq) != value:
            return chain.Fault(
                name,
                seq,
                None,
                "it is not the entry that a checkpoint or another stream names: it, or one before it, was rewritten",
            )
    return None


def _rows(stream_id: int, name: str) -> Iterator[chain.Row]:
    fields = (
        "id",
        "seq",
        "at",
        "kind",
        "decision_id",
        "team_id",
        "actor",
        "tool",
        "verdict",
        "outcome",
        "resource",
        "record",
        "hash",
    )
    query = Entry.objects.filter(stream_id=stream_id).order_by("seq", "id").values_list(*fields)
    for row_id, *rest in query.iterator(chunk_size=2_000):
        yield chain.Row(row_id, name, *rest)
