"""The home page's choice of what happens when the database is away, asked by each of the cast."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from django.test import Client

from policies.actions import do_set_reads_go_on
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.models import ConfigChange, Entry, ReadsGoOn
from policies.spool import SpoolFile, bring_in_orphans
from tests.conftest import Cast

ON = {"action": "on", "minutes": "20", "reason": "people on call need to see"}


def test_an_administrator_switches_it_on_and_off_and_is_told_the_trade(client: Client, cast: Cast) -> None:
    client.force_login(cast.ada)
    shown = client.get("/").content.decode()
    assert "<strong>Everything stops</strong>" in shown
    assert "no revoked key, no stop, no kill switch" in shown
    assert "Writes never go on." in shown
    answer = client.post("/reads-go-on/", ON, follow=True)
    assert answer.redirect_chain == [("/", 302)]
    shown = answer.content.decode()
    assert "<strong>Reads go on</strong> for at most 20 minutes, chosen by ada@example.com: people on call" in shown
    assert ReadsGoOn.objects.get().minutes == 20
    client.post("/reads-go-on/", {**ON, "action": "off"})
    assert not ReadsGoOn.objects.exists()
    assert ConfigChange.objects.filter(action="reads_go_on").count() == 2


@pytest.mark.parametrize("wrong", [{"minutes": "0"}, {"minutes": "61"}, {"minutes": ""}, {"reason": " "}])
def test_what_is_wrong_is_said_and_what_was_typed_is_not_lost(
    client: Client, cast: Cast, wrong: dict[str, str]
) -> None:
    client.force_login(cast.ada)
    answer = client.post("/reads-go-on/", {**ON, **wrong})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode()
    assert "people on call need to see" in answer.content.decode() or "reason" in wrong
    assert not ReadsGoOn.objects.exists()


@pytest.mark.parametrize("who", ["mina", "vic", "rhea", "zed"])
def test_nobody_else_switches_it(client: Client, cast: Cast, who: str) -> None:
    do_set_reads_go_on(by=cast.ada, on=True, reason="people on call need to see")
    client.force_login(getattr(cast, who))
    assert client.post("/reads-go-on/", {**ON, "action": "off"}).status_code == 403
    assert ReadsGoOn.objects.exists()
    shown = client.get("/").content.decode()
    assert ("When the database is away" in shown) is (who == "rhea")
    assert "/reads-go-on/" not in shown


def test_it_is_no_page_by_itself(client: Client, cast: Cast) -> None:
    assert client.post("/reads-go-on/", ON).status_code == 302  # to the sign-in
    assert not ReadsGoOn.objects.exists()
    client.force_login(cast.ada)
    assert client.get("/reads-go-on/").status_code == 405


@pytest.mark.django_db(transaction=True)
def test_the_record_says_which_entries_were_spooled_and_when_they_were_brought_in(
    client: Client, cast: Cast, tmp_path: Path
) -> None:
    now = dt.datetime.now(dt.UTC)
    file = SpoolFile(tmp_path, [])
    spooled = NewEntry(EntryKind.RESULT, now, "d1", cast.payments.pk, "key:1", "list_incidents", "allow")
    file.append([spooled], {"at": "2026-11-25T04:00:00Z", "confirmed": "2026-11-25T03:59:00Z", "tried": "alpha"})
    file.close()
    bring_in_orphans(tmp_path)
    client.force_login(cast.ada)
    assert "1 spooled entry was brought in" in client.get("/audit/").content.decode()
    shown = client.get(f"/audit/{Entry.objects.get(decision_id='d1').pk}/").content.decode()
    shown = re.sub("</?time[^>]*>", "", shown)
    assert "at 2026-11-25 04:00:00, while the database was away" in shown
    assert "confirmed at 2026-11-25 03:59:00" in shown
    assert "It may also stand in what <code>alpha</code> wrote" in shown
