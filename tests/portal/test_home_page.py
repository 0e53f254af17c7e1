"""The home page: what each of the cast must know now, where each line leads, and what it costs."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations.actions import do_issue_agent_key, do_register_token, do_replace_token
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from integrations.tasks import verify_journal
from policies.actions import do_revoke_key
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome
from policies.journal import append_in_transaction, write_checkpoint
from policies.models import AgentKey, Checkpoint, Entry, LastVerification, Membership, Team
from tests.conftest import Cast
from tests.kept import keep, person, policy, schedule, service

FIRST = "y_NbAkKc66ryYTWUXYEu"


def registered(cast: Cast, team: Team, token: str = FIRST) -> Connection:
    return do_register_token(
        team, name="Main", token=token, kind="account", region="us", by=cast.ada, whole_account=True
    )


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return registered(cast, cast.payments)


@pytest.fixture(autouse=True)
def folders(settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR, settings.CHECKPOINT_DIR = tmp_path / "spool", tmp_path / "checkpoints"


def home(client: Client, cast: Cast, who: str) -> str:
    client.force_login(getattr(cast, who))
    answer = client.get("/")
    assert answer.status_code == 200
    return answer.content.decode()


def denied(
    team: Team, *, tool: str = "create_incident", rule: str = "tool_off", hours: float = 1, **given: Any
) -> None:
    details = {"rule": rule, "actor": {"kind": "agent", "id": "key:1", "name": given.pop("name", "night bot")}}
    at = timezone.now() - dt.timedelta(hours=hours)
    values = {"actor": "key:1", "tool": tool, "verdict": "deny", "outcome": Outcome.DENIED, "details": details, **given}
    append_in_transaction(NewEntry(EntryKind.RESULT, at, f"d{Entry.objects.count()}", team.pk, **values))


# What to do first


def test_who_begins_is_told_what_to_do_first_until_it_is_done(client: Client, cast: Cast) -> None:
    shown = home(client, cast, "mina")
    assert '<a href="/teams/payments/connections/">Register a connection for Payments</a>' in shown
    connection = registered(cast, cast.payments)
    shown = home(client, cast, "mina")
    assert f'<a href="/teams/payments/connections/{connection.pk}/">Test the connection of Payments</a>' in shown
    Connection.objects.update(health="ok")
    assert '<a href="/teams/payments/agents/">Issue an agent key of Payments</a>' in home(client, cast, "mina")
    do_issue_agent_key(connection, name="bot", by=cast.ada, tools=TOOLS)
    shown = home(client, cast, "mina")
    assert "What to do first" not in shown
    assert "Nothing does now: no connection fails" in shown


def test_readers_are_told_no_steps_and_who_can(client: Client, cast: Cast) -> None:
    for who in ("vic", "rhea"):
        assert "What to do first" not in home(client, cast, who)
    assert "You read here: a manager of the team changes its tools" in home(client, cast, "vic")
    assert "/teams/search/" not in home(client, cast, "vic")
    shown = home(client, cast, "zed")
    assert "You are in no team yet" in shown
    assert "Make my workspace" in shown


def test_without_any_team_an_administrator_makes_one_and_an_auditor_waits(client: Client, cast: Cast) -> None:
    Membership.objects.all().delete()
    Team.objects.all().delete()
    shown = home(client, cast, "ada")
    assert '<a href="/teams/">Make a team</a>' in shown
    shown = home(client, cast, "rhea")
    assert "There is no team yet." in shown
    assert "Make" not in re.sub(r"<nav.*?</nav>", "", shown, flags=re.S).partition("<main")[2]


# Connections


def test_connections_that_fail_come_first_and_lead_to_where_they_are_mended(
    client: Client, cast: Cast, connection: Connection
) -> None:
    other = registered(cast, cast.search, "z_NbAkKc66ryYTWUXYEu")
    Connection.objects.filter(pk=connection.pk).update(health="untested")
    Connection.objects.filter(pk=other.pk).update(health="failing", health_message="The token <b>was</b> refused.")
    for who in ("ada", "rhea"):
        shown = home(client, cast, who)
        assert f'<a href="/teams/search/connections/{other.pk}/">Search: Main</a> — The last test failed' in shown
        assert "The token &lt;b&gt;was&lt;/b&gt; refused." in shown
        assert shown.index("Search: Main") < shown.index("Payments: Main")
    assert "Payments: Main" in home(client, cast, "vic")
    assert "Search: Main" not in home(client, cast, "mina")
    assert "Payments: Main" not in home(client, cast, "zed")


# Denied again and again


def test_denials_that_repeat_lead_to_the_tool_and_to_the_newest_call(client: Client, cast: Cast) -> None:
    for _ in range(3):
        denied(cast.payments)
    newest = Entry.objects.filter(kind="result").latest("at").pk
    for who in ("ada", "mina", "rhea"):
        shown = home(client, cast, who)
        assert '<a href="/teams/payments/tools/#tool-create_incident">night bot of Payments</a>' in shown
        assert "Create incident was denied 3 times within a day (switched off for the team)." in shown
        assert f'<a href="/audit/{newest}/">The newest call' in shown
    for who in ("vic", "omar", "zed"):
        assert "Denied again and again" not in home(client, cast, who)


@pytest.mark.parametrize(
    "others",
    [
        {"hours": 25},
        {"tool": "resolve_incident"},
        {"rule": "locked"},
        {"actor": "key:2"},
        {"verdict": "allow", "outcome": Outcome.DONE},
    ],
)
def test_two_of_a_kind_are_no_repetition(client: Client, cast: Cast, others: dict[str, Any]) -> None:
    for given in ({}, {}, others):
        denied(cast.payments, **given)
    assert "Denied again and again" not in home(client, cast, "mina")


def test_what_waits_for_approval_is_counted_and_what_is_stopped_is_not(client: Client, cast: Cast) -> None:
    for _ in range(3):
        denied(cast.payments, verdict="needs_approval", rule="needs_approval")
        denied(cast.payments, rule="stopped", name="stopped bot")
    shown = home(client, cast, "mina")
    assert "it needs a person&#x27;s approval" in shown
    assert "stopped bot of Payments" not in shown


@pytest.mark.parametrize(
    ("rule", "page"),
    [
        ("narrowed_key", "/teams/payments/agents/"),
        ("call_limit", "/teams/payments/agents/"),
        ("role", "/teams/payments/members/"),
        ("bounds", "/teams/payments/connections/"),
        ("not_in_catalogue", "/catalogue/"),
    ],
)
def test_each_rule_leads_to_where_it_is_changed(client: Client, cast: Cast, rule: str, page: str) -> None:
    for _ in range(3):
        denied(cast.payments, rule=rule)
    assert f'<a href="{page}">night bot of Payments</a>' in home(client, cast, "mina")


def test_a_name_in_the_record_does_no_harm(client: Client, cast: Cast) -> None:
    for _ in range(3):
        denied(cast.payments, name="<script>\u202e" + "x" * 10_000, rule="<b>")
    shown = home(client, cast, "mina")
    assert "&lt;script&gt;" in shown
    assert "\u202e" not in shown
    assert "x" * 300 not in shown


@pytest.mark.parametrize("who", ["ada", "rhea", "mina"])
def test_the_denied_are_found_by_their_own_index(cast: Cast, who: str) -> None:
    if database.vendor == "postgresql":
        with database.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # of a journal of no length it is the cheapest
    rows = Entry.objects.denied_to(getattr(cast, who), timezone.now() - dt.timedelta(days=1))
    plan = rows[:1000].explain()
    assert "entry_denied_at" in plan
    assert "entry_team" not in plan


# Keys


def test_keys_that_expire_soon_are_told_to_who_can_issue_others(
    client: Client, cast: Cast, connection: Connection
) -> None:
    now = timezone.now()

    def issued(name: str, **left: int) -> AgentKey:
        ends = now + dt.timedelta(minutes=5, **left)
        return do_issue_agent_key(connection, name=name, by=cast.ada, tools=TOOLS, expires_at=ends)[0]

    soon, _later, gone = issued("soon bot", days=13), issued("later bot", days=14), issued("gone bot", days=1)
    issued("urgent bot", hours=3)
    do_revoke_key(gone, by=cast.ada)
    for who in ("ada", "mina", "rhea"):
        shown = home(client, cast, who)
        assert f'<a href="/teams/payments/agents/">soon bot of Payments</a> — The key pwk_{soon.prefix}_…' in shown
        assert "expires in 13 days" in shown
        assert "expires within a day" in shown
        assert shown.index("urgent bot of") < shown.index("soon bot of")
        assert "later bot of" not in shown
        assert "gone bot of" not in shown
    for who in ("vic", "omar"):
        assert "soon bot" not in home(client, cast, who)


# The journal


def test_the_health_of_the_journal_is_told_to_administrators_and_auditors(client: Client, cast: Cast) -> None:
    for who in ("mina", "vic", "zed"):
        assert "Last checkpoint" not in home(client, cast, who)
    for who in ("ada", "rhea"):
        shown = home(client, cast, who)
        assert "None yet: the worker signs one" in shown
        assert "Not yet: the worker does it daily" in shown
        assert "Empty: every entry is in the database." in shown


@pytest.mark.django_db(transaction=True)
def test_a_verification_is_kept_and_said_whole_or_broken(client: Client, cast: Cast, settings: Any) -> None:
    write_checkpoint()
    with pytest.raises(SystemExit):
        call_command("verify_audit")
    shown = home(client, cast, "rhea")
    assert "Intact, against the checkpoint of" in shown
    assert "overdue" not in shown
    Checkpoint.objects.update(at=timezone.now() - dt.timedelta(minutes=4 * settings.CHECKPOINT_MINUTES))
    settings.SPOOL_DIR.mkdir()
    (settings.SPOOL_DIR / "x.spool").touch()
    shown = home(client, cast, "rhea")
    assert "overdue: see whether the worker runs" in shown
    assert "1 file of entries waits to be brought in." in shown
    Entry.objects.filter(pk=Entry.objects.earliest("id").pk).update(hash="0" * 64)
    verify_journal()
    kept = LastVerification.objects.get()
    assert kept.status == "broken"
    assert "First bad entry" in home(client, cast, "ada")
    settings.JOURNAL_SIGNING_KEY = "nonsense"
    with pytest.raises(ValueError, match="JOURNAL_SIGNING_KEY"):
        verify_journal()
    kept.refresh_from_db()
    assert kept.status == "unknown"


def test_a_journal_that_is_broken_or_that_nobody_verifies_needs_a_look_first(client: Client, cast: Cast) -> None:
    now = timezone.now()
    LastVerification.objects.create(at=now, status="broken", told="Broken. First bad entry: <b>", entries=3)
    for who in ("ada", "rhea"):
        shown = home(client, cast, who)
        assert '<a href="/audit/integrity/">The journal: broken</a> — Broken. First bad entry: &lt;b&gt;' in shown
        assert shown.index("Needs a look") < shown.index("The journal: broken") < shown.index("All teams")
        assert "Nothing does now" not in shown
    assert "The journal: broken" not in home(client, cast, "mina")
    LastVerification.objects.update(status="intact", at=now - dt.timedelta(days=3))
    assert "Nothing has verified it for two days" in home(client, cast, "ada")
    LastVerification.objects.update(at=now)
    assert "Nothing does now" in home(client, cast, "ada")


# What it costs


@pytest.mark.parametrize(("who", "most"), [("ada", 20), ("rhea", 17), ("mina", 18), ("vic", 18), ("zed", 13)])
def test_it_costs_as_many_look_ups_for_one_team_as_for_many(client: Client, cast: Cast, who: str, most: int) -> None:
    def grow(number: int) -> None:
        team = Team.objects.create(name=f"Team {number}", slug=f"team-{number}")
        for user, role in ((cast.mina, "manager"), (cast.vic, "member")):
            Membership.objects.create(team=team, user=user, role=role)
        row = registered(cast, team, f"{number:02d}bAkKc66ryYTWUXYEux")
        ends = timezone.now() + dt.timedelta(days=3)
        do_issue_agent_key(row, name=f"bot {number}", by=cast.ada, tools=TOOLS, expires_at=ends)
        do_replace_token(row, token=f"{number:02d}cAkKc66ryYTWUXYEux", by=cast.ada)
        for _ in range(3):
            denied(team)

    grow(1)
    client.force_login(getattr(cast, who))
    client.get("/")
    with CaptureQueriesContext(database) as few:
        client.get("/")
    for number in range(2, 32):
        grow(number)
    with CaptureQueriesContext(database) as many:
        shown = client.get("/").content.decode()
    assert len(many) == len(few) <= most, [query["sql"][:90] for query in many]
    assert ("more teams" in shown) is (who != "zed")


def test_a_user_without_a_session_is_sent_to_the_sign_in(client: Client, cast: Cast) -> None:
    assert client.get("/")["Location"].startswith("/sign-in/")


# Who is on call


def test_who_is_on_call_and_where_nobody_will_be(client: Client, cast: Cast, connection: Connection) -> None:
    assert "Nothing of PagerDuty has been read yet." in home(client, cast, "vic")
    keep(
        connection,
        schedule("PSCH1", "Always", users=["PUSRA"]),
        schedule("PSCH2", "Six days", users=["PUSRB"], days=6),
        schedule("PSCH3", "Nobody", users=[]),
        policy("PPOL1", "Desk", "PSCH1"),
        policy("PPOL2", "Books", "PSCH2"),
        policy("PPOL3", "Late", "PSCH3", "PSCH1"),
        service("PSVC1", "PPOL1"),
        person("PUSRA", "Ann"),
    )
    shown = home(client, cast, "vic")
    assert re.search(r">Desk</a>: <strong>Ann</strong> until", shown)
    assert re.search(r">Late</a>: <strong>Ann</strong>.*on level 2: nobody is before it", shown)
    assert shown.index(">Desk</a>") < shown.index(">Books</a>")
    assert re.search(
        r'Nobody is reached within 14 days \([23]\)</h3>\s*<ul[^>]*>\s*<li[^>]*><a href="/coverage/[^"]+/PPOL2/', shown
    )
    # Nothing of it for those who see no connection.
    for who in ("omar", "zed", "rhea"):
        assert "On call now" not in home(client, cast, who)


def test_a_schedule_that_is_not_mirrored_is_not_taken_for_nobody(
    client: Client, cast: Cast, connection: Connection
) -> None:
    keep(
        connection,
        schedule("PSCH1", "Always", users=["PUSRA"]),
        policy("PPOL1", "Desk", "PSCHX", "PSCH1"),
        policy("PPOL2", "Books", "PSCHX"),
        person("PUSRA", "Ann"),
    )
    shown = home(client, cast, "vic")
    assert re.search(r">Desk</a>: <strong>Ann</strong>.*on level 2: who is before it is not known", shown)
    assert re.search(r">Books</a>: <strong>not known</strong>", shown)
    assert "No gap is known. Of 1 policy it cannot be told" in shown


def test_ones_own_teams_come_first_and_the_rest_is_counted(
    client: Client, cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = registered(cast, cast.search, "y_NbAkKc66ryYTWUXYEw")
    keep(connection, schedule("PSCH1"), *(policy(f"PPOL{n}", f"Policy {n}", "PSCH1") for n in range(9)))
    keep(other, schedule("PSCH9"), policy("PPOL99", "Theirs", "PSCH9"))
    Membership.objects.create(user=cast.ada, team=cast.search, role="member")
    monkeypatch.setattr("portal.dashboard.MIRRORS", 1)
    shown = home(client, cast, "ada")
    assert "Theirs" in shown
    assert "Policy 0" not in shown
    shown = home(client, cast, "vic")
    assert "And 1 more policy<" in shown


def test_who_is_on_call_costs_the_same_for_many_connections(client: Client, cast: Cast, connection: Connection) -> None:
    keep(connection, schedule("PSCH1", days=6), policy("PPOL1", "Desk", "PSCH1"))
    home(client, cast, "ada")
    with CaptureQueriesContext(database) as few:
        home(client, cast, "ada")
    for number in range(6):
        row = do_register_token(
            cast.search, name=f"More {number}", token=f"y_NbAkKc66ryYTWUXYE{number}", kind="account", region="us",
            by=cast.ada, whole_account=True,
        )  # fmt: skip
        keep(row, schedule(f"PSCHM{number}", days=6), policy(f"PPOLM{number}", f"Desk {number}", f"PSCHM{number}"))
    home(client, cast, "ada")
    with CaptureQueriesContext(database) as many:
        shown = home(client, cast, "ada")
    assert "Desk 5" in shown
    assert len(many) == len(few)
