"""The chain as pure values: hashes, walks and signatures."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.core import chain
from policies.core.call import Entry, EntryKind, Outcome

AT = dt.datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=dt.UTC)
KEY = chain.signing_key(base64.b64encode(bytes(range(32))).decode())


def rows(count: int, stream: str = "s") -> list[chain.Row]:
    found: list[chain.Row] = []
    previous = chain.ZERO
    for seq in range(1, count + 1):
        entry = Entry(
            EntryKind.RESULT, AT, f"d{seq}", 1, "key:1", "list_incidents", "allow", Outcome.DONE, "c", {"n": seq}
        )
        record = chain.record_of(entry, stream, seq)
        previous = chain.link(previous, record)
        columns = ("result", f"d{seq}", 1, "key:1", "list_incidents", "allow", "done", "c")
        found.append(chain.Row(seq + 100, stream, seq, AT, *columns, record, previous))
    return found


def test_a_whole_chain_is_intact() -> None:
    result = chain.walk(rows(5), "s", frozenset({2, 5}))
    assert (result.fault, result.entries) == (None, 5)
    assert result.head == chain.Head("s", 5, rows(5)[-1].hash)
    assert result.hashes == {2: rows(5)[1].hash, 5: rows(5)[4].hash}


@pytest.mark.parametrize(
    "field", ["at", "kind", "decision_id", "team_id", "actor", "tool", "verdict", "outcome", "resource"]
)
def test_an_edited_column_is_named(field: str) -> None:
    changed = rows(3)
    new: Any = {"at": AT + dt.timedelta(seconds=1), "team_id": 2}.get(field, "other")
    changed[1] = dataclasses.replace(changed[1], **{field: new})
    fault = chain.walk(changed, "s").fault
    assert fault is not None
    assert (fault.seq, fault.id) == (2, 102)
    assert f"its column {field} was edited" in str(fault)


def test_an_edited_record_a_removed_row_and_a_swap_are_named() -> None:
    edited = rows(4)
    edited[2] = dataclasses.replace(edited[2], record=edited[2].record.replace('"n":3', '"n":4'))
    assert (fault := chain.walk(edited, "s").fault) is not None
    assert (fault.seq, "edited" in fault.problem) == (3, True)
    gone = rows(4)
    del gone[1]
    assert (fault := chain.walk(gone, "s").fault) is not None
    assert (fault.seq, fault.id, "removed" in fault.problem) == (2, None, True)
    swapped = rows(4)
    swapped[1], swapped[2] = (
        dataclasses.replace(swapped[2], seq=2),
        dataclasses.replace(swapped[1], seq=3),
    )
    assert (fault := chain.walk(swapped, "s").fault) is not None
    assert fault.seq == 2
    twice = rows(3)
    twice.insert(1, twice[1])
    assert (fault := chain.walk(twice, "s").fault) is not None
    assert "twice" in fault.problem


@given(st.integers(1, 8), st.data())
def test_no_byte_of_a_record_or_a_hash_can_change_unseen(count: int, data: st.DataObject) -> None:
    found = rows(count)
    place = data.draw(st.integers(0, count - 1))
    field = data.draw(st.sampled_from(["record", "hash"]))
    text = getattr(found[place], field)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda char: char != text[at]))
    found[place] = dataclasses.replace(found[place], **{field: text[:at] + other + text[at + 1 :]})
    assert chain.walk(found, "s").fault is not None


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_canonical_bytes_are_ascii_the_same_and_read_back(value: Any) -> None:
    text = chain.canonical({"value": value})
    assert text.isascii()
    assert "\x00" not in text
    assert chain.canonical(json.loads(text)) == text


def test_a_checkpoint_is_believed_from_its_own_key_alone() -> None:
    signed = chain.sign({"schema": chain.SCHEMA, "at": "x", "heads": [], "previous": ""}, KEY)
    assert chain.is_signed_by(signed, KEY.public_key())
    again = chain.Checkpoint.from_json(signed.to_json())
    assert again == signed
    assert not chain.is_signed_by(dataclasses.replace(signed, document=signed.document + " "), KEY.public_key())
    other = chain.signing_key(base64.b64encode(bytes(32)).decode())
    assert not chain.is_signed_by(signed, other.public_key())
    assert not chain.is_signed_by(dataclasses.replace(signed, signature="zz"), KEY.public_key())


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"document": "x", "signature": "", "public_key": ""}'])
def test_what_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        chain.Checkpoint.from_json(text)


@pytest.mark.parametrize("setting", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_bad_signing_key_says_what_it_must_be(setting: str) -> None:
    with pytest.raises(ValueError, match="JOURNAL_SIGNING_KEY"):
        chain.signing_key(setting)
