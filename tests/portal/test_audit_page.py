"""``/audit/``: what each filter finds and for whom, how pages follow one another, and that no page looks at too much."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from integrations.actions import do_issue_agent_key
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome
from policies.journal import append_in_transaction
from policies.models import AgentKey, Entry, Stream
from portal.audit import search
from portal.audit.query import BadQuery, parse
from tests.conftest import Cast

HOSTILE = '<script>alert(1)</script> "bot" \\ ünï'


@pytest.fixture
def key(cast: Cast, connection: Connection) -> AgentKey:
    return do_issue_agent_key(connection, name="On-call bot", by=cast.ada, tools=TOOLS)[0]


def note(decision: str, *, stream: str = "configuration", **values: Any) -> Entry:
    """An entry of a call, as the pipeline writes it."""
    details = {
        "actor": {"kind": "agent", "id": "key:1", "name": "Bot"},
        "door": "mcp",
        "risk": "low",
        "rule": "setting",
        "team": "Payments",
        **values.pop("details", {}),
    }
    entry: dict[str, Any] = {
        "kind": EntryKind.RESULT,
        "at": timezone.now(),
        "tool": "list_incidents",
        "verdict": "allow",
    } | values
    entry.setdefault("outcome", Outcome.DONE)
    with transaction.atomic():
        append_in_transaction(NewEntry(decision_id=decision, details=details, **entry), stream=stream)
    return Entry.objects.get(decision_id=decision, kind=entry["kind"])


def found(client: Client, text: str, **more: Any) -> list[str]:
    """The decisions that a query finds, the newest first."""
    shown = client.get(f"/audit/?{urlencode({'q': text, **more})}").content.decode()
    assert 'id="problems"' not in shown, shown.split('id="problems"')[1][:300]
    pks = re.findall(r'href="/audit/(\d+)/', shown)
    names = dict(Entry.objects.filter(pk__in=pks).values_list("pk", "decision_id"))
    return [names[int(pk)] for pk in pks]


def test_each_filter_finds_what_it_says(client: Client, cast: Cast, connection: Connection, key: AgentKey) -> None:
    client.force_login(cast.rhea)
    actor = f"key:{key.pk}"
    now = timezone.now()
    note("plain")
    note("team", team_id=cast.payments.pk)
    note("agent", actor=actor, details={"actor": {"kind": "agent", "id": actor, "name": "On-call bot"}})
    note("gone", actor="key:2", details={"actor": {"kind": "agent", "id": "key:2", "name": HOSTILE}})
    note("person", actor=f"user:{cast.mina.pk}", details={"door": "web"})
    note("tool", tool="get_incident")
    note("risk", details={"risk": "high"})
    note("denied", verdict="deny", outcome=Outcome.DENIED)
    note("connection", resource=str(connection.pk))
    note("closed", resource="x", details={"connection": "Closed", "credential": "pwk_1"})
    note(
        "target", details={"targets": [{"id": "PT4KHLK", "type": "incident"}], "arguments": {"path": {"id": "PT4KHLK"}}}
    )
    note("use", details={"use": {"id": "u1", "tool": "get_incident"}})
    note("revealed", details={"revealed": {"keys": 1}})
    note("old", at=now - dt.timedelta(days=20))
    note("ancient", at=now - dt.timedelta(days=90))
    note("pretender", details={"reason": '"risk":"high","rule": and "door":"web", and "revealed":{'})
    for text, decisions in {
        f"team:{cast.payments.slug} kind:result": ["team"],
        "team:PAYMENTS kind:result": ["team"],
        f"team:{cast.payments.pk} kind:result": ["team"],
        'agent:"on-call bot"': ["agent"],
        f"agent:pwk_{key.prefix}": ["agent"],
        f"agent:{actor}": ["agent"],
        'agent:"{}"'.format(HOSTILE.replace("\\", "\\\\").replace('"', '\\"')): ["gone"],
        "person:mina@example.com": ["person"],
        "person:Mina": ["person"],
        "tool:get_incident": ["tool"],
        "risk:high": ["risk"],
        "verdict:deny": ["denied"],
        "outcome:denied": ["denied"],
        "connection:Main": ["connection"],
        "connection:Closed": ["closed"],
        "door:web": ["person"],
        "target:PT4KHLK": ["target"],
        "use:u1": ["use"],
        "decision:plain": ["plain"],
        "revealed:yes": ["revealed"],
        "kind:result until:30d": ["ancient"],
        "kind:result until:7d": ["ancient", "old"],
        "kind:result since:30d until:7d": ["old"],
        "pt4khlk": ["target"],
        '"Get incident"': ["tool"],
        "<script>": ["gone"],
        "risk:high verdict:deny": [],
    }.items():
        assert found(client, text) == decisions, text


def test_the_portals_own_calls_are_hidden_on_request_and_say_for_whom_they_were_made(
    client: Client, cast: Cast
) -> None:
    client.force_login(cast.rhea)
    for decision, asked in (("test", "mina@example.com"), ("scheduled", "")):
        note(decision, actor="job:connection_test", details={"on_behalf_of": asked} if asked else {})
    note("noticed", kind=EntryKind.ALARM, actor="job:alarms", details={"what": "denials", "by": "job:alarms"})
    note("call", actor="key:1")
    assert found(client, "kind:result") == ["call", "scheduled", "test"]
    shown = client.get("/audit/").content.decode()
    assert "the portal (connection test), for mina@example.com" in shown
    (hide,) = re.findall(r'href="([^"]+)">Hide the portal\'s own calls', shown)
    assert hide == "/audit/?q=jobs%3Ahidden"
    assert [each for each in found(client, "jobs:hidden") if not each.startswith("str-")][:2] == ["call", "noticed"]
    assert "Show the portal's own calls" in client.get(hide).content.decode()


def test_names_are_looked_up_among_what_one_sees(client: Client, cast: Cast, key: AgentKey) -> None:
    note("of payments", team_id=cast.payments.pk, actor=f"key:{key.pk}")
    note("of search", team_id=cast.search.pk, actor="key:2")
    note("of none", actor="key:3")
    for who, decisions in {
        "ada": ["of none", "of search", "of payments"],
        "rhea": ["of none", "of search", "of payments"],
        "mina": ["of payments"],
        "omar": ["of search"],
        "vic": [],
        "zed": [],
    }.items():
        client.force_login(getattr(cast, who))
        assert found(client, "kind:result") == decisions, who
        if who not in ("ada", "rhea"):
            shown = client.get(f"/audit/?{urlencode({'q': 'team:search'})}").content.decode()
            assert ("You see no team “search”." in shown) is (who != "omar"), who
    client.force_login(cast.omar)
    assert found(client, 'agent:"On-call bot"') == []
    assert found(client, f"team:{cast.payments.pk} kind:result") == []
    assert found(client, "decision:of") == []


def test_the_form_leads_to_the_address_of_its_query(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    answer = client.get("/audit/?form=1&verdict=deny&agent=On-call+bot&words=checkout&since=7d&tool=&team=payments")
    assert answer.status_code == 302
    text = 'team:payments agent:"On-call bot" verdict:deny since:7d checkout'
    assert answer["Location"] == f"/audit/?{urlencode({'q': text})}"
    shown = client.get(answer["Location"]).content.decode()
    assert f'value="{text}"'.replace('"On-call bot"', "&quot;On-call bot&quot;") in shown
    assert '<option value="deny" selected>' in shown
    assert '<option value="payments" selected>' in shown
    assert '<option value="7d" selected>' in shown
    assert 'value="On-call bot"' in shown
    wrong = client.get("/audit/?form=1&verdict=maybe&agent=kept").content.decode()
    assert "a verdict is one of allow, deny" in wrong
    assert 'value="kept"' in wrong


def test_links_from_elsewhere_name_their_filters_one_by_one(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    shown = client.get(f"/audit/?kind=alarm&team={cast.payments.pk}").content.decode()
    assert 'value="kind:alarm team:payments"' in shown
    assert 'value="decision:d1"' in client.get("/audit/?decision_id=d1").content.decode()


def test_the_filter_survives_in_every_link(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    for number in range(120):
        note(f"d{number}", tool="get_incident")
    address = f"/audit/?{urlencode({'q': 'tool:get_incident'})}"
    shown = client.get(address).content.decode()
    entries = re.findall(r'href="(/audit/\d+/[^"]*)"', shown)
    assert len(entries) == 50
    assert all(link.endswith("?q=tool%3Aget_incident") for link in entries)
    assert address in client.get(entries[0]).content.decode()
    times = re.findall(r'href="(/audit/\?q=[^"]*since[^"]*)"', shown)
    assert len(times) == 4
    assert all("tool%3Aget_incident" in link for link in times)


def test_pages_follow_one_another_both_ways_without_a_gap(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    for number in range(120):
        note(f"d{number}", tool="get_incident" if number % 2 else "list_incidents")
    everything = [f"d{number}" for number in range(119, -1, -2)]
    link = re.compile(r'<a href="([^"]*)"[^>]*>(Older|Newer) entries')
    address, pages = f"/audit/?{urlencode({'q': 'tool:get_incident'})}", []
    for _ in range(2):
        shown = client.get(address).content.decode()
        pages.append(re.findall(r'href="/audit/(\d+)/', shown))
        links = {which: unescape(to) for to, which in link.findall(shown)}
        address = links.get("Older", "")
    names = dict(Entry.objects.values_list("pk", "decision_id"))
    assert [names[int(pk)] for page in pages for pk in page] == everything
    assert address == ""
    first = client.get(links["Newer"]).content.decode()
    assert re.findall(r'href="/audit/(\d+)/', first) == pages[0]
    assert client.get("/audit/?before=0").status_code == 200
    assert client.get("/audit/?after=0").status_code == 200
    assert client.get(f"/audit/?after={'9' * 18}").status_code == 200


def test_a_page_looks_at_so_many_entries_and_goes_on_from_there(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "LOOK_AT_COLUMNS", 10)
    client.force_login(cast.rhea)
    note("rare", tool="get_incident")
    for number in range(30):
        note(f"d{number}")
    address, seen = f"/audit/?{urlencode({'q': 'tool:get_incident'})}", 0
    while not re.search(
        r'href="/audit/\d+/', shown := client.get(address, headers={"HX-Request": "true"}).content.decode()
    ):
        assert "Nothing here" not in shown
        assert "Looked back to" in shown
        again = re.search(r'<a href="([^"]*)" hx-get="([^"]*)"', shown)
        assert again is not None
        assert again[1] == again[2]
        address, seen = unescape(again[1]), seen + 1
    assert seen == 3


def test_what_was_spooled_is_found_by_its_own_time(client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "NEAR", 1)
    client.force_login(cast.rhea)
    hour = dt.timedelta(hours=1)
    now = timezone.now()
    for number in range(40):
        note(f"before {number}", at=now - 10 * hour)
    for number in range(40):
        told = {"spooled": {"at": "x", "confirmed": "y"}}
        note(f"spooled {number}", at=now - 8 * hour, details=told, stream="spool/host/1/x")
    Stream.objects.filter(name="spool/host/1/x").update(created_at=now - 2 * hour)
    first = Entry.objects.get(stream__name="spool/host/1/x", seq=1)
    Entry.objects.filter(pk=first.pk).update(at=now - 8 * hour)
    for number in range(40):
        note(f"after {number}", at=now - hour)
    for text, wanted in {
        "kind:result since:9h until:7h": {"spooled"},
        "kind:result since:9h": {"spooled", "after"},
        "kind:result until:7h": {"before", "spooled"},
        "kind:result until:9h": {"before"},
        "kind:result since:3h": {"after"},
    }.items():
        where = search.scope(parse(text), cast.rhea, now)
        names = {entry.decision_id.split()[0] for entry in search.page(where, size=500).entries}
        assert names == wanted, text
        assert len(search.page(where, size=500).entries) == 40 * len(wanted)


@pytest.mark.parametrize(
    ("text", "queries"),
    [("", 17), ('agent:"On-call bot"', 18), ("since:7d until:1d risk:low", 19), ("team:payments", 18)],
)
@pytest.mark.parametrize("who", ["ada", "mina"])
def test_a_page_costs_so_many_queries(
    client: Client,
    cast: Cast,
    key: AgentKey,
    django_assert_max_num_queries: Any,
    text: str,
    queries: int,
    who: str,
) -> None:
    for number in range(70):
        note(f"d{number}", team_id=cast.payments.pk, actor=f"key:{key.pk}")
        note(f"w{number}", team_id=cast.payments.pk, actor=f"key:{key.pk}", kind=EntryKind.INTENT)
    client.force_login(getattr(cast, who))
    with django_assert_max_num_queries(queries):
        assert client.get(f"/audit/?{urlencode({'q': text})}").status_code == 200


def test_hostile_text_does_nothing(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    details = {"actor": {"kind": "agent", "id": "x", "name": f"{HOSTILE}\u202e{'x' * 10_000}"}, "targets": "none"}
    row = note("hostile", details={**details, "targets": [{"id": HOSTILE, "type": HOSTILE}, 7, {"id": {"length": 3}}]})
    note("odd", details=details)
    for address in ("/audit/", f"/audit/{row.pk}/", f"/audit/?{urlencode({'q': HOSTILE})}"):
        shown = client.get(address).content.decode()
        assert "<script>alert" not in shown
        assert "\u202e" not in shown
    with pytest.raises(BadQuery):
        parse("agent:\x00")


@pytest.mark.parametrize("who", ["ada", "mina", "vic", "rhea", "zed"])
def test_the_audit_is_only_read(client: Client, cast: Cast, who: str) -> None:
    client.force_login(getattr(cast, who))
    assert client.post("/audit/?q=tool:get_incident").status_code == 405


def test_strangers_do_not_search(client: Client, cast: Cast) -> None:
    assert client.get("/audit/?q=verdict:deny")["Location"].startswith("/sign-in/")


def test_whoever_follows_gets_what_is_new_and_nothing_else(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    note("d1", tool="get_incident")
    still = client.get("/audit/?q=tool:get_incident").content.decode()
    assert "every 3s" not in still
    assert 'href="/audit/?q=tool%3Aget_incident&amp;live=1"' in still
    shown = client.get("/audit/?q=tool:get_incident&live=1").content.decode()
    again = re.search(r'data-live hx-get="([^"]*)"', shown)
    assert again is not None
    address, asking = unescape(again[1]), {"HX-Request": "true"}
    assert client.get(address, headers=asking).status_code == 204
    note("d2")
    assert client.get(address, headers=asking).status_code == 204
    note("d3", tool="get_incident")
    more = client.get(address, headers=asking).content.decode()
    assert more.startswith("<tbody data-live")
    assert len(re.findall(r'href="/audit/\d+/', more)) == 2
    assert unescape(more.split('hx-get="')[1].split('"')[0]) != address
    client.force_login(cast.vic)
    assert client.get("/audit/?live=1&newest=0", headers=asking).status_code == 204
    assert client.get("/audit/?q=team:nope&live=1", headers=asking).status_code == 286
    assert "every 3s" not in client.get("/audit/?q=team:nope&live=1").content.decode()
