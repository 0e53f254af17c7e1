"""What the pages say of the journal's integrity: what the newest verification found, and what a held checkpoint tells."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from integrations.tasks import check_journal, verify_journal
from policies import journal
from policies.core import chain
from policies.journal import write_checkpoint
from policies.models import Checkpoint, Entry, JournalCheck
from policies.verification import verify_whole
from tests.conftest import Cast
from tests.portal.test_audit_page import note

# A verification sees the journal at one moment, by a transaction of its own.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def checkpoints(settings: object, tmp_path: Path) -> None:
    settings.CHECKPOINT_DIR = tmp_path  # type: ignore[attr-defined]  # pytest-django's fixture


def said(client: Client) -> str:
    shown = client.get("/audit/").content.decode()
    return " ".join(shown.split('<p id="integrity">')[1].split("</p>")[0].split())


def test_it_is_verified_to_an_entry(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    assert "not verified yet" in said(client)
    note("d1")
    verify_journal()
    assert "Intact, unanchored" in said(client)
    write_checkpoint()
    verify_journal()
    assert "Intact, against the checkpoint of" in said(client)
    client.force_login(cast.mina)
    assert "Intact, against" in said(client)
    client.force_login(cast.vic)
    assert 'id="integrity"' not in client.get("/audit/").content.decode()


def test_it_is_broken_at_an_entry(client: Client, cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    client.force_login(cast.rhea)
    row = note("d1")
    note("d2")
    Entry.objects.filter(pk=row.pk).update(record=row.record.replace("Payments", "<script>x"))
    with pytest.raises(SystemExit):
        call_command("verify_audit", "--json")
    assert json.loads(capsys.readouterr().out)["status"] == "broken"
    told = said(client)
    assert f"First bad entry: stream configuration, entry {row.seq} (row {row.pk}): it was edited" in told
    assert "<script>" not in told


def test_a_foreign_checkpoint_proves_nothing(client: Client, cast: Cast, settings: object) -> None:
    note("d1")
    write_checkpoint()
    settings.JOURNAL_SIGNING_KEY = "A" * 43 + "="  # type: ignore[attr-defined]  # pytest-django's fixture
    verify_whole()
    client.force_login(cast.rhea)
    assert "cannot tell whether it is intact" in said(client)


# A checkpoint that somebody kept


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The checks that were left to the worker."""
    left: list[int] = []
    monkeypatch.setattr(check_journal, "enqueue", left.append)
    return left


def upload(client: Client, text: str | bytes, name: str = "checkpoint.json") -> HttpResponse:
    return client.post(
        "/audit/integrity/", {"file": SimpleUploadedFile(name, text.encode() if isinstance(text, str) else text)}
    )  # type: ignore[return-value]  # the stubs know of their own kind of answer alone


def kept(row: Checkpoint) -> str:
    return chain.Checkpoint(row.document, row.signature, row.public_key).to_json()


def checks(client: Client) -> str:
    answer = client.get("/audit/integrity/", headers={"hx-request": "true"})
    return " ".join(answer.content.decode().split())


def test_a_checkpoint_is_downloaded_kept_and_checked(client: Client, cast: Cast, queued: list[int]) -> None:
    note("d1")
    write_checkpoint()
    client.force_login(cast.rhea)
    page = client.get("/audit/integrity/").content.decode()
    assert "Keep one where nobody who administers this machine can change it" in page
    answer = client.get(re.findall(r'href="(/audit/integrity/checkpoints/\d+/)"', page)[0])
    assert answer["Content-Disposition"].startswith('attachment; filename="checkpoint-')
    held = answer.content.decode()
    assert held == next(iter(Path(settings.CHECKPOINT_DIR).iterdir())).read_text()
    note("d2")
    assert upload(client, held).status_code == 302
    told = checks(client)
    assert "waiting for the worker" in told
    assert 'hx-get="/audit/integrity/"' in told
    # Meanwhile nobody starts another.
    assert "is being verified already" in upload(client, held).content.decode()
    [pk] = queued
    check_journal(pk)
    told = checks(client)
    assert "This journal still holds exactly the history that your checkpoint signed." in told
    assert "hx-get" not in told
    entry = json.loads(Entry.objects.get(record__contains="check_journal").record)["details"]
    assert (entry["by"], entry["target"]) == (
        "rhea@example.com",
        f"the checkpoint of {chain.Checkpoint.from_json(held).at}, held by them",
    )
    # What is done is not done again by another worker.
    before = JournalCheck.objects.get().seen_at
    check_journal(pk)
    assert JournalCheck.objects.get().seen_at == before


def test_a_journal_that_was_rewritten_to_its_end_breaks_at_the_held_checkpoint(
    client: Client, cast: Cast, queued: list[int]
) -> None:
    row = note("d1")
    note("d2")
    held = kept(write_checkpoint())
    previous = (
        Entry.objects.filter(stream=row.stream, seq=row.seq - 1).values_list("hash", flat=True).first() or chain.ZERO
    )
    Entry.objects.filter(pk=row.pk).update(record=row.record.replace("Payments", "Nobody"))
    for each in Entry.objects.filter(stream=row.stream, seq__gte=row.seq).order_by("seq"):
        previous = chain.link(previous, each.record)
        Entry.objects.filter(pk=each.pk).update(hash=previous)
    Checkpoint.objects.all().delete()
    for file in Path(settings.CHECKPOINT_DIR).iterdir():
        file.unlink()
    client.force_login(cast.ada)
    client.post("/audit/integrity/", {"action": "newest"})
    check_journal(queued[0])
    assert "Intact, unanchored" in checks(client)
    upload(client, held)
    check_journal(queued[1])
    told = checks(client)
    assert "First bad entry: stream configuration, entry 3" in told
    assert "What to do:</strong> change nothing" in told
    assert "broken" in said(client)


def test_how_far_it_is_is_told_meanwhile(
    client: Client, cast: Cast, queued: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PROGRESS", 2)
    for number in range(6):
        note(f"d{number}")
    client.force_login(cast.rhea)
    client.post("/audit/integrity/", {"action": "newest"})
    seen: list[str] = []
    usual = chain.walk

    def walk(rows: Iterator[chain.Row], *arguments: Any) -> chain.StreamResult:
        def watched() -> Iterator[chain.Row]:
            for row in rows:
                if row.seq == 4:
                    # On a thread of its own, like another process: what it sees is committed.
                    seen.extend(ThreadPoolExecutor(1).map(lambda _: looked(), [0]))
                yield row

        return usual(watched(), *arguments)

    def looked() -> str:
        try:
            return checks(client)
        finally:
            connection.close()

    monkeypatch.setattr(chain, "walk", walk)
    check_journal(queued[0])
    assert "under way" in seen[0]
    assert re.search(r"2 of about \d+ entries", seen[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "This file is empty."),
        (b"\xff\xfe", "This file is no text"),
        ("<script>alert(1)</script>", "This is no checkpoint"),
        ("[" * 100_000, "This is no checkpoint"),
        ('{"document": "{}", "signature": "", "public_key": ""}', "This is no checkpoint"),
        ("x" * 5_000_001, "larger than 5 MB"),
    ],
    ids=["empty", "bytes", "script", "deep", "no heads", "large"],
)
def test_a_bad_file_gets_a_clear_error(
    client: Client, cast: Cast, queued: list[int], text: str | bytes, said: str
) -> None:
    client.force_login(cast.rhea)
    answer = upload(client, text)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not queued
    assert not JournalCheck.objects.exists()


def test_an_edited_checkpoint_is_refused_and_a_foreign_one_cannot_tell(
    client: Client, cast: Cast, queued: list[int], settings: Any
) -> None:
    held = kept(write_checkpoint())
    client.force_login(cast.rhea)
    assert "was edited since it was signed" in upload(client, held.replace("2026", "2025", 1)).content.decode()
    settings.JOURNAL_SIGNING_KEY = "A" * 43 + "="
    assert upload(client, held).status_code == 302
    told = checks(client)
    assert "signed by another key than JOURNAL_SIGNING_KEY" in told
    assert "verify with the old one" in told
    assert not queued


def test_a_worker_that_went_away_is_told(client: Client, cast: Cast, queued: list[int]) -> None:
    client.force_login(cast.rhea)
    client.post("/audit/integrity/", {"action": "newest"})
    JournalCheck.objects.update(seen_at=timezone.now() - dt.timedelta(minutes=11))
    assert "has not got on for ten minutes" in checks(client)
    client.post("/audit/integrity/", {"action": "newest"})
    assert len(queued) == 2


def test_only_those_who_read_all_of_it_may(client: Client, cast: Cast) -> None:
    pk = write_checkpoint().pk
    for user, status in ((cast.ada, 200), (cast.rhea, 200), (cast.mina, 403), (cast.vic, 403), (cast.zed, 403)):
        client.force_login(user)
        for path in ("/audit/integrity/", f"/audit/integrity/checkpoints/{pk}/"):
            assert client.get(path).status_code == status
        if status == 403:
            assert client.post("/audit/integrity/", {"action": "newest"}).status_code == 403
            assert "/audit/integrity/" not in client.get("/audit/").content.decode()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.ada)
    assert strict.post("/audit/integrity/", {"action": "newest"}).status_code == 403
