"""Spool files: what a power cut, a full disk and somebody with an editor leave of them, and their way into the database."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import resource
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from integrations import tasks
from policies import spool
from policies.core import chain
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome
from policies.journal import JournalUnavailable
from policies.models import Entry
from policies.spool import Damaged, Line, Spool, SpoolFile, Torn, bring_in, bring_in_orphans, line_of, waiting

AT = dt.datetime(2026, 11, 25, 4, 0, tzinfo=dt.UTC)
TOLD = {"at": chain.moment(AT), "confirmed": chain.moment(AT)}


def entry(number: int) -> NewEntry:
    details = {"number": number, "text": f"ü\u202e\x00{number}"}
    return NewEntry(
        EntryKind.RESULT, AT, f"d{number}", 1, "key:1", "list_incidents", "allow", Outcome.DONE, "c", details
    )


def written(folder: Path, count: int = 5) -> Path:
    """A file of ``count`` entries and the first, whose process is gone."""
    file = SpoolFile(folder, [chain.Head("alpha", 7, "a" * 64)])
    for start in range(0, count, 2):
        file.append([entry(number) for number in range(start, min(start + 2, count))], TOLD)
    file.close()
    return file.path


def found_in(data: bytes) -> tuple[list[Line], Exception | None]:
    lines: list[Line] = []
    try:
        for line in spool.read(io.BytesIO(data)):
            lines.append(line)
    except (Damaged, Torn) as error:
        return lines, error
    return lines, None


@pytest.fixture(scope="module")
def good() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return written(Path(folder) / "spool").read_bytes()


def test_a_file_is_json_lines_for_its_owner_alone_and_a_chain_like_any_stream(tmp_path: Path) -> None:
    path = written(tmp_path / "spool")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    lines = [json.loads(text) for text in path.read_text("ascii").splitlines()]
    assert [line["record"]["seq"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert lines[0]["record"]["details"]["heads"] == [{"stream": "alpha", "seq": 7, "hash": "a" * 64}]
    assert lines[3]["record"]["details"]["spooled"] == TOLD
    previous = chain.ZERO
    for line in lines:
        previous = chain.link(previous, chain.canonical(line["record"]))
        assert line["hash"] == previous


def test_an_entry_is_on_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file by itself, and its name in its folder."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").resolve()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    file = SpoolFile(tmp_path / "spool", [])
    assert synced == [str(tmp_path), str(tmp_path / "spool")]
    file.append([entry(1)], TOLD)
    assert synced[2:] == [str(file.path)]
    file.append([entry(2), entry(3)], TOLD)
    assert synced[3:] == [str(file.path)]
    file.close()


@given(data=st.data())
@hypothesis_settings(max_examples=200, deadline=None)
def test_a_line_that_a_power_cut_left_unfinished_is_told_from_the_whole_ones(good: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(good)))
    zeros = data.draw(st.sampled_from([0, 1, 4096]))
    lines, error = found_in(good[:cut] + bytes(zeros))
    whole = good[:cut].count(b"\n")
    # A line that misses nothing but its end is whole.
    lacks_end = good[cut : cut + 1] == b"\n" and not zeros
    assert len(lines) == whole + lacks_end
    unfinished = not lacks_end and (zeros or not (good[:cut].endswith(b"\n") or cut == 0))
    assert isinstance(error, Torn) if unfinished else error is None


@given(data=st.data())
@hypothesis_settings(max_examples=300, deadline=None)
def test_no_byte_can_be_changed_unnoticed(good: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(good) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != good[place]))
    all_of_them, _ = found_in(good)
    lines, error = found_in(good[:place] + bytes([byte]) + good[place + 1 :])
    assert error is not None
    assert lines == all_of_them[: good[:place].count(b"\n")]


@given(data=st.data())
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_line_can_be_taken_out_doubled_or_moved_unnoticed(good: bytes, data: st.DataObject) -> None:
    texts = good.splitlines(keepends=True)
    one = data.draw(st.integers(0, len(texts) - 2))
    other = data.draw(st.integers(one + 1, len(texts) - 1))
    all_of_them, _ = found_in(good)
    for edited in (
        texts[:one] + texts[one + 1 :],
        [*texts[: one + 1], *texts[one:]],
        [*texts[:one], texts[other], *texts[one + 1 : other], texts[one], *texts[other + 1 :]],
    ):
        lines, error = found_in(b"".join(edited))
        assert isinstance(error, Damaged)
        assert lines == all_of_them[: len(lines)]
        assert len(lines) <= one + 1


def test_whoever_does_not_hold_the_key_cannot_make_a_chain_that_holds(good: bytes, settings: Any) -> None:
    lines, _ = found_in(good)
    settings.JOURNAL_SIGNING_KEY = "c29tZWJvZHkgZWxzZSdzIGtleSBvZiAzMiBieXRlcyE="
    forged, previous = b"", chain.ZERO
    for line in lines:
        record = line.record.replace("key:1", "key:2")
        previous = chain.link(previous, record)
        forged += line_of(record, previous)
    assert len(found_in(forged)[0]) == len(lines)  # by that key it is good
    settings.JOURNAL_SIGNING_KEY = "6vbBFgGuGaADDycrQDSuEw3g6zWP2YBNtXlS2cwF5R8="
    kept, error = found_in(forged)
    assert kept == []
    assert isinstance(error, Damaged)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", confirmed=lambda: AT, away=lambda: True)
    yield made
    made.stop()


def test_a_full_disk_answers_nothing_and_spoils_nothing(holder: Spool) -> None:
    """A limit of the process's in the disk's place: it ends a write in its middle, as a full disk does."""
    holder.hold([entry(1)], None)
    [first] = waiting(holder.folder)
    size = first.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        with pytest.raises(JournalUnavailable):
            holder.hold([entry(2)], None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert first.stat().st_size == size
    holder.hold([entry(3)], None)
    assert [len(found_in(path.read_bytes())[0]) for path in waiting(holder.folder)] == [2, 2]
    second = found_in(waiting(holder.folder)[1].read_bytes())[0][0]
    [head] = second.document["details"]["heads"]  # one file names the other: neither can be taken away
    assert head["hash"] == found_in(first.read_bytes())[0][-1].hash


def test_a_folder_that_cannot_be_written_answers_nothing(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in its place")
    holder = Spool(tmp_path / "spool", confirmed=lambda: AT, away=lambda: True)
    with pytest.raises(JournalUnavailable):
        holder.hold([entry(1)], None)
    assert "cannot be written" in spool.can_write(tmp_path / "spool")
    assert spool.can_write(tmp_path / "other") == ""


def test_where_reads_do_not_go_on_the_entry_is_kept_and_the_answer_withheld(tmp_path: Path) -> None:
    holder = Spool(tmp_path, confirmed=lambda: None, away=lambda: True)
    with pytest.raises(JournalUnavailable):
        holder.hold([entry(1)], None, "alpha")
    holder.stop()
    [path] = waiting(tmp_path)
    told = found_in(path.read_bytes())[0][1].document["details"]["spooled"]
    assert told["withheld"] is True
    assert told["tried"] == "alpha"


# Into the database

database = pytest.mark.django_db(transaction=True)


def verify(settings: Any, folder: Path) -> tuple[int, dict[str, Any]]:
    settings.SPOOL_DIR, settings.CHECKPOINT_DIR = folder, folder.parent / "checkpoints"
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit", "--json", stdout=out)
    return int(ended.value.code or 0), json.loads(out.getvalue())


def alone(folder: Path, count: int = 5) -> Path:
    """A file that names no head, for a database that holds none."""
    file = SpoolFile(folder, [])
    file.append([entry(number) for number in range(count)], TOLD)
    file.close()
    return file.path


@database
def test_a_dead_processs_file_is_brought_in_as_it_was_written(tmp_path: Path, settings: Any) -> None:
    path = alone(tmp_path / "spool")
    lines, _ = found_in(path.read_bytes())
    code, found = verify(settings, path.parent)
    assert (code, found["spooled"], found["entries"]) == (0, 5, 0)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_audit", stdout=out)
    assert "5 entries wait in the spool" in out.getvalue()
    assert bring_in_orphans(path.parent) == 1
    assert list(path.parent.iterdir()) == []
    stream = str(lines[0].document["stream"])
    rows = list(Entry.objects.filter(stream__name=stream).order_by("seq").values_list("record", "hash"))
    assert rows == [(line.record, line.hash) for line in lines]
    code, found = verify(settings, path.parent)
    assert (code, found["spooled"], found["entries"]) == (0, 0, 6 + 2)  # and recovery's first, and what it says of it
    # What was brought in cannot be cut off either, before any checkpoint was made.
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM policies_entry WHERE decision_id = 'd4'")
    code, found = verify(settings, path.parent)
    assert (code, found["first_bad"]["stream"], found["first_bad"]["seq"]) == (1, stream, 6)


@database
def test_a_living_processs_file_is_left_alone(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool", [])
    file.append([entry(1)], TOLD)
    assert bring_in_orphans(tmp_path / "spool") == 0
    assert not Entry.objects.exists()
    file.close()
    assert bring_in_orphans(tmp_path / "spool") == 1


@database
def test_no_intent_is_called_an_orphan_while_its_result_may_wait_in_the_spool(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[dt.timedelta] = []
    monkeypatch.setattr(tasks, "close_orphans", closed.append)
    settings.SPOOL_DIR = tmp_path / "spool"
    written(settings.SPOOL_DIR)
    tasks.close_open_intents()
    assert closed == []
    bring_in_orphans(settings.SPOOL_DIR)
    tasks.close_open_intents()
    assert len(closed) == 1


@database
@pytest.mark.parametrize("killed_at", ["second chunk", "conclusion", "removal"])
def test_bringing_in_that_is_killed_half_way_goes_on_where_it_was(
    tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    monkeypatch.setattr(spool, "CHUNK", 3)
    path = alone(tmp_path / "spool", 8)
    insert, conclude, unlink = spool._insert, spool._conclude, Path.unlink
    turns = [0]

    def die(*arguments: Any, **more: Any) -> Any:
        turns[0] += 1
        if killed_at == "second chunk" and turns[0] != 2:
            return insert(*arguments)
        raise OperationalError("killed")

    name = {"second chunk": "_insert", "conclusion": "_conclude"}.get(killed_at)
    target: Any = spool if name else Path
    monkeypatch.setattr(target, name or "unlink", die)
    with pytest.raises(OperationalError):
        bring_in_orphans(path.parent)
    monkeypatch.setattr(spool, "_insert", insert)
    monkeypatch.setattr(spool, "_conclude", conclude)
    monkeypatch.setattr(Path, "unlink", unlink)
    assert path.exists()
    assert bring_in_orphans(path.parent) == 1
    assert sorted(Entry.objects.filter(kind="result").values_list("decision_id", flat=True)) == [
        f"d{number}" for number in range(8)
    ]
    assert Entry.objects.filter(stream__name="recovery").count() == 2
    assert verify(settings, path.parent)[0] == 0


@database
def test_a_file_that_was_edited_is_brought_in_as_far_as_it_holds_and_said_to_be_broken(
    tmp_path: Path, settings: Any
) -> None:
    path = alone(tmp_path / "spool")
    edited = path.read_bytes().replace(b'"number":2', b'"number":9')
    path.write_bytes(edited)
    bring_in_orphans(path.parent)
    assert list(Entry.objects.filter(kind="result").values_list("decision_id", flat=True).order_by("id")) == [
        "d0",
        "d1",
    ]
    assert not path.exists()
    assert path.with_suffix(".kept").read_bytes() == edited
    told = json.loads(Entry.objects.filter(stream__name="recovery").latest("id").record)["details"]["spool"]
    assert (told["entries"], told["bad"], told["kept"]) == (2, 4, path.with_suffix(".kept").name)
    code, found = verify(settings, path.parent)
    assert (code, found["first_bad"]["stream"], found["first_bad"]["seq"]) == (1, told["stream"], 4)
    assert "before it was brought in" in found["first_bad"]["problem"]
    assert bring_in_orphans(path.parent) == 0


@database
@pytest.mark.parametrize("cut", [-7, -1])
def test_an_unfinished_last_line_breaks_nothing_and_is_kept(tmp_path: Path, settings: Any, cut: int) -> None:
    path = alone(tmp_path / "spool")
    path.write_bytes(path.read_bytes()[:cut])
    bring_in_orphans(path.parent)
    whole = cut == -1  # nothing but the line's end is missing
    assert Entry.objects.filter(kind="result").count() == (5 if whole else 4)
    assert path.with_suffix(".kept").exists() is not whole
    told = json.loads(Entry.objects.filter(stream__name="recovery").latest("id").record)["details"]["spool"]
    assert ("torn_bytes" in told) is not whole
    assert verify(settings, path.parent)[0] == 0


@database
def test_a_process_notices_that_its_own_file_was_cut_off_while_it_waited(tmp_path: Path, settings: Any) -> None:
    """By a whole line: the chain holds."""
    file = SpoolFile(tmp_path / "spool", [])
    file.append([entry(1), entry(2)], TOLD)
    text = file.path.read_bytes()
    with file.path.open("r+b") as shortened:
        shortened.truncate(text.rstrip(b"\n").rfind(b"\n") + 1)
    assert "cut off" in bring_in(file.path, file.descriptor, file.head).problem
    file.close()
    code, found = verify(settings, tmp_path / "spool")
    assert (code, found["first_bad"]["seq"]) == (1, 3)


@database
def test_a_file_that_was_deleted_while_its_process_lives_is_brought_in_all_the_same(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool", [])
    file.append([entry(1)], TOLD)
    file.path.unlink()
    file.append([entry(2)], TOLD)
    assert bring_in(file.path, file.descriptor, file.head).problem == ""
    file.close()
    assert Entry.objects.filter(kind="result").count() == 2


@database
def test_what_comes_to_the_spool_when_the_database_is_back_already_does_not_stay_there(tmp_path: Path) -> None:
    """A batch that was on its way there while another thread found the database back."""
    holder = Spool(tmp_path / "spool", confirmed=lambda: AT, away=lambda: False)
    holder.hold([entry(1)], None)
    holder._turn()
    assert waiting(holder.folder) == []
    assert Entry.objects.filter(kind="result").count() == 1
    assert holder.spooled == 0
    holder.stop()
