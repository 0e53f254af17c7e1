"""``/audit/<id>/``: an entry in words, and what happened about it."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from policies.core.call import EntryKind, Outcome
from policies.models import Entry
from portal.audit.around import around
from tests.conftest import Cast
from tests.portal.test_audit_page import found, note

KEY = "key:5171efe8-a6d0-4555-91a4-6b0d6b19b473"
TARGETS = {"targets": [{"id": "PT4KHLK", "type": "incident"}]}
MINUTE = dt.timedelta(minutes=1)


def shown(client: Client, row: Entry, **query: str) -> str:
    answer = client.get(f"/audit/{row.pk}/" + (f"?{urlencode(query)}" if query else ""))
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_call_is_told_in_groups(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    at = timezone.now()
    row = note(
        "d1",
        at=at,
        details={
            **TARGETS,
            "method": "GET",
            "path": "/incidents/{id}",
            "operation": "getIncident",
            "arguments": {"path": {"id": "PT4KHLK"}, "query": {"note": {"length": 7, "digest": "00ff"}}},
            "client": {"length": 3, "digest": "abcd"},
            "reason": "get_incident is switched on.",
            "policy_version": 12,
            "status": 200,
            "recorded_at": (at + dt.timedelta(milliseconds=60)).isoformat(),
            "upstream": {"status": 200, "milliseconds": 48.5, "attempts": 1, "bytes": 44_120, "request_id": "r-1"},
        },
    )
    page = shown(client, row)
    for words in (
        "GET /incidents/{id}",
        "getIncident",
        "3 characters, digest abcd",
        "incident PT4KHLK",
        "<dd>get_incident is switched on.</dd>",
        "<dd>12</dd>",
        "<dt>PagerDuty took</dt><dd>48.5 ms</dd>",
        "<dt>The portal took</dt><dd>11.5 ms</dd>",
        "<dt>Bytes</dt><dd>44120</dd>",
        "It follows from the record and the entry before it.",
    ):
        assert words in page, words


def test_an_edited_entry_is_called_so(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    row = note("d1")
    Entry.objects.filter(pk=row.pk).update(record=row.record.replace("Payments", "Payment5"))
    assert "It does not follow from the record" in shown(client, row)
    Entry.objects.filter(seq=row.seq - 1).delete()
    assert "The entry before it is not there" in shown(client, row)


def test_an_intent_stands_beside_its_result(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    intent = note("w1", kind=EntryKind.INTENT, outcome=Outcome.INTENDED, details=TARGETS)
    result = note("w1", outcome=Outcome.REFUSED, details={"upstream": {"status": 400}})
    for row, other in ((intent, result), (result, intent)):
        page = shown(client, row, q="tool:list_incidents")
        assert "Before it was sent, and what became of it" in page
        assert f'href="/audit/{other.pk}/?q=tool%3Alist_incidents"' in page
        assert page.index("intended") < page.index("refused") if row is intent else "intended" in page
        assert "incident PT4KHLK" in page
    assert "then refused by PagerDuty" in strip_tags(client.get("/audit/").content.decode())


def test_the_same_target_within_ten_minutes_and_the_calls_of_one_use(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    now = timezone.now()
    note("long ago", at=now - 11 * MINUTE, details=TARGETS)
    note("before", at=now - 9 * MINUTE, details=TARGETS)
    note("other", at=now, details={"targets": [{"id": "PT4KHLX", "type": "incident"}]})
    note("elsewhere", at=now, team_id=cast.search.pk, details=TARGETS)
    note(
        "w1",
        at=now,
        team_id=cast.payments.pk,
        kind=EntryKind.INTENT,
        details={**TARGETS, "use": {"id": "u1", "tool": "x"}},
    )
    row = note("w1", at=now, team_id=cast.payments.pk, details={"use": {"id": "u1", "tool": "x"}})
    note("sister", at=now, team_id=cast.payments.pk, details={"use": {"id": "u1", "tool": "x"}})
    note("stranger", at=now, team_id=cast.payments.pk, details={"use": {"id": "u11", "tool": "x"}})
    note("after", at=now + 9 * MINUTE, team_id=cast.payments.pk, details=TARGETS)
    about = around(row, cast.rhea)
    assert [entry.decision_id for entry in about.target] == ["before", "elsewhere", "after"]
    assert [entry.decision_id for entry in about.use] == ["sister"]
    assert [entry.decision_id for entry in around(row, cast.mina).target] == ["after"]
    page = shown(client, row)
    assert "The same target within ten minutes" in page
    assert "The other calls of the same use of a tool" in page
    assert 'href="/audit/?q=target%3APT4KHLK"' in page


def test_a_session_ends_after_thirty_idle_minutes(client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    client.force_login(cast.rhea)
    now = timezone.now()
    note("yesterday's", at=now - 200 * MINUTE, actor=KEY)
    note("another's", at=now - 100 * MINUTE, actor="key:2")
    note("first", at=now - 59 * MINUTE, actor=KEY, verdict="deny", outcome=Outcome.DENIED)
    row = note("second", at=now - 30 * MINUTE, actor=KEY)
    note("third", at=now - MINUTE, actor=KEY, tool="get_incident")
    note("later", at=now + 40 * MINUTE, actor=KEY)
    session = around(row, cast.rhea).session
    assert session is not None
    assert (session.entries, session.denied, session.tools, session.whole) == (3, 1, 2, True)
    assert "3 entries of 2 tools, 1 not allowed" in shown(client, row)
    assert found(client, session.query) == ["third", "second", "first"]
    # Looked at less far than the session is long.
    monkeypatch.setattr("portal.audit.around.LOOK_AT_COLUMNS", 0)
    session = around(row, cast.rhea).session
    assert session is not None
    assert (session.entries, session.whole) == (1, False)
    assert around(note("person's", actor="user:1"), cast.rhea).session is None


def test_an_entry_costs_so_many_queries(client: Client, cast: Cast, django_assert_max_num_queries: Any) -> None:
    client.force_login(cast.rhea)
    for number in range(30):
        note(f"d{number}", actor=KEY, team_id=cast.payments.pk, details={**TARGETS, "use": {"id": "u1", "tool": "x"}})
    row = Entry.objects.get(decision_id="d15")
    with django_assert_max_num_queries(15):
        assert "This agent" in shown(client, row)


@pytest.mark.parametrize(("who", "status"), [("ada", 200), ("mina", 200), ("omar", 404), ("vic", 404), ("zed", 404)])
def test_who_sees_an_entry(client: Client, cast: Cast, who: str, status: int) -> None:
    row = note("d1", team_id=cast.payments.pk)
    client.force_login(getattr(cast, who))
    assert client.get(f"/audit/{row.pk}/").status_code == status
    assert client.post(f"/audit/{row.pk}/").status_code == 405
