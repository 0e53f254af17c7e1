"""Canonical bytes of an entry, the hash chain, checkpoints, and the verification of all three. Pure.

Each stream is a chain: hash = SHA-256(previous hash ‖ record), the first upon 64 zeros. A checkpoint is a signed list of every
stream's head. A chain alone proves nothing against somebody who rewrites it to its end; a checkpoint kept elsewhere does.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policies.core.call import Entry

SCHEMA: Final = 1
ZERO: Final = "0" * 64
LENGTHS: Final = {
    "kind": 8,
    "decision_id": 32,
    "actor": 254,
    "tool": 64,
    "verdict": 16,
    "outcome": 10,
    "resource": 64,
}
"""Columns of text and their lengths."""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry as it is stored: its columns, its record and its hash."""

    id: int
    stream: str
    seq: int
    at: dt.datetime | str
    """Text where the database holds what is no time."""
    kind: str
    decision_id: str
    team_id: int | None
    actor: str
    tool: str
    verdict: str
    outcome: str
    resource: str
    record: str
    hash: str


_FAST: Final = msgspec.json.Encoder(order="sorted")
_STRICT: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical(document: Mapping[str, Any]) -> str:
    """ASCII JSON, keys sorted, no spaces. NUL and lone surrogates come out as escapes, which every database takes."""
    try:
        text = _FAST.encode(document)
    except (TypeError, ValueError, OverflowError):
        return _STRICT.encode(document)
    # Text beyond ASCII and lone surrogates, which are rare, need the encoder that escapes them.
    return text.decode("ascii") if text.isascii() else _STRICT.encode(document)


def moment(at: dt.datetime) -> str:
    """ISO 8601 in UTC with microseconds, always of one length."""
    return f"{at.astimezone(dt.UTC).isoformat(timespec='microseconds')[:26]}Z"


def column(name: str, text: str) -> str:
    """A text as its column holds it: what is not printable ASCII or beyond escaped, then cut to the column's length."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
    return text[: LENGTHS[name]]


def record_of(entry: Entry, stream: str, seq: int) -> str:
    """The canonical record of an entry at its place in a stream."""
    return canonical(
        {
            "schema": SCHEMA,
            "stream": stream,
            "seq": seq,
            "at": moment(entry.at),
            "kind": entry.kind.value,
            "decision_id": column("decision_id", entry.decision_id),
            "team_id": entry.team_id,
            "actor": column("actor", entry.actor),
            "tool": column("tool", entry.tool),
            "verdict": column("verdict", entry.verdict),
            "outcome": column("outcome", entry.outcome.value),
            "resource": column("resource", entry.resource),
            "details": entry.details,
        }
    )


def link(previous: str, record: str) -> str:
    """The hash of a record that follows ``previous``."""
    return hashlib.sha256(f"{previous}{record}".encode("ascii")).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a stream."""

    stream: str
    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The first thing that is wrong, and where."""

    stream: str
    seq: int | None
    id: int | None
    problem: str

    def __str__(self) -> str:
        place = f"stream {self.stream}" + (f", entry {self.seq}" if self.seq is not None else "")
        return f"{place}{f' (row {self.id})' if self.id is not None else ''}: {self.problem}"


@dataclass(slots=True)
class StreamResult:
    """What a walk along one stream found."""

    head: Head | None = None
    entries: int = 0
    fault: Fault | None = None
    names: dict[str, tuple[int, str]] | None = None
    """The heads that its first entry names: stream → (seq, hash)."""
    hashes: dict[int, str] | None = None
    """The hashes at the places that were asked for."""


def walk(rows: Iterable[Row], stream: str, places: frozenset[int] = frozenset()) -> StreamResult:
    """Verify one stream's rows, in order of seq. ``places``: seqs whose hashes are wanted."""
    result = StreamResult(hashes={})
    assert result.hashes is not None  # noqa: S101
    previous, expected = ZERO, 1
    for row in rows:
        try:
            problem = _problem(row, stream, expected, previous)
            if row.seq == 1 and problem is None:
                result.names = named_heads(row.record)
        except Exception as error:
            # Whoever tampers may leave anything there (SQLite takes any type): it must end in a name, never in a traceback.
            problem = f"it cannot be read ({type(error).__name__}): it was edited"
        if problem is not None:
            seq = row.seq if isinstance(row.seq, int) and row.seq <= expected else expected
            result.fault = Fault(stream, seq, row.id if seq == row.seq else None, problem)
            return result
        if row.seq in places:
            result.hashes[row.seq] = row.hash
        previous, expected = row.hash, expected + 1
        result.entries += 1
        result.head = Head(stream, row.seq, row.hash)
    return result


def _problem(row: Row, stream: str, expected: int, previous: str) -> str | None:
    if row.seq > expected:
        return "it was removed: the next one there is has a higher number"
    if row.seq < expected:
        return "its number occurs twice, or the order was changed"
    if link(previous, row.record) != row.hash:
        return "it was edited, or put in another's place: its record does not give its hash"
    try:
        document = json.loads(row.record)
    except ValueError:
        return "its record is not JSON"
    columns: dict[str, object] = {
        "stream": row.stream,
        "seq": row.seq,
        "at": row.at if isinstance(row.at, str) else moment(row.at),
        "kind": row.kind,
        "decision_id": row.decision_id,
        "team_id": row.team_id,
        "actor": row.actor,
        "tool": row.tool,
        "verdict": row.verdict,
        "outcome": row.outcome,
        "resource": row.resource,
    }
    for name, value in columns.items():
        if document.get(name) != value:
            return f"its column {name} was edited: it is not what its record says"
    return None


def named_heads(record: str) -> dict[str, tuple[int, str]]:
    """The heads that the first entry of a stream names: stream → (seq, hash)."""
    heads = json.loads(record).get("details", {}).get("heads", [])
    return {head["stream"]: (head["seq"], head["hash"]) for head in heads}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A signed document: ``{"schema", "at", "heads": [{"stream", "seq", "hash"}], "previous"}`` as canonical JSON."""

    document: str
    signature: str
    public_key: str

    @property
    def at(self) -> str:
        return str(json.loads(self.document)["at"])

    def heads(self) -> Iterator[Head]:
        for head in json.loads(self.document)["heads"]:
            yield Head(head["stream"], head["seq"], head["hash"])

    def to_json(self) -> str:
        return (
            json.dumps(
                {"document": self.document, "signature": self.signature, "public_key": self.public_key}, indent=1
            )
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str) -> Checkpoint:
        """Raises ``ValueError`` on anything that is not a checkpoint."""
        try:
            data = json.loads(text)
            checkpoint = cls(str(data["document"]), str(data["signature"]), str(data["public_key"]))
            told = [json.loads(checkpoint.document)["at"]]
            for head in checkpoint.heads():
                told += [head.stream, head.hash]
                if type(head.seq) is not int:
                    raise ValueError("not a checkpoint: the place of a head is no number")
            if not all(isinstance(text, str) for text in told):
                raise ValueError("not a checkpoint: what should be text is none")
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a checkpoint: {error}") from error
        return checkpoint


def signing_key(setting: str) -> Ed25519PrivateKey:
    """The key in ``JOURNAL_SIGNING_KEY``: base64 of 32 bytes. Raises ``ValueError``."""
    try:
        seed = base64.b64decode(setting, validate=True)
    except ValueError as error:
        raise ValueError("JOURNAL_SIGNING_KEY is not base64.") from error
    if len(seed) != 32:
        raise ValueError(f"JOURNAL_SIGNING_KEY is {len(seed)} bytes long: it must be base64 of 32 random bytes.")
    return Ed25519PrivateKey.from_private_bytes(seed)


def sign(document: Mapping[str, Any], key: Ed25519PrivateKey) -> Checkpoint:
    text = canonical(document)
    return Checkpoint(text, key.sign(text.encode()).hex(), key.public_key().public_bytes_raw().hex())


def is_signed_by(checkpoint: Checkpoint, key: Ed25519PublicKey) -> bool:
    try:
        key.verify(bytes.fromhex(checkpoint.signature), checkpoint.document.encode())
    except (InvalidSignature, ValueError):
        return False
    return True
