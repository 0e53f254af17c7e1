"""One token serves one team: whoever knows it cannot register it a second time where less is forbidden."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from integrations import actions
from integrations.models import Connection
from policies.actions import Refused, do_create_personal_workspace
from policies.models import Team, User
from tests.conftest import Cast

TOKEN = "u+Payments_0123456789"
SPELLINGS = (
    "{}",
    "  {}\t\r\n",
    "Token token={}",
    "token TOKEN={}",
    "Authorization: Token token={}",
    "AUTHORIZATION:Bearer {}",
    " bearer   {} ",
    "{}=",
    "{}==",
)
OTHERWISE = (
    '"{}"',
    "'{}'",
    'Token token="{}"',
    "{},",
    "{},realm=x",
    "{};x",
    "token={}",
    "Token token=Token token={}",
    "Bearer Bearer {}",
    "{}\n{}",
    "{}\0",
    "{}\u200b",
    "\ufeff{}",
    "{}===",
    "Basic {}",
)
"""What PagerDuty (Rails) could read the same token out of, and is no token here."""


def register(team: Team, token: str, by: User, **changes: Any) -> Connection:
    values = {"name": "Again", "kind": "user", "region": "us", "team_ids": ["PQ9K7I8"], **changes}
    return actions.do_register_token(team, token=token, by=by, **values)


@pytest.fixture
def registered(cast: Cast) -> Connection:
    return register(cast.payments, TOKEN, cast.mina, name="Main")


def test_a_token_is_registered_once_in_whatever_spelling_region_and_kind(cast: Cast, registered: Connection) -> None:
    omars = register(cast.search, "u+Search_0123456789xyz", cast.omar)
    teams = (
        (cast.payments, cast.mina),
        (cast.search, cast.omar),
        (cast.search, cast.ada),
        (do_create_personal_workspace(cast.mina, by=cast.mina), cast.mina),
        (do_create_personal_workspace(cast.vic, by=cast.vic), cast.vic),
    )
    for spelling in SPELLINGS:
        again = spelling.format(TOKEN)
        for team, by in teams:
            for changes in ({}, {"region": "eu"}, {"kind": "oauth"}):
                with pytest.raises(ValidationError, match="already registered") as raised:
                    register(team, again, by, name="Second", **changes)
                assert TOKEN not in str(raised.value)
        for connection, by in ((omars, cast.omar), (registered, cast.mina)):
            with pytest.raises(ValidationError, match="already"):
                actions.do_replace_token(connection, token=again, by=by)
    assert Connection.objects.count() == 2
    assert not Connection.objects.exclude(candidate_fingerprint=None).exists()


def test_what_another_reader_could_take_for_the_token_is_none(cast: Cast, registered: Connection) -> None:
    workspace = do_create_personal_workspace(cast.vic, by=cast.vic)
    for spelling in OTHERWISE:
        again = spelling.format(*[TOKEN] * 2)
        with pytest.raises(ValidationError, match="A PagerDuty token is") as raised:
            register(workspace, again, cast.vic)
        with pytest.raises(ValidationError, match="A PagerDuty token is"):
            actions.do_replace_token(registered, token=again, by=cast.mina)
        assert TOKEN not in str(raised.value)
    assert Connection.objects.count() == 1


def test_a_replacement_that_waits_is_registered_too(cast: Cast, registered: Connection) -> None:
    waiting = "u+Waiting_0123456789"
    actions.do_replace_token(registered, token=waiting, by=cast.mina)
    workspace = do_create_personal_workspace(cast.mina, by=cast.mina)
    with pytest.raises(ValidationError, match="already registered"):
        register(workspace, waiting, cast.mina)
    actions.do_discard_candidate(registered, by=cast.mina)
    assert register(workspace, waiting, cast.mina).team == workspace


def test_what_is_deleted_can_be_registered_again(cast: Cast, registered: Connection) -> None:
    actions.do_delete_connection(registered, by=cast.mina)
    assert register(cast.search, TOKEN, cast.omar).team == cast.search
    with pytest.raises(ValidationError, match="by a team that you do not see"):
        register(cast.payments, TOKEN, cast.mina)


def test_a_workspaces_owner_opens_no_account_to_it(cast: Cast) -> None:
    """What takes an administrator in a shared team takes one here."""
    workspace = do_create_personal_workspace(cast.vic, by=cast.vic)
    with pytest.raises(Refused, match="account key"):
        register(workspace, TOKEN, cast.vic, kind="account")
    with pytest.raises(Refused, match="whole PagerDuty account"):
        register(workspace, TOKEN, cast.vic, team_ids=[], whole_account=True)
    connection = register(workspace, TOKEN, cast.vic)
    with pytest.raises(Refused):
        actions.do_set_bounds(connection, by=cast.vic, whole_account=True)
