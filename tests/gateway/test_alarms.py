"""A stolen key is noticed at once: the signs of a running portal, from outside; once, however many processes see them; and
mailed, whatever becomes of a mail at first."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.db import connection as database
from django.utils import timezone

from integrations import alarms
from integrations.actions import do_issue_agent_key, do_register_token
from integrations.gateway.alarms import DENIALS, DENIALS_SECONDS, Signs, _Denials
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_close_alarm, do_revoke_key
from policies.alarms import Kind, Sign, network_of, note
from policies.models import AgentKey, Alarm, ConfigChange, Entry, KeyNetwork
from tests.conftest import Cast
from tests.gateway.processes import Portal

HOME = {"X-Forwarded-For": "198.51.100.7"}
NEIGHBOUR = {"X-Forwarded-For": "198.51.100.200"}
ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}
NOTE = {"note": {"content": "the disk is full"}}


@pytest.fixture(scope="module")
def proxied(upstream: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A portal behind a trusted proxy, which says where calls come from."""
    folder = tmp_path_factory.mktemp("proxied")
    portal = Portal(folder, upstream[0], {"TRUSTED_PROXIES": "127.0.0.1/32"})
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        portal.start()
        yield portal
    finally:
        portal.close()


def raised(portal: Portal, name: str) -> list[dict[str, Any]]:
    """The alarms of a key by its name, the oldest first."""
    out = portal.shell(
        "import json\nfrom policies.models import Alarm\n"
        f"rows = Alarm.objects.filter(key__name={name!r}).order_by('id').values('kind', 'count', 'signs')\n"
        "print(json.dumps(list(rows)))"
    )
    rows: list[dict[str, Any]] = json.loads(out)
    return rows


def issued(portal: Portal, name: str, more: str = "") -> str:
    secret = portal.shell(
        "from integrations.actions import do_issue_agent_key\nfrom integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\n"
        f"print(do_issue_agent_key(Connection.objects.get(), name={name!r}, by='test', tools=TOOLS, {more})[1])"
    ).strip()
    time.sleep(1.1)  # a new key is known everywhere within a second
    return secret


def test_a_key_from_a_new_network_is_noticed_within_a_second_and_on_record(proxied: Portal) -> None:
    key = issued(proxied, "roamer")
    for where in (HOME, NEIGHBOUR, HOME):
        assert proxied.call("GET", "/incidents", key=key, headers=where).status == 200
    assert raised(proxied, "roamer") == []
    answer = proxied.call("GET", "/incidents", key=key, headers=ELSEWHERE)
    time.sleep(1)
    [alarm] = raised(proxied, "roamer")
    [sign] = alarm["signs"]
    assert (alarm["kind"], sign["ip"], sign["network"]) == ("new_network", "203.0.113.9", "203.0.113.0/24")
    assert (sign["tool"], sign["decision_id"]) == ("list_incidents", answer.headers["x-pagewarden-decision"])
    [entry] = proxied.entries(kind="alarm", record__contains="roamer")
    assert entry["actor"] == "job:alarms"
    assert entry["record"]["details"]["what"] == "new_network"
    assert entry["record"]["details"]["ip"] == "203.0.113.9"
    # Known now: it is not news again, to this process or to the next.
    proxied.call("GET", "/incidents", key=key, headers=ELSEWHERE)
    proxied.stop()
    proxied.start()
    for where in (HOME, ELSEWHERE):
        assert proxied.call("GET", "/incidents", key=key, headers=where).status == 200
    time.sleep(1)
    assert [alarm["count"] for alarm in raised(proxied, "roamer")] == [1]


def test_the_first_write_of_a_key_is_noticed_and_no_later_one(proxied: Portal) -> None:
    key = issued(proxied, "writer")
    assert proxied.call("GET", "/incidents", key=key).status == 200
    first = proxied.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key)
    assert proxied.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key).status == 201
    time.sleep(1)
    [alarm] = raised(proxied, "writer")
    assert (alarm["kind"], alarm["count"]) == ("first_write", 1)
    assert alarm["signs"][0]["decision_id"] == first.headers["x-pagewarden-decision"]
    assert alarm["signs"][0]["tool"] == "add_note_to_incident"


def test_a_burst_of_denials_is_noticed_and_a_call_limit_is_none(proxied: Portal) -> None:
    key = issued(proxied, "prober")
    for _ in range(DENIALS - 1):
        assert proxied.call("DELETE", "/users/PUSR001", key=key).status == 403
    time.sleep(1)
    assert raised(proxied, "prober") == []
    assert proxied.call("DELETE", "/users/PUSR001", key=key).status == 403
    time.sleep(1)
    [alarm] = raised(proxied, "prober")
    assert (alarm["kind"], alarm["count"]) == ("denials", DENIALS)
    busy = issued(proxied, "busy", "calls_per_minute=1")
    statuses = [proxied.call("GET", "/incidents", key=busy).status for _ in range(DENIALS + 5)]
    assert statuses.count(429) >= DENIALS
    time.sleep(1)
    assert raised(proxied, "busy") == []


def test_the_right_key_from_where_it_may_not_be_used_is_a_stranger_to_the_caller_and_an_alarm_to_the_team(
    proxied: Portal,
) -> None:
    key = issued(proxied, "bound", "networks=['198.51.100.0/24']")
    assert proxied.call("GET", "/incidents", key=key, headers=HOME).status == 200
    stranger = proxied.call("GET", "/incidents", key="nobodys", headers=ELSEWHERE)
    for number in range(5):
        refused = proxied.call("GET", "/incidents", key=key, headers={"X-Forwarded-For": f"203.0.{number}.9"})
        assert (refused.status, refused.body) == (401, stranger.body)
    time.sleep(1)
    [alarm] = raised(proxied, "bound")
    # Whoever stole it chooses the networks: one sign an hour.
    assert (alarm["kind"], alarm["count"], alarm["signs"][0]["refused"]) == ("new_network", 1, True)
    assert alarm["signs"][0]["ip"] == "203.0.0.9"


# In this process


@pytest.fixture
def key(cast: Cast, transactional_db: None) -> AgentKey:
    connection = do_register_token(
        cast.payments,
        name="Main",
        token="upstream-TOKEN-0123456789",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )
    return do_issue_agent_key(connection, name="assistant", by=cast.ada, tools=TOOLS)[0]


def sign(key: AgentKey, kind: Kind = Kind.DENIALS, ip: str = "198.51.100.7", at: float = 0.0) -> Sign:
    return Sign(kind, str(key.pk), at or time.time(), ip, "list_incidents", "d1")


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("198.51.100.7", "198.51.100.0/24"),
        ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ("::ffff:198.51.100.7", "198.51.100.0/24"),
        ("nonsense", "nonsense"),
        ("x" * 100, "x" * 49),
    ],
)
def test_the_network_of_an_address(ip: str, network: str) -> None:
    assert network_of(ip) == network


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", [Kind.NEW_NETWORK, Kind.FIRST_WRITE])
def test_what_many_processes_notice_at_once_is_one_alarm_and_one_entry(key: AgentKey, kind: Kind) -> None:
    note(sign(key, Kind.NEW_NETWORK))
    results: list[bool] = []
    ready = threading.Barrier(6)

    def work() -> None:
        ready.wait()
        results.append(note(sign(key, kind, "203.0.113.9")))
        database.close()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 5 + [True]
    assert Alarm.objects.get().count == 1
    assert Entry.objects.filter(kind="alarm").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_first_network_is_home_and_a_network_that_the_key_was_issued_for_is_no_news(key: AgentKey) -> None:
    assert not note(sign(key, Kind.NEW_NETWORK))
    assert note(sign(key, Kind.NEW_NETWORK, "203.0.113.9"))
    AgentKey.objects.filter(pk=key.pk).update(networks=["0.0.0.0/0"])
    assert not note(sign(key, Kind.NEW_NETWORK, "192.0.2.9"))
    assert KeyNetwork.objects.count() == 3


@pytest.mark.django_db(transaction=True)
def test_signs_are_added_to_an_open_alarm_whose_memory_is_bounded(key: AgentKey) -> None:
    for number in range(30):
        note(sign(key, Kind.NEW_NETWORK, f"10.0.{number}.1"))
    alarm = Alarm.objects.get()
    assert (alarm.count, len(alarm.signs), alarm.signs[-1]["ip"]) == (29, 20, "10.0.29.1")


@pytest.mark.django_db(transaction=True)
def test_a_sign_waits_while_the_database_does_not_take_it(key: AgentKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.tasks.mail_alarms.enqueue", lambda: None)
    signs = Signs()
    monkeypatch.setattr(signs, "begin", lambda: None)
    signs.wrote(str(key.pk), "198.51.100.7", time.time(), "", "d1")
    with monkeypatch.context() as broken:
        broken.setattr("integrations.gateway.alarms.note", lambda sign: 1 / 0)
        signs.write()
    assert not Alarm.objects.exists()
    signs.write()
    assert Alarm.objects.get().kind == Kind.FIRST_WRITE


def test_a_burst_is_told_when_it_comes_and_then_each_minute_with_all_that_came_meanwhile() -> None:
    denials = _Denials()
    slow = [denials.burst(at * DENIALS_SECONDS / 10) for at in range(100)]
    assert not any(slow)
    start = 100_000.0
    told = [denials.burst(start + number) for number in range(200)]
    assert [(number, count) for number, count in enumerate(told) if count] == [
        (DENIALS - 1, DENIALS),
        (DENIALS + 59, 60),
        (DENIALS + 119, 60),
        (DENIALS + 179, 60),
    ]


# Mails


@pytest.mark.django_db(transaction=True)
def test_the_managers_are_mailed_once_with_the_way_to_the_button(key: AgentKey, cast: Cast) -> None:
    note(sign(key, Kind.NEW_NETWORK))
    note(sign(key, Kind.NEW_NETWORK, "203.0.113.9"))
    now = timezone.now()
    assert (alarms.mail_due(now), alarms.mail_due(now)) == (1, 0)
    [sent] = mail.outbox
    assert sent.to == ["mina@example.com"]
    assert sent.subject == "The agent key assistant of Payments was used from a new network"
    assert "from 203.0.113.9 (203.0.113.0/24), where it had never been, for List incidents" in sent.body
    assert f"/teams/payments/agents/#alarm-{Alarm.objects.get().pk}" in sent.body
    assert "pwk_" + key.prefix in sent.body


@pytest.mark.django_db(transaction=True)
def test_a_mail_that_fails_is_sent_later(key: AgentKey, monkeypatch: pytest.MonkeyPatch) -> None:
    note(sign(key))
    now = timezone.now()
    with monkeypatch.context() as broken:
        broken.setattr("integrations.alarms.send_mail", lambda *_: 1 / 0)
        assert alarms.mail_due(now) == 0
    assert alarms.mail_due(now) == 0
    assert alarms.mail_due(now + dt.timedelta(minutes=1)) == 1


@pytest.mark.django_db(transaction=True)
def test_one_kind_of_one_key_is_mailed_no_more_than_so_often_and_then_all_of_it(key: AgentKey) -> None:
    note(sign(key, Kind.NEW_NETWORK))
    note(sign(key, Kind.NEW_NETWORK, "203.0.113.9"))
    now = timezone.now()
    alarms.mail_due(now)
    do_close_alarm(Alarm.objects.get(), by="test")
    for last in (1, 2):
        note(sign(key, Kind.NEW_NETWORK, f"192.0.{last}.1", now.timestamp() + 1))
    assert alarms.mail_due(now + dt.timedelta(minutes=59)) == 0
    assert alarms.mail_due(now + dt.timedelta(minutes=61)) == 1
    assert "192.0.1.1" in mail.outbox[-1].body
    assert "192.0.2.1" in mail.outbox[-1].body


@pytest.mark.django_db(transaction=True)
def test_a_sign_that_comes_while_a_mail_is_sent_is_in_the_next_one(
    key: AgentKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(sign(key))
    now = timezone.now()
    with monkeypatch.context() as slow:
        slow.setattr("integrations.alarms.send_mail", lambda *_: note(sign(key, ip="203.0.113.9")))
        assert alarms.mail_due(now) == 1
    assert alarms.mail_due(now + dt.timedelta(days=1, minutes=1)) == 1
    assert "203.0.113.9" in mail.outbox[-1].body


@pytest.mark.django_db(transaction=True)
def test_a_closed_alarm_is_not_mailed_and_a_revoked_key_has_none(key: AgentKey, cast: Cast) -> None:
    note(sign(key))
    do_close_alarm(Alarm.objects.get(), by=cast.mina, reason="a trial")
    assert ConfigChange.objects.filter(action="close_alarm", actor="mina@example.com").exists()
    assert alarms.mail_due(timezone.now()) == 0
    assert note(sign(key))
    do_revoke_key(key, by=cast.mina)
    assert not Alarm.objects.open().exists()
    assert not note(sign(key))
    assert alarms.mail_due(timezone.now()) == 0
    assert mail.outbox == []
