"""The history of a connection's incidents: what is mirrored of it is what the account itself tells, however it is read."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from integrations import actions, history
from integrations.models import Connection
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_tokens
from tests.conftest import Cast
from tests.mirrored import at, mirrored

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = 86_400
TOKENS = demo_tokens(7)

pytestmark = pytest.mark.django_db


def register(cast: Cast, whose: str = "account", **changes: Any) -> Connection:
    values: dict[str, Any] = {
        "name": "Main",
        "token": TOKENS[whose].value,
        "kind": TOKENS[whose].kind,
        "region": "us",
        "by": cast.ada,
        "whole_account": "team_ids" not in changes and "service_ids" not in changes,
        **changes,
    }
    return actions.do_register_token(cast.payments, **values)


def told(sandbox: Sandbox, since: float, until: float) -> dict[str, tuple[int, list[tuple[int, str]]]]:
    """What the account itself knows: of each incident that began in a time, when, and its log's times and types."""
    return {
        one.id: (int(one.created), sorted((int(each.at), each.type) for each in one.happenings() if each.at <= until))
        for one in sandbox.world.incidents
        if since <= int(one.created) and one.created <= until
    }


NAMES = {"annotate": "other", "custom_field_value_change": "other"}


def test_each_incident_and_each_entry_is_there_once(cast: Cast) -> None:
    connection = register(cast)
    sandbox = Sandbox(7, NOW)
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=20)
        found = history.history(connection)
        assert found.known == Span(int(NOW.timestamp()) - 20 * DAY, int(NOW.timestamp()))
        expected = told(sandbox, *found.known)
        kept = history.incidents(connection, expected)
    assert set(found.log.ids) == set(expected) == set(kept)
    for id, (created, entries) in expected.items():
        assert kept[id].created == created
        assert sorted((step.at, step.kind) for step in kept[id].steps) == sorted(
            (at, NAMES.get(kind, kind)) for at, kind in entries
        )
