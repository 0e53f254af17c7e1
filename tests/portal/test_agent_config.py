"""``manage.py agent_config``: what it prints for each client, and what it says where there is no such key."""

from __future__ import annotations

import datetime as dt
import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from integrations.actions import do_issue_agent_key, do_register_token
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_revoke_key
from policies.models import AgentKey, Team
from portal.connecting import REVISIONS, configurations
from tests.conftest import Cast

URL = "https://pagewarden.example.com/mcp"


@pytest.fixture(autouse=True)
def _public(settings: Any) -> None:
    settings.PUBLIC_URL = "https://pagewarden.example.com"


def connected(cast: Cast, team: Team) -> Connection:
    return do_register_token(
        team,
        name="Main",
        token=f"y_NbAkKc66ryYTWU{team.slug[:4].upper()}",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return connected(cast, cast.payments)


def issued(cast: Cast, connection: Connection, name: str = "night bot") -> tuple[AgentKey, str]:
    return do_issue_agent_key(connection, name=name, by=cast.ada, tools=TOOLS)


def told(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command("agent_config", *arguments, stdout=out, stderr=err, no_color=True)
    return out.getvalue().strip(), err.getvalue()


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as caught:
        call_command("agent_config", *arguments, "--client", "generic")
    assert caught.value.returncode == 2
    return str(caught.value)


# What each client takes


@pytest.mark.parametrize("client", configurations())
def test_the_text_alone_is_printed_and_where_it_goes_is_said_beside_it(
    cast: Cast, connection: Connection, client: str
) -> None:
    _, secret = issued(cast, connection)
    out, err = told("night bot", "--client", client)
    assert out == configurations()[client].text
    assert URL in out
    assert "night bot of Payments" in err
    assert secret not in out + err
    assert "pwk_" not in out + err


def test_each_client_gets_its_own_form() -> None:
    texts = {client: made.text for client, made in configurations().items()}
    header = '--header "Authorization: Bearer ${PAGEWARDEN_KEY}"'
    assert texts["claude-code"] == f"claude mcp add --transport http pagewarden {URL} {header}"
    assert json.loads(texts["cursor"])["mcpServers"]["pagewarden"] == {
        "url": URL,
        "headers": {"Authorization": "Bearer ${env:PAGEWARDEN_KEY}"},
    }
    vscode = json.loads(texts["vscode"])
    [asked] = vscode["inputs"]
    assert (asked["type"], asked["password"]) == ("promptString", True)
    assert vscode["servers"]["pagewarden"] == {
        "type": "http",
        "url": URL,
        "headers": {"Authorization": f"Bearer ${{input:{asked['id']}}}"},
    }
    bridge = json.loads(texts["claude-desktop"])["mcpServers"]["pagewarden"]
    assert (bridge["command"], bridge["args"][:3]) == ("npx", ["-y", "mcp-remote", URL])
    assert not any(" " in argument for argument in bridge["args"])
    [variable] = bridge["env"]
    assert bridge["args"][-2:] == ["--header", f"Authorization:${{{variable}}}"]
    assert "--allow-http" not in bridge["args"]
    assert all(revision in texts["generic"] for revision in REVISIONS)


def test_a_key_that_is_at_hand_stands_where_the_client_wants_it_but_never_where_it_is_asked_for() -> None:
    made = configurations("pwk_abcdefgh_secret")
    assert "Authorization: Bearer pwk_abcdefgh_secret" in made["claude-code"].text
    assert json.loads(made["claude-desktop"].text)["mcpServers"]["pagewarden"]["env"] == {
        "PAGEWARDEN_AUTHORIZATION": "Bearer pwk_abcdefgh_secret"
    }
    assert [client for client, one in made.items() if "pwk_abcdefgh_secret" not in one.text] == ["vscode"]
    for client, one in made.items():
        assert "PAGEWARDEN_KEY" not in one.text + one.key, client
        assert "PASTE" not in one.text + one.key, client


def test_the_bridge_is_told_that_plain_http_is_meant(settings: Any) -> None:
    settings.PUBLIC_URL = "http://pagewarden.internal:8000"
    assert "--allow-http" in json.loads(configurations()["claude-desktop"].text)["mcpServers"]["pagewarden"]["args"]


# Which key


def test_a_key_is_found_whatever_the_case_of_its_name_or_by_its_prefix(cast: Cast, connection: Connection) -> None:
    key, secret = issued(cast, connection)
    for name in ("Night Bot", key.prefix, f"pwk_{key.prefix}", f"pwk_{key.prefix}_…"):
        assert "night bot of Payments" in told(name, "--client", "cursor")[1]
    out, err = told(secret, "--client", "cursor")  # what somebody may well paste is not said again
    assert secret not in out + err


def test_an_unknown_name_is_answered_with_those_there_are(cast: Cast, connection: Connection) -> None:
    assert refused("day bot") == "There is no agent key called 'day bot'. Usable keys: none."
    issued(cast, connection)
    old, _ = issued(cast, connection, "old bot")
    do_revoke_key(old, by=cast.ada)
    assert refused("day bot") == "There is no agent key called 'day bot'. Usable keys: night bot."
    assert refused("night bot", "--team", "search").startswith("There is no agent key called 'night bot' in search.")
    assert refused("night bot", "--team", "nonsense") == "There is no team 'nonsense'. The teams: payments, search."


def test_a_secret_given_as_a_name_is_not_said_again(cast: Cast) -> None:
    secret = "pwk_abcdefgh_abcdefghijkmnpqrstuvwxyz23456789"
    assert "abcdefgh" not in refused(secret)


def test_of_several_keys_of_a_name_it_asks_which(cast: Cast, connection: Connection) -> None:
    ours, _ = issued(cast, connection)
    theirs, _ = issued(cast, connected(cast, cast.search))
    said = refused("night bot")
    assert said.startswith("2 usable keys are called night bot: give --team")
    assert f"pwk_{ours.prefix} of payments, pwk_{theirs.prefix} of search" in said
    assert "night bot of Search" in told("night bot", "--team", "search", "--client", "generic")[1]
    do_revoke_key(ours, by=cast.ada)
    assert "night bot of Search" in told("night bot", "--client", "generic")[1]


def test_a_key_that_has_ended_says_so_and_where_the_next_one_is_issued(cast: Cast, connection: Connection) -> None:
    key, _ = issued(cast, connection)
    AgentKey.objects.filter(pk=key.pk).update(expires_at=dt.datetime(2026, 3, 2, tzinfo=dt.UTC))
    page = "https://pagewarden.example.com/teams/payments/agents/"
    assert refused("night bot") == (
        f"The key night bot of Payments expired on 2 March 2026: its calls are refused. Issue a new one at {page} ."
    )
    do_revoke_key(key, by=cast.ada)
    assert f"was revoked on {timezone.now():%d %B %Y}".replace(" on 0", " on ") in refused("night bot")
    again, _ = issued(cast, connection)
    assert "night bot of Payments" in told("night bot", "--client", "generic")[1]
    assert again.is_usable


def test_a_client_that_is_not_known_is_answered_with_those_that_are(cast: Cast) -> None:
    with pytest.raises(CommandError, match=r"claude-code.*claude-desktop.*cursor.*vscode.*generic"):
        call_command("agent_config", "night bot", "--client", "nonsense")
    with pytest.raises(CommandError, match="--client"):
        call_command("agent_config", "night bot")
