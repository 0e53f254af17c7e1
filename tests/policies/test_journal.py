"""The journal against whoever holds the database: each thing done to it by SQL is found and named."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from policies import journal
from policies.actions import move_version
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome
from policies.journal import (
    Journal,
    JournalUnavailable,
    StaleVerdict,
    append_in_transaction,
    close_orphans,
    write_checkpoint,
)
from policies.models import Checkpoint, Entry, Stream

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def checkpoints(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings.CHECKPOINT_DIR = tmp_path / "checkpoints"
    monkeypatch.setattr(journal, "_closed_before", None)
    return tmp_path / "checkpoints"


def entry(number: int, **changes: Any) -> NewEntry:
    values: dict[str, Any] = {
        "kind": EntryKind.RESULT,
        "at": timezone.now(),
        "decision_id": f"d{number}",
        "team_id": 1,
        "actor": "key:1",
        "tool": "list_incidents",
        "verdict": "allow",
        "outcome": Outcome.DONE,
        "resource": "c",
        "details": {"number": number},
    }
    return NewEntry(**{**values, **changes})


def write(name: str, entries: list[NewEntry], versions: list[int | None] | None = None) -> list[BaseException | None]:
    """Append through a writer of its own, as a process would. What each future came to."""

    async def run() -> list[BaseException | None]:
        writer = Journal(asyncio.get_running_loop(), name=name)
        writer.start()
        asked = versions or [None] * len(entries)
        futures = [writer.append(each, verdict_version=version) for each, version in zip(entries, asked, strict=True)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        await asyncio.to_thread(writer.stop)
        return list(results)

    return asyncio.run(run())


@pytest.fixture
def written(checkpoints: Path) -> None:
    """Three streams of ten, five and one (and their first entries), a checkpoint, and three entries after it."""
    assert write("alpha", [entry(n) for n in range(10)]) == [None] * 10
    assert write("beta", [entry(n) for n in range(100, 105)]) == [None] * 5
    with transaction.atomic():
        append_in_transaction(entry(200, kind=EntryKind.CONFIG))
    write_checkpoint()
    assert write("gamma", [entry(n) for n in range(300, 303)]) == [None] * 3


def verify(*arguments: str) -> tuple[int, dict[str, Any]]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_audit", "--json", *arguments, stdout=out)
    return int(ended.value.code or 0), json.loads(out.getvalue())


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def place(stream: str, seq: int) -> int:
    return Entry.objects.get(stream__name=stream, seq=seq).pk


def test_an_untouched_journal_is_intact(written: None) -> None:
    code, found = verify()
    assert code == 0
    assert (found["status"], found["anchored"], found["streams"]) == ("intact", True, 4)
    assert found["entries"] == 11 + 6 + 2 + 4
    assert (found["after_checkpoint"], found["open_intents"], found["first_bad"]) == (4, 0, None)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_audit", stdout=out)
    assert out.getvalue().startswith("Intact, against the checkpoint of ")


def edit_record(_: Path) -> None:
    old = Entry.objects.get(stream__name="alpha", seq=5).record
    sql("UPDATE policies_entry SET record = %s WHERE id = %s", old.replace("key:1", "key:2"), place("alpha", 5))


def edit_column(_: Path) -> None:
    sql("UPDATE policies_entry SET verdict = 'deny' WHERE id = %s", place("alpha", 5))


def delete_one(_: Path) -> None:
    sql("DELETE FROM policies_entry WHERE id = %s", place("alpha", 5))


def swap_two(_: Path) -> None:
    one, two = place("alpha", 5), place("alpha", 6)
    sql("UPDATE policies_entry SET seq = 1000 WHERE id = %s", one)
    sql("UPDATE policies_entry SET seq = 5 WHERE id = %s", two)
    sql("UPDATE policies_entry SET seq = 6 WHERE id = %s", one)


def swap_contents(_: Path) -> None:
    one, two = (Entry.objects.get(stream__name="alpha", seq=seq) for seq in (5, 6))
    for row, other in ((one, two), (two, one)):
        sql("UPDATE policies_entry SET record = %s, hash = %s WHERE id = %s", other.record, other.hash, row.pk)


def cut_off(_: Path) -> None:
    sql("DELETE FROM policies_entry WHERE seq > 4 AND stream_id = %s", Stream.objects.get(name="alpha").pk)


def remove_stream(_: Path) -> None:
    stream = Stream.objects.get(name="beta").pk
    sql("DELETE FROM policies_entry WHERE stream_id = %s", stream)
    sql("DELETE FROM policies_stream WHERE id = %s", stream)


def empty_stream(_: Path) -> None:
    sql("DELETE FROM policies_entry WHERE stream_id = %s", Stream.objects.get(name="beta").pk)


def rewrite_to_the_end(_: Path) -> None:
    """What somebody does who knows how the chain is made: the entry, and every hash after it."""
    from policies.core import chain

    rows = list(Entry.objects.filter(stream__name="alpha").order_by("seq"))
    previous = chain.ZERO
    for row in rows:
        record = row.record.replace('"number":3', '"number":4') if row.seq == 5 else row.record
        previous = chain.link(previous, record)
        sql("UPDATE policies_entry SET record = %s, hash = %s WHERE id = %s", record, previous, row.pk)


def insert_one(_: Path) -> None:
    row = Entry.objects.get(stream__name="alpha", seq=11)
    row.pk, row.seq = None, 12  # a copy
    row.save()


def move_to_another_stream(_: Path) -> None:
    beta = Stream.objects.get(name="beta").pk
    sql("UPDATE policies_entry SET stream_id = %s, seq = 7 WHERE id = %s", beta, place("alpha", 11))


def edit_time(_: Path) -> None:
    sql(
        "UPDATE policies_entry SET at = %s WHERE id = %s",
        connection.ops.adapt_datetimefield_value(dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
        place("beta", 3),
    )


def forge_checkpoint(folder: Path) -> None:
    [file] = folder.glob("*.json")
    document = json.loads(file.read_text())
    document["document"] = document["document"].replace('"seq":11', '"seq":10')
    file.write_text(json.dumps(document))


def edit_record_beyond_ascii(_: Path) -> None:
    sql("UPDATE policies_entry SET record = 'naïve' WHERE id = %s", place("alpha", 5))


def append_record(record: str) -> None:
    """With a hash that is true: its writer knows how the chain is made."""
    from policies.core import chain

    last = Entry.objects.get(stream__name="alpha", seq=11)
    last.pk, last.seq, last.record, last.hash = None, 12, record, chain.link(last.hash, record)
    last.save()


def edit_record_to_another_kind_of_json(_: Path) -> None:
    append_record("[]")


def edit_record_to_what_no_reader_can_walk(_: Path) -> None:
    append_record("[" * 100_000)


@pytest.mark.parametrize(
    ("attack", "stream", "seq", "words"),
    [
        (edit_record, "alpha", 5, "edited"),
        (edit_column, "alpha", 5, "its column verdict was edited"),
        (edit_time, "beta", 3, "its column at was edited"),
        (delete_one, "alpha", 5, "removed"),
        (swap_two, "alpha", 5, "another's place"),
        (swap_contents, "alpha", 5, "another's place"),
        (cut_off, "alpha", 5, "cut off"),
        (remove_stream, "beta", None, "the whole stream was removed"),
        (empty_stream, "beta", 1, "cut off"),
        (rewrite_to_the_end, "alpha", 11, "rewritten"),
        (insert_one, "alpha", 12, "edited"),
        (move_to_another_stream, "alpha", 11, "cut off"),
        (forge_checkpoint, "(checkpoint)", None, "edited"),
        (edit_record_beyond_ascii, "alpha", 5, "cannot be read"),
        (edit_record_to_another_kind_of_json, "alpha", 12, "cannot be read"),
        (edit_record_to_what_no_reader_can_walk, "alpha", 12, "cannot be read"),
    ],
)
def test_every_attack_is_found_and_named(
    written: None, checkpoints: Path, attack: Callable[[Path], None], stream: str, seq: int | None, words: str
) -> None:
    attack(checkpoints)
    code, found = verify()
    bad = found["first_bad"]
    assert (code, found["status"]) == (1, "broken")
    assert (bad["stream"], bad["seq"]) == (stream, seq)
    assert words in bad["problem"]


def test_a_checkpoint_kept_elsewhere_finds_what_the_newest_cannot(
    written: None, checkpoints: Path, tmp_path: Path
) -> None:
    """Whoever holds the database and the signing key rewrites both; the copy kept off the box still tells."""
    kept = tmp_path / "kept.json"
    shutil.copy(next(iter(checkpoints.glob("*.json"))), kept)
    rewrite_to_the_end(checkpoints)
    for name in ("beta", "gamma", "configuration"):  # their first entries name alpha's old head
        sql("DELETE FROM policies_entry WHERE stream_id = %s", Stream.objects.get(name=name).pk)
        sql("DELETE FROM policies_stream WHERE name = %s", name)
    shutil.rmtree(checkpoints)
    write_checkpoint()
    assert verify()[0] == 0
    code, found = verify("--checkpoint", str(kept))
    assert (code, found["first_bad"]["stream"]) == (1, "alpha")


def test_without_a_checkpoint_it_is_unanchored_and_says_so(checkpoints: Path) -> None:
    write("alpha", [entry(1)])
    code, found = verify()
    assert (code, found["status"], found["anchored"], found["checkpoint"]) == (0, "intact", False, None)
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("verify_audit", stdout=out)
    assert "unanchored" in out.getvalue()


def test_it_says_when_it_cannot_tell(written: None, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    assert verify("--checkpoint", str(bad))[0] == 2
    assert verify("--checkpoint", str(tmp_path / "none.json"))[0] == 2


def test_a_checkpoint_of_another_key_proves_nothing_and_is_not_called_broken(written: None, settings: Any) -> None:
    settings.JOURNAL_SIGNING_KEY = base64.b64encode(b"n" * 32).decode()
    code, found = verify()
    assert (code, found["status"]) == (2, "unknown")
    assert "another key" in found["problem"]
    edit_record(Path())
    assert verify()[0] == 1


def test_the_newest_checkpoint_counts_wherever_it_is(written: None, checkpoints: Path) -> None:
    newest = write_checkpoint()
    max(checkpoints.glob("*.json")).unlink()
    assert verify()[1]["checkpoint"] == json.loads(newest.document)["at"]


@pytest.mark.parametrize(
    ("column", "value"), [("at", "2026-13-45 00:00:00"), ("at", "garbage"), ("at", None), ("seq", "x"), ("record", 5)]
)
def test_what_a_database_lets_stand_in_a_column_is_named_and_what_it_refuses_changes_nothing(
    written: None, column: str, value: Any
) -> None:
    try:
        sql(f"UPDATE policies_entry SET {column} = %s WHERE id = %s", value, place("alpha", 5))
    except DatabaseError:
        assert connection.vendor == "postgresql" or value is None
        assert verify()[0] == 0
    else:
        code, found = verify()
        assert (code, found["first_bad"]["stream"], found["first_bad"]["seq"]) == (1, "alpha", 5)


def test_an_edited_checkpoint_of_the_database_is_named_and_the_file_still_counts(written: None) -> None:
    sql("UPDATE policies_checkpoint SET document = '{}'")
    code, found = verify()
    assert (code, found["first_bad"]["stream"]) == (1, "(checkpoint)")
    edit_record(Path())
    assert verify()[1]["first_bad"]["stream"] == "alpha"


def test_calls_go_on_while_the_journal_is_verified(written: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from policies.core import chain

    walk, meanwhile = chain.walk, list[BaseException | None]()

    def slow_walk(*arguments: Any) -> chain.StreamResult:
        if not meanwhile:
            with ThreadPoolExecutor(1) as pool:
                meanwhile.extend(pool.submit(write, "meanwhile", [entry(500)]).result())
        return walk(*arguments)

    monkeypatch.setattr(chain, "walk", slow_walk)
    assert verify()[0] == 0
    assert meanwhile == [None]


def test_a_strangers_row_in_the_writers_place_is_named_and_does_not_stop_it(checkpoints: Path) -> None:
    async def run() -> None:
        writer = Journal(asyncio.get_running_loop(), name="alpha")
        writer.start()
        await writer.append(entry(1))
        await asyncio.to_thread(intrude)
        await writer.append(entry(2))
        await writer.append(entry(3))
        await asyncio.to_thread(writer.stop)

    def intrude() -> None:
        row = Entry.objects.get(decision_id="d1")
        row.pk, row.seq = None, row.seq + 1
        row.save()
        connection.close()

    asyncio.run(run())
    assert Entry.objects.filter(decision_id__in=["d2", "d3"]).count() == 2
    code, found = verify()
    assert (code, found["first_bad"]["stream"], found["first_bad"]["seq"]) == (1, "alpha", 3)


def test_an_orphan_that_gets_its_result_at_the_last_moment_leaves_nothing_behind(
    written: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [[Entry.objects.get(stream__name="alpha", seq=5)], []]
    monkeypatch.setattr(journal, "_open_intents", lambda *_: found.pop(0) if found else [])
    assert close_orphans(dt.timedelta(0)) == 0
    assert not Stream.objects.filter(name="recovery").exists()
    assert verify()[0] == 0


def test_open_intents_are_no_break_and_are_closed_once_as_unknown(written: None) -> None:
    long_ago = timezone.now() - dt.timedelta(minutes=10)
    intent = entry(1, kind=EntryKind.INTENT, outcome=Outcome.INTENDED, decision_id="write-1", at=long_ago)
    write("delta", [intent, entry(2, kind=EntryKind.INTENT, decision_id="write-2")])
    code, found = verify()
    assert (code, found["open_intents"]) == (0, 2)
    assert close_orphans(dt.timedelta(minutes=1)) == 1
    assert close_orphans(dt.timedelta(minutes=1)) == 0
    closed = Entry.objects.get(decision_id="write-1", kind="result")
    assert (closed.outcome, closed.stream.name, closed.tool) == ("unknown", "recovery", "list_incidents")
    assert verify()[1]["open_intents"] == 1


def test_a_verdict_of_an_older_policy_is_handed_back_and_nothing_is_written() -> None:
    with transaction.atomic():
        version = move_version()
    stale, fresh = write("alpha", [entry(1), entry(2)], [version - 1, version])
    assert isinstance(stale, StaleVerdict)
    assert fresh is None
    assert list(Entry.objects.filter(kind="result").values_list("decision_id", flat=True)) == ["d2"]


def test_a_policy_that_moves_between_two_writes_of_one_writer_binds_the_second() -> None:
    """The writer knows the version of its last batch: the statement itself must notice that it has moved since."""
    with transaction.atomic():
        version = move_version()

    def move() -> None:
        with transaction.atomic():
            move_version()
        connection.close()

    async def run() -> None:
        writer = Journal(asyncio.get_running_loop(), name="alpha")
        writer.start()
        await writer.append(entry(1), verdict_version=version)
        await asyncio.to_thread(move)
        with pytest.raises(StaleVerdict):
            await writer.append(entry(2), verdict_version=version)
        await writer.append(entry(3), verdict_version=version + 1)
        await asyncio.to_thread(writer.stop)

    asyncio.run(run())
    assert list(Entry.objects.filter(kind="result").values_list("decision_id", flat=True).order_by("id")) == [
        "d1",
        "d3",
    ]


def test_hostile_text_is_kept_escaped_and_loses_no_neighbour() -> None:
    nasty = "a\x00b\ud800c\n\u202e" + "x" * 400
    results = write("alpha", [entry(1), entry(2, actor=nasty, tool=nasty, details={"path": nasty, nasty: 1}), entry(3)])
    assert results == [None, None, None]
    assert verify()[0] == 0
    row = Entry.objects.get(decision_id="d2")
    assert "\x00" not in row.actor + row.record
    assert len(row.actor) <= 254


def test_one_row_that_the_database_refuses_loses_only_itself() -> None:
    broken = entry(2, team_id=2**80)
    first, second, third = write("alpha", [entry(1), broken, entry(3)])
    assert (first, third) == (None, None)
    assert isinstance(second, JournalUnavailable)
    assert verify()[0] == 0


def test_an_entry_of_a_change_lives_and_dies_with_its_transaction() -> None:
    with pytest.raises(RuntimeError, match="inside the transaction"):
        append_in_transaction(entry(1))

    def change() -> None:
        with transaction.atomic():
            append_in_transaction(entry(1))
            raise DatabaseError

    with pytest.raises(DatabaseError):
        change()
    assert not Entry.objects.exists()


def test_a_new_streams_first_entry_names_every_known_head(written: None) -> None:
    first = json.loads(Entry.objects.get(stream__name="gamma", seq=1).record)
    assert {(head["stream"], head["seq"]) for head in first["details"]["heads"]} == {
        ("alpha", 11),
        ("beta", 6),
        ("configuration", 2),
    }


def test_checkpoints_are_files_for_their_owner_and_name_their_predecessor(written: None, checkpoints: Path) -> None:
    write_checkpoint()
    first, second = sorted(checkpoints.glob("*.json"))
    assert checkpoints.stat().st_mode & 0o077 == 0
    assert second.stat().st_mode & 0o077 == 0
    assert json.loads(json.loads(second.read_text())["document"])["previous"]
    assert json.loads(first.read_text())["document"] != json.loads(second.read_text())["document"]
    assert Checkpoint.objects.count() == 2


def test_rows_that_belong_to_no_stream_are_found(written: None) -> None:
    if connection.vendor == "postgresql":
        sql("ALTER TABLE policies_entry DISABLE TRIGGER ALL")
    else:
        sql("PRAGMA foreign_keys=OFF")
    try:
        sql("UPDATE policies_entry SET stream_id = 9999, seq = 12 WHERE id = %s", place("gamma", 4))
        code, found = verify()
        assert (code, found["first_bad"]["stream"]) == (1, "#9999")
        sql("DELETE FROM policies_entry WHERE stream_id = 9999")
    finally:
        if connection.vendor == "postgresql":
            sql("ALTER TABLE policies_entry ENABLE TRIGGER ALL")
        else:
            sql("PRAGMA foreign_keys=ON")
