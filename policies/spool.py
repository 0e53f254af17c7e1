"""The spool: where entries wait on this machine's own disk while the database is away, to be brought in when it is back.

If an administrator has chosen beforehand that reads go on, they are answered once their entries are here. If not, the spool only
catches what was under way when the database went: nobody is answered, but what was sent is on record.

A file is a chain like any stream's, one entry a line, each line on disk (fsync) before anything is answered on the strength of
it. Each line also bears a keyed digest of its hash: whoever may write the file and does not hold ``JOURNAL_SIGNING_KEY`` cannot
make a chain that holds. A process keeps its file locked (flock); the lock ends with the process, and then any other brings the
file in. What is inserted are the very records and hashes, so that ``verify_audit`` proves them like all others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connection, connections, transaction
from django.utils import timezone
from prometheus_client import Counter

from policies.core import chain
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.journal import INSERT, JournalUnavailable, append_in_transaction, own_connection
from policies.models import Entry, Stream
from policies.patience import is_away

log = logging.getLogger(__name__)

SUFFIX: Final = ".spool"
KEPT: Final = ".kept"
"""What a file ends in that could not be brought in whole: it stays for people to look at."""
RETRY_SECONDS: Final = 1.0
SCAN_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 60.0
"""After an error that is not the database's absence."""
CHUNK: Final = 500
LONGEST_LINE: Final = 64_000_000
_LINE = re.compile(rb'\{"hash":"([0-9a-f]{64})","mac":"([0-9a-f]{32})","record":(\{.*\})\}', re.DOTALL)

SPOOLED: Final = Counter("pagewarden_spooled_entries", "Entries that were spooled while the database was away.")
BROUGHT: Final = Counter("pagewarden_spool_brought_in", "Entries that were brought in from the spool.")


def _mac(digest: str) -> str:
    key = hashlib.blake2b(settings.JOURNAL_SIGNING_KEY.encode(), person=b"spool", digest_size=32).digest()
    return hashlib.blake2b(digest.encode(), key=key, digest_size=16).hexdigest()


def line_of(record: str, digest: str) -> bytes:
    """An entry as a line of a spool file: JSON, the record in it byte for byte as it is hashed."""
    return f'{{"hash":"{digest}","mac":"{_mac(digest)}","record":{record}}}\n'.encode("ascii")


# Files


class SpoolFile:
    """A file of this process's own, locked as long as it is open, and the chain in it."""

    def __init__(self, folder: Path, known: Sequence[chain.Head]) -> None:
        """``known``: the heads that its first entry names. Raises ``OSError``."""
        _make(folder)
        token = secrets.token_hex(8)
        self.stream = f"spool/{os.uname().nodename[:60]}/{os.getpid()}/{token}"
        # In order of time: a file names the head of the one before it.
        self.path = folder / f"{time.time_ns():020d}-{token}{SUFFIX}"
        self.head = chain.Head(self.stream, 0, chain.ZERO)
        self._known = known
        self._length = 0
        hidden = folder / f".{token}"
        self.descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Before it has its name: another process takes what it finds unlocked for a dead one's.
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self.path)
            _sync(folder)
        except OSError:
            self.close()
            for path in (hidden, self.path):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise

    def append(self, entries: Sequence[NewEntry], told: Mapping[str, str | bool]) -> None:
        """Chain and write ``entries``; they are on disk when this returns. ``told`` is kept in each as ``spooled``.

        Raises ``OSError``: none of them counts, and the file must not be used any more.
        """
        seq, previous = self.head.seq, self.head.hash
        if seq == 0:
            heads = [{"stream": head.stream, "seq": head.seq, "hash": head.hash} for head in self._known]
            at = dt.datetime.now(dt.UTC)
            first = NewEntry(EntryKind.STREAM, at, f"str-{secrets.token_hex(10)}", details={"heads": heads})
            entries = [first, *entries]
        lines = []
        for entry in entries:
            seq += 1
            spooled = dataclasses.replace(entry, details={**entry.details, "spooled": told})
            record = chain.record_of(spooled, self.stream, seq)
            previous = chain.link(previous, record)
            lines.append(line_of(record, previous))
        data = b"".join(lines)
        try:
            _write(self.descriptor, data)
            os.fsync(self.descriptor)
        except OSError:
            # What was not promised should not stay; if it cannot be taken away it is an entry of an answer that was not given.
            with contextlib.suppress(OSError):
                os.ftruncate(self.descriptor, self._length)
                os.fsync(self.descriptor)
            raise
        self._length += len(data)
        self.head = chain.Head(self.stream, seq, previous)

    def close(self) -> None:
        """Gives the lock up."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sync(folder.parent)


def _sync(folder: Path) -> None:
    """A file that was made is found again after a power cut only if its folder is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        written = os.write(descriptor, rest)
        if written == 0:
            raise OSError(errno.EIO, "nothing more can be written")
        rest = rest[written:]


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of a spool file, found good."""

    seq: int
    hash: str
    record: str
    document: dict[str, Any]


class Damaged(Exception):
    """From this entry on the file is not what was written: it was edited, or the disk failed."""

    def __init__(self, seq: int, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq


class Torn(Exception):
    """The last line is not whole: the power was cut while it was written, before anything was answered."""

    def __init__(self, rest: bytes) -> None:
        super().__init__(f"{len(rest)} bytes")
        self.rest = rest


def read(file: io.BufferedIOBase) -> Iterator[Line]:
    """The entries of a spool file as far as its chain holds.

    Raises:
        Torn: the last line is not whole; all before it are good.
        Damaged: a line is not the one that was written there.
    """
    previous, seq = chain.ZERO, 1
    while text := file.readline(LONGEST_LINE):
        if (line := _line(text, previous, seq)) is None:
            if not text.endswith(b"\n") and len(text) < LONGEST_LINE:
                raise Torn(text)
            raise Damaged(seq, "it was edited, removed or put in another's place: its chain does not hold")
        yield line
        previous, seq = line.hash, seq + 1


def _line(text: bytes, previous: str, seq: int) -> Line | None:
    """The entry of a line, if it is the one that follows ``previous``."""
    if (match := _LINE.fullmatch(text.removesuffix(b"\n"))) is None or not match[3].isascii():
        return None
    record, digest = match[3].decode("ascii"), match[1].decode()
    if chain.link(previous, record) != digest or not secrets.compare_digest(_mac(digest), match[2].decode()):
        return None
    document: dict[str, Any] = json.loads(record)  # JSON of our own making: the key says so
    return Line(seq, digest, record, document) if document["seq"] == seq else None


def waiting(folder: Path) -> list[Path]:
    """The files that wait to be brought in, the oldest first. Raises ``OSError`` where that cannot be told."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return []


def count_waiting(folder: Path) -> int:
    """How many entries wait. Raises ``OSError`` where that cannot be told."""
    count = 0
    for path in waiting(folder):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            # The first line of a file names heads.
            count += max(sum(line.endswith(b"\n") for line in file) - 1, 0)
    return count


# Bringing in


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of a file. ``entries``: inserted by this run, without the first of the chain."""

    stream: str
    entries: int
    problem: str = ""
    torn: int = 0
    """Bytes of the line that the power cut left."""


def bring_in(path: Path, descriptor: int, expected: chain.Head | None = None) -> Brought:
    """Insert a locked file's entries, as they are, and take the file away. Killed at any moment and begun again it inserts
    each once. What does not hold is kept beside it (``.kept``), told in an entry of the stream ``recovery``, and logged.

    ``expected``: the head that this process itself wrote last.

    Raises:
        DatabaseError: the database is away again; what is in stays in, and the rest waits.
    """
    stream, inserted = "", 0
    head: chain.Head | None = None
    chunk: list[Line] = []
    problem, torn = "", b""
    bad: int | None = None
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        try:
            for line in read(file):
                stream = stream or str(line.document["stream"])
                chunk.append(line)
                if len(chunk) == CHUNK:
                    inserted += _insert(stream, chunk)
                    head, chunk = chain.Head(stream, line.seq, line.hash), []
        except Torn as cut:
            torn = cut.rest
        except Damaged as found:
            problem, bad = str(found), found.seq
        if chunk:
            inserted += _insert(stream, chunk)
            head = chain.Head(stream, chunk[-1].seq, chunk[-1].hash)
    if not problem and expected is not None and head != expected:
        at = head.seq + 1 if head is not None else 1
        problem, bad = f"it was cut off: {expected.seq} entries were written", min(at, expected.seq)
    if head is not None or problem or torn:
        _conclude(path, stream, head, problem, bad, torn)
    if problem or torn:
        with contextlib.suppress(FileNotFoundError):
            path.rename(path.with_suffix(KEPT))
    else:
        path.unlink(missing_ok=True)
    _sync(path.parent)
    BROUGHT.inc(inserted)
    log.warning("%d entries of the spool file %s were brought in", inserted, path.name)
    return Brought(stream, inserted, problem, len(torn))


def _insert(stream: str, lines: Sequence[Line]) -> int:
    """One transaction: those of ``lines`` that the database has not."""
    with transaction.atomic():
        Stream.objects.get_or_create(name=stream, defaults={"created_at": timezone.now()})
        locked = Stream.objects.select_for_update().get(name=stream)
        there = Entry.objects.filter(stream=locked).order_by("-seq").values_list("seq", flat=True).first() or 0
        here = connections[DEFAULT_DB_ALIAS]
        rows = [_row(here, line, locked.pk) for line in lines if line.seq > there]
        if rows:
            with connection.cursor() as cursor:
                cursor.executemany(INSERT, rows)
    return len(rows) - (there == 0 and bool(rows))


def _row(here: Any, line: Line, stream_id: int) -> tuple[Any, ...]:
    """The parameters of ``INSERT``: the columns from the record, the record and the hash as they are."""
    told = line.document
    at = here.ops.adapt_datetimefield_value(dt.datetime.fromisoformat(told["at"]))
    names = ("kind", "decision_id", "team_id", "actor", "tool", "verdict", "outcome", "resource")
    return (stream_id, line.seq, at, *(told[name] for name in names), line.record, line.hash)


def _conclude(path: Path, stream: str, head: chain.Head | None, problem: str, bad: int | None, torn: bytes) -> None:
    """Tell of the file in an entry of ``recovery``, once: it names the head, so that the chain cannot be cut off any more."""
    decision_id = f"spool-{hashlib.sha256((stream or path.name).encode()).hexdigest()[:20]}"
    told: dict[str, Any] = {"stream": stream or path.name, "entries": head.seq - 1 if head else 0}
    if problem:
        told |= {"problem": problem, "bad": bad}
        log.error("The spool file %s is damaged at entry %s: %s. The rest was kept.", path.name, bad, problem)
    if torn:
        told |= {"torn_bytes": len(torn), "torn_digest": hashlib.sha256(torn).hexdigest()}
        log.error("The spool file %s ends in %d bytes of an unfinished entry. They were kept.", path.name, len(torn))
    if problem or torn:
        told["kept"] = path.with_suffix(KEPT).name
    heads = [{"stream": head.stream, "seq": head.seq, "hash": head.hash}] if head else []
    with transaction.atomic():
        Stream.objects.get_or_create(name="recovery", defaults={"created_at": timezone.now()})
        Stream.objects.select_for_update().get(name="recovery")
        if not Entry.objects.filter(decision_id=decision_id).exists():
            details = {"heads": heads, "spool": told}
            entry = NewEntry(EntryKind.STREAM, timezone.now(), decision_id, details=details)
            append_in_transaction(entry, stream="recovery")


def bring_in_orphans(folder: Path) -> int:
    """Bring in the files whose processes are gone. How many. Raises as ``bring_in``."""
    count = 0
    for path in waiting(folder):
        if (descriptor := _adopt(path)) is None:
            continue
        try:
            bring_in(path, descriptor)
            count += 1
        finally:
            os.close(descriptor)
    return count


def _adopt(path: Path) -> int | None:
    """A file's descriptor, locked; None: its process lives, or another has just brought it in."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None


def can_write(folder: Path) -> str:
    """Why nothing can be spooled into ``folder``; empty: it can."""
    try:
        _make(folder)
        probe = folder / f".{secrets.token_hex(8)}"
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, b"x")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}."
    return ""


# In a running process


class Spool:
    """Takes the journal's entries while the database is away, and looks after their way back in a thread of its own.

    ``holding`` is True from the first commit that failed for the database's absence until an entry could be inserted again:
    nobody waits for the database meanwhile.
    """

    def __init__(self, folder: Path, *, confirmed: Callable[[], dt.datetime | None], away: Callable[[], bool]) -> None:
        """
        Args:
            confirmed: when the configuration was confirmed last, if by it reads go on now; None: they do not.
            away: whether the database was silent when it was asked last.
        """
        self.folder = folder
        self.confirmed = confirmed
        self.away = away
        self.on_back: Callable[[], None] = lambda: None
        self.holding = False
        self.spooled = 0
        """Entries that this process has spooled and not brought in as yet."""
        self.problem: str | None = None
        """Why nothing could be spooled, looked up where reads are to go on; None: not looked up as yet."""
        self._doubtful = False
        self._lock = threading.Lock()
        self._file: SpoolFile | None = None
        self._sealed: list[SpoolFile] = []
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="spool", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Leave what waits to the next process."""
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30)
        with self._lock:
            for file in [*self._sealed, *([self._file] if self._file else [])]:
                file.close()
            self._file, self._sealed = None, []

    def files(self) -> int:
        """How many files wait, this process's own among them."""
        with contextlib.suppress(OSError):
            return len(waiting(self.folder))
        return 0

    def begin(self) -> None:
        """The database is away: from now on entries come here."""
        if not self.holding:
            go_on = "do not go on" if self.confirmed() is None else "go on"
            log.error("The database is away: reads %s; what is to be recorded waits in %s", go_on, self.folder)
        self.holding = True
        self._wake.set()

    def doubt(self) -> None:
        """An entry was refused: find out when one could be written again."""
        self._doubtful = True
        self._wake.set()

    def hold(self, entries: Sequence[NewEntry], known: chain.Head | None, tried: str = "") -> None:
        """Put ``entries`` on disk. ``known``: the last entry of the caller's own stream; ``tried``: the stream that they may
        be in already, for the database went while they were written.

        Raises:
            JournalUnavailable: reads do not go on, or not any longer, or the disk takes nothing. Nothing may be answered.
        """
        if not entries:
            return
        confirmed = self.confirmed()
        told: dict[str, str | bool] = {"at": chain.moment(dt.datetime.now(dt.UTC))}
        told |= {"withheld": True} if confirmed is None else {"confirmed": chain.moment(confirmed)}
        if tried:
            told["tried"] = tried
        with self._lock:
            try:
                if self._file is None:
                    before = [self._sealed[-1].head] if self._sealed else []
                    self._file = SpoolFile(self.folder, [*([known] if known else []), *before])
                self._file.append(entries, told)
            except OSError as error:
                log.error("The spool takes nothing: %s", error)
                self._seal()
                raise JournalUnavailable("the spool cannot be written") from error
            self.spooled += len(entries)
        SPOOLED.inc(len(entries))
        if confirmed is None:
            raise JournalUnavailable("the database is away")

    def _seal(self) -> None:
        if self._file is not None:
            if self._file.head.seq:
                self._sealed.append(self._file)
            else:
                with contextlib.suppress(OSError):
                    self._file.path.unlink(missing_ok=True)
                self._file.close()
            self._file = None

    def _work(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            pause = 0.0
            try:
                connections[DEFAULT_DB_ALIAS] = own_connection()
                self._turn()
            except Exception as error:
                if not is_away(error):
                    log.exception(
                        "What waits in the spool was not brought in: it is tried again in %s s", PAUSE_SECONDS
                    )
                    pause = PAUSE_SECONDS
            finally:
                connection.close()
            if pause or self.holding or self._doubtful:
                self._stop.wait(pause or RETRY_SECONDS)
            else:
                self._wake.wait(SCAN_SECONDS)

    def _turn(self) -> None:
        if self.problem != "" and self.confirmed() is not None:
            # Not only when the database is away.
            self.problem = can_write(self.folder)
            if self.problem:
                log.error("Reads are to go on when the database is away, but could not: %s", self.problem)
        if self.holding or self._doubtful:
            if self.away():
                return
            try:
                try_to_write()
            except Exception as error:
                log.warning("The journal cannot be written as yet: %s: %s", type(error).__name__, error)
                return
            self.holding = self._doubtful = False
            self.on_back()
        with self._lock:
            # Later than that, too: a batch may have been on its way here when the database came back.
            if not self.holding:
                self._seal()
        while self._sealed:
            file = self._sealed[0]
            bring_in(file.path, file.descriptor, file.head)
            with self._lock:
                self._sealed.remove(file)
                self.spooled -= file.head.seq - 1
            file.close()
        bring_in_orphans(self.folder)


def try_to_write() -> None:
    """Whether the journal takes entries, found out without leaving one. Raises what an append would."""
    with transaction.atomic():
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SELECT version FROM policies_policyversion WHERE id = 1 FOR SHARE")
        now = timezone.now()
        stream = Stream.objects.create(name=f"trial/{secrets.token_hex(10)}", created_at=now)
        record = chain.record_of(NewEntry(EntryKind.STREAM, now, "trial"), stream.name, 1)
        trial = Line(1, chain.link(chain.ZERO, record), record, json.loads(record))
        with connection.cursor() as cursor:
            cursor.execute(INSERT, _row(connections[DEFAULT_DB_ALIAS], trial, stream.pk))
        transaction.set_rollback(True)
