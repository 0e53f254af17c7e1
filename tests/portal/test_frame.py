"""What stands about every page: where one may go and is, the other teams' pages of the same kind, and what goes wrong."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import Client

from integrations.actions import do_issue_agent_key, do_register_token
from integrations.pagerduty.catalog import TOOLS
from policies.models import Membership, Team
from tests.conftest import Cast

EVERYBODY = {"Teams", "Catalogue", "Schedules", "Coverage", "Escalations", "Load", "Explain"}
WHO = ("ada", "mina", "vic", "rhea", "zed")


def page(client: Client, path: str) -> str:
    return client.get(path).content.decode()


def places(html: str) -> dict[str, tuple[str, str]]:
    """What the navigation offers: name to address and where it says that one is."""
    nav = html.split('aria-label="Pages"')[1].split("</nav>")[0].split("<details")[0]
    found = re.findall(r'<a href="([^"]+)"(?: aria-current="(\w+)")?\s*>([^<]+)</a>', nav)
    return {name: (path, current) for path, current, name in found}


@pytest.mark.parametrize("who", WHO)
def test_the_navigation_offers_what_one_may_open_and_nothing_else(client: Client, cast: Cast, who: str) -> None:
    client.force_login(getattr(cast, who))
    offered = places(page(client, "/"))
    assert set(offered) == {
        "ada": {*EVERYBODY, "Audit", "Access", "Grid", "People", "Administration"},
        "mina": {*EVERYBODY, "Audit", "Access"},
        "rhea": {*EVERYBODY, "Audit", "Access", "Grid", "People"},
    }.get(who, EVERYBODY)
    for path, _ in offered.values():
        assert client.get(path).status_code == 200


def test_the_navigation_says_where_one_is(client: Client, cast: Cast) -> None:
    client.force_login(cast.ada)
    assert {name: here for name, (_, here) in places(page(client, "/teams/")).items() if here} == {"Teams": "page"}
    inside = places(page(client, "/teams/payments/tools/"))
    assert {name: here for name, (_, here) in inside.items() if here} == {"Teams": "true"}


def switches(html: str) -> dict[str, str]:
    menu = html.split('aria-label="Pages"')[1].split("</nav>")[0].partition("<details")[2]
    return {name: path for path, name in re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', menu)}


def test_another_team_is_entered_at_the_same_kind_of_page(client: Client, cast: Cast) -> None:
    Membership.objects.create(user=cast.mina, team=cast.search, role="member")
    row = do_register_token(
        cast.payments, name="Main", token="u+abcdefghij1234567890", kind="account", region="us", by=cast.ada,
        whole_account=True,
    )  # fmt: skip
    key = do_issue_agent_key(row, name="bot", by=cast.ada, tools=TOOLS)[0]
    client.force_login(cast.ada)
    for path, there in (
        ("/teams/payments/agents/", "/teams/search/agents/"),
        ("/teams/payments/tools/history/", "/teams/search/tools/history/"),
        ("/teams/payments/tools/preset/core/", "/teams/search/tools/preset/core/"),
        # There is no such connection and no such key there: where the others are listed.
        (f"/teams/payments/connections/{row.pk}/", "/teams/search/connections/"),
        (f"/teams/payments/agents/{key.pk}/connect/", "/teams/search/agents/"),
        ("/audit/", "/teams/search/"),
    ):
        assert switches(page(client, path))["Search"] == there
    # Of a team that she only reads Mina gets no page of managers'.
    client.force_login(cast.mina)
    assert switches(page(client, "/teams/payments/tools/writes-off/"))["Search"] == "/teams/search/tools/"
    # There is nowhere to go from the only team.
    client.force_login(cast.vic)
    assert switches(page(client, "/teams/payments/tools/")) == {}
    assert switches(page(client, "/account/")) == {"Payments": "/teams/payments/"}


def test_of_many_teams_the_first_are_offered_in_one_question(
    client: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    Team.objects.bulk_create(Team(name=f"Team {number:03}", slug=f"team-{number}") for number in range(200))
    client.force_login(cast.ada)
    with django_assert_max_num_queries(9):  # session, person, stops, teams, and the page's own five
        offered = switches(page(client, "/account/"))
    assert len(offered) == 13
    assert offered["All teams"] == "/teams/"


# What goes wrong


def test_errors_name_the_remedy(client: Client, cast: Cast) -> None:
    client.force_login(cast.vic)
    missing = client.get("/teams/search/tools/")
    assert missing.status_code == 404
    assert "a team that you are not in" in missing.content.decode()
    assert 'id="search"' in missing.content.decode()
    refused = client.get("/grid/")
    assert refused.status_code == 403
    assert "for administrators and auditors" in refused.content.decode()
    broken = client.get("/", headers={"host": "elsewhere.example"})
    assert broken.status_code == 400
    assert "PUBLIC_URL" in broken.content.decode()


def test_a_form_that_is_too_old_is_answered_with_what_to_do(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.vic)
    refused = client.post("/account/time-zone/", {"time_zone": "UTC"})
    assert refused.status_code == 403
    told = refused.content.decode()
    assert "Go back, reload the page and send it again" in told
    assert "<style" not in told


def test_what_is_broken_is_told_without_the_database(client: Client, cast: Cast) -> None:
    client.force_login(cast.vic)
    client.raise_request_exception = False

    def away(*_: Any) -> None:
        raise OperationalError("the database is away")

    with connection.execute_wrapper(away):
        answer = client.get("/teams/")
    assert answer.status_code == 500
    assert "tell an administrator" in answer.content.decode()
    assert "database is away" not in answer.content.decode()
