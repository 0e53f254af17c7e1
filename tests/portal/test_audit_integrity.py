"""What the audit page says of the journal's integrity: what the newest verification found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import DatabaseError
from django.test import Client

from integrations.tasks import verify_journal
from policies.journal import write_checkpoint
from policies.models import Entry, VerificationRun
from policies.verification import verify_now
from tests.conftest import Cast
from tests.portal.test_audit_page import note


@pytest.fixture(autouse=True)
def checkpoints(settings: object, tmp_path: Path) -> None:
    settings.CHECKPOINT_DIR = tmp_path  # type: ignore[attr-defined]  # pytest-django's fixture


def said(client: Client) -> str:
    shown = client.get("/audit/").content.decode()
    return " ".join(shown.split('<p id="integrity">')[1].split("</p>")[0].split())


def test_it_is_verified_to_an_entry(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    assert "not verified yet" in said(client)
    last = note("d1").pk
    verify_journal()
    assert f"verified to entry {last}<" in said(client)
    assert "held against no checkpoint" in said(client)
    write_checkpoint()
    verify_journal()
    assert "held against no checkpoint" not in said(client)
    client.force_login(cast.mina)
    assert f"verified to entry {last}<" in said(client)
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
    assert f"broken at entry {row.seq} of the chain configuration" in told
    assert f'<a href="/audit/{row.pk}/">Entry {row.pk}</a>: it was edited' in told
    assert "<script>" not in told
    verify_journal()
    assert VerificationRun.objects.count() == 2


def test_a_foreign_checkpoint_proves_nothing(client: Client, cast: Cast, settings: object) -> None:
    note("d1")
    write_checkpoint()
    settings.JOURNAL_SIGNING_KEY = "A" * 43 + "="  # type: ignore[attr-defined]
    verify_now()
    client.force_login(cast.rhea)
    assert "cannot tell whether it is intact" in said(client)


def test_a_database_that_is_only_read_is_verified_all_the_same(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(run: VerificationRun) -> None:
        raise DatabaseError("read-only")

    monkeypatch.setattr(VerificationRun, "save", refuse)
    note("d1")
    assert verify_now().fault is None
