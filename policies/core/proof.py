"""An export that proves itself, as lines of JSON: what it says of itself, the entries, and a seal. Pure, and in constant memory.

- The first line says what was asked for, what the file proves and what it does not, and holds checkpoints that cover it.
- Each entry's line holds its place in its chain, the hash of the entry before it, its own, and the record as it is hashed:
  SHA-256(previous ‖ record) is its hash, whatever else is in the file.
- The last line is signed by the journal's key: how many entries there are, and the SHA-256 of every byte before it.

A file of *everything* between two moments holds, of each chain, all entries from the first to the last that is there. Of what a
query found, or one person may see, there are gaps: what was left out could only be proven to be nothing by showing it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from policies.core import chain

SCHEMA: Final = 1
KIND: Final = "pagewarden export with proof"
LONGEST_LINE: Final = 16_000_000
"""Bytes of one line: a record is a few thousand, a first line with checkpoints of many chains some hundred thousand."""
PROVES: Final = {
    "everything": "Each entry is as the portal wrote it, in its place: its hash follows from the entry before it. Of each chain "
    "no entry is left out between the first and the last one in this file. Of all chains no entry is left out that was written "
    "between the two checkpoints in this file, if there are two. The whole file is as the portal signed it.",
    "part": "Each entry is as the portal wrote it: its hash follows from its record and the hash before it. The whole file is as "
    "the portal signed it: nothing was added, changed, moved or taken out since.",
}
"""What a file of each scope proves, in its own words."""
DOES_NOT_PROVE: Final = {
    "everything": "What was written before the first and after the last entry of a chain. Whoever holds the portal's "
    "signing key could sign another history: only a checkpoint that was kept elsewhere (--checkpoint) tells.",
    "part": "That nothing else fits the query, or happened in between: that the query found these entries and no others is what "
    "the portal says, and signed. Whoever holds the portal's signing key could sign another history: only a checkpoint that was "
    "kept elsewhere (--checkpoint) tells, of the entries that it names.",
}


class NoProof(ValueError):
    """The file is no export with a proof, so nothing can be told of it."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the file says of itself. ``scope``: ``everything`` between its first and its last entry, or a ``part`` of it."""

    at: str
    by: str
    query: str
    scope: str
    checkpoints: tuple[chain.Checkpoint, ...] = ()
    """Of everything: one soon after its first entry, one shortly before its last; or one alone, or none."""

    def line(self) -> bytes:
        told = {
            "export": KIND,
            "schema": SCHEMA,
            "at": self.at,
            "by": self.by,
            "query": self.query,
            "scope": self.scope,
            "proves": PROVES[self.scope],
            "does_not_prove": DOES_NOT_PROVE[self.scope],
            "checkpoints": [asdict(checkpoint) for checkpoint in self.checkpoints],
        }
        return f"{chain.canonical(told)}\n".encode()

    @classmethod
    def of(cls, line: bytes) -> Opening:
        """Raises ``ValueError`` on anything that the method ``line`` does not make."""
        try:
            told = json.loads(line)
            checkpoints = tuple(chain.Checkpoint.from_json(json.dumps(given)) for given in told["checkpoints"])
            opening = cls(told["at"], told["by"], told["query"], told["scope"], checkpoints)
            same = opening.line() == line
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not the first line of an export: {error}") from error
        if not same:
            raise ValueError("not the first line of an export")
        return opening


@dataclass(frozen=True, slots=True)
class Line:
    """One entry in its place."""

    id: int
    stream: str
    seq: int
    previous: str
    hash: str
    record: str

    def line(self) -> bytes:
        place = f'"id": {self.id}, "stream": {json.dumps(self.stream)}, "seq": {self.seq}'
        # The record as it is, for these bytes are what the hash is of.
        told = f'{{{place}, "previous": "{self.previous}", "hash": "{self.hash}", "record": {self.record}}}\n'
        return told.encode()

    @classmethod
    def of(cls, line: bytes) -> Line:
        """Raises ``ValueError`` on anything that the method ``line`` does not make."""
        try:
            told = _STORED.decode(line)
            inside = _PLACE.decode(told.record)
            # Whatever is not ASCII the portal did not write.
            record = bytes(told.record).decode("ascii")
            made = cls(told.id, told.stream, told.seq, told.previous, told.hash, record)
            if made.line() != line or (inside.stream, inside.seq) != (made.stream, made.seq):
                raise ValueError("its record is not of this place")
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"not an entry: {error}") from error
        return made


class _Stored(msgspec.Struct):
    id: int
    stream: str
    seq: int
    previous: str
    hash: str
    record: msgspec.Raw


class _Place(msgspec.Struct):
    stream: str
    seq: int


# Ten times as fast as what the standard library does with a million of them.
_STORED: Final = msgspec.json.Decoder(_Stored)
_PLACE: Final = msgspec.json.Decoder(_Place)


class Seal:
    """Goes along with a file as it is made, and ends it."""

    def __init__(self, at: str) -> None:
        self._at = at
        self._digest = hashlib.sha256()
        self._entries = 0

    def add(self, piece: bytes, entries: int = 0) -> bytes:
        self._digest.update(piece)
        self._entries += entries
        return piece

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()

    def line(self, key: Ed25519PrivateKey) -> bytes:
        # No checkpoint can stand here, nor this pass for one: a checkpoint has no ``export``, and this no heads.
        told = {"schema": SCHEMA, "at": self._at, "export": {"entries": self._entries, "sha256": self.digest}}
        return f"{chain.canonical({'seal': asdict(chain.sign(told, key))})}\n".encode()


@dataclass(slots=True)
class Finding:
    """What a file was found to be. ``fault``: it is broken. ``doubt``: who signed it cannot be told."""

    opening: Opening | None = None
    entries: int = 0
    streams: int = 0
    public_key: str = ""
    compared: int = 0
    """Heads of the held checkpoint that stand in the file, each with the very hash."""
    fault: chain.Fault | None = None
    doubt: str = ""


@dataclass(slots=True)
class _Chain:
    """What was seen of one chain: its first place, its last, and that one's hash."""

    first: int
    last: int
    hash: str


@dataclass(slots=True)
class _Walk:
    """Goes through the entries' lines, one by one."""

    everything: bool
    wanted: dict[str, dict[int, list[tuple[str, bool]]]]
    """Stream → place → hashes that a checkpoint says are there, and whether it is the held one."""
    chains: dict[str, _Chain] = field(default_factory=dict)
    entries: int = 0
    compared: set[tuple[str, int]] = field(default_factory=set)

    def step(self, line: bytes, number: int) -> chain.Fault | None:
        try:
            entry = Line.of(line)
        except ValueError as error:
            return chain.Fault(
                "(file)", None, None, f"line {number} cannot be read as an entry ({error}): it was edited"
            )
        before = self.chains.get(entry.stream)
        if problem := self._problem(entry, before):
            return chain.Fault(entry.stream, entry.seq, entry.id, problem)
        if before is None:
            self.chains[entry.stream] = _Chain(entry.seq, entry.seq, entry.hash)
        else:
            before.last, before.hash = entry.seq, entry.hash
        self.entries += 1
        return None

    def _problem(self, entry: Line, before: _Chain | None) -> str | None:
        if chain.link(entry.previous, entry.record) != entry.hash:
            return "it was edited: its record and the hash before it do not give its hash"
        if (entry.seq == 1) != (entry.previous == chain.ZERO):
            return "it was edited: its place does not fit the hash before it"
        if before is not None:
            if entry.seq <= before.last:
                return "it stands here twice, or the order was changed"
            if entry.seq == before.last + 1 and entry.previous != before.hash:
                return "it does not follow the entry before it: one of them was rewritten"
            if self.everything and entry.seq != before.last + 1:
                return f"what stands before it, from entry {before.last + 1} on, was left out"
        expected = self.wanted.get(entry.stream, {})
        for seq, value in ((entry.seq, entry.hash), (entry.seq - 1, entry.previous)):
            for told, held in expected.get(seq, ()):
                if told != value:
                    return f"entry {seq} is not the one that {_named(held)} names: it, or one before it, was rewritten"
                if held:
                    self.compared.add((entry.stream, seq))
        return None

    def uncovered(self, start: chain.Checkpoint, end: chain.Checkpoint, *, held: bool) -> chain.Fault | None:
        """The first chain of which something is left out that was written between two checkpoints."""
        begun = {head.stream: head.seq for head in start.heads()}
        for head in end.heads():
            after, seen = begun.get(head.stream, 0), self.chains.get(head.stream)
            if head.seq <= after:
                continue
            if seen is None or seen.first > after + 1:
                return chain.Fault(
                    head.stream, after + 1, None, f"it was left out, but {_named(held)} names a later one"
                )
            if seen.last < head.seq:
                return chain.Fault(
                    head.stream, seen.last + 1, None, f"it was left out, but {_named(held)} names it or a later one"
                )
        return None


def _named(held: bool) -> str:
    return "the checkpoint that you hold" if held else "a checkpoint in the file"


def examine(file: BinaryIO, *, held: chain.Checkpoint | None = None, public_key: str = "") -> Finding:
    """Hold a file against itself, and against the checkpoint that somebody kept. ``public_key``: the journal's, in hex, where it
    is known; the checkpoint's own counts more.

    Raises:
        NoProof: it is no export with a proof, or nothing can be held against the checkpoint.
    """
    if held is not None:
        _believed(held, held.public_key, "The checkpoint that you hold")
    first = file.readline(LONGEST_LINE)
    opening: Opening | None
    wrong = ""
    try:
        opening = Opening.of(first)
    except ValueError as error:
        opening, wrong = None, str(error)
    walk = _Walk(opening is not None and opening.scope == "everything", _wanted(opening, held))
    seal, fault = Seal(""), None
    line, number = first, 1
    while following := file.readline(LONGEST_LINE):
        seal.add(line)
        if number > 1 and fault is None and opening is not None:
            fault = walk.step(line, number)
        line, number = following, number + 1
    # ``line`` is the last one now.
    sealed = _sealed(line) if number > 1 else None
    if opening is None:
        if sealed is None:
            raise NoProof("This is no export with a proof: neither its first line nor its last one is of such a file.")
        return Finding(fault=chain.Fault("(file)", None, None, f"its first line was edited or removed ({wrong})"))
    found = Finding(opening, walk.entries, len(walk.chains), compared=len(walk.compared), fault=fault)
    if sealed is None:
        if fault is None and number > 1 and line.endswith(b"\n"):
            fault = walk.step(line, number)
        told = "it was cut off: its last line, which is signed, is not there or was edited"
        found.fault = fault or chain.Fault("(file)", None, None, told)
        return found
    found.public_key = sealed.public_key
    found.fault = fault or _of_seal(sealed, seal, walk) or _of_checkpoints(opening, held, walk, sealed.public_key)
    known = held.public_key if held is not None else public_key
    if not known:
        found.doubt = (
            "nothing was given to tell whose signature it is. Hold the file against a checkpoint that you kept (--checkpoint), "
            "or set JOURNAL_SIGNING_KEY"
        )
    elif sealed.public_key != known:
        named = "your checkpoint" if held is not None else "JOURNAL_SIGNING_KEY"
        found.doubt = f"it was signed by another key than {named}"
    return found


def _believed(checkpoint: chain.Checkpoint, key: str, named: str) -> None:
    """Raises ``NoProof`` where ``checkpoint`` is not signed by ``key``."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
    except ValueError as error:
        raise NoProof(f"{named} has no key that could have signed it.") from error
    if checkpoint.public_key != key or not chain.is_signed_by(checkpoint, public):
        raise NoProof(f"{named} was edited: its signature is not true.")


def _wanted(opening: Opening | None, held: chain.Checkpoint | None) -> dict[str, dict[int, list[tuple[str, bool]]]]:
    wanted: dict[str, dict[int, list[tuple[str, bool]]]] = {}
    inside = opening.checkpoints if opening is not None else ()
    for checkpoint in (*inside, *([held] if held is not None else [])):
        for head in checkpoint.heads():
            wanted.setdefault(head.stream, {}).setdefault(head.seq, []).append((head.hash, checkpoint is held))
    return wanted


def _sealed(line: bytes) -> chain.Checkpoint | None:
    """What the last line of a file signs; None: it is no seal."""
    try:
        told = json.loads(line)["seal"]
        sealed = chain.Checkpoint(str(told["document"]), str(told["signature"]), str(told["public_key"]))
        same = f"{chain.canonical({'seal': asdict(sealed)})}\n".encode() == line
        return sealed if same and isinstance(json.loads(sealed.document)["export"], dict) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _of_seal(sealed: chain.Checkpoint, seal: Seal, walk: _Walk) -> chain.Fault | None:
    try:
        _believed(sealed, sealed.public_key, "The last line")
    except NoProof:
        return chain.Fault("(file)", None, None, "its last line was edited: the signature is not true")
    told: dict[str, Any] = json.loads(sealed.document)["export"]
    if told.get("sha256") != seal.digest or told.get("entries") != walk.entries:
        return chain.Fault(
            "(file)", None, None, "lines were edited, moved, added or removed: it is not what was signed"
        )
    return None


def _of_checkpoints(opening: Opening, held: chain.Checkpoint | None, walk: _Walk, key: str) -> chain.Fault | None:
    """Of the checkpoints in the file: that they are the journal's, and that nothing between them is missing."""
    for checkpoint in opening.checkpoints:
        try:
            _believed(checkpoint, key, "A checkpoint in the file")
        except NoProof as error:
            return chain.Fault("(checkpoint)", None, None, str(error))
    if not walk.everything or len(opening.checkpoints) != 2:
        return None
    start, end = opening.checkpoints
    if fault := walk.uncovered(start, end, held=False):
        return fault
    return walk.uncovered(start, held, held=True) if held is not None and start.at < held.at <= end.at else None


def sentence(found: Finding, held: chain.Checkpoint | None) -> str:
    """What was found, for people. It quotes the file."""
    if found.fault is not None:
        return f"Broken. First that is wrong: {found.fault}"
    told = f"{found.entries} entries of {found.streams} chains fit together, and are what the key {found.public_key} signed"
    if found.doubt:
        return f"Cannot tell: {found.doubt}. {told}."
    opening = found.opening
    assert opening is not None  # noqa: S101 - else there is a fault
    anchor = ""
    if held is not None:
        anchor = (
            f" {found.compared} of them are named by your checkpoint of {held.at}, each with this very hash."
            if found.compared
            else f" Your checkpoint of {held.at} names none of them: it tells whose signature it is, and no more."
        )
    return f"Intact: {told}.{anchor} Proven: {PROVES[opening.scope]} Not proven: {DOES_NOT_PROVE[opening.scope]}"
