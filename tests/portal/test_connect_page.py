"""How an assistant is connected: with the answer that issues its key, and later without the key. And what a new key may use."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from integrations.actions import do_issue_agent_key, do_set_enabled
from integrations.models import Connection
from integrations.pagerduty.catalog import PRESETS, TOOLS
from policies.actions import do_revoke_key
from policies.models import AgentKey
from portal.connecting import configurations
from tests.conftest import Cast

AGENTS = "/teams/payments/agents/"


@pytest.fixture
def key(cast: Cast, connection: Connection) -> AgentKey:
    return do_issue_agent_key(connection, name="night bot", by=cast.ada, tools=TOOLS)[0]


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def path(key: AgentKey, slug: str = "payments") -> str:
    return f"/teams/{slug}/agents/{key.pk}/connect/"


def shown(client: Client, at: str) -> str:
    return unescape(client.get(at).content.decode())


def issue(client: Client, connection: Connection, **values: Any) -> Any:
    values = {"name": "helper", "connection": str(connection.pk), "calls_per_minute": "60", **values}
    return client.post(AGENTS, {"action": "issue", **values})


# The page of a key that was issued earlier


@pytest.mark.parametrize(
    ("who", "status"), [("ada", 200), ("mina", 200), ("vic", 200), ("rhea", 200), ("omar", 404), ("zed", 404)]
)
def test_it_is_seen_by_the_teams_people_administrators_and_auditors(
    client: Client, cast: Cast, key: AgentKey, who: str, status: int
) -> None:
    assert as_(client, cast, who).get(path(key)).status_code == status


def test_a_key_of_another_team_is_not_found_and_strangers_sign_in(client: Client, cast: Cast, key: AgentKey) -> None:
    assert client.get(path(key))["Location"].startswith("/sign-in/")
    assert as_(client, cast, "omar").get(path(key, "search")).status_code == 404
    as_(client, cast, "ada")
    assert client.get(path(key, "search")).status_code == 404
    assert client.get(f"{AGENTS}7c9e6679-7425-40de-944b-e07fc1f90ae7/connect/").status_code == 404


def test_it_only_shows(client: Client, cast: Cast, key: AgentKey) -> None:
    as_(client, cast, "mina")
    assert client.head(path(key)).status_code == 200
    for method in ("post", "put", "delete"):
        assert getattr(client, method)(path(key)).status_code == 405


def test_every_client_stands_there_with_a_place_for_the_key(client: Client, cast: Cast, key: AgentKey) -> None:
    page = shown(as_(client, cast, "vic"), path(key))
    for name, made in configurations().items():
        assert made.text in page, name
        assert made.key.replace("`", "") in re.sub(r"</?code>", "", page), name
        assert f'data-copy="{name}-text"' in page
    assert re.findall(r"pwk_\w+", page) == [f"pwk_{key.prefix}_"]
    assert "all that the team's tools allow" in page
    assert f'href="{path(key)}"' in shown(client, AGENTS)


def test_a_connection_that_is_switched_off_is_told(
    client: Client, cast: Cast, connection: Connection, key: AgentKey
) -> None:
    do_set_enabled(connection, False, by=cast.ada)
    assert "alert-warning" in shown(as_(client, cast, "mina"), path(key))


def test_a_key_that_has_ended_says_so_and_offers_nothing_to_paste(client: Client, cast: Cast, key: AgentKey) -> None:
    AgentKey.objects.filter(pk=key.pk).update(expires_at=dt.datetime(2026, 3, 2, tzinfo=dt.UTC))
    page = shown(as_(client, cast, "mina"), path(key))
    assert "The key night bot of Payments expired on 2 March 2026: its calls are refused." in page
    assert f'href="{AGENTS}#issue">Issue a new key' in page
    assert "mcpServers" not in page
    do_revoke_key(key, by=cast.ada)
    page = shown(as_(client, cast, "vic"), path(key))
    assert "was revoked on" in page
    assert "Ask a manager of Payments for a new key." in page
    assert "mcpServers" not in page
    assert f'href="{path(key)}"' not in shown(client, AGENTS)


def test_it_costs_a_fixed_number_of_queries(
    client: Client, cast: Cast, connection: Connection, key: AgentKey, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        do_issue_agent_key(connection, name=f"k{number}", by=cast.ada, tools=TOOLS)
    as_(client, cast, "mina")
    with django_assert_max_num_queries(8):
        client.get(path(key))


# The answer that issues a key


def test_the_answer_that_issues_a_key_has_it_in_the_configurations_and_no_later_one_does(
    client: Client, cast: Cast, connection: Connection
) -> None:
    answer = issue(as_(client, cast, "mina"), connection)
    page = unescape(answer.content.decode())
    key = AgentKey.objects.get()
    secret = re.search(rf"pwk_{key.prefix}_\w{{10,}}", page)
    assert secret is not None
    for name, made in configurations(secret[0]).items():
        assert made.text in page, name
    assert "${PAGEWARDEN_KEY}" not in page
    assert "no-store" in answer["Cache-Control"]
    for later in (AGENTS, path(key)):
        assert secret[0] not in shown(client, later)


# What a new key may use


@pytest.mark.parametrize(
    ("values", "tools"),
    [
        ({}, sorted(PRESETS["core"])),
        ({"may": "core"}, sorted(PRESETS["core"])),
        ({"may": "team"}, None),
        ({"may": "tools", "tools": ["list_incidents", "get_incident"]}, ["get_incident", "list_incidents"]),
        ({"tools": ["list_incidents"]}, ["list_incidents"]),
    ],
)
def test_a_new_key_is_narrowed_to_the_core_unless_its_manager_says_otherwise(
    client: Client, cast: Cast, connection: Connection, values: dict[str, Any], tools: list[str] | None
) -> None:
    assert issue(as_(client, cast, "mina"), connection, **values).status_code == 200
    assert AgentKey.objects.get().tools == tools


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"may": "tools"}, "Choose at least one tool"),
        ({"may": "core", "tools": ["list_incidents"]}, "Tools are chosen below"),
        ({"may": "team", "tools": ["list_incidents"]}, "Tools are chosen below"),
        ({"may": "tools", "tools": ["nonsense"]}, "nonsense is not one of the available choices"),
        ({"may": "everything"}, "everything is not one of the available choices"),
    ],
)
def test_a_choice_that_contradicts_itself_issues_nothing(
    client: Client, cast: Cast, connection: Connection, values: dict[str, Any], word: str
) -> None:
    answer = issue(as_(client, cast, "mina"), connection, **values)
    assert (answer.status_code, word in unescape(answer.content.decode())) == (422, True)
    assert not AgentKey.objects.exists()


def test_the_form_offers_the_core_first_with_what_it_costs(client: Client, cast: Cast, connection: Connection) -> None:
    page = shown(as_(client, cast, "mina"), AGENTS)
    assert re.search(r'value="core" checked>', page)
    assert re.search(rf"The core for people on call: at most {len(PRESETS['core'])} tools, about \d,\d00 tokens", page)
    assert "All that Payments allows" in page


def test_a_row_says_in_short_what_its_key_may_use(client: Client, cast: Cast, connection: Connection) -> None:
    for name, tools in (("a", PRESETS["core"]), ("b", ["list_incidents"]), ("c", None)):
        do_issue_agent_key(connection, name=name, by=cast.ada, tools=TOOLS, narrowed_to=tools)
    page = shown(as_(client, cast, "vic"), AGENTS)
    assert f"the core, at most {len(PRESETS['core'])} tools" in page
    assert "1 tool<" in page
    assert "List incidents" in page
    assert "all that the team's tools allow" in page
