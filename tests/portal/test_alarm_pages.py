"""Alarms on the pages: whoever may revoke a key sees them and answers them; auditors read; others learn nothing."""

from __future__ import annotations

import time

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from integrations.actions import do_issue_agent_key
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import Refused, do_close_alarm
from policies.alarms import Kind, Sign, note
from policies.models import AgentKey, Alarm, ConfigChange, Entry, KeyNetwork
from tests.conftest import Cast

AGENTS = "/teams/payments/agents/"


@pytest.fixture
def alarm(cast: Cast, connection: Connection) -> Alarm:
    """Payments' key is at home in one network and came from another."""
    key, _ = do_issue_agent_key(connection, name="assistant", by=cast.ada, tools=TOOLS)
    for ip in ("198.51.100.7", "203.0.113.9"):
        note(Sign(Kind.NEW_NETWORK, str(key.pk), time.time(), ip, "list_incidents", f"decision-{ip}"))
    return Alarm.objects.get()


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


@pytest.mark.parametrize(("who", "told"), [("ada", True), ("mina", True), ("vic", False), ("omar", False)])
def test_the_home_page_tells_whoever_may_revoke_the_key(
    client: Client, cast: Cast, alarm: Alarm, who: str, told: bool
) -> None:
    shown = as_(client, cast, who).get("/").content.decode()
    assert ("assistant of Payments was used from a new network" in shown) is told
    assert (f'href="{AGENTS}#alarm-{alarm.pk}"' in shown) is told
    assert ("203.0.113.9" in shown) is told


@pytest.mark.parametrize(("who", "answers"), [("ada", True), ("mina", True), ("rhea", False)])
def test_the_agents_page_says_what_when_from_where_and_offers_both_answers(
    client: Client, cast: Cast, alarm: Alarm, who: str, answers: bool
) -> None:
    shown = as_(client, cast, who).get(AGENTS).content.decode()
    assert f'id="alarm-{alarm.pk}"' in shown
    assert "It was used from 203.0.113.9 (203.0.113.0/24), where it had never been, for List incidents." in shown
    assert "/audit/?decision_id=decision-203.0.113.9" in shown
    assert "198.51.100.0/24, 203.0.113.0/24" in shown
    assert ("That was us" in shown) is answers
    assert ("Revoke the key" in shown) is answers


def test_members_see_the_page_without_alarms_or_networks(client: Client, cast: Cast, alarm: Alarm) -> None:
    shown = as_(client, cast, "vic").get(AGENTS).content.decode()
    assert "assistant" in shown
    assert "Was that you?" not in shown
    assert "203.0.113" not in shown
    assert "198.51.100" not in shown


def test_that_was_us_closes_it_on_record_and_the_network_is_known(client: Client, cast: Cast, alarm: Alarm) -> None:
    values = {"action": "close", "alarm": alarm.pk, "key": alarm.key_id, "reason": "the new office"}
    shown = as_(client, cast, "mina").post(AGENTS, values, follow=True).content.decode()
    assert "it is known of assistant from now on" in shown
    assert "Was that you?" not in shown
    alarm.refresh_from_db()
    assert (alarm.closed_by, alarm.mail_due_at) == ("mina@example.com", None)
    change = ConfigChange.objects.get(action="close_alarm")
    assert (change.actor, change.reason, change.team_id) == ("mina@example.com", "the new office", cast.payments.pk)
    assert not note(Sign(Kind.NEW_NETWORK, str(alarm.key_id), time.time(), "203.0.113.77"))
    # A second click says the same and changes nothing.
    client.post(AGENTS, values)
    assert ConfigChange.objects.filter(action="close_alarm").count() == 1


def test_one_click_revokes_the_key_and_closes_what_was_open(client: Client, cast: Cast, alarm: Alarm) -> None:
    values = {"action": "revoke", "alarm": alarm.pk, "key": alarm.key_id}
    shown = as_(client, cast, "mina").post(AGENTS, values, follow=True).content.decode()
    assert "assistant is revoked: its next call is refused." in shown
    assert AgentKey.objects.get().revoked_at is not None
    assert not Alarm.objects.open().exists()


@pytest.mark.parametrize("action", ["close", "revoke"])
@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_nobody_else_answers(client: Client, cast: Cast, alarm: Alarm, action: str, who: str, status: int) -> None:
    values = {"action": action, "alarm": alarm.pk, "key": alarm.key_id}
    assert as_(client, cast, who).post(AGENTS, values).status_code == status
    assert Alarm.objects.open().count() == 1
    assert AgentKey.objects.get().revoked_at is None


@pytest.mark.parametrize("value", ["", "x", "999999"])
def test_another_teams_alarm_and_none_are_not_found(client: Client, cast: Cast, alarm: Alarm, value: str) -> None:
    as_(client, cast, "omar")
    for number in (value, str(alarm.pk)):
        assert client.post("/teams/search/agents/", {"action": "close", "alarm": number}).status_code == 404
    assert Alarm.objects.open().count() == 1


def test_a_look_changes_nothing_whatever_the_address_says(client: Client, cast: Cast, alarm: Alarm) -> None:
    as_(client, cast, "mina").get(f"{AGENTS}?action=revoke&alarm={alarm.pk}&key={alarm.key_id}")
    assert AgentKey.objects.get().revoked_at is None
    assert Alarm.objects.open().count() == 1
    assert client.put(AGENTS).status_code == 405


def test_without_its_token_a_click_from_elsewhere_does_nothing(cast: Cast, alarm: Alarm) -> None:
    client = as_(Client(enforce_csrf_checks=True), cast, "mina")
    assert client.post(AGENTS, {"action": "revoke", "key": alarm.key_id}).status_code == 403
    assert AgentKey.objects.get().revoked_at is None


def test_rows_are_filtered_by_who_asks(cast: Cast, alarm: Alarm) -> None:
    seen = {"ada": (1, 1), "mina": (1, 1), "rhea": (1, 0), "vic": (0, 0), "omar": (0, 0), "zed": (0, 0)}
    for who, (reads, edits) in seen.items():
        person = getattr(cast, who)
        assert (Alarm.objects.visible_to(person).count(), Alarm.objects.editable_by(person).count()) == (reads, edits)
        assert KeyNetwork.objects.visible_to(person).count() == 2 * reads
    assert Alarm.objects.visible_to(None).count() == 0
    with pytest.raises(Refused):
        do_close_alarm(alarm, by=cast.vic)


def test_the_audit_page_tells_of_alarms_and_of_refused_keys(client: Client, cast: Cast, alarm: Alarm) -> None:
    shown = as_(client, cast, "mina").get("/audit/?kind=alarm").content.decode()
    assert "assistant was used from a new network, from 203.0.113.9" in shown
    row = Entry.objects.get(kind="alarm")
    assert client.get(f"/audit/{row.pk}/").status_code == 200
    assert as_(client, cast, "omar").get(f"/audit/{row.pk}/").status_code == 404


def test_the_agents_page_asks_no_more_for_more_alarms(client: Client, cast: Cast, alarm: Alarm) -> None:
    as_(client, cast, "mina").get(AGENTS)
    with CaptureQueriesContext(connection) as one:
        client.get(AGENTS)
    for kind in (Kind.FIRST_WRITE, Kind.DENIALS):
        note(Sign(kind, str(alarm.key_id), time.time(), "203.0.113.9", "list_incidents", "d2", 20))
    with CaptureQueriesContext(connection) as three:
        client.get(AGENTS)
    assert len(three) == len(one)
