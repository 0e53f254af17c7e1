"""An export with its proof, from the page to ``manage.py verify_export`` on a machine that has nothing else of the portal's."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from policies.core import chain
from policies.core.proof import examine
from policies.journal import COLUMNS, write_checkpoint
from policies.models import Checkpoint, Entry, Stream, User
from portal.audit.export import opening, proven
from portal.audit.query import Query
from portal.audit.search import scope
from tests.benchmarks.audit import resident
from tests.conftest import Cast
from tests.portal.test_audit_export import exported
from tests.portal.test_audit_page import note

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def checkpoints(settings: Any, tmp_path: Path) -> None:
    settings.CHECKPOINT_DIR = tmp_path / "checkpoints"


@pytest.fixture
def written(cast: Cast) -> list[Checkpoint]:
    """Two chains, of two teams, and checkpoints about their middle. The first entries of both are nobody's team's."""
    made = []
    for number in range(12):
        team = cast.payments if number % 3 else cast.search
        note(
            f"d{number}",
            team_id=team.pk,
            stream="other" if number % 2 else "configuration",
            details={"team": team.name},
        )
        if number in (2, 5, 8):
            made.append(write_checkpoint())
    return made


def taken(user: User, tmp_path: Path, text: str = "") -> Path:
    answer, file = exported(user, "proof", text)
    assert answer["Content-Disposition"].endswith('Z.proof.jsonl"')
    path = tmp_path / f"{user.name}.proof.jsonl"
    path.write_bytes(file)
    return path


def kept(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "kept.json"
    stored = chain.Checkpoint(checkpoint.document, checkpoint.signature, checkpoint.public_key)
    path.write_text(stored.to_json())
    return path


def verify(path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("verify_export", str(path), "--json", *arguments, stdout=out)
    return int(ended.value.code or 0), json.loads(out.getvalue())


def test_a_period_is_whole_and_says_what_is_proven(written: list[Checkpoint], cast: Cast, tmp_path: Path) -> None:
    path = taken(cast.rhea, tmp_path, "since:1d")
    # That it was taken is on record, and so is not in it.
    assert json.loads(Entry.objects.first().record)["details"]["after"]["form"] == "proof"  # type: ignore[union-attr]  # there is one
    code, found = verify(path)
    assert (code, found["status"], found["scope"]) == (0, "intact", "everything")
    assert (found["entries"], found["streams"]) == (Entry.objects.count() - 1, 2)
    assert (found["query"], found["by"]) == ("since:1d", "rhea@example.com")
    assert found["checkpoints"] == [chain.moment(written[0].at), chain.moment(written[2].at)]
    assert "no entry is left out" in found["proves"]
    assert "What was written before the first and after the last" in found["does_not_prove"]


def test_a_part_says_that_others_may_be_missing_and_shows_nothing_of_them(
    written: list[Checkpoint], cast: Cast, tmp_path: Path
) -> None:
    path = taken(cast.mina, tmp_path)
    code, found = verify(path)
    assert (code, found["scope"], found["entries"], found["checkpoints"]) == (0, "part", 8, [])
    assert "that the query found these entries and no others is what the portal says" in found["does_not_prove"]
    told = path.read_text()
    assert "Payments" in told
    assert "Search" not in told
    assert "str-" not in told
    assert verify(taken(cast.rhea, tmp_path, "since:1d team:search"))[1]["scope"] == "part"
    assert verify(taken(cast.omar, tmp_path, "tool:get_incident"))[1]["entries"] == 0


def test_the_page_says_before_what_will_be_proven(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    assert "no entry is left out between the first and the last" in client.get("/audit/?q=since:7d").content.decode()
    assert "That nothing else fits the query" in client.get("/audit/?q=since:7d+verdict:deny").content.decode()
    client.force_login(cast.mina)
    assert "That nothing else fits the query" in client.get("/audit/?q=since:7d").content.decode()
    client.force_login(cast.vic)
    assert "with proof" not in client.get("/audit/").content.decode()


def test_a_checkpoint_that_was_kept_names_what_it_knows(written: list[Checkpoint], cast: Cast, tmp_path: Path) -> None:
    path = taken(cast.rhea, tmp_path)
    for checkpoint in written:
        code, found = verify(path, "--checkpoint", str(kept(checkpoint, tmp_path)))
        assert (code, found["checkpoint"], found["compared"]) == (0, chain.moment(checkpoint.at), 2)
    later = kept(write_checkpoint(), tmp_path)
    code, found = verify(path, "--checkpoint", str(later))
    assert (code, found["compared"]) == (0, 1)  # the configuration has grown by the export


def test_what_was_rewritten_in_the_database_is_named(written: list[Checkpoint], cast: Cast, tmp_path: Path) -> None:
    held = kept(written[1], tmp_path)
    row = Entry.objects.get(decision_id="d3")
    Entry.objects.filter(pk=row.pk).update(record=row.record.replace("Search", "Nobody"))
    code, found = verify(taken(cast.rhea, tmp_path))
    assert (code, found["first_bad"]["stream"], found["first_bad"]["seq"]) == (1, "other", row.seq)
    # With every hash after it made to fit, by whoever holds the signing key and takes the checkpoints away.
    previous = Entry.objects.get(stream=row.stream, seq=row.seq - 1).hash
    for each in Entry.objects.filter(stream=row.stream, seq__gte=row.seq).order_by("seq"):
        previous = chain.link(previous, each.record)
        Entry.objects.filter(pk=each.pk).update(hash=previous)
    Checkpoint.objects.all().delete()
    path = taken(cast.rhea, tmp_path)
    assert verify(path)[0] == 0
    code, found = verify(path, "--checkpoint", str(held))
    assert (code, found["first_bad"]["stream"]) == (1, "other")
    assert "the checkpoint that you hold" in found["first_bad"]["problem"]


def test_what_is_missing_in_the_database_is_named(written: list[Checkpoint], cast: Cast, tmp_path: Path) -> None:
    Entry.objects.filter(stream__name="other", seq__gte=4).delete()
    code, found = verify(taken(cast.rhea, tmp_path))
    assert (code, found["first_bad"]["stream"], found["first_bad"]["seq"]) == (1, "other", 4)
    assert "a checkpoint in the file names" in found["first_bad"]["problem"]


def test_another_machine_verifies_it_with_the_file_and_the_checkpoint_alone(
    written: list[Checkpoint], cast: Cast, tmp_path: Path
) -> None:
    path, held = taken(cast.rhea, tmp_path), kept(written[0], tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(ROOT / "manage.py"), "verify_export", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)
        assert not done.stderr
        return done.returncode, done.stdout

    code, told = run(str(path), "--checkpoint", str(held))
    assert (code, told[:8]) == (0, "Intact: ")
    assert "Not proven: " in told
    code, told = run(str(path))
    assert (code, "whose signature it is" in told) == (2, True)
    path.write_bytes(path.read_bytes().replace(b'"allow"', b'"deny"', 1))
    code, told = run(str(path), "--checkpoint", str(held))
    assert (code, told[:7]) == (1, "Broken.")
    assert run(str(tmp_path / "nowhere"))[0] == run(str(held))[0] == 2


def test_a_long_journal_is_exported_and_verified_in_constant_memory(cast: Cast, tmp_path: Path) -> None:
    count = 200_000
    now = timezone.now()
    stream = Stream.objects.create(name="long", created_at=now)

    def rows() -> Iterator[tuple[Any, ...]]:
        previous, at = chain.ZERO, chain.moment(now)
        for seq in range(1, count + 1):
            record = f'{{"at":"{at}","details":{{"reason":"{"x" * 600}"}},"kind":"result","seq":{seq},"stream":"long"}}'
            previous = chain.link(previous, record)
            yield (stream.pk, seq, now, "result", f"d{seq}", None, "", "", "", "", "", record, previous)

    assert len(COLUMNS) == 13
    connection.connection.executemany(
        f"INSERT INTO policies_entry ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * 13)})",
        ((*row[:2], row[2].replace(tzinfo=None).isoformat(" "), *row[3:]) for row in rows()),
    )
    where = scope(Query(), cast.rhea, now)
    ends = where.ends()
    assert ends is not None
    told = proven(*opening(Query(), where, ends, cast.rhea, now))

    async def save(pieces: AsyncIterator[bytes]) -> list[int]:
        held = []
        with path.open("wb") as file:
            async for piece in pieces:
                file.write(piece)
                held.append(resident())
        return held

    path = tmp_path / "long.proof.jsonl"
    held = async_to_sync(save)(told)
    assert path.stat().st_size > 150_000_000
    # What the first tenth takes is taken for good.
    assert max(held) - max(held[: len(held) // 10]) < 20_000_000
    gc.collect()
    before = resident()
    with path.open("rb") as file:
        found = examine(file)
    assert (found.fault, found.entries) == (None, count)
    assert resident() - before < 20_000_000
