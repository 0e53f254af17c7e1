"""The weekly digest: who gets it, what it tells whom, that it comes once, and that nothing in it acts."""

from __future__ import annotations

import datetime as dt
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.mail import EmailMultiAlternatives
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from integrations.actions import do_issue_agent_key, do_register_token
from integrations.pagerduty.catalog import TOOLS
from policies.core.call import EntryKind, Outcome
from policies.models import AgentKey, Digest, Entry, LastVerification, PolicyVersion, Team
from portal import digest
from portal.digest import due_at, send_due
from tests.conftest import Cast
from tests.portal.test_audit_page import note

MONDAY = dt.datetime(2026, 11, 30, 8, tzinfo=dt.UTC)
HOSTILE = "<b>bot</b>\u202e https://evil.example"


def key_of(cast: Cast, team: Team, name: str) -> AgentKey:
    token = "y_NbAkKc66ryYTWUXYEu" if team == cast.payments else "z_NbAkKc66ryYTWUXYEu"
    connection = team.connections.first() or do_register_token(
        team, name="Main", token=token, kind="account", region="us", by=cast.ada, whole_account=True
    )
    return do_issue_agent_key(connection, name=name, by=cast.ada, tools=TOOLS)[0]


def called(key: AgentKey, tool: str, *, at: dt.datetime, rule: str = "", count: int = 1) -> None:
    verdict: dict[str, Any] = {"verdict": "deny", "outcome": Outcome.DENIED} if rule else {}
    for _ in range(count):
        actor = {"kind": "agent", "id": f"key:{key.pk}", "name": key.name}
        details = {"actor": actor, "rule": rule or "setting", "method": "GET", "path": "/evil?x=<i>"}
        values = {"team_id": key.team_id, "actor": f"key:{key.pk}", "tool": tool, "details": details, **verdict}
        note(f"d{Entry.objects.count()}", at=at, kind=EntryKind.RESULT, **values)


@pytest.fixture(autouse=True)
def folders(settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR, settings.CHECKPOINT_DIR = tmp_path / "spool", tmp_path / "checkpoints"
    settings.PUBLIC_URL = "https://pagewarden.example.com"


@pytest.fixture
def week(cast: Cast) -> dt.datetime:
    """Two teams' agents at work, just now. Returns when."""
    now = timezone.now()
    bot, other = key_of(cast, cast.payments, "night bot"), key_of(cast, cast.search, "search bot")
    called(bot, "list_incidents", at=now - dt.timedelta(days=8))
    called(bot, "list_incidents", at=now - dt.timedelta(days=6), count=4)
    called(bot, "update_incident", at=now - dt.timedelta(hours=2), count=2)
    called(bot, "create_incident", at=now - dt.timedelta(hours=1), rule="tool_off", count=3)
    called(other, "get_incident", at=now - dt.timedelta(hours=1))
    AgentKey.objects.filter(pk=bot.pk).update(expires_at=now + dt.timedelta(days=3))
    return now


def printed(to: str) -> str:
    out = StringIO()
    call_command("send_digest", "--to", to, "--dry-run", stdout=out)
    return out.getvalue()


def test_a_manager_is_told_of_their_teams(week: dt.datetime, cast: Cast) -> None:
    told = printed("mina@example.com")
    assert "Subject: Pagewarden: 9 calls and 3 denied in the week to" in told
    assert "9 calls, 2 of them writes that were let through, 3 denied." in told
    assert f"- “night bot”: 9 calls, 2 writes, 3 denied ({TOOLS['list_incidents'].title} 4, " in told
    assert (
        f"- “night bot of Payments” was denied 3 times (switched off for the team): {TOOLS['create_incident'].title}"
        in told
    )
    assert "https://pagewarden.example.com/teams/payments/tools/#tool-create_incident" in told
    assert "“night bot of Payments” The key pwk_" in told
    assert "expires in 2 days" in told
    assert "search bot" not in told
    assert "The journal" not in told
    assert not mail.outbox


def test_an_auditor_and_an_administrator_are_told_of_all_and_of_the_journal(week: dt.datetime, cast: Cast) -> None:
    LastVerification.objects.create(at=week, status="broken", told="Broken. First bad entry: <script>")
    for to in ("rhea@example.com", "ada@example.com"):
        told = printed(to)
        assert "10 calls, 2 of them writes that were let through, 3 denied." in told
        assert told.index("“Payments”") < told.index("“Search”")
        assert "- “The journal: broken”: “Broken. First bad entry: <script>”" in told
        assert "https://pagewarden.example.com/audit/integrity/" in told


def test_it_is_mailed_and_nothing_of_others_words_acts(cast: Cast) -> None:
    key = key_of(cast, cast.payments, "bot")
    AgentKey.objects.filter(pk=key.pk).update(name=HOSTILE)
    key.refresh_from_db()
    called(key, "", at=timezone.now(), rule="not_in_catalogue", count=3)
    out = StringIO()
    call_command("send_digest", "--to", "MINA@example.com", stdout=out)
    [sent] = mail.outbox
    assert isinstance(sent, EmailMultiAlternatives)
    assert sent.to == ["mina@example.com"]
    html, kind = sent.alternatives[0]
    assert kind == "text/html"
    for text in (str(sent.body), str(html)):
        assert "\u202e" not in text
        assert "\\u202e" in text
    assert "“<b>bot</b>\\u202e https://evil.example”" in sent.body
    assert "“GET /evil?x=<i>”" in sent.body
    assert "“&lt;b&gt;bot&lt;/b&gt;\\u202e https://evil.example”" in str(html)
    assert "“GET /evil?x=&lt;i&gt;”" in str(html)
    assert "<b>" not in str(html)
    assert "<i>" not in str(html)
    with pytest.raises(CommandError, match="Nobody who may sign in"):
        call_command("send_digest", "--to", "nobody@example.com")


def test_each_gets_theirs_once_whoever_sends_them(week: dt.datetime, cast: Cast) -> None:
    assert send_due(MONDAY - dt.timedelta(minutes=1)) == 0
    assert send_due(MONDAY) == 4
    assert sorted(sent.to[0] for sent in mail.outbox) == [
        f"{name}@example.com" for name in ("ada", "mina", "omar", "rhea")
    ]
    # A restart within the hour, another worker, the next hours, the day after: nothing more until next week.
    for hours in (0, 1, 23, 24, 100):
        assert send_due(MONDAY + dt.timedelta(hours=hours)) == 0
    assert send_due(MONDAY + digest.WEEK + dt.timedelta(hours=3)) == 4


def test_two_workers_at_once_send_each_of_them_once(
    week: dt.datetime, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = digest.Mail.send
    other: list[int] = []

    def send(self: digest.Mail) -> None:
        if not other:
            # Another worker comes while the first mail goes out.
            other.append(0)
            other[0] = send_due(MONDAY)
        usual(self)

    monkeypatch.setattr(digest.Mail, "send", send)
    assert send_due(MONDAY) + other[0] == 4
    assert other == [3]
    assert len({sent.to[0] for sent in mail.outbox}) == len(mail.outbox) == 4


def test_what_could_not_be_sent_is_tried_again_and_keeps_nobody_waiting(
    week: dt.datetime, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = digest.Mail.send

    def send(self: digest.Mail) -> None:
        if self.to == "mina@example.com":
            raise OSError("no route")
        usual(self)

    monkeypatch.setattr(digest.Mail, "send", send)
    assert send_due(MONDAY) == 3
    monkeypatch.undo()
    assert send_due(MONDAY + dt.timedelta(hours=1)) == 1
    assert Digest.objects.count() == 4


def test_who_wants_none_gets_none_and_says_so_on_the_account_page(
    client: Client, week: dt.datetime, cast: Cast
) -> None:
    version = PolicyVersion.objects.values_list("version", flat=True).first()
    client.force_login(cast.mina)
    assert 'name="weekly_digest"' in client.get("/account/").content.decode()
    answer = client.post("/account/digest/", {}, follow=True)
    assert "You get no weekly digest any more." in answer.content.decode()
    cast.mina.refresh_from_db()
    assert not cast.mina.weekly_digest
    assert Entry.objects.filter(record__contains="set_weekly_digest", actor=f"user:{cast.mina.pk}").count() == 1
    assert PolicyVersion.objects.values_list("version", flat=True).first() == version
    assert client.get("/account/digest/").status_code == 405
    assert send_due(MONDAY) == 3
    client.post("/account/digest/", {"weekly_digest": "on"})
    assert send_due(MONDAY) == 1
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.mina)
    assert strict.post("/account/digest/", {}).status_code == 403


def test_members_and_managers_without_agents_get_none(cast: Cast) -> None:
    assert {user.name for user in digest.recipients()} == {"Ada", "Rhea"}
    key_of(cast, cast.payments, "bot")
    key_of(cast, cast.payments, "bot 2")
    assert sorted(user.name for user in digest.recipients()) == ["Ada", "Mina", "Rhea"]
    cast.mina.is_active = False
    cast.mina.save()
    assert {user.name for user in digest.recipients()} == {"Ada", "Rhea"}


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (MONDAY, MONDAY),
        (MONDAY - dt.timedelta(seconds=1), MONDAY - digest.WEEK),
        (MONDAY + dt.timedelta(days=6, hours=23), MONDAY),
    ],
    ids=["then", "before", "sunday"],
)
def test_it_is_due_on_mondays_at_eight(now: dt.datetime, due: dt.datetime) -> None:
    assert due_at(now) == due
