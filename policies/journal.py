"""The journal: append-only, hash-chained, durable before anything is answered. Fails closed.

One writer thread a process, with its own database connection and its own stream. Callers await a future; the thread commits
whatever has queued in one transaction. Configuration changes and sign-ins go to the ``configuration`` stream, appended under
a lock in the very transaction of the change; orphans are closed in ``recovery`` the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import hashlib
import json
import logging
import os
import queue
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.conf import settings
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    Error,
    IntegrityError,
    InterfaceError,
    connection,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Exists, OuterRef, Subquery, TextField
from django.db.models.functions import Cast
from django.utils import timezone

from policies.core import chain
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome
from policies.models import Checkpoint, Entry, PolicyVersion, Stream
from policies.patience import is_away, limit_waiting

if TYPE_CHECKING:
    from policies.spool import Spool

log = logging.getLogger(__name__)
T = TypeVar("T")

BATCH: Final = 500
LOCK_SECONDS: Final = 5
"""How long a commit may wait for somebody else's lock before it is given up."""
AWAY_SECONDS: Final = 2
"""How long an answer of the database is waited for that is away as far as is known."""
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
TYPES: Final = {"stream_id": "bigint", "seq": "bigint", "at": "timestamptz", "team_id": "bigint"}
"""PostgreSQL's types of those that are not text."""
INSERT: Final = f"INSERT INTO policies_entry ({', '.join(COLUMNS)}) VALUES ({', '.join(['%s'] * len(COLUMNS))})"  # noqa: S608


class JournalUnavailable(Exception):
    """The entry could not be made durable. Nothing may be sent or answered on the strength of it."""


class StaleVerdict(Exception):
    """The policy moved after the verdict was made: decide again."""


@dataclass(slots=True)
class _Waiting:
    entry: NewEntry
    verdict_version: int | None
    future: asyncio.Future[None]


@dataclass(slots=True)
class _Work:
    """Something else to do on the writer's thread."""

    work: Callable[[], Any]
    future: asyncio.Future[Any]


def _row(
    db: BaseDatabaseWrapper, entry: NewEntry, stream_id: int, stream: str, seq: int, previous: str
) -> tuple[Any, ...]:
    """An entry at its place: the parameters of ``INSERT``, the hash last."""
    record = chain.record_of(entry, stream, seq)
    column = chain.column
    return (
        stream_id,
        seq,
        db.ops.adapt_datetimefield_value(entry.at),
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
    """The last entry of every stream that has one."""
    newest = Entry.objects.filter(stream_id=OuterRef("pk")).order_by("-seq").values("pk")[:1]
    last = dict(Stream.objects.order_by("id").annotate(last=Subquery(newest)).values_list("name", "last"))
    found = {
        pk: (seq, value)
        for pk, seq, value in Entry.objects.filter(pk__in=last.values()).values_list("pk", "seq", "hash")
    }
    return [chain.Head(name, *found[pk]) for name, pk in last.items() if pk in found]


class Journal:
    """The process's own stream and the thread that writes it. ``append`` is called on ``loop``."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_version: Callable[[int], None] = lambda version: None,
        name: str = "",
        spool: Spool | None = None,
    ) -> None:
        self._loop = loop
        self._spool = spool
        self._on_version = on_version
        self.name = name or f"{socket.gethostname()[:60]}/{os.getpid()}/{secrets.token_hex(6)}"
        self._queue: queue.SimpleQueue[_Waiting | _Work | None] = queue.SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._stream_id: int | None = None
        self._seq = 0
        self._hash = chain.ZERO
        self._left: chain.Head | None = None
        self._version = -1
        self._fresh = True
        self.healthy = True
        self.last_commit = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued, then end. Called off the loop, which must still run."""
        self._stopping = True
        self._queue.put(None)
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
        self._queue.put(_Waiting(entry, verdict_version, future))
        return future

    def do(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run ``work`` on the writer's thread, before the entries that are queued after it.

        For short statements that belong to a call's record: on a thread of their own they would wait for SQLite's one lock,
        and the writer for theirs. ``work`` has a connection of its own (``own_connection``).

        Raises (through the future):
            JournalUnavailable: it was not done, or it failed.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._stopping:
            future.set_exception(JournalUnavailable("the journal is closed"))
            return future
        self._queue.put(_Work(work, future))
        return future

    def _run(self, asked: _Work) -> None:
        try:
            if self._spool is not None and self._spool.away():
                raise JournalUnavailable("the database is away")
            result, error = asked.work(), None
        except Exception as raised:
            log.error("Work beside the journal failed: %s: %s", type(raised).__name__, raised)
            result, error = None, JournalUnavailable(type(raised).__name__)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(_conclude, asked.future, result, error)

    def _work(self) -> None:
        # Held directly, too: Django's way to it costs more than to make a row.
        connections[DEFAULT_DB_ALIAS] = self._db = own_connection(self.patience)
        batch: list[_Waiting] = []
        try:
            while (first := self._queue.get()) is not None:
                batch = []
                waiting: _Waiting | _Work | None = first
                with contextlib.suppress(queue.Empty):
                    while waiting is not None:
                        if isinstance(waiting, _Work):
                            self._run(waiting)
                        else:
                            batch.append(waiting)
                        waiting = self._queue.get_nowait() if len(batch) < BATCH else None
                if batch:
                    self._write(batch)
                if self._stopping and self._queue.empty():
                    return
        except BaseException:
            # Without its writer the process records nothing, and so must answer nothing.
            self._stopping, self.healthy = True, False
            undone = []
            while not self._queue.empty():
                if isinstance(left := self._queue.get(), _Waiting):
                    batch.append(left)
                elif left is not None:
                    undone.append(left.future)
            failed: list[tuple[_Waiting, Exception | None]] = [
                (waiting, JournalUnavailable("the journal's writer ended")) for waiting in batch
            ]
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_settle, failed)
                for future in undone:
                    self._loop.call_soon_threadsafe(_conclude, future, None, JournalUnavailable("the writer ended"))
            raise
        finally:
            connection.close()

    def _write(self, batch: list[_Waiting]) -> None:
        results: list[tuple[_Waiting, Exception | None]] = []
        began = time.monotonic()
        try:
            results = self._aside(batch) if self._spool is not None and self._spool.holding else self._commit(batch)
        except Exception as error:
            log.warning("A batch of %d entries failed (%s)", len(batch), type(error).__name__)
            results = self._without_database(batch, error, began) or self._one_by_one(batch)
        self.healthy = not any(isinstance(error, JournalUnavailable) for _, error in results)
        if self._spool is not None and not self.healthy:
            self._spool.doubt()
        if any(error is None for _, error in results):
            self.last_commit = time.time()
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits any more.
            self._loop.call_soon_threadsafe(_settle, results)

    def _without_database(
        self, batch: list[_Waiting], error: Exception, began: float
    ) -> list[tuple[_Waiting, Exception | None]]:
        """What becomes of a batch whose commit ended in ``error``, if that means that the database is away; empty: it does
        not."""
        spool = self._spool
        if spool is None or not is_away(error):
            return []
        connection.close()
        if not spool.away() and time.monotonic() - began < 1:
            # A connection that was dropped is no database that is away. What took long would take long again.
            try:
                return self._commit(batch)
            except Exception as again:
                connection.close()
                if not is_away(again):
                    return []
        spool.begin()
        return self._aside(batch, tried=self.name)

    def _aside(self, batch: Sequence[_Waiting], tried: str = "") -> list[tuple[_Waiting, Exception | None]]:
        """The database is away: what nothing is sent on the strength of is spooled, the rest is not recorded."""
        assert self._spool is not None  # noqa: S101
        failed: Exception | None = None
        spooled = [waiting.entry for waiting in batch if _may_wait(waiting)]
        known = chain.Head(self.name, self._seq, self._hash) if self._seq else self._left
        try:
            self._spool.hold(spooled, known, tried)
        except JournalUnavailable as error:
            failed = error
        away = JournalUnavailable("the database is away")
        return [(waiting, failed if _may_wait(waiting) else away) for waiting in batch]

    def patience(self) -> float:
        """How long to wait for an answer of the database: longer than its own limit, unless it is known to be away."""
        return AWAY_SECONDS if self._spool is not None and self._spool.away() else 2 * LOCK_SECONDS + 1

    def recovered(self) -> None:
        """Entries can be written again: somebody else found out."""
        self.healthy = True

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
        if self._stream_id is None:
            # A new name each time: whether a failed attempt was written is not known.
            self.name = self.name if self._fresh else f"{self.name.rsplit('/', 1)[0]}/{secrets.token_hex(6)}"
            self._fresh = False
            self._open_stream()
        if not all(waiting.verdict_version in (None, self._version) for waiting in batch) or not self._append(batch):
            self._version = self._read_version()
            stale = [waiting for waiting in batch if waiting.verdict_version not in (None, self._version)]
            batch = [waiting for waiting in batch if waiting not in stale]
            if batch and not self._append(batch):
                raise DatabaseError("the policy keeps changing")
        else:
            stale = []
        self._on_version(self._version)
        return [(waiting, StaleVerdict()) for waiting in stale] + [(waiting, None) for waiting in batch]

    def _append(self, batch: Sequence[_Waiting]) -> bool:
        """Append all of ``batch`` while the policy is at ``_version``; False: it is not, and nothing was written.

        One statement: each return from the database waits for its turn among Python's threads, so there is only one.
        """
        assert self._stream_id is not None  # noqa: S101
        rows, last = [], self._hash
        for seq, waiting in enumerate(batch, self._seq + 1):
            row = _row(self._db, waiting.entry, self._stream_id, self.name, seq, last)
            rows.append(row)
            last = row[-1]
        try:
            if not _insert_at(self._db, self._version, rows):
                return False
        except Error as error:
            if not self._is_written(self._stream_id, self._seq + len(rows), last):
                if isinstance(error, IntegrityError):
                    # Somebody else's row stands in our place: this stream cannot go on, and verification will name it.
                    self._leave_stream()
                raise
        self._seq, self._hash = self._seq + len(rows), last
        return True

    def _is_written(self, stream_id: int, seq: int, last: str) -> bool:
        """After a failed commit whose outcome is not known: whether it reached the database all the same."""
        if self._spool is not None and self._spool.away():
            self._leave_stream()
            return False
        try:
            connection.close()
            return Entry.objects.filter(stream_id=stream_id, seq=seq, hash=last).exists()
        except Error:
            # Not known even now. The stream cannot go on from an uncertain head.
            self._leave_stream()
            return False

    def _leave_stream(self) -> None:
        """The next entry opens a new one."""
        self._left = chain.Head(self.name, self._seq, self._hash) if self._seq else self._left
        self._stream_id, self._seq, self._hash = None, 0, chain.ZERO

    def _read_version(self) -> int:
        return PolicyVersion.objects.filter(pk=1).values_list("version", flat=True).first() or 0

    def _open_stream(self) -> None:
        """A new stream, whose first entry names the head of every other."""
        now = timezone.now()
        with transaction.atomic():
            known = [{"stream": head.stream, "seq": head.seq, "hash": head.hash} for head in heads()]
            stream = Stream.objects.create(name=self.name, created_at=now)
            first = NewEntry(EntryKind.STREAM, now, f"str-{secrets.token_hex(10)}", details={"heads": known})
            row = _row(self._db, first, stream.pk, self.name, 1, chain.ZERO)
            with connection.cursor() as cursor:
                cursor.execute(INSERT, row)
        self._stream_id, self._seq, self._hash = stream.pk, 1, row[-1]


def _may_wait(waiting: _Waiting) -> bool:
    """Whether an entry may be spooled: never what a write would be sent on the strength of."""
    return waiting.verdict_version is None and waiting.entry.kind is not EntryKind.INTENT


def own_connection(
    patience: Callable[[], float] = lambda: 2 * LOCK_SECONDS + 1, *, hurried: bool = False
) -> BaseDatabaseWrapper:
    """A thread's own: not from the pages' pool, impatient with others' locks, and with a server that says nothing. ``hurried``:
    its commits do not wait for the disk, but reach it with the next one that does."""
    own = connections.create_connection(DEFAULT_DB_ALIAS)
    options = {name: value for name, value in own.settings_dict["OPTIONS"].items() if name != "pool"}
    if own.vendor == "postgresql":
        # A server that is gone without a word must not keep the callers waiting.
        options |= {"connect_timeout": AWAY_SECONDS, "tcp_user_timeout": 2 * LOCK_SECONDS * 1_000}
        limit_waiting(own, patience)
        options["options"] = (
            f"-c synchronous_commit={'off' if hurried else 'on'} "
            f"-c lock_timeout={LOCK_SECONDS}s -c statement_timeout={2 * LOCK_SECONDS}s"
        )
    else:
        options["timeout"] = LOCK_SECONDS
        if hurried:
            options["init_command"] += " PRAGMA synchronous=NORMAL;"
    own.settings_dict = {**own.settings_dict, "OPTIONS": options}
    return own


@functools.lru_cache(maxsize=64)
def _insert_sql(vendor: str, count: int) -> str:
    columns, table = ", ".join(COLUMNS), Entry._meta.db_table
    if vendor == "sqlite":
        rows = ", ".join([f"({', '.join('?' * len(COLUMNS))})"] * count)
        version = "COALESCE((SELECT version FROM policies_policyversion WHERE id = 1), 0)"
        return f"INSERT INTO {table} ({columns}) SELECT * FROM (VALUES {rows}) WHERE {version} = ?"  # noqa: S608
    typed = ", ".join("%s::" + TYPES.get(name, "text") for name in COLUMNS)
    rows = ", ".join([f"({typed})"] + [f"({', '.join(['%s'] * len(COLUMNS))})"] * (count - 1))
    return (
        "WITH policy AS (SELECT version FROM policies_policyversion WHERE id = 1 FOR SHARE) "  # noqa: S608
        f"INSERT INTO {table} ({columns}) SELECT entry.* FROM (VALUES {rows}) AS entry "
        "WHERE COALESCE((SELECT version FROM policy), 0) = %s"
    )


def _insert_at(db: BaseDatabaseWrapper, version: int, rows: Sequence[tuple[Any, ...]]) -> bool:
    """Append while the policy is at ``version``: all rows in one durable statement, or none."""
    statement = _insert_sql(db.vendor, len(rows))
    values = [value for row in rows for value in row]
    values.append(version)
    if db.vendor == "sqlite":
        # Django's cursor would rewrite hundreds of placeholders each time.
        db.ensure_connection()
        with db.wrap_database_errors:
            return bool(db.connection.execute(statement, values).rowcount)
    with db.cursor() as cursor:
        cursor.execute(statement, values)
        return bool(cursor.rowcount)


def _settle(results: list[tuple[_Waiting, Exception | None]]) -> None:
    for waiting, error in results:
        if waiting.future.done():
            continue
        if error is None:
            waiting.future.set_result(None)
        else:
            waiting.future.set_exception(error)


def _conclude(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _here() -> BaseDatabaseWrapper:
    """The calling thread's connection itself, not Django's proxy."""
    return connections[DEFAULT_DB_ALIAS]


def append_in_transaction(*entries: NewEntry, stream: str = "configuration") -> None:
    """Append to a shared stream in the caller's transaction: the entries are there if and only if the change is.

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
            row = _row(_here(), first, locked.pk, stream, 1, previous)
            cursor.execute(INSERT, row)
            seq, previous = 1, row[-1]
        rows = []
        for place, entry in enumerate(entries, seq + 1):
            rows.append(_row(_here(), entry, locked.pk, stream, place, previous))
            previous = rows[-1][-1]
        cursor.executemany(INSERT, rows)


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
        if not closed:
            transaction.set_rollback(True)  # An empty stream would look like one that was emptied.
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
    doubt: str = ""
    """Why ``checkpoint`` proves nothing here; empty: it does."""


PROGRESS: Final = 5_000
"""Entries after which a verification tells how far it is."""


def verify(checkpoint: chain.Checkpoint | None, progress: Callable[[int], None] = lambda done: None) -> Verification:
    """Walk every stream, and hold their heads against ``checkpoint`` and against what streams' first entries name.

    Memory stays bounded however long the journal is. One read transaction: what is appended meanwhile is not half seen.
    ``progress`` is told now and then how many entries were gone through; it must not use this thread's connection.
    """
    with _reading():
        return _verify(checkpoint, progress)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """One moment of the database to read, without keeping anybody from writing meanwhile."""
    here: Any = _here()
    here.ensure_connection()  # or it takes the usual mode when it connects
    if here.vendor == "postgresql":
        with transaction.atomic(), here.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield
        return
    # Django begins with the write lock (transaction_mode), which would stop every call for as long as this takes.
    usual, here.transaction_mode = here.transaction_mode, "DEFERRED"
    try:
        with transaction.atomic():
            yield
    finally:
        here.transaction_mode = usual


def _verify(checkpoint: chain.Checkpoint | None, progress: Callable[[int], None]) -> Verification:
    names = dict(Stream.objects.order_by("id").values_list("name", "id"))
    wanted: dict[str, dict[int, str]] = {name: {} for name in names}
    fault: chain.Fault | None = None
    spoilt: chain.Fault | None = None
    doubt = ""
    if checkpoint is not None:
        ours = chain.signing_key(settings.JOURNAL_SIGNING_KEY).public_key()
        if checkpoint.public_key != ours.public_bytes_raw().hex():
            doubt = "the checkpoint was signed by another key than JOURNAL_SIGNING_KEY"
        elif not chain.is_signed_by(checkpoint, ours):
            fault = chain.Fault("(checkpoint)", None, None, "its signature is not true: it was edited")
        for head in checkpoint.heads():
            wanted.setdefault(head.stream, {})[head.seq] = head.hash
    # What the first entries of streams say of others' heads, read without trusting it yet: a false one fails its own walk.
    for record in Entry.objects.filter(kind="stream").values_list("record", flat=True):
        with contextlib.suppress(Exception):
            for stream, (seq, value) in chain.named_heads(record).items():
                wanted.setdefault(stream, {}).setdefault(seq, value)
        with contextlib.suppress(Exception):
            told = json.loads(record)["details"].get("spool", {})
            if problem := told.get("problem"):
                kept = f"{problem} (in the spool, before it was brought in; the rest is kept in {told['kept']})"
                spoilt = spoilt or chain.Fault(told["stream"], told["bad"], None, kept)
    fault = fault or spoilt
    entries = anchored = 0
    anchors = {head.stream: head.seq for head in checkpoint.heads()} if checkpoint is not None else {}
    for name, expected in wanted.items():
        if name not in names:
            fault = fault or chain.Fault(
                name, None, None, "the whole stream was removed: a checkpoint or another stream names it"
            )
            continue
        result = chain.walk(_telling(_rows(names[name], name), entries, progress), name, frozenset(expected))
        entries += result.entries
        anchored += min(anchors.get(name, 0), result.entries)
        fault = fault or result.fault or _against(name, expected, result)
    if (
        fault is None
        and (stray := Entry.objects.exclude(stream_id__in=names.values()).order_by("id").first()) is not None
    ):
        fault = chain.Fault(f"#{stray.stream_id}", stray.seq, stray.pk, "its stream was removed")
    at = checkpoint.at if checkpoint else None
    return Verification(entries, len(names), at, count_open_intents(), entries - anchored, fault, doubt)


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
    query: Any = Entry.objects.filter(stream_id=stream_id).order_by("seq", "id")
    # SQLite lets anything stand in a column: what is no time must not end the walk before it is named.
    as_text = connection.vendor == "sqlite"
    if as_text:
        query = query.annotate(at_text=Cast("at", TextField()))
    fields = ("id", "seq", "at_text" if as_text else "at", *COLUMNS[3:])
    for row_id, seq, at, *rest in query.values_list(*fields).iterator(chunk_size=2_000):
        yield chain.Row(row_id, name, seq, _time(at) if as_text else at, *rest)


def _telling(rows: Iterator[chain.Row], before: int, progress: Callable[[int], None]) -> Iterator[chain.Row]:
    for done, row in enumerate(rows, before):
        if done % PROGRESS == 0:
            progress(done)
        yield row


def _time(text: object) -> dt.datetime | str:
    """SQLite's text of a time, which is in UTC; itself where it is none."""
    try:
        return dt.datetime.fromisoformat(str(text)).replace(tzinfo=dt.UTC)
    except ValueError:
        return str(text)
