"""The search finds what one may see, leads straight to what one thing is called, and says no secret again."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from integrations.actions import do_issue_agent_key, do_register_token
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.journal import append_in_transaction
from policies.models import AgentKey, Entry, Team
from tests.conftest import Cast

DECISION = "01a20b8fe9c8ff7c348099ac5130"


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return do_register_token(
        cast.payments, name="Till account", token="u+abcdefghij1234567890", kind="account", region="us", by=cast.ada,
        whole_account=True,
    )  # fmt: skip


@pytest.fixture
def key(cast: Cast, connection: Connection) -> AgentKey:
    return do_issue_agent_key(connection, name="till bot", by=cast.ada, tools=TOOLS)[0]


@pytest.fixture
def entry(cast: Cast, db: None) -> Entry:
    with transaction.atomic():
        append_in_transaction(
            NewEntry(
                EntryKind.RESULT, timezone.now(), DECISION, cast.payments.pk, "key:1", tool="list_incidents", details={}
            )
        )
    return Entry.objects.get(decision_id=DECISION)


def found(client: Client, text: str, **more: str) -> dict[str, str]:
    """Name to address, in the answer to htmx."""
    answer = client.get("/search/", {"q": text, **more}, headers={"hx-request": "true"})
    assert answer.status_code == 200
    return {name: path for path, name in re.findall(r'<li><a href="([^"]+)">([^<]+)</a>', answer.content.decode())}


def test_it_finds_teams_connections_tools_and_keys(client: Client, cast: Cast, key: AgentKey) -> None:
    client.force_login(cast.vic)
    connection = cast.payments.connections.get()
    assert found(client, "PAYM") == {"Payments": "/teams/payments/"}
    assert found(client, "till") == {
        "Till account": f"/teams/payments/connections/{connection.pk}/",
        "till bot": f"/teams/payments/agents/#key-{key.pk}",
    }
    assert found(client, f"pwk_{key.prefix}") == {"till bot": f"/teams/payments/agents/#key-{key.pk}"}
    assert f'id="key-{key.pk}"' in client.get("/teams/payments/agents/").content.decode()
    assert found(client, "snooze inc") == {"Snooze incident": "/catalogue/?text=snooze_incident"}


def test_on_a_teams_page_it_stays_with_the_kind_and_the_team(client: Client, cast: Cast) -> None:
    client.force_login(cast.ada)
    assert found(client, "search", kind="agents", team="payments")["Search"] == "/teams/search/agents/"
    there = found(client, "snooze_incident", team="payments")
    assert there == {"Snooze incident": "/teams/payments/tools/?text=snooze_incident"}
    client.force_login(cast.omar)
    assert found(client, "snooze_incident", team="payments") == {"Snooze incident": "/catalogue/?text=snooze_incident"}


def test_of_other_teams_it_finds_nothing(client: Client, cast: Cast, key: AgentKey, entry: Entry) -> None:
    for who in (cast.omar, cast.zed):
        client.force_login(who)
        for text in ("Payments", "till", f"pwk_{key.prefix}", DECISION):
            assert found(client, text) == {}
    # A member reads no record.
    client.force_login(cast.vic)
    assert found(client, DECISION) == {}
    assert found(client, "PT4KHLK") == {}


def test_what_names_one_thing_leads_straight_to_it(client: Client, cast: Cast, key: AgentKey, entry: Entry) -> None:
    client.force_login(cast.mina)
    for text, path in (
        (DECISION, f"/audit/{entry.pk}/"),
        (f" {DECISION}\n", f"/audit/{entry.pk}/"),
        (f"pwk_{key.prefix}", f"/teams/payments/agents/#key-{key.pk}"),
        (f"pwk_{key.prefix}_…", f"/teams/payments/agents/#key-{key.pk}"),
        ("PT4KHLK", "/audit/?q=target%3APT4KHLK"),
    ):
        answer = client.get("/search/", {"q": text})
        assert (answer.status_code, answer.headers.get("location")) == (302, path), text
    assert client.get("/audit/?q=target%3APT4KHLK").status_code == 200
    # A word is none: its finds are shown.
    assert client.get("/search/", {"q": "Payments"}).status_code == 200


def test_a_whole_key_is_looked_for_by_its_start_and_not_said_again(client: Client, cast: Cast, key: AgentKey) -> None:
    client.force_login(cast.mina)
    secret = f"pwk_{key.prefix}_" + "x" * 32
    answer = client.get("/search/", {"q": secret})
    assert answer.headers["location"] == f"/teams/payments/agents/#key-{key.pk}"
    for typed in (secret, "u+AbCdEfGhIj1234567890", "password=hunter2!"):
        told = client.get("/search/", {"q": typed}, headers={"hx-request": "true"}).content.decode()
        assert "it was not looked for" in told
        assert typed not in told


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "' OR 1=1 --", "%", "_", "\x00", "\u202eevil", "a" * 10_000, b"\xed\xa0\x80"],
    ids=["script", "sql", "percent", "underscore", "nul", "bidi", "long", "surrogate"],
)
def test_hostile_text_is_harmless(client: Client, cast: Cast, key: AgentKey, text: Any) -> None:
    client.force_login(cast.ada)
    for headers in ({}, {"hx-request": "true"}):
        answer = client.get("/search/", {"q": text, "kind": text, "team": text}, headers=headers)
        assert answer.status_code == 200
        told = answer.content.decode()
        assert "<script>alert" not in told
        assert "\u202e" not in told
        assert "a" * 101 not in told


def test_nothing_found_says_what_is_looked_for(client: Client, cast: Cast) -> None:
    client.force_login(cast.zed)
    assert "Nothing that you may see is called so" in client.get("/search/", {"q": "nonsense"}).content.decode()
    assert "Type the name of a team" in client.get("/search/").content.decode()
    assert client.post("/search/", {"q": "x"}).status_code == 405


def test_it_asks_few_questions_and_lists_few_things_however_much_there_is(
    client: Client, cast: Cast, connection: Connection, django_assert_max_num_queries: Any
) -> None:
    Team.objects.bulk_create(Team(name=f"Many {number}", slug=f"many-{number}") for number in range(50))
    for number in range(8):
        do_issue_agent_key(connection, name=f"many {number}", by=cast.ada, tools=TOOLS)
    client.force_login(cast.ada)
    # session, person, team of the page; teams, connections, keys, decisions
    with django_assert_max_num_queries(7):
        rows = found(client, "many", team="payments")
    assert len(rows) == 12
    with django_assert_max_num_queries(7):
        found(client, "PT4KHLK", team="payments")
