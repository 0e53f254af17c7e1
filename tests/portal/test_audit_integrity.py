"""What the audit page says of the journal's integrity: what the newest verification found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from integrations.tasks import verify_journal
from policies.journal import write_checkpoint
from policies.models import Entry
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
    settings.JOURNAL_SIGNING_KEY = "A" * 43 + "="  # type: ignore[attr-defined]
    verify_whole()
    client.force_login(cast.rhea)
    assert "cannot tell whether it is intact" in said(client)
