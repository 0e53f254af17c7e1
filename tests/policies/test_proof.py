"""A file with a proof as pure bytes: whatever is done to it is found, and what nobody touched is never called broken."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.core import chain
from policies.core.call import Entry, EntryKind, Outcome
from policies.core.proof import Finding, Line, NoProof, Opening, Seal, examine
from tests.policies.test_chain import AT, KEY

OTHER = chain.signing_key(base64.b64encode(bytes(32)).decode())
OURS = KEY.public_key().public_bytes_raw().hex()
STREAMS = ("host/1/a", 'odd ", "record": {"}', "configuration")


def checkpoint(lines: list[Line], at: str, key: Any = KEY) -> chain.Checkpoint:
    heads = {line.stream: line for line in lines}
    named = [{"stream": line.stream, "seq": line.seq, "hash": line.hash} for line in heads.values()]
    return chain.sign({"schema": chain.SCHEMA, "at": at, "heads": named, "previous": ""}, key)


def history(streams: list[int]) -> list[Line]:
    """Entries in order of writing, each in the chain that ``streams`` says."""
    heads = dict.fromkeys(range(len(STREAMS)), (0, chain.ZERO))
    lines = []
    for number, stream in enumerate(streams, 1):
        seq, previous = heads[stream]
        entry = Entry(
            EntryKind.RESULT, AT, f"d{number}", 1, "key:1", "t", "allow", Outcome.DONE, "c", {"n": "ü\x00" * 9}
        )
        record = chain.record_of(entry, STREAMS[stream], seq + 1)
        value = chain.link(previous, record)
        lines.append(Line(number, STREAMS[stream], seq + 1, previous, value, record))
        heads[stream] = (seq + 1, value)
    return lines


def sealed(opening: Opening, lines: list[bytes], key: Any = KEY) -> list[bytes]:
    seal = Seal(opening.at)
    told = [seal.add(opening.line()), *(seal.add(line, 1) for line in lines)]
    return [*told, seal.line(key)]


def judged(lines: list[bytes], held: chain.Checkpoint | None = None, public_key: str = OURS) -> Finding:
    return examine(io.BytesIO(b"".join(lines)), held=held, public_key=public_key)


def is_whole(lines: list[bytes], **given: Any) -> bool:
    try:
        found = judged(lines, **given)
    except NoProof:
        return False
    return found.fault is None and not found.doubt


@dataclasses.dataclass
class Made:
    written: list[Line]
    first: int
    last: int
    checkpoints: tuple[chain.Checkpoint, ...]
    lines: list[bytes]
    """Of the file."""


@st.composite
def files(draw: st.DrawFn, scope: str = "") -> Made:
    """A journal, a range of it, and the file that the portal makes of it."""
    written = history(draw(st.lists(st.integers(0, len(STREAMS) - 1), min_size=3, max_size=12)))
    first = draw(st.integers(0, len(written) - 2))
    last = draw(st.integers(first + 1, len(written)))
    inside = written[first:last]
    scope = scope or draw(st.sampled_from(["everything", "part"]))
    checkpoints: tuple[chain.Checkpoint, ...] = ()
    if scope == "everything":
        one, two = sorted((draw(st.integers(first, last)), draw(st.integers(first, last))))
        checkpoints = (checkpoint(written[:one], f"{one:03}"), checkpoint(written[:two], f"{two:03}"))
    else:
        inside = [line for line in inside if draw(st.booleans())]
    lines = sealed(Opening("x", "rhea@example.com", "q", scope, checkpoints), [line.line() for line in inside])
    return Made(written, first, last, checkpoints, lines)


@given(files(), st.data())
def test_what_nobody_touched_is_intact_whatever_checkpoint_it_is_held_against(made: Made, data: st.DataObject) -> None:
    assert is_whole(made.lines)
    upto = data.draw(st.integers(0, len(made.written)))
    assert is_whole(made.lines, held=checkpoint(made.written[:upto], f"{upto:03}"), public_key="")


@given(files(), st.data())
def test_no_line_is_altered_dropped_moved_doubled_or_cut_unseen(made: Made, data: st.DataObject) -> None:
    lines = list(made.lines)
    place = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["alter", "drop", "move", "double", "cut", "insert", "end"])):
        case "alter":
            at = data.draw(st.integers(0, len(lines[place]) - 1))
            byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[place][at]))
            lines[place] = lines[place][:at] + bytes([byte]) + lines[place][at + 1 :]
        case "drop":
            del lines[place]
        case "move":
            lines.insert(data.draw(st.integers(0, len(lines) - 1)), lines.pop(place))
        case "double":
            lines.insert(data.draw(st.integers(0, len(lines))), lines[place])
        case "cut":
            lines[place] = lines[place][: data.draw(st.integers(0, len(lines[place]) - 1))]
        case "insert":
            lines.insert(place, data.draw(st.binary(min_size=1)))
        case "end":
            lines = [*lines[:place], lines[place][: data.draw(st.integers(0, len(lines[place])))]]
    if b"".join(lines) != b"".join(made.lines):
        assert not is_whole(lines)
        assert not is_whole(lines, held=checkpoint(made.written, "x"))


@given(files("everything"), st.data())
def test_a_gap_is_found_even_if_the_portal_signed_it(made: Made, data: st.DataObject) -> None:
    """Whoever has the signing key leaves entries out and signs anew: what follows, or a checkpoint in the file, gives it away."""
    lines = made.lines[1:-1]
    place = data.draw(st.integers(0, len(lines) - 1))
    gone = made.written[made.first + place]
    rest = made.written[made.first + place + 1 : made.last]
    inside = made.written[made.first : made.first + place]
    one, two = ({head.stream: head.seq for head in each.heads()} for each in made.checkpoints)
    known = one.get(gone.stream, 0) < gone.seq <= two.get(gone.stream, 0)
    between = any(line.stream == gone.stream for line in rest) and any(line.stream == gone.stream for line in inside)
    found = judged(sealed(Opening("x", "r", "q", "everything", made.checkpoints), lines[:place] + lines[place + 1 :]))
    if known or between:
        assert found.fault is not None
        assert (found.fault.stream, found.fault.seq) in {(gone.stream, gone.seq), (gone.stream, gone.seq + 1)}
    else:
        assert found.fault is None


def rewritten(lines: list[Line], at: int) -> list[Line]:
    """The same history with one record changed, and every hash after it made to fit."""
    heads: dict[str, str] = {}
    told = []
    for place, line in enumerate(lines):
        record = line.record.replace('"actor":"key:1"', '"actor":"key:2"') if place == at else line.record
        previous = heads.get(line.stream, chain.ZERO)
        value = chain.link(previous, record)
        told.append(dataclasses.replace(line, previous=previous, hash=value, record=record))
        heads[line.stream] = value
    return told


@given(st.lists(st.integers(0, 2), min_size=1, max_size=8), st.data(), st.sampled_from(["everything", "part"]))
def test_a_history_that_was_rewritten_and_signed_anew_breaks_at_the_checkpoint_that_is_held(
    streams: list[int], data: st.DataObject, scope: str
) -> None:
    written = history(streams)
    held = checkpoint(written, "x")
    forged = rewritten(written, data.draw(st.integers(0, len(written) - 1)))
    lines = sealed(Opening("x", "r", "q", scope), [line.line() for line in forged])
    assert is_whole(lines)
    found = judged(lines, held)
    assert found.fault is not None
    assert "the checkpoint that you hold names" in found.fault.problem


def test_the_first_bad_entry_is_named() -> None:
    written = history([0, 0, 0, 0])
    lines = sealed(Opening("x", "r", "q", "everything"), [line.line() for line in written])
    edited = [
        line.replace(b'"actor":"key:1"', b'"actor":"key:2"') if place == 2 else line for place, line in enumerate(lines)
    ]
    assert str(judged(edited).fault) == (
        "stream host/1/a, entry 2 (row 2): it was edited: its record and the hash before it do not give its hash"
    )
    assert "from entry 2 on, was left out" in str(judged([*lines[:2], *lines[3:]]).fault)
    assert "entry 3" in str(judged([*lines[:2], *lines[3:]]).fault)
    assert "it stands here twice" in str(judged([*lines[:3], *lines[2:]]).fault)
    assert "it was cut off" in str(judged(lines[:-1]).fault)
    assert "its first line was edited" in str(judged(lines[1:]).fault)


def test_without_a_key_that_is_known_nothing_is_proven() -> None:
    written = history([0, 1])
    lines = sealed(Opening("x", "r", "q", "everything"), [line.line() for line in written])
    assert "whose signature it is" in judged(lines, public_key="").doubt
    forged = sealed(Opening("x", "r", "q", "everything"), [line.line() for line in written], OTHER)
    assert "another key than JOURNAL_SIGNING_KEY" in judged(forged).doubt
    assert "another key than your checkpoint" in judged(forged, checkpoint(written, "x")).doubt
    assert not judged(forged, checkpoint(written, "x", OTHER)).doubt
    edited = dataclasses.replace(checkpoint(written, "x"), signature="00" * 64)
    with pytest.raises(NoProof, match="The checkpoint that you hold was edited"):
        judged(lines, edited)
    foreign = Opening("x", "r", "q", "everything", (checkpoint(written, "x", OTHER),))
    assert "A checkpoint in the file was edited" in str(judged(sealed(foreign, [])).fault)


@pytest.mark.parametrize(
    "file",
    ["", "\n", "{}", '{"seal": 1}\n', "[" * 100_000, '{"id": 1, "record": {}}\n' * 3, "\x00\xff\n", "1" * 5_000 + "\n"],
    ids=["empty", "blank", "object", "seal", "deep", "lines", "bytes", "number"],
)
def test_what_is_no_such_file_is_told_apart(file: str) -> None:
    with pytest.raises(NoProof):
        judged([file.encode()])


@pytest.mark.parametrize(
    "heads", ['[{"stream": [], "seq": 1, "hash": ""}]', '[{"stream": "s", "seq": "1", "hash": ""}]', "[1]"]
)
def test_a_hostile_first_line_ends_in_a_finding(heads: str) -> None:
    lines = sealed(Opening("x", "r", "q", "part"), [])
    told = json.loads(lines[0])
    told["checkpoints"] = [{"document": f'{{"at": "x", "heads": {heads}}}', "signature": "", "public_key": ""}]
    found = judged([f"{chain.canonical(told)}\n".encode(), *lines[1:]])
    assert "its first line was edited" in str(found.fault)
