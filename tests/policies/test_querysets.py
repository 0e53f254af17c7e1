"""Every list is filtered by who asks, and starts from nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser

from integrations.models import Connection, ConnectionTest
from policies.models import AgentKey, ConfigChange, Entry, Membership, Stream, Team, ToolSetting, User
from tests.conftest import Cast


@pytest.fixture
def rows(cast: Cast) -> Cast:
    """One row of everything in each team."""
    from django.utils import timezone

    from integrations.fields import seal

    stream = Stream.objects.create(name="s", created_at=timezone.now())
    for number, team in enumerate((cast.payments, cast.search), 1):
        ToolSetting.objects.create(team=team, tool="list", state="on")
        AgentKey.objects.create(
            team=team, name="a", prefix=f"prefix{number}", digest="d", created_by="x", calls_per_minute=1
        )
        ConfigChange.objects.create(actor="x", team_id=team.pk, action="a", target="t", policy_version=1)
        Entry.objects.create(stream=stream, seq=number, at=timezone.now(), kind="result", team_id=team.pk, hash="h")
        connection = Connection(
            team=team, name="c", kind="account", fingerprint=str(number), from_email="a@example.com"
        )
        connection.token = seal(connection.pk, f"token-{number}-0123456789")
        connection.save()
        ConnectionTest.objects.create(connection=connection, passed=True, message="m", asked_by="x")
    return cast


MODELS = (ToolSetting, AgentKey, Membership, Connection, ConnectionTest, Team)
RECORD = (ConfigChange, Entry)


def teams_of(rows: Any) -> set[str]:
    return {
        row.name if isinstance(row, Team) else (row.team if hasattr(row, "team") else row.connection.team).name
        for row in rows
    }


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
@pytest.mark.parametrize(
    ("who", "sees", "edits"),
    [
        ("ada", {"Payments", "Search"}, {"Payments", "Search"}),
        ("rhea", {"Payments", "Search"}, set()),
        ("mina", {"Payments"}, {"Payments"}),
        ("vic", {"Payments"}, set()),
        ("omar", {"Search"}, {"Search"}),
        ("zed", set(), set()),
    ],
)
def test_rows_of_teams(rows: Cast, model: Any, who: str, sees: set[str], edits: set[str]) -> None:
    user = getattr(rows, who)
    assert teams_of(model.objects.visible_to(user)) == sees
    assert teams_of(model.objects.editable_by(user)) == edits


@pytest.mark.parametrize("model", RECORD, ids=lambda model: model.__name__)
@pytest.mark.parametrize(("who", "count"), [("ada", 2), ("rhea", 2), ("mina", 1), ("omar", 1), ("vic", 0), ("zed", 0)])
def test_the_record_is_for_managers_and_auditors_and_nobody_edits_it(
    rows: Cast, model: Any, who: str, count: int
) -> None:
    user = getattr(rows, who)
    assert model.objects.visible_to(user).count() == count
    assert not model.objects.editable_by(user).exists()


@pytest.mark.parametrize("model", [*MODELS, *RECORD, User], ids=lambda model: model.__name__)
def test_nobody_and_whoever_was_switched_off_sees_nothing(rows: Cast, model: Any) -> None:
    rows.ada.is_active = False
    for user in (None, AnonymousUser(), rows.ada):
        assert not model.objects.visible_to(user).exists()
        if model is not User:
            assert not model.objects.editable_by(user).exists()


def test_people_see_those_they_share_a_team_with(rows: Cast) -> None:
    assert set(User.objects.visible_to(rows.mina)) == {rows.mina, rows.vic}
    assert set(User.objects.visible_to(rows.zed)) == {rows.zed}
    assert User.objects.visible_to(rows.rhea).count() == 6
